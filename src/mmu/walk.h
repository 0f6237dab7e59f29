/*
 * walk.h - the one reader of guest paging structures, and the one place that composes page-fault error codes.
 *
 * walk_tables resolves one access against tables that lie in a guest-physical space; the space reads through the p2m, so every
 * table reference is a nested translation itself (the second dimension). It checks reserved bits and rights and sets
 * A and D bits with compare-and-exchange, as the manual says (Intel SDM vol. 3, "Accessed and Dirty Flags",
 * "Determination of Access Rights", "Page-Fault Exceptions"): A in every entry that was followed, also when
 * the walk ends in a fault below it; in the leaf, A (and D for a write) only when the access is allowed.
 */
#ifndef MMU_WALK_H
#define MMU_WALK_H

#include "mem/memory.h"
#include "mmu/format.h"
#include "mmu/mmu.h"
#include "x86/regs.h"

/* What decides an access besides the tables. Derived from CR0, CR4, EFER by edit.c. */
struct walk_controls {
	const struct paging_format *format;	/* NULL: paging off */
	bool wp, smep, smap, nxe, pge, pcide;
};

/*
 * Rights of a translation, in the places of a 4-level entry: PTE_W and PTE_U if all levels grant them, PTE_NX if any level
 * denies fetching, PTE_D and PTE_G of the leaf.
 */
#define RIGHTS_MASK (PTE_W | PTE_U | PTE_D | PTE_G | PTE_NX)

/*
 * The second dimension of a guest of the guest (nest.c): what is physical to it (L2) is translated by a table of its hypervisor (L1), who finds that table by
 * what is physical to itself. Cached answers are known by an id, so that a new one voids them.
 */
#define NEST_CACHE 512
struct walk_nest {
	struct walk_controls controls;	/* format, NXE: the hypervisor's at VMRUN */
	uint64_t root;			/* nCR3 */
	uint32_t id;
	struct nest_cache { uint64_t gfn_plus_1, page, rights; uint32_t id; uint8_t shift, refs; } cache[NEST_CACHE];
};

/* Guest-physical memory as tables are read from it; a small cache of p2m translations sits in front of the p2m. */
#define SPACE_CACHE 256
struct walk_space {
	struct memory *memory;
	struct mmu_counters *counters;
	bool machine;		/* addresses are machine addresses (direct mode): no p2m, but every frame must be handed out */
	struct walk_nest *nest;	/* not 0: addresses are L2's, and the table leads to L1's, in: */
	struct walk_space *below;
	bool look_only;		/* walks change nothing: no bit is set, no frame handed out; tables that have none read as zeros */
	uint64_t generation;	/* memory->p2m_generation the cache is of */
	struct space_cache { uint64_t gfn_plus_1; mfn_t m; uint16_t shift, serial; } cache[SPACE_CACHE];
};

/* The frame behind a guest-physical page, backed on first use. Lock held. */
enum p2m_result space_frame(struct walk_space *space, gpa_t p, struct p2m_entry *out);
/*
 * *e is what space_frame found for p, and someone is about to store to that page or to watch it: if others share its frame, p gets one of its own. What is cached is brought up
 * to date by edit_frames_changed, which must follow before anybody accesses memory.
 */
static inline enum p2m_result space_own(struct walk_space *space, gpa_t p, struct p2m_entry *e)
{
	const struct memory *mem = space->memory;

	if (LIKELY(!mem->counters.pages_shared) || LIKELY(!(pool_frame(&mem->pool, e->m)->flags & FRAME_SHARED)))
		return P2M_MAPPED;
	space->counters->hidden_shared++;
	return p2m_unshare(space->memory, p, e);
}
void space_forget(struct walk_space *space);
/* Only what names frames that pages have left. */
void space_drop_void(struct walk_space *space);

enum walk_status { WALK_OK, WALK_FAULT, WALK_NO_FRAME, WALK_NEST_FAULT /* the hypervisor's: nest_error, nest_p */ };

struct walk_step {
	uint64_t entry;		/* as read, with the bits that this walk set */
	gpa_t table;		/* page the entry lies in */
	mfn_t table_m;		/* MFN_NONE: not RAM */
	uint16_t index;
	uint8_t refs;		/* that a walker without caches makes up to here, reading this entry included */
};

struct walk {
	/* Where to start: the root, or a table found before (paging-structure cache). */
	uint8_t level;		/* in: level of the table; out: level of the last entry read */
	gpa_t table;
	uint64_t rights;	/* in: those granted above (PTE_W | PTE_U at the root); out: of the translation */
	uint8_t refs;		/* in: those that a walker without caches makes to get here (0 at the root); out: to the last entry read */
	/* Out. */
	gpa_t page;		/* of the leaf's page */
	uint8_t shift;		/* of the leaf's page */
	uint32_t error;		/* page-fault error code, for WALK_FAULT */
	uint64_t nest_error;	/* EXITINFO1 of #NPF, for WALK_NEST_FAULT */
	gpa_t nest_p;		/* what could not be translated */
	struct walk_step step[PAGING_MAX_LEVELS + 1]; /* by level, those read */
};

/* Prepares a walk from the root. */
void walk_start(const struct walk_controls *c, uint64_t cr3, struct walk *w);
/* Lock held. */
enum walk_status walk_tables(const struct walk_controls *c, struct walk_space *space, uint64_t va, unsigned access,
			     struct walk *w);

/* p, physical to L2, in space->nest: the page that it lies in, physical to L1, and the rights of the nested table. table: for a guest table's entry. Lock held. */
struct nest_page { gpa_t page; uint64_t rights; uint8_t shift, refs; };
enum walk_status walk_nest(struct walk_space *space, gpa_t p, unsigned access, bool table, struct nest_page *out, struct walk *w);

/* Whether rights allow the access; the same question for tables, TLB entries and shadow entries. */
static inline bool walk_allowed(const struct walk_controls *c, uint64_t rights, unsigned access)
{
	if ((access & ACC_EXEC) && (rights & PTE_NX))
		return false;
	if ((access & (ACC_USER | ACC_IMPLICIT)) == ACC_USER)
		return (rights & PTE_U) && (!(access & ACC_WRITE) || (rights & PTE_W));
	if (rights & PTE_U) {
		if (access & ACC_EXEC) {
			if (c->smep)
				return false;
		} else if (c->smap && (access & (ACC_AC | ACC_IMPLICIT)) != ACC_AC) {
			return false;
		}
	}
	return !(access & ACC_WRITE) || (rights & PTE_W) || !c->wp;
}

#endif
