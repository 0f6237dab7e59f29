/*
 * mmu_walk_test.c - rights, error codes, reserved bits, accessed and dirty bits, and the legacy paging formats.
 */
#include "mmu_util.h"

#define V 0x7f0000123000ull

IN_BOTH_MODES(an_absent_entry_at_any_level_faults_with_p_clear)
{
	struct guest *g = guest_new(mode, PLACEMENT_SCATTER);

	for (unsigned level = 4; level; level--) {
		guest_write(g, guest_slot(g, g->root, V, level), 0x123000 | PTE_W | PTE_U); /* all but P */
		EXPECT_FAULT(g, V + 8, ACC_READ, 0);
		EXPECT_FAULT(g, V, ACC_WRITE, PF_W);
		EXPECT_FAULT(g, V + 4095, ACC_READ | ACC_USER, PF_U);
		EXPECT_FAULT(g, V, ACC_READ | ACC_WRITE | ACC_USER, PF_U | PF_W);
		EXPECT_FAULT(g, V, ACC_EXEC | ACC_USER, PF_U | PF_I);
		EXPECT_FAULT(g, V, ACC_READ | ACC_USER | ACC_IMPLICIT, 0);
	}
	guest_map(g, V, 0x5000 | PWU);
	EXPECT_MAPPED(g, V + 8, ACC_READ, 0x5008);
	guest_free(g);
}

/* Every combination of U, W, NX, CR0.WP, CR4.SMEP, CR4.SMAP, AC and kind of access, against the manual's table. */
IN_BOTH_MODES(rights_are_those_of_the_manual_in_every_combination)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	for (unsigned n = 0; n < 1u << 11; n++) {
		bool u = n & 1, w = n & 2, nx = n & 4, wp = n & 8, smep = n & 16, smap = n & 32, ac = n & 64;
		bool user = n & 128, implicit = n & 256, above = n & 512, exec_bit = n & 1024;
		unsigned kinds[] = { ACC_READ, ACC_WRITE, ACC_EXEC };
		uint64_t bits = (u ? PTE_U : 0) | (w ? PTE_W : 0) | (nx ? PTE_NX : 0) | PTE_P;

		if (implicit && exec_bit)
			continue;
		/* The restriction stands in the leaf or in the entry above it. */
		guest_map_level(g, V, 2, 0);
		guest_map(g, V, 0x5000 | (above ? PWU : bits));
		guest_write(g, guest_slot(g, g->root, V, 2),
			    (guest_read(g, guest_slot(g, g->root, V, 2)) & ~(PWU | PTE_NX)) | (above ? bits : PWU));
		mmu_set_controls(&g->mmu, wp ? LONG_CR0 : LONG_CR0 & ~CR0_WP,
				 LONG_CR4 | (smep ? CR4_SMEP : 0) | (smap ? CR4_SMAP : 0), LONG_EFER);
		mmu_invlpg(&g->mmu, gva(V));
		for (unsigned k = exec_bit ? 2 : 0; k < (exec_bit ? 3u : 2u); k++) {
			unsigned access = kinds[k] | (user ? ACC_USER : 0) | (ac ? ACC_AC : 0) | (implicit ? ACC_IMPLICIT : 0);
			bool supervisor = !user || implicit, write = access & ACC_WRITE, exec = access & ACC_EXEC, ok;

			if (supervisor)
				ok = (!u || exec || !smap || (ac && !implicit)) && (!write || w || !wp) &&
				     (!exec || (!nx && !(u && smep)));
			else
				ok = u && (!write || w) && (!exec || !nx);
			if (ok)
				EXPECT_MAPPED(g, V, access, 0x5000);
			else
				EXPECT_FAULT(g, V, access, PF_P | (write ? PF_W : 0) | (supervisor ? 0 : PF_U) | (exec ? PF_I : 0));
		}
	}
	guest_free(g);
}

IN_BOTH_MODES(the_fetch_bit_of_the_error_code_needs_nxe_or_smep)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	EXPECT_FAULT(g, V, ACC_EXEC, PF_I);
	mmu_set_controls(&g->mmu, LONG_CR0, LONG_CR4, LONG_EFER & ~EFER_NXE);
	EXPECT_FAULT(g, V, ACC_EXEC, 0);
	mmu_set_controls(&g->mmu, LONG_CR0, LONG_CR4 | CR4_SMEP, LONG_EFER & ~EFER_NXE);
	EXPECT_FAULT(g, V, ACC_EXEC, PF_I);
	guest_free(g);
}

IN_BOTH_MODES(reserved_bits_fault_with_p_and_rsvd_at_every_level)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	static const struct { unsigned level; uint64_t bit; bool leaf; } bad[] = {
		{ 4, 1ull << 40, false }, { 4, 1ull << 51, false }, { 4, PTE_PS, false }, { 4, PTE_G, false },
		{ 3, 1ull << 45, false }, { 3, PTE_G, false }, { 3, 1ull << 13, true }, { 3, 1ull << 29, true }, { 3, 1ull << 40, true },
		{ 2, 1ull << 40, false }, { 2, 1ull << 13, true }, { 2, 1ull << 20, true },
		{ 1, 1ull << 40, true }, { 1, 1ull << 51, true },
	};

	guest_map(g, V, 0x5000 | PWU);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		uint64_t slot = guest_slot(g, g->root, V, bad[i].level), good = guest_read(g, slot), e = good;

		if (bad[i].leaf && bad[i].level > 1)
			e = PWU | PTE_PS;
		guest_write(g, slot, e | bad[i].bit);
		mmu_invlpg(&g->mmu, gva(V));
		EXPECT_FAULT(g, V, ACC_WRITE, PF_P | PF_RSVD | PF_W);
		guest_write(g, slot, good);
		EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	}
	/* Bits 52-62 are ignored; NX is reserved without EFER.NXE. */
	guest_map(g, V, 0x5000 | PWU | 0x7ffull << 52);
	EXPECT_MAPPED(g, V, ACC_WRITE, 0x5000);
	guest_map(g, V, 0x5000 | PWU | PTE_NX);
	mmu_set_controls(&g->mmu, LONG_CR0, LONG_CR4, LONG_EFER & ~EFER_NXE);
	EXPECT_FAULT(g, V, ACC_READ | ACC_USER, PF_P | PF_RSVD | PF_U);
	guest_free(g);
}

IN_BOTH_MODES(large_pages_map_their_whole_range_and_take_the_pat_bit)
{
	struct guest *g = guest_new(mode, PLACEMENT_SCATTER);

	guest_map_level(g, V, 2, MIB(4) | PWU | PTE_PS | 1 << 12);
	for (unsigned i = 0; i < 512; i += 73)
		EXPECT_MAPPED(g, (V & ~(MIB(2) - 1)) + i * PAGE_SIZE + 5, ACC_WRITE, MIB(4) + i * PAGE_SIZE + 5);
	guest_map_level(g, 0x40000000, 3, 0 | PWU | PTE_PS | 1 << 12);
	EXPECT_MAPPED(g, 0x40000000 + MIB(17) + 99, ACC_READ | ACC_USER, MIB(17) + 99);
	assert_int_equal(try(g, 0x40000000 + MIB(40), ACC_READ), MMU_MMIO); /* beyond RAM */
	assert_int_equal(g->r.gpa.v, MIB(40));
	guest_free(g);
}

IN_BOTH_MODES(accessed_and_dirty_bits_are_set_as_the_manual_says)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);
	uint64_t slot;

	guest_map(g, V, 0x5000 | PTE_P | PTE_U);
	slot = guest_slot(g, g->root, V, 1);
	/* A denied access sets A above, nothing in the leaf. */
	EXPECT_FAULT(g, V, ACC_WRITE, PF_P | PF_W);
	assert_int_equal(guest_read(g, slot), 0x5000 | PTE_P | PTE_U);
	for (unsigned level = 4; level > 1; level--)
		assert_int_equal(guest_read(g, guest_slot(g, g->root, V, level)) & (PTE_A | PTE_D), PTE_A);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	assert_int_equal(guest_read(g, slot), 0x5000 | PTE_P | PTE_U | PTE_A);
	/* A supervisor write past CR0.WP = 0 sets D in a read-only page. */
	mmu_set_controls(&g->mmu, LONG_CR0 & ~CR0_WP, LONG_CR4, LONG_EFER);
	EXPECT_MAPPED(g, V, ACC_WRITE, 0x5000);
	assert_int_equal(guest_read(g, slot), 0x5000 | PTE_P | PTE_U | PTE_A | PTE_D);
	/* A probe for writing sets D as the write would. */
	guest_map(g, V + PAGE_SIZE, 0x6000 | PWU);
	EXPECT_MAPPED(g, V + PAGE_SIZE, ACC_WRITE | ACC_PROBE, 0x6000);
	assert_int_equal(guest_read(g, slot + 8) & (PTE_A | PTE_D), PTE_A | PTE_D);
	assert_false(probe_hits(g, TLB_KERNEL_AC, V + PAGE_SIZE, false));
	guest_free(g);
}

IN_BOTH_MODES(the_first_write_after_a_read_sets_the_dirty_bit_before_generated_code_may_store)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	guest_map(g, V, 0x5000 | PWU);
	EXPECT_MAPPED(g, V, ACC_READ | ACC_USER, 0x5000);
	assert_true(probe_hits(g, TLB_USER, V, false));
	assert_false(probe_hits(g, TLB_USER, V, true));
	EXPECT_MAPPED(g, V, ACC_WRITE | ACC_USER, 0x5000);
	assert_true(probe_hits(g, TLB_USER, V, true));
	assert_true(guest_read(g, guest_slot(g, g->root, V, 1)) & PTE_D);
	guest_free(g);
}

IN_BOTH_MODES(a_table_outside_ram_reads_as_ones_and_faults_as_reserved)
{
	struct guest *g = guest_new(mode, PLACEMENT_LINEAR);

	guest_map_level(g, V, 3, 0xfee00000 | PWU);
	EXPECT_FAULT(g, V, ACC_READ, PF_P | PF_RSVD);
	mmu_set_cr3(&g->mmu, 0xfee00000);
	EXPECT_FAULT(g, V, ACC_READ, PF_P | PF_RSVD);
	guest_free(g);
}

IN_BOTH_MODES(with_paging_off_addresses_are_physical)
{
	struct guest *g = guest_new(mode, PLACEMENT_SCATTER);

	mmu_set_controls(&g->mmu, CR0_PE, 0, 0);
	EXPECT_MAPPED(g, 0x123456, ACC_WRITE | ACC_USER, 0x123456);
	EXPECT_MAPPED(g, 0x123456, ACC_EXEC, 0x123456);
	assert_int_equal(try(g, 0xfee00020, ACC_READ), MMU_MMIO);
	assert_int_equal(g->r.gpa.v, 0xfee00020);
	guest_free(g);
}

IN_BOTH_MODES(legacy_32_bit_paging_has_4_kib_and_with_pse_4_mib_pages)
{
	struct guest *g = guest_new(mode, PLACEMENT_SCATTER);
	uint32_t pde = 0x201000 | (uint32_t)PWU, pte = 0x7000 | (uint32_t)PWU, big = 0x800000 | (uint32_t)(PWU | PTE_PS);

	memory_write(&g->memory, gpa(0x200000 + 0x300 * 4), &pde, 4);
	memory_write(&g->memory, gpa(0x201000 + 0x3ff * 4), &pte, 4);
	memory_write(&g->memory, gpa(0x200000 + 5 * 4), &big, 4);
	mmu_set_controls(&g->mmu, CR0_PG | CR0_PE, 0, EFER_NXE);
	mmu_set_cr3(&g->mmu, 0x200000);
	EXPECT_MAPPED(g, 0xc03ff004, ACC_WRITE | ACC_USER, 0x7004);
	memory_read(&g->memory, gpa(0x201000 + 0x3ff * 4), &pte, 4);
	assert_int_equal(pte, 0x7000 | PWU | PTE_A | PTE_D);
	EXPECT_FAULT(g, 0x10000000, ACC_EXEC, 0); /* no NX in this format: the fetch bit stays clear */
	/* Without CR4.PSE, bit 7 is ignored: 0x800000 is a table, all zero. */
	EXPECT_FAULT(g, 5 << 22, ACC_READ, 0);
	mmu_set_controls(&g->mmu, CR0_PG | CR0_PE, CR4_PSE, EFER_NXE);
	EXPECT_MAPPED(g, (5 << 22) + 0x3fffff, ACC_READ, 0xbfffff);
	big |= 1u << 21; /* reserved */
	memory_write(&g->memory, gpa(0x200000 + 5 * 4), &big, 4);
	mmu_invlpg(&g->mmu, gva(5 << 22));
	EXPECT_FAULT(g, 5 << 22, ACC_READ, PF_P | PF_RSVD);
	big = (uint32_t)(PWU | PTE_PS) | 1 << 13; /* PSE-36: address bit 32 */
	memory_write(&g->memory, gpa(0x200000 + 5 * 4), &big, 4);
	mmu_invlpg(&g->mmu, gva(5 << 22));
	assert_int_equal(try(g, (5 << 22) + 1, ACC_READ), MMU_MMIO);
	assert_int_equal(g->r.gpa.v, (1ull << 32) + 1);
	guest_free(g);
}

IN_BOTH_MODES(pae_paging_takes_no_rights_from_its_four_pointers)
{
	struct guest *g = guest_new(mode, PLACEMENT_SCATTER);
	uint64_t pdpte = 0x201000 | PTE_P, pde = 0x202000 | PWU, pte = 0x7000 | PWU | PTE_NX, big = 0x600000 | PWU | PTE_PS;

	memory_write(&g->memory, gpa(0x200fe0 + 3 * 8), &pdpte, 8);
	memory_write(&g->memory, gpa(0x201000), &pde, 8);
	memory_write(&g->memory, gpa(0x202000 + 9 * 8), &pte, 8);
	memory_write(&g->memory, gpa(0x201008), &big, 8);
	mmu_set_controls(&g->mmu, CR0_PG | CR0_PE, CR4_PAE, EFER_NXE);
	mmu_set_cr3(&g->mmu, 0x200fe0);
	EXPECT_MAPPED(g, 0xc0009123, ACC_WRITE | ACC_USER, 0x7123);
	EXPECT_FAULT(g, 0xc0009123, ACC_EXEC | ACC_USER, PF_P | PF_U | PF_I);
	EXPECT_MAPPED(g, 0xc0200123, ACC_EXEC | ACC_USER, 0x600123);
	assert_int_equal(guest_read(g, 0x200fe0 + 3 * 8), pdpte); /* no accessed bit */
	pdpte |= 1 << 1;
	memory_write(&g->memory, gpa(0x200fe0 + 3 * 8), &pdpte, 8);
	mmu_set_cr3(&g->mmu, 0x200fe0);
	EXPECT_FAULT(g, 0xc0009123, ACC_READ, PF_P | PF_RSVD);
	guest_free(g);
}

IN_BOTH_MODES(a_table_that_maps_itself_shows_its_own_entries)
{
	struct guest *g = guest_new(mode, PLACEMENT_SCATTER);
	uint64_t self = 0xffff000000000000ull | 493ull << 39, window, slot;

	guest_write(g, g->root + 493 * 8, g->root | PTE_P | PTE_W);
	guest_map(g, V, 0x5000 | PWU);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	slot = guest_slot(g, g->root, V, 1);
	/* The page table of V, seen through the window that the self-map makes. */
	window = self | (V >> 39 & 511) << 30 | (V >> 30 & 511) << 21 | (V >> 21 & 511) << 12 | (V >> 12 & 511) * 8;
	EXPECT_MAPPED(g, window, ACC_READ, slot);
	/* A store through it is a store to the table. */
	if (mode == PAGING_SHADOW) {
		assert_int_equal(try(g, window, ACC_WRITE), MMU_TRACKED);
		store_u64(g->r.hva, 0x6000 | PWU);
		mmu_written(&g->mmu, g->r.mfn, window & 0xfff, 8);
	} else {
		EXPECT_MAPPED(g, window, ACC_WRITE, slot);
		store_u64(g->r.hva, 0x6000 | PWU);
	}
	mmu_invlpg(&g->mmu, gva(V));
	EXPECT_MAPPED(g, V, ACC_READ, 0x6000);
	/* All four levels at once: the root as its own leaf. */
	EXPECT_MAPPED(g, self | 493ull << 30 | 493ull << 21 | 493ull << 12, ACC_READ, g->root);
	guest_free(g);
}

#define V57 0x00ab123456789000ull	/* canonical with 57 bits only */

IN_BOTH_MODES(five_levels_map_addresses_of_57_bits_with_pages_of_every_size)
{
	struct guest *g = guest_new_5(mode, PLACEMENT_SCATTER);

	guest_map(g, V57, 0x5000 | PWU);
	guest_map_level(g, V57 + GIB(1), 3, 0x0 | PWU | PTE_PS);
	guest_map_level(g, V57 + GIB(2), 2, 0x600000 | PWU | PTE_PS);
	guest_map(g, 0xff10000000001000ull, 0x7000 | PTE_P | PTE_W);
	for (unsigned round = 0; round < 2; round++) {
		EXPECT_MAPPED(g, V57 + 0x123, ACC_WRITE, 0x5123);
		EXPECT_MAPPED(g, ((V57 + GIB(1)) & ~(GIB(1) - 1)) + 0x400123, ACC_READ, 0x400123);
		EXPECT_MAPPED(g, ((V57 + GIB(2)) & ~(MIB(2) - 1)) + 0x1ff123, ACC_READ, 0x7ff123);
		EXPECT_MAPPED(g, 0xff10000000001008ull, ACC_WRITE, 0x7008);
		/* Equal in the low 48 bits is not equal. */
		EXPECT_FAULT(g, V57 ^ 1ull << 50, ACC_READ, 0);
		mmu_set_cr3(&g->mmu, g->root);
	}
	guest_free(g);
}

IN_BOTH_MODES(the_fifth_level_has_rights_accessed_and_reserved_bits_as_the_fourth)
{
	struct guest *g = guest_new_5(mode, PLACEMENT_LINEAR);
	static const uint64_t bad[] = { PTE_PS, PTE_G, 1ull << MAXPHYADDR, 1ull << 51 };
	uint64_t slot, e;

	guest_map(g, V57, 0x5000 | PWU);
	slot = guest_slot(g, g->root, V57, 5);
	e = guest_read(g, slot);
	EXPECT_MAPPED(g, V57, ACC_WRITE | ACC_USER, 0x5000);
	assert_true(guest_read(g, slot) & PTE_A);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		guest_write(g, slot, e | bad[i]);
		mmu_invlpg(&g->mmu, gva(V57));
		EXPECT_FAULT(g, V57, ACC_READ, PF_P | PF_RSVD);
	}
	guest_write(g, slot, (e & ~PTE_W) | PTE_NX);
	mmu_invlpg(&g->mmu, gva(V57));
	EXPECT_FAULT(g, V57, ACC_WRITE, PF_P | PF_W);
	EXPECT_FAULT(g, V57, ACC_EXEC, PF_P | PF_I);
	guest_write(g, slot, 0);
	mmu_invlpg(&g->mmu, gva(V57));
	EXPECT_FAULT(g, V57, ACC_READ, 0);
	guest_free(g);
}

IN_BOTH_MODES(a_table_is_used_at_level_4_by_itself_and_under_a_fifth_level_without_mixing_them_up)
{
	struct guest *g = guest_new(mode, PLACEMENT_SCATTER);
	uint64_t pml5 = MIB(8);

	guest_map(g, V, 0x5000 | PWU);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	guest_write(g, pml5, g->root | PWU);
	guest_write(g, pml5 + 8, g->root | PWU);
	mmu_set_controls(&g->mmu, CR0_PE, CR4_PAE | CR4_LA57, 0);
	mmu_set_controls(&g->mmu, LONG_CR0, LONG_CR4 | CR4_LA57, LONG_EFER);
	mmu_set_cr3(&g->mmu, pml5);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	EXPECT_MAPPED(g, V + (1ull << 48), ACC_READ, 0x5000);
	EXPECT_FAULT(g, V + (2ull << 48), ACC_READ, 0);
	/* The root as a table of level 5 (CR3 names the old one): V then goes other ways. */
	mmu_set_cr3(&g->mmu, g->root);
	assert_int_equal(try(g, V, ACC_READ), MMU_INJECT);
	mmu_set_controls(&g->mmu, CR0_PE, CR4_PAE, 0);
	mmu_set_controls(&g->mmu, LONG_CR0, LONG_CR4, LONG_EFER);
	EXPECT_MAPPED(g, V, ACC_READ, 0x5000);
	guest_free(g);
}

/* References that a walker without caches makes for one miss: 4x4 is 24, 5x4 is 29 (AMD APM vol. 2, "Nested Paging": g + n + g*n). */
static void the_references_of_a_hardware_walker_are_counted_on_known_tables(void **state)
{
	static const struct { bool five, chunks; unsigned level, expect; } rows[] = {
		{ false, false, 1, 24 }, { false, false, 2, 19 }, { false, false, 3, 14 }, { true, false, 1, 29 }, { true, false, 2, 24 },
		{ true, false, 3, 19 },
		{ false, true, 1, 4 * 4 + 3 }, /* all of memory in 2 MiB leaves of the p2m: 3 each */
		{ true, true, 1, 5 * 4 + 3 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		enum placement placement = rows[i].chunks ? PLACEMENT_LINEAR : PLACEMENT_SCATTER;
		struct guest *g = rows[i].five ? guest_new_5(PAGING_NESTED, placement) : guest_new(PAGING_NESTED, placement);
		struct mmu_counters *c = &g->mmu.counters, before;

		for (uint64_t pa = 0; rows[i].chunks && pa < MIB(32); pa += PAGE_SIZE)
			guest_write(g, pa, 0);
		guest_map_level(g, V, rows[i].level, PWU | (rows[i].level > 1 ? PTE_PS : 0));
		EXPECT_MAPPED(g, V, ACC_READ, V & ((1ull << (3 + 9 * rows[i].level)) - 1));
		mmu_flush_all(&g->mmu);
		before = *c;
		EXPECT_MAPPED(g, V, ACC_READ, V & ((1ull << (3 + 9 * rows[i].level)) - 1));
		assert_int_equal(c->walk_refs_hardware - before.walk_refs_hardware, rows[i].expect);
		assert_true(c->walk_refs_guest - before.walk_refs_guest + c->walk_refs_nested - before.walk_refs_nested <= rows[i].expect);
		/* With caches: the same walk without them, far fewer in fact. */
		before = *c;
		mmu_set_cr3(&g->mmu, g->root);
		EXPECT_MAPPED(g, V, ACC_READ, V & ((1ull << (3 + 9 * rows[i].level)) - 1));
		assert_int_equal(c->walk_refs_hardware - before.walk_refs_hardware, rows[i].expect);
		guest_free(g);
	}
}

/* What the paging-structure cache passes by is in the count all the same. */
static void references_saved_by_the_paging_structure_cache_are_counted_as_a_hardware_walker_makes_them(void **state)
{
	struct guest *g = guest_new_5(PAGING_NESTED, PLACEMENT_SCATTER);
	struct mmu_counters *c = &g->mmu.counters, before;

	(void)state;
	guest_map(g, V57, 0x5000 | PWU);
	guest_map(g, V57 + PAGE_SIZE, 0x6000 | PWU);
	EXPECT_MAPPED(g, V57, ACC_READ, 0x5000);
	before = *c;
	EXPECT_MAPPED(g, V57 + PAGE_SIZE, ACC_READ, 0x6000);
	assert_int_equal(c->walk_refs_guest - before.walk_refs_guest, 1);
	assert_int_equal(c->walk_refs_hardware - before.walk_refs_hardware, 29);
	guest_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_absent_entry_at_any_level_faults_with_p_clear),
		cmocka_unit_test(rights_are_those_of_the_manual_in_every_combination),
		cmocka_unit_test(the_fetch_bit_of_the_error_code_needs_nxe_or_smep),
		cmocka_unit_test(reserved_bits_fault_with_p_and_rsvd_at_every_level),
		cmocka_unit_test(large_pages_map_their_whole_range_and_take_the_pat_bit),
		cmocka_unit_test(accessed_and_dirty_bits_are_set_as_the_manual_says),
		cmocka_unit_test(the_first_write_after_a_read_sets_the_dirty_bit_before_generated_code_may_store),
		cmocka_unit_test(a_table_outside_ram_reads_as_ones_and_faults_as_reserved),
		cmocka_unit_test(with_paging_off_addresses_are_physical),
		cmocka_unit_test(legacy_32_bit_paging_has_4_kib_and_with_pse_4_mib_pages),
		cmocka_unit_test(pae_paging_takes_no_rights_from_its_four_pointers),
		cmocka_unit_test(a_table_that_maps_itself_shows_its_own_entries),
		cmocka_unit_test(five_levels_map_addresses_of_57_bits_with_pages_of_every_size),
		cmocka_unit_test(the_fifth_level_has_rights_accessed_and_reserved_bits_as_the_fourth),
		cmocka_unit_test(a_table_is_used_at_level_4_by_itself_and_under_a_fifth_level_without_mixing_them_up),
		cmocka_unit_test(the_references_of_a_hardware_walker_are_counted_on_known_tables),
		cmocka_unit_test(references_saved_by_the_paging_structure_cache_are_counted_as_a_hardware_walker_makes_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
