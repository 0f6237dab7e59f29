/*
 * bt_spill_test.c - R10 and R11, which translated code has in memory and for moments in its temporaries: random programs that use them all the time leave the same
 * registers, flags and memory through the translator as through the executor, accesses relative to RIP among them, of which some share a look-up, and
 * runs of pushes and pops, at the ends of pages, too. And prefetches, which use the same temporaries: they change nothing, wherever they lead.
 */
#include "bt_machine.h"

#include "bt/bt_internal.h"

enum { WINDOW = DATA, WINDOW_SIZE = 0x1000, CODE64 = DATA + 0x10000, TOP = DATA + 0x21000, CASES = 20000, MOST = 12 };

static uint32_t below(uint32_t n)
{
	rnd();
	return (uint32_t)(seed >> 33) % n;
}

static uint8_t any_register(void)
{
	static const uint8_t registers[] = { R10, R11, R10, R11, R10, R11, RAX, RBX, RCX, R8 };

	return registers[below(ARRAY_LEN(registers))];
}

static unsigned put_rex(uint8_t *out, bool wide, uint8_t reg, uint8_t index, uint8_t base)
{
	*out = (uint8_t)(0x40 | wide << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3);
	return 1;
}

/* An instruction of one opcode byte, or of two with 0F in `opcode`, on two registers or on one and memory; at this address. */
static unsigned put_op(uint8_t *out, uint64_t at, uint16_t opcode, bool memory)
{
	const uint8_t reg = any_register(), base = any_register(), index = any_register();
	const bool wide = below(3), indexed = memory && !below(4);
	unsigned n = 0;

	if (!below(12) && opcode != 0x63)
		out[n++] = 0x66;
	n += put_rex(out + n, wide, reg, indexed ? index : 0, base);
	if (opcode >> 8)
		out[n++] = 0x0f;
	out[n++] = (uint8_t)opcode;
	if (!memory) {
		out[n++] = (uint8_t)(0xc0 | (reg & 7) << 3 | (base & 7));
		return n;
	}
	if (!indexed && !below(3)) { /* [rip + n] */
		out[n++] = (uint8_t)((reg & 7) << 3 | 5);
		store_u32(out + n, (uint32_t)(WINDOW + 4 * below(80) - (at + n + 4)));
		return n + 4;
	}
	out[n++] = (uint8_t)(0x40 | (reg & 7) << 3 | (indexed ? 4 : base & 7));
	if (indexed)
		out[n++] = (uint8_t)((index & 7) << 3 | (base & 7)); /* all of these may be bases, and indices */
	out[n++] = (uint8_t)(8 * below(12));
	return n;
}

/* What prologues and epilogues are made of: PUSH and POP, most of all, with MOV, LEA and XOR on registers between them; and ADC and INC, which want flags. */
static unsigned put_of_run(uint8_t *out, bool push)
{
	const uint8_t reg = any_register(), from = any_register();
	unsigned n;

	switch (below(10)) {
	case 0:
		n = put_rex(out, below(2), reg, 0, from);
		out[n++] = (uint8_t[]){ 0x8b, 0x8b, 0x8b, 0x33, 0x13 }[below(5)];
		out[n++] = (uint8_t)(0xc0 | (reg & 7) << 3 | (from & 7));
		return n;
	case 2: /* INC from */
		n = put_rex(out, below(2), 0, 0, from);
		out[n++] = 0xff;
		out[n++] = (uint8_t)(0xc0 | (from & 7));
		return n;
	case 1: /* LEA reg, [from + n] */
		n = put_rex(out, below(2), reg, 0, from);
		out[n++] = 0x8d;
		out[n++] = (uint8_t)(0x40 | (reg & 7) << 3 | (from & 7));
		out[n++] = 8;
		return n;
	default:
		n = put_rex(out, false, 0, 0, reg);
		out[n++] = (uint8_t)((push ? 0x50 : 0x58) | (reg & 7));
		return n;
	}
}

static unsigned put_instruction(uint8_t *out, uint64_t at)
{
	/* MOV both ways, ADD, ADC, CMP, XCHG, MOVSXD, LEA; MOVZX, MOVSX, CMOVB, CMOVNE, XADD. */
	static const uint16_t opcodes[] = { 0x8b, 0x8b, 0x89, 0x89, 0x03, 0x01, 0x13, 0x39, 0x87, 0x63, 0x8d, 0x8d, 0xfb6, 0xfb7, 0xfbe, 0xf42, 0xf45, 0xfc1 };
	const uint16_t opcode = opcodes[below(ARRAY_LEN(opcodes))];
	const uint8_t reg = any_register();
	unsigned n = 0;

	switch (below(12)) {
	case 0: /* MOV reg32, imm32: a place in the window */
		n = put_rex(out, false, 0, 0, reg);
		out[n++] = (uint8_t)(0xb8 | (reg & 7));
		store_u32(out + n, WINDOW + 8 * below(WINDOW_SIZE / 8 - 64));
		return n + 4;
	case 1: /* PUSH, POP */
		n = put_rex(out, false, 0, 0, reg);
		out[n++] = (uint8_t)((below(2) ? 0x50 : 0x58) | (reg & 7));
		return n;
	case 2: /* LEA reg, [rip + n] */
		n = put_rex(out, true, reg, 0, 0);
		out[n++] = 0x8d;
		out[n++] = (uint8_t)((reg & 7) << 3 | 5);
		store_u32(out + n, (uint32_t)(WINDOW - CODE64 + 8 * below(64)));
		return n + 4;
	case 3: /* PREFETCHT0, PREFETCHW [base + n], as often as not where nothing is */
		n = put_rex(out, false, 0, 0, reg);
		out[n++] = 0x0f;
		out[n++] = below(2) ? 0x18 : 0x0d;
		out[n++] = (uint8_t)(0x80 | 1 << 3 | (reg & 7));
		store_u32(out + n, below(2) ? 8 : 0x40000000);
		return n + 4;
	default:
		return put_op(out, at, opcode, opcode == 0x8d || below(2));
	}
}

/* The frame is that of a fault with an error code: #PF, or the #GP of the HLT at the end. */
struct result { uint64_t gpr[16], rip, frame[6]; uint8_t window[WINDOW_SIZE], stack[0x2000]; };

struct program { uint8_t code[MOST * 15 + 1], window[WINDOW_SIZE], stack[0x2000]; unsigned len; uint64_t gpr[16]; uint32_t flags; };

static void run_program(struct machine *m, const struct program *p, bool translated, struct result *r)
{
	struct vcpu *v = m->v;

	set_flat_segments(v, 3);
	memcpy(v->gpr, p->gpr, sizeof(v->gpr));
	v->rflags = FL_R1 | p->flags;
	v->halted = 0;
	v->rip = CODE64;
	poke(m, WINDOW, p->window, WINDOW_SIZE);
	poke(m, CODE64, p->code, p->len); /* the program may have written there, too */
	poke(m, TOP - sizeof(p->stack), p->stack, sizeof(p->stack));
	run_by(m, translated);
	assert_true(v->halted);
	fpu_save(v);
	memcpy(r->gpr, v->gpr, sizeof(r->gpr));
	r->rip = v->rip;
	memory_read(&m->memory, gpa(v->gpr[RSP]), r->frame, sizeof(r->frame));
	memory_read(&m->memory, gpa(WINDOW), r->window, WINDOW_SIZE);
	memory_read(&m->memory, gpa(TOP - sizeof(r->stack)), r->stack, sizeof(r->stack));
}

static void report(const struct result *r, const struct program *p)
{
	char text[100];

	for (unsigned at = 0; at < p->len;) {
		struct insn in;

		if (insn_decode(&in, p->code + at, 15, INSN_MODE_64))
			break;
		insn_format(&in, CODE64 + at, text, sizeof(text));
		print_message("  %x: %s\n", CODE64 + at, text);
		at += in.len;
	}
	for (unsigned i = 0; i < 16; i++)
		if (r[0].gpr[i] != r[1].gpr[i])
			print_message("  register %u: executor %lx, translator %lx\n", i, r[0].gpr[i], r[1].gpr[i]);
	for (unsigned i = 0; i < ARRAY_LEN(r->frame); i++)
		if (r[0].frame[i] != r[1].frame[i])
			print_message("  frame[%u]: executor %lx, translator %lx\n", i, r[0].frame[i], r[1].frame[i]);
}

static void compare_programs(struct bt_machine *b)
{
	static struct result r[2];
	static struct program p;
	unsigned ended = 0;

	host_fault_take_signals(); /* cmocka takes them for each test */
	for (uint64_t i = 0; i < 16; i++) /* only the window, the code and the stack are a user's */
		if (i != 2)
			poke64(b->m, PD + 8 * i, i << 21 | PTE_P | PTE_W | PTE_PS);
	for (uint64_t i = 0; i < 512; i++) {
		const uint64_t va = DATA + (i << 12);
		const bool user = va == WINDOW || va == CODE64 || va == TOP - 0x1000 || va == TOP - 0x2000;

		poke64(b->m, PT + 8 * i, va | PTE_P | PTE_W | (user ? PTE_U : 0));
	}
	mmu_set_cr3(&b->m->v->mmu, PML4);
	for (unsigned i = 0; i < sizeof(p.stack); i += 8)
		store_u64(p.stack + i, below(2) ? WINDOW + 8 * below(WINDOW_SIZE / 8 - 64) : rnd());
	for (unsigned number = 0; number < CASES; number++) {
		p.len = 0;
		p.flags = FL_ARITH & below(0x1000);
		const unsigned runs = below(4); /* 0: of pushes, 1: of pops, else none */

		for (unsigned n = 2 + below(MOST - 1); n; n--)
			p.len += runs < 2 && below(8) ? put_of_run(p.code + p.len, !runs) : put_instruction(p.code + p.len, CODE64 + p.len);
		p.code[p.len++] = 0xf4; /* HLT */
		for (unsigned i = 0; i < 16; i++)
			p.gpr[i] = WINDOW + 8 * below(WINDOW_SIZE / 8 - 64);
		p.gpr[RSP] = TOP - 0x100;
		if (!below(4)) /* where a run crosses into another page, or into where nothing is */
			p.gpr[RSP] = TOP - (below(3) ? 0x1000 : below(2) ? 0x2000 : 0) + 8 * below(16) - 8 * 8 + below(2) * below(8);
		for (unsigned i = 0; i < WINDOW_SIZE; i += 8)
			store_u64(p.window + i, below(5) ? WINDOW + 8 * below(WINDOW_SIZE / 8 - 64) : rnd());
		for (unsigned k = 0; k < 2; k++)
			run_program(b->m, &p, k, &r[k]);
		ended += r[0].frame[1] == CODE64 + p.len - 1;
		if (r[0].frame[1] != CODE64 + p.len - 1) /* at a fault flags that no longer matter may be anything (docs/translator.md, "Flags") */
			r[0].frame[3] = r[1].frame[3] = 0;
		if (memcmp(&r[0], &r[1], sizeof(r[0]))) {
			report(r, &p);
			fail_msg("program %u differs", number);
		}
	}
	assert_true(ended > CASES / 4);
}

static void test_random_programs(void **state)
{
	struct bt_machine *b = *state;

	compare_programs(b);
	b->tune.on[TUNE_SPANS] = false;
	compare_programs(b);
}

/* Sees the host's own prefetch in the code that was made. */
static unsigned prefetches_in(const struct bt *bt, unsigned hint)
{
	static const uint8_t head[] = { 0x41, 0x0f, 0x18 }; /* of [r10] */
	unsigned n = 0;

	for (const uint8_t *p = bt->hot_start; p + 4 <= bt->part[0].hot; p++)
		n += !memcmp(p, head, sizeof(head)) && p[3] == (hint << 3 | (R10 & 7));
	return n;
}

static void test_prefetches_are_carried_out(void **state)
{
	struct bt_machine *b = *state;

	for (unsigned on = 0; on < 2; on++) {
		b->tune.on[TUNE_PREFETCH] = on;
		bt_flush(b->state);
		CODE(b->m, "stc; mov $0, %eax; mov $0x123456789abc, %rcx; prefetcht0 (%rcx); prefetchnta 8(%rsp); prefetcht0 8(%rsp,%rax,4); adc $7, %eax; hlt");
		b->m->v->halted = 0;
		host_fault_take_signals();
		engine_bt.run(b->m->v);
		assert_int_equal(b->m->v->exit.kind, EXIT_HLT_FOREVER);
		assert_int_equal(b->m->v->gpr[RAX], 8);
		assert_int_equal(prefetches_in(b->state, 0), on ? 1 : 0);
		assert_int_equal(prefetches_in(b->state, 1), on ? 2 : 0);
	}
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, bt_setup, bt_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_random_programs),
		TEST(test_prefetches_are_carried_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
