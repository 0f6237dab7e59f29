/*
 * deliver_legacy.c - delivery of exceptions and interrupts outside long mode: the vector table of real mode, and the 8-byte gates of
 * protected mode, out of virtual-8086 mode too.
 * Sources: AMD APM vol. 2, "Real-Mode Interrupt Control Transfers", "Legacy Protected-Mode Interrupt Control Transfers",
 * "Virtual-8086 Mode Interrupt Control Transfers".
 */
#include "cpu/exec_internal.h"

/* Vectors are far pointers; FLAGS, CS and IP are pushed, never an error code. */
static enum exec_op deliver_real(struct exec *x, uint8_t vector, uint64_t rip, uint64_t rflags)
{
	struct vcpu *v = x->v;
	unsigned at = vector * 4u;
	uint64_t pointer;
	struct stack s;
	enum vmem_status st;
	enum exec_op op;

	if (at + 3 > v->idtr.limit)
		return exec_gp(x, vector * 8u | ERR_IDT);
	st = vmem_read_int(v, v->idtr.base + at, &pointer, 4, VMEM_SYSTEM, &x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	stack_open(x, &s);
	op = stack_push(x, &s, rflags & 0xffff, 2);
	if (op == OP_DONE)
		op = stack_push(x, &s, v->seg[SEG_CS].selector, 2);
	if (op == OP_DONE)
		op = stack_push(x, &s, rip & 0xffff, 2);
	if (op == OP_DONE && (pointer & 0xffff) > v->seg[SEG_CS].limit)
		op = exec_gp(x, 0);
	if (op != OP_DONE)
		return op;
	stack_commit(x, &s);
	segment_load_paragraph(v, SEG_CS, (uint16_t)(pointer >> 16));
	v->rip = pointer & 0xffff;
	v->rflags &= ~(uint64_t)(FL_IF | FL_TF | FL_AC | FL_RF);
	v->inhibit = 0;
	return OP_EVENT;
}

struct pushed { uint64_t word[11]; unsigned words; };

static void put(struct pushed *f, uint64_t word) { f->word[f->words++] = word; }

/* What goes on the stack, in the order of the pushes. A new stack takes SS:ESP first, and all data segments out of virtual-8086 mode. */
static void make_frame(const struct vcpu *v, struct pushed *f, bool new_stack, bool has_error, uint32_t error, uint64_t rip, uint64_t rflags)
{
	static const uint8_t data[] = { SEG_GS, SEG_FS, SEG_DS, SEG_ES };

	f->words = 0;
	for (size_t i = 0; i < ARRAY_LEN(data) && vcpu_vm86(v); i++)
		put(f, v->seg[data[i]].selector);
	if (new_stack) {
		put(f, v->seg[SEG_SS].selector);
		put(f, v->gpr[RSP]);
	}
	put(f, rflags);
	put(f, v->seg[SEG_CS].selector);
	put(f, rip);
	if (has_error)
		put(f, error);
}

static void leave_vm86(struct vcpu *v)
{
	static const uint8_t data[] = { SEG_GS, SEG_FS, SEG_DS, SEG_ES };

	for (size_t i = 0; i < ARRAY_LEN(data); i++)
		v->seg[data[i]] = (struct segment){ 0 };
}

enum exec_op deliver_legacy(struct exec *x, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error, uint64_t rip, uint64_t rflags)
{
	struct vcpu *v = x->v;
	uint32_t ext = kind == EVENT_SOFT ? 0 : ERR_EXT;
	unsigned at = vector * 8u, type, new_cpl, size, err = vector * 8u | ERR_IDT | ext;
	uint64_t gate, raw, offset;
	struct inner_stack in;
	struct segment cs;
	struct pushed f;
	struct stack s;
	uint16_t selector;
	enum vmem_status st;
	enum exec_op op;

	if (vcpu_real(v))
		return deliver_real(x, vector, rip, rflags);
	if (at + 7 > v->idtr.limit)
		return exec_gp(x, err);
	st = vmem_read_int(v, v->idtr.base + at, &gate, 8, VMEM_SYSTEM, &x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	type = (gate >> 40) & 31;
	if (type != DESC_TASK_GATE && (type & ~9u) != DESC_INT_GATE16)
		return exec_gp(x, err);
	if (kind == EVENT_SOFT && ((gate >> 45) & 3) < v->cpl)
		return exec_gp(x, err);
	if (!((gate >> 47) & 1))
		return exec_fault(x, exc_error(VEC_NP, err));
	if (type == DESC_TASK_GATE)
		return task_gate(x, TASK_INT, gate, ext, rip, has_error, error);
	size = type & 8 ? 4 : 2;
	offset = (gate & 0xffff) | (size == 4 ? (gate >> 32) & 0xffff0000 : 0);
	selector = (uint16_t)(gate >> 16);
	if (!(selector & ~3u))
		return exec_gp(x, ext);
	op = segment_read_descriptor(x, selector, VEC_GP, ext, &raw, NULL);
	if (op != OP_DONE)
		return op;
	segment_unpack(raw, &cs);
	err = (selector & ~3u) | ext;
	if (!segment_is_code(&cs) || SEG_DPL(cs.attr) > v->cpl)
		return exec_gp(x, err);
	if (!(cs.attr & SEG_P))
		return exec_fault(x, exc_error(VEC_NP, err));
	new_cpl = segment_is_conforming(&cs) ? v->cpl : SEG_DPL(cs.attr);
	if (vcpu_vm86(v) && new_cpl)
		return exec_gp(x, err);
	op = segment_set_accessed(x, selector, raw);
	if (op == OP_DONE && new_cpl < v->cpl)
		op = inner_stack_open(x, new_cpl, ext, &in);
	if (op == OP_DONE && offset > cs.limit)
		op = exec_gp(x, ext);
	make_frame(v, &f, new_cpl < v->cpl, has_error, error, rip, rflags);
	stack_open(x, &s);
	for (unsigned i = 0; i < f.words && op == OP_DONE; i++) {
		uint64_t word = f.word[i] & size_mask(size);

		op = new_cpl < v->cpl ? inner_stack_push(x, &in, word, size) : stack_push(x, &s, word, size);
	}
	if (op != OP_DONE)
		return op;
	if (vcpu_vm86(v))
		leave_vm86(v);
	if (new_cpl < v->cpl)
		inner_stack_commit(x, &in);
	else
		stack_commit(x, &s);
	far_set_cs(x, &cs, selector, new_cpl);
	v->rip = offset;
	v->rflags &= ~(uint64_t)(FL_TF | FL_NT | FL_RF | FL_VM | (type & 1 ? 0 : FL_IF));
	v->inhibit = 0;
	return OP_EVENT;
}
