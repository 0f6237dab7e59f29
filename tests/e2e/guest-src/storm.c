/*
 * storm.c - fork, vfork and exec in large numbers, with a pipeline of processes passing data along.
 * storm FORKS EXECS: proves that address spaces are made, copied on write, switched and torn down correctly.
 */
#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

extern char **environ;
static unsigned char page[64 * 4096];

static int wait_status(pid_t pid)
{
	int status;
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Each child changes its copy of some pages and sees neither its parent's later changes nor its siblings'. */
static void fork_storm(int n)
{
	for (int i = 0; i < n; i++) {
		memset(page, i, sizeof page);
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (!pid) {
			for (size_t k = 0; k < sizeof page; k += 4096)
				if (page[k] != (unsigned char)i)
					_exit(200);
			for (size_t k = 0; k < sizeof page; k += 3 * 4096)
				page[k] = (unsigned char)~i;
			_exit(page[0] == (unsigned char)~i && page[4096] == (unsigned char)i ? i & 63 : 201);
		}
		page[4096]++;
		CHECK(wait_status(pid) == (i & 63));
		CHECK(page[0] == (unsigned char)i);
	}
}

/* Live at once: every child holds its own value until all exist. */
static void crowd(int n)
{
	int gate[2];
	pid_t pids[256];
	CHECK(n <= 256 && pipe(gate) == 0);
	for (int i = 0; i < n; i++) {
		page[0] = (unsigned char)(i * 7);
		pids[i] = fork();
		CHECK(pids[i] >= 0);
		if (!pids[i]) {
			char c;
			close(gate[1]);
			if (read(gate[0], &c, 1) != 0)
				_exit(202);
			_exit(page[0] == (unsigned char)(i * 7) ? 0 : 203);
		}
	}
	close(gate[0]);
	close(gate[1]);
	for (int i = 0; i < n; i++)
		CHECK(wait_status(pids[i]) == 0);
}

static void exec_storm(const char *self, int n)
{
	for (volatile int i = 0; i < n; i++) {
		char arg[16];
		snprintf(arg, sizeof arg, "%d", i & 63);
		char *argv[] = { (char *)self, "--child", arg, NULL };
		pid_t pid;
		if (i % 3 == 0) {
			CHECK(posix_spawn(&pid, self, NULL, NULL, argv, environ) == 0);
		} else {
			pid = i % 3 == 1 ? fork() : vfork();
			CHECK(pid >= 0);
			if (!pid) {
				execv(self, argv);
				_exit(204);
			}
		}
		CHECK(wait_status(pid) == (i & 63));
	}
}

/* source | add 1 | add 1 | ... | sink, all processes at once. */
static void pipeline(int stages, size_t bytes)
{
	int in = -1;
	static unsigned char buf[8192];
	pid_t pids[64];
	for (int s = 0; s <= stages; s++) {
		int fd[2];
		CHECK(pipe(fd) == 0);
		pids[s] = fork();
		CHECK(pids[s] >= 0);
		if (!pids[s]) {
			close(fd[0]);
			size_t done = 0;
			for (;;) {
				ssize_t got = in < 0 ? (ssize_t)(bytes - done > sizeof buf ? sizeof buf : bytes - done) : read(in, buf, sizeof buf);
				if (got <= 0)
					_exit(got < 0);
				for (ssize_t i = 0; i < got; i++)
					buf[i] = in < 0 ? (unsigned char)((done + (size_t)i) * 13) : (unsigned char)(buf[i] + 1);
				for (ssize_t off = 0; off < got;) {
					ssize_t put = write(fd[1], buf + off, (size_t)(got - off));
					if (put <= 0)
						_exit(1);
					off += put;
				}
				done += (size_t)got;
			}
		}
		close(fd[1]);
		if (in >= 0)
			close(in);
		in = fd[0];
	}
	size_t done = 0;
	for (ssize_t got; (got = read(in, buf, sizeof buf)) > 0; done += (size_t)got)
		for (ssize_t i = 0; i < got; i++)
			CHECK(buf[i] == (unsigned char)((done + (size_t)i) * 13 + (size_t)stages));
	CHECK(done == bytes);
	close(in);
	for (int s = 0; s <= stages; s++)
		CHECK(wait_status(pids[s]) == 0);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--child"))
		return atoi(argv[2]);
	CHECK(argc == 3);
	fork_storm(atoi(argv[1]));
	crowd(100);
	exec_storm("/proc/self/exe", atoi(argv[2]));
	pipeline(8, 1 << 20);
	printf("storm: %s forks, %s execs, a crowd and a pipeline: ok\n", argv[1], argv[2]);
	return 0;
}
