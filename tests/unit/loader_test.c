/*
 * loader_test.c - kernels of every format land in guest memory; bad ones are refused with one line.
 *
 * The kernels are made here: an ELF image of two segments, packed by the compression libraries, behind a bzImage header.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <elf.h>
#include <fcntl.h>
#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "boot/boot.h"

#define ELF_SIZE (MIB(9) + 12345)	/* more than one LZ4 block */
#define FIRST_OFFSET 0x1000u
#define FIRST_SIZE 0x5000u
#define FIRST_PADDR 0x1000000u
#define SECOND_OFFSET 0x8000u
#define SECOND_PADDR 0x1200000u
#define SECOND_BSS 0x10000u
#define VIRTUAL 0xffffffff80000000ull

static uint8_t elf[ELF_SIZE + 4096], packed[ELF_SIZE + MIB(1)], image[sizeof(packed) + 4096], back[ELF_SIZE];
static char kernel_path[] = "/tmp/loader_test_kernel.XXXXXX", initrd_path[] = "/tmp/loader_test_initrd.XXXXXX";
static struct memory memory;
static struct boot_config config;
static struct boot_context context;
static struct boot_entry entry;

static void make_elf(void)
{
	Elf64_Ehdr *eh = (Elf64_Ehdr *)elf;
	Elf64_Phdr *ph = (Elf64_Phdr *)(elf + sizeof(*eh));
	uint64_t seed = 1;

	for (size_t i = 0; i < ELF_SIZE; i++) { /* compressible, and different everywhere */
		if (i % 16 == 0)
			seed = seed * 6364136223846793005u + 1;
		elf[i] = (uint8_t)(seed >> 56);
	}
	memset(elf, 0, FIRST_OFFSET);
	memcpy(eh->e_ident, ELFMAG, SELFMAG);
	eh->e_ident[EI_CLASS] = ELFCLASS64;
	eh->e_ident[EI_DATA] = ELFDATA2LSB;
	eh->e_type = ET_EXEC;
	eh->e_machine = EM_X86_64;
	eh->e_entry = FIRST_PADDR + 0x40;
	eh->e_phoff = sizeof(*eh);
	eh->e_phentsize = sizeof(*ph);
	eh->e_phnum = 3;
	ph[0] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_offset = FIRST_OFFSET, .p_vaddr = VIRTUAL + FIRST_PADDR, .p_paddr = FIRST_PADDR,
			      .p_filesz = FIRST_SIZE, .p_memsz = FIRST_SIZE };
	ph[1] = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = ~0ull, .p_filesz = ~0ull };
	ph[2] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_offset = SECOND_OFFSET, .p_vaddr = VIRTUAL + SECOND_PADDR, .p_paddr = SECOND_PADDR,
			      .p_filesz = ELF_SIZE - SECOND_OFFSET, .p_memsz = ELF_SIZE - SECOND_OFFSET + SECOND_BSS };
}

static Elf64_Ehdr *ehdr(void) { return (Elf64_Ehdr *)elf; }
static Elf64_Phdr *phdr(int i) { return (Elf64_Phdr *)(elf + sizeof(Elf64_Ehdr)) + i; }

static void write_file(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static size_t append_size(size_t n) { store_u32(packed + n, ELF_SIZE); return n + 4; }

static size_t pack_lz4(void)
{
	size_t n = 4;
	store_u32(packed, 0x184c2102);
	for (size_t at = 0; at < ELF_SIZE; at += MIB(8)) {
		const size_t part = ELF_SIZE - at < MIB(8) ? ELF_SIZE - at : MIB(8);
		const int len = LZ4_compress_default((char *)elf + at, (char *)packed + n + 4, (int)part, (int)(sizeof(packed) - n - 8));
		assert_true(len > 0);
		store_u32(packed + n, (uint32_t)len);
		n += 4 + (size_t)len;
	}
	return append_size(n);
}

static size_t pack_gzip(void)
{
	z_stream z = { .next_in = elf, .avail_in = ELF_SIZE, .next_out = packed, .avail_out = sizeof(packed) };
	assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 16 + 15, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return z.total_out;
}

static size_t pack_xz(void)
{
	lzma_options_lzma lzma;
	size_t n = 0;
	assert_false(lzma_lzma_preset(&lzma, 0));
	const lzma_filter filters[] = { { LZMA_FILTER_X86, 0 }, { LZMA_FILTER_LZMA2, &lzma }, { LZMA_VLI_UNKNOWN, 0 } };
	assert_int_equal(lzma_stream_buffer_encode((lzma_filter *)filters, LZMA_CHECK_CRC32, 0, elf, ELF_SIZE, packed, &n, sizeof(packed)), LZMA_OK);
	return append_size(n);
}

static size_t pack_zstd(void)
{
	return append_size(ZSTD_compress(packed, sizeof(packed) - 4, elf, ELF_SIZE, 1));
}

static size_t pack_plain(void)
{
	memcpy(packed, elf, ELF_SIZE);
	return append_size(ELF_SIZE);
}

/* A bzImage with `payload` bytes of `packed`; returns its size. */
static size_t make_bzimage(size_t payload)
{
	memset(image, 0, 2048);
	image[0x1f1] = 1; /* setup sectors */
	store_u16(image + 0x1fe, 0xaa55);
	store_u16(image + 0x200, 0x6aeb); /* jmp +6a */
	memcpy(image + 0x202, "HdrS", 4);
	store_u16(image + 0x206, 0x20f);
	store_u16(image + 0x236, 1);
	store_u32(image + 0x248, 0x100);
	store_u32(image + 0x24c, (uint32_t)payload);
	memcpy(image + 1024 + 0x100, packed, payload);
	return 1024 + 0x100 + payload;
}

static bool load(void)
{
	context = (struct boot_context){ .memory = &memory, .config = &config };
	return boot_load(&context, &entry);
}

static bool load_image(size_t len)
{
	write_file(kernel_path, image, len);
	return load();
}

static bool load_elf(void)
{
	write_file(kernel_path, elf, ELF_SIZE);
	return load();
}

static void assert_refused(const char *words)
{
	assert_false(load());
	if (!strstr(context.error, words))
		fail_msg("'%s' does not say '%s'", context.error, words);
	assert_null(strchr(context.error, '\n'));
}

static void assert_kernel_in_place(void)
{
	assert_int_equal(memory_read(&memory, gpa(FIRST_PADDR), back, FIRST_SIZE), 0);
	assert_memory_equal(back, elf + FIRST_OFFSET, FIRST_SIZE);
	assert_int_equal(memory_read(&memory, gpa(SECOND_PADDR), back, ELF_SIZE - SECOND_OFFSET), 0);
	assert_memory_equal(back, elf + SECOND_OFFSET, ELF_SIZE - SECOND_OFFSET);
	assert_int_equal(entry.rip, FIRST_PADDR + 0x40);
}

static int setup(void **state)
{
	(void)state;
	make_elf();
	config = (struct boot_config){ .kernel = kernel_path, .cmdline = "console=ttyS0 quiet",
				       .acpi = { .cpus = 1, .uart_port = 0x3f8, .uart_gsi = 4 } };
	return memory_init(&memory, MIB(64), PLACEMENT_SCATTER, 1);
}
static int teardown(void **state) { (void)state; memory_destroy(&memory); return 0; }

static void every_payload_format_is_unpacked_into_place(void **state)
{
	static size_t (*const pack[])(void) = { pack_lz4, pack_gzip, pack_xz, pack_zstd, pack_plain };
	for (size_t i = 0; i < ARRAY_LEN(pack); i++) {
		teardown(state);
		setup(state);
		if (!load_image(make_bzimage(pack[i]())))
			fail_msg("format %zu: %s", i, context.error);
		assert_kernel_in_place();
	}
}

static void an_elf_vmlinux_is_loaded_as_it_is(void **state)
{
	(void)state;
	if (!load_elf())
		fail_msg("%s", context.error);
	assert_kernel_in_place();
}

static void a_virtual_entry_point_is_translated(void **state)
{
	(void)state;
	ehdr()->e_entry = VIRTUAL + SECOND_PADDR + 8;
	assert_true(load_elf());
	assert_int_equal(entry.rip, SECOND_PADDR + 8);
}

static void bss_costs_no_frames(void **state)
{
	(void)state;
	assert_true(load_elf());
	const uint64_t before = memory.backed;
	phdr(2)->p_memsz += MIB(16);
	teardown(state);
	memory_init(&memory, MIB(64), PLACEMENT_SCATTER, 1);
	assert_true(load_elf());
	assert_int_equal(memory.backed, before);
}

static void preparing_memory_hands_nothing_out(void **state)
{
	static const uint8_t zeros[4096];
	teardown(state);
	assert_int_equal(memory_init(&memory, MIB(64), PLACEMENT_LINEAR, 1), 0);
	memory_prepare(&memory, gpa(MIB(16) + 100), MIB(9));
	memory_prepare(&memory, gpa(MIB(40) + 1), 7);
	assert_int_equal(memory.backed, 0);
	assert_int_equal(memory.pool.used, 0);
	assert_int_equal(memory_read(&memory, gpa(MIB(20)), back, 4096), 0);
	assert_memory_equal(back, zeros, 4096);
	assert_true(load_elf());
	assert_kernel_in_place();
}

/* e820 entry i of the boot_params in memory. */
static void e820(unsigned i, uint64_t *base, uint64_t *len, uint32_t *type)
{
	uint8_t e[20];
	assert_int_equal(memory_read(&memory, gpa(entry.rsi + 0x2d0 + 20 * i), e, 20), 0);
	*base = load_u64(e);
	*len = load_u64(e + 8);
	*type = load_u32(e + 16);
}

static void boot_params_describe_memory_command_line_and_initrd(void **state)
{
	uint8_t bp[4096], text[64];
	uint64_t base, len, end = 0;
	uint32_t type;

	(void)state;
	for (size_t i = 0; i < 100000; i++)
		back[i] = (uint8_t)(i * 7);
	write_file(initrd_path, back, 100000);
	config.initrd[0] = initrd_path, config.initrds = 1;
	assert_true(load_elf());
	assert_int_equal(memory_read(&memory, gpa(entry.rsi), bp, sizeof(bp)), 0);
	assert_memory_equal(bp + 0x202, "HdrS", 4);
	assert_int_equal(memory_read(&memory, gpa(load_u32(bp + 0x228)), text, 20), 0);
	assert_string_equal((char *)text, "console=ttyS0 quiet");

	const uint32_t at = load_u32(bp + 0x218);
	assert_int_equal(load_u32(bp + 0x21c), 100000);
	assert_int_equal(at, MIB(64) - ALIGN_UP(100000, 4096));
	assert_int_equal(memory_read(&memory, gpa(at), back + MIB(1), 100000), 0);
	assert_memory_equal(back + MIB(1), back, 100000);

	for (unsigned i = 0; i < bp[0x1e8]; i++) { /* ascending, without gaps or overlaps, ends with RAM's end */
		e820(i, &base, &len, &type);
		assert_int_equal(base, end);
		end = base + len;
		assert_in_range(type, 1, 3);
	}
	assert_int_equal(end, MIB(64));

	uint8_t seed[48];
	assert_int_equal(memory_read(&memory, gpa(load_u64(bp + 0x250)), seed, sizeof(seed)), 0);
	assert_int_equal(load_u32(seed + 8), 9);
	assert_int_equal(load_u32(seed + 12), 32);
	assert_int_not_equal(load_u64(seed + 16) | load_u64(seed + 24), 0);
	assert_int_equal(memory_read(&memory, gpa(load_u64(bp + 0x70)), text, 8), 0);
	assert_memory_equal(text, "RSD PTR ", 8);
}

static void memory_above_the_hole_is_in_the_map(void **state)
{
	uint8_t n;
	uint64_t base, len;
	uint32_t type;

	teardown(state);
	assert_int_equal(memory_init(&memory, GIB(4), PLACEMENT_LINEAR, 1), 0);
	assert_true(load_elf());
	assert_int_equal(memory_read(&memory, gpa(entry.rsi + 0x1e8), &n, 1), 0);
	e820(n - 1u, &base, &len, &type);
	assert_int_equal(base, GIB(4));
	assert_int_equal(len, GIB(1));
	e820(n - 2u, &base, &len, &type);
	assert_int_equal(base + len, GIB(3));
}

static void the_identity_map_covers_four_gigabytes(void **state)
{
	uint64_t e;
	(void)state;
	assert_true(load_elf());
	for (uint64_t p = 0; p < GIB(4); p += MIB(2)) {
		assert_int_equal(memory_read(&memory, gpa(entry.cr3), &e, 8), 0);
		assert_int_equal(memory_read(&memory, gpa((e & ~0xfffull) + (p >> 30) * 8), &e, 8), 0);
		assert_int_equal(memory_read(&memory, gpa((e & ~0xfffull) + (p >> 21) % 512 * 8), &e, 8), 0);
		assert_int_equal(e, p | 0x83);
	}
}

static void an_initrd_that_does_not_fit_above_goes_below_the_kernel_or_is_refused(void **state)
{
	uint32_t at;
	teardown(state);
	assert_int_equal(memory_init(&memory, MIB(28), PLACEMENT_LINEAR, 1), 0);
	memset(back, 1, MIB(6));
	write_file(initrd_path, back, MIB(6));
	config.initrd[0] = initrd_path, config.initrds = 1;
	assert_true(load_elf());
	assert_int_equal(memory_read(&memory, gpa(entry.rsi + 0x218), &at, 4), 0);
	assert_int_equal(at, FIRST_PADDR - MIB(6));
	assert_int_equal(truncate(initrd_path, (off_t)MIB(16)), 0);
	assert_refused("does not fit");
}

static void missing_empty_and_unreadable_files_are_refused(void **state)
{
	(void)state;
	config.kernel = "/nonexistent/kernel";
	assert_refused("cannot open /nonexistent/kernel: No such file");
	config.kernel = "/tmp";
	assert_refused("not a regular file");
	config.kernel = "/dev/zero";
	assert_refused("not a regular file");
	config.kernel = kernel_path;
	write_file(kernel_path, "", 0);
	assert_refused("empty");
	write_file(kernel_path, "#!/bin/sh\n", 10);
	assert_refused("not a kernel");
	write_file(kernel_path, elf, ELF_SIZE);
	config.initrd[0] = "/nonexistent/initrd", config.initrds = 1;
	assert_refused("cannot open /nonexistent/initrd");
	config.initrd[0] = initrd_path, config.initrds = 1;
	write_file(initrd_path, "", 0);
	assert_refused("empty");
}

static void truncation_anywhere_is_refused(void **state)
{
	static size_t (*const pack[])(void) = { pack_lz4, pack_gzip, pack_xz, pack_zstd, pack_plain };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(pack); i++) {
		const size_t payload = pack[i](), len = make_bzimage(payload);
		for (size_t cut = 1; cut < len; cut = cut * 3 + 100) {
			write_file(kernel_path, image, len - cut);
			assert_refused("");
		}
		/* The header agrees with the shortened file: the payload's own format must tell. */
		for (size_t cut = 1000; cut < payload; cut *= 4) {
			write_file(kernel_path, image, make_bzimage(payload - cut));
			assert_refused(payload - cut < 100 ? "" : "truncated");
		}
	}
	write_file(kernel_path, elf, ELF_SIZE - 1);
	assert_refused("truncated");
	write_file(kernel_path, elf, 50);
	assert_refused("truncated");
}

static void headers_that_make_no_sense_are_refused(void **state)
{
	(void)state;
#define BAD(change, words) do { make_elf(); change; write_file(kernel_path, elf, ELF_SIZE); assert_refused(words); } while (0)
	BAD(ehdr()->e_machine = EM_AARCH64, "not for x86-64");
	BAD(ehdr()->e_ident[EI_CLASS] = ELFCLASS32, "not for x86-64");
	BAD(ehdr()->e_type = ET_REL, "not an executable");
	BAD(ehdr()->e_phnum = 0, "program headers");
	BAD(ehdr()->e_phnum = 0xffff, "program headers");
	BAD(ehdr()->e_phoff = ~0ull - 100, "program headers");
	BAD(ehdr()->e_phentsize = 0, "program headers");
	BAD(ehdr()->e_entry = 0, "entry point");
	BAD(phdr(0)->p_paddr = 0x1000, "below 1 MiB");
	BAD(phdr(0)->p_paddr = ~0xfffull, "does not fit");
	BAD(phdr(0)->p_memsz = ~0ull, "does not fit");
	BAD(phdr(2)->p_memsz = MIB(100), "does not fit into memory");
	BAD(phdr(0)->p_filesz = FIRST_SIZE + 1, "sizes make no sense");
	BAD(phdr(0)->p_offset = ~0ull, "sizes make no sense");
	BAD(phdr(0)->p_paddr = SECOND_PADDR + 0x1000, "overlap");
	BAD(phdr(0)->p_type = phdr(2)->p_type = PT_NULL, "nothing to load");
}

static void unsupported_compressions_are_refused_by_name(void **state)
{
	static const struct { const char *magic, *name; } formats[] = { { "BZh9", "bzip2" }, { "\x5d\0\0\0", "LZMA" }, { "\x89LZO", "LZO" } };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		memset(packed, 0, 4096);
		memcpy(packed, formats[i].magic, 4);
		write_file(kernel_path, image, make_bzimage(4096));
		assert_refused(formats[i].name);
	}
	memset(packed, 0xee, 4096);
	write_file(kernel_path, image, make_bzimage(4096));
	assert_refused("unknown format");
}

static void a_bomb_is_stopped(void **state)
{
	z_stream z = { 0 };
	static uint8_t zeros[65536];

	(void)state;
	/* 4 GiB of zeros behind an ELF header that wants the last byte of them. */
	make_elf();
	phdr(2)->p_offset = GIB(4) - 4096;
	phdr(2)->p_filesz = 4096;
	assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 16 + 15, 9, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_out = packed;
	z.avail_out = sizeof(packed);
	z.next_in = elf;
	z.avail_in = 4096;
	deflate(&z, Z_NO_FLUSH);
	for (uint64_t n = 0; n < GIB(1) + MIB(1); n += sizeof(zeros)) {
		z.next_in = zeros;
		z.avail_in = sizeof(zeros);
		assert_int_equal(deflate(&z, Z_NO_FLUSH), Z_OK);
	}
	deflate(&z, Z_FINISH);
	deflateEnd(&z);
	write_file(kernel_path, image, make_bzimage(z.total_out));
	assert_refused("more than 1 GiB");
}

static void a_command_line_that_is_too_long_is_refused(void **state)
{
	static char line[3000];
	(void)state;
	memset(line, 'a', sizeof(line) - 1);
	config.cmdline = line;
	write_file(kernel_path, elf, ELF_SIZE);
	assert_refused("too long");
	line[2047] = 0;
	assert_true(load());
}

static int make_files(void **state)
{
	(void)state;
	const int a = mkstemp(kernel_path), b = mkstemp(initrd_path);
	close(a);
	close(b);
	return a < 0 || b < 0;
}
static int remove_files(void **state) { (void)state; return unlink(kernel_path) || unlink(initrd_path); }

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(every_payload_format_is_unpacked_into_place),
		T(an_elf_vmlinux_is_loaded_as_it_is),
		T(a_virtual_entry_point_is_translated),
		T(bss_costs_no_frames),
		T(preparing_memory_hands_nothing_out),
		T(boot_params_describe_memory_command_line_and_initrd),
		T(memory_above_the_hole_is_in_the_map),
		T(the_identity_map_covers_four_gigabytes),
		T(an_initrd_that_does_not_fit_above_goes_below_the_kernel_or_is_refused),
		T(missing_empty_and_unreadable_files_are_refused),
		T(truncation_anywhere_is_refused),
		T(headers_that_make_no_sense_are_refused),
		T(unsupported_compressions_are_refused_by_name),
		T(a_bomb_is_stopped),
		T(a_command_line_that_is_too_long_is_refused),
	};
	return cmocka_run_group_tests(tests, make_files, remove_files);
}
