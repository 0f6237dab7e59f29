/*
 * link.c - direct jumps between blocks of a page: they are made when first taken, and how a vcpu has come to where a block is wanted says whether it is a jump's target at all.
 */
#include "bt/bt_internal.h"
#include "bt/emit.h"

#include "base/tune.h"

bool bt_asks_singly(const struct bt *bt, uint32_t site)
{
	if (site == NO_SITE)
		return false;
	return site & BLOCK_SITE ? bt->block[site & ~BLOCK_SITE].mode & MODE_SINGLY : bt->site[site].kind == SITE_LINK && bt->site[site].singly;
}

void bt_link_site(struct vcpu *v, uint32_t site, struct block *b)
{
	struct bt *bt = v->bt->bt;
	const struct site *s;
	const struct block *from;
	const uint8_t *to;
	const struct block *wants = b; /* cold room */

	if (site == NO_SITE || !tune_on(v->memory->tune, TUNE_LINK))
		return;
	if (site & BLOCK_SITE) {
		struct block *dead = &bt->block[site & ~BLOCK_SITE];

		if ((site & ~BLOCK_SITE) < bt_part_of(bt, dead)->blocks && dead->dead && dead->shared == b->shared && bt_block_key(dead) == bt_block_key(b) && dead->mfn == b->mfn && dead->mfn2 == b->mfn2 && dead->mode == b->mode)
			bt_forward(bt, dead, b);
		return;
	}
	s = &bt->site[site];
	from = bt_block_of_site(bt, site);
	if (s->kind == SITE_CROSS) { /* wherever that leads */
		if (from->dead)
			return;
		wants = from;
		to = bt_cross_entry(bt, from, site);
		goto patch;
	}
	if (s->kind != SITE_LINK || from->dead || from->mfn != b->mfn || (from->mode ^ b->mode) & ~(uint32_t)MODE_SINGLY || b->mfn2 != NO_FRAME ||
	    from->shared != b->shared || (bt_block_va(v, from) & PAGE_MASK) != (v->rip & PAGE_MASK))
		return;
	if (!s->singly && bt_block_key(b) <= bt_block_key(from) + s->guest_off)
		to = bt_poll_entry(bt, b, s->flags_saved);
	else
		to = bt->cache + (s->flags_saved ? b->jump_entry : b->entry);
	bt->counters.links++;
patch:
	if (LIKELY(to)) {
		e_patch(bt->cache + s->host, to);
		return;
	}
	memory_lock(v->memory);
	bt_evict(bt, wants);
	memory_unlock(v->memory);
}

bool bt_by_seam(const struct vcpu *v)
{
	struct bt *bt = v->bt->bt;
	const uint32_t n = (uint32_t)v->bt_scratch[S_SITE];
	const struct block *from;

	switch ((enum leave_reason)(uint32_t)v->bt_scratch[S_REASON]) {
	case LEAVE_DISPATCH:
		if (n & BLOCK_SITE)
			return bt->block[n & ~BLOCK_SITE].seam;
		from = bt_block_of_site(bt, n);
		return bt->site[n].kind == SITE_LINK && bt->site[n].more == (from->va & ~PAGE_MASK) + from->len;
	case LEAVE_JUMP:
		return bt->site[n].kind == SITE_FAR;
	case LEAVE_EXEC:
	case LEAVE_SLOW:
	case LEAVE_FAULT:
		return true;
	default:
		return false;
	}
}
