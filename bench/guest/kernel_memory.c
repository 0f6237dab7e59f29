/*
 * kernel_memory.c - page faults and changes of mappings.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>
#include "item.h"
#include "kernel.h"

enum { PAGE = 4096, PAGES = 256 };

static char *map_pages(int protection, int flags, int fd)
{
	char *p = mmap(NULL, PAGES * PAGE, protection, flags, fd, 0);
	if (p == MAP_FAILED)
		fail("mmap");
	return p;
}

static uint64_t touch(volatile char *p, int writes)
{
	uint64_t sum = 0;
	for (int i = 0; i < PAGES; i++)
		sum += (uint64_t)(writes ? ++p[i * PAGE] : p[i * PAGE]);
	return sum;
}

/* 256 fresh pages, read and then written: the zero page comes first, a page of its own second. 1 MiB, so that no large page serves. */
uint64_t kernel_fault_zero(unsigned turns)
{
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++) {
		char *p = map_pages(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		sum += touch(p, 1);
		munmap(p, PAGES * PAGE);
	}
	return sum;
}

/* A child writes 256 pages that it shares with its parent: copies on write. */
uint64_t kernel_fault_copy(unsigned turns)
{
	char *p = map_pages(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint64_t sum = touch(p, 1);
	for (unsigned t = 0; t < turns; t++) {
		pid_t pid = fork();
		if (!pid)
			_exit((int)(touch(p, 1) & 63));
		sum += kernel_status_of(pid);
	}
	munmap(p, PAGES * PAGE);
	return sum;
}

static int open_file(void)
{
	int fd = kernel_open_nameless();
	if (ftruncate(fd, PAGES * PAGE))
		fail("ftruncate");
	return fd;
}

/* 256 pages of a file that is in the page cache, read through a mapping. */
uint64_t kernel_fault_file(unsigned turns)
{
	int fd = open_file();
	uint64_t sum = 0;
	char *all = map_pages(PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	touch(all, 1);
	for (unsigned t = 0; t < turns; t++) {
		char *p = map_pages(PROT_READ, MAP_SHARED, fd);
		sum += touch(p, 0);
		munmap(p, PAGES * PAGE);
	}
	munmap(all, PAGES * PAGE);
	close(fd);
	return sum;
}

/* Protection of 16 present pages taken away and given back, one of them written between. */
uint64_t kernel_mprotect(unsigned turns)
{
	char *p = map_pages(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint64_t sum = touch(p, 1);
	for (unsigned t = 0; t < turns; t++) {
		if (mprotect(p, 16 * PAGE, PROT_READ) || mprotect(p, 16 * PAGE, PROT_READ | PROT_WRITE))
			fail("mprotect");
		sum += (uint64_t)(unsigned char)++*(volatile char *)(p + t % 16 * PAGE);
	}
	munmap(p, PAGES * PAGE);
	return sum;
}

/* Mapped, one page touched, unmapped. */
uint64_t kernel_mmap(unsigned turns)
{
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++) {
		char *p = map_pages(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		sum += (uint64_t)++*(volatile char *)(p + t % PAGES * PAGE);
		munmap(p, PAGES * PAGE);
	}
	return sum;
}

/*
 * 8 MiB of large pages: aligned, since old kernels do not see to that, and written before they are read, since a read maps the large zero
 * page, which those kernels split into small pages when it is written.
 */
uint64_t kernel_big_pages(unsigned turns)
{
	enum { LARGE = 2 << 20, SIZE = 4 * LARGE };
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++) {
		char *all = mmap(NULL, SIZE + LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (all == MAP_FAILED)
			fail("mmap");
		volatile char *p = (char *)(((uintptr_t)all + LARGE - 1) & -(uintptr_t)LARGE);
		madvise((void *)p, SIZE, MADV_HUGEPAGE);
		for (int i = 0; i < SIZE; i += PAGE) {
			p[i] = 1;
			sum += (uint64_t)p[i];
		}
		munmap(all, SIZE + LARGE);
	}
	return sum;
}
