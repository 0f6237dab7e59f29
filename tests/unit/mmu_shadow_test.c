/*
 * mmu_shadow_test.c - the life of shadow pages, and the reference scenario in both modes. Cites S1 to S5 of docs/mmu.md.
 */
#include <stdatomic.h>

#include "mmu_util.h"

#define V 0x7f0000123000ull

static struct guest *shadow_guest(void) { return guest_new(PAGING_SHADOW, PLACEMENT_SCATTER); }
static struct shadow *shadow_of(struct guest *g) { return g->memory.shadow; }

static struct frame *table_frame(struct guest *g, uint64_t pa)
{
	struct p2m_entry e;

	assert_true(p2m_lookup(&g->memory, gpa(pa), &e));
	return pool_frame(&g->memory.pool, e.m);
}

static void audit(struct guest *g)
{
	char msg[200] = "";

	if (mmu_audit(&g->mmu, msg, sizeof(msg)))
		fail_msg("audit: %s", msg);
}

/* A store by the guest at va, by the whole path. */
static void store_at(struct guest *g, uint64_t va, uint64_t value)
{
	enum mmu_kind kind = try(g, va, ACC_WRITE);

	assert_true(kind == MMU_MAPPED || kind == MMU_TRACKED);
	store_u64(g->r.hva, value);
	if (kind == MMU_TRACKED)
		mmu_written(&g->mmu, g->r.mfn, va & 0xfff, 8);
}

/* v=100 -> p=1000 -> m; unmapped; touched: guest fault; mapped to p=2000; frame moved; the guest notices nothing. */
IN_BOTH_MODES(the_reference_scenario_shows_guest_and_hidden_faults_apart)
{
	struct guest *g = guest_new(mode, PLACEMENT_SCATTER);
	uint64_t v = 0x100000, backed, faults;
	mfn_t m;

	guest_map(g, v, 0x1000000 | PWU);
	backed = g->mmu.counters.hidden_not_backed;
	EXPECT_MAPPED(g, v, ACC_WRITE, 0x1000000);
	assert_true(g->mmu.counters.hidden_not_backed > backed);
	assert_int_equal(g->mmu.counters.guest_faults, 0);
	store_u64(g->r.hva, 111);
	guest_map(g, v, 0);
	mmu_invlpg(&g->mmu, gva(v));
	EXPECT_FAULT(g, v, ACC_READ, 0);
	assert_int_equal(g->mmu.counters.guest_faults, 1);
	guest_map(g, v, 0x1800000 | PWU);
	EXPECT_MAPPED(g, v, ACC_WRITE, 0x1800000);
	store_u64(g->r.hva, 222);
	m = g->r.mfn;
	faults = g->mmu.counters.guest_faults;
	assert_int_equal(memory_move(&g->memory, gpa(0x1800000)), 0);
	mmu_flush_all(&g->mmu);
	memory_release(&g->memory);
	EXPECT_MAPPED(g, v, ACC_READ, 0x1800000);
	assert_int_not_equal(g->r.mfn.v, m.v);
	assert_int_equal(load_u64(g->r.hva), 222);
	assert_int_equal(g->mmu.counters.guest_faults, faults);
	assert_int_equal(guest_read(g, 0x1000000), 111);
	guest_free(g);
}

static void guest_tables_are_watched_from_their_first_use_and_no_longer_after_their_last(void **state)
{
	struct guest *g = shadow_guest();

	(void)state;
	guest_map(g, V, 0x5000 | PWU);
	assert_false(table_frame(g, g->root)->flags & FRAME_TABLE);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	for (unsigned level = 4; level; level--) /* S3 */
		assert_true(table_frame(g, guest_slot(g, g->root, V, level))->flags & FRAME_TABLE);
	assert_int_equal(shadow_of(g)->live, 4);
	audit(g);
	memory_lock(&g->memory);
	shadow_drop_all(&g->mmu);
	memory_unlock(&g->memory);
	for (unsigned level = 4; level; level--)
		assert_false(table_frame(g, guest_slot(g, g->root, V, level))->flags & FRAME_TABLE);
	assert_int_equal(shadow_of(g)->live, 0);
	EXPECT_MAPPED(g, V + PAGE_SIZE - PAGE_SIZE, ACC_READ, 0x5000);
	guest_free(g);
}

static void the_shadow_follows_a_write_and_saves_the_next_fault(void **state)
{
	struct guest *g = shadow_guest();
	uint64_t hidden;

	(void)state;
	guest_map(g, V, 0x5000 | PWU);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	guest_write(g, 0x6000, 1); /* backed */
	guest_map(g, V, 0x6000 | PWU | PTE_A);
	assert_int_equal(g->mmu.counters.table_writes, 1);
	audit(g); /* S1 */
	hidden = g->mmu.counters.hidden_not_present;
	mmu_invlpg(&g->mmu, gva(V));
	EXPECT_MAPPED(g, V, ACC_READ, 0x6000);
	assert_int_equal(g->mmu.counters.hidden_not_present, hidden);
	guest_map(g, V, 0x7000 | PTE_P | PTE_A); /* not backed: nothing may be made up for it */
	audit(g);
	mmu_invlpg(&g->mmu, gva(V));
	EXPECT_FAULT(g, V, ACC_READ | ACC_USER, PF_P | PF_U);
	EXPECT_MAPPED(g, V, ACC_READ, 0x7000);
	guest_free(g);
}

static void a_leaf_table_that_is_written_again_and_again_becomes_loose_and_stays_right(void **state)
{
	struct guest *g = shadow_guest();
	uint64_t slot, writes;

	(void)state;
	guest_map(g, V, 0x5000 | PWU);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	slot = guest_slot(g, g->root, V, 1);
	for (unsigned i = 0; i < 100; i++) {
		guest_map(g, V, (0x10000 + i * PAGE_SIZE) | PWU);
		mmu_invlpg(&g->mmu, gva(V));
		EXPECT_MAPPED(g, V, ACC_WRITE, 0x10000 + i * PAGE_SIZE);
		guest_map(g, V + PAGE_SIZE, i & 1 ? 0 : 0x5000 | PWU);
		mmu_invlpg(&g->mmu, gva(V + PAGE_SIZE));
		if (i & 1)
			EXPECT_FAULT(g, V + PAGE_SIZE, ACC_READ, 0);
		else
			EXPECT_MAPPED(g, V + PAGE_SIZE, ACC_READ, 0x5000);
	}
	assert_false(table_frame(g, slot)->flags & FRAME_TABLE);
	writes = g->mmu.counters.table_writes;
	guest_map(g, V, 0x5000 | PWU);
	assert_int_equal(g->mmu.counters.table_writes, writes);
	guest_free(g);
}

static void a_table_freed_by_the_guest_and_used_for_data_is_no_longer_shadowed(void **state)
{
	struct guest *g = shadow_guest();
	uint64_t dir, window = 0x7f8000000000ull;

	(void)state;
	guest_map(g, V, 0x5000 | PWU);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	dir = guest_slot(g, g->root, V, 2) & PAGE_MASK;
	assert_true(table_frame(g, dir)->flags & FRAME_TABLE);
	guest_map(g, window, dir | PWU);
	for (unsigned i = 0; i < 512; i++) /* data, not entries */
		store_at(g, window + i * 8, i * 0x0101010101010101ull);
	assert_false(table_frame(g, dir)->flags & FRAME_TABLE);
	mmu_set_cr3(&g->mmu, g->root);
	assert_true(try(g, V, ACC_READ) != MMU_MAPPED);
	guest_free(g);
}

static void clearing_a_whole_table_at_once_drops_its_shadow(void **state)
{
	struct guest *g = shadow_guest();
	static const uint8_t zero[PAGE_SIZE];
	uint64_t table;

	(void)state;
	guest_map(g, V, 0x5000 | PWU);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	table = guest_slot(g, g->root, V, 1) & PAGE_MASK;
	memory_write(&g->memory, gpa(table), zero, sizeof(zero)); /* by a device, too */
	mmu_invlpg(&g->mmu, gva(V));
	EXPECT_FAULT(g, V, ACC_READ, 0);
	assert_false(table_frame(g, table)->flags & FRAME_TABLE);
	guest_free(g);
}

static void stores_by_devices_reach_the_shadow_also_when_their_queue_overflows(void **state)
{
	struct guest *g = shadow_guest();
	uint64_t slot, e;

	(void)state;
	guest_map(g, V, 0x5000 | PWU);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	slot = guest_slot(g, g->root, V, 1);
	e = 0x6000 | PWU;
	memory_write(&g->memory, gpa(slot), &e, 8);
	mmu_invlpg(&g->mmu, gva(V));
	EXPECT_MAPPED(g, V, ACC_READ, 0x6000);
	for (unsigned i = 0; i < TABLE_WRITE_QUEUE + 10; i++) {
		e = (0x10000 + i * PAGE_SIZE) | PWU;
		memory_write(&g->memory, gpa(slot), &e, 8);
	}
	mmu_invlpg(&g->mmu, gva(V));
	EXPECT_MAPPED(g, V, ACC_READ, e & PAGE_MASK);
	guest_free(g);
}

static void a_root_is_found_again_when_its_process_comes_back(void **state)
{
	struct guest *g = shadow_guest();
	uint64_t made, misses, other = MIB(8);

	(void)state;
	guest_map(g, V, 0x5000 | PWU);
	guest_write(g, guest_slot(g, other, V, 1), 0x6000 | PWU);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	mmu_set_cr3(&g->mmu, other);
	EXPECT_MAPPED(g, V, ACC_READ, 0x6000);
	made = g->mmu.counters.shadow_made;
	misses = g->mmu.counters.shadow_roots;
	for (unsigned i = 0; i < 10; i++) {
		mmu_set_cr3(&g->mmu, g->root);
		EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
		mmu_set_cr3(&g->mmu, other);
		EXPECT_MAPPED(g, V, ACC_READ, 0x6000);
	}
	assert_int_equal(g->mmu.counters.shadow_made, made);
	assert_int_equal(g->mmu.counters.shadow_roots, misses);
	assert_int_equal(g->mmu.counters.hidden_not_present, 2);
	guest_free(g);
}

static void shadow_memory_is_bounded_whatever_the_guest_builds(void **state)
{
	struct guest *g = shadow_guest();

	(void)state;
	shadow_set_limit(&g->mmu, 20);
	for (uint64_t i = 0; i < 300; i++)
		guest_map(g, V + (i << 30), (0x5000 + (i & 15) * PAGE_SIZE) | PWU);
	for (unsigned round = 0; round < 2; round++) {
		mmu_set_cr3(&g->mmu, g->root);
		for (uint64_t i = 0; i < 300; i++) {
			EXPECT_MAPPED(g, V + (i << 30), ACC_READ, 0x5000 + (i & 15) * PAGE_SIZE);
			assert_true(shadow_of(g)->live <= 20);
		}
		audit(g); /* S4, S5 */
	}
	assert_true(g->mmu.counters.shadow_reclaimed > 500);
	guest_free(g);
}

static void a_link_to_a_page_of_an_earlier_life_is_void_also_when_serials_come_around(void **state)
{
	struct guest *g = shadow_guest();
	struct shadow *s = shadow_of(g);

	(void)state;
	guest_map(g, V, 0x5000 | PWU);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	memory_lock(&g->memory);
	for (uint32_t i = 0; i < s->made_ever; i++)
		s->page[i].serial = SHADOW_SERIAL_MASK;
	shadow_drop_all(&g->mmu);
	assert_int_equal(s->free_head, 0); /* parked */
	memory_unlock(&g->memory);
	audit(g);
	mmu_invlpg(&g->mmu, gva(V));
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	assert_int_equal(s->parked_head, 0);
	guest_free(g);
}

static void a_large_guest_page_over_scattered_frames_is_split_and_over_a_chunk_it_is_not(void **state)
{
	(void)state;
	for (enum placement p = PLACEMENT_LINEAR; p <= PLACEMENT_SCATTER; p++) {
		struct guest *g = guest_new(PAGING_SHADOW, p);

		for (uint64_t pa = MIB(4); pa < MIB(6); pa += PAGE_SIZE)
			guest_write(g, pa, pa);
		guest_map_level(g, V, 2, MIB(4) | PWU | PTE_PS);
		guest_map_level(g, 0x40000000, 3, PWU | PTE_PS);
		for (uint64_t i = 0; i < 512; i += 5) {
			EXPECT_MAPPED(g, (V & ~(MIB(2) - 1)) + i * PAGE_SIZE, ACC_WRITE, MIB(4) + i * PAGE_SIZE);
			EXPECT_MAPPED(g, 0x40000000 + MIB(4) + i * PAGE_SIZE, ACC_READ, MIB(4) + i * PAGE_SIZE);
		}
		/* Root, two directories of pointers, a directory; scattered, two more levels of direct pages. */
		assert_int_equal(shadow_of(g)->live, p == PLACEMENT_LINEAR ? 5 : 6);
		assert_true(guest_read(g, guest_slot(g, g->root, V, 2)) & PTE_D);
		guest_free(g);
	}
}

static void a_large_page_that_covers_tables_allows_no_unseen_write_to_them(void **state)
{
	struct guest *g = guest_new(PAGING_SHADOW, PLACEMENT_LINEAR);
	uint64_t slot;

	(void)state;
	for (uint64_t pa = MIB(0); pa < MIB(2); pa += PAGE_SIZE)
		guest_write(g, pa, 0);
	guest_map_level(g, 0x40000000, 2, 0 | PWU | PTE_PS); /* maps the tables at 1 MiB */
	guest_map(g, V, 0x5000 | PWU);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	slot = guest_slot(g, g->root, V, 1);
	store_at(g, 0x40000000, 5);
	assert_int_equal(try(g, 0x40000000 + slot, ACC_WRITE), MMU_TRACKED);
	store_at(g, 0x40000000 + slot, 0x6000 | PWU);
	audit(g);
	mmu_invlpg(&g->mmu, gva(V));
	EXPECT_MAPPED(g, V, ACC_READ, 0x6000);
	guest_free(g);
}

static void two_vcpus_share_the_shadow_tables_of_a_vm(void **state)
{
	struct guest *g = shadow_guest();
	struct mmu *second = aligned_alloc(64, ALIGN_UP(sizeof(*second), 64));
	struct mmu_result r;

	(void)state;
	assert_int_equal(mmu_init(second, &g->memory, PAGING_SHADOW), 0);
	mmu_set_controls(second, LONG_CR0, LONG_CR4, LONG_EFER);
	mmu_set_cr3(second, g->root);
	guest_map(g, V, 0x5000 | PWU);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	assert_int_equal(mmu_access(second, gva(V), ACC_READ, &r), MMU_MAPPED);
	assert_int_equal(second->counters.hidden_not_present, 0);
	mmu_destroy(second);
	free(second);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	guest_free(g);
}

/* KVM's shadow bug of reusing a page of the right frame and the wrong role: one frame used as tables of two levels, and as the first of a large page that is split. */
static void one_frame_in_several_roles_has_a_shadow_page_for_each(void **state)
{
	struct guest *g = shadow_guest();
	uint64_t table = MIB(6), large = 0x40000000, twice = 0x80000000;
	struct shadow *s = shadow_of(g);
	mfn_t m;

	(void)state;
	/* The page at 6 MiB: page table for V; page directory for `twice`; first page of the range that a large page maps. */
	guest_write(g, guest_slot(g, g->root, V, 2), table | PWU);
	guest_write(g, guest_slot(g, g->root, twice, 3), table | PWU);
	guest_write(g, guest_slot(g, g->root, large, 2), table | PWU | PTE_PS);
	guest_write(g, table + (V >> 12 & 511) * 8, 0x5000 | PWU);
	guest_write(g, 0x5000 + 7 * 8, 0x9000 | PWU);
	for (unsigned round = 0; round < 3; round++) {
		EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
		EXPECT_MAPPED(g, twice + (V >> 12 & 511) * MIB(2) + 7 * PAGE_SIZE, ACC_READ, 0x9000);
		EXPECT_MAPPED(g, large + 0x5000, ACC_READ, table + 0x5000);
		audit(g); /* S1, S4 */
		mmu_set_cr3(&g->mmu, g->root);
	}
	m = mfn((uint64_t)(table_frame(g, table) - pool_frame(&g->memory.pool, mfn(0))));
	memory_lock(&g->memory);
	for (unsigned level = 1; level <= 3; level++)
		assert_true(!!shadow_page_find(s, m, table >> PAGE_SHIFT, level | ROLE_NXE) == (level < 3));
	assert_non_null(shadow_page_find(s, MFN_NONE, table >> PAGE_SHIFT, 1 | ROLE_DIRECT));
	assert_null(shadow_page_find(s, m, table >> PAGE_SHIFT, 1)); /* not without NX */
	memory_unlock(&g->memory);
	guest_free(g);
}

/* A root freed while in use: the register still names it, whatever has become of its shadow page since. */
static void a_root_that_was_reclaimed_while_loaded_is_made_anew_and_never_followed(void **state)
{
	struct guest *g = shadow_guest();
	struct shadow *s = shadow_of(g);
	uint64_t other = MIB(8);

	(void)state;
	shadow_set_limit(&g->mmu, SHADOW_MIN_PAGES);
	guest_map(g, V, 0x5000 | PWU);
	for (uint64_t i = 0; i < 64; i++)
		guest_write(g, guest_slot(g, other, V + (i << 30), 1), 0x6000 | PWU);
	for (unsigned round = 0; round < 20; round++) {
		struct shadow_page *root;

		mmu_set_cr3(&g->mmu, g->root);
		EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
		memory_lock(&g->memory);
		root = shadow_follow(s, g->mmu.priv->shadow_root_link);
		if (!root)
			root = shadow_page_find(s, mfn((uint64_t)(table_frame(g, g->root) - pool_frame(&g->memory.pool, mfn(0)))), g->root >> PAGE_SHIFT, 4 | ROLE_NXE);
		assert_non_null(root);
		shadow_page_free(&g->mmu, root);
		memory_unlock(&g->memory);
		if (round & 1) {
			/* Its page is another's by now. */
			mmu_set_cr3(&g->mmu, other);
			for (uint64_t i = 0; i < 64; i++)
				EXPECT_MAPPED(g, V + (i << 30), ACC_READ, 0x6000);
			mmu_set_cr3(&g->mmu, g->root);
		}
		mmu_invlpg(&g->mmu, gva(V));
		EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
		audit(g);
	}
	guest_free(g);
}

/* Staleness checked before reclaim: making the last table of a translation must not take back one that it goes through. */
static void a_reclaim_takes_no_page_that_the_operation_has_met(void **state)
{
	struct guest *g = shadow_guest();
	struct shadow *s = shadow_of(g);
	unsigned reclaimed = 0;

	(void)state;
	shadow_set_limit(&g->mmu, SHADOW_MIN_PAGES);
	for (uint64_t i = 0; i < 40; i++)
		guest_map(g, V + (i << 39), 0x5000 | PWU);
	for (uint64_t hand = 0; hand < SHADOW_MIN_PAGES; hand++) {
		for (uint64_t i = 0; i < 40; i++) {
			uint64_t va = V + (i << 39) < 1ull << 47 ? V + (i << 39) : (V + (i << 39)) | 0xffff000000000000ull, hidden, before;

			/* Everything looks unused, or used, so that the hand comes around; it begins anywhere, also at the root and at the tables just made. */
			for (uint32_t k = 0; k < s->made_ever; k++)
				s->page[k].referenced = i & 1;
			s->hand = s->made_ever ? (uint32_t)(hand % s->made_ever) : 0;
			before = g->mmu.counters.shadow_reclaimed;
			mmu_invlpg(&g->mmu, gva(va));
			EXPECT_MAPPED(g, va, ACC_READ, 0x5000);
			reclaimed += g->mmu.counters.shadow_reclaimed != before;
			/* The way just made is whole: used again, it lacks nothing. */
			hidden = g->mmu.counters.hidden_not_present;
			mmu_invlpg(&g->mmu, gva(va));
			EXPECT_MAPPED(g, va, ACC_READ, 0x5000);
			assert_int_equal(g->mmu.counters.hidden_not_present, hidden);
		}
		audit(g);
	}
	assert_true(reclaimed > 300);
	guest_free(g);
}

/* A child that inherits a dead role: what a page is made for is the paging in force, not what its parent was made under. */
static void a_child_takes_its_role_from_the_paging_in_force(void **state)
{
	struct guest *g = shadow_guest();

	(void)state;
	guest_map(g, V, 0x5000 | PWU);
	guest_map(g, V + PAGE_SIZE, 0x6000 | PWU | PTE_NX);
	for (unsigned round = 0; round < 4; round++) {
		const uint64_t efer = round & 1 ? LONG_EFER & ~(uint64_t)EFER_NXE : LONG_EFER;

		mmu_set_controls(&g->mmu, LONG_CR0, LONG_CR4, efer);
		EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
		if (round & 1) { /* bit 63 is reserved */
			EXPECT_FAULT(g, V + PAGE_SIZE, ACC_READ, PF_P | PF_RSVD);
		} else {
			EXPECT_MAPPED(g, V + PAGE_SIZE, ACC_READ, 0x6000);
			EXPECT_FAULT(g, V + PAGE_SIZE, ACC_EXEC, PF_P | PF_I);
		}
		guest_map(g, V + PAGE_SIZE, 0x6000 | PWU | PTE_NX | PTE_A); /* the pages of both roles follow */
		audit(g);
	}
	assert_int_equal(g->mmu.counters.shadow_made, 8);
	guest_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_reference_scenario_shows_guest_and_hidden_faults_apart),
		cmocka_unit_test(guest_tables_are_watched_from_their_first_use_and_no_longer_after_their_last),
		cmocka_unit_test(the_shadow_follows_a_write_and_saves_the_next_fault),
		cmocka_unit_test(a_leaf_table_that_is_written_again_and_again_becomes_loose_and_stays_right),
		cmocka_unit_test(a_table_freed_by_the_guest_and_used_for_data_is_no_longer_shadowed),
		cmocka_unit_test(clearing_a_whole_table_at_once_drops_its_shadow),
		cmocka_unit_test(stores_by_devices_reach_the_shadow_also_when_their_queue_overflows),
		cmocka_unit_test(a_root_is_found_again_when_its_process_comes_back),
		cmocka_unit_test(shadow_memory_is_bounded_whatever_the_guest_builds),
		cmocka_unit_test(a_link_to_a_page_of_an_earlier_life_is_void_also_when_serials_come_around),
		cmocka_unit_test(a_large_guest_page_over_scattered_frames_is_split_and_over_a_chunk_it_is_not),
		cmocka_unit_test(a_large_page_that_covers_tables_allows_no_unseen_write_to_them),
		cmocka_unit_test(one_frame_in_several_roles_has_a_shadow_page_for_each),
		cmocka_unit_test(a_root_that_was_reclaimed_while_loaded_is_made_anew_and_never_followed),
		cmocka_unit_test(a_reclaim_takes_no_page_that_the_operation_has_met),
		cmocka_unit_test(a_child_takes_its_role_from_the_paging_in_force),
		cmocka_unit_test(two_vcpus_share_the_shadow_tables_of_a_vm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
