/*
 * cpu_calls.c - calls and indirect jumps: recursion, function pointers in objects, byte-code interpreters of two kinds.
 */
#include <stddef.h>
#include "cpu.h"
#include "item.h"

static __attribute__((noinline)) uint64_t fib(unsigned n)
{
	uint64_t sum = 0;
	for (; n >= 2; n -= 2) {
		sum += fib(n - 1);
		__asm__ volatile("" : "+r"(n));
	}
	return sum + n;
}

uint64_t cpu_fib(unsigned turns)
{
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++)
		sum += fib(22 + (t & 1));
	return sum;
}

struct shape {
	uint64_t (*area)(const struct shape *, uint64_t);
	uint64_t a, b;
};
static __attribute__((noinline)) uint64_t square(const struct shape *s, uint64_t x) { return x + s->a * s->a; }
static __attribute__((noinline)) uint64_t rectangle(const struct shape *s, uint64_t x) { return x ^ s->a * s->b; }
static __attribute__((noinline)) uint64_t triangle(const struct shape *s, uint64_t x) { return x + (s->a * s->b >> 1); }
static __attribute__((noinline)) uint64_t line(const struct shape *s, uint64_t x) { return x - s->b; }

uint64_t cpu_virtual(unsigned turns)
{
	static uint64_t (*const kinds[])(const struct shape *, uint64_t) = { square, rectangle, triangle, line };
	static struct shape shapes[1024];
	uint64_t sum = 0;
	for (int i = 0; i < 1024; i++) {
		uint64_t x = next_random();
		shapes[i] = (struct shape){ kinds[x >> 60 & 3], x & 0xff, x >> 8 & 0xff };
	}
	for (unsigned t = 0; t < turns; t++)
		for (int r = 0; r < 400; r++)
			for (int i = 0; i < 1024; i++)
				sum = shapes[i].area(&shapes[i], sum);
	return sum;
}

/*
 * A small machine: 8 registers, 16-bit words of memory, 8 instructions of 4 bytes (operation, a, b, immediate).
 * The program fills memory, and sums and mixes it, in two nested loops.
 */
enum op { OP_SET, OP_ADD, OP_XOR, OP_LOAD, OP_STORE, OP_LESS, OP_JUMP_IF, OP_END };
struct code { uint8_t op, a, b; int8_t value; };
static const struct code program[] = {
	{ OP_SET, 0, 0, 0 },		/* outer counter */
	{ OP_SET, 1, 0, 0 },		/* 1: inner counter */
	{ OP_LOAD, 2, 1, 0 },		/* 2: r2 = memory[r1] */
	{ OP_ADD, 3, 2, 7 },		/* r3 += r2 + 7 */
	{ OP_XOR, 2, 3, 0 },
	{ OP_STORE, 2, 1, 0 },
	{ OP_ADD, 1, 7, 1 },		/* r7 is always 0 */
	{ OP_LESS, 1, 0, 100 },
	{ OP_JUMP_IF, 0, 0, 2 },
	{ OP_ADD, 0, 7, 1 },
	{ OP_LESS, 0, 0, 50 },
	{ OP_JUMP_IF, 0, 0, 1 },
	{ OP_END, 0, 0, 0 },
};

static __attribute__((noinline)) uint64_t run_switch(const struct code *code, uint16_t *memory)
{
	uint64_t r[8] = { 0 }, less = 0;
	for (const struct code *at = code;;) {
		switch (at->op) {
		case OP_SET: r[at->a] = (uint64_t)at->value; at++; break;
		case OP_ADD: r[at->a] += r[at->b] + (uint64_t)at->value; at++; break;
		case OP_XOR: r[at->a] ^= r[at->b]; at++; break;
		case OP_LOAD: r[at->a] = memory[r[at->b] & 0xff]; at++; break;
		case OP_STORE: memory[r[at->b] & 0xff] = (uint16_t)r[at->a]; at++; break;
		case OP_LESS: less = r[at->a] < (uint64_t)at->value; at++; break;
		case OP_JUMP_IF: at = less ? code + at->value : at + 1; break;
		default: return r[3];
		}
	}
}

static __attribute__((noinline)) uint64_t run_threaded(const struct code *code, uint16_t *memory)
{
	static const void *const labels[] = { &&set, &&add, &&xor, &&load, &&store, &&less, &&jump_if, &&end };
	uint64_t r[8] = { 0 }, is_less = 0;
	const struct code *at = code;
#define NEXT goto *labels[at->op]
	NEXT;
set:	r[at->a] = (uint64_t)at->value; at++; NEXT;
add:	r[at->a] += r[at->b] + (uint64_t)at->value; at++; NEXT;
xor:	r[at->a] ^= r[at->b]; at++; NEXT;
load:	r[at->a] = memory[r[at->b] & 0xff]; at++; NEXT;
store:	memory[r[at->b] & 0xff] = (uint16_t)r[at->a]; at++; NEXT;
less:	is_less = r[at->a] < (uint64_t)at->value; at++; NEXT;
jump_if: at = is_less ? code + at->value : at + 1; NEXT;
end:	return r[3];
#undef NEXT
}

static uint64_t interpret(unsigned turns, uint64_t (*run)(const struct code *, uint16_t *))
{
	static uint16_t memory[256];
	uint64_t sum = 0;
	for (int i = 0; i < 256; i++)
		memory[i] = (uint16_t)i;
	for (unsigned t = 0; t < turns * 10; t++)
		sum = sum * 31 + run(program, memory);
	return sum;
}

uint64_t cpu_switch(unsigned turns) { return interpret(turns, run_switch); }
uint64_t cpu_threaded(unsigned turns) { return interpret(turns, run_threaded); }
