/*
 * lower_mem.c - memory operands: the effective address, and instructions copied with the operand redirected to where a probe
 * (lower_probe.c) or a span (lower_span.c) found it.
 */
#include "bt/lower.h"

static bool fits32(uint64_t value) { return (uint64_t)(int64_t)(int32_t)value == value; }

/* An address off FS or GS with a register at most, which is what kernels and libraries use these for: the base first, then one LEA adds the rest. */
static bool off_segment(struct tr *t, const struct insn *in, int32_t adjust)
{
	const struct insn_mem *m = &in->mem;
	uint64_t disp = (uint64_t)m->disp + (uint64_t)(int64_t)adjust;

	if ((m->seg != SEG_FS && m->seg != SEG_GS) || in->addrsize != 8 || !tr_wide(t) || m->index != INSN_NO_REG || m->base == R10 || m->base == R11 ||
	    (m->base == INSN_BASE_RIP && t->b->shared))
		return false;
	if (m->base == INSN_BASE_RIP)
		disp += tr_next_va(t);
	if (!fits32(disp))
		return false;
	e_load_gs(&t->e, T0, VOFF(seg) + (int32_t)(m->seg * sizeof(struct segment) + offsetof(struct segment, base)));
	if (m->base < 16)
		e_lea(&t->e, true, T0, m->base, T0, 1, (int32_t)disp);
	else
		e_lea(&t->e, true, T0, T0, NO_BASE, 1, (int32_t)disp);
	return true;
}

/*
 * The guest's R10 and R11 come from memory and go there at once. So that what follows need not wait for them, an instruction that leaves one in a temporary notes it (keep), and the next
 * takes it from there (kept_in). Nothing but those two is emitted between, so no code comes from elsewhere with something else in the temporaries.
 */
static void keep(struct tr *t, uint8_t in_t0, uint8_t in_t1)
{
	t->kept_at = t->e.p;
	t->kept[0] = in_t0;
	t->kept[1] = in_t1;
}

/* The temporary that holds the guest's reg, or INSN_NO_REG. */
static uint8_t kept_in(const struct tr *t, uint8_t reg)
{
	if (t->kept_at != t->e.p)
		return INSN_NO_REG;
	return t->kept[0] == reg ? T0 : t->kept[1] == reg ? T1 : INSN_NO_REG;
}

static bool is_spilled(uint8_t reg) { return reg == R10 || reg == R11; }

/* Base and index of an address to registers of the host's: T0 and T1 take those that are in memory. */
static void address_registers(struct tr *t, uint8_t *base, uint8_t *index)
{
	const uint8_t b = is_spilled(*base) ? kept_in(t, *base) : *base, x = is_spilled(*index) ? kept_in(t, *index) : *index;
	const uint8_t for_base = x == T0 ? T1 : T0, for_index = b == T1 ? T0 : T1;

	if (is_spilled(*base) && b == INSN_NO_REG)
		e_load_gs(&t->e, for_base, VOFF(gpr[*base]));
	if (is_spilled(*index) && x == INSN_NO_REG)
		e_load_gs(&t->e, for_index, VOFF(gpr[*index]));
	*base = is_spilled(*base) && b == INSN_NO_REG ? for_base : b;
	*index = is_spilled(*index) && x == INSN_NO_REG ? for_index : x;
}

/* Does a MOV, MOVZX or MOVSX write all of its register, whose old value nobody needs then? */
static bool moves_whole(const struct insn *in)
{
	if (in->opsize < 4 || in->vex_off || in->cls != INSN_PLAIN)
		return false;
	return in->map == 0 ? in->opcode == 0x8b || in->opcode == 0x63 || in->opcode >> 3 == 0xb8 >> 3 || (!in->mem.present && (in->opcode == 0x89 || in->opcode == 0xc7)) :
	       in->map == 1 && (in->opcode & 0xf6) == 0xb6;
}

void lower_address(struct tr *t, const struct insn *in, int32_t adjust)
{
	struct emit *e = &t->e;
	const struct insn_mem *m = &in->mem;
	bool wide = in->addrsize == 8;
	uint8_t base = m->base, index = m->index;
	bool seg = m->seg == SEG_FS || m->seg == SEG_GS;

	if (off_segment(t, in, adjust))
		return;
	if (base == INSN_BASE_RIP) {
		e_mov_va(e, t->b->shared, T0, tr_next_va(t) + (uint64_t)m->disp + (uint64_t)(int64_t)adjust);
		if (!wide)
			e_op_rr(e, false, 0x8b, T0, T0);
	} else if (base == INSN_NO_REG && index == INSN_NO_REG) {
		uint64_t va = (uint64_t)m->disp + (uint64_t)(int64_t)adjust;

		e_mov_imm(e, T0, wide ? va : (uint32_t)va);
	} else if (!fits32((uint64_t)(m->disp + adjust))) {
		/* a displacement at the edge of 32 bits that the adjustment pushed over: two steps */
		lower_address(t, in, 0);
		e_lea(e, wide, T0, T0, NO_BASE, 1, adjust);
		return;
	} else {
		address_registers(t, &base, &index);
		if (index == INSN_NO_REG && m->disp + adjust == 0)
			e_op_rr(e, wide, 0x8b, T0, base); /* which costs the host less */
		else
			e_lea(e, wide, T0, base == INSN_NO_REG ? NO_BASE : base, index == INSN_NO_REG ? NO_BASE : index, m->scale, (int32_t)(m->disp + adjust));
	}
	if (seg) {
		e_load_gs(e, T1, VOFF(seg) + (int32_t)(m->seg * sizeof(struct segment) + offsetof(struct segment, base)));
		e_lea(e, tr_wide(t), T0, T0, T1, 1, 0);
	}
}

static bool wants_flags(const struct tr *t, const struct insn *in)
{
	return (in->fl_read & FL_ARITH) || ((in->fl_write & FL_ARITH) && (t->live[t->i + 1] & ~in->fl_kill));
}

/* After the probe: makes flags right for an instruction that reads them or leaves some live ones alone. May clobber T1. */
static void settle_flags(struct tr *t, const struct insn *in)
{
	if (wants_flags(t, in))
		tr_need_host_flags(t);
}

static void note_flags(struct tr *t, const struct insn *in)
{
	if (in->fl_write & FL_ARITH) {
		t->in_host = true;
		t->in_slot = false;
	}
}

/* No memory operand (or only an address: lea): the guest's R10 and R11 come into the temporaries of the same number. */
static void plain_registers(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	const uint16_t used = in->gpr_read | (moves_whole(in) ? 0 : in->gpr_write), named = in->gpr_read | in->gpr_write;

	settle_flags(t, in);
	if (named & (1u << R10 | 1u << R11)) {
		const uint8_t r10 = kept_in(t, R10), r11 = kept_in(t, R11);

		if (r10 == T1 && r11 == T0)
			e_op_rr(e, true, 0x87, T0, T1); /* xchg */
		else if (r10 == T1 && used & 1u << R10)
			e_mov_rr(e, T0, T1);
		else if (r11 == T0 && used & 1u << R11)
			e_mov_rr(e, T1, T0);
		if (r10 == INSN_NO_REG && used & 1u << R10)
			e_load_gs(e, T0, VOFF(gpr[R10]));
		if (r11 == INSN_NO_REG && used & 1u << R11)
			e_load_gs(e, T1, VOFF(gpr[R11]));
	}
	tr_mark(t);
	e->p += insn_emit_reg(e->p, in);
	if (in->gpr_write & 1u << R10)
		e_store_gs(e, VOFF(gpr[R10]), T0);
	if (in->gpr_write & 1u << R11)
		e_store_gs(e, VOFF(gpr[R11]), T1);
	if (named & (1u << R10 | 1u << R11))
		keep(t, named & 1u << R10 ? R10 : INSN_NO_REG, named & 1u << R11 ? R11 : INSN_NO_REG);
	note_flags(t, in);
}

/* An address of two registers at most, straight to where it belongs. */
static bool direct_lea(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	const struct insn_mem *m = &in->mem;
	const bool wide = in->opsize == 8 && in->addrsize == 8;
	const uint8_t to = is_spilled(in->reg) ? T0 : in->reg;
	uint8_t base = m->base, index = m->index;

	if (in->opsize < 4 || (base == INSN_NO_REG && index == INSN_NO_REG) || !fits32((uint64_t)m->disp))
		return false;
	if (base == INSN_BASE_RIP) {
		if (!wide)
			return false;
		e_mov_va(e, t->b->shared, to, tr_next_va(t) + (uint64_t)m->disp);
	} else {
		address_registers(t, &base, &index);
		e_lea(e, wide, to, base == INSN_NO_REG ? NO_BASE : base, index == INSN_NO_REG ? NO_BASE : index, m->scale, (int32_t)m->disp);
	}
	if (is_spilled(in->reg)) {
		e_store_gs(e, VOFF(gpr[in->reg]), T0);
		keep(t, in->reg, INSN_NO_REG);
	}
	return true;
}

/* LEA: the address is the result. What direct_lea leaves goes through lower_address. */
static void plain_lea(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	struct insn flat;

	if (direct_lea(t, in))
		return;
	flat = *in;
	flat.mem.seg = SEG_DS;
	lower_address(t, &flat, 0);
	if (in->opsize == 2) { /* keeps the upper bits: mov r16, T0w */
		if (in->reg == R10 || in->reg == R11) {
			e_u8(e, 0x66);
			e_op_gs(e, false, 0x89, T0, VOFF(gpr[in->reg]));
		} else {
			e_u8(e, 0x66);
			e_op_rr(e, false, 0x8b, in->reg, T0);
		}
		return;
	}
	if (in->opsize == 4) /* zero-extends */
		e_op_rr(e, false, 0x8b, T0, T0);
	if (in->reg == R10 || in->reg == R11)
		e_store_gs(e, VOFF(gpr[in->reg]), T0);
	else
		e_mov_rr(e, in->reg, T0);
}

static void plain_memory(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	uint16_t named = 0; /* R10 or R11 as a register operand */
	uint8_t temp = INSN_NO_REG;
	uint8_t code[24], code_direct[24];
	bool swapped = false;
	unsigned n, direct;

	if (in->reg_gpr && in->modrm_off) {
		uint8_t r = (uint8_t)((in->modrm >> 3) & 7);
		uint8_t rex = in->rex_off ? in->bytes[in->rex_off - 1] : 0;

		if (in->vex_off)
			r |= (uint8_t)(in->bytes[in->vex_off] & 0x80 ? 0 : 8);
		else
			r |= (uint8_t)((rex & 4) << 1);
		if (r == R10 || r == R11)
			named |= (uint16_t)(1u << r);
	}
	if (in->vvvv_gpr) {
		uint8_t last = in->bytes[in->vex_off - 1] == 0xc5 ? in->bytes[in->vex_off] : in->bytes[in->vex_off + 1];
		uint8_t r = (~last >> 3) & 15;

		if (r == R10 || r == R11)
			named |= (uint16_t)(1u << r);
	}
	if (named == (1u << R10 | 1u << R11)) {
		lower_executor(t);
		return;
	}
	if (named)
		temp = named & 1u << R10 ? R10 : R11;
	n = insn_emit_base(code, in, T0, lower_span_offset(t), temp, temp == INSN_NO_REG ? INSN_NO_REG : T1);
	if (!n && in->gpr_high && tr_cannot_fault(in)) { /* AH..BH exclude the REX prefix that T0 needs: RSI changes places with it */
		swapped = true;
		n = insn_emit_base(code, in, RSI, lower_span_offset(t), INSN_NO_REG, INSN_NO_REG);
	}
	if (!n || n > 15) { /* or it grew too long: rare */
		lower_executor(t);
		return;
	}
	if (!lower_span(t)) {
		const bool on_stack = in->mem.base == RSP && in->mem.index == INSN_NO_REG && !in->seg_prefix;

		/* T1 must be free until the instruction. */
		direct = on_stack || temp != INSN_NO_REG || swapped || wants_flags(t, in) ? 0 : lower_window_form(t, in, code_direct);
		if (direct) {
			lower_window_direct(t, in);
			tr_mark(t);
			e_bytes(e, code_direct, direct);
			note_flags(t, in);
			return;
		}
		lower_address(t, in, 0);
		if (on_stack)
			lower_probe_stack(t, in->mem.size, in->mem.write);
		else
			lower_probe(t, in->mem.size, in->mem.write);
	}
	settle_flags(t, in);
	if (temp != INSN_NO_REG && !moves_whole(in))
		e_load_gs(e, T1, VOFF(gpr[temp]));
	if (swapped)
		e_op_rr(e, true, 0x87, T0, RSI); /* xchg */
	tr_mark(t);
	e_bytes(e, code, n);
	if (swapped)
		e_op_rr(e, true, 0x87, T0, RSI);
	if (temp != INSN_NO_REG && in->gpr_write & 1u << temp)
		e_store_gs(e, VOFF(gpr[temp]), T1);
	if (temp != INSN_NO_REG)
		keep(t, INSN_NO_REG, temp);
	note_flags(t, in);
}

void lower_plain(struct tr *t, const struct insn *in)
{
	if (!in->mem.present)
		plain_registers(t, in);
	else if (!in->mem.size)
		plain_lea(t, in);
	else
		plain_memory(t, in);
}

/* Bit string: the bit offset moves the address; the operation then runs with the offset inside the operand. */
void lower_bt_mem(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	uint8_t code[24];
	unsigned n;

	if (in->reg == INSN_NO_REG || in->reg == R10 || in->reg == R11 || in->opsize < 4 || in->addrsize != tr_word(t) ||
	    !(n = insn_emit_base(code, in, T0, 0, in->reg, T1))) {
		lower_executor(t);
		return;
	}
	lower_address(t, in, 0);
	tr_before_clobber(t);
	if (in->opsize == 8) {
		e_mov_rr(e, T1, in->reg);
	} else { /* movsxd T1, reg32 */
		e_u8(e, e_rex(true, T1, 0, in->reg));
		e_u8(e, 0x63);
		e_u8(e, (uint8_t)(0xc0 | (T1 & 7) << 3 | (in->reg & 7)));
	}
	e_u8(e, 0x49), e_u8(e, 0xc1), e_u8(e, 0xfb), e_u8(e, 3); /* sar r11, 3 */
	e_alu_imm(e, true, 4, T1, -(int32_t)in->opsize);
	e_lea(e, in->addrsize == 8, T0, T0, T1, 1, 0);
	lower_probe(t, in->opsize, in->mem.write);
	e_mov_rr(e, T1, in->reg);
	e_alu_imm(e, true, 4, T1, in->opsize * 8 - 1);
	if (wants_flags(t, in) && !t->in_host) { /* which clobbers T1 */
		e_store_gs(e, SLOT(S_TMP0), T1);
		settle_flags(t, in);
		e_load_gs(e, T1, SLOT(S_TMP0));
	}
	tr_mark(t);
	e_bytes(e, code, n);
	note_flags(t, in);
}

/*
 * A prefetch is a look-up in level 1 and the host's own: without it code that counts on it waits for the memory that it works to hide. What level 1 does not have is not prefetched (it need
 * not be: AMD APM vol. 3, "PREFETCHlevel").
 */
void lower_nop(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	uint8_t *miss;

	if (!tr_prefetches(t, in))
		return;
	lower_address(t, in, 0);
	tr_before_clobber(t);
	miss = lower_lookup(t, 1, false, e);
	e_u8(e, 0x41), e_u8(e, 0x0f), e_u8(e, in->opcode), e_u8(e, (uint8_t)((in->modrm & 0x38) | (T0 & 7))); /* prefetch [T0] */
	e_patch(miss, e->p);
}
