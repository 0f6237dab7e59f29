/*
 * store_internal.h - the tree, its copies, and who watches it.
 */
#ifndef XENBACK_STORE_INTERNAL_H
#define XENBACK_STORE_INTERNAL_H

#include "xenback/store.h"

#define STORE_PERMS_MAX 4u
enum { STORE_READ = 1, STORE_WRITE = 2 };
/* The first of a node's: its owner, who may do everything, and what all others may; the rest: what one other domain may. */
struct store_perm { uint16_t domain; uint8_t may; };

struct store_node {
	struct store_node *parent, *child, *next;
	char *name;
	char *value;
	uint32_t len;
	uint8_t perms;
	struct store_perm perm[STORE_PERMS_MAX];
};

/* What a transaction changed, for the watches when it ends. */
struct store_change { struct store_change *next; char path[]; };

struct store_tree {
	struct store_node *root;
	uint32_t nodes, bytes;		/* owned by the guest */
	struct store_change *changes, **changes_end;
};

/* tree.c. Paths are absolute and well-formed. Errors are errno values, 0 is success. */
struct store_tree *store_tree_new(void);
struct store_tree *store_tree_copy(const struct store_tree *t);
void store_tree_free(struct store_tree *t);
void store_forget_changes(struct store_tree *t);
struct store_node *store_tree_find(const struct store_tree *t, const char *path);
bool store_may(const struct store_node *n, unsigned domain, unsigned what);
/* Whether the domain may know that there is no such node: it may read the nearest node above. */
bool store_may_miss(const struct store_tree *t, const char *path, unsigned domain);
/* Makes the node and what lacks above it. *out may exist already. */
int store_tree_make(struct store_tree *t, const char *path, unsigned domain, struct store_node **out);
int store_tree_set(struct store_tree *t, struct store_node *n, const void *value, uint32_t len);
void store_tree_cut(struct store_tree *t, struct store_node *n);
void store_tree_own(struct store_tree *t, struct store_node *n, const struct store_perm *perm, unsigned perms);
int store_changed(struct store_tree *t, const char *path);
bool store_tree_sound(const struct store_tree *t);

/* An absolute path from one as the guest gives it; false if it is not well-formed. */
bool store_path(const char *given, char path[STORE_PATH_MAX]);
/* Whether path is at or below top. */
bool store_below(const char *path, const char *top);
bool store_parse_perm(const char *text, size_t len, struct store_perm *out);
size_t store_print_perm(const struct store_perm *p, char *text, size_t size);

#endif
