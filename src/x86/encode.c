/*
 * encode.c - re-encoding of a decoded instruction with another address in the place of its memory operand (insn.h).
 *
 * Prefixes that carry meaning other than the address are kept in their order; REX and VEX are made anew, since the new
 * base register and a replaced register operand change their R, X and B bits.
 */
#include "x86/insn.h"

/* Where the operand goes: a base register, or RIP-relative when base is INSN_BASE_RIP. */
struct target { uint8_t base; int32_t disp; uint8_t from, to; };

static bool is_address_prefix(uint8_t b)
{
	return b == 0x26 || b == 0x2e || b == 0x36 || b == 0x3e || b == 0x64 || b == 0x65 || b == 0x67;
}

static uint8_t mapped(const struct target *t, uint8_t reg, bool gpr)
{
	return gpr && t->from != INSN_NO_REG && reg == t->from ? t->to : reg;
}

static unsigned put_modrm(uint8_t *out, const struct target *t, uint8_t reg)
{
	unsigned n = 0;
	uint8_t low = (uint8_t)((reg & 7) << 3);

	if (t->base == INSN_BASE_RIP) {
		out[n++] = (uint8_t)(low | 5);
		store_u32(out + n, (uint32_t)t->disp);
		return n + 4;
	}
	const bool small = t->disp >= -128 && t->disp < 128;
	/* rbp, r13: mod 0 would mean RIP-relative. */
	const uint8_t mod = !t->disp && (t->base & 7) != 5 ? 0 : small ? 0x40 : 0x80;

	out[n++] = (uint8_t)(mod | low | (t->base & 7));
	if ((t->base & 7) == 4) /* rsp, r12 need a SIB byte */
		out[n++] = 0x24;
	if (mod == 0x40) {
		out[n++] = (uint8_t)t->disp;
	} else if (mod == 0x80) {
		store_u32(out + n, (uint32_t)t->disp);
		n += 4;
	}
	return n;
}

static unsigned put_vex(uint8_t *out, const struct insn *in, const struct target *t)
{
	const uint8_t *v = in->bytes + in->vex_off - 1;
	uint8_t r, vvvv, last, mmmmm, b1;
	unsigned n = 0;
	uint8_t base_hi = t->base == INSN_BASE_RIP ? 0 : t->base >> 3;

	/* Legacy prefixes before VEX can only be address ones; a REX among them, followed by another prefix, means nothing. */
	for (int i = 0; i < in->vex_off - 1; i++)
		if (!is_address_prefix(in->bytes[i]) && (in->bytes[i] & 0xf0) != 0x40)
			return 0;
	if (v[0] == 0xc5) {
		r = !(v[1] & 0x80);
		last = v[1] & 0x7f;
		mmmmm = 1;
	} else {
		r = !(v[1] & 0x80);
		last = v[2];
		mmmmm = v[1] & 0x1f;
	}
	vvvv = (~last >> 3) & 15;
	r = mapped(t, (uint8_t)(r << 3 | ((in->modrm >> 3) & 7)), in->reg_gpr);
	vvvv = mapped(t, vvvv, in->vvvv_gpr);
	b1 = (uint8_t)((r >> 3 ? 0 : 0x80) | 0x40 | (base_hi ? 0 : 0x20) | mmmmm);
	out[n++] = 0xc4;
	out[n++] = b1;
	out[n++] = (uint8_t)((last & 0x87) | ((~vvvv & 15) << 3));
	out[n++] = in->opcode;
	n += put_modrm(out + n, t, r);
	return n;
}

static unsigned put_legacy(uint8_t *out, const struct insn *in, const struct target *t)
{
	uint8_t rex = in->rex_off ? in->bytes[in->rex_off - 1] : 0;
	uint8_t reg = 0, opcode = in->opcode, base_hi = t->base == INSN_BASE_RIP ? 0 : t->base >> 3;
	bool moffs = !in->modrm_off;
	unsigned n = 0, i = 0;

	for (; i < in->opcode_off; i++) {
		uint8_t b = in->bytes[i];

		if (b != 0x66 && b != 0xf0 && b != 0xf2 && b != 0xf3 && !is_address_prefix(b) &&
		    !(in->mode == INSN_MODE_64 && (b & 0xf0) == 0x40))
			break;
		if (!is_address_prefix(b) && (b & 0xf0) != 0x40)
			out[n++] = b;
	}
	if (moffs) { /* mov between the accumulator and [moffs]: A0-A3 become 8A 8B 88 89 */
		if (in->map || opcode < 0xa0 || opcode > 0xa3)
			return 0;
		opcode = (uint8_t)((opcode & 1) | (opcode & 2 ? 0x88 : 0x8a));
	} else {
		reg = mapped(t, (uint8_t)((rex & 4) << 1 | ((in->modrm >> 3) & 7)), in->reg_gpr);
	}
	if (rex || (reg >> 3) || base_hi) {
		if (in->gpr_high)
			return 0;
		out[n++] = (uint8_t)(0x40 | (rex & 8) | (reg >> 3) << 2 | base_hi);
	} else if (in->reg_gpr && reg >= 4 && in->opsize == 1 && !in->gpr_high) {
		out[n++] = 0x40; /* a byte register that was mapped to SPL..DIL */
	}
	for (; i < in->opcode_off; i++) /* escape bytes 0F, 0F 38, 0F 3A */
		out[n++] = in->bytes[i];
	out[n++] = opcode;
	return n + put_modrm(out + n, t, reg);
}

static unsigned put(uint8_t *out, const struct insn *in, const struct target *t)
{
	unsigned n;

	ASSERT(in->mem.present);
	if (in->mode != INSN_MODE_64)
		return 0;
	n = in->vex_off ? put_vex(out, in, t) : put_legacy(out, in, t);
	if (!n)
		return 0;
	if (t->base == INSN_BASE_RIP) /* rel32 counts from the end, immediates included */
		store_u32(out + n - 4, (uint32_t)t->disp);
	for (unsigned i = 0; i < in->imm_len; i++)
		out[n++] = in->bytes[in->imm_off + i];
	return n;
}

unsigned insn_emit_rip(uint8_t *out, const struct insn *in, int32_t disp)
{
	struct target t = { INSN_BASE_RIP, disp, INSN_NO_REG, INSN_NO_REG };

	return put(out, in, &t);
}

unsigned insn_emit_base(uint8_t *out, const struct insn *in, uint8_t host_base, int32_t disp, uint8_t map_from, uint8_t map_to)
{
	struct target t = { host_base, disp, map_from, map_to };

	return put(out, in, &t);
}

unsigned insn_emit_reg(uint8_t *out, const struct insn *in)
{
	for (unsigned i = 0; i < in->len; i++)
		out[i] = in->bytes[i];
	return in->len;
}
