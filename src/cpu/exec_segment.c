/*
 * exec_segment.c - instructions on segment and descriptor-table registers.
 * Source: AMD APM vol. 3, "System Instruction Reference"; Intel SDM vol. 2 for UMIP.
 */
#include "cpu/exec_internal.h"

/*
 * Outside protected mode, and in virtual-8086 mode, there is no LDT, no TSS and nothing to look at: these instructions do not exist.
 */
static bool no_descriptors(const struct vcpu *v) { return vcpu_paragraphs(v); }

/* CR4.UMIP hides table registers from user mode. */
static bool umip_denies(const struct vcpu *v) { return v->cpl && (v->cr4 & CR4_UMIP); }

enum exec_op op_store_table(struct exec *x)
{
	struct vcpu *v = x->v;
	const struct table_reg *t = x->in->cls == INSN_SGDT ? &v->gdtr : &v->idtr;
	unsigned len = vcpu_long64(v) ? 10 : 6;
	uint8_t image[10];
	struct vmem_span span;
	enum vmem_status st;
	uint64_t la;

	if (umip_denies(v))
		return exec_gp(x, 0);
	store_u16(image, t->limit);
	store_u64(image + 2, t->base);
	if (!exec_linear(x, x->in->mem.seg, exec_ea(x), len, true, &la))
		return OP_FAULT;
	/* Alignment checking looks at where the base goes. */
	st = vmem_map(v, la + 2, len - 2, exec_acc(x, x->in->mem.seg) | ACC_WRITE, &span, &x->exc);
	if (st == VMEM_OK)
		st = vmem_write(v, la, image, len, exec_acc(x, x->in->mem.seg) | VMEM_NO_ALIGN, &x->exc);
	return exec_of(st);
}

enum exec_op op_load_table(struct exec *x)
{
	struct vcpu *v = x->v;
	struct table_reg *t = x->in->cls == INSN_LGDT ? &v->gdtr : &v->idtr;
	uint8_t image[10] = { 0 };
	uint64_t base;
	enum exec_op op;

	if (v->cpl)
		return exec_gp(x, 0);
	op = exec_read_bytes(x, x->in->mem.seg, exec_ea(x), image, vcpu_long64(v) ? 10 : 6);
	if (op != OP_DONE)
		return op;
	base = load_u64(image + 2);
	if (!vcpu_long64(v) && x->in->opsize == 2)
		base &= 0xffffff;
	if (!cpu_canonical(v, base))
		return exec_gp(x, 0);
	t->limit = load_u16(image);
	t->base = base;
	return OP_DONE;
}

enum exec_op op_sldt_str(struct exec *x)
{
	struct vcpu *v = x->v;

	if (no_descriptors(v))
		return exec_undefined(x);
	if (umip_denies(v))
		return exec_gp(x, 0);
	return exec_write_operand(x, x->in->cls == INSN_STR ? v->tr.selector : v->ldtr.selector, x->in->mem.present ? 2 : x->in->opsize);
}

/* LDT and TSS descriptors are 16 bytes in long mode, where no 16-bit TSS exists. */
static enum exec_op load_system(struct exec *x, uint16_t selector, unsigned type, struct segment *s)
{
	unsigned err = selector & ~3u, found;
	uint64_t low, high = 0;
	enum exec_op op;

	if (selector & 4)
		return exec_gp(x, err);
	op = segment_read_descriptor(x, selector, VEC_GP, 0, &low, vcpu_long(x->v) ? &high : NULL);
	if (op != OP_DONE)
		return op;
	segment_unpack(low, s);
	s->base |= high << 32;
	found = s->attr & (SEG_S | SEG_TYPE);
	if ((found != type && (vcpu_long(x->v) || type == DESC_LDT || found != DESC_TSS16_AVAILABLE)) || (high >> 40 & 31))
		return exec_gp(x, err);
	if (!(s->attr & SEG_P))
		return exec_fault(x, exc_error(VEC_NP, err));
	if (!cpu_canonical(x->v, s->base))
		return exec_gp(x, err);
	s->selector = selector;
	return OP_DONE;
}

/* The operand of LLDT and LTR, which are for ring 0. */
static enum exec_op system_selector(struct exec *x, uint64_t *selector)
{
	if (no_descriptors(x->v))
		return exec_undefined(x);
	if (x->v->cpl)
		return exec_gp(x, 0);
	return exec_read_operand(x, selector, 2);
}

enum exec_op op_lldt(struct exec *x)
{
	struct vcpu *v = x->v;
	struct segment s;
	uint64_t selector;
	enum exec_op op = system_selector(x, &selector);

	if (op != OP_DONE)
		return op;
	if (!(selector & ~3u)) {
		v->ldtr.selector = (uint16_t)selector;
		v->ldtr.attr = 0;
		return OP_DONE;
	}
	op = load_system(x, (uint16_t)selector, DESC_LDT, &s);
	if (op == OP_DONE)
		v->ldtr = s;
	return op;
}

enum exec_op op_ltr(struct exec *x)
{
	struct vcpu *v = x->v;
	struct segment s;
	uint64_t selector;
	enum vmem_status st;
	enum exec_op op = system_selector(x, &selector);

	if (op != OP_DONE)
		return op;
	if (!(selector & ~3u))
		return exec_gp(x, 0);
	op = load_system(x, (uint16_t)selector, DESC_TSS_AVAILABLE, &s);
	if (op != OP_DONE)
		return op;
	s.attr |= 2; /* busy */
	st = vmem_write_int(v, v->gdtr.base + (selector & ~7ull) + 5, s.attr & 0xff, 1, VMEM_SYSTEM, &x->exc);
	if (st == VMEM_OK)
		v->tr = s;
	return exec_of(st);
}

/*
 * LAR, LSL, VERR, VERW look at a descriptor without faulting: *found says whether it exists, is of a kind that `system_types`
 * (a bit set of types) or being code or data allows, and is visible at this privilege.
 */
static enum exec_op look(struct exec *x, uint16_t selector, unsigned system_types, struct segment *s, bool *found, uint64_t *raw)
{
	struct vcpu *v = x->v;
	enum exec_op op;

	*found = false;
	if (!(selector & ~3u))
		return OP_DONE;
	{
		uint64_t limit = selector & 4 ? (v->ldtr.attr & SEG_P ? v->ldtr.limit : 0) : v->gdtr.limit;

		if ((selector | 7u) > limit)
			return OP_DONE;
	}
	op = segment_read_descriptor(x, selector, VEC_GP, 0, raw, NULL);
	if (op != OP_DONE)
		return op;
	segment_unpack(*raw, s);
	if (!(s->attr & SEG_S) && !(system_types >> (s->attr & SEG_TYPE) & 1))
		return OP_DONE;
	/* conforming code is visible to all */
	if ((s->attr & (SEG_S | 0xc)) != (SEG_S | 0xc) && (SEG_DPL(s->attr) < v->cpl || SEG_DPL(s->attr) < (selector & 3u)))
		return OP_DONE;
	*found = true;
	return OP_DONE;
}

static void set_zf(struct vcpu *v, bool on)
{
	v->rflags = on ? v->rflags | FL_ZF : v->rflags & ~(uint64_t)FL_ZF;
}

enum exec_op op_lar_lsl(struct exec *x)
{
	bool lar = x->in->cls == INSN_LAR, found;
	unsigned types = 1u << DESC_LDT | 1u << DESC_TSS_AVAILABLE | 1u << DESC_TSS_BUSY | (lar ? 1u << DESC_CALL_GATE : 0);
	struct segment s;
	uint64_t selector, raw;
	enum exec_op op;

	if (no_descriptors(x->v))
		return exec_undefined(x);
	if (!vcpu_long(x->v))
		types |= 1u << DESC_TSS16_AVAILABLE | 1u << DESC_TSS16_BUSY | (lar ? 1u << DESC_CALL_GATE16 | 1u << DESC_TASK_GATE : 0);
	op = exec_read_operand(x, &selector, 2);
	if (op == OP_DONE)
		op = look(x, (uint16_t)selector, types, &s, &found, &raw);
	if (op != OP_DONE)
		return op;
	if (found)
		gpr_set(x->v, x->in->reg, lar ? (raw >> 32) & 0xffff00 : s.limit, x->in->opsize);
	set_zf(x->v, found);
	return OP_DONE;
}

enum exec_op op_verr_verw(struct exec *x)
{
	bool write = x->in->cls == INSN_VERW, found;
	struct segment s;
	uint64_t selector, raw;
	enum exec_op op;

	if (no_descriptors(x->v))
		return exec_undefined(x);
	op = exec_read_operand(x, &selector, 2);
	if (op == OP_DONE)
		op = look(x, (uint16_t)selector, 0, &s, &found, &raw);
	if (op != OP_DONE)
		return op;
	if (found && write)
		found = !(s.attr & 8) && (s.attr & 2);
	else if (found)
		found = !(s.attr & 8) || (s.attr & 2);
	set_zf(x->v, found);
	return OP_DONE;
}

/* The operand must be writable, whatever comes of it ("ARPL": "#GP: in a non-writable segment"). */
enum exec_op op_arpl(struct exec *x)
{
	const struct insn *in = x->in;
	unsigned src = (unsigned)x->v->gpr[in->mem.present ? in->reg : (in->modrm >> 3) & 7] & 3;
	enum exec_op op;
	uint64_t dest;
	bool adjusted;

	if (no_descriptors(x->v))
		return exec_undefined(x);
	if (in->mem.present) {
		struct vmem_span span;
		uint64_t la;

		if (!exec_linear(x, in->mem.seg, exec_ea(x), 2, true, &la))
			return OP_FAULT;
		op = exec_of(vmem_map(x->v, la, 2, exec_acc(x, in->mem.seg) | ACC_READ | ACC_WRITE, &span, &x->exc));
		if (op != OP_DONE)
			return op;
	}
	op = exec_read_operand(x, &dest, 2);
	if (op != OP_DONE)
		return op;
	adjusted = (dest & 3) < src;
	if (adjusted) {
		op = exec_write_operand(x, (dest & ~3ull) | src, 2);
		if (op != OP_DONE)
			return op;
	}
	set_zf(x->v, adjusted);
	return OP_DONE;
}

enum exec_op op_mov_from_seg(struct exec *x)
{
	return exec_write_operand(x, x->v->seg[x->in->sreg].selector, x->in->mem.present ? 2 : x->in->opsize);
}

enum exec_op op_mov_to_seg(struct exec *x)
{
	uint64_t selector;
	enum exec_op op;

	if (x->in->sreg == SEG_CS)
		return exec_undefined(x);
	op = exec_read_operand(x, &selector, 2);
	if (op == OP_DONE)
		op = segment_load(x, x->in->sreg, (uint16_t)selector);
	if (op == OP_DONE && x->in->sreg == SEG_SS)
		x->v->inhibit = INHIBIT_MOV_SS;
	return op;
}

enum exec_op op_load_far(struct exec *x)
{
	const struct insn *in = x->in;
	uint16_t selector;
	uint64_t offset;
	enum exec_op op = exec_read_far_pointer(x, in->opsize, &offset, &selector);
	unsigned seg;

	if (op != OP_DONE)
		return op;
	/* LSS 0F B2, LFS 0F B4, LGS 0F B5, LES C4, LDS C5 */
	seg = in->map == 1 ? (in->opcode == 0xb2 ? SEG_SS : in->opcode == 0xb4 ? SEG_FS : SEG_GS) : in->opcode == 0xc4 ? SEG_ES : SEG_DS;
	op = segment_load(x, seg, selector);
	if (op == OP_DONE)
		gpr_set(x->v, in->reg, offset, in->opsize);
	return op;
}
