/*
 * bt_smap_test.c - STAC and CLAC in the middle of translated blocks (src/bt/lower_system.c, lower_flow.c): whichever edges lead from there to code of the other mode, accesses to a
 * user's page succeed or fault as by the executor; edges do not leave generated code.
 */
#include "bt_machine.h"

#include "bt/bt_internal.h"

/* Code in two pages; the user's page. */
enum { SLOTS = 128, SLOT_SIZE = 64, END_AT = CODE_AT + SLOTS * SLOT_SIZE, USER_PAGE = DATA };

static struct machine *m;

static int setup(void **state)
{
	struct bt_machine *b;
	struct vcpu *v;

	bt_setup(state);
	b = *state;
	m = b->m;
	v = m->v;
	seed = 1;
	poke64(m, PD, peek64(m, PD) & ~(uint64_t)PTE_U); /* the kernel's */
	v->cr4 |= CR4_SMAP;
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	mmu_flush_all(&v->mmu);
	for (unsigned i = 0; i < 64; i++)
		poke64(m, USER_PAGE + 8 * i, 2 * rnd() + 1);
	return 0;
}

struct piece { uint8_t code[SLOT_SIZE]; unsigned n; uint64_t at; };
static void put(struct piece *p, const char *bytes, unsigned n)
{
	memcpy(p->code + p->n, bytes, n);
	p->n += n;
}
#define PUT(p, bytes) put(p, bytes, sizeof(bytes) - 1)
static void put_rel(struct piece *p, uint64_t to)
{
	const uint32_t rel = (uint32_t)(to - (p->at + p->n + 4));

	memcpy(p->code + p->n, &rel, 4);
	p->n += 4;
}
static uint64_t any_slot(void) { return CODE_AT + SLOT_SIZE * (rnd() % SLOTS); }

/* Perhaps a change of AC, perhaps an access, and a jump to anywhere. */
static void make_piece(uint64_t at)
{
	struct piece p = { .at = at };
	bool ac = false;

	for (unsigned i = rnd() % 3; i-- > 0;) {
		if (one_in(2)) {
			ac = !one_in(3);
			if (ac)
				PUT(&p, "\x0f\x01\xcb"); /* stac */
			else
				PUT(&p, "\x0f\x01\xca"); /* clac */
		} else if (ac || one_in(40)) {
			PUT(&p, "\x48\x03\x06"); /* add (%rsi), %rax */
		} else {
			PUT(&p, "\x48\xd1\xc8"); /* ror %rax */
		}
	}
	PUT(&p, "\xff\xc9\x0f\x84"); /* dec %ecx; jz */
	put_rel(&p, END_AT);
	if (one_in(2)) {
		PUT(&p, "\xa8\x01\x0f\x85"); /* test $1, %al; jnz */
		put_rel(&p, any_slot());
	}
	switch (rnd() % 3) {
	case 0:
		PUT(&p, "\xe9");
		put_rel(&p, any_slot());
		break;
	case 1:
		PUT(&p, "\x48\x8d\x3d"); /* lea (%rip), %rdi; jmp *%rdi */
		put_rel(&p, any_slot());
		PUT(&p, "\xff\xe7");
		break;
	default:
		PUT(&p, "\x48\x8d\x3d"); /* lea (%rip), %rdi; push %rdi; ret */
		put_rel(&p, any_slot());
		PUT(&p, "\x57\xc3");
	}
	poke(m, at, p.code, sizeof(p.code));
}

static void begin(uint64_t at)
{
	struct vcpu *v = m->v;

	seed = at;
	set_flat_segments(v, 0);
	v->rip = any_slot();
	v->gpr[RAX] = rnd();
	v->gpr[RCX] = 1 + rnd() % 300;
	v->gpr[RDI] = 0;
	v->gpr[RSI] = USER_PAGE + 8 * (rnd() % 64);
	v->gpr[RSP] = STACK;
	v->rflags = FL_R1 | (one_in(2) ? FL_AC : 0) | (rnd() & FL_ARITH);
	v->cr2 = 0;
	v->halted = 0;
}

static void test_any_edge_after_stac_or_clac_leads_to_the_right_mode(void **state)
{
	const uint8_t hlt = 0xf4;
	unsigned faults = 0, cases = 0;

	(void)state;
	host_fault_take_signals();
	for (unsigned program = 0; program < 100; program++) {
		for (unsigned i = 0; i < SLOTS; i++)
			make_piece(CODE_AT + SLOT_SIZE * i);
		poke(m, END_AT, &hlt, 1);
		for (unsigned i = 0; i < 60; i++, cases++) {
			const uint64_t at = seed;
			uint64_t gpr[16], rip, rflags, cr2;

			begin(at);
			while (exec_step(m->v) == EXEC_NEXT)
				;
			memcpy(gpr, m->v->gpr, sizeof(gpr));
			rip = m->v->rip, rflags = m->v->rflags, cr2 = m->v->cr2;
			begin(at);
			engine_bt.run(m->v);
			assert_int_equal(m->v->rip, rip);
			assert_int_equal(m->v->cr2, cr2);
			assert_int_equal((m->v->rflags ^ rflags) & ~(uint64_t)(cr2 ? FL_ARITH : 0), 0); /* dead at the fault (docs/translator.md, Flags) */
			assert_memory_equal(m->v->gpr, gpr, sizeof(gpr));
			faults += cr2 != 0;
		}
	}
	assert_in_range(faults, cases / 10, cases * 9 / 10);
}

/* An edge of each kind out of a block whose mode has changed: within the page, to another, conditional, indirect. */
static void test_edges_after_stac_and_clac_stay_in_generated_code(void **state)
{
	const uint64_t executed = m->v->counters.insns_executor, left = m->v->counters.blocks_executed;

	(void)state;
	host_fault_take_signals();
	CODE(m, "1: stac; test %ecx, %ecx; jz 9f; add (%rsi), %rax; lea 2f(%rip), %rdi; jmp *%rdi; 2: clac; jmp 3f; .space 4096; 3: stac; dec %ecx; jnz 1b; 9: clac; hlt");
	m->v->rip = CODE_AT;
	m->v->gpr[RAX] = 0;
	m->v->gpr[RCX] = 5000;
	m->v->gpr[RSI] = USER_PAGE;
	engine_bt.run(m->v);
	assert_int_equal(m->v->gpr[RAX], 5000 * peek64(m, USER_PAGE));
	assert_int_equal(m->v->gpr[RCX], 0);
	assert_in_range(m->v->counters.insns_executor - executed, 1, 10);
	assert_in_range(m->v->counters.blocks_executed - left, 1, 60);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, bt_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_any_edge_after_stac_or_clac_leads_to_the_right_mode),
		TEST(test_edges_after_stac_and_clac_stay_in_generated_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
