/*
 * profile.c - sets up profiling and takes the samples (profile.h). The report is in profile_report.c.
 *
 * Why a sample can be counted in the signal handler: it runs on the vcpu's thread, the tables that it adds to are touched by nobody else
 * until the thread has stopped, and what it reads of the translator changes only on this thread too.
 */
#include "vm/profile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "boot/kallsyms.h"
#include "vm/vm_internal.h"

#define SAMPLE_ROWS (1u << 14)
#define EVENT_ROWS (1u << 14)
#define KILLED_ROWS (1u << 12)
#define INSN_ROWS (1u << 12)
#define OWN_ROWS (1u << 12)
#define KERNEL_HALF (1ull << 63)
#define KERNEL_BYTES_MAX MIB(512)

const char *const profile_sample_names[SAMPLE_COLUMNS] = {
	[SAMPLE_CODE] = "code", [SAMPLE_GLUE] = "glue", [SAMPLE_STRING] = "string", [SAMPLE_EXECUTOR] = "executor",
	[SAMPLE_TRANSLATION] = "translation", [SAMPLE_PAGING] = "paging", [SAMPLE_DEVICES] = "devices",
};

void vm_profile_sample(struct vm_vcpu *t, const ucontext_t *context)
{
	static const uint8_t in_c[ACT_COUNT] = {
		[ACT_CODE] = SAMPLE_STRING, [ACT_EXECUTOR] = SAMPLE_EXECUTOR, [ACT_TRANSLATION] = SAMPLE_TRANSLATION,
		[ACT_PAGING] = SAMPLE_PAGING, [ACT_DEVICES] = SAMPLE_DEVICES, [ACT_IDLE] = SAMPLE_EXECUTOR,
	};
	struct vm_profile_vcpu *p = &t->vm->profile->vcpu;
	const uint64_t rip = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
	const unsigned activity = t->v.activity < ACT_COUNT ? t->v.activity : ACT_CODE;
	struct bt_place place = { BT_PLACE_C, t->v.rip, 0 };
	unsigned column = in_c[activity];

	if (t->vm->profile->attached)
		bt_profile_place(&t->v, rip, &place);
	else
		place.space = profile_space(&t->v);
	if (column == SAMPLE_STRING && !p->bt.cause)
		column = SAMPLE_EXECUTOR; /* on the way into code or out of it */
	if (place.kind != BT_PLACE_C)
		column = place.kind == BT_PLACE_CODE ? SAMPLE_CODE : SAMPLE_GLUE;
	profile_add(&p->samples, place.va, place.space, column);
	if (place.kind != BT_PLACE_C)
		return;
	profile_add(&p->own, rip, 0, 0);
	if ((column == SAMPLE_EXECUTOR || column == SAMPLE_DEVICES) && p->bt.insn.space)
		profile_add(&p->insns, p->bt.insn.va, p->bt.insn.space, 0);
}

static void take_kernel_symbol(void *opaque, uint64_t address, char type, const char *name)
{
	(void)type;
	if (address >= KERNEL_HALF) /* the others are offsets in per-CPU areas */
		symbols_add(opaque, address, 0, name);
}

/* The kernel as it was loaded, before it runs: its tables cannot have been damaged by itself yet. */
static void profile_kernel_symbols(struct vm *vm, uint64_t low, uint64_t high)
{
	const size_t size = high > low && high - low <= KERNEL_BYTES_MAX ? (size_t)(high - low) : 0;
	uint8_t *image = size ? mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;

	if (image == MAP_FAILED)
		return;
	madvise(image, size, MADV_HUGEPAGE);	/* page faults cost more than the copy */
	if (!memory_read(&vm->memory, gpa(low), image, size))
		kallsyms_parse(image, size, take_kernel_symbol, &vm->profile->symbols[0].table);
	munmap(image, size);
}

static bool profile_symbols(struct vm *vm, uint64_t low, uint64_t high, char *error, size_t size)
{
	struct profile_symbols *kernel = vm->profile->symbols;
	char ignored[300];

	profile_kernel_symbols(vm, low, high);
	if (!kernel->table.count)	/* an ELF kernel may have a symbol table in its file */
		symbols_add_file(&kernel->table, vm->config.kernel, ignored, sizeof(ignored));
	symbols_sort(&kernel->table);
	for (unsigned i = 0; i < vm->config.symbol_files; i++) {
		const char *file = vm->config.symbol_file[i], *slash = strrchr(file, '/');
		struct profile_symbols *s = &kernel[1 + i];

		if (!symbols_add_file(&s->table, file, error, size))
			return false;
		symbols_sort(&s->table);
		if (s->table.program)
			snprintf(s->program, sizeof(s->program), "%s", slash ? slash + 1 : file);
	}
	return true;
}

const char *profile_symbol(const struct vm_profile *p, uint64_t va, uint64_t space, uint64_t *offset)
{
	const char *program = space > 1 ? profile_program_name(p, space) : 0, *name;

	for (unsigned i = 0; i < ARRAY_LEN(p->symbols); i++) {
		const struct profile_symbols *s = &p->symbols[i];
		const bool others = s->program[0] && (!space || (program && strcmp(program, s->program)));

		if (!others && (name = symbols_find(&s->table, va, offset)))
			return name;
	}
	return 0;
}

size_t profile_symbol_count(const struct vm_profile *p)
{
	size_t n = 0;

	for (unsigned i = 0; i < ARRAY_LEN(p->symbols); i++)
		n += p->symbols[i].table.count;
	return n;
}

static int profile_tables(struct vm_profile *p)
{
	int err = profile_table_init(&p->vcpu.samples, SAMPLE_ROWS);

	if (!err)
		err = profile_table_init(&p->vcpu.insns, INSN_ROWS);
	if (!err)
		err = profile_table_init(&p->vcpu.own, OWN_ROWS);
	if (!err)
		err = profile_table_init(&p->vcpu.bt.events, EVENT_ROWS);
	if (!err)
		err = profile_table_init(&p->vcpu.bt.insns, INSN_ROWS);
	if (!err)
		err = profile_table_init(&p->bt.killed, KILLED_ROWS);
	p->program = calloc(PROFILE_PROGRAMS, sizeof(*p->program));
	return err || !p->program ? -ENOMEM : 0;
}

int vm_profile_create(struct vm *vm, uint64_t kernel_low, uint64_t kernel_high, char *error, size_t error_size)
{
	struct vm_profile *p = calloc(1, sizeof(*p));
	int err = p ? 0 : -ENOMEM;

	vm->profile = p;
	if (p) {
		p->sampling = vm->config.profile;
		p->map = vm->config.perf_map;
		if (p->sampling)
			err = profile_tables(p);
		/* Zeroes that stay untouched cost nothing. */
		p->bt.cold = calloc(BT_COLDS, sizeof(*p->bt.cold));
		p->bt.cold_room = BT_COLDS;
		if (!p->bt.cold)
			err = -ENOMEM;
	}
	if (err) {
		snprintf(error, error_size, "cannot set up the profile: %s", strerror(-err));
		return err;
	}
	if (!profile_symbols(vm, kernel_low, kernel_high, error, error_size))
		return -EINVAL;
	if (p->map)
		err = perf_map_open(vm, error, error_size);
	if (!err && vm->config.engine == &engine_bt && (p->sampling || p->map)) {
		bt_profile_attach(vm->engine_state, &p->bt);
		p->attached = true;
		if (p->sampling) {
			p->vcpu.bt.user = profile_user;
			p->vcpu.bt.opaque = vm;
			bt_profile_attach_vcpu(&vm->vcpu[0]->v, &p->vcpu.bt);
		}
	}
	return err;
}

void vm_profile_destroy(struct vm *vm)
{
	struct vm_profile *p = vm->profile;

	if (!p)
		return;
	perf_map_close(vm);
	if (p->attached) {
		bt_profile_attach(vm->engine_state, 0);
		bt_profile_attach_vcpu(&vm->vcpu[0]->v, 0);
	}
	for (unsigned i = 0; i < ARRAY_LEN(p->symbols); i++)
		symbols_free(&p->symbols[i].table);
	profile_table_free(&p->vcpu.samples);
	profile_table_free(&p->vcpu.insns);
	profile_table_free(&p->vcpu.own);
	profile_table_free(&p->vcpu.bt.events);
	profile_table_free(&p->vcpu.bt.insns);
	profile_table_free(&p->bt.killed);
	free(p->bt.cold);
	free(p->program);
	free(p);
	vm->profile = 0;
}
