/* report_internal.h - what the page's files share: text and numbers, and plots. */
#ifndef REPORT_REPORT_INTERNAL_H
#define REPORT_REPORT_INTERNAL_H

#include "report/report.h"

enum unit { UNIT_COUNT, UNIT_NS, UNIT_BYTES };

/* What a counter counts, by the ending of its name (_ns, _kib, _bytes); *scale makes a value of the unit of it. */
enum unit unit_of(const char *name, uint64_t *scale);
/* Text of HTML, with what is special in it written so that it is not. */
void html_text(FILE *out, const char *text);
/* "12 345", or a time or size with its unit, as many digits as tell something. */
void html_exact(FILE *out, enum unit unit, uint64_t value);
/* Short: "12.3 M", "4.56 ms", "78.9 MiB". */
void html_short(FILE *out, enum unit unit, double value);
/* "not_backed" becomes "not backed"; drop_unit: "code_ns" becomes "code". */
void html_words(FILE *out, const char *name, bool drop_unit);
/* A run's label; where any is longer than RUN_SHORT, all have numbers, and these alone where there is little room (not full). */
#define RUN_SHORT 10u
void html_run(FILE *out, const struct report *r, size_t run, bool full);
/* What docs/stats.md says of a counter; 0: nothing. */
const char *counter_meaning(const char *group, const char *name);

/* A legend of the runs' colours. */
void plot_legend(const struct report *r, FILE *out);
/* For each counter a bar for each run, all on one linear scale. skip: of the counters' names, not repeated before each. */
void plot_bars(const struct report *r, const struct report_counter *const *counter, size_t counters, size_t skip, FILE *out);
/* Of each run a histogram of times, on one logarithmic scale of time and one of shares. l[i] 0: run i has none. */
void plot_latency(const struct report *r, const struct report_latency *const *l, FILE *out);

/* Everything of the page's traces. */
void page_latencies(const struct report *r, FILE *out);

#endif
