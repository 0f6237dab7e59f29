/*
 * track.h - page tracking: one mechanism for every reason to watch a frame (code, page tables, ...).
 *
 * A frame is watched by setting a flag in its record (pool.h). From then on no TLB entry may allow a write
 * (the caller must drop writable entries: mmu_write_protect); each store to it takes the slow path, and after the
 * store calls track_written. Code is watched at 64-byte grain: a store beside code costs the slow path but
 * invalidates nothing.
 *
 * A store that hits translated granules is queued here as data; the translator drains the queue
 * (bt/invalidate) before it runs the next translated instruction. Lock: memory->lock.
 */
#ifndef MEM_TRACK_H
#define MEM_TRACK_H

#include "mem/pool.h"

struct code_write { mfn_t m; uint16_t offset; uint16_t len; }; /* len up to 4096 */

#define CODE_WRITE_QUEUE 64
#define TABLE_WRITE_QUEUE 32
struct track {
	struct pool *pool;
	uint64_t *dirty;	/* one bit a guest frame: written since the last fetch (log.c); 0: the log is off */
	/* Stores by devices to shadowed page tables, for the mmu to drain before it trusts a shadow; overflow: TABLE_WRITE_QUEUE + 1. */
	_Atomic uint32_t table_writes;
	struct code_write table_queue[TABLE_WRITE_QUEUE];
	_Atomic uint32_t code_writes;	/* number of queued entries; CODE_WRITE_QUEUE + 1: overflow, drop all code */
	struct code_write queue[CODE_WRITE_QUEUE];
};

void track_init(struct track *track, struct pool *pool);
/* After a store of len bytes at offset in frame m (not crossing it). Queues a code write if granules are hit, notes it in the dirty log; returns
 * the frame's flags as they were. */
uint32_t track_written(struct track *track, mfn_t m, unsigned offset, unsigned len);
/* The same for a store by a device or loader: a store to a FRAME_TABLE frame is queued too. */
void track_written_by_device(struct track *track, mfn_t m, unsigned offset, unsigned len);
/* Guest page gfn has other contents from now on without a store, since its frame was taken (dirty log). */
void track_changed(struct track *track, uint64_t gfn);
void track_set(struct track *track, mfn_t m, uint32_t flag);
void track_clear(struct track *track, mfn_t m, uint32_t flag);
/* Marks [offset, offset+len) as code; returns true if the frame became watched by this (writable TLB entries must go). */
bool track_code(struct track *track, mfn_t m, unsigned offset, unsigned len);

#endif
