/*
 * touch-memory.c - `touch-memory MIB`: writes a pattern to that much memory, in two passes, and reads it back.
 */
#include <stdint.h>
#include <sys/mman.h>
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = (size_t)atol(argc > 1 ? argv[1] : "1") << 20;
	uint64_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < size / 8; i += 64)
			p[i + i / 64 % 64] = i ^ (pass ? ~0ul : 0);
		for (size_t i = 0; i < size / 8; i += 64)
			CHECK(p[i + i / 64 % 64] == (i ^ (pass ? ~0ul : 0)));
	}
	printf("touch-memory: %zu MiB hold what was written\n", size >> 20);
	return 0;
}
