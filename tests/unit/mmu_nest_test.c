/*
 * mmu_nest_test.c - a guest of the guest with nested paging, against a plain walk of both dimensions written down here: what is mapped where, whose fault it is and
 * what it says; explain foretells it; and accessed and dirty bits of both.
 */
#include "mmu_util.h"

#include "mmu/explain.h"

#define ALL (PTE_P | PTE_W | PTE_U)
#define ADDRESS 0x000ffffffffff000ull
#define L2_PAGES 16
enum { L2_BASE = 0x40000000 };	/* physical to L2; the nested table leads each page elsewhere */

static uint64_t rng = 1;
static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	return rng ^= rng << 17;
}

/* ---- the plain walk ---- */

enum outcome { MAPPED, GUEST_FAULT, NESTED_FAULT };
struct answer { enum outcome what; uint64_t error, at; /* mapped: physical to L1 */ };

static bool reserved(uint64_t e, unsigned level, bool leaf)
{
	return (e & (0xfffull << 40)) || (level > 2 && !leaf && (e & PTE_G)) || (level == 4 && (e & PTE_PS)) ||
	       (leaf && level > 1 && (e & (((1ull << (12 + 9 * (level - 1))) - 1) & ADDRESS)));
}

/* Outside of memory all bits are set. */
static uint64_t entry_at(struct guest *g, uint64_t at)
{
	uint64_t e;

	return memory_read(&g->memory, gpa(at), &e, 8) ? ~0ull : e;
}

/* L2-physical to L1-physical. */
static bool nested(struct guest *g, uint64_t root, uint64_t p, bool write, bool fetch, bool table, struct answer *a)
{
	const uint64_t asked = PF_U | (write ? PF_W : 0) | (fetch ? PF_I : 0) | (table ? 1ull << 33 : 1ull << 32);
	uint64_t at = root, w = PTE_W, u = PTE_U, nx = 0;

	*a = (struct answer){ NESTED_FAULT, asked, p };
	for (unsigned level = 4;; level--) {
		uint64_t e = entry_at(g, at + (p >> (12 + 9 * (level - 1)) & 511) * 8);
		const bool leaf = level == 1 || (level < 4 && (e & PTE_PS));

		if (!(e & PTE_P))
			return false;
		a->error |= PF_P;
		if (reserved(e, level, leaf)) {
			a->error |= PF_RSVD;
			return false;
		}
		w &= e;
		u &= e;
		nx |= e & PTE_NX;
		if (leaf) {
			if (!u || (write && !w) || (fetch && nx))
				return false;
			*a = (struct answer){ MAPPED, 0, (e & ADDRESS & ~((1ull << (12 + 9 * (level - 1))) - 1)) | (p & ((1ull << (12 + 9 * (level - 1))) - 1)) };
			return true;
		}
		a->error &= ~(uint64_t)PF_P;
		at = e & ADDRESS;
	}
}

static struct answer plain(struct guest *g, uint64_t ncr3, uint64_t cr3, uint64_t va, unsigned access)
{
	const bool write = access & ACC_WRITE, fetch = access & ACC_EXEC, user = access & ACC_USER;
	struct answer a = { GUEST_FAULT, (write ? PF_W : 0) | (user ? PF_U : 0) | (fetch ? PF_I : 0), va }, n;
	uint64_t at = cr3, w = PTE_W, u = PTE_U, nx = 0;

	for (unsigned level = 4;; level--) {
		uint64_t e;
		bool leaf;

		if (!nested(g, ncr3, at + (va >> (12 + 9 * (level - 1)) & 511) * 8, true, false, true, &n))
			return n;
		e = entry_at(g, n.at);
		leaf = level == 1 || (level < 4 && (e & PTE_PS));
		if (!(e & PTE_P))
			return a;
		if (reserved(e, level, leaf)) {
			a.error |= PF_P | PF_RSVD;
			return a;
		}
		w &= e;
		u &= e;
		nx |= e & PTE_NX;
		if (leaf) {
			const uint64_t inside = (1ull << (12 + 9 * (level - 1))) - 1;

			if ((user && !u) || (write && !w) || (fetch && nx)) {
				a.error |= PF_P;
				return a;
			}
			nested(g, ncr3, (e & ADDRESS & ~inside) | (va & inside), write, fetch, false, &n);
			return n;
		}
		at = e & ADDRESS;
	}
}

/* ---- a hypervisor and its guest ---- */

struct two { struct guest *g; uint64_t ncr3, cr3, l1_of[L2_PAGES], next; };

/* Table pages of L2 come in L2-physical order; where L1 keeps them does not. */
static uint64_t l2_table(struct two *t)
{
	unsigned n = (unsigned)t->next++;

	assert_true(n < L2_PAGES);
	return L2_BASE + n * PAGE_SIZE;
}
static uint64_t l1_of(const struct two *t, uint64_t p) { return t->l1_of[(p - L2_BASE) >> 12] + (p & 0xfff); }

/* Where L2's entry for va lies, physical to L1. */
static uint64_t l2_slot(struct two *t, uint64_t va, unsigned level)
{
	uint64_t table = t->cr3;

	for (unsigned l = 4;; l--) {
		uint64_t at = l1_of(t, table + (va >> (12 + 9 * (l - 1)) & 511) * 8), e;

		if (l == level)
			return at;
		e = guest_read(t->g, at);
		if (!(e & PTE_P)) {
			e = l2_table(t) | ALL;
			guest_write(t->g, at, e);
		}
		table = e & ADDRESS;
	}
}

static uint64_t nest_slot(struct two *t, uint64_t p, unsigned level) { return guest_slot(t->g, t->ncr3, p, level); }

static struct two make(enum paging_mode mode)
{
	struct two t = { .g = guest_new(mode, PLACEMENT_SCATTER), .ncr3 = MIB(4) };

	t.g->next_table = MIB(4) + PAGE_SIZE;
	for (unsigned i = 0; i < L2_PAGES; i++) {
		t.l1_of[i] = MIB(8) + ((i * 7) % L2_PAGES) * PAGE_SIZE;
		guest_write(t.g, nest_slot(&t, L2_BASE + i * PAGE_SIZE, 1), t.l1_of[i] | ALL);
	}
	t.cr3 = l2_table(&t);
	return t;
}

static void enter(struct two *t) { mmu_enter_guest(&t->g->mmu, 1, GUEST_FLUSH_ASID, LONG_CR0, t->cr3, LONG_CR4, LONG_EFER, true, t->ncr3); }
static void leave(struct two *t) { mmu_leave_guest(&t->g->mmu, LONG_CR0, t->g->root, LONG_CR4, LONG_EFER); }

static struct explain x;
static void check(struct two *t, uint64_t va, unsigned access)
{
	struct answer want = plain(t->g, t->ncr3, t->cr3, va, access);
	const struct explain_access *told = NULL;
	enum mmu_kind kind;

	mmu_explain(&t->g->mmu, gva(va), EXPLAIN_CURRENT, &x);
	for (unsigned i = 0; i < x.accesses; i++)
		if (x.access[i].access == access)
			told = &x.access[i];
	assert_non_null(told);
	assert_true(x.nested_guest && x.ncr3 == t->ncr3 && x.guest_asid == 1);
	kind = try(t->g, va, access);
	switch (want.what) {
	case MAPPED:
		assert_false(told->guest_fault || told->nest_fault);
		assert_int_equal(told->p.v, want.at);
		assert_int_equal(kind, want.at < MIB(32) ? MMU_MAPPED : MMU_MMIO);
		assert_int_equal(t->g->r.gpa.v, want.at);
		break;
	case GUEST_FAULT:
		assert_true(told->guest_fault && told->error == want.error);
		assert_int_equal(kind, MMU_INJECT);
		assert_int_equal(t->g->r.exc.error, want.error);
		assert_int_equal(t->g->r.exc.cr2, va);
		break;
	case NESTED_FAULT:
		assert_true(told->nest_fault && told->nest_error == want.error && told->p.v == want.at);
		assert_int_equal(kind, MMU_NESTED_EXIT);
		assert_int_equal(t->g->r.exc.vector, VEC_NPF);
		assert_int_equal(t->g->r.exc.nest_error, want.error);
		assert_int_equal(t->g->r.exc.cr2, want.at);
	}
}

static uint64_t random_bits(uint64_t entry)
{
	static const uint64_t bits[] = { PTE_P, PTE_W, PTE_U, PTE_NX, PTE_A, PTE_D, PTE_G, 1ull << 45 };

	for (unsigned n = rnd() % 3; n--;)
		entry ^= bits[rnd() % ARRAY_LEN(bits)];
	return entry;
}

IN_BOTH_MODES(every_access_ends_as_a_plain_walk_of_both_dimensions_says)
{
	static const unsigned accesses[] = { ACC_READ, ACC_WRITE, ACC_EXEC, ACC_READ | ACC_USER, ACC_WRITE | ACC_USER, ACC_EXEC | ACC_USER };
	struct two t = make(mode);
	const uint64_t va = 0x7f0000345000;
	char text[200];

	(void)l2_slot(&t, va, 1);
	for (unsigned n = 0; n < 4000; n++) {
		uint64_t page = L2_BASE + (8 + rnd() % 8) * PAGE_SIZE, at, was;
		unsigned level = 1 + rnd() % 4;

		/* The leaf, and one more entry of either table: bits flipped, put back afterwards. */
		guest_write(t.g, l2_slot(&t, va, 1), random_bits(page | ALL));
		at = rnd() & 1 ? l2_slot(&t, va, level) : nest_slot(&t, rnd() & 1 ? page : L2_BASE + rnd() % t.next * PAGE_SIZE, level);
		was = guest_read(t.g, at);
		guest_write(t.g, at, rnd() % 8 ? random_bits(was) : 0xf0000000 | ALL);
		enter(&t);
		for (unsigned k = 0; k < 3; k++)
			check(&t, va + rnd() % PAGE_SIZE, accesses[rnd() % ARRAY_LEN(accesses)]);
		if (n % 64 == 0 && mmu_audit(&t.g->mmu, text, sizeof(text)))
			fail_msg("%s", text);
		leave(&t);
		/* A walk has set A and D. */
		guest_write(t.g, at, was);
	}
	guest_free(t.g);
}

IN_BOTH_MODES(a_large_entry_is_made_only_where_all_three_dimensions_are_large)
{
	struct two t = make(mode);
	const uint64_t va = 0x7f0000400000, p = 0x80000000;
	uint64_t fills;

	/* All of the chunk is there, so that the p2m is large too (linear placement alone). */
	guest_free(t.g);
	t.g = guest_new(mode, PLACEMENT_LINEAR);
	t.g->next_table = MIB(4) + PAGE_SIZE;
	t.next = 1;
	for (unsigned i = 0; i < L2_PAGES; i++)
		guest_write(t.g, nest_slot(&t, L2_BASE + i * PAGE_SIZE, 1), t.l1_of[i] | ALL);
	for (unsigned i = 0; i < 512; i++)
		guest_write(t.g, MIB(16) + i * PAGE_SIZE, i);
	guest_write(t.g, l2_slot(&t, va, 2), p | ALL | PTE_PS);
	guest_write(t.g, nest_slot(&t, p, 2), MIB(16) | ALL | PTE_PS);
	enter(&t);
	fills = t.g->mmu.counters.tlb_fills_large;
	EXPECT_MAPPED(t.g, va + 0x5008, ACC_WRITE, MIB(16) + 0x5008);
	assert_int_equal(t.g->mmu.counters.tlb_fills_large, fills + 1);
	EXPECT_MAPPED(t.g, va + 0x1ff000, ACC_READ, MIB(16) + 0x1ff000);
	leave(&t);
	/* The same in small nested pages, in another order. */
	guest_write(t.g, nest_slot(&t, p, 2), 0);
	for (unsigned i = 0; i < 512; i++)
		guest_write(t.g, nest_slot(&t, p + i * PAGE_SIZE, 1), (MIB(16) + (i ^ 1) * PAGE_SIZE) | ALL);
	enter(&t);
	fills = t.g->mmu.counters.tlb_fills_large;
	EXPECT_MAPPED(t.g, va + 0x5008, ACC_WRITE, MIB(16) + 0x4008);
	assert_int_equal(t.g->mmu.counters.tlb_fills_large, fills);
	EXPECT_MAPPED(t.g, va + 0x4000, ACC_READ, MIB(16) + 0x5000);
	/* INVLPG of the large page removes all of its fragments. */
	mmu_invlpg(&t.g->mmu, gva(va + 0x100000));
	fills = t.g->mmu.counters.tlb_l2_misses;
	EXPECT_MAPPED(t.g, va + 0x5008, ACC_READ, MIB(16) + 0x4008);
	assert_int_equal(t.g->mmu.counters.tlb_l2_misses, fills + 1);
	leave(&t);
	guest_free(t.g);
}

IN_BOTH_MODES(a_walk_costs_what_hardware_without_caches_reads)
{
	struct two t = make(mode);
	const uint64_t va = 0x7f0000345000;
	uint64_t before;

	guest_write(t.g, l2_slot(&t, va, 1), (L2_BASE + 9 * PAGE_SIZE) | ALL);
	enter(&t);
	before = t.g->mmu.counters.walk_refs_hardware;
	EXPECT_MAPPED(t.g, va, ACC_READ, t.l1_of[9]);
	/* Five nested walks of four entries, each with four of the p2m before it; four for what each leads to; and four of L2's own. */
	assert_int_equal(t.g->mmu.counters.walk_refs_hardware - before, 5 * (4 * 5 + 4) + 4);
	leave(&t);
	guest_free(t.g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_access_ends_as_a_plain_walk_of_both_dimensions_says),
		cmocka_unit_test(a_large_entry_is_made_only_where_all_three_dimensions_are_large),
		cmocka_unit_test(a_walk_costs_what_hardware_without_caches_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
