/*
 * cpuid.h - the processor that a guest sees: CPUID leaves, and the features, control-register bits and XCR0 bits that follow from them.
 *
 * The policy is computed once from the host's CPUID. A feature is offered if it is in the table of cpuid.c, and either the host
 * has it (the instructions run on silicon) or Trifold implements it. Everything else reads as absent.
 * Sources: AMD APM vol. 3, "Obtaining Processor Information Via the CPUID Instruction"; Linux' documented KVM CPUID leaves.
 */
#ifndef CPU_CPUID_H
#define CPU_CPUID_H

#include "base/base.h"

struct vcpu;

#define CPU_PHYS_BITS 40
#define EFER_AUTOIBRS (1ull << 21)

enum { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };
struct cpuid_row { uint32_t leaf, sub; uint32_t reg[4]; };
#define CPUID_ANY_SUB (~0u)
#define CPUID_MAX_ROWS 40

struct cpuid_policy {
	struct cpuid_row row[CPUID_MAX_ROWS];
	unsigned rows;
	uint64_t features;	/* enum insn_feature bits */
	uint64_t host_features;	/* those of them that the host has: the others are the executor's alone */
	uint64_t xcr0;		/* XCR0 bits that may be set */
	uint64_t cr4_valid, efer_valid;
	unsigned va_bits;	/* of linear addresses: VA_BITS_5LEVEL if LA57 is offered */
};

/*
 * What is offered only on request, as bits (rows of cpu_offers). LA57 is not offered by itself: a kernel that sees it may put its stacks where a host with
 * 4 levels cannot return to (docs/translator.md, "Stack pointers that are not canonical"), and gains nothing from it but addresses. SVM is not: who runs a guest that is not trusted
 * should not offer it, unasked, the largest interface that a processor has (docs/nested.md).
 */
enum cpu_offer { CPU_OFFER_LA57, CPU_OFFER_SVM, CPU_OFFERS };
/* What a processor with SVM offers of it. AMD APM vol. 3, "CPUID Fn8000_000A SVM Features". */
#define SVM_ASIDS 32u
struct cpu_offer_row { const char *name, *help; };
extern const struct cpu_offer_row cpu_offers[CPU_OFFERS];

/*
 * The policy for this host with these offers (a bit for each); computed on the first call (any thread), then constant. Null if the host lacks what
 * Trifold needs (XSAVE).
 */
const struct cpuid_policy *cpuid_policy_get(unsigned offers);

/* What CPUID returns on v: eax, ebx, ecx, edx. Fit for live vector state. */
void cpuid_read(struct vcpu *v, uint32_t leaf, uint32_t sub, uint32_t reg[4]);
/* The instruction: asks by EAX and ECX, answers in EAX, EBX, ECX, EDX. */
void cpuid_execute(struct vcpu *v);

#endif
