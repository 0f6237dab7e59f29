/*
 * main.c - the command line's first word.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "ui/ctl.h"
#include "ui/report.h"
#include "ui/run.h"

#define TRIFOLD_VERSION "0.1"

static int main_help(int argc, char **argv);

static int main_version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	puts("trifold " TRIFOLD_VERSION);
	return fflush(stdout) ? EXIT_ERROR : 0;
}

static const struct command {
	const char *name, *alias;
	int (*main)(int argc, char **argv);
	const char *help;
} commands[] = {
	{ "run", 0, run_command, "boot a kernel (trifold run --help lists the options)" },
	{ "ctl", 0, ctl_command, "ask a running VM (trifold ctl --help)" },
	{ "report", 0, report_command, "compare runs on a page, from --stats and --trace (trifold report --help)" },
	{ "help", "--help", main_help, "print this" },
	{ "version", "--version", main_version, "print the version" },
};

static int main_help(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	puts("Trifold runs whole x86-64 operating systems in one unprivileged process.\n\nusage: trifold COMMAND [OPTION...]\n");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].help);
	return fflush(stdout) ? EXIT_ERROR : 0;
}

/* A caller may have closed standard descriptors; what we open later must not be taken for them. */
static bool main_open_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	return fd >= 0 && !close(fd);
}

int main(int argc, char **argv)
{
	if (!main_open_standard())
		return EXIT_ERROR;
	log_catch_fatal_signals();
	if (argc < 2)
		return main_help(0, 0);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (!strcmp(argv[1], commands[i].name) || (commands[i].alias && !strcmp(argv[1], commands[i].alias)))
			return commands[i].main(argc - 2, argv + 2);
	log_error("unknown command %s (see trifold help)", argv[1]);
	return EXIT_ERROR;
}
