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

/* Called (async-signal-safe) before the process dies by an assertion or a fatal signal: restores the terminal. */
void log_set_crash_hook(void (*hook)(void));
void log_run_crash_hook(void);

#endif
