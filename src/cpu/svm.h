/*
 * svm.h - AMD SVM as the executor sees it: a few bits of state, and the places at which it asks the layer above (svm/). A vcpu without SVM has no
 * ops and asks nothing. SVM is for bare processors (personality_bare) only.
 * Source: AMD APM vol. 2, "Secure Virtual Machine".
 */
#ifndef CPU_SVM_H
#define CPU_SVM_H

#include "base/base.h"

struct svm_ops;		/* cpu/svm_ops.h */
struct svm_vcpu;	/* svm/ */

/* Who masks physical interrupts: RFLAGS.IF, or in guest mode with V_INTR_MASKING the host's IF at VMRUN. */
enum svm_masking { SVM_MASK_RFLAGS, SVM_MASK_HOST_OFF, SVM_MASK_HOST_ON };

struct vcpu_svm {
	bool guest;		/* guest mode: from VMRUN to #VMEXIT */
	bool gif_clear;		/* the global interrupt flag is 0 */
	bool asks_pushf, asks_tsc; /* guest mode: PUSHF is intercepted; RDTSC or RDTSCP is */
	uint8_t masking;	/* enum svm_masking; SVM_MASK_RFLAGS outside of guest mode */
	uint8_t v_tpr;		/* what CR8 is in guest mode with V_INTR_MASKING */
	uint64_t tsc_offset;	/* added to what the time-stamp counter reads as, which guest mode scales by tsc_ratio first; 0 outside of guest mode */
	uint64_t delivering;	/* guest mode: the event whose delivery has begun, as EXITINTINFO has it; 0: none */
	uint64_t vm_cr, hsave, tsc_ratio; /* MSRs */
	const struct svm_ops *ops;
	struct svm_vcpu *state;
};

#endif
