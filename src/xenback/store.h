/*
 * store.h - xenstore: the tree of small values through which a guest and the back ends of its devices find each other.
 *
 * One store serves one guest (domain STORE_GUEST) and ourselves (domain 0, which may do everything). It knows nothing of rings and events:
 * store_request answers one message of the wire protocol, store_event gives the watch events that are due; store_ring.c carries both. Source: Xen's public
 * header io/xs_wire.h, and docs/misc/xenstore.txt of Xen's source.
 *
 * A transaction works on a copy of the tree. It ends with EAGAIN if anybody has changed the tree since it began, whatever was read: the guest
 * repeats it then, as it has to be ready to anyway.
 *
 * Everything that the guest can make grow is bounded: nodes and bytes in a tree, watches, transactions, and events that it does not fetch. Where events
 * overflow, those of a watch become a single one that names the watched path itself.
 *
 * Invariants
 *  X1  every node but the root has a parent; names hold only characters that the protocol allows; no value is over STORE_VALUE_MAX bytes
 *  X2  nodes and bytes of a tree agree with its counts, and those that the guest owns are within its quota
 *  X3  a domain 0 watch is told after each change at or below its path, the guest's likewise, in the order of changes
 *
 * Not thread-safe: one thread at a time (backend.c's).
 */
#ifndef XENBACK_STORE_H
#define XENBACK_STORE_H

#include "base/base.h"

#define STORE_GUEST 1u
#define STORE_PAYLOAD_MAX 4096u
#define STORE_VALUE_MAX 2048u
#define STORE_PATH_MAX 1024u	/* absolute, with the 0 at its end; longer ones are refused (EINVAL) */
#define STORE_NODES_MAX 1000u	/* owned by the guest */
#define STORE_BYTES_MAX (256u << 10)
#define STORE_WATCHES_MAX 128u
#define STORE_TRANSACTIONS_MAX 10u
#define STORE_EVENTS_MAX 256u

struct store;

struct store *store_create(void);	/* 0: out of memory */
void store_destroy(struct store *s);

/* As domain 0. Paths are absolute. 0 or -errno. store_put makes the nodes above too; a new node has its parent's permissions. */
int store_put(struct store *s, const char *path, const char *value);
int store_putf(struct store *s, const char *path, const char *fmt, ...) PRINTF_LIKE(3, 4);
int store_remove(struct store *s, const char *path);
/* perms as on the wire: "n1" makes domain 1 the owner and others see nothing; "n0r1" lets domain 1 read what is domain 0's. */
int store_permit(struct store *s, const char *path, const char *perms);
/* The value as a string; false if there is no such node, it holds a 0 byte, or does not fit. */
bool store_get(const struct store *s, const char *path, char *value, size_t size);
/* The value as a decimal number up to max; false if it is none. */
bool store_get_number(const struct store *s, const char *path, uint64_t max, uint64_t *out);
/* changed(opaque) runs at the end of each request or call that changed something at or below path. May change the store. 0 or -ENOMEM. */
int store_on_change(struct store *s, const char *path, void (*changed)(void *opaque), void *opaque);

/* One message of the wire protocol. */
struct store_message { uint32_t type, request, transaction, len; char payload[STORE_PAYLOAD_MAX]; };
/* The guest's request (len up to STORE_PAYLOAD_MAX) and its answer. */
void store_request(struct store *s, const struct store_message *request, struct store_message *reply);
/* The next watch event for the guest, if any is due. */
bool store_event(struct store *s, struct store_message *event);

/* Checks X1 and X2. */
bool store_sound(const struct store *s);

#endif
