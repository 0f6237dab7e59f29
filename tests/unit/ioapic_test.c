/*
 * ioapic_test.c - the IO-APIC through its registers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <pthread.h>

#include "dev/ioapic.h"

struct rig {
	struct bus bus;
	struct ioapic ioapic;
	unsigned messages;
	struct irq_message last;
};

static void rig_send(void *opaque, const struct irq_message *msg)
{
	struct rig *r = opaque;
	r->messages++;
	r->last = *msg;
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	const struct irq_sink sink = { rig_send, r };
	bus_init(&r->bus);
	*state = r;
	return ioapic_init(&r->ioapic, &r->bus, 0, &sink);
}

static int teardown(void **state)
{
	struct rig *r = *state;
	bus_destroy(&r->bus);
	free(r);
	return 0;
}

static void put(struct rig *r, unsigned reg, uint32_t v)
{
	bus_write(&r->bus, BUS_MMIO, IOAPIC_BASE, 4, reg);
	bus_write(&r->bus, BUS_MMIO, IOAPIC_BASE + 0x10, 4, v);
}
static uint32_t get(struct rig *r, unsigned reg)
{
	bus_write(&r->bus, BUS_MMIO, IOAPIC_BASE, 4, reg);
	return (uint32_t)bus_read(&r->bus, BUS_MMIO, IOAPIC_BASE + 0x10, 4);
}
static void entry(struct rig *r, unsigned pin, uint64_t v)
{
	put(r, 0x11 + 2 * pin, (uint32_t)(v >> 32));
	put(r, 0x10 + 2 * pin, (uint32_t)v);
}

#define LEVEL (1u << 15)
#define MASKED (1u << 16)
#define REMOTE_IRR (1u << 14)

static void after_reset_it_has_24_masked_pins(void **state)
{
	struct rig *r = *state;
	assert_int_equal(get(r, 1), 0x00170020);
	for (unsigned pin = 0; pin < 24; pin++)
		assert_int_equal(get(r, 0x10 + 2 * pin), MASKED);
	assert_int_equal(get(r, 0x10 + 48), 0);
	assert_true(ioapic_all_masked(&r->ioapic));
	put(r, 0xff, 0xffffffff);
	ioapic_set_pin(&r->ioapic, 4, true);
	assert_int_equal(r->messages, 0);
}

static void an_edge_sends_one_message_with_the_entrys_fields(void **state)
{
	struct rig *r = *state;
	entry(r, 4, 0x0300000000000931); /* lowest priority, logical, dest 3 */
	ioapic_set_pin(&r->ioapic, 4, true);
	ioapic_set_pin(&r->ioapic, 4, true);
	assert_int_equal(r->messages, 1);
	assert_int_equal(r->last.vector, 0x31);
	assert_int_equal(r->last.delivery_mode, 1);
	assert_int_equal(r->last.dest_logical, 1);
	assert_int_equal(r->last.dest, 3);
	assert_false(r->last.level);
	ioapic_set_pin(&r->ioapic, 4, false);
	ioapic_set_pin(&r->ioapic, 4, true);
	assert_int_equal(r->messages, 2);
	assert_false(ioapic_all_masked(&r->ioapic));
}

static void an_edge_while_masked_is_lost(void **state)
{
	struct rig *r = *state;
	entry(r, 4, 0x10031);
	ioapic_set_pin(&r->ioapic, 4, true);
	entry(r, 4, 0x00031);
	assert_int_equal(r->messages, 0);
}

static void a_level_pin_fires_again_after_eoi_while_it_is_high(void **state)
{
	struct rig *r = *state;
	entry(r, 9, LEVEL | 0x41);
	ioapic_set_pin(&r->ioapic, 9, true);
	assert_int_equal(r->messages, 1);
	assert_true(r->last.level);
	assert_int_equal(get(r, 0x10 + 18) & REMOTE_IRR, REMOTE_IRR);
	ioapic_set_pin(&r->ioapic, 9, false);
	ioapic_set_pin(&r->ioapic, 9, true);
	assert_int_equal(r->messages, 1);
	ioapic_eoi(&r->ioapic, 0x40);
	assert_int_equal(r->messages, 1);
	ioapic_eoi(&r->ioapic, 0x41);
	assert_int_equal(r->messages, 2);
	ioapic_set_pin(&r->ioapic, 9, false);
	bus_write(&r->bus, BUS_MMIO, IOAPIC_BASE + 0x40, 4, 0x41); /* the EOI register does the same */
	assert_int_equal(r->messages, 2);
	assert_int_equal(get(r, 0x10 + 18) & REMOTE_IRR, 0);
}

static void unmasking_a_high_level_pin_fires_it(void **state)
{
	struct rig *r = *state;
	entry(r, 9, MASKED | LEVEL | 0x41);
	ioapic_set_pin(&r->ioapic, 9, true);
	assert_int_equal(r->messages, 0);
	entry(r, 9, LEVEL | 0x41);
	assert_int_equal(r->messages, 1);
}

static void writing_cannot_set_read_only_bits_and_edge_mode_clears_remote_irr(void **state)
{
	struct rig *r = *state;
	entry(r, 9, MASKED | LEVEL | REMOTE_IRR | 1u << 12 | 0x41);
	assert_int_equal(get(r, 0x10 + 18), MASKED | LEVEL | 0x41);
	entry(r, 9, LEVEL | 0x41);
	ioapic_set_pin(&r->ioapic, 9, true);
	entry(r, 9, MASKED | 0x41);
	assert_int_equal(get(r, 0x10 + 18), MASKED | 0x41);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(after_reset_it_has_24_masked_pins),
		T(an_edge_sends_one_message_with_the_entrys_fields),
		T(an_edge_while_masked_is_lost),
		T(a_level_pin_fires_again_after_eoi_while_it_is_high),
		T(unmasking_a_high_level_pin_fires_it),
		T(writing_cannot_set_read_only_bits_and_edge_mode_clears_remote_irr),
	};
	return cmocka_run_group_tests(tests, 0, 0);
}
