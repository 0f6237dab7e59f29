/*
 * paging.c - proves the page walk: every rule of rights (U/S, W, WP, NX, SMEP, SMAP) with its error code, reserved bits, large pages
 * of both sizes, accessed and dirty bits, and that a fault changes nothing.
 * Sources: AMD APM vol. 2, "Page-Protection Checks", "Page-Translation-Table Fields"; Intel SDM vol. 3, "Paging".
 */
#include "guest.h"

#define V 0x50000000000ul	/* pages under test, under a top entry of their own; rights above the last level are all given */
enum { E_P = 1, E_W = 2, E_U = 4, E_RSVD = 8, E_I = 16 };

/* mov (%rcx), %al; movb $.., (%rcx); call *%rcx at either privilege, as position independent code */
static unsigned reads(bool user, uint64_t va, struct regs *r)
{
	*r = (struct regs){ .t = { .rcx = va } };
	const void *code = CODE("mov (%%rcx), %%al");
	return user ? run_user(code, r) : run_kernel(code, r);
}
static unsigned writes(bool user, uint64_t va, struct regs *r)
{
	*r = (struct regs){ .t = { .rcx = va, .rax = 0x5a } };
	const void *code = CODE("mov %%al, (%%rcx)");
	return user ? run_user(code, r) : run_kernel(code, r);
}
static unsigned executes(bool user, uint64_t va, struct regs *r)
{
	*r = (struct regs){ .t = { .rcx = va } };
	const void *code = CODE("call *%%rcx");
	return user ? run_user(code, r) : run_kernel(code, r);
}

/* error: ~0 for no fault. */
static void expect(unsigned vector, const struct regs *r, uint64_t va, unsigned error, const char *what, unsigned i)
{
	bool faults = error != ~0u;
	if (vector != (faults ? (unsigned)PF : (unsigned)DONE) || (faults && (r->t.error != error || r->cr2 != va))) {
		if (!CHECK(!"access behaved as the manual says") && showing_details())
			print("          %s in case %u: vector %u error 0x%lx cr2 0x%lx, expected error 0x%x\n", what, i, vector, r->t.error, r->cr2, error);
	}
}

/* Every combination of P, W, U, NX at the leaf, WP, SMEP, SMAP and AC, at both privileges: the rule is computed beside it. */
static void rights(void)
{
	uint64_t page = alloc_page(), cr0 = READ_CR(0), cr4 = READ_CR(4);
	bool smep = cpuid(7, 0).b >> 7 & 1, smap = cpuid(7, 0).b >> 20 & 1;
	*bytes_at(page) = 0xc3;
	for (unsigned i = 0; i < 256; i++) {
		bool p = i & 1, w = i & 2, u = i & 4, nx = i & 8, wp = i & 16, user = i & 32, want_smep = i & 64, want_smap = i & 128;
		if ((want_smep && !smep) || (want_smap && !smap))
			continue;
		*entry_of(V, 1) = page | (p ? PTE_P : 0) | (w ? PTE_W : 0) | (u ? PTE_U : 0) | (nx ? PTE_NX : 0);
		invlpg(V);
		WRITE_CR(0, wp ? cr0 | CR0_WP : cr0 & ~CR0_WP);
		WRITE_CR(4, cr4 | (want_smep ? CR4_SMEP : 0) | (want_smap ? CR4_SMAP : 0));
		struct regs r;
		unsigned base = (p ? E_P : 0) | (user ? E_U : 0);
		bool data = p && (user ? u : !(u && want_smap));
		unsigned vector = reads(user, V, &r);
		expect(vector, &r, V, data ? ~0u : base, "read", i);
		vector = writes(user, V, &r);
		expect(vector, &r, V, data && (w || (!user && !wp)) ? ~0u : base | E_W, "write", i);
		*bytes_at(page) = 0xc3;
		vector = executes(user, V, &r);
		expect(vector, &r, V, p && !nx && (user ? u : !(u && want_smep)) ? ~0u : base | E_I, "fetch", i);
		if (!user && want_smap && p && u) {	/* AC lifts SMAP */
			r = (struct regs){ .t = { .rcx = V } };
			CHECK_EQ(run_kernel(CODE("stac; mov (%%rcx), %%al; clac"), &r), DONE);
			CHECK_EQ(run_kernel(CODE("stac; clac; mov (%%rcx), %%al"), &r), PF);
			CHECK_EQ(r.t.error, E_P);
		}
	}
	WRITE_CR(0, cr0);
	WRITE_CR(4, cr4);
}

/* Rights are those of all levels together; NX at any level forbids fetches. */
static void upper_levels_restrict(void)
{
	uint64_t page = alloc_page();
	struct regs r;
	*bytes_at(page) = 0xc3;
	map_page(V, page, PTE_P | PTE_W | PTE_U);
	for (unsigned level = 2; level <= 4; level++) {
		uint64_t *e = entry_of(V, level), saved = *e;
		*e = saved & ~PTE_W;
		invlpg(V);
		expect(writes(true, V, &r), &r, V, E_P | E_W | E_U, "write", level);
		expect(writes(false, V, &r), &r, V, E_P | E_W, "write", level);
		expect(reads(true, V, &r), &r, V, ~0u, "read", level);
		*e = saved & ~PTE_U;
		invlpg(V);
		expect(reads(true, V, &r), &r, V, E_P | E_U, "read", level);
		expect(writes(false, V, &r), &r, V, ~0u, "write", level);
		*e = saved | PTE_NX;
		invlpg(V);
		*bytes_at(page) = 0xc3;
		expect(executes(false, V, &r), &r, V, E_P | E_I, "fetch", level);
		expect(reads(true, V, &r), &r, V, ~0u, "read", level);
		*e = saved & ~PTE_P;
		invlpg(V);
		expect(reads(true, V, &r), &r, V, E_U, "read", level);
		*e = saved;
		invlpg(V);
		expect(reads(true, V, &r), &r, V, ~0u, "read", level);
	}
}

static void reserved_bits(void)
{
	uint64_t page = alloc_page();
	struct regs r;
	unsigned bits = cpuid(0x80000008, 0).a & 0xff;
	map_page(V, page, PTE_P | PTE_W | PTE_U);
	for (unsigned level = 1; level <= 4; level++) {
		uint64_t *e = entry_of(V, level), saved = *e;
		for (unsigned bit = bits; bit < 52; bit++) {
			*e = saved | 1ul << bit;
			invlpg(V);
			expect(reads(false, V, &r), &r, V, E_P | E_RSVD, "read", level * 100 + bit);
			expect(writes(true, V, &r), &r, V, E_P | E_RSVD | E_W | E_U, "write", level * 100 + bit);
		}
		if (level == 4) {
			*e = saved | PTE_PS;
			invlpg(V);
			expect(reads(false, V, &r), &r, V, E_P | E_RSVD, "read", 400);
		}
		/* In an entry that is not present nothing is reserved. */
		*e = (saved | 1ul << 51) & ~PTE_P;
		invlpg(V);
		expect(reads(false, V, &r), &r, V, 0, "read", level);
		*e = saved;
	}
	/* Large pages: address bits below their size. */
	uint64_t *e = entry_of(V + (1ul << 30), 2);
	*e = alloc_pages(512, 1ul << 21) | PTE_P | PTE_W | PTE_PS | 1ul << 13;
	expect(reads(false, V + (1ul << 30), &r), &r, V + (1ul << 30), E_P | E_RSVD, "read", 200);
	/* NX without EFER.NXE is reserved. */
	invlpg(V);
	*entry_of(V, 1) |= PTE_NX;
	uint64_t efer = rdmsr(MSR_EFER);
	wrmsr(MSR_EFER, efer & ~0x800ul);
	WRITE_CR(3, READ_CR(3));
	expect(reads(false, V, &r), &r, V, E_P | E_RSVD, "read", 300);
	wrmsr(MSR_EFER, efer);
	WRITE_CR(3, READ_CR(3));
	expect(reads(false, V, &r), &r, V, ~0u, "read", 301);
	unmap_page(V);
}

static void large_pages(void)
{
	uint64_t at = alloc_pages(512, 1ul << 21), v2 = V + (2ul << 30), v1 = V + (3ul << 30);
	struct regs r;
	*entry_of(v2, 2) = at | PTE_P | PTE_W | PTE_PS;
	for (uint64_t i = 0; i < 512; i += 37)
		*word_at(v2 + i * PAGE + 8 * i) = i;
	for (uint64_t i = 0; i < 512; i += 37)
		CHECK_EQ(*word_at(at + i * PAGE + 8 * i), i);
	CHECK_EQ(*entry_of(v2, 2) & (PTE_A | PTE_D), PTE_A | PTE_D);
	expect(reads(true, v2 + 0x123456, &r), &r, v2 + 0x123456, E_P | E_U, "read", 2);
	if (cpuid(0x80000001, 0).d >> 26 & 1) {
		*entry_of(v1, 3) = PTE_P | PTE_W | PTE_PS;	/* physical 0 to 1 GiB */
		*word_at(v1 + at + 16) = 4711;
		CHECK_EQ(*word_at(at + 16), 4711);
		CHECK_EQ(*entry_of(v1, 3) & (PTE_A | PTE_D), PTE_A | PTE_D);
		/* Split into smaller pages with other rights. */
		uint64_t pd = alloc_page();
		for (uint64_t i = 0; i < 512; i++)
			((uint64_t *)pd)[i] = i << 21 | PTE_P | PTE_PS;
		*entry_of(v1, 3) = pd | PTE_P | PTE_W;
		WRITE_CR(3, READ_CR(3));
		expect(writes(false, v1 + at, &r), &r, v1 + at, E_P | E_W, "write", 1);
		CHECK_EQ(*word_at(v1 + at + 16), 4711);
		*entry_of(v1, 3) = 0;
	}
	*entry_of(v2, 2) = 0;
	WRITE_CR(3, READ_CR(3));
}

static void accessed_and_dirty(void)
{
	uint64_t page = alloc_page();
	struct regs r;
	map_page(V, page, PTE_P | PTE_W | PTE_U);
	for (unsigned level = 2; level <= 4; level++)
		*entry_of(V, level) &= ~(PTE_A | PTE_D);
	WRITE_CR(3, READ_CR(3));
	(void)*bytes_at(V);
	CHECK_EQ(*entry_of(V, 1) & (PTE_A | PTE_D), PTE_A);
	for (unsigned level = 2; level <= 4; level++)
		CHECK_EQ(*entry_of(V, level) & (PTE_A | PTE_D), PTE_A);
	*bytes_at(V) = 1;	/* through a TLB entry that a read filled */
	CHECK_EQ(*entry_of(V, 1) & (PTE_A | PTE_D), PTE_A | PTE_D);
	CHECK_EQ(*entry_of(V, 2) & PTE_D, 0);
	/* Cleared and flushed, they come again; each time. */
	for (int i = 0; i < 100; i++) {
		*entry_of(V, 1) &= ~(PTE_A | PTE_D);
		invlpg(V);
		if (i & 1)
			*bytes_at(V) = (uint8_t)i;
		else
			(void)*bytes_at(V);
		CHECK_EQ(*entry_of(V, 1) & (PTE_A | PTE_D), i & 1 ? PTE_A | PTE_D : PTE_A);
	}
	/* A fetch sets A. A write that faults sets no D. */
	*bytes_at(page) = 0xc3;
	*entry_of(V, 1) = page | PTE_P;
	invlpg(V);
	((void (*)(void))V)();
	CHECK_EQ(*entry_of(V, 1) & (PTE_A | PTE_D), PTE_A);
	expect(writes(false, V, &r), &r, V, E_P | E_W, "write", 0);
	CHECK_EQ(*entry_of(V, 1) & PTE_D, 0);
	/* Read-modify-write sets both at once. */
	map_page(V, page, PTE_P | PTE_W);
	__asm__ volatile("lock addl $0, (%0)" : : "r"(V) : "memory", "cc");
	CHECK_EQ(*entry_of(V, 1) & (PTE_A | PTE_D), PTE_A | PTE_D);
	/* A failed CMPXCHG writes too. */
	map_page(V, page, PTE_P | PTE_W);
	*word_at(page) = 7;
	uint64_t expected = 8;
	__asm__ volatile("lock cmpxchgq %2, (%1)" : "+a"(expected) : "r"(V), "r"(9ul) : "memory", "cc");
	CHECK_EQ(expected, 7);
	CHECK_EQ(*entry_of(V, 1) & (PTE_A | PTE_D), PTE_A | PTE_D);
}

static void read_modify_write_faults_as_a_write(void)
{
	uint64_t page = alloc_page();
	struct regs r;
	map_page(V, page, PTE_P | PTE_U);
#define RMW(text)                                                                                             \
	do {                                                                                                  \
		r = (struct regs){ .t = { .rcx = V, .rax = 1, .rdx = 2, .rbx = 3 } };                         \
		unsigned vector_ = run_user(CODE(text), &r);                                                  \
		expect(vector_, &r, V, E_P | E_W | E_U, text, 0);                                             \
		CHECK(r.t.rax == 1 && r.t.rdx == 2 && r.t.rbx == 3 && r.t.rcx == V && r.offset == 0);         \
	} while (0)
	RMW("add %%rax, (%%rcx)");
	RMW("lock xadd %%rax, (%%rcx)");
	RMW("xchg %%rax, (%%rcx)");
	RMW("cmpxchg %%rdx, (%%rcx)");
	RMW("lock cmpxchg8b (%%rcx)");
	RMW("btsq $3, (%%rcx)");
	RMW("shll $1, (%%rcx)");
	RMW("notb (%%rcx)");
	RMW("sete (%%rcx)");
	RMW("movups %%xmm0, (%%rcx)");
	RMW("fnstcw (%%rcx)");
	RMW("shld $3, %%rax, (%%rcx)");
	unmap_page(V);
#undef RMW
#define ABSENT(text)                                                                                          \
	do {                                                                                                  \
		r = (struct regs){ .t = { .rcx = V } };                                                       \
		unsigned vector_ = run_user(CODE(text), &r);                                                  \
		expect(vector_, &r, V, E_W | E_U, text, 1);                                                   \
	} while (0)
	ABSENT("add %%rax, (%%rcx)");
	ABSENT("lock incq (%%rcx)");
	ABSENT("cmpxchg %%rdx, (%%rcx)");
}

static void tables_that_map_themselves(void)
{
	uint64_t cr3 = READ_CR(3), slot = 300;
	((uint64_t *)cr3)[slot] = cr3 | PTE_P | PTE_W;
	uint64_t base = 0xffff000000000000ul | slot << 39;
	uint64_t page = alloc_page(), other = alloc_page();
	*word_at(page) = 1, *word_at(other) = 2;
	map_page(V, page, PTE_P | PTE_W);
	CHECK_EQ(*word_at(V), 1);
	volatile uint64_t *pte = word_at(base + (V >> 12) * 8);
	CHECK_EQ(*pte & PTE_ADDRESS, page);
	for (int i = 0; i < 200; i++) {
		*pte = (i & 1 ? other : page) | PTE_P | PTE_W;	/* the table is written through its own mapping */
		invlpg(V);
		CHECK_EQ(*word_at(V), i & 1 ? 2 : 1);
	}
	/* The top table, through itself four times. */
	volatile uint64_t *top = word_at(base | slot << 30 | slot << 21 | slot << 12 | slot * 8);
	CHECK_EQ(*top & PTE_ADDRESS, cr3);
	unmap_page(V);
	((uint64_t *)cr3)[slot] = 0;
	WRITE_CR(3, cr3);
}

const struct guest_test guest_tests[] = {
	{ "P, W, U, NX, WP, SMEP and SMAP decide every access, and the error code says why.", rights },
	{ "Upper levels restrict lower ones.", upper_levels_restrict },
	{ "Reserved bits fault with P and RSVD set.", reserved_bits },
	{ "Large pages of 2 MiB and 1 GiB translate whole, and can be split.", large_pages },
	{ "Accessed and dirty bits are set when and where the manual says.", accessed_and_dirty },
	{ "A read-modify-write faults as a write and changes nothing.", read_modify_write_faults_as_a_write },
	{ "Tables that map themselves can be edited through that mapping.", tables_that_map_themselves },
	{ 0, 0 },
};
