/*
 * reference.c - the scenario that the project's words come from, as its guest sees it: page v = 100 maps to p = 1000; the guest unmaps
 * it; touching it is the guest's page fault; the guest maps v to p = 2000. Which machine frame m stands behind p
 * is the monitor's affair: it may hand out frames in any order and on first touch only, and the guest must not notice.
 * (tests/unit/mmu_scenario_test.c runs the monitor's half and sees m.) And p = 70, reached directly.
 *
 * Numbers are page numbers; v lies in a part of the address space of its own.
 */
#include "guest.h"

#define BASE 0x80000000000ul
#define PAGE_V(v) (BASE + (uint64_t)(v) * PAGE)
#define PAGE_P(p) ((uint64_t)(p) * PAGE)

static void touch(unsigned v, unsigned p, uint64_t value)
{
	struct regs r = { .t = { .rcx = PAGE_V(v) } };
	unsigned vector = run_kernel(CODE("mov (%%rcx), %%rax"), &r);
	if (p) {
		print("v=%u p=%u: holds 0x%lx\n", v, p, r.t.rax);
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
	*word_at(PAGE_P(1000)) = 0x1000;
	*word_at(PAGE_P(2000)) = 0x2000;
	*entry_of(PAGE_V(100), 1) = PAGE_P(1000) | PTE_P | PTE_W;
	touch(100, 1000, 0x1000);
	*entry_of(PAGE_V(100), 1) = 0;
	invlpg(PAGE_V(100));
	touch(100, 0, 0);
	*entry_of(PAGE_V(100), 1) = PAGE_P(2000) | PTE_P | PTE_W;
	touch(100, 2000, 0x2000);
	*word_at(PAGE_V(100)) = 0x2001;
	CHECK_EQ(*word_at(PAGE_P(2000)), 0x2001);
	CHECK_EQ(*word_at(PAGE_P(1000)), 0x1000);
	/* p = 70, where the guest's kernel maps memory one to one. */
	*word_at(PAGE_P(70)) = 0x70;
	print("p=70: holds 0x%lx\n", *word_at(PAGE_P(70)));
	*entry_of(PAGE_V(70), 1) = PAGE_P(70) | PTE_P | PTE_W;
	touch(70, 70, 0x70);
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
	{ "The reference scenario: mapped, unmapped, mapped elsewhere, and direct.", scenario },
	{ "Every guest-physical page is a page of its own and starts as zeros.", every_page_is_its_own },
	{ 0, 0 },
};
