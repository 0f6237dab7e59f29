/*
 * trace.h - what the processor tells a trace (base/trace.h): how guest code enters its kernel and leaves it. Each function is called
 * only where trace_wants says so, may run with live guest vector registers, and changes nothing of the guest.
 */
#ifndef CPU_TRACE_H
#define CPU_TRACE_H

#include "cpu/vcpu.h"

struct insn;

/* A CR3 without its flags, and without what kernels with page-table isolation switch. */
#define TRACE_SPACE 0x000fffffffffe000ull

static inline bool vcpu_traced(const struct vcpu *v) { return UNLIKELY(v->mmu.trace != NULL); }

/* SYSCALL at v->rip, with the state still as before it. */
void vcpu_trace_syscall(struct vcpu *v, uint64_t return_to);
/* An event is about to be delivered, with the state still as before it; frame: where its RIP was pushed. */
void vcpu_trace_event(struct vcpu *v, unsigned vector, unsigned source, uint64_t rip, uint64_t frame, uint32_t error);
/* SYSRET (frame 0) or IRET, whose frame lay at frame, went to rip; v->cpl is the new one. */
void vcpu_trace_return(struct vcpu *v, uint64_t rip, uint64_t frame);
/* The executor is about to do `in` at v->rip. */
void vcpu_trace_insn(struct vcpu *v, const struct insn *in);

#endif
