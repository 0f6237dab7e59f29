/*
 * model.c - the model's walk and its sets.
 */
#include "model.h"

#include <string.h>

#include "x86/regs.h"

#define ADDRESS 0x000ffffffffff000ull
#define ABOVE_40 0x000fff0000000000ull /* address bits that a guest with 40-bit physical addresses must leave zero */

uint64_t *model_entry(struct model *m, uint64_t pa)
{
	static uint64_t zero;
	struct p2m_entry e;

	if (!memory_is_ram(m->memory, gpa(pa)))
		return NULL;
	if (!p2m_lookup(m->memory, gpa(pa), &e)) {
		zero = 0;
		memory_peek_swapped(m->memory, gpa(pa & ~7ull), &zero, 8);
		return &zero;
	}
	return (uint64_t *)((uint8_t *)pool_ptr(&m->memory->pool, e.m) + (pa & 0xff8));
}

/* The rule of "Determination of Access Rights", written from the manual's sentences, one for each kind of access. */
static bool permitted(const struct model *m, uint64_t rights, unsigned access)
{
	bool user_page = rights & PTE_U, writable = rights & PTE_W, nx = rights & PTE_NX;
	bool user_access = (access & ACC_USER) && !(access & ACC_IMPLICIT);
	bool ac = (access & ACC_AC) && !(access & ACC_IMPLICIT);

	if (user_access) {
		if (!user_page)
			return false;
		if (access & ACC_EXEC)
			return !nx;
		return access & ACC_WRITE ? writable : true;
	}
	if (access & ACC_EXEC)
		return !nx && !(user_page && (m->cr4 & CR4_SMEP));
	if (user_page && (m->cr4 & CR4_SMAP) && !ac)
		return false;
	if (access & ACC_WRITE)
		return writable || !(m->cr0 & CR0_WP);
	return true;
}

static uint64_t reserved_bits(const struct model *m, unsigned level, uint64_t e)
{
	uint64_t r = ABOVE_40;

	if (!(m->efer & EFER_NXE))
		r |= PTE_NX;
	if (level >= 4)
		r |= PTE_PS | PTE_G;
	if (level == 3)
		r |= e & PTE_PS ? 0x3fffe000 : PTE_G;
	if (level == 2 && (e & PTE_PS))
		r |= 0x1fe000;
	return r;
}

static uint32_t fault_code(const struct model *m, unsigned access, uint32_t why)
{
	return why | (access & ACC_WRITE ? PF_W : 0) | ((access & ACC_USER) && !(access & ACC_IMPLICIT) ? PF_U : 0) |
	       ((access & ACC_EXEC) && ((m->efer & EFER_NXE) || (m->cr4 & CR4_SMEP)) ? PF_I : 0);
}

static void walk_from(struct model *m, unsigned level, uint64_t table, uint64_t rights, uint64_t va, unsigned access,
		      struct model_walk *w)
{
	w->start = (uint8_t)level;
	w->fault = true;
	for (;; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		uint64_t pa = table + (va >> shift & 511) * 8, *slot = model_entry(m, pa), e = slot ? *slot : ~0ull;
		bool leaf = level == 1 || (level < 4 && (e & PTE_PS));

		w->end = (uint8_t)level;
		w->entry_pa[level] = pa;
		w->entry[level] = e;
		w->rights_above[level] = rights;
		if (!(e & PTE_P)) {
			w->error = fault_code(m, access, 0);
			return;
		}
		if (!slot || (e & reserved_bits(m, level, e))) {
			w->error = fault_code(m, access, PF_P | PF_RSVD);
			return;
		}
		if (!(e & PTE_W))
			rights &= ~PTE_W;
		if (!(e & PTE_U))
			rights &= ~PTE_U;
		if (e & PTE_NX)
			rights |= PTE_NX;
		if (!leaf) {
			table = e & ADDRESS;
			continue;
		}
		w->rights = rights;
		w->shift = (uint8_t)shift;
		if (!permitted(m, rights, access)) {
			w->error = fault_code(m, access, PF_P);
			return;
		}
		w->fault = false;
		w->pa = (e & ADDRESS & ~((1ull << shift) - 1)) + (va & ((1ull << shift) - 1));
		return;
	}
}

static bool covers(uint64_t base, unsigned shift, uint64_t va) { return (base ^ va) >> shift == 0; }

static void ask_cache(struct model *m, const struct cache *c, struct model_question *q)
{
	for (unsigned i = 0; i < c->wholes; i++) {
		const struct cached *t = &c->whole[i];

		if (!covers(t->va, t->shift, q->va) || !permitted(m, t->rights, q->access) ||
		    ((q->access & ACC_WRITE) && !(t->rights & PTE_D)))
			continue;
		if (q->answers < sizeof(q->answer) / sizeof(q->answer[0]))
			q->answer[q->answers++] = t->pa + (q->va & ((1ull << t->shift) - 1));
	}
	for (unsigned i = 0; i < c->parts; i++) {
		const struct partial *p = &c->part[i];

		if (covers(p->va, p->shift, q->va) && q->walks < MODEL_WALKS)
			walk_from(m, (p->shift - 12) / 9, p->table, p->rights, q->va, q->access, &q->walk[q->walks++]);
	}
}

void model_ask(struct model *m, uint64_t va, unsigned access, struct model_question *q)
{
	q->va = va;
	q->access = access;
	q->walks = 1;
	q->answers = 0;
	walk_from(m, model_levels(m), m->root, PTE_W | PTE_U, va, access, &q->walk[0]);
	ask_cache(m, &m->cache[m->pcid], q);
	ask_cache(m, &m->global, q);
}

static void remember_whole(struct cache *c, struct cached t)
{
	for (unsigned i = 0; i < c->wholes; i++)
		if (c->whole[i].va == t.va && c->whole[i].pa == t.pa && c->whole[i].rights == t.rights && c->whole[i].shift == t.shift)
			return;
	if (c->wholes < MODEL_CACHED)
		c->whole[c->wholes++] = t;
}

static void remember_part(struct cache *c, struct partial p)
{
	for (unsigned i = 0; i < c->parts; i++)
		if (c->part[i].va == p.va && c->part[i].table == p.table && c->part[i].rights == p.rights &&
		    c->part[i].shift == p.shift)
			return;
	if (c->parts < MODEL_CACHED)
		c->part[c->parts++] = p;
}

static uint64_t entry_now(struct model *m, const struct model_walk *w, unsigned level)
{
	uint64_t *slot = model_entry(m, w->entry_pa[level]);

	return slot ? *slot : ~0ull;
}

/* The tables that a walk went through may be cached from now on. */
static void learn_parts(struct model *m, const struct model_walk *w, uint64_t va)
{
	for (unsigned level = w->start; level > w->end; level--) {
		unsigned shift = 12 + 9 * (level - 1);

		/* Not the table below the root: what this MMU keeps. */
		if (level == model_levels(m) || !(entry_now(m, w, level) & PTE_A))
			continue;
		remember_part(&m->cache[m->pcid], (struct partial){ va >> shift << shift, w->entry_pa[level - 1] & ~0xfffull,
								     w->rights_above[level - 1], (uint8_t)shift });
	}
}

/* Whether the bits that this walk must set are set now. */
static bool bits_set(struct model *m, const struct model_walk *w, unsigned access)
{
	for (unsigned level = w->start; level >= w->end; level--) {
		uint64_t e = entry_now(m, w, level);

		if (!(e & PTE_A))
			return false;
		if (level == w->end && (access & ACC_WRITE) && !(e & PTE_D))
			return false;
	}
	return true;
}

static void learn(struct model *m, const struct model_walk *w, uint64_t va)
{
	uint64_t leaf = entry_now(m, w, w->end), base = ~((1ull << w->shift) - 1);
	struct cache *c = (leaf & PTE_G) && (m->cr4 & CR4_PGE) ? &m->global : &m->cache[m->pcid];

	if (memory_is_ram(m->memory, gpa(w->pa)))
		remember_whole(c, (struct cached){ va & base, w->pa & base, w->rights | (leaf & PTE_D), w->shift });
	learn_parts(m, w, va);
}

/* What cannot be told apart: the same place, or the same offset of two pages that share a frame. */
static bool same_place(const struct model *m, uint64_t a, uint64_t b)
{
	struct p2m_entry x, y;

	return a == b || (!((a ^ b) & 0xfff) && p2m_lookup(m->memory, gpa(a), &x) && p2m_lookup(m->memory, gpa(b), &y) && x.m.v == y.m.v);
}

bool model_allows(struct model *m, const struct model_question *q, uint64_t gpa_)
{
	(void)m;
	for (unsigned i = 0; i < q->answers; i++)
		if (q->answer[i] == gpa_)
			return true;
	for (unsigned i = 0; i < q->walks; i++)
		if (!q->walk[i].fault && q->walk[i].pa == gpa_)
			return true;
	return false;
}

static const char *judge_fault(struct model *m, const struct model_question *q, const struct model_answer *a)
{
	const struct model_walk *w = &q->walk[0];

	if (!w->fault)
		return "a page fault where the tables allow the access";
	if (a->error != w->error)
		return "a page fault with another error code";
	/* Another, cached, way to the same leaf may have ended differently; only the plain case is exact. */
	if (q->walks == 1 && !(w->error & PF_RSVD) && entry_now(m, w, w->end) != w->entry[w->end]) {
		bool met_above = false;

		for (unsigned level = w->start; level > w->end; level--)
			met_above |= w->entry_pa[level] == w->entry_pa[w->end];
		if (!met_above)
			return "a page fault that changed the entry which denied the access";
	}
	learn_parts(m, w, q->va);
	return NULL;
}

const char *model_judge(struct model *m, const struct model_question *q, const struct model_answer *a)
{
	bool ram = a->kind != MMU_MMIO, by_cache = false, by_walk = false, complete = false;

	if (a->kind == MMU_INJECT)
		return judge_fault(m, q, a);
	if (a->kind == MMU_HOST_ERROR)
		return "a host error";
	for (unsigned i = 0; i < q->answers; i++)
		by_cache |= ram && same_place(m, q->answer[i], a->gpa);
	for (unsigned i = 0; i < q->walks; i++) {
		const struct model_walk *w = &q->walk[i];

		if (w->fault || !same_place(m, w->pa, a->gpa) || memory_is_ram(m->memory, gpa(w->pa)) != ram)
			continue;
		by_walk = true;
		if (bits_set(m, w, q->access)) {
			complete = true;
			learn(m, w, q->va);
		}
	}
	if (!by_cache && !by_walk)
		return q->walk[0].fault ? "an answer where the tables deny the access and no cached translation allows it" :
					  "a translation that is neither in the tables nor possibly cached";
	if (!by_cache && !complete)
		return "accessed or dirty bits are missing";
	return NULL;
}

void model_flush_space(struct model *m, unsigned pcid) { m->cache[pcid].wholes = m->cache[pcid].parts = 0; }

void model_flush_locals(struct model *m)
{
	for (unsigned i = 0; i < MODEL_PCIDS; i++)
		model_flush_space(m, i);
}

void model_flush_all(struct model *m)
{
	model_flush_locals(m);
	m->global.wholes = 0;
}

static void drop_page(struct cache *c, uint64_t va)
{
	unsigned keep = 0;

	for (unsigned i = 0; i < c->wholes; i++)
		if (!covers(c->whole[i].va, c->whole[i].shift, va))
			c->whole[keep++] = c->whole[i];
	c->wholes = keep;
}

void model_invlpg(struct model *m, uint64_t va)
{
	drop_page(&m->cache[m->pcid], va);
	drop_page(&m->global, va);
	m->cache[m->pcid].parts = 0;
}

void model_invpcid_address(struct model *m, unsigned pcid, uint64_t va)
{
	struct cache *c = &m->cache[pcid];
	unsigned keep = 0;

	drop_page(c, va);
	for (unsigned i = 0; i < c->parts; i++)
		if (!covers(c->part[i].va, c->part[i].shift, va))
			c->part[keep++] = c->part[i];
	c->parts = keep;
}

bool model_is_full(const struct model *m)
{
	bool full = m->global.wholes > 100;

	for (unsigned i = 0; i < MODEL_PCIDS; i++)
		full |= m->cache[i].wholes > 100 || m->cache[i].parts > 100;
	return full;
}
