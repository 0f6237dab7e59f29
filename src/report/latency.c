/* latency.c - what the page shows of traces: for each category of slices a histogram and a table (report_internal.h). */
#include <stdlib.h>
#include <string.h>

#include "report/report_internal.h"

#define NAMES_SHOWN 12u		/* of a category; the others can be unfolded */

/* Categories in this order; those that are not here come after them. */
static const struct { const char *category, *title, *text; } chapters[] = {
	{ "syscall", "System calls", "From SYSCALL until the thread runs user code again, with all that happened on the way." },
	{ "exception", "Exceptions", "From delivery to IRET. #PF: what a page fault costs the guest's program." },
	{ "hypercall", "Hypercalls", "What a paravirtualized kernel asked for; those within a multicall count by themselves too." },
	{ "fault", "Faults by cause", "Time of the monitor. Hidden faults are the mode's own, the guest never sees them; the time of a guest fault here is the walk that found it." },
	{ "miss", "TLB misses", "The other accesses that level 2 of the TLB did not serve." },
	{ "table", "Writes to page tables", "Stores to shadowed tables that the monitor followed." },
	{ "interrupt", "Interrupts", "From delivery to IRET." },
	{ "device", "Devices", "Accesses to ports and memory-mapped devices." },
	{ "vmm", "The monitor's own work", "Moves, swapping, control commands." },
	{ "exec", "The executor", "Single instructions that are not translated." },
};

struct name { char text[REPORT_TEXT]; uint64_t weight; };

static int heavier(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return x->weight != y->weight ? (x->weight < y->weight ? 1 : -1) : strcmp(x->text, y->text);
}

/* The names of a category in all runs, those first that took longest in one of them. */
static size_t names_of(const struct report *r, const char *category, struct name *names, size_t room)
{
	size_t n = 0;

	for (size_t i = 0; i < r->runs; i++)
		for (size_t k = 0; r->run[i].latency && k < REPORT_MAX_KINDS; k++) {
			const struct report_latency *l = &r->run[i].latency[k];
			size_t at = 0;

			if (strcmp(l->category, category))
				continue;
			while (at < n && strcmp(names[at].text, l->name))
				at++;
			if (at == room)
				continue;
			if (at == n)
				names[n++] = (struct name){ 0 };
			memcpy(names[at].text, l->name, sizeof(l->name));
			names[at].weight = MAX(names[at].weight, l->total);
		}
	qsort(names, n, sizeof(*names), heavier);
	return n;
}

/* All slices of a category together. */
static void sum(const struct report_run *run, const char *category, struct report_latency *all)
{
	for (size_t k = 0; run->latency && k < REPORT_MAX_KINDS; k++) {
		const struct report_latency *l = &run->latency[k];

		if (strcmp(l->category, category))
			continue;
		all->count += l->count;
		all->total += l->total;
		all->longest = MAX(all->longest, l->longest);
		for (unsigned b = 0; b < LATENCY_BINS; b++)
			all->bin[b] += l->bin[b];
	}
}

static void table(const struct report *r, const char *category, const struct name *names, size_t n, FILE *out)
{
	size_t traces = 0;

	for (size_t i = 0; i < r->runs; i++)
		traces += r->run[i].has_trace;
	fputs("<div class=\"scroll\"><table><thead><tr><th>what</th><th>run</th><th class=\"n\">how often</th><th class=\"n\">half under</th>"
	      "<th class=\"n\">99&#160;% under</th><th class=\"n\">longest</th><th class=\"n\">in all</th><th class=\"n\">others ran</th></tr></thead>\n", out);
	for (size_t k = 0; k < n; k++) {
		fprintf(out, "<tbody><tr><th rowspan=\"%zu\">", traces);
		html_text(out, names[k].text);
		fputs("</th>", out);
		for (size_t i = 0, row = 0; i < r->runs; i++) {
			const struct report_latency *l = report_latency(&r->run[i], category, names[k].text);

			if (!r->run[i].has_trace)
				continue;
			fprintf(out, "%s<td>", row++ ? "<tr>" : "");
			html_run(out, r, i, false);
			fputs("</td><td class=\"n\">", out);
			html_exact(out, UNIT_COUNT, l ? l->count : 0);
			for (unsigned c = 0; c < 4; c++) {
				fputs("</td><td class=\"n\">", out);
				if (l && l->count)
					html_short(out, UNIT_NS, c == 0 ? latency_quantile(l, 0.5) : c == 1 ? latency_quantile(l, 0.99) : (double)(c == 2 ? l->longest : l->total));
			}
			fputs("</td><td class=\"n\">", out);
			if (l && l->interrupted)
				html_exact(out, UNIT_COUNT, l->interrupted);
			fputs("</td></tr>\n", out);
		}
		fputs("</tbody>\n", out);
	}
	fputs("</table></div>\n", out);
}

static void chapter(const struct report *r, const char *category, const char *title, const char *text, FILE *out)
{
	static struct name names[REPORT_MAX_KINDS];
	const size_t n = names_of(r, category, names, ARRAY_LEN(names)), shown = MIN(n, NAMES_SHOWN);
	const struct report_latency *of_run[REPORT_MAX_RUNS];
	struct report_latency *all = n ? calloc(REPORT_MAX_RUNS, sizeof(*all)) : 0;

	if (!all)
		return;
	for (size_t i = 0; i < r->runs; i++) {
		sum(&r->run[i], category, &all[i]);
		of_run[i] = &all[i];
	}
	fputs("<section><h3>", out);
	html_text(out, title);
	fputs("</h3><p>", out);
	html_text(out, text);
	fputs("</p>\n", out);
	plot_latency(r, of_run, out);
	table(r, category, names, shown, out);
	if (n > shown) {
		fprintf(out, "<details><summary>%zu more, each of which took less time</summary>\n", n - shown);
		table(r, category, names + shown, n - shown, out);
		fputs("</details>\n", out);
	}
	fputs("</section>\n", out);
	free(all);
}

void page_latencies(const struct report *r, FILE *out)
{
	char done[32][REPORT_TEXT];
	size_t others = 0, traces = 0;

	for (size_t i = 0; i < r->runs; i++)
		traces += r->run[i].has_trace;
	if (!traces)
		return;
	fputs("<h2>How long things took</h2><p>From traces. A histogram has four bars for each doubling of time; their heights are shares of the run's events, on one scale for all runs. "
	      "Times include what happened within: hidden faults in a system call count in both. Where others ran meanwhile, the time is not counted, only how often.</p>\n", out);
	for (size_t c = 0; c < ARRAY_LEN(chapters); c++)
		chapter(r, chapters[c].category, chapters[c].title, chapters[c].text, out);
	for (size_t i = 0; i < r->runs; i++)
		for (size_t k = 0; r->run[i].latency && k < REPORT_MAX_KINDS; k++) {
			const char *category = r->run[i].latency[k].category;
			bool known = !category[0] || others == ARRAY_LEN(done);

			for (size_t c = 0; c < ARRAY_LEN(chapters); c++)
				known |= !strcmp(chapters[c].category, category);
			for (size_t c = 0; c < others; c++)
				known |= !strcmp(done[c], category);
			if (known)
				continue;
			memcpy(done[others++], category, REPORT_TEXT);
			chapter(r, category, category, "", out);
		}
}
