/*
 * memory.c - guest RAM as devices and loaders see it, and its set-up.
 */
#include "mem/memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "mem/p2m_internal.h"

#define HOLE_START GIB(3)	/* devices, local APIC and IO-APIC live below 4 GiB */
#define HOLE_END GIB(4)
#define MEMORY_MAX (1ull << 40)	/* the guest's MAXPHYADDR (mmu/format.h) */

int memory_init(struct memory *mem, uint64_t bytes, enum placement placement, uint64_t seed)
{
	return memory_init_limited(mem, bytes, ~0ull, 0, placement, seed);
}

/* The regions are set. */
static int init_pool(struct memory *mem, uint64_t pool, uint64_t apart, enum placement placement, uint64_t seed)
{
	pthread_mutex_t *lock;
	int err;

	lock = malloc(sizeof(*lock));
	if (!lock || pthread_mutex_init(lock, NULL)) {
		free(lock);
		return -ENOMEM;
	}
	mem->lock = lock;
	err = pool_init(&mem->pool, pool >> PAGE_SHIFT, apart, placement, seed);
	if (!err)
		err = p2m_init(mem);
	if (err) {
		memory_destroy(mem);
		return err;
	}
	track_init(&mem->track, &mem->pool);
	return 0;
}

int memory_init_limited(struct memory *mem, uint64_t bytes, uint64_t machine_bytes, uint64_t area_pages, enum placement placement, uint64_t seed)
{
	uint64_t low, high, pool;

	if (bytes == 0 || bytes > MEMORY_MAX - (HOLE_END - HOLE_START))
		return -EINVAL;
	bytes = ALIGN_UP(bytes, PAGE_SIZE);
	low = bytes < HOLE_START ? bytes : HOLE_START;
	high = bytes - low;
	*mem = (struct memory){ .regions = 1 };
	mem->region[0] = (struct memory_region){ 0, low };
	if (high)
		mem->region[mem->regions++] = (struct memory_region){ HOLE_END, high };
	/* Whole chunks, so that linear placement finds every page its own place, and one to move pages about in. */
	pool = ALIGN_UP(low, MIB(2)) + ALIGN_UP(high, MIB(2)) + MIB(2);
	if (machine_bytes < pool) {
		pool = ALIGN_UP(machine_bytes, MIB(2));
		area_pages = 0;
	}
	mem->gather.area_pages = area_pages;
	return init_pool(mem, pool, GATHER_AREAS * area_pages, placement, seed);
}

int memory_init_machine(struct memory *mem, uint64_t bytes, uint64_t spare_frames, enum placement placement, uint64_t seed)
{
	if (bytes == 0 || bytes > MEMORY_MAX / 2 || spare_frames > MEMORY_MAX / 4 >> PAGE_SHIFT)
		return -EINVAL;
	bytes = ALIGN_UP(bytes, PAGE_SIZE);
	*mem = (struct memory){ .regions = 1, .region = { { 0, bytes } } };
	return init_pool(mem, ALIGN_UP(bytes, MIB(2)) + ALIGN_UP(spare_frames << PAGE_SHIFT, MIB(2)) + MIB(2), 0, placement, seed);
}

void memory_destroy(struct memory *mem)
{
	memory_log_stop(mem);
	memory_swap_off(mem);
	memory_share_off(mem);
	p2m_destroy(mem);
	pool_destroy(&mem->pool);
	if (mem->lock) {
		pthread_mutex_destroy(mem->lock);
		free(mem->lock);
		mem->lock = NULL;
	}
}

void memory_lock(struct memory *mem) { pthread_mutex_lock(mem->lock); }
void memory_unlock(struct memory *mem) { pthread_mutex_unlock(mem->lock); }

bool memory_is_ram(const struct memory *mem, gpa_t p)
{
	for (unsigned i = 0; i < mem->regions; i++)
		if (p.v - mem->region[i].base < mem->region[i].len)
			return true;
	return false;
}

/* Whether [p, p + len) is RAM throughout. */
static bool range_is_ram(const struct memory *mem, gpa_t p, size_t len)
{
	while (len) {
		unsigned i = 0;
		uint64_t left;

		while (i < mem->regions && p.v - mem->region[i].base >= mem->region[i].len)
			i++;
		if (i == mem->regions)
			return false;
		left = mem->region[i].base + mem->region[i].len - p.v;
		if (len <= left)
			return true;
		p.v += left;
		len -= left;
	}
	return true;
}

static size_t in_page(gpa_t p, size_t len)
{
	size_t left = PAGE_SIZE - (p.v & (PAGE_SIZE - 1));

	return len < left ? len : left;
}

int memory_read(struct memory *mem, gpa_t p, void *buf, size_t len)
{
	if (!range_is_ram(mem, p, len))
		return -EFAULT;
	while (len) {
		size_t n = in_page(p, len);
		struct p2m_entry e;
		bool ok = true;

		memory_lock(mem);
		if (p2m_lookup(mem, p, &e))
			copy_bytes(buf, (uint8_t *)pool_ptr(&mem->pool, e.m) + (p.v & (PAGE_SIZE - 1)), n);
		else if (p2m_is_swapped(mem, p))
			ok = swap_read(mem, p, buf, n);
		else
			fill_bytes(buf, 0, n);
		memory_unlock(mem);
		if (!ok)
			return -EIO;
		p.v += n;
		buf = (uint8_t *)buf + n;
		len -= n;
	}
	return 0;
}

/* While no vcpu runs, whoever needs frames makes room for them. */
static int room_for_loader(struct memory *mem)
{
	int err;

	if (LIKELY(!mem->swap.on) || mem->swap.short_of_frames || mem->pool.frames - mem->pool.used >= mem->swap.low)
		return 0;
	err = memory_make_room(mem);
	memory_release(mem);
	return err;
}

/* Lock held: the frame that a store to p goes to. */
static enum p2m_result frame_to_write(struct memory *mem, gpa_t p, mfn_t *m)
{
	struct p2m_entry e;
	bool fresh;
	enum p2m_result r = p2m_back(mem, p, &e, &fresh);

	if (r == P2M_MAPPED && UNLIKELY(pool_frame(&mem->pool, e.m)->flags & FRAME_SHARED))
		r = p2m_unshare(mem, p, &e);
	*m = e.m;
	return r;
}

static void store(struct memory *mem, mfn_t m, unsigned offset, const void *buf, unsigned n)
{
	copy_bytes((uint8_t *)pool_ptr(&mem->pool, m) + offset, buf, n);
	track_written_by_device(&mem->track, m, offset, n);
}

int memory_write(struct memory *mem, gpa_t p, const void *buf, size_t len)
{
	if (!range_is_ram(mem, p, len))
		return -EFAULT;
	while (len) {
		size_t n = in_page(p, len);
		enum p2m_result r;
		mfn_t m;

		if (room_for_loader(mem))
			return -ENOMEM;
		memory_lock(mem);
		r = frame_to_write(mem, p, &m);
		if (r == P2M_MAPPED)
			store(mem, m, p.v & (PAGE_SIZE - 1), buf, (unsigned)n);
		memory_unlock(mem);
		if (r != P2M_MAPPED)
			return -ENOMEM;
		p.v += n;
		buf = (const uint8_t *)buf + n;
		len -= n;
	}
	return 0;
}

int memory_write_parts(struct memory *mem, gpa_t page, const void *image, const struct memory_part *part, size_t parts)
{
	enum p2m_result r;
	mfn_t m;

	if (!range_is_ram(mem, page, PAGE_SIZE))
		return -EFAULT;
	if (room_for_loader(mem))
		return -ENOMEM;
	memory_lock(mem);
	r = frame_to_write(mem, page, &m);
	for (size_t i = 0; r == P2M_MAPPED && i < parts; i++)
		store(mem, m, part[i].offset, (const uint8_t *)image + part[i].offset, part[i].len);
	memory_unlock(mem);
	return r == P2M_MAPPED ? 0 : -ENOMEM;
}

void memory_prepare(struct memory *mem, gpa_t p, uint64_t len)
{
	const uint64_t start = ALIGN_UP(p.v, PAGE_SIZE), end = p.v + len;

	if (start >= end)
		return;
	memory_lock(mem);
	pool_prepare(&mem->pool, start >> PAGE_SHIFT, (end - start) >> PAGE_SHIFT);
	memory_unlock(mem);
}

void memory_void_names(struct memory *mem, mfn_t m)
{
	if (UNLIKELY(++pool_frame(&mem->pool, m)->serial == 0))
		mem->serial_epoch++;
}

void memory_leave_frame(struct memory *mem, mfn_t m)
{
	struct frame *f = pool_frame(&mem->pool, m);

	/* No store: the dirty log is not concerned. Shadows of the frame go with mmu_frames_changed; its code goes with this. */
	memory_void_names(mem, m);
	f->flags &= ~(uint32_t)FRAME_DIRTY_LOG;
	if (f->flags & FRAME_CODE)
		track_written(&mem->track, m, 0, PAGE_SIZE);
	mem->fetched_left += !!(f->flags & FRAME_FETCHED);
	/* TLBs and translated code still name the frame, so it must not be handed out yet. */
	f->gfn = ~0ull;
	f->spare = mem->moved_head;
	mem->moved_head = (uint32_t)m.v + 1;
	mem->moved++;
}

int memory_change_frame(struct memory *mem, gpa_t p, const struct p2m_entry *old, mfn_t *out)
{
	const uint64_t gfn = p.v >> PAGE_SHIFT;
	const mfn_t m = pool_alloc(&mem->pool, gfn);
	int err;

	if (!mfn_valid(m))
		return -ENOMEM;
	err = p2m_change(mem, p, m);
	if (err) {
		pool_free(&mem->pool, m);
		return err;
	}
	copy_bytes(pool_ptr(&mem->pool, m), pool_ptr(&mem->pool, old->m), PAGE_SIZE);
	/* A page that was not written since the last fetch of the dirty log is not written by this. */
	log_watch(mem, gfn, m);
	memory_leave(mem, gfn, old->m);
	*out = m;
	return 0;
}

/* A page on a shared frame leaves the others there. */
static int move_locked(struct memory *mem, gpa_t p)
{
	struct p2m_entry old;
	mfn_t m;
	int err;

	if (!p2m_lookup(mem, p, &old))
		return -ENOENT;
	err = memory_change_frame(mem, p, &old, &m);
	if (err)
		return err;
	pool_frame(&mem->pool, m)->flags |= FRAME_MOVED;
	/* One that leaves a shared frame makes frames fewer for good. */
	if (UNLIKELY(mem->swap.on))
		swap_used_frame(mem, m);
	mem->counters.frames_moved++;
	return 0;
}

int memory_move(struct memory *mem, gpa_t p)
{
	int err;

	memory_lock(mem);
	err = move_locked(mem, p);
	memory_unlock(mem);
	return err;
}

int64_t memory_discard(struct memory *mem, gpa_t p, uint64_t pages)
{
	int64_t had = 0;
	int err = 0;

	memory_lock(mem);
	while (pages && !err) {
		/* Where nothing of a chunk was ever touched there is nothing to do in all of it. */
		uint64_t n = p2m_chunk_is_empty(mem, p) ? (ALIGN_UP(p.v + 1, MIB(2)) - p.v) >> PAGE_SHIFT : 1;
		struct p2m_entry e;

		if (n == 1 && p2m_lookup(mem, p, &e)) {
			err = p2m_clear(mem, p, false);
			if (err)
				break;
			track_changed(&mem->track, p.v >> PAGE_SHIFT);
			memory_leave(mem, p.v >> PAGE_SHIFT, e.m);
			had++;
		} else if (n == 1 && p2m_forget_swapped(mem, p)) {
			track_changed(&mem->track, p.v >> PAGE_SHIFT);
		}
		n = n < pages ? n : pages;
		p.v += n << PAGE_SHIFT;
		pages -= n;
	}
	memory_unlock(mem);
	return err ? err : had;
}

void memory_release(struct memory *mem)
{
	uint32_t next, kept = 0;

	memory_lock(mem);
	for (uint32_t i = mem->moved_head; i; i = next) {
		struct frame *f = &mem->pool.frame[i - 1];

		next = f->spare;
		/* Blocks made from it are found through its record until the translator has drained its queue. */
		if (f->code_head) {
			f->spare = kept;
			kept = i;
			continue;
		}
		mem->moved--;
		pool_free(&mem->pool, mfn(i - 1));
	}
	mem->moved_head = kept;
	memory_unlock(mem);
}

#define ROW(member, help) STAT_ROW(struct memory_counters, member, help)
const struct stat_row memory_stat_rows[] = {
	ROW(frames_moved, "pages moved to another machine frame"),
	ROW(pages_gathered, "pages moved to where their neighbours are, for windows of the TLB"),
	ROW(log_fetches, "times that the log of written pages was fetched"),
	ROW(swapped_out, "pages written to the swap file"),
	ROW(swapped_in, "pages read back from it"),
	ROW(swap_zeros, "pages of zeros that lost their frame instead"),
	ROW(swap_rounds, "times that room was made in the machine pool"),
	ROW(pages_shared, "frames that several equal pages share now"),
	ROW(pages_sharing, "pages that need no frame now because they share another's"),
	ROW(pages_merged, "pages that gave up their frame for an equal page's"),
	ROW(pages_unshared, "pages that got a frame of their own again, to be written or run"),
	ROW(pages_scanned, "guest frames that the search for equal pages looked at"),
	ROW(share_passes, "times that it went through all guest memory"),
};
const size_t memory_stat_row_count = ARRAY_LEN(memory_stat_rows);
