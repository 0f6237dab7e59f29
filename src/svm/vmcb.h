/*
 * vmcb.h - the virtual machine control block as it lies in guest memory: one page, control area and state save area. Layout only.
 *
 * A VMCB belongs to a guest that may change it at any time (another vcpu, a device): it is copied once into a struct vmcb, and only the copy is judged
 * and used.
 * Source: AMD APM vol. 2, "VMCB Layout, Control Area", "VMCB Layout, State Save Area", "#VMEXIT Intercept Codes", "Event Injection".
 */
#ifndef SVM_VMCB_H
#define SVM_VMCB_H

#include "x86/types.h"

/* Vectors of intercepts: `intercept[word]` holds the bits of one 32-bit word of the control area. */
enum { VMCB_CR, VMCB_DR, VMCB_EXCEPTION, VMCB_MISC1, VMCB_MISC2, VMCB_MISC3, VMCB_INTERCEPTS };
#define VMCB_MISC2_VMRUN (1u << 0)

/*
 * What is intercepted, and the exit code that says so: one number, bit n of the intercept vectors is exit code n. Those of CR, DR and exceptions are a
 * base and the register or vector.
 */
enum vmcb_exit {
	VMEXIT_CR_READ = 0x00, VMEXIT_CR_WRITE = 0x10, VMEXIT_DR_READ = 0x20, VMEXIT_DR_WRITE = 0x30, VMEXIT_EXCEPTION = 0x40,
	VMEXIT_INTR = 0x60, VMEXIT_NMI, VMEXIT_SMI, VMEXIT_INIT, VMEXIT_VINTR, VMEXIT_CR0_SEL_WRITE, VMEXIT_IDTR_READ, VMEXIT_GDTR_READ,
	VMEXIT_LDTR_READ, VMEXIT_TR_READ, VMEXIT_IDTR_WRITE, VMEXIT_GDTR_WRITE, VMEXIT_LDTR_WRITE, VMEXIT_TR_WRITE, VMEXIT_RDTSC, VMEXIT_RDPMC,
	VMEXIT_PUSHF, VMEXIT_POPF, VMEXIT_CPUID, VMEXIT_RSM, VMEXIT_IRET, VMEXIT_SWINT, VMEXIT_INVD, VMEXIT_PAUSE, VMEXIT_HLT, VMEXIT_INVLPG,
	VMEXIT_INVLPGA, VMEXIT_IOIO, VMEXIT_MSR, VMEXIT_TASK_SWITCH, VMEXIT_FERR_FREEZE, VMEXIT_SHUTDOWN,
	VMEXIT_VMRUN = 0x80, VMEXIT_VMMCALL, VMEXIT_VMLOAD, VMEXIT_VMSAVE, VMEXIT_STGI, VMEXIT_CLGI, VMEXIT_SKINIT, VMEXIT_RDTSCP, VMEXIT_ICEBP,
	VMEXIT_WBINVD, VMEXIT_MONITOR, VMEXIT_MWAIT, VMEXIT_MWAIT_ARMED, VMEXIT_XSETBV, VMEXIT_RDPRU,
	VMEXIT_INVPCID = 0xa2,
	VMEXIT_NPF = 0x400,	/* no intercept of its own */
};

/* int_ctl and int_state. */
#define VMCB_V_TPR 0xffu
#define VMCB_V_IRQ (1u << 8)
#define VMCB_V_GIF (1u << 9)
#define VMCB_V_PRIO(c) ((c) >> 16 & 15)
#define VMCB_V_IGN_TPR (1u << 20)
#define VMCB_V_INTR_MASKING (1u << 24)
#define VMCB_V_GIF_ENABLE (1u << 25)
#define VMCB_INT_SHADOW 1ull

#define VMCB_NP_ENABLE (1ull << 0)

/* virt_ext. */
#define VMCB_VIRT_LOAD_SAVE (1ull << 1)

/* EVENTINJ and EXITINTINFO. */
#define VMCB_EVENT_VECTOR 0xffull
#define VMCB_EVENT_TYPE(e) ((unsigned)((e) >> 8) & 7)
#define VMCB_EVENT_HAS_ERROR (1ull << 11)
#define VMCB_EVENT_VALID (1ull << 31)
enum { VMCB_EVENT_INTR = 0, VMCB_EVENT_NMI = 2, VMCB_EVENT_EXCEPTION = 3, VMCB_EVENT_SOFT = 4 };

/* Bytes of the permission maps at iopm_base and msrpm_base. */
#define VMCB_IOPM_BYTES 0x3000u
#define VMCB_MSRPM_BYTES 0x2000u

#define VMCB_EXIT_INVALID (~0ull)

struct vmcb_segment { uint16_t selector, attr; uint32_t limit; uint64_t base; };

struct vmcb {
	uint32_t intercept[VMCB_INTERCEPTS];	/* 000 */
	uint8_t reserved_018[0x3c - 0x18];
	uint16_t pause_threshold, pause_count;
	uint64_t iopm_base, msrpm_base, tsc_offset;
	uint32_t asid;				/* 058 */
	uint8_t tlb_control, reserved_05d[3];
	uint32_t int_ctl, int_vector;		/* 060 */
	uint64_t int_state;
	uint64_t exitcode, exitinfo1, exitinfo2, exitintinfo;
	uint64_t np_enable;			/* 090 */
	uint8_t reserved_098[0xa8 - 0x98];
	uint64_t eventinj, n_cr3, virt_ext;	/* 0a8 */
	uint32_t clean, reserved_0c4;
	uint64_t next_rip;			/* 0c8 */
	uint8_t fetched, insn[15];
	uint8_t reserved_0e0[0x400 - 0xe0];

	struct vmcb_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr; /* 400 */
	uint8_t reserved_4a0[0x4cb - 0x4a0];
	uint8_t cpl;
	uint32_t reserved_4cc;
	uint64_t efer;				/* 4d0 */
	uint8_t reserved_4d8[0x548 - 0x4d8];
	uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
	uint8_t reserved_580[0x5d8 - 0x580];
	uint64_t rsp;				/* 5d8 */
	uint8_t reserved_5e0[0x5f8 - 0x5e0];
	uint64_t rax, star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, cr2;
	uint8_t reserved_648[0x668 - 0x648];
	uint64_t g_pat, dbgctl, br_from, br_to, last_excp_from, last_excp_to;
	uint8_t reserved_698[0x1000 - 0x698];
};

#define VMCB_AT(offset, member) _Static_assert(offsetof(struct vmcb, member) == (offset), "VMCB layout: " #member)
VMCB_AT(0x03c, pause_threshold);
VMCB_AT(0x040, iopm_base);
VMCB_AT(0x058, asid);
VMCB_AT(0x05c, tlb_control);
VMCB_AT(0x060, int_ctl);
VMCB_AT(0x068, int_state);
VMCB_AT(0x070, exitcode);
VMCB_AT(0x090, np_enable);
VMCB_AT(0x0a8, eventinj);
VMCB_AT(0x0b0, n_cr3);
VMCB_AT(0x0c0, clean);
VMCB_AT(0x0c8, next_rip);
VMCB_AT(0x0d0, fetched);
VMCB_AT(0x400, es);
VMCB_AT(0x490, tr);
VMCB_AT(0x4cb, cpl);
VMCB_AT(0x4d0, efer);
VMCB_AT(0x548, cr4);
VMCB_AT(0x578, rip);
VMCB_AT(0x5d8, rsp);
VMCB_AT(0x5f8, rax);
VMCB_AT(0x640, cr2);
VMCB_AT(0x668, g_pat);
_Static_assert(sizeof(struct vmcb) == 4096, "VMCB layout: one page");

#endif
