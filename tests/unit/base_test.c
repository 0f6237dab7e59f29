/*
 * base_test.c - log lines, statistics, switches, and how each end of a run is reported.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/stats.h"
#include "base/tune.h"
#include "vm/vm.h"

/* What fn writes to standard error. */
static const char *stderr_of(void (*fn)(void))
{
	static char text[4096];
	int fd[2];
	const int saved = dup(STDERR_FILENO);

	assert_int_equal(pipe(fd), 0);
	dup2(fd[1], STDERR_FILENO);
	fn();
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fd[1]);
	const ssize_t n = read(fd[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = 0;
	close(fd[0]);
	return text;
}

static void log_nasty(void) { log_error("cannot open %s", "a\nb\x1b[31m\x7f"); }
static void log_long(void)
{
	static char name[3000];
	memset(name, 'n', sizeof(name) - 1);
	log_info("%s", name);
}
static void log_detail(void) { log_debug("d"); }
static void log_raw_line(void)
{
	log_set_raw(true);
	log_info("x");
	log_set_raw(false);
}

static void a_message_is_one_line_whatever_it_holds(void **state)
{
	(void)state;
	assert_string_equal(stderr_of(log_nasty), "trifold: cannot open a?b?[31m?\n");
	const char *text = stderr_of(log_long);
	assert_in_range(strlen(text), 500, 1024);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	assert_string_equal(stderr_of(log_raw_line), "trifold: x\r\n");
}

static void debug_lines_need_to_be_asked_for(void **state)
{
	(void)state;
	unsetenv("TRIFOLD_DEBUG");
	assert_string_equal(stderr_of(log_detail), "");
	setenv("TRIFOLD_DEBUG", "1", 1);
	assert_string_equal(stderr_of(log_detail), "trifold: debug: d\n");
}

struct sample { uint64_t first, second; };
static const struct stat_row sample_rows[] = { STAT_ROW(struct sample, first, "1"), STAT_ROW(struct sample, second, "2") };

static void a_group_of_counters_is_a_json_member(void **state)
{
	struct stats stats = { .groups = 0 };
	const struct sample sample = { 7, 18446744073709551615u };
	char *text = 0;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	stats_add(&stats, "sample", sample_rows, ARRAY_LEN(sample_rows), &sample);
	assert_int_equal(stats.groups, 1);
	stats_write_group(f, &stats.group[0]);
	fclose(f);
	assert_string_equal(text, "  \"sample\": {\n    \"first\": 7,\n    \"second\": 18446744073709551615\n  }");
	free(text);
}

static void switches_take_on_and_off_by_their_names_only(void **state)
{
	struct tune tune;
	(void)state;
	tune_defaults(&tune);
	for (size_t i = 0; i < TUNE_COUNT; i++) {
		char text[64];
		assert_int_equal(tune.on[i], tune_rows[i].by_default);
		assert_int_equal(tune_on(0, (enum tune_id)i), tune_rows[i].by_default);
		snprintf(text, sizeof(text), "%s=%s", tune_rows[i].name, tune_rows[i].by_default ? "off" : "on");
		assert_int_equal(tune_parse(&tune, text), 0);
		assert_int_equal(tune_on(&tune, (enum tune_id)i), !tune_rows[i].by_default);
		assert_true(strlen(tune_rows[i].help) > 0);
	}
	static const char *const bad[] = { "", "=", "=on", "console-buffer", "console-buffer=", "console-buffer=1", "console-buffe=on", "console-bufferx=on" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(tune_parse(&tune, bad[i]), -EINVAL);
}

static void every_end_has_the_status_of_the_contract(void **state)
{
	static const struct { struct vm_end end; int status; } ends[] = {
		{ { .kind = VM_POWER_OFF }, 0 }, { { .kind = VM_REBOOT }, 0 }, { { .kind = VM_HALTED }, 0 }, { { .kind = VM_QUIT }, 0 },
		{ { .kind = VM_DEBUG_EXIT, .value = 0 }, 1 }, { { .kind = VM_DEBUG_EXIT, .value = 0x2a }, 0x55 },
		{ { .kind = VM_DEBUG_EXIT, .value = 0xff }, 0xff },
		{ { .kind = VM_TIMEOUT }, 124 }, { { .kind = VM_PANIC }, 70 }, { { .kind = VM_CRASH_RESET }, 70 },
		{ { .kind = VM_CRASH_HALT }, 70 }, { { .kind = VM_TRIPLE_FAULT, .reason = "triple fault" }, 70 },
		{ { .kind = VM_UNSUPPORTED, .reason = "a thing" }, 125 }, { { .kind = VM_HOST_ERROR, .reason = "no memory" }, 125 },
		{ { .kind = VM_SIGNAL, .value = 15, .reason = "ended by signal 15" }, 143 },
	};
	char text[256];
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		assert_int_equal(vm_end_status(&ends[i].end), ends[i].status);
		assert_non_null(vm_end_name(&ends[i].end));
		const char *line = vm_end_text(&ends[i].end, text, sizeof(text));
		/* A status that is not the guest's own choice is explained. */
		if (ends[i].status >= 70 && ends[i].end.kind != VM_DEBUG_EXIT)
			assert_non_null(line);
		if (ends[i].end.reason[0])
			assert_non_null(strstr(line, ends[i].end.reason));
	}
}

static void say_restored(void) { if (write(STDERR_FILENO, "restored ", 9) < 0) _exit(1); }
static void die_in_child(void (*how)(void))
{
	const pid_t child = fork();
	int status;
	if (!child) {
		log_catch_fatal_signals();
		log_set_crash_hook(say_restored);
		how();
		_exit(0);
	}
	waitpid(child, &status, 0);
	assert_true(WIFSIGNALED(status));
}
static void fail_assertion(void) { volatile int two = 2; ASSERT(two == 3); }
static void touch_null(void) { raise(SIGSEGV); }
static void child_asserts(void) { die_in_child(fail_assertion); }
static void child_crashes(void) { die_in_child(touch_null); }

static void a_crash_of_ours_restores_the_terminal_says_so_and_dies_by_signal(void **state)
{
	(void)state;
	const char *text = stderr_of(child_asserts);
	assert_non_null(strstr(text, "restored trifold: internal error: assertion failed: two == 3 at "));
	text = stderr_of(child_crashes);
	assert_string_equal(text, "restored trifold: internal error: killed by signal 11\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_is_one_line_whatever_it_holds),
		cmocka_unit_test(debug_lines_need_to_be_asked_for),
		cmocka_unit_test(a_group_of_counters_is_a_json_member),
		cmocka_unit_test(switches_take_on_and_off_by_their_names_only),
		cmocka_unit_test(every_end_has_the_status_of_the_contract),
		cmocka_unit_test(a_crash_of_ours_restores_the_terminal_says_so_and_dies_by_signal),
	};
	return cmocka_run_group_tests(tests, 0, 0);
}
