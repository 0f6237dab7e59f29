/*
 * memory.h - the VM's guest-physical memory: which ranges are RAM, the p2m that maps their frames
 * to machine frames, and access for devices and loaders.
 *
 * Invariants
 *  M1  a p2m leaf maps only frames of RAM regions, and the frame's record names that gfn
 *  M2  no machine frame is mapped twice (until sharing exists)
 *  M3  a RAM page never accessed has no frame
 *
 * The p2m is a radix in NPT format (AMD APM vol. 2, "Nested Paging"): 4 levels of 512 entries, frames in the address field are *machine*
 * frame numbers << 12, P|W|U(|PS at 2 MiB for a wholly backed, contiguous chunk). Table pages live in host memory outside the pool.
 */
#ifndef MEM_MEMORY_H
#define MEM_MEMORY_H

#include "mem/pool.h"
#include "mem/track.h"

#define MEMORY_MAX_REGIONS 8
struct memory_region { uint64_t base, len; }; /* RAM, page aligned, ascending */

struct memory {
	struct pool pool;
	struct track track;
	struct memory_region region[MEMORY_MAX_REGIONS];
	unsigned regions;
	uint64_t *p2m_root;		/* NPT-format top table (host pointer) */
	uint64_t backed;		/* frames in the p2m */
	uint64_t p2m_generation;	/* changes when a present p2m entry changes or goes (not on absent to present) */
	void *lock;			/* pthread_mutex_t: p2m, frame records, shadow tables */
};

/* RAM of `bytes`: [0, 3 GiB) and the rest from 4 GiB up. pool_frames 0 means as many as RAM needs. */
int memory_init(struct memory *mem, uint64_t bytes, enum placement placement, uint64_t seed);
void memory_destroy(struct memory *mem);
bool memory_is_ram(const struct memory *mem, gpa_t p);

enum p2m_result { P2M_MAPPED, P2M_NOT_RAM, P2M_NO_FRAME /* pool exhausted */ };
struct p2m_entry { mfn_t m; uint8_t shift; /* 12 or 21: size of the leaf; m is the frame of p itself */ };
/* The frame behind p, as it stands: false if absent. */
bool p2m_lookup(const struct memory *mem, gpa_t p, struct p2m_entry *out);
/* The same, backing the page on first use (a hidden fault: *fresh set). */
enum p2m_result p2m_back(struct memory *mem, gpa_t p, struct p2m_entry *out, bool *fresh);

/* For loaders and devices: any length, crosses pages, backs lazily, honours tracking. 0 or -EFAULT when a byte is not RAM. */
int memory_read(struct memory *mem, gpa_t p, void *buf, size_t len);
int memory_write(struct memory *mem, gpa_t p, const void *buf, size_t len);

#endif
