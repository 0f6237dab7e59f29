/*
 * balloon.c - the machine's balloon: where it is, and how the pages that the guest gives up lose their frames.
 *
 * The driver notifies the device from guest code, when frames may not go. So each notification posts a piece of work for the vcpu's thread, which serves the
 * device's queues outside generated code, a bounded part at a time, and is posted anew while there is more to do.
 */
#include "vm/vm_internal.h"

_Static_assert(VM_MAX_CPUS == 1, "other vcpus would have to stop here");

static void balloon_wanted(void *opaque)
{
	struct vm *vm = opaque;

	if (!atomic_exchange(&vm->balloon_under_way, true))
		vm_vcpu_post(vm->vcpu[0], &vm->balloon_work);
}

/* The vcpu's thread. */
static void balloon_work(void *opaque)
{
	struct vm *vm = opaque;
	bool more;

	/* Frames of earlier work go back now: since then their translated code has been dropped. */
	memory_release(&vm->memory);
	bus_lock(&vm->bus);
	/* A notification from now on is for what comes after this service. */
	atomic_store(&vm->balloon_under_way, false);
	more = virtio_balloon_serve(&vm->balloon);
	bus_unlock(&vm->bus);
	mmu_frames_changed(&vm->vcpu[0]->v.mmu);
	memory_release(&vm->memory);
	if (more)
		balloon_wanted(vm);
}

int vm_balloon_init(struct vm *vm)
{
	const struct irq_line irq = { ioapic_set_pin, &vm->ioapic, VM_VIRTIO_GSI };

	vm->balloon_work = (struct vm_work){ .run = balloon_work, .opaque = vm };
	return virtio_balloon_init(&vm->balloon, &vm->memory, &vm->bus, VM_VIRTIO_BASE, &irq, balloon_wanted, vm);
}
