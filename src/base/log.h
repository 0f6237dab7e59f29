/*
 * log.h - the four kinds of line that Trifold prints on stderr, each a single line.
 *
 * log_error: what was wrong and what to do ("trifold: ..."); log_info: a fact the user asked for or must
 * know (the first line, a fallback); log_debug: only with TRIFOLD_DEBUG set in the environment.
 * All may be called from any thread. None may be called while guest vector registers are live
 * (they use libc): see fpu_call_cold in cpu/fpu.h.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/base.h"

void log_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_info(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_debug(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* While the terminal is raw, lines end in CR LF. */
void log_set_raw(bool raw);

/* Called (async-signal-safe) before the process dies by an assertion or a fatal signal: restores the terminal. */
void log_set_crash_hook(void (*hook)(void));
void log_run_crash_hook(void);
/*
 * Fatal signals (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT...) run the crash hook, print one line and die by the same signal.
 * Whoever claims one of these for itself (guest arithmetic faults) passes what is not its own to log_fatal_signal.
 */
void log_catch_fatal_signals(void);
NORETURN void log_fatal_signal(int signo);

#endif
