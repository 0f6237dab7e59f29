/*
 * backend.c - domain 0's thread: waits to be told, then serves the store and the disks until nothing is left to do.
 */
#include "xenback/backend_internal.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WORK_NONE, WORK_THERE, WORK_STOP };

const struct stat_row xenback_stat_rows[] = {
	STAT_ROW(struct xenback_counters, store_requests, "requests to xenstore"),
	STAT_ROW(struct xenback_counters, store_events, "watch events sent"),
	STAT_ROW(struct xenback_counters, store_errors, "rings of xenstore that broke the rules"),
	STAT_ROW(struct xenback_counters, disk_requests, "requests to disks"),
	STAT_ROW(struct xenback_counters, disk_segments, "pages in them"),
	STAT_ROW(struct xenback_counters, disk_refused, "requests to disks that were refused"),
};
const size_t xenback_stat_row_count = ARRAY_LEN(xenback_stat_rows);
const struct xenback_counters *xenback_counters(const struct xenback *b) { return &b->counters; }

static void futex(_Atomic uint32_t *word, int op, uint32_t value) { syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, 0, 0, 0); }

void xenback_kick(void *back)
{
	struct xenback *b = back;
	uint32_t none = WORK_NONE;

	if (atomic_compare_exchange_strong(&b->work, &none, WORK_THERE))
		futex(&b->work, FUTEX_WAKE, 1);
}

void xenback_written(struct xenback *b, mfn_t m, unsigned offset, unsigned len)
{
	if (!(__atomic_load_n(&pool_frame(&b->memory->pool, m)->flags, __ATOMIC_RELAXED) & FRAME_TRACKED))
		return;
	memory_lock(b->memory);
	track_written_by_device(&b->memory->track, m, offset, len);
	memory_unlock(b->memory);
}

static void *serve(void *back)
{
	struct xenback *b = back;

	for (;;) {
		bool did = false;

		/* Cleared before looking: a kick from now on is seen by this round or wakes the next. */
		if (atomic_exchange(&b->work, WORK_NONE) == WORK_STOP)
			return 0;
		did |= store_ring_serve(b);
		for (unsigned i = 0; i < b->disks; i++)
			did |= blkback_serve(&b->disk[i]);
		if (!did)
			futex(&b->work, FUTEX_WAIT, WORK_NONE);
	}
}

/* What a toolstack puts there for every domain. */
static int furnish(struct store *s)
{
	static const struct { const char *path, *value, *perms; } node[] = {
		{ "/local/domain/1", "", "n0r1" },	/* first: what is below inherits it */
		{ "/local/domain/1/domid", "1", 0 },
		{ "/local/domain/1/name", "trifold", 0 },
		{ "/local/domain/1/vm", "/vm/1", 0 },
		{ "/local/domain/1/device", "", 0 },
		{ "/local/domain/1/control", "", "n1" },
		{ "/local/domain/1/data", "", "n1" },
		{ "/local/domain/1/attr", "", "n1" },
		{ "/local/domain/0/backend", "", "n0r1" },
		{ "/vm/1/name", "trifold", "n0r1" },
	};

	for (size_t i = 0; i < ARRAY_LEN(node); i++) {
		int err = store_put(s, node[i].path, node[i].value);

		if (!err && node[i].perms)
			err = store_permit(s, node[i].path, node[i].perms);
		if (err)
			return err;
	}
	return 0;
}

int xenback_create(struct xen *xen, struct memory *memory, struct xenback **out)
{
	struct xenback *b = calloc(1, sizeof(*b));
	int err;

	if (!b)
		return -ENOMEM;
	b->xen = xen;
	b->memory = memory;
	b->store = store_create();
	err = b->store ? furnish(b->store) : -ENOMEM;
	if (!err) {
		b->ring.port = xen_port_backend(xen, xenback_kick, b);
		err = b->ring.port ? 0 : -ENOSPC;
	}
	if (err) {
		xenback_destroy(b);
		return err;
	}
	*out = b;
	return 0;
}

uint32_t xenback_store_port(const struct xenback *b) { return b->ring.port; }
int xenback_add_disk(struct xenback *b, struct block *block) { return blkback_offer(b, block); }

int xenback_start(struct xenback *b, mfn_t store_ring)
{
	sigset_t all, before;
	int err;

	b->ring.m = store_ring;
	b->ring.ring = pool_ptr(&b->memory->pool, store_ring);
	/* Signals are the other threads' business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&b->thread, 0, serve, b);
	pthread_sigmask(SIG_SETMASK, &before, 0);
	b->started = !err;
	return -err;
}

void xenback_destroy(struct xenback *b)
{
	if (!b)
		return;
	if (b->started) {
		atomic_store(&b->work, WORK_STOP);
		futex(&b->work, FUTEX_WAKE, INT_MAX);
		pthread_join(b->thread, 0);
	}
	for (unsigned i = 0; i < b->disks; i++)
		blkback_disconnect(&b->disk[i]);
	store_destroy(b->store);
	free(b);
}
