/*
 * domain.c - a domain's life, and the frames that are the VMM's and that the guest sees at fixed places: shared_info, the machine-to-physical
 * table (M2P) and the descriptor tables' window.
 *
 * Invariant
 *  X1  a frame with FRAME_VMM is mapped by the VMM's own tables only, in the hypervisor's slots of a level-4 table, and no mapping of it is writable
 *
 * shared_info is written by the guest, so it is not among them: it has no flag, and is writable for ever (page.h, PV_FIXED).
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "xen/page.h"
#include "xen/xen_internal.h"

#define ENTRIES 512u
#define TABLE_FLAGS (PTE_P | PTE_U | PTE_A)
#define LEAF_FLAGS (PTE_P | PTE_A | PTE_NX)
_Static_assert(!(LEAF_FLAGS & PTE_U), "the descriptor window's translations are global (mmu/direct.c)");
#define VCPU_WINDOW 32u		/* entries of the descriptor window for one vcpu */
#define GDT_RESERVED_PAGE 14u	/* FIRST_RESERVED_GDT_ENTRY / 512 */

static uint64_t m2p_frames_for(uint64_t frames) { return (frames + ENTRIES - 1) / ENTRIES; }
static uint64_t tables_for(uint64_t entries) { return (entries + ENTRIES - 1) / ENTRIES; }

uint64_t xen_spare_frames(uint64_t pages)
{
	/* The pool is a little larger than pages and what is asked here (mem/memory.c rounds up): an M2P for twice as many is enough. */
	uint64_t m2p = m2p_frames_for(2 * pages + MIB(16) / PAGE_SIZE);

	return m2p + tables_for(m2p) + tables_for(tables_for(m2p)) + XEN_GRANT_FRAMES + 64;
}

/* A frame of ours, zeroed. */
static int own(struct xen *xen, mfn_t *m)
{
	*m = pool_alloc(&xen->memory->pool, ~0ull);
	if (!mfn_valid(*m))
		return -ENOMEM;
	pool_frame(&xen->memory->pool, *m)->flags |= FRAME_VMM;
	return 0;
}

static uint64_t *table_at(const struct xen *xen, mfn_t m) { return pool_ptr(&xen->memory->pool, m); }

/* Machine frame 0 is nobody's: as a base pointer it means none. */
static int keep_frame_0(struct xen *xen)
{
	const mfn_t m = pool_take(&xen->memory->pool, mfn(0), ~0ull);

	if (!mfn_valid(m))
		return -ENOMEM;
	pool_frame(&xen->memory->pool, m)->flags |= FRAME_VMM;
	return 0;
}

/* The entry for index i in table m, whose table is made if need be. */
static int next_table(struct xen *xen, mfn_t m, unsigned i, mfn_t *out)
{
	uint64_t *e = &table_at(xen, m)[i];

	if (!*e) {
		int err = own(xen, out);

		if (err)
			return err;
		*e = out->v << PAGE_SHIFT | TABLE_FLAGS;
	}
	*out = mfn((*e & 0x000ffffffffff000ull) >> PAGE_SHIFT);
	return 0;
}

/* A chain of tables for va below the level-3 table `top`; *l1 is the last. */
static int tables_for_va(struct xen *xen, mfn_t top, uint64_t va, mfn_t *l1)
{
	mfn_t l2;
	int err = next_table(xen, top, va >> 30 & (ENTRIES - 1), &l2);

	return err ? err : next_table(xen, l2, va >> 21 & (ENTRIES - 1), l1);
}

static int make_m2p(struct xen *xen)
{
	mfn_t l3, l1;
	int err = own(xen, &l3);

	xen->m2p_frames = m2p_frames_for(xen->memory->pool.frames);
	xen->m2p_frame = calloc(xen->m2p_frames, sizeof(*xen->m2p_frame));
	if (!xen->m2p_frame)
		return -ENOMEM;
	for (uint64_t i = 0; !err && i < xen->m2p_frames; i++) {
		uint64_t va = XEN_M2P_START + (i << PAGE_SHIFT);

		err = own(xen, &xen->m2p_frame[i]);
		if (!err)
			err = tables_for_va(xen, l3, va, &l1);
		if (err)
			return err;
		table_at(xen, l1)[va >> PAGE_SHIFT & (ENTRIES - 1)] = xen->m2p_frame[i].v << PAGE_SHIFT | LEAF_FLAGS | PTE_U;
		fill_bytes(pool_ptr(&xen->memory->pool, xen->m2p_frame[i]), 0xff, PAGE_SIZE);
	}
	xen->l4_slot[0] = l3.v << PAGE_SHIFT | TABLE_FLAGS;
	return err;
}

/* Flat segments of privilege 3 (xen/arch-x86/xen-x86_64.h, FLAT_RING3_*): selectors e023, e02b, e033. */
static int make_descriptors(struct xen *xen)
{
	mfn_t l3, reserved;
	uint64_t *gdt;
	int err = own(xen, &l3);

	if (!err)
		err = tables_for_va(xen, l3, XEN_GDT_START, &xen->descriptor_l1);
	if (!err)
		err = own(xen, &reserved);
	if (err)
		return err;
	gdt = pool_ptr(&xen->memory->pool, reserved);
	gdt[(FLAT_RING3_CS32 & 0xfff) >> 3] = 0x00cffb000000ffffull;
	gdt[(FLAT_RING3_SS32 & 0xfff) >> 3] = 0x00cff3000000ffffull;
	gdt[(FLAT_RING3_CS64 & 0xfff) >> 3] = 0x00affb000000ffffull;
	for (unsigned i = 0; i < XEN_VCPUS_MAX; i++)
		table_at(xen, xen->descriptor_l1)[i * VCPU_WINDOW + GDT_RESERVED_PAGE] = reserved.v << PAGE_SHIFT | LEAF_FLAGS;
	xen->l4_slot[(XEN_GDT_START >> 39 & (ENTRIES - 1)) - XEN_L4_FIRST] = l3.v << PAGE_SHIFT | TABLE_FLAGS;
	return 0;
}

void xen_descriptors_changed(struct xen_vcpu *xv)
{
	struct xen *xen = xv->xen;
	uint64_t *e = table_at(xen, xen->descriptor_l1) + xv->id * VCPU_WINDOW;
	uint64_t base = XEN_GDT_START + ((uint64_t)xv->id * VCPU_WINDOW << PAGE_SHIFT);
	struct vcpu *v = xv->v;

	for (unsigned i = 0; i < VCPU_WINDOW; i++) {
		mfn_t m = i < ARRAY_LEN(xv->gdt_frame) ? xv->gdt_frame[i] : i >= 16 ? xv->ldt_frame[i - 16] : MFN_NONE;
		uint64_t entry = mfn_valid(m) ? m.v << PAGE_SHIFT | LEAF_FLAGS : 0;

		if ((i == GDT_RESERVED_PAGE) || e[i] == entry)
			continue;
		e[i] = entry;
		/* Without U it is global, so this finds it whichever root it was read under. */
		mmu_invlpg(&v->mmu, gva(base + ((uint64_t)i << PAGE_SHIFT)));
	}
	xv->entered.valid = false;
	v->gdtr = (struct table_reg){ base, 0xffff };
	v->ldtr = (struct segment){ .base = base + (16u << PAGE_SHIFT), .limit = xv->ldt_entries ? xv->ldt_entries * 8 - 1 : 0,
				    .attr = (uint16_t)(xv->ldt_entries ? SEG_P | DESC_LDT : 0) };
}

uint64_t xen_m2p_get(const struct xen *xen, mfn_t m)
{
	return table_at(xen, xen->m2p_frame[m.v / ENTRIES])[m.v % ENTRIES];
}

void xen_m2p_set(struct xen *xen, mfn_t m, uint64_t pfn)
{
	pool_frame(&xen->memory->pool, m)->gfn = pfn;
	table_at(xen, xen->m2p_frame[m.v / ENTRIES])[m.v % ENTRIES] = pfn;
}

mfn_t xen_shared_info_mfn(const struct xen *xen) { return xen->shared_m; }

static int make_shared_info(struct xen *xen)
{
	xen->shared_m = pool_alloc(&xen->memory->pool, ~0ull);
	if (!mfn_valid(xen->shared_m))
		return -ENOMEM;
	xen->shared = pool_ptr(&xen->memory->pool, xen->shared_m);
	xen_m2p_set(xen, xen->shared_m, XEN_M2P_SHARED);
	fill_bytes(xen->shared->evtchn_mask, 0xff, sizeof(xen->shared->evtchn_mask));
	for (unsigned i = 0; i < XEN_LEGACY_MAX_VCPUS; i++)
		xen->shared->vcpu_info[i].evtchn_upcall_mask = 1;
	return 0;
}

int xen_create(const struct xen_config *config, struct xen **out)
{
	struct xen *xen = calloc(1, sizeof(*xen));
	pthread_mutex_t *lock = malloc(sizeof(*lock));
	int err;

	if (!xen || !lock) {
		free(xen);
		free(lock);
		return -ENOMEM;
	}
	pthread_mutex_init(lock, NULL);
	xen->lock = lock;
	xen->config = *config;
	xen->memory = config->memory;
	xen->nr_pages = config->pages;
	err = keep_frame_0(xen);
	if (!err)
		err = make_m2p(xen);
	if (!err)
		err = make_descriptors(xen);
	if (!err)
		err = make_shared_info(xen);
	if (!err)
		err = xen_pages_create(xen);
	if (err) {
		xen_destroy(xen);
		return err;
	}
	*out = xen;
	return 0;
}

/* The frames go with the pool. */
void xen_destroy(struct xen *xen)
{
	if (!xen)
		return;
	xen_pages_destroy(xen);
	pthread_mutex_destroy(xen->lock);
	free(xen->lock);
	free(xen->m2p_frame);
	free(xen);
}

void xen_move_info(struct xen_vcpu *xv, struct vcpu_info *info, mfn_t m)
{
	struct xen *xen = xv->xen;

	pthread_mutex_lock(xen->lock);
	*info = *xv->info;
	xv->info = info;
	xv->info_m = m;
	/* An event may have come between the copy and the change: everything is looked at once. */
	info->evtchn_pending_sel = ~0ul;
	info->evtchn_upcall_pending = 1;
	pthread_mutex_unlock(xen->lock);
	xen_frame_written(xen, m);
}

static const struct personality personality_xen = {
	.name = "xen",
	.deliver = xen_deliver,
	.interrupts = xen_interrupts,
	.recheck = xen_recheck,
	.syscall = xen_syscall,
	.refused = xen_refused,
	.timer = xen_timer,
	.cpuid = xen_cpuid,
};

int xen_add_vcpu(struct xen *xen, struct vcpu *v)
{
	struct xen_vcpu *xv;

	if (xen->vcpus == XEN_VCPUS_MAX)
		return -ENOSPC;
	xv = &xen->vcpu[xen->vcpus];
	xv->id = xen->vcpus++;
	xv->v = v;
	xv->xen = xen;
	xv->info = &xen->shared->vcpu_info[xv->id];
	xv->info_m = xen->shared_m;
	for (unsigned i = 0; i < ARRAY_LEN(xv->gdt_frame); i++)
		xv->gdt_frame[i] = MFN_NONE;
	for (unsigned i = 0; i < ARRAY_LEN(xv->ldt_frame); i++)
		xv->ldt_frame[i] = MFN_NONE;
	v->domain = xv;
	v->personality = &personality_xen;
	pv_pages_add_mmu(xen->pages, &v->mmu);
	xv->ctrlreg0 = CR0_PE | CR0_PG | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM;
	xen_timers_init(xv);
	xen_descriptors_changed(xv);
	return 0;
}

#define ROW(member, help) STAT_ROW(struct xen_counters, member, help)
const struct stat_row xen_stat_rows[] = {
	ROW(hypercalls, "hypercalls, those within multicalls too"),
	ROW(multicalls, "multicalls"),
	ROW(multicall_entries, "hypercalls that came in them"),
	ROW(continuations, "hypercalls that did a part of their work and were made again for the rest"),
	ROW(syscalls_bounced, "system calls of user code handed to the guest's kernel"),
	ROW(exceptions_bounced, "exceptions handed to it"),
	ROW(failsafes, "failsafe callbacks: an iret hypercall asked for what cannot be entered"),
	ROW(upcalls, "event upcalls"),
	ROW(irets, "iret hypercalls"),
	ROW(emulated, "privileged instructions emulated"),
	ROW(events_sent, "events that the guest sent"),
};
const size_t xen_stat_row_count = ARRAY_LEN(xen_stat_rows);
const void *xen_counters(const struct xen *xen) { return &xen->counters; }
const void *xen_page_counters(const struct xen *xen) { return &xen->pages->counters; }
