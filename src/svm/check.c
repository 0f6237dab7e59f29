/*
 * check.c - the consistency checks of VMRUN. Each rule is a function of the copied VMCB, so that each can be tested alone.
 */
#include "svm/check.h"

#include "cpu/vcpu.h"

typedef bool broken(const struct vmcb *b, const struct svm_limits *l);

static bool beyond(uint64_t value, const struct svm_limits *l) { return value >> l->phys_bits; }
static bool long_mode(const struct vmcb *b) { return (b->efer & EFER_LME) && (b->cr0 & CR0_PG); }
static bool nested(const struct vmcb *b, const struct svm_limits *l) { return l->nested_paging && (b->np_enable & VMCB_NP_ENABLE); }

static bool no_svme(const struct vmcb *b, const struct svm_limits *l) { (void)l; return !(b->efer & EFER_SVME); }
static bool nw_without_cd(const struct vmcb *b, const struct svm_limits *l) { (void)l; return (b->cr0 & CR0_NW) && !(b->cr0 & CR0_CD); }
static bool cr0_high(const struct vmcb *b, const struct svm_limits *l) { (void)l; return b->cr0 >> 32; }
/* A CR3 that only 32 bits of count (no long mode) has no reserved ones. */
static bool cr3_reserved(const struct vmcb *b, const struct svm_limits *l) { return long_mode(b) && beyond(b->cr3, l); }
static bool cr4_reserved(const struct vmcb *b, const struct svm_limits *l) { return b->cr4 & ~l->cr4_valid; }
static bool dr6_high(const struct vmcb *b, const struct svm_limits *l) { (void)l; return b->dr6 >> 32; }
static bool dr7_high(const struct vmcb *b, const struct svm_limits *l) { (void)l; return b->dr7 >> 32; }
/* LMA follows from LME and PG; the bit as stored is not judged. */
static bool efer_reserved(const struct vmcb *b, const struct svm_limits *l) { return b->efer & ~(l->efer_valid | EFER_LMA); }
static bool long_without_pae(const struct vmcb *b, const struct svm_limits *l) { (void)l; return long_mode(b) && !(b->cr4 & CR4_PAE); }
static bool long_without_pe(const struct vmcb *b, const struct svm_limits *l) { (void)l; return long_mode(b) && !(b->cr0 & CR0_PE); }
static bool code_l_and_d(const struct vmcb *b, const struct svm_limits *l)
{
	(void)l;
	return long_mode(b) && (b->cr4 & CR4_PAE) && (b->cs.attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB);
}
static bool vmrun_not_intercepted(const struct vmcb *b, const struct svm_limits *l)
{
	(void)l;
	return !(b->intercept[VMCB_MISC2] & VMCB_MISC2_VMRUN);
}
static bool asid_zero(const struct vmcb *b, const struct svm_limits *l) { (void)l; return !b->asid; }

/* The maps' low 12 bits are ignored. The subtraction cannot wrap: phys_bits is far below 64. */
static bool map_beyond(uint64_t base, uint64_t bytes, const struct svm_limits *l)
{
	return (base & PAGE_MASK) > (1ull << l->phys_bits) - bytes;
}
static bool iopm_beyond(const struct vmcb *b, const struct svm_limits *l) { return map_beyond(b->iopm_base, VMCB_IOPM_BYTES, l); }
static bool msrpm_beyond(const struct vmcb *b, const struct svm_limits *l) { return map_beyond(b->msrpm_base, VMCB_MSRPM_BYTES, l); }

/* Vectors that are exceptions here: not the NMI's, not reserved ones, not those of features that are not offered (#CP, #HV, #VC). */
#define EXCEPTIONS (0x7dfbu | 0xfu << 16 | 1u << VEC_SX)

/* Reserved types; exceptions that are none, or impossible in the guest's mode: the manual's example, #BR in 64-bit mode. */
static bool bad_event(const struct vmcb *b, const struct svm_limits *l)
{
	unsigned type = VMCB_EVENT_TYPE(b->eventinj), vector = b->eventinj & VMCB_EVENT_VECTOR;

	(void)l;
	if (!(b->eventinj & VMCB_EVENT_VALID))
		return false;
	switch (type) {
	case VMCB_EVENT_INTR: case VMCB_EVENT_NMI: case VMCB_EVENT_SOFT:
		return false;
	case VMCB_EVENT_EXCEPTION:
		return vector > 31 || !(EXCEPTIONS >> vector & 1) || (vector == VEC_BR && long_mode(b) && (b->cs.attr & SEG_L));
	default:
		return true;
	}
}

static bool nested_without_paging(const struct vmcb *b, const struct svm_limits *l) { return nested(b, l) && !l->host_paging; }
static bool ncr3_reserved(const struct vmcb *b, const struct svm_limits *l) { return nested(b, l) && beyond(b->n_cr3, l); }
static bool pat_type(const struct vmcb *b, const struct svm_limits *l)
{
	if (!nested(b, l))
		return false;
	for (unsigned i = 0; i < 8; i++) {
		unsigned type = (b->g_pat >> (8 * i)) & 0xff;

		if (type > 7 || type == 2 || type == 3)
			return true;
	}
	return false;
}

static const struct { broken *broken; const char *rule; } rules[] = {
	{ no_svme, "EFER.SVME is zero" },
	{ nw_without_cd, "CR0.CD is zero and CR0.NW is set" },
	{ cr0_high, "CR0[63:32] are not zero" },
	{ cr3_reserved, "a reserved bit of CR3 is set" },
	{ cr4_reserved, "a reserved bit of CR4 is set" },
	{ dr6_high, "DR6[63:32] are not zero" },
	{ dr7_high, "DR7[63:32] are not zero" },
	{ efer_reserved, "a reserved bit of EFER is set" },
	{ long_without_pae, "EFER.LME and CR0.PG are set and CR4.PAE is zero" },
	{ long_without_pe, "EFER.LME and CR0.PG are set and CR0.PE is zero" },
	{ code_l_and_d, "EFER.LME, CR0.PG, CR4.PAE, CS.L and CS.D are all set" },
	{ vmrun_not_intercepted, "VMRUN is not intercepted" },
	{ iopm_beyond, "the I/O permission map extends beyond physical memory" },
	{ msrpm_beyond, "the MSR permission map extends beyond physical memory" },
	{ bad_event, "the event to inject is illegal" },
	{ asid_zero, "the ASID is zero" },
	{ nested_without_paging, "nested paging is asked for with paging off" },
	{ ncr3_reserved, "a reserved bit of N_CR3 is set" },
	{ pat_type, "G_PAT holds a reserved memory type" },
};

const char *svm_check(const struct vmcb *b, const struct svm_limits *limits)
{
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		if (rules[i].broken(b, limits))
			return rules[i].rule;
	return NULL;
}
