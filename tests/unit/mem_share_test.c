/*
 * mem_share_test.c - equal pages share a frame, and each gets its own when it is written, whoever writes it and whatever else happens to frames meanwhile.
 */
#include "mmu_util.h"

#include <errno.h>
#include <stdio.h>

#include "mmu/explain.h"

#define V 0x7f0000123000ull
#define A 0x800000ull
#define B 0xa00000ull
#define C 0xc01000ull

static void fill(struct guest *g, uint64_t pa, uint64_t value)
{
	for (unsigned at = 0; at < PAGE_SIZE; at += 8)
		guest_write(g, pa + at, value + at);
}

static mfn_t frame(struct guest *g, uint64_t pa)
{
	struct p2m_entry e;

	assert_true(p2m_lookup(&g->memory, gpa(pa), &e));
	return e.m;
}

static void check(struct guest *g)
{
	char msg[200];

	if (mmu_audit(&g->mmu, msg, sizeof(msg)))
		fail_msg("%s", msg);
}

/* As vm/ does it. */
static void settle(struct guest *g)
{
	mmu_frames_changed(&g->mmu);
	memory_release(&g->memory);
	check(g);
}

/* Three equal pages, mapped one after the other at V, written and read once. */
static struct guest *guest_of_three(enum paging_mode mode)
{
	static const uint64_t pa[] = { A, B, C };
	struct guest *g = guest_new(mode, PLACEMENT_SCATTER);

	for (unsigned i = 0; i < 3; i++) {
		fill(g, pa[i], 0x1234);
		guest_map(g, V + i * PAGE_SIZE, pa[i] | PWU);
		EXPECT_MAPPED(g, V + i * PAGE_SIZE, ACC_WRITE | ACC_USER, pa[i]);
	}
	assert_int_equal(memory_share(&g->memory, gpa(A), gpa(B)), -ENODEV);
	assert_int_equal(memory_share_on(&g->memory), 0);
	return g;
}

static void share_three(struct guest *g)
{
	assert_int_equal(memory_share(&g->memory, gpa(A), gpa(B)), 0);
	assert_int_equal(memory_share(&g->memory, gpa(C), gpa(A)), 0);
	settle(g);
	assert_int_equal(frame(g, A).v, frame(g, B).v);
	assert_int_equal(frame(g, A).v, frame(g, C).v);
	assert_int_equal(g->memory.counters.pages_shared, 1);
	assert_int_equal(g->memory.counters.pages_sharing, 2);
}

IN_BOTH_MODES(a_page_that_is_written_leaves_the_others_as_they_were)
{
	struct guest *g = guest_of_three(mode);
	const uint64_t used = g->memory.pool.used;

	share_three(g);
	assert_int_equal(g->memory.pool.used, used - 2);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(try(g, V + i * PAGE_SIZE, ACC_READ | ACC_USER), MMU_MAPPED);
		assert_false(probe_hits(g, TLB_USER, V + i * PAGE_SIZE, true));
	}
	assert_int_equal(g->mmu.counters.hidden_shared, 0);
	/* The second is written; what was cached for reading it goes with that. */
	assert_int_equal(try(g, V + PAGE_SIZE, ACC_WRITE | ACC_USER), MMU_MAPPED);
	assert_int_equal(g->mmu.counters.hidden_shared, 1);
	store_u64(g->r.hva, 77);
	assert_true(probe_hits(g, TLB_USER, V + PAGE_SIZE, true));
	assert_int_equal(guest_read(g, A), 0x1234);
	assert_int_equal(guest_read(g, B), 77);
	assert_int_equal(guest_read(g, C), 0x1234);
	check(g);
	/* Two are left; when the next is written, the last has the frame for itself. */
	assert_int_equal(try(g, V, ACC_WRITE | ACC_USER), MMU_MAPPED);
	assert_int_equal(g->memory.counters.pages_shared, 0);
	assert_int_equal(g->memory.counters.pages_sharing, 0);
	EXPECT_MAPPED(g, V + 2 * PAGE_SIZE, ACC_WRITE | ACC_USER, C);
	assert_int_equal(g->mmu.counters.hidden_shared, 2);
	assert_int_equal(g->memory.counters.pages_unshared, 2);
	assert_int_equal(g->memory.pool.used, used);
	guest_free(g);
}

IN_BOTH_MODES(other_addresses_of_a_page_that_is_written_see_it_at_once)
{
	struct guest *g = guest_of_three(mode);

	guest_map(g, V + MIB(1), A | PWU);
	share_three(g);
	assert_int_equal(try(g, V + MIB(1), ACC_READ | ACC_USER), MMU_MAPPED);
	assert_true(probe_hits(g, TLB_USER, V + MIB(1), false));
	assert_int_equal(try(g, V, ACC_WRITE | ACC_USER), MMU_MAPPED);
	store_u64(g->r.hva, 55);
	/* Generated code asks no further than this. */
	assert_false(probe_hits(g, TLB_USER, V + MIB(1), false));
	assert_int_equal(try(g, V + MIB(1), ACC_READ | ACC_USER), MMU_MAPPED);
	assert_int_equal(load_u64(g->r.hva), 55);
	guest_free(g);
}

IN_BOTH_MODES(a_device_writes_its_page_only)
{
	struct guest *g = guest_of_three(mode);
	const uint64_t value = 99;

	share_three(g);
	assert_int_equal(try(g, V, ACC_READ | ACC_USER), MMU_MAPPED);
	assert_int_equal(memory_write(&g->memory, gpa(A + 8), &value, 8), 0);
	settle(g);
	assert_int_equal(try(g, V + 8, ACC_READ | ACC_USER), MMU_MAPPED);
	assert_int_equal(load_u64(g->r.hva), 99);
	assert_int_equal(guest_read(g, B + 8), 0x1234 + 8);
	guest_free(g);
}

IN_BOTH_MODES(what_differs_or_is_watched_is_not_shared)
{
	struct guest *g = guest_of_three(mode);

	assert_int_equal(memory_share(&g->memory, gpa(A), gpa(A)), -ENOENT);
	assert_int_equal(memory_share(&g->memory, gpa(A), gpa(0x1f00000)), -ENOENT);
	guest_write(g, C + 4088, 1);
	assert_int_equal(memory_share(&g->memory, gpa(A), gpa(C)), -EINVAL);
	track_code(&g->memory.track, frame(g, B), 0, 8);
	assert_int_equal(memory_share(&g->memory, gpa(A), gpa(B)), -EBUSY);
	assert_int_equal(memory_share(&g->memory, gpa(B), gpa(A)), -EBUSY);
	track_clear(&g->memory.track, frame(g, B), FRAME_CODE);
	if (mode == PAGING_SHADOW) /* the root has a shadow */
		assert_int_equal(memory_share(&g->memory, gpa(g->root), gpa(A)), -EBUSY);
	assert_int_equal(memory_share(&g->memory, gpa(A), gpa(B)), 0);
	settle(g);
	guest_free(g);
}

IN_BOTH_MODES(tables_and_code_get_frames_of_their_own_when_they_are_used)
{
	struct guest *g = guest_new(mode, PLACEMENT_SCATTER);
	const uint64_t table[2] = { guest_slot(g, g->root, V, 1) & PAGE_MASK, 0 };
	const uint64_t v2 = V + GIB(1), slot2 = guest_slot(g, g->root, v2, 1);

	assert_int_equal(memory_share_on(&g->memory), 0);
	guest_map(g, V, A | PWU);
	guest_map(g, v2, A | PWU);
	/* Two page tables that say the same, never walked. */
	assert_int_equal(memory_share(&g->memory, gpa(table[0]), gpa(slot2 & PAGE_MASK)), 0);
	settle(g);
	EXPECT_MAPPED(g, V, ACC_WRITE | ACC_USER, A);
	assert_true(frame(g, table[0]).v != frame(g, slot2).v);
	/* The bits that the walk set are in one only. */
	assert_int_equal(guest_read(g, guest_slot(g, g->root, V, 1)) & (PTE_A | PTE_D), PTE_A | PTE_D);
	assert_int_equal(guest_read(g, slot2) & (PTE_A | PTE_D), 0);
	/* Code. */
	fill(g, A, 5);
	fill(g, B, 5);
	assert_int_equal(memory_share(&g->memory, gpa(A), gpa(B)), 0);
	settle(g);
	assert_int_equal(mmu_fetch(&g->mmu, gva(V), true, &g->r), MMU_MAPPED);
	assert_true(g->r.mfn.v == frame(g, A).v && g->r.mfn.v != frame(g, B).v);
	check(g);
	guest_free(g);
}

static void what_is_cached_of_fetches_goes_when_the_page_shares_its_frame(void **state)
{
	(void)state;
	struct guest *g = guest_of_three(PAGING_NESTED);
	uint32_t id;

	assert_int_equal(mmu_fetch(&g->mmu, gva(V), true, &g->r), MMU_MAPPED);
	id = g->mmu.fetch_id[1];
	assert_int_equal(memory_share(&g->memory, gpa(B), gpa(A)), 0);
	settle(g);
	assert_true(g->mmu.fetch_id[1] != id);
	assert_int_equal(mmu_fetch(&g->mmu, gva(V), true, &g->r), MMU_MAPPED);
	assert_true(g->r.mfn.v != frame(g, B).v);
	guest_free(g);
}

IN_BOTH_MODES(shared_pages_move_are_given_up_and_are_logged)
{
	struct guest *g = guest_of_three(mode);
	uint64_t bitmap[MIB(32) / PAGE_SIZE / 64];

	assert_int_equal(memory_log_start(&g->memory), 0);
	mmu_write_protect_all(&g->mmu);
	share_three(g);
	assert_int_equal(memory_log_fetch(&g->memory, bitmap), 0); /* sharing is not writing */
	mmu_write_protect_all(&g->mmu);
	check(g);
	assert_int_equal(memory_move(&g->memory, gpa(A)), 0);
	settle(g);
	assert_int_equal(guest_read(g, A + 16), 0x1234 + 16);
	assert_int_equal(try(g, V, ACC_WRITE | ACC_USER), MMU_TRACKED);
	mmu_written(&g->mmu, g->r.mfn, 0, 8);
	assert_int_equal(try(g, V + PAGE_SIZE, ACC_WRITE | ACC_USER), MMU_TRACKED);
	mmu_written(&g->mmu, g->r.mfn, 0, 8);
	check(g);
	/* C has the frame for itself by now, and was not written. */
	assert_int_equal(memory_discard(&g->memory, gpa(C), 1), 1);
	settle(g);
	assert_int_equal(memory_log_fetch(&g->memory, bitmap), 3);
	assert_int_equal(guest_read(g, C), 0);
	memory_log_stop(&g->memory);
	/* Of two, one is given up. */
	assert_int_equal(memory_share(&g->memory, gpa(A), gpa(B)), 0);
	settle(g);
	assert_int_equal(memory_discard(&g->memory, gpa(B), 1), 1);
	settle(g);
	assert_int_equal(guest_read(g, A), 0x1234);
	assert_int_equal(g->memory.counters.pages_shared, 0);
	guest_free(g);
}

static void a_shared_frame_goes_to_the_swap_file_for_each_of_its_pages(void **state)
{
	(void)state;
	for (unsigned zero = 0; zero < 2; zero++) {
		struct memory mem;
		FILE *f = tmpfile();
		char msg[200];
		uint64_t v;

		assert_int_equal(memory_init_limited(&mem, MIB(32), MIB(8), 0, PLACEMENT_LINEAR, 5), 0);
		assert_int_equal(memory_swap_on(&mem, fileno(f)), 0);
		assert_int_equal(memory_share_on(&mem), 0);
		for (uint64_t p = 0; p < MIB(4); p += PAGE_SIZE) {
			v = zero ? 0 : 42;
			assert_int_equal(memory_write(&mem, gpa(p), &v, 8), 0);
			if (p)
				assert_int_equal(memory_share(&mem, gpa(p), gpa(0)), 0);
			memory_release(&mem);
		}
		assert_int_equal(mem.counters.pages_sharing, MIB(4) / PAGE_SIZE - 1);
		for (uint64_t p = MIB(16); p < MIB(32); p += PAGE_SIZE)
			assert_int_equal(memory_write(&mem, gpa(p), &p, 8), 0);
		assert_int_equal(mem.counters.pages_sharing, 0);
		memory_lock(&mem);
		if (p2m_audit(&mem, msg, sizeof(msg)))
			fail_msg("%s", msg);
		memory_unlock(&mem);
		for (uint64_t p = 0; p < MIB(4); p += PAGE_SIZE) {
			assert_int_equal(memory_read(&mem, gpa(p), &v, 8), 0);
			assert_int_equal(v, zero ? 0 : 42);
		}
		memory_destroy(&mem);
		fclose(f);
	}
}

static void the_scanner_finds_what_is_equal_and_stays_so(void **state)
{
	(void)state;
	struct guest *g = guest_of_three(PAGING_NESTED);
	struct memory_counters *c = &g->memory.counters;

	/* Zeros are pages like others. */
	guest_write(g, 0x1000000, 0);
	guest_write(g, 0x1001000, 0);
	while (c->share_passes < 1)
		assert_int_equal(memory_share_scan(&g->memory, 100), 0);
	/* What has changed since is left for next time. */
	fill(g, C, 9);
	while (c->share_passes < 2)
		memory_share_scan(&g->memory, 100);
	settle(g);
	assert_int_equal(frame(g, A).v, frame(g, B).v);
	assert_int_equal(frame(g, 0x1000000).v, frame(g, 0x1001000).v);
	assert_true(frame(g, A).v != frame(g, C).v);
	assert_int_equal(c->pages_merged, c->pages_sharing);
	fill(g, C, 0x1234);
	while (c->share_passes < 4)
		memory_share_scan(&g->memory, 100);
	settle(g);
	assert_int_equal(frame(g, A).v, frame(g, C).v);
	/* Two frames with equal contents become one. */
	fill(g, 0x1002000, 0x1234);
	fill(g, 0x1003000, 0x1234);
	assert_int_equal(memory_share(&g->memory, gpa(0x1002000), gpa(0x1003000)), 0);
	while (c->share_passes < 6)
		memory_share_scan(&g->memory, 100);
	settle(g);
	assert_int_equal(frame(g, 0x1002000).v, frame(g, A).v);
	assert_int_equal(frame(g, 0x1003000).v, frame(g, A).v);
	assert_true(c->pages_scanned > 0);
	guest_free(g);
}

IN_BOTH_MODES(explain_says_what_a_write_will_meet)
{
	struct guest *g = guest_of_three(mode);
	bool seen = false;
	struct explain x;

	share_three(g);
	mmu_explain(&g->mmu, gva(V), EXPLAIN_CURRENT, &x);
	assert_true(x.page.watched & FRAME_SHARED);
	for (unsigned i = 0; i < x.accesses; i++) {
		const struct explain_access *a = &x.access[i];
		const bool own = a->access & (ACC_WRITE | ACC_EXEC);

		assert_int_equal(!!(a->hidden & HIDDEN_SHARED), own);
		assert_int_equal(a->p.v, A);
		seen |= own;
	}
	assert_true(seen);
	guest_free(g);
}

static void damage_to_a_ring_is_found(void **state)
{
	(void)state;
	struct guest *g = guest_of_three(PAGING_NESTED);
	uint32_t *next;
	char msg[200];

	share_three(g);
	next = &g->memory.share.next[A >> PAGE_SHIFT];
	*next ^= 1;
	assert_int_not_equal(mmu_audit(&g->mmu, msg, sizeof(msg)), 0);
	assert_memory_equal(msg, "M2", 2);
	*next ^= 1;
	pool_frame(&g->memory.pool, frame(g, A))->flags |= FRAME_CODE;
	assert_int_not_equal(mmu_audit(&g->mmu, msg, sizeof(msg)), 0);
	assert_memory_equal(msg, "M2", 2);
	pool_frame(&g->memory.pool, frame(g, A))->flags &= (uint16_t)~FRAME_CODE;
	((uint64_t *)pool_ptr(&g->memory.pool, frame(g, A)))[100] ^= 1;
	assert_int_not_equal(mmu_audit(&g->mmu, msg, sizeof(msg)), 0);
	assert_memory_equal(msg, "M4", 2);
	((uint64_t *)pool_ptr(&g->memory.pool, frame(g, A)))[100] ^= 1;
	g->memory.counters.pages_sharing++;
	assert_int_not_equal(mmu_audit(&g->mmu, msg, sizeof(msg)), 0);
	g->memory.counters.pages_sharing--;
	guest_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_that_is_written_leaves_the_others_as_they_were),
		cmocka_unit_test(other_addresses_of_a_page_that_is_written_see_it_at_once),
		cmocka_unit_test(a_device_writes_its_page_only),
		cmocka_unit_test(what_differs_or_is_watched_is_not_shared),
		cmocka_unit_test(tables_and_code_get_frames_of_their_own_when_they_are_used),
		cmocka_unit_test(what_is_cached_of_fetches_goes_when_the_page_shares_its_frame),
		cmocka_unit_test(shared_pages_move_are_given_up_and_are_logged),
		cmocka_unit_test(a_shared_frame_goes_to_the_swap_file_for_each_of_its_pages),
		cmocka_unit_test(the_scanner_finds_what_is_equal_and_stays_so),
		cmocka_unit_test(explain_says_what_a_write_will_meet),
		cmocka_unit_test(damage_to_a_ring_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
