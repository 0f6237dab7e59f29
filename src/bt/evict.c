/*
 * evict.c - a full code cache: empties a part of it, rather than all.
 *
 * Which part is left to chance. What runs in a circle, and is somewhat larger than the cache, would always find just what it comes to next dropped
 * if the oldest had to go; so it finds most of it. Into the code of an emptied part lead
 *   - the hash and the lists of frames: its blocks are taken out;
 *   - links: they stay in a page, so they are those of the blocks in the same frames' lists; they get exits that leave again;
 *   - entries of dead blocks of other parts that were forwarded to one of its own (B3): they leave again;
 *   - jump tables: each vcpu looks through its own before it enters code again (jump.c), by the parts' `born`.
 * All other code that is made for a block later (polling entries, look-ups of conditional jumps, exits of dead blocks) lies in the block's own part.
 */
#include "bt/lower.h"
#include "bt/profile_internal.h"

#define SMALL_PART KIB(512) /* --tune small-cache=on */
#define FIRST_HOT_SHARE 72u /* percent, before anything is known */

void bt_part_begin(struct bt *bt, struct code_part *p)
{
	const uint32_t n = (uint32_t)(p - bt->part);
	uint8_t *start = n ? bt->cache + (size_t)n * PART_SIZE : bt->hot_start, *end = bt->cache + (size_t)(n + 1) * PART_SIZE;
	uint64_t share = bt->hot_made ? bt->hot_made * 100 / (bt->hot_made + bt->cold_made) : FIRST_HOT_SHARE;

	if (tune_on(bt->memory->tune, TUNE_SMALL_CACHE))
		end = start + SMALL_PART;
	share = share < 50 ? 50 : share > 80 ? 80 : share;
	p->hot = start;
	/* Both are to be full at the same time: what each keeps free does not count. */
	p->hot_end = p->cold = start + BLOCK_ROOM + ALIGN_UP(((uint64_t)(end - start) - 2 * BLOCK_ROOM - LATE_ROOM) * share / 100, 64);
	p->cold_end = end;
	p->blocks = n * PART_BLOCKS;
	p->marks = n * PART_MARKS;
	p->sites = n * PART_SITES;
	p->born = bt->generation;
	bt_profile_part(bt, n);
}

static bool leads_into(const struct bt *bt, const uint8_t *rel32, uint32_t part)
{
	const uint8_t *to = rel32 + 4 + (int32_t)load_u32(rel32);

	return to >= bt->cache && (uint32_t)(to - bt->cache) / PART_SIZE == part && to >= bt->hot_start;
}

/* The link leaves with its site again. False: no room. */
static bool unlink_site(struct bt *bt, const struct block *from, uint32_t n)
{
	const struct site *s = &bt->site[n];
	struct code_part *part = bt_part_of(bt, from);
	uint8_t *rel32 = bt->cache + s->host;
	struct emit e = { part->cold };

	if (rel32 >= part->hot_end) { /* the exit's own jump: behind the site's number */
		e_patch(rel32, bt->link[s->flags_saved]);
		return true;
	}
	if (!bt_cold_room(part))
		return false;
	bt_profile_cold(bt, from, e.p);
	e_patch(rel32, e.p);
	e_mov_imm(&e, T1, n);
	e_jmp_to(&e, bt->link[s->flags_saved]);
	part->cold = e.p;
	return true;
}

/* The links of b that lead into part n. False: there is no room to undo one. */
static bool unlink_block(struct bt *bt, const struct block *b, uint32_t n)
{
	const struct code_part *part = bt_part_of(bt, b);
	const uint32_t next = (uint32_t)(b - bt->block) + 1, end = next < part->blocks ? bt->block[next].first_site : part->sites;

	for (uint32_t i = b->first_site; i < end; i++) {
		const struct site *s = &bt->site[i];

		if (s->kind == SITE_CROSS) /* whose look-up is in b's own part */
			i++;
		else if (s->kind == SITE_LINK && s->host && leads_into(bt, bt->cache + s->host, n) && !unlink_site(bt, b, i))
			return false;
	}
	return true;
}

/* All live blocks that could be linked to one that was in frame m. Those without room have their part's bit set in *todo. */
static void unlink_frame(struct bt *bt, uint32_t m, uint32_t n, uint32_t *todo)
{
	for (uint32_t i = pool_frame(&bt->memory->pool, mfn(m))->code_head; i;) {
		struct block *b = &bt->block[i - 1];

		if (!unlink_block(bt, b, n))
			*todo |= 1u << (uint32_t)(b - bt->block) / PART_BLOCKS;
		i = b->mfn == m ? b->frame_next : b->frame2_next;
	}
}

/* Dead blocks of other parts that go on in part n. */
static void close_dead(struct bt *bt, uint32_t n, uint32_t *todo)
{
	for (uint32_t k = 0; k < CODE_PARTS; k++) {
		const struct code_part *part = &bt->part[k];

		for (uint32_t i = k * PART_BLOCKS; k != n && i < part->blocks; i++) {
			const struct block *b = &bt->block[i];

			if (!b->dead || !leads_into(bt, bt->cache + b->entry + 1, n))
				continue;
			if (bt_cold_room(part))
				bt_close_entries(bt, b);
			else
				*todo |= 1u << k;
		}
	}
}

/* Parts that turn out to have no room for what must be undone in them get their bit set in *todo: they are to be emptied, too, before any code runs. */
static void empty(struct bt *bt, uint32_t n, uint32_t *todo)
{
	struct code_part *part = &bt->part[n];

	for (uint32_t i = n * PART_BLOCKS; i < part->blocks; i++) {
		struct block *b = &bt->block[i];
		const uint32_t bit = bt_head_bit(b->mfn, (unsigned)(b->va & ~PAGE_MASK));

		if (b->dead)
			continue;
		bt_unlist(bt, b);
		bt->heads[bit / 64] &= ~(1ull << (bit % 64));
		b->dead = true;
		bt->counters.blocks_invalidated_flush++;
	}
	for (uint32_t i = n * PART_BLOCKS, last = NO_FRAME; i < part->blocks; i++) { /* also what was linked to the dead */
		const uint32_t m = bt->block[i].mfn;

		if (m != last)
			unlink_frame(bt, m, n, todo);
		last = m;
	}
	close_dead(bt, n, todo);
	bt_part_begin(bt, part);
	bt->counters.cache_evictions++;
}

static void empty_all(struct bt *bt, uint32_t todo)
{
	bt->generation++;
	while (todo) {
		const uint32_t n = (uint32_t)__builtin_ctz(todo);

		empty(bt, n, &todo);
		todo &= ~(1u << n);
	}
}

void bt_evict(struct bt *bt, const struct block *b) { empty_all(bt, 1u << (uint32_t)(b - bt->block) / PART_BLOCKS); }

void bt_make_room(struct bt *bt)
{
	uint32_t n;

	for (n = 0; n < CODE_PARTS; n++)
		if (bt->part[n].blocks == n * PART_BLOCKS)
			break;
	if (n == CODE_PARTS) {
		if (!tune_on(bt->memory->tune, TUNE_EVICT)) {
			bt_flush(bt);
			return;
		}
		bt->dice = bt->dice * 1664525 + 1013904223;
		n = (bt->filling + 1 + (bt->dice >> 16) % (CODE_PARTS - 1)) % CODE_PARTS;
		empty_all(bt, 1u << n);
	} else {
		bt_part_begin(bt, &bt->part[n]); /* in the proportion that is known by now */
	}
	bt->filling = n;
}
