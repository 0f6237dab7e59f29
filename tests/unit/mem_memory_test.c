/*
 * mem_memory_test.c - guest-physical memory: regions, the p2m, access by devices, moving pages; and the I/O bus.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mem/bus.h"
#include "mem/memory.h"

static void audit(struct memory *mem)
{
	char msg[200] = "";

	if (p2m_audit(mem, msg, sizeof(msg)))
		fail_msg("%s", msg);
}

static void memory_beyond_3_gib_lies_above_4_gib(void **state)
{
	struct memory mem;

	(void)state;
	assert_int_equal(memory_init(&mem, GIB(5) + 1, PLACEMENT_LINEAR, 0), 0);
	assert_int_equal(mem.regions, 2);
	assert_true(memory_is_ram(&mem, gpa(GIB(3) - 1)));
	assert_false(memory_is_ram(&mem, gpa(GIB(3))));
	assert_false(memory_is_ram(&mem, gpa(GIB(4) - 1)));
	assert_true(memory_is_ram(&mem, gpa(GIB(4))));
	assert_true(memory_is_ram(&mem, gpa(GIB(6) + 4095)));
	assert_false(memory_is_ram(&mem, gpa(GIB(6) + 4096)));
	assert_false(memory_is_ram(&mem, gpa(~0ull)));
	memory_destroy(&mem);
	assert_int_equal(memory_init(&mem, 0, PLACEMENT_LINEAR, 0), -EINVAL);
	assert_int_equal(memory_init(&mem, 1ull << 41, PLACEMENT_LINEAR, 0), -EINVAL);
}

static void a_page_gets_its_frame_on_first_use_and_keeps_it(void **state)
{
	(void)state;
	for (enum placement p = PLACEMENT_LINEAR; p <= PLACEMENT_SCATTER; p++) {
		struct memory mem;
		struct p2m_entry a, b;
		bool fresh;

		assert_int_equal(memory_init(&mem, MIB(16), p, 3), 0);
		assert_false(p2m_lookup(&mem, gpa(0x5123), &a));
		assert_int_equal(p2m_back(&mem, gpa(0x5123), &a, &fresh), P2M_MAPPED);
		assert_true(fresh);
		assert_int_equal(p2m_back(&mem, gpa(0x5fff), &b, &fresh), P2M_MAPPED);
		assert_false(fresh);
		assert_int_equal(a.m.v, b.m.v);
		assert_int_equal(b.refs, 4);
		assert_int_equal(mem.backed, 1);
		assert_int_equal(p2m_back(&mem, gpa(MIB(16)), &b, &fresh), P2M_NOT_RAM);
		assert_int_equal(p2m_back(&mem, gpa(1ull << 60), &b, &fresh), P2M_NOT_RAM);
		assert_false(p2m_lookup(&mem, gpa(1ull << 60 | 0x5000), &b));
		audit(&mem);
		memory_destroy(&mem);
	}
}

static void a_wholly_backed_chunk_becomes_one_large_leaf_without_a_flush(void **state)
{
	struct memory mem;
	struct p2m_entry e, before;
	bool fresh;

	(void)state;
	assert_int_equal(memory_init(&mem, MIB(16), PLACEMENT_LINEAR, 0), 0);
	for (uint64_t i = 0; i < 512; i++) {
		assert_int_equal(p2m_back(&mem, gpa(MIB(4) + ((i * 77) % 512 << PAGE_SHIFT)), &e, &fresh), P2M_MAPPED);
		assert_int_equal(e.shift, i == 511 ? 21 : 12);
		if (i == 0)
			before = e;
	}
	assert_true(p2m_lookup(&mem, gpa(MIB(4)), &e));
	assert_int_equal(e.shift, 21);
	assert_int_equal(e.refs, 3);
	assert_int_equal(e.m.v, before.m.v);
	assert_true(p2m_lookup(&mem, gpa(MIB(4) + 77 * PAGE_SIZE), &e));
	assert_int_equal(e.m.v, before.m.v + 77);
	assert_int_equal(mem.p2m_generation, 0);
	audit(&mem);
	memory_destroy(&mem);
}

static void scattered_frames_never_make_a_large_leaf(void **state)
{
	struct memory mem;
	struct p2m_entry e;
	bool fresh;

	(void)state;
	assert_int_equal(memory_init(&mem, MIB(2), PLACEMENT_SCATTER, 5), 0);
	for (uint64_t i = 0; i < 512; i++)
		assert_int_equal(p2m_back(&mem, gpa(i << PAGE_SHIFT), &e, &fresh), P2M_MAPPED);
	assert_true(p2m_lookup(&mem, gpa(0), &e));
	assert_int_equal(e.shift, 12);
	audit(&mem);
	memory_destroy(&mem);
}

static void devices_read_what_they_wrote_across_pages(void **state)
{
	struct memory mem;
	uint8_t out[10000], in[10000];

	(void)state;
	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7 + 3);
	assert_int_equal(memory_init(&mem, MIB(2), PLACEMENT_SCATTER, 9), 0);
	assert_int_equal(memory_write(&mem, gpa(0x1ffe), out, sizeof(out)), 0);
	assert_int_equal(memory_read(&mem, gpa(0x1ffe), in, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(mem.backed, 4);
	memory_destroy(&mem);
}

static void reading_an_untouched_page_gives_zeros_and_costs_no_frame(void **state)
{
	struct memory mem;
	uint8_t in[8192], zero[8192] = { 0 };

	(void)state;
	memset(in, 1, sizeof(in));
	assert_int_equal(memory_init(&mem, MIB(2), PLACEMENT_LINEAR, 0), 0);
	assert_int_equal(memory_read(&mem, gpa(100), in, sizeof(in)), 0);
	assert_memory_equal(in, zero, sizeof(in));
	assert_int_equal(mem.backed, 0);
	memory_destroy(&mem);
}

static void an_access_that_is_not_ram_throughout_changes_nothing(void **state)
{
	struct memory mem;
	uint8_t buf[64] = { 1 };

	(void)state;
	assert_int_equal(memory_init(&mem, MIB(2), PLACEMENT_LINEAR, 0), 0);
	assert_int_equal(memory_write(&mem, gpa(MIB(2) - 32), buf, 64), -EFAULT);
	assert_int_equal(memory_write(&mem, gpa(~0ull), buf, 1), -EFAULT);
	assert_int_equal(memory_read(&mem, gpa(~0ull - 3), buf, 64), -EFAULT);
	assert_int_equal(memory_write(&mem, gpa(0), buf, SIZE_MAX), -EFAULT);
	assert_int_equal(memory_write(&mem, gpa(MIB(2)), buf, 0), 0);
	assert_int_equal(mem.backed, 0);
	memory_destroy(&mem);
}

static void a_device_store_to_code_and_to_a_page_table_is_queued(void **state)
{
	struct memory mem;
	struct p2m_entry e;
	uint64_t value = 0;
	bool fresh;

	(void)state;
	assert_int_equal(memory_init(&mem, MIB(2), PLACEMENT_LINEAR, 0), 0);
	p2m_back(&mem, gpa(0x3000), &e, &fresh);
	track_code(&mem.track, e.m, 64, 64);
	memory_write(&mem, gpa(0x3000), &value, 8);
	assert_int_equal(mem.track.code_writes, 0);
	memory_write(&mem, gpa(0x303c), &value, 8);
	assert_int_equal(mem.track.code_writes, 1);
	assert_int_equal(mem.track.table_writes, 0);
	track_set(&mem.track, e.m, FRAME_TABLE);
	for (unsigned i = 0; i < TABLE_WRITE_QUEUE + 5; i++)
		memory_write(&mem, gpa(0x3000), &value, 8);
	assert_int_equal(mem.track.table_writes, TABLE_WRITE_QUEUE + 1);
	memory_destroy(&mem);
}

static void a_moved_page_keeps_its_contents_and_the_old_frame_is_kept_until_released(void **state)
{
	(void)state;
	for (enum placement p = PLACEMENT_LINEAR; p <= PLACEMENT_SCATTER; p++) {
		struct memory mem;
		struct p2m_entry before, after;
		uint64_t value = 0x1122334455667788;

		assert_int_equal(memory_init(&mem, MIB(4), p, 2), 0);
		assert_int_equal(memory_move(&mem, gpa(0x7000)), -ENOENT);
		for (uint64_t i = 0; i < 512; i++)
			memory_write(&mem, gpa(i << PAGE_SHIFT), &i, 8);
		memory_write(&mem, gpa(0x7ff8), &value, 8);
		p2m_lookup(&mem, gpa(0x7000), &before);
		track_code(&mem.track, before.m, 0, 1);
		assert_int_equal(memory_move(&mem, gpa(0x7123)), 0);
		assert_int_equal(mem.p2m_generation, 1);
		assert_int_equal(mem.track.code_writes, 1);
		p2m_lookup(&mem, gpa(0x7000), &after);
		assert_int_not_equal(before.m.v, after.m.v);
		assert_int_equal(after.shift, 12);
		assert_int_equal(mem.counters.frames_moved, 1);
		value = 0;
		memory_read(&mem, gpa(0x7ff8), &value, 8);
		assert_int_equal(value, 0x1122334455667788);
		memory_read(&mem, gpa(0x8000), &value, 8);
		assert_int_equal(value, 8);
		audit(&mem);
		assert_true(pool_frame(&mem.pool, before.m)->flags & FRAME_ALLOCATED);
		pool_frame(&mem.pool, before.m)->code_head = 1;	/* its code is still to be drained */
		memory_release(&mem);
		assert_true(pool_frame(&mem.pool, before.m)->flags & FRAME_ALLOCATED);
		pool_frame(&mem.pool, before.m)->code_head = 0;
		memory_release(&mem);
		assert_false(pool_frame(&mem.pool, before.m)->flags & FRAME_ALLOCATED);
		audit(&mem);
		memory_destroy(&mem);
	}
}

static bool is_logged(const uint64_t *bitmap, uint64_t gfn) { return bitmap[gfn / 64] >> (gfn % 64) & 1; }

static void the_log_names_the_pages_written_since_it_was_fetched(void **state)
{
	struct memory mem;
	struct p2m_entry e;
	uint64_t bitmap[MIB(4) / PAGE_SIZE / 64], value = 1;
	bool fresh;

	(void)state;
	assert_int_equal(memory_init(&mem, MIB(4), PLACEMENT_SCATTER, 2), 0);
	assert_int_equal(memory_log_words(&mem), ARRAY_LEN(bitmap));
	assert_int_equal(memory_log_fetch(&mem, bitmap), -EINVAL);
	memory_write(&mem, gpa(0x5000), &value, 8);
	memory_write(&mem, gpa(0x6000), &value, 8);
	assert_int_equal(memory_log_start(&mem), 0);
	assert_int_equal(memory_log_start(&mem), -EBUSY);
	audit(&mem);
	/* A device, across two pages, one of them new; a guest; a page that is only read into being. */
	memory_write(&mem, gpa(0x6ffc), &value, 8);
	p2m_lookup(&mem, gpa(0x5000), &e);
	assert_true(track_written(&mem.track, e.m, 8, 8) & FRAME_DIRTY_LOG);
	assert_false(track_written(&mem.track, e.m, 8, 8) & FRAME_DIRTY_LOG);
	assert_int_equal(p2m_back(&mem, gpa(0x9000), &e, &fresh), P2M_MAPPED);
	audit(&mem);
	assert_int_equal(memory_log_fetch(&mem, bitmap), 3);
	assert_true(is_logged(bitmap, 5) && is_logged(bitmap, 6) && is_logged(bitmap, 7) && !is_logged(bitmap, 9));
	audit(&mem);
	assert_int_equal(memory_log_fetch(&mem, bitmap), 0);
	/* Moving is no writing, of a clean page and of a dirty one. */
	memory_write(&mem, gpa(0x7000), &value, 8);
	assert_int_equal(memory_move(&mem, gpa(0x5000)), 0);
	assert_int_equal(memory_move(&mem, gpa(0x7000)), 0);
	audit(&mem);
	memory_release(&mem);
	assert_int_equal(memory_log_fetch(&mem, 0), 1);
	p2m_lookup(&mem, gpa(0x5000), &e);
	assert_true(pool_frame(&mem.pool, e.m)->flags & FRAME_DIRTY_LOG);
	memory_log_stop(&mem);
	audit(&mem);
	memory_log_stop(&mem);
	assert_int_equal(memory_log_start(&mem), 0);
	memory_destroy(&mem);
}

/* The bus. */
struct toy { uint64_t offset, value; unsigned size, calls; };
static uint64_t toy_read(void *dev, uint64_t offset, unsigned size)
{
	struct toy *t = dev;

	t->offset = offset;
	t->size = size;
	t->calls++;
	return 0x1122334455667788;
}
static void toy_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
	struct toy *t = dev;

	toy_read(dev, offset, size);
	t->value = value;
}

static void the_bus_gives_a_device_its_offsets_and_masks_values_to_the_size(void **state)
{
	struct toy toy = { 0 };
	struct bus_range range = { 0xfee00000, 0x1000, toy_read, toy_write, &toy, "toy" };
	struct bus bus;

	(void)state;
	bus_init(&bus);
	assert_int_equal(bus_claim(&bus, BUS_MMIO, &range), 0);
	assert_int_equal(bus_read(&bus, BUS_MMIO, 0xfee00020, 4), 0x55667788);
	assert_int_equal(toy.offset, 0x20);
	assert_int_equal(toy.size, 4);
	bus_write(&bus, BUS_MMIO, 0xfee00fff, 2, 0xabcdef);
	assert_int_equal(toy.value, 0xcdef);
	assert_int_equal(toy.offset, 0xfff);
	assert_int_equal(bus.accesses[BUS_MMIO], 2);
	bus_destroy(&bus);
}

static void what_nobody_claims_reads_as_ones_and_ignores_writes(void **state)
{
	struct toy toy = { 0 };
	struct bus_range range = { 0x3f8, 8, toy_read, toy_write, &toy, "toy" };
	struct bus bus;

	(void)state;
	bus_init(&bus);
	bus_claim(&bus, BUS_PORT, &range);
	assert_int_equal(bus_read(&bus, BUS_PORT, 0x3f7, 1), 0xff);
	assert_int_equal(bus_read(&bus, BUS_PORT, 0x400, 2), 0xffff);
	assert_int_equal(bus_read(&bus, BUS_MMIO, 0x3f8, 8), ~0ull);
	bus_write(&bus, BUS_PORT, 0x400, 1, 3);
	assert_int_equal(toy.calls, 0);
	bus_destroy(&bus);
}

static void overlapping_claims_and_too_many_are_refused(void **state)
{
	struct bus_range a = { 0x100, 0x10, toy_read, 0, 0, "a" }, b = { 0x10f, 1, toy_read, 0, 0, "b" },
			 c = { 0x110, 1, toy_read, 0, 0, "c" }, none = { 5, 0, 0, 0, 0, "none" },
			 wraps = { ~0ull - 1, 8, 0, 0, 0, "wraps" };
	struct bus bus;

	(void)state;
	bus_init(&bus);
	assert_int_equal(bus_claim(&bus, BUS_PORT, &a), 0);
	assert_int_equal(bus_claim(&bus, BUS_PORT, &b), -EEXIST);
	assert_int_equal(bus_claim(&bus, BUS_PORT, &c), 0);
	assert_int_equal(bus_claim(&bus, BUS_MMIO, &b), 0);
	assert_int_equal(bus_claim(&bus, BUS_PORT, &none), -EINVAL);
	assert_int_equal(bus_claim(&bus, BUS_PORT, &wraps), -EINVAL);
	for (unsigned i = 2; i < BUS_MAX_RANGES; i++) {
		c.base++;
		assert_int_equal(bus_claim(&bus, BUS_PORT, &c), 0);
	}
	c.base++;
	assert_int_equal(bus_claim(&bus, BUS_PORT, &c), -ENOSPC);
	bus_destroy(&bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_beyond_3_gib_lies_above_4_gib),
		cmocka_unit_test(a_page_gets_its_frame_on_first_use_and_keeps_it),
		cmocka_unit_test(a_wholly_backed_chunk_becomes_one_large_leaf_without_a_flush),
		cmocka_unit_test(scattered_frames_never_make_a_large_leaf),
		cmocka_unit_test(devices_read_what_they_wrote_across_pages),
		cmocka_unit_test(reading_an_untouched_page_gives_zeros_and_costs_no_frame),
		cmocka_unit_test(an_access_that_is_not_ram_throughout_changes_nothing),
		cmocka_unit_test(a_device_store_to_code_and_to_a_page_table_is_queued),
		cmocka_unit_test(a_moved_page_keeps_its_contents_and_the_old_frame_is_kept_until_released),
		cmocka_unit_test(the_log_names_the_pages_written_since_it_was_fetched),
		cmocka_unit_test(the_bus_gives_a_device_its_offsets_and_masks_values_to_the_size),
		cmocka_unit_test(what_nobody_claims_reads_as_ones_and_ignores_writes),
		cmocka_unit_test(overlapping_claims_and_too_many_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
