/* vmcb.c - see vmcb.h. */
#include "vmcb.h"

uint8_t *vmcb, *iopm, *msrpm;
uint8_t l2_stack[4096] __attribute__((aligned(16)));
struct l2_registers l2;

void segment(unsigned at, uint16_t selector, uint16_t attr, uint32_t limit, uint64_t base)
{
	((volatile uint16_t *)q(at))[0] = selector;
	((volatile uint16_t *)q(at))[1] = attr;
	d(at)[1] = limit;
	q(at)[1] = base;
}

void set_up(const void *code)
{
	struct __attribute__((packed)) { uint16_t limit; uint64_t base; } table;

	if (!vmcb) {
		vmcb = (uint8_t *)alloc_page();
		iopm = (uint8_t *)alloc_pages(3, PAGE);
		msrpm = (uint8_t *)alloc_pages(2, PAGE);
	}
	memset(vmcb, 0, PAGE);
	memset(iopm, 0, 3 * PAGE);
	memset(msrpm, 0, 2 * PAGE);
	memset(&l2, 0, sizeof l2);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	intercept(0x80);
	intercept(EXIT_VMMCALL);
	*q(IOPM) = (uint64_t)iopm;
	*q(MSRPM) = (uint64_t)msrpm;
	*d(ASID) = 1;
	segment(SEG_ES, KERNEL_DS, 0xc93, ~0u, 0);
	segment(SEG_CS, KERNEL_CS, 0xa9b, ~0u, 0);
	segment(SEG_SS, KERNEL_DS, 0xc93, ~0u, 0);
	segment(SEG_DS, KERNEL_DS, 0xc93, ~0u, 0);
	__asm__ volatile("sgdt %0" : "=m"(table));
	segment(SEG_GDTR, 0, 0, table.limit, table.base);
	__asm__ volatile("sidt %0" : "=m"(table));
	segment(SEG_IDTR, 0, 0, table.limit, table.base);
	*q(EFER) = rdmsr(MSR_EFER);
	*q(CR0) = READ_CR(0);
	*q(CR3) = READ_CR(3);
	*q(CR4) = READ_CR(4);
	*q(DR6) = 0xffff0ff0;
	*q(DR7) = 0x400;
	*q(RFLAGS) = RFLAGS_FIXED;
	*q(RIP) = (uint64_t)code;
	*q(RSP) = (uint64_t)(l2_stack + sizeof l2_stack);
}

void vmrun_only(void)
{
	__asm__ volatile("push %%rbp; push %%rbx\n mov l2_registers(%%rip), %%rcx; mov l2_registers+8(%%rip), %%rdx; mov l2_registers+16(%%rip), %%rbx\n"
			 "mov l2_registers+24(%%rip), %%rsi; mov l2_registers+32(%%rip), %%rdi\n vmrun\n"
			 "mov %%rcx, l2_registers(%%rip); mov %%rdx, l2_registers+8(%%rip); mov %%rbx, l2_registers+16(%%rip)\n"
			 "mov %%rsi, l2_registers+24(%%rip); mov %%rdi, l2_registers+32(%%rip)\n pop %%rbx; pop %%rbp"
			 : : "a"(vmcb) : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
}

uint64_t vmrun(void)
{
	vmrun_only();
	__asm__ volatile("stgi" : : : "memory");
	return *q(EXITCODE);
}
