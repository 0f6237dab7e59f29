/*
 * block.c - the block table: look-up, invalidation, flush of the code cache, polling entries.
 *
 * Lifecycle of a block: made by translate.c; inserted (hash, lists of its frames, its granules watched); linked to and put into jump
 * tables; dead when a store hits its granules (entry patched, B3); gone when its part of the cache is emptied (evict.c) or all of it is, which are the only
 * times that host code is reused.
 */
#include "bt/lower.h"
#include "bt/profile_internal.h"

/*
 * Blocks of one frame and mode have places in a row, by 32 bytes of code: whoever looks for one will soon look for its neighbours, and most look-ups find a line that no cache has.
 * Each row begins elsewhere: else blocks at one offset of many pages, as where code runs on from page to page, would meet in a few places.
 */
#define HASH_GRAIN_SHIFT 5
static uint32_t hash_of(uint64_t m, uint64_t va, uint32_t mode)
{
	const uint64_t h = (m * 0x9e3779b97f4a7c15ull) ^ (mode * 0xc2b2ae3d27d4eb4full);
	const unsigned shift = PAGE_SHIFT - HASH_GRAIN_SHIFT;

	return (uint32_t)(h >> 32 << shift | (((va >> HASH_GRAIN_SHIFT) + (h >> 50)) & ((1u << shift) - 1))) & (BLOCK_HASH - 1);
}

struct block *bt_find(struct bt *bt, mfn_t m, mfn_t m2, uint64_t va, uint32_t mode, bool shared)
{
	const uint64_t key = shared ? va & ~PAGE_MASK : va;

	for (uint32_t i = bt->hash[hash_of(m.v, key, mode)]; i; i = bt->block[i - 1].hash_next) {
		struct block *b = &bt->block[i - 1];

		if (bt_block_key(b) == key && b->shared == shared && b->mfn == m.v && b->mode == mode && (b->mfn2 == NO_FRAME || b->mfn2 == m2.v))
			return b;
	}
	return 0;
}

/* The link that continues frame m's list after block b. */
static uint32_t *frame_link(struct block *b, uint64_t m) { return b->mfn == m ? &b->frame_next : &b->frame2_next; }

static void frame_add(struct bt *bt, struct block *b, uint64_t m)
{
	struct frame *f = pool_frame(&bt->memory->pool, mfn(m));

	*frame_link(b, m) = f->code_head;
	f->code_head = (uint32_t)(b - bt->block) + 1;
}

static void frame_unlink(struct bt *bt, struct block *b, uint64_t m, uint32_t *link)
{
	struct frame *f = pool_frame(&bt->memory->pool, mfn(m));

	*link = *frame_link(b, m);
	if (!f->code_head) {
		f->code_granules = 0;
		track_clear(&bt->memory->track, mfn(m), FRAME_CODE);
	}
}

static void frame_remove(struct bt *bt, struct block *b, uint64_t m)
{
	uint32_t *link = &pool_frame(&bt->memory->pool, mfn(m))->code_head, me = (uint32_t)(b - bt->block) + 1;

	while (*link != me) {
		ASSERT(*link);
		link = frame_link(&bt->block[*link - 1], m);
	}
	frame_unlink(bt, b, m, link);
}

void bt_insert(struct bt *bt, struct block *b)
{
	uint32_t *head = &bt->hash[hash_of(b->mfn, bt_block_key(b), b->mode)];

	const uint32_t bit = bt_head_bit(b->mfn, (unsigned)(b->va & ~PAGE_MASK));

	bt->heads[bit / 64] |= 1ull << (bit % 64);
	b->hash_next = *head;
	*head = (uint32_t)(b - bt->block) + 1;
	frame_add(bt, b, b->mfn);
	if (b->mfn2 != NO_FRAME && b->mfn2 != b->mfn)
		frame_add(bt, b, b->mfn2);
}

/* Leaves with b's address as RIP. */
static void cold_leave(struct bt *bt, struct emit *e, const struct block *b, bool flags_saved, enum leave_reason reason)
{
	e_mov_imm(e, T1, BLOCK_SITE | (uint32_t)(b - bt->block));
	e_jmp_to(e, (reason == LEAVE_POLL ? bt->poll : bt->link)[flags_saved]);
}

/* Turns an entry into a jump to `to`. */
static void patch_head(struct bt *bt, uint32_t entry, const uint8_t *to)
{
	struct emit e = { bt->cache + entry };

	e_jmp_to(&e, to);
}

void bt_forward(struct bt *bt, struct block *dead, const struct block *b)
{
	patch_head(bt, dead->entry, bt->cache + b->entry);
	patch_head(bt, dead->jump_entry, bt->cache + b->jump_entry);
}

static void hash_remove(struct bt *bt, struct block *b)
{
	uint32_t *link = &bt->hash[hash_of(b->mfn, bt_block_key(b), b->mode)], me = (uint32_t)(b - bt->block) + 1;

	while (*link != me) {
		ASSERT(*link);
		link = &bt->block[*link - 1].hash_next;
	}
	*link = b->hash_next;
}

void bt_unlist(struct bt *bt, struct block *b)
{
	hash_remove(bt, b);
	frame_remove(bt, b, b->mfn);
	if (b->mfn2 != NO_FRAME && b->mfn2 != b->mfn)
		frame_remove(bt, b, b->mfn2);
}

void bt_close_entries(struct bt *bt, const struct block *b)
{
	struct code_part *part = bt_part_of(bt, b);
	struct emit e = { part->cold };

	ASSERT(bt_cold_room(part));
	bt_profile_cold(bt, b, e.p);
	patch_head(bt, b->entry, e.p);
	cold_leave(bt, &e, b, false, LEAVE_DISPATCH);
	patch_head(bt, b->jump_entry, e.p);
	cold_leave(bt, &e, b, true, LEAVE_DISPATCH);
	part->cold = e.p;
}

/* b stands in frame m's list where *frame_at points. */
static void kill_block(struct bt *bt, struct block *b, uint64_t m, uint32_t *frame_at)
{
	hash_remove(bt, b);
	frame_unlink(bt, b, m, frame_at);
	if (b->mfn2 != NO_FRAME && b->mfn2 != b->mfn)
		frame_remove(bt, b, m == b->mfn ? b->mfn2 : b->mfn);
	b->dead = true;
	for (unsigned k = 0; k < 2; k++) /* what comes in the place of the code may care about flags that a poll clobbers */
		if (b->poll[k])
			patch_head(bt, b->poll[k], bt->cache + (k ? b->jump_entry : b->entry));
	bt_profile_killed(bt, b);
	bt_close_entries(bt, b);
}

/* The bytes of b in frame m, as [*lo, *hi). */
static void extent(const struct block *b, uint64_t m, unsigned *lo, unsigned *hi)
{
	unsigned off = (unsigned)(b->va & ~PAGE_MASK), end = off + b->len;

	if (b->mfn == m) {
		*lo = off;
		*hi = end < PAGE_SIZE ? end : (unsigned)PAGE_SIZE;
	} else {
		*lo = 0;
		*hi = end - (unsigned)PAGE_SIZE;
	}
}

void bt_invalidate_range(struct bt *bt, mfn_t m, unsigned offset, unsigned len)
{
	struct frame *f = pool_frame(&bt->memory->pool, m);
	/* Whole granules, so that their bits can be cleared. */
	unsigned lo = offset & ~((1u << GRANULE_SHIFT) - 1), hi = (unsigned)ALIGN_UP(offset + len, 1u << GRANULE_SHIFT);

	for (uint32_t *link = &f->code_head; *link;) {
		struct block *b = &bt->block[*link - 1];
		unsigned blo, bhi;

		extent(b, m.v, &blo, &bhi);
		if (b->mfn == b->mfn2) /* crosses from the frame into itself */
			blo = 0, bhi = PAGE_SIZE;
		if (blo >= hi || bhi <= lo) {
			link = frame_link(b, m.v);
			continue;
		}
		if (!bt_cold_room(bt_part_of(bt, b))) {
			bt_evict(bt, b);
			link = &f->code_head;
			continue;
		}
		kill_block(bt, b, m.v, link);
		bt->counters.blocks_invalidated_write++;
	}
	for (unsigned g = lo >> GRANULE_SHIFT; g < hi >> GRANULE_SHIFT; g++)
		f->code_granules &= ~(1ull << g);
}

/* Blocks that begin in the chunk are made anew when somebody comes to them next. */
static void renew_chunk(struct bt *bt, uint64_t m, unsigned offset)
{
	for (uint32_t *link = &pool_frame(&bt->memory->pool, mfn(m))->code_head; *link;) {
		struct block *b = &bt->block[*link - 1];

		if (b->mfn == m && ((b->va & ~PAGE_MASK) ^ offset) >> CHUNK_SHIFT == 0 && bt_cold_room(bt_part_of(bt, b)))
			kill_block(bt, b, m, link);
		else
			link = frame_link(b, m);
	}
}

void bt_window_sample(struct bt *bt, mfn_t m, unsigned offset, int32_t misses)
{
	struct chunk_windows *w = bt_windows_of(bt, m.v, offset);

	if (w->misses_left < INT32_MAX / 2)
		w->misses_left += misses;
	if (bt_wants_windows(w) || ++w->samples < WINDOW_SAMPLES)
		return;
	memory_lock(bt->memory);
	bt->counters.chunks_windowed++;
	renew_chunk(bt, m.v, offset);
	memory_unlock(bt->memory);
}

/* Before a window is given up, pages that lie badly are moved. */
static bool gathers(struct mmu *mmu, enum tlb_set set, struct chunk_windows *w, uint64_t va)
{
	const enum gather_answer answer = w->gathers < GATHERS_MOST ? mmu_gather_ask(mmu, set, va) : GATHER_USELESS;

	if (answer == GATHER_USELESS)
		return false;
	w->gathers += answer == GATHER_ASKED;
	w->misses_left = GATHER_MISSES;
	return true;
}

void bt_window_missed(struct bt *bt, struct block *b, unsigned window, uint32_t misses, struct mmu *mmu, enum tlb_set set, uint64_t va)
{
	struct chunk_windows *w = bt_windows_of(bt, b->mfn, (unsigned)(b->va & ~PAGE_MASK));

	w->misses_left -= (int32_t)misses;
	if (w->misses_left >= 0 || b->dead || gathers(mmu, set, w, va) || tune_on(bt->memory->tune, TUNE_ALL_WINDOWS))
		return;
	w->misses_left = 0;
	memory_lock(bt->memory);
	w->without |= (uint16_t)(1u << window);
	bt->counters.windows_forsaken++;
	renew_chunk(bt, b->mfn, (unsigned)(b->va & ~PAGE_MASK));
	memory_unlock(bt->memory);
}

void bt_drain_code_writes(struct bt *bt)
{
	struct track *track = &bt->memory->track;
	uint32_t n;

	memory_lock(bt->memory);
	n = atomic_load(&track->code_writes);
	if (n > CODE_WRITE_QUEUE) {
		bt_flush(bt);
	} else {
		for (uint32_t i = 0; i < n; i++)
			bt_invalidate_range(bt, track->queue[i].m, track->queue[i].offset, track->queue[i].len);
	}
	bt->counters.code_writes += n;
	atomic_store(&track->code_writes, 0);
	memory_unlock(bt->memory);
}

/* When everything goes: the whole lists of b's frames. */
static void forget_frames(struct bt *bt, struct block *b)
{
	if (b->dead)
		return;
	b->dead = true;
	bt->counters.blocks_invalidated_flush++;
	for (unsigned k = 0; k < 2; k++) {
		uint64_t m = k ? b->mfn2 : b->mfn;
		struct frame *f;

		if (m == NO_FRAME)
			continue;
		f = pool_frame(&bt->memory->pool, mfn(m));
		f->code_head = 0;
		f->code_granules = 0;
		track_clear(&bt->memory->track, mfn(m), FRAME_CODE);
	}
}

void bt_flush(struct bt *bt)
{
	for (uint32_t n = 0; n < CODE_PARTS; n++)
		for (uint32_t i = n * PART_BLOCKS; i < bt->part[n].blocks; i++)
			forget_frames(bt, &bt->block[i]);
	for (uint32_t i = 0; i < BLOCK_HASH; i++)
		bt->hash[i] = 0;
	for (uint32_t i = 0; i < BLOCK_HEADS / 64; i++)
		bt->heads[i] = 0;
	bt->generation++;
	for (uint32_t n = 0; n < CODE_PARTS; n++)
		bt_part_begin(bt, &bt->part[n]);
	bt->filling = 0;
	bt->counters.cache_flushes++;
}

/* Hot code of a part is handed out in ascending order, so blocks are sorted by it. */
struct block *bt_block_of_host(struct bt *bt, uint32_t host)
{
	const struct code_part *part = bt_part_at(bt, host);
	uint32_t lo = (uint32_t)(part - bt->part) * PART_BLOCKS, hi = part->blocks;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;
		struct block *b = &bt->block[mid];

		if (host >= b->host_end)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < part->blocks && host >= (bt->block[lo].entry < bt->block[lo].jump_entry ? bt->block[lo].entry :
					   bt->block[lo].jump_entry) ? &bt->block[lo] : 0;
}

/* A part's blocks are sorted by their sites, too. */
struct block *bt_block_of_site(struct bt *bt, uint32_t site)
{
	const struct code_part *part = &bt->part[site / PART_SITES];
	uint32_t lo = (uint32_t)(part - bt->part) * PART_BLOCKS, hi = part->blocks;

	while (hi - lo > 1) { /* the last that begins no later */
		const uint32_t mid = (lo + hi) / 2;

		if (bt->block[mid].first_site <= site)
			lo = mid;
		else
			hi = mid;
	}
	return &bt->block[lo];
}

const struct mark *bt_mark_of(struct bt *bt, const struct block *b, uint32_t host)
{
	for (unsigned i = 0; i < b->marks; i++)
		if (bt->mark[b->first_mark + i].host == host)
			return &bt->mark[b->first_mark + i];
	return 0;
}

/* Looks at v->pending; the jump if it is zero, or not, to be patched. Clobbers EFLAGS. */
static uint8_t *look_at_pending(struct emit *e, uint8_t cc)
{
	e_u8(e, 0x65); /* cmp dword gs:[pending], 0 */
	e_u8(e, 0x83);
	e_modrm(e, 7, NO_BASE, NO_BASE, 1, VOFF(pending));
	e_u8(e, 0);
	return e_jcc(e, cc);
}

void bt_poll_before(struct bt *bt, struct block *b, struct emit *hot, struct emit *cold)
{
	b->poll[0] = (uint32_t)(hot->p - bt->cache);
	e_patch(look_at_pending(hot, CC_NE), cold->p);
	cold_leave(bt, cold, b, false, LEAVE_POLL);
}

uint8_t *bt_poll_entry(struct bt *bt, struct block *b, bool flags_saved)
{
	uint32_t *slot = &b->poll[flags_saved];
	uint32_t to = flags_saved ? b->jump_entry : b->entry;
	struct code_part *part = bt_part_of(bt, b);
	struct emit e = { part->cold };

	if (*slot)
		return bt->cache + *slot;
	if (!bt_cold_room(part))
		return 0;
	bt_profile_cold(bt, b, e.p);
	*slot = (uint32_t)(e.p - bt->cache);
	if (flags_saved || b->flags_any) { /* EFLAGS are free */
		e_patch(look_at_pending(&e, CC_E), bt->cache + to);
		cold_leave(bt, &e, b, flags_saved, LEAVE_POLL);
	} else {
		uint8_t *none;

		e_store_gs(&e, SLOT(S_RCX), RCX);
		e_load_gs32(&e, RCX, VOFF(pending));
		none = e_jrcxz(&e);
		e_load_gs(&e, RCX, SLOT(S_RCX));
		cold_leave(bt, &e, b, false, LEAVE_POLL);
		e_patch8(none, e.p);
		e_load_gs(&e, RCX, SLOT(S_RCX));
		e_jmp_to(&e, bt->cache + to);
	}
	part->cold = e.p;
	return bt->cache + *slot;
}
