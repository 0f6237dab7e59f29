/*
 * trace_file.h - a file of trace events as Chrome's JSON, one event a line ("Trace Event Format"; Perfetto opens it): slices, instants and
 * names on tracks.
 *
 * Why this format and not Perfetto's own protobufs: any JSON reader, jq or twenty lines of a script can use it (trifold report does, line by line),
 * for about four times the size.
 *
 * Slices of one track nest: a slice that would cross the end of an earlier one begins at that end, and says so ("clipped").
 * Strings may come from the guest: whatever is not printable ASCII is escaped.
 */
#ifndef VM_TRACE_FILE_H
#define VM_TRACE_FILE_H

#include <stdio.h>
#include "base/base.h"

#define TRACE_FILE_MAX GIB(1)	/* a guest that goes on for ever must not fill the disk */

struct trace_file {
	FILE *out;
	uint64_t tsc0;		/* time 0 */
	uint64_t events, bytes;
	unsigned args;		/* of the event under way */
	bool full;		/* TRACE_FILE_MAX reached, or out cannot be written: what comes is not written */
};

/* Where slices are drawn: a row of a process. What was drawn there last is kept in order to nest. */
struct trace_span_ends { uint64_t from, to; };
#define TRACK_MEMORY 64u
struct trace_track { uint32_t pid, tid; struct trace_span_ends last[TRACK_MEMORY]; };

/* Until trace_end: what is printed to file->out in between are members of "args" (trace_arg_...). False: nothing is written. */
bool trace_slice(struct trace_file *file, struct trace_track *track, uint64_t from_tsc, uint64_t to_tsc, const char *category, const char *name);
bool trace_instant(struct trace_file *file, const struct trace_track *track, uint64_t tsc, const char *category, const char *name);
void trace_end(struct trace_file *file);
void trace_arg_number(struct trace_file *file, const char *key, uint64_t value);
void trace_arg_signed(struct trace_file *file, const char *key, int64_t value);
void trace_arg_hex(struct trace_file *file, const char *key, uint64_t value);
void trace_arg_text(struct trace_file *file, const char *key, const char *text);
/* The value itself is the caller's to print. */
void trace_arg_key(struct trace_file *file, const char *key);

/* "process_name", "thread_name": text. "process_sort_index", "thread_sort_index": number, text 0. */
void trace_name(struct trace_file *file, uint32_t pid, uint32_t tid, const char *what, const char *text, unsigned number);

/* With its quotes. */
void trace_put_text(FILE *out, const char *text);

#endif
