/*
 * stages.c - the reference scenario, one stage after another, for somebody who looks on through the control socket: after each
 * stage it says so on the console and waits for a byte there. Not in the matrix: tests/e2e/explain.sh runs it.
 *
 * v = 100h pages from BASE; p = 1000 and p = 2000, as in reference.c.
 */
#include "guest.h"

#define V 0x80000064000ul
#define PAGE_P(p) ((uint64_t)(p) * PAGE)
#define UART 0x3f8

static void stage(const char *name)
{
	print("stage %s v 0x%lx\n", name, V);
	while (!(inb(UART + 5) & 1))
		__asm__ volatile("pause");
	inb(UART);
}

static void scenario(void)
{
	*entry_of(V, 1) = PAGE_P(1000) | PTE_P | PTE_W;
	stage("mapped");
	*word_at(V) = 0x1000;
	stage("touched");
	*entry_of(V, 1) = 0;
	stage("unmapped");
	invlpg(V);
	stage("flushed");
	*entry_of(V, 1) = PAGE_P(2000) | PTE_P | PTE_W;
	stage("remapped");
	CHECK_EQ(*word_at(V), 0);
	*word_at(V) = 0x2000;
	stage("backed");
	CHECK_EQ(*word_at(V), 0x2000);
	CHECK_EQ(*word_at(PAGE_P(1000)), 0x1000);
}

const struct guest_test guest_tests[] = {
	{ "The reference scenario holds while somebody looks.", scenario },
	{ 0, 0 },
};
