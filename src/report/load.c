/* load.c - reads statistics and traces of runs (report.h). */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/report.h"

#define STATS_MAX (1u << 20)
#define LINE_MAX_LEN (1u << 20)

static bool refuse(char *error, size_t size, const char *path, const char *what)
{
	snprintf(error, size, "%s: %s", path, what);
	return false;
}

static void copy_text(char *to, const char *from) { snprintf(to, REPORT_TEXT, "%s", from); }

unsigned latency_bin(uint64_t ns)
{
	const double place = ns ? log2((double)ns) * LATENCY_PER_OCTAVE : 0;

	return place < LATENCY_BINS - 1 ? (unsigned)place : LATENCY_BINS - 1;
}

double latency_bin_end(unsigned bin) { return exp2((double)(bin + 1) / LATENCY_PER_OCTAVE); }

double latency_quantile(const struct report_latency *l, double share)
{
	double left = (double)l->count * share;

	for (unsigned b = 0; b < LATENCY_BINS; b++) {
		left -= l->bin[b];
		if (l->bin[b] && left <= 0)
			return fmin(latency_bin_end(b), (double)l->longest);
	}
	return (double)l->longest;
}

const struct report_counter *report_counter(const struct report_run *run, const char *group, const char *name)
{
	for (size_t i = 0; i < run->counters; i++)
		if (!strcmp(run->counter[i].name, name) && !strcmp(run->counter[i].group, group))
			return &run->counter[i];
	return 0;
}

const char *report_fact(const struct report_run *run, const char *name)
{
	for (size_t i = 0; i < run->facts; i++)
		if (!strcmp(run->fact[i].name, name))
			return run->fact[i].value;
	return "";
}

static void add_fact(struct report_run *run, const char *name, const char *value)
{
	if (report_fact(run, name)[0] || run->facts == ARRAY_LEN(run->fact))
		return;
	copy_text(run->fact[run->facts].name, name);
	copy_text(run->fact[run->facts++].value, value);
}

struct report_latency *report_latency(const struct report_run *run, const char *category, const char *name)
{
	uint32_t hash = 5381;

	if (!run->latency)
		return 0;
	for (const char *c = name; *c; c++)
		hash = hash * 33 + (unsigned char)*c;
	for (unsigned i = 0; i < REPORT_MAX_KINDS; i++) {
		struct report_latency *l = &run->latency[(hash + i) % REPORT_MAX_KINDS];

		if (!l->category[0] || (!strcmp(l->name, name) && !strcmp(l->category, category)))
			return l;
	}
	return 0;
}

/* The run that has this id, or a new one. */
static struct report_run *run_of(struct report *r, const char *id, const char *path)
{
	const char *base = strrchr(path, '/');

	for (size_t i = 0; i < r->runs; i++)
		if (!strcmp(r->run[i].id, id))
			return &r->run[i];
	if (r->runs == REPORT_MAX_RUNS)
		return 0;
	copy_text(r->run[r->runs].id, id);
	copy_text(r->run[r->runs].file, base ? base + 1 : path);
	return &r->run[r->runs++];
}

static struct report_run *begin_run(struct report *r, const json_t *id, const char *path, bool trace, char *error, size_t size)
{
	struct report_run *run = json_is_string(id) ? run_of(r, json_string_value(id), path) : 0;

	if (!json_is_string(id))
		refuse(error, size, path, "it does not say what run it is of");
	else if (!run)
		snprintf(error, size, "%s: a page shows at most %u runs", path, REPORT_MAX_RUNS);
	else if (trace ? run->has_trace : run->has_stats)
		run = 0, refuse(error, size, path, "another file of the same kind is of the same run");
	return run;
}

static bool add_group(struct report_run *run, const char *group, json_t *members)
{
	const char *name;
	json_t *value;

	json_object_foreach(members, name, value) {
		if (json_is_string(value))
			add_fact(run, name, json_string_value(value));
		if (!json_is_integer(value))
			continue;
		if (run->counters == REPORT_MAX_COUNTERS)
			return false;
		struct report_counter *c = &run->counter[run->counters++];
		copy_text(c->group, group);
		copy_text(c->name, name);
		c->value = (uint64_t)json_integer_value(value);
	}
	return true;
}

static bool add_stats(struct report *r, const char *path, FILE *f, struct report_run **run, char *error, size_t size)
{
	static const char not_ours[] = "neither statistics (--stats) nor a trace (--trace) of Trifold's";
	json_t *root = json_loadf(f, JSON_REJECT_DUPLICATES, 0);
	const char *group;
	json_t *members;
	bool ok = false;

	*run = 0;
	if (json_is_object(json_object_get(root, "run")))
		*run = begin_run(r, json_object_get(json_object_get(root, "run"), "id"), path, false, error, size);
	else
		refuse(error, size, path, not_ours);
	if (*run) {
		(*run)->has_stats = true;
		(*run)->counter = calloc(REPORT_MAX_COUNTERS, sizeof(*(*run)->counter));
		ok = (*run)->counter || refuse(error, size, path, strerror(ENOMEM));
		json_object_foreach(root, group, members)
			if (ok && !add_group(*run, group, members))
				ok = refuse(error, size, path, "too many counters");
	}
	json_decref(root);
	return ok;
}

/* Slices whose length says something of the machine: not the stays in address spaces, nor sleep. */
static void add_slice(struct report_run *run, json_t *event)
{
	const char *category = json_string_value(json_object_get(event, "cat")), *name = json_string_value(json_object_get(event, "name"));
	const json_t *length = json_object_get(event, "dur"), *args = json_object_get(event, "args");
	char short_category[REPORT_TEXT], short_name[REPORT_TEXT];

	if (!category || !*category || !name || !json_is_number(length) || !strcmp(category, "cr3") || !strcmp(name, "idle"))
		return;
	copy_text(short_category, category);
	copy_text(short_name, name);
	struct report_latency *l = report_latency(run, short_category, short_name);
	if (!l)
		return;
	if (!l->category[0]) {
		memcpy(l->category, short_category, sizeof(l->category));
		memcpy(l->name, short_name, sizeof(l->name));
		run->latencies++;
	}
	if (json_object_get(args, "others_ran") || json_object_get(args, "unfinished")) {
		l->interrupted++;
		return;
	}
	const double ns = json_number_value(length) * 1000;
	if (!(ns >= 0 && ns < 1e18))
		return;
	l->count++;
	l->total += (uint64_t)llround(ns);
	l->longest = MAX(l->longest, (uint64_t)llround(ns));
	l->bin[latency_bin((uint64_t)llround(ns))]++;
}

static json_t *parse(const char *text, size_t len)
{
	while (len && strchr(",\n\r ", text[len - 1]))
		len--;
	return json_loadb(text, len, JSON_DISABLE_EOF_CHECK, 0);
}

static void add_summary(struct report_run *run, const json_t *summary)
{
	run->trace_events = (uint64_t)json_integer_value(json_object_get(summary, "events"));
	run->trace_lost = (uint64_t)json_integer_value(json_object_get(summary, "lost"));
	run->trace_whole = !json_is_true(json_object_get(summary, "full"));
}

/* One line at a time, as it was written: a trace may be as large as memory, and may lack its end. */
static bool add_trace(struct report *r, const char *path, FILE *f, struct report_run **run, char *error, size_t size)
{
	static const char head[] = "\"otherData\":", tail[] = "\"summary\":";
	char *line = 0;
	size_t room = 0;
	ssize_t len;
	bool ok = true;

	*run = 0;
	while (ok && (len = getline(&line, &room, f)) > 0) {
		const bool is_head = !*run && !strncmp(line, head, strlen(head)), is_tail = *run && !strncmp(line, tail, strlen(tail));
		const char *text = is_head ? line + strlen(head) : is_tail ? line + strlen(tail) : line;
		json_t *value = (size_t)len < LINE_MAX_LEN && *text == '{' ? parse(text, (size_t)(line + len - text)) : 0;

		if (is_head) {
			*run = begin_run(r, json_object_get(value, "run"), path, true, error, size);
			ok = *run;
			if (ok) {
				(*run)->has_trace = true;
				(*run)->latency = calloc(REPORT_MAX_KINDS, sizeof(*(*run)->latency));
				ok = (*run)->latency || refuse(error, size, path, strerror(ENOMEM));
				for (const char *const *key = (const char *const []){ "paging", "engine", 0 }; ok && *key; key++)
					if (json_is_string(json_object_get(value, *key)))
						add_fact(*run, *key, json_string_value(json_object_get(value, *key)));
			}
		} else if (is_tail) {
			add_summary(*run, value);
		} else if (*run && json_object_get(value, "ph")) {
			add_slice(*run, value);
		}
		json_decref(value);
	}
	if (ok && ferror(f))
		ok = refuse(error, size, path, strerror(errno));
	if (ok && !*run)
		ok = refuse(error, size, path, "not a trace as trifold run --trace writes it (one event a line)");
	free(line);
	return ok;
}

bool report_add(struct report *r, const char *path, const char *label, char *error, size_t error_size)
{
	char start[4096];
	FILE *f = fopen(path, "re");
	struct report_run *run = 0;
	bool ok;

	if (!f)
		return refuse(error, error_size, path, strerror(errno));
	const size_t n = fread(start, 1, sizeof(start), f);
	const bool trace = memmem(start, n, "\"traceEvents\"", 13);
	if (ferror(f) || fseek(f, 0, SEEK_END))
		ok = refuse(error, error_size, path, strerror(errno));
	else if (!trace && ftell(f) > STATS_MAX)
		ok = refuse(error, error_size, path, "too large for statistics, and not a trace");
	else
		rewind(f), ok = (trace ? add_trace : add_stats)(r, path, f, &run, error, error_size);
	fclose(f);
	if (ok && label) {
		copy_text(run->label, label);
		run->labelled = true;
	}
	return ok;
}

void report_finish(struct report *r)
{
	for (size_t i = 0; i < r->runs; i++) {
		struct report_run *run = &r->run[i];
		const char *paging = report_fact(run, "paging");
		bool alone = *paging;

		for (size_t j = 0; j < r->runs; j++)
			alone &= i == j || strcmp(report_fact(&r->run[j], "paging"), paging);
		if (run->labelled)
			continue;
		if (alone)
			copy_text(run->label, paging);
		else
			snprintf(run->label, sizeof(run->label), "%.20s %.40s", paging, run->file);
	}
}

void report_free(struct report *r)
{
	for (size_t i = 0; i < r->runs; i++) {
		free(r->run[i].counter);
		free(r->run[i].latency);
	}
	*r = (struct report){ 0 };
}
