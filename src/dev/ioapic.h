/*
 * ioapic.h - an IO-APIC with 24 pins. Source: the 82093AA data sheet, "IOAPIC Registers"; version 20h with the EOI register
 * as in Intel's chipset data sheets ("APIC Memory-Mapped Register: EOI").
 *
 * Pins may be set by any holder of the device lock. Messages go to the local APICs through the sink. A level-triggered
 * entry waits, with remote IRR set, until ioapic_eoi names its vector, and fires again if the pin is still high.
 */
#ifndef DEV_IOAPIC_H
#define DEV_IOAPIC_H

#include "base/stats.h"
#include "mem/bus.h"

#define IOAPIC_PINS 24u
#define IOAPIC_BASE 0xfec00000u

struct ioapic_counters { uint64_t messages, eois; };
struct ioapic {
	struct irq_sink sink;
	uint8_t id, select;
	uint32_t level;			/* pin levels */
	uint64_t entry[IOAPIC_PINS];
	struct ioapic_counters counters;
};

int ioapic_init(struct ioapic *a, struct bus *bus, uint8_t id, const struct irq_sink *sink); /* 0 or -errno */
void ioapic_set_pin(void *ioapic, unsigned pin, bool level);	/* fits struct irq_line */
void ioapic_eoi(struct ioapic *a, uint8_t vector);
bool ioapic_all_masked(const struct ioapic *a);

extern const struct stat_row ioapic_stat_rows[];
extern const size_t ioapic_stat_row_count;

#endif
