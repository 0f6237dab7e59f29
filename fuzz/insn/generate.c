/*
 * generate.c - random code: one instruction, or a short sequence that uses the same few registers as pointers throughout.
 *
 * Kinds of sequence, beside plain ones: loops (LOOP at the end, RCX kept), self-modifying ones (a store over a byte of a later
 * instruction, direct or through the alias), ones that run off the end of the code pages, raw bytes, too many prefixes.
 * Branches go forward, except the loop's.
 */
#include <string.h>
#include "insn_fuzz.h"

static const struct mnemonic *pick_from(struct rng *r, bool (*want)(const struct mnemonic *, unsigned), unsigned arg)
{
	static const struct mnemonic *list[GROUP_COUNT + 1][1200];
	static unsigned count[GROUP_COUNT + 1];
	unsigned slot = arg;

	if (!count[slot])
		for (unsigned i = 0; i < mnemonic_count && count[slot] < ARRAY_LEN(list[slot]); i++)
			if (want(&mnemonics[i], arg))
				list[slot][count[slot]++] = &mnemonics[i];
	if (!count[slot])
		return &mnemonics[rng_below(r, mnemonic_count)];
	return list[slot][rng_below(r, count[slot])];
}

static bool in_group(const struct mnemonic *m, unsigned group) { return m->group == group; }
static bool in_hot(const struct mnemonic *m, unsigned unused) { return (void)unused, m->hot; }

static const struct mnemonic *pick_mnemonic(struct rng *r)
{
	uint32_t k = rng_below(r, 100);

	return k < 40 ? pick_from(r, in_hot, GROUP_COUNT) : k < 56 ? pick_from(r, in_group, GROUP_INT) :
	       k < 66 ? pick_from(r, in_group, GROUP_X87) : k < 83 ? pick_from(r, in_group, GROUP_SSE) :
	       pick_from(r, in_group, GROUP_AVX);
}

static uint8_t pick_reg(struct rng *r, uint16_t set, uint32_t percent)
{
	if (set && rng_chance(r, percent))
		for (;;) {
			uint8_t reg = (uint8_t)rng_below(r, 16);
			if (set >> reg & 1)
				return reg;
		}
	return (uint8_t)rng_below(r, 16);
}

struct encoding {
	uint8_t b[32];
	unsigned n;
	uint8_t rex_r, rex_x, rex_b;
};

/* ModRM, SIB and displacement of a memory operand go to t; the register extensions to e. */
static unsigned encode_memory(const struct form *f, struct rng *r, const struct plan *p, struct encoding *e, uint8_t *t)
{
	uint32_t kind = rng_below(r, 100);
	uint8_t base = pick_reg(r, p->pointers, 93), index, scale = (uint8_t)rng_below(r, 4), mod = (uint8_t)rng_below(r, 3);
	unsigned n = 0;
	int32_t disp = (int32_t)rng_below(r, 1024) - 512;
	bool sib = kind >= 58 || (base & 7) == RSP;

	if (kind < 12) {	/* RIP-relative */
		t[n++] = (uint8_t)(f->reg << 3 | 5);
		store_u32(t + n, 0);
		return n + 4;
	}
	if (kind < 17) {	/* absolute */
		t[n++] = (uint8_t)(f->reg << 3 | 4);
		t[n++] = 0x25;
		store_u32(t + n, 0);
		return n + 4;
	}
	if (rng_chance(r, 1))
		disp = (int32_t)rng_next(r);
	if (mod == 0 && (base & 7) == RBP)
		mod = 1;
	e->rex_b = base >> 3;
	t[n++] = (uint8_t)(mod << 6 | f->reg << 3 | (sib ? 4 : base & 7));
	if (sib) {
		index = pick_reg(r, p->smalls, 88);
		if (kind < 58 || rng_chance(r, 10))
			index = RSP; /* none */
		e->rex_x = index >> 3;
		t[n++] = (uint8_t)(scale << 6 | (index & 7) << 3 | (base & 7));
	}
	if (mod == 1) {
		t[n++] = (uint8_t)disp;
	} else if (mod == 2) {
		store_u32(t + n, (uint32_t)disp);
		n += 4;
	}
	return n;
}

static bool is_string_opcode(const struct form *f)
{
	return !f->vex && f->map == 0 && ((f->opcode >= 0xa4 && f->opcode <= 0xaf && f->opcode != 0xa8 && f->opcode != 0xa9) ||
					  (f->opcode >= 0x6c && f->opcode <= 0x6f));
}

static void encode_prefixes(const struct form *f, struct rng *r, struct encoding *e, bool plain)
{
	bool memory = f->has_modrm && !f->mod3;
	static const uint8_t ignored[] = { 0x26, 0x2e, 0x36, 0x3e };

	if ((memory || is_string_opcode(f)) && rng_chance(r, 6))
		e->b[e->n++] = rng_chance(r, 50) ? 0x64 : 0x65;
	if (rng_chance(r, 3))
		e->b[e->n++] = 0x67;
	if (rng_below(r, 200) == 0) /* a REX that another prefix makes meaningless */
		e->b[e->n++] = (uint8_t)(0x40 | rng_below(r, 16)), e->b[e->n++] = ignored[rng_below(r, 4)];
	if (rng_chance(r, 1))
		e->b[e->n++] = ignored[rng_below(r, 4)];
	if (plain || f->vex)
		return;
	if (memory && f->group == GROUP_INT && f->map < 2 && rng_chance(r, 12))
		e->b[e->n++] = 0xf0;
	if (f->prefix != 0x66 && rng_chance(r, f->group == GROUP_INT ? 6 : 1))
		e->b[e->n++] = 0x66;
	if (!f->prefix && rng_chance(r, is_string_opcode(f) ? 50 : 1))
		e->b[e->n++] = rng_chance(r, 60) ? 0xf3 : 0xf2;
}

/* One try at an instance of the form. The tail after ModRM is random: the decoder tells how much of it is immediate. */
static bool encode_form(const struct form *f, struct rng *r, const struct plan *p, uint64_t va, struct insn *in, uint8_t *out, bool plain)
{
	struct encoding e = { .n = 0 };
	uint8_t t[16];
	unsigned tn = 0, vvvv = plain || rng_chance(r, 30) ? 0 : rng_below(r, 16);
	uint64_t tail = rng_next(r), tail2 = rng_next(r);

	if (f->has_modrm) {
		if (f->mod3)
			t[tn++] = (uint8_t)(0xc0 | f->reg << 3 | (f->rm >= 0 ? (uint32_t)f->rm : rng_below(r, 8)));
		else
			tn = encode_memory(f, r, p, &e, t);
	}
	if (!plain) {
		e.rex_r = rng_chance(r, 40);
		if (!f->has_modrm || f->mod3)
			e.rex_b = rng_chance(r, 40);
	}
	encode_prefixes(f, r, &e, plain);
	if (f->vex) {
		unsigned pp = f->prefix == 0x66 ? 1 : f->prefix == 0xf3 ? 2 : f->prefix == 0xf2 ? 3 : 0;

		if (f->map == 1 && !f->w && !e.rex_x && !e.rex_b && rng_chance(r, 60)) {
			e.b[e.n++] = 0xc5;
			e.b[e.n++] = (uint8_t)(!e.rex_r << 7 | (~vvvv & 15) << 3 | f->vex_l << 2 | pp);
		} else {
			e.b[e.n++] = 0xc4;
			e.b[e.n++] = (uint8_t)(!e.rex_r << 7 | !e.rex_x << 6 | !e.rex_b << 5 | f->map);
			e.b[e.n++] = (uint8_t)(f->w << 7 | (~vvvv & 15) << 3 | f->vex_l << 2 | pp);
		}
	} else {
		uint8_t rex = (uint8_t)(0x40 | f->w << 3 | e.rex_r << 2 | e.rex_x << 1 | e.rex_b);

		if (f->prefix)
			e.b[e.n++] = f->prefix;
		if (rex != 0x40 || rng_chance(r, 12))
			e.b[e.n++] = rex;
		if (f->map)
			e.b[e.n++] = 0x0f;
		if (f->map > 1)
			e.b[e.n++] = f->map == 2 ? 0x38 : 0x3a;
	}
	e.b[e.n++] = f->opcode;
	for (unsigned i = 0; i < tn; i++)
		e.b[e.n++] = t[i];
	switch (rng_below(r, 4)) {
	case 0: tail &= 0xff; tail2 = 0; break;	/* small numbers */
	case 1: tail = tail % 128 | ~127ull; tail2 = ~0ull; break;
	default: break;
	}
	store_u64(e.b + e.n, tail);
	store_u64(e.b + e.n + 8, tail2);
	if (insn_decode(in, e.b, 15, INSN_MODE_64) || !form_allowed(in, true))
		return false;
	if (in->cls == INSN_INVALID || in->cls == INSN_TOO_LONG)
		return false;
	if (in->mem.present && (in->mem.base == INSN_BASE_RIP || (in->mem.base == INSN_NO_REG && in->mem.index == INSN_NO_REG))) {
		uint64_t target = state_pick_address(r, in->mem.size ? in->mem.size : 8);
		unsigned at = in->modrm_off + 1u + ((in->modrm & 7) == 4);

		if (in->mem.seg == SEG_FS)
			target -= VA_FS;
		if (in->mem.seg == SEG_GS)
			target -= VA_GS;
		if (in->modrm_off)
			store_u32(e.b + at, (uint32_t)(in->mem.base == INSN_BASE_RIP ? target - (va + in->len) : target));
		else	/* moffs */
			store_u64(e.b + in->opcode_off + 1, target);
		insn_decode(in, e.b, 15, INSN_MODE_64);
	}
	memcpy(out, e.b, in->len);
	return true;
}

/* Something fit for this place in the sequence. */
static bool make_insn(struct plan *p, struct rng *r, const struct mnemonic *force, uint64_t va, struct insn *in, uint8_t *out)
{
	for (int tries = 0; tries < 60; tries++) {
		const struct mnemonic *m = force ? force : pick_mnemonic(r);
		const struct form *f = &forms[m->first + rng_below(r, m->count)];

		if (!encode_form(f, r, p, va, in, out, tries > 20 && tries & 1))
			continue;
		if (force && tries < 50 && in->mnemonic != force->id)
			continue;
		if (p->c.insns && form_use_of(in, 0) != USE_ANYWHERE)
			continue;
		if (in->fl_read & p->undefined || (p->loop && insn_keeps_undefined(in)))
			continue;
		if (p->loop && (in->gpr_write & 1u << RCX || in->cls == INSN_LOOP))
			continue;
		if (!force && in->gpr_write & p->pointers & ~(1u << RSP) && in->cls == INSN_PLAIN && rng_chance(r, 80))
			continue;
		return true;
	}
	return false;
}

static bool append(struct plan *p, const uint8_t *bytes, const struct insn *in)
{
	struct icase *c = &p->c;

	if (c->insns == INSNS_MAX || c->code_len + in->len > CODE_MAX - 32)
		return false;
	p->all[c->insns] = *in;
	c->insn_at[c->insns++] = (uint8_t)c->code_len;
	memcpy(c->code + c->code_len, bytes, in->len);
	c->code_len = (uint16_t)(c->code_len + in->len);
	/* Jumps may skip what defines a flag again, so only what is never skipped would do: nothing is forgotten. */
	if (insn_keeps_undefined(in))
		p->undefined |= in->fl_undef;
	return true;
}

/* Bytes that nobody meant: mostly #UD, or prefixes beyond the limit of 15 bytes. */
static void append_raw(struct plan *p, struct rng *r)
{
	static const uint8_t prefixes[] = { 0x66, 0x2e, 0x3e, 0x26, 0x36, 0x64, 0x65, 0x67, 0xf2, 0xf3, 0x48, 0x40, 0x66, 0x2e };
	uint8_t b[15];
	struct insn in;

	for (unsigned i = 0; i < 15; i++)
		b[i] = (uint8_t)(rng_next(r) >> 32);
	if (rng_chance(r, 30)) {
		unsigned n = 8 + rng_below(r, 8);
		for (unsigned i = 0; i < n && i < 15; i++)
			b[i] = prefixes[rng_below(r, ARRAY_LEN(prefixes))];
	} else if (rng_chance(r, 50)) {
		b[0] = 0x0f;
	}
	if (insn_decode(&in, b, 15, INSN_MODE_64) || form_use_of(&in, 0) == USE_NEVER)
		return;
	append(p, b, &in);
}

/* What functions begin and end with: several PUSHes, or several POPs. */
static void append_stack_run(struct plan *p, struct rng *r)
{
	const unsigned n = 2 + rng_below(r, 6);
	const uint8_t opcode = rng_chance(r, 50) ? 0x50 : 0x58;
	struct insn in;

	for (unsigned i = 0; i < n; i++) {
		uint8_t b[15] = { 0 }, reg = (uint8_t)rng_below(r, 16), at = 0;

		if (p->loop && reg == RCX)
			continue;
		if (opcode == 0x50 && rng_chance(r, 10)) {
			b[0] = 0x6a;
			b[1] = (uint8_t)rng_below(r, 256);
		} else {
			if (reg >= 8)
				b[at++] = 0x41;
			b[at] = (uint8_t)(opcode | (reg & 7));
		}
		if (insn_decode(&in, b, 15, INSN_MODE_64) || !append(p, b, &in))
			return;
	}
}

static void place(struct plan *p, struct rng *r)
{
	uint32_t k = rng_below(r, 100);

	p->c.code_at = (uint16_t)(k < 70 ? rng_below(r, 30) * 256 : k < 90 ? PAGE_SIZE - rng_below(r, 48) : rng_below(r, CODE_AREA - CODE_MAX));
	p->c.in.rip = VA_CODE + p->c.code_at;
}

static void patch_relative(struct icase *c, const struct insn *in, unsigned i, unsigned target)
{
	int64_t rel = (int64_t)target - (c->insn_at[i] + in->len);
	uint8_t *imm = c->code + c->insn_at[i] + in->imm_off;

	if (in->imm_len == 1)
		*imm = (uint8_t)rel;
	else if (in->imm_len == 2)
		store_u16(imm, (uint16_t)rel);
	else
		store_u32(imm, (uint32_t)rel);
}

static void aim_branches(struct plan *p, struct rng *r)
{
	struct icase *c = &p->c;

	for (unsigned i = 0; i < c->insns; i++) {
		const struct insn *in = &p->all[i];
		unsigned t = i + 1 + rng_below(r, c->insns - i);

		if (in->cls != INSN_JCC && in->cls != INSN_JMP && in->cls != INSN_CALL && in->cls != INSN_LOOP)
			continue;
		if (p->loop && i == c->insns - 1u)
			t = rng_below(r, i);
		patch_relative(c, in, i, t < c->insns ? c->insn_at[t] : c->code_len);
	}
}

/* The store that a self-modifying sequence is about: `mov byte [target], imm8`; the target is filled in later. */
static void append_store(struct plan *p, bool alias)
{
	static const uint8_t direct[15] = { 0xc6, 0x05 }, absolute[15] = { 0xc6, 0x04, 0x25 };
	struct insn in;

	insn_decode(&in, alias ? absolute : direct, 15, INSN_MODE_64);
	append(p, alias ? absolute : direct, &in);
}

/* Aims the store of instruction i at a byte of another one, such that what results is still an instruction of that length. */
static void aim_store(struct plan *p, struct rng *r, unsigned i, bool alias)
{
	struct icase *c = &p->c;
	const struct insn *st = &p->all[i];
	uint8_t *code = c->code + c->insn_at[i];

	for (int tries = 0; tries < 40; tries++) {
		unsigned victim = rng_below(r, c->insns);
		const struct insn *v = &p->all[victim];
		unsigned byte = rng_below(r, v->len);
		uint8_t b[15], value = (uint8_t)(rng_next(r) >> 40);
		struct insn changed;

		if (victim == i || (!p->loop && victim < i) || (p->loop && victim == c->insns - 1u))
			continue;
		memcpy(b, c->code + c->insn_at[victim], 15);
		b[byte] = value;
		if (insn_decode(&changed, b, 15, INSN_MODE_64) || changed.len != v->len ||
		    form_use_of(&changed, 0) != USE_ANYWHERE || (p->loop && changed.gpr_write & 1u << RCX) ||
		    changed.cls == INSN_JMP || changed.cls == INSN_JCC || changed.cls == INSN_CALL || changed.cls == INSN_LOOP)
			continue;
		uint64_t offset = c->code_at + c->insn_at[victim] + byte;
		if (alias)
			store_u32(code + 3, (uint32_t)(VA_ALIAS_CODE + offset));
		else
			store_u32(code + 2, (uint32_t)(VA_CODE + offset - (c->in.rip + c->insn_at[i] + st->len)));
		code[st->len - 1] = value;
		return;
	}
	/* Nothing fit: a store to plain data. */
	if (alias)
		store_u32(code + 3, (uint32_t)VA_DATA);
	else
		store_u32(code + 2, (uint32_t)(VA_DATA - (c->in.rip + c->insn_at[i] + st->len)));
}

static void choose_registers(struct plan *p, struct rng *r)
{
	static const uint8_t chance[16] = { 12, 5, 12, 45, 0, 60, 75, 75, 25, 25, 30, 30, 30, 25, 25, 25 };

	const uint8_t only = (uint8_t)rng_below(r, 16);
	const bool few = rng_chance(r, 25);	/* most accesses off one register */

	p->pointers = 1u << RSP;
	for (unsigned i = 0; i < 16; i++) {
		if (few ? i == only : rng_chance(r, chance[i]))
			p->pointers |= (uint16_t)(1u << i);
		else if (i != RSP && rng_chance(r, i == RCX ? 60 : 25))
			p->smalls |= (uint16_t)(1u << i);
	}
}

/* Copies of the last bytes are cut off at the end of the code pages, where the next fetch faults. */
static void place_at_end(struct plan *p)
{
	struct icase *c = &p->c;
	struct insn in;
	uint16_t at = (uint16_t)(CODE_AREA - c->code_len);

	/* RIP-relative operands were made for another place: the case is as good without them. */
	for (unsigned i = 0; i < c->insns; i++)
		if (p->all[i].mem.base == INSN_BASE_RIP) {
			uint8_t *d = c->code + c->insn_at[i] + p->all[i].modrm_off + 1;
			store_u32(d, load_u32(d) + c->code_at - at);
			insn_decode(&in, c->code + c->insn_at[i], 15, INSN_MODE_64);
			p->all[i] = in;
		}
	c->code_at = at;
	c->in.rip = VA_CODE + at;
}

void generate_code(struct plan *p, struct rng *r, const struct mnemonic *force)
{
	struct icase *c = &p->c;
	unsigned want = rng_chance(r, 45) ? 1 : 2 + rng_below(r, 11), smc = ~0u;
	bool alias = rng_chance(r, 40), run_off = rng_chance(r, 2);
	uint8_t b[32];
	struct insn in;

	memset(p, 0, sizeof(*p));
	choose_registers(p, r);
	place(p, r);
	p->loop = want > 2 && rng_chance(r, 15);
	if (p->loop) {
		p->pointers &= (uint16_t)~(1u << RCX);
		p->smalls |= 1u << RCX;
	}
	if (want > 2 && rng_chance(r, 12))
		smc = rng_below(r, want - 1);
	if (!force && rng_chance(r, 2))
		append_raw(p, r);
	while (c->insns < want) {
		if (c->insns == smc && c->insns) {
			append_store(p, alias);
			continue;
		}
		if (want > 2 && c->insns && rng_chance(r, 4))
			append_stack_run(p, r);
		if (!make_insn(p, r, c->insns ? 0 : force, c->in.rip + c->code_len, &in, b) || !append(p, b, &in))
			break;
		/* An image with bytes that need not agree: nobody may read it. */
		if (in.cls == INSN_FPU_ENV || (in.cls >= INSN_XSAVE && in.cls <= INSN_FXSAVE))
			break;
		/* Run once, with the selector they were given: the host kernel's table is not the guest's. */
		if (in.cls >= INSN_LAR && in.cls <= INSN_VERW)
			break;
	}
	if (!c->insns) {
		b[0] = 0x90;
		insn_decode(&in, b, 15, INSN_MODE_64);
		append(p, b, &in);
	}
	if (p->loop && !(p->all[0].cls >= INSN_LAR && p->all[0].cls <= INSN_VERW)) {
		static const uint8_t loop[15] = { 0xe2 };
		insn_decode(&in, loop, 15, INSN_MODE_64);
		if (c->insns > 1)
			append(p, loop, &in);
		else
			p->loop = false;
	} else {
		p->loop = false;
	}
	if (run_off && c->code_at + c->code_len <= (int)CODE_AREA)
		place_at_end(p);
	aim_branches(p, r);
	if (smc && smc < c->insns && p->all[smc].opcode == 0xc6 && p->all[smc].cls == INSN_PLAIN)
		c->rewrites = true, aim_store(p, r, smc, alias);
	p->first = p->all[0];
	insn_decode(&p->first, c->code, 15, INSN_MODE_64);
	p->division = p->first.map == 0 && (p->first.opcode | 1) == 0xf7 && (p->first.modrm >> 3 & 7) >= 6;
	for (unsigned i = 0; i < c->insns; i++)
		if ((p->all[i].cls == INSN_JMP_IND || p->all[i].cls == INSN_CALL_IND) && p->all[i].mem_reg < 16 &&
		    p->all[i].mem_reg != RSP && rng_chance(r, 85))
			p->code_pointers |= (uint16_t)(1u << p->all[i].mem_reg);
	if (!(run_off && c->code_at + c->code_len == CODE_AREA)) {
		c->code[c->code_len] = 0xe9;
		store_u32(c->code + c->code_len + 1, (uint32_t)(VA_EXIT - (c->in.rip + c->code_len + 5)));
		c->code_len = (uint16_t)(c->code_len + 5);
	}
	if (c->code_at + c->code_len > (int)CODE_AREA)
		c->code_len = (uint16_t)(CODE_AREA - c->code_at);
}
