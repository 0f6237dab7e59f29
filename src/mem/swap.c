/*
 * swap.c - a machine pool smaller than guest memory: pages that were not used for longest go to a file and come back when they are touched.
 *
 * The file is sparse: a guest page has its own place, at its guest-physical address. So nothing is allocated in it, and it never grows beyond guest memory. A
 * page of zeros is not written: it loses its frame and is as if never touched.
 *
 * Lifecycle of a page: present -> out (memory_make_room: written, p2m leaf P2M_SWAPPED) -> present (p2m_back: read into a new frame). Pages go out
 * only while no vcpu runs guest code, because instructions hold host pointers to what they access; that is why a reserve is kept (`low`): what
 * is touched between noticing that frames run short and the vcpu's arrival outside generated code is served from it.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mem/p2m_internal.h"

#define RESERVE_MAX 512		/* frames */
#define BATCH_MAX 512		/* frames made free at once beyond the reserve: one flush serves them all */

int memory_swap_on(struct memory *mem, int fd)
{
	struct memory_swap *s = &mem->swap;
	const uint64_t frames = mem->pool.frames;
	void *touched = mmap(NULL, frames, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (touched == MAP_FAILED)
		return -ENOMEM;
	mem->pool.touched = touched;
	s->on = true;
	s->fd = fd;
	s->low = frames / 8 < RESERVE_MAX ? frames / 8 : RESERVE_MAX;
	s->high = s->low + (frames / 8 < BATCH_MAX ? frames / 8 : BATCH_MAX);
	return 0;
}

void memory_swap_off(struct memory *mem)
{
	if (mem->swap.on)
		munmap(mem->pool.touched, mem->pool.frames);
	mem->pool.touched = NULL;
	mem->swap.on = false;
}

/* Plain system calls: this runs with guest vector registers live. 0, or an errno, kept for whoever tells the user. */
static int transfer(struct memory *mem, long call, uint64_t at, void *buf, uint64_t len)
{
	while (len) {
		long n = syscall(call, mem->swap.fd, buf, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			mem->swap.error = n < 0 ? errno : EIO;
			mem->swap.error_reading = call == SYS_pread64;
			return mem->swap.error;
		}
		buf = (uint8_t *)buf + n;
		at += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

bool swap_read(struct memory *mem, gpa_t p, void *buf, uint64_t len)
{
	return !transfer(mem, SYS_pread64, p.v, buf, len);
}

bool memory_peek_swapped(const struct memory *mem, gpa_t p, void *buf, uint64_t len)
{
	return p2m_is_swapped(mem, p) && syscall(SYS_pread64, mem->swap.fd, buf, len, p.v) == (long)len;
}

static bool is_zero(const void *page)
{
	const uint64_t *word = page;

	for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
		if (word[i])
			return false;
	return true;
}

void swap_used_frame(struct memory *mem, mfn_t m)
{
	struct memory_swap *s = &mem->swap;

	mem->pool.touched[m.v] = 1;
	if (mem->pool.frames - mem->pool.used < s->low && !s->asked && s->short_of_frames) {
		s->asked = true;
		s->short_of_frames(s->opaque);
	}
}

/* One of the pages on frame m, or the only one. */
static int put_page_out(struct memory *mem, mfn_t m, bool zero)
{
	const uint64_t gfn = pool_frame(&mem->pool, m)->gfn;
	const gpa_t p = gpa(gfn << PAGE_SHIFT);
	int err = zero ? 0 : transfer(mem, SYS_pwrite64, p.v, pool_ptr(&mem->pool, m), PAGE_SIZE);

	if (!err)
		err = -p2m_clear(mem, p, !zero);
	if (err)
		return -err;
	if (zero)
		mem->counters.swap_zeros++;
	else
		mem->counters.swapped_out++;
	memory_leave(mem, gfn, m);
	return 0;
}

/* A shared frame is free when all its pages are out, each at its own place; they come back as pages of their own. */
static int put_out(struct memory *mem, mfn_t m)
{
	const bool zero = is_zero(pool_ptr(&mem->pool, m));
	bool more;
	int err;

	do {
		more = pool_frame(&mem->pool, m)->flags & FRAME_SHARED;
		err = put_page_out(mem, m, zero);
	} while (more && !err);
	return err;
}

/*
 * The hand of the clock passes over frames. One that was touched since it last came by gets a second chance. "Touched" means that level 1 of a
 * TLB was filled from it, or a walk read a table in it (pool.touched); since every batch ends with level 1 and fetch ids dropped (swap.passes), a page in use is marked anew at once.
 */
int memory_make_room(struct memory *mem)
{
	struct memory_swap *s = &mem->swap;
	struct pool *pool = &mem->pool;
	int err = 0;

	memory_lock(mem);
	for (uint64_t steps = 0; !err && steps < 2 * pool->frames && pool->frames - pool->used + mem->moved < s->high; steps++) {
		const uint64_t m = s->hand;
		const struct frame *f = &pool->frame[m];

		s->hand = (m + 1) % pool->frames;
		if (!(f->flags & FRAME_ALLOCATED) || f->gfn == ~0ull)
			continue;
		if (pool->touched[m])
			pool->touched[m] = 0;
		else
			err = put_out(mem, mfn(m));
	}
	s->asked = false;
	s->passes++;
	mem->counters.swap_rounds++;
	memory_unlock(mem);
	return err;
}
