/*
 * report.c - the statistics file.
 */
#include "vm/vm_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"

static const struct stat_row host_rows[] = {
	STAT_ROW(struct vm_host_stats, wall_ns, "time from the start of the run to its end"),
	STAT_ROW(struct vm_host_stats, cpu_ns, "processor time of the whole process, loading included"),
	STAT_ROW(struct vm_host_stats, vcpu_cpu_ns, "processor time of the vcpu threads"),
	STAT_ROW(struct vm_host_stats, max_rss_kib, "largest resident size of the process"),
	STAT_ROW(struct vm_host_stats, guest_kib, "guest memory that has machine frames, at the end"),
	STAT_ROW(struct vm_host_stats, code_ns, "sampled: in translated code"),
	STAT_ROW(struct vm_host_stats, executor_ns, "sampled: in the executor"),
	STAT_ROW(struct vm_host_stats, translation_ns, "sampled: translating"),
	STAT_ROW(struct vm_host_stats, paging_ns, "sampled: in the memory management unit's slow paths"),
	STAT_ROW(struct vm_host_stats, devices_ns, "sampled: in device models"),
	STAT_ROW(struct vm_host_stats, idle_ns, "time that vcpu threads slept in HLT"),
	STAT_ROW(struct vm_host_stats, samples, "samples taken"),
};

static const struct stat_row device_rows[] = {
	STAT_ROW(struct vm_device_stats, port_accesses, "port reads and writes"),
	STAT_ROW(struct vm_device_stats, mmio_accesses, "memory-mapped reads and writes"),
};

static const struct stat_row exit_rows[] = {
#define ROW(kind_, name, help) { name, offsetof(struct vm_exit_stats, kind) + sizeof(uint64_t) * kind_, help }
	ROW(EXIT_HLT, "hlt", "exits: the guest halted until the next interrupt"),
	ROW(EXIT_HLT_FOREVER, "hlt_forever", "exits: the guest halted for good"),
	ROW(EXIT_STOP, "stop", "exits: something was asked of the vcpu's thread"),
	ROW(EXIT_TRIPLE_FAULT, "triple_fault", "exits: triple fault"),
	ROW(EXIT_UNSUPPORTED, "unsupported", "exits: the guest needs what Trifold lacks"),
	ROW(EXIT_HOST_ERROR, "host_error", "exits: the host ran short"),
#undef ROW
};

/* Processor time of a vcpu's thread so far. */
static uint64_t vcpu_cpu_ns(const struct vm_vcpu *t)
{
	struct timespec cpu;
	clockid_t clock;

	/* Zero until the thread's end. */
	if (t->cpu_ns || !t->started || pthread_getcpuclockid(t->thread, &clock) || clock_gettime(clock, &cpu))
		return t->cpu_ns;
	return (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
}

static uint64_t vcpu_idle_ns(struct vm_vcpu *t)
{
	const uint64_t from = atomic_load(&t->idle_from), now = clock_ns();

	return t->idle_ns + (from && from < now ? now - from : 0);
}

void vm_collect_stats(struct vm *vm)
{
	struct vm_host_stats *h = &vm->host;
	uint64_t samples[ACT_COUNT] = { 0 };
	struct rusage usage;
	struct timespec cpu;

	h->wall_ns = clock_ns() - vm->start_ns;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	h->cpu_ns = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
	getrusage(RUSAGE_SELF, &usage);
	h->max_rss_kib = (uint64_t)usage.ru_maxrss;
	h->guest_kib = vm->memory.backed * 4;
	h->vcpu_cpu_ns = h->idle_ns = h->samples = 0;
	for (unsigned i = 0; i < vm->vcpus; i++) {
		h->vcpu_cpu_ns += vcpu_cpu_ns(vm->vcpu[i]);
		h->idle_ns += vcpu_idle_ns(vm->vcpu[i]);
		for (unsigned a = 0; a < ACT_COUNT; a++)
			samples[a] += vm->vcpu[i]->samples[a];
	}
	for (unsigned a = 0; a < ACT_COUNT; a++)
		h->samples += samples[a];

	uint64_t *const by_kind[ACT_COUNT] = {
		[ACT_CODE] = &h->code_ns, [ACT_EXECUTOR] = &h->executor_ns, [ACT_TRANSLATION] = &h->translation_ns,
		[ACT_PAGING] = &h->paging_ns, [ACT_DEVICES] = &h->devices_ns,
	};
	for (unsigned a = 0; a < ACT_COUNT; a++)
		if (by_kind[a])
			*by_kind[a] = h->samples ? (uint64_t)((unsigned __int128)h->vcpu_cpu_ns * samples[a] / h->samples) : 0;
	vm->devices = (struct vm_device_stats){ vm->bus.accesses[BUS_PORT], vm->bus.accesses[BUS_MMIO] };
}

void vm_register_stats(struct vm *vm)
{
	stats_add(&vm->stats, "host", host_rows, ARRAY_LEN(host_rows), &vm->host);
	stats_add(&vm->stats, "exits", exit_rows, ARRAY_LEN(exit_rows), &vm->exits);
	stats_add(&vm->stats, "devices", device_rows, ARRAY_LEN(device_rows), &vm->devices);
	vm->machine->stats(vm);
	if (vm->config.engine->stats)
		vm->config.engine->stats(vm->engine_state, &vm->stats);
	/* One vcpu: -c above 1 will want a group each, or sums. */
	stats_add(&vm->stats, "mmu", mmu_stat_rows, mmu_stat_row_count, &vm->vcpu[0]->v.mmu.counters);
	stats_add(&vm->stats, "memory", memory_stat_rows, memory_stat_row_count, &vm->memory.counters);
	stats_add(&vm->stats, "cpu", cpu_stat_rows, cpu_stat_row_count, &vm->vcpu[0]->v.counters);
}

const char *vm_exit_name(enum exit_kind kind)
{
	for (size_t i = 0; i < ARRAY_LEN(exit_rows); i++)
		if (exit_rows[i].offset == offsetof(struct vm_exit_stats, kind) + sizeof(uint64_t) * kind)
			return exit_rows[i].name;
	return "none";
}

const char *vm_paging_name(enum paging_mode mode)
{
	static const char *const paging[] = { [PAGING_NESTED] = "nested", [PAGING_SHADOW] = "shadow", [PAGING_DIRECT] = "direct", [PAGING_AUTO] = "auto" };

	return paging[mode];
}


void vm_print_stats(struct vm *vm, FILE *f)
{
	static const char *const placement[] = { [PLACEMENT_LINEAR] = "linear", [PLACEMENT_SCATTER] = "scatter" };

	fprintf(f, "{\n  \"run\": {\n    \"id\": \"%s\",\n    \"engine\": \"%s\",\n    \"paging\": \"%s\",\n    \"placement\": \"%s\",\n",
		vm->run_id, vm->config.engine->name, vm_paging_name(vm->config.paging), placement[vm->config.placement]);
	fprintf(f, "    \"cpus\": %u,\n    \"memory_bytes\": %llu,\n    \"end\": \"%s\"", vm->vcpus,
		(unsigned long long)vm->config.memory_bytes, vm_end_name(&vm->end));
	if (vm->end.kind != VM_RUNNING)
		fprintf(f, ",\n    \"status\": %d", vm_end_status(&vm->end));
	fprintf(f, "\n  }");
	for (size_t i = 0; i < vm->stats.groups; i++) {
		fprintf(f, ",\n");
		stats_write_group(f, &vm->stats.group[i]);
	}
	fprintf(f, "\n}\n");
}

int vm_write_stats(struct vm *vm, const char *path)
{
	FILE *f = fopen(path, "we");

	if (!f)
		return -errno;
	vm_print_stats(vm, f);
	const bool bad = ferror(f);
	return fclose(f) || bad ? -EIO : 0;
}
