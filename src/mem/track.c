/*
 * track.c - the reasons why frames are watched, and the queue of stores that hit translated code.
 */
#include <stdatomic.h>

#include "mem/track.h"

/* Granules that [offset, offset + len) touches. */
static uint64_t granules(unsigned offset, unsigned len)
{
	unsigned first = offset >> GRANULE_SHIFT, last = (offset + len - 1) >> GRANULE_SHIFT;

	return (~0ull >> (63 - last)) & (~0ull << first);
}

void track_init(struct track *track, struct pool *pool)
{
	track->pool = pool;
	atomic_store(&track->code_writes, 0);
	atomic_store(&track->table_writes, 0);
}

/* Both queues: `count` says how many entries are valid; one more than `size` means that some did not fit. */
static void enqueue(_Atomic uint32_t *count, struct code_write *queue, unsigned size, struct code_write write)
{
	uint32_t n = atomic_load_explicit(count, memory_order_relaxed);

	if (n < size)
		queue[n] = write;
	if (n <= size)
		atomic_store_explicit(count, n + 1, memory_order_release);
}

void track_changed(struct track *track, uint64_t gfn)
{
	if (track->dirty)
		track->dirty[gfn / 64] |= 1ull << (gfn % 64);
}

uint32_t track_written(struct track *track, mfn_t m, unsigned offset, unsigned len)
{
	struct frame *f = pool_frame(track->pool, m);
	const uint32_t flags = f->flags;

	ASSERT(len > 0 && offset + len <= PAGE_SIZE);
	if (flags & FRAME_DIRTY_LOG) {
		track->dirty[f->gfn / 64] |= 1ull << (f->gfn % 64);
		f->flags &= ~(uint32_t)FRAME_DIRTY_LOG;
	}
	if ((flags & FRAME_CODE) && (f->code_granules & granules(offset, len)))
		enqueue(&track->code_writes, track->queue, CODE_WRITE_QUEUE,
			(struct code_write){ m, (uint16_t)offset, (uint16_t)len });
	return flags;
}

void track_written_by_device(struct track *track, mfn_t m, unsigned offset, unsigned len)
{
	if (track_written(track, m, offset, len) & FRAME_TABLE)
		enqueue(&track->table_writes, track->table_queue, TABLE_WRITE_QUEUE,
			(struct code_write){ m, (uint16_t)offset, (uint16_t)len });
}

void track_set(struct track *track, mfn_t m, uint32_t flag)
{
	ASSERT((flag & ~(uint32_t)FRAME_TRACKED) == 0);
	pool_frame(track->pool, m)->flags |= flag;
}

void track_clear(struct track *track, mfn_t m, uint32_t flag)
{
	struct frame *f = pool_frame(track->pool, m);

	ASSERT((flag & ~(uint32_t)FRAME_TRACKED) == 0);
	f->flags &= ~flag;
	if (flag & FRAME_CODE)
		f->code_granules = 0;
}

bool track_code(struct track *track, mfn_t m, unsigned offset, unsigned len)
{
	struct frame *f = pool_frame(track->pool, m);
	bool watched = f->flags & FRAME_TRACKED;

	ASSERT(len > 0 && offset + len <= PAGE_SIZE);
	f->code_granules |= granules(offset, len);
	f->flags |= FRAME_CODE;
	return !watched;
}
