/*
 * exec_system.c - system instructions that are neither control registers nor segments.
 * Source: AMD APM vol. 3, "System Instruction Reference"; Intel SDM vol. 2 for INVPCID, UMIP and FSGSBASE.
 */
#include "base/clock.h"
#include "cpu/exec_internal.h"
#include "cpu/msr.h"

static bool io_privileged(const struct vcpu *v) { return v->cpl <= ((v->rflags & FL_IOPL) >> 12); }

enum exec_op op_cli(struct exec *x)
{
	if (!io_privileged(x->v))
		return exec_gp(x, 0);
	x->v->rflags &= ~(uint64_t)FL_IF;
	return OP_DONE;
}

enum exec_op op_sti(struct exec *x)
{
	struct vcpu *v = x->v;

	if (!io_privileged(v))
		return exec_gp(x, 0);
	if (!(v->rflags & FL_IF)) {
		v->inhibit = INHIBIT_STI;
		exec_set_flags(v, FL_IF, FL_IF);
	}
	return OP_DONE;
}

enum exec_op op_cld(struct exec *x)
{
	x->v->rflags &= ~(uint64_t)FL_DF;
	return OP_DONE;
}

enum exec_op op_std(struct exec *x)
{
	x->v->rflags |= FL_DF;
	return OP_DONE;
}

enum exec_op op_clac(struct exec *x)
{
	if (x->v->cpl)
		return exec_undefined(x);
	x->v->rflags &= ~(uint64_t)FL_AC;
	return OP_DONE;
}

enum exec_op op_stac(struct exec *x)
{
	if (x->v->cpl)
		return exec_undefined(x);
	x->v->rflags |= FL_AC;
	return OP_DONE;
}

enum exec_op op_cpuid(struct exec *x)
{
	cpuid_execute(x->v);
	return OP_DONE;
}

static void set_edx_eax(struct vcpu *v, uint64_t value)
{
	v->gpr[RAX] = (uint32_t)value;
	v->gpr[RDX] = value >> 32;
}

static uint64_t get_edx_eax(const struct vcpu *v)
{
	return (uint32_t)v->gpr[RAX] | v->gpr[RDX] << 32;
}

uint64_t exec_read_tsc(const struct vcpu *v)
{
	const uint64_t tsc = clock_tsc() + v->tsc_offset;

	if (LIKELY(!v->svm.guest))
		return tsc;
	return (uint64_t)((unsigned __int128)tsc * v->svm.tsc_ratio >> 32) + v->svm.tsc_offset;
}

enum exec_op op_rdtsc(struct exec *x)
{
	struct vcpu *v = x->v;

	if (v->cpl && (v->cr4 & CR4_TSD))
		return exec_gp(x, 0);
	set_edx_eax(v, exec_read_tsc(v));
	return OP_DONE;
}

enum exec_op op_rdtscp(struct exec *x)
{
	enum exec_op op = op_rdtsc(x);

	if (op == OP_DONE)
		x->v->gpr[RCX] = (uint32_t)x->v->tsc_aux;
	return op;
}

/* There are no performance counters. */
enum exec_op op_rdpmc(struct exec *x) { return exec_gp(x, 0); }

enum exec_op op_rdpid(struct exec *x)
{
	uint8_t r = x->in->mem_reg != INSN_NO_REG ? x->in->mem_reg : x->in->reg;

	x->v->gpr[r] = (uint32_t)x->v->tsc_aux;
	return OP_DONE;
}

enum exec_op op_rdmsr(struct exec *x)
{
	struct vcpu *v = x->v;
	uint64_t value;

	if (v->cpl || !msr_read(v, (uint32_t)v->gpr[RCX], &value))
		return exec_gp(x, 0);
	set_edx_eax(v, value);
	return OP_DONE;
}

enum exec_op op_wrmsr(struct exec *x)
{
	struct vcpu *v = x->v;

	if (v->cpl || !msr_write(v, (uint32_t)v->gpr[RCX], get_edx_eax(v)))
		return exec_gp(x, 0);
	return OP_DONE;
}

enum exec_op op_fsgsbase(struct exec *x)
{
	struct vcpu *v = x->v;
	const struct insn *in = x->in;
	unsigned seg = in->cls == INSN_RDFSBASE || in->cls == INSN_WRFSBASE ? SEG_FS : SEG_GS;
	uint8_t r = in->mem_reg != INSN_NO_REG ? in->mem_reg : in->reg;
	uint64_t value;

	if (!(v->cr4 & CR4_FSGSBASE) || !vcpu_long64(v))
		return exec_undefined(x);
	if (in->cls == INSN_RDFSBASE || in->cls == INSN_RDGSBASE) {
		gpr_set(v, r, v->seg[seg].base, in->opsize);
		return OP_DONE;
	}
	value = gpr_get(v, r, in->opsize);
	if (!cpu_canonical(v, value))
		return exec_gp(x, 0);
	v->seg[seg].base = value;
	return OP_DONE;
}

bool exec_still_halted(struct vcpu *v)
{
	if (LIKELY(!v->halted))
		return false;
	if (vcpu_interruptible(v) || (v->svm.guest && (v->rflags & FL_IF)))
		exec_exit(v, EXIT_HLT, "");
	else
		exec_exit(v, EXIT_HLT_FOREVER, "");
	return true;
}

/* What may be taken now, or could but for the interrupt shadow. */
static bool wakes(struct vcpu *v)
{
	if (vcpu_interruptible(v) && lapic_pending(v) >= 0)
		return true;
	if (atomic_load(&v->lapic.nmi_pending) && !v->nmi_masked && !v->svm.gif_clear)
		return true;
	return v->svm.guest && v->irq_waiting && (vcpu_interruptible(v) || (v->rflags & FL_IF));
}

/* HLT with something deliverable is over at once. */
enum exec_op op_hlt(struct exec *x)
{
	struct vcpu *v = x->v;

	if (v->cpl)
		return exec_gp(x, 0);
	v->counters.halts++;
	if (wakes(v)) {
		atomic_fetch_or(&v->pending, REQ_INTERRUPT);
		return OP_DONE;
	}
	v->rip = x->next;
	v->rflags &= ~(uint64_t)FL_RF;
	v->halted = 1;
	exec_still_halted(v);
	return OP_STOP;
}

enum exec_op op_invd(struct exec *x)
{
	return x->v->cpl ? exec_gp(x, 0) : OP_DONE;
}

uint64_t exec_operand_address(const struct exec *x)
{
	const struct vcpu *v = x->v;
	uint64_t ea = exec_ea(x), seg = x->in->mem.seg;

	if (vcpu_long64(v) ? seg == SEG_FS || seg == SEG_GS : true)
		ea += v->seg[seg].base;
	if (!vcpu_long64(v))
		ea = (uint32_t)ea;
	return ea;
}

enum exec_op op_invlpg(struct exec *x)
{
	if (x->v->cpl)
		return exec_gp(x, 0);
	mmu_invlpg(&x->v->mmu, gva(exec_operand_address(x)));
	return OP_DONE;
}

enum exec_op op_invpcid(struct exec *x)
{
	struct vcpu *v = x->v;
	uint64_t type = gpr_get(v, x->in->reg, vcpu_long64(v) ? 8 : 4), desc[2];
	enum exec_op op;

	if (v->cpl)
		return exec_gp(x, 0);
	op = exec_read_bytes(x, x->in->mem.seg, exec_ea(x), desc, sizeof(desc));
	if (op != OP_DONE)
		return op;
	if (type > INVPCID_ALL || desc[0] >> 12)
		return exec_gp(x, 0);
	if (type <= INVPCID_CONTEXT && desc[0] && !(v->cr4 & CR4_PCIDE))
		return exec_gp(x, 0);
	if (type == INVPCID_ADDRESS && !cpu_canonical(v, desc[1]))
		return exec_gp(x, 0);
	mmu_invpcid(&v->mmu, (unsigned)type, (uint16_t)desc[0], gva(desc[1]));
	return OP_DONE;
}

/* VMMCALL (0F 01 D9) is a KVM hypercall, as the hypervisor leaves of CPUID say: none is offered. In a guest of the guest it is SVM's. VMCALL is Intel's. */
enum exec_op op_vmcall(struct exec *x)
{
	enum { KVM_ENOSYS = 1000, KVM_EPERM = 1 };
	struct vcpu *v = x->v;

	if (x->in->modrm != 0xd9)
		return exec_undefined(x);
	if (UNLIKELY(v->svm.guest))
		return v->svm.ops->instruction(x);
	v->gpr[RAX] = (uint64_t)-(int64_t)(v->cpl ? KVM_EPERM : KVM_ENOSYS);
	return OP_DONE;
}

enum exec_op op_svm(struct exec *x) { return x->v->svm.ops ? x->v->svm.ops->instruction(x) : exec_undefined(x); }

enum exec_op op_monitor(struct exec *x) { return exec_undefined(x); }
