/*
 * store.c - xenstore's requests: a table of message types over the tree, transactions, watches and their events.
 *
 * Every request works on one tree: the store's own, or the copy of the transaction it names. What it changes is noted in that tree's list of changes;
 * the store's own list becomes watch events when the request is done, a transaction's when it is committed.
 */
#include "xenback/store_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/io/xs_wire.h>

struct store_watch { struct store_watch *next; char *given, *path, *token; };	/* given: as the guest wrote it, perhaps relative */
struct store_due { struct store_due *next; const struct store_watch *watch; char path[]; };
struct store_transaction { uint32_t id; uint64_t generation; struct store_tree *tree; };
struct store_listener { struct store_listener *next; void (*changed)(void *); void *opaque; bool due; char path[]; };

struct store {
	struct store_tree *tree;
	uint64_t generation;		/* steps with every change of the tree */
	struct store_watch *watch;
	unsigned watches, events;
	struct store_due *due, **due_end;
	struct store_transaction transaction[STORE_TRANSACTIONS_MAX];
	uint32_t next_transaction;
	struct store_listener *listener;
	bool telling;
};

/* ---- changes become events ------------------------------------------------------------------------------------------------ */

static bool is_due(const struct store *s, const struct store_watch *w, const char *path)
{
	for (const struct store_due *d = s->due; d; d = d->next)
		if (d->watch == w && !strcmp(d->path, path))
			return true;
	return false;
}

/* path as the guest writes the watched one: relative if that was. */
static void queue_event(struct store *s, const struct store_watch *w, const char *path)
{
	struct store_due *d;

	if (s->events >= STORE_EVENTS_MAX)
		path = w->path;
	if (w->given[0] != '/' && w->given[0] != '@')
		path += strlen(w->path) - strlen(w->given);
	if (is_due(s, w, path))
		return;
	d = malloc(sizeof(*d) + strlen(path) + 1);
	if (!d)
		return;
	d->next = 0;
	d->watch = w;
	strcpy(d->path, path);
	*s->due_end = d;
	s->due_end = &d->next;
	s->events++;
}

static void note_changes(struct store *s)
{
	if (!s->tree->changes)
		return;
	s->generation++;
	for (const struct store_change *c = s->tree->changes; c; c = c->next) {
		for (const struct store_watch *w = s->watch; w; w = w->next)
			if (store_below(c->path, w->path))
				queue_event(s, w, c->path);
		for (struct store_listener *l = s->listener; l; l = l->next)
			l->due |= store_below(c->path, l->path) || store_below(l->path, c->path);
	}
	store_forget_changes(s->tree);
}

/* Listeners may change the store themselves: until nothing is due any more. */
static void tell(struct store *s)
{
	bool again = true;

	note_changes(s);
	if (s->telling)
		return;
	s->telling = true;
	while (again) {
		again = false;
		for (struct store_listener *l = s->listener; l; l = l->next)
			if (l->due) {
				l->due = false;
				again = true;
				l->changed(l->opaque);
			}
	}
	s->telling = false;
}

bool store_event(struct store *s, struct store_message *event)
{
	struct store_due *d = s->due;

	if (!d)
		return false;
	s->due = d->next;
	if (!s->due)
		s->due_end = &s->due;
	s->events--;
	event->type = XS_WATCH_EVENT;
	event->request = event->transaction = 0;
	event->len = (uint32_t)snprintf(event->payload, sizeof(event->payload), "%s%c%s", d->path, 0, d->watch->token) + 1;
	free(d);
	return true;
}

/* ---- requests ----------------------------------------------------------------------------------------------------------------- */

struct call {
	struct store *s;
	const struct store_message *request;
	struct store_message *reply;
	struct store_tree *tree;
	const char *rest;		/* of the payload, after the path */
	uint32_t rest_len;
	char path[STORE_PATH_MAX];
};

static int answer(struct call *c, const void *bytes, uint32_t len)
{
	ASSERT(len <= STORE_PAYLOAD_MAX);
	memcpy(c->reply->payload, bytes, len);
	c->reply->len = len;
	return 0;
}

static int ok(struct call *c) { return answer(c, "OK", 3); }

/* The node at c->path, if the guest has the right to do that. */
static int find(struct call *c, unsigned what, struct store_node **out)
{
	*out = store_tree_find(c->tree, c->path);
	if (!*out)
		return store_may_miss(c->tree, c->path, STORE_GUEST) ? ENOENT : EACCES;
	return store_may(*out, STORE_GUEST, what) ? 0 : EACCES;
}

static int do_read(struct call *c)
{
	struct store_node *n;
	int e = find(c, STORE_READ, &n);

	return e ? e : answer(c, n->value ? n->value : "", n->len);
}

static int do_directory(struct call *c)
{
	struct store_node *n;
	uint32_t len = 0;
	int e = find(c, STORE_READ, &n);

	if (e)
		return e;
	for (const struct store_node *k = n->child; k; k = k->next) {
		const uint32_t size = (uint32_t)strlen(k->name) + 1;

		if (len + size > STORE_PAYLOAD_MAX)
			return E2BIG;
		memcpy(c->reply->payload + len, k->name, size);
		len += size;
	}
	c->reply->len = len;
	return 0;
}

/* The generation, a 0, and the names from `offset` in their list on; one more 0 after the last of all. */
static int do_directory_part(struct call *c)
{
	struct store_node *n;
	char *end;
	uint64_t offset, at = 0;
	uint32_t len;
	int e = find(c, STORE_READ, &n);

	if (e)
		return e;
	if (c->rest_len < 2 || c->rest[c->rest_len - 1])
		return EINVAL;
	offset = strtoull(c->rest, &end, 10);
	if (*end)
		return EINVAL;
	len = (uint32_t)sprintf(c->reply->payload, "%" PRIu64, c->s->generation) + 1;
	for (const struct store_node *k = n->child; k; k = k->next) {
		const uint32_t size = (uint32_t)strlen(k->name) + 1;

		at += size;
		if (at - size < offset)
			continue;
		if (len + size + 1 > STORE_PAYLOAD_MAX) {
			c->reply->len = len;
			return 0;
		}
		memcpy(c->reply->payload + len, k->name, size);
		len += size;
	}
	c->reply->payload[len++] = 0;
	c->reply->len = len;
	return 0;
}

static int do_get_perms(struct call *c)
{
	struct store_node *n;
	uint32_t len = 0;
	int e = find(c, STORE_READ, &n);

	if (e)
		return e;
	for (unsigned i = 0; i < n->perms; i++)
		len += (uint32_t)store_print_perm(&n->perm[i], c->reply->payload + len, STORE_PAYLOAD_MAX - len) + 1;
	c->reply->len = len;
	return 0;
}

static int do_set_perms(struct call *c)
{
	struct store_perm perm[STORE_PERMS_MAX];
	struct store_node *n;
	unsigned perms = 0;
	int e = find(c, STORE_WRITE, &n);

	if (e)
		return e;
	for (uint32_t at = 0; at < c->rest_len;) {
		const size_t len = strnlen(c->rest + at, c->rest_len - at);

		if (perms == STORE_PERMS_MAX || !store_parse_perm(c->rest + at, len, &perm[perms]))
			return EINVAL;
		perms++;
		at += (uint32_t)len + 1;
	}
	/* Only its owner may say who may; nobody gives a node away, since it counts against the owner's quota. */
	if (!perms)
		return EINVAL;
	if (n->perm[0].domain != STORE_GUEST || perm[0].domain != STORE_GUEST)
		return EACCES;
	e = store_changed(c->tree, c->path);
	if (e)
		return e;
	store_tree_own(c->tree, n, perm, perms);
	return ok(c);
}

static int do_write(struct call *c)
{
	struct store_node *n = store_tree_find(c->tree, c->path);
	int e = n && !store_may(n, STORE_GUEST, STORE_WRITE) ? EACCES : 0;

	if (!e && c->rest_len > STORE_VALUE_MAX)
		e = ENOSPC;
	if (!e && !n)
		e = store_tree_make(c->tree, c->path, STORE_GUEST, &n);
	if (!e)
		e = store_tree_set(c->tree, n, c->rest, c->rest_len);
	if (!e)
		e = store_changed(c->tree, c->path);
	return e ? e : ok(c);
}

static int do_mkdir(struct call *c)
{
	struct store_node *n = store_tree_find(c->tree, c->path);
	int e;

	if (n)
		return store_may(n, STORE_GUEST, STORE_WRITE) ? ok(c) : EACCES;
	e = store_tree_make(c->tree, c->path, STORE_GUEST, &n);
	if (!e)
		e = store_changed(c->tree, c->path);
	return e ? e : ok(c);
}

/* A subtree that holds a node of somebody else's goes only with that right too. */
static bool may_remove(const struct store_node *n)
{
	if (!store_may(n, STORE_GUEST, STORE_WRITE))
		return false;
	for (const struct store_node *k = n->child; k; k = k->next)
		if (!may_remove(k))
			return false;
	return true;
}

static int do_rm(struct call *c)
{
	struct store_node *n = store_tree_find(c->tree, c->path);
	char *slash = strrchr(c->path, '/');
	int e;

	if (!c->path[1])
		return EINVAL;
	if (!n) { /* removing what is not there is done, where its parent is */
		*slash = 0;
		n = store_tree_find(c->tree, slash == c->path ? "/" : c->path);
		return !n ? ENOENT : store_may(n, STORE_GUEST, STORE_WRITE) ? ok(c) : EACCES;
	}
	if (!may_remove(n))
		return EACCES;
	e = store_changed(c->tree, c->path);
	if (e)
		return e;
	store_tree_cut(c->tree, n);
	return ok(c);
}

static bool watch_matches(const struct store_watch *w, const char *given, const char *token) { return !strcmp(w->given, given) && !strcmp(w->token, token); }

static void watch_free(struct store_watch *w)
{
	free(w->given);
	free(w->path);
	free(w->token);
	free(w);
}

/* WATCH and UNWATCH: a path and a token, each ending in a 0. */
static bool token_of(const struct call *c, const char **token)
{
	*token = c->rest;
	return c->rest_len > 0 && strnlen(c->rest, c->rest_len) == c->rest_len - 1;
}

static int do_watch(struct call *c)
{
	struct store *s = c->s;
	struct store_watch *w;
	const char *token;

	if (!token_of(c, &token))
		return EINVAL;
	for (w = s->watch; w; w = w->next)
		if (watch_matches(w, c->request->payload, token))
			return EEXIST;
	if (s->watches >= STORE_WATCHES_MAX)
		return E2BIG;
	w = calloc(1, sizeof(*w));
	if (!w)
		return ENOMEM;
	w->given = strdup(c->request->payload);
	w->path = strdup(c->path);
	w->token = strdup(token);
	if (!w->given || !w->path || !w->token) {
		watch_free(w);
		return ENOMEM;
	}
	w->next = s->watch;
	s->watch = w;
	s->watches++;
	queue_event(s, w, w->path); /* a watch begins with an event */
	return ok(c);
}

static void watch_drop(struct store *s, struct store_watch **link)
{
	struct store_watch *w = *link;

	for (struct store_due **d = &s->due; *d;) {
		struct store_due *gone = *d;

		if (gone->watch != w) {
			d = &gone->next;
			continue;
		}
		*d = gone->next;
		free(gone);
		s->events--;
	}
	s->due_end = &s->due;
	while (*s->due_end)
		s->due_end = &(*s->due_end)->next;
	*link = w->next;
	s->watches--;
	watch_free(w);
}

static int do_unwatch(struct call *c)
{
	const char *token;

	if (!token_of(c, &token))
		return EINVAL;
	for (struct store_watch **link = &c->s->watch; *link; link = &(*link)->next)
		if (watch_matches(*link, c->request->payload, token)) {
			watch_drop(c->s, link);
			return ok(c);
		}
	return ENOENT;
}

static int do_reset_watches(struct call *c)
{
	while (c->s->watch)
		watch_drop(c->s, &c->s->watch);
	return ok(c);
}

static struct store_transaction *transaction_find(struct store *s, uint32_t id)
{
	for (unsigned i = 0; id && i < STORE_TRANSACTIONS_MAX; i++)
		if (s->transaction[i].tree && s->transaction[i].id == id)
			return &s->transaction[i];
	return 0;
}

static int do_transaction_start(struct call *c)
{
	struct store *s = c->s;
	char text[16];

	if (c->request->transaction)
		return EBUSY;
	for (unsigned i = 0; i < STORE_TRANSACTIONS_MAX; i++) {
		struct store_transaction *t = &s->transaction[i];

		if (t->tree)
			continue;
		t->tree = store_tree_copy(s->tree);
		if (!t->tree)
			return ENOMEM;
		do /* an id is neither 0 nor in use, however long the guest runs */
			t->id = 0, s->next_transaction++;
		while (!s->next_transaction || transaction_find(s, s->next_transaction));
		t->id = s->next_transaction;
		t->generation = s->generation;
		return answer(c, text, (uint32_t)snprintf(text, sizeof(text), "%u", t->id) + 1);
	}
	return ENOSPC;
}

static int do_transaction_end(struct call *c)
{
	struct store *s = c->s;
	struct store_transaction *t = transaction_find(s, c->request->transaction);
	const bool commit = c->request->len == 2 && c->request->payload[0] == 'T';

	if (!t)
		return ENOENT;
	if (c->request->len != 2 || c->request->payload[1] || (!commit && c->request->payload[0] != 'F'))
		return EINVAL;
	if (commit && t->generation == s->generation) {
		store_tree_free(s->tree);
		s->tree = t->tree;
		c->tree = s->tree;
		t->tree = 0;
		return ok(c);
	}
	store_tree_free(t->tree);
	t->tree = 0;
	c->tree = s->tree;
	return commit ? EAGAIN : ok(c);
}

static int do_get_domain_path(struct call *c)
{
	char text[40], *end;
	unsigned long domain = strtoul(c->request->payload, &end, 10);

	if (c->request->len < 2 || c->request->payload[c->request->len - 1] || *end || domain > UINT16_MAX)
		return EINVAL;
	return answer(c, text, (uint32_t)snprintf(text, sizeof(text), "/local/domain/%lu", domain) + 1);
}

static const struct request_row {
	uint32_t type;
	int (*handle)(struct call *c);
	bool path;	/* the payload begins with a path */
	bool special;	/* which may be one of the @ names */
} request_rows[] = {
	{ XS_DIRECTORY, do_directory, true, false },
	{ XS_DIRECTORY_PART, do_directory_part, true, false },
	{ XS_READ, do_read, true, false },
	{ XS_GET_PERMS, do_get_perms, true, false },
	{ XS_SET_PERMS, do_set_perms, true, false },
	{ XS_WRITE, do_write, true, false },
	{ XS_MKDIR, do_mkdir, true, false },
	{ XS_RM, do_rm, true, false },
	{ XS_WATCH, do_watch, true, true },
	{ XS_UNWATCH, do_unwatch, true, true },
	{ XS_RESET_WATCHES, do_reset_watches, false, false },
	{ XS_TRANSACTION_START, do_transaction_start, false, false },
	{ XS_TRANSACTION_END, do_transaction_end, false, false },
	{ XS_GET_DOMAIN_PATH, do_get_domain_path, false, false },
};

/* The rest is for domain 0 (EACCES), or no request at all. */
static int carry_out(struct call *c)
{
	const struct store_message *r = c->request;
	const struct request_row *row = 0;

	for (size_t i = 0; i < ARRAY_LEN(request_rows); i++)
		if (request_rows[i].type == r->type)
			row = &request_rows[i];
	if (!row)
		return r->type == XS_INTRODUCE || r->type == XS_RELEASE || r->type == XS_RESUME || r->type == XS_SET_TARGET ||
		       r->type == XS_CONTROL ? EACCES : ENOSYS;
	if (r->transaction && !transaction_find(c->s, r->transaction))
		return ENOENT;
	if (r->transaction)
		c->tree = transaction_find(c->s, r->transaction)->tree;
	if (row->path) {
		const size_t len = strnlen(r->payload, r->len);

		if (len == r->len)
			return EINVAL;
		if (row->special && r->payload[0] == '@' && len < STORE_PATH_MAX)
			strcpy(c->path, r->payload);
		else if (!store_path(r->payload, c->path))
			return EINVAL;
		c->rest = r->payload + len + 1;
		c->rest_len = r->len - (uint32_t)len - 1;
	}
	return row->handle(c);
}

void store_request(struct store *s, const struct store_message *request, struct store_message *reply)
{
	struct call c = { .s = s, .request = request, .reply = reply, .tree = s->tree };
	const char *name = "EINVAL";
	int e;

	ASSERT(request->len <= STORE_PAYLOAD_MAX);
	*reply = (struct store_message){ .type = request->type, .request = request->request, .transaction = request->transaction };
	e = carry_out(&c);
	if (e) {
		for (size_t i = 0; i < ARRAY_LEN(xsd_errors); i++)
			if (xsd_errors[i].errnum == e)
				name = xsd_errors[i].errstring;
		reply->type = XS_ERROR;
		answer(&c, name, (uint32_t)strlen(name) + 1);
	}
	tell(s);
}

/* ---- domain 0 ------------------------------------------------------------------------------------------------------------------ */

int store_put(struct store *s, const char *path, const char *value)
{
	struct store_node *n;
	int e = store_tree_make(s->tree, path, 0, &n);

	if (!e)
		e = store_tree_set(s->tree, n, value, (uint32_t)strlen(value));
	if (!e)
		e = store_changed(s->tree, path);
	tell(s);
	return -e;
}

int store_putf(struct store *s, const char *path, const char *fmt, ...)
{
	char text[STORE_VALUE_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return n < 0 || n >= (int)sizeof(text) ? -ENOSPC : store_put(s, path, text);
}

int store_remove(struct store *s, const char *path)
{
	struct store_node *n = store_tree_find(s->tree, path);
	int e;

	if (!n || !n->parent)
		return -ENOENT;
	e = store_changed(s->tree, path);
	if (e)
		return -e;
	store_tree_cut(s->tree, n);
	tell(s);
	return 0;
}

int store_permit(struct store *s, const char *path, const char *perms)
{
	struct store_node *n = store_tree_find(s->tree, path);
	struct store_perm perm[STORE_PERMS_MAX];
	unsigned count = 0;

	if (!n)
		return -ENOENT;
	while (*perms) {
		const size_t len = 1 + strspn(perms + 1, "0123456789");

		if (count == STORE_PERMS_MAX || !store_parse_perm(perms, len, &perm[count++]))
			return -EINVAL;
		perms += len;
	}
	if (!count)
		return -EINVAL;
	store_tree_own(s->tree, n, perm, count);
	return 0;
}

bool store_get(const struct store *s, const char *path, char *value, size_t size)
{
	const struct store_node *n = store_tree_find(s->tree, path);

	if (!n || n->len >= size || (n->value && strlen(n->value) != n->len))
		return false;
	memcpy(value, n->value ? n->value : "", n->len + 1u);
	return true;
}

bool store_get_number(const struct store *s, const char *path, uint64_t max, uint64_t *out)
{
	char text[24], *end;

	if (!store_get(s, path, text, sizeof(text)) || text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return !errno && !*end && *out <= max;
}

int store_on_change(struct store *s, const char *path, void (*changed)(void *opaque), void *opaque)
{
	struct store_listener *l = calloc(1, sizeof(*l) + strlen(path) + 1);

	if (!l)
		return -ENOMEM;
	l->changed = changed;
	l->opaque = opaque;
	strcpy(l->path, path);
	l->next = s->listener;
	s->listener = l;
	return 0;
}

struct store *store_create(void)
{
	struct store *s = calloc(1, sizeof(*s));

	if (!s)
		return 0;
	s->due_end = &s->due;
	s->tree = store_tree_new();
	if (s->tree)
		return s;
	free(s);
	return 0;
}

void store_destroy(struct store *s)
{
	if (!s)
		return;
	while (s->watch)
		watch_drop(s, &s->watch);
	for (unsigned i = 0; i < STORE_TRANSACTIONS_MAX; i++)
		store_tree_free(s->transaction[i].tree);
	while (s->listener) {
		struct store_listener *l = s->listener;

		s->listener = l->next;
		free(l);
	}
	store_tree_free(s->tree);
	free(s);
}

bool store_sound(const struct store *s)
{
	for (unsigned i = 0; i < STORE_TRANSACTIONS_MAX; i++)
		if (s->transaction[i].tree && !store_tree_sound(s->transaction[i].tree))
			return false;
	return store_tree_sound(s->tree);
}
