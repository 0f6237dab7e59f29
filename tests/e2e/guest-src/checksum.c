/*
 * checksum.c - `checksum MIB SECONDS [KINDS]`: gives every page of that much memory (0: nearly all that is available) contents of its own, then for
 * so long checks all of it and changes some, page after page. A page that loses a bit, or gets another's contents, ends it with status 1.
 *
 * A page holds its number, how often it was changed, and words that follow from both. With KINDS its number counts modulo KINDS, so that pages that were changed equally often are
 * equal; and now and then part of a page is changed and changed back.
 */
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>
#include "check.h"

#define PAGE 4096
#define WORDS (PAGE / 8)

static uint64_t mix(uint64_t x)
{
	x ^= x >> 31;
	x *= 0x7fb5d329728ea185ull;
	x ^= x >> 27;
	x *= 0x81dadef4bc2dd44dull;
	return x ^ x >> 33;
}

static void page_fill(uint64_t *page, uint64_t number, uint64_t changes)
{
	uint64_t x = mix(number << 20 ^ changes);

	page[0] = number;
	page[1] = changes;
	for (unsigned i = 2; i < WORDS; i++)
		page[i] = x += 0x9e3779b97f4a7c15ull;
}

static void page_check(const uint64_t *page, uint64_t number, uint64_t changes)
{
	uint64_t x = mix(number << 20 ^ changes), bad = (page[0] ^ number) | (page[1] ^ changes);

	for (unsigned i = 2; i < WORDS; i++)
		bad |= page[i] ^ (x += 0x9e3779b97f4a7c15ull);
	if (!bad)
		return;
	fprintf(stderr, "checksum: page %lu changed %lu times: it says it is page %lu changed %lu times\n", number, changes, page[0], page[1]);
	exit(1);
}

static uint64_t available_kib(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	unsigned long kib = 0;
	char line[128];

	CHECK(f);
	while (fgets(line, sizeof(line), f) && sscanf(line, "MemAvailable: %lu", &kib) != 1)
		;
	fclose(f);
	return kib;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 0) : 0;
	double end = now() + (argc > 2 ? atof(argv[2]) : 1);
	uint64_t pages, sum = 0, rounds = 0, kinds = argc > 3 ? strtoull(argv[3], NULL, 0) : ~0ull;
	uint32_t *changes;
	uint64_t *memory;

	if (!mib)
		mib = available_kib() / 1024 * 15 / 16;
	pages = (mib << 20) / PAGE;
	memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	changes = calloc(pages, sizeof(*changes));
	CHECK(memory != MAP_FAILED && changes);
	for (uint64_t i = 0; i < pages; i++)
		page_fill(memory + i * WORDS, i % kinds, 0);
	do {
		for (uint64_t i = 0; i < pages; i++) {
			uint64_t *page = memory + i * WORDS, dice = mix(i ^ rounds << 32);

			page_check(page, i % kinds, changes[i]);
			if (dice % (kinds == ~0ull ? 4 : 32) == 0) {
				page_fill(page, i % kinds, ++changes[i]);
			} else if (kinds != ~0ull && dice % 32 == 1) {
				volatile uint64_t *word = &page[dice >> 32 & (WORDS - 1)];

				*word = ~*word;
				*word = ~*word;
			}
		}
		rounds++;
	} while (now() < end);
	for (uint64_t i = 0; i < pages; i++) {
		page_check(memory + i * WORDS, i % kinds, changes[i]);
		sum += mix(memory[i * WORDS + 1] + i);
	}
	printf("checksum: %lu MiB are right after %lu rounds, sum %016lx\n", mib, rounds, sum);
	return 0;
}
