/*
 * report.h - what measured programs print, and bench/lib/session.py reads.
 *
 *	bench-clock begin NS			first and last: the host finds out how fast this system's clock runs
 *	bench-begin NAME
 *	bench-end NAME WALL-NS CPU-NS CHECKSUM
 *	bench-skip NAME				this system cannot run it
 *	bench-fail TEXT
 *
 * The host samples the CPU clock of the whole virtual machine when it sees a line; a pause after each keeps work out of the time that the
 * host needs to notice. Natively, the CPU time is this process's own and that of the children it has waited for.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdint.h>

/* A guest has one processor; natively, too, all of an item runs on one: whichever is free now. Children inherit it. */
void stay_on_one_cpu(void);

void report_clock(const char *when);
void report_begin(const char *name);
void report_end(const char *name, uint64_t checksum);
void report_skip(const char *name);

/* Says what failed, with errno's text, and ends the program. */
_Noreturn void fail(const char *what);

#endif
