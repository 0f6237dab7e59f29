/*
 * log.c - lines on stderr, each written by one write(2) so that lines of several threads do not mix.
 *
 * While the terminal is raw a line feed alone would stair-step, so lines then end in CR LF (log_set_raw).
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Atomic bool log_raw;

void log_set_raw(bool raw)
{
	atomic_store(&log_raw, raw);
}

static void log_line(const char *prefix, const char *fmt, va_list ap)
{
	char line[1024];
	const int saved = errno;
	size_t n = (size_t)snprintf(line, sizeof(line) - 2, "trifold: %s", prefix);
	const int body = vsnprintf(line + n, sizeof(line) - 2 - n, fmt, ap);

	if (body > 0)
		n += (size_t)body < sizeof(line) - 2 - n ? (size_t)body : sizeof(line) - 3 - n;
	/* One line whatever a file name or a guest's words hold. */
	for (size_t i = 0; i < n; i++) {
		const unsigned char c = (unsigned char)line[i];
		if (c < 32 || c == 127)
			line[i] = '?';
	}
	if (atomic_load(&log_raw))
		line[n++] = '\r';
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0) { /* nobody left to tell */ }
	errno = saved;
}

#define LOG_DEFINE(name, prefix)                  \
	void name(const char *fmt, ...)           \
	{                                         \
		va_list ap;                       \
		va_start(ap, fmt);                \
		log_line(prefix, fmt, ap);        \
		va_end(ap);                       \
	}
LOG_DEFINE(log_error, "")
LOG_DEFINE(log_info, "")

void log_debug(const char *fmt, ...)
{
	va_list ap;

	if (!getenv("TRIFOLD_DEBUG"))
		return;
	va_start(ap, fmt);
	log_line("debug: ", fmt, ap);
	va_end(ap);
}
