/*
 * tune.h - switches of `--tune NAME=on|off`: optimizations and policies that can be turned off for measuring and for
 * hunting bugs. Never needed for correct use. One row each in tune.c; a new switch is an id here and a row there.
 *
 * The VM's choice hangs off struct memory (memory->tune), which everything on the run path can reach. Without one
 * (unit tests) a switch has its default.
 */
#ifndef BASE_TUNE_H
#define BASE_TUNE_H

#include "base/base.h"

enum tune_id {
	TUNE_CONSOLE_BUFFER,
	TUNE_PRECISE_FLAGS,
	TUNE_LINK,
	TUNE_JUMP_TABLE,
	TUNE_JUMP_VICTIM,
	TUNE_JUMP_WIDE,
	TUNE_FIXED_JUMPS,
	TUNE_COMPACT_JUMPS,
	TUNE_COMPACT_MISSES,
	TUNE_SECOND_PLACES,
	TUNE_GROUP_STACK,
	TUNE_SPANS,
	TUNE_WINDOWS,
	TUNE_ALL_WINDOWS,
	TUNE_GATHER,
	TUNE_PREFETCH,
	TUNE_CUT_BLOCKS,
	TUNE_CODE32,
	TUNE_SHARE_BLOCKS,
	TUNE_INLINE_SYSCALL,
	TUNE_INLINE_IRET,
	TUNE_INLINE_STRING,
	TUNE_CROSSING_STATE,
	TUNE_COUNT_BLOCKS,
	TUNE_FETCH_SETS,
	TUNE_EVICT,
	TUNE_SMALL_CACHE,
	TUNE_COUNT
};

struct tune { bool on[TUNE_COUNT]; };
struct tune_row { const char *name; bool by_default; const char *help; };
extern const struct tune_row tune_rows[TUNE_COUNT];

void tune_defaults(struct tune *tune);
/* "NAME=on" or "NAME=off". 0, or -EINVAL with nothing changed. */
int tune_parse(struct tune *tune, const char *text);

static inline bool tune_on(const struct tune *tune, enum tune_id id)
{
	return tune ? tune->on[id] : tune_rows[id].by_default;
}

#endif
