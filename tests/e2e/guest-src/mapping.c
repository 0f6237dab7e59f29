/*
 * mapping.c - mmap, mprotect, mremap, madvise, shared and private mappings, with the faults they must and must not raise.
 * Proves that user-visible paging (protection, copy on write, unmapping, aliases, large areas) is the guest kernel's.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include "check.h"

#define PAGE 4096ul
static sigjmp_buf jump;
static volatile uintptr_t fault_address;
static volatile unsigned long fault_error;
static volatile int fault_code;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	fault_address = (uintptr_t)info->si_addr;
	fault_error = (unsigned long)uc->uc_mcontext.gregs[REG_ERR];
	fault_code = info->si_code;
	siglongjmp(jump, sig);
}

/* Accesses that must fault: the signal, the address, the error code's W and P bits. */
static void expect_fault(volatile unsigned char *p, int write, int present)
{
	fault_address = 0;
	int sig = sigsetjmp(jump, 1);
	if (!sig) {
		if (write)
			*p = 1;
		else
			(void)*p;
		fprintf(stderr, "mapping: no fault at %p\n", (void *)p);
		exit(1);
	}
	CHECK(sig == SIGSEGV);
	CHECK(fault_address == (uintptr_t)p);
	CHECK((fault_error & 7) == (4u | (write ? 2u : 0) | (present ? 1u : 0)));
	CHECK(fault_code == (present ? SEGV_ACCERR : SEGV_MAPERR));
}

static void *map(size_t size, int prot, int flags)
{
	void *p = mmap(NULL, size, prot, flags | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	return p;
}

static void protections(void)
{
	unsigned char *p = map(4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	for (int round = 0; round < 200; round++) {
		p[PAGE] = (unsigned char)round;
		CHECK(mprotect(p + PAGE, PAGE, PROT_READ) == 0);
		CHECK(p[PAGE] == (unsigned char)round);
		expect_fault(p + PAGE + round, 1, 1);
		CHECK(mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
		p[PAGE]++;
		CHECK(munmap(p + 2 * PAGE, PAGE) == 0);
		expect_fault(p + 2 * PAGE + 8, round & 1, 0);
		CHECK(mmap(p + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 2 * PAGE);
		CHECK(p[2 * PAGE] == 0);
		p[2 * PAGE] = 5;
	}
	/* An access that crosses into the unmapped page reports the first byte that it could not reach. */
	CHECK(munmap(p + 3 * PAGE, PAGE) == 0);
	fault_address = 0;
	if (!sigsetjmp(jump, 1)) {
		*(volatile uint64_t *)(p + 3 * PAGE - 3) = 1;
		CHECK(0);
	}
	CHECK(fault_address == (uintptr_t)(p + 3 * PAGE));
	CHECK(p[3 * PAGE - 1] == 0);
	munmap(p, 3 * PAGE);
}

static void no_execute(void)
{
	unsigned char *p = map(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	p[0] = 0xc3;
	fault_address = 0;
	int sig = sigsetjmp(jump, 1);
	if (!sig) {
		((void (*)(void))(uintptr_t)p)();
		CHECK(0);
	}
	CHECK(sig == SIGSEGV && fault_address == (uintptr_t)p && (fault_error & 0x15) == 0x15);
	CHECK(mprotect(p, PAGE, PROT_READ | PROT_EXEC) == 0);
	((void (*)(void))(uintptr_t)p)();
	munmap(p, PAGE);
}

static void aliases_and_sharing(void)
{
	int fd = memfd_create("alias", 0);
	CHECK(fd >= 0 && ftruncate(fd, 64 * (off_t)PAGE) == 0);
	volatile unsigned *a = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	volatile unsigned *b = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	volatile unsigned *c = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(a != MAP_FAILED && b != MAP_FAILED && c != MAP_FAILED);
	for (unsigned i = 0; i < 64 * PAGE / 4; i += 37) {
		a[i] = i;
		CHECK(b[i] == i);
		b[i] = ~i;
		CHECK(a[i] == ~i);
		CHECK(c[i] == ~i || i / 1024 % 2);
		if (i / 1024 % 2)
			c[i] = 1;	/* from here on this page of c is its own */
	}
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		a[0] = 4711;
		c[0] = 4712;
		_exit(0);
	}
	int status;
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(b[0] == 4711 && c[0] == 4711);
	c[0] = 1;
	CHECK(a[0] == 4711);
	munmap((void *)a, 64 * PAGE);
	munmap((void *)b, 64 * PAGE);
	munmap((void *)c, 64 * PAGE);
	close(fd);
}

static void moving(void)
{
	size_t size = 256 * PAGE;
	unsigned char *p = map(size, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	for (size_t i = 0; i < size; i += PAGE)
		p[i] = (unsigned char)(i / PAGE);
	for (int round = 0; round < 20; round++) {
		unsigned char *q = map(size * 2, PROT_NONE, MAP_PRIVATE);
		unsigned char *r = mremap(p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, q + size);
		CHECK(r == q + size);
		expect_fault(p, 0, 0);
		for (size_t i = 0; i < size; i += PAGE)
			CHECK(r[i] == (unsigned char)(i / PAGE));
		munmap(q, size);
		p = r;
	}
	CHECK(madvise(p, size, MADV_DONTNEED) == 0);
	for (size_t i = 0; i < size; i += PAGE)
		CHECK(p[i] == 0);
	munmap(p, size);
}

/* Power-of-two strides, and two buffers far apart, over more pages than small TLBs hold. */
static void strides(void)
{
	size_t size = 48ul << 20;
	unsigned char *p = map(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);
	for (unsigned round = 0; round < 20; round++)
		for (size_t i = 0; i < size; i += 1ul << 20) {
			CHECK(p[i] == (unsigned char)(round ? round + i / PAGE - 1 : 0));
			p[i] = (unsigned char)(round + i / PAGE);
		}
	for (size_t i = 0; i < 4ul << 20; i += 64)
		p[i + (32ul << 20)] = p[i] = (unsigned char)(i / 64);
	for (size_t i = 0; i < 4ul << 20; i += 64)
		CHECK(p[i] == p[i + (32ul << 20)]);
	munmap(p, size);
}

int main(void)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	CHECK(sigaction(SIGSEGV, &sa, NULL) == 0 && sigaction(SIGBUS, &sa, NULL) == 0);
	protections();
	no_execute();
	aliases_and_sharing();
	moving();
	strides();
	puts("mapping: protections, execution, aliases, moves, strides: ok");
	return 0;
}
