/*
 * selfmod.c - a program that writes code all the time: its own next instruction, through an alias, across pages, as
 * a JIT compiler does in a loop, from another thread, and by copying functions over each other.
 * Proves that translated code never outlives the bytes it was made from. No serializing hint is given but jumps.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

#define PAGE 4096ul
typedef unsigned function(unsigned);
static unsigned char *rwx, *writable, *executable;	/* rwx: one mapping; the other two: one file, mapped twice */
static const size_t size = 16 * PAGE;

/* mov $value, %eax; ret */
static size_t emit_constant(unsigned char *p, unsigned value)
{
	p[0] = 0xb8;
	memcpy(p + 1, &value, 4);
	p[5] = 0xc3;
	return 6;
}

static unsigned call(const void *p, unsigned arg) { return ((function *)(uintptr_t)p)(arg); }

static void constants(unsigned char *w, unsigned char *x)
{
	for (unsigned i = 0; i < 3000; i++) {
		size_t at = i % 5 * 64 + (i % 7) * PAGE;
		emit_constant(w + at, i);
		CHECK(call(x + at, 0) == i);
	}
	/* Crossing a page: opcode on one, immediate on the next; one of the two changes. */
	for (unsigned i = 0; i < 500; i++) {
		for (unsigned split = 1; split < 6; split++) {
			emit_constant(w + 3 * PAGE - split, 0);
			unsigned value = 0x01010101u * (i & 255);
			memcpy(w + 3 * PAGE - split + 1, &value, 4);
			CHECK(call(x + 3 * PAGE - split, 0) == value);
			w[3 * PAGE - split + 4] = 0x77;
			CHECK(call(x + 3 * PAGE - split, 0) == ((value & 0xffffff) | 0x77000000));
		}
	}
	/* Only the low byte of the immediate of a hot function. */
	emit_constant(w, 0);
	for (unsigned i = 0; i < 2000; i++) {
		w[1] = (unsigned char)i;
		CHECK(call(x, 0) == (i & 255));
	}
}

/*
 * The next instruction of the running block: movb $K, next+1(%rip); next: mov $0, %al; movzbl %al, %eax; ret
 * and a chain of such pairs that patch one another.
 */
static void own_next_instruction(void)
{
	for (unsigned i = 0; i < 1000; i++) {
		unsigned char code[] = { 0xc6, 0x05, 1, 0, 0, 0, (unsigned char)i, 0xb0, 0x00, 0x0f, 0xb6, 0xc0, 0xc3 };
		memcpy(rwx + 100, code, sizeof code);
		CHECK(call(rwx + 100, 0) == (i & 255));
	}
	/* add $1, %eax eight times, each preceded by a store that turns the following one into add $2. */
	for (unsigned round = 0; round < 200; round++) {
		unsigned char *p = rwx + 2 * PAGE - 40 + round % 40;
		*p++ = 0x31, *p++ = 0xc0;
		for (int k = 0; k < 8; k++) {
			unsigned char pair[] = { 0xc6, 0x05, 2, 0, 0, 0, 2, 0x83, 0xc0, 1 };
			memcpy(p, pair, sizeof pair);
			p += sizeof pair;
		}
		*p = 0xc3;
		CHECK(call(rwx + 2 * PAGE - 40 + round % 40, 0) == 16);
	}
	/* REP MOVSB over the code that follows the instruction itself. */
	for (unsigned i = 0; i < 300; i++) {
		unsigned char source[6];
		emit_constant(source, i);
		unsigned char *p = rwx + 5 * PAGE + 1;
		unsigned char code[] = { 0xf3, 0xa4, 0xb8, 0xff, 0xff, 0xff, 0xff, 0xc3 };
		memcpy(p, code, sizeof code);
		unsigned result;
		const void *from = source;
		void *to = p + 2;
		size_t count = sizeof source;
		__asm__ volatile("call *%4" : "=a"(result), "+S"(from), "+D"(to), "+c"(count) : "r"(p) : "memory", "cc");
		CHECK(result == i);
	}
}

/* A small JIT: f(x) = a chain of random operations, compared with an interpreter; code is reused at once. */
static unsigned lcg = 12345;
static unsigned next_random(void) { return lcg = lcg * 1664525 + 1013904223, lcg >> 8; }
static void jit(unsigned char *w, unsigned char *x)
{
	for (int round = 0; round < 2000; round++) {
		unsigned expected = (unsigned)round, n = 1 + next_random() % 40;
		size_t at = next_random() % 4096, here = at;
		w[here++] = 0x89, w[here++] = 0xf8;			/* mov %edi, %eax */
		while (n--) {
			unsigned k = next_random(), op = next_random() % 4;
			static const unsigned char codes[] = { 0x05, 0x2d, 0x35, 0x0d };	/* add sub xor or */
			w[here] = codes[op];
			memcpy(w + here + 1, &k, 4);
			here += 5;
			expected = op == 0 ? expected + k : op == 1 ? expected - k : op == 2 ? expected ^ k : expected | k;
		}
		w[here] = 0xc3;
		CHECK(call(x + at, (unsigned)round) == expected);
		CHECK(call(x + at, (unsigned)round) == expected);
	}
}

/* Another thread writes; a flag says when. */
static atomic_uint turn;
static void *writer(void *arg)
{
	for (unsigned i = 1; i <= 500; i++) {
		while (atomic_load(&turn) != 2 * i - 1)
			sched_yield();
		emit_constant(writable + 7 * PAGE, i);
		atomic_store(&turn, 2 * i);
	}
	return arg;
}
static void cross_thread(void)
{
	pthread_t thread;
	emit_constant(writable + 7 * PAGE, 0);
	CHECK(pthread_create(&thread, NULL, writer, NULL) == 0);
	for (unsigned i = 1; i <= 500; i++) {
		CHECK(call(executable + 7 * PAGE, 0) == i - 1);
		atomic_store(&turn, 2 * i - 1);
		while (atomic_load(&turn) != 2 * i)
			sched_yield();
	}
	pthread_join(thread, NULL);
}

/* The page under the code is replaced: by unmapping, by remapping, after fork on either side. */
static void replaced_pages(void)
{
	for (unsigned i = 0; i < 200; i++) {
		unsigned char *p = mmap(rwx + 9 * PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		CHECK(p == rwx + 9 * PAGE);
		emit_constant(p, i);
		CHECK(call(p, 0) == i);
		if (i % 20 == 0) {
			pid_t pid = fork();
			CHECK(pid >= 0);
			if (!pid) {
				emit_constant(p, i + 1000);
				_exit(call(p, 0) == i + 1000 ? 0 : 1);
			}
			int status;
			CHECK(waitpid(pid, &status, 0) == pid && status == 0);
			CHECK(call(p, 0) == i);
		}
	}
}

int main(void)
{
	rwx = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = memfd_create("code", 0);
	CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	writable = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	executable = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(rwx != MAP_FAILED && writable != MAP_FAILED && executable != MAP_FAILED);
	constants(rwx, rwx);
	constants(writable, executable);
	own_next_instruction();
	jit(rwx, rwx);
	jit(writable, executable);
	cross_thread();
	replaced_pages();
	puts("selfmod: constants, aliases, next instruction, JIT, threads, replaced pages: ok");
	return 0;
}
