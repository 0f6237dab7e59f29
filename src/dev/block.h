/*
 * block.h - a disk in a raw file: what the models of disks stand on, whoever carries the requests (xenback/, virtio).
 *
 * Sectors are 512 bytes. Everything is synchronous and may take as long as the host's disk does: the caller is a thread of its own, not a vcpu. One thread at a
 * time.
 *
 * Durability: what was written is safe after block_flush has returned 0, as a disk with a write-back cache promises it. A host error is reported to the guest
 * as a failed request and counted; the first one is logged.
 */
#ifndef DEV_BLOCK_H
#define DEV_BLOCK_H

#include <sys/uio.h>
#include "base/stats.h"

#define BLOCK_SECTOR 512u

struct block_counters { uint64_t reads, writes, flushes, discards, read_bytes, written_bytes, errors; };
struct block {
	int fd;
	uint64_t sectors;
	bool read_only;
	const char *path;		/* the caller's, for messages */
	struct block_counters *counters;	/* the caller's; several disks of one thread may share them */
};

/*
 * Opens a regular file or a block device, and keeps others from writing it while we do (a lock as flock(2) has it, shared if read_only). 0, or -errno with one
 * clear reason.
 */
int block_open(struct block *b, const char *path, bool read_only, struct block_counters *counters, char *error, size_t error_size);
void block_close(struct block *b);

/* [sector, sector + count) lies on the disk. */
static inline bool block_holds(const struct block *b, uint64_t sector, uint64_t count)
{
	return sector <= b->sectors && count <= b->sectors - sector;
}
/* Whole sectors from `sector` on, which block_holds has allowed. The vector is used up. 0 or -errno. */
int block_read(struct block *b, uint64_t sector, struct iovec *io, unsigned n);
int block_write(struct block *b, uint64_t sector, struct iovec *io, unsigned n);	/* -EROFS */
int block_flush(struct block *b);
/* The contents are not needed any more: they read as zeros. -EOPNOTSUPP if the host's file system cannot do it. */
int block_discard(struct block *b, uint64_t sector, uint64_t count);

extern const struct stat_row block_stat_rows[];
extern const size_t block_stat_row_count;

#endif
