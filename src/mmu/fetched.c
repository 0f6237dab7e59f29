/*
 * fetched.c - fetch ids of SVM's guest spaces that were flushed, and get back what went by them.
 *
 * A hypervisor that shadows its guest's tables flushes an ASID 30,000 times while a Linux boots, and hardly ever has the kernel's code moved in between. So what was fetched under an id
 * is written down: an id is only a name for these pages. A flush ends the id as ever (asid.c). When something is fetched in the space again, walks made now tell whether
 * all pages of an id that was in force here before are still as they were; then it is in force again, and with it the jump tables that are keyed by it. That is as if the processor
 * had read these translations ahead: it may do so for tables whose A bits are set, and no others are taken.
 *
 * Only where one walk a page is enough: not for spaces with nested tables, whose hypervisors seldom flush them.
 */
#include "mmu/mmu_internal.h"

#define IS_LARGE 1ull		/* in va: an entry of 2 MiB */
#define TOO_MANY (FETCH_SET_PAGES + 1)
#define TRIES 2

static bool applies(const struct mmu *mmu)
{
	const struct paging_format *f = mmu->priv->controls.format;

	return asid_in_guest(mmu) && !mmu->priv->tables->nest && f && f->levels >= 4 && tune_on(mmu->memory->tune, TUNE_FETCH_SETS);
}

void fetched_begin(struct mmu *mmu, uint32_t id, bool user)
{
	struct asid *a = &mmu->priv->asid;
	struct fetch_set *least = a->fetch_set;

	if (!applies(mmu))
		return;
	for (struct fetch_set *s = a->fetch_set; s < a->fetch_set + FETCH_SETS; s++)
		if (s->used < least->used)
			least = s;
	least->id = id;
	least->space = a->current;
	least->user = user;
	least->root = mmu->cr3;
	least->used = ++a->fetch_clock;
	least->pages = 0;
}

void fetched_note(struct mmu *mmu, uint64_t va, bool user, uint64_t data, bool large)
{
	struct asid *a = &mmu->priv->asid;
	struct fetch_set *s = a->fetch_set;

	while (s < a->fetch_set + FETCH_SETS && s->id != mmu->fetch_id[user])
		s++;
	if (s == a->fetch_set + FETCH_SETS)
		return;
	s->used = ++a->fetch_clock;
	/* What is global to the guest is not the space's alone. */
	if (!data || (data & PTE_G) || !applies(mmu))
		s->pages = TOO_MANY;
	if (large) {
		data = (data & ~(TR_SERIAL_MASK | TR_MFN_MASK)) | tr_name(mmu->memory, mfn(tr_mfn(data).v - (va >> PAGE_SHIFT & 511)));
		va = (va & ~(MIB(2) - 1)) | IS_LARGE;
	} else {
		va &= PAGE_MASK;
	}
	for (unsigned i = 0; i < s->pages && s->pages <= FETCH_SET_PAGES; i++)
		if (s->page[i].va == va)
			return;
	if (s->pages < FETCH_SET_PAGES)
		s->page[s->pages++] = (struct fetched_page){ va, data };
	else
		s->pages = TOO_MANY;
}

/* Does a fetch from the page, made now, find what it found then, without setting a bit? Lock held. */
static bool is_as_it_was(struct mmu *mmu, const struct fetched_page *p, bool user)
{
	const struct walk_controls *c = &mmu->priv->controls;
	const uint64_t va = p->va & PAGE_MASK;
	struct p2m_entry frame;
	struct walk w;

	walk_start(c, mmu->cr3, &w);
	if (walk_tables(c, &mmu->priv->looking, va, ACC_EXEC | (user ? ACC_USER : 0), &w) != WALK_OK || (w.rights & PTE_G))
		return false;
	for (unsigned level = c->format->levels; level >= w.level; level--)
		if (!(w.step[level].entry & PTE_A))
			return false;
	if ((p->data & (TR_GUEST_2M | TR_GUEST_HUGE)) != (w.shift == PAGE_SHIFT ? 0 : w.shift == 21 ? TR_GUEST_2M : TR_GUEST_HUGE))
		return false;
	if (!p2m_lookup(mmu->memory, gpa(w.page.v + (va & ((1ull << w.shift) - 1))), &frame) || ((p->va & IS_LARGE) && frame.shift != 21))
		return false;
	return !((tr_name(mmu->memory, frame.m) ^ p->data) & (TR_MFN_MASK | TR_SERIAL_MASK)) && !(pool_frame(&mmu->memory->pool, frame.m)->flags & FRAME_SHARED);
}

static bool are_as_they_were(struct mmu *mmu, const struct fetch_set *s)
{
	for (unsigned i = 0; i < s->pages; i++)
		if (!is_as_it_was(mmu, &s->page[i], s->user))
			return false;
	return true;
}

uint32_t fetched_revive(struct mmu *mmu, bool user)
{
	struct asid *a = &mmu->priv->asid;
	uint32_t id = 0;

	if (!applies(mmu))
		return 0;
	memory_lock(mmu->memory);
	for (unsigned tries = 0; tries < TRIES && !id; tries++) {
		struct fetch_set *best = NULL;

		for (struct fetch_set *s = a->fetch_set; s < a->fetch_set + FETCH_SETS; s++)
			if (s->id && s->space == a->current && s->user == user && s->pages <= FETCH_SET_PAGES && (!user || s->root == mmu->cr3) &&
			    (!best || s->used > best->used))
				best = s;
		if (!best)
			break;
		if (are_as_they_were(mmu, best)) {
			best->used = ++a->fetch_clock;
			id = best->id;
			mmu->counters.fetch_ids_revived++;
		} else {
			best->id = 0;
		}
	}
	memory_unlock(mmu->memory);
	return id;
}

void fetched_forget(struct mmu *mmu, bool user, bool kernel)
{
	struct asid *a = &mmu->priv->asid;

	for (struct fetch_set *s = a->fetch_set; s < a->fetch_set + FETCH_SETS; s++)
		if (s->user ? user : kernel)
			s->id = 0;
}
