/*
 * lower_state.c - XSAVE, XSAVEC and XRSTOR of 64-bit code: a kernel's every switch between threads, and every signal.
 *
 * The host's own instruction works on the guest's memory, with the guest's XCR0 applied to the mask: the host's may have more components. An image that does not lie in
 * one page goes to the executor (cpu/exec_fpu.c), and so does whatever XRSTOR would fault at, so that the fault finds the guest's RAX and RDX in place. If a device
 * changes the image after it was looked at, the host may fault all the same: then the guest, which let two write at once, gets its #GP with the masked EDX:EAX. XSAVEOPT is not here: it may
 * leave out what the host thinks to be there since an XRSTOR from the same host address, which may be another guest page by now.
 * Sources: Intel SDM vol. 1, "Operation of XSAVE", "Operation of XRSTOR", "Operation of XSAVEC".
 */
#include "bt/lower.h"

#define IMAGE_END 832	/* legacy region, header, AVX */
#define XSTATE_BV 512
#define XCOMP_BV 520
#define RESERVED 528	/* to the end of the header */
#define HEADER_END 576
#define MXCSR 24
#define FOP 6		/* and, at 8 and 16, FIP and FDP: addresses of ours (docs/cpu.md) */

/* test qword [T0 + disp], T1 */
static void test_image(struct emit *e, int32_t disp) { e_op_mem(e, true, 0x85, T1, T0, NO_BASE, 1, disp); }

/* Leads to the executor if the header breaks the rules (as header_valid in cpu/exec_fpu.c), or MXCSR has reserved bits. T0: the image. */
static void check_image(struct tr *t)
{
	struct emit *e = &t->e;
	uint8_t *standard;

	e_op_mem(e, true, 0x8b, T1, T0, NO_BASE, 1, RESERVED);
	for (int32_t at = RESERVED + 8; at < HEADER_END; at += 8)
		e_op_mem(e, true, 0x0b, T1, T0, NO_BASE, 1, at); /* or */
	e_op_rr(e, true, 0x85, T1, T1);
	lower_executor_if(t, CC_NE);
	e_u8(e, 0x41), e_u8(e, 0xf7); /* test dword [T0 + MXCSR], reserved bits */
	e_modrm(e, 0, T0, NO_BASE, 1, MXCSR);
	e_u32(e, 0xffff0000);
	lower_executor_if(t, CC_NE);
	e_load_gs(e, T1, VOFF(xcr0));
	e_not(e, T1);
	test_image(e, XSTATE_BV);
	lower_executor_if(t, CC_NE);
	if (t->v->features & FEATURE(XSAVEC))
		e_u8(e, 0x49), e_u8(e, 0x0f), e_u8(e, 0xba), e_u8(e, 0xf3), e_u8(e, 63); /* btr T1, 63: the compacted format */
	test_image(e, XCOMP_BV);
	lower_executor_if(t, CC_NE);
	e_op_mem(e, true, 0x8b, T1, T0, NO_BASE, 1, XCOMP_BV);
	e_op_rr(e, true, 0x85, T1, T1);
	standard = e_jcc(e, CC_E);
	lower_executor_if(t, CC_NS);
	e_not(e, T1);
	test_image(e, XSTATE_BV);
	lower_executor_if(t, CC_NE);
	e_patch(standard, e->p);
}

/* mov [T0 + disp], 0: opcode prefix and width by `size`. Keeps flags. */
static void clear(struct emit *e, int32_t disp, unsigned size)
{
	if (size == 2)
		e_u8(e, 0x66);
	e_u8(e, e_rex(size == 8, 0, 0, T0));
	e_u8(e, 0xc7);
	e_modrm(e, 0, T0, NO_BASE, 1, disp);
	if (size == 2)
		e_u8(e, 0), e_u8(e, 0);
	else
		e_u32(e, 0);
}

/* What the image says of the x87's pointers, if it says anything. */
static void clear_pointers(struct emit *e)
{
	uint8_t *not_asked, *not_there;

	e_u8(e, 0xa8), e_u8(e, XCR0_X87); /* test al, x87 */
	not_asked = e_jcc(e, CC_E);
	e_u8(e, 0x41), e_u8(e, 0xf6); /* test byte [T0 + XSTATE_BV], x87 */
	e_modrm(e, 0, T0, NO_BASE, 1, XSTATE_BV);
	e_u8(e, XCR0_X87);
	not_there = e_jcc(e, CC_E);
	clear(e, FOP, 2);
	clear(e, FOP + 2, 8);
	clear(e, FOP + 10, 8);
	e_patch(not_asked, e->p);
	e_patch(not_there, e->p);
}

void lower_state_image(struct tr *t, const struct insn *in)
{
	const bool save = in->cls != INSN_XRSTOR;
	struct emit *e = &t->e;
	struct probe p;
	uint8_t code[24];
	unsigned n = insn_emit_base(code, in, T0, 0, INSN_NO_REG, INSN_NO_REG);

	if (!tr_wide(t) || !n || n > 15) {
		lower_executor(t);
		return;
	}
	tr_before_clobber(t);
	lower_address(t, in, 0);
	e_u8(e, 0x41), e_u8(e, 0xf6), e_u8(e, 0xc2), e_u8(e, 63); /* test T0b, 63: the alignment */
	lower_executor_if(t, CC_NE);
	p = lower_probe_begin(t, IMAGE_END, save, e);
	t->bt->site[p.site].careful = 1; /* of images that end before IMAGE_END */
	lower_probe_missed(t, &p, &t->cold);
	if (!save)
		check_image(t);
	e_store_gs(e, SLOT(S_TMP0), RAX);
	e_store_gs(e, SLOT(S_TMP1), RDX);
	e_op_gs(e, false, 0x23, RAX, VOFF(xcr0)); /* and: there is nothing above bit 31 */
	e_op_rr(e, false, 0x33, RDX, RDX);
	tr_mark(t);
	e_bytes(e, code, n);
	if (save)
		clear_pointers(e);
	e_load_gs(e, RAX, SLOT(S_TMP0));
	e_load_gs(e, RDX, SLOT(S_TMP1));
}
