/*
 * xen_page_test.c - page types of a direct-mode domain (src/xen/page.h, P1 to P6): what may stand in a table, what a frame may become, and that the counts are
 * those of a recount after every step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "xen/abi.h"
#include "xen/page.h"

#define PAGES 64u
#define RW (PTE_P | PTE_W | PTE_U)

static struct machine {
	struct memory mem;
	struct mmu mmu;
	struct pv_pages pages;
	uint64_t l4_slot[16];
	mfn_t m[PAGES];
	mfn_t ours;
	struct pv_held held[4];
	size_t helds;
} *g;

static void clean(void)
{
	char msg[200] = "";

	int err = pv_audit(&g->pages, g->held, g->helds, msg, sizeof(msg));

	memory_unlock(&g->mem);	/* mmu_audit takes it */
	if (!err)
		err = mmu_audit(&g->mmu, msg, sizeof(msg));
	memory_lock(&g->mem);
	if (err)
		fail_msg("%s", msg);
}

static int set_up(void **state)
{
	(void)state;
	g = calloc(1, sizeof(*g));
	assert_int_equal(memory_init_machine(&g->mem, PAGES * PAGE_SIZE, 16, PLACEMENT_SCATTER, 7), 0);
	g->ours = pool_alloc(&g->mem.pool, ~0ull);
	pool_frame(&g->mem.pool, g->ours)->flags |= FRAME_VMM;
	g->l4_slot[0] = g->ours.v << PAGE_SHIFT | PTE_P;
	assert_int_equal(mmu_init(&g->mmu, &g->mem, PAGING_DIRECT), 0);
	mmu_set_controls(&g->mmu, CR0_PG | CR0_WP | CR0_PE, CR4_PAE, EFER_LMA | EFER_LME | EFER_NXE);
	assert_int_equal(pv_pages_init(&g->pages, &g->mem, g->l4_slot), 0);
	pv_pages_add_mmu(&g->pages, &g->mmu);
	for (unsigned i = 0; i < PAGES; i++) {
		g->m[i] = pool_alloc(&g->mem.pool, i);
		pv_page_join(&g->pages, g->m[i], false);
	}
	memory_lock(&g->mem);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	memory_unlock(&g->mem);
	pv_pages_destroy(&g->pages);
	mmu_destroy(&g->mmu);
	memory_destroy(&g->mem);
	free(g);
	return 0;
}

static uint64_t entry(unsigned page, uint64_t flags) { return g->m[page].v << PAGE_SHIFT | flags; }
static void poke(unsigned page, unsigned i, uint64_t value) { pv_table(&g->pages, g->m[page])[i] = value; }
static uint64_t peek(unsigned page, unsigned i) { return pv_table(&g->pages, g->m[page])[i]; }
static struct pv_page *page(unsigned n) { return &g->pages.page[g->m[n].v]; }
static int update(unsigned table, unsigned i, uint64_t value, bool preserve)
{
	g->pages.budget = PV_BUDGET;
	assert_true(pv_ready(&g->pages));
	g->pages.budget = PV_BUDGET;
	return pv_update(&g->pages, (g->m[table].v << PAGE_SHIFT) + i * 8, value, preserve);
}
static int pin(unsigned n, enum pv_type type)
{
	g->pages.budget = PV_BUDGET;
	assert_true(pv_ready(&g->pages));
	g->pages.budget = PV_BUDGET;
	return pv_pin(&g->pages, g->m[n], type);
}

/* Pages 1 to 4 are L4 to L1 of a tree; its first L1 entry maps page 5. */
static void tree(uint64_t leaf_flags)
{
	poke(1, 0, entry(2, RW));
	poke(2, 0, entry(3, RW));
	poke(3, 0, entry(4, RW));
	poke(4, 0, entry(5, leaf_flags));
}

static void a_pinned_tree_is_typed_down_to_its_pages_and_undone_with_the_pin(void **state)
{
	(void)state;
	tree(RW);
	assert_int_equal(pin(1, PV_L4), 0);
	clean();
	assert_int_equal(page(1)->type, PV_L4);
	assert_int_equal(page(4)->type, PV_L1);
	assert_int_equal(page(5)->type, PV_WRITABLE);
	assert_int_equal(page(5)->type_count, 1);
	assert_int_equal(peek(1, 256), g->l4_slot[0]);
	assert_int_equal(pin(1, PV_L4), -XEN_EINVAL);
	assert_int_equal(pin(5, PV_L1), -XEN_EINVAL);
	clean();
	assert_int_equal(pv_unpin(&g->pages, g->m[1]), 0);
	assert_int_equal(pv_unpin(&g->pages, g->m[1]), -XEN_EINVAL);
	g->pages.budget = PV_ENTRIES * 4;
	assert_true(pv_ready(&g->pages));
	clean();
	for (unsigned i = 1; i <= 5; i++) {
		assert_int_equal(page(i)->refs, 1);
		assert_int_equal(page(i)->type_count, 0);
	}
}

static void flags_that_a_level_does_not_allow_are_refused_on_every_path(void **state)
{
	/* XSA-148: a large page would map its neighbours. */
	static const uint64_t bad[] = { PTE_PS, PTE_PWT, PTE_PCD, 1ull << 59, 1ull << 62 };

	(void)state;
	tree(RW);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		poke(3, 0, entry(4, RW | bad[i]));
		assert_int_equal(pin(1, PV_L4), -XEN_EINVAL);
		clean();
	}
	tree(RW);
	assert_int_equal(pin(1, PV_L4), 0);
	for (unsigned table = 1; table <= 4; table++)
		for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
			/* The frame and everything else stay: the fast path looks too. */
			assert_int_equal(update(table, 0, peek(table, 0) | bad[i], false), -XEN_EINVAL);
			assert_int_equal(update(table, 1, peek(table, 0) | bad[i], false), -XEN_EINVAL);
		}
	clean();
	assert_int_equal(update(4, 0, peek(4, 0) | 1ull << 10 | 1ull << 58 | PTE_A, false), 0);
	assert_int_equal(g->pages.counters.fast_updates, 1);
	clean();
}

static void a_table_is_never_mapped_writable(void **state)
{
	(void)state;
	tree(RW);
	poke(4, 1, entry(4, RW));
	assert_int_equal(pin(1, PV_L4), -XEN_EBUSY);
	clean();
	poke(4, 1, entry(4, PTE_P));
	assert_int_equal(pin(1, PV_L4), 0);
	clean();
	/* XSA-182: only W changes. */
	assert_int_equal(update(4, 1, entry(4, RW), false), -XEN_EBUSY);
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(update(4, 2, entry(i, RW), false), -XEN_EBUSY);
	/* What is mapped writable is no table. */
	assert_int_equal(pin(5, PV_L1), -XEN_EINVAL);
	assert_int_equal(update(4, 0, entry(5, PTE_P), false), 0);
	assert_int_equal(pin(5, PV_L1), 0);
	clean();
}

static void no_tlb_entry_outlives_the_right_to_write(void **state)
{
	struct mmu_result r;

	(void)state;
	tree(RW);
	assert_int_equal(pin(1, PV_L4), 0);
	mmu_set_cr3(&g->mmu, g->m[1].v << PAGE_SHIFT);
	memory_unlock(&g->mem);
	assert_int_equal(mmu_access(&g->mmu, gva(0), ACC_WRITE, &r), MMU_MAPPED);
	memory_lock(&g->mem);
	assert_int_equal(r.mfn.v, g->m[5].v);
	/* XSA-401: without a flush by the guest, the page becomes a table. */
	assert_int_equal(update(4, 0, 0, false), 0);
	assert_int_equal(pin(5, PV_L1), 0);
	clean();
	memory_unlock(&g->mem);
	assert_int_equal(mmu_access(&g->mmu, gva(0), ACC_WRITE, &r), MMU_INJECT);
	memory_lock(&g->mem);
	/* And one that leaves is known to nobody. */
	assert_int_equal(update(4, 0, entry(6, RW), false), 0);
	memory_unlock(&g->mem);
	assert_int_equal(mmu_access(&g->mmu, gva(0), ACC_WRITE, &r), MMU_MAPPED);
	memory_lock(&g->mem);
	assert_int_equal(pv_page_leave(&g->pages, g->m[6]), 0);
	assert_int_equal(pv_page_leave(&g->pages, g->m[6]), -XEN_EINVAL);
	assert_int_equal(g->pages.counters.frames_left, 0);
	clean();
	assert_int_equal(update(4, 0, 0, false), 0);
	assert_int_equal(g->pages.counters.frames_left, 1);
	memory_unlock(&g->mem);
	assert_int_equal(mmu_access(&g->mmu, gva(0), ACC_READ, &r), MMU_INJECT);
	memory_release(&g->mem);
	memory_lock(&g->mem);
	clean();
}

static void foreign_frames_and_linear_tables_are_refused(void **state)
{
	(void)state;
	tree(RW);
	assert_int_equal(pin(1, PV_L4), 0);
	assert_int_equal(update(4, 1, g->ours.v << PAGE_SHIFT | PTE_P, false), -XEN_EBUSY);
	assert_int_equal(update(4, 1, g->pages.frames << PAGE_SHIFT | PTE_P, false), -XEN_EPERM);
	assert_int_equal(update(3, 1, g->pages.frames << PAGE_SHIFT | RW, false), -XEN_EINVAL);
	/* XSA-286: a table that maps itself, finished or not. */
	assert_int_equal(update(1, 300, entry(1, RW), false), -XEN_EINVAL);
	assert_int_equal(update(2, 1, entry(2, RW), false), -XEN_EINVAL);
	assert_int_equal(update(1, 256, 0, false), -XEN_EINVAL);
	clean();
	poke(10, 5, entry(10, RW));
	assert_int_equal(pin(10, PV_L4), -XEN_EINVAL);
	poke(11, 0, entry(12, RW));
	poke(12, 0, entry(11, RW));
	assert_int_equal(pin(11, PV_L4), -XEN_EINVAL);
	g->pages.budget = PV_BUDGET;
	assert_true(pv_ready(&g->pages));
	clean();
}

static void validation_goes_on_where_it_stopped_and_may_be_given_up(void **state)
{
	unsigned rounds = 0;
	int err;

	(void)state;
	tree(RW);
	do {
		g->pages.budget = 100;
		assert_true(pv_ready(&g->pages));
		err = pv_pin(&g->pages, g->m[1], PV_L4);
		clean();
		rounds++;
	} while (err == -PV_AGAIN);
	assert_int_equal(err, 0);
	assert_int_equal(rounds, (4 * PV_ENTRIES + 99) / 100);
	/* XSA-299: another type is wanted of a table that is half done. */
	poke(20, 0, entry(21, RW));
	g->pages.budget = 3;
	assert_int_equal(pv_pin(&g->pages, g->m[20], PV_L3), -PV_AGAIN);
	clean();
	assert_int_equal(page(20)->flags & PV_PARTIAL, PV_PARTIAL);
	assert_int_equal(page(21)->flags & PV_PARTIAL, PV_PARTIAL);
	g->pages.budget = PV_BUDGET;
	assert_int_equal(pv_update(&g->pages, (g->m[20].v << PAGE_SHIFT) + 8, 1234, false), -PV_AGAIN);
	assert_int_equal(update(20, 1, 1234, false), 0);
	assert_int_equal(peek(20, 1), 1234);
	clean();
	assert_int_equal(update(20, 0, 0, false), 0);
	poke(20, 1, 0);
	assert_int_equal(pin(20, PV_L1), 0);
	clean();
}

static void accessed_and_dirty_bits_stay_when_asked_for(void **state)
{
	(void)state;
	tree(RW | PTE_A | PTE_D);
	assert_int_equal(pin(1, PV_L4), 0);
	assert_int_equal(update(4, 0, entry(5, PTE_P), true), 0);
	assert_int_equal(peek(4, 0), entry(5, PTE_P | PTE_A | PTE_D));
	assert_int_equal(update(4, 0, entry(5, PTE_P), false), 0);
	assert_int_equal(peek(4, 0), entry(5, PTE_P));
	clean();
}

static void descriptors_are_checked_and_held(void **state)
{
	(void)state;
	poke(7, 1, 0x00af9b000000ffffull);	/* code of privilege 0 */
	poke(7, 2, 0x0000ec0000330000ull | 0xe033ull << 16);	/* a call gate of privilege 3 */
	assert_int_equal(pv_get_type(&g->pages, g->m[7], PV_SEG_DESC), 0);
	g->held[g->helds++] = (struct pv_held){ g->m[7], PV_SEG_DESC };
	clean();
	assert_int_equal(peek(7, 1), 0x00affb000000ffffull);
	assert_int_equal(peek(7, 2) >> 45 & 3, 0);
	assert_int_equal(update(7, 3, 0, false), -XEN_EINVAL);
	poke(8, 0, 0x00008b0000000067ull);	/* a TSS */
	assert_int_equal(pv_get_type(&g->pages, g->m[8], PV_SEG_DESC), -XEN_EINVAL);
	clean();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(a_pinned_tree_is_typed_down_to_its_pages_and_undone_with_the_pin),
		T(flags_that_a_level_does_not_allow_are_refused_on_every_path),
		T(a_table_is_never_mapped_writable),
		T(no_tlb_entry_outlives_the_right_to_write),
		T(foreign_frames_and_linear_tables_are_refused),
		T(validation_goes_on_where_it_stopped_and_may_be_given_up),
		T(accessed_and_dirty_bits_stay_when_asked_for),
		T(descriptors_are_checked_and_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
