/*
 * lower_syscall.c - SYSCALL and SYSRET between 64-bit user code and a 64-bit kernel, without leaving generated code.
 *
 * A hypervisor's interface takes SYSCALL in C (bt_domain_syscall), but from the code's own stub: that saves the way through bt_run.
 * Else, what the executor's versions (cpu/exec_syscall.c) do in the usual case; before anything has changed, whatever is unusual goes there. The code then goes on in the jump
 * table of the other side's context (jump.c, "ways"). A kick may come while the table changes: it sets v->pending first and empties the table second, so the table is
 * exchanged with a locked instruction and v->pending looked at after it.
 * Source: AMD APM vol. 2, "SYSCALL and SYSRET".
 */
#include "bt/lower.h"
#include "cpu/personality.h"

#define SEG(s) (VOFF(seg) + (int32_t)((s) * sizeof(struct segment)))
#define FLAT_ATTR(type, dpl, extra) (uint32_t)((type) | SEG_S | (dpl) << 5 | SEG_P | SEG_GRAN | (extra))

/* movzx reg32, word gs:[disp] */
static void load16(struct emit *e, uint8_t reg, int32_t disp)
{
	e_u8(e, 0x65);
	e_u8(e, e_rex(false, reg, 0, 0));
	e_u8(e, 0x0f), e_u8(e, 0xb7);
	e_modrm(e, reg, NO_BASE, NO_BASE, 1, disp);
}

/* movzx reg32, reg16 */
static void cut16(struct emit *e, uint8_t reg)
{
	e_u8(e, e_rex(false, reg, 0, reg));
	e_u8(e, 0x0f), e_u8(e, 0xb7);
	e_u8(e, (uint8_t)(0xc0 | (reg & 7) << 3 | (reg & 7)));
}

/* shl (ext 4) or shr (ext 5) reg32, n */
static void shift(struct emit *e, uint8_t ext, uint8_t reg, uint8_t n)
{
	e_u8(e, e_rex(false, 0, 0, reg));
	e_u8(e, 0xc1);
	e_u8(e, (uint8_t)(0xc0 | ext << 3 | (reg & 7)));
	e_u8(e, n);
}

/* test byte gs:[disp], imm; cmp byte gs:[disp], imm */
static void test_byte(struct emit *e, int32_t disp, uint8_t imm)
{
	e_u8(e, 0x65), e_u8(e, 0xf6);
	e_modrm(e, 0, NO_BASE, NO_BASE, 1, disp);
	e_u8(e, imm);
}
static void compare_byte(struct emit *e, int32_t disp, uint8_t imm)
{
	e_u8(e, 0x65), e_u8(e, 0x80);
	e_modrm(e, 7, NO_BASE, NO_BASE, 1, disp);
	e_u8(e, imm);
}

/* A flat segment: selector := reg's low 16 bits. Clobbers reg. */
static void set_flat(struct emit *e, uint8_t seg, uint8_t reg, uint32_t attr)
{
	const int32_t at = SEG(seg);

	_Static_assert(offsetof(struct segment, attr) == offsetof(struct segment, selector) + 2, "both in one store");
	cut16(e, reg);
	e_alu_imm(e, false, 1, reg, (int32_t)(attr << 16)); /* or */
	e_store_gs_imm(e, at + (int32_t)offsetof(struct segment, base), 0);
	e_store_gs_imm32(e, at + (int32_t)offsetof(struct segment, limit), UINT32_MAX);
	e_op_gs(e, false, 0x89, reg, at + (int32_t)offsetof(struct segment, selector));
}

static bool allowed(const struct tr *t) { return tr_wide(t) && !t->v->mmu.trace && tune_on(t->bt->memory->tune, TUNE_INLINE_SYSCALL); }
static bool inline_allowed(const struct tr *t) { return allowed(t) && t->v->personality == &personality_bare; }

/* Arithmetic flags of RFLAGS image T0 to S_FLAGS; clobbers T1. RFLAGS itself follows. */
static void set_flags(struct emit *e)
{
	e_store_gs(e, VOFF(rflags), T0);
	e_op_rr(e, false, 0x8b, T1, T0);
	shift(e, 5, T1, 11);
	e_alu_imm(e, false, 4, T1, 1);
	e_u8(e, 0x45), e_u8(e, 0x0f), e_u8(e, 0xb6), e_u8(e, 0xd2); /* movzx T0d, T0b */
	shift(e, 4, T0, 8);
	e_op_rr(e, false, 0x0b, T0, T1);
	e_op_gs(e, false, 0x89, T0, SLOT(S_FLAGS));
}

static void count(struct emit *e, int32_t counter)
{
	e_u8(e, 0x65), e_u8(e, 0x48), e_u8(e, 0xff); /* inc qword gs:[counter] */
	e_modrm(e, 0, NO_BASE, NO_BASE, 1, counter);
}

static void set_cpl(struct emit *e, uint8_t cpl)
{
	e_u8(e, 0x65), e_u8(e, 0xc6);
	e_modrm(e, 0, NO_BASE, NO_BASE, 1, VOFF(cpl));
	e_u8(e, cpl);
}

/* On to T0 in the context whose table is in `slot`; `mode` need only tell its size and whether blocks move. */
static void go(struct tr *t, int32_t slot, uint32_t mode)
{
	struct emit *e = &t->e;
	const uint32_t site = tr_site(t, SITE_FAR);

	e_load_gs(e, T1, slot);
	e_store_gs(e, SLOT(S_JUMP_WANT), T1);
	e_op_gs(e, true, 0x87, T1, SLOT(S_JUMP_BASE)); /* xchg */
	e_u8(e, 0x65), e_u8(e, 0x83); /* cmp dword gs:[pending], 0 */
	e_modrm(e, 7, NO_BASE, NO_BASE, 1, VOFF(pending));
	e_u8(e, 0);
	e_patch(e_jcc(e, CC_NE), t->cold.p);
	e_mov_imm(&t->cold, T1, site);
	e_jmp_to(&t->cold, t->bt->jump_miss);
	lower_jump_look_up(t, e, mode, site);
	t->ended = true;
}

/* Live flags to the slot, and nowhere else. */
static void flags_to_slot(struct tr *t)
{
	if (!t->in_slot)
		e_save_flags(&t->e);
	t->in_slot = true;
	t->in_host = false;
}

void lower_syscall(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;

	(void)in;
	if (!allowed(t)) {
		lower_executor(t);
		return;
	}
	flags_to_slot(t);
	if (t->v->personality != &personality_bare) {
		e_set_rip(e, t->b->shared, tr_va(t));
		e_jmp_to(e, t->bt->domain_syscall);
		t->ended = true;
		return;
	}
	test_byte(e, VOFF(efer), EFER_SCE);
	lower_executor_if(t, CC_E);
	lower_flags_image(t);
	e_load_gs(e, T0, VOFF(sfmask));
	e_not(e, T0);
	e_op_rr(e, true, 0x23, T0, T1);
	e_alu_imm(e, true, 1, T0, FL_R1);
	e_u8(e, 0x41), e_u8(e, 0xf7), e_u8(e, 0xc2), e_u32(e, FL_AC | FL_TF); /* test T0d, AC | TF */
	lower_executor_if(t, CC_NE);
	e_store_gs(e, VOFF(gpr[R11]), T1);
	set_flags(e);
	e_mov_va(e, t->b->shared, RCX, tr_next_va(t));
	load16(e, T0, VOFF(star) + 4);
	e_alu_imm(e, false, 4, T0, 0xfffc);
	e_lea(e, false, T1, T0, NO_BASE, 1, 8);
	set_flat(e, SEG_CS, T0, FLAT_ATTR(0xb, 0, SEG_L));
	set_flat(e, SEG_SS, T1, FLAT_ATTR(0x3, 0, SEG_DB));
	set_cpl(e, 0);
	count(e, VOFF(counters.syscalls));
	e_load_gs(e, T0, VOFF(lstar));
	go(t, SLOT(S_JUMP_KERNEL), MODE_CPL0 | TLB_KERNEL);
}

void lower_sysret(struct tr *t, const struct insn *in)
{
	const uint8_t spare = t->mode & MODE_LA57 ? 64 - VA_BITS_5LEVEL : 64 - VA_BITS_4LEVEL;
	struct emit *e = &t->e;

	if (!inline_allowed(t) || in->opsize != 8 || !(t->mode & MODE_CPL0)) {
		lower_executor(t);
		return;
	}
	flags_to_slot(t);
	test_byte(e, VOFF(efer), EFER_SCE);
	lower_executor_if(t, CC_E);
	compare_byte(e, VOFF(irq_waiting), 0); /* IF may become set */
	lower_executor_if(t, CC_NE);
	e_mov_rr(e, T1, RCX); /* a target that is not canonical */
	e_u8(e, 0x49), e_u8(e, 0xc1), e_u8(e, 0xe3), e_u8(e, spare); /* shl T1, spare */
	e_u8(e, 0x49), e_u8(e, 0xc1), e_u8(e, 0xfb), e_u8(e, spare); /* sar T1, spare */
	e_op_rr(e, true, 0x3b, T1, RCX);
	lower_executor_if(t, CC_NE);
	e_load_gs32(e, T0, VOFF(gpr[R11]));
	e_alu_imm(e, false, 4, T0, (int32_t)(FL_LEGAL & ~(uint32_t)(FL_RF | FL_VM)));
	e_alu_imm(e, false, 1, T0, FL_R1);
	e_u8(e, 0x41), e_u8(e, 0xf7), e_u8(e, 0xc2), e_u32(e, FL_AC | FL_TF); /* test T0d, AC | TF */
	lower_executor_if(t, CC_NE);
	set_flags(e);
	load16(e, T0, VOFF(star) + 6);
	e_alu_imm(e, false, 4, T0, 0xfffc);
	e_lea(e, false, T1, T0, NO_BASE, 1, 8 | 3);
	e_lea(e, false, T0, T0, NO_BASE, 1, 16 | 3);
	set_flat(e, SEG_CS, T0, FLAT_ATTR(0xb, 3, SEG_L));
	set_flat(e, SEG_SS, T1, FLAT_ATTR(0x3, 3, SEG_DB));
	set_cpl(e, 3);
	count(e, VOFF(counters.sysrets));
	e_mov_rr(e, T0, RCX);
	go(t, SLOT(S_JUMP_USER), TLB_USER);
}
