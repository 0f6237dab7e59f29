/*
 * profile.c - counts what the translator does by guest address, and finds whose code a host address is (profile.h).
 */
#include "bt/profile_internal.h"

#include <errno.h>
#include <sys/mman.h>

#define WINDOW 8u		/* rows in which an address may be */

static const char *const event_names[PROFILE_EVENTS] = {
	[PROFILE_REFILL] = "refill", [PROFILE_WALK] = "walk", [PROFILE_STRING] = "string", [PROFILE_TRANSLATION] = "translation",
	[PROFILE_CODE_WRITE] = "code-write",
	[PROFILE_LEAVE + LEAVE_DISPATCH] = "dispatch", [PROFILE_LEAVE + LEAVE_JUMP] = "jump", [PROFILE_LEAVE + LEAVE_EXEC] = "exec",
	[PROFILE_LEAVE + LEAVE_SLOW] = "slow", [PROFILE_LEAVE + LEAVE_FAULT] = "fault", [PROFILE_LEAVE + LEAVE_POLL] = "poll",
};
_Static_assert(PROFILE_EVENTS <= PROFILE_COLUMNS, "a column for each event");

const char *profile_event_name(unsigned event) { return event < PROFILE_EVENTS ? event_names[event] : 0; }

int profile_table_init(struct profile_table *t, uint32_t rows)
{
	void *p = mmap(NULL, rows * sizeof(*t->row), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*t = (struct profile_table){ .row = p == MAP_FAILED ? NULL : p, .rows = rows };
	return t->row ? 0 : -ENOMEM;
}

void profile_table_free(struct profile_table *t)
{
	if (t->row)
		munmap(t->row, t->rows * sizeof(*t->row));
	t->row = NULL;
}

uint64_t profile_row_total(const struct profile_row *r)
{
	uint64_t total = 0;

	for (unsigned c = 0; c < PROFILE_COLUMNS; c++)
		total += r->count[c];
	return total;
}

/* The row of the window with the least in it, emptied. */
static struct profile_row *make_room(struct profile_table *t, uint32_t at)
{
	struct profile_row *least = NULL;
	uint64_t least_total = 0;

	for (unsigned i = 0; i < WINDOW; i++) {
		struct profile_row *r = &t->row[(at + i) & (t->rows - 1)];
		uint64_t total = profile_row_total(r);

		if (!least || total < least_total) {
			least = r;
			least_total = total;
		}
	}
	for (unsigned c = 0; c < PROFILE_COLUMNS; c++) {
		t->other[c] += least->count[c];
		least->count[c] = 0;
	}
	return least;
}

void profile_add(struct profile_table *t, uint64_t va, uint64_t space, unsigned column)
{
	uint32_t at = (uint32_t)((va ^ space * 0x9e3779b97f4a7c15ull) * 0xd6e8feb86659fd93ull >> 32);
	struct profile_row *r;

	for (unsigned i = 0; i < WINDOW; i++) {
		r = &t->row[(at + i) & (t->rows - 1)];
		if (r->va != va || r->space != space)
			continue;
		if (LIKELY(r->count[column] != ~0u))
			r->count[column]++;
		else
			t->other[column]++;
		return;
	}
	r = make_room(t, at);
	r->va = va;
	r->space = space;
	r->count[column] = 1;
}

uint64_t profile_space(const struct vcpu *v)
{
	const struct bt_vcpu_profile *p = v->bt ? v->bt->profile : NULL;

	if (!vcpu_user(v))
		return 0;
	return (v->cr3 & SPACE_TABLE) | (p ? (uint64_t)p->instance[space_slot(v->cr3)] << 1 : 0) | 1;
}

void bt_profile_attach(void *engine_state, struct bt_profile *p) { ((struct bt *)engine_state)->profile = p; }
void bt_profile_attach_vcpu(struct vcpu *v, struct bt_vcpu_profile *p) { v->bt->profile = p; }

const void *bt_profile_stubs(void *engine_state, uint32_t *size)
{
	const struct bt *bt = engine_state;

	*size = (uint32_t)(bt->hot_start - bt->cache);
	return bt->cache;
}

/* The instruction of a site; what there is else if the number is none. */
static uint64_t site_va(const struct vcpu *v, uint32_t site)
{
	struct bt *bt = v->bt->bt;

	if (site != NO_SITE && (site & BLOCK_SITE))
		return bt_block_va(v, &bt->block[site & ~BLOCK_SITE]);
	if (site >= MAX_SITES)
		return v->rip;
	return bt_block_va(v, bt_block_of_site(bt, site)) + bt->site[site].guest_off;
}

/* A miss that was served meanwhile: the MMU's counter says how. */
static void settle_miss(struct vcpu *v, struct bt_vcpu_profile *p)
{
	if (!p->miss)
		return;
	p->miss = false;
	profile_add(&p->events, p->cause, profile_space(v), v->mmu.counters.tlb_l2_misses != p->walks ? PROFILE_WALK : PROFILE_REFILL);
}

void bt_profile_count_slow(struct vcpu *v, uint32_t site, enum profile_event event)
{
	struct bt_vcpu_profile *p = v->bt->profile;

	settle_miss(v, p);
	p->cause = site_va(v, site);
	if (event == PROFILE_REFILL) {
		p->miss = true;
		p->walks = v->mmu.counters.tlb_l2_misses;
	} else {
		profile_add(&p->events, p->cause, profile_space(v), event);
	}
}

static void user_cold(void *arg)
{
	struct vcpu *v = arg;

	v->bt->profile->user(v->bt->profile->opaque, v);
}

void bt_profile_count_left(struct vcpu *v)
{
	struct bt_vcpu_profile *p = v->bt->profile;
	uint32_t reason = (uint32_t)v->bt_scratch[S_REASON], site = (uint32_t)v->bt_scratch[S_SITE];
	uint64_t va = v->rip;

	settle_miss(v, p);
	if (vcpu_user(v) && v->cr3 != p->last_cr3 && p->user) {
		p->last_cr3 = v->cr3;
		fpu_call_cold(v, user_cold, v);
	}
	p->cause = 0;
	p->insn.space = 0;
	if (reason == LEAVE_DISPATCH || reason == LEAVE_JUMP || reason == LEAVE_SLOW || reason == LEAVE_POLL) {
		va = site_va(v, site);
	} else if (reason == LEAVE_FAULT) {
		const struct block *b = bt_block_of_host(v->bt->bt, (uint32_t)v->bt_scratch[S_EA]);

		va = b ? bt_block_va(v, b) : va;
	}
	profile_add(&p->events, va, profile_space(v), reason < PROFILE_EVENTS - PROFILE_LEAVE ? PROFILE_LEAVE + reason : PROFILE_LEAVE);
}

void bt_profile_count_exec(struct vcpu *v, const struct insn *in)
{
	struct bt_vcpu_profile *p = v->bt->profile;

	p->insn.va = load_u64(in->bytes) & (in->len < 8 ? (1ull << 8 * in->len) - 1 : ~0ull);
	p->insn.space = (uint64_t)in->len << 56 | (uint64_t)in->mode << 60;
	for (unsigned i = 8; i < in->len; i++)
		p->insn.space |= (uint64_t)in->bytes[i] << 8 * (i - 8);
	profile_add(&p->insns, p->insn.va, p->insn.space, 0);
}

void bt_profile_count_code_write(struct vcpu *v)
{
	profile_add(&v->bt->profile->events, v->rip, profile_space(v), PROFILE_CODE_WRITE);
}

/* What is known of part n's cold code. */
static struct bt_cold *colds_of(const struct bt_profile *p, uint32_t n) { return p->cold + n * (p->cold_room / BT_COLD_PARTS); }

static void tell_part(const struct bt *bt, uint32_t n)
{
	struct bt_profile *p = bt->profile;

	for (; p->part[n].told < p->part[n].colds; p->part[n].told++) {
		const struct bt_cold *c = colds_of(p, n) + p->part[n].told;
		uint32_t end = p->part[n].told + 1 < p->part[n].colds ? c[1].start : (uint32_t)(bt->part[n].cold - bt->cache);
		const struct block *b = &bt->block[c->block];

		if (end > c->start)
			p->made(p->opaque, bt->cache + c->start, end - c->start, b->va, (b->mode & MODE_SET) != TLB_USER);
	}
}

static void tell_cold(const struct bt *bt)
{
	for (uint32_t n = 0; n < CODE_PARTS; n++)
		tell_part(bt, n);
}

struct made { const struct bt *bt; const struct block *b; };

static void made_cold(void *arg)
{
	const struct made *m = arg;
	const struct block *b = m->b;
	uint32_t start = b->entry < b->jump_entry ? b->entry : b->jump_entry;

	m->bt->profile->made(m->bt->profile->opaque, m->bt->cache + start, b->host_end - start, b->va, (b->mode & MODE_SET) != TLB_USER);
	tell_cold(m->bt);
}

void bt_profile_tell(void *engine_state)
{
	const struct bt *bt = engine_state;

	if (bt->profile && bt->profile->made)
		tell_cold(bt);
}

void bt_profile_count_made(struct vcpu *v, const struct block *b)
{
	struct bt *bt = v->bt->bt;
	struct made m = { bt, b };

	if (v->bt->profile)
		profile_add(&v->bt->profile->events, b->va, profile_space(v), PROFILE_TRANSLATION);
	if (bt->profile && bt->profile->made)
		fpu_call_cold(v, made_cold, &m);
}

void bt_profile_count_killed(struct bt *bt, const struct block *b)
{
	if (bt->profile->killed.row)
		profile_add(&bt->profile->killed, b->va, (b->mode & MODE_SET) == TLB_USER, 0);
}

void bt_profile_note_cold(struct bt *bt, const struct block *b, const uint8_t *start)
{
	struct bt_profile *p = bt->profile;

	const uint32_t n = (uint32_t)(b - bt->block) / PART_BLOCKS;

	if (p->part[n].colds < p->cold_room / BT_COLD_PARTS)
		colds_of(p, n)[p->part[n].colds++] = (struct bt_cold){ (uint32_t)(start - bt->cache), (uint32_t)(b - bt->block) };
}

static const struct block *block_of_cold(const struct bt *bt, uint32_t host)
{
	const struct bt_profile *p = bt->profile;
	const uint32_t n = host / PART_SIZE;
	const struct bt_cold *cold = p ? colds_of(p, n) : NULL;
	uint32_t lo = 0, hi = p ? p->part[n].colds : 0;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (cold[mid].start <= host)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? &bt->block[cold[lo - 1].block] : NULL;
}

void bt_profile_place(const struct vcpu *v, uint64_t rip, struct bt_place *out)
{
	struct bt *bt = v->bt->bt;
	const struct bt_vcpu_profile *p = v->bt->profile;
	uint64_t off = rip - (uint64_t)(uintptr_t)bt->cache, space = profile_space(v);
	const struct block *b = NULL;

	*out = (struct bt_place){ BT_PLACE_C, p && p->cause ? p->cause : v->rip, space };
	if (off >= CODE_CACHE_SIZE)
		return;
	if (rip < (uint64_t)(uintptr_t)bt->hot_start) {
		/* Where the code was called from: the TLB's stubs and the string stub note their site. */
		bool sited = rip >= (uint64_t)(uintptr_t)bt->slow[0] && rip < (uint64_t)(uintptr_t)bt->odd_stack;

		out->kind = BT_PLACE_STUB;
		out->va = sited ? site_va(v, (uint32_t)v->bt_scratch[S_SITE]) : v->rip;
		return;
	}
	if (rip >= (uint64_t)(uintptr_t)bt_part_at(bt, (uint32_t)off)->hot_end) {
		out->kind = BT_PLACE_COLD;
		b = block_of_cold(bt, (uint32_t)off);
	} else {
		out->kind = BT_PLACE_CODE;
		b = bt_block_of_host(bt, (uint32_t)off);
	}
	out->va = b ? bt_block_va(v, b) : v->rip;
}
