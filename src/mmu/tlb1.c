/*
 * tlb1.c - level 1 of the software TLB: what is dropped from it, and how large its sets are.
 *
 * A set is small, so that it takes little memory and is swept fast, until level 2 has served so many misses since entries were last dropped (far more than it has
 * slots) that a large set pays: then random accesses to 128 MiB hit in generated code; in time, and in the same way, a wide one, for 512 MiB. Loads of CR3 cost no more by that, since only what was filled is
 * dropped, by a list. What must sweep a whole set (a frame becomes watched that it may hold as writable in more than one place, frames are left) does cost more: after SWEEPS_MAX sweeps the set is small again, and rests:
 * it does not grow for a while, which is twice as long as the last time if its life was short. So sweeps, some milliseconds for a life, take a small part of the time, and what one program did to a set
 * does not slow the next.
 *
 * A guest that needs a large set is spread over more pages than the host's TLB holds, so the host's pages of what such a set has come to hold become large ones (tlb1_hot_chunk).
 */
#include "base/clock.h"
#include "mmu/tlb_lookup.h"

#define LIMIT_SMALL (4 * TLB_L1_SMALL)
#define SWEEPS_MAX 64
#define FORGIVEN_NS 30u	/* an entry: thirty times what its part of a sweep takes */
#define FORGIVEN 64	/* misses, from one drop of entries to the next */
#define LIFE_SHORT_NS 100000000u
#define REST_FIRST_NS 4000000u
#define REST_MAX_NS 64000000u
#define DROPS_MAX 64

/* Soon after entries were dropped, windows grow again. */
#define CREDIT_EMPTY 8

static void windows_empty(struct mmu *mmu, unsigned set)
{
	uint8_t *live = mmu->window_live[set];

	if (LIKELY(!(load_u64(live) | load_u64(live + 8))))
		return;
	for (unsigned n = 0; n < TLB_WINDOWS; n++) {
		struct tlb_window *w = &mmu->window[set][n];

		if (!live[n])
			continue;
		live[n] = 0;
		w->credit = CREDIT_EMPTY;
		w->granted = 0;
		for (unsigned c = 0; c < TLB_WINDOW_CLASSES; c++)
			w->limit[c][0] = w->limit[c][1] = 0;
	}
}

/* The copies of level-1 entries: T6, T7 and T9. */
static void copies_drop(struct mmu *mmu)
{
	for (unsigned i = 0; i < TLB_SPANS; i++)
		mmu->span[i] = 0;
	for (unsigned s = 0; s < mmu->sets; s++)
		for (unsigned n = 0; n < TLB_STACK_SIZES; n++)
			tlb1_stack(mmu, s)->limit[n] = 0;
	for (unsigned s = 0; s < mmu->sets; s++)
		windows_empty(mmu, s);
}

static void invalidate(struct mmu *mmu, unsigned set, unsigned i)
{
	mmu->l1[set][i].tag_read = TLB_INVALID_TAG(i);
	mmu->l1[set][i].tag_write = TLB_INVALID_TAG(i);
}

/* The entries that are not global; their list is empty afterwards. */
static void drop_local(struct mmu *mmu, unsigned set)
{
	struct tlb1 *t = &mmu->priv->tlb1[set];
	uint32_t dropped = 0;

	for (unsigned k = 0; k < (tlb1_entries(mmu, set) + 64 * 64 - 1) / (64 * 64); k++) {
		uint64_t words = t->local_words[k];

		for (; words; words &= words - 1) {
			unsigned w = k * 64 + (unsigned)__builtin_ctzll(words);

			for (uint64_t bits = t->local[w]; bits; bits &= bits - 1)
				dropped++, invalidate(mmu, set, w * 64 + (unsigned)__builtin_ctzll(bits));
			t->local[w] = 0;
		}
		t->local_words[k] = 0;
	}
	if (!t->global)
		mmu->l1_seconds[set] = 0; /* all of the set is empty */
	/*
	 * What was dropped will miss, and level 2 will serve it: that is no reason to be larger. A small set of the kernel's goes on counting otherwise, since its global entries stay: a kernel that starts programs
	 * missed some 200 times from one load of CR3 to the next, and never enough.
	 */
	if (tlb_set_is_user(set) || tlb1_entries(mmu, set) > TLB_L1_SMALL)
		t->crowded = 0;
	else
		t->crowded -= t->crowded < dropped + FORGIVEN ? t->crowded : dropped + FORGIVEN;
}

/* All slots of another size are invalid. The caller drops the copies. */
static void set_size(struct mmu *mmu, unsigned set, unsigned entries)
{
	struct tlb1 *t = &mmu->priv->tlb1[set];

	drop_local(mmu, set);
	t->crowded = 0;
	mmu->l1_mask[set] = TLB_L1_MASK(entries);
	/* Making the set wide costs about what half as many misses do as a large one has entries, and 4 MiB, which a kernel that boots is not to take. */
	if (entries == mmu->priv->tlb1_size[2])
		t->limit = UINT32_MAX;
	else if (entries == TLB_L1_SMALL)
		t->limit = mmu->priv->tlb1_limit;
	else
		t->limit = tlb_set_is_user(set) ? entries / 2 : 4 * entries;
	t->sweeps = 0;
	mmu->l1_seconds[set] = 0;
	for (unsigned i = 0; i < entries; i++)
		invalidate(mmu, set, i);
	t->global = false;
}

void tlb1_grow(struct mmu *mmu, enum tlb_set set)
{
	const uint32_t *size = mmu->priv->tlb1_size;
	struct tlb1 *t = &mmu->priv->tlb1[set];

	t->crowded = 0;
	if (!tlb1_is_large(mmu, set)) {
		const uint64_t now = clock_ns();

		if (now < t->rests_until_ns)
			return;
		t->grown_ns = now;
	}
	copies_drop(mmu);
	set_size(mmu, set, tlb1_is_large(mmu, set) ? size[2] : size[1]);
	fill_bytes(t->writable, 0, sizeof(t->writable));
	mmu->counters.tlb_l1_grown++;
}

/* Where frames come and go one by one, large pages of the host's would only be split again. */
void tlb1_hot_chunk(struct mmu *mmu, mfn_t m)
{
	struct memory *mem = mmu->memory;

	if (mem->swap.on || mem->share.thread)
		return;
	memory_lock(mem);
	mmu->counters.host_large += pool_make_large(&mem->pool, m) == POOL_LARGE_MADE;
	memory_unlock(mem);
}

static void shrink(struct mmu *mmu, unsigned set)
{
	set_size(mmu, set, TLB_L1_SMALL);
	mmu->counters.tlb_l1_shrunk++;
}

/* Whether the set must be swept; it may become small instead, and empty. Sweeps that take a thirtieth of the time or less are as many as you like. */
static bool sweep(struct mmu *mmu, unsigned set)
{
	struct tlb1 *t = &mmu->priv->tlb1[set];
	uint64_t now, forgiven;

	if (LIKELY(!tlb1_is_large(mmu, set)))
		return true;
	now = clock_ns();
	forgiven = (now - t->swept_ns) / (mmu->priv->tlb1_forgiven_ns * tlb1_entries(mmu, set));
	t->swept_ns = now;
	t->sweeps -= forgiven < t->sweeps ? (uint32_t)forgiven : t->sweeps;
	if (++t->sweeps < SWEEPS_MAX)
		return true;
	shrink(mmu, set);
	t->rest_ns = now - t->grown_ns >= LIFE_SHORT_NS || !t->rest_ns ? mmu->priv->tlb1_rest_ns : t->rest_ns < REST_MAX_NS ? 2 * t->rest_ns : REST_MAX_NS;
	t->rests_until_ns = now + t->rest_ns;
	return false;
}

void tlb1_note_fragment(struct mmu *mmu, uint64_t va)
{
	struct filter *f = &mmu->priv->tlb2.fragments_l1;

	if (UNLIKELY(f->set > FILTER_FULL))
		tlb1_clear(mmu);
	filter_add(f, va >> 21);
}

void tlb1_drop(struct mmu *mmu, uint64_t va)
{
	copies_drop(mmu);
	for (unsigned s = mmu->world; s < mmu->world + TLB_WORLD; s++) {
		const struct tlb_entry *e = tlb1_find(mmu, s, va);

		if (e->tag_read == (va & PAGE_MASK))
			invalidate(mmu, s, (unsigned)(e - mmu->l1[s]));
	}
}

/*
 * The filter that leads here forgets nothing by itself: where the guest had a large page once, it may have small ones by now, and invalidate them one by one. So it is
 * emptied, with level 1, every now and then.
 */
void tlb1_drop_fragments(struct mmu *mmu, uint64_t va)
{
	const uint64_t base = va & ~(MIB(2) - 1);

	if (++mmu->priv->tlb2.drops_l1 >= DROPS_MAX) {
		tlb1_clear(mmu);
		return;
	}
	copies_drop(mmu);
	for (unsigned s = mmu->world; s < mmu->world + TLB_WORLD; s++) {
		const unsigned first = tlb1_index(mmu, s, base);
		/* Of all pages of the 2 MiB the second place is as far from the first. */
		const unsigned second = mmu->l1_seconds[s] ? first ^ tlb1_second(mmu, s, base) : 0;

		for (unsigned i = first; i < first + MIB(2) / PAGE_SIZE; i++) {
			if ((mmu->l1[s][i].tag_read ^ base) < MIB(2))
				invalidate(mmu, s, i);
			if (second && (mmu->l1[s][i ^ second].tag_read ^ base) < MIB(2))
				invalidate(mmu, s, i ^ second);
		}
	}
}

/* Slot by slot, which is a sweep of a large set. That of SVM's guest mode, which some hypervisors have flushed all the time, becomes small at once. */
static void clear_all(struct mmu *mmu, unsigned set, bool guest)
{
	struct tlb1 *t = &mmu->priv->tlb1[set];

	if (UNLIKELY(tlb1_is_large(mmu, set) && guest)) {
		shrink(mmu, set);
	} else if (sweep(mmu, set)) {
		const uint32_t sweeps = t->sweeps;

		set_size(mmu, set, tlb1_entries(mmu, set));
		t->sweeps = sweeps;
	}
}

void tlb1_clear_world(struct mmu *mmu, unsigned world)
{
	copies_drop(mmu);
	for (unsigned s = world; s < world + TLB_WORLD && s < mmu->sets; s++)
		if (mmu->priv->tlb1[s].global)
			clear_all(mmu, s, world);
		else
			drop_local(mmu, s); /* that is all, as of user code */
}

void tlb1_clear(struct mmu *mmu)
{
	tlb1_clear_world(mmu, 0);
	tlb1_clear_world(mmu, TLB_WORLD);
	filter_clear(&mmu->priv->tlb2.fragments_l1);
	mmu->priv->tlb2.drops_l1 = 0;
}

void tlb1_clear_local(struct mmu *mmu)
{
	copies_drop(mmu);
	for (unsigned s = mmu->world; s < mmu->world + TLB_WORLD; s++)
		drop_local(mmu, s);
}

void tlb1_enter_world(struct mmu *mmu, unsigned world)
{
	for (unsigned i = 0; i < TLB_SPANS; i++)
		mmu->span[i] = 0;
	mmu->world = world;
	if (UNLIKELY(world && mmu->sets < TLB_SETS)) {
		mmu->sets = TLB_SETS;
		tlb1_clear_world(mmu, TLB_WORLD);
	}
}

/* Of a large set. After a sweep what it says of writable frames is exact. */
static void sweep_frame(struct mmu *mmu, unsigned set, mfn_t m, uint64_t host)
{
	struct tlb1 *t = &mmu->priv->tlb1[set];

	if (!(t->writable[m.v % TLB1_FRAMES / 64] >> (m.v % 64) & 1)) {
		const unsigned slot = t->one[m.v % TLB1_ONES].slot;

		if (t->one[m.v % TLB1_ONES].mfn == m.v && tlb1_allows_write(mmu, set, slot, m.v))
			mmu->l1[set][slot].tag_write = TLB_INVALID_TAG(slot);
		return;
	}
	if (!sweep(mmu, set))
		return;
	fill_bytes(t->writable, 0, sizeof(t->writable));
	for (unsigned i = 0, n = tlb1_entries(mmu, set); i < n; i++) {
		if (mmu->l1[set][i].tag_write == TLB_INVALID_TAG(i))
			continue;
		if (mmu->l1[set][i].host == host)
			mmu->l1[set][i].tag_write = TLB_INVALID_TAG(i);
		else
			tlb1_note_writable(mmu, set, tr_mfn(mmu->l1[set][i].aux), i);
	}
}

void tlb1_write_protect(struct mmu *mmu, mfn_t m)
{
	uint64_t host = (uint64_t)(uintptr_t)pool_ptr(&mmu->memory->pool, m);

	copies_drop(mmu);
	for (unsigned s = 0; s < mmu->sets; s++) {
		if (UNLIKELY(tlb1_is_large(mmu, s))) {
			sweep_frame(mmu, s, m, host);
			continue;
		}
		for (unsigned i = 0; i < TLB_L1_SMALL; i++)
			if (mmu->l1[s][i].host == host)
				mmu->l1[s][i].tag_write = TLB_INVALID_TAG(i);
	}
}

void tlb1_drop_void(struct mmu *mmu)
{
	copies_drop(mmu);
	for (unsigned s = 0; s < mmu->sets; s++)
		for (unsigned i = 0, n = sweep(mmu, s) ? tlb1_entries(mmu, s) : 0; i < n; i++)
			if (mmu->l1[s][i].tag_read != TLB_INVALID_TAG(i) && !tr_good(mmu->memory, mmu->l1[s][i].aux))
				invalidate(mmu, s, i);
}

void tlb1_write_protect_all(struct mmu *mmu)
{
	copies_drop(mmu);
	for (unsigned s = 0; s < mmu->sets; s++)
		for (unsigned i = 0, n = sweep(mmu, s) ? tlb1_entries(mmu, s) : 0; i < n; i++)
			mmu->l1[s][i].tag_write = TLB_INVALID_TAG(i);
}

void tlb1_init(struct mmu *mmu)
{
	mmu->priv->tlb1_limit = LIMIT_SMALL;
	mmu->priv->tlb1_rest_ns = REST_FIRST_NS;
	mmu->priv->tlb1_forgiven_ns = FORGIVEN_NS;
	mmu->priv->tlb1_size[0] = TLB_L1_SMALL;
	mmu->priv->tlb1_size[1] = TLB_L1_LARGE;
	mmu->priv->tlb1_size[2] = TLB_L1_WIDE;
	mmu->world = 0;
	mmu->sets = TLB_WORLD;
	for (unsigned s = 0; s < TLB_SETS; s++) {
		mmu->priv->tlb1[s].global = true;
		mmu->l1_mask[s] = TLB_L1_MASK(TLB_L1_SMALL);
	}
	tlb1_clear(mmu);
}
