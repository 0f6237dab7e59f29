/*
 * virtio_test.c - a driver's side of a virtio device: set-up as the specification says, what is refused, virtqueues that make no sense, and the balloon.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <pthread.h>

#include "dev/virtio_balloon.h"

#define BASE 0xfeb00000u
#define DESC 0x10000u
#define DRIVER 0x11000u
#define DEVICE 0x12000u
#define NUMBERS 0x13000u
#define PAGES 0x200000u	/* guest memory to give up */

enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

struct rig {
	struct bus bus;
	struct memory memory;
	struct virtio_balloon balloon;
	unsigned wanted;
	bool line;
	uint16_t available[8];
};

static void on_wanted(void *opaque) { ((struct rig *)opaque)->wanted++; }
static void on_line(void *opaque, unsigned pin, bool level) { ((struct rig *)opaque)->line = level; (void)pin; }

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	const struct irq_line irq = { on_line, r, 0 };

	bus_init(&r->bus);
	*state = r;
	return memory_init(&r->memory, MIB(16), PLACEMENT_LINEAR, 1) || virtio_balloon_init(&r->balloon, &r->memory, &r->bus, BASE, &irq, on_wanted, r);
}

static int teardown(void **state)
{
	struct rig *r = *state;
	char msg[200];

	memory_lock(&r->memory);
	assert_int_equal(p2m_audit(&r->memory, msg, sizeof(msg)), 0);
	memory_unlock(&r->memory);
	memory_destroy(&r->memory);
	bus_destroy(&r->bus);
	free(r);
	return 0;
}

static uint32_t get(struct rig *r, unsigned reg) { return (uint32_t)bus_read(&r->bus, BUS_MMIO, BASE + reg, 4); }
static void set(struct rig *r, unsigned reg, uint32_t v) { bus_write(&r->bus, BUS_MMIO, BASE + reg, 4, v); }
static void put(struct rig *r, uint64_t at, uint64_t v, unsigned size) { assert_int_equal(memory_write(&r->memory, gpa(at), &v, size), 0); }
static uint32_t peek(struct rig *r, uint64_t at, unsigned size)
{
	uint32_t v = 0;

	assert_int_equal(memory_read(&r->memory, gpa(at), &v, size), 0);
	return v;
}

static uint64_t part(unsigned queue, uint64_t address) { return address + queue * 0x10000u; }

static void set_queue(struct rig *r, unsigned queue, unsigned size)
{
	set(r, 0x30, queue);
	assert_int_equal(get(r, 0x34), VIRTIO_QUEUE_SIZE);
	set(r, 0x38, size);
	set(r, 0x80, (uint32_t)part(queue, DESC));
	set(r, 0x90, (uint32_t)part(queue, DRIVER));
	set(r, 0xa0, (uint32_t)part(queue, DEVICE));
	set(r, 0x44, 1);
	assert_int_equal(get(r, 0x44), 1);
}

/* With these features: 0 statistics, 2 reporting. */
static void start(struct rig *r, uint32_t low)
{
	set(r, 0x70, 0);
	set(r, 0x70, 1 | 2);
	set(r, 0x24, 0);
	set(r, 0x20, low | 1u << 28);
	set(r, 0x24, 1);
	set(r, 0x20, 1);
	set(r, 0x70, 1 | 2 | 8);
	assert_int_equal(get(r, 0x70), 1 | 2 | 8);
	for (unsigned q = 0; q < 4; q++)
		set_queue(r, q, 8);
	memset(r->available, 0, sizeof(r->available));
	set(r, 0x70, 1 | 2 | 8 | 4);
}

static void desc(struct rig *r, uint64_t table, unsigned i, uint64_t p, uint32_t len, unsigned flags, unsigned next)
{
	put(r, table + 16 * i, p, 8);
	put(r, table + 16 * i + 8, len, 4);
	put(r, table + 16 * i + 12, flags, 2);
	put(r, table + 16 * i + 14, next, 2);
}

static void offer(struct rig *r, unsigned queue, unsigned head)
{
	put(r, part(queue, DRIVER) + 4 + 2 * (r->available[queue] % 8), head, 2);
	put(r, part(queue, DRIVER) + 2, ++r->available[queue], 2);
	set(r, 0x50, queue);
}

static void serve(struct rig *r)
{
	while (virtio_balloon_serve(&r->balloon))
		;
	memory_release(&r->memory);
}

static bool has_frame(struct rig *r, uint64_t p)
{
	struct p2m_entry e;

	memory_lock(&r->memory);
	const bool has = p2m_lookup(&r->memory, gpa(p), &e);
	memory_unlock(&r->memory);
	return has;
}

static void fill(struct rig *r, unsigned pages)
{
	for (unsigned i = 0; i < pages; i++)
		put(r, PAGES + i * PAGE_SIZE, 0x1111 + i, 8);
}

static void the_transport_says_what_it_is_and_only_takes_what_it_offers(void **state)
{
	struct rig *r = *state;

	assert_int_equal(get(r, 0), 0x74726976);
	assert_int_equal(get(r, 4), 2);
	assert_int_equal(get(r, 8), 5);
	set(r, 0x14, 1);
	assert_int_equal(get(r, 0x10), 1);
	set(r, 0x14, 0);
	assert_int_equal(get(r, 0x10), 1u << 28 | 1u << 1 | 1u << 2 | 1u << 5);
	set(r, 0x14, 2);
	assert_int_equal(get(r, 0x10), 0);
	set(r, 0x70, 3);
	set(r, 0x24, 0);
	set(r, 0x20, 1u << 3);
	set(r, 0x24, 1);
	set(r, 0x20, 1);
	set(r, 0x70, 3 | 8);
	assert_int_equal(get(r, 0x70), 3);	/* a feature that is not offered */
	set(r, 0x24, 0);
	set(r, 0x20, 1u << 5);
	set(r, 0x24, 1);
	set(r, 0x20, 0);
	set(r, 0x70, 3 | 8 | 4);
	assert_int_equal(get(r, 0x70), 3);	/* no VERSION_1, so no DRIVER_OK either */
	set(r, 0x20, 1);
	set(r, 0x70, 3 | 8);
	assert_int_equal(get(r, 0x70), 3 | 8);
	set(r, 0x30, 4);
	assert_int_equal(get(r, 0x34), 0);	/* no such queue */
	set(r, 0x44, 1);
	assert_int_equal(get(r, 0x44), 0);
	set(r, 0x30, 0);
	set(r, 0x38, 7);			/* not a power of 2 */
	assert_int_equal(r->balloon.virtio.queue[0].size, VIRTIO_QUEUE_SIZE);
	set(r, 0x50, 0);
	assert_int_equal(r->wanted, 0);		/* nothing is ready */
	assert_int_equal(bus_read(&r->bus, BUS_MMIO, BASE + 0x108, 4), 0);
	set(r, 0x70, 0);
	assert_int_equal(get(r, 0x70), 0);
}

static void inflated_pages_lose_their_frames_and_read_as_zeros(void **state)
{
	struct rig *r = *state;

	start(r, 0);
	fill(r, 8);
	for (unsigned i = 0; i < 4; i++)
		put(r, NUMBERS + 4 * i, (PAGES >> PAGE_SHIFT) + 2 * i, 4);
	put(r, NUMBERS + 16, 0xfffffff0u, 4);	/* not RAM: passed over */
	desc(r, part(0, DESC), 0, NUMBERS, 20, 0, 0);
	offer(r, 0, 0);
	assert_int_equal(r->wanted, 1);
	assert_false(r->line);
	serve(r);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(has_frame(r, PAGES + i * PAGE_SIZE), i % 2);
		assert_int_equal(peek(r, PAGES + i * PAGE_SIZE, 4), i % 2 ? 0x1111 + i : 0);
	}
	assert_true(r->line);
	assert_int_equal(get(r, 0x60), 1);
	set(r, 0x64, 1);
	assert_false(r->line);
	assert_int_equal(peek(r, part(0, DEVICE) + 2, 2), 1);
	assert_int_equal(r->balloon.counters.discarded, 4);
	/* Out again: written as new. */
	put(r, part(1, DRIVER), 1, 2);		/* no interrupts, please */
	desc(r, part(1, DESC), 3, NUMBERS, 16, 0, 0);
	offer(r, 1, 3);
	serve(r);
	assert_int_equal(r->balloon.counters.deflated, 4);
	assert_int_equal(peek(r, part(1, DEVICE) + 4, 4), 3);
	assert_false(r->line);
	put(r, PAGES, 77, 8);
	assert_int_equal(peek(r, PAGES, 4), 77);
}

static void reported_ranges_go_by_any_chain_and_a_bounded_part_at_a_time(void **state)
{
	struct rig *r = *state;

	start(r, 1u << 5);
	fill(r, 64);
	/* Two buffers by an indirect table; no statistics queue, so reporting is queue 2. */
	desc(r, NUMBERS, 0, PAGES, 16 * PAGE_SIZE, WRITE | NEXT, 1);
	desc(r, NUMBERS, 1, PAGES + 32 * PAGE_SIZE, 16 * PAGE_SIZE, WRITE, 0);
	desc(r, part(2, DESC), 5, NUMBERS, 32, INDIRECT, 0);
	offer(r, 2, 5);
	serve(r);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(has_frame(r, PAGES + i * PAGE_SIZE), i / 16 % 2);
	/* All of 4 GiB, RAM or not, in many calls. */
	for (unsigned i = 0; i < 8; i++)
		desc(r, NUMBERS, i, i ? (uint64_t)i << 32 : PAGES, 0xfffff000u, WRITE | (i < 7 ? NEXT : 0), i + 1);
	desc(r, part(2, DESC), 5, NUMBERS, 128, INDIRECT, 0);
	offer(r, 2, 5);
	assert_true(virtio_balloon_serve(&r->balloon));
	serve(r);
	assert_false(has_frame(r, PAGES + 20 * PAGE_SIZE));
	assert_int_equal(peek(r, part(2, DEVICE) + 2, 2), 2);
	assert_true(virtio_works(&r->balloon.virtio));
}

static void the_dirty_log_names_what_was_given_up(void **state)
{
	struct rig *r = *state;
	uint64_t words = memory_log_words(&r->memory), *bits = calloc(words, 8), gfn = PAGES >> PAGE_SHIFT;

	start(r, 1u << 5);
	fill(r, 4);
	desc(r, part(2, DESC), 0, PAGES, 2 * PAGE_SIZE, WRITE, 0);
	assert_int_equal(memory_log_start(&r->memory), 0);
	memory_log_fetch(&r->memory, bits);
	offer(r, 2, 0);
	serve(r);
	memory_log_fetch(&r->memory, bits);
	assert_int_equal(bits[gfn / 64] >> gfn % 64 & 15, 3);
	free(bits);
}

static void the_target_is_configuration_and_statistics_come_when_asked(void **state)
{
	struct rig *r = *state;

	start(r, 1u << 1 | 1u << 5);
	const uint32_t generation = get(r, 0xfc);
	virtio_balloon_set(&r->balloon, 1000);
	assert_int_equal(get(r, 0x60), 2);
	assert_int_not_equal(get(r, 0xfc), generation);
	assert_int_equal(get(r, 0x100), 1000);
	set(r, 0x100, 7);
	assert_int_equal(get(r, 0x100), 1000);
	set(r, 0x104, 600);
	assert_int_equal(virtio_balloon_held(&r->balloon), 600);
	/* Statistics: packed pairs; the buffer stays here until new ones are wanted. */
	put(r, NUMBERS, BALLOON_STAT_FREE, 2);
	put(r, NUMBERS + 2, 123456, 8);
	put(r, NUMBERS + 10, 9999, 2);		/* unknown: ignored */
	put(r, NUMBERS + 12, 1, 8);
	desc(r, part(2, DESC), 0, NUMBERS, 20, 0, 0);
	offer(r, 2, 0);
	serve(r);
	assert_int_equal(r->balloon.stat[BALLOON_STAT_FREE], 123456);
	assert_int_equal(peek(r, part(2, DEVICE) + 2, 2), 0);
	virtio_balloon_ask_stats(&r->balloon);
	virtio_balloon_ask_stats(&r->balloon);
	assert_int_equal(peek(r, part(2, DEVICE) + 2, 2), 1);
	assert_true(virtio_balloon_reports(&r->balloon));
	set(r, 0x70, 0);
	assert_false(virtio_balloon_reports(&r->balloon));
	assert_int_equal(virtio_balloon_held(&r->balloon), 0);
}

/* Each of these must stop the device, and a reset must revive it. */
static void queues_that_make_no_sense_stop_the_device_until_it_is_reset(void **state)
{
	struct rig *r = *state;

	for (unsigned i = 0; i < 10; i++) {
		start(r, 1u << 5);
		assert_true(virtio_works(&r->balloon.virtio));
		desc(r, part(0, DESC), 0, NUMBERS, 4, 0, 0);
		desc(r, part(0, DESC), 1, NUMBERS, 4, 0, 0);
		switch (i) {
		case 0: put(r, part(0, DRIVER) + 2, 9, 2); set(r, 0x50, 0); break;	/* more requests than entries */
		case 1: offer(r, 0, 8); break;						/* no such descriptor */
		case 2: desc(r, part(0, DESC), 0, NUMBERS, 4, NEXT, 8); offer(r, 0, 0); break;
		case 3: desc(r, part(0, DESC), 0, NUMBERS, 4, NEXT, 0); offer(r, 0, 0); break;	/* a loop */
		case 4: desc(r, part(0, DESC), 0, NUMBERS, 4, NEXT | WRITE, 1); offer(r, 0, 0); break;	/* read after written */
		case 5: desc(r, part(0, DESC), 0, NUMBERS, 20, INDIRECT, 0); offer(r, 0, 0); break;	/* half a descriptor */
		case 6: desc(r, part(0, DESC), 0, NUMBERS, 16 * (VIRTIO_CHAIN_MAX + 1), INDIRECT, 0); offer(r, 0, 0); break;
		case 7: desc(r, NUMBERS, 0, NUMBERS, 16, INDIRECT, 0); desc(r, part(0, DESC), 0, NUMBERS, 16, INDIRECT, 0); offer(r, 0, 0); break;
		case 8: desc(r, part(0, DESC), 0, 0xffffffffffffff00ull, 16, INDIRECT, 0); offer(r, 0, 0); break;
		case 9: offer(r, 0, 0); r->balloon.virtio.queue[0].device = gpa(MIB(64)); break;	/* the used ring is not RAM */
		}
		serve(r);
		if (virtio_works(&r->balloon.virtio) || !(get(r, 0x70) & 64) || !(get(r, 0x60) & 2))
			fail_msg("case %u goes unnoticed", i);
		r->wanted = 0;
		set(r, 0x50, 0);
		assert_int_equal(r->wanted, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(the_transport_says_what_it_is_and_only_takes_what_it_offers),
		T(inflated_pages_lose_their_frames_and_read_as_zeros),
		T(reported_ranges_go_by_any_chain_and_a_bounded_part_at_a_time),
		T(the_dirty_log_names_what_was_given_up),
		T(the_target_is_configuration_and_statistics_come_when_asked),
		T(queues_that_make_no_sense_stop_the_device_until_it_is_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
