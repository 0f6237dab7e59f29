/*
 * tune.c - the table of switches.
 */
#include "base/tune.h"

#include <errno.h>
#include <string.h>

const struct tune_row tune_rows[TUNE_COUNT] = {
	[TUNE_CONSOLE_BUFFER] = { "console-buffer", true, "gather console output for a moment before writing it" },
	[TUNE_PRECISE_FLAGS] = { "precise-flags", false, "keep arithmetic flags exact at every fault, dead ones too (slower)" },
	[TUNE_LINK] = { "link", true, "jump directly between translated blocks of a page" },
	[TUNE_COUNT_BLOCKS] = { "count-blocks", false, "count every translated block that runs, not just entries from C (slower)" },
	[TUNE_GROUP_STACK] = { "group-stack", true, "check the stack once for a run of pushes or pops" },
	[TUNE_SPANS] = { "spans", true, "look up once for several accesses off the same registers" },
	[TUNE_WINDOWS] = { "windows", true, "user code that takes much time tries the run of pages that it used last before level 1 of the TLB" },
	[TUNE_ALL_WINDOWS] = { "all-windows", false, "all user code does, from the start (slower)" },
	[TUNE_GATHER] = { "gather", true, "move pages that such code uses side by side to frames side by side" },
	[TUNE_PREFETCH] = { "prefetch", true, "carry the guest's prefetches out, as far as level 1 of the TLB has their pages" },
	[TUNE_CUT_BLOCKS] = { "cut-blocks", true, "end a block where it runs into another, rather than translate that again" },
	[TUNE_CODE32] = { "code32", true, "translate 32-bit code with flat segments" },
	[TUNE_SHARE_BLOCKS] = { "share-blocks", true, "translate a page of user code once for all addresses that it is mapped at" },
	[TUNE_INLINE_SYSCALL] = { "inline-syscall", true, "do SYSCALL and SYSRET without leaving generated code" },
	[TUNE_INLINE_IRET] = { "inline-iret", true, "do a 64-bit kernel's IRETQ without leaving generated code" },
	[TUNE_INLINE_STRING] = { "inline-string", true, "copy and fill within a page without a call of C" },
	[TUNE_CROSSING_STATE] = { "crossing-state", true, "save and restore FPU state that lies in two pages without leaving generated code" },
	[TUNE_JUMP_TABLE] = { "jump-table", true, "find targets across pages and of indirect jumps without leaving generated code" },
	[TUNE_FETCH_SETS] = { "fetch-sets", true, "when SVM's guests are flushed, see whether the code that they ran is where it was" },
	[TUNE_EVICT] = { "evict", true, "drop a part of a full code cache, rather than all of it" },
	[TUNE_SMALL_CACHE] = { "small-cache", false, "a code cache of 8 MiB, which is full all the time (for tests)" },
	[TUNE_JUMP_VICTIM] = { "jump-victim", true, "keep an entry of the jump table that a new one displaces" },
	[TUNE_FIXED_JUMPS] = { "fixed-jumps", true, "a kernel's jumps to other pages know where their entry of the jump table is" },
	[TUNE_COMPACT_JUMPS] = { "compact-jumps", true, "user code that takes little time shares the look-ups of its jumps, calls and returns" },
	[TUNE_COMPACT_MISSES] = { "compact-misses", true, "a block's look-ups in level 1 of the TLB share the code of their misses" },
	[TUNE_SECOND_PLACES] = { "second-places", true, "what a large set of level 1 of the TLB displaces goes to a place elsewhere in the set" },
	[TUNE_JUMP_WIDE] = { "jump-wide", true, "look what a context's jump table has lost up in a wider one of all contexts" },
};

void tune_defaults(struct tune *tune)
{
	for (size_t i = 0; i < TUNE_COUNT; i++)
		tune->on[i] = tune_rows[i].by_default;
}

int tune_parse(struct tune *tune, const char *text)
{
	const char *eq = strchr(text, '=');

	if (!eq || (strcmp(eq, "=on") && strcmp(eq, "=off")))
		return -EINVAL;
	for (size_t i = 0; i < TUNE_COUNT; i++) {
		if (strlen(tune_rows[i].name) == (size_t)(eq - text) && !strncmp(tune_rows[i].name, text, (size_t)(eq - text))) {
			tune->on[i] = !strcmp(eq, "=on");
			return 0;
		}
	}
	return -EINVAL;
}
