/*
 * frames.c - two ports that show a test guest what no guest can see: which machine frame stands behind one of its pages, and
 * what happens when that changes. Claimed with --debug-exit only.
 *
 *   VM_FRAMES_PORT      32 bits. Write: selects a guest-physical page by its number. Read: the number of its machine frame,
 *                       ffffffffh if it has none.
 *   VM_FRAMES_PORT + 4  32 bits. Write: moves the selected page to another frame, if it has one (memory_move).
 */
#include "vm/vm_internal.h"

static bool frames_lookup(struct vm *vm, struct p2m_entry *entry)
{
	memory_lock(&vm->memory);
	const bool found = p2m_lookup(&vm->memory, gpa((uint64_t)vm->frames_page << PAGE_SHIFT), entry);
	memory_unlock(&vm->memory);
	return found;
}

static uint64_t frames_read(void *opaque, uint64_t offset, unsigned size)
{
	struct p2m_entry entry;

	(void)size;
	return offset == 0 && frames_lookup(opaque, &entry) ? entry.m.v : UINT32_MAX;
}

static void frames_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct vm *vm = opaque;

	(void)size;
	if (offset == 0) {
		vm->frames_page = (uint32_t)value;
	} else if (offset == 4) {
		/* There is one vcpu, and this is its thread, outside generated code. */
		vm_move_page(vm, gpa((uint64_t)vm->frames_page << PAGE_SHIFT));
	}
}

int vm_frames_init(struct vm *vm)
{
	const struct bus_range range = { VM_FRAMES_PORT, 8, frames_read, frames_write, vm, "frames" };

	return vm->config.debug_exit ? bus_claim(&vm->bus, BUS_PORT, &range) : 0;
}
