/*
 * p2m_internal.h - what p2m.c offers to memory.c only. Lock held throughout.
 */
#ifndef MEM_P2M_INTERNAL_H
#define MEM_P2M_INTERNAL_H

#include "mem/memory.h"

int p2m_init(struct memory *mem);	/* 0 or -errno; the p2m is empty */
void p2m_destroy(struct memory *mem);
/* Makes the present leaf of p name m and steps p2m_generation. 0 or -ENOMEM (a large leaf could not be split). */
int p2m_change(struct memory *mem, gpa_t p, mfn_t m);

/* Makes the present leaf of p absent (or swapped out) and steps p2m_generation. As p2m_change. */
int p2m_clear(struct memory *mem, gpa_t p, bool swapped);

/* swap.c. False: the file cannot be read; mem->swap says why. */
bool swap_read(struct memory *mem, gpa_t p, void *buf, uint64_t len);

/* memory.c: what names frame m, as itself or as the first of a 2 MiB leaf, is void from now on. */
void memory_void_names(struct memory *mem, mfn_t m);
/* p's 2 MiB chunk has neither frames nor pages in the swap file, for certain. */
bool p2m_chunk_is_empty(const struct memory *mem, gpa_t p);
/* p's page in the swap file, if it is there, is given up. */
bool p2m_forget_swapped(struct memory *mem, gpa_t p);

#endif
