/*
 * domain_pages.c - page types of a whole domain: set-up, what the VMM itself holds, and the recount of all of it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "xen/page.h"
#include "xen/xen_internal.h"

int xen_pages_create(struct xen *xen)
{
	int err;

	xen->pages = calloc(1, sizeof(*xen->pages));
	if (!xen->pages)
		return -ENOMEM;
	err = pv_pages_init(xen->pages, xen->memory, xen->l4_slot);
	if (!err)
		pv_page_join(xen->pages, xen->shared_m, true);
	return err;
}

void xen_pages_destroy(struct xen *xen)
{
	if (!xen->pages)
		return;
	pv_pages_destroy(xen->pages);
	free(xen->pages);
}

int xen_pages_start(struct xen *xen, mfn_t root)
{
	struct pool *pool = &xen->memory->pool;
	int err = 0;

	memory_lock(xen->memory);
	for (uint64_t i = 0; i < pool->frames; i++)
		if ((pool_frame(pool, mfn(i))->flags & (FRAME_ALLOCATED | FRAME_VMM)) == FRAME_ALLOCATED && i != xen->shared_m.v)
			pv_page_join(xen->pages, mfn(i), false);
	/* The pin, and the vcpu's own reference. */
	for (unsigned step = 0; step < 2 && !err; step++)
		do {
			xen->pages->budget = xen->pages->round;
			err = !pv_ready(xen->pages) ? -PV_AGAIN :
			      step	      ? pv_get_type(xen->pages, root, PV_L4) : pv_pin(xen->pages, root, PV_L4);
		} while (err == -PV_AGAIN);
	memory_unlock(xen->memory);
	return err ? -EINVAL : 0;
}

bool xen_hold_writable(struct xen *xen, mfn_t m)
{
	int err;

	if (xen->helds == ARRAY_LEN(xen->held))
		return false;
	do {
		/* Rare: a few times in a domain's life. */
		xen->pages->budget = xen->pages->round;
		err = -PV_AGAIN;
		if (xen_pages_lock(xen)) {
			err = pv_get_type(xen->pages, m, PV_WRITABLE);
			memory_unlock(xen->memory);
		}
	} while (err == -PV_AGAIN);
	if (err)
		return false;
	xen->held[xen->helds++] = m;
	return true;
}

/* A root in the MMU, and frames of descriptors; the list has room. */
static size_t held_by_vcpu(const struct xen_vcpu *xv, struct pv_held *held)
{
	const uint64_t root[2] = { xv->v->mmu.cr3, xv->v->mmu.user_cr3 };
	size_t n = 0;

	for (unsigned i = 0; i < 2; i++)
		if (root[i])
			held[n++] = (struct pv_held){ mfn(root[i] >> PAGE_SHIFT), PV_L4 };
	for (unsigned i = 0; i < ARRAY_LEN(xv->gdt_frame); i++)
		if (mfn_valid(xv->gdt_frame[i]))
			held[n++] = (struct pv_held){ xv->gdt_frame[i], PV_SEG_DESC };
	for (unsigned i = 0; i < ARRAY_LEN(xv->ldt_frame); i++)
		if (mfn_valid(xv->ldt_frame[i]))
			held[n++] = (struct pv_held){ xv->ldt_frame[i], PV_SEG_DESC };
	return n;
}

int xen_audit(struct xen *xen, char *msg, size_t size)
{
	struct pv_held held[XEN_VCPUS_MAX * 34 + ARRAY_LEN(xen->held) + XEN_GRANT_USES];
	size_t n = 0;
	int err;

	for (unsigned i = 0; i < xen->helds; i++)
		held[n++] = (struct pv_held){ xen->held[i], PV_WRITABLE };
	for (unsigned i = 0; i < xen->vcpus; i++)
		n += held_by_vcpu(&xen->vcpu[i], held + n);
	memory_lock(xen->memory);
	for (unsigned i = 0; i < xen->grant_uses; i++)
		held[n++] = (struct pv_held){ xen->grant_use[i].m, xen->grant_use[i].write ? PV_WRITABLE : PV_NONE };
	err = pv_audit(xen->pages, held, n, msg, size);
	memory_unlock(xen->memory);
	return err;
}
