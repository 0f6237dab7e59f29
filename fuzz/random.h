/*
 * random.h - the random numbers of fuzzers whose cases are made from (seed, case) alone: SplitMix64, started anew by setting rng.
 */
#ifndef FUZZ_RANDOM_H
#define FUZZ_RANDOM_H

#include "base/base.h"

static uint64_t rng;
static inline uint64_t rnd(void)
{
	uint64_t z = rng += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}
static inline uint64_t below(uint64_t n) { return rnd() % n; }
static inline bool chance(unsigned percent) { return below(100) < percent; }

#endif
