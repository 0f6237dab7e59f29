/*
 * string.c - MOVS, STOS and LODS of translated code: page runs through the level-1 TLB, copied by the host's own string
 * instructions, forward or backward. A forward MOVS or STOS that stays in one page is done inline; C does the rest. Whatever is not plain (an element across pages, MMIO, watched frames, faults) is left to the executor, with the
 * registers as the finished iterations left them.
 */
#include "bt/lower.h"

#include "bt/profile_internal.h"
#include "bt/string.h"

/* At most this many bytes without looking at v->pending. */
#define STRING_BUDGET KIB(256)

/* Host address of va if an access may go there, else 0. */
static uint8_t *reach(struct vcpu *v, uint64_t va, bool write)
{
	const struct tlb_entry *e = tlb1_entry(&v->mmu, vcpu_tlb_set(v), va);
	unsigned access = (write ? ACC_WRITE : ACC_READ) | ACC_AGAIN | (vcpu_user(v) ? ACC_USER : 0) | (v->rflags & FL_AC ? ACC_AC : 0);
	struct mmu_result out;

	if (LIKELY((write ? e->tag_write : e->tag_read) == (va & PAGE_MASK)))
		return (uint8_t *)(uintptr_t)e->host + (va & ~PAGE_MASK);
	if (!vcpu_canonical(v, va) || mmu_access(&v->mmu, gva(va), access, &out) != MMU_MAPPED)
		return 0;
	return out.hva;
}

/* How many elements from va on, in the direction of the run, lie whole in its page. */
static uint64_t elements_in_page(uint64_t va, unsigned shift, bool down)
{
	const uint64_t at = va & ~PAGE_MASK, whole = (PAGE_SIZE - at) >> shift;

	return down ? (whole ? (at >> shift) + 1 : 0) : whole;
}

/* One host instruction for a run; element size matters when the ranges overlap. The direction flag is the host's (run_of). */
static void run_movs(uint8_t *dst, const uint8_t *src, uint64_t n, unsigned shift)
{
	switch (shift) {
	case 0: __asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory"); break;
	case 1: __asm__ volatile("rep movsw" : "+D"(dst), "+S"(src), "+c"(n) : : "memory"); break;
	case 2: __asm__ volatile("rep movsl" : "+D"(dst), "+S"(src), "+c"(n) : : "memory"); break;
	default: __asm__ volatile("rep movsq" : "+D"(dst), "+S"(src), "+c"(n) : : "memory"); break;
	}
}

static void run_stos(uint8_t *dst, uint64_t value, uint64_t n, unsigned shift)
{
	switch (shift) {
	case 0: __asm__ volatile("rep stosb" : "+D"(dst), "+c"(n) : "a"(value) : "memory"); break;
	case 1: __asm__ volatile("rep stosw" : "+D"(dst), "+c"(n) : "a"(value) : "memory"); break;
	case 2: __asm__ volatile("rep stosl" : "+D"(dst), "+c"(n) : "a"(value) : "memory"); break;
	default: __asm__ volatile("rep stosq" : "+D"(dst), "+c"(n) : "a"(value) : "memory"); break;
	}
}

static void run_of(uint8_t *dst, const uint8_t *src, uint64_t value, uint64_t n, unsigned shift, bool down)
{
	if (UNLIKELY(down))
		__asm__ volatile("std" : : : "memory");
	if (src)
		run_movs(dst, src, n, shift);
	else
		run_stos(dst, value, n, shift);
	if (UNLIKELY(down))
		__asm__ volatile("cld" : : : "memory");
}

static void load_element(struct vcpu *v, const uint8_t *src, unsigned shift)
{
	uint64_t *rax = &v->gpr[RAX];

	switch (shift) {
	case 0: *rax = (*rax & ~0xffull) | *src; break;
	case 1: *rax = (*rax & ~0xffffull) | load_u16(src); break;
	case 2: *rax = load_u32(src); break;
	default: *rax = load_u64(src); break;
	}
}

uint64_t bt_string(struct vcpu *v, uint64_t unused, uint32_t site)
{
	struct bt *bt = v->bt->bt;
	const struct site *s = &bt->site[site];
	unsigned kind = s->more & STRING_KIND, shift = s->more >> STRING_SHIFT & 3;
	bool rep = s->more & STRING_REP, loads = kind != STRING_STOS, stores = kind != STRING_LODS, down = v->rflags & FL_DF;
	const uint64_t mask = s->more & STRING_32 ? UINT32_MAX : UINT64_MAX;
	uint64_t left = rep ? v->gpr[RCX] & mask : 1, budget = STRING_BUDGET >> shift;

	(void)unused;
	bt_profile_slow(v, site, PROFILE_STRING);
	v->bt->slow_inject = false;
	if (rep && loads && !stores)
		return 0;
	while (left) {
		uint64_t n = left, moved;
		uint8_t *src = 0, *dst = 0;

		if (loads) {
			uint64_t room = elements_in_page(v->gpr[RSI], shift, down);

			n = n < room ? n : room;
		}
		if (stores) {
			uint64_t room = elements_in_page(v->gpr[RDI], shift, down);

			n = n < room ? n : room;
		}
		/*
		 * The load first: if it faults, the store's page is not marked as dirty. And again after the store, whose page may leave a shared frame, which is also
		 * where the load has looked for it.
		 */
		if (!n || n > budget || (loads && !(src = reach(v, v->gpr[RSI] & mask, false))) || (stores && !(dst = reach(v, v->gpr[RDI] & mask, true))) ||
		    (loads && stores && !(src = reach(v, v->gpr[RSI] & mask, false))))
			return 0;
		if (!stores)
			load_element(v, src, shift);
		else
			run_of(dst, src, v->gpr[RAX], n, shift, down);
		moved = down ? -(n << shift) : n << shift;
		if (loads)
			v->gpr[RSI] = (v->gpr[RSI] + moved) & mask;
		if (stores)
			v->gpr[RDI] = (v->gpr[RDI] + moved) & mask;
		left -= n;
		budget -= n;
		if (rep)
			v->gpr[RCX] = left;
	}
	bt->counters.string_runs++;
	return (uint64_t)(uintptr_t)(bt->cache + s->host);
}

/* The host's own instruction, whose registers hold host addresses. */
static void emit_string(struct emit *e, bool movs, bool rep, unsigned shift)
{
	if (shift == 1)
		e_u8(e, 0x66);
	if (rep)
		e_u8(e, 0xf3);
	if (shift == 3)
		e_u8(e, 0x48);
	e_u8(e, (uint8_t)((movs ? 0xa4 : 0xaa) | (shift != 0)));
}

/* To the cold part unless the elements from reg on end in the page that they begin in. Clobbers T1. */
static void stays_in_page(struct tr *t, uint8_t reg, unsigned shift, const uint8_t *cold)
{
	e_lea(&t->e, true, T1, reg, RCX, (uint8_t)(1u << shift), -1);
	e_op_rr(&t->e, true, 0x33, T1, reg);
	e_alu_imm(&t->e, true, 7, T1, (int32_t)PAGE_SIZE);
	e_jcc_to(&t->e, CC_AE, cold);
}

/*
 * MOVS or STOS, forward, within the pages that RSI and RDI point into and that the TLB has: for the time of the instruction the registers hold host addresses. What is not
 * so goes to `cold`, with the guest's registers as they were. EFLAGS are free.
 */
static void lower_inline(struct tr *t, bool movs, bool rep, unsigned shift, const uint8_t *cold)
{
	const unsigned size = rep ? 1 : 1u << shift;
	struct emit *e = &t->e;

	e_u8(e, 0x65), e_u8(e, 0xf6); /* test byte gs:[rflags + 1], DF */
	e_modrm(e, 0, NO_BASE, NO_BASE, 1, VOFF(rflags) + 1);
	e_u8(e, FL_DF >> 8);
	e_jcc_to(e, CC_NE, cold);
	if (rep) {
		e_alu_imm(e, true, 7, RCX, (int32_t)(PAGE_SIZE >> shift));
		e_jcc_to(e, CC_A, cold);
		stays_in_page(t, RDI, shift, cold);
		if (movs)
			stays_in_page(t, RSI, shift, cold);
	}
	e_mov_rr(e, T0, RDI);
	e_patch(lower_lookup(t, size, true, e), cold);
	if (movs) {
		e_store_gs(e, SLOT(S_TMP0), T0);
		e_mov_rr(e, T0, RSI);
		e_patch(lower_lookup(t, size, false, e), cold);
		e_mov_rr(e, T1, T0); /* T1: what RSI moves by */
		e_op_rr(e, true, 0x2b, T1, RSI);
		e_mov_rr(e, RSI, T0);
		e_load_gs(e, T0, SLOT(S_TMP0));
	}
	e_store_gs(e, SLOT(S_TMP0), RDI);
	e_store_gs(e, SLOT(S_TMP1), T0);
	e_mov_rr(e, RDI, T0);
	emit_string(e, movs, rep, shift);
	e_op_gs(e, true, 0x2b, RDI, SLOT(S_TMP1));
	e_op_gs(e, true, 0x03, RDI, SLOT(S_TMP0));
	if (movs)
		e_op_rr(e, true, 0x2b, RSI, T1);
}

void lower_string(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	unsigned shift = in->opsize == 8 ? 3 : in->opsize == 4 ? 2 : in->opsize == 2 ? 1 : 0;
	unsigned kind = in->cls == INSN_MOVS ? STRING_MOVS : in->cls == INSN_STOS ? STRING_STOS : STRING_LODS;
	uint32_t site;

	if (in->addrsize != tr_word(t) || in->mem.seg == SEG_FS || in->mem.seg == SEG_GS ||
	    (!tr_wide(t) && ((kind != STRING_STOS && !tr_flat(t, in->mem.seg)) || (kind != STRING_LODS && !tr_flat(t, SEG_ES))))) {
		lower_executor(t);
		return;
	}
	tr_before_clobber(t);
	site = tr_site(t, SITE_READ);
	t->bt->site[site].flags_saved = t->in_slot;
	t->bt->site[site].more = (uint16_t)(kind | (in->rep || in->repne ? STRING_REP : 0) | shift << STRING_SHIFT | (tr_wide(t) ? 0 : STRING_32));
	if (tr_wide(t) && kind != STRING_LODS && tune_on(t->bt->memory->tune, TUNE_INLINE_STRING)) {
		lower_inline(t, kind == STRING_MOVS, in->rep || in->repne, shift, t->cold.p);
		e = &t->cold;
	}
	e_store_gs_imm32(e, SLOT(S_SITE), site);
	e_jmp_to(e, t->bt->string);
	t->bt->site[site].host = tr_offset(t, t->e.p);
}
