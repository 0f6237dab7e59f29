/*
 * end.c - the ends of a run: what each is called, its exit status, what the user is told. Telling a guest's crash from its orderly end is the machine's affair (pc.c, domain.c).
 */
#include "vm/vm_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

enum { STATUS_OK = 0, STATUS_GUEST_CRASH = 70, STATUS_TIMEOUT = 124, STATUS_ERROR = 125, STATUS_SIGNAL = 128 };

static const struct end_row {
	const char *name;
	int status;		/* unless computed from the value, below */
	const char *text;	/* %s: reason; 0: nothing to say */
} end_rows[VM_END_KINDS] = {
	[VM_RUNNING] = { "running", STATUS_ERROR, 0 },
	[VM_POWER_OFF] = { "power-off", STATUS_OK, 0 },
	[VM_REBOOT] = { "reboot", STATUS_OK, "the guest asked for a reboot, which ends the run" },
	[VM_HALTED] = { "halt", STATUS_OK, "the guest halted" },
	[VM_DEBUG_EXIT] = { "debug-exit", 0, 0 },
	[VM_TIMEOUT] = { "timeout", STATUS_TIMEOUT, "timed out" },
	[VM_QUIT] = { "quit", STATUS_OK, "ended from the console" },
	[VM_SIGNAL] = { "signal", 0, "%s" },
	[VM_PANIC] = { "panic", STATUS_GUEST_CRASH, "the guest kernel panicked" },
	[VM_CRASH_RESET] = { "crash-reset", STATUS_GUEST_CRASH, "the guest crashed: it reset the machine without shutting down" },
	[VM_CRASH_HALT] = { "crash-halt", STATUS_GUEST_CRASH, "the guest crashed: it halted with interrupts off, without shutting down" },
	[VM_TRIPLE_FAULT] = { "triple-fault", STATUS_GUEST_CRASH, "the guest crashed: %s" },
	[VM_UNSUPPORTED] = { "unsupported", STATUS_ERROR, "the guest needs what Trifold lacks: %s" },
	[VM_HOST_ERROR] = { "host-error", STATUS_ERROR, "%s" },
};

int vm_end_status(const struct vm_end *end)
{
	if (end->kind == VM_DEBUG_EXIT)
		return (int)((end->value << 1 | 1) & 0xff);
	if (end->kind == VM_SIGNAL)
		return STATUS_SIGNAL + (int)end->value;
	return end_rows[end->kind].status;
}

const char *vm_end_name(const struct vm_end *end)
{
	return end_rows[end->kind].name;
}

const char *vm_end_text(const struct vm_end *end, char *text, size_t size)
{
	const char *format = end_rows[end->kind].text;
	const char *hole = format ? strstr(format, "%s") : 0;

	if (!format)
		return 0;
	if (hole)
		snprintf(text, size, "%.*s%s%s", (int)(hole - format), format, end->reason, hole + 2);
	else
		snprintf(text, size, "%s", format);
	return text;
}

void vm_stop(struct vm *vm, enum vm_end_kind kind, unsigned value, const char *reason)
{
	pthread_mutex_lock(&vm->end_lock);
	if (vm->end.kind == VM_RUNNING) {
		vm->end.kind = kind;
		vm->end.value = value;
		snprintf(vm->end.reason, sizeof(vm->end.reason), "%s", reason ? reason : "");
		atomic_store(&vm->ended, true);
	} else if (vm->draining) {
		vm->abandon = true;
	}
	pthread_mutex_unlock(&vm->end_lock);
	loop_stop(&vm->loop);
}

/* Xen takes the machine down in good order after a panic, its own or domain 0's, too; but not long after the words. */
#define PANIC_WORDS_NS 120000000000u

bool vm_was_shut_down(const struct vm *vm, bool restart)
{
	const uint64_t said = atomic_load(&vm->panic.said_ns);

	return !(said && clock_ns() - said < PANIC_WORDS_NS) && vm->machine->was_shut_down(vm, restart);
}

/*
 * A kernel that panicked and is not to reboot waits for ever in a delay loop with interrupts on. Its last words on the
 * console raise the suspicion, but anybody can print them; what a live system does and this one never does again
 * is to halt in the idle loop or to make a system call. Two quiet seconds confirm it.
 */
#define PANIC_ROUND_NS 500000000u
#define PANIC_ROUNDS 4u

static bool panic_activity(struct vm *vm)
{
	const struct cpu_counters *c = &vm->vcpu[0]->v.counters;
	const bool changed = c->syscalls != vm->panic.syscalls || c->halts != vm->panic.halts;

	vm->panic.syscalls = c->syscalls;
	vm->panic.halts = c->halts;
	return changed || vcpu_user(&vm->vcpu[0]->v);
}

void vm_panic_suspected(void *opaque, bool waits)
{
	struct vm *vm = opaque;

	atomic_store(&vm->panic.said_ns, clock_ns());
	if (waits)
		loop_timer_set(&vm->panic_check, clock_ns() + PANIC_ROUND_NS);
}

void vm_panic_check(void *opaque, uint32_t events)
{
	struct vm *vm = opaque;

	(void)events;
	/* The first round only takes the counts. */
	if (panic_activity(vm) && vm->panic.rounds) {
		vm->panic.rounds = 0;
		return;
	}
	if (vm->panic.rounds++ == PANIC_ROUNDS)
		vm_stop(vm, VM_PANIC, 0, 0);
	else
		loop_timer_set(&vm->panic_check, clock_ns() + PANIC_ROUND_NS);
}
