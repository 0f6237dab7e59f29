/*
 * cpuid.c - the processor as Xen shows it to a paravirtualized guest: what a PV guest cannot have is hidden (xen/arch-x86/cpufeatureset.h marks what
 * it may have with A), and the hypervisor's leaves are Xen's (xen/arch-x86/cpuid.h).
 */
#include "base/clock.h"
#include "cpu/cpuid.h"
#include "xen/xen_internal.h"

#include <xen/arch-x86/cpuid.h>

static const struct hidden_row { uint32_t leaf, sub; uint32_t eax, ebx, ecx, edx; } hidden[] = {
#define BIT(n) (1u << (n))
	/* MONITOR, PCID, x2APIC, TSC deadline; VME, PSE, MTRR, PGE, PSE36 */
	{ 1, 0, 0, 0, BIT(3) | BIT(17) | BIT(21) | BIT(24), BIT(1) | BIT(3) | BIT(12) | BIT(13) | BIT(17) },
	/* SMEP, INVPCID, SMAP; UMIP, PKU, LA57 */
	{ 7, 0, 0, BIT(7) | BIT(10) | BIT(20), BIT(2) | BIT(3) | BIT(16), 0 },
	{ 0xd, 1, BIT(3), 0, 0, 0 },	/* XSAVES */
	/* SVM; PSE, MTRR, PGE, PSE36, 1 GiB pages */
	{ 0x80000001, 0, 0, 0, BIT(2), BIT(3) | BIT(12) | BIT(13) | BIT(17) | BIT(26) },
#undef BIT
};

static void set(uint32_t reg[4], uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	reg[0] = a, reg[1] = b, reg[2] = c, reg[3] = d;
}

static void hypervisor(struct vcpu *v, uint32_t leaf, uint32_t sub, uint32_t reg[4])
{
	const struct xen *xen = xen_vcpu_of(v)->xen;

	set(reg, 0, 0, 0, 0);
	switch (leaf - XEN_CPUID_FIRST_LEAF) {
	case 0:
		set(reg, XEN_CPUID_FIRST_LEAF + 5, XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX);
		break;
	case 1:
		reg[0] = XEN_VERSION_MAJOR << 16 | XEN_VERSION_MINOR;
		break;
	case 2: /* no pages to be filled through an MSR: a PV guest's is filled when it is loaded */
		reg[2] = XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD;
		break;
	case 3:
		if (sub == 0) /* the TSC is the host's and never emulated; its frequency */
			set(reg, 1u << 1 | 1u << 2, 2, (uint32_t)clock_tsc_khz(), 0);
		else if (sub == 1)
			set(reg, 0, 0, xen->tsc_mul, (uint32_t)(int32_t)xen->tsc_shift);
		break;
	case 5:
		if (sub == 0)
			reg[1] = CPU_PHYS_BITS;
		break;
	default:
		break;
	}
}

void xen_cpuid(struct vcpu *v, uint32_t leaf, uint32_t sub, uint32_t reg[4])
{
	if (leaf >= XEN_CPUID_FIRST_LEAF && leaf <= XEN_CPUID_FIRST_LEAF + 0xffff) {
		if (leaf - XEN_CPUID_FIRST_LEAF <= 5)
			hypervisor(v, leaf, sub, reg);
		else
			set(reg, 0, 0, 0, 0);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(hidden); i++) {
		if (hidden[i].leaf != leaf || ((leaf == 7 || leaf == 0xd) && hidden[i].sub != sub))
			continue;
		reg[0] &= ~hidden[i].eax;
		reg[1] &= ~hidden[i].ebx;
		reg[2] &= ~hidden[i].ecx;
		reg[3] &= ~hidden[i].edx;
	}
}
