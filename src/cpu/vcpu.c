/* vcpu.c - life of a virtual processor (vcpu.h). */
#include "cpu/vcpu.h"

#include <errno.h>
#include <string.h>
#include "base/clock.h"
#include "cpu/cpuid.h"
#include "cpu/debug.h"
#include "cpu/exec_internal.h"
#include "cpu/host_stub.h"
#include "cpu/kvmclock.h"
#include "cpu/msr.h"

void vcpu_request(struct vcpu *v, uint32_t request)
{
	atomic_fetch_or(&v->pending, request);
	if (v->kick)
		v->kick(v);
}

/* What RESET and INIT have in common. AMD APM vol. 2, "Processor Initialization State". */
static void initialize(struct vcpu *v)
{
	for (unsigned i = 0; i < SEG_COUNT; i++)
		v->seg[i] = (struct segment){ .limit = 0xffff, .attr = SEG_P | SEG_S | 3 };
	v->seg[SEG_CS] = (struct segment){ .base = 0xffff0000, .limit = 0xffff, .selector = 0xf000, .attr = SEG_P | SEG_S | 0xb };
	v->ldtr = (struct segment){ .limit = 0xffff, .attr = SEG_P | 2 };
	v->tr = (struct segment){ .limit = 0xffff, .attr = SEG_P | 0xb };
	v->gdtr.limit = v->idtr.limit = 0xffff;
	v->rip = 0xfff0;
	v->rflags = FL_R1;
	v->cpl = 0;
	v->dr[6] = DR6_RESERVED_ONES;
	v->dr[7] = DR7_RESERVED_ONE;
}

static void reset(struct vcpu *v)
{
	initialize(v);
	v->cr0 = CR0_CD | CR0_NW | CR0_ET;
	v->xcr0 = XCR0_X87;
	msr_reset(v);
	fpu_reset(v);
}

void vcpu_start(struct vcpu *v, uint8_t vector)
{
	uint32_t reg[4];

	initialize(v);
	for (unsigned i = 0; i < ARRAY_LEN(v->gpr); i++)
		v->gpr[i] = 0;
	cpuid_read(v, 1, 0, reg);
	v->gpr[RDX] = reg[CPUID_EAX];
	for (unsigned i = 0; i < 4; i++)
		v->dr[i] = 0;
	v->gdtr.base = v->idtr.base = 0;
	v->cr0 = (v->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
	v->cr2 = v->cr3 = v->cr4 = v->efer = 0;
	v->inhibit = v->halted = v->irq_waiting = v->nmi_masked = 0;
	v->debug_hits = 0;
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	mmu_set_cr3(&v->mmu, 0);
	v->seg[SEG_CS].selector = (uint16_t)(vector << 8);
	v->seg[SEG_CS].base = (uint64_t)vector << 12;
	v->rip = 0;
}

int vcpu_init(struct vcpu *v, struct memory *memory, struct bus *bus, enum paging_mode mode, unsigned id)
{
	int err;

	/* But level 1 of the TLB, which is large and hardly used (mmu_init). */
	memset(v, 0, offsetof(struct vcpu, mmu.l1));
	memset(v->mmu.span, 0, sizeof(*v) - offsetof(struct vcpu, mmu.span));
	v->memory = memory;
	v->bus = bus;
	v->id = id;
	v->personality = &personality_bare;
	v->cpuid = cpuid_policy_get(0);
	if (!v->cpuid)
		return -ENOTSUP;
	v->features = v->cpuid->features;
	v->tsc_offset = -clock_tsc();
	v->svm.tsc_ratio = TSC_RATIO_ONE;
	err = host_stub_create(&v->stub);
	if (!err)
		err = kvmclock_create(&v->kvmclock);
	if (!err)
		err = exec_cache_create(&v->decoded);
	if (!err)
		err = mmu_init(&v->mmu, memory, mode);
	if (err) {
		exec_cache_destroy(v->decoded);
		kvmclock_destroy(v->kvmclock);
		host_stub_destroy(v->stub);
		return err;
	}
	lapic_reset(&v->lapic, id, id == 0);
	reset(v);
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	return 0;
}

void vcpu_offer(struct vcpu *v, unsigned offers)
{
	v->cpuid = cpuid_policy_get(offers);
	v->features = v->cpuid->features;
}

void vcpu_destroy(struct vcpu *v)
{
	mmu_destroy(&v->mmu);
	exec_cache_destroy(v->decoded);
	kvmclock_destroy(v->kvmclock);
	host_stub_destroy(v->stub);
	v->kvmclock = NULL;
	v->stub = NULL;
}

#define ROW(member, help) STAT_ROW(struct cpu_counters, member, help)
const struct stat_row cpu_stat_rows[] = {
	ROW(insns_executor, "instructions done by the executor"),
	ROW(blocks_executed, "translated blocks executed: those entered from C, or all with --tune count-blocks=on"),
	ROW(interrupts_injected, "interrupts and NMIs delivered"),
	ROW(exceptions_injected, "exceptions delivered"),
	ROW(syscalls, "SYSCALL instructions"),
	ROW(sysrets, "SYSRET instructions"),
	ROW(irets, "IRET instructions"),
	ROW(vmruns, "VMRUN instructions that entered a guest of the guest"),
	ROW(vmexits, "#VMEXITs from it"),
	ROW(cr3_writes, "loads of CR3"),
	ROW(port_accesses, "port reads and writes"),
	ROW(mmio_accesses, "accesses to memory-mapped devices, the local APIC included"),
	ROW(msr_accesses, "RDMSR and WRMSR"),
	ROW(cpuids, "CPUID instructions"),
	ROW(halts, "HLT instructions"),
	ROW(string_bulk, "runs of string elements done at once"),
};
const size_t cpu_stat_row_count = ARRAY_LEN(cpu_stat_rows);
