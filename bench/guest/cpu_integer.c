/*
 * cpu_integer.c - integer work: arithmetic, tables, sorting, digests, branches, a tree, single bytes.
 */
#include <stdlib.h>
#include <string.h>
#include "cpu.h"
#include "item.h"

uint64_t cpu_alu(unsigned turns)
{
	uint64_t a = 1, b = 2;
	for (unsigned t = 0; t < turns; t++)
		for (int i = 0; i < 1000000; i++) {
			a = (a << 5 ^ a >> 3) + b;
			b = b * 3 + a;
		}
	return a;
}

uint64_t cpu_divide(unsigned turns)
{
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++)
		for (uint64_t i = 1; i <= 200000; i++) {
			uint64_t x = sum * 6364136223846793005u + i;
			sum += x / (i | 1) + x % (t + 3) + (uint32_t)x / (uint32_t)i;
		}
	return sum;
}

/* Counts in a table of 256 KiB, at places that a generator chooses. */
uint64_t cpu_hash(unsigned turns)
{
	enum { SIZE = 1 << 16 };
	static uint32_t table[SIZE];
	uint64_t sum = 0;
	memset(table, 0, sizeof table);
	for (unsigned t = 0; t < turns; t++)
		for (int i = 0; i < 400000; i++) {
			uint32_t at = (uint32_t)(next_random() >> 20) % SIZE;
			sum += table[at]++;
		}
	return sum;
}

static int compare(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;
	return x < y ? -1 : x > y;
}

uint64_t cpu_sort(unsigned turns)
{
	enum { SIZE = 16384 };
	static int values[SIZE];
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++) {
		for (int i = 0; i < SIZE; i++)
			values[i] = (int)next_random();
		qsort(values, SIZE, sizeof *values, compare);
		sum = sum * 31 + (uint32_t)values[t % SIZE];
	}
	return sum;
}

/* SHA-256 of a buffer, over and over; its constants are computed: bits of the cube roots of the first 64 primes. */
static uint32_t sha_constants[64];

static void sha_prepare(void)
{
	int n = 0;
	for (unsigned p = 2; n < 64; p++) {
		int prime = 1;
		for (unsigned d = 2; d * d <= p; d++)
			prime &= p % d != 0;
		if (!prime)
			continue;
		/* The largest r with r^3 <= p * 2^96: its low 32 bits are the fraction's. */
		unsigned __int128 r = 0, target = (unsigned __int128)p << 96;
		for (int bit = 35; bit >= 0; bit--) {
			unsigned __int128 next = r | (unsigned __int128)1 << bit;
			if (next * next * next <= target)
				r = next;
		}
		sha_constants[n++] = (uint32_t)r;
	}
}

static inline uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void sha_block(uint32_t state[8], const uint8_t *data)
{
	uint32_t w[64], s[8];
	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)data[4 * i] << 24 | (uint32_t)data[4 * i + 1] << 16 | (uint32_t)data[4 * i + 2] << 8 | data[4 * i + 3];
	for (int i = 16; i < 64; i++)
		w[i] = w[i - 16] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
		       (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
	memcpy(s, state, sizeof s);
	for (int i = 0; i < 64; i++) {
		uint32_t x = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
			     sha_constants[i] + w[i];
		uint32_t y = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
		memmove(s + 1, s, 7 * sizeof *s);
		s[4] += x;
		s[0] = x + y;
	}
	for (int i = 0; i < 8; i++)
		state[i] += s[i];
}

uint64_t cpu_sha256(unsigned turns)
{
	static uint8_t data[65536];
	uint32_t state[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	sha_prepare();
	for (unsigned i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)next_random();
	for (unsigned t = 0; t < turns; t++)
		for (unsigned i = 0; i < sizeof data; i += 64)
			sha_block(state, data + i);
	return (uint64_t)state[0] << 32 | state[7];
}

/* One table, one byte at a time: each look-up waits for the one before. */
uint64_t cpu_crc32(unsigned turns)
{
	static uint32_t table[256];
	static uint8_t data[65536];
	uint32_t crc = ~0u;
	for (uint32_t i = 0; i < 256; i++) {
		table[i] = i;
		for (int bit = 0; bit < 8; bit++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
	}
	for (unsigned i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)next_random();
	for (unsigned t = 0; t < turns; t++)
		for (unsigned i = 0; i < sizeof data; i++)
			crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
	return crc;
}

/* Branches that no predictor can learn, in a register-only loop. */
uint64_t cpu_branchy(unsigned turns)
{
	uint64_t x = 88172645463325252u, a = 0, b = 0, c = 0;
	for (unsigned t = 0; t < turns; t++)
		for (int i = 0; i < 100000; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			if (x & 1) {
				a += x >> 3;
				if (x & 2)
					b ^= a;
				__asm__ volatile("");
			} else if (x & 4) {
				c += b;
				__asm__ volatile("");
			} else {
				b -= 3;
				__asm__ volatile("");
			}
			if ((x & 0x30) == 0x30) {
				a ^= c;
				__asm__ volatile("");
			}
		}
	return a + b + c;
}

struct node {
	uint64_t key;
	struct node *side[2];
};

/* A binary search tree of 16384 keys: inserts, then looks up. */
uint64_t cpu_tree(unsigned turns)
{
	enum { SIZE = 16384 };
	static struct node nodes[SIZE];
	struct node *root = NULL;
	uint64_t sum = 0;
	for (int i = 0; i < SIZE; i++) {
		struct node **at = &root;
		nodes[i] = (struct node){ .key = next_random() >> 48 };
		while (*at)
			at = &(*at)->side[nodes[i].key > (*at)->key];
		*at = &nodes[i];
	}
	for (unsigned t = 0; t < turns; t++)
		for (int i = 0; i < 20000; i++) {
			uint64_t key = next_random() >> 48;
			for (struct node *n = root; n && n->key != key; n = n->side[key > n->key])
				sum++;
		}
	return sum;
}

/* Copies and changes text one byte at a time; the barrier keeps the compiler from making vectors of it. */
uint64_t cpu_bytes(unsigned turns)
{
	enum { SIZE = 65536 };
	static char from[SIZE], to[SIZE];
	uint64_t sum = 0;
	for (int i = 0; i < SIZE; i++)
		from[i] = (char)('!' + next_random() % 90);
	for (unsigned t = 0; t < turns; t++) {
		char *out = to;
		for (int i = 0; i < SIZE; i++) {
			char c = from[i];
			*out++ = (char)(c ^ 0x20);
			__asm__ volatile("" ::: "memory");
		}
		sum += (uint64_t)(uint8_t)to[t % SIZE];
	}
	return sum;
}
