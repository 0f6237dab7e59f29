/*
 * exec_engine.c - the engine that translates nothing: every instruction goes through the executor. For tests, and as the
 * reference that the translator is compared with.
 */
#include "cpu/engine.h"
#include "cpu/exec.h"
#include "cpu/host_fault.h"

static int exec_vm_init(struct memory *memory, void **vm_state)
{
	(void)memory;
	*vm_state = NULL;
	return 0;
}

static void exec_vm_destroy(void *vm_state) { (void)vm_state; }

static int exec_vcpu_init(struct vcpu *v, void *vm_state)
{
	(void)v;
	(void)vm_state;
	return 0;
}

static int exec_thread_start(struct vcpu *v)
{
	(void)v;
	return host_fault_thread_start();
}

static void exec_vcpu_destroy(struct vcpu *v) { (void)v; }

/* Requests; false to return. */
static bool handle_pending(struct vcpu *v)
{
	uint32_t pending = atomic_load(&v->pending);

	if (pending & REQ_STOP) {
		v->exit.kind = EXIT_STOP;
		return false;
	}
	atomic_fetch_and(&v->pending, ~(uint32_t)REQ_SAMPLE);
	/* One after the other: what a handler does not mask comes before its first instruction. */
	while (atomic_load(&v->pending) & REQ_INTERRUPT)
		if (exec_interrupts(v) != EXEC_NEXT)
			return false;
	return true;
}

static void exec_run(struct vcpu *v)
{
	v->exit.kind = EXIT_NONE;
	v->activity = ACT_EXECUTOR;
	while (v->exit.kind == EXIT_NONE) {
		if (UNLIKELY(atomic_load_explicit(&v->pending, memory_order_relaxed)) && !handle_pending(v))
			break;
		if (exec_still_halted(v))
			break;
		/* Nothing runs translated code here, so stale translations do not matter. */
		atomic_store_explicit(&v->memory->track.code_writes, 0, memory_order_relaxed);
		if (exec_step(v) == EXEC_STOP)
			break;
	}
	fpu_save(v);
}

static void exec_kick(struct vcpu *v) { (void)v; }

const struct engine engine_exec = {
	.name = "exec",
	.vm_init = exec_vm_init,
	.vm_destroy = exec_vm_destroy,
	.vcpu_init = exec_vcpu_init,
	.thread_start = exec_thread_start,
	.vcpu_destroy = exec_vcpu_destroy,
	.run = exec_run,
	.kick = exec_kick,
};
