/* cpu_lapic_test.c - the local APIC: priorities, messages, timer, xAPIC and x2APIC rules; see cpu/lapic.h. */
#include "cpu_machine.h"

#include <pthread.h>

#include "base/clock.h"
#include "cpu/lapic_internal.h"
#include "cpu/msr.h"

enum { R_ID = 0x20, R_VERSION = 0x30, R_TPR = 0x80, R_PPR = 0xa0, R_EOI = 0xb0, R_LDR = 0xd0, R_DFR = 0xe0, R_SVR = 0xf0, R_ISR = 0x100,
       R_TMR = 0x180, R_IRR = 0x200, R_ESR = 0x280, R_ICR = 0x300, R_ICR_HIGH = 0x310, R_TIMER = 0x320, R_INITIAL = 0x380, R_CURRENT = 0x390,
       R_DIVIDE = 0x3e0, R_SELF = 0x3f0 };

static int set_up(void **state)
{
	struct machine *m = machine_new(PAGING_NESTED);

	assert_int_equal(lapic_write(m->v, R_SVR, 0x1ff), 0);
	*state = m;
	return 0;
}

static int tear_down(void **state)
{
	machine_free(*state);
	return 0;
}

static uint64_t get(struct machine *m, uint32_t offset)
{
	uint64_t value;

	assert_int_equal(lapic_read(m->v, offset, &value), 0);
	return value;
}

static void post(struct machine *m, uint8_t vector, bool level)
{
	struct irq_message msg = { .vector = vector, .level = level };

	lapic_post(m->v, &msg);
}

static void a_message_becomes_pending_in_service_and_done(void **state)
{
	struct machine *m = *state;

	post(m, 0x41, false);
	assert_true(atomic_load(&m->v->pending) & REQ_INTERRUPT);
	assert_int_equal(get(m, R_IRR + 0x20), 1u << 1);
	assert_int_equal(lapic_ack(m->v), 0x41);
	assert_int_equal(get(m, R_IRR + 0x20), 0);
	assert_int_equal(get(m, R_ISR + 0x20), 1u << 1);
	assert_int_equal(get(m, R_PPR), 0x40);
	lapic_write(m->v, R_EOI, 0);
	assert_int_equal(get(m, R_ISR + 0x20), 0);
}

struct poster { struct machine *m; _Atomic bool stop; };

static void *post_higher(void *arg)
{
	struct poster *p = arg;

	while (!atomic_load(&p->stop)) {
		post(p->m, 0x91, false);
		while (!atomic_load(&p->stop) && (atomic_load(&p->m->v->lapic.irr[4]) & 1u << 17))
			;
	}
	return 0;
}

/* The deliverer must not enter the handler of one vector and put another, which came meanwhile, in service. */
static void the_handler_entered_is_that_of_the_vector_in_service(void **state)
{
	struct machine *m = *state;
	struct poster p = { .m = m };
	unsigned low = 0, high = 0;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, 0, post_higher, &p), 0);
	for (unsigned round = 0; round < 200000; round++) {
		lapic_raise(m->v, 0x41);
		do {
			m->v->rip = CODE_AT;
			m->v->gpr[RSP] = STACK;
			m->v->rflags |= FL_IF;
			exec_interrupts(m->v);
			if (m->v->rip == HANDLERS + 16 * 0x91)
				high++;
			else if (m->v->rip == HANDLERS + 16 * 0x41)
				low++;
			if (m->v->rip != CODE_AT)
				assert_int_equal(m->v->lapic.isr[4] ? 0x91 : 0x41, (m->v->rip - HANDLERS) / 16);
			lapic_write(m->v, R_EOI, 0);
		} while (atomic_load(&m->v->pending) & REQ_INTERRUPT);
	}
	atomic_store(&p.stop, true);
	assert_int_equal(pthread_join(thread, 0), 0);
	assert_true(low >= 100000);
	assert_true(high > 0);
}

static void a_vector_of_the_same_class_waits_for_the_end_of_the_first(void **state)
{
	struct machine *m = *state;

	post(m, 0x41, false);
	assert_int_equal(lapic_ack(m->v), 0x41);
	post(m, 0x4f, false);
	assert_int_equal(lapic_pending(m->v), -1);
	post(m, 0x50, false);
	assert_int_equal(lapic_ack(m->v), 0x50);
	lapic_write(m->v, R_EOI, 0);
	assert_int_equal(lapic_pending(m->v), -1);
	atomic_store(&m->v->pending, 0);
	lapic_write(m->v, R_EOI, 0);
	assert_int_equal(lapic_pending(m->v), 0x4f);
	assert_true(atomic_load(&m->v->pending) & REQ_INTERRUPT);
}

static void the_task_priority_holds_back_its_class_and_below(void **state)
{
	struct machine *m = *state;

	lapic_write(m->v, R_TPR, 0x50);
	assert_int_equal(lapic_get_cr8(m->v), 5);
	post(m, 0x5f, false);
	assert_int_equal(lapic_pending(m->v), -1);
	lapic_set_cr8(m->v, 4);
	assert_int_equal(get(m, R_TPR), 0x40);
	assert_int_equal(lapic_pending(m->v), 0x5f);
}

static void a_disabled_apic_takes_no_fixed_interrupts(void **state)
{
	struct machine *m = *state;

	lapic_write(m->v, R_SVR, 0xff);
	post(m, 0x41, false);
	assert_int_equal(get(m, R_IRR + 0x20), 0);
	assert_true(get(m, R_TIMER) & 1u << 16);
	lapic_write(m->v, R_TIMER, 0x41);
	assert_true(get(m, R_TIMER) & 1u << 16); /* stays masked */
}

static uint8_t ended;
static void note_end(void *opaque, uint8_t vector)
{
	(void)opaque;
	ended = vector;
}

static void only_level_interrupts_are_told_to_the_io_apic(void **state)
{
	struct machine *m = *state;

	m->v->lapic.level_eoi = note_end;
	ended = 0;
	post(m, 0x41, false);
	lapic_ack(m->v);
	lapic_write(m->v, R_EOI, 0);
	assert_int_equal(ended, 0);
	post(m, 0x41, true);
	assert_int_equal(get(m, R_TMR + 0x20), 1u << 1);
	lapic_ack(m->v);
	lapic_write(m->v, R_EOI, 0);
	assert_int_equal(ended, 0x41);
}

static void an_interrupt_is_delivered_when_if_allows_it(void **state)
{
	struct machine *m = *state;

	post(m, 0x41, false);
	assert_int_equal(exec_interrupts(m->v), EXEC_NEXT);
	assert_int_equal(m->v->rip, CODE_AT);
	assert_int_equal(m->v->irq_waiting, 1);
	assert_int_equal(atomic_load(&m->v->pending), 0);
	STEP(m, "sti; nop");
	exec_interrupts(m->v); /* in the shadow of STI */
	assert_int_equal(m->v->rip, CODE_AT + 1);
	step(m, 1);
	assert_true(atomic_load(&m->v->pending) & REQ_INTERRUPT);
	exec_interrupts(m->v);
	assert_int_equal(peek64(m, delivered(m, 0x41, -1)), CODE_AT + 2);
	assert_false(m->v->rflags & FL_IF);
}

static void an_nmi_ignores_if_and_masks_itself_until_iret(void **state)
{
	struct machine *m = *state;
	struct irq_message nmi = { .delivery_mode = 4 };

	lapic_post(m->v, &nmi);
	exec_interrupts(m->v);
	delivered(m, VEC_NMI, -1);
	lapic_post(m->v, &nmi);
	exec_interrupts(m->v);
	assert_int_equal(m->v->gpr[RSP], STACK - 40);
	STEP(m, "iretq");
	exec_interrupts(m->v);
	delivered(m, VEC_NMI, -1);
}

static void a_fault_ends_the_interrupt_shadow(void **state)
{
	struct machine *m = *state;

	set_gate(m, VEC_UD, 0xf, 0, 0, true, KERNEL_CS);
	post(m, 0x41, false);
	STEP(m, "sti; ud2");
	exec_interrupts(m->v); /* in the shadow of STI */
	assert_int_equal(m->v->rip, CODE_AT + 1);
	step(m, 1);
	delivered(m, VEC_UD, -1); /* through a trap gate */
	assert_true(atomic_load(&m->v->pending) & REQ_INTERRUPT);
	exec_interrupts(m->v);
	assert_int_equal(peek64(m, delivered(m, 0x41, -1)), HANDLERS + 16 * VEC_UD);
}

static void an_nmi_that_the_shadow_holds_back_ends_hlt(void **state)
{
	struct machine *m = *state;
	struct irq_message nmi = { .delivery_mode = 4 };

	lapic_post(m->v, &nmi);
	m->v->inhibit = INHIBIT_STI;
	exec_interrupts(m->v);
	STEP(m, "hlt");
	assert_false(m->v->halted);
	assert_true(atomic_load(&m->v->pending) & REQ_INTERRUPT);
	exec_interrupts(m->v);
	assert_int_equal(peek64(m, delivered(m, VEC_NMI, -1)), CODE_AT + 1);
}

static void hlt_waits_unless_something_is_deliverable(void **state)
{
	struct machine *m = *state;

	m->v->rflags |= FL_IF;
	CODE(m, "hlt");
	assert_int_equal(exec_step(m->v), EXEC_STOP);
	assert_int_equal(m->v->exit.kind, EXIT_HLT);
	assert_true(m->v->halted);
	assert_int_equal(m->v->rip, CODE_AT + 1);
	post(m, 0x41, false);
	exec_interrupts(m->v);
	assert_false(m->v->halted);
	delivered(m, 0x41, -1);
	m->v->rflags = FL_R1;
	CODE(m, "hlt");
	assert_int_equal(exec_step(m->v), EXEC_STOP);
	assert_int_equal(m->v->exit.kind, EXIT_HLT_FOREVER);
}

static void the_one_shot_timer_counts_down_and_fires_once(void **state)
{
	struct machine *m = *state;
	uint64_t deadline;

	lapic_write(m->v, R_TIMER, 0x41);
	lapic_write(m->v, R_DIVIDE, 0xb);
	lapic_write(m->v, R_INITIAL, 1000000000);
	deadline = atomic_load(&m->v->lapic.deadline_ns);
	assert_in_range(get(m, R_CURRENT), 1, 1000000000);
	assert_int_equal(lapic_timer_poll(m->v, deadline - 1), deadline);
	assert_int_equal(lapic_pending(m->v), -1);
	assert_int_equal(lapic_timer_poll(m->v, deadline), ~0ull);
	assert_int_equal(lapic_ack(m->v), 0x41);
	lapic_write(m->v, R_EOI, 0);
	lapic_timer_poll(m->v, deadline + 5000000000);
	assert_int_equal(lapic_pending(m->v), -1);
}

/* Whoever looks at deadlines may come late: what counts is what the registers said then. */
static void what_was_due_before_a_write_comes_as_it_was_then(void **state)
{
	struct machine *m = *state;

	lapic_write(m->v, R_DIVIDE, 0xb);
	for (unsigned masked = 0; masked < 2; masked++) {
		lapic_write(m->v, R_TIMER, masked ? 0x10041 : 0x41);
		lapic_write(m->v, R_INITIAL, 1000);
		while (clock_ns() < atomic_load(&m->v->lapic.deadline_ns))
			;
		lapic_write(m->v, R_TIMER, masked ? 0x42 : 0x10042);
		assert_int_equal(lapic_timer_poll(m->v, ~0ull - 1), ~0ull);
		assert_int_equal(lapic_pending(m->v), masked ? -1 : 0x41);
		if (!masked) {
			assert_int_equal(lapic_ack(m->v), 0x41);
			lapic_write(m->v, R_EOI, 0);
		}
	}
	/* A count of 0 that is seen has fired. */
	lapic_write(m->v, R_TIMER, 0x41);
	lapic_write(m->v, R_INITIAL, 1000);
	while (get(m, R_CURRENT))
		;
	assert_int_equal(lapic_ack(m->v), 0x41);
}

static void the_periodic_timer_rearms_and_collapses_what_it_missed(void **state)
{
	struct machine *m = *state;
	uint64_t first;

	lapic_write(m->v, R_TIMER, 0x20041);
	lapic_write(m->v, R_DIVIDE, 0);
	lapic_write(m->v, R_INITIAL, 1000);
	first = atomic_load(&m->v->lapic.deadline_ns);
	assert_int_equal(lapic_timer_poll(m->v, first), first + 2000);
	assert_int_equal(lapic_timer_poll(m->v, first + 9000), first + 10000);
	assert_int_equal(lapic_ack(m->v), 0x41);
	lapic_write(m->v, R_EOI, 0);
	assert_int_equal(lapic_pending(m->v), -1);
}

static void a_tsc_deadline_in_the_past_fires_at_once(void **state)
{
	struct machine *m = *state;
	uint64_t now = clock_tsc() + m->v->tsc_offset;

	lapic_write(m->v, R_TIMER, 0x40041);
	lapic_set_tsc_deadline(m->v, now + 100000000000ull);
	assert_int_equal(lapic_get_tsc_deadline(m->v), now + 100000000000ull);
	assert_int_not_equal(atomic_load(&m->v->lapic.deadline_ns), ~0ull);
	assert_int_equal(lapic_pending(m->v), -1);
	lapic_set_tsc_deadline(m->v, now);
	assert_int_equal(lapic_get_tsc_deadline(m->v), 0);
	assert_int_equal(lapic_ack(m->v), 0x41);
	lapic_write(m->v, R_TIMER, 0x41); /* leaving the mode disarms */
	lapic_set_tsc_deadline(m->v, 1);
	assert_int_equal(lapic_pending(m->v), -1);
}

static void the_deadline_is_where_the_tsc_will_be(void **state)
{
	struct machine *m = *state;
	uint64_t now = clock_tsc() + m->v->tsc_offset, ns = clock_ns(), wanted = clock_ns_to_tsc(10000000);

	lapic_write(m->v, R_TIMER, 0x40041);
	lapic_set_tsc_deadline(m->v, now + wanted);
	assert_in_range(atomic_load(&m->v->lapic.deadline_ns) - ns, 9900000, 10100000);
}

static void the_deadline_timer_is_never_early(void **state)
{
	struct machine *m = *state;
	uint64_t deadline;

	lapic_write(m->v, R_TIMER, 0x40041);
	lapic_set_tsc_deadline(m->v, clock_tsc() + m->v->tsc_offset + clock_ns_to_tsc(3000000));
	deadline = atomic_load(&m->v->lapic.deadline_ns);
	/* Polled with a clock that is ahead of the TSC: armed again for the rest. */
	assert_in_range(lapic_timer_poll(m->v, deadline), deadline + 1, deadline + 3000001);
	assert_int_equal(lapic_pending(m->v), -1);
	while (clock_tsc() + m->v->tsc_offset < m->v->lapic.tsc_deadline)
		;
	assert_int_equal(lapic_timer_poll(m->v, deadline + 4000000), ~0ull);
	assert_int_equal(lapic_ack(m->v), 0x41);
}

static void a_deadline_that_has_passed_fires_even_if_rewritten_before_anybody_looked(void **state)
{
	struct machine *m = *state;

	lapic_write(m->v, R_TIMER, 0x40041);
	lapic_set_tsc_deadline(m->v, clock_tsc() + m->v->tsc_offset + clock_ns_to_tsc(1000000));
	lapic_set_tsc_deadline(m->v, clock_tsc() + m->v->tsc_offset + clock_ns_to_tsc(2000000));
	assert_int_equal(lapic_pending(m->v), -1);
	while (clock_tsc() + m->v->tsc_offset < m->v->lapic.tsc_deadline)
		;
	lapic_set_tsc_deadline(m->v, 0);
	assert_int_equal(lapic_ack(m->v), 0x41);
	assert_int_equal(lapic_timer_poll(m->v, ~0ull - 1), ~0ull);
}

static void x2apic_mode_is_entered_and_left_only_the_allowed_way(void **state)
{
	struct machine *m = *state;
	uint64_t base = m->v->lapic.base_msr, value;

	assert_false(msr_read(m->v, 0x802, &value)); /* not in x2APIC mode */
	assert_int_equal(lapic_write_base(m->v, base | 1), -1);
	assert_int_equal(lapic_write_base(m->v, base | 1ull << 40), -1);
	assert_int_equal(lapic_write_base(m->v, base | LAPIC_BASE_X2APIC), 0);
	assert_true(msr_read(m->v, 0x802, &value));
	assert_int_equal(lapic_write_base(m->v, base), -1);
	assert_int_equal(lapic_write_base(m->v, base & ~LAPIC_BASE_ENABLE), 0);
	assert_int_equal(lapic_write_base(m->v, base | LAPIC_BASE_X2APIC), -1);
	assert_int_equal(lapic_write_base(m->v, base), 0);
}

static void x2apic_refuses_what_does_not_exist_or_is_reserved(void **state)
{
	static const uint32_t absent[] = { R_DFR, R_ICR_HIGH, 0x10, 0x40, 0x90, 0xc0, 0x3f0 + 0x10 };
	static const uint32_t read_only[] = { R_ID, R_VERSION, R_PPR, R_LDR, R_ISR, R_TMR, R_IRR, R_CURRENT };
	struct machine *m = *state;
	uint64_t value;

	assert_int_equal(lapic_write_base(m->v, m->v->lapic.base_msr | LAPIC_BASE_X2APIC), 0);
	for (size_t i = 0; i < ARRAY_LEN(absent); i++) {
		assert_int_equal(lapic_read(m->v, absent[i], &value), -1);
		assert_int_equal(lapic_write(m->v, absent[i], 0), -1);
	}
	for (size_t i = 0; i < ARRAY_LEN(read_only); i++) {
		assert_int_equal(lapic_read(m->v, read_only[i], &value), 0);
		assert_int_equal(lapic_write(m->v, read_only[i], 0), -1);
	}
	assert_int_equal(lapic_read(m->v, R_EOI, &value), -1);
	assert_int_equal(lapic_read(m->v, R_SELF, &value), -1);
	assert_int_equal(lapic_write(m->v, R_EOI, 1), -1);
	assert_int_equal(lapic_write(m->v, R_ESR, 1), -1);
	assert_int_equal(lapic_write(m->v, R_TPR, 0x100), -1);
	assert_int_equal(lapic_write(m->v, R_SVR, 1ull << 32), -1);
	assert_int_equal(lapic_write(m->v, R_TIMER, 1u << 20), -1);
	assert_int_equal(lapic_write(m->v, R_SELF, 0x41), 0);
	assert_int_equal(lapic_ack(m->v), 0x41);
}

static void an_ipi_to_self_arrives_by_any_name(void **state)
{
	static const uint64_t command[] = { 0x40041, 0x80041, 0x41, 0xff00000000ull | 0x41 };
	struct machine *m = *state;

	for (size_t i = 0; i < ARRAY_LEN(command); i++) {
		lapic_write(m->v, R_ICR_HIGH, (command[i] >> 32) << 24);
		lapic_write(m->v, R_ICR, (uint32_t)command[i]);
		assert_int_equal(lapic_ack(m->v), 0x41);
		lapic_write(m->v, R_EOI, 0);
	}
	lapic_write(m->v, R_ICR_HIGH, 5u << 24); /* nobody */
	lapic_write(m->v, R_ICR, 0x41);
	lapic_write(m->v, R_ICR, 0xc0041); /* all but self */
	assert_int_equal(lapic_pending(m->v), -1);
}

static void illegal_vectors_are_reported_in_the_error_register(void **state)
{
	struct machine *m = *state;

	lapic_write(m->v, R_ICR, 0x40005);
	assert_int_equal(get(m, R_ESR), 0);
	lapic_write(m->v, R_ESR, 0);
	assert_int_equal(get(m, R_ESR), 1u << 5);
}

static void logical_destinations_match_flat_and_cluster(void **state)
{
	struct lapic *l = &((struct machine *)*state)->v->lapic;

	l->ldr = 0x04000000;
	assert_true(lapic_matches(l, 0x0c, true));
	assert_false(lapic_matches(l, 0x03, true));
	l->dfr = 0x0fffffff;
	l->ldr = 0x21000000;
	assert_true(lapic_matches(l, 0x23, true));
	assert_false(lapic_matches(l, 0x13, true));
	assert_true(lapic_matches(l, 0xff, false));
	assert_true(lapic_matches(l, 0, false));
	assert_false(lapic_matches(l, 1, false));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_message_becomes_pending_in_service_and_done),
		TEST(the_handler_entered_is_that_of_the_vector_in_service),
		TEST(a_vector_of_the_same_class_waits_for_the_end_of_the_first),
		TEST(the_task_priority_holds_back_its_class_and_below),
		TEST(a_disabled_apic_takes_no_fixed_interrupts),
		TEST(only_level_interrupts_are_told_to_the_io_apic),
		TEST(an_interrupt_is_delivered_when_if_allows_it),
		TEST(an_nmi_ignores_if_and_masks_itself_until_iret),
		TEST(a_fault_ends_the_interrupt_shadow),
		TEST(an_nmi_that_the_shadow_holds_back_ends_hlt),
		TEST(hlt_waits_unless_something_is_deliverable),
		TEST(the_one_shot_timer_counts_down_and_fires_once),
		TEST(what_was_due_before_a_write_comes_as_it_was_then),
		TEST(the_periodic_timer_rearms_and_collapses_what_it_missed),
		TEST(a_tsc_deadline_in_the_past_fires_at_once),
		TEST(the_deadline_is_where_the_tsc_will_be),
		TEST(the_deadline_timer_is_never_early),
		TEST(a_deadline_that_has_passed_fires_even_if_rewritten_before_anybody_looked),
		TEST(x2apic_mode_is_entered_and_left_only_the_allowed_way),
		TEST(x2apic_refuses_what_does_not_exist_or_is_reserved),
		TEST(an_ipi_to_self_arrives_by_any_name),
		TEST(illegal_vectors_are_reported_in_the_error_register),
		TEST(logical_destinations_match_flat_and_cluster),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
