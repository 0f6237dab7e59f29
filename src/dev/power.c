/*
 * power.c - power ports, as rows.
 */
#include "dev/power.h"

enum { SLEEP_ENABLE = 1 << 5, SLEEP_TYPE_SHIFT = 2, SLEEP_TYPE_MASK = 7, CF9_RESET = 1 << 2, I8042_PULSE_RESET = 0xfe };

static uint64_t power_read_zero(void *dev, uint64_t offset, unsigned size)
{
	(void)dev;
	(void)offset;
	(void)size;
	return 0;
}

static uint64_t power_read_ones(void *dev, uint64_t offset, unsigned size)
{
	(void)dev;
	(void)offset;
	(void)size;
	return ~0ull;
}

static void power_write_acpi(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
	struct power *p = dev;

	(void)size;
	switch (offset + POWER_SLEEP_CONTROL) {
	case POWER_SLEEP_CONTROL:
		if ((value & SLEEP_ENABLE) && (value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK) == POWER_S5_TYPE)
			p->event(p->opaque, POWER_OFF, 0);
		break;
	case POWER_ACPI_RESET:
		if ((uint8_t)value == POWER_ACPI_RESET_VALUE)
			p->event(p->opaque, POWER_RESET, 0);
		break;
	}
}

static void power_write_i8042(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
	struct power *p = dev;

	(void)offset;
	(void)size;
	if ((uint8_t)value == I8042_PULSE_RESET)
		p->event(p->opaque, POWER_RESET, 0);
}

static void power_write_cf9(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
	struct power *p = dev;

	(void)offset;
	if (size == 1 && (value & CF9_RESET))
		p->event(p->opaque, POWER_RESET, 0);
}

static void power_write_debug(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
	struct power *p = dev;

	(void)size;
	if (!offset)
		p->event(p->opaque, POWER_DEBUG, (uint8_t)value);
}

static const struct bus_range power_ranges[] = {
	{ .base = POWER_SLEEP_CONTROL, .len = 3, .read = power_read_zero, .write = power_write_acpi, .name = "acpi" },
	{ .base = 0x64, .len = 1, .read = power_read_ones, .write = power_write_i8042, .name = "i8042 reset" },
	{ .base = 0xcf9, .len = 1, .read = power_read_ones, .write = power_write_cf9, .name = "reset control" },
	{ .base = POWER_DEBUG_EXIT, .len = 4, .read = power_read_ones, .write = power_write_debug, .name = "debug exit" },
};

int power_init(struct power *p, struct bus *bus, bool debug_exit,
	       void (*event)(void *, enum power_event, uint8_t), void *opaque)
{
	*p = (struct power){ event, opaque };
	for (size_t i = 0; i < ARRAY_LEN(power_ranges); i++) {
		struct bus_range range = power_ranges[i];
		if (range.base == POWER_DEBUG_EXIT && !debug_exit)
			continue;
		range.dev = p;
		const int err = bus_claim(bus, BUS_PORT, &range);
		if (err)
			return err;
	}
	return 0;
}
