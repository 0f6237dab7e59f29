/*
 * encode.c - re-encoding of a decoded instruction for 64-bit mode, with another address in the place of its memory operand (insn.h).
 *
 * Prefixes that carry meaning other than the address are kept in their order; REX and VEX are made anew, since the new
 * base register and a replaced register operand change their R, X and B bits. In 16-bit code the operand-size prefix means the
 * opposite. 32-bit code has bits in VEX that do not count there but would in 64-bit mode (AMD APM vol. 3, "VEX and XOP Prefixes").
 */
#include "x86/insn.h"

/* Where the operand goes: a base register and perhaps an index, or RIP-relative when base is INSN_BASE_RIP. */
struct target { uint8_t base; int32_t disp; uint8_t from, to, index, scale; };

static uint8_t high(uint8_t reg) { return reg == INSN_BASE_RIP || reg == INSN_NO_REG ? 0 : reg >> 3; }

static bool is_address_prefix(uint8_t b)
{
	return b == 0x26 || b == 0x2e || b == 0x36 || b == 0x3e || b == 0x64 || b == 0x65 || b == 0x67;
}

static uint8_t mapped(const struct target *t, uint8_t reg, bool gpr)
{
	return gpr && t->from != INSN_NO_REG && reg == t->from ? t->to : reg;
}

/* Does a 66 that 16-bit code leaves out have to be there in 64-bit mode? */
static bool lacks_osz(const struct insn *in)
{
	return in->mode == INSN_MODE_16 && !in->osz && in->opsize == 2 && !(in->need & (NEED_MMX | NEED_SSE | NEED_AVX));
}

/* Is prefix b written as it is (not for an address, not REX)? */
static bool keeps_prefix(const struct insn *in, uint8_t b)
{
	return !is_address_prefix(b) && (b & 0xf0) != 0x40 && !(b == 0x66 && in->mode == INSN_MODE_16 && in->osz);
}

/* W of VEX names the size of general registers in 64-bit mode; elsewhere it does not count for them. */
static bool drops_vex_w(const struct insn *in)
{
	if (in->mode == INSN_MODE_64)
		return false;
	if (in->reg_gpr || in->vvvv_gpr || in->rm_gpr)
		return true;
	return in->map == 1 ? in->opcode == 0x6e || in->opcode == 0x7e || in->opcode == 0x2a :
	       in->map == 3 && (in->opcode == 0x16 || in->opcode == 0x22);
}

/* VBLENDVPS, VBLENDVPD, VPBLENDVB: a fourth register in bits 7:4 of the immediate, of which bit 7 does not count outside 64-bit mode. */
static bool names_register_in_imm(const struct insn *in)
{
	return in->mode != INSN_MODE_64 && in->vex_off && in->map == 3 && in->opcode >= 0x4a && in->opcode <= 0x4c;
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

	if (t->index != INSN_NO_REG) {
		out[n++] = mod | low | 4;
		out[n++] = (uint8_t)(__builtin_ctz(t->scale) << 6 | (t->index & 7) << 3 | (t->base & 7));
	} else {
		out[n++] = (uint8_t)(mod | low | (t->base & 7));
		if ((t->base & 7) == 4) /* rsp, r12 need a SIB byte */
			out[n++] = 0x24;
	}
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
	vvvv = (~last >> 3) & (in->mode == INSN_MODE_64 ? 15 : 7);
	if (drops_vex_w(in))
		last &= 0x7f;
	r = mapped(t, (uint8_t)(r << 3 | ((in->modrm >> 3) & 7)), in->reg_gpr);
	vvvv = mapped(t, vvvv, in->vvvv_gpr);
	b1 = (uint8_t)((r >> 3 ? 0 : 0x80) | (high(t->index) ? 0 : 0x40) | (high(t->base) ? 0 : 0x20) | mmmmm);
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
	uint8_t reg = 0, opcode = in->opcode, address_hi = (uint8_t)(high(t->index) << 1 | high(t->base));
	bool moffs = !in->modrm_off;
	unsigned n = 0, i = 0;

	for (; i < in->opcode_off; i++) {
		uint8_t b = in->bytes[i];

		if (b != 0x66 && b != 0xf0 && b != 0xf2 && b != 0xf3 && !is_address_prefix(b) &&
		    !(in->mode == INSN_MODE_64 && (b & 0xf0) == 0x40))
			break;
		if (keeps_prefix(in, b))
			out[n++] = b;
	}
	if (lacks_osz(in))
		out[n++] = 0x66;
	if (moffs) { /* mov between the accumulator and [moffs]: A0-A3 become 8A 8B 88 89 */
		if (in->map || opcode < 0xa0 || opcode > 0xa3)
			return 0;
		opcode = (uint8_t)((opcode & 1) | (opcode & 2 ? 0x88 : 0x8a));
	} else {
		if (opcode == 0x82 && !in->map) /* 80 once more, not in 64-bit mode */
			opcode = 0x80;
		reg = mapped(t, (uint8_t)((rex & 4) << 1 | ((in->modrm >> 3) & 7)), in->reg_gpr);
	}
	if (rex || (reg >> 3) || address_hi) {
		if (in->gpr_high)
			return 0;
		out[n++] = (uint8_t)(0x40 | (rex & 8) | (reg >> 3) << 2 | address_hi);
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
	n = in->vex_off ? put_vex(out, in, t) : put_legacy(out, in, t);
	if (!n)
		return 0;
	if (t->base == INSN_BASE_RIP) /* rel32 counts from the end, immediates included */
		store_u32(out + n - 4, (uint32_t)t->disp);
	for (unsigned i = 0; i < in->imm_len; i++)
		out[n++] = in->bytes[in->imm_off + i];
	if (names_register_in_imm(in))
		out[n - 1] &= 0x7f;
	return n;
}

unsigned insn_emit_rip(uint8_t *out, const struct insn *in, int32_t disp)
{
	struct target t = { INSN_BASE_RIP, disp, INSN_NO_REG, INSN_NO_REG, INSN_NO_REG, 1 };

	return put(out, in, &t);
}

unsigned insn_emit_base(uint8_t *out, const struct insn *in, uint8_t host_base, int32_t disp, uint8_t map_from, uint8_t map_to)
{
	struct target t = { host_base, disp, map_from, map_to, INSN_NO_REG, 1 };

	return put(out, in, &t);
}

unsigned insn_emit_index(uint8_t *out, const struct insn *in, uint8_t host_base, uint8_t index, uint8_t scale, int32_t disp)
{
	struct target t = { host_base, disp, INSN_NO_REG, INSN_NO_REG, index, scale };

	return put(out, in, &t);
}

/* VZEROUPPER and VZEROALL of the first eight registers only: VMOVAPS of 128 bits onto itself, VPXOR with itself. */
static unsigned put_vzero(uint8_t *out, bool all)
{
	unsigned n = 0;

	for (unsigned r = 0; r < 8; r++) {
		out[n++] = 0xc5;
		out[n++] = all ? (uint8_t)(0xf9 ^ r << 3) : 0xf8;
		out[n++] = all ? 0xef : 0x28;
		out[n++] = (uint8_t)(0xc0 | r << 3 | r);
	}
	return n;
}

/* VEX of 32-bit code, with the bits that do not count there as 64-bit mode wants them. */
static unsigned put_vex_registers(uint8_t *out, const struct insn *in)
{
	const unsigned at = in->vex_off - 1u;
	unsigned n = 0;

	if (in->map == 1 && in->opcode == 0x77)
		return put_vzero(out, in->bytes[at] == 0xc5 ? in->bytes[at + 1] & 4 : in->bytes[at + 2] & 4);
	for (unsigned i = at; i < in->len; i++)
		out[n++] = in->bytes[i];
	if (out[0] == 0xc5) {
		out[1] |= 0x40; /* vvvv */
	} else {
		out[1] |= 0x20; /* B */
		out[2] |= 0x40;
		if (drops_vex_w(in))
			out[2] &= 0x7f;
	}
	if (names_register_in_imm(in))
		out[n - 1] &= 0x7f;
	return n;
}

unsigned insn_emit_reg(uint8_t *out, const struct insn *in)
{
	unsigned n = 0, i = 0;

	if (in->mode != INSN_MODE_64 && in->vex_off)
		return put_vex_registers(out, in);
	if (in->mode != INSN_MODE_64) {
		for (; i < in->opcode_off && (in->bytes[i] == 0x66 || in->bytes[i] == 0xf0 || in->bytes[i] == 0xf2 || in->bytes[i] == 0xf3 ||
					      is_address_prefix(in->bytes[i])); i++)
			if (keeps_prefix(in, in->bytes[i]))
				out[n++] = in->bytes[i];
		if (lacks_osz(in))
			out[n++] = 0x66;
		if (!in->map && in->opcode >= 0x40 && in->opcode <= 0x4f) { /* INC and DEC: REX in 64-bit mode */
			out[n++] = 0xff;
			out[n++] = (uint8_t)((in->opcode < 0x48 ? 0xc0 : 0xc8) | (in->opcode & 7));
			return n;
		}
		if (!in->map && in->opcode == 0x82) {
			out[n++] = 0x80;
			i++;
		}
	}
	for (; i < in->len; i++)
		out[n++] = in->bytes[i];
	return n;
}
