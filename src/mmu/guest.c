/*
 * guest.c - address spaces of SVM: which of the few guest spaces (asid.c) an ASID has, and the switch of world.
 * Source: AMD APM vol. 2, "TLB Control", "Invalidate Page, Alternate ASID".
 *
 * An ASID's entries may live longer than VMRUN to #VMEXIT, but only as long as the registers that they were made under: with others the space is flushed, so
 * that nothing is ever read in a format that it was not written in.
 */
#include "mmu/mmu_internal.h"

static struct guest_space *find(struct asid *a, uint32_t asid)
{
	for (unsigned i = 0; i < GUEST_SPACES; i++)
		if (a->guest[i].asid == asid)
			return &a->guest[i];
	return NULL;
}

static struct guest_space *least_used(struct asid *a)
{
	struct guest_space *g = a->guest;

	for (unsigned i = 1; i < GUEST_SPACES; i++)
		if (a->guest[i].used < g->used)
			g = &a->guest[i];
	return g;
}

static bool same_nest(const struct guest_nest *a, const struct guest_nest *b)
{
	return a->on == b->on && a->nxe == b->nxe && a->format == b->format && a->root == b->root;
}

void mmu_enter_guest(struct mmu *mmu, uint32_t asid, enum mmu_guest_flush flush, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer,
		     bool nested, uint64_t ncr3)
{
	const struct walk_controls hypervisor = mmu->priv->controls;
	const struct guest_nest nest = nested ? (struct guest_nest){ true, hypervisor.nxe, hypervisor.format, ncr3 & hypervisor.format->root_mask } : (struct guest_nest){ 0 };
	struct asid *a = &mmu->priv->asid;
	struct guest_space *g;
	unsigned space;
	bool same;

	ASSERT(asid && !asid_in_guest(mmu));
	if (flush == GUEST_FLUSH_ALL)
		mmu_flush_all(mmu);
	g = find(a, asid);
	same = g && g->cr0 == cr0 && g->cr3 == cr3 && g->cr4 == cr4 && g->efer == efer && same_nest(&g->nest, &nest);
	if (!g)
		g = least_used(a);
	*g = (struct guest_space){ asid, cr0, cr3, cr4, efer, nest, same ? g->global : (struct global_ids){ 0 }, same ? g->nest_id : 0, ++a->guest_clock };
	space = PCIDS + (unsigned)(g - a->guest);
	mmu->counters.world_switches++;
	tlb1_enter_world(mmu, TLB_WORLD);
	if (a->guest_in_l1 != space - PCIDS) {
		tlb1_clear_world(mmu, TLB_WORLD);
		a->guest_in_l1 = space - PCIDS;
	}
	asid_enter_guest(mmu, space - PCIDS);
	edit_controls(mmu, cr0, cr4, efer);
	mmu->cr3 = cr3;
	if (!same || flush == GUEST_FLUSH_ASID)
		edit_event(mmu, EVENT_GUEST, space, 0);
	nest_set(mmu, &hypervisor, g);
}

void mmu_leave_guest(struct mmu *mmu, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer)
{
	struct asid *a = &mmu->priv->asid;
	struct guest_space *g = &a->guest[a->current - PCIDS];

	ASSERT(asid_in_guest(mmu));
	/* What the guest changed itself has been flushed as it did. */
	g->cr0 = mmu->cr0;
	g->cr3 = mmu->cr3;
	g->cr4 = mmu->cr4;
	g->efer = mmu->efer;
	mmu->counters.world_switches++;
	tlb1_enter_world(mmu, 0);
	asid_leave_guest(mmu, cr4 & CR4_PCIDE ? cr3 & CR3_PCID_MASK : 0);
	nest_set(mmu, NULL, NULL);
	edit_controls(mmu, cr0, cr4, efer);
	mmu->cr3 = cr3;
}

enum mmu_kind mmu_guest_physical(struct mmu *mmu, gpa_t p, unsigned access, gpa_t *out, struct exception *exc)
{
	enum walk_status status;
	struct nest_page n;
	struct walk w;

	ASSERT(mmu->priv->tables->nest);
	memory_lock(mmu->memory);
	edit_frames_changed(mmu);
	status = walk_nest(mmu->priv->tables, p, access, false, &n, &w);
	edit_frames_changed(mmu);
	memory_unlock(mmu->memory);
	if (status == WALK_NEST_FAULT) {
		mmu->counters.nest_faults++;
		*exc = exc_npf(w.nest_p.v, w.nest_error);
		return MMU_NESTED_EXIT;
	}
	*out = gpa(n.page.v + (p.v & ~PAGE_MASK));
	return status == WALK_OK ? MMU_MAPPED : MMU_HOST_ERROR;
}

void mmu_invlpga(struct mmu *mmu, uint32_t asid, gva_t va)
{
	struct asid *a = &mmu->priv->asid;
	struct guest_space *g = asid ? find(a, asid) : NULL;

	if (!asid) {
		if (asid_in_guest(mmu))
			mmu_flush_all(mmu);
		else
			mmu_invlpg(mmu, va);
	} else if (g && (asid_in_guest(mmu) || g->nest.on || !mmu_canonical(mmu, va.v))) {
		/* More than the page, which is allowed. */
		edit_event(mmu, EVENT_GUEST, PCIDS + (unsigned)(g - a->guest), 0);
	} else if (g) {
		/* What its own INVLPG would do. A hypervisor that shadows its guest's tables does it for each page that the guest unmaps, or copies to write to it. */
		const unsigned host = a->current;

		tlb1_enter_world(mmu, TLB_WORLD);
		asid_enter_guest(mmu, (unsigned)(g - a->guest));
		edit_event(mmu, EVENT_INVLPG, a->current, va.v);
		asid_leave_guest(mmu, host);
		tlb1_enter_world(mmu, 0);
	}
}
