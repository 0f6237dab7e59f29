/*
 * cpu_memory.c - pointer chasing through working sets of several sizes, string instructions, libc's copies and string functions.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "cpu.h"
#include "item.h"

/* One random cycle through all lines of 64 bytes, each holding the next one's number; every load waits for the one before. */
static struct line { uint64_t next, fill[7]; } *lines;
static size_t lines_size;

static void prepare(size_t bytes)
{
	size_t n = bytes / sizeof *lines;
	if (lines)
		munmap(lines, lines_size);
	lines = mmap(NULL, lines_size = bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (lines == MAP_FAILED)
		fail("mmap");
	for (size_t i = 0; i < n; i++)
		lines[i].next = i;
	for (size_t i = n - 1; i > 0; i--) {
		size_t k = next_random() % i;
		uint64_t other = lines[i].next;
		lines[i].next = lines[k].next;
		lines[k].next = other;
	}
}

static uint64_t chase(uint64_t steps)
{
	uint64_t at = 0;
	for (uint64_t i = 0; i < steps; i++)
		at = lines[at].next;
	return at;
}

void cpu_chase_prepare_16k(void) { prepare(16 << 10); }
void cpu_chase_prepare_256k(void) { prepare(256 << 10); }
void cpu_chase_prepare_4m(void) { prepare(4 << 20); }
void cpu_chase_prepare_64m(void) { prepare(64 << 20); }
uint64_t cpu_chase_16k(unsigned turns) { return chase(turns * 500000ull); }
uint64_t cpu_chase_256k(unsigned turns) { return chase(turns * 200000ull); }
uint64_t cpu_chase_4m(unsigned turns) { return chase(turns * 50000ull); }
uint64_t cpu_chase_64m(unsigned turns) { return chase(turns * 20000ull); }

enum { BUFFER = 1 << 20 };
static uint8_t from[BUFFER], to[BUFFER];

static void fill_random(void)
{
	for (int i = 0; i < BUFFER; i += 8) {
		uint64_t x = next_random();
		memcpy(from + i, &x, 8);
	}
}

static uint64_t sum_of(const uint8_t *p, size_t n)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < n; i++)
		sum = sum * 31 + p[i];
	return sum;
}

static void rep_movs(void *d, const void *s, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
}

/* Pieces of one size, at places that walk through 64 KiB and are not aligned. */
static uint64_t copy_pieces(unsigned long count, size_t size, void (*copy)(void *, const void *, size_t))
{
	fill_random();
	for (unsigned long i = 0; i < count; i++)
		copy(to + (i * 72) % 65536, from + (i * 200 + 3) % 65536, size);
	return sum_of(to, 65536);
}

static void copy_with_libc(void *d, const void *s, size_t n)
{
	memcpy(d, s, n);
	__asm__ volatile("" ::: "memory");
}

uint64_t cpu_rep_movs_64(unsigned turns) { return copy_pieces(turns * 50000ul, 64, rep_movs); }
uint64_t cpu_rep_movs_4k(unsigned turns) { return copy_pieces(turns * 20000ul, 4096, rep_movs); }
uint64_t cpu_memcpy_32(unsigned turns) { return copy_pieces(turns * 200000ul, 32, copy_with_libc); }
uint64_t cpu_memcpy_4k(unsigned turns) { return copy_pieces(turns * 10000ul, 4096, copy_with_libc); }

uint64_t cpu_memcpy_1m(unsigned turns)
{
	fill_random();
	for (unsigned t = 0; t < turns; t++) {
		copy_with_libc(to, from, BUFFER);
		from[t % BUFFER]++;
	}
	return sum_of(to, 65536);
}

uint64_t cpu_rep_stos_4k(unsigned turns)
{
	for (unsigned t = 0; t < turns * 20000; t++) {
		void *d = to + t * 72 % 65536;
		size_t n = 512;
		__asm__ volatile("rep stosq" : "+D"(d), "+c"(n) : "a"((uint64_t)t) : "memory");
	}
	return sum_of(to, 65536);
}

/* What text tools do all day: lengths, searches, comparisons. */
uint64_t cpu_strings(unsigned turns)
{
	uint64_t sum = 0;
	char *text = (char *)to;
	fill_random();
	for (int i = 0; i < 65536; i++)
		text[i] = (char)('a' + from[i] % 26);
	for (int i = 31; i < 65536; i += 32)
		text[i] = i % 1024 == 1023 ? '\n' : 0;
	text[65535] = 0;
	for (unsigned t = 0; t < turns; t++)
		for (int i = 0; i < 65536 - 32; i += 32) {
			sum += strlen(text + i + t % 8);
			sum += strchr(text + i, 'q') != NULL;
			sum += (uint64_t)(strcmp(text + i, text + i + 32) < 0);
			sum += (uint64_t)((char *)memchr(text + i, '\n', (size_t)(65536 - i) > 1024 ? 1024 : (size_t)(65536 - i)) != NULL);
			__asm__ volatile("" ::: "memory");
		}
	return sum;
}
