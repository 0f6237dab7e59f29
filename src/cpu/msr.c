/* msr.c - the table of model-specific registers (msr.h). Hot ones first: the search is linear. */
#include "cpu/msr.h"

#include "base/clock.h"
#include "cpu/exec_internal.h"
#include "cpu/kvmclock.h"
#include "cpu/lapic.h"
#include "x86/regs.h"

enum plain_msr { PLAIN_SYSCFG, PLAIN_HWCR, PLAIN_DE_CFG, PLAIN_INT_PENDING, PLAIN_DEBUGCTL, PLAIN_LS_CFG, PLAIN_NB_CFG, PLAIN_COUNT };
_Static_assert(PLAIN_COUNT <= VCPU_PLAIN_MSRS, "plain MSRs fit");

#define HWCR_TSC_FREQ_SEL (1ull << 24)

struct msr_row {
	uint32_t number;
	uint16_t offset;	/* in struct vcpu, if there are no functions */
	bool canonical;		/* the value must be a canonical address */
	uint64_t valid;		/* bits that may be set */
	bool (*read)(struct vcpu *v, uint64_t *value);
	bool (*write)(struct vcpu *v, uint64_t value);
};

static bool read_tsc(struct vcpu *v, uint64_t *value)
{
	*value = exec_read_tsc(v);
	return true;
}

/* Neither scale nor offset of guest mode touches what is written ("TSC Ratio MSR"). */
static bool write_tsc(struct vcpu *v, uint64_t value)
{
	uint64_t deadline = lapic_get_tsc_deadline(v);

	v->tsc_offset = value - clock_tsc();
	if (deadline)
		lapic_set_tsc_deadline(v, deadline);
	return true;
}

static bool read_deadline(struct vcpu *v, uint64_t *value)
{
	*value = lapic_get_tsc_deadline(v);
	return true;
}

static bool write_deadline(struct vcpu *v, uint64_t value)
{
	lapic_set_tsc_deadline(v, value);
	return true;
}

static bool read_apic_base(struct vcpu *v, uint64_t *value)
{
	*value = v->lapic.base_msr;
	return true;
}

static bool write_apic_base(struct vcpu *v, uint64_t value) { return lapic_write_base(v, value) == 0; }

static bool read_efer(struct vcpu *v, uint64_t *value)
{
	*value = v->efer;
	return true;
}

static bool write_pat(struct vcpu *v, uint64_t value)
{
	for (unsigned i = 0; i < 64; i += 8) {
		unsigned type = (value >> i) & 0xff;

		if (type > 7 || type == 2 || type == 3)
			return false;
	}
	v->pat = value;
	return true;
}

static bool read_pat(struct vcpu *v, uint64_t *value)
{
	*value = v->pat;
	return true;
}

static bool read_patch_level(struct vcpu *v, uint64_t *value)
{
	(void)v;
	*value = 0x0b002151;
	return true;
}

static bool read_zero(struct vcpu *v, uint64_t *value)
{
	(void)v;
	*value = 0;
	return true;
}

static bool write_ignored(struct vcpu *v, uint64_t value)
{
	(void)v;
	(void)value;
	return true;
}

static bool read_vm_cr(struct vcpu *v, uint64_t *value)
{
	*value = v->svm.vm_cr;
	return v->svm.ops;
}

/* LOCK holds itself and SVMDIS; SVMDIS cannot be set while SVM is on (AMD APM vol. 2, "VM_CR MSR"). */
static bool write_vm_cr(struct vcpu *v, uint64_t value)
{
	const uint64_t held = v->svm.vm_cr & VM_CR_LOCK ? VM_CR_LOCK | VM_CR_SVMDIS : 0;

	value = (value & ~held) | (v->svm.vm_cr & held);
	if (!v->svm.ops || ((value & VM_CR_SVMDIS) && (v->efer & EFER_SVME)))
		return false;
	v->svm.vm_cr = value;
	return true;
}

static bool read_hsave(struct vcpu *v, uint64_t *value)
{
	*value = v->svm.hsave;
	return v->svm.ops;
}

static bool write_hsave(struct vcpu *v, uint64_t value)
{
	if (!v->svm.ops || (value & ~PAGE_MASK) || value >> CPU_PHYS_BITS)
		return false;
	v->svm.hsave = value;
	return true;
}

static bool read_tsc_ratio(struct vcpu *v, uint64_t *value)
{
	*value = v->svm.tsc_ratio;
	return v->svm.ops;
}

static bool write_tsc_ratio(struct vcpu *v, uint64_t value)
{
	v->svm.tsc_ratio = value;
	return v->svm.ops;
}

#define VALUE(number, member, valid) { number, offsetof(struct vcpu, member), false, valid, NULL, NULL }
#define ADDRESS(number, member) { number, offsetof(struct vcpu, member), true, ~0ull, NULL, NULL }
#define PLAIN(number, id, valid) { number, offsetof(struct vcpu, msr) + 8 * PLAIN_##id, false, valid, NULL, NULL }
#define CALL(number, read, write) { number, 0, false, ~0ull, read, write }

static const struct msr_row rows[] = {
	CALL(MSR_TSC_DEADLINE, read_deadline, write_deadline),
	ADDRESS(MSR_FS_BASE, seg[SEG_FS].base),
	ADDRESS(MSR_GS_BASE, seg[SEG_GS].base),
	ADDRESS(MSR_KERNEL_GS_BASE, kernel_gs_base),
	VALUE(MSR_STAR, star, ~0ull),
	ADDRESS(MSR_LSTAR, lstar),
	ADDRESS(MSR_CSTAR, cstar),
	VALUE(MSR_SFMASK, sfmask, 0xffffffff),
	VALUE(MSR_TSC_AUX, tsc_aux, 0xffffffff),
	CALL(MSR_EFER, read_efer, control_write_efer),
	CALL(MSR_TSC, read_tsc, write_tsc),
	CALL(MSR_APIC_BASE, read_apic_base, write_apic_base),
	CALL(MSR_PAT, read_pat, write_pat),
	VALUE(MSR_SYSENTER_CS, sysenter_cs, 0xffffffff),
	ADDRESS(MSR_SYSENTER_ESP, sysenter_esp),
	ADDRESS(MSR_SYSENTER_EIP, sysenter_eip),
	CALL(MSR_KVM_SYSTEM_TIME, kvmclock_read_system_time, kvmclock_write_system_time),
	CALL(MSR_KVM_WALL_CLOCK, kvmclock_read_wall_clock, kvmclock_write_wall_clock),
	CALL(MSR_PATCH_LEVEL, read_patch_level, write_ignored),
	{ MSR_TSC_RATIO, 0, false, TSC_RATIO_VALID, read_tsc_ratio, write_tsc_ratio },
	{ MSR_VM_CR, 0, false, 0x1f, read_vm_cr, write_vm_cr },
	CALL(MSR_VM_HSAVE_PA, read_hsave, write_hsave),
	PLAIN(MSR_DEBUGCTL, DEBUGCTL, 0x3f),
	/* Machine check architecture: no banks. CPUID does not offer it, but Xen reads the capabilities unasked when its domain 0 asks what there is. */
	CALL(0x179, read_zero, NULL),		/* MCG_CAP */
	CALL(0x17a, read_zero, write_ignored),	/* MCG_STAT */
	PLAIN(0xc0010010, SYSCFG, ~0ull),	/* SYSCFG */
	PLAIN(0xc0010015, HWCR, ~0ull),		/* HWCR */
	PLAIN(0xc001001f, NB_CFG, ~0ull),	/* northbridge: Linux sets its bit for extended configuration space */
	PLAIN(0xc0010055, INT_PENDING, ~0ull),	/* interrupt pending and CMP-halt: no C1E here */
	PLAIN(0xc0011020, LS_CFG, ~0ull),	/* LS_CFG */
	PLAIN(0xc0011029, DE_CFG, ~0ull),	/* DE_CFG: LFENCE serializes */
};

static const struct msr_row *find(uint32_t number)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].number == number)
			return &rows[i];
	return NULL;
}

bool msr_read(struct vcpu *v, uint32_t number, uint64_t *value)
{
	const struct msr_row *r;

	v->counters.msr_accesses++;
	if (mtrr_is(number)) {
		mtrr_read(v, number, value);
		return true;
	}
	if (number - MSR_X2APIC_FIRST <= MSR_X2APIC_LAST - MSR_X2APIC_FIRST)
		return (v->lapic.base_msr & LAPIC_BASE_X2APIC) && lapic_read(v, (number - MSR_X2APIC_FIRST) * 16, value) == 0;
	r = find(number);
	if (!r)
		return false;
	if (r->read)
		return r->read(v, value);
	*value = load_u64((const uint8_t *)v + r->offset);
	return true;
}

bool msr_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	const struct msr_row *r;

	v->counters.msr_accesses++;
	if (mtrr_is(number))
		return mtrr_write(v, number, value);
	if (number - MSR_X2APIC_FIRST <= MSR_X2APIC_LAST - MSR_X2APIC_FIRST)
		return (v->lapic.base_msr & LAPIC_BASE_X2APIC) && lapic_write(v, (number - MSR_X2APIC_FIRST) * 16, value) == 0;
	r = find(number);
	if (!r || (value & ~r->valid) || (r->canonical && !cpu_canonical(v, value)))
		return false;
	if (r->write)
		return r->write(v, value);
	if (r->read)
		return false;
	store_u64((uint8_t *)v + r->offset, value);
	return true;
}

void msr_reset(struct vcpu *v)
{
	for (size_t i = 0; i < VCPU_PLAIN_MSRS; i++)
		v->msr[i] = 0;
	v->msr[PLAIN_HWCR] = HWCR_TSC_FREQ_SEL;
	v->pat = PAT_RESET;
	mtrr_reset(v);
}
