/*
 * window.c - windows (tlb.h): how the run of pages around an address is found.
 *
 * Only level 1 is asked, so that a window holds nothing that level 1 would not say, and a page that is swapped or watched later leaves by the same
 * door. Generated code makes an empty window, or one of a single page, the page that it met last; looking for more costs a look-up a page, so that
 * is done here after as many misses as the look-ups before were.
 */
#include "mmu/mmu_internal.h"

#define CREDIT_LEAST 64
#define CREDIT_ALONE 256	/* no neighbour of the page goes on where it ends */

static void set_run(struct mmu *mmu, enum tlb_set set, unsigned n, uint64_t base, uint64_t length, bool writable)
{
	struct tlb_window *w = &mmu->window[set][n];

	w->base = base;
	for (unsigned c = 0; c < TLB_WINDOW_CLASSES; c++) {
		w->limit[c][0] = length - tlb_window_size[c] + 1;
		w->limit[c][1] = writable ? w->limit[c][0] : 0;
	}
	mmu->window_live[set][n] = 1;
}

/* Does level 1 have the page, at this distance and with this right? A run does not go over the end of what 32-bit code can reach, where that starts anew. */
static bool goes_on(const struct mmu *mmu, enum tlb_set set, uint64_t page, uint64_t delta, bool writable)
{
	const struct tlb_entry *e = tlb1_entry(mmu, set, page);

	return e->tag_read == page && e->host - page == delta && (e->tag_write == page) == writable;
}

uint32_t mmu_window_make(struct mmu *mmu, enum tlb_set set, unsigned n, uint64_t va)
{
	struct tlb_window *w = &mmu->window[set][n];
	const uint64_t page = va & PAGE_MASK;
	const struct tlb_entry *e = tlb1_entry(mmu, set, page);
	const bool writable = e->tag_write == page;
	const uint32_t spent = (uint32_t)w->granted;
	uint64_t first = page, end = page + PAGE_SIZE;

	w->credit = w->granted = CREDIT_LEAST;
	if (e->tag_read != page)
		return spent;
	w->delta = e->host - page;
	while (first != GIB(4) && page - first < TLB_WINDOW_PAGES / 2 * PAGE_SIZE && goes_on(mmu, set, first - PAGE_SIZE, w->delta, writable))
		first -= PAGE_SIZE;
	while (end != GIB(4) && end - page < TLB_WINDOW_PAGES / 2 * PAGE_SIZE && goes_on(mmu, set, end, w->delta, writable))
		end += PAGE_SIZE;
	set_run(mmu, set, n, first, end - first, writable);
	w->credit = w->granted = end - first == PAGE_SIZE ? CREDIT_ALONE : CREDIT_LEAST + (int32_t)((end - first) / PAGE_SIZE);
	mmu->counters.tlb_windows_made++;
	return spent;
}

void mmu_window_grow(struct mmu *mmu, enum tlb_set set, unsigned n, uint64_t va)
{
	const struct tlb_window *w = &mmu->window[set][n];
	const uint64_t page = va & PAGE_MASK, length = tlb_window_length(w);
	const bool writable = w->limit[0][1], before = page + PAGE_SIZE == w->base;

	if (length && (before || page - w->base == length) && (before ? w->base : page) != GIB(4) && goes_on(mmu, set, page, w->delta, writable) && length < TLB_WINDOW_PAGES * PAGE_SIZE)
		set_run(mmu, set, n, before ? page : w->base, length + PAGE_SIZE, writable);
}
