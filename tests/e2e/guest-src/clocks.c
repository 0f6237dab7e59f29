/*
 * clocks.c - `clocks SECONDS`: prints its clocks a few times, sleeps, prints them again. The host notes when each line comes; of several, some come at once.
 */
#include <time.h>
#include "check.h"

#define MARKS 8

static void show(const char *when)
{
	const struct timespec between = { 0, 60000000 };
	struct timespec m, r;

	for (unsigned i = 0; i < MARKS; i++) {
		nanosleep(&between, NULL);
		clock_gettime(CLOCK_MONOTONIC, &m);
		clock_gettime(CLOCK_REALTIME, &r);
		printf("clock %s %lld.%09ld %lld.%09ld\n", when, (long long)m.tv_sec, m.tv_nsec, (long long)r.tv_sec, r.tv_nsec);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	struct timespec pause = { atol(argc > 1 ? argv[1] : "1"), 0 };
	struct timespec before, after;
	show("begin");
	clock_gettime(CLOCK_MONOTONIC, &before);
	nanosleep(&pause, NULL);
	clock_gettime(CLOCK_MONOTONIC, &after);
	show("end");
	/* Time never runs backwards, whoever is asked. */
	for (int i = 0; i < 100000; i++) {
		before = after;
		clock_gettime(CLOCK_MONOTONIC, &after);
		CHECK(after.tv_sec > before.tv_sec || (after.tv_sec == before.tv_sec && after.tv_nsec >= before.tv_nsec));
	}
	return 0;
}
