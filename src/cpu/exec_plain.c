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
		return exec_unsupported(x, "an instruction that has no form in 64-bit mode");
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

/*
 * The operand crosses a page or is MMIO: run on a copy with the same alignment. What may be locked has it modulo 16 only, which is all that it is checked for, so that it
 * never crosses a line of the cache: hosts that detect split locks take tens of microseconds for each.
 */
static enum exec_op run_bounced(struct exec *x, const struct vmem_span *span, uint64_t la)
{
	struct vcpu *v = x->v;
	const struct insn *in = x->in;
	bool ram = span->part[0].hva && span->part[span->parts - 1].hva;
	bool locked = in->mem.read && in->mem.write;
	uint8_t *copy = v->stub->data->bounce + (la & (locked ? 15 : 63));
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

static bool has_prefix(const struct insn *in, uint8_t prefix)
{
	for (unsigned i = 0; i < in->opcode_off; i++)
		if (in->bytes[i] == prefix)
			return true;
	return false;
}

/* Must the operand be aligned to its size whatever EFLAGS.AC says ("SSE Alignment", "Memory Alignment" of AVX)? */
static bool needs_alignment(const struct vcpu *v, const struct insn *in)
{
	uint32_t mxcsr;

	if (in->mem.size < 16 || in->map == 0)
		return false;
	if (in->need & NEED_AVX) {
		if (in->map == 2)
			return in->opcode == 0x2a; /* vmovntdqa */
		if (in->map != 1)
			return false;
		if (in->opcode == 0x6f || in->opcode == 0x7f) /* vmovdqa, by VEX.pp; vmovdqu */
			return (in->bytes[in->vex_off - 1] == 0xc5 ? in->bytes[in->vex_off] & 3 : in->bytes[in->vex_off + 1] & 3) == 1;
		return in->opcode == 0x28 || in->opcode == 0x29 || in->opcode == 0x2b || in->opcode == 0xe7;
	}
	if (in->map == 1 && in->opcode == 0xc7)
		return true; /* cmpxchg16b */
	if (!(in->need & NEED_SSE))
		return false;
	if (in->map == 1 && (in->opcode == 0x10 || in->opcode == 0x11 || in->opcode == 0xf0))
		return false; /* movups, movupd, lddqu */
	if (in->map == 1 && (in->opcode == 0x6f || in->opcode == 0x7f))
		return !has_prefix(in, 0xf3); /* movdqa; movdqu */
	if (in->map == 1 && (in->opcode == 0x28 || in->opcode == 0x29 || in->opcode == 0x2b || in->opcode == 0xe7))
		return true; /* movaps, movapd, movnt* */
	if (in->map == 2 && in->opcode == 0x2a)
		return true; /* movntdqa */
	if (in->map == 3 && in->opcode >= 0x60 && in->opcode <= 0x63)
		return false; /* pcmpXstrX */
	if ((in->map == 2 && in->opcode >= 0xc8 && in->opcode <= 0xcd) || (in->map == 3 && in->opcode == 0xcc))
		return false; /* sha1*, sha256*: their page is looked at first */
	mxcsr = load_u32(v->fpu.area + 24);
	if (v->fpu.live)
		__asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
	return !(mxcsr & 1u << 17); /* MXCSR.MM (AMD) allows the others to be misaligned */
}

/* Does the instruction raise an x87 exception that is pending? */
static bool waits_for_x87(const struct insn *in)
{
	if (in->need & NEED_X87) /* all but fnstcw and fnstsw */
		return !((in->opcode == 0xd9 || in->opcode == 0xdd) && in->map == 0 && (in->modrm >> 3 & 7) == 7);
	if (in->need & NEED_MMX)
		return true;
	/* cvtps2pi, cvtpd2pi and the truncating ones write an MMX register */
	return in->need & NEED_SSE && in->map == 1 && (in->opcode | 1) == 0x2d && !has_prefix(in, 0xf2) && !has_prefix(in, 0xf3);
}

/* Faults that a processor finds before it looks at the page: a misaligned operand, an x87 exception still pending. */
static enum exec_op outranking_fault(struct exec *x, uint64_t la)
{
	struct vcpu *v = x->v;
	const struct insn *in = x->in;

	if (waits_for_x87(in)) {
		uint16_t fsw;

		fpu_load(v);
		__asm__ volatile("fnstsw %0" : "=m"(fsw));
		if (fsw & 0x80)
			return exec_fault(x, exc_plain(VEC_MF));
	}
	if (needs_alignment(v, in) && la & (in->mem.size - 1u))
		return exec_gp(x, 0);
	if (align_checked(v) && x->exc.vector == VEC_PF && vmem_misaligned(la, in->mem.size))
		return exec_fault(x, exc_error(VEC_AC, 0));
	return OP_FAULT;
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
		return st == VMEM_FAULT ? outranking_fault(x, la) : exec_of(st);
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
