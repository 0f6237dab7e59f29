/*
 * msr.h - model-specific registers. AMD APM vol. 2, "Model-Specific Registers (MSRs)".
 * What is not in the table of msr.c does not exist: the access raises #GP(0).
 */
#ifndef CPU_MSR_H
#define CPU_MSR_H

#include "base/base.h"

struct vcpu;

/* False: #GP(0). */
bool msr_read(struct vcpu *v, uint32_t number, uint64_t *value);
bool msr_write(struct vcpu *v, uint32_t number, uint64_t value);
void msr_reset(struct vcpu *v);

#endif
