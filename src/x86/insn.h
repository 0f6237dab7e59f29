/*
 * insn.h - one decoded instruction: the only place that knows an instruction's length and shape.
 *
 * insn_decode wraps Zydis and condenses what the executor and the translator need into a flat struct (no pointers), so
 * that the translator can keep it beside the code it made and hand it to the executor later.
 * Decoding runs library code that may use vector registers: never call insn_decode with the guest's
 * FPU state live (cpu/fpu.h); everything else here is safe.
 *
 * INSN_PLAIN covers everything that the host can run as it stands, given the guest's registers and at most one explicit memory
 * operand (mem.present, mem.size bytes, mem.read/mem.write): integer, x87, SSE to AVX2, BMI, AES, SHA, LOCKed forms,
 * CMPXCHG16B... Anything else has a class of its own and is emulated. Whether the guest's CPUID and control registers
 * allow the instruction is for the user to decide from `need` (insn_need bits).
 */
#ifndef X86_INSN_H
#define X86_INSN_H

#include "base/base.h"
#include "x86/regs.h"

enum insn_class {
	INSN_INVALID,		/* no such instruction: #UD */
	INSN_TOO_LONG,		/* over 15 bytes: #GP(0) */
	INSN_PLAIN,
	INSN_NOP,		/* hint without effect on memory or registers: nop, prefetch, endbr, pause, verw-free hints */
	/* control transfer; target = insn end + imm for relative forms */
	INSN_JCC, INSN_JMP, INSN_JMP_IND, INSN_CALL, INSN_CALL_IND, INSN_RET, INSN_LOOP, /* LOOP/LOOPE/LOOPNE/JrCXZ by opcode */
	INSN_JMP_FAR, INSN_CALL_FAR, INSN_RET_FAR, INSN_IRET, /* far jmp/call: [mem] or ptr16:32 immediate */
	INSN_INT, INSN_INT1, INSN_INT3, INSN_INTO, INSN_UD, INSN_BOUND,
	INSN_SYSCALL, INSN_SYSRET, INSN_SYSENTER, INSN_SYSEXIT,
	/* stack */
	INSN_PUSH, INSN_POP, /* register, immediate, memory or segment register */
	INSN_PUSHF, INSN_POPF, INSN_ENTER, INSN_LEAVE, INSN_PUSHA, INSN_POPA,
	/* strings (rep/repne flags; opsize = element; mem.seg = source segment) */
	INSN_MOVS, INSN_STOS, INSN_LODS, INSN_CMPS, INSN_SCAS, INSN_INS, INSN_OUTS,
	INSN_XLAT,
	INSN_BCD, /* daa, das, aaa, aas, aam, aad, salc: 16- and 32-bit code only */
	/* several memory elements, or an implicit address */
	INSN_GATHER, INSN_MASKMOV /* maskmovq, maskmovdqu: [rDI] */, INSN_VMASKMOV /* vmaskmovps/pd, vpmaskmovd/q */,
	INSN_CACHE, /* clflush, clflushopt, clwb: checked like a read of one byte, no data */
	INSN_MOVDIR64B,
	INSN_BT_MEM, /* bt/bts/btr/btc [mem], reg: mem.size bytes at EA + (reg >> 3 rounded down to mem.size), signed; LOCK possible */
	/* flags that are virtual */
	INSN_CLI, INSN_STI, INSN_CLD, INSN_STD, INSN_CLAC, INSN_STAC,
	/* system */
	INSN_CPUID, INSN_RDTSC, INSN_RDTSCP, INSN_RDPMC, INSN_RDPID, INSN_RDMSR, INSN_WRMSR,
	INSN_RDFSBASE, INSN_RDGSBASE, INSN_WRFSBASE, INSN_WRGSBASE, INSN_SWAPGS,
	INSN_MOV_FROM_CR, INSN_MOV_TO_CR, INSN_MOV_FROM_DR, INSN_MOV_TO_DR, INSN_CLTS, INSN_LMSW, INSN_SMSW,
	INSN_SGDT, INSN_SIDT, INSN_SLDT, INSN_STR, INSN_LGDT, INSN_LIDT, INSN_LLDT, INSN_LTR,
	INSN_LAR, INSN_LSL, INSN_VERR, INSN_VERW, INSN_ARPL,
	INSN_MOV_FROM_SEG, INSN_MOV_TO_SEG, INSN_LOAD_FAR, /* lss lfs lgs lds les: insn.sreg */
	INSN_INVLPG, INSN_INVPCID, INSN_INVD, INSN_WBINVD, INSN_HLT, INSN_MONITOR, INSN_MWAIT,
	INSN_IN, INSN_OUT,
	INSN_XGETBV, INSN_XSETBV,
	INSN_XSAVE, INSN_XSAVEOPT, INSN_XSAVEC, INSN_XSAVES, INSN_XRSTOR, INSN_XRSTORS, INSN_FXSAVE, INSN_FXRSTOR,
	INSN_FPU_ENV, /* fnstenv, fldenv, fnsave, frstor: images that hold instruction pointers */
	INSN_VMCALL, INSN_SVM, INSN_VMX, /* vmcall/vmmcall; AMD SVM; Intel VMX */
	INSN_CLASS_COUNT
};

/* What an instruction needs of the guest's CPUID and control registers. */
enum insn_need {
	NEED_X87 = 1u << 0,	/* #NM if CR0.EM or CR0.TS */
	NEED_MMX = 1u << 1,	/* #UD if CR0.EM, #NM if CR0.TS */
	NEED_SSE = 1u << 2,	/* legacy SSE: #UD if CR0.EM or !CR4.OSFXSR, #NM if CR0.TS */
	NEED_AVX = 1u << 3,	/* VEX vector: #UD if !CR4.OSXSAVE or XCR0 lacks SSE|AVX, #NM if CR0.TS */
	NEED_FWAIT = 1u << 4,	/* WAIT/FWAIT: #NM if CR0.MP and CR0.TS */
	NEED_XSAVE = 1u << 5,	/* #UD if !CR4.OSXSAVE, #NM if CR0.TS where the manual says so */
	NEED_LONG = 1u << 6,	/* only exists in 64-bit mode */
	NEED_NEVER = 1u << 7,	/* never offered to a guest (EVEX, AMX, PKU, CET...): #UD */
	NEED_FPU_STATE = NEED_X87 | NEED_MMX | NEED_SSE | NEED_AVX | NEED_FWAIT,
};

enum insn_mode { INSN_MODE_16, INSN_MODE_32, INSN_MODE_64 };

#define INSN_NO_REG 0xff
#define INSN_BASE_RIP 0x10 /* mem.base: RIP-relative; disp is then relative to the instruction's end */

struct insn_mem {
	bool present;		/* a ModRM memory operand (or moffs) exists, incl. address-only ones (lea, invlpg) */
	bool read, write;	/* data access; both false: address only */
	uint8_t base, index;	/* GPR number, INSN_BASE_RIP or INSN_NO_REG */
	uint8_t scale;		/* 1 2 4 8 */
	uint8_t seg;		/* SEG_*: effective segment, override applied and defaults filled in */
	uint16_t size;		/* bytes accessed */
	int64_t disp;
};

/* GPR sets are bit masks by register number; flag sets use FL_ARITH bits (+FL_DF). */
struct insn {
	uint8_t bytes[15];
	uint8_t len;
	uint8_t cls;		/* enum insn_class */
	uint8_t mode;		/* enum insn_mode */
	uint8_t opsize;		/* effective operand size in bytes: 1 2 4 8 (branches, stack and strings: of the element) */
	uint8_t addrsize;	/* 2 4 8 */
	uint8_t opcode;		/* last opcode byte */
	uint8_t map;		/* 0 one-byte, 1 0F, 2 0F38, 3 0F3A */
	uint8_t modrm;		/* valid if modrm_off */
	uint8_t modrm_off;	/* offset of ModRM in bytes, 0 if none */
	uint8_t opcode_off;	/* offset of the last opcode byte */
	uint8_t rex_off;	/* offset of a REX byte + 1, or 0 */
	uint8_t vex_off;	/* offset of a VEX prefix (C4/C5) + 1, or 0 */
	uint8_t imm_off, imm_len; /* raw immediate (all of them), imm_len 0 if none */
	bool lock, rep, repne;	/* prefixes as written (rep = F3) where they are not part of the opcode */
	bool osz;		/* 66 prefix written */
	bool seg_prefix;	/* FS or GS override in effect on the memory operand */
	uint8_t cc;		/* JCC: condition code 0-15; LOOP: opcode low bits */
	uint8_t reg;		/* explicit GPR operand for push/pop/mov cr/in... (destination or source), else INSN_NO_REG */
	uint8_t reg2;		/* control/debug/segment register number, or second GPR */
	uint8_t sreg;		/* segment register for seg forms */
	uint8_t mem_reg;	/* GPR in the place of a memory operand (ModRM.mod=3), else INSN_NO_REG */
	uint16_t need;		/* enum insn_need */
	uint16_t gpr_read, gpr_write; /* incl. address registers and implicit ones */
	uint16_t gpr_high;	/* registers 0-3 used through AH/CH/DH/BH */
	bool reg_gpr, vvvv_gpr, rm_gpr; /* ModRM.reg, VEX.vvvv, ModRM.rm (mod=3) or opcode low bits name a GPR */
	uint32_t fl_read, fl_write, fl_undef; /* fl_write: may change; fl_undef, a part of it: to what the manual leaves open */
	uint32_t fl_kill;	/* never keep their old value: not those of a shift by CL, nor undefined ones that processors leave alone */
	uint16_t mnemonic;	/* ZydisMnemonic, for messages and rare distinctions inside a class */
	uint64_t feature;	/* guest feature required: see enum insn_feature bit, 0 if baseline x86-64 */
	int64_t imm;		/* first immediate, sign-extended; relative branches: the displacement */
	int64_t imm2;
	struct insn_mem mem;
};

/* Guest CPUID features that gate instructions; a bit set in vcpu.features means offered. */
enum insn_feature {
	FEAT_SSE3 = 0, FEAT_PCLMUL, FEAT_SSSE3, FEAT_FMA, FEAT_CX16, FEAT_SSE41, FEAT_SSE42, FEAT_MOVBE, FEAT_POPCNT, FEAT_AES,
	FEAT_XSAVE, FEAT_AVX, FEAT_F16C, FEAT_RDRAND, FEAT_BMI1, FEAT_AVX2, FEAT_BMI2, FEAT_ADX, FEAT_RDSEED, FEAT_CLFLUSHOPT,
	FEAT_CLWB, FEAT_SHA, FEAT_LZCNT, FEAT_SSE4A, FEAT_FSGSBASE, FEAT_INVPCID, FEAT_SMAP, FEAT_RDTSCP, FEAT_RDPID,
	FEAT_XSAVEOPT, FEAT_XSAVEC, FEAT_XSAVES, FEAT_GFNI, FEAT_VAES, FEAT_VPCLMUL, FEAT_AVX_VNNI, FEAT_MOVDIRI, FEAT_MOVDIR64B,
	FEAT_CLZERO, FEAT_MONITOR, FEAT_SYSENTER, FEAT_PREFETCHW, FEAT_RTM, FEAT_SERIALIZE, FEAT_WBNOINVD, FEAT_3DNOW, FEAT_FMA4,
	FEAT_XOP, FEAT_TBM, FEAT_SVM, FEAT_COUNT
};
#define FEATURE(f) (1ull << FEAT_##f)

/*
 * Decodes at most `avail` bytes at `bytes` (avail up to 15). Returns 0, or -1 if more bytes are needed than
 * avail gives (avail < 15): the caller fetches the next page and tries again. An undecodable
 * instruction is success with cls INSN_INVALID or INSN_TOO_LONG and len the number of bytes looked at.
 */
int insn_decode(struct insn *in, const uint8_t *bytes, unsigned avail, enum insn_mode mode);

/* True if the class ends a basic block. */
bool insn_ends_block(const struct insn *in);

/*
 * Encodings for 64-bit mode of an INSN_PLAIN instruction of any mode. `out` takes up to INSN_EMIT_MAX bytes; all return the
 * number of bytes written, or 0 if the form cannot be encoded (a register above needs REX while AH..BH is used).
 * Where there is a memory operand its address is replaced: segment override and address-size prefixes are dropped, the new address is final.
 *
 * insn_emit_rip: the operand becomes [rip + rel32]; `disp` is the distance from the END of the emitted instruction.
 * insn_emit_base: the operand becomes [host_base + disp] (GPR number), and guest GPR operands (ModRM.reg, VEX.vvvv) that equal
 * map_from are replaced by map_to (pass INSN_NO_REG for no replacement).
 * insn_emit_index: the operand becomes [host_base + index * scale + disp], index not RSP.
 * insn_emit_reg: no memory operand (or only an address); the same instruction with register operands as they are. What 16- or 32-bit
 * code writes differently, or does less of (VZEROUPPER: eight registers), may become other instructions with the same effect.
 */
#define INSN_EMIT_MAX 40
unsigned insn_emit_reg(uint8_t *out, const struct insn *in);
unsigned insn_emit_rip(uint8_t *out, const struct insn *in, int32_t disp);
unsigned insn_emit_base(uint8_t *out, const struct insn *in, uint8_t host_base, int32_t disp, uint8_t map_from, uint8_t map_to);
unsigned insn_emit_index(uint8_t *out, const struct insn *in, uint8_t host_base, uint8_t index, uint8_t scale, int32_t disp);

/* PAUSE, among the other instructions that do nothing. */
static inline bool insn_is_pause(const struct insn *in)
{
	if (in->cls != INSN_NOP || in->map || in->opcode != 0x90)
		return false;
	for (unsigned i = 0; i < in->opcode_off; i++)
		if (in->bytes[i] == 0xf3)
			return true;
	return false;
}

/* "mov rax, [rbx]" for messages; Zydis' Intel syntax. Cold. */
void insn_format(const struct insn *in, uint64_t rip, char *buf, size_t size);
/* The name of insn.mnemonic. */
const char *insn_mnemonic(uint16_t mnemonic);

#endif
