/*
 * ioapic.c - the IO-APIC.
 */
#include "dev/ioapic.h"

enum { MMIO_SELECT = 0x00, MMIO_WINDOW = 0x10, MMIO_EOI = 0x40, MMIO_SIZE = 0x1000 };
enum { REG_ID = 0, REG_VERSION = 1, REG_ARBITRATION = 2, REG_ENTRIES = 0x10 };
#define IOAPIC_VERSION (0x20u | (IOAPIC_PINS - 1) << 16)

/* Redirection table entry. */
#define ENTRY_VECTOR 0xffull
#define ENTRY_MODE(e) (((e) >> 8) & 7)
#define ENTRY_LOGICAL (1ull << 11)
#define ENTRY_REMOTE_IRR (1ull << 14)
#define ENTRY_LEVEL (1ull << 15)
#define ENTRY_MASKED (1ull << 16)
#define ENTRY_DEST(e) ((uint8_t)((e) >> 56))
#define ENTRY_READ_ONLY (1ull << 12 | ENTRY_REMOTE_IRR)
#define ENTRY_WRITABLE (0xff0000000001afffull)

const struct stat_row ioapic_stat_rows[] = {
	STAT_ROW(struct ioapic_counters, messages, "interrupt messages sent to local APICs"),
	STAT_ROW(struct ioapic_counters, eois, "level-triggered interrupts ended"),
};
const size_t ioapic_stat_row_count = ARRAY_LEN(ioapic_stat_rows);

static void ioapic_send(struct ioapic *a, unsigned pin)
{
	const uint64_t e = a->entry[pin];
	const struct irq_message msg = {
		.vector = (uint8_t)(e & ENTRY_VECTOR), .dest = ENTRY_DEST(e), .dest_logical = !!(e & ENTRY_LOGICAL),
		.delivery_mode = ENTRY_MODE(e), .level = !!(e & ENTRY_LEVEL),
	};

	if (e & ENTRY_LEVEL)
		a->entry[pin] |= ENTRY_REMOTE_IRR;
	a->counters.messages++;
	a->sink.send(a->sink.opaque, &msg);
}

/* Level-triggered, high, not masked and not being served: fires. */
static void ioapic_service_level(struct ioapic *a, unsigned pin)
{
	const uint64_t e = a->entry[pin];

	if ((e & ENTRY_LEVEL) && !(e & (ENTRY_MASKED | ENTRY_REMOTE_IRR)) && (a->level >> pin & 1))
		ioapic_send(a, pin);
}

void ioapic_set_pin(void *ioapic, unsigned pin, bool level)
{
	struct ioapic *a = ioapic;
	const bool was = a->level >> pin & 1;

	ASSERT(pin < IOAPIC_PINS);
	a->level = level ? a->level | 1u << pin : a->level & ~(1u << pin);
	if (a->entry[pin] & ENTRY_LEVEL)
		ioapic_service_level(a, pin);
	else if (level && !was && !(a->entry[pin] & ENTRY_MASKED))
		ioapic_send(a, pin);
}

void ioapic_eoi(struct ioapic *a, uint8_t vector)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t *e = &a->entry[pin];
		if ((*e & ENTRY_REMOTE_IRR) && (*e & ENTRY_VECTOR) == vector) {
			*e &= ~ENTRY_REMOTE_IRR;
			a->counters.eois++;
			ioapic_service_level(a, pin);
		}
	}
}

bool ioapic_all_masked(const struct ioapic *a)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		if (!(a->entry[pin] & ENTRY_MASKED))
			return false;
	return true;
}

static uint32_t ioapic_read_register(const struct ioapic *a)
{
	const unsigned half = a->select - REG_ENTRIES;

	switch (a->select) {
	case REG_ID:
	case REG_ARBITRATION: return (uint32_t)a->id << 24;
	case REG_VERSION: return IOAPIC_VERSION;
	}
	if (a->select < REG_ENTRIES || half >= 2 * IOAPIC_PINS)
		return 0;
	return (uint32_t)(a->entry[half / 2] >> (half % 2 ? 32 : 0));
}

static void ioapic_write_register(struct ioapic *a, uint32_t value)
{
	const unsigned half = a->select - REG_ENTRIES;

	if (a->select == REG_ID)
		a->id = value >> 24 & 15;
	if (a->select < REG_ENTRIES || half >= 2 * IOAPIC_PINS)
		return;
	uint64_t *e = &a->entry[half / 2];
	const uint64_t written = half % 2 ? (*e & UINT32_MAX) | (uint64_t)value << 32 : (*e & ~(uint64_t)UINT32_MAX) | value;
	*e = (written & ENTRY_WRITABLE) | (*e & ENTRY_READ_ONLY);
	/* Switching a pin to edge ends whatever level interrupt was in service (Linux relies on this to clear remote IRR). */
	if (!(*e & ENTRY_LEVEL))
		*e &= ~ENTRY_REMOTE_IRR;
	ioapic_service_level(a, half / 2);
}

static uint64_t ioapic_read(void *dev, uint64_t offset, unsigned size)
{
	struct ioapic *a = dev;

	(void)size;
	switch (offset) {
	case MMIO_SELECT: return a->select;
	case MMIO_WINDOW: return ioapic_read_register(a);
	}
	return 0;
}

static void ioapic_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
	struct ioapic *a = dev;

	(void)size;
	switch (offset) {
	case MMIO_SELECT: a->select = (uint8_t)value; break;
	case MMIO_WINDOW: ioapic_write_register(a, (uint32_t)value); break;
	case MMIO_EOI: ioapic_eoi(a, (uint8_t)value); break;
	}
}

int ioapic_init(struct ioapic *a, struct bus *bus, uint8_t id, const struct irq_sink *sink)
{
	const struct bus_range range = {
		.base = IOAPIC_BASE, .len = MMIO_SIZE, .read = ioapic_read, .write = ioapic_write, .dev = a, .name = "ioapic",
	};

	*a = (struct ioapic){ .sink = *sink, .id = id };
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		a->entry[pin] = ENTRY_MASKED;
	return bus_claim(bus, BUS_MMIO, &range);
}
