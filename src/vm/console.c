/*
 * console.c - console output and input.
 *
 * The output descriptor must never block the I/O thread (it also handles signals and timers), yet O_NONBLOCK belongs to the
 * open file description, which we share with the shell that started us. So terminals and pipes are opened once more through
 * /proc/self/fd for a description of our own; where that fails, and for files, writes stay blocking and small.
 */
#include "vm/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

/* What the user types comes back at once; where much is printed, few writes matter more than a moment. */
#define FLUSH_SOON_NS 1000000u
#define FLUSH_LATER_NS 10000000u
#define FLUSH_MUCH 64u
#define RING_BUSY (CONSOLE_RING * 3 / 4)	/* the port says busy from here on */
#define RING_RESUME (CONSOLE_RING / 4)
#define WRITE_MAX 4096u
#define GUEST_DEAF_NS 1000000000u

/*
 * What says that a kernel has panicked. Linux: the first words, after which it may reset, by itself or through Xen; the last, after which it waits for ever. Xen: before it
 * waits and resets. run: so many equal bytes begin the text.
 */
static const struct { const char *text; uint8_t run; bool waits; } panic_texts[CONSOLE_PANICS] = {
	{ "Kernel panic - not syncing: ", 1, false },
	{ "---[ end Kernel panic - not syncing", 3, true },
	{ "(XEN) Panic on CPU ", 1, true },
};

static void console_watch(struct console *c, uint8_t byte)
{
	for (unsigned i = 0; i < CONSOLE_PANICS; i++) {
		const char *text = panic_texts[i].text;
		uint8_t *match = &c->panic_match[i];

		if (byte == (uint8_t)text[*match])
			++*match;
		else if (byte != (uint8_t)text[0] || *match != panic_texts[i].run) /* a longer run still ends in one of that length */
			*match = byte == (uint8_t)text[0];
		if (!text[*match]) {
			*match = 0;
			if (c->panic_seen)
				c->panic_seen(c->opaque, panic_texts[i].waits);
		}
	}
}

void console_tx(void *console, uint8_t byte)
{
	struct console *c = console;

	console_watch(c, byte);
	while (c->used == CONSOLE_RING && !c->gone && !c->closing)
		pthread_cond_wait(&c->room, c->bus->lock);
	if (c->gone || c->used == CONSOLE_RING)
		return;
	c->ring[(c->head + c->used++) % CONSOLE_RING] = byte;
	if (c->unbuffered)
		loop_event_raise(&c->flush_now);
	else if (c->used == 1)
		loop_timer_set(&c->flush_timer, clock_ns() + c->flush_delay_ns);
	else if (c->used == RING_BUSY / 2)
		loop_event_raise(&c->flush_now);
}

bool console_tx_ready(void *console)
{
	struct console *c = console;
	const bool ready = c->used < RING_BUSY || c->gone;

	c->held |= !ready;
	return ready;
}

/* Under the device lock: n bytes left the ring. */
static void console_consumed(struct console *c, size_t n)
{
	c->head = (unsigned)((c->head + n) % CONSOLE_RING);
	c->used -= (unsigned)n;
	pthread_cond_broadcast(&c->room);
	if (c->held && (c->used <= RING_RESUME || c->gone)) {
		c->held = false;
		c->ops->tx_room(c->port);
	}
}

static void console_flush(void *console, uint32_t events);

static void console_want_out(struct console *c, bool want)
{
	/* Out of epoll while not wanted: errors of a descriptor are reported whatever one asks for. */
	if (!want)
		loop_remove(c->loop, &c->out_source);
	else if (!c->out_source.added)
		ASSERT(!loop_add(c->loop, &c->out_source, c->out, EPOLLOUT, console_flush, c));
}

static void console_out_gone(struct console *c, int err)
{
	bus_lock(c->bus);
	c->gone = true;
	console_consumed(c, c->used);
	bus_unlock(c->bus);
	console_want_out(c, false);
	log_info("console output is lost from here on: %s", strerror(err));
}

/* Writes until the ring is empty or the descriptor is full. */
static void console_flush(void *console, uint32_t events)
{
	struct console *c = console;
	uint8_t piece[WRITE_MAX];
	size_t total = 0;

	(void)events;
	for (;;) {
		bus_lock(c->bus);
		c->flush_delay_ns = total > FLUSH_MUCH ? FLUSH_LATER_NS : FLUSH_SOON_NS;
		const size_t n = c->used < sizeof(piece) ? c->used : sizeof(piece);
		const size_t first = n < CONSOLE_RING - c->head ? n : CONSOLE_RING - c->head;
		memcpy(piece, c->ring + c->head, first);
		memcpy(piece + first, c->ring, n - first);
		bus_unlock(c->bus);
		if (!n) {
			console_want_out(c, false);
			return;
		}
		const ssize_t done = write(c->out, piece, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0 && errno == EAGAIN && c->out_pollable) {
			console_want_out(c, true);
			return;
		}
		if (done < 0) {
			console_out_gone(c, errno);
			return;
		}
		total += (size_t)done;
		bus_lock(c->bus);
		console_consumed(c, (size_t)done);
		bus_unlock(c->bus);
	}
}

/* Offers input to the port. */
static void console_deliver(struct console *c)
{
	bus_lock(c->bus);
	const size_t taken = c->input_len ? c->ops->receive(c->port, c->input, c->input_len) : 0;
	c->input_len -= taken;
	if (taken)
		c->input_taken_ns = clock_ns();
	memmove(c->input, c->input + taken, c->input_len);
	atomic_store(&c->input_waits, c->input_len || (c->in_regular && !c->in_eof));
	bus_unlock(c->bus);
}

static void console_stop_input(struct console *c)
{
	c->in_eof = true;
	loop_remove(c->loop, &c->in_source);
}

static void console_pause_input(struct console *c)
{
	c->in_paused = true;
	loop_remove(c->loop, &c->in_source);
}

static void console_read(void *console, uint32_t events)
{
	struct console *c = console;
	uint8_t piece[256];
	const bool full = c->input_len + sizeof(piece) > CONSOLE_INPUT;

	(void)events;
	if (c->in_eof)
		return;
	/*
	 * What does not fit waits outside. But the user of a terminal must be able to quit a guest that no longer listens, so
	 * there, after a while, what is typed is read for its keys only.
	 */
	if (full && (!isatty(c->in) || clock_ns() - c->input_taken_ns < GUEST_DEAF_NS)) {
		console_pause_input(c);
		if (isatty(c->in))
			loop_timer_set(&c->input_retry, clock_ns() + GUEST_DEAF_NS);
		return;
	}
	const ssize_t n = read(c->in, piece, sizeof(piece));
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n < 0 && errno == EIO && isatty(c->in)) {
		/* In the background: wait for console_resume_input. */
		console_pause_input(c);
		return;
	}
	if (n <= 0) {
		console_stop_input(c);
		console_deliver(c);
		return;
	}
	size_t len = (size_t)n;
	if (c->keys)
		len = c->keys(c->opaque, piece, len);
	if (full)
		len = 0;
	memcpy(c->input + c->input_len, piece, len);
	c->input_len += len;
	console_deliver(c);
}

void console_resume_input(struct console *c)
{
	if (!c->in_paused || c->in_eof)
		return;
	c->in_paused = false;
	if (!c->in_regular)
		ASSERT(!loop_add(c->loop, &c->in_source, c->in, EPOLLIN, console_read, c));
}

static void console_on_input_retry(void *console, uint32_t events)
{
	(void)events;
	console_resume_input(console);
}

static void console_on_input_room(void *console, uint32_t events)
{
	struct console *c = console;

	(void)events;
	console_deliver(c);
	if (c->input_len + 256 > CONSOLE_INPUT)
		return;
	if (c->in_regular)
		console_read(c, 0);
	else
		console_resume_input(c);
}

void console_rx_room(void *console)
{
	struct console *c = console;

	if (atomic_exchange(&c->input_waits, false))
		loop_event_raise(&c->input_room);
}

static int console_own_description(struct console *c, int fd)
{
	char path[40];
	struct stat st;

	if (fstat(fd, &st) < 0 || !(S_ISFIFO(st.st_mode) || isatty(fd)))
		return fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	const int own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	c->out_owned = own >= 0;
	return own >= 0 ? own : fd;
}

int console_init(struct console *c, struct loop *loop, struct bus *bus, const struct console_port_ops *ops, void *port, int in, int out)
{
	int err;

	memset(c, 0, sizeof(*c));
	c->loop = loop;
	c->bus = bus;
	c->ops = ops;
	c->port = port;
	c->flush_delay_ns = FLUSH_SOON_NS;
	c->in = in;
	c->in_eof = in < 0;
	c->gone = out < 0;
	c->out = out < 0 ? -1 : console_own_description(c, out);
	pthread_cond_init(&c->room, 0);
	err = loop_add_timer(loop, &c->flush_timer, console_flush, c);
	if (!err)
		err = loop_add_event(loop, &c->flush_now, console_flush, c);
	if (!err)
		err = loop_add_event(loop, &c->input_room, console_on_input_room, c);
	if (!err)
		err = loop_add_timer(loop, &c->input_retry, console_on_input_retry, c);
	/* Files and the like are always ready: epoll refuses them, and they need no watching. */
	if (!err && c->out >= 0 && !loop_add(loop, &c->out_source, c->out, 0, console_flush, c)) {
		c->out_pollable = true;
		loop_remove(loop, &c->out_source);
	}
	if (err)
		console_destroy(c);
	return err;
}

void console_start(struct console *c)
{
	if (c->in_eof)
		return;
	if (loop_add(c->loop, &c->in_source, c->in, EPOLLIN, console_read, c)) {
		c->in_regular = true;
		loop_event_raise(&c->input_room);
	}
}

void console_close(struct console *c)
{
	bus_lock(c->bus);
	c->closing = true;
	pthread_cond_broadcast(&c->room);
	bus_unlock(c->bus);
}

void console_drain(struct console *c, uint64_t deadline_ns, const bool *abort)
{
	console_flush(c, 0);
	while (c->used && !*abort && clock_ns() < deadline_ns)
		loop_run_once(c->loop, deadline_ns);
}

void console_destroy(struct console *c)
{
	loop_remove(c->loop, &c->flush_timer);
	loop_remove(c->loop, &c->flush_now);
	loop_remove(c->loop, &c->input_room);
	loop_remove(c->loop, &c->input_retry);
	loop_remove(c->loop, &c->in_source);
	loop_remove(c->loop, &c->out_source);
	if (c->out_owned)
		close(c->out);
	pthread_cond_destroy(&c->room);
}
