/*
 * virtio_mmio.c - the registers of the memory-mapped transport, version 2.
 * Source: VIRTIO 1.2, "MMIO Device Register Layout". Registers are of 32 bits and accessed as such; the configuration space by 1, 2 or 4 bytes.
 */
#include "dev/virtio.h"

#include <errno.h>

enum {
	MAGIC = 0x00, VERSION = 0x04, DEVICE_ID = 0x08, VENDOR_ID = 0x0c, DEVICE_FEATURES = 0x10, DEVICE_FEATURES_SEL = 0x14, DRIVER_FEATURES = 0x20,
	DRIVER_FEATURES_SEL = 0x24, QUEUE_SEL = 0x30, QUEUE_NUM_MAX = 0x34, QUEUE_NUM = 0x38, QUEUE_READY = 0x44, QUEUE_NOTIFY = 0x50,
	INTERRUPT_STATUS = 0x60, INTERRUPT_ACK = 0x64, STATUS = 0x70, QUEUE_DESC = 0x80, QUEUE_DRIVER = 0x90, QUEUE_DEVICE = 0xa0,
	SHM_SEL = 0xac, SHM_LEN = 0xb0, SHM_BASE_HIGH = 0xbc, CONFIG_GENERATION = 0xfc, CONFIG = 0x100,
};
#define MAGIC_VALUE 0x74726976u		/* "virt" */
#define VENDOR_VALUE 0x464c5254u	/* "TRLF" */

static struct virtio_queue *selected(struct virtio *v)
{
	return v->queue_sel < v->type->queues ? &v->queue[v->queue_sel] : 0;
}

static uint32_t half(uint64_t features, uint32_t sel) { return sel == 0 ? (uint32_t)features : sel == 1 ? (uint32_t)(features >> 32) : 0; }

static uint64_t config_read(const struct virtio *v, uint64_t offset, unsigned size)
{
	if (size > 4 || offset + size > v->type->config_len)
		return 0;
	return size == 1 ? v->config[offset] : size == 2 ? load_u16(v->config + offset) : load_u32(v->config + offset);
}

static uint64_t mmio_read(void *dev, uint64_t offset, unsigned size)
{
	struct virtio *v = dev;
	const struct virtio_queue *q = selected(v);

	if (offset >= CONFIG)
		return config_read(v, offset - CONFIG, size);
	if (size != 4)
		return 0;
	switch (offset) {
	case MAGIC: return MAGIC_VALUE;
	case VERSION: return 2;
	case DEVICE_ID: return v->type->id;
	case VENDOR_ID: return VENDOR_VALUE;
	case DEVICE_FEATURES: return half(v->offered, v->device_features_sel);
	case QUEUE_NUM_MAX: return q ? VIRTIO_QUEUE_SIZE : 0;
	case QUEUE_READY: return q && q->ready;
	case INTERRUPT_STATUS: return v->interrupt;
	case STATUS: return v->status;
	case CONFIG_GENERATION: return v->generation;
	}
	/* There is no shared memory region. */
	return offset >= SHM_LEN && offset <= SHM_BASE_HIGH ? UINT32_MAX : 0;
}

static void set_half(gpa_t *address, bool high, uint32_t value)
{
	address->v = high ? (address->v & UINT32_MAX) | (uint64_t)value << 32 : (address->v & ~(uint64_t)UINT32_MAX) | value;
}

/* While a queue is ready its place is settled. */
static void queue_write(struct virtio *v, uint64_t offset, uint32_t value)
{
	struct virtio_queue *q = selected(v);

	if (!q)
		return;
	if (offset == QUEUE_READY) {
		if (!(value & 1))
			*q = (struct virtio_queue){ .size = VIRTIO_QUEUE_SIZE };
		else
			q->ready = true;
		return;
	}
	if (q->ready)
		return;
	switch (offset) {
	case QUEUE_NUM:
		if (value && value <= VIRTIO_QUEUE_SIZE && !(value & (value - 1)))
			q->size = (uint16_t)value;
		break;
	case QUEUE_DESC: case QUEUE_DESC + 4: set_half(&q->desc, offset & 4, value); break;
	case QUEUE_DRIVER: case QUEUE_DRIVER + 4: set_half(&q->driver, offset & 4, value); break;
	case QUEUE_DEVICE: case QUEUE_DEVICE + 4: set_half(&q->device, offset & 4, value); break;
	}
}

static void mmio_write(void *dev, uint64_t offset, unsigned size, uint64_t value64)
{
	struct virtio *v = dev;
	const uint32_t value = (uint32_t)value64;

	if (size != 4)
		return;
	if (offset >= CONFIG) {
		if (v->type->config_written && offset % 4 == 0 && offset - CONFIG + 4 <= v->type->config_len)
			v->type->config_written(v, (uint32_t)(offset - CONFIG), value);
		return;
	}
	switch (offset) {
	case DEVICE_FEATURES_SEL: v->device_features_sel = value; break;
	case DRIVER_FEATURES_SEL: v->driver_features_sel = value; break;
	case DRIVER_FEATURES:
		if (!(v->status & VIRTIO_FEATURES_OK) && v->driver_features_sel < 2) {
			const unsigned shift = 32 * v->driver_features_sel;

			v->features = (v->features & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value << shift;
		}
		break;
	case QUEUE_SEL: v->queue_sel = value; break;
	case QUEUE_NOTIFY:
		if (value < v->type->queues && v->queue[value].ready && virtio_works(v))
			v->type->notify(v, value);
		break;
	case INTERRUPT_ACK:
		v->interrupt &= (uint8_t)~value;
		virtio_raise(v, 0);
		break;
	case STATUS: virtio_set_status(v, (uint8_t)value); break;
	default: queue_write(v, offset, value); break;
	}
}

int virtio_mmio_claim(struct virtio *v, struct bus *bus, uint64_t base)
{
	const struct bus_range range = { base, VIRTIO_MMIO_SIZE, mmio_read, mmio_write, v, v->type->name };

	return bus_claim(bus, BUS_MMIO, &range);
}
