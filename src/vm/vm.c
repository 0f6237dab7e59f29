/*
 * vm.c - builds, runs and takes apart a virtual machine.
 */
#include "vm/vm_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "vm/profile.h"
#include "vm/trace.h"

#define DRAIN_NS 1000000000u	/* how long a slow reader may hold up an end that the guest did not choose */

static const struct engine *const vm_engines[] = { &engine_bt, &engine_exec };

const struct engine *vm_engine_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(vm_engines); i++)
		if (!strcmp(vm_engines[i]->name, name))
			return vm_engines[i];
	return 0;
}

const char *vm_engine_name(const struct engine *engine)
{
	return engine->name;
}

struct loop *vm_loop(struct vm *vm)
{
	return &vm->loop;
}

/* Under the device lock, on the vcpu's thread: it leaves the engine at once. */
void vm_on_power(void *opaque, enum power_event event, uint8_t value)
{
	struct vm *vm = opaque;

	switch (event) {
	case POWER_OFF: vm_stop(vm, VM_POWER_OFF, 0, 0); break;
	case POWER_RESET: vm_stop(vm, vm_was_shut_down(vm, true) ? VM_REBOOT : VM_CRASH_RESET, 0, 0); break;
	case POWER_DEBUG: vm_stop(vm, VM_DEBUG_EXIT, value, 0); break;
	}
	vcpu_request(&vm->vcpu[0]->v, REQ_STOP);
}

static size_t vm_keys(void *opaque, uint8_t *bytes, size_t len)
{
	struct vm *vm = opaque;

	return vm->config.keys ? vm->config.keys(vm->config.keys_opaque, vm, bytes, len) : len;
}

int vm_console_open(struct vm *vm, const struct console_port_ops *ops, void *port)
{
	const int err = console_init(&vm->console, &vm->loop, &vm->bus, ops, port, vm->config.console_in, vm->config.console_out);

	if (err)
		return err;
	vm->console_ready = true;
	vm->console.keys = vm_keys;
	vm->console.panic_seen = vm_panic_suspected;
	vm->console.opaque = vm;
	vm->console.unbuffered = !tune_on(&vm->config.tune, TUNE_CONSOLE_BUFFER);
	return 0;
}

static int vm_fail(char *error, size_t size, int err, const char *what)
{
	snprintf(error, size, "cannot set up %s: %s", what, strerror(-err));
	return err;
}

static int vm_build(struct vm *vm, char *error, size_t size)
{
	const struct vm_config *c = &vm->config;
	int err = loop_init(&vm->loop);

	if (err)
		return vm_fail(error, size, err, "the event loop");
	vm->loop_ready = true;
	err = vm->machine->memory(vm);
	if (err)
		return vm_fail(error, size, err, "guest memory of the size given with -m");
	vm->memory_ready = true;
	err = vm_room_init(vm, error, size);
	if (err)
		return err;
	vm->memory.tune = &vm->config.tune;
	vm->memory.shadow_pages = (uint32_t)(c->shadow_bytes / PAGE_SIZE);
	bus_init(&vm->bus);
	vm->bus_ready = true;

	/* The kernel first: most failures are its. */
	if (!vm->machine->load(vm, error, size)) {
		vm_room_failure(vm, error, size);
		return -EINVAL;
	}
	err = c->engine->vm_init(&vm->memory, &vm->engine_state);
	if (err)
		return vm_fail(error, size, err, "the engine");
	vm->engine_ready = true;
	for (unsigned id = 0; id < c->cpus; id++) {
		err = vm_vcpu_create(vm, id);
		if (err)
			return vm_fail(error, size, err, "a vcpu");
	}
	err = vm->machine->devices(vm);
	if (!err)
		err = loop_add_timer(&vm->loop, &vm->panic_check, vm_panic_check, vm);
	if (err)
		return vm_fail(error, size, err, "the devices");
	err = vm->machine->enter(vm);
	if (err)
		return vm_fail(error, size, err, "the kernel's first state");
	vm_room_start(vm);
	vm_gather_start(vm);
	err = vm_moves_init(vm);
	if (!err)
		err = vm_share_init(vm);
	if (err)
		return vm_fail(error, size, err, "the control of memory");
	vm_register_stats(vm);
	/* A trace wants the names. */
	if (c->profile || c->perf_map || c->trace)
		err = vm_profile_create(vm, vm->kernel_low, vm->kernel_high, error, size);
	if (!err && c->trace)
		err = vm_trace_create(vm, error, size);
	if (!err && c->control)
		err = control_open(vm, c->control, error, size);
	return err;
}

static void vm_new_id(struct vm *vm)
{
	uint64_t id = clock_realtime_ns(); /* all there is left, should the host have no random numbers */

	if (getrandom(&id, sizeof(id), GRND_NONBLOCK) < 0)
		id ^= (uint64_t)getpid() << 40;
	snprintf(vm->run_id, sizeof(vm->run_id), "%016llx", (unsigned long long)id);
}

int vm_create(const struct vm_config *config, struct vm **out, char *error, size_t error_size)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int err;

	*out = 0;
	if (!vm)
		return vm_fail(error, error_size, -ENOMEM, "the VM");
	clock_init();
	ASSERT(config->cpus >= 1 && config->cpus <= VM_MAX_CPUS);
	vm->config = *config;
	vm->machine = config->paging == PAGING_DIRECT ? &vm_machine_domain : &vm_machine_pc;
	vm_new_id(vm);
	pthread_mutex_init(&vm->end_lock, 0);
	err = vm_build(vm, error, error_size);
	if (err) {
		vm_destroy(vm);
		return err;
	}
	*out = vm;
	return 0;
}

static void vm_on_timeout(void *opaque, uint32_t events)
{
	(void)events;
	vm_stop(opaque, VM_TIMEOUT, 0, 0);
}

const struct vm_end *vm_run(struct vm *vm)
{
	int err = 0;

	vm->start_ns = clock_ns();
	if (vm->config.timeout_ns) {
		err = loop_add_timer(&vm->loop, &vm->timeout, vm_on_timeout, vm);
		if (!err)
			loop_timer_set(&vm->timeout, vm->start_ns + vm->config.timeout_ns);
	}
	if (!err)
		err = vm_trace_start(vm);
	for (unsigned i = 0; !err && i < vm->vcpus; i++)
		err = vm_vcpu_start(vm->vcpu[i]);
	if (err)
		vm_stop(vm, VM_HOST_ERROR, 0, strerror(-err));
	console_start(&vm->console);
	loop_run(&vm->loop);

	control_close(vm->control);
	console_close(&vm->console);
	for (unsigned i = 0; i < vm->vcpus; i++)
		vm->stuck |= !vm_vcpu_join(vm->vcpu[i]);
	if (vm->stuck)
		log_error("internal error: a vcpu does not stop, at guest address 0x%llx", (unsigned long long)vm->vcpu[0]->v.rip);
	const bool chosen = vm->end.kind != VM_TIMEOUT && vm->end.kind != VM_QUIT && vm->end.kind != VM_SIGNAL;
	vm->draining = true;
	console_drain(&vm->console, chosen ? LOOP_NEVER : clock_ns() + DRAIN_NS, &vm->abandon);
	vm_trace_finish(vm);
	vm_collect_stats(vm);
	return &vm->end;
}

void vm_console_resume(struct vm *vm)
{
	console_resume_input(&vm->console);
}

void vm_destroy(struct vm *vm)
{
	if (!vm || vm->stuck)
		return;
	/* Its thread kicks vcpus. */
	xenback_destroy(vm->xenback);
	for (unsigned i = 0; i < vm->disks; i++)
		block_close(&vm->disk[i]);
	control_destroy(vm->control);
	vm_moves_destroy(vm);
	vm_share_destroy(vm);
	vm_trace_destroy(vm);
	vm_profile_destroy(vm);
	for (unsigned i = 0; i < vm->vcpus; i++)
		vm_vcpu_destroy(vm->vcpu[i]);
	if (vm->engine_ready)
		vm->config.engine->vm_destroy(vm->engine_state);
	if (vm->loop_ready) {
		loop_remove(&vm->loop, &vm->timeout);
		loop_remove(&vm->loop, &vm->panic_check);
		loop_remove(&vm->loop, &vm->pit_timer);
	}
	if (vm->console_ready)
		console_destroy(&vm->console);
	if (vm->bus_ready) {
		bus_destroy(&vm->bus);
	}
	vm_room_destroy(vm);
	xen_destroy(vm->xen);
	if (vm->memory_ready)
		memory_destroy(&vm->memory);
	if (vm->loop_ready)
		loop_destroy(&vm->loop);
	pthread_mutex_destroy(&vm->end_lock);
	free(vm);
}
