/* generate.c - random instructions of the older modes: prefixes, opcodes, operands, registers (random.h). */
#include "random.h"

static uint32_t state;

void random_seed(uint32_t seed)
{
	state = seed * 2654435761u ^ 0x9e3779b9;
	if (!state)
		state = 1;
	for (int i = 0; i < 8; i++)
		random_u32();
}

uint32_t random_u32(void)
{
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state * 0x2c9277b5u;
}

static uint32_t below(uint32_t n) { return (random_u32() >> 8) % n; }
static bool one_in(uint32_t n) { return below(n) == 0; }

/* Second bytes of the 0F map that are run. Left out are those whose result depends on the make (CPUID, SYSENTER...), vectors (CR0.EM is set, a few are there for
 * their #UD or #NM), and what reads clocks. */
static const uint8_t second[] = {
	0x00, 0x00, 0x00, 0x02, 0x02, 0x03, 0x03, 0x06, 0x08, 0x09, 0x0b, 0x10, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x30, 0x32, 0x58, 0x6f, 0xef,
	0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e, 0x4f,
	0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f,
	0x90, 0x91, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f,
	0xa0, 0xa1, 0xa3, 0xa4, 0xa5, 0xa8, 0xa9, 0xab, 0xac, 0xad, 0xaf, 0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xba, 0xba, 0xba,
	0xbb, 0xbc, 0xbd, 0xbe, 0xbf, 0xc0, 0xc1, 0xc3, 0xc7, 0xc7, 0xc8, 0xc9, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf, 0x38,
};

static uint32_t value(void)
{
	static const uint32_t edges[] = { 0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 0x3ffe, 0x3fff };

	switch (below(5)) {
	case 0: return edges[below(sizeof(edges) / sizeof(edges[0]))];
	case 1: return random_u32();
	case 2: return (random_u32() & 0xffff0000) | below(SANDBOX_SIZE);
	default: return 0x1000 + below(SANDBOX_SIZE - 0x1000);
	}
}

/* Selectors of tables.h's descriptors, in the GDT and the LDT; any number in virtual-8086 mode. */
static uint32_t selector(enum mode mode)
{
	if (mode == MODE_V86)
		return one_in(4) ? random_u32() & 0xffff : 0x4000 + below(0x200);
	if (one_in(40))
		return random_u32() & 0xffff;
	return (5 + below(20)) << 3 | (one_in(12) ? below(8) : 3);
}

/* A data segment that can be loaded without a fault: what the kernel loads for the case. */
static uint32_t data_selector(enum mode mode)
{
	static const uint8_t good[] = { 7, 7, 9, 10, 11, 12, 13, 0 };

	if (mode == MODE_V86)
		return selector(mode);
	if (mode == MODE_FLAT && !one_in(4))
		return 8 << 3 | 3;
	return (uint32_t)good[below(sizeof(good))] << 3 | 3;
}

/* Flags that are undefined after opcode byte `op` of the map `two` (Intel SDM, "EFLAGS Cross-Reference and Condition Codes"). */
static uint32_t undefined_flags(bool two, const uint8_t *op, bool rep)
{
	const unsigned group = op[1] >> 3 & 7;
	const uint32_t all = F_CF | F_PF | F_AF | F_ZF | F_SF | F_OF;

	if (two) {
		if ((op[0] & 0xf6) == 0xa4) /* SHLD, SHRD */
			return F_AF | F_OF;
		if (op[0] == 0xaf)
			return F_SF | F_ZF | F_AF | F_PF;
		if (op[0] == 0xbc || op[0] == 0xbd)
			return rep ? F_OF | F_SF | F_PF | F_AF : all & ~F_ZF;
		if (op[0] == 0xba || op[0] == 0xa3 || op[0] == 0xab || op[0] == 0xb3 || op[0] == 0xbb)
			return F_OF | F_SF | F_AF | F_PF;
		return 0;
	}
	if (op[0] < 0x40 && (op[0] & 7) < 6 && ((op[0] >> 3) == 1 || (op[0] >> 3) == 4 || (op[0] >> 3) == 6))
		return F_AF; /* OR, AND, XOR */
	switch (op[0]) {
	case 0x27: case 0x2f: return F_OF;
	case 0x37: case 0x3f: return F_OF | F_SF | F_ZF | F_PF;
	case 0xd4: case 0xd5: return F_OF | F_AF | F_CF;
	case 0x69: case 0x6b: return F_SF | F_ZF | F_AF | F_PF;
	case 0x84: case 0x85: case 0xa8: case 0xa9: return F_AF;
	case 0x80: case 0x81: case 0x82: case 0x83: return group == 1 || group == 4 || group == 6 ? F_AF : 0;
	case 0xc0: case 0xc1: case 0xd2: case 0xd3: return group < 4 ? F_OF : F_OF | F_AF | F_CF;
	case 0xd0: case 0xd1: return group < 4 ? 0 : F_AF;
	case 0xf6: case 0xf7:
		if (group < 2)
			return F_AF;
		return group < 4 ? 0 : group < 6 ? F_SF | F_ZF | F_AF | F_PF : all;
	}
	return 0;
}

/* What stores before its last check, or several times, may have stored something when it faults. PUSH of a segment register stores 16 or 32 bits of 32. */
static unsigned memory_after(bool two, const uint8_t *op, bool osize16)
{
	const unsigned group = op[1] >> 3 & 7;

	if (!osize16 && (two ? op[0] == 0xa0 || op[0] == 0xa8 : (op[0] & 0xe7) == 0x06))
		return MEMORY_UNSAID;
	return !two && (op[0] == 0xe8 || op[0] == 0x9a || op[0] == 0x60 || op[0] == 0xc8 || (op[0] == 0xff && (group == 2 || group == 3))) ? MEMORY_UNLESS_FAULT
																	    : MEMORY_SAID;
}

static bool is_prefix(uint8_t b)
{
	return b == 0x0f || (b & 0xe7) == 0x26 || (b >= 0x64 && b <= 0x67) || b == 0xf0 || b == 0xf2 || b == 0xf3;
}

/* Writes one instruction; false: one that is left out. */
static bool instruction(struct test *t)
{
	uint8_t *p = t->code;
	bool two = false, rep = false, lock = false, osize = false, osize16;
	static const uint8_t prefixes[] = { 0x66, 0x67, 0x66, 0x67, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0xf2, 0xf3, 0xf3, 0xf0 };
	const uint32_t form = below(4);
	uint8_t *op;

	for (uint32_t n = below(3); n--;) {
		*p = prefixes[below(sizeof(prefixes))];
		rep |= *p == 0xf3 || *p == 0xf2;
		lock |= *p == 0xf0;
		osize |= *p == 0x66;
		p++;
	}
	osize16 = osize != (t->mode == MODE_V86 || t->mode == MODE_16);
	if (one_in(3)) {
		*p++ = 0x0f;
		two = true;
	}
	op = p;
	*p++ = two ? second[below(sizeof(second))] : (uint8_t)random_u32();
	if (two && op[0] == 0x38)
		*p++ = 0xf0 | below(2);
	for (int i = 0; p < t->code + sizeof(t->code); i++) {
		const uint8_t any = (uint8_t)random_u32();

		switch (i ? form : 0) {
		case 0: *p++ = any; break;
		case 1: *p++ = i & 1 ? any : any & 0x2f; break;
		case 2: *p++ = (i & 3) == 1 ? any : (i & 3) == 2 ? any & 0x2f : 0; break;
		default: *p++ = i & 1 ? any & 0x1f : 0; break;
		}
	}
	if (!two && is_prefix(op[0]))
		return false;
	if (!two && (op[0] == 0xc4 || op[0] == 0xc5 || op[0] == 0x62) && t->mode != MODE_V86 && op[1] >= 0xc0)
		return false; /* VEX and EVEX */
	if (!two && op[0] == 0xcf && t->mode == MODE_V86 && !osize16)
		return false; /* to an EIP beyond 64 KiB: #GP by the manuals, but not in Bochs */
	if (two && lock && (op[0] & 0xfc) == 0x20)
		return false; /* with LOCK it may be CR8 */
	if (two && op[0] == 0xc7 && (op[1] >> 3 & 7) != 1)
		return false;
	if (two && op[0] >= 0xc8 && op[0] <= 0xcf && osize16)
		return false; /* BSWAP of 16 bits: undefined */
	if (two && (op[0] & 0xf6) == 0xa4 && osize16)
		return false; /* SHLD, SHRD of 16 bits by more than 16: undefined */
	t->undefined = undefined_flags(two, op, rep);
	t->memory = memory_after(two, op, osize16);
	t->pops = !two && (op[0] == 0x9d || op[0] == 0xca || op[0] == 0xcb || op[0] == 0xcf);
	t->fault_unsaid = two ? op[0] == 0xb2 || op[0] == 0xb4 || op[0] == 0xb5
			      : op[0] == 0xe8 || op[0] == 0x9a || op[0] == 0xc4 || op[0] == 0xc5 || (op[0] == 0xff && (op[1] & 0x30) == 0x10);
	return true;
}

void generate(struct test *t)
{
	uint32_t *r = &t->in.edi;

	t->mode = (enum mode)below(MODES);
	while (!instruction(t))
		;
	for (int i = 0; i < 8; i++)
		r[i] = value();
	if (t->mode == MODE_FLAT) /* offsets are linear addresses there */
		for (int i = 0; i < 8; i++)
			if (!one_in(3))
				r[i] = SANDBOX + 0x1000 + below(SANDBOX_SIZE - 0x1000);
	if (one_in(4))
		t->in.ecx = below(20);
	t->in.eip = below(16) ? below(0xfe0) : 0xff0 + below(16);
	t->in.esp = value() & (one_in(8) ? ~0u : ~3u);
	t->in.es = data_selector(t->mode);
	t->in.ds = data_selector(t->mode);
	t->in.fs = data_selector(t->mode);
	t->in.gs = data_selector(t->mode);
	t->in.eflags = 2 | F_TF | (random_u32() & (F_CF | F_PF | F_AF | F_ZF | F_SF | F_OF)) | (one_in(4) ? F_DF : 0) | (one_in(16) ? F_NT : 0) |
		       (one_in(8) ? F_AC : 0) | (one_in(8) ? F_ID : 0);
	switch (t->mode) {
	case MODE_V86:
		t->in.eflags |= F_VM | (one_in(2) ? 0x3000 : 0);
		t->in.cs = 0x4000;
		t->in.ss = 0x4000 + (one_in(4) ? below(0x100) : 0);
		break;
	case MODE_16:
		t->in.cs = 5 << 3 | 3;
		t->in.ss = (uint32_t)(one_in(3) ? 9 : 7) << 3 | 3;
		break;
	case MODE_32:
		t->in.cs = 6 << 3 | 3;
		t->in.ss = (uint32_t)(one_in(3) ? 7 : 9) << 3 | 3;
		break;
	default:
		t->in.cs = 14 << 3 | 3;
		t->in.ss = 8 << 3 | 3;
		t->in.eip += SANDBOX;
		t->in.esp = SANDBOX + (t->in.esp & (SANDBOX_SIZE - 1));
		break;
	}
	if (t->memory == MEMORY_UNSAID)
		t->in.eflags &= ~(uint32_t)F_AC;
	if (t->pops) {
		t->in.esp = (t->in.esp & 0xffff0000) | (0x1000 + below(0x2000));
		t->in.eflags &= ~(uint32_t)F_AC;
		if (t->mode == MODE_V86)
			t->in.ss = 0x4000;
	}
	/* loads of segment registers get selectors that mean something */
	if (one_in(3))
		t->in.eax = (t->in.eax & 0xffff0000) | selector(t->mode);
}
