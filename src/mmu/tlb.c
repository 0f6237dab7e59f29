/*
 * tlb.c - level 2 of the software TLB, and what INVLPG does to both levels.
 *
 * Level 2 is hashed by its whole tag, so that strides of any power of two spread over the sets. An entry holds the guest's
 * rights, not an answer for one kind of access; so one entry serves all three sets of level 1, and a change of
 * CR0.WP or CR4.SMAP costs level 1 only.
 */
#include "mmu/tlb_lookup.h"

/* Two bits a number: with one, and no more of them set, a quarter of all questions would be answered wrong before the filter is full. */
static inline uint32_t filter_bit(uint64_t number, unsigned which) { return number * TLB2_HASH >> (64 - FILTER_SHIFT * (which + 1)) & ((1u << FILTER_SHIFT) - 1); }

void filter_add(struct filter *f, uint64_t number)
{
	for (unsigned k = 0; k < 2; k++) {
		const uint32_t h = filter_bit(number, k);
		const uint64_t bit = 1ull << (h & 63);

		f->set += !(f->bit[h >> 6] & bit);
		f->bit[h >> 6] |= bit;
	}
}

bool filter_test(const struct filter *f, uint64_t number)
{
	const uint32_t one = filter_bit(number, 0), two = filter_bit(number, 1);

	return f->bit[one >> 6] >> (one & 63) & f->bit[two >> 6] >> (two & 63) & 1;
}

void filter_clear(struct filter *f)
{
	if (f->set)
		fill_bytes(f->bit, 0, sizeof(f->bit));
	f->set = 0;
}

static void put(struct tlb2 *t, struct tlb2_set *set, uint64_t tag, uint64_t data)
{
	int w = tlb2_way(set, tag);

	if (w < 0)
		w = tlb2_way(set, 0);
	if (w < 0)
		w = t->victim++ & (L2_WAYS - 1);
	set->tag[w] = tag;
	set->data[w] = data;
}

void tlb2_insert(struct mmu *mmu, uint64_t va, bool user, uint64_t data, bool large)
{
	struct tlb2 *t = &mmu->priv->tlb2;
	uint32_t id;

	if (UNLIKELY(t->fragments_l2.set > FILTER_FULL || t->fragments_huge.set > FILTER_FULL)) {
		asid_flush_all_local(mmu);
		asid_flush_global(mmu);
		asid_flush_other_globals(mmu);
		tlb1_clear(mmu);
		filter_clear(&t->fragments_l2);
		filter_clear(&t->fragments_huge);
	}
	id = data & PTE_G ? mmu->priv->asid.global_id : asid_of(mmu, user)->id;
	mmu->counters.tlb_fills++;
	if (large) {
		uint64_t tag = tlb2_large_tag(va, id);

		mmu->counters.tlb_fills_large++;
		data = (data & ~(TR_SERIAL_MASK | TR_MFN_MASK)) | tr_name(mmu->memory, mfn(tr_mfn(data).v - (va >> PAGE_SHIFT & 511)));
		put(t, tlb2_large_set(t, tag), tag, data);
	} else {
		uint64_t tag = tlb2_small_tag(va, id);

		put(t, tlb2_small_set(t, tag), tag, data);
		if (data & (TR_GUEST_2M | TR_GUEST_HUGE))
			filter_add(&t->fragments_l2, va >> 21);
	}
	if (data & TR_GUEST_HUGE)
		filter_add(&t->fragments_huge, va >> 30);
}

static void drop(struct tlb2_set *set, uint64_t tag)
{
	int w = tlb2_way(set, tag);

	if (w >= 0)
		set->tag[w] = 0;
}

static void drop_id(struct tlb2 *t, uint64_t va, uint32_t id)
{
	uint64_t tag = tlb2_small_tag(va, id);

	drop(tlb2_small_set(t, tag), tag);
	tag = tlb2_large_tag(va, id);
	drop(tlb2_large_set(t, tag), tag);
}

void tlb2_drop(struct mmu *mmu, uint64_t va)
{
	drop_id(&mmu->priv->tlb2, va, asid_of(mmu, false)->id);
	if (mmu->mode == PAGING_DIRECT)
		drop_id(&mmu->priv->tlb2, va, asid_of(mmu, true)->id);
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

void tlb_invalidate_page(struct mmu *mmu, uint64_t va)
{
	struct tlb2 *t = &mmu->priv->tlb2;

	if (filter_test(&t->fragments_huge, va >> 30)) {
		/* Too many places to look in: new ids for whatever this space can see. */
		asid_flush(mmu, mmu->priv->asid.current);
		asid_flush_global(mmu);
		tlb1_clear_world(mmu, mmu->world);
		return;
	}
	tlb2_drop(mmu, va);
	if (filter_test(&t->fragments_l2, va >> 21)) {
		uint64_t base = va & ~(MIB(2) - 1);

		for (unsigned i = 0; i < 512; i++)
			tlb2_drop(mmu, base + i * PAGE_SIZE);
	}
	if (filter_test(&t->fragments_l1, va >> 21))
		tlb1_drop_fragments(mmu, va);
	else
		tlb1_drop(mmu, va);
}

void tlb_init(struct mmu *mmu)
{
	tlb2_clear(mmu);
	tlb1_init(mmu);
}
