/*
 * debug.c - proves single-stepping (RFLAGS.TF), hardware breakpoints on code, data and ports, RF, DR6, general detect, and what
 * holds a debug exception back.
 * Source: AMD APM vol. 2, "Debug and Performance Resources"; Intel SDM vol. 3, "Debug Exceptions".
 */
#include "guest.h"

#define READ_DR(n) ({ uint64_t v_; __asm__ volatile("mov %%dr" #n ", %0" : "=r"(v_)); v_; })
#define WRITE_DR(n, v) __asm__ volatile("mov %0, %%dr" #n : : "r"((uint64_t)(v)))
#define DR6_CLEAR 0xffff0ff0ul

static volatile unsigned hits;
static volatile uint64_t rips[64], dr6s[64];
static void on_debug(struct trap *t)
{
	if (hits < 64) {
		rips[hits] = t->rip;
		dr6s[hits] = READ_DR(6);
	}
	hits++;
	WRITE_DR(6, DR6_CLEAR);
	if (dr6s[hits - 1] & 15)
		t->rflags |= RFLAGS_RF;
}

static void set_up(void)
{
	set_handler(DB, on_debug);
	hits = 0;
	WRITE_DR(7, 0x400);
	WRITE_DR(6, DR6_CLEAR);
}

static void single_step(void)
{
	set_up();
	/* Six instructions from the one that sets TF: a trap after each but the POPF that sets it. */
	struct regs r = { .t = { .rflags = RFLAGS_TF } };
	CHECK_EQ(run_kernel(CODE("nop; mov $3, %%ecx; 1: dec %%ecx; jnz 1b; pushq $2; popfq"), &r), DONE);
	/* nop, mov, 3 x (dec, jnz), push, popf: the POPF clears TF, yet traps: TF was set when it began. */
	CHECK_EQ(hits, 10);
	uint64_t first = rips[0];
	CHECK_EQ(rips[1], first + 5);
	CHECK_EQ(rips[2], first + 7);
	CHECK_EQ(rips[3], first + 5);
	for (unsigned i = 0; i < hits; i++)
		CHECK_EQ(dr6s[i] & 0xe00f, 0x4000);
	/* POPF that sets TF does not trap itself. */
	hits = 0;
	CHECK_EQ(run_kernel(CODE("pushfq; orq $0x100, (%%rsp); lea 1f(%%rip), %%rax; popfq; nop; 1: pushq $2; popfq"), &r), DONE);
	CHECK_EQ(hits, 3);
	CHECK_EQ(rips[0], r.t.rax);
	/* From user mode; SYSCALL masks TF through SFMASK. */
	hits = 0;
	r = (struct regs){ .t = { .rflags = RFLAGS_TF } };
	CHECK_EQ(run_user(CODE("nop; nop; nop"), &r), DONE);
	CHECK_EQ(hits, 3);
	/* INT n clears TF for the handler, and no step is reported for it before the handler's first instruction. */
	CHECK(!(READ_DR(6) & 0x4000));
	/* A repeated string instruction traps after each iteration. */
	hits = 0;
	uint64_t page = alloc_page();
	r = (struct regs){ .t = { .rflags = RFLAGS_TF, .rdi = page, .rcx = 5 } };
	CHECK_EQ(run_kernel(CODE("rep stosb; pushq $2; popfq"), &r), DONE);
	CHECK_EQ(hits, 5 + 2);
	/* MOV SS holds the trap back by one instruction. */
	hits = 0;
	r = (struct regs){ .t = { .rflags = RFLAGS_TF } };
	CHECK_EQ(run_kernel(CODE("mov %%ss, %%eax; mov %%eax, %%ss; nop; pushq $2; popfq"), &r), DONE);
	CHECK_EQ(hits, 4);
}

static void code_breakpoints(void)
{
	set_up();
	const void *code = CODE("xor %%eax, %%eax; mov $10, %%ecx; 1: inc %%eax; nop; dec %%ecx; jnz 1b");
	uint64_t nop = (uint64_t)code + 2 + 5 + 2;
	CHECK_EQ(bytes_at(nop)[0], 0x90);
	struct regs r = { 0 };
	CHECK_EQ(run_kernel(code, &r), DONE);	/* may have been translated already */
	WRITE_DR(0, nop);
	WRITE_DR(7, 0x401);	/* L0, execute */
	CHECK_EQ(run_kernel(code, &r), DONE);
	CHECK_EQ(hits, 10);
	CHECK_EQ(rips[0], nop);
	CHECK_EQ(dr6s[0] & 0xe00f, 1);
	CHECK_EQ(r.t.rax, 10);
	/* G bits do as well; a disabled one is silent. */
	hits = 0;
	WRITE_DR(7, 0x400);
	CHECK_EQ(run_kernel(code, &r), DONE);
	CHECK_EQ(hits, 0);
	WRITE_DR(3, nop);
	WRITE_DR(7, 0x480);
	CHECK_EQ(run_kernel(code, &r), DONE);
	CHECK_EQ(hits, 10);
	CHECK_EQ(dr6s[0] & 8, 8);	/* a condition met by a disabled one may show as well */
	/* In user mode the linear address differs from the kernel's. */
	hits = 0;
	CHECK_EQ(run_user(code, &r), DONE);
	CHECK_EQ(hits, 0);
	WRITE_DR(7, 0x400);
}

static void data_breakpoints(void)
{
	set_up();
	uint64_t page = alloc_page();
	struct regs r = { .t = { .rcx = page } };
	WRITE_DR(1, page + 8);
	WRITE_DR(7, 0x400 | 4 | 0xdul << 20);	/* L1, writes, 4 bytes */
	const void *code = CODE("movq $1, (%%rcx); mov 8(%%rcx), %%eax; movb $1, 11(%%rcx); movb $1, 12(%%rcx); movq $5, 4(%%rcx); lea 1f(%%rip), %%rdx; incl 8(%%rcx); 1: nop");
	CHECK_EQ(run_kernel(code, &r), DONE);
	CHECK_EQ(hits, 3);
	CHECK_EQ(rips[2], r.t.rdx);	/* a trap: after the write */
	CHECK_EQ(dr6s[0] & 0xe00f, 2);
	CHECK_EQ(*(volatile uint32_t *)(page + 8), 1);
	/* reads and writes */
	hits = 0;
	WRITE_DR(7, 0x400 | 4 | 0xful << 20);
	r = (struct regs){ .t = { .rcx = page } };
	CHECK_EQ(run_kernel(code, &r), DONE);
	CHECK_EQ(hits, 4);
	/* string stores, stack pushes */
	hits = 0;
	WRITE_DR(7, 0x400 | 4 | 0xdul << 20);
	r = (struct regs){ .t = { .rdi = page, .rcx = 16 } };
	CHECK_EQ(run_kernel(CODE("rep stosb"), &r), DONE);
	CHECK(hits >= 1 && hits <= 4);
	hits = 0;
	r = (struct regs){ .t = { .rsp = page + 16 } };
	CHECK_EQ(run_kernel(CODE("push %%rax; nop"), &r), DONE);
	CHECK_EQ(hits, 1);
	/* 8 bytes wide */
	hits = 0;
	WRITE_DR(1, page + 64);
	WRITE_DR(7, 0x400 | 4 | 0x9ul << 20);
	r = (struct regs){ .t = { .rcx = page } };
	CHECK_EQ(run_kernel(CODE("movb $1, 63(%%rcx); movb $1, 64(%%rcx); movb $1, 71(%%rcx); movb $1, 72(%%rcx)"), &r), DONE);
	CHECK_EQ(hits, 2);
	WRITE_DR(7, 0x400);
}

static void debug_register_rules(void)
{
	set_up();
	set_handler(DB, 0);
	struct regs r = { .t = { .rax = 1ul << 32 } };
	CHECK_EQ(run_kernel(CODE("mov %%rax, %%dr7"), &r), GP);
	CHECK_EQ(run_kernel(CODE("mov %%rax, %%dr6"), &r), GP);
	r = (struct regs){ .t = { .rax = 0x123456789abc } };
	CHECK_EQ(run_kernel(CODE("mov %%rax, %%dr2; mov %%dr2, %%rdx"), &r), DONE);
	CHECK_EQ(r.t.rdx, 0x123456789abc);
	CHECK_EQ(READ_DR(7) & 0x400, 0x400);
	WRITE_DR(6, 0);
	CHECK_EQ(READ_DR(6) & 0xffff0ff0, 0xffff0ff0);
	/* DR4 and DR5 are aliases unless CR4.DE is set. */
	CHECK_EQ(run_kernel(CODE("mov %%dr5, %%rax; mov %%dr7, %%rdx"), &r), DONE);
	CHECK_EQ(r.t.rax, r.t.rdx);
	uint64_t cr4 = READ_CR(4);
	WRITE_CR(4, cr4 | 8);
	CHECK_EQ(run_kernel(CODE("mov %%dr5, %%rax"), &r), UD);
	WRITE_CR(4, cr4);
	/* General detect: the access faults, and GD is cleared for the handler. */
	WRITE_DR(7, 0x2400);
	CHECK_EQ(run_kernel(CODE("mov %%dr0, %%rax"), &r), DB);
	CHECK_EQ(r.offset, 0);
	CHECK_EQ(READ_DR(6) & 0x2000, 0x2000);
	CHECK_EQ(READ_DR(7) & 0x2000, 0);
	WRITE_DR(6, DR6_CLEAR);
}

const struct guest_test guest_tests[] = {
	{ "TF traps after every instruction, also each turn of a repeated one.", single_step },
	{ "Code breakpoints fault before the instruction, each time it is reached.", code_breakpoints },
	{ "Data breakpoints trap after an access that touches their bytes.", data_breakpoints },
	{ "Debug registers refuse, alias and detect as the manual says.", debug_register_rules },
	{ 0, 0 },
};
