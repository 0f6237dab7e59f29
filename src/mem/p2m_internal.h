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

/* log.c: D1 for a page that has just got frame m for itself. */
void log_watch(struct memory *mem, uint64_t gfn, mfn_t m);

/* share.c. The page gfn has left shared frame m; memory_leave: whatever frame m is. */
void share_leave(struct memory *mem, uint64_t gfn, mfn_t m);
static inline void memory_leave(struct memory *mem, uint64_t gfn, mfn_t m)
{
	if (UNLIKELY(pool_frame(&mem->pool, m)->flags & FRAME_SHARED))
		share_leave(mem, gfn, m);
	else
		memory_leave_frame(mem, m);
}
int share_page(struct memory *mem, gpa_t p, gpa_t q);	/* memory_share with the lock held */
/* Whether a page may share this frame: no page table that is shadowed, no translated code. */
bool share_is_plain(const struct frame *f);
/* swap.c: p has got frame m; asks for room if frames run short. */
void swap_used_frame(struct memory *mem, mfn_t m);
/* M2 for the page gfn on shared frame m: 0, or the violation in msg. *members: of the ring, told for one of its pages only. */
int share_audit(const struct memory *mem, uint64_t gfn, mfn_t m, uint64_t *members, char *msg, size_t size);
/* p's 2 MiB chunk has neither frames nor pages in the swap file, for certain. */
bool p2m_chunk_is_empty(const struct memory *mem, gpa_t p);
/* p's page in the swap file, if it is there, is given up. */
bool p2m_forget_swapped(struct memory *mem, gpa_t p);

/* memory.c: p, whose entry is old, gets another frame with the same contents. 0 or -ENOMEM. */
int memory_change_frame(struct memory *mem, gpa_t p, const struct p2m_entry *old, mfn_t *m);

#endif
