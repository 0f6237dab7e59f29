/* cpu_cpuid_test.c - what the guest is told of its processor, its model-specific registers and its clock. */
#include <cpuid.h>
#include "cpu_machine.h"

#include "base/clock.h"
#include "cpu/kvmclock.h"
#include "cpu/msr.h"
#include "svm/svm.h"

static int set_up(void **state)
{
	*state = machine_new(PAGING_NESTED);
	return 0;
}

static int tear_down(void **state)
{
	machine_free(*state);
	return 0;
}

static uint32_t leaf(struct machine *m, uint32_t number, uint32_t sub, unsigned reg)
{
	uint32_t r[4];

	cpuid_read(m->v, number, sub, r);
	return r[reg];
}

static void cpuid_gives_what_the_policy_says_in_32_bit_registers(void **state)
{
	struct machine *m = *state;

	m->v->gpr[RAX] = m->v->gpr[RBX] = m->v->gpr[RCX] = m->v->gpr[RDX] = ~0ull << 32;
	STEP(m, "cpuid");
	assert_int_equal(m->v->gpr[RAX], 0xd);
	assert_int_equal(m->v->gpr[RBX], 0x68747541); /* Auth */
	assert_int_equal(m->v->gpr[RDX], 0x69746e65); /* enti */
	assert_int_equal(m->v->gpr[RCX], 0x444d4163); /* cAMD */
}

static void nothing_is_offered_that_is_not_carried_through(void **state)
{
	struct machine *m = *state;
	uint32_t b = leaf(m, 7, 0, CPUID_EBX), c = leaf(m, 7, 0, CPUID_ECX), c1 = leaf(m, 1, 0, CPUID_ECX), d1 = leaf(m, 1, 0, CPUID_EDX);

	assert_false(b & (1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31)); /* AVX-512 */
	assert_false(b & (1u << 4 | 1u << 11 | 1u << 14));	/* HLE, RTM, MPX */
	assert_false(c & (1u << 3 | 1u << 4 | 1u << 16));	/* PKU, OSPKE, LA57 */
	assert_false(c1 & (1u << 3 | 1u << 5));			/* MONITOR, VMX */
	assert_false(d1 & (1u << 7 | 1u << 14));		/* MCE, MCA */
	assert_false(leaf(m, 0x80000001, 0, CPUID_ECX) & 1u << 2); /* SVM */
	assert_false(leaf(m, 0xd, 1, CPUID_EAX) & 1u << 3);	/* XSAVES */
	assert_false(leaf(m, 0xd, 0, CPUID_EAX) & ~7u);
	assert_int_equal(leaf(m, 0x80000008, 0, CPUID_EAX), 48 << 8 | CPU_PHYS_BITS);
}

static void svm_is_offered_on_request_with_its_msrs_only_where_it_is_attached(void **state)
{
	struct machine *m = *state;
	uint64_t value;

	assert_int_equal(leaf(m, 0x8000000a, 0, CPUID_EAX), 0);
	assert_false(msr_read(m->v, MSR_VM_CR, &value));
	assert_false(msr_write(m->v, MSR_VM_HSAVE_PA, 0x1000));
	assert_int_equal(svm_attach(m->v), 0); /* not offered: nothing */
	assert_false(msr_read(m->v, MSR_VM_CR, &value));
	vcpu_offer(m->v, 1u << CPU_OFFER_SVM);
	assert_int_equal(svm_attach(m->v), 0);
	assert_true(leaf(m, 0x80000001, 0, CPUID_ECX) & 1u << 2);
	assert_int_equal(leaf(m, 0x8000000a, 0, CPUID_EAX), 1);
	assert_int_equal(leaf(m, 0x8000000a, 0, CPUID_EBX), SVM_ASIDS);
	assert_int_equal(leaf(m, 0x8000000a, 0, CPUID_EDX), 1u << 0 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 10 | 1u << 12 | 1u << 15 | 1u << 16);
	assert_true(msr_read(m->v, MSR_VM_CR, &value));
	assert_true(msr_write(m->v, MSR_VM_HSAVE_PA, 0x1000));
	/* LOCK holds SVMDIS. */
	assert_true(msr_write(m->v, MSR_VM_CR, VM_CR_LOCK | VM_CR_SVMDIS));
	assert_true(msr_write(m->v, MSR_VM_CR, 0));
	assert_true(msr_read(m->v, MSR_VM_CR, &value));
	assert_int_equal(value, VM_CR_LOCK | VM_CR_SVMDIS);
	assert_false(msr_write(m->v, MSR_EFER, EFER_LME | EFER_LMA | EFER_SVME));
	m->v->svm.vm_cr = 0;
	svm_detach(m->v);
	vcpu_offer(m->v, 0);
}

/*
 * With --cpu la57=on. What an access may use depends on CR4.LA57; what a register that holds an address may be loaded with depends only on the
 * processor (Intel SDM vol. 3, "Canonicality Checking").
 */
static void la57_is_offered_on_request_and_decides_what_is_canonical(void **state)
{
	struct machine *m = *state;
	const uint64_t wide = 0x00ff800000001000ull;

	vcpu_offer(m->v, 1u << CPU_OFFER_LA57);
	assert_true(leaf(m, 7, 0, CPUID_ECX) & 1u << 16);
	assert_int_equal(leaf(m, 0x80000008, 0, CPUID_EAX), 57 << 8 | CPU_PHYS_BITS);
	m->v->gpr[RAX] = m->v->cr4 | CR4_LA57;
	FAULTS(m, "mov %rax, %cr4", VEC_GP, 0); /* not in long mode */
	m->v->cr4 |= CR4_FSGSBASE;
	m->v->gpr[RCX] = MSR_KERNEL_GS_BASE;
	m->v->gpr[RAX] = (uint32_t)wide;
	m->v->gpr[RDX] = wide >> 32;
	STEP(m, "wrmsr");
	assert_int_equal(m->v->kernel_gs_base, wide);
	m->v->gpr[RBX] = wide;
	STEP(m, "wrfsbase %rbx");
	assert_int_equal(m->v->seg[SEG_FS].base, wide);
	m->v->gpr[RBX] = wide << 4;
	FAULTS(m, "wrfsbase %rbx", VEC_GP, 0);
	m->v->gpr[RBX] = wide;
	STEP(m, "invlpg (%rbx)");
	FAULTS(m, "mov (%rbx), %rax", VEC_GP, 0); /* 4 levels are in force */
	FAULTS(m, "jmp *%rbx", VEC_GP, 0);
	vcpu_offer(m->v, 0);
	FAULTS(m, "wrfsbase %rbx", VEC_GP, 0);
}

static void features_that_run_on_silicon_are_the_hosts(void **state)
{
	struct machine *m = *state;
	uint32_t a = 0, b = 0, c = 0, d = 0;

	assert_true(__get_cpuid(1, &a, &b, &c, &d));
	assert_int_equal(leaf(m, 1, 0, CPUID_ECX) & 0x00980201, c & 0x00980201); /* SSE3 to SSE4.2, POPCNT */
	assert_int_equal(!!(m->v->features & FEATURE(AVX)), !!(c & 1u << 28));
	assert_true(__get_cpuid_count(7, 0, &a, &b, &c, &d));
	assert_int_equal(leaf(m, 7, 0, CPUID_EBX) & 0x128, b & 0x128); /* BMI1, AVX2, BMI2 */
}

static void each_feature_bit_has_its_cpuid_bit(void **state)
{
	struct machine *m = *state;

	assert_int_equal(!!(m->v->features & FEATURE(CX16)), leaf(m, 1, 0, CPUID_ECX) >> 13 & 1);
	assert_int_equal(!!(m->v->features & FEATURE(RDPID)), leaf(m, 7, 0, CPUID_ECX) >> 22 & 1);
	assert_int_equal(!!(m->v->features & FEATURE(RDTSCP)), leaf(m, 0x80000001, 0, CPUID_EDX) >> 27 & 1);
	assert_int_equal(!!(m->v->features & FEATURE(XSAVEC)), leaf(m, 0xd, 1, CPUID_EAX) >> 1 & 1);
	assert_int_equal(!!(m->v->features & FEATURE(LZCNT)), leaf(m, 0x80000001, 0, CPUID_ECX) >> 5 & 1);
	assert_false(m->v->features & (FEATURE(XSAVES) | FEATURE(SVM) | FEATURE(RTM) | FEATURE(MONITOR)));
}

static void osxsave_and_the_image_size_follow_the_guests_registers(void **state)
{
	struct machine *m = *state;

	assert_true(leaf(m, 1, 0, CPUID_ECX) & 1u << 27);
	m->v->cr4 &= ~CR4_OSXSAVE;
	assert_false(leaf(m, 1, 0, CPUID_ECX) & 1u << 27);
	m->v->xcr0 = XCR0_X87 | XCR0_SSE;
	assert_int_equal(leaf(m, 0xd, 0, CPUID_EBX), 576);
}

static void leaves_out_of_range_are_zero(void **state)
{
	static const uint32_t numbers[] = { 0xe, 0x14, 0x40000002, 0x80000022, 0x8000001f, 0x8000000a, 0xc0000000 };
	struct machine *m = *state;

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		for (unsigned reg = 0; reg < 4; reg++)
			assert_int_equal(leaf(m, numbers[i], 0, reg), 0);
}

static void an_unknown_msr_is_a_general_protection_fault(void **state)
{
	struct machine *m = *state;

	m->v->gpr[RCX] = 0x48; /* speculation control */
	FAULTS(m, "rdmsr", VEC_GP, 0);
	FAULTS(m, "wrmsr", VEC_GP, 0);
	set_flat_segments(m->v, 3);
	m->v->gpr[RCX] = MSR_TSC;
	m->v->gpr[RSP] = USER_STACK;
	FAULTS(m, "rdmsr", VEC_GP, 0);
}

static void msrs_refuse_reserved_bits_and_non_canonical_addresses(void **state)
{
	static const struct { uint32_t number; uint64_t bad, good; } cases[] = {
		{ MSR_EFER, EFER_SVME, EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE | EFER_AUTOIBRS }, { MSR_EFER, 0, EFER_LME | EFER_LMA },
		{ MSR_LSTAR, NONCANONICAL, 0xffffffff81000000 }, { MSR_FS_BASE, 0x800000000000, 0x7fffffffffff },
		{ MSR_KERNEL_GS_BASE, NONCANONICAL, 1 }, { MSR_SFMASK, 1ull << 32, 0x257fd5 }, { MSR_TSC_AUX, 1ull << 32, 5 },
		{ MSR_PAT, 2, PAT_RESET }, { MSR_PAT, 8, 0x0606060606060606 },
	};
	struct machine *m = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t value;

		assert_false(msr_write(m->v, cases[i].number, cases[i].bad));
		assert_true(msr_write(m->v, cases[i].number, cases[i].good));
		assert_true(msr_read(m->v, cases[i].number, &value));
		assert_int_equal(value, cases[i].good);
	}
}

static void writing_the_tsc_moves_the_guests_time(void **state)
{
	struct machine *m = *state;

	assert_true(msr_write(m->v, MSR_TSC, 1ull << 50));
	STEP(m, "rdtsc");
	assert_in_range(m->v->gpr[RDX], 1u << 18, (1u << 18) + 1);
}

static void control_registers_refuse_reserved_bits(void **state)
{
	struct machine *m = *state;
	static const struct { const char *what; uint64_t bad; } cr0[] = {
		{ "bits above 31", 1ull << 32 }, { "paging without protection", CR0_PG }, { "NW without CD", CR0_PG | CR0_PE | CR0_NW },
		{ "no paging in 64-bit mode", CR0_PE },
	};

	for (size_t i = 0; i < ARRAY_LEN(cr0); i++) {
		m->v->gpr[RAX] = cr0[i].bad;
		FAULTS(m, "mov %rax, %cr0", VEC_GP, 0);
	}
	m->v->gpr[RAX] = 1ull << CPU_PHYS_BITS;
	FAULTS(m, "mov %rax, %cr3", VEC_GP, 0);
	m->v->gpr[RAX] = CR3_NOFLUSH | PML4;
	FAULTS(m, "mov %rax, %cr3", VEC_GP, 0); /* no PCIDE */
	m->v->gpr[RAX] = m->v->cr4 | CR4_LA57;
	FAULTS(m, "mov %rax, %cr4", VEC_GP, 0);
	m->v->gpr[RAX] = m->v->cr4 & ~CR4_PAE;
	FAULTS(m, "mov %rax, %cr4", VEC_GP, 0);
	m->v->gpr[RAX] = 16;
	FAULTS(m, "mov %rax, %cr8", VEC_GP, 0);
	m->v->gpr[RAX] = 1ull << 32;
	FAULTS(m, "mov %rax, %db7", VEC_GP, 0);
	m->v->gpr[RAX] = m->v->cr4 | CR4_PCIDE;
	m->v->cr3 |= 1;
	FAULTS(m, "mov %rax, %cr4", VEC_GP, 0); /* CR3 names a context already */
	m->v->cr3 &= ~1ull;
	STEP(m, "mov %rax, %cr4");
	assert_true(m->v->cr4 & CR4_PCIDE);
	m->v->gpr[RAX] = CR3_NOFLUSH | PML4 | 5;
	STEP(m, "mov %rax, %cr3");
	assert_int_equal(m->v->cr3, PML4 | 5);
}

static void the_kvm_clock_runs_with_the_hosts(void **state)
{
	struct machine *m = *state;
	struct __attribute__((packed)) { uint32_t version, pad; uint64_t tsc, system; uint32_t mul; int8_t shift; uint8_t flags, pad2[2]; } page;
	uint64_t t0, t1, ns0, ns1;
	unsigned __int128 delta;

	assert_true(msr_write(m->v, MSR_KVM_SYSTEM_TIME, DATA | 1));
	assert_int_equal(memory_read(&m->memory, gpa(DATA), &page, sizeof(page)), 0);
	assert_int_equal(page.version & 1, 0);
	assert_int_equal(page.flags, 1);
	t0 = clock_tsc();
	ns0 = clock_ns();
	while (clock_ns() - ns0 < 20000000)
		;
	t1 = clock_tsc();
	ns1 = clock_ns();
	delta = page.shift < 0 ? (t1 - t0) >> -page.shift : (t1 - t0) << page.shift;
	assert_in_range((uint64_t)((delta * page.mul) >> 32), (ns1 - ns0) * 999 / 1000, (ns1 - ns0) * 1001 / 1000 + 2000);
}

static void the_clocks_scale_is_exact_for_any_frequency(void **state)
{
	static const uint64_t khz[] = { 1000, 500000, 999999, 1000000, 1000001, 2095992, 4000000, 10000000 };
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(khz); i++) {
		uint32_t mul;
		int8_t shift;
		uint64_t second = khz[i] * 1000, ns;

		kvmclock_scale(khz[i], &mul, &shift);
		second = shift < 0 ? second >> -shift : second << shift;
		ns = (uint64_t)(((unsigned __int128)second * mul) >> 32);
		assert_in_range(ns, 999999990, 1000000010);
	}
}

static void the_wall_clock_is_the_hosts_at_boot(void **state)
{
	struct machine *m = *state;
	uint32_t page[3];
	uint64_t now = clock_realtime_ns();

	assert_true(msr_write(m->v, MSR_KVM_WALL_CLOCK, DATA));
	assert_int_equal(memory_read(&m->memory, gpa(DATA), page, sizeof(page)), 0);
	assert_in_range(page[1], now / 1000000000 - 5, now / 1000000000);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(cpuid_gives_what_the_policy_says_in_32_bit_registers),
		TEST(nothing_is_offered_that_is_not_carried_through),
		TEST(svm_is_offered_on_request_with_its_msrs_only_where_it_is_attached),
		TEST(la57_is_offered_on_request_and_decides_what_is_canonical),
		TEST(features_that_run_on_silicon_are_the_hosts),
		TEST(each_feature_bit_has_its_cpuid_bit),
		TEST(osxsave_and_the_image_size_follow_the_guests_registers),
		TEST(leaves_out_of_range_are_zero),
		TEST(an_unknown_msr_is_a_general_protection_fault),
		TEST(msrs_refuse_reserved_bits_and_non_canonical_addresses),
		TEST(writing_the_tsc_moves_the_guests_time),
		TEST(control_registers_refuse_reserved_bits),
		TEST(the_kvm_clock_runs_with_the_hosts),
		TEST(the_clocks_scale_is_exact_for_any_frequency),
		TEST(the_wall_clock_is_the_hosts_at_boot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
