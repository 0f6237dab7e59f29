/* mtrr.c - see mtrr.h. */
#include "cpu/mtrr.h"

#include "cpu/vcpu.h"
#include "x86/insn.h"

#define MSR_CAP 0xfeu
#define MSR_VARIABLE 0x200u
#define MSR_DEFAULT 0x2ffu
#define CAP (MTRR_VARIABLE | 1u << 8 /* fixed ranges */ | 1u << 10 /* write-combining */)
#define ADDRESS (((1ull << CPU_PHYS_BITS) - 1) & PAGE_MASK)
#define WRITE_BACK 6

enum { DEFAULT = 2 * MTRR_VARIABLE + MTRR_FIXED };

/* 64 KiB, 16 KiB and 4 KiB ranges of the lowest MiB. */
static const uint16_t fixed[MTRR_FIXED] = { 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f };

static int slot(uint32_t number)
{
	if (number - MSR_VARIABLE < 2 * MTRR_VARIABLE)
		return (int)(number - MSR_VARIABLE);
	for (int i = 0; i < MTRR_FIXED; i++)
		if (fixed[i] == number)
			return 2 * MTRR_VARIABLE + i;
	return number == MSR_DEFAULT ? DEFAULT : -1;
}

bool mtrr_is(uint32_t number) { return number == MSR_CAP || slot(number) >= 0; }

static bool is_type(uint64_t type) { return type == 0 || type == 1 || (type >= 4 && type <= 6); }

static bool valid(int i, uint64_t value)
{
	if (i == DEFAULT)
		return !(value & ~0xcffull) && is_type(value & 0xff);
	if (i >= 2 * MTRR_VARIABLE) {
		for (unsigned k = 0; k < 8; k++)
			if (!is_type(value >> (8 * k) & 0xff))
				return false;
		return true;
	}
	if (i & 1)
		return !(value & ~(ADDRESS | 1u << 11));
	return !(value & ~(ADDRESS | 0xff)) && is_type(value & 0xff);
}

void mtrr_read(const struct vcpu *v, uint32_t number, uint64_t *value)
{
	*value = number == MSR_CAP ? CAP : v->mtrr[slot(number)];
}

bool mtrr_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	if (number == MSR_CAP || !valid(slot(number), value))
		return false;
	v->mtrr[slot(number)] = value;
	return true;
}

void mtrr_reset(struct vcpu *v)
{
	for (unsigned i = 0; i < MTRRS; i++)
		v->mtrr[i] = i < 2 * MTRR_VARIABLE ? 0 : 0x0101010101010101ull * WRITE_BACK;
	v->mtrr[2 * MTRR_VARIABLE + 2] = 0; /* A0000 to BFFFF */
	v->mtrr[DEFAULT] = 3u << 10 | WRITE_BACK;
}
