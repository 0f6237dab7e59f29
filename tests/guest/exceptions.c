/*
 * exceptions.c - proves that exceptions are precise and carry the error codes the manuals state, among them those that
 * emulators often get wrong: faults in IDT delivery, #SS and #GP for non-canonical addresses, reserved bits in page
 * tables, control registers and MSRs, null and absent selectors.
 * Sources: AMD APM vol. 2, "Exceptions and Interrupts"; Intel SDM vol. 3, "Interrupt and Exception Handling".
 */
#include "guest.h"

#define NONCANONICAL 0x8000000000000000ul

/* Runs, expects a fault at the first byte with this error code and all registers as they were. */
static void expect_fault(const void *code, unsigned vector, uint64_t error, struct regs *r)
{
	struct regs before = *r;
	CHECK_EQ(run_kernel(code, r), vector);
	CHECK_EQ(r->t.error, error);
	CHECK_EQ(r->offset, 0);
	CHECK(memcmp(&before.t, &r->t, offsetof(struct trap, unused)) == 0);
	CHECK(memcmp(&before.t.rbp, &r->t.rbp, offsetof(struct trap, vector) - offsetof(struct trap, rbp)) == 0);
}
#define FAULT(text, vector, error, ...)                                                                       \
	do {                                                                                                  \
		struct regs r_ = { .t = { __VA_ARGS__ } };                                                    \
		expect_fault(CODE(text), vector, error, &r_);                                                 \
	} while (0)

static void arithmetic_and_opcodes(void)
{
	FAULT("div %%ecx", DE, 0, .rax = 7, .rcx = 0);
	FAULT("div %%cl", DE, 0, .rax = 0x1000, .rcx = 1);
	FAULT("idiv %%rcx", DE, 0, .rax = 0, .rdx = NONCANONICAL, .rcx = (uint64_t)-1);
	FAULT("ud2", UD, 0, .rax = 1);
	FAULT(".byte 0x0f, 0xff, 0xc0", UD, 0, .rax = 1);
	FAULT(".byte 0x06", UD, 0, .rax = 1);			/* push es */
	FAULT(".byte 0xf0, 0x89, 0xc8", UD, 0, .rax = 1);	/* lock mov */
	FAULT(".byte 0xf0, 0x01, 0xc8", UD, 0, .rax = 1);	/* lock add to a register */
	FAULT(".byte 0x8d, 0xc0", UD, 0, .rax = 1);		/* lea of a register */
	FAULT(".byte 0x0f, 0x20, 0xc8", UD, 0, .rax = 1);	/* cr1 */
	FAULT("mov %%rax, %%cr5", UD, 0, .rax = 1);
	FAULT(".byte 0x8e, 0xc8", UD, 0, .rax = KERNEL_CS);	/* mov to cs */
	/* 15 bytes are the limit of an instruction. */
	FAULT(".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90", GP, 0, .rax = 1);
	struct regs r = { 0 };
	CHECK_EQ(run_kernel(CODE(".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90"), &r), DONE);
}

static void traps_report_the_next_instruction(void)
{
	struct regs r = { 0 };
	CHECK_EQ(run_kernel(CODE("nop; int3"), &r), BP);
	CHECK_EQ(r.offset, 2);
	CHECK_EQ(run_kernel(CODE("nop; .byte 0xcd, 3"), &r), BP);
	CHECK_EQ(r.offset, 3);
	CHECK_EQ(run_kernel(CODE("nop; .byte 0xf1"), &r), DB);	/* INT1 */
	CHECK_EQ(r.offset, 2);
	CHECK_EQ(run_kernel(CODE("int $0x41"), &r), 0x41);
	CHECK_EQ(r.offset, 2);
	CHECK_EQ(r.t.error, 0);
}

static void noncanonical_addresses(void)
{
	FAULT("mov (%%rcx), %%rax", GP, 0, .rcx = NONCANONICAL);
	FAULT("mov %%rax, (%%rcx)", GP, 0, .rcx = 0x0000800000000000ul);
	FAULT("mov %%rax, (%%rcx)", GP, 0, .rcx = 0x00007ffffffffffful - 3);	/* runs out of the canonical half */
	FAULT("lock addq $1, (%%rcx)", GP, 0, .rcx = 0xffff7ffffffffffful);
	FAULT("mov (%%rbp), %%rax", SS, 0, .rbp = NONCANONICAL);
	FAULT("mov 8(%%rsp), %%rax", SS, 0, .rsp = NONCANONICAL);
	FAULT("push %%rax", SS, 0, .rsp = NONCANONICAL);
	FAULT("push %%rax", SS, 0, .rsp = 0xffff800000000000ul);
	FAULT("pop %%rax", SS, 0, .rsp = NONCANONICAL);
	FAULT("call 1f; 1:", SS, 0, .rsp = NONCANONICAL);
	FAULT("ret", SS, 0, .rsp = NONCANONICAL);
	FAULT("leave", SS, 0, .rbp = NONCANONICAL);
	FAULT("pushfq", SS, 0, .rsp = NONCANONICAL);
	FAULT("mov %%ds:(%%rbp), %%rax", SS, 0, .rbp = NONCANONICAL);	/* the override means nothing in 64-bit mode */
	FAULT("mov %%fs:(%%rbp), %%rax", GP, 0, .rbp = NONCANONICAL);	/* FS and GS do */
	FAULT("movsb", GP, 0, .rsi = NONCANONICAL, .rdi = 0x2000000);
	FAULT("stosb", GP, 0, .rdi = NONCANONICAL);
	FAULT("cmpxchg8b (%%rcx)", GP, 0, .rcx = NONCANONICAL);
	FAULT("jmp *%%rcx", GP, 0, .rcx = NONCANONICAL);
	FAULT("call *%%rcx", GP, 0, .rcx = NONCANONICAL);
	FAULT("movaps (%%rcx), %%xmm0", GP, 0, .rcx = 0x2000008);
	/* FS and GS bases take part: base + offset is what must be canonical. */
	wrmsr(0xc0000100, 0x00007fffffff0000ul);
	FAULT("mov %%fs:(%%rcx), %%rax", GP, 0, .rcx = 0x10000);
	wrmsr(0xc0000100, 0);
	/* prefetches of anything do nothing */
	struct regs r = { .t = { .rcx = NONCANONICAL } };
	CHECK_EQ(run_kernel(CODE("prefetcht0 (%%rcx)"), &r), DONE);
}

static void return_to_a_noncanonical_address(void)
{
	struct regs r = { 0 };
	CHECK_EQ(run_kernel(CODE("movabs $0x8000000000000000, %%rcx; push %%rcx; mov %%rsp, %%rdx; ret"), &r), GP);
	CHECK_EQ(r.offset, 12 + 2);	/* at the RET */
	CHECK_EQ(r.t.rsp, r.t.rdx);	/* not popped */
	CHECK_EQ(r.t.error, 0);
}

static void control_registers_refuse_reserved_bits(void)
{
	uint64_t cr0 = READ_CR(0), cr3 = READ_CR(3), cr4 = READ_CR(4);
	FAULT("mov %%rax, %%cr0", GP, 0, .rax = cr0 | 1ul << 32);
	FAULT("mov %%rax, %%cr0", GP, 0, .rax = cr0 & ~1ul);			/* PG without PE */
	FAULT("mov %%rax, %%cr0", GP, 0, .rax = cr0 | 1ul << 29);		/* NW without CD */
	FAULT("mov %%rax, %%cr0", GP, 0, .rax = cr0 & ~(1ul << 31));		/* PG off in 64-bit mode */
	FAULT("mov %%rax, %%cr4", GP, 0, .rax = cr4 | 1ul << 63);
	FAULT("mov %%rax, %%cr4", GP, 0, .rax = cr4 | 1ul << 15);
	FAULT("mov %%rax, %%cr4", GP, 0, .rax = cr4 & ~0x20ul);			/* PAE off in long mode */
	FAULT("mov %%rax, %%cr3", GP, 0, .rax = cr3 | 1ul << 62);
	FAULT("mov %%rax, %%cr8", GP, 0, .rax = 0x10);
	CHECK_EQ(READ_CR(0), cr0);
	CHECK_EQ(READ_CR(4), cr4);
	CHECK_EQ(READ_CR(3), cr3);
	/* PCIDE may be set only while CR3[11:0] is 0. */
	if (cpuid(1, 0).c >> 17 & 1) {
		WRITE_CR(3, cr3 | 8);
		FAULT("mov %%rax, %%cr4", GP, 0, .rax = cr4 | CR4_PCIDE);
		WRITE_CR(3, cr3);
	}
	/* Bits of CR0 that are read-only or ignored when written. */
	WRITE_CR(0, cr0 | 1ul << 17 | 1ul << 10);
	CHECK_EQ(READ_CR(0) & 0x10, 0x10);
	WRITE_CR(0, cr0);
}

static void msrs_refuse_what_they_cannot_hold(void)
{
	FAULT("wrmsr", GP, 0, .rcx = 0xc0000100, .rdx = 0x80000000);	/* bases: canonical */
	FAULT("wrmsr", GP, 0, .rcx = 0xc0000101, .rdx = 0x00008000);
	FAULT("wrmsr", GP, 0, .rcx = 0xc0000102, .rdx = 0x80000000);
	FAULT("wrmsr", GP, 0, .rcx = 0xc0000082, .rdx = 0x80000000);	/* LSTAR */
	FAULT("wrmsr", GP, 0, .rcx = 0xc0000083, .rdx = 0x80000000);	/* CSTAR */
	FAULT("wrmsr", GP, 0, .rcx = MSR_EFER, .rax = 0xd01 | 1u << 9);	/* EFER: reserved bit */
	FAULT("wrmsr", GP, 0, .rcx = MSR_EFER, .rax = 0x801);		/* EFER.LME off while paging is on */
	FAULT("wrmsr", GP, 0, .rcx = 0x277, .rax = 0x02);		/* PAT: no such type */
	FAULT("rdmsr", GP, 0, .rcx = 0x12345678);
	FAULT("wrmsr", GP, 0, .rcx = 0x12345678);
	wrmsr(0xc0000102, 0xffff800000001234ul);
	CHECK_EQ(rdmsr(0xc0000102), 0xffff800000001234ul);
	wrmsr(0xc0000102, 0);
}

static void segment_loads(void)
{
	FAULT("mov %%eax, %%ss", GP, 0, .rax = 3);			/* null with RPL 3 */
	FAULT("mov %%eax, %%ds", GP, 0x78, .rax = 0x78);		/* an empty descriptor of the table */
	FAULT("mov %%eax, %%ds", GP, 0x1000, .rax = 0x1000);		/* outside the table */
	FAULT("mov %%eax, %%ds", NP, ABSENT_DS, .rax = ABSENT_DS);
	FAULT("mov %%eax, %%ss", SS, ABSENT_DS, .rax = ABSENT_DS);
	FAULT("mov %%eax, %%ss", GP, KERNEL_CS, .rax = KERNEL_CS);	/* not writable data */
	FAULT("mov %%eax, %%ss", GP, USER_DS & ~3u, .rax = USER_DS);	/* DPL differs */
	FAULT("mov %%eax, %%ds", GP, TSS_SELECTOR, .rax = TSS_SELECTOR);
	FAULT("mov %%eax, %%fs", GP, 0x84, .rax = 0x84);		/* an LDT entry, and there is no LDT */
	FAULT("ltr %%ax", GP, 0, .rax = 0);
	FAULT("ltr %%ax", GP, TSS_SELECTOR, .rax = TSS_SELECTOR);	/* busy */
	FAULT("lldt %%ax", GP, KERNEL_DS, .rax = KERNEL_DS);
	struct regs r = { .t = { .rax = 0 } };
	CHECK_EQ(run_kernel(CODE("mov %%eax, %%ds; mov %%eax, %%es; mov %%ds, %%edx"), &r), DONE);
	CHECK_EQ(r.t.rdx, 0);
}

static void iret_checks(void)
{
	/* rbx: the frame that IRETQ gets, made on the snippet's stack. */
#define IRET "push %%rdi; push %%rsi; push %%rdx; push %%rcx; push %%rax; nop; iretq"
	struct regs good = { .t = { .rdi = KERNEL_DS, .rsi = 0x2100000, .rdx = 2, .rcx = KERNEL_CS } }, r;
	const void *code = CODE(IRET);
	r = good, r.t.rax = NONCANONICAL;
	CHECK_EQ(run_kernel(code, &r), GP);
	CHECK_EQ(r.t.error, 0);
	r = good, r.t.rcx = 0;
	CHECK_EQ(run_kernel(code, &r), GP);
	CHECK_EQ(r.t.error, 0);
	CHECK_EQ(r.offset, 6);
	r = good, r.t.rcx = KERNEL_DS;
	CHECK_EQ(run_kernel(code, &r), GP);
	CHECK_EQ(r.t.error, KERNEL_DS);
	r = good, r.t.rdi = USER_DS;
	CHECK_EQ(run_kernel(code, &r), GP);
	CHECK_EQ(r.t.error, USER_DS & ~3u);
	r = good, r.t.rdi = ABSENT_DS;
	CHECK_EQ(run_kernel(code, &r), SS);
	CHECK_EQ(r.t.error, ABSENT_DS);
	r = good, r.t.rdx = 2 | 1u << 14;	/* NT set by the frame, then IRET with NT is #GP in long mode */
	CHECK_EQ(run_kernel(CODE("pushfq; orl $0x4000, (%%rsp); popfq; iretq"), &r), GP);
	CHECK_EQ(r.t.error, 0);
	r = good, r.t.rdi = 0, r.t.rax = (uint64_t)CODE("mov %%ss, %%ebx");	/* a null SS is fine at CPL 0 */
	CHECK_EQ(run_kernel(code, &r), DONE);
	CHECK_EQ(r.t.rbx, 0);
	CHECK_EQ(r.t.rsp, 0x2100000);
}

static void idt_delivery_faults(void)
{
	struct regs r = { 0 };
	set_gate(0x51, false, 0, 0);
	CHECK_EQ(run_kernel(CODE("int $0x51"), &r), NP);
	CHECK_EQ(r.t.error, 0x51 << 3 | 2);
	CHECK_EQ(r.offset, 0);
	uint64_t saved = idt[2 * 0x51];
	set_gate(0x51, true, 0, 0);
	CHECK_EQ(run_user(CODE("int $0x51"), &r), GP);		/* DPL 0 */
	CHECK_EQ(r.t.error, 0x51 << 3 | 2);
	CHECK_EQ(r.offset, 0);
	idt[2 * 0x51] = (idt[2 * 0x51] & ~(0xfful << 40)) | 0x85ul << 40;	/* a task gate */
	CHECK_EQ(run_kernel(CODE("int $0x51"), &r), GP);
	CHECK_EQ(r.t.error, 0x51 << 3 | 2);
	set_gate(0x51, true, 0, 0);
	idt[2 * 0x51] = (idt[2 * 0x51] & ~0xffff0000ul) | (uint64_t)KERNEL_DS << 16;	/* not code */
	CHECK_EQ(run_kernel(CODE("int $0x51"), &r), GP);
	CHECK_EQ(r.t.error, KERNEL_DS);
	idt[2 * 0x51] &= ~0xffff0000ul;	/* null */
	CHECK_EQ(run_kernel(CODE("int $0x51"), &r), GP);
	CHECK_EQ(r.t.error, 0);
	idt[2 * 0x51] = saved;
	/* Beyond the limit. */
	struct __attribute__((packed)) { uint16_t limit; uint64_t base; } all = { 4095, (uint64_t)idt }, some = { 0x90 * 16 - 1, (uint64_t)idt };
	__asm__ volatile("lidt %0" : : "m"(some));
	CHECK_EQ(run_kernel(CODE("int $0x90"), &r), GP);
	CHECK_EQ(r.t.error, 0x90 << 3 | 2);
	__asm__ volatile("lidt %0" : : "m"(all));
	set_gate(0x51, true, 0, 0);
}

static void external_faults_set_the_ext_bit(void)
{
	struct regs r = { 0 };
	/* #DE is contributory, and so is the #NP that its absent gate raises. */
	set_gate(DE, false, 0, 1);
	CHECK_EQ(run_kernel(CODE("xor %%ecx, %%ecx; div %%ecx"), &r), DF);
	set_gate(DE, true, 0, 1);
	CHECK_EQ(r.t.error, 0);
	/* #UD is benign: the #NP is delivered, with EXT set since no INT n caused it. */
	set_gate(UD, false, 0, 1);
	CHECK_EQ(run_kernel(CODE("ud2"), &r), NP);
	CHECK_EQ(r.t.error, UD << 3 | 3);
	set_gate(UD, true, 0, 1);
}

static void double_faults(void)
{
	struct regs r = { .t = { .rsp = 0x40000000000ul } };	/* nothing is mapped there */
	/* A page fault whose handler's stack is not mapped: #DF. */
	set_gate(PF, true, 0, 0);
	CHECK_EQ(run_kernel(CODE("mov (%%rsp), %%rax"), &r), DF);
	CHECK_EQ(r.t.error, 0);
	CHECK_EQ(r.t.rsp, 0x40000000000ul);
	set_gate(PF, true, 0, 1);
	/* INT n with a bad stack is an ordinary fault. */
	r = (struct regs){ .t = { .rsp = 0x40000000000ul } };
	CHECK_EQ(run_kernel(CODE("int $0x52"), &r), PF);
	CHECK_EQ(r.offset, 0);
	CHECK_EQ(r.t.error, 2);
	CHECK_EQ(r.cr2, 0x40000000000ul - 8);
	r = (struct regs){ .t = { .rsp = NONCANONICAL } };
	CHECK_EQ(run_kernel(CODE("int $0x52"), &r), SS);
	CHECK_EQ(r.t.error, 0);
}

static void privileged_instructions_in_user_mode(void)
{
	struct regs r = { 0 };
#define USER_GP(text)                                                                                         \
	do {                                                                                                  \
		r = (struct regs){ 0 };                                                                       \
		CHECK_EQ(run_user(CODE(text), &r), GP);                                                       \
		CHECK_EQ(r.t.error, 0);                                                                       \
		CHECK_EQ(r.offset, 0);                                                                        \
		CHECK_EQ(r.t.cs, USER_CS);                                                                    \
	} while (0)
	USER_GP("hlt");
	USER_GP("cli");
	USER_GP("sti");
	USER_GP("rdmsr");
	USER_GP("wrmsr");
	USER_GP("mov %%cr3, %%rax");
	USER_GP("mov %%rax, %%cr0");
	USER_GP("mov %%dr7, %%rax");
	USER_GP("invlpg (%%rax)");
	USER_GP("lgdt (%%rax)");
	USER_GP("lidt (%%rax)");
	USER_GP("ltr %%ax");
	USER_GP("lmsw %%ax");
	USER_GP("clts");
	USER_GP("wbinvd");
	USER_GP("swapgs");
	USER_GP("sysretq");
	USER_GP("in $0x3f, %%al");
	USER_GP("out %%al, $0xf4");
	USER_GP("insb");
	/* POPF leaves IF and IOPL alone without complaint. */
	r = (struct regs){ 0 };
	CHECK_EQ(run_user(CODE("pushq $0x3202; popfq; pushfq; pop %%rax"), &r), DONE);
	CHECK_EQ(r.t.rax & 0x3200, 0);
}

static void fpu_availability(void)
{
	uint64_t cr0 = READ_CR(0), cr4 = READ_CR(4);
	WRITE_CR(0, cr0 | 8);	/* TS */
	FAULT("fld1", NM, 0, .rax = 0);
	FAULT("fwait", NM, 0, .rax = 0);
	FAULT("movups %%xmm0, %%xmm1", NM, 0, .rax = 0);
	__asm__ volatile("clts");
	CHECK_EQ(READ_CR(0), cr0);
	struct regs r = { 0 };
	CHECK_EQ(run_kernel(CODE("fld1; fstp %%st(0); movups %%xmm0, %%xmm1"), &r), DONE);
	WRITE_CR(0, cr0 | 4);	/* EM */
	FAULT("fld1", NM, 0, .rax = 0);
	FAULT("movups %%xmm0, %%xmm1", UD, 0, .rax = 0);
	WRITE_CR(0, cr0);
	WRITE_CR(4, cr4 & ~0x200ul);	/* OSFXSR */
	FAULT("movups %%xmm0, %%xmm1", UD, 0, .rax = 0);
	WRITE_CR(4, cr4);
	FAULT("vmovups %%ymm0, %%ymm1", UD, 0, .rax = 0);	/* OSXSAVE is clear */
	/* An unmasked SIMD exception. */
	r = (struct regs){ .t = { .rax = 0x1f80 & ~(1u << 9) } };	/* divide by zero unmasked */
	CHECK_EQ(run_kernel(CODE("push %%rax; ldmxcsr (%%rsp); pop %%rax; xorps %%xmm0, %%xmm0; pcmpeqd %%xmm1, %%xmm1; cvtdq2pd %%xmm1, %%xmm1;"
				 "mov $77, %%ebx; divsd %%xmm0, %%xmm1; mov $78, %%ebx"), &r), XM);
	CHECK_EQ(r.t.rbx, 77);
	/* An unmasked x87 exception comes at the next waiting instruction. */
	r = (struct regs){ .t = { .rax = 0x37b } };
	CHECK_EQ(run_kernel(CODE("fninit; push %%rax; fldcw (%%rsp); fldz; fld1; fdiv %%st(1), %%st; mov $77, %%ebx; fwait; mov $78, %%ebx"), &r), MF);
	CHECK_EQ(r.t.rbx, 77);
	__asm__ volatile("fninit");
	uint32_t mxcsr = 0x1f80;
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
}

static void alignment_checking(void)
{
	uint64_t cr0 = READ_CR(0);
	struct regs r = { .t = { .rcx = USER_BASE + (uint64_t)gdt + 1, .rflags = RFLAGS_AC } };
	CHECK_EQ(run_user(CODE("mov (%%rcx), %%eax"), &r), DONE);	/* CR0.AM is clear */
	WRITE_CR(0, cr0 | 1ul << 18);
	r = (struct regs){ .t = { .rcx = USER_BASE + (uint64_t)gdt + 1, .rflags = RFLAGS_AC } };
	CHECK_EQ(run_user(CODE("mov (%%rcx), %%eax"), &r), AC);
	CHECK_EQ(r.t.error, 0);
	CHECK_EQ(r.offset, 0);
	r = (struct regs){ .t = { .rcx = USER_BASE + (uint64_t)gdt + 1, .rflags = RFLAGS_AC } };
	CHECK_EQ(run_user(CODE("mov (%%rcx), %%al; mov 1(%%rcx), %%ax; mov 3(%%rcx), %%edx; mov 7(%%rcx), %%rdx"), &r), DONE);
	r = (struct regs){ .t = { .rcx = (uint64_t)gdt + 1, .rflags = RFLAGS_AC } };
	CHECK_EQ(run_kernel(CODE("mov (%%rcx), %%eax"), &r), DONE);	/* user mode only */
	WRITE_CR(0, cr0);
}

const struct guest_test guest_tests[] = {
	{ "Arithmetic and undefined opcodes fault at the instruction and change nothing.", arithmetic_and_opcodes },
	{ "INT3, INT n and INT1 report the instruction after them.", traps_report_the_next_instruction },
	{ "Non-canonical addresses raise #GP, through RSP and RBP #SS.", noncanonical_addresses },
	{ "RET to a non-canonical address raises #GP at the RET.", return_to_a_noncanonical_address },
	{ "Control registers refuse reserved and impossible bits.", control_registers_refuse_reserved_bits },
	{ "MSRs refuse non-canonical addresses, reserved bits and unknown numbers.", msrs_refuse_what_they_cannot_hold },
	{ "Loading a selector checks its descriptor and reports it.", segment_loads },
	{ "IRETQ checks its frame before it leaves.", iret_checks },
	{ "A fault in the IDT reports vector * 8 + 2.", idt_delivery_faults },
	{ "A fault while an exception is delivered sets EXT, or becomes a double fault.", external_faults_set_the_ext_bit },
	{ "A page fault that cannot be delivered is a double fault; INT n is not.", double_faults },
	{ "Privileged instructions raise #GP in user mode.", privileged_instructions_in_user_mode },
	{ "CR0.TS, CR0.EM and CR4.OSFXSR decide what floating point raises.", fpu_availability },
	{ "Alignment is checked in user mode when CR0.AM and RFLAGS.AC are set.", alignment_checking },
	{ 0, 0 },
};
