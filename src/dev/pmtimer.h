/*
 * pmtimer.h - the ACPI power management timer: a counter of 32 bits at one port, 3.579545 MHz, that never stops and cannot be written.
 * Its carry is not reported: the PM1 event
 * registers (dev/power.h) have no events.
 * Source: ACPI Specification 6.4, "Power Management Timer".
 */
#ifndef DEV_PMTIMER_H
#define DEV_PMTIMER_H

#include "mem/bus.h"

#define PMTIMER_PORT 0x608u
#define PMTIMER_HZ 3579545u

struct pmtimer {
	uint64_t (*now_ns)(void);	/* monotonic */
	uint64_t start_ns;
};

int pmtimer_init(struct pmtimer *t, struct bus *bus, uint64_t (*now_ns)(void)); /* 0 or -errno */

#endif
