/*
 * report_test.c - runs are put together from files, whatever is in them; times fall into bins; the page says what was counted.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "report/report.h"

static char folder[] = "/tmp/report_test.XXXXXX";
static const char *path_of(const char *name)
{
	static char path[2][64];
	static unsigned turn;

	turn ^= 1;
	snprintf(path[turn], sizeof(path[0]), "%s/%s", folder, name);
	return path[turn];
}

static const char *file(const char *name, const char *text)
{
	FILE *f = fopen(path_of(name), "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	return path_of(name);
}

#define STATS(id, paging) "{ \"run\": { \"id\": \"" id "\", \"paging\": \"" paging "\", \"end\": \"power-off\", \"status\": 0 },\n" \
	"\"mmu\": { \"hidden_not_backed\": 12345, \"hidden_of_the_future\": 7, \"walks\": 9223372036854775807 } }\n"
#define HEAD(id) "{\"displayTimeUnit\":\"ns\",\n\"otherData\":{\"run\":\"" id "\",\"paging\":\"shadow\",\"engine\":\"bt\"},\n\"traceEvents\":[\n"
#define SLICE(cat, name, dur, args) "{\"ph\":\"X\",\"pid\":2,\"tid\":4,\"ts\":1.5,\"dur\":" dur ",\"cat\":\"" cat "\",\"name\":\"" name "\",\"args\":{" args "}}"
#define TAIL "\n],\n\"summary\":{\"events\":4,\"lost\":3,\"full\":false}}\n"

static bool add(struct report *r, const char *path, const char *label, char *error) { return report_add(r, path, label, error, 400); }

/* The page as text; the caller frees it. */
static char *page(const struct report *r)
{
	char *text = 0;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	report_page(r, f);
	fclose(f);
	return text;
}

static void a_trace_joins_its_run_and_times_are_counted_by_name(void **state)
{
	struct report r = { 0 };
	char error[400];

	(void)state;
	assert_true(add(&r, file("t", HEAD("a") SLICE("syscall", "read", "1.000", "") ",\n" SLICE("syscall", "read", "3.000", "") ",\n"
		SLICE("syscall", "read", "9000.000", "\"others_ran\":1") ",\n" SLICE("cr3", "x", "5.000", "") TAIL), 0, error));
	assert_true(add(&r, file("s", STATS("a", "shadow")), 0, error));
	assert_true(add(&r, file("s2", STATS("b", "nested")), "the other", error));
	report_finish(&r);
	assert_int_equal(r.runs, 2);
	assert_string_equal(r.run[0].label, "shadow");
	assert_string_equal(r.run[1].label, "the other");
	const struct report_latency *l = report_latency(&r.run[0], "syscall", "read");
	assert_int_equal(l->count, 2);
	assert_int_equal(l->interrupted, 1);
	assert_int_equal(l->total, 4000);
	assert_int_equal(l->longest, 3000);
	assert_int_equal(r.run[0].latencies, 1);
	assert_int_equal(r.run[0].trace_lost, 3);
	assert_true(r.run[0].trace_whole);
	assert_int_equal(report_counter(&r.run[1], "mmu", "hidden_of_the_future")->value, 7);
	report_free(&r);
}

static void a_trace_that_was_cut_is_read_as_far_as_it_goes(void **state)
{
	struct report r = { 0 };
	char error[400];

	(void)state;
	assert_true(add(&r, file("t", HEAD("a") SLICE("fault", "hidden: dirty", "0.500", "") ",\n{\"ph\":\"X\",\"pid\":1,\"ti"), 0, error));
	assert_int_equal(report_latency(&r.run[0], "fault", "hidden: dirty")->count, 1);
	assert_false(r.run[0].trace_whole);
	report_free(&r);
}

static void what_is_no_file_of_a_run_is_refused_by_name(void **state)
{
	static const char *const bad[] = { "", "{}", "[]", "x", "{ \"run\": 3 }", "{ \"run\": { } }", "{\"traceEvents\":[]}",
		"{\"otherData\":{},\n\"traceEvents\":[\n" };
	struct report r = { 0 };
	char error[400];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_false(add(&r, file("bad", bad[i]), 0, error));
		assert_non_null(strstr(error, path_of("bad")));
		assert_null(strchr(error, '\n'));
	}
	assert_false(add(&r, path_of("none"), 0, error));
	assert_non_null(strstr(error, "No such file"));
	assert_false(add(&r, folder, 0, error));
	assert_int_equal(r.runs, 0);
	assert_true(add(&r, file("s", STATS("a", "nested")), 0, error));
	assert_false(add(&r, path_of("s"), 0, error));
	assert_non_null(strstr(error, "same run"));
	report_free(&r);
}

static void more_runs_than_colours_are_refused(void **state)
{
	struct report r = { 0 };
	char error[400], text[400];

	(void)state;
	for (unsigned i = 0; i <= REPORT_MAX_RUNS; i++) {
		snprintf(text, sizeof(text), "{ \"run\": { \"id\": \"%u\", \"paging\": \"nested\" } }", i);
		assert_int_equal(add(&r, file("s", text), 0, error), i < REPORT_MAX_RUNS);
	}
	report_finish(&r);
	assert_string_equal(r.run[3].label, "nested s");
	report_free(&r);
}

static void the_page_shows_counters_it_never_heard_of_and_escapes_text(void **state)
{
	struct report r = { 0 };
	char error[400], *text;

	(void)state;
	assert_true(add(&r, file("s", STATS("a", "nested")), "<i>&\"'", error));
	report_finish(&r);
	text = page(&r);
	assert_non_null(strstr(text, ">of the future</text>"));
	assert_non_null(strstr(text, "<th>hidden_of_the_future</th><td class=\"n\">7</td>"));
	assert_non_null(strstr(text, "12&#8239;345"));
	assert_non_null(strstr(text, "the page had no machine frame yet")); /* docs/stats.md */
	assert_non_null(strstr(text, "&#60;i&#62;&#38;&#34;&#39;"));
	assert_null(strstr(text, "<i>"));
	assert_null(strstr(text, "<script"));
	assert_null(strstr(text, "http"));
	free(text);
	report_free(&r);
}

static void bins_hold_the_times_between_their_ends(void **state)
{
	struct report_latency l = { .category = "x" };

	(void)state;
	assert_int_equal(latency_bin(0), 0);
	assert_int_equal(latency_bin(UINT64_MAX), LATENCY_BINS - 1);
	for (uint64_t ns = 1; ns < 1ull << 38; ns += 1 + ns / 7) {
		const unsigned b = latency_bin(ns);

		assert_true((double)ns < latency_bin_end(b) * (1 + 1e-12));
		assert_true(!b || (double)ns >= latency_bin_end(b - 1) * (1 - 1e-12));
	}
	for (uint64_t ns = 1000; ns < 2000; ns++) {
		l.bin[latency_bin(ns)]++;
		l.count++;
		l.longest = ns;
	}
	const double half = latency_quantile(&l, 0.5), most = latency_quantile(&l, 0.99);
	assert_true(half >= 1499 && half < 1500 * exp2(1.0 / LATENCY_PER_OCTAVE));
	assert_true(most >= 1989 && most <= 1999);
}

static int make_folder(void **state) { (void)state; return !mkdtemp(folder); }
static int drop_folder(void **state)
{
	static const char *const names[] = { "t", "s", "s2", "bad" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unlink(path_of(names[i]));
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_trace_joins_its_run_and_times_are_counted_by_name),
		cmocka_unit_test(a_trace_that_was_cut_is_read_as_far_as_it_goes),
		cmocka_unit_test(what_is_no_file_of_a_run_is_refused_by_name),
		cmocka_unit_test(more_runs_than_colours_are_refused),
		cmocka_unit_test(the_page_shows_counters_it_never_heard_of_and_escapes_text),
		cmocka_unit_test(bins_hold_the_times_between_their_ends),
	};

	return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
