/* trace_file.c - lines of a trace file (trace_file.h). */
#include "vm/trace_file.h"

#include <inttypes.h>

#include "base/clock.h"

void trace_put_text(FILE *out, const char *text)
{
	putc_unlocked('"', out);
	for (; *text; text++) {
		const unsigned char c = (unsigned char)*text;

		if (c < ' ' || c > '~' || c == '"' || c == '\\')
			fprintf(out, "\\u%04x", c);
		else
			putc_unlocked(c, out);
	}
	putc_unlocked('"', out);
}

/* Begins a line, unless the file is full. */
static bool line(struct trace_file *file, const char *phase, uint32_t pid, uint32_t tid)
{
	int n;

	if (file->full)
		return false;
	n = fprintf(file->out, "%s{\"ph\":\"%s\",\"pid\":%u,\"tid\":%u", file->events ? ",\n" : "\n", phase, pid, tid);
	file->events++;
	/* What follows is not counted exactly. */
	file->bytes += 100;
	file->full = n < 0 || file->bytes > TRACE_FILE_MAX;
	return true;
}

/* Microseconds, as the format wants them. */
static void time_member(struct trace_file *file, const char *key, uint64_t ticks)
{
	const uint64_t ns = clock_tsc_to_ns(ticks);

	fprintf(file->out, ",\"%s\":%" PRIu64 ".%03u", key, ns / 1000, (unsigned)(ns % 1000));
}

static void subject(struct trace_file *file, const char *category, const char *name)
{
	fprintf(file->out, ",\"cat\":\"%s\",\"name\":", category);
	trace_put_text(file->out, name);
	fputs(",\"args\":{", file->out);
	file->args = 0;
}

/* A place for one more. With all taken, the two that ended first become one: what begins between them is clipped more than it need be, but nothing is crossed. */
static struct trace_span_ends *free_place(struct trace_track *track)
{
	struct trace_span_ends *first = &track->last[0], *second = &track->last[1];

	if (second->to < first->to) {
		first = &track->last[1];
		second = &track->last[0];
	}
	for (unsigned i = 2; i < TRACK_MEMORY; i++) {
		struct trace_span_ends *s = &track->last[i];

		if (s->to < first->to) {
			second = first;
			first = s;
		} else if (s->to < second->to) {
			second = s;
		}
	}
	if (first->to && first->from < second->from)
		second->from = first->from;
	return first;
}

/* Moves the beginning to where no earlier slice is crossed, and remembers the slice. */
static bool fit(struct trace_track *track, uint64_t *from, uint64_t to)
{
	bool clipped = false, moved;

	do {
		moved = false;
		for (unsigned i = 0; i < TRACK_MEMORY; i++) {
			const struct trace_span_ends *s = &track->last[i];

			if (*from > s->from && *from < s->to && to > s->to) {
				*from = s->to;
				clipped = moved = true;
			}
		}
	} while (moved);
	/* What is within the new one matters no more. */
	for (unsigned i = 0; i < TRACK_MEMORY; i++) {
		struct trace_span_ends *s = &track->last[i];

		if (s->from >= *from && s->to <= to)
			s->from = s->to = 0;
	}
	*free_place(track) = (struct trace_span_ends){ *from, to };
	return clipped;
}

bool trace_slice(struct trace_file *file, struct trace_track *track, uint64_t from_tsc, uint64_t to_tsc, const char *category, const char *name)
{
	uint64_t from = from_tsc > file->tsc0 ? from_tsc - file->tsc0 : 0, to = to_tsc > file->tsc0 ? to_tsc - file->tsc0 : 0;
	bool clipped;

	if (from > to)
		from = to;
	if (!line(file, "X", track->pid, track->tid))
		return false;
	clipped = fit(track, &from, to);
	time_member(file, "ts", from);
	/* The difference of what is printed, so that ends compare as well as beginnings. */
	const uint64_t ns = clock_tsc_to_ns(to) - clock_tsc_to_ns(from);
	fprintf(file->out, ",\"dur\":%" PRIu64 ".%03u", ns / 1000, (unsigned)(ns % 1000));
	subject(file, category, name);
	if (clipped)
		trace_arg_number(file, "clipped", 1);
	return true;
}

bool trace_instant(struct trace_file *file, const struct trace_track *track, uint64_t tsc, const char *category, const char *name)
{
	if (!line(file, "i", track->pid, track->tid))
		return false;
	fputs(",\"s\":\"t\"", file->out);
	time_member(file, "ts", tsc > file->tsc0 ? tsc - file->tsc0 : 0);
	subject(file, category, name);
	return true;
}

void trace_end(struct trace_file *file) { fputs("}}", file->out); }

void trace_arg_key(struct trace_file *file, const char *key) { fprintf(file->out, "%s\"%s\":", file->args++ ? "," : "", key); }

void trace_arg_number(struct trace_file *file, const char *key, uint64_t value)
{
	trace_arg_key(file, key);
	fprintf(file->out, "%" PRIu64, value);
}

void trace_arg_signed(struct trace_file *file, const char *key, int64_t value)
{
	trace_arg_key(file, key);
	fprintf(file->out, "%" PRId64, value);
}

void trace_arg_hex(struct trace_file *file, const char *key, uint64_t value)
{
	trace_arg_key(file, key);
	fprintf(file->out, "\"0x%" PRIx64 "\"", value);
}

void trace_arg_text(struct trace_file *file, const char *key, const char *text)
{
	trace_arg_key(file, key);
	trace_put_text(file->out, text);
}

void trace_name(struct trace_file *file, uint32_t pid, uint32_t tid, const char *what, const char *text, unsigned number)
{
	if (!line(file, "M", pid, tid))
		return;
	fprintf(file->out, ",\"name\":\"%s\",\"args\":{", what);
	if (text) {
		fputs("\"name\":", file->out);
		trace_put_text(file->out, text);
	} else {
		fprintf(file->out, "\"sort_index\":%u", number);
	}
	fputs("}}", file->out);
}
