/*
 * lower_flow.c - control transfer: direct jumps become patchable links inside a guest page and jump-table look-ups across
 * pages; returns and indirect jumps look up the jump table.
 *
 * A link starts out as a jump to a cold exit that leaves to C with its site; engine.c patches it to the target's entry that fits
 * the flag state at this edge (or to its polling entry if the jump goes backward, so that every loop polls).
 * At a jump-table look-up the flags are in S_FLAGS, so the look-up is free to use EFLAGS; the target's jump_entry expects them there.
 */
#include "bt/emit_state.h"
#include "bt/lower.h"
#include "bt/profile_internal.h"

/* Whether an edge to va can be a link: within the page, and not to where an instruction may cross into the next, for such a block is entered through the jump table only. */
static bool can_link(const struct tr *t, uint64_t va)
{
	return (va & PAGE_MASK) == (bt_block_key(t->b) & PAGE_MASK) && (va & ~PAGE_MASK) <= PAGE_SIZE - 15;
}

/* Where the jump table of a mode of kernel code with SMAP is kept. */
static int32_t table_of(uint32_t mode) { return SLOT((mode & MODE_SET) == TLB_KERNEL_AC ? S_JUMP_AC : S_JUMP_KERNEL); }

/* Has the code another table than the block was entered with, which edges change to? (32-bit code leaves.) */
static bool elsewhere(const struct tr *t) { return t->mode != t->b->mode && tr_wide(t); }

/*
 * Look-ups of their own make code large, and are worth it only where time is spent: a program that is spread over much code, such as a compiler, waits for the host's caches.
 * The kernel keeps them: nobody samples where it spends its time.
 */
static bool is_compact(const struct bt *bt, const struct block *b)
{
	return bt_jump_small(b->mode) && tune_on(bt->memory->tune, TUNE_COMPACT_JUMPS) && !bt_wants_windows(bt_windows_of(bt, b->mfn, (unsigned)(b->va & ~PAGE_MASK)));
}

/* T0 is the target; flags must be in S_FLAGS. Uses `e` for the look-up and the cold area for the miss. */
static void jump_table(struct tr *t, struct emit *e, uint32_t site, enum jump_kind kind)
{
	if (t->mode == t->b->mode && is_compact(t->bt, t->b)) {
		e_mov_imm(e, T1, site);
		e_jmp_to(e, t->bt->jump[kind][bt_jump_small(t->mode)]);
	} else if (t->mode == t->b->mode) {
		lower_jump_look_up(t, e, t->mode, site);
	} else if (tr_wide(t)) { /* after STAC or CLAC */
		lower_jump_elsewhere(t, e, table_of(t->mode), t->mode, site);
	} else {
		e_mov_imm(e, T1, site);
		e_jmp_to(e, t->bt->jump_miss);
	}
}

/* Returns the jump of a miss, to be patched. */
static uint8_t *look_up(const struct bt *bt, struct emit *e, uint32_t mode)
{
	uint8_t *miss;

	e_jump_entry(e, mode);
	e_jump_compare(e);
	miss = e_jcc(e, CC_NE);
	if (bt_moves(mode) && tune_on(bt->memory->tune, TUNE_SHARE_BLOCKS))
		e_set_page(e);
	e_jump_go(e);
	return miss;
}

static void look_up_missed(const struct bt *bt, struct emit *cold, uint32_t mode, uint32_t site, uint8_t *miss)
{
	e_patch(miss, cold->p);
	e_mov_imm(cold, T1, site);
	e_jmp_to(cold, bt->jump_other[bt_jump_small(mode)]);
}

/*
 * Kernel code's addresses are 32 bits and a sign, and it has no S_PAGE to keep: where it jumps to a place that is known, that place's entry in any table is known as well, and is compared
 * with a constant. That takes 20 bytes less.
 */
static bool is_fixed(const struct bt *bt, const struct block *b, uint64_t va)
{
	return !bt_moves(b->mode) && va == (uint64_t)(int32_t)va && tune_on(bt->memory->tune, TUNE_FIXED_JUMPS);
}

/* Returns the jump of a miss, to be patched. */
static uint8_t *look_up_fixed(struct emit *e, uint32_t mode, uint64_t va)
{
	const int32_t at = (int32_t)(JUMP_BYTES * bt_jump_slot(va, bt_jump_entries(mode)));
	uint8_t *miss;

	e_load_gs(e, T1, SLOT(S_JUMP_BASE));
	e_op_gs_base(e, true, 0x81, 7, T1, NO_BASE, 1, at + (int32_t)offsetof(struct jump_entry, key)); /* cmp */
	e_u32(e, (uint32_t)va);
	miss = e_jcc(e, CC_NE);
	e_op_gs_base(e, false, 0xff, 4, T1, NO_BASE, 1, at + (int32_t)offsetof(struct jump_entry, host)); /* jmp */
	return miss;
}

static void look_up_fixed_missed(const struct bt *bt, struct emit *cold, uint32_t mode, uint32_t site, uint64_t va, uint8_t *miss)
{
	e_patch(miss, cold->p);
	e_mov_imm(cold, T0, va);
	e_mov_imm(cold, T1, site);
	e_jmp_to(cold, bt->jump_other[bt_jump_small(mode)]);
}

void lower_jump_look_up(struct tr *t, struct emit *e, uint32_t mode, uint32_t site)
{
	look_up_missed(t->bt, &t->cold, mode, site, look_up(t->bt, e, mode));
}

/* Returns the jump, to be patched, for when something is pending: to jump_miss. */
static uint8_t *change_table(struct emit *e, int32_t slot)
{
	e_load_gs(e, T1, slot);
	return e_change_table(e);
}

static void table_pending(const struct bt *bt, struct emit *cold, uint32_t site, uint8_t *pending)
{
	e_patch(pending, cold->p);
	e_mov_imm(cold, T1, site);
	e_jmp_to(cold, bt->jump_miss);
}

void lower_jump_elsewhere(struct tr *t, struct emit *e, int32_t slot, uint32_t mode, uint32_t site)
{
	table_pending(t->bt, &t->cold, site, change_table(e, slot));
	lower_jump_look_up(t, e, mode, site);
}

uint8_t *bt_cross_entry(struct bt *bt, const struct block *b, uint32_t site)
{
	struct code_part *part = bt_part_of(bt, b);
	uint8_t *start = part->cold;
	struct emit e = { start };
	const uint64_t va = bt_cross_target(&bt->site[site]);
	uint32_t mode = b->mode;
	uint8_t *pending = 0, *miss;

	if (!bt_cold_room(part))
		return 0;
	bt_profile_cold(bt, b, start);
	if (!bt->site[site].flags_saved)
		e_save_flags(&e);
	if (!bt->site[site].singly && is_fixed(bt, b, va)) {
		miss = look_up_fixed(&e, mode, va);
		look_up_fixed_missed(bt, &e, mode, site, va, miss);
		part->cold = e.p;
		return start;
	}
	e_mov_va(&e, b->shared, T0, va);
	if (is_compact(bt, b)) {
		e_mov_imm(&e, T1, site);
		e_jmp_to(&e, bt->jump[JUMP_DIRECT][bt_jump_small(b->mode)]);
	} else {
		if (bt->site[site].singly) {
			mode = bt_mode_ac(mode, (mode & MODE_SET) == TLB_KERNEL);
			pending = change_table(&e, table_of(mode));
		}
		look_up_missed(bt, &e, mode, site, look_up(bt, &e, mode));
		if (pending)
			table_pending(bt, &e, site, pending);
	}
	part->cold = e.p;
	return start;
}

static uint32_t branch_site(struct tr *t, int16_t rsp_undo)
{
	uint32_t site = tr_site(t, SITE_BRANCH);

	t->bt->site[site].more = (uint32_t)(rsp_undo + SITE_RSP_MAX) & 0x7fff;
	return site;
}

/* Cold: goes to va; rel32 is the jump to be patched, 0 for the one that this emits. */
static struct site *cold_link(struct tr *t, enum site_kind kind, uint64_t va, uint8_t *rel32, bool saved)
{
	const uint32_t n = tr_site(t, kind);
	struct site *site = &t->bt->site[n];
	uint8_t *own;

	site->more = (uint16_t)(va & ~PAGE_MASK);
	site->flags_saved = saved;
	e_mov_imm(&t->cold, T1, n);
	own = e_jmp(&t->cold);
	e_patch(own, t->bt->link[saved]);
	site->host = t->mode == t->b->mode || kind == SITE_CROSS ? tr_offset(t, rel32 ? rel32 : own) : 0;
	if (kind == SITE_CROSS) {
		site->singly = t->mode != t->b->mode;
		tr_site(t, SITE_CROSS);
		bt_set_cross_target(site, va);
	}
	return site;
}

void lower_link_singly(struct tr *t) { cold_link(t, SITE_LINK, tr_va(t), 0, true)->singly = 1; }

/* Cold code that goes to va, flags in EFLAGS (saved: also or only in S_FLAGS). Returns where it starts. */
static uint8_t *cold_exit(struct tr *t, uint64_t va, uint8_t *rel32, bool saved)
{
	uint8_t *start = t->cold.p;

	cold_link(t, can_link(t, va) && !elsewhere(t) ? SITE_LINK : SITE_CROSS, va, rel32, saved);
	return start;
}

void lower_exit(struct tr *t, uint64_t va)
{
	struct emit *e = &t->e;

	if (can_link(t, va) && !elsewhere(t) && !(t->i == t->n && t->next_crosses)) { /* a crossing block is never linked to */
		uint8_t *rel32 = e_jmp(e);

		e_patch(rel32, cold_exit(t, va, rel32, t->in_slot));
	} else {
		uint32_t site = branch_site(t, 0);

		tr_before_clobber(t);
		if (t->mode == t->b->mode && is_fixed(t->bt, t->b, va)) {
			look_up_fixed_missed(t->bt, &t->cold, t->mode, site, va, look_up_fixed(e, t->mode, va));
		} else {
			e_mov_va(e, t->b->shared, T0, va);
			jump_table(t, e, site, JUMP_DIRECT);
		}
	}
	t->ended = true;
}

void lower_executor(struct tr *t)
{
	struct emit *e = &t->e;

	tr_need_host_flags(t);
	e_set_rip(e, t->b->shared, tr_va(t));
	e_jmp_to(e, t->bt->leave[LEAVE_EXEC]);
	t->bt->counters.executor_sites++;
	t->ended = true;
}

void lower_jcc(struct tr *t, const struct insn *in)
{
	uint64_t target = tr_target(t, in);
	uint8_t *rel32;

	if (in->opsize == 2 || !tr_canonical(t, target)) {
		lower_executor(t);
		return;
	}
	tr_need_host_flags(t);
	rel32 = e_jcc(&t->e, in->cc);
	e_patch(rel32, cold_exit(t, target, rel32, false));
}

/* LOOP and JRCXZ with the counter that the code's width implies: it moves by LEA; LOOPE/LOOPNE (which read ZF) go to the executor. */
void lower_loop(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	uint64_t target = tr_target(t, in);
	uint8_t *zero, *over = 0, *rel32;

	if (in->addrsize != tr_word(t) || in->cc < 2 || in->opsize == 2 || !tr_canonical(t, target)) {
		lower_executor(t);
		return;
	}
	if (in->cc == 2)
		tr_lea(t, RCX, RCX, -1);
	tr_need_host_flags(t);
	if (!tr_wide(t))
		e_u8(e, 0x67); /* jecxz */
	zero = e_jrcxz(e);
	if (in->cc == 2) { /* taken if RCX is not zero */
		rel32 = e_jmp(e);
		e_patch8(zero, e->p);
	} else {
		over = e_jmp(e);
		e_patch8(zero, e->p);
		rel32 = e_jmp(e);
		e_patch(over, e->p);
	}
	e_patch(rel32, cold_exit(t, target, rel32, false));
}

void lower_jmp(struct tr *t, const struct insn *in)
{
	uint64_t target = tr_target(t, in);

	if (in->opsize == 2 || !tr_canonical(t, target))
		lower_executor(t);
	else
		lower_exit(t, target);
}

/* The stub pushes, too. A push that faults finds all as it was before the call. */
static void compact_call(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	uint32_t site;

	tr_before_clobber(t);
	site = lower_site(t, SITE_STACK_WRITE, 8);
	e_mov_va(e, t->b->shared, T1, tr_next_va(t));
	e_lea(e, true, T0, T1, NO_BASE, 1, (int32_t)in->imm);
	e_store_gs_imm32(e, SLOT(S_SITE), site);
	e_jmp_to(e, t->bt->call[lower_set_of(t)]);
	t->ended = true;
}

void lower_call(struct tr *t, const struct insn *in)
{
	uint64_t target = tr_target(t, in);

	if (in->opsize == 2 || !tr_canonical(t, target)) {
		lower_executor(t);
		return;
	}
	if (tr_wide(t) && t->mode == t->b->mode && !can_link(t, target) && is_compact(t->bt, t->b)) {
		compact_call(t, in);
		return;
	}
	lower_push_next(t);
	lower_exit(t, target);
}

void lower_ret_to(struct tr *t, int32_t move, int32_t pop)
{
	uint32_t site = branch_site(t, (int16_t)-pop);

	tr_before_clobber(t);
	tr_move_rsp(t, move);
	jump_table(t, &t->e, site, JUMP_RETURN);
	t->ended = true;
}

void lower_ret(struct tr *t, const struct insn *in)
{
	int32_t pop = tr_word(t) + (int32_t)(uint16_t)in->imm;

	if (in->opsize != tr_word(t) || pop > SITE_RSP_MAX) {
		lower_executor(t);
		return;
	}
	tr_copy(t, T0, RSP);
	lower_probe_stack(t, tr_word(t), false);
	tr_load(t, T0, T0, 0);
	lower_ret_to(t, pop, pop);
}

/* JMP and CALL through a register or memory. */
void lower_indirect(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	bool call = in->cls == INSN_CALL_IND;
	uint32_t site;

	if (in->opsize != tr_word(t)) {
		lower_executor(t);
		return;
	}
	if (in->mem.present) {
		lower_address(t, in, 0);
		lower_probe(t, tr_word(t), false);
		tr_load(t, T0, T0, 0);
	} else {
		if (in->mem_reg == R10 || in->mem_reg == R11)
			e_load_gs(e, T0, VOFF(gpr[in->mem_reg]));
		else
			tr_copy(t, T0, in->mem_reg);
	}
	tr_before_clobber(t);
	site = branch_site(t, call ? tr_word(t) : 0);
	if (call) {
		e_store_gs(e, SLOT(S_TMP0), T0);
		lower_push_next(t);
		e_load_gs(e, T0, SLOT(S_TMP0));
	}
	jump_table(t, e, site, JUMP_INDIRECT);
	t->ended = true;
}
