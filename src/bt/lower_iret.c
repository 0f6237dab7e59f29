/*
 * lower_iret.c - IRETQ of a 64-bit kernel, to itself and to 64-bit user code, without leaving generated code.
 *
 * What the executor's version (cpu/exec_far.c) does in the usual case: flat segments whose descriptors are the GDT's first sixteen's and accessed
 * already, a target that is canonical, and nothing that waits for IF or for the end of an NMI. Before anything has changed, whatever is unusual goes there. One
 * stub for all IRETQs of one way of accessing memory: kernels have few, and it is long.
 * Source: AMD APM vol. 3, "IRET"; vol. 2, "Long-Mode Interrupt Control Transfers", "Return from Interrupt (IRET)".
 */
#include "bt/emit_state.h"
#include "cpu/personality.h"

/* Descriptors, accessed, as segment_unpack has them for e_set_flat. */
static const uint64_t flat_code[] = { 0x00af9b000000ffff, 0x00affb000000ffff }, flat_data[] = { 0x00cf93000000ffff, 0x00cff3000000ffff };
/* The frame, read once: another processor or a device may write to it meanwhile. What is judged is this copy, and what takes effect. */
enum { FRAME_RIP = SLOT(S_FRAME), FRAME_CS = SLOT(S_FRAME + 1), FRAME_FLAGS = SLOT(S_FRAME + 2), FRAME_RSP = SLOT(S_FRAME + 3), FRAME_SS = SLOT(S_FRAME + 4) };
enum { GDT_BYTES = 128 };
#define MAX_FAILS 32

struct part { struct emit *e; uint8_t *fail[MAX_FAILS]; unsigned fails; };

static void fail_if(struct part *p, uint8_t cc)
{
	ASSERT(p->fails < MAX_FAILS);
	p->fail[p->fails++] = e_jcc(p->e, cc);
}

/* reg, an address, becomes a host address of `size` bytes to read. Clobbers T1. */
static void look_up(struct part *p, unsigned set, uint8_t reg, unsigned size)
{
	const int32_t l1 = bt_l1_of(set);

	e_rorx32(p->e, T1, reg, PAGE_SHIFT - TLB_ENTRY_SHIFT);
	e_op_gs(p->e, false, 0x23, T1, VOFF(mmu.l1_mask[set]));
	e_op_gs_base(p->e, true, 0x2b, reg, T1, NO_BASE, 1, l1 + (int32_t)offsetof(struct tlb_entry, tag_read));
	e_alu_imm(p->e, true, 7, reg, (int32_t)(PAGE_SIZE - size));
	fail_if(p, CC_A);
	e_op_gs_base(p->e, true, 0x03, reg, T1, NO_BASE, 1, l1 + (int32_t)offsetof(struct tlb_entry, host));
}

static void test_imm(struct emit *e, uint8_t reg, uint32_t imm)
{
	e_u8(e, e_rex(false, 0, 0, reg));
	e_u8(e, 0xf7), e_u8(e, (uint8_t)(0xc0 | (reg & 7)));
	e_u32(e, imm);
}

/* Clobbers T0, RAX. */
static void read_frame(struct part *p, unsigned set)
{
	struct emit *e = p->e;

	e_mov_rr(e, T0, RSP);
	look_up(p, set, T0, FRAME_WORDS * 8);
	for (int i = 0; i < FRAME_WORDS; i++) {
		e_op_mem(e, true, 0x8b, RAX, T0, NO_BASE, 1, 8 * i);
		e_store_gs(e, SLOT(S_FRAME + i), RAX);
	}
}

/* The selector in RAX, RPL tested, has to name a descriptor of the GDT at RDX that reads so. Clobbers RAX, RCX, T1. */
static void check_descriptor(struct part *p, uint64_t want)
{
	struct emit *e = p->e;

	test_imm(e, RAX, (uint32_t)~(GDT_BYTES - 1) | 4); /* the LDT's, or too far behind */
	fail_if(p, CC_NE);
	e_alu_imm(e, false, 4, RAX, GDT_BYTES - 8);
	fail_if(p, CC_E); /* null */
	e_lea(e, false, RCX, RAX, NO_BASE, 1, 7);
	e_u8(e, 0x66); /* cmp cx, gs:[gdtr.limit] */
	e_op_gs(e, false, 0x3b, RCX, VOFF(gdtr.limit));
	fail_if(p, CC_A);
	e_mov_imm(e, RCX, want);
	e_op_mem(e, true, 0x3b, RCX, RDX, RAX, 1, 0);
	fail_if(p, CC_NE);
}

static void restore(struct emit *e)
{
	e_load_gs(e, RAX, VOFF(gpr[RAX]));
	e_load_gs(e, RCX, VOFF(gpr[RCX]));
	e_load_gs(e, RDX, VOFF(gpr[RDX]));
}

/* The target is canonical, and the flags ask for nothing special. Clobbers RAX, RCX. */
static void check_rest(struct part *p)
{
	struct emit *e = p->e;

	e_load_gs(e, RCX, FRAME_RIP);
	e_mov_rr(e, RAX, RCX);
	e_u8(e, 0x48), e_u8(e, 0xc1), e_u8(e, 0xe0), e_u8(e, 64 - VA_BITS_4LEVEL); /* shl rax */
	e_u8(e, 0x48), e_u8(e, 0xc1), e_u8(e, 0xf8), e_u8(e, 64 - VA_BITS_4LEVEL); /* sar rax */
	e_op_rr(e, true, 0x3b, RAX, RCX);
	fail_if(p, CC_NE);
	e_load_gs32(e, RAX, FRAME_FLAGS);
	test_imm(e, RAX, FL_AC | FL_TF);
	fail_if(p, CC_NE);
}

/* All that changes but SS, then on to the target. */
static void commit(const struct bt *bt, struct emit *e, bool user)
{
	const uint32_t mode = user ? TLB_USER : MODE_CPL0;
	uint8_t *hit, *pending = 0;

	e_load16(e, RAX, FRAME_CS);
	e_set_flat(e, SEG_CS, RAX, FLAT_ATTR(0xb, user ? 3 : 0, SEG_L));
	if (user)
		e_set_cpl(e, 3);
	e_load_gs(e, RSP, FRAME_RSP);
	e_load_gs32(e, T0, FRAME_FLAGS);
	e_alu_imm(e, false, 4, T0, (int32_t)(FL_LEGAL & ~(uint32_t)(FL_RF | FL_VM)));
	e_alu_imm(e, false, 1, T0, FL_R1);
	e_set_flags(e);
	e_count(e, VOFF(counters.irets));
	e_load_gs(e, T0, FRAME_RIP);
	restore(e);
	if (user) {
		e_load_gs(e, T1, SLOT(S_JUMP_USER));
		pending = e_change_table(e);
	}
	e_jump_entry(e, mode);
	e_jump_compare(e);
	hit = e_jcc(e, CC_E);
	e_load_gs32(e, T1, SLOT(S_SITE));
	e_jmp_to(e, bt->jump_other[user]);
	if (user) {
		e_patch(pending, e->p);
		e_load_gs32(e, T1, SLOT(S_SITE));
		e_jmp_to(e, bt->jump_miss);
	}
	e_patch(hit, e->p);
	if (user)
		e_set_page(e);
	e_jump_go(e);
}

static void set_ss(struct emit *e, unsigned dpl)
{
	e_load16(e, RAX, FRAME_SS);
	e_set_flat(e, SEG_SS, RAX, FLAT_ATTR(0x3, dpl, SEG_DB));
}

static void make_user(const struct bt *bt, struct part *p)
{
	static const uint8_t data_segs[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	struct emit *e = p->e;

	e_op_gs(e, false, 0x23, RAX, FRAME_SS); /* and: RPL 3 of both */
	e_not(e, RAX);
	test_imm(e, RAX, 3);
	fail_if(p, CC_NE);
	e_load16(e, RAX, FRAME_CS);
	check_descriptor(p, flat_code[1]);
	e_load16(e, RAX, FRAME_SS);
	check_descriptor(p, flat_data[1]);
	/* Null data segments stay as they are; whether others do the executor knows. */
	for (unsigned i = 0; i < ARRAY_LEN(data_segs); i++)
		e_op_gs(e, false, i ? 0x0b : 0x8b, RAX, SEG_AT(data_segs[i]) + (int32_t)offsetof(struct segment, selector)); /* or; mov: attributes too */
	test_imm(e, RAX, UINT32_MAX);
	fail_if(p, CC_NE);
	check_rest(p);
	set_ss(e, 3);
	commit(bt, e, true);
}

static void make_kernel(const struct bt *bt, struct part *p)
{
	const int32_t ss = SEG_AT(SEG_SS);
	struct emit *e = p->e;
	uint8_t *null, *done;

	check_descriptor(p, flat_code[0]);
	check_rest(p);
	e_load16(e, RAX, FRAME_SS);
	test_imm(e, RAX, UINT32_MAX);
	null = e_jcc(e, CC_E);
	test_imm(e, RAX, 3);
	fail_if(p, CC_NE);
	check_descriptor(p, flat_data[0]);
	set_ss(e, 0);
	done = e_jmp(e);
	e_patch(null, e->p); /* as an interrupt of user code has left it */
	e_store_gs_imm(e, ss + (int32_t)offsetof(struct segment, base), 0);
	e_store_gs_imm32(e, ss + (int32_t)offsetof(struct segment, limit), 0);
	e_store_gs_imm32(e, ss + (int32_t)offsetof(struct segment, selector), 0);
	e_patch(done, e->p);
	commit(bt, e, false);
}

static void make(struct bt *bt, struct emit *e, unsigned set)
{
	struct part p = { .e = e };
	uint8_t *same;

	bt->iret[set] = e->p;
	e_op_gs(e, false, 0x89, T1, SLOT(S_SITE));
	e_store_gs(e, VOFF(gpr[RAX]), RAX);
	e_store_gs(e, VOFF(gpr[RCX]), RCX);
	e_store_gs(e, VOFF(gpr[RDX]), RDX);
	e_test_byte(e, VOFF(rflags) + 1, FL_NT >> 8);
	fail_if(&p, CC_NE);
	e_compare_byte(e, VOFF(irq_waiting), 0); /* IF may become set */
	fail_if(&p, CC_NE);
	e_compare_byte(e, VOFF(nmi_masked), 0);
	fail_if(&p, CC_NE);
	read_frame(&p, set);
	e_load_gs(e, RDX, VOFF(gdtr.base));
	look_up(&p, set, RDX, GDT_BYTES);
	e_load16(e, RAX, FRAME_CS);
	test_imm(e, RAX, 3);
	same = e_jcc(e, CC_E);
	make_user(bt, &p);
	e_patch(same, e->p);
	make_kernel(bt, &p);
	while (p.fails)
		e_patch(p.fail[--p.fails], e->p);
	restore(e);
	e_restore_flags(e);
	e_jmp_to(e, bt->leave[LEAVE_EXEC]);
}

void bt_make_iret(struct bt *bt, struct emit *e)
{
	make(bt, e, TLB_KERNEL);
	make(bt, e, TLB_KERNEL_AC);
}

void lower_iret(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	const uint32_t set = t->mode & MODE_SMAP ? TLB_KERNEL : TLB_KERNEL_AC; /* the GDT is read with this one whatever AC says */

	if (!tr_wide(t) || in->opsize != 8 || (t->mode & (MODE_CPL0 | MODE_GUEST | MODE_LA57)) != MODE_CPL0 || (t->mode & MODE_SET) != set || t->mode != t->b->mode ||
	    t->v->personality != &personality_bare || t->v->mmu.trace || !tune_on(t->bt->memory->tune, TUNE_INLINE_IRET)) {
		lower_executor(t);
		return;
	}
	tr_flags_to_slot(t);
	e_set_rip(e, t->b->shared, tr_va(t)); /* for the executor */
	e_mov_imm(e, T1, tr_site(t, SITE_FAR));
	e_jmp_to(e, t->bt->iret[set]);
	t->ended = true;
}
