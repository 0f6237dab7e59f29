/*
 * mmu_internal.h - the private part of a vcpu's MMU, shared by the files of mmu/ only.
 */
#ifndef MMU_MMU_INTERNAL_H
#define MMU_MMU_INTERNAL_H

#include "mmu/mmu.h"
#include "mmu/walk.h"

/*
 * A translation of one 4 KiB page as the TLB keeps it: machine frame in bits 12-43, rights as walk.h defines them, and the size
 * of the guest's page, because INVLPG must remove all of it: TR_GUEST_2M, TR_GUEST_HUGE (1 GiB, 4 MiB) or neither.
 */
#define TR_MFN_MASK 0x00000ffffffff000ull
#define TR_GUEST_2M (1ull << 44)
#define TR_GUEST_HUGE (1ull << 45)
#define TR_SERIAL_SHIFT 46	/* 16 bits: the frame's serial (mem/memory.h); with another one the translation is void */
#define TR_SERIAL_MASK (0xffffull << TR_SERIAL_SHIFT)

/* tlb.c: the second level. Tags are vpn (45 bits) << SPACE_BITS | space id; 0 is no entry (ids begin at 1). */
#define SPACE_BITS 19
#define SPACE_ID_MAX ((1u << SPACE_BITS) - 1)
#define L2_WAYS 4
#define L2_SMALL_SHIFT 13	/* sets: 32768 entries, as many as 128 MiB has pages */
#define L2_LARGE_SHIFT 8	/* sets: 1024 entries */
struct tlb2_set {
	uint64_t tag[L2_WAYS];
	uint64_t data[L2_WAYS];
} __attribute__((aligned(64)));

/* Sets of (number) that answer "perhaps" or "certainly not". */
#define FILTER_SHIFT 17 /* bits, as a shift */
#define FILTER_WORDS (1u << (FILTER_SHIFT - 6))
struct filter { uint64_t bit[FILTER_WORDS]; uint32_t set; };
#define FILTER_FULL (FILTER_WORDS * 64 / 4) /* beyond this many bits set, start afresh */

struct tlb2 {
	struct tlb2_set small[1u << L2_SMALL_SHIFT];
	struct tlb2_set large[1u << L2_LARGE_SHIFT];
	unsigned victim;
	/* Guest pages larger than 4 KiB of which smaller entries may exist: in level 1, in level 2 (by va >> 21), any (by va >> 30). */
	struct filter fragments_l1, fragments_l2, fragments_huge;
	unsigned drops_l1;	/* of fragments, since fragments_l1 was last emptied */
};

/* tlb1.c: beside each set of level 1. */
#define TLB1_FRAMES (1u << 18)	/* 1 GiB */
#define TLB1_ONES 8192u
struct tlb1 {
	uint64_t local[TLB_L1_WIDE / 64];		/* slots that hold entries which are not global */
	uint64_t local_words[TLB_L1_WIDE / 64 / 64];	/* words of local that may have bits */
	uint32_t crowded;	/* misses that level 2 served, since entries were last dropped */
	uint32_t limit;		/* so many make the set larger */
	uint64_t grown_ns;	/* when the set was last small */
	uint64_t rest_ns, rests_until_ns; /* how long it stays small since it was swept too often */
	uint32_t sweeps;	/* since it was last small, but for those that time has forgiven */
	uint64_t swept_ns;	/* the last one */
	bool global;		/* some slots may hold entries that the list lacks */
	/*
	 * While the set is not small: where entries may allow writes to a frame. Most frames have one such entry, and `one` has its slot, for one frame of a hash. Those that may have more, or whose place another
	 * frame has taken, have a bit, modulo so many: when they become watched, the set must be swept. The others need not.
	 */
	struct { uint32_t mfn, slot; } one[TLB1_ONES];
	uint64_t writable[TLB1_FRAMES / 64];
};

/* asid.c: what a process-context identifier stands for now. An id below its floor is void. */
struct space_ids {
	uint32_t id;			/* tags its entries in level 2 */
	uint32_t psc;			/* tags its entries in the paging-structure cache */
	uint32_t fetch_user, fetch_kernel;
	bool kernel_local;		/* kernel code was fetched in it through an entry that is not global: it has a kernel id of its own */
};
#define PCIDS 4096
/*
 * Guests of the guest (guest.c): a space for each of so many ASIDs, after those of the PCIDs. Each is a world of its own, as the host is: its global entries have ids of
 * their own, which outlive its loads of CR3. It has one space only, which all loads of CR3 flush. The ids of worlds that do not run wait in host_global and guest[].
 */
#define GUEST_SPACES 8
#define SPACES (PCIDS + GUEST_SPACES)
/*
 * The direct mode has no PCIDs: each root that was in force lately, the kernel's or the user's, has a space, known by its frame and that frame's serial, so that a
 * new root in an old frame gets a new one. The last is for no root at all.
 */
#define DIRECT_ROOTS 33
#define DIRECT_NO_ROOT (DIRECT_ROOTS - 1)
struct guest_space {
	uint32_t asid; /* 0: free */
	uint64_t cr0, cr3, cr4, efer;
	struct guest_nest { bool on, nxe; const struct paging_format *format; uint64_t root; } nest;
	struct global_ids { uint32_t id, fetch; } global; /* unless it runs; 0: void */
	uint32_t nest_id;	/* of what the nested table has said; 0: void */
	uint64_t used;
};
/* fetched.c: what was fetched under an id in a guest space. 0: no set. va: of the page, or of 2 MiB | 1; data as level 2 has it. */
#define FETCH_SETS 24
#define FETCH_SET_PAGES 128
struct fetch_set {
	uint32_t id;
	unsigned space;
	bool user;
	uint64_t root, used;
	unsigned pages;		/* beyond FETCH_SET_PAGES: more than there is room for */
	struct fetched_page { uint64_t va, data; } page[FETCH_SET_PAGES];
};
struct asid {
	struct space_ids of[SPACES];
	struct fetch_set fetch_set[FETCH_SETS];
	uint64_t fetch_clock;
	unsigned current;		/* PCID, or PCIDS + n: guest mode, in guest space n */
	struct guest_space guest[GUEST_SPACES];
	uint64_t guest_clock;
	uint32_t next_nest;
	struct global_ids host_global;	/* while a guest runs; 0: void */
	unsigned current_user;		/* whose ids user accesses go by: the same, but in the direct mode */
	struct direct_root { uint64_t root; uint16_t serial; uint64_t used; } direct[DIRECT_ROOTS];
	uint64_t direct_clock;
	uint32_t next_id, floor_id;
	uint32_t next_psc, floor_psc;
	uint32_t next_fetch;		/* up to FETCH_ID_MAX; then a new epoch */
	unsigned guest_in_l1;		/* whose entries level 1 holds in the sets of guest mode: GUEST_SPACES if nobody's */
	uint32_t global_id;		/* of the world that runs: tags global entries in level 2 */
	uint32_t global_fetch;
	bool kernel_local;		/* in some space, perhaps */
	bool user_global;		/* user code was fetched through a global entry */
	struct filter fetched_user, fetched_kernel;
};
#define FETCH_ID_MAX 0xffffu

/*
 * nested.c: paging-structure cache: which page table (level 1), page directory (level 2) or, with 5 levels, directory-pointer table (level 3)
 * serves a region, and the rights above.
 */
#define PSC_ENTRIES 512
#define PSC_ROWS 3
struct psc_entry { uint64_t region, table, rights; uint32_t id, refs; };
struct psc { struct psc_entry of[PSC_ROWS][PSC_ENTRIES]; };

#define FETCH_TAG(page, id) ((page) << 4 | (id)) /* ids have 16 bits; what of the page is lost is its sign */
#define FETCH_CACHE 256
struct fetch_entry { uint64_t tag, data; };

/* auto.c: what an address space has cost lately, and which mode serves it. Known by its root. */
struct auto_space {
	uint64_t root;		/* guest-physical | 1; 0: free */
	uint64_t cost;		/* since the window began; all costs are in references to tables */
	uint64_t nested_cost;	/* of the last window under nested walks */
	uint64_t total;		/* of all windows */
	int64_t debt;		/* what shadow tables have cost more than nested walks would have; below 0: less */
	uint32_t misses;	/* since the window began */
	bool shadow;
};
#define AUTO_SPACES 256
struct auto_modes {
	struct auto_space of[AUTO_SPACES];
	uint32_t window, shadow_cost;	/* misses; of a reference to shadow tables: AUTO_WINDOW and COST_SHADOW but in tests */
	uint32_t payer;		/* slot of the space under shadow tables that ran last: what it pays for is not known better */
	uint64_t writes_seen;	/* table_writes up to here are paid for */
};

struct mmu_private {
	struct walk_controls controls;
	struct { uint64_t va, cr3; enum tlb_set set; } gather;	/* what was asked for */
	uint64_t p2m_generation, serial_epoch, fetched_left, swap_passes;	/* of memory, when what is cached was last brought up to date */
	struct asid asid;
	struct direct_changes direct_seen;	/* of memory->direct, at the last flush */
	struct tlb2 tlb2;
	struct tlb1 tlb1[TLB_SETS];
	uint32_t tlb1_size[3];	/* entries of a set: TLB_L1_SMALL, _LARGE and _WIDE but in tests */
	uint32_t tlb1_limit;	/* of a small set */
	uint64_t tlb1_rest_ns;	/* the shortest rest */
	uint64_t tlb1_forgiven_ns;	/* an entry of a large set: after so long one sweep is forgotten */
	struct psc psc;
	struct walk_space space;
	struct walk_space guest_space;	/* of an L2 with nested paging: reads through nest, from space */
	struct walk_nest nest;
	struct walk_space looking;	/* as space, for walks that change nothing */
	struct walk_space *tables;	/* where the tables in force are read: one of the two */
	struct auto_modes auto_modes;
	struct fetch_entry fetch[FETCH_CACHE];
	uint64_t shadow_root_cr3;	/* root address and role that the link is of */
	uint64_t shadow_root_link;	/* 0: none known */
};

/* Frame m as a translation names it now, and whether a name is good still. A large entry names its first frame. */
static inline uint64_t tr_name(const struct memory *mem, mfn_t m)
{
	return m.v << PAGE_SHIFT | (uint64_t)pool_frame(&mem->pool, m)->serial << TR_SERIAL_SHIFT;
}
static inline mfn_t tr_mfn(uint64_t data) { return mfn((data & TR_MFN_MASK) >> PAGE_SHIFT); }
static inline bool tr_good(const struct memory *mem, uint64_t data)
{
	return pool_frame(&mem->pool, tr_mfn(data))->serial == (uint16_t)(data >> TR_SERIAL_SHIFT);
}

/* What a paging mode answers. */
enum translate_status { TRANSLATED, TRANSLATE_FAULT, TRANSLATE_MMIO, TRANSLATE_NO_FRAME, TRANSLATE_NEST_FAULT };
struct translation {
	uint64_t data;		/* as above; of va's own 4 KiB page */
	bool large;		/* guest page and machine frames allow one 2 MiB entry */
	gpa_t page;		/* guest-physical page of va; for TRANSLATE_NEST_FAULT what L2 takes for physical, to the byte */
	uint64_t error;		/* for TRANSLATE_FAULT, TRANSLATE_NEST_FAULT */
	uint8_t refs;		/* that a walk of the p2m makes for the page; not set by shadow tables */
};
/* Lock held. The access was checked; A and D are set. */
enum translate_status nested_translate(struct mmu *mmu, uint64_t va, unsigned access, struct translation *out);

/* direct.c. */
enum translate_status direct_translate(struct mmu *mmu, uint64_t va, unsigned access, struct translation *out);
/* Frames that no mapping may write, there. */
#define FRAME_READ_ONLY (FRAME_VMM | FRAME_PV_TYPE)
/* The table that an access is looked up in (0: there is none), and what that says: all that direct_translate decides. m: the page's frame, where one was reached. */
uint64_t direct_root(const struct mmu *mmu, unsigned access);
enum walk_status direct_walk(const struct mmu *mmu, struct walk_space *space, uint64_t root, uint64_t va, unsigned access, struct walk *w, mfn_t *m);

/* Whether two roots map the upper half by the same tables. */
bool direct_same_kernel(const struct mmu *mmu, uint64_t a, uint64_t b);

/* auto.c. */
void auto_init(struct mmu *mmu);
enum translate_status auto_translate(struct mmu *mmu, uint64_t va, unsigned access, struct translation *out);
bool auto_is_shadowed(const struct mmu *mmu, uint64_t cr3);

/* Where the paging-structure cache lets a walk of the current tables begin; false: at the root. */
bool nested_cached(struct mmu *mmu, uint64_t va, struct walk *w);

/* The second dimension for the page a walk found: out from w. A page to be written or run has its frame for itself afterwards. Lock held. */
enum translate_status nested_finish(struct mmu *mmu, uint64_t va, unsigned access, const struct walk *w, struct translation *out);
/* A page whose frame is shared is not written or run there. */
static inline bool tr_must_unshare(const struct mmu *mmu, uint64_t data, unsigned access)
{
	return (access & (ACC_WRITE | ACC_EXEC)) && (pool_frame(&mmu->memory->pool, tr_mfn(data))->flags & FRAME_SHARED);
}

/* nest.c: w, that found a page of L2's, to what is physical to L1. *small: the nested table maps it by a 4 KiB page. Lock held. */
enum walk_status nest_final(struct walk_space *space, uint64_t va, unsigned access, struct walk *w, bool *small);
/* g's nested table is in force from now on, walked as the hypervisor's paging says; none (g = NULL, or g has none). */
void nest_set(struct mmu *mmu, const struct walk_controls *hypervisor, struct guest_space *g);
/* What it has said is void, of a guest space or of all. */
#define ALL_GUESTS GUEST_SPACES
void nest_void(struct mmu *mmu, unsigned guest);

/* tlb1.c; fills are in tlb_lookup.h */
void tlb1_init(struct mmu *mmu);
/* tlb1_crowded says so. */
void tlb1_grow(struct mmu *mmu, enum tlb_set set);
/* pool_is_hot says so of frame m, which a large set has come to hold. Takes the lock. */
void tlb1_hot_chunk(struct mmu *mmu, mfn_t m);
/* tlb.c; look-ups are in tlb_lookup.h */
void tlb_init(struct mmu *mmu);
void tlb2_insert(struct mmu *mmu, uint64_t va, bool user, uint64_t data, bool large);
/* Removes va's entries, small and large, global and of the current spaces. */
void tlb2_drop(struct mmu *mmu, uint64_t va);
void tlb2_clear(struct mmu *mmu);
/* Level 1 is about to hold part of a large guest page. */
void tlb1_note_fragment(struct mmu *mmu, uint64_t va);
void tlb1_drop(struct mmu *mmu, uint64_t va);
void tlb1_drop_fragments(struct mmu *mmu, uint64_t va);	/* of the 2 MiB that va lies in, all that level 1 holds */
void tlb1_clear(struct mmu *mmu);
void tlb1_clear_local(struct mmu *mmu);		/* of the world that runs */
void tlb1_clear_world(struct mmu *mmu, unsigned world);
void tlb1_enter_world(struct mmu *mmu, unsigned world);	/* 0 or TLB_WORLD */
void tlb1_write_protect(struct mmu *mmu, mfn_t m);
/* Drops what names frames that pages have left. */
void tlb1_drop_void(struct mmu *mmu);
void tlb1_write_protect_all(struct mmu *mmu);
/* INVLPG's removal, fragments of large pages included. */
void tlb_invalidate_page(struct mmu *mmu, uint64_t va);

void filter_add(struct filter *f, uint64_t number);
bool filter_test(const struct filter *f, uint64_t number);
void filter_clear(struct filter *f);

/* asid.c */
void asid_init(struct mmu *mmu);
void asid_switch(struct mmu *mmu, unsigned pcid);	/* makes it current; its ids become valid */
void asid_flush(struct mmu *mmu, unsigned pcid);	/* all but global entries of that space, in every cache */
void asid_flush_all_local(struct mmu *mmu);
void asid_flush_global(struct mmu *mmu);		/* global entries of the world that runs */
/* Direct: the space of a root's, kept or new, in force from now on for a user's accesses or a supervisor's. Machine address; 0: none. */
void asid_set_root(struct mmu *mmu, uint64_t root, bool user);
void asid_flush_other_globals(struct mmu *mmu);		/* of all others */
void asid_flush_guest(struct mmu *mmu, unsigned guest);	/* all of that world, running or not */
void asid_enter_guest(struct mmu *mmu, unsigned guest);	/* PCIDS + guest becomes current */
void asid_leave_guest(struct mmu *mmu, unsigned pcid);
void asid_new_psc(struct mmu *mmu);			/* the current space's paging-structure cache is void */
void asid_new_fetch_ids(struct mmu *mmu);		/* every (id, va) pair ever handed out is void */
/* A fetch found data (0: unknown), an entry of 2 MiB if large. Gives the fetch an id if it has none yet. */
void asid_fetched(struct mmu *mmu, uint64_t va, bool user, uint64_t data, bool large);


/* fetched.c, guest spaces. A new id is in force in the current one; a page was fetched under the id in force. */
void fetched_begin(struct mmu *mmu, uint32_t id, bool user);
void fetched_note(struct mmu *mmu, uint64_t va, bool user, uint64_t data, bool large);
/* An id that was in force in the current space, if what was fetched under it is as it was; 0: none. Takes the lock. */
uint32_t fetched_revive(struct mmu *mmu, bool user);
/* No such id of users, of supervisors, comes back. */
void fetched_forget(struct mmu *mmu, bool user, bool kernel);

void asid_invalidate_fetched(struct mmu *mmu, uint64_t va);
static inline struct space_ids *asid_current(struct mmu *mmu) { return &mmu->priv->asid.of[mmu->priv->asid.current]; }
static inline bool asid_in_guest(const struct mmu *mmu) { return mmu->priv->asid.current >= PCIDS; }
/* The space that a user's or a supervisor's accesses go by. */
static inline struct space_ids *asid_of(struct mmu *mmu, bool user)
{
	return &mmu->priv->asid.of[user ? mmu->priv->asid.current_user : mmu->priv->asid.current];
}

/* edit.c: what a guest event or one of ours voids; the table there says how. */
enum mmu_event {
	EVENT_CR3, EVENT_CR3_NOFLUSH, EVENT_ROOT, EVENT_ROOTS, EVENT_ROOTS_GLOBAL, EVENT_PAGES, EVENT_FETCHED, EVENT_PAGING_CHANGED, EVENT_RIGHTS_CHANGED, EVENT_INVLPG, EVENT_INVPCID_ADDRESS,
	EVENT_INVPCID_CONTEXT, EVENT_INVPCID_ALL_GLOBAL, EVENT_INVPCID_ALL, EVENT_P2M, EVENT_ALL, EVENT_GUEST,
	EVENT_GUEST_PAGING_CHANGED, EVENT_GUEST_INVPCID_ALL, EVENTS
};
/* Controls that decide translation, as registers and as walks ask for them. Nothing is voided. */
void edit_controls(struct mmu *mmu, uint64_t cr0, uint64_t cr4, uint64_t efer);
void edit_event(struct mmu *mmu, enum mmu_event event, unsigned pcid, uint64_t va);
/* Pages have left frames since this was last called: nothing that can be found names those frames any more. Lock held. */
void edit_frames_changed(struct mmu *mmu);

#endif
