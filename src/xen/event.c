/*
 * event.c - event channels, 2-level: 4096 ports, a pending and a mask bit each in shared_info, a selector word and the upcall flag in vcpu_info.
 * Source: xen/event_channel.h.
 *
 * The other end of an interdomain channel is in this process (the console, xenstore, back-ends): domain 0 as the guest sees it. Or it is another port of the domain
 * itself (bind_interdomain), its peer, which names it in turn.
 *
 * Lock: xen->lock guards the table of ports. The bits in guest memory are set with atomic instructions, by any thread.
 */
#include <pthread.h>

#include "xen/xen_internal.h"

#define PORT_BITS 64u

static void lock(struct xen *xen) { pthread_mutex_lock(xen->lock); }
static void unlock(struct xen *xen) { pthread_mutex_unlock(xen->lock); }

/* Sets a bit; whether it was set. */
static bool test_and_set(xen_ulong_t *word, unsigned bit)
{
	return __atomic_fetch_or(word, 1ul << bit, __ATOMIC_SEQ_CST) >> bit & 1;
}

void xen_frame_written(struct xen *xen, mfn_t m)
{
	if (UNLIKELY(pool_frame(&xen->memory->pool, m)->flags & FRAME_TRACKED)) {
		memory_lock(xen->memory);
		track_written(&xen->memory->track, m, 0, PAGE_SIZE);
		memory_unlock(xen->memory);
	}
}

/* The port has been made pending and is open: tell its vcpu. */
static void upcall(struct xen *xen, struct xen_vcpu *xv, uint32_t port)
{
	if (!test_and_set(&xv->info->evtchn_pending_sel, port / PORT_BITS)) {
		__atomic_store_n(&xv->info->evtchn_upcall_pending, 1, __ATOMIC_SEQ_CST);
		xen_frame_written(xen, xv->info_m);
	}
	if (xv->v)
		vcpu_request(xv->v, REQ_INTERRUPT);
}

void xen_port_raise(struct xen *xen, uint32_t port)
{
	struct xen_vcpu *xv = &xen->vcpu[xen->port[port].vcpu];
	xen_ulong_t *mask = &xen->shared->evtchn_mask[port / PORT_BITS];

	if (!test_and_set(&xen->shared->evtchn_pending[port / PORT_BITS], port % PORT_BITS) &&
	    !(__atomic_load_n(mask, __ATOMIC_SEQ_CST) >> port % PORT_BITS & 1))
		upcall(xen, xv, port);
	else if (xv->polling && xv->v)
		vcpu_request(xv->v, REQ_INTERRUPT);
	xen_frame_written(xen, xen->shared_m);
}

bool xen_port_is_pending(const struct xen *xen, uint32_t port)
{
	return __atomic_load_n(&xen->shared->evtchn_pending[port / PORT_BITS], __ATOMIC_SEQ_CST) >> port % PORT_BITS & 1;
}

void xen_virq_raise(struct xen_vcpu *xv, unsigned virq)
{
	struct xen *xen = xv->xen;

	lock(xen);
	if (xv->virq_port[virq])
		xen_port_raise(xen, xv->virq_port[virq]);
	unlock(xen);
}

static bool is_self(domid_t dom) { return dom == DOMID_SELF || dom == XEN_DOMID; }

/* A free port; 0: none. Port 0 is never used. */
static uint32_t port_free(const struct xen *xen)
{
	for (uint32_t p = 1; p < XEN_PORTS; p++)
		if (xen->port[p].state == EVTCHNSTAT_closed)
			return p;
	return 0;
}

static void port_open(struct xen *xen, uint32_t port, uint8_t state, unsigned vcpu)
{
	xen->port[port] = (struct xen_port){ .state = state, .vcpu = (uint8_t)vcpu };
	__atomic_fetch_and(&xen->shared->evtchn_pending[port / PORT_BITS], ~(1ul << port % PORT_BITS), __ATOMIC_SEQ_CST);
}

uint32_t xen_port_backend(struct xen *xen, void (*notify)(void *opaque), void *opaque)
{
	uint32_t port;

	lock(xen);
	port = port_free(xen);
	if (port) {
		port_open(xen, port, EVTCHNSTAT_interdomain, 0);
		xen->port[port].notify = notify;
		xen->port[port].opaque = opaque;
	}
	unlock(xen);
	return port;
}

int xen_port_connect(struct xen *xen, uint32_t port, void (*notify)(void *opaque), void *opaque)
{
	int err = -XEN_EINVAL;

	lock(xen);
	if (port < XEN_PORTS && xen->port[port].state == EVTCHNSTAT_unbound && !xen->port[port].for_self) {
		xen->port[port].state = EVTCHNSTAT_interdomain;
		xen->port[port].notify = notify;
		xen->port[port].opaque = opaque;
		err = 0;
	}
	unlock(xen);
	return err;
}

void xen_port_notify_guest(struct xen *xen, uint32_t port)
{
	lock(xen);
	if (port < XEN_PORTS && xen->port[port].state == EVTCHNSTAT_interdomain && !xen->port[port].peer)
		xen_port_raise(xen, port);
	unlock(xen);
}

void xen_port_disconnect(struct xen *xen, uint32_t port)
{
	lock(xen);
	if (port < XEN_PORTS && xen->port[port].state == EVTCHNSTAT_interdomain && !xen->port[port].peer) {
		xen->port[port].state = EVTCHNSTAT_unbound;
		xen->port[port].notify = NULL;
	}
	unlock(xen);
}

/* The operations. Each has the structure of its name in `u` and runs with the lock held. */

union evtchn_args {
	struct evtchn_alloc_unbound alloc_unbound;
	struct evtchn_bind_virq bind_virq;
	struct evtchn_bind_ipi bind_ipi;
	struct evtchn_close close;
	struct evtchn_send send;
	struct evtchn_status status;
	struct evtchn_bind_vcpu bind_vcpu;
	struct evtchn_unmask unmask;
	struct evtchn_reset reset;
	struct evtchn_bind_interdomain bind_interdomain;
};

static bool port_ok(const struct xen *xen, uint32_t port) { return port && port < XEN_PORTS && xen->port[port].state != EVTCHNSTAT_closed; }

/* VIRQs that belong to the whole domain may be bound once, to vcpu 0. */
static bool virq_is_global(unsigned virq) { return virq != VIRQ_TIMER && virq != VIRQ_DEBUG && virq != VIRQ_XENOPROF && virq != VIRQ_XENPMU; }

static int64_t op_alloc_unbound(struct xen_call *c, union evtchn_args *u)
{
	uint32_t port;

	if (!is_self(u->alloc_unbound.dom))
		return -XEN_EPERM;
	port = port_free(c->xen);
	if (!port)
		return -XEN_ENOSPC;
	port_open(c->xen, port, EVTCHNSTAT_unbound, 0);
	c->xen->port[port].for_self = is_self(u->alloc_unbound.remote_dom);
	u->alloc_unbound.port = port;
	return 0;
}

/* A channel of the domain to itself. (Nobody else, domain 0 least of all, has ports that wait for it.) */
static int64_t op_bind_interdomain(struct xen_call *c, union evtchn_args *u)
{
	struct evtchn_bind_interdomain *a = &u->bind_interdomain;
	struct xen_port *p = c->xen->port;
	uint32_t port;

	if (!is_self(a->remote_dom))
		return a->remote_dom ? -XEN_ESRCH : -XEN_EINVAL;
	if (a->remote_port >= XEN_PORTS || p[a->remote_port].state != EVTCHNSTAT_unbound || !p[a->remote_port].for_self)
		return -XEN_EINVAL;
	port = port_free(c->xen);
	if (!port)
		return -XEN_ENOSPC;
	port_open(c->xen, port, EVTCHNSTAT_interdomain, 0);
	p[port].peer = (uint16_t)a->remote_port;
	p[a->remote_port].state = EVTCHNSTAT_interdomain;
	p[a->remote_port].peer = (uint16_t)port;
	a->local_port = port;
	/* What was sent before has found nobody. */
	xen_port_raise(c->xen, port);
	return 0;
}

static int64_t op_bind_virq(struct xen_call *c, union evtchn_args *u)
{
	struct evtchn_bind_virq *a = &u->bind_virq;
	uint32_t port;

	if (a->virq >= NR_VIRQS || (virq_is_global(a->virq) && a->vcpu))
		return -XEN_EINVAL;
	if (a->vcpu >= c->xen->vcpus)
		return -XEN_ENOENT;
	if (c->xen->vcpu[a->vcpu].virq_port[a->virq])
		return -XEN_EEXIST;
	port = port_free(c->xen);
	if (!port)
		return -XEN_ENOSPC;
	port_open(c->xen, port, EVTCHNSTAT_virq, a->vcpu);
	c->xen->port[port].virq = (uint8_t)a->virq;
	c->xen->vcpu[a->vcpu].virq_port[a->virq] = port;
	a->port = port;
	return 0;
}

static int64_t op_bind_ipi(struct xen_call *c, union evtchn_args *u)
{
	uint32_t port;

	if (u->bind_ipi.vcpu >= c->xen->vcpus)
		return -XEN_ENOENT;
	port = port_free(c->xen);
	if (!port)
		return -XEN_ENOSPC;
	port_open(c->xen, port, EVTCHNSTAT_ipi, u->bind_ipi.vcpu);
	u->bind_ipi.port = port;
	return 0;
}

static void close_port(struct xen *xen, uint32_t port)
{
	struct xen_port *p = &xen->port[port];

	if (p->state == EVTCHNSTAT_virq)
		xen->vcpu[p->vcpu].virq_port[p->virq] = 0;
	if (p->peer) {
		/* Waits for another. */
		xen->port[p->peer].state = EVTCHNSTAT_unbound;
		xen->port[p->peer].peer = 0;
	}
	port_open(xen, port, EVTCHNSTAT_closed, 0);
}

static int64_t op_close(struct xen_call *c, union evtchn_args *u)
{
	if (!port_ok(c->xen, u->close.port))
		return -XEN_EINVAL;
	close_port(c->xen, u->close.port);
	return 0;
}

static int64_t op_send(struct xen_call *c, union evtchn_args *u)
{
	struct xen_port *p;

	if (u->send.port >= XEN_PORTS || !u->send.port)
		return -XEN_EINVAL;
	p = &c->xen->port[u->send.port];
	c->xen->counters.events_sent++;
	switch (p->state) {
	case EVTCHNSTAT_interdomain:
		if (p->peer) {
			xen_port_raise(c->xen, p->peer);
			return 0;
		}
		/* Called when the lock is free again: a back-end may answer at once. */
		c->notify = p->notify;
		c->notify_opaque = p->opaque;
		return 0;
	case EVTCHNSTAT_ipi:
		xen_port_raise(c->xen, u->send.port);
		return 0;
	case EVTCHNSTAT_unbound:
		return 0;
	default:
		return -XEN_EINVAL;
	}
}

static int64_t op_status(struct xen_call *c, union evtchn_args *u)
{
	struct evtchn_status *a = &u->status;
	const struct xen_port *p;

	if (!is_self(a->dom))
		return -XEN_ESRCH;
	if (a->port >= XEN_PORTS)
		return -XEN_EINVAL;
	p = &c->xen->port[a->port];
	a->status = p->state;
	a->vcpu = p->vcpu;
	if (p->state == EVTCHNSTAT_virq)
		a->u.virq = p->virq;
	else if (p->state == EVTCHNSTAT_unbound)
		a->u.unbound.dom = p->for_self ? XEN_DOMID : 0;
	else if (p->state == EVTCHNSTAT_interdomain)
		a->u.interdomain.dom = p->peer ? XEN_DOMID : 0, a->u.interdomain.port = p->peer ? p->peer : a->port;
	return 0;
}

static int64_t op_bind_vcpu(struct xen_call *c, union evtchn_args *u)
{
	struct xen_port *p;

	if (u->bind_vcpu.vcpu >= c->xen->vcpus)
		return -XEN_ENOENT;
	if (!port_ok(c->xen, u->bind_vcpu.port))
		return -XEN_EINVAL;
	p = &c->xen->port[u->bind_vcpu.port];
	if (p->state == EVTCHNSTAT_ipi || (p->state == EVTCHNSTAT_virq && !virq_is_global(p->virq)))
		return -XEN_EINVAL;
	p->vcpu = (uint8_t)u->bind_vcpu.vcpu;
	return 0;
}

static int64_t op_unmask(struct xen_call *c, union evtchn_args *u)
{
	struct xen *xen = c->xen;
	uint32_t port = u->unmask.port;
	xen_ulong_t *mask;

	if (!port_ok(xen, port))
		return -XEN_EINVAL;
	mask = &xen->shared->evtchn_mask[port / PORT_BITS];
	if ((__atomic_fetch_and(mask, ~(1ul << port % PORT_BITS), __ATOMIC_SEQ_CST) >> port % PORT_BITS & 1) && xen_port_is_pending(xen, port))
		upcall(xen, &xen->vcpu[xen->port[port].vcpu], port);
	xen_frame_written(xen, xen->shared_m);
	return 0;
}

/* Closes what is not ours: the console's and back-ends' channels are closed too, as they would be on Xen. */
static int64_t op_reset(struct xen_call *c, union evtchn_args *u)
{
	if (!is_self(u->reset.dom))
		return -XEN_ESRCH;
	for (uint32_t p = 1; p < XEN_PORTS; p++)
		if (c->xen->port[p].state != EVTCHNSTAT_closed)
			close_port(c->xen, p);
	return 0;
}

static const struct evtchn_row {
	uint8_t op;
	uint8_t size;
	bool out;	/* the structure goes back to the guest */
	int64_t (*run)(struct xen_call *c, union evtchn_args *u);
} rows[] = {
#define ROW(name, out) { EVTCHNOP_##name, sizeof(struct evtchn_##name), out, op_##name }
	ROW(send, false), ROW(unmask, false), ROW(bind_virq, true), ROW(bind_ipi, true), ROW(alloc_unbound, true), ROW(close, false), ROW(status, true),
	ROW(bind_vcpu, false), ROW(reset, false), ROW(bind_interdomain, true),
#undef ROW
};

struct notify { void (*notify)(void *opaque); void *opaque; };
static void notify_cold(void *arg)
{
	struct notify *n = arg;

	n->notify(n->opaque);
}

/* arg[0]: EVTCHNOP_*, arg[1]: its structure. */
int64_t xen_do_event_channel_op(struct xen_call *c)
{
	union evtchn_args u;
	int64_t r;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].op != c->arg[0])
			continue;
		if (xen_copy_from_guest(c->v, &u, c->arg[1], rows[i].size))
			return -XEN_EFAULT;
		c->notify = NULL;
		lock(c->xen);
		r = rows[i].run(c, &u);
		unlock(c->xen);
		if (c->notify) {
			struct notify n = { c->notify, c->notify_opaque };

			fpu_call_cold(c->v, notify_cold, &n);
		}
		if (!r && rows[i].out && xen_copy_to_guest(c->v, c->arg[1], &u, rows[i].size))
			return -XEN_EFAULT;
		return r;
	}
	return -XEN_ENOSYS;
}
