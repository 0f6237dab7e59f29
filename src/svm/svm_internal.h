/*
 * svm_internal.h - shared by the files of svm/.
 *
 * Invariants
 *  S1  in guest mode the controls that hold are those of state->vmcb, the copy made by VMRUN: guest memory is not read again but for the permission maps
 *  S2  outside of guest mode vcpu.svm.masking is SVM_MASK_RFLAGS, tsc_offset and delivering are 0
 */
#ifndef SVM_SVM_INTERNAL_H
#define SVM_SVM_INTERNAL_H

#include "cpu/svm_ops.h"
#include "svm/svm.h"
#include "svm/vmcb.h"

/* What #VMEXIT restores ("Host State Save Area"). */
struct svm_host {
	uint64_t rip, rsp, rax, rflags, cr0, cr3, cr4, efer;
	struct segment es, cs, ss, ds;
	struct table_reg gdtr, idtr;
	uint64_t pat;
};

struct svm_vcpu {
	struct vmcb vmcb;
	gpa_t at;		/* where it came from and goes to */
	struct svm_host host;
	uint16_t pauses;	/* that L2 may still make before the next is intercepted (pause filter) */
	uint64_t paused_at;	/* time-stamp counter at the last of them */
};

static inline bool svm_intercepted(const struct vcpu *v, unsigned code) { return v->svm.state->vmcb.intercept[code / 32] >> code % 32 & 1; }

/* The virtual interrupt would be taken now, but for IF and the interrupt shadow. A virtual GIF that is clear masks it ("Virtual GIF"). */
static inline bool svm_virtual_interrupt(const struct vcpu *v)
{
	uint32_t c = v->svm.state->vmcb.int_ctl;

	if ((c & VMCB_V_GIF_ENABLE) && !(c & VMCB_V_GIF))
		return false;
	return (c & VMCB_V_IRQ) && ((c & VMCB_V_IGN_TPR) || VMCB_V_PRIO(c) > v->svm.v_tpr);
}

static inline bool svm_nested_paging(const struct vcpu *v) { return v->svm.state->vmcb.np_enable & VMCB_NP_ENABLE; }

/*
 * #VMEXIT: L2's state goes to its VMCB, L1 goes on after its VMRUN. next_rip: 0 where the manual does not define it. EXEC_STOP when the host
 * is out of memory.
 */
enum exec_result svm_exit(struct vcpu *v, uint64_t code, uint64_t info1, uint64_t info2, uint64_t next_rip);
/* The same as an instruction's outcome. */
static inline enum exec_op svm_exit_op(struct exec *x, uint64_t code, uint64_t info1, uint64_t info2)
{
	x->v->inhibit = x->shadow; /* the instruction has not been executed */
	return svm_exit(x->v, code, info1, info2, x->next) == EXEC_NEXT ? OP_EVENT : OP_STOP;
}

/* world.c */
enum exec_op svm_vmrun(struct exec *x, gpa_t at);
enum exec_op svm_vmload(struct exec *x, gpa_t at);
enum exec_op svm_vmsave(struct exec *x, gpa_t at);
/* The host is out of memory: the VM stops. */
enum exec_op svm_no_room(struct vcpu *v);

/* intercept.c */
enum exec_op svm_intercept(struct exec *x);
enum exec_op svm_task_switch(struct exec *x, enum task_reason why, uint16_t selector, bool has_error, uint32_t error);
enum exec_op svm_port(struct exec *x, uint16_t port, unsigned size, bool in, bool string);
bool svm_exception(struct vcpu *v, const struct exception *exc, enum exec_result *result);
bool svm_shutdown(struct vcpu *v, enum exec_result *result);
enum exec_result svm_interrupts(struct vcpu *v);

#endif
