/*
 * svm.c - the instructions of SVM: their common checks, and those that need no world switch.
 * Source: AMD APM vol. 3, "VMRUN", "VMLOAD", "VMSAVE", "VMMCALL", "STGI", "CLGI", "INVLPGA", "SKINIT".
 */
#include "svm/svm_internal.h"

#include <errno.h>
#include <stdlib.h>

typedef enum exec_op memory_op(struct exec *x, gpa_t at);

/*
 * VMLOAD and VMSAVE of a guest whose hypervisor lets it: their address is physical to that guest. Needs nested paging and a guest in long mode; where the hypervisor
 * asks for it without them, they are intercepted. AMD APM vol. 2, "VMSAVE and VMLOAD Virtualization".
 */
static bool wants_virtual_load_save(const struct vcpu *v) { return v->svm.state->vmcb.virt_ext & VMCB_VIRT_LOAD_SAVE; }
static bool virtual_load_save(const struct vcpu *v) { return wants_virtual_load_save(v) && svm_nested_paging(v) && vcpu_long(v); }

/* rAX: the physical address of a VMCB. */
static enum exec_op with_vmcb(struct exec *x, memory_op *op)
{
	uint64_t at = x->v->gpr[RAX];

	if (x->in->addrsize < 8)
		at = x->in->addrsize == 4 ? (uint32_t)at : (uint16_t)at;
	if ((at & ~PAGE_MASK) || at >> CPU_PHYS_BITS)
		return exec_gp(x, 0);
	if (UNLIKELY(x->v->svm.guest) && virtual_load_save(x->v)) {
		gpa_t p;
		const enum mmu_kind kind = mmu_guest_physical(&x->v->mmu, gpa(at), op == svm_vmsave ? ACC_WRITE : ACC_READ, &p, &x->exc);

		if (kind == MMU_NESTED_EXIT)
			return OP_FAULT;
		if (kind != MMU_MAPPED)
			return svm_no_room(x->v);
		at = p.v;
	}
	return op(x, gpa(at));
}

static enum exec_op vmrun(struct exec *x) { return with_vmcb(x, svm_vmrun); }
static enum exec_op vmload(struct exec *x) { return with_vmcb(x, svm_vmload); }
static enum exec_op vmsave(struct exec *x) { return with_vmcb(x, svm_vmsave); }

/* In guest mode the flag may be a virtual one, which masks virtual interrupts only. AMD APM vol. 2, "Virtual GIF". */
static uint32_t *virtual_gif(struct vcpu *v)
{
	uint32_t *c = &v->svm.state->vmcb.int_ctl;

	return v->svm.guest && (*c & VMCB_V_GIF_ENABLE) ? c : NULL;
}

static enum exec_op stgi(struct exec *x)
{
	struct vcpu *v = x->v;
	uint32_t *virtual = virtual_gif(v);

	if (virtual)
		*virtual |= VMCB_V_GIF;
	else
		v->svm.gif_clear = false;
	atomic_fetch_or(&v->pending, REQ_INTERRUPT);
	return OP_DONE;
}

static enum exec_op clgi(struct exec *x)
{
	struct vcpu *v = x->v;
	uint32_t *virtual = virtual_gif(v);

	if (virtual)
		*virtual &= ~VMCB_V_GIF;
	else
		v->svm.gif_clear = true;
	return OP_DONE;
}

static uint64_t invlpga_address(const struct exec *x)
{
	const struct vcpu *v = x->v;

	return vcpu_long64(v) && x->in->addrsize == 8 ? v->gpr[RAX] : (uint32_t)v->gpr[RAX];
}

static enum exec_op invlpga(struct exec *x)
{
	struct vcpu *v = x->v;

	mmu_invlpga(&v->mmu, (uint32_t)v->gpr[RCX], gva(invlpga_address(x)));
	return OP_DONE;
}

/* By ModRM: D8 to DF. SKINIT has a CPUID bit of its own, which is not offered; VMMCALL outside of guest mode is op_vmcall's. */
static const struct { enum exec_op (*run)(struct exec *x); uint8_t code; } rows[8] = {
	{ vmrun, VMEXIT_VMRUN }, { 0, VMEXIT_VMMCALL }, { vmload, VMEXIT_VMLOAD }, { vmsave, VMEXIT_VMSAVE },
	{ stgi, VMEXIT_STGI }, { clgi, VMEXIT_CLGI }, { 0, VMEXIT_SKINIT }, { invlpga, VMEXIT_INVLPGA },
};

static enum exec_op instruction(struct exec *x)
{
	struct vcpu *v = x->v;
	unsigned n = x->in->modrm & 7;

	if (!(v->efer & EFER_SVME) || vcpu_paragraphs(v))
		return exec_undefined(x);
	if (rows[n].run && v->cpl)
		return exec_gp(x, 0);
	/* A guest that clears its EFER.SVME is still one; VMMCALL may be intercepted at any CPL. */
	if (v->svm.guest && (rows[n].run || rows[n].code == VMEXIT_VMMCALL) && svm_intercepted(v, rows[n].code))
		return svm_exit_op(x, rows[n].code, rows[n].code == VMEXIT_INVLPGA ? invlpga_address(x) : 0, 0);
	if (v->svm.guest && (rows[n].run == vmload || rows[n].run == vmsave) && wants_virtual_load_save(v) && !virtual_load_save(v))
		return svm_exit_op(x, rows[n].code, 0, 0);
	return rows[n].run ? rows[n].run(x) : exec_undefined(x);
}

static const struct svm_ops ops = {
	.instruction = instruction,
	.intercept = svm_intercept,
	.port = svm_port,
	.task_switch = svm_task_switch,
	.exception = svm_exception,
	.shutdown = svm_shutdown,
	.interrupts = svm_interrupts,
};

int svm_attach(struct vcpu *v)
{
	if (!(v->features & FEATURE(SVM)))
		return 0;
	v->svm.state = calloc(1, sizeof(*v->svm.state));
	if (!v->svm.state)
		return -ENOMEM;
	v->svm.ops = &ops;
	v->mmu.hypervisor = true;
	return 0;
}

void svm_detach(struct vcpu *v)
{
	free(v->svm.state);
	v->svm.state = NULL;
	v->svm.ops = NULL;
}
