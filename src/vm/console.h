/*
 * console.h - between the guest's port (serial, or hvc0) and two file descriptors.
 *
 * Output: the vcpu's thread appends to a ring; the I/O thread writes it out a moment later (1 ms, or 10 ms after a
 * write of more than a few words), so that many bytes cost one write. When the reader is slow the ring fills, and the guest is held (the port says busy; a guest that sends nevertheless
 * waits). Input: the I/O thread reads, filters keys, and offers what is left to the port.
 *
 * The ring is guarded by the device lock. All other state belongs to the I/O thread.
 *
 * Invariants
 *  C1  used <= CONSOLE_RING; bytes leave in the order in which they came
 *  C2  while used > 0 either the flush timer is armed, or output waits for the descriptor, or a flush is running
 */
#ifndef VM_CONSOLE_H
#define VM_CONSOLE_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/loop.h"
#include "mem/bus.h"

/* What the guest has. Both run under the device lock. */
struct console_port_ops {
	size_t (*receive)(void *port, const uint8_t *bytes, size_t n);	/* offers input; returns how many bytes were taken */
	void (*tx_room)(void *port);					/* there is room for output again */
};
#define CONSOLE_RING 65536u
#define CONSOLE_INPUT 4096u	/* more waits with its sender */
#define CONSOLE_PANICS 3u	/* texts by which a panic is recognised */

struct console {
	struct loop *loop;
	struct bus *bus;
	const struct console_port_ops *ops;
	void *port;
	size_t (*keys)(void *opaque, uint8_t *bytes, size_t len);
	void (*panic_seen)(void *opaque, bool waits);
	void *opaque;
	bool unbuffered;

	int in, out;
	bool out_owned;			/* our own open file description, which we made non-blocking */
	struct loop_source in_source, out_source, flush_timer, flush_now, input_room, input_retry;
	bool in_regular, in_eof, in_paused, out_pollable;
	uint8_t input[CONSOLE_INPUT];
	size_t input_len;
	uint64_t input_taken_ns;	/* when the port last took some */

	pthread_cond_t room;		/* with the device lock: the ring has room, or the console closed */
	uint8_t ring[CONSOLE_RING];
	unsigned head, used;
	uint64_t flush_delay_ns;
	bool held;			/* the port was told that there is no room */
	bool gone;			/* nobody reads any more: output is dropped */
	bool closing;			/* the VM ended: never wait */
	uint8_t panic_match[CONSOLE_PANICS];	/* how much of each text has been seen */
	_Atomic bool input_waits;	/* input is left over: tell the I/O thread when the port has room */
};

/* Takes in and out (either may be -1). 0 or -errno. */
int console_init(struct console *c, struct loop *loop, struct bus *bus, const struct console_port_ops *ops, void *port, int in, int out);
void console_destroy(struct console *c);
void console_start(struct console *c);		/* begin to read */
void console_resume_input(struct console *c);
/* The VM is ending: the guest is never held again. Any thread. */
void console_close(struct console *c);
/* Writes what is left; gives up at deadline_ns or when *abort becomes true. I/O thread, after console_close. */
void console_drain(struct console *c, uint64_t deadline_ns, const bool *abort);

/* For the port (struct uart_host); under the device lock. */
void console_tx(void *console, uint8_t byte);
bool console_tx_ready(void *console);
void console_rx_room(void *console);

#endif
