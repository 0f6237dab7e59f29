/*
 * mmu_fetched_test.c - fetch ids: what large programs do to them, and those of SVM's guests over flushes (mmu/fetched.c).
 */
#include "mmu_util.h"

#define V 0x7f0000123000ull
#define K 0xffff800000200000ull

static uint32_t fetch_id(struct guest *g, uint64_t va, bool user)
{
	assert_int_equal(mmu_fetch(&g->mmu, gva(va), user, &g->r), MMU_MAPPED);
	return g->mmu.fetch_id[user];
}

/* ASID 3 is entered, flushed; before the first fetch there is no id, then *id has those under which K and V are fetched. */
static void fetch_afresh(struct guest *g, uint64_t cr3, uint32_t id[2])
{
	mmu_enter_guest(&g->mmu, 3, GUEST_FLUSH_ASID, LONG_CR0, cr3, LONG_CR4, LONG_EFER, false, 0);
	assert_int_equal(g->mmu.fetch_id[0], 0);
	assert_int_equal(g->mmu.fetch_id[1], 0);
	id[0] = fetch_id(g, K + 0x123, false);
	id[1] = fetch_id(g, V + 0x321, true);
	assert_int_not_equal(id[0], 0);
	assert_int_not_equal(id[1], 0);
	assert_int_not_equal(id[0], id[1]);
	mmu_leave_guest(&g->mmu, LONG_CR0, g->root, LONG_CR4, LONG_EFER);
}

IN_BOTH_MODES(fetch_ids_of_a_flushed_guest_come_back_if_all_that_was_fetched_is_where_it_was)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	const uint64_t root = MIB(8), second = MIB(9), k = guest_slot(g, root, K, 1), v = guest_slot(g, root, V, 1), v2 = guest_slot(g, root, V + PAGE_SIZE, 1);
	struct tune tune;
	uint32_t was[2], is[2], first[2];

	guest_write(g, k, 0x5000 | PTE_P);
	guest_write(g, v, 0x6000 | PWU);
	guest_write(g, v2, 0x7000 | PWU);
	/* The same kernel, another process. */
	guest_write(g, second + (K >> 39 & 511) * 8, guest_read(g, root + (K >> 39 & 511) * 8));
	guest_write(g, guest_slot(g, second, V, 1), 0x6000 | PWU);
	fetch_afresh(g, root, first);
	fetch_afresh(g, root, is);
	assert_memory_equal(is, first, sizeof(is));
	assert_int_equal(g->mmu.counters.fetch_ids_revived, 2);
	/* Not another process's user id; back in the first, both. */
	fetch_afresh(g, second, is);
	assert_int_equal(is[0], first[0]);
	assert_int_not_equal(is[1], first[1]);
	fetch_afresh(g, root, is);
	assert_memory_equal(is, first, sizeof(is));
	/* Another page, which the set comes to hold, and which is gone at the next flush: so is the id, for good. */
	mmu_enter_guest(&g->mmu, 3, GUEST_KEEP, LONG_CR0, root, LONG_CR4, LONG_EFER, false, 0);
	assert_int_equal(fetch_id(g, V + PAGE_SIZE, true), first[1]);
	mmu_leave_guest(&g->mmu, LONG_CR0, g->root, LONG_CR4, LONG_EFER);
	guest_write(g, v2, 0x8000 | PWU);
	fetch_afresh(g, root, was);
	assert_int_equal(was[0], first[0]);
	assert_int_not_equal(was[1], first[1]);
	guest_write(g, v2, 0x7000 | PWU);
	fetch_afresh(g, root, is);
	assert_memory_equal(is, was, sizeof(is));
	/* Not for the kernel any more. */
	guest_write(g, k, 0x5000 | PTE_P | PTE_NX);
	mmu_enter_guest(&g->mmu, 3, GUEST_FLUSH_ASID, LONG_CR0, root, LONG_CR4, LONG_EFER, false, 0);
	assert_int_equal(mmu_fetch(&g->mmu, gva(K), false, &g->r), MMU_INJECT);
	assert_int_equal(g->mmu.fetch_id[0], 0);
	mmu_leave_guest(&g->mmu, LONG_CR0, g->root, LONG_CR4, LONG_EFER);
	/* An A bit that is clear would have to be set by a fetch: nothing is taken for fetched. */
	guest_write(g, k, 0x5000 | PTE_P);
	guest_write(g, v2, 0x7000 | PWU);
	fetch_afresh(g, root, was);
	mmu_enter_guest(&g->mmu, 3, GUEST_KEEP, LONG_CR0, root, LONG_CR4, LONG_EFER, false, 0);
	assert_int_equal(fetch_id(g, V + PAGE_SIZE, true), was[1]);
	mmu_leave_guest(&g->mmu, LONG_CR0, g->root, LONG_CR4, LONG_EFER);
	guest_write(g, v2, 0x7000 | PWU);
	fetch_afresh(g, root, is);
	assert_int_not_equal(is[1], was[1]);
	assert_int_equal(guest_read(g, v2) & PTE_A, 0);
	/* INVLPG ends an id in the middle; what is fetched then may bring it back. */
	fetch_afresh(g, root, was);
	mmu_enter_guest(&g->mmu, 3, GUEST_KEEP, LONG_CR0, root, LONG_CR4, LONG_EFER, false, 0);
	mmu_invlpg(&g->mmu, gva(V));
	assert_int_equal(g->mmu.fetch_id[1], 0);
	assert_int_equal(fetch_id(g, V, true), was[1]);
	guest_write(g, v, 0x8000 | PWU);
	mmu_invlpg(&g->mmu, gva(V));
	assert_int_not_equal(fetch_id(g, V, true), was[1]);
	assert_int_equal(g->r.gpa.v, 0x8000);
	mmu_leave_guest(&g->mmu, LONG_CR0, g->root, LONG_CR4, LONG_EFER);
	/* More pages than a set has room for. */
	guest_write(g, v, 0x6000 | PWU);
	fetch_afresh(g, root, was);
	mmu_enter_guest(&g->mmu, 3, GUEST_KEEP, LONG_CR0, root, LONG_CR4, LONG_EFER, false, 0);
	for (uint64_t i = 0; i <= FETCH_SET_PAGES; i++) {
		guest_write(g, guest_slot(g, root, V + MIB(2) + i * PAGE_SIZE, 1), (MIB(10) + i * PAGE_SIZE) | PWU);
		assert_int_equal(fetch_id(g, V + MIB(2) + i * PAGE_SIZE, true), was[1]);
	}
	mmu_leave_guest(&g->mmu, LONG_CR0, g->root, LONG_CR4, LONG_EFER);
	fetch_afresh(g, root, is);
	assert_int_equal(is[0], was[0]);
	assert_int_not_equal(is[1], was[1]);
	/* --tune fetch-sets=off */
	tune_defaults(&tune);
	tune.on[TUNE_FETCH_SETS] = false;
	g->memory.tune = &tune;
	fetch_afresh(g, root, was);
	assert_int_not_equal(is[0], was[0]);
	assert_int_not_equal(is[1], was[1]);
	guest_free(g);
}

IN_BOTH_MODES(a_large_page_that_guests_fetch_from_is_one_entry_of_what_was_fetched)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	const uint64_t root = MIB(8);
	uint32_t id, again;

	guest_write(g, guest_slot(g, root, K, 2), MIB(16) | PTE_P | PTE_PS);
	guest_write(g, guest_slot(g, root, V, 1), 0x6000 | PWU);
	for (uint64_t i = 0; i < 512; i++) { /* so that the p2m has it in one piece */
		guest_map(g, V + MIB(4) + i * PAGE_SIZE, (MIB(16) + i * PAGE_SIZE) | PWU);
		EXPECT_MAPPED(g, V + MIB(4) + i * PAGE_SIZE, ACC_WRITE, MIB(16) + i * PAGE_SIZE);
	}
	mmu_enter_guest(&g->mmu, 3, GUEST_KEEP, LONG_CR0, root, LONG_CR4, LONG_EFER, false, 0);
	id = fetch_id(g, K, false);
	for (uint64_t i = 0; i < 512; i++)
		assert_int_equal(fetch_id(g, (K & ~(MIB(2) - 1)) + i * PAGE_SIZE, false), id);
	for (unsigned turn = 0; turn < 2; turn++) {
		mmu_leave_guest(&g->mmu, LONG_CR0, g->root, LONG_CR4, LONG_EFER);
		mmu_enter_guest(&g->mmu, 3, GUEST_FLUSH_ASID, LONG_CR0, root, LONG_CR4, LONG_EFER, false, 0);
		again = fetch_id(g, K + 5 * PAGE_SIZE, false);
		if (!turn)
			assert_int_equal(again, id);
		else
			assert_int_not_equal(again, id);
		guest_write(g, guest_slot(g, root, K, 2), MIB(18) | PTE_P | PTE_PS | PTE_A);
	}
	mmu_leave_guest(&g->mmu, LONG_CR0, g->root, LONG_CR4, LONG_EFER);
	guest_free(g);
}

/* As a compiler that gives memory back now and then: each new id costs it all that its jump table held. */
IN_BOTH_MODES(invlpg_of_pages_that_were_not_fetched_spares_the_fetch_id_of_a_large_program)
{
	enum { PAGES = 4096 };
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	unsigned renewed = 0;
	uint32_t id = 0, seed = 1;

	/* Pages of even numbers here and there, and of odd ones. */
	for (unsigned i = 0; i < PAGES; i++) {
		const uint64_t va = V + (seed >> 18) * 2 * PAGE_SIZE;

		seed = seed * 1664525 + 1013904223;
		guest_map(g, va, 0x5000 | PWU);
		id = fetch_id(g, va, true);
	}
	for (unsigned i = 0; i < PAGES; i++) {
		seed = seed * 1664525 + 1013904223;
		mmu_invlpg(&g->mmu, gva(V + ((seed >> 18) * 2 + 1) * PAGE_SIZE));
		renewed += g->mmu.fetch_id[1] != id;
		id = g->mmu.fetch_id[1];
	}
	assert_true(renewed < PAGES / 50);
	id = fetch_id(g, V, true);
	mmu_invlpg(&g->mmu, gva(V));
	assert_int_not_equal(g->mmu.fetch_id[1], id);
	guest_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(invlpg_of_pages_that_were_not_fetched_spares_the_fetch_id_of_a_large_program),
		cmocka_unit_test(fetch_ids_of_a_flushed_guest_come_back_if_all_that_was_fetched_is_where_it_was),
		cmocka_unit_test(a_large_page_that_guests_fetch_from_is_one_entry_of_what_was_fetched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
