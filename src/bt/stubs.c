/*
 * stubs.c - the fixed pieces of generated code, made once at the start of the code cache: entry from C, the
 * leave stubs, the TLB-miss stubs, and the miss of a jump table. docs/translator.md draws how they hang together.
 *
 * Guest RSP is in the host's RSP while generated code runs, so nothing here uses the stack before it has switched
 * to the host's (S_HOST_RSP, 16-byte aligned, below enter's saved registers).
 */
#include "bt/bt_internal.h"
#include "bt/lower.h"
#include "bt/string.h"

/* Guest registers that live in host registers; of these, the first seven are the caller's to save in C. */
static const uint8_t resident[] = { RAX, RCX, RDX, RSI, RDI, R8, R9, RBX, RBP, R12, R13, R14, R15 };
#define CALLER_SAVED 7
static const uint8_t callee_saved[] = { RBX, RBP, R12, R13, R14, R15 };

static void push_reg(struct emit *e, uint8_t r)
{
	if (r >= 8)
		e_u8(e, 0x41);
	e_u8(e, (uint8_t)(0x50 | (r & 7)));
}

static void pop_reg(struct emit *e, uint8_t r)
{
	if (r >= 8)
		e_u8(e, 0x41);
	e_u8(e, (uint8_t)(0x58 | (r & 7)));
}

#define BYTES(e, s) e_bytes(e, (const uint8_t *)(s), sizeof(s) - 1)

/* enter(v, host): C to generated code. */
static void make_enter(struct emit *e)
{
	for (size_t i = 0; i < ARRAY_LEN(callee_saved); i++)
		push_reg(e, callee_saved[i]);
	e_alu_imm(e, true, 5, RSP, 8);
	e_store_gs(e, SLOT(S_HOST_RSP), RSP);
	e_store_gs(e, SLOT(S_TARGET), RSI);
	/* Flags: OF by an addition that overflows when it was set, the rest by SAHF. */
	e_load_gs32(e, RAX, VOFF(rflags));
	BYTES(e, "\x89\xc1"		/* mov ecx, eax */
		 "\xc1\xe9\x0b"		/* shr ecx, 11 */
		 "\x83\xe1\x01"		/* and ecx, 1 */
		 "\x80\xc1\x7f"		/* add cl, 0x7f */
		 "\x88\xc4"		/* mov ah, al */
		 "\x9e");		/* sahf */
	for (size_t i = 0; i < ARRAY_LEN(resident); i++)
		e_load_gs(e, resident[i], VOFF(gpr[resident[i]]));
	e_load_gs(e, RSP, VOFF(gpr[RSP]));
	e_jmp_gs(e, SLOT(S_TARGET));
}

/* Back to enter's caller; RSP is the host's. */
static void make_return(struct emit *e)
{
	e_alu_imm(e, true, 0, RSP, 8);
	for (size_t i = ARRAY_LEN(callee_saved); i-- > 0;)
		pop_reg(e, callee_saved[i]);
	e_u8(e, 0xc3);
}

/* All guest state to struct vcpu, then back to enter's caller. Returns the entry for when RSP is the host's already. */
static uint8_t *make_leave_common(struct emit *e)
{
	uint8_t *rsp_is_host;

	e_store_gs(e, VOFF(gpr[RSP]), RSP);
	e_load_gs(e, RSP, SLOT(S_HOST_RSP));
	rsp_is_host = e->p;
	for (size_t i = 0; i < ARRAY_LEN(resident); i++)
		e_store_gs(e, VOFF(gpr[resident[i]]), resident[i]);
	BYTES(e, "\x9f"			/* lahf */
		 "\x0f\x90\xc0"		/* seto al */
		 "\x0f\xb6\xcc"		/* movzx ecx, ah */
		 "\x0f\xb6\xc0"		/* movzx eax, al */
		 "\xc1\xe0\x0b"		/* shl eax, 11 */
		 "\x81\xe1\xd5\x00\x00\x00" /* and ecx, CF|PF|AF|ZF|SF */
		 "\x09\xc1");		/* or ecx, eax */
	e_load_gs32(e, RAX, VOFF(rflags));
	e_alu_imm(e, false, 4, RAX, (int32_t)~FL_ARITH);
	BYTES(e, "\x09\xc8");		/* or eax, ecx */
	e_op_gs(e, false, 0x89, RAX, VOFF(rflags));
	make_return(e);
	return rsp_is_host;
}

/*
 * SYSCALL of a domain: C has the whole guest state and may change all of it. It answers with the host address to go on at, flags in S_FLAGS, or with 0: then bt_run
 * goes on.
 */
static void make_domain_syscall(struct emit *e)
{
	uint8_t *none;

	for (size_t i = 0; i < ARRAY_LEN(resident); i++)
		e_store_gs(e, VOFF(gpr[resident[i]]), resident[i]);
	e_store_gs(e, VOFF(gpr[RSP]), RSP);
	e_load_gs(e, RSP, SLOT(S_HOST_RSP));
	e_load_gs(e, RDI, SLOT(S_SELF));
	e_call_abs(e, (uint64_t)(uintptr_t)bt_domain_syscall);
	BYTES(e, "\x48\x85\xc0");	/* test rax, rax */
	none = e_jcc(e, CC_E);
	e_store_gs(e, SLOT(S_TARGET), RAX);
	for (size_t i = 0; i < ARRAY_LEN(resident); i++)
		e_load_gs(e, resident[i], VOFF(gpr[resident[i]]));
	e_load_gs(e, RSP, VOFF(gpr[RSP]));
	e_jmp_gs(e, SLOT(S_TARGET));
	e_patch(none, e->p);
	e_store_gs_imm32(e, SLOT(S_REASON), LEAVE_DONE);
	make_return(e);
}

/*
 * TLB miss: T0 is the address, S_SITE the site. Calls C with only the caller-saved registers
 * saved; C answers with the host address to go on at (with T0 the address again) or 0: the access needs the executor.
 */
static void make_slow(struct emit *e, uint64_t fn, const uint8_t *leave_slow)
{
	uint8_t *none;

	e_store_gs(e, SLOT(S_EA), T0);
	for (unsigned i = 0; i < CALLER_SAVED; i++)
		e_store_gs(e, VOFF(gpr[resident[i]]), resident[i]);
	e_store_gs(e, VOFF(gpr[RSP]), RSP);
	e_load_gs(e, RSP, SLOT(S_HOST_RSP));
	e_load_gs(e, RDI, SLOT(S_SELF));
	e_mov_rr(e, RSI, T0);
	e_load_gs32(e, RDX, SLOT(S_SITE));
	e_call_abs(e, fn);
	e_store_gs(e, SLOT(S_TARGET), RAX);
	BYTES(e, "\x48\x85\xc0");	/* test rax, rax */
	none = e_jcc(e, CC_E);
	for (unsigned i = 0; i < CALLER_SAVED; i++)
		e_load_gs(e, resident[i], VOFF(gpr[resident[i]]));
	e_load_gs(e, RSP, VOFF(gpr[RSP]));
	e_load_gs(e, T0, SLOT(S_EA));
	e_jmp_gs(e, SLOT(S_TARGET));
	e_patch(none, e->p);
	for (unsigned i = 0; i < CALLER_SAVED; i++)
		e_load_gs(e, resident[i], VOFF(gpr[resident[i]]));
	e_load_gs(e, RSP, VOFF(gpr[RSP]));
	e_jmp_to(e, leave_slow);
}

/* S_SITE, S_BACK and S_INTO for site T1. */
static void make_back(struct emit *e)
{
	e_op_gs(e, false, 0x89, T1, SLOT(S_SITE));
	_Static_assert(sizeof(struct site) == 8, "the factor below");
	BYTES(e, "\x49\xc1\xe3\x03");	/* shl T1, 3 */
	e_op_gs(e, true, 0x03, T1, SLOT(S_SITES));
	e_store_gs(e, SLOT(S_EA), T0);
	e_op_mem(e, false, 0x8b, T0, T1, NO_BASE, 1, (int32_t)offsetof(struct site, bits));
	BYTES(e, "\x41\xc1\xea"), e_u8(e, SITE_INTO_SHIFT); /* shr T0d, the place */
	BYTES(e, "\x45\x0f\xb6\xd2");	/* movzx T0d, T0b */
	e_store_gs(e, SLOT(S_INTO), T0);
	e_load_gs(e, T0, SLOT(S_EA));
	e_op_mem(e, false, 0x8b, T1, T1, NO_BASE, 1, (int32_t)offsetof(struct site, host));
	e_op_gs(e, true, 0x03, T1, SLOT(S_CACHE));
	e_store_gs(e, SLOT(S_BACK), T1);
}

/*
 * T0, the address, missed in the first place, whose offset T1 is; if the set uses second places, that is tried for S_SITE's access, of no more than TLB_SECOND_TURNS bytes. One hit
 * in so many goes to C, too, for which the entry is worth its first place. Goes on behind the site's look-up, with T0 and T1 as that leaves them.
 */
static void make_second(struct bt *bt, struct emit *e, unsigned set, bool write, int32_t tag)
{
	const int32_t mask = VOFF(mmu.l1_mask[set]), hits = VOFF(mmu.counters.tlb_l1_second);
	uint8_t *const start = e->p, *none, *promoted;
	ptrdiff_t look_up_bytes;

	_Static_assert(PAGE_SIZE >= TLB_SECOND_TURNS && TLB_SECOND_TURNS <= 128, "a byte, an offset");
	lower_lookup_in(set, 1, write, e);
	look_up_bytes = e->p - start;
	e->p = start;
	e_u8(e, 0x65), e_u8(e, 0x80); /* cmp byte gs:[l1_seconds], 0 */
	e_modrm(e, 7, NO_BASE, NO_BASE, 1, VOFF(mmu.l1_seconds[set]));
	e_u8(e, 0);
	e_jcc_to(e, CC_E, bt->slow_sited[write]);
	e_store_gs(e, SLOT(S_EA), T0);
	BYTES(e, "\x49\xc1\xea"), e_u8(e, TLB_SECOND_SHIFT); /* shr T0 */
	e_alu_imm(e, false, 4, T0, -(2 << TLB_ENTRY_SHIFT));
	e_op_rr(e, false, 0x33, T1, T0);
	e_op_gs(e, false, 0x23, T1, mask);
	e_load_gs(e, T0, SLOT(S_EA));
	e_op_gs_base(e, true, 0x2b, T0, T1, NO_BASE, 1, tag);
	e_alu_imm(e, true, 7, T0, (int32_t)PAGE_SIZE - TLB_SECOND_TURNS);
	none = e_jcc(e, CC_A);
	e_op_gs(e, true, 0xff, 0, hits); /* inc */
	e_u8(e, 0x65), e_u8(e, 0xf6); /* test byte gs:[hits] */
	e_modrm(e, 0, NO_BASE, NO_BASE, 1, hits);
	e_u8(e, TLB_SECOND_TURNS - 1);
	promoted = e_jcc(e, CC_E);
	e_op_gs_base(e, true, 0x03, T0, T1, NO_BASE, 1, bt_l1_of(set) + (int32_t)offsetof(struct tlb_entry, host));
	e_store_gs(e, SLOT(S_LIMIT), T1);
	e_load_gs32(e, T1, SLOT(S_SITE));
	make_back(e);
	e_op_gs(e, true, 0x83, 0, SLOT(S_BACK)), e_u8(e, (uint8_t)look_up_bytes); /* add */
	e_load_gs(e, T1, SLOT(S_LIMIT));
	e_jmp_gs(e, SLOT(S_BACK));
	e_patch(none, e->p);
	e_patch(promoted, e->p);
	e_load_gs(e, T0, SLOT(S_EA));
	e_jmp_to(e, bt->slow_sited[write]);
}

static void make_missed(struct bt *bt, struct emit *e, unsigned set, bool write)
{
	const int32_t tag = bt_l1_of(set) + (int32_t)(write ? offsetof(struct tlb_entry, tag_write) : offsetof(struct tlb_entry, tag_read));

	bt->missed[set][write] = e->p;
	e_store_gs(e, SLOT(S_EA), T1);
	e_alu_imm(e, false, 4, T1, (1 << TLB_ENTRY_SHIFT) - 1);
	e_op_gs(e, false, 0x01, T1, SLOT(S_SITE));
	e_load_gs(e, T1, SLOT(S_EA));
	e_alu_imm(e, false, 4, T1, -(1 << TLB_ENTRY_SHIFT));
	e_op_gs_base(e, true, 0x03, T0, T1, NO_BASE, 1, tag);
	if (tune_on(bt->memory->tune, TUNE_SECOND_PLACES))
		make_second(bt, e, set, write, tag);
	else
		e_jmp_to(e, bt->slow_sited[write]);
}

/* Look-up in level 1 of 1 << n bytes at T0 for site T1; goes on at the site's host. */
static void make_alone(struct bt *bt, struct emit *e, unsigned set, bool write, unsigned n)
{
	const int32_t l1 = bt_l1_of(set);
	const int32_t tag = l1 + (int32_t)(write ? offsetof(struct tlb_entry, tag_write) : offsetof(struct tlb_entry, tag_read));
	uint8_t *miss;

	bt->alone_missed[set][write][n] = e->p;
	make_back(e);
	bt->alone[set][write][n] = e->p;
	e_rorx32(e, T1, T0, PAGE_SHIFT - TLB_ENTRY_SHIFT);
	e_op_gs(e, false, 0x23, T1, VOFF(mmu.l1_mask[set]));
	e_op_gs_base(e, true, 0x2b, T0, T1, NO_BASE, 1, tag);
	e_alu_imm(e, true, 7, T0, 4096 - (1 << n));
	miss = e_jcc(e, CC_A);
	e_op_gs_base(e, true, 0x03, T0, T1, NO_BASE, 1, l1 + (int32_t)offsetof(struct tlb_entry, host));
	e_op_gs(e, true, 0x2b, T0, SLOT(S_INTO));
	e_jmp_gs(e, SLOT(S_BACK));
	e_patch(miss, e->p);
	e_op_gs_base(e, true, 0x03, T0, T1, NO_BASE, 1, tag);
	e_jmp_to(e, bt->slow_sited[write]);
}

/* Where in the code cache the site at T1 says, to a slot. Clobbers T0. */
static void make_site_host(struct emit *e, int32_t site, int32_t slot)
{
	e_op_mem(e, false, 0x8b, T0, T1, NO_BASE, 1, site * (int32_t)sizeof(struct site) + (int32_t)offsetof(struct site, host));
	e_op_gs(e, true, 0x03, T0, SLOT(S_CACHE));
	e_store_gs(e, slot, T0);
}

/* All limits of the window at w, to what they are for one page. */
static void make_limits(struct emit *e, int32_t w, bool write, bool none)
{
	for (unsigned c = 0; c < TLB_WINDOW_CLASSES; c++)
		e_store_gs_imm(e, w + (int32_t)offsetof(struct tlb_window, limit[c][write]), none ? 0 : (int32_t)PAGE_SIZE - tlb_window_size[c] + 1);
}

/*
 * Window n missed, at T0 for site T1: level 1 is asked. An empty window, or one of a page, becomes the page; a longer one stays, until its misses have used up
 * its credit and C makes it anew. Goes on at the site's host with T0 the host address and T1 what leads from the address there. What level 1 does not have
 * C puts there, but for a span: that goes on at the other place, T0 the address.
 */
static void make_window(struct bt *bt, struct emit *e, bool span, unsigned set, bool write, unsigned n)
{
	const int32_t l1 = bt_l1_of(set), host = l1 + (int32_t)offsetof(struct tlb_entry, host);
	const int32_t tag_read = l1 + (int32_t)offsetof(struct tlb_entry, tag_read), tag_write = l1 + (int32_t)offsetof(struct tlb_entry, tag_write);
	const int32_t w = VOFF(mmu.window) + (int32_t)((set * TLB_WINDOWS + n) * sizeof(struct tlb_window)), base = w + (int32_t)offsetof(struct tlb_window, base);
	const int32_t delta = w + (int32_t)offsetof(struct tlb_window, delta), tag = write ? tag_write : tag_read;
	uint8_t *miss, *spent, *longer, *read_only = 0;

	bt->window_missed[span][set][write][n] = e->p;
	e_op_gs(e, false, 0x89, T1, SLOT(S_SITE));
	e_store_gs(e, SLOT(S_EA), T0);
	BYTES(e, "\x49\xc1\xe3\x03");	/* shl T1, 3 */
	e_op_gs(e, true, 0x03, T1, SLOT(S_SITES));
	e_op_mem(e, false, 0x8b, T0, T1, NO_BASE, 1, (int32_t)offsetof(struct site, bits));
	BYTES(e, "\x41\xc1\xea"), e_u8(e, SITE_SIZE_SHIFT); /* shr T0d, the size */
	BYTES(e, "\x49\xf7\xda");	/* neg T0 */
	e_alu_imm(e, true, 0, T0, (int32_t)PAGE_SIZE);
	e_store_gs(e, SLOT(S_LIMIT), T0);
	make_site_host(e, 0, SLOT(S_BACK));
	if (span)
		make_site_host(e, 1, SLOT(S_FAIL));
	e_load_gs(e, T0, SLOT(S_EA));
	bt->window[span][set][write][n] = e->p;
	e_op_gs(e, true, 0xff, 0, VOFF(mmu.counters.tlb_window_misses)); /* inc */
	e_rorx32(e, T1, T0, PAGE_SHIFT - TLB_ENTRY_SHIFT);
	e_op_gs(e, false, 0x23, T1, VOFF(mmu.l1_mask[set]));
	e_op_gs_base(e, true, 0x2b, T0, T1, NO_BASE, 1, tag);
	e_op_gs(e, true, 0x3b, T0, SLOT(S_LIMIT));
	miss = e_jcc(e, CC_A);
	e_op_gs(e, false, 0xff, 1, w + (int32_t)offsetof(struct tlb_window, credit)); /* dec */
	spent = e_jcc(e, CC_S);
	e_op_gs_base(e, true, 0x03, T0, T1, NO_BASE, 1, host);
	e_store_gs(e, SLOT(S_EA), T0);
	e_op_gs_base(e, true, 0x8b, T0, T1, NO_BASE, 1, host);
	e_op_gs_base(e, true, 0x2b, T0, T1, NO_BASE, 1, tag);
	e_op_gs(e, true, 0x81, 7, w + (int32_t)offsetof(struct tlb_window, limit[0][0])); /* cmp */
	e_u32(e, (uint32_t)PAGE_SIZE);
	longer = e_jcc(e, CC_A);
	e_store_gs(e, delta, T0);
	e_op_gs_base(e, true, 0x8b, T0, T1, NO_BASE, 1, tag);
	e_store_gs(e, base, T0);
	make_limits(e, w, false, false);
	e_op_gs(e, false, 0xc6, 0, VOFF(mmu.window_live) + (int32_t)(set * TLB_WINDOWS + n)), e_u8(e, 1);
	if (!write) {
		e_op_gs_base(e, true, 0x3b, T0, T1, NO_BASE, 1, tag_write);
		read_only = e_jcc(e, CC_NE);
	}
	e_load_gs(e, T1, delta);
	make_limits(e, w, true, false);
	e_load_gs(e, T0, SLOT(S_EA));
	e_jmp_gs(e, SLOT(S_BACK));
	if (!write) {
		e_patch(read_only, e->p);
		e_load_gs(e, T1, delta);
		make_limits(e, w, true, true);
		e_load_gs(e, T0, SLOT(S_EA));
		e_jmp_gs(e, SLOT(S_BACK));
	}
	e_patch(longer, e->p);
	e_mov_rr(e, T1, T0);
	e_load_gs(e, T0, SLOT(S_EA));
	e_jmp_gs(e, SLOT(S_BACK));
	e_patch(spent, e->p);
	e_op_gs_base(e, true, 0x03, T0, T1, NO_BASE, 1, tag);
	e_jmp_to(e, bt->window_make);
	e_patch(miss, e->p);
	e_op_gs_base(e, true, 0x03, T0, T1, NO_BASE, 1, tag);
	if (span)
		e_jmp_gs(e, SLOT(S_FAIL));
	else
		e_jmp_to(e, bt->slow_sited[write]);
}

static void make_windows(struct bt *bt, struct emit *e, unsigned set)
{
	for (unsigned n = 0; n < TLB_WINDOWS; n++)
		for (unsigned k = 0; k < 4; k++)
			make_window(bt, e, k & 1, set, k & 2, n);
}

/*
 * Stack probe that missed the stack entry: T0 is the address. If the level-1 TLB has the page writable, it becomes the stack entry; a
 * read from a page that is not writable is served without. On a miss C fills level 1 and comes back to the start.
 */
static void make_stack(struct bt *bt, struct emit *e, unsigned set, bool write, unsigned n)
{
	int32_t l1 = bt_l1_of(set);
	int32_t entry = bt_stack_of(set);
	int32_t tag[2] = { (int32_t)offsetof(struct tlb_entry, tag_write), (int32_t)offsetof(struct tlb_entry, tag_read) };
	uint8_t *miss;

	bt->stack_missed[set][write][n][1] = e->p;
	e_op_gs(e, true, 0x03, T0, entry + (int32_t)offsetof(struct tlb_stack, tag));
	bt->stack_missed[set][write][n][0] = e->p;
	make_back(e);
	bt->stack[set][write][n] = e->p;
	e_rorx32(e, T1, T0, PAGE_SHIFT - TLB_ENTRY_SHIFT);
	e_op_gs(e, false, 0x23, T1, VOFF(mmu.l1_mask[set]));
	for (unsigned pass = 0; pass < (write ? 1 : 2); pass++) {
		e_op_gs_base(e, true, 0x2b, T0, T1, NO_BASE, 1, l1 + tag[pass]);
		e_alu_imm(e, true, 7, T0, 4096 - (1 << n));
		miss = e_jcc(e, CC_A);
		if (!pass) {
			e_store_gs(e, SLOT(S_EA), T0);
			e_op_gs_base(e, true, 0x8b, T0, T1, NO_BASE, 1, l1 + tag[0]);
			e_store_gs(e, entry + (int32_t)offsetof(struct tlb_stack, tag), T0);
			e_op_gs_base(e, true, 0x8b, T0, T1, NO_BASE, 1, l1 + (int32_t)offsetof(struct tlb_entry, host));
			e_store_gs(e, entry + (int32_t)offsetof(struct tlb_stack, host), T0);
			for (unsigned k = 0; k < TLB_STACK_SIZES; k++)
				e_store_gs_imm(e, entry + (int32_t)offsetof(struct tlb_stack, limit[k]), 4096 - (1 << k) + 1);
			e_op_gs(e, true, 0x03, T0, SLOT(S_EA));
		} else {
			e_op_gs_base(e, true, 0x03, T0, T1, NO_BASE, 1, l1 + (int32_t)offsetof(struct tlb_entry, host));
		}
		e_op_gs(e, true, 0x2b, T0, SLOT(S_INTO));
		e_jmp_gs(e, SLOT(S_BACK));
		e_patch(miss, e->p);
		e_op_gs_base(e, true, 0x03, T0, T1, NO_BASE, 1, l1 + tag[pass]);
	}
	e_jmp_to(e, bt->slow_sited[write]);
}

/* Leaves with T1 as the site. */
static uint8_t *leave_sited(struct emit *e, bool saved, const uint8_t *leave)
{
	uint8_t *start = e->p;

	e_op_gs(e, false, 0x89, T1, SLOT(S_SITE));
	if (saved)
		e_restore_flags(e);
	e_jmp_to(e, leave);
	return start;
}

/*
 * T0 is not in the jump table of its context: the wide table, and with a hit there an entry of the context's again. S_SITE is set. It takes the number of the table that is
 * in force, which after a kick is that of table 0, so that nothing is found; but it writes into the one that was.
 */
static void make_jump_wide(struct emit *e, bool small, const uint8_t *missed)
{
	const int32_t wide = VOFF(jump_wide);
	uint8_t *other;

	_Static_assert(sizeof(struct jump_wide) == JUMP_BYTES, "indexed as the tables are");
	e_load_gs(e, T1, SLOT(S_JUMP_BASE));
	e_op_gs_base(e, false, 0x8b, T1, T1, NO_BASE, 1, -(int32_t)sizeof(struct jump_entry));
	e_op_gs(e, false, 0x89, T1, SLOT(S_TMP1));
	e_crc32(e, T1, T0);
	e_alu_imm(e, false, 4, T1, (int32_t)(JUMP_BYTES * (JUMP_WIDE_ENTRIES - 1)));
	e_op_gs_base(e, true, 0x3b, T0, T1, NO_BASE, 1, wide + (int32_t)offsetof(struct jump_wide, key));
	e_jcc_to(e, CC_NE, missed);
	e_store_gs(e, SLOT(S_TMP0), T0);
	e_op_gs_base(e, false, 0x8b, T0, T1, NO_BASE, 1, wide + (int32_t)offsetof(struct jump_wide, context));
	e_op_gs(e, false, 0x3b, T0, SLOT(S_TMP1));
	other = e_jcc(e, CC_NE);
	e_op_gs_base(e, false, 0x8b, T0, T1, NO_BASE, 1, wide + (int32_t)offsetof(struct jump_wide, host));
	e_op_gs(e, true, 0x03, T0, SLOT(S_CACHE));
	e_store_gs(e, SLOT(S_TMP1), T0);
	e_load_gs(e, T0, SLOT(S_TMP0));
	e_jump_entry_of(e, small ? TLB_USER : TLB_KERNEL, SLOT(S_JUMP_WANT));
	e_op_gs_base(e, true, 0x89, T0, T1, NO_BASE, 1, (int32_t)offsetof(struct jump_entry, key));
	e_set_page(e);
	e_load_gs(e, T0, SLOT(S_TMP1));
	e_op_gs_base(e, true, 0x89, T0, T1, NO_BASE, 1, (int32_t)offsetof(struct jump_entry, host));
	e_jmp_gs(e, SLOT(S_TMP1));
	e_patch(other, e->p);
	e_load_gs(e, T0, SLOT(S_TMP0));
	e_jmp_to(e, missed);
}

/*
 * T0 is in entry T1 of the jump table, the one of its set with number k from where it belongs. It changes places with what is there: next time it is found at once. The table is nobody else's: a kick
 * only puts another in force.
 */
static void make_jump_swap(struct emit *e, int32_t k)
{
	const int32_t key = (int32_t)offsetof(struct jump_entry, key), host = (int32_t)offsetof(struct jump_entry, host), other = k * (int32_t)JUMP_BYTES;

	e_store_gs(e, SLOT(S_TMP0), T0);
	e_op_gs_base(e, true, 0x8b, T0, T1, NO_BASE, 1, host);
	e_store_gs(e, SLOT(S_TMP1), T0);
	e_alu_imm(e, false, 6, T1, other); /* xor */
	e_op_gs_base(e, true, 0x8b, T0, T1, NO_BASE, 1, host);
	e_store_gs(e, SLOT(S_TARGET), T0);
	e_op_gs_base(e, true, 0x8b, T0, T1, NO_BASE, 1, key);
	e_alu_imm(e, false, 6, T1, other);
	e_op_gs_base(e, true, 0x89, T0, T1, NO_BASE, 1, key);
	e_load_gs(e, T0, SLOT(S_TARGET));
	e_op_gs_base(e, true, 0x89, T0, T1, NO_BASE, 1, host);
	e_alu_imm(e, false, 6, T1, other);
	e_load_gs(e, T0, SLOT(S_TMP1));
	e_op_gs_base(e, true, 0x89, T0, T1, NO_BASE, 1, host);
	e_load_gs(e, T0, SLOT(S_TMP0));
	e_op_gs_base(e, true, 0x89, T0, T1, NO_BASE, 1, key);
	e_set_page(e);
	e_jmp_gs(e, SLOT(S_TMP1));
}

/* T0 looked up in the jump table; S_SITE is set. */
static void make_look_up(struct bt *bt, struct emit *e, bool small)
{
	e_jump_entry(e, small ? TLB_USER : TLB_KERNEL);
	e_jump_compare(e);
	e_jcc_to(e, CC_NE, bt->jump_other_sited[small]);
	e_set_page(e);
	e_jump_go(e);
}

/* Pushes T1 and goes to T0. What misses the stack entry comes back to the push, or the executor does the whole call. */
static void make_call(struct bt *bt, struct emit *e, unsigned set)
{
	const int32_t entry = bt_stack_of(set);
	uint8_t *miss, *push, *back;

	bt->call[set] = e->p;
	e_store_gs(e, SLOT(S_TMP0), T0);
	e_lea(e, true, T0, RSP, NO_BASE, 1, -8);
	e_op_gs(e, true, 0x2b, T0, entry + (int32_t)offsetof(struct tlb_stack, tag));
	e_op_gs(e, true, 0x3b, T0, entry + (int32_t)offsetof(struct tlb_stack, limit[3]));
	miss = e_jcc(e, CC_AE);
	e_op_gs(e, true, 0x03, T0, entry + (int32_t)offsetof(struct tlb_stack, host));
	push = e->p;
	e_store(e, T0, T1);
	e_lea(e, true, RSP, RSP, NO_BASE, 1, -8);
	e_load_gs(e, T0, SLOT(S_TMP0));
	make_look_up(bt, e, tlb_set_is_user(set));
	back = e->p;
	e_load_gs(e, T1, SLOT(S_TMP1));
	e_jmp_to(e, push);
	e_patch(miss, e->p);
	e_op_gs(e, true, 0x03, T0, entry + (int32_t)offsetof(struct tlb_stack, tag));
	e_store_gs(e, SLOT(S_TMP1), T1);
	e_mov_imm(e, T1, (uint64_t)(uintptr_t)back);
	e_store_gs(e, SLOT(S_BACK), T1);
	e_store_gs_imm(e, SLOT(S_INTO), 0);
	e_jmp_to(e, bt->stack[set][1][3]);
}

void bt_make_stubs(struct bt *bt)
{
	struct emit e = { bt->cache };
	uint8_t *common, *rsp_is_host, *jump_missed, *hit[JUMP_WAYS];

	bt->enter = (void (*)(struct vcpu *, uint8_t *))(uintptr_t)e.p;
	make_enter(&e);
	common = e.p;
	rsp_is_host = make_leave_common(&e);
	for (unsigned reason = 0; reason < ARRAY_LEN(bt->leave); reason++) {
		bt->leave[reason] = e.p;
		e_store_gs_imm32(&e, SLOT(S_REASON), reason);
		e_jmp_to(&e, reason == LEAVE_FAULT ? rsp_is_host : common); /* the signal handler has switched it */
	}
	bt->slow[0] = e.p;
	e_op_gs(&e, false, 0x89, T1, SLOT(S_SITE));
	bt->slow_sited[0] = e.p;
	make_slow(&e, (uint64_t)(uintptr_t)bt_tlb_miss_read, bt->leave[LEAVE_SLOW]);
	bt->slow[1] = e.p;
	e_op_gs(&e, false, 0x89, T1, SLOT(S_SITE));
	bt->slow_sited[1] = e.p;
	make_slow(&e, (uint64_t)(uintptr_t)bt_tlb_miss_write, bt->leave[LEAVE_SLOW]);
	bt->window_make = e.p;
	make_slow(&e, (uint64_t)(uintptr_t)bt_window_make, bt->leave[LEAVE_SLOW]);
	for (unsigned set = 0; set < TLB_SETS; set++)
		if (tlb_set_is_user(set))
			make_windows(bt, &e, set);
	for (unsigned set = 0; set < TLB_SETS; set++)
		for (unsigned n = 0; n < TLB_STACK_SIZES; n++) {
			make_stack(bt, &e, set, false, n);
			make_stack(bt, &e, set, true, n);
			make_alone(bt, &e, set, false, n);
			make_alone(bt, &e, set, true, n);
		}
	for (unsigned n = 0; n < 2 * TLB_SETS; n++)
		make_missed(bt, &e, n / 2, n % 2);
	bt->string = e.p;
	make_slow(&e, (uint64_t)(uintptr_t)bt_string, bt->leave[LEAVE_SLOW]);
	bt->state_find[0] = e.p;
	make_slow(&e, (uint64_t)(uintptr_t)bt_state_find_read, bt->leave[LEAVE_SLOW]);
	bt->state_find[1] = e.p;
	make_slow(&e, (uint64_t)(uintptr_t)bt_state_find_write, bt->leave[LEAVE_SLOW]);
	bt->state_store = e.p;
	make_slow(&e, (uint64_t)(uintptr_t)bt_state_store, bt->leave[LEAVE_SLOW]);
	bt->domain_syscall = e.p;
	make_domain_syscall(&e);
	for (unsigned saved = 0; saved < 2; saved++) {
		bt->link[saved] = leave_sited(&e, saved, bt->leave[LEAVE_DISPATCH]);
		bt->poll[saved] = leave_sited(&e, saved, bt->leave[LEAVE_POLL]);
	}
	bt->odd_stack = e.p;
	e_load_gs(&e, RSP, SLOT(S_ODD_RSP));
	e_jmp_gs(&e, SLOT(S_ODD_RIP));
	bt->jump_miss = e.p;
	e_op_gs(&e, false, 0x89, T1, SLOT(S_SITE));
	jump_missed = e.p;
	e_store_gs(&e, VOFF(rip), T0);
	e_restore_flags(&e);
	e_jmp_to(&e, bt->leave[LEAVE_JUMP]);
	for (unsigned small = 0; small < 2; small++) {
		bt->jump_other[small] = e.p;
		e_op_gs(&e, false, 0x89, T1, SLOT(S_SITE));
		bt->jump_other_sited[small] = e.p;
		e_jump_entry(&e, small ? TLB_USER : TLB_KERNEL);
		for (unsigned k = 1; k < JUMP_WAYS; k++) {
			e_alu_imm(&e, false, 6, T1, (int32_t)((k ^ (k - 1)) * JUMP_BYTES)); /* xor */
			e_jump_compare(&e);
			hit[k] = e_jcc(&e, CC_E);
		}
		make_jump_wide(&e, small, jump_missed);
		for (unsigned k = 1; k < JUMP_WAYS; k++) {
			e_patch(hit[k], e.p);
			make_jump_swap(&e, (int32_t)k);
		}
	}
	bt_make_iret(bt, &e);
	for (unsigned n = 0; n < 2 * JUMP_KINDS; n++) {
		e.p = (uint8_t *)ALIGN_UP((uintptr_t)e.p, 64);
		bt->jump[n / 2][n % 2] = e.p;
		e_op_gs(&e, false, 0x89, T1, SLOT(S_SITE));
		make_look_up(bt, &e, n % 2);
	}
	for (unsigned set = 0; set < TLB_SETS; set++) {
		e.p = (uint8_t *)ALIGN_UP((uintptr_t)e.p, 64);
		make_call(bt, &e, set);
	}
	bt->hot_start = (uint8_t *)ALIGN_UP((uintptr_t)e.p, 64);
}
