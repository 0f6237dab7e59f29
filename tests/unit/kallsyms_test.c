/*
 * kallsyms_test.c - kernel symbol tables are found in an image and read; whatever is damaged or cut off is refused or read in part, and
 * nothing is touched outside the image.
 *
 * The tables are made here as a kernel's build would (scripts/kallsyms.c), in both orders that kernels have had.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "boot/kallsyms.h"

#define SYMBOLS 700u
#define TEXT_FROM 100u		/* the ones before are per-CPU */
#define BASE 0xffffffff81000000ull
#define LONG_SYMBOL 300u	/* whose name takes more than 127 tokens */

static const char alphabet[] = "TtdDA_abcdefghijklmnopqrsuvwxyzBCEFGHIJKLMN0123456789.";
static const char *const pairs[] = { "_init", "sys_", "T__x64_", "tsys" };
static uint8_t image[1u << 18];
static size_t image_size;
static uint64_t random_state = 88172645463325252ull;

static unsigned rnd(unsigned n)
{
	return (unsigned)(random_step(&random_state) >> 20) % n;
}

static void name_of(unsigned i, char *name)
{
	if (i == LONG_SYMBOL)
		memset(name + sprintf(name, "t"), 'z', 200), name[201] = 0;
	else
		sprintf(name, "%csym%u.part_init", i < TEXT_FROM ? 'A' : i % 3 ? 'T' : 'd', i);
}

static uint64_t address_of(unsigned i) { return i < TEXT_FROM ? i * 8 : BASE + (i - TEXT_FROM) * 0x40; }

static void align(size_t *at, size_t to) { *at = ALIGN_UP(*at, to); }

/* The token that s begins with: a long one if there is one. */
static unsigned token_of(const char *s, size_t *len)
{
	for (unsigned p = 0; p < ARRAY_LEN(pairs); p++) {
		*len = strlen(pairs[p]);
		if (!strncmp(s, pairs[p], *len))
			return 200 + p;
	}
	*len = 1;
	return (unsigned)(strchr(alphabet, *s) - alphabet) + 10;
}

static size_t put_addresses(size_t at, bool percpu)
{
	align(&at, 8);
	for (unsigned i = 0; i < SYMBOLS; i++, at += 4)
		store_u32(image + at, (uint32_t)(!percpu ? address_of(i) - BASE : i < TEXT_FROM ? address_of(i) : BASE - 1 - address_of(i)));
	align(&at, 8);
	store_u64(image + at, BASE);
	return at + 8;
}

static size_t put_names(size_t at)
{
	uint32_t marker[(SYMBOLS + 255) / 256];

	align(&at, 8);
	store_u32(image + at, SYMBOLS);
	at += 8;
	const size_t names = at;
	for (unsigned i = 0; i < SYMBOLS; i++) {
		char name[300];
		uint8_t token[300];
		size_t n = 0, len;

		name_of(i, name);
		for (const char *s = name; *s; s += len)
			token[n++] = (uint8_t)token_of(s, &len);
		if (i % 256 == 0)
			marker[i / 256] = (uint32_t)(at - names);
		if (n > 127)
			image[at++] = (uint8_t)(n & 0x7f) | 0x80;
		image[at++] = (uint8_t)(n > 127 ? n >> 7 : n);
		memcpy(image + at, token, n);
		at += n;
	}
	align(&at, 8);
	memcpy(image + at, marker, sizeof(marker));
	return at + sizeof(marker);
}

static size_t put_tokens(size_t at)
{
	uint16_t index[256];

	align(&at, 8);
	const size_t table = at;
	for (unsigned i = 0; i < 256; i++) {
		index[i] = (uint16_t)(at - table);
		if (i >= 10 && i < 10 + strlen(alphabet))
			image[at++] = (uint8_t)alphabet[i - 10];
		else if (i >= 200 && i < 200 + ARRAY_LEN(pairs))
			at += (size_t)sprintf((char *)image + at, "%s", pairs[i - 200]);
		image[at++] = 0;
	}
	align(&at, 8);
	memcpy(image + at, index, sizeof(index));
	return at + sizeof(index);
}

static void make_image(bool newer, bool percpu)
{
	size_t at = 0x3004;

	for (size_t i = 0; i < sizeof(image); i++)
		image[i] = (uint8_t)rnd(256);
	memset(image + 0x2000, 0, sizeof(image) - 0x2000);
	if (!newer)
		at = put_addresses(at, percpu);
	at = put_tokens(put_names(at));
	if (newer)
		at = put_addresses(at, percpu);
	image_size = at + 0x1000;
}

struct seen { unsigned n; bool wrong; };

static void check_symbol(void *opaque, uint64_t address, char type, const char *name)
{
	struct seen *seen = opaque;
	char want[300];

	name_of(seen->n, want);
	if (address != address_of(seen->n) || type != want[0] || strcmp(name, want + 1))
		seen->wrong = true;
	seen->n++;
}

static void expect_all(void)
{
	struct seen seen = { 0, false };

	assert_int_equal(kallsyms_parse(image, image_size, check_symbol, &seen), SYMBOLS);
	assert_int_equal(seen.n, SYMBOLS);
	assert_false(seen.wrong);
}

static void tables_in_the_older_order_are_read(void **state)
{
	(void)state;
	make_image(false, true);
	expect_all();
}

static void tables_in_the_newer_order_are_read(void **state)
{
	(void)state;
	make_image(true, true);
	expect_all();
}

/* Offsets without a sign: the per-CPU symbols cannot be told then, so this kernel has none. */
static void plain_offsets_count_from_the_base(void **state)
{
	struct seen seen = { 0, false };
	size_t at;

	(void)state;
	make_image(true, false);
	at = ALIGN_UP(image_size - 0x1000 - 8 - 4 * SYMBOLS, 8) - (4 * SYMBOLS % 8 ? 8 : 0);
	while (load_u32(image + at) != (uint32_t)(0 - BASE))
		at += 4;
	for (unsigned i = 0; i < TEXT_FROM; i++)
		store_u32(image + at + 4 * i, 0);
	assert_int_equal(kallsyms_parse(image, image_size, check_symbol, &seen), SYMBOLS);
	assert_int_equal(seen.n, SYMBOLS);
}

static void ignore_symbol(void *opaque, uint64_t address, char type, const char *name)
{
	(void)address;
	(void)type;
	*(size_t *)opaque += strlen(name);
}

/* In memory of just that size, so that a sanitizer sees every byte too many. */
static void parse_copy(const uint8_t *from, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);
	size_t sum = 0;

	memcpy(copy, from, size);
	kallsyms_parse(copy, size, ignore_symbol, &sum);
	free(copy);
}

static void an_image_without_tables_has_no_symbols(void **state)
{
	size_t sum = 0;

	(void)state;
	make_image(false, true);
	assert_int_equal(kallsyms_parse(image, 0x2000, ignore_symbol, &sum), 0);
	assert_int_equal(kallsyms_parse(image, 0, ignore_symbol, &sum), 0);
	memset(image, 0, sizeof(image));
	assert_int_equal(kallsyms_parse(image, sizeof(image), ignore_symbol, &sum), 0);
	for (size_t i = 0; i < sizeof(image); i += 2)
		store_u16(image + i, (uint16_t)(i / 2 % 300)); /* full of ascending numbers */
	assert_int_equal(kallsyms_parse(image, sizeof(image), ignore_symbol, &sum), 0);
}

static void images_cut_off_anywhere_do_no_harm(void **state)
{
	(void)state;
	for (int newer = 0; newer < 2; newer++) {
		make_image(newer, true);
		for (size_t cut = 0; cut < image_size; cut += 1 + rnd(97))
			parse_copy(image, cut);
		for (size_t cut = 0; cut < 600 && cut < image_size; cut++)
			parse_copy(image, image_size - 0x1000 - cut);
	}
}

static void damaged_images_do_no_harm(void **state)
{
	static uint8_t good[sizeof(image)];
	const size_t first = 0x3000;

	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		if (round % 1500 == 0) {
			make_image(round > 0, true);
			memcpy(good, image, image_size);
		}
		memcpy(image + first, good + first, image_size - first);
		for (unsigned hits = 1 + rnd(4); hits--;) {
			const size_t at = first + rnd((unsigned)(image_size - first - 4));
			if (rnd(2))
				image[at] = (uint8_t)rnd(256);
			else
				store_u32(image + ALIGN_DOWN(at, 4), rnd(2) ? 0xffffffff : rnd(1u << 20));
		}
		parse_copy(image + first, image_size - first);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_in_the_older_order_are_read),
		cmocka_unit_test(tables_in_the_newer_order_are_read),
		cmocka_unit_test(plain_offsets_count_from_the_base),
		cmocka_unit_test(an_image_without_tables_has_no_symbols),
		cmocka_unit_test(images_cut_off_anywhere_do_no_harm),
		cmocka_unit_test(damaged_images_do_no_harm),
	};

	return cmocka_run_group_tests(tests, 0, 0);
}
