/*
 * report.c - the lines that measured programs print, and the clocks that they read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "report.h"

enum { PAUSE_US = 10000 };
static uint64_t cpu_begin, wall_begin;

static uint64_t wall_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t cpu_ns(void)
{
	uint64_t sum = 0;
	for (int i = 0; i < 2; i++) {
		struct rusage u;
		getrusage(i ? RUSAGE_CHILDREN : RUSAGE_SELF, &u);
		sum += (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 + (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
	}
	return sum;
}

void stay_on_one_cpu(void)
{
	cpu_set_t set;
	memset(&set, 0xff, sizeof set);
	sched_setaffinity(0, sizeof set, &set);
	sched_yield();
	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	sched_setaffinity(0, sizeof set, &set);
}

void report_clock(const char *when)
{
	printf("bench-clock %s %llu\n", when, (unsigned long long)wall_ns());
	fflush(stdout);
}

void report_begin(const char *name)
{
	printf("bench-begin %s\n", name);
	fflush(stdout);
	usleep(PAUSE_US);
	cpu_begin = cpu_ns();
	wall_begin = wall_ns();
}

void report_end(const char *name, uint64_t checksum)
{
	uint64_t wall = wall_ns() - wall_begin, cpu = cpu_ns() - cpu_begin;
	printf("bench-end %s %llu %llu %llx\n", name, (unsigned long long)wall, (unsigned long long)cpu, (unsigned long long)checksum);
	fflush(stdout);
	usleep(PAUSE_US);
}

void report_skip(const char *name)
{
	printf("bench-skip %s\n", name);
	fflush(stdout);
}

void fail(const char *what)
{
	printf("bench-fail %s: %s\n", what, strerror(errno));
	fflush(stdout);
	_exit(2);
}
