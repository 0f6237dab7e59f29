/*
 * profile_report.c - writes a profile: ranked tables as text, or the same as JSON (docs/profile.md).
 */
#include "vm/profile_report.h"

#include <errno.h>
#include <string.h>

#include "vm/vm_internal.h"

#define JSON_ROWS 2000u
#define BAR "----------------------------------------------------------------------------------------------------"

static double percent(uint64_t part, uint64_t whole) { return whole ? 100.0 * (double)part / (double)whole : 0; }
static double seconds(uint64_t ns) { return (double)ns * 1e-9; }

/* Counters that belong beside the tables; taken from the run's statistics by name. */
static const struct { const char *group, *name; } report_counters[] = {
	{ "mmu", "flush_cr3" }, { "mmu", "cr3_noflush" }, { "mmu", "flush_cr4" }, { "mmu", "flush_invlpg" }, { "mmu", "flush_invpcid" },
	{ "mmu", "flush_frames" }, { "mmu", "flush_p2m" }, { "mmu", "flush_write_protect" }, { "mmu", "tlb_l1_misses" }, { "mmu", "walks" },
	{ "bt", "blocks_translated" }, { "bt", "blocks_invalidated_write" }, { "bt", "blocks_invalidated_flush" },
	{ "bt", "cache_flushes" }, { "bt", "code_writes" }, { "bt", "contexts" },
	{ "cpu", "interrupts_injected" }, { "cpu", "exceptions_injected" }, { "cpu", "syscalls" }, { "cpu", "cr3_writes" },
};

static bool report_counter(const struct vm *vm, size_t n, uint64_t *value)
{
	for (size_t g = 0; g < vm->stats.groups; g++) {
		const struct stat_group *group = &vm->stats.group[g];
		if (strcmp(group->name, report_counters[n].group))
			continue;
		for (size_t i = 0; i < group->rows; i++)
			if (!strcmp(group->row[i].name, report_counters[n].name)) {
				*value = *(const uint64_t *)((const char *)group->instance + group->row[i].offset);
				return true;
			}
	}
	return false;
}

static void text_head(FILE *f, const struct vm *vm, uint64_t samples)
{
	fprintf(f, "Trifold profile: %llu samples, one every %u us of the %.3f s that the vcpu ran; idle %.3f s, %.3f s in all\n",
		(unsigned long long)samples, (unsigned)(vm->config.profile_ns / 1000), seconds(vm->host.vcpu_cpu_ns), seconds(vm->host.idle_ns),
		seconds(vm->host.wall_ns));
	fprintf(f, "%zu symbols; %u programs seen\n\nCounters\n", profile_symbol_count(vm->profile), vm->profile->programs);
	for (size_t i = 0; i < ARRAY_LEN(report_counters); i++) {
		uint64_t value;
		if (report_counter(vm, i, &value))
			fprintf(f, "  %-4s %-26s %12llu\n", report_counters[i].group, report_counters[i].name, (unsigned long long)value);
	}
}

/* Samples as percentages of all, events as counts. */
static bool view_is_time(const struct profile_view *view)
{
	return view->column_name && !strcmp(view->column_name(0), profile_sample_names[0]);
}

static void text_cell(FILE *f, const struct profile_ranking *r, uint64_t value)
{
	if (!value)
		fprintf(f, " %11s", ".");
	else if (view_is_time(r->view))
		fprintf(f, " %10.2f%%", percent(value, r->all.total));
	else
		fprintf(f, " %11llu", (unsigned long long)value);
}

static void text_row(FILE *f, const struct profile_ranking *r, const struct profile_group *g)
{
	fprintf(f, "%7.2f%%", percent(g->total, r->all.total));
	if (!view_is_time(r->view))
		fprintf(f, " %11llu", (unsigned long long)g->total);
	for (unsigned c = 0; r->view->column_name && c < r->view->columns; c++)
		text_cell(f, r, g->count[c]);
	if (r->view->grain == GRAIN_ROW || r->view->grain == GRAIN_SYMBOL)
		fprintf(f, "  %-16s", g->where);
	fprintf(f, "  %s\n", g->name);
}

/* What the first `shown` groups leave of the whole. */
static struct profile_group rest_of(const struct profile_ranking *r, size_t shown)
{
	struct profile_group rest = r->all;

	snprintf(rest.name, sizeof(rest.name), "(other)");
	for (size_t i = 0; i < shown && i < r->groups; i++) {
		rest.total -= r->group[i].total;
		for (unsigned c = 0; c < r->view->columns; c++)
			rest.count[c] -= r->group[i].count[c];
	}
	return rest;
}

static void text_view(FILE *f, const struct profile_ranking *r)
{
	const struct profile_group rest = rest_of(r, r->view->text_rows);
	struct profile_group all = r->all;

	fprintf(f, "\n%s\n%.*s\n", r->view->title, (int)strlen(r->view->title), BAR);
	if (!r->all.total) {
		fprintf(f, "(none)\n");
		return;
	}
	fprintf(f, "%8s", "total");
	if (!view_is_time(r->view))
		fprintf(f, " %11s", "count");
	for (unsigned c = 0; r->view->column_name && c < r->view->columns; c++)
		fprintf(f, " %11s", r->view->column_name(r->view->first + c));
	if (r->view->grain == GRAIN_ROW || r->view->grain == GRAIN_SYMBOL)
		fprintf(f, "  %-16s", "who");
	fprintf(f, "  name\n");
	for (size_t i = 0; i < r->groups && i < r->view->text_rows; i++)
		text_row(f, r, &r->group[i]);
	if (rest.total)
		text_row(f, r, &rest);
	snprintf(all.name, sizeof(all.name), "(all)");
	text_row(f, r, &all);
}

static void json_string(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fputc('\\', f);
		fputc(*s >= ' ' && *s < 127 ? *s : '?', f);
	}
	fputc('"', f);
}

static void json_counts(FILE *f, const struct profile_view *view, const struct profile_group *g)
{
	fprintf(f, "\"total\": %llu", (unsigned long long)g->total);
	for (unsigned c = 0; view->column_name && c < view->columns; c++)
		fprintf(f, ", \"%s\": %llu", view->column_name(view->first + c), (unsigned long long)g->count[c]);
}

static void json_view(FILE *f, const struct profile_ranking *r)
{
	const struct profile_group rest = rest_of(r, JSON_ROWS);

	fprintf(f, ",\n  \"%s\": {\n    \"title\": ", r->view->id);
	json_string(f, r->view->title);
	fprintf(f, ",\n    \"all\": { ");
	json_counts(f, r->view, &r->all);
	fprintf(f, " },\n    \"other\": { ");
	json_counts(f, r->view, &rest);
	fprintf(f, " },\n    \"rows\": [");
	for (size_t i = 0; i < r->groups && i < JSON_ROWS; i++) {
		const struct profile_group *g = &r->group[i];
		fprintf(f, "%s\n      { \"name\": ", i ? "," : "");
		json_string(f, g->name);
		if (g->where[0]) {
			fprintf(f, ", \"who\": ");
			json_string(f, g->where);
		}
		fprintf(f, ", \"address\": \"0x%llx\", ", (unsigned long long)g->address);
		json_counts(f, r->view, g);
		fprintf(f, " }");
	}
	fprintf(f, "\n    ]\n  }");
}

static void json_head(FILE *f, const struct vm *vm, uint64_t samples)
{
	const char *comma = "";

	fprintf(f, "{\n  \"profile\": { \"samples\": %llu, \"interval_ns\": %u, \"vcpu_cpu_ns\": %llu, \"idle_ns\": %llu, \"wall_ns\": %llu, "
		"\"symbols\": %zu, \"programs\": %u },\n  \"counters\": {",
		(unsigned long long)samples, (unsigned)vm->config.profile_ns, (unsigned long long)vm->host.vcpu_cpu_ns, (unsigned long long)vm->host.idle_ns,
		(unsigned long long)vm->host.wall_ns, profile_symbol_count(vm->profile), vm->profile->programs);
	for (size_t i = 0; i < ARRAY_LEN(report_counters); i++) {
		uint64_t value;
		if (!report_counter(vm, i, &value))
			continue;
		fprintf(f, "%s\n    \"%s.%s\": %llu", comma, report_counters[i].group, report_counters[i].name, (unsigned long long)value);
		comma = ",";
	}
	fprintf(f, "\n  }");
}

static uint64_t sample_count(const struct profile_table *t)
{
	uint64_t n = 0;

	for (unsigned c = 0; c < PROFILE_COLUMNS; c++)
		n += t->other[c];
	for (uint32_t i = 0; i < t->rows; i++)
		n += profile_row_total(&t->row[i]);
	return n;
}

int vm_write_profile(struct vm *vm, const char *path)
{
	const size_t len = strlen(path);
	const bool json = len >= 5 && !strcmp(path + len - 5, ".json");
	int err = 0;

	ASSERT(vm->profile && vm->profile->sampling);
	if (vm->stuck)	/* its thread still counts */
		return -EBUSY;
	FILE *f = fopen(path, "we");
	if (!f)
		return -errno;
	const uint64_t samples = sample_count(&vm->profile->vcpu.samples);
	(json ? json_head : text_head)(f, vm, samples);
	for (size_t i = 0; i < profile_view_count && !err; i++) {
		struct profile_ranking r;
		err = profile_rank(vm, &profile_views[i], &r);
		if (!err)
			(json ? json_view : text_view)(f, &r);
		profile_rank_free(&r);
	}
	if (json)
		fprintf(f, "\n}\n");
	const bool bad = ferror(f);
	return fclose(f) || bad ? -EIO : err;
}
