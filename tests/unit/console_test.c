/*
 * console_test.c - console output and input between a serial port and descriptors: order, loss, slow and absent readers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "dev/uart.h"
#include "vm/console.h"

#define PORT 0x3f8
struct rig {
	struct loop loop;
	struct bus bus;
	struct uart uart;
	struct console console;
	int in[2], out[2];
	bool abort;
	unsigned panics, first_words;
};

static size_t drop_stars(void *opaque, uint8_t *bytes, size_t len)
{
	size_t out = 0;
	(void)opaque;
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != '*')
			bytes[out++] = bytes[i];
	return out;
}
static void saw_panic(void *opaque, bool waits)
{
	struct rig *r = opaque;
	r->panics += waits;
	r->first_words += !waits;
}

static size_t port_receive(void *uart, const uint8_t *bytes, size_t n) { return uart_receive(uart, bytes, n); }
static void port_tx_room(void *uart) { uart_tx_room(uart); }

static int open_rig(struct rig *r, int in, int out)
{
	const struct uart_host host = { console_tx, console_tx_ready, console_rx_room, &r->console };
	static const struct console_port_ops port = { port_receive, port_tx_room };
	const struct irq_line irq = { 0 };
	int err = loop_init(&r->loop);
	bus_init(&r->bus);
	err = err ? err : console_init(&r->console, &r->loop, &r->bus, &port, &r->uart, in, out);
	r->console.keys = drop_stars;
	r->console.panic_seen = saw_panic;
	r->console.opaque = r;
	err = err ? err : uart_init(&r->uart, &r->bus, PORT, &irq, &host);
	bus_write(&r->bus, BUS_PORT, PORT + 2, 1, 1); /* FIFO on */
	bus_write(&r->bus, BUS_PORT, PORT + 4, 1, 8); /* a guest that reads: OUT2, and the received-data interrupt */
	bus_write(&r->bus, BUS_PORT, PORT + 1, 1, 1);
	console_start(&r->console);
	return err;
}

static void close_rig(struct rig *r)
{
	console_destroy(&r->console);
	loop_destroy(&r->loop);
	bus_destroy(&r->bus);
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	*state = r;
	signal(SIGPIPE, SIG_IGN);
	return pipe2(r->in, O_CLOEXEC) || pipe2(r->out, O_CLOEXEC) || open_rig(r, r->in[0], r->out[1]);
}
static int teardown(void **state)
{
	struct rig *r = *state;
	close_rig(r);
	for (int i = 0; i < 2; i++) {
		if (r->in[i] >= 0)
			close(r->in[i]);
		if (r->out[i] >= 0)
			close(r->out[i]);
	}
	free(r);
	return 0;
}

static void guest_sends(struct rig *r, const char *s)
{
	for (; *s; s++)
		bus_write(&r->bus, BUS_PORT, PORT, 1, (uint8_t)*s);
}
static int guest_receives(struct rig *r)
{
	if (!(bus_read(&r->bus, BUS_PORT, PORT + 5, 1) & 1))
		return -1;
	return (int)bus_read(&r->bus, BUS_PORT, PORT, 1);
}
static void turn(struct rig *r) { loop_run_once(&r->loop, clock_ns() + 10000000); }

static void what_the_guest_sends_arrives_in_one_write_soon_after(void **state)
{
	struct rig *r = *state;
	char text[64];
	guest_sends(r, "hello, world\r\n");
	turn(r);
	assert_int_equal(read(r->out[0], text, sizeof(text)), 14);
	assert_memory_equal(text, "hello, world\r\n", 14);
}

static void unbuffered_output_does_not_wait(void **state)
{
	struct rig *r = *state;
	char c;
	r->console.unbuffered = true;
	guest_sends(r, "x");
	loop_run_once(&r->loop, clock_ns() + 1000000);
	assert_int_equal(read(r->out[0], &c, 1), 1);
}

struct reader { int fd; size_t got; bool bad; unsigned delay_us; };
static void *read_all(void *arg)
{
	struct reader *reader = arg;
	uint8_t piece[1000];
	ssize_t n;
	while ((n = read(reader->fd, piece, sizeof(piece))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			reader->bad |= piece[i] != (uint8_t)('a' + reader->got++ % 23);
		usleep(reader->delay_us);
	}
	return 0;
}

#define MUCH 300000u
static void *send_much(void *arg)
{
	struct rig *r = arg;
	for (unsigned i = 0; i < MUCH; i++)
		bus_write(&r->bus, BUS_PORT, PORT, 1, 'a' + i % 23);
	loop_stop(&r->loop);
	return 0;
}

/* The guest does not even look at the port's busy bit, and produces more than ring and pipe hold. */
static void a_slow_reader_loses_nothing(void **state)
{
	struct rig *r = *state;
	struct reader reader = { .fd = r->out[0], .delay_us = 200 };
	pthread_t rt, gt;
	assert_int_equal(pthread_create(&rt, 0, read_all, &reader), 0);
	assert_int_equal(pthread_create(&gt, 0, send_much, r), 0);
	loop_run(&r->loop);
	pthread_join(gt, 0);
	console_close(&r->console);
	console_drain(&r->console, LOOP_NEVER, &r->abort);
	console_destroy(&r->console);
	memset(&r->console, 0, sizeof(r->console));
	close(r->out[1]);
	r->out[1] = -1;
	pthread_join(rt, 0);
	assert_int_equal(reader.got, MUCH);
	assert_false(reader.bad);
}

static void a_stalled_reader_makes_the_port_busy_and_then_ready_again(void **state)
{
	struct rig *r = *state;
	char piece[4096];
	unsigned sent = 0;
	while (bus_read(&r->bus, BUS_PORT, PORT + 5, 1) & 0x20) {
		bus_write(&r->bus, BUS_PORT, PORT, 1, 'x');
		if (++sent % 1000 == 0)
			loop_run_once(&r->loop, 0);
		assert_true(sent < 1000000);
	}
	assert_true(sent > 60000);
	while (!(bus_read(&r->bus, BUS_PORT, PORT + 5, 1) & 0x20)) {
		assert_true(read(r->out[0], piece, sizeof(piece)) > 0);
		turn(r);
	}
}

static void an_end_does_not_wait_for_a_stalled_reader_beyond_its_deadline(void **state)
{
	struct rig *r = *state;
	pthread_t gt;
	assert_int_equal(pthread_create(&gt, 0, send_much, r), 0);
	const uint64_t from = clock_ns();
	while (clock_ns() < from + 50000000)
		turn(r);
	console_close(&r->console); /* lets the guest go, wherever it waits */
	pthread_join(gt, 0);
	console_drain(&r->console, clock_ns() + 20000000, &r->abort);
	assert_true(clock_ns() - from < 5000000000);
	r->abort = true;
	console_drain(&r->console, LOOP_NEVER, &r->abort);
}

static void a_reader_that_went_away_holds_nobody_up(void **state)
{
	struct rig *r = *state;
	pthread_t gt;
	close(r->out[0]);
	r->out[0] = -1;
	assert_int_equal(pthread_create(&gt, 0, send_much, r), 0);
	loop_run(&r->loop);
	pthread_join(gt, 0);
	assert_true(r->console.gone);
	/* And the loop is quiet afterwards. */
	const uint64_t from = clock_ns();
	loop_run_once(&r->loop, from + 1000000);
	loop_run_once(&r->loop, from + 8000000);
	loop_run_once(&r->loop, from + 8000000);
	assert_true(clock_ns() - from >= 7000000);
}

static void input_is_filtered_and_waits_for_room_in_the_port(void **state)
{
	struct rig *r = *state;
	char text[600];
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 3 ? (char)('A' + i % 26) : '*';
	assert_int_equal(write(r->in[1], text, sizeof(text)), sizeof(text));
	for (size_t i = 0; i < sizeof(text); i++) {
		int c;
		if (i % 3 == 0)
			continue;
		for (unsigned turns = 0; (c = guest_receives(r)) < 0; turns++) {
			assert_true(turns < 100);
			turn(r);
		}
		assert_int_equal(c, text[i]);
	}
	turn(r);
	assert_int_equal(guest_receives(r), -1);
}

/* A rig whose input is a terminal in raw mode; the master is the user. */
static int open_terminal(struct rig *r, int *master, int *slave)
{
	struct termios raw;
	assert_int_equal(openpty(master, slave, 0, 0, 0), 0);
	tcgetattr(*slave, &raw);
	cfmakeraw(&raw);
	tcsetattr(*slave, TCSANOW, &raw);
	fcntl(*master, F_SETFL, O_NONBLOCK);
	return open_rig(r, *slave, -1);
}

static void a_paste_into_a_terminal_arrives_whole(void **state)
{
	struct rig r = { 0 };
	int master, slave, c;
	unsigned sent = 0;
	(void)state;
	assert_int_equal(open_terminal(&r, &master, &slave), 0);
	for (unsigned got = 0, turns = 0; got < 60000; turns++) {
		assert_true(turns < 200000);
		while (sent < 60000 && write(master, &(char){ (char)('a' + sent % 23) }, 1) == 1)
			sent++;
		turn(&r);
		/* Slowly, so that everything on the way fills up. */
		for (unsigned i = 0; i < 16 && (c = guest_receives(&r)) >= 0; i++, got++)
			assert_int_equal(c, 'a' + got % 23);
	}
	close_rig(&r);
	close(master);
	close(slave);
}

static size_t count_keys(void *opaque, uint8_t *bytes, size_t len)
{
	(void)bytes;
	((struct rig *)opaque)->panics += (unsigned)len;
	return len;
}

static void the_keys_of_a_terminal_work_while_the_guest_is_deaf(void **state)
{
	struct rig r = { 0 };
	int master, slave;
	(void)state;
	assert_int_equal(open_terminal(&r, &master, &slave), 0);
	r.console.keys = count_keys;
	for (unsigned i = 0; i < 6000; i++) {
		while (write(master, "x", 1) != 1)
			turn(&r);
	}
	const uint64_t from = clock_ns();
	while (r.panics < 6000) {
		assert_true(clock_ns() - from < 20000000000);
		turn(&r);
	}
	close_rig(&r);
	close(master);
	close(slave);
}

static void the_end_of_input_does_not_spin_the_loop(void **state)
{
	struct rig *r = *state;
	assert_int_equal(write(r->in[1], "z", 1), 1);
	close(r->in[1]);
	r->in[1] = -1;
	turn(r);
	turn(r);
	assert_int_equal(guest_receives(r), 'z');
	turn(r);
	const uint64_t from = clock_ns();
	loop_run_once(&r->loop, from + 20000000);
	assert_true(clock_ns() - from >= 19000000);
}

static void a_file_as_input_arrives_whole(void **state)
{
	struct rig file = { 0 };
	char path[] = "/tmp/console_test.XXXXXX";
	const int fd = mkstemp(path);
	(void)state;
	unlink(path);
	for (unsigned i = 0; i < 10000; i++)
		assert_int_equal(write(fd, &(char){ (char)('a' + i % 23) }, 1), 1);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(open_rig(&file, fd, -1), 0);
	for (unsigned i = 0; i < 10000; i++) {
		int c;
		for (unsigned turns = 0; (c = guest_receives(&file)) < 0; turns++) {
			assert_true(turns < 100);
			turn(&file);
		}
		assert_int_equal(c, 'a' + i % 23);
	}
	close_rig(&file);
	close(fd);
}

static void a_file_as_output_is_written_where_its_offset_stands(void **state)
{
	struct rig file = { 0 };
	char path[] = "/tmp/console_test.XXXXXX", text[16] = "";
	const int fd = mkstemp(path);
	(void)state;
	unlink(path);
	assert_int_equal(write(fd, "head ", 5), 5);
	assert_int_equal(open_rig(&file, -1, fd), 0);
	guest_sends(&file, "tail");
	turn(&file);
	assert_int_equal(pread(fd, text, sizeof(text), 0), 9);
	assert_string_equal(text, "head tail");
	close_rig(&file);
	close(fd);
}

static void without_descriptors_output_is_dropped(void **state)
{
	struct rig none = { 0 };
	(void)state;
	assert_int_equal(open_rig(&none, -1, -1), 0);
	for (unsigned i = 0; i < 2 * CONSOLE_RING; i++)
		guest_sends(&none, "x");
	assert_true(bus_read(&none.bus, BUS_PORT, PORT + 5, 1) & 0x20);
	close_rig(&none);
}

static void the_last_words_of_a_panic_are_recognised_anywhere_in_a_line(void **state)
{
	struct rig *r = *state;
	guest_sends(r, "Kernel panic - not syncing: x\r\n--[ end Kernel panic - not syncing\r\n---[ end Kernel panic - no");
	assert_int_equal(r->panics, 0);
	guest_sends(r, "[    1.0] -----[ end Kernel panic - not syncing: VFS ]---\r\n");
	assert_int_equal(r->panics, 1);
	guest_sends(r, "---[ end---[ end Kernel panic - not syncing");
	assert_int_equal(r->panics, 2);
	guest_sends(r, "(XEN) Panic on\r\nPanic on CPU 0\r\n(XEN)(XEN) Panic on CP");
	assert_int_equal(r->panics, 2);
	guest_sends(r, "((XEN) Panic on CPU 0:\r\n");
	assert_int_equal(r->panics, 3);
	/* The last words hold the first, if a reason follows. */
	assert_int_equal(r->first_words, 2);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_the_guest_sends_arrives_in_one_write_soon_after),
		T(unbuffered_output_does_not_wait),
		T(a_slow_reader_loses_nothing),
		T(a_stalled_reader_makes_the_port_busy_and_then_ready_again),
		T(an_end_does_not_wait_for_a_stalled_reader_beyond_its_deadline),
		T(a_reader_that_went_away_holds_nobody_up),
		T(input_is_filtered_and_waits_for_room_in_the_port),
		T(a_paste_into_a_terminal_arrives_whole),
		T(the_keys_of_a_terminal_work_while_the_guest_is_deaf),
		T(the_end_of_input_does_not_spin_the_loop),
		T(a_file_as_input_arrives_whole),
		T(a_file_as_output_is_written_where_its_offset_stands),
		T(without_descriptors_output_is_dropped),
		T(the_last_words_of_a_panic_are_recognised_anywhere_in_a_line),
	};
	return cmocka_run_group_tests(tests, 0, 0);
}
