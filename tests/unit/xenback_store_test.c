/*
 * xenback_store_test.c - xenstore as a guest meets it: requests, permissions, watches, transactions, and what a guest cannot make grow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "xenback/store.h"
#include <xen/io/xs_wire.h>

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define HOME "/local/domain/1"

struct rig { struct store *s; struct store_message reply, event; unsigned told; };

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	*state = r;
	r->s = store_create();
	return !r->s || store_put(r->s, HOME "/device", "") || store_permit(r->s, HOME "/device", "n1") || store_put(r->s, HOME "/name", "trifold") ||
	       store_permit(r->s, HOME "/name", "n0r1") || store_put(r->s, "/secret", "x");
}

static int teardown(void **state)
{
	struct rig *r = *state;

	assert_true(store_sound(r->s));
	store_destroy(r->s);
	free(r);
	return 0;
}

/* Bytes are given with their length: payloads hold zeros. */
static uint32_t ask(struct rig *r, uint32_t type, uint32_t transaction, const char *payload, size_t len)
{
	struct store_message m = { .type = type, .request = 77, .transaction = transaction, .len = (uint32_t)len };

	memcpy(m.payload, payload, len);
	store_request(r->s, &m, &r->reply);
	assert_int_equal(r->reply.request, 77);
	assert_true(r->reply.type == type || r->reply.type == XS_ERROR);
	return r->reply.type;
}
#define ASK(type, tx, text) ask(r, type, tx, text, sizeof(text) - 1)
#define OK(type, tx, text) assert_int_equal(ASK(type, tx, text), type)
#define REFUSED(error, type, tx, text) \
	do { assert_int_equal(ASK(type, tx, text), XS_ERROR); assert_string_equal(r->reply.payload, error); } while (0)
#define ANSWER(text) \
	do { assert_int_equal(r->reply.len, sizeof(text) - 1); assert_memory_equal(r->reply.payload, text, sizeof(text) - 1); } while (0)

static void what_is_written_is_read_and_listed_by_either_name(void **state)
{
	struct rig *r = *state;

	OK(XS_WRITE, 0, "device/vbd/51712/ring-ref\0" "8");
	ANSWER("OK\0");
	OK(XS_READ, 0, HOME "/device/vbd/51712/ring-ref\0");
	ANSWER("8");
	OK(XS_WRITE, 0, "device/vbd/51712/state\0" "3");
	OK(XS_DIRECTORY, 0, "device/vbd/51712\0");
	ANSWER("ring-ref\0state\0");
	OK(XS_MKDIR, 0, "device/vif\0");
	OK(XS_MKDIR, 0, "device/vif\0");
	OK(XS_READ, 0, "device/vif\0");
	ANSWER("");
	OK(XS_DIRECTORY_PART, 0, "device\0" "0\0");
	assert_memory_equal(r->reply.payload + strlen(r->reply.payload) + 1, "vbd\0vif\0", 9);
	OK(XS_DIRECTORY_PART, 0, "device\0" "4\0");
	assert_memory_equal(r->reply.payload + strlen(r->reply.payload) + 1, "vif\0", 5);
	OK(XS_GET_DOMAIN_PATH, 0, "1\0");
	ANSWER(HOME "\0");
	OK(XS_RM, 0, "device/vbd\0");
	REFUSED("ENOENT", XS_READ, 0, "device/vbd/51712/state\0");
	OK(XS_RM, 0, "device/vbd\0");
	REFUSED("ENOENT", XS_RM, 0, "device/no/such\0");
	REFUSED("EINVAL", XS_RM, 0, "/\0");
}

static void malformed_requests_are_refused(void **state)
{
	struct rig *r = *state;
	char longer[STORE_PATH_MAX + 2];

	REFUSED("EINVAL", XS_READ, 0, "device");
	REFUSED("EINVAL", XS_READ, 0, "");
	REFUSED("EINVAL", XS_READ, 0, "\0");
	REFUSED("EINVAL", XS_READ, 0, "/local//domain\0");
	REFUSED("EINVAL", XS_READ, 0, "/local/\0");
	REFUSED("EINVAL", XS_READ, 0, "/lo cal\0");
	REFUSED("EINVAL", XS_READ, 0, "@introduceDomain\0");
	REFUSED("EINVAL", XS_WATCH, 0, "device\0token");
	REFUSED("EINVAL", XS_WATCH, 0, "device\0");
	REFUSED("EINVAL", XS_DIRECTORY_PART, 0, "device\0x\0");
	REFUSED("EINVAL", XS_SET_PERMS, 0, "device\0z1\0");
	REFUSED("ENOENT", XS_TRANSACTION_END, 1, "T");
	REFUSED("ENOENT", XS_READ, 5, "device\0");
	REFUSED("EACCES", XS_INTRODUCE, 0, "1\0");
	REFUSED("ENOSYS", XS_WATCH_EVENT, 0, "a\0b\0");
	REFUSED("ENOSYS", 4711, 0, "a\0b\0");
	memset(longer, 'a', sizeof(longer));
	longer[0] = '/';
	longer[sizeof(longer) - 1] = 0;
	assert_int_equal(ask(r, XS_WRITE, 0, longer, sizeof(longer)), XS_ERROR);
}

static void a_guest_reads_and_writes_only_what_it_may(void **state)
{
	struct rig *r = *state;

	OK(XS_READ, 0, "name\0");
	ANSWER("trifold");
	REFUSED("EACCES", XS_WRITE, 0, "name\0x");
	REFUSED("EACCES", XS_READ, 0, "/secret\0");
	REFUSED("EACCES", XS_READ, 0, "/secret/below\0");
	REFUSED("EACCES", XS_WRITE, 0, "/mine\0x");
	REFUSED("EACCES", XS_MKDIR, 0, "new\0");
	REFUSED("EACCES", XS_RM, 0, "/local\0");
	REFUSED("EACCES", XS_SET_PERMS, 0, "name\0n1\0");
	OK(XS_WRITE, 0, "device/a\0x");
	OK(XS_GET_PERMS, 0, "device/a\0");
	ANSWER("n1\0");
	OK(XS_SET_PERMS, 0, "device/a\0n1\0r0\0");
	OK(XS_GET_PERMS, 0, "device/a\0");
	ANSWER("n1\0r0\0");
	REFUSED("EACCES", XS_SET_PERMS, 0, "device/a\0n0\0r1\0"); /* giving it away would void the quota */
	/* Somebody else's node below one's own is not removed with it. */
	assert_int_equal(store_put(r->s, HOME "/device/a/theirs", "1"), 0);
	assert_int_equal(store_permit(r->s, HOME "/device/a/theirs", "n0r1"), 0);
	REFUSED("EACCES", XS_RM, 0, "device/a\0");
}

static void a_watch_fires_at_once_and_for_every_change_below(void **state)
{
	struct rig *r = *state;

	OK(XS_WATCH, 0, "device\0tok\0");
	assert_true(store_event(r->s, &r->event));
	assert_int_equal(r->event.type, XS_WATCH_EVENT);
	assert_int_equal(r->event.len, 11);
	assert_memory_equal(r->event.payload, "device\0tok", 11);
	assert_false(store_event(r->s, &r->event));
	REFUSED("EEXIST", XS_WATCH, 0, "device\0tok\0");
	assert_int_equal(store_put(r->s, HOME "/device/x", "1"), 0);
	assert_int_equal(store_put(r->s, HOME "/devices", "1"), 0);
	OK(XS_RM, 0, "device/y\0");
	assert_true(store_event(r->s, &r->event));
	assert_memory_equal(r->event.payload, "device/x\0tok", 13);
	assert_false(store_event(r->s, &r->event));
	assert_int_equal(store_put(r->s, HOME "/device/x", "2"), 0);
	OK(XS_UNWATCH, 0, "device\0tok\0");
	assert_false(store_event(r->s, &r->event)); /* what was due goes with the watch */
	REFUSED("ENOENT", XS_UNWATCH, 0, "device\0tok\0");
	OK(XS_WATCH, 0, HOME "/device\0abs\0");
	assert_true(store_event(r->s, &r->event));
	assert_string_equal(r->event.payload, HOME "/device");
	OK(XS_WATCH, 0, "@releaseDomain\0t\0");
	assert_true(store_event(r->s, &r->event));
	assert_string_equal(r->event.payload, "@releaseDomain");
	OK(XS_RESET_WATCHES, 0, "\0");
	assert_int_equal(store_put(r->s, HOME "/device/x", "3"), 0);
	assert_false(store_event(r->s, &r->event));
}

static void events_that_nobody_fetches_stay_bounded_and_none_is_lost_for_good(void **state)
{
	struct rig *r = *state;
	unsigned events = 0;
	bool whole = false;

	OK(XS_WATCH, 0, "device\0tok\0");
	while (store_event(r->s, &r->event))
		;
	for (unsigned i = 0; i < 4 * STORE_EVENTS_MAX; i++)
		assert_int_equal(store_putf(r->s, "/local/domain/1/device/x", "%u", i), 0);
	assert_true(store_event(r->s, &r->event)); /* the same change twice is one event */
	assert_false(store_event(r->s, &r->event));
	for (unsigned i = 0; i < 4 * STORE_EVENTS_MAX; i++) {
		char path[64];

		snprintf(path, sizeof(path), HOME "/device/%u", i);
		assert_int_equal(store_put(r->s, path, ""), 0);
		assert_int_equal(store_permit(r->s, path, "n0r1"), 0);
	}
	while (store_event(r->s, &r->event)) {
		events++;
		whole |= !strcmp(r->event.payload, "device");
	}
	assert_in_range(events, STORE_EVENTS_MAX, STORE_EVENTS_MAX + STORE_WATCHES_MAX);
	assert_true(whole);
}

static void a_transaction_is_seen_whole_or_not_at_all(void **state)
{
	struct rig *r = *state;

	OK(XS_WATCH, 0, "device\0tok\0");
	assert_true(store_event(r->s, &r->event));
	OK(XS_TRANSACTION_START, 0, "\0");
	ANSWER("1\0");
	REFUSED("EBUSY", XS_TRANSACTION_START, 1, "\0");
	OK(XS_WRITE, 1, "device/a\0" "1");
	OK(XS_READ, 1, "device/a\0");
	REFUSED("ENOENT", XS_READ, 0, "device/a\0");
	assert_false(store_event(r->s, &r->event));
	OK(XS_TRANSACTION_END, 1, "T\0");
	OK(XS_READ, 0, "device/a\0");
	assert_true(store_event(r->s, &r->event));
	assert_string_equal(r->event.payload, "device/a");
	/* Given up. */
	OK(XS_TRANSACTION_START, 0, "\0");
	OK(XS_WRITE, 2, "device/b\0" "1");
	OK(XS_TRANSACTION_END, 2, "F\0");
	REFUSED("ENOENT", XS_READ, 0, "device/b\0");
	REFUSED("ENOENT", XS_TRANSACTION_END, 2, "T\0");
	/* Overtaken. */
	OK(XS_TRANSACTION_START, 0, "\0");
	OK(XS_WRITE, 3, "device/c\0" "1");
	assert_int_equal(store_put(r->s, "/other", "1"), 0);
	REFUSED("EAGAIN", XS_TRANSACTION_END, 3, "T\0");
	REFUSED("ENOENT", XS_READ, 0, "device/c\0");
	assert_false(store_event(r->s, &r->event));
}

static void a_guest_cannot_make_the_store_grow_without_bound(void **state)
{
	struct rig *r = *state;
	char text[STORE_PAYLOAD_MAX];
	unsigned made = 0, i;
	int len;

	for (i = 0; i < 2 * STORE_NODES_MAX; i++) {
		len = snprintf(text, sizeof(text), "device/%u", i) + 1;
		if (ask(r, XS_WRITE, 0, text, (size_t)len) == XS_ERROR)
			break;
		made++;
	}
	assert_string_equal(r->reply.payload, "ENOSPC");
	assert_in_range(made, STORE_NODES_MAX - 2, STORE_NODES_MAX);
	assert_true(store_sound(r->s));
	/* Bytes: the largest value in each, until there are too many. */
	for (i = 0; i < made; i++) {
		len = snprintf(text, sizeof(text), "device/%u", i) + 1;
		memset(text + len, 'v', STORE_VALUE_MAX);
		if (ask(r, XS_WRITE, 0, text, (size_t)len + STORE_VALUE_MAX) == XS_ERROR)
			break;
	}
	assert_string_equal(r->reply.payload, "ENOSPC");
	assert_in_range(i, 100, STORE_BYTES_MAX / STORE_VALUE_MAX);
	len = snprintf(text, sizeof(text), "device/0") + 1;
	memset(text + len, 'v', STORE_VALUE_MAX + 1);
	assert_int_equal(ask(r, XS_WRITE, 0, text, (size_t)len + STORE_VALUE_MAX + 1), XS_ERROR);
	for (i = 0; i < 2 * STORE_WATCHES_MAX; i++) {
		len = snprintf(text, sizeof(text), "device%c%u", 0, i) + 1;
		if (ask(r, XS_WATCH, 0, text, (size_t)len) == XS_ERROR)
			break;
	}
	assert_int_equal(i, STORE_WATCHES_MAX);
	for (i = 0; i < 2 * STORE_TRANSACTIONS_MAX; i++)
		if (ASK(XS_TRANSACTION_START, 0, "\0") == XS_ERROR)
			break;
	assert_int_equal(i, STORE_TRANSACTIONS_MAX);
	/* Room that is given back can be used again. */
	OK(XS_RM, 0, "device/1\0");
	OK(XS_WRITE, 0, "device/1\0again");
}

static void told(void *opaque)
{
	struct rig *r = opaque;
	uint64_t n;

	/* Answers a state with the next one, as back ends do. */
	r->told++;
	if (store_get_number(r->s, HOME "/device/state", 9, &n) && n < 4)
		assert_int_equal(store_putf(r->s, HOME "/device/state", "%u", (unsigned)n + 1), 0);
}

static void back_ends_are_told_and_may_answer(void **state)
{
	struct rig *r = *state;
	uint64_t n;

	assert_int_equal(store_on_change(r->s, HOME "/device/state", told, r), 0);
	OK(XS_WRITE, 0, "device/stat\0" "1");
	assert_int_equal(r->told, 0);
	OK(XS_WRITE, 0, "device/state\0" "1");
	assert_int_equal(r->told, 4);
	assert_true(store_get_number(r->s, HOME "/device/state", 9, &n));
	assert_int_equal(n, 4);
	OK(XS_RM, 0, "device/state\0");
	assert_int_equal(r->told, 5);
	OK(XS_WRITE, 0, "device/state\0" "12x");
	assert_false(store_get_number(r->s, HOME "/device/state", 99, &n));
	OK(XS_WRITE, 0, "device/state\0" "4\0" "4");
	assert_false(store_get_number(r->s, HOME "/device/state", 99, &n));
}

static void random_requests_leave_it_sound(void **state)
{
	struct rig *r = *state;
	uint64_t random = 0x1234567;

	for (unsigned i = 0; i < 100000; i++) {
		static const char *const piece[] = { "device", "/", "a", "/local/domain/1/", "\0", "n1", "1", "T\0", "b/c", "0", "@x", "//", "name" };
		struct store_message m = { .type = (uint32_t)(random_step(&random) % (XS_TYPE_COUNT + 1)) };

		m.transaction = random_step(&random) % 4 ? 0 : (uint32_t)(random_step(&random) % 50);
		for (unsigned n = (unsigned)(random_step(&random) % 8); n; n--) {
			const char *p = piece[random_step(&random) % ARRAY_LEN(piece)];
			const uint32_t len = (uint32_t)strlen(p) + (uint32_t)(random_step(&random) & 1);

			memcpy(m.payload + m.len, p, len);
			m.len += len;
		}
		store_request(r->s, &m, &r->reply);
		if (random_step(&random) % 3 == 0)
			store_event(r->s, &r->event);
		if (i % 1000 == 0)
			assert_true(store_sound(r->s));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_is_written_is_read_and_listed_by_either_name),
		T(malformed_requests_are_refused),
		T(a_guest_reads_and_writes_only_what_it_may),
		T(a_watch_fires_at_once_and_for_every_change_below),
		T(events_that_nobody_fetches_stay_bounded_and_none_is_lost_for_good),
		T(a_transaction_is_seen_whole_or_not_at_all),
		T(a_guest_cannot_make_the_store_grow_without_bound),
		T(back_ends_are_told_and_may_answer),
		T(random_requests_leave_it_sound),
	};
	return cmocka_run_group_tests(tests, 0, 0);
}
