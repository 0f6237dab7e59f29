/*
 * pv_descriptors.c - descriptor tables of a paravirtualized kernel: its selectors work as on a bare processor, with privilege 3 and accessed whatever the table said; a
 * local table's page is asked for when a selector first needs it, and held from then on; where there is none, the fault is at the guest's own address of it.
 */
#include "pv.h"

PV_GUEST(descriptors);

#define RW (PV_P | PV_W | PV_U)
#define RO (PV_P | PV_U)
#define LOADS(selector) (!PV_FAULTS("mov %w0, %%ds", "r"((uint16_t)(selector))))

static uint64_t gdt[512] __attribute__((aligned(4096)));
static uint64_t ldt[3][512] __attribute__((aligned(4096)));
static uint64_t shared[512] __attribute__((aligned(4096)));

static const uint64_t data = 0x00cf92000000ffffull, code = 0x00af9a000000ffffull, task = 0x000089000000ffffull;

static uint64_t limit_of(uint16_t selector)
{
	uint64_t limit = 0;

	__asm__("lsl %1, %0" : "+r"(limit) : "r"((uint64_t)selector) : "cc");
	return limit;
}

static void global_table(void)
{
	uint64_t list[14] = { pv_mfn(gdt) };
	int64_t e;

	gdt[1] = data;
	gdt[2] = code;
	e = pv_call(__HYPERVISOR_set_gdt, (uint64_t)(uintptr_t)list, 16, 0, 0);
	PV_CHECK(e == -XEN_EINVAL, e);	/* mapped writable */
	PV_CHECK(!LOADS(8 | 3), 0);
	PV_CHECK(!pv_remap(gdt, RO), 0);
	e = pv_call(__HYPERVISOR_set_gdt, (uint64_t)(uintptr_t)list, 16, 0, 0);
	PV_CHECK(!e, e);
	PV_CHECK(gdt[1] == (data | 3ull << 45 | 1ull << 40), gdt[1]);
	PV_CHECK(LOADS(8 | 3), 0);
	PV_CHECK(limit_of(8 | 3) == 0xffffffff, limit_of(8 | 3));
	PV_CHECK(!LOADS(24 | 3), 0);
	PV_CHECK(!pv_call(__HYPERVISOR_update_descriptor, pv_entry_at(gdt, 3), data, 0, 0), 0);
	PV_CHECK(LOADS(24 | 3), 0);
	e = pv_call(__HYPERVISOR_update_descriptor, pv_entry_at(gdt, 4), task, 0, 0);
	PV_CHECK(e == -XEN_EINVAL, e);
	e = pv_remap(gdt, RW);
	PV_CHECK(e == -XEN_EBUSY, e);
	/* Xen's own selectors are there in any table. */
	PV_CHECK(LOADS(FLAT_KERNEL_DS32) && LOADS(0), 0);
}

static void local_table(void)
{
	const struct shared_info *s = (const void *)shared;
	int64_t e;

	PV_CHECK(!pv_update(pv_leaf_at(shared), pv_info->shared_info | RW), 0);
	pv_ext(MMUEXT_INVLPG_LOCAL, (uint64_t)(uintptr_t)shared, 0);
	ldt[0][1] = ldt[1][2] = data;
	ldt[1][3] = task;
	PV_CHECK(!LOADS(8 | 7), 0);	/* there is none */
	e = pv_ext(MMUEXT_SET_LDT, (uint64_t)(uintptr_t)ldt, 3 * 512);
	PV_CHECK(!e, e);
	PV_CHECK(!LOADS(8 | 7), 0);	/* mapped writable */
	PV_CHECK(s->vcpu_info[0].arch.cr2 == (uint64_t)(uintptr_t)&ldt[0][1], s->vcpu_info[0].arch.cr2);
	for (unsigned i = 0; i < 2; i++)
		PV_CHECK(!pv_remap(ldt[i], RO), 0);
	PV_CHECK(!pv_remap(ldt[2], 0), 0);
	PV_CHECK(LOADS(8 | 7), 0);
	PV_CHECK(ldt[0][1] == (data | 3ull << 45 | 1ull << 40), ldt[0][1]);
	PV_CHECK(!LOADS((512 + 2) * 8 | 7), 0);	/* its page has a descriptor that must not be */
	PV_CHECK(!LOADS((1024 + 5) * 8 | 7), 0);	/* not mapped */
	PV_CHECK(s->vcpu_info[0].arch.cr2 == (uint64_t)(uintptr_t)&ldt[2][5], s->vcpu_info[0].arch.cr2);
	e = pv_remap(ldt[0], RW);
	PV_CHECK(e == -XEN_EBUSY, e);
	PV_CHECK(!pv_remap(ldt[1], RW), 0);
	ldt[1][3] = 0;
	PV_CHECK(!pv_remap(ldt[1], RO), 0);
	PV_CHECK(LOADS((512 + 2) * 8 | 7), 0);
	/* Without the table its pages are plain memory again. */
	PV_CHECK(!pv_ext(MMUEXT_SET_LDT, 0, 0), 0);
	PV_CHECK(!LOADS(8 | 7), 0);
	for (unsigned i = 0; i < 3; i++)
		PV_CHECK(!pv_remap(ldt[i], RW), 0);
	ldt[0][1] = 0;
}

static __attribute__((used)) void descriptors(struct start_info *info)
{
	pv_start(info);
	global_table();
	local_table();
	pv_end();
}
