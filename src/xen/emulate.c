/*
 * emulate.c - privileged instructions that the guest executes at CPL 3 all the same. A processor refuses them with #GP(0); these few are then done for
 * the guest's kernel, and port accesses also for programs that it let at ports: IN, OUT, INS, OUTS, CLTS, INVLPG, WBINVD, MOV to and from control and debug
 * registers, RDMSR, WRMSR, RDTSC, RDTSCP, XSETBV, and CLI and STI, which do nothing. Everything else stays refused. And CPUID behind
 * the prefix that asks for emulation (XEN_EMULATE_PREFIX), which looks like UD2.
 */
#include "cpu/access.h"
#include "cpu/cpuid.h"
#include "cpu/msr.h"
#include "xen/page.h"
#include "xen/xen_internal.h"

/* What a guest may change in CR4, and what it sees besides. */
#define CR4_GUEST (CR4_TSD | CR4_DE | CR4_FSGSBASE | CR4_OSXSAVE)
#define CR4_SHOWN (CR4_GUEST | CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT)

static void taskswitch(struct xen_vcpu *xv, bool set)
{
	xv->ctrlreg0 = (xv->ctrlreg0 & ~CR0_TS) | (set ? CR0_TS : 0);
	xv->v->cr0 = (xv->v->cr0 & ~CR0_TS) | (set ? CR0_TS : 0);
}

int64_t xen_do_fpu_taskswitch(struct xen_call *c)
{
	taskswitch(c->xv, c->arg[0]);
	return 0;
}

static enum exec_op from_cr(struct exec *x)
{
	struct vcpu *v = x->v;
	struct xen_vcpu *xv = xen_vcpu_of(v);

	switch (x->in->reg2) {
	case 0: v->gpr[x->in->reg] = xv->ctrlreg0; break;
	case 2: v->gpr[x->in->reg] = xv->info->arch.cr2; break;
	case 3: v->gpr[x->in->reg] = v->mmu.cr3; break;
	case 4: v->gpr[x->in->reg] = v->cr4 & CR4_SHOWN; break;
	default: return OP_FAULT;
	}
	return OP_DONE;
}

/* As MMUEXT_NEW_BASEPTR. What cannot be finished at once is made again, after events had their chance. */
static enum exec_op load_base(struct exec *x, uint64_t cr3)
{
	struct vcpu *v = x->v;
	struct xen_vcpu *xv = xen_vcpu_of(v);
	int err;

	xv->xen->pages->budget = xv->xen->pages->round;
	err = xen_new_root(xv, mfn(cr3 >> PAGE_SHIFT), false);
	if (err == -PV_AGAIN) {
		x->next = v->rip;
		return OP_DONE;
	}
	if (err)
		return OP_FAULT;
	xen_ldt_forget(xv);
	return OP_DONE;
}

static enum exec_op to_cr(struct exec *x)
{
	struct vcpu *v = x->v;
	struct xen_vcpu *xv = xen_vcpu_of(v);
	uint64_t value = v->gpr[x->in->reg];

	switch (x->in->reg2) {
	case 0:
		if ((value ^ xv->ctrlreg0) & ~CR0_TS)
			return OP_FAULT;
		taskswitch(xv, value & CR0_TS);
		break;
	case 2:
		xv->info->arch.cr2 = v->cr2 = value;
		break;
	case 3:
		return load_base(x, value);
	case 4:
		v->cr4 = (v->cr4 & ~CR4_GUEST) | (value & CR4_GUEST & v->cpuid->cr4_valid);
		break;
	default:
		return OP_FAULT;
	}
	return OP_DONE;
}

static enum exec_op do_clts(struct exec *x)
{
	taskswitch(xen_vcpu_of(x->v), false);
	return OP_DONE;
}

static enum exec_op nothing(struct exec *x)
{
	(void)x;
	return OP_DONE;
}

/* The registers that a guest may reach by RDMSR and WRMSR; the rest are Xen's or do not exist. */
static const struct msr_row { uint32_t number; bool write; } msrs[] = {
	{ MSR_FS_BASE, true }, { MSR_GS_BASE, true }, { MSR_KERNEL_GS_BASE, true }, { MSR_EFER, false }, { MSR_PAT, false }, { MSR_TSC, false },
	{ MSR_TSC_AUX, false }, { MSR_PATCH_LEVEL, false }, { 0xc0010010, false }, { 0xc0010015, false }, { 0xc001001f, false }, { 0xc0010055, false },
	{ 0xc0011020, false }, { 0xc0011029, false },
};

static const struct msr_row *msr_find(uint32_t number)
{
	for (size_t i = 0; i < ARRAY_LEN(msrs); i++)
		if (msrs[i].number == number)
			return &msrs[i];
	return NULL;
}

static enum exec_op do_rdmsr(struct exec *x)
{
	struct vcpu *v = x->v;
	uint64_t value;

	if (!msr_find((uint32_t)v->gpr[RCX]) || !msr_read(v, (uint32_t)v->gpr[RCX], &value))
		return OP_FAULT;
	v->gpr[RAX] = (uint32_t)value;
	v->gpr[RDX] = value >> 32;
	return OP_DONE;
}

/* Writing what is there already is allowed everywhere. */
static enum exec_op do_wrmsr(struct exec *x)
{
	struct vcpu *v = x->v;
	const struct msr_row *r = msr_find((uint32_t)v->gpr[RCX]);
	uint64_t value = (uint32_t)v->gpr[RAX] | v->gpr[RDX] << 32, old;

	if (!r || (!r->write && (!msr_read(v, r->number, &old) || old != value)))
		return OP_FAULT;
	return !r->write || msr_write(v, r->number, value) ? OP_DONE : OP_FAULT;
}

/* As on a bare processor with the privilege for it. */
static enum exec_op as_kernel(struct exec *x) { return exec_privileged(x, 0); }

static bool ports_allowed(struct xen_vcpu *xv, uint16_t port, unsigned size)
{
	uint16_t bits = 0;

	if (xv->iopl >= (xv->v->ring3_kernel ? 1 : 3))
		return true;
	if (!xv->iobitmap || port + size > xv->iobitmap_ports)
		return false;
	if (xen_copy_from_guest(xv->v, &bits, xv->iobitmap + port / 8, port / 8 == (port + size - 1) / 8 ? 1 : 2))
		return false;
	return !(bits >> (port & 7) & ((1u << size) - 1));
}

static enum exec_op do_port(struct exec *x)
{
	struct vcpu *v = x->v;
	bool string = x->in->cls == INSN_INS || x->in->cls == INSN_OUTS;
	bool by_dx = string || x->in->opcode >= 0xec;
	unsigned size = !(x->in->opcode & 1) ? 1 : x->in->opsize == 2 ? 2 : 4;

	if (!ports_allowed(xen_vcpu_of(v), by_dx ? (uint16_t)v->gpr[RDX] : (uint8_t)x->in->imm, size))
		return OP_FAULT;
	return exec_privileged(x, FL_IOPL);
}

static const struct refused_row {
	uint8_t cls;
	bool user;	/* for user code too */
	enum exec_op (*run)(struct exec *x);
} rows[] = {
	{ INSN_RDMSR, false, do_rdmsr }, { INSN_WRMSR, false, do_wrmsr },
	{ INSN_MOV_FROM_CR, false, from_cr }, { INSN_MOV_TO_CR, false, to_cr }, { INSN_CLTS, false, do_clts },
	{ INSN_MOV_FROM_DR, false, as_kernel }, { INSN_MOV_TO_DR, false, as_kernel },
	{ INSN_INVLPG, false, as_kernel }, { INSN_WBINVD, false, nothing }, { INSN_RDTSC, false, as_kernel }, { INSN_RDTSCP, false, as_kernel }, { INSN_XSETBV, false, as_kernel },
	{ INSN_IN, true, do_port }, { INSN_OUT, true, do_port }, { INSN_INS, true, do_port }, { INSN_OUTS, true, do_port },
};

/* UD2 and "xen", then CPUID. */
static enum exec_op forced(struct exec *x)
{
	static const uint8_t cpuid[] = { 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2 };
	struct vcpu *v = x->v;
	uint8_t bytes[sizeof(cpuid)];
	struct exception ignored;

	if (vmem_read(v, v->rip, bytes, sizeof(bytes), vmem_data(v) | VMEM_NO_ALIGN, &ignored) != VMEM_OK)
		return OP_FAULT;
	for (unsigned i = 0; i < sizeof(cpuid); i++)
		if (bytes[i] != cpuid[i])
			return OP_FAULT;
	cpuid_execute(v);
	x->next = v->rip + sizeof(cpuid);
	return OP_DONE;
}

/* To the end: an instruction cannot be made again half done. */
static bool table_update(struct xen *xen, uint64_t at, uint64_t entry)
{
	int err = -PV_AGAIN;

	while (err == -PV_AGAIN) {
		xen->pages->budget = PV_BUDGET;
		if (!xen_pages_lock(xen))
			continue;
		err = pv_update(xen->pages, at, entry, false);
		memory_unlock(xen->memory);
	}
	return !err;
}

/*
 * A store of the guest's kernel to one of its level-1 tables, which it sees read-only: the entry is changed as a hypercall would, if the entry may be
 * (VMASST_TYPE_writable_pagetables). Whatever the instruction is, it runs on a copy of the entry.
 */
static enum exec_op table_store(struct exec *x)
{
	struct vcpu *v = x->v;
	struct xen_vcpu *xv = xen_vcpu_of(v);
	const uint64_t la = x->exc.cr2 & ~7ull;
	struct exception ignored;
	uint64_t entry;
	struct vmem_span span;
	enum exec_op op;
	uint64_t at;

	if (!(xv->assist & 1u << VMASST_TYPE_writable_pagetables) || vmem_map(v, la, 8, vmem_data(v) | ACC_READ | VMEM_NO_ALIGN, &span, &ignored) != VMEM_OK ||
	    !span.part[0].hva)
		return OP_FAULT;
	at = pool_mfn_of(&v->memory->pool, span.part[0].hva).v << PAGE_SHIFT | (la & ~PAGE_MASK);
	vmem_load(v, &span, &entry);
	if (xv->xen->pages->page[at >> PAGE_SHIFT].type != PV_L1)
		return OP_FAULT;
	op = exec_on_copy(x, la, &entry);
	if (op == OP_DONE && !table_update(xv->xen, at, entry))
		return OP_FAULT;
	return op;
}

enum exec_op xen_refused(struct exec *x)
{
	struct vcpu *v = x->v;
	struct xen_vcpu *xv = xen_vcpu_of(v);
	struct exception exc = x->exc;
	enum exec_op op = OP_FAULT;

	if (exc.vector == VEC_UD && x->in->cls == INSN_UD && vcpu_long64(v)) {
		op = forced(x);
	} else if (exc.vector == VEC_PF && v->ring3_kernel && (exc.error & (PF_P | PF_W)) == (PF_P | PF_W)) {
		op = table_store(x);
	} else if (exc.vector == VEC_GP && !exc.error) {
		if ((x->in->cls == INSN_CLI || x->in->cls == INSN_STI) && xv->iopl >= (v->ring3_kernel ? 1 : 3))
			op = OP_DONE;
		for (size_t i = 0; op == OP_FAULT && i < ARRAY_LEN(rows); i++)
			if (rows[i].cls == x->in->cls && (v->ring3_kernel || rows[i].user)) {
				op = rows[i].run(x);
				break;
			}
	}
	if (op == OP_FAULT) {
		/* A fault of the emulation itself (a page of INS) counts; another #GP is the one there was. */
		if (x->exc.vector == VEC_GP)
			x->exc = exc;
		return OP_FAULT;
	}
	xv->xen->counters.emulated++;
	return op;
}
