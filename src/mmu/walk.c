/*
 * walk.c - the walk through guest paging structures.
 */
#include "mmu/walk.h"

void space_forget(struct walk_space *space)
{
	for (unsigned i = 0; i < SPACE_CACHE; i++)
		space->cache[i].gfn_plus_1 = 0;
	space->generation = space->memory->p2m_generation;
}

void space_drop_void(struct walk_space *space)
{
	for (unsigned i = 0; i < SPACE_CACHE; i++) {
		struct space_cache *c = &space->cache[i];

		if (c->gfn_plus_1 && pool_frame(&space->memory->pool, c->m)->serial != c->serial)
			c->gfn_plus_1 = 0;
	}
	space->generation = space->memory->p2m_generation;
}

enum p2m_result space_frame(struct walk_space *space, gpa_t p, struct p2m_entry *out)
{
	uint64_t gfn = p.v >> PAGE_SHIFT;
	struct space_cache *c = &space->cache[gfn & (SPACE_CACHE - 1)];
	enum p2m_result r;
	bool fresh;

	if (space->machine) {
		struct pool *pool = &space->memory->pool;

		out->m = mfn(gfn);
		out->shift = PAGE_SHIFT;
		out->refs = 0;
		out->swapped_in = false;
		if (gfn >= pool->frames || !(pool_frame(pool, out->m)->flags & FRAME_ALLOCATED))
			return P2M_NOT_RAM;
		if (!space->look_only)
			pool_touch(pool, out->m);
		return P2M_MAPPED;
	}
	if (UNLIKELY(space->look_only)) {
		if (p2m_lookup(space->memory, p, out))
			return P2M_MAPPED;
		return memory_is_ram(space->memory, p) ? P2M_NO_FRAME : P2M_NOT_RAM;
	}
	if (UNLIKELY(space->generation != space->memory->p2m_generation))
		space_forget(space);
	if (c->gfn_plus_1 == gfn + 1) {
		space->counters->walk_cache_hits++;
		out->m = c->m;
		out->shift = (uint8_t)c->shift;
		out->refs = 0;
		return P2M_MAPPED;
	}
	r = p2m_back(space->memory, p, out, &fresh);
	space->counters->walk_refs_nested += out->refs;
	if (r == P2M_MAPPED) {
		if (UNLIKELY(space->memory->pool.touched != NULL))
			space->memory->pool.touched[out->m.v] = 1;
		space->counters->hidden_swapped += out->swapped_in;
		if (fresh) {
			space->counters->hidden_not_backed++;
			space->counters->frames_backed++;
		}
		c->gfn_plus_1 = gfn + 1;
		c->m = out->m;
		c->shift = out->shift;
		c->serial = pool_frame(&space->memory->pool, out->m)->serial;
	}
	return r;
}

void walk_start(const struct walk_controls *c, uint64_t cr3, struct walk *w)
{
	w->level = c->format->levels;
	w->table = gpa(cr3 & c->format->root_mask);
	w->rights = PTE_W | PTE_U;
	w->refs = 0;
}

static uint32_t error_code(const struct walk_controls *c, unsigned access, uint32_t cause)
{
	uint32_t error = cause;

	if (access & ACC_WRITE)
		error |= PF_W;
	if ((access & (ACC_USER | ACC_IMPLICIT)) == ACC_USER)
		error |= PF_U;
	if ((access & ACC_EXEC) && (c->smep || (c->nxe && c->format->nx)))
		error |= PF_I;
	return error;
}

/* Sets bits in the entry at slot unless it has changed since it was read as *entry. */
static bool set_bits(void *slot, unsigned bytes, uint64_t *entry, uint64_t bits)
{
	if (bytes == 8) {
		uint64_t old = *entry;

		if (!__atomic_compare_exchange_n((uint64_t *)slot, &old, old | bits, false, __ATOMIC_SEQ_CST,
						 __ATOMIC_SEQ_CST))
			return false;
	} else {
		uint32_t old = (uint32_t)*entry;

		if (!__atomic_compare_exchange_n((uint32_t *)slot, &old, old | (uint32_t)bits, false, __ATOMIC_SEQ_CST,
						 __ATOMIC_SEQ_CST))
			return false;
	}
	*entry |= bits;
	return true;
}

static uint64_t read_entry(const void *slot, unsigned bytes)
{
	return bytes == 8 ? __atomic_load_n((const uint64_t *)slot, __ATOMIC_RELAXED) :
			    __atomic_load_n((const uint32_t *)slot, __ATOMIC_RELAXED);
}

/* The bit just set is a store like others: the table may share its frame with translated code, and the page is written. */
static void entry_changed(struct memory *mem, mfn_t m, unsigned offset, unsigned bytes)
{
	if (UNLIKELY(pool_frame(&mem->pool, m)->flags & (FRAME_CODE | FRAME_DIRTY_LOG)))
		track_written(&mem->track, m, offset, bytes);
}

enum walk_status walk_tables(const struct walk_controls *c, struct walk_space *space, uint64_t va, unsigned access,
			     struct walk *w)
{
	const struct paging_format *f = c->format;
	unsigned bytes = f->entry_bytes;

	space->counters->walks++;
	for (unsigned level = w->level;; level--) {
		const struct paging_level *l = &f->level[level];
		struct walk_step *step = &w->step[level];
		struct walk_space *from = space;
		gpa_t page;
		struct p2m_entry frame;
		uint64_t entry, bits, peeked = 0;
		unsigned offset;
		uint8_t *slot;
		bool leaf;

		w->level = (uint8_t)level;
		step->index = (uint16_t)paging_index(f, level, va);
		/* Only PAE's root is not page aligned. */
		offset = (unsigned)(w->table.v & (PAGE_SIZE - 1)) + step->index * bytes;
		step->table = page = gpa(w->table.v & PAGE_MASK);
		if (UNLIKELY(space->nest != NULL)) {
			enum walk_status status;
			struct nest_page n;

			step->table_m = MFN_NONE;
			step->entry = 0;
			status = walk_nest(space, gpa(page.v + offset), ACC_WRITE, true, &n, w);
			if (status != WALK_OK)
				return status;
			page = n.page;
			w->refs = (uint8_t)(w->refs + n.refs);
			from = space->below;
		}
		switch (space_frame(from, page, &frame)) {
		case P2M_MAPPED:
			/* Tables are written by walks (A and D bits) and watched by shadows. */
			if (!space->look_only && space_own(from, page, &frame) != P2M_MAPPED)
				return WALK_NO_FRAME;
			step->table_m = frame.m;
			slot = (uint8_t *)pool_ptr(&space->memory->pool, frame.m) + offset;
			break;
		case P2M_NOT_RAM: /* what nothing answers reads as all ones: present, with reserved bits */
			step->table_m = MFN_NONE;
			step->entry = ~0ull;
			w->error = error_code(c, access, PF_P | PF_RSVD);
			return WALK_FAULT;
		default:
			if (!space->look_only)
				return WALK_NO_FRAME;
			step->table_m = MFN_NONE;
			frame.shift = PAGE_SHIFT;
			memory_peek_swapped(space->memory, gpa(page.v + offset), &peeked, bytes);
			slot = (uint8_t *)&peeked;
		}
		w->refs = step->refs = (uint8_t)(w->refs + (space->machine ? 0 : p2m_refs(frame.shift)) + 1);
again:
		entry = read_entry(slot, bytes);
		space->counters->walk_refs_guest++;
		step->entry = entry;
		if (!(entry & PTE_P)) {
			w->error = error_code(c, access, 0);
			return WALK_FAULT;
		}
		leaf = l->leaf == LEAF_ALWAYS || (l->leaf == LEAF_IF_PS && (entry & PTE_PS));
		if ((entry & (leaf ? l->reserved_leaf : l->reserved_table)) ||
		    (f->nx && !c->nxe && !l->plain && (entry & PTE_NX))) {
			w->error = error_code(c, access, PF_P | PF_RSVD);
			return WALK_FAULT;
		}
		if (!leaf) {
			if (!l->plain) {
				if (!(entry & PTE_A) && !space->look_only) {
					if (!set_bits(slot, bytes, &step->entry, PTE_A))
						goto again;
					entry_changed(space->memory, frame.m, offset, bytes);
				}
				w->rights = (w->rights & (entry | ~(PTE_W | PTE_U))) | (entry & PTE_NX);
			}
			w->table = gpa(entry & 0x000ffffffffff000ull);
			continue;
		}
		/* The rights of the levels above, for a retry, stay apart from this leaf's. */
		bits = (w->rights & (entry | ~(PTE_W | PTE_U))) | (entry & PTE_NX);
		if (!walk_allowed(c, bits, access)) {
			w->error = error_code(c, access, PF_P);
			return WALK_FAULT;
		}
		if ((!(entry & PTE_A) || ((access & ACC_WRITE) && !(entry & PTE_D))) && !space->look_only) {
			if (!set_bits(slot, bytes, &step->entry, PTE_A | ((access & ACC_WRITE) ? PTE_D : 0)))
				goto again;
			entry_changed(space->memory, frame.m, offset, bytes);
		}
		w->rights = bits | (step->entry & (PTE_D | PTE_G));
		w->page = gpa(paging_leaf_address(f, level, entry));
		w->shift = l->shift;
		return WALK_OK;
	}
}
