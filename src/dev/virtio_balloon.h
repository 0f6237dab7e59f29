/*
 * virtio_balloon.h - the balloon: memory that the guest gives up, because we ask for it (inflating) or because it has no use for it just now
 * (free page reporting). Its frames go back to the host; a page that the guest uses again gets a new one, of zeros, on first touch.
 * Source: VIRTIO 1.2, "Traditional Memory Balloon Device".
 *
 * Frames may only go while no vcpu runs guest code, so a notification of the driver only asks for service (`wanted`), and virtio_balloon_serve is called
 * later, at such a moment. How much one call does is bounded, whatever the guest's requests say.
 */
#ifndef DEV_VIRTIO_BALLOON_H
#define DEV_VIRTIO_BALLOON_H

#include "base/stats.h"
#include "dev/virtio.h"

#define BALLOON_STATS 10	/* VIRTIO_BALLOON_S_*: 0 pages swapped in ... 4 free bytes, 5 all bytes, 6 available bytes, 7 caches */
enum balloon_stat { BALLOON_STAT_FREE = 4, BALLOON_STAT_TOTAL = 5, BALLOON_STAT_AVAILABLE = 6, BALLOON_STAT_CACHES = 7 };

struct virtio_balloon_counters { uint64_t requests, inflated, deflated, reported, discarded; };

struct virtio_balloon {
	struct virtio virtio;
	void (*wanted)(void *opaque);	/* under the device lock */
	void *opaque;
	/* The request that is being served: queue VIRTIO_QUEUES if none. */
	struct virtio_chain chain;
	unsigned queue, buffer;
	uint32_t at;			/* bytes of the buffer that were served */
	bool stats_held;		/* the driver's buffer for statistics is here, to be given back when new ones are wanted */
	uint16_t stats_head;
	uint64_t stat[BALLOON_STATS];	/* as the guest last told; ~0: it has not */
	struct virtio_balloon_counters counters;
};

int virtio_balloon_init(struct virtio_balloon *b, struct memory *memory, struct bus *bus, uint64_t base, const struct irq_line *irq,
			void (*wanted)(void *), void *opaque);	/* 0 or -errno */

/*
 * With the device lock, and as memory_discard wants it. True: there is more to do, call again soon. The caller has mmu_frames_changed and memory_release
 * called afterwards.
 */
bool virtio_balloon_serve(struct virtio_balloon *b);

/* The guest shall give up so many pages in all. */
void virtio_balloon_set(struct virtio_balloon *b, uint32_t pages);
uint32_t virtio_balloon_target(const struct virtio_balloon *b);
uint32_t virtio_balloon_held(const struct virtio_balloon *b);	/* so many it has, as it says */
bool virtio_balloon_reports(const struct virtio_balloon *b);	/* free page reporting is on */
/* Asks the guest for new statistics. */
void virtio_balloon_ask_stats(struct virtio_balloon *b);

extern const struct stat_row virtio_balloon_stat_rows[];
extern const size_t virtio_balloon_stat_row_count;

#endif
