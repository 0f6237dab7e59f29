/*
 * grant.c - grant tables, version 1: the hypercall that gives the guest its table, and the use of what it grants.
 *
 * Lock: memory->lock, for the table's frames and the references.
 */
#include "xen/grant.h"

#include "xen/page.h"
#include "xen/xen_internal.h"

#include <xen/grant_table.h>

#define ENTRIES_PER_FRAME (PAGE_SIZE / sizeof(struct grant_entry_v1))

/* ---- the hypercall ----------------------------------------------------------------------------------------------------------------- */

static bool is_self(domid_t dom) { return dom == DOMID_SELF || dom == XEN_DOMID; }

/* The table has `frames` frames from now on, if there are frames for it. Lock held. */
static bool grow(struct xen *xen, unsigned frames)
{
	while (xen->grant_frames < frames) {
		mfn_t m = pool_alloc(&xen->memory->pool, ~0ull);

		if (!mfn_valid(m))
			return false;
		xen_m2p_set(xen, m, XEN_M2P_SHARED);
		pv_page_join(xen->pages, m, true);
		xen->grant_frame[xen->grant_frames++] = m;
	}
	return true;
}

static int64_t op_setup_table(struct xen_call *c, uint64_t at)
{
	struct gnttab_setup_table a;
	struct xen *xen = c->xen;
	uint64_t list[XEN_GRANT_FRAMES];
	bool grown;

	if (xen_copy_from_guest(c->v, &a, at, sizeof(a)))
		return -XEN_EFAULT;
	if (!is_self(a.dom)) {
		a.status = GNTST_permission_denied;
	} else if (a.nr_frames > XEN_GRANT_FRAMES) {
		a.status = GNTST_general_error;
	} else {
		memory_lock(xen->memory);
		grown = grow(xen, a.nr_frames);
		for (unsigned i = 0; grown && i < a.nr_frames; i++)
			list[i] = xen->grant_frame[i].v;
		memory_unlock(xen->memory);
		a.status = grown ? GNTST_okay : GNTST_general_error;
		if (grown && xen_copy_to_guest(c->v, (uint64_t)(uintptr_t)a.frame_list.p, list, a.nr_frames * sizeof(list[0])))
			return -XEN_EFAULT;
	}
	return xen_copy_to_guest(c->v, at, &a, sizeof(a)) ? -XEN_EFAULT : 0;
}

static int64_t op_query_size(struct xen_call *c, uint64_t at)
{
	struct gnttab_query_size a;

	if (xen_copy_from_guest(c->v, &a, at, sizeof(a)))
		return -XEN_EFAULT;
	a.status = is_self(a.dom) ? GNTST_okay : GNTST_permission_denied;
	if (is_self(a.dom)) {
		a.nr_frames = c->xen->grant_frames;
		a.max_nr_frames = XEN_GRANT_FRAMES;
	}
	return xen_copy_to_guest(c->v, at, &a, sizeof(a)) ? -XEN_EFAULT : 0;
}

static int64_t op_set_version(struct xen_call *c, uint64_t at)
{
	struct gnttab_set_version a;

	if (xen_copy_from_guest(c->v, &a, at, sizeof(a)))
		return -XEN_EFAULT;
	if (a.version != 1)
		return -XEN_EINVAL;
	return 0;
}

static int64_t op_get_version(struct xen_call *c, uint64_t at)
{
	struct gnttab_get_version a;

	if (xen_copy_from_guest(c->v, &a, at, sizeof(a)))
		return -XEN_EFAULT;
	if (!is_self(a.dom))
		return -XEN_EPERM;
	a.version = 1;
	return xen_copy_to_guest(c->v, at, &a, sizeof(a)) ? -XEN_EFAULT : 0;
}

static const struct grant_row {
	uint8_t op;
	int64_t (*handler)(struct xen_call *c, uint64_t at);
} rows[] = {
	{ GNTTABOP_setup_table, op_setup_table },
	{ GNTTABOP_query_size, op_query_size },
	{ GNTTABOP_set_version, op_set_version },
	{ GNTTABOP_get_version, op_get_version },
};

/* arg[0]: the operation, arg[1]: array of its structures, arg[2]: how many. Only one at a time is of use to a domain that maps nothing of others. */
int64_t xen_do_grant_table_op(struct xen_call *c)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].op == c->arg[0])
			return c->arg[2] == 1 ? rows[i].handler(c, c->arg[1]) : c->arg[2] ? -XEN_EINVAL : 0;
	return -XEN_ENOSYS;
}

/* ---- use ------------------------------------------------------------------------------------------------------------------------------- */

/* The entry, 0 if the table does not reach that far. Lock held. */
static struct grant_entry_v1 *entry_of(const struct xen *xen, uint32_t ref)
{
	if (ref / ENTRIES_PER_FRAME >= xen->grant_frames)
		return NULL;
	return (struct grant_entry_v1 *)pool_ptr(&xen->memory->pool, xen->grant_frame[ref / ENTRIES_PER_FRAME]) + ref % ENTRIES_PER_FRAME;
}

/* Flags and domain are one word, so that a guest which withdraws the grant at this moment either succeeds or sees that it is in use. */
static bool mark(struct grant_entry_v1 *e, bool write)
{
	uint32_t *word = (uint32_t *)&e->flags, old = __atomic_load_n(word, __ATOMIC_SEQ_CST), new;

	do {
		const uint32_t flags = old & 0xffff;

		if ((flags & GTF_type_mask) != GTF_permit_access || old >> 16 || (write && (flags & GTF_readonly)) || (flags & GTF_sub_page))
			return false;
		new = old | GTF_reading | (write ? GTF_writing : 0);
	} while (!__atomic_compare_exchange_n(word, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	return true;
}

static void unmark(struct grant_entry_v1 *e) { __atomic_fetch_and((uint16_t *)&e->flags, (uint16_t)~(GTF_reading | GTF_writing), __ATOMIC_SEQ_CST); }

/* A type that the frame has, or can have without work that only a vcpu's thread may do (undoing a table, flushing its TLB). Lock held. */
static int take(struct pv_pages *pages, mfn_t m, bool write)
{
	if (!pv_page_owned(pages, m))
		return -XEN_EINVAL;
	if (!write)
		return pv_get(pages, m);
	if (pages->page[m.v].type != PV_NONE && pages->page[m.v].type != PV_WRITABLE)
		return -XEN_EINVAL;
	return pv_get_type(pages, m, PV_WRITABLE);
}

static void give_back(struct pv_pages *pages, const struct xen_grant_use *u)
{
	if (u->write)
		pv_put_type(pages, u->m);
	else
		pv_put(pages, u->m);
}

int xen_grant_use(struct xen *xen, uint32_t ref, bool write, struct xen_grant *out)
{
	struct grant_entry_v1 *e;
	int err = -XEN_EINVAL;
	mfn_t m;

	memory_lock(xen->memory);
	e = entry_of(xen, ref);
	if (e && xen->grant_uses < XEN_GRANT_USES && mark(e, write)) {
		m = mfn(__atomic_load_n(&e->frame, __ATOMIC_SEQ_CST));
		err = take(xen->pages, m, write);
		if (err) {
			unmark(e);
		} else {
			pool_touch(&xen->memory->pool, m);
			xen->grant_use[xen->grant_uses++] = (struct xen_grant_use){ .m = m, .ref = ref, .write = write };
			*out = (struct xen_grant){ pool_ptr(&xen->memory->pool, m), m, ref, write };
		}
	}
	memory_unlock(xen->memory);
	return err;
}

void xen_grant_done(struct xen *xen, struct xen_grant *g)
{
	struct xen_grant_use *u = xen->grant_use;
	unsigned others = 0;

	memory_lock(xen->memory);
	while (u->done || u->m.v != g->m.v || u->ref != g->ref || u->write != g->write) {
		u++;
		ASSERT(u < xen->grant_use + xen->grant_uses);
	}
	u->done = true;
	for (unsigned i = 0; i < xen->grant_uses; i++)
		others += !xen->grant_use[i].done && xen->grant_use[i].ref == g->ref;
	if (!others)
		unmark(entry_of(xen, g->ref));
	/* The last reference to a frame that has left the domain goes where the TLB can be flushed. */
	if (pv_page_owned(xen->pages, u->m)) {
		give_back(xen->pages, u);
		*u = xen->grant_use[--xen->grant_uses];
	}
	memory_unlock(xen->memory);
}

void xen_grant_drain(struct xen *xen)
{
	for (unsigned i = 0; i < xen->grant_uses;) {
		if (!xen->grant_use[i].done) {
			i++;
			continue;
		}
		give_back(xen->pages, &xen->grant_use[i]);
		xen->grant_use[i] = xen->grant_use[--xen->grant_uses];
	}
}
