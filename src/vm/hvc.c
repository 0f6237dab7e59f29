/*
 * hvc.c - between the rings of hvc0 and vm/console.
 *
 * All four indices are in the guest's page and run freely, modulo 2^32. Two of them are ours, and what we go by is our own copy; one of the guest's that makes
 * no sense (more bytes than the ring has) means that there is nothing to take, and no room.
 */
#include "vm/hvc.h"

#include <errno.h>

#include "xen/abi.h"

static struct xencons_interface *rings(const struct hvc *h) { return (struct xencons_interface *)(void *)h->page; }

/* The guest's output, as long as there is room for it. Whether any was taken. */
static bool hvc_output(struct hvc *h)
{
	struct xencons_interface *r = rings(h);
	const uint32_t prod = __atomic_load_n(&r->out_prod, __ATOMIC_ACQUIRE), from = h->out_cons;

	if (prod - from > sizeof(r->out))
		h->out_cons = prod;
	while (h->out_cons != prod && console_tx_ready(h->console)) {
		console_tx(h->console, (uint8_t)r->out[MASK_XENCONS_IDX(h->out_cons, r->out)]);
		h->out_cons++;
		h->counters.tx_bytes++;
	}
	if (h->out_cons == from)
		return false;
	__atomic_store_n(&r->out_cons, h->out_cons, __ATOMIC_RELEASE);
	xen_frame_written(h->xen, h->ring);
	return true;
}

static size_t input_room(const struct hvc *h)
{
	const struct xencons_interface *r = rings(h);
	const uint32_t used = h->in_prod - __atomic_load_n(&r->in_cons, __ATOMIC_ACQUIRE);

	return used > sizeof(r->in) ? 0 : sizeof(r->in) - used;
}

static size_t hvc_receive(void *opaque, const uint8_t *bytes, size_t n)
{
	struct hvc *h = opaque;
	struct xencons_interface *r = rings(h);
	size_t taken = 0;

	if (!r)
		return 0;
	const size_t room = input_room(h);
	while (taken < n && taken < room) {
		r->in[MASK_XENCONS_IDX(h->in_prod, r->in)] = (char)bytes[taken++];
		h->in_prod++;
	}
	if (taken) {
		__atomic_store_n(&r->in_prod, h->in_prod, __ATOMIC_RELEASE);
		h->counters.rx_bytes += taken;
		xen_frame_written(h->xen, h->ring);
		xen_port_notify_guest(h->xen, h->port);
	}
	return taken;
}

static void hvc_tx_room(void *opaque)
{
	struct hvc *h = opaque;

	if (h->page && hvc_output(h))
		xen_port_notify_guest(h->xen, h->port);
}

/* The guest has sent an event. */
static void hvc_notified(void *opaque)
{
	struct hvc *h = opaque;
	bool taken;

	bus_lock(h->bus);
	h->counters.events++;
	taken = hvc_output(h);
	if (input_room(h))
		console_rx_room(h->console);
	bus_unlock(h->bus);
	if (taken)
		xen_port_notify_guest(h->xen, h->port);
}

int hvc_init(struct hvc *h, struct bus *bus, struct xen *xen, struct console *console)
{
	*h = (struct hvc){ .bus = bus, .xen = xen, .console = console, .ring = MFN_NONE };
	h->port = xen_port_backend(xen, hvc_notified, h);
	return h->port ? 0 : -ENOSPC;
}

void hvc_set_ring(struct hvc *h, struct pool *pool, mfn_t m)
{
	h->ring = m;
	h->page = pool_ptr(pool, m);
}

const struct console_port_ops hvc_console_port = { hvc_receive, hvc_tx_room };

const struct stat_row hvc_stat_rows[] = {
	STAT_ROW(struct hvc_counters, tx_bytes, "bytes that the guest wrote to hvc0"),
	STAT_ROW(struct hvc_counters, rx_bytes, "bytes put into its input ring"),
	STAT_ROW(struct hvc_counters, events, "events that it sent for either"),
};
const size_t hvc_stat_row_count = ARRAY_LEN(hvc_stat_rows);
