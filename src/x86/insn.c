/*
 * insn.c - decoding: Zydis' answer condensed into struct insn (see insn.h). shape.c remembers it.
 *
 * Two tables decide what an instruction is to us. class_of: mnemonics that are emulated; the rest is INSN_PLAIN. isa_of: the
 * instruction sets that exist for a guest at all, with the CPUID feature and the control-register conditions; a set without
 * a row is never offered and decodes as needing NEED_NEVER (#UD).
 */
#include "x86/insn_shape.h"

#include <Zydis/Zydis.h>
#include <string.h>

#define M(name) ZYDIS_MNEMONIC_##name

static const uint8_t class_of[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
	[M(NOP)] = INSN_NOP, [M(PAUSE)] = INSN_NOP, [M(PREFETCH)] = INSN_NOP, [M(PREFETCHW)] = INSN_NOP,
	[M(PREFETCHNTA)] = INSN_NOP, [M(PREFETCHT0)] = INSN_NOP, [M(PREFETCHT1)] = INSN_NOP, [M(PREFETCHT2)] = INSN_NOP,
	[M(FENI8087_NOP)] = INSN_NOP, [M(FDISI8087_NOP)] = INSN_NOP, [M(FSETPM287_NOP)] = INSN_NOP,
	[M(JB)] = INSN_JCC, [M(JBE)] = INSN_JCC, [M(JL)] = INSN_JCC, [M(JLE)] = INSN_JCC, [M(JNB)] = INSN_JCC,
	[M(JNBE)] = INSN_JCC, [M(JNL)] = INSN_JCC, [M(JNLE)] = INSN_JCC, [M(JNO)] = INSN_JCC, [M(JNP)] = INSN_JCC,
	[M(JNS)] = INSN_JCC, [M(JNZ)] = INSN_JCC, [M(JO)] = INSN_JCC, [M(JP)] = INSN_JCC, [M(JS)] = INSN_JCC,
	[M(JZ)] = INSN_JCC,
	[M(JMP)] = INSN_JMP, [M(CALL)] = INSN_CALL, [M(RET)] = INSN_RET,
	[M(LOOP)] = INSN_LOOP, [M(LOOPE)] = INSN_LOOP, [M(LOOPNE)] = INSN_LOOP, [M(JCXZ)] = INSN_LOOP,
	[M(JECXZ)] = INSN_LOOP, [M(JRCXZ)] = INSN_LOOP,
	[M(IRET)] = INSN_IRET, [M(IRETD)] = INSN_IRET, [M(IRETQ)] = INSN_IRET,
	[M(INT)] = INSN_INT, [M(INT1)] = INSN_INT1, [M(INT3)] = INSN_INT3, [M(INTO)] = INSN_INTO,
	[M(UD0)] = INSN_UD, [M(UD1)] = INSN_UD, [M(UD2)] = INSN_UD, [M(BOUND)] = INSN_BOUND,
	[M(SYSCALL)] = INSN_SYSCALL, [M(SYSRET)] = INSN_SYSRET, [M(SYSENTER)] = INSN_SYSENTER, [M(SYSEXIT)] = INSN_SYSEXIT,
	[M(PUSH)] = INSN_PUSH, [M(POP)] = INSN_POP, [M(PUSHF)] = INSN_PUSHF, [M(PUSHFD)] = INSN_PUSHF,
	[M(PUSHFQ)] = INSN_PUSHF, [M(POPF)] = INSN_POPF, [M(POPFD)] = INSN_POPF, [M(POPFQ)] = INSN_POPF,
	[M(ENTER)] = INSN_ENTER, [M(LEAVE)] = INSN_LEAVE, [M(PUSHA)] = INSN_PUSHA, [M(PUSHAD)] = INSN_PUSHA,
	[M(POPA)] = INSN_POPA, [M(POPAD)] = INSN_POPA,
	[M(MOVSB)] = INSN_MOVS, [M(MOVSW)] = INSN_MOVS, [M(MOVSQ)] = INSN_MOVS, [M(STOSB)] = INSN_STOS,
	[M(STOSW)] = INSN_STOS, [M(STOSD)] = INSN_STOS, [M(STOSQ)] = INSN_STOS, [M(LODSB)] = INSN_LODS,
	[M(LODSW)] = INSN_LODS, [M(LODSD)] = INSN_LODS, [M(LODSQ)] = INSN_LODS, [M(CMPSB)] = INSN_CMPS,
	[M(CMPSW)] = INSN_CMPS, [M(CMPSQ)] = INSN_CMPS, [M(SCASB)] = INSN_SCAS, [M(SCASW)] = INSN_SCAS,
	[M(SCASD)] = INSN_SCAS, [M(SCASQ)] = INSN_SCAS, [M(INSB)] = INSN_INS, [M(INSW)] = INSN_INS, [M(INSD)] = INSN_INS,
	[M(OUTSB)] = INSN_OUTS, [M(OUTSW)] = INSN_OUTS, [M(OUTSD)] = INSN_OUTS,
	[M(XLAT)] = INSN_XLAT,
	[M(DAA)] = INSN_BCD, [M(DAS)] = INSN_BCD, [M(AAA)] = INSN_BCD, [M(AAS)] = INSN_BCD, [M(AAM)] = INSN_BCD, [M(AAD)] = INSN_BCD,
	[M(SALC)] = INSN_BCD,
	[M(VGATHERDPD)] = INSN_GATHER, [M(VGATHERDPS)] = INSN_GATHER, [M(VGATHERQPD)] = INSN_GATHER,
	[M(VGATHERQPS)] = INSN_GATHER, [M(VPGATHERDD)] = INSN_GATHER, [M(VPGATHERDQ)] = INSN_GATHER,
	[M(VPGATHERQD)] = INSN_GATHER, [M(VPGATHERQQ)] = INSN_GATHER,
	[M(MASKMOVQ)] = INSN_MASKMOV, [M(MASKMOVDQU)] = INSN_MASKMOV, [M(VMASKMOVDQU)] = INSN_MASKMOV,
	[M(VMASKMOVPS)] = INSN_VMASKMOV, [M(VMASKMOVPD)] = INSN_VMASKMOV, [M(VPMASKMOVD)] = INSN_VMASKMOV,
	[M(VPMASKMOVQ)] = INSN_VMASKMOV,
	[M(CLFLUSH)] = INSN_CACHE, [M(CLFLUSHOPT)] = INSN_CACHE, [M(CLWB)] = INSN_CACHE,
	[M(MOVDIR64B)] = INSN_MOVDIR64B,
	[M(CLI)] = INSN_CLI, [M(STI)] = INSN_STI, [M(CLD)] = INSN_CLD, [M(STD)] = INSN_STD, [M(CLAC)] = INSN_CLAC,
	[M(STAC)] = INSN_STAC,
	[M(CPUID)] = INSN_CPUID, [M(RDTSC)] = INSN_RDTSC, [M(RDTSCP)] = INSN_RDTSCP, [M(RDPMC)] = INSN_RDPMC,
	[M(RDPID)] = INSN_RDPID, [M(RDMSR)] = INSN_RDMSR, [M(WRMSR)] = INSN_WRMSR, [M(RDFSBASE)] = INSN_RDFSBASE,
	[M(RDGSBASE)] = INSN_RDGSBASE, [M(WRFSBASE)] = INSN_WRFSBASE, [M(WRGSBASE)] = INSN_WRGSBASE,
	[M(SWAPGS)] = INSN_SWAPGS, [M(CLTS)] = INSN_CLTS, [M(LMSW)] = INSN_LMSW, [M(SMSW)] = INSN_SMSW,
	[M(SGDT)] = INSN_SGDT, [M(SIDT)] = INSN_SIDT, [M(SLDT)] = INSN_SLDT, [M(STR)] = INSN_STR, [M(LGDT)] = INSN_LGDT,
	[M(LIDT)] = INSN_LIDT, [M(LLDT)] = INSN_LLDT, [M(LTR)] = INSN_LTR, [M(LAR)] = INSN_LAR, [M(LSL)] = INSN_LSL,
	[M(VERR)] = INSN_VERR, [M(VERW)] = INSN_VERW, [M(ARPL)] = INSN_ARPL,
	[M(LSS)] = INSN_LOAD_FAR, [M(LFS)] = INSN_LOAD_FAR, [M(LGS)] = INSN_LOAD_FAR, [M(LDS)] = INSN_LOAD_FAR,
	[M(LES)] = INSN_LOAD_FAR,
	[M(INVLPG)] = INSN_INVLPG, [M(INVPCID)] = INSN_INVPCID, [M(INVD)] = INSN_INVD, [M(WBINVD)] = INSN_WBINVD,
	[M(HLT)] = INSN_HLT, [M(MONITOR)] = INSN_MONITOR, [M(MWAIT)] = INSN_MWAIT,
	[M(IN)] = INSN_IN, [M(OUT)] = INSN_OUT, [M(XGETBV)] = INSN_XGETBV, [M(XSETBV)] = INSN_XSETBV,
	[M(XSAVE)] = INSN_XSAVE, [M(XSAVE64)] = INSN_XSAVE, [M(XSAVEOPT)] = INSN_XSAVEOPT, [M(XSAVEOPT64)] = INSN_XSAVEOPT,
	[M(XSAVEC)] = INSN_XSAVEC, [M(XSAVEC64)] = INSN_XSAVEC, [M(XSAVES)] = INSN_XSAVES, [M(XSAVES64)] = INSN_XSAVES,
	[M(XRSTOR)] = INSN_XRSTOR, [M(XRSTOR64)] = INSN_XRSTOR, [M(XRSTORS)] = INSN_XRSTORS, [M(XRSTORS64)] = INSN_XRSTORS,
	[M(FXSAVE)] = INSN_FXSAVE, [M(FXSAVE64)] = INSN_FXSAVE, [M(FXRSTOR)] = INSN_FXRSTOR, [M(FXRSTOR64)] = INSN_FXRSTOR,
	[M(FNSTENV)] = INSN_FPU_ENV, [M(FLDENV)] = INSN_FPU_ENV, [M(FNSAVE)] = INSN_FPU_ENV, [M(FRSTOR)] = INSN_FPU_ENV,
	[M(VMCALL)] = INSN_VMCALL, [M(VMMCALL)] = INSN_VMCALL,
	[M(CLGI)] = INSN_SVM, [M(STGI)] = INSN_SVM, [M(INVLPGA)] = INSN_SVM, [M(SKINIT)] = INSN_SVM, [M(VMLOAD)] = INSN_SVM,
	[M(VMRUN)] = INSN_SVM, [M(VMSAVE)] = INSN_SVM,
	[M(INVEPT)] = INSN_VMX, [M(INVVPID)] = INSN_VMX, [M(VMCLEAR)] = INSN_VMX, [M(VMLAUNCH)] = INSN_VMX,
	[M(VMPTRLD)] = INSN_VMX, [M(VMPTRST)] = INSN_VMX, [M(VMREAD)] = INSN_VMX, [M(VMRESUME)] = INSN_VMX,
	[M(VMWRITE)] = INSN_VMX, [M(VMXOFF)] = INSN_VMX, [M(VMXON)] = INSN_VMX,
	[M(RSM)] = INSN_UD,
};

#define OFFERED 0x8000 /* the row exists */
struct isa_row { uint16_t need; uint64_t feature; };
#define I(set, need, feature) [ZYDIS_ISA_SET_##set] = { OFFERED | (need), feature }
static const struct isa_row isa_of[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
	I(I86, 0, 0), I(I186, 0, 0), I(I286REAL, 0, 0), I(I286PROTECTED, 0, 0), I(I386, 0, 0), I(I486, 0, 0), I(I486REAL, 0, 0),
	I(PENTIUMREAL, 0, 0), I(PPRO, 0, 0), I(CMOV, 0, 0), I(LONGMODE, 0, 0), I(LAHF, 0, 0), I(FAT_NOP, 0, 0), I(PAUSE, 0, 0),
	I(RDPMC, 0, 0), I(AMD, 0, 0), I(PREFETCH_NOP, 0, 0), I(SSE_PREFETCH, 0, 0), I(PREFETCHWT1, NEED_NEVER, 0),
	I(CLFSH, 0, 0), I(CLFLUSHOPT, 0, FEATURE(CLFLUSHOPT)), I(CLWB, 0, FEATURE(CLWB)), I(CMPXCHG16B, 0, FEATURE(CX16)),
	I(X87, NEED_X87, 0), I(FCMOV, NEED_X87, 0), I(SSE3X87, NEED_X87, FEATURE(SSE3)),
	I(PENTIUMMMX, NEED_MMX, 0), I(SSE2MMX, NEED_MMX, 0), I(SSSE3MMX, NEED_MMX, FEATURE(SSSE3)),
	I(SSE, NEED_SSE, 0), I(SSEMXCSR, NEED_SSE, 0), I(SSE2, NEED_SSE, 0), I(SSE3, NEED_SSE, FEATURE(SSE3)),
	I(SSSE3, NEED_SSE, FEATURE(SSSE3)), I(SSE4, NEED_SSE, FEATURE(SSE41)), I(SSE42, NEED_SSE, FEATURE(SSE42)),
	I(SSE4A, NEED_SSE, FEATURE(SSE4A)), I(AES, NEED_SSE, FEATURE(AES)), I(PCLMULQDQ, NEED_SSE, FEATURE(PCLMUL)),
	I(SHA, NEED_SSE, FEATURE(SHA)), I(GFNI, NEED_SSE, FEATURE(GFNI)),
	I(AVX, NEED_AVX, FEATURE(AVX)), I(AVX2, NEED_AVX, FEATURE(AVX2)), I(AVX2GATHER, NEED_AVX, FEATURE(AVX2)),
	I(FMA, NEED_AVX, FEATURE(FMA)), I(F16C, NEED_AVX, FEATURE(F16C)), I(AVXAES, NEED_AVX, FEATURE(AVX) | FEATURE(AES)),
	I(VAES, NEED_AVX, FEATURE(VAES)), I(VPCLMULQDQ, NEED_AVX, FEATURE(VPCLMUL)),
	I(AVX_GFNI, NEED_AVX, FEATURE(GFNI) | FEATURE(AVX)), I(AVX_VNNI, NEED_AVX, FEATURE(AVX_VNNI)),
	I(POPCNT, 0, FEATURE(POPCNT)), I(LZCNT, 0, FEATURE(LZCNT)), I(MOVBE, 0, FEATURE(MOVBE)), I(BMI1, 0, FEATURE(BMI1)),
	I(BMI2, 0, FEATURE(BMI2)), I(ADOX_ADCX, 0, FEATURE(ADX)), I(RDRAND, 0, FEATURE(RDRAND)), I(RDSEED, 0, FEATURE(RDSEED)),
	I(RDTSCP, 0, FEATURE(RDTSCP)), I(RDPID, 0, FEATURE(RDPID)), I(RDWRFSGS, 0, FEATURE(FSGSBASE)),
	I(SMAP, 0, FEATURE(SMAP)), I(INVPCID, 0, FEATURE(INVPCID)), I(SERIALIZE, 0, FEATURE(SERIALIZE)),
	I(FXSAVE, 0, 0), I(FXSAVE64, 0, 0), I(XSAVE, NEED_XSAVE, FEATURE(XSAVE)), I(XSAVEOPT, NEED_XSAVE, FEATURE(XSAVEOPT)),
	I(XSAVEC, NEED_XSAVE, FEATURE(XSAVEC)), I(XSAVES, NEED_XSAVE, FEATURE(XSAVES)),
	I(MOVDIR, 0, FEATURE(MOVDIRI)), I(MONITOR, 0, FEATURE(MONITOR)), I(SVM, 0, 0), I(VTX, 0, 0),
};
#undef I

/* Members of vector instruction sets that touch no vector state: the set's conditions do not apply. */
static bool touches_no_vector(ZydisMnemonic m)
{
	switch (m) {
	case M(LFENCE): case M(MFENCE): case M(SFENCE): case M(MOVNTI): case M(CRC32): case M(PAUSE): case M(CLFLUSH):
		return true;
	default:
		return false;
	}
}

/* Flags that these call "undefined" are left alone by real processors, so they do not kill earlier values. */
static bool undefined_means_unchanged(ZydisMnemonic m)
{
	switch (m) {
	case M(BT): case M(BTS): case M(BTR): case M(BTC): case M(BSF): case M(BSR): case M(TZCNT): case M(LZCNT): case M(DIV):
	case M(IDIV): case M(MUL): case M(IMUL):
		return true;
	default:
		return false;
	}
}

static uint8_t gpr_of(ZydisRegister reg)
{
	ZydisRegisterClass c = ZydisRegisterGetClass(reg);
	ZydisRegister wide;

	if (c != ZYDIS_REGCLASS_GPR8 && c != ZYDIS_REGCLASS_GPR16 && c != ZYDIS_REGCLASS_GPR32 && c != ZYDIS_REGCLASS_GPR64)
		return INSN_NO_REG;
	wide = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
	return (uint8_t)ZydisRegisterGetId(wide);
}

static uint8_t seg_of(ZydisRegister reg)
{
	switch (reg) {
	case ZYDIS_REGISTER_ES: return SEG_ES;
	case ZYDIS_REGISTER_CS: return SEG_CS;
	case ZYDIS_REGISTER_SS: return SEG_SS;
	case ZYDIS_REGISTER_FS: return SEG_FS;
	case ZYDIS_REGISTER_GS: return SEG_GS;
	default: return SEG_DS;
	}
}

static void take_mem(struct insn *in, const ZydisDecodedOperand *op)
{
	struct insn_mem *m = &in->mem;

	m->present = true;
	m->base = op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP ? INSN_BASE_RIP :
		  op->mem.base == ZYDIS_REGISTER_NONE ? INSN_NO_REG : gpr_of(op->mem.base);
	m->index = op->mem.index == ZYDIS_REGISTER_NONE ? INSN_NO_REG : gpr_of(op->mem.index);
	m->scale = op->mem.scale ? op->mem.scale : 1;
	m->seg = seg_of(op->mem.segment);
	m->disp = op->mem.disp.has_displacement ? op->mem.disp.value : 0;
	if (op->mem.type != ZYDIS_MEMOP_TYPE_AGEN) {
		m->size = (uint16_t)(op->size / 8);
		m->read = (op->actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
		m->write = (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
	}
	if (m->base < 16)
		in->gpr_read |= (uint16_t)(1u << m->base);
	if (m->index < 16)
		in->gpr_read |= (uint16_t)(1u << m->index);
}

static void take_reg(struct insn *in, const ZydisDecodedOperand *op)
{
	uint8_t r = gpr_of(op->reg.value);
	bool gpr = r != INSN_NO_REG, explicit = op->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT;

	if (gpr) {
		if (op->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
			in->gpr_read |= (uint16_t)(1u << r);
		if (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
			in->gpr_write |= (uint16_t)(1u << r);
		if (explicit && op->reg.value >= ZYDIS_REGISTER_AH && op->reg.value <= ZYDIS_REGISTER_BH)
			in->gpr_high |= (uint16_t)(1u << (r = (uint8_t)(op->reg.value - ZYDIS_REGISTER_AH)));
	}
	if (!explicit) {
		if ((in->cls == INSN_PUSH || in->cls == INSN_POP) && ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_SEGMENT)
			in->sreg = seg_of(op->reg.value);
		return;
	}
	switch (op->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG: in->reg_gpr |= gpr; break;
	case ZYDIS_OPERAND_ENCODING_NDSNDD: in->vvvv_gpr |= gpr; break;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		in->rm_gpr |= gpr;
		if (gpr)
			in->mem_reg = r;
		break;
	case ZYDIS_OPERAND_ENCODING_OPCODE: in->rm_gpr |= gpr; break;
	default: break;
	}
	switch (ZydisRegisterGetClass(op->reg.value)) {
	case ZYDIS_REGCLASS_SEGMENT: in->sreg = seg_of(op->reg.value); break;
	case ZYDIS_REGCLASS_CONTROL:
	case ZYDIS_REGCLASS_DEBUG: in->reg2 = (uint8_t)ZydisRegisterGetId(op->reg.value); break;
	default:
		if (!gpr)
			break;
		if (in->reg == INSN_NO_REG)
			in->reg = r;
		else if (in->reg2 == INSN_NO_REG)
			in->reg2 = r;
	}
}

/* Classes that share a mnemonic with plain forms: mov cr/dr/seg, far and indirect branches, movsd/cmpsd the string ones. */
static void refine_class(struct insn *in, const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op)
{
	switch (z->mnemonic) {
	case M(MOV):
		for (int i = 0; i < 2; i++) {
			ZydisRegisterClass c = op[i].type == ZYDIS_OPERAND_TYPE_REGISTER ?
				ZydisRegisterGetClass(op[i].reg.value) : ZYDIS_REGCLASS_INVALID;

			if (c == ZYDIS_REGCLASS_CONTROL)
				in->cls = i ? INSN_MOV_FROM_CR : INSN_MOV_TO_CR;
			else if (c == ZYDIS_REGCLASS_DEBUG)
				in->cls = i ? INSN_MOV_FROM_DR : INSN_MOV_TO_DR;
			else if (c == ZYDIS_REGCLASS_SEGMENT)
				in->cls = i ? INSN_MOV_FROM_SEG : INSN_MOV_TO_SEG;
		}
		break;
	case M(MOVSD):
		if (z->meta.category == ZYDIS_CATEGORY_STRINGOP)
			in->cls = INSN_MOVS;
		break;
	case M(CMPSD):
		if (z->meta.category == ZYDIS_CATEGORY_STRINGOP)
			in->cls = INSN_CMPS;
		break;
	case M(JMP): case M(CALL): case M(RET): {
		bool far = z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
		bool relative = z->raw.imm[0].is_relative;

		if (z->mnemonic == M(RET))
			in->cls = far ? INSN_RET_FAR : INSN_RET;
		else if (z->mnemonic == M(JMP))
			in->cls = far ? INSN_JMP_FAR : relative ? INSN_JMP : INSN_JMP_IND;
		else
			in->cls = far ? INSN_CALL_FAR : relative ? INSN_CALL : INSN_CALL_IND;
		break;
	}
	case M(BT): case M(BTS): case M(BTR): case M(BTC):
		if (in->mem.present && !in->imm_len)
			in->cls = INSN_BT_MEM;
		break;
	default:
		break;
	}
}

/* The segment of an operand that only prefixes name: DS by itself. In 64-bit mode only FS and GS overrides mean anything. */
static uint8_t prefixed_segment(const struct insn *in, const ZydisDecodedInstruction *z)
{
	static const uint8_t prefix_seg[] = { [0x26] = SEG_ES + 1, [0x2e] = SEG_CS + 1, [0x36] = SEG_SS + 1, [0x3e] = SEG_DS + 1,
		[0x64] = SEG_FS + 1, [0x65] = SEG_GS + 1 };
	uint8_t seg = SEG_DS;

	for (int i = 0; i < z->raw.prefix_count; i++) {
		uint8_t p = z->raw.prefixes[i].value;

		if (p < sizeof(prefix_seg) && prefix_seg[p] && (in->mode != INSN_MODE_64 || p >= 0x64))
			seg = (uint8_t)(prefix_seg[p] - 1);
	}
	return seg;
}

static void take_operands(struct insn *in, const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op)
{
	for (int i = 0; i < z->operand_count; i++) {
		if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER) {
			take_reg(in, &op[i]);
		} else if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY) {
			uint8_t b = gpr_of(op[i].mem.base), x = gpr_of(op[i].mem.index);

			if (op[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT && !in->mem.present) {
				take_mem(in, &op[i]);
			} else if (op[i].visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT || z->meta.category == ZYDIS_CATEGORY_STRINGOP) {
				if (b < 16)
					in->gpr_read |= (uint16_t)(1u << b);
				if (x < 16)
					in->gpr_read |= (uint16_t)(1u << x);
				if (z->mnemonic == M(XLAT) || z->mnemonic == M(MASKMOVQ) || z->mnemonic == M(MASKMOVDQU))
					in->mem.seg = prefixed_segment(in, z);
			}
		}
	}
}

/* Strings say their element size and source segment, whatever operand carries it. */
static void take_string(struct insn *in, const ZydisDecodedInstruction *z)
{
	in->mem = (struct insn_mem){ .base = INSN_NO_REG, .index = INSN_NO_REG, .seg = prefixed_segment(in, z) };
	in->opsize = !(in->opcode & 1) ? 1 : (uint8_t)(z->operand_width / 8);
	if (in->cls == INSN_INS || in->cls == INSN_OUTS)
		in->opsize = in->opsize == 8 ? 4 : in->opsize;
}

static void take_flags(struct insn *in, const ZydisDecodedInstruction *z)
{
	const ZydisAccessedFlags *f = z->cpu_flags;
	bool maybe = false; /* all may stay as they were */

	if (!f)
		return;
	in->fl_read = f->tested & (FL_ARITH | FL_DF);
	in->fl_undef = f->undefined & FL_ARITH;
	in->fl_write = (f->modified | f->set_0 | f->set_1 | f->undefined) & (FL_ARITH | FL_DF);
	switch (z->mnemonic) {
	case M(SHL): case M(SHR): case M(SAR): case M(ROL): case M(ROR): case M(RCL): case M(RCR): case M(SHLD): case M(SHRD):
		/* A count of zero changes no flag; only immediate counts are known. D0/D1 shift by one. */
		maybe = true;
		if (in->imm_len && (in->imm & (in->opsize == 8 ? 63 : 31)) && in->opsize >= 4 && in->map == 0)
			maybe = false;
		if (in->map == 0 && (in->opcode == 0xd0 || in->opcode == 0xd1))
			maybe = false;
		break;
	case M(CMPSB): case M(CMPSW): case M(CMPSD): case M(CMPSQ): case M(SCASB): case M(SCASW): case M(SCASD): case M(SCASQ):
		maybe = in->rep || in->repne;
		break;
	default:
		break;
	}
	in->fl_kill = maybe ? 0 : undefined_means_unchanged(z->mnemonic) ? in->fl_write & ~in->fl_undef : in->fl_write;
}

static void take_needs(struct insn *in, const ZydisDecodedInstruction *z)
{
	const struct isa_row *row = &isa_of[z->meta.isa_set];
	bool evex = z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && z->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX;

	if (!(row->need & OFFERED) || evex) {
		in->need = NEED_NEVER;
		return;
	}
	in->need = row->need & (uint16_t)~OFFERED;
	in->feature = row->feature;
	if (z->meta.category == ZYDIS_CATEGORY_X87_ALU && !(in->need & NEED_X87))
		in->need |= NEED_X87; /* fcomi and friends count as P6 */
	if (touches_no_vector(z->mnemonic))
		in->need &= (uint16_t)~(NEED_SSE | NEED_AVX | NEED_MMX);
	if (z->mnemonic == M(MOVDIR64B))
		in->feature = FEATURE(MOVDIR64B);
	if (z->mnemonic == M(FWAIT))
		in->need = NEED_FWAIT;
	if (z->mnemonic == M(SYSENTER) || z->mnemonic == M(SYSEXIT))
		in->feature = FEATURE(SYSENTER);
	if (z->mnemonic == M(CLDEMOTE) || z->mnemonic == M(PTWRITE))
		in->need = NEED_NEVER;
}

/*
 * Where AMD differs from what Zydis says: a PREFETCH of a register is undefined; a near branch with 66 prefix (and no REX.W) cuts the target to 16 bits; far pointers
 * in memory have no 64-bit offset (AMD APM vol. 3, "CALL (Far)", "JMP (Far)", "LDS, LES, LFS, LGS, LSS").
 */
static void apply_amd_rules(struct insn *in, const ZydisDecodedInstruction *z)
{
	switch (in->cls) {
	case INSN_JCC: case INSN_JMP: case INSN_JMP_IND: case INSN_CALL: case INSN_CALL_IND: case INSN_RET: case INSN_LOOP:
		if (in->osz && !z->raw.rex.W) {
			in->opsize = 2;
			in->mem.size = in->mem.present ? 2 : 0;
		}
		break;
	case INSN_JMP_FAR: case INSN_CALL_FAR: case INSN_LOAD_FAR:
		if (in->opsize == 8)
			in->mem.size = 6; /* what a call pushes is as wide as REX.W says */
		if (in->opsize == 8 && in->cls == INSN_LOAD_FAR)
			in->opsize = 4;
		break;
	case INSN_NOP:
		if (in->map == 1 && in->opcode == 0x0d && in->modrm >> 6 == 3) /* PREFETCH of a register */
			in->cls = INSN_INVALID;
		break;
	default:
		break;
	}
}

static void decoder_init(ZydisDecoder *d, enum insn_mode mode)
{
	static const ZydisDecoderMode off[] = { ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET, ZYDIS_DECODER_MODE_CLDEMOTE,
		ZYDIS_DECODER_MODE_KNC, ZYDIS_DECODER_MODE_WBNOINVD };

	ZydisDecoderInit(d, mode == INSN_MODE_64 ? ZYDIS_MACHINE_MODE_LONG_64 : mode == INSN_MODE_32 ?
		ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_COMPAT_16,
		mode == INSN_MODE_64 ? ZYDIS_STACK_WIDTH_64 : mode == INSN_MODE_32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16);
	for (size_t i = 0; i < ARRAY_LEN(off); i++)
		ZydisDecoderEnableMode(d, off[i], ZYAN_FALSE);
	ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_AMD_BRANCHES, ZYAN_TRUE);
}

/* What insn_shape.h says. The count of a shift by an immediate decides which flags it changes, so it counts as a part of the shape. */
static void take_shape(struct insn_shape *shape, const struct insn *in, const ZydisDecodedInstruction *z)
{
	const bool counts = in->map == 0 && (in->opcode == 0xc0 || in->opcode == 0xc1);

	shape->disp_len = z->raw.disp.size / 8;
	shape->imm_len = counts ? 0 : z->raw.imm[0].size / 8;
	shape->imm_signed = z->raw.imm[0].is_signed || z->raw.imm[0].is_relative;
	shape->head = (uint8_t)(z->length - shape->disp_len - shape->imm_len);
	shape->fixed = (z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY || z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) && !z->raw.imm[1].size && shape->disp_len <= 4 &&
		       (!shape->disp_len || z->raw.disp.offset == shape->head) && (!counts || !shape->disp_len);
}

int insn_decode_anew(struct insn *in, const uint8_t *bytes, unsigned avail, enum insn_mode mode, struct insn_shape *shape)
{
	ZydisDecoder d;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZyanStatus status;

	shape->fixed = false;
	decoder_init(&d, mode);
	memset(in, 0, sizeof(*in));
	in->mode = (uint8_t)mode;
	in->reg = in->reg2 = in->sreg = in->mem_reg = in->mem.base = in->mem.index = INSN_NO_REG;
	in->mem.seg = SEG_DS;
	if (avail > 15)
		avail = 15;
	status = ZydisDecoderDecodeFull(&d, bytes, avail, &z, op);
	if (status == ZYDIS_STATUS_NO_MORE_DATA && avail < 15)
		return -1;
	memcpy(in->bytes, bytes, avail);
	if (!ZYAN_SUCCESS(status)) {
		in->cls = status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG || status == ZYDIS_STATUS_NO_MORE_DATA ? INSN_TOO_LONG :
			INSN_INVALID;
		in->len = (uint8_t)avail;
		return 0;
	}
	in->len = z.length;
	in->mnemonic = (uint16_t)z.mnemonic;
	in->cls = class_of[z.mnemonic] ? class_of[z.mnemonic] : INSN_PLAIN;
	in->opcode = z.opcode;
	in->map = z.opcode_map == ZYDIS_OPCODE_MAP_0F ? 1 : z.opcode_map == ZYDIS_OPCODE_MAP_0F38 ? 2 :
		  z.opcode_map == ZYDIS_OPCODE_MAP_0F3A ? 3 : 0;
	in->opsize = (uint8_t)(z.operand_width / 8);
	if (in->opsize == 2 && (z.mnemonic == M(MOVNTI) || z.mnemonic == M(MOVDIRI))) /* they have no form of 16 bits, in 16-bit code either */
		in->opsize = 4;
	in->addrsize = (uint8_t)(z.address_width / 8);
	if (z.attributes & ZYDIS_ATTRIB_HAS_MODRM) {
		in->modrm_off = z.raw.modrm.offset;
		in->modrm = bytes[in->modrm_off];
	}
	if (z.attributes & ZYDIS_ATTRIB_HAS_REX)
		in->rex_off = (uint8_t)(z.raw.rex.offset + 1);
	if (z.attributes & ZYDIS_ATTRIB_HAS_VEX)
		in->vex_off = (uint8_t)(z.raw.vex.offset + 1);
	for (int i = 0; i < 2; i++) {
		if (!z.raw.imm[i].size)
			continue;
		if (!in->imm_len)
			in->imm_off = z.raw.imm[i].offset;
		in->imm_len = (uint8_t)(in->imm_len + z.raw.imm[i].size / 8);
	}
	/* The last opcode byte stands before ModRM, or before displacement (moffs) and immediate. */
	in->opcode_off = in->modrm_off ? (uint8_t)(in->modrm_off - 1) :
		(uint8_t)(z.length - in->imm_len - z.raw.disp.size / 8 - 1);
	in->imm = z.raw.imm[0].is_signed || z.raw.imm[0].is_relative ? z.raw.imm[0].value.s : (int64_t)z.raw.imm[0].value.u;
	in->imm2 = z.raw.imm[1].size ? (int64_t)z.raw.imm[1].value.u : 0;
	in->lock = (z.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0;
	in->rep = (z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE)) != 0;
	in->repne = (z.attributes & ZYDIS_ATTRIB_HAS_REPNE) != 0;
	in->osz = (z.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) != 0;
	take_operands(in, &z, op);
	in->seg_prefix = in->mem.present && (in->mem.seg == SEG_FS || in->mem.seg == SEG_GS);
	refine_class(in, &z, op);
	if (in->cls >= INSN_MOVS && in->cls <= INSN_OUTS)
		take_string(in, &z);
	if (in->cls == INSN_JCC)
		in->cc = in->opcode & 15;
	if (in->cls == INSN_LOOP)
		in->cc = in->opcode & 3;
	if ((in->cls == INSN_PUSH || in->cls == INSN_POP) && in->sreg != INSN_NO_REG)
		in->opsize = z.operand_width == 16 ? 2 : mode == INSN_MODE_64 ? 8 : (uint8_t)(z.operand_width / 8);
	if (mode == INSN_MODE_64)
		apply_amd_rules(in, &z);
	take_flags(in, &z);
	take_needs(in, &z);
	take_shape(shape, in, &z);
	return 0;
}

bool insn_ends_block(const struct insn *in)
{
	switch (in->cls) {
	case INSN_JCC: case INSN_JMP: case INSN_JMP_IND: case INSN_CALL: case INSN_CALL_IND: case INSN_RET: case INSN_LOOP:
	case INSN_JMP_FAR: case INSN_CALL_FAR: case INSN_RET_FAR: case INSN_IRET: case INSN_INT: case INSN_INT1: case INSN_INT3:
	case INSN_INTO: case INSN_UD: case INSN_SYSCALL: case INSN_SYSRET: case INSN_SYSENTER: case INSN_SYSEXIT:
	case INSN_INVALID: case INSN_TOO_LONG: case INSN_HLT:
		return true;
	default:
		return false;
	}
}

void insn_format(const struct insn *in, uint64_t rip, char *buf, size_t size)
{
	ZydisDecoder d;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisFormatter f;

	decoder_init(&d, in->mode);
	ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, in->bytes, in->len, &z, op)) ||
	    !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&f, &z, op, z.operand_count_visible, buf, size, rip, NULL)))
		strncpy(buf, "(invalid)", size - 1), buf[size - 1] = 0;
}

const char *insn_mnemonic(uint16_t mnemonic)
{
	const char *name = ZydisMnemonicGetString((ZydisMnemonic)mnemonic);

	return name ? name : "(unknown)";
}
