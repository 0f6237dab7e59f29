/*
 * bt_engine_test.c - the translator as an engine, on the executor's test machine: what the fuzzer does not aim at.
 * Invariants B1 to B3 of src/bt/bt_internal.h by their effects: code that changes, links, jump tables, requests.
 */
#include "bt_machine.h"

#include <pthread.h>
#include <unistd.h>

#include "bt/bt_internal.h"

/* Runs from rip to HLT. */
static struct vcpu *run(struct bt_machine *b)
{
	host_fault_take_signals(); /* cmocka takes them for each test */
	b->m->v->halted = 0;
	engine_bt.run(b->m->v);
	assert_int_equal(b->m->v->exit.kind, EXIT_HLT_FOREVER);
	return b->m->v;
}
#define RUN(b, text) (({ CODE((b)->m, text); }), run(b))

static void test_requests_without_an_interrupt_do_not_end_a_halt(void **state)
{
	static const struct engine *const engines[] = { &engine_bt, &engine_exec };
	struct bt_machine *b = *state;
	struct vcpu *v = b->m->v;

	for (unsigned i = 0; i < ARRAY_LEN(engines); i++) {
		RUN(b, "xor %eax, %eax; hlt; inc %eax; hlt");
		v->rflags |= FL_IF; /* had it been set before, the HLT would have been one that interrupts end */
		vcpu_request(v, REQ_INTERRUPT);
		engines[i]->run(v);
		assert_int_equal(v->exit.kind, EXIT_HLT);
		vcpu_request(v, REQ_STOP);
		engines[i]->run(v);
		assert_int_equal(v->exit.kind, EXIT_STOP);
		atomic_store(&v->pending, 0);
		engines[i]->run(v);
		assert_int_equal(v->exit.kind, EXIT_HLT);
		assert_int_equal(v->gpr[RAX], 0);
		v->rflags &= ~(uint64_t)FL_IF;
	}
}

static void test_a_loop_runs_to_its_end(void **state)
{
	struct vcpu *v = RUN((struct bt_machine *)*state, "xor %eax, %eax; mov $100000, %ecx; 1: add %rcx, %rax; dec %ecx; jnz 1b; hlt");

	assert_int_equal(v->gpr[RAX], 5000050000);
	assert_true(v->counters.blocks_executed < 1000); /* linked: hardly any iteration went through C */
}

static void test_calls_returns_and_indirect_jumps_find_their_way(void **state)
{
	struct vcpu *v = RUN((struct bt_machine *)*state,
		"xor %eax, %eax; mov $1000, %ecx; 1: call 2f; lea 3f(%rip), %rdx; jmp *%rdx; 2: add $3, %eax; ret; 3: dec %ecx; jnz 1b; hlt");

	assert_int_equal(v->gpr[RAX], 3000);
	assert_int_equal(v->gpr[RSP], STACK);
}

static void test_a_store_to_the_next_instruction_of_the_block_is_seen(void **state)
{
	/* mov $1, %eax becomes mov $7, %eax by the store just before it; twice, so that a translation exists the second time. */
	struct vcpu *v = RUN((struct bt_machine *)*state,
		"xor %ebx, %ebx; mov $2, %ecx; 1: movb %cl, 2f+1(%rip); 2: mov $0x55, %eax; add %eax, %ebx; dec %ecx; jnz 1b; hlt");

	assert_int_equal(v->gpr[RBX], 2 + 1);
}

static void test_a_store_through_an_alias_is_seen(void **state)
{
	struct bt_machine *b = *state;
	struct vcpu *v;

	set_page(b->m, DATA, CODE_AT | PTE_P | PTE_W | PTE_U); /* a second way to the code */
	v = RUN(b, "xor %ebx, %ebx; mov $3, %ecx; lea 2f+1(%rip), %rdi; and $0xfff, %edi; add $0x400000, %rdi\n"
		   "1: movb %cl, (%rdi); nop; 2: mov $0x55, %eax; add %eax, %ebx; dec %ecx; jnz 1b; hlt");
	assert_int_equal(v->gpr[RBX], 3 + 2 + 1);
}

static void test_code_changed_by_a_device_is_translated_anew(void **state)
{
	struct bt_machine *b = *state;
	uint8_t mov9[] = { 0xb8, 9, 0, 0, 0, 0xf4 };

	assert_int_equal(RUN(b, "mov $1, %eax; hlt")->gpr[RAX], 1);
	poke(b->m, CODE_AT, mov9, sizeof(mov9));
	b->m->v->rip = CODE_AT;
	assert_int_equal(run(b)->gpr[RAX], 9);
}

static void *kicker(void *v)
{
	usleep(20000);
	vcpu_request(v, REQ_STOP);
	return NULL;
}

/* A loop that never ends stops at the next poll or look-up. */
static void stops(struct bt_machine *b)
{
	pthread_t thread;

	atomic_store(&b->m->v->pending, 0);
	host_fault_take_signals();
	assert_int_equal(pthread_create(&thread, NULL, kicker, b->m->v), 0);
	engine_bt.run(b->m->v);
	pthread_join(thread, NULL);
	assert_int_equal(b->m->v->exit.kind, EXIT_STOP);
}

static void test_endless_loops_of_every_shape_stop_on_request(void **state)
{
	struct bt_machine *b = *state;

	CODE(b->m, "1: jmp 1b");
	stops(b);
	CODE(b->m, "1: inc %rax; cmp %rbx, %rbx; je 1b");
	stops(b);
	CODE(b->m, "lea 1f(%rip), %rdx; 1: jmp *%rdx");
	stops(b);
	CODE(b->m, "1: call 2f; 2: add $8, %rsp; jmp 1b");
	stops(b);
	CODE(b->m, "lea 1f(%rip), %rdx; 1: push %rdx; ret");
	stops(b);
	CODE(b->m, "1: stc; adc $0, %rax; mov $1, %ecx; jrcxz 1b; pushf; popf; jc 1b; jmp 1b");
	stops(b);
}

static void test_branch_to_an_address_that_is_not_canonical_faults_at_the_branch(void **state)
{
	struct bt_machine *b = *state;
	struct vcpu *v = RUN(b, "mov $0x1234567890abcdef, %rax; nop; call *%rax; hlt");
	uint64_t frame = v->gpr[RSP];

	assert_int_equal(v->rip, HANDLERS + 16 * VEC_GP + 1);
	assert_int_equal(peek64(b->m, frame), 0);
	assert_int_equal(peek64(b->m, frame + 8), CODE_AT + 11);
	assert_int_equal(peek64(b->m, frame + 32), STACK); /* the call has not moved RSP */
}

static void test_division_fault_names_the_division(void **state)
{
	struct bt_machine *b = *state;
	struct vcpu *v = RUN(b, "mov $5, %eax; xor %edx, %edx; xor %ecx, %ecx; div %ecx; hlt");

	assert_int_equal(v->rip, HANDLERS + 16 * VEC_DE + 1);
	assert_int_equal(peek64(b->m, v->gpr[RSP]), CODE_AT + 9);
	assert_int_equal(v->gpr[RAX], 5);
}

static void test_precise_flags_keep_what_nobody_reads(void **state)
{
	struct bt_machine *b = *state;
	struct vcpu *v;

	b->tune.on[TUNE_PRECISE_FLAGS] = true;
	set_page(b->m, DATA + 0x1000, 0);
	/* stc is dead: the add overwrites CF. The load between faults. */
	v = RUN(b, "mov $0x401000, %ebx; xor %eax, %eax; stc; mov (%rbx), %rcx; add $1, %rax; hlt");
	assert_int_equal(v->rip, HANDLERS + 16 * VEC_PF + 1);
	assert_int_equal(peek64(b->m, v->gpr[RSP] + 24) & FL_ARITH, FL_CF | FL_ZF | FL_PF);
}

static void test_instruction_across_pages_runs_translated(void **state)
{
	struct bt_machine *b = *state;
	/* 10 bytes of mov $imm64, %rax, four of them in the first page. */
	uint8_t mov[] = { 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 0xf4 };

	poke(b->m, CODE_AT + 0x1000 - 4, mov, sizeof(mov));
	b->m->v->rip = CODE_AT + 0x1000 - 4;
	assert_int_equal(run(b)->gpr[RAX], 0x0807060504030201);
	mov[9] = 0x99; /* its second part changes */
	poke(b->m, CODE_AT + 0x1000 - 4, mov, sizeof(mov));
	b->m->v->rip = CODE_AT + 0x1000 - 4;
	assert_int_equal(run(b)->gpr[RAX], 0x9907060504030201);
}

static void test_switches_that_are_off_change_no_result(void **state)
{
	struct bt_machine *b = *state;

	b->tune.on[TUNE_LINK] = b->tune.on[TUNE_JUMP_TABLE] = false;
	b->tune.on[TUNE_COUNT_BLOCKS] = true;
	assert_int_equal(RUN(b, "xor %eax, %eax; mov $1000, %ecx; 1: call 2f; dec %ecx; jnz 1b; hlt; 2: add $3, %eax; ret")->gpr[RAX], 3000);
	assert_true(b->m->v->counters.blocks_executed >= 2000);
}

/* Calls RBX and RDX in turns; returns how many blocks the engine's loop found. One instance: its code is labelled. */
static __attribute__((noinline)) uint64_t blocks_of_calls_in_turns(struct bt_machine *b)
{
	const uint64_t before = b->m->v->counters.blocks_executed;

	RUN(b, "mov $1000, %ecx; 1: call *%rbx; call *%rdx; dec %ecx; jnz 1b; hlt");
	return b->m->v->counters.blocks_executed - before;
}

/* Two targets whose addresses hash to one entry of the jump table, in turns. */
static void test_targets_of_one_hash_do_not_drive_each_other_out(void **state)
{
	struct bt_machine *b = *state;
	const uint8_t ret = 0xc3;
	const uint64_t one = DATA + 0x100;
	uint64_t other = one + 8, from_c;

	while (bt_jump_slot(other, JUMP_LARGE_ENTRIES) != bt_jump_slot(one, JUMP_LARGE_ENTRIES))
		other += 8;
	assert_true(other < DATA + MIB(2));
	b->tune.on[TUNE_JUMP_WIDE] = false; /* which would find them */
	poke(b->m, one, &ret, 1);
	poke(b->m, other, &ret, 1);
	for (unsigned on = 0; on < 2; on++) {
		b->tune.on[TUNE_JUMP_VICTIM] = on;
		b->m->v->gpr[RBX] = one;
		b->m->v->gpr[RDX] = other;
		from_c = blocks_of_calls_in_turns(b);
		assert_true(on ? from_c < 100 : from_c >= 2000);
	}
}

/* Of two targets of one hash, the one that was jumped to last is where both are looked for first; the other is in the same set. */
static void test_a_target_found_in_its_set_is_found_at_once_afterwards(void **state)
{
	struct bt_machine *b = *state;
	struct vcpu *v = b->m->v;
	const uint8_t ret = 0xc3;
	uint64_t target[2] = { DATA + 0x100, DATA + 0x108 };
	const struct jump_entry *home;
	unsigned others = 0;

	while (bt_jump_slot(target[1], JUMP_LARGE_ENTRIES) != bt_jump_slot(target[0], JUMP_LARGE_ENTRIES))
		target[1] += 8;
	b->tune.on[TUNE_JUMP_WIDE] = false;
	for (unsigned i = 0; i < 2; i++)
		poke(b->m, target[i], &ret, 1);
	for (unsigned i = 0; i < 2; i++) {
		v->gpr[RBX] = target[i];
		v->gpr[RDX] = target[!i];
		RUN(b, "call *%rbx; call *%rdx; call *%rbx; hlt");
		home = &v->jump[bt_jump_first(v->bt->current)] + bt_jump_slot(target[0], JUMP_LARGE_ENTRIES);
		assert_int_equal(home->key, target[i]);
		for (unsigned k = 1; k < JUMP_WAYS; k++)
			others += v->jump[(unsigned)(home - v->jump) ^ k].key == target[!i];
		assert_int_equal(others, 1 + i);
	}
}

/* As many targets as a set has entries, each hashing to another of them: all are found at once, in whatever order they came. */
static void test_a_set_of_the_jump_table_holds_as_many_targets_as_it_has_ways(void **state)
{
	struct bt_machine *b = *state;
	const uint8_t ret = 0xc3;
	uint64_t target[JUMP_WAYS] = { DATA + 0x100 }, from_c;

	for (unsigned k = 1; k < JUMP_WAYS; k++) {
		target[k] = target[k - 1] + 8;
		while (bt_jump_slot(target[k], JUMP_LARGE_ENTRIES) != (bt_jump_slot(target[0], JUMP_LARGE_ENTRIES) ^ k))
			target[k] += 8;
		assert_true(target[k] < DATA + MIB(2));
	}
	for (unsigned k = 0; k < JUMP_WAYS; k++)
		poke(b->m, target[k], &ret, 1);
	b->m->v->gpr[RBX] = target[0];
	b->m->v->gpr[RDX] = target[1];
	b->m->v->gpr[RSI] = target[2];
	b->m->v->gpr[RDI] = target[3];
	from_c = b->m->v->counters.blocks_executed;
	RUN(b, "mov $1000, %ecx; 1: call *%rbx; call *%rdx; call *%rsi; call *%rdi; dec %ecx; jnz 1b; hlt");
	assert_true(b->m->v->counters.blocks_executed - from_c < 100);
}

/* Calls six targets in turns, all of one set of the jump table; returns how many blocks the engine's loop found. One instance: its code is labelled. */
static __attribute__((noinline)) uint64_t blocks_of_six_calls(struct bt_machine *b, const uint64_t target[6])
{
	static const uint8_t reg[6] = { RBX, RDX, RSI, RDI, R8, R9 };
	const uint64_t before = b->m->v->counters.blocks_executed;

	for (unsigned k = 0; k < 6; k++)
		b->m->v->gpr[reg[k]] = target[k];
	RUN(b, "mov $1000, %ecx; 1: call *%rbx; call *%rdx; call *%rsi; call *%rdi; call *%r8; call *%r9; dec %ecx; jnz 1b; hlt");
	return b->m->v->counters.blocks_executed - before;
}

/* More targets than a set has entries: what it has lost is found in the wide table, unless that is off. */
static void test_what_the_jump_table_lost_is_found_in_the_wide_table(void **state)
{
	struct bt_machine *b = *state;
	const uint8_t ret = 0xc3;
	uint64_t target[6] = { DATA + 0x100 }, from_c;

	for (unsigned k = 0; k < 6; k++) {
		if (k)
			target[k] = target[k - 1] + 8;
		while ((bt_jump_slot(target[k], JUMP_LARGE_ENTRIES) ^ bt_jump_slot(target[0], JUMP_LARGE_ENTRIES)) >= JUMP_WAYS)
			target[k] += 8;
		assert_true(target[k] < DATA + MIB(2));
		poke(b->m, target[k], &ret, 1);
	}
	for (unsigned on = 0; on < 2; on++) {
		b->tune.on[TUNE_JUMP_WIDE] = on;
		from_c = blocks_of_six_calls(b, target);
		assert_true(on ? from_c < 100 : from_c >= 1000);
	}
}

/*
 * The page that a call goes to is mapped elsewhere: no table knows the old translation by the new mapping, though the contexts' numbers are such that the target has the
 * same place in the wide table.
 */
static void test_jump_tables_forget_what_is_mapped_elsewhere(void **state)
{
	static const uint8_t code[2][6] = { { 0xb8, 1, 0, 0, 0, 0xc3 }, { 0xb8, 2, 0, 0, 0, 0xc3 } }; /* mov $n, %eax; ret */
	struct bt_machine *b = *state;

	poke(b->m, DATA + 0x1000, code[0], sizeof(code[0]));
	poke(b->m, DATA + 0x2000, code[1], sizeof(code[1]));
	CODE(b->m, "mov $3, %ecx; 1: call *%rbx; add %rax, %rdx; dec %ecx; jnz 1b; hlt");
	for (uint32_t i = 0, number = 1; i < 4; i++) {
		struct vcpu *v = b->m->v;

		b->m->v->bt->last_number = number - 1;
		do
			number++;
		while (bt_jump_wide_slot(DATA, number) != bt_jump_wide_slot(DATA, 1));
		set_page(b->m, DATA, (DATA + 0x1000 * (1 + i % 2)) | PTE_P | PTE_W);
		v->rip = CODE_AT;
		v->gpr[RBX] = DATA;
		v->gpr[RDX] = 0;
		assert_int_equal(run(b)->gpr[RDX], 3 * (1 + i % 2));
	}
}

/*
 * More code than a small cache holds, round and round. Each of its pieces goes one of four ways in each round, which is translated then and linked to the piece's end; and
 * changes that end, so that its old translations, in other parts of the cache, are dead and lead to the newest one.
 */
static void test_a_full_cache_is_emptied_in_part(void **state)
{
	enum { PIECE = 256, PIECES = (MIB(2) - 4 * PAGE_SIZE) / PIECE, ROUNDS = 12 };
	struct bt_machine *b = *state;
	struct bt *bt = b->state;
	uint8_t piece[PIECE];

	CODE(b->m, "7: mov %ebx, %ecx; dec %ecx; jz 1f; dec %ecx; jz 2f; dec %ecx; jz 3f; add $8, %rax; jmp 4f\n"
		   "1: add $1, %rax; jmp 4f; 2: add $2, %rax; jmp 4f; 3: add $4, %rax; jmp 4f\n"
		   "4: incb 5f+3(%rip); jmp 5f; .balign 64; 5: add $1, %rdx; lea 7b+256(%rip), %rsi; cmp %rdi, %rsi; je 6f; jmp *%rsi; 6: hlt");
	memory_read(&b->m->memory, gpa(CODE_AT), piece, sizeof(piece));
	for (unsigned evict = 2; evict-- > 0;) {
		b->tune.on[TUNE_SMALL_CACHE] = true;
		b->tune.on[TUNE_EVICT] = evict;
		bt_flush(bt);
		for (unsigned i = 0; i < PIECES; i++)
			poke(b->m, DATA + PIECE * i, piece, sizeof(piece));
		bt->counters.cache_evictions = bt->counters.cache_flushes = 0;
		for (unsigned round = 0; round < ROUNDS; round++) {
			struct vcpu *v = b->m->v;

			v->rip = DATA;
			v->gpr[RBX] = 1 + round % 4;
			v->gpr[RDI] = DATA + PIECE * PIECES;
			v->gpr[RAX] = v->gpr[RDX] = 0;
			run(b);
			assert_int_equal(v->gpr[RAX], PIECES << round % 4);
			assert_int_equal(v->gpr[RDX], PIECES * (2 + round));
		}
		assert_true(evict ? bt->counters.cache_evictions > CODE_PARTS : !bt->counters.cache_evictions);
		assert_true(evict ? !bt->counters.cache_flushes : bt->counters.cache_flushes > 0);
	}
}

/* A loop that goes by a jump to the end of its page, where an instruction crosses into the next one: it does not leave each time. */
static void test_a_jump_to_where_an_instruction_crosses_pages_does_not_leave(void **state)
{
	struct bt_machine *b = *state;
	const uint64_t before = b->m->v->counters.blocks_executed;

	RUN(b, "7: mov $1000, %ecx; 1: jmp 2f; .skip 4096 - 3 - (. - 7b); 2: add $0x12345678, %rax; dec %ecx; jnz 1b; hlt");
	assert_int_equal(b->m->v->gpr[RCX], 0);
	assert_true(b->m->v->counters.blocks_executed - before < 100);
}

/* Runs user code at va up to a fault that a handler of ring 0 takes; returns the RIP in its frame, which has an error code or not. */
static uint64_t run_user(struct bt_machine *b, uint64_t va, bool error)
{
	struct vcpu *v = b->m->v;

	set_flat_segments(v, 3);
	v->rip = va;
	v->gpr[RSP] = USER_STACK;
	run(b);
	return peek64(b->m, v->gpr[RSP] + (error ? 8 : 0));
}

static uint64_t blocks_made(const struct bt_machine *b) { return ((struct bt *)b->state)->counters.blocks_translated; }

/* B5: the same frames at several addresses, in turns: what the code sees of its address is right, and the frames are translated once. */
static void test_user_code_runs_wherever_it_is_mapped(void **state)
{
	struct bt_machine *b = *state;

	for (unsigned share = 2; share-- > 0;) {
		uint64_t made[4];

		b->tune.on[TUNE_SHARE_BLOCKS] = share;
		CODE(b->m, "7: lea 1f(%rip), %rax; 1: call 2f; 2: pop %rbx; mov 3f(%rip), %rcx; mov $3, %esi; 4: dec %esi; jnz 4b; jmp 5f\n"
			   "3: .quad 0x123456789a; .skip 4096 - (. - 7b); 5: lea 5b(%rip), %rdi; lea 5b+0x7ffffff0(%rip), %r9\n"
			   "lea 8f(%rip), %rdx; call *%rdx; 8: pop %rbp; lea 5b(%eip), %r8d; 9: hlt");
		for (unsigned i = 0; i < 4; i++) {
			uint64_t va = DATA + (i & 1 ? 0x10000 : 0), next = va + 0x1000;
			struct vcpu *v = b->m->v;

			set_page(b->m, va, CODE_AT | PTE_P | PTE_U);
			set_page(b->m, next, (CODE_AT + 0x1000) | PTE_P | PTE_U);
			assert_int_equal(run_user(b, va, true), next + 32); /* hlt */
			assert_int_equal(v->gpr[RAX], va + 7);
			assert_int_equal(v->gpr[RBX], va + 12);
			assert_int_equal(v->gpr[RCX], 0x123456789a);
			assert_int_equal(v->gpr[RDI], next);
			assert_int_equal(v->gpr[R9], next + 0x7ffffff0);
			assert_int_equal(v->gpr[RBP], next + 23);
			assert_int_equal(v->gpr[R8], next);
			made[i] = blocks_made(b);
		}
		if (share)
			assert_int_equal(made[1], made[0]);
		else
			assert_true(made[1] > made[0]);
		assert_int_equal(made[3], made[1]);
	}
}

static void test_faults_of_shared_code_name_its_address(void **state)
{
	struct bt_machine *b = *state;

	CODE(b->m, "nop; xor %ecx, %ecx; div %ecx; hlt; .skip 8; mov (%rcx), %eax");
	for (unsigned i = 0; i < 4; i++) {
		uint64_t va = DATA + (i & 1 ? 0x10000 : 0);

		set_page(b->m, va, CODE_AT | PTE_P | PTE_U);
		assert_int_equal(run_user(b, va, false), va + 3);
		b->m->v->gpr[RCX] = DATA + 0x20000;
		set_page(b->m, DATA + 0x20000, 0);
		assert_int_equal(run_user(b, va + 14, true), va + 14);
	}
}

/* The same code at the end of the lower half, where the branch leaves the canonical addresses. */
static void test_shared_code_at_the_end_of_the_lower_half_has_its_own_translation(void **state)
{
	struct bt_machine *b = *state;
	const uint64_t edge = 0x7ffffffff000;

	poke64(b->m, PML4 + 8 * 255, PDPT | PTE_P | PTE_W | PTE_U);
	poke64(b->m, PDPT + 8 * 511, PD | PTE_P | PTE_W | PTE_U);
	poke64(b->m, PD + 8 * 511, PT | PTE_P | PTE_W | PTE_U);
	CODE(b->m, "7: nop; jmp 1f; .skip 4096 - (. - 7b); 1: hlt");
	poke64(b->m, PT + 8 * 511, CODE_AT | PTE_P | PTE_U);
	for (unsigned i = 0; i < 2; i++) {
		set_page(b->m, DATA, CODE_AT | PTE_P | PTE_U);
		set_page(b->m, DATA + 0x1000, (CODE_AT + 0x1000) | PTE_P | PTE_U);
		assert_int_equal(run_user(b, DATA, true), DATA + 0x1000);
		assert_int_equal(run_user(b, edge, true), edge + 1); /* #GP at the branch */
	}
}

/* User code that adds up [rbx], [rbx + rcx * 8] and [rcx * 8 + constant], and stores off RDI, while RBX and RDI go on by RDX bytes, round and round. */
static struct vcpu *walk_pages(struct bt_machine *b, uint64_t turns, uint64_t step, uint64_t room)
{
	struct vcpu *v = b->m->v;

	for (unsigned i = 0; i < room / 8; i++)
		poke64(b->m, DATA + 0x20000 + 8 * i, i);
	CODE(b->m, "1: mov (%rbx), %r8; add (%rbx,%rcx,8), %r8; add 0x420000(,%rcx,8), %r8; add %r8, %rax; mov %rax, 0x10(%rdi)\n"
		   "add %rdx, %rbx; and %rbp, %rbx; or %r12, %rbx; lea 0x20000(%rbx), %rdi; dec %rsi; jnz 1b; hlt");
	set_page(b->m, DATA, CODE_AT | PTE_P | PTE_U);
	v->gpr[RAX] = v->gpr[RCX] = 0;
	v->gpr[RBX] = v->gpr[R12] = DATA + 0x20000;
	v->gpr[RDI] = DATA + 0x40000;
	v->gpr[RBP] = (room - 1) | DATA;
	v->gpr[RDX] = step;
	v->gpr[RSI] = turns;
	run_user(b, DATA, true);
	return v;
}

static uint64_t sum_of_walk(uint64_t turns, uint64_t step, uint64_t room)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < turns; i++)
		sum += 2 * (i * step % room / 8);
	return sum;
}

/* T9: what stays in a run of pages is served by windows, to the last access. */
static void test_accesses_of_user_code_within_a_run_of_pages_stay_in_its_window(void **state)
{
	struct bt_machine *b = *state;
	const uint64_t turns = 100000;
	struct vcpu *v;

	b->tune.on[TUNE_ALL_WINDOWS] = true;
	v = walk_pages(b, turns, 8, 0x1000);

	assert_int_equal(v->gpr[RAX], sum_of_walk(turns, 8, 0x1000));
	assert_int_equal(peek64(b->m, DATA + 0x40000 + 0x10 + (turns - 1) * 8 % 0x1000), v->gpr[RAX]);
	assert_true(v->mmu.counters.tlb_window_misses > 0);
	assert_true(v->mmu.counters.tlb_window_misses < turns / 10);
}

/* The same for a span, whose first access reads. */
static void test_what_a_window_reads_it_writes_only_if_the_page_may_be_written(void **state)
{
	struct bt_machine *b = *state;
	struct vcpu *v = b->m->v;

	b->tune.on[TUNE_ALL_WINDOWS] = true;
	CODE(b->m, "7: mov (%rbx), %eax; lea (%rbx), %rbx; 1: mov %ecx, (%rbx); hlt; .skip 32 - (. - 7b)\n"
		   "mov 4(%rbx), %eax; 2: mov %ecx, 8(%rbx); hlt");
	set_page(b->m, DATA, CODE_AT | PTE_P | PTE_U);
	for (unsigned code = 0; code < 4; code++) /* twice: the first window is C's, later ones are the stub's */
		for (unsigned writable = 0; writable < 2; writable++) {
			const bool span = code & 1;

			set_page(b->m, DATA + 0x20000, (DATA + 0x20000) | PTE_P | PTE_U | (writable ? PTE_W : 0));
			poke64(b->m, DATA + 0x20000, 7);
			poke64(b->m, DATA + 0x20008, 7);
			v->gpr[RBX] = DATA + 0x20000;
			v->gpr[RCX] = 1;
			/* The HLT faults, or the store before it, with its rights in the error code. */
			assert_int_equal(run_user(b, DATA + 32 * span, true), DATA + (span ? 35 : 5) + (writable ? (span ? 3 : 2) : 0));
			assert_int_equal(peek64(b->m, v->gpr[RSP]), writable ? 0 : PF_P | PF_W | PF_U);
			assert_int_equal((uint32_t)peek64(b->m, DATA + 0x20000 + 8 * span), writable ? v->gpr[RCX] : 7);
		}
}

/* A sample of where time is spent that hit the code at DATA. */
static void sample(struct bt_machine *b, int32_t misses)
{
	struct p2m_entry e;

	assert_true(p2m_lookup(&b->m->memory, gpa(CODE_AT), &e));
	bt_window_sample(b->state, e.m, 0, misses);
}

/* Frames are scattered here, so that each turn is in another run. */
static void test_code_has_windows_when_it_takes_time_and_loses_those_that_miss_too_often(void **state)
{
	struct bt_machine *b = *state;
	const struct bt_counters *c = &((struct bt *)b->state)->counters;
	const uint64_t turns = 50000, step = 0x3000 + 8, room = 0x10000;
	struct vcpu *v = walk_pages(b, turns, step, room);
	uint64_t misses;

	for (unsigned i = 0; i < WINDOW_SAMPLES; i++) {
		assert_int_equal(v->mmu.counters.tlb_window_misses, 0);
		assert_int_equal(c->chunks_windowed, 0);
		sample(b, 1000);
		v = walk_pages(b, turns, step, room);
		assert_int_equal(v->gpr[RAX], sum_of_walk(turns, step, room));
	}
	assert_int_equal(c->chunks_windowed, 1);
	misses = v->mmu.counters.tlb_window_misses;
	assert_true(misses >= 1000 * WINDOW_SAMPLES);
	assert_true(misses < turns);
	assert_true(c->windows_forsaken > 0);
	/* What is left does not miss; more samples do not bring back the others. */
	for (unsigned i = 0; i < 3; i++) {
		sample(b, 1000);
		v = walk_pages(b, turns, step, room);
		assert_int_equal(v->gpr[RAX], sum_of_walk(turns, step, room));
	}
	assert_true(v->mmu.counters.tlb_window_misses < misses + turns / 4);
	assert_int_equal(c->chunks_windowed, 1);
}

static void test_without_the_switch_nothing_has_windows(void **state)
{
	struct bt_machine *b = *state;

	b->tune.on[TUNE_WINDOWS] = false;
	b->tune.on[TUNE_ALL_WINDOWS] = true;
	assert_int_equal(walk_pages(b, 10000, 8, 0x1000)->gpr[RAX], sum_of_walk(10000, 8, 0x1000));
	assert_int_equal(b->m->v->mmu.counters.tlb_window_misses, 0);
}

/* Copies of 64 bytes, every other one across the end of a page: the others are done without a call of C. */
/* The block before the loop is full in the middle of it, so the first turn's rest is a block of its own. How many blocks run. (A function, since its labels may come once only.) */
static __attribute__((noinline)) uint64_t blocks_of_a_loop(struct bt_machine *b)
{
	const uint64_t before = b->m->v->counters.blocks_executed;
	const struct vcpu *v = RUN(b, "xor %eax, %eax; mov $1000, %ecx; .skip 43, 0x90; 1: inc %rax; lea 1(%rbx), %rbx; lea 2(%rbx), %rbx; nop; dec %ecx; jnz 1b; hlt");

	assert_int_equal(v->gpr[RAX], 1000);
	return v->counters.blocks_executed - before;
}

/* The other turns are one block nevertheless, where time is spent. */
static void test_a_hot_loop_is_one_block_wherever_it_was_entered(void **state)
{
	struct bt_machine *b = *state;

	b->tune.on[TUNE_COUNT_BLOCKS] = true;
	assert_in_range(blocks_of_a_loop(b), 1990, 2010);
	b->tune.on[TUNE_ALL_WINDOWS] = true;
	bt_flush(b->state);
	assert_in_range(blocks_of_a_loop(b), 990, 1010);
}

static void test_short_copies_within_a_page_stay_in_generated_code(void **state)
{
	struct bt_machine *b = *state;
	struct bt *bt = b->state;

	for (unsigned on = 2; on-- > 0;) {
		const uint64_t before = bt->counters.string_runs;
		struct vcpu *v;

		b->tune.on[TUNE_INLINE_STRING] = on;
		bt_flush(bt);
		for (unsigned i = 0; i < 64; i += 8) {
			poke64(b->m, DATA + i, 0x0101010101010101 * i);
			poke64(b->m, DATA + 0x1ff0 + i, 0);
		}
		v = RUN(b, "mov $1000, %ebx; 1: mov $0x400000, %esi; mov $0x400100, %edi; mov $8, %ecx; rep movsq\n"
			   "mov $0x400100, %esi; mov $0x401ff0, %edi; mov $64, %ecx; rep movsb; dec %ebx; jnz 1b; hlt");
		assert_int_equal(v->gpr[RCX], 0);
		assert_int_equal(v->gpr[RSI], DATA + 0x140);
		assert_int_equal(v->gpr[RDI], DATA + 0x2030);
		for (unsigned i = 0; i < 64; i += 8)
			assert_int_equal(peek64(b->m, DATA + 0x1ff0 + i), 0x0101010101010101 * i);
		assert_in_range(bt->counters.string_runs - before, on ? 1000 : 2000, on ? 1002 : 2000);
	}
}

/* A run of PUSHes, and one of POPs, across the end of a page: done one by one in code that the first of them leaves for, and the others do not. */
static void test_runs_of_the_stack_across_pages_stay_in_generated_code(void **state)
{
	struct bt_machine *b = *state;

	for (unsigned link = 2; link-- > 0;) {
		const uint64_t before = b->m->v->counters.blocks_executed;
		struct vcpu *v;

		b->tune.on[TUNE_LINK] = link;
		bt_flush(b->state);
		v = RUN(b, "mov $0x401010, %esp; xor %ebp, %ebp; mov $3, %ebx; mov $5, %edx; mov $1000, %ecx\n"
			   "1: lea 7(%rcx), %rax; stc; push %rax; push %rbx; push %rcx; push %rdx; pop %rdi; pop %rsi; pop %r10; pop %rax\n"
			   "adc %rsi, %rbp; dec %ecx; jnz 1b; hlt");
		assert_int_equal(v->gpr[RSP], DATA + 0x1010);
		assert_int_equal(v->gpr[RBP], 500500 + 1000); /* the carry came through */
		assert_int_equal(v->gpr[RAX], 8);
		assert_int_equal(v->gpr[R10], 3);
		assert_int_equal(v->gpr[RSI], 1);
		assert_int_equal(v->gpr[RDI], 5);
		assert_int_equal(peek64(b->m, DATA + 0x1008), 8);
		assert_int_equal(peek64(b->m, DATA + 0xff0), 5);
		assert_in_range(v->counters.blocks_executed - before, link ? 1 : 2000, link ? 20 : 5000);
	}
}

/* Where code runs on from page to page, each has a block at its begin. */
static void test_blocks_at_one_offset_of_many_pages_are_found_quickly(void **state)
{
	enum { FIRST = 1536, PAGES = 6600 };
	static const uint8_t jump[] = { 0xe9, 0xfb, 0x0f, 0x00, 0x00 }; /* to the next page's begin */
	static const uint8_t hlt = 0xf4;
	struct bt_machine *b = *state;
	const struct bt *bt = b->state;
	unsigned blocks = 0, longest = 0;

	for (uint64_t i = 0; i < PAGES; i++)
		poke(b->m, (FIRST + i) << PAGE_SHIFT, jump, sizeof(jump));
	poke(b->m, (uint64_t)(FIRST + PAGES) << PAGE_SHIFT, &hlt, 1);
	b->m->v->rip = (uint64_t)FIRST << PAGE_SHIFT;
	run(b);
	for (uint32_t h = 0; h < BLOCK_HASH; h++) {
		unsigned n = 0;

		for (uint32_t i = bt->hash[h]; i; i = bt->block[i - 1].hash_next)
			n++;
		blocks += n;
		longest = n > longest ? n : longest;
	}
	assert_true(blocks >= PAGES);
	assert_in_range(longest, 1, 4);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, bt_setup, bt_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_requests_without_an_interrupt_do_not_end_a_halt),
		TEST(test_a_loop_runs_to_its_end),
		TEST(test_calls_returns_and_indirect_jumps_find_their_way),
		TEST(test_a_store_to_the_next_instruction_of_the_block_is_seen),
		TEST(test_a_store_through_an_alias_is_seen),
		TEST(test_code_changed_by_a_device_is_translated_anew),
		TEST(test_endless_loops_of_every_shape_stop_on_request),
		TEST(test_branch_to_an_address_that_is_not_canonical_faults_at_the_branch),
		TEST(test_division_fault_names_the_division),
		TEST(test_a_hot_loop_is_one_block_wherever_it_was_entered),
		TEST(test_short_copies_within_a_page_stay_in_generated_code),
		TEST(test_runs_of_the_stack_across_pages_stay_in_generated_code),
		TEST(test_accesses_of_user_code_within_a_run_of_pages_stay_in_its_window),
		TEST(test_what_a_window_reads_it_writes_only_if_the_page_may_be_written),
		TEST(test_code_has_windows_when_it_takes_time_and_loses_those_that_miss_too_often),
		TEST(test_without_the_switch_nothing_has_windows),
		TEST(test_precise_flags_keep_what_nobody_reads),
		TEST(test_instruction_across_pages_runs_translated),
		TEST(test_switches_that_are_off_change_no_result),
		TEST(test_a_target_found_in_its_set_is_found_at_once_afterwards),
		TEST(test_a_set_of_the_jump_table_holds_as_many_targets_as_it_has_ways),
		TEST(test_what_the_jump_table_lost_is_found_in_the_wide_table),
		TEST(test_jump_tables_forget_what_is_mapped_elsewhere),
		TEST(test_a_full_cache_is_emptied_in_part),
		TEST(test_a_jump_to_where_an_instruction_crosses_pages_does_not_leave),
		TEST(test_targets_of_one_hash_do_not_drive_each_other_out),
		TEST(test_user_code_runs_wherever_it_is_mapped),
		TEST(test_faults_of_shared_code_name_its_address),
		TEST(test_shared_code_at_the_end_of_the_lower_half_has_its_own_translation),
		TEST(test_blocks_at_one_offset_of_many_pages_are_found_quickly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
