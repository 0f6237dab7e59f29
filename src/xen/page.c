/*
 * page.c - references and types of frames (page.h): who takes them, what becomes of a frame when they go, and the undo queue.
 */
#include "xen/page.h"

#include <errno.h>
#include <sys/mman.h>

#include "mmu/direct.h"
#include "xen/abi.h"

#define REFS_MAX (~0u - 8)	/* XSA-280: a count never wraps */

int pv_pages_init(struct pv_pages *pages, struct memory *memory, const uint64_t *l4_slot)
{
	void *p;

	*pages = (struct pv_pages){ .memory = memory, .frames = memory->pool.frames, .l4_slot = l4_slot, .clock = 1, .budget = PV_BUDGET, .round = PV_BUDGET };
	p = mmap(NULL, pages->frames * sizeof(struct pv_page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	pages->page = p;
	return 0;
}

void pv_pages_destroy(struct pv_pages *pages)
{
	if (pages->page)
		munmap(pages->page, pages->frames * sizeof(struct pv_page));
	pages->page = NULL;
}

void pv_pages_add_mmu(struct pv_pages *pages, struct mmu *mmu)
{
	ASSERT(pages->mmus < PV_MMUS_MAX);
	pages->mmu[pages->mmus] = mmu;
	pages->flushed[pages->mmus++] = ++pages->clock;
}

void pv_flush_noted(struct pv_pages *pages, const struct mmu *mmu)
{
	for (unsigned i = 0; i < pages->mmus; i++)
		if (pages->mmu[i] == mmu)
			pages->flushed[i] = ++pages->clock;
}

void pv_page_join(struct pv_pages *pages, mfn_t m, bool fixed)
{
	struct pv_page *p = &pages->page[m.v];

	ASSERT(m.v < pages->frames && !p->refs && !p->flags);
	*p = (struct pv_page){ .refs = 1, .flags = PV_OWNED };
	pages->owned++;
	if (fixed) {
		p->flags |= PV_FIXED;
		p->type = PV_WRITABLE;
		p->refs++;
		p->type_count = 1;
	}
}

void pv_voided(struct pv_pages *pages, bool around)
{
	for (unsigned i = 0; around && i < pages->mmus; i++) {
		mmu_flush_all(pages->mmu[i]);
		pages->flushed[i] = ++pages->clock;
	}
}

/* The last reference has gone. Whoever may still know the frame is flushed before anybody gets it (P5). */
static void left(struct pv_pages *pages, mfn_t m)
{
	struct pv_page *p = &pages->page[m.v];

	ASSERT(!p->type_count && !(p->flags & (PV_PARTIAL | PV_VALIDATED | PV_PINNED)));
	for (unsigned i = 0; i < pages->mmus; i++) {
		if (p->stamp < pages->flushed[i])
			continue;
		mmu_flush_all(pages->mmu[i]);
		pages->flushed[i] = ++pages->clock;
		pages->counters.type_flushes++;
	}
	*p = (struct pv_page){ 0 };
	pages->counters.frames_left++;
	memory_leave_frame(pages->memory, m);
	pv_voided(pages, !pool_frame(&pages->memory->pool, m)->serial);
}

int pv_page_leave(struct pv_pages *pages, mfn_t m)
{
	if (!pv_page_owned(pages, m) || (pages->page[m.v].flags & PV_FIXED))
		return -XEN_EINVAL;
	/* Once it is not the domain's, nobody could take the pin away. */
	if (pages->page[m.v].flags & PV_PINNED)
		pv_unpin(pages, m);
	pages->page[m.v].flags &= (uint8_t)~PV_OWNED;
	pages->owned--;
	pv_put(pages, m);
	return 0;
}

int pv_get(struct pv_pages *pages, mfn_t m)
{
	if (!pv_page_owned(pages, m))
		return -XEN_EINVAL;
	if (pages->page[m.v].refs >= REFS_MAX)
		return -XEN_EBUSY;
	pages->page[m.v].refs++;
	return 0;
}

void pv_put(struct pv_pages *pages, mfn_t m)
{
	struct pv_page *p = &pages->page[m.v];

	ASSERT(p->refs);
	if (!--p->refs)
		left(pages, m);
}

static void queue_undo(struct pv_pages *pages, mfn_t m)
{
	struct pv_page *p = &pages->page[m.v];

	ASSERT((p->flags & PV_PARTIAL) && !(p->flags & (PV_UNDO | PV_BUSY)) && !p->type_count);
	p->flags |= PV_UNDO;
	p->next = pages->undo;
	pages->undo = (uint32_t)m.v + 1;
}

static void untyped(struct pv_pages *pages, mfn_t m)
{
	pages->page[m.v].type = PV_NONE;
	track_clear(&pages->memory->track, m, FRAME_PV_TYPE);
}

bool pv_ready(struct pv_pages *pages)
{
	while (pages->undo) {
		mfn_t m = mfn(pages->undo - 1);
		struct pv_page *p = &pages->page[m.v];

		/* Off the queue first: what its entries let go of is queued meanwhile. */
		pages->undo = p->next;
		p->flags &= (uint8_t)~PV_UNDO;
		while (p->done) {
			uint64_t entry;

			if (!pages->budget) {
				queue_undo(pages, m);
				pages->counters.preemptions++;
				return false;
			}
			pages->budget--;
			pages->counters.undone_entries++;
			entry = pv_table(pages, m)[--p->done];
			if ((entry & PTE_P) && !pv_vmm_slot(p->type, p->done))
				pv_put_entry(pages, p->type, entry);
		}
		p->flags &= (uint8_t)~PV_PARTIAL;
		untyped(pages, m);
		pv_put(pages, m);
	}
	return true;
}

/*
 * The frame is about to become a table or descriptors: from now on nobody writes to it. The flag first: fills of the TLB honour it, and so does level 2 (mmu/fault.c), which
 * leaves level 1 to be swept (XSA-401, XSA-408: before anything in it is looked at).
 */
static void protect(struct pv_pages *pages, mfn_t m)
{
	track_set(&pages->memory->track, m, FRAME_PV_TYPE);
	for (unsigned i = 0; i < pages->mmus; i++) {
		if (pages->page[m.v].stamp < pages->flushed[i])
			continue;
		mmu_write_protect(pages->mmu[i], m);
		pages->counters.type_flushes++;
	}
}

static int check_descriptors(struct pv_pages *pages, mfn_t m)
{
	uint64_t *descriptor = pv_table(pages, m);

	for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
		if (!pv_check_descriptor(&descriptor[i]))
			return -XEN_EINVAL;
	return 0;
}

/* Gives a frame of type count 0 a type. */
static int take_type(struct pv_pages *pages, mfn_t m, enum pv_type type)
{
	struct pv_page *p = &pages->page[m.v];
	int err;

	if (p->flags & PV_UNDO)
		return -PV_AGAIN;
	if ((p->flags & PV_PARTIAL) && p->type != type) {
		queue_undo(pages, m);
		return -PV_AGAIN;
	}
	if (!(p->flags & PV_PARTIAL)) {
		if (type == PV_WRITABLE) {
			p->type = PV_WRITABLE;
			return 0;
		}
		if (p->refs >= REFS_MAX)
			return -XEN_EBUSY;
		protect(pages, m);
		p->type = (uint8_t)type;
		p->done = 0;
		pages->counters.validations++;
		if (type == PV_SEG_DESC) {
			err = check_descriptors(pages, m);
			track_written(&pages->memory->track, m, 0, PAGE_SIZE);
			if (err)
				untyped(pages, m);
			return err;
		}
		p->flags |= PV_PARTIAL;
		p->refs++;
	}
	p->flags |= PV_BUSY;
	err = pv_validate(pages, m);
	p->flags &= (uint8_t)~PV_BUSY;
	if (!err)
		p->flags = (uint8_t)((p->flags & ~PV_PARTIAL) | PV_VALIDATED);
	else if (err != -PV_AGAIN)
		queue_undo(pages, m);
	return err;
}

int pv_get_type(struct pv_pages *pages, mfn_t m, enum pv_type type)
{
	struct pv_page *p;
	int err = pv_get(pages, m);

	if (err)
		return err;
	p = &pages->page[m.v];
	if (p->flags & PV_BUSY)
		err = -XEN_EINVAL;
	else if (!p->type_count)
		err = take_type(pages, m, type);
	else if (p->type != type)
		err = -XEN_EINVAL;
	else if (p->type_count >= REFS_MAX)
		err = -XEN_EBUSY;
	if (err) {
		pv_put(pages, m);
		return err;
	}
	p->type_count++;
	return 0;
}

void pv_put_type(struct pv_pages *pages, mfn_t m)
{
	struct pv_page *p = &pages->page[m.v];

	ASSERT(p->type_count);
	if (!--p->type_count) {
		if (pv_type_is_table(p->type)) {
			p->flags = (uint8_t)((p->flags & ~PV_VALIDATED) | PV_PARTIAL);
			/* At once, not when it is undone: until then its entries stand, but the tables that they name may not. */
			pv_voided(pages, direct_table_left(pages->memory, m));
			queue_undo(pages, m);
		} else if (p->type == PV_SEG_DESC) {
			untyped(pages, m);
		}
	}
	pv_put(pages, m);
}

int pv_pin(struct pv_pages *pages, mfn_t m, enum pv_type type)
{
	int err = pv_get_type(pages, m, type);

	if (err)
		return err;
	if (pages->page[m.v].flags & PV_PINNED) {
		pv_put_type(pages, m);
		return -XEN_EINVAL;
	}
	pages->page[m.v].flags |= PV_PINNED;
	return 0;
}

int pv_unpin(struct pv_pages *pages, mfn_t m)
{
	if (!pv_page_owned(pages, m) || !(pages->page[m.v].flags & PV_PINNED))
		return -XEN_EINVAL;
	pages->page[m.v].flags &= (uint8_t)~PV_PINNED;
	pv_put_type(pages, m);
	return 0;
}

#define ROW(member, help) STAT_ROW(struct pv_counters, member, help)
const struct stat_row pv_stat_rows[] = {
	ROW(validations, "frames that became page tables or descriptor tables"),
	ROW(validated_entries, "page-table entries looked at for that"),
	ROW(undone_entries, "entries whose references were given back since their table is none any more"),
	ROW(preemptions, "times that such work went on in another hypercall"),
	ROW(fast_updates, "table entries changed in A, D and available bits only"),
	ROW(slow_updates, "table entries changed otherwise"),
	ROW(refused_updates, "updates refused"),
	ROW(type_flushes, "TLB flushes because a frame changed its type or left"),
	ROW(frames_left, "frames that left the domain"),
};
const size_t pv_stat_row_count = ARRAY_LEN(pv_stat_rows);
