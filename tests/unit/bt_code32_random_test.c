/*
 * bt_code32_random_test.c - random 32-bit programs at CPL 3 leave the same registers, flags, memory and fault through the translator as through the
 * executor. With --tune precise-flags=on everything must agree; without, all but flags that the manual leaves open and flags at a fault.
 *
 * Programs are straight-line pieces of random bytes that decode to integer, stack and string instructions; general registers point
 * into a window of two pages, beyond which nothing is there for a user.
 */
#include "bt_machine.h"

enum { WINDOW = DATA, WINDOW_SIZE = 0x2000, CODE32 = DATA + 0x10000, TOP = DATA + 0x21000 /* of a stack of one page */, CS32 = 0x40, DS32 = 0x48, CASES = 6000 };

static struct machine *m;
static struct tune *tune;

static uint32_t below(uint32_t n)
{
	rnd();
	return (uint32_t)(seed >> 33) % n;
}

static int setup(void **state)
{
	struct bt_machine *b;

	bt_setup(state);
	b = *state;
	m = b->m;
	tune = &b->tune;
	poke64(m, GDT + CS32, 0x00cffb000000ffff);
	poke64(m, GDT + DS32, 0x00cff3000000ffff);
	m->v->gdtr.limit = DS32 + 7;
	for (uint64_t i = 0; i < 16; i++) /* only the window, the code and the stack are a user's */
		if (i != 2)
			poke64(m, PD + 8 * i, i << 21 | PTE_P | PTE_W | PTE_PS);
	for (uint64_t i = 0; i < 512; i++) {
		const uint64_t va = DATA + (i << 12);
		const bool user = va < WINDOW + WINDOW_SIZE || va == CODE32 || va == TOP - 0x1000;

		poke64(m, PT + 8 * i, va | PTE_P | PTE_W | (user ? PTE_U : 0));
	}
	mmu_set_cr3(&m->v->mmu, PML4);
	return 0;
}

static bool wanted(const struct insn *in)
{
	static const uint8_t classes[] = { INSN_PLAIN, INSN_NOP, INSN_PUSH, INSN_POP, INSN_PUSHF, INSN_LEAVE, INSN_ENTER, INSN_PUSHA, INSN_POPA, INSN_MOVS,
		INSN_STOS, INSN_LODS, INSN_CMPS, INSN_SCAS, INSN_XLAT, INSN_BCD, INSN_BT_MEM, INSN_CLD, INSN_STD, INSN_MOV_FROM_SEG };

	if (in->need || in->feature & (FEATURE(RDRAND) | FEATURE(RDSEED)))
		return false;
	for (unsigned i = 0; i < ARRAY_LEN(classes); i++)
		if (in->cls == classes[i])
			return true;
	return false;
}

/* One instruction; its length. */
static unsigned instruction(uint8_t *out, uint32_t *undefined)
{
	static const uint8_t prefixes[] = { 0x66, 0x66, 0x66, 0x64, 0x65, 0x26, 0x2e, 0x36, 0x3e, 0xf0, 0xf2, 0xf3, 0xf3, 0x67 };
	struct insn in;

	for (;;) {
		unsigned n = 0;
		uint8_t modrm = (uint8_t)below(256);

		while (below(4) == 0 && n < 3)
			out[n++] = prefixes[below(ARRAY_LEN(prefixes))];
		if (below(4) == 0)
			out[n++] = 0x0f;
		out[n++] = (uint8_t)below(256);
		if ((modrm & 0xc0) == 0x80) /* long displacements seldom stay in the window */
			modrm ^= 0xc0;
		out[n++] = modrm;
		for (unsigned i = n; i < 15; i++)
			out[i] = (uint8_t)(below(3) ? below(256) : below(16));
		if ((modrm & 0xc7) == 5)
			store_u32(out + n, WINDOW + below(WINDOW_SIZE));
		if (insn_decode(&in, out, 15, INSN_MODE_32) || !wanted(&in) || (in.fl_read & *undefined) || (in.cls == INSN_PUSHF && *undefined))
			continue;
		*undefined = (*undefined & ~in.fl_kill) | in.fl_undef;
		return in.len;
	}
}

struct result { uint64_t gpr[16], frame[7], rip, cr2; uint8_t window[WINDOW_SIZE], stack[0x1000]; };

static void start(const uint64_t gpr[16], const uint8_t window[WINDOW_SIZE], uint32_t flags)
{
	struct vcpu *v = m->v;
	static const uint8_t zero[0x1000];

	v->seg[SEG_CS] = (struct segment){ .limit = ~0u, .selector = CS32 | 3, .attr = 0xcfb };
	v->seg[SEG_SS] = v->seg[SEG_DS] = v->seg[SEG_ES] = v->seg[SEG_FS] = v->seg[SEG_GS] = (struct segment){ .limit = ~0u, .selector = DS32 | 3, .attr = 0xcf3 };
	v->seg[SEG_FS].base = 0x300;
	v->seg[SEG_GS].base = 0xfffff000;
	memcpy(v->gpr, gpr, sizeof(v->gpr));
	v->rflags = FL_R1 | flags;
	v->cpl = 3;
	v->halted = 0;
	v->cr2 = 0;
	v->rip = CODE32;
	poke(m, WINDOW, window, WINDOW_SIZE);
	poke(m, TOP - 0x1000, zero, 0x1000);
}

static void take(struct result *r)
{
	struct vcpu *v = m->v;

	fpu_save(v);
	memcpy(r->gpr, v->gpr, sizeof(r->gpr));
	r->rip = v->rip;
	r->cr2 = v->cr2;
	assert_int_equal(memory_read(&m->memory, gpa(STACK - 56), r->frame, sizeof(r->frame)), 0);
	if (v->rip < HANDLERS + 16 * 14 && v->rip > HANDLERS + 16 * 7) /* not compared otherwise: no error code */
		r->frame[0] = 0;
	memory_read(&m->memory, gpa(WINDOW), r->window, WINDOW_SIZE);
	memory_read(&m->memory, gpa(TOP - 0x1000), r->stack, 0x1000);
}

static bool alike(struct result *a, struct result *b, uint32_t open)
{
	const bool end = a->rip == HANDLERS + 16 * VEC_GP + 1; /* the HLT that ends the program, or a fault like it */

	a->frame[4] &= ~(uint64_t)open;
	b->frame[4] &= ~(uint64_t)open;
	if (!end && open) {
		a->frame[4] |= FL_ARITH;
		b->frame[4] |= FL_ARITH;
	}
	return !memcmp(a, b, sizeof(*a));
}

static void report(const struct result *a, const struct result *b, const uint8_t *code, unsigned len, unsigned number)
{
	char text[100];

	print_message("program %u, ended at %lx with error %lx:\n", number, a->frame[2], a->frame[1]);
	for (unsigned at = 0; at < len;) {
		struct insn in;

		if (insn_decode(&in, code + at, 15, INSN_MODE_32))
			break;
		insn_format(&in, CODE32 + at, text, sizeof(text));
		print_message("  %x: %s\n", CODE32 + at, text);
		at += in.len;
	}
	for (unsigned i = 0; i < 16; i++)
		if (a->gpr[i] != b->gpr[i])
			print_message("  register %u: executor %lx, translator %lx\n", i, a->gpr[i], b->gpr[i]);
	for (unsigned i = 0; i < 7; i++)
		if (a->frame[i] != b->frame[i])
			print_message("  frame[%u]: executor %lx, translator %lx\n", i, a->frame[i], b->frame[i]);
	if (a->rip != b->rip || a->cr2 != b->cr2)
		print_message("  handler %lx cr2 %lx, translator %lx %lx\n", a->rip, a->cr2, b->rip, b->cr2);
}

static void compare_programs(bool precise)
{
	static struct result by_executor, by_translator;
	static uint8_t window[WINDOW_SIZE];
	unsigned ended = 0;

	tune->on[TUNE_PRECISE_FLAGS] = precise;
	host_fault_take_signals();
	for (unsigned number = 0; number < CASES; number++) {
		uint32_t undefined = 0, flags = below(2) ? FL_ARITH & below(0x1000) : 0;
		uint8_t code[200] = { 0 };
		unsigned len = 0, steps = 0;
		uint64_t gpr[16];

		for (unsigned n = 1 + below(8); n; n--)
			len += instruction(code + len, &undefined);
		code[len] = 0xf4; /* HLT: #GP for a user */
		memset(code + len + 1, 0xf4, 15);
		for (unsigned r = 0; r < 16; r++)
			gpr[r] = (uint64_t)below(3) << 33 | (below(4) ? WINDOW + 0x200 + below(WINDOW_SIZE - 0x400) : below(64));
		gpr[RCX] = below(3) ? below(40) : gpr[RCX];
		gpr[RSP] = TOP - 0x400 + 4 * below(16) + (below(8) ? 0 : below(4));
		for (unsigned i = 0; i < WINDOW_SIZE; i += 4)
			store_u32(window + i, below(4) ? below(0x7fffffff) : WINDOW + below(WINDOW_SIZE));
		poke(m, CODE32, code, sizeof(code));
		start(gpr, window, flags);
		while (!m->v->halted && steps++ < 100000)
			if (exec_step(m->v) != EXEC_NEXT)
				break;
		assert_true(m->v->halted);
		take(&by_executor);
		start(gpr, window, flags);
		engine_bt.run(m->v);
		assert_int_equal(m->v->exit.kind, EXIT_HLT_FOREVER);
		take(&by_translator);
		ended += by_executor.frame[2] == CODE32 + len;
		if (!alike(&by_executor, &by_translator, precise ? 0 : undefined | (by_executor.frame[2] == CODE32 + len ? 0 : FL_ARITH))) {
			report(&by_executor, &by_translator, code, len, number);
			fail_msg("they differ");
		}
	}
	assert_true(ended > CASES / 10); /* programs that get to their end */
}

static void test_with_flags_kept_exactly_nothing_differs(void **state) { (void)state; compare_programs(true); }
static void test_without_nothing_differs_that_counts(void **state) { (void)state; compare_programs(false); }

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, bt_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = { TEST(test_with_flags_kept_exactly_nothing_differs), TEST(test_without_nothing_differs_that_counts) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
