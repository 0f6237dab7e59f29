/*
 * shadow_page.c - the store of shadow pages: made, found, freed, reclaimed, and the watch on guest tables.
 */
#include "mmu/shadow.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define AHEAD 8 /* table pages given memory at once: host page faults are dear */

static uint32_t default_limit(const struct memory *memory)
{
	uint64_t n = 1024 + memory->pool.placed / 128; /* what is kept apart for gathering holds no more pages than these */

	return n > 16384 ? 16384 : (uint32_t)n;
}

int shadow_attach(struct memory *memory)
{
	struct shadow *s = memory->shadow;

	if (s) {
		s->users++;
		return 0;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->memory = memory;
	s->limit = memory->shadow_pages ? memory->shadow_pages : default_limit(memory);
	ASSERT(s->limit >= SHADOW_MIN_PAGES && s->limit <= SHADOW_MAX_PAGES);
	s->page_bytes = s->limit * sizeof(*s->page);
	s->table_bytes = s->limit * PAGE_SIZE;
	s->page = mmap(NULL, s->page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	s->tables = mmap(NULL, s->table_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if ((void *)s->page == MAP_FAILED || (void *)s->tables == MAP_FAILED) {
		if ((void *)s->page != MAP_FAILED)
			munmap(s->page, s->page_bytes);
		if ((void *)s->tables != MAP_FAILED)
			munmap(s->tables, s->table_bytes);
		free(s);
		return -ENOMEM;
	}
	s->generation = memory->p2m_generation;
	s->serial_epoch = memory->serial_epoch;
	s->users = 1;
	memory->shadow = s;
	return 0;
}

void shadow_detach(struct memory *memory)
{
	struct shadow *s = memory->shadow;

	if (--s->users)
		return;
	munmap(s->page, s->page_bytes);
	munmap(s->tables, s->table_bytes);
	free(s);
	memory->shadow = NULL;
}

static unsigned hash_of(uint64_t gfn, uint32_t role) { return (unsigned)((gfn ^ (uint64_t)role << 40) * 0x9e3779b97f4a7c15ull >> 54); }

/* Head of the list that a page with these belongs to. */
static uint32_t *list_of(struct shadow *s, mfn_t m, uint64_t gfn, uint32_t role)
{
	return role & ROLE_DIRECT ? &s->direct[hash_of(gfn, role)] : &pool_frame(&s->memory->pool, m)->shadow_head;
}

struct shadow_page *shadow_page_find(const struct shadow *s, mfn_t m, uint64_t gfn, uint32_t role)
{
	uint32_t i = *list_of((struct shadow *)s, m, gfn, role);

	while (i) {
		struct shadow_page *p = &s->page[i - 1];

		if (p->gfn == gfn && p->role == role)
			return p;
		i = p->next;
	}
	return NULL;
}

/* S3, after a page of frame m has come, gone or become loose. */
static void update_watch(struct mmu *mmu, mfn_t m)
{
	struct shadow *s = mmu->memory->shadow;
	struct frame *f = pool_frame(&s->memory->pool, m);
	bool tight = false;

	for (uint32_t i = f->shadow_head; i; i = s->page[i - 1].next)
		tight |= !s->page[i - 1].loose;
	if (tight && !(f->flags & FRAME_TABLE)) {
		track_set(&s->memory->track, m, FRAME_TABLE);
		mmu_write_protect(mmu, m);
	} else if (!tight && (f->flags & FRAME_TABLE)) {
		track_clear(&s->memory->track, m, FRAME_TABLE);
	}
}

void shadow_page_free(struct mmu *mmu, struct shadow_page *page)
{
	struct shadow *s = mmu->memory->shadow;
	uint32_t index = shadow_index(s, page), *at = list_of(s, page->m, page->gfn, page->role), *list;

	ASSERT(page->live);
	while (*at != index + 1)
		at = &s->page[*at - 1].next;
	*at = page->next;
	page->live = false;
	page->serial = (page->serial + 1) & SHADOW_SERIAL_MASK;
	list = page->serial ? &s->free_head : &s->parked_head;
	page->next = *list;
	*list = index + 1;
	s->live--;
	mmu->counters.shadow_live = s->live;
	if (!(page->role & ROLE_DIRECT))
		update_watch(mmu, page->m);
}

void shadow_unpark(struct mmu *mmu)
{
	struct shadow *s = mmu->memory->shadow;

	if (LIKELY(!s->parked_head))
		return;
	shadow_drop_all(mmu);
	while (s->parked_head) {
		struct shadow_page *p = &s->page[s->parked_head - 1];

		s->parked_head = p->next;
		p->next = s->free_head;
		s->free_head = shadow_index(s, p) + 1;
	}
}

void shadow_drop_all(struct mmu *mmu)
{
	struct shadow *s = mmu->memory->shadow;

	/* Entries of freed pages are cleared when they are used again, so no link survives. */
	for (uint32_t i = 0; i < s->made_ever; i++)
		if (s->page[i].live)
			shadow_page_free(mmu, &s->page[i]);
}

void shadow_renew(struct mmu *mmu)
{
	struct shadow *s = mmu->memory->shadow;

	if (LIKELY(s->generation == mmu->memory->p2m_generation))
		return;
	if (s->serial_epoch != mmu->memory->serial_epoch)
		shadow_drop_all(mmu);
	/* Tables that left their frames. Leaves that name such frames are void by their serials. */
	for (uint32_t i = mmu->memory->moved_head; i; i = mmu->memory->pool.frame[i - 1].spare)
		while (mmu->memory->pool.frame[i - 1].shadow_head)
			shadow_page_free(mmu, &s->page[mmu->memory->pool.frame[i - 1].shadow_head - 1]);
	s->generation = mmu->memory->p2m_generation;
	s->serial_epoch = mmu->memory->serial_epoch;
}

void shadow_set_limit(struct mmu *mmu, uint32_t limit)
{
	struct shadow *s = mmu->memory->shadow;
	uint32_t most = (uint32_t)(s->table_bytes / PAGE_SIZE);

	memory_lock(mmu->memory);
	shadow_drop_all(mmu);
	s->limit = limit < SHADOW_MIN_PAGES ? SHADOW_MIN_PAGES : limit > most ? most : limit;
	shadow_unpark(mmu);
	if (s->made_ever > s->limit) {
		/* Only indices below the limit go on; serials stay, so that old links stay void. */
		s->free_head = 0;
		for (uint32_t i = s->limit; i--;) {
			s->page[i].next = s->free_head;
			s->free_head = i + 1;
		}
		s->made_ever = s->limit;
	}
	s->hand = 0;
	memory_unlock(mmu->memory);
}

/* Second chance: the first page that was not used since the hand last passed, and is not in use by this operation. */
static void reclaim(struct mmu *mmu)
{
	struct shadow *s = mmu->memory->shadow;

	for (;;) {
		struct shadow_page *p = &s->page[s->hand];

		s->hand = (s->hand + 1) % s->made_ever;
		if (!p->live || p->stamp == s->stamp)
			continue;
		if (p->referenced) {
			p->referenced = false;
			continue;
		}
		mmu->counters.shadow_reclaimed++;
		shadow_page_free(mmu, p);
		return;
	}
}

static struct shadow_page *take(struct mmu *mmu)
{
	struct shadow *s = mmu->memory->shadow;
	struct shadow_page *p;

	if (!s->free_head && s->made_ever == s->limit)
		reclaim(mmu);
	if (s->free_head) {
		p = &s->page[s->free_head - 1];
		s->free_head = p->next;
		if (p->present)
			fill_bytes(p->entry, 0, PAGE_SIZE);
		return p;
	}
	p = &s->page[s->made_ever];
	p->entry = (uint64_t *)(s->tables + s->made_ever * PAGE_SIZE);
	if (s->made_ever % AHEAD == 0) {
		uint64_t n = s->table_bytes / PAGE_SIZE - s->made_ever;

		/* Only saves time; a refusal is not an error. */
		madvise(p->entry, (n < AHEAD ? n : AHEAD) * PAGE_SIZE, MADV_POPULATE_WRITE);
	}
	s->made_ever++;
	return p;
}

struct shadow_page *shadow_page_get(struct mmu *mmu, mfn_t m, uint64_t gfn, uint32_t role)
{
	struct shadow *s = mmu->memory->shadow;
	struct shadow_page *p = shadow_page_find(s, m, gfn, role);

	if (!p) {
		uint32_t *list;

		p = take(mmu);
		p->gfn = gfn;
		p->m = m;
		p->role = role;
		p->present = p->writes = 0;
		p->live = true;
		p->loose = false;
		list = list_of(s, m, gfn, role);
		p->next = *list;
		*list = shadow_index(s, p) + 1;
		s->live++;
		mmu->counters.shadow_made++;
		mmu->counters.shadow_live = s->live;
		if (!(role & ROLE_DIRECT))
			update_watch(mmu, m);
	}
	p->stamp = s->stamp;
	p->referenced = true;
	return p;
}

void shadow_page_loosen(struct mmu *mmu, struct shadow_page *page)
{
	page->loose = true;
	update_watch(mmu, page->m);
}
