/*
 * xen_internal.h - the parts of a domain, shared by the files of xen/ only.
 *
 * Errors are as the ABI has them: a handler returns a negative XEN_E* value or a result. Everything that comes from the guest is copied once
 * (xen_copy_from_guest) and checked where it enters.
 *
 * Lock: xen->lock guards event channels and the console; page types are the business of the vcpu threads under memory->lock
 * (xen/page.h).
 */
#ifndef XEN_XEN_INTERNAL_H
#define XEN_XEN_INTERNAL_H

#include "cpu/personality.h"
#include "xen/abi.h"
#include "xen/domain.h"
#include "xen/grant.h"

#define XEN_VCPUS_MAX 1u
#define XEN_PORTS 4096u		/* 2-level event channels: 64 words of 64 bits */

struct pv_pages;		/* xen/page.h */

struct xen_counters {
	uint64_t hypercalls, multicalls, multicall_entries, continuations;
	uint64_t by_number[64];	/* hypercalls by number, which is below 64 */
	uint64_t unknown;
	uint64_t syscalls_bounced, exceptions_bounced, failsafes, upcalls, irets, emulated, events_sent;
};

/* Where the ABI lets the guest choose an entry point. */
struct xen_callback { uint64_t address; bool masks_events; };

struct xen_vcpu {
	struct vcpu *v;
	struct xen *xen;
	unsigned id;
	struct vcpu_info *info;	/* in shared_info, or where the guest registered it */
	mfn_t info_m;
	struct trap_info trap[256];
	struct xen_callback callback[8];	/* CALLBACKTYPE_* */
	uint64_t kernel_sp;
	uint16_t kernel_ss;
	bool nmi_pending;
	bool polling;				/* in SCHEDOP_poll: events that are masked wake it too */
	uint64_t assist;			/* VMASST_TYPE_* that are on */
	uint64_t ctrlreg0;			/* what the guest reads of CR0: TS is its own */
	unsigned iopl;				/* of the guest kernel's port accesses */
	uint64_t iobitmap;			/* guest address of the I/O permission bitmap, and how many ports it covers */
	uint32_t iobitmap_ports;
	/* set_gdt and MMUEXT_SET_LDT: frames of the descriptor table, and where the local one is. */
	mfn_t gdt_frame[14], ldt_frame[16];
	unsigned gdt_entries, ldt_entries;
	uint64_t ldt_base;
	struct { bool valid; uint16_t cs, ss; struct segment segment[2]; } entered;	/* what iret has found in the GDT last (entry.c); void when descriptors change */
	uint32_t virq_port[NR_VIRQS];		/* 0: not bound */
	/* Timers, in system time; ~0: off (time.c). */
	uint64_t singleshot, periodic, period, poll_timeout;
	/* Where the vcpu's time went (sched.c). */
	uint8_t runstate;
	uint64_t runstate_since, runstate_time[4], runstate_area;
};

#define XEN_WATCHDOGS 2u	/* of a domain, as on Xen */

/* One end of an event channel. The other end of an interdomain one is a function of ours, or another port of the domain. */
struct xen_port {
	uint8_t state;		/* EVTCHNSTAT_* */
	uint8_t vcpu;		/* that is told */
	uint8_t virq;
	bool for_self;		/* was opened for a port of the domain itself */
	uint16_t peer;		/* interdomain: that port; 0: a function of ours */
	void (*notify)(void *opaque);
	void *opaque;
};

/* Pages that domain 0 uses by grants (grant.c), and those that it is done with but whose reference only a vcpu's thread may give back. */
#define XEN_GRANT_USES 512u
struct xen_grant_use { mfn_t m; uint32_t ref; bool write, done; };

#define XEN_DOMID 1u		/* as others would call this domain; it calls itself DOMID_SELF */

struct xen {
	struct xen_config config;
	struct memory *memory;
	struct pv_pages *pages;
	mfn_t held[8];			/* frames that we write by pointers of our own (xen_hold_writable) */
	unsigned helds;
	mfn_t grant_frame[XEN_GRANT_FRAMES];	/* of the grant table */
	unsigned grant_frames;
	struct xen_grant_use grant_use[XEN_GRANT_USES];
	unsigned grant_uses;
	struct xen_vcpu vcpu[XEN_VCPUS_MAX];
	unsigned vcpus;
	uint64_t watchdog[XEN_WATCHDOGS];	/* system time when it ends the domain; 0: free. With xen->lock. The first vcpu's timer has them. */
	bool watchdog_expired;
	uint32_t shutdown_latched;		/* reason + 1 that a shutdown will have, whatever it says; 0: none */
	struct shared_info *shared;
	mfn_t shared_m;
	uint64_t nr_pages;		/* at start */
	/* The VMM's frames: the machine-to-physical table, the tables that map it, and the descriptor area. */
	mfn_t *m2p_frame;
	uint64_t m2p_frames;
	mfn_t descriptor_l1;		/* 32 entries a vcpu: its GDT's 16 pages, its LDT's 16 */
	struct xen_port port[XEN_PORTS];
	uint32_t tsc_mul;		/* system time = guest TSC * this, scaled */
	int8_t tsc_shift;
	uint64_t l4_slot[XEN_L4_LAST - XEN_L4_FIRST + 1]; /* what every level-4 table holds in the hypervisor's slots */
	void *lock;			/* pthread_mutex_t */
	struct xen_counters counters;
};

static inline struct xen_vcpu *xen_vcpu_of(const struct vcpu *v) { return v->domain; }

/*
 * One hypercall. A handler that has done only a part of its work (each call's work is bounded) sets `again` and changes arg[] so that calling
 * it again goes on there: the guest executes its SYSCALL again, after events had their chance.
 */
struct xen_call {
	struct xen *xen;
	struct xen_vcpu *xv;
	struct vcpu *v;
	uint64_t arg[6];
	bool again;
	bool in_multicall;
	uint64_t next_rip;	/* after the SYSCALL */
	bool event;		/* iret: the handler has set the vcpu's whole state */
	void (*notify)(void *opaque);	/* event_channel_op: to be called when the lock is free */
	void *notify_opaque;
};
typedef int64_t xen_handler(struct xen_call *c);

/* hypercall.c: carries one out by number. */
int64_t xen_hypercall(struct xen_call *c, uint64_t number);

/* entry.c. */
enum exec_op xen_deliver(struct exec *x, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error, uint64_t rip, uint64_t rflags);
enum exec_result xen_interrupts(struct vcpu *v);
void xen_recheck(struct vcpu *v);
enum exec_op xen_syscall(struct exec *x);
/* The domain is beyond help: ends as a crash, with the reason ("its kernel ..."). */
void xen_crash(struct vcpu *v, const char *reason);
/* emulate.c, cpuid.c. */
enum exec_op xen_refused(struct exec *x);
void xen_cpuid(struct vcpu *v, uint32_t leaf, uint32_t sub, uint32_t reg[4]);

/* event.c. xen_port_raise and xen_port_is_pending: port < XEN_PORTS; raise with xen->lock held. */
void xen_port_raise(struct xen *xen, uint32_t port);
bool xen_port_is_pending(const struct xen *xen, uint32_t port);
void xen_virq_raise(struct xen_vcpu *xv, unsigned virq);

/* time.c. Times are system time, ns. */
uint64_t xen_time_now(const struct xen_vcpu *xv);
void xen_time_fill(const struct xen_vcpu *xv, struct vcpu_time_info *t);
void xen_time_start(struct xen *xen);
void xen_timers_init(struct xen_vcpu *xv);
void xen_set_singleshot(struct xen_vcpu *xv, uint64_t when);
void xen_set_periodic(struct xen_vcpu *xv, uint64_t period);
void xen_set_poll_timeout(struct xen_vcpu *xv, uint64_t when);
/* A domain's watchdog (below XEN_WATCHDOGS) ends it at that system time; 0: it is free. */
void xen_set_watchdog(struct xen *xen, unsigned n, uint64_t when);
uint64_t xen_timer(struct vcpu *v, uint64_t now_ns);

/* sched.c: the vcpu runs again, if it slept. */
void xen_wake(struct xen_vcpu *xv);
/* domain.c: vcpu_info is at another place from now on. */
void xen_move_info(struct xen_vcpu *xv, struct vcpu_info *info, mfn_t m);

/*
 * domain_pages.c. create: after the shared frame is there. start: memory is filled, every frame handed out that is not the VMM's joins the domain, the bootstrap tables get
 * their types, and the root is pinned and held as the first vcpu's; -EINVAL: they are not what the ABI allows.
 */
int xen_pages_create(struct xen *xen);
void xen_pages_destroy(struct xen *xen);
int xen_pages_start(struct xen *xen, mfn_t root);
/* The guest's frame m is written by us from now on, and stays plain memory of the domain: false if it is not, or is a table or descriptor page. */
bool xen_hold_writable(struct xen *xen, mfn_t m);

/*
 * mmu_update.c. Takes memory->lock, for what changes page types, when nothing is left to give back; false: the hypercall's budget (pages->budget) is used up, the
 * lock is not held, and the hypercall must be made again.
 */
bool xen_pages_lock(struct xen *xen);
/* A list of requests (arg: where, how many, where to say how many were done, whose). One request: 0, an error (the list ends there) or -PV_AGAIN. */
typedef int xen_request(struct xen_call *c, const void *request);
int64_t xen_batch(struct xen_call *c, size_t size, xen_request *one);

/* grant.c: gives back what domain 0 is done with. Lock held, on a vcpu's thread. */
void xen_grant_drain(struct xen *xen);

/* mmuext.c. Sets of vcpus: one bit each; xen_vcpu_set reads one from a bitmap of the guest's. */
int xen_vcpu_set(struct xen_call *c, uint64_t bitmap, uint64_t *set);
void xen_flush_tlb(struct xen_call *c, uint64_t set);
void xen_flush_page(struct xen_call *c, uint64_t set, uint64_t va);
/* The vcpu's root of kernel or user mode; user: frame 0 for none. 0, an error, or -PV_AGAIN. pages->budget is set. */
int xen_new_root(struct xen_vcpu *xv, mfn_t m, bool user);

/* descriptor.c. The pages of the local table, which come into the window when they are first needed; false: there is none at that offset. */
int xen_set_ldt(struct xen_vcpu *xv, uint64_t base, uint64_t entries);
void xen_ldt_forget(struct xen_vcpu *xv);
bool xen_ldt_load(struct xen_vcpu *xv, unsigned offset);

/* Handlers, by file. */
xen_handler xen_do_mmu_update, xen_do_update_va_mapping, xen_do_update_va_mapping_otherdomain;	/* mmu_update.c */
xen_handler xen_do_mmuext_op;									/* mmuext.c */
xen_handler xen_do_memory_op;									/* memory_op.c */
xen_handler xen_do_set_gdt, xen_do_update_descriptor;						/* descriptor.c */
xen_handler xen_do_grant_table_op;								/* grant.c */
xen_handler xen_do_iret;									/* entry.c */
xen_handler xen_do_event_channel_op;								/* event.c */
xen_handler xen_do_set_timer_op;								/* time.c */
xen_handler xen_do_sched_op, xen_do_vcpu_op;							/* sched.c */
xen_handler xen_do_fpu_taskswitch;								/* emulate.c */
xen_handler xen_do_set_trap_table, xen_do_set_callbacks, xen_do_callback_op, xen_do_stack_switch, xen_do_set_segment_base, xen_do_set_debugreg,
	xen_do_get_debugreg, xen_do_xen_version, xen_do_vm_assist, xen_do_physdev_op, xen_do_console_io;	/* misc.c */

/*
 * copy.c: guest memory with the guest kernel's rights. 0 or -XEN_EFAULT; the hypervisor's hole is refused. A part may have been copied when a later page faults.
 */
int xen_copy_from_guest(struct vcpu *v, void *to, uint64_t va, uint64_t len);
int xen_copy_to_guest(struct vcpu *v, uint64_t va, const void *from, uint64_t len);

/* The M2P entry of a frame (a pfn, or INVALID_M2P_ENTRY); m is within the pool. */
uint64_t xen_m2p_get(const struct xen *xen, mfn_t m);
void xen_m2p_set(struct xen *xen, mfn_t m, uint64_t pfn);
#define XEN_M2P_INVALID (~0ull)
#define XEN_M2P_SHARED ((1ull << 63) - 1)

/*
 * domain.c: xv->gdt_frame, gdt_entries, or (with ldt_frame) the local table has changed: what the processor reads follows. Frames are MFN_NONE or of
 * type seg_desc, and stay so while they are there.
 */
void xen_descriptors_changed(struct xen_vcpu *xv);

#endif
