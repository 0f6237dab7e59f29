/*
 * backend.h - domain 0 as a paravirtualized guest sees it: xenstore and the back ends of its devices, on one thread.
 *
 * Lifecycle: xenback_create (the domain exists, the guest does not run) -> xenback_add_disk for each disk -> the guest is loaded, and told of the store's port ->
 * xenback_start, with the frame of the store's ring -> ... -> xenback_destroy (after the vcpus have stopped; what it has begun it finishes).
 *
 * Threads: the guest's notifications, on its vcpus' threads, only wake ours; the store and all devices belong to that thread alone.
 */
#ifndef XENBACK_BACKEND_H
#define XENBACK_BACKEND_H

#include "dev/block.h"
#include "mem/memory.h"

struct xen;
struct xenback;
#define XENBACK_DISKS 4u

/* 0 or -errno. */
int xenback_create(struct xen *xen, struct memory *memory, struct xenback **out);
/* For start_info.store_evtchn. */
uint32_t xenback_store_port(const struct xenback *b);
/* Offers the disk as xvda, xvdb... The block stays the caller's, and open until xenback_destroy. 0 or -errno. */
int xenback_add_disk(struct xenback *b, struct block *block);
int xenback_start(struct xenback *b, mfn_t store_ring);
void xenback_destroy(struct xenback *b);

struct xenback_counters { uint64_t store_requests, store_events, disk_requests, disk_segments, disk_refused, store_errors; };
extern const struct stat_row xenback_stat_rows[];
extern const size_t xenback_stat_row_count;
const struct xenback_counters *xenback_counters(const struct xenback *b);

#endif
