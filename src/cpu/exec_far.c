/*
 * exec_far.c - far transfers and IRET: to code segments in protected and long mode, through gates in long mode. What long mode does not
 * have is in exec_far_legacy.c.
 * Sources: AMD APM vol. 2, "Long-Mode Control Transfers", "Call Gates in long mode"; vol. 3, "IRET", "RET (Far)".
 */
#include "cpu/exec_internal.h"
#include "cpu/trace.h"

enum { TSS_RSP0 = 4 };

/* L and D together are reserved in long mode; L means nothing elsewhere. */
static bool reserved_code(const struct vcpu *v, const struct segment *s)
{
	return vcpu_long(v) && (s->attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB);
}

/* rip must suit the code segment it goes to. */
static bool rip_fits(const struct vcpu *v, const struct segment *cs, uint64_t rip)
{
	return segment_is_long64(v, cs) ? vcpu_canonical(v, rip) : rip <= cs->limit;
}

void far_set_cs(struct exec *x, const struct segment *cs, uint16_t selector, unsigned cpl)
{
	x->v->seg[SEG_CS] = *cs;
	x->v->seg[SEG_CS].selector = (uint16_t)((selector & ~3u) | cpl);
	x->v->seg[SEG_CS].attr |= 1;
	x->v->cpl = (uint8_t)cpl;
}

/* CALL through a 64-bit gate into more privilege: a stack from the TSS, SS null. */
static enum exec_op call_inner(struct exec *x, const struct segment *cs, uint16_t selector, uint64_t rip)
{
	struct vcpu *v = x->v;
	unsigned cpl = SEG_DPL(cs->attr), offset = TSS_RSP0 + 8 * cpl;
	uint64_t rsp, frame[4] = { x->next, v->seg[SEG_CS].selector, v->gpr[RSP], v->seg[SEG_SS].selector };
	enum vmem_status st;

	if (offset + 7 > v->tr.limit)
		return exec_fault(x, exc_error(VEC_TS, v->tr.selector & ~3u));
	st = vmem_read_int(v, v->tr.base + offset, &rsp, 8, VMEM_SYSTEM, &x->exc);
	if (st == VMEM_OK)
		st = vmem_write(v, rsp - sizeof(frame), frame, sizeof(frame), (v->rflags & FL_AC ? ACC_AC : 0) | VMEM_STACK | VMEM_NO_ALIGN,
				&x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	v->seg[SEG_SS].selector = (uint16_t)cpl;
	v->seg[SEG_SS].attr = (uint16_t)(cpl << 5);
	v->seg[SEG_SS].limit = 0;
	v->gpr[RSP] = rsp - sizeof(frame);
	far_set_cs(x, cs, selector, cpl);
	x->next = rip;
	return OP_DONE;
}

enum exec_op far_push_link(struct exec *x, unsigned size)
{
	struct stack s;
	enum exec_op op;

	stack_open(x, &s);
	op = stack_push(x, &s, x->v->seg[SEG_CS].selector, size);
	if (op == OP_DONE)
		op = stack_push(x, &s, x->next, size);
	if (op == OP_DONE)
		stack_commit(x, &s);
	return op;
}

static enum exec_op through_gate(struct exec *x, uint16_t selector, uint64_t low, uint64_t high, bool call)
{
	struct vcpu *v = x->v;
	unsigned dpl = (low >> 45) & 3, err = selector & ~3u;
	uint16_t target = (uint16_t)(low >> 16);
	uint64_t rip = (low & 0xffff) | ((low >> 32) & 0xffff0000) | high << 32, raw;
	struct segment cs;
	enum exec_op op;

	if (dpl < v->cpl || dpl < (selector & 3u) || (high >> 40 & 31))
		return exec_gp(x, err);
	if (!((low >> 47) & 1))
		return exec_fault(x, exc_error(VEC_NP, err));
	if (!(target & ~3u))
		return exec_gp(x, 0);
	err = target & ~3u;
	op = segment_read_descriptor(x, target, VEC_GP, 0, &raw, NULL);
	if (op != OP_DONE)
		return op;
	segment_unpack(raw, &cs);
	if (!segment_is_code(&cs) || !segment_is_long64(v, &cs) || SEG_DPL(cs.attr) > v->cpl ||
	    (!call && !segment_is_conforming(&cs) && SEG_DPL(cs.attr) != v->cpl))
		return exec_gp(x, err);
	if (!(cs.attr & SEG_P))
		return exec_fault(x, exc_error(VEC_NP, err));
	if (!vcpu_canonical(v, rip))
		return exec_gp(x, 0);
	op = segment_set_accessed(x, target, raw);
	if (op != OP_DONE)
		return op;
	if (call && !segment_is_conforming(&cs) && SEG_DPL(cs.attr) < v->cpl)
		return call_inner(x, &cs, target, rip);
	if (call) {
		op = far_push_link(x, 8);
		if (op != OP_DONE)
			return op;
	}
	far_set_cs(x, &cs, target, v->cpl);
	x->next = rip;
	return OP_DONE;
}

static enum exec_op go_far(struct exec *x, bool call)
{
	struct vcpu *v = x->v;
	const struct insn *in = x->in;
	unsigned size = in->opsize;
	uint16_t selector;
	uint64_t rip, low, high;
	struct segment cs;
	unsigned err, dpl;
	enum exec_op op;

	if (in->mem.present) {
		/* The offset in memory is narrower than what is pushed when REX.W is there (x86/insn.c). */
		op = exec_read_far_pointer(x, in->mem.size - 2u, &rip, &selector);
		if (op != OP_DONE)
			return op;
	} else {
		const uint8_t *pointer = in->bytes + in->len - size - 2;

		rip = size == 2 ? load_u16(pointer) : load_u32(pointer);
		selector = load_u16(pointer + size);
	}
	if (vcpu_paragraphs(v))
		return far_paragraph(x, selector, rip, size, call);
	err = selector & ~3u;
	if (!err)
		return exec_gp(x, 0);
	op = segment_read_descriptor(x, selector, VEC_GP, 0, &low, NULL);
	if (op != OP_DONE)
		return op;
	segment_unpack(low, &cs);
	dpl = SEG_DPL(cs.attr);
	if (!(cs.attr & SEG_S)) {
		if (!vcpu_long(v))
			return far_system(x, selector, low, call);
		if ((cs.attr & SEG_TYPE) != DESC_CALL_GATE)
			return exec_gp(x, err);
		op = segment_read_descriptor(x, selector, VEC_GP, 0, &low, &high);
		return op == OP_DONE ? through_gate(x, selector, low, high, call) : op;
	}
	if (!segment_is_code(&cs) || reserved_code(v, &cs))
		return exec_gp(x, err);
	if (segment_is_conforming(&cs) ? dpl > v->cpl : (selector & 3u) > v->cpl || dpl != v->cpl)
		return exec_gp(x, err);
	if (!(cs.attr & SEG_P))
		return exec_fault(x, exc_error(VEC_NP, err));
	if (!rip_fits(v, &cs, rip))
		return exec_gp(x, 0);
	op = segment_set_accessed(x, selector, low);
	if (op == OP_DONE && call)
		op = far_push_link(x, size);
	if (op != OP_DONE)
		return op;
	far_set_cs(x, &cs, selector, v->cpl);
	x->next = rip;
	return OP_DONE;
}

enum exec_op op_jmp_far(struct exec *x) { return go_far(x, false); }
enum exec_op op_call_far(struct exec *x) { return go_far(x, true); }

/* The code segment of a return: RPL says the new privilege, never a higher one. */
static enum exec_op return_code(struct exec *x, uint16_t selector, struct segment *cs)
{
	unsigned err = selector & ~3u, rpl = selector & 3u;
	uint64_t raw;
	enum exec_op op;

	if (!err)
		return exec_gp(x, 0);
	op = segment_read_descriptor(x, selector, VEC_GP, 0, &raw, NULL);
	if (op != OP_DONE)
		return op;
	segment_unpack(raw, cs);
	if (!segment_is_code(cs) || rpl < x->v->cpl || reserved_code(x->v, cs) ||
	    (segment_is_conforming(cs) ? SEG_DPL(cs->attr) > rpl : SEG_DPL(cs->attr) != rpl))
		return exec_gp(x, err);
	if (!(cs->attr & SEG_P))
		return exec_fault(x, exc_error(VEC_NP, err));
	return segment_set_accessed(x, selector, raw);
}

static enum exec_op return_stack(struct exec *x, uint16_t selector, unsigned rpl, bool to_long64, struct segment *ss)
{
	unsigned err = selector & ~3u;
	uint64_t raw;
	enum exec_op op;

	if (!err) {
		if (!to_long64 || rpl == 3 || (selector & 3u) != rpl)
			return exec_gp(x, 0);
		ss->base = 0;
		ss->limit = 0;
		ss->attr = (uint16_t)(rpl << 5);
		return OP_DONE;
	}
	op = segment_read_descriptor(x, selector, VEC_GP, 0, &raw, NULL);
	if (op != OP_DONE)
		return op;
	segment_unpack(raw, ss);
	if ((selector & 3u) != rpl || !(ss->attr & SEG_S) || (ss->attr & 8) || !(ss->attr & 2) || SEG_DPL(ss->attr) != rpl)
		return exec_gp(x, err);
	if (!(ss->attr & SEG_P))
		return exec_fault(x, exc_error(VEC_SS, err));
	ss->attr |= 1;
	return segment_set_accessed(x, selector, raw);
}

/*
 * Data segments too privileged for the new CPL become null ("Data Segment Registers and outer returns"), and null selectors lose their RPL, as silicon has it
 * (the manuals are silent). Bases stay.
 */
static void drop_inner_segments(struct vcpu *v)
{
	static const uint8_t segs[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };

	for (size_t i = 0; i < ARRAY_LEN(segs); i++) {
		struct segment *s = &v->seg[segs[i]];

		if (!(s->attr & SEG_P)) {
			s->selector = 0;
		} else if ((s->attr & 0xc) != 0xc && SEG_DPL(s->attr) < v->cpl) {
			s->selector = 0;
			s->attr = 0;
		}
	}
}

/* The common end of RET FAR and IRET. `stack_words`: SS:RSP were popped (rsp, ss_selector). */
static enum exec_op far_return(struct exec *x, uint64_t rip, uint16_t cs_selector, struct stack *s, bool stack_words, uint64_t rsp,
			       uint16_t ss_selector)
{
	struct vcpu *v = x->v;
	struct segment cs, ss;
	unsigned rpl = cs_selector & 3u;
	bool outer;
	enum exec_op op = return_code(x, cs_selector, &cs);

	if (op != OP_DONE)
		return op;
	outer = rpl > v->cpl;
	if (!rip_fits(v, &cs, rip))
		return exec_gp(x, 0);
	if (stack_words) {
		op = return_stack(x, ss_selector, rpl, segment_is_long64(v, &cs), &ss);
		if (op != OP_DONE)
			return op;
	}
	far_set_cs(x, &cs, cs_selector, rpl);
	if (stack_words) {
		v->seg[SEG_SS] = ss;
		v->seg[SEG_SS].selector = ss_selector;
		if (segment_is_long64(v, &cs))
			v->gpr[RSP] = rsp;
		else
			gpr_set(v, RSP, rsp, ss.attr & SEG_DB ? 4 : 2);
	} else {
		stack_commit(x, s);
	}
	if (outer)
		drop_inner_segments(v);
	x->next = rip;
	return OP_DONE;
}

enum exec_op op_ret_far(struct exec *x)
{
	unsigned size = x->in->opsize, release = x->in->imm_len ? (uint16_t)x->in->imm : 0;
	uint64_t rip, cs, rsp = 0, ss = 0;
	bool outer = false;
	struct stack s;
	enum exec_op op;

	if (vcpu_paragraphs(x->v))
		return far_return_paragraph(x, false);
	stack_open(x, &s);
	op = stack_pop(x, &s, &rip, size);
	if (op == OP_DONE)
		op = stack_pop(x, &s, &cs, size);
	if (op != OP_DONE)
		return op;
	s.sp = (s.sp + release) & size_mask(s.size);
	outer = (cs & 3) > x->v->cpl;
	if (outer) {
		op = stack_pop(x, &s, &rsp, size);
		if (op == OP_DONE)
			op = stack_pop(x, &s, &ss, size);
		if (op != OP_DONE)
			return op;
		rsp += release;
	}
	return far_return(x, rip, (uint16_t)cs, &s, outer, rsp, (uint16_t)ss);
}

/* IRET with NT: back to the task that the TSS links to. */
static enum exec_op task_return(struct exec *x)
{
	uint64_t link;
	enum vmem_status st = vmem_read_int(x->v, x->v->tr.base, &link, 2, VMEM_SYSTEM, &x->exc);

	return st == VMEM_OK ? task_switch(x, TASK_IRET, (uint16_t)link, 0, x->next, false, 0) : exec_of(st);
}

enum exec_op op_iret(struct exec *x)
{
	struct vcpu *v = x->v;
	unsigned size = x->in->opsize, old_cpl = v->cpl;
	uint64_t frame = v->gpr[RSP], rip, cs, flags, rsp = 0, ss = 0, mask = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID;
	bool with_stack;
	struct stack s;
	enum exec_op op;

	if (UNLIKELY(vcpu_paragraphs(v)))
		return far_return_paragraph(x, true);
	if (UNLIKELY(v->rflags & FL_NT))
		return vcpu_long(v) ? exec_gp(x, 0) : task_return(x);
	if (old_cpl == 0)
		mask |= FL_IOPL | FL_VIF | FL_VIP;
	if (old_cpl <= ((v->rflags & FL_IOPL) >> 12))
		mask |= FL_IF;
	stack_open(x, &s);
	op = stack_pop(x, &s, &rip, size);
	if (op == OP_DONE)
		op = stack_pop(x, &s, &cs, size);
	if (op == OP_DONE)
		op = stack_pop(x, &s, &flags, size);
	if (op != OP_DONE)
		return op;
	if (UNLIKELY(flags & FL_VM) && size == 4 && !old_cpl && !vcpu_long(v))
		return iret_to_vm86(x, &s, rip, (uint16_t)cs, flags);
	with_stack = vcpu_long64(v) || (cs & 3) > old_cpl;
	if (with_stack) {
		op = stack_pop(x, &s, &rsp, size);
		if (op == OP_DONE)
			op = stack_pop(x, &s, &ss, size);
		if (op != OP_DONE)
			return op;
	}
	op = far_return(x, rip, (uint16_t)cs, &s, with_stack, rsp, (uint16_t)ss);
	if (op != OP_DONE)
		return op;
	v->counters.irets++;
	v->nmi_masked = 0;
	exec_set_flags(v, flags, mask & size_mask(size));
	/* RF only means something to breakpoints. */
	v->rflags &= ~(uint64_t)FL_RF;
	if (UNLIKELY(v->dr[7] & 0xff) && size >= 4 && (flags & FL_RF)) {
		v->rflags |= FL_RF;
		x->keep_rf = true;
	}
	if (vcpu_traced(v))
		vcpu_trace_return(v, x->next, frame);
	return OP_DONE;
}
