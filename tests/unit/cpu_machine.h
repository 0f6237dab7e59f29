/*
 * cpu_machine.h - a machine for the executor's unit tests: one vcpu in 64-bit mode on 32 MiB of RAM, with page tables,
 * descriptor tables and handlers laid out below. No engine: tests call exec_step.
 *
 * Physical memory is mapped one to one, user accessible: 2 MiB pages, but [4 MiB, 6 MiB) by 4 KiB pages that tests may change (PT).
 */
#ifndef TESTS_CPU_MACHINE_H
#define TESTS_CPU_MACHINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/cpuid.h"
#include "cpu/debug.h"
#include "cpu/exec.h"
#include "cpu/host_fault.h"
#include "cpu/vcpu.h"

enum {
	PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x4000, GDT = 0x5000, IDT = 0x6000, TSS = 0x7000,
	CODE_AT = 0x10000, HANDLERS = 0x20000, STACK = 0x30000, IST_STACK = 0x38000, USER_STACK = 0x3c000, DATA = 0x400000,
	KERNEL_CS = 0x08, KERNEL_SS = 0x10, USER_CS = 0x23, USER_SS = 0x1b, TSS_SEL = 0x28, NOT_PRESENT_CS = 0x38,
	GDT_SIZE = 0x40,
};
#define NONCANONICAL 0x8000000000000000ull

struct machine { struct memory memory; struct bus bus; struct vcpu *v; };

static inline void poke(struct machine *m, uint64_t at, const void *buf, size_t len)
{
	assert_int_equal(memory_write(&m->memory, gpa(at), buf, len), 0);
}
static inline void poke64(struct machine *m, uint64_t at, uint64_t value) { poke(m, at, &value, 8); }
static inline uint64_t peek64(struct machine *m, uint64_t at)
{
	uint64_t value;

	assert_int_equal(memory_read(&m->memory, gpa(at), &value, 8), 0);
	return value;
}

/* The page table entry of a 4 KiB page in [4 MiB, 6 MiB); the caller drops the translation. */
static inline void set_page(struct machine *m, uint64_t va, uint64_t entry)
{
	poke64(m, PT + 8 * ((va - DATA) >> 12), entry);
	mmu_invlpg(&m->v->mmu, gva(va));
}

static inline void set_gate(struct machine *m, unsigned vector, unsigned type, unsigned dpl, unsigned ist, bool present, uint16_t cs)
{
	uint64_t at = HANDLERS + 16 * vector;

	poke64(m, IDT + 16 * vector, (at & 0xffff) | (uint64_t)cs << 16 | (uint64_t)ist << 32 | (uint64_t)type << 40 | (uint64_t)dpl << 45 |
	       (uint64_t)present << 47 | (at & 0xffff0000) << 32);
	poke64(m, IDT + 16 * vector + 8, at >> 32);
}

static inline void set_flat_segments(struct vcpu *v, unsigned cpl)
{
	uint16_t dpl = (uint16_t)(cpl << 5);

	v->seg[SEG_CS] = (struct segment){ .limit = ~0u, .selector = cpl ? USER_CS : KERNEL_CS, .attr = SEG_P | SEG_S | 0xb | SEG_L | SEG_GRAN | dpl };
	v->seg[SEG_SS] = (struct segment){ .limit = ~0u, .selector = cpl ? USER_SS : KERNEL_SS, .attr = SEG_P | SEG_S | 3 | SEG_DB | SEG_GRAN | dpl };
	v->cpl = (uint8_t)cpl;
}

static inline void machine_tables(struct machine *m)
{
	poke64(m, PML4, PDPT | PTE_P | PTE_W | PTE_U);
	poke64(m, PDPT, PD | PTE_P | PTE_W | PTE_U);
	for (uint64_t i = 0; i < 16; i++)
		poke64(m, PD + 8 * i, i << 21 | PTE_P | PTE_W | PTE_U | PTE_PS);
	poke64(m, PD + 8 * 2, PT | PTE_P | PTE_W | PTE_U);
	for (uint64_t i = 0; i < 512; i++)
		poke64(m, PT + 8 * i, (DATA + (i << 12)) | PTE_P | PTE_W | PTE_U);
	poke64(m, GDT + KERNEL_CS, 0x00af9b000000ffff);
	poke64(m, GDT + KERNEL_SS, 0x00cf93000000ffff);
	poke64(m, GDT + (USER_SS & ~7), 0x00cff3000000ffff);
	poke64(m, GDT + (USER_CS & ~7), 0x00affb000000ffff);
	poke64(m, GDT + TSS_SEL, 0x0000890070000067);
	poke64(m, GDT + NOT_PRESENT_CS, 0x00af1b000000ffff);
	poke64(m, TSS + 4, STACK);
	poke64(m, TSS + 36, IST_STACK);
	for (unsigned i = 0; i < 256; i++)
		set_gate(m, i, 0xe, 0, 0, true, KERNEL_CS);
}

static inline struct machine *machine_new(enum paging_mode mode)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct vcpu *v = aligned_alloc(64, ALIGN_UP(sizeof(*v), 64));

	assert_non_null(m);
	assert_non_null(v);
	m->v = v;
	assert_int_equal(host_fault_thread_start(), 0);
	assert_int_equal(memory_init(&m->memory, MIB(32), PLACEMENT_SCATTER, 7), 0);
	bus_init(&m->bus);
	assert_int_equal(vcpu_init(v, &m->memory, &m->bus, mode, 0), 0);
	machine_tables(m);
	v->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_WP | CR0_MP;
	v->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	v->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	v->cr3 = PML4;
	v->xcr0 = v->cpuid->xcr0;
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	mmu_set_cr3(&v->mmu, v->cr3);
	set_flat_segments(v, 0);
	v->seg[SEG_DS] = v->seg[SEG_ES] = v->seg[SEG_FS] = v->seg[SEG_GS] = (struct segment){ 0 };
	v->gdtr = (struct table_reg){ GDT, GDT_SIZE - 1 };
	v->idtr = (struct table_reg){ IDT, 0xfff };
	v->tr = (struct segment){ .base = TSS, .limit = 0x67, .selector = TSS_SEL, .attr = SEG_P | 0xb };
	v->gpr[RSP] = STACK;
	v->rip = CODE_AT;
	return m;
}

static inline void machine_free(struct machine *m)
{
	fpu_save(m->v);
	vcpu_destroy(m->v);
	memory_destroy(&m->memory);
	bus_destroy(&m->bus);
	free(m->v);
	free(m);
}

/* Puts machine code at rip = CODE_AT. */
static inline void machine_code(struct machine *m, const uint8_t *from, const uint8_t *to)
{
	poke(m, CODE_AT, from, (size_t)(to - from));
	m->v->rip = CODE_AT;
}
#define CPU_STR2(x) #x
#define CPU_STR(x) CPU_STR2(x)
#define CPU_LABEL "cpu_code_" CPU_STR(__LINE__)
#define CODE(m, text)                                                                                            \
	do {                                                                                                     \
		const uint8_t *from_, *to_;                                                                      \
		__asm__ volatile(".pushsection .rodata\n" CPU_LABEL ": " text "\n" CPU_LABEL "e:\n.popsection"); \
		__asm__ volatile("lea " CPU_LABEL "(%%rip), %0\n\tlea " CPU_LABEL "e(%%rip), %1"                 \
				 : "=r"(from_), "=r"(to_));                                                      \
		machine_code(m, from_, to_);                                                                     \
	} while (0)

/* Puts the code and executes its first instruction (or n). */
static inline void step(struct machine *m, unsigned n)
{
	host_fault_take_signals(); /* cmocka takes them for each test */
	while (n--)
		assert_int_equal(exec_step(m->v), EXEC_NEXT);
	fpu_save(m->v);
}
#define STEP(m, text) do { CODE(m, text); step(m, 1); } while (0)
#define STEPS(m, n, text) do { CODE(m, text); step(m, n); } while (0)

/* The last step delivered `vector` to ring 0 with this error code (-1: none); returns the address of RIP in the frame. */
static inline uint64_t delivered(struct machine *m, unsigned vector, int64_t error)
{
	uint64_t frame = m->v->gpr[RSP];

	assert_int_equal(m->v->rip, HANDLERS + 16 * vector);
	assert_int_equal(m->v->cpl, 0);
	if (error < 0)
		return frame;
	assert_int_equal(peek64(m, frame), error);
	return frame + 8;
}

/* Steps one instruction that must fault, at its own address and with everything else as it was. */
#define FAULTS(m, text, vector, error)                                                                           \
	do {                                                                                                     \
		uint64_t before_[16], frame_;                                                                    \
		CODE(m, text);                                                                                   \
		memcpy(before_, (m)->v->gpr, sizeof(before_));                                                   \
		step(m, 1);                                                                                      \
		frame_ = delivered(m, vector, error);                                                            \
		assert_int_equal(peek64(m, frame_), CODE_AT);                                                    \
		assert_int_equal(peek64(m, frame_ + 24), before_[RSP]);                                          \
		(m)->v->gpr[RSP] = before_[RSP];                                                                 \
		assert_memory_equal(before_, (m)->v->gpr, sizeof(before_));                                      \
		set_flat_segments((m)->v, (unsigned)(peek64(m, frame_ + 8) & 3));                                \
		(m)->v->rflags = FL_R1;                                                                          \
	} while (0)

#endif
