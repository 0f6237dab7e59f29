/*
 * lower_window.c - user code's accesses try a window of the TLB (mmu/tlb.h) before level 1: the run of pages that was used last by accesses off the same
 * register.
 *
 *     lea  T0, [address] ; sub T0, gs:[base]
 *     cmp  T0, gs:[limit] ; jae cold
 *     mov  T1, gs:[delta]
 *     op   [address + T1]
 *
 * No index of an entry is computed, and the host waits for no look-up: the compare is only a guess that comes true. The address itself stays in the instruction if
 * it has but one register. What misses goes to a stub that looks in level 1 (stubs.c).
 */
#include "bt/lower.h"

#include "base/tune.h"

/* By the register that most likely tells one run of pages from another. */
static unsigned window_of(const struct insn *in)
{
	const struct insn_mem *m = &in->mem;

	if (m->base < 16)
		return m->base;
	if (m->index < 16)
		return m->index;
	return m->base == INSN_BASE_RIP ? R10 : R11;
}

bool lower_has_windows(const struct tr *t, unsigned size)
{
	const struct chunk_windows *w = bt_windows_of(t->bt, t->b->mfn, (unsigned)(t->b->va & ~PAGE_MASK));
	const struct tune *tune = t->bt->memory->tune;

	return tlb_set_is_user(lower_set_of(t)) && size <= tlb_window_size[TLB_WINDOW_CLASSES - 1] && tune_on(tune, TUNE_WINDOWS) &&
	       (bt_wants_windows(w) || tune_on(tune, TUNE_ALL_WINDOWS)) && !(w->without >> window_of(&t->insn[t->i]) & 1);
}

static int32_t window_at(const struct tr *t, unsigned n) { return VOFF(mmu.window) + (int32_t)((lower_set_of(t) * TLB_WINDOWS + n) * sizeof(struct tlb_window)); }

/* The compare: reg, an address, is an offset afterwards. Returns the jump of a miss, to be patched. */
static uint8_t *compare(struct tr *t, uint8_t reg, unsigned size, bool write)
{
	const int32_t w = window_at(t, window_of(&t->insn[t->i]));
	unsigned c = 0;

	while (tlb_window_size[c] < size)
		c++;
	e_op_gs(&t->e, true, 0x2b, reg, w + (int32_t)offsetof(struct tlb_window, base));
	e_op_gs(&t->e, true, 0x3b, reg, w + (int32_t)offsetof(struct tlb_window, limit[c][write]));
	return e_jcc(&t->e, CC_AE);
}

static void e_delta(struct tr *t, uint8_t opcode, uint8_t reg)
{
	e_op_gs(&t->e, true, opcode, reg, window_at(t, window_of(&t->insn[t->i])) + (int32_t)offsetof(struct tlb_window, delta));
}

/* Cold: T0 is the address. */
static struct site *missed(struct tr *t, bool span, unsigned size, bool write)
{
	const uint32_t n = lower_site(t, (span ? SITE_SPAN_READ : SITE_WINDOW_READ) + write, size);
	const unsigned window = window_of(&t->insn[t->i]);

	t->bt->site[n].window = window & 31;
	if (span)
		tr_site(t, SITE_SPAN_READ);
	e_mov_imm(&t->cold, T1, n);
	e_jmp_to(&t->cold, t->bt->window_missed[span][lower_set_of(t)][write][window]);
	return &t->bt->site[n];
}

void lower_window(struct tr *t, unsigned size, bool write)
{
	uint8_t *miss;

	e_mov_rr(&t->e, T1, T0);
	miss = compare(t, T1, size, write);
	e_delta(t, 0x03, T0);
	e_patch(miss, t->cold.p);
	missed(t, false, size, write)->host = tr_offset(t, t->e.p);
}

struct site *lower_window_span(struct tr *t, unsigned size, bool write)
{
	uint8_t *miss;
	struct site *site;

	e_mov_rr(&t->e, T1, T0);
	miss = compare(t, T1, size, write);
	e_delta(t, 0x03, T0);
	e_patch(miss, t->cold.p);
	site = missed(t, true, size, write);
	site[0].host = tr_offset(t, t->e.p);
	site[1].host = tr_offset(t, t->cold.p);
	return site;
}

static bool resident(uint8_t reg) { return reg < 16 && reg != R10 && reg != R11; }

unsigned lower_window_form(const struct tr *t, const struct insn *in, uint8_t *code)
{
	const struct insn_mem *m = &in->mem;
	unsigned n;

	if (!lower_has_windows(t, m->size) || !tr_wide(t) || in->addrsize != 8 || m->seg == SEG_FS || m->seg == SEG_GS ||
	    (m->base != INSN_NO_REG && !resident(m->base)) || (m->index != INSN_NO_REG && !resident(m->index)) ||
	    (m->base == INSN_NO_REG) == (m->index == INSN_NO_REG))
		return 0; /* of two registers neither has room for the delta, and to add it to one is no better than to add it to the address */
	if (m->index == INSN_NO_REG)
		n = insn_emit_index(code, in, m->base, T1, 1, (int32_t)m->disp);
	else
		n = insn_emit_index(code, in, T1, m->index, m->scale, (int32_t)m->disp);
	return n <= 15 ? n : 0;
}

void lower_window_direct(struct tr *t, const struct insn *in)
{
	const struct insn_mem *m = &in->mem;
	uint8_t *miss;
	struct emit hot;

	lower_address(t, in, 0);
	tr_before_clobber(t);
	miss = compare(t, T0, m->size, m->write);
	e_delta(t, 0x8b, T1);
	e_patch(miss, t->cold.p);
	hot = t->e;
	t->e = t->cold;
	lower_address(t, in, 0);
	t->cold = t->e;
	t->e = hot;
	missed(t, false, m->size, m->write)->host = tr_offset(t, t->e.p);
}
