/*
 * bt_compact_test.c - what code that takes little time shares: the look-ups of its jumps and calls, and the code of misses in level 1 of the TLB. With
 * the switches and without them it does the same, and is smaller with them.
 */
#include "bt_machine.h"

#include "bt/bt_internal.h"
#include "mmu/mmu_internal.h"

/* Runs user code at DATA, whose first two pages are those at CODE_AT, up to a fault with an error code; returns the RIP in its frame. */
static uint64_t run_user(struct bt_machine *b)
{
	struct vcpu *v = b->m->v;

	for (unsigned i = 0; i < 2; i++)
		set_page(b->m, DATA + PAGE_SIZE * i, (CODE_AT + PAGE_SIZE * i) | PTE_P | PTE_U);
	set_flat_segments(v, 3);
	v->rip = DATA;
	v->halted = 0;
	host_fault_take_signals(); /* cmocka takes them for each test */
	engine_bt.run(v);
	assert_int_equal(v->exit.kind, EXIT_HLT_FOREVER);
	return peek64(b->m, v->gpr[RSP] + 8);
}

static uint64_t host_bytes(const struct bt_machine *b) { return ((struct bt *)b->state)->counters.bytes_host; }

/* Sets the switch, forgets all code; the bytes made before. */
static uint64_t begin(struct bt_machine *b, enum tune_id id, bool on)
{
	b->tune.on[id] = on;
	bt_flush(b->state);
	return host_bytes(b);
}

#define TURNS 1000
/* The code of the tests stands in functions, since its labels may come once only: no loop around it may be unrolled. */
#define USER_STACK_PAGE (DATA + 0x10000)

static __attribute__((noinline)) void code_of_jumps(struct bt_machine *b)
{
	CODE(b->m, "7: lea 2f(%rip), %rdx; mov $1000, %ecx; xor %eax, %eax; xor %ebx, %ebx\n"
		   "1: stc; call 2f; 8: adc $0, %rbx; call *%rdx; cmp %rcx, %rcx; je 3f; 4: jmp 5f; 6: dec %ecx; jnz 1b; 9: hlt\n"
		   ".skip 4096 - (. - 7b); 2: mov (%rsp), %rsi; lea 1(%rax), %rax; ret; 3: jmp 4b; 5: jmp 6b");
}

/* Each turn goes to the other page by a call, an indirect call, a conditional jump and a direct one, and comes back by returns and jumps; the carry goes along. */
static void test_jumps_and_calls_to_another_page_find_their_way(void **state)
{
	struct bt_machine *b = *state;
	struct vcpu *v = b->m->v;
	uint64_t bytes[2], from_c;

	for (unsigned on = 0; on < 2; on++) {
		bytes[on] = begin(b, TUNE_COMPACT_JUMPS, on);
		from_c = v->counters.blocks_executed;
		code_of_jumps(b);
		v->gpr[RSP] = USER_STACK_PAGE + 0x100;
		assert_int_equal(run_user(b), DATA + 0x2e);
		assert_int_equal(v->gpr[RAX], 2 * TURNS);
		assert_int_equal(v->gpr[RBX], TURNS); /* the carry came through */
		assert_int_equal(v->gpr[RSI], DATA + 0x1c);
		assert_int_equal(v->gpr[RCX], 0);
		assert_true(v->counters.blocks_executed - from_c < 100);
		bytes[on] = host_bytes(b) - bytes[on];
	}
	assert_true(bytes[1] < bytes[0]);
}

/* The same in a kernel, whose direct jumps know where their entries are; and then the other page is another, with other code, in which the function adds 2. */
static void test_jumps_of_a_kernel_find_their_way_wherever_it_leads(void **state)
{
	struct bt_machine *b = *state;
	struct vcpu *v = b->m->v;
	uint8_t page[PAGE_SIZE];
	uint64_t bytes[2], from_c;

	for (unsigned on = 0; on < 2; on++) {
		bytes[on] = begin(b, TUNE_FIXED_JUMPS, on);
		code_of_jumps(b);
		assert_int_equal(memory_read(&b->m->memory, gpa(CODE_AT + PAGE_SIZE), page, sizeof(page)), 0);
		assert_int_equal(page[7], 1);
		page[7] = 2;
		poke(b->m, DATA + 3 * PAGE_SIZE, page, sizeof(page));
		for (unsigned round = 0; round < 4; round++) {
			set_page(b->m, DATA, CODE_AT | PTE_P);
			set_page(b->m, DATA + PAGE_SIZE, (round % 2 ? DATA + 3 * PAGE_SIZE : CODE_AT + PAGE_SIZE) | PTE_P);
			from_c = v->counters.blocks_executed;
			v->gpr[RSP] = STACK;
			v->rip = DATA;
			v->halted = 0;
			host_fault_take_signals();
			engine_bt.run(v);
			assert_int_equal(v->rip, DATA + 0x2f);
			assert_int_equal(v->gpr[RAX], 2 * TURNS * (1 + round % 2));
			assert_int_equal(v->gpr[RBX], TURNS);
			assert_int_equal(v->gpr[RSI], DATA + 0x1c);
			assert_true(v->counters.blocks_executed - from_c < 100);
		}
		bytes[on] = host_bytes(b) - bytes[on];
	}
	assert_true(bytes[1] < bytes[0]);
}

static __attribute__((noinline)) void code_of_a_call(struct bt_machine *b)
{
	CODE(b->m, "7: mov $5, %eax; cmp $6, %eax; call 2f; hlt; .skip 4096 - (. - 7b); 2: pop %rbx; setc %cl; hlt");
}

/* B5: the stub's return address and target are those of where the page is mapped. */
static void test_a_call_whose_push_misses_or_faults(void **state)
{
	struct bt_machine *b = *state;
	struct vcpu *v = b->m->v;

	for (unsigned on = 0; on < 2; on++)
		for (unsigned there = 0; there < 3; there++) {
			begin(b, TUNE_COMPACT_JUMPS, on);
			code_of_a_call(b);
			/* Not there; there, but in no TLB; the slot crosses into a page that is not there. */
			set_page(b->m, USER_STACK_PAGE, there ? USER_STACK_PAGE | PTE_P | PTE_W | PTE_U : 0);
			set_page(b->m, USER_STACK_PAGE + PAGE_SIZE, 0);
			v->gpr[RSP] = USER_STACK_PAGE + (there == 2 ? PAGE_SIZE + 4 : 0x108);
			v->gpr[RBX] = v->gpr[RCX] = 0;
			v->cr2 = 0;
			assert_int_equal(run_user(b), there == 1 ? DATA + PAGE_SIZE + 4 : DATA + 8);
			assert_int_equal(v->gpr[RBX], there == 1 ? DATA + 13 : 0);
			if (there == 1)
				assert_int_equal(v->gpr[RCX], 1);
			else
				assert_int_equal(v->cr2, there ? USER_STACK_PAGE + PAGE_SIZE : USER_STACK_PAGE + 0x100);
			/* SS, RSP, RFLAGS of the frame */
			assert_int_equal(peek64(b->m, v->gpr[RSP] + 32), USER_STACK_PAGE + (there == 2 ? PAGE_SIZE + 4 : 0x108));
			assert_true(peek64(b->m, v->gpr[RSP] + 24) & FL_CF);
		}
}

static __attribute__((noinline)) void code_of_a_page_and_another(struct bt_machine *b)
{
	CODE(b->m, "7: call 2f; hlt; .skip 4096 - (. - 7b); 2: ret");
}

/* Code that takes time has look-ups of its own again. */
static void test_samples_make_code_anew_with_its_own_look_ups(void **state)
{
	struct bt_machine *b = *state;
	struct bt *bt = b->state;
	struct p2m_entry e;
	uint64_t bytes[2];

	b->tune.on[TUNE_WINDOWS] = false;
	for (unsigned hot = 0; hot < 2; hot++) {
		bytes[hot] = begin(b, TUNE_COMPACT_JUMPS, true);
		code_of_a_page_and_another(b);
		b->m->v->gpr[RSP] = USER_STACK_PAGE + 0x100;
		assert_int_equal(run_user(b), DATA + 5);
		bytes[hot] = host_bytes(b) - bytes[hot];
		assert_true(p2m_lookup(&b->m->memory, gpa(CODE_AT), &e));
		for (unsigned i = 0; i < WINDOW_SAMPLES; i++)
			bt_window_sample(bt, e.m, 0, 1000);
	}
	assert_true(bytes[1] > bytes[0] + 40);
}

static __attribute__((noinline)) void code_of_accesses(struct bt_machine *b)
{
	CODE(b->m, "xor %eax, %eax; .set n, 0; .rept 20; add n*0x2000(%rbx), %rax; mov %rax, n*0x2000+0x1008(%rbx); .set n, n+1; .endr; hlt");
}

/* More accesses in a block than one piece of shared cold code serves, reads and writes by turns, each to a page of its own that no TLB has. */
static void test_misses_of_one_block_go_on_where_they_belong(void **state)
{
	enum { ACCESSES = 40 };
	struct bt_machine *b = *state;
	struct vcpu *v = b->m->v;
	uint64_t bytes[2], sum = 0;

	b->tune.on[TUNE_SPANS] = false;
	for (unsigned on = 0; on < 2; on++) {
		uint64_t at = DATA + 2 * PAGE_SIZE;

		for (unsigned i = 0; i < ACCESSES; i++)
			poke64(b->m, at + PAGE_SIZE * i, i * i + 1);
		bytes[on] = begin(b, TUNE_COMPACT_MISSES, on);
		mmu_set_cr3(&v->mmu, v->cr3);
		code_of_accesses(b);
		v->gpr[RBX] = at;
		v->gpr[RSP] = DATA + 0x100000;
		run_user(b);
		sum = 0;
		for (unsigned i = 0; i < ACCESSES; i += 2) {
			sum += i * i + 1;
			assert_int_equal(peek64(b->m, at + PAGE_SIZE * (i + 1) + 8), sum);
		}
		assert_int_equal(v->gpr[RAX], sum);
		bytes[on] = host_bytes(b) - bytes[on];
	}
	assert_true(bytes[1] + ACCESSES * 10 < bytes[0]);
}

static __attribute__((noinline)) void code_of_far_pages(struct bt_machine *b)
{
	CODE(b->m, "mov $5000, %ecx; xor %eax, %eax\n"
		   "1: add (%rbx), %rax; incq 0x800008(%rbx); add 0x1000010(%rbx), %rax; addq $3, 0x1800018(%rbx); dec %ecx; jnz 1b; hlt");
}

/* Four pages that a large set of level 1 has one first place for, read and written by turns: the others' second places serve them. */
static void test_pages_of_one_first_place_are_served_by_their_second(void **state)
{
	enum { LOOPS = 5000 };
	struct bt_machine *b = *state;
	struct vcpu *v = b->m->v;
	const uint64_t at = DATA + 7 * PAGE_SIZE, apart = MIB(8);
	struct mmu_counters before;

	b->tune.on[TUNE_SPANS] = false;
	for (uint64_t i = 1; i < 4; i++) /* of the first page */
		poke64(b->m, PD + 8 * ((DATA + i * apart) >> 21), PT | PTE_P | PTE_W | PTE_U);
	v->mmu.priv->tlb1_size[1] = v->mmu.priv->tlb1_size[2] = (uint32_t)(apart / PAGE_SIZE);
	tlb1_grow(&v->mmu, TLB_USER);
	before = v->mmu.counters;
	for (uint64_t i = 0; i < 4; i++)
		poke64(b->m, at + 8 * i, i * 1000);
	code_of_far_pages(b);
	v->gpr[RBX] = at;
	v->gpr[RSP] = DATA + 0x100000;
	run_user(b);
	assert_int_equal(v->gpr[RAX], LOOPS * 2000);
	assert_int_equal(peek64(b->m, at + 8), 1000 + LOOPS);
	assert_int_equal(peek64(b->m, at + 24), 3000 + LOOPS * 3);
	/* One in some 64 goes back to the first place. */
	assert_in_range(v->mmu.counters.tlb_l1_misses - before.tlb_l1_misses, LOOPS / 64, LOOPS / 4);
	assert_true(v->mmu.counters.tlb_l1_second - before.tlb_l1_second > 2 * LOOPS);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, bt_setup, bt_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_jumps_and_calls_to_another_page_find_their_way),
		TEST(test_jumps_of_a_kernel_find_their_way_wherever_it_leads),
		TEST(test_a_call_whose_push_misses_or_faults),
		TEST(test_samples_make_code_anew_with_its_own_look_ups),
		TEST(test_misses_of_one_block_go_on_where_they_belong),
		TEST(test_pages_of_one_first_place_are_served_by_their_second),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
