/*
 * kernel.h - the items of the set kernel, by file; kernel_items.c names them.
 */
#ifndef BENCH_KERNEL_H
#define BENCH_KERNEL_H

#include <stdint.h>
#include <sys/types.h>

/* kernel_calls.c */
uint64_t kernel_null(unsigned turns);
uint64_t kernel_read_zero(unsigned turns);
uint64_t kernel_write_null(unsigned turns);
uint64_t kernel_clock_call(unsigned turns);
uint64_t kernel_clock_vdso(unsigned turns);
uint64_t kernel_poll(unsigned turns);
uint64_t kernel_signal(unsigned turns);
uint64_t kernel_segv(unsigned turns);

/* kernel_switch.c */
uint64_t kernel_pipe(unsigned turns);
uint64_t kernel_pipe_switch(unsigned turns);
uint64_t kernel_socket_switch(unsigned turns);
uint64_t kernel_thread_switch(unsigned turns);
uint64_t kernel_sleep(unsigned turns);

/* kernel_process.c */
uint64_t kernel_fork(unsigned turns);
uint64_t kernel_vfork(unsigned turns);
uint64_t kernel_exec_static(unsigned turns);
uint64_t kernel_exec_dynamic(unsigned turns);
uint64_t kernel_threads(unsigned turns);
/* Waits for what fork() returned; the exit status of the child, or 1000. */
uint64_t kernel_status_of(pid_t pid);

/* kernel_memory.c */
uint64_t kernel_fault_zero(unsigned turns);
uint64_t kernel_fault_copy(unsigned turns);
uint64_t kernel_fault_file(unsigned turns);
uint64_t kernel_mprotect(unsigned turns);
uint64_t kernel_mmap(unsigned turns);
uint64_t kernel_big_pages(unsigned turns);

/* kernel_files.c */
uint64_t kernel_open(unsigned turns);
uint64_t kernel_stat(unsigned turns);
uint64_t kernel_create(unsigned turns);
uint64_t kernel_list(unsigned turns);
uint64_t kernel_file_io(unsigned turns);
/* A file in work_dir that has no name any more. */
int kernel_open_nameless(void);

#endif
