/*
 * reference.c - the scenario that the project's words come from: page v = 100 maps to p = 1000, backed by m; the guest unmaps
 * it, and touching it is the guest's page fault; the guest maps v to p = 2000, backed by another m. Then the monitor moves that page
 * to a third frame: v = 100, p = 2000, and the guest notices nothing. And p = 70, reached directly.
 *
 * Numbers are page numbers; v lies in a part of the address space of its own. m is the monitor's affair; two ports that
 * Trifold has for tests (src/vm/frames.c) show it, and move pages. Other monitors lack them: m is not printed then.
 */
#include "guest.h"

#define BASE 0x80000000000ul
#define PAGE_V(v) (BASE + (uint64_t)(v) * PAGE)
#define PAGE_P(p) ((uint64_t)(p) * PAGE)
#define FRAMES_PORT 0xf8
#define NO_FRAME 0xffffffffu

static uint32_t frame_of(uint32_t p)
{
	uint32_t m;
	__asm__ volatile("outl %0, %w1" : : "a"(p), "Nd"(FRAMES_PORT));
	__asm__ volatile("inl %w1, %0" : "=a"(m) : "Nd"(FRAMES_PORT));
	return m;
}
static void move_page(uint32_t p)
{
	__asm__ volatile("outl %0, %w1" : : "a"(p), "Nd"(FRAMES_PORT));
	__asm__ volatile("outl %0, %w1" : : "a"(1), "Nd"(FRAMES_PORT + 4));
}

static void show(unsigned v, unsigned p)
{
	if (v)
		print("v=%u ", v);
	print("p=%u ", p);
	if (frame_of(p) != NO_FRAME)
		print("m=%u", frame_of(p));
}

static void touch(unsigned v, unsigned p, uint64_t value)
{
	struct regs r = { .t = { .rcx = PAGE_V(v) } };
	unsigned vector = run_kernel(CODE("mov (%%rcx), %%rax"), &r);
	if (p) {
		show(v, p);
		print(": holds 0x%lx\n", r.t.rax);
		CHECK_EQ(vector, DONE);
		CHECK_EQ(r.t.rax, value);
	} else {
		print("v=%u p=none: guest page fault, error 0x%lx, cr2 is v=%lu\n", v, r.t.error, (r.cr2 - BASE) / PAGE);
		CHECK_EQ(vector, PF);
		CHECK_EQ(r.t.error, 0);
		CHECK_EQ(r.cr2, PAGE_V(v));
	}
}

static void scenario(void)
{
	/* Nothing has touched these pages: they have no frame yet. */
	CHECK_EQ(frame_of(1000), NO_FRAME);
	CHECK_EQ(frame_of(2000), NO_FRAME);
	*word_at(PAGE_P(1000)) = 0x1000;
	*entry_of(PAGE_V(100), 1) = PAGE_P(1000) | PTE_P | PTE_W;
	touch(100, 1000, 0x1000);
	*entry_of(PAGE_V(100), 1) = 0;
	invlpg(PAGE_V(100));
	touch(100, 0, 0);
	CHECK_EQ(frame_of(2000), NO_FRAME);
	*entry_of(PAGE_V(100), 1) = PAGE_P(2000) | PTE_P | PTE_W;
	touch(100, 2000, 0);	/* backed by this very access */
	*word_at(PAGE_V(100)) = 0x2000;
	CHECK_EQ(*word_at(PAGE_P(2000)), 0x2000);
	CHECK_EQ(*word_at(PAGE_P(1000)), 0x1000);
	/* The monitor moves the page. */
	uint32_t before = frame_of(2000);
	if (before != NO_FRAME) {
		for (unsigned i = 0; i < 10; i++) {
			move_page(2000);
			CHECK(frame_of(2000) != before && frame_of(2000) != frame_of(1000));
			before = frame_of(2000);
			touch(100, 2000, 0x2000 + i);
			CHECK_EQ(*word_at(PAGE_P(2000)), 0x2000 + i);
			*word_at(PAGE_V(100)) = 0x2001 + i;
		}
	}
	/* p = 70, where the guest's kernel maps memory one to one. */
	*word_at(PAGE_P(70)) = 0x70;
	show(0, 70);
	print(": holds 0x%lx\n", *word_at(PAGE_P(70)));
	*entry_of(PAGE_V(70), 1) = PAGE_P(70) | PTE_P | PTE_W;
	touch(70, 70, 0x70);
}

/* Pages that are in use as everything at once move: code that is running, its stack, the page tables. */
static void moving_what_is_in_use(void)
{
	uint64_t code = alloc_page(), data = alloc_page();
	uint32_t first = frame_of((uint32_t)(code / PAGE));
	if (first == NO_FRAME) {
		skip_test("this monitor does not show its frames");
		return;
	}
	for (uint32_t i = 0; i < 300; i++) {
		*bytes_at(code) = 0xb8;	/* mov $i, %eax; ret */
		for (unsigned k = 0; k < 4; k++)
			bytes_at(code)[1 + k] = (uint8_t)(i >> 8 * k);
		bytes_at(code)[5] = 0xc3;
		CHECK_EQ(((uint32_t (*)(void))code)(), i);
		move_page((uint32_t)(code / PAGE));
		CHECK_EQ(((uint32_t (*)(void))code)(), i);
		map_page(PAGE_V(300), data, PTE_P | PTE_W);
		*word_at(PAGE_V(300)) = i;
		move_page((uint32_t)(data / PAGE));
		CHECK_EQ(*word_at(data), i);
		/* The table that maps it, the top table, and this function's own page. */
		move_page((uint32_t)((*entry_of(PAGE_V(300), 2) & PTE_ADDRESS) / PAGE));
		CHECK_EQ(*word_at(PAGE_V(300)), i);
		move_page((uint32_t)((READ_CR(3) & PTE_ADDRESS) / PAGE));
		move_page((uint32_t)((uint64_t)moving_what_is_in_use / PAGE));
		move_page((uint32_t)((uint64_t)__builtin_frame_address(0) / PAGE));
		unmap_page(PAGE_V(300));
		struct regs r = { .t = { .rcx = PAGE_V(300) } };
		CHECK_EQ(run_kernel(CODE("mov (%%rcx), %%rax"), &r), PF);
	}
}

/* Every page of memory has its own contents, whatever frames stand behind them, and starts as zeros. */
static void every_page_is_its_own(void)
{
	uint64_t first = 48ul << 20, last = 112ul << 20, nonzero = 0;
	for (uint64_t p = first; p < last; p += PAGE)
		nonzero |= *word_at(p + 8 * (p / PAGE % 512));
	CHECK_EQ(nonzero, 0);
	for (uint64_t p = first; p < last; p += PAGE)
		*word_at(p + 8 * (p / PAGE % 512)) = p;
	for (uint64_t p = first; p < last; p += PAGE)
		if (!CHECK(*word_at(p + 8 * (p / PAGE % 512)) == p))
			break;
}

const struct guest_test guest_tests[] = {
	{ "The reference scenario: mapped, unmapped, mapped elsewhere, moved, and direct.", scenario },
	{ "Pages can be moved while they are code, data, stack and page tables.", moving_what_is_in_use },
	{ "Every guest-physical page is a page of its own and starts as zeros.", every_page_is_its_own },
	{ 0, 0 },
};
