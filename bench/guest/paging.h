/* paging.h - items of the set paging that are not the set kernel's (paging_memory.c). */
#ifndef BENCH_PAGING_H
#define BENCH_PAGING_H

#include <stdint.h>

void paging_prepare_small(void);
void paging_prepare_wide(void);
void paging_prepare_large(void);
void paging_prepare_far(void);
void paging_release(void);
uint64_t paging_touch_pages(unsigned turns);	/* small or large ones */
uint64_t paging_touch_wide(unsigned turns);
uint64_t paging_touch_far(unsigned turns);
uint64_t paging_mremap(unsigned turns);
uint64_t paging_mmap_sparse(unsigned turns);

#endif
