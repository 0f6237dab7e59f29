/*
 * top.c - `trifold ctl SOCKET top`: asks for all counters each second and shows how fast they count, by group; `top exits`: for those of
 * `exits`, by cause, the fastest of each first.
 *
 * On a terminal it draws a screen anew each second until q or Ctrl-c; otherwise it prints the table of one second.
 */
#include "ui/ctl.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"
#include "ui/run.h"

#define MAX_COUNTERS 256
#define NAME_MAX_LEN 40
#define CELL 46			/* columns of one counter on the screen */

struct counter { char group[32], name[NAME_MAX_LEN]; uint64_t value; };
struct sample {
	struct counter counter[MAX_COUNTERS];
	size_t counters;
	char engine[16], paging[16];
	uint64_t memory_bytes, wall_ns, busy_ns;
};

static volatile sig_atomic_t top_stopped;
static void top_on_signal(int signo) { (void)signo; top_stopped = 1; }

/* The JSON that --stats writes: one member a line. */
static void sample_parse(struct sample *s, char *text)
{
	char group[16] = "", *rest = 0;

	memset(s, 0, sizeof(*s));
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(0, "\n", &rest)) {
		char name[NAME_MAX_LEN], word[16];
		unsigned long long value;

		if (sscanf(line, " \"%39[^\"]\": %llu", name, &value) == 2) {
			if (!strcmp(group, "host") && !strcmp(name, "wall_ns"))
				s->wall_ns = value;
			if (!strcmp(group, "run") && !strcmp(name, "memory_bytes"))
				s->memory_bytes = value;
			if (strcmp(group, "run") && s->counters < MAX_COUNTERS) {
				struct counter *c = &s->counter[s->counters++];

				snprintf(c->group, sizeof(c->group), "%s", group);
				snprintf(c->name, sizeof(c->name), "%s", name);
				c->value = value;
			}
		} else if (sscanf(line, " \"%39[^\"]\": \"%15[^\"]\"", name, word) == 2) {
			if (!strcmp(name, "engine"))
				snprintf(s->engine, sizeof(s->engine), "%s", word);
			if (!strcmp(name, "paging"))
				snprintf(s->paging, sizeof(s->paging), "%s", word);
		} else {
			sscanf(line, " \"%15[^\"]\": {", group);
		}
	}
}

/* What `exits` prints: a heading, and below it lines of a name, a count and what it is. It follows the counters of `stats`, whose head it keeps. */
static void sample_parse_exits(struct sample *s, char *text)
{
	char group[32] = "", *rest = 0;

	s->counters = 0;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(0, "\n", &rest)) {
		struct counter *c = &s->counter[s->counters];

		if (line[0] != ' ')
			snprintf(group, sizeof(group), "%s", line);
		else if (s->counters < MAX_COUNTERS && sscanf(line, " %39s %" SCNu64, c->name, &c->value) == 2)
			memcpy(s->counter[s->counters++].group, group, sizeof(group));
	}
}

static bool sample_take(const char *socket, bool exits, struct sample *s, char *error, size_t size)
{
	char *text;

	if (!ctl_ask(socket, "stats", &text, error, size))
		return false;
	sample_parse(s, text);
	free(text);
	for (size_t i = 0; i < s->counters; i++)
		if (!strcmp(s->counter[i].name, "vcpu_cpu_ns"))
			s->busy_ns = s->counter[i].value;
	if (!exits)
		return true;
	if (!ctl_ask(socket, "exits", &text, error, size))
		return false;
	sample_parse_exits(s, text);
	free(text);
	return true;
}

/* Counts a second between two samples. What stays or falls (a level, not a count) has no rate. */
static double rate_of(const struct sample *before, const struct sample *now, size_t i)
{
	const double seconds = (double)(now->wall_ns - before->wall_ns) / 1e9;
	const uint64_t b = now->counter[i].value;
	uint64_t a = 0;

	/* A counter that was 0 may have been left out before. */
	for (size_t k = 0; k < before->counters; k++)
		if (!strcmp(before->counter[k].name, now->counter[i].name) && !strcmp(before->counter[k].group, now->counter[i].group))
			a = before->counter[k].value;

	return b > a && seconds > 0 ? (double)(b - a) / seconds : 0;
}

static void print_head(const struct sample *before, const struct sample *now)
{
	const uint64_t wall = now->wall_ns - before->wall_ns;
	const double cpu = wall && now->busy_ns > before->busy_ns ? 100.0 * (double)(now->busy_ns - before->busy_ns) / (double)wall : 0;

	printf("engine %s, paging %s, %" PRIu64 " MiB; up %.1f s; vcpu busy %.0f%%", now->engine, now->paging, now->memory_bytes >> 20,
	       (double)now->wall_ns / 1e9, cpu);
}

static void cell_text(const struct sample *before, const struct sample *now, size_t i, char *text, size_t size)
{
	const struct counter *c = &now->counter[i];
	const double rate = rate_of(before, now, i);
	const size_t len = strlen(c->name);

	/* Times: how much of the second. */
	if (len > 3 && !strcmp(c->name + len - 3, "_ns"))
		snprintf(text, size, "  %-22.22s %10.1f%% %7.1fs", c->name, rate / 1e7, (double)c->value / 1e9);
	else
		snprintf(text, size, "  %-22.22s %9.0f/s %9" PRIu64, c->name, rate, c->value);
}

/* As many as fit: all that counted something; those that move only, if that is too much. */
static void top_screen(const struct sample *before, const struct sample *now)
{
	struct winsize w = { 0 };
	char cells[MAX_COUNTERS * 2][CELL + 1];
	size_t n = 0, rows, columns;

	ioctl(STDOUT_FILENO, TIOCGWINSZ, &w);
	rows = w.ws_row > 4 ? w.ws_row - 2u : 22;
	columns = w.ws_col >= CELL ? w.ws_col / CELL : 1;
	for (int all = 1; all >= 0; all--) {
		const char *group = "";

		n = 0;
		for (size_t i = 0; i < now->counters; i++) {
			const struct counter *c = &now->counter[i];

			if (all ? !c->value : rate_of(before, now, i) == 0)
				continue;
			if (strcmp(group, c->group))
				snprintf(cells[n++], sizeof(cells[0]), "%s", c->group);
			group = c->group;
			cell_text(before, now, i, cells[n++], sizeof(cells[0]));
		}
		if (n <= rows * columns)
			break;
	}
	fputs("\033[H", stdout);
	print_head(before, now);
	fputs("\033[K\n", stdout);
	for (size_t y = 0; y < rows; y++) {
		for (size_t x = 0; x < columns; x++)
			printf("%-*s", CELL, x * rows + y < n ? cells[x * rows + y] : "");
		fputs(y + 1 < rows ? "\033[K\n" : "\033[K\nq quits\033[K", stdout);
	}
	fflush(stdout);
}

static void top_table(const struct sample *before, const struct sample *now, bool exits)
{
	print_head(before, now);
	putchar('\n');
	for (size_t i = 0; i < now->counters; i++)
		printf("%-*s %-26s %14.1f/s %20" PRIu64 "\n", exits ? 24 : 10, now->counter[i].group, now->counter[i].name, rate_of(before, now, i),
		       now->counter[i].value);
}

/* Waits a second; false when the user has had enough. */
static bool top_wait(bool keys)
{
	struct pollfd in = { STDIN_FILENO, POLLIN, 0 };
	char key;

	if (poll(&in, keys ? 1 : 0, 1000) == 1 && keys && (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q'))
		return false;
	return !top_stopped;
}

/* Within each group, the fastest first. */
static void sort_by_rate(const struct sample *before, struct sample *now)
{
	for (size_t i = 1; i < now->counters; i++)
		for (size_t k = i; k > 0 && !strcmp(now->counter[k].group, now->counter[k - 1].group) && rate_of(before, now, k) > rate_of(before, now, k - 1); k--) {
			const struct counter c = now->counter[k];

			now->counter[k] = now->counter[k - 1];
			now->counter[k - 1] = c;
		}
}

int ctl_top(const char *socket, bool exits)
{
	static struct sample sample[2];
	const bool screen = isatty(STDOUT_FILENO);
	const struct sigaction stop = { .sa_handler = top_on_signal };
	struct termios found, raw;
	bool keys = screen && !tcgetattr(STDIN_FILENO, &found);
	char error[400];
	bool ok = sample_take(socket, exits, &sample[0], error, sizeof(error));

	sigaction(SIGINT, &stop, 0);
	sigaction(SIGTERM, &stop, 0);
	sigaction(SIGHUP, &stop, 0);
	if (!ok)
		keys = false;
	if (keys) {
		raw = found;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	if (ok && screen)
		fputs("\033[?1049h\033[?25l\033[2J", stdout);
	for (unsigned i = 1; ok && top_wait(keys); i ^= 1) {
		ok = sample_take(socket, exits, &sample[i], error, sizeof(error));
		if (ok && exits)
			sort_by_rate(&sample[i ^ 1], &sample[i]);
		if (ok && !screen) {
			top_table(&sample[i ^ 1], &sample[i], exits);
			break;
		}
		if (ok)
			top_screen(&sample[i ^ 1], &sample[i]);
	}
	if (sample[0].counters && screen) {
		fputs("\033[?25h\033[?1049l", stdout);
		fflush(stdout);
		if (keys)
			tcsetattr(STDIN_FILENO, TCSANOW, &found);
	}
	if (!ok)
		log_error("%s", error);
	return ok && !fflush(stdout) ? 0 : EXIT_ERROR;
}
