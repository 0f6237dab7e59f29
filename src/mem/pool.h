/*
 * pool.h - the machine pool: the frames that stand for the VM's machine memory.
 *
 * The pool is one contiguous host mapping, reserved but not committed; frame m lives at base + m * 4096. A frame costs host memory only
 * once handed out (the pool populates it then; on virtual hosts a host page fault costs over 10 us and
 * madvise(MADV_POPULATE_WRITE) of one page a tenth, so never touch an unpopulated frame).
 *
 * Placement decides which frame a guest-physical page gets:
 *   linear   2 MiB chunks in order of first touch; a page has its own place in its chunk, so a wholly backed
 *            chunk can become one large p2m leaf
 *   scatter  2 MiB chunks in random order, the frames of each in random order (seeded): nothing may assume p and m are related
 */
#ifndef MEM_POOL_H
#define MEM_POOL_H

#include "x86/types.h"

enum placement { PLACEMENT_LINEAR, PLACEMENT_SCATTER };

/*
 * Why a frame is watched. TLB entries never allow writes to a frame with any of these set; a writer must go through
 * track_written (mem/track.h) after the store.
 */
enum frame_flag {
	FRAME_CODE = 1u << 0,	/* translated code came from granules of this frame */
	FRAME_TABLE = 1u << 1,	/* a guest page table that is shadowed */
	FRAME_DIRTY_LOG = 1u << 2,
	FRAME_PV_TYPE = 1u << 3,
	FRAME_SHARED = 1u << 4,	/* several equal pages have it (mem/share.c); it is never written: who wants to write gets a frame of its own */
	FRAME_TRACKED = 0xff,
	FRAME_ALLOCATED = 1u << 8,
	FRAME_VMM = 1u << 10,		/* ours, not the guest's: it may read it where we let it (direct mode: M2P), never write it */
	FRAME_MOVED = 1u << 9,		/* its page has come from another frame, and nobody has missed it yet (hidden_moved) */
	FRAME_GLOBAL_TABLE = 1u << 12,	/* direct mode: a table that global translations have come by (mmu/direct.h) */
	FRAME_FETCHED = 1u << 11,	/* code was fetched from it: fetch ids (mmu/mmu.h) may lead there */
};

/* Granule: 64 bytes, the unit in which code is tracked; bit n of code_granules covers bytes [64n, 64n+64). */
#define GRANULE_SHIFT 6

struct frame {
	uint64_t gfn;		/* guest frame backed by it, ~0 if none; FRAME_SHARED: one of them */
	uint64_t code_granules;
	uint16_t flags;		/* enum frame_flag */
	uint16_t serial;	/* steps when a page leaves it: whatever names the frame with another serial is void (memory.h) */
	uint32_t code_head;	/* bt/: first block of this frame, index + 1, 0 none */
	uint32_t shadow_head;	/* mmu/: first shadow page of this guest table, index + 1, 0 none */
	uint32_t spare;
};

struct pool {
	uint8_t *base;		/* host address of frame 0 */
	uint64_t frames;	/* capacity */
	uint64_t placed;	/* those that placement hands out, the first; the others, which are kept apart, only pool_take does */
	uint64_t used;		/* frames handed out and not freed */
	enum placement placement;
	struct frame *frame;	/* one record a frame */
	uint8_t *heat;		/* one byte a 2 MiB chunk, by pool_is_hot */
	uint8_t *touched;	/* one byte a frame: used since the clock's hand passed (swap.c); 0 if nothing is swapped */
	struct pool_private *priv;
};

/* `apart` frames more are kept apart, behind the others. 0 or -errno. */
int pool_init(struct pool *pool, uint64_t frames, uint64_t apart, enum placement placement, uint64_t seed);
void pool_destroy(struct pool *pool);

/* A zeroed frame for guest frame gfn (the hint is used by linear placement), MFN_NONE if none is left. */
mfn_t pool_alloc(struct pool *pool, uint64_t gfn);
void pool_free(struct pool *pool, mfn_t m);

/*
 * The same without giving it memory yet: for a guest that must know the numbers of all its frames from the start. pool_touch gives it memory (cheaply, while
 * frames are touched in order); a frame that nobody touched through it costs a host page fault at its first use.
 */
mfn_t pool_reserve(struct pool *pool, uint64_t gfn);
void pool_touch(struct pool *pool, mfn_t m);
/* The same for a frame of the caller's choice; MFN_NONE if it is not free. Set-up only, but for one that is kept apart: it searches. */
mfn_t pool_take(struct pool *pool, mfn_t m, uint64_t gfn);

/*
 * All of these guest frames are about to be written: linear placement gives whole chunks of them memory at once, in large pages of the
 * host's if it has some. A hint: nothing is handed out, failure shows later.
 */
void pool_prepare(struct pool *pool, uint64_t gfn, uint64_t frames);

/*
 * A guest whose accesses are spread over more memory than its TLB holds misses the host's TLB, too. The POOL_HOT-th such use of a 2 MiB chunk (pool_is_hot) is the time for
 * pool_make_large: if all of its frames have memory, it becomes a large page of the host's. That copies the chunk, but contents and host addresses stay. LATER: not all
 * have memory; uses are counted anew. REFUSED: the host has no large page for it, or makes none at all.
 */
#define POOL_HOT 64
enum pool_large { POOL_LARGE_LATER, POOL_LARGE_REFUSED, POOL_LARGE_MADE };
enum pool_large pool_make_large(struct pool *pool, mfn_t m);
static inline bool pool_is_hot(struct pool *pool, mfn_t m)
{
	uint8_t *heat = &pool->heat[m.v >> (21 - PAGE_SHIFT)];

	return *heat < POOL_HOT && ++*heat == POOL_HOT;
}

static inline void *pool_ptr(const struct pool *pool, mfn_t m) { return pool->base + (m.v << PAGE_SHIFT); }
static inline struct frame *pool_frame(const struct pool *pool, mfn_t m) { return &pool->frame[m.v]; }
static inline mfn_t pool_mfn_of(const struct pool *pool, const void *hva)
{
	return mfn((uint64_t)((const uint8_t *)hva - pool->base) >> PAGE_SHIFT);
}

#endif
