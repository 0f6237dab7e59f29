/*
 * exec_syscall.c - fast system calls as AMD defines them: SYSENTER and SYSEXIT do not exist in long mode, and SYSCALL has a
 * form outside of it.
 * Source: AMD APM vol. 2, "SYSCALL and SYSRET", "SYSENTER and SYSEXIT (Legacy Mode Only)", "SWAPGS Instruction".
 */
#include "cpu/exec_internal.h"
#include "cpu/trace.h"

/* Outside long mode the target is EIP in STAR; flags are not saved. */
static enum exec_op syscall_legacy(struct exec *x)
{
	struct vcpu *v = x->v;
	uint16_t selector = (uint16_t)((v->star >> 32) & 0xfffc);

	v->counters.syscalls++;
	v->gpr[RCX] = (uint32_t)x->next;
	x->next = (uint32_t)v->star;
	segment_set_flat_code(v, selector, 0, false);
	segment_set_flat_stack(v, (uint16_t)(selector + 8), 0);
	v->cpl = 0;
	v->rflags &= ~(uint64_t)(FL_IF | FL_RF | FL_VM);
	return OP_DONE;
}

static enum exec_op sysret_legacy(struct exec *x)
{
	struct vcpu *v = x->v;
	uint16_t base = (uint16_t)((v->star >> 48) & 0xfffc);

	if (vcpu_paragraphs(v) || v->cpl)
		return exec_gp(x, 0);
	v->counters.sysrets++;
	x->next = (uint32_t)v->gpr[RCX];
	segment_set_flat_code(v, (uint16_t)(base | 3), 3, false);
	segment_set_flat_stack(v, (uint16_t)((base + 8) | 3), 3);
	v->cpl = 3;
	exec_set_flags(v, FL_IF, FL_IF);
	return OP_DONE;
}

enum exec_op op_syscall(struct exec *x) { return x->v->personality->syscall(x); }

enum exec_op bare_syscall(struct exec *x)
{
	struct vcpu *v = x->v;
	bool from_long64 = vcpu_long64(v);
	uint16_t selector = (uint16_t)((v->star >> 32) & 0xfffc);

	if (!(v->efer & EFER_SCE))
		return exec_undefined(x);
	if (!vcpu_long(v))
		return syscall_legacy(x);
	v->counters.syscalls++;
	if (vcpu_traced(v))
		vcpu_trace_syscall(v, x->next);
	v->gpr[RCX] = x->next;
	v->gpr[R11] = v->rflags & ~(uint64_t)FL_RF;
	x->next = from_long64 ? v->lstar : v->cstar;
	segment_set_flat_code(v, selector, 0, true);
	segment_set_flat_stack(v, (uint16_t)(selector + 8), 0);
	v->cpl = 0;
	v->rflags = (v->rflags & ~(v->sfmask | FL_RF)) | FL_R1;
	/* The trap flag counts as it is after SYSCALL. */
	x->tf = v->rflags & FL_TF;
	return OP_DONE;
}

/* A non-canonical RCX faults in the caller's privilege, at the fetch (AMD's rule, unlike Intel's). */
enum exec_op op_sysret(struct exec *x)
{
	struct vcpu *v = x->v;
	uint16_t base = (uint16_t)((v->star >> 48) & 0xfffc);
	bool to_long64 = x->in->opsize == 8;

	if (!(v->efer & EFER_SCE))
		return exec_undefined(x);
	if (!vcpu_long(v))
		return sysret_legacy(x);
	if (v->cpl)
		return exec_gp(x, 0);
	v->counters.sysrets++;
	x->next = to_long64 ? v->gpr[RCX] : (uint32_t)v->gpr[RCX];
	segment_set_flat_code(v, (uint16_t)((to_long64 ? base + 16 : base) | 3), 3, to_long64);
	segment_set_flat_stack(v, (uint16_t)((base + 8) | 3), 3);
	v->cpl = 3;
	exec_set_flags(v, v->gpr[R11], FL_LEGAL & ~(uint64_t)(FL_RF | FL_VM));
	x->tf = v->rflags & FL_TF;
	if (vcpu_traced(v))
		vcpu_trace_return(v, x->next, 0);
	return OP_DONE;
}

enum exec_op op_sysenter(struct exec *x)
{
	struct vcpu *v = x->v;
	uint16_t selector = (uint16_t)(v->sysenter_cs & 0xfffc);

	if (vcpu_long(v))
		return exec_undefined(x);
	if (vcpu_real(v) || !selector)
		return exec_gp(x, 0);
	v->counters.syscalls++;
	segment_set_flat_code(v, selector, 0, false);
	segment_set_flat_stack(v, (uint16_t)(selector + 8), 0);
	v->cpl = 0;
	v->gpr[RSP] = (uint32_t)v->sysenter_esp;
	x->next = (uint32_t)v->sysenter_eip;
	v->rflags &= ~(uint64_t)(FL_IF | FL_RF | FL_VM);
	return OP_DONE;
}

enum exec_op op_sysexit(struct exec *x)
{
	struct vcpu *v = x->v;
	uint16_t selector = (uint16_t)(v->sysenter_cs & 0xfffc);

	if (vcpu_long(v))
		return exec_undefined(x);
	if (vcpu_paragraphs(v) || v->cpl || !selector)
		return exec_gp(x, 0);
	v->counters.sysrets++;
	segment_set_flat_code(v, (uint16_t)((selector + 16) | 3), 3, false);
	segment_set_flat_stack(v, (uint16_t)((selector + 24) | 3), 3);
	v->cpl = 3;
	v->gpr[RSP] = (uint32_t)v->gpr[RCX];
	x->next = (uint32_t)v->gpr[RDX];
	return OP_DONE;
}

enum exec_op op_swapgs(struct exec *x)
{
	struct vcpu *v = x->v;
	uint64_t base = v->seg[SEG_GS].base;

	if (!vcpu_long64(v))
		return exec_undefined(x);
	if (v->cpl)
		return exec_gp(x, 0);
	v->seg[SEG_GS].base = v->kernel_gs_base;
	v->kernel_gs_base = base;
	return OP_DONE;
}
