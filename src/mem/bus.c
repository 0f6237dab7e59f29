/*
 * bus.c - finds the device behind a port or an MMIO address, under the device lock.
 */
#include "mem/bus.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

void bus_init(struct bus *bus)
{
	pthread_mutex_t *lock = malloc(sizeof(*lock));

	ASSERT(lock && pthread_mutex_init(lock, NULL) == 0);
	for (unsigned s = 0; s < BUS_SPACES; s++) {
		bus->ranges[s] = 0;
		bus->accesses[s] = 0;
	}
	bus->lock = lock;
}

void bus_destroy(struct bus *bus)
{
	pthread_mutex_destroy(bus->lock);
	free(bus->lock);
	bus->lock = NULL;
}

int bus_claim(struct bus *bus, enum bus_space space, const struct bus_range *range)
{
	uint64_t last = range->base + range->len - 1;

	if (range->len == 0 || last < range->base)
		return -EINVAL;
	for (unsigned i = 0; i < bus->ranges[space]; i++) {
		const struct bus_range *r = &bus->range[space][i];

		if (range->base <= r->base + r->len - 1 && r->base <= last)
			return -EEXIST;
	}
	if (bus->ranges[space] == BUS_MAX_RANGES)
		return -ENOSPC;
	bus->range[space][bus->ranges[space]++] = *range;
	return 0;
}

/* An access that begins inside a range belongs to it, also where it runs past its end: the device sees offset and size. */
static const struct bus_range *find(const struct bus *bus, enum bus_space space, uint64_t addr)
{
	for (unsigned i = 0; i < bus->ranges[space]; i++)
		if (addr - bus->range[space][i].base < bus->range[space][i].len)
			return &bus->range[space][i];
	return NULL;
}

static uint64_t size_mask(unsigned size) { return size >= 8 ? ~0ull : (1ull << (size * 8)) - 1; }

uint64_t bus_read(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size)
{
	const struct bus_range *r;
	uint64_t value = ~0ull;

	bus_lock(bus);
	bus->accesses[space]++;
	r = find(bus, space, addr);
	if (r && r->read)
		value = r->read(r->dev, addr - r->base, size);
	bus_unlock(bus);
	return value & size_mask(size);
}

void bus_write(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size, uint64_t value)
{
	const struct bus_range *r;

	bus_lock(bus);
	bus->accesses[space]++;
	r = find(bus, space, addr);
	if (r && r->write)
		r->write(r->dev, addr - r->base, size, value & size_mask(size));
	bus_unlock(bus);
}

void bus_lock(struct bus *bus) { pthread_mutex_lock(bus->lock); }
void bus_unlock(struct bus *bus) { pthread_mutex_unlock(bus->lock); }
