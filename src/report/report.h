/*
 * report.h - `trifold report`: what runs counted and traced, read from their files and shown side by side on one page.
 *
 * Lifecycle: report_add for each file (statistics of docs/stats.md, traces of docs/trace.md), report_finish, report_page; report_free at the end.
 * A file of either kind describes a run, named by its run.id; files of the same run come together whatever their order.
 * Nothing here knows the names of counters but the table of plots in page.c: what is new in a file is on the page by itself.
 */
#ifndef REPORT_REPORT_H
#define REPORT_REPORT_H

#include <stdio.h>
#include <sys/param.h>

#include "base/base.h"

#define REPORT_MAX_RUNS 8u		/* as many as there are colours */
#define REPORT_MAX_COUNTERS 1024u	/* of a run */
#define REPORT_MAX_KINDS 1024u		/* of slices of a run; a power of two */
#define REPORT_TEXT 64u
#define LATENCY_PER_OCTAVE 4u
#define LATENCY_BINS (40u * LATENCY_PER_OCTAVE)	/* up to 2^40 ns */

struct report_counter { char group[REPORT_TEXT], name[REPORT_TEXT]; uint64_t value; };
/* Strings of the group `run`. */
struct report_fact { char name[REPORT_TEXT], value[REPORT_TEXT]; };

/* All slices of a trace with one category and one name. Times are nanoseconds. */
struct report_latency {
	char category[REPORT_TEXT], name[REPORT_TEXT];	/* category "": the place is free */
	uint64_t count, total, longest;
	uint64_t interrupted;		/* not in the others: somebody else ran meanwhile, or it has no end */
	uint32_t bin[LATENCY_BINS];	/* latency_bin */
};

struct report_run {
	char label[REPORT_TEXT], id[REPORT_TEXT], file[REPORT_TEXT];
	bool labelled, has_stats, has_trace;
	struct report_counter *counter;
	size_t counters;
	struct report_fact fact[16];
	size_t facts;
	struct report_latency *latency;	/* REPORT_MAX_KINDS of them, hashed */
	size_t latencies;
	uint64_t trace_events, trace_lost;
	bool trace_whole;		/* the file has its end */
};

struct report { struct report_run run[REPORT_MAX_RUNS]; size_t runs; };

/* label: 0, or what the run is called. False: one clear line is in error. */
bool report_add(struct report *r, const char *path, const char *label, char *error, size_t error_size);
/* Gives runs without a label one: the paging mode, and the file's name where that is not enough. */
void report_finish(struct report *r);
void report_free(struct report *r);
/* One self-contained HTML page, which is well-formed XML too. */
void report_page(const struct report *r, FILE *out);

/* 0 if the run has none. */
const struct report_counter *report_counter(const struct report_run *run, const char *group, const char *name);
const char *report_fact(const struct report_run *run, const char *name);	/* "" if there is none */
/* The place of a kind of slice, free or not; 0: the table is full. */
struct report_latency *report_latency(const struct report_run *run, const char *category, const char *name);

/* Bin b holds times of less than latency_bin_end(b) and not less than the end of the one before. */
unsigned latency_bin(uint64_t ns);
double latency_bin_end(unsigned bin);
/* The end of the bin in which share (0 to 1) of the slices is reached. */
double latency_quantile(const struct report_latency *l, double share);

#endif
