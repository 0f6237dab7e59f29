/*
 * entry.c - how control comes to the guest kernel and goes back: bounces of exceptions, events and system calls to its handlers, the iret
 * hypercall, and SYSCALL, which is a hypercall when the kernel executes it.
 *
 * Kernel and user run at CPL 3. Which of them does is ring3_kernel (cpu/vcpu.h): it decides whose root accesses go by, and SYSCALL's meaning. Going
 * from one to the other exchanges the GS bases and nothing else.
 *
 * A bounce frame, from its lowest address: RCX, R11, [DS, ES, FS, GS of the failsafe callback], [error code], RIP, CS with the saved event mask in bits 32-39, RFLAGS whose IF says whether
 * events were open, RSP, SS. (xen/arch-x86/xen-x86_64.h; Xen's documentation of the PV entry points is its header.)
 */
#include "cpu/trace.h"
#include "xen/xen_internal.h"

#define MASK_SHIFT 32
#define UPCALL_VECTOR 0xf3	/* what traces call an event upcall: Linux' name for it, its callback's vector where it is not paravirtualized */
#define BOUNCE_CLEARS (FL_AC | FL_VM | FL_RF | FL_NT | FL_TF)

void xen_crash(struct vcpu *v, const char *reason)
{
	exec_exit(v, EXIT_TRIPLE_FAULT, reason);
}

/* Between the guest's kernel and its user code. */
static void toggle(struct vcpu *v)
{
	uint64_t base = v->seg[SEG_GS].base;

	v->seg[SEG_GS].base = v->kernel_gs_base;
	v->kernel_gs_base = base;
	v->ring3_kernel ^= 1;
}

struct bounce {
	uint64_t address;
	bool masks_events, has_error;
	uint32_t error;
	uint64_t rip, rflags;
	uint16_t cs, ss;
	bool failsafe;		/* DS, ES, FS and GS, too */
	int vector;		/* TRACE_NO_EVENT: a system call */
	unsigned source;	/* trace_event_word */
};
#define TRACE_NO_EVENT (-1)

/* OP_EVENT, or OP_STOP: a guest that has no handler or no stack is lost. */
static enum exec_op bounce(struct vcpu *v, const struct bounce *b)
{
	struct xen_vcpu *xv = xen_vcpu_of(v);
	bool from_kernel = v->ring3_kernel, was_masked = xv->info->evtchn_upcall_mask;
	uint64_t frame[11], sp = (from_kernel ? v->gpr[RSP] : xv->kernel_sp) & ~15ull;
	unsigned n = 0;

	if (!b->address || !va_canonical(b->address, VA_BITS_4LEVEL)) {
		xen_crash(v, "its kernel has no handler for an exception, event or system call");
		return OP_STOP;
	}
	frame[n++] = v->gpr[RCX];
	frame[n++] = v->gpr[R11];
	if (b->failsafe) {
		static const uint8_t data[] = { SEG_DS, SEG_ES, SEG_FS, SEG_GS };

		for (unsigned i = 0; i < ARRAY_LEN(data); i++)
			frame[n++] = v->seg[data[i]].selector;
	}
	if (b->has_error)
		frame[n++] = b->error;
	frame[n++] = b->rip;
	frame[n++] = (from_kernel ? b->cs & ~3u : b->cs) | (uint64_t)was_masked << MASK_SHIFT;
	frame[n++] = (b->rflags & ~(uint64_t)(FL_IF | FL_IOPL)) | (was_masked ? 0 : FL_IF) |
		     (xv->assist & 1u << VMASST_TYPE_architectural_iopl ? (uint64_t)xv->iopl << 12 : 0);
	frame[n++] = v->gpr[RSP];
	frame[n++] = b->ss;
	sp -= 8 * n;
	if (vcpu_traced(v) && b->vector != TRACE_NO_EVENT)
		vcpu_trace_event(v, (unsigned)b->vector, b->source, b->rip, sp + (b->has_error ? 24 : 16), b->error);
	if (!from_kernel)
		toggle(v);
	if (xen_copy_to_guest(v, sp, frame, 8 * n)) {
		xen_crash(v, "the stack of its kernel cannot take the frame of an exception, event or system call");
		return OP_STOP;
	}
	segment_set_flat_code(v, FLAT_KERNEL_CS64, 3, true);
	segment_set_flat_stack(v, FLAT_KERNEL_SS64, 3);
	v->gpr[RSP] = sp;
	v->rip = b->address;
	v->rflags = (b->rflags & ~(uint64_t)(BOUNCE_CLEARS | FL_IOPL)) | FL_IF | FL_R1;
	v->inhibit = 0;
	if (b->masks_events)
		xv->info->evtchn_upcall_mask = 1;
	return OP_EVENT;
}

/* INT n: vector 3's gate is open to all; others by the guest's table, where its kernel counts as privilege 1. */
static bool soft_allowed(const struct vcpu *v, const struct trap_info *t, uint8_t vector)
{
	return vector == VEC_BP || TI_GET_DPL(t) >= (v->ring3_kernel ? 1 : 3);
}

enum exec_op xen_deliver(struct exec *x, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error, uint64_t rip, uint64_t rflags)
{
	struct vcpu *v = x->v;
	struct xen_vcpu *xv = xen_vcpu_of(v);
	const struct trap_info *t = &xv->trap[vector];
	const struct bounce b = {
		.address = t->address, .masks_events = TI_GET_IF(t), .has_error = has_error, .error = error, .rip = rip,
		.rflags = rflags, .cs = v->seg[SEG_CS].selector, .ss = v->seg[SEG_SS].selector,
		.vector = vector, .source = kind == EVENT_SOFT ? 2 : 0,
	};

	if (kind == EVENT_SOFT && !soft_allowed(v, t, vector))
		return exec_gp(x, vector * 8u | 2);
	if (vector == VEC_PF && !(error & PF_P) && v->cr2 - v->ldtr.base < XEN_LDT_WINDOW) {
		const unsigned offset = (unsigned)(v->cr2 - v->ldtr.base);

		/* A selector of the local table was loaded: its page comes into the window, and the instruction is executed again. */
		if (xen_ldt_load(xv, offset)) {
			v->rip = rip;
			return OP_EVENT;
		}
		/* The guest knows its table by another address. */
		v->cr2 = xv->ldt_base + offset;
	}
	xv->xen->counters.exceptions_bounced++;
	if (vector == VEC_PF)
		xv->info->arch.cr2 = v->cr2;
	if (vector == VEC_NM) {
		v->cr0 &= ~CR0_TS;
		xv->ctrlreg0 &= ~CR0_TS;
	}
	return bounce(v, &b);
}

/* Whether an event is to be taken now. */
static bool event_due(const struct xen_vcpu *xv)
{
	return xv->info->evtchn_upcall_pending && !xv->info->evtchn_upcall_mask;
}

void xen_recheck(struct vcpu *v)
{
	const struct xen_vcpu *xv = xen_vcpu_of(v);

	if (event_due(xv) || xv->nmi_pending)
		atomic_fetch_or(&v->pending, REQ_INTERRUPT);
}

enum exec_result xen_interrupts(struct vcpu *v)
{
	struct xen_vcpu *xv = xen_vcpu_of(v);
	struct bounce b = {
		.address = xv->callback[CALLBACKTYPE_event].address, .masks_events = xv->callback[CALLBACKTYPE_event].masks_events,
		.rip = v->rip, .rflags = v->rflags, .cs = v->seg[SEG_CS].selector, .ss = v->seg[SEG_SS].selector,
		.vector = UPCALL_VECTOR, .source = 1,
	};

	/* Cleared first: what is posted from here on sets it again. */
	atomic_fetch_and(&v->pending, ~(uint32_t)REQ_INTERRUPT);
	v->irq_waiting = 0;
	if (UNLIKELY(__atomic_load_n(&xv->xen->watchdog_expired, __ATOMIC_SEQ_CST))) {
		xen_crash(v, "its watchdog expired");
		return EXEC_STOP;
	}
	xen_wake(xv);
	if (!event_due(xv) && !xv->nmi_pending)
		return EXEC_NEXT;
	if (v->inhibit) {
		v->irq_waiting = 1;
		return EXEC_NEXT;
	}
	v->counters.interrupts_injected++;
	if (xv->nmi_pending && xv->trap[VEC_NMI].address) {
		xv->nmi_pending = false;
		b.address = xv->trap[VEC_NMI].address;
		b.vector = VEC_NMI;
		b.masks_events = TI_GET_IF(&xv->trap[VEC_NMI]);
	} else {
		xv->nmi_pending = false;
		if (!event_due(xv))
			return EXEC_NEXT;
		xv->xen->counters.upcalls++;
	}
	return bounce(v, &b) == OP_EVENT ? EXEC_NEXT : EXEC_STOP;
}

static enum exec_op user_syscall(struct exec *x)
{
	struct vcpu *v = x->v;
	struct xen_vcpu *xv = xen_vcpu_of(v);
	bool wide = vcpu_long64(v);
	const struct xen_callback *cb = &xv->callback[wide ? CALLBACKTYPE_syscall : CALLBACKTYPE_syscall32];
	const struct bounce b = {
		.address = cb->address, .masks_events = cb->masks_events, .rip = x->next, .rflags = v->rflags & ~(uint64_t)FL_RF,
		.cs = wide ? FLAT_USER_CS64 : FLAT_USER_CS32, .ss = FLAT_USER_SS64,
		.vector = TRACE_NO_EVENT,
	};

	if (!cb->address)
		return exec_undefined(x);
	xv->xen->counters.syscalls_bounced++;
	if (vcpu_traced(v))
		vcpu_trace_syscall(v, x->next);
	v->gpr[RCX] = x->next;
	v->gpr[R11] = b.rflags;
	return bounce(v, &b);
}

enum exec_op xen_syscall(struct exec *x)
{
	struct vcpu *v = x->v;
	struct xen_vcpu *xv = xen_vcpu_of(v);
	static const uint8_t arg_reg[6] = { RDI, RSI, RDX, R10, R8, R9 };
	struct xen_call c = { .xen = xv->xen, .xv = xv, .v = v, .next_rip = x->next };
	int64_t result;

	v->counters.syscalls++;
	if (!v->ring3_kernel)
		return user_syscall(x);
	for (unsigned i = 0; i < 6; i++)
		c.arg[i] = v->gpr[arg_reg[i]];
	v->gpr[RCX] = x->next;
	v->gpr[R11] = v->rflags & ~(uint64_t)FL_RF;
	result = xen_hypercall(&c, (uint32_t)v->gpr[RAX]);
	if (c.again) {
		xv->xen->counters.continuations++;
		for (unsigned i = 0; i < 6; i++)
			v->gpr[arg_reg[i]] = c.arg[i];
		v->rip = v->rip; /* the same SYSCALL again */
		x->next = v->rip;
	} else if (c.event) {
		/* iret: everything is set, and an exception may have been bounced since. */
		xen_recheck(v);
		return v->exit.kind == EXIT_NONE ? OP_EVENT : OP_STOP;
	} else {
		v->gpr[RAX] = (uint64_t)result;
	}
	xen_recheck(v);
	if (v->exit.kind == EXIT_NONE)
		return OP_DONE;
	v->rip = x->next;
	return OP_STOP;
}

/* By their descriptors. */
static bool read_code(struct exec *x, uint16_t cs, uint16_t ss)
{
	struct vcpu *v = x->v;
	struct segment s;
	uint64_t raw;

	if (!(cs & ~3u)) {
		x->exc = exc_gp(0);
		return false;
	}
	/* Not by way of a fault: the instruction is behind us. */
	if (cs & 4)
		xen_ldt_load(xen_vcpu_of(v), cs & ~7u);
	if (ss & 4)
		xen_ldt_load(xen_vcpu_of(v), ss & ~7u);
	if (segment_read_descriptor(x, cs, VEC_GP, 0, &raw, NULL) != OP_DONE)
		return false;
	segment_unpack(raw, &s);
	if ((s.attr & (SEG_S | 8)) != (SEG_S | 8) || (!(s.attr & 4) && SEG_DPL(s.attr) != 3) || (s.attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB)) {
		x->exc = exc_gp(cs & ~3u);
		return false;
	}
	if (!(s.attr & SEG_P)) {
		x->exc = exc_error(VEC_NP, cs & ~3u);
		return false;
	}
	if (segment_set_accessed(x, cs, raw) != OP_DONE)
		return false;
	s.selector = cs;
	s.attr |= 1;
	v->seg[SEG_CS] = s;
	return segment_load(x, SEG_SS, ss) == OP_DONE;
}

/* Loads CS and SS for code of privilege 3. False: x->exc. */
static bool load_code(struct exec *x, uint16_t cs, uint16_t ss)
{
	struct vcpu *v = x->v;
	struct xen_vcpu *xv = xen_vcpu_of(v);

	if (cs == FLAT_USER_CS64 && ss == FLAT_USER_SS64) {
		segment_set_flat_code(v, cs, 3, true);
		segment_set_flat_stack(v, ss, 3);
		return true;
	}
	if (LIKELY(xv->entered.valid && cs == xv->entered.cs && ss == xv->entered.ss)) {
		v->seg[SEG_CS] = xv->entered.segment[0];
		v->seg[SEG_SS] = xv->entered.segment[1];
		return true;
	}
	if (!read_code(x, cs, ss))
		return false;
	if (!((cs | ss) & 4)) {
		xv->entered.valid = true;
		xv->entered.cs = cs;
		xv->entered.ss = ss;
		xv->entered.segment[0] = v->seg[SEG_CS];
		xv->entered.segment[1] = v->seg[SEG_SS];
	}
	return true;
}

/*
 * The state that iret asks for cannot be entered: the failsafe callback finds it in its frame, with the data segments. (They differ from what is loaded
 * where a hypervisor that switches between domains could not load one again, which does not happen here.)
 */
static void failsafe(struct vcpu *v, uint16_t cs, uint16_t ss)
{
	const struct xen_callback *cb = &xen_vcpu_of(v)->callback[CALLBACKTYPE_failsafe];
	const struct bounce b = {
		.address = cb->address, .masks_events = cb->masks_events, .failsafe = true, .rip = v->rip, .rflags = v->rflags, .cs = cs, .ss = ss,
		.vector = TRACE_NO_EVENT,
	};

	xen_vcpu_of(v)->xen->counters.failsafes++;
	bounce(v, &b);
}

/* struct iret_context (xen/arch-x86/xen-x86_64.h) lies at the guest's RSP. */
int64_t xen_do_iret(struct xen_call *c)
{
	struct vcpu *v = c->v;
	struct xen_vcpu *xv = c->xv;
	struct iret_context f;
	struct exec x = { .v = v };

	c->event = true;
	if (xen_copy_from_guest(v, &f, v->gpr[RSP], sizeof(f))) {
		xen_crash(v, "the stack of its iret hypercall cannot be read");
		return 0;
	}
	c->xen->counters.irets++;
	if ((f.cs & 3) == 3) {
		if (!v->mmu.user_cr3) {
			xen_crash(v, "it returned to user mode without user page tables");
			return 0;
		}
		toggle(v);
	}
	v->rip = f.rip;
	/* Where the bounce had put it, if the kernel left from there. */
	const uint64_t frame = v->gpr[RSP] + offsetof(struct iret_context, rip);
	v->gpr[RSP] = f.rsp;
	v->gpr[RAX] = f.rax;
	if (!(f.flags & VGCF_in_syscall)) {
		v->gpr[R11] = f.r11;
		v->gpr[RCX] = f.rcx;
	}
	v->rflags = (f.rflags & FL_LEGAL & ~(uint64_t)(FL_IOPL | FL_VM | FL_VIF | FL_VIP)) | FL_IF | FL_R1;
	v->nmi_masked = 0;
	xv->info->evtchn_upcall_mask = !(f.rflags & FL_IF);
	if (vcpu_traced(v))
		vcpu_trace_return(v, f.rip, frame);
	if ((!va_canonical(f.rip, VA_BITS_4LEVEL) || !load_code(&x, (uint16_t)(f.cs | 3), (uint16_t)(f.ss | 3))) && v->exit.kind == EXIT_NONE)
		failsafe(v, (uint16_t)(f.cs | 3), (uint16_t)(f.ss | 3));
	return 0;
}
