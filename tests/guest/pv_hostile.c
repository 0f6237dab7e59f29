/*
 * pv_hostile.c - a paravirtualized kernel that tries, once each, what Xen's advisories are about: to map what it must not, or to keep a mapping that it must not keep.
 * Every attempt must fail: the hypercall is refused, or the access faults, and what it aimed at is as it was.
 */
#include "pv.h"

PV_GUEST(hostile);

#define RW (PV_P | PV_W | PV_U)
#define RO (PV_P | PV_U)

static uint64_t page[16][512] __attribute__((aligned(4096)));
enum { TARGET, TABLE_A, TABLE_B, TABLE_C, LINEAR, LEAVES, COUNTED = 8 };

static uint64_t of(const void *p) { return pv_mfn(p) * PV_PAGE; }

/* XSA-148: a large page in a level-2 table would map its neighbours, tables among them. */
static void large_page(void)
{
	uint64_t *l2 = pv_table(page, 2);
	const unsigned i = (unsigned)((uint64_t)(uintptr_t)page >> 21 & 511);
	int64_t e = pv_update(pv_entry_at(l2, i), l2[i] | 1 << 7);

	PV_CHECK(e == -XEN_EINVAL, e);
	PV_CHECK(!(l2[i] & 1 << 7), l2[i]);
	/* Without that bit it would be right: an empty table. */
	page[TABLE_A][0] = of(page[TABLE_B]) | RW | 1 << 7;
	pv_remap(page[TABLE_B], RO);
	pv_remap(page[TABLE_A], RO);
	e = pv_ext(MMUEXT_PIN_L2_TABLE, pv_mfn(page[TABLE_A]), 0);
	PV_CHECK(e == -XEN_EINVAL, e);
	PV_CHECK(!pv_remap(page[TABLE_A], RW) && !pv_remap(page[TABLE_B], RW), 0);
	page[TABLE_A][0] = 0;
}

/* XSA-182: a table is mapped read-only; only the right to write is added. */
static void fast_path(void)
{
	uint64_t *l1 = pv_table(page, 1);
	const uint64_t before = l1[511];
	int64_t e = pv_remap(l1, RW);

	PV_CHECK(e == -XEN_EBUSY, e);
	e = pv_call(__HYPERVISOR_update_va_mapping, (uint64_t)(uintptr_t)l1, of(l1) | RW, UVMF_INVLPG, 0);
	PV_CHECK(e == -XEN_EBUSY, e);
	PV_CHECK(PV_FAULTS("movq $0, 4088(%0)", "r"(l1)), 0);
	PV_CHECK(l1[511] == before, l1[511]);
}

/* XSA-212: the list that exchange writes would be in the hypervisor's part of the address space. */
static void unchecked_pointer(void)
{
	static xen_pfn_t in;
	struct xen_memory_exchange x = { .in = { .nr_extents = 1, .domid = DOMID_SELF }, .out = { .nr_extents = 1, .domid = DOMID_SELF } };
	const uint64_t m = pv_mfn(page[TARGET]), before = PV_M2P[m];
	int64_t e;

	in = m;
	set_xen_guest_handle(x.in.extent_start, &in);
	set_xen_guest_handle(x.out.extent_start, (xen_pfn_t *)(uintptr_t)&PV_M2P[m]);
	e = pv_call(__HYPERVISOR_memory_op, XENMEM_exchange, (uint64_t)(uintptr_t)&x, 0, 0);
	PV_CHECK(e == -XEN_EFAULT, e);
	e = pv_call(__HYPERVISOR_memory_op, XENMEM_machphys_mapping, (uint64_t)(uintptr_t)&PV_M2P[m], 0, 0);
	PV_CHECK(e == -XEN_EFAULT, e);
	PV_CHECK(PV_M2P[m] == before, PV_M2P[m]);
	PV_CHECK(PV_FAULTS("movq $0, (%0)", "r"(&PV_M2P[m])), 0);
	/* Arguments that the processor would let it read, but that are not its to point at; that are no addresses; that wrap. */
	e = pv_call(__HYPERVISOR_mmu_update, (uint64_t)(uintptr_t)PV_M2P, 1, 0, DOMID_SELF);
	PV_CHECK(e == -XEN_EFAULT, e);
	e = pv_call(__HYPERVISOR_mmu_update, 0x0000800000000000ull, 1, 0, DOMID_SELF);
	PV_CHECK(e == -XEN_EFAULT, e);
	e = pv_call(__HYPERVISOR_mmu_update, 0x00007ffffffffff8ull, 1, 0, DOMID_SELF);
	PV_CHECK(e == -XEN_EFAULT, e);
	e = pv_call(__HYPERVISOR_mmu_update, ~7ull, 1, 0, DOMID_SELF);
	PV_CHECK(e == -XEN_EFAULT, e);
}

/* XSA-286, XSA-299: tables that contain themselves, finished or on the way. */
static void linear_tables(void)
{
	uint64_t *l4 = pv_table(page, 4), *l2 = pv_table(page, 2);
	int64_t e = pv_update(pv_entry_at(l4, 300), of(l4) | RO);

	PV_CHECK(e == -XEN_EINVAL, e);
	e = pv_update(pv_entry_at(l2, 300), of(l2) | RO);
	PV_CHECK(e == -XEN_EINVAL, e);
	/* The hypervisor's entries: neither taken away nor replaced by what might stand elsewhere. */
	e = pv_update(pv_entry_at(l4, 256), 0);
	PV_CHECK(e == -XEN_EINVAL, e);
	e = pv_update(pv_entry_at(l4, 271), l4[0]);
	PV_CHECK(e == -XEN_EINVAL, e);
	page[LINEAR][0] = of(page[LINEAR]) | RO;
	pv_remap(page[LINEAR], RO);
	for (unsigned level = 0; level < 4; level++) {
		e = pv_ext(MMUEXT_PIN_L1_TABLE + level, pv_mfn(page[LINEAR]), 0);
		PV_CHECK(level ? e == -XEN_EINVAL : !e, e);	/* as level 1 it maps itself read-only, which is allowed */
		if (!e)
			PV_CHECK(!pv_ext(MMUEXT_UNPIN_TABLE, pv_mfn(page[LINEAR]), 0), 0);
	}
	/* Two that contain each other. */
	page[TABLE_B][0] = of(page[TABLE_C]) | RO;
	page[TABLE_C][0] = of(page[TABLE_B]) | RO;
	pv_remap(page[TABLE_B], RO);
	pv_remap(page[TABLE_C], RO);
	e = pv_ext(MMUEXT_PIN_L3_TABLE, pv_mfn(page[TABLE_B]), 0);
	PV_CHECK(e == -XEN_EINVAL, e);
	PV_CHECK(!pv_remap(page[TABLE_B], RW) && !pv_remap(page[TABLE_C], RW), 0);
	page[TABLE_B][0] = page[TABLE_C][0] = 0;
}

/* XSA-280: thousands of references of one page, taken and given back, leave none too few: it is no table as long as one may write to it. */
static void counts(void)
{
	int64_t e;

	for (unsigned i = 0; i < 512; i++)
		page[COUNTED][i] = of(page[TARGET]) | RW;
	pv_remap(page[COUNTED], RO);
	for (unsigned round = 0; round < 20; round++) {
		e = pv_ext(MMUEXT_PIN_L1_TABLE, pv_mfn(page[COUNTED]), 0);
		PV_CHECK(!e, e);
		e = pv_ext(MMUEXT_PIN_L1_TABLE, pv_mfn(page[COUNTED]), 0);
		PV_CHECK(e == -XEN_EINVAL, e);
		e = pv_ext(MMUEXT_PIN_L1_TABLE, pv_mfn(page[TARGET]), 0);
		PV_CHECK(e == -XEN_EINVAL, e);
		e = pv_ext(MMUEXT_UNPIN_TABLE, pv_mfn(page[COUNTED]), 0);
		PV_CHECK(!e, e);
		e = pv_ext(MMUEXT_UNPIN_TABLE, pv_mfn(page[COUNTED]), 0);
		PV_CHECK(e == -XEN_EINVAL, e);
	}
	e = pv_ext(MMUEXT_PIN_L1_TABLE, pv_mfn(page[TARGET]), 0);
	PV_CHECK(e == -XEN_EINVAL, e);	/* its first mapping is there still */
	PV_CHECK(!pv_remap(page[COUNTED], RW), 0);
}

/* XSA-292, XSA-294: address-space numbers and NOFLUSH are not the guest's to choose. */
static void address_spaces(void)
{
	const uint64_t root = pv_mfn(pv_table(page, 4));
	uint64_t cr4, after;
	int64_t e = pv_ext(MMUEXT_NEW_BASEPTR, root | 1ull << 51, 0);

	PV_CHECK(e == -XEN_EINVAL, e);
	e = pv_ext(MMUEXT_NEW_BASEPTR, root | 1ull << 52, 0);	/* as an address, the root again */
	PV_CHECK(e == -XEN_EINVAL, e);
	PV_CHECK(PV_FAULTS("mov %0, %%cr3", "r"(root * PV_PAGE | 1ull << 63)), 0);
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	PV_FAULTS("mov %0, %%cr4", "r"(cr4 | 1 << 17 | 1 << 7));
	__asm__ volatile("mov %%cr4, %0" : "=r"(after));
	PV_CHECK(!(after & (1 << 17 | 1 << 7)), after);
	/* A mapping is taken away and the base pointer loaded: it is gone. */
	page[TARGET][0] = 1;
	PV_CHECK(!pv_remap(page[TARGET], 0), 0);
	e = pv_ext(MMUEXT_NEW_BASEPTR, root, 0);
	PV_CHECK(!e, e);
	PV_CHECK(PV_FAULTS("mov (%0), %%rax", "r"(page[TARGET])), 0);
	PV_CHECK(!pv_remap(page[TARGET], RW), 0);
}

/* XSA-401, XSA-408: a page that the TLB knows as writable becomes a table, without a flush by the guest; and one that leaves the domain. */
static void stale_translations(void)
{
	static xen_pfn_t list;
	struct xen_memory_reservation r = { .nr_extents = 1, .domid = DOMID_SELF };
	int64_t e;

	page[LEAVES][0] = 0;
	PV_CHECK(!PV_FAULTS("movq $0, 8(%0)", "r"(page[LEAVES])), 0);
	e = pv_remap(page[LEAVES], 0);
	PV_CHECK(!e, e);
	e = pv_ext(MMUEXT_PIN_L1_TABLE, pv_mfn(page[LEAVES]), 0);
	PV_CHECK(!e, e);
	PV_CHECK(PV_FAULTS("movq $0x1234, 8(%0)", "r"(page[LEAVES])), 0);
	PV_CHECK(!pv_remap(page[LEAVES], RO), 0);
	PV_CHECK(page[LEAVES][1] == 0, page[LEAVES][1]);
	PV_CHECK(PV_FAULTS("movq $0x1234, 8(%0)", "r"(page[LEAVES])), 0);
	PV_CHECK(!pv_ext(MMUEXT_UNPIN_TABLE, pv_mfn(page[LEAVES]), 0), 0);
	PV_CHECK(!pv_remap(page[LEAVES], RW), 0);
	PV_CHECK(!PV_FAULTS("movq $5, 8(%0)", "r"(page[LEAVES])), 0);
	/* It leaves while it is mapped; the mapping is taken away without a flush. */
	list = pv_mfn(page[LEAVES]);
	set_xen_guest_handle(r.extent_start, &list);
	e = pv_call(__HYPERVISOR_memory_op, XENMEM_decrease_reservation, (uint64_t)(uintptr_t)&r, 0, 0);
	PV_CHECK(e == 1, e);
	e = pv_remap(page[LEAVES], 0);
	PV_CHECK(!e, e);
	PV_CHECK(PV_FAULTS("mov 8(%0), %%rax", "r"(page[LEAVES])), 0);
	e = pv_remap(page[LEAVES], RW);
	PV_CHECK(e == -XEN_EBUSY, e);
}

static __attribute__((used)) void hostile(struct start_info *info)
{
	pv_start(info);
	large_page();
	fast_path();
	unchecked_pointer();
	linear_tables();
	counts();
	address_spaces();
	stale_translations();
	pv_end();
}
