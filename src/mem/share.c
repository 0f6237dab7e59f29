/*
 * share.c - equal pages on one machine frame, with copy on write.
 *
 * A shared frame (FRAME_SHARED) is one of the watched kinds, so no TLB entry allows writes to it; but unlike the others it is never written at all: whoever wants to
 * write one of its pages, or is about to watch it (a walk through a table in it, a fetch of code from it), has p2m_unshare give that page a frame of its own first. So a shared frame
 * holds neither tables that were walked since nor translated code, and what the other kinds of watch keep in the frame's record always means one page.
 *
 * The pages on a frame form a ring, by guest frame numbers, so that one leaves in no time however many there are; the frame's record names one of them. When the
 * second last leaves, the last has the frame for itself.
 *
 * Leaving steps the frame's serial: what names it for the page that left is void, and so, at the price of a look-up, is what names it for the others.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#include "mem/p2m_internal.h"
#include "mem/share_internal.h"

/* The thread that we are on. */
static const void *share_this_thread(void)
{
	static _Thread_local char here;

	return &here;
}

static void *share_array(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* By guest frame. */
static uint64_t share_array_bytes(const struct memory *mem) { return memory_log_words(mem) * 64 * sizeof(uint32_t); }

static uint64_t ram_pages(const struct memory *mem)
{
	uint64_t pages = 0;

	for (unsigned i = 0; i < mem->regions; i++)
		pages += mem->region[i].len >> PAGE_SHIFT;
	return pages;
}

int memory_share_on(struct memory *mem)
{
	struct memory_share *s = &mem->share;

	if (s->thread)
		return 0;
	/* One for a page, at least. */
	s->slots = SHARE_WAYS;
	while (s->slots < ram_pages(mem))
		s->slots *= 2;
	s->slot_bytes = s->slots * sizeof(*s->slot);
	s->next = share_array(share_array_bytes(mem));
	s->prev = share_array(share_array_bytes(mem));
	s->sum = share_array(share_array_bytes(mem));
	s->slot = share_array(s->slot_bytes);
	if (!s->next || !s->prev || !s->sum || !s->slot) {
		memory_share_off(mem);
		return -ENOMEM;
	}
	s->thread = share_this_thread();
	return 0;
}

static void share_unmap(void *p, uint64_t bytes)
{
	if (p)
		munmap(p, bytes);
}

void memory_share_off(struct memory *mem)
{
	struct memory_share *s = &mem->share;

	if (!s->slots)
		return;
	share_unmap(s->next, share_array_bytes(mem));
	share_unmap(s->prev, share_array_bytes(mem));
	share_unmap(s->sum, share_array_bytes(mem));
	share_unmap(s->slot, s->slot_bytes);
	*s = (struct memory_share){ 0 };
}

bool share_is_plain(const struct frame *f)
{
	const uint32_t never = FRAME_CODE | FRAME_TABLE | FRAME_PV_TYPE | FRAME_VMM;

	/* Tables that are shadowed without being watched, and blocks that wait for the translator to drop them, are found through the record. */
	return (f->flags & FRAME_ALLOCATED) && !(f->flags & never) && !f->shadow_head && !f->code_head;
}

static bool same_contents(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
		if (x[i] != y[i])
			return false;
	return true;
}

/* gfn, whose leaf names m by now, joins the pages there. */
static void share_join(struct memory *mem, uint64_t gfn, mfn_t m)
{
	struct memory_share *s = &mem->share;
	struct frame *f = pool_frame(&mem->pool, m);
	const uint32_t one = (uint32_t)f->gfn, me = (uint32_t)gfn;

	if (!(f->flags & FRAME_SHARED)) {
		/* What allows writes to it, or leads to it as code, goes. */
		memory_void_names(mem, m);
		mem->fetched_left += !!(f->flags & FRAME_FETCHED);
		f->flags = (uint16_t)((f->flags & ~(uint32_t)(FRAME_FETCHED | FRAME_DIRTY_LOG | FRAME_MOVED)) | FRAME_SHARED);
		s->next[one] = s->prev[one] = one;
		s->sum[one] = (uint32_t)share_sum(pool_ptr(&mem->pool, m));
		mem->counters.pages_shared++;
	}
	s->sum[me] = s->sum[one];
	s->prev[me] = one;
	s->next[me] = s->next[one];
	s->prev[s->next[one]] = me;
	s->next[one] = me;
	mem->counters.pages_sharing++;
}

void share_leave(struct memory *mem, uint64_t gfn, mfn_t m)
{
	struct memory_share *s = &mem->share;
	struct frame *f = pool_frame(&mem->pool, m);
	const uint32_t next = s->next[gfn], prev = s->prev[gfn];

	memory_void_names(mem, m);
	s->next[prev] = next;
	s->prev[next] = prev;
	f->gfn = next;
	mem->counters.pages_sharing--;
	if (next == prev) {
		f->flags &= (uint16_t)~FRAME_SHARED;
		mem->counters.pages_shared--;
		log_watch(mem, next, m);
	}
}

int share_page(struct memory *mem, gpa_t p, gpa_t q)
{
	struct p2m_entry from, to;
	int err;

	if (!p2m_lookup(mem, p, &from) || !p2m_lookup(mem, q, &to) || from.m.v == to.m.v)
		return -ENOENT;
	if (!share_is_plain(pool_frame(&mem->pool, from.m)) || !share_is_plain(pool_frame(&mem->pool, to.m)))
		return -EBUSY;
	if (!same_contents(pool_ptr(&mem->pool, from.m), pool_ptr(&mem->pool, to.m)))
		return -EINVAL;
	err = p2m_change(mem, p, to.m);
	if (err)
		return err;
	memory_leave(mem, p.v >> PAGE_SHIFT, from.m);
	share_join(mem, p.v >> PAGE_SHIFT, to.m);
	mem->counters.pages_merged++;
	return 0;
}

int memory_share(struct memory *mem, gpa_t p, gpa_t q)
{
	int err;

	if (!mem->share.thread)
		return -ENODEV;
	memory_lock(mem);
	err = share_page(mem, p, q);
	memory_unlock(mem);
	return err;
}

enum p2m_result p2m_unshare(struct memory *mem, gpa_t p, struct p2m_entry *e)
{
	mfn_t m;

	ASSERT(mem->share.thread == share_this_thread());
	if (memory_change_frame(mem, p, e, &m))
		return P2M_NO_FRAME;
	if (UNLIKELY(mem->swap.on))
		swap_used_frame(mem, m);
	e->m = m;
	e->shift = PAGE_SHIFT;
	mem->counters.pages_unshared++;
	return P2M_MAPPED;
}

int share_audit(const struct memory *mem, uint64_t gfn, mfn_t m, uint64_t *members, char *msg, size_t size)
{
	const struct memory_share *s = &mem->share;
	const struct frame *f = pool_frame(&mem->pool, m);
	const uint64_t gfns = memory_log_words(mem) * 64;
	uint64_t g = gfn;

	if (!share_is_plain(f) || (f->flags & (FRAME_FETCHED | FRAME_DIRTY_LOG)))
		return snprintf(msg, size, "M2: gfn %#lx is on shared frame %#lx, which has flags %#x", gfn, m.v, f->flags);
	if (s->next[gfn] >= gfns || s->prev[gfn] >= gfns || s->prev[s->next[gfn]] != gfn || s->next[s->prev[gfn]] != gfn || s->next[gfn] == gfn)
		return snprintf(msg, size, "M2: gfn %#lx on shared frame %#lx is between %#x and %#x", gfn, m.v, s->prev[gfn], s->next[gfn]);
	if (f->gfn != gfn)
		return 0;
	if (s->sum[gfn] != (uint32_t)share_sum(pool_ptr(&mem->pool, m)))
		return snprintf(msg, size, "M4: frame %#lx was written while it is shared, by gfn %#lx among others", m.v, gfn);
	do {
		struct p2m_entry e;

		if (!p2m_lookup(mem, gpa(g << PAGE_SHIFT), &e) || e.m.v != m.v)
			return snprintf(msg, size, "M2: gfn %#lx is in the ring of frame %#lx and not on it", g, m.v);
		++*members;
		g = s->next[g];
	} while (g != gfn && g < gfns && *members <= mem->backed);
	return 0;
}
