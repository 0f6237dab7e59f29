/*
 * emit.h - writes host instructions: the few forms that the translator needs, one function each.
 *
 * Guest registers live in the host registers of the same number, but for R10 and R11, which are the translator's
 * temporaries (T0, T1) while the guest's R10 and R11 are in struct vcpu. GS points at struct vcpu.
 * Functions marked "keeps flags" emit nothing that changes the arithmetic flags.
 */
#ifndef BT_EMIT_H
#define BT_EMIT_H

#include "base/base.h"
#include "x86/regs.h"

#define T0 R10
#define T1 R11
#define NO_BASE 0xff

struct emit { uint8_t *p; };

static inline void e_u8(struct emit *e, uint8_t b) { *e->p++ = b; }
static inline void e_u32(struct emit *e, uint32_t v) { store_u32(e->p, v); e->p += 4; }
static inline void e_bytes(struct emit *e, const uint8_t *p, unsigned n)
{
	uint8_t *to = e->p;

	while (n--)
		*to++ = *p++;
	e->p = to;
}
static inline void e_nop5(struct emit *e) { e_u8(e, 0x0f), e_u32(e, 0x0000441f); }
static inline void e_u64(struct emit *e, uint64_t v) { store_u64(e->p, v); e->p += 8; }

/*
 * The common forms are written by way of a pointer of their own, which they return behind what they wrote: a byte stored might be one of e->p's for all that the compiler knows, and to load
 * that again for each byte is a quarter of the time that translation takes.
 *
 * ModRM (+SIB, displacement) for [base + index*scale + disp]; NO_BASE for none.
 */
static inline uint8_t *put_modrm(uint8_t *p, uint8_t reg, uint8_t base, uint8_t index, uint8_t scale, int32_t disp)
{
	const uint8_t r = (uint8_t)((reg & 7) << 3), ss = scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;
	const bool small = disp >= -128 && disp < 128;
	uint8_t mod;

	if (base == NO_BASE) { /* absolute or index only: SIB without base takes disp32 */
		*p++ = r | 4;
		*p++ = (uint8_t)(ss << 6 | (index == NO_BASE ? 4 : index & 7) << 3 | 5);
		store_u32(p, (uint32_t)disp);
		return p + 4;
	}
	mod = disp == 0 && (base & 7) != 5 ? 0 : small ? 0x40 : 0x80;
	if (index == NO_BASE && (base & 7) != 4) {
		*p++ = mod | r | (base & 7);
	} else {
		*p++ = mod | r | 4;
		*p++ = (uint8_t)(ss << 6 | (index == NO_BASE ? 4 : index & 7) << 3 | (base & 7));
	}
	if (mod == 0x40) {
		*p++ = (uint8_t)disp;
	} else if (mod == 0x80) {
		store_u32(p, (uint32_t)disp);
		p += 4;
	}
	return p;
}
static inline void e_modrm(struct emit *e, uint8_t reg, uint8_t base, uint8_t index, uint8_t scale, int32_t disp) { e->p = put_modrm(e->p, reg, base, index, scale, disp); }

static inline uint8_t e_rex(bool w, uint8_t reg, uint8_t index, uint8_t base)
{
	return (uint8_t)(0x40 | w << 3 | (reg < 16 ? reg >> 3 : 0) << 2 | (index < 16 ? index >> 3 : 0) << 1 |
			 (base < 16 ? base >> 3 : 0));
}

static inline uint8_t *put_op_mem(uint8_t *p, bool w, uint8_t opcode, uint8_t reg, uint8_t base, uint8_t index, uint8_t scale, int32_t disp)
{
	const uint8_t rex = e_rex(w, reg, index, base);

	if (rex != 0x40 || !(opcode & 1)) /* of bytes: SPL to DIL have one */
		*p++ = rex;
	*p++ = opcode;
	return put_modrm(p, reg, base, index, scale, disp);
}
/* op reg, [base+index*scale+disp] with a one-byte opcode. */
static inline void e_op_mem(struct emit *e, bool w, uint8_t opcode, uint8_t reg, uint8_t base, uint8_t index, uint8_t scale,
			    int32_t disp)
{
	e->p = put_op_mem(e->p, w, opcode, reg, base, index, scale, disp);
}
/* op reg, gs:[base + disp]. */
static inline void e_op_gs_base(struct emit *e, bool w, uint8_t opcode, uint8_t reg, uint8_t base, uint8_t index, uint8_t scale,
				int32_t disp)
{
	uint8_t *p = e->p;

	*p++ = 0x65;
	e->p = put_op_mem(p, w, opcode, reg, base, index, scale, disp);
}
/* op reg, gs:[disp]. */
static inline void e_op_gs(struct emit *e, bool w, uint8_t opcode, uint8_t reg, int32_t disp) { e_op_gs_base(e, w, opcode, reg, NO_BASE, NO_BASE, 1, disp); }
static inline void e_op_rr(struct emit *e, bool w, uint8_t opcode, uint8_t reg, uint8_t rm)
{
	uint8_t *p = e->p;

	p[0] = e_rex(w, reg, 0, rm);
	p[1] = opcode;
	p[2] = (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7));
	e->p = p + 3;
}

/* Moves: keep flags. */
static inline void e_load_gs(struct emit *e, uint8_t reg, int32_t disp) { e_op_gs(e, true, 0x8b, reg, disp); }
static inline void e_load_gs32(struct emit *e, uint8_t reg, int32_t disp) { e_op_gs(e, false, 0x8b, reg, disp); }
static inline void e_store_gs(struct emit *e, int32_t disp, uint8_t reg) { e_op_gs(e, true, 0x89, reg, disp); }
static inline void e_store_gs_imm(struct emit *e, int32_t disp, int32_t imm) /* sign-extended to 64 bits */
{
	e_op_gs(e, true, 0xc7, 0, disp);
	e_u32(e, (uint32_t)imm);
}
static inline void e_store_gs_imm32(struct emit *e, int32_t disp, uint32_t imm)
{
	e_op_gs(e, false, 0xc7, 0, disp);
	e_u32(e, imm);
}
static inline void e_mov_rr(struct emit *e, uint8_t dst, uint8_t src) { e_op_rr(e, true, 0x8b, dst, src); }
static inline void e_mov_imm(struct emit *e, uint8_t reg, uint64_t v)
{
	uint8_t *p = e->p;

	if (v <= UINT32_MAX) {
		if (reg >= 8)
			*p++ = 0x41;
		*p++ = (uint8_t)(0xb8 | (reg & 7));
		store_u32(p, (uint32_t)v);
		p += 4;
	} else if ((uint64_t)(int64_t)(int32_t)v == v) {
		*p++ = e_rex(true, 0, 0, reg);
		*p++ = 0xc7;
		*p++ = (uint8_t)(0xc0 | (reg & 7));
		store_u32(p, (uint32_t)v);
		p += 4;
	} else {
		*p++ = e_rex(true, 0, 0, reg);
		*p++ = (uint8_t)(0xb8 | (reg & 7));
		store_u64(p, v);
		p += 8;
	}
	e->p = p;
}
static inline void e_lea(struct emit *e, bool w, uint8_t reg, uint8_t base, uint8_t index, uint8_t scale, int32_t disp)
{
	e_op_mem(e, w, 0x8d, reg, base, index, scale, disp);
}
static inline void e_load(struct emit *e, uint8_t reg, uint8_t base) { e_op_mem(e, true, 0x8b, reg, base, NO_BASE, 1, 0); }
static inline void e_store(struct emit *e, uint8_t base, uint8_t reg) { e_op_mem(e, true, 0x89, reg, base, NO_BASE, 1, 0); }

/* rorx dst32, src32, n: keeps flags (BMI2). */
static inline void e_rorx32(struct emit *e, uint8_t dst, uint8_t src, uint8_t n)
{
	uint8_t *p = e->p;

	p[0] = 0xc4;
	p[1] = (uint8_t)((dst < 8 ? 0x80 : 0) | 0x40 | (src < 8 ? 0x20 : 0) | 3);
	p[2] = 0x7b; /* W0 vvvv=1111 L0 pp=F2 */
	p[3] = 0xf0;
	p[4] = (uint8_t)(0xc0 | (dst & 7) << 3 | (src & 7));
	p[5] = n;
	e->p = p + 6;
}
/* pext dst, src, gs:[disp]: keeps flags (BMI2). */
static inline void e_pext_gs(struct emit *e, uint8_t dst, uint8_t src, int32_t disp)
{
	e_u8(e, 0x65);
	e_u8(e, 0xc4);
	e_u8(e, (uint8_t)((dst < 8 ? 0x80 : 0) | 0x40 | 0x20 | 2));
	e_u8(e, (uint8_t)(0x80 | (~src & 15) << 3 | 2)); /* W1 vvvv=src pp=F3 */
	e_u8(e, 0xf5);
	e_modrm(e, dst, NO_BASE, NO_BASE, 1, disp);
}
/* crc32 dst64, src64: keeps flags (SSE4.2). */
static inline void e_crc32(struct emit *e, uint8_t dst, uint8_t src)
{
	uint8_t *p = e->p;

	p[0] = 0xf2;
	p[1] = e_rex(true, dst, 0, src);
	p[2] = 0x0f;
	p[3] = 0x38;
	p[4] = 0xf1;
	p[5] = (uint8_t)(0xc0 | (dst & 7) << 3 | (src & 7));
	e->p = p + 6;
}
/* Arithmetic with an immediate: ext 0 add, 4 and, 5 sub, 7 cmp. */
static inline void e_alu_imm(struct emit *e, bool w, uint8_t ext, uint8_t reg, int32_t imm)
{
	const bool small = imm >= -128 && imm < 128;
	uint8_t *p = e->p;

	p[0] = e_rex(w, 0, 0, reg);
	p[1] = small ? 0x83 : 0x81;
	p[2] = (uint8_t)(0xc0 | ext << 3 | (reg & 7));
	if (small)
		p[3] = (uint8_t)imm;
	else
		store_u32(p + 3, (uint32_t)imm);
	e->p = p + (small ? 4 : 7);
}

/* Jumps with rel32; the returned pointer is where the rel32 stands, for e_patch. Keep flags. */
static inline void e_not(struct emit *e, uint8_t reg)
{
	e_u8(e, e_rex(true, 0, 0, reg));
	e_u8(e, 0xf7);
	e_u8(e, (uint8_t)(0xd0 | (reg & 7)));
}
static inline uint8_t *e_jmp(struct emit *e)
{
	e_u8(e, 0xe9);
	e_u32(e, 0);
	return e->p - 4;
}
static inline uint8_t *e_jcc(struct emit *e, uint8_t cc)
{
	uint8_t *p = e->p;

	p[0] = 0x0f;
	p[1] = 0x80 | cc;
	store_u32(p + 2, 0);
	e->p = p + 6;
	return p + 2;
}
static inline void e_patch(uint8_t *rel32, const uint8_t *target)
{
	__atomic_store_n((uint32_t *)(void *)rel32, (uint32_t)(target - (rel32 + 4)), __ATOMIC_RELAXED);
}
static inline void e_jmp_to(struct emit *e, const uint8_t *target) { e_patch(e_jmp(e), target); }
static inline void e_jcc_to(struct emit *e, uint8_t cc, const uint8_t *target) { e_patch(e_jcc(e, cc), target); }
/* jrcxz over a short distance; patch the byte returned with e_patch8. */
static inline uint8_t *e_jrcxz(struct emit *e)
{
	e_u8(e, 0xe3);
	e_u8(e, 0);
	return e->p - 1;
}
static inline void e_jmp8_to(struct emit *e, const uint8_t *target) /* at most 128 bytes away */
{
	e_u8(e, 0xeb);
	e_u8(e, (uint8_t)(target - (e->p + 1)));
}
static inline void e_patch8(uint8_t *rel8, const uint8_t *target) { *rel8 = (uint8_t)(target - (rel8 + 1)); }
static inline void e_jmp_gs(struct emit *e, int32_t disp) /* jmp qword gs:[disp] */
{
	e_op_gs(e, false, 0xff, 4, disp);
}
static inline void e_call_abs(struct emit *e, uint64_t fn) /* uses RAX */
{
	e_mov_imm(e, RAX, fn);
	e_u8(e, 0xff);
	e_u8(e, 0xd0);
}

enum { CC_O, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A, CC_S, CC_NS };

#endif
