/*
 * stats.c - the registry of counters.
 */
#include "base/stats.h"

void stats_add(struct stats *stats, const char *name, const struct stat_row *row, size_t rows, const void *instance)
{
	ASSERT(stats->groups < STATS_MAX_GROUPS);
	stats->group[stats->groups++] = (struct stat_group){ name, row, rows, instance };
}

void stats_write_group(FILE *f, const struct stat_group *group)
{
	fprintf(f, "  \"%s\": {", group->name);
	for (size_t i = 0; i < group->rows; i++) {
		const uint64_t *value = (const uint64_t *)((const char *)group->instance + group->row[i].offset);

		fprintf(f, "%s\n    \"%s\": %llu", i ? "," : "", group->row[i].name,
			(unsigned long long)__atomic_load_n(value, __ATOMIC_RELAXED));
	}
	fprintf(f, "\n  }");
}
