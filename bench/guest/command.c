/*
 * command.c - bench-command NAME PROGRAM ARGUMENT...: runs a program and reports it as an item; the checksum is of what it wrote to standard output.
 * `bench-command --clock begin` (or end) prints the clock, `bench-command --skip NAME` says that there is no such item.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "report.h"

static uint64_t run(char **argv)
{
	static unsigned char buffer[65536];
	uint64_t sum = 0xcbf29ce484222325;
	int ends[2], status;
	ssize_t n;
	if (pipe(ends))
		fail("pipe");
	pid_t pid = fork();
	if (pid < 0)
		fail("fork");
	if (!pid) {
		dup2(ends[1], 1);
		close(ends[0]), close(ends[1]);
		execvp(argv[0], argv);
		_exit(127);
	}
	close(ends[1]);
	while ((n = read(ends[0], buffer, sizeof buffer)) > 0)
		for (ssize_t i = 0; i < n; i++)
			sum = (sum ^ buffer[i]) * 0x100000001b3;
	close(ends[0]);
	waitpid(pid, &status, 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		printf("bench-fail %s: wait status %#x\n", argv[0], (unsigned)status);
		fflush(stdout);
		_exit(2);
	}
	return sum;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--clock")) {
		report_clock(argv[2]);
	} else if (argc == 3 && !strcmp(argv[1], "--skip")) {
		report_skip(argv[2]);
	} else if (argc >= 3) {
		stay_on_one_cpu();
		report_begin(argv[1]);
		report_end(argv[1], run(argv + 2));
	} else {
		return 2;
	}
	return 0;
}
