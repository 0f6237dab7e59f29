/*
 * mmu_tlb_test.c - the two TLB levels, address spaces, invalidation, fetch ids. Cites T1 to T5 of docs/mmu.md.
 */
#include "mmu_util.h"

#define V 0x7f0000123000ull
#define K 0xffff800000200000ull
#define PCID_CR4 (LONG_CR4 | CR4_PCIDE)

/* Whether an access is answered without asking the tables. */
static bool is_cached(struct guest *g, uint64_t va, unsigned access)
{
	uint64_t misses = g->mmu.counters.tlb_l2_misses;

	try(g, va, access);
	return g->mmu.counters.tlb_l2_misses == misses;
}

IN_BOTH_MODES(an_invalid_slot_can_never_hit_not_even_for_non_canonical_addresses)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	for (unsigned i = 0; i < TLB_L1_WIDE; i++) { /* T1 */
		uint64_t page = (uint64_t)i << PAGE_SHIFT;

		for (unsigned s = 0; s < TLB_WORLD; s++) {
			assert_false(probe_hits(g, s, page, false));
			assert_false(probe_hits(g, s, page | 0xffffull << 48, false));
			assert_false(probe_hits(g, s, page | 0x1234ull << 40, true));
		}
	}
	guest_free(g);
}

IN_BOTH_MODES(entries_survive_a_switch_away_and_back_with_noflush)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	uint64_t other = MIB(8);
	uint32_t id_a, id_b;

	mmu_set_controls(&g->mmu, LONG_CR0, PCID_CR4, LONG_EFER);
	mmu_set_cr3(&g->mmu, g->root | 1);
	id_a = g->mmu.fetch_id[1];
	guest_map(g, V, 0x5000 | PWU);
	guest_write(g, guest_slot(g, other, V, 1), 0x6000 | PWU);
	EXPECT_MAPPED(g, V, ACC_READ | ACC_USER, 0x5000);
	mmu_set_cr3(&g->mmu, other | 2);
	id_b = g->mmu.fetch_id[1];
	assert_int_not_equal(id_a, id_b);
	assert_false(probe_hits(g, TLB_USER, V, false)); /* T3 */
	EXPECT_MAPPED(g, V, ACC_READ | ACC_USER, 0x6000);
	mmu_set_cr3(&g->mmu, g->root | 1 | CR3_NOFLUSH);
	assert_int_equal(g->mmu.fetch_id[1], id_a);
	assert_true(is_cached(g, V, ACC_READ | ACC_USER));
	assert_int_equal(g->r.gpa.v, 0x5000);
	mmu_set_cr3(&g->mmu, other | 2 | CR3_NOFLUSH);
	assert_int_equal(g->mmu.fetch_id[1], id_b);
	assert_true(is_cached(g, V, ACC_READ | ACC_USER));
	assert_int_equal(g->r.gpa.v, 0x6000);
	/* A flush of one space does not touch the other: T4. */
	mmu_set_cr3(&g->mmu, g->root | 1);
	assert_int_not_equal(g->mmu.fetch_id[1], id_a);
	assert_false(is_cached(g, V, ACC_READ | ACC_USER));
	mmu_set_cr3(&g->mmu, other | 2 | CR3_NOFLUSH);
	assert_true(is_cached(g, V, ACC_READ | ACC_USER));
	guest_free(g);
}

IN_BOTH_MODES(global_entries_survive_every_load_of_cr3_and_go_with_invlpg_and_pge)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	guest_map(g, K, 0x5000 | PTE_P | PTE_W | PTE_G);
	guest_map(g, K + PAGE_SIZE, 0x6000 | PTE_P | PTE_W);
	EXPECT_MAPPED(g, K, ACC_READ, 0x5000);
	assert_true(g->r.global);
	EXPECT_MAPPED(g, K + PAGE_SIZE, ACC_READ, 0x6000);
	assert_false(g->r.global);
	mmu_set_cr3(&g->mmu, g->root);
	assert_true(probe_hits(g, TLB_KERNEL_AC, K, false));
	assert_false(probe_hits(g, TLB_KERNEL_AC, K + PAGE_SIZE, false));
	assert_false(is_cached(g, K + PAGE_SIZE, ACC_READ));
	mmu_invlpg(&g->mmu, gva(K + 77));
	assert_false(is_cached(g, K, ACC_READ));
	mmu_set_controls(&g->mmu, LONG_CR0, LONG_CR4 & ~CR4_PGE, LONG_EFER);
	assert_false(is_cached(g, K, ACC_READ));
	assert_false(g->r.global);
	mmu_set_cr3(&g->mmu, g->root); /* without PGE, G means nothing */
	assert_false(is_cached(g, K, ACC_READ));
	guest_free(g);
}

IN_BOTH_MODES(a_large_page_is_one_entry_and_invlpg_of_any_page_removes_all_of_it)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	uint64_t fills;

	for (uint64_t p = MIB(4); p < MIB(6); p += PAGE_SIZE)
		guest_write(g, p, p);
	guest_map_level(g, K, 2, MIB(4) | PTE_P | PTE_W | PTE_PS);
	EXPECT_MAPPED(g, K, ACC_READ, MIB(4));
	fills = g->mmu.counters.tlb_fills;
	for (uint64_t i = 1; i < 512; i++)
		EXPECT_MAPPED(g, K + i * PAGE_SIZE, ACC_READ, MIB(4) + i * PAGE_SIZE);
	assert_int_equal(g->mmu.counters.tlb_fills, fills);
	assert_int_equal(g->mmu.counters.tlb_fills_large, 1);
	guest_map_level(g, K, 2, MIB(8) | PTE_P | PTE_W | PTE_PS);
	EXPECT_MAPPED(g, K + 5 * PAGE_SIZE, ACC_READ, MIB(4) + 5 * PAGE_SIZE); /* stale, as it may be */
	mmu_invlpg(&g->mmu, gva(K + 300 * PAGE_SIZE));
	for (uint64_t i = 0; i < 512; i++)
		EXPECT_MAPPED(g, K + i * PAGE_SIZE, ACC_READ, MIB(8) + i * PAGE_SIZE);
	guest_free(g);
}

IN_BOTH_MODES(fragments_of_a_large_guest_page_go_together_too)
{
	struct guest *g = guest_new(mode, PLACEMENT_SCATTER);

	guest_map_level(g, K, 2, MIB(4) | PTE_P | PTE_W | PTE_PS);
	guest_map_level(g, V, 3, 0 | PWU | PTE_PS);
	for (uint64_t i = 0; i < 512; i += 3)
		EXPECT_MAPPED(g, K + i * PAGE_SIZE, ACC_READ, MIB(4) + i * PAGE_SIZE);
	EXPECT_MAPPED(g, (V & ~(GIB(1) - 1)) + MIB(3), ACC_READ, MIB(3));
	guest_map_level(g, K, 2, MIB(8) | PTE_P | PTE_W | PTE_PS);
	guest_map_level(g, V, 3, 0);
	mmu_invlpg(&g->mmu, gva(K + PAGE_SIZE));
	mmu_invlpg(&g->mmu, gva((V & ~(GIB(1) - 1)) + MIB(30)));
	for (uint64_t i = 0; i < 512; i += 3)
		EXPECT_MAPPED(g, K + i * PAGE_SIZE, ACC_READ, MIB(8) + i * PAGE_SIZE);
	EXPECT_FAULT(g, (V & ~(GIB(1) - 1)) + MIB(3), ACC_READ, 0);
	guest_free(g);
}

IN_BOTH_MODES(strides_of_any_power_of_two_do_not_thrash_level_2)
{
	for (unsigned shift = 12; shift <= 24; shift++) {
		struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
		uint64_t misses;

		for (uint64_t i = 0; i < 1024; i++)
			guest_map(g, V + (i << shift), ((i & 255) << PAGE_SHIFT) | PWU);
		for (unsigned round = 0; round < 3; round++) {
			misses = g->mmu.counters.tlb_l2_misses;
			for (uint64_t i = 0; i < 1024; i++)
				EXPECT_MAPPED(g, V + (i << shift), ACC_READ, (i & 255) << PAGE_SHIFT);
		}
		/* 1024 pages in 32768 entries: at most a set or two of four is short. */
		assert_true(g->mmu.counters.tlb_l2_misses - misses < 20);
		guest_free(g);
	}
}

IN_BOTH_MODES(smap_keeps_kernel_and_ac_accesses_apart_in_level_1)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	mmu_set_controls(&g->mmu, LONG_CR0, LONG_CR4 | CR4_SMAP, LONG_EFER);
	guest_map(g, V, 0x5000 | PWU);
	EXPECT_MAPPED(g, V, ACC_READ | ACC_AC, 0x5000);
	assert_true(probe_hits(g, TLB_KERNEL_AC, V, false));
	assert_false(probe_hits(g, TLB_KERNEL, V, false));
	EXPECT_FAULT(g, V, ACC_READ, PF_P);
	EXPECT_FAULT(g, V, ACC_READ | ACC_AC | ACC_IMPLICIT, PF_P);
	assert_false(probe_hits(g, TLB_KERNEL, V, false));
	guest_free(g);
}

IN_BOTH_MODES(a_watched_frame_has_no_writable_entry_in_any_set)
{
	struct guest *g = guest_new(mode, PLACEMENT_SCATTER);

	guest_map(g, V, 0x5000 | PWU);
	guest_map(g, K, 0x5000 | PTE_P | PTE_W | PTE_G);
	EXPECT_MAPPED(g, V, ACC_WRITE | ACC_USER, 0x5000);
	EXPECT_MAPPED(g, K, ACC_WRITE, 0x5000);
	assert_true(probe_hits(g, TLB_USER, V, true));
	assert_true(track_code(&g->memory.track, g->r.mfn, 100, 10));
	mmu_write_protect(&g->mmu, g->r.mfn);
	assert_false(probe_hits(g, TLB_USER, V, true)); /* T2 */
	assert_false(probe_hits(g, TLB_KERNEL_AC, K, true));
	assert_true(probe_hits(g, TLB_USER, V, false));
	assert_int_equal(try(g, V + 104, ACC_WRITE | ACC_USER), MMU_TRACKED);
	mmu_written(&g->mmu, g->r.mfn, 104, 8);
	assert_int_equal(g->memory.track.code_writes, 1);
	assert_false(probe_hits(g, TLB_USER, V, true));
	track_clear(&g->memory.track, g->r.mfn, FRAME_CODE);
	EXPECT_MAPPED(g, V, ACC_WRITE | ACC_USER, 0x5000);
	assert_true(probe_hits(g, TLB_USER, V, true));
	guest_free(g);
}

IN_BOTH_MODES(rights_may_grow_without_a_flush)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	guest_map(g, V, 0x5000 | PTE_P | PTE_U | PTE_NX);
	EXPECT_MAPPED(g, V, ACC_READ | ACC_USER, 0x5000);
	guest_map(g, V, 0x5000 | PWU);
	EXPECT_MAPPED(g, V, ACC_WRITE | ACC_USER, 0x5000);
	EXPECT_MAPPED(g, V, ACC_EXEC | ACC_USER, 0x5000);
	guest_free(g);
}

static uint32_t fetch(struct guest *g, uint64_t va, bool user)
{
	assert_int_equal(mmu_fetch(&g->mmu, gva(va), user, &g->r), MMU_MAPPED);
	return g->mmu.fetch_id[user];
}

IN_BOTH_MODES(invlpg_gives_new_fetch_ids_only_for_pages_that_were_fetched)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	uint32_t user, kernel;

	guest_map(g, V, 0x5000 | PWU);
	guest_map(g, V + PAGE_SIZE, 0x6000 | PWU);
	guest_map(g, K, 0x7000 | PTE_P | PTE_G);
	user = fetch(g, V, true);
	kernel = fetch(g, K, false);
	EXPECT_MAPPED(g, V + PAGE_SIZE, ACC_READ, 0x6000);
	mmu_invlpg(&g->mmu, gva(V + PAGE_SIZE));
	assert_int_equal(g->mmu.fetch_id[1], user);
	assert_int_equal(g->mmu.fetch_id[0], kernel);
	mmu_invlpg(&g->mmu, gva(V + 9));
	assert_int_not_equal(g->mmu.fetch_id[1], user);
	assert_int_equal(g->mmu.fetch_id[0], kernel);
	mmu_invlpg(&g->mmu, gva(K));
	assert_int_not_equal(g->mmu.fetch_id[0], kernel);
	guest_free(g);
}

IN_BOTH_MODES(kernel_code_in_global_pages_keeps_its_fetch_id_across_spaces_and_other_code_does_not)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	uint32_t id;

	mmu_set_controls(&g->mmu, LONG_CR0, PCID_CR4, LONG_EFER);
	mmu_set_cr3(&g->mmu, g->root | 1);
	guest_map(g, K, 0x7000 | PTE_P | PTE_G);
	guest_map(g, K + PAGE_SIZE, 0x8000 | PTE_P);
	id = fetch(g, K, false);
	mmu_set_cr3(&g->mmu, g->root | 2);
	assert_int_equal(g->mmu.fetch_id[0], id);
	id = fetch(g, K + PAGE_SIZE, false);
	mmu_set_cr3(&g->mmu, g->root | 3);
	assert_int_not_equal(g->mmu.fetch_id[0], id);
	mmu_set_cr3(&g->mmu, g->root | 2 | CR3_NOFLUSH);
	assert_int_equal(g->mmu.fetch_id[0], id);
	guest_free(g);
}

IN_BOTH_MODES(invlpg_of_a_global_user_page_renews_the_fetch_ids_of_all_spaces)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	uint32_t id;

	mmu_set_controls(&g->mmu, LONG_CR0, PCID_CR4, LONG_EFER);
	guest_map(g, V, 0x5000 | PWU | PTE_G);
	mmu_set_cr3(&g->mmu, g->root | 1);
	id = fetch(g, V, true);
	mmu_set_cr3(&g->mmu, g->root | 2);
	guest_map(g, V, 0x6000 | PWU | PTE_G);
	mmu_invlpg(&g->mmu, gva(V));
	mmu_set_cr3(&g->mmu, g->root | 1 | CR3_NOFLUSH);
	assert_int_not_equal(g->mmu.fetch_id[1], id);
	fetch(g, V, true);
	assert_int_equal(g->r.gpa.v, 0x6000);
	guest_free(g);
}

IN_BOTH_MODES(when_fetch_ids_run_out_a_new_epoch_begins)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	uint32_t epoch = g->mmu.fetch_epoch, seen = 0;
	bool *used = calloc(1 << 16, sizeof(*used));

	guest_map(g, V, 0x5000 | PWU);
	for (unsigned i = 0; i < 100000; i++) {
		uint32_t id;

		mmu_set_cr3(&g->mmu, g->root);
		id = fetch(g, V, true);
		assert_int_equal(g->r.gpa.v, 0x5000);
		if (g->mmu.fetch_epoch != epoch) {
			epoch = g->mmu.fetch_epoch;
			memset(used, 0, (1 << 16) * sizeof(*used));
			seen++;
		}
		assert_in_range(id, 1, 0xffff);
		assert_false(used[id]);
		used[id] = true;
		assert_int_not_equal(g->mmu.fetch_id[0], id);
	}
	assert_int_equal(seen, 1);
	free(used);
	guest_free(g);
}

IN_BOTH_MODES(when_space_ids_run_out_everything_is_flushed_once)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	mmu_set_controls(&g->mmu, LONG_CR0, PCID_CR4, LONG_EFER);
	guest_map(g, V, 0x5000 | PWU);
	guest_map(g, K, 0x6000 | PTE_P | PTE_G);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	EXPECT_MAPPED(g, K, ACC_READ, 0x6000);
	g->mmu.priv->asid.next_id = SPACE_ID_MAX;
	g->mmu.priv->asid.next_psc = ~0u - 1;
	mmu_set_cr3(&g->mmu, g->root | 5);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	mmu_set_cr3(&g->mmu, g->root | 6); /* wraps */
	assert_int_equal(g->mmu.counters.flush_id_wrap, 1);
	assert_false(is_cached(g, K, ACC_READ));
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	mmu_set_cr3(&g->mmu, g->root | 5 | CR3_NOFLUSH);
	assert_false(is_cached(g, V, ACC_READ));
	/* And when the wrap comes with the global id. */
	g->mmu.priv->asid.next_id = SPACE_ID_MAX + 1;
	mmu_flush_all(&g->mmu);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	assert_true(is_cached(g, V, ACC_READ));
	guest_free(g);
}

IN_BOTH_MODES(invpcid_reaches_spaces_that_are_not_current)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	mmu_set_controls(&g->mmu, LONG_CR0, PCID_CR4, LONG_EFER);
	guest_map(g, V, 0x5000 | PWU);
	guest_map(g, V + PAGE_SIZE, 0x6000 | PWU);
	guest_map(g, K, 0x7000 | PTE_P | PTE_G);
	for (unsigned type = INVPCID_ADDRESS; type <= INVPCID_ALL; type++) {
		mmu_set_cr3(&g->mmu, g->root | 1);
		EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
		EXPECT_MAPPED(g, K, ACC_READ, 0x7000);
		mmu_set_cr3(&g->mmu, g->root | 2);
		EXPECT_MAPPED(g, V + PAGE_SIZE, ACC_READ, 0x6000);
		mmu_invpcid(&g->mmu, type, 1, gva(V));
		assert_int_equal(is_cached(g, V + PAGE_SIZE, ACC_READ), type < INVPCID_ALL_GLOBAL);
		assert_int_equal(is_cached(g, K, ACC_READ), type != INVPCID_ALL_GLOBAL);
		mmu_set_cr3(&g->mmu, g->root | 1 | CR3_NOFLUSH);
		assert_false(is_cached(g, V, ACC_READ));
	}
	/* One page of the current space leaves the others. */
	mmu_set_cr3(&g->mmu, g->root | 1);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	EXPECT_MAPPED(g, V + PAGE_SIZE, ACC_READ, 0x6000);
	mmu_invpcid(&g->mmu, INVPCID_ADDRESS, 1, gva(V));
	assert_true(is_cached(g, V + PAGE_SIZE, ACC_READ));
	assert_false(is_cached(g, V, ACC_READ));
	guest_free(g);
}

/* SVM's worlds (mmu.h, mmu_enter_guest): the host's entries, global ones too, and each ASID's, are met by nobody else and are still there afterwards. */
IN_BOTH_MODES(a_guest_of_the_guest_has_a_space_of_its_own_for_each_asid)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	const uint64_t other = MIB(8), cr4 = LONG_CR4 | CR4_PGE;
	uint32_t user, kernel, epoch;

	mmu_set_controls(&g->mmu, LONG_CR0, cr4, LONG_EFER);
	guest_map(g, K, 0x5000 | PTE_P | PTE_W | PTE_G);
	guest_map(g, V, 0x6000 | PWU);
	guest_write(g, guest_slot(g, other, K, 1), 0x7000 | PTE_P | PTE_W | PTE_G);
	guest_write(g, guest_slot(g, other, V, 1), 0x8000 | PWU | PTE_G);
	EXPECT_MAPPED(g, K, ACC_READ, 0x5000);
	EXPECT_MAPPED(g, V, ACC_READ | ACC_USER, 0x6000);
	assert_int_equal(mmu_fetch(&g->mmu, gva(K), false, &g->r), MMU_MAPPED);
	user = g->mmu.fetch_id[1];
	kernel = g->mmu.fetch_id[0];
	for (uint32_t asid = 1; asid < 20; asid++) {
		mmu_enter_guest(&g->mmu, asid, GUEST_KEEP, LONG_CR0, other, cr4, LONG_EFER, false, 0);
		assert_int_not_equal(g->mmu.fetch_id[0], kernel);
		assert_int_not_equal(g->mmu.fetch_id[1], user);
		assert_false(probe_hits(g, TLB_WORLD + TLB_USER, V, false)); /* the ASID before left its own there */
		assert_false(is_cached(g, K, ACC_READ));
		assert_int_equal(g->r.gpa.v, 0x7000);
		assert_int_equal(mmu_fetch(&g->mmu, gva(K), false, &g->r), MMU_MAPPED);
		assert_int_equal(g->r.gpa.v, 0x7000);
		assert_false(is_cached(g, V, ACC_READ | ACC_USER));
		assert_int_equal(g->r.gpa.v, 0x8000);
		mmu_leave_guest(&g->mmu, LONG_CR0, g->root, cr4, LONG_EFER);
		assert_int_equal(g->mmu.fetch_id[0], kernel);
		assert_int_equal(g->mmu.fetch_id[1], user);
		assert_true(probe_hits(g, TLB_USER, V, false)); /* level 1 keeps each world's */
		assert_int_equal(try(g, V, ACC_READ | ACC_USER), MMU_MAPPED);
		assert_int_equal(g->r.gpa.v, 0x6000);
		assert_true(is_cached(g, K, ACC_READ));
		assert_int_equal(g->r.gpa.v, 0x5000);
		assert_true(is_cached(g, V, ACC_READ | ACC_USER));
		assert_int_equal(g->r.gpa.v, 0x6000);
	}
	/* The last is kept; other registers, or a flush, start it afresh. */
	mmu_enter_guest(&g->mmu, 19, GUEST_KEEP, LONG_CR0, other, cr4, LONG_EFER, false, 0);
	assert_true(probe_hits(g, TLB_WORLD + TLB_USER, V, false));
	assert_true(is_cached(g, K, ACC_READ));
	assert_int_equal(g->r.gpa.v, 0x7000);
	mmu_leave_guest(&g->mmu, LONG_CR0, g->root, cr4, LONG_EFER);
	mmu_enter_guest(&g->mmu, 19, GUEST_FLUSH_ASID, LONG_CR0, other, cr4, LONG_EFER, false, 0);
	assert_false(is_cached(g, K, ACC_READ));
	assert_false(is_cached(g, V, ACC_READ | ACC_USER));
	user = fetch(g, V, true);
	kernel = fetch(g, K, false);
	mmu_leave_guest(&g->mmu, LONG_CR0, g->root, cr4, LONG_EFER);
	/* INVLPGA of one page leaves the others, and the host's. */
	mmu_invlpga(&g->mmu, 19, gva(K));
	assert_true(is_cached(g, K, ACC_READ));
	assert_int_equal(g->r.gpa.v, 0x5000);
	mmu_enter_guest(&g->mmu, 19, GUEST_KEEP, LONG_CR0, other, cr4, LONG_EFER, false, 0);
	assert_true(probe_hits(g, TLB_WORLD + TLB_USER, V, false));
	assert_true(is_cached(g, V, ACC_READ | ACC_USER));
	assert_int_equal(g->mmu.fetch_id[1], user);
	assert_int_not_equal(g->mmu.fetch_id[0], kernel);
	assert_false(is_cached(g, K, ACC_READ));
	mmu_leave_guest(&g->mmu, LONG_CR0, g->root, cr4, LONG_EFER);
	mmu_invlpga(&g->mmu, 18, gva(V)); /* another's */
	mmu_invlpga(&g->mmu, 77, gva(V)); /* nobody's */
	mmu_enter_guest(&g->mmu, 19, GUEST_KEEP, LONG_CR0, other, cr4, LONG_EFER, false, 0);
	assert_true(is_cached(g, V, ACC_READ | ACC_USER));
	mmu_leave_guest(&g->mmu, LONG_CR0, g->root, cr4, LONG_EFER);
	mmu_enter_guest(&g->mmu, 19, GUEST_KEEP, LONG_CR0, g->root, cr4, LONG_EFER, false, 0);
	assert_false(is_cached(g, K, ACC_READ));
	assert_int_equal(g->r.gpa.v, 0x5000);
	/* A load of CR3 in the guest leaves its global entries, and the host's; a change of CR4.PGE the host's. */
	EXPECT_MAPPED(g, V, ACC_READ | ACC_USER, 0x6000);
	mmu_set_cr3(&g->mmu, other);
	assert_true(is_cached(g, K, ACC_READ));
	assert_int_equal(g->r.gpa.v, 0x5000);
	assert_false(is_cached(g, V, ACC_READ | ACC_USER));
	assert_int_equal(g->r.gpa.v, 0x8000);
	mmu_set_controls(&g->mmu, LONG_CR0, cr4 & ~CR4_PGE, LONG_EFER);
	mmu_set_controls(&g->mmu, LONG_CR0, cr4, LONG_EFER);
	assert_false(is_cached(g, K, ACC_READ));
	assert_int_equal(g->r.gpa.v, 0x7000);
	assert_false(is_cached(g, V, ACC_READ | ACC_USER));
	mmu_invpcid(&g->mmu, INVPCID_ALL_GLOBAL, 0, gva(0));
	assert_false(is_cached(g, V, ACC_READ | ACC_USER));
	mmu_leave_guest(&g->mmu, LONG_CR0, g->root, cr4, LONG_EFER);
	assert_true(is_cached(g, K, ACC_READ));
	assert_int_equal(g->r.gpa.v, 0x5000);
	/* A frame that becomes watched is not written from either world. */
	EXPECT_MAPPED(g, V, ACC_WRITE | ACC_USER, 0x6000);
	assert_true(probe_hits(g, TLB_USER, V, true));
	mmu_enter_guest(&g->mmu, 19, GUEST_KEEP, LONG_CR0, other, cr4, LONG_EFER, false, 0);
	mmu_write_protect(&g->mmu, g->r.mfn);
	mmu_leave_guest(&g->mmu, LONG_CR0, g->root, cr4, LONG_EFER);
	assert_true(probe_hits(g, TLB_USER, V, false));
	assert_false(probe_hits(g, TLB_USER, V, true));
	/* What voids everything there voids it here. */
	mmu_enter_guest(&g->mmu, 19, GUEST_KEEP, LONG_CR0, other, cr4, LONG_EFER, false, 0);
	epoch = g->mmu.fetch_epoch;
	mmu_flush_all(&g->mmu);
	mmu_leave_guest(&g->mmu, LONG_CR0, g->root, cr4, LONG_EFER);
	assert_int_not_equal(g->mmu.fetch_epoch, epoch);
	assert_false(is_cached(g, K, ACC_READ));
	assert_false(is_cached(g, V, ACC_READ | ACC_USER));
	guest_free(g);
}

IN_BOTH_MODES(invlpg_of_a_non_canonical_address_does_nothing)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	guest_map(g, 0x123000, 0x5000 | PWU);
	EXPECT_MAPPED(g, 0x123000, ACC_READ, 0x5000);
	mmu_invlpg(&g->mmu, gva(1ull << 48 | 0x123000));
	assert_true(is_cached(g, 0x123000, ACC_READ));
	guest_free(g);
}

/* Tags hold all 45 bits of a page number: pages that differ in the top bits only are kept apart, in every cache. */
IN_BOTH_MODES(addresses_of_57_bits_are_told_apart_in_every_cache)
{
	struct guest *g = guest_new_5(mode, PLACEMENT_LINEAR);
	static const unsigned bit[] = { 47, 48, 49, 52, 55 };
	const uint64_t base = 0x123000;

	guest_map(g, base, 0x5000 | PWU);
	for (size_t i = 0; i < ARRAY_LEN(bit); i++)
		guest_map(g, base | 1ull << bit[i], (0x6000 + i * PAGE_SIZE) | PWU);
	for (unsigned round = 0; round < 3; round++) {
		EXPECT_MAPPED(g, base, ACC_READ | ACC_USER, 0x5000);
		assert_int_equal(mmu_fetch(&g->mmu, gva(base), true, &g->r), MMU_MAPPED);
		assert_int_equal(g->r.gpa.v, 0x5000);
		for (size_t i = 0; i < ARRAY_LEN(bit); i++) {
			EXPECT_MAPPED(g, base | 1ull << bit[i], ACC_READ | ACC_USER, 0x6000 + i * PAGE_SIZE);
			assert_int_equal(mmu_fetch(&g->mmu, gva(base | 1ull << bit[i]), true, &g->r), MMU_MAPPED);
			assert_int_equal(g->r.gpa.v, 0x6000 + i * PAGE_SIZE);
		}
	}
	/* INVLPG takes its own page only. */
	mmu_invlpg(&g->mmu, gva(base | 1ull << 55));
	assert_true(is_cached(g, base, ACC_READ));
	assert_false(is_cached(g, base | 1ull << 55, ACC_READ));
	mmu_invlpg(&g->mmu, gva(base | 1ull << 60)); /* not canonical with 57 bits either */
	assert_true(is_cached(g, base, ACC_READ));
	guest_free(g);
}

IN_BOTH_MODES(a_refill_serves_what_level_2_has_with_all_rights_and_nothing_else)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	uint64_t misses;

	guest_map(g, V, 0x5000 | PWU);
	guest_map(g, V + PAGE_SIZE, 0x6000 | PTE_P | PTE_U);
	guest_map(g, K, 0x7000 | PTE_P | PTE_W | PTE_G);
	guest_map_level(g, K + GIB(1), 2, MIB(4) | PTE_P | PTE_W | PTE_PS | PTE_D | PTE_A);
	assert_false(mmu_refill(&g->mmu, V, TLB_USER, false)); /* nobody has it */
	try(g, V, ACC_READ | ACC_USER);
	try(g, V + PAGE_SIZE, ACC_READ | ACC_USER);
	try(g, K, ACC_WRITE);
	try(g, K + GIB(1), ACC_WRITE);
	mmu_set_cr3(&g->mmu, g->root);
	assert_false(mmu_refill(&g->mmu, V, TLB_USER, false)); /* flushed */
	try(g, V, ACC_READ | ACC_USER);
	try(g, V + PAGE_SIZE, ACC_READ | ACC_USER);
	tlb1_clear(&g->mmu);
	misses = g->mmu.counters.tlb_l1_misses;
	assert_true(mmu_refill(&g->mmu, V + 8, TLB_USER, false));
	assert_int_equal(g->mmu.counters.tlb_l1_misses, misses + 1);
	assert_true(probe_hits(g, TLB_USER, V + 8, false));
	assert_false(probe_hits(g, TLB_USER, V + 8, true));
	assert_false(mmu_refill(&g->mmu, V, TLB_USER, true)); /* D is not set */
	assert_false(mmu_refill(&g->mmu, V + PAGE_SIZE, TLB_USER, true)); /* not W */
	assert_false(mmu_refill(&g->mmu, V, TLB_KERNEL, false)); /* U, and SMAP keeps this set from it */
	assert_true(mmu_refill(&g->mmu, V, TLB_KERNEL_AC, false));
	assert_false(mmu_refill(&g->mmu, K, TLB_USER, false));
	assert_true(mmu_refill(&g->mmu, K, TLB_KERNEL_AC, true));
	assert_true(probe_hits(g, TLB_KERNEL_AC, K, true));
	assert_false(mmu_refill(&g->mmu, K + GIB(1), TLB_KERNEL_AC, false)); /* of a large page */
	/* Bits that tags lack. */
	for (unsigned bit = 57; bit < 64; bit++)
		assert_false(mmu_refill(&g->mmu, V | 1ull << bit, TLB_USER, false));
	/* A write sets D; then the frame is watched, and then left. */
	try(g, V, ACC_WRITE | ACC_USER);
	tlb1_clear(&g->mmu);
	assert_true(mmu_refill(&g->mmu, V, TLB_USER, true));
	assert_true(probe_hits(g, TLB_USER, V, true));
	pool_frame(&g->memory.pool, pool_mfn_of(&g->memory.pool, g->r.hva))->flags |= FRAME_CODE;
	tlb1_clear(&g->mmu);
	assert_false(mmu_refill(&g->mmu, V, TLB_USER, true));
	assert_true(mmu_refill(&g->mmu, V, TLB_USER, false));
	assert_false(probe_hits(g, TLB_USER, V, true));
	pool_frame(&g->memory.pool, pool_mfn_of(&g->memory.pool, g->r.hva))->flags &= ~FRAME_CODE;
	assert_int_equal(memory_move(&g->memory, gpa(0x5000)), 0);
	mmu_frames_changed(&g->mmu);
	assert_false(mmu_refill(&g->mmu, V, TLB_USER, false));
	guest_free(g);
}

IN_BOTH_MODES(invlpg_drops_all_of_a_large_page_and_soon_forgets_that_there_was_one)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	const uint64_t base = V & ~(MIB(2) - 1), elsewhere = V + MIB(64);
	unsigned n = 0;

	guest_map_level(g, base, 2, MIB(8) | PWU | PTE_PS);
	guest_map(g, elsewhere, MIB(4) | PWU);
	EXPECT_MAPPED(g, elsewhere, ACC_READ | ACC_USER, MIB(4));
	for (uint64_t i = 0; i < 512; i += 73)
		EXPECT_MAPPED(g, base + i * PAGE_SIZE, ACC_READ | ACC_USER, MIB(8) + i * PAGE_SIZE);
	/* Anywhere in it; what is not of it stays. */
	mmu_invlpg(&g->mmu, gva(base + 5 * PAGE_SIZE));
	for (uint64_t i = 0; i < 512; i += 73)
		assert_false(probe_hits(g, TLB_USER, base + i * PAGE_SIZE, false));
	assert_true(probe_hits(g, TLB_USER, elsewhere, false));
	/* Small pages in its place: after some invalidations, one drops that page only. */
	guest_map_level(g, base, 2, 0);
	mmu_invlpg(&g->mmu, gva(base));
	guest_map(g, base, MIB(5) | PWU);
	guest_map(g, base + PAGE_SIZE, (MIB(5) + PAGE_SIZE) | PWU);
	do {
		EXPECT_MAPPED(g, base, ACC_READ | ACC_USER, MIB(5));
		EXPECT_MAPPED(g, base + PAGE_SIZE, ACC_READ | ACC_USER, MIB(5) + PAGE_SIZE);
		mmu_invlpg(&g->mmu, gva(base));
		assert_false(probe_hits(g, TLB_USER, base, false));
	} while (!probe_hits(g, TLB_USER, base + PAGE_SIZE, false) && n++ < 100);
	assert_in_range(n, 1, 99);
	/* And a large one once more. */
	guest_map_level(g, base, 2, MIB(8) | PWU | PTE_PS);
	mmu_invlpg(&g->mmu, gva(base));
	mmu_invlpg(&g->mmu, gva(base + PAGE_SIZE));
	EXPECT_MAPPED(g, base + 3 * PAGE_SIZE, ACC_READ | ACC_USER, MIB(8) + 3 * PAGE_SIZE);
	mmu_invlpg(&g->mmu, gva(base + 9 * PAGE_SIZE));
	assert_false(probe_hits(g, TLB_USER, base + 3 * PAGE_SIZE, false));
	guest_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_invalid_slot_can_never_hit_not_even_for_non_canonical_addresses),
		cmocka_unit_test(entries_survive_a_switch_away_and_back_with_noflush),
		cmocka_unit_test(global_entries_survive_every_load_of_cr3_and_go_with_invlpg_and_pge),
		cmocka_unit_test(a_large_page_is_one_entry_and_invlpg_of_any_page_removes_all_of_it),
		cmocka_unit_test(fragments_of_a_large_guest_page_go_together_too),
		cmocka_unit_test(strides_of_any_power_of_two_do_not_thrash_level_2),
		cmocka_unit_test(smap_keeps_kernel_and_ac_accesses_apart_in_level_1),
		cmocka_unit_test(a_watched_frame_has_no_writable_entry_in_any_set),
		cmocka_unit_test(rights_may_grow_without_a_flush),
		cmocka_unit_test(invlpg_gives_new_fetch_ids_only_for_pages_that_were_fetched),
		cmocka_unit_test(kernel_code_in_global_pages_keeps_its_fetch_id_across_spaces_and_other_code_does_not),
		cmocka_unit_test(invlpg_of_a_global_user_page_renews_the_fetch_ids_of_all_spaces),
		cmocka_unit_test(when_fetch_ids_run_out_a_new_epoch_begins),
		cmocka_unit_test(when_space_ids_run_out_everything_is_flushed_once),
		cmocka_unit_test(invpcid_reaches_spaces_that_are_not_current),
		cmocka_unit_test(a_guest_of_the_guest_has_a_space_of_its_own_for_each_asid),
		cmocka_unit_test(invlpg_of_a_non_canonical_address_does_nothing),
		cmocka_unit_test(addresses_of_57_bits_are_told_apart_in_every_cache),
		cmocka_unit_test(a_refill_serves_what_level_2_has_with_all_rights_and_nothing_else),
		cmocka_unit_test(invlpg_drops_all_of_a_large_page_and_soon_forgets_that_there_was_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
