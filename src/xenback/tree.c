/*
 * tree.c - xenstore's tree: nodes with values and permissions, paths, copies for transactions.
 */
#include "xenback/store_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- paths ---------------------------------------------------------------------------------------------------------- */

bool store_path(const char *given, char path[STORE_PATH_MAX])
{
	int n = given[0] == '/' ? snprintf(path, STORE_PATH_MAX, "%s", given) :
				  snprintf(path, STORE_PATH_MAX, "/local/domain/%u/%s", STORE_GUEST, given);

	if (n < 0 || n >= (int)STORE_PATH_MAX || !given[0] || given[0] == '@')
		return false;
	for (const char *c = path; *c; c++) {
		if (!isalnum((unsigned char)*c) && !strchr("-/_@", *c))
			return false;
		if (c[0] == '/' && (c[1] == '/' || (c[1] == 0 && n > 1)))
			return false;
	}
	return true;
}

bool store_below(const char *path, const char *top)
{
	const size_t n = strlen(top);

	return !strcmp(top, "/") ? path[0] == '/' : !strncmp(path, top, n) && (path[n] == '/' || path[n] == 0);
}

/* ---- permissions ------------------------------------------------------------------------------------------------------ */

static const char perm_letters[] = { 'n', 'r', 'w', 'b' };

bool store_parse_perm(const char *text, size_t len, struct store_perm *out)
{
	const char *letter = len ? memchr(perm_letters, text[0], sizeof(perm_letters)) : 0;
	unsigned domain = 0;

	if (!letter || len < 2 || len > 6)
		return false;
	for (size_t i = 1; i < len; i++) {
		if (!isdigit((unsigned char)text[i]))
			return false;
		domain = domain * 10 + (unsigned)(text[i] - '0');
	}
	if (domain > UINT16_MAX)
		return false;
	*out = (struct store_perm){ (uint16_t)domain, (uint8_t)(letter - perm_letters) };
	return true;
}

size_t store_print_perm(const struct store_perm *p, char *text, size_t size)
{
	return (size_t)snprintf(text, size, "%c%u", perm_letters[p->may & 3], p->domain);
}

bool store_may(const struct store_node *n, unsigned domain, unsigned what)
{
	unsigned may = n->perm[0].may;

	if (domain == 0 || n->perm[0].domain == domain)
		return true;
	for (unsigned i = 1; i < n->perms; i++)
		if (n->perm[i].domain == domain)
			may = n->perm[i].may;
	return (may & what) == what;
}

/* ---- nodes -------------------------------------------------------------------------------------------------------------- */

static unsigned owner(const struct store_node *n) { return n->perm[0].domain; }
static uint32_t weight(const struct store_node *n) { return (uint32_t)strlen(n->name) + n->len; }

static void account(struct store_tree *t, const struct store_node *n, int sign)
{
	if (owner(n) != STORE_GUEST)
		return;
	t->nodes += (uint32_t)sign;
	t->bytes += (uint32_t)sign * weight(n);
}

static struct store_node *node_new(const char *name, size_t len)
{
	struct store_node *n = calloc(1, sizeof(*n));

	if (n)
		n->name = strndup(name, len);
	if (n && n->name)
		return n;
	free(n);
	return 0;
}

static void node_free(struct store_node *n)
{
	while (n->child) {
		struct store_node *c = n->child;

		n->child = c->next;
		node_free(c);
	}
	free(n->name);
	free(n->value);
	free(n);
}

/* The child named by the first part of *path; *path then names the rest. With `missing` set: where that part begins, if there is no such child. */
static struct store_node *step(const struct store_node *n, const char **path)
{
	const char *part = *path + 1;
	const size_t len = strcspn(part, "/");

	for (struct store_node *c = n->child; c; c = c->next)
		if (!strncmp(c->name, part, len) && !c->name[len]) {
			*path = part + len;
			return c;
		}
	return 0;
}

/* The deepest node on the way to path that exists; *rest is what remains below it, "" if it is the node itself. */
static struct store_node *nearest(const struct store_tree *t, const char *path, const char **rest)
{
	struct store_node *n = t->root, *c;

	*rest = path[1] ? path : path + 1;
	while (**rest && (c = step(n, rest)))
		n = c;
	return n;
}

struct store_node *store_tree_find(const struct store_tree *t, const char *path)
{
	const char *rest;
	struct store_node *n = nearest(t, path, &rest);

	return *rest ? 0 : n;
}

bool store_may_miss(const struct store_tree *t, const char *path, unsigned domain)
{
	const char *rest;

	return store_may(nearest(t, path, &rest), domain, STORE_READ);
}

int store_tree_make(struct store_tree *t, const char *path, unsigned domain, struct store_node **out)
{
	const char *rest;
	struct store_node *n = nearest(t, path, &rest);

	if (*rest && !store_may(n, domain, STORE_WRITE))
		return EACCES;
	while (*rest) {
		const size_t len = strcspn(rest + 1, "/");
		struct store_node *c, **end = &n->child;

		if (domain == STORE_GUEST && (t->nodes >= STORE_NODES_MAX || t->bytes + len > STORE_BYTES_MAX))
			return ENOSPC;
		c = node_new(rest + 1, len);
		if (!c)
			return ENOMEM;
		memcpy(c->perm, n->perm, sizeof(c->perm));
		c->perms = n->perms;
		if (domain != 0)
			c->perm[0].domain = (uint16_t)domain;
		c->parent = n;
		while (*end)
			end = &(*end)->next;
		*end = c;
		account(t, c, 1);
		rest += 1 + len;
		n = c;
	}
	*out = n;
	return 0;
}

int store_tree_set(struct store_tree *t, struct store_node *n, const void *value, uint32_t len)
{
	char *copy;

	if (len > STORE_VALUE_MAX)
		return ENOSPC;
	if (owner(n) == STORE_GUEST && len > n->len && t->bytes + (len - n->len) > STORE_BYTES_MAX)
		return ENOSPC;
	copy = malloc(len + 1u);
	if (!copy)
		return ENOMEM;
	memcpy(copy, value, len);
	copy[len] = 0;
	account(t, n, -1);
	free(n->value);
	n->value = copy;
	n->len = len;
	account(t, n, 1);
	return 0;
}

static void unaccount_all(struct store_tree *t, const struct store_node *n)
{
	account(t, n, -1);
	for (const struct store_node *c = n->child; c; c = c->next)
		unaccount_all(t, c);
}

void store_tree_cut(struct store_tree *t, struct store_node *n)
{
	struct store_node **link = &n->parent->child;

	while (*link != n)
		link = &(*link)->next;
	*link = n->next;
	unaccount_all(t, n);
	node_free(n);
}

void store_tree_own(struct store_tree *t, struct store_node *n, const struct store_perm *perm, unsigned perms)
{
	ASSERT(perms >= 1 && perms <= STORE_PERMS_MAX);
	account(t, n, -1);
	memcpy(n->perm, perm, perms * sizeof(*perm));
	n->perms = (uint8_t)perms;
	account(t, n, 1);
}

/* ---- whole trees ---------------------------------------------------------------------------------------------------------- */

struct store_tree *store_tree_new(void)
{
	struct store_tree *t = calloc(1, sizeof(*t));

	if (!t)
		return 0;
	t->changes_end = &t->changes;
	t->root = node_new("", 0);
	if (!t->root) {
		free(t);
		return 0;
	}
	t->root->perms = 1;	/* n0 */
	return t;
}

static struct store_node *node_copy(const struct store_node *from)
{
	struct store_node *n = node_new(from->name, strlen(from->name)), **end;

	if (!n)
		return 0;
	memcpy(n->perm, from->perm, sizeof(n->perm));
	n->perms = from->perms;
	n->len = from->len;
	if (from->value) {
		n->value = malloc(from->len + 1u);
		if (!n->value)
			goto fail;
		memcpy(n->value, from->value, from->len + 1u);
	}
	end = &n->child;
	for (const struct store_node *c = from->child; c; c = c->next) {
		*end = node_copy(c);
		if (!*end)
			goto fail;
		(*end)->parent = n;
		end = &(*end)->next;
	}
	return n;
fail:
	node_free(n);
	return 0;
}

struct store_tree *store_tree_copy(const struct store_tree *from)
{
	struct store_tree *t = calloc(1, sizeof(*t));

	if (!t)
		return 0;
	t->changes_end = &t->changes;
	t->nodes = from->nodes;
	t->bytes = from->bytes;
	t->root = node_copy(from->root);
	if (t->root)
		return t;
	free(t);
	return 0;
}

void store_forget_changes(struct store_tree *t)
{
	while (t->changes) {
		struct store_change *c = t->changes;

		t->changes = c->next;
		free(c);
	}
	t->changes_end = &t->changes;
}

void store_tree_free(struct store_tree *t)
{
	if (!t)
		return;
	store_forget_changes(t);
	node_free(t->root);
	free(t);
}

int store_changed(struct store_tree *t, const char *path)
{
	struct store_change *c = malloc(sizeof(*c) + strlen(path) + 1);

	if (!c)
		return ENOMEM;
	c->next = 0;
	strcpy(c->path, path);
	*t->changes_end = c;
	t->changes_end = &c->next;
	return 0;
}

static bool count(const struct store_node *n, uint32_t *nodes, uint32_t *bytes)
{
	if (n->len > STORE_VALUE_MAX || n->perms < 1 || n->perms > STORE_PERMS_MAX)
		return false;
	if (owner(n) == STORE_GUEST) {
		++*nodes;
		*bytes += weight(n);
	}
	for (const struct store_node *c = n->child; c; c = c->next)
		if (c->parent != n || !c->name[0] || strchr(c->name, '/') || !count(c, nodes, bytes))
			return false;
	return true;
}

bool store_tree_sound(const struct store_tree *t)
{
	uint32_t nodes = 0, bytes = 0;

	return count(t->root, &nodes, &bytes) && nodes == t->nodes && bytes == t->bytes && nodes <= STORE_NODES_MAX && bytes <= STORE_BYTES_MAX;
}
