/*
 * run.c - the fuzzing loop: while the oracle runs one batch of cases, the engines run the one before.
 *
 * A difference is confirmed before it counts: the host must give the same answer again, and no instruction outside the
 * generator's classes may have been met on the way (a random jump can land in the middle of another). Then the case is made small,
 * printed and kept.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "insn_fuzz.h"

static const struct { unsigned bit; const char *name; } engine_names[] = { { RUN_EXEC, "exec" }, { RUN_BT, "bt" } };
#define GROUPS (ORACLE_BATCH / STATES_PER_CODE)

struct batch { struct plan plan[GROUPS]; unsigned count; };

struct run {
	const struct options *opt;
	struct progress *progress;
	struct oracle *oracle;
	struct guest *guest[2];	/* as engine_names; the executor's is always there */
	struct batch batch[2];
	struct outcome out, host, again;
	uint64_t next, done, faults, timeouts, strayed, unstable, failures, alike;
	uint64_t kind[256];
	unsigned kinds;
	uint64_t by_vector[32];
	struct { uint64_t runs, completed; bool must_fault; } seen[4096]; /* by mnemonic id */
};

static void run_engine(struct run *r, unsigned e, const struct icase *c, struct outcome *out)
{
	r->progress->c = *c;
	r->progress->engine = engine_names[e].name;
	r->progress->running = true;
	guest_run(r->guest[e], c, out);
	r->progress->running = false;
}

struct judge { struct run *r; unsigned e; bool any; int host_vector, guest_vector, guest_kind; char what[256]; };

static bool still_differs(const struct icase *c, void *arg)
{
	struct judge *j = arg;
	struct run *r = j->r;
	char unused[256];

	oracle_run(r->oracle, c, &r->host);
	if (r->host.kind != OUTCOME_DONE)
		return false;
	run_engine(r, j->e, c, &r->out);
	if (!compare_differs(c, &r->host, &r->out, engine_names[j->e].bit, &r->opt->compare, j->what, sizeof(j->what)))
		return false;
	/* Made small, it must stay the same kind of difference. */
	if (!j->any && (r->host.vector != j->host_vector || r->out.kind != j->guest_kind ||
			(r->out.kind == OUTCOME_DONE && r->out.vector != j->guest_vector)))
		return false;
	/* The host must agree with itself, masks included. */
	for (int i = 0; i < 2; i++) {
		oracle_run(r->oracle, c, &r->again);
		if (r->again.kind != OUTCOME_DONE || compare_differs(c, &r->host, &r->again, RUN_EXEC, &r->opt->compare, unused, sizeof(unused)))
			return false;
	}
	return guest_stays_inside(r->guest[0], c, form_allowed);
}

static void keep_case(struct run *r, const struct icase *c, unsigned e, const char *what)
{
	char path[512], note[400];

	if (!r->opt->keep)
		return;
	mkdir(r->opt->keep, 0777);
	snprintf(path, sizeof(path), "%s/seed-%lu-case-%lu-%s.case", r->opt->keep, (unsigned long)r->opt->seed, (unsigned long)c->number,
		 engine_names[e].name);
	snprintf(note, sizeof(note), "%s differed from the host: %s", engine_names[e].name, what);
	if (casefile_write(path, c, note))
		fprintf(stderr, "insn: cannot write %s\n", path);
	else
		printf("  kept as %s\n", path);
}

/* Differences of one kind are reported once: same engine, same vectors, same first instruction that matters, same thing that differs. */
static uint64_t kind_of(const struct icase *c, const struct judge *j)
{
	uint64_t kind = (uint64_t)j->e << 60 ^ (uint64_t)(j->host_vector & 255) << 48 ^ (uint64_t)(j->guest_vector & 255) << 40;
	uint8_t b[15 + CODE_MAX] = { 0 };
	struct insn in;

	memcpy(b, c->code, c->code_len);
	for (unsigned i = 0; i < c->insns; i++)
		if (!insn_decode(&in, b + c->insn_at[i], 15, INSN_MODE_64) && in.opcode != 0x90)
			return kind ^ (uint64_t)in.mnemonic << 8 ^ (uint8_t)j->what[0] ^ (uint8_t)j->what[1];
	return kind;
}

/* Confirms, shrinks, reports. */
static void difference(struct run *r, const struct icase *first, unsigned e, const char *what)
{
	struct judge j = { .r = r, .e = e, .any = true };
	struct icase c = *first;
	uint64_t kind;

	if (!still_differs(&c, &j)) {
		r->unstable++;
		if (getenv("INSN_UNSTABLE"))
			printf("case %lu: not confirmed: %s: %s\n", (unsigned long)first->number, engine_names[e].name, what);
		return;
	}
	j = (struct judge){ .r = r, .e = e, .host_vector = r->host.vector, .guest_vector = r->out.vector, .guest_kind = r->out.kind };
	shrink_case(&c, still_differs, &j);
	still_differs(&c, &j);
	kind = kind_of(&c, &j);
	for (unsigned i = 0; i < r->kinds; i++)
		if (r->kind[i] == kind) {
			r->alike++;
			return;
		}
	if (r->kinds < ARRAY_LEN(r->kind))
		r->kind[r->kinds++] = kind;
	r->failures++;
	printf("case %lu (seed %lu): %s differs from the host: %s\n", (unsigned long)first->number, (unsigned long)r->opt->seed,
	       engine_names[e].name, what);
	printf("  made small: %s\n", j.what);
	compare_report(&c, &r->host, &r->out, engine_names[e].name);
	keep_case(r, &c, e, j.what);
}

static void generate_batch(struct run *r, unsigned w, uint64_t last)
{
	struct oracle_slot *slot = oracle_batch(r->oracle, w);
	struct batch *b = &r->batch[w];

	b->count = 0;
	for (unsigned g = 0; g < GROUPS && r->next < last; g++) {
		uint64_t group = r->next / STATES_PER_CODE;
		struct rng rng;

		rng_seed(&rng, r->opt->seed, group);
		/* Every fourth piece of code begins with the next mnemonic in turn, so that all are met. */
		generate_code(&b->plan[g], &rng, group % 4 ? 0 : &mnemonics[group / 4 % mnemonic_count]);
		for (unsigned k = 0; k < STATES_PER_CODE; k++) {
			struct icase *c = &slot[b->count++].c;

			generate_state(c, &b->plan[g], &rng);
			c->number = r->next++;
			if (c->number == r->opt->only) {
				casefile_print_code(c);
				fflush(stdout);
			}
		}
	}
	oracle_submit(r->oracle, w, b->count);
}

static void note_coverage(struct run *r, const struct plan *p, const struct outcome *host)
{
	const struct insn *in = &p->first;

	if (in->cls == INSN_INVALID || in->cls == INSN_TOO_LONG || in->mnemonic >= ARRAY_LEN(r->seen))
		return;
	r->seen[in->mnemonic].runs++;
	if (host->vector == NO_VECTOR)
		r->seen[in->mnemonic].completed++;
	r->seen[in->mnemonic].must_fault = form_always_faults(in);
}

static void judge_batch(struct run *r, unsigned w)
{
	struct oracle_slot *slot = oracle_batch(r->oracle, w);
	char what[256];

	oracle_wait(r->oracle, w);
	for (unsigned i = 0; i < r->batch[w].count; i++) {
		const struct icase *c = &slot[i].c;
		const struct outcome *host = &slot[i].out;

		if (r->opt->only != ~0ull && c->number != r->opt->only)
			continue;
		if (host->kind != OUTCOME_DONE) {
			*(host->kind == OUTCOME_TIMEOUT ? &r->timeouts : &r->strayed) += 1;
			if (host->kind == OUTCOME_BROKEN)
				printf("case %lu: %s\n", (unsigned long)c->number, host->why);
			else if (getenv("INSN_UNSTABLE"))
				printf("case %lu: not compared (%d)\n", (unsigned long)c->number, host->kind);
			continue;
		}
		r->done++;
		if (host->vector != NO_VECTOR) {
			r->faults++;
			r->by_vector[host->vector & 31]++;
		}
		note_coverage(r, &r->batch[w].plan[i / STATES_PER_CODE], host);
		if (r->opt->only != ~0ull)
			compare_report(c, host, host, "host again");
		for (unsigned e = 0; e < ARRAY_LEN(engine_names); e++) {
			if (!(r->opt->engines & engine_names[e].bit))
				continue;
			run_engine(r, e, c, &r->out);
			if (!compare_differs(c, host, &r->out, engine_names[e].bit, &r->opt->compare, what, sizeof(what)))
				continue;
			/* Code that happened to rewrite itself may read flags that what it was translated from did not. */
			if (!c->rewrites && compare_rewrote(c, host)) {
				struct icase again = *c;

				again.rewrites = true;
				run_engine(r, e, &again, &r->out);
				if (!compare_differs(&again, host, &r->out, engine_names[e].bit, &r->opt->compare, what, sizeof(what)))
					continue;
				difference(r, &again, e, what);
			} else {
				difference(r, c, e, what);
			}
		}
	}
}

static int report_coverage(const struct run *r)
{
	int missing = 0;

	for (unsigned i = 0; i < mnemonic_count; i++) {
		const struct mnemonic *m = &mnemonics[i];
		bool lacks = !r->seen[m->id].runs || (!r->seen[m->id].completed && !r->seen[m->id].must_fault);

		missing += lacks;
		if (r->opt->coverage || (lacks && missing <= 20))
			printf("%-20s %8lu runs %8lu to the end%s\n", m->name, (unsigned long)r->seen[m->id].runs,
			       (unsigned long)r->seen[m->id].completed, lacks ? "  <- NOT COVERED" : "");
	}
	if (r->opt->coverage) {
		printf("%u mnemonics in %u forms; %d not covered; faults by vector:", mnemonic_count, form_count, missing);
		for (int v = 0; v < 32; v++)
			if (r->by_vector[v])
				printf(" %d:%lu", v, (unsigned long)r->by_vector[v]);
		putchar('\n');
	}
	return missing;
}

static struct run *run_open(const struct options *opt, struct progress *progress)
{
	struct run *r = calloc(1, sizeof(*r));

	ASSERT(r);
	r->opt = opt;
	r->progress = progress;
	r->oracle = oracle_start();
	for (unsigned e = 0; e < ARRAY_LEN(engine_names); e++)
		if (e == 0 || opt->engines & engine_names[e].bit)
			r->guest[e] = guest_start(engine_names[e].bit, opt->paging, &opt->tune);
	forms_init(guest_features(r->guest[0]));
	return r;
}

static void run_close(struct run *r)
{
	for (unsigned e = 0; e < ARRAY_LEN(engine_names); e++)
		if (r->guest[e])
			guest_stop(r->guest[e]);
	oracle_stop(r->oracle);
	free(r);
}

int run_fuzz(const struct options *opt, struct progress *progress)
{
	struct run *r = run_open(opt, progress);
	uint64_t start = clock_ns(), last = opt->cases;
	unsigned w = 0;
	int bad;

	if (opt->only != ~0ull) {
		r->next = opt->only / STATES_PER_CODE * STATES_PER_CODE;
		last = r->next + STATES_PER_CODE;
	}
	generate_batch(r, w, last);
	while (r->batch[w].count) {
		if (r->failures >= opt->failures || (opt->seconds && clock_ns() - start > opt->seconds * 1000000000ull))
			last = 0;
		generate_batch(r, !w, last);
		judge_batch(r, w);
		w = !w;
	}
	double seconds = (double)(clock_ns() - start) / 1e9;
	printf("insn: %lu cases (%lu faulted), %lu differences (and %lu like them), %lu unconfirmed, %lu endless, %lu strayed; %.0f cases/s\n",
	       (unsigned long)r->done, (unsigned long)r->faults, (unsigned long)r->failures, (unsigned long)r->alike,
	       (unsigned long)r->unstable, (unsigned long)r->timeouts, (unsigned long)r->strayed, (double)r->done / (seconds > 0 ? seconds : 1));
	bad = r->failures != 0;
	/* Twice round all mnemonics is what a run must have had before it can be blamed for missing one. */
	if (opt->coverage || r->done > 60ull * STATES_PER_CODE * mnemonic_count)
		bad |= report_coverage(r) != 0;
	run_close(r);
	return bad;
}

int run_case_file(const struct options *opt, struct progress *progress, const char *const *path, int paths)
{
	struct run *r = run_open(opt, progress);
	char text[400];
	int failed = 0, skipped = 0;

	for (int i = 0; i < paths; i++) {
		struct icase c;
		struct insn in;
		bool offered;

		if (casefile_read(path[i], &c, text, sizeof(text))) {
			fprintf(stderr, "insn: %s\n", text);
			failed++;
			continue;
		}
		offered = !vendor_lacks_state(&c);
		for (unsigned k = 0; k < c.insns; k++) {
			uint8_t b[15 + CODE_MAX] = { 0 };
			memcpy(b, c.code, c.code_len);
			if (!insn_decode(&in, b + c.insn_at[k], 15, INSN_MODE_64) && !form_allowed(&in, true))
				offered = false;
		}
		if (!offered) {
			printf("%s: skipped, this host has not what it is about\n", path[i]);
			skipped++;
			continue;
		}
		oracle_run(r->oracle, &c, &r->host);
		/* Twice: the second time finds translations. */
		for (unsigned e = 0; e < 2 * ARRAY_LEN(engine_names); e++) {
			unsigned k = e % ARRAY_LEN(engine_names);

			if (!(opt->engines & engine_names[k].bit))
				continue;
			run_engine(r, k, &c, &r->out);
			if (r->host.kind == OUTCOME_DONE &&
			    !compare_differs(&c, &r->host, &r->out, engine_names[k].bit, &opt->compare, text, sizeof(text)))
				continue;
			printf("%s: %s differs from the host: %s\n", path[i], engine_names[k].name,
			       r->host.kind == OUTCOME_DONE ? text : "the host does not finish it");
			compare_report(&c, &r->host, &r->out, engine_names[k].name);
			failed++;
			break;
		}
	}
	printf("insn: %d kept cases, %d failed, %d skipped\n", paths, failed, skipped);
	run_close(r);
	return failed != 0;
}
