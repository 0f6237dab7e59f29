/*
 * mem_pool_test.c - placement, population and release of machine frames; page tracking.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/pool.h"
#include "mem/track.h"

static uint64_t resident(const struct pool *pool)
{
	unsigned char *vec = malloc(pool->frames);
	uint64_t n = 0;

	assert_non_null(vec);
	assert_int_equal(mincore(pool->base, pool->frames << PAGE_SHIFT, vec), 0);
	for (uint64_t i = 0; i < pool->frames; i++)
		n += vec[i] & 1;
	free(vec);
	return n;
}

static void linear_placement_keeps_a_page_at_its_own_place_in_its_chunk(void **state)
{
	struct pool pool;
	mfn_t a, b, c;

	(void)state;
	assert_int_equal(pool_init(&pool, 4 * 512, 0, PLACEMENT_LINEAR, 0), 0);
	a = pool_alloc(&pool, 0x70000 + 5);
	b = pool_alloc(&pool, 0x100 + 512 * 9);
	c = pool_alloc(&pool, 0x70000 + 511);
	assert_int_equal(a.v % 512, 5);
	assert_int_equal(b.v % 512, 0x100);
	assert_int_equal(c.v, a.v - 5 + 511);
	assert_int_not_equal(a.v / 512, b.v / 512);
	assert_int_equal(pool_frame(&pool, c)->gfn, 0x70000 + 511);
	assert_int_equal(pool.used, 3);
	pool_destroy(&pool);
}

static void linear_placement_still_finds_a_frame_when_chunks_have_run_out(void **state)
{
	struct pool pool;

	(void)state;
	assert_int_equal(pool_init(&pool, 512, 0, PLACEMENT_LINEAR, 0), 0);
	for (unsigned i = 0; i < 512; i++)
		assert_true(mfn_valid(pool_alloc(&pool, (uint64_t)i * 512)));
	assert_false(mfn_valid(pool_alloc(&pool, 7)));
	pool_destroy(&pool);
}

static void scatter_hands_out_every_frame_once_in_an_order_that_the_seed_decides(void **state)
{
	struct pool a, b, c;
	bool *seen = calloc(1000, sizeof(*seen)), other_differs = false;
	unsigned in_order = 0;
	uint64_t last = 0;

	(void)state;
	assert_int_equal(pool_init(&a, 1000, 0, PLACEMENT_SCATTER, 42), 0);
	assert_int_equal(pool_init(&b, 1000, 0, PLACEMENT_SCATTER, 42), 0);
	assert_int_equal(pool_init(&c, 1000, 0, PLACEMENT_SCATTER, 43), 0);
	for (unsigned i = 0; i < 1000; i++) {
		mfn_t m = pool_alloc(&a, i);

		assert_true(m.v < 1000 && !seen[m.v]);
		seen[m.v] = true;
		assert_int_equal(pool_alloc(&b, i).v, m.v);
		other_differs |= pool_alloc(&c, i).v != m.v;
		in_order += m.v == last + 1;
		last = m.v;
	}
	assert_true(other_differs);
	assert_true(in_order < 20);
	assert_false(mfn_valid(pool_alloc(&a, 0)));
	free(seen);
	pool_destroy(&a);
	pool_destroy(&b);
	pool_destroy(&c);
}

static void scatter_takes_a_chunk_to_its_end_in_random_order_before_another_that_is_anywhere(void **state)
{
	struct pool pool;
	unsigned next = 0, in_order = 0;
	uint64_t last = 0;

	(void)state;
	assert_int_equal(pool_init(&pool, 64 * 512 + 100, 0, PLACEMENT_SCATTER, 1), 0);
	for (unsigned chunk = 0; chunk < 64; chunk++) {
		const uint64_t first = pool_reserve(&pool, 0).v;

		for (unsigned i = 1; i < 512; i++) {
			const uint64_t m = pool_reserve(&pool, 0).v;

			assert_int_equal(m / 512, first / 512);
			in_order += m == last + 1;
			last = m;
		}
		next += first / 512 == chunk;
	}
	assert_true(next < 16);
	assert_true(in_order < 200);
	for (unsigned i = 0; i < 100; i++)
		assert_true(pool_reserve(&pool, 0).v >= 64 * 512);
	assert_false(mfn_valid(pool_reserve(&pool, 0)));
	pool_destroy(&pool);
}

static void a_frame_is_zero_when_handed_out_also_after_use(void **state)
{
	(void)state;
	for (enum placement p = PLACEMENT_LINEAR; p <= PLACEMENT_SCATTER; p++) {
		struct pool pool;
		uint8_t zero[PAGE_SIZE] = { 0 };

		assert_int_equal(pool_init(&pool, 512, 0, p, 1), 0);
		for (unsigned i = 0; i < 3; i++) {
			mfn_t m = pool_alloc(&pool, 3);

			assert_memory_equal(pool_ptr(&pool, m), zero, PAGE_SIZE);
			memset(pool_ptr(&pool, m), 0xcc, PAGE_SIZE);
			pool_free(&pool, m);
			assert_int_equal(pool.used, 0);
		}
		pool_destroy(&pool);
	}
}

static void a_large_pool_costs_nothing_until_frames_are_used(void **state)
{
	struct pool pool;

	(void)state;
	assert_int_equal(pool_init(&pool, GIB(64) >> PAGE_SHIFT, 0, PLACEMENT_LINEAR, 0), 0);
	pool_destroy(&pool);
	assert_int_equal(pool_init(&pool, GIB(1) >> PAGE_SHIFT, 0, PLACEMENT_LINEAR, 0), 0);
	assert_int_equal(resident(&pool), 0);
	/* One page in each of 100 chunks: exactly so many host pages. */
	for (unsigned i = 0; i < 100; i++)
		pool_alloc(&pool, i * 512 + 77);
	assert_int_equal(resident(&pool), 100);
	pool_destroy(&pool);
}

static void population_runs_ahead_of_sequential_use_by_sixteen_pages_at_most(void **state)
{
	struct pool pool;

	(void)state;
	assert_int_equal(pool_init(&pool, 4 * 512, 0, PLACEMENT_LINEAR, 0), 0);
	for (unsigned i = 0; i < 200; i++) {
		pool_alloc(&pool, i);
		assert_in_range(resident(&pool), i + 1, i + 1 + 16);
	}
	for (unsigned i = 0; i < 200; i++) /* and downwards */
		pool_alloc(&pool, 1024 + 500 - i);
	assert_in_range(resident(&pool), 400, 432);
	/* No use at all of what follows the last page of a chunk. */
	for (unsigned i = 200; i < 512; i++)
		pool_alloc(&pool, i);
	assert_in_range(resident(&pool), 712, 712 + 16);
	pool_destroy(&pool);
}

/* AnonHugePages of what is mapped at the pool's memory, in KiB. Nowhere may the host make large pages of its own accord. */
static unsigned long huge_kib(const struct pool *pool)
{
	const uintptr_t first = (uintptr_t)pool->base, end = first + (pool->frames << PAGE_SHIFT);
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long lo, hi, kib, sum = 0;
	const bool has_large = !access("/sys/kernel/mm/transparent_hugepage", F_OK);
	bool ours = false;
	char line[300];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &lo, &hi) == 2)
			ours = lo < end && hi > first;
		else if (ours && sscanf(line, "AnonHugePages: %lu", &kib) == 1)
			sum += kib;
		else if (ours && has_large && !strncmp(line, "VmFlags:", 8))
			assert_non_null(strstr(line, " nh"));
	}
	fclose(f);
	return sum;
}

static void a_chunk_whose_frames_all_have_memory_can_become_a_large_page_of_the_host_and_keeps_its_contents(void **state)
{
	enum pool_large answer;
	struct pool pool;
	mfn_t m = MFN_NONE;
	unsigned hot = 0;

	(void)state;
	assert_int_equal(pool_init(&pool, 2 * 512, 0, PLACEMENT_LINEAR, 0), 0);
	for (unsigned i = 0; i < 400; i++) {
		m = pool_alloc(&pool, i);
		memset(pool_ptr(&pool, m), (int)(i % 251 + 1), PAGE_SIZE);
	}
	for (unsigned i = 0; i < POOL_HOT; i++)
		hot += pool_is_hot(&pool, m);
	assert_int_equal(hot, 1);
	assert_int_equal(pool_make_large(&pool, m), POOL_LARGE_LATER);
	assert_int_equal(huge_kib(&pool), 0);
	for (unsigned i = 400; i < 512; i++)
		memset(pool_ptr(&pool, pool_alloc(&pool, i)), (int)(i % 251 + 1), PAGE_SIZE);
	/* Counted anew, and then no more. */
	for (unsigned i = 0; i < 1000; i++)
		hot += pool_is_hot(&pool, m);
	assert_int_equal(hot, 2);
	answer = pool_make_large(&pool, m);
	assert_int_not_equal(answer, POOL_LARGE_LATER);
	assert_int_equal(huge_kib(&pool), answer == POOL_LARGE_MADE ? 2048 : 0);
	m.v &= ~511ull;
	for (uint64_t i = 0; i < 512; i++)
		for (unsigned k = 0; k < PAGE_SIZE; k += 512)
			assert_int_equal(((uint8_t *)pool_ptr(&pool, mfn(m.v + i)))[k], i % 251 + 1);
	/* All of them freed, one touched page costs one again. */
	for (uint64_t i = 0; i < 512; i++)
		pool_free(&pool, mfn(m.v + i));
	assert_int_equal(resident(&pool), 0);
	pool_alloc(&pool, 77);
	assert_int_equal(resident(&pool), 1);
	pool_destroy(&pool);
}

static void a_pool_of_no_frames_or_too_many_is_refused(void **state)
{
	struct pool pool;

	(void)state;
	assert_int_equal(pool_init(&pool, 0, 0, PLACEMENT_LINEAR, 0), -EINVAL);
	assert_int_equal(pool_init(&pool, 1ull << 32, 0, PLACEMENT_SCATTER, 0), -EINVAL);
	assert_true(pool_init(&pool, 0xffffffff, 0, PLACEMENT_LINEAR, 0) <= 0);
	pool_destroy(&pool);
}

static void code_is_watched_by_granules_of_64_bytes(void **state)
{
	struct pool pool;
	struct track track;
	mfn_t m;

	(void)state;
	assert_int_equal(pool_init(&pool, 512, 0, PLACEMENT_LINEAR, 0), 0);
	track_init(&track, &pool);
	m = pool_alloc(&pool, 9);
	assert_true(track_code(&track, m, 130, 10));	/* granule 2 */
	assert_false(track_code(&track, m, 191, 2));	/* granules 2 and 3: watched already */
	assert_int_equal(pool_frame(&pool, m)->code_granules, 3ull << 2);
	track_written(&track, m, 0, 128);
	track_written(&track, m, 256, 3840);
	assert_int_equal(track.code_writes, 0);
	assert_true(track_written(&track, m, 120, 9) & FRAME_CODE);
	assert_int_equal(track.code_writes, 1);
	assert_int_equal(track.queue[0].m.v, m.v);
	assert_int_equal(track.queue[0].offset, 120);
	assert_int_equal(track.queue[0].len, 9);
	track_written(&track, m, 0, 4096);
	assert_int_equal(track.code_writes, 2);
	assert_int_equal(track.queue[1].len, 4096);
	track_clear(&track, m, FRAME_CODE);
	assert_int_equal(pool_frame(&pool, m)->code_granules, 0);
	track_written(&track, m, 120, 9);
	assert_int_equal(track.code_writes, 2);
	pool_destroy(&pool);
}

static void the_queue_of_code_writes_says_when_it_overflows(void **state)
{
	struct pool pool;
	struct track track;
	mfn_t m;

	(void)state;
	assert_int_equal(pool_init(&pool, 512, 0, PLACEMENT_LINEAR, 0), 0);
	track_init(&track, &pool);
	m = pool_alloc(&pool, 9);
	track_code(&track, m, 0, 4096);
	for (unsigned i = 0; i < CODE_WRITE_QUEUE; i++)
		track_written(&track, m, i, 1);
	assert_int_equal(track.code_writes, CODE_WRITE_QUEUE);
	for (unsigned i = 0; i < 10; i++)
		track_written(&track, m, i, 1);
	assert_int_equal(track.code_writes, CODE_WRITE_QUEUE + 1);
	pool_destroy(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(linear_placement_keeps_a_page_at_its_own_place_in_its_chunk),
		cmocka_unit_test(linear_placement_still_finds_a_frame_when_chunks_have_run_out),
		cmocka_unit_test(scatter_hands_out_every_frame_once_in_an_order_that_the_seed_decides),
		cmocka_unit_test(scatter_takes_a_chunk_to_its_end_in_random_order_before_another_that_is_anywhere),
		cmocka_unit_test(a_frame_is_zero_when_handed_out_also_after_use),
		cmocka_unit_test(a_large_pool_costs_nothing_until_frames_are_used),
		cmocka_unit_test(population_runs_ahead_of_sequential_use_by_sixteen_pages_at_most),
		cmocka_unit_test(a_chunk_whose_frames_all_have_memory_can_become_a_large_page_of_the_host_and_keeps_its_contents),
		cmocka_unit_test(a_pool_of_no_frames_or_too_many_is_refused),
		cmocka_unit_test(code_is_watched_by_granules_of_64_bytes),
		cmocka_unit_test(the_queue_of_code_writes_says_when_it_overflows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
