/*
 * tlb.c - both levels of the software TLB.
 *
 * Level 2 is hashed by its whole tag, so that strides of any power of two spread over the sets. An entry holds the guest's
 * rights, not an answer for one kind of access; so one entry serves all three sets of level 1, and a change of
 * CR0.WP or CR4.SMAP costs level 1 only.
 */
#include "mmu/mmu_internal.h"

#define HASH 0x9e3779b97f4a7c15ull
#define VPN_MASK ((1ull << (48 - PAGE_SHIFT)) - 1)
#define LARGE_SHIFT 21

void filter_add(struct filter *f, uint64_t number)
{
	uint64_t h = number * HASH >> (64 - 15), bit = 1ull << (h & 63);

	f->set += !(f->bit[h >> 6] & bit);
	f->bit[h >> 6] |= bit;
}

bool filter_test(const struct filter *f, uint64_t number)
{
	uint64_t h = number * HASH >> (64 - 15);

	return f->bit[h >> 6] >> (h & 63) & 1;
}

void filter_clear(struct filter *f)
{
	if (f->set)
		fill_bytes(f->bit, 0, sizeof(f->bit));
	f->set = 0;
}

static uint64_t small_tag(uint64_t va, uint32_t id) { return (va >> PAGE_SHIFT & VPN_MASK) << SPACE_BITS | id; }
static uint64_t large_tag(uint64_t va, uint32_t id) { return (va >> LARGE_SHIFT & VPN_MASK >> 9) << SPACE_BITS | id; }
static struct tlb2_set *small_set(struct tlb2 *t, uint64_t tag) { return &t->small[tag * HASH >> (64 - L2_SMALL_SHIFT)]; }
static struct tlb2_set *large_set(struct tlb2 *t, uint64_t tag) { return &t->large[tag * HASH >> (64 - L2_LARGE_SHIFT)]; }

static int way_of(const struct tlb2_set *set, uint64_t tag)
{
	for (int w = 0; w < L2_WAYS; w++)
		if (set->tag[w] == tag)
			return w;
	return -1;
}

static bool find(const struct tlb2_set *set, uint64_t tag, uint64_t *data)
{
	int w = way_of(set, tag);

	if (w < 0)
		return false;
	*data = set->data[w];
	return true;
}

static bool find_id(struct tlb2 *t, uint64_t va, uint32_t id, uint64_t *data)
{
	uint64_t tag = small_tag(va, id);

	if (find(small_set(t, tag), tag, data))
		return true;
	tag = large_tag(va, id);
	if (!find(large_set(t, tag), tag, data))
		return false;
	*data += va & (MIB(2) - PAGE_SIZE); /* the frame of va's own page */
	return true;
}

bool tlb2_find(struct mmu *mmu, uint64_t va, uint64_t *data)
{
	struct tlb2 *t = &mmu->priv->tlb2;
	uint32_t own = asid_current(mmu)->id, global = mmu->priv->asid.global_id;
	bool upper = va >> 63; /* where kernels keep global pages */

	return find_id(t, va, upper ? global : own, data) || find_id(t, va, upper ? own : global, data);
}

static void put(struct tlb2 *t, struct tlb2_set *set, uint64_t tag, uint64_t data)
{
	int w = way_of(set, tag);

	if (w < 0)
		w = way_of(set, 0);
	if (w < 0)
		w = t->victim++ & (L2_WAYS - 1);
	set->tag[w] = tag;
	set->data[w] = data;
}

void tlb2_insert(struct mmu *mmu, uint64_t va, uint64_t data, bool large)
{
	struct tlb2 *t = &mmu->priv->tlb2;
	uint32_t id;

	if (UNLIKELY(t->fragments_l2.set > FILTER_FULL || t->fragments_huge.set > FILTER_FULL)) {
		asid_flush_all_local(mmu);
		asid_flush_global(mmu);
		tlb1_clear(mmu);
		filter_clear(&t->fragments_l2);
		filter_clear(&t->fragments_huge);
	}
	id = data & PTE_G ? mmu->priv->asid.global_id : asid_current(mmu)->id;
	mmu->counters.tlb_fills++;
	if (large) {
		uint64_t tag = large_tag(va, id);

		mmu->counters.tlb_fills_large++;
		put(t, large_set(t, tag), tag, data - (va & (MIB(2) - PAGE_SIZE)));
	} else {
		uint64_t tag = small_tag(va, id);

		put(t, small_set(t, tag), tag, data);
		if (data & (TR_GUEST_2M | TR_GUEST_HUGE))
			filter_add(&t->fragments_l2, va >> 21);
	}
	if (data & TR_GUEST_HUGE)
		filter_add(&t->fragments_huge, va >> 30);
}

static void drop(struct tlb2_set *set, uint64_t tag)
{
	int w = way_of(set, tag);

	if (w >= 0)
		set->tag[w] = 0;
}

static void drop_id(struct tlb2 *t, uint64_t va, uint32_t id)
{
	uint64_t tag = small_tag(va, id);

	drop(small_set(t, tag), tag);
	tag = large_tag(va, id);
	drop(large_set(t, tag), tag);
}

void tlb2_drop(struct mmu *mmu, uint64_t va)
{
	drop_id(&mmu->priv->tlb2, va, asid_current(mmu)->id);
	drop_id(&mmu->priv->tlb2, va, mmu->priv->asid.global_id);
}

void tlb2_clear(struct mmu *mmu)
{
	struct tlb2 *t = &mmu->priv->tlb2;

	for (unsigned i = 0; i < ARRAY_LEN(t->small); i++)
		for (unsigned w = 0; w < L2_WAYS; w++)
			t->small[i].tag[w] = 0;
	for (unsigned i = 0; i < ARRAY_LEN(t->large); i++)
		for (unsigned w = 0; w < L2_WAYS; w++)
			t->large[i].tag[w] = 0;
	filter_clear(&t->fragments_l1);
	filter_clear(&t->fragments_l2);
	filter_clear(&t->fragments_huge);
}

/* IMPLICIT accesses ignore EFLAGS.AC, so they are of the set that AC does not open. */
enum tlb_set tlb_set_of(const struct mmu *mmu, unsigned access)
{
	if ((access & (ACC_USER | ACC_IMPLICIT)) == ACC_USER)
		return TLB_USER;
	if (!mmu->priv->controls.smap)
		return TLB_KERNEL_AC;
	return (access & (ACC_AC | ACC_IMPLICIT)) == ACC_AC ? TLB_KERNEL_AC : TLB_KERNEL;
}

void tlb1_fill(struct mmu *mmu, uint64_t va, enum tlb_set set, uint64_t data)
{
	struct tlb2 *t = &mmu->priv->tlb2;
	unsigned i = tlb_l1_index(va);
	struct tlb_entry *e = &mmu->l1[set][i];
	uint64_t page = va & PAGE_MASK;
	mfn_t m = mfn((data & TR_MFN_MASK) >> PAGE_SHIFT);
	bool may_write = (data & PTE_W) || (set != TLB_USER && !mmu->priv->controls.wp);

	if (UNLIKELY(t->fragments_l1.set > FILTER_FULL))
		tlb1_clear(mmu);
	e->tag_read = page;
	e->tag_write = may_write && (data & PTE_D) && !(pool_frame(&mmu->memory->pool, m)->flags & FRAME_TRACKED) ?
			       page : TLB_INVALID_TAG(i);
	e->host = (uint64_t)(uintptr_t)pool_ptr(&mmu->memory->pool, m);
	e->aux = data;
	if (data & PTE_G)
		t->local[set][i / 64] &= ~(1ull << (i % 64));
	else
		t->local[set][i / 64] |= 1ull << (i % 64);
	if (data & (TR_GUEST_2M | TR_GUEST_HUGE))
		filter_add(&t->fragments_l1, va >> 21);
}

static void stack_drop(struct mmu *mmu)
{
	for (unsigned s = 0; s < TLB_SETS; s++)
		for (unsigned n = 0; n < TLB_STACK_SIZES; n++)
			mmu->stack[s].limit[n] = 0;
}

static void invalidate(struct mmu *mmu, unsigned set, unsigned i)
{
	mmu->l1[set][i].tag_read = TLB_INVALID_TAG(i);
	mmu->l1[set][i].tag_write = TLB_INVALID_TAG(i);
}

void tlb1_drop(struct mmu *mmu, uint64_t va)
{
	unsigned i = tlb_l1_index(va);

	stack_drop(mmu);
	for (unsigned s = 0; s < TLB_SETS; s++)
		if (mmu->l1[s][i].tag_read == (va & PAGE_MASK))
			invalidate(mmu, s, i);
}

void tlb1_clear(struct mmu *mmu)
{
	stack_drop(mmu);
	for (unsigned s = 0; s < TLB_SETS; s++) {
		for (unsigned i = 0; i < TLB_L1_ENTRIES; i++)
			invalidate(mmu, s, i);
		for (unsigned i = 0; i < TLB_L1_ENTRIES / 64; i++)
			mmu->priv->tlb2.local[s][i] = 0;
	}
	filter_clear(&mmu->priv->tlb2.fragments_l1);
}

void tlb1_clear_local(struct mmu *mmu)
{
	stack_drop(mmu);
	for (unsigned s = 0; s < TLB_SETS; s++) {
		for (unsigned w = 0; w < TLB_L1_ENTRIES / 64; w++) {
			uint64_t bits = mmu->priv->tlb2.local[s][w];

			while (bits) {
				invalidate(mmu, s, w * 64 + (unsigned)__builtin_ctzll(bits));
				bits &= bits - 1;
			}
			mmu->priv->tlb2.local[s][w] = 0;
		}
	}
}

void tlb1_write_protect(struct mmu *mmu, mfn_t m)
{
	uint64_t host = (uint64_t)(uintptr_t)pool_ptr(&mmu->memory->pool, m);

	stack_drop(mmu);
	for (unsigned s = 0; s < TLB_SETS; s++)
		for (unsigned i = 0; i < TLB_L1_ENTRIES; i++)
			if (mmu->l1[s][i].host == host)
				mmu->l1[s][i].tag_write = TLB_INVALID_TAG(i);
}

void tlb_invalidate_page(struct mmu *mmu, uint64_t va)
{
	struct tlb2 *t = &mmu->priv->tlb2;

	if (filter_test(&t->fragments_huge, va >> 30)) {
		/* Too many places to look in: new ids for whatever this space can see. */
		asid_flush(mmu, mmu->priv->asid.current);
		asid_flush_global(mmu);
		tlb1_clear(mmu);
		return;
	}
	tlb2_drop(mmu, va);
	if (filter_test(&t->fragments_l2, va >> 21)) {
		uint64_t base = va & ~(MIB(2) - 1);

		for (unsigned i = 0; i < 512; i++)
			tlb2_drop(mmu, base + i * PAGE_SIZE);
	}
	if (filter_test(&t->fragments_l1, va >> 21))
		tlb1_clear(mmu);
	else
		tlb1_drop(mmu, va);
}

void tlb_init(struct mmu *mmu)
{
	tlb2_clear(mmu);
	tlb1_clear(mmu);
}
