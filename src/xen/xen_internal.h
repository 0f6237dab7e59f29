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
#include "xen/xen.h"

#define XEN_VCPUS_MAX 1u
#define XEN_PORTS 4096u		/* 2-level event channels: 64 words of 64 bits */

struct pv_pages;		/* xen/page.h */

struct xen_counters {
	uint64_t hypercalls, multicalls, multicall_entries, continuations;
	uint64_t by_number[64];	/* hypercalls by number */
	uint64_t syscalls_bounced, exceptions_bounced, upcalls, irets, emulated, events_sent;
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
	uint64_t ctrlreg0;			/* what the guest reads of CR0: TS is its own */
	unsigned iopl;				/* of the guest kernel's port accesses */
	uint64_t iobitmap;			/* guest address of the I/O permission bitmap, and how many ports it covers */
	uint32_t iobitmap_ports;
	/* set_gdt and MMUEXT_SET_LDT: frames of the descriptor table, and where the local one is. */
	mfn_t gdt_frame[14], ldt_frame[16];
	unsigned gdt_entries, ldt_entries;
	uint64_t ldt_base;
};

struct xen {
	struct xen_config config;
	struct memory *memory;
	struct pv_pages *pages;
	struct xen_vcpu vcpu[XEN_VCPUS_MAX];
	unsigned vcpus;
	struct shared_info *shared;
	mfn_t shared_m;
	uint64_t nr_pages;		/* at start */
	/* The VMM's frames: the machine-to-physical table, the tables that map it, and the descriptor area. */
	mfn_t *m2p_frame;
	uint64_t m2p_frames;
	mfn_t descriptor_l1;		/* 32 entries a vcpu: its GDT's 16 pages, its LDT's 16 */
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
	uint64_t next_rip;	/* after the SYSCALL; iret changes it */
	bool no_result;		/* the handler has set all registers itself */
};
typedef int64_t xen_handler(struct xen_call *c);

/* hypercall.c: carries one out by number. */
int64_t xen_hypercall(struct xen_call *c, uint64_t number);

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
