/*
 * pmtimer.c - the power management timer. Narrower reads give the bytes that they name.
 */
#include "dev/pmtimer.h"

static uint64_t pmtimer_read(void *dev, uint64_t offset, unsigned size)
{
	const struct pmtimer *t = dev;
	const unsigned __int128 ticks = (unsigned __int128)(t->now_ns() - t->start_ns) * PMTIMER_HZ / 1000000000u;

	(void)size;
	return (uint32_t)ticks >> offset * 8;
}

int pmtimer_init(struct pmtimer *t, struct bus *bus, uint64_t (*now_ns)(void))
{
	const struct bus_range range = { .base = PMTIMER_PORT, .len = 4, .read = pmtimer_read, .dev = t, .name = "pm timer" };

	*t = (struct pmtimer){ .now_ns = now_ns, .start_ns = now_ns() };
	return bus_claim(bus, BUS_PORT, &range);
}
