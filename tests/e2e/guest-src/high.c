/*
 * high.c - addresses beyond 47 bits, which Linux gives to who asks for them if the processor has 5 levels of page tables.
 * high yes: they exist, hold data, survive fork and mprotect, fault after munmap; a stack there works through signals and system calls.
 * high no: there are none.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

#define PAGE 4096ul
#define PAGES 600ul	/* more than one table of level 1 */
static sigjmp_buf jump;
static volatile sig_atomic_t alarms;

static void on_fault(int sig) { siglongjmp(jump, sig); }
static void on_alarm(int sig) { (void)sig; alarms++; }

static unsigned char *map_at(uint64_t hint)
{
	return mmap((void *)hint, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Runs f on a stack that ends at top: RSP is no address that a 4-level host could have. */
static void on_stack(void *top, void (*f)(void))
{
	__asm__ volatile("mov %%rsp, %%rbx\n\tmov %0, %%rsp\n\tcall *%1\n\tmov %%rbx, %%rsp"
			 : : "r"(top), "r"(f) : "rbx", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
}

static void work(void)
{
	volatile unsigned sum = 0;

	while (alarms < 20)
		for (unsigned i = 0; i < 1000; i++)
			sum += i + (unsigned)getppid();
}

int main(int argc, char **argv)
{
	const int wanted = argc > 1 && argv[1][0] == 'y';
	const uint64_t hints[] = { 1ull << 48, 3ull << 50, (1ull << 56) - PAGES * PAGE * 2 };
	int status;

	for (unsigned h = 0; h < sizeof hints / sizeof *hints; h++) {
		unsigned char *p = map_at(hints[h]);

		CHECK(p != MAP_FAILED);
		CHECK(((uintptr_t)p >> 47 != 0) == wanted);
		if (!wanted)
			continue;
		for (unsigned long i = 0; i < PAGES; i++)
			*(uint64_t *)(p + i * PAGE) = hints[h] + i;
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (!pid) {
			for (unsigned long i = 0; i < PAGES; i++)
				if (*(uint64_t *)(p + i * PAGE) != hints[h] + i)
					_exit(1);
			p[0] = 99;
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
		for (unsigned long i = 0; i < PAGES; i++)
			CHECK(*(uint64_t *)(p + i * PAGE) == hints[h] + i);
		CHECK(mprotect(p, PAGE, PROT_READ) == 0);
		signal(SIGSEGV, on_fault);
		if (sigsetjmp(jump, 1) == 0) {
			p[1] = 1;
			CHECK(!"a page without the right to write was written");
		}
		CHECK(munmap(p + PAGE, PAGE) == 0);
		if (sigsetjmp(jump, 1) == 0) {
			CHECK(p[PAGE] == 0);
			CHECK(!"an unmapped page was read");
		}
		CHECK(*(uint64_t *)(p + 2 * PAGE) == hints[h] + 2);
		if (h == 1) {
			struct sigaction sa = { .sa_handler = on_alarm };

			sigaction(SIGALRM, &sa, NULL);
			ualarm(2000, 2000);
			on_stack(p + PAGES * PAGE - 64, work);
			ualarm(0, 0);
			CHECK(alarms >= 20);
		}
	}
	return 0;
}
