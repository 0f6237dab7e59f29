/*
 * case.h - a case of svm_engines: what lies in memory and in registers before the hypervisor runs.
 *
 * Physical memory of the hypervisor (L1), which its own tables map one to one:
 *   below L2_CODE    tables, descriptor tables, the VMCB, permission maps, L1's code
 *   L2_CODE ...      code of its guest (L2), handlers of both, stacks
 *   DATA             data of L1, which L2 knows by the same virtual addresses and finds PRIVATE behind them
 *   PRIVATE          data of L2
 * No table is mapped where L2 can write it with paging on: a stale translation may hold or not, so what both engines do after such a write may differ.
 */
#ifndef FUZZ_SVM_ENGINES_CASE_H
#define FUZZ_SVM_ENGINES_CASE_H

#include "cpu/vcpu.h"
#include "svm/vmcb.h"

#define RAM MIB(2)
enum {
	PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x4000, GDT = 0x5000, IDT = 0x6000, TSS = 0x7000, VMCB = 0x8000, IOPM = 0x9000, MSRPM = 0xc000,
	L2_PML4 = 0xe000, L2_PDPT = 0xf000, L2_PD = 0x10000, L2_PT = 0x11000, NEST_PML4 = 0x12000, NEST_PDPT = 0x13000, NEST_PD = 0x14000, NEST_PT = 0x15000,
	L1_CODE = 0x16000, COUNT = 0x17000, L2_CODE = 0x18000, HANDLERS = 0x1c000, STACK = 0x20000, L2_STACKS = 0x24000, PRISTINE = 0x30000,
	DATA = 0x40000, DATA_PAGES = 16, PRIVATE = 0x80000,
};
#define L2_CODE_PAGES 4u
#define L2_STACK_PAGES 4u

struct svm_case {
	uint8_t image[PRISTINE];	/* of physical memory from 0 on; the rest is as earlier cases left it */
	uint64_t gpr[16];
	unsigned interrupt;		/* vector that waits in the local APIC; 0: none */
	bool nmi;
};

/* Made from the seed alone. */
void svm_case_make(struct svm_case *c, uint64_t seed);

/* code.c: random code, made from the seed. Each is given room and returns what it took. */
unsigned svm_code_l1(uint8_t *to, unsigned room, uint64_t seed);	/* VMRUN a few times with accesses before and after, then HLT */
unsigned svm_code_l2(uint8_t *to, unsigned room, uint64_t va, uint64_t seed);

#endif
