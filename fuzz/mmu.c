/*
 * mmu.c - fuzzes the MMU: random edits of guest tables, accesses, invalidations, moves and sharing of frames, against a model of
 * what the manual allows (mmu/model.h). Every access goes the way that generated code goes: the inline probe of level 1, then
 * mmu_access; fetches go through a model of the translator's jump cache, which relies on fetch ids.
 *
 *   fuzz/mmu [--steps N] [--seed S] [--round N] [--mode nested|shadow|auto|all] [--placement linear|scatter|both]
 *
 * Each (mode, placement) pair runs N steps, in rounds: each begins afresh with the next seed, which also decides what there is (swapping, how many shadow pages). Pairs take
 * turns, so that what was done when a long run is stopped was done for all of them. The first difference is printed with its seed and step and ends the run with status 1.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmu/mmu_fuzz.h"
#include "mmu/mmu_internal.h"
#include "mmu/shadow.h"
#include "x86/regs.h"

#define MACHINE MIB(2)		/* of runs that swap */

static const char *const mode_names[] = { [PAGING_NESTED] = "nested", [PAGING_SHADOW] = "shadow", [PAGING_AUTO] = "auto" };

void die(struct fuzz *f, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "fuzz/mmu: seed %" PRIu64 ", %s, %s, step %" PRIu64 ": ", f->seed,
		mode_names[f->mode], f->placement == PLACEMENT_SCATTER ? "scatter" : "linear", f->step);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(1);
}

static void audit(struct fuzz *f)
{
	char msg[256];

	if (mmu_audit(&f->mmu, msg, sizeof(msg)))
		die(f, "audit: %s", msg);
}

/* How often things happen, in 10000; drawn anew every few thousand steps, so that runs are calm and stormy in turn. */
static void draw_weather(struct fuzz *f)
{
	static const unsigned rate[] = { 20, 100, 400, 1500, 5000 };

	f->edit_rate = rate[pick(f, 4)];
	f->invalidate_rate = rate[pick(f, 4)];
	f->cr3_rate = rate[pick(f, 3)];
	f->fetch_rate = rate[1 + pick(f, 4)];
}

static void one_step(struct fuzz *f)
{
	unsigned what = pick(f, 10000);

	if (f->step % 4096 == 0)
		draw_weather(f);
	if (f->step % 512 == 0)
		/* Tries are earned at once, or failed at once, so that modes change often. */
		for (unsigned i = 0; i < AUTO_SPACES; i++) {
			f->mmu.priv->auto_modes.of[i].debt = 0;
			f->mmu.priv->auto_modes.of[i].total = f->step % 1024 ? 1u << 30 : 0;
		}
	if (f->step % 8192 == 0 && chance(f, 800))
		tables_repair(f);
	if (what < 10)
		event_change_controls(f);
	else if (what < 100)
		event_track_code(f);
	else if (what < 102)
		event_move_page(f);
	else if (what < 114)
		audit(f);
	else if (what == 114)
		event_discard(f);
	else if (what < 117)
		event_share(f);
	else if (what == 117)
		event_use_log(f);
	else if (what < 128)
		event_gather(f);
	else if (what < 218)
		event_remap(f);
	else if ((what -= 218) < f->edit_rate)
		tables_edit(f);
	else if ((what -= f->edit_rate) < f->invalidate_rate)
		event_invalidate(f);
	else if ((what -= f->invalidate_rate) < f->cr3_rate)
		event_load_cr3(f);
	else if ((what -= f->cr3_rate) < f->fetch_rate)
		access_code(f);
	else
		access_data(f);
	if (f->memory.swap.asked || (f->memory.swap.on && what == 117))
		event_make_room(f);
	if (model_is_full(&f->model)) {
		mmu_flush_all(&f->mmu);
		model_flush_all(&f->model);
	}
}

static void short_of_frames(void *opaque) { (void)opaque; }

static void run(uint64_t seed, uint64_t steps, enum paging_mode mode, enum placement placement)
{
	struct fuzz *f = aligned_alloc(64, ALIGN_UP(sizeof(*f), 64));
	const struct mmu_counters *c;
	FILE *swap;

	if (!f)
		exit(2);
	memset(f, 0, sizeof(*f));
	f->seed = seed;
	f->random = seed * 0x9e3779b97f4a7c15ull + 12345;
	f->mode = mode;
	f->placement = placement;
	swap = seed % 2 ? NULL : tmpfile();
	if (memory_init_limited(&f->memory, RAM, swap ? MACHINE : ~0ull, GATHER_PAGES, placement, seed) || mmu_init(&f->mmu, &f->memory, mode) ||
	    (swap && memory_swap_on(&f->memory, fileno(swap))) || memory_share_on(&f->memory)) {
		fprintf(stderr, "fuzz/mmu: no memory\n");
		exit(2);
	}
	/* Level 1 is to change its size now and then. */
	f->mmu.priv->tlb1_size[1] = 4 * TLB_L1_SMALL;
	f->mmu.priv->tlb1_size[2] = 8 * TLB_L1_SMALL;
	f->mmu.priv->tlb1_rest_ns = 0;
	f->mmu.priv->tlb1_limit = 2;
	for (unsigned s = 0; s < TLB_WORLD; s++)
		f->mmu.priv->tlb1[s].limit = 2;
	/* Serials are to come around. */
	for (uint64_t m = 0; m < f->memory.pool.frames; m++)
		f->memory.pool.frame[m].serial = (uint16_t)-(1 + m % 4);
	f->memory.swap.short_of_frames = short_of_frames;
	f->model.memory = &f->memory;
	f->then = malloc(RAM);
	if (!f->then)
		exit(2);
	if (paging_has_shadows(mode) && seed % 3)
		shadow_set_limit(&f->mmu, 16 + pick(f, 32));
	/* So that modes change often. */
	f->mmu.priv->auto_modes.window = 64;
	f->mmu.priv->auto_modes.shadow_cost = 0;
	tables_fill(f);
	event_set_controls(f, CR0_PG | CR0_PE | CR0_WP, CR4_PAE | CR4_PGE, EFER_LMA | EFER_NXE);
	event_load_cr3(f);
	for (f->step = 0; f->step < steps; f->step++)
		one_step(f);
	audit(f);
	c = &f->mmu.counters;
	printf("%s %s, seed %" PRIu64 ": %" PRIu64 " steps, %" PRIu64 " mapped (%" PRIu64 " by the inline probe, of them %" PRIu64 " by a window, %" PRIu64 " by a second place, %" PRIu64 " by a refill), %" PRIu64 " faults, %" PRIu64
	       " mmio, %" PRIu64 " foretold by explain, %" PRIu64 " logged, %" PRIu64 " tracked, %" PRIu64 " fetches (%" PRIu64 " by fetch id), %" PRIu64 " edits; level 2: %" PRIu64
	       " hits, %" PRIu64 " misses; shadow pages %" PRIu64 " made, %" PRIu64 " reclaimed; hidden %" PRIu64 " missing, %" PRIu64
	       " dirty; table writes %" PRIu64 "; flushes of frames %" PRIu64 " (%" PRIu64 " full); %" PRIu64 " pages swapped in, %" PRIu64 " shared, %" PRIu64 " unshared; gathered %" PRIu64 " times (%" PRIu64 " pages); modes switched %" PRIu64 " and %" PRIu64 " times; level 1 grown %" PRIu64 " times, shrunk %" PRIu64 "\n",
	       mode_names[mode], placement == PLACEMENT_SCATTER ? "scatter" : "linear", seed, steps, f->mapped,
	       f->probes, f->windows, f->seconds, f->refills, f->faults, f->mmio, f->foretold, f->logged, f->tracked, f->fetches, f->jumps, f->edits, c->tlb_l2_hits, c->tlb_l2_misses,
	       c->shadow_made, c->shadow_reclaimed, c->hidden_not_present, c->hidden_dirty, c->table_writes, c->flush_frames, c->flush_p2m, f->memory.counters.swapped_in, f->memory.counters.pages_merged, f->memory.counters.pages_unshared, f->gathers, f->memory.counters.pages_gathered, c->mode_switches_shadow, c->mode_switches_nested, c->tlb_l1_grown, c->tlb_l1_shrunk);
	mmu_destroy(&f->mmu);
	memory_destroy(&f->memory);
	free(f->then);
	if (swap)
		fclose(swap);
	free(f);
}

/* What to run, by its names; 0: all. */
struct choice { const char *mode, *placement; };

/* One round of all pairs. How many steps that were. */
static uint64_t run_round(uint64_t seed, uint64_t steps, const struct choice *c)
{
	static const enum paging_mode modes[] = { PAGING_NESTED, PAGING_SHADOW, PAGING_AUTO };
	uint64_t done = 0;

	for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
		for (unsigned p = 0; p < 2; p++) {
			if ((c->mode && strcmp(c->mode, mode_names[modes[m]])) || (c->placement && strcmp(c->placement, p ? "scatter" : "linear")))
				continue;
			run(seed, steps, modes[m], p ? PLACEMENT_SCATTER : PLACEMENT_LINEAR);
			fflush(stdout);
			done += steps;
		}
	}
	return done;
}

static int usage(void)
{
	fprintf(stderr, "usage: mmu [--steps N] [--seed S] [--round N] [--mode nested|shadow|auto|all] [--placement linear|scatter|both]\n");
	return 2;
}

int main(int argc, char **argv)
{
	uint64_t steps = 200000, seed = 1, round = 500000, done = 0;
	struct choice c = { 0 };

	for (int i = 1; i < argc; i += 2) {
		if (i + 1 == argc)
			return usage();
		if (!strcmp(argv[i], "--steps"))
			steps = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--round"))
			round = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--mode"))
			c.mode = strcmp(argv[i + 1], "all") ? argv[i + 1] : NULL;
		else if (!strcmp(argv[i], "--placement"))
			c.placement = strcmp(argv[i + 1], "both") ? argv[i + 1] : NULL;
		else
			return usage();
	}
	if (!round)
		return usage();
	for (uint64_t left = steps, n; left; left -= n) {
		n = left < round ? left : round;
		done += run_round(seed++, n, &c);
	}
	if (!done)
		return usage();
	printf("fuzz/mmu: %" PRIu64 " steps, none different\n", done);
	return 0;
}
