/*
 * profile_test.c - tables that count by address keep what is hot and lose nothing of the sum; symbol files of any content are read or refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bt/profile.h"
#include "vm/symbols.h"

static char path[] = "/tmp/profile_test.XXXXXX";
static char error[300];

static void write_file(const void *data, size_t size)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, size, f), size);
	fclose(f);
}

static uint64_t table_sum(const struct profile_table *t, unsigned column)
{
	uint64_t sum = t->other[column];

	for (uint32_t i = 0; i < t->rows; i++)
		sum += t->row[i].count[column];
	return sum;
}

static void a_full_table_keeps_the_hot_rows_and_the_sum(void **state)
{
	struct profile_table t;
	uint64_t hot = 0;

	(void)state;
	assert_int_equal(profile_table_init(&t, 64), 0);
	for (uint64_t i = 0; i < 100000; i++) {
		profile_add(&t, 0x1000 + i * 16, 0, 1);
		profile_add(&t, 0xabc, 7, 2);
	}
	assert_int_equal(table_sum(&t, 1), 100000);
	assert_int_equal(table_sum(&t, 2), 100000);
	for (uint32_t i = 0; i < t.rows; i++)
		if (t.row[i].va == 0xabc && t.row[i].space == 7)
			hot = t.row[i].count[2];
	assert_int_equal(hot, 100000);
	profile_table_free(&t);
}

static void a_count_at_its_maximum_goes_on_in_the_row_of_others(void **state)
{
	struct profile_table t;

	(void)state;
	assert_int_equal(profile_table_init(&t, 8), 0);
	profile_add(&t, 5, 0, 0);
	for (uint32_t i = 0; i < t.rows; i++)
		if (t.row[i].va == 5)
			t.row[i].count[0] = 0xfffffffe;
	for (unsigned i = 0; i < 3; i++)
		profile_add(&t, 5, 0, 0);
	assert_int_equal(table_sum(&t, 0), 0x100000001ull);
	profile_table_free(&t);
}

static void a_system_map_names_addresses(void **state)
{
	static const char map[] = "ffffffff81000000 T first\nnonsense\nffffffff81000100 t second\x1b[31m\n\nffffffff81000100 T alias\n";
	struct symbols s = { 0 };
	uint64_t offset;

	(void)state;
	write_file(map, sizeof(map) - 1);
	assert_true(symbols_add_file(&s, path, error, sizeof(error)));
	symbols_sort(&s);
	assert_int_equal(s.count, 3);
	assert_string_equal(symbols_find(&s, 0xffffffff810000ff, &offset), "first");
	assert_int_equal(offset, 0xff);
	assert_string_equal(symbols_find(&s, 0xffffffff81000104, &offset), "second?[31m");
	assert_null(symbols_find(&s, 0xffffffff80ffffff, &offset));
	assert_null(symbols_find(&s, 0xffffffffffffffff, &offset));
	symbols_free(&s);
}

static void an_elf_file_names_its_functions_at_its_base(void **state)
{
	struct symbols s = { 0 };
	uint64_t offset;

	(void)state;
	symbols_add_own(&s);
	assert_string_equal(symbols_find(&s, (uint64_t)(uintptr_t)symbols_find + 4, &offset), "symbols_find");
	assert_int_equal(offset, 4);
	symbols_free(&s);
}

static void files_without_symbols_are_refused_with_one_line(void **state)
{
	struct symbols s = { 0 };
	char missing[64];

	(void)state;
	assert_false(symbols_add_file(&s, "/nowhere@1000", error, sizeof(error)));
	assert_non_null(strstr(error, "/nowhere:"));
	write_file("\177ELF", 4);
	assert_false(symbols_add_file(&s, path, error, sizeof(error)));
	write_file("just words\n", 11);
	assert_false(symbols_add_file(&s, path, error, sizeof(error)));
	assert_non_null(strstr(error, "no symbols"));
	assert_null(strchr(error, '\n'));
	snprintf(missing, sizeof(missing), "%s@zzz", path);
	assert_false(symbols_add_file(&s, missing, error, sizeof(error)));
	assert_false(symbols_add_file(&s, "/tmp", error, sizeof(error)));
	symbols_free(&s);
}

static void damaged_elf_files_do_no_harm(void **state)
{
	static uint8_t file[8192];
	Elf64_Ehdr *eh = (Elf64_Ehdr *)file;
	Elf64_Shdr *sh = (Elf64_Shdr *)(file + 1024);
	Elf64_Sym *sym = (Elf64_Sym *)(file + 2048);
	static const uint64_t odd[] = { 0, 1, 8191, 8192, 8193, ~0ull, 1ull << 63, 0xffffffff };
	uint64_t seed = 1;

	(void)state;
	for (unsigned round = 0; round < 2000; round++) {
		struct symbols s = { 0 };

		memset(file, 'x', sizeof(file));
		memset(eh, 0, sizeof(*eh));
		memcpy(eh->e_ident, ELFMAG "\2\1\1", 7);
		eh->e_shoff = 1024;
		eh->e_shentsize = sizeof(*sh);
		eh->e_shnum = 4;
		memset(sh, 0, 4 * sizeof(*sh));
		sh[1] = (Elf64_Shdr){ .sh_type = SHT_SYMTAB, .sh_offset = 2048, .sh_size = 10 * sizeof(*sym), .sh_link = 2 };
		sh[2] = (Elf64_Shdr){ .sh_type = SHT_STRTAB, .sh_offset = 4096, .sh_size = 100 };
		sh[3] = (Elf64_Shdr){ .sh_flags = SHF_EXECINSTR };
		for (unsigned i = 0; i < 10; i++)
			sym[i] = (Elf64_Sym){ .st_name = i, .st_info = STT_FUNC, .st_shndx = i < 9 ? 3 : 2, .st_value = 0x1000 + i * 16, .st_size = 16 };
		file[4096 + 99] = 0;
		if (round) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			const size_t at = seed >> 40 & 1 ? seed >> 33 & 56 : 1024 + (seed >> 33) % 190;
			store_u64(file + at, odd[seed >> 50 & 7]);
		}
		write_file(file, sizeof(file));
		const bool ok = symbols_add_file(&s, path, error, sizeof(error));
		assert_true(ok || round);
		if (!round)
			assert_int_equal(s.count, 9); /* the last is data */
		symbols_free(&s);
	}
}

static int make_path(void **state) { (void)state; return mkstemp(path) < 0; }
static int remove_path(void **state) { (void)state; return unlink(path); }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_table_keeps_the_hot_rows_and_the_sum),
		cmocka_unit_test(a_count_at_its_maximum_goes_on_in_the_row_of_others),
		cmocka_unit_test(a_system_map_names_addresses),
		cmocka_unit_test(an_elf_file_names_its_functions_at_its_base),
		cmocka_unit_test(files_without_symbols_are_refused_with_one_line),
		cmocka_unit_test(damaged_elf_files_do_no_harm),
	};

	return cmocka_run_group_tests(tests, make_path, remove_path);
}
