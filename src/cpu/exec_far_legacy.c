/*
 * exec_far_legacy.c - far transfers as only real, virtual-8086 and protected mode outside long mode have them: paragraphs, 16- and 32-bit call
 * gates, task gates, returns to virtual-8086 mode. Also the stacks that such transfers switch to.
 * Sources: AMD APM vol. 2, "Control Transfers", "Call Gates", "Virtual-8086 Mode"; vol. 3, "CALL (Far)", "IRET".
 */
#include "cpu/exec_internal.h"

enum exec_op far_paragraph(struct exec *x, uint16_t selector, uint64_t rip, unsigned size, bool call)
{
	struct vcpu *v = x->v;
	enum exec_op op = OP_DONE;

	if (rip > v->seg[SEG_CS].limit)
		return exec_gp(x, 0);
	if (call)
		op = far_push_link(x, size);
	if (op != OP_DONE)
		return op;
	segment_load_paragraph(v, SEG_CS, selector);
	x->next = rip;
	return OP_DONE;
}

enum exec_op far_return_paragraph(struct exec *x, bool iret)
{
	struct vcpu *v = x->v;
	unsigned size = x->in->opsize;
	uint64_t rip, cs, flags = 0, mask = FL_ARITH | FL_TF | FL_IF | FL_DF | FL_NT | FL_AC | FL_ID;
	struct stack s;
	enum exec_op op;

	if (iret && vcpu_vm86(v) && (v->rflags & FL_IOPL) != FL_IOPL)
		return exec_gp(x, 0);
	stack_open(x, &s);
	op = stack_pop(x, &s, &rip, size);
	if (op == OP_DONE)
		op = stack_pop(x, &s, &cs, size);
	if (op == OP_DONE && iret)
		op = stack_pop(x, &s, &flags, size);
	if (op != OP_DONE)
		return op;
	if (rip > v->seg[SEG_CS].limit)
		return exec_gp(x, 0);
	if (!iret && x->in->imm_len)
		s.sp = (s.sp + (uint16_t)x->in->imm) & size_mask(s.size);
	stack_commit(x, &s);
	segment_load_paragraph(v, SEG_CS, (uint16_t)cs);
	x->next = rip;
	if (!iret)
		return OP_DONE;
	if (!vcpu_vm86(v))
		mask |= FL_IOPL;
	v->counters.irets++;
	v->nmi_masked = 0;
	exec_set_flags(v, flags, mask & size_mask(size));
	return OP_DONE;
}

/* Nine doublewords: EIP, CS, EFLAGS were popped; ESP, SS, ES, DS, FS, GS follow. */
enum exec_op iret_to_vm86(struct exec *x, struct stack *s, uint64_t rip, uint16_t cs, uint64_t flags)
{
	static const uint8_t segs[] = { SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	struct vcpu *v = x->v;
	uint64_t esp, selector[ARRAY_LEN(segs)];
	enum exec_op op = stack_pop(x, s, &esp, 4);

	for (size_t i = 0; i < ARRAY_LEN(segs) && op == OP_DONE; i++)
		op = stack_pop(x, s, &selector[i], 4);
	if (op != OP_DONE)
		return op;
	if (rip > 0xffff)
		return exec_gp(x, 0);
	v->counters.irets++;
	v->nmi_masked = 0;
	exec_set_flags(v, flags, FL_LEGAL & ~(uint64_t)FL_RF);
	for (size_t i = 0; i < ARRAY_LEN(segs); i++)
		segment_load_paragraph(v, segs[i], (uint16_t)selector[i]);
	segment_load_paragraph(v, SEG_CS, cs);
	v->cpl = 3;
	v->gpr[RSP] = esp;
	x->next = rip;
	return OP_DONE;
}

/* -- stacks of more privilege ---------------------------------------------------------------------------------------- */

enum exec_op inner_stack_open(struct exec *x, unsigned cpl, uint32_t ext, struct inner_stack *out)
{
	struct vcpu *v = x->v;
	unsigned wide = v->tr.attr & 8 ? 4 : 2, at = wide + 2 * wide * cpl;
	unsigned err;
	uint64_t sp, ss, raw;
	enum vmem_status st;
	enum exec_op op;

	if (!(v->tr.attr & SEG_P) || at + wide + 1 > v->tr.limit)
		return exec_fault(x, exc_error(VEC_TS, (v->tr.selector & ~3u) | ext));
	st = vmem_read_int(v, v->tr.base + at, &sp, wide, VMEM_SYSTEM, &x->exc);
	if (st == VMEM_OK)
		st = vmem_read_int(v, v->tr.base + at + wide, &ss, 2, VMEM_SYSTEM, &x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	err = (ss & ~3u) | ext;
	if (!(ss & ~3u))
		return exec_fault(x, exc_error(VEC_TS, ext));
	op = segment_read_descriptor(x, (uint16_t)ss, VEC_TS, ext, &raw, NULL);
	if (op != OP_DONE)
		return op;
	segment_unpack(raw, &out->ss);
	if ((ss & 3) != cpl || !(out->ss.attr & SEG_S) || (out->ss.attr & 8) || !(out->ss.attr & 2) || SEG_DPL(out->ss.attr) != cpl)
		return exec_fault(x, exc_error(VEC_TS, err));
	if (!(out->ss.attr & SEG_P))
		return exec_fault(x, exc_error(VEC_SS, err));
	out->ss.selector = (uint16_t)ss;
	out->ss.attr |= 1;
	out->s.size = out->ss.attr & SEG_DB ? 4 : 2;
	out->s.sp = sp & size_mask(out->s.size);
	out->cpl = cpl;
	out->ext = ext;
	return segment_set_accessed(x, (uint16_t)ss, raw);
}

enum exec_op inner_stack_push(struct exec *x, struct inner_stack *in, uint64_t value, unsigned size)
{
	struct vcpu *v = x->v;
	uint64_t sp = (in->s.sp - size) & size_mask(in->s.size), la;
	unsigned acc = in->cpl == 3 ? ACC_USER : v->rflags & FL_AC ? ACC_AC : 0;
	enum vmem_status st;

	if (!segment_linear(&in->ss, false, sp, size, true, &la))
		return exec_fault(x, exc_error(VEC_SS, (in->ss.selector & ~3u) | in->ext));
	st = vmem_write_int(v, la, value, size, acc | VMEM_NO_ALIGN, &x->exc);
	if (st == VMEM_OK)
		in->s.sp = sp;
	return exec_of(st);
}

void inner_stack_commit(struct exec *x, const struct inner_stack *in)
{
	x->v->seg[SEG_SS] = in->ss;
	stack_commit(x, &in->s);
}

/* -- gates ------------------------------------------------------------------------------------------------------------ */

/* CALL through a gate into more privilege: SS:ESP, `count` parameters and the link go to the stack that the TSS names. */
static enum exec_op call_inner(struct exec *x, const struct segment *cs, uint16_t selector, uint64_t rip, unsigned size, unsigned count)
{
	struct vcpu *v = x->v;
	unsigned cpl = SEG_DPL(cs->attr);
	uint64_t param[31];
	struct inner_stack in;
	struct stack s;
	enum exec_op op = inner_stack_open(x, cpl, 0, &in);

	if (op != OP_DONE)
		return op;
	if (rip > cs->limit)
		return exec_gp(x, 0);
	stack_open(x, &s);
	for (unsigned i = 0; i < count && op == OP_DONE; i++)
		op = stack_pop(x, &s, &param[i], size);
	if (op == OP_DONE)
		op = inner_stack_push(x, &in, v->seg[SEG_SS].selector, size);
	if (op == OP_DONE)
		op = inner_stack_push(x, &in, v->gpr[RSP] & size_mask(size), size);
	for (unsigned i = count; i-- > 0 && op == OP_DONE;)
		op = inner_stack_push(x, &in, param[i], size);
	if (op == OP_DONE)
		op = inner_stack_push(x, &in, v->seg[SEG_CS].selector, size);
	if (op == OP_DONE)
		op = inner_stack_push(x, &in, x->next & size_mask(size), size);
	if (op != OP_DONE)
		return op;
	inner_stack_commit(x, &in);
	far_set_cs(x, cs, selector, cpl);
	x->next = rip;
	return OP_DONE;
}

static enum exec_op through_call_gate(struct exec *x, uint64_t low, bool call, unsigned size)
{
	struct vcpu *v = x->v;
	uint16_t target = (uint16_t)(low >> 16);
	uint64_t rip = (low & 0xffff) | (size == 4 ? (low >> 32) & 0xffff0000 : 0), raw;
	unsigned err = target & ~3u, dpl;
	struct segment cs;
	enum exec_op op;

	if (!err)
		return exec_gp(x, 0);
	op = segment_read_descriptor(x, target, VEC_GP, 0, &raw, NULL);
	if (op != OP_DONE)
		return op;
	segment_unpack(raw, &cs);
	dpl = SEG_DPL(cs.attr);
	if (!segment_is_code(&cs) || dpl > v->cpl || (!call && !segment_is_conforming(&cs) && dpl != v->cpl))
		return exec_gp(x, err);
	if (!(cs.attr & SEG_P))
		return exec_fault(x, exc_error(VEC_NP, err));
	op = segment_set_accessed(x, target, raw);
	if (op != OP_DONE)
		return op;
	if (call && !segment_is_conforming(&cs) && dpl < v->cpl)
		return call_inner(x, &cs, target, rip, size, (unsigned)(low >> 32) & 31);
	if (rip > cs.limit)
		return exec_gp(x, 0);
	if (call)
		op = far_push_link(x, size);
	if (op != OP_DONE)
		return op;
	far_set_cs(x, &cs, target, v->cpl);
	x->next = rip;
	return OP_DONE;
}

enum exec_op far_system(struct exec *x, uint16_t selector, uint64_t low, bool call)
{
	struct vcpu *v = x->v;
	unsigned dpl = (low >> 45) & 3, err = selector & ~3u, type = (low >> 40) & 15;
	enum task_reason why = call ? TASK_CALL : TASK_JMP;

	switch (type) {
	case DESC_CALL_GATE16: case DESC_CALL_GATE: case DESC_TASK_GATE: case DESC_TSS_AVAILABLE: case DESC_TSS16_AVAILABLE:
		break;
	default:
		return exec_gp(x, err);
	}
	if (dpl < v->cpl || dpl < (selector & 3u))
		return exec_gp(x, err);
	if (!((low >> 47) & 1))
		return exec_fault(x, exc_error(VEC_NP, err));
	switch (type) {
	case DESC_CALL_GATE16: return through_call_gate(x, low, call, 2);
	case DESC_CALL_GATE: return through_call_gate(x, low, call, 4);
	case DESC_TASK_GATE: return task_gate(x, why, low, 0, x->next, false, 0);
	default: return task_switch(x, why, selector, 0, x->next, false, 0);
	}
}
