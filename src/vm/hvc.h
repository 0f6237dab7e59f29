/*
 * hvc.h - hvc0: the console of a paravirtualized guest, a page of two rings (xen/io/console.h) between it and vm/console.
 *
 * The guest appends to one ring and takes from the other, and sends an event after either. Lock: the device lock, as for a serial port.
 */
#ifndef VM_HVC_H
#define VM_HVC_H

#include "base/stats.h"
#include "vm/console.h"
#include "xen/domain.h"

struct hvc_counters { uint64_t tx_bytes, rx_bytes, events; };

struct hvc {
	struct bus *bus;
	struct xen *xen;
	struct console *console;
	mfn_t ring;		/* MFN_NONE: not there yet */
	uint8_t *page;
	uint32_t port;
	uint32_t out_cons, in_prod;	/* ours; the guest sees copies */
	struct hvc_counters counters;
};

/* Makes the event channel, whose number the kernel must be told. 0 or -ENOSPC. */
int hvc_init(struct hvc *h, struct bus *bus, struct xen *xen, struct console *console);
/* The rings are at this page, which stays plain memory of the guest. */
void hvc_set_ring(struct hvc *h, struct pool *pool, mfn_t m);

/* For struct console_port; under the device lock. */
extern const struct console_port_ops hvc_console_port;

extern const struct stat_row hvc_stat_rows[];
extern const size_t hvc_stat_row_count;

#endif
