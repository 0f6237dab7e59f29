/*
 * casefile.c - cases as text, so that a difference once found stays a test (tests/insn/).
 *
 * One item a line, '#' starts a comment; numbers are hexadecimal. Whatever is not said is zero, but: rflags 202, fcw 37f, mxcsr 1f80, bv 7.
 *   at OFFSET             where in the code area
 *   code BYTE...          the instructions; may be repeated
 *   exit                  after them, the jump that ends a case
 *   rewrites              the code modifies itself (translated with precise flags)
 *   rax VALUE ... r15, rflags, fcw, fsw, ftw, mxcsr, bv (XSTATE_BV)
 *   st0..st7, xmm0..15, ymm0..15 (upper half)   one number
 *   memory ADDRESS BYTE...   contents of the window
 *   mask ADDRESS LENGTH      bytes that need not agree
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "insn_fuzz.h"

static const char *const names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
	"r13", "r14", "r15", "rflags" };
static const struct { const char *name; unsigned at, size; } fpu_items[] = {
	{ "fcw", 0, 2 }, { "fsw", 2, 2 }, { "ftw", 4, 1 }, { "mxcsr", 24, 4 }, { "bv", 512, 8 },
};
static const struct { const char *name; unsigned count, at, size; } fpu_arrays[] = {
	{ "st", 8, 32, 10 }, { "xmm", 16, 160, 16 }, { "ymm", 16, 576, 16 },
};

static uint64_t *slot_of(struct state *s, unsigned i) { return i == 16 ? &s->rflags : &s->gpr[i]; }

static void set_defaults(struct icase *c)
{
	memset(c, 0, sizeof(*c));
	c->in.rflags = FL_R1 | FL_IF;
	c->in.ss = SEL_USER_SS;
	store_u16(c->in.fpu, 0x37f);
	store_u32(c->in.fpu + 24, 0x1f80);
	c->in.fpu[512] = 7;
}

void case_locate(struct icase *c)
{
	struct insn in;
	unsigned at = 0, end = c->code_len;
	uint8_t b[15 + CODE_MAX] = { 0 };

	memcpy(b, c->code, c->code_len);
	c->insns = 0;
	while (at < end && c->insns < LOCATED_MAX) {
		c->insn_at[c->insns++] = (uint8_t)at;
		if (insn_decode(&in, b + at, 15, INSN_MODE_64))
			break;
		at += in.len;
	}
}

static bool ends_with_exit(const struct icase *c)
{
	unsigned at = c->code_len - 5u;

	return c->code_len >= 5 && c->code[at] == 0xe9 &&
	       load_u32(c->code + at + 1) == (uint32_t)(VA_EXIT - (VA_CODE + c->code_at + c->code_len));
}

/* "0123ab" of up to `size` bytes, most significant first. */
static bool parse_wide(const char *s, uint8_t *to, unsigned size)
{
	size_t n = strspn(s, "0123456789abcdefABCDEF");

	memset(to, 0, size);
	for (size_t i = 0; i < n; i++) {
		char digit[2] = { s[n - 1 - i], 0 };

		if (i / 2 >= size)
			return false;
		to[i / 2] |= (uint8_t)(strtoul(digit, 0, 16) << (i & 1 ? 4 : 0));
	}
	return n > 0;
}

static unsigned parse_bytes(const char *s, uint8_t *to, unsigned room)
{
	unsigned n = 0;
	char *end;

	for (; n < room; n++, s = end) {
		unsigned long v = strtoul(s, &end, 16);
		if (end == s)
			break;
		to[n] = (uint8_t)v;
	}
	return n;
}

static bool parse_fpu(struct icase *c, const char *word, const char *rest)
{
	for (size_t i = 0; i < ARRAY_LEN(fpu_items); i++)
		if (!strcmp(word, fpu_items[i].name))
			return parse_wide(rest, c->in.fpu + fpu_items[i].at, fpu_items[i].size);
	for (size_t i = 0; i < ARRAY_LEN(fpu_arrays); i++) {
		size_t n = strlen(fpu_arrays[i].name);
		char *end;

		if (strncmp(word, fpu_arrays[i].name, n) || !isdigit((unsigned char)word[n]))
			continue;
		unsigned long k = strtoul(word + n, &end, 10);
		if (*end || k >= fpu_arrays[i].count)
			return false;
		return parse_wide(rest, c->in.fpu + fpu_arrays[i].at + k * 16, fpu_arrays[i].size);
	}
	return false;
}

static bool parse_line(struct icase *c, const char *word, const char *rest, bool *exit_jump)
{
	char *end;

	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(word, names[i])) {
			*slot_of(&c->in, i) = strtoull(rest, &end, 16);
			return end != rest;
		}
	if (!strcmp(word, "at")) {
		c->code_at = (uint16_t)strtoul(rest, &end, 16);
		return end != rest && c->code_at < CODE_AREA;
	}
	if (!strcmp(word, "code")) {
		unsigned n = parse_bytes(rest, c->code + c->code_len, CODE_MAX - 5u - c->code_len);
		c->code_len = (uint16_t)(c->code_len + n);
		return n > 0;
	}
	if (!strcmp(word, "exit"))
		return *exit_jump = true;
	if (!strcmp(word, "rewrites"))
		return c->rewrites = true;
	if (!strcmp(word, "memory") && c->patches < PATCHES_MAX) {
		struct patch *p = &c->patch[c->patches++];
		p->va = (uint32_t)strtoul(rest, &end, 16);
		p->len = (uint8_t)parse_bytes(end, p->bytes, PATCH_BYTES);
		return p->len && sandbox_offset(p->va) >= 0;
	}
	if (!strcmp(word, "mask") && c->masks < ARRAY_LEN(c->mask)) {
		struct mask *m = &c->mask[c->masks++];
		m->va = (uint32_t)strtoul(rest, &end, 16);
		m->len = (uint16_t)strtoul(end, 0, 16);
		return m->len > 0;
	}
	return parse_fpu(c, word, rest);
}

int casefile_read(const char *path, struct icase *c, char *error, size_t size)
{
	FILE *f = fopen(path, "r");
	char line[1024], word[16];
	bool exit_jump = false;
	int number = 0, used;

	if (!f) {
		snprintf(error, size, "%s: %s", path, strerror(errno));
		return -1;
	}
	set_defaults(c);
	while (fgets(line, sizeof(line), f)) {
		number++;
		line[strcspn(line, "#\r\n")] = 0;
		if (sscanf(line, " %15s%n", word, &used) != 1)
			continue;
		while (line[used] == ' ' || line[used] == '\t')
			used++;
		if (!parse_line(c, word, line + used, &exit_jump)) {
			snprintf(error, size, "%s:%d: what does this mean: %.60s", path, number, line);
			fclose(f);
			return -1;
		}
	}
	fclose(f);
	c->in.rip = VA_CODE + c->code_at;
	if (exit_jump) {
		c->code[c->code_len] = 0xe9;
		store_u32(c->code + c->code_len + 1, (uint32_t)(VA_EXIT - (c->in.rip + c->code_len + 5)));
		c->code_len = (uint16_t)(c->code_len + 5);
	}
	case_locate(c);
	if (!c->code_len || c->code_at + c->code_len > (int)CODE_AREA) {
		snprintf(error, size, "%s: no code, or code beyond its area", path);
		return -1;
	}
	return 0;
}

static void write_wide(FILE *f, const char *name, int index, const uint8_t *at, unsigned size)
{
	unsigned n = size;

	while (n > 1 && !at[n - 1])
		n--;
	fprintf(f, "%s", name);
	if (index >= 0)
		fprintf(f, "%d", index);
	fputc(' ', f);
	while (n-- > 0)
		fprintf(f, "%02x", at[n]);
	fputc('\n', f);
}

static bool is_zero(const uint8_t *p, unsigned n)
{
	while (n-- > 0)
		if (p[n])
			return false;
	return true;
}

static void write_code(FILE *f, const struct icase *c)
{
	bool exit_jump = ends_with_exit(c);
	unsigned end = exit_jump ? c->code_len - 5u : c->code_len;
	struct icase copy = *c;

	case_locate(&copy);
	for (unsigned i = 0; i < copy.insns && copy.insn_at[i] < end; i++) {
		unsigned to = i + 1 < copy.insns ? copy.insn_at[i + 1] : end;
		uint8_t b[15 + CODE_MAX] = { 0 };
		char text[96] = "";
		struct insn in;

		/* What shrinking has emptied, on one line. */
		while (c->code[copy.insn_at[i]] == 0x90 && i + 1 < copy.insns && copy.insn_at[i + 1] < end &&
		       c->code[copy.insn_at[i + 1]] == 0x90) {
			fprintf(f, "%s", *text ? " 90" : "code 90");
			strcpy(text, "nop...");
			i++;
		}
		if (*text)
			fputs(" 90\n", f);
		if (*text)
			continue;
		memcpy(b, c->code, c->code_len);
		if (!insn_decode(&in, b + copy.insn_at[i], 15, INSN_MODE_64) && in.cls != INSN_INVALID && in.cls != INSN_TOO_LONG)
			insn_format(&in, c->in.rip + copy.insn_at[i], text, sizeof(text));
		fputs("code", f);
		for (unsigned k = copy.insn_at[i]; k < to && k < end; k++)
			fprintf(f, " %02x", c->code[k]);
		fprintf(f, "\t# %s\n", *text ? text : "(undefined)");
	}
	if (exit_jump)
		fputs("exit\n", f);
}

int casefile_write(const char *path, const struct icase *c, const char *note)
{
	FILE *f = fopen(path, "w");
	struct icase plain;

	if (!f)
		return -1;
	set_defaults(&plain);
	fprintf(f, "# %s\nat %x\n", note, c->code_at);
	write_code(f, c);
	if (c->rewrites)
		fputs("rewrites\n", f);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (*slot_of((struct state *)&c->in, i) != *slot_of(&plain.in, i))
			fprintf(f, "%s %lx\n", names[i], (unsigned long)*slot_of((struct state *)&c->in, i));
	for (size_t i = 0; i < ARRAY_LEN(fpu_items); i++)
		if (memcmp(c->in.fpu + fpu_items[i].at, plain.in.fpu + fpu_items[i].at, fpu_items[i].size))
			write_wide(f, fpu_items[i].name, -1, c->in.fpu + fpu_items[i].at, fpu_items[i].size);
	for (size_t i = 0; i < ARRAY_LEN(fpu_arrays); i++)
		for (unsigned k = 0; k < fpu_arrays[i].count; k++) {
			const uint8_t *at = c->in.fpu + fpu_arrays[i].at + k * 16;
			if (!is_zero(at, fpu_arrays[i].size))
				write_wide(f, fpu_arrays[i].name, (int)k, at, fpu_arrays[i].size);
		}
	for (unsigned i = 0; i < c->patches; i++) {
		if (!c->patch[i].len)
			continue;
		fprintf(f, "memory %x", c->patch[i].va);
		for (unsigned b = 0; b < c->patch[i].len; b++)
			fprintf(f, " %02x", c->patch[i].bytes[b]);
		fputc('\n', f);
	}
	for (unsigned i = 0; i < c->masks; i++)
		fprintf(f, "mask %x %x\n", c->mask[i].va, c->mask[i].len);
	return fclose(f);
}

void casefile_print_code(const struct icase *c)
{
	printf("  at %#lx\n", (unsigned long)c->in.rip);
	write_code(stdout, c);
}
