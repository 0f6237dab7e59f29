/*
 * cpu_float.c - floating point, scalar and packed. Additions keep their order, so results are the same to the last bit.
 */
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "cpu.h"
#include "item.h"

static uint64_t bits_of(double x)
{
	uint64_t bits;
	memcpy(&bits, &x, sizeof bits);
	return bits;
}

uint64_t cpu_matrix(unsigned turns)
{
	enum { N = 64 };
	static double a[N][N], b[N][N], c[N][N];
	for (int i = 0; i < N; i++)
		for (int k = 0; k < N; k++) {
			a[i][k] = 1.0 / (i + k + 1);
			b[i][k] = i - 0.5 * k;
		}
	for (unsigned t = 0; t < turns * 5; t++) {
		for (int i = 0; i < N; i++)
			for (int k = 0; k < N; k++) {
				double s = 0;
				for (int j = 0; j < N; j++)
					s += a[i][j] * b[j][k];
				c[i][k] = s;
			}
		a[t % N][3] = c[5][t % N] * 1e-6;
	}
	return bits_of(c[5][7]);
}

/* Five bodies that attract one another: additions, multiplications, square roots, divisions. */
uint64_t cpu_bodies(unsigned turns)
{
	enum { BODIES = 5 };
	static struct body { double at[3], speed[3], mass; } body[BODIES];
	for (int i = 0; i < BODIES; i++)
		for (int d = 0; d < 3; d++) {
			body[i].at[d] = (i * 7 + d * 3) % 11 - 5.0;
			body[i].speed[d] = (i * 5 + d) % 7 * 0.1 - 0.3;
			body[i].mass = 1.0 + i;
		}
	for (unsigned t = 0; t < turns * 2000; t++) {
		for (int i = 0; i < BODIES; i++)
			for (int k = i + 1; k < BODIES; k++) {
				double gap[3], square = 0.01;
				for (int d = 0; d < 3; d++) {
					gap[d] = body[i].at[d] - body[k].at[d];
					square += gap[d] * gap[d];
				}
				double pull = 0.001 / (square * sqrt(square));
				for (int d = 0; d < 3; d++) {
					body[i].speed[d] -= gap[d] * body[k].mass * pull;
					body[k].speed[d] += gap[d] * body[i].mass * pull;
				}
			}
		for (int i = 0; i < BODIES; i++)
			for (int d = 0; d < 3; d++)
				body[i].at[d] += 0.001 * body[i].speed[d];
	}
	return bits_of(body[0].at[0] + body[4].speed[2]);
}

enum { FLOATS = 8192 };
static float x[FLOATS] __attribute__((aligned(64))), y[FLOATS] __attribute__((aligned(64)));

static void fill_floats(void)
{
	for (int i = 0; i < FLOATS; i++) {
		x[i] = (float)(i % 97) * 0.25f;
		y[i] = (float)(i % 31) * 0.5f;
	}
}

static uint64_t sum_floats(void)
{
	double sum = 0;
	for (int i = 0; i < FLOATS; i++)
		sum += y[i];
	return bits_of(sum);
}

/* y = y * 0.5 + x * a, and a maximum, four at a time. */
typedef float float4 __attribute__((vector_size(16)));
uint64_t cpu_sse(unsigned turns)
{
	fill_floats();
	for (unsigned t = 0; t < turns * 10; t++) {
		float a = 1.0f + (float)(t % 5);
		float4 factor = { a, a, a, a }, half = { 0.5f, 0.5f, 0.5f, 0.5f };
		for (int i = 0; i < FLOATS; i += 4) {
			float4 v = *(float4 *)(y + i) * half + *(float4 *)(x + i) * factor;
			*(float4 *)(y + i) = (float4)_mm_max_ps((__m128)v, (__m128)half);
		}
	}
	return sum_floats();
}

/* The same eight at a time, and integers of 32 bits beside it. */
typedef float float8 __attribute__((vector_size(32)));
typedef int32_t int8x32 __attribute__((vector_size(32)));
__attribute__((target("avx2"))) uint64_t cpu_avx2(unsigned turns)
{
	int8x32 mix = { 1, 2, 3, 4, 5, 6, 7, 8 };
	fill_floats();
	for (unsigned t = 0; t < turns * 10; t++) {
		float a = 1.0f + (float)(t % 5);
		float8 factor = { a, a, a, a, a, a, a, a }, half = { 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f };
		for (int i = 0; i < FLOATS; i += 8) {
			float8 v = *(float8 *)(y + i) * half + *(float8 *)(x + i) * factor;
			*(float8 *)(y + i) = (float8)_mm256_max_ps((__m256)v, (__m256)half);
			mix = (mix ^ (int8x32)v) + (mix << 3);
		}
	}
	uint64_t sum = 0;
	for (int i = 0; i < 8; i++)
		sum = sum * 31 + (uint32_t)mix[i];
	return sum ^ sum_floats();
}

int cpu_has_avx2(void) { return __builtin_cpu_supports("avx2"); }
