/*
 * xenback_disk_test.c - a paravirtualized disk from its front end's side: found through xenstore's ring, connected, read and written; and what a front end
 * that does not keep the rules gets. Event channels and grants are the test's own, so that each call of the back end is seen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <fcntl.h>
#include <unistd.h>

#include "xenback/backend_internal.h"
#include <xen/io/blkif.h>
#include <xen/io/xs_wire.h>

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define PAGES 64u
#define SECTORS 256u
#define RING_REF 40u
#define PORT 9u

static struct rig {
	struct memory memory;
	struct xenback *back;
	struct block block;
	struct block_counters counted;
	char path[64];
	mfn_t page[PAGES];
	bool granted[PAGES], read_only[PAGES];
	unsigned in_use[PAGES], notified, store_notified;
	bool port_connected;
	void (*notify)(void *);
	void *opaque;
	struct xenstore_domain_interface *xs;
	struct blkif_sring *ring;
	uint32_t prod;
} *rig;

/* ---- the domain, as the back end sees it ------------------------------------------------------------------------------------------ */

int xen_grant_use(struct xen *xen, uint32_t ref, bool write, struct xen_grant *out)
{
	(void)xen;
	if (ref >= PAGES || !rig->granted[ref] || (write && rig->read_only[ref]))
		return -22;
	rig->in_use[ref]++;
	*out = (struct xen_grant){ pool_ptr(&rig->memory.pool, rig->page[ref]), rig->page[ref], ref, write };
	return 0;
}

void xen_grant_done(struct xen *xen, struct xen_grant *g)
{
	(void)xen;
	assert_true(rig->in_use[g->ref] > 0);
	rig->in_use[g->ref]--;
}

uint32_t xen_port_backend(struct xen *xen, void (*notify)(void *), void *opaque)
{
	(void)xen;
	rig->notify = notify;
	rig->opaque = opaque;
	return 3;
}

int xen_port_connect(struct xen *xen, uint32_t port, void (*notify)(void *), void *opaque)
{
	(void)xen, (void)notify, (void)opaque;
	if (port != PORT || rig->port_connected)
		return -22;
	rig->port_connected = true;
	return 0;
}

void xen_port_disconnect(struct xen *xen, uint32_t port)
{
	(void)xen;
	assert_int_equal(port, PORT);
	rig->port_connected = false;
}

void xen_port_notify_guest(struct xen *xen, uint32_t port)
{
	(void)xen;
	if (port == PORT)
		rig->notified++;
	else
		rig->store_notified++;
}

/* ---- the guest ---------------------------------------------------------------------------------------------------------------------- */

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	char error[200];
	int fd;

	*state = rig = r;
	assert_int_equal(memory_init(&r->memory, MIB(2), PLACEMENT_SCATTER, 7), 0);
	memory_lock(&r->memory);
	for (unsigned i = 0; i < PAGES; i++) {
		struct p2m_entry e;
		bool fresh;

		assert_int_equal(p2m_back(&r->memory, gpa(i * PAGE_SIZE), &e, &fresh), P2M_MAPPED);
		r->page[i] = e.m;
	}
	memory_unlock(&r->memory);
	strcpy(r->path, "/tmp/xenback_disk.XXXXXX");
	fd = mkstemp(r->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SECTORS * BLOCK_SECTOR), 0);
	for (unsigned s = 0; s < SECTORS; s++)
		assert_int_equal(pwrite(fd, &s, sizeof(s), s * BLOCK_SECTOR), sizeof(s));
	close(fd);
	assert_int_equal(block_open(&r->block, r->path, false, &r->counted, error, sizeof(error)), 0);
	assert_int_equal(xenback_create(0, &r->memory, &r->back), 0);
	assert_int_equal(xenback_store_port(r->back), 3);
	/* Most tests serve by hand, without the thread. */
	r->back->ring.m = r->page[0];
	r->back->ring.ring = pool_ptr(&r->memory.pool, r->page[0]);
	assert_int_equal(xenback_add_disk(r->back, &r->block), 0);
	r->xs = pool_ptr(&r->memory.pool, r->page[0]);
	r->ring = pool_ptr(&r->memory.pool, r->page[RING_REF]);
	r->granted[RING_REF] = true;
	for (unsigned i = 1; i < 32; i++)
		r->granted[i] = true;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	xenback_destroy(r->back);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(r->in_use[i], 0);
	assert_false(r->port_connected);
	block_close(&r->block);
	unlink(r->path);
	memory_destroy(&r->memory);
	free(r);
	return 0;
}

static void serve(void)
{
	bool did;

	do {
		did = store_ring_serve(rig->back);
		did |= blkback_serve(&rig->back->disk[0]);
	} while (did);
}

static void xs_put(const void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		while (rig->xs->req_prod - rig->xs->req_cons == XENSTORE_RING_SIZE)
			serve();
		rig->xs->req[MASK_XENSTORE_IDX(rig->xs->req_prod)] = ((const char *)bytes)[i];
		rig->xs->req_prod++;
	}
}

static void xs_get(void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (rig->xs->rsp_prod == rig->xs->rsp_cons)
			serve();
		assert_true(rig->xs->rsp_prod != rig->xs->rsp_cons);
		((char *)bytes)[i] = rig->xs->rsp[MASK_XENSTORE_IDX(rig->xs->rsp_cons)];
		rig->xs->rsp_cons++;
	}
}

/* One request and its answer, in `answer` as a string. */
static uint32_t xs(uint32_t type, const char *path, const char *value, char answer[4097])
{
	struct xsd_sockmsg m = { .type = type, .len = (uint32_t)(strlen(path) + 1 + strlen(value)) };

	xs_put(&m, sizeof(m));
	xs_put(path, strlen(path) + 1);
	xs_put(value, strlen(value));
	xs_get(&m, sizeof(m));
	assert_in_range(m.len, 0, 4096);
	xs_get(answer, m.len);
	answer[m.len] = 0;
	return m.type;
}

static void front_sets(const char *name, const char *value)
{
	char path[128], answer[4097];

	snprintf(path, sizeof(path), "device/vbd/51712/%s", name);
	assert_int_equal(xs(XS_WRITE, path, value, answer), XS_WRITE);
}

static const char *back_says(const char *name)
{
	static char answer[4097];
	char path[128];

	snprintf(path, sizeof(path), "/local/domain/0/backend/vbd/1/51712/%s", name);
	assert_int_equal(xs(XS_READ, path, "", answer), XS_READ);
	return answer;
}

static void front_connects(void)
{
	char text[16];

	assert_string_equal(back_says("state"), "2");
	memset(rig->ring, 0, PAGE_SIZE);
	rig->ring->req_event = rig->ring->rsp_event = 1;
	rig->prod = 0;
	snprintf(text, sizeof(text), "%u", RING_REF);
	front_sets("ring-ref", text);
	snprintf(text, sizeof(text), "%u", PORT);
	front_sets("event-channel", text);
	front_sets("protocol", "x86_64-abi");
	front_sets("state", "3");
	assert_string_equal(back_says("state"), "4");
	front_sets("state", "4");
}

static int16_t request(const struct blkif_request *r)
{
	const struct blkif_response *answer = &rig->ring->ring[rig->prod % 32].rsp;

	memcpy(&rig->ring->ring[rig->prod % 32].req, r, sizeof(*r));
	rig->ring->req_prod = ++rig->prod;
	serve();
	assert_int_equal(rig->ring->rsp_prod, rig->prod);
	assert_int_equal(answer->id, r->id);
	assert_int_equal(answer->operation, r->operation == BLKIF_OP_INDIRECT ? ((const struct blkif_request_indirect *)r)->indirect_op : r->operation);
	return answer->status;
}

static struct blkif_request transfer(uint8_t operation, uint64_t sector, unsigned segments, uint8_t first, uint8_t last)
{
	struct blkif_request r = { .operation = operation, .nr_segments = (uint8_t)segments, .id = 0xabc0 + sector, .sector_number = sector };

	for (unsigned i = 0; i < segments && i < BLKIF_MAX_SEGMENTS_PER_REQUEST; i++)
		r.seg[i] = (struct blkif_request_segment){ .gref = 1 + i, .first_sect = first, .last_sect = last };
	return r;
}

static uint32_t *page(unsigned ref) { return pool_ptr(&rig->memory.pool, rig->page[ref]); }

/* ---- tests ----------------------------------------------------------------------------------------------------------------------------- */

static void a_front_end_finds_connects_reads_and_writes(void **state)
{
	struct blkif_request r;
	uint32_t word;
	(void)state;

	front_connects();
	assert_true(rig->port_connected);
	assert_string_equal(back_says("sectors"), "256");
	assert_string_equal(back_says("sector-size"), "512");
	assert_string_equal(back_says("info"), "0");
	r = transfer(BLKIF_OP_READ, 10, 2, 0, 7);
	assert_int_equal(request(&r), BLKIF_RSP_OKAY);
	for (unsigned s = 0; s < 8; s++) {
		assert_int_equal(page(1)[s * 128], 10 + s);
		assert_int_equal(page(2)[s * 128], 18 + s);
	}
	assert_int_equal(rig->notified, 1);
	/* Parts of pages. */
	page(1)[3 * 128] = 0x5ec70a;
	r = transfer(BLKIF_OP_WRITE, 100, 1, 3, 3);
	assert_int_equal(request(&r), BLKIF_RSP_OKAY);
	assert_int_equal(rig->notified, 1); /* rsp_event was not moved on */
	assert_int_equal(pread(rig->block.fd, &word, 4, 100 * 512), 4);
	assert_int_equal(word, 0x5ec70a);
	assert_int_equal(pread(rig->block.fd, &word, 4, 101 * 512), 4);
	assert_int_equal(word, 101);
	r = (struct blkif_request){ .operation = BLKIF_OP_FLUSH_DISKCACHE, .id = 5 };
	assert_int_equal(request(&r), BLKIF_RSP_OKAY);
	assert_int_equal(rig->counted.flushes, 1);
	assert_int_equal(rig->ring->req_event, rig->prod + 1);
}

static void indirect_requests_carry_more_pages(void **state)
{
	struct blkif_request_indirect in = { .operation = BLKIF_OP_INDIRECT, .indirect_op = BLKIF_OP_READ, .nr_segments = 20, .id = 1, .sector_number = 0 };
	struct blkif_request r = { 0 };
	struct blkif_request_segment *segment = (void *)page(31);
	(void)state;

	front_connects();
	for (unsigned i = 0; i < 20; i++)
		segment[i] = (struct blkif_request_segment){ .gref = 1 + i, .first_sect = 0, .last_sect = 7 };
	in.indirect_grefs[0] = 31;
	memcpy(&r, &in, sizeof(in));
	assert_int_equal(request(&r), BLKIF_RSP_OKAY);
	assert_int_equal(page(20)[7 * 128], 19 * 8 + 7);
	in.nr_segments = 65;
	memcpy(&r, &in, sizeof(in));
	assert_int_equal(request(&r), BLKIF_RSP_ERROR);
	in.nr_segments = 20;
	in.indirect_op = BLKIF_OP_INDIRECT;
	memcpy(&r, &in, sizeof(in));
	assert_int_equal(request(&r), BLKIF_RSP_ERROR);
	in.indirect_op = BLKIF_OP_READ;
	in.indirect_grefs[0] = 77;
	memcpy(&r, &in, sizeof(in));
	assert_int_equal(request(&r), BLKIF_RSP_ERROR);
}

static void requests_that_cannot_be_are_refused_and_the_connection_lives(void **state)
{
	struct blkif_request r;
	uint32_t word;
	(void)state;

	front_connects();
	r = transfer(BLKIF_OP_READ, SECTORS - 7, 1, 0, 7);
	assert_int_equal(request(&r), BLKIF_RSP_ERROR);
	r = transfer(BLKIF_OP_READ, ~0ull, 1, 0, 7);
	assert_int_equal(request(&r), BLKIF_RSP_ERROR);
	r = transfer(BLKIF_OP_READ, 0, 1, 5, 4);
	assert_int_equal(request(&r), BLKIF_RSP_ERROR);
	r = transfer(BLKIF_OP_READ, 0, 1, 0, 8);
	assert_int_equal(request(&r), BLKIF_RSP_ERROR);
	r = transfer(BLKIF_OP_READ, 0, 0, 0, 7);
	assert_int_equal(request(&r), BLKIF_RSP_ERROR);
	r = transfer(BLKIF_OP_READ, 0, 12, 0, 7);
	assert_int_equal(request(&r), BLKIF_RSP_ERROR);
	r = transfer(77, 0, 1, 0, 7);
	assert_int_equal(request(&r), BLKIF_RSP_EOPNOTSUPP);
	/* A page that is not granted, or not for writing; a read writes to it. */
	rig->granted[2] = false;
	r = transfer(BLKIF_OP_READ, 0, 3, 0, 7);
	assert_int_equal(request(&r), BLKIF_RSP_ERROR);
	rig->granted[2] = rig->read_only[2] = true;
	r = transfer(BLKIF_OP_READ, 0, 3, 0, 7);
	assert_int_equal(request(&r), BLKIF_RSP_ERROR);
	r = transfer(BLKIF_OP_WRITE, 64, 3, 0, 7);
	assert_int_equal(request(&r), BLKIF_RSP_OKAY);
	r = (struct blkif_request){ .operation = BLKIF_OP_DISCARD, .id = 9 };
	((struct blkif_request_discard *)&r)->sector_number = SECTORS - 1;
	((struct blkif_request_discard *)&r)->nr_sectors = 2;
	assert_int_equal(request(&r), BLKIF_RSP_ERROR);
	assert_int_equal(pread(rig->block.fd, &word, 4, 200 * 512), 4);
	assert_int_equal(word, 200);
	assert_string_equal(back_says("state"), "4");
}

static void an_index_that_cannot_be_costs_the_connection(void **state)
{
	(void)state;
	front_connects();
	rig->ring->req_prod = 1000;
	serve();
	assert_false(rig->port_connected);
	assert_int_equal(rig->in_use[RING_REF], 0);
}

static void a_front_end_may_leave_and_come_back(void **state)
{
	struct blkif_request r;
	(void)state;

	for (unsigned round = 0; round < 3; round++) {
		front_connects();
		r = transfer(BLKIF_OP_READ, 3, 1, 0, 7);
		assert_int_equal(request(&r), BLKIF_RSP_OKAY);
		front_sets("state", "5");
		assert_string_equal(back_says("state"), "5");
		assert_false(rig->port_connected);
		front_sets("state", "6");
		assert_string_equal(back_says("state"), "6");
		front_sets("state", "1");
	}
	/* One that names a ring that it does not grant gets no connection, and may try again. */
	rig->granted[RING_REF] = false;
	front_sets("state", "3");
	assert_string_equal(back_says("state"), "5");
	front_sets("state", "6");
	front_sets("state", "1");
	rig->granted[RING_REF] = true;
	front_connects();
}

static void a_ring_of_the_store_that_breaks_the_rules_is_served_no_more(void **state)
{
	const struct xsd_sockmsg m = { .type = XS_READ, .len = 4097 };
	(void)state;

	xs_put(&m, sizeof(m));
	serve();
	assert_int_equal(rig->xs->error, XENSTORE_ERROR_PROTO);
	rig->xs->req_prod += 16;
	serve();
	assert_int_equal(rig->xs->rsp_prod, rig->xs->rsp_cons);
	assert_int_equal(rig->back->counters.store_errors, 1);
}

static void the_thread_wakes_when_it_is_told_and_ends_when_it_is_asked_to(void **state)
{
	struct blkif_request r = transfer(BLKIF_OP_READ, 7, 1, 0, 7);
	(void)state;

	front_connects();
	assert_int_equal(xenback_start(rig->back, rig->page[0]), 0);
	for (unsigned i = 0; i < 100; i++) {
		memcpy(&rig->ring->ring[rig->prod % 32].req, &r, sizeof(r));
		__atomic_store_n(&rig->ring->req_prod, ++rig->prod, __ATOMIC_SEQ_CST);
		rig->notify(rig->opaque);
		for (unsigned n = 0; __atomic_load_n(&rig->ring->rsp_prod, __ATOMIC_SEQ_CST) != rig->prod; n++) {
			assert_true(n < 100000);
			usleep(100);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_front_end_finds_connects_reads_and_writes),
		T(indirect_requests_carry_more_pages),
		T(requests_that_cannot_be_are_refused_and_the_connection_lives),
		T(an_index_that_cannot_be_costs_the_connection),
		T(a_front_end_may_leave_and_come_back),
		T(a_ring_of_the_store_that_breaks_the_rules_is_served_no_more),
		T(the_thread_wakes_when_it_is_told_and_ends_when_it_is_asked_to),
	};
	return cmocka_run_group_tests(tests, 0, 0);
}
