/*
 * options.h - the command line that the fuzzers of SVM share: --cases N, --seed S, --first N, --paging nested|shadow|auto, --tune NAME=on|off, and --trace where there is something to
 * trace.
 */
#ifndef FUZZ_OPTIONS_H
#define FUZZ_OPTIONS_H

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/tune.h"
#include "mmu/mmu.h"

struct fuzz_options { uint64_t cases, seed, first; enum paging_mode mode; struct tune tune; };

/* Into *o, which holds the defaults (of tune, too). trace: set by --trace; null: there is no such option. False: a wrong command line, which has been named. */
static inline bool fuzz_options(struct fuzz_options *o, bool *trace, int argc, char **argv)
{
	static const struct option options[] = { { "cases", 1, 0, 'c' }, { "seed", 1, 0, 's' }, { "first", 1, 0, 'f' }, { "paging", 1, 0, 'p' }, { "tune", 1, 0, 'u' }, { "trace", 0, 0, 't' }, { 0, 0, 0, 0 } };

	for (int c; (c = getopt_long(argc, argv, "", options, 0)) != -1;) {
		switch (c) {
		case 'c': o->cases = strtoull(optarg, 0, 0); break;
		case 's': o->seed = strtoull(optarg, 0, 0); break;
		case 'f': o->first = strtoull(optarg, 0, 0); break;
		case 'p': o->mode = !strcmp(optarg, "shadow") ? PAGING_SHADOW : !strcmp(optarg, "auto") ? PAGING_AUTO : PAGING_NESTED; break;
		case 'u':
			if (tune_parse(&o->tune, optarg)) {
				fprintf(stderr, "%s: no such switch: %s\n", argv[0], optarg);
				return false;
			}
			break;
		case 't':
			if (!trace) {
				fprintf(stderr, "%s: there is nothing to trace\n", argv[0]);
				return false;
			}
			*trace = true;
			break;
		default: return false;
		}
	}
	return true;
}

#endif
