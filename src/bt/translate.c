/*
 * translate.c - makes one block: decode forward, compute which flags are live, lower each instruction.
 *
 * A block runs on over conditional branches (their taken side is a side exit) until an unconditional transfer, an
 * instruction for the executor, the end of the page or MAX_BLOCK_INSNS.
 */
#include "bt/lower.h"
#include "bt/profile_internal.h"

#include <sys/mman.h>

#include "base/tune.h"

/* Lowering by class; a class without a row goes to the executor. */
static void (*const lower_of[INSN_CLASS_COUNT])(struct tr *, const struct insn *) = {
	[INSN_PLAIN] = lower_plain,
	[INSN_NOP] = lower_nop,
	[INSN_BT_MEM] = lower_bt_mem,
	[INSN_JCC] = lower_jcc,
	[INSN_LOOP] = lower_loop,
	[INSN_JMP] = lower_jmp,
	[INSN_CALL] = lower_call,
	[INSN_RET] = lower_ret,
	[INSN_JMP_IND] = lower_indirect,
	[INSN_CALL_IND] = lower_indirect,
	[INSN_PUSH] = lower_push,
	[INSN_POP] = lower_pop,
	[INSN_LEAVE] = lower_leave,
	[INSN_MOVS] = lower_string,
	[INSN_STOS] = lower_string,
	[INSN_LODS] = lower_string,
	[INSN_CLI] = lower_cli,
	[INSN_STI] = lower_sti,
	[INSN_CLD] = lower_cld,
	[INSN_STD] = lower_cld,
	[INSN_STAC] = lower_stac,
	[INSN_CLAC] = lower_stac,
	[INSN_PUSHF] = lower_pushf,
	[INSN_SWAPGS] = lower_swapgs,
	[INSN_SYSCALL] = lower_syscall,
	[INSN_SYSRET] = lower_sysret,
	[INSN_IRET] = lower_iret,
	[INSN_RDTSC] = lower_rdtsc,
	[INSN_RDTSCP] = lower_rdtsc,
	[INSN_RDFSBASE] = lower_fsgsbase,
	[INSN_RDGSBASE] = lower_fsgsbase,
	[INSN_WRFSBASE] = lower_fsgsbase,
	[INSN_WRGSBASE] = lower_fsgsbase,
	[INSN_MOV_FROM_SEG] = lower_mov_from_seg,
	[INSN_MOV_FROM_CR] = lower_mov_from_cr,
	[INSN_XSAVE] = lower_state_image,
	[INSN_XSAVEC] = lower_state_image,
	[INSN_XRSTOR] = lower_state_image,
};

uint32_t tr_site(struct tr *t, enum site_kind kind)
{
	uint32_t n = t->part->sites++;

	t->bt->site[n] = (struct site){ .kind = kind,
		.guest_off = t->off[t->i < t->n ? t->i : t->n],
		.careful = t->i < t->n && (t->insn[t->i].need & NEED_FPU_STATE || t->insn[t->i].mem.size >= 16) };
	return n;
}

bool tr_cannot_fault(const struct insn *in)
{
	uint8_t op = in->opcode;

	if (in->need || in->feature || in->lock || in->vex_off)
		return false;
	if (in->map == 0)
		return op < 0x40 || (op >= 0x80 && op <= 0x8b && op != 0x82) || (op >= 0xb0 && op <= 0xc1) || op == 0xc6 || op == 0xc7 ||
		       (op >= 0xd0 && op <= 0xd3);
	return in->map == 1 && ((op >= 0x40 && op <= 0x4f) || (op >= 0x90 && op <= 0x9f) || op == 0xaf || op == 0xb6 || op == 0xb7 ||
				op == 0xbe || op == 0xbf);
}

void tr_mark(struct tr *t)
{
	struct mark *m;

	if (tr_cannot_fault(&t->insn[t->i]))
		return;
	m = &t->bt->mark[t->part->marks++];
	*m = (struct mark){ .host = tr_offset(t, t->e.p), .guest_off = t->off[t->i],
		.flags_saved = t->in_slot && !t->in_host };
	t->b->marks++;
}

void tr_need_host_flags(struct tr *t)
{
	if (t->in_host)
		return;
	if (t->in_slot)
		e_restore_flags(&t->e);
	t->in_host = true;
}

void tr_before_clobber(struct tr *t)
{
	if (t->in_host && !t->in_slot && t->live[t->i]) {
		e_save_flags(&t->e);
		t->in_slot = true;
	}
	t->in_host = false;
}

/* What of insn.need the mode promises. */
static uint32_t mode_needs(uint32_t mode)
{
	return (mode & MODE_X87 ? NEED_X87 | NEED_FWAIT : 0) | (mode & MODE_MMX ? NEED_MMX : 0) |
	       (mode & MODE_SSE ? NEED_SSE : 0) | (mode & MODE_AVX ? NEED_AVX : 0) | (mode & MODE_XSAVE ? NEED_XSAVE : 0);
}

/* 32-bit code: an address of 16 bits, or an access through a segment that is not flat. */
static bool not_flat(const struct tr *t, const struct insn *in)
{
	return in->mem.present && in->cls != INSN_NOP && (in->addrsize != 4 || (in->mem.size && !tr_flat(t, in->mem.seg)));
}

/* Of what has a lowering, what a guest's hypervisor can intercept, or see otherwise than the processor has it (AMD APM vol. 2, "Instruction Intercepts"). */
static bool intercepts(const struct tr *t, const struct insn *in)
{
	return in->cls == INSN_MOV_FROM_CR || insn_is_pause(in) || ((t->mode & MODE_ASK_PUSHF) && in->cls == INSN_PUSHF) ||
	       ((t->mode & MODE_ASK_TSC) && (in->cls == INSN_RDTSC || in->cls == INSN_RDTSCP));
}

bool tr_for_executor(const struct tr *t, const struct insn *in)
{
	if (UNLIKELY(t->mode & MODE_GUEST) && intercepts(t, in))
		return true;
	return !lower_of[in->cls] || (in->need & ~mode_needs(t->mode)) || (in->feature & ~t->v->features) || (!tr_wide(t) && not_flat(t, in));
}

static enum insn_mode decode_mode(const struct tr *t) { return tr_wide(t) ? INSN_MODE_64 : INSN_MODE_32; }

/*
 * Does another block begin at this offset of t->b? Then t->b ends there, rather than translate the rest again. Not behind STI, whose lowering wants to see what follows; and where time is spent
 * not for a seam, lest a loop is in two pieces for good because somebody once came into it half-way.
 */
static bool runs_into(const struct tr *t, unsigned off)
{
	const struct block *b = t->b;
	const unsigned at = (unsigned)(b->va & ~PAGE_MASK) + off;

	const struct tune *tune = t->bt->memory->tune;
	const struct block *next;

	if (at >= PAGE_SIZE || !bt_maybe_head(t->bt, b->mfn, at) || !tune_on(tune, TUNE_CUT_BLOCKS) || t->insn[t->n - 1].cls == INSN_STI)
		return false;
	next = bt_find(t->bt, mfn(b->mfn), MFN_NONE, b->va + off, b->mode & ~(uint32_t)MODE_SINGLY, b->shared);
	return next && !(next->seam && (bt_wants_windows(bt_windows_of(t->bt, b->mfn, at)) || tune_on(tune, TUNE_ALL_WINDOWS)));
}

/* Decodes up to the block's end. False if not even one instruction lies within the bytes given. */
static bool decode_block(struct tr *t, const uint8_t *code, unsigned avail)
{
	unsigned off = 0;

	for (t->n = 0; t->n < MAX_BLOCK_INSNS;) {
		struct insn *in = &t->insn[t->n];

		if (off >= avail)
			break;
		if (insn_decode(in, code + off, avail - off, decode_mode(t)) < 0) {
			t->next_crosses = true;
			break;
		}
		t->off[t->n++] = (uint16_t)off;
		off += in->len;
		if (insn_ends_block(in) && in->cls != INSN_JCC && in->cls != INSN_LOOP)
			break;
		if (tr_for_executor(t, in) || runs_into(t, off))
			break;
	}
	t->off[t->n] = (uint16_t)off;
	return t->n > 0;
}

/* Backward over the block. At every exit all flags count as live. */
static void compute_liveness(struct tr *t)
{
	uint32_t live = FL_ARITH;
	bool precise = tune_on(t->bt->memory->tune, TUNE_PRECISE_FLAGS);

	t->live[t->n] = live;
	for (unsigned i = t->n; i-- > 0;) {
		const struct insn *in = &t->insn[i];

		live &= ~in->fl_kill;
		live |= in->fl_read & FL_ARITH;
		if (in->cls == INSN_JCC || in->cls == INSN_LOOP || tr_for_executor(t, in) || insn_ends_block(in) ||
		    precise) /* any may fault, also without memory: DIV, x87, SSE */
			live = FL_ARITH;
		t->live[i] = live;
	}
}

/* How flags should come in: as the first instruction that cares wants them. */
enum flags_in { FLAGS_ANY, FLAGS_HOST, FLAGS_SLOT };
static enum flags_in flags_wanted(const struct tr *t)
{
	for (unsigned i = 0; i < t->n; i++) {
		const struct insn *in = &t->insn[i];
		bool probes = (in->mem.present && in->mem.size && in->cls != INSN_NOP) || tr_prefetches(t, in) || in->cls == INSN_PUSH || in->cls == INSN_POP ||
			      in->cls == INSN_LEAVE || in->cls == INSN_CALL || in->cls == INSN_RET || in->cls == INSN_JMP_IND ||
			      in->cls == INSN_CALL_IND || in->cls == INSN_MOVS || in->cls == INSN_STOS ||
			      in->cls == INSN_LODS || in->cls == INSN_PUSHF || in->cls == INSN_SYSCALL || in->cls == INSN_IRET || in->cls == INSN_CLI ||
			      in->cls == INSN_STI || in->cls == INSN_CLD || in->cls == INSN_STD || in->cls == INSN_STAC ||
			      in->cls == INSN_CLAC;

		if (!t->live[i]) /* later than at the start: an exit on the way (LOOP, JRCXZ) wants them */
			return i ? FLAGS_HOST : FLAGS_ANY;
		if (tr_for_executor(t, in))
			return FLAGS_HOST;
		if (probes)
			return FLAGS_SLOT;
		if ((in->fl_read | in->fl_write) & FL_ARITH)
			return FLAGS_HOST;
	}
	return FLAGS_HOST;
}

/* Is the block a loop: does it jump to where it begins? */
static bool is_loop(const struct tr *t)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->insn[i].cls == INSN_JCC && t->off[i] + t->insn[i].len + t->insn[i].imm == 0)
			return true;
	return false;
}

static void emit_entries(struct tr *t)
{
	struct block *b = t->b;

	switch (flags_wanted(t)) {
	case FLAGS_ANY:
		if (is_loop(t)) /* its polling entry is where it costs no jump */
			bt_poll_before(t->bt, b, &t->e, &t->cold);
		/*
		 * Dead: calling them "in host" costs nothing. But other code may come in the place of this, to which they matter: a
		 * dead block's entries must still tell who comes with the flags in the slot.
		 */
		b->flags_any = true;
		b->jump_entry = tr_offset(t, t->e.p);
		e_nop5(&t->e);
		b->entry = tr_offset(t, t->e.p);
		t->in_host = true;
		break;
	case FLAGS_HOST:
		b->jump_entry = tr_offset(t, t->e.p);
		e_restore_flags(&t->e);
		b->entry = tr_offset(t, t->e.p);
		t->in_host = true;
		break;
	case FLAGS_SLOT:
		b->entry = tr_offset(t, t->e.p);
		e_save_flags(&t->e);
		b->jump_entry = tr_offset(t, t->e.p);
		t->in_slot = true;
		break;
	}
}

/* One more block executed; keeps flags. */
static void count_block(struct emit *e)
{
	e_load_gs(e, T1, VOFF(counters.blocks_executed));
	e_lea(e, true, T1, T1, NO_BASE, 1, 1);
	e_store_gs(e, VOFF(counters.blocks_executed), T1);
}

static void lower_one(struct tr *t)
{
	const struct insn *in = &t->insn[t->i];

	if (tr_for_executor(t, in))
		lower_executor(t);
	else
		lower_of[in->cls](t, in);
}

static void lower_block(struct tr *t)
{
	emit_entries(t);
	if (tune_on(t->bt->memory->tune, TUNE_COUNT_BLOCKS))
		count_block(&t->e);
	for (t->i = 0; t->i < t->n && !t->ended; t->i++) {
		const struct insn *in = &t->insn[t->i];
		const unsigned together = tr_for_executor(t, in) ? 0 : lower_stack_run(t);

		if (together)
			t->i += together - 1;
		else
			lower_one(t);
		if (UNLIKELY(t->shadow && t->shadow == t->i && !t->ended))
			lower_shadow_end(t);
	}
	if (!t->ended) {
		t->i = t->n;
		lower_exit(t, tr_cut(t, tr_at(t, t->n)));
	}
}

#define MOST_MARKS (4 * MAX_BLOCK_INSNS)
#define MOST_SITES (8 * MAX_BLOCK_INSNS)
static bool room(const struct bt *bt, const struct code_part *p)
{
	const uint32_t next = (uint32_t)(p - bt->part) + 1;

	return p->hot + BLOCK_ROOM < p->hot_end && p->cold + BLOCK_ROOM + LATE_ROOM < p->cold_end && p->blocks < next * PART_BLOCKS &&
	       p->marks + MOST_MARKS < next * PART_MARKS && p->sites + MOST_SITES < next * PART_SITES;
}

/* The tables grow by whole batches: populating 16 pages costs the host less than three page faults. */
#define TABLE_BATCH KIB(64)
static void reach(void *table, size_t used, size_t *ready, size_t total)
{
	if (LIKELY(used + KIB(16) <= *ready) || *ready >= total)
		return;
	madvise((char *)table + *ready, TABLE_BATCH, MADV_POPULATE_WRITE); /* without it the host faults pages in one by one */
	*ready += TABLE_BATCH;
}

static void reach_all(struct bt *bt, struct code_part *p)
{
	const uint32_t n = (uint32_t)(p - bt->part), block = n * PART_BLOCKS, mark = n * PART_MARKS, site = n * PART_SITES;

	reach(bt->block + block, (p->blocks - block) * sizeof(*bt->block), &p->ready[0], PART_BLOCKS * sizeof(*bt->block));
	reach(bt->mark + mark, (p->marks - mark) * sizeof(*bt->mark), &p->ready[1], PART_MARKS * sizeof(*bt->mark));
	reach(bt->site + site, (p->sites - site) * sizeof(*bt->site), &p->ready[2], PART_SITES * sizeof(*bt->site));
}

/* An instruction whose bytes cross into the next page: decoded from a copy of both parts. */
static void decode_crossing(struct tr *t, const struct translate_request *r, unsigned avail)
{
	const uint8_t *first = (const uint8_t *)pool_ptr(&r->bt->memory->pool, r->m) + (r->va & ~PAGE_MASK);
	uint8_t code[15];

	for (unsigned i = 0; i < sizeof(code); i++)
		code[i] = i < avail ? first[i] :
			  mfn_valid(r->m2) ? ((const uint8_t *)pool_ptr(&r->bt->memory->pool, r->m2))[i - avail] : 0;
	ASSERT(mfn_valid(r->m2) && insn_decode(&t->insn[0], code, sizeof(code), decode_mode(t)) == 0);
	t->n = 1;
	t->off[0] = 0;
	t->off[1] = t->insn[0].len;
}

void bt_translate(void *request)
{
	struct translate_request *r = request;
	struct bt *bt = r->bt;
	unsigned page_off = (unsigned)(r->va & ~PAGE_MASK), avail = PAGE_SIZE - page_off;
	struct code_part *part = &bt->part[bt->filling];
	struct tr *t;
	static __thread struct tr scratch;

	r->out = 0;
	if (!room(bt, part))
		return;
	reach_all(bt, part);
	t = &scratch;
	fill_bytes(t, 0, offsetof(struct tr, insn));
	t->v = r->v;
	t->bt = bt;
	t->part = part;
	t->mode = r->mode;
	t->singly = r->mode & MODE_SINGLY;
	t->e.p = part->hot;
	t->cold.p = part->cold;
	t->b = &bt->block[part->blocks];
	*t->b = (struct block){ .va = r->va, .mfn = (uint32_t)r->m.v, .mfn2 = NO_FRAME, .mode = r->mode, .shared = r->shared, .first_mark = part->marks, .first_site = part->sites };
	if (!decode_block(t, (const uint8_t *)pool_ptr(&bt->memory->pool, r->m) + page_off, avail)) {
		if (!mfn_valid(r->m2)) {
			r->need_second = true;
			return;
		}
		decode_crossing(t, r, avail);
		t->b->mfn2 = (uint32_t)r->m2.v;
	}
	part->blocks++;
	compute_liveness(t);
	lower_find_spans(t);
	lower_block(t);
	ASSERT(t->e.p < part->hot + BLOCK_ROOM && t->cold.p < part->cold + BLOCK_ROOM);
	ASSERT(part->marks - t->b->first_mark <= MOST_MARKS && part->sites - t->b->first_site <= MOST_SITES);
	t->b->len = t->off[t->n];
	t->b->host_end = tr_offset(t, t->e.p);
	bt->counters.blocks_translated++;
	bt->counters.blocks_shared += r->shared;
	bt->counters.insns_translated += t->n;
	bt->counters.bytes_guest += t->b->len;
	bt->hot_made += (uint64_t)(t->e.p - part->hot);
	bt->cold_made += (uint64_t)(t->cold.p - part->cold);
	bt->counters.bytes_host += (uint64_t)(t->e.p - part->hot) + (uint64_t)(t->cold.p - part->cold);
	bt_profile_cold(bt, t->b, part->cold);
	part->hot = (uint8_t *)ALIGN_UP((uintptr_t)t->e.p, 4);
	part->cold = t->cold.p;
	r->out = t->b;
}
