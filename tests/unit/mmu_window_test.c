/*
 * mmu_window_test.c - windows of the TLB (T9): how far a run of pages goes, how it grows, and that it goes with whatever level 1 loses.
 */
#include "mmu_util.h"

#define V 0x7f0000123000ull
#define PAGES 40

static void read_page(struct guest *g, unsigned i) { EXPECT_MAPPED(g, V + i * PAGE_SIZE, ACC_READ | ACC_USER, MIB(4) + i * PAGE_SIZE); }

/* PAGES pages in a row, of guest-physical memory in a row; level 1 has them all. */
static struct guest *guest_in_a_row(enum paging_mode mode)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	for (unsigned i = 0; i < PAGES; i++)
		guest_map(g, V + i * PAGE_SIZE, (MIB(4) + i * PAGE_SIZE) | PWU | PTE_D);
	for (unsigned i = 0; i < PAGES; i++)
		read_page(g, i);
	return g;
}

/* An access through window n, as generated code makes it. */
static bool serves(struct guest *g, enum tlb_set set, unsigned n, uint64_t va, unsigned size, bool write)
{
	const struct tlb_window *w = &g->mmu.window[set][n];
	unsigned c = 0;

	while (tlb_window_size[c] < size)
		c++;
	return va - w->base < w->limit[c][write];
}

static void expect_run(struct guest *g, unsigned n, uint64_t first, uint64_t pages)
{
	const struct tlb_window *w = &g->mmu.window[TLB_USER][n];

	assert_int_equal(w->base, V + first * PAGE_SIZE);
	assert_int_equal(tlb_window_length(w), pages * PAGE_SIZE);
}

IN_BOTH_MODES(a_window_is_the_run_that_level_1_has_around_an_address)
{
	struct guest *g = guest_in_a_row(mode);
	const struct tlb_window *w = &g->mmu.window[TLB_USER][3];
	const uint64_t end = V + PAGES * PAGE_SIZE;

	assert_int_equal(mmu_window_make(&g->mmu, TLB_USER, 3, V + 20 * PAGE_SIZE + 5), 0);
	expect_run(g, 3, 0, PAGES);
	/* The longer it took to find, the more misses until it is looked for again. */
	assert_true(w->credit > PAGES);
	assert_int_equal(mmu_window_make(&g->mmu, TLB_USER, 3, V), w->credit);
	assert_int_equal(w->delta, g->mmu.l1[TLB_USER][tlb1_index(&g->mmu, TLB_USER, V)].host - V);
	/* To the last byte, whatever the size. */
	for (unsigned c = 0; c < TLB_WINDOW_CLASSES; c++) {
		const unsigned size = tlb_window_size[c];

		assert_true(serves(g, TLB_USER, 3, V, size, false));
		assert_true(serves(g, TLB_USER, 3, V + 7 * PAGE_SIZE - size / 2, size, true));
		assert_true(serves(g, TLB_USER, 3, end - size, size, true));
		assert_false(serves(g, TLB_USER, 3, end - size + 1, size, false));
		assert_false(serves(g, TLB_USER, 3, V - 1, size, false));
	}
	/* What level 1 lacks ends it, and nothing is asked for. */
	mmu_invlpg(&g->mmu, gva(V + 9 * PAGE_SIZE));
	mmu_window_make(&g->mmu, TLB_USER, 3, V + 20 * PAGE_SIZE);
	expect_run(g, 3, 10, PAGES - 10);
	mmu_window_make(&g->mmu, TLB_USER, 4, V + 9 * PAGE_SIZE);
	assert_int_equal(g->mmu.window[TLB_USER][4].limit[0][0], 0);
	guest_free(g);
}

IN_BOTH_MODES(a_run_ends_where_rights_or_host_addresses_do_not_go_on)
{
	struct guest *g = guest_in_a_row(mode);

	guest_map(g, V + 5 * PAGE_SIZE, (MIB(4) + 5 * PAGE_SIZE) | PTE_P | PTE_U);
	mmu_invlpg(&g->mmu, gva(V + 5 * PAGE_SIZE));
	read_page(g, 5);
	guest_map(g, V + 30 * PAGE_SIZE, MIB(6) | PWU | PTE_D);
	mmu_invlpg(&g->mmu, gva(V + 30 * PAGE_SIZE));
	EXPECT_MAPPED(g, V + 30 * PAGE_SIZE, ACC_READ | ACC_USER, MIB(6));
	mmu_window_make(&g->mmu, TLB_USER, 0, V + 20 * PAGE_SIZE);
	expect_run(g, 0, 6, 24);
	mmu_window_make(&g->mmu, TLB_USER, 1, V + 5 * PAGE_SIZE);
	expect_run(g, 1, 5, 1);
	assert_true(serves(g, TLB_USER, 1, V + 5 * PAGE_SIZE, 8, false));
	assert_false(serves(g, TLB_USER, 1, V + 5 * PAGE_SIZE, 8, true));
	guest_free(g);
}

IN_BOTH_MODES(a_window_takes_in_the_page_that_follows_or_precedes_it)
{
	struct guest *g = guest_in_a_row(mode);

	mmu_set_cr3(&g->mmu, g->root);
	read_page(g, 8);
	mmu_window_make(&g->mmu, TLB_USER, 2, V + 8 * PAGE_SIZE);
	expect_run(g, 2, 8, 1);
	read_page(g, 9);
	mmu_window_grow(&g->mmu, TLB_USER, 2, V + 9 * PAGE_SIZE + 100);
	expect_run(g, 2, 8, 2);
	read_page(g, 7);
	mmu_window_grow(&g->mmu, TLB_USER, 2, V + 7 * PAGE_SIZE);
	expect_run(g, 2, 7, 3);
	/* Not one that is further away, nor one that level 1 does not have. */
	read_page(g, 11);
	mmu_window_grow(&g->mmu, TLB_USER, 2, V + 11 * PAGE_SIZE);
	mmu_window_grow(&g->mmu, TLB_USER, 2, V + 10 * PAGE_SIZE);
	expect_run(g, 2, 7, 3);
	assert_true(serves(g, TLB_USER, 2, V + 10 * PAGE_SIZE - 64, 64, true));
	guest_free(g);
}

/* T9 */
IN_BOTH_MODES(whatever_drops_or_changes_entries_of_level_1_empties_all_windows)
{
	struct guest *g = guest_in_a_row(mode);
	struct p2m_entry e;

	for (unsigned event = 0; event < 6; event++) {
		mmu_set_cr3(&g->mmu, g->root);
		for (unsigned i = 0; i < PAGES; i++)
			read_page(g, i);
		for (unsigned n = 0; n < TLB_WINDOWS; n++) {
			mmu_window_make(&g->mmu, TLB_USER, n, V + PAGE_SIZE);
			assert_true(serves(g, TLB_USER, n, V + 2 * PAGE_SIZE, 8, true));
		}
		assert_true(p2m_lookup(&g->memory, gpa(MIB(4)), &e));
		switch (event) {
		case 0: mmu_invlpg(&g->mmu, gva(V + 3 * PAGE_SIZE)); break;
		case 1: mmu_set_cr3(&g->mmu, g->root); break;
		case 2: mmu_write_protect(&g->mmu, e.m); break;
		case 3: mmu_write_protect_all(&g->mmu); break;
		case 4:
			assert_int_equal(memory_move(&g->memory, gpa(MIB(4))), 0);
			mmu_frames_changed(&g->mmu);
			break;
		default: mmu_set_controls(&g->mmu, LONG_CR0, LONG_CR4 & ~CR4_PGE, LONG_EFER);
		}
		for (unsigned n = 0; n < TLB_WINDOWS; n++)
			for (unsigned write = 0; write < 2; write++)
				for (unsigned c = 0; c < TLB_WINDOW_CLASSES; c++)
					assert_int_equal(g->mmu.window[TLB_USER][n].limit[c][write], 0);
	}
	guest_free(g);
}

/* 32-bit code goes on at 0 there. */
IN_BOTH_MODES(no_run_goes_over_the_end_of_4_gib)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	for (unsigned i = 0; i < 4; i++) {
		guest_map(g, GIB(4) + i * PAGE_SIZE - 2 * PAGE_SIZE, (MIB(4) + i * PAGE_SIZE) | PWU);
		EXPECT_MAPPED(g, GIB(4) + i * PAGE_SIZE - 2 * PAGE_SIZE, ACC_READ | ACC_USER, MIB(4) + i * PAGE_SIZE);
	}
	mmu_window_make(&g->mmu, TLB_USER, 0, GIB(4) - 1);
	assert_int_equal(tlb_window_length(&g->mmu.window[TLB_USER][0]), 2 * PAGE_SIZE);
	mmu_window_grow(&g->mmu, TLB_USER, 0, GIB(4));
	assert_int_equal(tlb_window_length(&g->mmu.window[TLB_USER][0]), 2 * PAGE_SIZE);
	mmu_window_make(&g->mmu, TLB_USER, 1, GIB(4));
	assert_int_equal(g->mmu.window[TLB_USER][1].base, GIB(4));
	mmu_window_grow(&g->mmu, TLB_USER, 1, GIB(4) - PAGE_SIZE);
	assert_int_equal(tlb_window_length(&g->mmu.window[TLB_USER][1]), 2 * PAGE_SIZE);
	guest_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_window_is_the_run_that_level_1_has_around_an_address),
		cmocka_unit_test(a_run_ends_where_rights_or_host_addresses_do_not_go_on),
		cmocka_unit_test(a_window_takes_in_the_page_that_follows_or_precedes_it),
		cmocka_unit_test(whatever_drops_or_changes_entries_of_level_1_empties_all_windows),
		cmocka_unit_test(no_run_goes_over_the_end_of_4_gib),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
