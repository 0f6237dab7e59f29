/*
 * check.h - what VMRUN refuses: the consistency checks of the manual, one rule a row. A refusal ends in #VMEXIT with VMEXIT_INVALID.
 * Source: AMD APM vol. 2, "VMRUN Instruction" (canonicalization and consistency checks), "Event Injection", "Enabling Nested Paging".
 */
#ifndef SVM_CHECK_H
#define SVM_CHECK_H

#include "svm/vmcb.h"

/* What the rules ask of the processor and of the state in which VMRUN is executed. */
struct svm_limits {
	uint64_t efer_valid, cr4_valid;	/* bits that may be set (struct cpuid_policy); efer_valid includes SVME */
	unsigned phys_bits;		/* MAXPHYADDR of the processor that executes VMRUN */
	bool host_paging;		/* CR0.PG at VMRUN */
	bool nested_paging;		/* NP is offered: NP_ENABLE counts */
};

/* The rule that the (copied) VMCB breaks, in the manual's words; NULL: it may run. */
const char *svm_check(const struct vmcb *b, const struct svm_limits *limits);

#endif
