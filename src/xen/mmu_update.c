/*
 * mmu_update.c - the hypercalls that change page-table entries: mmu_update, update_va_mapping; and how a hypercall takes a list of requests (mmuext_op does, too).
 * Sources: xen/xen.h, "HYPERVISOR_mmu_update", "update_va_mapping".
 */
#include "xen/page.h"
#include "xen/xen_internal.h"

/* In the count that the guest gives back: this call goes on where it stopped, and *pdone says what was done before. */
#define GOES_ON (1u << 31)

bool xen_pages_lock(struct xen *xen)
{
	memory_lock(xen->memory);
	if (UNLIKELY(xen->grant_uses))
		xen_grant_drain(xen);
	if (LIKELY(pv_ready(xen->pages)))
		return true;
	memory_unlock(xen->memory);
	return false;
}

/* Whose pages (low half) and whose tables (high half, plus 1; 0: the same) are meant: the caller's own, or an error. */
static int owner(uint32_t domains)
{
	uint16_t id = (uint16_t)domains;

	if (domains >> 16 && domains >> 16 != XEN_DOMID + 1)
		return -XEN_EINVAL;
	if (id == DOMID_SELF)
		return 0;
	return id == DOMID_IO || id == DOMID_XEN ? -XEN_EPERM : -XEN_ESRCH;
}

int64_t xen_batch(struct xen_call *c, size_t size, xen_request *one)
{
	uint32_t count = (uint32_t)c->arg[1], done = 0;
	uint64_t pdone = c->arg[2];
	union { struct mmu_update update; struct mmuext_op ext; } request;
	int err = owner((uint32_t)c->arg[3]);

	ASSERT(size <= sizeof(request));
	if (err)
		return err;
	if ((count & GOES_ON) && pdone && xen_copy_from_guest(c->v, &done, pdone, sizeof(done)))
		return -XEN_EFAULT;
	count &= ~GOES_ON;
	c->xen->pages->budget = c->xen->pages->round;
	for (; count && !err; count--, done++, c->arg[0] += size) {
		err = c->xen->pages->budget ? 0 : -PV_AGAIN;
		if (err)
			break;
		c->xen->pages->budget--;
		err = xen_copy_from_guest(c->v, &request, c->arg[0], size);
		if (!err)
			err = one(c, &request);
		if (err)
			break;
	}
	if (pdone)
		xen_copy_to_guest(c->v, pdone, &done, sizeof(done));
	if (err != -PV_AGAIN)
		return err;
	c->arg[1] = count | GOES_ON;
	c->again = true;
	return 0;
}

static int update(struct xen_call *c, const void *request)
{
	const struct mmu_update *u = request;
	struct pv_pages *pages = c->xen->pages;
	const unsigned command = u->ptr & 7;
	int err;

	if (!xen_pages_lock(c->xen))
		return -PV_AGAIN;
	switch (command) {
	case MMU_NORMAL_PT_UPDATE: case MMU_PT_UPDATE_PRESERVE_AD: case MMU_PT_UPDATE_NO_TRANSLATE:
		err = pv_update(pages, u->ptr & ~7ull, u->val, command == MMU_PT_UPDATE_PRESERVE_AD);
		break;
	case MMU_MACHPHYS_UPDATE:
		err = pv_page_owned(pages, mfn(u->ptr >> PAGE_SHIFT)) ? 0 : -XEN_EINVAL;
		if (!err)
			xen_m2p_set(c->xen, mfn(u->ptr >> PAGE_SHIFT), u->val);
		break;
	default:
		err = -XEN_ENOSYS;
	}
	memory_unlock(c->xen->memory);
	return err;
}

/* arg: array of mmu_update, how many, where to say how many were done, whose. */
int64_t xen_do_mmu_update(struct xen_call *c) { return xen_batch(c, sizeof(struct mmu_update), update); }

static int update_va(struct xen_call *c, uint64_t va, uint64_t value)
{
	struct pv_pages *pages = c->xen->pages;
	uint64_t at;
	int err = -XEN_EINVAL;

	if (!va_canonical(va, VA_BITS_4LEVEL) || (va >= XEN_HOLE_START && va < XEN_HOLE_END))
		return -XEN_EINVAL;
	if (!xen_pages_lock(c->xen))
		return -PV_AGAIN;
	if (mmu_direct_entry(&c->v->mmu, gva(va), &at) && pages->page[at >> PAGE_SHIFT].type == PV_L1)
		err = pv_update(pages, at, value, false);
	memory_unlock(c->xen->memory);
	return err;
}

/* arg: address, entry, UVMF_*: which is a kind of flush and either a set or the address of a bitmap of vcpus. */
int64_t xen_do_update_va_mapping(struct xen_call *c)
{
	const uint64_t va = c->arg[0], flags = c->arg[2], whom = flags & ~(uint64_t)UVMF_FLUSHTYPE_MASK;
	uint64_t set = whom == UVMF_ALL ? ~0ull : 1ull << c->xv->id;
	int err;

	c->xen->pages->budget = c->xen->pages->round;
	err = update_va(c, va, c->arg[1]);
	if (err == -PV_AGAIN) {
		c->again = true;
		return 0;
	}
	if (err)
		return err;
	if (whom != UVMF_LOCAL && whom != UVMF_ALL && (flags & UVMF_FLUSHTYPE_MASK) && xen_vcpu_set(c, whom, &set))
		return -XEN_EFAULT;
	switch (flags & UVMF_FLUSHTYPE_MASK) {
	case UVMF_TLB_FLUSH: xen_flush_tlb(c, set); break;
	case UVMF_INVLPG: xen_flush_page(c, set, va); break;
	}
	return 0;
}

/* The same and whose it is: none but our own are to be had. */
int64_t xen_do_update_va_mapping_otherdomain(struct xen_call *c)
{
	int err = owner((uint16_t)c->arg[3]);

	return err ? err : xen_do_update_va_mapping(c);
}
