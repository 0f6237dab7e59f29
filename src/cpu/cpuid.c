/*
 * cpuid.c - the offered processor (cpuid.h).
 *
 * It calls itself an AMD family 1Ah processor: SVM, not VMX, is what a hypervisor in the guest will find, and its
 * guests' kernels need none of the mitigations that cost a translator most (untrained return thunks, page-table isolation);
 * AutomaticIBRS spares them retpolines. What needs speculation-control MSRs is not offered.
 */
#include "cpu/cpuid.h"

#include <cpuid.h>
#include <pthread.h>
#include "cpu/personality.h"
#include "x86/insn.h"

enum source { HOST, OURS, REQUEST /* + enum cpu_offer */ };
#define NO_FEATURE 0xff

struct feature_row { uint32_t leaf, sub; uint8_t reg, bit, source, feature; };

#define F(leaf, sub, reg, bit, source, name) { leaf, sub, CPUID_##reg, bit, source, FEAT_##name }
#define B(leaf, sub, reg, bit, source) { leaf, sub, CPUID_##reg, bit, source, NO_FEATURE }

static const struct feature_row features[] = {
	F(1, 0, ECX, 0, HOST, SSE3), F(1, 0, ECX, 1, HOST, PCLMUL), F(1, 0, ECX, 9, HOST, SSSE3), F(1, 0, ECX, 12, HOST, FMA),
	F(1, 0, ECX, 13, HOST, CX16), B(1, 0, ECX, 17, OURS) /* PCID */, F(1, 0, ECX, 19, HOST, SSE41), F(1, 0, ECX, 20, HOST, SSE42),
	B(1, 0, ECX, 21, OURS) /* x2APIC */, F(1, 0, ECX, 22, HOST, MOVBE), F(1, 0, ECX, 23, HOST, POPCNT),
	B(1, 0, ECX, 24, OURS) /* TSC deadline */, F(1, 0, ECX, 25, HOST, AES), F(1, 0, ECX, 26, HOST, XSAVE),
	F(1, 0, ECX, 28, HOST, AVX), F(1, 0, ECX, 29, HOST, F16C), F(1, 0, ECX, 30, HOST, RDRAND), B(1, 0, ECX, 31, OURS) /* hypervisor */,
	B(1, 0, EDX, 0, HOST) /* FPU */, B(1, 0, EDX, 2, OURS) /* DE */, B(1, 0, EDX, 3, OURS) /* PSE */, B(1, 0, EDX, 4, OURS) /* TSC */,
	B(1, 0, EDX, 5, OURS) /* MSR */, B(1, 0, EDX, 6, OURS) /* PAE */, B(1, 0, EDX, 8, HOST) /* CMPXCHG8B */,
	B(1, 0, EDX, 9, OURS) /* APIC */, F(1, 0, EDX, 11, OURS, SYSENTER), B(1, 0, EDX, 12, OURS) /* MTRR */, B(1, 0, EDX, 13, OURS) /* PGE */,
	B(1, 0, EDX, 15, HOST) /* CMOV */, B(1, 0, EDX, 16, OURS) /* PAT */, B(1, 0, EDX, 17, OURS) /* PSE36 */,
	B(1, 0, EDX, 19, HOST) /* CLFLUSH */, B(1, 0, EDX, 23, HOST) /* MMX */, B(1, 0, EDX, 24, HOST) /* FXSR */,
	B(1, 0, EDX, 25, HOST) /* SSE */, B(1, 0, EDX, 26, HOST) /* SSE2 */,
	B(6, 0, EAX, 2, OURS) /* ARAT */,
	F(7, 0, EBX, 0, OURS, FSGSBASE), F(7, 0, EBX, 3, HOST, BMI1), F(7, 0, EBX, 5, HOST, AVX2), B(7, 0, EBX, 7, OURS) /* SMEP */,
	F(7, 0, EBX, 8, HOST, BMI2), B(7, 0, EBX, 9, HOST) /* ERMS */, F(7, 0, EBX, 10, OURS, INVPCID), F(7, 0, EBX, 18, HOST, RDSEED),
	F(7, 0, EBX, 19, HOST, ADX), F(7, 0, EBX, 20, OURS, SMAP), F(7, 0, EBX, 23, OURS, CLFLUSHOPT), F(7, 0, EBX, 24, OURS, CLWB),
	F(7, 0, EBX, 29, HOST, SHA), B(7, 0, ECX, 2, OURS) /* UMIP */, B(7, 0, ECX, 16, REQUEST + CPU_OFFER_LA57), F(7, 0, ECX, 8, HOST, GFNI), F(7, 0, ECX, 9, HOST, VAES),
	F(7, 0, ECX, 10, HOST, VPCLMUL), F(7, 0, ECX, 22, OURS, RDPID), F(7, 0, ECX, 27, HOST, MOVDIRI), F(7, 0, ECX, 28, OURS, MOVDIR64B),
	B(7, 0, EDX, 4, HOST) /* FSRM */, F(7, 1, EAX, 4, HOST, AVX_VNNI),
	F(0xd, 1, EAX, 0, HOST, XSAVEOPT), F(0xd, 1, EAX, 1, HOST, XSAVEC), B(0xd, 1, EAX, 2, HOST) /* XGETBV with ECX 1 */,
	B(0x80000001, 0, ECX, 0, HOST) /* LAHF in long mode */,
	F(0x80000001, 0, ECX, 2, REQUEST + CPU_OFFER_SVM, SVM), F(0x80000001, 0, ECX, 5, HOST, LZCNT), F(0x80000001, 0, ECX, 6, HOST, SSE4A), B(0x80000001, 0, ECX, 7, HOST) /* misaligned SSE */,
	F(0x80000001, 0, ECX, 8, HOST, PREFETCHW), B(0x80000001, 0, EDX, 11, OURS) /* SYSCALL */, B(0x80000001, 0, EDX, 20, OURS) /* NX */,
	B(0x80000001, 0, EDX, 22, HOST) /* MMX extensions */, B(0x80000001, 0, EDX, 26, OURS) /* 1 GiB pages */,
	F(0x80000001, 0, EDX, 27, OURS, RDTSCP), B(0x80000001, 0, EDX, 29, OURS) /* long mode */,
	B(0x80000007, 0, EDX, 8, OURS) /* invariant TSC */,
	B(0x80000008, 0, EBX, 2, OURS) /* FXSAVE stores error pointers always */, B(0x80000008, 0, EBX, 26, OURS) /* no store bypass */,
	B(0x8000000a, 0, EDX, 0, REQUEST + CPU_OFFER_SVM) /* nested paging */, B(0x8000000a, 0, EDX, 5, REQUEST + CPU_OFFER_SVM) /* VMCB clean bits */,
	B(0x8000000a, 0, EDX, 4, REQUEST + CPU_OFFER_SVM) /* TSC ratio */, B(0x8000000a, 0, EDX, 15, REQUEST + CPU_OFFER_SVM) /* virtual VMLOAD and VMSAVE */, B(0x8000000a, 0, EDX, 16, REQUEST + CPU_OFFER_SVM) /* virtual GIF */,
	B(0x8000000a, 0, EDX, 10, REQUEST + CPU_OFFER_SVM) /* pause filter */, B(0x8000000a, 0, EDX, 12, REQUEST + CPU_OFFER_SVM) /* its threshold */, B(0x8000000a, 0, EDX, 7, REQUEST + CPU_OFFER_SVM) /* decode assists */, B(0x8000000a, 0, EDX, 3, REQUEST + CPU_OFFER_SVM) /* NRIP save */, B(0x8000000a, 0, EDX, 6, REQUEST + CPU_OFFER_SVM) /* FlushByAsid */,
	B(0x80000021, 0, EAX, 0, OURS) /* nested data breakpoints ignored */, B(0x80000021, 0, EAX, 2, OURS) /* LFENCE serializes */,
	B(0x80000021, 0, EAX, 6, OURS) /* null selector clears base */, B(0x80000021, 0, EAX, 8, OURS) /* AutomaticIBRS */,
	B(0x80000021, 0, EAX, 29, OURS) /* SRSO_NO */, B(0x80000021, 0, EAX, 30, OURS) /* SRSO_USER_KERNEL_NO */,
	B(0x80000021, 0, ECX, 1, OURS) /* TSA_SQ_NO */, B(0x80000021, 0, ECX, 2, OURS) /* TSA_L1_NO */,
};

/* Features that make no sense without AVX state in XCR0. */
#define NEEDS_AVX (FEATURE(AVX) | FEATURE(FMA) | FEATURE(F16C) | FEATURE(AVX2) | FEATURE(VAES) | FEATURE(VPCLMUL) | FEATURE(AVX_VNNI))

#define L3_MAX_512K 64u	/* 32 MiB */

/* family 1Ah, model 2, stepping 1; 80000001 EDX repeats these bits of leaf 1 EDX. */
#define SIGNATURE 0x00b00f21u
#define EXT_EDX_COPIES 0x0183f3ffu

#define KVM_FEATURES (1u << 1 /* no I/O delay */ | 1u << 3 /* clock source, MSRs 4B564D00h */ | 1u << 24 /* stable */)

const struct cpu_offer_row cpu_offers[CPU_OFFERS] = {
	[CPU_OFFER_LA57] = { "la57", "5-level paging: linear addresses of 57 bits" },
	[CPU_OFFER_SVM] = { "svm", "AMD SVM: the guest may be a hypervisor" },
};

static struct cpuid_policy policies[1u << CPU_OFFERS];
static bool ready;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint32_t *row_of(struct cpuid_policy *p, uint32_t leaf, uint32_t sub)
{
	for (unsigned i = 0; i < p->rows; i++)
		if (p->row[i].leaf == leaf && p->row[i].sub == sub)
			return p->row[i].reg;
	ASSERT(p->rows < CPUID_MAX_ROWS);
	p->row[p->rows] = (struct cpuid_row){ .leaf = leaf, .sub = sub };
	return p->row[p->rows++].reg;
}

static void put_row(struct cpuid_policy *p, uint32_t leaf, uint32_t sub, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	uint32_t *reg = row_of(p, leaf, sub);

	reg[0] |= a;
	reg[1] |= b;
	reg[2] |= c;
	reg[3] |= d;
}

static void host_cpuid(uint32_t leaf, uint32_t sub, uint32_t reg[4])
{
	reg[0] = reg[1] = reg[2] = reg[3] = 0;
	if (leaf <= (uint32_t)__get_cpuid_max(leaf & 0x80000000u, NULL))
		__cpuid_count(leaf, sub, reg[0], reg[1], reg[2], reg[3]);
}

static uint64_t host_xcr0(void)
{
	uint32_t reg[4], low, high;

	host_cpuid(1, 0, reg);
	if (!(reg[CPUID_ECX] & 1u << 27)) /* OSXSAVE */
		return 0;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low | (uint64_t)high << 32;
}

static uint32_t text(const char *s) { return load_u32(s); }

static void build_features(struct cpuid_policy *p, unsigned offers)
{
	for (size_t i = 0; i < ARRAY_LEN(features); i++) {
		const struct feature_row *f = &features[i];
		uint32_t host[4], *reg;

		host_cpuid(f->leaf, f->sub, host);
		if (f->source == HOST && !(host[f->reg] >> f->bit & 1))
			continue;
		if (f->source >= REQUEST && !(offers >> (f->source - REQUEST) & 1))
			continue;
		if (f->feature != NO_FEATURE && ((NEEDS_AVX >> f->feature) & 1) && !(p->xcr0 & XCR0_AVX))
			continue;
		reg = row_of(p, f->leaf, f->sub);
		reg[f->reg] |= 1u << f->bit;
		if (f->feature != NO_FEATURE)
			p->features |= 1ull << f->feature;
		if (f->feature != NO_FEATURE && (host[f->reg] >> f->bit & 1))
			p->host_features |= 1ull << f->feature;
	}
}

static void build_other_rows(struct cpuid_policy *p)
{
	static const char brand[48] = "Trifold virtual processor";
	uint32_t host[4], avx = p->xcr0 & XCR0_AVX ? 1 : 0;

	put_row(p, 0, 0, 0xd, text("Auth"), text("cAMD"), text("enti"));
	put_row(p, 1, 0, SIGNATURE, 8u << 8 | 1u << 16, 0, 0);
	put_row(p, 7, 0, 1, 0, 0, 0);
	put_row(p, 0xb, 0, 0, 1, 0x100, 0);
	put_row(p, 0xb, 1, 0, 1, 0x201, 0);
	put_row(p, 0xd, 0, (uint32_t)p->xcr0, 0, avx ? 832 : 576, 0);
	put_row(p, 0xd, 1, 0, avx ? 832 : 576, 0, 0);
	if (avx)
		put_row(p, 0xd, 2, 256, 576, 0, 0);
	put_row(p, 0x40000000, CPUID_ANY_SUB, 0x40000001, text("KVMK"), text("VMKV"), text("M\0\0\0"));
	put_row(p, 0x40000001, CPUID_ANY_SUB, KVM_FEATURES, 0, 0, 0);
	put_row(p, 0x80000000, 0, 0x80000021, text("Auth"), text("cAMD"), text("enti"));
	put_row(p, 0x80000001, 0, SIGNATURE, 0, 0, row_of(p, 1, 0)[CPUID_EDX] & EXT_EDX_COPIES);
	for (uint32_t i = 0; i < 3; i++)
		put_row(p, 0x80000002 + i, 0, text(brand + 16 * i), text(brand + 16 * i + 4), text(brand + 16 * i + 8), text(brand + 16 * i + 12));
	for (uint32_t leaf = 0x80000005; leaf <= 0x80000006; leaf++) { /* caches and TLBs: the host's */
		host_cpuid(leaf, 0, host);
		/* A server's level 3 is everybody's: programs size buffers and copies by what they take for their own. */
		if (leaf == 0x80000006 && host[3] >> 18 > L3_MAX_512K)
			host[3] = (host[3] & 0x3ffff) | L3_MAX_512K << 18;
		put_row(p, leaf, 0, host[0], host[1], host[2], host[3]);
	}
	put_row(p, 0x80000008, 0, CPU_PHYS_BITS | p->va_bits << 8, 0, 0, 0);
	if (p->features & FEATURE(SVM))
		put_row(p, 0x8000000a, 0, 1 /* revision */, SVM_ASIDS, 0, 0);
}

static void build(void)
{
	uint64_t host = host_xcr0();

	if ((host & (XCR0_X87 | XCR0_SSE)) != (XCR0_X87 | XCR0_SSE))
		return;
	for (unsigned offers = 0; offers < ARRAY_LEN(policies); offers++) {
		struct cpuid_policy *p = &policies[offers];
		bool la57 = offers >> CPU_OFFER_LA57 & 1;

		p->xcr0 = host & (XCR0_X87 | XCR0_SSE | XCR0_AVX);
		p->va_bits = la57 ? VA_BITS_5LEVEL : VA_BITS_4LEVEL;
		build_features(p, offers);
		build_other_rows(p);
		p->cr4_valid = CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE |
			       CR4_PCIDE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP | (la57 ? CR4_LA57 : 0);
		p->efer_valid = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_AUTOIBRS | (p->features & FEATURE(SVM) ? EFER_SVME : 0);
	}
	ready = true;
}

const struct cpuid_policy *cpuid_policy_get(unsigned offers)
{
	ASSERT(offers < ARRAY_LEN(policies));
	pthread_once(&once, build);
	return ready ? &policies[offers] : NULL;
}

void cpuid_read(struct vcpu *v, uint32_t leaf, uint32_t sub, uint32_t reg[4])
{
	const struct cpuid_policy *p = v->cpuid;

	reg[0] = reg[1] = reg[2] = reg[3] = 0;
	for (unsigned i = 0; i < p->rows; i++) {
		const struct cpuid_row *r = &p->row[i];
		bool has_subs = r->leaf == 7 || r->leaf == 0xb || r->leaf == 0xd;

		if (r->leaf != leaf || (has_subs && r->sub != sub))
			continue;
		for (unsigned n = 0; n < 4; n++)
			reg[n] = r->reg[n];
		break;
	}
	switch (leaf) {
	case 1:
		reg[CPUID_EBX] |= v->id << 24;
		if (v->cr4 & CR4_OSXSAVE)
			reg[CPUID_ECX] |= 1u << 27;
		if (!(v->lapic.base_msr & LAPIC_BASE_ENABLE))
			reg[CPUID_EDX] &= ~(1u << 9);
		break;
	case 0xb:
		reg[CPUID_ECX] = (reg[CPUID_ECX] & 0xff00) | (sub & 0xff);
		reg[CPUID_EDX] = v->id;
		break;
	case 0xd:
		if (sub < 2) /* standard and compacted size for the present XCR0 */
			reg[CPUID_EBX] = v->xcr0 & XCR0_AVX ? 832 : 576;
		break;
	default:
		break;
	}
	if (v->personality->cpuid)
		v->personality->cpuid(v, leaf, sub, reg);
}

void cpuid_execute(struct vcpu *v)
{
	uint32_t reg[4];

	v->counters.cpuids++;
	cpuid_read(v, (uint32_t)v->gpr[RAX], (uint32_t)v->gpr[RCX], reg);
	v->gpr[RAX] = reg[CPUID_EAX];
	v->gpr[RBX] = reg[CPUID_EBX];
	v->gpr[RCX] = reg[CPUID_ECX];
	v->gpr[RDX] = reg[CPUID_EDX];
}
