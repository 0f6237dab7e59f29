/*
 * mmu_fuzz.h - the MMU fuzzer: what its parts share. tables.c edits the guest's tables, access.c accesses memory and judges the answers,
 * events.c does all else that a guest or a monitor does to an MMU.
 */
#ifndef MMU_FUZZ_H
#define MMU_FUZZ_H

#include "model.h"

#define RAM MIB(12)
#define GATHER_PAGES 64		/* of an area */
#define JUMP_CACHE 1024
#define HOT 12
#define TABLES 30		/* guest frames used as tables */

struct fuzz {
	struct memory memory;
	struct mmu mmu;
	struct model model;
	uint64_t random, seed, step;
	enum paging_mode mode;
	enum placement placement;
	struct { uint64_t va, gpa; uint32_t epoch, id; bool valid; } jump[JUMP_CACHE];
	uint64_t hot[HOT];
	unsigned edit_rate, invalidate_rate, cr3_rate, fetch_rate;
	uint64_t mapped, tracked, faults, mmio, probes, windows, seconds, refills, fetches, jumps, edits, foretold, logged, gathers;
	/* The dirty log's model: RAM as it was when the log was last fetched, and the pages that we stored to since. */
	uint8_t *then;
	bool stored[RAM / PAGE_SIZE];
};

static inline uint64_t rnd(struct fuzz *f) { return random_step(&f->random) * 0x2545f4914f6cdd1dull >> 8; }
static inline bool chance(struct fuzz *f, unsigned per_mille) { return rnd(f) % 1000 < per_mille; }
static inline unsigned pick(struct fuzz *f, unsigned n) { return (unsigned)(rnd(f) % n); }

/* Says what is wrong, at which step of which run, and ends with status 1. */
_Noreturn void die(struct fuzz *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* tables.c. The tables are there from tables_fill on; a store is the guest's own or, now and then, a device's. */
uint64_t tables_pa(unsigned i);
uint64_t tables_random_va(struct fuzz *f);
uint64_t tables_random_root(struct fuzz *f);
uint64_t tables_random_page(struct fuzz *f);
uint64_t tables_random_entry(struct fuzz *f, unsigned level);
void tables_store(struct fuzz *f, uint64_t pa, const void *data, unsigned len);
void tables_fill(struct fuzz *f);
void tables_edit(struct fuzz *f);
void tables_repair(struct fuzz *f);

/* access.c */
void access_data(struct fuzz *f);
void access_code(struct fuzz *f);
void access_code_at(struct fuzz *f, uint64_t va, bool user);

/* events.c */
void event_load_cr3(struct fuzz *f);
void event_set_controls(struct fuzz *f, uint64_t cr0, uint64_t cr4, uint64_t efer);
void event_change_controls(struct fuzz *f);
void event_invalidate(struct fuzz *f);
void event_remap(struct fuzz *f);
void event_track_code(struct fuzz *f);
void event_move_page(struct fuzz *f);
void event_gather(struct fuzz *f);
void event_make_room(struct fuzz *f);
void event_share(struct fuzz *f);
void event_discard(struct fuzz *f);
void event_use_log(struct fuzz *f);

#endif
