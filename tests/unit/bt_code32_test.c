/*
 * bt_code32_test.c - 32-bit code by the translator: each program runs through the executor and through the translator, in
 * compatibility mode and in protected mode without paging, and must leave the same registers, flags and memory. What the program is to compute
 * is stated beside it. Segments that are not flat, the switch that turns translation off, and changes of mode.
 */
#include "bt_machine.h"

enum { CS32 = 0x40, DS32 = 0x10, CS64 = 0x08, CHECKED = 0x2000 /* bytes from DATA on that are compared */, FS_AT = DATA + 0x800, GS_AT = DATA + 0xc00 };

static int setup(void **state)
{
	struct bt_machine *b;

	bt_setup(state);
	b = *state;
	poke64(b->m, GDT + CS32, 0x00cf9b000000ffff);
	b->m->v->gdtr.limit = CS32 + 7;
	return 0;
}

static struct segment data_segment(uint64_t base, uint32_t limit) { return (struct segment){ .base = base, .limit = limit, .selector = DS32, .attr = 0xc93 }; }

/* The state that each run starts in. Upper halves of registers hold what 64-bit code left there. */
static void start(struct machine *m, bool paging)
{
	struct vcpu *v = m->v;
	uint8_t data[CHECKED];

	v->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_MP | (paging ? CR0_PG | CR0_WP : 0);
	v->efer = paging ? EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE : 0;
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	v->seg[SEG_CS] = (struct segment){ .limit = ~0u, .selector = CS32, .attr = 0xc9b };
	v->seg[SEG_SS] = v->seg[SEG_DS] = v->seg[SEG_ES] = data_segment(0, ~0u);
	v->seg[SEG_FS] = data_segment(FS_AT, ~0u);
	v->seg[SEG_GS] = data_segment(GS_AT, ~0u);
	for (unsigned r = 0; r < 16; r++)
		v->gpr[r] = 0xdead0000ull << 32 | (0x1111u * r);
	v->gpr[RSP] = STACK;
	v->rflags = FL_R1;
	v->cpl = 0;
	v->halted = 0;
	v->rip = CODE_AT;
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + (i >> 8));
	poke(m, DATA, data, sizeof(data));
}

static void execute(struct bt_machine *c)
{
	unsigned steps = 0;

	while (!c->m->v->halted) {
		assert_true(steps++ < 100000);
		if (exec_step(c->m->v) != EXEC_NEXT)
			break;
	}
	fpu_save(c->m->v);
}

/* The same code both ways, in both modes; the vcpu is as the translator left it in the last. */
static struct vcpu *both(struct bt_machine *c)
{
	struct vcpu *v = c->m->v;
	uint64_t gpr[16], rip, rflags, executed;
	uint8_t was[CHECKED], is[CHECKED];

	host_fault_take_signals();
	for (unsigned paging = 0; paging < 2; paging++) {
		start(c->m, paging);
		execute(c);
		memcpy(gpr, v->gpr, sizeof(gpr));
		rip = v->rip;
		rflags = v->rflags;
		memory_read(&c->m->memory, gpa(DATA), was, sizeof(was));
		start(c->m, paging);
		executed = v->counters.blocks_executed;
		engine_bt.run(v);
		assert_int_equal(v->exit.kind, EXIT_HLT_FOREVER);
		assert_true(v->counters.blocks_executed > executed);
		memory_read(&c->m->memory, gpa(DATA), is, sizeof(is));
		assert_memory_equal(gpr, v->gpr, sizeof(gpr));
		assert_int_equal(rip, v->rip);
		assert_int_equal(rflags, v->rflags);
		assert_memory_equal(was, is, sizeof(is));
	}
	return v;
}
#define BOTH(c, text) (({ CODE((c)->m, ".code32; " text "; hlt; .code64"); }), both(c))

static void test_short_forms_that_are_prefixes_in_64_bit_mode(void **state)
{
	struct vcpu *v = BOTH((struct bt_machine *)*state,
		"xor %ecx, %ecx; inc %eax; inc %ecx; dec %edx; inc %ebx; inc %ebp; inc %esi; dec %edi; inc %ax; dec %cx; adc $0, %ebx\n"
		".byte 0x82, 0xc1, 5\n" /* add $5, %cl */);

	assert_int_equal(v->gpr[RAX], 2);
	assert_int_equal(v->gpr[RCX], 5);
	assert_int_equal(v->gpr[RDX], 0x2221);
}

static void test_addresses_are_cut_to_32_bits(void **state)
{
	struct vcpu *v = BOTH((struct bt_machine *)*state,
		"mov $0x80200000, %ebx; mov $0x80200000, %esi; movl $0x12345678, 4(%ebx,%esi); mov 0x400004, %eax; lea -4(%ebx,%esi), %edx\n"
		"mov $-16, %edi; mov 0x400014(%edi), %ecx; mov %al, 0x400020; movb 0x400005, %al; mov 0x400004, %ah; addl $1, 8(%ebx,%esi)\n"
		"lea 1(%ebx,%esi), %bp; orw $0xff0, 0x400040");

	assert_int_equal(v->gpr[RCX], 0x12345678);
	assert_int_equal(v->gpr[RAX], 0x12347856);
	assert_int_equal(v->gpr[RDX], 0x3ffffc);
	assert_int_equal(v->gpr[RBP] & 0xffff, 1);
}

static void test_the_stack_is_four_bytes_wide(void **state)
{
	struct vcpu *v = BOTH((struct bt_machine *)*state,
		"push %eax; push $-2; push $0x12345678; pushl 0x400010; push %esp; pop %eax; pop %ebx; pop %ecx; pop %edx; popl 0x400100\n"
		"push %esp; pop %esp; push %ebp; mov %esp, %ebp; sub $32, %esp; movl $9, -8(%ebp); leave\n"
		"pushl $7; popl (%esp); push $0x400200; pop %esi; pushl (%esi); popl 4(%esi); pushf; pop %edi; push %eax; push %ecx; push %edx\n"
		"pop %edx; pop %ecx; pop %eax; pushw $3; popw %si; pusha; popa; push %ds; pop %ds");

	assert_int_equal(v->gpr[RCX], 0x12345678);
	assert_int_equal(v->gpr[RDX], 0xfffffffe);
	assert_int_equal(v->gpr[RSP], STACK);
}

static void test_calls_returns_and_indirect_jumps(void **state)
{
	struct vcpu *v = BOTH((struct bt_machine *)*state,
		"xor %eax, %eax; mov $300, %ecx; call 1f; 1: pop %ebx\n"
		"2: call 3f; lea 5f-1b(%ebx), %edx; call *%edx; mov %edx, 0x400300; call *0x400300; dec %ecx; jnz 2b; jmp 6f\n"
		"3: inc %eax; ret; 5: push %ebp; push %esi; add $10, %eax; pop %esi; pop %ebp; ret\n"
		"7: ret $8; 6: push $1; push $2; call 7b; lea 8f-1b(%ebx), %edx; push %edx; ret; ud2; 8: nop");

	assert_int_equal(v->gpr[RAX], 300 * 21);
	assert_int_equal(v->gpr[RSP], STACK);
}

static void test_loops_count_in_ecx(void **state)
{
	struct vcpu *v = BOTH((struct bt_machine *)*state,
		"xor %eax, %eax; mov $1000, %ecx; 1: add $3, %eax; loop 1b; jecxz 2f; ud2; 2: mov $1, %ecx; jecxz 3f; jmp 4f; 3: ud2\n"
		"4: mov $0x10000, %ecx; jcxz 5f; ud2; 5: mov $5, %ecx; 6: inc %ebx; cmp $0x3336, %ebx; loopne 6b");

	assert_int_equal(v->gpr[RAX], 3000);
	assert_int_equal(v->gpr[RCX], 2);
}

static void test_strings_use_32_bit_registers(void **state)
{
	struct vcpu *v = BOTH((struct bt_machine *)*state,
		"cld; mov $0x400000, %esi; mov $0x400e00, %edi; mov $300, %ecx; rep movsl; mov $0x5a, %eax; mov $0x401f00, %edi; mov $77, %ecx; rep stosb\n"
		"mov $0x400101, %esi; lodsl; xchg %eax, %ebx; lodsb; std; mov $0x400111, %esi; mov $0x400141, %edi; mov $9, %ecx; rep movsb; cld\n"
		"movsb; stosl; mov $0x400000, %edi; mov $100, %ecx; xor %eax, %eax; repne scasb; fs lodsb; mov $8, %esi; gs lodsl; rep movsb");

	assert_int_equal(v->gpr[RCX], 0);
}

static void test_spans_bit_strings_and_wide_values(void **state)
{
	struct vcpu *v = BOTH((struct bt_machine *)*state,
		"mov $0x400200, %ebx; mov (%ebx), %eax; add 4(%ebx), %eax; adc %eax, 8(%ebx); mov %ah, 13(%ebx); movzbl 14(%ebx), %edx; xchg %dh, 15(%ebx)\n"
		"mov $77, %ecx; bts %ecx, 0x400400; btl %ecx, 0x400400; mov $-9, %esi; btc %esi, (%ebx); lock xadd %eax, (%ebx); cmpxchg8b 16(%ebx)\n"
		"movdqu (%ebx), %xmm0; paddd %xmm0, %xmm0; movdqu %xmm0, 64(%ebx); fildl (%ebx); fistpl 80(%ebx); imul $3, 4(%ebx), %edi; bswap %edi\n"
		"shld $3, %eax, 32(%ebx); rcl $1, %edi; mov $3, %cl; ror %cl, %edi; daa; aaa; cltd; cwtl; mov $17, %ecx; idiv %ecx");

	assert_true(v->gpr[RDI] >> 32 == 0);
}

static void test_fs_and_gs_add_their_bases(void **state)
{
	struct vcpu *v = BOTH((struct bt_machine *)*state,
		"movl $1, %fs:4; movl $2, %gs:4; mov $-0x400, %eax; mov %fs:0x404(%eax), %ebx; mov %gs:4, %ecx; add %gs:0x404(%eax), %ecx\n"
		"mov %gs:-0x3fc, %edx; lea 5(%eax), %esi; mov %gs, %edi; mov %ss:0x400c04, %ebp; add %es:0x400c04, %ebp; mov %cs:0x400804, %eax");

	assert_int_equal(v->gpr[RBX], 1);
	assert_int_equal(v->gpr[RCX], 4);
	assert_int_equal(v->gpr[RDX], 1); /* the sum wraps: base and negative offset */
	assert_int_equal(v->gpr[RBP], 4);
	assert_int_equal(v->gpr[RAX], 1);
}

static void test_a_segment_that_is_not_flat_is_checked(void **state)
{
	struct bt_machine *c = *state;
	struct vcpu *v = c->m->v;

	/* Loads DS with a small segment (descriptor at USER_SS's place), reads through it, then beyond its end. */
	poke64(c->m, GDT + 0x18, 0x0040f340080000ffull); /* base 0x400800, limit 0xff, DPL 3 */
	CODE(c->m, ".code32; mov $0x1b, %eax; mov %eax, %ds; movl $5, 0xfc; mov 0xfc, %ebx; mov %es:0x4008fc, %ecx; mov 0xfd, %edx; hlt; .code64");
	host_fault_take_signals();
	start(c->m, true);
	engine_bt.run(v);
	assert_int_equal(v->rip, HANDLERS + 16 * VEC_GP + 1);
	assert_int_equal(v->gpr[RBX], 5);
	assert_int_equal(v->gpr[RCX], 5);
	assert_int_equal(peek64(c->m, v->gpr[RSP] + 8), CODE_AT + 30); /* the last load */
}

static void test_mode_changes_between_32_and_64_bit_code(void **state)
{
	struct bt_machine *c = *state;
	struct vcpu *v = c->m->v;

	CODE(c->m, ".code32; 9: xor %eax, %eax; mov $200, %ecx; 1: ljmp $0x8, $0x10000 + 2f - 9b\n"
		   ".code64; 2: inc %rax; lea 3f(%rip), %rdx; pushq $0x40; push %rdx; lretq; .code32; 3: inc %eax; dec %ecx; jnz 1b; hlt; .code64");
	host_fault_take_signals();
	start(c->m, true);
	engine_bt.run(v);
	assert_int_equal(v->exit.kind, EXIT_HLT_FOREVER);
	assert_int_equal(v->gpr[RAX], 400);
	assert_int_equal(v->seg[SEG_CS].selector, CS32);
}

static void test_most_instructions_are_translated_and_none_with_the_switch_off(void **state)
{
	struct bt_machine *c = *state;
	struct vcpu *v = c->m->v;
	uint64_t before, on, off;

	CODE(c->m, ".code32; mov $1000, %ecx; 1: push %ecx; add %ecx, 0x400000; pop %edx; inc %eax; dec %ecx; jnz 1b; hlt; .code64");
	host_fault_take_signals();
	before = v->counters.insns_executor;
	start(c->m, true);
	engine_bt.run(v);
	on = v->counters.insns_executor - before;
	c->tune.on[TUNE_CODE32] = false;
	before = v->counters.insns_executor;
	start(c->m, true);
	engine_bt.run(v);
	off = v->counters.insns_executor - before;
	assert_true(on < 10);
	assert_int_equal(off, 6002);
}

static void test_code_at_the_end_of_4_gib_and_faults(void **state)
{
	struct bt_machine *c = *state;
	struct vcpu *v = c->m->v;
	uint64_t frame;

	set_page(c->m, DATA + 0x5000, 0);
	CODE(c->m, ".code32; mov $0x405000, %ebx; push %ebp; xor %eax, %eax; inc %eax; mov 4(%ebx), %ecx; hlt; .code64");
	host_fault_take_signals();
	start(c->m, true);
	engine_bt.run(v);
	frame = v->gpr[RSP]; /* an interrupt in long mode pushes eight bytes each */
	assert_int_equal(v->rip, HANDLERS + 16 * VEC_PF + 1);
	assert_int_equal(v->cr2, 0x405004);
	assert_int_equal(peek64(c->m, frame + 8), CODE_AT + 9);
	assert_int_equal(peek64(c->m, frame + 32), STACK - 4);
	/* A jump to where nothing is mapped, at the end of the space. */
	CODE(c->m, ".code32; mov $0xfffffffe, %eax; jmp *%eax; .code64");
	start(c->m, true);
	engine_bt.run(v);
	assert_int_equal(v->rip, HANDLERS + 16 * VEC_PF + 1);
	assert_int_equal(v->cr2, 0xfffffffe);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, bt_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_short_forms_that_are_prefixes_in_64_bit_mode),
		TEST(test_addresses_are_cut_to_32_bits),
		TEST(test_the_stack_is_four_bytes_wide),
		TEST(test_calls_returns_and_indirect_jumps),
		TEST(test_loops_count_in_ecx),
		TEST(test_strings_use_32_bit_registers),
		TEST(test_spans_bit_strings_and_wide_values),
		TEST(test_fs_and_gs_add_their_bases),
		TEST(test_a_segment_that_is_not_flat_is_checked),
		TEST(test_mode_changes_between_32_and_64_bit_code),
		TEST(test_most_instructions_are_translated_and_none_with_the_switch_off),
		TEST(test_code_at_the_end_of_4_gib_and_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
