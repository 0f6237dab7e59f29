/*
 * format.c - the rows.
 */
#include "mmu/format.h"

#include "x86/regs.h"

#define BITS(hi, lo) ((~0ull >> (63 - (hi))) & (~0ull << (lo)))
#define PHYS BITS(51, MAXPHYADDR)

static const struct paging_format formats[] = {
	{
		.name = "32-bit", .levels = 2, .entry_bytes = 4, .root_mask = BITS(31, 12),
		.level = {
			[2] = { 22, 10, LEAF_NEVER, false, 0, 0 },
			[1] = { 12, 10, LEAF_ALWAYS, false, 0, 0 },
		},
	}, {
		.name = "32-bit with PSE", .levels = 2, .entry_bytes = 4, .root_mask = BITS(31, 12),
		.level = {
			[2] = { 22, 10, LEAF_IF_PS, false, 0, BITS(21, 21) },
			[1] = { 12, 10, LEAF_ALWAYS, false, 0, 0 },
		},
	}, {
		.name = "PAE", .levels = 3, .entry_bytes = 8, .nx = true, .root_mask = BITS(31, 5),
		.level = {
			[3] = { 30, 2, LEAF_NEVER, true, BITS(63, MAXPHYADDR) | BITS(8, 5) | BITS(2, 1), 0 },
			[2] = { 21, 9, LEAF_IF_PS, false, BITS(62, MAXPHYADDR), BITS(62, MAXPHYADDR) | BITS(20, 13) },
			[1] = { 12, 9, LEAF_ALWAYS, false, 0, BITS(62, MAXPHYADDR) },
		},
	}, {
		.name = "4-level", .levels = 4, .entry_bytes = 8, .nx = true, .root_mask = BITS(MAXPHYADDR - 1, 12),
		.level = {
			[4] = { 39, 9, LEAF_NEVER, false, PHYS | PTE_PS | PTE_G, 0 },
			[3] = { 30, 9, LEAF_IF_PS, false, PHYS | PTE_G, PHYS | BITS(29, 13) },
			[2] = { 21, 9, LEAF_IF_PS, false, PHYS, PHYS | BITS(20, 13) },
			[1] = { 12, 9, LEAF_ALWAYS, false, 0, PHYS },
		},
	}, {
		.name = "4-level small-page", .levels = 4, .entry_bytes = 8, .nx = true, .root_mask = BITS(MAXPHYADDR - 1, 12),
		.level = {
			[4] = { 39, 9, LEAF_NEVER, false, PHYS | PTE_PS | PTE_G, 0 },
			[3] = { 30, 9, LEAF_NEVER, false, PHYS | PTE_PS | PTE_G, 0 },
			[2] = { 21, 9, LEAF_NEVER, false, PHYS | PTE_PS, 0 },
			[1] = { 12, 9, LEAF_ALWAYS, false, 0, PHYS },
		},
	}, {
		.name = "5-level", .levels = 5, .entry_bytes = 8, .nx = true, .root_mask = BITS(MAXPHYADDR - 1, 12),
		.level = {
			[5] = { 48, 9, LEAF_NEVER, false, PHYS | PTE_PS | PTE_G, 0 },
			[4] = { 39, 9, LEAF_NEVER, false, PHYS | PTE_PS | PTE_G, 0 },
			[3] = { 30, 9, LEAF_IF_PS, false, PHYS | PTE_G, PHYS | BITS(29, 13) },
			[2] = { 21, 9, LEAF_IF_PS, false, PHYS, PHYS | BITS(20, 13) },
			[1] = { 12, 9, LEAF_ALWAYS, false, 0, PHYS },
		},
	},
};

const struct paging_format *paging_format_direct(void) { return &formats[4]; }

const struct paging_format *paging_format_of(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	if (!(cr0 & CR0_PG))
		return NULL;
	if (efer & EFER_LMA)
		return &formats[cr4 & CR4_LA57 ? 5 : 3];
	if (cr4 & CR4_PAE)
		return &formats[2];
	return &formats[cr4 & CR4_PSE ? 1 : 0];
}
