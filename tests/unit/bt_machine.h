/*
 * bt_machine.h - the executor's test machine (cpu_machine.h) with the translator started on it; what the tests of the translator share. A handler of each
 * vector is a HLT.
 */
#ifndef UNIT_BT_MACHINE_H
#define UNIT_BT_MACHINE_H

#include "cpu_machine.h"

#include "cpu/engine.h"

struct bt_machine { struct machine *m; void *state; struct tune tune; };

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
