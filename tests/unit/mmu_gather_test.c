/*
 * mmu_gather_test.c - pages that are used side by side get frames side by side (mmu/gather.c, mem/gather.c): all of them, with what is in them, and whoever had
 * the frames before keeps what is his.
 */
#include "mmu_util.h"

#include "mmu/shadow.h"

#define AREA 64
#define V 0x7f0000100000ull	/* begins a stretch */
#define PAGES 40

static unsigned asked;
static bool not_now;
static bool wanted(void *opaque) { (void)opaque; return !not_now && ++asked; }

/* Guest-physical pages of a process, in no order. */
static uint64_t page_of(unsigned process, unsigned i) { return MIB(4) * (1 + process) + (i * 7 % PAGES) * 3 * PAGE_SIZE; }
static uint64_t mark(unsigned process, unsigned i) { return 0x1000 * process + i + 1; }

static struct guest *guest_with_areas(enum paging_mode mode)
{
	struct guest *g = guest_new_with_areas(mode, PLACEMENT_LINEAR, AREA);

	g->memory.gather.wanted = wanted;
	asked = 0;
	return g;
}

/* The process has PAGES pages from V on, and uses them. */
static void map_process(struct guest *g, unsigned process)
{
	for (unsigned i = 0; i < PAGES; i++) {
		guest_map(g, V + i * PAGE_SIZE, page_of(process, i) | PWU | PTE_D);
		guest_write(g, page_of(process, i) + 8 * i, mark(process, i));
	}
	mmu_flush_all(&g->mmu);
}

static void use_process(struct guest *g, unsigned process)
{
	for (unsigned i = 0; i < PAGES; i++)
		EXPECT_MAPPED(g, V + i * PAGE_SIZE, ACC_READ | ACC_USER, page_of(process, i));
}

static void expect_contents(struct guest *g, unsigned process)
{
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(guest_read(g, page_of(process, i) + 8 * i), mark(process, i));
		assert_int_equal(guest_read(g, page_of(process, i) + 8 * i + 8), 0);
	}
}

static uint64_t window_pages(struct guest *g, unsigned i)
{
	mmu_window_make(&g->mmu, TLB_USER, 3, V + i * PAGE_SIZE);
	return tlb_window_length(&g->mmu.window[TLB_USER][3]) / PAGE_SIZE;
}

static uint64_t gather(struct guest *g)
{
	const uint64_t moved = mmu_gather(&g->mmu);
	char msg[200];

	memory_lock(&g->memory);
	assert_int_equal(p2m_audit(&g->memory, msg, sizeof(msg)), 0);
	memory_unlock(&g->memory);
	return moved;
}

IN_BOTH_MODES(one_window_goes_over_pages_that_lay_all_over_memory)
{
	struct guest *g = guest_with_areas(mode);

	map_process(g, 0);
	use_process(g, 0);
	assert_int_equal(window_pages(g, 20), 1);
	assert_int_equal(mmu_gather_ask(&g->mmu, TLB_USER, V + 20 * PAGE_SIZE), GATHER_ASKED);
	assert_int_equal(mmu_gather_ask(&g->mmu, TLB_USER, V + 20 * PAGE_SIZE), GATHER_LATER); /* once is enough */
	assert_int_equal(asked, 1);
	assert_int_equal(gather(g), PAGES);
	assert_int_equal(g->memory.counters.pages_gathered, PAGES);
	use_process(g, 0);
	assert_int_equal(window_pages(g, 20), PAGES);
	expect_contents(g, 0);
	/* Nothing is left to do, and nothing is done. */
	assert_int_equal(mmu_gather_ask(&g->mmu, TLB_USER, V), GATHER_USELESS);
	assert_int_equal(gather(g), 0);
	assert_int_equal(g->memory.moved, 0);
	guest_free(g);
}

IN_BOTH_MODES(who_had_the_frames_before_gets_the_others_and_keeps_its_contents)
{
	struct guest *g = guest_with_areas(mode);

	/* Each takes over the same addresses of the same space, as a program does that frees and allocates. */
	for (unsigned process = 0; process < 4; process++) {
		map_process(g, process);
		use_process(g, process);
		assert_int_equal(mmu_gather_ask(&g->mmu, TLB_USER, V + process * PAGE_SIZE), GATHER_ASKED);
		assert_int_equal(gather(g), PAGES);
		use_process(g, process);
		assert_int_equal(window_pages(g, 0), PAGES);
		for (unsigned other = 0; other <= process; other++)
			expect_contents(g, other);
	}
	guest_free(g);
}

IN_BOTH_MODES(a_page_goes_home_through_a_ring_of_others)
{
	struct guest *g = guest_with_areas(mode);
	struct gather_page list[PAGES];

	map_process(g, 0);
	for (unsigned turn = 1; turn < 5; turn++) {
		memory_lock(&g->memory);
		for (unsigned i = 0; i < PAGES; i++)
			list[i] = (struct gather_page){ page_of(0, i) / PAGE_SIZE, memory_gather_place(&g->memory, 1, V + (i * 3 * turn + turn) % PAGES * PAGE_SIZE) };
		memory_unlock(&g->memory);
		memory_gather(&g->memory, list, PAGES);
		mmu_frames_changed(&g->mmu);
		memory_release(&g->memory);
		use_process(g, 0);
		expect_contents(g, 0);
	}
	guest_free(g);
}

IN_BOTH_MODES(frames_that_somebody_watches_stay)
{
	struct guest *g = guest_with_areas(mode);
	struct p2m_entry before, after;

	map_process(g, 0);
	use_process(g, 0);
	memory_lock(&g->memory);
	assert_true(p2m_lookup(&g->memory, gpa(page_of(0, 7)), &before));
	track_code(&g->memory.track, before.m, 0, 64);
	memory_unlock(&g->memory);
	assert_int_equal(mmu_gather_ask(&g->mmu, TLB_USER, V), GATHER_ASKED);
	assert_int_equal(gather(g), PAGES - 1);
	assert_true(p2m_lookup(&g->memory, gpa(page_of(0, 7)), &after));
	assert_int_equal(before.m.v, after.m.v);
	/* Pages that are logged are watched; those that were written since are not. */
	map_process(g, 1);
	use_process(g, 1);
	assert_int_equal(memory_log_start(&g->memory), 0);
	mmu_write_protect_all(&g->mmu);
	use_process(g, 1);
	assert_int_equal(mmu_gather_ask(&g->mmu, TLB_USER, V), GATHER_USELESS);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(memory_write(&g->memory, gpa(page_of(1, i) + 8 * i), &(uint64_t){ mark(1, i) }, 8), 0);
	mmu_flush_all(&g->mmu);
	use_process(g, 1);
	assert_int_equal(mmu_gather_ask(&g->mmu, TLB_USER, V), GATHER_ASKED);
	assert_int_equal(gather(g), 1); /* where page 7 would have been; the other places are of the first process, whose pages are watched */
	assert_int_equal(memory_log_fetch(&g->memory, NULL), PAGES);
	memory_log_stop(&g->memory);
	expect_contents(g, 0);
	expect_contents(g, 1);
	guest_free(g);
}

IN_BOTH_MODES(only_what_was_asked_for_is_done)
{
	struct guest *g = guest_with_areas(mode);

	map_process(g, 0);
	use_process(g, 0);
	assert_int_equal(gather(g), 0);
	not_now = true;
	assert_int_equal(mmu_gather_ask(&g->mmu, TLB_USER, V), GATHER_LATER);
	assert_int_equal(gather(g), 0);
	not_now = false;
	assert_int_equal(mmu_gather_ask(&g->mmu, TLB_USER, V), GATHER_ASKED);
	mmu_set_cr3(&g->mmu, MIB(3)); /* another process runs meanwhile */
	assert_int_equal(gather(g), 0);
	mmu_set_cr3(&g->mmu, g->root);
	use_process(g, 0);
	/* Across the end of a stretch there is nothing to gain, nor where rights differ, nor for a page alone. */
	assert_int_equal(mmu_gather_ask(&g->mmu, TLB_USER, V + PAGES * PAGE_SIZE), GATHER_USELESS);
	assert_int_equal(mmu_gather_ask(&g->mmu, TLB_KERNEL, V), GATHER_USELESS);
	g->memory.gather.wanted = NULL;
	assert_int_equal(mmu_gather_ask(&g->mmu, TLB_USER, V), GATHER_USELESS);
	guest_free(g);
}

static void frames_kept_apart_are_only_taken_by_name(void **state)
{
	(void)state;
	for (enum placement p = PLACEMENT_LINEAR; p <= PLACEMENT_SCATTER; p++) {
		struct pool pool;

		assert_int_equal(pool_init(&pool, 1024, 64, p, 9), 0);
		assert_int_equal(pool.frames, 1088);
		assert_int_equal(pool_take(&pool, mfn(1030), 5).v, 1030);
		assert_false(mfn_valid(pool_take(&pool, mfn(1030), 5)));
		for (unsigned i = 0; i < 1024; i++)
			assert_true(pool_alloc(&pool, i).v < 1024);
		assert_false(mfn_valid(pool_alloc(&pool, 7)));
		pool_free(&pool, mfn(1030));
		assert_false(mfn_valid(pool_alloc(&pool, 7)));
		pool_free(&pool, mfn(77));
		assert_int_equal(pool_alloc(&pool, 2000).v, 77);
		assert_int_equal(pool.used, 1024);
		pool_destroy(&pool);
	}
}

/* --shadow-memory's default goes by the guest's RAM. */
static void areas_ask_for_no_shadow_tables(void **state)
{
	struct guest *g[2] = { guest_new(PAGING_SHADOW, PLACEMENT_LINEAR), guest_with_areas(PAGING_SHADOW) };

	(void)state;
	assert_true(g[1]->memory.pool.frames > g[0]->memory.pool.frames);
	assert_int_equal(((const struct shadow *)g[1]->memory.shadow)->limit, ((const struct shadow *)g[0]->memory.shadow)->limit);
	guest_free(g[0]);
	guest_free(g[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_window_goes_over_pages_that_lay_all_over_memory),
		cmocka_unit_test(who_had_the_frames_before_gets_the_others_and_keeps_its_contents),
		cmocka_unit_test(a_page_goes_home_through_a_ring_of_others),
		cmocka_unit_test(frames_that_somebody_watches_stay),
		cmocka_unit_test(only_what_was_asked_for_is_done),
		cmocka_unit_test(frames_kept_apart_are_only_taken_by_name),
		cmocka_unit_test(areas_ask_for_no_shadow_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
