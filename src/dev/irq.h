/*
 * irq.h - an interrupt line from a device to an interrupt controller's pin. The device keeps the level; the controller
 * decides what an edge or a level means. Called under the device lock.
 */
#ifndef DEV_IRQ_H
#define DEV_IRQ_H

#include "base/base.h"

struct irq_line {
	void (*set)(void *opaque, unsigned pin, bool level);
	void *opaque;
	unsigned pin;
};

static inline void irq_line_set(const struct irq_line *line, bool level)
{
	if (line->set)
		line->set(line->opaque, line->pin, level);
}

#endif
