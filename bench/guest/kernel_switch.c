/*
 * kernel_switch.c - pipes, and switches between processes and threads. Everything runs on one processor, so each message is a switch.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "item.h"
#include "kernel.h"

/* Into a pipe and out again, in one process. */
uint64_t kernel_pipe(unsigned turns)
{
	int ends[2];
	char buffer[512] = "";
	uint64_t sum = 0;
	if (pipe(ends))
		fail("pipe");
	for (unsigned t = 0; t < turns; t++) {
		sum += (uint64_t)write(ends[1], buffer, sizeof buffer);
		sum += (uint64_t)read(ends[0], buffer, sizeof buffer);
	}
	close(ends[0]), close(ends[1]);
	return sum;
}

/* One byte there and back between two processes, TURNS times. */
static uint64_t ping_pong(unsigned turns, int near_in, int near_out, int far_in, int far_out)
{
	char c = 0;
	uint64_t sum = 0;
	pid_t pid = fork();
	if (pid < 0)
		fail("fork");
	if (!pid) {
		for (unsigned t = 0; t < turns; t++)
			if (read(far_in, &c, 1) != 1 || write(far_out, &c, 1) != 1)
				_exit(1);
		_exit(0);
	}
	for (unsigned t = 0; t < turns; t++) {
		if (write(near_out, &c, 1) != 1 || read(near_in, &c, 1) != 1)
			fail("ping-pong");
		sum++;
	}
	waitpid(pid, NULL, 0);
	return sum;
}

uint64_t kernel_pipe_switch(unsigned turns)
{
	int there[2], back[2];
	if (pipe(there) || pipe(back))
		fail("pipe");
	uint64_t sum = ping_pong(turns, back[0], there[1], there[0], back[1]);
	close(there[0]), close(there[1]), close(back[0]), close(back[1]);
	return sum;
}

uint64_t kernel_socket_switch(unsigned turns)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		fail("socketpair");
	uint64_t sum = ping_pong(turns, ends[0], ends[0], ends[1], ends[1]);
	close(ends[0]), close(ends[1]);
	return sum;
}

/* Two threads hand a word to and fro through a futex: a switch with no change of address space. */
static uint32_t whose;
static unsigned thread_turns;

static void hand_over(uint32_t me)
{
	for (unsigned t = 0; t < thread_turns; t++) {
		uint32_t now;
		while ((now = __atomic_load_n(&whose, __ATOMIC_ACQUIRE)) != me)
			syscall(SYS_futex, &whose, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
		__atomic_store_n(&whose, !me, __ATOMIC_RELEASE);
		syscall(SYS_futex, &whose, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
}

static void *other_thread(void *unused)
{
	(void)unused;
	hand_over(1);
	return NULL;
}

uint64_t kernel_thread_switch(unsigned turns)
{
	pthread_t thread;
	whose = 0;
	thread_turns = turns;
	if (pthread_create(&thread, NULL, other_thread, NULL))
		fail("pthread_create");
	hand_over(0);
	pthread_join(thread, NULL);
	return turns + whose;
}

/* To sleep and be woken by the timer: what an idle system costs. CPU time says more here than wall time. */
uint64_t kernel_sleep(unsigned turns)
{
	struct timespec moment = { .tv_nsec = 100000 };
	uint64_t sum = 0;
	for (unsigned t = 0; t < turns; t++)
		sum += !nanosleep(&moment, NULL);
	return sum;
}
