/*
 * room.c - a machine pool smaller than guest memory (--machine-memory): the swap file, and making room when frames run short.
 *
 * mem/swap.c says that frames run short (vm_room_short, wake.c) as soon as fewer are free than its reserve; the vcpu then leaves generated code, and
 * vm_room_work puts cold pages out. A file that cannot be written or read ends the run.
 */
#include "vm/vm_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(VM_MAX_CPUS == 1, "other vcpus would have to stop here");

const char *vm_room_failure(const struct vm *vm, char *text, size_t size)
{
	const struct memory_swap *s = &vm->memory.swap;

	if (!s->error)
		return 0;
	snprintf(text, size, "cannot %s the swap file in %s: %s%s", s->error_reading ? "read guest memory back from" : "put guest memory into",
		 vm->config.swap_dir, strerror(s->error),
		 s->error_reading ? "" : " (make space, name another directory with --swap, or give more --machine-memory)");
	return text;
}

/* The vcpu's thread. */
void vm_room_work(void *opaque)
{
	struct vm *vm = opaque;
	char reason[200];
	int err;

	memory_release(&vm->memory);
	err = memory_make_room(&vm->memory);
	mmu_frames_changed(&vm->vcpu[0]->v.mmu);
	memory_release(&vm->memory);
	if (err)
		vm_stop(vm, VM_HOST_ERROR, 0, vm_room_failure(vm, reason, sizeof(reason)) ? reason : strerror(-err));
}

/* A file without a name: it goes with the process, however that ends. */
static int room_open(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char path[4096];

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd;
	/* File systems without O_TMPFILE. */
	if ((size_t)snprintf(path, sizeof(path), "%s/trifold-swap-XXXXXX", dir) >= sizeof(path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

int vm_room_init(struct vm *vm, char *error, size_t size)
{
	int err;

	vm->swap_fd = -1;
	if (!vm->config.machine_bytes || vm->config.machine_bytes >= vm->config.memory_bytes)
		return 0;
	vm->swap_fd = room_open(vm->config.swap_dir);
	if (vm->swap_fd < 0) {
		err = -errno;
		snprintf(error, size, "cannot make a swap file in %s: %s (--swap names another directory)", vm->config.swap_dir, strerror(-err));
		return err;
	}
	err = memory_swap_on(&vm->memory, vm->swap_fd);
	if (err)
		snprintf(error, size, "cannot set up swapping: %s", strerror(-err));
	return err;
}

void vm_room_start(struct vm *vm)
{
	if (!vm->memory.swap.on)
		return;
	vm->room_work = (struct vm_work){ .run = vm_room_work, .opaque = vm };
	memory_lock(&vm->memory);
	vm->memory.swap.opaque = vm;
	vm->memory.swap.short_of_frames = vm_room_short;
	memory_unlock(&vm->memory);
}

void vm_room_destroy(struct vm *vm)
{
	if (vm->memory_ready && vm->swap_fd >= 0)
		close(vm->swap_fd);
}
