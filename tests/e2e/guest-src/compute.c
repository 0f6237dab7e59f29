/*
 * compute.c - SHA-256, sorting, a sieve, strings that overlap, 64-bit arithmetic, integers as text, doubles, setjmp, signals and threads: what it prints does not
 * depend on the width of the machine it is compiled for. `compute` runs on the host, `compute32` (the same for i386) in a guest.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>
#include "check.h"

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static uint32_t constants[64];

/* The first 32 bits of the fractions of the cube roots of primes, by integers alone. */
static void make_constants(void)
{
	unsigned n = 0;

	for (unsigned p = 2; n < 64; p++) {
		unsigned d = 2;
		uint64_t root = 0;

		while (d * d <= p && p % d)
			d++;
		if (d * d <= p)
			continue;
		for (int bit = 34; bit >= 0; bit--) { /* (root / 2^32)^3 <= p, digit by digit */
			const uint64_t t = root | 1ull << bit, hi = t >> 32, lo = (uint32_t)t;
			const double cube = ((double)hi + (double)lo / 4294967296.0);

			if (cube * cube * cube <= (double)p)
				root = t;
		}
		constants[n++] = (uint32_t)(root >> 8); /* bits that doubles are sure of */
	}
}

static void sha_block(uint32_t h[8], const uint8_t *p)
{
	uint32_t w[64], s[8];

	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
	for (int i = 16; i < 64; i++)
		w[i] = w[i - 16] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
		       (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
	memcpy(s, h, sizeof(s));
	for (int i = 0; i < 64; i++) {
		const uint32_t t1 = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + constants[i] + w[i];
		const uint32_t t2 = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

		memmove(s + 1, s, 7 * sizeof(s[0]));
		s[4] += t1;
		s[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		h[i] += s[i];
}

static void hash(void)
{
	uint32_t h[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	static uint8_t buf[1 << 16];

	make_constants();
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 7 + (i >> 8));
	for (int round = 0; round < 16; round++)
		for (unsigned i = 0; i < sizeof(buf); i += 64)
			sha_block(h, buf + i);
	printf("hash %08x %08x %08x\n", h[0], h[3], h[7]);
}

static int by_value(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void sort(void)
{
	enum { N = 200000 };
	uint32_t *v = malloc(N * sizeof(*v)), x = 1;
	uint64_t sum = 0;

	CHECK(v);
	for (int i = 0; i < N; i++)
		v[i] = x = x * 1664525 + 1013904223;
	qsort(v, N, sizeof(*v), by_value);
	for (int i = 0; i < N; i++)
		sum = sum * 31 + v[i];
	printf("sorted %016llx\n", (unsigned long long)sum);
	free(v);
}

/* Overlapping moves in both directions, of every length and distance. */
static void moves(void)
{
	static uint8_t b[16384];
	uint32_t sum = 0;

	for (unsigned i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)(i * 13 + (i >> 6));
	for (unsigned n = 1; n < 4200; n += 37)
		for (unsigned d = 1; d < 40; d += 3) {
			memmove(b + 5000 + d, b + 5000, n);
			memmove(b + 4000, b + 4000 + d, n);
			memset(b + 9000 - n, (int)(n + d), n / 2);
			sum = sum * 33 + b[5000 + n - 1] + b[4000 + n / 2];
		}
	for (unsigned i = 0; i < sizeof(b); i++)
		sum = sum * 33 + b[i];
	printf("moves %08x\n", sum);
}

static void arithmetic(void)
{
	uint64_t x = 0x123456789abcdefull, sum = 0;
	int64_t y = -987654321987ll;
	char text[64];
	double d = 0;

	for (int i = 1; i < 100000; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		y ^= (int64_t)(x >> 3);
		sum += x / (uint64_t)i + (uint64_t)(y % (i * 7 + 1)) + (x >> (i & 63)) + (x << (i % 61));
		snprintf(text, sizeof(text), "%llu:%lld", (unsigned long long)sum, (long long)y);
		sum = sum * 3 + strtoull(text, NULL, 10) % 1000003 + strlen(text);
		d += (double)(int64_t)(x >> 40) * 0.25;
	}
	printf("arithmetic %016llx %.2f\n", (unsigned long long)sum, d);
}

static sigjmp_buf back;
static volatile sig_atomic_t caught;
static void on_signal(int signo) { caught++, siglongjmp(back, signo); }

static void signals(void)
{
	volatile char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(page != MAP_FAILED);
	signal(SIGSEGV, on_signal);
	signal(SIGFPE, on_signal);
	for (volatile int i = 0; i < 100; i++) {
		if (!sigsetjmp(back, 1))
			*page = 1;
		if (!sigsetjmp(back, 1)) {
			volatile int zero = 0;

			caught += 10 / zero;
		}
	}
	printf("signals %d\n", (int)caught);
}

static __thread uint32_t own;
static uint32_t shared;
static void *thread(void *arg)
{
	for (int i = 0; i < 100000; i++) {
		own += (uint32_t)(uintptr_t)arg;
		__atomic_fetch_add(&shared, 1, __ATOMIC_SEQ_CST);
	}
	return (void *)(uintptr_t)own;
}

static void threads(void)
{
	pthread_t t[4];
	uintptr_t sum = 0;
	void *r;

	for (uintptr_t i = 0; i < 4; i++)
		CHECK(!pthread_create(&t[i], NULL, thread, (void *)(i + 1)));
	for (int i = 0; i < 4; i++) {
		CHECK(!pthread_join(t[i], &r));
		sum += (uintptr_t)r;
	}
	printf("threads %u %u\n", (unsigned)sum, shared);
}

int main(void)
{
	hash();
	sort();
	moves();
	arithmetic();
	signals();
	threads();
	return 0;
}
