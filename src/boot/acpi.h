/*
 * acpi.h - the firmware tables: RSDP, XSDT, FADT, MADT, DSDT, and FACS. They describe the machine in one of two ways: as hardware-reduced, or with the fixed hardware and
 * the legacy interrupts that it has as well. The first spares Linux what it does not need; the second is for systems that know no other machine, such as Xen (whose domain 0
 * on a hardware-reduced machine would have no timer: Linux then takes away the one that Xen support had put in).
 * Source: ACPI Specification 6.4, "ACPI Software Programming Model".
 */
#ifndef BOOT_ACPI_H
#define BOOT_ACPI_H

#include "base/base.h"

#define ACPI_VIRTIO_MAX 8

/* What the tables describe; vm/ fills it from the devices it made. */
struct acpi_config {
	unsigned cpus;			/* APIC ids 0 .. cpus-1 */
	uint32_t lapic_base, ioapic_base;
	uint8_t ioapic_id;
	uint16_t sleep_control, sleep_status;	/* ports */
	uint16_t reset_port;
	uint8_t reset_value;
	uint8_t s5_type;		/* SLP_TYP for power-off */
	uint16_t uart_port;		/* 0: none */
	uint8_t uart_gsi;
	uint16_t rtc_port;		/* 0: none */
	/* Not described on hardware-reduced machines: PM1a event and control block, PM timer; where ISA interrupt 0 goes; the SCI, level-triggered. */
	uint16_t pm1_event, pm1_control, pm_timer;
	uint8_t pit_gsi, sci_gsi;
	unsigned virtio;		/* memory-mapped virtio devices */
	struct { uint32_t base, len; uint8_t gsi; } virtio_at[ACPI_VIRTIO_MAX];	/* GSIs are level-triggered */
};

/*
 * Builds all tables into buf for guest-physical address base (64-aligned); the RSDP is at base itself.
 * Returns the bytes used, 0 if they do not fit.
 */
size_t acpi_build(const struct acpi_config *config, bool reduced, uint32_t base, uint8_t *buf, size_t size);

#endif
