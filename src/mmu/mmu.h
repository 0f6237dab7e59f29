/*
 * mmu.h - one vcpu's memory management unit: from guest-virtual addresses to the machine pool.
 *
 * mmu_access is the one fault path (design: docs/mmu.md): executor, generated code's slow path and instruction
 * fetch all come here. It consults the second-level TLB, then the paging mode (shadow or nested) and
 * fills the TLB; or says which fault it is and whose.
 *
 * struct mmu is embedded in struct vcpu and never sees it. Not thread-safe: only the vcpu's own thread calls these, except where stated;
 * shared state (p2m, frame records, shadow tables) is guarded by memory->lock, taken inside.
 * All functions may run with live guest vector registers.
 */
#ifndef MMU_MMU_H
#define MMU_MMU_H

#include "base/stats.h"
#include "base/trace.h"
#include "mem/memory.h"
#include "mmu/tlb.h"
#include "x86/exception.h"

/*
 * PAGING_DIRECT: the guest's tables hold machine addresses and are the only ones; whoever changes them has them checked first (xen/). Two roots are in force: cr3 for
 * a supervisor's accesses, user_cr3 for a user's, so that going from one to the other costs nothing here.
 */
enum paging_mode { PAGING_NESTED, PAGING_SHADOW, PAGING_DIRECT, PAGING_AUTO };

/* PAGING_AUTO: each address space is translated by nested walks or by shadow tables, as counts say (mmu/auto.c). */
static inline bool paging_has_shadows(enum paging_mode mode) { return mode == PAGING_SHADOW || mode == PAGING_AUTO; }

enum mmu_access_flag {
	ACC_READ = 1, ACC_WRITE = 2, ACC_EXEC = 4,
	ACC_USER = 8,		/* CPL 3 */
	ACC_IMPLICIT = 16,	/* system structure (GDT, IDT, TSS...): supervisor whatever the CPL, SMAP ignores AC */
	ACC_AC = 32,		/* EFLAGS.AC set (SMAP override); meaningless with USER or IMPLICIT */
	ACC_PROBE = 64,		/* check only; still sets A/D bits as an access would, fills nothing */
	ACC_AGAIN = 128,	/* whoever gets another answer than MMU_MAPPED asks again (generated code leaves the store to the executor): a watched frame is counted then */
};

enum mmu_kind {
	MMU_MAPPED,		/* hva valid; the page's TLB entry is filled */
	MMU_INJECT,		/* guest fault: exc */
	MMU_NESTED_EXIT,	/* a nested page fault of the guest's guest, its hypervisor's to handle: exc, with VEC_NPF */
	MMU_MMIO,		/* gpa is not RAM: go to the bus */
	MMU_TRACKED,		/* write to a watched frame: hva valid, but mmu_written must follow the store */
	MMU_HOST_ERROR,		/* machine pool exhausted: the VM stops with one clear reason */
};

struct mmu_result {
	void *hva;		/* of va itself */
	gpa_t gpa;	/* of RAM whose frame is shared: one of the pages there */
	mfn_t mfn;
	struct exception exc;
	bool global;
};

struct mmu_counters {
	uint64_t tlb_l1_misses, tlb_l2_hits, tlb_l2_misses, tlb_fills, tlb_fills_large, tlb_l1_second, tlb_window_misses, tlb_windows_made;
	uint64_t flush_cr3, flush_cr4, flush_invlpg, flush_invpcid, flush_frames, flush_p2m, flush_write_protect, flush_id_wrap, cr3_noflush, world_switches, flush_asid, fetch_ids_revived;
	uint64_t walks, walk_refs_guest, walk_refs_nested, walk_refs_shadow, walk_refs_hardware, walk_cache_hits;
	uint64_t nest_faults, guest_faults, hidden_not_present, hidden_not_backed, hidden_write_protected, hidden_dirty, hidden_moved, hidden_logged, hidden_swapped, hidden_shared;
	uint64_t table_writes, shadow_live, shadow_made, shadow_reclaimed, shadow_roots, mmio_faults, tracked_writes;
	uint64_t frames_backed, mode_switches_shadow, mode_switches_nested, tlb_l1_grown, tlb_l1_shrunk, host_large;
};

struct mmu {
	/* Known to generated code, which reaches what is next to the begin of l1 with a displacement of a byte (bt/bt_internal.h, GS_AT): the kernel's set and, before it, the first sets' stack entries. */
	uint32_t l1_mask[TLB_SETS];	/* TLB_L1_MASK(entries) */
	uint32_t world;			/* first of the sets in use: 0, in guest mode TLB_WORLD */
	uint32_t sets;			/* how many there are: TLB_SETS as soon as there was a guest */
	struct tlb_stack stack_entry[TLB_SETS]; /* of the last set first */
	struct tlb_entry l1[TLB_SETS][TLB_L1_WIDE];	/* of each, as many as l1_mask tells are in use; the host has not given memory to the rest */
	uint64_t span[TLB_SPANS];
	struct tlb_window window[TLB_SETS][TLB_WINDOWS];
	uint8_t window_live[TLB_SETS][TLB_WINDOWS];	/* 1: perhaps not empty */
	uint8_t l1_seconds[TLB_SETS];	/* 1: perhaps a second place of the set has an entry */
	/*
	 * Fetch ids, [0] for CPL < 3 and [1] for CPL 3: generated code's jump caches hold (id, va) pairs. An id changes
	 * whenever a translation that mmu_fetch returned under it may have become invalid or another address space is current; a space that
	 * comes back unflushed brings its id back. Ids are unique modulo 2^16 between two changes of fetch_epoch;
	 * when fetch_epoch changes every cached pair is void. 0, in SVM's guest mode only: nothing has been fetched since a flush, and mmu_fetch will find out which id
	 * is in force.
	 */
	uint32_t fetch_id[2];
	uint32_t fetch_epoch;

	struct memory *memory;
	enum paging_mode mode;
	unsigned va_bits;		/* of a linear address under the paging in force: VA_BITS_4LEVEL, or VA_BITS_5LEVEL with CR4.LA57 in long mode */
	uint64_t cr0, cr3, cr4, efer;	/* as last given to mmu_set_controls and mmu_set_cr3 */
	bool hypervisor;		/* the guest may be one (SVM is offered). Its kernels go through much memory once, which is no reason for large pages of the host's (tlb1_put) */
	uint64_t user_cr3;		/* direct: as last given to mmu_set_user_cr3 */
	struct trace *trace;		/* base/trace.h; 0: nobody asked. Set before the vcpu runs */
	struct mmu_counters counters;
	struct mmu_private *priv;	/* second level, paging-structure caches, shadow roots... */
};

static inline struct tlb_stack *tlb1_stack(struct mmu *mmu, enum tlb_set set) { return &mmu->stack_entry[TLB_SETS - 1 - set]; }

/* Level 1: the slot for va, its number, and how many there are. */
static inline unsigned tlb1_entries(const struct mmu *mmu, enum tlb_set set) { return (mmu->l1_mask[set] >> TLB_ENTRY_SHIFT) + 1; }
static inline unsigned tlb1_index(const struct mmu *mmu, enum tlb_set set, uint64_t va)
{
	return (uint32_t)(va >> (PAGE_SHIFT - TLB_ENTRY_SHIFT) & mmu->l1_mask[set]) >> TLB_ENTRY_SHIFT;
}
static inline const struct tlb_entry *tlb1_entry(const struct mmu *mmu, enum tlb_set set, uint64_t va)
{
	return &mmu->l1[set][tlb1_index(mmu, set, va)];
}
/* The second place of va's entry, in a set that is not small (tlb.h); the same as the first for some. */
static inline bool tlb1_is_large(const struct mmu *mmu, enum tlb_set set) { return mmu->l1_mask[set] > TLB_L1_MASK(TLB_L1_SMALL); }
static inline unsigned tlb1_second(const struct mmu *mmu, enum tlb_set set, uint64_t va)
{
	return (uint32_t)((va >> (PAGE_SHIFT - TLB_ENTRY_SHIFT) ^ TLB_SECOND(va)) & mmu->l1_mask[set]) >> TLB_ENTRY_SHIFT;
}
/* The entry that has va's page, wherever it is; if none has, one that has not. */
static inline const struct tlb_entry *tlb1_find(const struct mmu *mmu, enum tlb_set set, uint64_t va)
{
	const struct tlb_entry *e = tlb1_entry(mmu, set, va);

	return e->tag_read == (va & PAGE_MASK) || !mmu->l1_seconds[set] ? e : &mmu->l1[set][tlb1_second(mmu, set, va)];
}

static inline bool mmu_canonical(const struct mmu *mmu, uint64_t va) { return va_canonical(va, mmu->va_bits); }

/* 0 or -errno. l1 need not be zero and is not touched beyond what is used: where *mmu lies in memory that the host has yet to give, that stays so. */
int mmu_init(struct mmu *mmu, struct memory *memory, enum paging_mode mode);
void mmu_destroy(struct mmu *mmu);

/*
 * Translates one access that lies within a 4 KiB page. Fills out and the TLB. Of ACC_READ|ACC_WRITE together,
 * the write decides (read-modify-write). With paging off, va is the physical address.
 * va need not be canonical-checked by the caller's caller: it must be; ASSERTs it is canonical.
 */
enum mmu_kind mmu_access(struct mmu *mmu, gva_t va, unsigned access, struct mmu_result *out);

/*
 * The quick part of mmu_access, for generated code whose probe of level 1 in this set missed: what level 2 has as a small page, with all rights that it needs, is
 * in level 1 afterwards. False: nothing has happened, ask mmu_access. va is any 64-bit number.
 */
bool mmu_refill(struct mmu *mmu, uint64_t va, enum tlb_set set, bool write);

/*
 * Generated code's window n of the set has missed often: it becomes the run of pages around va, as far as level 1 has them. Returns how many misses that
 * level 1 served have led here. And: level 1 has just got va's page, which the window takes in if its run goes on there.
 */
uint32_t mmu_window_make(struct mmu *mmu, enum tlb_set set, unsigned n, uint64_t va);
void mmu_window_grow(struct mmu *mmu, enum tlb_set set, unsigned n, uint64_t va);

/*
 * Windows miss around va: if the pages there could lie better, mmu_gather is asked for (memory.gather), if not now then later. mmu_gather moves them, if the space is still the same: to be called
 * as memory_move is, but that it does the rest itself. How many moved.
 */
enum gather_answer { GATHER_USELESS, GATHER_LATER, GATHER_ASKED };
enum gather_answer mmu_gather_ask(struct mmu *mmu, enum tlb_set set, uint64_t va);
uint64_t mmu_gather(struct mmu *mmu);
/* Instruction fetch from the page of va. MMU_MAPPED, MMU_INJECT, MMU_MMIO (no code there) or MMU_HOST_ERROR. Fast when repeated. */
enum mmu_kind mmu_fetch(struct mmu *mmu, gva_t va, bool user, struct mmu_result *out);

/* After a store to a frame that mmu_access called MMU_TRACKED: shadows follow the table, code writes are queued (mem/track.h). */
void mmu_written(struct mmu *mmu, mfn_t m, unsigned offset, unsigned len);

/* Drops every writable TLB entry for m (it has become watched). */
void mmu_write_protect(struct mmu *mmu, mfn_t m);

/* Drops the right to write from every TLB entry that generated code sees (many frames have become watched). */
void mmu_write_protect_all(struct mmu *mmu);

/* Guest events. The flush each causes is one table in mmu/edit.c. The values have been checked for reserved bits. */
void mmu_set_controls(struct mmu *mmu, uint64_t cr0, uint64_t cr4, uint64_t efer);
void mmu_set_cr3(struct mmu *mmu, uint64_t cr3);	/* bit 63: NOFLUSH, if CR4.PCIDE */
/*
 * Direct: machine address of the root of user accesses, 0 for none (they all fault). This and mmu_set_cr3 void what was taken from the guest's tables since
 * (mmu/direct.h: they must be told of it), and nothing else.
 */
void mmu_set_user_cr3(struct mmu *mmu, uint64_t cr3);
/* Direct: the same, without a load. */
void mmu_flush_local(struct mmu *mmu);
/*
 * Direct, memory->lock held: the machine address of the level-1 entry for va (canonical) below the supervisor's root; false if the tables do not get there. Sets
 * accessed bits, as an access would.
 */
bool mmu_direct_entry(struct mmu *mmu, gva_t va, uint64_t *at);
void mmu_invlpg(struct mmu *mmu, gva_t va);
enum { INVPCID_ADDRESS, INVPCID_CONTEXT, INVPCID_ALL_GLOBAL, INVPCID_ALL };
void mmu_invpcid(struct mmu *mmu, unsigned type, uint16_t pcid, gva_t va);
void mmu_flush_all(struct mmu *mmu);
/*
 * SVM (guest.c): all registers that decide translation at once, into the address space `asid` (not 0) of a guest of the guest, or back. What was cached for
 * an ASID stays while these registers are what they were and `flush` is not asked for. Not with PAGING_DIRECT. nested: what the guest takes for physical is
 * translated by the table at ncr3, in the paging mode that is in force before.
 */
enum mmu_guest_flush { GUEST_KEEP, GUEST_FLUSH_ASID, GUEST_FLUSH_ALL /* the host's too */ };
void mmu_enter_guest(struct mmu *mmu, uint32_t asid, enum mmu_guest_flush flush, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer,
		     bool nested, uint64_t ncr3);
void mmu_leave_guest(struct mmu *mmu, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer);
/* INVLPGA: one page of an ASID, 0 the host's. */
void mmu_invlpga(struct mmu *mmu, uint32_t asid, gva_t va);
/*
 * What a guest whose hypervisor gave it a nested table takes for physical address p: *out is the hypervisor's address of it. MMU_MAPPED, MMU_NESTED_EXIT (exc), MMU_HOST_ERROR.
 * access: ACC_READ or ACC_WRITE.
 */
enum mmu_kind mmu_guest_physical(struct mmu *mmu, gpa_t p, unsigned access, gpa_t *out, struct exception *exc);
/*
 * Pages have moved to other frames or lost them, any number since this was last called: forgets the frames that they left, in the TLB and in shadow tables, and
 * nothing else. With the vcpu outside generated code, before it runs again and before memory_release.
 */
void mmu_frames_changed(struct mmu *mmu);

/* Checks all numbered invariants of docs/mmu.md against fresh walks; writes the first violation to msg. 0 if clean. Cold. */
int mmu_audit(struct mmu *mmu, char *msg, size_t size);

extern const struct stat_row mmu_stat_rows[];
extern const size_t mmu_stat_row_count;

#endif
