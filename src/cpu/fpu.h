/*
 * fpu.h - who owns the host's FPU and vector registers.
 *
 * While v->fpu.live the host's x87, MXCSR and vector registers hold the guest's values. Code under mem/, mmu/, cpu/, bt/
 * runs like that (it is compiled with -mgeneral-regs-only and calls nothing that uses vector registers); everything else
 * (libc, Zydis, devices, logging) is reached through fpu_call_cold, which saves the guest's state to v->fpu.area first and
 * gives the callee a clean MXCSR and x87 state. The state is loaded back lazily, by fpu_load, before generated
 * code or a host stub needs it.
 * The area is a standard-format XSAVE image of x87|SSE|AVX (Intel SDM vol. 1, "XSAVE-Managed State").
 */
#ifndef CPU_FPU_H
#define CPU_FPU_H

#include "base/base.h"

struct vcpu;
#define FPU_AREA_SIZE 832 /* legacy 512 + header 64 + AVX 256 */
struct fpu {
	uint8_t area[FPU_AREA_SIZE] __attribute__((aligned(64)));
	bool live;
};

void fpu_reset(struct vcpu *v);	/* architectural state after RESET/FNINIT, MXCSR 1F80 */
void fpu_load(struct vcpu *v);	/* to host registers, if not live */
void fpu_save(struct vcpu *v);	/* to the area, if live; host gets default MXCSR and x87 */
/* fn(arg) as cold code; safe whether or not the state is live, cheap when not. */
void fpu_call_cold(struct vcpu *v, void (*fn)(void *), void *arg);

#endif
