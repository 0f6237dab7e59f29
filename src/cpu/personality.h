/*
 * personality.h - what a vcpu is beside the instructions of the manual: who takes exceptions, interrupts and system calls, and what happens when an
 * instruction is refused. Two exist: a bare processor (personality_bare, cpu/deliver.c), and a processor that a paravirtualized guest sees through a hypervisor's
 * ABI (xen/). The executor asks the vcpu's personality at these places and nowhere else; everything else is the same instruction by
 * instruction.
 *
 * All run on the vcpu's thread, with guest vector registers live.
 */
#ifndef CPU_PERSONALITY_H
#define CPU_PERSONALITY_H

#include "cpu/exec.h"

enum exec_op {
	OP_DONE,
	OP_FAULT,	/* x->exc, at the unchanged rip */
	OP_STOP,	/* v->exit */
	OP_REPEAT,	/* part of a REP string was done; rip stays */
	OP_EVENT,	/* an event was delivered (INT n...): rip is set, no trap follows */
};

struct exec {
	struct vcpu *v;
	const struct insn *in;
	uint64_t next;		/* rip after the instruction */
	bool tf;		/* single-step trap due after it */
	bool keep_rf;		/* IRET loaded RF */
	uint8_t shadow;		/* INHIBIT_* that the instruction was begun under */
	struct exception exc;
};

enum event_kind { EVENT_EXCEPTION, EVENT_EXTERNAL, EVENT_SOFT /* INT n, INT3, INTO: gate DPL is checked */, EVENT_ICEBP };
struct personality {
	const char *name;
	/*
	 * One delivery without the double-fault rules: OP_EVENT, OP_FAULT (x->exc) or OP_STOP. rip is the address to push, rflags the image.
	 */
	enum exec_op (*deliver)(struct exec *x, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error, uint64_t rip, uint64_t rflags);
	/* exec_interrupts and exec_irq_recheck. */
	enum exec_result (*interrupts)(struct vcpu *v);
	void (*recheck)(struct vcpu *v);
	/* SYSCALL, as an instruction's handler. */
	enum exec_op (*syscall)(struct exec *x);
	/* x->in raised x->exc: OP_FAULT if that stands, or what became of the instruction instead. 0: it always stands. */
	enum exec_op (*refused)(struct exec *x);
	/* The vcpu's timer has reached its deadline (any thread); cpu/lapic.h, lapic_timer_poll. Returns the next deadline. 0: it is the local APIC's. */
	uint64_t (*timer)(struct vcpu *v, uint64_t now_ns);
	/* CPUID's answer for the guest, from the bare processor's. 0: that. */
	void (*cpuid)(struct vcpu *v, uint32_t leaf, uint32_t sub, uint32_t reg[4]);
};

extern const struct personality personality_bare;

/* For personalities' own handlers. */

/* Sets v->exit; the reason is copied. Fit for hot code (no libc). */
void exec_exit(struct vcpu *v, enum exit_kind kind, const char *reason);
static inline enum exec_op exec_fault(struct exec *x, struct exception exc)
{
	x->exc = exc;
	return OP_FAULT;
}
static inline enum exec_op exec_gp(struct exec *x, uint32_t error) { return exec_fault(x, exc_gp(error)); }
static inline enum exec_op exec_undefined(struct exec *x) { return exec_fault(x, exc_ud()); }
enum {
	DESC_TSS16_AVAILABLE = 1, DESC_LDT = 2, DESC_TSS16_BUSY = 3, DESC_CALL_GATE16 = 4, DESC_TASK_GATE = 5, DESC_INT_GATE16 = 6,
	DESC_TRAP_GATE16 = 7, DESC_TSS_AVAILABLE = 9, DESC_TSS_BUSY = 11, DESC_CALL_GATE = 12, DESC_INT_GATE = 14, DESC_TRAP_GATE = 15,
};
void segment_unpack(uint64_t raw, struct segment *s);
/* Reads the 8-byte descriptor of a selector (16 with high). Outside the table: OP_FAULT, vector (selector & ~3). */
enum exec_op segment_read_descriptor(struct exec *x, uint16_t selector, uint8_t vector, uint32_t ext, uint64_t *low, uint64_t *high);
/* Sets the accessed bit of a code or data descriptor in memory if it is clear. */
enum exec_op segment_set_accessed(struct exec *x, uint16_t selector, uint64_t low);
/* MOV to, POP and Lxs of a segment register other than CS, as the mode has it. */
enum exec_op segment_load(struct exec *x, unsigned seg, uint16_t selector);
void segment_set_flat_code(struct vcpu *v, uint16_t selector, unsigned dpl, bool long64);
void segment_set_flat_stack(struct vcpu *v, uint16_t selector, unsigned dpl);

/* Reads or writes the operand that ModRM.rm names, register or memory, as an integer. */
enum exec_op exec_read_operand(struct exec *x, uint64_t *value, unsigned size);
enum exec_op exec_write_operand(struct exec *x, uint64_t value, unsigned size);
/*
 * Runs x->in's handler as if the CPL were 0, or, with iopl (FL_IOPL), as if the IOPL allowed ports: for an instruction that was refused. Memory is accessed as
 * the vcpu does.
 */
enum exec_op exec_privileged(struct exec *x, uint64_t iopl);
/*
 * Runs x->in's handler again, on a copy of the 8 bytes at la, a multiple of 8, which it may not write: what it would have stored is in the copy when it
 * is OP_DONE, and nothing else has changed but registers.
 */
enum exec_op exec_on_copy(struct exec *x, uint64_t la, uint64_t *copy);
/* Sets RFLAGS bits in `mask` from value; notices IF becoming 1. */
void exec_set_flags(struct vcpu *v, uint64_t value, uint64_t mask);

#endif
