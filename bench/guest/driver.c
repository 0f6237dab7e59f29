/*
 * driver.c - runs the items of one set, natively and inside guests: bench-SET [--scale X] [--dir DIR] [--only NAME,NAME...].
 * What it prints is described in report.h.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include "item.h"
#include "report.h"

static const uint64_t seed = 88172645463325252u;
static uint64_t rng;
const char *work_dir = "/tmp";

uint64_t next_random(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	return rng ^= rng << 17;
}

static int is_wanted(const char *list, const char *name)
{
	size_t n = strlen(name);
	if (!list || !*list)
		return 1;
	for (const char *p = list; p; p = strchr(p, ',')) {
		p += *p == ',';
		if (!strncmp(p, name, n) && (!p[n] || p[n] == ','))
			return 1;
	}
	return 0;
}

/* A guest has one processor; natively, too, all of an item runs on one. */
static void stay_on_one_cpu(void)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	sched_setaffinity(0, sizeof set, &set);
}

int main(int argc, char **argv)
{
	double scale = 1;
	const char *only = NULL;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--scale"))
			scale = atof(argv[i + 1]);
		else if (!strcmp(argv[i], "--only"))
			only = argv[i + 1];
		else if (!strcmp(argv[i], "--dir"))
			work_dir = argv[i + 1];
	}
	stay_on_one_cpu();
	report_clock("begin");
	for (const struct item *item = items; item->name; item++) {
		unsigned turns = (unsigned)(item->turns * scale + 0.5);
		if (!is_wanted(only, item->name) || (item->can_run && !item->can_run()))
			continue;
		rng = seed;
		if (item->prepare)
			item->prepare();
		report_begin(item->name);
		report_end(item->name, item->run(turns ? turns : 1));
	}
	report_clock("end");
	return 0;
}
