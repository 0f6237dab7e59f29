/* exec_branch.c - near control transfers and the software interrupts. AMD APM vol. 3, "General-Purpose Instruction Reference". */
#include "cpu/debug.h"
#include "cpu/exec_internal.h"

bool exec_branch_target(struct exec *x, uint64_t target)
{
	struct vcpu *v = x->v;

	if (LIKELY(vcpu_long64(v))) {
		if (UNLIKELY(x->in->opsize == 2))
			target &= size_mask(2);
		if (UNLIKELY(!vcpu_canonical(v, target)))
			goto fault;
		x->next = target;
		return true;
	}
	target &= size_mask(x->in->opsize < 4 ? 2 : 4);
	if (target > v->seg[SEG_CS].limit)
		goto fault;
	x->next = target;
	return true;
fault:
	x->exc = exc_gp(0);
	return false;
}

static bool condition(uint64_t flags, unsigned cc)
{
	bool r = false;

	switch (cc >> 1) {
	case 0: r = flags & FL_OF; break;
	case 1: r = flags & FL_CF; break;
	case 2: r = flags & FL_ZF; break;
	case 3: r = flags & (FL_CF | FL_ZF); break;
	case 4: r = flags & FL_SF; break;
	case 5: r = flags & FL_PF; break;
	case 6: r = !(flags & FL_SF) != !(flags & FL_OF); break;
	case 7: r = (flags & FL_ZF) || !(flags & FL_SF) != !(flags & FL_OF); break;
	}
	return r != (cc & 1);
}

static enum exec_op jump_relative(struct exec *x)
{
	return exec_branch_target(x, x->next + (uint64_t)x->in->imm) ? OP_DONE : OP_FAULT;
}

enum exec_op op_jcc(struct exec *x)
{
	return condition(x->v->rflags, x->in->cc) ? jump_relative(x) : OP_DONE;
}

enum exec_op op_jmp(struct exec *x) { return jump_relative(x); }

enum exec_op op_loop(struct exec *x)
{
	struct vcpu *v = x->v;
	unsigned size = x->in->addrsize;
	uint64_t count = gpr_get(v, RCX, size);
	enum exec_op op = OP_DONE;
	bool taken;

	if (x->in->cc == 3) /* JrCXZ */
		return count ? OP_DONE : jump_relative(x);
	count = (count - 1) & size_mask(size);
	taken = count != 0;
	if (x->in->cc != 2) /* LOOPNE 0, LOOPE 1 */
		taken = taken && !(v->rflags & FL_ZF) == !x->in->cc;
	if (taken)
		op = jump_relative(x);
	if (op == OP_DONE)
		gpr_set(v, RCX, count, size);
	return op;
}

/* Reads the target operand of an indirect jump or call. */
static enum exec_op read_target(struct exec *x, uint64_t *target)
{
	return exec_read_operand(x, target, x->in->opsize);
}

enum exec_op op_jmp_ind(struct exec *x)
{
	uint64_t target;
	enum exec_op op = read_target(x, &target);

	if (op != OP_DONE)
		return op;
	return exec_branch_target(x, target) ? OP_DONE : OP_FAULT;
}

/* A target that must #GP (x->exc says so): a page fault or a misaligned one of the push would come before it, but nothing is pushed. */
static enum exec_op bad_call(struct exec *x)
{
	struct exception exc = x->exc, push;
	unsigned size = x->in->opsize;
	struct vmem_span span;
	struct stack s;

	stack_open(x, &s);
	if (vcpu_long64(x->v) &&
	    vmem_map(x->v, s.sp - size, size, exec_acc(x, SEG_SS) | ACC_WRITE, &span, &push) == VMEM_FAULT && (push.vector == VEC_PF || push.vector == VEC_AC))
		exc = push;
	return exec_fault(x, exc);
}

static enum exec_op call_to(struct exec *x, uint64_t target)
{
	uint64_t link = x->next;
	struct stack s;
	enum exec_op op;

	if (!exec_branch_target(x, target))
		return bad_call(x);
	stack_open(x, &s);
	op = stack_push(x, &s, link, x->in->opsize);
	if (op == OP_DONE)
		stack_commit(x, &s);
	return op;
}

enum exec_op op_call(struct exec *x) { return call_to(x, x->next + (uint64_t)x->in->imm); }

enum exec_op op_call_ind(struct exec *x)
{
	uint64_t target;
	enum exec_op op = read_target(x, &target);

	return op == OP_DONE ? call_to(x, target) : op;
}

enum exec_op op_ret(struct exec *x)
{
	uint64_t target;
	struct stack s;
	enum exec_op op;

	stack_open(x, &s);
	op = stack_pop(x, &s, &target, x->in->opsize);
	if (op != OP_DONE)
		return op;
	if (!exec_branch_target(x, target))
		return OP_FAULT;
	if (x->in->imm_len)
		s.sp = (s.sp + (uint16_t)x->in->imm) & size_mask(s.size);
	stack_commit(x, &s);
	return OP_DONE;
}

static enum exec_op software_interrupt(struct exec *x, enum event_kind kind, uint8_t vector)
{
	x->tf = false;
	return deliver_event(x, kind, vector, false, 0, x->next, x->v->rflags & ~(uint64_t)FL_RF);
}

/* INT n alone looks at IOPL in virtual-8086 mode; INT3, INTO and INT1 do not. */
enum exec_op op_int(struct exec *x)
{
	if (vcpu_vm86(x->v) && (x->v->rflags & FL_IOPL) != FL_IOPL)
		return exec_gp(x, 0);
	return software_interrupt(x, EVENT_SOFT, (uint8_t)x->in->imm);
}
enum exec_op op_int3(struct exec *x) { return software_interrupt(x, EVENT_SOFT, VEC_BP); }
enum exec_op op_int1(struct exec *x) { return software_interrupt(x, EVENT_ICEBP, VEC_DB); }

enum exec_op op_into(struct exec *x)
{
	return x->v->rflags & FL_OF ? software_interrupt(x, EVENT_SOFT, VEC_OF) : OP_DONE;
}

enum exec_op op_bound(struct exec *x)
{
	unsigned size = x->in->opsize;
	uint64_t low, high, ea = exec_ea(x);
	int64_t index = sign_extend(gpr_get(x->v, x->in->reg, size), size);
	enum exec_op op = exec_read_mem(x, x->in->mem.seg, ea, &low, size);

	if (op == OP_DONE)
		op = exec_read_mem(x, x->in->mem.seg, ea + size, &high, size);
	if (op != OP_DONE)
		return op;
	return index < sign_extend(low, size) || index > sign_extend(high, size) ? exec_fault(x, exc_plain(VEC_BR)) : OP_DONE;
}
