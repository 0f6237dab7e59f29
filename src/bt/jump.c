/*
 * jump.c - jump tables: from guest addresses to translated code, one table a context. docs/translator.md, "Edges".
 *
 * A table is an array of entries in sets of JUMP_WAYS. Generated code looks where the address hashes to (lower_flow.c), a stub then looks at the others of the
 * set (stubs.c), where bt_jump_put has moved what it displaced, and lets what it finds change places with that: a few hot targets with one hash do not drive each other out, as two or three of a kernel's always do.
 * An empty entry holds an address that hashes to another set, so that no look-up can hit it.
 *
 * Behind the tables is a wide one for all contexts, whose entries hold the number of their context: what a table has no more room for is found there by the
 * same stub. A context that is made anew gets a new number, so its old entries hit no more.
 */
#include "bt/bt_internal.h"

#define BV(v) ((v)->bt)

static uint32_t entries_of(uint32_t table) { return table < JUMP_LARGE_TABLES ? JUMP_LARGE_ENTRIES : JUMP_SMALL_ENTRIES; }

/* What an empty entry of address 0's set holds; elsewhere it is 0. */
static uint64_t other_than_zero(uint32_t entries)
{
	const uint32_t slot = bt_jump_slot(0, entries);
	uint64_t other = PAGE_SIZE;

	while (((bt_jump_slot(other, entries) ^ slot) & ~(JUMP_WAYS - 1)) == 0)
		other += PAGE_SIZE;
	return other;
}

static void table_clear(struct vcpu *v, uint32_t table)
{
	const uint32_t entries = entries_of(table), slot = bt_jump_slot(0, entries);
	const uint64_t other = other_than_zero(entries);
	struct jump_entry *first = &v->jump[bt_jump_first(table)];

	fill_bytes(first, 0, entries * sizeof(*first)); /* runs with live vector registers: no loop that becomes memset */
	for (unsigned k = 0; k < JUMP_WAYS; k++)
		first[slot ^ k].key = other;
}

static uint32_t number_of(const struct vcpu *v, uint32_t table) { return (uint32_t)v->jump[bt_jump_first(table) - 1].key; }
static void set_number(struct vcpu *v, uint32_t table, uint32_t number) { v->jump[bt_jump_first(table) - 1].key = number; }

/*
 * The ways between user and kernel, and between a kernel's contexts with AC set and clear: SYSCALL, SYSRET, IRETQ, and what follows STAC or CLAC in a block go on in
 * the table of the other context without leaving generated code. Its place is kept in S_JUMP_KERNEL, S_JUMP_AC and S_JUMP_USER; without such a context it is that of table 0, which is empty, and the look-up there leaves as any other that misses.
 * What the two modes share comes from control registers, which change in C only.
 */
#define WAYS_NONE UINT32_MAX

static bool is_context(const struct bt_vcpu *bv, uint32_t i, uint32_t fetch_id, uint32_t mode)
{
	return bv->context[i].used && bv->context[i].fetch_id == fetch_id && bv->context[i].mode == mode;
}

static uint64_t base_of(const struct vcpu *v, uint32_t fetch_id, uint32_t mode)
{
	const bool small = bt_jump_small(mode);

	for (uint32_t i = small ? JUMP_LARGE_TABLES : 1; i < (small ? JUMP_TABLES : JUMP_LARGE_TABLES); i++)
		if (is_context(BV(v), i, fetch_id, mode))
			return bt_jump_base(i);
	return JUMP_NONE;
}

static void ways_refresh(struct vcpu *v, uint32_t mode)
{
	struct bt_vcpu *bv = BV(v);
	const uint32_t both = mode & ~(uint32_t)(MODE_SET | MODE_CPL0 | MODE_SMAP);
	const bool smap = v->cr4 & CR4_SMAP, wide = !(mode & MODE_CODE32);

	bv->ways.mode = both | (smap ? MODE_SMAP : 0);
	bv->ways.fetch_id[0] = v->mmu.fetch_id[0];
	bv->ways.fetch_id[1] = v->mmu.fetch_id[1];
	v->bt_scratch[S_JUMP_USER] = wide ? base_of(v, v->mmu.fetch_id[1], both | TLB_USER) : JUMP_NONE;
	/* AC is clear after a SYSCALL that is done inline. */
	v->bt_scratch[S_JUMP_KERNEL] = wide ? base_of(v, v->mmu.fetch_id[0], both | MODE_CPL0 | (smap ? MODE_SMAP | TLB_KERNEL : TLB_KERNEL_AC)) : JUMP_NONE;
	v->bt_scratch[S_JUMP_AC] = wide && smap ? base_of(v, v->mmu.fetch_id[0], both | MODE_CPL0 | MODE_SMAP | TLB_KERNEL_AC) : JUMP_NONE;
}

static bool ways_current(const struct vcpu *v, uint32_t mode)
{
	const struct bt_vcpu *bv = BV(v);
	const uint32_t both = mode & ~(uint32_t)(MODE_SET | MODE_CPL0 | MODE_SMAP);

	return bv->ways.mode == (both | (v->cr4 & CR4_SMAP ? MODE_SMAP : 0)) && bv->ways.fetch_id[0] == v->mmu.fetch_id[0] &&
	       bv->ways.fetch_id[1] == v->mmu.fetch_id[1];
}

static void tables_void(struct vcpu *v)
{
	BV(v)->ways.mode = WAYS_NONE;
	for (uint32_t i = 1; i < JUMP_TABLES; i++)
		BV(v)->context[i].used = false;
	BV(v)->current = 0;
}

/* Was host code at this offset dropped since the tables were looked through last? An empty entry's 0 lies among the stubs, whose part's fate is no harm to it. */
static bool is_evicted(const struct vcpu *v, uint64_t host) { return bt_part_at(BV(v)->bt, (uint32_t)host)->born - BV(v)->generation - 1 < INT32_MAX; }

static void table_forget_evicted(struct vcpu *v, uint32_t table)
{
	const uint64_t cache = (uint64_t)(uintptr_t)BV(v)->bt->cache;
	const uint32_t entries = entries_of(table), zero = bt_jump_slot(0, entries);
	struct jump_entry *first = &v->jump[bt_jump_first(table)];

	for (uint32_t i = 0; i < entries; i++)
		if (first[i].host && is_evicted(v, first[i].host - cache))
			first[i] = (struct jump_entry){ (i ^ zero) < JUMP_WAYS ? other_than_zero(entries) : 0, 0 };
}

/* Parts of the code cache have been emptied: no table leads there any more. */
static void forget_evicted(struct vcpu *v)
{
	struct bt_vcpu *bv = BV(v);

	for (uint32_t i = 1; i < JUMP_TABLES; i++)
		if (bv->context[i].used)
			table_forget_evicted(v, i);
	for (uint32_t i = 0; i < JUMP_WIDE_ENTRIES; i++)
		if (v->jump_wide[i].context && is_evicted(v, v->jump_wide[i].host))
			v->jump_wide[i].context = 0;
	bv->generation = bv->bt->generation;
}

void bt_contexts_init(struct vcpu *v)
{
	tables_void(v);
	table_clear(v, 0);
	set_number(v, 0, NO_CONTEXT);
	BV(v)->fetch_epoch = v->mmu.fetch_epoch;
}

/* A context's number: 1 to NO_CONTEXT - 1. Once all are used nothing may have one. */
static uint32_t new_number(struct vcpu *v)
{
	struct bt_vcpu *bv = BV(v);

	if (UNLIKELY(++bv->last_number == NO_CONTEXT)) {
		tables_void(v);
		fill_bytes(v->jump_wide, 0, sizeof(v->jump_wide));
		bv->last_number = 1;
	}
	return bv->last_number;
}

/* Makes the jump table of (fetch id, mode) current, taking over the least recently used one of its size if it is new. */
static void context_select(struct vcpu *v, uint32_t fetch_id, uint32_t mode)
{
	struct bt_vcpu *bv = BV(v);
	bool small = bt_jump_small(mode);
	uint32_t first = small ? JUMP_LARGE_TABLES : 1, end = small ? JUMP_TABLES : JUMP_LARGE_TABLES, victim = first;

	/* A domain's system calls go to and fro between two, and each of them comes by here. */
	if (LIKELY(is_context(bv, bv->previous, fetch_id, mode))) {
		victim = bv->previous;
		goto found;
	}
	for (uint32_t i = first; i < end; i++) {
		if (is_context(bv, i, fetch_id, mode)) {
			victim = i;
			goto found;
		}
		if (!bv->context[i].used || (bv->context[victim].used && bv->context[i].stamp < bv->context[victim].stamp))
			victim = i;
	}
	set_number(v, victim, new_number(v));
	bv->context[victim].fetch_id = fetch_id;
	bv->context[victim].mode = mode;
	bv->context[victim].used = true;
	table_clear(v, victim);
	bv->bt->counters.contexts++;
	bv->ways.mode = WAYS_NONE;
found:
	bv->context[victim].stamp = ++bv->stamp;
	bv->previous = bv->current;
	bv->current = victim;
}

void bt_context_refresh(struct vcpu *v)
{
	struct bt_vcpu *bv = BV(v);
	uint32_t fetch_id, mode = bt_mode_of(v);

	if (UNLIKELY(bv->generation != bv->bt->generation))
		forget_evicted(v);
	if (UNLIKELY(bv->fetch_epoch != v->mmu.fetch_epoch)) {
		bv->fetch_epoch = v->mmu.fetch_epoch;
		tables_void(v);
	}
	fetch_id = v->mmu.fetch_id[vcpu_user(v)];
	if (UNLIKELY(!bv->current || bv->context[bv->current].fetch_id != fetch_id || bv->context[bv->current].mode != mode))
		context_select(v, fetch_id, mode);
	/* SYSCALL and SYSRET change it in passing. */
	v->bt_scratch[S_JUMP_WANT] = bt_jump_base(bv->current);
	if (UNLIKELY(!ways_current(v, mode)))
		ways_refresh(v, mode);
}

/* The entry that va hashes to in the current table; the others of its set are at its index ^ 1, ^ 2... */
static inline uint32_t entry_of(const struct vcpu *v, uint64_t va)
{
	return bt_jump_first(BV(v)->current) + bt_jump_slot(va, bt_jump_entries(BV(v)->context[BV(v)->current].mode));
}

uint8_t *bt_jump_find(const struct vcpu *v, uint64_t va)
{
	const uint32_t i = entry_of(v, va), number = number_of(v, BV(v)->current);
	const struct jump_wide *w = &v->jump_wide[bt_jump_wide_slot(va, number)];

	for (unsigned k = 0; k < JUMP_WAYS; k++)
		if (v->jump[i ^ k].key == va)
			return (uint8_t *)(uintptr_t)v->jump[i ^ k].host;
	return w->key == va && w->context == number ? BV(v)->bt->cache + w->host : 0;
}

/* Which of the set of entry i gives way to what va displaces there: an older entry of va, a free one, or each in turn. */
static unsigned way_out(struct vcpu *v, uint32_t i, uint64_t va)
{
	const uint32_t entries = bt_jump_entries(BV(v)->context[BV(v)->current].mode), slot = bt_jump_slot(va, entries);
	unsigned way = 1 + (unsigned)(BV(v)->bt->counters.jump_cache_fills % (JUMP_WAYS - 1));

	for (unsigned k = JUMP_WAYS; k-- > 0;) {
		if (v->jump[i ^ k].key == va)
			return k;
		if ((bt_jump_slot(v->jump[i ^ k].key, entries) ^ slot) & ~(JUMP_WAYS - 1))
			way = k;
	}
	return way;
}

void bt_jump_put(struct vcpu *v, uint64_t va, const struct block *b)
{
	const uint32_t i = entry_of(v, va);

	if (!tune_on(v->memory->tune, TUNE_JUMP_TABLE))
		return;
	if (v->jump[i].key != va && tune_on(v->memory->tune, TUNE_JUMP_VICTIM))
		v->jump[i ^ way_out(v, i, va)] = v->jump[i];
	v->jump[i].key = va;
	v->jump[i].host = (uint64_t)(uintptr_t)(BV(v)->bt->cache + b->jump_entry);
	if (tune_on(v->memory->tune, TUNE_JUMP_WIDE)) {
		const uint32_t number = number_of(v, BV(v)->current);

		v->jump_wide[bt_jump_wide_slot(va, number)] = (struct jump_wide){ va, number, b->jump_entry };
	}
	BV(v)->bt->counters.jump_cache_fills++;
}
