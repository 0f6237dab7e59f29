/*
 * acpi.c - builds the tables. One struct of growing bytes holds them all; tables are 16-aligned and in the order
 * RSDP, DSDT, FACS, FADT, MADT, XSDT (what points comes after what it points to).
 */
#include "boot/acpi.h"

#include <string.h>

#include "boot/aml.h"

enum { RSDP_SIZE = 36, FADT_SIZE = 276, FACS_SIZE = 64, HEADER_SIZE = 36 };

/* "IA-PC Boot Architecture Flags" */
#define BOOT_ARCH_VGA_NOT_PRESENT (1u << 2)
#define BOOT_ARCH_NO_CMOS_RTC (1u << 5)
/* "Fixed ACPI Description Table Fixed Feature Flags" */
#define FADT_WBINVD (1u << 0)
#define FADT_PWR_BUTTON (1u << 4)	/* no fixed power button */
#define FADT_SLP_BUTTON (1u << 5)
#define FADT_TMR_VAL_EXT (1u << 8)	/* 32 bits */
#define FADT_RESET_REG_SUP (1u << 10)
#define FADT_HW_REDUCED (1u << 20)
/* "MPS INTI Flags" */
#define OVERRIDE_AS_BUS 0
#define OVERRIDE_HIGH_LEVEL 0xd

static uint8_t acpi_sum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *p++);
	return sum;
}

static size_t acpi_begin(struct aml *a, const char *signature, uint8_t revision)
{
	static const uint8_t pad[16];

	aml_bytes(a, pad, (16 - a->len % 16) % 16);
	const size_t at = a->len;
	aml_bytes(a, signature, 4);
	aml_u32(a, 0);			/* length */
	aml_u8(a, revision);
	aml_u8(a, 0);			/* checksum */
	aml_bytes(a, "TRIFLDTRIFOLD ", 14);
	aml_u32(a, 1);
	aml_bytes(a, "TRIF", 4);
	aml_u32(a, 1);
	return at;
}

static void acpi_end(struct aml *a, size_t at)
{
	if (a->full)
		return;
	store_u32(a->buf + at + 4, (uint32_t)(a->len - at));
	a->buf[at + 9] = (uint8_t)-acpi_sum(a->buf + at, a->len - at);
}

/* "Generic Address Structure": one byte in I/O space. */
static void acpi_put_port(uint8_t *gas, uint16_t port)
{
	gas[0] = 1;
	gas[1] = 8;
	gas[3] = 1;
	store_u64(gas + 4, port);
}

static size_t acpi_dsdt(struct aml *a, const struct acpi_config *c)
{
	const size_t at = acpi_begin(a, "DSDT", 2);

	aml_name(a, "_S5_");
	const size_t s5 = aml_package(a, 4);
	aml_integer(a, c->s5_type);
	for (int i = 0; i < 3; i++)
		aml_integer(a, 0);
	aml_close(a, s5);

	const size_t scope = aml_scope(a, "\\_SB_");
	if (c->uart_port) {
		const size_t dev = aml_device(a, "COM1");
		aml_name(a, "_HID");
		aml_eisa_id(a, "PNP0501");
		aml_name(a, "_UID");
		aml_integer(a, 0);
		const struct aml_resources crs = aml_crs(a);
		aml_crs_io(a, c->uart_port, 8);
		aml_crs_interrupt(a, c->uart_gsi, true);
		aml_crs_close(a, crs);
		aml_close(a, dev);
	}
	if (c->rtc_port) {
		const size_t dev = aml_device(a, "RTC_");
		aml_name(a, "_HID");
		aml_eisa_id(a, "PNP0B00");
		const struct aml_resources crs = aml_crs(a);
		aml_crs_io(a, c->rtc_port, 2);
		aml_crs_close(a, crs);
		aml_close(a, dev);
	}
	for (unsigned i = 0; i < c->virtio; i++) {
		const char name[] = { 'V', 'I', 'O', (char)('0' + i), 0 };
		const size_t dev = aml_device(a, name);
		aml_name(a, "_HID");
		aml_string(a, "LNRO0005");	/* what Linux's virtio-mmio driver goes by */
		aml_name(a, "_UID");
		aml_integer(a, i);
		const struct aml_resources crs = aml_crs(a);
		aml_crs_memory(a, c->virtio_at[i].base, c->virtio_at[i].len);
		aml_crs_interrupt(a, c->virtio_at[i].gsi, false);
		aml_crs_close(a, crs);
		aml_close(a, dev);
	}
	aml_close(a, scope);
	acpi_end(a, at);
	return at;
}

/* "Firmware ACPI Control Structure": 64 bytes, 64-aligned, no sum. */
static size_t acpi_facs(struct aml *a)
{
	static const uint8_t pad[FACS_SIZE];
	uint8_t facs[FACS_SIZE] = "FACS";

	facs[4] = FACS_SIZE;
	facs[32] = 2;
	aml_bytes(a, pad, (FACS_SIZE - a->len % FACS_SIZE) % FACS_SIZE);
	const size_t at = a->len;
	aml_bytes(a, facs, sizeof(facs));
	return at;
}

/* A register block: by its old field and length, and by the extended one. */
static void acpi_put_block(uint8_t *body, unsigned old, unsigned len_at, unsigned extended, uint16_t port, uint8_t len)
{
	store_u32(body + old, port);
	body[len_at] = len;
	acpi_put_port(body + extended, port);
	body[extended + 1] = (uint8_t)(len * 8);
	body[extended + 3] = 0;		/* of any size that the registers have */
}

static size_t acpi_fadt(struct aml *a, const struct acpi_config *c, bool reduced, uint64_t dsdt, uint32_t facs)
{
	const size_t at = acpi_begin(a, "FACP", 6);
	uint8_t body[FADT_SIZE] = { 0 };
	uint32_t flags = FADT_WBINVD | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_RESET_REG_SUP;

	store_u32(body + 40, (uint32_t)dsdt);
	body[45] = 4;			/* preferred profile: enterprise server */
	store_u16(body + 109, (uint16_t)(BOOT_ARCH_VGA_NOT_PRESENT | (c->rtc_port ? 0 : BOOT_ARCH_NO_CMOS_RTC)));
	acpi_put_port(body + 116, c->reset_port);
	body[128] = c->reset_value;
	store_u64(body + 140, dsdt);
	if (reduced) {
		flags |= FADT_HW_REDUCED;
		acpi_put_port(body + 244, c->sleep_control);
		acpi_put_port(body + 256, c->sleep_status);
	} else {
		flags |= FADT_TMR_VAL_EXT;
		store_u32(body + 36, facs);
		store_u16(body + 46, c->sci_gsi);
		acpi_put_block(body, 56, 88, 148, c->pm1_event, 4);
		acpi_put_block(body, 64, 89, 172, c->pm1_control, 2);
		acpi_put_block(body, 76, 91, 208, c->pm_timer, 4);
		store_u16(body + 96, 0xffff);	/* latencies: no C2, no C3 */
		store_u16(body + 98, 0xffff);
	}
	store_u32(body + 112, flags);
	memcpy(body + 268, "Trifold", 7);
	aml_bytes(a, body + HEADER_SIZE, sizeof(body) - HEADER_SIZE);
	acpi_end(a, at);
	return at;
}

/* "Interrupt Source Override Structure" */
static void acpi_override(struct aml *a, uint8_t isa, uint8_t gsi, uint8_t flags)
{
	const uint8_t entry[] = { 2, 10, 0, isa, gsi, 0, 0, 0, flags, 0 };

	aml_bytes(a, entry, sizeof(entry));
}

static size_t acpi_madt(struct aml *a, const struct acpi_config *c, bool reduced)
{
	const size_t at = acpi_begin(a, "APIC", 5);

	aml_u32(a, c->lapic_base);
	aml_u32(a, 0);			/* no dual 8259 */
	for (unsigned id = 0; id < c->cpus; id++) {
		if (id < 255) {		/* "Processor Local APIC Structure" */
			const uint8_t lapic[] = { 0, 8, (uint8_t)id, (uint8_t)id };
			aml_bytes(a, lapic, sizeof(lapic));
			aml_u32(a, 1);
		} else {		/* "Processor Local x2APIC Structure" */
			const uint8_t x2apic[] = { 9, 16, 0, 0 };
			aml_bytes(a, x2apic, sizeof(x2apic));
			aml_u32(a, id);
			aml_u32(a, 1);
			aml_u32(a, id);
		}
	}
	const uint8_t ioapic[] = { 1, 12, c->ioapic_id, 0 };
	aml_bytes(a, ioapic, sizeof(ioapic));
	aml_u32(a, c->ioapic_base);
	aml_u32(a, 0);			/* first GSI */
	if (!reduced) {
		acpi_override(a, 0, c->pit_gsi, OVERRIDE_AS_BUS);
		acpi_override(a, c->sci_gsi, c->sci_gsi, OVERRIDE_HIGH_LEVEL);
	}
	const uint8_t lint1_is_nmi[] = { 4, 6, 0xff, 0, 0, 1 };
	aml_bytes(a, lint1_is_nmi, sizeof(lint1_is_nmi));
	acpi_end(a, at);
	return at;
}

size_t acpi_build(const struct acpi_config *config, bool reduced, uint32_t base, uint8_t *buf, size_t size)
{
	struct aml a = { .buf = buf, .size = size };
	uint8_t rsdp[RSDP_SIZE] = "RSD PTR ";

	ASSERT(base % 64 == 0);
	aml_bytes(&a, rsdp, sizeof(rsdp));	/* filled in at the end */
	const size_t dsdt = acpi_dsdt(&a, config);
	const size_t facs = reduced ? 0 : acpi_facs(&a);
	const size_t fadt = acpi_fadt(&a, config, reduced, base + dsdt, (uint32_t)(base + facs));
	const size_t madt = acpi_madt(&a, config, reduced);
	const size_t xsdt = acpi_begin(&a, "XSDT", 1);
	aml_u64(&a, base + fadt);
	aml_u64(&a, base + madt);
	acpi_end(&a, xsdt);

	memcpy(rsdp + 9, "TRIFLD", 6);
	rsdp[15] = 2;
	store_u32(rsdp + 20, RSDP_SIZE);
	store_u64(rsdp + 24, base + xsdt);
	rsdp[8] = (uint8_t)-acpi_sum(rsdp, 20);
	rsdp[32] = (uint8_t)-acpi_sum(rsdp, RSDP_SIZE);
	if (a.full)
		return 0;
	memcpy(buf, rsdp, sizeof(rsdp));
	return a.len;
}
