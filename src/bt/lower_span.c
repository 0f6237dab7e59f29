/*
 * lower_span.c - one TLB look-up for several accesses of a block off the same registers: fields of a structure, a load and the
 * store that follows it, pieces of a vector.
 *
 * The first access looks up the whole range that the span's accesses touch, and keeps the host address of its begin in mmu.span; each later
 * one takes it from there:
 *
 *     mov  T0, gs:[span] ; test T0, T0 ; jz cold
 *     op   [T0 + distance]
 *
 * The slot is zero, and every access looks up for itself (cold), if the range crosses a page, if its page cannot be written though
 * only some of the accesses write, or if anything was dropped from the TLB since the first: whatever C code did in
 * between, a later access never uses what no longer holds (T7).
 */
#include "bt/lower.h"

#include "base/tune.h"

/* The longest span: the longer, the more often it crosses a page. */
#define SPAN_MAX 256
_Static_assert(SPAN_MAX <= 1u << 8, "bt_site_set_into");

static bool spannable(const struct tr *t, const struct insn *in)
{
	const struct insn_mem *m = &in->mem;

	return in->cls == INSN_PLAIN && m->present && m->size && in->addrsize == tr_word(t) && m->base != INSN_NO_REG &&
	       m->seg != SEG_FS && m->seg != SEG_GS && m->disp > -0x40000000 && m->disp < 0x40000000;
}

static bool same_registers(const struct insn_mem *a, const struct insn_mem *b)
{
	return a->base == b->base && a->index == b->index && (a->index == INSN_NO_REG || a->scale == b->scale);
}

/* May a span go on over this instruction? Those that leave to C for good end the block anyway. */
static bool passes(const struct insn *in)
{
	return in->cls == INSN_PLAIN || in->cls == INSN_NOP || in->cls == INSN_JCC || in->cls == INSN_PUSH || in->cls == INSN_POP;
}

static bool changes(const struct insn *in, const struct insn_mem *m)
{
	uint32_t written = in->gpr_write;

	if (in->cls == INSN_PUSH || in->cls == INSN_POP)
		written |= 1u << RSP;
	return (written >> m->base & 1) || (m->index != INSN_NO_REG && (written >> m->index & 1));
}

/* Where its operand begins, by displacement; relative to RIP, from the block's begin on. */
static int32_t place_of(const struct tr *t, unsigned i)
{
	const struct insn_mem *m = &t->insn[i].mem;

	return (int32_t)m->disp + (m->base == INSN_BASE_RIP ? t->off[i + 1] : 0);
}

/* Takes instruction i into the span if that keeps it short enough. */
static bool span_add(struct tr *t, struct span *s, unsigned n, unsigned i)
{
	const struct insn_mem *m = &t->insn[i].mem;
	const int32_t place = place_of(t, i), low = place < s->low ? place : s->low;
	const int32_t end = place + (int32_t)m->size, high = end > s->high ? end : s->high;

	if (high - low > SPAN_MAX)
		return false;
	s->low = low;
	s->high = high;
	s->write |= m->write;
	s->last = (uint8_t)i;
	t->span_of[i] = (uint8_t)n;
	return true;
}

/* A slot that no other span uses from `first` to `last`, or TLB_SPANS. */
static unsigned free_slot(const struct tr *t, unsigned first, unsigned last)
{
	unsigned used = 0, n = 0;

	for (unsigned i = 0; i < t->spans; i++)
		if (t->span[i].first <= last && t->span[i].last >= first)
			used |= 1u << t->span[i].slot;
	while (n < TLB_SPANS && (used >> n & 1))
		n++;
	return n;
}

static void find_from(struct tr *t, unsigned first)
{
	const struct insn_mem *m = &t->insn[first].mem;
	struct span s = { .low = place_of(t, first), .high = place_of(t, first), .first = (uint8_t)first };

	for (unsigned i = first; i < t->n; i++) {
		const struct insn *in = &t->insn[i];

		if (!passes(in))
			break;
		if (t->span_of[i] == NO_SPAN && spannable(t, in) && same_registers(m, &in->mem))
			span_add(t, &s, t->spans, i);
		if (changes(in, m))
			break;
	}
	s.slot = (uint8_t)(s.last > first ? free_slot(t, first, s.last) : TLB_SPANS);
	if (s.slot < TLB_SPANS) {
		t->span[t->spans++] = s;
		return;
	}
	for (unsigned i = first; i <= s.last; i++) /* alone, or no slot */
		if (t->span_of[i] == t->spans)
			t->span_of[i] = NO_SPAN;
}

void lower_find_spans(struct tr *t)
{
	fill_bytes(t->span_of, NO_SPAN, t->n);
	if (!tune_on(t->bt->memory->tune, TUNE_SPANS))
		return;
	for (unsigned i = 0; i + 1 < t->n && t->spans < MAX_SPANS; i++)
		if (t->span_of[i] == NO_SPAN && spannable(t, &t->insn[i]))
			find_from(t, i);
}

int32_t lower_span_offset(const struct tr *t)
{
	const uint8_t n = t->span_of[t->i];

	return n == NO_SPAN ? 0 : place_of(t, t->i) - t->span[n].low;
}

/* Through the stack entry: what is off RSP shall not compete for level 1 with what else the code uses. */
static bool on_stack(const struct insn *in) { return in->mem.base == RSP && in->mem.index == INSN_NO_REG; }

/* Cold: T0 is the operand's own address. Looks it up alone, and goes on at `after` with T0 where the span would begin. */
static void look_up_alone(struct tr *t, const uint8_t *after)
{
	const struct insn *in = &t->insn[t->i];
	const int32_t offset = lower_span_offset(t);
	struct emit *c = &t->cold;
	struct probe p;

	if (lower_stack_has_stub(in->mem.size)) {
		struct site *site = on_stack(in) ? lower_stack_missed(t, in->mem.size, in->mem.write, false, c) :
						   lower_look_up_alone(t, in->mem.size, in->mem.write, c);

		site->host = tr_offset(t, after);
		bt_site_set_into(site, (unsigned)offset);
		return;
	}
	p = lower_probe_begin(t, in->mem.size, in->mem.write, c);
	if (offset)
		e_lea(c, true, T0, T0, NO_BASE, 1, -offset);
	e_jmp_to(c, after);
	lower_probe_missed(t, &p, c);
}

/* Cold: T0 is the span's begin, which was not found. */
static void without(struct tr *t, int32_t slot, int32_t offset)
{
	e_store_gs_imm(&t->cold, slot, 0);
	if (offset)
		e_lea(&t->cold, tr_wide(t), T0, T0, NO_BASE, 1, offset);
	look_up_alone(t, t->e.p);
}

static void first_access(struct tr *t, const struct span *s)
{
	const struct insn *in = &t->insn[t->i];
	const unsigned size = (unsigned)(s->high - s->low);
	const int32_t slot = VOFF(mmu.span) + 8 * s->slot, offset = lower_span_offset(t);
	struct emit *e = &t->e, *c = &t->cold;
	uint8_t *miss[2];

	lower_address(t, in, -offset);
	tr_before_clobber(t);
	if (!on_stack(in) && lower_has_windows(t, size)) {
		lower_window_span(t, size, s->write);
		e_store_gs(e, slot, T0);
		without(t, slot, offset);
		return;
	}
	if (on_stack(in)) {
		lower_stack_lookup(t, (int32_t)size, miss);
		e_patch(miss[1], c->p);
	} else {
		miss[0] = lower_lookup(t, size, s->write, e);
	}
	e_patch(miss[0], c->p);
	e_store_gs(e, slot, T0);
	if (on_stack(in))
		lower_stack_lookup_undo(t, c);
	else
		lower_lookup_undo(t, s->write, c);
	without(t, slot, offset);
}

static void later_access(struct tr *t, const struct span *s)
{
	struct emit *e = &t->e, hot;
	uint8_t *none;

	tr_before_clobber(t);
	e_load_gs(e, T0, VOFF(mmu.span) + 8 * s->slot);
	e_op_rr(e, true, 0x85, T0, T0); /* test */
	none = e_jcc(e, CC_E);
	e_patch(none, t->cold.p);
	hot = t->e; /* the address is computed in the cold area */
	t->e = t->cold;
	lower_address(t, &t->insn[t->i], 0);
	t->cold = t->e;
	t->e = hot;
	look_up_alone(t, t->e.p);
}

bool lower_span(struct tr *t)
{
	const uint8_t n = t->span_of[t->i];

	if (n == NO_SPAN)
		return false;
	if (t->span[n].first == t->i)
		first_access(t, &t->span[n]);
	else
		later_access(t, &t->span[n]);
	return true;
}
