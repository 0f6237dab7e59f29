/*
 * gather.c - pages that a guest uses side by side get machine frames side by side, so that one window of the TLB goes over all of them (mmu/window.c).
 *
 * A guest's kernel hands out pages as they come, so a program's arrays lie all over its physical memory. Which machine frames stand for them is ours to say: pages are moved by
 * copying once misses have paid for that (T. Romer et al., "Reducing TLB and Memory Overhead Using Online Superpage Promotion", ISCA 1995, do so to
 * make large pages of small ones; here nothing need be aligned, and a part will do).
 *
 * Frames for this are kept apart in the pool, as areas: each stands for a stretch of an address space that is as long and aligned to its length, and a page's place
 * in it is given by its address alone. Areas are taken in turn; who had one before keeps its pages there until somebody needs the place, and then exchanges frames with it.
 */
#include <errno.h>

#include "mem/p2m_internal.h"

mfn_t memory_gather_place(struct memory *mem, uint64_t space, uint64_t va)
{
	struct memory_gather *g = &mem->gather;
	const uint64_t page = va >> PAGE_SHIFT, stretch = page / g->area_pages;
	unsigned i = 0;

	while (i < GATHER_AREAS && (g->area[i].space_plus_1 != space + 1 || g->area[i].stretch != stretch))
		i++;
	if (i == GATHER_AREAS) {
		i = g->next++ % GATHER_AREAS;
		g->area[i].space_plus_1 = space + 1;
		g->area[i].stretch = stretch;
	}
	return mfn(mem->pool.placed + i * g->area_pages + page % g->area_pages);
}

/* Nobody watches it or finds anything else by it, and one page has it. */
static bool is_movable(const struct frame *f) { return share_is_plain(f) && !(f->flags & FRAME_TRACKED) && f->gfn != ~0ull; }

bool memory_may_gather(const struct memory *mem, mfn_t m) { return m.v < mem->pool.frames && is_movable(pool_frame(&mem->pool, m)); }

/* The page's frame is another now, and the other way round: names of both are void. */
static void named_anew(struct memory *mem, mfn_t m, uint64_t gfn)
{
	struct frame *f = pool_frame(&mem->pool, m);

	memory_void_names(mem, m);
	mem->fetched_left += !!(f->flags & FRAME_FETCHED);
	f->flags = (uint16_t)((f->flags & ~FRAME_FETCHED) | FRAME_MOVED);
	f->gfn = gfn;
}

/* Whoever is at `to` gets p's frame. */
static int exchange(struct memory *mem, gpa_t p, mfn_t from, mfn_t to)
{
	const uint64_t other = pool_frame(&mem->pool, to)->gfn;
	uint64_t *a = pool_ptr(&mem->pool, from), *b = pool_ptr(&mem->pool, to);

	/* Both leaves are small ones before anything has changed. */
	if (p2m_change(mem, gpa(other << PAGE_SHIFT), to) || p2m_change(mem, p, to))
		return -ENOMEM;
	p2m_change(mem, gpa(other << PAGE_SHIFT), from);
	for (unsigned i = 0; i < PAGE_SIZE / sizeof(*a); i++) {
		const uint64_t kept = a[i];

		a[i] = b[i];
		b[i] = kept;
	}
	named_anew(mem, from, other);
	named_anew(mem, to, p.v >> PAGE_SHIFT);
	return 0;
}

static int take(struct memory *mem, gpa_t p, mfn_t from, mfn_t to)
{
	pool_take(&mem->pool, to, p.v >> PAGE_SHIFT);
	pool_touch(&mem->pool, to);
	if (p2m_change(mem, p, to)) {
		pool_free(&mem->pool, to);
		return -ENOMEM;
	}
	copy_bytes(pool_ptr(&mem->pool, to), pool_ptr(&mem->pool, from), PAGE_SIZE);
	pool_frame(&mem->pool, to)->flags |= FRAME_MOVED;
	memory_leave(mem, p.v >> PAGE_SHIFT, from);
	return 0;
}

uint64_t memory_gather(struct memory *mem, const struct gather_page *page, uint64_t pages)
{
	uint64_t moved = 0;

	memory_lock(mem);
	for (uint64_t i = 0; i < pages; i++) {
		const gpa_t p = gpa(page[i].gfn << PAGE_SHIFT);
		const struct frame *there = pool_frame(&mem->pool, page[i].to);
		struct p2m_entry e;

		if (!p2m_lookup(mem, p, &e) || e.m.v == page[i].to.v || !is_movable(pool_frame(&mem->pool, e.m)))
			continue;
		if (there->flags & FRAME_ALLOCATED ? !is_movable(there) || exchange(mem, p, e.m, page[i].to) : take(mem, p, e.m, page[i].to))
			continue;
		moved++;
	}
	mem->counters.pages_gathered += moved;
	memory_unlock(mem);
	return moved;
}
