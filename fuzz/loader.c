/*
 * loader.c - fuzzes the kernel loaders: valid kernels of every format with random damage. Whatever the file holds, loading must
 * either succeed with an entry point in RAM, or fail with one line, in bounded time and memory; sanitizers watch the rest.
 *
 *   fuzz/loader [--steps N] [--seconds S] [--seed S]
 *
 * Ends after N cases or S seconds (default 20), whichever comes first. A case that broke a rule is written to
 * loader-failure.bin and ends the run with status 1.
 */
#include <elf.h>
#include <fcntl.h>
#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/clock.h"
#include "boot/boot.h"

#define ELF_BYTES 40000u
#define IMAGE_MAX (1u << 18)
#define RAM MIB(8)
#define CASE_NS_MAX 20000000000ull
#define RSS_KIB_MAX (1536u << 10)	/* sanitizers take their share */

struct sample { uint8_t data[IMAGE_MAX]; size_t len; const char *name; };
static struct sample samples[10];
static size_t sample_count;
static uint64_t random_state;

static uint64_t rnd(void)
{
	return random_step(&random_state) * 0x2545f4914f6cdd1dull >> 16;
}
static size_t pick(size_t n) { return n ? rnd() % n : 0; }

static void make_elf(uint8_t *elf)
{
	Elf64_Ehdr eh = { .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_entry = MIB(2), .e_phoff = sizeof(eh), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 3 };
	const Elf64_Phdr ph[3] = {
		{ .p_type = PT_LOAD, .p_offset = 0x1000, .p_vaddr = MIB(2), .p_paddr = MIB(2), .p_filesz = 0x3000, .p_memsz = 0x5000 },
		{ .p_type = PT_NOTE, .p_offset = 0x2000, .p_filesz = 16, .p_memsz = 16 },
		{ .p_type = PT_LOAD, .p_offset = 0x5000, .p_vaddr = MIB(3), .p_paddr = MIB(3), .p_filesz = ELF_BYTES - 0x5000, .p_memsz = ELF_BYTES },
	};

	memcpy(eh.e_ident, ELFMAG, SELFMAG);
	eh.e_ident[EI_CLASS] = ELFCLASS64;
	eh.e_ident[EI_DATA] = ELFDATA2LSB;
	for (size_t i = 0; i < ELF_BYTES; i++)
		elf[i] = (uint8_t)(i / 7 * 13);
	memcpy(elf, &eh, sizeof(eh));
	memcpy(elf + sizeof(eh), ph, sizeof(ph));
}

static void add_bzimage(const char *name, const uint8_t *payload, size_t len)
{
	struct sample *s = &samples[sample_count++];

	s->name = name;
	s->data[0x1f1] = 1;
	store_u16(s->data + 0x1fe, 0xaa55);
	store_u16(s->data + 0x200, 0x6aeb);
	memcpy(s->data + 0x202, "HdrS", 4);
	store_u16(s->data + 0x206, 0x20f);
	store_u16(s->data + 0x236, 1);
	store_u32(s->data + 0x24c, (uint32_t)len + 4);
	memcpy(s->data + 1024, payload, len);
	store_u32(s->data + 1024 + len, ELF_BYTES);
	s->len = 1024 + len + 4;
}

/* A multiboot header, with addresses or without. */
#define MULTIBOOT_AT 0x1800
static void add_header(uint8_t *image, uint32_t flags)
{
	const uint32_t words[8] = { 0x1badb002, flags, 0u - 0x1badb002u - flags, MIB(2) + MULTIBOOT_AT, MIB(2), MIB(2) + 0x4000, MIB(2) + 0x9000, MIB(2) + 0x40 };

	memcpy(image + MULTIBOOT_AT, words, sizeof(words));
}

/* Damage makes most headers no headers: three of four get their checksum back. */
static void mend_header(uint8_t *image, size_t len)
{
	uint8_t *h = image + MULTIBOOT_AT;

	if (len >= MULTIBOOT_AT + 12 && load_u32(h) == 0x1badb002 && pick(4))
		store_u32(h + 8, 0u - load_u32(h) - load_u32(h + 4));
}

static void add_multiboot(const char *name, const uint8_t *elf, bool narrow, uint32_t flags)
{
	struct sample *s = &samples[sample_count++];
	Elf32_Ehdr eh = { .e_type = ET_EXEC, .e_machine = EM_386, .e_entry = MIB(2), .e_phoff = sizeof(eh), .e_phentsize = sizeof(Elf32_Phdr), .e_phnum = 1 };
	const Elf32_Phdr ph = { .p_type = PT_LOAD, .p_offset = 0x1000, .p_vaddr = MIB(2), .p_paddr = MIB(2), .p_filesz = 0x3000, .p_memsz = 0x5000 };

	s->name = name;
	memcpy(s->data, elf, s->len = ELF_BYTES);
	add_header(s->data, flags);
	if (!narrow)
		return;
	memcpy(eh.e_ident, ELFMAG, SELFMAG);
	eh.e_ident[EI_CLASS] = ELFCLASS32;
	eh.e_ident[EI_DATA] = ELFDATA2LSB;
	memcpy(s->data, &eh, sizeof(eh));
	memcpy(s->data + sizeof(eh), &ph, sizeof(ph));
}

/* Entered at its 32-bit entry point: neither a 64-bit one nor a payload. */
static void add_bzimage32(const uint8_t *code)
{
	struct sample *s;

	add_bzimage("bzimage entered in 32-bit mode", code, ELF_BYTES);
	s = &samples[sample_count - 1];
	s->data[0x211] = 1;
	store_u32(s->data + 0x214, MIB(1));
	store_u16(s->data + 0x236, 0);
	store_u32(s->data + 0x24c, 0);
	store_u32(s->data + 0x260, MIB(1));
}

static void make_samples(void)
{
	static uint8_t elf[ELF_BYTES], out[IMAGE_MAX - 2048];
	z_stream z = { .next_in = elf, .avail_in = ELF_BYTES, .next_out = out, .avail_out = sizeof(out) };
	lzma_options_lzma lzma;
	const lzma_filter filters[] = { { LZMA_FILTER_X86, 0 }, { LZMA_FILTER_LZMA2, &lzma }, { LZMA_VLI_UNKNOWN, 0 } };
	size_t n = 0;

	make_elf(elf);
	struct sample *plain = &samples[sample_count++];
	plain->name = "elf";
	memcpy(plain->data, elf, plain->len = ELF_BYTES);
	add_bzimage("bzimage plain", elf, ELF_BYTES);
	add_bzimage32(elf);
	add_multiboot("multiboot ELF64", elf, false, 3);
	add_multiboot("multiboot ELF32", elf, true, 1);
	add_multiboot("multiboot with addresses", elf, true, 1u << 16);

	store_u32(out, 0x184c2102);
	const int lz4 = LZ4_compress_default((char *)elf, (char *)out + 8, ELF_BYTES, sizeof(out) - 8);
	store_u32(out + 4, (uint32_t)lz4);
	add_bzimage("bzimage LZ4", out, 8 + (size_t)lz4);

	deflateInit2(&z, 6, Z_DEFLATED, 16 + 15, 8, Z_DEFAULT_STRATEGY);
	deflate(&z, Z_FINISH);
	add_bzimage("bzimage gzip", out, z.total_out);
	deflateEnd(&z);

	lzma_lzma_preset(&lzma, 1);
	ASSERT(lzma_stream_buffer_encode((lzma_filter *)filters, LZMA_CHECK_CRC32, 0, elf, ELF_BYTES, out, &n, sizeof(out)) == LZMA_OK);
	add_bzimage("bzimage xz", out, n);
	add_bzimage("bzimage zstd", out, ZSTD_compress(out, sizeof(out), elf, ELF_BYTES, 3));
}

/* Where damage hurts: the headers of each format, else anywhere. */
static size_t place(size_t len)
{
	static const struct { size_t at, len; } hot[] = {
		{ 0, 64 }, { 64, 168 }, { 0x1f1, 0x7f }, { 0x248, 8 }, { 1024, 64 }, { 1024 + 64, 168 }, { 0x206, 2 }, { 0x236, 2 },
		{ MULTIBOOT_AT, 32 }, { 0x214, 4 }, { 0x260, 4 },
	};
	const size_t i = pick(ARRAY_LEN(hot) * 2);

	if (i < ARRAY_LEN(hot) && hot[i].at + hot[i].len < len)
		return hot[i].at + pick(hot[i].len);
	return pick(len);
}

static size_t damage(uint8_t *data, size_t len)
{
	static const uint64_t values[] = { 0, 1, 4095, 4096, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, ~0ull };

	for (size_t hits = pick(6); hits-- && len > 16;) {
		const size_t at = place(len - 8);
		switch (pick(6)) {
		case 0: data[at] ^= (uint8_t)(1u << pick(8)); break;
		case 1: data[at] = (uint8_t)rnd(); break;
		case 2: store_u64(data + at, values[pick(ARRAY_LEN(values))]); break;
		case 3: store_u32(data + at, (uint32_t)values[pick(ARRAY_LEN(values))]); break;
		case 4: store_u64(data + at, load_u64(data + at) + pick(9) - 4); break;
		case 5: memmove(data + at, data + pick(len - 8), 8); break;
		}
	}
	if (!pick(8))
		len = pick(len);
	return len;
}

static int save_failure(const struct sample *s, const uint8_t *data, size_t len, const char *what)
{
	FILE *f = fopen("loader-failure.bin", "w");

	if (f) {
		fwrite(data, 1, len, f);
		fclose(f);
	}
	printf("%s: %s (case in loader-failure.bin)\n", s->name, what);
	return 1;
}

static int run_case(int fd, const char *path, uint64_t *loaded)
{
	static uint8_t data[IMAGE_MAX];
	const struct sample *s = &samples[pick(sample_count)];
	const struct boot_config config = { .kernel = path, .initrd = { path, path }, .initrds = (unsigned)pick(3), .cmdline = "x", .acpi = { .cpus = 1 } };
	struct memory memory;
	struct boot_context ctx = { .memory = &memory, .config = &config };
	struct boot_entry entry;

	memcpy(data, s->data, s->len);
	const size_t len = damage(data, s->len);

	mend_header(data, len);
	if (ftruncate(fd, 0) || pwrite(fd, data, len, 0) != (ssize_t)len || memory_init(&memory, RAM, PLACEMENT_LINEAR, 1))
		return save_failure(s, data, len, "cannot set up the case");
	const uint64_t from = clock_ns();
	const bool ok = boot_load(&ctx, &entry);
	const char *wrong = 0;
	if (ok && !memory_is_ram(&memory, gpa(entry.rip)))
		wrong = "loaded with an entry point outside RAM";
	else if (!ok && (!ctx.error[0] || strchr(ctx.error, '\n')))
		wrong = "failed without one clear line";
	else if (clock_ns() - from > CASE_NS_MAX)
		wrong = "took too long";
	*loaded += ok;
	memory_destroy(&memory);
	return wrong ? save_failure(s, data, len, wrong) : 0;
}

int main(int argc, char **argv)
{
	uint64_t steps = ~0ull, seconds = 20, seed = 1, done = 0, loaded = 0;
	struct rusage usage;
	char path[40];

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--steps"))
			steps = strtoull(argv[i + 1], 0, 0);
		else if (!strcmp(argv[i], "--seconds"))
			seconds = strtoull(argv[i + 1], 0, 0);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], 0, 0);
	}
	random_state = seed * 2654435761u + 88172645463325252u;
	make_samples();
	const int fd = memfd_create("kernel", MFD_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	const uint64_t end = clock_ns() + seconds * 1000000000u;
	for (; done < steps && clock_ns() < end; done++) {
		if (run_case(fd, path, &loaded)) {
			printf("seed %llu, case %llu\n", (unsigned long long)seed, (unsigned long long)done);
			return 1;
		}
	}
	getrusage(RUSAGE_SELF, &usage);
	printf("%llu cases, %llu loaded, at most %ld MiB resident\n", (unsigned long long)done, (unsigned long long)loaded, usage.ru_maxrss >> 10);
	if (usage.ru_maxrss > RSS_KIB_MAX) {
		puts("too much memory");
		return 1;
	}
	/* A run in which nothing loads, or nothing fails, tests nothing. */
	return done > 100 && (!loaded || loaded == done);
}
