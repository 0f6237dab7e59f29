/*
 * fpsum.c - checksums of x87, SSE, AVX, AVX2, FMA, BMI, AES and SHA work, to be compared with the same binary's output on the host.
 * Proves that the guest is offered what it prints and that its floating point and vector units are the host's, unchanged
 * by context switches (it forks helpers that dirty the same registers).
 */
#include <fenv.h>
#include <immintrin.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

static uint64_t seed;
static uint64_t next_random(void)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed;
}
static uint64_t mix(uint64_t sum, uint64_t v) { return (sum ^ v) * 0x100000001b3u + (sum >> 29); }
static uint64_t bits(double d) { uint64_t u; memcpy(&u, &d, 8); return u; }

static uint64_t x87(void)
{
	uint64_t sum = 1;
	for (int i = 0; i < 20000; i++) {
		long double a = (long double)(int64_t)next_random() / 3e15L, b = (long double)(next_random() >> 40) + 0.5L, r[4];
		__asm__("fsin" : "=t"(r[0]) : "0"(a));
		__asm__("fyl2x" : "=t"(r[1]) : "0"(b), "u"(a) : "st(1)");
		__asm__("fptan; fstp %%st(0)" : "=t"(r[2]) : "0"(a));
		r[3] = a / b + sqrtl(b);
		for (int k = 0; k < 4; k++) {
			uint64_t lo;
			uint16_t hi;
			memcpy(&lo, &r[k], 8);
			memcpy(&hi, (char *)&r[k] + 8, 2);
			sum = mix(mix(sum, lo), hi);
		}
		uint8_t bcd[10];
		__asm__("fbstp %0" : "=m"(bcd) : "t"(rintl(a)) : "st");
		for (int k = 0; k < 10; k++)
			sum = mix(sum, bcd[k]);
	}
	for (int mode = 0; mode < 4; mode++) {
		static const int modes[] = { FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO };
		fesetround(modes[mode]);
		for (int i = 0; i < 1000; i++)
			sum = mix(sum, (uint64_t)llrintl((long double)(int64_t)next_random() / 7.0L));
	}
	fesetround(FE_TONEAREST);
	return sum;
}

static uint64_t sse(void)
{
	uint64_t sum = 2, out[2];
	__m128d x = _mm_set_pd(1.5, -0.25);
	__m128i y = _mm_set1_epi32(77);
	for (int i = 0; i < 50000; i++) {
		__m128i r = _mm_set_epi64x((int64_t)next_random(), (int64_t)next_random());
		x = _mm_add_pd(_mm_sqrt_pd(_mm_and_pd(x, _mm_castsi128_pd(_mm_set1_epi64x(0x7fffffffffffffff)))), _mm_cvtepi32_pd(r));
		y = _mm_xor_si128(_mm_madd_epi16(y, r), _mm_packs_epi32(r, _mm_sad_epu8(r, y)));
		y = _mm_add_epi64(y, _mm_mul_epu32(r, y));
		_mm_storeu_si128((__m128i *)out, _mm_xor_si128(y, _mm_castpd_si128(x)));
		sum = mix(mix(sum, out[0]), out[1]);
	}
	unsigned old = _mm_getcsr();
	_mm_setcsr(old | 0x8040);	/* flush to zero, denormals are zero */
	for (int i = 0; i < 1000; i++) {
		volatile double tiny = 1e-300 * (double)(i + 1);
		sum = mix(sum, bits(tiny * 1e-10));
	}
	sum = mix(sum, _mm_getcsr());
	_mm_setcsr(old);
	return sum;
}

__attribute__((target("avx2,fma,bmi,bmi2,lzcnt,f16c,movbe,popcnt,sse4.2"))) static uint64_t avx2(void)
{
	uint64_t sum = 3, out[4];
	__m256d acc = _mm256_set1_pd(0.5);
	__m256i v = _mm256_set1_epi64x(0x0123456789abcdef);
	static int32_t table[1024];
	for (int i = 0; i < 1024; i++)
		table[i] = (int32_t)next_random();
	for (int i = 0; i < 50000; i++) {
		uint64_t a = next_random(), b = next_random();
		__m256i r = _mm256_set_epi64x((int64_t)a, (int64_t)b, (int64_t)(a ^ b), (int64_t)(a + b));
		__m256i index = _mm256_and_si256(r, _mm256_set1_epi32(1023));
		__m256i g = _mm256_i32gather_epi32(table, index, 4);
		__m256i m = _mm256_mask_i32gather_epi32(v, table, index, r, 4);
		v = _mm256_add_epi32(_mm256_shuffle_epi8(v, r), _mm256_sllv_epi32(g, _mm256_and_si256(r, _mm256_set1_epi32(31))));
		v = _mm256_xor_si256(_mm256_permutevar8x32_epi32(v, r), m);
		acc = _mm256_fmadd_pd(acc, _mm256_set1_pd(0.99), _mm256_cvtepi32_pd(_mm256_castsi256_si128(g)));
		_mm256_maskstore_epi32((int *)out, _mm256_set1_epi32(-1), _mm256_xor_si256(v, _mm256_castpd_si256(acc)));
		for (int k = 0; k < 4; k++)
			sum = mix(sum, out[k]);
		sum = mix(sum, _pdep_u64(a, b) ^ _pext_u64(b, a) ^ _lzcnt_u64(a | 1) ^ _tzcnt_u64(b) ^ _andn_u64(a, b) ^ _blsr_u64(a));
		sum = mix(sum, _mm_crc32_u64(sum & 0xffffffff, a) ^ (uint64_t)_mm_popcnt_u64(b));
		unsigned long long high, low = _mulx_u64(a, b, &high);
		sum = mix(mix(sum, low), high);
		__m128 half = _mm_cvtph_ps(_mm_cvtsi64_si128((int64_t)(a & 0x3fff3fff3fff3fff)));
		_mm_storeu_ps((float *)out, half);
		sum = mix(mix(sum, out[0]), out[1]);
	}
	return sum;
}

__attribute__((target("aes,pclmul,sse4.2"))) static uint64_t aes(void)
{
	uint64_t sum = 4, out[2];
	__m128i state = _mm_set1_epi32(1), key = _mm_set1_epi32(0x5a5a1234);
	for (int i = 0; i < 50000; i++) {
		key = _mm_xor_si128(_mm_aeskeygenassist_si128(key, 0x1b), _mm_set_epi64x((int64_t)next_random(), i));
		state = _mm_aesenc_si128(_mm_aesdec_si128(state, key), _mm_aesimc_si128(key));
		state = _mm_xor_si128(state, _mm_clmulepi64_si128(state, key, 0x10));
		_mm_storeu_si128((__m128i *)out, state);
		sum = mix(mix(sum, out[0]), out[1]);
	}
	return sum;
}

__attribute__((target("sha,sse4.1"))) static uint64_t sha(void)
{
	uint64_t sum = 5, out[2];
	__m128i a = _mm_set1_epi32(1), b = _mm_set1_epi32(2);
	for (int i = 0; i < 50000; i++) {
		__m128i r = _mm_set_epi64x((int64_t)next_random(), (int64_t)next_random());
		a = _mm_sha256rnds2_epu32(a, b, r);
		b = _mm_sha1rnds4_epu32(_mm_sha256msg1_epu32(b, r), _mm_sha1nexte_epu32(a, r), 2);
		_mm_storeu_si128((__m128i *)out, _mm_xor_si128(a, b));
		sum = mix(mix(sum, out[0]), out[1]);
	}
	return sum;
}

/* The C library's functions, which choose their variant by CPUID. */
static uint64_t libm(void)
{
	uint64_t sum = 6;
	for (int i = 0; i < 20000; i++) {
		double x = (double)(next_random() >> 11) / 1e12, y = (double)(int64_t)next_random() / 1e18;
		sum = mix(sum, bits(sin(x)) ^ bits(exp(y)) ^ bits(pow(x, y / 10)) ^ bits(atan2(y, x)) ^ bits(log(x + 1)));
	}
	return sum;
}

/* Two processes that leave nonsense in every register and yield all the time. */
static void disturb(void)
{
	for (;;) {
		__asm__ volatile("vpcmpeqd %%ymm0, %%ymm0, %%ymm0; vmovdqa %%ymm0, %%ymm1; vmovdqa %%ymm0, %%ymm5; vmovdqa %%ymm0, %%ymm9;"
				 "vmovdqa %%ymm0, %%ymm14; fninit; fldpi; fldl2e; fld1" ::: "memory");
		for (volatile int i = 0; i < 5000; i++)
			;
		sched_yield();
	}
}

static void show(const char *name, uint64_t sum) { printf("fpsum %s %016llx\n", name, (unsigned long long)sum); }

int main(void)
{
	pid_t others[2];
	for (int i = 0; i < 2; i++) {
		others[i] = fork();
		CHECK(others[i] >= 0);
		if (!others[i])
			disturb();
	}
	for (int round = 1; round <= 2; round++) {
		seed = 0x9e3779b97f4a7c15u * (uint64_t)round;
		show("x87", x87());
		show("sse", sse());
		show("libm", libm());
		if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
			show("avx2", avx2());
		uint32_t regs[4];
		__asm__("cpuid" : "=a"(regs[0]), "=b"(regs[1]), "=c"(regs[2]), "=d"(regs[3]) : "a"(1), "c"(0));
		if (regs[2] & 1u << 25)
			show("aes", aes());
		__asm__("cpuid" : "=a"(regs[0]), "=b"(regs[1]), "=c"(regs[2]), "=d"(regs[3]) : "a"(7), "c"(0));
		if (regs[1] & 1u << 29)
			show("sha", sha());
	}
	for (int i = 0; i < 2; i++) {
		kill(others[i], SIGKILL);
		waitpid(others[i], NULL, 0);
	}
	return 0;
}
