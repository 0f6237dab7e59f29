/*
 * codechange.c - proves that code may be changed at any time, by any alias, without a hint: the next instruction of the
 * running block, functions that cross pages, a JIT's loop, string instructions that write over code (also over
 * their own following instruction), pages remapped under code, and data that shares a line with code.
 * Source: AMD APM vol. 2, "Self-Modifying Code" and "Cross-Modifying Code".
 */
#include "guest.h"

typedef uint32_t function(void);
#define AREA 0x3000000000ul	/* code pages, mapped here ... */
#define ALIAS 0x3800000000ul	/* ... and here */
static uint64_t frames[4];

static void set_up(void)
{
	for (unsigned i = 0; i < 4; i++) {
		frames[i] = frames[i] ? frames[i] : alloc_page();
		map_page(AREA + i * PAGE, frames[i], PTE_P | PTE_W);
		map_page(ALIAS + i * PAGE, frames[i], PTE_P | PTE_W);
	}
}

static void put32(volatile uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}
static void put_constant(volatile uint8_t *p, uint32_t value)	/* mov $value, %eax; ret */
{
	p[0] = 0xb8;
	put32(p + 1, value);
	p[5] = 0xc3;
}
static uint32_t call(uint64_t at) { return ((function *)at)(); }

static void rewritten_functions(void)
{
	set_up();
	for (uint32_t i = 0; i < 2000; i++) {
		uint64_t at = (i * 52) % (3 * PAGE);	/* many cross a line, some a page */
		put_constant(bytes_at((i & 1 ? AREA : ALIAS) + at), i);
		CHECK_EQ(call(AREA + at), i);
		CHECK_EQ(call(ALIAS + at), i);
	}
	put_constant(bytes_at(AREA), 0);
	for (uint32_t i = 0; i < 2000; i++) {
		bytes_at(ALIAS)[1 + i % 4] = (uint8_t)i;
		uint32_t value = bytes_at(AREA)[1] | bytes_at(AREA)[2] << 8 | bytes_at(AREA)[3] << 16 | (uint32_t)bytes_at(AREA)[4] << 24;
		CHECK_EQ(call(AREA), value);
	}
}

/* Physical writes: through the identity map, which is a large page. */
static void large_page_alias(void)
{
	set_up();
	for (uint32_t i = 0; i < 500; i++) {
		put_constant(bytes_at(frames[0] + 64), i);
		CHECK_EQ(call(AREA + 64), i);
		put_constant(bytes_at(AREA + 64), ~i);
		CHECK_EQ(call(frames[0] + 64), ~i);
	}
}

static void next_instruction(void)
{
	set_up();
	for (uint32_t i = 0; i < 500; i++) {
		/* movb $i, 1(%rip) -> the immediate of the next; mov $0, %al; movzbl %al, %eax; ret */
		const uint8_t code[] = { 0xc6, 0x05, 1, 0, 0, 0, (uint8_t)i, 0xb0, 0, 0x0f, 0xb6, 0xc0, 0xc3 };
		uint64_t at = AREA + PAGE - 13 + i % 13;	/* some of it across a page */
		memcpy((void *)at, code, sizeof code);
		CHECK_EQ(call(at), i & 255);
	}
	/* The same through the alias: mov %dl, (%rsi); mov $0, %al */
	for (uint32_t i = 0; i < 500; i++) {
		const uint8_t code[] = { 0x88, 0x16, 0xb0, 0, 0x0f, 0xb6, 0xc0, 0xc3 };
		uint64_t at = AREA + 200 + i % 64;
		memcpy((void *)at, code, sizeof code);
		uint32_t result;
		uint64_t alias = at - AREA + ALIAS + 3;
		__asm__ volatile("call *%1" : "=a"(result) : "r"(at), "d"(i), "S"(alias) : "memory", "cc");
		CHECK_EQ(result, i & 255);
	}
	/* A locked add to the next instruction's immediate: lock addl $1, imm; nop; mov $i, %eax; ret */
	for (uint32_t i = 0; i < 100; i++) {
		const uint8_t code[] = { 0xf0, 0x83, 0x05, 2, 0, 0, 0, 1, 0x90, 0xb8, (uint8_t)i, 0, 0, 0, 0xc3 };
		memcpy((void *)(AREA + 300), code, sizeof code);
		CHECK_EQ(call(AREA + 300), i + 1);
	}
	/* A push that writes the immediate of the instruction after next: xchg %rsp, %rcx; push %rdx; mov $0, %rax; xchg; ret */
	for (uint64_t i = 0; i < 100; i++) {
		const uint8_t code[] = { 0x48, 0x87, 0xe1, 0x52, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0x87, 0xe1, 0xc3 };
		uint64_t at = AREA + PAGE - 18 + i % 18, result, top = at + 14;
		memcpy((void *)at, code, sizeof code);
		__asm__ volatile("call *%1" : "=a"(result), "+r"(at), "+c"(top) : "d"(i * 0x0102030405060708) : "memory", "cc");
		CHECK_EQ(result, i * 0x0102030405060708);
	}
}

static void string_stores_over_code(void)
{
	set_up();
	/* rep movsb that replaces the instruction after itself */
	for (uint32_t i = 0; i < 300; i++) {
		uint8_t source[6];
		put_constant(source, i);
		uint8_t *p = (uint8_t *)(AREA + PAGE - 20 + i % 20);
		const uint8_t code[] = { 0xf3, 0xa4, 0xb8, 0xff, 0xff, 0xff, 0xff, 0xc3 };
		memcpy(p, code, sizeof code);
		uint32_t result;
		const void *from = source;
		void *to = p + 2;
		uint64_t n = 6;
		__asm__ volatile("call *%4" : "=a"(result), "+S"(from), "+D"(to), "+c"(n) : "r"(p) : "memory", "cc");
		CHECK_EQ(result, i);
		CHECK_EQ(n, 0);
	}
	/* rep stosb that writes over itself and everything around: RET everywhere. It was fetched, so one of the two outcomes: it
	 * goes on to its end, or stops after some stores with RCX, RDI telling how far; both return. */
	uint8_t *p = (uint8_t *)(AREA + 2 * PAGE);
	memset(p, 0x90, 64);
	p[30] = 0xf3, p[31] = 0xaa, p[32] = 0xc3;
	void *to = p;
	uint64_t n = 64;
	__asm__ volatile("call *%2" : "+D"(to), "+c"(n) : "r"(p + 30), "a"(0xc3) : "memory", "cc");
	CHECK_EQ((uint64_t)to, (uint64_t)p + 64 - n);
	CHECK(n == 0 || n <= 64 - 31);
	for (unsigned i = 0; i < 64 - n; i++)
		CHECK_EQ(p[i], 0xc3);
	/* rep stosq over a page of functions, each called before and after */
	for (unsigned i = 0; i < 64; i++) {
		put_constant(p + 64 * i, i);
		CHECK_EQ(call((uint64_t)p + 64 * i), i);
	}
	to = p;
	n = PAGE / 8;
	__asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(0xc3000000ul << 16 | 0xc0ul << 8 | 0x31) : "memory", "cc"); /* xor %eax, %eax; ...; */
	for (unsigned i = 0; i < 64; i++) {
		put_constant(p + 64 * i, i + 1000);
		CHECK_EQ(call((uint64_t)p + 64 * i), i + 1000);
	}
}

static void remapped_code(void)
{
	set_up();
	for (unsigned i = 0; i < 4; i++)
		put_constant(bytes_at(AREA + i * PAGE + 32), i);
	for (unsigned i = 0; i < 200; i++) {
		map_page(AREA, frames[i % 4], PTE_P | PTE_W);
		CHECK_EQ(call(AREA + 32), i % 4);
	}
	/* A function that begins on one page and ends on another, whose second page is exchanged. */
	map_page(AREA, frames[0], PTE_P | PTE_W);
	for (unsigned k = 1; k < 4; k++)
		put32(bytes_at(ALIAS + k * PAGE), 0xc3000000 | k), bytes_at(ALIAS + k * PAGE)[3] = 0, bytes_at(ALIAS + k * PAGE)[4] = 0xc3;
	bytes_at(ALIAS + PAGE - 1)[0] = 0xb8;
	for (unsigned i = 0; i < 200; i++) {
		unsigned k = 1 + i % 3;
		map_page(AREA + PAGE, frames[k], PTE_P | PTE_W);
		CHECK_EQ(call(AREA + PAGE - 1), k);
	}
	/* ... and made absent: the fetch faults with the address of the missing byte, at the instruction's start. */
	unmap_page(AREA + PAGE);
	struct regs r = { .t = { .rax = AREA + PAGE - 1 } };
	CHECK_EQ(run_kernel(CODE("call *%%rax"), &r), PF);
	CHECK_EQ(r.cr2, AREA + PAGE);
	CHECK_EQ(r.t.rip, AREA + PAGE - 1);
	CHECK_EQ(r.t.error, 0x10);
	/* ... and not executable. */
	map_page(AREA + PAGE, frames[1], PTE_P | PTE_W | PTE_NX);
	r = (struct regs){ .t = { .rax = AREA + PAGE - 1 } };
	CHECK_EQ(run_kernel(CODE("call *%%rax"), &r), PF);
	CHECK_EQ(r.t.error, 0x11);
	CHECK_EQ(r.cr2, AREA + PAGE);
}

/* A loop that patches itself while it is hot: the block is chained to itself. */
static void hot_loop_patches_itself(void)
{
	set_up();
	/* xor %eax,%eax; mov $1000,%ecx; 1: add $1,%eax; cmp $500,%ecx; jne 2f; movb $3, imm(1b); 2: dec %ecx; jnz 1b; ret */
	uint8_t code[] = { 0x31, 0xc0, 0xb9, 0xe8, 3, 0, 0,
			   0x83, 0xc0, 1,
			   0x81, 0xf9, 0xf4, 1, 0, 0, 0x75, 7,
			   0xc6, 0x05, 0xf0, 0xff, 0xff, 0xff, 3,
			   0xff, 0xc9, 0x75, 0xea, 0xc3 };
	for (unsigned round = 0; round < 20; round++) {
		memcpy((void *)(AREA + 100 * round), code, sizeof code);
		CHECK_EQ(call(AREA + 100 * round), 501 + 499 * 3);
	}
}

static void data_beside_code(void)
{
	set_up();
	put_constant(bytes_at(AREA), 42);
	/* A counter in the same page, then in the same 64 bytes, as a function that runs all the time. */
	for (uint64_t where = 8; where < PAGE; where = where * 2) {
		volatile uint64_t *counter = word_at(AREA + where);
		*counter = 0;
		for (unsigned i = 0; i < 500; i++) {
			++*counter;
			CHECK_EQ(call(AREA), 42);
		}
		CHECK_EQ(*counter, 500);
	}
}

const struct guest_test guest_tests[] = {
	{ "A function rewritten through any alias runs its new bytes at once.", rewritten_functions },
	{ "A write through a large page changes code mapped by small ones, and the reverse.", large_page_alias },
	{ "A store to the next instruction of the running block takes effect.", next_instruction },
	{ "String stores over code take effect, also over what follows them.", string_stores_over_code },
	{ "Code follows its page table: exchanged, absent and no-execute pages.", remapped_code },
	{ "A hot loop may patch itself.", hot_loop_patches_itself },
	{ "Data beside code stays data, and code stays code.", data_beside_code },
	{ 0, 0 },
};
