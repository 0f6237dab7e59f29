/*
 * pit.h - an i8254 interval timer at ports 40h-43h, and the part of port 61h that belongs to it. Channel 0 raises an interrupt line at each end of its
 * count; channel 2's gate and output are bits of port 61h; channel 1 counts and is connected to nothing.
 * Source: 8254 data sheet, "Functional Description", "Programming the 8254", "Mode Definitions".
 *
 * Invariants:
 *   P1  Nothing is done as time passes: counts and outputs are computed when they are asked for, and a timer runs only while channel 0 has an edge ahead.
 *   P2  Edges are at least PIT_MIN_NS apart, whatever is programmed. Those that could not be made in time, or faster than that, are owed and made up
 *       for, PIT_OWED_MAX at most.
 * Two simplifications: a count written while mode 2 or 3 runs starts a new period at once instead of at the end of this one, and in mode 3 an odd count
 * splits in halves as an even one does.
 */
#ifndef DEV_PIT_H
#define DEV_PIT_H

#include "dev/irq.h"
#include "mem/bus.h"

#define PIT_PORT 0x40u
#define PIT_PORT_B 0x61u
#define PIT_HZ 1193182u
#define PIT_NEVER (~0ull)
#define PIT_MIN_NS 200000u
#define PIT_OWED_MAX 16u

/* Time, in monotonic nanoseconds, and one timer; arm (PIT_NEVER: disarm) is called under the device lock and has pit_fire called, under it too. */
struct pit_host {
	uint64_t (*now_ns)(void);
	void (*arm)(void *opaque, uint64_t deadline_ns);
	void *opaque;
};

struct pit_channel {
	uint8_t mode, access, status;	/* access: 1 low byte, 2 high byte, 3 both; status: as latched */
	bool bcd, gate;
	bool loaded;			/* a count was written since the mode was */
	bool triggered;			/* modes 1 and 5: the gate rose since */
	bool write_high, read_high;	/* access 3: the second byte is next */
	bool count_latched, status_latched;
	uint8_t low;			/* first byte of a count being written */
	uint16_t latch;
	uint32_t count;			/* 1 .. 65536, or 10000 in BCD */
	uint64_t since_ns;		/* counts from here on */
	uint64_t held;			/* ticks from before the gate fell: modes 0 and 4 stop */
};

struct pit {
	struct pit_channel channel[3];
	struct pit_host host;
	struct irq_line irq;
	uint64_t edges;			/* of channel 0's count: due so far; those made are this less owed */
	uint32_t owed;
	uint64_t last_ns;		/* of the last edge */
	bool speaker, refresh;		/* port 61h: bits 1 and 4 */
};

int pit_init(struct pit *pit, struct bus *bus, const struct irq_line *irq, const struct pit_host *host); /* 0 or -errno */
void pit_fire(struct pit *pit);		/* the timer expired; device lock held */

#endif
