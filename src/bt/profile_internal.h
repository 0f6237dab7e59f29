/*
 * profile_internal.h - the translator's calls to bt/profile.c. Each is one test of a pointer when nobody profiles, in C code that runs
 * off the hot path.
 */
#ifndef BT_PROFILE_INTERNAL_H
#define BT_PROFILE_INTERNAL_H

#include "bt/bt_internal.h"
#include "bt/profile.h"

void bt_profile_count_left(struct vcpu *v);
void bt_profile_count_slow(struct vcpu *v, uint32_t site, enum profile_event event);
void bt_profile_count_exec(struct vcpu *v, const struct insn *in);
void bt_profile_count_code_write(struct vcpu *v);
void bt_profile_count_made(struct vcpu *v, const struct block *b);
void bt_profile_count_killed(struct bt *bt, const struct block *b);
void bt_profile_note_cold(struct bt *bt, const struct block *b, const uint8_t *start);

/* Generated code left; the reason and its slots are set. */
static inline void bt_profile_left(struct vcpu *v)
{
	if (UNLIKELY(v->bt->profile))
		bt_profile_count_left(v);
}
/* Generated code called C at this site and will go on: event is PROFILE_REFILL (or a walk, it shows) or PROFILE_STRING. */
static inline void bt_profile_slow(struct vcpu *v, uint32_t site, enum profile_event event)
{
	if (UNLIKELY(v->bt->profile))
		bt_profile_count_slow(v, site, event);
}
/* The executor is about to do this. */
static inline void bt_profile_exec(struct vcpu *v, const struct insn *in)
{
	if (UNLIKELY(v->bt->profile))
		bt_profile_count_exec(v, in);
}
static inline void bt_profile_code_write(struct vcpu *v)
{
	if (UNLIKELY(v->bt->profile))
		bt_profile_count_code_write(v);
}
static inline void bt_profile_made(struct vcpu *v, const struct block *b)
{
	if (UNLIKELY(v->bt->profile || v->bt->bt->profile))
		bt_profile_count_made(v, b);
}
static inline void bt_profile_killed(struct bt *bt, const struct block *b)
{
	if (UNLIKELY(bt->profile))
		bt_profile_count_killed(bt, b);
}
/* The cold code from start on is b's. To be called in ascending order for each part of the cache. */
static inline void bt_profile_cold(struct bt *bt, const struct block *b, const uint8_t *start)
{
	if (UNLIKELY(bt->profile))
		bt_profile_note_cold(bt, b, start);
}
/* Part n of the cache is empty. */
static inline void bt_profile_part(struct bt *bt, uint32_t n)
{
	_Static_assert(CODE_PARTS == BT_COLD_PARTS, "the same parts");
	if (UNLIKELY(bt->profile))
		bt->profile->part[n].colds = bt->profile->part[n].told = 0;
}

#endif
