/* page.c - the page: style, overview, plots and tables of counters (report.h). */
#include <string.h>

#include "report/report_internal.h"

/* What is shown as bars: counters of a group by pattern, words separated by blanks; a * at an end stands for anything, a ! before it excludes. */
static const struct plot { const char *title, *group, *pattern, *text; } plots[] = {
	{ "Host time by kind", "host", "!wall_ns !cpu_ns !vcpu_cpu_ns *_ns", "Processor time of the vcpus, sampled; idle is time slept." },
	{ "Hidden faults by cause", "mmu", "hidden_*", "The guest's tables allow the access, ours lack it. The guest never sees them." },
	{ "Faults of the guest, watched pages, devices", "mmu", "guest_faults tracked_writes mmio_faults frames_backed", "Guest faults are those that the guest's own tables ask for." },
	{ "Page tables of the guest and of the monitor", "mmu", "table_writes shadow_*", "What following the guest's tables takes." },
	{ "TLB", "mmu", "tlb_*", "Level 1 is probed by translated code, level 2 when that misses." },
	{ "Flushes by cause", "mmu", "flush_* cr3_noflush", "What made the TLB forget, or not." },
	{ "Walks and references", "mmu", "walk*", "Table entries read, in either dimension; hardware: what a walker without caches would have read." },
	{ "Machine memory", "memory", "*", "What the monitor did with frames under the guest." },
	{ "Hypercalls and bounces", "xen", "*", "What a paravirtualized guest asked for." },
	{ "Exits", "exits", "*", "Returns of the engine to the monitor." },
	{ "Events and instructions", "cpu", "!blocks_executed *", "What the guest's processor did that is not plain code." },
	{ "Translator", "bt", "blocks_* dispatch* code_writes slow_accesses cache_flushes links", "" },
};

static const char style[] =
	":root{--bg:#fff;--fg:#1b1f24;--soft:#57606a;--line:#d0d7de;--card:#f6f8fa;"
	"--r0:#0072b2;--r1:#d55e00;--r2:#009e73;--r3:#a0559a;--r4:#b58900;--r5:#3b9dd8;--r6:#7a5230;--r7:#6e7781}\n"
	"@media (prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e6edf3;--soft:#9aa5b1;--line:#343c45;--card:#1b2129;"
	"--r0:#4aa8e0;--r1:#f08a4b;--r2:#3cc79a;--r3:#d08cca;--r4:#e0b53c;--r5:#8ecbf2;--r6:#b98a62;--r7:#a3acb5}}\n"
	"@media print{:root{--bg:#fff;--fg:#000;--soft:#444;--line:#bbb;--card:#fff;"
	"--r0:#0072b2;--r1:#d55e00;--r2:#009e73;--r3:#a0559a;--r4:#b58900;--r5:#3b9dd8;--r6:#7a5230;--r7:#6e7781}"
	"body{font-size:9pt;max-width:none}section,.card,tbody,svg{break-inside:avoid}h2,h3{break-after:avoid}.scroll{overflow:visible}}\n"
	"*{box-sizing:border-box}html{color-scheme:light dark}"
	"body{margin:0 auto;padding:1rem;max-width:76rem;background:var(--bg);color:var(--fg);font:15px/1.45 system-ui,'DejaVu Sans',sans-serif;"
	"-webkit-print-color-adjust:exact;print-color-adjust:exact}\n"
	"h1{font-size:1.6rem;margin:.2rem 0}h2{font-size:1.25rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line)}h3{font-size:1rem;margin:.2rem 0}"
	"p{margin:.2rem 0 .6rem;color:var(--soft);max-width:60rem}\n"
	".legend span{margin-right:1rem;color:var(--fg);overflow-wrap:anywhere}.legend svg{vertical-align:-1px}\n"
	".plots{columns:2 25rem;column-gap:1rem}.card{break-inside:avoid;margin:0 0 1rem}\n"
	".card,section{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.7rem .9rem;min-width:0}section{margin:0 0 1rem}\n"
	".card p,section p{font-size:.85rem}.plot{display:block;overflow:hidden}"
	"svg text{font-size:12.5px;fill:var(--fg)}svg .value{font-size:11.5px;font-variant-numeric:tabular-nums}svg .run{fill:var(--soft)}\n"
	".mark{stroke:var(--line);stroke-dasharray:2 3}.axis{stroke:var(--soft)}\n"
	".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;width:100%}th{text-align:left;font-weight:500;vertical-align:top}"
	"td,th{padding:.15rem .9rem .15rem 0;border-top:1px solid var(--line)}thead th{border-top:0;font-weight:600}"
	".n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}.zero,.soft,.meaning{color:var(--soft)}.meaning{min-width:14rem}"
	"details{margin:.4rem 0}summary{cursor:pointer;color:var(--soft)}\n"
	".r0{fill:var(--r0)}.r1{fill:var(--r1)}.r2{fill:var(--r2)}.r3{fill:var(--r3)}.r4{fill:var(--r4)}.r5{fill:var(--r5)}.r6{fill:var(--r6)}.r7{fill:var(--r7)}\n";

static bool word_fits(const char *name, const char *word, size_t len)
{
	const size_t n = strlen(name);

	if (len && word[0] == '*')
		return n >= len - 1 && !strncmp(name + n - (len - 1), word + 1, len - 1);
	if (len && word[len - 1] == '*')
		return !strncmp(name, word, len - 1);
	return n == len && !strncmp(name, word, len);
}

/* The first word that fits decides. */
static bool fits(const char *name, const char *pattern)
{
	while (*pattern) {
		const size_t len = strcspn(pattern, " ");
		const bool not = *pattern == '!';

		if (word_fits(name, pattern + not, len - not))
			return !not;
		pattern += len + (pattern[len] == ' ');
	}
	return false;
}

/* The counters of all runs, each once, as the first run that has it says it; some: of a group (0: of any) that fit a pattern and are not 0 in all runs. */
static size_t counters_of(const struct report *r, const struct plot *some, const struct report_counter **counter, size_t room)
{
	size_t n = 0;

	for (size_t i = 0; i < r->runs; i++)
		for (size_t k = 0; k < r->run[i].counters; k++) {
			const struct report_counter *c = &r->run[i].counter[k];
			bool wanted = !some || (!strcmp(c->group, some->group) && fits(c->name, some->pattern)), any = !some;

			for (size_t j = 0; j < r->runs && wanted; j++) {
				const struct report_counter *own = report_counter(&r->run[j], c->group, c->name);

				wanted = j >= i || !own;
				any |= own && own->value;
			}
			if (wanted && any && n < room)
				counter[n++] = c;
		}
	return n;
}

static void overview_row(const struct report *r, const char *title, const char *group, const char *name, FILE *out)
{
	uint64_t scale;
	const enum unit unit = unit_of(name, &scale);

	fputs("<tr><th>", out);
	html_text(out, title);
	fputs("</th>", out);
	for (size_t i = 0; i < r->runs; i++) {
		const struct report_counter *c = report_counter(&r->run[i], group, name);

		fputs("<td>", out);
		if (c)
			html_exact(out, unit, c->value * scale);
		else
			html_text(out, report_fact(&r->run[i], name));
		fputs("</td>", out);
	}
	fputs("</tr>\n", out);
}

static void overview(const struct report *r, FILE *out)
{
	static const struct { const char *title, *group, *name; } rows[] = {
		{ "engine", "run", "engine" }, { "paging", "run", "paging" }, { "placement of frames", "run", "placement" }, { "guest memory", "run", "memory_bytes" },
		{ "ended by", "run", "end" }, { "exit status", "run", "status" }, { "time", "host", "wall_ns" }, { "processor time", "host", "cpu_ns" },
		{ "of it, vcpus", "host", "vcpu_cpu_ns" }, { "largest resident size", "host", "max_rss_kib" }, { "guest memory with frames", "host", "guest_kib" },
	};

	fputs("<div class=\"scroll\"><table><thead><tr><th></th>", out);
	for (size_t i = 0; i < r->runs; i++) {
		fprintf(out, "<th><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect width=\"12\" height=\"12\" rx=\"2\" class=\"r%zu\"/></svg> ", i);
		html_run(out, r, i, true);
		fputs("</th>", out);
	}
	fputs("</tr></thead><tbody>\n", out);
	for (size_t k = 0; k < ARRAY_LEN(rows); k++)
		overview_row(r, rows[k].title, rows[k].group, rows[k].name, out);
	fputs("<tr><th>trace</th>", out);
	for (size_t i = 0; i < r->runs; i++) {
		const struct report_run *run = &r->run[i];

		fputs("<td>", out);
		if (run->has_trace) {
			html_exact(out, UNIT_COUNT, run->trace_events);
			fputs(" events", out);
			if (run->trace_lost) {
				fputs(", ", out);
				html_exact(out, UNIT_COUNT, run->trace_lost);
				fputs(" lost", out);
			}
			if (!run->trace_whole)
				fputs(", its end is missing", out);
		}
		fputs("</td>", out);
	}
	fputs("</tr></tbody></table></div>\n", out);
}

/* What all names begin with, up to the last _ of it. */
static size_t common_words(const struct report_counter *const *counter, size_t n)
{
	size_t common = 0;

	for (size_t at = 0; n > 1; at++) {
		const char c = counter[0]->name[at];

		for (size_t i = 0; i < n; i++)
			if (!c || counter[i]->name[at] != c)
				return common;
		if (c == '_')
			common = at + 1;
	}
	return common;
}

static void bars(const struct report *r, FILE *out)
{
	const struct report_counter *counter[REPORT_MAX_COUNTERS];

	fputs("<h2>What the runs differ in</h2>\n", out);
	plot_legend(r, out);
	fputs("<div class=\"plots\">\n", out);
	for (size_t k = 0; k < ARRAY_LEN(plots); k++) {
		const size_t n = counters_of(r, &plots[k], counter, ARRAY_LEN(counter));

		if (!n)
			continue;
		fputs("<div class=\"card\"><h3>", out);
		html_text(out, plots[k].title);
		fputs("</h3><p>", out);
		html_text(out, plots[k].text);
		fputs("</p>\n", out);
		plot_bars(r, counter, n, common_words(counter, n), out);
		fputs("</div>\n", out);
	}
	fputs("</div>\n", out);
}

static void counter_row(const struct report *r, const struct report_counter *c, FILE *out)
{
	const struct report_counter *first = report_counter(&r->run[0], c->group, c->name);
	const char *meaning = counter_meaning(c->group, c->name);
	uint64_t scale;
	const enum unit unit = unit_of(c->name, &scale);

	fputs("<tr><th>", out);
	html_text(out, c->name);
	fputs("</th>", out);
	for (size_t i = 0; i < r->runs; i++) {
		const struct report_counter *own = report_counter(&r->run[i], c->group, c->name);

		fprintf(out, "<td class=\"n%s\">", own && own->value ? "" : " zero");
		if (own)
			html_exact(out, unit, own->value * scale);
		if (i && own && own->value && first && first->value)
			fprintf(out, " <span class=\"soft\">&#215;%.3g</span>", (double)own->value / (double)first->value);
		fputs("</td>", out);
	}
	fputs("<td class=\"meaning\">", out);
	html_text(out, meaning ? meaning : "");
	fputs("</td></tr>\n", out);
}

static void tables(const struct report *r, FILE *out)
{
	const struct report_counter *counter[REPORT_MAX_COUNTERS];
	const size_t n = counters_of(r, 0, counter, ARRAY_LEN(counter));

	fputs("<h2>All counters</h2>\n", out);
	if (r->runs > 1)
		fputs("<p>&#215;: as a multiple of the first run.</p>\n", out);
	for (size_t begin = 0; begin < n; begin++) {
		bool again = false;

		for (size_t k = 0; k < begin; k++)
			again |= !strcmp(counter[k]->group, counter[begin]->group);
		if (again || !strcmp(counter[begin]->group, "run"))
			continue;
		fputs("<section><h3>", out);
		html_text(out, counter[begin]->group);
		fputs("</h3><div class=\"scroll\"><table><thead><tr><th>counter</th>", out);
		for (size_t i = 0; i < r->runs; i++) {
			fputs("<th class=\"n\">", out);
			html_run(out, r, i, false);
			fputs("</th>", out);
		}
		fputs("<th>meaning</th></tr></thead><tbody>\n", out);
		for (size_t k = begin; k < n; k++)
			if (!strcmp(counter[k]->group, counter[begin]->group))
				counter_row(r, counter[k], out);
		fputs("</tbody></table></div></section>\n", out);
	}
}

void report_page(const struct report *r, FILE *out)
{
	bool any = false;

	for (size_t i = 0; i < r->runs; i++)
		any |= r->run[i].has_stats;
	fprintf(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>"
		"<title>Trifold: %zu run%s</title><style>\n%s</style></head><body>\n<h1>Trifold: %zu run%s</h1>\n", r->runs, r->runs == 1 ? "" : "s", style, r->runs,
		r->runs == 1 ? "" : "s compared");
	overview(r, out);
	if (any)
		bars(r, out);
	page_latencies(r, out);
	if (any)
		tables(r, out);
	fputs("</body></html>\n", out);
}
