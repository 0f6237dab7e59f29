/*
 * cpu.c - descriptor tables, traps and snippets.
 */
#include "lib_internal.h"

uint64_t idt[512] __attribute__((aligned(16)));
uint64_t gdt[16] __attribute__((aligned(16)));
static uint8_t trap_stack[16384] __attribute__((aligned(16)));
static uint8_t ring0_stack[16384] __attribute__((aligned(16)));
static uint8_t snippet_stack[8192] __attribute__((aligned(16)));
static struct __attribute__((packed)) {
	uint32_t reserved0;
	uint64_t rsp[3], reserved1, ist[7], reserved2;
	uint16_t reserved3, io_map;
} tss;
static trap_function *handlers[256];
static struct regs *running;	/* the snippet's, 0 if none */

void set_handler(unsigned vector, trap_function *fn) { handlers[vector] = fn; }

void set_gate(unsigned vector, bool present, unsigned dpl, unsigned ist)
{
	uint64_t at = (uint64_t)(vector_stubs + 16 * vector);
	idt[2 * vector] = (at & 0xffff) | (uint64_t)KERNEL_CS << 16 | (uint64_t)ist << 32 | (uint64_t)(0x8e00 & (present ? ~0 : 0x7fff)) << 32 |
			  (uint64_t)dpl << 45 | (at >> 16 & 0xffff) << 48;
	idt[2 * vector + 1] = at >> 32;
}

void trap_handler(struct trap *t)
{
	if (t->vector < 256 && handlers[t->vector]) {
		handlers[t->vector](t);
		return;
	}
	if (!running) {
		print("unexpected trap: vector %lu error 0x%lx at 0x%lx, cr2 0x%lx, rsp 0x%lx\n", t->vector, t->error, t->rip, READ_CR(2), t->rsp);
		guest_end(0x2c);
	}
	running->t = *t;
	running->cr2 = READ_CR(2);
	running = 0;
	run_leave();
}

static unsigned run(const void *code, struct regs *r, bool user)
{
	uint64_t base = (uint64_t)code + (user ? USER_BASE : 0);
	struct trap t = r->t;
	t.rip = base;
	t.cs = user ? USER_CS : KERNEL_CS;
	t.ss = user ? USER_DS : KERNEL_DS;
	t.rflags |= RFLAGS_FIXED;
	if (!t.rsp)
		t.rsp = (uint64_t)(snippet_stack + sizeof snippet_stack) + (user ? USER_BASE : 0);
	running = r;
	run_enter(&t);
	r->offset = r->t.rip - base;
	return (unsigned)r->t.vector;
}

unsigned run_kernel(const void *code, struct regs *r) { return run(code, r, false); }
unsigned run_user(const void *code, struct regs *r) { return run(code, r, true); }

void cpu_start(void)
{
	uint64_t at = (uint64_t)&tss;
	tss.ist[0] = (uint64_t)(trap_stack + sizeof trap_stack);
	tss.rsp[0] = (uint64_t)(ring0_stack + sizeof ring0_stack);
	tss.io_map = sizeof tss;
	gdt[KERNEL_CS / 8] = 0x00af9b000000ffff;
	gdt[KERNEL_DS / 8] = 0x00cf93000000ffff;
	gdt[USER_CS32 / 8] = 0x00cffb000000ffff;
	gdt[USER_DS / 8] = 0x00cff3000000ffff;
	gdt[USER_CS / 8] = 0x00affb000000ffff;
	gdt[ABSENT_DS / 8] = 0x00cf13000000ffff;
	gdt[TSS_SELECTOR / 8] = (sizeof tss - 1) | (at & 0xffffff) << 16 | 0x89ul << 40 | (at >> 24 & 0xff) << 56;
	gdt[TSS_SELECTOR / 8 + 1] = at >> 32;
	struct __attribute__((packed)) { uint16_t limit; uint64_t base; } gdtr = { sizeof gdt - 1, (uint64_t)gdt }, idtr = { sizeof idt - 1, (uint64_t)idt };
	for (unsigned v = 0; v < 256; v++)
		set_gate(v, true, v == BP || v == OF || v == DONE ? 3 : 0, v < 32 || v == DONE ? 1 : 0);
	__asm__ volatile("lgdt %0; lidt %1; ltr %w2; mov %3, %%ds; mov %3, %%es; mov %3, %%ss; mov %4, %%fs; mov %4, %%gs;"
			 "push %5; lea 1f(%%rip), %%rax; push %%rax; lretq; 1:"
			 : : "m"(gdtr), "m"(idtr), "r"(TSS_SELECTOR), "r"(KERNEL_DS), "r"(0), "i"(KERNEL_CS) : "rax", "memory");
	WRITE_CR(0, 0x80010033ul);	/* PG WP NE ET MP PE */
	WRITE_CR(4, 0x620ul);		/* OSXMMEXCPT OSFXSR PAE */
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | 0x801);	/* NXE SCE */
}
