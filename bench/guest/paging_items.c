/*
 * paging_items.c - the set paging: what the ways to virtualize memory differ in.
 */
#include <stddef.h>
#include "item.h"
#include "kernel.h"
#include "paging.h"

const struct item items[] = {
	{ .name = "null", .run = kernel_null, .turns = 400000 },
	{ .name = "fork-exit", .run = kernel_fork, .turns = 800 },
	{ .name = "fork-exec", .run = kernel_exec_static, .turns = 200 },
	{ .name = "switch-processes", .run = kernel_pipe_switch, .turns = 20000 },
	{ .name = "switch-threads", .run = kernel_thread_switch, .turns = 20000 },
	{ .name = "fault-zero", .run = kernel_fault_zero, .turns = 100 },
	{ .name = "fault-copy", .run = kernel_fault_copy, .turns = 120 },
	{ .name = "mprotect", .run = kernel_mprotect, .turns = 10000 },
	{ .name = "mremap", .run = paging_mremap, .turns = 4000 },
	{ .name = "mmap-sparse", .run = paging_mmap_sparse, .turns = 10000 },
	{ .name = "touch-small", .run = paging_touch_pages, .turns = 100, .prepare = paging_prepare_small, .release = paging_release },
	{ .name = "touch-wide", .run = paging_touch_wide, .turns = 100, .prepare = paging_prepare_wide, .release = paging_release },
	{ .name = "touch-large", .run = paging_touch_pages, .turns = 100, .prepare = paging_prepare_large, .release = paging_release },
	{ .name = "touch-far", .run = paging_touch_far, .turns = 100, .prepare = paging_prepare_far, .release = paging_release },
	{ .name = NULL },
};
