/*
 * command.c - what the control socket's clients can ask for: one row a command (control.h).
 */
#include "vm/control.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "mmu/explain.h"
#include "vm/vm_internal.h"

static void command_stats(struct control_request *r)
{
	vm_collect_stats(r->vm);
	vm_print_stats(r->vm, r->out);
}

/* What the guest's code left its translation for, in the order of how far it went. Names are those of docs/stats.md. */
static const struct exits_row { const char *heading, *group, *counter; } exits_rows[] = {
	{ "to the monitor", "exits", 0 },
	{ "out of translated code", "bt", "dispatches" },
	{ 0, "bt", "slow_accesses" },
	{ 0, "bt", "host_faults" },
	{ 0, "bt", "polls" },
	{ 0, "cpu", "insns_executor" },
	{ "for an instruction", "cpu", "syscalls" },
	{ 0, "cpu", "irets" },
	{ 0, "cpu", "cr3_writes" },
	{ 0, "cpu", "port_accesses" },
	{ 0, "cpu", "mmio_accesses" },
	{ 0, "cpu", "msr_accesses" },
	{ 0, "cpu", "cpuids" },
	{ 0, "cpu", "halts" },
	{ "for the hypervisor", "xen", "hypercalls" },
	{ 0, "xen", "multicalls" },
	{ 0, "xen", "continuations" },
	{ 0, "xen", "syscalls_bounced" },
	{ 0, "xen", "irets" },
	{ 0, "xen", "emulated" },
	{ "by hypercall", "hypercalls", 0 },
	{ "for memory", "mmu", "tlb_l1_misses" },
	{ 0, "mmu", "tlb_l2_misses" },
	{ 0, "mmu", "guest_faults" },
	{ 0, "mmu", "hidden_*" },
	{ 0, "mmu", "mmio_faults" },
	{ 0, "mmu", "tracked_writes" },
	{ "to deliver an event", "cpu", "interrupts_injected" },
	{ 0, "cpu", "exceptions_injected" },
};

static void exits_print(FILE *out, const char *name, uint64_t count, const char *help)
{
	fprintf(out, "  %-24s %14" PRIu64 "  %s\n", name, count, help);
}

/* The counters of a group (all if name is 0; all that begin so, if it ends with *), if the engine has that group. */
static void exits_group(const struct stats *stats, FILE *out, const char *group, const char *name)
{
	const size_t len = name ? strlen(name) : 0;
	const bool prefix = len && name[len - 1] == '*';

	for (size_t g = 0; g < stats->groups; g++) {
		const struct stat_group *s = &stats->group[g];

		for (size_t i = 0; i < s->rows && !strcmp(s->name, group); i++) {
			const uint64_t *value = (const uint64_t *)((const char *)s->instance + s->row[i].offset);

			if (!name || (prefix ? !strncmp(name, s->row[i].name, len - 1) : !strcmp(name, s->row[i].name)))
				exits_print(out, s->row[i].name, __atomic_load_n(value, __ATOMIC_RELAXED), s->row[i].help);
		}
	}
}

/* Bare processors have no hypervisor to call. */
static bool exits_has(const struct stats *stats, const char *group)
{
	for (size_t g = 0; g < stats->groups; g++)
		if (!strcmp(stats->group[g].name, group))
			return true;
	return false;
}

static void command_exits(struct control_request *r)
{
	static const char *const vectors[32] = {
		"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", 0, "#TS", "#NP", "#SS", "#GP", "#PF", 0, "#MF", "#AC", "#MC", "#XM",
	};
	const struct cpu_counters *c = &r->vm->vcpu[0]->v.counters;

	for (size_t i = 0; i < ARRAY_LEN(exits_rows); i++) {
		if (exits_rows[i].heading && exits_has(&r->vm->stats, exits_rows[i].group))
			fprintf(r->out, "%s\n", exits_rows[i].heading);
		exits_group(&r->vm->stats, r->out, exits_rows[i].group, exits_rows[i].counter);
	}
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
		if (c->exception[i] && vectors[i])
			exits_print(r->out, vectors[i], c->exception[i], "of the exceptions delivered");
}

static void command_audit(struct control_request *r)
{
	char msg[300] = "";

	_Static_assert(VM_MAX_CPUS == 1, "each vcpu's MMU would be checked on its own thread");
	static const char *const checked[] = {
		[PAGING_NESTED] = "p2m, TLB", [PAGING_SHADOW] = "p2m, TLB, shadow tables", [PAGING_AUTO] = "p2m, TLB, shadow tables", [PAGING_DIRECT] = "TLB, page types",
	};

	if (mmu_audit(&r->vm->vcpu[0]->v.mmu, msg, sizeof(msg)) || (r->vm->xen && xen_audit(r->vm->xen, msg, sizeof(msg))))
		control_fail(r, "audit: %s", msg);
	else
		fprintf(r->out, "clean: %s\n", checked[r->vm->config.paging]);
}

/* A number (0x for hexadecimal), or a register of the vcpu's by name. */
static bool parse_address(struct control_request *r, const char *word, uint64_t *value)
{
	const struct vcpu *v = &r->vm->vcpu[0]->v;
	const struct { const char *name; uint64_t value; } names[] = {
		{ "rip", v->rip + v->seg[SEG_CS].base * !vcpu_long64(v) }, { "rsp", v->gpr[RSP] }, { "cr2", v->cr2 }, { "cr3", v->cr3 },
	};
	char *end;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (!strcmp(word, names[i].name)) {
			*value = names[i].value;
			return true;
		}
	}
	errno = 0;
	*value = strtoull(word, &end, 0);
	if (isdigit((unsigned char)word[0]) && !*end && !errno)
		return true;
	control_fail(r, "%s: not an address (a number such as 0x1000; rip, rsp, cr2, cr3)", word);
	return false;
}

static void command_explain(struct control_request *r)
{
	uint64_t va, cr3 = EXPLAIN_CURRENT;
	struct explain_filter filter = { 0 };
	struct explain x;

	for (int i = 2; i < r->argc; i++) {
		if (!strcmp(r->argv[i], "--cr3") && i + 1 < r->argc) {
			if (!parse_address(r, r->argv[++i], &cr3))
				return;
		} else if (!explain_filter_add(&filter, r->argv[i])) {
			control_fail(r, "usage: explain VA [--cr3 X] [read|write|fetch] [kernel|user]");
			return;
		}
	}
	if (!parse_address(r, r->argv[1], &va))
		return;
	mmu_explain(&r->vm->vcpu[0]->v.mmu, gva(va), cr3, &x);
	control_print_explain(r->out, &x, &filter);
}

static void command_move(struct control_request *r)
{
	struct memory *mem = &r->vm->memory;
	struct p2m_entry before, after;
	uint64_t p;
	int err;

	if (!parse_address(r, r->argv[1], &p))
		return;
	memory_lock(mem);
	if (!p2m_lookup(mem, gpa(p), &before))
		before.m = MFN_NONE;
	memory_unlock(mem);
	err = vm_move_page(r->vm, gpa(p));
	if (err) {
		control_fail(r, "p 0x%" PRIx64 ": %s", p, err != -ENOENT ? strerror(-err) : memory_is_ram(mem, gpa(p)) ?
			     "has no machine frame yet, so there is nothing to move" : "is not RAM");
		return;
	}
	memory_lock(mem);
	p2m_lookup(mem, gpa(p), &after);
	memory_unlock(mem);
	fprintf(r->out, "p 0x%" PRIx64 ": m 0x%" PRIx64 " -> m 0x%" PRIx64 "\n", (uint64_t)(p & PAGE_MASK), before.m.v, after.m.v);
}

static void print_mib(FILE *out, const char *what, uint64_t bytes)
{
	fprintf(out, "%s %" PRIu64 " MiB", what, bytes >> 20);
}

static void command_balloon(struct control_request *r)
{
	struct virtio_balloon *b = &r->vm->balloon;
	uint64_t bytes = 0;

	if (r->argc > 1 && (!size_parse(r->argv[1], &bytes) || bytes >= r->vm->config.memory_bytes)) {
		control_fail(r, "balloon %s: not a size below that of the guest's memory", r->argv[1]);
		return;
	}
	bus_lock(&r->vm->bus);
	if (!virtio_works(&b->virtio)) {
		control_fail(r, "the guest has not loaded a driver for its balloon (virtio_balloon and virtio_mmio)");
	} else {
		if (r->argc > 1)
			virtio_balloon_set(b, (uint32_t)(bytes >> PAGE_SHIFT));
		print_mib(r->out, "asked for", (uint64_t)virtio_balloon_target(b) << PAGE_SHIFT);
		print_mib(r->out, ", holds", (uint64_t)virtio_balloon_held(b) << PAGE_SHIFT);
		print_mib(r->out, "; guest memory with frames:", r->vm->memory.backed << PAGE_SHIFT);
		fprintf(r->out, "; free page reporting is %s\n", virtio_balloon_reports(b) ? "on" : "off");
		if (b->stat[BALLOON_STAT_FREE] != ~0ull) {
			print_mib(r->out, "the guest last said: free", b->stat[BALLOON_STAT_FREE]);
			print_mib(r->out, ", available", b->stat[BALLOON_STAT_AVAILABLE]);
			print_mib(r->out, ", caches", b->stat[BALLOON_STAT_CACHES]);
			print_mib(r->out, ", of", b->stat[BALLOON_STAT_TOTAL]);
			fputc('\n', r->out);
		}
		virtio_balloon_ask_stats(b);
	}
	bus_unlock(&r->vm->bus);
	/* The device has written to its queues. */
	mmu_frames_changed(&r->vm->vcpu[0]->v.mmu);
}

/* The command's first word: so many a second, as N or N/s. */
static bool parse_rate(struct control_request *r, const char *what, unsigned most, unsigned long long *n)
{
	char *end;

	*n = strtoull(r->argv[1], &end, 10);
	if (isdigit((unsigned char)r->argv[1][0]) && (!*end || !strcmp(end, "/s")) && *n <= most)
		return true;
	control_fail(r, "%s %s: not a number of %s a second, from 0 to %u", r->argv[0], r->argv[1], what, most);
	return false;
}

static void command_share(struct control_request *r)
{
	const struct memory_counters *c = &r->vm->memory.counters;
	unsigned long long n;

	if (r->argc > 1) {
		if (!parse_rate(r, "pages", VM_SHARE_MAX, &n))
			return;
		vm_share_set(r->vm, n);
	}
	fprintf(r->out, "looking at %" PRIu64 " pages a second for equal ones; %" PRIu64 " looked at so far, all of memory %" PRIu64 " times\n",
		(uint64_t)atomic_load(&r->vm->share.per_second), c->pages_scanned, c->share_passes);
	fprintf(r->out, "%" PRIu64 " pages share %" PRIu64 " frames, which saves %" PRIu64 " KiB; %" PRIu64 " have joined, %" PRIu64 " have left to be written or run\n",
		c->pages_sharing + c->pages_shared, c->pages_shared, c->pages_sharing << PAGE_SHIFT >> 10, c->pages_merged, c->pages_unshared);
}

static void command_move_random(struct control_request *r)
{
	unsigned long long n;

	if (!parse_rate(r, "moves", VM_MOVES_MAX, &n))
		return;
	vm_moves_set(r->vm, n);
	if (n)
		fprintf(r->out, "moving %llu random pages a second\n", n);
	else
		fputs("moving no more\n", r->out);
}

/* Runs of pages, as guest-physical ranges. */
static void print_pages(FILE *out, const uint64_t *bitmap, uint64_t words)
{
	uint64_t from = 0;
	bool in = false;

	for (uint64_t n = 0; n <= words * 64; n++) {
		const bool set = n < words * 64 && (bitmap[n / 64] >> (n % 64) & 1);

		if (set == in)
			continue;
		if (in)
			fprintf(out, "0x%" PRIx64 "-0x%" PRIx64 "\n", from << PAGE_SHIFT, (n << PAGE_SHIFT) - 1);
		from = n;
		in = set;
	}
}

static void command_dirty(struct control_request *r)
{
	struct memory *mem = &r->vm->memory;
	struct mmu *mmu = &r->vm->vcpu[0]->v.mmu;
	uint64_t *bitmap;
	int64_t n;
	int err;

	_Static_assert(VM_MAX_CPUS == 1, "other vcpus would have to stop here");
	if (!strcmp(r->argv[1], "start")) {
		err = memory_log_start(mem);
		if (err)
			control_fail(r, "dirty: %s", err == -EBUSY ? "the log is on already" : strerror(-err));
		else
			fputs("logging\n", r->out);
	} else if (!strcmp(r->argv[1], "fetch")) {
		bitmap = calloc(memory_log_words(mem), sizeof(*bitmap));
		n = bitmap ? memory_log_fetch(mem, bitmap) : -ENOMEM;
		if (n < 0) {
			control_fail(r, "dirty: %s", n == -EINVAL ? "the log is off (dirty start)" : strerror((int)-n));
		} else {
			fprintf(r->out, "%" PRId64 " pages written\n", n);
			print_pages(r->out, bitmap, memory_log_words(mem));
		}
		free(bitmap);
	} else if (!strcmp(r->argv[1], "stop")) {
		memory_log_stop(mem);
		fputs("not logging\n", r->out);
	} else {
		control_fail(r, "usage: dirty start|fetch|stop");
	}
	mmu_write_protect_all(mmu);
}

static void command_help(struct control_request *r);

static const struct control_command control_commands[] = {
	{ "audit", "", "check every invariant of p2m, TLB, shadow tables and page types now", 0, 0, false, true, command_audit },
	{ "balloon", "[SIZE]", "ask the guest to give up so much memory; without SIZE, how it stands", 0, 1, true, true, command_balloon },
	{ "dirty", "start|fetch|stop", "log which guest pages are written; fetch lists and clears them", 1, 1, true, true, command_dirty },
	{ "exits", "", "what guest code was left for, by kind", 0, 0, false, false, command_exits },
	{ "explain", "VA [--cr3 X] [read|write|fetch] [kernel|user]", "the whole way of an address, v to p to m, and what an access would meet", 1, 5, false, true, command_explain },
	{ "help", "", "list the commands", 0, 0, false, false, command_help },
	{ "move", "GPA", "move the guest-physical page to another machine frame", 1, 1, true, true, command_move },
	{ "move-random", "N", "move so many random pages a second (0 stops)", 1, 1, true, false, command_move_random },
	{ "share", "[N]", "look at so many pages a second for equal ones, which then share frames (0 stops); without N, how it stands", 0, 1, true, false, command_share },
	{ "stats", "", "all counters as JSON, as --stats writes them", 0, 0, false, false, command_stats },
};

static void command_help(struct control_request *r)
{
	for (size_t i = 0; i < ARRAY_LEN(control_commands); i++) {
		const struct control_command *c = &control_commands[i];
		char left[80];

		snprintf(left, sizeof(left), "%s%s%s", c->name, c->args[0] ? " " : "", c->args);
		fprintf(r->out, "  %-22s %s\n", left, c->help);
	}
}

const struct control_command *control_command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(control_commands); i++)
		if (!strcmp(control_commands[i].name, name))
			return &control_commands[i];
	return 0;
}
