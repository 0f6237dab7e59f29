/*
 * emit_state.h - code that changes more of struct vcpu than a register: segments, RFLAGS, the privilege level. For the instructions that
 * go between user and kernel (lower_syscall.c, lower_iret.c). All clobber EFLAGS.
 */
#ifndef BT_EMIT_STATE_H
#define BT_EMIT_STATE_H

#include "bt/lower.h"

#define SEG_AT(s) (VOFF(seg) + (int32_t)((s) * sizeof(struct segment)))
#define FLAT_ATTR(type, dpl, extra) (uint32_t)((type) | SEG_S | (dpl) << 5 | SEG_P | SEG_GRAN | (extra))

/* movzx reg32, word gs:[disp] */
static inline void e_load16(struct emit *e, uint8_t reg, int32_t disp)
{
	e_u8(e, 0x65);
	e_u8(e, e_rex(false, reg, 0, 0));
	e_u8(e, 0x0f), e_u8(e, 0xb7);
	e_modrm(e, reg, NO_BASE, NO_BASE, 1, disp);
}

/* movzx reg32, reg16 */
static inline void e_cut16(struct emit *e, uint8_t reg)
{
	e_u8(e, e_rex(false, reg, 0, reg));
	e_u8(e, 0x0f), e_u8(e, 0xb7);
	e_u8(e, (uint8_t)(0xc0 | (reg & 7) << 3 | (reg & 7)));
}

/* shl (ext 4) or shr (ext 5) reg32, n */
static inline void e_shift(struct emit *e, uint8_t ext, uint8_t reg, uint8_t n)
{
	e_u8(e, e_rex(false, 0, 0, reg));
	e_u8(e, 0xc1);
	e_u8(e, (uint8_t)(0xc0 | ext << 3 | (reg & 7)));
	e_u8(e, n);
}

/* test byte gs:[disp], imm; cmp byte gs:[disp], imm */
static inline void e_test_byte(struct emit *e, int32_t disp, uint8_t imm)
{
	e_u8(e, 0x65), e_u8(e, 0xf6);
	e_modrm(e, 0, NO_BASE, NO_BASE, 1, disp);
	e_u8(e, imm);
}
static inline void e_compare_byte(struct emit *e, int32_t disp, uint8_t imm)
{
	e_u8(e, 0x65), e_u8(e, 0x80);
	e_modrm(e, 7, NO_BASE, NO_BASE, 1, disp);
	e_u8(e, imm);
}

/* A flat segment: selector := reg's low 16 bits. Clobbers reg. */
static inline void e_set_flat(struct emit *e, uint8_t seg, uint8_t reg, uint32_t attr)
{
	const int32_t at = SEG_AT(seg);

	_Static_assert(offsetof(struct segment, attr) == offsetof(struct segment, selector) + 2, "both in one store");
	e_cut16(e, reg);
	e_alu_imm(e, false, 1, reg, (int32_t)(attr << 16)); /* or */
	e_store_gs_imm(e, at + (int32_t)offsetof(struct segment, base), 0);
	e_store_gs_imm32(e, at + (int32_t)offsetof(struct segment, limit), UINT32_MAX);
	e_op_gs(e, false, 0x89, reg, at + (int32_t)offsetof(struct segment, selector));
}

/* Arithmetic flags of RFLAGS image T0 to S_FLAGS; clobbers T1. RFLAGS itself follows. */
static inline void e_set_flags(struct emit *e)
{
	e_store_gs(e, VOFF(rflags), T0);
	e_op_rr(e, false, 0x8b, T1, T0);
	e_shift(e, 5, T1, 11);
	e_alu_imm(e, false, 4, T1, 1);
	e_u8(e, 0x45), e_u8(e, 0x0f), e_u8(e, 0xb6), e_u8(e, 0xd2); /* movzx T0d, T0b */
	e_shift(e, 4, T0, 8);
	e_op_rr(e, false, 0x0b, T0, T1);
	e_op_gs(e, false, 0x89, T0, SLOT(S_FLAGS));
}

static inline void e_count(struct emit *e, int32_t counter)
{
	e_u8(e, 0x65), e_u8(e, 0x48), e_u8(e, 0xff); /* inc qword gs:[counter] */
	e_modrm(e, 0, NO_BASE, NO_BASE, 1, counter);
}

static inline void e_set_cpl(struct emit *e, uint8_t cpl)
{
	e_u8(e, 0x65), e_u8(e, 0xc6);
	e_modrm(e, 0, NO_BASE, NO_BASE, 1, VOFF(cpl));
	e_u8(e, cpl);
}

/*
 * Makes the jump table whose place is in T1 the one in force. A kick may come meanwhile: it sets v->pending first and empties the table second, so the table is
 * exchanged with a locked instruction and v->pending looked at after it. Returns the jump, to be patched, that is taken if something is pending.
 */
static inline uint8_t *e_change_table(struct emit *e)
{
	e_store_gs(e, SLOT(S_JUMP_WANT), T1);
	e_op_gs(e, true, 0x87, T1, SLOT(S_JUMP_BASE)); /* xchg */
	e_u8(e, 0x65), e_u8(e, 0x83); /* cmp dword gs:[pending], 0 */
	e_modrm(e, 7, NO_BASE, NO_BASE, 1, VOFF(pending));
	e_u8(e, 0);
	return e_jcc(e, CC_NE);
}

/* Live flags to the slot, and nowhere else. */
static inline void tr_flags_to_slot(struct tr *t)
{
	if (!t->in_slot)
		e_save_flags(&t->e);
	t->in_slot = true;
	t->in_host = false;
}

#endif
