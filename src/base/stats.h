/*
 * stats.h - counters as data. A module keeps its counters as uint64_t members of a struct and exports a table of rows that names
 * them; vm/ registers (table, instance) pairs and writes them all as JSON (`--stats`).
 * Counters are plain: the owning thread increments, readers may see a value that is a moment old.
 */
#ifndef BASE_STATS_H
#define BASE_STATS_H

#include <stdio.h>
#include "base/base.h"

struct stat_row { const char *name; size_t offset; const char *help; };
#define STAT_ROW(type, member, help) { #member, offsetof(type, member), help }

struct stat_group { const char *name; const struct stat_row *row; size_t rows; const void *instance; };

#define STATS_MAX_GROUPS 16
struct stats { struct stat_group group[STATS_MAX_GROUPS]; size_t groups; };
void stats_add(struct stats *stats, const char *name, const struct stat_row *row, size_t rows, const void *instance);

/* One group as a JSON member: "name": {...}, without a comma. */
void stats_write_group(FILE *f, const struct stat_group *group);

/* What the vcpu thread is doing; sampled while it runs to split host time by kind (docs/stats.md). */
enum activity { ACT_CODE, ACT_EXECUTOR, ACT_TRANSLATION, ACT_PAGING, ACT_DEVICES, ACT_IDLE, ACT_COUNT };

#endif
