/*
 * nested.c - the nested mode: nobody holds v2m mappings. Every translation is a walk in two dimensions, the guest's own
 * table (v to p) and the p2m (p to m) for each guest table and for the page itself, as hardware with EPT or NPT does it.
 *
 * The paging-structure cache makes the usual walk one guest reference: it remembers which table serves 2 MiB (or the directory
 * that serves 1 GiB) of a space. Rules (Intel SDM vol. 3, "Paging-Structure Caches"): entries are made only from entries with
 * A set; INVLPG voids all those of the current PCID; a walk that ends in a fault is repeated without the cache, because a
 * page fault must not be due to a stale entry.
 */
#include "mmu/mmu_internal.h"

/* Row i of the cache holds tables of level i + 1; its entries cover the bits that index level i + 2. */
static struct psc_entry *psc_slot(struct mmu *mmu, unsigned row, uint64_t va)
{
	return &mmu->priv->psc.of[row][(va >> (21 + 9 * row) ^ asid_current(mmu)->psc * 37) & (PSC_ENTRIES - 1)];
}

/* Only the formats with 512 entries a table; the others are for start-up code. The root needs no entry, nor the table below it. */
static unsigned psc_rows(const struct walk_controls *c) { return c->format->levels < 4 ? 0 : c->format->levels - 2u; }
static bool psc_usable(const struct walk_controls *c) { return psc_rows(c) != 0; }

static bool psc_find(struct mmu *mmu, uint64_t va, struct walk *w)
{
	for (unsigned row = 0; row < psc_rows(&mmu->priv->controls); row++) {
		const struct psc_entry *e = psc_slot(mmu, row, va);

		if (e->region == va >> (21 + 9 * row) && e->id == asid_current(mmu)->psc) {
			w->level = (uint8_t)(row + 1);
			w->table = gpa(e->table);
			w->rights = e->rights;
			w->refs = (uint8_t)e->refs;
			return true;
		}
	}
	return false;
}

bool nested_cached(struct mmu *mmu, uint64_t va, struct walk *w) { return psc_usable(&mmu->priv->controls) && psc_find(mmu, va, w); }

/* After a walk from level `from`: the tables it went through. */
static void psc_insert(struct mmu *mmu, uint64_t va, const struct walk *w, unsigned from, uint64_t root_rights)
{
	uint64_t rights = root_rights;

	for (unsigned level = from; level > w->level; level--) {
		uint64_t entry = w->step[level].entry;

		rights = (rights & (entry | ~(PTE_W | PTE_U))) | (entry & PTE_NX);
		if (level - 2 < psc_rows(&mmu->priv->controls)) {
			struct psc_entry *e = psc_slot(mmu, level - 2, va);

			e->region = va >> (21 + 9 * (level - 2));
			e->id = asid_current(mmu)->psc;
			e->table = w->step[level - 1].table.v;
			e->rights = rights;
			e->refs = w->step[level].refs;
		}
	}
}

static enum translate_status nest_fault(const struct walk *w, struct translation *out)
{
	out->error = w->nest_error;
	out->page = w->nest_p;
	return TRANSLATE_NEST_FAULT;
}

enum translate_status nested_finish(struct mmu *mmu, uint64_t va, unsigned access, const struct walk *w, struct translation *out)
{
	struct p2m_entry frame;
	enum p2m_result r;
	uint64_t p = w->page.v + (va & ((1ull << w->shift) - 1) & PAGE_MASK);

	out->page = gpa(p);
	if (w->shift > PAGE_SHIFT) {
		/* The size of the nested leaf matters, and the space's cache may not know the newest. */
		bool fresh;

		r = p2m_back(mmu->memory, out->page, &frame, &fresh);
		mmu->counters.walk_refs_nested += frame.refs;
		mmu->counters.hidden_not_backed += fresh;
		mmu->counters.frames_backed += fresh;
		mmu->counters.hidden_swapped += frame.swapped_in;
	} else {
		r = space_frame(&mmu->priv->space, out->page, &frame);
	}
	if (r == P2M_NOT_RAM)
		return TRANSLATE_MMIO;
	if (r == P2M_MAPPED && (access & (ACC_WRITE | ACC_EXEC)))
		r = space_own(&mmu->priv->space, out->page, &frame);
	if (r == P2M_NO_FRAME)
		return TRANSLATE_NO_FRAME;
	out->refs = (uint8_t)p2m_refs(frame.shift);
	out->data = tr_name(mmu->memory, frame.m) | (w->rights & RIGHTS_MASK);
	if (!mmu->priv->controls.pge)
		out->data &= ~PTE_G;
	if (w->shift > PAGE_SHIFT)
		out->data |= w->shift == 21 ? TR_GUEST_2M : TR_GUEST_HUGE;
	out->large = w->shift > PAGE_SHIFT && frame.shift == 21;
	return TRANSLATED;
}

/* w leads to L2's page, if the guest has a guest; then on to L1's. */
static enum translate_status finish(struct mmu *mmu, uint64_t va, unsigned access, struct walk *w, struct translation *out)
{
	struct walk_space *space = mmu->priv->tables;
	enum translate_status found;
	enum walk_status status;
	bool small;

	if (LIKELY(!space->nest))
		return nested_finish(mmu, va, access, w, out);
	status = nest_final(space, va, access, w, &small);
	if (status == WALK_OK) {
		found = nested_finish(mmu, va, access, w, out);
		if (small)
			out->large = false;
		return found;
	}
	return status == WALK_NO_FRAME ? TRANSLATE_NO_FRAME : nest_fault(w, out);
}

static enum translate_status identity(struct mmu *mmu, uint64_t va, unsigned access, struct translation *out)
{
	struct walk w;

	w.page = gpa(va & PAGE_MASK);
	w.shift = PAGE_SHIFT;
	w.rights = PTE_W | PTE_U | PTE_D;
	w.refs = 0;
	return finish(mmu, va, access, &w, out);
}

enum translate_status nested_translate(struct mmu *mmu, uint64_t va, unsigned access, struct translation *out)
{
	const struct walk_controls *c = &mmu->priv->controls;
	struct walk_space *space = mmu->priv->tables;
	enum translate_status found;
	enum walk_status status;
	bool cached;
	struct walk w;
	unsigned from, refs;
	uint64_t rights;

	if (!c->format)
		return identity(mmu, va, access, out);
	cached = nested_cached(mmu, va, &w);
	if (!cached)
		walk_start(c, mmu->cr3, &w);
	else
		mmu->counters.walk_cache_hits++;
	from = w.level;
	rights = w.rights;
	status = walk_tables(c, space, va, access, &w);
	if ((status == WALK_FAULT || status == WALK_NEST_FAULT) && cached) {
		walk_start(c, mmu->cr3, &w);
		from = w.level;
		rights = w.rights;
		status = walk_tables(c, space, va, access, &w);
	}
	if (status == WALK_NO_FRAME)
		return TRANSLATE_NO_FRAME;
	mmu->counters.walk_refs_hardware += w.refs;
	if (psc_usable(c))
		psc_insert(mmu, va, &w, from, rights);
	if (status == WALK_NEST_FAULT)
		return nest_fault(&w, out);
	if (status == WALK_FAULT) {
		out->error = w.error;
		return TRANSLATE_FAULT;
	}
	refs = w.refs;
	found = finish(mmu, va, access, &w, out);
	mmu->counters.walk_refs_hardware += (uint64_t)w.refs - refs;
	if (found == TRANSLATED)
		mmu->counters.walk_refs_hardware += out->refs;
	return found;
}
