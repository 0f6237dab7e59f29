/*
 * share.c - looks for equal pages under the running guest and lets them share frames (mem/share.h): so many pages a second.
 *
 * The rate is kept as in moves.c: a timer of the I/O thread posts one piece of work at a time, which looks at as many pages as time has passed for, a bounded number. What the vcpu missed
 * while it was held is forgotten.
 */
#include "vm/vm_internal.h"

#include "base/clock.h"
#include "base/log.h"

#define SHARE_INTERVAL_NS 20000000u
#define SECOND_NS 1000000000u
#define SHARE_AT_ONCE ((uint64_t)VM_SHARE_MAX * SHARE_INTERVAL_NS / SECOND_NS)

_Static_assert(VM_MAX_CPUS == 1, "other vcpus would have to stop here");

/* The vcpu's thread. */
static void share_work(void *opaque)
{
	struct vm *vm = opaque;
	struct vm_share *s = &vm->share;
	const uint64_t now = clock_ns(), rate = atomic_load(&s->per_second);
	uint64_t n = (now - s->last_ns) * rate / SECOND_NS;

	s->last_ns = now;
	if (n > SHARE_AT_ONCE)
		n = SHARE_AT_ONCE;
	if (memory_share_on(&vm->memory)) {
		log_error("no memory for the search for equal pages: it is off");
		atomic_store(&s->per_second, 0);
		n = 0;
	}
	/* Frames of earlier work go back now: since then their translated code has been dropped. */
	memory_release(&vm->memory);
	if (memory_share_scan(&vm->memory, n)) {
		mmu_frames_changed(&vm->vcpu[0]->v.mmu);
		memory_release(&vm->memory);
	}
	atomic_store(&s->under_way, false);
}

static void share_tick(void *opaque, uint32_t events)
{
	struct vm *vm = opaque;
	struct vm_share *s = &vm->share;

	(void)events;
	if (!atomic_load(&s->per_second))
		return;
	loop_timer_set(&s->timer, clock_ns() + SHARE_INTERVAL_NS);
	if (atomic_exchange(&s->under_way, true))
		return;
	s->work = (struct vm_work){ .run = share_work, .opaque = vm };
	vm_vcpu_post(vm->vcpu[0], &s->work);
}

void vm_share_set(struct vm *vm, uint64_t per_second)
{
	struct vm_share *s = &vm->share;
	const bool was_on = atomic_exchange(&s->per_second, per_second);

	if (was_on || !per_second)
		return;
	if (!atomic_load(&s->under_way))
		s->last_ns = clock_ns();
	loop_timer_set(&s->timer, clock_ns() + SHARE_INTERVAL_NS);
}

int vm_share_init(struct vm *vm)
{
	const int err = loop_add_timer(&vm->loop, &vm->share.timer, share_tick, vm);

	if (!err)
		vm_share_set(vm, vm->config.share_per_second);
	return err;
}

void vm_share_destroy(struct vm *vm)
{
	loop_remove(&vm->loop, &vm->share.timer);
}
