/*
 * xen_memory_test.c - the memory hypercalls of a paravirtualized domain: what they do, the errors that Xen gives, and that every count is that of a recount after
 * each of them (xen_audit).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "xen/page.h"
#include "xen/xen_internal.h"

#define PAGES 256u
#define BASE 0x400000ull	/* page n of the guest lies at BASE + n * 4096 */
#define RW (PTE_P | PTE_W | PTE_U)
enum { ROOT = 1, L3, L2, L1, TABLES_END, ROOT2 = 10, ARGS = 100, LIST = 101, PLAIN = 102, GDT = 110, LDT = 112 };

static struct rig {
	struct memory memory;
	struct bus bus;
	struct xen *xen;
	struct vcpu *v;
	struct xen_vcpu *xv;
	mfn_t m[PAGES];
} *rig;

static uint64_t *host(unsigned page) { return pool_ptr(&rig->memory.pool, rig->m[page]); }
static uint64_t va(unsigned page) { return BASE + page * PAGE_SIZE; }
static uint64_t entry(unsigned page, uint64_t flags) { return rig->m[page].v << PAGE_SHIFT | flags; }
static struct pv_page *typed(unsigned page) { return &rig->xen->pages->page[rig->m[page].v]; }
/* The machine address of the entry that maps the page. */
static uint64_t entry_at(unsigned page) { return (rig->m[L1].v << PAGE_SHIFT) + page * 8; }

static void clean(void)
{
	char msg[200] = "";

	if (xen_audit(rig->xen, msg, sizeof(msg)) || mmu_audit(&rig->v->mmu, msg, sizeof(msg)))
		fail_msg("%s", msg);
}

static int set_up(void **state)
{
	(void)state;
	clock_init();
	rig = calloc(1, sizeof(*rig));
	rig->v = aligned_alloc(64, ALIGN_UP(sizeof(*rig->v), 64));
	assert_int_equal(memory_init_machine(&rig->memory, PAGES * PAGE_SIZE, xen_spare_frames(PAGES), PLACEMENT_SCATTER, 3), 0);
	bus_init(&rig->bus);
	const struct xen_config config = { .memory = &rig->memory, .pages = PAGES };
	assert_int_equal(xen_create(&config, &rig->xen), 0);
	assert_int_equal(vcpu_init(rig->v, &rig->memory, &rig->bus, PAGING_DIRECT, 0), 0);
	assert_int_equal(xen_add_vcpu(rig->xen, rig->v), 0);
	rig->xv = rig->v->domain;
	for (unsigned i = 0; i < PAGES; i++)
		assert_true(mfn_valid(rig->m[i] = pool_reserve(&rig->memory.pool, i)));
	for (unsigned i = ROOT; i < L2; i++)
		host(i)[0] = entry(i + 1, RW);
	host(L2)[BASE >> 21] = entry(L1, RW);
	for (unsigned i = 0; i < PAGES; i++) {
		host(L1)[i] = entry(i, i >= ROOT && i < TABLES_END ? PTE_P | PTE_U : RW);
		xen_m2p_set(rig->xen, rig->m[i], i);
	}
	struct vcpu *v = rig->v;
	v->cpl = 3;
	v->ring3_kernel = 1;
	mmu_set_controls(&v->mmu, CR0_PE | CR0_PG | CR0_WP, CR4_PAE, EFER_LME | EFER_LMA | EFER_NXE);
	v->cr3 = rig->m[ROOT].v << PAGE_SHIFT;
	mmu_set_cr3(&v->mmu, v->cr3);
	assert_int_equal(xen_pages_start(rig->xen, rig->m[ROOT]), 0);
	clean();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	clean();
	vcpu_destroy(rig->v);
	xen_destroy(rig->xen);
	memory_destroy(&rig->memory);
	bus_destroy(&rig->bus);
	free(rig->v);
	free(rig);
	return 0;
}

static int64_t call(unsigned number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	struct xen_call x = { .xen = rig->xen, .xv = rig->xv, .v = rig->v, .arg = { a, b, c, d } };
	int64_t result;

	do {
		x.again = false;
		result = xen_hypercall(&x, number);
		clean();
	} while (x.again);
	return result;
}

static void *args(const void *p, size_t size) { return memcpy(host(ARGS), p, size); }

static int64_t update(uint64_t at, uint64_t value)
{
	const struct mmu_update u = { at, value };

	args(&u, sizeof(u));
	return call(__HYPERVISOR_mmu_update, va(ARGS), 1, 0, DOMID_SELF);
}

static int64_t ext(unsigned command, uint64_t a, uint64_t b)
{
	struct mmuext_op op = { .cmd = command };

	op.arg1.linear_addr = a;
	op.arg2.src_mfn = b;
	args(&op, sizeof(op));
	return call(__HYPERVISOR_mmuext_op, va(ARGS), 1, 0, DOMID_SELF);
}

static int64_t memory_op(unsigned command, void *p, size_t size)
{
	int64_t result;

	args(p, size);
	result = call(__HYPERVISOR_memory_op, command, va(ARGS), 0, 0);
	memcpy(p, host(ARGS), size);
	return result;
}

static void remap(unsigned page, uint64_t flags)
{
	assert_int_equal(call(__HYPERVISOR_update_va_mapping, va(page), flags ? entry(page, flags) : 0, UVMF_INVLPG, 0), 0);
}

static enum mmu_kind touch(unsigned page, unsigned access)
{
	struct mmu_result r;

	return mmu_access(&rig->v->mmu, gva(va(page)), access, &r);
}

static void a_list_of_updates_stops_at_the_first_error_and_says_how_many_were_done(void **state)
{
	const struct mmu_update list[] = {
		{ entry_at(PLAIN) | MMU_NORMAL_PT_UPDATE, 0 },
		{ (rig->m[PLAIN].v << PAGE_SHIFT) | MMU_MACHPHYS_UPDATE, 777 },
		{ entry_at(PLAIN) | MMU_PT_UPDATE_PRESERVE_AD, entry(PLAIN, RW) },
		{ entry_at(PLAIN) | 7, 0 },
		{ entry_at(PLAIN), 0 },
	};

	(void)state;
	args(list, sizeof(list));
	assert_int_equal(call(__HYPERVISOR_mmu_update, va(ARGS), ARRAY_LEN(list), va(LIST), DOMID_SELF), -XEN_ENOSYS);
	assert_int_equal((uint32_t)host(LIST)[0], 3);
	assert_int_equal(host(L1)[PLAIN], entry(PLAIN, RW));
	assert_int_equal(xen_m2p_get(rig->xen, rig->m[PLAIN]), 777);
	assert_int_equal(call(__HYPERVISOR_mmu_update, va(ARGS), 3, 0, DOMID_SELF), 0);
	assert_int_equal(call(__HYPERVISOR_mmu_update, va(ARGS), 0, 0, DOMID_SELF), 0);
	assert_int_equal(call(__HYPERVISOR_mmu_update, XEN_HOLE_START, 1, 0, DOMID_SELF), -XEN_EFAULT);
	assert_int_equal(update(rig->xen->pages->frames << PAGE_SHIFT, 0), -XEN_EINVAL);
	assert_int_equal(update(~0ull << 12, 0), -XEN_EINVAL);
	assert_int_equal(update((rig->xen->m2p_frame[0].v << PAGE_SHIFT) | MMU_MACHPHYS_UPDATE, 1), -XEN_EINVAL);
}

static void other_domains_are_not_to_be_had(void **state)
{
	static const struct { uint64_t whose; int error; } row[] = {
		{ 0, XEN_ESRCH }, { XEN_DOMID, XEN_ESRCH }, { DOMID_IO, XEN_EPERM }, { DOMID_XEN, XEN_EPERM }, { DOMID_SELF | 1 << 16, XEN_EINVAL },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
		assert_int_equal(call(__HYPERVISOR_mmu_update, va(ARGS), 1, 0, row[i].whose), -row[i].error);
		assert_int_equal(call(__HYPERVISOR_mmuext_op, va(ARGS), 1, 0, row[i].whose), -row[i].error);
		if (!(row[i].whose >> 16))
			assert_int_equal(call(__HYPERVISOR_update_va_mapping_otherdomain, va(PLAIN), 0, 0, row[i].whose), -row[i].error);
	}
	assert_int_equal(host(L1)[PLAIN] & ~(PTE_A | PTE_D), entry(PLAIN, RW));
}

static void an_address_is_remapped_and_flushed(void **state)
{
	(void)state;
	assert_int_equal(touch(PLAIN, ACC_WRITE), MMU_MAPPED);
	remap(PLAIN, PTE_P | PTE_U);
	assert_int_equal(touch(PLAIN, ACC_READ), MMU_MAPPED);
	assert_int_equal(touch(PLAIN, ACC_WRITE), MMU_INJECT);
	assert_int_equal(call(__HYPERVISOR_update_va_mapping, va(PLAIN), 0, UVMF_TLB_FLUSH | UVMF_ALL, 0), 0);
	assert_int_equal(touch(PLAIN, ACC_READ), MMU_INJECT);
	host(LIST)[0] = 1;
	assert_int_equal(call(__HYPERVISOR_update_va_mapping, va(PLAIN), entry(PLAIN, RW), UVMF_TLB_FLUSH | va(LIST), 0), 0);
	assert_int_equal(touch(PLAIN, ACC_WRITE), MMU_MAPPED);
	assert_int_equal(call(__HYPERVISOR_update_va_mapping, XEN_M2P_START, entry(PLAIN, RW), 0, 0), -XEN_EINVAL);
	assert_int_equal(call(__HYPERVISOR_update_va_mapping, BASE + GIB(4), entry(PLAIN, RW), 0, 0), -XEN_EINVAL);
	assert_int_equal(call(__HYPERVISOR_update_va_mapping, 1ull << 62, entry(PLAIN, RW), 0, 0), -XEN_EINVAL);
	assert_int_equal(call(__HYPERVISOR_update_va_mapping, va(PLAIN), entry(L1, RW), 0, 0), -XEN_EBUSY);
	assert_int_equal(call(__HYPERVISOR_update_va_mapping, va(PLAIN), entry(PLAIN, RW | PTE_PS), 0, 0), -XEN_EINVAL);
}

static void roots_are_tables_as_long_as_a_vcpu_has_them(void **state)
{
	(void)state;
	memcpy(host(ROOT2), host(ROOT), PAGE_SIZE);
	assert_int_equal(ext(MMUEXT_NEW_BASEPTR, rig->m[ROOT2].v, 0), -XEN_EINVAL);	/* mapped writable */
	remap(ROOT2, PTE_P | PTE_U);
	assert_int_equal(ext(MMUEXT_NEW_USER_BASEPTR, rig->m[ROOT2].v, 0), 0);
	assert_int_equal(typed(ROOT2)->type, PV_L4);
	assert_int_equal(ext(MMUEXT_NEW_BASEPTR, rig->m[ROOT2].v, 0), 0);
	assert_int_equal(rig->v->mmu.cr3, rig->m[ROOT2].v << PAGE_SHIFT);
	assert_int_equal(ext(MMUEXT_NEW_USER_BASEPTR, 0, 0), 0);
	assert_int_equal(ext(MMUEXT_NEW_BASEPTR, 0, 0), -XEN_EINVAL);
	assert_int_equal(ext(MMUEXT_NEW_BASEPTR, rig->m[L1].v, 0), -XEN_EINVAL);
	assert_int_equal(ext(MMUEXT_UNPIN_TABLE, rig->m[ROOT].v, 0), 0);
	remap(ROOT, RW);		/* a plain page again */
	assert_int_equal(touch(ROOT, ACC_WRITE), MMU_MAPPED);
	assert_int_equal(ext(MMUEXT_NEW_BASEPTR, rig->m[ROOT].v, 0), -XEN_EINVAL);
	assert_int_equal(call(__HYPERVISOR_update_va_mapping, va(ROOT2), entry(ROOT2, RW), 0, 0), -XEN_EBUSY);
}

static void pages_are_pinned_cleared_and_copied(void **state)
{
	(void)state;
	assert_int_equal(ext(MMUEXT_PIN_L2_TABLE, rig->m[L2].v, 0), 0);
	assert_int_equal(ext(MMUEXT_PIN_L2_TABLE, rig->m[L2].v, 0), -XEN_EINVAL);
	assert_int_equal(ext(MMUEXT_PIN_L3_TABLE, rig->m[L2].v, 0), -XEN_EINVAL);
	assert_int_equal(ext(MMUEXT_PIN_L1_TABLE, ~0ull, 0), -XEN_EINVAL);
	assert_int_equal(ext(MMUEXT_UNPIN_TABLE, rig->m[L2].v, 0), 0);
	assert_int_equal(ext(MMUEXT_UNPIN_TABLE, rig->m[L2].v, 0), -XEN_EINVAL);
	host(PLAIN)[5] = 55;
	assert_int_equal(ext(MMUEXT_COPY_PAGE, rig->m[LIST].v, rig->m[PLAIN].v), 0);
	assert_int_equal(host(LIST)[5], 55);
	assert_int_equal(ext(MMUEXT_CLEAR_PAGE, rig->m[LIST].v, 0), 0);
	assert_int_equal(host(LIST)[5], 0);
	assert_int_equal(ext(MMUEXT_CLEAR_PAGE, rig->m[L1].v, 0), -XEN_EINVAL);
	assert_int_equal(ext(MMUEXT_COPY_PAGE, rig->m[L1].v, rig->m[PLAIN].v), -XEN_EINVAL);
	assert_int_equal(ext(MMUEXT_COPY_PAGE, rig->m[LIST].v, rig->xen->m2p_frame[0].v), -XEN_EINVAL);
	assert_int_equal(ext(MMUEXT_MARK_SUPER, rig->m[PLAIN].v, 0), -XEN_EOPNOTSUPP);
	assert_int_equal(ext(MMUEXT_FLUSH_CACHE, 0, 0), -XEN_EACCES);
	assert_int_equal(ext(4000, 0, 0), -XEN_ENOSYS);
	assert_int_equal(ext(MMUEXT_TLB_FLUSH_MULTI, 0, XEN_HOLE_START), -XEN_EINVAL);
	host(LIST)[0] = ~0ull;
	assert_int_equal(ext(MMUEXT_INVLPG_MULTI, va(PLAIN), va(LIST)), 0);
	assert_int_equal(ext(MMUEXT_INVLPG_LOCAL, 1ull << 62, 0), 0);
	assert_int_equal(ext(MMUEXT_TLB_FLUSH_ALL, 0, 0), 0);
}

static void pages_leave_and_come_back_under_other_frames(void **state)
{
	struct xen_memory_reservation r = { .nr_extents = 2, .domid = DOMID_SELF };
	const mfn_t gone = rig->m[PLAIN];
	domid_t self = DOMID_SELF;

	(void)state;
	set_xen_guest_handle(r.extent_start, (xen_pfn_t *)(uintptr_t)va(LIST));
	assert_int_equal(memory_op(XENMEM_current_reservation, &self, sizeof(self)), PAGES);
	assert_int_equal(memory_op(XENMEM_populate_physmap, &r, sizeof(r)), 0);	/* it has all it may have */
	host(LIST)[0] = gone.v;
	host(LIST)[1] = rig->xen->shared_m.v;
	host(PLAIN)[0] = 1234;
	remap(PLAIN, 0);
	assert_int_equal(memory_op(XENMEM_decrease_reservation, &r, sizeof(r)), 1);
	assert_int_equal(xen_m2p_get(rig->xen, gone), XEN_M2P_INVALID);
	assert_int_equal(memory_op(XENMEM_current_reservation, &self, sizeof(self)), PAGES - 1);
	assert_int_equal(call(__HYPERVISOR_update_va_mapping, va(PLAIN), gone.v << PAGE_SHIFT | RW, 0, 0), -XEN_EBUSY);
	host(LIST)[0] = host(LIST)[1] = PLAIN;
	assert_int_equal(memory_op(XENMEM_populate_physmap, &r, sizeof(r)), 1);
	rig->m[PLAIN] = mfn(host(LIST)[0]);
	assert_true(pv_page_owned(rig->xen->pages, rig->m[PLAIN]));
	assert_int_equal(xen_m2p_get(rig->xen, rig->m[PLAIN]), PLAIN);
	remap(PLAIN, RW);
	assert_int_equal(host(PLAIN)[0], 0);
	r.extent_order = 10;
	assert_int_equal(memory_op(XENMEM_decrease_reservation, &r, sizeof(r)), 0);
	assert_int_equal(memory_op(XENMEM_maximum_reservation, &self, sizeof(self)), PAGES);
	self = 3;
	assert_int_equal(memory_op(XENMEM_maximum_reservation, &self, sizeof(self)), -XEN_ESRCH);
}

static void a_mapped_page_that_is_given_back_goes_when_its_mapping_does(void **state)
{
	struct xen_memory_reservation r = { .nr_extents = 1, .domid = DOMID_SELF };

	(void)state;
	set_xen_guest_handle(r.extent_start, (xen_pfn_t *)(uintptr_t)va(LIST));
	host(LIST)[0] = rig->m[PLAIN].v;
	assert_int_equal(touch(PLAIN, ACC_WRITE), MMU_MAPPED);
	assert_int_equal(memory_op(XENMEM_decrease_reservation, &r, sizeof(r)), 1);
	assert_true(pool_frame(&rig->memory.pool, rig->m[PLAIN])->flags & FRAME_ALLOCATED);
	/* Without a flush of the guest's: nobody reaches it any more. */
	assert_int_equal(call(__HYPERVISOR_update_va_mapping, va(PLAIN), 0, 0, 0), 0);
	assert_int_equal(touch(PLAIN, ACC_READ), MMU_INJECT);
	assert_int_equal(call(__HYPERVISOR_memory_op, XENMEM_maximum_ram_page, 0, 0, 0), (int64_t)rig->memory.pool.frames);
	assert_false(pool_frame(&rig->memory.pool, rig->m[PLAIN])->flags & FRAME_ALLOCATED);
}

static void pages_are_exchanged_if_nothing_refers_to_them(void **state)
{
	struct xen_memory_exchange x = { .in = { .nr_extents = 1, .domid = DOMID_SELF }, .out = { .nr_extents = 1, .domid = DOMID_SELF } };
	const mfn_t old = rig->m[PLAIN];
	uint64_t shared;

	(void)state;
	set_xen_guest_handle(x.in.extent_start, (xen_pfn_t *)(uintptr_t)va(LIST));
	set_xen_guest_handle(x.out.extent_start, (xen_pfn_t *)(uintptr_t)(va(LIST) + 8));
	host(LIST)[0] = old.v;
	host(LIST)[1] = PLAIN;
	assert_int_equal(memory_op(XENMEM_exchange, &x, sizeof(x)), -XEN_EINVAL);	/* it is mapped */
	remap(PLAIN, 0);
	assert_int_equal(memory_op(XENMEM_exchange, &x, sizeof(x)), 0);
	assert_int_equal(x.nr_exchanged, 1);
	assert_int_not_equal(host(LIST)[1], old.v);
	rig->m[PLAIN] = mfn(host(LIST)[1]);
	assert_int_equal(xen_m2p_get(rig->xen, rig->m[PLAIN]), PLAIN);
	/* XSA-212: the list of new frames would be in the VMM's own tables. */
	x.nr_exchanged = 0;
	host(LIST)[0] = rig->m[PLAIN].v;
	shared = xen_m2p_get(rig->xen, rig->xen->shared_m);
	set_xen_guest_handle(x.out.extent_start, (xen_pfn_t *)(uintptr_t)(XEN_M2P_START + rig->xen->shared_m.v * 8));
	assert_int_equal(memory_op(XENMEM_exchange, &x, sizeof(x)), -XEN_EFAULT);
	x.nr_exchanged = ~0ull;
	assert_int_equal(memory_op(XENMEM_exchange, &x, sizeof(x)), -XEN_EINVAL);
	assert_int_equal(xen_m2p_get(rig->xen, rig->xen->shared_m), shared);
	x.nr_exchanged = 0;
	x.out.extent_order = 10;
	assert_int_equal(memory_op(XENMEM_exchange, &x, sizeof(x)), -XEN_EPERM);
	x.out.extent_order = 1;
	assert_int_equal(memory_op(XENMEM_exchange, &x, sizeof(x)), -XEN_EINVAL);
}

static void what_may_be_known_of_memory_is_told(void **state)
{
	struct xen_machphys_mapping mapping;
	struct xen_machphys_mfn_list list = { .max_extents = 8 };
	struct xen_memory_map map = { .nr_entries = 5 };

	(void)state;
	assert_int_equal(memory_op(XENMEM_machphys_mapping, &mapping, sizeof(mapping)), 0);
	assert_int_equal(mapping.v_start, XEN_M2P_START);
	assert_int_equal(mapping.max_mfn, rig->memory.pool.frames - 1);
	set_xen_guest_handle(list.extent_start, (xen_pfn_t *)(uintptr_t)va(LIST));
	assert_int_equal(memory_op(XENMEM_machphys_mfn_list, &list, sizeof(list)), 0);
	assert_int_equal(list.nr_extents, (rig->xen->m2p_frames + 511) / 512);
	set_xen_guest_handle(map.buffer, (void *)(uintptr_t)va(LIST));
	assert_int_equal(memory_op(XENMEM_memory_map, &map, sizeof(map)), 0);
	assert_int_equal(map.nr_entries, 1);
	assert_int_equal(host(LIST)[1], PAGES * PAGE_SIZE);
	assert_int_equal(memory_op(XENMEM_machine_memory_map, &map, sizeof(map)), -XEN_EPERM);
	assert_int_equal(memory_op(60, &map, sizeof(map)), -XEN_ENOSYS);
}

static void descriptor_tables_hold_their_frames(void **state)
{
	const uint64_t code = 0x00af9a000000ffffull, seen = 0x00affb000000ffffull, task = 0x00008b0000000067ull;

	(void)state;
	host(GDT)[1] = code;
	host(LIST)[0] = rig->m[GDT].v;
	assert_int_equal(call(__HYPERVISOR_set_gdt, va(LIST), 16, 0, 0), -XEN_EINVAL);	/* mapped writable */
	remap(GDT, PTE_P | PTE_U);
	assert_int_equal(call(__HYPERVISOR_set_gdt, va(LIST), 16, 0, 0), 0);
	assert_int_equal(host(GDT)[1], seen);
	assert_int_equal(call(__HYPERVISOR_update_va_mapping, va(GDT), entry(GDT, RW), 0, 0), -XEN_EBUSY);
	assert_int_equal(update(rig->m[GDT].v << PAGE_SHIFT, 0), -XEN_EINVAL);
	assert_int_equal(call(__HYPERVISOR_update_descriptor, (rig->m[GDT].v << PAGE_SHIFT) + 16, code, 0, 0), 0);
	assert_int_equal(host(GDT)[2], seen);
	assert_int_equal(call(__HYPERVISOR_update_descriptor, (rig->m[GDT].v << PAGE_SHIFT) + 16, task, 0, 0), -XEN_EINVAL);
	assert_int_equal(call(__HYPERVISOR_update_descriptor, (rig->m[GDT].v << PAGE_SHIFT) + 4, code, 0, 0), -XEN_EINVAL);
	assert_int_equal(call(__HYPERVISOR_update_descriptor, rig->m[L1].v << PAGE_SHIFT, code, 0, 0), -XEN_EINVAL);
	assert_int_equal(call(__HYPERVISOR_set_gdt, va(LIST), FIRST_RESERVED_GDT_ENTRY + 1, 0, 0), -XEN_EINVAL);
	assert_int_equal(call(__HYPERVISOR_set_gdt, XEN_HOLE_START, 16, 0, 0), -XEN_EFAULT);
	assert_int_equal(call(__HYPERVISOR_set_gdt, va(LIST), 0, 0, 0), 0);
	remap(GDT, RW);
}

static void local_descriptors_get_their_type_when_they_are_needed(void **state)
{
	(void)state;
	host(LDT)[1] = 0x00cf92000000ffffull;
	assert_int_equal(ext(MMUEXT_SET_LDT, va(LDT) + 8, 16), -XEN_EINVAL);
	assert_int_equal(ext(MMUEXT_SET_LDT, va(LDT), 8193), -XEN_EINVAL);
	assert_int_equal(ext(MMUEXT_SET_LDT, XEN_HOLE_START, 16), -XEN_EINVAL);
	assert_int_equal(ext(MMUEXT_SET_LDT, va(LDT), 600), 0);
	assert_false(xen_ldt_load(rig->xv, 8));		/* mapped writable */
	remap(LDT, PTE_P | PTE_U);
	assert_true(xen_ldt_load(rig->xv, 8));
	clean();
	assert_int_equal(host(LDT)[1], 0x00cff3000000ffffull);
	assert_int_equal(typed(LDT)->type, PV_SEG_DESC);
	assert_false(xen_ldt_load(rig->xv, 4800));
	assert_false(xen_ldt_load(rig->xv, 4096));
	assert_int_equal(ext(MMUEXT_NEW_BASEPTR, rig->m[ROOT].v, 0), 0);
	remap(LDT, RW);
	assert_int_equal(ext(MMUEXT_SET_LDT, 0, 0), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(a_list_of_updates_stops_at_the_first_error_and_says_how_many_were_done),
		T(other_domains_are_not_to_be_had),
		T(an_address_is_remapped_and_flushed),
		T(roots_are_tables_as_long_as_a_vcpu_has_them),
		T(pages_are_pinned_cleared_and_copied),
		T(pages_leave_and_come_back_under_other_frames),
		T(a_mapped_page_that_is_given_back_goes_when_its_mapping_does),
		T(pages_are_exchanged_if_nothing_refers_to_them),
		T(what_may_be_known_of_memory_is_told),
		T(descriptor_tables_hold_their_frames),
		T(local_descriptors_get_their_type_when_they_are_needed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
