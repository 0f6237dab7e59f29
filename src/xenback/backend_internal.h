/*
 * backend_internal.h - the parts of domain 0, shared by the files of xenback/ only.
 *
 * Rings lie in guest memory: every index and message is read once and checked, and a guest that breaks a ring's rules loses that ring, nothing else.
 */
#ifndef XENBACK_BACKEND_INTERNAL_H
#define XENBACK_BACKEND_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include "xen/domain.h"
#include "xen/grant.h"
#include "xenback/backend.h"
#include "xenback/store.h"

/* store_ring.c: one connection. */
struct store_ring {
	struct xenstore_domain_interface *ring;		/* in guest memory; 0: none */
	mfn_t m;
	uint32_t port;
	bool broken;
	struct store_message in, out;
	uint32_t in_have, out_done, out_len;	/* bytes of header and payload; out_len 0: nothing to send */
};

/* blkback.c: one disk. States are xenbus's, XenbusState* (xen/io/xenbus.h). */
struct blkback {
	struct xenback *back;
	struct block *block;
	unsigned device;			/* xvda is 202 << 8 */
	unsigned state;
	bool connected;
	uint32_t port, ring_ref;
	struct xen_grant ring;
	uint32_t req_cons, rsp_prod;
};

struct xenback {
	struct xen *xen;
	struct memory *memory;
	struct store *store;
	struct store_ring ring;
	struct blkback disk[XENBACK_DISKS];
	unsigned disks;
	pthread_t thread;
	bool started;
	_Atomic uint32_t work;			/* futex word: 1 there may be something to do; 2 stop */
	struct xenback_counters counters;
};

/* backend.c: wakes the thread; any thread, any register state. */
void xenback_kick(void *back);
/* After a store of ours to guest memory, [offset, offset + len) of frame m. */
void xenback_written(struct xenback *b, mfn_t m, unsigned offset, unsigned len);

/* store_ring.c. Whether anything was done. */
bool store_ring_serve(struct xenback *b);

/* blkback.c. */
int blkback_offer(struct xenback *b, struct block *block);
bool blkback_serve(struct blkback *d);
void blkback_disconnect(struct blkback *d);

#endif
