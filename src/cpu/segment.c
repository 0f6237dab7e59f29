/*
 * segment.c - descriptors and segment registers. AMD APM vol. 2, "Segmented Virtual Memory", "Segment Descriptors";
 * Intel SDM vol. 3, "Protection".
 */
#include "cpu/exec_internal.h"

#define DESC_ACCESSED (1ull << 40)
#define DESC_S (1ull << 44)

void segment_unpack(uint64_t raw, struct segment *s)
{
	uint32_t limit = (uint32_t)(raw & 0xffff) | ((uint32_t)(raw >> 32) & 0xf0000);

	s->attr = (uint16_t)(((raw >> 40) & 0xff) | ((raw >> 44) & 0xf00));
	s->base = ((raw >> 16) & 0xffffff) | ((raw >> 32) & 0xff000000);
	s->limit = s->attr & SEG_GRAN ? limit << 12 | 0xfff : limit;
}

enum exec_op segment_read_descriptor(struct exec *x, uint16_t selector, uint8_t vector, uint32_t ext, uint64_t *low, uint64_t *high)
{
	struct vcpu *v = x->v;
	uint64_t base = v->gdtr.base, limit = v->gdtr.limit;
	unsigned offset = selector & ~7u, len = high ? 16 : 8;
	enum vmem_status st;

	if (selector & 4) {
		base = v->ldtr.base;
		limit = v->ldtr.limit;
		if (!(v->ldtr.attr & SEG_P))
			return exec_fault(x, exc_error(vector, (selector & ~3u) | ext));
	}
	if (offset + len - 1 > limit)
		return exec_fault(x, exc_error(vector, (selector & ~3u) | ext));
	st = vmem_read_int(v, base + offset, low, 8, VMEM_SYSTEM, &x->exc);
	if (st == VMEM_OK && high)
		st = vmem_read_int(v, base + offset + 8, high, 8, VMEM_SYSTEM, &x->exc);
	return exec_of(st);
}

enum exec_op segment_set_accessed(struct exec *x, uint16_t selector, uint64_t low)
{
	struct vcpu *v = x->v;
	uint64_t base = selector & 4 ? v->ldtr.base : v->gdtr.base;

	if (LIKELY(low & DESC_ACCESSED))
		return OP_DONE;
	return exec_of(vmem_write_int(v, base + (selector & ~7u) + 5, (low | DESC_ACCESSED) >> 40, 1, VMEM_SYSTEM, &x->exc));
}

/* A null selector makes the register unusable and clears its base (CPUID 80000021 EAX[6], "NullSelectClearsBase"). */
static void load_null(struct vcpu *v, unsigned seg, uint16_t selector)
{
	struct segment *s = &v->seg[seg];

	s->selector = selector;
	s->base = 0;
	s->attr = seg == SEG_SS ? (uint16_t)(v->cpl << 5) : 0;
	s->limit = 0;
}

void segment_load_paragraph(struct vcpu *v, unsigned seg, uint16_t selector)
{
	struct segment *s = &v->seg[seg];

	s->selector = selector;
	s->base = (uint32_t)selector << 4;
	if (vcpu_vm86(v)) {
		s->limit = 0xffff;
		s->attr = 3 | SEG_S | 3 << 5 | SEG_P;
	} else {
		s->attr = (uint16_t)((s->attr & (SEG_DB | SEG_GRAN | SEG_AVL)) | SEG_P | SEG_S | (seg == SEG_CS ? 0xb : 3));
	}
}

enum exec_op segment_load(struct exec *x, unsigned seg, uint16_t selector)
{
	if (LIKELY(!vcpu_paragraphs(x->v)))
		return segment_load_descriptor(x, seg, selector, VEC_GP, 0);
	segment_load_paragraph(x->v, seg, selector);
	return OP_DONE;
}

enum exec_op segment_load_descriptor(struct exec *x, unsigned seg, uint16_t selector, uint8_t vector, uint32_t ext)
{
	struct vcpu *v = x->v;
	struct segment s;
	uint64_t raw;
	unsigned rpl = selector & 3, dpl, err = (selector & ~3u) | ext;
	enum exec_op op;

	if (!(selector & ~3u)) {
		if (seg == SEG_SS && (!vcpu_long64(v) || v->cpl == 3 || rpl != v->cpl))
			return exec_fault(x, exc_error(vector, ext));
		load_null(v, seg, selector);
		return OP_DONE;
	}
	op = segment_read_descriptor(x, selector, vector, ext, &raw, NULL);
	if (op != OP_DONE)
		return op;
	segment_unpack(raw, &s);
	dpl = SEG_DPL(s.attr);
	if (!(s.attr & SEG_S))
		return exec_fault(x, exc_error(vector, err));
	if (seg == SEG_SS) {
		/* writable data of exactly this privilege */
		if (rpl != v->cpl || dpl != v->cpl || (s.attr & 8) || !(s.attr & 2))
			return exec_fault(x, exc_error(vector, err));
		if (!(s.attr & SEG_P))
			return exec_fault(x, exc_error(VEC_SS, err));
	} else {
		/* data or readable code; conforming code is open to all */
		if ((s.attr & 8) && !(s.attr & 2))
			return exec_fault(x, exc_error(vector, err));
		if ((s.attr & 0xc) != 0xc && (rpl > dpl || v->cpl > dpl))
			return exec_fault(x, exc_error(vector, err));
		if (!(s.attr & SEG_P))
			return exec_fault(x, exc_error(VEC_NP, err));
	}
	op = segment_set_accessed(x, selector, raw);
	if (op != OP_DONE)
		return op;
	s.selector = selector;
	s.attr |= 1;
	v->seg[seg] = s;
	return OP_DONE;
}

void segment_set_flat_code(struct vcpu *v, uint16_t selector, unsigned dpl, bool long64)
{
	struct segment *s = &v->seg[SEG_CS];

	s->base = 0;
	s->limit = 0xffffffff;
	s->selector = selector;
	s->attr = (uint16_t)(0xb | SEG_S | dpl << 5 | SEG_P | SEG_GRAN | (long64 ? SEG_L : SEG_DB));
}

void segment_set_flat_stack(struct vcpu *v, uint16_t selector, unsigned dpl)
{
	struct segment *s = &v->seg[SEG_SS];

	s->base = 0;
	s->limit = 0xffffffff;
	s->selector = selector;
	s->attr = (uint16_t)(0x3 | SEG_S | dpl << 5 | SEG_P | SEG_GRAN | SEG_DB);
}
