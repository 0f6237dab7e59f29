/*
 * vendor.c - where the host's vendor is not the guests'. Guests are told that their processor is AMD's (docs/cpu.md); an Intel host is asked all the same, since nearly
 * everything is alike. What its processors are known to do otherwise is this file, and nothing of it applies on AMD's.
 *
 * Sources: Intel SDM vol. 2 (the instructions' pages) and vol. 3, "Priority Among Concurrent Events"; AMD APM vol. 3 (likewise) and vol. 2, "Priorities".
 * What neither says has been read off processors.
 */
#include <cpuid.h>
#include <string.h>
#include <Zydis/Zydis.h>
#include "insn_fuzz.h"

static bool same_vendor(void)
{
	static int known = -1;
	uint32_t a, b, c, d;

	if (known < 0) {
		__cpuid(0, a, b, c, d);
		known = c == 0x444d4163 || c == 0x656e6975; /* "cAMD", "uine" of HygonGenuine */
	}
	return known;
}

/*
 * Instructions that are other ones there. Intel has no 16-bit near branches in 64-bit mode, whatever the prefix says, but far pointers with 64-bit offsets; AMD
 * the reverse. (SDM vol. 2, JMP, CALL, LSS; APM vol. 3, JMP (Near), JMP (Far), LSS.)
 */
bool vendor_never_compares(const struct insn *in)
{
	const bool rex_w = in->rex_off && in->bytes[in->rex_off - 1] & 8;

	if (same_vendor())
		return false;
	switch (in->cls) {
	case INSN_SYSENTER: case INSN_SYSEXIT: case INSN_VMX:
		return true;
	case INSN_JMP: case INSN_JCC: case INSN_CALL: case INSN_JMP_IND: case INSN_CALL_IND: case INSN_RET: case INSN_LOOP:
		return insn_has_prefix(in, 0x66) && !rex_w;
	case INSN_JMP_FAR: case INSN_CALL_FAR: case INSN_LOAD_FAR:
		return rex_w;
	case INSN_PLAIN: /* MOVSXD to 16 bits: reads 16, or 32 */
		return !in->map && !in->vex_off && in->opcode == 0x63 && in->opsize == 2;
	case INSN_INVALID: /* 0F 0D with a register: undefined on AMD's (APM vol. 3, PREFETCH) */
		return in->map == 1 && in->opcode == 0x0d;
	default:
		return false;
	}
}

/* OF of a rotation by more than one. */
bool vendor_rotates_keep_flags(const struct insn *in)
{
	return !same_vendor() && (in->mnemonic == ZYDIS_MNEMONIC_ROL || in->mnemonic == ZYDIS_MNEMONIC_ROR || in->mnemonic == ZYDIS_MNEMONIC_RCL ||
				  in->mnemonic == ZYDIS_MNEMONIC_RCR);
}

/* MXCSR.MM is AMD's. */
bool vendor_lacks_state(const struct icase *c)
{
	uint8_t area[512] __attribute__((aligned(16))) = { 0 };

	__asm__ volatile("fxsave64 %0" : "+m"(area));
	return load_u32(c->in.fpu + 24) & ~(load_u32(area + 28) ? load_u32(area + 28) : 0xffbf);
}

static bool is_of_memory(int vector) { return vector == VEC_PF || vector == VEC_GP || vector == VEC_SS || vector == VEC_AC; }

static bool stores_x87(const struct insn *in) { return in->cls == INSN_PLAIN && in->need & NEED_X87 && in->mem.write; }

/* What ends a pending exception of the x87, so that it is not seen afterwards: FNINIT, FNCLEX; FNSAVE, FRSTOR, FLDENV. */
static bool resets_x87(const struct insn *in)
{
	const unsigned reg = in->modrm >> 3 & 7;

	if (in->map || in->vex_off)
		return false;
	return in->mem.present ? (in->opcode == 0xdd && (reg == 4 || reg == 6)) || (in->opcode == 0xd9 && reg == 4) : in->opcode == 0xdb && (in->modrm == 0xe2 || in->modrm == 0xe3);
}

/* With a count of zero too, the 32-bit registers are written there, and so lose their upper halves. */
static bool is_short_rep_string(const struct insn *in)
{
	return in->cls >= INSN_MOVS && in->cls <= INSN_OUTS && (in->rep || in->repne) && in->addrsize == 4;
}

static bool is_call(const struct insn *in) { return in->cls == INSN_CALL || in->cls == INSN_CALL_IND; }

/*
 * An unmasked exception of an x87 store is pending there, and nothing stored, before the operand is looked at: only the next x87 instruction faults. MOVDIR64B checks
 * no alignment of its source.
 */
bool vendor_is_beyond_compare(const struct icase *c, const struct outcome *h, const struct outcome *g)
{
	static struct outcome at; /* as if the host had faulted where the guest did */
	struct insn in;

	if (same_vendor())
		return false;
	if (compare_has_insn(c, h, is_short_rep_string))
		return true;
	/* The link of a CALL that faults (vendor_leeway) has overwritten the code, maybe the CALL itself. */
	if (h->vector == VEC_GP && g->vector == VEC_GP && compare_rewrote(c, h) && compare_has_insn(c, h, is_call))
		return true;
	at.end.rip = g->end.rip;
	memcpy(at.mem, g->mem, sizeof(at.mem));
	if (!is_of_memory(g->vector) || !compare_insn_at_fault(&at, &in))
		return false;
	/* They touch no more of an image than they need; nor of an outer stack. */
	if (g->vector == VEC_PF && h->end.rip != g->end.rip && ((in.cls >= INSN_XSAVE && in.cls <= INSN_XRSTOR) || in.cls == INSN_RET_FAR))
		return true;
	return (stores_x87(&in) && (load_u16(h->end.fpu + 2) & 0x80 || compare_has_insn(c, h, resets_x87))) || (in.cls == INSN_MOVDIR64B && g->vector == VEC_AC);
}

/*
 * Both fault at the same instruction and for its operand: alignment is judged after the page walk there (of 16-byte operands before it), a
 * conversion done before its store, MASKMOV judged by the bytes that it
 * stores, gathers in elements.
 */
bool vendor_orders_faults_so(const struct outcome *h, const struct outcome *g)
{
	struct insn in;

	if (same_vendor() || !compare_insn_at_fault(h, &in))
		return false;
	if (h->end.rip != g->end.rip || !is_of_memory(g->vector))
		return false;
	if (h->vector == VEC_XM)
		return in.mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH;
	if (!is_of_memory(h->vector))
		return false;
	if (in.cls >= INSN_XSAVE && in.cls <= INSN_FXRSTOR)
		return h->vector != VEC_PF && g->vector != VEC_PF;
	if (h->vector == VEC_AC || g->vector == VEC_AC)
		return true;
	if ((h->vector == VEC_GP || h->vector == VEC_SS) && in.need & NEED_SSE && in.mem.size == 16)
		return true;
	if (in.cls == INSN_MASKMOV || in.cls == INSN_GATHER || in.cls == INSN_VMASKMOV)
		return h->vector != VEC_PF || g->vector != VEC_PF || (uint32_t)(h->cr2 - g->cr2) < 16;
	return false;
}

struct leeway vendor_leeway(const struct outcome *h)
{
	struct leeway l = { 0 };
	struct insn in;

	if (same_vendor())
		return l;
	if (h->vector == NO_VECTOR || !compare_insn_at_fault(h, &in))
		return l;
	switch (in.cls) {
	case INSN_CMPS: case INSN_SCAS: /* flags of the elements before */
		l.flags = FL_ARITH;
		break;
	case INSN_CALL: case INSN_CALL_IND: /* the link is there, though the target is not canonical */
		l.hole = h->end.gpr[RSP] - 8;
		l.hole_size = 8;
		break;
	case INSN_GATHER: /* the mask becomes all ones or zeros an element, before anything is loaded */
		l.vectors = true;
		break;
	case INSN_PLAIN:
		l.fsw = in.need & NEED_MMX; /* they enter the MMX state first */
		if (stores_x87(&in)) { /* of what crosses into a page that cannot be written, the first part may be there */
			l.hole = h->cr2 - 10;
			l.hole_size = 20;
		}
		l.mxcsr = in.mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH; /* the conversion comes before the store */
		break;
	default:
		break;
	}
	return l;
}
