/* trace.c - life of a trace, and its thread (trace.h). */
#include "vm/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/trace.h"
#include "vm/profile.h"
#include "vm/trace_write.h"
#include "vm/vm_internal.h"

#define WAIT_NS 2000000		/* between looks into the rings while something comes: they fill in 25 ms at 10 million events a second */
#define WAIT_IDLE_NS 20000000
#define FILE_BUFFER (1u << 20)

static const struct { const char *name; bool by_default; } categories[TRACE_CATEGORIES] = {
	[TRACE_CAT_SYSCALL] = { "syscall", true }, [TRACE_CAT_EXCEPTION] = { "exception", true }, [TRACE_CAT_INTERRUPT] = { "interrupt", true },
	[TRACE_CAT_FAULT] = { "fault", true }, [TRACE_CAT_MISS] = { "miss", false }, [TRACE_CAT_TABLE] = { "table", true },
	[TRACE_CAT_FLUSH] = { "flush", true }, [TRACE_CAT_CR3] = { "cr3", true }, [TRACE_CAT_DEVICE] = { "device", true },
	[TRACE_CAT_VMM] = { "vmm", true }, [TRACE_CAT_EXEC] = { "exec", false }, [TRACE_CAT_HYPERCALL] = { "hypercall", true },
};

const char *vm_trace_category(unsigned i) { return i < TRACE_CATEGORIES ? categories[i].name : 0; }

uint32_t vm_trace_categories_default(void)
{
	uint32_t set = 0;

	for (unsigned i = 0; i < TRACE_CATEGORIES; i++)
		set |= (uint32_t)categories[i].by_default << i;
	return set;
}

bool vm_trace_categories(const char *list, uint32_t *set)
{
	*set = 0;
	for (const char *at = list;; at++) {
		const size_t len = strcspn(at, ",");
		bool found = false;

		for (unsigned i = 0; i < TRACE_CATEGORIES; i++) {
			const bool all = len == 3 && !strncmp(at, "all", 3);

			if (all || (strlen(categories[i].name) == len && !strncmp(categories[i].name, at, len))) {
				*set |= 1u << i;
				found = true;
			}
		}
		if (!found)
			return false;
		at += len;
		if (!*at)
			return true;
	}
}

struct vm_trace {
	struct trace_file file;
	char *buffer;
	pthread_t thread;
	bool started, finished;
	int error;
	_Atomic bool stop;
	struct trace *ring[VM_MAX_CPUS];
	struct trace_writer *writer[VM_MAX_CPUS];
};

static const char *trace_symbol_of(void *opaque, uint64_t va, bool user, uint64_t *offset)
{
	const struct vm *vm = opaque;

	return profile_symbol(vm->profile, va, user, offset);
}

static void trace_program(void *opaque, void *vcpu, char *name)
{
	(void)opaque;
	if (!program_path(vcpu, name, 48))
		name[0] = 0;
}

/* Everything that is in the rings now. With several, events of different vcpus are not in order, which the format does not ask for. */
static bool trace_drain(struct vm_trace *t)
{
	bool any = false;

	for (unsigned i = 0; i < VM_MAX_CPUS && t->ring[i]; i++) {
		const struct trace_event *e;

		while ((e = trace_oldest(t->ring[i]))) {
			trace_writer_event(t->writer[i], e);
			trace_done(t->ring[i]);
			any = true;
		}
	}
	return any;
}

static void *trace_main(void *arg)
{
	struct vm_trace *t = arg;

	while (!atomic_load(&t->stop)) {
		const bool any = trace_drain(t);
		const struct timespec wait = { .tv_nsec = any ? WAIT_NS : WAIT_IDLE_NS };

		/* What is there when nothing happens can be read, even if the run is killed. */
		if (!any)
			fflush(t->file.out);
		nanosleep(&wait, 0);
	}
	return 0;
}

/* Before the events: what run it is, and what time 0 means. */
static void trace_head(struct vm *vm, struct vm_trace *t)
{
	FILE *f = t->file.out;

	t->file.tsc0 = clock_tsc();
	fprintf(f, "{\"displayTimeUnit\":\"ns\",\n\"otherData\":{\"program\":\"trifold\",\"run\":\"%s\",\"paging\":\"%s\",\"engine\":\"%s\","
		"\"wall_clock_ns_at_0\":\"%" PRIu64 "\",\"guest_tsc_at_0\":\"%" PRIu64 "\",\"tsc_khz\":\"%" PRIu64 "\"},\n\"traceEvents\":[",
		vm->run_id, vm_paging_name(vm->config.paging), vm->config.engine->name, clock_realtime_ns(), t->file.tsc0 + vm->vcpu[0]->v.tsc_offset, clock_tsc_khz());
}

int vm_trace_create(struct vm *vm, char *error, size_t error_size)
{
	struct vm_trace *t = calloc(1, sizeof(*t));
	int err = t ? 0 : -ENOMEM;

	vm->trace = t;
	if (t) {
		t->file.out = fopen(vm->config.trace, "we");
		t->buffer = malloc(FILE_BUFFER);
		if (!t->file.out)
			err = -errno;
		else if (!t->buffer)
			err = -ENOMEM;
		else
			setvbuf(t->file.out, t->buffer, _IOFBF, FILE_BUFFER);
	}
	for (unsigned i = 0; !err && i < vm->vcpus; i++) {
		err = trace_create(&t->ring[i]);
		if (err)
			break;
		t->ring[i]->wanted = vm->config.trace_categories;
		t->ring[i]->program = trace_program;
		t->ring[i]->opaque = vm;
		ASSERT(mmu_stat_row_count <= 64 * TRACE_COUNTER_WORDS);
		for (size_t row = 0; row < mmu_stat_row_count; row++)
			if (!strncmp(mmu_stat_rows[row].name, "hidden_", 7))
				t->ring[i]->hidden[row / 64] |= 1ull << (row % 64);
	}
	if (err)
		snprintf(error, error_size, "--trace %s: %s", vm->config.trace, strerror(-err));
	return err;
}

int vm_trace_start(struct vm *vm)
{
	struct vm_trace *t = vm->trace;
	int err;

	if (!t)
		return 0;
	trace_head(vm, t);
	for (unsigned i = 0; i < vm->vcpus; i++) {
		t->writer[i] = trace_writer_create(&t->file, i, trace_symbol_of, vm);
		if (!t->writer[i])
			return -ENOMEM;
		vm->vcpu[i]->v.mmu.trace = t->ring[i];
	}
	err = pthread_create(&t->thread, 0, trace_main, t);
	t->started = !err;
	return -err;
}

void vm_trace_finish(struct vm *vm)
{
	struct vm_trace *t = vm->trace;
	uint64_t lost = 0;

	if (!t || !t->started)
		return;
	atomic_store(&t->stop, true);
	pthread_join(t->thread, 0);
	t->started = false;
	trace_drain(t);
	for (unsigned i = 0; i < vm->vcpus; i++) {
		trace_writer_finish(t->writer[i], clock_tsc());
		lost += __atomic_load_n(&t->ring[i]->lost_all, __ATOMIC_RELAXED);
	}
	fprintf(t->file.out, "\n],\n\"summary\":{\"events\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"full\":%s}}\n", t->file.events, lost,
		t->file.full ? "true" : "false");
	const bool bad = ferror(t->file.out);
	const int saved = errno;
	if (fclose(t->file.out) || bad)
		t->error = bad && saved ? -saved : errno ? -errno : -EIO;
	t->file.out = 0;
}

int vm_trace_result(struct vm *vm)
{
	return vm->trace ? vm->trace->error : 0;
}

void vm_trace_destroy(struct vm *vm)
{
	struct vm_trace *t = vm->trace;

	if (!t)
		return;
	for (unsigned i = 0; i < VM_MAX_CPUS; i++) {
		trace_destroy(t->ring[i]);
		trace_writer_destroy(t->writer[i]);
	}
	if (t->file.out)
		fclose(t->file.out);
	free(t->buffer);
	free(t);
	vm->trace = 0;
}
