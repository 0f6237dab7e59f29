/*
 * code.c - random code of a hypervisor and of its guest: of pieces that the translator has lowerings for, and instructions that can be intercepted. What it does depends on
 * the registers, tables and VMCB alone: time stands still in the guest (svm_engines.c), and no flag that a processor leaves undefined is used.
 */
#include "case.h"

#include <string.h>

#include "../random.h"

struct code { uint8_t *at, *end; uint64_t va; uint8_t *start; };

static void u8(struct code *c, unsigned b)
{
	if (c->at < c->end)
		*c->at++ = (uint8_t)b;
}
static void bytes(struct code *c, const char *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		u8(c, (uint8_t)s[i]);
}
static void u32(struct code *c, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		u8(c, v >> 8 * i);
}
#define B(s) bytes(c, s, sizeof(s) - 1)

/* Registers that hold addresses of data, and those that hold anything: RCX counts loops, RSP is the stack. */
static unsigned pointer(void)
{
	static const uint8_t r[] = { RBX, RBP, RSI, RDI, 8, 10, 12 };

	return r[below(ARRAY_LEN(r))];
}
static unsigned value(void)
{
	static const uint8_t r[] = { RAX, RDX, 9, 11, 13, 14, 15 };

	return r[below(ARRAY_LEN(r))];
}

/* A memory operand [base + disp]; reg is the other one. */
static void operand(struct code *c, unsigned reg, unsigned base, int32_t disp)
{
	const bool wide = disp < -128 || disp > 127;

	u8(c, (wide ? 0x80 : 0x40) | (reg & 7) << 3 | (base & 7));
	if ((base & 7) == 4)
		u8(c, 0x24);
	if (wide)
		u32(c, (uint32_t)disp);
	else
		u8(c, (uint8_t)disp);
}

static void access_at(struct code *c, unsigned base, int32_t disp)
{
	static const uint8_t ops[] = { 0x8b, 0x89, 0x89, 0x03, 0x01, 0x33, 0x3b, 0x87 };
	const unsigned reg = value(), size = (unsigned)below(4);
	unsigned op = ops[below(ARRAY_LEN(ops))];

	if (chance(8)) { /* movups, there and back */
		u8(c, 0x40 | (base >> 3));
		B("\x0f\x10");
		operand(c, 0, base, disp);
		u8(c, 0x40 | (base >> 3));
		B("\x0f\x11");
		operand(c, 0, base, disp + 16);
		return;
	}
	if (size == 1)
		u8(c, 0x66);
	u8(c, 0x40 | (size == 3) << 3 | (reg >> 3) << 2 | (base >> 3));
	u8(c, size ? op : op - 1);
	operand(c, reg, base, disp);
}

/* Several accesses off one register: a span, which may cross a page. */
static void span(struct code *c)
{
	const unsigned base = pointer();
	const int32_t disp = chance(70) ? (int32_t)below(100) : (int32_t)below(8192) - 4096;

	for (unsigned n = 1 + (unsigned)below(5); n--;)
		access_at(c, base, disp + (int32_t)below(64));
}

static void stack(struct code *c)
{
	unsigned n = 1 + (unsigned)below(4);

	for (unsigned i = n; i--;) {
		unsigned r = value();

		if (r > 7)
			u8(c, 0x41);
		u8(c, 0x50 | (r & 7));
	}
	if (chance(50))
		access_at(c, pointer(), (int32_t)below(64));
	for (n = chance(80) ? n : (unsigned)below(6); n--;) {
		unsigned r = value();

		if (r > 7)
			u8(c, 0x41);
		u8(c, 0x58 | (r & 7));
	}
}

static void string(struct code *c)
{
	static const char ops[] = { '\xaa', '\xab', '\xa4', '\xa5', '\xac', '\xa6', '\xae' }; /* stos, movs, lods, cmps, scas */

	u8(c, 0xb9); /* mov ecx, n */
	u32(c, (uint32_t)below(chance(80) ? 12 : 600));
	if (chance(80))
		u8(c, 0xf3);
	if (chance(50))
		u8(c, 0x48);
	bytes(c, &ops[below(sizeof(ops))], 1);
}

/* What can be intercepted, or is a matter of the translator's modes. */
static void system_insn(struct code *c)
{
	static const struct { uint8_t len; char text[12]; } ops[] = {
		{ 1, "\xfa" }, { 1, "\xfb" }, { 2, "\xfb\x90" }, { 1, "\x9c" }, { 2, "\x9c\x58" }, { 2, "\x9c\x9d" }, { 1, "\x9d" }, { 2, "\x0f\xa2" }, { 2, "\xf3\x90" },
		{ 2, "\x0f\x31" }, { 3, "\x0f\x01\xf9" }, { 2, "\xcd\x80" }, { 1, "\xcc" }, { 1, "\xf1" }, { 2, "\x0f\x0b" }, { 3, "\x0f\x01\xd9" }, { 3, "\x0f\x01\xdc" },
		{ 3, "\x0f\x01\xdd" }, { 3, "\x0f\x01\x3f" }, { 3, "\x0f\x01\x3e" }, { 3, "\x0f\x20\xc0" }, { 3, "\x0f\x20\xd8" }, { 3, "\x0f\x20\xe0" }, { 4, "\x44\x0f\x20\xc0" },
		{ 4, "\x44\x0f\x22\xc0" }, { 6, "\x0f\x20\xd8\x0f\x22\xd8" }, { 6, "\x0f\x20\xe0\x0f\x22\xe0" }, { 6, "\x0f\x20\xc0\x0f\x22\xc0" }, { 2, "\x0f\x06" }, { 2, "\xe6\x80" },
		{ 2, "\xe4\x80" }, { 1, "\xee" }, { 1, "\xed" }, { 2, "\x0f\x09" }, { 3, "\x0f\x01\xf8" }, { 3, "\x0f\x01\xca" }, { 3, "\x0f\x01\xcb" }, { 2, "\x0f\x05" },
		{ 3, "\x48\x0f\x07" }, { 1, "\xf4" }, { 1, "\xfc" }, { 3, "\x0f\x21\xf8" }, { 3, "\x0f\x21\xf0" }, { 5, "\xb8\x00\x80\x00\x00" }, { 3, "\x0f\x01\xda" }, { 3, "\x0f\x01\xdb" },
		{ 2, "\x48\xcf" }, { 1, "\x9e" }, { 1, "\x9f" }, { 3, "\x0f\x92\xc2" }, { 3, "\x0f\x01\xdf" }, { 2, "\x8c\xd8" }, { 2, "\x8e\xd8" }, { 5, "\xf3\x48\x0f\xae\xc8" }, /* ... rdgsbase */
		{ 5, "\xf3\x48\x0f\xae\xd7" },
	};
	const unsigned i = (unsigned)below(ARRAY_LEN(ops));

	bytes(c, ops[i].text, ops[i].len);
}

static void msr(struct code *c)
{
	static const uint32_t numbers[] = { 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0x277, 0x174, 0x175, 0xc0000103, 0x12345, 0xc0010114, 0xc0010117 };

	u8(c, 0xb9);
	u32(c, numbers[below(ARRAY_LEN(numbers))]);
	B("\x0f\x32");
	if (chance(50))
		B("\x0f\x30");
}

static void piece(struct code *c, unsigned depth);

static void forward_jump(struct code *c, unsigned depth)
{
	uint8_t *hole;

	u8(c, chance(30) ? 0xeb : 0x70 | (unsigned)below(16));
	u8(c, 0);
	hole = c->at - 1;
	piece(c, depth + 1);
	if (c->at < c->end && c->at - hole - 1 < 128)
		*hole = (uint8_t)(c->at - hole - 1);
}

/* mov ecx, n ... loop */
static void loop(struct code *c, unsigned depth)
{
	uint8_t *top;

	u8(c, 0xb9);
	u32(c, 1 + (uint32_t)below(20));
	top = c->at;
	if (chance(70))
		span(c);
	else
		piece(c, depth + 1);
	if (c->at + 2 < c->end && c->at - top < 120) {
		u8(c, 0xe2);
		u8(c, (uint8_t)(top - c->at - 1));
	}
}

/* To another page of code, or just the next instruction. */
static void call(struct code *c)
{
	const uint64_t next = c->va + (uint64_t)(c->at - c->start) + 5;
	const uint64_t to = chance(50) ? next : L2_CODE + below(L2_CODE_PAGES) * PAGE_SIZE;

	u8(c, chance(70) ? 0xe8 : 0xe9);
	u32(c, (uint32_t)(to - next));
}

static void piece(struct code *c, unsigned depth)
{
	switch (below(depth > 2 ? 8 : 14)) {
	case 0: case 1: case 2: span(c); break;
	case 3: case 4: stack(c); break;
	case 5: string(c); break;
	case 6: case 7: access_at(c, pointer(), (int32_t)below(chance(50) ? 64 : 4096)); break;
	case 8: case 9: system_insn(c); break;
	case 10: forward_jump(c, depth); break;
	case 11: loop(c, depth); break;
	case 12: call(c); break;
	default: chance(30) ? msr(c) : chance(20) ? u8(c, 0xc3) : span(c); break;
	}
}

unsigned svm_code_l2(uint8_t *to, unsigned room, uint64_t va, uint64_t seed)
{
	struct code code = { to, to + room - 3, va, to }, *c = &code;

	rng = seed;
	for (unsigned n = 3 + (unsigned)below(14); n--;)
		piece(c, 0);
	code.end += 3;
	B("\x0f\x01\xd9"); /* vmmcall, always intercepted */
	return (unsigned)(code.at - to);
}

unsigned svm_code_l1(uint8_t *to, unsigned room, uint64_t seed)
{
	struct code code = { to, to + room, L1_CODE, to }, *c = &code;
	uint8_t *top = code.at;

	rng = seed;
	for (unsigned n = (unsigned)below(4); n--;)
		chance(70) ? span(c) : stack(c);
	u8(c, 0xb8); /* mov eax, VMCB */
	u32(c, VMCB);
	if (chance(20))
		B("\x0f\x01\xda");
	B("\x0f\x01\xd8");
	if (chance(20))
		B("\x0f\x01\xdb");
	for (unsigned n = (unsigned)below(4); n--;)
		chance(70) ? span(c) : stack(c);
	B("\x48\x8b\x04\x25"); /* on with what follows the instruction that was intercepted, if there was one: mov rax, [VMCB.next_rip]; test; jz; mov [VMCB.rip], rax */
	u32(c, VMCB + offsetof(struct vmcb, next_rip));
	B("\x48\x85\xc0\x74\x08\x48\x89\x04\x25");
	u32(c, VMCB + offsetof(struct vmcb, rip));
	B("\x83\x2c\x25"); /* sub dword [COUNT], 1; jnz top; hlt */
	u32(c, COUNT);
	u8(c, 1);
	B("\x0f\x85");
	u32(c, (uint32_t)(top - (c->at + 4)));
	u8(c, 0xf4);
	return (unsigned)(code.at - to);
}
