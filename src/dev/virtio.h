/*
 * virtio.h - what all virtio devices have in common: status and feature negotiation, configuration space, split virtqueues, and the
 * memory-mapped transport through which a driver finds them.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, "Basic Facilities of a Virtio Device", "Split Virtqueues", "Virtio Over MMIO".
 *
 * Only devices of version 1 exist here (no legacy interface). A struct virtio is embedded in its device; everything in it is under the device lock.
 *
 * What a driver may do wrong is caught in one place, virtio_pop: it alone reads indices, descriptors and lengths, once, into a struct virtio_chain of our own.
 * Addresses in a chain are the driver's, and whoever uses them (memory_read, memory_write, memory_discard) checks that they are RAM. A queue that makes no sense
 * sets DEVICE_NEEDS_RESET, and the device does nothing more until the driver resets it.
 */
#ifndef DEV_VIRTIO_H
#define DEV_VIRTIO_H

#include "dev/irq.h"
#include "mem/bus.h"
#include "mem/memory.h"

#define VIRTIO_QUEUES 8
#define VIRTIO_QUEUE_SIZE 128u	/* entries at the most; a power of 2 */
#define VIRTIO_CHAIN_MAX 128u	/* buffers of one request, indirect ones included */
#define VIRTIO_CONFIG_MAX 64u
#define VIRTIO_MMIO_SIZE 0x200u

#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_VERSION_1 (1ull << 32)

enum virtio_status {
	VIRTIO_ACKNOWLEDGE = 1, VIRTIO_DRIVER = 2, VIRTIO_DRIVER_OK = 4, VIRTIO_FEATURES_OK = 8, VIRTIO_NEEDS_RESET = 64, VIRTIO_FAILED = 128,
};

struct virtio_queue {
	bool ready;
	uint16_t size;			/* entries: a power of 2, VIRTIO_QUEUE_SIZE at the most */
	uint16_t next;			/* of the available ring: how many requests were taken, modulo 2^16 */
	uint16_t used;			/* of the used ring: how many were given back */
	gpa_t desc, driver, device;	/* where the driver says that the three parts lie; not checked */
};

/* One request. Buffers that the device reads come before those that it writes. */
struct virtio_buffer { gpa_t p; uint32_t len; bool writable; };
struct virtio_chain {
	uint16_t head;
	unsigned count;
	struct virtio_buffer buffer[VIRTIO_CHAIN_MAX];
};

struct virtio;
struct virtio_type {
	uint32_t id;			/* "Device Types" */
	const char *name;
	uint64_t features;		/* offered, beside those of this file */
	unsigned queues;
	uint32_t config_len;
	void (*notify)(struct virtio *v, unsigned queue);	/* the driver is at work, the queue is ready */
	void (*config_written)(struct virtio *v, uint32_t offset, uint32_t value);	/* whole 32-bit fields; 0: read only */
	void (*reset)(struct virtio *v);	/* what the device itself keeps; the queues are empty again */
};

struct virtio {
	const struct virtio_type *type;
	struct memory *memory;
	struct irq_line irq;
	uint64_t offered, features;	/* features: what the driver took */
	uint8_t status, interrupt;	/* interrupt: bit 0 a buffer was used, bit 1 the configuration changed */
	uint32_t generation;		/* of the configuration */
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	struct virtio_queue queue[VIRTIO_QUEUES];
	uint8_t config[VIRTIO_CONFIG_MAX];	/* little endian, as the driver reads it */
};

/* At MMIO address base, with its interrupt on the line. 0 or -errno. */
int virtio_init(struct virtio *v, const struct virtio_type *type, struct memory *memory, struct bus *bus, uint64_t base, const struct irq_line *irq);

/* Whether the driver has finished its set-up and nothing is broken. */
bool virtio_works(const struct virtio *v);
static inline bool virtio_has(const struct virtio *v, uint64_t feature) { return v->features & feature; }

/* The next request: true with *out filled. False: there is none, or the queue makes no sense (then virtio_works is false from now on). */
bool virtio_pop(struct virtio *v, unsigned queue, struct virtio_chain *out);
/* Gives a request back, of which the device has written len bytes; with an interrupt, if the driver wants one. */
void virtio_push(struct virtio *v, unsigned queue, uint16_t head, uint32_t len);
/* A field of the configuration changes: the driver is told. */
void virtio_set_config(struct virtio *v, uint32_t offset, uint32_t value);

/* virtio_mmio.c, for virtio.c. */
int virtio_mmio_claim(struct virtio *v, struct bus *bus, uint64_t base);
void virtio_reset(struct virtio *v);
void virtio_set_status(struct virtio *v, uint8_t status);
void virtio_raise(struct virtio *v, uint8_t bits);

#endif
