/*
 * svm.c - a small hypervisor: proves VMRUN and #VMEXIT, what is saved and restored, every intercept of an instruction, of ports, MSRs, exceptions and
 * interrupts, event injection, virtual interrupts, GIF, and what VMRUN refuses. Its guest runs in the same address space, at CPL 0, from snippets.
 * Source: AMD APM vol. 2, "Secure Virtual Machine".
 */
#include "vmcb.h"

/* ---- instructions and MSRs ---- */

static void offered(void)
{
	CHECK(cpuid(0x80000001, 0).c & 4);
	struct cpuid r = cpuid(0x8000000a, 0);
	CHECK_EQ(r.a & 0xff, 1);
	CHECK(r.b >= 2);
	CHECK_EQ(r.c, 0);
	CHECK(r.d & 1u << 3);	/* nRIP is saved */
	CHECK_EQ(rdmsr(VM_CR), 0);
	wrmsr(VM_HSAVE_PA, 0x123000);
	CHECK_EQ(rdmsr(VM_HSAVE_PA), 0x123000);
	struct regs bad = { .t = { .rcx = VM_HSAVE_PA, .rax = 0x800 } };
	CHECK_EQ(run_kernel(CODE("wrmsr"), &bad), GP);
	bad = (struct regs){ .t = { .rcx = VM_CR, .rax = 1 << 5 } };
	CHECK_EQ(run_kernel(CODE("wrmsr"), &bad), GP);
}

static void without_svme(void)
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SVME);
	EXPECT(CODE("vmrun"), UD);
	EXPECT(CODE("vmload"), UD);
	EXPECT(CODE("vmsave"), UD);
	EXPECT(CODE("stgi"), UD);
	EXPECT(CODE("clgi"), UD);
	EXPECT(CODE("invlpga"), UD);
	EXPECT(CODE("skinit"), UD);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	EXPECT(CODE("stgi; xor %%eax, %%eax; xor %%ecx, %%ecx; invlpga"), DONE);
	EXPECT(CODE("skinit"), UD);
}

static void who_may(void)
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	const void *code[] = { CODE("vmrun"), CODE("vmload"), CODE("vmsave"), CODE("stgi"), CODE("clgi"), CODE("invlpga") };
	for (unsigned i = 0; i < sizeof code / sizeof *code; i++) {
		struct regs r = { 0 };
		CHECK_EQ(run_user(code[i], &r), GP);
		CHECK_EQ(r.t.error, 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		struct regs r = { .t = { .rax = 0x800 } };	/* not a page */
		CHECK_EQ(run_kernel(code[i], &r), GP);
		r = (struct regs){ .t = { .rax = 1ul << 50 } };	/* no such address */
		CHECK_EQ(run_kernel(code[i], &r), GP);
	}
}

static void disabled(void)
{
	/* SVMDIS keeps SVME from being set; it cannot be set while SVME is. LOCK is for good, so it is not tried. */
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	struct regs r = { .t = { .rcx = VM_CR, .rax = 0x10 } };
	CHECK_EQ(run_kernel(CODE("wrmsr"), &r), GP);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SVME);
	wrmsr(VM_CR, 0x10);
	uint64_t efer = rdmsr(MSR_EFER) | EFER_SVME;
	r = (struct regs){ .t = { .rcx = MSR_EFER, .rax = (uint32_t)efer, .rdx = efer >> 32 } };
	CHECK_EQ(run_kernel(CODE("wrmsr"), &r), GP);
	wrmsr(VM_CR, 0);
}

static void vmload_vmsave(void)
{
	set_up(0);
	uint64_t gs = rdmsr(0xc0000102), star = rdmsr(0xc0000081);
	__asm__ volatile("vmsave" : : "a"(vmcb) : "memory");
	CHECK_EQ(*q(KERNEL_GS), gs);
	CHECK_EQ(*q(STAR), star);
	CHECK_EQ(*(volatile uint16_t *)q(SEG_TR), TSS_SELECTOR);
	CHECK_EQ(*q(RIP), 0);	/* not a part of it */
	*q(KERNEL_GS) = 0x1234560;
	q(SEG_FS)[1] = 0x8000123400000000;	/* is made canonical */
	__asm__ volatile("vmload" : : "a"(vmcb) : "memory");
	CHECK_EQ(rdmsr(0xc0000102), 0x1234560);
	CHECK_EQ(rdmsr(0xc0000100), 0x123400000000);
	wrmsr(0xc0000102, gs);
	wrmsr(0xc0000100, 0);
}

/* ---- VMRUN and #VMEXIT ---- */

static void state(void)
{
	set_up(CODE("mov %%cr2, %%rcx; mov %%dr7, %%rdx; lea 5(%%rax), %%rax; mov %%rsp, %%rbx; add $64, %%rsp; mov $0x77, %%esi; mov %%rsi, %%cr2;"
		    "stc; std; vmmcall"));
	uint64_t code = *q(RIP), sp = *q(RSP), cr3 = READ_CR(3), cr0 = READ_CR(0), flags;
	*q(RAX) = 100;
	*q(CR2) = 0x5555;
	*q(DR7) = 0x455;
	*q(EVENTINJ) = 0x500;	/* not valid: nothing */
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	__asm__ volatile("pushfq; pop %0" : "=r"(flags));
	CHECK_EQ(l2.rcx, 0x5555);
	CHECK_EQ(l2.rdx, 0x455);
	CHECK_EQ(l2.rbx, sp);
	CHECK_EQ(*q(RAX), 105);
	CHECK_EQ(*q(RSP), sp + 64);
	CHECK_EQ(*q(CR2), 0x77);
	CHECK_EQ(*q(RFLAGS) & 0x401, 0x401);
	CHECK_EQ(*q(NRIP), *q(RIP) + 3);
	CHECK(*q(RIP) > code && *q(RIP) < code + 64);
	CHECK_EQ(*q(INTINFO), 0);
	CHECK_EQ(flags & 0x400, 0);	/* our own flags are back */
	CHECK_EQ(READ_CR(3), cr3);
	CHECK_EQ(READ_CR(0), cr0);
	uint64_t dr7;
	__asm__ volatile("mov %%dr7, %0" : "=r"(dr7));
	CHECK_EQ(dr7, 0x400);
	/* Goes on where it left off. */
	*q(RIP) = (uint64_t)CODE("mov $9, %%ecx; vmmcall");
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(l2.rcx, 9);
}

static void address_spaces(void)
{
	/* The same address is another page in the guest's tables; neither sees the other's after the switch. */
	uint64_t va = 0x700000000000, one = alloc_page(), two = alloc_page(), root = new_root();
	map_page(va, one, PTE_P | PTE_W | PTE_G);
	*entry_at(root, va, 1) = two | PTE_P | PTE_W | PTE_G;
	WRITE_CR(4, READ_CR(4) | CR4_PGE);
	*word_at(va) = 0x1111;
	for (unsigned i = 0; i < 4; i++) {
		set_up(CODE("mov (%%rdx), %%rcx; movq $0x2222, (%%rdx); mov %%cr3, %%rax; mov %%rax, %%cr3; vmmcall"));
		*q(CR3) = root;
		l2.rdx = va;
		CHECK_EQ(vmrun(), EXIT_VMMCALL);
		CHECK_EQ(l2.rcx, i ? 0x2222 : 0);
		CHECK_EQ(*word_at(va), 0x1111 + i);
		*word_at(va) += 1;
	}
	WRITE_CR(4, READ_CR(4) & ~CR4_PGE);
	unmap_page(va);
}

/* Two ASIDs, and the host, that see different pages at one address, alternately; then flushes that must be seen. */
static void asids(void)
{
	uint64_t va = 0x700000000000, page[3], root[2];
	for (unsigned i = 0; i < 3; i++) {
		page[i] = alloc_page();
		*word_at(page[i]) = 100 + i;
	}
	for (unsigned i = 0; i < 2; i++) {
		root[i] = new_root();
		*entry_at(root[i], va, 1) = page[i] | PTE_P | PTE_W | PTE_G;
	}
	map_page(va, page[2], PTE_P | PTE_W | PTE_G);
	WRITE_CR(4, READ_CR(4) | CR4_PGE);
	for (unsigned n = 0; n < 30; n++) {
		set_up(CODE("mov (%%rdx), %%rcx; vmmcall"));
		*q(CR3) = root[n % 2];
		*d(ASID) = 1 + n % 2 + (n >= 20 ? n * 2 : 0);	/* more than are kept, at last */
		l2.rdx = va;
		CHECK_EQ(vmrun(), EXIT_VMMCALL);
		CHECK_EQ(l2.rcx, 100 + n % 2);
		CHECK_EQ(*word_at(va), 102);
	}
	for (unsigned how = 0; how < 6; how++) {
		*entry_at(root[0], va, 1) = page[how % 2] | PTE_P | PTE_W | PTE_G;
		set_up(how == 5 ? CODE("invlpg (%%rdx); mov (%%rdx), %%rcx; vmmcall") : CODE("mov (%%rdx), %%rcx; vmmcall"));
		*q(CR3) = root[0];
		l2.rdx = va;
		*d(TLB_CONTROL) = how == 0 ? 1 : how == 1 ? 3 : how == 2 ? 7 : 0;
		if (how == 3)
			__asm__ volatile("invlpga" : : "a"(va), "c"(1));
		if (how == 4)
			*d(ASID) = 31;	/* another */
		CHECK_EQ(vmrun(), EXIT_VMMCALL);
		if (how < 4 || how == 5)
			CHECK_EQ(l2.rcx, 100 + how % 2);
	}
	WRITE_CR(4, READ_CR(4) & ~CR4_PGE);
	unmap_page(va);
}

static void refused(void)
{
	static const struct { uint16_t at; uint64_t clear, set; const char *what; } row[] = {
		{ EFER, EFER_SVME, 0, "EFER.SVME clear" }, { EFER, 0, 2, "EFER reserved" }, { CR0, 0, 1ul << 29, "NW without CD" },
		{ CR0, 0, 1ul << 32, "CR0 high" }, { CR0, 1, 0, "long mode without PE" }, { CR3, 0, 1ul << 50, "CR3 reserved" },
		{ CR4, 0, 1ul << 63, "CR4 reserved" }, { CR4, 1 << 5, 0, "long mode without PAE" }, { DR6, 0, 1ul << 32, "DR6 high" },
		{ DR7, 0, 1ul << 32, "DR7 high" }, { SEG_CS, 0, 0x4000000, "CS.L and CS.D" }, { INTERCEPT + 0x10, 1, 0, "VMRUN not intercepted" },
		{ ASID, ~0u, 0, "ASID 0" }, { IOPM, 0, 1ul << 51, "IOPM" }, { MSRPM, 0, 1ul << 51, "MSRPM" }, { EVENTINJ, 0, 0x80000100, "event of type 1" },
		{ EVENTINJ, 0, 0x80000302, "exception 2" },
	};
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		set_up(CODE("vmmcall"));
		*q(row[i].at) = (*q(row[i].at) & ~row[i].clear) | row[i].set;
		uint64_t was = *q(row[i].at);
		if (!check_that(vmrun() == EXIT_INVALID, row[i].what, __FILE__, __LINE__))
			continue;
		CHECK_EQ(*q(row[i].at) & ~0x80000000ul, was & ~0x80000000ul);
	}
	CHECK_EQ(RUN(CODE("vmmcall")), EXIT_VMMCALL);
}

/* ---- intercepts ---- */

static void nothing(struct trap *t) { (void)t; }

static void instructions(void)
{
	static uint64_t memory[4];
	const struct { uint16_t exit; const void *code; uint8_t len; bool faults; } row[] = {
		{ 0x00, CODE("mov %%cr0, %%rsi"), 3, 0 }, { 0x02, CODE("mov %%cr2, %%rsi"), 3, 0 }, { 0x03, CODE("mov %%cr3, %%rsi"), 3, 0 }, { 0x04, CODE("mov %%cr4, %%rsi"), 3, 0 },
		{ 0x08, CODE("mov %%cr8, %%rsi"), 4, 0 }, { 0x00, CODE("smsw %%esi"), 3, 0 }, { 0x10, CODE("mov %%rcx, %%cr0"), 3, 0 },
		{ 0x12, CODE("mov %%rcx, %%cr2"), 3, 0 }, { 0x13, CODE("mov %%rbx, %%cr3"), 3, 0 }, { 0x18, CODE("mov %%rax, %%cr8"), 4, 0 },
		{ 0x10, CODE("clts"), 2, 0 }, { 0x10, CODE("lmsw %%cx"), 3, 0 }, { 0x20, CODE("mov %%dr0, %%rsi"), 3, 0 }, { 0x26, CODE("mov %%dr6, %%rsi"), 3, 0 },
		{ 0x27, CODE("mov %%dr7, %%rsi"), 3, 0 }, { 0x31, CODE("mov %%rax, %%dr1"), 3, 0 }, { 0x43, CODE("int3"), 1, 0 },
		{ 0x66, CODE("sidt (%%rdi)"), 3, 0 }, { 0x67, CODE("sgdt (%%rdi)"), 3, 0 }, { 0x68, CODE("sldt %%esi"), 3, 0 }, { 0x69, CODE("str %%esi"), 3, 0 },
		{ 0x6e, CODE("rdtsc"), 2, 0 }, { 0x6f, CODE("rdpmc"), 2, 1 }, { 0x70, CODE("pushfq"), 1, 0 }, { 0x71, CODE("popfq"), 1, 0 }, { 0x72, CODE("cpuid"), 2, 0 },
		{ 0x75, CODE("int $0x90"), 2, 0 }, { 0x76, CODE("invd"), 2, 0 }, { 0x77, CODE("pause"), 2, 0 }, { 0x79, CODE("invlpg (%%rdi)"), 3, 0 }, { 0x87, CODE("rdtscp"), 3, 0 },
		{ 0x89, CODE("wbinvd"), 2, 0 }, { 0x84, CODE("stgi"), 3, 0 }, { 0x7a, CODE("xor %%ecx, %%ecx; invlpga"), 3, 0 },
	};
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		/* Intercepted, and not: then it comes to the INT 80h at the snippet's end. */
		for (unsigned on = 0; on < 2; on++) {
			set_handler(0x90, nothing);
			set_handler(BP, nothing);
			set_up(row[i].code);
			l2.rcx = READ_CR(0);
			l2.rbx = READ_CR(3);
			l2.rdi = (uint64_t)memory;
			*q(RSP) -= 8;
			*word_at(*q(RSP)) = RFLAGS_FIXED;
			intercept(EXIT_EXCEPTION + GP);
			intercept(EXIT_EXCEPTION + NP);
			set_gate(0x80, false, 0, 0);	/* so the end is #NP */
			if (on)
				intercept(row[i].exit);
			uint64_t code = vmrun(), rip = *q(RIP);
			set_gate(0x80, true, 3, 1);
			CHECK_EQ(code, on ? row[i].exit : EXIT_EXCEPTION + (unsigned)(row[i].faults ? GP : NP));
			if (on)
				CHECK_EQ(*q(NRIP), rip + row[i].len);
			set_handler(0x90, 0);
			set_handler(BP, 0);
		}
	}
}

/* Those that would not come to the snippet's end: intercepted, nothing of them happens. At CPL 3 they fault instead, but for those that are for everybody. */
static void instructions_first(void)
{
	static uint64_t memory[4];
	const struct { uint16_t exit; const void *code; uint8_t len; bool everybody; } row[] = {
		{ 0x6a, CODE("lidt (%%rdi)"), 3, 0 }, { 0x6b, CODE("lgdt (%%rdi)"), 3, 0 }, { 0x6c, CODE("lldt %%cx"), 3, 0 }, { 0x6d, CODE("ltr %%cx"), 3, 0 },
		{ 0x74, CODE("iretq"), 2, 1 }, { 0x78, CODE("hlt"), 1, 0 }, { 0x88, CODE(".byte 0xf1"), 1, 1 }, { 0x8d, CODE("xsetbv"), 3, 1 }, { 0x14, CODE("mov %%rcx, %%cr4"), 3, 0 },
		{ 0x80, CODE("vmrun"), 3, 0 }, { 0x82, CODE("vmload"), 3, 0 }, { 0x83, CODE("vmsave"), 3, 0 }, { 0x85, CODE("clgi"), 3, 0 }, { 0x89, CODE("wbinvd"), 2, 0 },
		{ 0x75, CODE("int $0x80"), 2, 1 }, { 0x81, CODE("vmmcall"), 3, 1 }, { 0x30, CODE("mov %%rax, %%dr0"), 3, 0 }, { 0x37, CODE("mov %%rax, %%dr7"), 3, 0 },
		{ 0x22, CODE("mov %%dr2, %%rax"), 3, 0 }, { 0x36, CODE("mov %%rax, %%dr6"), 3, 0 },
	};
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		for (unsigned user = 0; user < 2; user++) {
			set_up((const void *)((uint64_t)row[i].code + (user ? USER_BASE : 0)));
			if (user) {
				segment(SEG_CS, USER_CS, 0xafb, ~0u, 0);
				segment(SEG_SS, USER_DS, 0xcf3, ~0u, 0);
				vmcb[CPL] = 3;
				*q(RSP) += USER_BASE;
			}
			*q(CR4) |= 1 << 18;	/* OSXSAVE */
			*q(RAX) = (uint64_t)vmcb;
			l2.rcx = 0;
			l2.rdi = (uint64_t)memory;
			intercept(row[i].exit);
			intercept(EXIT_EXCEPTION + GP);
			intercept(EXIT_EXCEPTION + UD);
			uint64_t rip = *q(RIP), sp = *q(RSP), gdt_was = q(SEG_GDTR)[1];
			CHECK_EQ(vmrun(), user && !row[i].everybody ? EXIT_EXCEPTION + GP : (unsigned)row[i].exit);
			CHECK_EQ(*q(RIP), rip);
			CHECK_EQ(*q(RSP), sp);
			CHECK_EQ(q(SEG_GDTR)[1], gdt_was);
			if (!user || row[i].everybody)
				CHECK_EQ(*q(NRIP), rip + row[i].len);
		}
	}
}

static volatile unsigned taken;
static void count(struct trap *t) { (void)t; taken++; }
static void count_eoi(struct trap *t) { (void)t; taken++; apic_write(APIC_EOI, 0); }

static void selective_cr0(void)
{
	set_up(CODE("clts; mov %%cr0, %%rcx; xor $8, %%rcx; mov %%rcx, %%cr0; clts; mov %%cr0, %%rcx; btc $18, %%rcx; mov %%rcx, %%cr0; vmmcall"));
	intercept(EXIT_CR0_SEL);
	CHECK_EQ(vmrun(), EXIT_CR0_SEL);
	CHECK_EQ(l2.rcx ^ *q(CR0), 1 << 18);
}

static void ports(void)
{
	set_up(CODE("mov $0x55, %%al; out %%al, $0x80; in $0x71, %%al; vmmcall"));
	intercept(EXIT_IOIO);
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	set_up(CODE("mov $0x55, %%al; out %%al, $0x80; vmmcall"));
	intercept(EXIT_IOIO);
	iopm[0x80 / 8] = 1;
	CHECK_EQ(vmrun(), EXIT_IOIO);
	CHECK_EQ(*q(INFO1), 0x80 << 16 | 1 << 4);
	CHECK_EQ(*q(INFO2), *q(RIP) + 2);
	set_up(CODE("mov $0x7e, %%edx; in %%dx, %%eax; vmmcall"));	/* touches 7e to 81 */
	intercept(EXIT_IOIO);
	iopm[0x80 / 8] = 2;
	CHECK_EQ(vmrun(), EXIT_IOIO);
	CHECK_EQ(*q(INFO1), 0x7e << 16 | 4 << 4 | 1);
	set_up(CODE("mov $0xffff, %%edx; lea 1f(%%rip), %%rsi; mov $3, %%ecx; rep outsw; vmmcall; 1: nop"));	/* goes beyond the last port */
	intercept(EXIT_IOIO);
	iopm[0x2000] = 1;
	CHECK_EQ(vmrun(), EXIT_IOIO);
	CHECK_EQ(*q(INFO1), 0xfffful << 16 | 3 << 10 | 8 << 6 | 2 << 4 | 8 | 4);
}

static void msrs(void)
{
	static const struct { uint32_t msr; uint16_t at; } row[] = { { 0x277, 0 }, { 0xc0000080, 0x800 }, { 0xc0010015, 0x1000 } };
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned write = 0; write < 2; write++) {
			unsigned bit = (row[i].msr & 0x1fff) * 2 + write;
			set_up(CODE("rdmsr; wrmsr; vmmcall"));
			intercept(EXIT_MSR);
			l2.rcx = row[i].msr;
			CHECK_EQ(vmrun(), EXIT_VMMCALL);
			set_up(CODE("rdmsr; wrmsr; vmmcall"));
			intercept(EXIT_MSR);
			l2.rcx = row[i].msr;
			msrpm[row[i].at + bit / 8] = (uint8_t)(1 << bit % 8);
			CHECK_EQ(vmrun(), EXIT_MSR);
			CHECK_EQ(*q(INFO1), write);
			CHECK_EQ(*q(NRIP), *q(RIP) + 2);
		}
	}
	set_up(CODE("rdmsr; vmmcall"));
	intercept(EXIT_MSR);
	l2.rcx = 0x4b564d00;	/* in no map: always */
	CHECK_EQ(vmrun(), EXIT_MSR);
}

static void exceptions(void)
{
	set_up(CODE("ud2"));
	intercept(EXIT_EXCEPTION + UD);
	CHECK_EQ(vmrun(), EXIT_EXCEPTION + UD);
	CHECK_EQ(*q(NRIP), 0);
	set_up(CODE("mov $0x7000000000ff, %%rdx; mov %%eax, (%%rdx)"));
	intercept(EXIT_EXCEPTION + PF);
	*q(CR2) = 0x1234;
	CHECK_EQ(vmrun(), EXIT_EXCEPTION + PF);
	CHECK_EQ(*q(INFO1), 2);
	CHECK_EQ(*q(INFO2), 0x7000000000ff);
	CHECK_EQ(*q(CR2), 0x1234);
	/* An exception while another event is delivered says so. */
	set_up(CODE("int $0x91"));
	segment(SEG_IDTR, 0, 0, 0, 0);
	intercept(EXIT_EXCEPTION + GP);
	CHECK_EQ(vmrun(), EXIT_EXCEPTION + GP);
	CHECK_EQ(*q(INFO1), 0x91 * 8 + 2);
	CHECK_EQ(*q(INTINFO), 0x80000491);
	set_up(CODE("ud2"));
	segment(SEG_IDTR, 0, 0, 0, 0);
	intercept(EXIT_EXCEPTION + GP);
	CHECK_EQ(vmrun(), EXIT_EXCEPTION + GP);
	CHECK_EQ(*q(INTINFO), 0x80000306);
	/* #UD, #GP, #GP: a double fault. */
	set_up(CODE("ud2"));
	segment(SEG_IDTR, 0, 0, 0, 0);
	intercept(EXIT_EXCEPTION + DF);
	CHECK_EQ(vmrun(), EXIT_EXCEPTION + DF);
	set_up(CODE("ud2"));
	segment(SEG_IDTR, 0, 0, 0, 0);
	intercept(EXIT_SHUTDOWN);
	CHECK_EQ(vmrun(), EXIT_SHUTDOWN);
	/* What is not intercepted is the guest's own. */
	set_handler(UD, nothing);
	taken = 0;
	set_handler(BP, count);
	CHECK_EQ(RUN(CODE("int3; vmmcall")), EXIT_VMMCALL);
	CHECK_EQ(taken, 1);
	set_handler(UD, 0);
	set_handler(BP, 0);
	/* VMMCALL that is not intercepted is #UD. */
	set_up(CODE("vmmcall"));
	*d(INTERCEPT + 0x10) = 1;
	intercept(EXIT_EXCEPTION + UD);
	CHECK_EQ(vmrun(), EXIT_EXCEPTION + UD);
}

/* ---- events ---- */

static struct trap seen;
static void see(struct trap *t) { seen = *t; taken++; }

static void injection(void)
{
	set_handler(0x92, see);
	set_handler(UD, see);
	set_handler(GP, see);
	set_handler(NMI, see);
	static const struct { uint64_t event; unsigned vector; uint64_t error; bool next; } row[] = {
		{ 0x80000092, 0x92, 0, 0 }, { 0x80000306, UD, 0, 0 }, { 0x123480000b0d, GP, 0x1234, 0 },
		{ 0x80000202, NMI, 0, 0 }, { 0x80000492, 0x92, 0, 1 },
	};
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		set_up(CODE("nop; nop; vmmcall"));
		taken = 0;
		*q(EVENTINJ) = row[i].event;
		*q(NRIP) = *q(RIP) + 1;
		uint64_t rip = *q(RIP);
		for (unsigned e = 0; e < 32; e++)
			intercept(EXIT_EXCEPTION + e);	/* does not count for what is injected */
		CHECK_EQ(vmrun(), EXIT_VMMCALL);
		CHECK_EQ(taken, 1);
		CHECK_EQ(seen.vector, row[i].vector);
		CHECK_EQ(seen.rip, rip + row[i].next);
		CHECK_EQ(seen.error, row[i].error);
		CHECK_EQ(*q(EVENTINJ) & 0x80000000, 0);
	}
	/* A fault in the delivery of what was injected. */
	set_up(CODE("vmmcall"));
	segment(SEG_IDTR, 0, 0, 0, 0);
	*q(EVENTINJ) = 0x80000092;
	intercept(EXIT_EXCEPTION + GP);
	CHECK_EQ(vmrun(), EXIT_EXCEPTION + GP);
	CHECK_EQ(*q(INTINFO), 0x80000092);
	set_handler(UD, 0);
	set_handler(GP, 0);
	set_handler(NMI, 0);
}

static void gif(void)
{
	apic_enable();
	set_handler(0x93, count_eoi);
	taken = 0;
	__asm__ volatile("clgi; sti");
	apic_self(0x93);
	for (volatile unsigned i = 0; i < 1000; i++)
		;
	CHECK_EQ(taken, 0);
	__asm__ volatile("stgi; nop");
	CHECK_EQ(taken, 1);
	__asm__ volatile("cli");
	/* #VMEXIT clears it. */
	set_up(CODE("vmmcall"));
	vmrun_only();
	apic_self(0x93);
	__asm__ volatile("sti; nop; nop");
	CHECK_EQ(taken, 1);
	__asm__ volatile("stgi; nop");
	CHECK_EQ(taken, 2);
	__asm__ volatile("cli");
}

static void physical_interrupts(void)
{
	/* With V_INTR_MASKING our IF decides, not the guest's; the interrupt stays for us. */
	apic_enable();
	set_handler(0x93, count_eoi);
	taken = 0;
	set_up(CODE("1: jmp 1b"));
	intercept(EXIT_INTR);
	*d(INT_CTL) = 1 << 24;
	apic_self(0x93);
	__asm__ volatile("clgi; sti");
	vmrun_only();
	CHECK_EQ(*q(EXITCODE), EXIT_INTR);
	CHECK_EQ(taken, 0);
	__asm__ volatile("stgi; nop; cli");
	CHECK_EQ(taken, 1);
	/* Our IF is clear: it waits, whatever the guest does. */
	set_up(CODE("sti; nop; nop; cli; vmmcall"));
	intercept(EXIT_INTR);
	*d(INT_CTL) = 1 << 24;
	apic_self(0x93);
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(taken, 1);
	/* Without masking the guest's IF decides. */
	set_up(CODE("nop; nop; sti; nop; nop; vmmcall"));
	intercept(EXIT_INTR);
	uint64_t rip = *q(RIP);
	CHECK_EQ(vmrun(), EXIT_INTR);
	CHECK(*q(RIP) >= rip + 3);
	/* Not intercepted: the guest takes it. */
	set_up(CODE("sti; nop; nop; cli; vmmcall"));
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(taken, 2);
	/* An NMI. */
	set_up(CODE("nop; nop; nop; vmmcall"));
	intercept(EXIT_NMI);
	__asm__ volatile("clgi");
	apic_write(APIC_ICR, 4 << 8 | 1 << 18);
	vmrun_only();
	CHECK_EQ(*q(EXITCODE), EXIT_NMI);
	taken = 0;
	set_handler(NMI, count);
	__asm__ volatile("stgi; nop");
	CHECK_EQ(taken, 1);
	set_handler(NMI, 0);
}

static void virtual_interrupts(void)
{
	set_handler(0x94, see);
	taken = 0;
	/* V_PRIO 5 against V_TPR 0; IF is clear at first. */
	set_up(CODE("nop; nop; sti; nop; nop; cli; vmmcall"));
	uint64_t rip = *q(RIP);
	*d(INT_CTL) = 1 << 24 | 5 << 16 | 1 << 8;
	*d(INT_VECTOR) = 0x94;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(taken, 1);
	CHECK_EQ(seen.rip, rip + 4);
	CHECK_EQ(*d(INT_CTL) & 1 << 8, 0);
	/* CR8 is V_TPR, and holds it back. */
	set_up(CODE("mov $5, %%eax; mov %%rax, %%cr8; sti; nop; nop; mov %%cr8, %%rcx; mov $4, %%eax; mov %%rax, %%cr8; nop; cli; vmmcall"));
	*d(INT_CTL) = 1 << 24 | 5 << 16 | 1 << 8;
	*d(INT_VECTOR) = 0x94;
	taken = 0;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(taken, 1);
	CHECK_EQ(l2.rcx, 5);
	CHECK_EQ(*d(INT_CTL) & 0xff, 4);
	CHECK_EQ(READ_CR(8), 0);
	/* V_IGN_TPR. */
	set_up(CODE("mov $15, %%eax; mov %%rax, %%cr8; sti; nop; nop; cli; vmmcall"));
	*d(INT_CTL) = 1 << 24 | 1 << 20 | 1 << 8;
	*d(INT_VECTOR) = 0x94;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(taken, 2);
	/* The window. */
	set_up(CODE("nop; sti; nop; nop; vmmcall"));
	rip = *q(RIP);
	*d(INT_CTL) = 1 << 24 | 1 << 20 | 1 << 8;
	intercept(EXIT_VINTR);
	CHECK_EQ(vmrun(), EXIT_VINTR);
	CHECK_EQ(*q(RIP), rip + 3);
	CHECK_EQ(*d(INT_CTL) & 1 << 8, 1 << 8);
	/* The shadow is a part of the state. */
	set_up(CODE("sti; cpuid"));
	intercept(0x72);
	CHECK_EQ(vmrun(), 0x72);
	CHECK_EQ(*q(INT_STATE) & 1, 1);
	set_up(CODE("sti; ud2"));
	intercept(0x46);
	CHECK_EQ(vmrun(), 0x46);
	CHECK_EQ(*q(INT_STATE) & 1, 1);
	set_up(CODE("sti; mov (%%rdi), %%rcx"));
	l2.rdi = 1ull << 63; /* #GP */
	intercept(0x4d);
	CHECK_EQ(vmrun(), 0x4d);
	CHECK_EQ(*q(INT_STATE) & 1, 1);
	/* It ends with the instruction after STI, whatever that is, and IF that was set already begins none. */
	const void *const ended[] = { CODE("sti; nop; cpuid"), CODE("sti; mov (%%rdi), %%rcx; cpuid"), CODE("sti; sti; cpuid"), CODE("sti; push %%rdi; cpuid"), CODE("sti; pushfq; cpuid"),
				      CODE("sti; jmp 1f; 1: cpuid"), CODE("sti; rdtsc; cpuid"), CODE("sti; nop; sti; cpuid") };
	for (unsigned i = 0; i < sizeof ended / sizeof *ended; i++) {
		uint64_t word = 7;

		set_up(ended[i]);
		l2.rdi = (uint64_t)&word;
		intercept(0x72);
		CHECK_EQ(vmrun(), 0x72);
		CHECK_EQ(*q(INT_STATE) & 1, 0);
		CHECK_EQ(*q(RFLAGS) & RFLAGS_IF, RFLAGS_IF);
		if (i == 1)
			CHECK_EQ(l2.rcx, 7);
	}
	set_up(CODE("nop; nop; cli; vmmcall"));
	rip = *q(RIP);
	*q(RFLAGS) |= RFLAGS_IF;
	*q(INT_STATE) = 1;
	*d(INT_CTL) = 1 << 24 | 1 << 20 | 1 << 8;
	*d(INT_VECTOR) = 0x94;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(seen.rip, rip + 1);
}

static void halt(void)
{
	/* HLT that is not intercepted waits for what is. */
	apic_enable();
	set_handler(0x93, count_eoi);
	taken = 0;
	set_up(CODE("1: hlt; jmp 1b"));
	intercept(EXIT_INTR);
	*d(INT_CTL) = 1 << 24;
	apic_write(APIC_DIVIDE, 0xb);
	apic_write(APIC_TIMER, 0x93);
	__asm__ volatile("clgi; sti");
	apic_write(APIC_INITIAL, 1000000);
	vmrun_only();
	CHECK_EQ(*q(EXITCODE), EXIT_INTR);
	__asm__ volatile("stgi; nop; cli");
	CHECK_EQ(taken, 1);
}

static void time_stamps(void)
{
	set_up(CODE("rdtsc; mov %%eax, %%ecx; shl $32, %%rdx; or %%rdx, %%rcx; mov %%rcx, %%rsi; rdtscp; shl $32, %%rdx; or %%rdx, %%rax; mov %%rax, %%rdi; vmmcall"));
	*q(TSC_OFFSET) = 1ul << 50;
	uint64_t before = rdtsc();
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	uint64_t after = rdtsc();
	CHECK(l2.rsi - (1ul << 50) >= before && l2.rsi - (1ul << 50) <= after);
	CHECK(l2.rdi - (1ul << 50) >= before && l2.rdi - (1ul << 50) <= after);
	CHECK(after < 1ul << 50);
}

static void user_guest(void)
{
	/* A guest at CPL 3; the CPL is the VMCB's. */
	set_up((const void *)((uint64_t)CODE("mov %%cs, %%ecx; cpuid") + USER_BASE));
	segment(SEG_CS, USER_CS, 0xafb, ~0u, 0);
	segment(SEG_SS, USER_DS, 0xcf3, ~0u, 0);
	vmcb[CPL] = 3;
	*q(RSP) += USER_BASE;
	intercept(0x72);
	CHECK_EQ(vmrun(), 0x72);
	CHECK_EQ(l2.rcx, USER_CS);
	CHECK_EQ(vmcb[CPL], 3);
	uint16_t cs;
	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	CHECK_EQ(cs, KERNEL_CS);
}

static unsigned write_faults(uint32_t msr, uint64_t value)
{
	struct regs r = { .t = { .rcx = msr, .rax = (uint32_t)value, .rdx = value >> 32 } };
	return run_kernel(CODE("wrmsr"), &r);
}

/* Hypervisors take them for granted. */
static void memory_types(void)
{
	CHECK(cpuid(1, 0).d & 1u << 12);
	CHECK_EQ(rdmsr(0xfe), 0x508);
	CHECK_EQ(rdmsr(0x2ff), 0xc06);
	static const struct { uint32_t msr; uint64_t good, bad; } row[] = {
		{ 0x200, 0xc0000000, 0xc0000002 }, { 0x20f, 0xffc0000800, 0x1ffc0000800 }, { 0x201, 0xffc0000800, 1 }, { 0x259, 0, 7 },
		{ 0x26f, 0x0606060606060606, 0x0206060606060606 }, { 0x2ff, 0xc06, 0x1000 },
	};
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		uint64_t was = rdmsr(row[i].msr);
		CHECK_EQ(write_faults(row[i].msr, row[i].bad), GP);
		CHECK_EQ(rdmsr(row[i].msr), was);
		CHECK_EQ(write_faults(row[i].msr, row[i].good), DONE);
		CHECK_EQ(rdmsr(row[i].msr), row[i].good);
		wrmsr(row[i].msr, was);
	}
	CHECK_EQ(write_faults(0xfe, 0x508), GP);
}

const struct guest_test guest_tests[] = {
	{ "CPUID offers SVM, and its MSRs are there", offered },
	{ "without EFER.SVME its instructions are undefined", without_svme },
	{ "its instructions are for CPL 0 and take the address of a page", who_may },
	{ "VM_CR.SVMDIS keeps SVM off", disabled },
	{ "VMLOAD and VMSAVE move their half of the state", vmload_vmsave },
	{ "VMRUN loads the guest's state, #VMEXIT saves it and brings ours back", state },
	{ "two address spaces do not mix", address_spaces },
	{ "the translations of ASIDs are kept apart, and flushed on demand", asids },
	{ "VMRUN refuses what cannot run", refused },
	{ "instructions are intercepted", instructions },
	{ "... before they do anything, and after what they may not be executed for", instructions_first },
	{ "memory type range registers are kept and checked", memory_types },
	{ "writes of CR0 are intercepted selectively", selective_cr0 },
	{ "ports are intercepted by the map", ports },
	{ "MSRs are intercepted by the map", msrs },
	{ "exceptions are intercepted, and say what they interrupted", exceptions },
	{ "events are injected", injection },
	{ "GIF holds interrupts back", gif },
	{ "physical interrupts and NMIs are intercepted", physical_interrupts },
	{ "virtual interrupts obey IF, the shadow and V_TPR", virtual_interrupts },
	{ "HLT in the guest waits for our interrupt", halt },
	{ "the guest's time-stamp counter is offset", time_stamps },
	{ "a guest may start at CPL 3", user_guest },
	{ 0, 0 },
};
