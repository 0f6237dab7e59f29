/*
 * store_ring.c - carries xenstore's messages over the ring page (struct xenstore_domain_interface in io/xs_wire.h): two streams of bytes, 1024 each,
 * with free-running indices.
 *
 * One request is answered at a time, and nothing new is read before its answer is in the ring: a guest that does not read slows only itself.
 */
#include "xenback/backend_internal.h"

#include <string.h>
#include <xen/io/xs_wire.h>

#define HEAD ((uint32_t)sizeof(struct xsd_sockmsg))

static void broken(struct xenback *b, uint32_t error)
{
	__atomic_store_n(&b->ring.ring->error, error, __ATOMIC_RELEASE);
	b->ring.broken = true;
	b->counters.store_errors++;
}

/* Takes bytes from the request ring until `in` has `want` of them. Whether any came. */
static bool take(struct xenback *b, uint32_t want, bool *did)
{
	struct store_ring *r = &b->ring;
	struct xenstore_domain_interface *ring = r->ring;
	const uint32_t prod = __atomic_load_n(&ring->req_prod, __ATOMIC_ACQUIRE);
	uint32_t cons = __atomic_load_n(&ring->req_cons, __ATOMIC_RELAXED);
	uint8_t *to = (uint8_t *)&r->in;

	if (prod - cons > XENSTORE_RING_SIZE) {
		broken(b, XENSTORE_ERROR_RINGIDX);
		return false;
	}
	while (r->in_have < want && cons != prod) {
		to[r->in_have++] = (uint8_t)__atomic_load_n(&ring->req[MASK_XENSTORE_IDX(cons)], __ATOMIC_RELAXED);
		cons++;
		*did = true;
	}
	__atomic_store_n(&ring->req_cons, cons, __ATOMIC_RELEASE);
	return r->in_have == want;
}

/* Puts what is left of `out` into the reply ring, as far as there is room. */
static bool give(struct xenback *b)
{
	struct store_ring *r = &b->ring;
	struct xenstore_domain_interface *ring = r->ring;
	const uint32_t cons = __atomic_load_n(&ring->rsp_cons, __ATOMIC_ACQUIRE), before = r->out_done;
	uint32_t prod = __atomic_load_n(&ring->rsp_prod, __ATOMIC_RELAXED);
	const uint8_t *from = (const uint8_t *)&r->out;

	if (prod - cons > XENSTORE_RING_SIZE) {
		broken(b, XENSTORE_ERROR_RINGIDX);
		return false;
	}
	while (r->out_done < r->out_len && prod - cons < XENSTORE_RING_SIZE) {
		__atomic_store_n(&ring->rsp[MASK_XENSTORE_IDX(prod)], (char)from[r->out_done++], __ATOMIC_RELAXED);
		prod++;
	}
	__atomic_store_n(&ring->rsp_prod, prod, __ATOMIC_RELEASE);
	if (r->out_done == r->out_len)
		r->out_done = r->out_len = 0;
	return r->out_done != before || !r->out_len;
}

_Static_assert(offsetof(struct store_message, payload) == sizeof(struct xsd_sockmsg), "a message is its header and its payload, as on the wire");

bool store_ring_serve(struct xenback *b)
{
	struct store_ring *r = &b->ring;
	bool did = false, ready;

	if (!r->ring || r->broken)
		return false;
	if (r->out_len) {
		did = give(b);
	} else if (store_event(b->store, &r->out)) {
		r->out_len = HEAD + r->out.len;
		b->counters.store_events++;
		did = give(b);
	} else {
		ready = take(b, HEAD, &did);
		if (ready || (r->in_have >= HEAD && !r->broken)) {
			if (r->in.len > STORE_PAYLOAD_MAX) {
				broken(b, XENSTORE_ERROR_PROTO);
				return false;
			}
			if (take(b, HEAD + r->in.len, &did)) {
				store_request(b->store, &r->in, &r->out);
				r->in_have = 0;
				r->out_len = HEAD + r->out.len;
				b->counters.store_requests++;
				give(b);
			}
		}
	}
	if (did) {
		xenback_written(b, r->m, 0, PAGE_SIZE);
		xen_port_notify_guest(b->xen, r->port);
	}
	return did && !r->broken;
}
