/*
 * bt_machine.h - the executor's test machine (cpu_machine.h) with the translator started on it; what the tests of the translator share. A handler of each
 * vector is a HLT.
 */
#ifndef UNIT_BT_MACHINE_H
#define UNIT_BT_MACHINE_H

#include "cpu_machine.h"

#include "cpu/engine.h"

struct bt_machine { struct machine *m; void *state; struct tune tune; };

/* Code at `at`. */
#define CODE_TO(m, at, text)                                                 \
	do {                                                                 \
		uint8_t code_[64];                                           \
		CODE(m, text);                                               \
		memory_read(&(m)->memory, gpa(CODE_AT), code_, sizeof(code_)); \
		poke(m, at, code_, sizeof(code_));                           \
	} while (0)

/* Random numbers; a test that wants a case twice puts the seed back. */
static uint64_t seed = 1;
static inline uint64_t rnd(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return seed >> 33 ^ seed << 31;
}
static inline bool one_in(unsigned n) { return rnd() % n == 0; }

/* Until the machine stops, by the executor or as the translator has it; true if only the last two instructions, UD2 and its handler's HLT, were the executor's. */
static inline bool run_by(struct machine *m, bool translated)
{
	const uint64_t executed = m->v->counters.insns_executor;

	if (translated)
		engine_bt.run(m->v);
	else
		while (exec_step(m->v) == EXEC_NEXT)
			;
	return m->v->counters.insns_executor - executed <= 2;
}

/* A cmocka set-up: *state is a struct bt_machine. */
static inline int bt_setup(void **state)
{
	struct bt_machine *b = calloc(1, sizeof(*b));
	uint8_t hlt = 0xf4;

	b->m = machine_new(PAGING_NESTED);
	tune_defaults(&b->tune);
	b->m->memory.tune = &b->tune;
	assert_int_equal(engine_bt.vm_init(&b->m->memory, &b->state), 0);
	assert_int_equal(engine_bt.vcpu_init(b->m->v, b->state), 0);
	assert_int_equal(engine_bt.thread_start(b->m->v), 0);
	b->m->v->kick = engine_bt.kick;
	for (unsigned i = 0; i < 32; i++)
		poke(b->m, HANDLERS + 16 * i, &hlt, 1);
	*state = b;
	return 0;
}

static inline int bt_teardown(void **state)
{
	struct bt_machine *b = *state;

	engine_bt.vcpu_destroy(b->m->v);
	engine_bt.vm_destroy(b->state);
	machine_free(b->m);
	free(b);
	return 0;
}

#endif
