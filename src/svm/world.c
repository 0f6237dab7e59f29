/*
 * world.c - the world switch: VMRUN, #VMEXIT, and the half of the state that VMLOAD and VMSAVE move.
 * Source: AMD APM vol. 2, "VMRUN Instruction", "#VMEXIT", "VMSAVE and VMLOAD Instructions", "Event Injection"; vol. 3, "VMRUN".
 *
 * Translations of L1 and of each ASID are kept apart by the MMU (mmu/guest.c).
 */
#include "cpu/debug.h"
#include "svm/check.h"
#include "svm/svm_internal.h"

static uint64_t canonical(const struct vcpu *v, uint64_t va)
{
	unsigned spare = 64 - v->cpuid->va_bits;

	return (uint64_t)((int64_t)(va << spare) >> spare);
}

/* ---- segments ---- */

static struct segment segment_in(const struct vcpu *v, const struct vmcb_segment *s)
{
	return (struct segment){ .base = canonical(v, s->base), .limit = s->limit, .selector = s->selector, .attr = s->attr & 0xfff };
}

static void segment_out(struct vmcb_segment *to, const struct segment *s)
{
	*to = (struct vmcb_segment){ .selector = s->selector, .attr = s->attr, .limit = s->limit, .base = s->base };
}

static struct table_reg table_in(const struct vcpu *v, const struct vmcb_segment *s)
{
	return (struct table_reg){ .base = canonical(v, s->base), .limit = (uint16_t)s->limit };
}

static void table_out(struct vmcb_segment *to, const struct table_reg *t)
{
	*to = (struct vmcb_segment){ .limit = t->limit, .base = t->base };
}

/* ---- VMLOAD, VMSAVE ---- */

#define PART(first, last) { offsetof(struct vmcb, first), offsetof(struct vmcb, last) - offsetof(struct vmcb, first) + sizeof(((struct vmcb *)0)->last) }

static int read_part(struct vcpu *v, gpa_t at, struct vmcb *b, struct memory_part part)
{
	return memory_read(v->memory, gpa(at.v + part.offset), (uint8_t *)b + part.offset, part.len);
}

static int write_parts(struct vcpu *v, gpa_t at, const struct vmcb *b, const struct memory_part *part, size_t parts)
{
	const int err = memory_write_parts(v->memory, at, b, part, parts);

	mmu_frames_changed(&v->mmu);
	return err;
}

enum exec_op svm_no_room(struct vcpu *v)
{
	exec_exit(v, EXIT_HOST_ERROR, "no machine frame left for the guest's memory");
	return OP_STOP;
}

enum exec_op svm_vmload(struct exec *x, gpa_t at)
{
	struct vcpu *v = x->v;
	struct vmcb b;

	if (read_part(v, at, &b, (struct memory_part)PART(fs, tr)) || read_part(v, at, &b, (struct memory_part)PART(star, sysenter_eip)))
		return exec_gp(x, 0);
	v->seg[SEG_FS] = segment_in(v, &b.fs);
	v->seg[SEG_GS] = segment_in(v, &b.gs);
	v->ldtr = segment_in(v, &b.ldtr);
	v->tr = segment_in(v, &b.tr);
	v->kernel_gs_base = canonical(v, b.kernel_gs_base);
	v->star = b.star;
	v->lstar = canonical(v, b.lstar);
	v->cstar = canonical(v, b.cstar);
	v->sfmask = (uint32_t)b.sfmask;
	v->sysenter_cs = (uint32_t)b.sysenter_cs;
	v->sysenter_esp = canonical(v, b.sysenter_esp);
	v->sysenter_eip = canonical(v, b.sysenter_eip);
	return OP_DONE;
}

enum exec_op svm_vmsave(struct exec *x, gpa_t at)
{
	static const struct memory_part parts[] = { PART(fs, gs), PART(ldtr, ldtr), PART(tr, tr), PART(star, sysenter_eip) };
	struct vcpu *v = x->v;
	struct vmcb b;

	if (!memory_is_ram(v->memory, at))
		return exec_gp(x, 0);
	segment_out(&b.fs, &v->seg[SEG_FS]);
	segment_out(&b.gs, &v->seg[SEG_GS]);
	segment_out(&b.ldtr, &v->ldtr);
	segment_out(&b.tr, &v->tr);
	b.kernel_gs_base = v->kernel_gs_base;
	b.star = v->star;
	b.lstar = v->lstar;
	b.cstar = v->cstar;
	b.sfmask = v->sfmask;
	b.sysenter_cs = v->sysenter_cs;
	b.sysenter_esp = v->sysenter_esp;
	b.sysenter_eip = v->sysenter_eip;
	if (write_parts(v, at, &b, parts, ARRAY_LEN(parts)))
		return svm_no_room(v);
	return OP_DONE;
}

/* ---- VMRUN ---- */

static void save_host(struct exec *x, struct svm_host *h)
{
	struct vcpu *v = x->v;

	*h = (struct svm_host){
		.rip = x->next, .rsp = v->gpr[RSP], .rax = v->gpr[RAX], .rflags = v->rflags & ~(uint64_t)FL_RF, .cr0 = v->cr0, .cr3 = v->cr3,
		.cr4 = v->cr4, .efer = v->efer, .es = v->seg[SEG_ES], .cs = v->seg[SEG_CS], .ss = v->seg[SEG_SS], .ds = v->seg[SEG_DS],
		.gdtr = v->gdtr, .idtr = v->idtr, .pat = v->pat,
	};
}

/* TLB_CONTROL. What is reserved flushes all. */
static enum mmu_guest_flush flush_of(uint8_t control)
{
	return control == 0 ? GUEST_KEEP : control == 3 || control == 7 ? GUEST_FLUSH_ASID : GUEST_FLUSH_ALL;
}

static void load_guest(struct vcpu *v, const struct vmcb *b)
{
	control_enter_guest(v, b->asid, flush_of(b->tlb_control), b->cr0, b->cr3, b->cr4, b->efer, svm_nested_paging(v), b->n_cr3);
	if (svm_nested_paging(v))
		v->pat = b->g_pat;
	v->cr2 = b->cr2;
	control_load_debug(v, b->dr6, b->dr7);
	v->seg[SEG_ES] = segment_in(v, &b->es);
	v->seg[SEG_CS] = segment_in(v, &b->cs);
	v->seg[SEG_SS] = segment_in(v, &b->ss);
	v->seg[SEG_DS] = segment_in(v, &b->ds);
	v->gdtr = table_in(v, &b->gdtr);
	v->idtr = table_in(v, &b->idtr);
	v->rflags = (b->rflags & FL_LEGAL) | FL_R1;
	if (vcpu_long(v) || vcpu_real(v))
		v->rflags &= ~(uint64_t)FL_VM;
	/* The CPL has a field of its own, and is what the mode says where that has no choice. */
	v->cpl = vcpu_real(v) ? 0 : vcpu_vm86(v) ? 3 : b->cpl & 3;
	v->seg[SEG_SS].attr = (uint16_t)((v->seg[SEG_SS].attr & ~0x60u) | (unsigned)v->cpl << 5);
	v->rip = vcpu_long64(v) ? b->rip : (uint32_t)b->rip;
	v->gpr[RSP] = b->rsp;
	v->gpr[RAX] = b->rax;
	v->inhibit = b->int_state & VMCB_INT_SHADOW ? INHIBIT_STI : 0;
	v->svm.tsc_offset = b->tsc_offset;
	v->svm.asks_pushf = svm_intercepted(v, VMEXIT_PUSHF);
	v->svm.asks_tsc = svm_intercepted(v, VMEXIT_RDTSC) || svm_intercepted(v, VMEXIT_RDTSCP);
	v->svm.v_tpr = b->int_ctl & 15;
}

/* An event to deliver before the first instruction. It is not subject to intercepts; what its delivery raises is. */
static enum exec_result inject(struct vcpu *v, struct vmcb *b)
{
	uint64_t e = b->eventinj;
	uint8_t vector = e & VMCB_EVENT_VECTOR;
	bool has_error = e & VMCB_EVENT_HAS_ERROR;

	switch (VMCB_EVENT_TYPE(e)) {
	case VMCB_EVENT_INTR:
		return exec_inject(v, EVENT_EXTERNAL, vector, false, 0, v->rip);
	case VMCB_EVENT_NMI:
		v->nmi_masked = 1;
		return exec_inject(v, EVENT_EXTERNAL, VEC_NMI, false, 0, v->rip);
	case VMCB_EVENT_SOFT: /* pushes nRIP: the instruction is done */
		return exec_inject(v, EVENT_SOFT, vector, false, 0, b->next_rip);
	default:
		return exec_inject(v, EVENT_EXCEPTION, vector, has_error, has_error ? (uint32_t)(e >> 32) : 0,
				   vector == VEC_BP || vector == VEC_OF ? b->next_rip : v->rip);
	}
}

enum exec_op svm_vmrun(struct exec *x, gpa_t at)
{
	struct vcpu *v = x->v;
	struct svm_vcpu *s = v->svm.state;
	const struct svm_limits limits = {
		.efer_valid = v->cpuid->efer_valid, .cr4_valid = v->cpuid->cr4_valid, .phys_bits = CPU_PHYS_BITS, .host_paging = v->cr0 & CR0_PG,
		.nested_paging = true,
	};

	if (memory_read(v->memory, at, &s->vmcb, sizeof(s->vmcb)))
		return exec_gp(x, 0);
	v->counters.vmruns++;
	s->at = at;
	save_host(x, &s->host);
	v->inhibit = 0;
	v->svm.gif_clear = false;
	v->svm.guest = true;
	v->svm.delivering = 0;
	s->vmcb.fetched = 0;
	s->pauses = s->vmcb.pause_count;
	s->paused_at = clock_tsc();
	if (svm_check(&s->vmcb, &limits)) {
		/* Nothing was loaded, so L1's own state must not be taken for L2's. */
		return svm_exit(v, VMCB_EXIT_INVALID, 0, 0, 0) == EXEC_NEXT ? OP_EVENT : OP_STOP;
	}
	load_guest(v, &s->vmcb);
	if (s->vmcb.int_ctl & VMCB_V_INTR_MASKING)
		v->svm.masking = s->host.rflags & FL_IF ? SVM_MASK_HOST_ON : SVM_MASK_HOST_OFF;
	atomic_fetch_or(&v->pending, REQ_INTERRUPT); /* masks and intercepts are others */
	if ((s->vmcb.eventinj & VMCB_EVENT_VALID) && inject(v, &s->vmcb) != EXEC_NEXT)
		return OP_STOP;
	return OP_EVENT;
}

/* ---- #VMEXIT ---- */

static void save_guest(const struct vcpu *v, struct vmcb *b)
{
	segment_out(&b->es, &v->seg[SEG_ES]);
	segment_out(&b->cs, &v->seg[SEG_CS]);
	segment_out(&b->ss, &v->seg[SEG_SS]);
	segment_out(&b->ds, &v->seg[SEG_DS]);
	table_out(&b->gdtr, &v->gdtr);
	table_out(&b->idtr, &v->idtr);
	b->cpl = v->cpl;
	b->efer = v->efer;
	b->cr0 = v->cr0;
	b->cr2 = v->cr2;
	b->cr3 = v->cr3;
	b->cr4 = v->cr4;
	b->dr6 = v->dr[6];
	b->dr7 = v->dr[7];
	b->rflags = v->rflags;
	b->rip = v->rip;
	b->rsp = v->gpr[RSP];
	b->rax = v->gpr[RAX];
	if (svm_nested_paging(v))
		b->g_pat = v->pat;
	b->int_state = (b->int_state & ~VMCB_INT_SHADOW) | (v->inhibit ? VMCB_INT_SHADOW : 0);
	b->int_ctl = (b->int_ctl & ~VMCB_V_TPR) | v->svm.v_tpr;
}

static void load_host(struct vcpu *v, const struct svm_host *h)
{
	control_leave_guest(v, h->cr0, h->cr3, h->cr4, h->efer);
	control_load_debug(v, v->dr[6], 0);
	v->seg[SEG_ES] = h->es;
	v->seg[SEG_CS] = h->cs;
	v->seg[SEG_SS] = h->ss;
	v->seg[SEG_DS] = h->ds;
	v->gdtr = h->gdtr;
	v->pat = h->pat;
	v->idtr = h->idtr;
	v->rflags = h->rflags;
	v->cpl = 0;
	v->rip = h->rip;
	v->gpr[RSP] = h->rsp;
	v->gpr[RAX] = h->rax;
}

/* What #VMEXIT writes, and how many of these a refused VMRUN writes, which has loaded no guest. */
#define WRITTEN_REFUSED 3
static const struct memory_part written[] = {
	PART(int_ctl, exitintinfo), PART(eventinj, eventinj), PART(next_rip, insn),
	PART(es, ds), PART(gdtr, gdtr), PART(idtr, idtr), PART(cpl, cpl), PART(efer, efer), PART(cr4, rip), PART(rsp, rsp), PART(rax, rax), PART(cr2, cr2), PART(g_pat, g_pat),
};

enum exec_result svm_exit(struct vcpu *v, uint64_t code, uint64_t info1, uint64_t info2, uint64_t next_rip)
{
	struct svm_vcpu *s = v->svm.state;
	struct vmcb *b = &s->vmcb;
	const gpa_t at = s->at;

	ASSERT(v->svm.guest);
	v->counters.vmexits++;
	b->exitcode = code;
	b->exitinfo1 = info1;
	b->exitinfo2 = info2;
	b->exitintinfo = v->svm.delivering;
	b->next_rip = next_rip;
	b->eventinj &= ~VMCB_EVENT_VALID;
	if (code != VMCB_EXIT_INVALID) {
		save_guest(v, b);
		load_host(v, &s->host);
	} else {
		v->rip = s->host.rip;
		v->rflags = s->host.rflags;
	}
	v->svm.guest = false;
	v->svm.gif_clear = true;
	v->svm.masking = SVM_MASK_RFLAGS;
	v->svm.tsc_offset = v->svm.delivering = 0;
	v->inhibit = v->halted = 0;
	v->debug_hits = 0;
	atomic_fetch_or(&v->pending, REQ_INTERRUPT);
	if (write_parts(v, at, b, written, code == VMCB_EXIT_INVALID ? WRITTEN_REFUSED : ARRAY_LEN(written))) {
		svm_no_room(v);
		return EXEC_STOP;
	}
	if (UNLIKELY(s->host.rflags & FL_TF)) { /* VMRUN is one instruction of L1, which ends here ("VMRUN and TF/RF Bits in EFLAGS") */
		struct exception db = exc_plain(VEC_DB);

		db.dr6 = DR6_BS;
		return exec_deliver(v, &db);
	}
	return EXEC_NEXT;
}
