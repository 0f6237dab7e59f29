/*
 * gather.c - finds the pages that windows of the TLB (window.c) could go over if only they were contiguous in host memory, and has memory move them (mem/gather.c).
 *
 * Level 1 says which those are: pages of one address space that are in use and have a neighbour with the same rights.
 */
#include <stdlib.h>

#include "mmu/mmu_internal.h"

#define BATCH 256u	/* pages whose old frames are held until all of them have moved: memory that is in use twice */

#define MOST 1024u	/* pages: of more than 4 MiB the host's caches miss so much that a look-up more does not count */

/* The entry for a page, or 0 if level 1 does not have it. */
static const struct tlb_entry *entry_of(const struct mmu *mmu, enum tlb_set set, uint64_t page)
{
	const struct tlb_entry *e = tlb1_entry(mmu, set, page);

	return e->tag_read == page ? e : NULL;
}

static mfn_t frame_of(const struct mmu *mmu, const struct tlb_entry *e) { return pool_mfn_of(&mmu->memory->pool, (const void *)(uintptr_t)e->host); }

static bool has_right_of(const struct tlb_entry *e, const struct tlb_entry *other) { return (e->tag_write == e->tag_read) == (other->tag_write == other->tag_read); }

/* Whether a window that comes from e to the page at `page`, beside it, cannot go on, though it could if both were moved. */
static bool breaks(const struct mmu *mmu, const struct tlb_entry *e, const struct tlb_entry *next)
{
	return e->host - e->tag_read != next->host - next->tag_read && memory_may_gather(mmu->memory, frame_of(mmu, e)) && memory_may_gather(mmu->memory, frame_of(mmu, next));
}

/* How often windows break in what level 1 has around va without a hole. */
static unsigned breaks_around(const struct mmu *mmu, enum tlb_set set, uint64_t va)
{
	const uint64_t bytes = mmu->memory->gather.area_pages << PAGE_SHIFT, start = va / bytes * bytes, page = va & PAGE_MASK;
	const struct tlb_entry *e, *next;
	unsigned n = 0;

	for (uint64_t at = page; (e = entry_of(mmu, set, at)) && at - start < bytes - PAGE_SIZE && (next = entry_of(mmu, set, at + PAGE_SIZE)) && has_right_of(e, next); at += PAGE_SIZE)
		n += breaks(mmu, e, next);
	for (uint64_t at = page; (e = entry_of(mmu, set, at)) && at > start && (next = entry_of(mmu, set, at - PAGE_SIZE)) && has_right_of(e, next); at -= PAGE_SIZE)
		n += breaks(mmu, e, next);
	return n;
}

enum gather_answer mmu_gather_ask(struct mmu *mmu, enum tlb_set set, uint64_t va)
{
	struct memory_gather *g = &mmu->memory->gather;

	if (!g->wanted || !breaks_around(mmu, set, va))
		return GATHER_USELESS;
	if (g->asked || !g->wanted(g->opaque))
		return GATHER_LATER;
	mmu->priv->gather.va = va;
	mmu->priv->gather.cr3 = mmu->cr3;
	mmu->priv->gather.set = set;
	g->asked = true;
	return GATHER_ASKED;
}

static bool has_neighbour(const struct mmu *mmu, enum tlb_set set, const struct tlb_entry *e)
{
	const struct tlb_entry *before = entry_of(mmu, set, e->tag_read - PAGE_SIZE), *after = entry_of(mmu, set, e->tag_read + PAGE_SIZE);

	return (before && has_right_of(e, before)) || (after && has_right_of(e, after));
}

/*
 * All that level 1 has in va's stretch, holes or none: what it lost to others will be back. Which page a frame holds is asked of all before any is
 * moved, since moves exchange frames.
 */
uint64_t mmu_gather(struct mmu *mmu)
{
	struct memory *mem = mmu->memory;
	const enum tlb_set set = mmu->priv->gather.set;
	const uint64_t pages = mem->gather.area_pages, stretch = mmu->priv->gather.va >> PAGE_SHIFT, entries = (mmu->l1_mask[set] >> TLB_ENTRY_SHIFT) + 1;
	struct gather_page *list;
	uint64_t n = 0, moved = 0;

	if (!mem->gather.asked)
		return 0;
	mem->gather.asked = false;
	if (mmu->cr3 != mmu->priv->gather.cr3 || !pages)
		return 0;
	list = malloc(pages * sizeof(*list));
	if (!list)
		return 0;
	memory_lock(mem);
	for (uint64_t i = 0; i < entries && n < pages; i++) {
		const struct tlb_entry *e = tlb1_entry(mmu, set, i << PAGE_SHIFT);

		/* An invalid tag has another index. */
		if ((e->tag_read >> PAGE_SHIFT) % entries != i || (e->tag_read >> PAGE_SHIFT) / pages != stretch / pages || !has_neighbour(mmu, set, e) ||
		    !memory_may_gather(mem, frame_of(mmu, e)))
			continue;
		list[n++] = (struct gather_page){ .gfn = pool_frame(&mem->pool, frame_of(mmu, e))->gfn, .to = memory_gather_place(mem, mmu->cr3 & PAGE_MASK, e->tag_read) };
	}
	memory_unlock(mem);
	if (n > MOST)
		n = 0;
	for (uint64_t i = 0; i < n; i += BATCH) {
		const uint64_t batch = memory_gather(mem, list + i, n - i < BATCH ? n - i : BATCH);

		moved += batch;
		if (batch) {
			mmu_frames_changed(mmu);
			memory_release(mem);
		}
	}
	free(list);
	return moved;
}
