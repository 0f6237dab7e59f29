/*
 * memory_op.c - memory_op: frames that the domain gives back, gets and exchanges, and what it may know of memory. Source: xen/memory.h.
 *
 * There is no contiguous machine memory to be had: extents of more than one page can be given back, not asked for.
 */
#include "xen/page.h"
#include "xen/xen_internal.h"

#define COMMAND_BITS 6		/* of the first argument; above: extents done, when the call is made again */
#define ORDER_MAX 9		/* as Xen has it for domains that drive no devices */
#define E820_RAM 1u

static int64_t again(struct xen_call *c, unsigned command, uint64_t done)
{
	c->arg[0] = command | done << COMMAND_BITS;
	c->again = true;
	return 0;
}

static bool self(domid_t id) { return id == DOMID_SELF || id == XEN_DOMID; }
/* Pages that the domain has; shared_info is not counted. */
static uint64_t pages_now(const struct xen *xen) { return xen->pages->owned - 1; }

/* Frames that have left since are free from here on. Without the lock. */
static void release(struct xen *xen)
{
	if (xen->memory->moved)
		memory_release(xen->memory);
}

/* Lock held. */
static int give_back(struct xen *xen, mfn_t m)
{
	int err = pv_page_owned(xen->pages, m) ? 0 : -XEN_EINVAL;

	if (!err)
		err = pv_page_leave(xen->pages, m);
	if (!err)
		xen_m2p_set(xen, m, XEN_M2P_INVALID);
	return err;
}

static mfn_t get_new(struct xen *xen, uint64_t pfn)
{
	mfn_t m = pool_reserve(&xen->memory->pool, pfn);

	if (mfn_valid(m)) {
		pv_page_join(xen->pages, m, false);
		xen_m2p_set(xen, m, pfn);
	}
	return m;
}

/* One extent. False: that is where it ends. */
static bool decrease_extent(struct xen *xen, uint64_t first, unsigned order)
{
	for (uint64_t i = 0; i < 1ull << order; i++)
		if (first + i < first || give_back(xen, mfn(first + i)))
			return false;
	return true;
}

static bool increase_extent(struct xen *xen, uint64_t *pfn, unsigned order)
{
	mfn_t m;

	if (order || pages_now(xen) >= xen->nr_pages)
		return false;
	m = get_new(xen, *pfn);
	*pfn = m.v;
	return mfn_valid(m);
}

/* How many extents were done; that is all there is for an answer. */
static int64_t reservation(struct xen_call *c, unsigned command, uint64_t done)
{
	struct xen *xen = c->xen;
	struct xen_memory_reservation r;
	uint64_t list;

	if (xen_copy_from_guest(c->v, &r, c->arg[1], sizeof(r)))
		return (int64_t)done;
	list = (uint64_t)(uintptr_t)r.extent_start.p;
	if (r.nr_extents > ~0u >> COMMAND_BITS || done >= r.nr_extents || r.extent_order > ORDER_MAX || !self(r.domid) ||
	    (!list && command != XENMEM_increase_reservation))
		return (int64_t)done;
	for (; done < r.nr_extents; done++) {
		uint64_t value = XEN_M2P_INVALID, at = list + done * sizeof(value);
		bool ok;

		if (command != XENMEM_increase_reservation && xen_copy_from_guest(c->v, &value, at, sizeof(value)))
			break;
		if (xen->pages->budget < 1u << r.extent_order || !xen_pages_lock(xen))
			return again(c, command, done);
		if (xen->pages->budget < 1u << r.extent_order) {
			memory_unlock(xen->memory);
			return again(c, command, done);
		}
		xen->pages->budget -= 1u << r.extent_order;
		ok = command == XENMEM_decrease_reservation ? decrease_extent(xen, value, r.extent_order) : increase_extent(xen, &value, r.extent_order);
		memory_unlock(xen->memory);
		if (!ok)
			break;
		if (command != XENMEM_decrease_reservation && list && xen_copy_to_guest(c->v, at, &value, sizeof(value)))
			break;
	}
	return (int64_t)done;
}

/* Lock held. A frame that nothing refers to is exchanged for another; *pfn becomes its number. */
static int exchange_frame(struct xen *xen, mfn_t m, uint64_t *pfn)
{
	struct pv_pages *pages = xen->pages;
	mfn_t new;

	if (!pv_page_owned(pages, m) || pages->page[m.v].refs != 1)
		return -XEN_EINVAL;
	new = get_new(xen, *pfn);
	if (!mfn_valid(new))
		return -XEN_ENOMEM;
	give_back(xen, m);
	*pfn = new.v;
	return 0;
}

/* The in-extent `n`, all of its pages or (nothing refers to them, and there are as many new ones) none. */
static int exchange_extent(struct xen_call *c, const struct xen_memory_exchange *x, uint64_t n)
{
	struct xen *xen = c->xen;
	const unsigned order = x->in.extent_order;
	uint64_t first, pfn[1u << ORDER_MAX], out = (uint64_t)(uintptr_t)x->out.extent_start.p + (n << order) * sizeof(first);
	int err = 0;

	if (xen_copy_from_guest(c->v, &first, (uint64_t)(uintptr_t)x->in.extent_start.p + n * sizeof(first), sizeof(first)) ||
	    xen_copy_from_guest(c->v, pfn, out, sizeof(first) << order))
		return -XEN_EFAULT;
	if (!xen_pages_lock(xen))
		return -PV_AGAIN;
	if (xen->pages->budget < 1u << order)
		err = -PV_AGAIN;
	else if (xen->memory->pool.frames - xen->memory->pool.used < 1u << order)
		err = -XEN_ENOMEM;
	for (unsigned i = 0; i < 1u << order && !err; i++)
		if (first + i < first || !pv_page_owned(xen->pages, mfn(first + i)) || xen->pages->page[first + i].refs != 1)
			err = -XEN_EINVAL;
	for (unsigned i = 0; i < 1u << order && !err; i++)
		err = exchange_frame(xen, mfn(first + i), &pfn[i]);
	if (!err)
		xen->pages->budget -= 1u << order;
	memory_unlock(xen->memory);
	if (err)
		return err;
	return xen_copy_to_guest(c->v, out, pfn, sizeof(first) << order) ? -XEN_EFAULT : 0;
}

static int64_t exchange(struct xen_call *c, unsigned command, uint64_t done)
{
	struct xen_memory_exchange x;
	int err = 0;

	(void)done;
	if (xen_copy_from_guest(c->v, &x, c->arg[1], sizeof(x)))
		return -XEN_EFAULT;
	if (x.in.extent_order > ORDER_MAX || x.out.extent_order > ORDER_MAX)
		return -XEN_EPERM;
	if (x.nr_exchanged > x.in.nr_extents || x.in.domid != x.out.domid || x.in.nr_extents > ~0ull >> x.in.extent_order ||
	    x.out.nr_extents > ~0ull >> x.out.extent_order || x.in.nr_extents << x.in.extent_order != x.out.nr_extents << x.out.extent_order)
		return -XEN_EINVAL;
	if (!self(x.in.domid))
		return -XEN_ESRCH;
	for (; x.nr_exchanged < x.in.nr_extents; x.nr_exchanged++) {
		err = x.out.extent_order ? -XEN_ENOMEM : exchange_extent(c, &x, x.nr_exchanged);
		if (err)
			break;
	}
	release(c->xen);
	if (xen_copy_to_guest(c->v, c->arg[1] + offsetof(struct xen_memory_exchange, nr_exchanged), &x.nr_exchanged, sizeof(x.nr_exchanged)))
		return -XEN_EFAULT;
	return err == -PV_AGAIN ? again(c, command, 0) : err;
}

static int64_t amount(struct xen_call *c, unsigned command, uint64_t done)
{
	const uint64_t max_pfn = c->xen->shared->arch.max_pfn;
	domid_t id;

	(void)done;
	if (xen_copy_from_guest(c->v, &id, c->arg[1], sizeof(id)))
		return -XEN_EFAULT;
	if (!self(id))
		return -XEN_ESRCH;
	switch (command) {
	case XENMEM_current_reservation: return (int64_t)pages_now(c->xen);
	case XENMEM_maximum_reservation: return (int64_t)c->xen->nr_pages;
	default: return (int64_t)(max_pfn ? max_pfn - 1 : 0); /* the guest's own word */
	}
}

static int64_t maximum_ram_page(struct xen_call *c, unsigned command, uint64_t done)
{
	(void)command, (void)done;
	return (int64_t)c->xen->memory->pool.frames;
}

/* The table's frames in pieces of 2 MiB: the first one's number, or 0 where a piece is not contiguous. */
static uint64_t m2p_piece(const struct xen *xen, uint64_t first)
{
	for (uint64_t i = first + 1; i < first + 512 && i < xen->m2p_frames; i++)
		if (xen->m2p_frame[i].v != xen->m2p_frame[first].v + i - first)
			return 0;
	return xen->m2p_frame[first].v;
}

static int64_t machphys_list(struct xen_call *c, unsigned command, uint64_t done)
{
	struct xen_machphys_mfn_list list;
	unsigned n;

	(void)command, (void)done;
	if (xen_copy_from_guest(c->v, &list, c->arg[1], sizeof(list)))
		return -XEN_EFAULT;
	for (n = 0; n < list.max_extents && n * 512ull < c->xen->m2p_frames; n++) {
		uint64_t m = m2p_piece(c->xen, n * 512ull);

		if (xen_copy_to_guest(c->v, (uint64_t)(uintptr_t)list.extent_start.p + n * sizeof(m), &m, sizeof(m)))
			return -XEN_EFAULT;
	}
	list.nr_extents = n;
	return xen_copy_to_guest(c->v, c->arg[1], &list, sizeof(list)) ? -XEN_EFAULT : 0;
}

static int64_t machphys_mapping(struct xen_call *c, unsigned command, uint64_t done)
{
	const struct xen_machphys_mapping m = { .v_start = XEN_M2P_START, .v_end = XEN_M2P_END, .max_mfn = c->xen->memory->pool.frames - 1 };

	(void)command, (void)done;
	return xen_copy_to_guest(c->v, c->arg[1], &m, sizeof(m)) ? -XEN_EFAULT : 0;
}

static int64_t memory_map(struct xen_call *c, unsigned command, uint64_t done)
{
	/* As the BIOS call has them: 20 bytes. */
	const struct { uint64_t base, size; uint32_t type; } __attribute__((packed)) ram = { 0, c->xen->nr_pages << PAGE_SHIFT, E820_RAM };
	struct xen_memory_map map;

	(void)command, (void)done;
	if (xen_copy_from_guest(c->v, &map, c->arg[1], sizeof(map)))
		return -XEN_EFAULT;
	if (map.nr_entries > 1)
		map.nr_entries = 1;
	if (map.nr_entries && xen_copy_to_guest(c->v, (uint64_t)(uintptr_t)map.buffer.p, &ram, sizeof(ram)))
		return -XEN_EFAULT;
	return xen_copy_to_guest(c->v, c->arg[1], &map, sizeof(map)) ? -XEN_EFAULT : 0;
}

static int64_t not_permitted(struct xen_call *c, unsigned command, uint64_t done)
{
	(void)c, (void)command, (void)done;
	return -XEN_EPERM;
}

/* The guest's own map is the guest's affair. */
static int64_t not_translated(struct xen_call *c, unsigned command, uint64_t done)
{
	(void)c, (void)command, (void)done;
	return -XEN_EACCES;
}

static int64_t (*const operation[1u << COMMAND_BITS])(struct xen_call *c, unsigned command, uint64_t done) = {
	[XENMEM_increase_reservation] = reservation, [XENMEM_decrease_reservation] = reservation, [XENMEM_populate_physmap] = reservation,
	[XENMEM_exchange] = exchange,
	[XENMEM_maximum_ram_page] = maximum_ram_page,
	[XENMEM_current_reservation] = amount, [XENMEM_maximum_reservation] = amount, [XENMEM_maximum_gpfn] = amount,
	[XENMEM_machphys_mfn_list] = machphys_list, [XENMEM_machphys_mapping] = machphys_mapping,
	[XENMEM_memory_map] = memory_map,
	[XENMEM_machine_memory_map] = not_permitted, [XENMEM_set_memory_map] = not_permitted,
	[XENMEM_add_to_physmap] = not_translated, [XENMEM_add_to_physmap_batch] = not_translated,
};

/* arg: XENMEM_* (and extents done), its structure. */
int64_t xen_do_memory_op(struct xen_call *c)
{
	const unsigned command = (unsigned)c->arg[0] & ((1u << COMMAND_BITS) - 1);
	const uint64_t done = (uint32_t)c->arg[0] >> COMMAND_BITS;
	int64_t result;

	if (!operation[command])
		return -XEN_ENOSYS;
	c->xen->pages->budget = c->xen->pages->round;
	release(c->xen);
	result = operation[command](c, command, done);
	release(c->xen);
	return result;
}
