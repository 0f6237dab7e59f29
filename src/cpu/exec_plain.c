/*
 * exec_plain.c - INSN_PLAIN: the instruction itself runs on the host (cpu/host_stub), on the guest's memory where that is
 * one page of RAM (so that it is atomic when it should be, and aligned as the guest sees it), else on a bounce buffer.
 */
#include "cpu/exec_internal.h"
#include "cpu/host_stub.h"

static enum exec_op finish(struct exec *x, int result)
{
	if (LIKELY(result == HOST_STUB_DONE))
		return OP_DONE;
	if (result == HOST_STUB_UNSUPPORTED)
		return exec_unsupported(x, "an instruction of 16- or 32-bit code");
	/* #GP and #AC push an error code of zero; SIMD exceptions are #UD while CR4.OSXMMEXCPT is clear. */
	if (result == VEC_XM && !(x->v->cr4 & CR4_OSXMMEXCPT))
		return exec_undefined(x);
	if (result == VEC_GP || result == VEC_AC)
		return exec_fault(x, exc_error((uint8_t)result, 0));
	return exec_fault(x, exc_plain((uint8_t)result));
}

static bool align_checked(const struct vcpu *v)
{
	return UNLIKELY(v->cpl == 3 && (v->rflags & FL_AC) && (v->cr0 & CR0_AM));
}

/* The operand crosses a page or is MMIO: run on a copy with the same alignment. */
static enum exec_op run_bounced(struct exec *x, const struct vmem_span *span, uint64_t la)
{
	struct vcpu *v = x->v;
	const struct insn *in = x->in;
	uint8_t *copy = v->stub->data->bounce + (la & 63);
	bool ram = span->part[0].hva && span->part[span->parts - 1].hva;
	bool locked = in->mem.read && in->mem.write;
	enum exec_op op;

	if (in->mem.size > 128)
		return exec_unsupported(x, "a memory operand of more than 128 bytes");
	if (locked)
		vmem_split_lock();
	/* Also before a plain store: what the instruction does not overwrite stays. MMIO is read only when the instruction reads. */
	if (in->mem.read || ram)
		vmem_load(v, span, copy);
	if (in->need & NEED_FPU_STATE)
		fpu_load(v);
	op = finish(x, host_stub_run(v, in, copy, align_checked(v)));
	if (op == OP_DONE && in->mem.write)
		vmem_store(v, span, copy);
	if (locked)
		vmem_split_unlock();
	return op;
}

static enum exec_op run_on_memory(struct exec *x, uint64_t la)
{
	struct vcpu *v = x->v;
	const struct insn *in = x->in;
	unsigned acc = exec_acc(x, in->mem.seg) | (in->mem.read ? ACC_READ : 0) | (in->mem.write ? ACC_WRITE : 0) | VMEM_NO_ALIGN;
	struct vmem_span span;
	enum vmem_status st;
	enum exec_op op;

	st = vmem_map(v, la, in->mem.size, acc, &span, &x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	if (UNLIKELY(span.parts != 1 || !span.part[0].hva))
		return run_bounced(x, &span, la);
	if (in->need & NEED_FPU_STATE)
		fpu_load(v);
	op = finish(x, host_stub_run(v, in, span.part[0].hva, align_checked(v)));
	if (op == OP_DONE && in->mem.write)
		vmem_written(v, &span.part[0]);
	return op;
}

enum exec_op op_plain(struct exec *x)
{
	const struct insn *in = x->in;
	struct vcpu *v = x->v;
	uint64_t ea, la;

	if (!in->mem.present) {
		if (in->need & NEED_FPU_STATE)
			fpu_load(v);
		return finish(x, host_stub_run(v, in, NULL, false));
	}
	ea = exec_ea(x);
	if (!in->mem.read && !in->mem.write) {
		if (in->map == 0 && in->opcode == 0x8d) { /* lea */
			gpr_set(v, in->reg, ea, in->opsize);
			return OP_DONE;
		}
		return OP_DONE;
	}
	if (!exec_linear(x, in->mem.seg, ea, in->mem.size, in->mem.write, &la))
		return OP_FAULT;
	return run_on_memory(x, la);
}

/* BT, BTS, BTR, BTC with a register bit offset into memory: the access is to the operand that holds the bit. */
enum exec_op op_bt_mem(struct exec *x)
{
	struct vcpu *v = x->v;
	const struct insn *in = x->in;
	unsigned size = in->opsize;
	int64_t bit = sign_extend(gpr_get(v, in->reg, size), size);
	int64_t skip = (bit >> (size == 8 ? 6 : size == 4 ? 5 : 4)) * (int64_t)size;
	uint64_t ea = (exec_ea(x) + (uint64_t)skip) & size_mask(in->addrsize), la;
	unsigned acc = exec_acc(x, in->mem.seg) | ACC_READ | (in->mem.write ? ACC_WRITE : 0);
	struct vmem_span span;
	enum vmem_status st;
	enum exec_op op;
	uint8_t *copy = v->stub->data->bounce;
	uint64_t saved;

	if (!exec_linear(x, in->mem.seg, ea, size, in->mem.write, &la))
		return OP_FAULT;
	st = vmem_map(v, la, size, acc, &span, &x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	/* The host adds the bit offset to the address again, so only the bit inside the operand is left in the register. */
	saved = v->gpr[in->reg];
	v->gpr[in->reg] = (uint64_t)bit & (8 * size - 1);
	if (span.parts == 1 && span.part[0].hva) {
		op = finish(x, host_stub_run(v, in, span.part[0].hva, false));
		if (op == OP_DONE && in->mem.write)
			vmem_written(v, &span.part[0]);
	} else {
		vmem_split_lock();
		vmem_load(v, &span, copy);
		op = finish(x, host_stub_run(v, in, copy, false));
		if (op == OP_DONE && in->mem.write)
			vmem_store(v, &span, copy);
		vmem_split_unlock();
	}
	v->gpr[in->reg] = saved;
	return op;
}

enum exec_op op_nop(struct exec *x)
{
	(void)x;
	return OP_DONE;
}

enum exec_op op_invalid(struct exec *x) { return exec_undefined(x); }
enum exec_op op_too_long(struct exec *x) { return exec_gp(x, 0); }
