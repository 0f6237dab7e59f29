/*
 * shadow.c - the shadow mode: walks of shadow tables, hidden faults that fill them, and writes to guest tables that they follow.
 *
 * Shadow tables serve 4-level and 5-level paging. Paging off and the 32-bit and PAE formats, which 64-bit guests use for a moment while
 * they start, are translated by the walk in two dimensions (nested.c).
 */
#include "mmu/shadow.h"

#include <stdatomic.h>

#define COPIED (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D | PTE_G | PTE_NX) /* what a leaf takes over from the guest's */

/* Of both formats: their levels 1 to 4 are the same, and so a page that stands for a table at one of these serves both. */
static const struct paging_format *long_format(void) { return paging_format_of(CR0_PG, CR4_PAE | CR4_LA57, EFER_LMA); }

bool shadow_is_leaf(uint32_t role, uint64_t guest)
{
	unsigned level = role & ROLE_LEVEL;

	return level == 1 || (level < 4 && (guest & PTE_PS));
}

bool shadow_is_usable(uint32_t role, uint64_t guest)
{
	const struct paging_level *l = &long_format()->level[role & ROLE_LEVEL];
	uint64_t reserved = shadow_is_leaf(role, guest) ? l->reserved_leaf : l->reserved_table;

	if (!(role & ROLE_NXE))
		reserved |= PTE_NX;
	return (guest & (PTE_P | PTE_A)) == (PTE_P | PTE_A) && !(guest & reserved);
}

static uint32_t role_of(const struct mmu *mmu, unsigned level) { return level | (mmu->priv->controls.nxe ? ROLE_NXE : 0); }

static unsigned index_at(unsigned level, uint64_t va) { return (unsigned)(va >> (PAGE_SHIFT + 9 * (level - 1))) & (SHADOW_ENTRIES - 1); }

static uint64_t guest_entry(const struct shadow *s, const struct shadow_page *p, unsigned i)
{
	return __atomic_load_n((uint64_t *)pool_ptr(&s->memory->pool, p->m) + i, __ATOMIC_RELAXED);
}

/* Whether a loose page's leaf still says what the guest's entry says. */
bool shadow_still_true(const struct shadow *s, const struct shadow_page *p, unsigned i)
{
	uint64_t guest = guest_entry(s, p, i), e = p->entry[i];

	return !((guest ^ e) & COPIED) && shadow_is_usable(p->role, guest) &&
	       p2m_maps(s->memory, paging_leaf_address(long_format(), 1, guest) >> PAGE_SHIFT, tr_mfn(e));
}

/* The root for CR3 as it is now; NULL if there is none (then the next hidden fault makes it). */
static struct shadow_page *root_page(struct mmu *mmu, struct shadow *s)
{
	struct mmu_private *priv = mmu->priv;
	uint64_t at = mmu->cr3 & long_format()->root_mask;
	uint32_t role = role_of(mmu, priv->controls.format->levels);
	struct p2m_entry frame;

	if (priv->shadow_root_link && priv->shadow_root_cr3 == (at | role)) {
		struct shadow_page *p = shadow_follow(s, priv->shadow_root_link);

		if (p)
			return p;
	}
	priv->shadow_root_link = 0;
	if (p2m_lookup(s->memory, gpa(at), &frame)) {
		struct shadow_page *p = shadow_page_find(s, frame.m, at >> PAGE_SHIFT, role);

		if (p) {
			priv->shadow_root_cr3 = at | role;
			priv->shadow_root_link = PTE_P | (uint64_t)shadow_index(s, p) << 12 | (uint64_t)p->serial << 32;
			return p;
		}
	}
	mmu->counters.shadow_roots++;
	return NULL;
}

/* Walks the shadow tables. False: an entry is missing on the way. */
static bool shadow_walk(struct mmu *mmu, struct shadow *s, uint64_t va, struct translation *out)
{
	struct shadow_page *p = root_page(mmu, s);
	uint64_t rights = PTE_W | PTE_U, size = 0;

	if (!p)
		return false;
	p->referenced = true;
	for (unsigned level = mmu->priv->controls.format->levels;; level--) {
		unsigned i = index_at(level, va);
		uint64_t e = p->entry[i];

		mmu->counters.walk_refs_shadow++;
		mmu->counters.walk_refs_hardware++;
		if (UNLIKELY(s->memory->pool.touched != NULL) && !(p->role & ROLE_DIRECT))
			s->memory->pool.touched[p->m.v] = 1;
		if (!(e & PTE_P))
			return false;
		if (level == 1 || (e & PTE_PS)) {
			mfn_t m = tr_mfn(e);

			if (UNLIKELY(!tr_good(s->memory, e))) {
				shadow_set(p, i, 0);
				return false;
			}
			if (p->loose) {
				mmu->counters.walk_refs_guest++;
				if (!shadow_still_true(s, p, i)) {
					shadow_set(p, i, 0);
					return false;
				}
			}
			p->referenced = true;
			/* D and G of a split large page are in the link to its first direct table. */
			if (!size)
				rights |= e & (PTE_D | PTE_G);
			rights = (rights & (e | ~(PTE_W | PTE_U))) | (e & PTE_NX);
			out->large = level == 2;
			if (level == 2 && !size)
				size = TR_GUEST_2M;
			if (level == 2)
				m.v += va >> PAGE_SHIFT & (SHADOW_ENTRIES - 1);
			out->data = rights | size | tr_name(s->memory, m);
			if (!mmu->priv->controls.pge)
				out->data &= ~PTE_G;
			return true;
		}
		rights = (rights & (e | ~(PTE_W | PTE_U))) | (e & PTE_NX);
		if ((e & SHADOW_LINK_DIRECT) && !size) {
			rights |= e & (PTE_D | PTE_G);
			size = level == 2 ? TR_GUEST_2M : TR_GUEST_HUGE;
		}
		p = shadow_follow(s, e);
		if (!p)
			return false;
	}
}

static void drop_below(struct mmu *mmu, struct shadow *s, struct shadow_page *p)
{
	const bool leaves = (p->role & ROLE_LEVEL) == 1;

	for (unsigned i = 0; !leaves && p->present && i < SHADOW_ENTRIES; i++) {
		struct shadow_page *child = (p->entry[i] & PTE_P) && !(p->entry[i] & PTE_PS) ? shadow_follow(s, p->entry[i]) : NULL;

		/* Tables that map themselves: the level falls with each step, and a page freed is met no more. */
		if (child)
			drop_below(mmu, s, child);
	}
	shadow_page_free(mmu, p);
}

void shadow_drop_tree(struct mmu *mmu, uint64_t cr3)
{
	struct shadow *s = mmu->memory->shadow;
	uint64_t at = cr3 & long_format()->root_mask;
	struct shadow_page *p;
	struct p2m_entry frame;

	if (!p2m_lookup(s->memory, gpa(at), &frame))
		return;
	p = shadow_page_find(s, frame.m, at >> PAGE_SHIFT, role_of(mmu, mmu->priv->controls.format->levels));
	if (p)
		drop_below(mmu, s, p);
}

static uint64_t link_to(const struct shadow *s, const struct shadow_page *child, uint64_t rights)
{
	return rights | PTE_P | (uint64_t)shadow_index(s, child) << 12 | (uint64_t)child->serial << 32;
}

/* Puts what a guest walk found into the shadow tables, making those that lack. */
static void install(struct mmu *mmu, struct shadow *s, uint64_t va, const struct walk *w, const struct translation *t)
{
	uint64_t frame = t->data & (TR_MFN_MASK | TR_SERIAL_MASK);
	uint64_t large_frame = t->large ? tr_name(s->memory, mfn(tr_mfn(frame).v - (va >> PAGE_SHIFT & (SHADOW_ENTRIES - 1)))) : 0;
	uint64_t full = PTE_P | PTE_W | PTE_U | PTE_A;
	unsigned top = mmu->priv->controls.format->levels;
	struct shadow_page *p, *child;
	uint64_t leaf;

	s->stamp++;
	p = shadow_page_get(mmu, w->step[top].table_m, w->step[top].table.v >> PAGE_SHIFT, role_of(mmu, top));
	for (unsigned level = top; level > w->level; level--) {
		const struct walk_step *below = &w->step[level - 1];

		child = shadow_page_get(mmu, below->table_m, below->table.v >> PAGE_SHIFT, role_of(mmu, level - 1));
		shadow_set(p, index_at(level, va),
			   link_to(s, child, w->step[level].entry & (PTE_W | PTE_U | PTE_A | PTE_NX)));
		p->writes = 0;
		p = child;
	}
	if (w->level > 1)
		p->writes = 0;
	leaf = w->step[w->level].entry & COPIED;
	if (w->level == 1) {
		shadow_set(p, index_at(1, va), leaf | frame);
		return;
	}
	if (w->level == 2 && t->large) {
		shadow_set(p, index_at(2, va), leaf | PTE_PS | large_frame);
		return;
	}
	/* A large page that stays large neither here nor, perhaps, in the p2m: direct tables down to the frames. */
	for (unsigned level = w->level; level > 1; level--) {
		uint64_t base = w->page.v + (va & ((1ull << w->shift) - 1) & ~((1ull << (PAGE_SHIFT + 9 * (level - 1))) - 1));

		if (level == 2 && t->large) {
			shadow_set(p, index_at(2, va), full | PTE_PS | large_frame);
			return;
		}
		child = shadow_page_get(mmu, MFN_NONE, base >> PAGE_SHIFT, (level - 1) | ROLE_DIRECT);
		shadow_set(p, index_at(level, va),
			   link_to(s, child, (level == w->level ? leaf : full) | SHADOW_LINK_DIRECT));
		p = child;
	}
	shadow_set(p, index_at(1, va), full | frame);
}

/* One entry of a tight table was written: the shadow becomes what the entry now says, or nothing. */
static void follow(struct mmu *mmu, struct shadow *s, struct shadow_page *p, unsigned i)
{
	uint64_t guest = guest_entry(s, p, i), e = 0;

	if ((p->role & ROLE_LEVEL) == 1 && shadow_is_usable(p->role, guest)) {
		struct p2m_entry frame;

		/* The guest is about to use it: saves a hidden fault. Never backs a page for that. */
		if (p2m_lookup(s->memory, gpa(paging_leaf_address(long_format(), 1, guest)), &frame)) {
			mmu->counters.walk_refs_nested += frame.refs;
			e = (guest & COPIED) | tr_name(s->memory, frame.m);
		}
	}
	shadow_set(p, i, e);
}

/* Whether a store looks like one to a page table: one whole entry or half, or the low byte (flag bits), of one entry. */
static bool plausible(unsigned offset, unsigned len)
{
	return (offset & 7) + len <= 8 && (len >= 4 || (offset & 7) == 0);
}

void shadow_written(struct mmu *mmu, mfn_t m, unsigned offset, unsigned len)
{
	struct shadow *s = mmu->memory->shadow;
	struct frame *f = pool_frame(&mmu->memory->pool, m);
	uint32_t i = f->shadow_head, next;

	mmu->counters.table_writes++;
	for (; i; i = next) {
		struct shadow_page *p = &s->page[i - 1];
		bool leaf_table = (p->role & ROLE_LEVEL) == 1;

		next = p->next;
		if (p->loose)
			continue;
		p->writes++;
		if (len > 64 || (!leaf_table && (p->writes > SHADOW_FLOOD || !plausible(offset, len)))) {
			shadow_page_free(mmu, p);
			continue;
		}
		for (unsigned k = offset / 8; k <= (offset + len - 1) / 8; k++)
			follow(mmu, s, p, k);
		if (leaf_table && p->writes >= SHADOW_LOOSEN)
			shadow_page_loosen(mmu, p);
	}
}

/* Stores by devices (mem/track.h). */
static void drain(struct mmu *mmu)
{
	struct track *track = &mmu->memory->track;
	uint32_t n = atomic_load_explicit(&track->table_writes, memory_order_acquire);

	if (n > TABLE_WRITE_QUEUE) {
		shadow_drop_all(mmu);
	} else {
		for (uint32_t i = 0; i < n; i++) {
			const struct code_write *w = &track->table_queue[i];

			shadow_written(mmu, w->m, w->offset, w->len);
		}
	}
	atomic_store_explicit(&track->table_writes, 0, memory_order_relaxed);
}

enum translate_status shadow_translate(struct mmu *mmu, uint64_t va, unsigned access, struct translation *out)
{
	const struct walk_controls *c = &mmu->priv->controls;
	struct shadow *s = mmu->memory->shadow;
	enum translate_status status;
	bool present, shared;
	struct walk w;

	if (!c->format || c->format->levels < 4)
		return nested_translate(mmu, va, access, out);
	shadow_renew(mmu);
	shadow_unpark(mmu);
	if (UNLIKELY(atomic_load_explicit(&mmu->memory->track.table_writes, memory_order_relaxed)))
		drain(mmu);
	present = shadow_walk(mmu, s, va, out);
	shared = present && tr_must_unshare(mmu, out->data, access);
	if (present && !shared && walk_allowed(c, out->data, access) && (!(access & ACC_WRITE) || (out->data & PTE_D)))
		return TRANSLATED;
	walk_start(c, mmu->cr3, &w);
	switch (walk_tables(c, &mmu->priv->space, va, access, &w)) {
	case WALK_FAULT:
		out->error = w.error;
		return TRANSLATE_FAULT;
	case WALK_NO_FRAME:
		return TRANSLATE_NO_FRAME;
	default:
		break;
	}
	status = nested_finish(mmu, va, access, &w, out);
	if (status == TRANSLATED) {
		/* What unsharing costs is counted there. */
		if (present && !shared)
			mmu->counters.hidden_dirty++;
		else if (!present)
			mmu->counters.hidden_not_present++;
		install(mmu, s, va, &w, out);
	}
	return status;
}
