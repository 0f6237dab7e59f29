/*
 * lower_stack.c - PUSH, POP, LEAVE: explicit accesses through the probe, one by one or in runs. The guest's RSP is the host's, and moves only
 * after the access has succeeded, so that a fault finds it untouched.
 */
#include "bt/lower.h"

#include "base/tune.h"

static void probe_push(struct tr *t)
{
	tr_lea(t, T0, RSP, -tr_word(t));
	lower_probe_stack(t, tr_word(t), true);
}

static void probe_top(struct tr *t)
{
	tr_copy(t, T0, RSP);
	lower_probe_stack(t, tr_word(t), false);
}

void lower_push_const(struct tr *t, uint64_t value)
{
	struct emit *e = &t->e;

	probe_push(t);
	if (!tr_wide(t) || (uint64_t)(int64_t)(int32_t)value == value) {
		e_op_mem(e, tr_wide(t), 0xc7, 0, T0, NO_BASE, 1, 0);
		e_u32(e, (uint32_t)value);
	} else {
		e_mov_imm(e, T1, value);
		tr_store(t, T0, 0, T1);
	}
	tr_move_rsp(t, -tr_word(t));
}

void lower_push_next(struct tr *t)
{
	if (!t->b->shared) {
		lower_push_const(t, tr_next_va(t));
		return;
	}
	probe_push(t);
	e_mov_va(&t->e, true, T1, tr_next_va(t));
	e_store(&t->e, T0, T1);
	tr_move_rsp(t, -tr_word(t));
}

/* The register operand of PUSH/POP: in the opcode, or ModRM.rm. */
static uint8_t stack_reg(const struct insn *in) { return in->reg; }

void lower_push(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	uint8_t r = stack_reg(in);

	if (in->opsize != tr_word(t) || in->sreg != INSN_NO_REG) {
		lower_executor(t);
		return;
	}
	if (in->mem.present) {
		lower_address(t, in, 0);
		lower_probe(t, tr_word(t), false);
		tr_load(t, T1, T0, 0);
		e_store_gs(e, SLOT(S_TMP0), T1);
		probe_push(t);
		e_load_gs(e, T1, SLOT(S_TMP0));
		tr_store(t, T0, 0, T1);
		tr_move_rsp(t, -tr_word(t));
	} else if (r == INSN_NO_REG) {
		lower_push_const(t, (uint64_t)in->imm);
	} else {
		probe_push(t);
		if (r == R10 || r == R11) {
			e_load_gs(e, T1, VOFF(gpr[r]));
			r = T1;
		}
		tr_store(t, T0, 0, r);
		tr_move_rsp(t, -tr_word(t));
	}
}

void lower_pop(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	uint8_t r = stack_reg(in);

	if (in->opsize != tr_word(t) || in->sreg != INSN_NO_REG) {
		lower_executor(t);
		return;
	}
	probe_top(t);
	if (in->mem.present) {
		/* RSP as base counts after the increment (SDM vol. 2, "POP"). */
		tr_load(t, T1, T0, 0);
		e_store_gs(e, SLOT(S_TMP0), T1);
		lower_address(t, in, in->mem.base == RSP ? tr_word(t) : 0);
		lower_probe(t, tr_word(t), true);
		e_load_gs(e, T1, SLOT(S_TMP0));
		tr_store(t, T0, 0, T1);
		tr_move_rsp(t, tr_word(t));
		return;
	}
	if (r == RSP) {
		tr_load(t, RSP, T0, 0);
		return;
	}
	tr_move_rsp(t, tr_word(t));
	if (r == R10 || r == R11) {
		tr_load(t, T1, T0, 0);
		e_store_gs(e, VOFF(gpr[r]), T1);
	} else {
		tr_load(t, r, T0, 0);
	}
}

void lower_leave(struct tr *t, const struct insn *in)
{
	if (in->opsize != tr_word(t)) {
		lower_executor(t);
		return;
	}
	tr_copy(t, T0, RBP);
	lower_probe_stack(t, tr_word(t), false);
	tr_lea(t, RSP, RBP, tr_word(t));
	tr_load(t, RBP, T0, 0);
}

/* A PUSH that may be one of a group: of a register other than RSP, or a constant that fits an instruction. */
static bool groups_push(const struct tr *t, const struct insn *in)
{
	return in->cls == INSN_PUSH && in->opsize == tr_word(t) && in->sreg == INSN_NO_REG && !in->mem.present && stack_reg(in) != RSP;
}

static bool groups_pop(const struct tr *t, const struct insn *in)
{
	return in->cls == INSN_POP && in->opsize == tr_word(t) && in->sreg == INSN_NO_REG && !in->mem.present && stack_reg(in) != RSP;
}

/*
 * T0 := host address of [RSP + low, + bytes), if all of it is in one page. Else the code goes on in a block of MODE_SINGLY, made when the first
 * run crosses a page here, which few ever do. The flags are in S_FLAGS then, or dead.
 */
static void check_run(struct tr *t, int32_t low, int32_t bytes, bool write)
{
	struct emit *c = &t->cold;
	uint8_t *miss[2], *crosses;

	tr_before_clobber(t);
	if (low)
		tr_lea(t, T0, RSP, low);
	else
		tr_copy(t, T0, RSP);
	lower_stack_lookup(t, bytes, miss);
	e_patch(miss[0], c->p);
	lower_stack_lookup_undo(t, c);
	e_op_rr(c, false, 0x8b, T1, T0);
	e_alu_imm(c, false, 4, T1, (int32_t)~PAGE_MASK);
	e_alu_imm(c, false, 7, T1, 4096 - bytes);
	crosses = e_jcc(c, CC_A);
	/* A fault would be that of the run's lower end: let the executor find the first. */
	{
		struct site *site = lower_stack_missed(t, 8, write, false, c);

		site->careful = 1;
		site->host = tr_offset(t, t->e.p);
	}
	e_patch(crosses, c->p);
	e_patch(miss[1], c->p);
	lower_link_singly(t);
}

static void store_pushed(struct tr *t, const struct insn *in, int32_t at)
{
	struct emit *e = &t->e;
	uint8_t r = stack_reg(in);

	if (r == INSN_NO_REG) {
		e_op_mem(e, tr_wide(t), 0xc7, 0, T0, NO_BASE, 1, at);
		e_u32(e, (uint32_t)in->imm);
		return;
	}
	if (r == R10 || r == R11) {
		e_load_gs(e, T1, VOFF(gpr[r]));
		r = T1;
	}
	tr_store(t, T0, at, r);
}

static void load_popped(struct tr *t, const struct insn *in, int32_t at)
{
	struct emit *e = &t->e;
	const uint8_t r = stack_reg(in), to = r == R10 || r == R11 ? T1 : r;

	tr_load(t, to, T0, at);
	if (to == T1)
		e_store_gs(e, VOFF(gpr[r]), T1);
}

/*
 * What may stand in a run between PUSHes, or between POPs: registers only, without the two that are in memory, and RSP as it is. Compilers copy arguments into the registers that they have just saved, and
 * results while they restore them.
 */
static bool between(const struct tr *t, const struct insn *in)
{
	const uint16_t used = in->gpr_read | in->gpr_write;

	return in->cls == INSN_PLAIN && !in->mem.present && tr_cannot_fault(in) && !tr_for_executor(t, in) && !(used & (1u << R10 | 1u << R11)) && !(in->gpr_write & 1u << RSP);
}

/* The run of what `groups` that begins with the current instruction: how many instructions, and how many of them are of the stack. */
static unsigned run_of(const struct tr *t, bool (*groups)(const struct tr *, const struct insn *), unsigned *count)
{
	const struct insn *in = &t->insn[t->i];
	unsigned n = 0;

	*count = 0;
	for (unsigned k = 0; k < t->n - t->i; k++) {
		if (groups(t, &in[k]))
			n = k + 1, (*count)++;
		else if (!between(t, &in[k]))
			break;
	}
	return n;
}

/* The n instructions of a run, all within what check_run found: T0 is its host address, `bytes` its length. RSP is moved by what is returned, less than all: where others between want it. */
static int32_t lower_run(struct tr *t, unsigned n, bool push, int32_t bytes)
{
	const struct insn *in = &t->insn[t->i];
	const unsigned first = t->i;
	const int32_t word = tr_word(t);
	int32_t done = 0, moved = 0;

	for (unsigned k = 0; k < n; k++) {
		if (push ? groups_push(t, &in[k]) : groups_pop(t, &in[k])) {
			if (push)
				store_pushed(t, &in[k], bytes - word - done);
			else
				load_popped(t, &in[k], done);
			done += word;
			continue;
		}
		if (in[k].gpr_read & 1u << RSP && moved != done) {
			tr_move_rsp(t, push ? moved - done : done - moved);
			moved = done;
		}
		t->i = first + k;
		lower_plain(t, &in[k]);
	}
	t->i = first;
	return moved;
}

unsigned lower_stack_run(struct tr *t)
{
	const struct insn *in = &t->insn[t->i];
	const int32_t word = tr_word(t);
	int32_t bytes, moved;
	unsigned n, end, count;
	bool ret;

	if (!tune_on(t->bt->memory->tune, TUNE_GROUP_STACK))
		return 0;
	t->singly = t->singly && (groups_push(t, in) || groups_pop(t, in) || in->cls == INSN_RET);
	if (t->singly)
		return 0;
	if (groups_push(t, in)) {
		n = run_of(t, groups_push, &count);
		if (count < 2)
			return 0;
		bytes = word * (int32_t)count;
		check_run(t, -bytes, bytes, true);
		moved = lower_run(t, n, true, bytes);
		tr_move_rsp(t, moved - bytes);
		return n;
	}
	if (!groups_pop(t, in))
		return 0;
	n = end = run_of(t, groups_pop, &count);
	while (t->i + end < t->n && between(t, &in[end]))
		end++;
	ret = t->i + end < t->n && in[end].cls == INSN_RET && in[end].opsize == word && !in[end].imm;
	if (ret)
		n = end;
	if (count + ret < 2)
		return 0;
	bytes = word * (int32_t)(count + ret);
	check_run(t, 0, bytes, false);
	moved = lower_run(t, n, false, bytes);
	if (!ret) {
		tr_move_rsp(t, bytes - moved);
		return n;
	}
	tr_load(t, T0, T0, bytes - word);
	t->i += n;
	lower_ret_to(t, bytes - moved, word);
	return 1;
}
