/*
 * task.c - hardware task switches, through TSS descriptors and task gates; 16- and 32-bit TSSs. Protected mode outside long mode only.
 *
 * Everything that can fault in the old task's context is looked at first: the descriptor, both TSSs. Then registers go to the old TSS and
 * come from the new one; from there on faults (a bad LDT, a bad segment) are the new task's.
 * Sources: AMD APM vol. 2, "Hardware Task-Management in Legacy Mode"; Intel SDM vol. 3, "Task Management", "Task Switching".
 */
#include "cpu/exec_internal.h"

#define TSS_MAX 104

/* Where things are in a TSS, by width of its registers. */
struct tss_layout { uint8_t size, limit, cr3, ip, flags, gpr, seg, segs, seg_step, ldt, trap; };
static const struct tss_layout layouts[] = {
	{ .size = 2, .limit = 43, .ip = 14, .flags = 16, .gpr = 18, .seg = 34, .segs = 4, .seg_step = 2, .ldt = 42 },
	{ .size = 4, .limit = 103, .cr3 = 28, .ip = 32, .flags = 36, .gpr = 40, .seg = 72, .segs = 6, .seg_step = 4, .ldt = 96, .trap = 100 },
};
static const struct tss_layout *layout_of(unsigned attr) { return &layouts[attr & 8 ? 1 : 0]; }

static uint32_t get(const uint8_t *tss, unsigned at, unsigned size) { return size == 2 ? load_u16(tss + at) : load_u32(tss + at); }
static void put(uint8_t *tss, unsigned at, unsigned size, uint64_t value)
{
	if (size == 2)
		store_u16(tss + at, (uint16_t)value);
	else
		store_u32(tss + at, (uint32_t)value);
}

/* The busy bit of a TSS descriptor in the GDT. */
static enum exec_op set_busy(struct exec *x, uint16_t selector, bool busy)
{
	struct vcpu *v = x->v;
	uint64_t at = v->gdtr.base + (selector & ~7u) + 5, byte;
	enum vmem_status st = vmem_read_int(v, at, &byte, 1, VMEM_SYSTEM, &x->exc);

	if (st == VMEM_OK)
		st = vmem_write_int(v, at, busy ? byte | 2 : byte & ~2ull, 1, VMEM_SYSTEM, &x->exc);
	return exec_of(st);
}

static enum exec_op read_tss_descriptor(struct exec *x, enum task_reason why, uint16_t selector, uint32_t ext, struct segment *tss)
{
	uint8_t vector = why == TASK_IRET ? VEC_TS : VEC_GP;
	unsigned err = (selector & ~3u) | ext, type;
	uint64_t raw;
	enum exec_op op;

	if (!(selector & ~3u) || selector & 4)
		return exec_fault(x, exc_error(vector, err));
	op = segment_read_descriptor(x, selector, vector, ext, &raw, NULL);
	if (op != OP_DONE)
		return op;
	segment_unpack(raw, tss);
	tss->selector = selector;
	type = tss->attr & (SEG_S | SEG_TYPE);
	if ((type & ~8u) != (why == TASK_IRET ? DESC_TSS16_BUSY : DESC_TSS16_AVAILABLE))
		return exec_fault(x, exc_error(vector, err));
	if (!(tss->attr & SEG_P))
		return exec_fault(x, exc_error(VEC_NP, err));
	if (tss->limit < layout_of(tss->attr)->limit)
		return exec_fault(x, exc_error(VEC_TS, err));
	return OP_DONE;
}

static enum exec_op save_old(struct exec *x, enum task_reason why, uint64_t rip)
{
	static const uint8_t segs[] = { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };
	struct vcpu *v = x->v;
	const struct tss_layout *l = layout_of(v->tr.attr);
	uint64_t flags = why == TASK_IRET ? v->rflags & ~(uint64_t)FL_NT : v->rflags;
	uint8_t tss[TSS_MAX];
	unsigned from = l->ip, to = l->ldt;
	enum vmem_status st;

	if (!(v->tr.attr & SEG_P) || v->tr.limit < l->limit)
		return exec_fault(x, exc_error(VEC_TS, v->tr.selector & ~3u));
	/* The upper halves of selectors stay as they are. */
	st = vmem_read(v, v->tr.base, tss, l->limit + 1u, VMEM_SYSTEM, &x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	put(tss, l->ip, l->size, rip);
	put(tss, l->flags, l->size, flags);
	for (unsigned r = 0; r < 8; r++)
		put(tss, l->gpr + r * l->size, l->size, v->gpr[r]);
	for (unsigned i = 0; i < l->segs; i++)
		put(tss, l->seg + i * l->seg_step, 2, v->seg[segs[i]].selector);
	return exec_of(vmem_write(v, v->tr.base + from, tss + from, to - from, VMEM_SYSTEM, &x->exc));
}

static enum exec_op load_ldt(struct exec *x, uint16_t selector, uint32_t ext)
{
	unsigned err = (selector & ~3u) | ext;
	struct segment s;
	uint64_t raw;
	enum exec_op op;

	if (!(selector & ~3u))
		return OP_DONE;
	if (selector & 4)
		return exec_fault(x, exc_error(VEC_TS, err));
	op = segment_read_descriptor(x, selector, VEC_TS, ext, &raw, NULL);
	if (op != OP_DONE)
		return op;
	segment_unpack(raw, &s);
	if ((s.attr & (SEG_S | SEG_TYPE)) != DESC_LDT || !(s.attr & SEG_P))
		return exec_fault(x, exc_error(VEC_TS, err));
	s.selector = selector;
	x->v->ldtr = s;
	return OP_DONE;
}

static enum exec_op load_code(struct exec *x, uint16_t selector, uint32_t ext)
{
	unsigned err = (selector & ~3u) | ext, rpl = selector & 3u;
	struct segment cs;
	uint64_t raw;
	enum exec_op op;

	if (!(selector & ~3u))
		return exec_fault(x, exc_error(VEC_TS, ext));
	op = segment_read_descriptor(x, selector, VEC_TS, ext, &raw, NULL);
	if (op != OP_DONE)
		return op;
	segment_unpack(raw, &cs);
	if (!segment_is_code(&cs) || (segment_is_conforming(&cs) ? SEG_DPL(cs.attr) > rpl : SEG_DPL(cs.attr) != rpl))
		return exec_fault(x, exc_error(VEC_TS, err));
	if (!(cs.attr & SEG_P))
		return exec_fault(x, exc_error(VEC_NP, err));
	op = segment_set_accessed(x, selector, raw);
	if (op == OP_DONE)
		far_set_cs(x, &cs, selector, rpl);
	return op;
}

/* Registers of the new task; everything is loaded before the first check. */
static enum exec_op load_new(struct exec *x, const struct segment *tr, const uint8_t *tss, uint32_t ext, bool nested)
{
	static const uint8_t segs[] = { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };
	static const uint8_t order[] = { SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	struct vcpu *v = x->v;
	const struct tss_layout *l = layout_of(tr->attr);
	uint16_t selector[SEG_COUNT] = { 0 };
	enum exec_op op;

	v->tr = *tr;
	v->tr.attr |= 2; /* busy */
	control_task_switched(v, (v->cr0 & CR0_PG) && l->cr3, l->cr3 ? load_u32(tss + l->cr3) : 0);
	v->rip = get(tss, l->ip, l->size);
	v->rflags = (get(tss, l->flags, l->size) & FL_LEGAL) | FL_R1 | (nested ? FL_NT : 0);
	for (unsigned r = 0; r < 8; r++)
		gpr_set(v, r, get(tss, l->gpr + r * l->size, l->size), l->size);
	for (unsigned i = 0; i < l->segs; i++)
		selector[segs[i]] = load_u16(tss + l->seg + i * l->seg_step);
	for (unsigned i = 0; i < SEG_COUNT; i++)
		v->seg[i] = (struct segment){ .selector = selector[i] };
	v->ldtr = (struct segment){ .selector = load_u16(tss + l->ldt) };
	v->cpl = vcpu_vm86(v) ? 3 : selector[SEG_CS] & 3;
	v->dr[7] &= ~0x155ull; /* local breakpoints are the old task's */
	v->inhibit = 0;
	if (v->irq_waiting)
		exec_irq_recheck(v);

	op = load_ldt(x, v->ldtr.selector, ext);
	if (op != OP_DONE)
		return op;
	if (vcpu_vm86(v)) {
		for (unsigned i = 0; i < SEG_COUNT; i++)
			segment_load_paragraph(v, i, selector[i]);
		return OP_DONE;
	}
	op = load_code(x, selector[SEG_CS], ext);
	for (size_t i = 0; i < ARRAY_LEN(order) && op == OP_DONE; i++)
		op = segment_load_descriptor(x, order[i], selector[order[i]], VEC_TS, ext);
	return op;
}

enum exec_op task_switch(struct exec *x, enum task_reason why, uint16_t selector, uint32_t ext, uint64_t rip, bool has_error, uint32_t error)
{
	struct vcpu *v = x->v;
	uint16_t old = v->tr.selector;
	bool nested = why == TASK_CALL || why == TASK_INT, trap;
	const struct tss_layout *l;
	uint8_t tss[TSS_MAX];
	struct segment tr;
	struct stack s;
	enum exec_op op = read_tss_descriptor(x, why, selector, ext, &tr);

	if (op == OP_DONE && UNLIKELY(v->svm.guest))
		op = v->svm.ops->task_switch(x, why, selector, has_error, error);
	if (op != OP_DONE)
		return op;
	l = layout_of(tr.attr);
	op = exec_of(vmem_read(v, tr.base, tss, l->limit + 1u, VMEM_SYSTEM, &x->exc));
	if (op == OP_DONE && nested)
		op = exec_of(vmem_write_int(v, tr.base, old, 2, VMEM_SYSTEM, &x->exc));
	if (op == OP_DONE)
		op = save_old(x, why, rip);
	if (op == OP_DONE && !nested)
		op = set_busy(x, old, false);
	if (op == OP_DONE && why != TASK_IRET)
		op = set_busy(x, selector, true);
	if (op != OP_DONE)
		return op;
	trap = l->trap && tss[l->trap] & 1;
	op = load_new(x, &tr, tss, ext, nested);
	if (op == OP_DONE && has_error) {
		stack_open(x, &s);
		op = stack_push(x, &s, error, l->size);
		if (op == OP_DONE)
			stack_commit(x, &s);
	}
	if (op == OP_DONE && v->rip > v->seg[SEG_CS].limit)
		op = exec_gp(x, ext);
	if (op != OP_DONE)
		return op;
	if (trap) {
		x->exc = exc_plain(VEC_DB);
		x->exc.dr6 = 1u << 15; /* BT */
		return OP_FAULT;
	}
	return OP_EVENT;
}

enum exec_op task_gate(struct exec *x, enum task_reason why, uint64_t gate, uint32_t ext, uint64_t rip, bool has_error, uint32_t error)
{
	return task_switch(x, why, (uint16_t)(gate >> 16), ext, rip, has_error, error);
}
