/*
 * trace.h - what happens on a vcpu, as it happens: a bounded ring of events between the vcpu's thread, which writes them, and the
 * trace's own thread, which makes a file of them (vm/trace.c, docs/trace.md).
 *
 * Without a trace, the pointer to it is 0 and a source costs one test. With one, the vcpu never waits: when the ring is full,
 * events are counted as lost, and the next one that fits is preceded by TRACE_LOST with their number.
 *
 * Single producer (the vcpu's thread, also with guest vector registers live), single consumer.
 *
 * Invariants
 *  R1  head - tail <= TRACE_EVENTS; event[i % TRACE_EVENTS] for i in [tail, head) are the consumer's, the others the producer's
 *  R2  events of one ring are in the order of their tsc; every event that is not in it is in the count of a TRACE_LOST
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdatomic.h>
#include "base/base.h"
#include "base/clock.h"

/*
 * What happened. In the comments: `a`, then `arg`. A span has the tsc of its beginning in arg[0], of its end in tsc.
 * A space is CR3 without its flags, a thread is a space and FS.base.
 */
enum trace_kind {
	TRACE_NONE,
	TRACE_LOST,		/* ; how many */
	TRACE_SYSCALL,		/* number; space, FS.base, where it will return to, instructions of the executor and misses of TLB level 2 so far */
	TRACE_EVENT,		/* trace_event_word; space, FS.base, RIP, address of the frame's RIP, error code, CR2, instructions and misses as above */
	TRACE_RETURN,		/* CPL now (0 in a paravirtualized kernel, in all of these); space, FS.base, RIP, address of IRET's frame or 0, RAX, instructions and misses as above */
	TRACE_PROGRAM,		/* ; space, then its name in bytes */
	TRACE_CR3,		/* 1: keeps the space's entries; the new value, the old one */
	TRACE_FLUSH,		/* offset of its counter in struct mmu_counters; PCID, v */
	TRACE_FAULT,		/* span. access | enum mmu_kind << 16; begin, v, error code or p, counters that counted (2 words), table entries read */
	TRACE_TABLE,		/* span: a store to a shadowed table was followed. length; begin, p, counters that counted (2 words) */
	TRACE_DEVICE,		/* span. size | space << 8 | write << 16; begin, address, value */
	TRACE_IDLE,		/* span; begin */
	TRACE_EXIT,		/* enum exit_kind */
	TRACE_WORK,		/* span: something was done on the vcpu's thread for the monitor; begin */
	TRACE_INSN,		/* an instruction of the executor. length | CPL << 8; RIP, bytes (2 words) */
	TRACE_HYPERCALL,	/* span. number; begin, first argument, result */
	TRACE_KINDS
};

/* What can be asked for apart (--trace-events); names are in vm/trace.c. */
enum trace_category {
	TRACE_CAT_SYSCALL, TRACE_CAT_EXCEPTION, TRACE_CAT_INTERRUPT, TRACE_CAT_FAULT, TRACE_CAT_MISS, TRACE_CAT_TABLE, TRACE_CAT_FLUSH,
	TRACE_CAT_CR3, TRACE_CAT_DEVICE, TRACE_CAT_VMM, TRACE_CAT_EXEC, TRACE_CAT_HYPERCALL, TRACE_CATEGORIES
};

/* TRACE_EVENT's `a`. source: 0 exception, 1 interrupt, 2 software. */
static inline uint32_t trace_event_word(unsigned vector, unsigned source, unsigned from_cpl) { return vector | source << 8 | from_cpl << 12; }

#define TRACE_ARGS 8
struct trace_event { uint64_t tsc; uint32_t kind, a; uint64_t arg[TRACE_ARGS]; };

#define TRACE_EVENTS (1u << 18)
#define TRACE_COUNTER_WORDS 2	/* rows of mmu_stat_rows, a bit each */
struct trace {
	uint32_t wanted;			/* 1 << enum trace_category */
	uint64_t hidden[TRACE_COUNTER_WORDS];	/* which counters mean a hidden fault */
	/* Another space's user code was left, with the state in the vcpu: whose is it? Writes 48 bytes; called as cold code. */
	void (*program)(void *opaque, void *vcpu, char *name);
	void *opaque;
	uint64_t last_space;			/* producer */
	uint64_t lost, lost_all;		/* producer: since the last TRACE_LOST; ever, readable by others */
	struct trace_event *event;
	_Alignas(64) _Atomic uint64_t head;
	_Alignas(64) _Atomic uint64_t tail;
};

static inline bool trace_wants(const struct trace *t, enum trace_category c) { return UNLIKELY(t != NULL) && (t->wanted >> c & 1); }

/* Where the next event goes, or 0 (it is lost); tsc, kind and a are set. trace_commit makes it visible. */
struct trace_event *trace_reserve(struct trace *t, enum trace_kind kind, uint32_t a);
void trace_commit(struct trace *t);

/* An event with up to two arguments, if anybody wants it. */
static inline void trace_event(struct trace *t, enum trace_category c, enum trace_kind kind, uint32_t a, uint64_t arg0, uint64_t arg1)
{
	struct trace_event *e;

	if (!trace_wants(t, c))
		return;
	e = trace_reserve(t, kind, a);
	if (!e)
		return;
	e->arg[0] = arg0;
	e->arg[1] = arg1;
	trace_commit(t);
}

/* When a span begins; 0 if nobody wants it. */
static inline uint64_t trace_begin(const struct trace *t, enum trace_category c) { return trace_wants(t, c) ? clock_tsc() : 0; }

/* A span that trace_begin began. */
static inline void trace_span(struct trace *t, enum trace_kind kind, uint32_t a, uint64_t begin, uint64_t arg1, uint64_t arg2)
{
	struct trace_event *e;

	if (LIKELY(!begin))
		return;
	e = trace_reserve(t, kind, a);
	if (!e)
		return;
	e->arg[0] = begin;
	e->arg[1] = arg1;
	e->arg[2] = arg2;
	trace_commit(t);
}

/* 0 or -ENOMEM; the caller fills in wanted and the rest before the producer runs. */
int trace_create(struct trace **out);
void trace_destroy(struct trace *t);

/* The consumer's: the oldest event, or 0; trace_done gives its place back. */
const struct trace_event *trace_oldest(struct trace *t);
void trace_done(struct trace *t);

#endif
