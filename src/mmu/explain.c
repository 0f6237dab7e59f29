/*
 * explain.c - follows one address through everything that maps or caches it, and changes nothing (explain.h).
 *
 * The guest's tables are read by the one walker, in a space that only looks; whether rights allow an access is asked of the one rule. What
 * is repeated here is only the order in which fault.c asks: level 1, level 2, the mode's own tables.
 */
#include "mmu/explain.h"

#include "mmu/shadow.h"
#include "mmu/tlb_lookup.h"

/* Direct: a machine address, as entries hold them. */
static void look_frame(struct mmu *mmu, gpa_t machine, struct explain_nested *out)
{
	const mfn_t m = mfn(machine.v >> PAGE_SHIFT);
	const struct pool *pool = &mmu->memory->pool;
	const struct frame *f = m.v < pool->frames ? &pool->frame[m.v] : NULL;

	*out = (struct explain_nested){ .p = gpa(~0ull), .m = m, .shift = PAGE_SHIFT, .bottom = 1 };
	out->ram = out->backed = f && (f->flags & FRAME_ALLOCATED);
	if (!out->ram)
		return;
	out->read_only = f->flags & FRAME_READ_ONLY;
	out->watched = f->flags & FRAME_TRACKED;
	if (f->gfn != ~0ull)
		out->p = gpa(f->gfn << PAGE_SHIFT);
}

/* The hypervisor's table, by a read; false: it does not map p. */
static bool look_nest(struct walk_space *space, gpa_t *p, struct explain_nested *out)
{
	const struct paging_format *f = space->nest->controls.format;
	enum walk_status status;
	struct walk w;

	out->l2 = *p;
	out->nest_top = f->levels;
	walk_start(&space->nest->controls, space->nest->root, &w);
	status = walk_tables(&space->nest->controls, space->below, p->v, ACC_READ | ACC_USER, &w);
	out->nest_bottom = w.level;
	for (unsigned level = f->levels; level >= w.level; level--)
		out->nest[level] = (struct explain_nest){ gpa(w.step[level].table.v + w.step[level].index * f->entry_bytes), w.step[level].table_m, w.step[level].entry };
	if (status != WALK_OK)
		return false;
	*p = gpa(w.page.v + (p->v & ((1ull << w.shift) - 1)));
	return true;
}

static void look_nested(struct mmu *mmu, struct walk_space *space, gpa_t p, struct explain_nested *out)
{
	if (space->nest && !look_nest(space, &p, out)) {
		out->p = gpa(~0ull);
		out->m = MFN_NONE;
		return;
	}
	if (mmu->mode == PAGING_DIRECT) {
		look_frame(mmu, p, out);
		return;
	}
	struct p2m_entry e;

	out->p = p;
	out->ram = memory_is_ram(mmu->memory, p);
	out->bottom = p2m_path(mmu->memory, p, out->entry);
	out->top = P2M_LEVELS;
	out->backed = p2m_lookup(mmu->memory, p, &e);
	out->swapped = p2m_is_swapped(mmu->memory, p);
	out->m = out->backed ? e.m : MFN_NONE;
	out->shift = out->backed ? e.shift : 0;
	out->watched = out->backed ? pool_frame(&mmu->memory->pool, e.m)->flags & FRAME_TRACKED : 0;
}

static enum walk_status look_walk(struct mmu *mmu, struct walk_space *space, const struct explain *x, unsigned access, struct walk *w)
{
	mfn_t m;

	if (x->direct)
		return direct_walk(mmu, space, x->cr3, x->va, access, w, &m);
	walk_start(&mmu->priv->controls, x->cr3, w);
	return walk_tables(&mmu->priv->controls, space, x->va, access, w);
}

/* The tables as they are. Reads by the kernel with AC set are refused by nothing but absent or malformed entries. */
static void look_tables(struct mmu *mmu, struct walk_space *space, struct explain *x)
{
	const struct paging_format *f = x->format;
	struct walk w;
	bool ok = look_walk(mmu, space, x, ACC_READ | ACC_AC, &w) == WALK_OK;

	for (unsigned level = f->levels; level >= w.level; level--) {
		struct explain_step *s = &x->step[x->steps++];

		s->level = (uint8_t)level;
		s->entry = w.step[level].entry;
		s->leaf = ok && level == w.level;
		s->at = gpa(w.step[level].table.v + w.step[level].index * f->entry_bytes);
		/* PAE's top table lies within a page. */
		if (level == f->levels)
			s->at.v += x->cr3 & f->root_mask & (PAGE_SIZE - 1);
		look_nested(mmu, space, w.step[level].table, &s->table);
		if (s->table.nest_top)
			x->refs_nest += s->table.nest_top - s->table.nest_bottom + 1u;
		if (x->direct && level == 1 && (s->entry & PTE_P)) {
			struct explain_nested page;

			look_frame(mmu, gpa(s->entry & TR_MFN_MASK), &page);
			s->leads_out = !page.ram;
		}
		x->refs_guest++;
		x->refs_nested += x->direct || !s->table.top ? 0 : s->table.top - s->table.bottom + 1u;
	}
	if (!ok)
		return;
	x->mapped = true;
	x->rights = w.rights;
	x->shift = w.shift;
	x->p = gpa(w.page.v + (x->va & ((1ull << w.shift) - 1)));
	look_nested(mmu, space, gpa(x->p.v & PAGE_MASK), &x->page);
	if (space->nest) {
		x->refs_nest += x->page.nest_top - x->page.nest_bottom + 1u;
		x->p = gpa(x->page.p.v | (x->va & (PAGE_SIZE - 1)));
	}
	if (x->direct)
		x->p = gpa(x->page.p.v | (x->va & (PAGE_SIZE - 1)));
	x->refs_nested += x->direct || !x->page.top ? 0 : x->page.top - x->page.bottom + 1u;
}

/* The shadow entries that stand for it. The frame that they lead to, with the rights that they give; or none. */
static mfn_t look_shadow(struct mmu *mmu, struct explain *x, uint64_t *rights)
{
	const struct shadow *s = mmu->memory->shadow;
	uint32_t role = x->format->levels | (mmu->priv->controls.nxe ? ROLE_NXE : 0);
	uint64_t root = x->cr3 & x->format->root_mask;
	const struct shadow_page *p;
	struct p2m_entry frame;
	bool split = false;

	x->shadow_void = s->generation != mmu->memory->p2m_generation || s->parked_head || mmu->memory->track.table_writes;
	p = p2m_lookup(mmu->memory, gpa(root), &frame) ? shadow_page_find(s, frame.m, root >> PAGE_SHIFT, role) : NULL;
	*rights = PTE_W | PTE_U;
	for (unsigned level = x->format->levels; p && !x->shadow_void; level--) {
		unsigned i = (unsigned)(x->va >> (PAGE_SHIFT + 9 * (level - 1))) & (SHADOW_ENTRIES - 1);
		struct explain_shadow *e = &x->shadow[x->shadows++];
		bool leaf;

		*e = (struct explain_shadow){ .level = (uint8_t)level, .page = shadow_index(s, p), .role = p->role, .loose = p->loose,
			.direct = p->role & ROLE_DIRECT, .gfn = p->gfn, .entry = p->entry[i] };
		if (!(e->entry & PTE_P))
			return MFN_NONE;
		leaf = level == 1 || (e->entry & PTE_PS);
		if (leaf && (!tr_good(s->memory, e->entry) || (p->loose && !shadow_still_true(s, p, i)))) {
			e->stale = true;
			return MFN_NONE;
		}
		/* As in shadow.c: D and G of a split large page are in the link to its first direct table. */
		if (!split && (leaf || (e->entry & SHADOW_LINK_DIRECT)))
			*rights |= e->entry & (PTE_D | PTE_G);
		split |= !leaf && (e->entry & SHADOW_LINK_DIRECT);
		*rights = (*rights & (e->entry | ~(PTE_W | PTE_U))) | (e->entry & PTE_NX);
		if (leaf)
			return mfn(((e->entry & TR_MFN_MASK) + (level == 2 ? x->va & (MIB(2) - PAGE_SIZE) : 0)) >> PAGE_SHIFT);
		p = shadow_follow(s, e->entry);
	}
	return MFN_NONE;
}

static void note_tlb2(const struct memory *mem, struct explain *x, const struct tlb2_set *set, uint64_t tag, bool large, uint32_t id)
{
	int w = tlb2_way(set, tag);
	struct explain_tlb2 *e;
	uint64_t data;

	if (w < 0 || !id || !tr_good(mem, set->data[w]))
		return;
	data = set->data[w] + (large ? x->va & (MIB(2) - PAGE_SIZE) : 0);
	e = &x->tlb2[x->tlb2s++];
	*e = (struct explain_tlb2){ .large = large, .global = data & PTE_G, .write = data & PTE_W, .user = data & PTE_U, .nx = data & PTE_NX,
		.dirty = data & PTE_D, .id = id, .m = mfn((data & TR_MFN_MASK) >> PAGE_SHIFT) };
}

static void look_tlb(struct mmu *mmu, struct explain *x)
{
	struct tlb2 *t = &mmu->priv->tlb2;
	const uint32_t id[2] = { x->space_id, mmu->priv->asid.global_id };

	for (unsigned s = 0; s < TLB_WORLD; s++) {
		const struct tlb_entry *e = tlb1_find(mmu, mmu->world + s, x->va);
		const struct tlb_stack *stack = tlb1_stack(mmu, mmu->world + s);

		/* What is not global in level 1 belongs to the current space. */
		if (e->tag_read != (x->va & PAGE_MASK) || !(x->current || (e->aux & PTE_G)) || (s == TLB_USER ? x->for_kernel : x->for_user))
			continue;
		x->tlb1[s] = (struct explain_tlb1){ true, e->tag_write == e->tag_read, e->aux & PTE_G,
						    mfn((e->aux & TR_MFN_MASK) >> PAGE_SHIFT) };
		x->stack[s] = stack->limit[0] && stack->tag == e->tag_read;
	}
	for (unsigned k = 0; k < 2; k++) {
		uint64_t tag = tlb2_large_tag(x->va, id[k]);

		/* In the order of tlb2_find_id. */
		note_tlb2(mmu->memory, x, tlb2_large_set(t, tag), tag, true, id[k]);
		tag = tlb2_small_tag(x->va, id[k]);
		note_tlb2(mmu->memory, x, tlb2_small_set(t, tag), tag, false, id[k]);
	}
	for (unsigned user = 0; user < 2; user++) {
		uint64_t page = x->va & PAGE_MASK;
		const struct fetch_entry *e = &mmu->priv->fetch[(x->va >> PAGE_SHIFT ^ mmu->fetch_id[user] * 29) & (FETCH_CACHE - 1)];

		x->fetched[user] = x->current && !(user ? x->for_kernel : x->for_user) && mmu->fetch_id[user] && e->tag == FETCH_TAG(page, mmu->fetch_id[user]) && (e->data & 1) == user;
	}
}

/* The level-2 entry that an access would be judged by, in the order of tlb2_find. */
static const struct explain_tlb2 *cached_entry(const struct explain *x)
{
	const bool upper = x->va >> 63;

	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < x->tlb2s; i++)
			if (x->tlb2[i].global == (pass == 0 ? upper : !upper))
				return &x->tlb2[i];
	return NULL;
}

static uint64_t tlb2_rights(const struct explain_tlb2 *e)
{
	return (e->write ? PTE_W : 0) | (e->user ? PTE_U : 0) | (e->nx ? PTE_NX : 0) | (e->dirty ? PTE_D : 0);
}

/* As in fault.c: a cached write needs D. */
static bool rights_serve(const struct walk_controls *c, uint64_t rights, unsigned access)
{
	return walk_allowed(c, rights, access) && (!(access & ACC_WRITE) || (rights & PTE_D));
}

/* The entry, from the top, that denies it first. */
static uint8_t denying_level(const struct explain *x, uint64_t bit, bool set)
{
	for (unsigned i = 0; i < x->steps; i++)
		if (!(x->step[i].entry & bit) == !set)
			return x->step[i].level;
	return 0;
}

/* Why a leaf's rights do not allow an access: the one change that would make the rule allow it. */
static void blame_rights(const struct mmu *mmu, const struct explain *x, struct explain_access *a)
{
	struct walk_controls c = mmu->priv->controls;

	if ((a->access & ACC_EXEC) && (x->rights & PTE_NX)) {
		a->cause = CAUSE_NO_EXEC;
		a->level = denying_level(x, PTE_NX, true);
		return;
	}
	if ((a->access & ACC_USER) && !(x->rights & PTE_U)) {
		a->cause = CAUSE_NOT_USER;
		a->level = denying_level(x, PTE_U, false);
		return;
	}
	c.smep = false;
	if (walk_allowed(&c, x->rights, a->access)) {
		a->cause = CAUSE_SMEP;
		return;
	}
	c.smap = false;
	if (walk_allowed(&c, x->rights, a->access)) {
		a->cause = CAUSE_SMAP;
		return;
	}
	a->cause = CAUSE_NOT_WRITABLE;
	a->level = denying_level(x, PTE_W, false);
}

static void blame(const struct mmu *mmu, const struct explain *x, const struct walk *w, struct explain_access *a)
{
	const struct explain_step *last = &x->step[x->steps - 1];

	a->level = w->level;
	if (x->direct && !x->cr3)
		a->cause = CAUSE_NO_ROOT;
	else if (x->direct && !x->mapped && last->leads_out)
		a->cause = CAUSE_NOT_OWNED;
	else if (x->mapped && x->page.read_only && (a->access & ACC_WRITE))
		a->cause = CAUSE_TYPED;
	else if (x->mapped)
		blame_rights(mmu, x, a);
	else if (!last->table.ram)
		a->cause = CAUSE_TABLE_NOT_RAM;
	else
		a->cause = last->entry & PTE_P ? CAUSE_RESERVED : CAUSE_NOT_PRESENT;
}

/* The dirty log is on and has not noted p. */
static bool is_clean(const struct mmu *mmu, gpa_t p)
{
	const uint64_t *dirty = mmu->memory->track.dirty, gfn = p.v >> PAGE_SHIFT;

	return dirty && !(dirty[gfn / 64] >> (gfn % 64) & 1);
}

/* The access is allowed and goes to p, which has frame m if it is backed. */
static void land(const struct mmu *mmu, struct explain_access *a, gpa_t p, mfn_t m)
{
	uint32_t flags = mfn_valid(m) ? pool_frame(&mmu->memory->pool, m)->flags : 0;

	a->p = p;
	if ((flags & FRAME_SHARED) && (a->access & (ACC_WRITE | ACC_EXEC)))
		a->hidden |= HIDDEN_SHARED;
	if (!(a->access & ACC_WRITE))
		return;
	if (flags & FRAME_TABLE)
		a->hidden |= HIDDEN_WRITE_PROTECTED;
	if (flags & FRAME_CODE)
		a->hidden |= HIDDEN_CODE;
	/* A page that gets its frame now is watched from the start, if the log has not noted it. */
	if (flags & FRAME_SHARED)
		flags |= is_clean(mmu, p) ? FRAME_DIRTY_LOG : 0;
	if ((flags & FRAME_DIRTY_LOG) || (!mfn_valid(m) && !a->device && mmu->memory->track.dirty))
		a->hidden |= HIDDEN_LOG;
}

static void land_at_frame(const struct mmu *mmu, const struct explain *x, struct explain_access *a, enum explain_by by, mfn_t m)
{
	/* Of a shared frame the page that the tables say, if it is one of those there. */
	const uint64_t gfn = !x->direct && x->mapped && p2m_maps(mmu->memory, x->p.v >> PAGE_SHIFT, m) ? x->p.v >> PAGE_SHIFT : pool_frame(&mmu->memory->pool, m)->gfn;

	a->by = by;
	land(mmu, a, gpa(gfn << PAGE_SHIFT | (x->va & (PAGE_SIZE - 1))), m);
}

/* What no TLB entry answers, and no shadow: a walk. `root`: what one from the root made of it. */
static void foresee_walk(struct mmu *mmu, struct walk_space *space, const struct explain *x, enum walk_status status, const struct walk *root,
			 struct explain_access *a)
{
	struct walk w = *root, cached;
	struct p2m_entry e;
	bool backed;
	gpa_t p;

	a->by = BY_WALK;
	/* A walk from a cached table that ends in a fault is repeated from the root. */
	if (x->psc_level && nested_cached(mmu, x->va, &cached) &&
	    walk_tables(&mmu->priv->controls, space, x->va, a->access, &cached) == WALK_OK) {
		w = cached;
		status = WALK_OK;
	}
	if (status == WALK_OK && space->nest) {
		bool small;

		status = nest_final(space, x->va, a->access, &w, &small);
	}
	if (status == WALK_NEST_FAULT) {
		a->nest_fault = true;
		a->nest_error = w.nest_error;
		a->p = w.nest_p;
		return;
	}
	if (status != WALK_OK) {
		a->guest_fault = true;
		a->error = w.error;
		blame(mmu, x, &w, a);
		return;
	}
	if (x->direct) {
		land(mmu, a, x->p, x->page.m);
		return;
	}
	p = gpa(w.page.v + (x->va & ((1ull << w.shift) - 1)));
	backed = p2m_lookup(mmu->memory, p, &e);
	a->device = !memory_is_ram(mmu->memory, p);
	if (!a->device && !backed)
		a->hidden |= p2m_is_swapped(mmu->memory, p) ? HIDDEN_SWAPPED : HIDDEN_NOT_BACKED;
	land(mmu, a, p, backed ? e.m : MFN_NONE);
}

static bool must_unshare(const struct mmu *mmu, mfn_t m, unsigned access) { return tr_must_unshare(mmu, m.v << PAGE_SHIFT, access); }

/* What fault.c would do, in its order. shadow_m: where the shadow tables lead, with shadow_rights. */
static void foresee(struct mmu *mmu, struct walk_space *space, const struct explain *x, mfn_t shadow_m, uint64_t shadow_rights,
		    struct explain_access *a)
{
	const struct walk_controls *c = &mmu->priv->controls;
	const struct explain_tlb1 *l1 = &x->tlb1[tlb_set_of(mmu, a->access) - mmu->world];
	const struct explain_tlb2 *l2 = cached_entry(x);
	bool store = a->access & ACC_WRITE;
	enum walk_status status;
	struct walk w;

	status = look_walk(mmu, space, x, a->access, &w);
	if (!(a->access & ACC_EXEC) && (store ? l1->write : l1->read)) {
		land_at_frame(mmu, x, a, BY_TLB1, l1->m);
	} else if (l2 && rights_serve(c, tlb2_rights(l2), a->access) && !must_unshare(mmu, l2->m, a->access)) {
		land_at_frame(mmu, x, a, BY_TLB2, l2->m);
	} else if (mfn_valid(shadow_m) && rights_serve(c, shadow_rights, a->access) && !must_unshare(mmu, shadow_m, a->access)) {
		land_at_frame(mmu, x, a, BY_SHADOW, shadow_m);
	} else {
		foresee_walk(mmu, space, x, status, &w, a);
		if (x->shadowed && !a->guest_fault && !a->nest_fault && !a->device && !(mfn_valid(shadow_m) && must_unshare(mmu, shadow_m, a->access)))
			a->hidden |= mfn_valid(shadow_m) ? HIDDEN_DIRTY : HIDDEN_NOT_PRESENT;
	}
	a->unflushed = !a->guest_fault && !a->nest_fault && (status != WALK_OK || a->p.v != x->p.v);
}

/* What a walk here reads through, all of which only looks; the counters are for nobody. */
struct look { struct walk_space space, guest; struct mmu_counters counters; };

static struct walk_space *look_only(struct mmu *mmu, struct look *l)
{
	fill_bytes(l, 0, sizeof(*l));
	l->space.memory = l->guest.memory = mmu->memory;
	l->space.counters = l->guest.counters = &l->counters;
	l->space.machine = mmu->priv->space.machine;
	l->space.look_only = l->guest.look_only = true;
	space_forget(&l->space);
	l->guest.nest = mmu->priv->tables->nest;
	l->guest.below = &l->space;
	return l->guest.nest ? &l->guest : &l->space;
}

bool mmu_look(struct mmu *mmu, gva_t va, unsigned access, gpa_t *p)
{
	const struct walk_controls *c = &mmu->priv->controls;
	struct walk_space *space;
	bool ok, small;
	struct look l;
	struct walk w;
	mfn_t m;

	if (!c->format || !mmu_canonical(mmu, va.v))
		return false;
	space = look_only(mmu, &l);
	memory_lock(mmu->memory);
	if (mmu->mode == PAGING_DIRECT) {
		ok = direct_walk(mmu, space, direct_root(mmu, access), va.v, access, &w, &m) == WALK_OK;
		if (ok)
			w.page = gpa(pool_frame(&mmu->memory->pool, m)->gfn << PAGE_SHIFT);
	} else {
		walk_start(c, mmu->cr3, &w);
		ok = walk_tables(c, space, va.v, access, &w) == WALK_OK && (!space->nest || nest_final(space, va.v, access, &w, &small) == WALK_OK);
	}
	memory_unlock(mmu->memory);
	if (ok)
		*p = gpa(w.page.v + (va.v & ((1ull << w.shift) - 1)));
	return ok;
}

bool mmu_peek(struct mmu *mmu, gva_t va, unsigned access, void *buf, size_t len)
{
	struct look l;
	struct walk w;
	mfn_t m;
	gpa_t p;
	bool ok;

	ASSERT(len <= PAGE_SIZE - (va.v & ~PAGE_MASK));
	if (mmu->mode != PAGING_DIRECT)
		return mmu_look(mmu, va, access, &p) && !memory_read(mmu->memory, p, buf, len);
	if (!mmu_canonical(mmu, va.v))
		return false;
	memory_lock(mmu->memory);
	ok = direct_walk(mmu, look_only(mmu, &l), direct_root(mmu, access), va.v, access, &w, &m) == WALK_OK;
	if (ok)
		copy_bytes(buf, (const uint8_t *)pool_ptr(&mmu->memory->pool, m) + (va.v & ~PAGE_MASK), len);
	memory_unlock(mmu->memory);
	return ok;
}

static void explain_locked(struct mmu *mmu, struct explain *x)
{
	static const unsigned accesses[EXPLAIN_ACCESSES] = {
		ACC_READ, ACC_WRITE, ACC_EXEC, ACC_READ | ACC_USER, ACC_WRITE | ACC_USER, ACC_EXEC | ACC_USER,
		ACC_READ | ACC_AC, ACC_WRITE | ACC_AC,
	};
	mfn_t shadow = MFN_NONE;
	struct walk_space *space;
	uint64_t rights = 0;
	struct look l;
	struct walk w;

	space = look_only(mmu, &l);
	look_tables(mmu, space, x);
	look_tlb(mmu, x);
	if (x->shadowed) {
		shadow = look_shadow(mmu, x, &rights);
	} else if (!x->direct && x->current && nested_cached(mmu, x->va, &w)) {
		x->psc_level = w.level;
		x->psc_table = w.table;
	}
	/* AC matters with SMAP only. */
	for (unsigned i = 0; i < (mmu->priv->controls.smap ? EXPLAIN_ACCESSES : EXPLAIN_ACCESSES - 2); i++) {
		struct explain_access *a = &x->access[x->accesses];

		if (accesses[i] & ACC_USER ? x->for_kernel : x->for_user)
			continue;
		a->access = accesses[i];
		foresee(mmu, space, x, shadow, rights, a);
		x->accesses++;
	}
}

void mmu_explain(struct mmu *mmu, gva_t va, uint64_t cr3, struct explain *out)
{
	const struct walk_controls *c = &mmu->priv->controls;
	const struct asid *a = &mmu->priv->asid;
	uint32_t id;

	fill_bytes(out, 0, sizeof(*out));
	out->va = va.v;
	out->cr3 = cr3 == EXPLAIN_CURRENT ? mmu->cr3 : cr3 & ~CR3_NOFLUSH;
	out->format = c->format;
	out->paging = c->format;
	out->mode = mmu->mode;
	out->canonical = mmu_canonical(mmu, va.v);
	if (!out->paging || !out->canonical)
		return;
	out->nested_guest = mmu->priv->tables->nest;
	out->ncr3 = out->nested_guest ? mmu->priv->nest.root : 0;
	out->guest_asid = asid_in_guest(mmu) ? a->guest[a->current - PCIDS].asid : 0;
	out->shadowed = c->format->levels >= 4 && !out->nested_guest && (mmu->mode == PAGING_SHADOW || (mmu->mode == PAGING_AUTO && auto_is_shadowed(mmu, out->cr3)));
	out->direct = mmu->mode == PAGING_DIRECT;
	out->pcid = out->direct ? 0 : asid_in_guest(mmu) ? a->current : c->pcide ? out->cr3 & CR3_PCID_MASK : 0;
	out->current = (out->direct || out->pcid == a->current) && !((out->cr3 ^ mmu->cr3) & c->format->root_mask);
	out->for_kernel = out->direct && out->current;
	out->for_user = out->direct && !out->current && out->cr3 == mmu->user_cr3;
	out->current |= out->for_user;
	out->user_cr3 = out->direct ? mmu->user_cr3 : 0;
	/* Entries of the current PCID belong to the current tables. */
	id = out->for_user ? a->of[a->current_user].id : out->direct ? (out->current ? a->of[a->current].id : 0) : out->current || out->pcid != a->current ? a->of[out->pcid].id : 0;
	out->space_id = id >= a->floor_id ? id : 0;
	memory_lock(mmu->memory);
	explain_locked(mmu, out);
	memory_unlock(mmu->memory);
}
