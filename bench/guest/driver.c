/*
 * driver.c - runs the items of one set, natively and inside guests: bench-SET [--scale X] [--only NAME,NAME...] [--dir DIR], or with
 * --ask those that lines of standard input ask for. --list names them. What it prints is described in report.h.
 */
#include <stdio.h>
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
	if (!*list)
		return 1;
	for (const char *p = list; p; p = strchr(p, ',')) {
		p += *p == ',';
		if (!strncmp(p, name, n) && (!p[n] || p[n] == ','))
			return 1;
	}
	return 0;
}

static void run_items(const char *wanted, double scale)
{
	int found = 0;
	for (const struct item *item = items; item->name; item++) {
		unsigned turns = (unsigned)(item->turns * scale + 0.5);
		if (!is_wanted(wanted, item->name) || (item->can_run && !item->can_run()))
			continue;
		found = 1;
		stay_on_one_cpu();
		rng = seed;
		if (item->prepare)
			item->prepare();
		report_begin(item->name);
		report_end(item->name, item->run(turns ? turns : 1));
		if (item->release)
			item->release();
	}
	if (!found)
		report_skip(wanted);
}

/* One line names an item and a scale; the next is read when it is done. */
static void answer_lines(void)
{
	char line[100], name[64];
	double scale;
	while (fgets(line, sizeof line, stdin))
		if (sscanf(line, "%63s %lf", name, &scale) == 2)
			run_items(name, scale);
		else if (sscanf(line, "%63s", name) == 1 && !strcmp(name, "end"))
			break;
}

static int list_items(void)
{
	for (const struct item *item = items; item->name; item++)
		puts(item->name);
	return 0;
}

int main(int argc, char **argv)
{
	double scale = 1;
	const char *only = "";
	int asked = 0;
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		if (!strcmp(argv[i], "--ask"))
			asked = 1;
		else if (!strcmp(argv[i], "--list"))
			return list_items();
		else if (!strcmp(argv[i], "--scale"))
			scale = atof(value), i++;
		else if (!strcmp(argv[i], "--only"))
			only = value, i++;
		else if (!strcmp(argv[i], "--dir"))
			work_dir = value, i++;
		else
			return 2;
	}
	report_clock("begin");
	if (asked)
		answer_lines();
	else
		run_items(only, scale);
	report_clock("end");
	return 0;
}
