/*
 * cpu_exec_test.c - single instructions through the executor: operands wherever they may lie, strings, stacks, segments,
 * FPU images. (What instructions compute is the host CPU's own answer: see cpu/host_stub.h and fuzz/insn.c.)
 */
#include "cpu_machine.h"

#include "base/clock.h"

static int set_up(void **state)
{
	*state = machine_new(PAGING_SHADOW);
	return 0;
}

static int tear_down(void **state)
{
	machine_free(*state);
	return 0;
}

static uint64_t native_flags(uint64_t *a, uint64_t b)
{
	uint64_t flags;

	__asm__("addq %2, %0\n\tpushfq\n\tpopq %1" : "+r"(*a), "=r"(flags) : "r"(b) : "cc");
	return flags & FL_ARITH;
}

static void plain_instructions_give_the_hosts_result_and_flags(void **state)
{
	static const uint64_t values[] = { 0, 1, 0x7fffffffffffffff, 0x8000000000000000, ~0ull, 0x123456789abcdef0 };
	struct machine *m = *state;

	for (size_t i = 0; i < ARRAY_LEN(values); i++)
		for (size_t j = 0; j < ARRAY_LEN(values); j++) {
			uint64_t a = values[i], flags = native_flags(&a, values[j]);

			m->v->gpr[RSP] = values[i]; /* the stack pointer is a register like any other */
			m->v->gpr[R11] = values[j];
			m->v->rflags = FL_R1 | FL_IF | FL_DF;
			STEP(m, "add %r11, %rsp");
			assert_int_equal(m->v->gpr[RSP], a);
			assert_int_equal(m->v->rflags, FL_R1 | FL_IF | FL_DF | flags);
		}
	m->v->gpr[RSP] = STACK;
}

static void a_memory_operand_may_cross_pages_whose_frames_are_apart(void **state)
{
	struct machine *m = *state;

	for (unsigned at = 0xff8; at <= 0x1000; at++) {
		uint64_t before = 0x1122334455667788, value;

		poke(m, DATA + at, &before, 8);
		m->v->gpr[RBX] = DATA + at;
		m->v->gpr[RAX] = 0x0101010101010101;
		STEP(m, "lock xadd %rax, (%rbx)");
		assert_int_equal(m->v->gpr[RAX], before);
		assert_int_equal(memory_read(&m->memory, gpa(DATA + at), &value, 8), 0);
		assert_int_equal(value, before + 0x0101010101010101);
	}
}

static void byte_registers_of_the_high_kind_work_with_memory(void **state)
{
	struct machine *m = *state;

	for (unsigned r = RAX; r <= RBX; r++)
		m->v->gpr[r] = 0x1100 + 0x2200 * r;
	m->v->gpr[RDI] = DATA;
	STEPS(m, 4, "mov %ah, (%rdi); mov %ch, 1(%rdi); mov %dh, 2(%rdi); mov %bh, 3(%rdi)");
	assert_int_equal(peek64(m, DATA), 0x77553311);
}

static void bit_tests_reach_beyond_their_operand_in_both_directions(void **state)
{
	struct machine *m = *state;

	m->v->gpr[RBX] = DATA + 0x1000;
	m->v->gpr[RCX] = 64 * 3 + 5;
	STEP(m, "bts %rcx, (%rbx)");
	assert_int_equal(peek64(m, DATA + 0x1000 + 24), 1 << 5);
	assert_false(m->v->rflags & FL_CF);
	m->v->gpr[RCX] = (uint64_t)-1;
	STEP(m, "lock btsl %ecx, (%rbx)");
	assert_int_equal(peek64(m, DATA + 0xff8), 1ull << 63);
	STEP(m, "btl %ecx, (%rbx)");
	assert_true(m->v->rflags & FL_CF);
	assert_int_equal(m->v->gpr[RCX], ~0ull);
}

static void rep_movs_copies_across_pages_and_counts_down(void **state)
{
	struct machine *m = *state;
	uint8_t from[0x3000], to[0x3000];

	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i * 7 + (i >> 8));
	poke(m, DATA + 0x101, from, sizeof(from));
	m->v->gpr[RSI] = DATA + 0x101;
	m->v->gpr[RDI] = DATA + 0x8f03;
	m->v->gpr[RCX] = sizeof(from);
	CODE(m, "rep movsb");
	while (m->v->rip == CODE_AT)
		step(m, 1);
	assert_int_equal(m->v->gpr[RCX], 0);
	assert_int_equal(m->v->gpr[RSI], DATA + 0x101 + sizeof(from));
	assert_int_equal(m->v->gpr[RDI], DATA + 0x8f03 + sizeof(from));
	assert_int_equal(memory_read(&m->memory, gpa(DATA + 0x8f03), to, sizeof(to)), 0);
	assert_memory_equal(from, to, sizeof(to));
	assert_true(m->v->counters.string_bulk);
}

static void an_overlapping_rep_movs_repeats_its_pattern(void **state)
{
	struct machine *m = *state;

	poke64(m, DATA, 0x0807060504030201);
	m->v->gpr[RSI] = DATA;
	m->v->gpr[RDI] = DATA + 3;
	m->v->gpr[RCX] = 13;
	STEP(m, "rep movsb");
	assert_int_equal(peek64(m, DATA + 8), 0x0103020103020103);
}

static void rep_strings_stop_precisely_at_a_fault(void **state)
{
	struct machine *m = *state;

	set_page(m, DATA + 0x2000, 0);
	m->v->gpr[RDI] = DATA + 0x1ff0;
	m->v->gpr[RCX] = 10;
	m->v->gpr[RAX] = 0x5555555555555555;
	STEP(m, "rep stosq");
	assert_int_equal(peek64(m, delivered(m, VEC_PF, PF_W)), CODE_AT);
	assert_int_equal(m->v->cr2, DATA + 0x2000);
	assert_int_equal(m->v->gpr[RCX], 8);
	assert_int_equal(m->v->gpr[RDI], DATA + 0x2000);
	assert_int_equal(peek64(m, DATA + 0x1ff8), 0x5555555555555555);
}

static void strings_run_backwards_with_the_direction_flag(void **state)
{
	struct machine *m = *state;

	poke64(m, DATA + 0xffc, 0x8877665544332211);
	m->v->gpr[RSI] = DATA + 0x1002;
	m->v->gpr[RDI] = DATA + 0x3002;
	m->v->gpr[RCX] = 4;
	m->v->rflags |= FL_DF;
	STEP(m, "rep movsw");
	assert_int_equal(peek64(m, DATA + 0x2ffc), 0x8877665544332211);
	assert_int_equal(m->v->gpr[RSI], DATA + 0xffa);
}

static void repne_scas_and_repe_cmps_stop_where_they_should(void **state)
{
	struct machine *m = *state;

	poke(m, DATA, "abcdefgh", 9);
	m->v->gpr[RDI] = DATA;
	m->v->gpr[RCX] = ~0ull;
	m->v->gpr[RAX] = 0;
	STEP(m, "repne scasb");
	assert_int_equal(~m->v->gpr[RCX] - 1, 8);
	assert_true(m->v->rflags & FL_ZF);
	poke(m, DATA + 0x100, "abcdXfgh", 9);
	m->v->gpr[RSI] = DATA;
	m->v->gpr[RDI] = DATA + 0x100;
	m->v->gpr[RCX] = 9;
	STEP(m, "repe cmpsb");
	assert_int_equal(m->v->gpr[RCX], 4);
	assert_false(m->v->rflags & FL_ZF);
}

static void rep_with_a_count_of_zero_touches_nothing(void **state)
{
	struct machine *m = *state;

	m->v->gpr[RSI] = m->v->gpr[RDI] = NONCANONICAL;
	m->v->gpr[RCX] = 0;
	m->v->rflags = FL_R1 | FL_ZF;
	STEP(m, "repe cmpsq");
	assert_int_equal(m->v->rip, CODE_AT + 3);
	assert_int_equal(m->v->rflags, FL_R1 | FL_ZF);
}

static void pop_to_memory_uses_the_incremented_stack_pointer(void **state)
{
	struct machine *m = *state;

	poke64(m, STACK - 8, 42);
	m->v->gpr[RSP] = STACK - 8;
	STEP(m, "popq 8(%rsp)");
	assert_int_equal(peek64(m, STACK + 8), 42);
	assert_int_equal(m->v->gpr[RSP], STACK);
	poke64(m, STACK, 77);
	STEP(m, "pop %rsp");
	assert_int_equal(m->v->gpr[RSP], 77);
}

static void enter_and_leave_build_and_drop_a_frame(void **state)
{
	struct machine *m = *state;

	m->v->gpr[RBP] = STACK + 0x100;
	poke64(m, STACK + 0x100 - 8, 0xabc);
	STEP(m, "enter $32, $2");
	assert_int_equal(m->v->gpr[RBP], STACK - 8);
	assert_int_equal(peek64(m, STACK - 8), STACK + 0x100);
	assert_int_equal(peek64(m, STACK - 16), 0xabc);
	assert_int_equal(peek64(m, STACK - 24), STACK - 8);
	assert_int_equal(m->v->gpr[RSP], STACK - 24 - 32);
	STEP(m, "leave");
	assert_int_equal(m->v->gpr[RBP], STACK + 0x100);
	assert_int_equal(m->v->gpr[RSP], STACK);
}

static void syscall_and_sysret_change_privilege_as_star_says(void **state)
{
	struct machine *m = *state;

	m->v->star = (uint64_t)0x13 << 48 | (uint64_t)KERNEL_CS << 32;
	m->v->lstar = CODE_AT + 0x100;
	m->v->sfmask = FL_IF | FL_TF;
	set_flat_segments(m->v, 3);
	m->v->rflags = FL_R1 | FL_IF | FL_ZF;
	STEP(m, "syscall");
	assert_int_equal(m->v->rip, CODE_AT + 0x100);
	assert_int_equal(m->v->gpr[RCX], CODE_AT + 2);
	assert_int_equal(m->v->gpr[R11], FL_R1 | FL_IF | FL_ZF);
	assert_int_equal(m->v->rflags, FL_R1 | FL_ZF);
	assert_int_equal(m->v->cpl, 0);
	assert_int_equal(m->v->seg[SEG_CS].selector, KERNEL_CS);
	assert_int_equal(m->v->seg[SEG_SS].selector, KERNEL_SS);
	STEP(m, "sysretq");
	assert_int_equal(m->v->rip, CODE_AT + 2);
	assert_int_equal(m->v->cpl, 3);
	assert_int_equal(m->v->rflags, FL_R1 | FL_IF | FL_ZF);
	assert_int_equal(m->v->seg[SEG_CS].selector, 0x23);
	assert_int_equal(m->v->seg[SEG_SS].selector, 0x1b);
}

static void sysret_to_a_non_canonical_address_faults_in_user_mode(void **state)
{
	struct machine *m = *state;

	m->v->star = (uint64_t)0x13 << 48;
	m->v->gpr[RCX] = NONCANONICAL;
	m->v->gpr[R11] = FL_R1;
	STEPS(m, 2, "sysretq");
	assert_int_equal(peek64(m, delivered(m, VEC_GP, 0)), NONCANONICAL);
	assert_int_equal(peek64(m, m->v->gpr[RSP] + 16), USER_CS);
}

static void a_segment_load_checks_the_descriptor(void **state)
{
	struct machine *m = *state;

	m->v->gpr[RAX] = GDT_SIZE;
	FAULTS(m, "mov %eax, %ds", VEC_GP, GDT_SIZE);
	m->v->gpr[RAX] = NOT_PRESENT_CS;
	FAULTS(m, "mov %eax, %es", VEC_NP, NOT_PRESENT_CS);
	m->v->gpr[RAX] = USER_SS;
	FAULTS(m, "mov %eax, %ss", VEC_GP, USER_SS & ~3);
	m->v->gpr[RAX] = 4; /* no LDT */
	FAULTS(m, "mov %eax, %ds", VEC_GP, 4);
	m->v->ldtr.attr = 0;
	m->v->gpr[RAX] = KERNEL_SS;
	STEP(m, "mov %eax, %ds");
	assert_int_equal(m->v->seg[SEG_DS].selector, KERNEL_SS);
	m->v->seg[SEG_FS].base = 0x1234;
	m->v->gpr[RAX] = 0;
	STEP(m, "mov %eax, %fs");
	assert_int_equal(m->v->seg[SEG_FS].base, 0); /* CPUID says null selectors clear the base */
}

static void loads_set_accessed_and_busy_in_the_descriptor_table(void **state)
{
	struct machine *m = *state;

	poke64(m, GDT + KERNEL_SS, 0x00cf92000000ffff);
	m->v->gpr[RAX] = KERNEL_SS;
	STEP(m, "mov %eax, %ds");
	assert_int_equal(peek64(m, GDT + KERNEL_SS), 0x00cf93000000ffff);
	m->v->gpr[RAX] = TSS_SEL;
	STEP(m, "ltr %ax");
	assert_int_equal(peek64(m, GDT + TSS_SEL), 0x00008b0070000067);
	FAULTS(m, "ltr %ax", VEC_GP, TSS_SEL); /* busy */
}

static void ports_are_open_to_user_mode_by_the_bitmap_only(void **state)
{
	struct machine *m = *state;
	uint8_t map[8192 + 1];

	memset(map, 0xff, sizeof(map));
	map[0x80 / 8] = 0xfe; /* port 80h */
	poke(m, TSS + 104, map, sizeof(map));
	poke64(m, TSS + 96, (uint64_t)104 << 48);
	m->v->tr.limit = 104 + sizeof(map) - 1;
	set_flat_segments(m->v, 3);
	m->v->gpr[RSP] = USER_STACK;
	STEP(m, "in $0x80, %al");
	assert_int_equal(m->v->gpr[RAX], 0xff); /* nobody there */
	FAULTS(m, "in $0x80, %ax", VEC_GP, 0);
	FAULTS(m, "out %al, $0x81", VEC_GP, 0);
	m->v->tr.limit = 104 + 0x80 / 8; /* the byte after the bit must be there too */
	FAULTS(m, "in $0x80, %al", VEC_GP, 0);
	m->v->rflags |= FL_IOPL;
	STEP(m, "out %al, $0x81");
	assert_int_equal(m->v->rip, CODE_AT + 2);
}

static void popf_keeps_what_the_privilege_forbids(void **state)
{
	struct machine *m = *state;

	set_flat_segments(m->v, 3);
	m->v->gpr[RSP] = USER_STACK - 8;
	poke64(m, USER_STACK - 8, ~0ull & ~(uint64_t)FL_TF);
	STEP(m, "popfq");
	assert_int_equal(m->v->rflags, FL_R1 | FL_ARITH | FL_DF | FL_NT | FL_AC | FL_ID);
	FAULTS(m, "cli", VEC_GP, 0);
}

static void user_mode_instruction_prevention_hides_the_tables(void **state)
{
	struct machine *m = *state;

	m->v->gpr[RBX] = DATA;
	set_flat_segments(m->v, 3);
	m->v->gpr[RSP] = USER_STACK;
	STEP(m, "sidt (%rbx)");
	assert_int_equal(peek64(m, DATA) & 0xffff, 0xfff);
	m->v->cr4 |= CR4_UMIP;
	FAULTS(m, "sidt (%rbx)", VEC_GP, 0);
	FAULTS(m, "smsw %eax", VEC_GP, 0);
	FAULTS(m, "str %ax", VEC_GP, 0);
}

static void state_images_hold_no_address_of_ours(void **state)
{
	static const struct { const char *name; unsigned from, to; } where[] = { { "xsave", 6, 24 } };
	struct machine *m = *state;
	uint8_t image[1024];

	poke64(m, DATA + 0x2000, 0x4000000000000000);
	m->v->gpr[RBX] = DATA + 0x1000;
	m->v->gpr[RAX] = 7;
	m->v->gpr[RDX] = 0;
	for (unsigned i = 0; i < 3; i++) {
		memset(image, 0xcc, sizeof(image));
		memset(image + 512, 0, 64);
		poke(m, DATA + 0x1000, image, sizeof(image));
		if (i == 0)
			STEPS(m, 3, "fninit; fldl 0x1000(%rbx); fxsave64 (%rbx)");
		else if (i == 1)
			STEPS(m, 3, "fninit; fldl 0x1000(%rbx); xsave64 (%rbx)");
		else
			STEPS(m, 3, "fninit; fldl 0x1000(%rbx); xsavec64 (%rbx)");
		assert_int_equal(memory_read(&m->memory, gpa(DATA + 0x1000), image, sizeof(image)), 0);
		for (unsigned b = where[0].from; b < where[0].to; b++)
			assert_int_equal(image[b], 0);
		assert_int_equal(image[32 + 9], 0x40); /* ST0 is 2.0 */
	}
	STEPS(m, 3, "fninit; fldl 0x1000(%rbx); fnstenv (%rbx)");
	assert_int_equal(memory_read(&m->memory, gpa(DATA + 0x1000), image, 28), 0);
	for (unsigned b = 12; b < 28; b++)
		assert_int_equal(image[b], 0);
}

static void xsave_writes_only_what_was_asked_for(void **state)
{
	struct machine *m = *state;
	uint8_t before[1024], after[1024];

	memset(before, 0xcc, sizeof(before));
	memset(before + 512, 0, 64);
	poke(m, DATA + 0xe00, before, sizeof(before)); /* header and AVX part are in the next page */
	m->v->gpr[RBX] = DATA + 0xe00;
	m->v->gpr[RAX] = 2;
	m->v->gpr[RDX] = 0;
	STEPS(m, 2, "pcmpeqd %xmm3, %xmm3; xsave64 (%rbx)");
	assert_int_equal(memory_read(&m->memory, gpa(DATA + 0xe00), after, sizeof(after)), 0);
	assert_memory_equal(after, before, 24);			/* x87 */
	assert_memory_equal(after + 32, before + 32, 128);
	assert_memory_equal(after + 416, before + 416, 96);	/* unused */
	assert_memory_equal(after + 576, before + 576, 448);	/* AVX and beyond */
	assert_int_equal(after[160 + 16 * 3], 0xff);
	assert_int_equal(after[512], 2);
}

static void xrstor_checks_the_header_against_the_guests_xcr0(void **state)
{
	struct machine *m = *state;
	uint8_t image[1024] = { 0 };

	m->v->gpr[RBX] = DATA;
	m->v->gpr[RAX] = 7;
	m->v->gpr[RDX] = 0;
	store_u32(image + 24, 0x1f80);
	m->v->xcr0 = 3;
	image[512] = 4;
	poke(m, DATA, image, sizeof(image));
	FAULTS(m, "xrstor64 (%rbx)", VEC_GP, 0);
	image[512] = 3;
	image[520] = 1; /* XCOMP_BV without bit 63 */
	poke(m, DATA, image, sizeof(image));
	FAULTS(m, "xrstor64 (%rbx)", VEC_GP, 0);
	image[520] = 0;
	store_u32(image + 24, ~0u);
	poke(m, DATA, image, sizeof(image));
	FAULTS(m, "xrstor64 (%rbx)", VEC_GP, 0);
	store_u32(image + 24, 0x1f80);
	poke(m, DATA + 8, image, sizeof(image));
	m->v->gpr[RBX] = DATA + 8;
	FAULTS(m, "xrstor64 (%rbx)", VEC_GP, 0);
	m->v->gpr[RBX] = DATA;
	image[160] = 0x77;
	poke(m, DATA, image, sizeof(image));
	STEPS(m, 2, "xrstor64 (%rbx); movd %xmm0, %ecx");
	assert_int_equal(m->v->gpr[RCX], 0x77);
}

static void a_gather_tells_by_its_mask_how_far_it_came(void **state)
{
	struct machine *m = *state;
	uint32_t index[4] = { 0, 1, 0x400, 2 }, data[4] = { 10, 11, 12, 13 }, mask[4] = { ~0u, ~0u, ~0u, ~0u }, out[8];

	if (!(m->v->features & FEATURE(AVX2)))
		skip();
	poke(m, DATA + 0x4000, index, sizeof(index));
	poke(m, DATA + 0x4010, mask, sizeof(mask));
	poke(m, DATA, data, sizeof(data));
	set_page(m, DATA + 0x1000, 0);
	m->v->gpr[RBX] = DATA;
	m->v->gpr[RDX] = DATA + 0x4000;
	STEPS(m, 4, "vmovdqu (%rdx), %xmm1; vmovdqu 16(%rdx), %xmm2; vpxor %xmm3, %xmm3, %xmm3; vpgatherdd %xmm2, (%rbx,%xmm1,4), %xmm3");
	delivered(m, VEC_PF, 0);
	assert_int_equal(m->v->cr2, DATA + 0x1000);
	m->v->gpr[RSP] = STACK;
	STEPS(m, 2, "vmovdqu %xmm3, (%rdx); vmovdqu %xmm2, 16(%rdx)");
	assert_int_equal(memory_read(&m->memory, gpa(DATA + 0x4000), out, sizeof(out)), 0);
	assert_int_equal(out[0], 10);
	assert_int_equal(out[1], 11);
	assert_int_equal(out[4], 0);
	assert_int_equal(out[5], 0);
	assert_int_equal(out[6], ~0u);
	assert_int_equal(out[7], ~0u);
}

static void masked_moves_do_not_touch_what_the_mask_excludes(void **state)
{
	struct machine *m = *state;
	uint32_t mask[4] = { ~0u, 0, ~0u, 0 };

	if (!(m->v->features & FEATURE(AVX2)))
		skip();
	set_page(m, DATA + 0x1000, 0);
	poke(m, DATA, mask, sizeof(mask));
	m->v->gpr[RBX] = DATA;
	m->v->gpr[RDX] = DATA + 0x1000 - 12; /* the last element would be in the absent page */
	STEPS(m, 3, "vmovdqu (%rbx), %xmm1; vpcmpeqd %xmm0, %xmm0, %xmm0; vpmaskmovd %xmm0, %xmm1, (%rdx)");
	assert_int_equal(m->v->rip, CODE_AT + 4 + 4 + 5);
	assert_int_equal(peek64(m, DATA + 0x1000 - 8), 0xffffffff00000000);
}

static void compatibility_mode_obeys_segment_bases_and_limits(void **state)
{
	struct machine *m = *state;
	struct vcpu *v = m->v;

	set_flat_segments(v, 3);
	v->seg[SEG_CS].attr = (uint16_t)((v->seg[SEG_CS].attr & ~SEG_L) | SEG_DB);
	v->seg[SEG_DS] = (struct segment){ .base = DATA, .limit = 0xfff, .selector = USER_SS, .attr = SEG_P | SEG_S | 3 | SEG_DB | 3 << 5 };
	v->gpr[RSP] = USER_STACK;
	v->gpr[RBX] = 0x10;
	poke64(m, DATA + 0x10, 0x12345678);
	STEP(m, ".code32; mov (%ebx), %eax; .code64");
	assert_int_equal(v->gpr[RAX], 0x12345678);
	STEP(m, ".byte 0x40"); /* inc eax */
	assert_int_equal(v->gpr[RAX], 0x12345679);
	assert_int_equal(v->rip, CODE_AT + 1);
	STEP(m, ".code32; push %eax; .code64");
	assert_int_equal(v->gpr[RSP], USER_STACK - 4);
	v->gpr[RBX] = 0xffd;
	STEP(m, ".code32; mov (%ebx), %eax; .code64");
	assert_int_equal(peek64(m, delivered(m, VEC_GP, 0)), CODE_AT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(plain_instructions_give_the_hosts_result_and_flags),
		TEST(a_memory_operand_may_cross_pages_whose_frames_are_apart),
		TEST(byte_registers_of_the_high_kind_work_with_memory),
		TEST(bit_tests_reach_beyond_their_operand_in_both_directions),
		TEST(rep_movs_copies_across_pages_and_counts_down),
		TEST(an_overlapping_rep_movs_repeats_its_pattern),
		TEST(rep_strings_stop_precisely_at_a_fault),
		TEST(strings_run_backwards_with_the_direction_flag),
		TEST(repne_scas_and_repe_cmps_stop_where_they_should),
		TEST(rep_with_a_count_of_zero_touches_nothing),
		TEST(pop_to_memory_uses_the_incremented_stack_pointer),
		TEST(enter_and_leave_build_and_drop_a_frame),
		TEST(syscall_and_sysret_change_privilege_as_star_says),
		TEST(sysret_to_a_non_canonical_address_faults_in_user_mode),
		TEST(a_segment_load_checks_the_descriptor),
		TEST(loads_set_accessed_and_busy_in_the_descriptor_table),
		TEST(ports_are_open_to_user_mode_by_the_bitmap_only),
		TEST(popf_keeps_what_the_privilege_forbids),
		TEST(user_mode_instruction_prevention_hides_the_tables),
		TEST(state_images_hold_no_address_of_ours),
		TEST(xsave_writes_only_what_was_asked_for),
		TEST(xrstor_checks_the_header_against_the_guests_xcr0),
		TEST(a_gather_tells_by_its_mask_how_far_it_came),
		TEST(masked_moves_do_not_touch_what_the_mask_excludes),
		TEST(compatibility_mode_obeys_segment_bases_and_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
