/* case.c - memory, registers and VMCB of a case. */
#include "case.h"

#include <string.h>

#include "../random.h"

#define USABLE (PTE_P | PTE_W | PTE_U | PTE_A)

static void put(struct svm_case *c, uint64_t at, uint64_t value) { memcpy(c->image + at, &value, 8); }

static void tables(struct svm_case *c, uint64_t top)
{
	put(c, top, (top + 0x1000) | USABLE);
	put(c, top + 0x1000, (top + 0x2000) | USABLE);
	put(c, top + 0x2000, (top + 0x3000) | USABLE);
}

/* A page that denies something, in L2's tables or in nested ones. */
static uint64_t less(uint64_t entry)
{
	switch (below(5)) {
	case 0: return entry & ~PTE_P;
	case 1: return entry & ~PTE_U;
	case 2: return entry & ~PTE_D;
	case 3: return entry | PTE_NX;
	default: return entry & ~PTE_W;
	}
}

/* What the guest may touch of the low pages: no tables. */
static bool low_page_of_guest(uint64_t p) { return (p >= GDT && p < VMCB) || (p >= L2_CODE && p < PRISTINE); }

static void l2_tables(struct svm_case *c, bool nested)
{
	static const uint64_t data_first = DATA, data_end = DATA + DATA_PAGES * PAGE_SIZE;

	tables(c, L2_PML4);
	tables(c, NEST_PML4);
	for (uint64_t v = 0; v < DATA * 2; v += PAGE_SIZE) {
		const bool data = v >= data_first && v < data_end;
		const uint64_t flags = USABLE | PTE_D, at = L2_PT + 8 * (v >> PAGE_SHIFT), nest_at = NEST_PT + 8 * (v >> PAGE_SHIFT);
		uint64_t entry = flags | (data && !nested ? v - DATA + PRIVATE : v), nest = flags | (data ? v - DATA + PRIVATE : v);

		if (data && chance(15))
			entry = less(entry);
		else if (data && chance(15))
			nest = less(nest);
		if (data || low_page_of_guest(v)) {
			put(c, at, entry | (data && chance(30) ? PTE_G : 0));
			put(c, nest_at, nest);
		}
		if (v >= L2_PML4 && v < NEST_PML4) /* read by walks of the guest's tables, which count as writes */
			put(c, nest_at, nest);
	}
}

static void descriptors(struct svm_case *c)
{
	put(c, GDT + 8, 0x00af9b000000ffff);
	put(c, GDT + 16, 0x00cf93000000ffff);
	put(c, GDT + 24, 0x0000890070000067);
	put(c, GDT + 40, 0x00cff3000000ffff);
	put(c, GDT + 48, 0x00affb000000ffff);
	put(c, TSS + 4, STACK);
	for (uint64_t i = 0; i < 256; i++) {
		put(c, IDT + 16 * i, ((HANDLERS + 16 * i) & 0xffff) | 8 << 16 | (chance(70) ? 0xee00ull : 0x8e00ull) << 32 | (uint64_t)(HANDLERS >> 16) << 48);
		memcpy(c->image + HANDLERS + 16 * i, chance(80) ? "\x0f\x01\xd9\xf4" : "\x48\xcf\xf4\x90", 4); /* vmmcall; hlt, or iretq */
	}
}

/* Where L2 begins: the stack, too, may be about to cross a page. */
static void l2_registers(struct vmcb *b)
{
	const bool user = chance(25);
	const struct vmcb_segment data = { .selector = user ? 43 : 16, .attr = user ? 0xcf3 : 0xc93, .limit = ~0u };

	b->es = b->ss = b->ds = b->fs = b->gs = data;
	b->cs = (struct vmcb_segment){ .selector = user ? 51 : 8, .attr = user ? 0xafb : 0xa9b, .limit = ~0u };
	if (chance(8))
		b->cs.attr = (uint16_t)((b->cs.attr & ~0x200) | 0x400); /* compatibility mode */
	b->cpl = user ? 3 : 0;
	b->gdtr = (struct vmcb_segment){ .limit = 55, .base = GDT };
	b->idtr = (struct vmcb_segment){ .limit = 0xfff, .base = IDT };
	b->tr = (struct vmcb_segment){ .selector = 24, .attr = 0x8b, .limit = 0x67, .base = TSS };
	b->efer = EFER_SVME | EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	b->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | (chance(50) ? CR0_WP : 0) | (chance(10) ? CR0_TS : 0) | (chance(10) ? CR0_EM : 0) | (chance(10) ? CR0_AM : 0);
	b->cr3 = L2_PML4;
	b->cr4 = CR4_PAE | CR4_OSFXSR | CR4_FSGSBASE | (chance(50) ? CR4_PGE : 0) | (chance(20) ? CR4_SMAP : 0) | (chance(5) ? CR4_SMEP : 0) | (chance(10) ? CR4_TSD : 0) | (chance(10) ? CR4_UMIP : 0);
	b->dr6 = 0xffff0ff0;
	b->dr7 = 0x400;
	b->rflags = FL_R1 | (chance(50) ? FL_IF : 0) | (chance(3) ? FL_TF : 0) | (chance(20) ? FL_AC : 0) | (chance(5) ? FL_DF : 0) | (rnd() & FL_ARITH);
	b->rip = L2_CODE + below(L2_CODE_PAGES) * PAGE_SIZE;
	b->rsp = L2_STACKS + below(L2_STACK_PAGES * PAGE_SIZE / 8) * 8;
	b->rsp = chance(30) ? (b->rsp & PAGE_MASK) + below(4) * 8 : b->rsp;
	b->rax = rnd();
	b->star = 8ull << 32 | 40ull << 48;
	b->lstar = HANDLERS;
}

static void controls(struct vmcb *b, bool nested)
{
	for (unsigned word = 0; word < VMCB_INTERCEPTS; word++)
		if (chance(40))
			b->intercept[word] = (uint32_t)(rnd() & rnd() & rnd());
	b->intercept[VMCB_MISC2] |= VMCB_MISC2_VMRUN | 1u << (VMEXIT_VMMCALL & 31);
	if (chance(90))
		b->intercept[VMCB_MISC1] |= 1u << (VMEXIT_SHUTDOWN & 31);
	b->iopm_base = IOPM;
	b->msrpm_base = MSRPM;
	b->asid = 1 + (uint32_t)below(3);
	b->tlb_control = chance(70) ? 0 : (uint8_t)below(8);
	b->np_enable = nested;
	b->n_cr3 = NEST_PML4;
	b->g_pat = 0x0007040600070406;
	if (chance(30))
		b->int_ctl = (uint32_t)(rnd() & (VMCB_V_TPR | VMCB_V_IRQ | VMCB_V_GIF | 15u << 16 | VMCB_V_IGN_TPR | VMCB_V_INTR_MASKING | VMCB_V_GIF_ENABLE));
	b->tsc_offset = rnd();
	b->int_vector = 32 + (uint32_t)below(224);
	b->int_state = chance(10);
	b->virt_ext = chance(20) ? VMCB_VIRT_LOAD_SAVE : 0;
	if (chance(15))
		b->eventinj = VMCB_EVENT_VALID | below(32) | below(5) << 8 | (chance(20) ? VMCB_EVENT_HAS_ERROR : 0);
}

/* Sometimes a bit anywhere, but where the tables are, and in what is measured by the clock. */
static void mutate(uint8_t *vmcb)
{
	static const struct { uint16_t at, bytes; } parts[] = { { 0, 0x18 }, { 0x58, 0x18 }, { 0xa8, 8 }, { 0x400, 0xa0 }, { 0x4c8, 0x10 }, { 0x548, 8 }, { 0x558, 0x28 }, { 0x5d8, 8 }, { 0x5f8, 0x40 } };

	for (unsigned n = chance(25) ? 1 + (unsigned)below(2) : 0; n--;) {
		const unsigned p = (unsigned)below(ARRAY_LEN(parts));

		vmcb[parts[p].at + below(parts[p].bytes)] ^= (uint8_t)(1u << below(8));
	}
}

void svm_case_make(struct svm_case *c, uint64_t seed)
{
	struct vmcb *b = (struct vmcb *)(void *)(c->image + VMCB);
	bool nested;

	rng = seed;
	nested = chance(60);
	memset(c, 0, sizeof(*c));
	tables(c, PML4);
	for (uint64_t p = 0; p < RAM; p += PAGE_SIZE)
		put(c, PT + 8 * (p >> PAGE_SHIFT), p | USABLE | PTE_D);
	l2_tables(c, nested);
	descriptors(c);
	svm_code_l1(c->image + L1_CODE, PAGE_SIZE, rnd());
	for (unsigned i = 0; i < L2_CODE_PAGES; i++) {
		uint8_t *page = c->image + L2_CODE + i * PAGE_SIZE;
		const unsigned n = svm_code_l2(page, 1000, L2_CODE + i * PAGE_SIZE, rnd());

		if (chance(30)) { /* its end, at the end of the page */
			memcpy(page + PAGE_SIZE - n, page, n);
			memset(page, 0x90, 8);
			memcpy(page, "\xe9", 1);
			*(uint32_t *)(void *)(page + 1) = (uint32_t)(PAGE_SIZE - n - 5);
		}
	}
	put(c, COUNT, 1 + below(4));
	for (unsigned i = 0, some = chance(50); some && i < 0x3000 / 8; i++)
		put(c, IOPM + 8 * i, rnd() & rnd());
	for (unsigned i = 0; i < 0x2000 / 8; i++)
		put(c, MSRPM + 8 * i, rnd() & rnd());
	l2_registers(b);
	controls(b, nested);
	mutate(c->image + VMCB);
	for (unsigned i = 0; i < 16; i++) {
		c->gpr[i] = DATA + below((DATA_PAGES - 2) * PAGE_SIZE);
		if (chance(30))
			c->gpr[i] = (c->gpr[i] | 0xfff) - below(120);
		else if (chance(5))
			c->gpr[i] = rnd() | 1ull << 30;
	}
	c->gpr[RSP] = STACK + 0x1000;
	c->interrupt = chance(30) ? 32 + (unsigned)below(224) : 0;
	c->nmi = chance(5);
}
