/*
 * tlb.c - proves what must be flushed and what must survive: INVLPG, CR3 loads with and without PCID and NOFLUSH, INVPCID's four
 * types, global pages, changes of CR0.WP and CR4.PGE, and that a new mapping needs no flush.
 *
 * A TLB may forget at any time, so survival is never required; but a stale entry may not be used after a flush, and
 * translations must be those of the current address space.
 * Sources: AMD APM vol. 2, "Translation-Lookaside Buffer (TLB)"; Intel SDM vol. 3, "Caching Translation Information".
 */
#include "guest.h"

#define V 0x60000000000ul	/* not under the top entry that all roots share */
enum { PAGES = 64 };
static uint64_t a, b;

static void set_up(void)
{
	if (!a) {
		a = alloc_page();
		b = alloc_page();
	}
	*word_at(a) = 0xa;
	*word_at(b) = 0xb;
}

static void invlpg_flushes_one_page(void)
{
	set_up();
	for (int i = 0; i < 500; i++) {
		uint64_t v = V + (uint64_t)(i % PAGES) * PAGE;
		*entry_of(v, 1) = (i & 1 ? a : b) | PTE_P | PTE_W;
		invlpg(v + 123);
		CHECK_EQ(*word_at(v), i & 1 ? 0xa : 0xb);
	}
	/* Rights too: less, then more. */
	struct regs r = { .t = { .rcx = V } };
	map_page(V, a, PTE_P);
	CHECK_EQ(run_kernel(CODE("movq $0xc, (%%rcx)"), &r), PF);
	*entry_of(V, 1) = a | PTE_P | PTE_W;
	/* After a fault the processor has dropped the entry: the retry must see the new rights without a flush. */
	CHECK_EQ(run_kernel(CODE("movq $0xa, (%%rcx)"), &r), DONE);
}

static void new_mappings_need_no_flush(void)
{
	set_up();
	struct regs r;
	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t v = V + 0x10000000 + i * PAGE;
		r = (struct regs){ .t = { .rcx = v } };
		CHECK_EQ(run_kernel(CODE("mov (%%rcx), %%rax"), &r), PF);
		CHECK_EQ(r.cr2, v);
		*entry_of(v, 1) = (i & 1 ? a : b) | PTE_P;
		CHECK_EQ(*word_at(v), i & 1 ? 0xa : 0xb);
	}
	/* Whole tables, too: an absent upper entry is never remembered. */
	for (unsigned i = 0; i < 4; i++) {
		uint64_t v = V + (1ul << 39) + (uint64_t)i * (1ul << 30);
		r = (struct regs){ .t = { .rcx = v } };
		CHECK_EQ(run_kernel(CODE("mov (%%rcx), %%rax"), &r), PF);
		*entry_of(v, 1) = a | PTE_P;
		CHECK_EQ(*word_at(v), 0xa);
	}
}

static void upper_level_changes(void)
{
	set_up();
	/* One page table exchanged for another under many pages: INVLPG of a page sees its new table. */
	uint64_t t1 = alloc_page(), t2 = alloc_page(), v = V + (2ul << 30);
	for (unsigned i = 0; i < 512; i++) {
		((uint64_t *)t1)[i] = a | PTE_P;
		((uint64_t *)t2)[i] = b | PTE_P;
	}
	for (unsigned round = 0; round < 100; round++) {
		*entry_of(v, 2) = (round & 1 ? t2 : t1) | PTE_P | PTE_W;
		for (unsigned i = 0; i < 8; i++) {
			invlpg(v + i * 64 * PAGE);
			CHECK_EQ(*word_at(v + i * 64 * PAGE), round & 1 ? 0xb : 0xa);
		}
	}
	/* A 2 MiB page becomes a table and a page again. */
	uint64_t big = alloc_pages(512, 1ul << 21);
	*word_at(big + 5 * PAGE) = 0xd;
	for (unsigned round = 0; round < 50; round++) {
		*entry_of(v, 2) = round & 1 ? t1 | PTE_P | PTE_W : big | PTE_P | PTE_W | PTE_PS;
		invlpg(v + 5 * PAGE);
		CHECK_EQ(*word_at(v + 5 * PAGE), round & 1 ? 0xa : 0xd);
	}
	/* Freed tables are reused as data, and the reverse, after a flush. */
	*entry_of(v, 2) = 0;
	invlpg(v);
	invlpg(v + 5 * PAGE);
	WRITE_CR(3, READ_CR(3));
	for (unsigned i = 0; i < 512; i++)
		((volatile uint64_t *)t1)[i] = i * 3;
	for (unsigned i = 0; i < 512; i++)
		CHECK_EQ(((volatile uint64_t *)t1)[i], i * 3);
}

static void cr3_loads(void)
{
	set_up();
	uint64_t one = READ_CR(3), two = new_root();
	*entry_at(one, V, 1) = a | PTE_P;
	*entry_at(two, V, 1) = b | PTE_P;
	for (int i = 0; i < 300; i++) {
		WRITE_CR(3, i & 1 ? two : one);
		CHECK_EQ(*word_at(V), i & 1 ? 0xb : 0xa);
	}
	WRITE_CR(3, one);
	/* A change made while the other space is current is seen after the switch, which flushes. */
	for (int i = 0; i < 100; i++) {
		WRITE_CR(3, two);
		*entry_at(one, V, 1) = (i & 1 ? b : a) | PTE_P;
		WRITE_CR(3, one);
		CHECK_EQ(*word_at(V), i & 1 ? 0xb : 0xa);
	}
	/* The same root loaded again flushes as well. */
	for (int i = 0; i < 100; i++) {
		*entry_at(one, V, 1) = (i & 1 ? b : a) | PTE_P;
		WRITE_CR(3, one);
		CHECK_EQ(*word_at(V), i & 1 ? 0xb : 0xa);
	}
	unmap_page(V);
}

static void global_pages(void)
{
	set_up();
	uint64_t cr4 = READ_CR(4), one = READ_CR(3), two = new_root();
	WRITE_CR(4, cr4 | CR4_PGE);
	*entry_at(one, V, 1) = a | PTE_P | PTE_G;
	*entry_at(two, V, 1) = a | PTE_P | PTE_G;
	for (int i = 0; i < 50; i++) {
		WRITE_CR(3, i & 1 ? two : one);
		CHECK_EQ(*word_at(V), 0xa);
	}
	/* Changed in both: INVLPG flushes global entries, whichever space made them. */
	for (int i = 0; i < 50; i++) {
		CHECK(*word_at(V) != 0);
		*entry_at(one, V, 1) = *entry_at(two, V, 1) = (i & 1 ? a : b) | PTE_P | PTE_G;
		invlpg(V);
		CHECK_EQ(*word_at(V), i & 1 ? 0xa : 0xb);
		WRITE_CR(3, i & 2 ? two : one);
		CHECK_EQ(*word_at(V), i & 1 ? 0xa : 0xb);
	}
	/* Clearing or setting PGE flushes everything. */
	for (int i = 0; i < 50; i++) {
		*entry_at(one, V, 1) = *entry_at(two, V, 1) = (i & 1 ? a : b) | PTE_P | PTE_G;
		WRITE_CR(4, READ_CR(4) ^ CR4_PGE);
		CHECK_EQ(*word_at(V), i & 1 ? 0xa : 0xb);
	}
	/* Without PGE the G bit means nothing. */
	WRITE_CR(4, cr4 & ~CR4_PGE);
	*entry_at(one, V, 1) = a | PTE_P | PTE_G;
	*entry_at(two, V, 1) = b | PTE_P | PTE_G;
	for (int i = 0; i < 50; i++) {
		WRITE_CR(3, i & 1 ? two : one);
		CHECK_EQ(*word_at(V), i & 1 ? 0xb : 0xa);
	}
	WRITE_CR(3, one);
	WRITE_CR(4, cr4);
	unmap_page(V);
}

static void process_context_ids(void)
{
	if (!(cpuid(1, 0).c >> 17 & 1)) {
		skip_test("no PCID");
		return;
	}
	set_up();
	enum { SPACES = 20 };
	uint64_t cr4 = READ_CR(4), home = READ_CR(3), root[SPACES], value[SPACES];
	WRITE_CR(4, cr4 | CR4_PCIDE | CR4_PGE);
	for (unsigned s = 0; s < SPACES; s++) {
		uint64_t page = alloc_page();
		root[s] = new_root();
		value[s] = 100 + s;
		*word_at(page) = value[s];
		*entry_at(root[s], V, 1) = page | PTE_P | PTE_W;
	}
	const uint64_t noflush = 1ul << 63;
	/* Round and round: each space sees its own page whatever may survive. */
	for (unsigned i = 0; i < 2000; i++) {
		unsigned s = (i * 7) % SPACES;
		WRITE_CR(3, root[s] | (s + 1) | (i > 40 ? noflush : 0));
		CHECK_EQ(READ_CR(3), root[s] | (s + 1));
		CHECK_EQ(*word_at(V), value[s]);
		*word_at(V) = ++value[s];
	}
	/* Without NOFLUSH the named context is flushed. */
	for (unsigned i = 0; i < 200; i++) {
		WRITE_CR(3, root[0] | 1 | noflush);
		CHECK(*word_at(V) != 0);
		WRITE_CR(3, root[1] | 2 | noflush);
		*entry_at(root[0], V, 1) = (i & 1 ? a : b) | PTE_P;
		WRITE_CR(3, root[0] | 1);
		CHECK_EQ(*word_at(V), i & 1 ? 0xa : 0xb);
	}
	/* One context for another root: the load without NOFLUSH must not leave the old one's entries. */
	for (unsigned i = 0; i < 200; i++) {
		unsigned s = 2 + i % 2;
		WRITE_CR(3, root[s] | 5);
		CHECK_EQ(*word_at(V), value[s]);
	}
	WRITE_CR(3, home);
	WRITE_CR(4, cr4);
}

static void do_invpcid(uint64_t type, uint64_t pcid, uint64_t va)
{
	struct { uint64_t pcid, va; } d = { pcid, va };
	__asm__ volatile("invpcid %0, %1" : : "m"(d), "r"(type) : "memory");
}

static void invpcid_types(void)
{
	if (!(cpuid(7, 0).b >> 10 & 1) || !(cpuid(1, 0).c >> 17 & 1)) {
		skip_test("no INVPCID");
		return;
	}
	set_up();
	const uint64_t noflush = 1ul << 63;
	uint64_t cr4 = READ_CR(4), home = READ_CR(3), one = new_root(), two = new_root(), g = V + 64 * PAGE;
	WRITE_CR(4, cr4 | CR4_PCIDE | CR4_PGE);
	*entry_at(one, V, 1) = *entry_at(two, V, 1) = a | PTE_P;
	*entry_at(one, g, 1) = *entry_at(two, g, 1) = a | PTE_P | PTE_G;
	for (unsigned i = 0; i < 200; i++) {
		uint64_t page = i & 1 ? b : a, want = i & 1 ? 0xb : 0xa;
		/* From space two, flush what changed in space one, by each type in turn. */
		WRITE_CR(3, one | 1 | noflush);
		(void)*word_at(V);
		(void)*word_at(g);
		WRITE_CR(3, two | 2 | noflush);
		*entry_at(one, V, 1) = page | PTE_P;
		unsigned type = i % 4;
		if (type >= 2)
			*entry_at(one, g, 1) = *entry_at(two, g, 1) = page | PTE_P | PTE_G;
		do_invpcid(type, 1, V);
		if (type == 2)
			CHECK_EQ(*word_at(g), want);	/* 2: all, globals too */
		else if (type == 3)
			invlpg(g);			/* 3: all but globals */
		WRITE_CR(3, one | 1 | noflush);
		CHECK_EQ(*word_at(V), want);
		if (type >= 2)
			CHECK_EQ(*word_at(g), want);
	}
	struct regs r;
	struct { uint64_t pcid, va; } d;
#define BAD(type_, pcid_, va_)                                                                                \
	do {                                                                                                  \
		d.pcid = (pcid_), d.va = (va_);                                                               \
		r = (struct regs){ .t = { .rax = (type_), .rcx = (uint64_t)&d } };                            \
		CHECK_EQ(run_kernel(CODE("invpcid (%%rcx), %%rax"), &r), GP);                                 \
		CHECK_EQ(r.t.error, 0);                                                                       \
	} while (0)
	BAD(4, 0, 0);
	BAD(0, 0x1000, 0);
	BAD(0, 0, 1ul << 63);
	WRITE_CR(3, home);
	WRITE_CR(4, cr4);
	d.pcid = 1, d.va = 0;	/* PCIDE is clear: contexts but 0 are refused */
	BAD(1, 1, 0);
	r = (struct regs){ 0 };
	CHECK_EQ(run_user(CODE("invpcid (%%rsp), %%rax"), &r), GP);
}

static void control_bits_take_effect_at_once(void)
{
	set_up();
	uint64_t cr0 = READ_CR(0), cr4 = READ_CR(4);
	struct regs r;
	map_page(V, a, PTE_P | PTE_U);
	for (int i = 0; i < 50; i++) {
		WRITE_CR(0, i & 1 ? cr0 | CR0_WP : cr0 & ~CR0_WP);
		r = (struct regs){ .t = { .rcx = V, .rax = 0xa } };
		CHECK_EQ(run_kernel(CODE("mov %%rax, (%%rcx)"), &r), i & 1 ? PF : DONE);
	}
	WRITE_CR(0, cr0);
	if (cpuid(7, 0).b >> 20 & 1)
		for (int i = 0; i < 50; i++) {
			WRITE_CR(4, i & 1 ? cr4 | CR4_SMAP : cr4);
			r = (struct regs){ .t = { .rcx = V } };
			CHECK_EQ(run_kernel(CODE("mov (%%rcx), %%rax"), &r), i & 1 ? PF : DONE);
		}
	WRITE_CR(4, cr4);
	unmap_page(V);
}

/* More pages than any TLB of ours holds, at strides that are powers of two, in two spaces. */
static void strides(void)
{
	uint64_t one = READ_CR(3), two = new_root();
	for (unsigned shift = 12; shift <= 30; shift++)
		for (unsigned i = 0; i < 24; i++) {
			uint64_t v = V + (1ul << 39) * 2 + ((uint64_t)i << shift);
			uint64_t page = alloc_page();
			*word_at(page) = i;
			*word_at(page + 8) = i + 1000;
			*entry_at(one, v, 1) = *entry_at(two, v, 1) = page | PTE_P;
		}
	for (unsigned round = 0; round < 6; round++) {
		WRITE_CR(3, round & 1 ? two : one);
		for (unsigned i = 0; i < 24; i++) {
			uint64_t v = V + (1ul << 39) * 2 + ((uint64_t)i << 30);
			CHECK_EQ(*word_at(v), i);
		}
	}
	WRITE_CR(3, one);
}

const struct guest_test guest_tests[] = {
	{ "INVLPG makes the new entry of a page visible, and a fault drops the old one.", invlpg_flushes_one_page },
	{ "A mapping that was absent needs no flush.", new_mappings_need_no_flush },
	{ "Changes of upper levels are seen after INVLPG of a page below them.", upper_level_changes },
	{ "A CR3 load switches spaces and flushes the one it loads.", cr3_loads },
	{ "Global entries survive CR3 loads, and fall to INVLPG and CR4.PGE.", global_pages },
	{ "Contexts (PCID) keep their translations apart, with NOFLUSH and without.", process_context_ids },
	{ "Each type of INVPCID flushes what it names and checks its descriptor.", invpcid_types },
	{ "CR0.WP and CR4.SMAP take effect at once.", control_bits_take_effect_at_once },
	{ "Pages at power-of-two strides keep their translations.", strides },
	{ 0, 0 },
};
