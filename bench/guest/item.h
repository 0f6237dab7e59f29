/*
 * item.h - what a set of measured items offers the driver (driver.c).
 *
 * An item does a fixed amount of work for its number of turns and returns a checksum that must be the same on every system. Its turns
 * are chosen so that a run takes some tenths of a second natively; the driver multiplies them by --scale.
 */
#ifndef BENCH_ITEM_H
#define BENCH_ITEM_H

#include <stdint.h>
#include "report.h"

struct item {
	const char *name;
	uint64_t (*run)(unsigned turns);
	unsigned turns;
	void (*prepare)(void);	/* before the clock runs; NULL: nothing */
	void (*release)(void);	/* after it stopped: what prepare() took, so that other items find the machine as it was; NULL: nothing */
	int (*can_run)(void);	/* NULL: everywhere */
};

/* Ends with a name of NULL. */
extern const struct item items[];

/* xorshift64, seeded afresh before each item. */
uint64_t next_random(void);

/* Where items may make files; a tmpfs. */
extern const char *work_dir;

#endif
