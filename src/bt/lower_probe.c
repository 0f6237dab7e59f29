/*
 * lower_probe.c - the look-ups that turn an address into one of the host's: in level 1 of the TLB, and in the stack entry.
 *
 * The probe is the one of mmu/tlb.h:
 *
 *     rorx T1d, T0d, 7 ; and T1d, gs:[l1_mask]   index of the page's entry, in bytes
 *     sub  T0, gs:[l1 + T1 + tag]                offset in the page if the tag fits
 *     cmp  T0, 4096 - size ; ja cold             tag and page crossing in one compare
 *     add  T0, gs:[l1 + T1 + host]
 *
 * The cold part names its site and goes to a stub, which puts the address back together and calls C, and returns to the rorx when the entry has been filled. A block's cold
 * parts share most of that: each but the first adds a number to T1, where an entry's offset leaves bits, and joins the first. The stack entry needs no index; what misses it goes to a stub that looks in level 1 and
 * makes the page the stack entry.
 */
#include "bt/lower.h"

#include "base/tune.h"

unsigned lower_set_of(const struct tr *t) { return (t->mode & MODE_SET) + (t->mode & MODE_GUEST ? TLB_WORLD : 0); }
static int32_t tag_of(unsigned set, bool write)
{
	return bt_l1_of(set) + (int32_t)(write ? offsetof(struct tlb_entry, tag_write) : offsetof(struct tlb_entry, tag_read));
}
static int32_t stack_of(const struct tr *t) { return bt_stack_of(lower_set_of(t)); }
/* op T0, a member of the stack entry; T1 is 0, which makes the instruction half as long. */
static void stack_op(struct tr *t, uint8_t opcode, size_t member) { e_op_gs_base(&t->e, true, opcode, T0, T1, NO_BASE, 1, stack_of(t) + (int32_t)member); }

uint32_t lower_site(struct tr *t, enum site_kind kind, unsigned size)
{
	const uint32_t n = tr_site(t, kind);

	t->bt->site[n].flags_saved = t->in_slot;
	ASSERT(size < 1u << 10);
	t->bt->site[n].size = (bt_site_has_into(kind) ? size << 3 : size) & 1023;
	return n;
}

uint8_t *lower_lookup_in(unsigned set, unsigned size, bool write, struct emit *e)
{
	uint8_t *miss;

	e_rorx32(e, T1, T0, PAGE_SHIFT - TLB_ENTRY_SHIFT);
	e_op_gs(e, false, 0x23, T1, VOFF(mmu.l1_mask) + (int32_t)(set * sizeof(uint32_t)));
	e_op_gs_base(e, true, 0x2b, T0, T1, NO_BASE, 1, tag_of(set, write));
	e_alu_imm(e, true, 7, T0, 4096 - (int32_t)size);
	miss = e_jcc(e, CC_A);
	e_op_gs_base(e, true, 0x03, T0, T1, NO_BASE, 1, bt_l1_of(set) + (int32_t)offsetof(struct tlb_entry, host));
	return miss;
}

uint8_t *lower_lookup(struct tr *t, unsigned size, bool write, struct emit *e) { return lower_lookup_in(lower_set_of(t), size, write, e); }
void lower_lookup_undo(struct tr *t, bool write, struct emit *e) { e_op_gs_base(e, true, 0x03, T0, T1, NO_BASE, 1, tag_of(lower_set_of(t), write)); }

struct probe lower_probe_begin(struct tr *t, unsigned size, bool write, struct emit *e)
{
	struct probe p = { .site = lower_site(t, write ? SITE_WRITE : SITE_READ, size), .write = write };

	t->bt->site[p.site].host = tr_offset(t, e->p);
	p.miss = lower_lookup(t, size, write, e);
	return p;
}

void lower_probe_missed(struct tr *t, const struct probe *p, struct emit *cold)
{
	const unsigned set = lower_set_of(t), n = p->site - t->missed[p->write].first;
	const uint8_t *at = t->missed[p->write].at;

	e_patch(p->miss, cold->p);
	if (!tune_on(t->bt->memory->tune, TUNE_COMPACT_MISSES) || t->bt->site[p->site].size > TLB_SECOND_TURNS) {
		lower_lookup_undo(t, p->write, cold);
		e_mov_imm(cold, T1, p->site);
		e_jmp_to(cold, t->bt->slow[p->write]);
	} else if (at && t->missed[p->write].set == set && n < 1u << TLB_ENTRY_SHIFT && cold->p - at < 120) {
		e_u8(cold, 0x41), e_u8(cold, 0x80), e_u8(cold, 0xcb), e_u8(cold, (uint8_t)n); /* or T1b, n */
		e_jmp8_to(cold, at);
	} else {
		t->missed[p->write].at = cold->p;
		t->missed[p->write].first = p->site;
		t->missed[p->write].set = set;
		e_store_gs_imm32(cold, SLOT(S_SITE), p->site);
		e_jmp_to(cold, t->bt->missed[set][p->write]);
	}
}

void lower_probe(struct tr *t, unsigned size, bool write)
{
	struct probe p;

	tr_before_clobber(t);
	if (lower_has_windows(t, size)) {
		lower_window(t, size, write);
		return;
	}
	p = lower_probe_begin(t, size, write, &t->e);
	lower_probe_missed(t, &p, &t->cold);
}

void lower_stack_lookup(struct tr *t, int32_t bytes, uint8_t *miss[2])
{
	struct emit *e = &t->e;

	e_op_rr(e, false, 0x33, T1, T1);
	stack_op(t, 0x2b, offsetof(struct tlb_stack, tag));
	stack_op(t, 0x3b, offsetof(struct tlb_stack, limit[3]));
	miss[0] = e_jcc(e, CC_AE);
	e_alu_imm(e, true, 7, T0, 4096 - bytes);
	miss[1] = e_jcc(e, CC_A);
	stack_op(t, 0x03, offsetof(struct tlb_stack, host));
}

void lower_stack_lookup_undo(struct tr *t, struct emit *e)
{
	e_op_gs(e, true, 0x03, T0, stack_of(t) + (int32_t)offsetof(struct tlb_stack, tag));
}

bool lower_stack_has_stub(unsigned size) { return !(size & (size - 1)) && size < 1u << TLB_STACK_SIZES; }

struct site *lower_stack_missed(struct tr *t, unsigned size, bool write, bool undo, struct emit *cold)
{
	const uint32_t site = lower_site(t, write ? SITE_STACK_WRITE : SITE_STACK_READ, size);

	e_mov_imm(cold, T1, site);
	e_jmp_to(cold, t->bt->stack_missed[lower_set_of(t)][write][__builtin_ctz(size)][undo]);
	return &t->bt->site[site];
}

struct site *lower_look_up_alone(struct tr *t, unsigned size, bool write, struct emit *cold)
{
	const uint32_t site = lower_site(t, write ? SITE_ALONE_WRITE : SITE_ALONE_READ, size);

	e_mov_imm(cold, T1, site);
	e_jmp_to(cold, t->bt->alone_missed[lower_set_of(t)][write][__builtin_ctz(size)]);
	return &t->bt->site[site];
}

void lower_probe_stack(struct tr *t, unsigned size, bool write)
{
	struct emit *e = &t->e, *c = &t->cold;
	uint8_t *miss;

	if (!lower_stack_has_stub(size)) {
		lower_probe(t, size, write);
		return;
	}
	tr_before_clobber(t);
	e_op_rr(e, false, 0x33, T1, T1);
	stack_op(t, 0x2b, offsetof(struct tlb_stack, tag));
	stack_op(t, 0x3b, offsetof(struct tlb_stack, limit[__builtin_ctz(size)]));
	miss = e_jcc(e, CC_AE);
	stack_op(t, 0x03, offsetof(struct tlb_stack, host));
	e_patch(miss, c->p);
	lower_stack_missed(t, size, write, true, c)->host = tr_offset(t, e->p);
}
