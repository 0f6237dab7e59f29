/*
 * cpu.h - the items of the set cpu, by file; cpu_items.c names them.
 */
#ifndef BENCH_CPU_H
#define BENCH_CPU_H

#include <stdint.h>

/* cpu_integer.c */
uint64_t cpu_alu(unsigned turns);
uint64_t cpu_divide(unsigned turns);
uint64_t cpu_hash(unsigned turns);
uint64_t cpu_sort(unsigned turns);
uint64_t cpu_sha256(unsigned turns);
uint64_t cpu_crc32(unsigned turns);
uint64_t cpu_branchy(unsigned turns);
uint64_t cpu_tree(unsigned turns);
uint64_t cpu_bytes(unsigned turns);

/* cpu_memory.c */
uint64_t cpu_chase_16k(unsigned turns);
uint64_t cpu_chase_256k(unsigned turns);
uint64_t cpu_chase_4m(unsigned turns);
uint64_t cpu_chase_64m(unsigned turns);
void cpu_chase_prepare_16k(void);
void cpu_chase_prepare_256k(void);
void cpu_chase_prepare_4m(void);
void cpu_chase_prepare_64m(void);
uint64_t cpu_rep_movs_64(unsigned turns);
uint64_t cpu_rep_movs_4k(unsigned turns);
uint64_t cpu_rep_stos_4k(unsigned turns);
uint64_t cpu_memcpy_32(unsigned turns);
uint64_t cpu_memcpy_4k(unsigned turns);
uint64_t cpu_memcpy_1m(unsigned turns);
uint64_t cpu_strings(unsigned turns);

/* cpu_calls.c */
uint64_t cpu_fib(unsigned turns);
uint64_t cpu_virtual(unsigned turns);
uint64_t cpu_switch(unsigned turns);
uint64_t cpu_threaded(unsigned turns);

/* cpu_big.c */
uint64_t cpu_big_code(unsigned turns);

/* cpu_float.c */
uint64_t cpu_matrix(unsigned turns);
uint64_t cpu_bodies(unsigned turns);
uint64_t cpu_sse(unsigned turns);
uint64_t cpu_avx2(unsigned turns);
int cpu_has_avx2(void);

#endif
