/*
 * sandbox.c - the memory that a case sees: which pages there are, and what is in them at the start.
 */
#include <string.h>
#include "insn_fuzz.h"

const struct sandbox_mapping sandbox_mappings[] = {
	{ VA_DATA, PAGE_DATA0, true, false },
	{ VA_DATA + 0x1000, PAGE_DATA1, true, false },
	{ VA_DATA + 0x2000, PAGE_READONLY, false, false },
	{ VA_LONE, PAGE_LONE, true, false },
	{ VA_ALIAS_DATA, PAGE_DATA1, true, false },
	{ VA_ALIAS_CODE, PAGE_CODE0, true, false },
	{ VA_ALIAS_CODE + 0x1000, PAGE_CODE1, true, false },
	{ VA_CODE, PAGE_CODE0, true, true },
	{ VA_CODE + 0x1000, PAGE_CODE1, true, true },
};
const unsigned sandbox_mapping_count = ARRAY_LEN(sandbox_mappings);

static uint8_t pattern[PAGE_COUNT][PAGE_SIZE];

void rng_seed(struct rng *r, uint64_t seed, uint64_t number)
{
	uint64_t z = seed * 0x9e3779b97f4a7c15ull + (number + 1) * 0xd1342543de82ef95ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	r->s = (z ^ (z >> 31)) | 1;
	rng_next(r);
}

/*
 * Values that mean something to some instruction: small numbers, floats and doubles of every kind, and random bits.
 */
static uint64_t pattern_value(struct rng *r)
{
	static const uint64_t doubles[] = {
		0x3ff0000000000000, 0x4000000000000000, 0xbff8000000000000, 0, 0x8000000000000000, 0x7ff0000000000000,
		0xfff0000000000000, 0x7ff8000000000000, 0x7ff0000000000001, 1, 0x000fffffffffffff, 0x40f0000000000000,
	};
	static const uint32_t floats[] = {
		0x3f800000, 0x40490fdb, 0xbf000000, 0, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 1, 0x47000000,
	};
	uint64_t v = rng_next(r);

	switch (rng_below(r, 6)) {
	case 0: return doubles[rng_below(r, ARRAY_LEN(doubles))];
	case 1: return floats[rng_below(r, ARRAY_LEN(floats))] | (uint64_t)floats[rng_below(r, ARRAY_LEN(floats))] << 32;
	case 2: return v & 0xff;
	case 3: return VA_DATA + (v & 0x1fff);
	default: return v;
	}
}

const uint8_t (*sandbox_pattern(void))[PAGE_SIZE]
{
	static bool made;

	if (!made) {
		struct rng r;
		rng_seed(&r, 0x7472, 0);
		for (int p = 0; p < PAGE_CODE0; p++)
			for (size_t i = 0; i < PAGE_SIZE; i += 8)
				store_u64(&pattern[p][i], pattern_value(&r));
		memset(pattern[PAGE_CODE0], 0xcc, CODE_AREA);
		made = true;
	}
	return (const uint8_t (*)[PAGE_SIZE])pattern;
}

__attribute__((no_sanitize("address", "undefined"))) int sandbox_offset(uint64_t va)
{
	if (va >= VA_DATA && va < VA_DATA + 0x3000)
		return (int)(va - VA_DATA);
	if (va >= VA_LONE && va < VA_LONE + 0x1000)
		return (int)(va - VA_LONE + PAGE_LONE * PAGE_SIZE);
	if (va >= VA_ALIAS_DATA && va < VA_ALIAS_DATA + 0x1000)
		return (int)(va - VA_ALIAS_DATA + PAGE_DATA1 * PAGE_SIZE);
	if (va >= VA_ALIAS_CODE && va < VA_ALIAS_CODE + CODE_AREA)
		return (int)(va - VA_ALIAS_CODE + PAGE_CODE0 * PAGE_SIZE);
	if (va >= VA_CODE && va < VA_CODE + CODE_AREA)
		return (int)(va - VA_CODE + PAGE_CODE0 * PAGE_SIZE);
	return -1;
}

/* Also runs in the oracle's bare process: no libc. */
__attribute__((no_sanitize("address", "undefined"))) void sandbox_fill(const struct icase *c, uint8_t mem[PAGE_COUNT][PAGE_SIZE])
{
	copy_bytes(mem, pattern, PAGE_COUNT * PAGE_SIZE);
	copy_bytes((uint8_t *)mem + PAGE_CODE0 * PAGE_SIZE + c->code_at, c->code, c->code_len);
	for (unsigned i = 0; i < c->patches; i++)
		for (unsigned b = 0; b < c->patch[i].len; b++) {
			int at = sandbox_offset((uint64_t)c->patch[i].va + b);
			if (at >= 0)
				((uint8_t *)mem)[at] = c->patch[i].bytes[b];
		}
}
