/*
 * exec.h - the executor: one instruction at a time, in C, for whatever is not translated, and as second opinion in tests.
 *
 * INSN_PLAIN instructions are not interpreted: the executor copies the memory operand into a bounce buffer (through the MMU, so every
 * rule of paging, page crossing and MMIO holds), runs the instruction itself on the host with the guest's registers
 * loaded, and writes the operand back. Silicon stays the only model of arithmetic.
 *
 * All run on the vcpu's thread, with guest registers in struct vcpu and the FPU state live or not.
 */
#ifndef CPU_EXEC_H
#define CPU_EXEC_H

#include "cpu/vcpu.h"
#include "x86/insn.h"

enum exec_result {
	EXEC_NEXT,	/* done, or an exception or interrupt was delivered: rip is where the guest goes on */
	EXEC_STOP,	/* v->exit says why */
};

/*
 * Executes `in`, which the caller decoded at v->rip in the current mode (bytes still current). Handles traps after it (TF, DR7), the
 * interrupt shadow (sets v->inhibit when this instruction starts one, clears it otherwise), and delivers exceptions.
 */
enum exec_result exec_insn(struct vcpu *v, const struct insn *in);

/* How the bytes at rip are decoded. */
static inline enum insn_mode exec_code_mode(const struct vcpu *v)
{
	return vcpu_long64(v) ? INSN_MODE_64 : v->seg[SEG_CS].attr & SEG_DB ? INSN_MODE_32 : INSN_MODE_16;
}

/* Fetches, decodes and executes at v->rip. */
enum exec_result exec_step(struct vcpu *v);

/* The exception an instruction with these needs raises in the present state, if any (CR0.EM/TS, CR4.OSFXSR..., CPUID). */
bool exec_need_fault(const struct vcpu *v, const struct insn *in, struct exception *exc);

/* A data segment of all 4 GiB that may be written: accesses through it need no check of type and limit. */
static inline bool segment_whole(const struct segment *s)
{
	return s->limit == UINT32_MAX && (s->attr & (SEG_P | SEG_S | 0xe)) == (SEG_P | SEG_S | 2);
}

/* 32-bit code of protected or compatibility mode whose code and stack segments are flat: base 0, 4 GiB, stack pointer of 32 bits. */
bool exec_flat32(const struct vcpu *v);

/*
 * True while something makes every instruction special: TF, armed breakpoints, AC checking, code that is neither 64-bit nor flat 32-bit
 * code (or --tune code32=off). Then only exec_step is used.
 */
bool exec_must_step(const struct vcpu *v);

/* Delivers an exception at v->rip (with fault semantics), double and triple faults included. */
enum exec_result exec_deliver(struct vcpu *v, const struct exception *exc);

/* If an interrupt is deliverable now (IF, shadow, priority), takes it. Clears REQ_INTERRUPT as needed. Also wakes HLT. */
enum exec_result exec_interrupts(struct vcpu *v);

/*
 * Whether HLT goes on, with v->exit set to say so. To be asked by engines when they start or have acted on v->pending: a request that brings no
 * interrupt (work of the monitor's, or an interrupt that was taken before its request was seen) must not end it.
 */
bool exec_still_halted(struct vcpu *v);

/*
 * Interrupts may have become possible without a new message: IF was set, or the instruction after STI or MOV SS is done (then
 * v->inhibit has been cleared). To be called then if v->irq_waiting is set; sets REQ_INTERRUPT if something is deliverable now.
 */
void exec_irq_recheck(struct vcpu *v);

/* Recomputes RFLAGS, keeping only legal bits. */
#define FL_LEGAL (FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | FL_VIF | FL_VIP | FL_ID)

#endif
