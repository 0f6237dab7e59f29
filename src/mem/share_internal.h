/*
 * share_internal.h - what the search for equal pages (share_scan.c) keeps; share.c makes room for it.
 */
#ifndef MEM_SHARE_INTERNAL_H
#define MEM_SHARE_INTERNAL_H

#include <stdint.h>

/* Of a page's contents. share_scan.c */
uint64_t share_sum(const void *page);

/* A page whose contents had this sum when it was put here: a guess, to be compared. Its bucket is chosen by other bits of the sum. */
struct share_slot { uint32_t gfn_plus_1, tag; };
#define SHARE_WAYS 4u

#endif
