/*
 * cpu_legacy_test.c - the executor outside long mode: real mode, protected mode with 16- and 32-bit segments, virtual-8086 mode, gates, stack
 * switches, task switches. No paging: linear addresses are physical.
 */
#include "cpu_machine.h"

enum {
	G_CODE = 0x08, G_DATA = 0x10, G_UCODE = 0x18, G_UDATA = 0x20, G_SMALL = 0x28 /* data, base 0x50000, limit 0xff */,
	G_DOWN = 0x30 /* expand-down, base 0x50000, limit 0xfff, 32-bit */, G_READONLY = 0x38, G_EXECONLY = 0x40, G_CODE16 = 0x48, G_DATA16 = 0x50,
	G_TSS = 0x58, G_TSS2 = 0x60, G_GATE = 0x68, G_GATE16 = 0x70, G_TASKGATE = 0x78, G_ABSENT = 0x80, G_CONFORMING = 0x88, G_TSS16 = 0x90,
	G_LDT = 0x98, G_END = 0xa0,
	TSS2 = 0x7100, TSS16 = 0x7200, SMALL = 0x50000, VM86_CODE = 0x40000,
};

static uint64_t descriptor(uint64_t base, uint64_t limit, unsigned attr)
{
	return (limit & 0xffff) | (base & 0xffffff) << 16 | (uint64_t)(attr & 0xff) << 40 | (limit >> 16 & 15) << 48 |
	       (uint64_t)(attr >> 8 & 15) << 52 | (base >> 24) << 56;
}

static void poke32(struct machine *m, uint64_t at, uint32_t value) { poke(m, at, &value, 4); }
static void poke16(struct machine *m, uint64_t at, uint16_t value) { poke(m, at, &value, 2); }
static uint32_t peek32(struct machine *m, uint64_t at) { return (uint32_t)peek64(m, at); }
static uint16_t peek16(struct machine *m, uint64_t at) { return (uint16_t)peek64(m, at); }

static void gate32(struct machine *m, unsigned vector, unsigned type, unsigned dpl)
{
	uint64_t at = HANDLERS + 16 * vector;

	poke64(m, IDT + 8 * vector, (at & 0xffff) | G_CODE << 16 | (uint64_t)(0x80 | dpl << 5 | type) << 40 | (at & 0xffff0000) << 32);
}

static struct segment flat(uint16_t selector, unsigned attr) { return (struct segment){ .limit = ~0u, .selector = selector, .attr = (uint16_t)attr }; }

static void ring(struct vcpu *v, unsigned cpl)
{
	uint16_t rpl = (uint16_t)cpl;

	v->seg[SEG_CS] = flat((uint16_t)(cpl ? G_UCODE | rpl : G_CODE), 0xc9b | cpl << 5);
	v->seg[SEG_SS] = v->seg[SEG_DS] = v->seg[SEG_ES] = flat((uint16_t)(cpl ? G_UDATA | rpl : G_DATA), 0xc93 | cpl << 5);
	v->cpl = (uint8_t)cpl;
	v->gpr[RSP] = cpl ? USER_STACK : STACK;
}

/* 32-bit protected mode, flat. */
static struct machine *protected_machine(void)
{
	struct machine *m = machine_new(PAGING_NESTED);
	struct vcpu *v = m->v;

	v->efer = EFER_SCE;
	v->cr0 = CR0_PE | CR0_ET | CR0_NE;
	v->cr4 = CR4_OSFXSR;
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	poke64(m, GDT + G_CODE, descriptor(0, 0xfffff, 0xc9b));
	poke64(m, GDT + G_DATA, descriptor(0, 0xfffff, 0xc93));
	poke64(m, GDT + G_UCODE, descriptor(0, 0xfffff, 0xcfb));
	poke64(m, GDT + G_UDATA, descriptor(0, 0xfffff, 0xcf3));
	poke64(m, GDT + G_SMALL, descriptor(SMALL, 0xff, 0x4f3));
	poke64(m, GDT + G_DOWN, descriptor(SMALL, 0xfff, 0x497));
	poke64(m, GDT + G_READONLY, descriptor(SMALL, 0xff, 0x4f1));
	poke64(m, GDT + G_EXECONLY, descriptor(0, 0xfffff, 0xc99));
	poke64(m, GDT + G_CODE16, descriptor(CODE_AT, 0xffff, 0x09b));
	poke64(m, GDT + G_DATA16, descriptor(CODE_AT, 0xffff, 0x093));
	poke64(m, GDT + G_TSS, descriptor(TSS, 0x67, 0x08b));
	poke64(m, GDT + G_TSS2, descriptor(TSS2, 0x67, 0x0e9));
	poke64(m, GDT + G_TSS16, descriptor(TSS16, 0x2b, 0x081));
	poke64(m, GDT + G_GATE, 0x3000 | G_CODE << 16 | (uint64_t)0xec02 << 32); /* two parameters, to 3000 */
	poke64(m, GDT + G_GATE16, 0x3000 | G_CODE << 16 | (uint64_t)0xe401 << 32);
	poke64(m, GDT + G_TASKGATE, (uint64_t)G_TSS2 << 16 | 0xe5ull << 40);
	poke64(m, GDT + G_ABSENT, descriptor(0, 0xfffff, 0xc13));
	poke64(m, GDT + G_CONFORMING, descriptor(0, 0xfffff, 0xc9f));
	poke64(m, GDT + G_LDT, descriptor(0x8000, 0xf, 0x082));
	poke32(m, TSS + 4, STACK);
	poke32(m, TSS + 8, G_DATA);
	poke16(m, TSS + 102, 0x68);
	for (unsigned i = 0; i < 256; i++)
		gate32(m, i, 14, i == 0x80 || i == 3 ? 3 : 0);
	v->gdtr = (struct table_reg){ GDT, G_END - 1 };
	v->idtr = (struct table_reg){ IDT, 0x7ff };
	v->tr = (struct segment){ .base = TSS, .limit = 0x67, .selector = G_TSS, .attr = 0x8b };
	v->ldtr = (struct segment){ 0 };
	ring(v, 0);
	return m;
}

static struct machine *real_machine(void)
{
	struct machine *m = machine_new(PAGING_NESTED);
	struct vcpu *v = m->v;

	v->efer = 0;
	v->cr0 = CR0_ET;
	v->cr4 = 0;
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	for (unsigned i = 0; i < SEG_COUNT; i++)
		v->seg[i] = (struct segment){ .limit = 0xffff, .attr = SEG_P | SEG_S | 3 };
	v->seg[SEG_CS].selector = CODE_AT >> 4;
	v->seg[SEG_CS].base = CODE_AT;
	v->seg[SEG_SS].selector = 0x3000;
	v->seg[SEG_SS].base = 0x30000;
	v->gpr[RSP] = 0x100;
	v->idtr = (struct table_reg){ 0, 0x3ff };
	for (unsigned i = 0; i < 256; i++)
		poke32(m, 4 * i, 0x20000000u | i << 4); /* 2000:00n0 */
	return m;
}

/* Code is put at CODE_AT; where CS has that base, IP is 0. */
#define CODE16(m, text) do { CODE(m, ".code16\n" text "\n.code64\n"); (m)->v->rip = 0; } while (0)
#define STEPS16(m, n, text) do { CODE16(m, text); step(m, n); } while (0)
#define CODE32(m, text) CODE(m, ".code32\n" text "\n.code64\n")
#define STEPS32(m, n, text) do { CODE32(m, text); step(m, n); } while (0)

/* An exception of protected mode reached its handler in ring 0. Returns where EIP is on the stack. */
static uint64_t handled(struct machine *m, unsigned vector, int64_t error)
{
	uint64_t at = m->v->gpr[RSP];

	assert_int_equal(m->v->rip, HANDLERS + 16 * vector);
	assert_int_equal(m->v->cpl, 0);
	if (error < 0)
		return at;
	assert_int_equal(peek32(m, at), error);
	return at + 4;
}
#define FAULTS32(m, text, vector, error)                                    \
	do {                                                                \
		uint64_t at_;                                               \
		STEPS32(m, 1, text);                                        \
		at_ = handled(m, vector, error);                            \
		assert_int_equal(peek32(m, at_), CODE_AT);                  \
		ring((m)->v, peek32(m, at_ + 4) & 3);                       \
		(m)->v->rflags = FL_R1;                                     \
	} while (0)

static void run_to(struct machine *m, uint64_t rip)
{
	for (unsigned i = 0; i < 100 && m->v->rip != rip; i++)
		step(m, 1);
	assert_int_equal(m->v->rip, rip);
}

/* -- real mode -------------------------------------------------------------------------------------------------------- */

static void real_mode_segments_are_paragraphs(void **state)
{
	struct machine *m = real_machine();
	struct vcpu *v = m->v;

	(void)state;
	STEPS16(m, 4, "movw $0x5000, %ax; movw %ax, %ds; movw $0x1234, %bx; movw %bx, 0x10");
	assert_int_equal(v->seg[SEG_DS].base, 0x50000);
	assert_int_equal(peek16(m, 0x50010), 0x1234);
	/* Beyond the limit: #GP, by its vector, with no error code; FLAGS, CS, IP on the stack. */
	v->rflags = FL_R1 | FL_IF;
	STEPS16(m, 1, "movl %eax, 0xfffe");
	assert_int_equal(v->seg[SEG_CS].base, 0x20000);
	assert_int_equal(v->rip, 13 << 4);
	assert_int_equal(v->gpr[RSP], 0x100 - 6);
	assert_int_equal(peek16(m, 0x30000 + 0xfa), 0);
	assert_int_equal(peek16(m, 0x30000 + 0xfc), CODE_AT >> 4);
	assert_int_equal(peek16(m, 0x30000 + 0xfe) & FL_IF, FL_IF);
	assert_false(v->rflags & FL_IF);
	machine_free(m);
}

static void sixteen_bit_code_runs_on_the_host_with_its_own_operand_sizes(void **state)
{
	struct machine *m = real_machine();
	struct vcpu *v = m->v;

	(void)state;
	v->gpr[RAX] = 0x11112222;
	v->gpr[RBX] = 0x1ffff;
	STEPS16(m, 7, "addw $0x1111, %ax; addl $0x10001, %eax; incw %bx; incl %ebx; cbtw; movzbl %al, %ecx; xchgw %ax, %dx");
	assert_int_equal(v->gpr[RAX] >> 16, 0x1112);
	assert_int_equal(v->gpr[RBX], 0x10001);
	assert_int_equal(v->gpr[RCX], 0x34);
	assert_int_equal(v->gpr[RDX] & 0xffff, 0x34);
	STEPS16(m, 4, "movw $0x600, %bx; movw $0x10, %si; movw $0xabcd, -2(%bx,%si); addl $1, 0x60e");
	assert_int_equal(peek32(m, 0x60e) & 0xffff, 0xabce);
	/* 16-bit addresses wrap. */
	STEPS16(m, 3, "movw $0xfff0, %bx; movw $0x30, %si; movb $0x77, (%bx,%si)");
	assert_int_equal(peek16(m, 0x20) & 0xff, 0x77);
	machine_free(m);
}

static void far_transfers_and_interrupts_of_real_mode_come_back(void **state)
{
	struct machine *m = real_machine();
	struct vcpu *v = m->v;
	static const uint8_t iret = 0xcf, retf = 0xcb;

	(void)state;
	poke(m, 0x20000 + 0x210, &iret, 1);
	poke(m, 0x21234, &retf, 1);
	v->rflags = FL_R1 | FL_IF | FL_CF;
	STEPS16(m, 1, "int $0x21; lcall $0x2000, $0x1234; ljmpl $0x3000, $0x10");
	assert_int_equal(v->rip, 0x210);
	step(m, 1);
	assert_int_equal(v->rip, 2);
	assert_int_equal(v->seg[SEG_CS].base, CODE_AT);
	assert_int_equal(v->rflags, FL_R1 | FL_IF | FL_CF);
	step(m, 1);
	assert_int_equal(v->rip, 0x1234);
	assert_int_equal(v->seg[SEG_CS].selector, 0x2000);
	step(m, 1);
	assert_int_equal(v->rip, 7);
	assert_int_equal(v->gpr[RSP], 0x100);
	step(m, 1);
	assert_int_equal(v->rip, 0x10);
	assert_int_equal(v->seg[SEG_CS].base, 0x30000);
	machine_free(m);
}

static void what_needs_descriptors_is_undefined_in_real_mode(void **state)
{
	struct machine *m = real_machine();

	(void)state;
	STEPS16(m, 1, "sldt %ax");
	assert_int_equal(m->v->rip, 6 << 4);
	machine_free(m);
	m = real_machine();
	STEPS16(m, 1, "verr %ax");
	assert_int_equal(m->v->rip, 6 << 4);
	machine_free(m);
}

static void switching_modes_keeps_the_segments_as_they_are_cached(void **state)
{
	struct machine *m = real_machine();
	struct vcpu *v = m->v;

	(void)state;
	poke64(m, GDT + 8, descriptor(0, 0xfffff, 0xc93));
	poke16(m, 0x500, 0xf);
	poke32(m, 0x502, GDT);
	/* Unreal mode: into protected mode for a 4 GiB limit, and back. */
	STEPS16(m, 9, "lgdtl 0x500; movl %cr0, %eax; orb $1, %al; movl %eax, %cr0; movw $8, %bx; movw %bx, %ds; andb $0xfe, %al; movl %eax, %cr0; xorw %bx, %bx");
	assert_true(vcpu_real(v));
	assert_int_equal(v->seg[SEG_DS].limit, ~0u);
	STEPS16(m, 3, "movw %bx, %ds; movl $0x1500000, %edi; movl $0x55aa, (%edi)");
	assert_int_equal(peek32(m, 0x1500000), 0x55aa);
	machine_free(m);
}

static void start_up_code_gets_from_real_mode_to_64_bit_mode(void **state)
{
	struct machine *m = real_machine();
	struct vcpu *v = m->v;

	(void)state;
	poke64(m, GDT + 8, descriptor(0, 0xfffff, 0xa9b));	/* 64-bit code */
	poke64(m, GDT + 16, descriptor(0, 0xfffff, 0xc9b));	/* 32-bit code */
	poke16(m, 0x500, 0x17);
	poke32(m, 0x502, GDT);
	vcpu_start(v, CODE_AT >> 12);
	assert_int_equal(v->seg[SEG_CS].selector, CODE_AT >> 4);
	/* The 32-bit part stands 0x40 bytes on. */
	CODE16(m, "771: lgdtl 0x500; movl $1, %eax; movl %eax, %cr0; .byte 0x66, 0xea; .long 0x10040; .word 16; .skip 64 - (. - 771b)\n"
		".code32\n movl $0x20, %eax; movl %eax, %cr4; movl $0x1000, %eax; movl %eax, %cr3; movl $0xc0000080, %ecx;"
		"xorl %edx, %edx; movl $0x100, %eax; wrmsr; movl $0x80000001, %eax; movl %eax, %cr0; ljmp $8, $0x10500");
	run_to(m, 0x10500);
	assert_true(vcpu_long64(v));
	assert_int_equal(v->seg[SEG_CS].selector, 8);
	machine_free(m);
}

/* -- protected mode --------------------------------------------------------------------------------------------------- */

static void limits_and_types_of_segments_hold(void **state)
{
	struct machine *m = protected_machine();
	struct vcpu *v = m->v;

	(void)state;
	STEPS32(m, 3, "movl $0x28, %eax; movl %eax, %ds; movl $7, 0xfc");
	assert_int_equal(peek32(m, SMALL + 0xfc), 7);
	FAULTS32(m, "movl $7, 0xfd", VEC_GP, 0);
	machine_free(m);
	m = protected_machine();
	v = m->v;
	STEPS32(m, 4, "movl $0x30, %eax; movl %eax, %es; movl $9, %es:0x1000; movl %es:0x1ffc, %ebx");
	assert_int_equal(peek32(m, SMALL + 0x1000), 9);
	STEPS32(m, 1, "movl %es:0xfff, %ebx");
	handled(m, VEC_GP, 0);
	ring(v, 0);
	STEPS32(m, 3, "movl $0x38, %eax; movl %eax, %es; movl %es:0, %ebx");
	STEPS32(m, 1, "movl %ebx, %es:0");
	handled(m, VEC_GP, 0);
	ring(v, 0);
	FAULTS32(m, "movl %eax, %cs:0x5000", VEC_GP, 0);
	STEPS32(m, 1, "movl %cs:0x5000, %eax");
	STEPS32(m, 2, "xorl %eax, %eax; movl %eax, %fs");
	FAULTS32(m, "movb %fs:0, %al", VEC_GP, 0);
	v->gpr[RAX] = G_EXECONLY;
	FAULTS32(m, "movl %eax, %ds", VEC_GP, G_EXECONLY);
	v->gpr[RAX] = G_ABSENT;
	FAULTS32(m, "movl %eax, %ds", VEC_NP, G_ABSENT);
	FAULTS32(m, "movl %eax, %ss", VEC_SS, G_ABSENT);
	v->gpr[RAX] = 0;
	FAULTS32(m, "movl %eax, %ss", VEC_GP, 0);
	v->gpr[RAX] = G_END;
	FAULTS32(m, "movl %eax, %gs", VEC_GP, G_END);
	/* A branch beyond the limit of the code segment; code that runs over it. */
	v->seg[SEG_CS].limit = CODE_AT + 4;
	STEPS32(m, 1, "jmp .+0x100");
	handled(m, VEC_GP, 0);
	ring(v, 0);
	v->seg[SEG_CS].limit = CODE_AT + 3;
	STEPS32(m, 1, "movl $1, %eax");
	handled(m, VEC_GP, 0);
	machine_free(m);
}

static void user_mode_reaches_the_kernel_through_gates_and_returns(void **state)
{
	struct machine *m = protected_machine();
	struct vcpu *v = m->v;
	uint64_t at;

	(void)state;
	ring(v, 3);
	v->rflags = FL_R1 | FL_IF;
	STEPS32(m, 1, "int $0x80");
	at = handled(m, 0x80, -1);
	assert_int_equal(at, STACK - 20);
	assert_int_equal(peek32(m, at), CODE_AT + 2);
	assert_int_equal(peek32(m, at + 4), G_UCODE | 3);
	assert_int_equal(peek32(m, at + 8), FL_R1 | FL_IF);
	assert_int_equal(peek32(m, at + 12), USER_STACK);
	assert_int_equal(peek32(m, at + 16), G_UDATA | 3);
	assert_int_equal(v->seg[SEG_SS].selector, G_DATA);
	assert_false(v->rflags & FL_IF);
	poke(m, HANDLERS + 16 * 0x80, "\xcf", 1);
	v->rip = HANDLERS + 16 * 0x80;
	step(m, 1);
	assert_int_equal(v->rip, CODE_AT + 2);
	assert_int_equal(v->cpl, 3);
	assert_int_equal(v->gpr[RSP], USER_STACK);
	assert_int_equal(v->rflags, FL_R1 | FL_IF);
	FAULTS32(m, "int $0x21", VEC_GP, 0x21 * 8 | 2);
	ring(v, 3);
	FAULTS32(m, "cli", VEC_GP, 0);
	ring(v, 3);
	FAULTS32(m, "inb $0x60, %al", VEC_GP, 0);
	machine_free(m);
}

static void call_gates_copy_parameters_to_the_inner_stack(void **state)
{
	struct machine *m = protected_machine();
	struct vcpu *v = m->v;

	(void)state;
	ring(v, 3);
	STEPS32(m, 3, "pushl $0x1111; pushl $0x2222; lcall $0x68 | 3, $0");
	assert_int_equal(v->rip, 0x3000);
	assert_int_equal(v->cpl, 0);
	assert_int_equal(v->gpr[RSP], STACK - 24);
	assert_int_equal(peek32(m, STACK - 4), G_UDATA | 3);
	assert_int_equal(peek32(m, STACK - 8), USER_STACK - 8);
	assert_int_equal(peek32(m, STACK - 12), 0x1111);
	assert_int_equal(peek32(m, STACK - 16), 0x2222);
	assert_int_equal(peek32(m, STACK - 20), G_UCODE | 3);
	poke(m, 0x3000, "\xca\x08\x00", 3); /* lret $8 */
	step(m, 1);
	assert_int_equal(v->cpl, 3);
	assert_int_equal(v->rip, CODE_AT + 17);
	assert_int_equal(v->gpr[RSP], USER_STACK);
	/* A 16-bit gate pushes words. */
	STEPS32(m, 2, "pushw $0x3333; lcall $0x70 | 3, $0");
	assert_int_equal(v->gpr[RSP], STACK - 10);
	assert_int_equal(peek16(m, STACK - 6), 0x3333);
	/* Conforming code keeps the privilege; a jump cannot gain any. */
	ring(v, 3);
	STEPS32(m, 1, "lcall $0x88, $0x3000");
	assert_int_equal(v->cpl, 3);
	assert_int_equal(v->seg[SEG_CS].selector, G_CONFORMING | 3);
	ring(v, 3);
	FAULTS32(m, "ljmp $0x68, $0", VEC_GP, G_CODE);
	ring(v, 3);
	FAULTS32(m, "ljmp $0x08, $0", VEC_GP, G_CODE);
	machine_free(m);
}

static void faults_say_which_selector_was_wrong(void **state)
{
	struct machine *m = protected_machine();
	struct vcpu *v = m->v;

	(void)state;
	/* The TSS names no good stack. */
	poke32(m, TSS + 8, G_UDATA);
	gate32(m, VEC_TS, 5, 0);
	poke64(m, IDT + 8 * VEC_TS, (uint64_t)G_TSS2 << 16 | 0x85ull << 40);
	for (unsigned i = 0; i < 6; i++)
		poke32(m, TSS2 + 72 + 4 * i, i == 1 ? G_CODE : G_DATA);
	poke32(m, TSS2 + 32, 0x4444);
	poke32(m, TSS2 + 36, FL_R1);
	poke32(m, TSS2 + 56, 0x3a000);
	ring(v, 3);
	STEPS32(m, 1, "int $0x80");
	assert_int_equal(v->rip, 0x4444); /* #TS, served by a task of its own */
	assert_int_equal(v->gpr[RSP], 0x3a000 - 4);
	assert_int_equal(peek32(m, 0x3a000 - 4), G_UDATA);
	assert_int_equal(v->tr.selector, G_TSS2);
	assert_true(v->rflags & FL_NT);
	assert_int_equal(peek16(m, TSS2), G_TSS);
	assert_int_equal(peek32(m, TSS + 32), CODE_AT);
	assert_int_equal(peek32(m, TSS + 76), G_UCODE | 3);
	machine_free(m);
}

/* -- tasks ------------------------------------------------------------------------------------------------------------ */

static void fill_tss(struct machine *m, uint64_t at, uint32_t eip, uint32_t eflags, uint16_t cs, uint16_t ds)
{
	for (unsigned i = 0; i < 6; i++)
		poke32(m, at + 72 + 4 * i, i == 1 ? cs : ds);
	poke32(m, at + 32, eip);
	poke32(m, at + 36, eflags);
	poke32(m, at + 40, 0xaaaa);
	poke32(m, at + 56, 0x3a000);
	poke32(m, at + 96, G_LDT);
}

static void tasks_are_called_and_return(void **state)
{
	struct machine *m = protected_machine();
	struct vcpu *v = m->v;

	(void)state;
	fill_tss(m, TSS2, 0x4444, FL_R1 | FL_ZF, G_CODE, G_DATA);
	ring(v, 3);
	v->gpr[RBX] = 0xbbbb;
	STEPS32(m, 1, "lcall $0x78, $0");
	assert_int_equal(v->rip, 0x4444);
	assert_int_equal(v->cpl, 0);
	assert_int_equal(v->gpr[RAX], 0xaaaa);
	assert_int_equal(v->tr.selector, G_TSS2);
	assert_int_equal(v->ldtr.selector, G_LDT);
	assert_true(v->cr0 & CR0_TS);
	assert_int_equal(v->rflags, FL_R1 | FL_ZF | FL_NT);
	assert_int_equal(peek64(m, GDT + G_TSS2) >> 40 & 15, 11);
	assert_int_equal(peek64(m, GDT + G_TSS) >> 40 & 15, 11);
	assert_int_equal(peek32(m, TSS + 52), 0xbbbb);
	/* It is busy now: calling it again is refused. */
	FAULTS32(m, "ljmp $0x60, $0", VEC_GP, G_TSS2);
	v->tr.selector = G_TSS2;
	v->rflags = FL_R1 | FL_NT;
	poke(m, 0x4444, "\xcf", 1);
	v->rip = 0x4444;
	step(m, 1);
	assert_int_equal(v->rip, CODE_AT + 7);
	assert_int_equal(v->cpl, 3);
	assert_int_equal(v->gpr[RBX], 0xbbbb);
	assert_int_equal(v->tr.selector, G_TSS);
	assert_int_equal(peek64(m, GDT + G_TSS2) >> 40 & 15, 9);
	assert_int_equal(peek32(m, TSS2 + 32), 0x4445);
	assert_false(peek32(m, TSS2 + 36) & FL_NT);
	machine_free(m);
}

static void a_16_bit_task_has_16_bit_registers(void **state)
{
	struct machine *m = protected_machine();
	struct vcpu *v = m->v;

	(void)state;
	poke16(m, TSS16 + 14, 0x222);
	poke16(m, TSS16 + 16, FL_R1);
	poke16(m, TSS16 + 18, 0x1616);
	poke16(m, TSS16 + 26, 0x500);
	for (unsigned i = 0; i < 4; i++)
		poke16(m, TSS16 + 34 + 2 * i, i == 1 ? G_CODE16 : G_DATA16);
	v->gpr[RAX] = 0x99998888;
	STEPS32(m, 1, "ljmp $0x90, $0");
	assert_int_equal(v->rip, 0x222);
	assert_int_equal(v->gpr[RAX] & 0xffff, 0x1616);
	assert_int_equal(v->seg[SEG_CS].base, CODE_AT);
	assert_int_equal(peek64(m, GDT + G_TSS) >> 40 & 15, 9);
	assert_false(v->rflags & FL_NT);
	assert_int_equal(v->seg[SEG_FS].attr, 0);
	machine_free(m);
}

static void faults_of_a_new_task_are_its_own(void **state)
{
	struct machine *m = protected_machine();
	struct vcpu *v = m->v;

	(void)state;
	fill_tss(m, TSS2, 0x4444, FL_R1, G_CODE, G_DATA);
	poke32(m, TSS2 + 72, G_EXECONLY); /* ES */
	STEPS32(m, 1, "ljmp $0x60, $0");
	assert_int_equal(peek32(m, handled(m, VEC_TS, G_EXECONLY)), 0x4444);
	assert_int_equal(v->tr.selector, G_TSS2);
	machine_free(m);
}

/* -- virtual-8086 mode ------------------------------------------------------------------------------------------------ */

static void enter_vm86(struct machine *m, uint32_t eflags)
{
	static const uint16_t selectors[] = { 0x3000, 0x1111, 0x2222, 0x3333, 0x4444 }; /* SS ES DS FS GS */
	uint64_t at = STACK - 0x100;

	poke32(m, at, 0x10);
	poke32(m, at + 4, VM86_CODE >> 4);
	poke32(m, at + 8, eflags | FL_VM | FL_R1);
	poke32(m, at + 12, 0x80);
	for (unsigned i = 0; i < 5; i++)
		poke32(m, at + 16 + 4 * i, selectors[i]);
	m->v->gpr[RSP] = at;
	STEPS32(m, 1, "iretl");
	assert_true(vcpu_vm86(m->v));
}

static void run_vm86(struct machine *m, const char *code, unsigned len)
{
	poke(m, VM86_CODE + 0x10, code, len);
	m->v->rip = 0x10;
	step(m, 1);
}

static void virtual_8086_mode_is_entered_and_left(void **state)
{
	struct machine *m = protected_machine();
	struct vcpu *v = m->v;
	uint64_t at;

	(void)state;
	enter_vm86(m, FL_IF);
	assert_int_equal(v->cpl, 3);
	assert_int_equal(v->seg[SEG_CS].base, VM86_CODE);
	assert_int_equal(v->seg[SEG_DS].base, 0x22220);
	assert_int_equal(v->seg[SEG_GS].selector, 0x4444);
	assert_int_equal(v->gpr[RSP], 0x80);
	run_vm86(m, "\xb8\x34\x12", 3); /* mov ax, 1234 */
	assert_int_equal(v->gpr[RAX] & 0xffff, 0x1234);
	run_vm86(m, "\x8e\xd8", 2); /* mov ds, ax */
	assert_int_equal(v->seg[SEG_DS].base, 0x12340);
	/* IOPL 0: what would touch IF goes to the monitor. */
	run_vm86(m, "\xfa", 1);
	at = handled(m, VEC_GP, 0);
	assert_int_equal(at, STACK - 36);
	assert_int_equal(peek32(m, at), 0x10);
	assert_int_equal(peek32(m, at + 4), VM86_CODE >> 4);
	assert_int_equal(peek32(m, at + 8), FL_VM | FL_IF | FL_RF | FL_R1);
	assert_int_equal(peek32(m, at + 12), 0x80);
	assert_int_equal(peek32(m, at + 16), 0x3000);
	assert_int_equal(peek32(m, at + 24), 0x1234);
	assert_int_equal(peek32(m, at + 32), 0x4444);
	assert_int_equal(v->seg[SEG_DS].attr, 0);
	assert_false(vcpu_vm86(v));
	machine_free(m);
}

static void what_iopl_decides_in_virtual_8086_mode(void **state)
{
	static const struct { const char *code; unsigned len; bool sensitive; } row[] = {
		{ "\xfa", 1, true }, { "\xfb", 1, true }, { "\x9c", 1, true }, { "\x9d", 1, true }, { "\xcd\x80", 2, true },
		{ "\xcf", 1, true }, { "\x90", 1, false }, { "\x0f\x00\xc0", 3, false /* sldt: #UD */ },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(row); i++)
		for (unsigned iopl = 0; iopl < 4; iopl += 3) {
			struct machine *m = protected_machine();

			enter_vm86(m, FL_IF | iopl << 12);
			poke16(m, 0x30000 + 0x80, 0x55);
			run_vm86(m, row[i].code, row[i].len);
			if (row[i].sensitive && !iopl)
				handled(m, VEC_GP, 0);
			else if (row[i].len == 3)
				handled(m, VEC_UD, -1);
			else if (row[i].len == 2)
				assert_int_equal(m->v->rip, HANDLERS + 16 * 0x80);
			else
				assert_true(vcpu_vm86(m->v));
			machine_free(m);
		}
}

/* -- the rest --------------------------------------------------------------------------------------------------------- */

static void decimal_adjustments_are_as_the_manual_says(void **state)
{
	struct machine *m = protected_machine();
	struct vcpu *v = m->v;
	static const struct { const char *code; unsigned ax, flags, result, out; } row[] = {
		{ "\x27", 0x79 + 0x35, 0, 0x14, FL_CF | FL_AF }, { "\x27", 0x9a, 0, 0, FL_CF | FL_AF }, { "\x2f", 0x2f, FL_AF, 0x29, FL_AF },
		{ "\x2f", 0x02, FL_AF, 0xfc, FL_CF | FL_AF }, { "\x37", 0x000f, 0, 0x0105, FL_CF | FL_AF }, { "\x37", 0x0005, 0, 5, 0 },
		{ "\x3f", 0x0204, FL_AF, 0x000e, FL_CF | FL_AF }, { "\xd4\x0a", 0x003f, 0, 0x0603, 0 }, { "\xd5\x0a", 0x0603, 0, 0x3f, 0 },
		{ "\xd6", 0x11, FL_CF, 0xff, FL_CF },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(row); i++) {
		poke(m, CODE_AT, row[i].code, 2);
		v->rip = CODE_AT;
		v->gpr[RAX] = row[i].ax;
		v->rflags = FL_R1 | row[i].flags;
		step(m, 1);
		assert_int_equal(v->gpr[RAX], row[i].result);
		assert_int_equal(v->rflags & (FL_CF | FL_AF), row[i].out);
	}
	FAULTS32(m, "aam $0", VEC_DE, -1);
	machine_free(m);
}

static void thirty_two_bit_forms_without_a_64_bit_twin_run(void **state)
{
	struct machine *m = protected_machine();
	struct vcpu *v = m->v;

	(void)state;
	v->gpr[RAX] = 0x7fffffff;
	STEPS32(m, 3, "incl %eax; decw %ax; .byte 0x82, 0xc3, 0x05"); /* add bl, 5 */
	assert_int_equal(v->gpr[RAX], 0x8000ffff);
	assert_int_equal(v->gpr[RBX], 5);
	STEPS32(m, 2, "pushal; popal");
	poke32(m, 0x60c, G_SMALL);
	poke32(m, 0x608, 0x87654321);
	STEPS32(m, 3, "movl $0x12345678, 0x600; movl 0x600, %ecx; lesl 0x608, %edi");
	assert_int_equal(v->gpr[RCX], 0x12345678);
	assert_int_equal(v->gpr[RDI], 0x87654321);
	assert_int_equal(v->seg[SEG_ES].base, SMALL);
	machine_free(m);
}

static void sysenter_and_syscall_work_outside_long_mode(void **state)
{
	struct machine *m = protected_machine();
	struct vcpu *v = m->v;

	(void)state;
	v->sysenter_cs = G_CODE;
	v->sysenter_eip = 0x5550;
	v->sysenter_esp = 0x39000;
	v->star = (uint64_t)G_CODE << 32 | (uint64_t)(G_UCODE - 0) << 48 | 0x6660;
	ring(v, 3);
	v->rflags |= FL_IF;
	STEPS32(m, 1, "sysenter");
	assert_int_equal(v->rip, 0x5550);
	assert_int_equal(v->gpr[RSP], 0x39000);
	assert_int_equal(v->cpl, 0);
	assert_false(v->rflags & FL_IF);
	STEPS32(m, 3, "movl $0x10700, %edx; movl $0x3b000, %ecx; sysexit");
	assert_int_equal(v->rip, 0x10700);
	assert_int_equal(v->cpl, 3);
	assert_int_equal(v->gpr[RSP], 0x3b000);
	STEPS32(m, 1, "syscall");
	assert_int_equal(v->rip, 0x6660);
	assert_int_equal(v->gpr[RCX], CODE_AT + 2);
	STEPS32(m, 1, "sysretl");
	assert_int_equal(v->rip, CODE_AT + 2);
	assert_int_equal(v->cpl, 3);
	machine_free(m);
}

static void state_images_outside_64_bit_mode_hold_eight_registers(void **state)
{
	struct machine *m = protected_machine();

	(void)state;
	for (unsigned i = 0; i < 512; i += 8)
		poke64(m, 0x60000 + i, 0x5555555555555555);
	STEPS32(m, 2, "xorps %xmm1, %xmm1; fxsave 0x60000");
	assert_int_equal(peek64(m, 0x60000 + 160 + 16), 0);
	assert_int_equal(peek64(m, 0x60000 + 160 + 8 * 16), 0x5555555555555555); /* xmm8's place */
	machine_free(m);
}

/* What random instructions, compared with Bochs' (tools/against-bochs) and with silicon's, had brought up. */
static void what_a_comparison_with_bochs_brought_up_stays_right(void **state)
{
	struct machine *m = protected_machine();
	struct vcpu *v = m->v;

	(void)state;
	/* XLAT reads through any segment that a prefix names */
	poke32(m, SMALL + 0x20, 0x4433);
	poke32(m, 0x20, 0x6655);
	v->seg[SEG_ES] = (struct segment){ .base = SMALL, .limit = 0xff, .selector = G_SMALL, .attr = 0x4f3 };
	STEPS32(m, 3, "movl $0x20, %ebx; xorl %eax, %eax; .byte 0x26; xlat");
	assert_int_equal(v->gpr[RAX], 0x33);
	/* MOVNTI stores 32 bits in 16-bit code too */
	v->seg[SEG_CS] = (struct segment){ .base = CODE_AT, .limit = 0xffff, .selector = G_CODE16, .attr = 0x09b };
	v->gpr[RAX] = 0x12345678;
	v->gpr[RBX] = 0x600;
	STEPS16(m, 1, "movnti %eax, (%bx)");
	assert_int_equal(peek32(m, 0x600), 0x12345678);
	/* ENTER with 32-bit operands on a 16-bit stack: EBP gets all of ESP */
	v->seg[SEG_SS] = (struct segment){ .base = 0, .limit = 0xffff, .selector = G_DATA16, .attr = 0x093 };
	v->gpr[RSP] = 0x87654320;
	STEPS16(m, 1, ".byte 0x66, 0xc8, 0x10, 0x00, 0x00");
	assert_int_equal(v->gpr[RBP], 0x8765431c);
	assert_int_equal(v->gpr[RSP], 0x8765430c);
	machine_free(m);

	/* a return to an outer ring clears the RPL of null selectors */
	m = protected_machine();
	v = m->v;
	v->seg[SEG_GS] = (struct segment){ .selector = 3 };
	STEPS32(m, 6, "pushl $0x23; pushl $0x3c000; pushl $2; pushl $0x1b; pushl $0x10800; iretl");
	assert_int_equal(v->cpl, 3);
	assert_int_equal(v->seg[SEG_GS].selector, 0);
	/* ARPL of an operand that cannot be written faults, even if it would not change it */
	v->seg[SEG_FS] = (struct segment){ .base = SMALL, .limit = 0xff, .selector = G_READONLY | 3, .attr = 0x4f1 };
	v->gpr[RAX] = 0;
	FAULTS32(m, "arpl %ax, %fs:0x20", VEC_GP, 0);
	machine_free(m);
}

#define TEST(f) cmocka_unit_test(f)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(real_mode_segments_are_paragraphs), TEST(sixteen_bit_code_runs_on_the_host_with_its_own_operand_sizes),
		TEST(far_transfers_and_interrupts_of_real_mode_come_back), TEST(what_needs_descriptors_is_undefined_in_real_mode),
		TEST(switching_modes_keeps_the_segments_as_they_are_cached), TEST(start_up_code_gets_from_real_mode_to_64_bit_mode),
		TEST(limits_and_types_of_segments_hold), TEST(user_mode_reaches_the_kernel_through_gates_and_returns),
		TEST(call_gates_copy_parameters_to_the_inner_stack), TEST(faults_say_which_selector_was_wrong),
		TEST(tasks_are_called_and_return), TEST(a_16_bit_task_has_16_bit_registers), TEST(faults_of_a_new_task_are_its_own),
		TEST(virtual_8086_mode_is_entered_and_left), TEST(what_iopl_decides_in_virtual_8086_mode),
		TEST(decimal_adjustments_are_as_the_manual_says), TEST(thirty_two_bit_forms_without_a_64_bit_twin_run),
		TEST(sysenter_and_syscall_work_outside_long_mode), TEST(state_images_outside_64_bit_mode_hold_eight_registers),
		TEST(what_a_comparison_with_bochs_brought_up_stays_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
