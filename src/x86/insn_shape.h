/*
 * insn_shape.h - what of an instruction its displacement and immediate do not change: between insn.c, which decodes, and shape.c, which remembers.
 */
#ifndef X86_INSN_SHAPE_H
#define X86_INSN_SHAPE_H

#include "x86/insn.h"

struct insn_shape {
	bool fixed;		/* only mem.disp, imm and bytes of struct insn depend on what follows the head; else nothing here counts */
	uint8_t head;		/* bytes before the displacement; then that, then the immediate, then the end */
	uint8_t disp_len, imm_len;
	bool imm_signed;
};

/* insn_decode without memory. */
int insn_decode_anew(struct insn *in, const uint8_t *bytes, unsigned avail, enum insn_mode mode, struct insn_shape *shape);

#endif
