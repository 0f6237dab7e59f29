/*
 * page.h - the page types of a direct-mode domain: what each machine frame is used for, and who refers to it. They are what keeps a guest that writes its own
 * page tables (by hypercalls) inside its memory; the idea and the rules are Xen's published ones (head of xen/arch/x86/mm.c there), the workings our own.
 *
 * A frame has a general reference count (it stays the domain's, or at least in being, while that is not 0) and one exclusive type with a count of its own. As L1 to L4 it
 * is a page table whose entries have been checked and hold references themselves; as seg_desc it holds checked descriptors; as writable it may be
 * mapped writable. It takes another type only when the count of the present one is 0.
 *
 *            get type, 512 entries to look at                     all done
 *   none -------------------------------------> partial(done = n) ----------> validated, count > 0
 *    ^                                            |    ^                          |
 *    |            all entries put                 |    |   count becomes 0        |
 *    +------------- undo queue <------------------+    +--------------------------+
 *                                 an entry is bad, or another type is wanted
 *
 * Work is bounded: validating and undoing an entry costs 1 of `budget`, which each hypercall sets; without budget validation answers -PV_AGAIN, its progress stays
 * in the frame, and the guest executes the hypercall again. Undoing is a queue without recursion; every request drains it before it does anything (pv_ready),
 * so putting a reference never fails.
 *
 * Invariants (pv_audit recounts all of it; docs/direct.md)
 *  P1  refs = 1 if owned + 1 if fixed + 1 if a table (partial or validated) + 1 if pinned + present entries that name it in tables, up to `done` + what the VMM holds
 *  P2  type_count = pins + such entries that name it as that type (level 1: those with W as writable) + what the VMM holds + 1 if fixed (writable)
 *  P3  FRAME_PV_TYPE is set in the frame's record if and only if its type is a table's or seg_desc; no TLB entry allows writing to it then
 *  P4  an entry up to `done` of a table has only flags that its level allows, and names a frame that is owned or has not left yet; slots 256 to 271 of a level-4
 *      table are the VMM's
 *  P5  a frame leaves the domain (and can become anything else) only with refs 0, and after every TLB that may still know it was flushed
 *  P6  no frame is a table of its own tree at two levels (no linear tables): a frame on the way down refuses every type
 *
 * Lock: memory->lock is held for all of these but set-up. They may run with live guest vector registers.
 */
#ifndef XEN_PAGE_H
#define XEN_PAGE_H

#include "mmu/mmu.h"
#include "x86/regs.h"

enum pv_type { PV_NONE, PV_L1, PV_L2, PV_L3, PV_L4, PV_SEG_DESC, PV_WRITABLE };

/* Not an error for the guest: the work goes on in the same hypercall again. */
enum { PV_AGAIN = 85 };

enum pv_flag {
	PV_OWNED = 1,		/* the domain's */
	PV_PINNED = 2,
	PV_VALIDATED = 4,
	PV_PARTIAL = 8,		/* entries below done hold references; type_count is 0 */
	PV_BUSY = 16,		/* being validated further up the stack */
	PV_UNDO = 32,		/* in the undo queue */
	PV_FIXED = 64,		/* writable for ever, and never leaves (shared_info) */
};

struct pv_page {
	uint32_t refs, type_count;
	uint8_t type, flags;
	uint16_t done;		/* tables: entries that hold references */
	uint32_t next;		/* undo queue: frame + 1, 0 ends it */
	uint64_t stamp;		/* pages->clock when a mapping of it was last taken away */
};

struct pv_counters {
	uint64_t validations, validated_entries, undone_entries, preemptions, fast_updates, slow_updates, refused_updates, type_flushes, frames_left;
};

#define PV_MMUS_MAX 64u
#define PV_ENTRIES 512u
#define PV_BUDGET 2048u		/* entries a hypercall looks at before the guest's events get a chance */

struct pv_pages {
	struct memory *memory;
	struct pv_page *page;	/* one a frame of the pool */
	uint64_t frames, owned;
	const uint64_t *l4_slot; /* the VMM's 16 entries of every level-4 table */
	struct mmu *mmu[PV_MMUS_MAX];
	uint64_t flushed[PV_MMUS_MAX];	/* clock of that MMU's last flush of everything */
	unsigned mmus;
	uint64_t clock;
	uint32_t undo;		/* head of the queue, frame + 1 */
	unsigned budget, round;	/* round: what each hypercall gets; PV_BUDGET, but in tests */
	struct pv_counters counters;
};

int pv_pages_init(struct pv_pages *pages, struct memory *memory, const uint64_t *l4_slot); /* 0 or -errno */
void pv_pages_destroy(struct pv_pages *pages);
void pv_pages_add_mmu(struct pv_pages *pages, struct mmu *mmu);

/* A frame that the pool handed out joins the domain (fixed: shared_info). It must not be in it. */
void pv_page_join(struct pv_pages *pages, mfn_t m, bool fixed);
/* It leaves, now or once the last reference goes. -XEN_EINVAL: it is not the domain's, or fixed. */
int pv_page_leave(struct pv_pages *pages, mfn_t m);
static inline bool pv_page_owned(const struct pv_pages *pages, mfn_t m) { return m.v < pages->frames && (pages->page[m.v].flags & PV_OWNED); }

/* Drains the undo queue; false: the budget is used up, the request must be made again. */
bool pv_ready(struct pv_pages *pages);

/*
 * References. pv_get keeps the frame in being; pv_get_type gives it a type besides, and holds it: with PV_WRITABLE whoever writes to guest memory by a pointer
 * of its own (rings, vcpu_info) knows that the frame stays plain memory of the domain. 0; -XEN_EINVAL (not the domain's, another type, bad contents),
 * -XEN_EBUSY (too many references), -PV_AGAIN.
 */
int pv_get(struct pv_pages *pages, mfn_t m);
void pv_put(struct pv_pages *pages, mfn_t m);
int pv_get_type(struct pv_pages *pages, mfn_t m, enum pv_type type);
void pv_put_type(struct pv_pages *pages, mfn_t m);

int pv_pin(struct pv_pages *pages, mfn_t m, enum pv_type type);
int pv_unpin(struct pv_pages *pages, mfn_t m);

/*
 * Writes an entry at machine address `at` (8-byte aligned): as the type of its frame says, checked for a table, refused for seg_desc, plain otherwise.
 * preserve: A and D that the entry has stay. 0 or an error; the entry is unchanged then.
 */
int pv_update(struct pv_pages *pages, uint64_t at, uint64_t value, bool preserve);

/* The MMU was flushed as a whole (all spaces) on the guest's wish: what was unmapped before needs no flush of ours. */
void pv_flush_noted(struct pv_pages *pages, const struct mmu *mmu);

/* page.c, for validate.c. around: a serial came around (mmu/direct.h), so every TLB is flushed. */
void pv_voided(struct pv_pages *pages, bool around);
/* validate.c, for page.c: */
/* Goes on where page->done says. 0, an error, or -PV_AGAIN; the type is set. */
int pv_validate(struct pv_pages *pages, mfn_t m);
/* Gives back the references of a present entry of a table of that level. */
void pv_put_entry(struct pv_pages *pages, unsigned level, uint64_t entry);
/* A descriptor as the ABI lets it stand, perhaps changed (its privilege level). False: refused. */
bool pv_check_descriptor(uint64_t *descriptor);

/* What the VMM itself holds: with PV_NONE a plain reference (pv_get), otherwise pv_get_type's. */
struct pv_held { mfn_t m; enum pv_type type; };
/* Recounts everything; the first violation to msg. 0 if clean. Cold. */
int pv_audit(const struct pv_pages *pages, const struct pv_held *held, size_t count, char *msg, size_t size);

extern const struct stat_row pv_stat_rows[];
extern const size_t pv_stat_row_count;

static inline uint64_t *pv_table(const struct pv_pages *pages, mfn_t m) { return pool_ptr(&pages->memory->pool, m); }
static inline mfn_t pv_entry_mfn(uint64_t entry) { return mfn((entry & 0x000ffffffffff000ull) >> PAGE_SHIFT); }
static inline bool pv_type_is_table(unsigned type) { return type >= PV_L1 && type <= PV_L4; }
static inline bool pv_vmm_slot(unsigned level, unsigned i) { return level == 4 && i >= 256 && i <= 271; }

#endif
