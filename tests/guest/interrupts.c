/*
 * interrupts.c - proves that interrupts come when they may and not before: IF, the shadows of STI and MOV SS, priorities and
 * TPR, HLT, the local APIC's timer in its modes, self-interrupts in xAPIC and x2APIC form, and state across them.
 * Sources: AMD APM vol. 2, "Advanced Programmable Interrupt Controller (APIC)"; Intel SDM vol. 3, the same.
 */
#include "guest.h"

static volatile unsigned count[256];
static volatile uint64_t last_rip, last_rflags;
static volatile unsigned order[16], ordered;

static void on_interrupt(struct trap *t)
{
	count[t->vector]++;
	last_rip = t->rip;
	last_rflags = t->rflags;
	if (ordered < 16)
		order[ordered++] = (unsigned)t->vector;
	apic_write(APIC_EOI, 0);
}

static void watch(unsigned vector)
{
	set_handler(vector, on_interrupt);
	count[vector] = 0;
}

/* Lets pending interrupts in for a moment. */
static void open_window(void) { __asm__ volatile("sti; nop; nop; cli" : : : "memory"); }

static void waits_for_if(void)
{
	watch(0x70);
	apic_self(0x70);
	for (volatile int i = 0; i < 1000; i++)
		;
	CHECK_EQ(count[0x70], 0);
	CHECK(apic_bit(APIC_IRR, 0x70));
	open_window();
	CHECK_EQ(count[0x70], 1);
	CHECK(!apic_bit(APIC_IRR, 0x70) && !apic_bit(APIC_ISR, 0x70));
	CHECK(last_rflags & RFLAGS_IF);
	/* POPF and IRET open the window too, with no shadow. */
	apic_self(0x70);
	__asm__ volatile("pushfq; orl $0x200, (%%rsp); popfq; nop; cli" : : : "memory");
	CHECK_EQ(count[0x70], 2);
}

static void shadows(void)
{
	uint64_t after, next;
	watch(0x70);
	/* STI: the instruction after it still runs. */
	apic_self(0x70);
	__asm__ volatile("mov $0, %%eax; lea 1f(%%rip), %0; sti; inc %%eax; 1: nop; cli" : "=&r"(after) : : "rax", "memory");
	CHECK_EQ(count[0x70], 1);
	CHECK_EQ(last_rip, after);
	/* STI CLI lets nothing in. */
	apic_self(0x70);
	__asm__ volatile("sti; cli; nop; nop" : : : "memory");
	CHECK_EQ(count[0x70], 1);
	/* STI with IF set already has no shadow worth having: the next STI must not extend it for ever. */
	__asm__ volatile("sti; sti; sti; sti; cli" : : : "memory");
	CHECK_EQ(count[0x70], 2);
	/* MOV SS holds interrupts off for one instruction. */
	__asm__ volatile("sti; nop" : : : "memory");
	__asm__ volatile("cli" : : : "memory");
	apic_self(0x70);
	__asm__ volatile("mov %%ss, %%eax; pushfq; orl $0x200, (%%rsp); lea 1f(%%rip), %0; lea 2f(%%rip), %1; popfq; 1: nop; 2: cli"
			 : "=&r"(after), "=&r"(next) : : "rax", "memory");
	CHECK_EQ(count[0x70], 3);
	CHECK_EQ(last_rip, after);
	apic_self(0x70);
	__asm__ volatile("mov %%ss, %%eax; lea 1f(%%rip), %0; sti; mov %%eax, %%ss; nop; 1: nop; cli" : "=&r"(after) : : "rax", "memory");
	CHECK_EQ(count[0x70], 4);
	CHECK(last_rip == after || last_rip == after - 1);
}

static void priorities(void)
{
	unsigned vectors[] = { 0x51, 0xe1, 0x91, 0x71, 0xe0 };
	for (unsigned i = 0; i < 5; i++)
		watch(vectors[i]);
	ordered = 0;
	for (unsigned i = 0; i < 5; i++)
		apic_self((uint8_t)vectors[i]);
	__asm__ volatile("sti; nop; nop; nop; nop; nop; nop; nop; nop; cli" : : : "memory");
	CHECK_EQ(ordered, 5);
	CHECK_EQ(order[0], 0xe1);
	CHECK_EQ(order[1], 0xe0);
	CHECK_EQ(order[2], 0x91);
	CHECK_EQ(order[3], 0x71);
	CHECK_EQ(order[4], 0x51);
	/* TPR, by register and by CR8. */
	ordered = 0;
	apic_write(APIC_TPR, 0x80);
	CHECK_EQ(READ_CR(8), 8);
	apic_self(0x71);
	apic_self(0x91);
	open_window();
	CHECK_EQ(ordered, 1);
	CHECK_EQ(order[0], 0x91);
	WRITE_CR(8, 7);
	CHECK_EQ(apic_read(APIC_TPR), 0x70);
	open_window();
	CHECK_EQ(ordered, 1);
	WRITE_CR(8, 6);
	open_window();
	CHECK_EQ(ordered, 2);
	CHECK_EQ(order[1], 0x71);
	WRITE_CR(8, 0);
}

static volatile unsigned depth, deepest;
static void on_nested(struct trap *t)
{
	count[t->vector]++;
	if (++depth > deepest)
		deepest = depth;
	if (t->vector == 0x51) {
		apic_self(0x52);	/* the same class: must wait */
		apic_self(0x91);	/* a higher one: comes at once */
		__asm__ volatile("sti; nop; nop; cli" : : : "memory");
		CHECK_EQ(count[0x91], 1);
		CHECK_EQ(count[0x52], 0);
		CHECK(apic_bit(APIC_ISR, 0x51));
		CHECK_EQ(apic_read(APIC_PPR) & 0xf0, 0x50);
	}
	depth--;
	apic_write(APIC_EOI, 0);
}

static void nesting(void)
{
	unsigned vectors[] = { 0x51, 0x52, 0x91 };
	for (unsigned i = 0; i < 3; i++) {
		count[vectors[i]] = 0;
		set_handler(vectors[i], on_nested);
	}
	deepest = 0;
	apic_self(0x51);
	__asm__ volatile("sti; nop; nop; nop; cli" : : : "memory");
	CHECK_EQ(count[0x51], 1);
	CHECK_EQ(count[0x52], 1);
	CHECK_EQ(count[0x91], 1);
	CHECK_EQ(deepest, 2);
}

static void one_shot_timer(void)
{
	watch(0x40);
	apic_write(APIC_DIVIDE, 0xb);	/* by 1 */
	apic_write(APIC_TIMER, 0x40);
	apic_write(APIC_INITIAL, 100000);
	uint32_t first = apic_read(APIC_CURRENT);
	CHECK(first <= 100000);
	__asm__ volatile("sti; hlt; cli" : : : "memory");
	CHECK_EQ(count[0x40], 1);
	CHECK_EQ(apic_read(APIC_CURRENT), 0);
	for (int i = 0; i < 1000; i++)
		open_window();
	CHECK_EQ(count[0x40], 1);
	/* Masked: it counts and says nothing. */
	apic_write(APIC_TIMER, 0x10040);
	apic_write(APIC_INITIAL, 1000);
	while (apic_read(APIC_CURRENT))
		;
	open_window();
	CHECK_EQ(count[0x40], 1);
	/* Stopped by writing 0. */
	apic_write(APIC_TIMER, 0x40);
	apic_write(APIC_INITIAL, 1000000000);
	apic_write(APIC_INITIAL, 0);
	CHECK_EQ(apic_read(APIC_CURRENT), 0);
}

static void periodic_timer(void)
{
	watch(0x41);
	apic_write(APIC_DIVIDE, 0xb);
	apic_write(APIC_TIMER, 0x20041);
	apic_write(APIC_INITIAL, 200000);
	for (unsigned i = 0; i < 10; i++)
		__asm__ volatile("sti; hlt; cli" : : : "memory");
	CHECK(count[0x41] >= 10);
	/* It interrupts code that never gives way: one block jumping to itself. */
	unsigned before = count[0x41];
	__asm__ volatile("sti; 1: cmpl %1, %0; je 1b; cli" : : "m"(count[0x41]), "r"(before) : "memory", "cc");
	CHECK(count[0x41] > before);
	apic_write(APIC_INITIAL, 0);
	open_window();	/* one more may have come in before it stopped */
}

static void deadline_timer(void)
{
	if (!(cpuid(1, 0).c >> 24 & 1)) {
		skip_test("no TSC deadline");
		return;
	}
	watch(0x42);
	apic_write(APIC_TIMER, 0x40042);
	uint64_t deadline = rdtsc() + 100000000000ul;	/* not before it is read back, however busy the host is */
	wrmsr(0x6e0, deadline);
	CHECK_EQ(rdmsr(0x6e0), deadline);
	deadline = rdtsc() + 2000000;
	wrmsr(0x6e0, deadline);
	__asm__ volatile("sti; hlt; cli" : : : "memory");
	CHECK(rdtsc() >= deadline);
	CHECK_EQ(count[0x42], 1);
	CHECK_EQ(rdmsr(0x6e0), 0);
	wrmsr(0x6e0, 1);	/* long ago: at once */
	open_window();
	for (int i = 0; i < 100000 && count[0x42] < 2; i++)
		open_window();
	CHECK_EQ(count[0x42], 2);
	wrmsr(0x6e0, rdtsc() + 100000000000ul);
	wrmsr(0x6e0, 0);
	CHECK_EQ(rdmsr(0x6e0), 0);
}

/* Periodic interrupts while a loop checks its registers and flags; also from user mode. */
static void state_survives(void)
{
	watch(0x43);
	apic_write(APIC_DIVIDE, 0xb);
	apic_write(APIC_TIMER, 0x20043);
	apic_write(APIC_INITIAL, 100000);
#define KEEP "mov $0, %%eax; mov $11, %%ebx; mov $12, %%r8d; mov $13, %%r15d; mov $-1, %%ecx; mov $14, %%r10d; mov $15, %%r11d;"     \
	     "1: stc; mov $-1, %%edx; lea 1(%%rdx), %%edx; jnc 2f; cmp $11, %%ebx; jne 2f; cmp $12, %%r8d; jne 2f; cmp $13, %%r15d; jne 2f;" \
	     "cmp $14, %%r10; jne 2f; cmp $15, %%r11; jne 2f; cmpl %%esi, (%%rdi); jae 3f; dec %%ecx; jnz 1b; jmp 3f; 2: mov $1, %%eax; 3: "
	/* Until so many have come. */
	struct regs r = { .t = { .rflags = RFLAGS_IF, .rdi = (uint64_t)&count[0x43], .rsi = 500 } };
	CHECK_EQ(run_kernel(CODE(KEEP), &r), DONE);
	CHECK_EQ(r.t.rax, 0);
	CHECK(count[0x43] >= 500);
	r = (struct regs){ .t = { .rflags = RFLAGS_IF, .rdi = USER_BASE + (uint64_t)&count[0x43], .rsi = 1000 } };
	CHECK_EQ(run_user(CODE(KEEP), &r), DONE);
	CHECK_EQ(r.t.rax, 0);
	CHECK(count[0x43] >= 1000);
	apic_write(APIC_INITIAL, 0);
	open_window();
}

static void halt_with_pending(void)
{
	watch(0x70);
	/* An interrupt that is pending when HLT begins ends it at once; STI HLT has no gap to lose it in. */
	for (int i = 0; i < 1000; i++) {
		apic_self(0x70);
		__asm__ volatile("sti; hlt; cli" : : : "memory");
	}
	CHECK_EQ(count[0x70], 1000);
}

static void x2apic(void)
{
	struct regs r = { 0 };
	if (!(cpuid(1, 0).c >> 21 & 1)) {
		skip_test("no x2APIC");
		return;
	}
	uint32_t id = apic_read(APIC_ID) >> 24;
	apic_enable_x2();
	CHECK_EQ(apic_read(APIC_ID), id);
	waits_for_if();
	priorities();
	nesting();
	one_shot_timer();
	watch(0x70);
	wrmsr(0x83f, 0x70);	/* SELF IPI */
	open_window();
	CHECK_EQ(count[0x70], 1);
	/* Reserved registers, reserved bits, and the way back are refused. */
	r = (struct regs){ .t = { .rcx = 0x800 + APIC_ICR2 / 16 } };
	CHECK_EQ(run_kernel(CODE("rdmsr"), &r), GP);
	r = (struct regs){ .t = { .rcx = 0x800 + APIC_EOI / 16, .rax = 1 } };
	CHECK_EQ(run_kernel(CODE("wrmsr"), &r), GP);
	r = (struct regs){ .t = { .rcx = 0x800 + APIC_SVR / 16, .rax = 0x1ff, .rdx = 1 } };
	CHECK_EQ(run_kernel(CODE("wrmsr"), &r), GP);
	uint64_t base = rdmsr(0x1b);
	r = (struct regs){ .t = { .rcx = 0x1b, .rax = (uint32_t)base & ~0x400u, .rdx = base >> 32 } };
	CHECK_EQ(run_kernel(CODE("wrmsr"), &r), GP);
}

static void apic_basics(void)
{
	apic_enable();
	CHECK_EQ(rdmsr(0x1b) & 0xfffff900, 0xfee00900);
	CHECK_EQ(apic_read(APIC_ID) >> 24, cpuid(1, 0).b >> 24);
	waits_for_if();
}

const struct guest_test guest_tests[] = {
	{ "An interrupt waits in IRR until IF is set.", apic_basics },
	{ "STI and MOV SS hold interrupts off for one instruction.", shadows },
	{ "Interrupts come in the order of their priority, and TPR and CR8 hold back the lower ones.", priorities },
	{ "A handler is interrupted by a higher class only.", nesting },
	{ "The one-shot timer fires once and wakes HLT.", one_shot_timer },
	{ "The periodic timer interrupts even a tight loop.", periodic_timer },
	{ "The TSC-deadline timer fires at its deadline, or at once when that has passed.", deadline_timer },
	{ "Registers and flags survive interrupts at both privileges.", state_survives },
	{ "HLT never sleeps over a pending interrupt.", halt_with_pending },
	{ "x2APIC does the same through MSRs and refuses what it must.", x2apic },
	{ 0, 0 },
};
