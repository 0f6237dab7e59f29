/*
 * perf_map.c - `--perf-map`: /tmp/perf-PID.map, in which `perf report` looks for the names of generated code. One line a piece of
 * code: START SIZE NAME, numbers in hexadecimal (Linux, tools/perf/Documentation/jit-interface.txt).
 *
 * Lines are appended as code is made. When the code cache is flushed its addresses are used again; the later line is the one that perf
 * believes, so samples taken before may get names of code that came after.
 */
#include "vm/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "vm/vm_internal.h"

#define PERF_MAP_MAX GIB(1)	/* a guest that makes code for ever must not fill the disk */

static void perf_map_line(struct vm_profile *p, const void *host, uint32_t size, const char *name)
{
	if (p->perf_map_bytes > PERF_MAP_MAX)
		return;
	const int n = fprintf(p->perf_map, "%llx %x %s\n", (unsigned long long)(uintptr_t)host, size, name);
	p->perf_map_bytes += n > 0 ? (uint64_t)n : 0;
}

/* bt_profile.made */
static void perf_map_made(void *opaque, const void *host, uint32_t size, uint64_t va, bool kernel)
{
	struct vm_profile *p = opaque;
	uint64_t offset = 0;
	const char *symbol = profile_symbol(p, va, !kernel, &offset);
	char name[300];

	if (symbol)
		snprintf(name, sizeof(name), "guest:%s:%s+0x%llx", kernel ? "kernel" : "user", symbol, (unsigned long long)offset);
	else
		snprintf(name, sizeof(name), "guest:%s:0x%llx", kernel ? "kernel" : "user", (unsigned long long)va);
	perf_map_line(p, host, size, name);
}

int perf_map_open(struct vm *vm, char *error, size_t error_size)
{
	struct vm_profile *p = vm->profile;
	char path[64];
	uint32_t size;

	if (vm->config.engine != &engine_bt) {
		snprintf(error, error_size, "--perf-map: only the engine bt makes code that perf could ask for");
		return -EINVAL;
	}
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	/* Anybody may have put a link there. */
	const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	p->perf_map = fd < 0 ? 0 : fdopen(fd, "w");
	if (!p->perf_map) {
		const int err = -errno;
		snprintf(error, error_size, "cannot write %s: %s", path, strerror(-err));
		if (fd >= 0)
			close(fd);
		return err;
	}
	const void *stubs = bt_profile_stubs(vm->engine_state, &size);
	perf_map_line(p, stubs, size, "guest:stubs");
	p->bt.made = perf_map_made;
	p->bt.opaque = p;
	return 0;
}

void perf_map_close(struct vm *vm)
{
	struct vm_profile *p = vm->profile;

	if (!p->perf_map)
		return;
	bt_profile_tell(vm->engine_state);
	fclose(p->perf_map);
	p->perf_map = 0;
}
