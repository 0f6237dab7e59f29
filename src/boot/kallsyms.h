/*
 * kallsyms.h - the symbol tables that a Linux kernel carries in its own image (CONFIG_KALLSYMS), so that addresses in a stock kernel can be
 * named without any file beside it.
 *
 * Source of the format: Linux, scripts/kallsyms.c and kernel/kallsyms.c. The image is hostile input: every count, offset and
 * index is checked against it, and the search gives up after a bounded number of steps.
 */
#ifndef BOOT_KALLSYMS_H
#define BOOT_KALLSYMS_H

#include "base/base.h"

/* type: as nm prints it ('T' and 't': text). name is valid during the call only. */
typedef void kallsyms_take(void *opaque, uint64_t address, char type, const char *name);

/* Hands over each symbol of the tables found in the unpacked image (4-byte aligned pieces as they lie in memory). How many; 0: none found. */
size_t kallsyms_parse(const uint8_t *image, size_t size, kallsyms_take *take, void *opaque);

#endif
