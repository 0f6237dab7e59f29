/*
 * domain.c - the machine of paravirtualized kernels: what --paging direct boots. A Xen domain (xen/domain.h) with hvc0 for a console; there is no other device but
 * the port of --debug-exit.
 */
#include "vm/vm_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "xen/page.h"

/* The vcpu's thread, as cold code. */
static void domain_ended(void *opaque, enum xen_end end)
{
	static const enum vm_end_kind kind[] = {
		[XEN_END_POWEROFF] = VM_POWER_OFF, [XEN_END_REBOOT] = VM_REBOOT, [XEN_END_SUSPEND] = VM_UNSUPPORTED, [XEN_END_CRASH] = VM_PANIC,
	};
	struct vm *vm = opaque;

	vm_stop(vm, kind[end], 0, end == XEN_END_SUSPEND ? "suspending a domain" : 0);
	vcpu_request(&vm->vcpu[0]->v, REQ_STOP);
}

static void domain_console_write(void *opaque, const char *text, size_t len)
{
	struct vm *vm = opaque;

	bus_lock(&vm->bus);
	for (size_t i = 0; i < len; i++)
		console_tx(&vm->console, (uint8_t)text[i]);
	bus_unlock(&vm->bus);
}

static int domain_memory(struct vm *vm)
{
	const struct vm_config *c = &vm->config;
	const uint64_t pages = c->memory_bytes >> PAGE_SHIFT;
	const struct xen_config config = {
		.memory = &vm->memory, .pages = pages, .realtime_ns = clock_realtime_ns, .ended = domain_ended, .console_write = domain_console_write, .opaque = vm,
	};
	int err = memory_init_machine(&vm->memory, c->memory_bytes, xen_spare_frames(pages), c->placement, c->placement_seed);

	if (err)
		return err;
	err = xen_create(&config, &vm->xen);
	if (err)
		memory_destroy(&vm->memory);
	return err;
}

/* Domain 0 with what it offers. */
static bool open_disks(struct vm *vm, char *error, size_t size)
{
	const struct vm_config *c = &vm->config;

	if (xenback_create(vm->xen, &vm->memory, &vm->xenback)) {
		snprintf(error, size, "cannot set up xenstore");
		return false;
	}
	for (unsigned i = 0; i < c->disks; i++) {
		if (block_open(&vm->disk[i], c->disk[i].path, c->disk[i].read_only, &vm->disk_counters, error, size))
			return false;
		vm->disks++;
		if (xenback_add_disk(vm->xenback, &vm->disk[i])) {
			snprintf(error, size, "disk %s: out of memory", c->disk[i].path);
			return false;
		}
	}
	return true;
}

static bool domain_load(struct vm *vm, char *error, size_t size)
{
	const struct vm_config *c = &vm->config;
	struct boot_config boot_config = { .kernel = c->kernel, .initrds = c->initrds, .cmdline = c->cmdline };
	struct boot_context boot = { .memory = &vm->memory, .config = &boot_config };

	memcpy(boot_config.initrd, c->initrd, sizeof(boot_config.initrd));
	if (hvc_init(&vm->hvc, &vm->bus, vm->xen, &vm->console)) {
		snprintf(error, size, "cannot set up the console's event channel");
		return false;
	}
	if (!open_disks(vm, error, size))
		return false;
	const struct boot_xen xen = {
		.shared_info = xen_shared_info_mfn(vm->xen), .console_port = vm->hvc.port, .store_port = xenback_store_port(vm->xenback),
	};
	if (!boot_load_xen(&boot, &xen, &vm->start.xen)) {
		snprintf(error, size, "%s", boot.error);
		return false;
	}
	vm->kernel_low = vm->start.xen.kernel_low;
	vm->kernel_high = vm->start.xen.kernel_high;
	return true;
}

static int domain_devices(struct vm *vm)
{
	int err = vm_console_open(vm, &hvc_console_port, &vm->hvc);

	if (!err)
		err = power_init(&vm->power, &vm->bus, vm->config.debug_exit, vm_on_power, vm);
	for (unsigned id = 0; !err && id < vm->vcpus; id++)
		err = xen_add_vcpu(vm->xen, &vm->vcpu[id]->v);
	return err;
}

static mfn_t domain_frame(struct vm *vm, gpa_t p)
{
	struct p2m_entry e;
	bool there;

	memory_lock(&vm->memory);
	there = p2m_lookup(&vm->memory, p, &e);
	memory_unlock(&vm->memory);
	return there ? e.m : MFN_NONE;
}

static int domain_enter(struct vm *vm)
{
	const struct boot_xen_entry *e = &vm->start.xen;
	const struct xen_boot boot = {
		.rip = e->rip, .rsi = e->rsi, .rsp = e->rsp, .root = e->root, .hypercall_page = e->hypercall_page,
		.ring = { domain_frame(vm, e->console), domain_frame(vm, e->store) },
	};

	if (!mfn_valid(boot.ring[0]) || !mfn_valid(boot.ring[1]))
		return -EINVAL;
	hvc_set_ring(&vm->hvc, &vm->memory.pool, boot.ring[0]);
	const int err = xen_start(vm->xen, &boot);

	return err ? err : xenback_start(vm->xenback, boot.ring[1]);
}

static void domain_stats(struct vm *vm)
{
	stats_add(&vm->stats, "xen", xen_stat_rows, xen_stat_row_count, xen_counters(vm->xen));
	stats_add(&vm->stats, "hypercalls", xen_call_rows, xen_call_row_count, xen_counters(vm->xen));
	stats_add(&vm->stats, "pages", pv_stat_rows, pv_stat_row_count, xen_page_counters(vm->xen));
	stats_add(&vm->stats, "back", xenback_stat_rows, xenback_stat_row_count, xenback_counters(vm->xenback));
	stats_add(&vm->stats, "disk", block_stat_rows, block_stat_row_count, &vm->disk_counters);
	stats_add(&vm->stats, "hvc", hvc_stat_rows, hvc_stat_row_count, &vm->hvc.counters);
}

/* It says so by a hypercall (SCHEDOP_shutdown); any other end is a crash. */
static bool domain_was_shut_down(const struct vm *vm, bool restart)
{
	(void)vm, (void)restart;
	return false;
}

const struct vm_machine vm_machine_domain = {
	.memory = domain_memory, .load = domain_load, .devices = domain_devices, .enter = domain_enter, .stats = domain_stats,
	.was_shut_down = domain_was_shut_down,
};
