/*
 * control.c - the control socket: connections, request lines, answers (control.h). All of it runs on the I/O thread but
 * control_work.
 */
#include "vm/control.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vm/vm_internal.h"

enum client_state { CLIENT_FREE, CLIENT_READING, CLIENT_QUEUED, CLIENT_WORKING, CLIENT_WRITING };

struct client {
	struct control *control;
	struct loop_source source;
	enum client_state state;
	bool gone;		/* it left while its work was under way */
	uint64_t order;		/* when it last got on: smallest has waited longest */
	struct control_request request;
	size_t read;
	const struct control_command *command;
	char *text;		/* what open_memstream made */
	size_t text_len;
	char head[40];
	size_t head_len, written;
	struct vm_work work;
};

struct control {
	struct vm *vm;
	struct sockaddr_un address;
	struct stat made;		/* of the socket, to remove no other file later */
	int fd;
	struct loop_source listen, work_done;
	struct client client[CONTROL_CLIENTS];
	uint64_t order;
	struct client *working;
};

void control_fail(struct control_request *r, const char *fmt, ...)
{
	va_list ap;

	r->failed = true;
	va_start(ap, fmt);
	vfprintf(r->out, fmt, ap);
	va_end(ap);
	fputc('\n', r->out);
}

static void client_free(struct client *k)
{
	if (k->request.out)
		fclose(k->request.out);
	free(k->text);
	k->request.out = 0;
	k->text = 0;
	k->state = CLIENT_FREE;
}

static void client_close(struct client *k)
{
	if (k->source.added) {
		const int fd = k->source.fd;

		loop_remove(&k->control->vm->loop, &k->source);
		close(fd);
	}
	if (k->state == CLIENT_WORKING)
		k->gone = true;
	else
		client_free(k);
}

static void client_progress(struct client *k) { k->order = ++k->control->order; }

static void client_write(struct client *k)
{
	const size_t all = k->head_len + k->text_len;

	while (k->written < all) {
		const bool head = k->written < k->head_len;
		const char *from = head ? k->head + k->written : k->text + (k->written - k->head_len);
		const size_t len = head ? k->head_len - k->written : all - k->written;
		const ssize_t n = send(k->source.fd, from, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			loop_change(&k->control->vm->loop, &k->source, EPOLLOUT);
			return;
		}
		if (n <= 0)
			break;
		k->written += (size_t)n;
		client_progress(k);
	}
	client_close(k);
}

/* The request was carried out: what it printed goes to the client. */
static void client_answer(struct client *k)
{
	k->state = CLIENT_WRITING;
	k->head_len = (size_t)snprintf(k->head, sizeof(k->head), "%s %zu\n", k->request.failed ? "error" : "ok", k->text_len);
	k->written = 0;
	client_progress(k);
	if (k->gone)
		client_close(k);
	else
		client_write(k);
}

/* With r->out open: runs the command, on whatever thread this is. */
static void client_run(struct client *k)
{
	k->command->run(&k->request);
	fclose(k->request.out);
	k->request.out = 0;
}

/* The vcpu's thread. */
static void control_work(void *opaque)
{
	struct client *k = opaque;

	client_run(k);
	loop_event_raise(&k->control->work_done);
}

/* Gives the vcpu the next piece of work, first come, first served. */
static void control_post(struct control *c)
{
	struct client *next = 0;

	if (c->working)
		return;
	for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
		struct client *k = &c->client[i];

		if (k->state == CLIENT_QUEUED && (!next || k->order < next->order))
			next = k;
	}
	if (!next)
		return;
	next->state = CLIENT_WORKING;
	next->work = (struct vm_work){ .run = control_work, .opaque = next };
	c->working = next;
	vm_vcpu_post(c->vm->vcpu[0], &next->work);
}

static void control_on_work_done(void *opaque, uint32_t events)
{
	struct control *c = opaque;
	struct client *k = c->working;

	(void)events;
	if (!k)
		return;
	c->working = 0;
	client_answer(k);
	control_post(c);
}

/* A whole line is there, or more than one may have. */
static void client_request(struct client *k, bool too_long)
{
	struct control_request *r = &k->request;
	char *rest = 0;

	r->argc = 0;
	r->failed = false;
	r->vm = k->control->vm;
	r->out = open_memstream(&k->text, &k->text_len);
	if (!r->out) {
		client_close(k);
		return;
	}
	for (char *w = strtok_r(r->line, " \t\r\n", &rest); w; w = strtok_r(0, " \t\r\n", &rest)) {
		if (r->argc == CONTROL_WORDS)
			break;
		r->argv[r->argc++] = w;
	}
	k->command = r->argc ? control_command_find(r->argv[0]) : 0;
	if (too_long)
		control_fail(r, "a request has at most %d bytes", CONTROL_LINE);
	else if (!k->command)
		control_fail(r, "unknown command '%s' (help lists them)", r->argc ? r->argv[0] : "");
	else if (r->argc - 1 < k->command->least || r->argc - 1 > k->command->most)
		control_fail(r, "usage: %s%s%s", k->command->name, k->command->args[0] ? " " : "", k->command->args);
	else if (k->command->moves && r->vm->xen)
		control_fail(r, "%s: with --paging direct the guest knows its machine frames, so they can be neither moved nor watched", k->command->name);
	if (r->failed) {
		fclose(r->out);
		r->out = 0;
		client_answer(k);
		return;
	}
	client_progress(k);
	if (k->command->work) {
		/* What more it sends is not read; that it leaves is noticed when the answer is written. */
		loop_change(&k->control->vm->loop, &k->source, 0);
		k->state = CLIENT_QUEUED;
		control_post(k->control);
		return;
	}
	client_run(k);
	client_answer(k);
}

static void client_read(struct client *k)
{
	struct control_request *r = &k->request;
	const ssize_t n = recv(k->source.fd, r->line + k->read, CONTROL_LINE - k->read, MSG_DONTWAIT);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return;
	if (n < 0 || (n == 0 && k->read == 0)) {
		client_close(k);
		return;
	}
	k->read += (size_t)n;
	r->line[k->read] = 0;
	end = memchr(r->line, '\n', k->read);
	if (!end && n > 0 && k->read < CONTROL_LINE)
		return;
	if (end)
		*end = 0;
	client_request(k, !end && k->read == CONTROL_LINE);
}

static void client_ready(void *opaque, uint32_t events)
{
	struct client *k = opaque;

	switch (k->state) {
	case CLIENT_READING:
		client_read(k);
		break;
	case CLIENT_WRITING:
		if (events & (EPOLLERR | EPOLLHUP))
			client_close(k);
		else
			client_write(k);
		break;
	default: /* asked for nothing, so it hung up */
		client_close(k);
	}
}

/* A free place; or that of the client who has waited longest without work of its own under way; or none. */
static struct client *control_place(struct control *c)
{
	struct client *idle = 0;

	for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
		struct client *k = &c->client[i];

		if (k->state == CLIENT_FREE)
			return k;
		if ((k->state == CLIENT_READING || k->state == CLIENT_WRITING) && (!idle || k->order < idle->order))
			idle = k;
	}
	if (idle)
		client_close(idle);
	return idle;
}

static void control_on_connect(void *opaque, uint32_t events)
{
	static const char busy[] = "error 43\ntoo many requests wait for the vcpu; retry\n";
	struct control *c = opaque;
	const int fd = accept4(c->fd, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct client *k;

	_Static_assert(sizeof(busy) - 1 - 9 == 43, "the length in the answer");
	(void)events;
	if (fd < 0)
		return;
	k = control_place(c);
	if (!k) {
		send(fd, busy, sizeof(busy) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(fd);
		return;
	}
	*k = (struct client){ .control = c, .state = CLIENT_READING };
	client_progress(k);
	if (loop_add(&c->vm->loop, &k->source, fd, EPOLLIN, client_ready, k)) {
		close(fd);
		k->state = CLIENT_FREE;
	}
}

/* What stands at the path already: 0 if nothing does any more. */
static int control_clear_path(const struct sockaddr_un *address, char *error, size_t size)
{
	struct stat st;
	int fd, err;

	if (lstat(address->sun_path, &st)) {
		if (errno == ENOENT)
			return 0;
		err = -errno;
		snprintf(error, size, "--control %s: %s", address->sun_path, strerror(-err));
		return err;
	}
	if (!S_ISSOCK(st.st_mode)) {
		snprintf(error, size, "--control %s: exists and is not a socket; name another path or remove it", address->sun_path);
		return -EEXIST;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	err = fd < 0 ? errno : connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? errno : 0;
	if (fd >= 0)
		close(fd);
	/* Left behind by a run that was killed: nobody listens. */
	if (err == ECONNREFUSED && !unlink(address->sun_path))
		return 0;
	snprintf(error, size, "--control %s: exists already, and another program may be using it", address->sun_path);
	return -EADDRINUSE;
}

int control_open(struct vm *vm, const char *path, char *error, size_t size)
{
	struct control *c = calloc(1, sizeof(*c));
	const char *what = "cannot make the socket";
	int err;

	if (!c) {
		snprintf(error, size, "--control %s: no memory", path);
		return -ENOMEM;
	}
	c->vm = vm;
	c->fd = -1;
	c->address.sun_family = AF_UNIX;
	vm->control = c;
	if (!path[0] || strlen(path) >= sizeof(c->address.sun_path)) {
		snprintf(error, size, "--control: the path of a socket has from 1 to %zu bytes", sizeof(c->address.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	strcpy(c->address.sun_path, path);
	err = control_clear_path(&c->address, error, size);
	if (err)
		return err;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* For its owner only, from the moment that it exists: Linux makes the file with the mode that the descriptor has. */
	if (c->fd < 0 || fchmod(c->fd, 0600) || bind(c->fd, (struct sockaddr *)&c->address, sizeof(c->address)))
		goto fail;
	what = "cannot listen";
	if (lstat(path, &c->made) || listen(c->fd, 64))
		goto fail;
	err = loop_add_event(&vm->loop, &c->work_done, control_on_work_done, c);
	if (!err)
		err = loop_add(&vm->loop, &c->listen, c->fd, EPOLLIN, control_on_connect, c);
	errno = -err;
	if (!err)
		return 0;
fail:
	err = -errno;
	snprintf(error, size, "--control %s: %s: %s", path, what, strerror(-err));
	return err;
}

void control_close(struct control *c)
{
	struct stat st;

	if (!c || c->fd < 0)
		return;
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		if (c->client[i].state != CLIENT_FREE)
			client_close(&c->client[i]);
	loop_remove(&c->vm->loop, &c->listen);
	close(c->fd);
	c->fd = -1;
	/* Another program may have put something else there. */
	if (!lstat(c->address.sun_path, &st) && st.st_dev == c->made.st_dev && st.st_ino == c->made.st_ino)
		unlink(c->address.sun_path);
}

void control_destroy(struct control *c)
{
	if (!c)
		return;
	control_close(c);
	loop_remove(&c->vm->loop, &c->work_done);
	for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
		struct client *k = &c->client[i];

		/* The run ended before the vcpu came to its work. */
		if (k->state != CLIENT_FREE)
			client_free(k);
	}
	free(c);
}
