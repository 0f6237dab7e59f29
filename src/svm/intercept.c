/*
 * intercept.c - what L1 intercepts: instructions, ports, MSRs, exceptions and interrupts.
 *
 * An instruction that may not be executed at all faults first: #UD for what is not there, #GP for a CPL that is too low. The intercept comes before
 * anything else that it might raise, and before memory is touched.
 * Source: AMD APM vol. 2, "Instruction Intercepts", "IOIO Intercepts", "MSR Intercepts", "Exception Intercepts", "Interrupt Intercepts", "Virtual
 * Interrupt Intercept", "Miscellaneous Intercepts".
 */
#include "svm/svm_internal.h"

/* What an instruction needs besides, or it faults instead of being intercepted. */
enum check {
	ALWAYS,
	CPL_0,
	UMIP,		/* CPL 0, if CR4.UMIP */
	PROTECTED_UMIP,	/* the same; #UD in real and virtual-8086 mode */
	PROTECTED_CPL_0,
	TSD, PCE,	/* CPL 0, if CR4.TSD is set, if CR4.PCE is clear */
	OVERFLOW,	/* nothing happens without RFLAGS.OF */
};

static const struct row { uint8_t code, check; bool there; } rows[INSN_CLASS_COUNT] = {
#define ROW(cls, code, check) [INSN_##cls] = { VMEXIT_##code, check, true }
	ROW(CPUID, CPUID, ALWAYS), ROW(PUSHF, PUSHF, ALWAYS), ROW(POPF, POPF, ALWAYS), ROW(IRET, IRET, ALWAYS), ROW(INT, SWINT, ALWAYS),
	ROW(INT1, ICEBP, ALWAYS), ROW(XSETBV, XSETBV, ALWAYS),
	ROW(INVD, INVD, CPL_0), ROW(WBINVD, WBINVD, CPL_0), ROW(HLT, HLT, CPL_0), ROW(INVLPG, INVLPG, CPL_0),
	ROW(RDTSC, RDTSC, TSD), ROW(RDTSCP, RDTSCP, TSD), ROW(RDPMC, RDPMC, PCE),
	ROW(SIDT, IDTR_READ, UMIP), ROW(SGDT, GDTR_READ, UMIP), ROW(SLDT, LDTR_READ, PROTECTED_UMIP), ROW(STR, TR_READ, PROTECTED_UMIP),
	ROW(LIDT, IDTR_WRITE, CPL_0), ROW(LGDT, GDTR_WRITE, CPL_0), ROW(LLDT, LDTR_WRITE, PROTECTED_CPL_0), ROW(LTR, TR_WRITE, PROTECTED_CPL_0),
#undef ROW
	[INSN_INT3] = { VMEXIT_EXCEPTION + VEC_BP, ALWAYS, true }, [INSN_INTO] = { VMEXIT_EXCEPTION + VEC_OF, OVERFLOW, true },
	[INSN_CLTS] = { VMEXIT_CR_WRITE + 0, CPL_0, true }, [INSN_SMSW] = { VMEXIT_CR_READ + 0, UMIP, true },
};

static bool executes(const struct vcpu *v, enum check check)
{
	switch (check) {
	case ALWAYS: return true;
	case CPL_0: return !v->cpl;
	case PROTECTED_UMIP:
		if (vcpu_paragraphs(v))
			return false; /* fall through */
	case UMIP: return !v->cpl || !(v->cr4 & CR4_UMIP);
	case PROTECTED_CPL_0: return !v->cpl && !vcpu_paragraphs(v);
	case TSD: return !v->cpl || !(v->cr4 & CR4_TSD);
	case PCE: return !v->cpl || (v->cr4 & CR4_PCE);
	case OVERFLOW: return v->rflags & FL_OF;
	}
	return false;
}

static enum exec_op exit_if(struct exec *x, unsigned code);
static bool register_exists(unsigned cr) { return cr == 0 || (cr >= 2 && cr <= 4) || cr == 8; }

/* CR0's write intercept comes before the selective one, which lets TS and MP change. */
static enum exec_op write_cr0(struct exec *x, uint64_t changed)
{
	enum exec_op op = exit_if(x, VMEXIT_CR_WRITE + 0);

	if (op == OP_DONE && (changed & ~(uint64_t)(CR0_TS | CR0_MP)))
		op = exit_if(x, VMEXIT_CR0_SEL_WRITE);
	return op;
}

static enum exec_op lmsw(struct exec *x)
{
	struct vcpu *v = x->v;
	uint64_t value;
	enum exec_op op = exit_if(x, VMEXIT_CR_WRITE + 0);

	if (op != OP_DONE || !svm_intercepted(v, VMEXIT_CR0_SEL_WRITE))
		return op;
	op = exec_read_operand(x, &value, 2);
	/* PE can only be set, EM changes both ways. */
	return op != OP_DONE ? op : write_cr0(x, ((value & ~v->cr0) & CR0_PE) | ((value ^ v->cr0) & CR0_EM));
}

/* Two bits an MSR, read and write, in three ranges; all others are always intercepted. */
static enum exec_op msr(struct exec *x)
{
	struct vcpu *v = x->v;
	const uint32_t number = (uint32_t)v->gpr[RCX];
	const bool write = x->in->cls == INSN_WRMSR;
	uint8_t bits = 0xff;
	unsigned at;

	if (!svm_intercepted(v, VMEXIT_MSR))
		return OP_DONE;
	if (number < 0x2000)
		at = number * 2;
	else if (number - 0xc0000000 < 0x2000)
		at = 0x800 * 8 + (number & 0x1fff) * 2;
	else if (number - 0xc0010000 < 0x2000)
		at = 0x1000 * 8 + (number & 0x1fff) * 2;
	else
		return svm_exit_op(x, VMEXIT_MSR, write, 0);
	/* A map that is not in memory reads as all ones. */
	if (memory_read(v->memory, gpa((v->svm.state->vmcb.msrpm_base & PAGE_MASK) + at / 8), &bits, 1))
		bits = 0xff;
	return bits >> (at % 8 + write) & 1 ? svm_exit_op(x, VMEXIT_MSR, write, 0) : OP_DONE;
}

/* What an exit says of its instruction in EXITINFO1 ("Decode Assists"). */
static uint64_t assist(const struct exec *x)
{
	const struct insn *in = x->in;

	switch (in->cls) {
	case INSN_MOV_FROM_CR: case INSN_MOV_TO_CR: return 1ull << 63 | in->reg;
	case INSN_MOV_FROM_DR: case INSN_MOV_TO_DR: return in->reg;
	case INSN_INT: return in->imm & 0xff;
	case INSN_INVLPG: case INSN_INVPCID: return exec_operand_address(x);
	default: return 0;
	}
}

static enum exec_op exit_if(struct exec *x, unsigned code)
{
	return svm_intercepted(x->v, code) ? svm_exit_op(x, code, assist(x), 0) : OP_DONE;
}

/* A PAUSE that the filter lets pass ("Pause Intercept Filtering"): so many in a row, each no later than the threshold after the one before; 0: any time. */
static bool filtered(struct vcpu *v)
{
	struct svm_vcpu *s = v->svm.state;
	const uint64_t now = clock_tsc();

	if (!s->vmcb.pause_count || !svm_intercepted(v, VMEXIT_PAUSE))
		return false;
	if (s->vmcb.pause_threshold && now - s->paused_at > s->vmcb.pause_threshold)
		s->pauses = s->vmcb.pause_count;
	s->paused_at = now;
	if (!s->pauses)
		return false;
	s->pauses--;
	return true;
}

enum exec_op svm_intercept(struct exec *x)
{
	struct vcpu *v = x->v;
	const struct insn *in = x->in;
	const struct row *r = &rows[in->cls];

	if (r->there)
		return executes(v, r->check) ? exit_if(x, r->code) : OP_DONE;
	switch (in->cls) {
	case INSN_INVPCID: /* EXITINFO2: the type */
		if (v->cpl || !svm_intercepted(v, VMEXIT_INVPCID))
			return OP_DONE;
		return svm_exit_op(x, VMEXIT_INVPCID, assist(x), vcpu_long64(v) ? v->gpr[in->reg] : (uint32_t)v->gpr[in->reg]);
	case INSN_NOP:
		return insn_is_pause(in) && !filtered(v) ? exit_if(x, VMEXIT_PAUSE) : OP_DONE;
	case INSN_RDMSR: case INSN_WRMSR:
		return v->cpl ? OP_DONE : msr(x);
	case INSN_MOV_FROM_CR:
		return v->cpl || !register_exists(in->reg2) ? OP_DONE : exit_if(x, VMEXIT_CR_READ + in->reg2);
	case INSN_MOV_TO_CR:
		if (v->cpl || !register_exists(in->reg2))
			return OP_DONE;
		if (in->reg2)
			return exit_if(x, VMEXIT_CR_WRITE + in->reg2);
		return write_cr0(x, (vcpu_long64(v) ? v->gpr[in->reg] : (uint32_t)v->gpr[in->reg]) ^ v->cr0);
	case INSN_LMSW:
		return v->cpl ? OP_DONE : lmsw(x);
	case INSN_MOV_FROM_DR:
		return v->cpl || in->reg2 > 7 ? OP_DONE : exit_if(x, VMEXIT_DR_READ + in->reg2);
	case INSN_MOV_TO_DR:
		return v->cpl || in->reg2 > 7 ? OP_DONE : exit_if(x, VMEXIT_DR_WRITE + in->reg2);
	default:
		return OP_DONE;
	}
}

/* One bit a port, 64 Ki of them and three more for accesses that go beyond. EXITINFO1 as "IOIO Intercept Information" has it. */
enum exec_op svm_port(struct exec *x, uint16_t port, unsigned size, bool in, bool string)
{
	struct vcpu *v = x->v;
	const struct insn *i = x->in;
	uint16_t bits;
	uint64_t info;

	if (!svm_intercepted(v, VMEXIT_IOIO))
		return OP_DONE;
	if (memory_read(v->memory, gpa((v->svm.state->vmcb.iopm_base & PAGE_MASK) + port / 8), &bits, sizeof(bits)))
		bits = 0xffff;
	if (!(bits >> port % 8 & ((1u << size) - 1)))
		return OP_DONE;
	info = (uint64_t)port << 16 | size << 4 | in;
	if (string) {
		info |= 1u << 2 | (i->rep || i->repne ? 1u << 3 : 0) | (unsigned)i->addrsize << 6;
		info |= (in ? (unsigned)SEG_ES : i->mem.seg) << 10;
	}
	return svm_exit_op(x, VMEXIT_IOIO, info, x->next);
}

/* "Task Switch Intercept": one for all that a switch changes, after the incoming TSS was checked; the outgoing one is not written yet. */
enum exec_op svm_task_switch(struct exec *x, enum task_reason why, uint16_t selector, bool has_error, uint32_t error)
{
	struct vcpu *v = x->v;
	uint64_t info = 0;

	if (!svm_intercepted(v, VMEXIT_TASK_SWITCH))
		return OP_DONE;
	if (has_error)
		info = error | 1ull << 44;
	info |= (why == TASK_IRET ? 1ull << 36 : 0) | (why == TASK_JMP ? 1ull << 38 : 0) | (v->rflags & FL_RF ? 1ull << 48 : 0);
	v->inhibit = x->in ? x->shadow : 0;
	return svm_exit(v, VMEXIT_TASK_SWITCH, selector, info, 0) == EXEC_NEXT ? OP_EVENT : OP_STOP;
}

/* The instruction that was to touch memory, as far as it can be fetched; none if it is the fetch that failed. */
static void note_bytes(struct vcpu *v, bool fetch)
{
	struct vmcb *b = &v->svm.state->vmcb;
	uint64_t la = vcpu_long64(v) ? v->rip : (uint32_t)(v->seg[SEG_CS].base + v->rip);
	struct mmu_result r;

	b->fetched = 0;
	while (!fetch && b->fetched < sizeof(b->insn) && vcpu_canonical(v, la) && mmu_fetch(&v->mmu, gva(la), vcpu_user(v), &r) == MMU_MAPPED) {
		unsigned n = (unsigned)(PAGE_SIZE - (la & ~PAGE_MASK)), left = sizeof(b->insn) - b->fetched;

		n = n < left ? n : left;
		copy_bytes(b->insn + b->fetched, r.hva, n);
		b->fetched = (uint8_t)(b->fetched + n);
		la = vcpu_long64(v) ? la + n : (uint32_t)(la + n);
	}
}

/* #DB leaves what it says in DR6 and DR7 before the intercept, #PF does not write CR2. */
bool svm_exception(struct vcpu *v, const struct exception *exc, enum exec_result *result)
{
	if (exc->vector == VEC_NPF) {
		note_bytes(v, exc->nest_error & PF_I);
		*result = svm_exit(v, VMEXIT_NPF, exc->nest_error, exc->cr2, 0);
		return true;
	}
	if (exc->vector >= 32 || !svm_intercepted(v, VMEXIT_EXCEPTION + exc->vector))
		return false;
	if (exc->vector == VEC_PF)
		note_bytes(v, exc->error & PF_I);
	if (exc->vector == VEC_DB)
		control_load_debug(v, (v->dr[6] & ~0xfull) | exc->dr6, v->dr[7] & ~(1ull << 13));
	*result = svm_exit(v, VMEXIT_EXCEPTION + exc->vector, exc->has_error ? exc->error : 0, exc->vector == VEC_PF ? exc->cr2 : 0, 0);
	return true;
}

bool svm_shutdown(struct vcpu *v, enum exec_result *result)
{
	if (!svm_intercepted(v, VMEXIT_SHUTDOWN))
		return false;
	*result = svm_exit(v, VMEXIT_SHUTDOWN, 0, 0, 0);
	return true;
}

static enum exec_result exit_event(struct vcpu *v, unsigned code) { return svm_exit(v, code, 0, 0, 0); }

/*
 * Physical before virtual, NMI first. An intercepted one stays pending for L1, and the interrupt shadow does not hold it back. What cannot be
 * taken now is noticed again when IF, the shadow or GIF changes.
 */
enum exec_result svm_interrupts(struct vcpu *v)
{
	const bool nmi = atomic_load(&v->lapic.nmi_pending) && !v->nmi_masked, interrupt = lapic_pending(v) >= 0;
	struct svm_vcpu *s = v->svm.state;

	if (v->svm.gif_clear) {
		v->irq_waiting = nmi || interrupt;
		return EXEC_NEXT;
	}
	if (nmi && svm_intercepted(v, VMEXIT_NMI))
		return exit_event(v, VMEXIT_NMI);
	if (interrupt && vcpu_interruptible(v) && svm_intercepted(v, VMEXIT_INTR))
		return exit_event(v, VMEXIT_INTR);
	v->irq_waiting = nmi || interrupt || svm_virtual_interrupt(v);
	if (!v->irq_waiting || v->inhibit)
		return EXEC_NEXT;
	if (nmi || (interrupt && vcpu_interruptible(v))) {
		atomic_fetch_or(&v->pending, REQ_INTERRUPT); /* more may wait */
		return nmi ? exec_take_nmi(v) : exec_take_interrupt(v);
	}
	if (svm_virtual_interrupt(v) && (v->rflags & FL_IF)) {
		if (svm_intercepted(v, VMEXIT_VINTR))
			return exit_event(v, VMEXIT_VINTR);
		s->vmcb.int_ctl &= ~VMCB_V_IRQ;
		v->halted = 0;
		v->counters.interrupts_injected++;
		return exec_inject(v, EVENT_EXTERNAL, (uint8_t)s->vmcb.int_vector, false, 0, v->rip);
	}
	return EXEC_NEXT;
}
