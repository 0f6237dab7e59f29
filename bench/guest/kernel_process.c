/*
 * kernel_process.c - processes and threads that start and end.
 */
#define _GNU_SOURCE
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "item.h"
#include "kernel.h"

uint64_t kernel_status_of(pid_t pid)
{
	int status;
	if (pid < 0)
		fail("fork");
	if (waitpid(pid, &status, 0) != pid)
		fail("waitpid");
	return WIFEXITED(status) ? (uint64_t)WEXITSTATUS(status) : 1000;
}

uint64_t kernel_fork(unsigned turns)
{
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++) {
		pid_t pid = fork();
		if (!pid)
			_exit((int)(t & 63));
		sum += kernel_status_of(pid);
	}
	return sum;
}

uint64_t kernel_vfork(unsigned turns)
{
	volatile uint64_t sum = 0;
	for (volatile unsigned t = 0; t < turns; t++) {
		pid_t pid = vfork();
		if (!pid)
			_exit((int)(t & 63));
		sum += kernel_status_of(pid);
	}
	return sum;
}

/* NAME lies beside this program. */
static uint64_t run_program(unsigned turns, const char *name)
{
	char self[PATH_MAX], path[PATH_MAX + 64];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	if (n < 0)
		fail("/proc/self/exe");
	self[n] = 0;
	snprintf(path, sizeof path, "%s/%s", dirname(self), name);
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++) {
		pid_t pid = fork();
		if (!pid) {
			execl(path, name, "5", (char *)NULL);
			_exit(99);
		}
		sum += kernel_status_of(pid);
	}
	return sum;
}

uint64_t kernel_exec_static(unsigned turns) { return run_program(turns, "bench-exit-static"); }
uint64_t kernel_exec_dynamic(unsigned turns) { return run_program(turns, "bench-exit"); }

static void *add_one(void *sum)
{
	++*(uint64_t *)sum;
	return NULL;
}

uint64_t kernel_threads(unsigned turns)
{
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, add_one, &sum))
			fail("pthread_create");
		pthread_join(thread, NULL);
	}
	return sum;
}
