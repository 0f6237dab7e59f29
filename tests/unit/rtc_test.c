/*
 * rtc_test.c - the clock in all four of its number formats, and the power ports.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <pthread.h>

#include "dev/power.h"
#include "dev/rtc.h"

/* 2024-02-29 21:07:05 UTC, a Thursday. */
static uint64_t leap_day(void) { return 1709240825ull * 1000000000u + 999999999u; }

struct rig { struct bus bus; struct rtc rtc; struct power power; enum power_event event; unsigned events, value; };

static void on_power(void *opaque, enum power_event event, uint8_t value)
{
	struct rig *r = opaque;
	r->event = event;
	r->value = value;
	r->events++;
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	bus_init(&r->bus);
	*state = r;
	return rtc_init(&r->rtc, &r->bus, leap_day) || power_init(&r->power, &r->bus, true, on_power, r);
}

static int teardown(void **state)
{
	struct rig *r = *state;
	bus_destroy(&r->bus);
	free(r);
	return 0;
}

static uint8_t get(struct rig *r, uint8_t index)
{
	bus_write(&r->bus, BUS_PORT, 0x70, 1, index);
	return (uint8_t)bus_read(&r->bus, BUS_PORT, 0x71, 1);
}
static void put(struct rig *r, uint8_t index, uint8_t v)
{
	bus_write(&r->bus, BUS_PORT, 0x70, 1, index);
	bus_write(&r->bus, BUS_PORT, 0x71, 1, v);
}
static void out(struct rig *r, uint16_t port, unsigned size, uint32_t v) { bus_write(&r->bus, BUS_PORT, port, size, v); }

static void it_shows_the_hosts_time_in_bcd(void **state)
{
	static const struct { uint8_t index, value; } want[] = {
		{ 0, 0x05 }, { 2, 0x07 }, { 4, 0x21 }, { 6, 5 }, { 7, 0x29 }, { 8, 0x02 }, { 9, 0x24 }, { 0x32, 0x20 },
	};
	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		assert_int_equal(get(*state, want[i].index), want[i].value);
	/* The NMI mask bit is not part of the index. */
	assert_int_equal(get(*state, 0x80 | 8), 0x02);
}

static void register_b_chooses_binary_and_twelve_hours(void **state)
{
	put(*state, 11, 6);
	assert_int_equal(get(*state, 4), 21);
	put(*state, 11, 4);
	assert_int_equal(get(*state, 4), 0x80 | 9);
	put(*state, 11, 0);
	assert_int_equal(get(*state, 4), 0x89);
}

static void time_is_valid_and_never_being_updated(void **state)
{
	assert_int_equal(get(*state, 10) & 0x80, 0);
	put(*state, 10, 0xff);
	assert_int_equal(get(*state, 10) & 0x80, 0);
	assert_int_equal(get(*state, 12), 0);
	assert_int_equal(get(*state, 13), 0x80);
}

static void setting_the_time_is_ignored_and_memory_is_kept(void **state)
{
	put(*state, 0, 0x33);
	put(*state, 0x40, 0x77);
	assert_int_equal(get(*state, 0), 0x05);
	assert_int_equal(get(*state, 0x40), 0x77);
}

static void only_sleep_type_five_with_enable_powers_off(void **state)
{
	struct rig *r = *state;
	out(r, 0x600, 1, 5 << 2);
	out(r, 0x600, 1, 1 << 5 | 3 << 2);
	out(r, 0x601, 1, 1 << 5 | 5 << 2);
	assert_int_equal(r->events, 0);
	out(r, 0x600, 1, 1 << 5 | 5 << 2);
	assert_int_equal(r->events, 1);
	assert_int_equal(r->event, POWER_OFF);
}

static void the_pm1_control_block_powers_off_as_well(void **state)
{
	struct rig *r = *state;
	assert_int_equal(bus_read(&r->bus, BUS_PORT, 0x614, 2), 1); /* SCI_EN */
	out(r, 0x614, 2, 5 << 10);
	assert_int_equal(bus_read(&r->bus, BUS_PORT, 0x614, 2), 5 << 10 | 1);
	out(r, 0x614, 2, 1 << 13 | 3 << 10);
	assert_int_equal(r->events, 0);
	assert_int_equal(bus_read(&r->bus, BUS_PORT, 0x614, 2), 3 << 10 | 1); /* SLP_EN reads as zero */
	/* Enables are kept, status never is; bytes and words name the same bits. */
	out(r, 0x612, 2, 0x0121);
	out(r, 0x610, 2, 0xffff);
	assert_int_equal(bus_read(&r->bus, BUS_PORT, 0x610, 4), 0x01210000);
	assert_int_equal(bus_read(&r->bus, BUS_PORT, 0x613, 1), 0x01);
	assert_int_equal(r->events, 0);
	out(r, 0x615, 1, (1 << 13 | 5 << 10) >> 8);
	assert_int_equal(r->events, 1);
	assert_int_equal(r->event, POWER_OFF);
	out(r, 0x614, 2, 1 << 13 | 5 << 10);
	assert_int_equal(r->events, 2);
}

static void each_reset_port_resets(void **state)
{
	static const struct { uint16_t port; uint8_t value; } resets[] = { { 0x602, 1 }, { 0x64, 0xfe }, { 0xcf9, 6 }, { 0xcf9, 0xe } };
	struct rig *r = *state;
	out(r, 0x602, 1, 0);
	out(r, 0x64, 1, 0xd1);
	out(r, 0xcf9, 1, 2);
	out(r, 0xcf8, 4, 0x80000000); /* PCI configuration address, which covers CF9h */
	assert_int_equal(r->events, 0);
	for (unsigned i = 0; i < ARRAY_LEN(resets); i++) {
		out(r, resets[i].port, 1, resets[i].value);
		assert_int_equal(r->events, i + 1);
		assert_int_equal(r->event, POWER_RESET);
	}
	assert_int_equal(bus_read(&r->bus, BUS_PORT, 0x64, 1), 0xff);
}

static void debug_exit_carries_its_byte_whatever_the_access_size(void **state)
{
	struct rig *r = *state;
	out(r, 0xf4, 1, 0x2a);
	assert_int_equal(r->event, POWER_DEBUG);
	assert_int_equal(r->value, 0x2a);
	out(r, 0xf4, 4, 0x11);
	assert_int_equal(r->value, 0x11);
}

static void nobody_home_reads_all_ones(void **state)
{
	struct rig *r = *state;
	assert_int_equal(bus_read(&r->bus, BUS_PORT, 0x60, 1), 0xff);
	assert_int_equal(bus_read(&r->bus, BUS_PORT, 0xcfc, 4), 0xffffffff);
	bus_write(&r->bus, BUS_PORT, 0x80, 1, 0x55);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(it_shows_the_hosts_time_in_bcd),
		T(register_b_chooses_binary_and_twelve_hours),
		T(time_is_valid_and_never_being_updated),
		T(setting_the_time_is_ignored_and_memory_is_kept),
		T(only_sleep_type_five_with_enable_powers_off),
		T(the_pm1_control_block_powers_off_as_well),
		T(each_reset_port_resets),
		T(debug_exit_carries_its_byte_whatever_the_access_size),
		T(nobody_home_reads_all_ones),
	};
	return cmocka_run_group_tests(tests, 0, 0);
}
