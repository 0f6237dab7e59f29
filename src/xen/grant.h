/*
 * grant.h - grant tables, version 1: a guest lets a page of its own be used by domain 0, whose back ends are in this process. The guest maps nothing of others.
 * Source: xen/grant_table.h.
 *
 * The table lies in frames of ours that the guest maps writable, made as it asks for them. An entry is read once, and marked as in use (GTF_reading,
 * GTF_writing) until it is given back; meanwhile the frame holds a reference of ours, so that it neither leaves the domain nor, if we write, becomes a table.
 */
#ifndef XEN_GRANT_H
#define XEN_GRANT_H

#include "mem/memory.h"

struct xen;

#define XEN_GRANT_FRAMES 16u	/* of 512 entries each */

struct xen_grant {
	void *hva;		/* of the page */
	mfn_t m;
	uint32_t ref;
	bool write;
};

/* Any thread. 0, or -XEN_EINVAL: no such grant, not for domain 0, read-only, or its frame is not the domain's plain memory. */
int xen_grant_use(struct xen *xen, uint32_t ref, bool write, struct xen_grant *out);
void xen_grant_done(struct xen *xen, struct xen_grant *g);

#endif
