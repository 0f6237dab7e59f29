/*
 * trace.h - `--trace FILE`: what the vcpu did and met, as it happened, in a file for Perfetto (docs/trace.md).
 *
 * Lifecycle: vm_trace_create when the vcpus exist (refuses what cannot be written), vm_trace_start before they run, vm_trace_finish after they have
 * stopped. In between a thread of its own, the only one that may have to wait for the file, takes events from the rings and writes them;
 * what it cannot keep up with is lost, and counted, in the ring.
 */
#ifndef VM_TRACE_H
#define VM_TRACE_H

#include "vm/vm.h"

/* 0, or -errno with one clear line in error. */
int vm_trace_create(struct vm *vm, char *error, size_t error_size);
int vm_trace_start(struct vm *vm);
void vm_trace_finish(struct vm *vm);	/* also if it never started */
void vm_trace_destroy(struct vm *vm);

#endif
