/*
 * pv.c - fuzzes the memory hypercalls of a paravirtualized domain: a guest that writes what it likes where it can, asks for what it likes, and does not
 * always go on with a hypercall that was only begun. Domain 0 uses what it grants, for a while, and holds the other ends of its event channels. After every step
 *   - all references and types are recounted from scratch (xen_audit),
 *   - event channels and VIRQs agree,
 *   - everything that can be reached from the roots in use is looked at, by a walk of the fuzzer's own: frames of the domain only, flags that the level allows,
 *     tables of the right type, nothing writable that has another type,
 * and every few steps the TLB is compared with the frames (mmu_audit: nothing watched is writable, nothing freed is there).
 *
 *   fuzz/pv [--cases N] [--seed S]
 *
 * The first violation is printed with its step and ends the run with status 1. A guest that can no longer reach its own arguments is replaced by another.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "xen/page.h"
#include "xen/xen_internal.h"

#include <xen/grant_table.h>

#define PAGES 96u
#define BASE 0x400000ull	/* page n of the guest lies at BASE + n * 4096 at first */
#define RW (PTE_P | PTE_W | PTE_U)
#define LIFE 3000u		/* steps of one guest */
#define USES 24u
enum { ROOT = 1, L3, L2, L1, TABLES_END, ARGS = 6, LIST, FIRST_TABLE = 16, LAST_TABLE = 47 };

struct fuzz {
	uint64_t seed, step, rng;
	struct memory memory;
	struct bus bus;
	struct xen *xen;
	struct vcpu *v;
	struct xen_vcpu *xv;
	mfn_t m[PAGES];			/* what the guest takes for its pages; some may be gone */
	uint8_t *seen;			/* one byte a frame: looked at in this step, level */
	uint64_t *args, *list;
	uint64_t events;		/* changes of type when the TLB was last looked at */
	struct xen_grant use[USES];	/* what domain 0 uses at the moment */
	unsigned uses;
};

static uint64_t calls, refused, accesses, writes, guests, kept_going, given_up, rooted, grants, grants_refused, events_told;
static struct pv_counters total;

static void die(const struct fuzz *f, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "fuzz/pv: seed %" PRIu64 ", step %" PRIu64 ": ", f->seed, f->step);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(1);
}

static uint64_t pick(struct fuzz *f, uint64_t n) { return random_step(&f->rng) % n; }
static bool chance(struct fuzz *f, unsigned percent) { return pick(f, 100) < percent; }
static uint64_t *host(const struct fuzz *f, mfn_t m) { return pool_ptr(&f->memory.pool, m); }
static uint64_t va(unsigned page) { return BASE + page * PAGE_SIZE; }

static uint64_t any_entry(struct fuzz *f, unsigned level);
static unsigned any_index(struct fuzz *f);

static void start(struct fuzz *f)
{
	struct vcpu *v = f->v;
	const uint64_t up = PTE_P | PTE_W | PTE_U;

	f->uses = 0;
	for (unsigned i = 0; i < PAGES; i++) {
		f->m[i] = pool_reserve(&f->memory.pool, i);
		xen_m2p_set(f->xen, f->m[i], i);
	}
	for (unsigned i = ROOT; i < L2; i++)
		host(f, f->m[i])[0] = f->m[i + 1].v << PAGE_SHIFT | up;
	host(f, f->m[L2])[BASE >> 21] = f->m[L1].v << PAGE_SHIFT | up;
	for (unsigned i = 0; i < PAGES; i++) {
		const bool table = (i >= ROOT && i < TABLES_END) || (i >= FIRST_TABLE && i <= LAST_TABLE && chance(f, 80));

		host(f, f->m[L1])[i] = f->m[i].v << PAGE_SHIFT | (table ? PTE_P | PTE_U : RW);
	}
	/* Trees that are nearly right already: eight pages a level, downwards. */
	for (unsigned i = FIRST_TABLE; i <= LAST_TABLE; i++)
		for (unsigned n = (unsigned)pick(f, 4); n; n--)
			host(f, f->m[i])[any_index(f)] = any_entry(f, 4 - (i - FIRST_TABLE) / 8);
	for (unsigned i = FIRST_TABLE; i < FIRST_TABLE + 8; i++)
		if (chance(f, 70))
			host(f, f->m[i])[0] = f->m[L3].v << PAGE_SHIFT | up; /* finds its arguments there */
	v->cpl = 3;
	v->ring3_kernel = 1;
	mmu_set_controls(&v->mmu, CR0_PE | CR0_PG | CR0_WP, CR4_PAE, EFER_LME | EFER_LMA | EFER_NXE);
	v->cr3 = f->m[ROOT].v << PAGE_SHIFT;
	mmu_set_cr3(&v->mmu, v->cr3);
	if (xen_pages_start(f->xen, f->m[ROOT]))
		die(f, "the bootstrap tables are refused");
	f->xen->pages->round = (unsigned)(8 + pick(f, chance(f, 50) ? 40 : 2000));
}

static void new_guest(struct fuzz *f)
{
	const struct xen_config config = { .memory = &f->memory, .pages = PAGES };

	f->v = aligned_alloc(64, ALIGN_UP(sizeof(*f->v), 64));
	if (!f->v || memory_init_machine(&f->memory, PAGES * PAGE_SIZE, xen_spare_frames(PAGES), PLACEMENT_SCATTER, f->rng))
		exit(2);
	bus_init(&f->bus);
	if (xen_create(&config, &f->xen) || vcpu_init(f->v, &f->memory, &f->bus, PAGING_DIRECT, 0) || xen_add_vcpu(f->xen, f->v))
		exit(2);
	f->xv = f->v->domain;
	f->seen = malloc(f->memory.pool.frames);
	if (!f->seen)
		exit(2);
	guests++;
	start(f);
}

static void end_guest(struct fuzz *f)
{
	const uint64_t *c = (const uint64_t *)&f->xen->pages->counters;

	for (size_t i = 0; i < sizeof(total) / sizeof(*c); i++)
		((uint64_t *)&total)[i] += c[i];
	vcpu_destroy(f->v);
	xen_destroy(f->xen);
	memory_destroy(&f->memory);
	bus_destroy(&f->bus);
	free(f->v);
	free(f->seen);
}

/* What must hold. */

static void check_frame(struct fuzz *f, unsigned level, uint64_t table, unsigned i, uint64_t e)
{
	const struct pv_pages *pages = f->xen->pages;
	const uint64_t m = (e & 0x000ffffffffff000ull) >> PAGE_SHIFT, allowed = 0x07f0000000000e67ull | PTE_NX | (level == 1 ? PTE_G : 0);
	const struct frame *frame = &f->memory.pool.frame[m];
	unsigned wanted = level > 1 ? level - 1 : e & PTE_W ? PV_WRITABLE : PV_NONE;

	if (e & ~(allowed | 0x000ffffffffff000ull))
		die(f, "entry %u of the level-%u table %#" PRIx64 " has forbidden flags: %#" PRIx64, i, level, table, e);
	if (m >= pages->frames || !(frame->flags & FRAME_ALLOCATED) || (frame->flags & FRAME_VMM) || !pages->page[m].refs)
		die(f, "entry %u of the level-%u table %#" PRIx64 " reaches a frame that is not the domain's: %#" PRIx64, i, level, table, e);
	if (wanted != PV_NONE && (pages->page[m].type != wanted || !pages->page[m].type_count))
		die(f, "entry %u of the level-%u table %#" PRIx64 " reaches frame %#" PRIx64 " of type %u", i, level, table, m, pages->page[m].type);
}

static void reach(struct fuzz *f, uint64_t table, unsigned level)
{
	const uint64_t *entry = host(f, mfn(table));

	if (f->seen[table] == level)
		return;
	f->seen[table] = (uint8_t)level;
	for (unsigned i = 0; i < 512; i++) {
		uint64_t e = entry[i];

		if (level == 4 && i >= XEN_L4_FIRST && i <= XEN_L4_LAST) {
			if ((e ^ f->xen->l4_slot[i - XEN_L4_FIRST]) & ~(PTE_A | PTE_D))
				die(f, "slot %u of the root %#" PRIx64 " is %#" PRIx64, i, table, e);
			continue;
		}
		if (!(e & PTE_P))
			continue;
		check_frame(f, level, table, i, e);
		if (level > 1)
			reach(f, (e & 0x000ffffffffff000ull) >> PAGE_SHIFT, level - 1);
	}
}

/* What the processor reads descriptors through. */
static void check_window(struct fuzz *f)
{
	const uint64_t *entry = host(f, f->xen->descriptor_l1);

	for (unsigned i = 0; i < 32; i++) {
		uint64_t m = (entry[i] & 0x000ffffffffff000ull) >> PAGE_SHIFT;

		if ((entry[i] & PTE_P) && i != 14 && f->xen->pages->page[m].type != PV_SEG_DESC)
			die(f, "page %u of the descriptor tables is frame %#" PRIx64 " of type %u", i, m, f->xen->pages->page[m].type);
	}
}

/* A VIRQ and its port name each other; a page in use is plain memory of the domain's, or was when it left. */
static void check_domain0(struct fuzz *f)
{
	const struct pv_page *page = f->xen->pages->page;
	unsigned bound = 0, found = 0;

	for (unsigned i = 0; i < NR_VIRQS; i++) {
		const uint32_t port = f->xv->virq_port[i];

		if (port && (f->xen->port[port].state != EVTCHNSTAT_virq || f->xen->port[port].virq != i))
			die(f, "VIRQ %u is bound to port %" PRIu32 ", which knows nothing of it", i, port);
		bound += !!port;
	}
	for (unsigned i = 0; i < XEN_PORTS; i++)
		found += f->xen->port[i].state == EVTCHNSTAT_virq;
	if (bound != found || f->xen->port[0].state != EVTCHNSTAT_closed)
		die(f, "%u VIRQs are bound, and %u ports", bound, found);
	for (unsigned i = 0; i < f->uses; i++) {
		const mfn_t m = f->use[i].m;

		if (!page[m.v].refs || (pool_frame(&f->memory.pool, m)->flags & (FRAME_ALLOCATED | FRAME_VMM)) != FRAME_ALLOCATED)
			die(f, "domain 0 uses frame %#" PRIx64 ", which is not the domain's", m.v);
		if (f->use[i].write && (page[m.v].type != PV_WRITABLE || !page[m.v].type_count))
			die(f, "domain 0 writes to frame %#" PRIx64 " of type %u", m.v, page[m.v].type);
	}
}

static void check(struct fuzz *f)
{
	const uint64_t root[2] = { f->v->mmu.cr3 >> PAGE_SHIFT, f->v->mmu.user_cr3 >> PAGE_SHIFT };
	const struct pv_counters *c = &f->xen->pages->counters;
	char msg[256];

	if (xen_audit(f->xen, msg, sizeof(msg)))
		die(f, "%s", msg);
	memset(f->seen, 0, f->memory.pool.frames);
	for (unsigned i = 0; i < 2; i++)
		if (root[i])
			reach(f, root[i], 4);
	check_window(f);
	check_domain0(f);
	/* Whenever a frame has changed its type, and now and then. */
	if ((f->step % 32 == 0 || f->events != c->validations + c->frames_left) && mmu_audit(&f->v->mmu, msg, sizeof(msg)))
		die(f, "%s", msg);
	f->events = c->validations + c->frames_left;
}

/* What the guest comes up with. */

static mfn_t any_frame(struct fuzz *f)
{
	unsigned what = (unsigned)pick(f, 100);

	if (what < 60)
		return f->m[FIRST_TABLE + pick(f, LAST_TABLE - FIRST_TABLE + 1)];
	if (what < 63 && f->xen->grant_frames)
		return f->xen->grant_frame[pick(f, f->xen->grant_frames)];
	if (what < 92)
		return f->m[pick(f, PAGES)];
	if (what < 97)
		return mfn(pick(f, f->memory.pool.frames));
	return what < 98 ? f->xen->shared_m : mfn(what == 98 ? random_step(&f->rng) >> 12 : f->memory.pool.frames + pick(f, 3));
}

/* One of the pages that are tables of that level, if the guest does what guests do. */
static mfn_t table_of_level(struct fuzz *f, unsigned level)
{
	return chance(f, 85) ? f->m[FIRST_TABLE + (4 - level) * 8 + pick(f, 8)] : any_frame(f);
}

static uint64_t any_entry(struct fuzz *f, unsigned level)
{
	uint64_t e = (level > 1 ? table_of_level(f, level - 1) : any_frame(f)).v << PAGE_SHIFT, flags = PTE_P | PTE_U;

	if (chance(f, 15))
		return chance(f, 50) ? 0 : e;
	flags |= level > 1 || chance(f, 40) ? PTE_W : 0;
	flags |= chance(f, 30) ? PTE_A | PTE_D : 0;
	if (chance(f, 4))
		flags |= 1ull << pick(f, 64);
	return e | flags;
}

static unsigned level_of(struct fuzz *f, mfn_t m)
{
	const struct pv_pages *pages = f->xen->pages;

	return m.v < pages->frames && pv_type_is_table(pages->page[m.v].type) && chance(f, 90) ? pages->page[m.v].type : (unsigned)(1 + pick(f, 4));
}

/* Of few, so that entries meet. */
static unsigned any_index(struct fuzz *f) { return (unsigned)(chance(f, 80) ? pick(f, 6) : chance(f, 50) ? 254 + pick(f, 20) : pick(f, 512)); }

static uint64_t any_va(struct fuzz *f)
{
	if (chance(f, 70))
		return va((unsigned)pick(f, PAGES)) + 8 * pick(f, 512);
	if (chance(f, 50))
		return (uint64_t)any_index(f) << 39 | (uint64_t)any_index(f) << 30 | (uint64_t)any_index(f) << 21 | (uint64_t)any_index(f) << 12;
	return chance(f, 50) ? XEN_M2P_START + 8 * pick(f, 1000) : random_step(&f->rng);
}

/* The guest's arguments are where it can write; false: they are not, any more. */
static bool arguments(struct fuzz *f)
{
	struct mmu_result r;

	if (mmu_access(&f->v->mmu, gva(va(ARGS)), ACC_WRITE, &r) != MMU_MAPPED)
		return false;
	f->args = r.hva;
	if (mmu_access(&f->v->mmu, gva(va(LIST)), ACC_WRITE, &r) != MMU_MAPPED)
		return false;
	f->list = r.hva;
	return true;
}

static int64_t call(struct fuzz *f, unsigned number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	struct xen_call x = { .xen = f->xen, .xv = f->xv, .v = f->v, .arg = { a, b, c, d } };
	int64_t result;
	unsigned rounds = 0;

	for (;;) {
		x.again = false;
		result = xen_hypercall(&x, number);
		calls++;
		if (!x.again)
			break;
		if (++rounds == 100000)
			die(f, "hypercall %u does not end", number);
		if (chance(f, 3)) {
			given_up++;
			return 0;
		}
		kept_going++;
		if (chance(f, 10))
			check(f);
	}
	refused += result < 0;
	return result;
}

static void do_mmu_update(struct fuzz *f)
{
	struct mmu_update *u = (void *)f->args;
	unsigned n = (unsigned)(1 + pick(f, chance(f, 80) ? 3 : 40));

	for (unsigned i = 0; i < n; i++) {
		mfn_t m = any_frame(f);

		u[i].ptr = m.v << PAGE_SHIFT | any_index(f) * 8 | (chance(f, 80) ? 0 : pick(f, 8));
		u[i].val = any_entry(f, level_of(f, m));
	}
	call(f, __HYPERVISOR_mmu_update, va(ARGS), n, chance(f, 50) ? va(LIST) : 0, DOMID_SELF);
}

static void do_update_va(struct fuzz *f)
{
	uint64_t at = any_va(f), flags = pick(f, 3) | (chance(f, 50) ? UVMF_ALL : 0);

	/* It means to keep its arguments. */
	if (at >> PAGE_SHIFT == va(ARGS) >> PAGE_SHIFT || at >> PAGE_SHIFT == va(LIST) >> PAGE_SHIFT)
		return;
	call(f, __HYPERVISOR_update_va_mapping, at, any_entry(f, 1), flags, 0);
}

static void do_ext(struct fuzz *f)
{
	struct mmuext_op *op = (void *)f->args;
	unsigned n = (unsigned)(1 + pick(f, 3));

	for (unsigned i = 0; i < n; i++) {
		unsigned command = (unsigned)pick(f, 22);

		if (chance(f, 50))
			command = chance(f, 60) ? MMUEXT_PIN_L1_TABLE + (unsigned)pick(f, 4) : MMUEXT_UNPIN_TABLE;
		op[i] = (struct mmuext_op){ .cmd = command };
		op[i].arg1.mfn = any_frame(f).v;
		if (command <= MMUEXT_PIN_L4_TABLE)
			op[i].arg1.mfn = table_of_level(f, command - MMUEXT_PIN_L1_TABLE + 1).v;
		else if (command == MMUEXT_NEW_BASEPTR || command == MMUEXT_NEW_USER_BASEPTR)
			op[i].arg1.mfn = chance(f, 15) ? 0 : chance(f, 30) ? f->m[ROOT].v : table_of_level(f, 4).v;
		else if (command >= MMUEXT_TLB_FLUSH_LOCAL && command <= MMUEXT_INVLPG_ALL)
			op[i].arg1.linear_addr = any_va(f);
		op[i].arg2.src_mfn = command == MMUEXT_COPY_PAGE ? any_frame(f).v : va(LIST);
		if (command == MMUEXT_SET_LDT) {
			op[i].arg1.linear_addr = any_va(f) & PAGE_MASK;
			op[i].arg2.nr_ents = (unsigned)pick(f, 8300);
		}
	}
	call(f, __HYPERVISOR_mmuext_op, va(ARGS), n, chance(f, 50) ? va(LIST) : 0, DOMID_SELF);
}

static void do_reservation(struct fuzz *f)
{
	struct xen_memory_reservation r = { .nr_extents = 1 + pick(f, 4), .domid = DOMID_SELF, .extent_order = chance(f, 90) ? 0 : (unsigned)pick(f, 3) };
	static const unsigned command[] = { XENMEM_decrease_reservation, XENMEM_increase_reservation, XENMEM_populate_physmap };
	unsigned what = command[pick(f, 3)];
	int64_t done;

	for (unsigned i = 0; i < r.nr_extents; i++)
		f->list[i] = what == XENMEM_decrease_reservation ? any_frame(f).v : pick(f, PAGES);
	set_xen_guest_handle(r.extent_start, (xen_pfn_t *)(uintptr_t)(chance(f, 95) ? va(LIST) : any_va(f)));
	memcpy(f->args, &r, sizeof(r));
	done = call(f, __HYPERVISOR_memory_op, what, va(ARGS), 0, 0);
	if (what == XENMEM_decrease_reservation)
		return;
	for (int64_t i = 0; i < done && i < 4 && arguments(f); i++)
		f->m[ARGS + 2 + pick(f, PAGES - ARGS - 2)] = mfn(f->list[i] & 0xffffffff);
}

static void do_exchange(struct fuzz *f)
{
	struct xen_memory_exchange x = { .in = { .nr_extents = 2, .domid = DOMID_SELF }, .out = { .nr_extents = 2, .domid = DOMID_SELF } };

	for (unsigned i = 0; i < 4; i++)
		f->list[i] = i < 2 ? any_frame(f).v : pick(f, PAGES);
	set_xen_guest_handle(x.in.extent_start, (xen_pfn_t *)(uintptr_t)va(LIST));
	set_xen_guest_handle(x.out.extent_start, (xen_pfn_t *)(uintptr_t)(chance(f, 80) ? va(LIST) + 16 : any_va(f)));
	memcpy(f->args, &x, sizeof(x));
	if (!call(f, __HYPERVISOR_memory_op, XENMEM_exchange, va(ARGS), 0, 0) && arguments(f))
		f->m[ARGS + 2 + pick(f, PAGES - ARGS - 2)] = mfn(f->list[2] & 0xffffffff);
}

static void do_descriptors(struct fuzz *f)
{
	static const uint64_t descriptor[] = { 0, 0x00af9a000000ffffull, 0x00cf92000000ffffull, 0x00008b0000000067ull, 0x0000ec0000330000ull };

	switch (pick(f, 4)) {
	case 0:
		for (unsigned i = 0; i < 14; i++)
			f->list[i] = any_frame(f).v;
		call(f, __HYPERVISOR_set_gdt, va(LIST), pick(f, chance(f, 80) ? 1025 : 8000), 0, 0);
		break;
	case 1:
		call(f, __HYPERVISOR_update_descriptor, (any_frame(f).v << PAGE_SHIFT) + any_index(f) * 8, descriptor[pick(f, ARRAY_LEN(descriptor))], 0, 0);
		break;
	default:
		xen_ldt_load(f->xv, (unsigned)pick(f, 65536));
	}
}

/* The guest's own accesses fill its TLB; stores make the contents of future tables. */
static void access_at(struct fuzz *f, uint64_t at, bool write, bool user)
{
	const unsigned access = (write ? ACC_WRITE : ACC_READ) | (user ? ACC_USER : 0);
	struct mmu_result r;
	enum mmu_kind kind = mmu_access(&f->v->mmu, gva(at), access, &r);
	const struct frame *frame;

	if (kind != MMU_MAPPED && kind != MMU_TRACKED)
		return;
	accesses++;
	frame = pool_frame(&f->memory.pool, r.mfn);
	if (r.mfn.v >= f->memory.pool.frames || !(frame->flags & FRAME_ALLOCATED))
		die(f, "address %#" PRIx64 " reaches the free frame %#" PRIx64, at, r.mfn.v);
	if (!write)
		return;
	if (frame->flags & (FRAME_VMM | FRAME_PV_TYPE))
		die(f, "address %#" PRIx64 " can be written and is in frame %#" PRIx64 ", flags %#x", at, r.mfn.v, frame->flags);
	if (r.mfn.v == f->xen->shared_m.v)
		return;
	writes++;
	*(uint64_t *)r.hva = any_entry(f, (unsigned)(1 + pick(f, 4)));
}

static void do_access(struct fuzz *f)
{
	uint64_t at = any_va(f) & ~7ull;

	if (va_canonical(at, VA_BITS_4LEVEL))
		access_at(f, at, chance(f, 60), chance(f, 20) && f->v->mmu.user_cr3);
}

/* A page that was written a moment ago, and is in the TLB, becomes a table; without a flush. */
static void do_retype(struct fuzz *f)
{
	const unsigned page = FIRST_TABLE + (unsigned)pick(f, PAGES - FIRST_TABLE);
	struct mmuext_op *op = (void *)f->args;

	call(f, __HYPERVISOR_update_va_mapping, va(page), f->m[page].v << PAGE_SHIFT | RW, UVMF_INVLPG, 0);
	access_at(f, va(page), true, false);
	call(f, __HYPERVISOR_update_va_mapping, va(page), chance(f, 50) ? 0 : f->m[page].v << PAGE_SHIFT | PTE_P, UVMF_NONE, 0);
	if (!arguments(f))
		return;
	*op = (struct mmuext_op){ .cmd = chance(f, 80) ? MMUEXT_PIN_L1_TABLE : (unsigned)pick(f, 4) };
	op->arg1.mfn = f->m[page].v;
	call(f, __HYPERVISOR_mmuext_op, va(ARGS), 1, 0, DOMID_SELF);
	access_at(f, va(page), true, false);
}

/* The guest grants its pages, or what is none; tables, too. It may take a grant back while it is in use. */
static unsigned any_ref(struct fuzz *f) { return (unsigned)pick(f, 24) * 61; } /* of few, in three frames of the table */

static void do_grants(struct fuzz *f)
{
	struct gnttab_setup_table *setup = (void *)f->args;
	struct grant_entry_v1 *e;
	unsigned ref;

	if (chance(f, 8) || !f->xen->grant_frames) {
		*setup = (struct gnttab_setup_table){ .dom = DOMID_SELF, .nr_frames = (uint32_t)pick(f, chance(f, 90) ? 4 : 20) };
		set_xen_guest_handle(setup->frame_list, (xen_pfn_t *)(uintptr_t)(chance(f, 90) ? va(LIST) : any_va(f)));
		call(f, __HYPERVISOR_grant_table_op, chance(f, 80) ? GNTTABOP_setup_table : pick(f, 14), chance(f, 95) ? va(ARGS) : any_va(f), pick(f, 8) ? 1 : 2, 0);
		return;
	}
	for (unsigned n = 1 + (unsigned)pick(f, 8); n; n--) {
		ref = any_ref(f);
		if (ref / 512 >= f->xen->grant_frames)
			continue;
		e = (struct grant_entry_v1 *)host(f, f->xen->grant_frame[ref / 512]) + ref % 512;
		*e = (struct grant_entry_v1){
			.flags = (uint16_t)(chance(f, 85) ? GTF_permit_access | (chance(f, 40) ? GTF_readonly : 0) : random_step(&f->rng)),
			.domid = chance(f, 95) ? 0 : (uint16_t)pick(f, 3), .frame = (uint32_t)(chance(f, 98) ? any_frame(f).v : random_step(&f->rng)),
		};
	}
}

/* Domain 0 begins or ends the use of a grant; writes where it may. */
static void do_domain0(struct fuzz *f)
{
	for (unsigned n = (unsigned)pick(f, 6); n; n--) {
		const bool write = chance(f, 60);

		if (f->uses == USES || (f->uses && chance(f, 40))) {
			const unsigned i = (unsigned)pick(f, f->uses);

			xen_grant_done(f->xen, &f->use[i]);
			f->use[i] = f->use[--f->uses];
		} else if (xen_grant_use(f->xen, chance(f, 98) ? any_ref(f) : (uint32_t)random_step(&f->rng), write, &f->use[f->uses])) {
			grants_refused++;
		} else {
			const mfn_t m = f->use[f->uses++].m;

			grants++;
			if (write && m.v != f->xen->shared_m.v)
				host(f, m)[any_index(f)] = any_entry(f, (unsigned)(1 + pick(f, 4)));
		}
	}
}

static void told(void *opaque)
{
	(void)opaque;
	events_told++;
}

static void do_events(struct fuzz *f)
{
	const uint32_t port = (uint32_t)pick(f, chance(f, 90) ? 6 : XEN_PORTS + 10);

	switch (pick(f, 6)) {
	case 0:
		xen_port_connect(f->xen, port, told, f);
		return;
	case 1:
		xen_port_notify_guest(f->xen, port);
		return;
	case 2:
		if (chance(f, 30))
			xen_port_disconnect(f->xen, port);
		return;
	}
	/* Structures of three small numbers, mostly: a domain or a port, a vcpu... */
	f->args[0] = chance(f, 40) ? DOMID_SELF : chance(f, 90) ? port : random_step(&f->rng);
	if (chance(f, 60))
		f->args[0] |= pick(f, chance(f, 90) ? 3 : UINT32_MAX) << 32;
	f->args[1] = pick(f, chance(f, 90) ? 2 : UINT32_MAX);
	call(f, __HYPERVISOR_event_channel_op, chance(f, 40) ? EVTCHNOP_send : chance(f, 40) ? EVTCHNOP_alloc_unbound : pick(f, 16),
	     chance(f, 97) ? va(ARGS) : any_va(f), 0, 0);
}

static bool one_step(struct fuzz *f)
{
	unsigned what = (unsigned)pick(f, 120);

	if (!arguments(f))
		return false;
	rooted += f->v->mmu.cr3 >> PAGE_SHIFT != f->m[ROOT].v;
	if (what < 32)
		do_access(f);
	else if (what < 35)
		do_retype(f);
	else if (what < 55)
		do_mmu_update(f);
	else if (what < 65)
		do_update_va(f);
	else if (what < 85)
		do_ext(f);
	else if (what < 92)
		do_reservation(f);
	else if (what < 95)
		do_exchange(f);
	else if (what < 100)
		do_descriptors(f);
	else if (what < 107)
		do_grants(f);
	else if (what < 114)
		do_domain0(f);
	else
		do_events(f);
	check(f);
	return true;
}

int main(int argc, char **argv)
{
	uint64_t cases = 100000;
	struct fuzz f = { .seed = 1 };

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--cases"))
			cases = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--seed"))
			f.seed = strtoull(argv[i + 1], NULL, 0);
	}
	clock_init();
	f.rng = f.seed;
	new_guest(&f);
	for (unsigned age = 0; calls < cases; f.step++, age++) {
		if (one_step(&f) && age < LIFE)
			continue;
		end_guest(&f);
		new_guest(&f);
		age = 0;
	}
	end_guest(&f);
	printf("pv: %" PRIu64 " steps, %" PRIu64 " hypercalls (%" PRIu64 " refused, %" PRIu64 " continued, %" PRIu64 " not), %" PRIu64 " guests, %" PRIu64
	       " accesses, %" PRIu64 " stores, %" PRIu64 " steps in trees of its own; %" PRIu64 " validations, %" PRIu64 " preemptions, %" PRIu64 " updates, %" PRIu64
	       " flushes, %" PRIu64 " frames left; %" PRIu64 " grants used, %" PRIu64 " not, %" PRIu64 " events to domain 0\n",
	       f.step, calls, refused, kept_going, given_up, guests, accesses, writes, rooted, total.validations, total.preemptions,
	       total.fast_updates + total.slow_updates, total.type_flushes, total.frames_left, grants, grants_refused, events_told);
	return 0;
}
