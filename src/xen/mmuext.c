/*
 * mmuext.c - mmuext_op: pins, base pointers, flushes, and whole pages cleared and copied. Source: xen/xen.h, "HYPERVISOR_mmuext_op".
 */
#include "xen/page.h"
#include "xen/xen_internal.h"

_Static_assert(XEN_VCPUS_MAX == 1, "flushes reach the calling vcpu only");

int xen_vcpu_set(struct xen_call *c, uint64_t bitmap, uint64_t *set)
{
	return xen_copy_from_guest(c->v, set, bitmap, sizeof(*set));
}

void xen_flush_tlb(struct xen_call *c, uint64_t set)
{
	if (!(set >> c->xv->id & 1))
		return;
	mmu_flush_local(&c->v->mmu);
	memory_lock(c->xen->memory);
	pv_flush_noted(c->xen->pages, &c->v->mmu);
	memory_unlock(c->xen->memory);
}

void xen_flush_page(struct xen_call *c, uint64_t set, uint64_t va)
{
	if (set >> c->xv->id & 1)
		mmu_invlpg(&c->v->mmu, gva(va));
}

/*
 * A root is in use as long as the vcpu has it, by a reference to its frame as a level-4 table. The new one's is taken first, then the vcpu changes over, which
 * flushes, then the old one's goes.
 */
int xen_new_root(struct xen_vcpu *xv, mfn_t m, bool user)
{
	struct xen *xen = xv->xen;
	struct mmu *mmu = &xv->v->mmu;
	const uint64_t old = user ? mmu->user_cr3 : mmu->cr3, new = m.v << PAGE_SHIFT;
	int err = 0;

	/* The shift must lose nothing; and 0, which is no root, is for user mode only. */
	if (m.v >= xen->pages->frames || (!new && !user))
		return -XEN_EINVAL;
	if (new != old) {
		if (!xen_pages_lock(xen))
			return -PV_AGAIN;
		if (new)
			err = pv_get_type(xen->pages, m, PV_L4);
		memory_unlock(xen->memory);
		if (err)
			return err;
	}
	if (user) {
		/* As with Xen, no flush if it is the same. */
		if (new != old)
			mmu_set_user_cr3(mmu, new);
	} else {
		xv->v->cr3 = new;
		mmu_set_cr3(mmu, new);
	}
	memory_lock(xen->memory);
	if (!user)
		pv_flush_noted(xen->pages, mmu);
	if (new != old && old)
		pv_put_type(xen->pages, mfn(old >> PAGE_SHIFT));
	memory_unlock(xen->memory);
	return 0;
}

static int new_base(struct xen_call *c, const struct mmuext_op *op)
{
	int err = xen_new_root(c->xv, mfn(op->arg1.mfn), false);

	/* The local descriptors are found by the tables that were in force. */
	if (!err)
		xen_ldt_forget(c->xv);
	return err;
}

static int new_user_base(struct xen_call *c, const struct mmuext_op *op) { return xen_new_root(c->xv, mfn(op->arg1.mfn), true); }

static int pin(struct xen_call *c, const struct mmuext_op *op)
{
	int err;

	if (!xen_pages_lock(c->xen))
		return -PV_AGAIN;
	err = pv_pin(c->xen->pages, mfn(op->arg1.mfn), (enum pv_type)(PV_L1 + op->cmd - MMUEXT_PIN_L1_TABLE));
	memory_unlock(c->xen->memory);
	return err;
}

static int unpin(struct xen_call *c, const struct mmuext_op *op)
{
	int err;

	if (!xen_pages_lock(c->xen))
		return -PV_AGAIN;
	err = pv_unpin(c->xen->pages, mfn(op->arg1.mfn));
	memory_unlock(c->xen->memory);
	return err;
}

static int flush(struct xen_call *c, const struct mmuext_op *op)
{
	uint64_t set = 1ull << c->xv->id;

	if (op->cmd == MMUEXT_TLB_FLUSH_ALL || op->cmd == MMUEXT_INVLPG_ALL)
		set = ~0ull;
	else if ((op->cmd == MMUEXT_TLB_FLUSH_MULTI || op->cmd == MMUEXT_INVLPG_MULTI) && xen_vcpu_set(c, (uint64_t)(uintptr_t)op->arg2.vcpumask.p, &set))
		return -XEN_EINVAL;
	if (op->cmd == MMUEXT_TLB_FLUSH_LOCAL || op->cmd == MMUEXT_TLB_FLUSH_MULTI || op->cmd == MMUEXT_TLB_FLUSH_ALL)
		xen_flush_tlb(c, set);
	else
		xen_flush_page(c, set, op->arg1.linear_addr);
	return 0;
}

static int set_ldt(struct xen_call *c, const struct mmuext_op *op) { return xen_set_ldt(c->xv, op->arg1.linear_addr, op->arg2.nr_ents); }

/* The page is written as plain memory: not if it is a table. */
static int fill(struct xen_call *c, mfn_t to, const mfn_t *from)
{
	struct pv_pages *pages = c->xen->pages;
	struct pool *pool = &c->xen->memory->pool;
	int err;

	if (!xen_pages_lock(c->xen))
		return -PV_AGAIN;
	err = from ? pv_get(pages, *from) : 0;
	if (!err) {
		err = pv_get_type(pages, to, PV_WRITABLE);
		if (!err) {
			pool_touch(pool, to);
			if (from)
				copy_bytes(pool_ptr(pool, to), pool_ptr(pool, *from), PAGE_SIZE);
			else
				fill_bytes(pool_ptr(pool, to), 0, PAGE_SIZE);
			track_written(&c->xen->memory->track, to, 0, PAGE_SIZE);
			pv_put_type(pages, to);
		}
		if (from)
			pv_put(pages, *from);
	}
	memory_unlock(c->xen->memory);
	return err == -PV_AGAIN || !err ? err : -XEN_EINVAL;
}

static int clear_page(struct xen_call *c, const struct mmuext_op *op) { return fill(c, mfn(op->arg1.mfn), NULL); }
static int copy_page(struct xen_call *c, const struct mmuext_op *op)
{
	mfn_t from = mfn(op->arg2.src_mfn);

	return fill(c, mfn(op->arg1.mfn), &from);
}

/* As for any domain without devices of its own. */
static int flush_cache(struct xen_call *c, const struct mmuext_op *op)
{
	(void)c;
	return op->cmd == MMUEXT_FLUSH_CACHE ? -XEN_EACCES : -XEN_EINVAL;
}

static int mark_super(struct xen_call *c, const struct mmuext_op *op)
{
	(void)c, (void)op;
	return -XEN_EOPNOTSUPP;
}

static int (*const operation[])(struct xen_call *c, const struct mmuext_op *op) = {
	[MMUEXT_PIN_L1_TABLE] = pin, [MMUEXT_PIN_L2_TABLE] = pin, [MMUEXT_PIN_L3_TABLE] = pin, [MMUEXT_PIN_L4_TABLE] = pin,
	[MMUEXT_UNPIN_TABLE] = unpin,
	[MMUEXT_NEW_BASEPTR] = new_base, [MMUEXT_NEW_USER_BASEPTR] = new_user_base,
	[MMUEXT_TLB_FLUSH_LOCAL] = flush, [MMUEXT_INVLPG_LOCAL] = flush, [MMUEXT_TLB_FLUSH_MULTI] = flush, [MMUEXT_INVLPG_MULTI] = flush,
	[MMUEXT_TLB_FLUSH_ALL] = flush, [MMUEXT_INVLPG_ALL] = flush,
	[MMUEXT_FLUSH_CACHE] = flush_cache, [MMUEXT_FLUSH_CACHE_GLOBAL] = flush_cache,
	[MMUEXT_SET_LDT] = set_ldt,
	[MMUEXT_CLEAR_PAGE] = clear_page, [MMUEXT_COPY_PAGE] = copy_page,
	[MMUEXT_MARK_SUPER] = mark_super, [MMUEXT_UNMARK_SUPER] = mark_super,
};

static int extended(struct xen_call *c, const void *request)
{
	const struct mmuext_op *op = request;

	return op->cmd < ARRAY_LEN(operation) && operation[op->cmd] ? operation[op->cmd](c, op) : -XEN_ENOSYS;
}

/* arg: array of mmuext_op, how many, where to say how many were done, whose. */
int64_t xen_do_mmuext_op(struct xen_call *c) { return xen_batch(c, sizeof(struct mmuext_op), extended); }
