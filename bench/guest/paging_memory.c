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
#define RESIDENT (128ul << 20)	/* as much as Trifold's TLB reaches, both levels */
#define WIDE (256ul << 20)
#define FAR_PAGES 8000ul
#define TOUCHES 20000u

/* What the item at hand reads, and the mapping that it lies in. */
static struct { char *map, *at; unsigned long bytes; } area;

static void fill(unsigned long n, unsigned long stride)
{
	for (unsigned long i = 0; i < n; i++)
		area.at[i * stride] = (char)i;
}

static void prepare(unsigned long pages, unsigned long stride, int advice)
{
	area.bytes = pages * stride + LARGE;
	area.map = mmap(NULL, area.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area.map == MAP_FAILED)
		fail("mmap");
	area.at = (char *)(((unsigned long)area.map + LARGE - 1) & -LARGE);
	madvise(area.at, pages * stride, advice);
	fill(pages, stride);
}

void paging_prepare_small(void) { prepare(RESIDENT / PAGE, PAGE, MADV_NOHUGEPAGE); }
void paging_prepare_wide(void) { prepare(WIDE / PAGE, PAGE, MADV_NOHUGEPAGE); }
void paging_prepare_large(void) { prepare(RESIDENT / PAGE, PAGE, MADV_HUGEPAGE); }
/* One page in each 2 MiB, so that every page has a page table of its own. */
void paging_prepare_far(void) { prepare(FAR_PAGES, LARGE, MADV_NOHUGEPAGE); }
void paging_release(void) { munmap(area.map, area.bytes); }

static uint64_t touch(unsigned long n, unsigned long stride, unsigned turns)
{
	const volatile char *p = area.at;
	uint64_t sum = 0;
	for (uint64_t t = 0; t < (uint64_t)turns * TOUCHES; t++)
		sum += (uint64_t)p[next_random() % n * stride];
	return sum;
}

uint64_t paging_touch_pages(unsigned turns) { return touch(RESIDENT / PAGE, PAGE, turns); }
uint64_t paging_touch_wide(unsigned turns) { return touch(WIDE / PAGE, PAGE, turns); }
uint64_t paging_touch_far(unsigned turns) { return touch(FAR_PAGES, LARGE, turns); }

/* 64 pages change their address and are read there. */
uint64_t paging_mremap(unsigned turns)
{
	const unsigned long bytes = 64 * PAGE;
	char *place = mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t sum = 0;

	if (place == MAP_FAILED || p == MAP_FAILED)
		fail("mmap");
	for (unsigned i = 0; i < 64; i++)
		p[i * PAGE] = (char)i;
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
