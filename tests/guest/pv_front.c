/*
 * pv_front.c - a disk's front end that lies: grants of what must not be written, grants that are not there, requests that change while they are carried out, ring indices that
 * cannot be. Each is refused, what it aimed at is as it was, and the disk still works for a front end that begins anew. At the end xenstore's ring, in the same way.
 * Needs --disk, of at least 64 sectors, sector n beginning with the 32-bit number n + 1 (tests/e2e/front.sh).
 */
#include "pv.h"
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>
#include <xen/io/xs_wire.h>

PV_GUEST(front);

#define RW (PV_P | PV_W | PV_U)
#define RO (PV_P | PV_U)
#define DISK "device/vbd/51712/"
#define BACK "/local/domain/0/backend/vbd/1/51712/"
enum { GOOD = 8, TABLE, PINNED, READ_ONLY, GONE, RING, LIST, SECOND };	/* grant references */

static uint64_t grants[512] __attribute__((aligned(4096)));	/* here the frame of the grant table is mapped */
static uint64_t page[6][512] __attribute__((aligned(4096)));
static struct blkif_sring *const ring = (struct blkif_sring *)(void *)page[0];
static uint64_t *const data = page[1], *const pinned = page[2], *const list = page[3], *const gone = page[4], *const second = page[5];
static uint32_t prod, port;

static int64_t event(unsigned command, void *p) { return pv_call(__HYPERVISOR_event_channel_op, command, (uint64_t)(uintptr_t)p, 0, 0); }
static void send(uint32_t to) { event(EVTCHNOP_send, &(struct evtchn_send){ to }); }
static void copy(void *to, const void *from, size_t n) { __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory"); }
static size_t length(const char *s) { size_t n = 0; while (s[n]) n++; return n; }

/* ---- xenstore ---- */

static volatile struct xenstore_domain_interface *store(void) { return pv_of_mfn(pv_info->store_mfn); }

static void xs_put(const void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		PV_WAIT(store()->req_prod - store()->req_cons != XENSTORE_RING_SIZE);
		store()->req[MASK_XENSTORE_IDX(store()->req_prod)] = ((const char *)bytes)[i];
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		store()->req_prod++;
	}
	send(pv_info->store_evtchn);
}

static void xs_get(char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		PV_WAIT(store()->rsp_prod != store()->rsp_cons);
		bytes[i] = store()->rsp[MASK_XENSTORE_IDX(store()->rsp_cons)];
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		store()->rsp_cons++;
	}
	send(pv_info->store_evtchn);
}

static char answer[4097];
static uint32_t xs(uint32_t type, const char *path, const char *value)
{
	struct xsd_sockmsg m = { .type = type, .len = (uint32_t)(length(path) + 1 + length(value)) };

	xs_put(&m, sizeof(m));
	xs_put(path, length(path) + 1);
	xs_put(value, length(value));
	xs_get((char *)&m, sizeof(m));
	xs_get(answer, m.len & 4095);
	answer[m.len & 4095] = 0;
	return m.type;
}

static void set(const char *path, unsigned number)
{
	char text[12], *p = text + sizeof(text) - 1;
	uint32_t e;

	*p = 0;
	do
		*--p = (char)('0' + number % 10);
	while (number /= 10);
	e = xs(XS_WRITE, path, p);
	PV_CHECK(e == XS_WRITE, e);
}

static void until_back_is(char state)
{
	PV_WAIT((xs(XS_READ, BACK "state", ""), answer[0] == state));
}

/* ---- the disk ---- */

static void grant(unsigned ref, uint64_t frame, unsigned flags)
{
	((struct grant_entry_v1 *)grants)[ref] = (struct grant_entry_v1){ .frame = (uint32_t)frame };
	__atomic_store_n(&((struct grant_entry_v1 *)grants)[ref].flags, (uint16_t)(GTF_permit_access | flags), __ATOMIC_SEQ_CST);
}
static unsigned in_use(unsigned ref) { return ((volatile struct grant_entry_v1 *)grants)[ref].flags & (GTF_reading | GTF_writing); }

static void connect(void)
{
	struct evtchn_alloc_unbound open = { .dom = DOMID_SELF, .remote_dom = 0 };

	until_back_is('2');
	for (unsigned i = 0; i < 512; i++)
		((uint64_t *)ring)[i] = 0;
	ring->req_event = ring->rsp_event = 1;
	prod = 0;
	PV_CHECK(!event(EVTCHNOP_alloc_unbound, &open), open.port);
	port = open.port;
	set(DISK "ring-ref", RING);
	set(DISK "event-channel", port);
	set(DISK "state", 3);
	until_back_is('4');
	set(DISK "state", 4);
}

static struct blkif_request *slot(void) { return &ring->ring[prod % 32].req; }
static void post(const struct blkif_request *r)
{
	copy(slot(), r, sizeof(*r));
	__atomic_store_n(&ring->req_prod, ++prod, __ATOMIC_SEQ_CST);
	send(port);
}
static int status(void)
{
	PV_WAIT(__atomic_load_n(&ring->rsp_prod, __ATOMIC_SEQ_CST) == prod);
	return ring->ring[(prod - 1) % 32].rsp.status;
}

static int transfer(unsigned operation, unsigned ref, uint64_t sector, unsigned first, unsigned last, unsigned segments)
{
	struct blkif_request r = { .operation = (uint8_t)operation, .nr_segments = (uint8_t)segments, .id = 7, .sector_number = sector };

	for (unsigned i = 0; i < BLKIF_MAX_SEGMENTS_PER_REQUEST; i++)
		r.seg[i] = (struct blkif_request_segment){ .gref = ref, .first_sect = (uint8_t)first, .last_sect = (uint8_t)last };
	post(&r);
	return status();
}
static int get(unsigned ref) { return transfer(BLKIF_OP_READ, ref, 8, 0, 7, 1); }

static void works(void)
{
	data[0] = data[64] = 0;
	PV_CHECK(get(GOOD) == BLKIF_RSP_OKAY, 0);
	PV_CHECK((uint32_t)data[0] == 9 && (uint32_t)data[64] == 10, data[0]);
	PV_CHECK(!in_use(GOOD), in_use(GOOD));
}

/* Frames that are not to be written, or not the domain's. */
static void frames(void)
{
	uint64_t *l1 = pv_table(page, 1), *l4 = pv_table(page, 4);
	const uint64_t before = l1[511], root = l4[300];
	static xen_pfn_t leaves;
	struct xen_memory_reservation r = { .nr_extents = 1, .domid = DOMID_SELF };
	int e;

	grant(TABLE, pv_mfn(l1), 0);
	e = get(TABLE);
	PV_CHECK(e == BLKIF_RSP_ERROR && l1[511] == before && !in_use(TABLE), e);
	grant(TABLE, pv_mfn(l4), 0);
	e = get(TABLE);
	PV_CHECK(e == BLKIF_RSP_ERROR && l4[300] == root, e);
	PV_CHECK(!pv_remap(pinned, RO) && !pv_ext(MMUEXT_PIN_L1_TABLE, pv_mfn(pinned), 0), 0);
	grant(PINNED, pv_mfn(pinned), 0);
	e = get(PINNED);
	PV_CHECK(e == BLKIF_RSP_ERROR && !pinned[0], e);
	grant(READ_ONLY, pv_mfn(data), GTF_readonly);
	e = get(READ_ONLY);
	PV_CHECK(e == BLKIF_RSP_ERROR, e);
	leaves = pv_mfn(gone);
	set_xen_guest_handle(r.extent_start, &leaves);
	PV_CHECK(!pv_remap(gone, 0) && pv_call(__HYPERVISOR_memory_op, XENMEM_decrease_reservation, (uint64_t)(uintptr_t)&r, 0, 0) == 1, 0);
	const uint64_t foreign[] = { leaves, 0, 0xffffffff, 0x7fffffff };
	for (unsigned i = 0; i < 4; i++) {
		grant(GONE, foreign[i], 0);
		e = get(GONE);
		PV_CHECK(e == BLKIF_RSP_ERROR, i);
		e = transfer(BLKIF_OP_WRITE, GONE, 8, 0, 7, 1);
		PV_CHECK(e == BLKIF_RSP_ERROR, i);
	}
	const unsigned refs[] = { 500, 512, 100000, ~0u };	/* not granted; no such entry */
	for (unsigned i = 0; i < 4; i++) {
		e = get(refs[i]);
		PV_CHECK(e == BLKIF_RSP_ERROR, refs[i]);
	}
	/* The page that both write to is plain memory as long as they do. */
	PV_CHECK(!pv_remap(ring, RO) && pv_ext(MMUEXT_PIN_L1_TABLE, pv_mfn(ring), 0) == -XEN_EINVAL && !pv_remap(ring, RW), 0);
	works();
}

static void requests(void)
{
	PV_CHECK(transfer(BLKIF_OP_READ, GOOD, 1ull << 40, 0, 7, 1) == BLKIF_RSP_ERROR, 0);
	PV_CHECK(transfer(BLKIF_OP_READ, GOOD, ~0ull, 0, 7, 1) == BLKIF_RSP_ERROR, 0);
	PV_CHECK(transfer(BLKIF_OP_READ, GOOD, 8, 3, 2, 1) == BLKIF_RSP_ERROR, 0);
	PV_CHECK(transfer(BLKIF_OP_READ, GOOD, 8, 0, 8, 1) == BLKIF_RSP_ERROR, 0);
	PV_CHECK(transfer(BLKIF_OP_READ, GOOD, 8, 0, 7, 12) == BLKIF_RSP_ERROR, 0);
	PV_CHECK(transfer(BLKIF_OP_READ, GOOD, 8, 0, 7, 0) == BLKIF_RSP_ERROR, 0);
	PV_CHECK(transfer(99, GOOD, 8, 0, 7, 1) == BLKIF_RSP_EOPNOTSUPP, 0);
	works();
}

/* What was checked is not what stands there a moment later: the request in the ring, its list of segments, the grant. */
static void changes(void)
{
	struct blkif_request r = { 0 };
	struct blkif_request_indirect in = { .operation = BLKIF_OP_INDIRECT, .indirect_op = BLKIF_OP_READ, .nr_segments = 8, .id = 7, .sector_number = 8 };
	volatile struct blkif_request_segment *s = (void *)list;
	uint64_t *l1 = pv_table(page, 1);
	const uint64_t before = l1[511];
	unsigned bad = 0;

	grant(TABLE, pv_mfn(l1), 0);
	grant(LIST, pv_mfn(list), GTF_readonly);
	in.indirect_grefs[0] = LIST;
	copy(&r, &in, sizeof(in));
	for (unsigned round = 0; round < 300; round++) {
		volatile struct blkif_request_indirect *there = (void *)slot();

		for (unsigned i = 0; i < 8; i++)
			s[i] = (struct blkif_request_segment){ .gref = GOOD, .first_sect = 0, .last_sect = 7 };
		grant(SECOND, pv_mfn(second), 0);
		s[7].gref = SECOND;
		post(&r);
		for (unsigned i = 0; __atomic_load_n(&ring->rsp_prod, __ATOMIC_SEQ_CST) != prod; i++) {
			s[i & 3].gref = i & 4 ? TABLE : GOOD;
			s[i & 3].last_sect = i & 8 ? 255 : 7;
			there->nr_segments = i & 16 ? 0xffff : 8;
			there->sector_number = i & 32 ? ~0ull : 8;
			/* Taken back, if it is not in use, and given again for a table. */
			if (round & 1 && !in_use(SECOND))
				grant(SECOND, pv_mfn(i & 1 ? l1 : second), 0);
		}
		bad += l1[511] != before;
	}
	PV_CHECK(!bad, bad);
	grant(GOOD, pv_mfn(data), 0);
	works();
}

/* An index that cannot be costs the connection; the front end begins anew. */
static void indices(void)
{
	for (unsigned i = 0; i < 2; i++) {
		struct evtchn_status s = { .dom = DOMID_SELF, .port = port };

		__atomic_store_n(&ring->req_prod, prod + (i ? 1u << 31 : 33), __ATOMIC_SEQ_CST);
		send(port);
		PV_WAIT((event(EVTCHNOP_status, &s), s.status == EVTCHNSTAT_unbound));
		set(DISK "state", 6);
		until_back_is('6');
		set(DISK "state", 1);
		connect();
		works();
	}
	/* With the responses' index, and what it wants to hear of, it may play as it likes. */
	__atomic_store_n(&ring->rsp_event, prod + 77, __ATOMIC_SEQ_CST);
	works();
	ring->rsp_prod = 1u << 30;
	works();
}

static void store_ring(void)
{
	PV_CHECK(store()->error == XENSTORE_ERROR_NONE, store()->error);
	store()->req_prod = store()->req_cons + XENSTORE_RING_SIZE + 1;
	send(pv_info->store_evtchn);
	PV_WAIT(store()->error != XENSTORE_ERROR_NONE);
	PV_CHECK(store()->error == XENSTORE_ERROR_RINGIDX, store()->error);
	/* The disk goes on without it. */
	works();
}

static __attribute__((used)) void front(struct start_info *info)
{
	static xen_pfn_t frame;
	struct gnttab_setup_table t = { .dom = DOMID_SELF, .nr_frames = 1 };

	pv_start(info);
	set_xen_guest_handle(t.frame_list, &frame);
	PV_CHECK(!pv_call(__HYPERVISOR_grant_table_op, GNTTABOP_setup_table, (uint64_t)(uintptr_t)&t, 1, 0) && t.status == GNTST_okay, t.status);
	PV_CHECK(!pv_update(pv_leaf_at(grants), frame * PV_PAGE | RW), 0);
	grant(GOOD, pv_mfn(data), 0);
	grant(RING, pv_mfn(ring), 0);
	connect();
	works();
	frames();
	requests();
	changes();
	indices();
	store_ring();
	pv_end();
}
