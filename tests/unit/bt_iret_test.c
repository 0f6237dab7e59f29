/*
 * bt_iret_test.c - IRETQ in generated code (src/bt/lower_iret.c): the same result as by the executor whatever frame, descriptors and state it meets, no exit in the usual
 * case, the right code in each address space, and no request lost.
 */
#include "bt_machine.h"

#include <pthread.h>
#include <unistd.h>

#include "bt/bt_internal.h"

enum { FRAME_AT = 0x32000, USER_AT = DATA + 0x1000, USER_TOP = DATA + 0x3000, BACK_AT = 0x13000, NULL_SS = 0, CONFORMING_CS = 0x30 };

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
	return 0;
}

static void kernel(uint64_t rip)
{
	set_flat_segments(m->v, 0);
	m->v->rip = rip;
	m->v->halted = 0;
	host_fault_take_signals(); /* cmocka takes them for each test */
}

struct outcome { uint64_t gpr[16], rip, rflags, frame[8], irets; struct segment seg[SEG_COUNT]; unsigned cpl, nmi_masked; };

static struct outcome outcome(void)
{
	const struct vcpu *v = m->v;
	struct outcome o = { .rip = v->rip, .rflags = v->rflags, .cpl = v->cpl, .nmi_masked = v->nmi_masked };

	memcpy(o.gpr, v->gpr, sizeof(o.gpr));
	memcpy(o.seg, v->seg, sizeof(o.seg));
	for (unsigned i = 0; i < ARRAY_LEN(o.frame); i++)
		o.frame[i] = peek64(m, STACK - 64 + 8 * i);
	return o;
}

static const uint64_t code_descriptors[] = { 0x00af9b000000ffff, 0x00affb000000ffff, 0x00af99000000ffff, 0x00af9a000000ffff, 0x00affa000000ffff, 0x00cffb000000ffff,
	0x00afdb000000ffff, 0x00af1b000000ffff, 0x00af9f000000ffff, 0x00efdb000000ffff, 0x00bf9b000000ffff, 0x00aff3000000ffff, 0x00affb000001ffff };
static const uint64_t data_descriptors[] = { 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00cf92000000ffff, 0x00cff2000000ffff, 0x00cf91000000ffff, 0x00cf13000000ffff,
	0x00cfd3000000ffff, 0x004f93000000ffff, 0x00cff30000010fff, 0x00dff3000000ffff };

static uint64_t one_of(const uint64_t *from, unsigned n, unsigned usual) { return one_in(10) ? from[rnd() % n] : from[usual]; }

/* What a case begins with: chosen from `at` on, so that it can be had twice. */
static void begin(uint64_t at)
{
	static const uint16_t odd[] = { 0, 1, 3, KERNEL_CS, KERNEL_CS | 1, KERNEL_CS | 2, KERNEL_SS, USER_SS, USER_SS & ~3, USER_CS, USER_CS & ~3, USER_CS | 4, NOT_PRESENT_CS, CONFORMING_CS,
		CONFORMING_CS | 3, 0x78, 0x7b, 0x80, 0xfff8 };
	struct vcpu *v = m->v;
	const bool user = (seed = at, rnd() & 1);
	uint64_t frame[5], cs, ss, kernel_code;

	kernel(CODE_AT);
	for (unsigned i = 0; i < 16; i++)
		v->gpr[i] = rnd();
	v->rflags = FL_R1 | (rnd() & (FL_ARITH | FL_IF | FL_DF | FL_ID | FL_IOPL | (one_in(32) ? FL_NT : 0) | (one_in(32) ? FL_AC : 0)));
	poke64(m, GDT, one_of(code_descriptors, ARRAY_LEN(code_descriptors), user));
	kernel_code = one_of(code_descriptors, ARRAY_LEN(code_descriptors), 0);
	poke64(m, GDT + KERNEL_CS, kernel_code & (3ull << 45 | 1ull << 42) ? code_descriptors[0] : kernel_code); /* handlers of CPL 3 would fault for ever */
	poke64(m, GDT + KERNEL_SS, one_of(data_descriptors, ARRAY_LEN(data_descriptors), 0));
	poke64(m, GDT + (USER_CS & ~7), one_of(code_descriptors, ARRAY_LEN(code_descriptors), 1));
	poke64(m, GDT + (USER_SS & ~7), one_of(data_descriptors, ARRAY_LEN(data_descriptors), 1));
	poke64(m, GDT + CONFORMING_CS, 0x00af9f000000ffff);
	v->gdtr.limit = one_in(10) ? (uint16_t)(rnd() % 64) : GDT_SIZE - 1;
	cs = one_in(16) ? odd[rnd() % ARRAY_LEN(odd)] : user ? USER_CS : KERNEL_CS;
	ss = one_in(16) ? odd[rnd() % ARRAY_LEN(odd)] : user ? USER_SS : one_in(2) ? KERNEL_SS : NULL_SS;
	frame[0] = one_in(16) ? 1ull << (40 + rnd() % 24) | rnd() : USER_AT;
	frame[1] = cs | (one_in(8) ? rnd() << 16 : 0); /* the upper bits mean nothing */
	frame[2] = rnd() & (one_in(8) ? ~0ull : ~(uint64_t)(FL_TF | FL_AC));
	frame[3] = one_in(16) ? rnd() : USER_TOP;
	frame[4] = ss | (one_in(8) ? rnd() << 16 : 0);
	v->gpr[RSP] = one_in(16) ? (FRAME_AT & PAGE_MASK) - 8 * (rnd() % 6) : FRAME_AT;
	for (unsigned i = 0; i < ARRAY_LEN(frame); i++)
		poke64(m, v->gpr[RSP] + 8 * i, frame[i]);
	v->seg[SEG_ES] = v->seg[SEG_DS] = v->seg[SEG_FS] = v->seg[SEG_GS] = (struct segment){ .base = rnd() };
	if (one_in(8))
		v->seg[SEG_DS] = (struct segment){ 0, ~0u, one_in(2) ? KERNEL_SS : USER_SS, (uint16_t)(SEG_P | SEG_S | 3 | SEG_DB | SEG_GRAN | (one_in(2) ? 3 << 5 : 0)) };
	if (one_in(16))
		v->seg[SEG_FS].selector = 3;
	v->nmi_masked = one_in(8);
	for (unsigned i = 0; i < 8; i++)
		poke64(m, STACK - 64 + 8 * i, 0);
}

static void test_whatever_the_frame_the_executor_agrees(void **state)
{
	unsigned bare = 0;

	(void)state;
	for (unsigned smap = 0; smap < 2; smap++) {
		if (smap) {
			m->v->cr4 |= CR4_SMAP;
			poke64(m, PD, peek64(m, PD) & ~(uint64_t)PTE_U); /* the kernel's, and the tables */
			mmu_set_controls(&m->v->mmu, m->v->cr0, m->v->cr4, m->v->efer);
			mmu_flush_all(&m->v->mmu);
		}
		CODE_TO(m, USER_AT, "mov %cs, %r13d; mov %ss, %r14d; mov %ds, %r15d; pushfq; ud2");
		CODE(m, "iretq");
		for (unsigned i = 0; i < 15000; i++) {
			const uint64_t at = seed;
			struct outcome a, b;

			begin(at);
			run_by(m, false);
			a = outcome();
			begin(at);
			bare += run_by(m, true);
			b = outcome();
			if (memcmp(&a, &b, sizeof(a)))
				fail_msg("case %u: rip %#lx and %#lx, flags %#lx and %#lx, ss %#x and %#x", i, a.rip, b.rip, a.rflags, b.rflags, a.seg[SEG_SS].selector,
					 b.seg[SEG_SS].selector);
		}
	}
	assert_in_range(bare, 12000, 30000); /* many went the short way */
}

static void test_a_return_does_not_leave_generated_code(void **state)
{
	(void)state;
	for (unsigned on = 2; on-- > 0;) {
		const uint64_t returns = m->v->counters.irets, executed = m->v->counters.insns_executor;

		tune->on[TUNE_INLINE_IRET] = on;
		CODE_TO(m, USER_AT, "add $3, %rax; dec %ebx; jz 1f; syscall; 1: ud2");
		if (on)
			CODE(m, "mov $0x32000, %esp; iretq");
		else /* else the translation would stay */
			CODE(m, "nop; mov $0x32000, %esp; iretq");
		m->v->star = (uint64_t)KERNEL_CS << 32;
		m->v->lstar = CODE_AT;
		poke64(m, FRAME_AT, USER_AT);
		poke64(m, FRAME_AT + 8, USER_CS);
		poke64(m, FRAME_AT + 16, FL_R1);
		poke64(m, FRAME_AT + 24, USER_TOP);
		poke64(m, FRAME_AT + 32, USER_SS);
		m->v->gpr[RAX] = 0;
		m->v->gpr[RBX] = 5000;
		kernel(CODE_AT);
		engine_bt.run(m->v);
		assert_int_equal(m->v->gpr[RAX], 15000);
		assert_int_equal(m->v->counters.irets - returns, 5000);
		if (on)
			assert_in_range(m->v->counters.insns_executor - executed, 1, 10);
		else
			assert_true(m->v->counters.insns_executor - executed >= 5000);
	}
}

/* As kernels do it to synchronize their instructions. */
static void test_a_kernel_returns_to_itself(void **state)
{
	const uint64_t executed = m->v->counters.insns_executor;

	(void)state;
	CODE(m, "mov $3000, %ebx; 1: mov %ss, %eax; push %rax; lea 8(%rsp), %rcx; push %rcx; pushfq; mov %cs, %eax; push %rax; push %r8; iretq; ud2");
	CODE_TO(m, BACK_AT, "dec %ebx; jz 1f; jmp *%r9; 1: ud2");
	CODE(m, "mov $3000, %ebx; 1: mov %ss, %eax; push %rax; lea 8(%rsp), %rcx; push %rcx; pushfq; mov %cs, %eax; push %rax; push %r8; iretq; ud2");
	m->v->gpr[RSP] = STACK;
	m->v->gpr[R8] = BACK_AT;
	m->v->gpr[R9] = CODE_AT + 5;
	kernel(CODE_AT);
	engine_bt.run(m->v);
	assert_int_equal(m->v->gpr[RBX], 0);
	assert_int_equal(m->v->counters.irets, 3000);
	assert_in_range(m->v->counters.insns_executor - executed, 1, 10);
}

static void *kicker(void *us)
{
	usleep((useconds_t)(uintptr_t)us);
	vcpu_request(m->v, REQ_STOP);
	return NULL;
}

/* To user code and back, only through IRETQ and SYSCALL. */
static void make_loop(void)
{
	CODE_TO(m, USER_AT, "syscall");
	CODE(m, "mov $0x32000, %esp; iretq");
	m->v->star = (uint64_t)KERNEL_CS << 32;
	m->v->lstar = CODE_AT;
	poke64(m, FRAME_AT, USER_AT);
	poke64(m, FRAME_AT + 8, USER_CS);
	poke64(m, FRAME_AT + 16, FL_R1);
	poke64(m, FRAME_AT + 24, USER_TOP);
	poke64(m, FRAME_AT + 32, USER_SS);
}

static void test_a_request_on_the_way_is_seen(void **state)
{
	(void)state;
	make_loop();
	kernel(CODE_AT);
	for (unsigned i = 0; i < 300; i++) {
		pthread_t thread;

		atomic_store(&m->v->pending, 0);
		assert_int_equal(pthread_create(&thread, NULL, kicker, (void *)(uintptr_t)(i % 97)), 0);
		engine_bt.run(m->v);
		pthread_join(thread, NULL);
		assert_int_equal(m->v->exit.kind, EXIT_STOP);
	}
	assert_true(m->v->counters.irets > 0);
}

struct writer { _Atomic uint64_t *word; _Atomic bool stop; };

/* A device, or another processor. */
static void *writer(void *arg)
{
	struct writer *w = arg;

	while (!atomic_load(&w->stop)) {
		for (unsigned i = 0; i < 40; i++)
			atomic_store(w->word, USER_AT);
		atomic_store(w->word, NONCANONICAL);
	}
	return NULL;
}

/* IRETQ itself faults for a target that is not canonical, whenever it was written: nobody comes to run there. */
static void test_a_frame_that_changes_is_read_once(void **state)
{
	struct writer w = { .stop = false };
	struct p2m_entry frame;
	pthread_t thread;

	(void)state;
	make_loop();
	assert_true(p2m_lookup(&m->memory, gpa(FRAME_AT), &frame));
	w.word = (_Atomic uint64_t *)(void *)pool_ptr(&m->memory.pool, frame.m);
	assert_int_equal(pthread_create(&thread, NULL, writer, &w), 0);
	for (unsigned i = 0; i < 20000; i++) {
		kernel(CODE_AT);
		m->v->rflags = FL_R1;
		engine_bt.run(m->v); /* until #GP, whose handler is HLT */
		assert_int_equal(peek64(m, m->v->gpr[RSP] + 8), CODE_AT + 5);
		assert_int_equal(peek64(m, m->v->gpr[RSP] + 16), KERNEL_CS);
	}
	atomic_store(&w.stop, true);
	pthread_join(thread, NULL);
	assert_true(m->v->counters.irets > 0);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, bt_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_whatever_the_frame_the_executor_agrees),
		TEST(test_a_return_does_not_leave_generated_code),
		TEST(test_a_kernel_returns_to_itself),
		TEST(test_a_request_on_the_way_is_seen),
		TEST(test_a_frame_that_changes_is_read_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
