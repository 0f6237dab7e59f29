/*
 * trace_write.h - makes slices of a vcpu's events (base/trace.h): pairs what enters the guest's kernel with what returns from it, and finds the
 * thread of the guest that it was done for. What the tracks and their slices mean: docs/trace.md.
 *
 * Who is who, without help from the guest: a thread is an address space and FS.base, which is the pointer to a thread's own data in every
 * Linux program; it is the same when user code is left and when it is entered again. What interrupts the kernel itself is known by the address
 * of the frame that the processor pushed, which is on that thread's own stack.
 *
 * Memory is bounded: tables of fixed size, in which the newer takes the place of the older (whose slice is then not drawn).
 */
#ifndef VM_TRACE_WRITE_H
#define VM_TRACE_WRITE_H

#include "base/trace.h"
#include "vm/trace_file.h"

struct trace_writer;

/* How a guest address is called, and how far into it it is; 0: not known. May be 0 itself. */
typedef const char *trace_symbol(void *opaque, uint64_t va, bool user, uint64_t *offset);

/* Of vcpu `id`, with tracks of its own. 0: no memory. */
struct trace_writer *trace_writer_create(struct trace_file *file, unsigned id, trace_symbol *symbol, void *opaque);
void trace_writer_event(struct trace_writer *w, const struct trace_event *e);
/* At the end: draws what has not ended. */
void trace_writer_finish(struct trace_writer *w, uint64_t tsc);
void trace_writer_destroy(struct trace_writer *w);

/* trace_names.c: 0 if there is no name. */
const char *trace_syscall_name(uint32_t number);
const char *trace_vector_name(unsigned vector);

#endif
