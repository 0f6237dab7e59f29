/*
 * run.c - `trifold run`: builds the VM, gives it the terminal, turns signals and console keys into its end.
 */
#include "ui/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "ui/options.h"
#include "ui/terminal.h"

enum { KEY_ESCAPE = 1 /* Ctrl-a */ };

struct run {
	struct vm *vm;
	struct loop_source signals;
	bool escaped;	/* the last key was Ctrl-a */
};

static void run_key_help(void)
{
	log_info("Ctrl-a x  end the virtual machine");
	log_info("Ctrl-a h  this help");
	log_info("Ctrl-a a  send Ctrl-a to the guest (or Ctrl-a Ctrl-a)");
}

/* Takes Ctrl-a sequences out of what was typed. */
static size_t run_keys(void *opaque, struct vm *vm, uint8_t *bytes, size_t len)
{
	struct run *run = opaque;
	size_t out = 0;

	for (size_t i = 0; i < len; i++) {
		const uint8_t key = bytes[i];

		if (!run->escaped) {
			run->escaped = key == KEY_ESCAPE;
			if (!run->escaped)
				bytes[out++] = key;
			continue;
		}
		run->escaped = false;
		switch (key) {
		case 'x':
		case 'X':
			vm_stop(vm, VM_QUIT, 0, 0);
			break;
		case 'a':
		case KEY_ESCAPE:
			bytes[out++] = KEY_ESCAPE;
			break;
		default:
			run_key_help();
		}
	}
	return out;
}

/* kill -STOP from elsewhere cannot be seen, but coming back can. */
static void run_suspend(struct run *run)
{
	terminal_restore();
	kill(getpid(), SIGSTOP);
	terminal_raw(STDIN_FILENO);
	vm_console_resume(run->vm);
}

static void run_on_signal(void *opaque, uint32_t events)
{
	struct run *run = opaque;
	struct signalfd_siginfo info;
	char reason[64];

	(void)events;
	if (read(run->signals.fd, &info, sizeof(info)) != sizeof(info))
		return;
	switch (info.ssi_signo) {
	case SIGTSTP:
		run_suspend(run);
		break;
	case SIGCONT:
		terminal_restore();	/* another program may have changed the modes meanwhile: start over */
		terminal_raw(STDIN_FILENO);
		vm_console_resume(run->vm);
		break;
	default:
		snprintf(reason, sizeof(reason), "ended by signal %u (%s)", info.ssi_signo, strsignal((int)info.ssi_signo));
		vm_stop(run->vm, VM_SIGNAL, info.ssi_signo, reason);
	}
}

/* Signals that end or suspend the run are read from a descriptor; blocked before any thread exists, so that no other takes them. */
static int run_open_signals(void)
{
	static const int taken[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT };
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);	/* a file that may not grow is an error of ours to report, not a way to die */
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(taken); i++)
		sigaddset(&set, taken[i]);
	const int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	/* Writing to and reading from a terminal in the background must fail, not stop us. */
	sigaddset(&set, SIGTTIN);
	sigaddset(&set, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &set, 0);
	return fd;
}

static int run_error(const char *line)
{
	log_error("%s", line);
	return EXIT_ERROR;
}

static void run_first_line(const struct vm_config *c)
{
	const bool whole = c->memory_bytes % MIB(1) == 0;

	char machine[60] = "";

	if (c->machine_bytes && c->machine_bytes < c->memory_bytes)
		snprintf(machine, sizeof(machine), " in %llu MiB of machine memory", (unsigned long long)(c->machine_bytes >> 20));
	log_info("engine %s, paging %s, %u CPU%s, %llu %s memory%s", vm_engine_name(c->engine),
		 vm_paging_name(c->paging), c->cpus, c->cpus == 1 ? "" : "s",
		 (unsigned long long)(whole ? c->memory_bytes >> 20 : c->memory_bytes >> 10), whole ? "MiB" : "KiB", machine);
}

static bool run_written(const char *file, int err)
{
	if (err)
		log_error("cannot write %s: %s", file, strerror(-err));
	return !err;
}

/* Learn now, not after the run, that a file cannot be written. */
static bool run_writable(const char *file, char *error, size_t size)
{
	const int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);

	if (fd < 0)
		snprintf(error, size, "cannot write %s: %s", file, strerror(errno));
	else
		close(fd);
	return fd >= 0;
}

/* Runs the VM with the terminal raw; returns the exit status. */
static int run_vm(struct run *run, const struct options *o)
{
	char text[256];

	run_first_line(&o->vm);
	terminal_raw(STDIN_FILENO);
	const struct vm_end *end = vm_run(run->vm);
	terminal_restore();
	int status = vm_end_status(end);
	if (vm_end_text(end, text, sizeof(text)))
		log_info("%s", text);
	if (!run_written(o->vm.trace, vm_trace_result(run->vm)) ||
	    !run_written(o->stats, o->stats ? vm_write_stats(run->vm, o->stats) : 0) ||
	    !run_written(o->profile, o->profile ? vm_write_profile(run->vm, o->profile) : 0))
		status = EXIT_ERROR;
	return status;
}

static int run_start(struct options *o)
{
	struct run run = { 0 };
	char error[300];
	const char *lacks = vm_host_lacks();

	if (lacks) {
		snprintf(error, sizeof(error), "this processor lacks %s: Trifold needs x86-64-v3", lacks);
		return run_error(error);
	}
	if ((o->stats && !run_writable(o->stats, error, sizeof(error))) || (o->profile && !run_writable(o->profile, error, sizeof(error))))
		return run_error(error);
	const int signals = run_open_signals();
	if (signals < 0)
		return run_error("cannot watch signals");
	o->vm.console_in = STDIN_FILENO;
	o->vm.console_out = STDOUT_FILENO;
	o->vm.keys = run_keys;
	o->vm.keys_opaque = &run;
	if (vm_create(&o->vm, &run.vm, error, sizeof(error))) {
		close(signals);
		return run_error(error);
	}
	int status = EXIT_ERROR;
	if (loop_add(vm_loop(run.vm), &run.signals, signals, EPOLLIN, run_on_signal, &run))
		log_error("cannot watch signals");
	else
		status = run_vm(&run, o);
	loop_remove(vm_loop(run.vm), &run.signals);
	close(signals);
	vm_destroy(run.vm);
	return status;
}

int run_command(int argc, char **argv)
{
	static struct options options; /* large, and vm_config points into it */

	if (!options_parse(&options, argc, argv))
		return run_error(options.error);
	if (options.help) {
		options_print_help(stdout);
		return fflush(stdout) ? EXIT_ERROR : 0;
	}
	return run_start(&options);
}
