/*
 * svm_ops.h - what the executor asks of svm/, and what svm/ needs of the executor beside personality.h. All run on the vcpu's thread with guest vector
 * registers live.
 */
#ifndef CPU_SVM_OPS_H
#define CPU_SVM_OPS_H

#include "cpu/personality.h"

/* What makes a hardware task switch (task.c); TASK_INT: a task gate of the IDT. */
enum task_reason { TASK_JMP, TASK_CALL, TASK_INT, TASK_IRET };

struct svm_ops {
	/* Handler of VMRUN, VMLOAD, VMSAVE, STGI, CLGI, SKINIT and INVLPGA, and in guest mode of VMMCALL. */
	enum exec_op (*instruction)(struct exec *x);

	/* The rest is asked in guest mode only. #VMEXIT: the guest hypervisor goes on, at v->rip. */

	/* Before an instruction's handler: OP_DONE: it is not intercepted, OP_EVENT: #VMEXIT, OP_FAULT, OP_STOP. */
	enum exec_op (*intercept)(struct exec *x);
	/* Before a port access that the guest's own protection allows. Answers likewise. */
	enum exec_op (*port)(struct exec *x, uint16_t port, unsigned size, bool in, bool string);
	/*
	 * Before a hardware task switch whose descriptors have been found good; selector: of the new task's TSS. OP_DONE: it is not intercepted, OP_EVENT, OP_STOP.
	 * x->in is NULL where no instruction made it.
	 */
	enum exec_op (*task_switch)(struct exec *x, enum task_reason why, uint16_t selector, bool has_error, uint32_t error);
	/* exc was raised and will be delivered (VEC_NPF: always): true: #VMEXIT instead (*result what the executor returns). */
	bool (*exception)(struct vcpu *v, const struct exception *exc, enum exec_result *result);
	/* A triple fault. */
	bool (*shutdown)(struct vcpu *v, enum exec_result *result);
	/* exec_interrupts; also with GIF clear. */
	enum exec_result (*interrupts)(struct vcpu *v);
};

/* Linear address of the memory operand; no limit or right is checked. */
uint64_t exec_operand_address(const struct exec *x);

/* Load the registers that decide translation, which the caller has checked (EFER.LMA follows from the others), and switch address spaces (mmu.h). */
void control_enter_guest(struct vcpu *v, uint32_t asid, enum mmu_guest_flush flush, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer,
			 bool nested, uint64_t ncr3);
void control_leave_guest(struct vcpu *v, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer);
/* DR6 and DR7 with their fixed bits. */
void control_load_debug(struct vcpu *v, uint64_t dr6, uint64_t dr7);

/* Delivers an event that came up between instructions; rip is what it pushes. What its delivery raises is handled (double faults too). */
enum exec_result exec_inject(struct vcpu *v, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error, uint64_t rip);
/* The NMI, or the interrupt that the local APIC has next, is delivered: nothing masks it. */
enum exec_result exec_take_nmi(struct vcpu *v);
enum exec_result exec_take_interrupt(struct vcpu *v);

#endif
