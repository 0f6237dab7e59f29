/*
 * moves.c - moves pages between machine frames under the running guest: one by name, or random ones at a rate.
 *
 * A rate is kept by a timer of the I/O thread. Each time it posts a piece of work, which makes as many moves as time has passed for, at most
 * a few hundred: one flush serves them all, since what the frames were cached in is forgotten as a whole. Nothing piles up behind a vcpu
 * that is held: there is one piece of work, and time that it missed is forgotten.
 */
#include "vm/vm_internal.h"

#include <errno.h>

#include "base/clock.h"

#define MOVES_INTERVAL_NS 10000000u
#define MOVES_AT_ONCE 400u
#define MOVES_TRIES 8u		/* random pages looked at for one that has a frame */
#define SECOND_NS 1000000000u

_Static_assert(VM_MAX_CPUS == 1, "other vcpus would have to stop here");

int vm_move_page(struct vm *vm, gpa_t p)
{
	int err;

	/* Frames of earlier moves go back now: since then their translated code has been dropped. */
	memory_release(&vm->memory);
	err = memory_move(&vm->memory, p);
	if (!err)
		mmu_frames_changed(&vm->vcpu[0]->v.mmu);
	return err;
}

/* Any page of RAM. */
static gpa_t moves_pick(struct vm *vm)
{
	const struct memory *mem = &vm->memory;
	uint64_t at = random_step(&vm->moves.random) % vm->config.memory_bytes & PAGE_MASK;
	unsigned i = 0;

	while (i + 1 < mem->regions && at >= mem->region[i].len)
		at -= mem->region[i++].len;
	return gpa(mem->region[i].base + at);
}

/* The vcpu's thread. */
static void moves_work(void *opaque)
{
	struct vm *vm = opaque;
	struct vm_moves *m = &vm->moves;
	const uint64_t now = clock_ns(), rate = atomic_load(&m->per_second);
	uint64_t n;
	bool any = false;

	m->owed_ns += now - m->last_ns;
	m->last_ns = now;
	if (m->owed_ns > SECOND_NS)
		m->owed_ns = SECOND_NS;
	n = rate ? (uint64_t)((unsigned __int128)m->owed_ns * rate / SECOND_NS) : 0;
	if (rate)
		m->owed_ns -= n * SECOND_NS / rate;
	if (n > MOVES_AT_ONCE)
		n = MOVES_AT_ONCE;
	memory_release(&vm->memory);
	while (n--) {
		unsigned tries = MOVES_TRIES;

		while (tries-- && memory_move(&vm->memory, moves_pick(vm)))
			;
		any = true;
	}
	if (any)
		mmu_frames_changed(&vm->vcpu[0]->v.mmu);
	atomic_store(&m->under_way, false);
}

static void moves_tick(void *opaque, uint32_t events)
{
	struct vm *vm = opaque;
	struct vm_moves *m = &vm->moves;

	(void)events;
	if (!atomic_load(&m->per_second))
		return;
	loop_timer_set(&m->timer, clock_ns() + MOVES_INTERVAL_NS);
	if (atomic_exchange(&m->under_way, true))
		return;
	m->work = (struct vm_work){ .run = moves_work, .opaque = vm };
	vm_vcpu_post(vm->vcpu[0], &m->work);
}

void vm_moves_set(struct vm *vm, uint64_t per_second)
{
	struct vm_moves *m = &vm->moves;
	const bool was_on = atomic_exchange(&m->per_second, per_second);

	if (was_on || !per_second)
		return;
	if (!atomic_load(&m->under_way)) {
		m->last_ns = clock_ns();
		m->owed_ns = 0;
	}
	loop_timer_set(&m->timer, clock_ns() + MOVES_INTERVAL_NS);
}

int vm_moves_init(struct vm *vm)
{
	vm->moves.random = 0x9e3779b97f4a7c15ull ^ vm->config.placement_seed << 1;
	return loop_add_timer(&vm->loop, &vm->moves.timer, moves_tick, vm);
}

void vm_moves_destroy(struct vm *vm)
{
	loop_remove(&vm->loop, &vm->moves.timer);
}
