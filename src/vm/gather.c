/*
 * gather.c - has pages that a program uses side by side moved to frames side by side (mem/gather.c), when generated code misses its windows too often.
 *
 * It takes no more than a twentieth of the time, whatever the guest does (vm_gather_wanted, wake.c).
 */
#include "base/clock.h"
#include "vm/vm_internal.h"

#define GATHER_SHARE 20u

/* The vcpu's thread. */
static void gather_work(void *opaque)
{
	struct vm *vm = opaque;
	const uint64_t now = clock_ns();

	mmu_gather(&vm->vcpu[0]->v.mmu);
	vm->gather_next_ns = now + GATHER_SHARE * (clock_ns() - now);
}

/* Not while the pool is smaller than guest memory: there pages have to move for other reasons. */
void vm_gather_start(struct vm *vm)
{
	if (!vm->memory.gather.area_pages || !tune_on(vm->memory.tune, TUNE_GATHER))
		return;
	vm->gather_work = (struct vm_work){ .run = gather_work, .opaque = vm };
	vm->memory.gather.opaque = vm;
	vm->memory.gather.wanted = vm_gather_wanted;
}
