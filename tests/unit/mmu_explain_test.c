/*
 * mmu_explain_test.c - explain tells what the next access meets, for every kind of access, and changes nothing by looking.
 */
#include "mmu_util.h"

#include "mmu/explain.h"

#define V 0x100000ull		/* v = 100 of the reference scenario, in pages of 4 KiB times 1000h */
#define USER 0x7f0000123000ull

static struct explain x;

/* Explains va and checks that nothing of the machine has changed by that. */
static void look_at(struct guest *g, uint64_t va, uint64_t cr3)
{
	struct mmu *before = aligned_alloc(64, ALIGN_UP(sizeof(*before), 64));
	struct mmu_private *priv = aligned_alloc(64, ALIGN_UP(sizeof(*priv), 64));
	uint64_t backed = g->memory.backed, used = g->memory.pool.used, generation = g->memory.p2m_generation;
	uint32_t shadows = g->memory.shadow ? ((struct shadow *)g->memory.shadow)->live : 0;

	memcpy(before, &g->mmu, sizeof(*before));
	memcpy(priv, g->mmu.priv, sizeof(*priv));
	mmu_explain(&g->mmu, gva(va), cr3, &x);
	/* The short form says the same, as quietly. */
	if (cr3 == EXPLAIN_CURRENT) {
		gpa_t p;

		assert_int_equal(mmu_look(&g->mmu, gva(va), ACC_READ | ACC_AC, &p), x.mapped);
		if (x.mapped)
			assert_int_equal(p.v, x.p.v);
	}
	assert_memory_equal(before, &g->mmu, sizeof(*before));
	assert_memory_equal(priv, g->mmu.priv, sizeof(*priv));
	assert_int_equal(g->memory.backed, backed);
	assert_int_equal(g->memory.pool.used, used);
	assert_int_equal(g->memory.p2m_generation, generation);
	assert_int_equal(g->memory.shadow ? ((struct shadow *)g->memory.shadow)->live : 0, shadows);
	free(before);
	free(priv);
}

static const struct explain_access *of_access(unsigned access)
{
	for (unsigned i = 0; i < x.accesses; i++)
		if (x.access[i].access == access)
			return &x.access[i];
	fail_msg("access %#x is not explained", access);
	return NULL;
}

/* What explain foretells is what happens. */
static void foretold(struct guest *g, uint64_t va, unsigned access)
{
	uint64_t backed, made, dirty;
	struct explain_access a;
	enum mmu_kind kind;

	look_at(g, va, EXPLAIN_CURRENT);
	a = *of_access(access);
	backed = g->mmu.counters.hidden_not_backed;
	made = g->mmu.counters.hidden_not_present;
	dirty = g->mmu.counters.hidden_dirty;
	kind = try(g, va, access);
	if (a.guest_fault) {
		assert_int_equal(kind, MMU_INJECT);
		assert_int_equal(g->r.exc.error, a.error);
		return;
	}
	if (a.device) {
		assert_int_equal(kind, MMU_MMIO);
		return;
	}
	assert_int_equal(kind, a.hidden & (HIDDEN_WRITE_PROTECTED | HIDDEN_CODE) ? MMU_TRACKED : MMU_MAPPED);
	assert_int_equal(g->r.gpa.v, x.p.v);
	if (x.page.backed)
		assert_int_equal(g->r.mfn.v, x.page.m.v);
	assert_int_equal(g->mmu.counters.hidden_not_backed - backed, !!(a.hidden & HIDDEN_NOT_BACKED));
	assert_int_equal(g->mmu.counters.hidden_not_present - made, !!(a.hidden & HIDDEN_NOT_PRESENT));
	assert_int_equal(g->mmu.counters.hidden_dirty - dirty, !!(a.hidden & HIDDEN_DIRTY));
}

static void foretold_for_all(struct guest *g, uint64_t va)
{
	static const unsigned all[] = {
		ACC_READ, ACC_READ | ACC_USER, ACC_EXEC, ACC_EXEC | ACC_USER, ACC_WRITE, ACC_WRITE | ACC_USER, ACC_WRITE, ACC_READ,
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		foretold(g, va, all[i]);
}

IN_BOTH_MODES(the_reference_scenario_is_explained_at_each_stage)
{
	struct guest *g = guest_new(mode, PLACEMENT_SCATTER);
	mfn_t m;

	/* v maps to p = 1000, which nobody has touched. */
	guest_map(g, V, 0x3e8000 | PWU);
	look_at(g, V, EXPLAIN_CURRENT);
	assert_true(x.mapped && x.current && x.page.ram && !x.page.backed);
	assert_int_equal(x.steps, 4);
	assert_int_equal(x.p.v, 0x3e8000);
	assert_int_equal(of_access(ACC_READ)->by, BY_WALK);
	assert_true(of_access(ACC_READ)->hidden & HIDDEN_NOT_BACKED);
	foretold(g, V, ACC_READ);
	look_at(g, V, EXPLAIN_CURRENT);
	assert_true(x.page.backed);
	assert_int_equal(of_access(ACC_READ)->by, BY_TLB1);
	assert_int_equal(x.tlb2s, 1);
	/* Unmapped, not flushed: the TLB still grants it, a walk does not. */
	guest_map(g, V, 0);
	look_at(g, V, EXPLAIN_CURRENT);
	assert_false(x.mapped);
	assert_true(of_access(ACC_READ)->unflushed);
	mmu_invlpg(&g->mmu, gva(V));
	look_at(g, V, EXPLAIN_CURRENT);
	assert_true(of_access(ACC_READ)->guest_fault);
	assert_int_equal(of_access(ACC_READ)->cause, CAUSE_NOT_PRESENT);
	assert_int_equal(of_access(ACC_READ)->level, 1);
	foretold(g, V, ACC_READ);
	/* v maps to p = 2000; then the page moves. */
	guest_map(g, V, 0x7d0000 | PWU);
	foretold(g, V, ACC_WRITE);
	look_at(g, V, EXPLAIN_CURRENT);
	m = x.page.m;
	assert_int_equal(memory_move(&g->memory, gpa(0x7d0000)), 0);
	mmu_flush_all(&g->mmu);
	memory_release(&g->memory);
	look_at(g, V, EXPLAIN_CURRENT);
	assert_true(x.page.backed && x.page.m.v != m.v);
	assert_int_equal(x.p.v, 0x7d0000);
	foretold_for_all(g, V);
	guest_free(g);
}

IN_BOTH_MODES(every_reason_of_a_guest_fault_is_named_with_its_level)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	guest_map(g, USER, 0x5000 | PTE_P | PTE_U);			/* read-only */
	guest_map(g, USER + 0x1000, 0x6000 | PTE_P | PTE_W);		/* kernel's */
	guest_map(g, USER + 0x2000, 0x7000 | PWU | PTE_NX);
	guest_map(g, USER + 0x3000, 0x8000 | PWU | 1ull << 45);		/* reserved */
	guest_map_level(g, USER + MIB(4), 2, MIB(4) | PWU | PTE_PS);
	guest_map_level(g, USER + GIB(1), 3, GIB(64) | PWU);		/* a directory outside RAM */
	guest_map(g, USER + 0x4000, GIB(64) | PWU);			/* a device */
	look_at(g, USER, EXPLAIN_CURRENT);
	assert_int_equal(of_access(ACC_WRITE | ACC_USER)->cause, CAUSE_NOT_WRITABLE);
	assert_int_equal(of_access(ACC_WRITE | ACC_USER)->level, 1);
	assert_int_equal(of_access(ACC_WRITE | ACC_USER)->error, PF_P | PF_W | PF_U);
	look_at(g, USER + 0x1000, EXPLAIN_CURRENT);
	assert_int_equal(of_access(ACC_READ | ACC_USER)->cause, CAUSE_NOT_USER);
	look_at(g, USER + 0x2000, EXPLAIN_CURRENT);
	assert_int_equal(of_access(ACC_EXEC)->cause, CAUSE_NO_EXEC);
	look_at(g, USER + 0x3000, EXPLAIN_CURRENT);
	assert_int_equal(of_access(ACC_READ)->cause, CAUSE_RESERVED);
	look_at(g, USER + GIB(1), EXPLAIN_CURRENT);
	assert_int_equal(of_access(ACC_READ)->cause, CAUSE_TABLE_NOT_RAM);
	assert_int_equal(of_access(ACC_READ)->level, 2);
	look_at(g, USER + 0x4000, EXPLAIN_CURRENT);
	assert_true(of_access(ACC_READ)->device);
	for (unsigned i = 0; i < 5; i++)
		foretold_for_all(g, USER + i * 0x1000);
	foretold_for_all(g, USER + MIB(4) + 0x5000);
	look_at(g, USER + MIB(4) + 0x5000, EXPLAIN_CURRENT);
	assert_int_equal(x.shift, 21);
	foretold_for_all(g, USER + GIB(1));
	foretold_for_all(g, USER + GIB(2));
	mmu_set_controls(&g->mmu, LONG_CR0, LONG_CR4 | CR4_SMEP | CR4_SMAP, LONG_EFER);
	look_at(g, USER, EXPLAIN_CURRENT);
	assert_int_equal(of_access(ACC_EXEC)->cause, CAUSE_SMEP);
	assert_int_equal(of_access(ACC_READ)->cause, CAUSE_SMAP);
	assert_false(of_access(ACC_READ | ACC_AC)->guest_fault);
	foretold_for_all(g, USER);
	foretold_for_all(g, USER + 0x1000);
	guest_free(g);
}

IN_BOTH_MODES(watched_frames_and_tables_that_shadow_follows_are_told)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	struct p2m_entry e;

	guest_map(g, V, g->root | PWU);		/* the guest's own top table */
	guest_map(g, V + 0x1000, 0x9000 | PWU);
	foretold_for_all(g, V);
	look_at(g, V, EXPLAIN_CURRENT);
	assert_int_equal(!!(of_access(ACC_WRITE)->hidden & HIDDEN_WRITE_PROTECTED), mode == PAGING_SHADOW);
	foretold(g, V + 0x1000, ACC_WRITE);
	assert_true(p2m_lookup(&g->memory, gpa(0x9000), &e));
	assert_true(track_code(&g->memory.track, e.m, 64, 1));
	mmu_write_protect(&g->mmu, e.m);
	look_at(g, V + 0x1000, EXPLAIN_CURRENT);
	assert_int_equal(of_access(ACC_WRITE)->by, BY_TLB2);
	assert_true(of_access(ACC_WRITE)->hidden & HIDDEN_CODE);
	foretold_for_all(g, V + 0x1000);
	guest_free(g);
}

IN_BOTH_MODES(another_address_space_is_explained_by_its_own_tables)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	uint64_t first = g->root, second = g->next_table;

	g->next_table += PAGE_SIZE;
	guest_map(g, V, 0x5000 | PWU);
	guest_write(g, guest_slot(g, second, V, 1), 0x6000 | PWU | PTE_G);
	foretold(g, V, ACC_READ);
	look_at(g, V, second);
	assert_false(x.current);
	assert_int_equal(x.p.v, 0x6000);
	assert_int_equal(x.tlb2s, 0);
	assert_false(x.tlb1[TLB_KERNEL_AC].read);
	mmu_set_cr3(&g->mmu, second);
	EXPECT_MAPPED(g, V, ACC_READ, 0x6000);
	look_at(g, V, first);
	assert_int_equal(x.p.v, 0x5000);
	assert_int_equal(x.tlb2s, 1);	/* the global entry would be found there too */
	assert_true(x.tlb2[0].global);
	look_at(g, V, GIB(64));
	assert_int_equal(x.steps, 1);
	assert_false(x.mapped);
	mmu_explain(&g->mmu, gva(1ull << 50), EXPLAIN_CURRENT, &x);
	assert_false(x.canonical);
	mmu_set_controls(&g->mmu, 0, 0, 0);
	mmu_explain(&g->mmu, gva(V), EXPLAIN_CURRENT, &x);
	assert_false(x.paging);
	guest_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_reference_scenario_is_explained_at_each_stage),
		cmocka_unit_test(every_reason_of_a_guest_fault_is_named_with_its_level),
		cmocka_unit_test(watched_frames_and_tables_that_shadow_follows_are_told),
		cmocka_unit_test(another_address_space_is_explained_by_its_own_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
