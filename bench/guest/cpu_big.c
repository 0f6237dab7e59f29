/*
 * cpu_big.c - much code: 4096 different functions, about 300 KiB, called in an order that jumps about. What suffers is all that caches code:
 * the processor's instruction cache and branch predictors, a translator's code cache, jump tables and chains.
 */
#include "cpu.h"
#include "item.h"

#define FUNCTION(n) \
static __attribute__((noinline)) uint64_t function_##n(uint64_t x, uint64_t *state) \
{ \
	uint64_t y = x * (2 * 0x##n##u + 0x9e3779b1u); \
	if (y & (1u << (0x##n % 13))) \
		*state += y >> (0x##n % 29 + 1); \
	else \
		*state ^= x + 0x##n; \
	return (y ^ y >> 31) + *state; \
}
#define NAME(n) function_##n,

#define EACH_1(M, p) M(p##0) M(p##1) M(p##2) M(p##3) M(p##4) M(p##5) M(p##6) M(p##7) M(p##8) M(p##9) M(p##a) M(p##b) M(p##c) M(p##d) M(p##e) M(p##f)
#define EACH_2(M, p) EACH_1(M, p##0) EACH_1(M, p##1) EACH_1(M, p##2) EACH_1(M, p##3) EACH_1(M, p##4) EACH_1(M, p##5) EACH_1(M, p##6) EACH_1(M, p##7) \
	EACH_1(M, p##8) EACH_1(M, p##9) EACH_1(M, p##a) EACH_1(M, p##b) EACH_1(M, p##c) EACH_1(M, p##d) EACH_1(M, p##e) EACH_1(M, p##f)
#define EACH_3(M) EACH_2(M, 0) EACH_2(M, 1) EACH_2(M, 2) EACH_2(M, 3) EACH_2(M, 4) EACH_2(M, 5) EACH_2(M, 6) EACH_2(M, 7) \
	EACH_2(M, 8) EACH_2(M, 9) EACH_2(M, a) EACH_2(M, b) EACH_2(M, c) EACH_2(M, d) EACH_2(M, e) EACH_2(M, f)

EACH_3(FUNCTION)
static uint64_t (*const functions[])(uint64_t, uint64_t *) = { EACH_3(NAME) };
enum { FUNCTIONS = sizeof functions / sizeof *functions };

uint64_t cpu_big_code(unsigned turns)
{
	uint64_t state = 0, x = 1;
	for (unsigned t = 0; t < turns; t++)
		for (unsigned i = 0; i < 2 * FUNCTIONS; i++)
			x = functions[(i * 1741 + t % 7) % FUNCTIONS](x, &state);
	return x ^ state;
}
