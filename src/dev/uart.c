/*
 * uart.c - the 16550A.
 */
#include "dev/uart.h"

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };
enum { IER_RDA = 1, IER_THRE = 2, IER_RLS = 4, IER_MSI = 8 };
enum { IIR_NONE = 1, IIR_MSI = 0, IIR_THRE = 2, IIR_RDA = 4, IIR_RLS = 6, IIR_TIMEOUT = 12, IIR_FIFO = 0xc0 };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2, FCR_CLEAR_TX = 4, FCR_TRIGGER = 0xc0 };
enum { LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 16, MCR_MASK = 31 };
enum { LSR_DR = 1, LSR_OE = 2, LSR_THRE = 0x20, LSR_TEMT = 0x40 };
enum { MSR_DCTS = 1, MSR_DDSR = 2, MSR_TERI = 4, MSR_DDCD = 8, MSR_CTS = 16, MSR_DSR = 32, MSR_RI = 64, MSR_DCD = 128 };

const struct stat_row uart_stat_rows[] = {
	STAT_ROW(struct uart_counters, tx_bytes, "bytes the guest sent"),
	STAT_ROW(struct uart_counters, rx_bytes, "bytes the guest received"),
	STAT_ROW(struct uart_counters, rx_overruns, "bytes lost in loopback because the FIFO was full"),
	STAT_ROW(struct uart_counters, interrupts, "times the interrupt line rose"),
};
const size_t uart_stat_row_count = ARRAY_LEN(uart_stat_rows);

static bool uart_fifo_on(const struct uart *u) { return u->fcr & FCR_ENABLE; }

static unsigned uart_rx_room_left(const struct uart *u)
{
	return (uart_fifo_on(u) ? UART_FIFO : 1) - u->rx_count;
}

static unsigned uart_trigger(const struct uart *u)
{
	static const uint8_t level[4] = { 1, 4, 8, 14 };

	return uart_fifo_on(u) ? level[u->fcr >> 6] : 1;
}

static bool uart_tx_ready(const struct uart *u)
{
	return u->mcr & MCR_LOOP ? true : u->host.tx_ready(u->host.opaque);
}

/* The highest-priority condition that is enabled, as IIR reports it. */
static uint8_t uart_condition(const struct uart *u)
{
	if ((u->ier & IER_RLS) && u->lsr_errors)
		return IIR_RLS;
	if ((u->ier & IER_RDA) && u->rx_count)
		/* Below the trigger level the time-out applies; our characters take no time, so it is over at once. */
		return u->rx_count >= uart_trigger(u) ? IIR_RDA : IIR_TIMEOUT;
	if ((u->ier & IER_THRE) && u->thr_pending)
		return IIR_THRE;
	if ((u->ier & IER_MSI) && u->msr_delta)
		return IIR_MSI;
	return IIR_NONE;
}

static void uart_update(struct uart *u)
{
	const bool line = uart_condition(u) != IIR_NONE;

	if (line == u->line)
		return;
	u->line = line;
	u->counters.interrupts += line;
	irq_line_set(&u->irq, line);
}

/* Modem inputs: a ready terminal, or in loopback the modem outputs. */
static uint8_t uart_modem_lines(const struct uart *u)
{
	if (!(u->mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (uint8_t)((u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
			 (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void uart_modem_changed(struct uart *u)
{
	const uint8_t now = uart_modem_lines(u), changed = now ^ u->msr_lines;

	/* Bits 0, 1 and 3 tell a change; bit 2 only that RI fell ("trailing edge"). */
	u->msr_delta |= (uint8_t)((changed >> 4 & (MSR_DCTS | MSR_DDSR | MSR_DDCD)) | (changed & u->msr_lines & MSR_RI ? MSR_TERI : 0));
	u->msr_lines = now;
}

static void uart_push(struct uart *u, uint8_t byte)
{
	u->rx[(u->rx_head + u->rx_count++) % UART_FIFO] = byte;
	u->counters.rx_bytes++;
}

/*
 * Whether somebody reads: by interrupts, which a PC's port sends only with OUT2 set, or by polling LSR and nothing else, as one who waits for input does
 * (who sends looks once a byte). A driver that probes the port and sets it up empties it: what it threw away then would be lost for good.
 */
static bool uart_has_reader(const struct uart *u)
{
	return ((u->ier & IER_RDA) && (u->mcr & MCR_OUT2)) || u->polls >= UART_POLLS;
}

size_t uart_receive(struct uart *u, const uint8_t *bytes, size_t n)
{
	size_t taken = 0;

	if ((u->mcr & MCR_LOOP) || !uart_has_reader(u))
		return 0;	/* the line is cut off, or nobody listens; bytes wait with the host */
	while (taken < n && uart_rx_room_left(u))
		uart_push(u, bytes[taken++]);
	uart_update(u);
	return taken;
}

void uart_tx_room(struct uart *u)
{
	u->thr_pending = true;
	uart_update(u);
}

static void uart_write_data(struct uart *u, uint8_t byte)
{
	u->thr_pending = false;
	uart_update(u);
	if (!(u->mcr & MCR_LOOP)) {
		u->counters.tx_bytes++;
		u->host.tx(u->host.opaque, byte);
	} else if (uart_rx_room_left(u)) {
		uart_push(u, byte);
	} else {
		u->counters.rx_overruns++;
		u->lsr_errors |= LSR_OE;
	}
	/* Without room at the host, uart_tx_room will tell when the transmitter is empty. */
	u->thr_pending = uart_tx_ready(u);
}

static uint8_t uart_read_data(struct uart *u)
{
	uint8_t byte = 0;

	if (u->rx_count) {
		byte = u->rx[u->rx_head];
		u->rx_head = (u->rx_head + 1) % UART_FIFO;
		if (!--u->rx_count && !(u->mcr & MCR_LOOP))
			u->host.rx_room(u->host.opaque);
	}
	return byte;
}

static void uart_write_fcr(struct uart *u, uint8_t v)
{
	const bool toggled = (v ^ u->fcr) & FCR_ENABLE;

	u->fcr = v & FCR_ENABLE ? v & (FCR_ENABLE | FCR_TRIGGER) : 0;
	/*
	 * The data sheet empties the receiver here in any case. But Linux begins to listen just before it sets the FIFO up, and what has come by then was
	 * typed: it stays if it is announced by an interrupt and the FIFO is on.
	 */
	if ((toggled || (v & FCR_CLEAR_RX)) && !((v & FCR_ENABLE) && (u->ier & IER_RDA))) {
		u->rx_count = 0;
		u->host.rx_room(u->host.opaque);
	}
	if (toggled || (v & FCR_CLEAR_TX))
		u->thr_pending = uart_tx_ready(u);
}

static void uart_write_ier(struct uart *u, uint8_t v)
{
	/* Enabling the transmitter interrupt while the transmitter is empty raises it at once. */
	if ((v & IER_THRE) && !(u->ier & IER_THRE))
		u->thr_pending = uart_tx_ready(u);
	if ((v & IER_RDA) && !(u->ier & IER_RDA))
		u->host.rx_room(u->host.opaque);
	u->ier = v & (IER_RDA | IER_THRE | IER_RLS | IER_MSI);
}

static uint8_t uart_read_iir(struct uart *u)
{
	const uint8_t id = uart_condition(u);

	if (id == IIR_THRE)
		u->thr_pending = false;
	return (uint8_t)(id | (uart_fifo_on(u) ? IIR_FIFO : 0));
}

static uint8_t uart_read_lsr(struct uart *u)
{
	const uint8_t v = (uint8_t)((u->rx_count ? LSR_DR : 0) | u->lsr_errors | (uart_tx_ready(u) ? LSR_THRE | LSR_TEMT : 0));

	u->lsr_errors = 0;
	if (u->polls < UART_POLLS && ++u->polls == UART_POLLS)
		u->host.rx_room(u->host.opaque);
	return v;
}

static uint8_t uart_read_msr(struct uart *u)
{
	const uint8_t v = u->msr_lines | u->msr_delta;

	u->msr_delta = 0;
	return v;
}

static uint64_t uart_read(void *dev, uint64_t offset, unsigned size)
{
	struct uart *u = dev;
	const bool dlab = u->lcr & LCR_DLAB;
	uint8_t v = 0xff;

	if (size != 1)
		return ~0ull;
	/* Reading what has come is a part of polling. */
	if (offset != REG_LSR && !(offset == REG_DATA && !dlab && u->rx_count))
		u->polls = 0;
	switch (offset) {
	case REG_DATA: v = dlab ? u->dll : uart_read_data(u); break;
	case REG_IER: v = dlab ? u->dlm : u->ier; break;
	case REG_IIR_FCR: v = uart_read_iir(u); break;
	case REG_LCR: v = u->lcr; break;
	case REG_MCR: v = u->mcr; break;
	case REG_LSR: v = uart_read_lsr(u); break;
	case REG_MSR: v = uart_read_msr(u); break;
	case REG_SCR: v = u->scr; break;
	}
	uart_update(u);
	return v;
}

static void uart_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
	struct uart *u = dev;
	const bool dlab = u->lcr & LCR_DLAB;
	const uint8_t v = (uint8_t)value;

	if (size != 1)
		return;
	u->polls = 0;
	switch (offset) {
	case REG_DATA:
		if (dlab)
			u->dll = v;
		else
			uart_write_data(u, v);
		break;
	case REG_IER:
		if (dlab)
			u->dlm = v;
		else
			uart_write_ier(u, v);
		break;
	case REG_IIR_FCR: uart_write_fcr(u, v); break;
	case REG_LCR: u->lcr = v; break;
	case REG_MCR:
		u->mcr = v & MCR_MASK;
		uart_modem_changed(u);
		if (!(u->mcr & MCR_LOOP))
			u->host.rx_room(u->host.opaque);
		break;
	case REG_SCR: u->scr = v; break;
	}
	uart_update(u);
}

int uart_init(struct uart *u, struct bus *bus, uint16_t base, const struct irq_line *irq, const struct uart_host *host)
{
	const struct bus_range range = { .base = base, .len = 8, .read = uart_read, .write = uart_write, .dev = u, .name = "uart" };

	*u = (struct uart){ .irq = *irq, .host = *host, .dll = 12 };
	u->msr_lines = uart_modem_lines(u);
	return bus_claim(bus, BUS_PORT, &range);
}
