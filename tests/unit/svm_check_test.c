/*
 * svm_check_test.c - what VMRUN refuses, rule by rule: a VMCB that may run, one field of it changed, and the rule that must name the change. Beside most refusals
 * stands the nearest value that is still allowed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "cpu/vcpu.h"
#include "svm/check.h"

static const struct svm_limits limits = {
	.efer_valid = EFER_SCE | EFER_LME | EFER_NXE | EFER_SVME, .cr4_valid = CR4_PAE | CR4_PGE | CR4_SMEP, .phys_bits = 40,
	.host_paging = true, .nested_paging = true,
};

static struct vmcb b;

static void start(void)
{
	memset(&b, 0, sizeof(b));
	b.intercept[VMCB_MISC2] = VMCB_MISC2_VMRUN;
	b.asid = 1;
	b.efer = EFER_SVME | EFER_LME | EFER_LMA | EFER_NXE;
	b.cr0 = CR0_PG | CR0_PE | CR0_ET | CR0_WP;
	b.cr4 = CR4_PAE;
	b.cr3 = 0x1000;
	b.cs.attr = SEG_P | SEG_S | SEG_L | 0xb;
	b.dr6 = 0xffff0ff0;
	b.dr7 = 0x400;
	b.np_enable = VMCB_NP_ENABLE;
	b.n_cr3 = 0x2000;
	b.g_pat = PAT_RESET;
	assert_null(svm_check(&b, &limits));
}

/* Changes a field of a good VMCB and asks. */
#define REFUSED(field, value, words) do { \
	const char *why; \
	start(); \
	b.field = (value); \
	why = svm_check(&b, &limits); \
	assert_non_null(why); \
	assert_string_equal(why, words); \
} while (0)
#define ALLOWED(field, value) do { start(); b.field = (value); assert_null(svm_check(&b, &limits)); } while (0)

static void control_registers_with_reserved_bits_are_refused(void **state)
{
	(void)state;
	REFUSED(efer, EFER_LME | EFER_LMA, "EFER.SVME is zero");
	REFUSED(efer, b.efer | 1ull << 1, "a reserved bit of EFER is set");
	REFUSED(efer, b.efer | EFER_FFXSR, "a reserved bit of EFER is set");
	ALLOWED(efer, b.efer & ~EFER_LMA);
	REFUSED(cr0, b.cr0 | CR0_NW, "CR0.CD is zero and CR0.NW is set");
	ALLOWED(cr0, b.cr0 | CR0_NW | CR0_CD);
	ALLOWED(cr0, b.cr0 | CR0_CD);
	REFUSED(cr0, b.cr0 | 1ull << 32, "CR0[63:32] are not zero");
	REFUSED(cr3, 1ull << 40, "a reserved bit of CR3 is set");
	ALLOWED(cr3, (1ull << 40) - 4096);
	REFUSED(cr4, b.cr4 | CR4_LA57, "a reserved bit of CR4 is set");
	REFUSED(cr4, b.cr4 | 1ull << 63, "a reserved bit of CR4 is set");
}

static void debug_registers_have_32_bits(void **state)
{
	(void)state;
	REFUSED(dr6, 1ull << 32, "DR6[63:32] are not zero");
	ALLOWED(dr6, 0xffffffff);
	REFUSED(dr7, 1ull << 63, "DR7[63:32] are not zero");
	ALLOWED(dr7, 0xffffffff);
}

static void modes_that_do_not_exist_are_refused(void **state)
{
	(void)state;
	REFUSED(cr4, 0, "EFER.LME and CR0.PG are set and CR4.PAE is zero");
	REFUSED(cr0, b.cr0 & ~CR0_PE, "EFER.LME and CR0.PG are set and CR0.PE is zero");
	REFUSED(cs.attr, b.cs.attr | SEG_DB, "EFER.LME, CR0.PG, CR4.PAE, CS.L and CS.D are all set");
	ALLOWED(cs.attr, (b.cs.attr & ~SEG_L) | SEG_DB); /* compatibility mode */
	/* Real mode: paging off, and what long mode asks for does not matter. */
	start();
	b.cr0 = CR0_ET;
	b.cr4 = 0;
	b.cs.attr |= SEG_DB;
	assert_null(svm_check(&b, &limits));
}

static void controls_that_no_guest_can_run_with_are_refused(void **state)
{
	(void)state;
	REFUSED(intercept[VMCB_MISC2], ~VMCB_MISC2_VMRUN, "VMRUN is not intercepted");
	REFUSED(asid, 0, "the ASID is zero");
	ALLOWED(asid, ~0u);
	REFUSED(iopm_base, (1ull << 40) - 0x2000, "the I/O permission map extends beyond physical memory");
	REFUSED(iopm_base, ~0ull, "the I/O permission map extends beyond physical memory");
	ALLOWED(iopm_base, (1ull << 40) - 0x3000 + 0xfff); /* the low 12 bits do not count */
	REFUSED(msrpm_base, (1ull << 40) - 0x1000, "the MSR permission map extends beyond physical memory");
	ALLOWED(msrpm_base, (1ull << 40) - 0x2000);
}

static uint64_t event(unsigned type, unsigned vector) { return VMCB_EVENT_VALID | type << 8 | vector; }

static void events_that_cannot_happen_are_not_injected(void **state)
{
	static const char *const words = "the event to inject is illegal";

	(void)state;
	for (unsigned type = 0; type < 8; type++) {
		if (type == VMCB_EVENT_INTR || (type >= VMCB_EVENT_NMI && type <= VMCB_EVENT_SOFT)) {
			ALLOWED(eventinj, event(type, 14));
		} else {
			REFUSED(eventinj, event(type, 14), words);
			ALLOWED(eventinj, event(type, 14) & ~VMCB_EVENT_VALID);
		}
	}
	REFUSED(eventinj, event(VMCB_EVENT_EXCEPTION, 2), words);
	REFUSED(eventinj, event(VMCB_EVENT_EXCEPTION, 32), words);
	REFUSED(eventinj, event(VMCB_EVENT_EXCEPTION, 9), words); /* reserved */
	REFUSED(eventinj, event(VMCB_EVENT_EXCEPTION, 21), words); /* #CP: its feature is not offered */
	REFUSED(eventinj, event(VMCB_EVENT_EXCEPTION, 31), words);
	ALLOWED(eventinj, event(VMCB_EVENT_EXCEPTION, VEC_XM));
	ALLOWED(eventinj, event(VMCB_EVENT_EXCEPTION, VEC_SX));
	ALLOWED(eventinj, event(VMCB_EVENT_INTR, 255));
	REFUSED(eventinj, event(VMCB_EVENT_EXCEPTION, VEC_BR), words);
	start();
	b.eventinj = event(VMCB_EVENT_EXCEPTION, VEC_BR);
	b.cs.attr &= (uint16_t)~SEG_L; /* BOUND exists in compatibility mode */
	assert_null(svm_check(&b, &limits));
}

static void nested_fields_count_only_with_nested_paging(void **state)
{
	struct svm_limits other = limits;

	(void)state;
	REFUSED(n_cr3, 1ull << 40, "a reserved bit of N_CR3 is set");
	ALLOWED(n_cr3, (1ull << 40) - 1);
	for (unsigned i = 0; i < 8; i++) {
		REFUSED(g_pat, (PAT_RESET & ~(0xffull << (8 * i))) | 2ull << (8 * i), "G_PAT holds a reserved memory type");
		REFUSED(g_pat, (PAT_RESET & ~(0xffull << (8 * i))) | 3ull << (8 * i), "G_PAT holds a reserved memory type");
		REFUSED(g_pat, PAT_RESET | 8ull << (8 * i), "G_PAT holds a reserved memory type");
	}
	start();
	other.host_paging = false;
	assert_string_equal(svm_check(&b, &other), "nested paging is asked for with paging off");
	/* Without nested paging none of its fields count. */
	b.np_enable = 0;
	b.n_cr3 = ~0ull;
	b.g_pat = ~0ull;
	assert_null(svm_check(&b, &other));
	b.np_enable = VMCB_NP_ENABLE;
	other.nested_paging = false;
	assert_null(svm_check(&b, &other));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(control_registers_with_reserved_bits_are_refused),
		cmocka_unit_test(debug_registers_have_32_bits),
		cmocka_unit_test(modes_that_do_not_exist_are_refused),
		cmocka_unit_test(controls_that_no_guest_can_run_with_are_refused),
		cmocka_unit_test(events_that_cannot_happen_are_not_injected),
		cmocka_unit_test(nested_fields_count_only_with_nested_paging),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
