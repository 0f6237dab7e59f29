/*
 * virtio.c - status, features and split virtqueues (virtio.h).
 */
#include "dev/virtio.h"

#include <errno.h>
#include <string.h>

enum { DESC_SIZE = 16, DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4, AVAIL_NO_INTERRUPT = 1, RING_IDX = 2, RING_ENTRIES = 4, USED_SIZE = 8 };
enum { INTERRUPT_USED = 1, INTERRUPT_CONFIG = 2 };

void virtio_raise(struct virtio *v, uint8_t bits)
{
	v->interrupt |= bits;
	irq_line_set(&v->irq, v->interrupt != 0);
}

/* The driver's data make no sense. */
static bool broken(struct virtio *v)
{
	v->status |= VIRTIO_NEEDS_RESET;
	if (v->status & VIRTIO_DRIVER_OK)
		virtio_raise(v, INTERRUPT_CONFIG);
	return false;
}

bool virtio_works(const struct virtio *v)
{
	return (v->status & VIRTIO_DRIVER_OK) && !(v->status & (VIRTIO_NEEDS_RESET | VIRTIO_FAILED));
}

void virtio_reset(struct virtio *v)
{
	v->features = 0;
	v->status = 0;
	v->device_features_sel = v->driver_features_sel = v->queue_sel = 0;
	memset(v->queue, 0, sizeof(v->queue));
	for (unsigned i = 0; i < VIRTIO_QUEUES; i++)
		v->queue[i].size = VIRTIO_QUEUE_SIZE;
	v->interrupt = 0;
	irq_line_set(&v->irq, false);
	if (v->type->reset)
		v->type->reset(v);
}

void virtio_set_status(struct virtio *v, uint8_t status)
{
	if (!status) {
		virtio_reset(v);
		return;
	}
	/* "Device Initialization": the device refuses FEATURES_OK for what it does not offer. Bits are never cleared but by a reset. */
	if ((status & VIRTIO_FEATURES_OK) && !(v->status & VIRTIO_FEATURES_OK) && ((v->features & ~v->offered) || !virtio_has(v, VIRTIO_F_VERSION_1)))
		status &= (uint8_t)~VIRTIO_FEATURES_OK;
	if (!((status | v->status) & VIRTIO_FEATURES_OK))
		status &= (uint8_t)~VIRTIO_DRIVER_OK;
	v->status |= status & (uint8_t)~VIRTIO_NEEDS_RESET;
}

void virtio_set_config(struct virtio *v, uint32_t offset, uint32_t value)
{
	ASSERT(offset % 4 == 0 && offset + 4 <= v->type->config_len);
	store_u32(v->config + offset, value);
	v->generation++;
	if (virtio_works(v))
		virtio_raise(v, INTERRUPT_CONFIG);
}

int virtio_init(struct virtio *v, const struct virtio_type *type, struct memory *memory, struct bus *bus, uint64_t base, const struct irq_line *irq)
{
	ASSERT(type->queues <= VIRTIO_QUEUES && type->config_len <= VIRTIO_CONFIG_MAX && type->config_len % 4 == 0);
	*v = (struct virtio){ .type = type, .memory = memory, .irq = *irq, .offered = type->features | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC };
	virtio_reset(v);
	return virtio_mmio_claim(v, bus, base);
}

static bool read_u16(const struct virtio *v, uint64_t at, uint16_t *out)
{
	uint8_t b[2];

	if (memory_read(v->memory, gpa(at), b, sizeof(b)))
		return false;
	*out = load_u16(b);
	return true;
}

/* The descriptors from `i` on in a table of `size`, appended. Those of an indirect table are `inner`. False: they make no sense. */
static bool follow(struct virtio *v, gpa_t table, uint32_t size, uint16_t i, bool inner, struct virtio_chain *out)
{
	/* No chain is longer than its table: a loop ends here. */
	for (uint32_t steps = 0; steps < size; steps++) {
		uint8_t d[DESC_SIZE];
		struct virtio_buffer b;
		uint16_t flags;

		if (i >= size || memory_read(v->memory, gpa(table.v + (uint64_t)i * DESC_SIZE), d, sizeof(d)))
			return false;
		b = (struct virtio_buffer){ gpa(load_u64(d)), load_u32(d + 8), false };
		flags = load_u16(d + 12);
		if (flags & DESC_INDIRECT) {
			/* "Indirect Descriptors": not nested, the last of their chain. */
			if (inner || (flags & DESC_NEXT) || !virtio_has(v, VIRTIO_F_INDIRECT_DESC) || b.len % DESC_SIZE || !b.len ||
			    b.len / DESC_SIZE > VIRTIO_CHAIN_MAX)
				return false;
			return follow(v, b.p, b.len / DESC_SIZE, 0, true, out);
		}
		b.writable = flags & DESC_WRITE;
		if (out->count == VIRTIO_CHAIN_MAX || (out->count && out->buffer[out->count - 1].writable && !b.writable))
			return false;
		out->buffer[out->count++] = b;
		if (!(flags & DESC_NEXT))
			return true;
		i = load_u16(d + 14);
	}
	return false;
}

bool virtio_pop(struct virtio *v, unsigned queue, struct virtio_chain *out)
{
	struct virtio_queue *q = &v->queue[queue];
	uint16_t there;

	ASSERT(queue < v->type->queues);
	if (!virtio_works(v) || !q->ready)
		return false;
	if (!read_u16(v, q->driver.v + RING_IDX, &there) || (uint16_t)(there - q->next) > q->size)
		return broken(v);
	if (there == q->next)
		return false;
	out->count = 0;
	if (!read_u16(v, q->driver.v + RING_ENTRIES + 2u * (q->next & (q->size - 1u)), &out->head) ||
	    !follow(v, q->desc, q->size, out->head, false, out))
		return broken(v);
	q->next++;
	return true;
}

void virtio_push(struct virtio *v, unsigned queue, uint16_t head, uint32_t len)
{
	struct virtio_queue *q = &v->queue[queue];
	uint8_t element[USED_SIZE], idx[2];
	uint16_t flags;

	if (!virtio_works(v) || !q->ready)
		return;
	store_u32(element, head);
	store_u32(element + 4, len);
	if (memory_write(v->memory, gpa(q->device.v + RING_ENTRIES + (uint64_t)USED_SIZE * (q->used & (q->size - 1u))), element, sizeof(element))) {
		broken(v);
		return;
	}
	q->used++;
	store_u16(idx, q->used);
	if (memory_write(v->memory, gpa(q->device.v + RING_IDX), idx, sizeof(idx)) || !read_u16(v, q->driver.v, &flags)) {
		broken(v);
		return;
	}
	if (!(flags & AVAIL_NO_INTERRUPT))
		virtio_raise(v, INTERRUPT_USED);
}
