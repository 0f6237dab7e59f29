/*
 * mmu_auto_test.c - the mode auto: which address spaces go over to shadow tables, which go back, and how often.
 */
#include "mmu_util.h"

#define REGIONS 400u
#define BASE 0x10000000000ull

static uint64_t region(unsigned i) { return BASE + ((uint64_t)i << 30); }

/* One page in each of many regions, so that nested walks find nothing in the paging-structure cache. */
static void map_sparsely(struct guest *g)
{
	for (unsigned i = 0; i < REGIONS; i++)
		guest_map(g, region(i), (0x5000 + (i & 7) * PAGE_SIZE) | PWU);
}

static void touch_all(struct guest *g)
{
	mmu_set_cr3(&g->mmu, g->root);
	for (unsigned i = 0; i < REGIONS; i++)
		EXPECT_MAPPED(g, region(i), ACC_READ, 0x5000 + (i & 7) * PAGE_SIZE);
}

static void audit(struct guest *g)
{
	char msg[200] = "";

	if (mmu_audit(&g->mmu, msg, sizeof(msg)))
		fail_msg("audit: %s", msg);
}

static bool watched(struct guest *g, uint64_t pa)
{
	struct p2m_entry e;

	assert_true(p2m_lookup(&g->memory, gpa(pa), &e));
	return pool_frame(&g->memory.pool, e.m)->flags & FRAME_TABLE;
}

static void quiet_tables_with_dear_walks_are_shadowed_and_stay_so(void **state)
{
	struct guest *g = guest_new(PAGING_AUTO, PLACEMENT_SCATTER);
	uint64_t refs;

	(void)state;
	map_sparsely(g);
	touch_all(g);
	assert_int_equal(g->mmu.counters.shadow_made, 0);
	for (unsigned round = 0; round < 2000; round++)
		touch_all(g);
	audit(g);
	/* What its tries may cost grew until it sufficed to fill the tables. */
	assert_in_range(g->mmu.counters.mode_switches_shadow, 1, 6);
	assert_int_equal(g->mmu.counters.mode_switches_nested, g->mmu.counters.mode_switches_shadow - 1);
	assert_true(auto_is_shadowed(&g->mmu, g->root));
	refs = g->mmu.counters.walk_refs_guest + g->mmu.counters.walk_refs_nested;
	touch_all(g);
	assert_int_equal(g->mmu.counters.walk_refs_guest + g->mmu.counters.walk_refs_nested, refs);
	guest_free(g);
}

static void cheap_walks_are_left_as_they_are(void **state)
{
	struct guest *g = guest_new(PAGING_AUTO, PLACEMENT_SCATTER);

	(void)state;
	for (unsigned i = 0; i < 512; i++)
		guest_map(g, BASE + i * PAGE_SIZE, 0x5000 | PWU);
	for (unsigned round = 0; round < 50; round++) {
		mmu_set_cr3(&g->mmu, g->root);
		for (unsigned i = 0; i < 512; i++)
			EXPECT_MAPPED(g, BASE + i * PAGE_SIZE, ACC_READ, 0x5000);
	}
	assert_int_equal(g->mmu.counters.mode_switches_shadow, 0);
	assert_int_equal(g->mmu.counters.shadow_made, 0);
	guest_free(g);
}

static void tables_that_churn_go_back_to_nested_walks_are_watched_no_more_and_wait_longer_each_time(void **state)
{
	struct guest *g = guest_new(PAGING_AUTO, PLACEMENT_SCATTER);
	uint64_t early, late, slot;

	(void)state;
	map_sparsely(g);
	slot = guest_slot(g, g->root, region(1), 2);
	for (unsigned round = 0; round < 2000; round++) {
		touch_all(g);
		/* Directories are written: trapped, where they are shadowed. */
		for (unsigned i = 0; i < REGIONS; i++) {
			const uint64_t at = guest_slot(g, g->root, region(i), 2);

			guest_write(g, at, guest_read(g, at));
		}
		if (!auto_is_shadowed(&g->mmu, g->root)) {
			assert_false(watched(g, g->root));
			assert_false(watched(g, slot));
		}
		if (round == 999) {
			early = g->mmu.counters.mode_switches_nested;
			audit(g);
		}
	}
	late = g->mmu.counters.mode_switches_nested - early;
	assert_true(early >= 2);
	assert_true(late < early);
	guest_free(g);
}

static void spaces_choose_each_for_themselves(void **state)
{
	struct guest *g = guest_new(PAGING_AUTO, PLACEMENT_SCATTER);
	const uint64_t other = MIB(16);

	(void)state;
	map_sparsely(g);
	guest_write(g, guest_slot(g, other, BASE, 1), 0x9000 | PWU);
	for (unsigned round = 0; round < 2000; round++) {
		touch_all(g);
		mmu_set_cr3(&g->mmu, other);
		EXPECT_MAPPED(g, BASE, ACC_READ, 0x9000);
	}
	assert_true(auto_is_shadowed(&g->mmu, g->root));
	assert_false(auto_is_shadowed(&g->mmu, other));
	assert_true(watched(g, g->root));
	assert_false(watched(g, other));
	guest_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quiet_tables_with_dear_walks_are_shadowed_and_stay_so),
		cmocka_unit_test(cheap_walks_are_left_as_they_are),
		cmocka_unit_test(tables_that_churn_go_back_to_nested_walks_are_watched_no_more_and_wait_longer_each_time),
		cmocka_unit_test(spaces_choose_each_for_themselves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
