/*
 * scattered.c - `scattered SECONDS`: follows a ring of pointers through pages that were touched in no order, in memory that it gives back and gets again, while the
 * monitor moves the pages about; each round must take exactly as many steps as the ring has, and what else is in the pages must stay there.
 */
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>
#include "check.h"

#define PAGE 4096
#define PAGES 128
#define SLOTS (PAGES * PAGE / 64)
#define ROUNDS 4

struct slot { uint64_t next, value[7]; };

static uint64_t state = 12345;
static uint64_t next_random(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return state >> 33;
}

/* A ring of all slots, by Sattolo's algorithm; pages are touched in its order. */
static void fill(struct slot *slot, uint64_t round)
{
	static uint32_t order[SLOTS];

	for (uint32_t i = 0; i < SLOTS; i++)
		order[i] = i;
	for (uint32_t i = SLOTS - 1; i > 0; i--) {
		const uint32_t k = (uint32_t)(next_random() % i), kept = order[i];

		order[i] = order[k];
		order[k] = kept;
	}
	for (uint32_t i = 0; i < SLOTS; i++) {
		struct slot *s = &slot[order[i]];

		s->next = order[(i + 1) % SLOTS];
		for (unsigned v = 0; v < 7; v++)
			s->value[v] = (round << 32 | order[i]) * 0x9e3779b97f4a7c15u + v;
	}
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	const uint64_t ms = strtoull(argc > 1 ? argv[1] : "4", NULL, 0) * 1000 / ROUNDS;
	uint64_t turns = 0;

	for (uint64_t round = 0; round < ROUNDS; round++) {
		struct slot *slot = mmap((void *)0x7e0000000000, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		CHECK(slot != MAP_FAILED && !madvise(slot, PAGES * PAGE, MADV_NOHUGEPAGE));
		fill(slot, round);
		for (const uint64_t end = now_ms() + ms; now_ms() < end; turns++) {
			uint64_t at = 0;

			for (unsigned i = 0; i < SLOTS; i++) {
				CHECK(i == 0 || at != 0);
				at = slot[at].next;
			}
			CHECK(at == 0);
			slot[turns % SLOTS].value[0] += 1; /* some are written, too */
			slot[turns % SLOTS].value[0] -= 1;
		}
		for (uint64_t i = 0; i < SLOTS; i++)
			for (unsigned v = 0; v < 7; v++)
				CHECK(slot[i].value[v] == (round << 32 | i) * 0x9e3779b97f4a7c15u + v);
		CHECK(!munmap(slot, PAGES * PAGE));
	}
	printf("scattered: %s\n", turns > 0 ? "right" : "nothing was done");
	return 0;
}
