/*
 * report.c - `trifold report [-o FILE.html] [LABEL=]FILE...`: a page that compares runs, from their statistics and traces.
 */
#include "ui/report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "report/report.h"
#include "ui/run.h"

static int report_usage(FILE *f)
{
	fputs("usage: trifold report [-o PAGE.html] [LABEL=]FILE...\n\n"
	      "Each FILE was written by trifold run --stats or --trace. Files of the same run belong together. The page, one HTML file that needs no other,\n"
	      "goes to PAGE.html, or to standard output when that is no terminal. LABEL is what the run is called there; without it, its paging mode.\n", f);
	return fflush(f) ? EXIT_ERROR : 0;
}

static int report_error(const char *path, int err)
{
	log_error("report: %s: %s", path, strerror(err));
	return EXIT_ERROR;
}

static int report_write(const struct report *r, const char *path)
{
	FILE *f = path ? fopen(path, "we") : stdout;

	if (!f)
		return report_error(path, errno);
	report_page(r, f);
	errno = 0;
	const bool bad = fflush(f) || ferror(f);
	const int err = errno ? errno : EIO;
	if ((path && fclose(f)) || bad)
		return report_error(path ? path : "standard output", err);
	return 0;
}

/* A file of that name wins over a label. */
static bool report_argument(struct report *r, char *word, char *error, size_t size)
{
	char *equals = strchr(word, '=');

	if (!equals || equals == word || !access(word, F_OK))
		return report_add(r, word, 0, error, size);
	*equals = 0;
	return report_add(r, equals + 1, word, error, size);
}

int report_command(int argc, char **argv)
{
	static struct report report;
	const char *path = 0;
	char error[400];
	int status = EXIT_ERROR, files = 0;

	for (int i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return report_usage(stdout);
		if (!strcmp(argv[i], "-o") && i + 1 < argc) {
			path = argv[++i];
			continue;
		}
		if (argv[i][0] == '-') {
			log_error("report: %s: no such option, or its FILE is missing (see trifold report --help)", argv[i]);
			goto out;
		}
		if (!report_argument(&report, argv[i], error, sizeof(error))) {
			log_error("report: %s", error);
			goto out;
		}
		files++;
	}
	if (!files)
		log_error("report: no FILE of a run (see trifold report --help)");
	else if (!path && isatty(STDOUT_FILENO))
		log_error("report: say where the page goes: -o PAGE.html");
	else {
		report_finish(&report);
		status = report_write(&report, path);
	}
out:
	report_free(&report);
	return status;
}
