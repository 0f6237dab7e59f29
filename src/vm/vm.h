/*
 * vm.h - a virtual machine: built from a configuration, run to its end, taken apart.
 *
 * Lifecycle: vm_create (loads the kernel, starts nothing) -> vm_run (vcpu threads run, the caller's thread is the I/O
 * thread and runs the event loop, until the first end) -> vm_write_stats -> vm_destroy. One VM may exist several times in a
 * process.
 *
 * Threads: each vcpu has its own; the I/O thread owns console, timers and signals. Locks: docs/locking.md.
 *
 * Invariants
 *  W1  the first end wins; later ones are ignored
 *  W2  after vm_run no vcpu thread exists (unless one does not answer, which is a bug of ours: it is reported, and vm_destroy then
 *      frees nothing), and all console output was written or its reader is gone or too slow
 */
#ifndef VM_VM_H
#define VM_VM_H

#include "base/loop.h"
#include "base/tune.h"
#include "boot/boot.h"
#include "mem/memory.h"
#include "mmu/mmu.h"

struct engine;
struct vm;

/* Why a VM stopped. Exit statuses and texts are rows in end.c. */
enum vm_end_kind {
	VM_RUNNING,
	VM_POWER_OFF,		/* ACPI S5 */
	VM_REBOOT,		/* reset by a guest that had shut its machine down */
	VM_HALTED,		/* halted for good by a guest that had shut its machine down */
	VM_DEBUG_EXIT,		/* value: the byte */
	VM_TIMEOUT,
	VM_QUIT,		/* the user at the console */
	VM_SIGNAL,		/* value: its number */
	VM_PANIC,		/* the kernel panicked and waits for ever */
	VM_CRASH_RESET,		/* reset without shutdown, as a kernel does after a panic */
	VM_CRASH_HALT,		/* halted with interrupts off, without shutdown */
	VM_TRIPLE_FAULT,
	VM_UNSUPPORTED,		/* reason */
	VM_HOST_ERROR,		/* reason */
	VM_END_KINDS
};
struct vm_end { enum vm_end_kind kind; unsigned value; char reason[200]; };

/* The process exit status that the command-line contract gives to an end, its name in the statistics, and a line for
 * the user (0 if there is nothing to say). text must hold 256 bytes. */
int vm_end_status(const struct vm_end *end);
const char *vm_end_name(const struct vm_end *end);
const char *vm_end_text(const struct vm_end *end, char *text, size_t size);

/* As --paging takes it. */
const char *vm_paging_name(enum paging_mode mode);

#define VM_SYMBOL_FILES 8u
#define VM_DISKS 4u
struct vm_disk { const char *path; bool read_only; };
struct vm_config {
	const struct engine *engine;
	enum paging_mode paging;
	enum placement placement;
	uint64_t placement_seed;
	uint64_t memory_bytes;
	uint64_t machine_bytes;		/* of the machine pool; 0: as much as guest memory */
	uint64_t shadow_bytes;		/* for shadow tables, whole pages; 0: a share of memory */
	uint64_t share_per_second;	/* pages that the search for equal ones looks at; 0: it is off */
	const char *swap_dir;		/* where the rest goes (a file without a name) */
	unsigned cpus;
	unsigned cpu_offers;		/* what else the processors have: bits of enum cpu_offer (cpu/cpuid.h) */
	const char *kernel;
	const char *initrd[BOOT_INITRDS]; /* as in boot_config */
	unsigned initrds;
	const char *cmdline;		/* whole kernel command line */
	const char *args;		/* the user's part of it; 0: none */
	bool debug_exit;
	const char *trace;		/* file for a trace (docs/trace.md); 0: none */
	uint32_t trace_categories;	/* vm_trace_categories */
	bool profile;			/* take samples and count events, for vm_write_profile */
	uint64_t profile_ns;		/* how often a sample; a signal costs up to 60 us on a virtual host */
	bool perf_map;			/* write /tmp/perf-PID.map */
	const char *symbol_file[VM_SYMBOL_FILES];	/* for both: "PATH" or "PATH@BASE", vm/symbols.h */
	unsigned symbol_files;
	struct vm_disk disk[VM_DISKS];	/* raw files, for --paging direct */
	unsigned disks;
	uint64_t timeout_ns;		/* of vm_run; 0: none */
	const char *control;		/* path of the control socket (docs/control.md); 0: none */
	struct tune tune;
	int console_in, console_out;	/* file descriptors; -1: none */
	/* Console keys that are not for the guest: filters len bytes in place, returns how many go on. 0: all do. */
	size_t (*keys)(void *opaque, struct vm *vm, uint8_t *bytes, size_t len);
	void *keys_opaque;
};

/* By the name that --engine and TRIFOLD_ENGINE use; 0 if there is none. */
const struct engine *vm_engine_find(const char *name);
const char *vm_engine_name(const struct engine *engine);

/* Features of the processor that are offered on request: name and help of number n (a bit of vm_config.cpu_offers); 0 past the last. */
const char *vm_cpu_offer(unsigned n, const char **help);

/* The first feature this host lacks that the engines need, or 0. */
const char *vm_host_lacks(void);

/* 0, or -errno with one clear reason in error. */
int vm_create(const struct vm_config *config, struct vm **out, char *error, size_t error_size);
void vm_destroy(struct vm *vm);

/* The loop that vm_run runs: callers may add their own sources before. */
struct loop *vm_loop(struct vm *vm);
const struct vm_end *vm_run(struct vm *vm);

/* Ends the run: any thread. */
void vm_stop(struct vm *vm, enum vm_end_kind kind, unsigned value, const char *reason);

/* Stdin may be readable again (after the process came to the foreground). I/O thread only. */
void vm_console_resume(struct vm *vm);

/* All counters as one JSON object; docs/stats.md. 0 or -errno. */
int vm_write_stats(struct vm *vm, const char *path);

/* After vm_run: 0, or -errno: the trace is not whole because its file could not be written. */
int vm_trace_result(struct vm *vm);
/* A list such as "fault,table" or "all", as bits. false: no such name. */
bool vm_trace_categories(const char *list, uint32_t *set);
uint32_t vm_trace_categories_default(void);
const char *vm_trace_category(unsigned i);	/* 0: there are no more */

/* Where the time went (docs/profile.md): text, or JSON if the path ends in .json. config.profile was set. 0 or -errno. */
int vm_write_profile(struct vm *vm, const char *path);

#endif
