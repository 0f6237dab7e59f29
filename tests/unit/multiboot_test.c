/*
 * multiboot_test.c - kernels that are entered in 32-bit protected mode: what the loaders put into memory and the registers (Multiboot Specification, "Boot
 * information format"; Linux, boot.rst, "32-bit Boot Protocol"), and what they refuse.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "boot/boot.h"

enum { SIZE = 0x3000, PADDR = 0x100000, HEADER = 0x1000 };
static uint8_t image[SIZE];
static char kernel[] = "/tmp/multiboot_test_kernel.XXXXXX", first[] = "/tmp/multiboot_test_1.XXXXXX", second[] = "/tmp/multiboot_test_2.XXXXXX";
static struct memory memory;
static struct boot_config config;
static struct boot_context context;
static struct boot_entry entry;

static void put(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static void header(uint8_t *at, uint32_t flags)
{
	store_u32(at, 0x1badb002);
	store_u32(at + 4, flags);
	store_u32(at + 8, 0u - 0x1badb002u - flags);
}

/* An ELF32 image whose one segment holds the header. */
static void make_elf32(uint32_t flags)
{
	Elf32_Ehdr *eh = (Elf32_Ehdr *)image;
	Elf32_Phdr *ph = (Elf32_Phdr *)(image + sizeof(*eh));

	for (unsigned i = 0; i < SIZE; i++)
		image[i] = (uint8_t)(i * 5 + (i >> 8));
	memset(image, 0, 0x200);
	memcpy(eh->e_ident, ELFMAG, SELFMAG);
	eh->e_ident[EI_CLASS] = ELFCLASS32;
	eh->e_ident[EI_DATA] = ELFDATA2LSB;
	eh->e_type = ET_EXEC;
	eh->e_machine = EM_386;
	eh->e_entry = PADDR + 0x20;
	eh->e_phoff = sizeof(*eh);
	eh->e_phentsize = sizeof(*ph);
	eh->e_phnum = 1;
	*ph = (Elf32_Phdr){ .p_type = PT_LOAD, .p_offset = HEADER, .p_vaddr = PADDR, .p_paddr = PADDR, .p_filesz = SIZE - HEADER, .p_memsz = 0x5000 };
	header(image + HEADER + 8, flags);
}

static int setup(void **state)
{
	(void)state;
	assert_int_equal(memory_init(&memory, MIB(32), PLACEMENT_SCATTER, 1), 0);
	config = (struct boot_config){ .kernel = kernel, .cmdline = "console=ttyS0 for Linux", .args = "for everybody", .acpi = { .cpus = 1 } };
	context = (struct boot_context){ .memory = &memory, .config = &config };
	make_elf32(3);
	return 0;
}

static int teardown(void **state) { (void)state; memory_destroy(&memory); return 0; }

static bool load(void) { put(kernel, image, SIZE); return boot_load(&context, &entry); }
static void refused(const char *part) { assert_false(load()); assert_non_null(strstr(context.error, part)); }
static uint32_t peek(uint64_t at) { uint8_t b[4]; assert_int_equal(memory_read(&memory, gpa(at), b, 4), 0); return load_u32(b); }
static void peek_text(uint64_t at, const char *text)
{
	char is[200];

	assert_int_equal(memory_read(&memory, gpa(at), is, sizeof(is)), 0);
	assert_string_equal(is, text);
}

static void an_elf32_kernel_is_loaded_and_entered_in_32_bit_mode(void **state)
{
	uint8_t is[SIZE];

	(void)state;
	assert_true(load());
	assert_true(entry.mode32);
	assert_int_equal(entry.rip, PADDR + 0x20);
	assert_int_equal(entry.rax, 0x2badb002);
	assert_int_equal(memory_read(&memory, gpa(PADDR), is, SIZE - HEADER), 0);
	assert_memory_equal(is, image + HEADER, SIZE - HEADER);
	assert_int_equal(entry.kernel_high, PADDR + 0x5000);
}

static void it_learns_of_memory_command_line_and_modules(void **state)
{
	char with_arguments[100];
	uint8_t data[5000];
	uint64_t end = 0;
	uint32_t info, mods, map;

	(void)state;
	memset(data, 0x77, sizeof(data));
	put(first, data, sizeof(data));
	put(second, "second", 6);
	snprintf(with_arguments, sizeof(with_arguments), "%s root=/dev/x", second);
	config.initrd[0] = first;
	config.initrd[1] = with_arguments;
	config.initrds = 2;
	assert_true(load());
	info = (uint32_t)entry.rbx;
	assert_int_equal(peek(info) & 0x4d, 0x4d);	/* memory, command line, modules, map */
	assert_int_equal(peek(info + 8), 31 * 1024);
	snprintf(with_arguments, sizeof(with_arguments), "%s for everybody", strrchr(kernel, '/') + 1);
	peek_text(peek(info + 16), with_arguments);
	assert_int_equal(peek(0x413) & 0xffff, 636);	/* the BIOS data area says the same as mem_lower */
	assert_int_equal(peek(info + 4), 636);
	assert_int_equal(peek(info + 20), 2);
	mods = peek(info + 24);
	assert_int_equal(peek(mods) & 0xfff, 0);
	assert_int_equal(peek(mods + 4) - peek(mods), sizeof(data));
	assert_int_equal(peek(peek(mods)), 0x77777777);
	peek_text(peek(mods + 8), strrchr(first, '/') + 1);
	assert_int_equal(peek(mods + 16) & 0xfff, 0);
	assert_true(peek(mods + 16) >= peek(mods + 4));
	assert_int_equal(peek(mods + 20) - peek(mods + 16), 6);
	assert_int_equal(peek(peek(mods + 16)), 0x6f636573);
	snprintf(with_arguments, sizeof(with_arguments), "%s root=/dev/x", strrchr(second, '/') + 1);
	peek_text(peek(mods + 24), with_arguments);
	map = peek(info + 48);
	for (uint32_t at = map; at < map + peek(info + 44); at += 24) {
		assert_int_equal(peek(at), 20);
		assert_int_equal(peek(at + 4), end);
		end = peek(at + 4) + peek(at + 12);
	}
	assert_int_equal(end, MIB(32));
}

static void addresses_in_the_header_count_more_than_the_elf_headers(void **state)
{
	(void)state;
	header(image + HEADER + 8, 1u << 16);
	store_u32(image + HEADER + 20, 0x200008);	/* header_addr: the image from HEADER on goes to 0x200000 */
	store_u32(image + HEADER + 24, 0x200000);
	store_u32(image + HEADER + 28, 0x200100);
	store_u32(image + HEADER + 32, 0x200800);
	store_u32(image + HEADER + 36, 0x200040);
	assert_true(load());
	assert_int_equal(entry.rip, 0x200040);
	assert_int_equal(peek(0x200050), load_u32(image + HEADER + 0x50));
	assert_int_equal(peek(0x200100), 0);
	store_u32(image + HEADER + 28, 0);		/* to the end of the file */
	assert_true(load());
	assert_int_equal(peek(0x200100), load_u32(image + HEADER + 0x100));
}

static void a_packed_kernel_is_unpacked(void **state)
{
	gzFile f = gzopen(kernel, "w");

	(void)state;
	assert_int_equal(gzwrite(f, image, SIZE), SIZE);
	assert_int_equal(gzclose(f), Z_OK);
	assert_true(boot_load(&context, &entry));
	assert_int_equal(peek(PADDR + 0x50), load_u32(image + HEADER + 0x50));
}

static void several_initrds_of_linux_lie_one_behind_the_other(void **state)
{
	static uint8_t bz[SIZE];
	uint64_t at;

	(void)state;
	memset(bz, 0x90, sizeof(bz));
	memset(bz, 0, 0x270);
	bz[0x1f1] = 1;
	store_u16(bz + 0x1fe, 0xaa55);
	bz[0x201] = 0x66;
	memcpy(bz + 0x202, "HdrS", 4);
	store_u16(bz + 0x206, 0x20c);
	bz[0x211] = 1;
	store_u32(bz + 0x214, MIB(1));
	store_u32(bz + 0x260, 0x100000);
	put(kernel, bz, sizeof(bz));
	put(first, "abcde", 5);
	put(second, "second", 6);
	config.initrd[0] = first;
	config.initrd[1] = second;
	config.initrds = 2;
	assert_true(boot_load(&context, &entry));
	assert_true(entry.mode32);
	assert_int_equal(entry.rip, MIB(1));
	assert_int_equal(peek(MIB(1)), 0x90909090);
	assert_int_equal(entry.kernel_high, MIB(2));
	at = peek(entry.rsi + 0x218);
	assert_int_equal(peek(entry.rsi + 0x21c), 8 + 6);
	assert_int_equal(peek(at + 4), 'e');
	assert_int_equal(peek(at + 8), 0x6f636573);
	bz[0x211] = 0;
	put(kernel, bz, sizeof(bz));
	assert_false(boot_load(&context, &entry));
	assert_non_null(strstr(context.error, "neither a 64-bit nor a 32-bit entry"));
}

static void what_makes_no_sense_is_refused(void **state)
{
	static char line[30000];

	(void)state;
	header(image + HEADER + 8, 1u << 7);
	refused("requires features");
	store_u32(image + HEADER + 8, 0);
	refused("nor is it a multiboot kernel");
	header(image + HEADER + 8, 1u << 16);
	store_u32(image + HEADER + 20, 0x1000);
	store_u32(image + HEADER + 24, 0x200000);
	refused("addresses in its header");
	store_u32(image + HEADER + 20, 0xf0000008);
	store_u32(image + HEADER + 24, 0xf0000000);
	store_u32(image + HEADER + 28, 0xf0001000);
	refused("does not fit into memory");
	store_u32(image + HEADER + 20, 0x8);		/* over our own tables */
	store_u32(image + HEADER + 24, 0);
	store_u32(image + HEADER + 28, 0x1000);
	refused("below 1 MiB");
	make_elf32(0);
	memset(line, 'x', sizeof(line) - 1);
	config.args = line;
	refused("too long");
}

static int make_files(void **state)
{
	char *names[] = { kernel, first, second };

	(void)state;
	for (int i = 0; i < 3; i++) {
		int fd = mkstemp(names[i]);

		if (fd < 0)
			return 1;
		close(fd);
	}
	return 0;
}
static int remove_files(void **state) { (void)state; return unlink(kernel) || unlink(first) || unlink(second); }

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(an_elf32_kernel_is_loaded_and_entered_in_32_bit_mode),
		T(it_learns_of_memory_command_line_and_modules),
		T(addresses_in_the_header_count_more_than_the_elf_headers),
		T(a_packed_kernel_is_unpacked),
		T(several_initrds_of_linux_lie_one_behind_the_other),
		T(what_makes_no_sense_is_refused),
	};
	return cmocka_run_group_tests(tests, make_files, remove_files);
}
