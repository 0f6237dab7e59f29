/*
 * mem_swap_test.c - a machine pool smaller than guest memory: cold pages go to a file and come back as they were, and what cannot be written or read
 * is an error that changes nothing.
 */
#include "mmu_util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "mmu/explain.h"

#define GUEST MIB(32)
#define MACHINE MIB(8)
#define V 0x7f0000123000ull

static unsigned asked;
static void ask(void *opaque)
{
	(void)opaque;
	asked++;
}

/* Memory as when vcpus run: nobody but us makes room. */
static FILE *swap_on(struct memory *mem, enum placement placement)
{
	FILE *f = tmpfile();

	assert_non_null(f);
	assert_int_equal(memory_init_limited(mem, GUEST, MACHINE, 0, placement, 5), 0);
	assert_int_equal(memory_swap_on(mem, fileno(f)), 0);
	mem->swap.short_of_frames = ask;
	asked = 0;
	return f;
}

static void audit(struct memory *mem)
{
	char msg[200];

	memory_lock(mem);
	if (p2m_audit(mem, msg, sizeof(msg)))
		fail_msg("%s", msg);
	memory_unlock(mem);
}

static void write_page(struct memory *mem, uint64_t gfn, uint64_t value)
{
	assert_int_equal(memory_write(mem, gpa(gfn << PAGE_SHIFT | 0x128), &value, 8), 0);
}

static uint64_t read_page(struct memory *mem, uint64_t gfn)
{
	uint64_t value = ~0ull;

	assert_int_equal(memory_read(mem, gpa(gfn << PAGE_SHIFT | 0x128), &value, 8), 0);
	return value;
}

static bool has_frame(struct memory *mem, uint64_t gfn)
{
	struct p2m_entry e;

	return p2m_lookup(mem, gpa(gfn << PAGE_SHIFT), &e);
}

static void loaders_write_more_than_the_pool_holds(void **state)
{
	(void)state;
	for (enum placement p = PLACEMENT_LINEAR; p <= PLACEMENT_SCATTER; p++) {
		struct memory mem;
		FILE *f = swap_on(&mem, p);

		mem.swap.short_of_frames = NULL;
		memory_prepare(&mem, gpa(0), GUEST);
		for (uint64_t gfn = 0; gfn < GUEST >> PAGE_SHIFT; gfn++)
			write_page(&mem, gfn, gfn + 1);
		audit(&mem);
		assert_true(mem.backed <= MACHINE >> PAGE_SHIFT);
		for (uint64_t gfn = 0; gfn < GUEST >> PAGE_SHIFT; gfn++)
			assert_int_equal(read_page(&mem, gfn), gfn + 1);
		for (uint64_t gfn = 0; gfn < GUEST >> PAGE_SHIFT; gfn += 3)
			write_page(&mem, gfn, gfn + 7);
		for (uint64_t gfn = 0; gfn < GUEST >> PAGE_SHIFT; gfn++)
			assert_int_equal(read_page(&mem, gfn), gfn % 3 ? gfn + 1 : gfn + 7);
		audit(&mem);
		memory_destroy(&mem);
		fclose(f);
	}
}

static void what_was_touched_lately_stays_and_zeros_are_not_written(void **state)
{
	const uint64_t hot = 10, zero = 20;
	struct memory mem;
	FILE *f = swap_on(&mem, PLACEMENT_LINEAR);
	struct p2m_entry e;

	(void)state;
	for (uint64_t gfn = 0; !asked; gfn++)
		write_page(&mem, gfn, gfn == zero ? 0 : gfn + 1);
	assert_int_equal(asked, 1);	/* once, until room was made */
	write_page(&mem, 5000, 1);
	assert_int_equal(asked, 1);
	/* All were touched just now: the first lap clears the marks. Then this one is used again. */
	memset(mem.pool.touched, 0, mem.pool.frames);
	p2m_lookup(&mem, gpa(hot << PAGE_SHIFT), &e);
	mem.pool.touched[e.m.v] = 1;
	assert_int_equal(memory_make_room(&mem), 0);
	memory_release(&mem);
	assert_true(mem.pool.frames - mem.pool.used >= mem.swap.high);
	assert_true(has_frame(&mem, hot) && !has_frame(&mem, hot + 1) && !has_frame(&mem, zero));
	assert_true(p2m_is_swapped(&mem, gpa((hot + 1) << PAGE_SHIFT)));
	assert_false(p2m_is_swapped(&mem, gpa(zero << PAGE_SHIFT)));
	assert_int_equal(mem.counters.swap_zeros, 1);
	assert_int_equal(read_page(&mem, zero), 0);
	assert_int_equal(read_page(&mem, hot + 1), hot + 2);
	assert_false(has_frame(&mem, hot + 1));	/* a device's read brings nothing back */
	assert_int_equal(memory_move(&mem, gpa((hot + 1) << PAGE_SHIFT)), -ENOENT);
	audit(&mem);
	memory_destroy(&mem);
	fclose(f);
}

/* Found by tests/e2e/frames.sh: moves took all frames, one by one, and nobody was asked for room before the guest needed one. */
static void pages_that_move_off_shared_frames_ask_for_room_before_frames_run_out(void **state)
{
	const uint64_t pages = (MACHINE >> PAGE_SHIFT) / 2;
	struct memory mem;
	FILE *f = swap_on(&mem, PLACEMENT_LINEAR);
	uint64_t gfn;

	(void)state;
	assert_int_equal(memory_share_on(&mem), 0);
	/* Half of the pool holds pages of their own; as many pages again share one frame. */
	for (gfn = 0; gfn < 2 * pages; gfn++) {
		write_page(&mem, gfn, gfn < pages ? gfn + 1 : 7);
		if (gfn > pages)
			assert_int_equal(memory_share(&mem, gpa(gfn << PAGE_SHIFT), gpa(pages << PAGE_SHIFT)), 0);
		memory_release(&mem);
	}
	assert_int_equal(asked, 0);
	for (gfn = pages; !asked && gfn < 2 * pages; gfn++) {
		assert_int_equal(memory_move(&mem, gpa(gfn << PAGE_SHIFT)), 0);
		memory_release(&mem);
	}
	assert_int_equal(asked, 1);
	assert_int_equal(mem.pool.frames - mem.pool.used, mem.swap.low - 1);
	memset(mem.pool.touched, 0, mem.pool.frames);
	assert_int_equal(memory_make_room(&mem), 0);
	memory_release(&mem);
	assert_true(mem.pool.frames - mem.pool.used >= mem.swap.high);
	for (gfn = 0; gfn < 2 * pages; gfn++)
		assert_int_equal(read_page(&mem, gfn), gfn < pages ? gfn + 1 : 7);
	audit(&mem);
	memory_destroy(&mem);
	fclose(f);
}

static void the_dirty_log_goes_on_for_pages_that_are_out(void **state)
{
	struct memory mem;
	FILE *f = swap_on(&mem, PLACEMENT_SCATTER);
	uint64_t *bitmap = calloc(memory_log_words(&mem), 8);

	(void)state;
	for (uint64_t gfn = 0; !asked; gfn++)
		write_page(&mem, gfn, gfn + 1);
	assert_int_equal(memory_log_start(&mem), 0);
	write_page(&mem, 1, 100);
	memset(mem.pool.touched, 0, mem.pool.frames);
	while (has_frame(&mem, 1) || has_frame(&mem, 2)) {
		memory_make_room(&mem);
		memory_release(&mem);
		for (uint64_t gfn = 3; gfn < 1500; gfn++)
			read_page(&mem, gfn), write_page(&mem, gfn, 1);
		memset(mem.pool.touched, 0, mem.pool.frames);
	}
	audit(&mem);
	memory_log_fetch(&mem, bitmap);
	assert_int_equal(bitmap[0] & 7, 2);	/* 1 was written; 2 only went out */
	write_page(&mem, 2, 5);
	assert_int_equal(read_page(&mem, 1), 100);
	audit(&mem);
	memory_log_fetch(&mem, bitmap);
	assert_int_equal(bitmap[0] & 7, 4);
	audit(&mem);
	free(bitmap);
	memory_destroy(&mem);
	fclose(f);
}

static void a_page_that_cannot_be_written_stays(void **state)
{
	struct memory mem;
	FILE *f = swap_on(&mem, PLACEMENT_LINEAR);
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uint64_t backed;

	(void)state;
	for (uint64_t gfn = 0; !asked; gfn++)
		write_page(&mem, gfn, gfn + 1);
	memset(mem.pool.touched, 0, mem.pool.frames);
	mem.swap.fd = fd;
	backed = mem.backed;
	assert_int_equal(memory_make_room(&mem), -EBADF);
	assert_int_equal(mem.swap.error, EBADF);
	assert_false(mem.swap.error_reading);
	memory_release(&mem);
	assert_int_equal(mem.backed, backed);
	for (uint64_t gfn = 0; gfn < backed; gfn++)
		assert_int_equal(read_page(&mem, gfn), gfn + 1);
	audit(&mem);
	memory_destroy(&mem);
	close(fd);
	fclose(f);
}

IN_BOTH_MODES(a_page_that_is_out_is_explained_and_comes_back_by_a_hidden_fault)
{
	struct guest *g = aligned_alloc(64, ALIGN_UP(sizeof(*g), 64));
	struct explain x;
	uint64_t table;
	FILE *f;

	memset(g, 0, sizeof(*g));
	f = swap_on(&g->memory, PLACEMENT_LINEAR);
	assert_int_equal(mmu_init(&g->mmu, &g->memory, mode), 0);
	g->root = MIB(1);
	g->next_table = MIB(1) + PAGE_SIZE;
	mmu_set_controls(&g->mmu, LONG_CR0, LONG_CR4, LONG_EFER);
	mmu_set_cr3(&g->mmu, g->root);
	guest_map(g, V, 0x5000 | PWU);
	write_page(&g->memory, 5, 55);
	table = guest_slot(g, g->root, V, 1) >> PAGE_SHIFT;
	EXPECT_MAPPED(g, V, ACC_WRITE | ACC_USER, 0x5000);
	for (uint64_t gfn = 1024; has_frame(&g->memory, 5) || has_frame(&g->memory, table) || has_frame(&g->memory, 256); gfn++) {
		write_page(&g->memory, gfn, gfn);
		if (!asked)
			continue;
		asked = 0;
		memset(g->memory.pool.touched, 0, g->memory.pool.frames);
		assert_int_equal(memory_make_room(&g->memory), 0);
		mmu_frames_changed(&g->mmu);
		memory_release(&g->memory);
	}
	/* Page, page table and top table are out; what they say can still be seen. */
	mmu_explain(&g->mmu, gva(V), EXPLAIN_CURRENT, &x);
	assert_true(x.mapped && x.page.swapped && !x.page.backed && x.step[0].table.swapped && x.step[3].table.swapped);
	assert_int_equal(x.p.v, 0x5000);
	assert_true(x.access[3].hidden & HIDDEN_SWAPPED);
	assert_false(has_frame(&g->memory, 5));
	EXPECT_MAPPED(g, V, ACC_READ | ACC_USER, 0x5000);
	assert_int_equal(load_u64((uint8_t *)g->r.hva + 0x128), 55);
	/* The paging-structure cache outlives the batch, so the tables above the page table need not come back. */
	assert_true(g->mmu.counters.hidden_swapped >= 2);
	/* Out again; then the file is gone. */
	memset(g->memory.pool.touched, 0, g->memory.pool.frames);
	for (unsigned i = 0; i < 16 && has_frame(&g->memory, 5); i++) {
		for (uint64_t gfn = 4096; gfn < 4096 + 200; gfn++)
			write_page(&g->memory, gfn + 200 * i, 1);
		memset(g->memory.pool.touched, 0, g->memory.pool.frames);
		memory_make_room(&g->memory);
		mmu_frames_changed(&g->mmu);
		memory_release(&g->memory);
	}
	assert_false(has_frame(&g->memory, 5));
	assert_int_equal(ftruncate(fileno(f), 0), 0);
	assert_int_equal(try(g, V, ACC_READ | ACC_USER), MMU_HOST_ERROR);
	assert_int_equal(g->memory.swap.error, EIO);
	assert_true(g->memory.swap.error_reading);
	guest_free(g);
	fclose(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loaders_write_more_than_the_pool_holds),
		cmocka_unit_test(what_was_touched_lately_stays_and_zeros_are_not_written),
		cmocka_unit_test(pages_that_move_off_shared_frames_ask_for_room_before_frames_run_out),
		cmocka_unit_test(the_dirty_log_goes_on_for_pages_that_are_out),
		cmocka_unit_test(a_page_that_cannot_be_written_stays),
		cmocka_unit_test(a_page_that_is_out_is_explained_and_comes_back_by_a_hidden_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
