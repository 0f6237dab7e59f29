/*
 * lower.h - the pieces of translation: what translate.c keeps while it makes a block, and the lowering of each kind
 * of instruction (lower_mem.c, lower_flow.c, lower_stack.c).
 *
 * Flags. The TLB probe destroys the host's arithmetic flags, so the lowering tracks where the guest's are: in EFLAGS (in_host), in
 * the spill slot S_FLAGS (in_slot), in both, or nowhere when liveness shows that nobody will read them. A probe with
 * live flags saves them once; they are restored only when an instruction reads them. Edges between blocks carry the
 * state: every block has an entry for each (struct block).
 */
#ifndef BT_LOWER_H
#define BT_LOWER_H

#include "bt/bt_internal.h"
#include "bt/emit.h"

/*
 * Accesses of the block off the same registers, unchanged in between, and near each other: one look-up for all (lower_span.c).
 * [low, high) is what they touch, by displacement.
 */
struct span {
	int32_t low, high;
	uint8_t first, last;	/* instructions */
	uint8_t slot;		/* in mmu.span */
	bool write;		/* at least one of them writes */
};
#define MAX_SPANS 16
#define NO_SPAN 0xff

struct tr {
	struct vcpu *v;
	struct bt *bt;
	struct block *b;
	struct code_part *part;		/* that b is made in */
	uint32_t mode;			/* now; differs from b->mode after STAC or CLAC */
	struct emit e, cold;
	unsigned n, i;			/* instructions, current one */
	bool in_host, in_slot;
	bool ended;			/* an unconditional exit has been emitted */
	bool next_crosses;		/* what follows the block begins in this page and ends in the next */
	unsigned shadow;		/* 0, or the instruction whose end is the end of an interrupt shadow that vcpu.inhibit tells of */
	bool singly;			/* MODE_SINGLY, and still in the run that the block begins with */
	/* Cold code that the misses of look-ups go on in: those of sites from `first` on, of a set. */
	struct { uint8_t *at; uint32_t first; unsigned set; } missed[2];
	unsigned spans;
	/* What T0 and T1 hold where kept_at was emitted, as long as nothing is emitted behind it: the guest's R10, R11 or INSN_NO_REG (lower_mem.c). */
	const uint8_t *kept_at;
	uint8_t kept[2];
	/* Not cleared for a new block: */
	struct insn insn[MAX_BLOCK_INSNS];
	uint32_t live[MAX_BLOCK_INSNS + 1]; /* flags live before insn i */
	uint16_t off[MAX_BLOCK_INSNS + 1]; /* guest offset of insn i in the block */
	struct span span[MAX_SPANS];
	uint8_t span_of[MAX_BLOCK_INSNS];
};

/* Does the executor do it, whatever its operands? */
bool tr_for_executor(const struct tr *t, const struct insn *in);

/* Is it a prefetch that is carried out? In 32-bit code none is, so that no segment matters. */
static inline bool tr_prefetches(const struct tr *t, const struct insn *in)
{
	return in->cls == INSN_NOP && in->map == 1 && (in->modrm >> 3 & 7) < (in->opcode == 0x18 ? 4 : in->opcode == 0x0d ? 2 : 0) && in->mem.present && !(t->b->mode & MODE_CODE32) &&
	       tune_on(t->bt->memory->tune, TUNE_PREFETCH);
}

/* Whether a branch may go to va under the paging that the block is for. */
static inline bool tr_canonical(const struct tr *t, uint64_t va) { return va_canonical(va, t->mode & MODE_LA57 ? VA_BITS_5LEVEL : VA_BITS_4LEVEL); }

static inline uint32_t tr_offset(const struct tr *t, const uint8_t *p) { return (uint32_t)(p - t->bt->cache); }
/* Guest addresses of instructions; in a shared block they, and the branch targets made from them, count from its page (e_mov_va). */
static inline uint64_t tr_at(const struct tr *t, unsigned insn) { return bt_block_key(t->b) + t->off[insn]; }
static inline uint64_t tr_va(const struct tr *t) { return tr_at(t, t->i); }

/* 32-bit code: addresses, stack operations and near branches are 32 bits wide; what goes into a register is zero-extended. */
static inline bool tr_wide(const struct tr *t) { return !(t->b->mode & MODE_CODE32); }
static inline uint8_t tr_word(const struct tr *t) { return tr_wide(t) ? 8 : 4; }
static inline uint64_t tr_cut(const struct tr *t, uint64_t va) { return tr_wide(t) ? va : (uint32_t)va; }
static inline uint64_t tr_next_va(const struct tr *t) { return tr_cut(t, tr_at(t, t->i + 1)); }
/* 32-bit code: may it read and write through the segment without a check? Through CS the executor does. */
static inline bool tr_flat(const struct tr *t, uint8_t seg)
{
	static const uint16_t bit[SEG_COUNT] = { [SEG_ES] = MODE_FLAT_ES, [SEG_SS] = MODE_CODE32, [SEG_DS] = MODE_FLAT_DS,
		[SEG_FS] = MODE_FLAT_FS, [SEG_GS] = MODE_FLAT_GS };

	return seg < SEG_COUNT && (t->b->mode & bit[seg]);
}
/* Where the current relative branch goes. */
static inline uint64_t tr_target(const struct tr *t, const struct insn *in) { return tr_cut(t, tr_next_va(t) + (uint64_t)in->imm); }
/* A word between [base + disp] and reg, RSP moved, one register copied: all in the width of the code. Keep flags. */
static inline void tr_load(struct tr *t, uint8_t reg, uint8_t base, int32_t disp) { e_op_mem(&t->e, tr_wide(t), 0x8b, reg, base, NO_BASE, 1, disp); }
static inline void tr_store(struct tr *t, uint8_t base, int32_t disp, uint8_t reg) { e_op_mem(&t->e, tr_wide(t), 0x89, reg, base, NO_BASE, 1, disp); }
static inline void tr_lea(struct tr *t, uint8_t reg, uint8_t base, int32_t disp) { e_lea(&t->e, tr_wide(t), reg, base, NO_BASE, 1, disp); }
static inline void tr_move_rsp(struct tr *t, int32_t by) { tr_lea(t, RSP, RSP, by); }
static inline void tr_copy(struct tr *t, uint8_t to, uint8_t from) { e_op_rr(&t->e, tr_wide(t), 0x8b, to, from); }

/* Flags to and from S_FLAGS. Both clobber T1 (moves between registers cost next to nothing), and the latter EFLAGS. */
static inline void e_save_flags(struct emit *e)
{
	static const uint8_t lahf_seto[] = { 0x9f, 0x0f, 0x90, 0xc0 }; /* lahf; seto al */

	e_mov_rr(e, T1, RAX);
	e_bytes(e, lahf_seto, sizeof(lahf_seto));
	e_op_gs(e, false, 0x89, RAX, SLOT(S_FLAGS));
	e_mov_rr(e, RAX, T1);
}
static inline void e_restore_flags(struct emit *e)
{
	static const uint8_t add_sahf[] = { 0x04, 0x7f, 0x9e }; /* add al, 0x7f: OF; sahf */

	e_mov_rr(e, T1, RAX);
	e_load_gs32(e, RAX, SLOT(S_FLAGS));
	e_bytes(e, add_sahf, sizeof(add_sahf));
	e_mov_rr(e, RAX, T1);
}

/* reg := a guest address, from S_PAGE on if shared. Keeps flags. */
static inline void e_mov_va(struct emit *e, bool shared, uint8_t reg, uint64_t va)
{
	if (!shared) {
		e_mov_imm(e, reg, va);
		return;
	}
	e_load_gs(e, reg, SLOT(S_PAGE));
	for (int64_t left = (int64_t)va; left;) { /* a displacement at the edge of 32 bits and the offset in the page make two steps */
		int32_t step = left > INT32_MAX ? INT32_MAX : left < INT32_MIN ? INT32_MIN : (int32_t)left;

		e_lea(e, true, reg, reg, NO_BASE, 1, step);
		left -= step;
	}
}

/* Guest RIP into v->rip; keeps flags. Clobbers T0. */
static inline void e_set_rip(struct emit *e, bool shared, uint64_t va)
{
	if (shared) {
		e_mov_va(e, true, T0, va);
		e_store_gs(e, VOFF(rip), T0);
	} else if ((uint64_t)(int64_t)(int32_t)va == va) {
		e_store_gs_imm(e, VOFF(rip), (int32_t)va);
	} else {
		e_store_gs_imm32(e, VOFF(rip), (uint32_t)va);
		e_store_gs_imm32(e, VOFF(rip) + 4, (uint32_t)(va >> 32));
	}
}

/* The pieces of a look-up in the jump table: T1 := the entry of T0, from GS on, of the table whose place is in the slot `base`; compares. EFLAGS are free (docs/translator.md). */
static inline void e_jump_entry_of(struct emit *e, uint32_t mode, int32_t base)
{
	e_op_rr(e, false, 0x33, T1, T1); /* xor */
	e_crc32(e, T1, T0);
	e_alu_imm(e, false, 4, T1, (int32_t)(JUMP_BYTES * (bt_jump_entries(mode) - 1)));
	e_op_gs(e, true, 0x03, T1, base);
}
static inline void e_jump_entry(struct emit *e, uint32_t mode) { e_jump_entry_of(e, mode, SLOT(S_JUMP_BASE)); }
static inline void e_jump_compare(struct emit *e) { e_op_gs_base(e, true, 0x3b, T0, T1, NO_BASE, 1, (int32_t)offsetof(struct jump_entry, key)); }
static inline void e_jump_go(struct emit *e) { e_op_gs_base(e, false, 0xff, 4, T1, NO_BASE, 1, (int32_t)offsetof(struct jump_entry, host)); }
/* The guest goes on at T0 (B5). Leaves its page in T0. */
static inline void e_set_page(struct emit *e)
{
	e_alu_imm(e, true, 4, T0, -(int32_t)PAGE_SIZE);
	e_store_gs(e, SLOT(S_PAGE), T0);
}

/* A free site, or 0 with the request marked out of room (translate.c checks the room beforehand: never 0). */
uint32_t tr_site(struct tr *t, enum site_kind kind);
/*
 * Is it one of the common integer instructions, which no processor can refuse to run once their operand is there: no #UD, #DE,
 * #GP? They need no mark, and guest registers may be elsewhere for their time.
 */
bool tr_cannot_fault(const struct insn *in);
/* The copied instruction comes next: notes where, if the host may raise an exception in it. */
void tr_mark(struct tr *t);
/* Makes the flags readable in EFLAGS; saves them if a clobber is about to come and they are live. Both may clobber T1. */
void tr_need_host_flags(struct tr *t);
void tr_before_clobber(struct tr *t);

/* lower_mem.c */
/* T0 := effective address of the memory operand (+ adjust). Clobbers T1. Keeps flags. */
void lower_address(struct tr *t, const struct insn *in, int32_t adjust);
void lower_plain(struct tr *t, const struct insn *in);
void lower_bt_mem(struct tr *t, const struct insn *in);
void lower_nop(struct tr *t, const struct insn *in);

/* lower_probe.c */
/* T0, an address, becomes a host address at which size bytes may be read or written. Clobbers T1 and (tracked) flags. */
void lower_probe(struct tr *t, unsigned size, bool write);
/* The same for an address based on RSP: tries the stack entry first. */
void lower_probe_stack(struct tr *t, unsigned size, bool write);
/*
 * The pieces. All expect that EFLAGS are free. A look-up leaves T0 the host address; at its miss, which is a jump to be patched,
 * undo makes T0 the address again.
 */
uint8_t *lower_lookup(struct tr *t, unsigned size, bool write, struct emit *e);
/* The same in a set: as long for all sizes up to TLB_SECOND_TURNS. */
uint8_t *lower_lookup_in(unsigned set, unsigned size, bool write, struct emit *e);
void lower_lookup_undo(struct tr *t, bool write, struct emit *e);
/* A look-up with a site, whose miss has the TLB filled and comes back to it. */
struct probe { uint8_t *miss; uint32_t site; bool write; };
struct probe lower_probe_begin(struct tr *t, unsigned size, bool write, struct emit *e);
void lower_probe_missed(struct tr *t, const struct probe *p, struct emit *cold);
/*
 * In the stack entry: `bytes` from T0 on. The limit is that of eight bytes at the lower end, then the upper end is compared too: exact, since
 * stacks begin at the end of a page.
 */
void lower_stack_lookup(struct tr *t, int32_t bytes, uint8_t *miss[2]);
void lower_stack_lookup_undo(struct tr *t, struct emit *e);
/*
 * Cold: the stub makes T0's page the stack entry; T0 is the address, or (undo) what the look-up left of it. The caller sets the site's host: where it comes back with
 * the host address in T0.
 */
struct site *lower_stack_missed(struct tr *t, unsigned size, bool write, bool undo, struct emit *cold);
/* The same in level 1, where the code is rarely passed: T0 is the address. */
struct site *lower_look_up_alone(struct tr *t, unsigned size, bool write, struct emit *cold);
bool lower_stack_has_stub(unsigned size);

/* Which of the TLB's sets the code probes; a site of an access. */
unsigned lower_set_of(const struct tr *t);
uint32_t lower_site(struct tr *t, enum site_kind kind, unsigned size);

/* lower_window.c: of the current instruction's operand. All but the first two expect that EFLAGS are free, and clobber T1. */
bool lower_has_windows(const struct tr *t, unsigned size);
/* The instruction as it is copied behind lower_window_direct, if it can be: the delta, in T1, is a part of its address. Bytes, or 0. */
unsigned lower_window_form(const struct tr *t, const struct insn *in, uint8_t *code);
void lower_window_direct(struct tr *t, const struct insn *in);
/* T0, an address, becomes a host address. */
void lower_window(struct tr *t, unsigned size, bool write);
/* The same for a span; what follows in the cold area does without, T0 the address. */
struct site *lower_window_span(struct tr *t, unsigned size, bool write);

/* lower_span.c */
/* Finds the spans of the block, before any lowering. */
void lower_find_spans(struct tr *t);
/* If the current instruction's operand is of a span: T0 := host address of the span's begin. Clobbers T1 and (tracked) flags. */
bool lower_span(struct tr *t);
/* How far into its span the current instruction's operand is; 0 without one. */
int32_t lower_span_offset(const struct tr *t);

/* lower_stack.c */
void lower_push(struct tr *t, const struct insn *in);
void lower_pop(struct tr *t, const struct insn *in);
void lower_leave(struct tr *t, const struct insn *in);
/* Several PUSHes, or POPs (maybe with a RET), from instruction t->i on: as one group. Returns how many it took; 0: none. */
unsigned lower_stack_run(struct tr *t);
/* Pushes a constant, or the address of the next instruction; RSP moves last. */
void lower_push_const(struct tr *t, uint64_t value);
void lower_push_next(struct tr *t);

/* lower_flow.c */
void lower_jcc(struct tr *t, const struct insn *in);
void lower_loop(struct tr *t, const struct insn *in);
void lower_jmp(struct tr *t, const struct insn *in);
void lower_call(struct tr *t, const struct insn *in);
void lower_ret(struct tr *t, const struct insn *in);
/* The rest of a RET: T0 is the target, RSP is still to move by `move`, of which `pop` is the RET's part; t->i is the RET. */
void lower_ret_to(struct tr *t, int32_t move, int32_t pop);
void lower_indirect(struct tr *t, const struct insn *in);
/* Ends the block: on to va (direct, patchable or through the jump table). */
void lower_exit(struct tr *t, uint64_t va);
/* Cold, flags in S_FLAGS or dead: the current instruction, and what is like it behind it, in a block of MODE_SINGLY. */
void lower_link_singly(struct tr *t);
/* Ends the block: the executor does the current instruction. */
void lower_executor(struct tr *t);
/* T0 is the target, the table in force is that of `mode`, flags are in S_FLAGS; `e` is not the cold area, which takes the miss. Clobbers T1. */
void lower_jump_look_up(struct tr *t, struct emit *e, uint32_t mode, uint32_t site);
/* The same in the table whose place is in the slot, which becomes the one in force. */
void lower_jump_elsewhere(struct tr *t, struct emit *e, int32_t slot, uint32_t mode, uint32_t site);

/* string.c */
void lower_string(struct tr *t, const struct insn *in);

/* lower_state.c */
void lower_state_image(struct tr *t, const struct insn *in);

/* lower_syscall.c */
void lower_syscall(struct tr *t, const struct insn *in);
void lower_sysret(struct tr *t, const struct insn *in);

/* lower_iret.c */
void lower_iret(struct tr *t, const struct insn *in);
/* bt->iret; after all that it jumps to. */
void bt_make_iret(struct bt *bt, struct emit *e);

/* lower_system.c */
/* On the condition, the executor does this instruction; flags that are live are in the slot. */
void lower_executor_if(struct tr *t, uint8_t cc);
/* T1 := RFLAGS as PUSHF would have it, the arithmetic ones from S_FLAGS. Uses S_RAX, clobbers EFLAGS. */
void lower_flags_image(struct tr *t);
void lower_cli(struct tr *t, const struct insn *in);
void lower_sti(struct tr *t, const struct insn *in);
/* After the instruction that t->shadow names. */
void lower_shadow_end(struct tr *t);
void lower_cld(struct tr *t, const struct insn *in);
void lower_stac(struct tr *t, const struct insn *in);
void lower_pushf(struct tr *t, const struct insn *in);
void lower_rdtsc(struct tr *t, const struct insn *in);
void lower_fsgsbase(struct tr *t, const struct insn *in);
void lower_swapgs(struct tr *t, const struct insn *in);
void lower_mov_from_seg(struct tr *t, const struct insn *in);
void lower_mov_from_cr(struct tr *t, const struct insn *in);

#endif
