/* debug.c - matching of breakpoints (debug.h). */
#include "cpu/debug.h"

enum { BREAK_EXEC, BREAK_WRITE, BREAK_IO, BREAK_ACCESS };

/* With GIF clear what matches is ignored (AMD APM vol. 2, "Global Interrupt Flag, STGI and CLGI Instructions"). */
static bool armed(const struct vcpu *v, unsigned i) { return !v->svm.gif_clear && (v->dr[7] >> (2 * i) & 3); }
static unsigned type_of(const struct vcpu *v, unsigned i) { return (v->dr[7] >> (16 + 4 * i)) & 3; }

static unsigned length_of(const struct vcpu *v, unsigned i)
{
	static const uint8_t bytes[] = { 1, 2, 8, 4 };

	return bytes[(v->dr[7] >> (18 + 4 * i)) & 3];
}

/* The breakpoint covers its length, aligned to it. */
static bool overlaps(const struct vcpu *v, unsigned i, uint64_t la, unsigned len)
{
	uint64_t n = length_of(v, i), at = v->dr[i] & ~(n - 1);

	return la <= at + n - 1 && at <= la + len - 1;
}

void debug_data_access(struct vcpu *v, uint64_t la, unsigned len, bool write)
{
	for (unsigned i = 0; i < 4; i++) {
		unsigned type = type_of(v, i);

		if (armed(v, i) && (type == BREAK_ACCESS || (type == BREAK_WRITE && write)) && overlaps(v, i, la, len))
			v->debug_hits |= 1ull << i;
	}
}

void debug_io_access(struct vcpu *v, uint16_t port, unsigned size)
{
	if (!(v->cr4 & CR4_DE))
		return;
	for (unsigned i = 0; i < 4; i++)
		if (armed(v, i) && type_of(v, i) == BREAK_IO && overlaps(v, i, port, size))
			v->debug_hits |= 1ull << i;
}

uint64_t debug_fetch(const struct vcpu *v, uint64_t la)
{
	uint64_t hits = 0;

	for (unsigned i = 0; i < 4; i++)
		if (armed(v, i) && type_of(v, i) == BREAK_EXEC && v->dr[i] == la)
			hits |= 1ull << i;
	return hits;
}
