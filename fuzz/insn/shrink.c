/*
 * shrink.c - makes a differing case smaller: instructions become NOPs, registers zero, patches go, as long as it still differs.
 */
#include <string.h>
#include "insn_fuzz.h"

struct attempt { struct icase *c; bool (*differs)(const struct icase *c, void *arg); void *arg; };

static bool keep(struct attempt *a, const struct icase *smaller)
{
	if (!memcmp(smaller, a->c, sizeof(*smaller)) || !a->differs(smaller, a->arg))
		return false;
	*a->c = *smaller;
	return true;
}

static bool try_bytes(struct attempt *a, size_t offset, const void *value, size_t size)
{
	struct icase s = *a->c;

	memcpy((uint8_t *)&s + offset, value, size);
	return keep(a, &s);
}

static bool drop_insns(struct attempt *a)
{
	bool any = false;

	for (unsigned i = 0; i < a->c->insns; i++) {
		struct icase s = *a->c;
		unsigned from = s.insn_at[i], to = i + 1 < s.insns ? s.insn_at[i + 1] : s.code_len;
		bool last = i + 1 == s.insns && s.code[from] == 0xe9;

		if (last || s.code[from] == 0x90)
			continue;
		memset(s.code + from, 0x90, to - from);
		if (keep(a, &s)) {
			any = true;
			case_locate(a->c);
			i = ~0u;
		}
	}
	return any;
}

void shrink_case(struct icase *c, bool (*differs)(const struct icase *c, void *arg), void *arg)
{
	static const uint64_t zero, flags = FL_R1 | FL_IF;
	static const uint8_t zeros[256], fcw[2] = { 0x7f, 3 }, mxcsr[4] = { 0x80, 0x1f }, all[1] = { 7 };
	struct attempt a = { c, differs, arg };
	size_t fpu = offsetof(struct icase, in.fpu);

	case_locate(c);
	for (int round = 0; round < 4; round++) {
		bool any = drop_insns(&a);

		any |= try_bytes(&a, offsetof(struct icase, in.rflags), &flags, 8);
		any |= try_bytes(&a, fpu + 24, mxcsr, 4);
		any |= try_bytes(&a, fpu, fcw, 2);
		any |= try_bytes(&a, fpu + 2, zeros, 2);
		any |= try_bytes(&a, fpu + 512, all, 1);
		any |= try_bytes(&a, fpu + 576, zeros, 256);
		any |= try_bytes(&a, fpu + 160, zeros, 256);
		any |= try_bytes(&a, fpu + 32, zeros, 128);
		for (unsigned i = 0; i < 16; i++) {
			any |= try_bytes(&a, offsetof(struct icase, in.gpr) + 8 * i, &zero, 8);
			any |= try_bytes(&a, fpu + 160 + 16 * i, zeros, 16);
			any |= try_bytes(&a, fpu + 576 + 16 * i, zeros, 16);
			any |= i < 8 && try_bytes(&a, fpu + 32 + 16 * i, zeros, 16);
		}
		for (unsigned i = 0; i < c->patches; i++)
			any |= try_bytes(&a, (size_t)((uint8_t *)&c->patch[i].len - (uint8_t *)c), zeros, 1);
		if (!any)
			return;
	}
}
