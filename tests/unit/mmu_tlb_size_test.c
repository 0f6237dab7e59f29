/*
 * mmu_tlb_size_test.c - sets of level 1 that grow, shrink, and have second places, and what follows for the host's pages.
 */
#include "mmu_util.h"

#define V 0x7f0000123000ull

static void touch_pages(struct guest *g, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++)
		EXPECT_MAPPED(g, V + i * PAGE_SIZE, ACC_READ | ACC_USER, MIB(4) + i * PAGE_SIZE);
}

IN_BOTH_MODES(a_crowded_set_of_level_1_becomes_large_and_small_again_when_it_is_swept_often)
{
	const uint64_t pages = 3 * TLB_L1_SMALL;
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	struct p2m_entry e;
	uint64_t misses, *rest;
	char msg[256];

	g->mmu.priv->tlb1_forgiven_ns = GIB(1); /* however slow the host is */
	for (uint64_t i = 0; i < pages; i++)
		guest_map(g, V + i * PAGE_SIZE, (MIB(4) + i * PAGE_SIZE) | PWU);
	touch_pages(g, pages); /* the first time is no reason: level 2 did not have them */
	assert_int_equal(tlb1_entries(&g->mmu, TLB_USER), TLB_L1_SMALL);
	for (unsigned turn = 0; turn < 3; turn++)
		touch_pages(g, pages);
	assert_int_equal(g->mmu.counters.tlb_l1_grown, 1);
	assert_int_equal(tlb1_entries(&g->mmu, TLB_USER), TLB_L1_LARGE);
	assert_int_equal(tlb1_entries(&g->mmu, TLB_KERNEL), TLB_L1_SMALL);
	misses = g->mmu.counters.tlb_l1_misses;
	touch_pages(g, pages);
	assert_int_equal(g->mmu.counters.tlb_l1_misses, misses);
	assert_int_equal(mmu_audit(&g->mmu, msg, sizeof(msg)), 0);
	/* T3, T4: a load of CR3 drops all of them, and leaves the set large. */
	mmu_set_cr3(&g->mmu, g->root);
	for (uint64_t i = 0; i < pages; i++)
		assert_false(probe_hits(g, TLB_USER, V + i * PAGE_SIZE, false));
	touch_pages(g, pages);
	/* T2 */
	assert_true(p2m_lookup(&g->memory, gpa(MIB(4) + 2000 * PAGE_SIZE), &e));
	EXPECT_MAPPED(g, V + 2000 * PAGE_SIZE, ACC_WRITE | ACC_USER, MIB(4) + 2000 * PAGE_SIZE);
	EXPECT_MAPPED(g, V + 2001 * PAGE_SIZE, ACC_WRITE | ACC_USER, MIB(4) + 2001 * PAGE_SIZE);
	assert_true(probe_hits(g, TLB_USER, V + 2000 * PAGE_SIZE, true));
	mmu_write_protect(&g->mmu, e.m);
	assert_false(probe_hits(g, TLB_USER, V + 2000 * PAGE_SIZE, true));
	assert_true(probe_hits(g, TLB_USER, V + 2000 * PAGE_SIZE, false));
	assert_true(probe_hits(g, TLB_USER, V + 2001 * PAGE_SIZE, true));
	assert_true(p2m_lookup(&g->memory, gpa(MIB(4) + 2001 * PAGE_SIZE), &e));
	mmu_write_protect(&g->mmu, e.m);
	assert_false(probe_hits(g, TLB_USER, V + 2001 * PAGE_SIZE, true));
	/* Frames that no entry, or only one, allows writes to cost no sweep; others do, and too many make the set small. */
	for (unsigned i = 0; i < 200; i++)
		mmu_write_protect(&g->mmu, e.m);
	for (uint64_t i = 0; i < 200; i++) {
		EXPECT_MAPPED(g, V + i * PAGE_SIZE, ACC_WRITE | ACC_USER, MIB(4) + i * PAGE_SIZE);
		assert_true(p2m_lookup(&g->memory, gpa(MIB(4) + i * PAGE_SIZE), &e));
		mmu_write_protect(&g->mmu, e.m);
		assert_false(probe_hits(g, TLB_USER, V + i * PAGE_SIZE, true));
	}
	assert_int_equal(tlb1_entries(&g->mmu, TLB_USER), TLB_L1_LARGE);
	for (uint64_t i = 0; i < 200; i++)
		guest_map(g, V + (pages + i) * PAGE_SIZE, (MIB(4) + i * PAGE_SIZE) | PWU);
	for (uint64_t i = 0; i < 200 && tlb1_entries(&g->mmu, TLB_USER) == TLB_L1_LARGE; i++) {
		EXPECT_MAPPED(g, V + i * PAGE_SIZE, ACC_WRITE | ACC_USER, MIB(4) + i * PAGE_SIZE);
		EXPECT_MAPPED(g, V + (pages + i) * PAGE_SIZE, ACC_WRITE | ACC_USER, MIB(4) + i * PAGE_SIZE);
		assert_true(p2m_lookup(&g->memory, gpa(MIB(4) + i * PAGE_SIZE), &e));
		mmu_write_protect(&g->mmu, e.m);
		assert_false(probe_hits(g, TLB_USER, V + i * PAGE_SIZE, true));
		assert_false(probe_hits(g, TLB_USER, V + (pages + i) * PAGE_SIZE, true));
	}
	assert_int_equal(g->mmu.counters.tlb_l1_shrunk, 1);
	assert_int_equal(tlb1_entries(&g->mmu, TLB_USER), TLB_L1_SMALL);
	for (uint64_t i = 0; i < pages; i++)
		assert_false(probe_hits(g, TLB_USER, V + i * PAGE_SIZE, false));
	/* It rests, and for twice as long the next time that it was large only briefly. */
	rest = &g->mmu.priv->tlb1[TLB_USER].rests_until_ns;
	*rest += 1000000000000;
	for (unsigned turn = 0; turn < 4; turn++)
		touch_pages(g, pages);
	assert_int_equal(g->mmu.counters.tlb_l1_grown, 1);
	*rest = 0;
	for (unsigned turn = 0; turn < 2; turn++)
		touch_pages(g, pages);
	assert_int_equal(g->mmu.counters.tlb_l1_grown, 2);
	assert_int_equal(mmu_audit(&g->mmu, msg, sizeof(msg)), 0);
	/* What empties all of level 1 leaves it large, if there is a list of what it has. */
	mmu_set_controls(&g->mmu, LONG_CR0 & ~CR0_WP, LONG_CR4, LONG_EFER);
	assert_int_equal(tlb1_entries(&g->mmu, TLB_USER), TLB_L1_LARGE);
	for (uint64_t i = 0; i < pages; i++)
		assert_false(probe_hits(g, TLB_USER, V + i * PAGE_SIZE, false));
	/* With a global entry it is swept, which must not be too often. */
	guest_map(g, V, MIB(4) | PWU | PTE_G);
	mmu_invlpg(&g->mmu, gva(V));
	for (unsigned i = 0; i < 200 && tlb1_entries(&g->mmu, TLB_USER) == TLB_L1_LARGE; i++) {
		EXPECT_MAPPED(g, V, ACC_READ | ACC_USER, MIB(4));
		EXPECT_MAPPED(g, V + PAGE_SIZE, ACC_READ | ACC_USER, MIB(4) + PAGE_SIZE);
		mmu_set_controls(&g->mmu, i % 2 ? LONG_CR0 & ~CR0_WP : LONG_CR0, LONG_CR4, LONG_EFER);
		assert_false(probe_hits(g, TLB_USER, V, false) || probe_hits(g, TLB_USER, V + PAGE_SIZE, false));
	}
	assert_int_equal(tlb1_entries(&g->mmu, TLB_USER), TLB_L1_SMALL);
	guest_free(g);
}

/* A set of the kernel's is crowded by global entries, whatever loads of CR3 come between; but not by local ones that each load drops. */
IN_BOTH_MODES(loads_of_cr3_do_not_keep_a_kernels_set_small)
{
	for (unsigned global = 0; global < 2; global++) {
		const uint64_t pages = 3 * TLB_L1_SMALL, few = 400;
		struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
		struct mmu_result r;

		mmu_set_controls(&g->mmu, LONG_CR0, LONG_CR4 | CR4_PCIDE, LONG_EFER);
		for (uint64_t i = 0; i < pages; i++)
			guest_map(g, V + i * PAGE_SIZE, (MIB(4) + i * PAGE_SIZE) | PTE_P | PTE_W | (global ? PTE_G : 0));
		for (unsigned turn = 0; turn < 60; turn++) {
			for (uint64_t i = 0; i < few; i++) /* local ones are all there: no miss is for want of room */
				assert_int_equal(mmu_access(&g->mmu, gva(V + (global ? turn * few + i : i) % pages * PAGE_SIZE), ACC_READ, &r), MMU_MAPPED);
			mmu_set_cr3(&g->mmu, g->root | (global ? 0 : 1ull << 63));
		}
		assert_int_equal(tlb1_entries(&g->mmu, TLB_KERNEL) + tlb1_entries(&g->mmu, TLB_KERNEL_AC), (global ? TLB_L1_LARGE : TLB_L1_SMALL) + TLB_L1_SMALL);
		guest_free(g);
	}
}

IN_BOTH_MODES(a_large_set_that_is_crowded_in_turn_becomes_wide)
{
	const uint64_t pages = 3 * TLB_L1_SMALL;
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	uint64_t misses;
	char msg[256];

	g->mmu.priv->tlb1_size[1] = 2 * TLB_L1_SMALL;
	g->mmu.priv->tlb1_size[2] = 4 * TLB_L1_SMALL;
	for (uint64_t i = 0; i < pages; i++)
		guest_map(g, V + i * PAGE_SIZE, (MIB(4) + i * PAGE_SIZE) | PWU);
	for (unsigned turn = 0; turn < 2; turn++)
		touch_pages(g, pages);
	touch_pages(g, TLB_L1_SMALL + 1); /* as many as make it large */
	assert_int_equal(tlb1_entries(&g->mmu, TLB_USER), 2 * TLB_L1_SMALL);
	for (unsigned turn = 0; turn < 2; turn++)
		touch_pages(g, pages);
	assert_int_equal(tlb1_entries(&g->mmu, TLB_USER), 4 * TLB_L1_SMALL);
	assert_int_equal(g->mmu.counters.tlb_l1_grown, 2);
	touch_pages(g, pages);
	misses = g->mmu.counters.tlb_l1_misses;
	touch_pages(g, pages);
	assert_int_equal(g->mmu.counters.tlb_l1_misses, misses);
	assert_int_equal(mmu_audit(&g->mmu, msg, sizeof(msg)), 0);
	mmu_set_cr3(&g->mmu, g->root); /* all of them are local */
	for (uint64_t i = 0; i < pages; i++)
		assert_false(probe_hits(g, TLB_USER, V + i * PAGE_SIZE, false));
	assert_int_equal(tlb1_entries(&g->mmu, TLB_USER), 4 * TLB_L1_SMALL);
	guest_free(g);
}

static bool set_has(struct guest *g, uint64_t va, bool write)
{
	const struct tlb_entry *e = tlb1_find(&g->mmu, TLB_USER, va);

	return (write ? e->tag_write : e->tag_read) == (va & PAGE_MASK);
}

IN_BOTH_MODES(a_large_set_has_a_second_place_for_what_is_displaced)
{
	enum { FAR = 12 };
	const uint64_t pages = 3 * TLB_L1_SMALL, apart = TLB_L1_LARGE * PAGE_SIZE, first = GIB(64) + MIB(6), at = MIB(20);
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	uint64_t misses, seconds;
	struct p2m_entry e;
	char msg[256];

	for (uint64_t i = 0; i < pages; i++)
		guest_map(g, V + i * PAGE_SIZE, (MIB(4) + i * PAGE_SIZE) | PWU);
	for (uint64_t i = 0; i < FAR; i++)
		guest_map(g, first + i * apart, (at + i * PAGE_SIZE) | PWU);
	/* In a small set the last one is alone. */
	for (uint64_t i = 0; i < FAR; i++)
		EXPECT_MAPPED(g, first + i * apart, ACC_WRITE | ACC_USER, at + i * PAGE_SIZE);
	for (uint64_t i = 0; i < FAR; i++)
		assert_int_equal(set_has(g, first + i * apart, true), i == FAR - 1);
	for (unsigned turn = 0; turn < 4; turn++)
		touch_pages(g, pages);
	assert_int_equal(tlb1_entries(&g->mmu, TLB_USER), TLB_L1_LARGE);
	/* In a large one all of them have room, though their first place is the same; so they miss once, not again and again. */
	for (uint64_t i = 0; i < FAR; i++)
		EXPECT_MAPPED(g, first + i * apart, ACC_WRITE | ACC_USER, at + i * PAGE_SIZE);
	misses = g->mmu.counters.tlb_l1_misses;
	seconds = g->mmu.counters.tlb_l1_second;
	for (unsigned turn = 0; turn < 3; turn++)
		for (uint64_t i = 0; i < FAR; i++)
			EXPECT_MAPPED(g, first + i * apart, turn ? ACC_READ | ACC_USER : ACC_WRITE | ACC_USER, at + i * PAGE_SIZE);
	assert_int_equal(g->mmu.counters.tlb_l1_misses, misses);
	assert_int_equal(g->mmu.counters.tlb_l1_second - seconds, 3 * FAR);
	assert_int_equal(mmu_audit(&g->mmu, msg, sizeof(msg)), 0);
	/* T2: a frame that becomes watched. */
	assert_false(probe_hits(g, TLB_USER, first + 3 * apart, false));
	assert_true(set_has(g, first + 3 * apart, true));
	assert_true(p2m_lookup(&g->memory, gpa(at + 3 * PAGE_SIZE), &e));
	mmu_write_protect(&g->mmu, e.m);
	assert_false(set_has(g, first + 3 * apart, true));
	assert_true(set_has(g, first + 3 * apart, false));
	assert_true(set_has(g, first + 4 * apart, true));
	/* What its second place lets read only needs a miss to be written, and there is one entry of it afterwards. */
	EXPECT_MAPPED(g, first + 3 * apart, ACC_WRITE | ACC_USER, at + 3 * PAGE_SIZE);
	assert_true(probe_hits(g, TLB_USER, first + 3 * apart, true));
	assert_int_equal(mmu_audit(&g->mmu, msg, sizeof(msg)), 0);
	/* INVLPG, wherever the entry is. */
	for (uint64_t i = 0; i < FAR; i++) {
		assert_true(set_has(g, first + i * apart, false));
		mmu_invlpg(&g->mmu, gva(first + i * apart));
		for (uint64_t k = 0; k < FAR; k++)
			assert_int_equal(set_has(g, first + k * apart, false), k > i);
	}
	/* T3: a load of CR3. */
	for (uint64_t i = 0; i < FAR; i++)
		EXPECT_MAPPED(g, first + i * apart, ACC_READ | ACC_USER, at + i * PAGE_SIZE);
	mmu_set_cr3(&g->mmu, g->root);
	for (uint64_t i = 0; i < FAR; i++)
		assert_false(set_has(g, first + i * apart, false));
	/* T1: what an invalid slot holds is found neither in its first place nor in its second. */
	for (uint64_t i = 0; i < TLB_L1_LARGE; i++)
		assert_false(set_has(g, i << PAGE_SHIFT, false) || set_has(g, i << PAGE_SHIFT, true));
	guest_free(g);
}

IN_BOTH_MODES(invlpg_drops_all_of_a_large_page_from_second_places)
{
	const uint64_t pages = 3 * TLB_L1_SMALL, apart = TLB_L1_LARGE * PAGE_SIZE, base = GIB(64) + MIB(6);
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	for (uint64_t i = 0; i < pages; i++)
		guest_map(g, V + i * PAGE_SIZE, (MIB(4) + i * PAGE_SIZE) | PWU);
	for (unsigned turn = 0; turn < 4; turn++)
		touch_pages(g, pages);
	assert_int_equal(tlb1_entries(&g->mmu, TLB_USER), TLB_L1_LARGE);
	guest_map_level(g, base, 2, MIB(20) | PWU | PTE_PS);
	guest_map_level(g, base + apart, 2, MIB(20) | PWU | PTE_PS);
	for (uint64_t i = 0; i < 512; i += 73)
		for (uint64_t k = 0; k < 2; k++)
			EXPECT_MAPPED(g, base + k * apart + i * PAGE_SIZE, ACC_READ | ACC_USER, MIB(20) + i * PAGE_SIZE);
	for (uint64_t i = 0; i < 512; i += 73) {
		assert_false(probe_hits(g, TLB_USER, base + i * PAGE_SIZE, false));
		assert_true(set_has(g, base + i * PAGE_SIZE, false));
	}
	mmu_invlpg(&g->mmu, gva(base + 5 * PAGE_SIZE));
	for (uint64_t i = 0; i < 512; i += 73) {
		assert_false(set_has(g, base + i * PAGE_SIZE, false));
		assert_true(set_has(g, base + apart + i * PAGE_SIZE, false));
	}
	guest_free(g);
}

static uint64_t *word_at(struct guest *g, uint64_t pa)
{
	struct p2m_entry e;

	assert_true(p2m_lookup(&g->memory, gpa(pa), &e));
	return pool_ptr(&g->memory.pool, e.m);
}

IN_BOTH_MODES(memory_that_a_hypervisors_kernel_goes_through_becomes_none)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	const uint64_t pages = 3 * TLB_L1_SMALL;

	g->mmu.hypervisor = true;
	for (uint64_t i = 0; i < pages; i++)
		guest_map(g, V + i * PAGE_SIZE, (MIB(4) + i * PAGE_SIZE) | PTE_P | PTE_W);
	for (unsigned turn = 0; turn < 4; turn++)
		for (uint64_t i = 0; i < pages; i++)
			EXPECT_MAPPED(g, V + i * PAGE_SIZE, ACC_READ, MIB(4) + i * PAGE_SIZE);
	assert_int_equal(g->mmu.counters.tlb_l1_grown, 1);
	assert_int_equal(g->mmu.counters.host_large, 0);
	assert_int_equal(g->memory.pool.heat[pool_mfn_of(&g->memory.pool, word_at(g, MIB(4))).v >> 9], 0);
	guest_free(g);
}

IN_BOTH_MODES(memory_that_a_large_set_holds_becomes_large_pages_of_the_host)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	const uint64_t pages = 3 * TLB_L1_SMALL;
	uint64_t large;

	for (uint64_t i = 0; i < pages; i++)
		guest_map(g, V + i * PAGE_SIZE, (MIB(4) + i * PAGE_SIZE) | PWU);
	touch_pages(g, pages);
	for (uint64_t i = 0; i < pages; i++)
		*word_at(g, MIB(4) + i * PAGE_SIZE) = i;
	assert_int_equal(g->mmu.counters.host_large, 0);
	for (unsigned turn = 0; turn < 3; turn++)
		touch_pages(g, pages);
	assert_int_equal(g->mmu.counters.tlb_l1_grown, 1);
	/* Where the host has such pages: this asks it for one. */
	large = pool_make_large(&g->memory.pool, pool_mfn_of(&g->memory.pool, word_at(g, MIB(4)))) == POOL_LARGE_MADE ? 6 : 0;
	assert_int_equal(g->mmu.counters.host_large, large);
	for (uint64_t i = 0; i < pages; i++)
		assert_int_equal(*word_at(g, MIB(4) + i * PAGE_SIZE), i);
	touch_pages(g, pages);
	guest_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_crowded_set_of_level_1_becomes_large_and_small_again_when_it_is_swept_often),
		cmocka_unit_test(loads_of_cr3_do_not_keep_a_kernels_set_small),
		cmocka_unit_test(a_large_set_that_is_crowded_in_turn_becomes_wide),
		cmocka_unit_test(a_large_set_has_a_second_place_for_what_is_displaced),
		cmocka_unit_test(invlpg_drops_all_of_a_large_page_from_second_places),
		cmocka_unit_test(memory_that_a_hypervisors_kernel_goes_through_becomes_none),
		cmocka_unit_test(memory_that_a_large_set_holds_becomes_large_pages_of_the_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
