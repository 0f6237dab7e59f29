/*
 * clock.h - host time. Monotonic nanoseconds, and the host TSC with its measured frequency.
 *
 * The guest's TSC is the host's plus an offset (struct vcpu.tsc_offset), so the frequency measured here is
 * the frequency that the guest is told. clock_init samples the TSC against CLOCK_MONOTONIC_RAW;
 * clock_tsc_khz samples again and uses the whole interval since, so call it late (first use wins: the value is fixed
 * from then on) and at least CLOCK_MIN_WINDOW_NS after clock_init (it sleeps for what is left).
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/base.h"

#define CLOCK_MIN_WINDOW_NS 20000000ull

void clock_init(void);
uint64_t clock_ns(void);		/* CLOCK_MONOTONIC */
uint64_t clock_realtime_ns(void);	/* CLOCK_REALTIME */
uint64_t clock_tsc_khz(void);
uint64_t clock_tsc_to_ns(uint64_t ticks);	/* a duration */
uint64_t clock_ns_to_tsc(uint64_t ns);	/* a duration */
static inline uint64_t clock_tsc(void) { return __builtin_ia32_rdtsc(); }

#endif
