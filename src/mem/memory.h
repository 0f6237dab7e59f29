/*
 * memory.h - the VM's guest-physical memory: which ranges are RAM, the p2m that maps their frames
 * to machine frames, and access for devices and loaders.
 *
 * Invariants
 *  M1  a p2m leaf maps only frames of RAM regions, and the frame's record names that gfn
 *  M2  no machine frame is mapped twice, unless it has FRAME_SHARED: then by two guest frames or more, which form a ring (share.c)
 *  M3  a RAM page never accessed has no frame
 *  M4  a frame with FRAME_SHARED is not written: it holds what it did when its pages came together
 *  D1  (log.c) while the dirty log is on, a page that has a frame of its own is watched for it, or its bit is set, never both
 *
 * The p2m is a radix in NPT format (AMD APM vol. 2, "Nested Paging"): 4 levels of 512 entries, frames in the address field are *machine*
 * frame numbers << 12, P|W|U(|PS at 2 MiB for a wholly backed, contiguous chunk). Table pages live in host memory outside the pool, so an
 * entry that names a table holds its host address; an entry that names a table of leaves counts them in bits 52 to 61.
 */
#ifndef MEM_MEMORY_H
#define MEM_MEMORY_H

#include "base/stats.h"
#include "base/tune.h"
#include "mem/pool.h"
#include "mem/track.h"

#define MEMORY_MAX_REGIONS 8
struct memory_region { uint64_t base, len; }; /* RAM, page aligned, ascending */

struct memory_counters {
	uint64_t frames_moved, pages_gathered, log_fetches, swapped_out, swapped_in, swap_zeros, swap_rounds;
	uint64_t pages_shared, pages_sharing, pages_merged, pages_unshared, pages_scanned, share_passes;
};

/* Where cold pages go (swap.c). */
struct memory_swap {
	bool on;
	int fd;			/* the file; whoever opened it closes it */
	uint64_t low, high;	/* free frames: fewer than low are a reason to ask for room; high is what is made then */
	uint64_t hand;
	uint64_t passes;	/* steps when marks in pool.touched were cleared: what is used without marking (level 1 of TLBs, fetch ids) must be dropped */
	/* Told once, with the lock held and guest vector registers live, that memory_make_room should be called soon. 0 while no vcpu runs. */
	void (*short_of_frames)(void *opaque);
	void *opaque;
	bool asked;
	int error;		/* errno of the first transfer that failed */
	bool error_reading;
};

/* Equal pages on one frame (share.c), and the search for them (share_scan.c). Arrays are by guest frame; 0 while nothing was ever shared. */
struct memory_share {
	uint32_t *next, *prev;		/* of a page on a shared frame: the ring of those that have it */
	uint32_t *sum;			/* of its contents, when the scanner last came by or it came to share a frame */
	struct share_slot *slot;	/* pages by contents */
	uint64_t slots, slot_bytes, hand;
	const void *thread;		/* whose pages these are to change (memory_share_on) */
};

/* Where pages that are used side by side lie side by side (gather.c). */
#define GATHER_AREAS 16
#define GATHER_AREA_PAGES (MIB(16) >> PAGE_SHIFT)	/* records of frames are what they cost: 192 KiB an area */
struct memory_gather {
	uint64_t area_pages;		/* of an area; 0: there are none */
	struct { uint64_t space_plus_1, stretch; } area[GATHER_AREAS];
	unsigned next;
	/*
	 * Told on a vcpu's thread, with guest vector registers live, that mmu_gather should be called soon, once: asked is set until then. False: not now, but there is no reason against it
	 * later. 0: nobody does.
	 */
	bool (*wanted)(void *opaque);
	void *opaque;
	bool asked;
};

struct memory {
	struct pool pool;
	struct track track;
	struct memory_region region[MEMORY_MAX_REGIONS];
	unsigned regions;
	uint64_t *p2m_root;		/* NPT-format top table (host pointer) */
	uint64_t backed;		/* frames in the p2m */
	/*
	 * A present p2m entry changes or goes (not: becomes present): p2m_generation steps, and so does the serial of the frame that the page leaves. Whoever
	 * keeps a frame's number keeps its serial with it, and takes the pair for void when the frame's is another. Of a 2 MiB leaf the first
	 * frame's serial counts, which steps when the leaf is split. serial_epoch steps when a serial comes around: then all pairs are void.
	 */
	uint64_t p2m_generation, serial_epoch;
	uint64_t fetched_left;		/* frames with FRAME_FETCHED that pages have left */
	/* Direct mode (mmu/direct.h): changes that took something from the guest's tables, as each kind of cached answer must know of them. */
	struct direct_changes { uint64_t pages, fetched, tables, global; } direct;
	void *lock;			/* pthread_mutex_t: p2m, frame records, shadow tables, both queues of track */
	struct p2m_private *p2m;	/* table pages */
	uint32_t moved_head;		/* frames that pages moved away from, index + 1, linked through frame.spare */
	uint64_t moved;
	struct memory_counters counters;	/* under the lock */
	struct memory_swap swap;
	struct memory_gather gather;
	struct memory_share share;
	void *shadow;			/* mmu/: the VM's shadow tables, 0 if none */
	uint32_t shadow_pages;		/* most shadow pages there may be; 0: mmu/ decides. Set before the first vcpu */
	const struct tune *tune;	/* the VM's switches (base/tune.h), 0 for the defaults */
};

/* RAM of `bytes`: [0, 3 GiB) and the rest from 4 GiB up. bytes is rounded up to whole pages. 0 or -errno. */
int memory_init(struct memory *mem, uint64_t bytes, enum placement placement, uint64_t seed);
/* The same with a machine pool of so many bytes, which need not hold all of it; if it does, with GATHER_AREAS areas of area_pages each (gather.c; 0: none). */
int memory_init_limited(struct memory *mem, uint64_t bytes, uint64_t machine_bytes, uint64_t area_pages, enum placement placement, uint64_t seed);
/*
 * One region without a hole below 4 GiB, and so many frames more in the pool: for a guest that is not a PC (direct mode), where guest frame numbers are the
 * guest's own affair once it runs.
 */
int memory_init_machine(struct memory *mem, uint64_t bytes, uint64_t spare_frames, enum placement placement, uint64_t seed);
void memory_destroy(struct memory *mem);
bool memory_is_ram(const struct memory *mem, gpa_t p);

/* Not recursive. p2m_* and track_* are called with the lock held, memory_* without. */
void memory_lock(struct memory *mem);
void memory_unlock(struct memory *mem);

#define P2M_LEVELS 4
enum p2m_result { P2M_MAPPED, P2M_NOT_RAM, P2M_NO_FRAME /* pool or host exhausted */ };
struct p2m_entry {
	mfn_t m;	/* frame of p itself */
	uint8_t shift;	/* 12 or 21: size of the leaf */
	uint8_t refs;	/* table entries read on the way */
	bool swapped_in; /* it came back from the swap file just now */
};
/* Table entries that a walk of the p2m reads to a leaf of that size. */
static inline unsigned p2m_refs(unsigned shift) { return P2M_LEVELS - (shift - PAGE_SHIFT) / 9; }
/* The frame behind p, as it stands: false if absent. */
bool p2m_lookup(const struct memory *mem, gpa_t p, struct p2m_entry *out);
/* Whether p has no frame because its page is in the swap file. */
bool p2m_is_swapped(const struct memory *mem, gpa_t p);
/* The entries read for p, by level, entry[P2M_LEVELS] first; the level of the last one, present or not. For people to see. */
uint8_t p2m_path(const struct memory *mem, gpa_t p, uint64_t entry[P2M_LEVELS + 1]);
/* The same, backing the page on first use (a hidden fault: *fresh set). */
enum p2m_result p2m_back(struct memory *mem, gpa_t p, struct p2m_entry *out, bool *fresh);

/*
 * Moves the page at p to another frame (compaction): contents and p2m follow; translated code of the old frame
 * is queued for invalidation. All vcpus must be outside generated code; each calls mmu_frames_changed and has the translator drain
 * its queue before it runs again; then memory_release frees the old frames. It leaves those that blocks can still be found through, so it may be called
 * at any time after mmu_frames_changed. 0, -ENOENT if p is not backed, -ENOMEM if no frame is left.
 */
int memory_move(struct memory *mem, gpa_t p);
void memory_release(struct memory *mem);
/* Lock held: the page of frame m has another frame now, or none; its code is queued for invalidation, and memory_release frees it. */
void memory_leave_frame(struct memory *mem, mfn_t m);
/* Only: what names frame m, as itself or as the first of a 2 MiB leaf, is void from now on. Lock held. */
void memory_void_names(struct memory *mem, mfn_t m);

/*
 * Gathering (gather.c). memory_gather_place: the frame that the page at va of an address space has in an area; lock held, and there are areas. memory_gather moves pages to such
 * frames, and exchanges them with those that are there; pages and frames that anything else is known of (memory_may_gather) stay. Conditions and what follows as for memory_move. How many moved.
 */
struct gather_page { uint64_t gfn; mfn_t to; };
mfn_t memory_gather_place(struct memory *mem, uint64_t space, uint64_t va);
bool memory_may_gather(const struct memory *mem, mfn_t m);
uint64_t memory_gather(struct memory *mem, const struct gather_page *page, uint64_t pages);

/*
 * Sharing (share.c). memory_share lets the page at p have the frame of the page at q, if they are equal and the frames are plain (no page table that is shadowed, no translated
 * code). Conditions and what follows as for memory_move. 0, -ENODEV while sharing is off, -ENOENT if one of them has no frame or they share one already, -EBUSY if a frame
 * is not plain, -EINVAL if they differ, -ENOMEM.
 *
 * memory_share_on: by the thread of the vcpu. From then on only this thread may call memory_write, and mmu_frames_changed must follow it before the vcpu accesses memory
 * again, since the page may leave a shared frame (asserted: a device on another thread posts its stores as work). Once on, it stays on. 0 or -ENOMEM.
 */
int memory_share_on(struct memory *mem);
void memory_share_off(struct memory *mem);	/* memory_destroy's part */
int memory_share(struct memory *mem, gpa_t p, gpa_t q);
/* Looks at so many guest frames, fewer if it finds much, from where it last stopped, and shares those that did not change since it last came by (share_scan.c). How many; otherwise as memory_share. */
uint64_t memory_share_scan(struct memory *mem, uint64_t pages);
/* Lock held; *e is p's entry, whose frame is shared: p gets a frame of its own. The vcpus must forget the shared one (edit_frames_changed). P2M_MAPPED or P2M_NO_FRAME. */
enum p2m_result p2m_unshare(struct memory *mem, gpa_t p, struct p2m_entry *e);
/* Lock held: whether gfn is (one of) the pages on frame m. */
bool p2m_maps(const struct memory *mem, uint64_t gfn, mfn_t m);
/*
 * The guest has given up what is in the `pages` from p on (balloon): they lose their frames, or their place in the swap file, and read as zeros. What is not RAM is
 * passed over. Conditions and what follows as for memory_move. How many had a frame; -ENOMEM when a 2 MiB leaf could not be split (the rest keeps its frames).
 */
int64_t memory_discard(struct memory *mem, gpa_t p, uint64_t pages);

/*
 * Swapping (swap.c). memory_make_room puts pages that were not used lately out, until `high` frames are free or will be once memory_release has been
 * called; all vcpus must be outside generated code, and each calls mmu_frames_changed before memory_release. 0 or -errno (a page that cannot be written stays).
 * Loaders need not care: while short_of_frames is 0, memory_write makes room itself.
 */
int memory_swap_on(struct memory *mem, int fd);
void memory_swap_off(struct memory *mem);
int memory_make_room(struct memory *mem);
/* Reads from a page that is swapped out, and changes nothing. */
bool memory_peek_swapped(const struct memory *mem, gpa_t p, void *buf, uint64_t len);

/*
 * The dirty log (log.c): which guest pages are written, by anybody: the guest, its page-table walks (A and D bits), devices. All vcpus must be
 * outside generated code for start and fetch, and each calls mmu_write_protect_all afterwards. A bitmap has memory_log_words words; bit n of word i is
 * guest frame 64i + n.
 */
int memory_log_start(struct memory *mem);	/* 0, -EBUSY if it is on, -ENOMEM */
/* The pages written since the start or the last fetch (bitmap may be 0), which are clean again from now on. How many; -EINVAL if the log is off. */
int64_t memory_log_fetch(struct memory *mem, uint64_t *bitmap);
void memory_log_stop(struct memory *mem);
uint64_t memory_log_words(const struct memory *mem);

/* For loaders and devices: any length, crosses pages, backs lazily, honours tracking. 0 or -EFAULT when a byte is not RAM
 * (then nothing was written), -ENOMEM when frames ran out. Reading an absent page yields zeros and does not back it. */
int memory_read(struct memory *mem, gpa_t p, void *buf, size_t len);
int memory_write(struct memory *mem, gpa_t p, const void *buf, size_t len);
/* Some parts of the page at `page`, which are taken from the same places of `image`: as memory_write of each, at less cost. */
struct memory_part { uint16_t offset, len; };
int memory_write_parts(struct memory *mem, gpa_t page, const void *image, const struct memory_part *part, size_t parts);

/* For loaders: [p, p + len), which is RAM, will be written as a whole (pool_prepare). */
void memory_prepare(struct memory *mem, gpa_t p, uint64_t len);

extern const struct stat_row memory_stat_rows[];
extern const size_t memory_stat_row_count;

/* Checks M1 to M4 and D1 for the whole p2m; the first violation to msg. 0 if clean. Lock held. Cold. */
int p2m_audit(const struct memory *mem, char *msg, size_t size);

#endif
