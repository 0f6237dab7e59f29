/*
 * lower_system.c - system instructions that kernels execute too often for the executor: the virtual flags (CLI, STI,
 * PUSHF, CLD, STAC, CLAC), SWAPGS, the segment bases, and the time-stamp counter.
 *
 * Conditions that rarely fail are tested inline and lead to the executor, which then raises what there is to raise. STAC and
 * CLAC change the table that probes use: the rest of the block is translated for the new one, and exits from there change to the jump table of
 * the new mode, since links and the jump table in force belong to the mode at the block's entry (lower_flow.c).
 */
#include "bt/lower.h"

/* op byte gs:[rflags + n], imm8: ext 1 or, 4 and. Clobbers flags. */
static void flag_byte(struct tr *t, unsigned n, uint8_t ext, uint8_t imm)
{
	struct emit *e = &t->e;

	e_u8(e, 0x65);
	e_u8(e, 0x80);
	e_modrm(e, ext, NO_BASE, NO_BASE, 1, VOFF(rflags) + (int32_t)n);
	e_u8(e, imm);
}

static void clear_flag(struct tr *t, uint32_t flag)
{
	unsigned bit = (unsigned)__builtin_ctz(flag);

	tr_before_clobber(t);
	flag_byte(t, bit / 8, 4, (uint8_t)~(1u << bit % 8));
}

static void set_flag(struct tr *t, uint32_t flag)
{
	unsigned bit = (unsigned)__builtin_ctz(flag);

	tr_before_clobber(t);
	flag_byte(t, bit / 8, 1, (uint8_t)(1u << bit % 8));
}

void lower_executor_if(struct tr *t, uint8_t cc)
{
	e_patch(e_jcc(&t->e, cc), t->cold.p);
	if (t->in_slot)
		e_restore_flags(&t->cold);
	e_set_rip(&t->cold, t->b->shared, tr_va(t));
	e_jmp_to(&t->cold, t->bt->leave[LEAVE_EXEC]);
}

/* test dword gs:[cr4], bits */
static void test_cr4(struct emit *e, uint32_t bits)
{
	e_u8(e, 0x65);
	e_u8(e, 0xf7);
	e_modrm(e, 0, NO_BASE, NO_BASE, 1, VOFF(cr4));
	e_u32(e, bits);
}

void lower_cli(struct tr *t, const struct insn *in)
{
	(void)in;
	if (t->mode & MODE_CPL0)
		clear_flag(t, FL_IF);
	else
		lower_executor(t);
}

static void set_inhibit(struct emit *e, uint8_t value)
{
	e_u8(e, 0x65); /* mov byte gs:[inhibit], value */
	e_u8(e, 0xc6);
	e_modrm(e, 0, NO_BASE, NO_BASE, 1, VOFF(inhibit));
	e_u8(e, value);
}

void lower_shadow_end(struct tr *t)
{
	set_inhibit(&t->e, 0);
	t->shadow = 0;
}

/*
 * STI holds interrupts off until after the next instruction, so it must not be the last of a block: the next instruction, whether
 * inline or by the executor, then runs before anybody looks at v->pending.
 *
 * In guest mode #VMEXIT saves the shadow, so vcpu.inhibit tells of it while the next instruction runs: one that goes on here if it ends at all, or one for the executor.
 */
void lower_sti(struct tr *t, const struct insn *in)
{
	const bool guest = t->mode & MODE_GUEST;
	const struct insn *next = in + 1;
	struct emit *e = &t->e;

	if (!(t->mode & MODE_CPL0) || t->i + 1 >= t->n || (guest && next->cls != INSN_NOP && next->cls != INSN_PLAIN && !tr_for_executor(t, next))) {
		lower_executor(t);
		return;
	}
	tr_before_clobber(t);
	if (guest) { /* set already: there is no shadow */
		e_u8(e, 0x65); /* test byte gs:[rflags + 1], IF >> 8 */
		e_u8(e, 0xf6);
		e_modrm(e, 0, NO_BASE, NO_BASE, 1, VOFF(rflags) + 1);
		e_u8(e, FL_IF >> 8);
		lower_executor_if(t, CC_NE);
	}
	e_u8(e, 0x65); /* cmp byte gs:[irq_waiting], 0 */
	e_u8(e, 0x80);
	e_modrm(e, 7, NO_BASE, NO_BASE, 1, VOFF(irq_waiting));
	e_u8(e, 0);
	lower_executor_if(t, CC_NE);
	flag_byte(t, 1, 1, FL_IF >> 8);
	if (guest) {
		set_inhibit(e, INHIBIT_STI);
		t->shadow = t->i + 1;
	}
}

void lower_cld(struct tr *t, const struct insn *in)
{
	if (in->cls == INSN_CLD)
		clear_flag(t, FL_DF);
	else
		set_flag(t, FL_DF);
}

void lower_stac(struct tr *t, const struct insn *in)
{
	bool set = in->cls == INSN_STAC;

	if (!(t->mode & MODE_CPL0)) {
		lower_executor(t);
		return;
	}
	if (set)
		set_flag(t, FL_AC);
	else
		clear_flag(t, FL_AC);
	if (t->mode & MODE_SMAP)
		t->mode = bt_mode_ac(t->mode, set);
}

/* The image: virtual flags from vcpu.rflags, arithmetic ones from S_FLAGS; RF and VM read as clear. */
void lower_pushf(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;

	if (in->opsize != tr_word(t)) {
		lower_executor(t);
		return;
	}
	if (!t->in_slot)
		e_save_flags(e);
	t->in_slot = true;
	t->in_host = false;
	tr_lea(t, T0, RSP, -tr_word(t));
	lower_probe(t, tr_word(t), true);
	lower_flags_image(t);
	tr_store(t, T0, 0, T1);
	tr_move_rsp(t, -tr_word(t));
}

void lower_flags_image(struct tr *t)
{
	struct emit *e = &t->e;

	e_store_gs(e, SLOT(S_RAX), RAX);
	e_u8(e, 0x65), e_u8(e, 0x0f), e_u8(e, 0xb6);	/* movzx eax, byte gs:[S_FLAGS + 1] */
	e_modrm(e, RAX, NO_BASE, NO_BASE, 1, SLOT(S_FLAGS) + 1);
	e_alu_imm(e, false, 4, RAX, FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF);
	e_u8(e, 0x65), e_u8(e, 0x44), e_u8(e, 0x0f), e_u8(e, 0xb6); /* movzx T1d, byte gs:[S_FLAGS] */
	e_modrm(e, T1, NO_BASE, NO_BASE, 1, SLOT(S_FLAGS));
	e_u8(e, 0x41), e_u8(e, 0xc1), e_u8(e, 0xe3), e_u8(e, 11); /* shl T1d, 11 */
	e_op_rr(e, false, 0x0b, T1, RAX);
	e_load_gs32(e, RAX, VOFF(rflags));
	e_alu_imm(e, false, 4, RAX, (int32_t)~(FL_ARITH | FL_RF | FL_VM));
	e_op_rr(e, false, 0x0b, T1, RAX);
	e_load_gs(e, RAX, SLOT(S_RAX));
}

#define SEG_BASE(s) (VOFF(seg) + (int32_t)((s) * sizeof(struct segment) + offsetof(struct segment, base)))

void lower_swapgs(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;

	(void)in;
	if (!(t->mode & MODE_CPL0)) {
		lower_executor(t);
		return;
	}
	e_load_gs(e, T0, SEG_BASE(SEG_GS));
	e_load_gs(e, T1, VOFF(kernel_gs_base));
	e_store_gs(e, SEG_BASE(SEG_GS), T1);
	e_store_gs(e, VOFF(kernel_gs_base), T0);
}

/* The host's counter and the guest's offset; CR4.TSD denies it outside of CPL 0. */
void lower_rdtsc(struct tr *t, const struct insn *in)
{
	static const uint8_t rdtsc[] = { 0x0f, 0x31 }, rdtscp[] = { 0x0f, 0x01, 0xf9 };
	static const uint8_t whole[] = { 0x48, 0xc1, 0xe2, 32, 0x48, 0x09, 0xd0 /* shl rdx, 32; or rax, rdx */ };
	struct emit *e = &t->e;

	tr_before_clobber(t);
	if (!(t->mode & MODE_CPL0)) {
		test_cr4(e, CR4_TSD);
		lower_executor_if(t, CC_NE);
	}
	if (in->cls == INSN_RDTSCP) /* waits for what is before it, and is quicker than a fence */
		e_bytes(e, rdtscp, sizeof(rdtscp));
	else
		e_bytes(e, rdtsc, sizeof(rdtsc));
	e_bytes(e, whole, sizeof(whole));
	e_op_gs(e, true, 0x03, RAX, VOFF(tsc_offset));
	if (t->mode & MODE_GUEST)
		e_op_gs(e, true, 0x03, RAX, VOFF(svm.tsc_offset));
	e_mov_rr(e, RDX, RAX);
	e_u8(e, 0x48), e_u8(e, 0xc1), e_u8(e, 0xea), e_u8(e, 32); /* shr rdx, 32 */
	e_op_rr(e, false, 0x8b, RAX, RAX);
	if (in->cls == INSN_RDTSCP)
		e_load_gs32(e, RCX, VOFF(tsc_aux));
}

/* RDFSBASE, WRGSBASE...: in a kernel's every switch between processes. */
void lower_fsgsbase(struct tr *t, const struct insn *in)
{
	const uint8_t r = in->mem_reg != INSN_NO_REG ? in->mem_reg : in->reg;
	const bool write = in->cls == INSN_WRFSBASE || in->cls == INSN_WRGSBASE, in_memory = r == R10 || r == R11;
	const uint8_t spare = (uint8_t)(64 - t->v->cpuid->va_bits); /* of an address; cpu_canonical */
	const int32_t base = SEG_BASE(in->cls == INSN_RDFSBASE || in->cls == INSN_WRFSBASE ? SEG_FS : SEG_GS);
	struct emit *e = &t->e;

	tr_before_clobber(t);
	test_cr4(e, (uint32_t)CR4_FSGSBASE);
	lower_executor_if(t, CC_E);
	if (!write) {
		e_load_gs(e, T0, base);
		if (in->opsize == 4)
			e_op_rr(e, false, 0x8b, T0, T0);
		if (in_memory)
			e_store_gs(e, VOFF(gpr[r]), T0);
		else
			e_mov_rr(e, r, T0);
		return;
	}
	if (in_memory)
		e_load_gs(e, T0, VOFF(gpr[r]));
	else
		e_mov_rr(e, T0, r);
	if (in->opsize == 4) {
		e_op_rr(e, false, 0x8b, T0, T0);
	} else { /* not canonical: #GP */
		e_mov_rr(e, T1, T0);
		e_u8(e, 0x49), e_u8(e, 0xc1), e_u8(e, 0xe3), e_u8(e, spare); /* shl r11, spare */
		e_u8(e, 0x49), e_u8(e, 0xc1), e_u8(e, 0xfb), e_u8(e, spare); /* sar r11, spare */
		e_op_rr(e, true, 0x3b, T1, T0);
		lower_executor_if(t, CC_NE);
	}
	e_store_gs(e, base, T0);
}

/* MOV r, Sreg: zero-extends for 32- and 64-bit operands, leaves the rest of a 16-bit one alone (SDM vol. 2, "MOV"). */
void lower_mov_from_seg(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	const uint8_t r = in->mem_reg, to = r == R10 || r == R11 ? T0 : r;

	if (in->mem.present || r == INSN_NO_REG || in->sreg >= SEG_COUNT) {
		lower_executor(t);
		return;
	}
	e_u8(e, 0x65); /* movzx T0d, word gs:[selector] */
	e_u8(e, e_rex(false, T0, 0, 0));
	e_u8(e, 0x0f), e_u8(e, 0xb7);
	e_modrm(e, T0, NO_BASE, NO_BASE, 1,
		VOFF(seg) + (int32_t)(in->sreg * sizeof(struct segment) + offsetof(struct segment, selector)));
	if (in->opsize == 2 && to == T0) {
		e_u8(e, 0x66);
		e_op_gs(e, false, 0x89, T0, VOFF(gpr[r]));
	} else if (in->opsize == 2) {
		e_u8(e, 0x66);
		e_op_rr(e, false, 0x8b, to, T0);
	} else if (to == T0) {
		e_store_gs(e, VOFF(gpr[r]), T0);
	} else {
		e_mov_rr(e, to, T0);
	}
}

/* Handlers of page faults read CR2, switches of address spaces CR3. Always 64 bits wide (SDM vol. 2, "MOV - Move to/from Control Registers"). */
void lower_mov_from_cr(struct tr *t, const struct insn *in)
{
	static const int32_t at[] = { VOFF(cr0), 0, VOFF(cr2), VOFF(cr3), VOFF(cr4) };
	const uint8_t r = in->reg, to = r == R10 || r == R11 ? T0 : r;

	if (!tr_wide(t) || !(t->mode & MODE_CPL0) || in->reg2 >= ARRAY_LEN(at) || !at[in->reg2]) {
		lower_executor(t);
		return;
	}
	e_load_gs(&t->e, to, at[in->reg2]);
	if (to != r)
		e_store_gs(&t->e, VOFF(gpr[r]), T0);
}
