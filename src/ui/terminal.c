/*
 * terminal.c - raw mode.
 */
#include "ui/terminal.h"

#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"

static struct termios terminal_found;	/* valid while terminal_is_raw */
static int terminal_fd;
static volatile sig_atomic_t terminal_is_raw;

void terminal_restore(void)
{
	if (!terminal_is_raw)
		return;
	terminal_is_raw = 0;
	log_set_raw(false);
	tcsetattr(terminal_fd, TCSADRAIN, &terminal_found);
}

/* A crash must not wait for output to drain. */
static void terminal_restore_now(void)
{
	if (terminal_is_raw)
		tcsetattr(terminal_fd, TCSANOW, &terminal_found);
	terminal_is_raw = 0;
}

void terminal_raw(int fd)
{
	struct termios raw;
	const pid_t foreground = isatty(fd) ? tcgetpgrp(fd) : -1; /* -1 also for a terminal that does not control us */

	if (terminal_is_raw || (foreground >= 0 && foreground != getpgrp()) || tcgetattr(fd, &terminal_found))
		return;
	terminal_fd = fd;
	raw = terminal_found;
	cfmakeraw(&raw);
	/* cfmakeraw turns output processing off as well: the guest's own terminal driver does that job. */
	terminal_is_raw = 1;
	log_set_crash_hook(terminal_restore_now);
	tcsetattr(fd, TCSADRAIN, &raw);
	log_set_raw(isatty(STDERR_FILENO));
}
