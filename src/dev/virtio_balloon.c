/*
 * virtio_balloon.c - the queues of the balloon, and what is done with the pages named in them.
 */
#include "dev/virtio_balloon.h"

#include <string.h>

enum { CONFIG_NUM_PAGES = 0, CONFIG_ACTUAL = 4, CONFIG_LEN = 8 };
#define F_STATS_VQ (1ull << 1)
#define F_DEFLATE_ON_OOM (1ull << 2)
#define F_REPORTING (1ull << 5)

enum role { ROLE_INFLATE, ROLE_DEFLATE, ROLE_STATS, ROLE_REPORTING, ROLE_NONE };
#define SERVE_PAGES 16384u	/* looked at in one call */
#define PFNS_AT_ONCE 256u
#define STAT_SIZE 10u		/* 16 bits of tag, 64 of value, packed */

/* Queues that were not negotiated have no number: those behind them move up. */
static enum role role_of(const struct virtio *v, unsigned queue)
{
	if (queue < 2)
		return queue ? ROLE_DEFLATE : ROLE_INFLATE;
	queue -= 2;
	if (virtio_has(v, F_STATS_VQ) && queue-- == 0)
		return ROLE_STATS;
	return virtio_has(v, F_REPORTING) && queue == 0 ? ROLE_REPORTING : ROLE_NONE;
}

static unsigned queue_of(const struct virtio *v, enum role role)
{
	unsigned queue = 0;

	while (queue < v->type->queues && role_of(v, queue) != role)
		queue++;
	return queue;
}

static void discard(struct virtio_balloon *b, gpa_t p, uint64_t pages)
{
	const int64_t n = memory_discard(b->virtio.memory, p, pages);

	/* What has no frame left to split a table with keeps its frames: nothing is lost by that. */
	if (n > 0)
		b->counters.discarded += (uint64_t)n;
}

/* A piece of an array of page numbers. How many pages it was. */
static uint32_t take_numbers(struct virtio_balloon *b, const struct virtio_buffer *buffer, bool inflate)
{
	uint8_t pfn[PFNS_AT_ONCE * 4];
	uint32_t n = (buffer->len - b->at) / 4;

	if (n > PFNS_AT_ONCE)
		n = PFNS_AT_ONCE;
	if (buffer->writable || !n || memory_read(b->virtio.memory, gpa(buffer->p.v + b->at), pfn, n * 4)) {
		b->at = buffer->len;
		return 0;
	}
	b->at += n * 4;
	if (!inflate) {
		b->counters.deflated += n;
		return n;
	}
	b->counters.inflated += n;
	for (uint32_t i = 0; i < n; i++)
		discard(b, gpa((uint64_t)load_u32(pfn + 4 * i) << PAGE_SHIFT), 1);
	return n;
}

/* A piece of a free range. */
static uint32_t take_range(struct virtio_balloon *b, const struct virtio_buffer *buffer, uint32_t most)
{
	const uint64_t from = buffer->p.v + b->at;
	uint64_t pages = (buffer->len - b->at) / PAGE_SIZE;

	if (pages > most)
		pages = most;
	if (!buffer->writable || !pages || (from & (PAGE_SIZE - 1))) {
		b->at = buffer->len;
		return 0;
	}
	b->at += (uint32_t)(pages * PAGE_SIZE);
	b->counters.reported += pages;
	discard(b, gpa(from), pages);
	return (uint32_t)pages;
}

static void take_stats(struct virtio_balloon *b, const struct virtio_buffer *buffer)
{
	for (uint32_t at = 0; !buffer->writable && at + STAT_SIZE <= buffer->len && at < 64 * STAT_SIZE; at += STAT_SIZE) {
		uint8_t s[STAT_SIZE];

		if (memory_read(b->virtio.memory, gpa(buffer->p.v + at), s, sizeof(s)))
			return;
		if (load_u16(s) < BALLOON_STATS)
			b->stat[load_u16(s)] = load_u64(s + 2);
	}
}

/* Part of the request under way. How many pages it was; the request ends when its last buffer does. */
static uint32_t serve_piece(struct virtio_balloon *b, uint32_t most)
{
	const enum role role = role_of(&b->virtio, b->queue);
	const struct virtio_buffer *buffer = &b->chain.buffer[b->buffer];
	uint32_t pages = 0;

	switch (role) {
	case ROLE_INFLATE: case ROLE_DEFLATE: pages = take_numbers(b, buffer, role == ROLE_INFLATE); break;
	case ROLE_REPORTING: pages = take_range(b, buffer, most); break;
	case ROLE_STATS: take_stats(b, buffer); /* fallthrough */
	case ROLE_NONE: b->at = buffer->len; break;
	}
	if (buffer->len - b->at >= (role == ROLE_REPORTING ? PAGE_SIZE : 4) && b->at < buffer->len)
		return pages;
	b->at = 0;
	if (++b->buffer < b->chain.count)
		return pages;
	if (role == ROLE_STATS) {
		b->stats_held = true;
		b->stats_head = b->chain.head;
	} else {
		virtio_push(&b->virtio, b->queue, b->chain.head, 0);
	}
	b->queue = VIRTIO_QUEUES;
	return pages;
}

bool virtio_balloon_serve(struct virtio_balloon *b)
{
	uint32_t left = SERVE_PAGES;

	for (unsigned pieces = 0; pieces < 1024 && left; pieces++) {
		for (unsigned q = 0; b->queue == VIRTIO_QUEUES && q < b->virtio.type->queues; q++) {
			if (!virtio_pop(&b->virtio, q, &b->chain))
				continue;
			b->queue = q;
			b->buffer = 0;
			b->at = 0;
			b->counters.requests++;
		}
		if (b->queue == VIRTIO_QUEUES || !virtio_works(&b->virtio))
			return false;
		const uint32_t pages = serve_piece(b, left);

		left -= pages < left ? pages : left;
	}
	return true;
}

void virtio_balloon_ask_stats(struct virtio_balloon *b)
{
	const unsigned queue = queue_of(&b->virtio, ROLE_STATS);

	if (!b->stats_held || queue >= b->virtio.type->queues)
		return;
	b->stats_held = false;
	virtio_push(&b->virtio, queue, b->stats_head, 0);
}

void virtio_balloon_set(struct virtio_balloon *b, uint32_t pages) { virtio_set_config(&b->virtio, CONFIG_NUM_PAGES, pages); }
uint32_t virtio_balloon_target(const struct virtio_balloon *b) { return load_u32(b->virtio.config + CONFIG_NUM_PAGES); }
uint32_t virtio_balloon_held(const struct virtio_balloon *b) { return load_u32(b->virtio.config + CONFIG_ACTUAL); }
bool virtio_balloon_reports(const struct virtio_balloon *b) { return virtio_works(&b->virtio) && virtio_has(&b->virtio, F_REPORTING); }

static void balloon_notify(struct virtio *v, unsigned queue)
{
	struct virtio_balloon *b = CONTAINER_OF(v, struct virtio_balloon, virtio);

	(void)queue;
	b->wanted(b->opaque);
}

static void balloon_config_written(struct virtio *v, uint32_t offset, uint32_t value)
{
	if (offset == CONFIG_ACTUAL)
		store_u32(v->config + offset, value);
}

static void balloon_reset(struct virtio *v)
{
	struct virtio_balloon *b = CONTAINER_OF(v, struct virtio_balloon, virtio);

	b->queue = VIRTIO_QUEUES;
	b->stats_held = false;
	memset(b->stat, 0xff, sizeof(b->stat));
	store_u32(v->config + CONFIG_ACTUAL, 0);
}

static const struct virtio_type balloon_type = {
	.id = 5, .name = "balloon", .features = F_STATS_VQ | F_DEFLATE_ON_OOM | F_REPORTING, .queues = 4, .config_len = CONFIG_LEN,
	.notify = balloon_notify, .config_written = balloon_config_written, .reset = balloon_reset,
};

int virtio_balloon_init(struct virtio_balloon *b, struct memory *memory, struct bus *bus, uint64_t base, const struct irq_line *irq,
			void (*wanted)(void *), void *opaque)
{
	*b = (struct virtio_balloon){ .wanted = wanted, .opaque = opaque };
	return virtio_init(&b->virtio, &balloon_type, memory, bus, base, irq);
}

#define ROW(member, help) STAT_ROW(struct virtio_balloon_counters, member, help)
const struct stat_row virtio_balloon_stat_rows[] = {
	ROW(requests, "requests of the balloon's driver"),
	ROW(inflated, "pages that went into the balloon"),
	ROW(deflated, "pages that the guest took out of it"),
	ROW(reported, "free pages that the guest reported"),
	ROW(discarded, "of all these, pages that lost a frame"),
};
const size_t virtio_balloon_stat_row_count = ARRAY_LEN(virtio_balloon_stat_rows);
