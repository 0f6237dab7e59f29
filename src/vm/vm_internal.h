/*
 * vm_internal.h - what a VM is made of.
 */
#ifndef VM_VM_INTERNAL_H
#define VM_VM_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include "base/stats.h"
#include "boot/boot.h"
#include "cpu/engine.h"
#include "cpu/vcpu.h"
#include "dev/ioapic.h"
#include "dev/pit.h"
#include "dev/pmtimer.h"
#include "dev/power.h"
#include "dev/rtc.h"
#include "dev/block.h"
#include "dev/uart.h"
#include "dev/virtio_balloon.h"
#include "vm/console.h"
#include "vm/control.h"
#include "vm/hvc.h"
#include "vm/vm.h"
#include "xenback/backend.h"
#include "xen/domain.h"

#define VM_MAX_CPUS 1u

/*
 * Something to be done on a vcpu's thread outside generated code, with all guest state in struct vcpu: what must look at an MMU or change
 * memory under it. Belongs to whoever posts it, from vm_vcpu_post until `run` has returned.
 */
struct vm_work {
	void (*run)(void *opaque);
	void *opaque;
	struct vm_work *next;
};

/* Moves of random pages, so many a second (moves.c). The I/O thread's, but for what its work does on the vcpu's thread. */
struct vm_moves {
	struct loop_source timer;
	struct vm_work work;
	_Atomic bool under_way;		/* the work is posted and not yet done: it is the vcpu thread's */
	_Atomic uint64_t per_second;
	uint64_t random, last_ns;
	uint64_t owed_ns;		/* time for which no move was made yet */
};

/* The search for equal pages, so many a second (share.c). Who owns what: as for moves. */
struct vm_share {
	struct loop_source timer;
	struct vm_work work;
	_Atomic bool under_way;
	_Atomic uint64_t per_second;
	uint64_t last_ns;
};

struct vm_exit_stats { uint64_t kind[EXIT_HOST_ERROR + 1]; };

/* Time of a vcpu thread by what it did (docs/stats.md, group "host"). */
struct vm_vcpu {
	struct vcpu v;
	struct vm *vm;
	pthread_t thread;
	bool started;
	/* 1 while the thread sleeps in HLT or is about to: whoever clears it must wake the futex. */
	_Atomic uint32_t sleeping;
	/* LAPIC timer: what the I/O thread's timer is armed for, LOOP_NEVER if not. */
	_Atomic uint64_t armed_ns;
	pthread_mutex_t timer_lock;
	struct loop_source timer;
	uint64_t samples[ACT_COUNT];
	uint64_t idle_ns, cpu_ns;
	_Atomic uint64_t idle_from;	/* when it went to sleep, 0 while it runs */
	_Atomic(struct vm_work *) work;	/* posted and not yet taken, newest first */
	timer_t sample_timer;
	bool sampling;
};

struct vm_host_stats {
	uint64_t wall_ns, cpu_ns, vcpu_cpu_ns, max_rss_kib, guest_kib;
	uint64_t code_ns, executor_ns, translation_ns, paging_ns, devices_ns, idle_ns, samples;
};
struct vm_device_stats { uint64_t port_accesses, mmio_accesses; };

/*
 * The two machines that a kernel can boot on: a PC (pc.c), and a domain with direct paging (domain.c). In the order in which they are called; 0 or -errno, load with one
 * clear reason. Set-up only, but was_shut_down: whether a guest that resets or halts for good (restart: resets) had ended in good order.
 */
struct vm_machine {
	int (*memory)(struct vm *vm);
	bool (*load)(struct vm *vm, char *error, size_t size);
	int (*devices)(struct vm *vm);	/* vcpus exist */
	int (*enter)(struct vm *vm);
	void (*stats)(struct vm *vm);
	bool (*was_shut_down)(const struct vm *vm, bool restart);
};
extern const struct vm_machine vm_machine_pc, vm_machine_domain;

struct vm {
	struct vm_config config;
	const struct vm_machine *machine;
	struct memory memory;
	struct bus bus;
	struct loop loop;
	struct uart uart;
	struct ioapic ioapic;
	struct rtc rtc;
	struct pmtimer pmtimer;
	struct pit pit;
	struct loop_source pit_timer;	/* any thread, under the device lock */
	struct power power;
	struct xen *xen;		/* domain.c, with its console; 0: a PC */
	struct hvc hvc;
	struct xenback *xenback;	/* its domain 0; disks are served by its thread */
	struct block disk[VM_DISKS];
	struct block_counters disk_counters;
	unsigned disks;			/* opened */
	struct console console;
	struct control *control;	/* 0: no control socket */
	void *engine_state;
	struct vm_vcpu *vcpu[VM_MAX_CPUS];
	unsigned vcpus;

	pthread_mutex_t end_lock;
	struct vm_end end;
	_Atomic bool ended;
	bool draining, abandon;		/* a second stop while output drains: give up (end_lock) */
	uint32_t frames_page;		/* selected by the guest, frames.c; device lock */
	bool stuck;			/* a vcpu does not stop: nothing that it may use can be freed */
	struct loop_source timeout;
	struct loop_source panic_check;
	struct { uint64_t syscalls, halts; unsigned rounds; _Atomic uint64_t said_ns; } panic;	/* said_ns: when the console last read so */

	/* What the loader says, for `enter`; and where the kernel lies. */
	union { struct boot_entry pc; struct boot_xen_entry xen; } start;
	uint64_t kernel_low, kernel_high;

	uint64_t start_ns, create_ns;
	struct vm_host_stats host;
	struct vm_moves moves;
	struct vm_share share;
	int swap_fd;			/* -1: guest memory is not swapped */
	struct vm_work room_work, gather_work;
	uint64_t gather_next_ns;
	struct virtio_balloon balloon;
	struct vm_work balloon_work;
	_Atomic bool balloon_under_way;	/* the work is posted and not yet begun */
	struct vm_device_stats devices;
	struct vm_exit_stats exits;
	struct stats stats;
	char run_id[17];		/* tells runs apart, in statistics and traces */
	struct vm_trace *trace;		/* trace.h; 0 if nobody asked */
	struct vm_profile *profile;	/* profile.h; 0 if nobody asked */
	/* What was set up, for vm_destroy after a failure half-way. */
	bool memory_ready, bus_ready, loop_ready, engine_ready, console_ready;
};

/* thread.c */
int vm_vcpu_create(struct vm *vm, unsigned id);
void vm_vcpu_destroy(struct vm_vcpu *t);
int vm_vcpu_start(struct vm_vcpu *t);
bool vm_vcpu_join(struct vm_vcpu *t);	/* false: it does not answer, and still runs */

/* wake.c: may run with guest vector registers live; compiled with general registers only. */
void vm_vcpu_kick(struct vcpu *v);
/* Any thread. Has the work run on the vcpu's thread, in the order of posts; never, if the run ends before. */
void vm_vcpu_post(struct vm_vcpu *t, struct vm_work *work);
void vm_room_short(void *vm);
bool vm_gather_wanted(void *vm);
void vm_vcpu_timer_changed(void *vm_vcpu);
void vm_vcpu_timer_pause(struct vm_vcpu *t);
void vm_vcpu_timer_fired(void *vm_vcpu, uint32_t events);
void vm_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t deadline_ns);

/* vm.c, for machines */
int vm_console_open(struct vm *vm, const struct console_port_ops *ops, void *port);
void vm_on_power(void *vm, enum power_event event, uint8_t value);

/* end.c */
bool vm_was_shut_down(const struct vm *vm, bool restart);
/* The console saw a panic's text; waits: of a kind after which, if the guest does nothing but wait from now on, it is over. */
void vm_panic_suspected(void *vm, bool waits);
void vm_panic_check(void *vm, uint32_t events);

/* frames.c */
#define VM_FRAMES_PORT 0xf8u
int vm_frames_init(struct vm *vm);

/* room.c */
int vm_room_init(struct vm *vm, char *error, size_t size);	/* before anything is loaded */
void vm_room_start(struct vm *vm);				/* when vcpus exist */
void vm_room_destroy(struct vm *vm);
void vm_gather_start(struct vm *vm);				/* gather.c; when vcpus exist */
void vm_room_work(void *vm);
/* What went wrong with the swap file, 0 if nothing did. */
const char *vm_room_failure(const struct vm *vm, char *text, size_t size);

/* balloon.c */
#define VM_VIRTIO_BASE 0xfeb00000u	/* of the first virtio device; they follow each other, as do their interrupts */
#define VM_VIRTIO_GSI 16u
int vm_balloon_init(struct vm *vm);

/* moves.c */
#define VM_MOVES_MAX 20000u	/* a second */
int vm_moves_init(struct vm *vm);
void vm_moves_destroy(struct vm *vm);
void vm_moves_set(struct vm *vm, uint64_t per_second);	/* I/O thread; 0 stops */
/* On the vcpu's thread, outside generated code. As memory_move. */
int vm_move_page(struct vm *vm, gpa_t p);

/* share.c */
#define VM_SHARE_MAX 50000u	/* a second */
int vm_share_init(struct vm *vm);
void vm_share_destroy(struct vm *vm);
void vm_share_set(struct vm *vm, uint64_t per_second);	/* I/O thread; 0 stops */

/* report.c */
void vm_register_stats(struct vm *vm);	/* once, when everything that counts exists */
/* Brings the counters that are not counted as things happen up to now; while vcpus run, too. I/O thread. */
void vm_collect_stats(struct vm *vm);
void vm_print_stats(struct vm *vm, FILE *f);
const char *vm_exit_name(enum exit_kind kind);

#endif
