/* trace_write.c - from events to slices (trace_write.h). */
#include "vm/trace_write.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/trace.h"
#include "vm/vm_internal.h"
#include "x86/insn.h"
#include "xen/domain.h"

#define SPACES 1024u
#define THREADS 4096u
#define FRAMES 1024u

/* Tracks of the vcpu's own process. */
enum { TID_SPACES = 1, TID_MONITOR, TID_KERNEL, FIRST_THREAD };

struct space { uint64_t space; uint32_t pid; char name[48]; };

/* Something that entered the kernel and has not returned. */
struct entry {
	uint64_t begin;		/* tsc; 0: nothing is under way */
	uint32_t kind, a;	/* of its event: TRACE_SYSCALL or TRACE_EVENT */
	uint64_t rip;		/* where it returns to */
	uint64_t error, cr2;
	uint64_t insns, misses;	/* so far, when it began */
	uint64_t stint;		/* of the thread, then */
};

struct thread {
	uint64_t space, fs;
	struct trace_track track;
	uint64_t stint;		/* how often it has lost the vcpu while in its kernel, as far as is known */
	struct entry entry;	/* of user code */
};

/* What interrupted kernel code, by its frame. */
struct kernel_frame { uint64_t at; struct trace_track *track; uint32_t tid; struct entry entry; };

struct trace_writer {
	struct trace_file *file;
	trace_symbol *symbol;
	void *opaque;
	struct space space[SPACES];
	struct thread thread[THREADS];
	struct kernel_frame frame[FRAMES];
	struct thread *current;	/* whose user or kernel code runs; 0: not known */
	uint64_t space_now, space_since;
	struct trace_track spaces, monitor, kernel;
	uint32_t next_pid, next_tid;
};

static size_t hash(uint64_t a, uint64_t b) { return (size_t)((a ^ b * 0x9e3779b97f4a7c15ull) * 0xd6e8feb86659fd93ull >> 40); }

static struct space *space_of(struct trace_writer *w, uint64_t space)
{
	struct space *s = &w->space[hash(space, 0) % SPACES];

	if (!s->pid || s->space != space)
		*s = (struct space){ .space = space, .pid = w->next_pid++ };
	return s;
}

static void space_text(const struct space *s, char *text, size_t size)
{
	snprintf(text, size, "%s%scr3 0x%" PRIx64, s->name, s->name[0] ? ", " : "", s->space);
}

/* The guest says whose it is. Another name than before: another process, in the same table. */
static void program(struct trace_writer *w, const struct trace_event *e)
{
	struct space *s = space_of(w, e->arg[0]);
	char name[sizeof(s->name)], text[100];

	memcpy(name, &e->arg[1], sizeof(name));
	name[sizeof(name) - 1] = 0;
	if (!strcmp(s->name, name))
		return;
	if (s->name[0])
		s->pid = w->next_pid++;
	memcpy(s->name, name, sizeof(name));
	space_text(s, text, sizeof(text));
	trace_name(w->file, s->pid, 0, "process_name", text, 0);
}

static struct thread *thread_of(struct trace_writer *w, uint64_t space, uint64_t fs)
{
	struct thread *t = &w->thread[hash(space, fs) % THREADS];
	const uint32_t pid = space_of(w, space)->pid;
	char text[60];

	if (t->track.tid && t->space == space && t->fs == fs && t->track.pid == pid)
		return t;
	if (w->current == t)
		w->current = 0;
	*t = (struct thread){ .space = space, .fs = fs, .track = { .pid = pid, .tid = w->next_tid++ } };
	snprintf(text, sizeof(text), "thread (fs 0x%" PRIx64 ")", fs);
	trace_name(w->file, pid, t->track.tid, "thread_name", text, 0);
	return t;
}

/* t runs now; 0: nobody knows who. */
static void set_current(struct trace_writer *w, struct thread *t)
{
	if (w->current == t)
		return;
	if (w->current)
		w->current->stint++;
	w->current = t;
}

static struct trace_track *track_now(struct trace_writer *w) { return w->current ? &w->current->track : &w->kernel; }

static void arg_address(struct trace_writer *w, const char *key, uint64_t va, bool user)
{
	uint64_t offset = 0;
	const char *name = w->symbol ? w->symbol(w->opaque, va, user, &offset) : 0;
	char text[300];

	if (name)
		snprintf(text, sizeof(text), "%s+0x%" PRIx64, name, offset);
	else
		snprintf(text, sizeof(text), "0x%" PRIx64, va);
	trace_arg_text(w->file, key, text);
}

/* The counters that moved, by name. */
static void arg_counters(struct trace_writer *w, const uint64_t *bits)
{
	const char *sep = "";

	trace_arg_key(w->file, "counted");
	putc_unlocked('[', w->file->out);
	for (size_t i = 0; i < mmu_stat_row_count && i < 64 * TRACE_COUNTER_WORDS; i++) {
		if (!(bits[i / 64] >> (i % 64) & 1))
			continue;
		fprintf(w->file->out, "%s\"%s\"", sep, mmu_stat_rows[i].name);
		sep = ",";
	}
	putc_unlocked(']', w->file->out);
}

static const char *entry_category(const struct entry *n)
{
	return n->kind == TRACE_SYSCALL ? "syscall" : (n->a >> 8 & 15) == 1 ? "interrupt" : "exception";
}

static void entry_name(const struct entry *n, char *text, size_t size)
{
	const unsigned vector = n->a & 0xff, source = n->a >> 8 & 15;
	const char *name = n->kind == TRACE_SYSCALL ? trace_syscall_name(n->a) : source ? 0 : trace_vector_name(vector);

	if (name)
		snprintf(text, size, "%s", name);
	else if (n->kind == TRACE_SYSCALL)
		snprintf(text, size, "system call %u", n->a);
	else
		snprintf(text, size, "%s 0x%x", source == 1 ? "interrupt" : source == 2 ? "INT" : "exception", vector);
}

/* Draws what began with n and ended with `back` (0: it has not). unbroken: nobody else ran in between. */
static void draw_entry(struct trace_writer *w, struct trace_track *track, const struct entry *n, uint64_t end, const struct trace_event *back, bool unbroken)
{
	const bool user = n->kind == TRACE_SYSCALL || n->a >> 12 == 3;
	char name[60];

	entry_name(n, name, sizeof(name));
	if (!trace_slice(w->file, track, n->begin, end, entry_category(n), name))
		return;
	arg_address(w, "rip", n->rip, user);
	if (n->kind == TRACE_EVENT && !(n->a >> 8 & 15)) {
		trace_arg_hex(w->file, "error", n->error);
		if ((n->a & 0xff) == VEC_PF)
			trace_arg_hex(w->file, "cr2", n->cr2);
	}
	if (!back) {
		trace_arg_number(w->file, "unfinished", 1);
	} else {
		if (n->kind == TRACE_SYSCALL && back->arg[2] == n->rip)
			trace_arg_signed(w->file, "result", (int64_t)back->arg[4]);
		if (back->arg[2] != n->rip)
			trace_arg_hex(w->file, "returned_to", back->arg[2]);
		if (unbroken) {
			trace_arg_number(w->file, "executor_instructions", back->arg[5] - n->insns);
			trace_arg_number(w->file, "tlb_misses", back->arg[6] - n->misses);
		} else {
			trace_arg_number(w->file, "others_ran", 1);
		}
	}
	trace_end(w->file);
}

static void begin_syscall(struct trace_writer *w, const struct trace_event *e)
{
	struct thread *t = thread_of(w, e->arg[0], e->arg[1]);

	set_current(w, t);
	t->entry = (struct entry){ .begin = e->tsc, .kind = e->kind, .a = e->a, .rip = e->arg[2], .insns = e->arg[3], .misses = e->arg[4], .stint = t->stint };
}

static void begin_event(struct trace_writer *w, const struct trace_event *e)
{
	struct entry n = { .begin = e->tsc, .kind = e->kind, .a = e->a, .rip = e->arg[2], .error = e->arg[4], .cr2 = e->arg[5], .insns = e->arg[6], .misses = e->arg[7] };
	struct kernel_frame *f = &w->frame[hash(e->arg[3], 1) % FRAMES];

	if (e->a >> 12 == 3) {
		struct thread *t = thread_of(w, e->arg[0], e->arg[1]);

		set_current(w, t);
		n.stint = t->stint;
		t->entry = n;
		return;
	}
	n.stint = w->current ? w->current->stint : 0;
	*f = (struct kernel_frame){ .at = e->arg[3], .track = track_now(w), .entry = n };
	f->tid = f->track->tid;
}

static void returned(struct trace_writer *w, const struct trace_event *e)
{
	if (e->a == 3) {
		struct thread *t = thread_of(w, e->arg[0], e->arg[1]);

		set_current(w, t);
		if (t->entry.begin)
			draw_entry(w, &t->track, &t->entry, e->tsc, e, t->entry.stint == t->stint);
		t->entry.begin = 0;
		return;
	}
	struct kernel_frame *f = &w->frame[hash(e->arg[3], 1) % FRAMES];
	if (!f->entry.begin || f->at != e->arg[3])
		return;
	/* Its thread's place in the table may be another's by now. */
	if (f->track->tid == f->tid) {
		const bool same = f->track == track_now(w) && (!w->current || w->current->stint == f->entry.stint);

		draw_entry(w, f->track, &f->entry, e->tsc, e, same);
	}
	f->entry.begin = 0;
}

static void cr3(struct trace_writer *w, const struct trace_event *e)
{
	const uint64_t space = e->arg[0] & TRACE_SPACE;
	char text[100];

	if (trace_instant(w->file, track_now(w), e->tsc, "cr3", "CR3 load")) {
		trace_arg_hex(w->file, "cr3", e->arg[0]);
		trace_arg_text(w->file, "entries", e->a ? "kept" : "flushed");
		trace_end(w->file);
	}
	if (space == w->space_now)
		return;
	set_current(w, 0);
	if (w->space_since) {
		const struct space *s = space_of(w, w->space_now);

		space_text(s, text, sizeof(text));
		if (trace_slice(w->file, &w->spaces, w->space_since, e->tsc, "cr3", text))
			trace_end(w->file);
	}
	w->space_now = space;
	w->space_since = e->tsc;
}

static void flush(struct trace_writer *w, const struct trace_event *e)
{
	const char *name = "flush";

	for (size_t i = 0; i < mmu_stat_row_count; i++)
		if (mmu_stat_rows[i].offset == e->a)
			name = mmu_stat_rows[i].name;
	if (!trace_instant(w->file, track_now(w), e->tsc, "flush", name))
		return;
	if (e->arg[1])
		trace_arg_hex(w->file, "v", e->arg[1]);
	trace_arg_number(w->file, "pcid", e->arg[0]);
	trace_end(w->file);
}

/* "hidden: not present", from the first counter of a hidden fault that moved. */
static bool hidden_name(const uint64_t *bits, char *text, size_t size)
{
	for (size_t i = 0; i < mmu_stat_row_count && i < 64 * TRACE_COUNTER_WORDS; i++) {
		const char *name = mmu_stat_rows[i].name;

		if (!(bits[i / 64] >> (i % 64) & 1) || strncmp(name, "hidden_", 7))
			continue;
		snprintf(text, size, "hidden: %s", name + 7);
		for (char *c = text + 8; *c; c++)
			if (*c == '_')
				*c = ' ';
		return true;
	}
	return false;
}

static void fault(struct trace_writer *w, const struct trace_event *e)
{
	const unsigned access = e->a & 0xffff;
	const enum mmu_kind kind = e->a >> 16;
	char name[60], text[60];
	bool hidden = hidden_name(&e->arg[3], name, sizeof(name));

	if (!hidden)
		snprintf(name, sizeof(name), "%s", kind == MMU_INJECT ? "guest fault" : "TLB miss");
	if (!trace_slice(w->file, track_now(w), e->arg[0], e->tsc, hidden || kind == MMU_INJECT ? "fault" : "miss", name))
		return;
	snprintf(text, sizeof(text), "%s %s", access & ACC_USER ? "user" : access & ACC_IMPLICIT ? "processor" : "kernel",
		 access & ACC_EXEC ? "fetch" : access & ACC_WRITE ? "write" : "read");
	trace_arg_text(w->file, "access", text);
	trace_arg_hex(w->file, "v", e->arg[1]);
	trace_arg_hex(w->file, kind == MMU_INJECT ? "error" : "p", e->arg[2]);
	trace_arg_number(w->file, "entries_read", e->arg[5]);
	arg_counters(w, &e->arg[3]);
	trace_end(w->file);
}

static void table(struct trace_writer *w, const struct trace_event *e)
{
	if (!trace_slice(w->file, track_now(w), e->arg[0], e->tsc, "table", "table write"))
		return;
	trace_arg_hex(w->file, "p", e->arg[1]);
	trace_arg_number(w->file, "bytes", e->a);
	arg_counters(w, &e->arg[2]);
	trace_end(w->file);
}

static void device(struct trace_writer *w, const struct trace_event *e)
{
	const bool port = (e->a >> 8 & 0xff) == BUS_PORT;
	char name[60];

	snprintf(name, sizeof(name), "%s 0x%" PRIx64 " %s", port ? "port" : "mmio", e->arg[1], e->a >> 16 ? "write" : "read");
	if (!trace_slice(w->file, track_now(w), e->arg[0], e->tsc, "device", name))
		return;
	trace_arg_number(w->file, "bytes", e->a & 0xff);
	trace_arg_hex(w->file, "value", e->arg[2]);
	trace_end(w->file);
}

static void hypercall(struct trace_writer *w, const struct trace_event *e)
{
	const char *known = xen_hypercall_name(e->a);
	char name[60];

	if (known)
		snprintf(name, sizeof(name), "%s", known);
	else
		snprintf(name, sizeof(name), "hypercall %u", e->a);
	if (!trace_slice(w->file, track_now(w), e->arg[0], e->tsc, "hypercall", name))
		return;
	trace_arg_hex(w->file, "argument", e->arg[1]);
	trace_arg_signed(w->file, "result", (int64_t)e->arg[2]);
	trace_end(w->file);
}

static void monitor_slice(struct trace_writer *w, const struct trace_event *e, const char *name)
{
	if (trace_slice(w->file, &w->monitor, e->arg[0], e->tsc, "vmm", name))
		trace_end(w->file);
}

static void idle(struct trace_writer *w, const struct trace_event *e)
{
	/* The kernel's own thread halts; whoever ran before does not. */
	set_current(w, 0);
	monitor_slice(w, e, "idle");
}

static void work(struct trace_writer *w, const struct trace_event *e) { monitor_slice(w, e, "work for the monitor"); }

static void left(struct trace_writer *w, const struct trace_event *e)
{
	char name[60];

	snprintf(name, sizeof(name), "exit: %s", vm_exit_name(e->a));
	if (trace_instant(w->file, &w->monitor, e->tsc, "vmm", name))
		trace_end(w->file);
}

static void insn(struct trace_writer *w, const struct trace_event *e)
{
	uint8_t bytes[16];
	struct insn in;

	memcpy(bytes, &e->arg[1], sizeof(bytes));
	insn_decode(&in, bytes, 15, INSN_MODE_64);
	if (!trace_instant(w->file, track_now(w), e->tsc, "exec", insn_mnemonic(in.mnemonic)))
		return;
	arg_address(w, "rip", e->arg[0], e->a >> 8 == 3);
	trace_end(w->file);
}

/* Events are missing here: nothing that was under way can be paired. */
static void lost(struct trace_writer *w, const struct trace_event *e)
{
	char name[60];

	snprintf(name, sizeof(name), "%" PRIu64 " events lost", e->arg[0]);
	if (trace_instant(w->file, &w->monitor, e->tsc, "lost", name))
		trace_end(w->file);
	set_current(w, 0);
	for (unsigned i = 0; i < THREADS; i++)
		w->thread[i].entry.begin = 0;
	for (unsigned i = 0; i < FRAMES; i++)
		w->frame[i].entry.begin = 0;
	w->space_since = 0;
	w->space_now = 0;
}

void trace_writer_event(struct trace_writer *w, const struct trace_event *e)
{
	static void (*const writers[TRACE_KINDS])(struct trace_writer *w, const struct trace_event *e) = {
		[TRACE_LOST] = lost, [TRACE_SYSCALL] = begin_syscall, [TRACE_EVENT] = begin_event, [TRACE_RETURN] = returned, [TRACE_PROGRAM] = program,
		[TRACE_CR3] = cr3, [TRACE_FLUSH] = flush, [TRACE_FAULT] = fault, [TRACE_TABLE] = table, [TRACE_DEVICE] = device, [TRACE_IDLE] = idle,
		[TRACE_EXIT] = left, [TRACE_WORK] = work, [TRACE_INSN] = insn, [TRACE_HYPERCALL] = hypercall,
	};

	if (e->kind < TRACE_KINDS && writers[e->kind])
		writers[e->kind](w, e);
}

void trace_writer_finish(struct trace_writer *w, uint64_t tsc)
{
	char text[100];

	for (unsigned i = 0; i < FRAMES; i++)
		if (w->frame[i].entry.begin && w->frame[i].track->tid == w->frame[i].tid)
			draw_entry(w, w->frame[i].track, &w->frame[i].entry, tsc, 0, false);
	for (unsigned i = 0; i < THREADS; i++)
		if (w->thread[i].entry.begin)
			draw_entry(w, &w->thread[i].track, &w->thread[i].entry, tsc, 0, false);
	if (!w->space_since)
		return;
	space_text(space_of(w, w->space_now), text, sizeof(text));
	if (trace_slice(w->file, &w->spaces, w->space_since, tsc, "cr3", text))
		trace_end(w->file);
}

struct trace_writer *trace_writer_create(struct trace_file *file, unsigned id, trace_symbol *symbol, void *opaque)
{
	struct trace_writer *w = calloc(1, sizeof(*w));
	const uint32_t pid = 1 + id;
	char text[40];

	if (!w)
		return 0;
	w->file = file;
	w->symbol = symbol;
	w->opaque = opaque;
	w->spaces = (struct trace_track){ .pid = pid, .tid = TID_SPACES };
	w->monitor = (struct trace_track){ .pid = pid, .tid = TID_MONITOR };
	w->kernel = (struct trace_track){ .pid = pid, .tid = TID_KERNEL };
	w->next_pid = 1000;
	w->next_tid = FIRST_THREAD;
	snprintf(text, sizeof(text), "vcpu %u", id);
	trace_name(file, pid, 0, "process_name", text, 0);
	trace_name(file, pid, 0, "process_sort_index", 0, 0);
	trace_name(file, pid, TID_SPACES, "thread_name", "address space", 0);
	trace_name(file, pid, TID_MONITOR, "thread_name", "monitor", 0);
	trace_name(file, pid, TID_KERNEL, "thread_name", "kernel (thread not known)", 0);
	for (uint32_t tid = TID_SPACES; tid < FIRST_THREAD; tid++)
		trace_name(file, pid, tid, "thread_sort_index", 0, tid);
	return w;
}

void trace_writer_destroy(struct trace_writer *w) { free(w); }
