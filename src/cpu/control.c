/*
 * control.c - control and debug registers and EFER: the only writer of cr0, cr3, cr4 and efer (V2).
 * Sources: AMD APM vol. 2, "System-Control Registers", "Debug Registers", "Extended Feature Enable Register (EFER)";
 * Intel SDM vol. 2, "MOV - Move to/from Control Registers" (PCID rules).
 */
#include "cpu/debug.h"
#include "cpu/exec_internal.h"

#define DR6_WRITABLE (0xf | DR6_BD | DR6_BS | 1u << 15)
#define DR7_WRITABLE 0xffff23ffull
#define CR0_WRITABLE (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)

static void controls_changed(struct vcpu *v)
{
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
}

static enum exec_op write_cr0(struct exec *x, uint64_t value)
{
	struct vcpu *v = x->v;
	uint64_t old = v->cr0;

	if (value >> 32)
		return exec_gp(x, 0);
	value = (value & CR0_WRITABLE) | CR0_ET;
	if ((value & CR0_PG) && !(value & CR0_PE))
		return exec_gp(x, 0);
	if ((value & CR0_NW) && !(value & CR0_CD))
		return exec_gp(x, 0);
	if (!(value & CR0_PG) && (old & CR0_PG) && ((v->cr4 & CR4_PCIDE) || vcpu_long64(v)))
		return exec_gp(x, 0);
	if ((value & CR0_PG) && !(old & CR0_PG) && (v->efer & EFER_LME)) {
		if (!(v->cr4 & CR4_PAE) || (v->seg[SEG_CS].attr & SEG_L))
			return exec_gp(x, 0);
		v->efer |= EFER_LMA;
	} else if (!(value & CR0_PG) && (old & CR0_PG)) {
		v->efer &= ~EFER_LMA;
	}
	v->cr0 = value;
	controls_changed(v);
	return OP_DONE;
}

static enum exec_op write_cr3(struct exec *x, uint64_t value)
{
	struct vcpu *v = x->v;
	uint64_t noflush = v->cr4 & CR4_PCIDE ? CR3_NOFLUSH : 0;

	if ((value & ~noflush) >> CPU_PHYS_BITS)
		return exec_gp(x, 0);
	v->counters.cr3_writes++;
	v->cr3 = value & ~noflush;
	mmu_set_cr3(&v->mmu, value);
	return OP_DONE;
}

static enum exec_op write_cr4(struct exec *x, uint64_t value)
{
	struct vcpu *v = x->v;

	if (value & ~v->cpuid->cr4_valid)
		return exec_gp(x, 0);
	if ((v->efer & EFER_LMA) && !(value & CR4_PAE))
		return exec_gp(x, 0);
	if ((v->efer & EFER_LMA) && ((value ^ v->cr4) & CR4_LA57))
		return exec_gp(x, 0);
	if ((value & ~v->cr4 & CR4_PCIDE) && (!(v->efer & EFER_LMA) || (v->cr3 & CR3_PCID_MASK)))
		return exec_gp(x, 0);
	v->cr4 = value;
	controls_changed(v);
	return OP_DONE;
}

static void load(struct vcpu *v, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer)
{
	v->cr0 = (cr0 & CR0_WRITABLE) | CR0_ET;
	v->cr3 = cr3;
	v->cr4 = cr4;
	v->efer = (efer & ~EFER_LMA) | ((efer & EFER_LME) && (cr0 & CR0_PG) ? EFER_LMA : 0);
}

void control_enter_guest(struct vcpu *v, uint32_t asid, enum mmu_guest_flush flush, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer,
			 bool nested, uint64_t ncr3)
{
	load(v, cr0, cr3, cr4, efer);
	mmu_enter_guest(&v->mmu, asid, flush, v->cr0, v->cr3, v->cr4, v->efer, nested, ncr3);
}

void control_leave_guest(struct vcpu *v, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer)
{
	load(v, cr0, cr3, cr4, efer);
	mmu_leave_guest(&v->mmu, v->cr0, v->cr3, v->cr4, v->efer);
}

void control_load_debug(struct vcpu *v, uint64_t dr6, uint64_t dr7)
{
	v->dr[6] = (dr6 & DR6_WRITABLE) | DR6_RESERVED_ONES;
	v->dr[7] = (dr7 & DR7_WRITABLE) | DR7_RESERVED_ONE;
}

void control_task_switched(struct vcpu *v, bool with_cr3, uint64_t cr3)
{
	v->cr0 |= CR0_TS;
	controls_changed(v);
	if (!with_cr3)
		return;
	v->counters.cr3_writes++;
	v->cr3 = cr3;
	mmu_set_cr3(&v->mmu, cr3);
}

enum exec_op control_write_cr(struct exec *x, unsigned cr, uint64_t value)
{
	switch (cr) {
	case 0: return write_cr0(x, value);
	case 2:
		x->v->cr2 = value;
		return OP_DONE;
	case 3: return write_cr3(x, value);
	case 4: return write_cr4(x, value);
	case 8:
		if (value & ~15ull)
			return exec_gp(x, 0);
		if (UNLIKELY(x->v->svm.masking)) {
			x->v->svm.v_tpr = (uint8_t)value;
			exec_irq_recheck(x->v);
		} else {
			lapic_set_cr8(x->v, value);
		}
		return OP_DONE;
	default: return exec_undefined(x);
	}
}

bool control_write_efer(struct vcpu *v, uint64_t value)
{
	uint64_t old = v->efer;

	if (value & ~v->cpuid->efer_valid)
		return false;
	if (((value ^ old) & EFER_LME) && (v->cr0 & CR0_PG))
		return false;
	if ((value & EFER_SVME) && (v->svm.vm_cr & VM_CR_SVMDIS))
		return false;
	v->efer = (value & ~EFER_LMA) | (old & EFER_LMA);
	controls_changed(v);
	return true;
}

static unsigned register_size(const struct exec *x) { return vcpu_long64(x->v) ? 8 : 4; }

enum exec_op op_mov_to_cr(struct exec *x)
{
	uint64_t value = gpr_get(x->v, x->in->reg, register_size(x));

	if (x->v->cpl)
		return exec_gp(x, 0);
	return control_write_cr(x, x->in->reg2, value);
}

enum exec_op op_mov_from_cr(struct exec *x)
{
	struct vcpu *v = x->v;
	uint64_t value;

	if (v->cpl)
		return exec_gp(x, 0);
	switch (x->in->reg2) {
	case 0: value = v->cr0; break;
	case 2: value = v->cr2; break;
	case 3: value = v->cr3; break;
	case 4: value = v->cr4; break;
	case 8: value = UNLIKELY(v->svm.masking) ? v->svm.v_tpr : lapic_get_cr8(v); break;
	default: return exec_undefined(x);
	}
	gpr_set(v, x->in->reg, value, register_size(x));
	return OP_DONE;
}

enum exec_op op_clts(struct exec *x)
{
	if (x->v->cpl)
		return exec_gp(x, 0);
	if (x->v->cr0 & CR0_TS) {
		x->v->cr0 &= ~CR0_TS;
		controls_changed(x->v);
	}
	return OP_DONE;
}

/* LMSW sets the low four bits; it cannot clear PE. */
enum exec_op op_lmsw(struct exec *x)
{
	struct vcpu *v = x->v;
	uint64_t value;
	enum exec_op op;

	if (v->cpl)
		return exec_gp(x, 0);
	op = exec_read_operand(x, &value, 2);
	if (op != OP_DONE)
		return op;
	return write_cr0(x, (v->cr0 & ~(uint64_t)(CR0_MP | CR0_EM | CR0_TS)) | (value & (CR0_PE | CR0_MP | CR0_EM | CR0_TS)));
}

enum exec_op op_smsw(struct exec *x)
{
	struct vcpu *v = x->v;

	if (v->cpl && (v->cr4 & CR4_UMIP))
		return exec_gp(x, 0);
	return exec_write_operand(x, v->cr0, x->in->mem.present ? 2 : x->in->opsize);
}

/* DR4 and DR5 are DR6 and DR7 unless CR4.DE forbids them. DR7.GD turns every access into #DB. */
static enum exec_op debug_access(struct exec *x, unsigned *dr)
{
	struct vcpu *v = x->v;

	if (*dr > 7)
		return exec_undefined(x);
	if (v->cpl)
		return exec_gp(x, 0);
	if ((*dr == 4 || *dr == 5) && (v->cr4 & CR4_DE))
		return exec_undefined(x);
	if (v->dr[7] & DR7_GD) {
		x->exc = exc_plain(VEC_DB);
		x->exc.dr6 = DR6_BD;
		return OP_FAULT;
	}
	if (*dr == 4 || *dr == 5)
		*dr += 2;
	return OP_DONE;
}

enum exec_op op_mov_from_dr(struct exec *x)
{
	unsigned dr = x->in->reg2;
	enum exec_op op = debug_access(x, &dr);

	if (op == OP_DONE)
		gpr_set(x->v, x->in->reg, x->v->dr[dr], register_size(x));
	return op;
}

enum exec_op op_mov_to_dr(struct exec *x)
{
	struct vcpu *v = x->v;
	unsigned dr = x->in->reg2;
	uint64_t value = gpr_get(v, x->in->reg, register_size(x));
	enum exec_op op = debug_access(x, &dr);

	if (op != OP_DONE)
		return op;
	if (dr >= 6 && value >> 32)
		return exec_gp(x, 0);
	if (dr == 6)
		value = (value & DR6_WRITABLE) | DR6_RESERVED_ONES;
	else if (dr == 7)
		value = (value & DR7_WRITABLE) | DR7_RESERVED_ONE;
	v->dr[dr] = value;
	return OP_DONE;
}
