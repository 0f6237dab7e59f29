/*
 * power.c - power ports, as rows.
 */
#include "dev/power.h"

enum { PM1_LEN = 6, PM1_SCI_EN = 1, PM1_SLP_TYP_SHIFT = 10, PM1_SLP_EN = 1 << 13 };
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

/* The registers are 16 bits wide and take accesses of one and two bytes. */
static uint64_t power_read_pm1(void *dev, uint64_t offset, unsigned size)
{
	const struct power *p = dev;
	const uint64_t all = (uint64_t)p->pm1_enable << 16 | (uint64_t)(p->pm1_control | PM1_SCI_EN) << 32;

	(void)size;
	return all >> offset * 8;
}

static void power_write_pm1(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
	struct power *p = dev;

	for (unsigned i = 0; i < size && offset + i < PM1_LEN; i++) {
		const unsigned at = (unsigned)offset + i, shift = at % 2 * 8;
		uint16_t *to = at >= 4 ? &p->pm1_control : at >= 2 ? &p->pm1_enable : 0;

		if (to)		/* status: ones clear what is not set */
			*to = (uint16_t)((*to & ~(0xffu << shift)) | (value >> 8 * i & 0xff) << shift);
	}
	const uint16_t control = p->pm1_control;
	p->pm1_control &= (uint16_t)~PM1_SLP_EN;
	if ((control & PM1_SLP_EN) && (control >> PM1_SLP_TYP_SHIFT & SLEEP_TYPE_MASK) == POWER_S5_TYPE)
		p->event(p->opaque, POWER_OFF, 0);
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
	{ .base = POWER_PM1_EVENT, .len = PM1_LEN, .read = power_read_pm1, .write = power_write_pm1, .name = "acpi pm1" },
	{ .base = 0x64, .len = 1, .read = power_read_ones, .write = power_write_i8042, .name = "i8042 reset" },
	{ .base = 0xcf9, .len = 1, .read = power_read_ones, .write = power_write_cf9, .name = "reset control" },
	{ .base = POWER_DEBUG_EXIT, .len = 4, .read = power_read_ones, .write = power_write_debug, .name = "debug exit" },
};

int power_init(struct power *p, struct bus *bus, bool debug_exit,
	       void (*event)(void *, enum power_event, uint8_t), void *opaque)
{
	*p = (struct power){ .event = event, .opaque = opaque };
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
