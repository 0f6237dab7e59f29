/* html.c - text and numbers of the page (report_internal.h). */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "report/report_internal.h"

enum unit unit_of(const char *name, uint64_t *scale)
{
	static const struct { const char *ending; enum unit unit; uint64_t scale; } units[] = {
		{ "_ns", UNIT_NS, 1 }, { "_kib", UNIT_BYTES, 1024 }, { "_bytes", UNIT_BYTES, 1 },
	};
	const size_t len = strlen(name);

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		const size_t end = strlen(units[i].ending);

		if (len > end && !strcmp(name + len - end, units[i].ending)) {
			*scale = units[i].scale;
			return units[i].unit;
		}
	}
	*scale = 1;
	return UNIT_COUNT;
}

/* Bytes of the character of UTF-8 at c (Unicode, "Well-Formed UTF-8 Byte Sequences"); 0: it is none. */
static unsigned utf8_len(const unsigned char *c)
{
	const unsigned n = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : c[0] < 0xf5 ? 4 : 0;

	for (unsigned i = 1; i < n; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f))
		return 0;
	return n;
}

void html_text(FILE *out, const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c;) {
		const unsigned n = utf8_len(c);

		if (*c == '<' || *c == '>' || *c == '&' || *c == '"' || *c == '\'')
			fprintf(out, "&#%u;", *c);
		else if (*c < ' ' || !n)
			putc('?', out);
		else
			fwrite(c, 1, n, out);
		c += MAX(n, 1u);
	}
}

void html_words(FILE *out, const char *name, bool drop_unit)
{
	const char *end = drop_unit ? strrchr(name, '_') : 0;

	char words[REPORT_TEXT];
	size_t n = 0;

	for (; *name && name != end && n < sizeof(words) - 1; name++)
		words[n++] = *name == '_' ? ' ' : *name;
	words[n] = 0;
	html_text(out, words);
}

/* Groups of three digits, a narrow space between them. */
static void put_grouped(FILE *out, uint64_t value)
{
	char digits[24];
	const int n = snprintf(digits, sizeof(digits), "%" PRIu64, value);

	for (int i = 0; i < n; i++) {
		if (i && (n - i) % 3 == 0)
			fputs("&#8239;", out);
		putc(digits[i], out);
	}
}

void html_short(FILE *out, enum unit unit, double value)
{
	static const struct { double step; const char *name[6]; } scales[] = {
		[UNIT_COUNT] = { 1000, { "", "&#160;k", "&#160;M", "&#160;G", "&#160;T", 0 } },
		[UNIT_NS] = { 1000, { "&#160;ns", "&#160;&#181;s", "&#160;ms", "&#160;s", 0 } },
		[UNIT_BYTES] = { 1024, { "&#160;B", "&#160;KiB", "&#160;MiB", "&#160;GiB", "&#160;TiB", 0 } },
	};
	unsigned i = 0;

	if (unit == UNIT_NS && value >= 1e13) {
		fprintf(out, "%.1f&#160;h", value / 3.6e12);
		return;
	}
	/* What would be printed as 1000 is 1 of the next. */
	while (value >= scales[unit].step * 0.9995 && scales[unit].name[i + 1]) {
		value /= scales[unit].step;
		i++;
	}
	const int places = value >= 99.95 || fabs(value - round(value)) < 1e-9 ? 0 : value >= 9.995 ? 1 : 2;
	fprintf(out, "%.*f%s", places, value, scales[unit].name[i]);
}

void html_exact(FILE *out, enum unit unit, uint64_t value)
{
	if (unit == UNIT_COUNT)
		put_grouped(out, value);
	else
		html_short(out, unit, (double)value);
}

void html_run(FILE *out, const struct report *r, size_t run, bool full)
{
	bool numbers = false;

	for (size_t i = 0; i < r->runs; i++)
		numbers |= strlen(r->run[i].label) > RUN_SHORT;
	if (numbers)
		fprintf(out, full ? "%zu: " : "run %zu", run + 1);
	if (!numbers || full)
		html_text(out, r->run[run].label);
}

static const struct { const char *group, *name, *text; } meanings[] = {
#include <stat_meanings.inc>
};

const char *counter_meaning(const char *group, const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(meanings); i++)
		if (!strcmp(meanings[i].name, name) && !strcmp(meanings[i].group, group))
			return meanings[i].text;
	return 0;
}
