/*
 * shape.c - decoding, remembered: most instructions are like one that was decoded before, but for displacement and immediate.
 *
 * Where those begin is found without a decoder, in 64-bit code: behind prefixes, REX or VEX, opcode, ModRM and SIB (AMD APM vol. 3, "Instruction Encoding"). The bytes before,
 * the head, are the key. An instruction is remembered only if the decoder agrees where its head ends, so what is known of opcodes here may be
 * incomplete or wrong: then nothing is found.
 */
#include "x86/insn_shape.h"

#include <string.h>

#define SHAPES 1024u
#define HEAD_MAX 8u
#define PREFIXES_MAX 4u

/* By opcode, a row of sixteen each: does ModRM follow? Opcodes of one byte, and those behind 0F but 38 and 3A. */
static const uint16_t modrm_one[16] = { 0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0, 0, 0x0a08, 0, 0x7fff, 0, 0, 0, 0x00c3, 0xff0f, 0, 0xc0c0 };
static const uint16_t modrm_two[16] = { 0x200f, 0xffff, 0xffff, 0, 0xffff, 0xffff, 0xffff, 0xff7f, 0, 0xffff, 0xf838, 0xffff, 0x00ff, 0xffff, 0xffff, 0xffff };

static bool is_prefix(uint8_t b)
{
	return b == 0x66 || b == 0xf2 || b == 0xf3 || b == 0xf0 || (b & 0xfe) == 0x64 || b == 0x67 || (b & 0xe7) == 0x26;
}

/* Bytes of the head; 15 may be read. Beyond HEAD_MAX: not known. */
static unsigned head_of(const uint8_t *b)
{
	unsigned n = 0;
	bool modrm;

	while (n < PREFIXES_MAX && is_prefix(b[n]))
		n++;
	if ((b[n] & 0xf0) == 0x40)
		n++;
	if (b[n] == 0xc5 || b[n] == 0xc4) {
		n += b[n] == 0xc5 ? 3 : 4;
		modrm = true;
	} else if (b[n] != 0x0f) {
		modrm = modrm_one[b[n] >> 4] >> (b[n] & 15) & 1;
		n++;
	} else if (b[n + 1] == 0x38 || b[n + 1] == 0x3a) {
		modrm = true;
		n += 3;
	} else {
		modrm = modrm_two[b[n + 1] >> 4] >> (b[n + 1] & 15) & 1;
		n += 2;
	}
	if (modrm) {
		const bool sib = b[n] < 0xc0 && (b[n] & 7) == 4;

		if (b[n] >= 0xc0 && n && (b[n - 1] & 0xfe) == 0xc0) /* the count of a shift, which insn.c has in the head */
			n++;
		n += 1 + sib;
	}
	return n;
}

static int64_t value_of(const uint8_t *b, unsigned len, bool is_signed)
{
	switch (len) {
	case 1: return is_signed ? (int64_t)(int8_t)b[0] : (int64_t)b[0];
	case 2: return is_signed ? (int64_t)(int16_t)load_u16(b) : (int64_t)load_u16(b);
	case 4: return is_signed ? (int64_t)(int32_t)load_u32(b) : (int64_t)load_u32(b);
	default: return (int64_t)load_u64(b);
	}
}

int insn_decode(struct insn *in, const uint8_t *bytes, unsigned avail, enum insn_mode mode)
{
	static __thread struct remembered { uint64_t head; struct insn_shape shape; struct insn in; } memory[SHAPES];
	struct insn_shape shape;
	struct remembered *r;
	unsigned n = HEAD_MAX + 1;
	uint64_t head;
	int result;

	if (avail >= sizeof(in->bytes) && mode == INSN_MODE_64)
		n = head_of(bytes);
	if (n > HEAD_MAX)
		return insn_decode_anew(in, bytes, avail, mode, &shape);
	head = load_u64(bytes) << (64 - 8 * n) >> (64 - 8 * n);
	r = &memory[(head * 0x9e3779b97f4a7c15) >> 54];
	_Static_assert(SHAPES == 1 << (64 - 54), "the shift above");
	if (r->head == head && r->shape.fixed && r->shape.head == n) {
		*in = r->in;
		memcpy(in->bytes, bytes, sizeof(in->bytes));
		if (r->shape.disp_len)
			in->mem.disp = value_of(bytes + n, r->shape.disp_len, true);
		if (r->shape.imm_len)
			in->imm = value_of(bytes + n + r->shape.disp_len, r->shape.imm_len, r->shape.imm_signed);
		return 0;
	}
	result = insn_decode_anew(in, bytes, avail, mode, &shape);
	if (!result && shape.fixed && shape.head == n)
		*r = (struct remembered){ head, shape, *in };
	return result;
}
