/*
 * mmu_direct_test.c - the direct mode's walk: guest entries hold machine addresses, two roots are in force, and no frame but the domain's is reached.
 */
#include <sys/mman.h>

#include "mmu_util.h"

#include "mmu/direct.h"
#include "mmu/explain.h"
#include "xen/domain.h"
#include "xen/xen_internal.h"

struct domain {
	struct memory memory;
	struct mmu mmu;
	struct xen *xen;
	struct mmu_result r;
	mfn_t root, user_root;
};

static mfn_t frame(struct domain *d, uint64_t pfn)
{
	mfn_t m = pool_reserve(&d->memory.pool, pfn);

	assert_true(mfn_valid(m));
	xen_m2p_set(d->xen, m, pfn);
	return m;
}

static uint64_t *table(struct domain *d, mfn_t m) { return pool_ptr(&d->memory.pool, m); }

/* Makes the tables for va below root, down to the page m. */
static void map(struct domain *d, mfn_t root, uint64_t va, mfn_t m, uint64_t flags)
{
	mfn_t t = root;

	for (unsigned level = 4; level > 1; level--) {
		uint64_t *e = &table(d, t)[va >> (12 + 9 * (level - 1)) & 511];

		if (!*e)
			*e = frame(d, 500).v << PAGE_SHIFT | PWU;
		t = mfn((*e & 0x000ffffffffff000ull) >> PAGE_SHIFT);
	}
	table(d, t)[va >> 12 & 511] = m.v << PAGE_SHIFT | flags;
}

static struct domain *domain_new(void)
{
	struct domain *d = aligned_alloc(64, ALIGN_UP(sizeof(*d), 64));
	const uint64_t pages = MIB(32) / PAGE_SIZE;

	assert_non_null(d);
	memset(d, 0, sizeof(*d));
	assert_int_equal(memory_init_machine(&d->memory, MIB(32), xen_spare_frames(pages), PLACEMENT_SCATTER, 5), 0);
	const struct xen_config config = { .memory = &d->memory, .pages = pages };
	assert_int_equal(xen_create(&config, &d->xen), 0);
	assert_int_equal(mmu_init(&d->mmu, &d->memory, PAGING_DIRECT), 0);
	d->root = frame(d, 1);
	d->user_root = frame(d, 2);
	for (unsigned i = 0; i < ARRAY_LEN(d->xen->l4_slot); i++)
		table(d, d->root)[XEN_L4_FIRST + i] = table(d, d->user_root)[XEN_L4_FIRST + i] = d->xen->l4_slot[i];
	mmu_set_controls(&d->mmu, LONG_CR0, CR4_PAE, LONG_EFER);
	mmu_set_cr3(&d->mmu, d->root.v << PAGE_SHIFT);
	return d;
}

static void domain_free(struct domain *d)
{
	char msg[200] = "";

	if (mmu_audit(&d->mmu, msg, sizeof(msg)))
		fail_msg("audit: %s", msg);
	mmu_destroy(&d->mmu);
	xen_destroy(d->xen);
	memory_destroy(&d->memory);
	free(d);
}

static enum mmu_kind touch(struct domain *d, uint64_t va, unsigned access) { return mmu_access(&d->mmu, gva(va), access, &d->r); }

static void the_guests_entries_hold_machine_frames(void **state)
{
	struct domain *d = domain_new();
	mfn_t page = frame(d, 70);

	(void)state;
	map(d, d->root, 0x400000, page, PWU);
	assert_int_equal(touch(d, 0x400123, ACC_WRITE), MMU_MAPPED);
	assert_int_equal(d->r.mfn.v, page.v);
	assert_ptr_equal(d->r.hva, (uint8_t *)pool_ptr(&d->memory.pool, page) + 0x123);
	domain_free(d);
}

static void a_user_walks_from_a_root_of_its_own(void **state)
{
	struct domain *d = domain_new();
	mfn_t kernel_page = frame(d, 70), user_page = frame(d, 71);

	(void)state;
	map(d, d->root, 0x400000, kernel_page, PWU);
	assert_int_equal(touch(d, 0x400000, ACC_READ | ACC_USER), MMU_INJECT); /* no user root yet */
	assert_int_equal(d->r.exc.error, PF_U);
	map(d, d->user_root, 0x400000, user_page, PWU);
	mmu_set_user_cr3(&d->mmu, d->user_root.v << PAGE_SHIFT);
	assert_int_equal(touch(d, 0x400000, ACC_READ | ACC_USER), MMU_MAPPED);
	assert_int_equal(d->r.mfn.v, user_page.v);
	assert_int_equal(touch(d, 0x400000, ACC_READ), MMU_MAPPED);
	assert_int_equal(d->r.mfn.v, kernel_page.v);
	/* Both are cached; a new user root has nothing to do with the kernel's; what was taken away is void with the next load. */
	mmu_set_user_cr3(&d->mmu, 0);
	assert_int_equal(touch(d, 0x400000, ACC_READ | ACC_USER), MMU_INJECT);
	assert_int_equal(touch(d, 0x400000, ACC_READ), MMU_MAPPED);
	direct_entry_changed(&d->memory, d->root, 4, 0, table(d, d->root)[0], 0);
	table(d, d->root)[0] = 0;
	assert_int_equal(touch(d, 0x400000, ACC_READ), MMU_MAPPED);
	mmu_set_cr3(&d->mmu, d->root.v << PAGE_SHIFT);
	assert_int_equal(touch(d, 0x400000, ACC_READ), MMU_INJECT);
	domain_free(d);
}

static void the_machine_to_physical_table_can_be_read_and_not_written(void **state)
{
	struct domain *d = domain_new();
	mfn_t page = frame(d, 70);
	uint64_t va = XEN_M2P_START + page.v * 8;

	(void)state;
	mmu_set_user_cr3(&d->mmu, d->user_root.v << PAGE_SHIFT);
	assert_int_equal(touch(d, va, ACC_READ), MMU_MAPPED);
	assert_int_equal(load_u64(d->r.hva), 70);
	assert_int_equal(touch(d, va, ACC_WRITE), MMU_INJECT);
	assert_int_equal(d->r.exc.error, PF_P | PF_W);
	assert_int_equal(touch(d, va, ACC_READ | ACC_EXEC), MMU_INJECT);
	domain_free(d);
}

static void frames_that_are_not_the_domains_are_out_of_reach_whatever_a_table_says(void **state)
{
	struct domain *d = domain_new();

	(void)state;
	/* Free frames, frames beyond the pool, our own frames for writing, typed frames for writing, large pages. */
	for (uint64_t m = 0; m < d->memory.pool.frames; m++)
		if (!(d->memory.pool.frame[m].flags & FRAME_ALLOCATED)) {
			map(d, d->root, 0x600000, mfn(m), PWU);
			break;
		}
	map(d, d->root, 0x601000, mfn(d->memory.pool.frames), PWU);
	map(d, d->root, 0x602000, mfn(1ull << 27), PWU);
	map(d, d->root, 0x603000, d->xen->m2p_frame[0], PWU);
	map(d, d->root, 0x604000, d->root, PWU);
	pool_frame(&d->memory.pool, d->root)->flags |= FRAME_PV_TYPE;
	for (uint64_t va = 0x600000; va < 0x605000; va += PAGE_SIZE)
		assert_int_equal(touch(d, va, ACC_WRITE), MMU_INJECT);
	for (uint64_t va = 0x600000; va < 0x603000; va += PAGE_SIZE)
		assert_int_equal(touch(d, va, ACC_READ), MMU_INJECT);
	assert_int_equal(touch(d, 0x604000, ACC_READ), MMU_MAPPED); /* reading one's tables is allowed */
	map(d, d->root, 0x800000, frame(d, 9), PWU);
	for (unsigned level = 2; level < 4; level++) {
		uint64_t *e = table(d, d->root);

		for (unsigned l = 4; l > level; l--)
			e = table(d, mfn((e[0x800000ull >> (12 + 9 * (l - 1)) & 511] & 0x000ffffffffff000ull) >> PAGE_SHIFT));
		e[0x800000 >> (12 + 9 * (level - 1)) & 511] |= PTE_PS;
		d->memory.direct.tables++; /* no guest could do this */
		mmu_flush_local(&d->mmu);
		assert_int_equal(touch(d, 0x800000, ACC_READ), MMU_INJECT);
		assert_true(d->r.exc.error & PF_RSVD);
	}
	domain_free(d);
}

/* Explains va from the table that serves the access; what is foretold is what happens. */
static struct explain_access foretold(struct domain *d, uint64_t va, unsigned access)
{
	const bool user = access & ACC_USER;
	const uint64_t backed = d->memory.pool.used;
	struct explain_access a = { .access = ~0u };
	struct explain x;

	mmu_explain(&d->mmu, gva(va), user ? d->mmu.user_cr3 : EXPLAIN_CURRENT, &x);
	assert_true(x.direct && x.current && x.for_user == user && x.for_kernel == !user);
	for (unsigned i = 0; i < x.accesses; i++) {
		assert_int_equal(!(x.access[i].access & ACC_USER), !user);
		if (x.access[i].access == access)
			a = x.access[i];
	}
	assert_int_equal(a.access, access);
	assert_int_equal(d->memory.pool.used, backed);
	const enum mmu_kind kind = touch(d, va, access);
	if (a.guest_fault) {
		assert_int_equal(kind, MMU_INJECT);
		assert_int_equal(d->r.exc.error, a.error);
	} else {
		assert_int_equal(kind, MMU_MAPPED);
		assert_int_equal(d->r.mfn.v, x.page.m.v);
		assert_int_equal(d->r.gpa.v, x.p.v);
		assert_int_equal(x.refs_guest, 4);
		assert_int_equal(x.refs_nested, 0);
	}
	return a;
}

static void explain_foretells_what_an_access_meets_and_whose_frame_it_is(void **state)
{
	struct domain *d = domain_new();
	const uint64_t va = 0x400000;
	gpa_t p;

	(void)state;
	map(d, d->root, va, frame(d, 70), PWU);
	map(d, d->user_root, va, frame(d, 71), PTE_P | PTE_U);
	map(d, d->root, 0x600000, mfn(d->memory.pool.frames), PWU);
	map(d, d->root, 0x604000, d->root, PWU);
	pool_frame(&d->memory.pool, d->root)->flags |= FRAME_PV_TYPE;
	mmu_set_user_cr3(&d->mmu, d->user_root.v << PAGE_SHIFT);
	assert_int_equal(foretold(d, va, ACC_READ).by, BY_WALK);
	assert_int_equal(foretold(d, va, ACC_READ).by, BY_TLB1);
	assert_false(foretold(d, va, ACC_WRITE).guest_fault);
	assert_int_equal(foretold(d, va, ACC_READ | ACC_USER).by, BY_WALK);
	assert_int_equal(foretold(d, va, ACC_READ | ACC_USER).by, BY_TLB1);
	assert_int_equal(foretold(d, va, ACC_WRITE | ACC_USER).cause, CAUSE_NOT_WRITABLE);
	assert_int_equal(foretold(d, 0x600000, ACC_READ).cause, CAUSE_NOT_OWNED);
	assert_int_equal(foretold(d, 0x604000, ACC_WRITE).cause, CAUSE_TYPED);
	assert_false(foretold(d, 0x604000, ACC_READ).guest_fault);
	assert_int_equal(foretold(d, 0x700000, ACC_READ).cause, CAUSE_NOT_PRESENT);
	assert_true(mmu_look(&d->mmu, gva(va + 5), ACC_READ | ACC_USER, &p));
	assert_int_equal(p.v, 71 << PAGE_SHIFT | 5);
	assert_true(mmu_look(&d->mmu, gva(va + 5), ACC_READ, &p));
	assert_int_equal(p.v, 70 << PAGE_SHIFT | 5);
	mmu_set_user_cr3(&d->mmu, 0);
	assert_int_equal(foretold(d, va, ACC_READ | ACC_USER).cause, CAUSE_NO_ROOT);
	assert_false(mmu_look(&d->mmu, gva(va), ACC_READ | ACC_USER, &p));
	domain_free(d);
}

static void a_frame_costs_no_memory_until_it_is_touched(void **state)
{
	struct pool pool;
	mfn_t m;

	(void)state;
	assert_int_equal(pool_init(&pool, 1024, 0, PLACEMENT_SCATTER, 3), 0);
	m = pool_reserve(&pool, 5);
	assert_true(mfn_valid(m));
	assert_int_equal(pool.used, 1);
	assert_int_equal(pool_frame(&pool, m)->gfn, 5);
	unsigned char resident = 1;
	assert_int_equal(mincore(pool_ptr(&pool, m), PAGE_SIZE, &resident), 0);
	assert_int_equal(resident & 1, 0);
	pool_touch(&pool, m);
	assert_int_equal(mincore(pool_ptr(&pool, m), PAGE_SIZE, &resident), 0);
	assert_int_equal(resident & 1, 1);
	assert_int_equal(load_u64(pool_ptr(&pool, m)), 0);
	pool_free(&pool, m);
	pool_destroy(&pool);
}

#define KERNEL_VA 0xffff888000400000ull
/* The entry of that level for KERNEL_VA. */
static uint64_t *entry_of(struct domain *d, unsigned level)
{
	mfn_t t = d->root;

	for (unsigned i = 4; i > level; i--)
		t = mfn((table(d, t)[KERNEL_VA >> (12 + 9 * (i - 1)) & 511] & 0x000ffffffffff000ull) >> PAGE_SHIFT);
	return &table(d, t)[KERNEL_VA >> (12 + 9 * (level - 1)) & 511];
}

static void a_write_to_a_table_is_refused_without_a_walk_as_long_as_its_address_leads_there(void **state)
{
	struct domain *d = domain_new();
	const mfn_t page = frame(d, 70), other = frame(d, 71), new_table = frame(d, 72);
	uint64_t misses, old;

	(void)state;
	map(d, d->root, KERNEL_VA, page, PTE_P | PTE_A);
	track_set(&d->memory.track, page, FRAME_PV_TYPE);
	assert_int_equal(touch(d, KERNEL_VA, ACC_READ), MMU_MAPPED);
	misses = d->mmu.counters.tlb_l2_misses;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(touch(d, KERNEL_VA + 8, ACC_WRITE), MMU_INJECT);
		assert_int_equal(d->r.exc.error, PF_P | PF_W);
		assert_int_equal(d->r.exc.cr2, KERNEL_VA + 8);
	}
	assert_int_equal(d->mmu.counters.tlb_l2_misses, misses);
	assert_int_equal(touch(d, KERNEL_VA, ACC_READ), MMU_MAPPED);
	/* Its page table is exchanged for one that has another page there: nothing is flushed, but a fault must be a walk's. */
	table(d, new_table)[KERNEL_VA >> 12 & 511] = other.v << PAGE_SHIFT | PTE_P | PTE_W;
	old = *entry_of(d, 2);
	*entry_of(d, 2) = new_table.v << PAGE_SHIFT | PWU;
	direct_entry_changed(&d->memory, mfn((*entry_of(d, 3) & 0x000ffffffffff000ull) >> PAGE_SHIFT), 2, KERNEL_VA >> 21 & 511, old, *entry_of(d, 2));
	assert_int_equal(touch(d, KERNEL_VA, ACC_WRITE), MMU_MAPPED);
	assert_int_equal(d->r.mfn.v, other.v);
	track_clear(&d->memory.track, page, FRAME_PV_TYPE);
	domain_free(d);
}

static void the_kernels_global_pages_are_refilled_from_level_2_without_the_long_way(void **state)
{
	struct domain *d = domain_new();

	(void)state;
	map(d, d->root, KERNEL_VA, frame(d, 70), PTE_P | PTE_W);
	map(d, d->root, KERNEL_VA + TLB_L1_SMALL * PAGE_SIZE, frame(d, 71), PTE_P | PTE_W);
	assert_int_equal(touch(d, KERNEL_VA, ACC_WRITE), MMU_MAPPED);
	assert_true(d->r.global);
	assert_int_equal(touch(d, KERNEL_VA + TLB_L1_SMALL * PAGE_SIZE, ACC_READ), MMU_MAPPED); /* the same slot of level 1 */
	assert_true(mmu_refill(&d->mmu, KERNEL_VA + 0x123, TLB_KERNEL_AC, true));
	assert_false(mmu_refill(&d->mmu, KERNEL_VA, TLB_USER, false));
	domain_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_guests_entries_hold_machine_frames),
		cmocka_unit_test(a_write_to_a_table_is_refused_without_a_walk_as_long_as_its_address_leads_there),
		cmocka_unit_test(the_kernels_global_pages_are_refilled_from_level_2_without_the_long_way),
		cmocka_unit_test(a_user_walks_from_a_root_of_its_own),
		cmocka_unit_test(the_machine_to_physical_table_can_be_read_and_not_written),
		cmocka_unit_test(frames_that_are_not_the_domains_are_out_of_reach_whatever_a_table_says),
		cmocka_unit_test(explain_foretells_what_an_access_meets_and_whose_frame_it_is),
		cmocka_unit_test(a_frame_costs_no_memory_until_it_is_touched),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
