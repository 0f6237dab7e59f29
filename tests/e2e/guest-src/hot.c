/*
 * hot.c - spends its time in one function of its own, for the profile test.
 */
#include <stdio.h>
#include <time.h>

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

__attribute__((noinline)) static unsigned hot_user_loop(unsigned x)
{
	for (unsigned i = 0; i < 2000000; i++)
		x = x * 1664525u + 1013904223u + (x >> 16);
	return x;
}

int main(void)
{
	unsigned x = 1;

	for (const double end = seconds() + 1; seconds() < end;)
		x = hot_user_loop(x);
	printf("hot %u\n", x & 1);
	return 0;
}
