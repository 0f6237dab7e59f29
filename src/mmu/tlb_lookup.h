/*
 * tlb_lookup.h - the part of the TLB that every level-1 miss runs through, inline: the look-up in level 2 and the fill of level 1.
 */
#ifndef MMU_TLB_LOOKUP_H
#define MMU_TLB_LOOKUP_H

#include "base/tune.h"
#include "mmu/mmu_internal.h"

/* A multiplier under which strides of every power of two, up to all 45 bits of a page number, fill the sets evenly (searched for; tests/unit/mmu_tlb_test.c). */
#define TLB2_HASH 0x955753b579933f4dull
#define TLB2_VPN_MASK ((1ull << (VA_BITS_5LEVEL - PAGE_SHIFT)) - 1)

static inline uint64_t tlb2_small_tag(uint64_t va, uint32_t id) { return (va >> PAGE_SHIFT & TLB2_VPN_MASK) << SPACE_BITS | id; }
static inline uint64_t tlb2_large_tag(uint64_t va, uint32_t id) { return (va >> 21 & TLB2_VPN_MASK >> 9) << SPACE_BITS | id; }
static inline struct tlb2_set *tlb2_small_set(struct tlb2 *t, uint64_t tag) { return &t->small[tag * TLB2_HASH >> (64 - L2_SMALL_SHIFT)]; }
static inline struct tlb2_set *tlb2_large_set(struct tlb2 *t, uint64_t tag) { return &t->large[tag * TLB2_HASH >> (64 - L2_LARGE_SHIFT)]; }

static inline int tlb2_way(const struct tlb2_set *set, uint64_t tag)
{
	for (int w = 0; w < L2_WAYS; w++)
		if (set->tag[w] == tag)
			return w;
	return -1;
}

/* The data of the way that has the tag, or 0. Without a branch: which way it is nobody can foretell, and the look-up's own misses are to overlap. */
static inline uint64_t tlb2_pick(const struct tlb2_set *set, uint64_t tag)
{
	_Static_assert(L2_WAYS == 4, "all of them");
	return (set->data[0] & -(uint64_t)(set->tag[0] == tag)) | (set->data[1] & -(uint64_t)(set->tag[1] == tag)) |
	       (set->data[2] & -(uint64_t)(set->tag[2] == tag)) | (set->data[3] & -(uint64_t)(set->tag[3] == tag));
}

/*
 * An entry whose frame was left since it was made is none. Large entries first: they are few, so that their sets stay in the host's caches, and memory
 * that they cover does not bring in a set of small ones for each of its pages.
 */
static inline bool tlb2_find_id(const struct memory *mem, struct tlb2 *t, uint64_t va, uint32_t id, uint64_t *data)
{
	uint64_t tag = tlb2_large_tag(va, id);
	const struct tlb2_set *set = tlb2_large_set(t, tag);
	int w = tlb2_way(set, tag);

	if (w >= 0 && LIKELY(tr_good(mem, set->data[w]))) {
		/* The frame of va's own page. */
		*data = (set->data[w] & ~(TR_SERIAL_MASK | TR_MFN_MASK)) |
			tr_name(mem, mfn(tr_mfn(set->data[w]).v + (va >> PAGE_SHIFT & 511)));
		return true;
	}
	tag = tlb2_small_tag(va, id);
	set = tlb2_small_set(t, tag);
	w = tlb2_way(set, tag);
	if (w < 0 || UNLIKELY(!tr_good(mem, set->data[w])))
		return false;
	*data = set->data[w];
	return true;
}

/* Data of va's own page in *data; searches the current space and the global entries. */
static inline bool tlb2_find(struct mmu *mmu, uint64_t va, bool user, uint64_t *data)
{
	struct tlb2 *t = &mmu->priv->tlb2;
	uint32_t own = asid_of(mmu, user)->id, global = mmu->priv->asid.global_id;
	bool upper = va >> 63; /* where kernels keep global pages */

	return tlb2_find_id(mmu->memory, t, va, upper ? global : own, data) || tlb2_find_id(mmu->memory, t, va, upper ? own : global, data);
}

/* Is what tlb2_find found an entry of 2 MiB? */
static inline bool tlb2_has_large(struct mmu *mmu, uint64_t va, bool user)
{
	const uint64_t own = tlb2_large_tag(va, asid_of(mmu, user)->id), global = tlb2_large_tag(va, mmu->priv->asid.global_id);

	return tlb2_way(tlb2_large_set(&mmu->priv->tlb2, own), own) >= 0 || tlb2_way(tlb2_large_set(&mmu->priv->tlb2, global), global) >= 0;
}

/* IMPLICIT accesses ignore EFLAGS.AC, so they are of the set that AC does not open. */
static inline enum tlb_set tlb_set_of(const struct mmu *mmu, unsigned access)
{
	if ((access & (ACC_USER | ACC_IMPLICIT)) == ACC_USER)
		return mmu->world + TLB_USER;
	if (!mmu->priv->controls.smap)
		return mmu->world + TLB_KERNEL_AC;
	return mmu->world + ((access & (ACC_AC | ACC_IMPLICIT)) == ACC_AC ? TLB_KERNEL_AC : TLB_KERNEL);
}

static inline bool tlb1_allows_write(const struct mmu *mmu, enum tlb_set set, unsigned slot, uint64_t m)
{
	const struct tlb_entry *e = &mmu->l1[set][slot];

	return e->tag_write != TLB_INVALID_TAG(slot) && tr_mfn(e->aux).v == m;
}

/* The slot, which is that of an entry now, allows writes to the frame (struct tlb1). */
static inline void tlb1_note_writable(struct mmu *mmu, enum tlb_set set, mfn_t m, unsigned slot)
{
	struct tlb1 *t = &mmu->priv->tlb1[set];
	const uint32_t old = t->one[m.v % TLB1_ONES].mfn, old_slot = t->one[m.v % TLB1_ONES].slot;

	if (LIKELY(old == m.v && old_slot == slot))
		return;
	if (tlb1_allows_write(mmu, set, old_slot, old))
		t->writable[old % TLB1_FRAMES / 64] |= 1ull << (old % 64);
	t->one[m.v % TLB1_ONES].mfn = (uint32_t)m.v;
	t->one[m.v % TLB1_ONES].slot = slot;
}

/* Slot i of a large set is about to become page's: what it holds goes to its second place, and page's entry goes from there. */
static inline void tlb1_make_room(struct mmu *mmu, enum tlb_set set, unsigned i, uint64_t page)
{
	struct tlb1 *t = &mmu->priv->tlb1[set];
	struct tlb_entry *l1 = mmu->l1[set];
	const uint64_t tag = l1[i].tag_read;
	const unsigned own = tlb1_second(mmu, set, page);
	unsigned to;

	if (tag == page)
		return;
	if (mmu->l1_seconds[set] && own != i && l1[own].tag_read == page)
		l1[own].tag_read = l1[own].tag_write = TLB_INVALID_TAG(own);
	if (tag == TLB_INVALID_TAG(i) || !tune_on(mmu->memory->tune, TUNE_SECOND_PLACES))
		return;
	to = tlb1_second(mmu, set, tag);
	if (tlb1_index(mmu, set, tag) != i || to == i)
		return; /* it has been displaced before */
	mmu->l1_seconds[set] = 1;
	l1[to] = l1[i];
	l1[i].tag_write = TLB_INVALID_TAG(i);
	if (l1[to].tag_write == tag)
		tlb1_note_writable(mmu, set, tr_mfn(l1[to].aux), to);
	else
		l1[to].tag_write = TLB_INVALID_TAG(to);
	t->local[to / 64] = (t->local[to / 64] & ~(1ull << (to % 64))) | (t->local[i / 64] >> (i % 64) & 1) << (to % 64);
	t->local_words[to / 64 / 64] |= 1ull << (to / 64 % 64);
}

/* Makes `data` va's entry in the set; if it is part of a large guest page, that has been noted. */
static inline void tlb1_put(struct mmu *mmu, uint64_t va, enum tlb_set set, uint64_t data, bool writable)
{
	struct tlb1 *t = &mmu->priv->tlb1[set];
	unsigned i = tlb1_index(mmu, set, va);
	struct tlb_entry *e = &mmu->l1[set][i];
	uint64_t page = va & PAGE_MASK, bit = 1ull << (i % 64);

	if (UNLIKELY(tlb1_is_large(mmu, set)))
		tlb1_make_room(mmu, set, i, page);
	e->tag_read = page;
	e->tag_write = writable ? page : TLB_INVALID_TAG(i);
	e->host = (uint64_t)(uintptr_t)mmu->memory->pool.base + (data & TR_MFN_MASK);
	e->aux = data;
	t->local[i / 64] = (t->local[i / 64] & ~bit) | (data & PTE_G ? 0 : bit);
	t->global |= !!(data & PTE_G);
	t->local_words[i / 64 / 64] |= 1ull << (i / 64 % 64);
	if (UNLIKELY(tlb1_is_large(mmu, set))) {
		if (writable)
			tlb1_note_writable(mmu, set, tr_mfn(data), i);
		if ((tlb_set_is_user(set) || !mmu->hypervisor) && pool_is_hot(&mmu->memory->pool, tr_mfn(data)))
			tlb1_hot_chunk(mmu, tr_mfn(data));
	}
}

/* watched: what the frame's flags say now. */
static inline void tlb1_fill(struct mmu *mmu, uint64_t va, enum tlb_set set, uint64_t data, bool watched)
{
	bool may_write = (data & PTE_W) || (!tlb_set_is_user(set) && !mmu->priv->controls.wp);

	if (UNLIKELY(data & (TR_GUEST_2M | TR_GUEST_HUGE)))
		tlb1_note_fragment(mmu, va);
	tlb1_put(mmu, va, set, data, may_write && (data & PTE_D) && !watched);
}

/* A large set is about to lose an entry to va: its guest may use more pages than it has room for, and more than level 2 keeps. */
static inline bool tlb1_displaces(const struct mmu *mmu, enum tlb_set set, uint64_t va)
{
	const unsigned i = tlb1_index(mmu, set, va);
	const uint64_t tag = mmu->l1[set][i].tag_read;

	return UNLIKELY(tlb1_is_large(mmu, set)) && tag != TLB_INVALID_TAG(i) && tag != (va & PAGE_MASK);
}

/*
 * Level 2 had what level 1 is about to have for va. Whether that has come to the limit since entries were last dropped: then tlb1_grow. A set that is not small fills first, which is
 * no sign that it should be larger: of its misses those count that displace an entry.
 */
static inline bool tlb1_crowded(struct mmu *mmu, enum tlb_set set, uint64_t va)
{
	struct tlb1 *t = &mmu->priv->tlb1[set];

	if (UNLIKELY(tlb1_is_large(mmu, set)) && !tlb1_displaces(mmu, set, va))
		return false;
	return UNLIKELY(++t->crowded >= t->limit);
}

#endif
