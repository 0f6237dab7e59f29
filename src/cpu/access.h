/*
 * access.h - the executor's way to guest-virtual memory: any length up to a page, page crossing, MMIO, watched frames.
 *
 * An access is mapped first (both pages of a crossing one: nothing is written unless all of it can be), then loaded and
 * stored. Addresses are linear; segmentation is the caller's (exec_internal.h). Permissions come as enum mmu_access_flag bits
 * made by vmem_data or VMEM_SYSTEM, plus ACC_READ/ACC_WRITE and VMEM_STACK.
 *
 * Sources: AMD APM vol. 2, "Canonical Address Form", "Alignment-Check Exception"; Intel SDM vol. 3, "Atomic Operations".
 */
#ifndef CPU_ACCESS_H
#define CPU_ACCESS_H

#include "cpu/vcpu.h"

enum vmem_status {
	VMEM_OK,
	VMEM_FAULT,	/* the exception is in *exc */
	VMEM_STOP,	/* v->exit says why */
};

#define VMEM_STACK 0x1000u	/* a non-canonical address raises #SS(0), not #GP(0) */
#define VMEM_NO_ALIGN 0x2000u	/* exempt from alignment checking */
#define VMEM_ALIGN(n) ((n) << 16)	/* what alignment checking asks for, where it is not the access's length */
#define VMEM_SYSTEM (ACC_IMPLICIT | VMEM_NO_ALIGN)

/* Flags of an ordinary data access at the present CPL. */
static inline unsigned vmem_data(const struct vcpu *v)
{
	if (vcpu_user(v))
		return ACC_USER;
	return v->rflags & FL_AC ? ACC_AC : 0;
}

struct vmem_part {
	uint8_t *hva;		/* 0: MMIO at gpa */
	gpa_t gpa;
	uint32_t len;
};
struct vmem_span { unsigned parts; struct vmem_part part[2]; };

/* Does an access of len bytes violate what #AC asks for? (AMD APM vol. 2, "Alignment-Check Exception": powers of two their own, 80-bit reals 8, others 4.) */
bool vmem_misaligned(uint64_t la, unsigned len);
/* len 1 to 4096. On VMEM_OK the span is good until the next map, flush or exit. */
enum vmem_status vmem_map(struct vcpu *v, uint64_t la, unsigned len, unsigned acc, struct vmem_span *span, struct exception *exc);
void vmem_load(struct vcpu *v, const struct vmem_span *span, void *buf);
void vmem_store(struct vcpu *v, const struct vmem_span *span, const void *buf);
/* After a store made directly through part->hva. */
void vmem_written(struct vcpu *v, const struct vmem_part *part);

enum vmem_status vmem_read(struct vcpu *v, uint64_t la, void *buf, unsigned len, unsigned acc, struct exception *exc);
enum vmem_status vmem_write(struct vcpu *v, uint64_t la, const void *buf, unsigned len, unsigned acc, struct exception *exc);
/* size 1, 2, 4 or 8; the value is zero-extended. */
enum vmem_status vmem_read_int(struct vcpu *v, uint64_t la, uint64_t *value, unsigned size, unsigned acc, struct exception *exc);
enum vmem_status vmem_write_int(struct vcpu *v, uint64_t la, uint64_t value, unsigned size, unsigned acc, struct exception *exc);

/* Ports, through the bus with the FPU state safe. */
uint64_t port_read(struct vcpu *v, uint16_t port, unsigned size);
void port_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t value);

/* Serializes locked accesses that cannot be one host instruction (they cross a page, or are MMIO). */
void vmem_split_lock(void);
void vmem_split_unlock(void);

/* Level-1 TLB probe: the host address, or 0. acc holds exactly one of ACC_READ/ACC_WRITE or both. */
static inline uint8_t *vmem_probe(const struct vcpu *v, uint64_t la, unsigned len, unsigned acc)
{
	enum tlb_set set = acc & ACC_USER ? TLB_USER :
		       (v->cr4 & CR4_SMAP) && !(acc & ACC_AC) ? TLB_KERNEL : TLB_KERNEL_AC;
	const struct tlb_entry *e = tlb1_entry(&v->mmu, set + v->mmu.world, la);
	uint64_t offset = la - (acc & ACC_WRITE ? e->tag_write : e->tag_read);

	return LIKELY(offset <= PAGE_SIZE - len) ? (uint8_t *)(uintptr_t)(e->host + offset) : NULL;
}

/* True while something must look at every access: data breakpoints, or alignment checking in force. */
static inline bool vmem_checked(const struct vcpu *v)
{
	return UNLIKELY((v->dr[7] & 0xff) != 0) || UNLIKELY(v->cpl == 3 && (v->rflags & FL_AC) && (v->cr0 & CR0_AM));
}

#endif
