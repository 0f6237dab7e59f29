/*
 * kallsyms.c - finds and reads the kallsyms tables in an unpacked kernel image.
 *
 * Nothing in the image says where they are, so they are found by their shape. In memory, each aligned to 4 or 8 bytes:
 *
 *   offsets        N numbers of 32 bits, and a base of 64 bits: the addresses. Before num_syms, or in newer kernels after token_index
 *   num_syms       N
 *   names          N times: a length (one byte; two, seven bits each, above 127), then as many token numbers
 *   markers        where every 256th name begins: numbers of 32 bits
 *   token_table    256 strings, each closed by a zero byte; newer kernels have another table before it
 *   token_index    where each of them begins in it: 256 numbers of 16 bits
 *
 * The expanded name begins with the symbol's type. token_index is the easiest to tell from anything else; from there the search goes
 * backwards to a number N that is followed by just N names and by markers which agree with them.
 */
#include "boot/kallsyms.h"

#include <string.h>

#define TOKENS 256u
#define INDEX_BYTES (2 * TOKENS)
#define TOKEN_MAX 120u		/* a token is part of a symbol's name */
#define TOKENS_USED_MIN 40u
#define SYMBOLS_MIN 300u	/* two markers at least, or the check of them is worth nothing */
#define NAME_MAX 1024u
#define MARKER_EVERY 256u
#define STEPS_MAX (1u << 27)	/* places and names looked at in the whole search: a second at most */
#define KERNEL_HALF (1ull << 63)

struct kallsyms {
	const uint8_t *image;
	size_t size;
	size_t index, tokens;		/* offsets of token_index and token_table */
	size_t count_at, names;		/* of num_syms and names */
	uint32_t count;
	/* Addresses: offsets and base, or (base_at 0) whole addresses. */
	size_t offsets, base_at;
	uint32_t steps;
};

static const uint8_t *token(const struct kallsyms *k, unsigned n)
{
	return k->image + k->tokens + load_u16(k->image + k->index + 2 * n);
}

static bool is_type(uint8_t c)
{
	return c && strchr("aAbBcCdDgGiInNpPrRsStTuUvVwW?-", c);
}

/* 256 ascending numbers from 0 on; *last is the last. */
static bool index_at(const struct kallsyms *k, size_t at, unsigned *last)
{
	unsigned before = 0;

	if (load_u16(k->image + at) || !load_u16(k->image + at + 2))
		return false;
	for (unsigned i = 1; i < TOKENS; i++) {
		const unsigned n = load_u16(k->image + at + 2 * i);
		if (n <= before || n - before > TOKEN_MAX + 1)
			return false;
		before = n;
	}
	*last = before;
	return true;
}

/* Does a table of 256 strings that fits the index at k->index lie at `at`, and end right before the index? */
static bool tokens_at(struct kallsyms *k, size_t at)
{
	unsigned used = 0, i;
	size_t end = at;

	k->tokens = at;
	for (i = 0; i < TOKENS; i++) {
		if (k->image + end != token(k, i))
			return false;
		if (k->image[end])
			used++;
		while (end < k->index && k->image[end])
			if (k->image[end] <= ' ' || k->image[end++] >= 127)
				return false;
		if (end++ >= k->index)
			return false;
	}
	while (end < k->index && !k->image[end])
		end++;
	return end == k->index && used >= TOKENS_USED_MIN;
}

/* The next pair of token_index and token_table from *from on. */
static bool find_tokens(struct kallsyms *k, size_t *from)
{
	for (size_t at = *from; at + INDEX_BYTES <= k->size; at += 4) {
		unsigned last;

		if (!index_at(k, at, &last))
			continue;
		k->index = at;
		for (size_t back = last + 1; back <= last + TOKEN_MAX + 16 && back <= at; back++) {
			if ((at - back) % 4 || !tokens_at(k, at - back))
				continue;
			*from = at + 4;
			return true;
		}
	}
	return false;
}

/* The name at *at: its token numbers, *at behind it. 0: none there. */
static const uint8_t *name_next(struct kallsyms *k, size_t *at, unsigned *tokens)
{
	const size_t limit = k->tokens;
	unsigned len;

	k->steps++;
	if (*at + 2 > limit)
		return 0;
	len = k->image[(*at)++];
	if (len & 0x80)
		len = (len & 0x7f) | (unsigned)k->image[(*at)++] << 7;
	if (!len || len > NAME_MAX || len > limit - *at)
		return 0;
	const uint8_t *name = k->image + *at;
	if (!is_type(token(k, name[0])[0]))
		return 0;
	*at += len;
	*tokens = len;
	return name;
}

/* Do the markers at `at` say where the names begin? */
static bool markers_at(struct kallsyms *k, size_t at)
{
	size_t name = k->names;
	unsigned len;

	if (at > k->tokens || (k->tokens - at) / 4 < (k->count + MARKER_EVERY - 1) / MARKER_EVERY)
		return false;
	for (uint32_t i = 0; i < k->count; i++) {
		if (i % MARKER_EVERY == 0 && load_u32(k->image + at + i / MARKER_EVERY * 4) != name - k->names)
			return false;
		if (!name_next(k, &name, &len))
			return false;
	}
	return true;
}

/* Is num_syms at `at`? */
static bool count_at(struct kallsyms *k, size_t at)
{
	unsigned len;

	k->count_at = at;
	k->count = load_u32(k->image + at);
	if (k->count < SYMBOLS_MIN || k->count > (k->tokens - at) / 2)
		return false;
	/* A name is never empty, so what follows an N of 32 bits is padding if it is zero. */
	k->names = at + (load_u32(k->image + at + 4) ? 4 : 8);
	size_t end = k->names;
	for (uint32_t i = 0; i < k->count; i++)
		if (!name_next(k, &end, &len))
			return false;
	return markers_at(k, ALIGN_UP(end, 4)) || (ALIGN_UP(end, 8) != ALIGN_UP(end, 4) && markers_at(k, ALIGN_UP(end, 8)));
}

static bool find_names(struct kallsyms *k)
{
	for (size_t at = k->tokens; at >= 12 && k->steps < STEPS_MAX;) {
		at -= 4;
		k->steps++;
		if (at + 12 <= k->tokens && count_at(k, at))
			return true;
	}
	return false;
}

static uint64_t address_of(const struct kallsyms *k, uint32_t i)
{
	if (!k->base_at)
		return load_u64(k->image + k->offsets + 8ull * i);

	const int32_t offset = (int32_t)load_u32(k->image + k->offsets + 4ull * i);
	const uint64_t base = load_u64(k->image + k->base_at);
	/*
	 * With per-CPU symbols at absolute addresses, the others are told by their sign: base - 1 - offset. Without, all are base + offset. The
	 * first symbols are per-CPU ones, from 0 on, the last one never is.
	 */
	const bool absolute = (int32_t)load_u32(k->image + k->offsets + 4ull * (k->count - 1)) < 0;
	if (!absolute)
		return base + (uint32_t)offset;
	return offset < 0 ? base - 1 - (int64_t)offset : (uint64_t)offset;
}

static bool is_text(uint8_t type) { return type == 't' || type == 'T' || type == 'w' || type == 'W'; }

/* Symbols are sorted by address, and text lies in the kernel's half. */
static bool addresses_fit(struct kallsyms *k)
{
	size_t at = k->names;
	uint64_t before = 0;
	uint32_t texts = 0;
	unsigned len;

	for (uint32_t i = 0; i < k->count; i++) {
		const uint8_t *name = name_next(k, &at, &len);
		const uint64_t address = address_of(k, i);

		if (!name || !is_text(token(k, name[0])[0]))
			continue;
		if (address < before || address < KERNEL_HALF)
			return false;
		before = address;
		texts++;
	}
	return texts > 0;
}

static bool find_addresses(struct kallsyms *k)
{
	const uint64_t bytes = 4ull * k->count, padded = ALIGN_UP(bytes, 8);
	const size_t after = ALIGN_UP(k->index + INDEX_BYTES, 8);
	const struct { bool there; size_t offsets, base; } places[] = {
		{ k->count_at >= padded + 8, k->count_at - 8 - padded, k->count_at - 8 },
		{ after <= k->size && k->size - after >= padded + 8, after, after + padded },
		{ k->count_at >= 2 * bytes, k->count_at - 2 * bytes, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		k->offsets = places[i].offsets;
		k->base_at = places[i].base;
		if (places[i].there && addresses_fit(k))
			return true;
	}
	return false;
}

static size_t hand_over(struct kallsyms *k, kallsyms_take *take, void *opaque)
{
	size_t at = k->names;

	for (uint32_t i = 0; i < k->count; i++) {
		char name[NAME_MAX];
		size_t used = 0;
		unsigned len;
		const uint8_t *tokens = name_next(k, &at, &len);

		ASSERT(tokens); /* it was there when they were counted */
		for (unsigned n = 0; n < len; n++) {
			const char *s = (const char *)token(k, tokens[n]);
			const size_t more = strlen(s);

			if (used + more >= sizeof(name))
				break;
			memcpy(name + used, s, more);
			used += more;
		}
		name[used] = 0;
		take(opaque, address_of(k, i), name[0], name + 1);
	}
	return k->count;
}

size_t kallsyms_parse(const uint8_t *image, size_t size, kallsyms_take *take, void *opaque)
{
	struct kallsyms k = { .image = image, .size = size };
	size_t from = 0;

	while (k.steps < STEPS_MAX && find_tokens(&k, &from))
		if (find_names(&k) && find_addresses(&k))
			return hand_over(&k, take, opaque);
	return 0;
}
