/*
 * pool.c - hands out machine frames: placement, population and release.
 *
 * A frame's life: reserved (address space only) -> populated (the host has given it memory, perhaps a little ahead of
 * its use) -> allocated (FRAME_ALLOCATED, handed out) -> freed (memory given back, reserved again). A frame
 * is all zero whenever it is not allocated.
 */
#include "mem/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define CHUNK_SHIFT 9 /* frames in a 2 MiB chunk, as a shift */
#define CHUNK_FRAMES (1ull << CHUNK_SHIFT)
#define CHUNK_BYTES (CHUNK_FRAMES << PAGE_SHIFT)
#define GUARD_BYTES MIB(2)	/* unmapped on either side: a stray access ends in a fault of ours */
#define AHEAD_MAX 16		/* frames populated at once when first touches are sequential */
#define LARGE_FAILURES 16	/* chunks that the host could not make large before it is asked no more */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25	/* Linux 6.1 */
#endif

struct chunk_slot { uint64_t guest_chunk_plus_1; uint64_t chunk; };

struct pool_private {
	void *map;		/* reservation, guards included */
	size_t map_bytes;
	size_t frame_bytes;
	uint64_t *populated;	/* one bit a frame */
	size_t populated_bytes;
	bool no_populate;	/* the host kernel lacks MADV_POPULATE_WRITE */
	unsigned large_failures;
	size_t heat_bytes;

	/* linear: which chunk stands for which guest chunk (open addressing) */
	struct chunk_slot *chunk;
	size_t chunk_slots;	/* power of two */
	uint64_t chunks, chunks_used;
	uint64_t cursor;	/* where the search for any free frame goes on */

	/* scatter: a permutation made as it is used; order[i] ^ i so that zero pages mean identity */
	uint32_t *order;
	size_t order_bytes;
	uint64_t random;

	uint64_t placed_used;	/* of the frames that placement hands out */
};

static void *reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void unreserve(void *p, size_t bytes)
{
	if (p)
		munmap(p, bytes);
}

/* The body is aligned to 2 MiB, so that a wholly backed chunk may become a large page of the host's too. */
static int map_body(struct pool *pool)
{
	struct pool_private *priv = pool->priv;
	size_t body = pool->frames << PAGE_SHIFT;
	uintptr_t start;

	priv->map_bytes = body + 2 * GUARD_BYTES + CHUNK_BYTES;
	priv->map = mmap(NULL, priv->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (priv->map == MAP_FAILED) {
		priv->map = NULL;
		return -errno;
	}
	start = ALIGN_UP((uintptr_t)priv->map + GUARD_BYTES, CHUNK_BYTES);
	pool->base = (uint8_t *)start;
	if (mprotect(pool->base, body, PROT_READ | PROT_WRITE))
		return -errno;
	/* One touched page must not cost 2 MiB. */
	madvise(pool->base, body, MADV_NOHUGEPAGE);
	madvise(pool->base, body, MADV_DONTDUMP);
	return 0;
}

static int init_linear(struct pool_private *priv, uint64_t frames)
{
	priv->chunks = frames >> CHUNK_SHIFT;
	priv->chunk_slots = 64;
	while (priv->chunk_slots < 2 * (priv->chunks + 1))
		priv->chunk_slots *= 2;
	priv->chunk = calloc(priv->chunk_slots, sizeof(*priv->chunk));
	return priv->chunk ? 0 : -ENOMEM;
}

static int init_scatter(struct pool_private *priv, uint64_t frames, uint64_t seed)
{
	priv->order_bytes = frames * sizeof(*priv->order);
	priv->order = reserve(priv->order_bytes);
	priv->random = seed * 2 + 0x9e3779b97f4a7c15ull;
	return priv->order ? 0 : -ENOMEM;
}

int pool_init(struct pool *pool, uint64_t placed, uint64_t apart, enum placement placement, uint64_t seed)
{
	const uint64_t frames = placed + apart;
	struct pool_private *priv;
	int err;

	if (placed == 0 || frames < placed || frames >= 1ull << 32)
		return -EINVAL;
	priv = calloc(1, sizeof(*priv));
	if (!priv)
		return -ENOMEM;
	*pool = (struct pool){ .frames = frames, .placed = placed, .placement = placement, .priv = priv };
	err = map_body(pool);
	if (!err) {
		priv->frame_bytes = frames * sizeof(struct frame);
		pool->frame = reserve(priv->frame_bytes);
		priv->populated_bytes = (frames + 63) / 64 * 8;
		priv->populated = reserve(priv->populated_bytes);
		priv->heat_bytes = ALIGN_UP(frames, CHUNK_FRAMES) >> CHUNK_SHIFT;
		pool->heat = reserve(priv->heat_bytes);
		if (!pool->frame || !priv->populated || !pool->heat)
			err = -ENOMEM;
	}
	if (!err)
		err = placement == PLACEMENT_LINEAR ? init_linear(priv, placed) : init_scatter(priv, placed, seed);
	if (err)
		pool_destroy(pool);
	return err;
}

void pool_destroy(struct pool *pool)
{
	struct pool_private *priv = pool->priv;

	if (!priv)
		return;
	unreserve(priv->map, priv->map_bytes);
	unreserve(pool->frame, priv->frame_bytes);
	unreserve(priv->populated, priv->populated_bytes);
	unreserve(priv->order, priv->order_bytes);
	unreserve(pool->heat, priv->heat_bytes);
	free(priv->chunk);
	free(priv);
	*pool = (struct pool){ 0 };
}

static bool is_populated(const struct pool_private *priv, uint64_t m)
{
	return priv->populated[m / 64] >> (m % 64) & 1;
}

static bool is_allocated(const struct pool *pool, uint64_t m) { return pool->frame[m].flags & FRAME_ALLOCATED; }

/* Gives frames [first, first + n) memory. False: the host has none. */
static bool populate(struct pool *pool, uint64_t first, uint64_t n)
{
	struct pool_private *priv = pool->priv;
	uint8_t *start = pool->base + (first << PAGE_SHIFT);

	if (!priv->no_populate && madvise(start, n << PAGE_SHIFT, MADV_POPULATE_WRITE)) {
		if (errno != EINVAL)
			return false;
		priv->no_populate = true;
	}
	for (uint64_t i = 0; i < n; i++) {
		if (priv->no_populate)
			((volatile uint8_t *)start)[i << PAGE_SHIFT] = 0;
		priv->populated[(first + i) / 64] |= 1ull << ((first + i) % 64);
	}
	return true;
}

/*
 * How many frames to populate with m, in the direction that first touches have taken: as many as were
 * allocated in a row just before it, so that what is populated in vain stays below what is in use.
 */
static bool populate_ahead(struct pool *pool, uint64_t m)
{
	struct pool_private *priv = pool->priv;
	uint64_t lo = m & ~(CHUNK_FRAMES - 1), hi = lo + CHUNK_FRAMES;
	uint64_t below = 0, above = 0, first = m, last = m;

	if (hi > pool->frames)
		hi = pool->frames;
	while (below < AHEAD_MAX && m - below > lo && is_allocated(pool, m - below - 1))
		below++;
	while (above < AHEAD_MAX && m + above + 1 < hi && is_allocated(pool, m + above + 1))
		above++;
	if (below >= above) {
		while (last - m < below && last + 1 < hi && last - m < AHEAD_MAX - 1 && !is_populated(priv, last + 1))
			last++;
	} else {
		while (m - first < above && first > lo && m - first < AHEAD_MAX - 1 && !is_populated(priv, first - 1))
			first--;
	}
	return populate(pool, first, last - first + 1);
}

static uint64_t next_random(struct pool_private *priv)
{
	return random_step(&priv->random) * 0x2545f4914f6cdd1dull >> 16;
}

static uint32_t order_get(const struct pool_private *priv, uint64_t i) { return priv->order[i] ^ (uint32_t)i; }
static void order_set(struct pool_private *priv, uint64_t i, uint32_t m) { priv->order[i] = m ^ (uint32_t)i; }

static void order_swap(struct pool_private *priv, uint64_t i, uint64_t j)
{
	uint32_t m = order_get(priv, j);

	order_set(priv, j, order_get(priv, i));
	order_set(priv, i, m);
}

/*
 * Chunks in random order, and the frames of each. So who keeps something for each machine frame, as a paravirtualized guest's M2P table is, finds that of
 * neighbours close together, as on a hypervisor that has real memory to give.
 */
static uint64_t place_scatter(struct pool *pool)
{
	struct pool_private *priv = pool->priv;
	const uint64_t i = priv->placed_used, chunk = i >> CHUNK_SHIFT, chunks = pool->placed >> CHUNK_SHIFT, end = (chunk + 1) << CHUNK_SHIFT;

	if (!(i & (CHUNK_FRAMES - 1)) && chunk < chunks) {
		const uint64_t other = (chunk + next_random(priv) % (chunks - chunk)) << CHUNK_SHIFT;

		for (unsigned k = 0; k < CHUNK_FRAMES; k++)
			order_swap(priv, i + k, other + k);
	}
	order_swap(priv, i, i + next_random(priv) % ((end < pool->placed ? end : pool->placed) - i));
	return order_get(priv, i);
}

/* The chunk that stands for the guest's, taking a fresh one on first touch; ~0 if none is left. */
static uint64_t chunk_for(struct pool_private *priv, uint64_t guest_chunk)
{
	size_t mask = priv->chunk_slots - 1, i = (guest_chunk * 0x9e3779b97f4a7c15ull >> 20) & mask;

	while (priv->chunk[i].guest_chunk_plus_1) {
		if (priv->chunk[i].guest_chunk_plus_1 == guest_chunk + 1)
			return priv->chunk[i].chunk;
		i = (i + 1) & mask;
	}
	if (priv->chunks_used == priv->chunks)
		return ~0ull;
	priv->chunk[i] = (struct chunk_slot){ guest_chunk + 1, priv->chunks_used };
	return priv->chunks_used++;
}

static uint64_t place_linear(struct pool *pool, uint64_t gfn)
{
	struct pool_private *priv = pool->priv;
	uint64_t chunk = chunk_for(priv, gfn >> CHUNK_SHIFT);

	if (chunk != ~0ull) {
		uint64_t m = (chunk << CHUNK_SHIFT) + (gfn & (CHUNK_FRAMES - 1));

		if (!is_allocated(pool, m))
			return m;
	}
	/* Its own place is taken, or chunks have run out: any free frame, from the end where chunks are taken last. */
	for (uint64_t i = 0; i < pool->placed; i++) {
		uint64_t m = pool->placed - 1 - (priv->cursor + i) % pool->placed;

		if (!is_allocated(pool, m)) {
			priv->cursor = priv->cursor + i + 1;
			return m;
		}
	}
	return ~0ull;
}

/* Where the next frame is taken from. The caller takes it. */
static uint64_t place(struct pool *pool, uint64_t gfn)
{
	uint64_t m = pool->placement == PLACEMENT_LINEAR ? place_linear(pool, gfn) : place_scatter(pool);

	ASSERT(m < pool->placed && !is_allocated(pool, m));
	return m;
}

static mfn_t hand_out(struct pool *pool, uint64_t m, uint64_t gfn)
{
	struct frame *f = &pool->frame[m];

	f->gfn = gfn;
	f->code_granules = 0;
	f->flags = FRAME_ALLOCATED;
	f->code_head = f->shadow_head = f->spare = 0;
	pool->used++;
	pool->priv->placed_used += m < pool->placed;
	return mfn(m);
}

mfn_t pool_alloc(struct pool *pool, uint64_t gfn)
{
	struct pool_private *priv = pool->priv;
	uint64_t m;

	if (priv->placed_used == pool->placed)
		return MFN_NONE;
	m = place(pool, gfn);
	if (!is_populated(priv, m)) {
		bool ok = pool->placement == PLACEMENT_LINEAR ? populate_ahead(pool, m) : populate(pool, m, 1);

		/* Ahead may be too much where one frame is not. */
		if (!ok && !populate(pool, m, 1))
			return MFN_NONE;
	}
	return hand_out(pool, m, gfn);
}

mfn_t pool_reserve(struct pool *pool, uint64_t gfn)
{
	return pool->priv->placed_used == pool->placed ? MFN_NONE : hand_out(pool, place(pool, gfn), gfn);
}

mfn_t pool_take(struct pool *pool, mfn_t m, uint64_t gfn)
{
	struct pool_private *priv = pool->priv;
	uint64_t i = priv->placed_used;

	if (m.v >= pool->frames || is_allocated(pool, m.v))
		return MFN_NONE;
	if (pool->placement == PLACEMENT_SCATTER && m.v < pool->placed) {
		uint64_t j = i;

		while (order_get(priv, j) != m.v)
			j++;
		order_swap(priv, i, j);
	}
	return hand_out(pool, m.v, gfn);
}

void pool_touch(struct pool *pool, mfn_t m)
{
	if (UNLIKELY(!is_populated(pool->priv, m.v)) && !populate(pool, m.v, 1))
		pool->priv->no_populate = true; /* the host's own page fault will say what is wrong */
}

void pool_prepare(struct pool *pool, uint64_t gfn, uint64_t frames)
{
	const uint64_t first = ALIGN_UP(gfn, CHUNK_FRAMES) >> CHUNK_SHIFT, end = (gfn + frames) >> CHUNK_SHIFT;

	if (pool->placement != PLACEMENT_LINEAR)
		return;
	for (uint64_t guest_chunk = first; guest_chunk < end; guest_chunk++) {
		const uint64_t chunk = chunk_for(pool->priv, guest_chunk);

		if (chunk == ~0ull)
			return;
		madvise(pool->base + chunk * CHUNK_BYTES, CHUNK_BYTES, MADV_HUGEPAGE);
		if (!populate(pool, chunk << CHUNK_SHIFT, CHUNK_FRAMES))
			return;
		madvise(pool->base + chunk * CHUNK_BYTES, CHUNK_BYTES, MADV_NOHUGEPAGE);
	}
}

/* The advice is taken back, or one touched page might cost 2 MiB once the chunk's frames were freed. */
enum pool_large pool_make_large(struct pool *pool, mfn_t m)
{
	struct pool_private *priv = pool->priv;
	const uint64_t first = m.v & ~(CHUNK_FRAMES - 1);
	uint8_t *start = pool->base + (first << PAGE_SHIFT);
	bool made;

	if (priv->large_failures >= LARGE_FAILURES)
		return POOL_LARGE_REFUSED;
	for (uint64_t i = first / 64; i < (first + CHUNK_FRAMES) / 64; i++) {
		if (i * 64 >= pool->frames || ~priv->populated[i]) {
			pool->heat[first >> CHUNK_SHIFT] = 0;
			return POOL_LARGE_LATER;
		}
	}
	madvise(start, CHUNK_BYTES, MADV_HUGEPAGE);
	made = !madvise(start, CHUNK_BYTES, MADV_COLLAPSE);
	if (made)
		priv->large_failures = 0;
	else
		priv->large_failures = errno == EINVAL ? LARGE_FAILURES : priv->large_failures + 1;
	madvise(start, CHUNK_BYTES, MADV_NOHUGEPAGE);
	return made ? POOL_LARGE_MADE : POOL_LARGE_REFUSED;
}

void pool_free(struct pool *pool, mfn_t m)
{
	struct pool_private *priv = pool->priv;

	ASSERT(m.v < pool->frames && is_allocated(pool, m.v));
	pool->frame[m.v].flags = 0;
	pool->frame[m.v].gfn = ~0ull;
	pool->used--;
	if (m.v < pool->placed) {
		priv->placed_used--;
		if (pool->placement == PLACEMENT_SCATTER)
			order_set(priv, priv->placed_used, (uint32_t)m.v);
	}
	/* Gives the memory back; the next touch reads zeros. */
	if (madvise(pool_ptr(pool, m), PAGE_SIZE, MADV_DONTNEED))
		fill_bytes(pool_ptr(pool, m), 0, PAGE_SIZE);
	else
		priv->populated[m.v / 64] &= ~(1ull << (m.v % 64));
}
