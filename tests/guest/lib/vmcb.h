/*
 * vmcb.h - a hypervisor's tools: a VMCB whose guest is a snippet with our own registers, and its run.
 * Source: AMD APM vol. 2, "Secure Virtual Machine".
 */
#ifndef GUEST_VMCB_H
#define GUEST_VMCB_H

#include "guest.h"

#define EFER_SVME 0x1000ul
#define TSC_RATIO 0xc0000104u
#define VM_CR 0xc0010114u
#define VM_HSAVE_PA 0xc0010117u

/* Fields of the VMCB, by offset. */
enum { INTERCEPT = 0, PAUSE_THRESHOLD = 0x3c, PAUSE_COUNT = 0x3e, IOPM = 0x40, MSRPM = 0x48, TSC_OFFSET = 0x50, ASID = 0x58, TLB_CONTROL = 0x5c, INT_CTL = 0x60, INT_VECTOR = 0x64, INT_STATE = 0x68,
       EXITCODE = 0x70, INFO1 = 0x78, INFO2 = 0x80, INTINFO = 0x88, NP_ENABLE = 0x90, EVENTINJ = 0xa8, N_CR3 = 0xb0, VIRT_EXT = 0xb8, CLEAN = 0xc0, NRIP = 0xc8, FETCHED = 0xd0, SEG_ES = 0x400, SEG_CS = 0x410, SEG_SS = 0x420, SEG_DS = 0x430,
       SEG_FS = 0x440, SEG_GDTR = 0x460, SEG_IDTR = 0x480, SEG_TR = 0x490, CPL = 0x4cb, EFER = 0x4d0, CR4 = 0x548, CR3 = 0x550, CR0 = 0x558, DR7 = 0x560, DR6 = 0x568, RFLAGS = 0x570,
       RIP = 0x578, RSP = 0x5d8, RAX = 0x5f8, STAR = 0x600, KERNEL_GS = 0x620, CR2 = 0x640, G_PAT = 0x668, DBGCTL = 0x670, BR_FROM = 0x678, BR_TO = 0x680 };
enum { EXIT_EXCEPTION = 0x40, EXIT_INTR = 0x60, EXIT_NMI, EXIT_VINTR = 0x64, EXIT_CR0_SEL, EXIT_IOIO = 0x7b, EXIT_MSR, EXIT_SHUTDOWN = 0x7f, EXIT_VMMCALL = 0x81, EXIT_NPF = 0x400 };
#define EXIT_INVALID (~0ul)


extern uint8_t *vmcb, *iopm, *msrpm;
extern uint8_t l2_stack[4096];
extern struct l2_registers { uint64_t rcx, rdx, rbx, rsi, rdi; } l2 __asm__("l2_registers");

static inline volatile uint64_t *q(unsigned at) { return (volatile uint64_t *)(vmcb + at); }
static inline volatile uint32_t *d(unsigned at) { return (volatile uint32_t *)(vmcb + at); }
static inline void intercept(unsigned code) { d(INTERCEPT + code / 32 * 4)[0] |= 1u << code % 32; }
void segment(unsigned at, uint16_t selector, uint16_t attr, uint32_t limit, uint64_t base);

/* A VMCB whose guest is at `code` with our own registers, ASID 1; VMRUN and VMMCALL are intercepted. */
void set_up(const void *code);
/* Runs the guest; GIF is clear after it. */
void vmrun_only(void);
/* The same with GIF set again: the exit code. */
uint64_t vmrun(void);
#define RUN(code) (set_up(code), vmrun())

#endif
