/*
 * bt_state_test.c - XSAVE, XSAVEC and XRSTOR in generated code (src/bt/lower_state.c): whatever the image, the mask and the place, the same result as by the executor.
 */
#include "bt_machine.h"

#define IMAGE 832u
enum { FIRST = 0x400000, SECOND = 0x402000, THIRD = 0x404000, PAGES = 6 };

static struct machine *m;

static int setup(void **state)
{
	bt_setup(state);
	m = ((struct bt_machine *)*state)->m;
	seed = 1;
	return 0;
}

static uint64_t mask(void) { return one_in(2) ? 7 : one_in(3) ? ~0ull : rnd(); }

/* Mostly an image that XRSTOR takes, in either format. */
static void make_image(uint8_t *image)
{
	const uint64_t in_force = m->v->xcr0;

	for (unsigned i = 0; i < IMAGE; i += 8)
		store_u64(image + i, rnd());
	store_u16(image, 0x37f);
	store_u16(image + 2, (uint16_t)(rnd() & 0x7700));
	if (one_in(4)) { /* an exception is pending: only then some processors keep the pointers */
		store_u16(image, 0x37e);
		store_u16(image + 2, 0x8081);
	}
	store_u32(image + 24, one_in(16) ? (uint32_t)rnd() : (uint32_t)(rnd() & 0x1ffff) & 0xffbf);
	store_u64(image + 512, rnd() & (one_in(16) ? ~0ull : in_force));
	store_u64(image + 520, 0);
	if (one_in(2))
		store_u64(image + 520, 1ull << 63 | (one_in(8) ? rnd() & 0x1ff : in_force));
	else if (one_in(16))
		store_u64(image + 520, rnd() & in_force);
	for (unsigned i = 528; i < 576; i += 8)
		store_u64(image + i, one_in(48) ? rnd() : 0);
}

/* Where an image lies: in one page, across two, or badly aligned. */
static uint64_t place(uint64_t page) { return page + (one_in(3) ? 0xd40 : one_in(4) ? 0xf00 : rnd() % 0x340) / 64 * 64 + (one_in(16) ? 1u << rnd() % 6 : 0); }

struct outcome { uint64_t gpr[16], rip, rflags, vector, frame[8]; uint8_t memory[PAGES * PAGE_SIZE]; };

/* A case, chosen from `at` on so that it can be had twice. */
static void begin(uint64_t at)
{
	struct vcpu *v = m->v;
	uint8_t image[IMAGE], fill[PAGE_SIZE];

	seed = at;
	fpu_save(v);
	fpu_reset(v);
	v->xcr0 = v->cpuid->xcr0 & (one_in(8) ? XCR0_X87 | XCR0_SSE : ~0ull);
	v->cr0 = (v->cr0 & ~(uint64_t)CR0_TS) | (one_in(32) ? CR0_TS : 0);
	v->cr4 = (v->cr4 & ~(uint64_t)CR4_OSXSAVE) | (one_in(32) ? 0 : CR4_OSXSAVE);
	v->rip = CODE_AT;
	v->halted = 0;
	v->cr2 = 0;
	v->gpr[RSP] = STACK;
	v->rflags = FL_R1 | (rnd() & FL_ARITH);
	v->seg[SEG_SS] = (struct segment){ .limit = ~0u, .selector = KERNEL_SS, .attr = SEG_P | SEG_S | 3 | SEG_DB | SEG_GRAN };
	for (unsigned i = 0; i < PAGES; i++) {
		const uint64_t page = FIRST + i * PAGE_SIZE;

		set_page(m, page, page | PTE_P | PTE_U | (one_in(32) ? 0 : PTE_W));
		memset(fill, (int)rnd(), sizeof(fill)); /* all of it: nothing that the other run left may do for what this one should write */
		poke(m, page, fill, sizeof(fill));
	}
	v->gpr[RSI] = place(FIRST);
	v->gpr[RDI] = place(SECOND);
	v->gpr[RBX] = place(THIRD);
	v->gpr[R8] = mask(), v->gpr[R9] = mask();
	v->gpr[R12] = mask(), v->gpr[R13] = mask();
	make_image(image);
	poke(m, v->gpr[RSI], image, sizeof(image));
	if (one_in(16))
		set_page(m, FIRST + PAGE_SIZE, 0);
	if (one_in(16))
		set_page(m, SECOND + PAGE_SIZE, 0);
	host_fault_take_signals(); /* cmocka takes them for each test */
}

/*
 * A component in its initial state may count as in use or not, and may change from one to the other when the host interrupts (Intel SDM vol. 1, "Processor Tracking of
 * XSAVE-Managed State"): XSTATE_BV then differs, and XSAVEC has written zeros or nothing. Both become what an unused component leaves.
 */
static void forget_initial(uint8_t *image, bool compacted)
{
	static const struct { uint16_t at, size; } part[] = { [1] = { 160, 256 }, [2] = { 576, 256 } };
	static const uint8_t x87[24] = { 0x7f, 3 };

	if (image[512] & 1 && !memcmp(image, x87, sizeof(x87)) && !image[32] && !memcmp(image + 32, image + 33, 127))
		image[512] &= (uint8_t)~1u;
	if (compacted && !(image[512] & 1))
		memset(image, 0, 24), memset(image + 32, 0, 128);
	for (unsigned i = 1; i <= 2; i++) {
		uint8_t *p = image + part[i].at;

		if (image[512] >> i & 1 && !p[0] && !memcmp(p, p + 1, part[i].size - 1))
			image[512] &= (uint8_t)~(1u << i);
		if (compacted && !(image[512] >> i & 1))
			memset(p, 0, part[i].size);
	}
	if (compacted && !(image[512] & 2))
		memset(image + 24, 0, 8); /* MXCSR */
}

static void end(struct outcome *o)
{
	const struct vcpu *v = m->v;

	memset(o, 0, sizeof(*o));
	memcpy(o->gpr, v->gpr, sizeof(o->gpr));
	o->rip = v->rip, o->rflags = v->rflags, o->vector = v->cr2;
	for (unsigned i = 0; i < ARRAY_LEN(o->frame); i++)
		o->frame[i] = peek64(m, STACK - 64 + 8 * i);
	assert_int_equal(memory_read(&m->memory, gpa(FIRST), o->memory, sizeof(o->memory)), 0);
	forget_initial(o->memory + v->gpr[RDI] - FIRST, true);
	forget_initial(o->memory + v->gpr[RBX] - FIRST, false);
}

static void test_generated_code_and_executor_agree(void **state)
{
	static struct outcome a, b;
	unsigned bare = 0, to_the_end = 0;

	(void)state;
	CODE(m, "mov %r8, %rax; mov %r9, %rdx; xrstor64 (%rsi); mov %r12, %rax; mov %r13, %rdx; xsavec64 (%rdi); xsave -16(%rbx, %rcx); pushfq; ud2");
	for (unsigned i = 0; i < 6000; i++) {
		const uint64_t at = seed;

		m->v->gpr[RCX] = 16;
		begin(at);
		run_by(m, false);
		end(&a);
		begin(at);
		bare += run_by(m, true);
		end(&b);
		to_the_end += a.rip == HANDLERS + 16 * VEC_UD + 1 && m->v->cr4 & CR4_OSXSAVE;
		for (unsigned k = 0; k < sizeof(a.memory); k++)
			if (a.memory[k] != b.memory[k])
				fail_msg("case %u: byte %#x of the image at %#x is %#x by the executor, %#x", i, k % 0x2000, FIRST + k, a.memory[k], b.memory[k]);
		if (memcmp(&a, &b, sizeof(a)))
			fail_msg("case %u: rip %#lx and %#lx, rax %#lx and %#lx, rdx %#lx and %#lx, flags %#lx and %#lx", i, a.rip, b.rip, a.gpr[RAX], b.gpr[RAX], a.gpr[RDX], b.gpr[RDX], a.rflags,
				 b.rflags);
	}
	assert_in_range(to_the_end, 1500, 5000);
	assert_in_range(bare, 4000, 5900); /* all three in generated code */
}

/*
 * Images in two pages: what is the second? ADJOINING: the frames do, in the host's memory. Then the code works in place, otherwise on a copy, and what it cannot do is the executor's. The neighbours
 * of an image are seen too, in what the pages hold afterwards.
 */
enum second { ADJOINING, APART, SAME, ABSENT, READ_ONLY, CODE, DEVICE, SECONDS };
enum { NEAR = 0x406000 /* the image's first page, and behind it the second */, FRAMES_FROM = 0x800000, FRAMES = 4096, NO_RAM = 0x40000000 };

static uint64_t frame_of(uint64_t at)
{
	struct p2m_entry e;

	assert_true(p2m_lookup(&m->memory, gpa(at), &e));
	return e.m.v;
}

/* Two pages of guest memory whose frames adjoin, and one whose frame adjoins neither: frames are handed out at random. */
static void choose_pages(uint64_t page[3])
{
	static uint64_t at[1u << 16];

	memset(at, 0, sizeof(at));
	for (uint64_t p = FRAMES_FROM; p < FRAMES_FROM + FRAMES * PAGE_SIZE; p += PAGE_SIZE) {
		poke64(m, p, 0);
		if (frame_of(p) < ARRAY_LEN(at))
			at[frame_of(p)] = p;
	}
	for (unsigned f = 1; f + 1 < ARRAY_LEN(at); f++)
		if (at[f] && at[f + 1]) {
			page[0] = at[f], page[1] = at[f + 1];
			for (uint64_t p = FRAMES_FROM;; p += PAGE_SIZE)
				if (p != page[0] && frame_of(p) + 1 != f && frame_of(p) != f + 1 && frame_of(p) != f + 2) {
					page[2] = p;
					return;
				}
		}
	fail_msg("no frames adjoin");
}

struct crossing { uint64_t gpr[16], rip, rflags, cr2; uint8_t memory[3][PAGE_SIZE], state[IMAGE]; };

static void cross(uint64_t at, unsigned offset, enum second second, const uint64_t page[3], bool translated, bool *bare, struct crossing *o)
{
	const uint64_t next = second == ADJOINING ? page[1] : second == SAME ? page[0] : second == DEVICE ? NO_RAM : page[2];
	struct vcpu *v = m->v;
	uint8_t image[IMAGE], fill[PAGE_SIZE];

	seed = at;
	fpu_save(v);
	make_image(image);
	store_u32(image + 24, 0x1f80);
	store_u64(image + 512, v->xcr0), store_u64(image + 520, 0);
	memset(image + 528, 0, 48);
	store_u16(image, 0x37f), store_u16(image + 2, 0);
	memset(image + 4, 0, 20);
	copy_bytes(v->fpu.area, image, IMAGE);
	fpu_load(v);
	fpu_save(v); /* what no register holds is the same in both runs */
	for (unsigned i = 0; i < 3; i++) {
		memset(fill, (int)rnd(), sizeof(fill));
		assert_int_equal(memory_write(&m->memory, gpa(page[i]), fill, second == CODE && i == 2 ? 0xf00 : sizeof(fill)), 0);
	}
	set_page(m, NEAR, page[0] | PTE_P | PTE_W);
	set_page(m, NEAR + PAGE_SIZE, next | PTE_P | PTE_W);
	make_image(image);
	poke(m, page[0] + offset, image, PAGE_SIZE - offset);
	if (second != DEVICE)
		poke(m, next, image + PAGE_SIZE - offset, IMAGE - (PAGE_SIZE - offset));
	if (second == ABSENT || second == READ_ONLY)
		set_page(m, NEAR + PAGE_SIZE, second == ABSENT ? 0 : next | PTE_P);
	memset(v->gpr, 0, sizeof(v->gpr));
	v->gpr[RSP] = STACK;
	v->gpr[RSI] = NEAR + offset;
	v->gpr[RAX] = mask(), v->gpr[RDX] = mask();
	v->rflags = FL_R1 | (rnd() & FL_ARITH);
	v->cr2 = 0;
	v->rip = CODE_AT;
	v->halted = 0;
	host_fault_take_signals();
	*bare = run_by(m, translated);
	fpu_save(v);
	memset(o, 0, sizeof(*o));
	copy_bytes(o->gpr, v->gpr, sizeof(o->gpr));
	o->rip = v->rip, o->rflags = v->rflags, o->cr2 = v->cr2;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(memory_read(&m->memory, gpa(page[i]), o->memory[i], PAGE_SIZE), 0);
	copy_bytes(o->state, v->fpu.area, 416);
	copy_bytes(o->state + 512, v->fpu.area + 512, IMAGE - 512);
	forget_initial(o->state, true);
	if (second != DEVICE) { /* what may differ */
		uint8_t *first = o->memory[0] + offset, *rest = o->memory[second == ADJOINING ? 1 : second == SAME ? 0 : 2];
		const unsigned room = (unsigned)PAGE_SIZE - offset;

		copy_bytes(image, first, room), copy_bytes(image + room, rest, IMAGE - room);
		forget_initial(image, v->rip == HANDLERS + 16 * VEC_UD + 1 && load_u64(image + 520));
		copy_bytes(first, image, room), copy_bytes(rest, image + room, IMAGE - room);
	}
}

static void test_images_in_two_pages_are_saved_and_restored(void **state)
{
	static struct crossing a, b;
	uint64_t page[3];
	unsigned there[3] = { 0 };

	(void)state;
	choose_pages(page);
	for (unsigned op = 0; op < 3; op++) {
		if (op == 0)
			CODE(m, "xrstor64 (%rsi); ud2");
		else if (op == 1)
			CODE(m, "nop; xsavec64 (%rsi); ud2");
		else
			CODE(m, "nop; nop; xsave (%rsi); ud2");
		for (enum second second = 0; second < SECONDS; second++) {
			if (second == CODE) { /* which does not lie where the image does: what it shares with it is the frame, which is watched */
				const uint8_t ud2[] = { 0x90, 0x0f, 0x0b };

				set_page(m, NEAR + PAGE_SIZE, page[2] | PTE_P | PTE_W);
				poke(m, page[2] + 0xf80, ud2, sizeof(ud2));
				m->v->rip = NEAR + PAGE_SIZE + 0xf80;
				m->v->gpr[RSP] = STACK;
				m->v->halted = 0;
				engine_bt.run(m->v);
			}
			for (unsigned offset = PAGE_SIZE - 13 * 64 + 64; offset < PAGE_SIZE; offset += 64)
				for (unsigned i = 0; i < 6; i++) {
					const uint64_t at = seed;
					bool bare;

					cross(at, offset, second, page, false, &bare, &a);
					cross(at, offset, second, page, true, &bare, &b);
					for (unsigned k = 0; k < 3; k++)
						for (unsigned n = 0; n < PAGE_SIZE; n++)
							if (a.memory[k][n] != b.memory[k][n])
								fail_msg("%u, second page %u, at %#x: byte %#x of page %u is %#x by the executor, %#x", op, second, offset, n, k, a.memory[k][n], b.memory[k][n]);
					if (memcmp(&a, &b, sizeof(a)))
						fail_msg("%u, second page %u, at %#x: rip %#lx and %#lx, cr2 %#lx and %#lx", op, second, offset, a.rip, b.rip, a.cr2, b.cr2);
					if (second <= SAME && a.rip == HANDLERS + 16 * VEC_UD + 1)
						there[op] += bare;
					if (second == CODE && op && offset > PAGE_SIZE - 576)
						assert_false(bare);
				}
		}
		/* A load that a rule forbids is the executor's; everything else is done in generated code. */
		assert_in_range(there[op], op ? 3 * 12 * 6 : 100, 3 * 12 * 6);
	}
}

/*
 * XSAVEOPT may leave out what has not changed since an XRSTOR from the same linear address. Two of the guest's addresses are one of ours here: the image, restored through
 * one of them, is cleared and saved through the other.
 */
static void test_another_address_of_the_same_page_is_no_reason_to_leave_anything_out(void **state)
{
	struct vcpu *v = m->v;
	uint8_t image[IMAGE], got[IMAGE];

	(void)state;
	if (!(v->features & FEATURE(XSAVEOPT)))
		skip();
	CODE(m, "xrstor64 (%rsi); lea 160(%rdi), %rdi; xor %edx, %edx; 1: movq $0, (%rdi,%rdx,8); inc %edx; cmp $32, %edx; jb 1b; sub $160, %rdi; xor %edx, %edx;"
		"xsaveopt64 (%rdi); ud2");
	host_fault_take_signals();
	make_image(image);
	fill_bytes(image + 520, 0, 56);
	store_u16(image, 0x37f), store_u16(image + 2, 0);
	store_u32(image + 24, 0x1f80);
	store_u64(image + 512, v->xcr0);
	set_page(m, SECOND, FIRST | PTE_P | PTE_W | PTE_U);
	for (unsigned i = 0; i < 2; i++) { /* what happens first may save and load the host's state on the way */
		poke(m, FIRST, image, sizeof(image));
		v->gpr[RAX] = 7, v->gpr[RDX] = 0;
		v->gpr[RSI] = FIRST;
		v->gpr[RDI] = SECOND;
		v->rip = CODE_AT;
		v->halted = 0;
		engine_bt.run(v);
		assert_int_equal(v->rip, HANDLERS + 16 * VEC_UD + 1);
	}
	assert_int_equal(memory_read(&m->memory, gpa(FIRST), got, sizeof(got)), 0);
	assert_memory_equal(got + 160, image + 160, 256); /* XMM */
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, bt_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_generated_code_and_executor_agree),
		TEST(test_images_in_two_pages_are_saved_and_restored),
		TEST(test_another_address_of_the_same_page_is_no_reason_to_leave_anything_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
