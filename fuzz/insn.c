/*
 * insn.c - instructions of the translator and the executor against the host CPU (fuzz/insn/insn_fuzz.h says how).
 *
 *   insn [--cases N] [--seed S] [--seconds T] [--engine exec|bt|both|none] [--paging nested|shadow]
 *        [--tune NAME=on|off] [--coverage] [--failures N] [--keep DIR] [--only NUMBER]
 *   insn --case FILE|DIR...  reruns kept cases (DIR: all of its *.case, by name)
 *
 * Status 0: no difference (and, in a run long enough or with --coverage, every supported mnemonic was run).
 * The work is done in a child, so that a crash of an engine is reported with the case that caused it.
 */
#include <getopt.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "insn/insn_fuzz.h"

static NORETURN void usage(void)
{
	fprintf(stderr, "usage: insn [--cases N] [--seed S] [--seconds T] [--engine exec|bt|both|none] [--paging nested|shadow]\n"
			"            [--tune NAME=on|off] [--coverage] [--failures N] [--keep DIR] [--only NUMBER]\n"
			"       insn --case FILE|DIR...\n");
	exit(2);
}

/* Replaces directories by the cases in them. */
static const char **expand(const char **arg, int *count)
{
	const char **out = 0;
	int n = 0;

	for (int i = 0; i < *count; i++) {
		char pattern[512];
		glob_t g = { 0 };

		snprintf(pattern, sizeof(pattern), "%s/*.case", arg[i]);
		if (glob(pattern, 0, 0, &g))
			g.gl_pathc = 0;
		out = realloc(out, ((size_t)n + g.gl_pathc + 1) * sizeof(*out));
		ASSERT(out);
		if (!g.gl_pathc)
			out[n++] = arg[i];
		for (size_t k = 0; k < g.gl_pathc; k++)
			out[n++] = strdup(g.gl_pathv[k]);
		globfree(&g);
	}
	free(arg);
	*count = n;
	return out;
}

static int supervise(const struct options *opt, const char *const *files, int count)
{
	struct progress *p = mmap(0, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char note[200];
	int status;
	pid_t pid;

	if (p == MAP_FAILED || (fflush(0), pid = fork()) < 0) {
		perror("insn");
		return 1;
	}
	if (!pid) {
		status = count ? run_case_file(opt, p, files, count) : run_fuzz(opt, p);
		fflush(0);
		exit(status);
	}
	if (waitpid(pid, &status, 0) < 0)
		return 1;
	if (WIFEXITED(status) && !p->running)
		return WEXITSTATUS(status);
	printf("insn: died (%s %d) while %s ran case %lu of seed %lu\n", WIFSIGNALED(status) ? "signal" : "status",
	       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), p->running ? p->engine : "nobody",
	       (unsigned long)p->c.number, (unsigned long)opt->seed);
	if (p->running) {
		casefile_print_code(&p->c);
		snprintf(note, sizeof(note), "%s crashed on it", p->engine);
		if (!casefile_write("insn-crash.case", &p->c, note))
			printf("  kept as insn-crash.case\n");
	}
	return 1;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "cases", 1, 0, 'n' }, { "seed", 1, 0, 's' }, { "seconds", 1, 0, 't' }, { "engine", 1, 0, 'e' }, { "paging", 1, 0, 'p' },
		{ "tune", 1, 0, 'f' }, { "coverage", 0, 0, 'c' }, { "failures", 1, 0, 'm' }, { "keep", 1, 0, 'k' },
		{ "only", 1, 0, 'o' }, { "case", 1, 0, 'r' }, { 0 },
	};
	struct options opt = { .cases = ~0ull / 2, .seed = 1, .only = ~0ull, .engines = RUN_EXEC | RUN_BT, .failures = 10 };
	static const char **files; /* kept until the end */
	int count = 0, o;

	tune_defaults(&opt.tune);
	files = calloc((size_t)argc, sizeof(*files));
	while ((o = getopt_long(argc, argv, "", longs, 0)) != -1)
		switch (o) {
		case 'n': opt.cases = strtoull(optarg, 0, 0); break;
		case 's': opt.seed = strtoull(optarg, 0, 0); break;
		case 't': opt.seconds = (unsigned)strtoul(optarg, 0, 0); break;
		case 'e': opt.engines = !strcmp(optarg, "exec") ? RUN_EXEC : !strcmp(optarg, "bt") ? RUN_BT :
			!strcmp(optarg, "none") ? 0 : RUN_EXEC | RUN_BT; break;
		case 'p': opt.paging = !strcmp(optarg, "shadow") ? PAGING_SHADOW : PAGING_NESTED; break;
		case 'f':
			if (tune_parse(&opt.tune, optarg))
				usage();
			opt.compare.precise_flags = opt.tune.on[TUNE_PRECISE_FLAGS];
			break;
		case 'c': opt.coverage = true; break;
		case 'm': opt.failures = (unsigned)strtoul(optarg, 0, 0); break;
		case 'k': opt.keep = optarg; break;
		case 'o': opt.only = strtoull(optarg, 0, 0); break;
		case 'r': files[count++] = optarg; break;
		default: usage();
		}
	if (optind < argc && !count)
		usage();
	while (optind < argc)
		files[count++] = argv[optind++];
	if (!count && opt.only == ~0ull && opt.cases == ~0ull / 2 && !opt.seconds)
		opt.cases = 1000000;
	if (count)
		files = expand(files, &count);
	o = supervise(&opt, files, count);
	return o;
}
