/*
 * vcpu.h - the state of one virtual processor.
 *
 * Generated code addresses this struct GS-relative (the host GS base of a vcpu thread is its struct vcpu), so the hot
 * members come first. While generated code runs, guest registers are in the host's (see docs/translator.md); whenever
 * C code runs they are all here.
 *
 * Invariants
 *  V1  rflags bit 1 is set; bits not defined are clear; the CPL is cpl (SS.DPL in protected mode, 0 in real mode); FL_VM is set in
 *      virtual-8086 mode only: never outside protected mode, never in long mode
 *  V2  mmu's controls follow cr0, cr4, efer, cr3 (only cpu/control.c writes those four)
 *  V3  only the vcpu's thread touches this struct, except `pending` and the LAPIC's irr (atomic)
 */
#ifndef CPU_VCPU_H
#define CPU_VCPU_H

#include <stdatomic.h>
#include "base/stats.h"
#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/lapic.h"
#include "cpu/mtrr.h"
#include "cpu/svm.h"
#include "mem/bus.h"
#include "mmu/mmu.h"
#include "x86/exception.h"
#include "x86/regs.h"

/* Segment attributes in the VMCB's packed form (AMD APM vol. 2, "VMCB State Save Area"): descriptor bits 40-47 and 52-55. */
#define SEG_TYPE 0x00f
#define SEG_S 0x010
#define SEG_DPL(a) (((a) >> 5) & 3)
#define SEG_P 0x080
#define SEG_AVL 0x100
#define SEG_L 0x200
#define SEG_DB 0x400
#define SEG_GRAN 0x800
struct segment { uint64_t base; uint32_t limit; /* scaled to bytes */ uint16_t selector, attr; };
struct table_reg { uint64_t base; uint16_t limit; };

/* Jump tables: a few large ones for supervisor code, the first of them always empty, and small ones for user code. */
#define JUMP_LARGE_TABLES 6u
#define JUMP_LARGE_ENTRIES 8192u
#define JUMP_SMALL_TABLES 16u
#define JUMP_SMALL_ENTRIES 4096u
#define JUMP_TABLES (JUMP_LARGE_TABLES + JUMP_SMALL_TABLES)
#define JUMP_HEAD_ENTRIES 4u	/* a line before each, whose last entry is its head */
#define JUMP_SLOTS (JUMP_LARGE_TABLES * (JUMP_LARGE_ENTRIES + JUMP_HEAD_ENTRIES) + JUMP_SMALL_TABLES * (JUMP_SMALL_ENTRIES + JUMP_HEAD_ENTRIES))
#define JUMP_WIDE_ENTRIES 32768u	/* of the table behind them, which all contexts share */

struct jump_entry { uint64_t key, host; };	/* the head of a table: key is the context's number */
struct jump_wide { uint64_t key; uint32_t context, host; };

enum { INHIBIT_STI = 1, INHIBIT_MOV_SS = 2 };

/* MSRs with no effect of their own: kept as written (cpu/msr.c names them). */
#define VCPU_PLAIN_MSRS 16

/* Requests to a running vcpu; any thread may set one with vcpu_request. */
enum vcpu_request {
	REQ_INTERRUPT = 1,	/* the LAPIC may have something deliverable */
	REQ_STOP = 2,		/* leave to vm/: the run has ended, or there is work for the vcpu's thread */
	REQ_SAMPLE = 4,
};

/* Why the engine came back to vm/. */
enum exit_kind {
	EXIT_NONE,
	EXIT_HLT,		/* halted with interrupts on: sleep until something is pending */
	EXIT_HLT_FOREVER,	/* HLT with IF clear and nothing that can wake it */
	EXIT_STOP,		/* REQ_STOP */
	EXIT_TRIPLE_FAULT,
	EXIT_UNSUPPORTED,	/* the guest needs what we lack: reason says what */
	EXIT_HOST_ERROR,	/* a host shortage: reason */
};
struct exit_info { enum exit_kind kind; char reason[200]; };

struct cpu_counters {
	uint64_t insns_executor, blocks_executed, interrupts_injected, exceptions_injected, syscalls, sysrets, irets, vmruns, vmexits;
	uint64_t cr3_writes, port_accesses, mmio_accesses, msr_accesses, cpuids, halts, string_bulk;
	uint64_t exception[32];
};

struct vcpu {
	/* Hot, known to generated code. */
	uint64_t gpr[16];
	uint64_t rip;
	uint64_t rflags;
	_Atomic uint32_t pending;	/* enum vcpu_request */
	uint8_t cpl;
	uint8_t activity;		/* enum activity, sampled */
	uint8_t inhibit;		/* interrupt shadow of STI/MOV SS (INHIBIT_*): no interrupt before the next instruction */
	uint8_t halted;
	uint8_t irq_waiting;		/* something is deliverable but for IF or the shadow; whoever sets IF looks (exec_irq_recheck) */
	uint8_t ring3_kernel;		/* a paravirtualized guest's kernel runs: at CPL 3, but its accesses are a supervisor's (vcpu_user) */
	uint8_t nmi_masked;		/* from an NMI's delivery to the next IRET */
	uint64_t tsc_offset;		/* guest TSC = host TSC + offset */
	struct segment seg[SEG_COUNT];
	uint64_t bt_scratch[32];	/* spill slots of generated code (bt/) */
	struct bt_vcpu *bt;		/* translator's per-vcpu part (bt/) */

	/* System registers. */
	struct segment ldtr, tr;
	struct table_reg gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
	uint64_t dr[8];
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, tsc_aux, misc_enable;
	uint64_t features;		/* enum insn_feature bits that CPUID offers */
	uint64_t msr[VCPU_PLAIN_MSRS];
	uint64_t mtrr[MTRRS];
	uint64_t debug_hits;		/* DR6 bits of data and I/O breakpoints that the running instruction met */
	unsigned id;			/* APIC id */

	struct exit_info exit;
	struct cpu_counters counters;
	struct memory *memory;
	struct bus *bus;
	const struct cpuid_policy *cpuid;
	struct kvmclock *kvmclock;
	struct exec_cache *decoded;	/* instructions that exec_step decoded (cpu/exec.c) */
	struct host_stub *stub;		/* runs single instructions on the host (cpu/host_stub) */
	const struct personality *personality;	/* cpu/personality.h */
	void *domain;			/* its own, per vcpu */
	struct { uint64_t la; uint8_t *copy; } redirect; /* stores of up to 8 bytes at la that the tables refuse go to copy, if it is not 0 (exec_on_copy) */
	struct vcpu_svm svm;		/* cpu/svm.h */
	struct lapic lapic;
	struct fpu fpu;
	struct mmu mmu;

	/*
	 * Jump caches of generated code, one table a context: where the translation of a guest address starts
	 * (docs/translator.md). An entry holds the guest address and the host address; four lie in one cache line.
	 */
	struct jump_entry jump[JUMP_SLOTS] __attribute__((aligned(64)));
	/* Where what an entry held is found when another has taken its place. */
	struct jump_wide jump_wide[JUMP_WIDE_ENTRIES];

	/* How to wake the thread that runs this vcpu (vm/): sets `pending` first. */
	void (*kick)(struct vcpu *v);
	void *thread;
};

/* Sets a request and makes the vcpu notice soon, also from signal handlers and other threads. */
void vcpu_request(struct vcpu *v, uint32_t request);

/* Power-on state for a kernel entry in 64-bit mode is set by boot/ through vm/; this is the reset state. 0 or -errno. */
int vcpu_init(struct vcpu *v, struct memory *memory, struct bus *bus, enum paging_mode mode, unsigned id);
/* Before it runs: what else its processor has (bits of enum cpu_offer). */
void vcpu_offer(struct vcpu *v, unsigned offers);
void vcpu_destroy(struct vcpu *v);
/*
 * INIT and a start-up message: as after INIT, then real-mode code at vector:0000 (AMD APM vol. 2, "Multiple Processor Initialization"). The local
 * APIC, MSRs but EFER, and the FPU stay. On the vcpu's thread, outside the engine.
 */
void vcpu_start(struct vcpu *v, uint8_t vector);

static inline bool vcpu_long64(const struct vcpu *v)
{
	return (v->efer & EFER_LMA) && (v->seg[SEG_CS].attr & SEG_L);
}
/* Whether physical interrupts may come (the interrupt shadow aside). */
static inline bool vcpu_interruptible(const struct vcpu *v)
{
	if (UNLIKELY(v->svm.gif_clear))
		return false;
	return v->svm.masking == SVM_MASK_RFLAGS ? v->rflags & FL_IF : v->svm.masking == SVM_MASK_HOST_ON;
}
static inline bool vcpu_long(const struct vcpu *v) { return v->efer & EFER_LMA; }
static inline bool vcpu_real(const struct vcpu *v) { return !(v->cr0 & CR0_PE); }
static inline bool vcpu_vm86(const struct vcpu *v) { return v->rflags & FL_VM; }
/* Real and virtual-8086 mode: a selector is a paragraph, there are no descriptors. */
static inline bool vcpu_paragraphs(const struct vcpu *v) { return vcpu_real(v) || vcpu_vm86(v); }
/* Whether accesses to memory are made as a user. */
static inline bool vcpu_user(const struct vcpu *v) { return v->cpl == 3 && !v->ring3_kernel; }
/* Whether va is canonical under the paging in force. */
static inline bool vcpu_canonical(const struct vcpu *v, uint64_t va) { return mmu_canonical(&v->mmu, va); }
/* Whether a register that holds an address may be loaded with va: that depends on what the processor offers, not on the paging in force. */
static inline bool cpu_canonical(const struct vcpu *v, uint64_t va) { return va_canonical(va, v->cpuid->va_bits); }
/* How accesses are made, whatever the world (tlb.h), and the set of level 1 that serves them. */
static inline enum tlb_set vcpu_tlb_way(const struct vcpu *v)
{
	if (vcpu_user(v))
		return TLB_USER;
	return (v->cr4 & CR4_SMAP) && !(v->rflags & FL_AC) ? TLB_KERNEL : TLB_KERNEL_AC;
}
static inline enum tlb_set vcpu_tlb_set(const struct vcpu *v) { return vcpu_tlb_way(v) + v->mmu.world; }

extern const struct stat_row cpu_stat_rows[];
extern const size_t cpu_stat_row_count;

#endif
