/*
 * audit.c - checks every numbered invariant of docs/mmu.md (M, T, S) against the tables as they are now. Cold: uses libc.
 */
#include <stdio.h>

#include "mmu/shadow.h"

#define FAIL(...) return snprintf(msg, size, __VA_ARGS__)

/* What it holds is void, so that nobody finds it. Of a frame beyond the pool the audit is to complain. */
static bool is_void(const struct mmu *mmu, uint64_t data)
{
	return tr_mfn(data).v < mmu->memory->pool.frames && !tr_good(mmu->memory, data);
}

/* A frame that something of ours maps: handed out, and the p2m's frame for the gfn in its record. */
static int audit_frame(const struct mmu *mmu, const char *what, uint64_t va, mfn_t m, char *msg, size_t size)
{
	const struct frame *f;
	struct p2m_entry e;

	if (m.v >= mmu->memory->pool.frames)
		FAIL("%s: va %#lx maps frame %#lx beyond the pool", what, va, m.v);
	f = pool_frame(&mmu->memory->pool, m);
	if (!(f->flags & FRAME_ALLOCATED))
		FAIL("%s: va %#lx maps frame %#lx, which is free", what, va, m.v);
	/* In the direct mode the guest says which gfn a frame is, and it matters to nobody else. */
	if (mmu->mode == PAGING_DIRECT)
		return 0;
	/* Of a shared frame, one of its pages; that all are on it is M2. */
	if (!p2m_lookup(mmu->memory, gpa(f->gfn << PAGE_SHIFT), &e) || e.m.v != m.v)
		FAIL("%s: va %#lx maps frame %#lx, not the frame of its gfn %#lx", what, va, m.v, f->gfn);
	return 0;
}

/*
 * T8, direct mode: what is cached is what the tables say, and no more rights. Level 2 is exact but for tables taken out of trees, level 1 with the next flush.
 */
static int audit_direct_entry(struct mmu *mmu, unsigned tlb, uint64_t root, uint64_t va, uint64_t data, char *msg, size_t size)
{
	const struct direct_changes *now = &mmu->memory->direct, *seen = &mmu->priv->direct_seen;
	struct walk_space space = mmu->priv->space;
	struct mmu_counters counters = { 0 };
	struct walk w;
	mfn_t m;

	if (now->tables != seen->tables || now->global != seen->global || (tlb == 1 && now->pages != seen->pages))
		return 0;
	space.look_only = true;
	space.counters = &counters;
	if (direct_walk(mmu, &space, root, va, ACC_READ | ACC_IMPLICIT, &w, &m) != WALK_OK || m.v != tr_mfn(data).v)
		FAIL("T8: level %u: va %#lx under root %#lx is frame %#lx, the tables say otherwise", tlb, va, root, tr_mfn(data).v);
	if ((data & ~w.rights & (PTE_W | PTE_U | PTE_D)) || (w.rights & ~data & PTE_NX))
		FAIL("T8: level %u: va %#lx under root %#lx has rights %#lx, the tables say %#lx", tlb, va, root, (uint64_t)(data & RIGHTS_MASK), w.rights);
	return 0;
}

/* Direct mode: the root that the space of that id stands for, in force or kept; 0: nobody will find anything in it. */
static uint64_t direct_root_of(struct mmu *mmu, uint32_t id)
{
	const struct asid *a = &mmu->priv->asid;

	if (id == a->global_id || id == asid_of(mmu, false)->id)
		return mmu->cr3;
	if (id == asid_of(mmu, true)->id)
		return mmu->user_cr3;
	for (unsigned i = 0; i < DIRECT_NO_ROOT; i++)
		if (a->of[i].id == id && id >= a->floor_id && a->direct[i].serial == pool_frame(&mmu->memory->pool, mfn(a->direct[i].root >> PAGE_SHIFT))->serial)
			return a->direct[i].root;
	return 0;
}

static int audit_level1(struct mmu *mmu, unsigned set, unsigned i, char *msg, size_t size)
{
	const struct tlb_entry *e = &mmu->l1[set][i];
	mfn_t m = tr_mfn(e->aux);
	const struct tlb1 *t = &mmu->priv->tlb1[set];
	bool local = (t->local[i / 64] >> (i % 64) & 1) && (t->local_words[i / 64 / 64] >> (i / 64 % 64) & 1);
	const bool here = set / TLB_WORLD * TLB_WORLD == mmu->world; /* else what it may follows from registers that are not in force */
	bool may_write = !here || (e->aux & PTE_W) || (!tlb_set_is_user(set) && !mmu->priv->controls.wp);
	const unsigned first = tlb1_index(mmu, set, e->tag_read);
	int bad;

	if (e->tag_read == TLB_INVALID_TAG(i)) {
		if (e->tag_write != TLB_INVALID_TAG(i))
			FAIL("T1: set %u slot %u has a write tag but no read tag", set, i);
		return 0;
	}
	if ((here && !mmu_canonical(mmu, e->tag_read)) || (e->tag_read & ~PAGE_MASK) ||
	    (first != i && (!mmu->l1_seconds[set] || tlb1_second(mmu, set, e->tag_read) != i)))
		FAIL("T1: set %u slot %u has tag %#lx", set, i, e->tag_read);
	if (first != i && mmu->l1[set][first].tag_read == e->tag_read)
		FAIL("T1: set %u va %#lx has two entries", set, e->tag_read);
	bad = audit_frame(mmu, "T5", e->tag_read, m, msg, size);
	if (bad)
		return bad;
	/* The direct mode drops it with the next flush (T8). */
	if (!tr_good(mmu->memory, e->aux) && (mmu->mode != PAGING_DIRECT || mmu->memory->direct.pages == mmu->priv->direct_seen.pages))
		FAIL("T5: set %u va %#lx names frame %#lx by an old serial", set, e->tag_read, m.v);
	if (e->host != (uint64_t)(uintptr_t)pool_ptr(&mmu->memory->pool, m))
		FAIL("T5: set %u va %#lx has a host address that is not its frame's", set, e->tag_read);
	if (e->tag_write != TLB_INVALID_TAG(i)) {
		if (e->tag_write != e->tag_read)
			FAIL("T1: set %u slot %u has tags %#lx and %#lx", set, i, e->tag_read, e->tag_write);
		if (!(e->aux & PTE_D) || !may_write)
			FAIL("T2: set %u va %#lx is writable with rights %#lx", set, e->tag_read, e->aux);
		if (pool_frame(&mmu->memory->pool, m)->flags & (FRAME_TRACKED | FRAME_VMM))
			FAIL("T2: set %u va %#lx is writable, its frame %#lx is watched", set, e->tag_read, m.v);
	}
	if (here && !walk_allowed(&mmu->priv->controls, e->aux,
			  ACC_READ | (tlb_set_is_user(set) ? ACC_USER : set % TLB_WORLD == TLB_KERNEL_AC ? ACC_AC : 0)))
		FAIL("T2: set %u va %#lx is readable with rights %#lx", set, e->tag_read, e->aux);
	if (local == !!(e->aux & PTE_G))
		FAIL("T3: set %u va %#lx: global %d, in the list of local ones %d", set, e->tag_read, !local, local);
	return mmu->mode == PAGING_DIRECT ? audit_direct_entry(mmu, 1, tlb_set_is_user(set) ? mmu->user_cr3 : mmu->cr3, e->tag_read, e->aux, msg, size) : 0;
}

static int audit_level2(struct mmu *mmu, const struct tlb2_set *set, bool large, char *msg, size_t size)
{
	for (unsigned w = 0; w < L2_WAYS; w++) {
		if (!set->tag[w]) /* most, and all of them are looked at */
			continue;

		uint32_t id = set->tag[w] & SPACE_ID_MAX;
		uint64_t va = set->tag[w] >> SPACE_BITS << (large ? 21 : PAGE_SHIFT), d = set->data[w];
		const uint64_t root = mmu->mode == PAGING_DIRECT ? direct_root_of(mmu, id) : 0;
		int bad = 0;

		if (!root && id != mmu->priv->asid.global_id && id != asid_of(mmu, false)->id && id != asid_of(mmu, true)->id)
			continue;
		if (is_void(mmu, d))
			continue;
		if (!!(d & PTE_G) != (id == mmu->priv->asid.global_id))
			FAIL("T3: va %#lx is in level 2 as global %d with data %#lx", va, !(d & PTE_G), d);
		for (unsigned k = 0; k < (large ? 512u : 1u) && !bad; k++)
			bad = audit_frame(mmu, "T5", va, mfn(tr_mfn(d).v + k), msg, size);
		if (bad)
			return bad;
		if (large && !(d & (TR_GUEST_2M | TR_GUEST_HUGE)))
			FAIL("T5: va %#lx is a large entry of a small guest page", va);
		/* The tag has no sign. */
		if (va >> 47 & 1)
			va |= ~0ull << 47;
		bad = root ? audit_direct_entry(mmu, 2, root, va, d, msg, size) : 0;
		if (bad)
			return bad;
	}
	return 0;
}

static int audit_stack(struct mmu *mmu, unsigned set, char *msg, size_t size)
{
	const struct tlb_stack *s = tlb1_stack(mmu, set);
	mfn_t m = pool_mfn_of(&mmu->memory->pool, (void *)(uintptr_t)s->host);
	int bad;

	if (!s->limit[0])
		return 0;
	bad = audit_frame(mmu, "T6", s->tag, m, msg, size);
	if (!bad && (pool_frame(&mmu->memory->pool, m)->flags & FRAME_TRACKED))
		FAIL("T6: set %u has a stack entry at va %#lx, its frame %#lx is watched", set, s->tag, m.v);
	return bad;
}

static int audit_spans(struct mmu *mmu, char *msg, size_t size)
{
	int bad = 0;

	for (unsigned i = 0; i < TLB_SPANS && !bad; i++)
		if (mmu->span[i])
			bad = audit_frame(mmu, "T7", 0, pool_mfn_of(&mmu->memory->pool, (void *)(uintptr_t)mmu->span[i]), msg, size);
	return bad;
}

static int audit_window(struct mmu *mmu, unsigned set, unsigned n, char *msg, size_t size)
{
	const struct tlb_window *w = &mmu->window[set][n];
	const uint64_t length = tlb_window_length(w);
	int bad = 0;

	for (unsigned c = 0; c < TLB_WINDOW_CLASSES; c++)
		for (unsigned write = 0; write < 2; write++)
			if (w->limit[c][write] && w->limit[c][write] != length - tlb_window_size[c] + 1)
				FAIL("T9: set %u window %u has a limit of %#lx for %u bytes, its run is %#lx", set, n, w->limit[c][write], tlb_window_size[c], length);
	if (!length)
		return 0;
	if (!mmu->window_live[set][n] || (w->base & ~PAGE_MASK) || (length & ~PAGE_MASK))
		FAIL("T9: set %u window %u at va %#lx is %#lx long, live %u", set, n, w->base, length, mmu->window_live[set][n]);
	for (uint64_t va = w->base; va - w->base < length && !bad; va += PAGE_SIZE) {
		mfn_t m = pool_mfn_of(&mmu->memory->pool, (void *)(uintptr_t)(va + w->delta));

		bad = audit_frame(mmu, "T9", va, m, msg, size);
		if (!bad && w->limit[0][1] && (pool_frame(&mmu->memory->pool, m)->flags & (FRAME_TRACKED | FRAME_VMM)))
			FAIL("T9: set %u window %u is writable at va %#lx, its frame %#lx is watched", set, n, va, m.v);
	}
	return bad;
}

static int audit_tlb(struct mmu *mmu, char *msg, size_t size)
{
	const struct tlb2 *t = &mmu->priv->tlb2;
	int bad = audit_spans(mmu, msg, size);

	for (unsigned s = 0; s < mmu->sets && !bad; s++)
		bad = audit_stack(mmu, s, msg, size);
	for (unsigned s = 0; s < mmu->sets && !bad; s++)
		for (unsigned n = 0; n < TLB_WINDOWS && !bad; n++)
			bad = audit_window(mmu, s, n, msg, size);
	for (unsigned s = 0; s < mmu->sets && !bad; s++)
		for (unsigned i = 0; i < tlb1_entries(mmu, s) && !bad; i++)
			bad = audit_level1(mmu, s, i, msg, size);
	for (unsigned i = 0; i < ARRAY_LEN(t->small) && !bad; i++)
		bad = audit_level2(mmu, &t->small[i], false, msg, size);
	for (unsigned i = 0; i < ARRAY_LEN(t->large) && !bad; i++)
		bad = audit_level2(mmu, &t->large[i], true, msg, size);
	return bad;
}

/* S1 and S4 for one entry of a page that stands for a guest table. */
static int audit_entry(struct mmu *mmu, const struct shadow_page *p, unsigned i, char *msg, size_t size)
{
	const struct shadow *s = mmu->memory->shadow;
	const struct paging_format *f = paging_format_of(CR0_PG, CR4_PAE | CR4_LA57, EFER_LMA);
	uint64_t e = p->entry[i], guest = ((const uint64_t *)pool_ptr(&mmu->memory->pool, p->m))[i];
	uint64_t same = PTE_P | PTE_W | PTE_U | PTE_A | PTE_NX, address;
	unsigned level = p->role & ROLE_LEVEL;
	const struct shadow_page *child;

	if (!shadow_is_usable(p->role, guest))
		FAIL("S1: table gfn %#lx level %u entry %u: shadow %#lx of guest %#lx", p->gfn, level, i, e, guest);
	address = paging_leaf_address(f, shadow_is_leaf(p->role, guest) ? level : 1, guest);
	if (shadow_is_leaf(p->role, guest))
		same |= PTE_G;
	if (((e ^ guest) & same) || (shadow_is_leaf(p->role, guest) && (e & ~guest & PTE_D)))
		FAIL("S1: table gfn %#lx level %u entry %u: shadow %#lx of guest %#lx", p->gfn, level, i, e, guest);
	if (level == 1 || (e & PTE_PS)) {
		if (!p2m_maps(mmu->memory, address >> PAGE_SHIFT, tr_mfn(e)))
			FAIL("S1: table gfn %#lx level %u entry %u maps gfn %#lx, guest says %#lx", p->gfn, level, i,
			     pool_frame(&mmu->memory->pool, tr_mfn(e))->gfn, address >> PAGE_SHIFT);
		return 0;
	}
	child = shadow_follow(s, e);
	if (!child)
		return 0;
	if (!child->live || child->gfn != address >> PAGE_SHIFT || (child->role & ROLE_LEVEL) != level - 1 ||
	    !(child->role & ROLE_DIRECT) != !(e & SHADOW_LINK_DIRECT) ||
	    !(e & SHADOW_LINK_DIRECT) != !shadow_is_leaf(p->role, guest) ||
	    (!(child->role & ROLE_DIRECT) && (child->role ^ p->role) & ROLE_NXE))
		FAIL("S4: table gfn %#lx level %u entry %u: guest %#lx, child is gfn %#lx role %#x", p->gfn, level, i, guest,
		     child->gfn, child->role);
	return 0;
}

static int audit_direct(struct mmu *mmu, const struct shadow_page *p, unsigned i, char *msg, size_t size)
{
	const struct shadow *s = mmu->memory->shadow;
	unsigned level = p->role & ROLE_LEVEL;
	uint64_t e = p->entry[i], gfn = p->gfn + ((uint64_t)i << 9 * (level - 1));
	const struct shadow_page *child;

	if (level == 1 || (e & PTE_PS)) {
		if (!p2m_maps(mmu->memory, gfn, tr_mfn(e)))
			FAIL("S2: direct page of gfn %#lx entry %u maps gfn %#lx", p->gfn, i, pool_frame(&mmu->memory->pool, tr_mfn(e))->gfn);
		return 0;
	}
	child = shadow_follow(s, e);
	if (child && (!child->live || child->gfn != gfn || child->role != ((level - 1) | ROLE_DIRECT)))
		FAIL("S4: direct page of gfn %#lx entry %u leads to gfn %#lx role %#x", p->gfn, i, child->gfn, child->role);
	return 0;
}

static int audit_shadow_page(struct mmu *mmu, const struct shadow_page *p, char *msg, size_t size)
{
	unsigned present = 0;

	for (unsigned i = 0; i < SHADOW_ENTRIES; i++) {
		uint64_t e = p->entry[i];
		bool leaf;
		int bad = 0;

		if (!e)
			continue;
		present++;
		leaf = (p->role & ROLE_LEVEL) == 1 || (e & PTE_PS);
		if (leaf && is_void(mmu, e))
			continue;
		if (leaf)
			bad = audit_frame(mmu, "S2", p->gfn, tr_mfn(e), msg, size);
		if (!bad && (p->role & ROLE_DIRECT))
			bad = audit_direct(mmu, p, i, msg, size);
		else if (!bad && !p->loose)
			bad = audit_entry(mmu, p, i, msg, size);
		if (bad)
			return bad;
	}
	if (present != p->present)
		FAIL("S5: page of gfn %#lx role %#x counts %u entries, has %u", p->gfn, p->role, p->present, present);
	return 0;
}

static int audit_shadow(struct mmu *mmu, char *msg, size_t size)
{
	const struct shadow *s = mmu->memory->shadow;
	uint32_t live = 0, free = 0;

	/* Both are repaired before shadow tables are used next. */
	if (s->generation != mmu->memory->p2m_generation || mmu->memory->track.table_writes)
		return 0;
	for (uint32_t i = 0; i < s->made_ever; i++) {
		const struct shadow_page *p = &s->page[i];
		int bad;

		if (!p->live)
			continue;
		live++;
		if (shadow_page_find(s, p->m, p->gfn, p->role) != p)
			FAIL("S5: page of gfn %#lx role %#x is not found by its key", p->gfn, p->role);
		bad = audit_shadow_page(mmu, p, msg, size);
		if (bad)
			return bad;
	}
	for (uint32_t i = s->free_head; i; i = s->page[i - 1].next)
		free++;
	for (uint32_t i = s->parked_head; i; i = s->page[i - 1].next)
		free++;
	if (live != s->live || live + free != s->made_ever || s->made_ever > s->limit)
		FAIL("S5: %u pages live, %u counted, %u free of %u, limit %u", live, s->live, free, s->made_ever, s->limit);
	for (uint64_t m = 0; m < mmu->memory->pool.frames; m++) {
		const struct frame *f = &mmu->memory->pool.frame[m];
		bool tight = false;

		for (uint32_t i = f->shadow_head; i; i = s->page[i - 1].next)
			tight |= !s->page[i - 1].loose;
		if (tight != !!(f->flags & FRAME_TABLE))
			FAIL("S3: frame %#lx (gfn %#lx): tight page %d, flags %#x", m, f->gfn, tight, f->flags);
	}
	return 0;
}

static int audit_locked(struct mmu *mmu, char *msg, size_t size)
{
	/* The direct mode has no p2m: once the guest runs, which frame is which guest page is its own affair. */
	int bad = mmu->mode == PAGING_DIRECT ? 0 : p2m_audit(mmu->memory, msg, size);

	/* What pages have left is dropped before the TLB is used next (edit_frames_changed). */
	if (!bad && mmu->priv->p2m_generation == mmu->memory->p2m_generation)
		bad = audit_tlb(mmu, msg, size);
	if (!bad && paging_has_shadows(mmu->mode))
		bad = audit_shadow(mmu, msg, size);
	return bad;
}

int mmu_audit(struct mmu *mmu, char *msg, size_t size)
{
	int bad;

	memory_lock(mmu->memory);
	bad = audit_locked(mmu, msg, size);
	memory_unlock(mmu->memory);
	return bad;
}
