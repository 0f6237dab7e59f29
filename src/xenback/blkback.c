/*
 * blkback.c - the back end of a paravirtualized disk: connects through xenstore as xen/io/xenbus.h and xen/io/blkif.h have it, and carries the requests of
 * the ring to a block.
 *
 *   our state      1 --> 2 InitWait --(the front end is 3 or 4)--> 4 Connected --(5 or 6)--> 6 Closed --(the front end begins anew: 1)--> 2
 *
 * A request is copied from the ring before it is looked at. Its pages are used by grants for as long as the transfer takes. Requests are carried out in
 * order, so a flush covers all writes before it. What a front end gets wrong costs it that request; a ring index that cannot be costs it the
 * connection.
 */
#include "xenback/backend_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <xen/io/blkif.h>
#include <xen/io/xenbus.h>

#define RING_ENTRIES 32u	/* of one page: the largest power of two that fits */
#define XVD_MAJOR 202u
#define MINORS 16u		/* a disk's number leaves room for its partitions */
#define PAGE_SECTORS (PAGE_SIZE / BLOCK_SECTOR)
#define INDIRECT_SEGMENTS 64u
#define SEGMENTS_PER_PAGE (PAGE_SIZE / sizeof(struct blkif_request_segment))

_Static_assert(sizeof(union blkif_sring_entry) == 112, "the 64-bit layout of the ring");
_Static_assert(offsetof(struct blkif_sring, ring) + RING_ENTRIES * sizeof(union blkif_sring_entry) <= PAGE_SIZE, "the ring is in its page");

/* ---- requests ----------------------------------------------------------------------------------------------------------------- */

struct transfer {
	unsigned n;
	bool write;		/* to the disk */
	uint64_t sector, sectors;
	struct blkif_request_segment segment[INDIRECT_SEGMENTS];
};

static void put_away(struct xenback *b, struct xen_grant *g, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (g[i].write)
			xenback_written(b, g[i].m, 0, PAGE_SIZE);
		xen_grant_done(b->xen, &g[i]);
	}
}

/* All pages of it, or none. */
static int carry_out(struct blkback *d, const struct transfer *t)
{
	struct xen_grant grant[INDIRECT_SEGMENTS];
	struct iovec io[INDIRECT_SEGMENTS];
	int err = 0;
	unsigned n;

	for (n = 0; n < t->n && !err; n++) {
		const struct blkif_request_segment *s = &t->segment[n];

		err = xen_grant_use(d->back->xen, s->gref, !t->write, &grant[n]);
		if (err)
			break;
		io[n].iov_base = (uint8_t *)grant[n].hva + s->first_sect * BLOCK_SECTOR;
		io[n].iov_len = (size_t)(s->last_sect - s->first_sect + 1) * BLOCK_SECTOR;
	}
	d->back->counters.disk_segments += n;
	if (!err)
		err = t->write ? block_write(d->block, t->sector, io, t->n) : block_read(d->block, t->sector, io, t->n);
	put_away(d->back, grant, n);
	return err;
}

static bool transfer_ok(const struct blkback *d, struct transfer *t)
{
	t->sectors = 0;
	for (unsigned i = 0; i < t->n; i++) {
		const struct blkif_request_segment *s = &t->segment[i];

		if (s->first_sect > s->last_sect || s->last_sect >= PAGE_SECTORS)
			return false;
		t->sectors += (uint64_t)(s->last_sect - s->first_sect + 1);
	}
	return t->n && block_holds(d->block, t->sector, t->sectors);
}

/* The segments of an indirect request, which lie in pages of their own. */
static bool fetch_segments(struct blkback *d, const struct blkif_request_indirect *r, struct transfer *t)
{
	for (unsigned at = 0; at < t->n; at += SEGMENTS_PER_PAGE) {
		const unsigned n = t->n - at < SEGMENTS_PER_PAGE ? t->n - at : (unsigned)SEGMENTS_PER_PAGE;
		struct xen_grant g;

		if (xen_grant_use(d->back->xen, r->indirect_grefs[at / SEGMENTS_PER_PAGE], false, &g))
			return false;
		memcpy(&t->segment[at], g.hva, n * sizeof(t->segment[0]));
		xen_grant_done(d->back->xen, &g);
	}
	return true;
}

static int16_t status_of(int err) { return err == -EOPNOTSUPP ? BLKIF_RSP_EOPNOTSUPP : err ? BLKIF_RSP_ERROR : BLKIF_RSP_OKAY; }

static int16_t do_transfer(struct blkback *d, const struct blkif_request *r)
{
	struct transfer t = { .sector = r->sector_number, .n = r->nr_segments };
	unsigned operation = r->operation;

	if (operation == BLKIF_OP_INDIRECT) {
		const struct blkif_request_indirect *in = (const void *)r;

		operation = in->indirect_op;
		t.sector = in->sector_number;
		t.n = in->nr_segments;
		if ((operation != BLKIF_OP_READ && operation != BLKIF_OP_WRITE) || t.n > INDIRECT_SEGMENTS || !fetch_segments(d, in, &t))
			return BLKIF_RSP_ERROR;
	} else if (t.n > BLKIF_MAX_SEGMENTS_PER_REQUEST) {
		return BLKIF_RSP_ERROR;
	} else {
		memcpy(t.segment, r->seg, t.n * sizeof(t.segment[0]));
	}
	t.write = operation == BLKIF_OP_WRITE;
	return transfer_ok(d, &t) ? status_of(carry_out(d, &t)) : BLKIF_RSP_ERROR;
}

static int16_t do_discard(struct blkback *d, const struct blkif_request *r)
{
	const struct blkif_request_discard *a = (const void *)r;

	if (!block_holds(d->block, a->sector_number, a->nr_sectors) || (a->flag & BLKIF_DISCARD_SECURE))
		return BLKIF_RSP_ERROR;
	return status_of(block_discard(d->block, a->sector_number, a->nr_sectors));
}

static int16_t do_request(struct blkback *d, const struct blkif_request *r)
{
	d->back->counters.disk_requests++;
	switch (r->operation) {
	case BLKIF_OP_READ:
	case BLKIF_OP_WRITE:
	case BLKIF_OP_INDIRECT:
		return do_transfer(d, r);
	case BLKIF_OP_FLUSH_DISKCACHE:
		return status_of(block_flush(d->block));
	case BLKIF_OP_DISCARD:
		return do_discard(d, r);
	default: /* write barriers are not offered */
		return BLKIF_RSP_EOPNOTSUPP;
	}
}

static void respond(struct blkback *d, struct blkif_sring *ring, const struct blkif_request *r, int16_t status)
{
	/* An indirect request is answered as what it stands for: front ends check that. */
	const struct blkif_request_indirect *in = (const void *)r;
	const bool indirect = r->operation == BLKIF_OP_INDIRECT;
	const struct blkif_response answer = {
		.id = indirect ? in->id : r->id, .operation = indirect ? in->indirect_op : r->operation, .status = status,
	};
	uint32_t event;

	memcpy(&ring->ring[d->rsp_prod % RING_ENTRIES].rsp, &answer, sizeof(answer));
	d->rsp_prod++;
	__atomic_store_n(&ring->rsp_prod, d->rsp_prod, __ATOMIC_SEQ_CST);
	event = __atomic_load_n(&ring->rsp_event, __ATOMIC_SEQ_CST);
	/* The front end wants to hear of this one: event is the index after it. */
	if (event == d->rsp_prod)
		xen_port_notify_guest(d->back->xen, d->port);
	d->back->counters.disk_refused += status != BLKIF_RSP_OKAY;
}

/* Requests in a round: then other disks and the store have their turn. */
#define ROUND 64u

bool blkback_serve(struct blkback *d)
{
	struct blkif_sring *ring = d->ring.hva;
	unsigned done = 0;

	while (d->connected && done < ROUND) {
		const uint32_t prod = __atomic_load_n(&ring->req_prod, __ATOMIC_ACQUIRE);
		struct blkif_request r;

		if (prod == d->req_cons) {
			/* Ask to be told of the next, and look once more: it may have come just before. */
			__atomic_store_n(&ring->req_event, d->req_cons + 1, __ATOMIC_SEQ_CST);
			if (__atomic_load_n(&ring->req_prod, __ATOMIC_SEQ_CST) == d->req_cons)
				break;
			continue;
		}
		if (prod - d->req_cons > RING_ENTRIES || d->req_cons - d->rsp_prod >= RING_ENTRIES) {
			blkback_disconnect(d);
			break;
		}
		memcpy(&r, &ring->ring[d->req_cons % RING_ENTRIES].req, sizeof(r));
		d->req_cons++;
		respond(d, ring, &r, do_request(d, &r));
		done++;
	}
	if (done)
		xenback_written(d->back, d->ring.m, 0, PAGE_SIZE);
	return done > 0;
}

/* ---- connection --------------------------------------------------------------------------------------------------------------- */

static int put(struct blkback *d, bool front, const char *name, const char *value)
{
	char path[STORE_PATH_MAX];

	snprintf(path, sizeof(path), front ? "/local/domain/1/device/vbd/%u%s%s" : "/local/domain/0/backend/vbd/1/%u%s%s", d->device, name[0] ? "/" : "", name);
	return store_put(d->back->store, path, value);
}

static int put_number(struct blkback *d, bool front, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	return put(d, front, name, text);
}

static bool front_number(struct blkback *d, const char *name, uint64_t max, uint64_t *out)
{
	char path[STORE_PATH_MAX];

	snprintf(path, sizeof(path), "/local/domain/1/device/vbd/%u/%s", d->device, name);
	return store_get_number(d->back->store, path, max, out);
}

static void set_state(struct blkback *d, unsigned state)
{
	if (d->state == state)
		return;
	d->state = state;
	put_number(d, false, "state", state);
}

void blkback_disconnect(struct blkback *d)
{
	if (!d->connected)
		return;
	d->connected = false;
	xen_port_disconnect(d->back->xen, d->port);
	xen_grant_done(d->back->xen, &d->ring);
}

static bool connect(struct blkback *d)
{
	uint64_t ref, port;
	char protocol[32], path[STORE_PATH_MAX];
	struct blkif_sring *ring;

	snprintf(path, sizeof(path), "/local/domain/1/device/vbd/%u/protocol", d->device);
	if (store_get(d->back->store, path, protocol, sizeof(protocol)) && strcmp(protocol, "x86_64-abi"))
		return false;
	if (!front_number(d, "ring-ref", UINT32_MAX, &ref) || !front_number(d, "event-channel", UINT32_MAX, &port) ||
	    xen_grant_use(d->back->xen, (uint32_t)ref, true, &d->ring))
		return false;
	if (xen_port_connect(d->back->xen, (uint32_t)port, xenback_kick, d->back)) {
		xen_grant_done(d->back->xen, &d->ring);
		return false;
	}
	d->port = (uint32_t)port;
	ring = d->ring.hva;
	/* A front end that connects begins at 0, or goes on where its own indices say. */
	d->req_cons = d->rsp_prod = __atomic_load_n(&ring->rsp_prod, __ATOMIC_ACQUIRE);
	d->connected = true;
	put_number(d, false, "sectors", d->block->sectors);
	put_number(d, false, "sector-size", BLOCK_SECTOR);
	put_number(d, false, "info", d->block->read_only ? VDISK_READONLY : 0);
	set_state(d, XenbusStateConnected);
	xenback_kick(d->back); /* requests may be there already */
	return true;
}

static void front_changed(void *disk)
{
	struct blkback *d = disk;
	uint64_t state = XenbusStateUnknown;

	front_number(d, "state", XenbusStateReconfigured, &state);
	switch (state) {
	case XenbusStateInitialising:
		blkback_disconnect(d);
		set_state(d, XenbusStateInitWait);
		break;
	case XenbusStateInitialised:
	case XenbusStateConnected:
		/* Once for each time that we waited: a front end whose connection failed must begin anew. */
		if (d->state == XenbusStateInitWait && !connect(d))
			set_state(d, XenbusStateClosing);
		break;
	case XenbusStateClosing:
		blkback_disconnect(d);
		set_state(d, XenbusStateClosing);
		break;
	case XenbusStateUnknown:
	case XenbusStateClosed:
		blkback_disconnect(d);
		set_state(d, XenbusStateClosed);
		break;
	}
}

int blkback_offer(struct xenback *b, struct block *block)
{
	struct blkback *d = &b->disk[b->disks];
	char back_path[64], front_path[64], state_path[80], name[8];
	int err;

	if (b->disks == XENBACK_DISKS)
		return -ENOSPC;
	*d = (struct blkback){ .back = b, .block = block, .device = XVD_MAJOR << 8 | MINORS * b->disks };
	snprintf(back_path, sizeof(back_path), "/local/domain/0/backend/vbd/1/%u", d->device);
	snprintf(front_path, sizeof(front_path), "/local/domain/1/device/vbd/%u", d->device);
	snprintf(state_path, sizeof(state_path), "%s/state", front_path);
	snprintf(name, sizeof(name), "xvd%c", 'a' + (char)b->disks);
	err = put(d, false, "", "") || put(d, false, "frontend", front_path) || put(d, false, "frontend-id", "1") || put(d, false, "online", "1") ||
	      put(d, false, "removable", "0") || put(d, false, "bootable", "1") || put(d, false, "dev", name) || put(d, false, "type", "phy") ||
	      put(d, false, "device-type", "disk") || put(d, false, "mode", block->read_only ? "r" : "w") || put(d, false, "hotplug-status", "connected") ||
	      put(d, false, "feature-flush-cache", "1") || put(d, false, "feature-discard", block->read_only ? "0" : "1") ||
	      put_number(d, false, "feature-max-indirect-segments", INDIRECT_SEGMENTS) || put(d, false, "max-ring-page-order", "0") ||
	      put(d, true, "", "") || store_permit(b->store, front_path, "n1r0") || put(d, true, "backend", back_path) || put(d, true, "backend-id", "0") ||
	      put(d, true, "virtual-device", strrchr(front_path, '/') + 1) || put(d, true, "device-type", "disk") || put(d, true, "state", "1");
	if (!err)
		err = store_on_change(b->store, state_path, front_changed, d);
	if (err)
		return -ENOMEM;
	b->disks++;
	set_state(d, XenbusStateInitWait);
	return 0;
}
