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

/* 48-bit canonical form (LA57 is not offered). Intel SDM vol. 1, "Canonical Addressing". */
static inline bool is_canonical(uint64_t va) { return (uint64_t)((int64_t)(va << 16) >> 16) == va; }

#endif
