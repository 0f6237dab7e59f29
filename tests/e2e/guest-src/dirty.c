/*
 * dirty.c - `dirty MIB SECONDS`: takes that much memory, says so, then writes to every second page of it, over and over.
 */
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>
#include "check.h"

#define PAGE 4096

int main(int argc, char **argv)
{
	size_t size = strtoull(argc > 1 ? argv[1] : "1", NULL, 0) << 20;
	time_t end = time(NULL) + (argc > 2 ? atol(argv[2]) : 1);
	volatile uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	/* 4 KiB pages: then the guest's walks set A and D bits in tables of their own only. */
	CHECK(!madvise((void *)p, size, MADV_NOHUGEPAGE));
	for (size_t i = 0; i < size; i += PAGE)
		p[i] = 1;
	printf("dirty: %zu pages\n", size / PAGE);
	fflush(stdout);
	while (time(NULL) < end) {
		for (size_t i = 0; i < size; i += 2 * PAGE)
			p[i]++;
		/* Rests, so that whoever looks on has the processor as well. */
		nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
	}
	return 0;
}
