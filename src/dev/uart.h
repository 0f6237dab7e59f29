/*
 * uart.h - a 16550A serial port: 16-byte FIFOs, interrupts by priority, loopback.
 * Source: the registers as in the PC16550D data sheet, "Registers" and "FIFO Interrupt Mode Operation".
 *
 * Sending takes no time: a byte written is handed to host->tx at once, and the transmitter is empty again if the host has room
 * (tx_ready). Receiving: the host offers bytes to uart_receive, which takes what fits in the FIFO, and nothing before the guest reads the port (by the
 * received-data interrupt with OUT2 set, or by UART_POLLS reads of LSR in a row); when the guest has made room or begins to read, host->rx_room is called.
 *
 * Invariants
 *  U1  rx_count <= 16 (1 with the FIFO off)
 *  U2  the line is high exactly while an enabled interrupt condition stands
 * Lock: everything here runs under the device lock (the bus takes it; callers of uart_receive and uart_tx_room do).
 */
#ifndef DEV_UART_H
#define DEV_UART_H

#include "base/stats.h"
#include "dev/irq.h"
#include "mem/bus.h"

struct uart_host {
	void (*tx)(void *opaque, uint8_t byte);
	bool (*tx_ready)(void *opaque);
	void (*rx_room)(void *opaque);
	void *opaque;
};

#define UART_FIFO 16u
#define UART_POLLS 16u
struct uart_counters { uint64_t tx_bytes, rx_bytes, rx_overruns, interrupts; };
struct uart {
	struct uart_host host;
	struct irq_line irq;
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
	uint8_t lsr_errors;		/* sticky until LSR is read */
	uint8_t msr_delta;		/* sticky until MSR is read */
	uint8_t msr_lines;		/* modem inputs as last seen */
	uint8_t polls;			/* reads of LSR since anything else was done here, up to UART_POLLS */
	bool thr_pending;		/* the transmitter became empty and nobody has been told */
	bool line;
	uint8_t rx[UART_FIFO];
	unsigned rx_head, rx_count;
	struct uart_counters counters;
};

/* Claims 8 ports at base. 0 or -errno of bus_claim. */
int uart_init(struct uart *u, struct bus *bus, uint16_t base, const struct irq_line *irq, const struct uart_host *host);
/* Offers received bytes; returns how many were taken. */
size_t uart_receive(struct uart *u, const uint8_t *bytes, size_t n);
/* The host has room for output again. */
void uart_tx_room(struct uart *u);

extern const struct stat_row uart_stat_rows[];
extern const size_t uart_stat_row_count;

#endif
