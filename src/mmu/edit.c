/*
 * edit.c - what each event voids. Guest events follow the manual (Intel SDM vol. 3, "Operations that Invalidate TLBs
 * and Paging-Structure Caches"); all of them are rows of one table.
 */
#include "mmu/direct.h"
#include "mmu/shadow.h"

enum flush {
	F_L1_LOCAL = 1,		/* level 1, of the world that runs: entries that are not global */
	F_L1_ALL = 2,		/* all of them; with F_GLOBALS the other world's too */
	F_SPACE = 4,		/* the named space: everything but global entries */
	F_SPACES = 8,		/* all spaces */
	F_GLOBAL = 16,		/* global entries of level 2, of the world that runs */
	F_PAGE = 32,		/* one page: current space and global, and the current space's paging-structure cache */
	F_FETCH = 64,		/* fetch ids */
	F_TABLES = 128,		/* cached p2m translations */
	F_L1_VOID = 2048,	/* level 1: entries that are void by their frames' serials */
	F_SPACE_PAGE = 256,	/* one page of the named space, not global */
	F_GUEST = 512,		/* the named guest space with its global entries, and what its nested table has said */
	F_NESTS = 1024,		/* what nested tables have said */
	F_GLOBALS = 4096,	/* global entries of all worlds but the one that runs */
};

static const struct event_row { unsigned flush; size_t counter; } event_table[EVENTS] = {
#define ROW(event, flush, member) [event] = { flush, offsetof(struct mmu_counters, member) }
	ROW(EVENT_CR3, F_L1_LOCAL | F_SPACE, flush_cr3),
	ROW(EVENT_CR3_NOFLUSH, F_L1_LOCAL, cr3_noflush),
	/* direct: another root; tables were taken out of trees, of those the kernel's half depends upon, or pages out of tables, code among them */
	ROW(EVENT_ROOT, F_L1_LOCAL, cr3_noflush),
	ROW(EVENT_ROOTS, F_L1_LOCAL | F_SPACES, flush_cr3),
	ROW(EVENT_ROOTS_GLOBAL, F_L1_ALL | F_SPACES | F_GLOBAL, flush_cr3),
	ROW(EVENT_PAGES, F_L1_VOID, flush_frames),
	ROW(EVENT_FETCHED, F_FETCH, flush_frames),
	/* CR0.PG, CR4.PAE/PSE/PGE/PCIDE, EFER.LMA/NXE */
	ROW(EVENT_PAGING_CHANGED, F_L1_ALL | F_SPACES | F_GLOBAL | F_FETCH, flush_cr4),
	/* CR0.WP, CR4.SMEP/SMAP: level 2 keeps rights, not answers */
	ROW(EVENT_RIGHTS_CHANGED, F_L1_ALL | F_FETCH, flush_cr4),
	ROW(EVENT_INVLPG, F_PAGE, flush_invlpg),
	ROW(EVENT_INVPCID_ADDRESS, F_SPACE_PAGE, flush_invpcid),
	ROW(EVENT_INVPCID_CONTEXT, F_SPACE, flush_invpcid),
	ROW(EVENT_INVPCID_ALL_GLOBAL, F_L1_ALL | F_SPACES | F_GLOBAL, flush_invpcid),
	ROW(EVENT_INVPCID_ALL, F_L1_LOCAL | F_SPACES, flush_invpcid),
	/* Usually less will do: edit_frames_changed. */
	ROW(EVENT_P2M, F_L1_ALL | F_SPACES | F_GLOBAL | F_GLOBALS | F_FETCH | F_TABLES, flush_p2m),
	ROW(EVENT_ALL, F_L1_ALL | F_SPACES | F_GLOBAL | F_GLOBALS | F_FETCH | F_TABLES | F_NESTS, flush_cr4),
	/* SVM: one guest's space */
	ROW(EVENT_GUEST, F_GUEST, flush_asid),
	/* ... what EVENT_PAGING_CHANGED and EVENT_INVPCID_ALL_GLOBAL are to a world of one space; no other is touched */
	ROW(EVENT_GUEST_PAGING_CHANGED, F_L1_ALL | F_SPACE | F_GLOBAL, flush_cr4),
	ROW(EVENT_GUEST_INVPCID_ALL, F_L1_ALL | F_SPACE | F_GLOBAL, flush_invpcid),
#undef ROW
};

void edit_event(struct mmu *mmu, enum mmu_event event, unsigned pcid, uint64_t va)
{
	unsigned flush = event_table[event].flush;
	bool current = pcid == mmu->priv->asid.current || pcid == mmu->priv->asid.current_user;

	++*(uint64_t *)((char *)&mmu->counters + event_table[event].counter);
	if (event != EVENT_CR3 && event != EVENT_CR3_NOFLUSH)
		trace_event(mmu->trace, TRACE_CAT_FLUSH, TRACE_FLUSH, (uint32_t)event_table[event].counter, pcid, va);
	if (flush & F_GLOBALS)
		tlb1_clear(mmu);
	else if (flush & F_L1_ALL)
		tlb1_clear_world(mmu, mmu->world);
	else if ((flush & F_L1_LOCAL) || ((flush & F_SPACE) && current))
		tlb1_clear_local(mmu);
	if (flush & F_L1_VOID)
		tlb1_drop_void(mmu);
	if (flush & F_SPACES)
		asid_flush_all_local(mmu);
	if (flush & F_SPACE)
		asid_flush(mmu, pcid);
	if (flush & F_GLOBAL)
		asid_flush_global(mmu);
	if (flush & F_FETCH) {
		asid_new_fetch_ids(mmu);
		asid_switch(mmu, mmu->priv->asid.current);
	}
	if (flush & F_GLOBALS)
		asid_flush_other_globals(mmu);
	if (flush & F_GUEST) {
		tlb1_clear_world(mmu, TLB_WORLD); /* perhaps another guest's: no matter */
		asid_flush_guest(mmu, pcid - PCIDS);
	}
	if (flush & (F_GUEST | F_NESTS))
		nest_void(mmu, flush & F_NESTS ? ALL_GUESTS : pcid - PCIDS);
	if (flush & F_TABLES)
		space_forget(&mmu->priv->space);
	if ((flush & F_PAGE) || ((flush & F_SPACE_PAGE) && current)) {
		tlb_invalidate_page(mmu, va);
		asid_new_psc(mmu);
		asid_invalidate_fetched(mmu, va);
	} else if (flush & F_SPACE_PAGE) {
		/* Another space's page: flushing the space whole is allowed, and rare. */
		asid_flush(mmu, pcid);
	}
}

/*
 * What level 2, large or small, and shadow leaves hold is void by the serials in it. Level 1, which generated code probes with one compare, and the nested TLB are
 * swept. Fetch ids go only if code was ever fetched from a frame that was left, and shadows of tables only with their own frames. After a pass of swapping's
 * clock level 1 and fetch ids go whole, so that use shows again.
 */
void edit_frames_changed(struct mmu *mmu)
{
	struct mmu_private *priv = mmu->priv;
	const struct memory *mem = mmu->memory;
	const bool marks = priv->swap_passes != mem->swap.passes;

	if (LIKELY(priv->p2m_generation == mem->p2m_generation && !marks))
		return;
	if (UNLIKELY(priv->serial_epoch != mem->serial_epoch)) {
		edit_event(mmu, EVENT_P2M, 0, 0);
	} else {
		mmu->counters.flush_frames++;
		trace_event(mmu->trace, TRACE_CAT_FLUSH, TRACE_FLUSH, offsetof(struct mmu_counters, flush_frames), 0, 0);
		if (marks)
			tlb1_clear(mmu);
		else
			tlb1_drop_void(mmu);
		space_drop_void(&priv->space);
		if (marks || priv->fetched_left != mem->fetched_left) {
			asid_new_fetch_ids(mmu);
			asid_switch(mmu, priv->asid.current);
		}
	}
	priv->p2m_generation = mem->p2m_generation;
	priv->serial_epoch = mem->serial_epoch;
	priv->fetched_left = mem->fetched_left;
	priv->swap_passes = mem->swap.passes;
	if (paging_has_shadows(mmu->mode))
		shadow_renew(mmu);
}

void mmu_frames_changed(struct mmu *mmu)
{
	memory_lock(mmu->memory);
	edit_frames_changed(mmu);
	memory_unlock(mmu->memory);
}

void edit_controls(struct mmu *mmu, uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	struct walk_controls *c = &mmu->priv->controls;

	mmu->cr0 = cr0;
	mmu->cr4 = cr4;
	mmu->efer = efer;
	c->format = mmu->mode == PAGING_DIRECT ? paging_format_direct() : paging_format_of(cr0, cr4, efer);
	/* With paging off every access is allowed (walk_allowed asks these only). */
	c->wp = c->format && (cr0 & CR0_WP);
	c->smep = c->format && (cr4 & CR4_SMEP);
	c->smap = c->format && (cr4 & CR4_SMAP);
	c->nxe = efer & EFER_NXE;
	c->pge = cr4 & CR4_PGE;
	c->pcide = cr4 & CR4_PCIDE;
	mmu->va_bits = c->format && c->format->levels == 5 ? VA_BITS_5LEVEL : VA_BITS_4LEVEL;
}

/* The space that CR3 names. */
static unsigned space_of(const struct mmu *mmu, uint64_t cr3)
{
	if (UNLIKELY(asid_in_guest(mmu)))
		return mmu->priv->asid.current;
	if (mmu->mode == PAGING_DIRECT)
		return mmu->priv->asid.current;
	return mmu->priv->controls.pcide ? cr3 & CR3_PCID_MASK : 0;
}

void mmu_set_controls(struct mmu *mmu, uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	const uint64_t cr0_paging = CR0_PG, cr4_paging = CR4_PAE | CR4_PSE | CR4_PGE | CR4_PCIDE | CR4_LA57,
		       efer_paging = EFER_LMA | EFER_NXE;
	uint64_t d0 = mmu->cr0 ^ cr0, d4 = mmu->cr4 ^ cr4, de = mmu->efer ^ efer;

	edit_controls(mmu, cr0, cr4, efer);
	if ((d0 & cr0_paging) || (d4 & cr4_paging) || (de & efer_paging)) {
		edit_event(mmu, asid_in_guest(mmu) ? EVENT_GUEST_PAGING_CHANGED : EVENT_PAGING_CHANGED, asid_in_guest(mmu) ? mmu->priv->asid.current : 0, 0);
		asid_switch(mmu, space_of(mmu, mmu->cr3));
	} else if ((d0 & CR0_WP) || (d4 & (CR4_SMEP | CR4_SMAP))) {
		edit_event(mmu, EVENT_RIGHTS_CHANGED, 0, 0);
	}
}

/*
 * Direct: whatever was taken from the guest's tables since the last flush is known to nothing from now on (T8). `kernel`: global entries are to stay, if they can.
 */
static void direct_flush(struct mmu *mmu, bool kernel)
{
	const struct direct_changes now = mmu->memory->direct, *seen = &mmu->priv->direct_seen;

	if (!kernel || now.global != seen->global)
		edit_event(mmu, EVENT_ROOTS_GLOBAL, 0, 0);
	else if (now.tables != seen->tables)
		edit_event(mmu, EVENT_ROOTS, 0, 0);
	if (now.pages != seen->pages)
		edit_event(mmu, EVENT_PAGES, 0, 0);
	if (now.fetched != seen->fetched)
		edit_event(mmu, EVENT_FETCHED, 0, 0);
	mmu->priv->direct_seen = now;
}

static void direct_set_root(struct mmu *mmu, uint64_t *root, uint64_t cr3, bool user)
{
	const uint64_t old = *root;

	*root = cr3;
	direct_flush(mmu, user || direct_same_kernel(mmu, old, cr3));
	if (old == cr3)
		return;
	edit_event(mmu, EVENT_ROOT, 0, 0);
	asid_set_root(mmu, cr3, user);
}

void mmu_set_cr3(struct mmu *mmu, uint64_t cr3)
{
	bool noflush = mmu->priv->controls.pcide && (cr3 & CR3_NOFLUSH);
	unsigned pcid = space_of(mmu, cr3);

	trace_event(mmu->trace, TRACE_CAT_CR3, TRACE_CR3, noflush, cr3 & ~CR3_NOFLUSH, mmu->cr3);
	if (mmu->mode == PAGING_DIRECT) {
		direct_set_root(mmu, &mmu->cr3, cr3, false);
		return;
	}
	mmu->cr3 = cr3 & ~CR3_NOFLUSH;
	edit_event(mmu, noflush && !asid_in_guest(mmu) ? EVENT_CR3_NOFLUSH : EVENT_CR3, pcid, 0);
	asid_switch(mmu, pcid);
}

void mmu_set_user_cr3(struct mmu *mmu, uint64_t cr3)
{
	ASSERT(mmu->mode == PAGING_DIRECT);
	direct_set_root(mmu, &mmu->user_cr3, cr3, true);
}

void mmu_flush_local(struct mmu *mmu) { direct_flush(mmu, true); }

void mmu_invlpg(struct mmu *mmu, gva_t va)
{
	/* A non-canonical address does nothing. */
	if (mmu_canonical(mmu, va.v))
		edit_event(mmu, EVENT_INVLPG, mmu->priv->asid.current, va.v);
}

void mmu_invpcid(struct mmu *mmu, unsigned type, uint16_t pcid, gva_t va)
{
	static const enum mmu_event event[] = {
		[INVPCID_ADDRESS] = EVENT_INVPCID_ADDRESS, [INVPCID_CONTEXT] = EVENT_INVPCID_CONTEXT,
		[INVPCID_ALL_GLOBAL] = EVENT_INVPCID_ALL_GLOBAL, [INVPCID_ALL] = EVENT_INVPCID_ALL,
	};

	ASSERT(type < ARRAY_LEN(event) && pcid < PCIDS);
	/* The instruction takes any address that the processor could have; under fewer levels nothing can be cached for some of them. */
	if (type == INVPCID_ADDRESS && !mmu_canonical(mmu, va.v))
		return;
	if (UNLIKELY(asid_in_guest(mmu)))
		edit_event(mmu, type == INVPCID_ALL_GLOBAL ? EVENT_GUEST_INVPCID_ALL : EVENT_INVPCID_CONTEXT, mmu->priv->asid.current, 0);
	else
		edit_event(mmu, event[type], pcid, va.v);
}

void mmu_flush_all(struct mmu *mmu) { edit_event(mmu, EVENT_ALL, 0, 0); }
