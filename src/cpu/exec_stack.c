/* exec_stack.c - explicit pushes and pops. RSP moves only when the whole instruction succeeds. */
#include "cpu/exec_internal.h"

enum exec_op op_push(struct exec *x)
{
	const struct insn *in = x->in;
	struct stack s;
	uint64_t value;
	enum exec_op op = OP_DONE;

	if (in->sreg != INSN_NO_REG)
		value = x->v->seg[in->sreg].selector;
	else if (in->mem.present)
		op = exec_read_mem(x, in->mem.seg, exec_ea(x), &value, in->opsize);
	else if (in->imm_len)
		value = (uint64_t)in->imm;
	else
		value = gpr_get(x->v, in->reg, in->opsize);
	if (op != OP_DONE)
		return op;
	stack_open(x, &s);
	op = stack_push(x, &s, value & size_mask(in->opsize), in->opsize);
	if (op == OP_DONE)
		stack_commit(x, &s);
	return op;
}

enum exec_op op_pop(struct exec *x)
{
	const struct insn *in = x->in;
	struct vcpu *v = x->v;
	struct stack s;
	uint64_t value, rsp = v->gpr[RSP];
	enum exec_op op;

	stack_open(x, &s);
	op = stack_pop(x, &s, &value, in->opsize);
	if (op != OP_DONE)
		return op;
	if (in->sreg != INSN_NO_REG) {
		op = segment_load(x, in->sreg, (uint16_t)value);
		if (op == OP_DONE)
			stack_commit(x, &s);
		if (op == OP_DONE && in->sreg == SEG_SS)
			v->inhibit = INHIBIT_MOV_SS;
		return op;
	}
	/* An address based on RSP uses the incremented one; POP RSP itself gets the value. */
	stack_commit(x, &s);
	if (!in->mem.present) {
		gpr_set(v, in->reg, value, in->opsize);
		return OP_DONE;
	}
	op = exec_write_mem(x, in->mem.seg, exec_ea(x), value, in->opsize);
	if (op != OP_DONE)
		v->gpr[RSP] = rsp;
	return op;
}

#define FL_PUSHED (~(uint64_t)(FL_VM | FL_RF))

/* Virtual-8086 mode needs IOPL 3 for PUSHF, POPF (and CLI, STI, INT n, IRET); there are no virtual-mode extensions. */
static bool iopl_denies(const struct vcpu *v) { return vcpu_vm86(v) && (v->rflags & FL_IOPL) != FL_IOPL; }

enum exec_op op_pushf(struct exec *x)
{
	struct stack s;
	enum exec_op op;

	if (iopl_denies(x->v))
		return exec_gp(x, 0);
	stack_open(x, &s);
	op = stack_push(x, &s, x->v->rflags & FL_PUSHED & size_mask(x->in->opsize), x->in->opsize);
	if (op == OP_DONE)
		stack_commit(x, &s);
	return op;
}

/* AMD APM vol. 3, "POPF": IOPL needs CPL 0, IF needs CPL <= IOPL; VM, VIF and VIP do not change, RF is cleared. */
enum exec_op op_popf(struct exec *x)
{
	struct vcpu *v = x->v;
	uint64_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID, value;
	struct stack s;
	enum exec_op op;

	if (iopl_denies(v))
		return exec_gp(x, 0);
	if (v->cpl == 0)
		mask |= FL_IOPL;
	if (v->cpl <= ((v->rflags & FL_IOPL) >> 12))
		mask |= FL_IF;
	stack_open(x, &s);
	op = stack_pop(x, &s, &value, x->in->opsize);
	if (op != OP_DONE)
		return op;
	stack_commit(x, &s);
	exec_set_flags(v, value, mask & size_mask(x->in->opsize));
	return OP_DONE;
}

/* AMD APM vol. 3, "ENTER". */
enum exec_op op_enter(struct exec *x)
{
	struct vcpu *v = x->v;
	unsigned size = x->in->opsize, level = (unsigned)x->in->imm2 & 31;
	uint64_t frame, link, bp;
	struct stack s;
	enum exec_op op;

	stack_open(x, &s);
	op = stack_push(x, &s, gpr_get(v, RBP, size), size);
	if (op != OP_DONE)
		return op;
	frame = s.size == 2 ? (v->gpr[RSP] & ~0xffffull) | s.sp : s.sp;
	bp = gpr_get(v, RBP, s.size);
	for (unsigned i = 1; i < level; i++) {
		bp = (bp - size) & size_mask(s.size);
		op = exec_read_mem(x, SEG_SS, bp, &link, size);
		if (op == OP_DONE)
			op = stack_push(x, &s, link, size);
		if (op != OP_DONE)
			return op;
	}
	if (level) {
		op = stack_push(x, &s, frame & size_mask(size), size);
		if (op != OP_DONE)
			return op;
	}
	s.sp = (s.sp - (uint16_t)x->in->imm) & size_mask(s.size);
	/* The new top must be writable: the processor touches it. */
	{
		uint64_t la;
		struct vmem_span span;
		enum vmem_status st;

		if (!exec_linear(x, SEG_SS, s.sp, size, true, &la))
			return OP_FAULT;
		st = vmem_map(v, la, size, exec_acc(x, SEG_SS) | ACC_WRITE, &span, &x->exc);
		if (st != VMEM_OK)
			return exec_of(st);
	}
	gpr_set(v, RBP, frame, size);
	stack_commit(x, &s);
	return OP_DONE;
}

enum exec_op op_leave(struct exec *x)
{
	struct vcpu *v = x->v;
	struct stack s;
	uint64_t value;
	enum exec_op op;

	stack_open(x, &s);
	s.sp = gpr_get(v, RBP, s.size);
	op = stack_pop(x, &s, &value, x->in->opsize);
	if (op != OP_DONE)
		return op;
	stack_commit(x, &s);
	gpr_set(v, RBP, value, x->in->opsize);
	return OP_DONE;
}

enum exec_op op_pusha(struct exec *x)
{
	unsigned size = x->in->opsize;
	uint64_t sp = gpr_get(x->v, RSP, size);
	struct stack s;

	stack_open(x, &s);
	for (unsigned r = RAX; r <= RDI; r++) {
		enum exec_op op = stack_push(x, &s, r == RSP ? sp : gpr_get(x->v, r, size), size);

		if (op != OP_DONE)
			return op;
	}
	stack_commit(x, &s);
	return OP_DONE;
}

enum exec_op op_popa(struct exec *x)
{
	unsigned size = x->in->opsize;
	uint64_t value[8];
	struct stack s;

	stack_open(x, &s);
	for (int r = RDI; r >= RAX; r--) {
		enum exec_op op = stack_pop(x, &s, &value[r], size);

		if (op != OP_DONE)
			return op;
	}
	stack_commit(x, &s);
	for (int r = RDI; r >= RAX; r--)
		if (r != RSP)
			gpr_set(x->v, (unsigned)r, value[r], size);
	return OP_DONE;
}
