/*
 * svm.c - hostile guest hypervisors: VMRUN with VMCBs that differ from a good one in a few random places, on guests of random code whose page tables are
 * sometimes random too, with nested paging by tables that are so as well. Whatever is in them, the outcome is architectural: L1 gets its own registers back, the MMU's invariants hold, nothing is
 * touched that is not the guest's (sanitizers).
 *
 * Every case is made from (seed, case) and starts from the same registers, tables and VMCB; the rest of memory is as earlier cases left it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpuid.h"
#include "cpu/exec.h"
#include "cpu/host_fault.h"
#include "cpu/lapic.h"
#include "svm/svm_internal.h"
#include "options.h"
#include "random.h"

#define RAM MIB(16)
#define STEPS 40
#define AUDIT_EVERY 500

enum {
	PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, NEST_PML4 = 0x4000, NEST_PDPT = 0xe000 /* and PD */, GDT = 0x5000, IDT = 0x6000, TSS = 0x7000, VMCB = 0x8000, IOPM = 0x9000, MSRPM = 0xc000, L1_CODE = 0xf000,
	PRISTINE = 0x10000, L2_CODE = 0x20000, HANDLERS = 0x30000, STACK = 0x40000,
};

static uint8_t image[PRISTINE];
static const uint64_t image_pat = 0x0007040600070406;
static void put(uint64_t at, uint64_t value) { memcpy(image + at, &value, 8); }
static void fail(uint64_t n, const char *what)
{
	printf("case %llu: %s\n", (unsigned long long)n, what);
	exit(1);
}

static void make_image(void)
{
	struct vmcb *b = (struct vmcb *)(void *)(image + VMCB);
	const struct vmcb_segment data = { .selector = 16, .attr = 0xc93, .limit = ~0u };

	put(PML4, PDPT | 7);
	put(PDPT, PD | 7);
	put(NEST_PML4, NEST_PDPT | 7);
	put(NEST_PDPT, PD | 7);
	for (uint64_t i = 0; i < RAM >> 21; i++)
		put(PD + 8 * i, i << 21 | 0x87);
	put(GDT + 8, 0x00af9b000000ffff);
	put(GDT + 16, 0x00cf93000000ffff);
	put(GDT + 24, 0x0000890070000067);
	put(TSS + 4, STACK);
	for (uint64_t i = 0; i < 256; i++) {
		put(IDT + 16 * i, ((HANDLERS + 16 * i) & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (uint64_t)(HANDLERS >> 16) << 48);
	}
	memcpy(image + L1_CODE, "\x0f\x01\xd8", 3);
	b->intercept[VMCB_MISC2] |= VMCB_MISC2_VMRUN;
	b->iopm_base = IOPM;
	b->msrpm_base = MSRPM;
	b->asid = 1;
	b->np_enable = 1; /* in half of the cases */
	b->n_cr3 = NEST_PML4;
	b->g_pat = 0x0007040600070406;
	b->es = b->ss = b->ds = data;
	b->cs = (struct vmcb_segment){ .selector = 8, .attr = 0xa9b, .limit = ~0u };
	b->gdtr = (struct vmcb_segment){ .limit = 31, .base = GDT };
	b->idtr = (struct vmcb_segment){ .limit = 0xfff, .base = IDT };
	b->efer = EFER_SVME | EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	b->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE;
	b->cr3 = PML4;
	b->cr4 = CR4_PAE | CR4_OSFXSR | CR4_PGE;
	b->dr6 = 0xffff0ff0;
	b->dr7 = 0x400;
	b->rflags = FL_R1;
	b->rip = L2_CODE;
	b->rsp = STACK;
}

/* Parts of the VMCB that mean something. */
static const struct { uint16_t at, bytes; } parts[] = { { 0, 0x18 }, { 0x40, 0x50 }, { 0xa8, 0x18 }, { 0x400, 0xa0 }, { 0x4c8, 0x10 }, { 0x548, 0x38 }, { 0x5d8, 8 }, { 0x5f8, 0x48 } };

static uint64_t odd_value(uint64_t old)
{
	switch (below(8)) {
	case 0: return rnd();
	case 1: return 0;
	case 2: return ~0ull;
	case 3: return below(RAM);
	case 4: return (1ull << 40) - below(0x4000);
	case 5: return rnd() & rnd();
	default: return old ^ 1ull << below(64) ^ (chance(30) ? 1ull << below(64) : 0);
	}
}

static void mutate(uint8_t *vmcb)
{
	if (chance(50))
		vmcb[offsetof(struct vmcb, np_enable)] = 0;
	if (chance(30))
		vmcb[offsetof(struct vmcb, tlb_control)] = (uint8_t)below(8);
	for (unsigned k = (unsigned)below(6); k--;) {
		unsigned p = (unsigned)below(ARRAY_LEN(parts)), at = parts[p].at + (unsigned)below(parts[p].bytes / 8) * 8;
		uint64_t value;

		memcpy(&value, vmcb + at, 8);
		value = odd_value(value);
		memcpy(vmcb + at, &value, 8);
	}
	for (unsigned word = 0; chance(80) && word < 6; word++) { /* most guests would run on and on if nothing were intercepted */
		uint32_t bits = (uint32_t)(rnd() & rnd());

		bits |= word == VMCB_MISC2 ? VMCB_MISC2_VMRUN : 0;
		memcpy(vmcb + 4 * word, &bits, 4);
	}
	if (chance(30)) { /* an event that is often legal */
		uint64_t event = 0x80000000 | below(32) | below(5) << 8 | (chance(20) ? 1u << 11 : 0);

		memcpy(vmcb + offsetof(struct vmcb, eventinj), &event, 8);
	}
}

static const char *const codes[] = {
	"\x0f\x01\xd9", "\x0f\xa2", "\xf4", "\x0f\x22\xc0", "\x0f\x22\xd8", "\x0f\x22\xe0", "\x0f\x20\xc0", "\x0f\x30", "\x0f\x32", "\x0f\x01\xda", "\x0f\x01\xdb", "\x0f\x01\xdc",
	"\x0f\x01\xdd", "\x0f\x01\xdf", "\x0f\x01\xd8", "\xfb", "\xfa", "\xf3\x90", "\xcd\x80", "\xcc", "\xf1", "\x9c", "\x9d", "\x48\xcf", "\x0f\x31", "\xec", "\xee", "\xf3\x6c",
	"\xf3\x6e", "\x0f\x0b", "\x48\x89\x07", "\x48\x8b\x06", "\x0f\x01\x38", "\x48\x0f\x07", "\x0f\x05", "\xe6\x80", "\x44\x0f\x22\xc0", "\xf3\xaa", "\x0f\x06", "\x0f\x09",
};

static void reset(struct vcpu *v)
{
	v->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_WP;
	v->cr3 = PML4;
	v->cr4 = CR4_PAE | CR4_OSFXSR | CR4_PGE;
	v->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE | EFER_SVME;
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	mmu_set_cr3(&v->mmu, v->cr3);
	if (chance(50))
		mmu_flush_all(&v->mmu);
	for (unsigned i = 0; i < 16; i++)
		v->gpr[i] = chance(50) ? below(RAM) : rnd();
	v->gpr[RAX] = VMCB;
	v->gpr[RSP] = STACK;
	v->rip = L1_CODE;
	v->rflags = FL_R1 | (chance(50) ? FL_IF : 0);
	v->cpl = 0;
	v->inhibit = v->halted = v->irq_waiting = v->nmi_masked = 0;
	v->debug_hits = 0;
	v->dr[7] = 0x400;
	v->pat = image_pat;
	v->seg[SEG_CS] = (struct segment){ .limit = ~0u, .selector = 8, .attr = 0xa9b };
	v->seg[SEG_SS] = v->seg[SEG_DS] = v->seg[SEG_ES] = (struct segment){ .limit = ~0u, .selector = 16, .attr = 0xc93 };
	v->gdtr = (struct table_reg){ GDT, 31 };
	v->idtr = (struct table_reg){ IDT, 0xfff };
	v->tr = (struct segment){ .base = TSS, .limit = 0x67, .selector = 24, .attr = SEG_P | 0xb };
	v->ldtr = (struct segment){ 0 };
	v->svm.gif_clear = chance(50);
	v->svm.vm_cr = 0;
	v->svm.tsc_ratio = chance(80) ? TSC_RATIO_ONE : rnd() & TSC_RATIO_VALID;
	lapic_reset(&v->lapic, 0, true);
	if (chance(50)) {
		v->lapic.svr = 0x1ff;
		lapic_post(v, &(struct irq_message){ .vector = (uint8_t)(32 + below(224)) });
	}
	atomic_store(&v->lapic.nmi_pending, chance(10));
	atomic_store(&v->pending, 0);
}

struct tally { uint64_t nested_faults, invalid, exits, forced, stops, steps; };

static void one(struct vcpu *v, uint64_t n, struct tally *t)
{
	struct vmcb *state = &v->svm.state->vmcb;
	uint8_t vmcb[PAGE_SIZE], code[64];
	uint64_t gpr[16];
	const uint64_t runs = v->counters.vmruns;

	memory_write(v->memory, gpa(0), image, sizeof(image));
	for (unsigned k = chance(50) ? (unsigned)below(3) : 0; k--;) { /* nested tables: anything, each other, themselves, devices, no memory */
		static const uint64_t places[] = { NEST_PML4, NEST_PDPT, NEST_PML4, NEST_PDPT, 0xfee00000, 0xfec00000, 0xc0000000, RAM - PAGE_SIZE, RAM, 1ull << 39, VMCB, MSRPM };
		uint64_t at = chance(50) ? NEST_PDPT + 8 * below(4) : NEST_PML4 + 8 * below(2);
		uint64_t entry = chance(40) ? odd_value(PD | 7) : places[below(ARRAY_LEN(places))] | 7 | (chance(20) ? PTE_PS : 0);

		memory_write(v->memory, gpa(at), &entry, 8);
	}
	memcpy(vmcb, image + VMCB, sizeof(vmcb));
	mutate(vmcb);
	memory_write(v->memory, gpa(VMCB), vmcb, sizeof(vmcb));
	if (chance(10)) { /* tables */
		uint64_t entry = odd_value(PDPT | 7);

		memory_write(v->memory, gpa(PML4 + 0x1000 * below(3) + 8 * below(4)), &entry, 8);
		memory_write(v->memory, gpa(PML4), image + PML4, 8);
	}
	for (unsigned i = 0; i < sizeof(code);) {
		const char *c = codes[below(ARRAY_LEN(codes))];

		if (chance(20))
			code[i++] = (uint8_t)rnd();
		for (; *c && i < sizeof(code); c++)
			code[i++] = (uint8_t)*c;
	}
	memory_write(v->memory, gpa(L2_CODE), code, sizeof(code));
	reset(v);
	memcpy(gpr, v->gpr, sizeof(gpr));
	v->exit.kind = EXIT_NONE;
	if (exec_step(v) == EXEC_STOP) {
		t->stops++;
	} else {
		for (unsigned i = 0; v->svm.guest && i < STEPS; i++) {
			t->steps++;
			if ((atomic_load(&v->pending) & REQ_INTERRUPT) && exec_interrupts(v) == EXEC_STOP)
				break;
			if (!v->svm.guest)
				break;
			atomic_store_explicit(&v->memory->track.code_writes, 0, memory_order_relaxed);
			if (exec_step(v) == EXEC_STOP) {
				t->stops++;
				break;
			}
		}
	}
	if (v->exit.kind == EXIT_HOST_ERROR)
		fail(n, v->exit.reason);
	if (v->svm.guest) {
		t->forced++;
		if (svm_exit(v, VMEXIT_INTR, 0, 0, 0) != EXEC_NEXT)
			fail(n, "forced exit");
	} else if (v->counters.vmruns == runs) {
		/* Its own tables hide L1's code, or lead elsewhere: nothing was run. */
		fpu_save(v);
		return;
	}
	if (v->rip != L1_CODE + 3)
		fail(n, "L1 is not behind its VMRUN");
	t->nested_faults += state->exitcode == VMEXIT_NPF;
	state->exitcode == VMCB_EXIT_INVALID ? t->invalid++ : t->exits++;
	if (v->cr3 != PML4 || v->gpr[RSP] != gpr[RSP] || v->gpr[RAX] != VMCB || v->cpl || !v->svm.gif_clear || v->svm.masking || v->svm.tsc_offset ||
	    v->svm.delivering || v->pat != image_pat || v->seg[SEG_CS].selector != 8 || v->idtr.base != IDT || !(v->efer & EFER_SVME) || !vcpu_long64(v) || v->mmu.cr3 != PML4)
		fail(n, "L1's registers are not what they were");
	fpu_save(v);
}

int main(int argc, char **argv)
{
	struct fuzz_options o = { .cases = 10000, .seed = 1, .mode = PAGING_NESTED };
	struct memory memory;
	struct bus bus;
	struct tally t = { 0 };
	struct vcpu *v = aligned_alloc(64, ALIGN_UP(sizeof(*v), 64));
	char text[300];

	tune_defaults(&o.tune);
	if (!fuzz_options(&o, NULL, argc, argv))
		return 2;
	bus_init(&bus);
	if (!v || host_fault_thread_start() || memory_init(&memory, RAM, PLACEMENT_SCATTER, o.seed) || vcpu_init(v, &memory, &bus, o.mode, 0))
		return 2;
	memory.tune = &o.tune;
	vcpu_offer(v, 1u << CPU_OFFER_SVM);
	v->xcr0 = v->cpuid->xcr0;
	if (svm_attach(v))
		return 2;
	make_image();
	for (uint64_t n = o.first; n < o.first + o.cases; n++) {
		rng = o.seed * 0x9e3779b97f4a7c15ull ^ n << 20;
		one(v, n, &t);
		if (n % AUDIT_EVERY == 0 && mmu_audit(&v->mmu, text, sizeof(text)))
			fail(n, text);
	}
	printf("%s: %llu VMRUNs: %llu refused, %llu exits, %llu of them made to, %llu nested faults; %llu instructions, %llu stops\n", o.mode == PAGING_SHADOW ? "shadow" : o.mode == PAGING_AUTO ? "auto" : "nested",
	       (unsigned long long)o.cases, (unsigned long long)t.invalid, (unsigned long long)t.exits, (unsigned long long)t.forced, (unsigned long long)t.nested_faults,
	       (unsigned long long)t.steps, (unsigned long long)t.stops);
	svm_detach(v);
	vcpu_destroy(v);
	memory_destroy(&memory);
	bus_destroy(&bus);
	free(v);
	return 0;
}
