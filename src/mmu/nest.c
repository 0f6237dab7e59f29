/*
 * nest.c - the nested table of a guest of the guest: L2-physical to L1-physical, by the one walker, and a cache of what it said.
 *
 * Such an access is always a user's, in the paging mode that the hypervisor was in at VMRUN. What comes of reading a guest table counts as a write, whatever
 * the access was that began it.
 * Source: AMD APM vol. 2, "Nested Paging", "Nested versus Guest Page Faults, Fault Ordering", "Permission Checks".
 */
#include "mmu/mmu_internal.h"

/* EXITINFO1 of #NPF: which of the two asked. */
#define NPF_FINAL (1ull << 32)
#define NPF_TABLE (1ull << 33)

static struct nest_cache *slot(struct walk_nest *nest, uint64_t gfn) { return &nest->cache[(gfn ^ nest->id * 29) & (NEST_CACHE - 1)]; }

/* A cached entry grants, it never denies. */
static bool serves(const struct nest_cache *c, unsigned access)
{
	if (access & ACC_WRITE)
		return (c->rights & (PTE_W | PTE_D)) == (PTE_W | PTE_D);
	return !(access & ACC_EXEC) || !(c->rights & PTE_NX);
}

enum walk_status walk_nest(struct walk_space *space, gpa_t p, unsigned access, bool table, struct nest_page *out, struct walk *w)
{
	struct walk_nest *nest = space->nest;
	const struct walk_controls *c = &nest->controls;
	const uint64_t gfn = p.v >> PAGE_SHIFT;
	struct nest_cache *e = slot(nest, gfn);
	enum walk_status status;
	struct walk n;

	access = (access & (ACC_READ | ACC_WRITE | ACC_EXEC)) | ACC_USER;
	if (!space->look_only && e->gfn_plus_1 == gfn + 1 && e->id == nest->id && serves(e, access)) {
		space->counters->walk_cache_hits++;
		*out = (struct nest_page){ gpa(e->page), e->rights, e->shift, e->refs };
		return WALK_OK;
	}
	walk_start(c, nest->root, &n);
	/* A hypervisor outside of long mode gives its guest 4 GiB. */
	if (c->format->levels < 4 && p.v >> 32) {
		status = WALK_FAULT;
		n.error = PF_U | (access & ACC_WRITE ? PF_W : 0);
	} else {
		status = walk_tables(c, space->below, p.v, access, &n);
	}
	if (status == WALK_FAULT) {
		w->nest_error = n.error | (table ? NPF_TABLE : NPF_FINAL);
		w->nest_p = p;
		return WALK_NEST_FAULT;
	}
	if (status != WALK_OK)
		return status;
	*out = (struct nest_page){ gpa(n.page.v + (p.v & ((1ull << n.shift) - 1) & PAGE_MASK)), n.rights, n.shift, n.refs };
	if (!space->look_only)
		*e = (struct nest_cache){ .gfn_plus_1 = gfn + 1, .page = out->page.v, .rights = out->rights, .id = nest->id, .shift = out->shift, .refs = out->refs };
	return WALK_OK;
}

enum walk_status nest_final(struct walk_space *space, uint64_t va, unsigned access, struct walk *w, bool *small)
{
	const uint64_t within = va & ((1ull << w->shift) - 1) & PAGE_MASK;
	struct nest_page n;
	enum walk_status status = walk_nest(space, gpa(w->page.v + within + (va & (PAGE_SIZE - 1))), access, false, &n, w);

	if (status != WALK_OK)
		return status;
	*small = n.shift < 21;
	w->page = gpa(n.page.v - within);
	w->refs = (uint8_t)(w->refs + n.refs);
	/* What the nested table denies, the entry does not grant: a walk says whose fault it is. Its W is no right of the guest's, which CR0.WP decides about, so it goes into D. */
	if ((n.rights & (PTE_W | PTE_D)) != (PTE_W | PTE_D))
		w->rights &= ~PTE_D;
	w->rights |= n.rights & PTE_NX;
	return WALK_OK;
}

static uint32_t id_of(struct mmu *mmu, struct guest_space *g)
{
	struct asid *a = &mmu->priv->asid;

	if (g->nest_id)
		return g->nest_id;
	if (++a->next_nest == 0) { /* all ids have been used */
		fill_bytes(mmu->priv->nest.cache, 0, sizeof(mmu->priv->nest.cache));
		for (unsigned i = 0; i < GUEST_SPACES; i++)
			a->guest[i].nest_id = 0;
		a->next_nest = 1;
	}
	return g->nest_id = a->next_nest;
}

void nest_set(struct mmu *mmu, const struct walk_controls *hypervisor, struct guest_space *g)
{
	struct walk_nest *n = &mmu->priv->nest;

	if (!g || !g->nest.on) {
		mmu->priv->tables = &mmu->priv->space;
		return;
	}
	n->controls = (struct walk_controls){ .format = hypervisor->format, .nxe = hypervisor->nxe, .wp = true };
	n->root = g->nest.root;
	n->id = id_of(mmu, g);
	mmu->priv->tables = &mmu->priv->guest_space;
}

void nest_void(struct mmu *mmu, unsigned guest)
{
	struct asid *a = &mmu->priv->asid;

	for (unsigned i = 0; i < GUEST_SPACES; i++)
		if (guest == i || guest == ALL_GUESTS)
			a->guest[i].nest_id = 0;
	if (mmu->priv->tables->nest)
		mmu->priv->nest.id = id_of(mmu, &a->guest[a->current - PCIDS]);
}
