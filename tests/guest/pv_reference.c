/*
 * pv_reference.c - the scenario of reference.c in the direct mode, with the very numbers: v = 100 maps to p = 1000, which is m = 5000; the guest unmaps it, and touching it is its
 * page fault; it maps v to p = 2000, which is m = 8000; then p = 2000 becomes m = 10000. And p = 70 lives at m = 10070.
 *
 * Numbers are page numbers. Which frame is which page is the guest's own affair here, so it brings the numbers about itself: it exchanges the frames of two of its pages in
 * its list (start_info.mfn_list) and in the hypervisor's table (MMU_MACHPHYS_UPDATE). Nobody moves a page behind its back; it copies, renames and maps anew.
 */
#include "pv.h"

PV_GUEST(reference);

#define BASE 0x2000000000ull	/* level-4 slot 0, level-3 slot 128: nothing else is there */
#define RW (PV_P | PV_W | PV_U)
#define RO (PV_P | PV_U)

static uint64_t l1[512] __attribute__((aligned(4096))), l2[512] __attribute__((aligned(4096))), shared[512] __attribute__((aligned(4096)));

static uint64_t *list(void) { return (uint64_t *)pv_info->mfn_list; }
static volatile uint64_t *at(unsigned v) { return (volatile uint64_t *)(BASE + v * PV_PAGE); }

/* v maps to the page p, or (0) to nothing. */
static void map(unsigned v, unsigned p)
{
	int64_t e = pv_update(pv_entry_at(l1, v), p ? list()[p] * PV_PAGE | RW : 0);

	PV_CHECK(!e, e);
	pv_ext(MMUEXT_INVLPG_LOCAL, BASE + v * PV_PAGE, 0);
}

static void tell_hypervisor(uint64_t m, uint64_t p)
{
	struct mmu_update u = { m * PV_PAGE | MMU_MACHPHYS_UPDATE, p };
	int64_t e = pv_call(__HYPERVISOR_mmu_update, (uint64_t)(uintptr_t)&u, 1, 0, DOMID_SELF);

	PV_CHECK(!e, e);
}

/* Page p gets the frame m; the page that had m gets the frame of p. Neither is mapped. */
static void name(unsigned p, uint64_t m)
{
	const uint64_t q = PV_M2P[m], old = list()[p];
	const uint64_t image = (uint64_t)(uintptr_t)l1 / PV_PAGE;

	PV_CHECK(q < pv_info->nr_pages && list()[q] == m, q);
	PV_CHECK(q + 64 < image || q > image + 1024, q);	/* not one that is in use */
	if (pv_failures)
		pv_end();
	list()[q] = old;
	tell_hypervisor(old, q);
	list()[p] = m;
	tell_hypervisor(m, p);
}

static void show(unsigned v, unsigned p, uint64_t m)
{
	pv_say("v=");
	pv_number(v);
	pv_say(" p=");
	pv_number(p);
	pv_say(" m=");
	pv_number((int64_t)((l1[v] & PV_FRAME) / PV_PAGE));
	pv_say(": holds ");
	pv_number((int64_t)*at(v));
	pv_say("\n");
	PV_CHECK((l1[v] & PV_FRAME) / PV_PAGE == m, (l1[v] & PV_FRAME) / PV_PAGE);
	PV_CHECK(list()[p] == m && PV_M2P[m] == p, PV_M2P[m]);
}

static void tables(void)
{
	int64_t e;

	l2[0] = pv_mfn(l1) * PV_PAGE | RW;
	PV_CHECK(!pv_remap(l1, RO) && !pv_remap(l2, RO), 0);
	e = pv_update(pv_entry_at(pv_table(l1, 3), 128), pv_mfn(l2) * PV_PAGE | RW);
	PV_CHECK(!e, e);
	PV_CHECK(!pv_update(pv_leaf_at(shared), pv_info->shared_info | RW), 0);
	pv_ext(MMUEXT_INVLPG_LOCAL, (uint64_t)(uintptr_t)shared, 0);
}

static void scenario(void)
{
	const struct shared_info *s = (const void *)shared;
	int64_t e;

	name(1000, 5000);
	name(2000, 8000);
	map(100, 1000);
	*at(100) = 0x1000;
	show(100, 1000, 5000);

	map(100, 0);
	PV_CHECK(PV_FAULTS("mov (%0), %%rax", "r"(at(100))), 0);
	PV_CHECK(s->vcpu_info[0].arch.cr2 == (uint64_t)(uintptr_t)at(100), s->vcpu_info[0].arch.cr2);
	pv_say("v=100 p=none: guest page fault\n");

	map(100, 2000);
	*at(100) = 0x2000;
	show(100, 2000, 8000);
	map(101, 1000);
	PV_CHECK(*at(101) == 0x1000, *at(101));
	map(101, 0);

	/* p = 2000 becomes m = 10000: contents first, then names, then the mapping, which is one entry. */
	map(100, 0);
	e = pv_ext(MMUEXT_COPY_PAGE, 10000, 8000);
	PV_CHECK(!e, e);
	name(2000, 10000);
	map(100, 2000);
	show(100, 2000, 10000);
	PV_CHECK(*at(100) == 0x2000, *at(100));
	PV_CHECK(list()[PV_M2P[8000]] == 8000, PV_M2P[8000]);

	/* p = 70 at m = 10070, where the guest maps memory one to one. */
	name(70, 10070);
	map(70, 70);
	*at(70) = 0x70;
	show(70, 70, 10070);
	/* It is the frame, not the name, that an entry holds. */
	PV_CHECK(!pv_update(pv_entry_at(l1, 170), 10070 * PV_PAGE | RO), 0);
	PV_CHECK(*at(170) == 0x70, *at(170));
	PV_CHECK(PV_FAULTS("movq $1, (%0)", "r"(at(170))), 0);
	/* The table of names is the hypervisor's: it changes by hypercall only. */
	PV_CHECK(PV_FAULTS("movq $71, (%0)", "r"(&PV_M2P[10070])), 0);
	PV_CHECK(PV_M2P[10070] == 70, PV_M2P[10070]);
}

/* With the list scattered, next to no page has the frame of its own number; and each frame knows its page. */
static void names_agree(void)
{
	uint64_t wrong = 0;

	for (uint64_t p = 0; p < pv_info->nr_pages; p++)
		wrong += list()[p] >= 1ull << 40 || PV_M2P[list()[p]] != p;
	PV_CHECK(!wrong, wrong);
}

static __attribute__((used)) void reference(struct start_info *info)
{
	pv_start(info);
	names_agree();
	tables();
	scenario();
	names_agree();
	pv_end();
}
