/*
 * types.h - the three kinds of address of memory virtualization, as types that do not mix.
 *
 * v  gva_t  guest-virtual address
 * p  gpa_t  guest-physical address
 * m  mfn_t  machine frame number: index of a 4 KiB frame in the VM's machine pool (mem/pool.h)
 * A host pointer into the pool is a plain pointer ("hva").
 */
#ifndef X86_TYPES_H
#define X86_TYPES_H

#include "base/base.h"

typedef struct { uint64_t v; } gva_t;
typedef struct { uint64_t v; } gpa_t;
typedef struct { uint64_t v; } mfn_t;

static inline gva_t gva(uint64_t v) { return (gva_t){ v }; }
static inline gpa_t gpa(uint64_t v) { return (gpa_t){ v }; }
static inline mfn_t mfn(uint64_t v) { return (mfn_t){ v }; }

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096ull
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define MFN_NONE ((mfn_t){ ~0ull })
static inline bool mfn_valid(mfn_t m) { return m.v != ~0ull; }

/*
 * Canonical form: all bits from bits - 1 up are equal. How many bits a linear address has depends on who asks (Intel SDM vol. 3, "Canonicality
 * Checking"): accesses, branches and their like, on the paging in force (mmu.h, vcpu_canonical); what registers that hold addresses may be loaded
 * with, on what the processor offers (cpu_canonical). Intel SDM vol. 1, "Canonical Addressing".
 */
#define VA_BITS_4LEVEL 48u
#define VA_BITS_5LEVEL 57u
static inline bool va_canonical(uint64_t va, unsigned bits) { return (uint64_t)((int64_t)(va << (64 - bits)) >> (64 - bits)) == va; }
/* Whether any host can return to this stack pointer. (One with 5 levels could return to more; what is done for the others is right for those too.) */
static inline bool host_canonical(uint64_t va) { return va_canonical(va, VA_BITS_4LEVEL); }

#endif
