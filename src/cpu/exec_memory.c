/*
 * exec_memory.c - operands, segmentation and the stack, as the current mode has them (exec_internal.h).
 * Outside 64-bit mode every segment has a base, a limit and a type (AMD APM vol. 2, "Segment Limit Checks").
 */
#include "cpu/exec_internal.h"

bool segment_linear(const struct segment *s, bool paragraphs, uint64_t ea, unsigned len, bool write, uint64_t *la)
{
	uint32_t offset = (uint32_t)ea, last = offset + len - 1;
	bool code = s->attr & 8, down = !code && (s->attr & 4);

	if (!paragraphs && (!(s->attr & SEG_P) || (code && write) || ((write || code) && !(s->attr & 2))))
		return false;
	if (last < offset)
		return false;
	if (down ? offset <= s->limit || (last > 0xffff && !(s->attr & SEG_DB)) : last > s->limit)
		return false;
	*la = (uint32_t)(s->base + offset);
	return true;
}

bool exec_linear_legacy(struct exec *x, unsigned seg, uint64_t ea, unsigned len, bool write, uint64_t *la)
{
	if (segment_linear(&x->v->seg[seg], vcpu_paragraphs(x->v), ea, len, write, la))
		return true;
	x->exc = exc_error(seg == SEG_SS ? VEC_SS : VEC_GP, 0);
	return false;
}

enum exec_op exec_read_mem(struct exec *x, unsigned seg, uint64_t ea, uint64_t *value, unsigned size)
{
	uint64_t la;

	if (!exec_linear(x, seg, ea, size, false, &la))
		return OP_FAULT;
	return exec_of(vmem_read_int(x->v, la, value, size, exec_acc(x, seg), &x->exc));
}

enum exec_op exec_write_mem(struct exec *x, unsigned seg, uint64_t ea, uint64_t value, unsigned size)
{
	uint64_t la;

	if (!exec_linear(x, seg, ea, size, true, &la))
		return OP_FAULT;
	return exec_of(vmem_write_int(x->v, la, value, size, exec_acc(x, seg), &x->exc));
}

enum exec_op exec_read_bytes(struct exec *x, unsigned seg, uint64_t ea, void *buf, unsigned len)
{
	uint64_t la;

	if (!exec_linear(x, seg, ea, len, false, &la))
		return OP_FAULT;
	return exec_of(vmem_read(x->v, la, buf, len, exec_acc(x, seg), &x->exc));
}

enum exec_op exec_read_far_pointer(struct exec *x, unsigned width, uint64_t *offset, uint16_t *selector)
{
	const struct insn *in = x->in;
	uint8_t image[10];
	uint64_t la;
	enum exec_op op;

	if (!exec_linear(x, in->mem.seg, exec_ea(x), width + 2, false, &la))
		return OP_FAULT;
	op = exec_of(vmem_read(x->v, la, image, width + 2, exec_acc(x, in->mem.seg) | VMEM_ALIGN(width), &x->exc));
	if (op != OP_DONE)
		return op;
	*offset = width == 2 ? load_u16(image) : width == 4 ? load_u32(image) : load_u64(image);
	*selector = load_u16(image + width);
	return OP_DONE;
}

enum exec_op exec_write_bytes(struct exec *x, unsigned seg, uint64_t ea, const void *buf, unsigned len)
{
	uint64_t la;

	if (!exec_linear(x, seg, ea, len, true, &la))
		return OP_FAULT;
	return exec_of(vmem_write(x->v, la, buf, len, exec_acc(x, seg), &x->exc));
}

enum exec_op exec_read_operand(struct exec *x, uint64_t *value, unsigned size)
{
	const struct insn *in = x->in;

	if (in->mem.present)
		return exec_read_mem(x, in->mem.seg, exec_ea(x), value, size);
	*value = gpr_get(x->v, in->mem_reg, size);
	return OP_DONE;
}

enum exec_op exec_write_operand(struct exec *x, uint64_t value, unsigned size)
{
	const struct insn *in = x->in;

	if (in->mem.present)
		return exec_write_mem(x, in->mem.seg, exec_ea(x), value, size);
	gpr_set(x->v, in->mem_reg, value, size);
	return OP_DONE;
}

void stack_open(const struct exec *x, struct stack *s)
{
	const struct vcpu *v = x->v;

	s->size = vcpu_long64(v) ? 8 : v->seg[SEG_SS].attr & SEG_DB ? 4 : 2;
	s->sp = gpr_get(v, RSP, s->size);
}

enum exec_op stack_push(struct exec *x, struct stack *s, uint64_t value, unsigned size)
{
	uint64_t sp = (s->sp - size) & size_mask(s->size);
	enum exec_op op = exec_write_mem(x, SEG_SS, sp, value, size);

	if (op == OP_DONE)
		s->sp = sp;
	return op;
}

enum exec_op stack_pop(struct exec *x, struct stack *s, uint64_t *value, unsigned size)
{
	enum exec_op op = exec_read_mem(x, SEG_SS, s->sp, value, size);

	if (op == OP_DONE)
		s->sp = (s->sp + size) & size_mask(s->size);
	return op;
}

void stack_commit(struct exec *x, const struct stack *s)
{
	if (s->size == 2)
		gpr_set(x->v, RSP, s->sp, 2);
	else
		x->v->gpr[RSP] = s->sp;
}
