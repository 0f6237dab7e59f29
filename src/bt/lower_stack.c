/*
 * lower_stack.c - PUSH, POP, LEAVE: explicit accesses through the probe, one by one or in runs. The guest's RSP is the host's, and moves only
 * after the access has succeeded, so that a fault finds it untouched.
 */
#include "bt/lower.h"

#include "base/tune.h"

static void probe_push(struct tr *t, unsigned size)
{
	e_lea(&t->e, true, T0, RSP, NO_BASE, 1, -(int32_t)size);
	lower_probe_stack(t, size, true);
}

static void probe_top(struct tr *t, unsigned size)
{
	e_mov_rr(&t->e, T0, RSP);
	lower_probe_stack(t, size, false);
}

static void move_rsp(struct tr *t, int32_t by) { e_lea(&t->e, true, RSP, RSP, NO_BASE, 1, by); }

void lower_push_const(struct tr *t, uint64_t value)
{
	struct emit *e = &t->e;

	probe_push(t, 8);
	if ((uint64_t)(int64_t)(int32_t)value == value) {
		e_op_mem(e, true, 0xc7, 0, T0, NO_BASE, 1, 0);
		e_u32(e, (uint32_t)value);
	} else {
		e_mov_imm(e, T1, value);
		e_store(e, T0, T1);
	}
	move_rsp(t, -8);
}

/* The register operand of PUSH/POP: in the opcode, or ModRM.rm. */
static uint8_t stack_reg(const struct insn *in) { return in->reg; }

void lower_push(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	uint8_t r = stack_reg(in);

	if (in->opsize != 8 || in->sreg != INSN_NO_REG) {
		lower_executor(t);
		return;
	}
	if (in->mem.present) {
		lower_address(t, in, 0);
		lower_probe(t, 8, false);
		e_load(e, T1, T0);
		e_store_gs(e, SLOT(S_TMP0), T1);
		probe_push(t, 8);
		e_load_gs(e, T1, SLOT(S_TMP0));
		e_store(e, T0, T1);
		move_rsp(t, -8);
	} else if (r == INSN_NO_REG) {
		lower_push_const(t, (uint64_t)in->imm);
	} else {
		probe_push(t, 8);
		if (r == R10 || r == R11) {
			e_load_gs(e, T1, VOFF(gpr[r]));
			r = T1;
		}
		e_store(e, T0, r);
		move_rsp(t, -8);
	}
}

void lower_pop(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	uint8_t r = stack_reg(in);

	if (in->opsize != 8 || in->sreg != INSN_NO_REG) {
		lower_executor(t);
		return;
	}
	probe_top(t, 8);
	if (in->mem.present) {
		/* RSP as base counts after the increment (SDM vol. 2, "POP"). */
		e_load(e, T1, T0);
		e_store_gs(e, SLOT(S_TMP0), T1);
		lower_address(t, in, in->mem.base == RSP ? 8 : 0);
		lower_probe(t, 8, true);
		e_load_gs(e, T1, SLOT(S_TMP0));
		e_store(e, T0, T1);
		move_rsp(t, 8);
		return;
	}
	if (r == RSP) {
		e_load(e, RSP, T0);
		return;
	}
	move_rsp(t, 8);
	if (r == R10 || r == R11) {
		e_load(e, T1, T0);
		e_store_gs(e, VOFF(gpr[r]), T1);
	} else {
		e_load(e, r, T0);
	}
}

void lower_leave(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;

	if (in->opsize != 8) {
		lower_executor(t);
		return;
	}
	e_mov_rr(e, T0, RBP);
	lower_probe_stack(t, 8, false);
	e_lea(e, true, RSP, RBP, NO_BASE, 1, 8);
	e_load(e, RBP, T0);
}

/* A PUSH that may be one of a group: of a register other than RSP, or a constant that fits an instruction. */
static bool groups_push(const struct insn *in)
{
	return in->cls == INSN_PUSH && in->opsize == 8 && in->sreg == INSN_NO_REG && !in->mem.present && stack_reg(in) != RSP;
}

static bool groups_pop(const struct insn *in)
{
	return in->cls == INSN_POP && in->opsize == 8 && in->sreg == INSN_NO_REG && !in->mem.present && stack_reg(in) != RSP;
}

/* T0 := host address of [RSP + low, + bytes), if the stack entry has it all. */
static struct group *check_run(struct tr *t, int32_t low, int32_t bytes, unsigned count)
{
	struct group *g = &t->group[t->groups++];

	tr_before_clobber(t);
	e_lea(&t->e, true, T0, RSP, NO_BASE, 1, low);
	lower_stack_lookup(t, bytes, g->miss);
	g->first = (uint8_t)t->i;
	g->count = (uint8_t)count;
	g->in_slot = t->in_slot;
	return g;
}

static void store_pushed(struct tr *t, const struct insn *in, int32_t at)
{
	struct emit *e = &t->e;
	uint8_t r = stack_reg(in);

	if (r == INSN_NO_REG) {
		e_op_mem(e, true, 0xc7, 0, T0, NO_BASE, 1, at);
		e_u32(e, (uint32_t)in->imm);
		return;
	}
	if (r == R10 || r == R11) {
		e_load_gs(e, T1, VOFF(gpr[r]));
		r = T1;
	}
	e_op_mem(e, true, 0x89, r, T0, NO_BASE, 1, at);
}

static void load_popped(struct tr *t, const struct insn *in, int32_t at)
{
	struct emit *e = &t->e;
	const uint8_t r = stack_reg(in), to = r == R10 || r == R11 ? T1 : r;

	e_op_mem(e, true, 0x8b, to, T0, NO_BASE, 1, at);
	if (to == T1)
		e_store_gs(e, VOFF(gpr[r]), T1);
}

unsigned lower_stack_run(struct tr *t)
{
	const struct insn *in = &t->insn[t->i];
	unsigned n = 0, most = t->n - t->i;
	struct group *g;
	bool ret;

	if (t->groups == MAX_GROUPS || !tune_on(t->bt->memory->tune, TUNE_GROUP_STACK))
		return 0;
	if (groups_push(in)) {
		while (n < most && groups_push(&in[n]))
			n++;
		if (n < 2)
			return 0;
		g = check_run(t, -8 * (int32_t)n, 8 * (int32_t)n, n);
		for (unsigned k = 0; k < n; k++)
			store_pushed(t, &in[k], 8 * (int32_t)(n - 1 - k));
		move_rsp(t, -8 * (int32_t)n);
		g->back = t->e.p;
		return n;
	}
	if (!groups_pop(in))
		return 0;
	while (n < most && groups_pop(&in[n]))
		n++;
	ret = n < most && in[n].cls == INSN_RET && in[n].opsize == 8 && !in[n].imm;
	if (n + ret < 2)
		return 0;
	g = check_run(t, 0, 8 * (int32_t)(n + ret), n + ret);
	for (unsigned k = 0; k < n; k++)
		load_popped(t, &in[k], 8 * (int32_t)k);
	if (!ret) {
		move_rsp(t, 8 * (int32_t)n);
		g->back = t->e.p;
		return n;
	}
	e_op_mem(&t->e, true, 0x8b, T0, T0, NO_BASE, 1, 8 * (int32_t)n);
	move_rsp(t, 8 * (int32_t)n);
	g->back = 0;
	t->i += n;
	lower_ret_to(t, 8);
	return 1;
}
