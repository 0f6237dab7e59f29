/*
 * lapic_internal.h - shared by lapic.c and lapic_timer.c.
 */
#ifndef CPU_LAPIC_INTERNAL_H
#define CPU_LAPIC_INTERNAL_H

#include "cpu/lapic.h"
#include "cpu/vcpu.h"

enum lvt { LVT_CMCI, LVT_TIMER, LVT_THERMAL, LVT_PMC, LVT_LINT0, LVT_LINT1, LVT_ERROR };

#define SVR_ENABLE (1u << 8)
#define LVT_MASKED (1u << 16)
#define LVT_TIMER_MODE (3u << 17)
#define LVT_PERIODIC (1u << 17)
#define LVT_DEADLINE (2u << 17)
#define NEVER (~0ull)

enum { DELIVER_FIXED, DELIVER_LOWEST, DELIVER_SMI, DELIVER_NMI = 4, DELIVER_INIT, DELIVER_STARTUP, DELIVER_EXTINT };

/* An interrupt of the vcpu's own making, on its thread: no kick is needed. */
void lapic_raise(struct vcpu *v, uint8_t vector);

/* The timer's registers. */
/* What was due before the guest looked at the timer, or changed it, has come, though nobody may have looked yet. On the vcpu's thread. */
void lapic_timer_settle(struct vcpu *v);
void lapic_timer_disarm(struct lapic *l);
void lapic_timer_start(struct vcpu *v, uint32_t initial);
uint32_t lapic_timer_count(const struct lapic *l);
void lapic_timer_divide(struct vcpu *v, uint32_t value);

#endif
