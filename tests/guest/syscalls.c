/*
 * syscalls.c - proves SYSCALL, SYSRET, SYSENTER as AMD defines them, INT n from user mode, SWAPGS, and what each does to
 * flags, selectors, RCX, R11 and the bases of FS and GS.
 * Sources: AMD APM vol. 3, "SYSCALL", "SYSRET", "SWAPGS", "SYSENTER"; vol. 2, "SYSCALL and SYSRET".
 */
#include "guest.h"

#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_SFMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u

static void set_up(void)
{
	wrmsr(MSR_STAR, (uint64_t)KERNEL_CS << 32 | (uint64_t)(USER_CS32) << 48);
	wrmsr(MSR_SFMASK, 0x700);	/* TF IF DF */
}

static void syscall_enters_the_kernel(void)
{
	set_up();
	wrmsr(MSR_LSTAR, (uint64_t)CODE("mov %%cs, %%ebx; mov %%ss, %%ebp; pushfq; pop %%r12"));
	struct regs r = { .t = { .rflags = RFLAGS_DF | 0xd5, .rax = 5 } };
	uint64_t rsp = USER_BASE + 0x1ffff00;
	r.t.rsp = rsp;
	map_page(USER_BASE + 0x1fff000, alloc_page(), PTE_P | PTE_W | PTE_U);
	/* The kernel side runs on the user's RSP here, as the processor leaves it. */
	CHECK_EQ(run_user(CODE("mov $1, %%ecx; mov $2, %%r11d; nop; syscall; ud2"), &r), DONE);
	CHECK_EQ(r.t.rsp, rsp);
	CHECK_EQ(r.t.cs, KERNEL_CS);
	CHECK_EQ(r.t.rbx, KERNEL_CS);
	CHECK_EQ(r.t.rbp, KERNEL_DS);
	CHECK_EQ(r.t.r11, RFLAGS_DF | 0xd7);	/* flags as they were */
	CHECK_EQ(r.t.r12, 0xd7);			/* masked by SFMASK */
	CHECK_EQ(r.t.rax, 5);
	CHECK(r.t.rcx > USER_BASE && bytes_at(r.t.rcx)[0] == 0x0f && bytes_at(r.t.rcx)[1] == 0x0b);	/* the UD2 after it */
}

static void sysret_returns(void)
{
	set_up();
	/* To 64-bit code: RIP from RCX, flags from R11 without RF and VM, selectors from STAR with RPL 3. */
	const void *target = CODE("mov %%cs, %%ebx; mov %%ss, %%ebp; pushfq; pop %%r12");
	struct regs r = { .t = { .rcx = USER_BASE + (uint64_t)target, .r11 = 0xffffffffffdb0ed7u & ~RFLAGS_IF & ~0x7000ul,
				 .rsp = USER_BASE + 0x1ffff00 } };
	map_page(USER_BASE + 0x1fff000, alloc_page(), PTE_P | PTE_W | PTE_U);
	CHECK_EQ(run_kernel(CODE("sysretq"), &r), DONE);
	CHECK_EQ(r.t.cs, USER_CS);
	CHECK_EQ(r.t.ss, USER_DS);
	CHECK_EQ(r.t.rbx, USER_CS);
	CHECK_EQ(r.t.rbp, USER_DS);
	CHECK_EQ(r.t.r12 & 0x10000, 0);
	CHECK_EQ(r.t.r12 & RFLAGS_DF, RFLAGS_DF);
	CHECK_EQ(r.t.r12 & 0xd5, 0xd5);
	/* A system call and back, many times: no state is lost. */
	wrmsr(MSR_LSTAR, (uint64_t)CODE("add $3, %%rax; sysretq; ud2"));
	r = (struct regs){ .t = { .rbx = 1000 } };
	CHECK_EQ(run_user(CODE("1: syscall; dec %%ebx; jnz 1b"), &r), DONE);
	CHECK_EQ(r.t.rax, 3000);
}

static void unavailable_instructions(void)
{
	set_up();
	wrmsr(MSR_LSTAR, (uint64_t)CODE("nop"));
	uint64_t efer = rdmsr(MSR_EFER);
	struct regs r = { 0 };
	wrmsr(MSR_EFER, efer & ~1ul);
	CHECK_EQ(run_user(CODE("syscall"), &r), UD);
	CHECK_EQ(r.offset, 0);
	r = (struct regs){ 0 };
	CHECK_EQ(run_kernel(CODE("sysretq"), &r), UD);
	wrmsr(MSR_EFER, efer);
	/* AuthenticAMD: SYSENTER and SYSEXIT are #UD in long mode. */
	struct cpuid id = cpuid(0, 0);
	if (id.b == 0x68747541) {
		r = (struct regs){ 0 };
		CHECK_EQ(run_user(CODE("sysenter"), &r), UD);
		r = (struct regs){ 0 };
		CHECK_EQ(run_kernel(CODE("sysexitl"), &r), UD);
	}
}

static void int_n_from_user_mode(void)
{
	set_gate(0x61, true, 3, 0);	/* no IST: RSP0 of the TSS */
	struct regs r = { .t = { .rflags = RFLAGS_DF | 0xd5, .rsp = USER_BASE + 0x1ffff08 } };
	CHECK_EQ(run_user(CODE("int $0x61"), &r), 0x61);
	CHECK_EQ(r.t.cs, USER_CS);
	CHECK_EQ(r.t.ss, USER_DS);
	CHECK_EQ(r.t.rsp, USER_BASE + 0x1ffff08);
	CHECK_EQ(r.t.rflags, RFLAGS_DF | 0xd7);
	CHECK_EQ(r.offset, 2);
	/* From the kernel: SS and RSP are pushed all the same, on a stack aligned to 16 bytes. */
	r = (struct regs){ .t = { .rsp = 0x2100000 - 5 } };
	CHECK_EQ(run_kernel(CODE("int $0x61"), &r), 0x61);
	CHECK_EQ(r.t.rsp, 0x2100000 - 5);
	CHECK_EQ(*word_at(0x20ffff0 - 8), KERNEL_DS);
	CHECK_EQ(*word_at(0x20ffff0 - 16), 0x2100000 - 5);
}

static void swapgs_and_bases(void)
{
	static uint64_t user_word = 0x1111, kernel_word = 0x2222;
	wrmsr(MSR_GS_BASE, (uint64_t)&user_word);
	wrmsr(MSR_KERNEL_GS_BASE, (uint64_t)&kernel_word);
	struct regs r = { 0 };
	CHECK_EQ(run_kernel(CODE("mov %%gs:0, %%rax; swapgs; mov %%gs:0, %%rdx; addq $1, %%gs:0; swapgs; mov %%gs:0, %%rcx"), &r), DONE);
	CHECK_EQ(r.t.rax, 0x1111);
	CHECK_EQ(r.t.rdx, 0x2222);
	CHECK_EQ(r.t.rcx, 0x1111);
	CHECK_EQ(kernel_word, 0x2223);
	CHECK_EQ(rdmsr(MSR_GS_BASE), (uint64_t)&user_word);
	CHECK_EQ(rdmsr(MSR_KERNEL_GS_BASE), (uint64_t)&kernel_word);
	wrmsr(MSR_FS_BASE, (uint64_t)&kernel_word - 0x1000);
	CHECK_EQ(run_kernel(CODE("mov $0x1000, %%ebx; mov %%fs:(%%rbx), %%rax; .byte 0x64; lea (%%rbx), %%rdx"), &r), DONE);
	CHECK_EQ(r.t.rax, 0x2223);
	CHECK_EQ(r.t.rdx, 0x1000);	/* LEA ignores the segment */
	/* Loading a selector replaces the base; null clears it on AMD or leaves it elsewhere. */
	CHECK_EQ(run_kernel(CODE("mov $0x2b, %%eax; mov %%eax, %%fs"), &r), DONE);
	CHECK_EQ(rdmsr(MSR_FS_BASE), 0);
	wrmsr(MSR_GS_BASE, 0);
	wrmsr(MSR_KERNEL_GS_BASE, 0);
	/* FSGSBASE instructions, if offered and enabled. */
	uint64_t cr4 = READ_CR(4);
	CHECK_EQ(run_kernel(CODE("rdfsbase %%rax"), &r), UD);
	if (cpuid(7, 0).b & 1) {
		WRITE_CR(4, cr4 | 1ul << 16);
		CHECK_EQ(run_user(CODE("movabs $0x123456789000, %%rax; wrfsbase %%rax; xor %%eax, %%eax; rdfsbase %%rdx; wrgsbase %%eax; rdgsbase %%rcx"), &r), DONE);
		CHECK_EQ(r.t.rdx, 0x123456789000ul);
		CHECK_EQ(r.t.rcx, 0);
		r = (struct regs){ .t = { .rax = 1ul << 63 } };
		CHECK_EQ(run_user(CODE("wrfsbase %%rax"), &r), GP);
		CHECK_EQ(rdmsr(MSR_FS_BASE), 0x123456789000ul);
		wrmsr(MSR_FS_BASE, 0);
		WRITE_CR(4, cr4);
	}
}

static void far_transfers(void)
{
	struct regs r = { 0 };
	CHECK_EQ(run_kernel(CODE("push $0x10; lea 1f(%%rip), %%rax; push %%rax; lretq; ud2; 1: mov $7, %%ebx"), &r), DONE);
	CHECK_EQ(r.t.rbx, 7);
	/* Pointers of 16:32 bits: with REX.W the two vendors read them differently. */
	r = (struct regs){ 0 };
	CHECK_EQ(run_kernel(CODE("sub $16, %%rsp; lea 1f(%%rip), %%rax; mov %%eax, (%%rsp); movw $0x10, 4(%%rsp); mov %%rsp, %%rdx;"
				 "ljmp *(%%rsp); ud2; 1: mov $8, %%ebx"), &r), DONE);
	CHECK_EQ(r.t.rbx, 8);
	CHECK_EQ(r.t.rsp, r.t.rdx);
	r = (struct regs){ 0 };
	CHECK_EQ(run_kernel(CODE("sub $16, %%rsp; lea 1f(%%rip), %%rax; mov %%eax, (%%rsp); movw $0x10, 4(%%rsp);"
				 "lcall *(%%rsp); mov $9, %%ebx; jmp 2f; 1: mov %%cs, %%ecx; lretl; 2:"), &r), DONE);
	CHECK_EQ(r.t.rbx, 9);
	CHECK_EQ(r.t.rcx, KERNEL_CS);
	/* Far return to user mode. */
	const void *target = CODE("mov %%cs, %%ebx");
	r = (struct regs){ .t = { .rax = USER_BASE + (uint64_t)target, .rcx = USER_BASE + 0x1ffff00 } };
	CHECK_EQ(run_kernel(CODE("push $0x2b; push %%rcx; push $0x33; push %%rax; lretq"), &r), DONE);
	CHECK_EQ(r.t.rbx, USER_CS);
	CHECK_EQ(r.t.rsp, USER_BASE + 0x1ffff00);
	/* Nobody calls down. */
	r = (struct regs){ .t = { .rax = (uint64_t)target } };
	CHECK_EQ(run_user(CODE("push $0x10; push %%rax; lretq"), &r), GP);
	CHECK_EQ(r.t.error, KERNEL_CS);
}

const struct guest_test guest_tests[] = {
	{ "SYSCALL enters at LSTAR with STAR's selectors and keeps RIP and flags in RCX and R11.", syscall_enters_the_kernel },
	{ "SYSRET returns to user mode with the flags in R11.", sysret_returns },
	{ "SYSCALL without EFER.SCE, and SYSENTER on AMD, are undefined opcodes.", unavailable_instructions },
	{ "INT n changes to the kernel's stack and pushes the user's state.", int_n_from_user_mode },
	{ "SWAPGS exchanges the bases, and FS and GS accesses use them.", swapgs_and_bases },
	{ "Far jumps, calls and returns reach 64-bit code at both privileges.", far_transfers },
	{ 0, 0 },
};
