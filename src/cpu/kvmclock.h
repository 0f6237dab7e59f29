/*
 * kvmclock.h - the KVM paravirtual clock: MSRs 4B564D00h (wall clock) and 4B564D01h (system time).
 * Source: Linux, Documentation/virt/kvm/x86/msr.rst (the documented ABI).
 *
 * System time is the guest's TSC in nanoseconds: it starts with the VM and needs no update, since the host's TSC is invariant.
 */
#ifndef CPU_KVMCLOCK_H
#define CPU_KVMCLOCK_H

#include "base/base.h"

struct vcpu;
struct kvmclock { uint64_t system_time, wall_clock; /* the MSRs */ uint32_t mul; int8_t shift; uint32_t version; };

int kvmclock_create(struct kvmclock **out); /* 0 or -errno */
void kvmclock_destroy(struct kvmclock *k);

bool kvmclock_read_system_time(struct vcpu *v, uint64_t *value);
bool kvmclock_write_system_time(struct vcpu *v, uint64_t value);
bool kvmclock_read_wall_clock(struct vcpu *v, uint64_t *value);
bool kvmclock_write_wall_clock(struct vcpu *v, uint64_t value);

/* ns = ((ticks << shift, or >> -shift) * mul) >> 32 for a TSC of khz. */
void kvmclock_scale(uint64_t khz, uint32_t *mul, int8_t *shift);

#endif
