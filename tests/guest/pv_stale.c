/*
 * pv_stale.c - a paravirtualized kernel that looks for translations which have outlived what they came from: the TLB keeps what it has over loads of base pointers, for every root of
 * late, and voids only what was taken from the tables (src/mmu/direct.h; XSA-401, XSA-408). Each attempt reads, writes or calls by way of a translation that must be gone, and would succeed
 * if the one rule that it is about were left out (docs/direct.md has the table).
 */
#include "pv.h"

PV_GUEST(stale);

#define RW (PV_P | PV_W | PV_U)
#define RO (PV_P | PV_U)
#define USER_SLOT 5u	/* of the root: an address space's own half */
#define KERNEL_SLOT 300u

/* Two trees of tables, for either slot, and the pages that they lead to, whose first word is their number. */
static struct tree { uint64_t l3[512], l2[512], l1[512], page[512]; } tree[4] __attribute__((aligned(4096)));
static uint64_t root2[512] __attribute__((aligned(4096))), victim[512] __attribute__((aligned(4096)));
static uint64_t *root;

static uint64_t of(const void *p) { return pv_mfn(p) * PV_PAGE; }
static uint64_t *at(unsigned slot, unsigned page) { return (uint64_t *)((slot >= 256 ? 0xffff000000000000ull : 0) | (uint64_t)slot << 39 | page * PV_PAGE); }
static void must(int64_t e) { PV_CHECK(!e, e); }
static void put(uint64_t *table, unsigned i, uint64_t value) { must(pv_update(pv_entry_at(table, i), value)); }
static void load(uint64_t *r) { must(pv_ext(MMUEXT_NEW_BASEPTR, pv_mfn(r), 0)); }
static int faults(unsigned slot, unsigned page) { return PV_FAULTS("mov (%0), %%rax", "r"(at(slot, page))); }
/* Its word, or 0: nothing is there. */
static uint64_t seen(unsigned slot)
{
	volatile uint64_t *p = at(slot, 0);

	return faults(slot, 0) ? 0 : *p;
}

/* The kernel's translations are global where user mode has no right (leaf without U). */
static void plant(struct tree *t, uint64_t number, uint64_t leaf)
{
	t->page[0] = number;
	t->l1[0] = of(t->page) | leaf;
	t->l2[0] = of(t->l1) | RW;
	t->l3[0] = of(t->l2) | RW;
	must(pv_remap(t->l1, RO));
	must(pv_remap(t->l2, RO));
	must(pv_remap(t->l3, RO));
}

/* A table is taken out of the tree, at each level; the base pointer is loaded. */
static void unlinked(unsigned slot, struct tree *t)
{
	const struct { uint64_t *table; unsigned i; uint64_t entry; } link[3] = {
		{ t->l2, 0, of(t->l1) | RW }, { t->l3, 0, of(t->l2) | RW }, { root, slot, of(t->l3) | RW },
	};

	for (unsigned i = 0; i < 3; i++) {
		PV_CHECK(seen(slot) == t->page[0], seen(slot));
		put(link[i].table, link[i].i, 0);
		load(root);
		PV_CHECK(faults(slot, 0), slot * 10 + i);
		put(link[i].table, link[i].i, link[i].entry);
	}
	PV_CHECK(seen(slot) == t->page[0], seen(slot));
}

/* Two roots with different pages at the same addresses; one changes its tables while the other is in force. */
static void two_roots(void)
{
	load(root2);
	PV_CHECK(seen(USER_SLOT) == 3, seen(USER_SLOT));
	PV_CHECK(seen(KERNEL_SLOT) == 4, seen(KERNEL_SLOT));
	load(root);
	PV_CHECK(seen(USER_SLOT) == 1, seen(USER_SLOT));
	PV_CHECK(seen(KERNEL_SLOT) == 2, seen(KERNEL_SLOT));
	/* From now on they have the same kernel half, so that a load voids nothing else. */
	put(root2, KERNEL_SLOT, of(tree[1].l3) | RW);
	for (unsigned i = 0; i < 4; i++) {
		load(i & 1 ? root : root2);
		PV_CHECK(seen(USER_SLOT) == (i & 1 ? 1 : 3), seen(USER_SLOT));
		PV_CHECK(seen(KERNEL_SLOT) == 2, seen(KERNEL_SLOT));
	}
	put(tree[2].l1, 0, 0);
	load(root2);
	PV_CHECK(faults(USER_SLOT, 0), 0);
	put(tree[2].l1, 0, of(tree[2].page) | RW);
	PV_CHECK(seen(USER_SLOT) == 3, seen(USER_SLOT));
	load(root);
	put(tree[2].l2, 0, 0);
	load(root2);
	PV_CHECK(faults(USER_SLOT, 0), 0);
	put(tree[2].l2, 0, of(tree[2].l1) | RW);
	PV_CHECK(seen(USER_SLOT) == 3, seen(USER_SLOT));
	load(root);
	/* Only the right to write goes. */
	load(root2);
	PV_CHECK(!PV_FAULTS("movq $3, (%0)", "r"(at(USER_SLOT, 0))), 0);
	load(root);
	put(tree[2].l1, 0, of(tree[2].page) | RO);
	load(root2);
	PV_CHECK(PV_FAULTS("movq $9, (%0)", "r"(at(USER_SLOT, 0))), 0);
	PV_CHECK(seen(USER_SLOT) == 3, seen(USER_SLOT));
	load(root);
	put(tree[2].l1, 0, of(tree[2].page) | RW);
}

/* A root ends and is made again with another tree, nothing else having changed. (It is written to by hypercalls: its own mapping stays as it is.) */
static void root_again(void)
{
	load(root2);
	PV_CHECK(seen(USER_SLOT) == 3, seen(USER_SLOT));
	load(root);
	must(pv_ext(MMUEXT_UNPIN_TABLE, pv_mfn(root2), 0));
	put(root2, USER_SLOT, of(tree[0].l3) | RW);
	must(pv_ext(MMUEXT_PIN_L4_TABLE, pv_mfn(root2), 0));
	load(root2);
	PV_CHECK(seen(USER_SLOT) == 1, seen(USER_SLOT));
	load(root);
}

/* Code: what was called before its page went, and before its table went. */
static void code(void)
{
	put(tree[0].l1, 2, of(victim) | RW);
	*(volatile uint8_t *)at(USER_SLOT, 2) = 0xc3;
	for (unsigned way = 0; way < 2; way++) {
		PV_CHECK(!PV_FAULTS("call *%0", "r"(at(USER_SLOT, 2))), way);
		if (way)
			put(tree[0].l2, 0, 0);
		else
			put(tree[0].l1, 2, 0);
		load(root);
		PV_CHECK(PV_FAULTS("call *%0", "r"(at(USER_SLOT, 2))), way);
		if (way)
			put(tree[0].l2, 0, of(tree[0].l1) | RW);
		else
			put(tree[0].l1, 2, of(victim) | RW);
	}
	put(tree[0].l1, 2, 0);
}

/* XSA-401: a page becomes a table whose only writable mapping went with the table that held it. No flush, and the first level of the TLB has forgotten it. */
static void became_table(void)
{
	victim[0] = victim[8] = 0;
	put(tree[0].l1, 1, of(victim) | RW);
	must(pv_remap(victim, 0));
	load(root);
	PV_CHECK(!PV_FAULTS("movq $0, 64(%0)", "r"(at(USER_SLOT, 1))), 0);
	(void)*(volatile uint64_t *)PV_PAGE; /* has its place */
	put(tree[0].l2, 0, 0);
	must(pv_ext(MMUEXT_PIN_L1_TABLE, pv_mfn(victim), 0));
	PV_CHECK(PV_FAULTS("movq $1, 64(%0)", "r"(at(USER_SLOT, 1))), 0);
	put(tree[0].l2, 0, of(tree[0].l1) & ~PV_P);
	must(pv_remap(victim, RO));
	PV_CHECK(victim[8] == 0, victim[8]);
	must(pv_ext(MMUEXT_UNPIN_TABLE, pv_mfn(victim), 0));
	must(pv_remap(victim, RW));
	put(tree[0].l2, 0, of(tree[0].l1) | RW);
}

static __attribute__((used)) void stale(struct start_info *info)
{
	pv_start(info);
	root = pv_table(victim, 4);
	plant(&tree[0], 1, RW);
	plant(&tree[1], 2, PV_P | PV_W);
	plant(&tree[2], 3, RW);
	plant(&tree[3], 4, PV_P | PV_W);
	root2[0] = root[0];
	root2[USER_SLOT] = of(tree[2].l3) | RW;
	root2[KERNEL_SLOT] = of(tree[3].l3) | RW;
	must(pv_remap(root2, RO));
	must(pv_ext(MMUEXT_PIN_L4_TABLE, pv_mfn(root2), 0));
	put(root, USER_SLOT, of(tree[0].l3) | RW);
	put(root, KERNEL_SLOT, of(tree[1].l3) | RW);
	unlinked(USER_SLOT, &tree[0]);
	unlinked(KERNEL_SLOT, &tree[1]);
	two_roots();
	root_again();
	code();
	became_table();
	pv_end();
}
