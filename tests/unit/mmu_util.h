/*
 * mmu_util.h - a small guest for tests of the MMU: memory, an MMU in long mode, and tables made entry by entry.
 */
#ifndef TESTS_MMU_UTIL_H
#define TESTS_MMU_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "mmu/mmu_internal.h"
#include "mmu/shadow.h"
#include "x86/regs.h"

#define PWU (PTE_P | PTE_W | PTE_U)
#define LONG_CR0 (CR0_PG | CR0_PE | CR0_WP)
#define LONG_CR4 (CR4_PAE | CR4_PGE)
#define LONG_EFER (EFER_LMA | EFER_LME | EFER_NXE)

struct guest {
	struct memory memory;
	struct mmu mmu;
	uint64_t next_table;	/* gpa of the next free page for tables */
	uint64_t root;
	struct mmu_result r;
};

/* With areas for gathering of so many pages each, or 0. */
static inline struct guest *guest_new_with_areas(enum paging_mode mode, enum placement placement, uint64_t area_pages)
{
	struct guest *g = aligned_alloc(64, ALIGN_UP(sizeof(*g), 64));

	assert_non_null(g);
	memset(g, 0, sizeof(*g));
	assert_int_equal(memory_init_limited(&g->memory, MIB(32), ~0ull, area_pages, placement, 11), 0);
	assert_int_equal(mmu_init(&g->mmu, &g->memory, mode), 0);
	g->next_table = MIB(1);
	g->root = g->next_table;
	g->next_table += PAGE_SIZE;
	mmu_set_controls(&g->mmu, LONG_CR0, LONG_CR4, LONG_EFER);
	mmu_set_cr3(&g->mmu, g->root);
	return g;
}

static inline struct guest *guest_new(enum paging_mode mode, enum placement placement) { return guest_new_with_areas(mode, placement, 0); }

/* The same with 5 levels; LA57 may change only outside long mode. */
static inline struct guest *guest_new_5(enum paging_mode mode, enum placement placement)
{
	struct guest *g = guest_new(mode, placement);

	mmu_set_controls(&g->mmu, CR0_PE, CR4_PAE | CR4_LA57, 0);
	mmu_set_controls(&g->mmu, LONG_CR0, LONG_CR4 | CR4_LA57, LONG_EFER);
	return g;
}

static inline void guest_free(struct guest *g)
{
	char msg[200] = "";

	if (mmu_audit(&g->mmu, msg, sizeof(msg)))
		fail_msg("audit: %s", msg);
	mmu_destroy(&g->mmu);
	memory_destroy(&g->memory);
	free(g);
}

static inline uint64_t guest_read(struct guest *g, uint64_t pa)
{
	uint64_t v;

	assert_int_equal(memory_read(&g->memory, gpa(pa), &v, 8), 0);
	return v;
}

/* A store as the guest's own code makes it, watched frames included. */
static inline void guest_write(struct guest *g, uint64_t pa, uint64_t v)
{
	struct p2m_entry e;
	bool fresh;

	assert_int_equal(p2m_back(&g->memory, gpa(pa), &e, &fresh), P2M_MAPPED);
	store_u64((uint8_t *)pool_ptr(&g->memory.pool, e.m) + (pa & 0xfff), v);
	if (pool_frame(&g->memory.pool, e.m)->flags & FRAME_TRACKED)
		mmu_written(&g->mmu, e.m, pa & 0xfff, 8);
}

/* Where the entry of `level` for va lies under root, tables above made on the way (all rights). */
static inline uint64_t guest_slot(struct guest *g, uint64_t root, uint64_t va, unsigned level)
{
	uint64_t table = root;

	for (unsigned l = g->mmu.cr4 & CR4_LA57 ? 5 : 4;; l--) {
		uint64_t at = table + (va >> (12 + 9 * (l - 1)) & 511) * 8, e;

		if (l == level)
			return at;
		e = guest_read(g, at);
		if (!(e & PTE_P)) {
			e = g->next_table | PWU;
			g->next_table += PAGE_SIZE;
			guest_write(g, at, e);
		}
		table = e & 0x000ffffffffff000ull;
	}
}

static inline void guest_map(struct guest *g, uint64_t va, uint64_t entry) { guest_write(g, guest_slot(g, g->root, va, 1), entry); }
static inline void guest_map_level(struct guest *g, uint64_t va, unsigned level, uint64_t entry)
{
	guest_write(g, guest_slot(g, g->root, va, level), entry);
}

static inline enum mmu_kind try(struct guest *g, uint64_t va, unsigned access) { return mmu_access(&g->mmu, gva(va), access, &g->r); }

/* The result of generated code's probe: whether it would hit. */
static inline bool probe_hits(const struct guest *g, enum tlb_set set, uint64_t va, bool write)
{
	const struct tlb_entry *e = tlb1_entry(&g->mmu, set, va);

	return va - (write ? e->tag_write : e->tag_read) <= 4096 - 1;
}

#define EXPECT_FAULT(g, va, access, code) do { \
		assert_int_equal(try(g, va, access), MMU_INJECT); \
		assert_int_equal((g)->r.exc.vector, VEC_PF); \
		assert_int_equal((g)->r.exc.error, code); \
		assert_int_equal((g)->r.exc.cr2, va); \
	} while (0)
#define EXPECT_MAPPED(g, va, access, pa) do { \
		assert_int_equal(try(g, va, access), MMU_MAPPED); \
		assert_int_equal((g)->r.gpa.v, pa); \
	} while (0)

/* A test in both modes. */
#define IN_BOTH_MODES(name) \
	static void name##_in(enum paging_mode mode); \
	static void name(void **state) { (void)state; name##_in(PAGING_NESTED); name##_in(PAGING_SHADOW); } \
	static void name##_in(enum paging_mode mode)

#endif
