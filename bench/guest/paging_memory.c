/*
 * paging_memory.c - resident memory that is larger than TLBs reach, and mappings that move.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>
#include "item.h"
#include "kernel.h"
#include "paging.h"

#define PAGE 4096ul
#define LARGE (512 * PAGE)
#define RESIDENT (128ul << 20)
#define FAR_PAGES 8000ul
#define TOUCHES 20000u

static char *small, *large, *far;

static char *map_at_large(unsigned long bytes, int flags)
{
	char *p = mmap(NULL, bytes + LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	if (p == MAP_FAILED)
		fail("mmap");
	return (char *)(((unsigned long)p + LARGE - 1) & -LARGE);
}

static void fill(char *p, unsigned long n, unsigned long stride)
{
	for (unsigned long i = 0; i < n; i++)
		p[i * stride] = (char)i;
}

void paging_prepare_small(void)
{
	if (small)
		return;
	small = map_at_large(RESIDENT, 0);
	madvise(small, RESIDENT, MADV_NOHUGEPAGE);
	fill(small, RESIDENT / PAGE, PAGE);
}

void paging_prepare_large(void)
{
	if (large)
		return;
	large = map_at_large(RESIDENT, 0);
	madvise(large, RESIDENT, MADV_HUGEPAGE);
	fill(large, RESIDENT / PAGE, PAGE);
}

/* One page in each 2 MiB, so that every page has a page table of its own. */
void paging_prepare_far(void)
{
	if (far)
		return;
	far = map_at_large(FAR_PAGES * LARGE, MAP_NORESERVE);
	madvise(far, FAR_PAGES * LARGE, MADV_NOHUGEPAGE);
	fill(far, FAR_PAGES, LARGE);
}

static uint64_t touch(const volatile char *p, unsigned long n, unsigned long stride, unsigned turns)
{
	uint64_t sum = 0;
	for (uint64_t t = 0; t < (uint64_t)turns * TOUCHES; t++)
		sum += (uint64_t)p[next_random() % n * stride];
	return sum;
}

uint64_t paging_touch_small(unsigned turns) { return touch(small, RESIDENT / PAGE, PAGE, turns); }
uint64_t paging_touch_large(unsigned turns) { return touch(large, RESIDENT / PAGE, PAGE, turns); }
uint64_t paging_touch_far(unsigned turns) { return touch(far, FAR_PAGES, LARGE, turns); }

/* 64 pages change their address and are read there. */
uint64_t paging_mremap(unsigned turns)
{
	const unsigned long bytes = 64 * PAGE;
	char *place = mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t sum = 0;

	if (place == MAP_FAILED || p == MAP_FAILED)
		fail("mmap");
	fill(p, 64, PAGE);
	for (unsigned t = 0; t < turns; t++) {
		p = mremap(p, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, place + (t & 1) * bytes);
		if (p == MAP_FAILED)
			fail("mremap");
		for (unsigned i = 0; i < 64; i++)
			sum += (uint64_t)((volatile char *)p)[i * PAGE];
	}
	munmap(place, 2 * bytes);
	return sum;
}

/* One page at a time, each in a gigabyte of its own: page tables come and go with it. */
uint64_t paging_mmap_sparse(unsigned turns)
{
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++) {
		char *at = (char *)0x100000000000ul + ((unsigned long)(t % 64) << 30);
		char *p = mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		if (p == MAP_FAILED)
			fail("mmap");
		*(volatile char *)p = (char)t;
		sum += (uint64_t)*(volatile char *)p;
		munmap(p, PAGE);
	}
	return sum;
}
