/*
 * exec_bcd.c - decimal arithmetic of 16- and 32-bit code, which no processor has in 64-bit mode, so that the host cannot do it.
 * Source: AMD APM vol. 3, "DAA", "DAS", "AAA", "AAS", "AAM", "AAD". Flags that the manual leaves undefined follow AL, or are clear.
 */
#include "cpu/exec_internal.h"

static uint64_t flags_of(uint8_t al)
{
	return (al & 0x80 ? FL_SF : 0) | (al ? 0 : FL_ZF) | (__builtin_parity(al) ? 0 : FL_PF);
}

static enum exec_op set(struct exec *x, uint16_t ax, bool af, bool cf)
{
	struct vcpu *v = x->v;

	gpr_set(v, RAX, ax, 2);
	v->rflags = (v->rflags & ~(uint64_t)FL_ARITH) | flags_of((uint8_t)ax) | (af ? FL_AF : 0) | (cf ? FL_CF : 0);
	return OP_DONE;
}

/* DAA and DAS: AL only. */
static enum exec_op adjust_packed(struct exec *x, bool add)
{
	struct vcpu *v = x->v;
	uint8_t old = (uint8_t)v->gpr[RAX], al = old;
	bool carry = v->rflags & FL_CF, half = (old & 15) > 9 || (v->rflags & FL_AF), high = old > 0x99 || carry;
	bool borrowed = !add && half && old < 6;

	if (half)
		al = (uint8_t)(add ? al + 6 : al - 6);
	if (high)
		al = (uint8_t)(add ? al + 0x60 : al - 0x60);
	return set(x, (uint16_t)((v->gpr[RAX] & 0xff00) | al), half, high || borrowed);
}

/* AAA and AAS. */
static enum exec_op adjust_unpacked(struct exec *x, bool add)
{
	struct vcpu *v = x->v;
	uint16_t ax = (uint16_t)v->gpr[RAX];
	bool half = (ax & 15) > 9 || (v->rflags & FL_AF);

	if (half)
		ax = (uint16_t)(add ? ax + 0x106 : ax - 0x106);
	return set(x, ax & 0xff0f, half, half);
}

enum exec_op op_bcd(struct exec *x)
{
	struct vcpu *v = x->v;
	uint8_t al = (uint8_t)v->gpr[RAX], ah = (uint8_t)(v->gpr[RAX] >> 8), base = (uint8_t)x->in->imm;

	switch (x->in->opcode) {
	case 0x27: return adjust_packed(x, true);
	case 0x2f: return adjust_packed(x, false);
	case 0x37: return adjust_unpacked(x, true);
	case 0x3f: return adjust_unpacked(x, false);
	case 0xd4: /* AAM */
		if (!base)
			return exec_fault(x, exc_plain(VEC_DE));
		return set(x, (uint16_t)(al / base << 8 | al % base), false, false);
	case 0xd5: /* AAD */
		return set(x, (uint8_t)(al + ah * base), false, false);
	default: /* SALC */
		gpr_set(v, RAX, v->rflags & FL_CF ? 0xff : 0, 1);
		return OP_DONE;
	}
}
