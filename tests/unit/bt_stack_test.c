/*
 * bt_stack_test.c - runs of PUSHes, and of POPs and a RET, with other instructions in between (src/bt/lower_stack.c), as functions begin and end: whatever stands there, and wherever the stack ends,
 * the same result as by the executor.
 */
#include "bt_machine.h"

#include "bt/bt_internal.h"

enum { LOW = DATA, HIGH = DATA + PAGE_SIZE /* the stack's two pages */, LONGEST = 14 };

static struct machine *m;

static int setup(void **state)
{
	bt_setup(state);
	m = ((struct bt_machine *)*state)->m;
	seed = 1;
	set_gate(m, VEC_UD, 0xe, 0, 1, true, KERNEL_CS);
	set_gate(m, VEC_PF, 0xe, 0, 1, true, KERNEL_CS);
	set_gate(m, VEC_GP, 0xe, 0, 1, true, KERNEL_CS);
	return 0;
}

static uint8_t *modrm(uint8_t *p, unsigned opcode, unsigned reg, unsigned rm)
{
	*p++ = (uint8_t)(0x48 | (reg & 8) >> 1 | rm >> 3);
	if (opcode > 0xff)
		*p++ = 0x0f;
	*p++ = (uint8_t)opcode;
	*p++ = (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7));
	return p;
}

/* Any register, RSP only to read it. */
static unsigned any(void) { return rnd() % 16; }
static unsigned not_rsp(void)
{
	unsigned r = any();

	return r == RSP ? RBX : r;
}

static uint8_t *one(uint8_t *p, bool pops)
{
	static const uint8_t alu[] = { 0x01, 0x09, 0x11, 0x19, 0x21, 0x29, 0x31, 0x39, 0x85, 0x89 };
	unsigned r = one_in(12) && !pops ? RSP : not_rsp();

	switch (rnd() % 10) {
	case 0:
		*p++ = pops ? 0x90 : 0x6a; /* no address for RET to take */
		*p++ = pops ? 0x90 : (uint8_t)rnd();
		return p;
	case 1:
		return modrm(p, alu[rnd() % sizeof(alu)], any(), not_rsp());
	case 2:
		return modrm(p, 0x89, one_in(3) ? RSP : any(), not_rsp());
	case 3:
		return modrm(p, one_in(2) ? 0xff : 0xd1, one_in(2) ? 0 : 1, not_rsp()); /* inc, dec, rol, ror */
	case 4:
		return modrm(p, 0x142, not_rsp(), any()); /* cmovb */
	case 5: /* sub or add $8 or $24, %rsp */
		*p++ = 0x48, *p++ = 0x83, *p++ = one_in(2) ? 0xec : 0xc4, *p++ = one_in(2) ? 8 : 24;
		return p;
	default:
		if (r >= 8)
			*p++ = 0x41;
		*p++ = (uint8_t)((pops ? 0x58 : 0x50) | (r & 7));
		return p;
	}
}

struct outcome { uint64_t gpr[16], rip, rflags, cr2, frame[6]; uint8_t memory[2 * PAGE_SIZE]; };

static void outcome(uint64_t at, bool translated, bool *bare, struct outcome *o)
{
	struct vcpu *v = m->v;
	uint8_t fill[PAGE_SIZE];
	bool ended;

	seed = at;
	for (unsigned i = 0; i < 2; i++) {
		memset(fill, (int)rnd() | 1, sizeof(fill));
		for (unsigned k = 0; k < PAGE_SIZE; k += 8) /* words that RET may take: the code's last instructions, mostly */
			if (one_in(2))
				store_u64(fill + k, CODE_AT + 8 * LONGEST - 2 - (one_in(3) ? 1 : 0));
		poke(m, LOW + i * PAGE_SIZE, fill, sizeof(fill));
		set_page(m, LOW + i * PAGE_SIZE, one_in(12) ? 0 : (LOW + i * PAGE_SIZE) | PTE_P | (one_in(12) ? 0 : PTE_W));
	}
	for (unsigned i = 0; i < 16; i++)
		v->gpr[i] = rnd();
	v->gpr[RSP] = HIGH + (one_in(2) ? 0x800 : rnd() % (8 * LONGEST));
	v->rflags = FL_R1 | (rnd() & FL_ARITH);
	v->cr2 = 0;
	v->rip = CODE_AT;
	v->halted = 0;
	host_fault_take_signals(); /* cmocka takes them for each test */
	*bare = run_by(m, translated);
	ended = v->rip == HANDLERS + 16 * VEC_UD + 1;
	memset(o, 0, sizeof(*o));
	memcpy(o->gpr, v->gpr, sizeof(o->gpr));
	for (unsigned i = 0; i < ARRAY_LEN(o->frame); i++)
		o->frame[i] = peek64(m, v->gpr[RSP] + 8 * i);
	if (!ended) /* flags that were about to be overwritten */
		o->frame[3] &= ~(uint64_t)FL_ARITH;
	o->rip = v->rip, o->rflags = v->rflags & ~(ended ? 0 : (uint64_t)FL_ARITH), o->cr2 = v->cr2;
	assert_int_equal(memory_read(&m->memory, gpa(LOW), o->memory, sizeof(o->memory)), 0);
}

static void test_runs_of_the_stack_with_others_between_them(void **state)
{
	static struct outcome a, b;
	unsigned to_the_end = 0, bare = 0;

	for (unsigned i = 0; i < 6000; i++) {
		uint8_t code[8 * LONGEST], *p = code;
		const bool pops = one_in(2);
		uint64_t at;
		bool alone;

		for (unsigned n = 2 + rnd() % (LONGEST - 1); n-- > 0;)
			p = one(p, pops);
		if (pops && one_in(2)) {
			*p++ = 0xc3; /* ret */
			while (p < code + sizeof(code) - 2) /* most of the stack leads nowhere canonical: those returns fault */
				*p++ = 0x90;
		}
		*p++ = 0x0f, *p++ = 0x0b; /* ud2 */
		poke(m, CODE_AT, code, (size_t)(p - code));
		bt_flush(((struct bt_machine *)*state)->state);
		at = seed;
		outcome(at, false, &alone, &a);
		outcome(at, true, &alone, &b);
		to_the_end += a.rip == HANDLERS + 16 * VEC_UD + 1;
		bare += alone;
		for (unsigned k = 0; k < sizeof(a.memory); k++)
			if (a.memory[k] != b.memory[k])
				fail_msg("case %u: byte %#x of the stack is %#x by the executor, %#x", i, LOW + k, a.memory[k], b.memory[k]);
		if (memcmp(&a, &b, sizeof(a)))
			fail_msg("case %u: rip %#lx and %#lx, rsp %#lx and %#lx, cr2 %#lx and %#lx, frame's flags %#lx and %#lx", i, a.rip, b.rip, a.frame[4], b.frame[4], a.cr2, b.cr2, a.frame[3],
				 b.frame[3]);
	}
	assert_in_range(to_the_end, 4000, 6000);
	assert_in_range(bare, 4000, 6000); /* the executor had the last instruction only */
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, bt_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_runs_of_the_stack_with_others_between_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
