/*
 * state.c - random states to run a piece of code in: registers, flags, FPU and vector state, memory patches.
 *
 * The first instruction's memory operand is aimed exactly (in a page, across two, at read-only, unmapped or non-canonical
 * addresses), by choosing its base register; later instructions find pointers into the window in the plan's pointer registers.
 */
#include <string.h>
#include "insn_fuzz.h"

uint64_t state_pick_address(struct rng *r, unsigned size)
{
	uint32_t k = rng_below(r, 1000), back = size ? rng_below(r, size + 1) : 0;
	uint64_t any = rng_below(r, PAGE_SIZE);

	if (k < 560)
		return VA_DATA + (k & 1) * PAGE_SIZE + 64 + (any & 0xf80);
	if (k < 700)
		return VA_DATA + (k & 1) * PAGE_SIZE + any;
	if (k < 780)
		return VA_DATA + PAGE_SIZE - back;
	if (k < 820)
		return VA_DATA + 2 * PAGE_SIZE - back;
	if (k < 850)
		return VA_DATA + 2 * PAGE_SIZE + any;
	if (k < 880)
		return VA_DATA + 3 * PAGE_SIZE - back;
	if (k < 900)
		return VA_DATA + 3 * PAGE_SIZE + any;
	if (k < 915)
		return VA_LONE - back;
	if (k < 930)
		return VA_LONE + PAGE_SIZE - back;
	if (k < 945)
		return VA_LONE + any;
	if (k < 960)
		return VA_ALIAS_DATA + any;
	if (k < 972)
		return VA_ALIAS_CODE + PAGE_SIZE + any;
	if (k < 980)
		return VA_CODE + any;
	if (k < 984)
		return 0x800000000000ull - back;
	if (k < 988)
		return 0xffff800000000000ull - back;
	if (k < 991)
		return 0 - (uint64_t)back;
	if (k < 994)
		return rng_next(r);
	return VA_DATA - back;
}

static uint64_t random_value(struct rng *r)
{
	static const uint64_t special[] = {
		0, 1, ~0ull, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
		0x7fffffffffffffff, 0x8000000000000000, 0x5555555555555555,
	};
	uint64_t v = rng_next(r);

	switch (rng_below(r, 8)) {
	case 0: return special[rng_below(r, ARRAY_LEN(special))];
	case 1: return v & 0xff;
	case 2: return (uint64_t)(int64_t)(int8_t)v;
	case 3: return v & 0xffffffff;
	case 4: return 1ull << (v & 63);
	case 5: return (v & 1 ? ~0ull : 0) << (v >> 8 & 63);
	default: return v;
	}
}

static uint64_t code_address(const struct icase *c, struct rng *r)
{
	/* Mostly forward, and mostly not the first one: endless loops teach nothing. */
	unsigned i = rng_chance(r, 50) ? c->insns : rng_chance(r, 5) ? 0 : 1 + rng_below(r, c->insns);

	return c->in.rip + (i < c->insns ? c->insn_at[i] : c->code_len >= 5 ? c->code_len - 5u : 0);
}

static void random_gprs(struct icase *c, const struct plan *p, struct rng *r)
{
	for (unsigned i = 0; i < 16; i++) {
		uint16_t bit = (uint16_t)(1u << i);
		uint64_t *g = &c->in.gpr[i];

		if (p->code_pointers & bit)
			*g = code_address(c, r);
		else if (p->pointers & bit && !rng_chance(r, 3))
			*g = rng_chance(r, 85) ? VA_DATA + 0x300 + rng_below(r, 0x1a00) / 16 * 16 : state_pick_address(r, 32);
		else if (p->smalls & bit)
			*g = rng_chance(r, 70) ? rng_below(r, 32) : rng_chance(r, 50) ? rng_below(r, 512) : 0 - (uint64_t)rng_below(r, 64);
		else
			*g = random_value(r);
	}
	if (rng_chance(r, 92))
		c->in.gpr[RSP] = VA_DATA + 0x400 + rng_below(r, 0x1800) / 8 * 8;
	else
		c->in.gpr[RSP] = state_pick_address(r, 8);
	if (p->loop)
		c->in.gpr[RCX] = 1 + rng_below(r, 6);
	if (p->division) {
		c->in.gpr[RDX] = rng_chance(r, 70) ? rng_below(r, 3) : c->in.gpr[RDX];
		if (rng_chance(r, 30))
			c->in.gpr[RDX] = 0 - (c->in.gpr[RAX] >> 63);
	}
}

static void random_flags(struct icase *c, struct rng *r)
{
	c->in.rflags = FL_R1 | FL_IF | (rng_next(r) & FL_ARITH);
	if (rng_chance(r, 15))
		c->in.rflags |= FL_DF;
	if (rng_chance(r, 2))
		c->in.rflags |= FL_AC;
	if (rng_chance(r, 1))
		c->in.rflags |= FL_ID;
	if (rng_below(r, 300) == 0)
		c->in.rflags |= FL_NT;
}

static uint64_t fp_value(struct rng *r)
{
	static const uint32_t f[] = { 0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 1, 0x007fffff,
		0x00800000, 0x7f7fffff, 0x4f000000, 0x5f000000, 0x3f000000, 0x40490fdb };
	static const uint64_t d[] = { 0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000,
		0xfff0000000000000, 0x7ff8000000000000, 0x7ff0000000000001, 1, 0x000fffffffffffff, 0x0010000000000000,
		0x7fefffffffffffff, 0x41e0000000000000, 0x43e0000000000000, 0x3fe0000000000000, 0x400921fb54442d18 };
	uint64_t v = rng_next(r);

	switch (rng_below(r, 5)) {
	case 0: return f[v & 15] | (uint64_t)f[v >> 8 & 15] << 32;
	case 1: return d[v & 15];
	case 2: return (v & 0x807fffff807fffffull) | 0x3f0000003f000000ull | (v >> 4 & 0x0780000007800000ull);
	case 3: return (v & 0x800fffffffffffffull) | 0x3f80000000000000ull | (v >> 3 & 0x00f0000000000000ull);
	default: return v;
	}
}

static void random_vector(uint8_t *low, uint8_t *high, struct rng *r)
{
	uint32_t style = rng_below(r, 6);

	for (int i = 0; i < 4; i++) {
		uint64_t v = rng_next(r);
		uint8_t *at = i < 2 ? low + i * 8 : high + (i - 2) * 8;

		switch (style) {
		case 0: v = 0; break;
		case 1: v &= 0x000003ff000003ffull; break; /* indices of gathers; small integers */
		case 2: v = v & 1 ? ~0ull : v & 0x8080808080808080ull; break; /* masks */
		case 3: break;
		default: v = fp_value(r); break;
		}
		store_u64(at, v);
	}
}

static void random_st(uint8_t *st, struct rng *r)
{
	static const uint16_t exponents[] = { 0, 0x7fff, 0xffff, 0x3fff, 0xbfff, 0x4000, 1, 0x8000, 0x403e, 0x7ffe };
	uint64_t m = rng_next(r);
	uint32_t k = rng_below(r, 8);

	if (k == 0)
		m = 0;
	else if (k == 1)
		m = 1ull << 63;
	else if (k == 2)
		m = 3ull << 62;
	else if (k < 7)
		m |= 1ull << 63;
	store_u64(st, m);
	store_u64(st + 8, rng_chance(r, 40) ? exponents[rng_below(r, ARRAY_LEN(exponents))] :
			  rng_chance(r, 60) ? 0x3fe0 + rng_below(r, 0x80) : (uint16_t)rng_next(r));
}

static void random_fpu(uint8_t *a, struct rng *r)
{
	uint16_t fcw = rng_chance(r, 60) ? 0x37f : (uint16_t)(0x7f | (rng_next(r) & 0xf00)), fsw = (uint16_t)(rng_next(r) & 0x7f00);
	uint32_t mxcsr = rng_chance(r, 60) ? 0x1f80 : 0x1f80 | (uint32_t)(rng_next(r) & 0xe07f);

	memset(a, 0, FPU_AREA_SIZE);
	if (rng_chance(r, 8))
		fcw &= (uint16_t)~(rng_next(r) & 0x3f);
	if (rng_chance(r, 10))
		fsw |= (uint16_t)(rng_next(r) & 0x7f);
	if (fsw & ~fcw & 0x3f)
		fsw |= 0x8080; /* a pending unmasked exception */
	if (rng_chance(r, 8))
		mxcsr &= ~(uint32_t)(rng_next(r) & 0x1f80);
	store_u16(a, fcw);
	store_u16(a + 2, fsw);
	a[4] = (uint8_t)(rng_chance(r, 60) ? 0xff : rng_chance(r, 40) ? 0 : rng_next(r));
	store_u32(a + 24, mxcsr);
	for (int i = 0; i < 8; i++)
		random_st(a + 32 + i * 16, r);
	for (int i = 0; i < 16; i++)
		random_vector(a + 160 + i * 16, a + 576 + i * 16, r);
	store_u64(a + 512, rng_chance(r, 90) ? 7 : rng_next(r) & 7);
}

static struct patch *add_patch(struct icase *c, uint64_t va, unsigned len)
{
	static struct patch dummy;
	struct patch *p = c->patches < PATCHES_MAX ? &c->patch[c->patches++] : &dummy;

	memset(p, 0, sizeof(*p));
	p->va = (uint32_t)va;
	p->len = (uint8_t)(len < PATCH_BYTES ? len : PATCH_BYTES);
	if (va >> 32 || sandbox_offset(va) < 0)
		p->len = 0;
	return p;
}

static uint64_t seg_base(uint8_t seg) { return seg == SEG_FS ? VA_FS : seg == SEG_GS ? VA_GS : 0; }

static uint64_t effective_address(const struct icase *c, const struct insn *in)
{
	const struct insn_mem *m = &in->mem;
	uint64_t a = (uint64_t)m->disp;

	if (m->base == INSN_BASE_RIP)
		a += c->in.rip + in->len;
	else if (m->base < 16)
		a += c->in.gpr[m->base];
	if (m->index < 16)
		a += c->in.gpr[m->index] * m->scale;
	if (in->addrsize == 4)
		a = (uint32_t)a;
	return a + seg_base(m->seg);
}

/* Chooses the base register so that the first instruction's operand lies at a chosen place; returns where it then lies. */
static uint64_t aim_first(struct icase *c, const struct plan *p, struct rng *r)
{
	const struct insn *in = &p->first;
	const struct insn_mem *m = &in->mem;
	uint64_t target = state_pick_address(r, m->size ? m->size : 8), rest;
	bool image = in->cls == INSN_XSAVE || in->cls == INSN_XRSTOR || in->cls == INSN_XSAVEOPT || in->cls == INSN_XSAVEC ||
		     in->cls == INSN_FXSAVE || in->cls == INSN_FXRSTOR;

	if (image && rng_chance(r, 90))
		target &= ~63ull;
	if (m->base < 16) {
		rest = target - (uint64_t)m->disp - seg_base(m->seg);
		if (m->index == m->base)
			c->in.gpr[m->base] = rest / (1u + m->scale);
		else
			c->in.gpr[m->base] = rest - (m->index < 16 ? c->in.gpr[m->index] * m->scale : 0);
		if (in->addrsize == 4 && rng_chance(r, 50))
			c->in.gpr[m->base] |= rng_next(r) << 32;
	} else if (m->index < 16) {
		c->in.gpr[m->index] = (target - (uint64_t)m->disp - seg_base(m->seg)) / m->scale;
	}
	return effective_address(c, in);
}

/* Null ones, the two that every Linux has for user code, and ones beyond any table. */
static uint16_t pick_selector(struct rng *r)
{
	static const uint16_t some[] = { 0, 1, 2, 3, 0x2b, 0x2b, 0x2a, 0x28, 0x33, 0x33, 0x30, 0x10, 0x13, 0x18, 0xfff3, 0xffff };

	return some[rng_below(r, ARRAY_LEN(some))];
}

/* A far pointer or an IRET frame of `count` slots of `width` bytes, good more often than not. */
static void far_frame(struct icase *c, struct rng *r, uint64_t va, unsigned width, unsigned count)
{
	uint64_t slot[5] = { code_address(c, r), SEL_USER_CS, FL_R1 | FL_IF | (rng_next(r) & FL_ARITH), c->in.gpr[RSP], SEL_USER_SS };
	struct patch *p;

	if (rng_chance(r, 15))
		slot[1] = pick_selector(r);
	if (rng_chance(r, 10))
		slot[2] = rng_next(r) & (FL_LEGAL_USER | FL_R1);
	if (rng_chance(r, 10))
		slot[4] = pick_selector(r);
	if (rng_chance(r, 5))
		slot[rng_below(r, count)] = rng_next(r);
	slot[2] &= ~(uint64_t)FL_TF;
	p = add_patch(c, va, count * width);
	for (unsigned i = 0; i < count; i++)
		memcpy(p->bytes + i * width, &slot[i], width);
}

static void special_operands(struct icase *c, const struct plan *p, struct rng *r, uint64_t ea)
{
	const struct insn *in = &p->first;
	uint64_t sp = c->in.gpr[RSP];
	struct patch *patch;

	switch (in->cls) {
	case INSN_RET:
		if (rng_chance(r, 85))
			store_u64(add_patch(c, sp, 8)->bytes, code_address(c, r));
		break;
	case INSN_JMP_IND: case INSN_CALL_IND:
		if (in->mem.present && rng_chance(r, 85))
			store_u64(add_patch(c, ea, 8)->bytes, code_address(c, r));
		break;
	case INSN_RET_FAR: far_frame(c, r, sp, in->opsize ? in->opsize : 8, 2); break;
	case INSN_IRET: far_frame(c, r, sp, in->opsize ? in->opsize : 8, 5); break;
	case INSN_JMP_FAR: case INSN_CALL_FAR: case INSN_LOAD_FAR:
		patch = add_patch(c, ea, in->mem.size ? in->mem.size : 10);
		if (patch->len >= 4) {
			uint64_t where = code_address(c, r);
			memcpy(patch->bytes, &where, patch->len - 2u);
			store_u16(patch->bytes + patch->len - 2, in->cls == INSN_LOAD_FAR || rng_chance(r, 20) ? pick_selector(r) : SEL_USER_CS);
		}
		break;
	case INSN_MOV_TO_SEG: case INSN_LAR: case INSN_LSL: case INSN_VERR: case INSN_VERW: {
		uint16_t sel = pick_selector(r);
		if (in->mem.present)
			store_u16(add_patch(c, ea, 2)->bytes, sel);
		else
			for (int i = 0; i < 16; i++)
				if (in->gpr_read >> i & 1)
					c->in.gpr[i] = (c->in.gpr[i] & ~0xffffull) | sel;
		break;
	}
	case INSN_XSAVE: case INSN_XSAVEOPT: case INSN_XSAVEC: case INSN_XRSTOR:
		c->in.gpr[RAX] = rng_chance(r, 70) ? 7 : rng_next(r) & 7;
		c->in.gpr[RDX] = 0;
		/* fall through */
	case INSN_FXSAVE: case INSN_FXRSTOR:
		patch = add_patch(c, ea, 32);
		store_u16(patch->bytes, (uint16_t)(0x7f | (rng_next(r) & 0xf3f)));
		patch->bytes[4] = (uint8_t)rng_next(r);
		store_u32(patch->bytes + 24, (uint32_t)(rng_next(r) & (rng_chance(r, 90) ? 0xffff : 0xfffff)));
		if (in->cls == INSN_XRSTOR && rng_chance(r, 90)) {
			patch = add_patch(c, ea + 512, 64);
			store_u64(patch->bytes, rng_next(r) & 7);
		} else if (in->cls != INSN_FXSAVE && in->cls != INSN_FXRSTOR && rng_chance(r, 50)) {
			add_patch(c, ea + 512, 64);
		}
		break;
	default: break;
	}
}

/* Memory in which a processor writes the last FPU instruction's addresses, which we do not carry. */
static void mask_pointers(struct icase *c, const struct insn *in, uint64_t ea)
{
	struct mask *m = &c->mask[0];

	switch (in->cls) {
	case INSN_FXSAVE: case INSN_XSAVE: case INSN_XSAVEOPT: case INSN_XSAVEC: *m = (struct mask){ (uint32_t)ea + 6, 18 }; break;
	case INSN_FPU_ENV: *m = in->osz && !(in->rex_off && in->bytes[in->rex_off - 1] & 8) ? (struct mask){ (uint32_t)ea + 6, 8 } : (struct mask){ (uint32_t)ea + 12, 16 }; break;
	default: return;
	}
	c->masks = 1;
}

void generate_state(struct icase *c, const struct plan *p, struct rng *r)
{
	const struct insn *in = &p->first;
	uint64_t ea = 0;

	*c = p->c;
	c->in.ss = SEL_USER_SS;
	random_gprs(c, p, r);
	random_flags(c, r);
	random_fpu(c->in.fpu, r);
	if (in->cls == INSN_BT_MEM && rng_chance(r, 70) && in->reg < 16)
		c->in.gpr[in->reg] = (uint64_t)((int64_t)rng_below(r, 4096) - 2048);
	if (in->mem.present) {
		ea = aim_first(c, p, r);
		if (rng_chance(r, 40)) {
			struct patch *patch = add_patch(c, ea, in->mem.size);
			for (unsigned i = 0; i < PATCH_BYTES; i += 8)
				store_u64(patch->bytes + i, in->need & NEED_FPU_STATE ? fp_value(r) : random_value(r));
			if (in->cls == INSN_PLAIN && in->map == 1 && in->opcode == 0xae) /* LDMXCSR */
				store_u32(patch->bytes, (uint32_t)(rng_next(r) & (rng_chance(r, 95) ? 0xffff : ~0u)));
		}
	}
	if (rng_chance(r, 25))
		store_u64(add_patch(c, c->in.gpr[RSP], 8)->bytes, code_address(c, r));
	special_operands(c, p, r, ea);
	if (in->mem.present)
		mask_pointers(c, in, ea);
}
