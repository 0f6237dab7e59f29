/*
 * base.h - what every file may assume: fixed-width integers, a few macros, and an
 * assertion that is always on.
 *
 * ASSERT guards our own invariants only. What a guest did is never asserted: a guest's
 * fault is a value (struct exception), a host shortage is -errno (see docs/ARCHITECTURE.md).
 *
 * Files under mem/, mmu/, cpu/ and bt/ run while the guest's FPU and vector registers are live
 * in the host's, and are compiled with -mgeneral-regs-only; inline functions here must
 * be fit for that (no floating point, no call of a libc function that may use vector registers).
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define ALIGN_DOWN(x, a) ((x) & ~((uint64_t)(a)-1))
#define ALIGN_UP(x, a) (((x) + ((uint64_t)(a)-1)) & ~((uint64_t)(a)-1))
#define CONTAINER_OF(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define NORETURN __attribute__((noreturn))

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

NORETURN void base_assert_failed(const char *expr, const char *file, int line);
#define ASSERT(e) ((void)(LIKELY(e) || (base_assert_failed(#e, __FILE__, __LINE__), 0)))

/* rep movsb/stosb: the only bulk copy and fill that code with live guest vector registers may use. */
static inline void copy_bytes(void *dst, const void *src, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}
/* Marsaglia, "Xorshift RNGs": not zero, and never becomes it. */
static inline uint64_t random_step(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

static inline void fill_bytes(void *dst, uint8_t byte, size_t n)
{
	__asm__ volatile("rep stosb" : "+D"(dst), "+c"(n) : "a"(byte) : "memory");
}

/* Unaligned little-endian loads and stores that compile to one plain move. */
#define BASE_DEFINE_UNALIGNED(bits)                                                                 \
	static inline uint##bits##_t load_u##bits(const void *p)                                    \
	{                                                                                           \
		struct __attribute__((packed, may_alias)) box { uint##bits##_t v; };                \
		return ((const struct box *)p)->v;                                                  \
	}                                                                                           \
	static inline void store_u##bits(void *p, uint##bits##_t v)                                 \
	{                                                                                           \
		struct __attribute__((packed, may_alias)) box { uint##bits##_t v; };                \
		((struct box *)p)->v = v;                                                           \
	}
BASE_DEFINE_UNALIGNED(16)
BASE_DEFINE_UNALIGNED(32)
BASE_DEFINE_UNALIGNED(64)
#undef BASE_DEFINE_UNALIGNED

#endif
