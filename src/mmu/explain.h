/*
 * explain.h - the whole way of one address, v to p to m, as it stands: what each table says in both dimensions, what caches
 * it, and what an access would meet. For people (trifold ctl SOCKET explain); vm/explain_text.c turns it into words.
 *
 * Nothing is changed by looking: no accessed or dirty bit is set, no page gets a frame, no cache is filled, nothing is counted.
 * Called like the rest of mmu/ by the vcpu's own thread; takes memory->lock. Cold.
 */
#ifndef MMU_EXPLAIN_H
#define MMU_EXPLAIN_H

#include "mmu/format.h"
#include "mmu/mmu.h"

/* The second dimension: where a guest-physical page lies. In the direct mode there is none: the frame is found first, and p is what it is to the guest. */
struct explain_nested {
	/*
	 * Of a guest of the guest with nested paging the dimension between: what it takes for physical (l2), by the entries of its hypervisor's table (at: physical
	 * to the hypervisor, in frame m), to p. Without (nest_top 0) only the rest is set; a table that does not map it leaves p all ones.
	 */
	gpa_t l2;
	uint8_t nest_top, nest_bottom;
	struct explain_nest { gpa_t at; mfn_t m; uint64_t entry; } nest[PAGING_MAX_LEVELS + 1];
	gpa_t p;		/* all ones: the frame is no page of the guest's (direct) */
	bool ram, backed, swapped;	/* swapped: not backed, its contents are in the swap file */
	mfn_t m;		/* of p itself, if backed */
	bool read_only;		/* direct: no mapping may write it, whatever it says: it has the type of a table, or is the monitor's */
	uint8_t shift;		/* of the p2m leaf */
	uint8_t top, bottom;	/* levels of the p2m entries read: entry[top] down to entry[bottom] */
	uint64_t entry[5];
	uint32_t watched;	/* enum frame_flag, FRAME_TRACKED part */
};

/* The first: one entry of a guest table. */
struct explain_step {
	uint8_t level;
	bool leaf;
	bool leads_out;		/* direct: to a frame that is not handed out */
	gpa_t at;		/* where the entry lies; direct: a machine address */
	uint64_t entry;		/* zero if its table has no frame: what would be read */
	struct explain_nested table;
};

struct explain_shadow {
	uint8_t level;
	uint32_t page, role;	/* shadow.h */
	bool loose, direct;
	bool stale;		/* a loose entry that no longer says what the guest's does: not used */
	uint64_t gfn;		/* of the table or range that the page stands for */
	uint64_t entry;
};

struct explain_tlb1 { bool read, write, global; mfn_t m; };
struct explain_tlb2 { bool large, global, write, user, nx, dirty; uint32_t id; mfn_t m; /* of the address's own page */ };

enum explain_cause {
	CAUSE_NONE, CAUSE_NOT_PRESENT, CAUSE_RESERVED, CAUSE_TABLE_NOT_RAM, CAUSE_NOT_WRITABLE, CAUSE_NOT_USER, CAUSE_NO_EXEC, CAUSE_SMEP,
	CAUSE_SMAP,
	CAUSE_NO_ROOT, CAUSE_NOT_OWNED, CAUSE_TYPED,	/* direct: the user has no table, the frame is nobody's, or may not be written */
};

/* How the answer is found. */
enum explain_by { BY_TLB1, BY_TLB2, BY_SHADOW, BY_WALK };	/* BY_WALK in the direct mode: of the only tables */

enum explain_hidden {
	HIDDEN_NOT_BACKED = 1,		/* the page gets its frame */
	HIDDEN_NOT_PRESENT = 2,		/* the shadow entry is made */
	HIDDEN_DIRTY = 4,		/* the shadow entry is there but does not allow what the guest's does */
	HIDDEN_WRITE_PROTECTED = 8,	/* the frame is a shadowed page table: the store is followed */
	HIDDEN_CODE = 16,		/* the frame holds translated code: the store is looked at */
	HIDDEN_LOG = 32,		/* the dirty log is on: the store is noted */
	HIDDEN_SWAPPED = 64,		/* the page comes back from the swap file */
	HIDDEN_SHARED = 128,		/* the page shares its frame with equal ones, and gets its own */
};

struct explain_access {
	unsigned access;	/* enum mmu_access_flag */
	enum explain_by by;
	bool nest_fault;	/* #NPF, the hypervisor's; p is what could not be translated, to the byte; then: */
	uint64_t nest_error;
	bool guest_fault;	/* then: */
	uint32_t error;
	enum explain_cause cause;
	uint8_t level;		/* of the entry that is the cause */
	bool device;		/* not RAM: the bus */
	gpa_t p;		/* where it goes, if nothing denies it */
	bool unflushed;		/* what is cached grants it or leads elsewhere than the tables do now: the guest has not flushed */
	uint32_t hidden;	/* enum explain_hidden */
};

#define EXPLAIN_ACCESSES 8
struct explain {
	uint64_t va, cr3;
	bool canonical, paging;		/* neither: only the rest of what applies is set */
	bool current;			/* cr3 is the one in force */
	unsigned pcid;
	uint32_t guest_asid;		/* guest mode; else 0 */
	uint64_t ncr3;			/* the nested table's root */
	bool nested_guest;		/* there is one */
	uint32_t space_id;		/* 0: nothing of this space is cached */
	const struct paging_format *format;
	enum paging_mode mode;
	bool shadowed;			/* shadow tables serve this format */
	bool direct;			/* entries of the guest's tables hold machine frames */
	bool for_kernel, for_user;	/* direct: the table in force for either, whose accesses alone are foretold; neither: for none */
	uint64_t user_cr3;		/* direct: of the table in force for the user, 0 if there is none */
	unsigned steps;
	struct explain_step step[PAGING_MAX_LEVELS];
	bool mapped;			/* a leaf was reached */
	gpa_t p;			/* of va itself */
	uint8_t shift;			/* of the guest's page */
	uint64_t rights;		/* walk.h, all levels together */
	struct explain_nested page;	/* of p */
	unsigned refs_guest, refs_nest, refs_nested;	/* a walk with no cache makes so many references */
	bool shadow_void;		/* out of date: brought up to date, or dropped, before the next use */
	unsigned shadows;
	struct explain_shadow shadow[PAGING_MAX_LEVELS];
	struct explain_tlb1 tlb1[TLB_WORLD];
	bool stack[TLB_WORLD];
	unsigned tlb2s;
	struct explain_tlb2 tlb2[4];
	uint8_t psc_level;		/* nested: the cached table of this level is where a walk begins; 0: at the root */
	gpa_t psc_table;
	bool fetched[2];		/* in the fetch cache for CPL < 3, CPL 3 */
	unsigned accesses;
	struct explain_access access[EXPLAIN_ACCESSES];
};

#define EXPLAIN_CURRENT (~0ull)
/* cr3: another address space's, or EXPLAIN_CURRENT. */
void mmu_explain(struct mmu *mmu, gva_t va, uint64_t cr3, struct explain *out);

/* Just where the tables in force lead for an access; false: paging is off, or they deny it. */
bool mmu_look(struct mmu *mmu, gva_t va, unsigned access, gpa_t *p);
/* Reads what is there, within one page. False: as mmu_look, or it is no memory. */
bool mmu_peek(struct mmu *mmu, gva_t va, unsigned access, void *buf, size_t len);

#endif
