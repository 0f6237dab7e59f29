/*
 * svm_nested.c - a small hypervisor with nested paging: proves that both dimensions are walked, what #NPF says, A and D bits, G_PAT, and when a change of the
 * nested table must be seen. L2's own tables are ours, one to one below 4 GiB; the nested table maps all of memory one to one, and TEST as each test likes.
 * Source: AMD APM vol. 2, "Nested Paging", "Nested versus Guest Page Faults, Fault Ordering".
 */
#include "vmcb.h"

#define TEST 0x70000000ul	/* physical to L2 only, in a 2 MiB region of its own */
#define MSR_PAT 0x277u
#define EFER_NXE 0x800ul
#define FINAL (1ul << 32)
#define TABLE (1ul << 33)
enum { ERR_P = 1, ERR_W = 2, ERR_U = 4, ERR_RSVD = 8, ERR_I = 16 };
#define ALL (PTE_P | PTE_W | PTE_U)

static uint64_t root, page;

static uint64_t *leaf(void) { return entry_at(root, TEST, 1); }

/* Flushed: what a test before has left is gone. */
static void set_up_nested(const void *code)
{
	set_up(code);
	if (!root) {
		root = alloc_page();
		page = alloc_page();
		for (uint64_t p = 0; p < 0x8000000; p += PAGE)
			*entry_at(root, p, 1) = p | ALL;
	}
	*leaf() = page | ALL;
	memset((void *)page, 0, PAGE);
	*q(NP_ENABLE) = 1;
	*q(N_CR3) = root;
	*q(G_PAT) = 0x0007040600070406;
	*d(TLB_CONTROL) = 1;
	l2.rdx = TEST;
}

#define READ CODE("mov (%%rdx), %%rcx; vmmcall")
#define WRITE CODE("mov %%rcx, (%%rdx); vmmcall")
#define JUMP CODE("jmp *%%rdx")

static void offered(void)
{
	CHECK(cpuid(0x8000000a, 0).d & 1);
}

static void translated(void)
{
	set_up_nested(CODE("mov (%%rdx), %%rcx; movq $0x22, (%%rdx); mov %%cr3, %%rsi; vmmcall"));
	*word_at(page) = 0x11;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(l2.rcx, 0x11);
	CHECK_EQ(*word_at(page), 0x22);
	CHECK_EQ(l2.rsi, READ_CR(3));
	/* Code, and a page that two levels of L2's tables lie in elsewhere. */
	set_up_nested(JUMP);
	memcpy((void *)page, "\x0f\x01\xd9", 3);
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(*q(RIP), TEST);
	CHECK_EQ(*q(NRIP), TEST + 3);
}

static void faults(void)
{
	static const struct { uint64_t flags, error; uint8_t kind; /* 0 read, 1 write, 2 fetch */ } row[] = {
		{ 0, FINAL | ERR_U, 0 }, { 0, FINAL | ERR_U | ERR_W, 1 }, { 0, FINAL | ERR_U | ERR_I, 2 },
		{ PTE_P | PTE_U, FINAL | ERR_P | ERR_U | ERR_W, 1 }, { PTE_P | PTE_U | PTE_NX, FINAL | ERR_P | ERR_U | ERR_I, 2 },
		{ PTE_P | PTE_W, FINAL | ERR_P | ERR_U, 0 }, { PTE_P | PTE_W, FINAL | ERR_P | ERR_U | ERR_W, 1 },
		{ ALL | 1ul << 51, FINAL | ERR_P | ERR_U | ERR_RSVD, 0 }, { ALL | 1ul << 51, FINAL | ERR_P | ERR_U | ERR_RSVD | ERR_W, 1 },
	};
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		set_up_nested(row[i].kind == 0 ? READ : row[i].kind == 1 ? WRITE : JUMP);
		*leaf() = page | row[i].flags;
		l2.rdx = TEST + 0x123;
		uint64_t rip = *q(RIP);
		*q(CR2) = 0x5555;
		CHECK_EQ(vmrun(), EXIT_NPF);
		CHECK_EQ(*q(INFO1), row[i].error);
		CHECK_EQ(*q(INFO2), TEST + 0x123);
		CHECK_EQ(*q(RIP), row[i].kind == 2 ? TEST + 0x123 : rip);
		CHECK_EQ(*q(CR2), 0x5555);
		CHECK_EQ(*q(INTINFO), 0);
		CHECK_EQ(*word_at(page), 0);
		CHECK_EQ(*leaf() & (PTE_A | PTE_D), 0);
	}
	/* What it does not deny goes on. */
	set_up_nested(READ);
	*leaf() = page | PTE_P | PTE_U | PTE_NX | PTE_G;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
}

/* What is reserved in an entry of each level of the nested table; NX without EFER.NXE of ours at VMRUN; and what is not reserved. */
static void reserved_bits(void)
{
	static const struct { uint8_t level; bool large; uint64_t bits, reserved; } row[] = {
		{ 4, 0, PTE_PS, 1 }, { 4, 0, 1ul << 51, 1 }, { 4, 0, 1ul << 40, 1 }, { 3, 0, 1ul << 51, 1 }, { 2, 0, 1ul << 51, 1 }, { 1, 0, 1ul << 40, 1 }, { 1, 0, 1ul << 51, 1 },
		{ 2, 1, 1ul << 13, 1 }, { 2, 1, 1ul << 20, 1 }, { 2, 1, 1ul << 45, 1 },
		{ 3, 1, 1ul << 13, 1 }, { 3, 1, 1ul << 29, 1 }, { 3, 1, 1ul << 45, 1 },
		{ 4, 0, 0xe00, 0 }, { 4, 0, 0x7ful << 52, 0 }, { 1, 0, 0x7ful << 52 | PTE_G | 0xe18, 0 }, { 2, 1, 1ul << 12 | 0x7ful << 52, 0 },
	};
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		set_up_nested(READ);
		/* A region of its own, so that code and tables are not hit. */
		uint64_t p = 0x8000000000 + (row[i].large && row[i].level == 3 ? 0x40000000ul * 2 : 0), va = 0x7000dead0000, top = new_root();
		*entry_at(top, va, 1) = p | PTE_P | PTE_W;
		*entry_at(root, p, 1) = page | ALL;
		uint64_t *e = entry_at(root, p, row[i].level), was = *e;
		*e = (row[i].large ? ALL | PTE_PS : was) | row[i].bits;
		*q(CR3) = top;
		l2.rdx = va;
		CHECK_EQ(vmrun(), row[i].reserved ? (unsigned)EXIT_NPF : (unsigned)EXIT_VMMCALL);
		if (row[i].reserved) {
			CHECK_EQ(*q(INFO1), FINAL | ERR_P | ERR_U | ERR_RSVD);
			CHECK_EQ(*q(INFO2), p);
		}
		*e = was;
	}
	for (unsigned level = 1; level <= 4; level++) {
		for (unsigned nxe = 0; nxe < 2; nxe++) {
			set_up_nested(READ);
			uint64_t p = 0x8000000000, va = 0x7000dead0000, top = new_root(), efer = rdmsr(MSR_EFER);
			*entry_at(top, va, 1) = p | PTE_P | PTE_W;
			*entry_at(root, p, 1) = page | ALL;
			uint64_t *e = entry_at(root, p, level);
			*e |= PTE_NX;
			*q(CR3) = top;
			l2.rdx = va;
			wrmsr(MSR_EFER, (efer & ~EFER_NXE) | (nxe ? EFER_NXE : 0));	/* ours: the guest's stays as it is in its VMCB */
			CHECK_EQ(vmrun(), nxe ? (unsigned)EXIT_VMMCALL : (unsigned)EXIT_NPF);
			wrmsr(MSR_EFER, efer);
			if (!nxe)
				CHECK_EQ(*q(INFO1), FINAL | ERR_P | ERR_U | ERR_RSVD);
			*e &= ~PTE_NX;
		}
	}
}

/* Rights of all levels of the nested table count, and of each alone. */
static void rights_of_levels(void)
{
	static const struct { uint64_t clear, set; uint8_t kind; uint64_t error; } row[] = {
		{ PTE_W, 0, 1, FINAL | ERR_P | ERR_U | ERR_W }, { PTE_U, 0, 0, FINAL | ERR_P | ERR_U }, { 0, PTE_NX, 2, FINAL | ERR_P | ERR_U | ERR_I },
		{ PTE_P, 0, 0, FINAL | ERR_U }, { PTE_P, 0, 1, FINAL | ERR_U | ERR_W }, { PTE_P, 0, 2, FINAL | ERR_U | ERR_I },
	};
	for (unsigned level = 1; level <= 4; level++) {
		for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
			set_up_nested(row[i].kind == 0 ? READ : row[i].kind == 1 ? WRITE : JUMP);
			uint64_t p = 0x8000000000, va = 0x7000dead0000, top = new_root();
			*entry_at(top, va, 1) = p | PTE_P | PTE_W;
			*entry_at(root, p, 1) = page | ALL;
			uint64_t *e = entry_at(root, p, level), was = *e;
			*e = (was & ~row[i].clear) | row[i].set;
			*q(CR3) = top;
			l2.rdx = va;
			CHECK_EQ(vmrun(), EXIT_NPF);
			CHECK_EQ(*q(INFO1), row[i].error);
			CHECK_EQ(*q(INFO2), p);
			*e = was;
		}
	}
}

/* An access that crosses into a page that the nested table lacks changes nothing. */
static void crossing(void)
{
	set_up_nested(WRITE);
	l2.rdx = TEST + PAGE - 3;
	l2.rcx = ~0ul;
	CHECK_EQ(vmrun(), EXIT_NPF);
	CHECK_EQ(*q(INFO2), TEST + PAGE);
	CHECK_EQ(*q(INFO1), FINAL | ERR_U | ERR_W);
	CHECK_EQ(*word_at(page + PAGE - 8), 0);
}

/* A top table of L2's own: entry_at makes the tables below it. */
static void table_faults(void)
{
	uint64_t va = 0x7000dead0000, top = new_root();
	*entry_at(top, va, 1) = TEST | PTE_P | PTE_W;
	for (unsigned level = 4; level; level--) {
		uint64_t at = (uint64_t)entry_at(top, va, level), *nested = entry_at(root, at & ~(PAGE - 1), 1), was = *nested;
		/* Not there; read only, which a walk cannot do with either. */
		for (unsigned k = 0; k < 2; k++) {
			set_up_nested(READ);
			*q(CR3) = top;
			l2.rdx = va;
			*nested = k ? was & ~PTE_W : 0;
			CHECK_EQ(vmrun(), EXIT_NPF);
			CHECK_EQ(*q(INFO1), TABLE | ERR_U | ERR_W | (k ? ERR_P : 0));
			CHECK_EQ(*q(INFO2), level == 4 ? top : at);	/* there the fetch comes first, of the lowest 512 GiB */
			*nested = was;
		}
	}
	set_up_nested(READ);
	*q(CR3) = top;
	l2.rdx = va;
	*word_at(page) = 0x77;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(l2.rcx, 0x77);
}

/* L2's own tables are asked first about the page itself. */
static void order(void)
{
	uint64_t va = 0x7000dead0000, top = new_root();
	set_up_nested(WRITE);
	*entry_at(top, va, 1) = TEST | PTE_P;
	*leaf() = 0;
	*q(CR3) = top;
	*q(CR0) |= CR0_WP;
	intercept(EXIT_EXCEPTION + PF);
	l2.rdx = va;
	CHECK_EQ(vmrun(), EXIT_EXCEPTION + PF);
	CHECK_EQ(*q(INFO1), ERR_P | ERR_W);
	CHECK_EQ(*q(INFO2), va);
	/* Without CR0.WP its kernel may, but never where the nested table does not allow it; a read before must not open the way. */
	set_up_nested(CODE("mov (%%rdx), %%rcx; mov %%rcx, (%%rdx); vmmcall"));
	*leaf() = page | PTE_P | PTE_U;
	*q(CR3) = top;
	*q(CR0) &= ~CR0_WP;
	l2.rdx = va;
	CHECK_EQ(vmrun(), EXIT_NPF);
	CHECK_EQ(*q(INFO1), FINAL | ERR_P | ERR_U | ERR_W);
	/* The nested table's G, U and the host's CR0.WP mean nothing to it. */
	*leaf() = page | ALL | PTE_G;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
}

static void accessed_dirty(void)
{
	uint64_t va = 0x7000dead0000, top = new_root(), *entry = entry_at(top, va, 1), *nested;
	set_up_nested(READ);
	*entry = TEST | PTE_P | PTE_W;
	nested = entry_at(root, (uint64_t)entry & ~(PAGE - 1), 1);
	*nested &= ~(PTE_A | PTE_D);
	*q(CR3) = top;
	l2.rdx = va;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(*entry & (PTE_A | PTE_D), PTE_A);
	CHECK_EQ(*leaf() & (PTE_A | PTE_D), PTE_A);
	CHECK_EQ(*nested & (PTE_A | PTE_D), PTE_A | PTE_D);	/* walks are writes */
	/* The read before has filled the TLB. */
	set_up_nested(CODE("mov (%%rdx), %%rcx; mov %%rcx, (%%rdx); vmmcall"));
	*entry = TEST | PTE_P | PTE_W;
	*q(CR3) = top;
	l2.rdx = va;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(*entry & (PTE_A | PTE_D), PTE_A | PTE_D);
	CHECK_EQ(*leaf() & (PTE_A | PTE_D), PTE_A | PTE_D);
	CHECK(*entry_at(root, TEST, 2) & *entry_at(root, TEST, 3) & *entry_at(root, TEST, 4) & PTE_A);
}

static void changes(void)
{
	uint64_t other = alloc_page();
	*word_at(other) = 0x99;
	set_up_nested(READ);
	*word_at(page) = 0x11;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(l2.rcx, 0x11);
	/* Another page: TLB_CONTROL by ASID, INVLPGA, another ASID, another root. */
	for (unsigned how = 0; how < 4; how++) {
		uint64_t want = how & 1 ? 0x11 : 0x99;
		static uint64_t second;
		*d(TLB_CONTROL) = how == 0 ? 3 : 0;
		*leaf() = (how & 1 ? page : other) | ALL;
		if (how == 1)
			__asm__ volatile("invlpga" : : "a"(TEST), "c"(1));
		if (how == 2)
			*d(ASID) = 2;
		if (how == 3) {
			second = alloc_page();
			memcpy((void *)second, (void *)root, PAGE);
			*q(N_CR3) = second;
		}
		*q(RIP) = (uint64_t)READ;
		l2.rdx = TEST;
		CHECK_EQ(vmrun(), EXIT_VMMCALL);
		CHECK_EQ(l2.rcx, want);
	}
	/* More than before is seen without a flush. */
	set_up_nested(READ);
	*leaf() = 0;
	CHECK_EQ(vmrun(), EXIT_NPF);
	*d(TLB_CONTROL) = 0;
	*leaf() = page | PTE_P | PTE_U | PTE_NX;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	*q(RIP) = (uint64_t)WRITE;
	CHECK_EQ(vmrun(), EXIT_NPF);
	*leaf() = page | ALL | PTE_NX;
	l2.rdx = TEST;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	*q(RIP) = (uint64_t)JUMP;
	CHECK_EQ(vmrun(), EXIT_NPF);
	CHECK_EQ(*q(INFO1), FINAL | ERR_P | ERR_U | ERR_I);
	*leaf() = page | ALL;
	memcpy((void *)page, "\x0f\x01\xd9", 3);
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
}

/* 2 MiB and 1 GiB in either dimension. */
static void large_pages(void)
{
	uint64_t chunk = alloc_pages(1024, 0x200000), va = 0x7000c0000000, top = new_root();
	for (unsigned i = 0; i < 1024; i++)
		*word_at(chunk + i * PAGE) = i + 1;
	for (unsigned k = 0; k < 4; k++) {
		uint64_t p = 0x100000000 + k * 0x40000000;
		set_up_nested(CODE("xor %%esi, %%esi; 1: add (%%rdx), %%rsi; movq $7, 8(%%rdx); add $0x1000, %%rdx; loop 1b; vmmcall"));
		if (k & 1)
			*entry_at(top, va, 2) = p | PTE_P | PTE_W | PTE_PS;
		else
			for (unsigned i = 0; i < 512; i++)
				*entry_at(top, va + i * PAGE, 1) = (p + i * PAGE) | PTE_P | PTE_W;
		if (k & 2)
			*entry_at(root, p, 2) = chunk | ALL | PTE_PS;
		else
			for (unsigned i = 0; i < 512; i++) /* in reverse */
				*entry_at(root, p + i * PAGE, 1) = (chunk + (511 - i) * PAGE) | ALL;
		*q(CR3) = top;
		l2.rdx = va;
		l2.rcx = 512;
		CHECK_EQ(vmrun(), EXIT_VMMCALL);
		CHECK_EQ(l2.rsi, 512 * 513 / 2);
		CHECK_EQ(*word_at(chunk + 8) + *word_at(chunk + 511 * PAGE + 8), 14);
		l2.rdx = va + 3 * PAGE;
		l2.rcx = 1;
		*q(RIP) = (uint64_t)READ;
		CHECK_EQ(vmrun(), EXIT_VMMCALL);
		CHECK_EQ(l2.rcx, k & 2 ? 4 : 511 - 3 + 1);
		va += 0x40000000;
		memset((void *)(chunk + 8), 0, 8);
		memset((void *)(chunk + 511 * PAGE + 8), 0, 8);
	}
	set_up_nested(READ);
	*entry_at(root, 0x4000000000, 3) = 0 | ALL | PTE_PS;	/* all of memory again */
	*entry_at(top, va, 1) = (0x4000000000 + chunk + 5 * PAGE) | PTE_P;
	*q(CR3) = top;
	l2.rdx = va;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(l2.rcx, 6);
}

static void paging_off(void)
{
	set_up_nested(CODE(".code32; mov (%%edx), %%ecx; movl $0x33, (%%edx); vmmcall; .code64"));
	*word_at(page) = 0x22;
	*q(CR0) = 0x11;
	*q(CR4) = 0;
	*q(EFER) = EFER_SVME;
	segment(SEG_CS, 8, 0xc9b, ~0u, 0);
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(l2.rcx, 0x22);
	CHECK_EQ(*word_at(page), 0x33);
	set_up_nested(CODE(".code32; mov (%%edx), %%ecx; .code64"));
	*leaf() = 0;
	*q(CR0) = 0x11;
	*q(CR4) = 0;
	*q(EFER) = EFER_SVME;
	segment(SEG_CS, 8, 0xc9b, ~0u, 0);
	CHECK_EQ(vmrun(), EXIT_NPF);
	CHECK_EQ(*q(INFO1), FINAL | ERR_U);
	CHECK_EQ(*q(INFO2), TEST);
}

static void guest_pat(void)
{
	uint64_t pat = rdmsr(MSR_PAT);
	set_up_nested(CODE("mov $0x277, %%ecx; rdmsr; mov %%rax, %%rsi; mov %%rdx, %%rdi; mov $0x01010101, %%eax; mov %%eax, %%edx; wrmsr; vmmcall"));
	*q(G_PAT) = 0x0706050401000706;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(l2.rsi | l2.rdi << 32, 0x0706050401000706);
	CHECK_EQ(*q(G_PAT), 0x0101010101010101);
	CHECK_EQ(rdmsr(MSR_PAT), pat);
	set_up_nested(READ);
	*q(G_PAT) = 2;
	CHECK_EQ(vmrun(), EXIT_INVALID);
	/* Without nested paging it is the host's, and G_PAT is nothing. */
	set_up_nested(CODE("mov $0x277, %%ecx; rdmsr; mov %%rax, %%rsi; mov %%rdx, %%rdi; vmmcall"));
	*q(NP_ENABLE) = 0;
	*q(G_PAT) = 2;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(l2.rsi | l2.rdi << 32, pat);
}

static void refused(void)
{
	set_up_nested(READ);
	*q(N_CR3) = 1ul << 51;
	CHECK_EQ(vmrun(), EXIT_INVALID);
	*q(NP_ENABLE) = 0;
	*q(RIP) = (uint64_t)CODE("vmmcall");
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
}

/* An event's delivery ends in a nested fault: both are told. */
static void interrupted_events(void)
{
	set_up_nested(CODE("nop; vmmcall"));
	*q(RSP) = TEST + PAGE;
	set_gate(0x92, true, 0, 0);
	*leaf() = 0;
	*q(EVENTINJ) = 0x80000092;
	CHECK_EQ(vmrun(), EXIT_NPF);
	CHECK_EQ(*q(INTINFO), 0x80000092);
	CHECK_EQ(*q(INFO2), TEST + PAGE - 8);
	CHECK_EQ(*q(INFO1), FINAL | ERR_U | ERR_W);
	CHECK_EQ(*q(EVENTINJ) & 1u << 31, 0);
	/* INT n, and a double fault that cannot be delivered: not a shutdown. */
	set_up_nested(CODE("int $0x92"));
	*q(RSP) = TEST + PAGE;
	*leaf() = 0;
	CHECK_EQ(vmrun(), EXIT_NPF);
	CHECK_EQ(*q(INTINFO), 0x80000492);
	set_up_nested(CODE("nop; vmmcall"));
	*q(RSP) = TEST + PAGE;
	*leaf() = 0;
	set_gate(DF, true, 0, 0);
	*q(EVENTINJ) = 0x80000b08;
	CHECK_EQ(vmrun(), EXIT_NPF);
	CHECK_EQ(*q(INTINFO), 0x80000b08);
	set_gate(DF, true, 0, 1);
	set_gate(0x92, true, 0, 1);
}

static void devices(void)
{
	apic_enable();
	set_up_nested(CODE("mov 0x20(%%rdx), %%ecx; mov 0x30(%%rdx), %%esi; vmmcall"));
	*leaf() = 0xfee00000 | ALL;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(l2.rcx, apic_read(APIC_ID));
	CHECK_EQ(l2.rsi, apic_read(0x30));
	/* Writes too, if the nested table lets them: else #NPF, and the device sees nothing. */
	set_up_nested(CODE("movl $0x50, 0x80(%%rdx); vmmcall"));
	*leaf() = 0xfee00000 | ALL;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(apic_read(0x80), 0x50);
	apic_write(0x80, 0);
	set_up_nested(CODE("movl $0x50, 0x80(%%rdx); vmmcall"));
	*leaf() = 0xfee00000 | PTE_P | PTE_U;
	CHECK_EQ(vmrun(), EXIT_NPF);
	CHECK_EQ(*q(INFO1), FINAL | ERR_P | ERR_U | ERR_W);
	CHECK_EQ(*q(INFO2), TEST + 0x80);
	CHECK_EQ(apic_read(0x80), 0);
}

/* VMLOAD and VMSAVE of the guest's, of an address that is physical to it. */
static void virtual_load_save(void)
{
	CHECK(cpuid(0x8000000a, 0).d & 1u << 15);
	uint64_t gs = rdmsr(0xc0000102), star = rdmsr(0xc0000081);
	set_up_nested(CODE("mov %%rdx, %%rax; vmsave; vmmcall"));
	*q(VIRT_EXT) = 2;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(*word_at(page + KERNEL_GS), gs);
	CHECK_EQ(*word_at(page + STAR), star);
	CHECK_EQ(*word_at(page + RIP), 0);
	set_up_nested(CODE("mov %%rdx, %%rax; vmsave; movq $0x5550, 0x620(%%rdx); vmload; mov $0xc0000102, %%ecx; rdmsr; mov %%rax, %%rsi; vmmcall"));
	*q(VIRT_EXT) = 2;
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(l2.rsi, 0x5550);
	wrmsr(0xc0000102, gs);
	/* What the nested table denies is #NPF; VMLOAD reads, VMSAVE writes. */
	for (unsigned save = 0; save < 2; save++) {
		for (unsigned absent = 0; absent < 2; absent++) {
			set_up_nested(save ? CODE("mov %%rdx, %%rax; vmsave; vmmcall") : CODE("mov %%rdx, %%rax; vmload; vmmcall"));
			memcpy((void *)page, vmcb, PAGE);
			__asm__ volatile("vmsave" : : "a"(page) : "memory");
			*leaf() = absent ? 0 : page | PTE_P | PTE_U;
			*q(VIRT_EXT) = 2;
			uint64_t rip = *q(RIP);
			CHECK_EQ(vmrun(), absent || save ? (unsigned)EXIT_NPF : (unsigned)EXIT_VMMCALL);
			if (absent || save) {
				CHECK_EQ(*q(INFO1), FINAL | ERR_U | (save ? ERR_W : 0) | (absent ? 0 : ERR_P));
				CHECK_EQ(*q(INFO2), TEST);
				CHECK_EQ(*q(RIP), rip + 3);
			}
		}
	}
	/* An intercept comes first. Without nested paging and outside long mode there is one always. */
	set_up_nested(CODE("mov %%rdx, %%rax; vmload; vmmcall"));
	*q(VIRT_EXT) = 2;
	intercept(0x82);
	CHECK_EQ(vmrun(), 0x82);
	set_up_nested(CODE("mov %%rdx, %%rax; vmsave; vmmcall"));
	*q(VIRT_EXT) = 2;
	*q(NP_ENABLE) = 0;
	CHECK_EQ(vmrun(), 0x83);
	set_up_nested(CODE(".code32; mov %%edx, %%eax; vmsave; vmmcall; .code64"));
	*q(VIRT_EXT) = 2;
	*q(CR0) = 0x11;
	*q(CR4) = 0;
	*q(EFER) = EFER_SVME;
	segment(SEG_CS, 8, 0xc9b, ~0u, 0);
	CHECK_EQ(vmrun(), 0x83);
	/* Off: the address is ours. */
	set_up_nested(CODE("mov %%rdx, %%rax; vmsave; vmmcall"));
	l2.rdx = alloc_page();
	CHECK_EQ(vmrun(), EXIT_VMMCALL);
	CHECK_EQ(*word_at(l2.rdx + KERNEL_GS), gs);
}

static void hostile_tables(void)
{
	/* No memory there: all ones. */
	set_up_nested(READ);
	*q(N_CR3) = 0xe0000000;
	CHECK_EQ(vmrun(), EXIT_NPF);
	CHECK_EQ(*q(INFO1), TABLE | ERR_P | ERR_W | ERR_U | ERR_RSVD);
	/* A table that is its own page, at every level. */
	set_up_nested(READ);
	uint64_t cyclic = alloc_page();
	*word_at(cyclic) = cyclic | ALL;
	*q(N_CR3) = cyclic;
	CHECK_EQ(vmrun(), EXIT_NPF);
	CHECK_EQ(*q(INFO1), TABLE | ERR_W | ERR_U);
	/* L2's tables outside of memory: its own fault, for the entry has all bits set. */
	set_up_nested(READ);
	*entry_at(root, TEST + PAGE, 1) = 0xe0000000 | ALL;
	*q(CR3) = TEST + PAGE;
	intercept(EXIT_EXCEPTION + PF);
	CHECK_EQ(vmrun(), EXIT_EXCEPTION + PF);
	*entry_at(root, TEST + PAGE, 1) = 0;
}

const struct guest_test guest_tests[] = {
	{ "CPUID offers nested paging", offered },
	{ "what is physical to the guest is translated", translated },
	{ "#NPF says what was denied, and where", faults },
	{ "what is reserved in the nested table is #NPF, at every level", reserved_bits },
	{ "rights of all levels of the nested table count", rights_of_levels },
	{ "an access that crosses into a page that is not there changes nothing", crossing },
	{ "#NPF of a walk through the guest's tables names the entry", table_faults },
	{ "the guest's own faults come first, and CR0.WP opens no nested page", order },
	{ "accessed and dirty bits are set in both dimensions", accessed_dirty },
	{ "changes of the nested table are seen when they must be", changes },
	{ "large pages of both dimensions", large_pages },
	{ "a guest without paging is translated too", paging_off },
	{ "the guest has a PAT of its own", guest_pat },
	{ "VMRUN refuses a root with reserved bits", refused },
	{ "#NPF says which event it interrupted", interrupted_events },
	{ "the nested table may lead to our local APIC", devices },
	{ "VMLOAD and VMSAVE may be the guest's own", virtual_load_save },
	{ "tables that lead nowhere end in a fault", hostile_tables },
	{ 0, 0 },
};
