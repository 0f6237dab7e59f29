/*
 * hot.c - spends its time in one function of its own, for the profile test: a fixed amount of work, so that a busy host does not shrink it.
 */
#include <stdio.h>

__attribute__((noinline)) static unsigned hot_user_loop(unsigned x)
{
	for (unsigned i = 0; i < 2000000; i++)
		x = x * 1664525u + 1013904223u + (x >> 16);
	return x;
}

int main(void)
{
	unsigned x = 1;

	for (int i = 0; i < 300; i++)
		x = hot_user_loop(x);
	printf("hot %u\n", x & 1);
	return 0;
}
