/*
 * auto.c - the mode auto: each address space is translated by nested walks or by shadow tables, whichever has cost less lately.
 *
 * The two may be mixed at will: what both make is the same (the TLB is common), shadow tables follow the guest's as long as they exist, whoever walks, and a walk
 * in two dimensions takes nothing from them. So the choice is about cost alone, and this file is the only place that makes it.
 *
 * Cost is counted in references to tables, the unit in which the modes differ. For a nested walk it is the references made, guest's and nested, which caches make few
 * where a program works in few regions and many where it jumps about. For shadow tables it is those of the shadow walk, those of the hidden faults' walks, and a charge for each
 * hidden fault and each trapped write. Every AUTO_WINDOW misses of a space its account is judged:
 *
 *   nested -> shadow   the average nested walk made more references than a shadow walk makes, by a quarter at least, and it is time for a try
 *   shadow -> nested   a window cost more than the last one under nested walks; not during the first windows of a try, in which the tables are filled
 *
 * Hysteresis: each try that fails doubles both how long the next must wait (AUTO_WAIT windows at first) and how long it may take to fill the tables, so that
 * what tries cost stays a small share of what misses cost. A space whose shadow tables prove themselves starts afresh.
 * When a space goes back, its shadow tables are freed: otherwise each write to the guest's would go on to be trapped.
 */
#include "mmu/shadow.h"

#define AUTO_WINDOW 1024
#define AUTO_WAIT 16		/* windows */
#define AUTO_TRIES 6
#define AUTO_PROVED 8
#define COST_HIDDEN 20		/* of making a shadow entry, beside its walk */
#define COST_WRITE 40		/* of a store that leaves generated code and is followed */

void auto_init(struct mmu *mmu) { mmu->priv->auto_modes.window = AUTO_WINDOW; }

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

static void judge(struct mmu *mmu, struct auto_space *s)
{
	const uint64_t shadow_walk = (uint64_t)s->misses * mmu->priv->controls.format->levels;

	if (!s->shadow) {
		s->nested_cost = s->cost;
		if (s->wait) {
			s->wait--;
		} else if (s->cost > shadow_walk + shadow_walk / 4) {
			mmu->counters.mode_switches_shadow++;
			s->shadow = true;
			s->proved = 0;
			s->grace = 1u << s->tries;
		}
	} else if (s->grace) {
		s->grace--;
	} else if (s->cost > s->nested_cost) {
		if (s->tries < AUTO_TRIES)
			s->tries++;
		s->wait = (uint32_t)AUTO_WAIT << s->tries;
		to_nested(mmu, s);
	} else if (s->proved < AUTO_PROVED && ++s->proved == AUTO_PROVED) {
		s->tries = 0;
	}
	s->cost = s->misses = 0;
}

static uint64_t references(const struct mmu_counters *c) { return c->walk_refs_guest + c->walk_refs_nested + c->walk_refs_shadow; }
static uint64_t hidden(const struct mmu_counters *c) { return c->hidden_not_present + c->hidden_dirty; }

enum translate_status auto_translate(struct mmu *mmu, uint64_t va, unsigned access, struct translation *out)
{
	struct auto_modes *a = &mmu->priv->auto_modes;
	const struct mmu_counters *c = &mmu->counters;
	enum translate_status status;
	uint64_t refs, faults, writes;
	struct auto_space *s;

	if (!mmu->priv->controls.format || mmu->priv->controls.format->levels < 4)
		return nested_translate(mmu, va, access, out);
	s = current(mmu);
	if (s->shadow)
		a->payer = (uint32_t)(s - a->of);
	/* Writes since the last miss, whoever's tables they went to. */
	writes = c->table_writes - a->writes_seen;
	a->of[a->payer].cost += writes * COST_WRITE;
	refs = references(c);
	faults = hidden(c);
	status = s->shadow ? shadow_translate(mmu, va, access, out) : nested_translate(mmu, va, access, out);
	a->writes_seen = c->table_writes;
	s->cost += references(c) - refs + (hidden(c) - faults) * COST_HIDDEN;
	if (UNLIKELY(++s->misses >= a->window))
		judge(mmu, s);
	return status;
}
