/*
 * access.c - proves accesses that cross pages (plain, locked, vector, x87, stack), string instructions in either direction with faults
 * midway, and that an instruction that faults has changed nothing that it may not.
 * Sources: AMD APM vol. 1, "Memory Management"; vol. 3, "MOVS", "REP".
 */
#include "guest.h"

#define V 0x7000000000ul
static uint64_t frames[6];

/* Six pages in scattered order; the one before and the one behind are absent. */
static void set_up(void)
{
	static const unsigned order[6] = { 3, 0, 5, 1, 4, 2 };
	for (unsigned i = 0; i < 6 && !frames[5]; i++)
		for (unsigned k = 0; k < 6; k++)
			frames[k] = frames[k] ? frames[k] : alloc_pages(1, PAGE);
	for (unsigned i = 0; i < 6; i++) {
		map_page(V + i * PAGE, frames[order[i]], PTE_P | PTE_W | PTE_U);
		memset((void *)(V + i * PAGE), 0, PAGE);
	}
	*entry_of(V - PAGE, 1) = 0;
	*entry_of(V + 6 * PAGE, 1) = 0;
	invlpg(V - PAGE);
	invlpg(V + 6 * PAGE);
}

static void fill(uint64_t at, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		bytes_at(at)[i] = (uint8_t)(i * 7 + 1);
}

static void crossing(void)
{
	set_up();
	for (unsigned split = 1; split < 8; split++) {
		uint64_t at = V + PAGE - split;
		fill(at, 16);
		struct regs r = { .t = { .rcx = at, .rdx = 0x1122334455667788 } };
		CHECK_EQ(run_kernel(CODE("mov (%%rcx), %%rax; mov %%rdx, (%%rcx); mov (%%rcx), %%rbx; addq $0x11, (%%rcx); lock xadd %%rdx, (%%rcx);"
					 "bswapq %%rax; bswapq %%rax; lock btsq $62, (%%rcx); setc %%r8b; mov (%%rcx), %%r9; xchg %%r10, (%%rcx)"), &r), DONE);
		CHECK_EQ(r.t.rax, 0x322b241d160f0801);
		CHECK_EQ(r.t.rbx, 0x1122334455667788);
		CHECK_EQ(r.t.rdx, 0x1122334455667799);
		CHECK_EQ(r.t.r8 & 255, 0);
		CHECK_EQ(r.t.r9, 0x1122334455667799 + 0x1122334455667788 + (1ul << 62));
		CHECK_EQ(r.t.r10, r.t.r9);
		CHECK_EQ(bytes_at(at)[8], 8 * 7 + 1);
		/* compare and exchange, 8 and (aligned only: not crossing) 16 bytes; push and pop; call */
		r = (struct regs){ .t = { .rcx = at, .rax = 0, .rbx = 5, .rdx = 0 } };
		*word_at(at) = 0;
		CHECK_EQ(run_kernel(CODE("lock cmpxchg %%rbx, (%%rcx); setz %%r8b; lock cmpxchg %%rcx, (%%rcx); setz %%r9b"), &r), DONE);
		CHECK_EQ(r.t.r8 & 255, 1);
		CHECK_EQ(r.t.r9 & 255, 0);
		CHECK_EQ(r.t.rax, 5);
		r = (struct regs){ .t = { .rcx = at + 8, .rax = 0x0102030405060708 } };
		CHECK_EQ(run_kernel(CODE("mov %%rsp, %%rbx; mov %%rcx, %%rsp; push %%rax; mov (%%rsp), %%rdx; pop %%rsi; push %%rax; popq %%r8;"
					 "call 1f; 1: mov %%rsp, %%rdi; mov %%rbx, %%rsp"), &r), DONE);
		CHECK_EQ(r.t.rdx, 0x0102030405060708);
		CHECK_EQ(r.t.rsi, 0x0102030405060708);
		CHECK_EQ(r.t.rdi, at);
	}
	for (unsigned split = 1; split < 16; split++) {
		uint64_t at = V + 3 * PAGE - split, to = V + 5 * PAGE - (16 - split);
		fill(at, 16);
		struct regs r = { .t = { .rcx = at, .rdx = to } };
		CHECK_EQ(run_kernel(CODE("movups (%%rcx), %%xmm3; movups %%xmm3, (%%rdx)"), &r), DONE);
		CHECK(memcmp((void *)at, (void *)to, 16) == 0);
		/* x87: ten bytes */
		bytes_at(at)[9] = 0x40;
		bytes_at(at)[7] |= 0x80;
		memset((void *)to, 0, 16);
		CHECK_EQ(run_kernel(CODE("fninit; fldt (%%rcx); fstpt (%%rdx)"), &r), DONE);
		CHECK(memcmp((void *)at, (void *)to, 10) == 0);
	}
	/* An FXSAVE area across a page */
	struct regs r = { .t = { .rcx = V + 2 * PAGE - 256 } };
	CHECK_EQ(run_kernel(CODE("fninit; fld1; fxsave (%%rcx); fninit; fldz; fxrstor (%%rcx); fstpl (%%rcx)"), &r), DONE);
	CHECK_EQ(*word_at(V + 2 * PAGE - 256), 0x3ff0000000000000);
}

static void crossing_into_nothing(void)
{
	set_up();
	struct regs r;
	uint64_t end = V + 6 * PAGE;
	for (unsigned split = 1; split < 8; split++) {
		uint64_t at = end - split;
		fill(end - 16, 16);
/* Flags that the instruction would have overwritten are not looked at: nothing can depend on them once it is restarted. */
#define CROSS(text, error_, keeps_flags)                                                                                  \
		do {                                                                                          \
			r = (struct regs){ .t = { .rcx = at, .rax = 0x55, .rdx = 0x66, .rbx = 0x77, .rflags = 0xd5 } }; \
			CHECK_EQ(run_kernel(CODE(text), &r), PF);                                             \
			CHECK_EQ(r.cr2, end);                                                                 \
			CHECK_EQ(r.t.error, error_);                                                          \
			CHECK_EQ(r.offset, 0);                                                                \
			CHECK(r.t.rax == 0x55 && r.t.rdx == 0x66 && r.t.rbx == 0x77 && r.t.rcx == at);        \
			CHECK((r.t.rflags & 0xd5) == 0xd5 || !(keeps_flags));                                                 \
			for (unsigned i_ = 0; i_ < split; i_++)                                               \
				CHECK_EQ(bytes_at(at)[i_], (uint8_t)((16 - split + i_) * 7 + 1));             \
		} while (0)
		CROSS("mov (%%rcx), %%rax", 0, 1);
		CROSS("mov %%rax, (%%rcx)", 2, 1);
		CROSS("add %%rax, (%%rcx)", 2, 0);
		CROSS("lock xadd %%rax, (%%rcx)", 2, 0);
		CROSS("xchg %%rax, (%%rcx)", 2, 1);
		CROSS("lock cmpxchg8b (%%rcx)", 2, 1);
		CROSS("movups %%xmm0, (%%rcx)", 2, 1);
		CROSS("movsd %%xmm0, (%%rcx)", 2, 1);
		CROSS("cmp %%rax, (%%rcx)", 0, 0);
		CROSS("pushq (%%rcx)", 0, 1);
		CROSS("movq $0, (%%rcx)", 2, 1);
	}
	/* The other way: the first page is absent. */
	for (unsigned split = 1; split < 8; split++) {
		r = (struct regs){ .t = { .rcx = V - split, .rax = 0x55 } };
		CHECK_EQ(run_kernel(CODE("mov %%rax, (%%rcx)"), &r), PF);
		CHECK_EQ(r.cr2, V - split);
		CHECK_EQ(*word_at(V), 0);
	}
	/* A store whose second page is read-only. */
	*entry_of(V + PAGE, 1) &= ~PTE_W;
	invlpg(V + PAGE);
	r = (struct regs){ .t = { .rcx = V + PAGE - 3, .rax = ~0ul } };
	CHECK_EQ(run_kernel(CODE("mov %%rax, (%%rcx)"), &r), PF);
	CHECK_EQ(r.cr2, V + PAGE);
	CHECK_EQ(r.t.error, 3);
	CHECK_EQ(bytes_at(V + PAGE - 3)[0], 0);
	CHECK_EQ(bytes_at(V + PAGE - 1)[0], 0);
	/* Stack instructions: RSP changes only when all went well. */
	r = (struct regs){ .t = { .rsp = V + 4 } };
	CHECK_EQ(run_kernel(CODE("push %%rax"), &r), PF);
	CHECK_EQ(r.cr2, V - 4);
	CHECK_EQ(r.t.rsp, V + 4);
	r = (struct regs){ .t = { .rsp = end - 4 } };
	CHECK_EQ(run_kernel(CODE("pop %%rax"), &r), PF);
	CHECK_EQ(r.t.rsp, end - 4);
	r = (struct regs){ .t = { .rsp = V, .rax = 1 } };
	CHECK_EQ(run_kernel(CODE("call *%%rax"), &r), PF);
	CHECK_EQ(r.cr2, V - 8);
	CHECK_EQ(r.offset, 0);
	r = (struct regs){ .t = { .rbp = end, .rsp = V + 64 } };
	CHECK_EQ(run_kernel(CODE("leave"), &r), PF);
	CHECK_EQ(r.t.rsp, V + 64);
	CHECK_EQ(r.t.rbp, end);
	r = (struct regs){ .t = { .rsp = V + 8, .rbp = 5 } };
	CHECK_EQ(run_kernel(CODE("enter $64, $0"), &r), PF);
	CHECK_EQ(r.t.rbp, 5);
	CHECK_EQ(r.t.rsp, V + 8);
}

static void strings_both_ways(void)
{
	set_up();
	struct regs r;
	for (unsigned round = 0; round < 32; round++) {
		uint64_t from = V + 100 + round, to = V + 3 * PAGE - 50 - round, n = PAGE + 37 * round;
		for (unsigned i = 0; i < n; i++)
			bytes_at(from)[i] = (uint8_t)(i * 31 + round);
		r = (struct regs){ .t = { .rsi = from, .rdi = to, .rcx = n } };
		if (round & 1) {
			r.t.rsi += n - 1, r.t.rdi += n - 1;
			CHECK_EQ(run_kernel(CODE("std; rep movsb; cld"), &r), DONE);
			CHECK_EQ(r.t.rsi, from - 1);
			CHECK_EQ(r.t.rdi, to - 1);
		} else {
			CHECK_EQ(run_kernel(CODE("rep movsb"), &r), DONE);
			CHECK_EQ(r.t.rsi, from + n);
			CHECK_EQ(r.t.rdi, to + n);
		}
		CHECK_EQ(r.t.rcx, 0);
		CHECK(memcmp((void *)from, (void *)to, n) == 0);
		/* comparing and scanning */
		bytes_at(to)[n - 3 - round] ^= 0x80;
		r = (struct regs){ .t = { .rsi = from, .rdi = to, .rcx = n } };
		CHECK_EQ(run_kernel(CODE("repe cmpsb; pushfq; pop %%rax"), &r), DONE);
		CHECK_EQ(r.t.rsi, from + n - 2 - round);
		CHECK_EQ(r.t.rcx, 2 + round);
		CHECK_EQ(r.t.rax & 0x40, 0);
	}
	/* wide stores, overlapping moves (a byte pattern spreads), sizes and the 32-bit count */
	r = (struct regs){ .t = { .rdi = V + 5, .rcx = 700, .rax = 0x1122334455667788 } };
	CHECK_EQ(run_kernel(CODE("rep stosq"), &r), DONE);
	for (unsigned i = 0; i < 700; i++)
		CHECK_EQ(*word_at(V + 5 + 8 * i), 0x1122334455667788);
	bytes_at(V)[0] = 9;
	r = (struct regs){ .t = { .rsi = V, .rdi = V + 1, .rcx = 2 * PAGE } };
	CHECK_EQ(run_kernel(CODE("rep movsb"), &r), DONE);
	for (unsigned i = 0; i < 2 * PAGE; i++)
		CHECK_EQ(bytes_at(V)[i], 9);
	/* With 32-bit addresses ECX counts and EDI points, and both are zero-extended. */
	uint64_t low = alloc_page();
	r = (struct regs){ .t = { .rdi = low | 5ul << 32, .rcx = 0xffffffff00000003, .rax = 7 } };
	CHECK_EQ(run_kernel(CODE(".byte 0x67, 0xf3, 0xaa"), &r), DONE);
	CHECK_EQ(*word_at(low), 0x070707);
	CHECK_EQ(r.t.rcx, 0);
	CHECK_EQ(r.t.rdi, low + 3);
	r = (struct regs){ .t = { .rdi = V, .rcx = 0, .rsi = 1ul << 63 } };
	CHECK_EQ(run_kernel(CODE("rep movsb"), &r), DONE);	/* no count, no access */
	r = (struct regs){ .t = { .rdi = V + 64, .rcx = PAGE, .rax = 9 } };
	bytes_at(V)[3000] = 77;
	CHECK_EQ(run_kernel(CODE("repe scasb"), &r), DONE);
	r = (struct regs){ .t = { .rsi = V + 3000, .rax = 0x1234 } };
	CHECK_EQ(run_kernel(CODE("lodsb"), &r), DONE);
	CHECK_EQ(r.t.rax, 0x1200 | 77);
}

static void strings_stop_at_faults(void)
{
	set_up();
	struct regs r;
	uint64_t end = V + 6 * PAGE;
	/* forward: the destination ends; the registers say how far it got */
	for (unsigned n = 1; n < 200; n += 13) {
		memset((void *)(end - 256), 0, 256);
		fill(V, 256);
		r = (struct regs){ .t = { .rsi = V, .rdi = end - n, .rcx = 256 } };
		CHECK_EQ(run_kernel(CODE("rep movsb"), &r), PF);
		CHECK_EQ(r.cr2, end);
		CHECK_EQ(r.t.error, 2);
		CHECK_EQ(r.offset, 0);
		CHECK_EQ(r.t.rdi, end);
		CHECK_EQ(r.t.rsi, V + n);
		CHECK_EQ(r.t.rcx, 256 - n);
		CHECK(memcmp((void *)V, (void *)(end - n), n) == 0);
		/* the source ends */
		r = (struct regs){ .t = { .rsi = end - n, .rdi = V + 1000, .rcx = 256 } };
		CHECK_EQ(run_kernel(CODE("rep movsb"), &r), PF);
		CHECK_EQ(r.t.error, 0);
		CHECK_EQ(r.t.rsi, end);
		CHECK_EQ(r.t.rdi, V + 1000 + n);
		CHECK_EQ(r.t.rcx, 256 - n);
		/* stores of eight bytes, the last of which would cross */
		r = (struct regs){ .t = { .rdi = end - n, .rcx = 64, .rax = ~0ul } };
		CHECK_EQ(run_kernel(CODE("rep stosq"), &r), PF);
		CHECK_EQ(r.cr2, end);
		CHECK_EQ(r.t.rcx, 64 - n / 8);
		CHECK_EQ(r.t.rdi, end - n + n / 8 * 8);
	}
	/* backward, into the absent page before */
	for (unsigned n = 1; n < 200; n += 13) {
		r = (struct regs){ .t = { .rsi = V + 3000, .rdi = V + n - 1, .rcx = 256 } };
		CHECK_EQ(run_kernel(CODE("std; rep movsb"), &r), PF);
		CHECK_EQ(r.cr2, V - 1);
		CHECK_EQ(r.t.rdi, V - 1);
		CHECK_EQ(r.t.rcx, 256 - n);
		CHECK(r.t.rflags & RFLAGS_DF);
	}
	/* Comparing stops before the fault if they differ earlier, and faults if not. */
	memset((void *)(end - 64), 1, 64);
	memset((void *)V, 1, 64);
	bytes_at(V)[40] = 2;
	r = (struct regs){ .t = { .rsi = V, .rdi = end - 64, .rcx = 1000 } };
	CHECK_EQ(run_kernel(CODE("repe cmpsb"), &r), DONE);
	CHECK_EQ(r.t.rcx, 1000 - 41);
	r = (struct regs){ .t = { .rdi = end - 64, .rcx = 1000, .rax = 1 } };
	CHECK_EQ(run_kernel(CODE("repe scasb"), &r), PF);
	CHECK_EQ(r.t.rcx, 1000 - 64);
	CHECK_EQ(r.t.rdi, end);
	/* Repaired midway, it goes on where it was: a handler maps the page. */
	r = (struct regs){ .t = { .rdi = end - 100, .rcx = 300, .rax = 0x33 } };
	CHECK_EQ(run_kernel(CODE("rep stosb"), &r), PF);
	map_page(end, alloc_page(), PTE_P | PTE_W);
	struct regs again = { .t = r.t };
	CHECK_EQ(run_kernel(CODE("rep stosb"), &again), DONE);
	for (unsigned i = 0; i < 300; i++)
		CHECK_EQ(bytes_at(end - 100)[i], 0x33);
	CHECK_EQ(bytes_at(end)[200], 0);
	unmap_page(end);
}

static void device_memory(void)
{
	/* The local APIC's page: loads, stores, read-modify-writes and strings to a device. */
	*entry_of(V + (1ul << 30), 1) = 0xfee00000 | PTE_P | PTE_W | 0x18;
	invlpg(V + (1ul << 30));
	uint64_t apic = V + (1ul << 30);
	apic_enable();
	struct regs r = { .t = { .rcx = apic } };
	CHECK_EQ(run_kernel(CODE("movl $0x20, 0x80(%%rcx); orl $0x10, 0x80(%%rcx); mov 0x80(%%rcx), %%eax; testl $0x10, 0x80(%%rcx); setnz %%dl;"
				 "movzbl 0x80(%%rcx), %%ebx; xchg %%esi, 0x80(%%rcx); movl 0x80(%%rcx), %%edi; movsxd 0x30(%%rcx), %%r8"), &r), DONE);
	CHECK_EQ(r.t.rax, 0x30);
	CHECK_EQ(r.t.rdx & 1, 1);
	CHECK_EQ(r.t.rbx, 0x30);
	CHECK_EQ(r.t.rsi, 0x30);
	CHECK_EQ(r.t.rdi, 0);
	/* Nothing answers there: ones, and stores are lost. */
	CHECK_EQ(*(volatile uint32_t *)0xf0000000ul, 0xffffffff);
	*(volatile uint32_t *)0xf0000000ul = 5;
	CHECK_EQ(*(volatile uint32_t *)0xf0000000ul, 0xffffffff);
	CHECK_EQ(*word_at(0xf0000ffc), ~0ul);
}

const struct guest_test guest_tests[] = {
	{ "Accesses of every kind cross from one page to another.", crossing },
	{ "A crossing access that faults names the first byte it could not reach and changes nothing.", crossing_into_nothing },
	{ "String instructions work in both directions over many pages.", strings_both_ways },
	{ "String instructions stop at a fault with their registers telling how far they came.", strings_stop_at_faults },
	{ "Device registers take every kind of access.", device_memory },
	{ 0, 0 },
};
