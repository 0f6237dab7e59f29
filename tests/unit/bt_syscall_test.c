/*
 * bt_syscall_test.c - SYSCALL and SYSRET in generated code (src/bt/lower_syscall.c, jump.c): the same result as by the executor whatever the state, no exit, the right
 * code in each address space, and no request lost while the table changes.
 */
#include "bt_machine.h"

#include <pthread.h>
#include <unistd.h>

#include "bt/bt_internal.h"

enum { KERNEL_AT = 0x11000, PML4_B = 0x40000, PDPT_B = 0x41000, PD_B = 0x42000, PT_B = 0x43000 };

static struct machine *m;
static struct tune *tune;

static int setup(void **state)
{
	struct bt_machine *b;

	bt_setup(state);
	b = *state;
	m = b->m;
	tune = &b->tune;
	seed = 1;
	m->v->star = (uint64_t)KERNEL_CS << 32 | (uint64_t)(USER_SS - 8) << 48;
	m->v->lstar = KERNEL_AT;
	return 0;
}

/* The kernel's side, at KERNEL_AT. */
#define KERNEL(text) CODE_TO(m, KERNEL_AT, text)

static void user(uint64_t rip)
{
	set_flat_segments(m->v, 3);
	m->v->rip = rip;
	m->v->gpr[RSP] = USER_STACK;
	m->v->halted = 0;
	host_fault_take_signals(); /* cmocka takes them for each test */
}

struct outcome { uint64_t gpr[16], rip, rflags, frame[8]; struct segment cs, ss; unsigned cpl; };

static struct outcome outcome(void)
{
	const struct vcpu *v = m->v;
	struct outcome o = { .rip = v->rip, .rflags = v->rflags, .cs = v->seg[SEG_CS], .ss = v->seg[SEG_SS], .cpl = v->cpl };

	memcpy(o.gpr, v->gpr, sizeof(o.gpr));
	for (unsigned i = 0; i < ARRAY_LEN(o.frame); i++)
		o.frame[i] = peek64(m, STACK - 64 + 8 * i);
	return o;
}

/* What a case begins with: chosen from `at` on, so that it can be had twice. */
static void begin(uint64_t at)
{
	struct vcpu *v = m->v;

	seed = at;
	user(CODE_AT);
	for (unsigned i = 0; i < 16; i++)
		if (i != RSP)
			v->gpr[i] = rnd();
	v->rflags = FL_R1 | (rnd() & (FL_ARITH | FL_IF | FL_DF | FL_NT | FL_ID | FL_IOPL | (rnd() % 8 ? 0 : FL_AC)));
	v->gpr[RBP] &= ~(uint64_t)(rnd() % 16 ? FL_TF : 0) & ~(uint64_t)(rnd() % 8 ? FL_AC : 0);
	v->gpr[R9] = rnd() % 16 ? 0 : 1ull << (40 + rnd() % 24);
	v->sfmask = rnd() % 4 ? 0x257fd5 : rnd();
	v->star = rnd() << 32 ^ rnd();
	v->efer = (v->efer & ~(uint64_t)EFER_SCE) | (rnd() % 16 ? EFER_SCE : 0);
	v->lstar = rnd() % 16 ? KERNEL_AT : 0x800000000000;
	for (unsigned i = 0; i < 8; i++)
		poke64(m, STACK - 64 + 8 * i, 0);
}

static void test_whatever_the_state_the_executor_agrees(void **state)
{
	unsigned bare = 0;

	(void)state;
	KERNEL("pushfq; pop %r12; mov %cs, %r13d; mov %ss, %r14d; mov %r11, %r15; mov %rbp, %r11; or %r9, %rcx; sysretq");
	CODE(m, "syscall; pushfq; pop %rbx; mov %cs, %esi; mov %ss, %edi; ud2");
	for (unsigned i = 0; i < 20000; i++) {
		const uint64_t at = seed;
		struct outcome a, b;

		begin(at);
		run_by(m, false);
		a = outcome();
		begin(at);
		bare += run_by(m, true);
		b = outcome();
		if (memcmp(&a, &b, sizeof(a)))
			fail_msg("case %u: rip %#lx and %#lx, flags %#lx and %#lx", i, a.rip, b.rip, a.rflags, b.rflags);
	}
	assert_in_range(bare, 10000, 20000); /* most went the short way */
}

static void test_a_system_call_does_not_leave_generated_code(void **state)
{
	(void)state;
	KERNEL("add $3, %rax; sysretq");
	for (unsigned on = 2; on-- > 0;) {
		const uint64_t calls = m->v->counters.syscalls, returns = m->v->counters.sysrets, executed = m->v->counters.insns_executor;
		const uint64_t left = m->v->counters.blocks_executed;

		tune->on[TUNE_INLINE_SYSCALL] = on;
		CODE(m, "xor %eax, %eax; mov $5000, %ebx; 1: syscall; dec %ebx; jnz 1b; ud2");
		user(CODE_AT);
		engine_bt.run(m->v);
		assert_int_equal(m->v->gpr[RAX], 15000);
		assert_int_equal(m->v->counters.syscalls - calls, 5000);
		assert_int_equal(m->v->counters.sysrets - returns, 5000);
		if (on) {
			assert_in_range(m->v->counters.insns_executor - executed, 1, 10);
			assert_in_range(m->v->counters.blocks_executed - left, 1, 50);
			m->v->gpr[RSP] = STACK;
			KERNEL("nop; add $3, %rax; sysretq"); /* else the translation would stay */
			m->v->lstar = KERNEL_AT;
		} else {
			assert_true(m->v->counters.insns_executor - executed >= 10000);
		}
	}
}

/* Two spaces with other user code at one address; the kernel changes to the other at each call. */
static void test_each_space_gets_its_own_code(void **state)
{
	const uint64_t tables[][2] = { { PML4, PML4_B }, { PDPT, PDPT_B }, { PD, PD_B }, { PT, PT_B } };
	uint8_t code[32];

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(tables); i++)
		for (unsigned k = 0; k < 512; k++)
			poke64(m, tables[i][1] + 8 * k, peek64(m, tables[i][0] + 8 * k));
	poke64(m, PML4_B, PDPT_B | PTE_P | PTE_W | PTE_U);
	poke64(m, PDPT_B, PD_B | PTE_P | PTE_W | PTE_U);
	poke64(m, PD_B + 16, PT_B | PTE_P | PTE_W | PTE_U);
	poke64(m, PT_B, (DATA + 0x5000) | PTE_P | PTE_W | PTE_U);
	KERNEL("xor %rdi, %rsi; mov %rsi, %cr3; sysretq");
	CODE(m, "1: add $1, %rbx; syscall; dec %r8d; jnz 1b; ud2");
	memory_read(&m->memory, gpa(CODE_AT), code, sizeof(code));
	poke(m, DATA, code, sizeof(code));
	CODE(m, "1: add $100, %rbx; syscall; dec %r8d; jnz 1b; ud2");
	memory_read(&m->memory, gpa(CODE_AT), code, sizeof(code));
	poke(m, DATA + 0x5000, code, sizeof(code));
	user(DATA);
	m->v->gpr[RBX] = 0;
	m->v->gpr[R8] = 2000;
	m->v->gpr[RSI] = PML4;
	m->v->gpr[RDI] = PML4 ^ PML4_B;
	engine_bt.run(m->v);
	assert_int_equal(m->v->gpr[RBX], 1000 * 101);
	assert_int_equal(m->v->counters.syscalls, 2000);
}

static void *kicker(void *us)
{
	usleep((useconds_t)(uintptr_t)us);
	vcpu_request(m->v, REQ_STOP);
	return NULL;
}

/* The loop goes on only through SYSCALL and SYSRET. */
static void test_a_request_between_user_and_kernel_is_seen(void **state)
{
	(void)state;
	KERNEL("mov %rdx, %rcx; sysretq");
	CODE(m, "syscall");
	m->v->gpr[RDX] = CODE_AT;
	user(CODE_AT);
	for (unsigned i = 0; i < 300; i++) {
		pthread_t thread;

		atomic_store(&m->v->pending, 0);
		assert_int_equal(pthread_create(&thread, NULL, kicker, (void *)(uintptr_t)(i % 97)), 0);
		engine_bt.run(m->v);
		pthread_join(thread, NULL);
		assert_int_equal(m->v->exit.kind, EXIT_STOP);
	}
	assert_true(m->v->counters.syscalls > 0);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, bt_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_whatever_the_state_the_executor_agrees),
		TEST(test_a_system_call_does_not_leave_generated_code),
		TEST(test_each_space_gets_its_own_code),
		TEST(test_a_request_between_user_and_kernel_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
