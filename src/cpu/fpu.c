/* fpu.c - moving the guest's FPU and vector state between the host's registers and its area (fpu.h). */
#include "cpu/fpu.h"

#include "cpu/cpuid.h"
#include "cpu/vcpu.h"

/* Offsets in the XSAVE image (Intel SDM vol. 1, "XSAVE Area"). */
#define IMAGE_FCW 0
#define IMAGE_MXCSR 24
#define IMAGE_XSTATE_BV 512

#define MXCSR_DEFAULT 0x1f80u

void fpu_reset(struct vcpu *v)
{
	fill_bytes(v->fpu.area, 0, sizeof(v->fpu.area));
	store_u16(v->fpu.area + IMAGE_FCW, 0x37f);
	store_u32(v->fpu.area + IMAGE_MXCSR, MXCSR_DEFAULT);
	v->fpu.live = false; /* XSTATE_BV 0: everything in its initial state */
}

void fpu_load(struct vcpu *v)
{
	if (v->fpu.live)
		return;
	__asm__ volatile("xrstor64 %0" : : "m"(v->fpu.area), "a"((uint32_t)v->cpuid->xcr0), "d"(0u));
	v->fpu.live = true;
}

void fpu_save(struct vcpu *v)
{
	uint32_t mxcsr = MXCSR_DEFAULT;

	if (!v->fpu.live)
		return;
	__asm__ volatile("xsave64 %0" : "+m"(v->fpu.area) : "a"((uint32_t)v->cpuid->xcr0), "d"(0u));
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	if (v->fpu.area[IMAGE_XSTATE_BV] & XCR0_X87)
		__asm__ volatile("fninit");
	if (v->fpu.area[IMAGE_XSTATE_BV] & XCR0_AVX)
		__asm__ volatile("vzeroupper");
	v->fpu.live = false;
}

void fpu_call_cold(struct vcpu *v, void (*fn)(void *), void *arg)
{
	if (v->fpu.live)
		fpu_save(v);
	fn(arg);
}
