/*
 * lapic.h - the local APIC of one vcpu: xAPIC (MMIO at APIC_BASE) and x2APIC (MSRs), timer with TSC-deadline.
 * Source: Intel SDM vol. 3, "Advanced Programmable Interrupt Controller (APIC)"; AMD APM vol. 2, "Advanced
 * Programmable Interrupt Controller (APIC)".
 *
 * irr is set by any thread (atomically); everything else belongs to the vcpu's thread. The timer: the vcpu's thread keeps
 * deadline_ns (CLOCK_MONOTONIC, ~0 none); vm/ sleeps on it or has its timer thread call lapic_timer_poll.
 */
#ifndef CPU_LAPIC_H
#define CPU_LAPIC_H

#include <stdatomic.h>
#include "base/base.h"
#include "mem/bus.h"

struct vcpu;

#define LAPIC_BASE_BSP (1ull << 8)
#define LAPIC_BASE_X2APIC (1ull << 10)
#define LAPIC_BASE_ENABLE (1ull << 11)
#define LAPIC_BASE_ADDRESS 0xfffffff000ull /* CPU_PHYS_BITS */

struct lapic {
	uint64_t base_msr;		/* APIC_BASE: enable, x2APIC, BSP bits */
	uint32_t id, ldr, dfr, svr, esr, esr_pending, tpr, icr_low, icr_high;
	uint32_t lvt[7];		/* CMCI, timer, thermal, PMC, LINT0, LINT1, error */
	_Atomic uint32_t irr[8];
	uint32_t isr[8], tmr[8];
	_Atomic uint32_t nmi_pending;
	uint32_t timer_initial, timer_divide;
	uint64_t timer_start_ns;	/* when the count-down began */
	uint64_t tsc_deadline;		/* guest TSC value, 0 disarmed */
	_Atomic uint64_t deadline_ns;	/* next expiry on the host's monotonic clock, ~0 none */
	void (*timer_changed)(void *opaque); /* vm/: the deadline moved earlier; may be 0 */
	void *timer_opaque;
	/* vm/: the EOI of a level-triggered vector, for the IO-APIC; and a message to other vcpus. May be 0. Called as cold code. */
	void (*level_eoi)(void *opaque, uint8_t vector);
	void *eoi_opaque;
	void (*send_ipi)(void *opaque, const struct irq_message *msg, unsigned shorthand, uint32_t dest);
	void *ipi_opaque;
};

void lapic_reset(struct lapic *l, uint32_t id, bool bsp);

/* Register access; offset as in the MMIO page (x2APIC MSR 800h+n is offset n * 16). 0, or -1: the access must #GP (x2APIC rules). */
int lapic_read(struct vcpu *v, uint32_t offset, uint64_t *value);
int lapic_write(struct vcpu *v, uint32_t offset, uint64_t value);
int lapic_write_base(struct vcpu *v, uint64_t value);	/* -1: #GP */

uint64_t lapic_get_tsc_deadline(const struct vcpu *v);
void lapic_set_tsc_deadline(struct vcpu *v, uint64_t guest_tsc);
uint64_t lapic_get_cr8(const struct vcpu *v);
void lapic_set_cr8(struct vcpu *v, uint64_t value);

/* True if a message to `dest` (8 bits; 32 in x2APIC mode) is for this APIC. */
bool lapic_matches(const struct lapic *l, uint32_t dest, bool logical);
/* Any thread: a message from the IO-APIC, an MSI or another LAPIC. Sets irr and requests REQ_INTERRUPT. */
void lapic_post(struct vcpu *v, const struct irq_message *msg);
/* Any thread: if the deadline has passed, posts the timer interrupt (periodic timers rearm). Returns the next deadline. */
uint64_t lapic_timer_poll(struct vcpu *v, uint64_t now_ns);
/* The vcpu's thread: sets the deadline, for a personality that keeps timers of its own (cpu/personality.h). */
void lapic_timer_arm(struct vcpu *v, uint64_t deadline_ns);

/*
 * The vector that would be delivered now (priority above PPR), or -1. lapic_ack moves it from IRR to ISR and returns it: other threads
 * post at any time, so this may be a higher one than lapic_pending told just before, never a lower one or -1 if that told one.
 */
int lapic_pending(const struct vcpu *v);
int lapic_ack(struct vcpu *v);

#endif
