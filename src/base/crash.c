/*
 * crash.c - how the process dies of its own bugs: failed assertions and fatal signals. Both restore the terminal
 * through the crash hook first. Only async-signal-safe calls here.
 */
#include "base/log.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static void (*_Atomic crash_hook)(void);

void log_set_crash_hook(void (*hook)(void))
{
	atomic_store(&crash_hook, hook);
}

void log_run_crash_hook(void)
{
	void (*hook)(void) = atomic_exchange(&crash_hook, (void (*)(void))0);

	if (hook)
		hook();
}

struct crash_line { char text[512]; size_t n; };

static void crash_put(struct crash_line *l, const char *s)
{
	while (*s && l->n < sizeof(l->text) - 1)
		l->text[l->n++] = *s++;
}

static void crash_put_number(struct crash_line *l, unsigned v)
{
	char digit[12];
	unsigned i = sizeof(digit) - 1;

	digit[i] = 0;
	do
		digit[--i] = (char)('0' + v % 10);
	while (v /= 10);
	crash_put(l, digit + i);
}

static void crash_print(struct crash_line *l)
{
	l->text[l->n++] = '\n';
	if (write(STDERR_FILENO, l->text, l->n) < 0) { /* nobody left to tell */ }
}

static void crash_die(int signo)
{
	sigset_t set;

	signal(signo, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, signo);
	pthread_sigmask(SIG_UNBLOCK, &set, 0);
	raise(signo);
	_exit(125);
}

NORETURN void base_assert_failed(const char *expr, const char *file, int line)
{
	struct crash_line l = { .n = 0 };

	log_run_crash_hook();
	crash_put(&l, "trifold: internal error: assertion failed: ");
	crash_put(&l, expr);
	crash_put(&l, " at ");
	crash_put(&l, file);
	crash_put(&l, ":");
	crash_put_number(&l, (unsigned)line);
	crash_print(&l);
	crash_die(SIGABRT);
	_exit(125);
}

NORETURN void log_fatal_signal(int signo)
{
	struct crash_line l = { .n = 0 };

	log_run_crash_hook();
	crash_put(&l, "trifold: internal error: killed by signal ");
	crash_put_number(&l, (unsigned)signo);
	crash_print(&l);
	crash_die(signo);
	_exit(125);
}

void log_catch_fatal_signals(void)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP };
	struct sigaction act = { .sa_flags = SA_ONSTACK };

	act.sa_handler = (void (*)(int))log_fatal_signal;
	sigfillset(&act.sa_mask);
	for (size_t i = 0; i < ARRAY_LEN(fatal); i++)
		sigaction(fatal[i], &act, 0);
}
