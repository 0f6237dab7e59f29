/*
 * profile_report.h - a profile's tables, grouped and ranked, ready to be written.
 */
#ifndef VM_PROFILE_REPORT_H
#define VM_PROFILE_REPORT_H

#include "vm/profile.h"

/* Rows of a table that are shown as one. */
struct profile_group {
	char name[128];
	char where[64];		/* "kernel", or the program and its address space; empty where it means nothing */
	uint64_t address;	/* of the symbol or page, or the row's own */
	uint64_t total, count[PROFILE_COLUMNS];
};

enum profile_grain { GRAIN_ROW, GRAIN_SYMBOL, GRAIN_SPACE, GRAIN_MNEMONIC, GRAIN_INSN, GRAIN_OWN };

/* A view: which columns of which table, by what. */
struct profile_view {
	const char *id, *title;
	enum profile_grain grain;
	size_t table;				/* offset in struct vm_profile */
	unsigned first, columns;		/* of the table; totals count these only */
	const char *(*column_name)(unsigned column);	/* 0: no columns shown, totals only */
	unsigned text_rows;
};
struct profile_ranking {
	const struct profile_view *view;
	struct profile_group *group;		/* greatest total first */
	size_t groups;
	struct profile_group all;		/* sums, the table's row `other` included */
};
extern const struct profile_view profile_views[];
extern const size_t profile_view_count;

/* 0 or -ENOMEM; profile_rank_free in either case. */
int profile_rank(struct vm *vm, const struct profile_view *view, struct profile_ranking *out);
void profile_rank_free(struct profile_ranking *r);

#endif
