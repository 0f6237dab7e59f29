/*
 * size.h - sizes as people write them.
 */
#ifndef BASE_SIZE_H
#define BASE_SIZE_H

#include "base/base.h"

/* "512M", "4G", "640K", or a bare number of MiB. False: it is none, or does not fit. */
bool size_parse(const char *text, uint64_t *bytes);

#endif
