/*
 * pit_test.c - the interval timer and the power management timer, on a clock that stands until it is moved. One tick of the PIT is 838.1 ns.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <pthread.h>

#include "dev/pit.h"
#include "dev/pmtimer.h"

#define TICKS(n) (((n) * 1000000000ull + PIT_HZ - 1) / PIT_HZ)
#define START_NS 5000000000ull

static uint64_t now;
static uint64_t get_now(void) { return now; }

struct rig { struct bus bus; struct pit pit; struct pmtimer pm; uint64_t armed; unsigned edges; };

static void on_arm(void *opaque, uint64_t deadline) { ((struct rig *)opaque)->armed = deadline; }
static void on_pin(void *opaque, unsigned pin, bool level)
{
	assert_int_equal(pin, 2);
	((struct rig *)opaque)->edges += level;
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	const struct irq_line irq = { on_pin, r, 2 };
	const struct pit_host host = { get_now, on_arm, r };

	now = START_NS;
	r->armed = PIT_NEVER;
	bus_init(&r->bus);
	*state = r;
	return pit_init(&r->pit, &r->bus, &irq, &host) || pmtimer_init(&r->pm, &r->bus, get_now);
}

static int teardown(void **state)
{
	struct rig *r = *state;
	bus_destroy(&r->bus);
	free(r);
	return 0;
}

static uint32_t in(struct rig *r, uint16_t port, unsigned size) { return (uint32_t)bus_read(&r->bus, BUS_PORT, port, size); }
static void out(struct rig *r, uint16_t port, uint8_t v) { bus_write(&r->bus, BUS_PORT, port, 1, v); }

/* Mode, low byte and high byte first. */
static void program(struct rig *r, unsigned channel, unsigned mode, uint16_t count)
{
	out(r, 0x43, (uint8_t)(channel << 6 | 0x30 | mode << 1));
	out(r, (uint16_t)(0x40 + channel), (uint8_t)count);
	out(r, (uint16_t)(0x40 + channel), (uint8_t)(count >> 8));
}

static unsigned latched(struct rig *r, unsigned channel)
{
	out(r, 0x43, (uint8_t)(channel << 6));
	const unsigned low = in(r, (uint16_t)(0x40 + channel), 1);
	return low | in(r, (uint16_t)(0x40 + channel), 1) << 8;
}

static uint8_t status(struct rig *r, unsigned channel)
{
	out(r, 0x43, (uint8_t)(0xe0 | 2 << channel));
	return (uint8_t)in(r, (uint16_t)(0x40 + channel), 1);
}

/* Lets time pass as the event loop would: each time-out is served, late by `late` nanoseconds. */
static void pass(struct rig *r, uint64_t ns, uint64_t late)
{
	const uint64_t end = now + ns;

	while (r->armed <= end) {
		if (r->armed + late > now)
			now = r->armed + late;
		r->armed = PIT_NEVER;
		pit_fire(&r->pit);
	}
	if (now < end)
		now = end;
}

static void a_rate_generator_raises_the_line_once_in_each_period(void **state)
{
	struct rig *r = *state;

	program(r, 0, 2, 11932); /* 100 Hz */
	pass(r, 1005000000, 0);
	assert_int_equal(r->edges, 100);
	/* And stops when the mode is set anew without a count. */
	out(r, 0x43, 0x30);
	pass(r, 1000000000, 0);
	assert_int_equal(r->edges, 100);
	assert_true(r->armed == PIT_NEVER);
}

static void a_one_shot_raises_it_once(void **state)
{
	struct rig *r = *state;

	program(r, 0, 0, 0); /* 65536 */
	pass(r, TICKS(65535), 0);
	assert_int_equal(r->edges, 0);
	assert_int_equal(status(r, 0), 0x30);
	pass(r, TICKS(2), 0);
	assert_int_equal(r->edges, 1);
	assert_int_equal(status(r, 0), 0xb0);
	pass(r, 2000000000, 0);
	assert_int_equal(r->edges, 1);
	program(r, 0, 4, 1000);
	pass(r, 2000000000, 0);
	assert_int_equal(r->edges, 2);
}

static void late_ticks_are_made_up_for_within_a_limit(void **state)
{
	struct rig *r = *state;

	program(r, 0, 2, 11932);
	/* The host slept through nine periods. */
	now += TICKS(11932 * 9 + 100);
	pass(r, 5000000, 0);
	assert_int_equal(r->edges, 9);
	now += TICKS(11932 * 1000);
	pass(r, PIT_MIN_NS * (PIT_OWED_MAX + 2), 0);
	assert_in_range(r->edges, 9 + PIT_OWED_MAX, 9 + PIT_OWED_MAX + 2);
}

static void no_rate_makes_more_interrupts_than_the_limit(void **state)
{
	struct rig *r = *state;

	for (unsigned mode = 2; mode <= 3; mode++) {
		r->edges = 0;
		program(r, 0, mode, 1);
		pass(r, 100000000, 0);
		assert_in_range(r->edges, 100, 100000000 / PIT_MIN_NS + 1);
	}
	/* Nor does programming it again and again. */
	r->edges = 0;
	for (unsigned i = 0; i < 10000; i++) {
		program(r, 0, 0, 1);
		pass(r, 1000, 0);
	}
	assert_in_range(r->edges, 1, 10000000 / PIT_MIN_NS + 1);
}

static void counts_go_down_and_can_be_latched(void **state)
{
	struct rig *r = *state;

	program(r, 1, 2, 1000);
	assert_int_equal(latched(r, 1), 1000);
	now += TICKS(1);
	assert_int_equal(latched(r, 1), 999);
	now += TICKS(999) + 1;
	assert_int_equal(latched(r, 1), 1000);
	/* A latched count stays, whatever happens, until both its bytes were read; a second latch is ignored. */
	out(r, 0x43, 0x40);
	now += TICKS(10);
	out(r, 0x43, 0x40);
	assert_int_equal(in(r, 0x41, 1), 1000 & 255);
	assert_int_equal(in(r, 0x41, 1), 1000 >> 8);
	assert_int_equal(in(r, 0x41, 1), 990 & 255);
	assert_int_equal(in(r, 0x41, 1), 990 >> 8);
	/* A square wave counts by two. */
	program(r, 1, 3, 1000);
	now += TICKS(100);
	assert_int_equal(latched(r, 1), 800);
	/* A terminal count goes on below zero. */
	program(r, 1, 0, 10);
	now += TICKS(12);
	assert_int_equal(latched(r, 1), 65534);
}

static void one_byte_accesses_and_bcd(void **state)
{
	struct rig *r = *state;

	out(r, 0x43, 0x54); /* channel 1, low byte only, mode 2 */
	out(r, 0x41, 200);
	now += TICKS(50);
	assert_int_equal(in(r, 0x41, 1), 150);
	out(r, 0x43, 0x64); /* high byte only */
	out(r, 0x41, 2);
	now += TICKS(256);
	assert_int_equal(in(r, 0x41, 1), 1);
	out(r, 0x43, 0x75); /* both, mode 2, BCD */
	out(r, 0x41, 0x00);
	out(r, 0x41, 0x00); /* 10000 */
	now += TICKS(1);
	assert_int_equal(in(r, 0x41, 1), 0x99);
	assert_int_equal(in(r, 0x41, 1), 0x99);
}

static void status_tells_mode_output_and_whether_a_count_is_there(void **state)
{
	struct rig *r = *state;

	out(r, 0x43, 0x74);
	assert_int_equal(status(r, 1), 0xf4); /* output high, no count yet, both bytes, mode 2 */
	out(r, 0x41, 4);
	out(r, 0x41, 0);
	assert_int_equal(status(r, 1), 0xb4);
	now += TICKS(3);
	assert_int_equal(status(r, 1), 0x34); /* low for the last tick */
	/* Modes 6 and 7 are 2 and 3. */
	out(r, 0x43, 0x7e);
	assert_int_equal(status(r, 1) & 0xe, 6);
}

static void the_gate_of_channel_two_stops_starts_and_triggers(void **state)
{
	struct rig *r = *state;

	/* As calibration loops do: count down from a gate that rises, watch the output. */
	out(r, 0x61, 0);
	program(r, 2, 0, 11932);
	now += TICKS(100);
	assert_int_equal(latched(r, 2), 11932);
	out(r, 0x61, 1);
	assert_int_equal(in(r, 0x61, 1) & 0x23, 1);
	now += TICKS(1000);
	assert_int_equal(latched(r, 2), 10932);
	out(r, 0x61, 0);
	now += TICKS(5000);
	assert_int_equal(latched(r, 2), 10932);
	out(r, 0x61, 3);
	now += TICKS(10931);
	assert_int_equal(in(r, 0x61, 1) & 0x20, 0);
	now += TICKS(1);
	assert_int_equal(in(r, 0x61, 1) & 0x23, 0x23);
	/* A one-shot waits for its trigger, and begins again with the next. */
	out(r, 0x61, 0);
	program(r, 2, 1, 100);
	assert_int_equal(in(r, 0x61, 1) & 0x20, 0x20);
	out(r, 0x61, 1);
	now += TICKS(99);
	assert_int_equal(in(r, 0x61, 1) & 0x20, 0);
	out(r, 0x61, 0);
	out(r, 0x61, 1);
	now += TICKS(99);
	assert_int_equal(in(r, 0x61, 1) & 0x20, 0);
	now += TICKS(1) + 1;
	assert_int_equal(in(r, 0x61, 1) & 0x20, 0x20);
	/* The refresh bit toggles. */
	assert_int_equal((in(r, 0x61, 1) ^ in(r, 0x61, 1)) & 0x10, 0x10);
}

static void random_programs_never_break_it(void **state)
{
	struct rig *r = *state;
	uint32_t x = 12345;

	for (unsigned i = 0; i < 200000; i++) {
		x = x * 1664525 + 1013904223;
		const uint16_t port = x >> 28 == 0 ? 0x61 : (uint16_t)(0x40 + (x >> 26 & 3));
		const unsigned size = x >> 25 & 7 ? 1 : 1u << (x >> 23 & 3) % 3;
		if (x >> 22 & 1)
			bus_write(&r->bus, BUS_PORT, port, size, x >> 8 & 0xffff);
		else
			in(r, port, size);
		if (!(x >> 16 & 15))
			pass(r, x & 0xffff, x & 0xff);
		else
			now += x & 0x3ff;
	}
}

static void the_power_management_timer_counts_in_32_bits(void **state)
{
	struct rig *r = *state;

	assert_int_equal(in(r, 0x608, 4), 0);
	now += 1000000000;
	assert_int_equal(in(r, 0x608, 4), PMTIMER_HZ);
	assert_int_equal(in(r, 0x60a, 2), PMTIMER_HZ >> 16);
	bus_write(&r->bus, BUS_PORT, 0x608, 4, 0);
	assert_int_equal(in(r, 0x608, 4), PMTIMER_HZ);
	now = START_NS + (1ull << 32) * 1000000000 / PMTIMER_HZ + 1000;
	assert_in_range(in(r, 0x608, 4), 0, 10);
	now = START_NS + 100ull * 365 * 86400 * 1000000000; /* a century later */
	assert_int_equal(in(r, 0x608, 4), (uint32_t)(100ull * 365 * 86400 * PMTIMER_HZ));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_rate_generator_raises_the_line_once_in_each_period),
		T(a_one_shot_raises_it_once),
		T(late_ticks_are_made_up_for_within_a_limit),
		T(no_rate_makes_more_interrupts_than_the_limit),
		T(counts_go_down_and_can_be_latched),
		T(one_byte_accesses_and_bcd),
		T(status_tells_mode_output_and_whether_a_count_is_there),
		T(the_gate_of_channel_two_stops_starts_and_triggers),
		T(random_programs_never_break_it),
		T(the_power_management_timer_counts_in_32_bits),
	};
	return cmocka_run_group_tests(tests, 0, 0);
}
