/* cpu_exception_test.c - delivery of exceptions and the error codes the manuals state; see cpu/deliver.c. */
#include "cpu_machine.h"

static int set_up(void **state)
{
	*state = machine_new(PAGING_NESTED);
	return 0;
}

static int tear_down(void **state)
{
	machine_free(*state);
	return 0;
}

static void a_division_by_zero_is_a_fault_without_error_code(void **state)
{
	struct machine *m = *state;

	m->v->gpr[RAX] = 7;
	FAULTS(m, "div %ecx", VEC_DE, -1);
}

static void faults_push_rf_and_traps_do_not(void **state)
{
	struct machine *m = *state;

	STEP(m, "ud2");
	assert_true(peek64(m, delivered(m, VEC_UD, -1) + 16) & FL_RF);
	m->v->gpr[RSP] = STACK;
	STEP(m, "int3");
	assert_false(peek64(m, delivered(m, VEC_BP, -1) + 16) & FL_RF);
	assert_int_equal(peek64(m, m->v->gpr[RSP]), CODE_AT + 1);
}

static void the_frame_is_aligned_and_in_order(void **state)
{
	struct machine *m = *state;

	m->v->gpr[RSP] = STACK - 3;
	m->v->rflags |= FL_IF | FL_TF | FL_NT;
	STEP(m, "ud2");
	assert_int_equal(m->v->gpr[RSP], STACK - 16 - 40);
	assert_int_equal(peek64(m, m->v->gpr[RSP] + 8), KERNEL_CS);
	assert_int_equal(peek64(m, m->v->gpr[RSP] + 16), FL_R1 | FL_IF | FL_TF | FL_NT | FL_RF);
	assert_int_equal(peek64(m, m->v->gpr[RSP] + 24), STACK - 3);
	assert_int_equal(peek64(m, m->v->gpr[RSP] + 32), KERNEL_SS);
	assert_int_equal(m->v->rflags, FL_R1);
}

static void a_trap_gate_leaves_interrupts_on(void **state)
{
	struct machine *m = *state;

	set_gate(m, VEC_UD, 0xf, 0, 0, true, KERNEL_CS);
	m->v->rflags |= FL_IF;
	STEP(m, "ud2");
	assert_true(m->v->rflags & FL_IF);
}

static void user_mode_faults_change_to_the_stack_of_the_tss(void **state)
{
	struct machine *m = *state;

	set_flat_segments(m->v, 3);
	m->v->gpr[RSP] = USER_STACK;
	STEP(m, "hlt");
	assert_int_equal(peek64(m, delivered(m, VEC_GP, 0)), CODE_AT);
	assert_int_equal(m->v->gpr[RSP], STACK - 48);
	assert_int_equal(m->v->seg[SEG_SS].selector, 0);
	assert_int_equal(peek64(m, m->v->gpr[RSP] + 32), USER_STACK);
	assert_int_equal(peek64(m, m->v->gpr[RSP] + 40), USER_SS);
}

static void an_ist_entry_changes_the_stack_without_a_change_of_privilege(void **state)
{
	struct machine *m = *state;

	set_gate(m, VEC_UD, 0xe, 0, 1, true, KERNEL_CS);
	STEP(m, "ud2");
	assert_int_equal(m->v->gpr[RSP], IST_STACK - 40);
	assert_int_equal(peek64(m, IST_STACK - 8), KERNEL_SS);
}

static void a_page_fault_reports_address_and_cause(void **state)
{
	struct machine *m = *state;

	m->v->gpr[RBX] = DATA + 0x123;
	set_page(m, DATA, 0);
	FAULTS(m, "mov (%rbx), %eax", VEC_PF, 0);
	assert_int_equal(m->v->cr2, DATA + 0x123);
	FAULTS(m, "mov %eax, (%rbx)", VEC_PF, PF_W);
	set_page(m, DATA, DATA | PTE_P);
	FAULTS(m, "addl $1, (%rbx)", VEC_PF, PF_P | PF_W);
	set_page(m, DATA, DATA | PTE_P | PTE_W | 1ull << 51);
	FAULTS(m, "mov (%rbx), %eax", VEC_PF, PF_P | PF_RSVD);
	set_page(m, DATA, DATA | PTE_P | PTE_W | PTE_NX);
	m->v->rip = DATA;
	step(m, 1);
	assert_int_equal(peek64(m, delivered(m, VEC_PF, PF_P | PF_I)), DATA);
}

static void a_crossing_access_faults_with_the_address_of_the_second_page(void **state)
{
	struct machine *m = *state;

	set_page(m, DATA + 0x1000, 0);
	poke64(m, DATA + 0xff8, 0x1111111111111111);
	m->v->gpr[RBX] = DATA + 0xffc;
	m->v->gpr[RAX] = ~0ull;
	FAULTS(m, "mov %rax, (%rbx)", VEC_PF, PF_W);
	assert_int_equal(m->v->cr2, DATA + 0x1000);
	assert_int_equal(peek64(m, DATA + 0xff8), 0x1111111111111111);
}

static void a_non_canonical_address_is_gp_or_ss_by_its_base(void **state)
{
	struct machine *m = *state;

	m->v->gpr[RBX] = m->v->gpr[RBP] = NONCANONICAL;
	FAULTS(m, "mov (%rbx), %eax", VEC_GP, 0);
	FAULTS(m, "mov (%rbp), %eax", VEC_SS, 0);
	FAULTS(m, "leave", VEC_SS, 0);
	m->v->gpr[RBX] = 0x7ffffffffffe;
	FAULTS(m, "mov (%rbx), %eax", VEC_GP, 0);
	m->v->gpr[RAX] = NONCANONICAL;
	FAULTS(m, "jmp *%rax", VEC_GP, 0);
	FAULTS(m, "call *%rax", VEC_GP, 0);
}

static void faults_of_the_idt_report_the_vector_times_eight_plus_two(void **state)
{
	struct machine *m = *state;

	set_gate(m, 0x80, 0xe, 3, 0, false, KERNEL_CS);
	FAULTS(m, "int $0x80", VEC_NP, 0x80 * 8 + 2);
	set_gate(m, 0x80, 0xc, 3, 0, true, KERNEL_CS);
	FAULTS(m, "int $0x80", VEC_GP, 0x80 * 8 + 2);
	set_gate(m, 0x80, 0xe, 3, 0, true, 0);
	FAULTS(m, "int $0x80", VEC_GP, 0);
	set_gate(m, 0x80, 0xe, 3, 0, true, GDT_SIZE);
	FAULTS(m, "int $0x80", VEC_GP, GDT_SIZE);
	set_gate(m, 0x80, 0xe, 3, 0, true, NOT_PRESENT_CS);
	FAULTS(m, "int $0x80", VEC_NP, NOT_PRESENT_CS);
	m->v->idtr.limit = 0x7ff;
	FAULTS(m, "int $0x80", VEC_GP, 0x80 * 8 + 2);
}

static void int_n_checks_the_gates_privilege_and_hardware_does_not(void **state)
{
	struct machine *m = *state;

	set_flat_segments(m->v, 3);
	m->v->gpr[RSP] = USER_STACK;
	FAULTS(m, "int $0x80", VEC_GP, 0x80 * 8 + 2);
	FAULTS(m, "int3", VEC_GP, VEC_BP * 8 + 2);
	STEP(m, ".byte 0xf1"); /* INT1 */
	delivered(m, VEC_DB, -1);
}

static void a_fault_while_an_exception_is_delivered_sets_ext(void **state)
{
	struct machine *m = *state;

	set_gate(m, VEC_UD, 0xe, 0, 0, false, KERNEL_CS);
	FAULTS(m, "ud2", VEC_NP, VEC_UD * 8 + 2 + 1);
}

static void contributory_faults_in_a_row_are_a_double_fault(void **state)
{
	struct machine *m = *state;

	set_gate(m, VEC_GP, 0xe, 0, 0, false, KERNEL_CS);
	m->v->gpr[RAX] = ~0ull;
	FAULTS(m, "mov %rax, %cr3", VEC_DF, 0);
}

static void a_page_fault_on_the_exception_stack_is_a_double_fault(void **state)
{
	struct machine *m = *state;

	set_gate(m, VEC_DF, 0xe, 0, 1, true, KERNEL_CS);
	set_page(m, DATA, 0);
	m->v->gpr[RSP] = DATA + 0x800;
	m->v->gpr[RBX] = DATA;
	STEP(m, "mov (%rbx), %eax");
	assert_int_equal(peek64(m, delivered(m, VEC_DF, 0)), CODE_AT);
	assert_int_equal(m->v->cr2, DATA + 0x7f8);
}

static void three_faults_in_a_row_stop_the_machine(void **state)
{
	struct machine *m = *state;

	m->v->idtr.limit = 0;
	CODE(m, "ud2");
	assert_int_equal(exec_step(m->v), EXEC_STOP);
	assert_int_equal(m->v->exit.kind, EXIT_TRIPLE_FAULT);
}

static void iretq_restores_what_was_interrupted(void **state)
{
	struct machine *m = *state;

	set_flat_segments(m->v, 3);
	m->v->gpr[RSP] = USER_STACK;
	m->v->rflags = FL_R1 | FL_IF | FL_CF | FL_AC;
	STEP(m, "hlt");
	m->v->gpr[RSP] = delivered(m, VEC_GP, 0);
	STEP(m, "iretq");
	assert_int_equal(m->v->rip, CODE_AT);
	assert_int_equal(m->v->cpl, 3);
	assert_int_equal(m->v->seg[SEG_CS].selector, USER_CS);
	assert_int_equal(m->v->gpr[RSP], USER_STACK);
	assert_int_equal(m->v->rflags, FL_R1 | FL_IF | FL_CF | FL_AC);
}

static void push_frame(struct machine *m, uint64_t rip, uint64_t cs, uint64_t flags, uint64_t rsp, uint64_t ss)
{
	uint64_t frame[] = { rip, cs, flags, rsp, ss };

	m->v->gpr[RSP] = STACK - sizeof(frame);
	poke(m, STACK - sizeof(frame), frame, sizeof(frame));
}

static void iretq_checks_every_part_of_its_frame(void **state)
{
	struct machine *m = *state;

	push_frame(m, CODE_AT, 0, FL_R1, STACK, KERNEL_SS);
	FAULTS(m, "iretq", VEC_GP, 0);
	push_frame(m, CODE_AT, KERNEL_SS, FL_R1, STACK, KERNEL_SS);
	FAULTS(m, "iretq", VEC_GP, KERNEL_SS);
	push_frame(m, CODE_AT, NOT_PRESENT_CS, FL_R1, STACK, KERNEL_SS);
	FAULTS(m, "iretq", VEC_NP, NOT_PRESENT_CS);
	push_frame(m, NONCANONICAL, USER_CS, FL_R1, STACK, USER_SS);
	FAULTS(m, "iretq", VEC_GP, 0);
	push_frame(m, CODE_AT, USER_CS, FL_R1, STACK, KERNEL_SS);
	FAULTS(m, "iretq", VEC_GP, KERNEL_SS);
	push_frame(m, CODE_AT, USER_CS, FL_R1, STACK, 3);
	FAULTS(m, "iretq", VEC_GP, 0);
	push_frame(m, CODE_AT, KERNEL_CS, FL_R1, STACK, 0);
	STEP(m, "iretq"); /* a null SS is good enough for the kernel */
	assert_int_equal(m->v->rip, CODE_AT);
	m->v->rflags |= FL_NT;
	push_frame(m, CODE_AT, KERNEL_CS, FL_R1, STACK, 0);
	set_flat_segments(m->v, 0);
	m->v->rflags = FL_R1 | FL_NT;
	FAULTS(m, "iretq", VEC_GP, 0);
}

static void iretq_from_user_mode_cannot_change_if_or_iopl(void **state)
{
	struct machine *m = *state;

	push_frame(m, CODE_AT + 64, USER_CS, FL_R1 | FL_IF | FL_IOPL | FL_ZF, USER_STACK, USER_SS);
	set_flat_segments(m->v, 3);
	STEP(m, "iretq");
	assert_int_equal(m->v->rip, CODE_AT + 64);
	assert_int_equal(m->v->rflags, FL_R1 | FL_ZF);
}

static void single_step_traps_after_the_instruction(void **state)
{
	struct machine *m = *state;

	m->v->rflags |= FL_TF;
	STEP(m, "nop");
	assert_int_equal(peek64(m, delivered(m, VEC_DB, -1)), CODE_AT + 1);
	assert_true(m->v->dr[6] & DR6_BS);
	assert_false(m->v->rflags & FL_TF);
}

static void mov_ss_holds_the_single_step_trap_for_one_instruction(void **state)
{
	struct machine *m = *state;

	m->v->rflags |= FL_TF;
	m->v->gpr[RAX] = KERNEL_SS;
	STEPS(m, 2, "mov %eax, %ss; nop");
	assert_int_equal(peek64(m, delivered(m, VEC_DB, -1)), CODE_AT + 3);
}

static void a_data_breakpoint_traps_after_the_access(void **state)
{
	struct machine *m = *state;

	m->v->gpr[RBX] = DATA;
	m->v->dr[0] = DATA + 4;
	m->v->dr[7] = DR7_RESERVED_ONE | 1 | 0xdull << 16; /* 4 bytes, writes */
	STEP(m, "mov (%rbx), %rax");
	assert_int_equal(m->v->rip, CODE_AT + 3);
	STEP(m, "mov %rax, (%rbx)");
	assert_int_equal(peek64(m, delivered(m, VEC_DB, -1)), CODE_AT + 3);
	assert_int_equal(m->v->dr[6] & 15, 1);
}

static void user_accesses_are_checked_for_alignment_on_demand(void **state)
{
	struct machine *m = *state;

	m->v->cr0 |= CR0_AM;
	set_flat_segments(m->v, 3);
	m->v->gpr[RSP] = USER_STACK;
	m->v->gpr[RBX] = DATA + 1;
	m->v->rflags = FL_R1 | FL_AC;
	FAULTS(m, "mov (%rbx), %eax", VEC_AC, 0);
	m->v->rflags = FL_R1 | FL_AC;
	m->v->gpr[RSP] = USER_STACK + 4;
	FAULTS(m, "push %rax", VEC_AC, 0);
	m->v->rflags = FL_R1 | FL_AC;
	STEP(m, "mov (%rbx), %al");
	assert_int_equal(m->v->rip, CODE_AT + 2);
}

static void simd_and_x87_exceptions_of_the_host_become_the_guests(void **state)
{
	struct machine *m = *state;

	poke64(m, DATA, 0x1f80 & ~0x200); /* MXCSR: divide-by-zero unmasked */
	m->v->gpr[RBX] = DATA;
	STEPS(m, 3, "ldmxcsr (%rbx); xorps %xmm0, %xmm0; rsqrtss %xmm0, %xmm2");
	assert_int_equal(m->v->rip, CODE_AT + 3 + 3 + 4); /* raises nothing */
	poke64(m, DATA + 8, 0x3f800000);
	STEPS(m, 2, "movss 8(%rbx), %xmm1; divss %xmm0, %xmm1");
	assert_int_equal(peek64(m, delivered(m, VEC_XM, -1)), CODE_AT + 5);
	m->v->gpr[RSP] = STACK;
	poke64(m, DATA, 0x37b); /* FCW: divide-by-zero unmasked */
	STEPS(m, 6, "fninit; fldcw (%rbx); fld1; fldz; fdivrp; fwait");
	assert_int_equal(peek64(m, delivered(m, VEC_MF, -1)), CODE_AT + 10);
}

static void a_bad_mxcsr_is_a_general_protection_fault(void **state)
{
	struct machine *m = *state;

	poke64(m, DATA, 0xffffffff);
	m->v->gpr[RBX] = DATA;
	FAULTS(m, "ldmxcsr (%rbx)", VEC_GP, 0);
}

static void fpu_instructions_obey_the_control_registers(void **state)
{
	struct machine *m = *state;

	m->v->cr0 |= CR0_TS;
	FAULTS(m, "fld1", VEC_NM, -1);
	FAULTS(m, "xorps %xmm0, %xmm0", VEC_NM, -1);
	m->v->cr0 = (m->v->cr0 & ~CR0_TS) | CR0_EM;
	FAULTS(m, "xorps %xmm0, %xmm0", VEC_UD, -1);
	m->v->cr0 &= ~CR0_EM;
	m->v->cr4 &= ~CR4_OSXSAVE;
	FAULTS(m, "vxorps %xmm0, %xmm0, %xmm0", VEC_UD, -1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_division_by_zero_is_a_fault_without_error_code),
		TEST(faults_push_rf_and_traps_do_not),
		TEST(the_frame_is_aligned_and_in_order),
		TEST(a_trap_gate_leaves_interrupts_on),
		TEST(user_mode_faults_change_to_the_stack_of_the_tss),
		TEST(an_ist_entry_changes_the_stack_without_a_change_of_privilege),
		TEST(a_page_fault_reports_address_and_cause),
		TEST(a_crossing_access_faults_with_the_address_of_the_second_page),
		TEST(a_non_canonical_address_is_gp_or_ss_by_its_base),
		TEST(faults_of_the_idt_report_the_vector_times_eight_plus_two),
		TEST(int_n_checks_the_gates_privilege_and_hardware_does_not),
		TEST(a_fault_while_an_exception_is_delivered_sets_ext),
		TEST(contributory_faults_in_a_row_are_a_double_fault),
		TEST(a_page_fault_on_the_exception_stack_is_a_double_fault),
		TEST(three_faults_in_a_row_stop_the_machine),
		TEST(iretq_restores_what_was_interrupted),
		TEST(iretq_checks_every_part_of_its_frame),
		TEST(iretq_from_user_mode_cannot_change_if_or_iopl),
		TEST(single_step_traps_after_the_instruction),
		TEST(mov_ss_holds_the_single_step_trap_for_one_instruction),
		TEST(a_data_breakpoint_traps_after_the_access),
		TEST(user_accesses_are_checked_for_alignment_on_demand),
		TEST(simd_and_x87_exceptions_of_the_host_become_the_guests),
		TEST(a_bad_mxcsr_is_a_general_protection_fault),
		TEST(fpu_instructions_obey_the_control_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
