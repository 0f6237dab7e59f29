/*
 * power.h - the ports by which a guest ends the run: ACPI sleep control, PM1 blocks and reset, the legacy resets that Linux falls back to
 * (keyboard controller, CF9h), and the debug-exit port.
 *
 * The device only reports; what an event means is for vm/ to decide. event is called under the device lock and
 * must not block.
 */
#ifndef DEV_POWER_H
#define DEV_POWER_H

#include "mem/bus.h"

/* ACPI Specification, "Sleep Control and Status Registers". */
#define POWER_SLEEP_CONTROL 0x600u
#define POWER_SLEEP_STATUS 0x601u
#define POWER_ACPI_RESET 0x602u
#define POWER_ACPI_RESET_VALUE 1u
#define POWER_S5_TYPE 5u
/* "PM1 Event Grouping", "PM1 Control Registers": the same for systems that know fixed hardware only. No event ever comes, ACPI is always on. */
#define POWER_PM1_EVENT 0x610u		/* status, enable: 2 bytes each */
#define POWER_PM1_CONTROL 0x614u
#define POWER_DEBUG_EXIT 0xf4u

enum power_event {
	POWER_OFF,
	POWER_RESET,
	POWER_DEBUG,	/* value: the byte written */
};
struct power {
	void (*event)(void *opaque, enum power_event event, uint8_t value);
	void *opaque;
	uint16_t pm1_enable, pm1_control;	/* as written, but for what is a command */
};

/* debug_exit: whether port F4h exists. 0 or -errno. */
int power_init(struct power *p, struct bus *bus, bool debug_exit,
	       void (*event)(void *, enum power_event, uint8_t), void *opaque);

#endif
