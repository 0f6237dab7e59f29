/*
 * tlb.h - the software TLB of one vcpu: two levels, tagged by address space.
 *
 * Level 1 is what generated code probes inline: direct-mapped, one array for each way of accessing (enum tlb_set),
 * 4 KiB entries of the current address space only. An array has TLB_L1_SMALL entries, or TLB_L1_LARGE or TLB_L1_WIDE while its guest uses many pages over
 * and over (tlb1.c); l1_mask[set] says which. The probe for an access of `size` bytes at va is
 *
 *     entry  = l1[set] + (va >> 7 & l1_mask[set]) bytes
 *     offset = va - entry->tag_read            (or tag_write)
 *     hit    = offset <= 4096 - size           (unsigned: tests the tag and page crossing at once)
 *     host   = entry->host + offset
 *
 * An array that is not small may hold a page's entry in one more place, whose offset is that of the first, xor TLB_SECOND(va): an entry that another displaces from its first place goes
 * there. So pages that are a large power of two apart, which all have one first place or few, do not displace each other. Code that missed in the first place looks there before it
 * calls C (bt/stubs.c); one look in so many goes to C all the same, which puts the entry back into its first place.
 *
 * Level 2 is set-associative, tagged with a space id, keeps large pages as single entries and is probed in C on a level-1 miss.
 *
 * Invariants
 *  T1  an invalid tag in slot i is TLB_INVALID_TAG(i): its lowest index bit differs from i's, so no va that selects slot i, as its first place or its second, can hit,
 *      not even a non-canonical one; valid tags are canonical and page aligned; a page has at most one entry in a set
 *  T2  tag_write is valid only if the guest's D bit is set, the guest allows the write in this set, and the
 *      machine frame is not watched (struct frame.flags & FRAME_TRACKED) nor shared
 *  T3  level 1 holds translations of the current space (and global ones) only, and in the other world's sets those of the space that it was left in
 *  T4  flushing a space never sweeps another's entries: it gives the space a new id
 *  T5  every entry that can be found names a frame that is handed out and is the p2m's frame for the gfn in its record; a
 *      large entry, 512 of them
 *  T6  a stack entry is invalid, or a copy of a writable level-1 entry made since anything was last dropped or changed
 *  T7  a span is 0, or lies in the page of a level-1 entry or in a window, writable if it is written through, that was valid since anything was last
 *      dropped or changed; it is read only in the run of the block that wrote it
 *  T9  a window is empty, or every page in it is as a level-1 entry of its set, made or met since anything was last dropped or changed, had it
 */
#ifndef MMU_TLB_H
#define MMU_TLB_H

#include "x86/types.h"

/* How an access is made. KERNEL_AC: supervisor access to user pages is allowed (CR4.SMAP clear, or EFLAGS.AC set). */
enum tlb_set { TLB_KERNEL, TLB_KERNEL_AC, TLB_USER, TLB_WORLD, TLB_SETS = 2 * TLB_WORLD };
/* The second half is that of SVM's guest mode, TLB_WORLD + the set: what the other world has cached stays over VMRUN and #VMEXIT. */
static inline bool tlb_set_is_user(enum tlb_set set) { return set % TLB_WORLD == TLB_USER; }

#define TLB_L1_SMALL_SHIFT 10
#define TLB_L1_LARGE_SHIFT 15
#define TLB_L1_WIDE_SHIFT 17
#define TLB_L1_SMALL (1u << TLB_L1_SMALL_SHIFT)
#define TLB_L1_LARGE (1u << TLB_L1_LARGE_SHIFT)	/* 128 MiB */
#define TLB_L1_WIDE (1u << TLB_L1_WIDE_SHIFT)	/* 512 MiB */
/* Bits 21 and up of the address, to the bits of an entry's offset but the lowest: T1. */
#define TLB_SECOND_SHIFT (21 - TLB_ENTRY_SHIFT - 1)
#define TLB_SECOND(va) ((va) >> TLB_SECOND_SHIFT & -(2ull << TLB_ENTRY_SHIFT))
#define TLB_SECOND_TURNS 64	/* power of two, at most 128; the size that an access has at most that is served there, too */
#define TLB_INVALID_TAG(i) ((uint64_t)((i) ^ 1u) << PAGE_SHIFT)

/* Layout known to generated code (bt/). 32 bytes. */
struct tlb_entry {
	uint64_t tag_read;
	uint64_t tag_write;
	uint64_t host;		/* host address of the page's first byte */
	uint64_t aux;		/* for tlb.c */
};

/*
 * One more entry a set, for the page that the guest's stack pointer is in: probed by PUSH, POP, CALL, RET and accesses based on RSP, with no index to
 * compute. An access of 1 << n bytes (n < TLB_STACK_SIZES) hits if va - tag < limit[n]: 4096 - (1 << n) + 1, or 0 when invalid.
 * Always a copy of a writable level-1 entry; whatever drops or changes level-1 entries invalidates it (T6).
 */
#define TLB_STACK_SIZES 4
struct tlb_stack { uint64_t limit[TLB_STACK_SIZES], tag, host; };

/*
 * Host addresses that a block of generated code has looked up for several accesses off one base, for use by the later of them; 0: look up
 * again. Written by the first access, cleared whenever level-1 entries are dropped or changed (T7).
 */
#define TLB_SPANS 8

/*
 * Windows: runs of pages that are contiguous in virtual and in host memory and have the same rights, each the last that some of the accesses of generated code
 * found in level 1 (by base register, bt/lower_window.c). An access at va hits if va - base < limit[class][write], with class the first for which it
 * is no larger than tlb_window_size[class]; it is then at va + delta. Empty: all limits 0 (T9). Whoever drops or changes level-1 entries
 * empties them all.
 */
#define TLB_WINDOWS 16
#define TLB_WINDOW_CLASSES 4
#define TLB_WINDOW_PAGES 8192
static const uint16_t tlb_window_size[TLB_WINDOW_CLASSES] = { 8, 32, 64, 256 };
struct tlb_window {
	uint64_t base, delta, limit[TLB_WINDOW_CLASSES][2 /* read, write */];
	int32_t credit;		/* so many misses that level 1 serves until the run is made anew (window.c) */
	int32_t granted;	/* credit that it began with */
} __attribute__((aligned(64)));
static inline uint64_t tlb_window_length(const struct tlb_window *w) { return w->limit[0][0] ? w->limit[0][0] + tlb_window_size[0] - 1 : 0; }

#define TLB_ENTRY_SHIFT 5
_Static_assert(sizeof(struct tlb_entry) == 1 << TLB_ENTRY_SHIFT, "masks are of byte offsets");
#define TLB_L1_MASK(entries) (((uint32_t)(entries) - 1) << TLB_ENTRY_SHIFT)

#endif
