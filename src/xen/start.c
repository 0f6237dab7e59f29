/*
 * start.c - start of day: what a domain needs once its memory is filled and before its first vcpu runs.
 * Source: xen/xen.h, "Start-of-day memory layout"; xen/arch-x86/xen-x86_64.h, "The hypercall page".
 */
#include <errno.h>

#include "xen/xen_internal.h"

#define STUB_BYTES 32u
#define STUBS (PAGE_SIZE / STUB_BYTES)

static void write_m2p(struct xen *xen)
{
	const struct pool *pool = &xen->memory->pool;

	for (uint64_t i = 0; i < pool->frames; i++) {
		const struct frame *f = pool_frame(pool, mfn(i));

		if ((f->flags & (FRAME_ALLOCATED | FRAME_VMM)) == FRAME_ALLOCATED && i != xen->shared_m.v)
			xen_m2p_set(xen, mfn(i), f->gfn);
	}
}

/*
 * A call of stub n at 32n is hypercall n: RCX and R11, which SYSCALL overwrites, are saved. iret does not come back; its frame begins with what the stub
 * pushes.
 */
static int write_hypercall_page(struct vcpu *v, uint64_t va)
{
	static const uint8_t iret[] = { 0x51, 0x41, 0x53, 0x50, 0xb8, __HYPERVISOR_iret, 0, 0, 0, 0x0f, 0x05 };
	uint8_t stub[STUB_BYTES];

	for (unsigned n = 0; n < STUBS; n++) {
		const uint8_t call[] = { 0x51, 0x41, 0x53, 0xb8, (uint8_t)n, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3 };
		const bool is_iret = n == __HYPERVISOR_iret;

		fill_bytes(stub, 0xcc, sizeof(stub));
		for (unsigned i = 0; i < (is_iret ? sizeof(iret) : sizeof(call)); i++)
			stub[i] = is_iret ? iret[i] : call[i];
		if (xen_copy_to_guest(v, va + n * STUB_BYTES, stub, sizeof(stub)))
			return -EINVAL;
	}
	return 0;
}

static void set_registers(struct vcpu *v, const struct xen_boot *boot)
{
	for (unsigned i = 0; i < ARRAY_LEN(v->gpr); i++)
		v->gpr[i] = 0;
	for (unsigned i = 0; i < SEG_COUNT; i++)
		v->seg[i] = (struct segment){ 0 };
	/* No task state: port accesses are always refused, and then asked about (emulate.c). */
	v->tr = (struct segment){ 0 };
	v->idtr = (struct table_reg){ 0 };
	v->cr0 = CR0_PE | CR0_PG | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM;
	v->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | (v->cpuid->cr4_valid & (CR4_OSXSAVE | CR4_FSGSBASE));
	v->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	v->cpl = 3;
	v->ring3_kernel = 1;
	segment_set_flat_code(v, FLAT_KERNEL_CS64, 3, true);
	segment_set_flat_stack(v, FLAT_KERNEL_SS64, 3);
	v->rflags = FL_R1 | FL_IF;
	v->rip = boot->rip;
	v->gpr[RSI] = boot->rsi;
	v->gpr[RSP] = boot->rsp;
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	v->cr3 = boot->root.v << PAGE_SHIFT;
	mmu_set_cr3(&v->mmu, v->cr3);
}

int xen_start(struct xen *xen, const struct xen_boot *boot)
{
	struct xen_vcpu *xv = &xen->vcpu[0];
	int err;

	write_m2p(xen);
	err = xen_pages_start(xen, boot->root);
	if (err)
		return err;
	for (unsigned i = 0; i < ARRAY_LEN(boot->ring); i++)
		if (mfn_valid(boot->ring[i]) && !xen_hold_writable(xen, boot->ring[i]))
			return -EINVAL;
	set_registers(xv->v, boot);
	xv->kernel_ss = FLAT_KERNEL_SS64;
	xv->kernel_sp = boot->rsp;
	xen_time_start(xen);
	return boot->hypercall_page ? write_hypercall_page(xv->v, boot->hypercall_page) : 0;
}
