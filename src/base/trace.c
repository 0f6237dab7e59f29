/* trace.c - the ring of trace.h. Compiled with general registers only: the producer may have guest vector registers live. */
#include "base/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

int trace_create(struct trace **out)
{
	struct trace *t = aligned_alloc(64, ALIGN_UP(sizeof(*t), 64));
	void *ring = mmap(NULL, TRACE_EVENTS * sizeof(struct trace_event), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!t || ring == MAP_FAILED) {
		free(t);
		if (ring != MAP_FAILED)
			munmap(ring, TRACE_EVENTS * sizeof(struct trace_event));
		return -ENOMEM;
	}
	fill_bytes(t, 0, sizeof(*t));
	t->event = ring;
	*out = t;
	return 0;
}

void trace_destroy(struct trace *t)
{
	if (!t)
		return;
	munmap(t->event, TRACE_EVENTS * sizeof(struct trace_event));
	free(t);
}

static struct trace_event *place(struct trace *t, uint64_t i, enum trace_kind kind, uint32_t a)
{
	struct trace_event *e = &t->event[i % TRACE_EVENTS];

	e->tsc = clock_tsc();
	e->kind = kind;
	e->a = a;
	return e;
}

struct trace_event *trace_reserve(struct trace *t, enum trace_kind kind, uint32_t a)
{
	uint64_t head = atomic_load_explicit(&t->head, memory_order_relaxed);
	uint64_t used = head - atomic_load_explicit(&t->tail, memory_order_acquire);

	if (UNLIKELY(used + !!t->lost >= TRACE_EVENTS)) {
		t->lost++;
		__atomic_store_n(&t->lost_all, t->lost_all + 1, __ATOMIC_RELAXED);
		return NULL;
	}
	if (UNLIKELY(t->lost)) {
		place(t, head, TRACE_LOST, 0)->arg[0] = t->lost;
		t->lost = 0;
		trace_commit(t);
		head++;
	}
	return place(t, head, kind, a);
}

void trace_commit(struct trace *t)
{
	atomic_store_explicit(&t->head, atomic_load_explicit(&t->head, memory_order_relaxed) + 1, memory_order_release);
}

const struct trace_event *trace_oldest(struct trace *t)
{
	uint64_t tail = atomic_load_explicit(&t->tail, memory_order_relaxed);

	return tail == atomic_load_explicit(&t->head, memory_order_acquire) ? NULL : &t->event[tail % TRACE_EVENTS];
}

void trace_done(struct trace *t)
{
	atomic_store_explicit(&t->tail, atomic_load_explicit(&t->tail, memory_order_relaxed) + 1, memory_order_release);
}
