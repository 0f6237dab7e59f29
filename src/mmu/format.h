/*
 * format.h - the paging formats of the architecture, as rows of data.
 * Source: Intel SDM vol. 3, "Paging"; AMD APM vol. 2, "Page Translation and Protection" (where they differ about
 * reserved bits, AMD's rule: bit 8 of a PML4E or PDPE that names a table is reserved).
 */
#ifndef MMU_FORMAT_H
#define MMU_FORMAT_H

#include "x86/types.h"

/* Guest-physical address width: CPUID 8000_0008h EAX[7:0] must say the same. Higher address bits in entries are reserved. */
#define MAXPHYADDR 40

enum paging_leaf { LEAF_NEVER, LEAF_IF_PS, LEAF_ALWAYS };

struct paging_level {
	uint8_t shift;		/* lowest address bit that this level indexes */
	uint8_t index_bits;
	uint8_t leaf;		/* enum paging_leaf */
	bool plain;		/* no rights and no accessed bit (PDPTE of PAE) */
	uint64_t reserved_table, reserved_leaf;	/* bits that must be zero (NX besides, without EFER.NXE) */
};

#define PAGING_MAX_LEVELS 5
struct paging_format {
	const char *name;
	uint8_t levels;
	uint8_t entry_bytes;	/* 4 or 8 */
	bool nx;		/* entries have an NX bit */
	uint64_t root_mask;	/* bits of CR3 that give the root's address */
	struct paging_level level[PAGING_MAX_LEVELS + 1]; /* [1] holds 4 KiB leaves, [levels] is the root */
};

/* The format in force, NULL with paging off. */
const struct paging_format *paging_format_of(uint64_t cr0, uint64_t cr4, uint64_t efer);
/* That of PAGING_DIRECT: 4-level, 4 KiB pages only. */
const struct paging_format *paging_format_direct(void);

/* Address of the page that a leaf entry maps (aligned to the level's size). */
static inline uint64_t paging_leaf_address(const struct paging_format *f, unsigned level, uint64_t entry)
{
	uint64_t size_mask = ~((1ull << f->level[level].shift) - 1);

	if (f->entry_bytes == 4 && level == 2) /* PSE-36: address bits 39:32 in bits 20:13 */
		return (entry & 0xffc00000ull) | (entry >> 13 & 0xff) << 32;
	return entry & 0x000ffffffffff000ull & size_mask;
}

static inline unsigned paging_index(const struct paging_format *f, unsigned level, uint64_t va)
{
	return (unsigned)(va >> f->level[level].shift) & ((1u << f->level[level].index_bits) - 1);
}

#endif
