/*
 * pit.c - the interval timer.
 */
#include "dev/pit.h"

enum { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };
enum { CONTROL = 3, CONTROL_BCD = 1, READ_BACK = 3, READ_BACK_NO_COUNT = 1 << 5, READ_BACK_NO_STATUS = 1 << 4 };
enum { STATUS_OUT = 1 << 7, STATUS_NULL = 1 << 6 };
enum { B_GATE2 = 1, B_SPEAKER = 2, B_REFRESH = 1 << 4, B_OUT2 = 1 << 5 };
enum { PIT_SECOND_NS = 1000000000 };

/* What a mode's gate does, and where in time, in ticks after its start, the output rises. */
struct pit_mode {
	bool periodic;
	bool gate_starts;	/* the rising gate starts the count (again); before the first, modes 1 and 5 wait */
	bool needs_trigger;
	uint8_t edge_after;	/* the output rises so many ticks after the count's end */
};
static const struct pit_mode pit_modes[6] = {
	[0] = { 0 },
	[1] = { .gate_starts = true, .needs_trigger = true },
	[2] = { .periodic = true, .gate_starts = true },
	[3] = { .periodic = true, .gate_starts = true },
	[4] = { .edge_after = 1 },
	[5] = { .gate_starts = true, .needs_trigger = true, .edge_after = 1 },
};

static const struct pit_mode *pit_mode(const struct pit_channel *c) { return &pit_modes[c->mode]; }

static bool pit_counts(const struct pit_channel *c)
{
	return c->loaded && (pit_mode(c)->needs_trigger ? c->triggered : c->gate);
}

static uint64_t pit_ticks(const struct pit_channel *c, uint64_t now)
{
	return c->held + (pit_counts(c) ? (uint64_t)((unsigned __int128)(now - c->since_ns) * PIT_HZ / PIT_SECOND_NS) : 0);
}

static bool pit_out(const struct pit_channel *c, uint64_t now)
{
	const uint64_t t = pit_ticks(c, now);

	switch (c->mode) {
	case 0: return c->loaded && t >= c->count;
	case 1: return !pit_counts(c) || t >= c->count;
	case 2: return !pit_counts(c) || t % c->count != c->count - 1;
	case 3: return !pit_counts(c) || t % c->count < (c->count + 1) / 2;
	default: return !pit_counts(c) || t != c->count;
	}
}

static uint16_t pit_to_bcd(uint32_t v) { return (uint16_t)(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12); }
static uint32_t pit_from_bcd(uint16_t v) { return (v & 15) + (v >> 4 & 15) * 10u + (v >> 8 & 15) * 100u + (v >> 12) * 1000u; }

/* The counting element, as it is read: down from the count; those that do not repeat go on below zero. */
static uint16_t pit_count(const struct pit_channel *c, uint64_t now)
{
	const uint32_t range = c->bcd ? 10000 : 65536;
	uint64_t t = pit_ticks(c, now);

	if (pit_mode(c)->periodic)
		t = (c->mode == 3 ? t * 2 : t) % c->count;
	const uint32_t value = (uint32_t)((c->count + range - t % range) % range);
	return c->bcd ? pit_to_bcd(value) : (uint16_t)value;
}

/* ---- channel 0's edges ---------------------------------------------------------------------------------------------- */
static uint64_t pit_edges(const struct pit_channel *c, uint64_t now)
{
	const uint64_t t = pit_ticks(c, now), first = c->count + pit_mode(c)->edge_after;

	if (!c->loaded)
		return 0;
	return pit_mode(c)->periodic ? t / c->count : t >= first;
}

/* When edge number n (from 1) comes; PIT_NEVER if there is none. */
static uint64_t pit_edge_ns(const struct pit_channel *c, uint64_t n)
{
	if (!pit_counts(c) || (n > 1 && !pit_mode(c)->periodic))
		return PIT_NEVER;
	const uint64_t tick = n * c->count + pit_mode(c)->edge_after;
	return c->since_ns + (uint64_t)(((unsigned __int128)(tick - c->held) * PIT_SECOND_NS + PIT_HZ - 1) / PIT_HZ);
}

static void pit_arm(struct pit *pit)
{
	uint64_t at = pit->owed ? 0 : pit_edge_ns(&pit->channel[0], pit->edges + 1);

	if (at < pit->last_ns + PIT_MIN_NS)
		at = pit->last_ns + PIT_MIN_NS;
	pit->host.arm(pit->host.opaque, at);
}

void pit_fire(struct pit *pit)
{
	const uint64_t now = pit->host.now_ns(), edges = pit_edges(&pit->channel[0], now);
	const uint64_t due = pit->owed + (edges - pit->edges);

	pit->edges = edges;
	pit->owed = due > PIT_OWED_MAX ? PIT_OWED_MAX : (uint32_t)due;
	if (pit->owed && now >= pit->last_ns + PIT_MIN_NS) {
		pit->owed--;
		pit->last_ns = now;
		irq_line_set(&pit->irq, true);
		irq_line_set(&pit->irq, false);
	}
	pit_arm(pit);
}

/* The count starts at its beginning. */
static void pit_start(struct pit *pit, struct pit_channel *c)
{
	c->since_ns = pit->host.now_ns();
	c->held = 0;
	if (c != &pit->channel[0])
		return;
	pit->edges = 0;
	pit->owed = 0;
	pit_arm(pit);
}

/* ---- ports ---------------------------------------------------------------------------------------------------------- */
static void pit_latch(struct pit_channel *c, uint64_t now, bool count, bool status)
{
	if (count && !c->count_latched) {	/* a second one is ignored until the first was read */
		c->latch = pit_count(c, now);
		c->count_latched = true;
	}
	if (status && !c->status_latched) {
		c->status = (uint8_t)((pit_out(c, now) ? STATUS_OUT : 0) | (c->loaded ? 0 : STATUS_NULL) | c->access << 4 | c->mode << 1 | c->bcd);
		c->status_latched = true;
	}
}

static void pit_control(struct pit *pit, uint8_t v)
{
	const unsigned which = v >> 6, access = v >> 4 & 3;

	if (which == READ_BACK) {
		for (unsigned i = 0; i < 3; i++)
			if (v >> (i + 1) & 1)
				pit_latch(&pit->channel[i], pit->host.now_ns(), !(v & READ_BACK_NO_COUNT), !(v & READ_BACK_NO_STATUS));
		return;
	}
	struct pit_channel *c = &pit->channel[which];
	if (access == ACCESS_LATCH) {
		pit_latch(c, pit->host.now_ns(), true, false);
		return;
	}
	const unsigned mode = v >> 1 & 7;
	*c = (struct pit_channel){ .mode = (uint8_t)(mode > 5 ? mode - 4 : mode), .access = (uint8_t)access, .bcd = v & CONTROL_BCD, .gate = c->gate, .count = c->count };
	pit_start(pit, c);
}

static void pit_load(struct pit *pit, struct pit_channel *c, uint16_t v)
{
	c->count = c->bcd ? pit_from_bcd(v) : v;
	if (!c->count)
		c->count = c->bcd ? 10000 : 65536;
	const bool runs = pit_counts(c) && pit_mode(c)->needs_trigger;
	c->loaded = true;
	if (!runs)		/* a one-shot that runs ends as it began */
		pit_start(pit, c);
}

static void pit_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
	struct pit *pit = dev;
	const uint8_t v = (uint8_t)value;

	if (size != 1)
		return;
	if (offset == CONTROL) {
		pit_control(pit, v);
		return;
	}
	struct pit_channel *c = &pit->channel[offset];
	if (c->access == ACCESS_LOW) {
		pit_load(pit, c, v);
	} else if (c->access == ACCESS_HIGH) {
		pit_load(pit, c, (uint16_t)(v << 8));
	} else {
		if (c->write_high)
			pit_load(pit, c, (uint16_t)(v << 8 | c->low));
		else
			c->low = v;
		c->write_high = !c->write_high;
	}
}

static uint64_t pit_read(void *dev, uint64_t offset, unsigned size)
{
	struct pit *pit = dev;

	if (size != 1 || offset == CONTROL)
		return ~0ull;
	struct pit_channel *c = &pit->channel[offset];
	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	const uint16_t v = c->count_latched ? c->latch : pit_count(c, pit->host.now_ns());
	const bool high = c->access == ACCESS_HIGH || (c->access == ACCESS_BOTH && c->read_high);
	if (c->access == ACCESS_BOTH)
		c->read_high = !c->read_high;
	if (c->access != ACCESS_BOTH || high)
		c->count_latched = false;
	return high ? v >> 8 : v & 0xff;
}

static uint64_t pit_read_b(void *dev, uint64_t offset, unsigned size)
{
	struct pit *pit = dev;
	const struct pit_channel *c = &pit->channel[2];

	(void)offset, (void)size;
	pit->refresh = !pit->refresh;	/* nothing is refreshed: whoever looks sees it toggle */
	return (c->gate ? B_GATE2 : 0) | (pit->speaker ? B_SPEAKER : 0) | (pit->refresh ? B_REFRESH : 0) | (pit_out(c, pit->host.now_ns()) ? B_OUT2 : 0);
}

static void pit_write_b(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
	struct pit *pit = dev;
	struct pit_channel *c = &pit->channel[2];
	const bool gate = value & B_GATE2;

	(void)offset, (void)size;
	pit->speaker = value & B_SPEAKER;
	if (gate == c->gate)
		return;
	const uint64_t now = pit->host.now_ns();
	if (!gate && !pit_mode(c)->needs_trigger)
		c->held = pit_mode(c)->gate_starts ? 0 : pit_ticks(c, now);
	c->gate = gate;
	if (gate && pit_mode(c)->gate_starts) {
		c->triggered = c->loaded;
		pit_start(pit, c);
	} else if (gate) {
		c->since_ns = now;
	}
}

int pit_init(struct pit *pit, struct bus *bus, const struct irq_line *irq, const struct pit_host *host)
{
	const struct bus_range ports = { .base = PIT_PORT, .len = 4, .read = pit_read, .write = pit_write, .dev = pit, .name = "pit" };
	const struct bus_range port_b = { .base = PIT_PORT_B, .len = 1, .read = pit_read_b, .write = pit_write_b, .dev = pit, .name = "pit gate" };

	*pit = (struct pit){ .host = *host, .irq = *irq };
	for (unsigned i = 0; i < 3; i++)
		pit->channel[i] = (struct pit_channel){ .access = ACCESS_BOTH, .count = 65536, .gate = i != 2 };
	const int err = bus_claim(bus, BUS_PORT, &ports);
	return err ? err : bus_claim(bus, BUS_PORT, &port_b);
}
