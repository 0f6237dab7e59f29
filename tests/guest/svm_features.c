/*
 * svm_features.c - a small hypervisor: proves what CPUID 8000_000A names beside the base (svm.c) and nested paging (svm_nested.c): pause filter, decode assists, TSC ratio, virtual
 * GIF; and that translations which are global to a guest are its own.
 * Source: AMD APM vol. 2, "Secure Virtual Machine".
 */
#include "vmcb.h"

#define DEBUGCTL 0x1d9u

static volatile unsigned taken;
static void count_eoi(struct trap *t) { (void)t; taken++; apic_write(APIC_EOI, 0); }
static struct trap seen;
static void see(struct trap *t) { seen = *t; taken++; }

static void pause_filter(void)
{
	CHECK_EQ(cpuid(0x8000000a, 0).d & (1u << 5 | 1u << 10 | 1u << 12), 1u << 5 | 1u << 10 | 1u << 12);
	/* Five pass, the sixth does not; each VMRUN begins anew. */
	set_up(CODE("1: pause; inc %%ecx; jmp 1b"));
	intercept(0x77);
	*(volatile uint16_t *)(vmcb + PAUSE_COUNT) = 5;
	for (unsigned i = 1; i <= 2; i++) {
		CHECK_EQ(vmrun(), 0x77);
		CHECK_EQ(l2.rcx, 5 * i);
	}
	/* Those that lie further apart than the threshold are not spinning: none of them is intercepted. */
	set_up(CODE("mov $20, %%ecx; 1: pause; mov $100000, %%esi; 2: dec %%esi; jnz 2b; loop 1b; vmmcall"));
	intercept(0x77);
	*(volatile uint16_t *)(vmcb + PAUSE_COUNT) = 2;
	*(volatile uint16_t *)(vmcb + PAUSE_THRESHOLD) = 100;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	/* Whatever the clean bits say, what is in the VMCB holds. */
	set_up(CODE("cpuid; vmmcall"));
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	*q(RIP) = (uint64_t)CODE("cpuid; vmmcall");
	*d(CLEAN) = 0;
	intercept(0x72);
	CHECK_EQ(vmrun(), 0x72);
}

/* What exits say of their instruction. */
static void decode_assists(void)
{
	CHECK(cpuid(0x8000000a, 0).d & 1u << 7);
	set_up(CODE("mov %%cr3, %%r11; vmmcall"));
	intercept(3);
	CHECK_EQ(vmrun(), 3);
	CHECK_EQ(*q(INFO1), 1ul << 63 | 11);
	set_up(CODE("mov %%rsi, %%cr4; vmmcall"));
	intercept(0x14);
	CHECK_EQ(vmrun(), 0x14);
	CHECK_EQ(*q(INFO1), 1ul << 63 | 6);
	set_up(CODE("smsw %%ecx; vmmcall"));
	intercept(0);
	CHECK_EQ(vmrun(), 0);
	CHECK_EQ(*q(INFO1), 0);
	set_up(CODE("mov %%dr7, %%rbx; vmmcall"));
	intercept(0x27);
	CHECK_EQ(vmrun(), 0x27);
	CHECK_EQ(*q(INFO1), 3);
	set_up(CODE("int $0x9a; vmmcall"));
	intercept(0x75);
	CHECK_EQ(vmrun(), 0x75);
	CHECK_EQ(*q(INFO1), 0x9a);
	set_up(CODE("invlpg 0x123(%%rdx,%%rcx,4); vmmcall"));
	intercept(0x79);
	l2.rdx = 0x1000;
	l2.rcx = 2;
	CHECK_EQ(vmrun(), 0x79);
	CHECK_EQ(*q(INFO1), 0x112b);
	set_up(CODE("mov $0x7777, %%eax; invlpga; vmmcall"));
	intercept(0x7a);
	CHECK_EQ(vmrun(), 0x7a);
	CHECK_EQ(*q(INFO1), 0x7777);
	if (cpuid(7, 0).b & 1u << 10) {
		set_up(CODE("invpcid 8(%%rdx), %%rcx; vmmcall"));
		intercept(0xa2);
		l2.rdx = 0x2000;
		l2.rcx = 2;
		CHECK_EQ(vmrun(), 0xa2);
		CHECK_EQ(*q(INFO1), 0x2008);
		CHECK_EQ(*q(INFO2), 2);
	}
	/* The instruction that caused a page fault; none when it was the fetch. */
	set_up(CODE("mov $0x7000000000ff, %%rdx; mov %%ecx, 5(%%rdx)"));
	intercept(EXIT_EXCEPTION + PF);
	CHECK_EQ(vmrun(), EXIT_EXCEPTION + PF);
	CHECK_EQ(vmcb[FETCHED] & 15, 15);
	CHECK_EQ(memcmp(vmcb + FETCHED + 1, "\x89\x4a\x05", 3), 0);
	set_up(CODE("mov $0x7000000000ff, %%rdx; jmp *%%rdx"));
	intercept(EXIT_EXCEPTION + PF);
	CHECK_EQ(vmrun(), EXIT_EXCEPTION + PF);
	CHECK_EQ(vmcb[FETCHED] & 15, 0);
}

/* The guest's counter runs by the ratio; ours does not, and what a guest writes is ours. */
static void time_stamp_ratio(void)
{
	CHECK(cpuid(0x8000000a, 0).d & 1u << 4);
	CHECK_EQ(rdmsr(TSC_RATIO), 1ul << 32);
	struct regs bad = { .t = { .rcx = TSC_RATIO, .rdx = 1 << 8 } };
	CHECK_EQ(run_kernel(CODE("wrmsr"), &bad), GP);
	static const struct { uint64_t ratio, mul, div; } row[] = { { 1ul << 31, 1, 2 }, { 7ul << 31, 7, 2 }, { 3ul << 32, 3, 1 }, { 0, 0, 1 } };
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		set_up(CODE("rdtsc; mov %%eax, %%esi; shl $32, %%rdx; or %%rdx, %%rsi; rdtscp; mov %%eax, %%edi; shl $32, %%rdx; or %%rdx, %%rdi;"
			    "mov $0x10, %%ecx; rdmsr; mov %%eax, %%ecx; vmmcall"));
		*q(TSC_OFFSET) = 1ul << 50;
		wrmsr(TSC_RATIO, row[i].ratio);
		uint64_t before = rdtsc();
		CHECK_EQ(vmrun(), EXIT_VMMCALL);
		uint64_t after = rdtsc(), low = before * row[i].mul / row[i].div + (1ul << 50), high = after * row[i].mul / row[i].div + (1ul << 50);
		CHECK(l2.rsi >= low && l2.rsi <= high);
		CHECK(l2.rdi >= l2.rsi && l2.rdi <= high);
		CHECK(l2.rcx - (uint32_t)l2.rdi <= high - l2.rdi || high - low > ~0u);
	}
	uint64_t now = rdtsc();
	set_up(CODE("mov $0x10, %%ecx; mov $0x1234567, %%edx; xor %%eax, %%eax; wrmsr; vmmcall"));
	*q(TSC_OFFSET) = 1ul << 50;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(rdtsc() >> 40, 0x123456700000000ul >> 40);
	wrmsr(TSC_RATIO, 1ul << 32);
	wrmsr(0x10, now);
}

/* STGI and CLGI of the guest's: on a flag of its own, which masks virtual interrupts and nothing of ours; or on ours. */
static void virtual_gif(void)
{
	enum { V_IRQ = 1 << 8, V_GIF = 1 << 9, V_PRIO = 15 << 16, V_MASKING = 1 << 24, V_GIF_ENABLE = 1 << 25 };
	CHECK(cpuid(0x8000000a, 0).d & 1u << 16);
	set_handler(0x94, see);
	taken = 0;
	set_up(CODE("sti; nop; nop; clgi; nop; stgi; 1: nop; cli; vmmcall"));
	*d(INT_CTL) = V_GIF_ENABLE | V_MASKING | V_PRIO | V_IRQ;
	*d(INT_VECTOR) = 0x94;
	uint64_t rip = *q(RIP);
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(taken, 1);
	CHECK_EQ(seen.rip, rip + 10);
	CHECK_EQ(*d(INT_CTL) & (V_IRQ | V_GIF | V_GIF_ENABLE), V_GIF | V_GIF_ENABLE);
	set_up(CODE("clgi; sti; nop; nop; vmmcall"));
	*d(INT_CTL) = V_GIF_ENABLE | V_GIF | V_MASKING | V_PRIO | V_IRQ;
	*d(INT_VECTOR) = 0x94;
	intercept(EXIT_VINTR);
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(*d(INT_CTL) & (V_IRQ | V_GIF), V_IRQ);
	/* The window opens with it. */
	*q(RIP) = (uint64_t)CODE("stgi; nop; vmmcall");
	rip = *q(RIP);
	CHECK_EQ(vmrun(), EXIT_VINTR);
	CHECK_EQ(*q(RIP), rip + 3);
	/* Intercepts come first, and change nothing. */
	set_up(CODE("stgi; vmmcall"));
	*d(INT_CTL) = V_GIF_ENABLE;
	intercept(0x84);
	CHECK_EQ(vmrun(), 0x84);
	CHECK_EQ(*d(INT_CTL) & V_GIF, 0);
	/* A physical interrupt is not held back by it; without it the guest's CLGI does hold it back. */
	apic_enable();
	set_handler(0x93, count_eoi);
	taken = 0;
	for (unsigned virtual = 0; virtual < 2; virtual++) {
		set_up(CODE("clgi; movl $0x40093, (%%rdi); mov $1000, %%ecx; 1: loop 1b; vmmcall"));
		*d(INT_CTL) = V_MASKING | (virtual ? V_GIF_ENABLE | V_GIF : 0);
		intercept(EXIT_INTR);
		l2.rdi = 0xfee00300;
		__asm__ volatile("clgi; sti");
		vmrun_only();
		CHECK_EQ(*q(EXITCODE), virtual ? (unsigned)EXIT_INTR : (unsigned)EXIT_VMMCALL);
		__asm__ volatile("stgi; nop; cli");
		CHECK_EQ(taken, virtual + 1);
	}
	set_handler(0x93, 0);
	set_handler(0x94, 0);
}

/* The guest's own global entries: what flushes them, in data and in code. The host's at the same address stay. */
static void guest_globals(void)
{
	uint64_t va = 0x700000000000, page[2] = { alloc_page(), alloc_page() }, host = alloc_page(), root = new_root(), *entry = entry_at(root, va, 1);
	const uint8_t code[2][8] = { "\xb8\x11\0\0\0\xc3", "\xb8\x22\0\0\0\xc3" };	/* mov eax, imm; ret */
	for (unsigned i = 0; i < 2; i++)
		memcpy((void *)page[i], code[i], 8);
	memcpy((void *)host, "\xb8\x33\0\0\0\xc3", 6);
	map_page(va, host, PTE_P | PTE_W | PTE_G);
	WRITE_CR(4, READ_CR(4) | CR4_PGE);
	static const char *const how[] = { "INVLPG", "CR4.PGE", "INVPCID", "TLB_CONTROL 1", "TLB_CONTROL 3", "INVLPGA" };
	for (unsigned n = 0; n < 4 * 6; n++) {
		unsigned k = n % 6;
		if (k == 2 && !(cpuid(7, 0).b & 1u << 10))
			continue;
		*entry = page[0] | PTE_P | PTE_W | PTE_G;
		/* Touches it as data and as code, twice over a load of CR3, then changes the entry and flushes; or leaves that to us. */
		set_up(k == 0 ? CODE("mov (%%rdx), %%rcx; call *%%rdx; mov %%cr3, %%rax; mov %%rax, %%cr3; mov (%%rdx), %%rcx; call *%%rdx; mov %%rsi, (%%rdi);"
				     "invlpg (%%rdx); call *%%rdx; mov (%%rdx), %%rcx; vmmcall") :
		       k == 1 ? CODE("mov (%%rdx), %%rcx; call *%%rdx; mov %%cr3, %%rax; mov %%rax, %%cr3; mov (%%rdx), %%rcx; call *%%rdx; mov %%rsi, (%%rdi);"
				     "mov %%cr4, %%rax; btc $7, %%rax; mov %%rax, %%cr4; btc $7, %%rax; mov %%rax, %%cr4; call *%%rdx; mov (%%rdx), %%rcx; vmmcall") :
		       k == 2 ? CODE("mov (%%rdx), %%rcx; call *%%rdx; mov %%cr3, %%rax; mov %%rax, %%cr3; mov (%%rdx), %%rcx; call *%%rdx; mov %%rsi, (%%rdi);"
				     "push $0; push $0; mov $2, %%eax; invpcid (%%rsp), %%rax; add $16, %%rsp; call *%%rdx; mov (%%rdx), %%rcx; vmmcall") :
				CODE("mov (%%rdx), %%rcx; call *%%rdx; mov %%cr3, %%rax; mov %%rax, %%cr3; mov (%%rdx), %%rcx; call *%%rdx; mov %%rsi, (%%rdi);"
				     "vmmcall"));
		*q(CR3) = root;
		*d(TLB_CONTROL) = n < 6 ? 3 : 0;
		l2.rdx = va;
		l2.rsi = page[1] | PTE_P | PTE_W | PTE_G;
		l2.rdi = (uint64_t)entry;
		CHECK_EQ(vmrun(), EXIT_VMMCALL);
		if (k >= 3) {
			*d(TLB_CONTROL) = k == 3 ? 1 : k == 4 ? 3 : 0;
			if (k == 5)
				__asm__ volatile("invlpga" : : "a"(va), "c"(1));
			*q(RIP) = (uint64_t)CODE("call *%%rdx; mov (%%rdx), %%rcx; vmmcall");
			CHECK_EQ(vmrun(), EXIT_VMMCALL);
		}
		check_that(*q(RAX) == 0x22 && (uint8_t)(l2.rcx >> 8) == 0x22, how[k], __FILE__, __LINE__);
		CHECK_EQ(((int (*)(void))va)(), 0x33);
		CHECK_EQ(*(volatile uint8_t *)(va + 1), 0x33);
		*entry = page[0] | PTE_P | PTE_W | PTE_G;
		__asm__ volatile("invlpga" : : "a"(va), "c"(1));
	}
	WRITE_CR(4, READ_CR(4) & ~CR4_PGE);
	unmap_page(va);
}

/*
 * What a hypervisor does that shadows its guest's tables: it flushes the ASID over and over, in two address spaces, with most of the code where it was. Bit k of `where` says which of two
 * pages address k leads to; the code there adds 1 or 16, and the third address is fetched every other time only.
 */
static void flushed_code(void)
{
	uint64_t va = 0x700000000000, page[2] = { alloc_page(), alloc_page() }, root[2] = { new_root(), new_root() };
	unsigned where = 0, random = 12345;
	memcpy((void *)page[0], "\x48\x83\xc1\x01\xc3", 5);	/* add rcx, imm; ret */
	memcpy((void *)page[1], "\x48\x83\xc1\x10\xc3", 5);
	for (unsigned n = 0; n < 400; n++) {
		unsigned third = n % 2, how = random >> 8 & 3, flip = random >> 12 & 15, expected = 0;
		random = random * 1103515245 + 12345;
		flip = flip < 3 ? 1u << flip : flip == 3 ? 7 : 0;
		where ^= flip;
		for (unsigned k = 0; k < 3; k++) {
			for (unsigned r = 0; r < 2; r++) {
				uint64_t *entry = entry_at(root[r], va + k * 4096, 1);
				*entry = page[where >> k & 1] | PTE_P | PTE_W | (*entry & PTE_A);
			}
			expected += k == 2 && !third ? 0 : where >> k & 1 ? 16 : 1;
			/* One page at a time, the other space whole. */
			if (how == 3 && (flip >> k & 1))
				__asm__ volatile("invlpga" : : "a"(va + k * 4096), "c"(1));
		}
		set_up(CODE("xor %%ecx, %%ecx; call *%%rdx; lea 0x1000(%%rdx), %%rax; call *%%rax; test %%esi, %%esi; jz 1f; lea 0x2000(%%rdx), %%rax; call *%%rax; 1: vmmcall"));
		*q(CR3) = root[n / 3 % 2];
		*d(TLB_CONTROL) = how == 3 && n / 3 % 2 == (n - 1) / 3 % 2 ? 0 : how == 0 ? 1 : 3;
		l2.rdx = va;
		l2.rsi = third;
		CHECK_EQ(vmrun(), EXIT_VMMCALL);
		CHECK_EQ(l2.rcx, expected);
		if (n % 5 == 4) { /* gone, and back */
			uint64_t *entry = entry_at(root[n / 3 % 2], va, 1), was = *entry;
			*entry = n % 2 ? was & ~PTE_P : was | PTE_NX;
			set_up(CODE("call *%%rdx; vmmcall"));
			*q(CR3) = root[n / 3 % 2];
			*d(TLB_CONTROL) = 3;
			l2.rdx = va;
			intercept(EXIT_EXCEPTION + PF);
			CHECK_EQ(vmrun(), EXIT_EXCEPTION + PF);
			CHECK_EQ(*q(INFO2), va);
			CHECK_EQ(*q(RIP), va);
			*entry = was;
			__asm__ volatile("invlpga" : : "a"(va), "c"(1));
		}
	}
}

/* A hardware task switch of a guest in 32-bit protected mode: every way to one, and what it is checked for before. */
static void task_switches(void)
{
	enum { CODE32 = 8, DATA32 = 16, NEW = 24, OLD = 32, GATE = 40, ABSENT = 48 };
	uint64_t host = alloc_page(), table = alloc_page(), tss = alloc_page(), idt = alloc_page();
	uint64_t *g = (uint64_t *)table;
	const uint64_t tss_base = (tss & 0xffffff) << 16 | (tss & 0xff000000) << 32;
	const void *jump = CODE(".code32; ljmp $24, $0; .code64"), *call = CODE(".code32; lcall $24, $0; .code64"), *gate = CODE(".code32; ljmp $40, $0; .code64"),
		   *soft = CODE(".code32; int $0x91; .code64"), *fault = CODE(".code32; mov $0x7b, %%eax; mov %%eax, %%fs; .code64"), *back = CODE(".code32; iret; .code64");
	const struct { const char *what; const void *code; uint64_t info2, intinfo; bool nt; } row[] = {
		{ "JMP", jump, 1ul << 38, 0, 0 }, { "CALL", call, 0, 0, 0 }, { "JMP through a gate", gate, 1ul << 38, 0, 0 }, { "INT n", soft, 0, 0x80000491, 0 },
		{ "an exception with an error code", fault, 1ul << 44 | 0x78, 0x78ul << 32 | 0x80000b0d, 0 }, { "IRET", back, 1ul << 36, 0, 1 },
	};
	g[CODE32 / 8] = 0x00cf9b000000ffff;
	g[DATA32 / 8] = 0x00cf93000000ffff;
	g[OLD / 8] = 0x00008b0000000067 | tss_base;
	g[GATE / 8] = (uint64_t)NEW << 16 | 0x850000000000;
	g[ABSENT / 8] = 0x0000090000000067 | tss_base;
	((uint64_t *)idt)[0x91] = ((uint64_t *)idt)[GP] = (uint64_t)NEW << 16 | 0xe50000000000;
	*(uint16_t *)tss = NEW;	/* the link */
	__asm__ volatile("vmsave" : : "a"(host) : "memory");
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		set_up(row[i].code);
		__asm__ volatile("vmsave" : : "a"(vmcb) : "memory");
		g[NEW / 8] = (row[i].nt ? 0x00008b0000000067 : 0x0000890000000067) | tss_base;	/* IRET goes to a busy one */
		*q(CR0) = 0x11;
		*q(CR4) = 0;
		*q(EFER) = EFER_SVME;
		segment(SEG_CS, CODE32, 0xc9b, ~0u, 0);
		segment(SEG_TR, OLD, 0x8b, 0x67, tss);
		segment(SEG_GDTR, 0, 0, 63, table);
		segment(SEG_IDTR, 0, 0, 0x7ff, idt);
		*q(RFLAGS) |= row[i].nt ? 1 << 14 : 0;
		intercept(0x7d);
		intercept(EXIT_SHUTDOWN);
		__asm__ volatile("vmload" : : "a"(vmcb) : "memory");
		uint64_t rip = *q(RIP) + (row[i].code == fault ? 5 : 0), code = vmrun();
		__asm__ volatile("vmload" : : "a"(host) : "memory");
		check_that(code == 0x7d, row[i].what, __FILE__, __LINE__);
		CHECK_EQ(*q(INFO1), NEW);
		CHECK_EQ(*q(INFO2) & ~(1ul << 48), row[i].info2);
		CHECK_EQ(*q(INTINFO), row[i].intinfo);
		CHECK_EQ(*q(RIP), rip);
		CHECK_EQ(*q(NRIP), 0);
		CHECK_EQ(*q(CR0), 0x11);	/* TS is a task switch's doing */
		CHECK_EQ(g[NEW / 8] >> 40 & 2, row[i].nt ? 2 : 0);
	}
	/* The incoming TSS is checked first. */
	for (unsigned bad = 0; bad < 2; bad++) {
		set_up(bad ? CODE(".code32; ljmp $48, $0; .code64") : CODE(".code32; ljmp $32, $0; .code64"));	/* not present; busy */
		*q(CR0) = 0x11;
		*q(CR4) = 0;
		*q(EFER) = EFER_SVME;
		segment(SEG_CS, CODE32, 0xc9b, ~0u, 0);
		segment(SEG_GDTR, 0, 0, 63, table);
		intercept(0x7d);
		intercept(EXIT_EXCEPTION + (bad ? NP : GP));
		CHECK_EQ(vmrun(), EXIT_EXCEPTION + (unsigned)(bad ? NP : GP));
		CHECK_EQ(*q(INFO1), (unsigned)(bad ? ABSENT : OLD));
	}
}

/* Instructions that CPUID does not offer are undefined, whatever is intercepted. */
static void not_offered(void)
{
	const struct { uint16_t exit; const void *code; } row[] = {
		{ 0x73, CODE(".byte 0x0f, 0xaa") }, { 0x86, CODE("skinit") }, { 0x8a, CODE("monitor") }, { 0x8b, CODE("mwait") }, { 0x8a, CODE("monitorx") }, { 0x8b, CODE("mwaitx") },
		{ 0x8e, CODE(".byte 0x0f, 0x01, 0xfd") },
	};
	CHECK(!(cpuid(1, 0).c & 8) && !(cpuid(0x80000001, 0).c & (1u << 12 | 1u << 29)));
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		set_up(row[i].code);
		intercept(row[i].exit);
		intercept(EXIT_EXCEPTION + UD);
		uint64_t rip = *q(RIP);
		CHECK_EQ(vmrun(), EXIT_EXCEPTION + UD);
		CHECK_EQ(*q(RIP), rip);
	}
}

/* Asked for all the same, it changes nothing: one DEBUGCTL for both, and the VMCB's fields are left alone. */
static void no_branch_records(void)
{
	const uint64_t before = rdmsr(DEBUGCTL);

	CHECK(!(cpuid(0x8000000a, 0).d & 1u << 1));
	wrmsr(DEBUGCTL, 4);
	set_up(CODE("mov $0x1d9, %%ecx; rdmsr; mov %%eax, %%ebx; mov $8, %%eax; xor %%edx, %%edx; wrmsr; vmmcall"));
	*q(VIRT_EXT) = 1;
	*q(DBGCTL) = 1;
	*q(BR_FROM) = 0x1111;
	*q(BR_TO) = 0x2222;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(l2.rbx, 4);
	CHECK_EQ(rdmsr(DEBUGCTL), 8);
	CHECK_EQ(*q(DBGCTL), 1);
	CHECK_EQ(*q(BR_FROM), 0x1111);
	CHECK_EQ(*q(BR_TO), 0x2222);
	wrmsr(DEBUGCTL, before);
}

/* SMI and INIT, which nothing sends, and FERR_FREEZE: their bits may be set. */
static void nothing_to_intercept(void)
{
	set_up(CODE("mov $7, %%ebx; vmmcall"));
	for (unsigned code = 0x62; code <= 0x7e; code += code == 0x63 ? 0x7e - 0x63 : 1)
		intercept(code);
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(l2.rbx, 7);
}

static void stop_stepping(struct trap *t) { see(t); t->rflags &= ~RFLAGS_TF; }

/* VMRUN is one instruction of its hypervisor, however long its guest runs, and however it ends. */
static void single_steps(void)
{
	set_handler(DB, stop_stepping);
	for (unsigned refused = 0; refused < 2; refused++) {
		uint64_t after;

		set_up(CODE("nop; nop; vmmcall"));
		*d(ASID) = !refused;
		taken = 0;
		__asm__ volatile("mov $0xffff0ff0, %%ecx; mov %%rcx, %%dr6\n pushf; orl $0x100, (%%rsp); popf; vmrun\n 1: lea 1b(%%rip), %0; stgi" : "=r"(after) : "a"(vmcb) : "rcx", "memory", "cc");
		CHECK_EQ(*q(EXITCODE), refused ? EXIT_INVALID : EXIT_VMMCALL);
		CHECK_EQ(taken, 1);
		CHECK_EQ(seen.rip, after);
		CHECK_EQ(*q(RFLAGS) & RFLAGS_TF, 0);
		uint64_t dr6;
		__asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
		CHECK_EQ(dr6 & 0xe00f, 0x4000);
	}
	set_handler(DB, 0);
}

/* What matches a breakpoint is ignored and forgotten. */
static void breakpoints_and_gif(void)
{
	static volatile uint32_t watched;

	set_up(CODE("vmmcall"));
	set_handler(DB, see);
	taken = 0;
	__asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" : : "r"(&watched), "r"(0xd0401ul));
	watched = 1;
	CHECK_EQ(taken, 1);
	__asm__ volatile("clgi; movl $2, %0; stgi; nop" : "=m"(watched));
	CHECK_EQ(taken, 1);
	watched = 3;
	CHECK_EQ(taken, 2);
	__asm__ volatile("mov %0, %%dr7" : : "r"(0x400ul));
	set_handler(DB, 0);
}

const struct guest_test guest_tests[] = {
	{ "PAUSE is intercepted as often as the filter says", pause_filter },
	{ "exits say what there was to decode", decode_assists },
	{ "the guest's time-stamp counter is scaled by a ratio", time_stamp_ratio },
	{ "the guest may have a GIF of its own", virtual_gif },
	{ "the guest's global translations are flushed on demand, and are not ours", guest_globals },
	{ "code of a guest that is flushed is where its tables say", flushed_code },
	{ "hardware task switches are intercepted", task_switches },
	{ "what CPUID does not offer is undefined, intercepted or not", not_offered },
	{ "branch records are not virtualized, and DEBUGCTL is one for both", no_branch_records },
	{ "what never comes may be intercepted", nothing_to_intercept },
	{ "a single step over VMRUN ends after #VMEXIT", single_steps },
	{ "breakpoints are ignored while GIF is clear", breakpoints_and_gif },
	{ 0, 0 },
};
