/*
 * kernel_items.c - the set kernel: what a kernel does for programs. Turns are chosen so that the slower of native and QEMU takes a moment.
 */
#include <stddef.h>
#include "item.h"
#include "kernel.h"

const struct item items[] = {
	{ .name = "null", .run = kernel_null, .turns = 400000 },
	{ .name = "read-zero", .run = kernel_read_zero, .turns = 150000 },
	{ .name = "write-null", .run = kernel_write_null, .turns = 300000 },
	{ .name = "clock-call", .run = kernel_clock_call, .turns = 150000 },
	{ .name = "clock-vdso", .run = kernel_clock_vdso, .turns = 2000000 },
	{ .name = "poll", .run = kernel_poll, .turns = 100000 },
	{ .name = "signal", .run = kernel_signal, .turns = 50000 },
	{ .name = "segv", .run = kernel_segv, .turns = 40000 },
	{ .name = "pipe", .run = kernel_pipe, .turns = 80000 },
	{ .name = "pipe-switch", .run = kernel_pipe_switch, .turns = 20000 },
	{ .name = "socket-switch", .run = kernel_socket_switch, .turns = 20000 },
	{ .name = "thread-switch", .run = kernel_thread_switch, .turns = 20000 },
	{ .name = "sleep", .run = kernel_sleep, .turns = 1000 },
	{ .name = "fork", .run = kernel_fork, .turns = 800 },
	{ .name = "vfork", .run = kernel_vfork, .turns = 3000 },
	{ .name = "exec-static", .run = kernel_exec_static, .turns = 200 },
	{ .name = "exec-dynamic", .run = kernel_exec_dynamic, .turns = 200 },
	{ .name = "threads", .run = kernel_threads, .turns = 4000 },
	{ .name = "fault-zero", .run = kernel_fault_zero, .turns = 100 },
	{ .name = "fault-copy", .run = kernel_fault_copy, .turns = 120 },
	{ .name = "fault-file", .run = kernel_fault_file, .turns = 1500 },
	{ .name = "mprotect", .run = kernel_mprotect, .turns = 10000 },
	{ .name = "mmap", .run = kernel_mmap, .turns = 10000 },
	{ .name = "big-pages", .run = kernel_big_pages, .turns = 150 },
	{ .name = "open", .run = kernel_open, .turns = 30000 },
	{ .name = "stat", .run = kernel_stat, .turns = 50000 },
	{ .name = "create", .run = kernel_create, .turns = 10000 },
	{ .name = "list", .run = kernel_list, .turns = 3000 },
	{ .name = "file-io", .run = kernel_file_io, .turns = 2000 },
	{ .name = NULL },
};
