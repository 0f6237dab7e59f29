/*
 * micro.c - small workloads, each timed by its own CPU clock; run natively and inside guests by bench/run.
 * Prints `micro NAME NANOSECONDS-PER-TURN CHECKSUM`; checksums must agree everywhere. The clock is printed at the beginning and at the
 * end, for bench/run to compare it with the host's: some emulators' clocks run wrong.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t rng = 88172645463325252u;
static uint64_t next_random(void) { return rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17; }
static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint64_t alu(unsigned turns)
{
	uint64_t a = 1, b = 2;
	for (unsigned i = 0; i < turns; i++)
		for (int k = 0; k < 1000; k++)
			a = (a << 5 ^ a >> 3) + b, b = b * 3 + a;
	return a;
}

static uint64_t hash(unsigned turns)
{
	enum { N = 1 << 16 };
	static uint32_t table[N];
	uint64_t sum = 0;
	memset(table, 0, sizeof table);
	for (unsigned i = 0; i < turns; i++)
		for (int k = 0; k < 1000; k++) {
			uint32_t h = (uint32_t)(next_random() >> 20) % N;
			sum += table[h]++;
		}
	return sum;
}

static int compare(const void *a, const void *b) { return *(const int *)a < *(const int *)b ? -1 : *(const int *)a > *(const int *)b; }
static uint64_t sort(unsigned turns)
{
	static int v[4096];
	uint64_t sum = 0;
	for (unsigned i = 0; i < turns; i++) {
		for (int k = 0; k < 4096; k++)
			v[k] = (int)next_random();
		qsort(v, 4096, sizeof *v, compare);
		sum += (uint64_t)v[i % 4096];
	}
	return sum;
}

static uint64_t chase(unsigned turns)
{
	enum { N = 1 << 20 };
	static uint32_t next[N];
	for (uint32_t i = 0; i < N; i++)
		next[i] = i;
	for (uint32_t i = N - 1; i > 0; i--) {
		uint32_t k = (uint32_t)(next_random() % i), t = next[i];
		next[i] = next[k], next[k] = t;
	}
	uint32_t at = 0;
	for (unsigned i = 0; i < turns * 1000; i++)
		at = next[at];
	return at;
}

static uint64_t matrix(unsigned turns)
{
	enum { N = 64 };
	static double a[N][N], b[N][N], c[N][N];
	for (int i = 0; i < N; i++)
		for (int k = 0; k < N; k++)
			a[i][k] = i + k, b[i][k] = i - k;
	for (unsigned t = 0; t < turns; t++)
		for (int i = 0; i < N; i++)
			for (int k = 0; k < N; k++) {
				double s = 0;
				for (int j = 0; j < N; j++)
					s += a[i][j] * b[j][k];
				c[i][k] = s + t;
			}
	return (uint64_t)c[5][7];
}

static uint64_t copy(unsigned turns)
{
	static char from[65536], to[65536];
	for (unsigned t = 0; t < turns; t++) {
		memset(from, (int)t, sizeof from);
		memcpy(to, from, sizeof from);
	}
	return (uint64_t)to[100];
}

static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static uint64_t calls(unsigned turns)
{
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++)
		sum += (uint64_t)fib(20);
	return sum;
}

static uint64_t interpreter(unsigned turns)
{
	/* A byte-code loop: add, jump, load, store through a switch. */
	static const uint8_t code[] = { 0, 1, 2, 0, 3, 1, 1, 2, 4 };
	uint64_t acc = 1, mem[4] = { 1, 2, 3, 4 };
	for (unsigned t = 0; t < turns * 100; t++)
		for (unsigned pc = 0; code[pc] != 4; pc++)
			switch (code[pc]) {
			case 0: acc += mem[acc & 3]; break;
			case 1: mem[acc & 3] ^= acc; break;
			case 2: acc = acc << 1 | acc >> 63; break;
			default: acc -= t;
			}
	return acc;
}

static uint64_t syscalls(unsigned turns)
{
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns * 10; t++)
		sum += syscall(SYS_getppid) > 0;
	return sum;
}

static uint64_t faults(unsigned turns)
{
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++) {
		char *p = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (int k = 0; k < 64; k++)
			sum += (uint64_t)++p[k * 4096];
		munmap(p, 64 * 4096);
	}
	return sum;
}

static uint64_t switches(unsigned turns)
{
	int there[2], back[2];
	char c = 0;
	if (pipe(there) || pipe(back))
		return 0;
	pid_t pid = fork();
	if (!pid) {
		for (unsigned t = 0; t < turns; t++)
			if (read(there[0], &c, 1) != 1 || write(back[1], &c, 1) != 1)
				_exit(1);
		_exit(0);
	}
	for (unsigned t = 0; t < turns; t++)
		if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
			return 0;
	waitpid(pid, NULL, 0);
	close(there[0]), close(there[1]), close(back[0]), close(back[1]);
	return turns;
}

static uint64_t forks(unsigned turns)
{
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++) {
		int status;
		pid_t pid = fork();
		if (!pid)
			_exit((int)(t & 63));
		waitpid(pid, &status, 0);
		sum += (uint64_t)WEXITSTATUS(status);
	}
	return sum;
}

static const struct { const char *name; uint64_t (*run)(unsigned); unsigned turns; } workloads[] = {
	{ "alu", alu, 50000 }, { "hash", hash, 20000 }, { "sort", sort, 200 }, { "chase", chase, 5000 }, { "matrix", matrix, 500 },
	{ "copy", copy, 10000 }, { "calls", calls, 2000 }, { "interpreter", interpreter, 50000 }, { "syscalls", syscalls, 20000 },
	{ "faults", faults, 1000 }, { "switches", switches, 10000 }, { "forks", forks, 500 },
};

static void show_clock(const char *when)
{
	printf("micro-clock %s %.0f\n", when, now());
	fflush(stdout);
}

int main(int argc, char **argv)
{
	unsigned divide = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
	show_clock("begin");
	for (unsigned i = 0; i < sizeof workloads / sizeof *workloads; i++) {
		unsigned turns = workloads[i].turns / divide;
		rng = 88172645463325252u;
		double start = now();
		uint64_t sum = workloads[i].run(turns);
		printf("micro %s %.0f %llx\n", workloads[i].name, (now() - start) / turns, (unsigned long long)sum);
		fflush(stdout);
	}
	show_clock("end");
	return 0;
}
