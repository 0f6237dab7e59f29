/*
 * deliver.c - delivery of exceptions and interrupts: through the 64-bit IDT here, outside long mode in deliver_legacy.c; the
 * double-fault rules; when interrupts are taken.
 * Sources: AMD APM vol. 2, "Long-Mode Interrupt Control Transfers", "Double-Fault Exception"; Intel SDM vol. 3,
 * "Exception and Interrupt Handling in 64-bit Mode".
 */
#include "cpu/debug.h"
#include "cpu/exec_internal.h"
#include "cpu/trace.h"

/* The 64-bit TSS ("64-Bit TSS"). */
enum { TSS_RSP0 = 4, TSS_IST1 = 36, TSS_IOMAP = 102 };

struct gate { uint64_t offset; uint16_t selector; unsigned ist, type, dpl; bool present; };

static enum exec_op read_gate(struct exec *x, uint8_t vector, uint32_t ext, struct gate *g)
{
	struct vcpu *v = x->v;
	unsigned at = vector * 16u;
	uint64_t low, high;
	enum vmem_status st;

	if (at + 15 > v->idtr.limit)
		return exec_gp(x, vector * 8u | ERR_IDT | ext);
	st = vmem_read_int(v, v->idtr.base + at, &low, 8, VMEM_SYSTEM, &x->exc);
	if (st == VMEM_OK)
		st = vmem_read_int(v, v->idtr.base + at + 8, &high, 8, VMEM_SYSTEM, &x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	g->offset = (low & 0xffff) | ((low >> 32) & 0xffff0000) | high << 32;
	g->selector = (uint16_t)(low >> 16);
	g->ist = (low >> 32) & 7;
	g->type = (low >> 40) & 31;
	g->dpl = (low >> 45) & 3;
	g->present = (low >> 47) & 1;
	return OP_DONE;
}

static enum exec_op read_tss_stack(struct exec *x, unsigned offset, uint32_t ext, uint64_t *rsp)
{
	struct vcpu *v = x->v;

	if (offset + 7 > v->tr.limit)
		return exec_fault(x, exc_error(VEC_TS, (v->tr.selector & ~3u) | ext));
	return exec_of(vmem_read_int(v, v->tr.base + offset, rsp, 8, VMEM_SYSTEM, &x->exc));
}

static enum exec_op target_code(struct exec *x, uint16_t selector, uint32_t ext, struct segment *cs)
{
	struct vcpu *v = x->v;
	unsigned err = (selector & ~3u) | ext;
	uint64_t raw;
	enum exec_op op;

	if (!(selector & ~3u))
		return exec_gp(x, ext);
	op = segment_read_descriptor(x, selector, VEC_GP, ext, &raw, NULL);
	if (op != OP_DONE)
		return op;
	segment_unpack(raw, cs);
	if ((cs->attr & (SEG_S | 8)) != (SEG_S | 8) || SEG_DPL(cs->attr) > v->cpl || (cs->attr & (SEG_L | SEG_DB)) != SEG_L)
		return exec_gp(x, err);
	if (!(cs->attr & SEG_P))
		return exec_fault(x, exc_error(VEC_NP, err));
	op = segment_set_accessed(x, selector, raw);
	cs->attr |= 1;
	return op;
}

/* Writes the frame with the new privilege: 5 or 6 quadwords below rsp, which is 16-byte aligned first. */
static enum exec_op push_frame(struct exec *x, unsigned new_cpl, uint64_t *rsp, const uint64_t *frame, unsigned words)
{
	struct vcpu *v = x->v;
	uint64_t la = (*rsp & ~15ull) - 8 * words;
	unsigned acc = new_cpl == 3 ? ACC_USER : v->rflags & FL_AC ? ACC_AC : 0;
	struct vmem_span span;
	uint64_t *fast;
	enum vmem_status st;

	acc |= ACC_WRITE | VMEM_STACK | VMEM_NO_ALIGN;
	*rsp = la;
	fast = vmem_checked(v) ? NULL : (uint64_t *)(void *)vmem_probe(v, la, 8 * words, acc);
	if (LIKELY(fast != NULL)) {
		for (unsigned i = 0; i < words; i++)
			store_u64(fast + i, frame[i]);
		return OP_DONE;
	}
	/* The pushes go downward: a fault names the first quadword that cannot be written. */
	for (unsigned i = words; i-- > 0;) {
		st = vmem_map(v, la + 8 * i, 8, acc, &span, &x->exc);
		if (st != VMEM_OK)
			return exec_of(st);
	}
	st = vmem_map(v, la, 8 * words, acc, &span, &x->exc);
	if (st == VMEM_OK)
		vmem_store(v, &span, frame);
	return exec_of(st);
}

static enum exec_op bare_deliver(struct exec *x, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error, uint64_t rip, uint64_t rflags)
{
	struct vcpu *v = x->v;
	uint32_t ext = kind == EVENT_SOFT ? 0 : ERR_EXT;
	struct gate g;
	struct segment cs;
	uint64_t rsp = v->gpr[RSP], frame[6];
	unsigned new_cpl, words = 0;
	enum exec_op op;

	if (UNLIKELY(!vcpu_long(v)))
		return deliver_legacy(x, kind, vector, has_error, error, rip, rflags);
	op = read_gate(x, vector, ext, &g);
	if (op != OP_DONE)
		return op;
	if (g.type != DESC_INT_GATE && g.type != DESC_TRAP_GATE)
		return exec_gp(x, vector * 8u | ERR_IDT | ext);
	if (kind == EVENT_SOFT && g.dpl < v->cpl)
		return exec_gp(x, vector * 8u | ERR_IDT);
	if (!g.present)
		return exec_fault(x, exc_error(VEC_NP, vector * 8u | ERR_IDT | ext));
	op = target_code(x, g.selector, ext, &cs);
	if (op != OP_DONE)
		return op;
	new_cpl = cs.attr & 4 ? v->cpl : SEG_DPL(cs.attr);
	if (g.ist)
		op = read_tss_stack(x, TSS_IST1 + 8 * (g.ist - 1), ext, &rsp);
	else if (new_cpl < v->cpl)
		op = read_tss_stack(x, TSS_RSP0 + 8 * new_cpl, ext, &rsp);
	if (op != OP_DONE)
		return op;
	if (!vcpu_canonical(v, g.offset))
		return exec_gp(x, ext);
	if (!vcpu_canonical(v, rsp))
		return exec_fault(x, exc_error(VEC_SS, ext));
	if (has_error)
		frame[words++] = error;
	frame[words++] = rip;
	frame[words++] = v->seg[SEG_CS].selector;
	frame[words++] = rflags;
	frame[words++] = v->gpr[RSP];
	frame[words++] = v->seg[SEG_SS].selector;
	op = push_frame(x, new_cpl, &rsp, frame, words);
	if (op != OP_DONE)
		return op;
	if (vcpu_traced(v))
		vcpu_trace_event(v, vector, kind == EVENT_EXTERNAL ? 1 : kind == EVENT_SOFT ? 2 : 0, rip, rsp + (has_error ? 8 : 0), error);

	if (new_cpl != v->cpl) {
		v->seg[SEG_SS].selector = (uint16_t)new_cpl;
		v->seg[SEG_SS].attr = (uint16_t)(new_cpl << 5);
		v->seg[SEG_SS].limit = 0;
	}
	cs.selector = (uint16_t)((g.selector & ~3u) | new_cpl);
	v->seg[SEG_CS] = cs;
	v->cpl = (uint8_t)new_cpl;
	v->gpr[RSP] = rsp;
	v->rip = g.offset;
	v->rflags &= ~(uint64_t)(FL_TF | FL_NT | FL_RF | FL_VM | (g.type == DESC_INT_GATE ? FL_IF : 0));
	v->inhibit = 0;
	return OP_EVENT;
}

/* As EXITINTINFO has it (AMD APM vol. 2, "EXITINTINFO Pseudo-Code", "Event Injection"): INT3 and INTO count as exceptions. */
static uint64_t svm_event(const struct exec *x, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error)
{
	enum { INTR = 0, NMI = 2, EXCEPTION = 3, SOFT = 4 };
	unsigned type = EXCEPTION;

	if (kind == EVENT_EXTERNAL)
		type = vector == VEC_NMI ? NMI : INTR;
	else if (kind == EVENT_SOFT && (!x->in || x->in->cls == INSN_INT))
		type = SOFT;
	return vector | type << 8 | (has_error ? 1u << 11 | (uint64_t)error << 32 : 0) | 1ull << 31;
}

enum exec_op deliver_event(struct exec *x, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error, uint64_t rip, uint64_t rflags)
{
	struct vcpu *v = x->v;
	enum exec_op op;

	if (UNLIKELY(v->svm.guest))
		v->svm.delivering = svm_event(x, kind, vector, has_error, error);
	op = v->personality->deliver(x, kind, vector, has_error, error, rip, rflags);
	if (op == OP_EVENT) {
		if (UNLIKELY(v->svm.guest))
			v->svm.delivering = 0;
		if (UNLIKELY(v->irq_waiting)) /* the interrupt shadow is over, and a trap gate leaves IF alone */
			exec_irq_recheck(v);
	}
	return op;
}

static bool contributory(uint8_t vector)
{
	return vector == VEC_DE || (vector >= VEC_TS && vector <= VEC_GP);
}

/* Faults restart their instruction with RF set in the image; traps (#DB, #BP, #OF) and aborts do not. */
static bool sets_rf(uint8_t vector)
{
	return vector != VEC_DB && vector != VEC_BP && vector != VEC_OF && vector != VEC_DF && vector != VEC_MC;
}

/* Side effects that exceptions have whether or not their delivery succeeds. */
static void note(struct vcpu *v, const struct exception *exc)
{
	v->counters.exceptions_injected++;
	if (exc->vector < ARRAY_LEN(v->counters.exception))
		v->counters.exception[exc->vector]++;
	if (exc->vector == VEC_PF)
		v->cr2 = exc->cr2;
	if (exc->vector == VEC_DB) {
		v->dr[6] = (v->dr[6] & ~0xfull) | DR6_RESERVED_ONES | exc->dr6;
		v->dr[7] &= ~DR7_GD;
	}
}

/* `exc` came up while `first` (a vector, or -1 for a benign event) was being delivered. */
static enum exec_result deliver_chain(struct vcpu *v, int first, struct exception exc)
{
	struct exec x;

	x.v = v;
	x.in = NULL;
	for (;;) {
		uint64_t rflags = v->rflags;
		enum exec_result exited;
		enum exec_op op;

		/* A nested page fault is none of the guest's, whatever it comes up in. */
		if (first == VEC_DF && exc.vector != VEC_NPF) {
			if (UNLIKELY(v->svm.guest) && v->svm.ops->shutdown(v, &exited))
				return exited;
			exec_exit(v, EXIT_TRIPLE_FAULT, "triple fault");
			return EXEC_STOP;
		}
		/* Each exception's own intercept comes before what two make together ("Exception Intercepts"). */
		if (UNLIKELY(v->svm.guest) && v->svm.ops->exception(v, &exc, &exited))
			return exited;
		if (first >= 0 && ((contributory((uint8_t)first) && contributory(exc.vector)) ||
				   (first == VEC_PF && (contributory(exc.vector) || exc.vector == VEC_PF)))) {
			if (exc.vector == VEC_PF)
				v->cr2 = exc.cr2;
			exc = exc_error(VEC_DF, 0);
			if (UNLIKELY(v->svm.guest) && v->svm.ops->exception(v, &exc, &exited))
				return exited;
		}
		note(v, &exc);
		if (sets_rf(exc.vector))
			rflags |= FL_RF;
		op = deliver_event(&x, EVENT_EXCEPTION, exc.vector, exc.has_error, exc.error, v->rip, rflags);
		if (op == OP_EVENT)
			return EXEC_NEXT;
		if (op == OP_STOP)
			return EXEC_STOP;
		first = exc.vector;
		exc = x.exc;
	}
}

enum exec_result exec_deliver(struct vcpu *v, const struct exception *exc)
{
	return deliver_chain(v, -1, *exc);
}

enum exec_result exec_inject(struct vcpu *v, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error, uint64_t rip)
{
	struct exec x;
	enum exec_op op;

	x.v = v;
	x.in = NULL;
	op = deliver_event(&x, kind, vector, has_error, error, rip, v->rflags);
	if (LIKELY(op == OP_EVENT))
		return EXEC_NEXT;
	if (op == OP_STOP)
		return EXEC_STOP;
	return deliver_chain(v, kind == EVENT_EXCEPTION ? vector : -1, x.exc);
}

static enum exec_result take_event(struct vcpu *v, enum event_kind kind, uint8_t vector)
{
	v->halted = 0;
	v->counters.interrupts_injected++;
	return exec_inject(v, kind, vector, false, 0, v->rip);
}

enum exec_result exec_take_nmi(struct vcpu *v)
{
	atomic_store(&v->lapic.nmi_pending, 0);
	v->nmi_masked = 1;
	return take_event(v, EVENT_EXTERNAL, VEC_NMI);
}

/* More may wait behind this one. What lapic_ack takes counts, not what was seen before: a higher one may have come since. */
enum exec_result exec_take_interrupt(struct vcpu *v) { return take_event(v, EVENT_EXTERNAL, (uint8_t)lapic_ack(v)); }

static enum exec_result bare_interrupts(struct vcpu *v)
{
	/* Cleared first: what is posted from here on sets it again. */
	atomic_fetch_and(&v->pending, ~(uint32_t)REQ_INTERRUPT);
	v->irq_waiting = 0;
	if (UNLIKELY(v->svm.gif_clear || v->svm.guest))
		return v->svm.ops->interrupts(v);
	if (UNLIKELY(atomic_load(&v->lapic.nmi_pending)) && !v->nmi_masked) {
		if (v->inhibit) {
			v->irq_waiting = 1;
			return EXEC_NEXT;
		}
		return exec_take_nmi(v);
	}
	if (lapic_pending(v) < 0)
		return EXEC_NEXT;
	if (!(v->rflags & FL_IF) || v->inhibit) {
		v->irq_waiting = 1;
		return EXEC_NEXT;
	}
	return exec_take_interrupt(v);
}

static void bare_recheck(struct vcpu *v)
{
	if (lapic_pending(v) >= 0 || v->svm.guest || (atomic_load(&v->lapic.nmi_pending) && !v->nmi_masked))
		atomic_fetch_or(&v->pending, REQ_INTERRUPT);
}

const struct personality personality_bare = {
	.name = "bare",
	.deliver = bare_deliver,
	.interrupts = bare_interrupts,
	.recheck = bare_recheck,
	.syscall = bare_syscall,
};

enum exec_result exec_interrupts(struct vcpu *v) { return v->personality->interrupts(v); }
void exec_irq_recheck(struct vcpu *v) { v->personality->recheck(v); }

void exec_set_flags(struct vcpu *v, uint64_t value, uint64_t mask)
{
	uint64_t old = v->rflags;

	v->rflags = ((old & ~mask) | (value & mask)) | FL_R1;
	if ((v->rflags & ~old & FL_IF) && v->irq_waiting)
		exec_irq_recheck(v);
}
