/*
 * forms.c - every instruction form that the decoder knows and a guest is offered, found by walking the opcode maps.
 *
 * A form is what stays fixed of an encoding: mandatory prefix, map, opcode, ModRM.reg (or all of ModRM where it is opcode), W, VEX.L,
 * and whether the operand is memory. Forms are sorted by mnemonic, so that generate.c can pick a mnemonic first.
 * Which classes may be part of a case is one table; its reasons are printed by --coverage.
 */
#include <stdlib.h>
#include <string.h>
#include <Zydis/Zydis.h>
#include "insn_fuzz.h"

const struct form *forms;
const struct mnemonic *mnemonics;
unsigned form_count, mnemonic_count;

static struct form *table;
static size_t table_room;
static struct mnemonic *names;
static uint64_t offered;

#define SAME_TWICE "does not give the same answer twice"
#define HOST_STATE "shows state of the host's kernel"
static const struct class_rule { enum form_use use; const char *reason; } class_rules[INSN_CLASS_COUNT] = {
	[INSN_CPUID] = { USE_NEVER, HOST_STATE }, [INSN_RDTSC] = { USE_NEVER, SAME_TWICE },
	[INSN_RDTSCP] = { USE_NEVER, SAME_TWICE }, [INSN_RDPMC] = { USE_NEVER, SAME_TWICE }, [INSN_RDPID] = { USE_NEVER, SAME_TWICE },
	[INSN_XGETBV] = { USE_NEVER, HOST_STATE }, [INSN_SGDT] = { USE_NEVER, HOST_STATE }, [INSN_SIDT] = { USE_NEVER, HOST_STATE },
	[INSN_SLDT] = { USE_NEVER, HOST_STATE }, [INSN_STR] = { USE_NEVER, HOST_STATE }, [INSN_SMSW] = { USE_NEVER, HOST_STATE },
	[INSN_RDFSBASE] = { USE_NEVER, "CR4.FSGSBASE is the host kernel's choice" },
	[INSN_RDGSBASE] = { USE_NEVER, "CR4.FSGSBASE is the host kernel's choice" },
	[INSN_WRFSBASE] = { USE_NEVER, "CR4.FSGSBASE is the host kernel's choice" },
	[INSN_WRGSBASE] = { USE_NEVER, "CR4.FSGSBASE is the host kernel's choice" },
	[INSN_SYSCALL] = { USE_NEVER, "enters the host kernel" },
	[INSN_VMCALL] = { USE_NEVER, "enters the host's hypervisor" },
	[INSN_SVM] = { USE_NEVER, "a host under a hypervisor has its EFER.SVME" },
	[INSN_MONITOR] = { USE_NEVER, "CPUID.MONITOR is the hypervisor's choice" },
	[INSN_MWAIT] = { USE_NEVER, "CPUID.MONITOR is the hypervisor's choice" },
	[INSN_INVPCID] = { USE_NEVER, "guests are offered it whether or not the host has it" },
	[INSN_LAR] = { USE_FIRST, 0 }, [INSN_LSL] = { USE_FIRST, 0 }, [INSN_VERR] = { USE_FIRST, 0 }, [INSN_VERW] = { USE_FIRST, 0 },
	[INSN_MOV_TO_SEG] = { USE_FIRST, 0 }, [INSN_LOAD_FAR] = { USE_FIRST, 0 },
	[INSN_JMP_FAR] = { USE_FIRST, 0 }, [INSN_CALL_FAR] = { USE_FIRST, 0 }, [INSN_RET_FAR] = { USE_FIRST, 0 },
	[INSN_IRET] = { USE_FIRST, 0 },
	[INSN_XSAVE] = { USE_FIRST, 0 }, [INSN_XSAVEOPT] = { USE_FIRST, 0 }, [INSN_XSAVEC] = { USE_FIRST, 0 },
	[INSN_XRSTOR] = { USE_FIRST, 0 }, [INSN_FXSAVE] = { USE_FIRST, 0 }, [INSN_FXRSTOR] = { USE_FIRST, 0 },
	[INSN_FPU_ENV] = { USE_FIRST, 0 },
	[INSN_INVALID] = { USE_FIRST, 0 }, [INSN_TOO_LONG] = { USE_FIRST, 0 },
};

bool insn_has_prefix(const struct insn *in, uint8_t prefix) { return memchr(in->bytes, prefix, in->opcode_off) != 0; }

enum form_use form_use_of(const struct insn *in, const char **reason)
{
	const char *none;

	if (!reason)
		reason = &none;
	*reason = 0;
	if (vendor_never_compares(in)) {
		*reason = "differs between vendors; guests are AMD's";
		return USE_NEVER;
	}
	if (in->cls == INSN_INVALID || in->cls == INSN_TOO_LONG)
		return USE_FIRST;
	if ((in->need & NEED_NEVER) || (in->feature & ~offered)) {
		*reason = "not offered to guests";
		return USE_NEVER;
	}
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_RDRAND: case ZYDIS_MNEMONIC_RDSEED:
		*reason = SAME_TWICE;
		return USE_NEVER;
	default:
		break;
	}
	switch (in->cls) {
	case INSN_MOV_TO_SEG: case INSN_LOAD_FAR: case INSN_POP:
		if (in->sreg == SEG_FS || in->sreg == SEG_GS || (in->cls == INSN_LOAD_FAR && in->opcode != 0xb2)) {
			*reason = "would lose the sandbox's FS and GS bases";
			return USE_NEVER;
		}
		break;
	case INSN_INT:
		if ((uint8_t)in->imm == 0x80 || ((uint8_t)in->imm >= 0x14 && (uint8_t)in->imm < 0x20)) {
			*reason = "enters the host kernel, or gates it leaves open";
			return USE_NEVER;
		}
		break;
	case INSN_LOOP:
		if (insn_has_prefix(in, 0xf2) || insn_has_prefix(in, 0xf3)) {
			*reason = "repeat prefixes turn LOOPE and LOOPNE around on some processors";
			return USE_NEVER;
		}
		break;
	case INSN_NOP:
		if (in->opcode == 0x90 && insn_has_prefix(in, 0xf3) && in->rex_off && in->bytes[in->rex_off - 1] & 1) {
			*reason = "PAUSE with REX.B is half an XCHG on some processors";
			return USE_NEVER;
		}
		break;
	default:
		break;
	}
	*reason = class_rules[in->cls].reason;
	return class_rules[in->cls].use;
}

bool form_allowed(const struct insn *in, bool first)
{
	enum form_use use = form_use_of(in, 0);

	return use == USE_ANYWHERE || (use == USE_FIRST && first);
}

bool insn_keeps_undefined(const struct insn *in)
{
	return in->mnemonic == ZYDIS_MNEMONIC_MUL || in->mnemonic == ZYDIS_MNEMONIC_IMUL || vendor_rotates_keep_flags(in);
}

bool form_always_faults(const struct insn *in)
{
	static const uint8_t classes[] = {
		INSN_INT, INSN_INT1, INSN_INT3, INSN_UD, INSN_SYSRET, INSN_SYSENTER, INSN_SYSEXIT, INSN_INS, INSN_OUTS, INSN_IN, INSN_OUT,
		INSN_CLI, INSN_STI, INSN_CLAC, INSN_STAC, INSN_RDMSR, INSN_WRMSR, INSN_SWAPGS, INSN_MOV_FROM_CR, INSN_MOV_TO_CR,
		INSN_MOV_FROM_DR, INSN_MOV_TO_DR, INSN_CLTS, INSN_LMSW, INSN_LGDT, INSN_LIDT, INSN_LLDT, INSN_LTR, INSN_INVLPG,
		INSN_INVD, INSN_WBINVD, INSN_HLT, INSN_XSETBV, INSN_XSAVES, INSN_XRSTORS, INSN_VMX,
	};

	/* 16-bit IRET cannot come back to code above 64 KiB. */
	return memchr(classes, in->cls, sizeof(classes)) != 0 || in->mnemonic == ZYDIS_MNEMONIC_IRET;
}

static enum form_group group_of(const struct insn *in)
{
	return in->need & NEED_AVX ? GROUP_AVX : in->vex_off ? GROUP_INT : in->need & (NEED_SSE | NEED_MMX) ? GROUP_SSE :
	       in->need & NEED_X87 ? GROUP_X87 : GROUP_INT;
}

static void add_form(const struct form *f)
{
	if (form_count == table_room) {
		table_room = table_room ? table_room * 2 : 4096;
		table = realloc(table, table_room * sizeof(*table));
		ASSERT(table);
	}
	table[form_count++] = *f;
}

/* Decodes the form's plainest instance; false if it is not one. */
static bool try_form(struct form *f, uint8_t vvvv, uint8_t rm, uint8_t sib)
{
	uint8_t b[24];
	struct insn in;
	unsigned n = 0;

	memset(b, 0, sizeof(b));
	if (f->vex) {
		b[n++] = 0xc4;
		b[n++] = (uint8_t)(0xe0 | f->map);
		b[n++] = (uint8_t)(f->w << 7 | (~vvvv & 15) << 3 | f->vex_l << 2 |
				   (f->prefix == 0x66 ? 1 : f->prefix == 0xf3 ? 2 : f->prefix == 0xf2 ? 3 : 0));
	} else {
		if (f->prefix)
			b[n++] = f->prefix;
		if (f->w)
			b[n++] = 0x48;
		if (f->map)
			b[n++] = 0x0f;
		if (f->map > 1)
			b[n++] = f->map == 2 ? 0x38 : 0x3a;
	}
	b[n++] = f->opcode;
	b[n++] = (uint8_t)(f->mod3 << 6 | f->mod3 << 7 | f->reg << 3 | rm);
	b[n++] = sib;
	if (insn_decode(&in, b, 15, INSN_MODE_64) || in.cls == INSN_INVALID || in.cls == INSN_TOO_LONG)
		return false;
	f->has_modrm = in.modrm_off != 0;
	/* Another opcode than meant: a prefix or an escape. */
	if (in.opcode != f->opcode || in.map != f->map || (f->vex != (in.vex_off != 0)))
		return false;
	/* A mandatory prefix must be one; repeat prefixes belong to the string instructions and are added at random. */
	if ((f->prefix == 0xf3 && in.rep) || (f->prefix == 0xf2 && in.repne))
		return false;
	if (!f->has_modrm && (f->mod3 || f->reg || rm))
		return false;
	if (form_use_of(&in, 0) == USE_NEVER && in.cls != INSN_INT)
		return false;
	f->mnemonic = in.mnemonic;
	f->group = (uint8_t)group_of(&in);
	return true;
}

static void walk_opcode(struct form f)
{
	static const uint8_t prefixes[] = { 0, 0x66, 0xf3, 0xf2 };

	for (unsigned p = 0; p < 4; p++)
		for (unsigned w = 0; w < 2; w++)
			for (unsigned reg = 0; reg < 8; reg++) {
				f.prefix = prefixes[p];
				f.w = w;
				f.reg = (uint8_t)reg;
				f.rm = -1;
				f.mod3 = false;
				/* The second attempt is for gathers: three different registers and a SIB byte. */
				if (try_form(&f, 0, 0, 0) ||
				    (f.vex && try_form(&f, (uint8_t)((reg + 2) & 7), 4, (uint8_t)(((reg + 1) & 7) << 3)))) {
					add_form(&f);
					if (!f.has_modrm)
						break;
				}
				f.mod3 = true;
				bool escape = !f.vex && ((f.map == 0 && f.opcode >= 0xd8 && f.opcode <= 0xdf) ||
							 (f.map == 1 && (f.opcode == 0x01 || f.opcode == 0xae)));
				for (int rm = 0; rm < (escape ? 8 : 1); rm++) {
					if (!try_form(&f, 0, (uint8_t)rm, 0))
						continue;
					f.rm = escape ? (int8_t)rm : -1;
					add_form(&f);
				}
			}
}

static bool is_prefix(unsigned op)
{
	return (op >= 0x40 && op <= 0x4f) || op == 0x66 || op == 0x67 || op == 0xf0 || op == 0xf2 || op == 0xf3 || op == 0x0f ||
	       op == 0x26 || op == 0x2e || op == 0x36 || op == 0x3e || op == 0x64 || op == 0x65;
}

static int by_mnemonic(const void *a, const void *b)
{
	const struct form *x = a, *y = b;

	if (x->mnemonic != y->mnemonic)
		return x->mnemonic < y->mnemonic ? -1 : 1;
	return memcmp(x, y, sizeof(*x));
}

static bool is_hot(uint16_t m)
{
	static const uint16_t hot[] = {
		ZYDIS_MNEMONIC_MOV, ZYDIS_MNEMONIC_ADD, ZYDIS_MNEMONIC_SUB, ZYDIS_MNEMONIC_AND, ZYDIS_MNEMONIC_OR, ZYDIS_MNEMONIC_XOR,
		ZYDIS_MNEMONIC_CMP, ZYDIS_MNEMONIC_TEST, ZYDIS_MNEMONIC_LEA, ZYDIS_MNEMONIC_PUSH, ZYDIS_MNEMONIC_POP,
		ZYDIS_MNEMONIC_CALL, ZYDIS_MNEMONIC_RET, ZYDIS_MNEMONIC_JMP, ZYDIS_MNEMONIC_JZ, ZYDIS_MNEMONIC_JNZ,
		ZYDIS_MNEMONIC_JB, ZYDIS_MNEMONIC_JNBE, ZYDIS_MNEMONIC_JL, ZYDIS_MNEMONIC_JO, ZYDIS_MNEMONIC_JP,
		ZYDIS_MNEMONIC_MOVZX, ZYDIS_MNEMONIC_MOVSX, ZYDIS_MNEMONIC_MOVSXD, ZYDIS_MNEMONIC_SHL, ZYDIS_MNEMONIC_SHR,
		ZYDIS_MNEMONIC_SAR, ZYDIS_MNEMONIC_INC, ZYDIS_MNEMONIC_DEC, ZYDIS_MNEMONIC_ADC, ZYDIS_MNEMONIC_SBB,
		ZYDIS_MNEMONIC_IMUL, ZYDIS_MNEMONIC_MUL, ZYDIS_MNEMONIC_DIV, ZYDIS_MNEMONIC_XCHG, ZYDIS_MNEMONIC_CMPXCHG,
		ZYDIS_MNEMONIC_XADD, ZYDIS_MNEMONIC_BT, ZYDIS_MNEMONIC_BTS, ZYDIS_MNEMONIC_MOVSB, ZYDIS_MNEMONIC_MOVSQ,
		ZYDIS_MNEMONIC_STOSB, ZYDIS_MNEMONIC_STOSQ, ZYDIS_MNEMONIC_SCASB, ZYDIS_MNEMONIC_CMPSB, ZYDIS_MNEMONIC_LODSB,
		ZYDIS_MNEMONIC_PUSHFQ, ZYDIS_MNEMONIC_POPFQ, ZYDIS_MNEMONIC_LEAVE, ZYDIS_MNEMONIC_SETZ, ZYDIS_MNEMONIC_CMOVNZ,
		ZYDIS_MNEMONIC_ROL, ZYDIS_MNEMONIC_RCL, ZYDIS_MNEMONIC_SHLD, ZYDIS_MNEMONIC_NEG, ZYDIS_MNEMONIC_NOT,
		ZYDIS_MNEMONIC_BSF, ZYDIS_MNEMONIC_TZCNT, ZYDIS_MNEMONIC_LOOP,
	};

	for (size_t i = 0; i < ARRAY_LEN(hot); i++)
		if (hot[i] == m)
			return true;
	return false;
}

static void name_mnemonics(void)
{
	names = calloc(form_count + 1, sizeof(*names));
	ASSERT(names);
	for (unsigned i = 0; i < form_count; i++) {
		struct mnemonic *m = mnemonic_count ? &names[mnemonic_count - 1] : 0;

		if (!m || m->id != table[i].mnemonic) {
			m = &names[mnemonic_count++];
			m->id = table[i].mnemonic;
			m->first = i;
			m->hot = is_hot(m->id);
			m->group = table[i].group;
			strncpy(m->name, ZydisMnemonicGetString((ZydisMnemonic)m->id), sizeof(m->name) - 1);
		}
		m->count++;
	}
}

void forms_init(uint64_t features)
{
	offered = features;
	for (unsigned map = 0; map < 4; map++)
		for (unsigned op = 0; op < 256; op++) {
			struct form f = { .map = (uint8_t)map, .opcode = (uint8_t)op };

			if (map == 0 ? is_prefix(op) : map == 1 && (op == 0x38 || op == 0x3a))
				continue;
			walk_opcode(f);
			if (map == 0)
				continue;
			for (int l = 0; l < 2; l++) {
				f.vex = true;
				f.vex_l = l;
				walk_opcode(f);
			}
		}
	qsort(table, form_count, sizeof(*table), by_mnemonic);
	name_mnemonics();
	forms = table;
	mnemonics = names;
}
