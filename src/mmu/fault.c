/*
 * fault.c - the only fault path: every access that level 1 of the TLB does not answer, and every instruction fetch.
 *
 * Order: level 1 (for callers that did not probe it), level 2, then under memory->lock the paging mode. A guest
 * fault is only ever the result of a fresh walk: rights that level 2 remembers may grant, but never deny
 * (a page fault must not be due to a translation that was made more permissive since).
 */
#include "mmu/shadow.h"
#include "mmu/tlb_lookup.h"
#include "mmu/trace.h"

static inline const struct frame *set_result(const struct mmu *mmu, uint64_t va, uint64_t data, struct mmu_result *out)
{
	const struct pool *pool = &mmu->memory->pool;
	const struct frame *f;

	out->mfn = mfn((data & TR_MFN_MASK) >> PAGE_SHIFT);
	f = pool_frame(pool, out->mfn);
	out->hva = pool->base + (data & TR_MFN_MASK) + (va & (PAGE_SIZE - 1));
	out->gpa = gpa(f->gfn << PAGE_SHIFT | (va & (PAGE_SIZE - 1)));
	out->global = data & PTE_G;
	return f;
}

/* Fills level 1 and says whether the access itself must be followed by mmu_written. */
static inline enum mmu_kind mapped(struct mmu *mmu, uint64_t va, unsigned access, enum tlb_set set, uint64_t data,
				   struct mmu_result *out)
{
	uint32_t flags = set_result(mmu, va, data, out)->flags & FRAME_TRACKED;
	uint8_t *touched = mmu->memory->pool.touched;

	if (UNLIKELY(touched != NULL))
		touched[out->mfn.v] = 1;

	if (LIKELY(!(access & (ACC_PROBE | ACC_EXEC))))
		tlb1_fill(mmu, va, set, data, flags);
	if (UNLIKELY((access & ACC_WRITE) && flags)) {
		if (access & ACC_AGAIN)
			return MMU_TRACKED;
		mmu->counters.tracked_writes++;
		if (flags & FRAME_TABLE)
			mmu->counters.hidden_write_protected++;
		if (flags & FRAME_DIRTY_LOG)
			mmu->counters.hidden_logged++;
		return MMU_TRACKED;
	}
	return MMU_MAPPED;
}

/* What brought the access here beside what the mode counts: the page has moved, and its entries went with that. Lock held. */
static inline void note_frame(struct mmu *mmu, uint64_t data)
{
	struct frame *f = pool_frame(&mmu->memory->pool, mfn((data & TR_MFN_MASK) >> PAGE_SHIFT));

	if (UNLIKELY(f->flags & FRAME_MOVED)) {
		f->flags &= ~(uint32_t)FRAME_MOVED;
		mmu->counters.hidden_moved++;
	}
}

static enum translate_status (*const mode_translate[])(struct mmu *mmu, uint64_t va, unsigned access, struct translation *out) = {
	[PAGING_NESTED] = nested_translate, [PAGING_SHADOW] = shadow_translate, [PAGING_DIRECT] = direct_translate,
	[PAGING_AUTO] = auto_translate,
};

static __attribute__((noinline)) enum mmu_kind translate(struct mmu *mmu, uint64_t va, unsigned access, enum tlb_set set,
						     struct mmu_result *out)
{
	enum translate_status status;
	struct translation t;

	mmu->counters.tlb_l2_misses++;
	memory_lock(mmu->memory);
	edit_frames_changed(mmu);
	status = UNLIKELY(mmu->priv->tables->nest != NULL) ? nested_translate(mmu, va, access, &t) : mode_translate[mmu->mode](mmu, va, access, &t);
	/* The page, or a table on the way to it, may have left a shared frame. */
	edit_frames_changed(mmu);
	if (LIKELY(status == TRANSLATED))
		note_frame(mmu, t.data);
	memory_unlock(mmu->memory);
	switch (status) {
	case TRANSLATED:
		if (!(access & ACC_PROBE))
			tlb2_insert(mmu, va, tlb_set_is_user(set), t.data, t.large);
		if (!(access & (ACC_PROBE | ACC_EXEC)) && tlb1_displaces(mmu, set, va) && tlb1_crowded(mmu, set, va))
			tlb1_grow(mmu, set);
		return mapped(mmu, va, access, set, t.data, out);
	case TRANSLATE_FAULT:
		mmu->counters.guest_faults++;
		tlb1_drop(mmu, va);
		tlb2_drop(mmu, va);
		out->exc = exc_pf(va, (uint32_t)t.error);
		return MMU_INJECT;
	case TRANSLATE_NEST_FAULT:
		mmu->counters.nest_faults++;
		tlb1_drop(mmu, va);
		tlb2_drop(mmu, va);
		out->exc = exc_npf(t.page.v, t.error);
		return MMU_NESTED_EXIT;
	case TRANSLATE_MMIO:
		mmu->counters.mmio_faults++;
		out->gpa = gpa(t.page.v | (va & (PAGE_SIZE - 1)));
		return MMU_MMIO;
	default:
		return MMU_HOST_ERROR;
	}
}

/*
 * A cached write needs D set in the guest's entry, or a walk must set it; and what has become a paravirtualized guest's table since, or a shared frame, is not written by way of
 * what was cached before.
 */
static bool data_serves(const struct mmu *mmu, uint64_t data, unsigned access)
{
	if (!walk_allowed(&mmu->priv->controls, data, access) || tr_must_unshare(mmu, data, access))
		return false;
	return !(access & ACC_WRITE) ||
	       ((data & PTE_D) && !(pool_frame(&mmu->memory->pool, mfn((data & TR_MFN_MASK) >> PAGE_SHIFT))->flags & FRAME_PV_TYPE));
}

/*
 * A supervisor's write to what has become a paravirtualized guest's table: no mapping of it can be written (xen/page.h, P3), so that a walk would find nothing else, as long as the
 * address still leads there.
 */
static bool table_refuses(const struct mmu *mmu, uint64_t data, unsigned access)
{
	return mmu->mode == PAGING_DIRECT && (access & (ACC_WRITE | ACC_USER)) == ACC_WRITE && mmu->memory->direct.tables == mmu->priv->direct_seen.tables &&
	       (pool_frame(&mmu->memory->pool, tr_mfn(data))->flags & FRAME_PV_TYPE);
}

/* Level 1 did not serve it. */
static inline __attribute__((always_inline)) enum mmu_kind miss(struct mmu *mmu, gva_t va, unsigned access, enum tlb_set set,
							       struct mmu_result *out)
{
	uint64_t data;

	if (LIKELY(tlb2_find(mmu, va.v, tlb_set_is_user(set), &data))) {
		if (LIKELY(data_serves(mmu, data, access))) {
			mmu->counters.tlb_l2_hits++;
			if (LIKELY(!(access & (ACC_PROBE | ACC_EXEC))) && tlb1_crowded(mmu, set, va.v))
				tlb1_grow(mmu, set);
			return mapped(mmu, va.v, access, set, data, out);
		}
		if (UNLIKELY(table_refuses(mmu, data, access))) {
			mmu->counters.guest_faults++;
			out->exc = exc_pf(va.v, PF_P | PF_W);
			return MMU_INJECT;
		}
		/* The walk may find another page size or another frame: no remnant may hide what it finds. */
		tlb1_drop(mmu, va.v);
		tlb2_drop(mmu, va.v);
	}
	return translate(mmu, va.v, access, set, out);
}

static __attribute__((noinline)) enum mmu_kind miss_traced(struct mmu *mmu, gva_t va, unsigned access, enum tlb_set set, struct mmu_result *out)
{
	struct mmu_mark mark;
	enum mmu_kind kind;

	mmu_trace_begin(mmu, &mark);
	kind = miss(mmu, va, access, set, out);
	mmu_trace_fault(mmu, &mark, va, access, kind, out);
	return kind;
}

/* From its second place the entry goes back to the first, where the caller will look. */
static bool serve_second(struct mmu *mmu, uint64_t va, unsigned access, enum tlb_set set, struct mmu_result *out)
{
	const struct tlb_entry e = mmu->l1[set][tlb1_second(mmu, set, va)];
	const uint64_t page = va & PAGE_MASK;

	if ((access & ACC_WRITE ? e.tag_write : e.tag_read) != page)
		return false;
	mmu->counters.tlb_l1_second++;
	set_result(mmu, va, e.aux, out);
	if (!(access & ACC_PROBE))
		tlb1_put(mmu, va, set, e.aux, e.tag_write == page);
	return true;
}

enum mmu_kind mmu_access(struct mmu *mmu, gva_t va, unsigned access, struct mmu_result *out)
{
	enum tlb_set set = tlb_set_of(mmu, access);

	ASSERT(mmu_canonical(mmu, va.v));
	if (!(access & ACC_EXEC)) {
		const struct tlb_entry *e = tlb1_entry(mmu, set, va.v);

		if ((access & ACC_WRITE ? e->tag_write : e->tag_read) == (va.v & PAGE_MASK)) {
			set_result(mmu, va.v, e->aux, out);
			return MMU_MAPPED;
		}
		if (UNLIKELY(mmu->l1_seconds[set]) && serve_second(mmu, va.v, access, set, out))
			return MMU_MAPPED;
		mmu->counters.tlb_l1_misses++;
	}
	if (UNLIKELY(mmu->trace != NULL))
		return miss_traced(mmu, va, access, set, out);
	return miss(mmu, va, access, set, out);
}

/* What data must say, of the bits in mask, for an access in a set; a supervisor's write with CR0.WP clear may need less, and goes the long way. */
static const struct refill_row { uint64_t mask, want; } refill_table[TLB_WORLD][2] = {
	[TLB_KERNEL] = { { PTE_U, 0 }, { PTE_U | PTE_W | PTE_D, PTE_W | PTE_D } },
	[TLB_KERNEL_AC] = { { 0, 0 }, { PTE_W | PTE_D, PTE_W | PTE_D } },
	[TLB_USER] = { { PTE_U, PTE_U }, { PTE_U | PTE_W | PTE_D, PTE_U | PTE_W | PTE_D } },
};

bool mmu_refill(struct mmu *mmu, uint64_t va, enum tlb_set set, bool write)
{
	const struct refill_row *row = &refill_table[set % TLB_WORLD][write];
	const struct memory *mem = mmu->memory;
	struct tlb2 *t = &mmu->priv->tlb2;
	/* As in tlb2_find, but one place: the other is for the long way. */
	bool global = va >> 63;
	uint32_t id = global ? mmu->priv->asid.global_id : asid_of(mmu, tlb_set_is_user(set))->id;
	uint64_t tag = tlb2_small_tag(va, id), data = tlb2_pick(tlb2_small_set(t, tag), tag);
	uint32_t watched;

	/* Tags lack the upper bits of what is not canonical. And 0 names a frame that nobody may read, so it looks like no entry. */
	if (UNLIKELY(!va_canonical(va, VA_BITS_5LEVEL) || mmu->trace != NULL) || !data ||
	    (data & (row->mask | TR_GUEST_2M | TR_GUEST_HUGE)) != row->want || !tr_good(mem, data))
		return false;
	watched = pool_frame(&mem->pool, tr_mfn(data))->flags & FRAME_TRACKED;
	if ((write && watched) || tlb1_crowded(mmu, set, va))
		return false;
	if (UNLIKELY(mem->pool.touched != NULL))
		mem->pool.touched[tr_mfn(data).v] = 1;
	mmu->counters.tlb_l1_misses++;
	mmu->counters.tlb_l2_hits++;
	tlb1_put(mmu, va, set, data, (data & (PTE_W | PTE_D)) == (PTE_W | PTE_D) && !watched);
	return true;
}

enum mmu_kind mmu_fetch(struct mmu *mmu, gva_t va, bool user, struct mmu_result *out)
{
	uint64_t page = va.v & PAGE_MASK, data;
	unsigned access = ACC_EXEC | (user ? ACC_USER : 0);
	struct fetch_entry *e;
	enum mmu_kind kind;

	/* The tag takes the fetch id into the bits that the page leaves: void ids make void entries. */
	e = &mmu->priv->fetch[(va.v >> PAGE_SHIFT ^ mmu->fetch_id[user] * 29) & (FETCH_CACHE - 1)];
	if (e->tag == FETCH_TAG(page, mmu->fetch_id[user]) && !!(e->data & 1) == user && LIKELY(mmu->fetch_id[user])) {
		set_result(mmu, va.v, e->data, out);
		return MMU_MAPPED;
	}
	kind = mmu_access(mmu, va, access, out);
	if (kind != MMU_MAPPED)
		return kind;
	if (UNLIKELY(!(pool_frame(&mmu->memory->pool, out->mfn)->flags & FRAME_FETCHED))) {
		memory_lock(mmu->memory);
		pool_frame(&mmu->memory->pool, out->mfn)->flags |= FRAME_FETCHED;
		memory_unlock(mmu->memory);
	}
	/* An executable translation always passes through level 2. */
	if (!tlb2_find(mmu, va.v, user, &data))
		data = 0;
	asid_fetched(mmu, va.v, user, data, data & (TR_GUEST_2M | TR_GUEST_HUGE) ? tlb2_has_large(mmu, va.v, user) : false);
	if (!data)
		return kind;
	e = &mmu->priv->fetch[(va.v >> PAGE_SHIFT ^ mmu->fetch_id[user] * 29) & (FETCH_CACHE - 1)];
	e->tag = FETCH_TAG(page, mmu->fetch_id[user]);
	e->data = (data & ~1ull) | user;
	return kind;
}
