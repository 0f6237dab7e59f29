/*
 * auto.c - the mode auto: each address space is translated by nested walks or by shadow tables, whichever has cost less lately.
 *
 * The two may be mixed at will: what both make is the same (the TLB is common), shadow tables follow the guest's as long as they exist, whoever walks, and a walk
 * in two dimensions takes nothing from them. So the choice is about cost alone, and this file is the only place that makes it.
 *
 * Cost is counted in references to tables, the unit in which the modes differ. For a nested walk it is the references made, guest's and nested, which caches make few
 * where a program works in few regions and many where it jumps about. A reference of a shadow walk takes as long as one of those (docs/mmu.md, Auto); then there are
 * the walks of hidden faults, and a charge for each hidden fault, each shadow page made and each trapped write.
 *
 * Windows of AUTO_WINDOW misses are judged, under shadow tables eighths of that. Regret is bounded: a space may lose to tries of shadow tables no more than a share
 * (1 / AUTO_SHARE) of all that its misses have cost.
 *
 *   nested -> shadow   nested walks cost a quarter more than shadow walks would have, and half of the share is free
 *   shadow -> nested   the share is used up, or the last AUTO_PATIENCE windows' worth of it
 *
 * So each failed try must be earned by twice as many misses as the one before (hysteresis), and may take twice as long to fill the tables; gains repay what tries have cost.
 * When a space goes back, its shadow tables are freed: otherwise each write to the guest's would go on to be trapped.
 */
#include "mmu/shadow.h"

#define AUTO_WINDOW 1024
#define AUTO_PART 8		/* of a window, that is judged under shadow tables */
#define AUTO_SHARE 24
#define AUTO_PATIENCE 128	/* windows */
#define COST_SHADOW 1		/* of a reference to shadow tables */
#define COST_HIDDEN 6		/* of putting in a shadow entry, beside its walk */
#define COST_MADE 60		/* of making a shadow page: emptied, and looked for in level 1 of the TLB, where no write to its table may stay */
#define COST_WRITE 40		/* of a store that leaves generated code and is followed */

void auto_init(struct mmu *mmu)
{
	mmu->priv->auto_modes.window = AUTO_WINDOW;
	mmu->priv->auto_modes.shadow_cost = COST_SHADOW;
}

static uint64_t root_of(const struct mmu *mmu, uint64_t cr3) { return (cr3 & mmu->priv->controls.format->root_mask) | 1; }
static unsigned slot_of(uint64_t root) { return (unsigned)((root >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull >> 56) % AUTO_SPACES; }

bool auto_is_shadowed(const struct mmu *mmu, uint64_t cr3)
{
	uint64_t root = root_of(mmu, cr3);
	const struct auto_space *s = &mmu->priv->auto_modes.of[slot_of(root)];

	return s->root == root && s->shadow;
}

static void to_nested(struct mmu *mmu, struct auto_space *s)
{
	mmu->counters.mode_switches_nested++;
	s->shadow = false;
	shadow_renew(mmu);
	shadow_drop_tree(mmu, s->root);
	mmu->priv->shadow_root_link = 0;
}

static struct auto_space *current(struct mmu *mmu)
{
	uint64_t root = root_of(mmu, mmu->cr3);
	struct auto_space *s = &mmu->priv->auto_modes.of[slot_of(root)];

	if (LIKELY(s->root == root))
		return s;
	if (s->shadow)
		to_nested(mmu, s);
	fill_bytes(s, 0, sizeof(*s));
	s->root = root;
	return s;
}

static uint64_t lesser(uint64_t a, uint64_t b) { return a < b ? a : b; }

static void judge(struct mmu *mmu, struct auto_space *s)
{
	const uint64_t shadow_walks = (uint64_t)s->misses * mmu->priv->controls.format->levels * mmu->priv->auto_modes.shadow_cost;

	s->total += s->cost;
	if (!s->shadow) {
		s->nested_cost = s->cost;
		/* A quarter of a window, since even the shortest try costs about as much as half a window. */
		if (s->cost > shadow_walks + shadow_walks / 4 && (int64_t)(s->total / AUTO_SHARE / 2) > s->debt + (int64_t)(s->cost / 4)) {
			mmu->counters.mode_switches_shadow++;
			s->shadow = true;
		}
	} else {
		const int64_t allowed = (int64_t)lesser(s->total / AUTO_SHARE, s->nested_cost * AUTO_PATIENCE);

		s->debt += (int64_t)s->cost - (int64_t)(s->nested_cost / AUTO_PART);
		if (s->debt < -allowed)
			s->debt = -allowed;
		if (s->debt > allowed)
			to_nested(mmu, s);
	}
	s->cost = s->misses = 0;
}

/* What misses have cost so far, whoever's; nested walks count nothing but references of two kinds. */
static uint64_t cost_of_nested(const struct mmu_counters *c) { return c->walk_refs_guest + c->walk_refs_nested; }
static uint64_t cost_of_misses(const struct mmu *mmu)
{
	const struct mmu_counters *c = &mmu->counters;

	return cost_of_nested(c) + c->walk_refs_shadow * mmu->priv->auto_modes.shadow_cost +
	       (c->hidden_not_present + c->hidden_dirty) * COST_HIDDEN + c->shadow_made * COST_MADE;
}

enum translate_status auto_translate(struct mmu *mmu, uint64_t va, unsigned access, struct translation *out)
{
	struct auto_modes *a = &mmu->priv->auto_modes;
	const struct mmu_counters *c = &mmu->counters;
	enum translate_status status;
	uint64_t before;
	struct auto_space *s;

	if (!mmu->priv->controls.format || mmu->priv->controls.format->levels < 4)
		return nested_translate(mmu, va, access, out);
	s = current(mmu);
	if (UNLIKELY(s->shadow))
		a->payer = (uint32_t)(s - a->of);
	/* Writes since the last miss, whoever's tables they went to. */
	if (UNLIKELY(c->table_writes != a->writes_seen))
		a->of[a->payer].cost += (c->table_writes - a->writes_seen) * COST_WRITE;
	if (LIKELY(!s->shadow)) { /* all of them start so; a miss takes some 150 ns, to which the whole sum would add 5 */
		before = cost_of_nested(c);
		status = nested_translate(mmu, va, access, out);
		s->cost += cost_of_nested(c) - before;
	} else {
		before = cost_of_misses(mmu);
		status = shadow_translate(mmu, va, access, out);
		s->cost += cost_of_misses(mmu) - before;
	}
	a->writes_seen = c->table_writes;
	if (UNLIKELY(++s->misses >= (s->shadow ? a->window / AUTO_PART : a->window)))
		judge(mmu, s);
	return status;
}
