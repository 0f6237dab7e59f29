/*
 * cpu_items.c - the set cpu: user-level work that a kernel hardly sees.
 */
#include <stddef.h>
#include "cpu.h"
#include "item.h"

const struct item items[] = {
	{ .name = "alu", .run = cpu_alu, .turns = 250 },
	{ .name = "divide", .run = cpu_divide, .turns = 125 },
	{ .name = "hash", .run = cpu_hash, .turns = 230 },
	{ .name = "qsort", .run = cpu_sort, .turns = 120 },
	{ .name = "sha256", .run = cpu_sha256, .turns = 350 },
	{ .name = "crc32", .run = cpu_crc32, .turns = 1400 },
	{ .name = "branchy", .run = cpu_branchy, .turns = 250 },
	{ .name = "tree", .run = cpu_tree, .turns = 100 },
	{ .name = "bytes", .run = cpu_bytes, .turns = 2000 },
	{ .name = "chase-16k", .run = cpu_chase_16k, .turns = 250, .prepare = cpu_chase_prepare_16k },
	{ .name = "chase-256k", .run = cpu_chase_256k, .turns = 130, .prepare = cpu_chase_prepare_256k },
	{ .name = "chase-4m", .run = cpu_chase_4m, .turns = 200, .prepare = cpu_chase_prepare_4m },
	{ .name = "chase-64m", .run = cpu_chase_64m, .turns = 100, .prepare = cpu_chase_prepare_64m },
	{ .name = "fib", .run = cpu_fib, .turns = 2800 },
	{ .name = "virtual", .run = cpu_virtual, .turns = 90 },
	{ .name = "switch", .run = cpu_switch, .turns = 400 },
	{ .name = "threaded", .run = cpu_threaded, .turns = 500 },
	{ .name = "big-code", .run = cpu_big_code, .turns = 1000 },
	{ .name = "rep-movs-64", .run = cpu_rep_movs_64, .turns = 200 },
	{ .name = "rep-movs-4k", .run = cpu_rep_movs_4k, .turns = 50 },
	{ .name = "rep-stos-4k", .run = cpu_rep_stos_4k, .turns = 60 },
	{ .name = "memcpy-32", .run = cpu_memcpy_32, .turns = 500 },
	{ .name = "memcpy-4k", .run = cpu_memcpy_4k, .turns = 150 },
	{ .name = "memcpy-1m", .run = cpu_memcpy_1m, .turns = 1500 },
	{ .name = "strings", .run = cpu_strings, .turns = 4000 },
	{ .name = "matrix", .run = cpu_matrix, .turns = 200 },
	{ .name = "bodies", .run = cpu_bodies, .turns = 500 },
	{ .name = "sse", .run = cpu_sse, .turns = 4000 },
	{ .name = "avx2", .run = cpu_avx2, .turns = 4000, .can_run = cpu_has_avx2 },
	{ .name = NULL },
};
