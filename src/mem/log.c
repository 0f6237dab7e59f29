/*
 * log.c - the log of guest pages that were written: what snapshots and migration stand on.
 *
 * One more reason why a frame is watched (track.h). While the log is on, a page is either watched for it (FRAME_DIRTY_LOG) or its bit is set: the first
 * store since the last fetch sets the bit and ends the watch, so that a page costs one slow store for each fetch, however much it is
 * written. Pages without a frame are neither, until they get one: they read as zeros before and after.
 *
 * Invariant
 *  D1  while the log is on, for every page that has a frame of its own, exactly one holds: the frame has FRAME_DIRTY_LOG, or the page's bit is set; while it is off, no
 *      frame has FRAME_DIRTY_LOG, and one that is shared (FRAME_SHARED) never has it: its pages get their own before they are written
 */
#include <errno.h>
#include <sys/mman.h>

#include "mem/memory.h"

uint64_t memory_log_words(const struct memory *mem)
{
	const struct memory_region *last = &mem->region[mem->regions - 1];

	return (((last->base + last->len) >> PAGE_SHIFT) + 63) / 64;
}

void log_watch(struct memory *mem, uint64_t gfn, mfn_t m)
{
	if (UNLIKELY(mem->track.dirty != NULL) && !(mem->track.dirty[gfn / 64] >> (gfn % 64) & 1))
		track_set(&mem->track, m, FRAME_DIRTY_LOG);
}

static void watch_all(struct memory *mem, bool on)
{
	for (uint64_t m = 0; m < mem->pool.frames; m++) {
		const struct frame *f = &mem->pool.frame[m];

		/* Frames that pages moved away from have no page. */
		if (!(f->flags & FRAME_ALLOCATED) || f->gfn == ~0ull)
			continue;
		if (on && !(f->flags & FRAME_SHARED))
			track_set(&mem->track, mfn(m), FRAME_DIRTY_LOG);
		else if (!on)
			track_clear(&mem->track, mfn(m), FRAME_DIRTY_LOG);
	}
}

int memory_log_start(struct memory *mem)
{
	const uint64_t bytes = memory_log_words(mem) * 8;
	void *map;

	if (mem->track.dirty)
		return -EBUSY;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return -ENOMEM;
	memory_lock(mem);
	mem->track.dirty = map;
	watch_all(mem, true);
	memory_unlock(mem);
	return 0;
}

int64_t memory_log_fetch(struct memory *mem, uint64_t *bitmap)
{
	const uint64_t words = memory_log_words(mem);
	int64_t pages = 0;

	if (!mem->track.dirty)
		return -EINVAL;
	memory_lock(mem);
	for (uint64_t i = 0; i < words; i++) {
		uint64_t bits = mem->track.dirty[i];

		if (bitmap)
			bitmap[i] = bits;
		mem->track.dirty[i] = 0;
		for (; bits; bits &= bits - 1) {
			struct p2m_entry e;

			if (p2m_lookup(mem, gpa((i * 64 + (uint64_t)__builtin_ctzll(bits)) << PAGE_SHIFT), &e) &&
			    !(pool_frame(&mem->pool, e.m)->flags & FRAME_SHARED))
				track_set(&mem->track, e.m, FRAME_DIRTY_LOG);
			pages++;
		}
	}
	mem->counters.log_fetches++;
	memory_unlock(mem);
	return pages;
}

void memory_log_stop(struct memory *mem)
{
	if (!mem->track.dirty)
		return;
	memory_lock(mem);
	watch_all(mem, false);
	munmap(mem->track.dirty, memory_log_words(mem) * 8);
	mem->track.dirty = NULL;
	memory_unlock(mem);
}
