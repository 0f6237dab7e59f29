/* What is traced arrives in order or is counted as lost; entries are paired with returns by thread and by frame; a file's slices nest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/trace.h"
#include "vm/trace_write.h"
#include "vm/vm.h"

static void events_arrive_in_order_and_only_if_wanted(void **state)
{
	struct trace *t;
	const struct trace_event *e;

	(void)state;
	assert_int_equal(trace_create(&t), 0);
	t->wanted = 1u << TRACE_CAT_CR3;
	trace_event(NULL, TRACE_CAT_CR3, TRACE_CR3, 0, 1, 2);
	trace_event(t, TRACE_CAT_FLUSH, TRACE_FLUSH, 0, 1, 2); /* nobody wants it */
	for (uint64_t i = 0; i < 3; i++)
		trace_event(t, TRACE_CAT_CR3, TRACE_CR3, 0, i, 0);
	for (uint64_t i = 0; i < 3; i++) {
		e = trace_oldest(t);
		assert_non_null(e);
		assert_int_equal(e->kind, TRACE_CR3);
		assert_int_equal(e->arg[0], i);
		trace_done(t);
	}
	assert_null(trace_oldest(t));
	assert_int_equal(trace_begin(t, TRACE_CAT_FLUSH), 0);
	trace_span(t, TRACE_IDLE, 0, 0, 0, 0);
	assert_null(trace_oldest(t));
	trace_destroy(t);
}

static void events_that_do_not_fit_are_counted(void **state)
{
	const uint64_t extra = 1000;
	uint64_t got = 0, lost = 0;
	const struct trace_event *e;
	struct trace *t;

	(void)state;
	assert_int_equal(trace_create(&t), 0);
	t->wanted = ~0u;
	for (uint64_t i = 0; i < TRACE_EVENTS + extra; i++)
		trace_event(t, TRACE_CAT_CR3, TRACE_CR3, 0, i, 0);
	assert_int_equal(t->lost_all, extra);
	/* Room for one is not enough for the count and an event. */
	trace_done(t);
	trace_event(t, TRACE_CAT_CR3, TRACE_CR3, 0, 0, 0);
	assert_int_equal(t->lost_all, extra + 1);
	trace_done(t);
	trace_event(t, TRACE_CAT_CR3, TRACE_CR3, 0, 77, 0);
	while ((e = trace_oldest(t))) {
		if (e->kind == TRACE_LOST)
			lost += e->arg[0];
		else
			assert_int_equal(e->arg[0], lost ? 77 : got + 2);
		got += e->kind == TRACE_CR3;
		trace_done(t);
	}
	assert_int_equal(lost, extra + 1);
	assert_int_equal(got, TRACE_EVENTS - 2 + 1);
	trace_destroy(t);
}

struct written { char *text; size_t len; struct trace_file file; struct trace_writer *w; };

static const char *symbol(void *opaque, uint64_t va, bool user, uint64_t *offset)
{
	(void)opaque;
	*offset = va & 0xff;
	return user ? 0 : "odd \"name\"\n";
}

static void begin(struct written *o)
{
	memset(o, 0, sizeof(*o));
	o->file.out = open_memstream(&o->text, &o->len);
	o->w = trace_writer_create(&o->file, 0, symbol, 0);
	assert_non_null(o->w);
}

static void event(struct written *o, uint64_t us, enum trace_kind kind, uint32_t a, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
	const struct trace_event e = { clock_ns_to_tsc(us * 1000 + 1), kind, a, { a0, a1, a2, a3 } };

	trace_writer_event(o->w, &e);
}

static void end(struct written *o, uint64_t us)
{
	trace_writer_finish(o->w, clock_ns_to_tsc(us * 1000 + 1));
	trace_writer_destroy(o->w);
	fclose(o->file.out);
}

/* The line of the only slice of that name. */
static const char *line_of(const struct written *o, const char *name)
{
	static char line[1000];
	char wanted[100];

	snprintf(wanted, sizeof(wanted), "\"name\":\"%s\"", name);
	const char *at = strstr(o->text, wanted);
	assert_non_null(at);
	assert_null(strstr(at + 1, wanted));
	while (at > o->text && at[-1] != '\n')
		at--;
	snprintf(line, sizeof(line), "%.*s", (int)strcspn(at, "\n"), at);
	return line;
}

static void has(const char *line, const char *what)
{
	if (!strstr(line, what))
		fail_msg("no '%s' in %s", what, line);
}

/* Two threads of one space, the first sleeps in its call while the second makes one; an interrupt of the kernel in between. */
static void entries_are_paired_with_returns_by_thread_and_frame(void **state)
{
	struct written o;

	(void)state;
	begin(&o);
	event(&o, 10, TRACE_SYSCALL, 0, 0x4000, 0x111, 0x400000, 0);
	event(&o, 12, TRACE_EVENT, trace_event_word(0xec, 1, 0), 0x4000, 0x111, 0xffffffff81000020, 0xffffc90000001000);
	event(&o, 14, TRACE_RETURN, 0, 0x4000, 0x111, 0xffffffff81000020, 0xffffc90000001000);
	event(&o, 20, TRACE_RETURN, 3, 0x4000, 0x222, 0x500000, 0);
	event(&o, 30, TRACE_SYSCALL, 39, 0x4000, 0x222, 0x500002, 0);
	event(&o, 33, TRACE_RETURN, 3, 0x4000, 0x222, 0x500002, 0);
	event(&o, 40, TRACE_RETURN, 3, 0x4000, 0x111, 0x400000, 0);
	event(&o, 50, TRACE_EVENT, trace_event_word(14, 0, 3), 0x4000, 0x111, 0x400000, 0xfe0000);
	end(&o, 60);
	has(line_of(&o, "read"), "\"dur\":30.0");
	has(line_of(&o, "read"), "\"others_ran\":1");
	has(line_of(&o, "getpid"), "\"dur\":3.0");
	has(line_of(&o, "getpid"), "\"executor_instructions\":0");
	has(line_of(&o, "interrupt 0xec"), "\"dur\":2.0");
	has(line_of(&o, "interrupt 0xec"), "odd \\u0022name\\u0022\\u000a+0x20");
	has(line_of(&o, "#PF"), "\"unfinished\":1");
	has(line_of(&o, "#PF"), "\"dur\":10.0");
	free(o.text);
}

/* After a loss nothing is paired across it; a return that nothing began draws nothing. */
static void nothing_is_paired_across_a_loss(void **state)
{
	struct written o;

	(void)state;
	begin(&o);
	event(&o, 10, TRACE_SYSCALL, 0, 0x4000, 0x111, 0x400000, 0);
	event(&o, 20, TRACE_LOST, 0, 5, 0, 0, 0);
	event(&o, 30, TRACE_RETURN, 3, 0x4000, 0x111, 0x400000, 0);
	event(&o, 40, TRACE_RETURN, 0, 0x4000, 0x111, 0x400000, 0xffffc90000001000);
	event(&o, 50, TRACE_KINDS, 0, 0, 0, 0, 0);
	end(&o, 60);
	line_of(&o, "5 events lost");
	assert_null(strstr(o.text, "\"name\":\"read\""));
	free(o.text);
}

static void slices_of_a_track_nest(void **state)
{
	struct trace_track track = { 1, 1, { { 0 } } };
	struct written o;

	(void)state;
	begin(&o);
	const uint64_t us = clock_ns_to_tsc(1000);
	assert_true(trace_slice(&o.file, &track, 10 * us, 20 * us, "t", "first"));
	trace_end(&o.file);
	assert_true(trace_slice(&o.file, &track, 15 * us, 30 * us, "t", "crossing"));
	trace_end(&o.file);
	assert_true(trace_slice(&o.file, &track, 5 * us, 40 * us, "t", "around"));
	trace_end(&o.file);
	end(&o, 50);
	has(line_of(&o, "crossing"), "\"clipped\":1");
	assert_null(strstr(line_of(&o, "around"), "clipped"));
	free(o.text);
}

/* More than a track remembers, many of which would cross. */
static void slices_nest_however_many_came_before(void **state)
{
	enum { SLICES = 4000 };
	struct trace_track track = { 1, 1, { { 0 } } };
	static double from[SLICES], to[SLICES];
	unsigned clipped = 0, n = 0;
	uint32_t random = 1;
	struct written o;

	(void)state;
	begin(&o);
	const uint64_t us = clock_ns_to_tsc(1000);
	for (unsigned i = 0; i < SLICES; i++) {
		const uint64_t end_us = 1000 + 10 * i;

		random = random * 1103515245 + 12345;
		/* Most are short, some reach back over hundreds of others. */
		assert_true(trace_slice(&o.file, &track, (end_us - 1 - (random >> 16) % (i % 16 ? 15 : end_us)) * us, end_us * us, "t", "slice"));
		trace_end(&o.file);
	}
	end(&o, 50000);
	for (const char *line = o.text; (line = strstr(line, "\"ts\":")); line++, n++) {
		from[n] = strtod(line + 5, 0);
		to[n] = from[n] + strtod(strstr(line, "\"dur\":") + 6, 0);
		clipped += strstr(line, "clipped") && strstr(line, "clipped") < strchr(line, '\n');
		for (unsigned k = 0; k < n; k++) /* within a rounded nanosecond */
			assert_false(from[n] > from[k] + 0.002 && from[n] < to[k] - 0.002 && to[n] > to[k] + 0.002);
	}
	assert_int_equal(n, SLICES);
	assert_true(clipped > 100 && clipped < SLICES / 2);
	free(o.text);
}

static void a_list_names_whole_categories(void **state)
{
	uint32_t set;

	(void)state;
	assert_true(vm_trace_categories("fault,table", &set));
	assert_int_equal(set, 1u << TRACE_CAT_FAULT | 1u << TRACE_CAT_TABLE);
	assert_true(vm_trace_categories("all", &set));
	assert_int_equal(set, (1u << TRACE_CATEGORIES) - 1);
	assert_false(vm_trace_categories("", &set));
	assert_false(vm_trace_categories("fault,", &set));
	assert_false(vm_trace_categories("faults", &set));
	assert_false(vm_trace_categories("fau", &set));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_arrive_in_order_and_only_if_wanted), cmocka_unit_test(events_that_do_not_fit_are_counted), cmocka_unit_test(entries_are_paired_with_returns_by_thread_and_frame), cmocka_unit_test(nothing_is_paired_across_a_loss),
		cmocka_unit_test(slices_of_a_track_nest), cmocka_unit_test(slices_nest_however_many_came_before),
		cmocka_unit_test(a_list_names_whole_categories),
	};

	clock_init();
	return cmocka_run_group_tests(tests, 0, 0);
}
