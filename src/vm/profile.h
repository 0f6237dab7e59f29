/*
 * profile.h - `--profile` and `--perf-map`: where a run's time goes, by guest symbol (docs/profile.md).
 *
 * Lifecycle: vm_profile_create after the vcpus exist and the kernel is loaded, vm_profile_write after they have stopped,
 * vm_profile_destroy. Sampling: a timer sends the vcpu's thread a signal every config.profile_ns while it is not asleep; the handler
 * finds out what ran and counts it in a table of fixed size. Events (exits, TLB misses...) are counted by bt/profile.c.
 */
#ifndef VM_PROFILE_H
#define VM_PROFILE_H

#include <stdio.h>
#include <ucontext.h>
#include "bt/profile.h"
#include "vm/symbols.h"
#include "vm/vm.h"

struct vm_vcpu;

/* What a sample met. */
enum profile_sample {
	SAMPLE_CODE,		/* translated code */
	SAMPLE_GLUE,		/* its cold paths, and the stubs between it and C */
	SAMPLE_STRING,		/* string instructions, done in C */
	SAMPLE_EXECUTOR,	/* one instruction in C, and looking up where to go on */
	SAMPLE_TRANSLATION,
	SAMPLE_PAGING,		/* TLB misses of translated code */
	SAMPLE_DEVICES,
	SAMPLE_COLUMNS
};
extern const char *const profile_sample_names[SAMPLE_COLUMNS];

struct vm_profile_vcpu {
	struct profile_table samples;	/* by block or instruction; columns: enum profile_sample */
	struct profile_table insns;	/* by instruction that the executor has; one column */
	struct profile_table own;	/* by our own code's address; one column */
	struct bt_vcpu_profile bt;
};

/* The kernel's symbols, or those of one file of --symbols; program: whose they are, if not anybody's. */
struct profile_symbols { struct symbols table; char program[48]; };

/* Programs seen in the guest: what user address spaces are called. */
#define PROFILE_PROGRAMS 4096u
struct profile_program { uint64_t space; char name[48]; };

struct vm_profile {
	bool sampling, map;		/* --profile, --perf-map */
	struct profile_symbols symbols[1 + VM_SYMBOL_FILES];
	struct bt_profile bt;
	bool attached;
	struct profile_program *program;
	unsigned programs;
	FILE *perf_map;
	uint64_t perf_map_bytes;
	/* One vcpu: -c above 1 needs one each, and sums in the report. */
	struct vm_profile_vcpu vcpu;
};

/* The kernel lies in guest-physical [kernel_low, kernel_high). 0, or -errno with one clear line in error. */
int vm_profile_create(struct vm *vm, uint64_t kernel_low, uint64_t kernel_high, char *error, size_t error_size);
void vm_profile_destroy(struct vm *vm);
/* Signal handler of the vcpu's thread. */
void vm_profile_sample(struct vm_vcpu *t, const ucontext_t *context);

/* The symbol of a guest address and how far into it; 0: none. Space 1: of any program. */
const char *profile_symbol(const struct vm_profile *p, uint64_t va, uint64_t space, uint64_t *offset);
size_t profile_symbol_count(const struct vm_profile *p);

/* programs.c: bt_vcpu_profile.user. */
void profile_user(void *vm, struct vcpu *v);
/* The file name of the program whose user code runs; false: it cannot be found. On the vcpu's thread. */
bool program_path(struct vcpu *v, char *name, size_t size);
/* 0: not known. */
const char *profile_program_name(const struct vm_profile *p, uint64_t space);

/* perf_map.c */
int perf_map_open(struct vm *vm, char *error, size_t error_size);
void perf_map_close(struct vm *vm);

#endif
