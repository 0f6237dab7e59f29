/*
 * acpi.h - the firmware tables of a hardware-reduced ACPI machine: RSDP, XSDT, FADT, MADT, DSDT.
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
	unsigned virtio;		/* memory-mapped virtio devices */
	struct { uint32_t base, len; uint8_t gsi; } virtio_at[ACPI_VIRTIO_MAX];	/* GSIs are level-triggered */
};

/*
 * Builds all tables into buf for guest-physical address base (16-aligned); the RSDP is at base itself.
 * Returns the bytes used, 0 if they do not fit.
 */
size_t acpi_build(const struct acpi_config *config, uint32_t base, uint8_t *buf, size_t size);

#endif
