/*
 * engine.h - what runs a vcpu. vm/ calls engine_run in a loop and acts on v->exit.
 *
 * bt (bt/engine.c) is the binary translator; exec (cpu/exec_engine.c) runs everything one instruction at a time through the
 * executor and exists for tests. Both obey: on return all guest state is in struct vcpu.
 */
#ifndef CPU_ENGINE_H
#define CPU_ENGINE_H

#include "cpu/vcpu.h"

struct engine {
	const char *name;
	/* Per-VM and per-vcpu set-up; 0 or -errno. The vcpu's own thread calls thread_start before the first run. */
	int (*vm_init)(struct memory *memory, void **vm_state);
	void (*vm_destroy)(void *vm_state);
	int (*vcpu_init)(struct vcpu *v, void *vm_state);
	int (*thread_start)(struct vcpu *v);
	void (*vcpu_destroy)(struct vcpu *v);
	/* Runs until v->exit.kind != EXIT_NONE. FPU state is saved on return. */
	void (*run)(struct vcpu *v);
	/* Makes a running vcpu look at v->pending soon; any thread, signal handlers too. */
	void (*kick)(struct vcpu *v);
	/* Registers the engine's counters; may be 0. */
	void (*stats)(void *vm_state, struct stats *stats);
};

extern const struct engine engine_bt;
extern const struct engine engine_exec;

#endif
