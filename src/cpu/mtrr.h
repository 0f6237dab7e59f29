/*
 * mtrr.h - memory type range registers: kept and checked, without effect, since all memory here is as coherent as write-back. Every processor has
 * them, and Xen takes them for granted.
 * Source: AMD APM vol. 2, "Memory-Type Range Registers"; Intel SDM vol. 3, "Memory Type Range Registers (MTRRs)".
 */
#ifndef CPU_MTRR_H
#define CPU_MTRR_H

#include "base/base.h"

#define MTRR_VARIABLE 8		/* pairs of base and mask */
#define MTRR_FIXED 11
#define MTRRS (2 * MTRR_VARIABLE + MTRR_FIXED + 1)

struct vcpu;

/* The MSR is one of them. */
bool mtrr_is(uint32_t number);
void mtrr_read(const struct vcpu *v, uint32_t number, uint64_t *value);
/* False: #GP, for a value with reserved bits or types, or a write of the capabilities. */
bool mtrr_write(struct vcpu *v, uint32_t number, uint64_t value);
/* As firmware leaves them: all of memory is write-back but for the VGA window. */
void mtrr_reset(struct vcpu *v);

#endif
