/*
 * bus.h - the I/O bus: port and MMIO ranges claimed by devices, and the sink for interrupt messages.
 *
 * Handlers take the offset inside the claimed range. Sizes are 1, 2 or 4 for ports and 1, 2, 4 or 8 for MMIO; a device that
 * cares about sizes says so itself. What nobody claims reads as all ones and ignores writes. Devices run under the
 * device lock (docs/locking.md), which bus_* take; they may use libc (callers save the guest FPU first).
 */
#ifndef MEM_BUS_H
#define MEM_BUS_H

#include "x86/types.h"

struct bus_range {
	uint64_t base, len;
	uint64_t (*read)(void *dev, uint64_t offset, unsigned size);
	void (*write)(void *dev, uint64_t offset, unsigned size, uint64_t value);
	void *dev;
	const char *name;
};

enum bus_space { BUS_PORT, BUS_MMIO, BUS_SPACES };
#define BUS_MAX_RANGES 32

struct bus {
	struct bus_range range[BUS_SPACES][BUS_MAX_RANGES];
	unsigned ranges[BUS_SPACES];
	uint64_t accesses[BUS_SPACES];	/* counters */
	void *lock;			/* pthread_mutex_t of the device lock */
};

void bus_init(struct bus *bus);
void bus_destroy(struct bus *bus);
/* 0, -EEXIST on overlap, -ENOSPC when full. */
int bus_claim(struct bus *bus, enum bus_space space, const struct bus_range *range);
uint64_t bus_read(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size);
void bus_write(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size, uint64_t value);
void bus_lock(struct bus *bus);
void bus_unlock(struct bus *bus);

/*
 * Interrupt messages (AMD APM vol. 2, "APIC Registers"; the format of an MSI): what an IO-APIC or an MSI device sends
 * to the local APICs. The implementation lives in cpu/lapic; devices only hold this pointer pair.
 */
struct irq_message { uint8_t vector, dest, dest_logical, delivery_mode; bool level; };
struct irq_sink {
	void (*send)(void *opaque, const struct irq_message *msg);
	void *opaque;
};

#endif
