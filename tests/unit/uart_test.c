/*
 * uart_test.c - the serial port, through the bus as a driver sees it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "dev/uart.h"

enum { BASE = 0x3f8, DATA = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

struct rig {
	struct bus bus;
	struct uart uart;
	char sent[256];
	unsigned sent_len, edges, room_calls;
	bool line, ready;
};

static void rig_tx(void *opaque, uint8_t byte)
{
	struct rig *r = opaque;
	r->sent[r->sent_len++ % sizeof(r->sent)] = (char)byte;
}
static bool rig_ready(void *opaque) { return ((struct rig *)opaque)->ready; }
static void rig_room(void *opaque) { ((struct rig *)opaque)->room_calls++; }
static void rig_line(void *opaque, unsigned pin, bool level)
{
	struct rig *r = opaque;
	assert_int_equal(pin, 4);
	r->edges += level && !r->line;
	r->line = level;
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	const struct uart_host host = { rig_tx, rig_ready, rig_room, r };
	const struct irq_line irq = { rig_line, r, 4 };

	r->ready = true;
	bus_init(&r->bus);
	*state = r;
	return uart_init(&r->uart, &r->bus, BASE, &irq, &host);
}

static int teardown(void **state)
{
	struct rig *r = *state;
	bus_destroy(&r->bus);
	free(r);
	return 0;
}

static void out(struct rig *r, unsigned reg, uint8_t v) { bus_write(&r->bus, BUS_PORT, BASE + reg, 1, v); }
static uint8_t in(struct rig *r, unsigned reg) { return (uint8_t)bus_read(&r->bus, BUS_PORT, BASE + reg, 1); }

static void a_byte_written_is_sent_and_the_transmitter_is_empty_again(void **state)
{
	struct rig *r = *state;
	out(r, DATA, 'A');
	assert_int_equal(r->sent_len, 1);
	assert_int_equal(r->sent[0], 'A');
	assert_int_equal(in(r, LSR), 0x60);
}

static void the_divisor_latch_hides_data_and_interrupt_enable(void **state)
{
	struct rig *r = *state;
	out(r, IER, 5);
	out(r, LCR, 0x83);
	out(r, DATA, 0x34);
	out(r, IER, 0x12);
	assert_int_equal(r->sent_len, 0);
	assert_int_equal(in(r, DATA), 0x34);
	assert_int_equal(in(r, IER), 0x12);
	out(r, LCR, 0x03);
	assert_int_equal(in(r, IER), 5);
}

static void it_is_recognised_as_a_16550a_with_scratch_register(void **state)
{
	struct rig *r = *state;
	out(r, SCR, 0xa5);
	assert_int_equal(in(r, SCR), 0xa5);
	assert_int_equal(in(r, IIR), 0x01);
	out(r, FCR, 1);
	assert_int_equal(in(r, IIR), 0xc1);
	out(r, FCR, 0);
	assert_int_equal(in(r, IIR), 0x01);
	/* A 16750 would keep bit 5 of FCR, a 16C950 would answer in EFR: neither must show. */
	out(r, IER, 0xff);
	assert_int_equal(in(r, IER), 0x0f);
}

static void enabling_the_transmitter_interrupt_raises_it_once_until_read_or_written(void **state)
{
	struct rig *r = *state;
	out(r, IER, 2);
	assert_true(r->line);
	assert_int_equal(in(r, IIR), 0x02);
	assert_false(r->line);
	assert_int_equal(in(r, IIR), 0x01);
	out(r, DATA, 'x'); /* goes at once: an edge for the next */
	assert_true(r->line);
	assert_int_equal(r->edges, 2);
	out(r, IER, 0);
	assert_false(r->line);
}

static void received_bytes_wait_in_order_and_raise_data_or_timeout_by_trigger_level(void **state)
{
	struct rig *r = *state;
	out(r, FCR, 0x81); /* trigger at 8 */
	out(r, MCR, 8);
	out(r, IER, 1);
	assert_int_equal(uart_receive(&r->uart, (const uint8_t *)"abc", 3), 3);
	assert_true(r->line);
	assert_int_equal(in(r, IIR), 0xcc);
	assert_int_equal(uart_receive(&r->uart, (const uint8_t *)"defgh", 5), 5);
	assert_int_equal(in(r, IIR), 0xc4);
	for (char c = 'a'; c <= 'h'; c++) {
		assert_int_equal(in(r, LSR) & 1, 1);
		assert_int_equal(in(r, DATA), c);
	}
	assert_int_equal(in(r, LSR) & 1, 0);
	assert_false(r->line);
	assert_true(r->room_calls > 0);
}

static void poll(struct rig *r)
{
	for (unsigned i = 0; i < UART_POLLS; i++)
		in(r, LSR);
}

static void bytes_wait_outside_until_the_guest_reads_the_port(void **state)
{
	struct rig *r = *state;

	/* A driver that sets the port up: empties it, looks at it, sends something. */
	out(r, FCR, 7);
	for (unsigned i = 0; i < 2 * UART_POLLS; i++) {
		in(r, LSR);
		out(r, DATA, '.');
	}
	in(r, DATA);
	out(r, IER, 0xf); /* a probe */
	assert_int_equal(uart_receive(&r->uart, (const uint8_t *)"p", 1), 0);
	out(r, IER, 0);
	out(r, MCR, 0xb);
	r->room_calls = 0;
	out(r, IER, 1);
	assert_int_equal(r->room_calls, 1);
	assert_int_equal(uart_receive(&r->uart, (const uint8_t *)"p", 1), 1);
	out(r, FCR, 1);
	out(r, FCR, 7);
	assert_int_equal(in(r, DATA), 'p');
	out(r, IER, 0);
	assert_int_equal(uart_receive(&r->uart, (const uint8_t *)"q", 1), 0);
	/* One who polls. */
	r->room_calls = 0;
	poll(r);
	assert_int_equal(r->room_calls, 1);
	assert_int_equal(uart_receive(&r->uart, (const uint8_t *)"qr", 2), 2);
	assert_int_equal(in(r, LSR) & 1, 1);
	assert_int_equal(in(r, DATA), 'q');
	assert_int_equal(in(r, LSR) & 1, 1);
	assert_int_equal(in(r, DATA), 'r');
	assert_int_equal(uart_receive(&r->uart, (const uint8_t *)"s", 1), 1);
}

static void the_fifo_takes_sixteen_bytes_and_one_when_off(void **state)
{
	struct rig *r = *state;
	poll(r);
	assert_int_equal(uart_receive(&r->uart, (const uint8_t *)"0123456789abcdefXYZ", 19), 1);
	out(r, FCR, 3);
	assert_int_equal(in(r, LSR) & 1, 0);
	poll(r);
	assert_int_equal(uart_receive(&r->uart, (const uint8_t *)"0123456789abcdefXYZ", 19), 16);
	assert_int_equal(uart_receive(&r->uart, (const uint8_t *)"X", 1), 0);
	assert_int_equal(in(r, LSR) & 2, 0);
}

static void received_data_outranks_the_transmitter(void **state)
{
	struct rig *r = *state;
	out(r, FCR, 1);
	out(r, MCR, 8);
	out(r, IER, 3);
	uart_receive(&r->uart, (const uint8_t *)"z", 1);
	assert_int_equal(in(r, IIR), 0xc4);
	assert_int_equal(in(r, DATA), 'z');
	assert_int_equal(in(r, IIR), 0xc2);
}

static void a_slow_host_makes_the_transmitter_busy_and_an_interrupt_tells_when_it_is_not(void **state)
{
	struct rig *r = *state;
	out(r, IER, 2);
	in(r, IIR);
	r->ready = false;
	out(r, DATA, 'q');
	assert_int_equal(in(r, LSR) & 0x60, 0);
	assert_false(r->line);
	r->ready = true;
	uart_tx_room(&r->uart);
	assert_true(r->line);
	assert_int_equal(in(r, LSR) & 0x60, 0x60);
}

static void loopback_returns_bytes_and_modem_lines(void **state)
{
	struct rig *r = *state;
	assert_int_equal(in(r, MSR) & 0xf0, 0xb0);
	out(r, FCR, 1);
	out(r, MCR, 0x1a); /* loop, OUT2, RTS: what Linux's probe writes */
	assert_int_equal(in(r, MSR) & 0xf0, 0x90);
	out(r, DATA, 'L');
	assert_int_equal(r->sent_len, 0);
	assert_int_equal(in(r, DATA), 'L');
	assert_int_equal(uart_receive(&r->uart, (const uint8_t *)"k", 1), 0);
	out(r, MCR, 0x0b);
	assert_int_equal(in(r, MSR) & 0xf0, 0xb0);
}

static void a_modem_change_interrupts_until_read(void **state)
{
	struct rig *r = *state;
	out(r, IER, 8);
	out(r, MCR, 0x10);
	assert_true(r->line);
	assert_int_equal(in(r, IIR), 0x00);
	assert_int_equal(in(r, MSR), 0x0b);
	assert_false(r->line);
}

static void an_overrun_in_loopback_is_a_line_error(void **state)
{
	struct rig *r = *state;
	out(r, IER, 4);
	out(r, MCR, 0x10);
	out(r, DATA, '1');
	out(r, DATA, '2');
	assert_true(r->line);
	assert_int_equal(in(r, IIR), 0x06);
	assert_int_equal(in(r, LSR) & 2, 2);
	assert_false(r->line);
	assert_int_equal(in(r, DATA), '1');
}

static void wide_accesses_read_ones_and_change_nothing(void **state)
{
	struct rig *r = *state;
	assert_int_equal(bus_read(&r->bus, BUS_PORT, BASE, 2), 0xffff);
	bus_write(&r->bus, BUS_PORT, BASE, 4, 0x41414141);
	assert_int_equal(r->sent_len, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_byte_written_is_sent_and_the_transmitter_is_empty_again),
		T(the_divisor_latch_hides_data_and_interrupt_enable),
		T(it_is_recognised_as_a_16550a_with_scratch_register),
		T(enabling_the_transmitter_interrupt_raises_it_once_until_read_or_written),
		T(received_bytes_wait_in_order_and_raise_data_or_timeout_by_trigger_level),
		T(bytes_wait_outside_until_the_guest_reads_the_port),
		T(the_fifo_takes_sixteen_bytes_and_one_when_off),
		T(received_data_outranks_the_transmitter),
		T(a_slow_host_makes_the_transmitter_busy_and_an_interrupt_tells_when_it_is_not),
		T(loopback_returns_bytes_and_modem_lines),
		T(a_modem_change_interrupts_until_read),
		T(an_overrun_in_loopback_is_a_line_error),
		T(wide_accesses_read_ones_and_change_nothing),
	};
	return cmocka_run_group_tests(tests, 0, 0);
}
