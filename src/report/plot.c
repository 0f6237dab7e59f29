/*
 * plot.c - plots as SVG: bars and histograms (report_internal.h).
 *
 * Lengths along x are shares of the width, in percent, so that a plot fills what there is while its text keeps its size; along y they are pixels.
 * Each bar says whose it is in words too: colours are not all that tells runs apart.
 */
#include <math.h>
#include <string.h>

#include "report/report_internal.h"

#define BAR 14			/* pixels from one bar to the next */
#define LABEL 18		/* above the bars of a counter */
#define GAP 8
#define LONGEST 58.0		/* percent; the rest is for the number and the run's name */
#define HISTOGRAM 64		/* pixels */

void plot_legend(const struct report *r, FILE *out)
{
	fputs("<p class=\"legend\">", out);
	for (size_t i = 0; i < r->runs; i++) {
		fprintf(out, "<span><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect width=\"12\" height=\"12\" rx=\"2\" class=\"r%zu\"/></svg> ", i);
		html_run(out, r, i, true);
		fputs("</span> ", out);
	}
	fputs("</p>\n", out);
}

void plot_bars(const struct report *r, const struct report_counter *const *counter, size_t counters, size_t skip, FILE *out)
{
	const unsigned height = (unsigned)counters * (LABEL + GAP + BAR * (unsigned)r->runs);
	uint64_t most = 1, scale;
	unsigned y = 0;

	for (size_t c = 0; c < counters; c++)
		for (size_t i = 0; i < r->runs; i++) {
			const struct report_counter *own = report_counter(&r->run[i], counter[c]->group, counter[c]->name);

			most = MAX(most, own ? own->value : 0);
		}
	fprintf(out, "<svg class=\"plot\" width=\"100%%\" height=\"%u\" role=\"img\" aria-label=\"a bar for each counter and run; the numbers are in the tables below\">\n", height);
	for (size_t c = 0; c < counters; c++) {
		const char *meaning = counter_meaning(counter[c]->group, counter[c]->name);
		const enum unit unit = unit_of(counter[c]->name, &scale);

		fprintf(out, "<g><text x=\"0\" y=\"%u\">", y + LABEL - 5);
		html_words(out, counter[c]->name + skip, unit != UNIT_COUNT);
		fputs("</text>", out);
		if (meaning) {
			fputs("<title>", out);
			html_text(out, meaning);
			fputs("</title>", out);
		}
		y += LABEL;
		for (size_t i = 0; i < r->runs; i++, y += BAR) {
			const struct report_counter *own = report_counter(&r->run[i], counter[c]->group, counter[c]->name);
			const double width = own ? LONGEST * (double)own->value / (double)most : 0;

			if (own && own->value)
				fprintf(out, "<rect x=\"0\" y=\"%u\" width=\"%.2f%%\" height=\"%d\" class=\"r%zu\"/>", y, MAX(width, 0.2), BAR - 3, i);
			fprintf(out, "<text class=\"value\" x=\"%.2f%%\" dx=\"5\" y=\"%u\">", width, y + BAR - 5);
			if (own)
				html_short(out, unit, (double)(own->value * scale));
			else
				fputs("&#8211;", out);
			fputs("<tspan class=\"run\" dx=\"5\">", out);
			html_run(out, r, i, false);
			fputs("</tspan></text>", out);
		}
		y += GAP;
		fputs("</g>\n", out);
	}
	fputs("</svg>\n", out);
}

/* Marks of 1, 10, 100 ns ... within the bins. */
static void time_marks(FILE *out, unsigned first, unsigned last, unsigned y)
{
	const double bins = last - first + 1;

	for (unsigned e = 0; e < 12; e++) {
		const double at = (log2(pow(10, e)) * LATENCY_PER_OCTAVE - first) / bins * 100;

		if (at < 0 || at > 100)
			continue;
		fprintf(out, "<line class=\"mark\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"0\" y2=\"%u\"/>", at, at, y);
		fprintf(out, "<text class=\"value\" x=\"%.2f%%\" y=\"%u\" text-anchor=\"%s\">", at, y + 13, at < 10 ? "start" : at > 90 ? "end" : "middle");
		html_short(out, UNIT_NS, pow(10, e));
		fputs("</text>\n", out);
	}
}

void plot_latency(const struct report *r, const struct report_latency *const *l, FILE *out)
{
	unsigned first = LATENCY_BINS, last = 0, panels = 0, y = 0;
	double most = 0;

	for (size_t i = 0; i < r->runs; i++) {
		panels += l[i] && l[i]->count;
		for (unsigned b = 0; l[i] && b < LATENCY_BINS; b++)
			if (l[i]->bin[b]) {
				first = MIN(first, b);
				last = MAX(last, b);
				most = fmax(most, l[i]->bin[b] / (double)l[i]->count);
			}
	}
	if (!panels)
		return;
	const unsigned bottom = panels * (2 * LABEL + HISTOGRAM + GAP);
	const double bins = last - first + 1;

	fprintf(out, "<svg class=\"plot\" width=\"100%%\" height=\"%u\" role=\"img\" aria-label=\"a histogram of times for each run\">\n", bottom + 18);
	time_marks(out, first, last, bottom);
	for (size_t i = 0; i < r->runs; i++) {
		if (!l[i] || !l[i]->count)
			continue;
		fprintf(out, "<text x=\"0\" y=\"%u\">", y + LABEL - 5);
		html_run(out, r, i, strlen(r->run[i].label) < 40);
		fprintf(out, "</text><text class=\"value\" x=\"0\" y=\"%u\">", y + 2 * LABEL - 6);
		html_short(out, UNIT_COUNT, (double)l[i]->count);
		fputs(", half under ", out);
		html_short(out, UNIT_NS, latency_quantile(l[i], 0.5));
		fputs(", 99&#160;% under ", out);
		html_short(out, UNIT_NS, latency_quantile(l[i], 0.99));
		fputs("</text>\n", out);
		y += 2 * LABEL + HISTOGRAM;
		for (unsigned b = first; b <= last; b++) {
			const double height = HISTOGRAM * (l[i]->bin[b] / (double)l[i]->count) / most;

			if (l[i]->bin[b])
				fprintf(out, "<rect x=\"%.2f%%\" width=\"%.2f%%\" y=\"%.1f\" height=\"%.1f\" class=\"r%zu\"/>", (b - first) / bins * 100,
					92 / bins, y - fmax(height, 0.7), fmax(height, 0.7), i);
		}
		fprintf(out, "<line class=\"axis\" x1=\"0\" x2=\"100%%\" y1=\"%u\" y2=\"%u\"/>\n", y, y);
		y += GAP;
	}
	fputs("</svg>\n", out);
}
