/*
 * lower_syscall.c - SYSCALL and SYSRET between 64-bit user code and a 64-bit kernel, without leaving generated code.
 *
 * A hypervisor's interface takes SYSCALL in C (bt_domain_syscall), but from the code's own stub: that saves the way through bt_run.
 * Else, what the executor's versions (cpu/exec_syscall.c) do in the usual case; before anything has changed, whatever is unusual goes there. The code then goes on in the jump
 * table of the other side's context (jump.c, "ways").
 * Source: AMD APM vol. 2, "SYSCALL and SYSRET".
 */
#include "bt/emit_state.h"
#include "bt/lower.h"
#include "cpu/personality.h"

static bool allowed(const struct tr *t) { return tr_wide(t) && !t->v->mmu.trace && tune_on(t->bt->memory->tune, TUNE_INLINE_SYSCALL); }
static bool inline_allowed(const struct tr *t) { return allowed(t) && t->v->personality == &personality_bare; }

/* On to T0 in the context whose table is in `slot`; `mode` need only tell its size and whether blocks move. */
static void go(struct tr *t, int32_t slot, uint32_t mode)
{
	lower_jump_elsewhere(t, &t->e, slot, mode, tr_site(t, SITE_FAR));
	t->ended = true;
}

void lower_syscall(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;

	(void)in;
	if (!allowed(t)) {
		lower_executor(t);
		return;
	}
	tr_flags_to_slot(t);
	if (t->v->personality != &personality_bare) {
		e_set_rip(e, t->b->shared, tr_va(t));
		e_jmp_to(e, t->bt->domain_syscall);
		t->ended = true;
		return;
	}
	e_test_byte(e, VOFF(efer), EFER_SCE);
	lower_executor_if(t, CC_E);
	lower_flags_image(t);
	e_load_gs(e, T0, VOFF(sfmask));
	e_not(e, T0);
	e_op_rr(e, true, 0x23, T0, T1);
	e_alu_imm(e, true, 1, T0, FL_R1);
	e_u8(e, 0x41), e_u8(e, 0xf7), e_u8(e, 0xc2), e_u32(e, FL_AC | FL_TF); /* test T0d, AC | TF */
	lower_executor_if(t, CC_NE);
	e_store_gs(e, VOFF(gpr[R11]), T1);
	e_set_flags(e);
	e_mov_va(e, t->b->shared, RCX, tr_next_va(t));
	e_load16(e, T0, VOFF(star) + 4);
	e_alu_imm(e, false, 4, T0, 0xfffc);
	e_lea(e, false, T1, T0, NO_BASE, 1, 8);
	e_set_flat(e, SEG_CS, T0, FLAT_ATTR(0xb, 0, SEG_L));
	e_set_flat(e, SEG_SS, T1, FLAT_ATTR(0x3, 0, SEG_DB));
	e_set_cpl(e, 0);
	e_count(e, VOFF(counters.syscalls));
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
	tr_flags_to_slot(t);
	e_test_byte(e, VOFF(efer), EFER_SCE);
	lower_executor_if(t, CC_E);
	e_compare_byte(e, VOFF(irq_waiting), 0); /* IF may become set */
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
	e_set_flags(e);
	e_load16(e, T0, VOFF(star) + 6);
	e_alu_imm(e, false, 4, T0, 0xfffc);
	e_lea(e, false, T1, T0, NO_BASE, 1, 8 | 3);
	e_lea(e, false, T0, T0, NO_BASE, 1, 16 | 3);
	e_set_flat(e, SEG_CS, T0, FLAT_ATTR(0xb, 3, SEG_L));
	e_set_flat(e, SEG_SS, T1, FLAT_ATTR(0x3, 3, SEG_DB));
	e_set_cpl(e, 3);
	e_count(e, VOFF(counters.sysrets));
	e_mov_rr(e, T0, RCX);
	go(t, SLOT(S_JUMP_USER), TLB_USER);
}
