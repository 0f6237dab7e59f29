/*
 * block.c - a disk in a raw file.
 */
#include "dev/block.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

const struct stat_row block_stat_rows[] = {
	STAT_ROW(struct block_counters, reads, "read requests"),
	STAT_ROW(struct block_counters, writes, "write requests"),
	STAT_ROW(struct block_counters, flushes, "flushes"),
	STAT_ROW(struct block_counters, discards, "discards"),
	STAT_ROW(struct block_counters, read_bytes, "bytes read"),
	STAT_ROW(struct block_counters, written_bytes, "bytes written"),
	STAT_ROW(struct block_counters, errors, "requests that the host failed"),
};
const size_t block_stat_row_count = ARRAY_LEN(block_stat_rows);

int block_open(struct block *b, const char *path, bool read_only, struct block_counters *counters, char *error, size_t error_size)
{
	struct stat st;
	uint64_t bytes = 0;
	int err = 0;

	*b = (struct block){ .fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC), .read_only = read_only, .path = path, .counters = counters };
	if (b->fd < 0) {
		err = -errno;
		snprintf(error, error_size, "disk %s: %s%s", path, strerror(-err), err == -EACCES && !read_only ? " (with ,ro it need only be readable)" : "");
		return err;
	}
	if (fstat(b->fd, &st))
		err = -errno;
	else if (S_ISREG(st.st_mode))
		bytes = (uint64_t)st.st_size;
	else if (!S_ISBLK(st.st_mode))
		err = -ENOTBLK;
	else if (ioctl(b->fd, BLKGETSIZE64, &bytes))
		err = -errno;
	if (err)
		snprintf(error, error_size, "disk %s: %s", path, err == -ENOTBLK ? "neither a file nor a block device" : strerror(-err));
	else if (bytes < BLOCK_SECTOR)
		err = -EINVAL, snprintf(error, error_size, "disk %s: it has %llu bytes, less than a sector", path, (unsigned long long)bytes);
	else if (flock(b->fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB))
		err = -errno, snprintf(error, error_size, "disk %s: %s", path, err == -EWOULDBLOCK ? "in use by another process" : strerror(-err));
	b->sectors = bytes / BLOCK_SECTOR;
	if (err)
		block_close(b);
	return err;
}

void block_close(struct block *b)
{
	if (b->fd >= 0)
		close(b->fd);
	b->fd = -1;
}

static int failed(struct block *b, const char *what, uint64_t sector, int err)
{
	if (!b->counters->errors++)
		log_error("disk %s: cannot %s at sector %llu: %s", b->path, what, (unsigned long long)sector, strerror(-err));
	return err;
}

static int transfer(struct block *b, bool write, uint64_t sector, struct iovec *io, unsigned n)
{
	const uint64_t from = sector;
	off_t at = (off_t)(sector * BLOCK_SECTOR);

	while (n) {
		ssize_t done = write ? pwritev(b->fd, io, (int)n, at) : preadv(b->fd, io, (int)n, at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0) /* the file has become shorter: as a disk that cannot find the sector */
			return failed(b, write ? "write" : "read", from, done ? -errno : -EIO);
		at += done;
		while (n && (size_t)done >= io->iov_len) {
			done -= (ssize_t)io->iov_len;
			io++;
			n--;
		}
		if (n) {
			io->iov_base = (char *)io->iov_base + done;
			io->iov_len -= (size_t)done;
		}
	}
	++*(write ? &b->counters->writes : &b->counters->reads);
	*(write ? &b->counters->written_bytes : &b->counters->read_bytes) += (uint64_t)at - from * BLOCK_SECTOR;
	return 0;
}

int block_read(struct block *b, uint64_t sector, struct iovec *io, unsigned n) { return transfer(b, false, sector, io, n); }
int block_write(struct block *b, uint64_t sector, struct iovec *io, unsigned n) { return b->read_only ? -EROFS : transfer(b, true, sector, io, n); }

int block_flush(struct block *b)
{
	if (!b->read_only && fdatasync(b->fd))
		return failed(b, "flush", 0, -errno);
	b->counters->flushes++;
	return 0;
}

int block_discard(struct block *b, uint64_t sector, uint64_t count)
{
	if (b->read_only)
		return -EROFS;
	if (count && fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(sector * BLOCK_SECTOR), (off_t)(count * BLOCK_SECTOR)))
		return errno == EOPNOTSUPP || errno == ENODEV ? -EOPNOTSUPP : failed(b, "discard", sector, -errno);
	b->counters->discards++;
	return 0;
}
