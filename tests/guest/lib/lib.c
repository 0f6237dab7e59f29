/*
 * lib.c - the runtime's start, its output, tests and the ends of a guest.
 */
#include <stdarg.h>
#include "lib_internal.h"

static unsigned failures, failures_of_test;
static const char *skipped;

void *memcpy(void *to, const void *from, size_t n)
{
	void *start = to;
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	return start;
}
void *memset(void *to, int byte, size_t n)
{
	void *start = to;
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
	return start;
}
int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;
	for (size_t i = 0; i < n; i++)
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	return 0;
}

static void put(char c)
{
	while (!(inb(0x3fd) & 0x20))
		;
	outb(0x3f8, (uint8_t)c);
}

static void put_number(uint64_t v, unsigned base)
{
	char digits[20];
	unsigned n = 0;
	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (n)
		put(digits[--n]);
}

void print(const char *f, ...)
{
	va_list args;
	va_start(args, f);
	for (; *f; f++) {
		if (*f == '\n')
			put('\r');
		if (*f != '%') {
			put(*f);
			continue;
		}
		bool wide = *++f == 'l';
		if (wide)
			f++;
		uint64_t v = 0;
		if (*f == 's') {
			for (const char *s = va_arg(args, const char *); *s; s++)
				put(*s);
			continue;
		}
		if (*f == 'd')
			v = wide ? (uint64_t)va_arg(args, long) : (uint64_t)(int64_t)va_arg(args, int);
		else
			v = wide ? va_arg(args, uint64_t) : va_arg(args, unsigned);
		if (*f == 'c') {
			put((char)v);
		} else if (*f == 'd' && (int64_t)v < 0) {
			put('-');
			put_number(-v, 10);
		} else {
			put_number(v, *f == 'x' ? 16 : 10);
		}
	}
	va_end(args);
}

bool check_that(bool ok, const char *what, const char *file, int line)
{
	if (!ok && ++failures_of_test <= 12)
		print("        %s:%d: failed: %s\n", file, line, what);
	return ok;
}

bool showing_details(void) { return failures_of_test <= 12; }

void skip_test(const char *reason) { skipped = reason; }

_Noreturn void guest_end(unsigned char value)
{
	outb(0xf4, value);
	for (;;)
		__asm__ volatile("cli; hlt");
}

void lib_start(void)
{
	cpu_start();
	memory_start();
	for (const struct guest_test *t = guest_tests; t->run; t++) {
		failures_of_test = 0;
		skipped = 0;
		t->run();
		print("%s  %s%s%s\n", failures_of_test ? "FAILED" : skipped ? "skip" : "ok", t->sentence, skipped ? " Skipped: " : "", skipped ? skipped : "");
		failures += failures_of_test;
	}
	guest_end(failures ? 0x2b : 0x2a);
}
