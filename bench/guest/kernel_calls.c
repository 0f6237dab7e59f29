/*
 * kernel_calls.c - system calls that do little, the vDSO's clock, and signals.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "item.h"
#include "kernel.h"

uint64_t kernel_null(unsigned turns)
{
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++)
		sum += syscall(SYS_getppid) > 0;
	return sum;
}

static int open_device(const char *path)
{
	int fd = open(path, O_RDWR);
	if (fd < 0)
		fail(path);
	return fd;
}

uint64_t kernel_read_zero(unsigned turns)
{
	int fd = open_device("/dev/zero");
	char buffer[512];
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++)
		sum += (uint64_t)read(fd, buffer, sizeof buffer);
	close(fd);
	return sum;
}

uint64_t kernel_write_null(unsigned turns)
{
	int fd = open_device("/dev/null");
	char buffer[512] = "";
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++)
		sum += (uint64_t)write(fd, buffer, sizeof buffer);
	close(fd);
	return sum;
}

static int goes_on(const struct timespec *before, const struct timespec *now)
{
	return now->tv_sec > before->tv_sec || (now->tv_sec == before->tv_sec && now->tv_nsec >= before->tv_nsec);
}

uint64_t kernel_clock_call(unsigned turns)
{
	struct timespec now, before = { 0 };
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++) {
		syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
		sum += goes_on(&before, &now);
		before = now;
	}
	return sum;
}

uint64_t kernel_clock_vdso(unsigned turns)
{
	struct timespec now, before = { 0 };
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		sum += goes_on(&before, &now);
		before = now;
	}
	return sum;
}

/* 16 pipes, of which one has data. */
uint64_t kernel_poll(unsigned turns)
{
	enum { PIPES = 16 };
	struct pollfd polls[PIPES];
	int ends[PIPES][2];
	uint64_t sum = 0;
	for (int i = 0; i < PIPES; i++) {
		if (pipe(ends[i]))
			fail("pipe");
		polls[i] = (struct pollfd){ .fd = ends[i][0], .events = POLLIN };
	}
	if (write(ends[7][1], "x", 1) != 1)
		fail("write");
	for (unsigned t = 0; t < turns; t++)
		sum += (uint64_t)poll(polls, PIPES, 0);
	for (int i = 0; i < PIPES; i++)
		close(ends[i][0]), close(ends[i][1]);
	return sum;
}

static volatile uint64_t handled;
static void count(int signal)
{
	(void)signal;
	handled++;
}

uint64_t kernel_signal(unsigned turns)
{
	struct sigaction action = { .sa_handler = count };
	sigaction(SIGUSR1, &action, NULL);
	handled = 0;
	for (unsigned t = 0; t < turns; t++)
		raise(SIGUSR1);
	return handled;
}

/* A page fault that becomes a signal, as garbage collectors and emulators use it. */
static sigjmp_buf back;
static void jump_back(int signal)
{
	(void)signal;
	handled++;
	siglongjmp(back, 1);
}

uint64_t kernel_segv(unsigned turns)
{
	struct sigaction action = { .sa_handler = jump_back, .sa_flags = SA_NODEFER };
	volatile unsigned t = 0;
	char *volatile nowhere = (char *)8;
	sigaction(SIGSEGV, &action, NULL);
	handled = 0;
	while (t < turns) {
		t = t + 1;
		if (!sigsetjmp(back, 0))
			*(volatile char *)nowhere = 1;
	}
	signal(SIGSEGV, SIG_DFL);
	return handled;
}
