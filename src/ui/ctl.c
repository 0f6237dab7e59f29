/*
 * ctl.c - the client of the control socket: sends one request line, prints the answer.
 */
#include "ui/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "ui/run.h"

#define REQUEST_MAX 250
#define ANSWER_MAX (64u << 20)	/* more is no answer of ours */
#define WAIT_SECONDS 30

static bool ctl_fail(char *error, size_t size, const char *socket, const char *what)
{
	snprintf(error, size, "%s: %s", socket, what);
	return false;
}

static int ctl_connect(const char *path, char *error, size_t size)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timeval wait = { .tv_sec = WAIT_SECONDS };
	int fd;

	if (strlen(path) >= sizeof(address.sun_path)) {
		snprintf(error, size, "%s: the path of a socket has at most %zu bytes", path, sizeof(address.sun_path) - 1);
		return -1;
	}
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		snprintf(error, size, "%s: %s", path,
			 errno == ECONNREFUSED ? "no VM listens there (any more)" :
			 errno == ENOENT ? "no such socket: name the one given to trifold run --control" : strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	return fd;
}

/* Everything up to the end of the connection, with a zero behind it; 0 on an error. */
static char *ctl_read_all(int fd, size_t *len)
{
	size_t room = 4096;
	char *text = malloc(room + 1);

	*len = 0;
	while (text) {
		const ssize_t n = recv(fd, text + *len, room - *len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == ECONNRESET && *len) /* the answer is there all the same */
			break;
		if (n < 0 || *len > ANSWER_MAX) {
			free(text);
			return 0;
		}
		if (n == 0)
			break;
		*len += (size_t)n;
		if (*len == room) {
			char *more = realloc(text, 2 * room + 1);

			if (!more)
				free(text);
			text = more;
			room *= 2;
		}
	}
	if (text)
		text[*len] = 0;
	return text;
}

bool ctl_ask(const char *socket, const char *request, char **text, char *error, size_t size)
{
	char line[REQUEST_MAX + 2];
	unsigned long long body;
	size_t len = 0, sent = 0;
	char *answer, *at;
	int fd;

	*text = 0;
	if ((size_t)snprintf(line, sizeof(line), "%s\n", request) >= sizeof(line))
		return ctl_fail(error, size, socket, "the request is too long");
	fd = ctl_connect(socket, error, size);
	if (fd < 0)
		return false;
	while (sent < strlen(line)) {
		const ssize_t n = send(fd, line + sent, strlen(line) - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break; /* the reason may be in the answer */
		sent += (size_t)n;
	}
	answer = ctl_read_all(fd, &len);
	close(fd);
	if (!answer)
		return ctl_fail(error, size, socket, errno == EAGAIN ? "no answer" : strerror(errno));
	at = strchr(answer, '\n');
	if (!at || (sscanf(answer, "ok %llu", &body) != 1 && sscanf(answer, "error %llu", &body) != 1) ||
	    body != len - (size_t)(at + 1 - answer)) {
		const bool nothing = !len;

		free(answer);
		return ctl_fail(error, size, socket, nothing ? "no answer: the VM ended or had too many clients" : "the answer is cut short");
	}
	if (answer[0] == 'e') {
		at[strcspn(at + 1, "\n") + 1] = 0;
		snprintf(error, size, "%s", at + 1);
		free(answer);
		return false;
	}
	memmove(answer, at + 1, body + 1);
	*text = answer;
	return true;
}

static int ctl_usage(FILE *f)
{
	fputs("usage: trifold ctl SOCKET COMMAND [WORD...]\n\n"
	      "SOCKET is what was given to trifold run --control. Commands are those that `trifold ctl SOCKET help` lists, and\n"
	      "  top [exits]            a live screen of all counters per second, or of exits by cause (a table when not on a terminal)\n", f);
	return fflush(f) ? EXIT_ERROR : 0;
}

int ctl_command(int argc, char **argv)
{
	char request[REQUEST_MAX + 2] = "", error[400], *text;
	size_t at = 0;

	if (argc >= 1 && !strcmp(argv[0], "--help"))
		return ctl_usage(stdout);
	if (argc < 2) {
		log_error("ctl: SOCKET and COMMAND are missing (see trifold ctl --help)");
		return EXIT_ERROR;
	}
	if (!strcmp(argv[1], "top")) {
		const bool exits = argc == 3 && !strcmp(argv[2], "exits");

		if (argc == 2 || exits)
			return ctl_top(argv[0], exits);
		log_error("usage: trifold ctl SOCKET top [exits]");
		return EXIT_ERROR;
	}
	for (int i = 1; i < argc && at < sizeof(request); i++)
		at += (size_t)snprintf(request + at, sizeof(request) - at, "%s%s", i > 1 ? " " : "", argv[i]);
	if (at >= sizeof(request) || strchr(request, '\n')) {
		log_error("ctl: a request is one line of at most %d bytes", REQUEST_MAX);
		return EXIT_ERROR;
	}
	if (!ctl_ask(argv[0], request, &text, error, sizeof(error))) {
		log_error("%s", error);
		return EXIT_ERROR;
	}
	fputs(text, stdout);
	free(text);
	return fflush(stdout) || ferror(stdout) ? EXIT_ERROR : 0;
}
