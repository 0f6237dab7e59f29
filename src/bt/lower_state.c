/*
 * lower_state.c - XSAVE, XSAVEC and XRSTOR of 64-bit code: a kernel's every switch between threads, and every signal.
 *
 * The host's own instruction works on the guest's memory, with the guest's XCR0 applied to the mask: the host's may have more components. Whatever XRSTOR would fault at goes to the
 * executor (cpu/exec_fpu.c), so that the fault finds the guest's RAX and RDX in place. If a device
 * changes the image after it was looked at, the host may fault all the same: then the guest, which let two write at once, gets its #GP with the masked EDX:EAX. XSAVEOPT is not here: it may
 * leave out what the host thinks to be there since an XRSTOR from the same host address, which may be another guest page by now.
 *
 * An image in two pages: where a task's state or a signal's frame lies is a matter of chance, which stays for as long as they live. C finds both pages (bt_state_find). Where they adjoin in the host's
 * memory, the code goes on with the image in place; else with a copy in the vcpu's bounce buffer, which a save's own cold code has C take back (bt_state_store).
 *
 * Sites of an instruction, by what `host` is: its look-up; where an image found goes on; a save to the copy; its end.
 * Sources: Intel SDM vol. 1, "Operation of XSAVE", "Operation of XRSTOR", "Operation of XSAVEC".
 */
#include "bt/lower.h"

#include "bt/profile_internal.h"
#include "cpu/host_stub.h"

#define IMAGE_END 832	/* legacy region, header, AVX */
#define XSTATE_BV 512
#define XCOMP_BV 520
#define RESERVED 528	/* to the end of the header */
#define HEADER_END 576	/* AVX follows, in either format */
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

enum { SITE_AGAIN, SITE_FOUND, SITE_COPY, SITE_END, STATE_SITES };

/* The host's instruction, at T0. */
static void save_or_load(struct emit *e, const uint8_t *code, unsigned n, bool save)
{
	e_bytes(e, code, n);
	if (save)
		clear_pointers(e);
	e_load_gs(e, RAX, SLOT(S_TMP0));
	e_load_gs(e, RDX, SLOT(S_TMP1));
}

static void set_mask(struct emit *e)
{
	e_store_gs(e, SLOT(S_TMP0), RAX);
	e_store_gs(e, SLOT(S_TMP1), RDX);
	e_op_gs(e, false, 0x23, RAX, VOFF(xcr0)); /* and: there is nothing above bit 31 */
	e_op_rr(e, false, 0x33, RDX, RDX);
}

/* A look-up that misses asks bt_state_find. */
static void look_up(struct tr *t, bool save, uint32_t site)
{
	struct emit *c = &t->cold;

	t->bt->site[site + SITE_AGAIN].host = tr_offset(t, t->e.p);
	e_patch(lower_lookup(t, IMAGE_END, save, &t->e), c->p);
	lower_lookup_undo(t, save, c);
	e_store_gs_imm32(c, SLOT(S_SITE), site);
	e_jmp_to(c, t->bt->state_find[save]);
	t->bt->site[site + SITE_FOUND].host = tr_offset(t, t->e.p);
}

static void save_to_copy(struct tr *t, const uint8_t *code, unsigned n, uint32_t site)
{
	struct emit *c = &t->cold;

	t->bt->site[site + SITE_COPY].host = tr_offset(t, c->p);
	set_mask(c);
	save_or_load(c, code, n, true);
	e_store_gs_imm32(c, SLOT(S_SITE), site);
	e_jmp_to(c, t->bt->state_store);
}

void lower_state_image(struct tr *t, const struct insn *in)
{
	const bool save = in->cls != INSN_XRSTOR, crosses = tune_on(t->bt->memory->tune, TUNE_CROSSING_STATE);
	struct emit *e = &t->e;
	struct probe p;
	uint8_t code[24];
	unsigned n = insn_emit_base(code, in, T0, 0, INSN_NO_REG, INSN_NO_REG);
	uint32_t site;

	if (!tr_wide(t) || !n || n > 15) {
		lower_executor(t);
		return;
	}
	tr_before_clobber(t);
	lower_address(t, in, 0);
	e_u8(e, 0x41), e_u8(e, 0xf6), e_u8(e, 0xc2), e_u8(e, 63); /* test T0b, 63: the alignment */
	lower_executor_if(t, CC_NE);
	if (crosses) {
		site = lower_site(t, save ? SITE_WRITE : SITE_READ, IMAGE_END);
		for (unsigned i = 1; i < STATE_SITES; i++)
			tr_site(t, SITE_READ);
		look_up(t, save, site);
	} else {
		p = lower_probe_begin(t, IMAGE_END, save, e);
		site = p.site;
		lower_probe_missed(t, &p, &t->cold);
	}
	t->bt->site[site].careful = 1; /* of images that end before IMAGE_END */
	if (!save)
		check_image(t);
	set_mask(e);
	tr_mark(t);
	save_or_load(e, code, n, save);
	if (crosses && save)
		save_to_copy(t, code, n, site);
	if (crosses)
		t->bt->site[site + SITE_END].host = tr_offset(t, e->p);
}

/* Whether level 1 has the page for the access, afterwards. */
static bool reach(struct vcpu *v, uint64_t va, bool write)
{
	const unsigned access = (write ? ACC_WRITE : ACC_READ) | ACC_AGAIN | (vcpu_user(v) ? ACC_USER : 0) | (v->rflags & FL_AC ? ACC_AC : 0);
	const struct tlb_entry *e = tlb1_entry(&v->mmu, vcpu_tlb_set(v), va);
	struct mmu_result out;

	return (write ? e->tag_write : e->tag_read) == (va & PAGE_MASK) || (vcpu_canonical(v, va) && mmu_access(&v->mmu, gva(va), access, &out) == MMU_MAPPED);
}

/* Where it has it; 0: nowhere. */
static uint8_t *host_of(const struct vcpu *v, uint64_t va, bool write)
{
	const struct tlb_entry *e = tlb1_entry(&v->mmu, vcpu_tlb_set(v), va);

	return (write ? e->tag_write : e->tag_read) == (va & PAGE_MASK) ? (uint8_t *)(uintptr_t)e->host + (va & ~PAGE_MASK) : 0;
}

static uint64_t find(struct vcpu *v, uint64_t va, uint32_t n, bool write)
{
	struct bt *bt = v->bt->bt;
	const struct site *site = &bt->site[n];
	const uint64_t mask = ((uint32_t)v->gpr[RAX] | v->gpr[RDX] << 32) & v->xcr0, next = (va & PAGE_MASK) + PAGE_SIZE;
	const unsigned room = (unsigned)(next - va), bytes = mask & XCR0_AVX ? IMAGE_END : HEADER_END;
	struct bt_state_copy *copy = &v->bt->state_copy;
	uint8_t *first, *second, *image = v->stub->data->bounce;

	if (room >= IMAGE_END)
		return write ? bt_tlb_miss_write(v, va, n) : bt_tlb_miss_read(v, va, n);
	v->bt->slow_inject = false;
	bt_profile_slow(v, n, PROFILE_REFILL);
	/* Each in turn; and the second may have taken the first's frame. */
	if (!reach(v, va, write) || (bytes > room && !reach(v, next, write)))
		return 0;
	first = host_of(v, va, write);
	second = bytes > room ? host_of(v, next, write) : first + room;
	if (!first || !second)
		return 0;
	if (second == first + room) {
		v->bt_scratch[S_EA] = (uint64_t)(uintptr_t)first;
		return (uint64_t)(uintptr_t)(bt->cache + site[SITE_FOUND].host);
	}
	copy_bytes(image, first, room);
	copy_bytes(image + room, second, bytes - room);
	*copy = (struct bt_state_copy){ { first, second }, { room, bytes - room } };
	v->bt_scratch[S_EA] = (uint64_t)(uintptr_t)image;
	return (uint64_t)(uintptr_t)(bt->cache + site[write ? SITE_COPY : SITE_FOUND].host);
}

uint64_t bt_state_find_read(struct vcpu *v, uint64_t va, uint32_t site) { return find(v, va, site, false); }
uint64_t bt_state_find_write(struct vcpu *v, uint64_t va, uint32_t site) { return find(v, va, site, true); }

uint64_t bt_state_store(struct vcpu *v, uint64_t unused, uint32_t site)
{
	const struct bt_state_copy *copy = &v->bt->state_copy;
	const uint8_t *image = v->stub->data->bounce;

	(void)unused;
	copy_bytes(copy->part[0], image, copy->bytes[0]);
	copy_bytes(copy->part[1], image + copy->bytes[0], copy->bytes[1]);
	return (uint64_t)(uintptr_t)(v->bt->bt->cache + v->bt->bt->site[site + SITE_END].host);
}
