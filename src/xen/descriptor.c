/*
 * descriptor.c - descriptor tables: set_gdt, update_descriptor, and the local table, whose pages get their type when a selector first needs them.
 * The processor reads both through a window of ours that is read-only (domain.c), so descriptors have their accessed bit set already (validate.c).
 * Sources: xen/xen.h, "set_gdt", "update_descriptor", "MMUEXT_SET_LDT".
 */
#include "xen/page.h"
#include "xen/xen_internal.h"

#define ENTRIES 512u		/* descriptors a page */
#define LDT_MAX 8192u

/* Lock held. The frames' references go. */
static void put_frames(struct xen *xen, mfn_t *frame, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (mfn_valid(frame[i]))
			pv_put_type(xen->pages, frame[i]);
		frame[i] = MFN_NONE;
	}
}

/* arg: array of frame numbers, how many descriptors. */
int64_t xen_do_set_gdt(struct xen_call *c)
{
	struct xen_vcpu *xv = c->xv;
	mfn_t old[ARRAY_LEN(xv->gdt_frame)], new[ARRAY_LEN(xv->gdt_frame)];
	uint64_t list[ARRAY_LEN(xv->gdt_frame)];
	const unsigned entries = (unsigned)c->arg[1], n = entries / ENTRIES + !!(entries % ENTRIES);
	int err = 0;

	if (entries > FIRST_RESERVED_GDT_ENTRY)
		return -XEN_EINVAL;
	if (xen_copy_from_guest(c->v, list, c->arg[0], n * sizeof(list[0])))
		return -XEN_EFAULT;
	c->xen->pages->budget = c->xen->pages->round;
	if (!xen_pages_lock(c->xen)) {
		c->again = true;
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_LEN(new); i++) {
		new[i] = MFN_NONE;
		if (i < n && !err) {
			err = pv_get_type(c->xen->pages, mfn(list[i]), PV_SEG_DESC);
			if (!err)
				new[i] = mfn(list[i]);
		}
	}
	if (err)
		put_frames(c->xen, new, n);
	memory_unlock(c->xen->memory);
	if (err == -PV_AGAIN) {
		c->again = true;
		return 0;
	}
	if (err)
		return -XEN_EINVAL;
	for (unsigned i = 0; i < ARRAY_LEN(new); i++) {
		old[i] = xv->gdt_frame[i];
		xv->gdt_frame[i] = new[i];
	}
	xv->gdt_entries = entries;
	xen_descriptors_changed(xv);
	memory_lock(c->xen->memory);
	put_frames(c->xen, old, ARRAY_LEN(old));
	memory_unlock(c->xen->memory);
	return 0;
}

/* arg: machine address, descriptor. */
int64_t xen_do_update_descriptor(struct xen_call *c)
{
	struct pv_pages *pages = c->xen->pages;
	uint64_t at = c->arg[0], descriptor = c->arg[1];
	mfn_t m = mfn(at >> PAGE_SHIFT);
	int err = -XEN_EINVAL;

	if (at % sizeof(descriptor) || !pv_check_descriptor(&descriptor))
		return -XEN_EINVAL;
	pages->budget = pages->round;
	if (!xen_pages_lock(c->xen)) {
		c->again = true;
		return 0;
	}
	if (pv_page_owned(pages, m))
		err = pv_get_type(pages, m, pages->page[m.v].type == PV_SEG_DESC ? PV_SEG_DESC : PV_WRITABLE);
	if (!err) {
		pool_touch(&c->xen->memory->pool, m);
		__atomic_store_n(pv_table(pages, m) + (at & ~PAGE_MASK) / 8, descriptor, __ATOMIC_RELEASE);
		track_written(&c->xen->memory->track, m, (unsigned)(at & ~PAGE_MASK), 8);
		pv_put_type(pages, m);
		for (unsigned i = 0; i < c->xen->vcpus; i++)
			c->xen->vcpu[i].entered.valid = false;
	}
	memory_unlock(c->xen->memory);
	if (err != -PV_AGAIN)
		return err ? -XEN_EINVAL : 0;
	c->again = true;
	return 0;
}

void xen_ldt_forget(struct xen_vcpu *xv)
{
	mfn_t old[ARRAY_LEN(xv->ldt_frame)];
	bool any = false;

	for (unsigned i = 0; i < ARRAY_LEN(old); i++) {
		old[i] = xv->ldt_frame[i];
		any |= mfn_valid(old[i]);
		xv->ldt_frame[i] = MFN_NONE;
	}
	if (!any)
		return;
	xen_descriptors_changed(xv);
	memory_lock(xv->xen->memory);
	put_frames(xv->xen, old, ARRAY_LEN(old));
	memory_unlock(xv->xen->memory);
}

int xen_set_ldt(struct xen_vcpu *xv, uint64_t base, uint64_t entries)
{
	const uint64_t last = base + entries * 8 - 1;

	if ((base & ~PAGE_MASK) || entries > LDT_MAX)
		return -XEN_EINVAL;
	if (entries && (!va_canonical(base, VA_BITS_4LEVEL) || !va_canonical(last, VA_BITS_4LEVEL) || (last >= XEN_HOLE_START && base < XEN_HOLE_END)))
		return -XEN_EINVAL;
	if (xv->ldt_base == base && xv->ldt_entries == entries)
		return 0;
	xen_ldt_forget(xv);
	xv->ldt_base = base;
	xv->ldt_entries = (unsigned)entries;
	xen_descriptors_changed(xv);
	return 0;
}

/* The page of the local table has no frame in the window: the guest's own mapping says which it is. */
static bool load_page(struct xen_vcpu *xv, unsigned page)
{
	struct xen *xen = xv->xen;
	uint64_t at, entry;
	int err = -XEN_EINVAL;
	mfn_t m = MFN_NONE;

	do {
		/* What is left to undo is the guest's doing, and this is no hypercall that could be made again. */
		xen->pages->budget = xen->pages->round;
		if (!xen_pages_lock(xen)) {
			err = -PV_AGAIN;
			continue;
		}
		err = -XEN_EINVAL;
		if (mmu_direct_entry(&xv->v->mmu, gva(xv->ldt_base + ((uint64_t)page << PAGE_SHIFT)), &at)) {
			entry = pv_table(xen->pages, mfn(at >> PAGE_SHIFT))[(at & ~PAGE_MASK) / 8];
			m = pv_entry_mfn(entry);
			if (entry & PTE_P)
				err = pv_get_type(xen->pages, m, PV_SEG_DESC);
		}
		memory_unlock(xen->memory);
	} while (err == -PV_AGAIN);
	if (err)
		return false;
	xv->ldt_frame[page] = m;
	xen_descriptors_changed(xv);
	return true;
}

bool xen_ldt_load(struct xen_vcpu *xv, unsigned offset)
{
	if (offset >= xv->ldt_entries * 8)
		return false;
	return mfn_valid(xv->ldt_frame[offset >> PAGE_SHIFT]) || load_page(xv, offset >> PAGE_SHIFT);
}
