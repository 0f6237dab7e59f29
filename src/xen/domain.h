/*
 * domain.h - a Xen paravirtualized domain: what vm/ makes one of, and what it asks of it.
 *
 * The guest (a kernel with Xen ELF notes) runs at CPL 3, kernel and user alike. Its page tables hold machine frames and are the only tables
 * there are (mmu/direct.c); it changes them by hypercalls, which check every change (xen/page.h). Exceptions, events
 * and its user code's system calls come to it as the published ABI says. docs/direct.md is the overview.
 *
 * Lifecycle: xen_create (memory is set up and empty: takes the frames that are the VMM's) -> boot/ fills memory, knowing xen_shared_info_mfn -> xen_start
 * (gives every guest page its frame, writes P2M and M2P, types the initial tables, sets the first vcpu's registers) -> runs -> xen_destroy.
 *
 * Threads: hypercalls and deliveries run on the vcpu's own thread. xen_console_* and event sends may come from other threads.
 */
#ifndef XEN_DOMAIN_H
#define XEN_DOMAIN_H

#include "base/stats.h"
#include "cpu/vcpu.h"
#include "mem/memory.h"

struct xen;

/* How a domain ends by itself: SCHEDOP_shutdown's reasons, and a crash that the VMM found. On the vcpu's thread, guest vector registers live. */
enum xen_end { XEN_END_POWEROFF, XEN_END_REBOOT, XEN_END_SUSPEND, XEN_END_CRASH };
struct xen_config {
	struct memory *memory;
	uint64_t pages;		/* guest pages at start, pfn 0 up */
	/* Returns the wall clock in ns since 1970, like clock_realtime_ns. */
	uint64_t (*realtime_ns)(void);
	void (*ended)(void *opaque, enum xen_end end);
	/* Text for the operator (CONSOLEIO_write). As cold code. */
	void (*console_write)(void *opaque, const char *text, size_t len);
	void *opaque;
};

/* How its first vcpu starts, from boot_xen_entry (boot/boot.h). */
struct xen_boot {
	uint64_t rip, rsi, rsp;
	mfn_t root;			/* of the bootstrap tables */
	uint64_t hypercall_page;	/* guest-virtual, to be filled; 0: none */
	mfn_t ring[2];			/* pages that back-ends write: console, xenstore */
};

/* Frames that a domain of so many pages needs beside its own. */
uint64_t xen_spare_frames(uint64_t pages);
/* 0 or -errno. */
int xen_create(const struct xen_config *config, struct xen **out);
void xen_destroy(struct xen *xen);

mfn_t xen_shared_info_mfn(const struct xen *xen);

/* Adds a vcpu that vcpu_init has set up; its personality is the domain's from now on. 0 or -errno. */
int xen_add_vcpu(struct xen *xen, struct vcpu *v);

/*
 * Memory is filled, every guest page has its frame, the first vcpu is there: writes the M2P, makes the bootstrap tables the domain's, sets the vcpu's registers. 0 or
 * -errno (-EINVAL: the bootstrap tables are not what the ABI allows).
 */
int xen_start(struct xen *xen, const struct xen_boot *boot);

/* After a store of ours to a frame that the guest has too: it may hold code. Any thread. */
void xen_frame_written(struct xen *xen, mfn_t m);

/*
 * Event channels whose other end is in this process (domain 0, as the guest sees it). notify is called when the guest sends, as cold code on its thread, with no
 * lock held; xen_port_notify_guest is the other direction, from any thread.
 */
uint32_t xen_port_backend(struct xen *xen, void (*notify)(void *opaque), void *opaque);	/* a new port; 0: none free */
/* Connects one that the guest made with alloc_unbound. 0 or -XEN_EINVAL. */
int xen_port_connect(struct xen *xen, uint32_t port, void (*notify)(void *opaque), void *opaque);
void xen_port_disconnect(struct xen *xen, uint32_t port);
void xen_port_notify_guest(struct xen *xen, uint32_t port);

/* Recounts all references and types of its frames; the first violation to msg. 0 if clean. No vcpu runs. Cold. */
int xen_audit(struct xen *xen, char *msg, size_t size);

const char *xen_hypercall_name(uint64_t number);	/* 0: there is none */
extern const struct stat_row xen_stat_rows[], xen_call_rows[];
extern const size_t xen_stat_row_count, xen_call_row_count;
const void *xen_counters(const struct xen *xen);
const void *xen_page_counters(const struct xen *xen);	/* rows: pv_stat_rows, xen/page.h */

#endif
