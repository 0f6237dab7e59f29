/*
 * pv_abi.c - the published interface by name, as a paravirtualized kernel meets it: who the hypervisor is, the hypercall page, debug registers, what of the processor is
 * emulated, ports, memory and tables. Events, time and callbacks: pv_events.c. What must be refused: pv_hostile.c. And whatever has no name here is -ENOSYS.
 */
#include "pv.h"
#include <xen/version.h>

PV_GUEST(abi);

#define RW (PV_P | PV_W | PV_U)
#define RO (PV_P | PV_U)

/* The kernel's notes ask for it: type 2, where it is to be. */
static uint8_t hypercall_page[4096] __attribute__((aligned(4096), used)) = { 1 };
__asm__(".pushsection .note.xen, \"a\", @note\n.balign 4\n.long 4, 8, 2\n.asciz \"Xen\"\n.quad hypercall_page\n.popsection\n");

static uint64_t page[8][512] __attribute__((aligned(4096)));

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static void who_it_is(void)
{
	static char text[1024];
	static const uint8_t absent[] = { 7, 11, 16, 27, 28, 34, 35, 36, 37, 38, 39, 40, 41, 42, 48, 49, 55, 63 };
	struct xen_feature_info feature = { 0 };
	struct xen_platform_parameters platform;

	PV_CHECK(pv_call(__HYPERVISOR_xen_version, XENVER_version, 0, 0, 0) == (4 << 16 | 17), 0);
	PV_CHECK(pv_call(__HYPERVISOR_xen_version, XENVER_pagesize, 0, 0, 0) == 4096, 0);
	PV_CHECK(!pv_call(__HYPERVISOR_xen_version, XENVER_capabilities, (uint64_t)(uintptr_t)text, 0, 0), 0);
	PV_CHECK(same(text, "xen-3.0-x86_64 "), text[0]);
	PV_CHECK(!pv_call(__HYPERVISOR_xen_version, XENVER_extraversion, (uint64_t)(uintptr_t)text, 0, 0), 0);
	PV_CHECK(!pv_call(__HYPERVISOR_xen_version, XENVER_compile_info, (uint64_t)(uintptr_t)text, 0, 0), 0);
	PV_CHECK(!pv_call(__HYPERVISOR_xen_version, XENVER_changeset, (uint64_t)(uintptr_t)text, 0, 0), 0);
	PV_CHECK(!pv_call(__HYPERVISOR_xen_version, XENVER_commandline, (uint64_t)(uintptr_t)text, 0, 0), 0);
	PV_CHECK(!pv_call(__HYPERVISOR_xen_version, XENVER_guest_handle, (uint64_t)(uintptr_t)text, 0, 0), 0);
	PV_CHECK(!pv_call(__HYPERVISOR_xen_version, XENVER_platform_parameters, (uint64_t)(uintptr_t)&platform, 0, 0), 0);
	PV_CHECK(platform.virt_start == 0xffff800000000000, platform.virt_start);
	PV_CHECK(!pv_call(__HYPERVISOR_xen_version, XENVER_get_features, (uint64_t)(uintptr_t)&feature, 0, 0), 0);
	PV_CHECK(feature.submap >> XENFEAT_mmu_pt_update_preserve_ad & 1, feature.submap);
	PV_CHECK(!(feature.submap >> XENFEAT_auto_translated_physmap & 1), feature.submap);
	PV_CHECK(pv_call(__HYPERVISOR_xen_version, 99, 0, 0, 0) == -XEN_ENOSYS, 0);
	for (unsigned i = 0; i < sizeof(absent); i++)
		PV_CHECK(pv_call(absent[i], 0, 0, 0, 0) == -XEN_ENOSYS, absent[i]);
	PV_CHECK(pv_call(1u << 20, 0, 0, 0, 0) == -XEN_ENOSYS, 0);
}

/* Each stub calls the hypercall of its place, and keeps what SYSCALL overwrites. */
static void hypercall_stubs(void)
{
	uint64_t result, rcx = 0x1234, stub = (uint64_t)(uintptr_t)hypercall_page + 32 * __HYPERVISOR_xen_version;
	register uint64_t r11 __asm__("r11") = 0x5678;

	__asm__ volatile("call *%3" : "=a"(result), "+c"(rcx), "+r"(r11) : "r"(stub), "D"(XENVER_version), "S"(0) : "memory");
	PV_CHECK(result == (4 << 16 | 17), result);
	PV_CHECK(rcx == 0x1234 && r11 == 0x5678, rcx);
}

static void several_in_one(void)
{
	static multicall_entry_t calls[3], many[200];

	calls[0].op = __HYPERVISOR_xen_version;
	calls[1].op = __HYPERVISOR_xenpmu_op;
	calls[2].op = __HYPERVISOR_vm_assist;
	calls[2].args[1] = 60;
	PV_CHECK(!pv_call(__HYPERVISOR_multicall, (uint64_t)(uintptr_t)calls, 3, 0, 0), 0);
	PV_CHECK(calls[0].result == (4 << 16 | 17), calls[0].result);
	PV_CHECK((int64_t)calls[1].result == -XEN_ENOSYS, calls[1].result);
	PV_CHECK((int64_t)calls[2].result == -XEN_EINVAL, calls[2].result);
	/* More than are done at a time: each is made once. */
	for (unsigned i = 0; i < 200; i++)
		many[i] = (multicall_entry_t){ .op = __HYPERVISOR_set_debugreg, .args = { 0, i } };
	many[150] = (multicall_entry_t){ .op = __HYPERVISOR_get_debugreg, .args = { 0 } };
	PV_CHECK(!pv_call(__HYPERVISOR_multicall, (uint64_t)(uintptr_t)many, 200, 0, 0), 0);
	PV_CHECK(many[150].result == 149, many[150].result);
	PV_CHECK(pv_call(__HYPERVISOR_get_debugreg, 0, 0, 0, 0) == 199, 0);
	PV_CHECK(!pv_call(__HYPERVISOR_vm_assist, VMASST_CMD_enable, VMASST_TYPE_4gb_segments, 0, 0), 0);
	PV_CHECK(!pv_call(__HYPERVISOR_vm_assist, VMASST_CMD_disable, VMASST_TYPE_4gb_segments, 0, 0), 0);
	PV_CHECK(pv_call(__HYPERVISOR_vm_assist, 9, VMASST_TYPE_4gb_segments, 0, 0) == -XEN_ENOSYS, 0);
}

static int64_t set_dr(unsigned n, uint64_t value) { return pv_call(__HYPERVISOR_set_debugreg, n, value, 0, 0); }
static int64_t get_dr(unsigned n) { return pv_call(__HYPERVISOR_get_debugreg, n, 0, 0, 0); }

static void debug_registers(void)
{
	uint64_t value;

	for (unsigned i = 0; i < 4; i++) {
		PV_CHECK(!set_dr(i, 0x1000 + i), i);
		PV_CHECK(get_dr(i) == 0x1000 + i, get_dr(i));
	}
	PV_CHECK(set_dr(0, 0xffff800000000000) == -XEN_EPERM, 0);	/* the hypervisor's own */
	PV_CHECK(set_dr(0, 1ull << 47) == -XEN_EPERM, 0);
	PV_CHECK(!set_dr(7, 0x400) && get_dr(7) == 0x400, get_dr(7));
	PV_CHECK(set_dr(7, 1 << 13) == -XEN_EPERM, 0);
	PV_CHECK(get_dr(6) == 0xffff0ff0 && get_dr(4) == 0xffff0ff0, get_dr(6));
	PV_CHECK(!set_dr(6, 0x1005) && get_dr(6) == 0xffff0ff5, get_dr(6));	/* what is reserved stays */
	PV_CHECK(!set_dr(4, 0) && get_dr(6) == 0xffff0ff0, get_dr(6));
	PV_CHECK(set_dr(8, 0) == -XEN_EINVAL && get_dr(8) == -XEN_EINVAL, 0);
	PV_CHECK(!PV_FAULTS("mov %%db1, %%rax\nmov %%rax, %0", "m"(value)), 0);
	PV_CHECK(value == 0x1001, value);
	for (unsigned i = 0; i < 4; i++)
		set_dr(i, 0);
}

static void xen_cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	__asm__ volatile("ud2\n.ascii \"xen\"\ncpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "0"(leaf), "2"(sub));
}

/* Who the hypervisor is, and nothing that a paravirtualized kernel must not use: what would change paging, most of all. */
static void what_the_processor_offers(void)
{
	uint32_t r[4];

	xen_cpuid(0x40000001, 0, r);
	PV_CHECK(r[0] == (4 << 16 | 17), r[0]);
	xen_cpuid(0x40000002, 0, r);
	PV_CHECK(r[0] == 0 && r[2] == 1, r[2]);	/* no page to be filled; entries keep A and D */
	xen_cpuid(0x40000003, 1, r);
	PV_CHECK(r[2], r[2]);	/* the factor of system time */
	xen_cpuid(0x40000005, 0, r);
	PV_CHECK(r[1] >= 36 && r[1] <= 52, r[1]);
	xen_cpuid(1, 0, r);
	PV_CHECK(!(r[3] & (1 << 3 | 1 << 13 | 1 << 12 | 1 << 17)), r[3]);	/* PSE, PGE, MTRR, PSE36 */
	PV_CHECK(!(r[2] & (1 << 3 | 1 << 17 | 1 << 21 | 1 << 24)) && r[2] >> 31, r[2]);	/* MONITOR, PCID, x2APIC, TSC deadline; a hypervisor */
	xen_cpuid(7, 0, r);
	PV_CHECK(!(r[1] & (1 << 7 | 1 << 10 | 1 << 20)) && !(r[2] & (1 << 2 | 1 << 3 | 1 << 16)), r[1]);	/* SMEP, INVPCID, SMAP; UMIP, PKU, LA57 */
	xen_cpuid(0x80000001, 0, r);
	PV_CHECK(!(r[3] & 1 << 26) && !(r[2] & 1 << 2) && r[3] & 1 << 11, r[3]);	/* pages of 1 GiB, SVM; SYSCALL */
}

static void emulated_instructions(void)
{
	const uint64_t base = (uint64_t)(uintptr_t)page, root = pv_mfn(pv_table(page, 4)) * PV_PAGE;
	uint64_t *l4 = page[6], value, cr4;
	uint32_t a = 0x40000000, b, c = 0, d;
	int64_t e;

	/* CPUID behind its prefix. */
	__asm__ volatile("ud2\n.ascii \"xen\"\ncpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	PV_CHECK(b == 0x566e6558 && c == 0x65584d4d && d == 0x4d4d566e, b);
	PV_CHECK(PV_FAULTS("ud2\n.ascii \"xem\"\ncpuid", "r"(0)), 0);
	what_the_processor_offers();
	/* CR0: task switched is the guest's own, the rest stays. */
	__asm__ volatile("mov %%cr0, %0" : "=r"(value));
	PV_CHECK(value & 1 << 31, value);
	PV_CHECK(PV_FAULTS("mov %0, %%cr0", "r"(value & ~(1ull << 16))), 0);
	PV_CHECK(!PV_FAULTS("mov %0, %%cr0", "r"(value | 8)), 0);
	__asm__ volatile("mov %%cr0, %0" : "=r"(value));
	PV_CHECK(value & 8, value);
	__asm__ volatile("clts\nmov %%cr0, %0" : "=r"(value));
	PV_CHECK(!(value & 8), value);
	pv_call(__HYPERVISOR_fpu_taskswitch, 1, 0, 0, 0);
	__asm__ volatile("mov %%cr0, %0" : "=r"(value));
	PV_CHECK(value & 8, value);
	pv_call(__HYPERVISOR_fpu_taskswitch, 0, 0, 0, 0);
	__asm__ volatile("mov %0, %%cr2\nmov %%cr2, %0" : "+r"(value));
	/* CR4: what is not the guest's to choose is not changed. */
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	PV_CHECK(cr4 & 1 << 5, cr4);
	PV_CHECK(!PV_FAULTS("mov %0, %%cr4", "r"(cr4)), 0);
	PV_CHECK(PV_FAULTS("mov %%cr8, %%rax", "r"(0)), 0);
	/* CR3 is a base pointer like any other. */
	for (unsigned i = 0; i < 512; i++)
		l4[i] = i < 256 || i > 271 ? pv_table(page, 4)[i] : 0;
	PV_CHECK(PV_FAULTS("mov %0, %%cr3", "r"(pv_mfn(l4) * PV_PAGE)), 0);	/* mapped writable */
	PV_CHECK(PV_FAULTS("mov %0, %%cr3", "r"(1ull << 63 | root)), 0);
	PV_CHECK(!pv_remap(l4, RO), 0);
	PV_CHECK(!PV_FAULTS("mov %0, %%cr3", "r"(pv_mfn(l4) * PV_PAGE)), 0);
	__asm__ volatile("mov %%cr3, %0" : "=r"(value));
	PV_CHECK(value == pv_mfn(l4) * PV_PAGE, value);
	PV_CHECK(!PV_FAULTS("mov %0, %%cr3", "r"(root)), 0);
	__asm__ volatile("mov %%cr3, %0" : "=r"(value));
	PV_CHECK(value == root, value);
	PV_CHECK(!pv_remap(l4, RW), 0);
	/* INVLPG, WBINVD; not HLT, nor LGDT. */
	page[0][0] = 5;
	PV_CHECK(!pv_remap(page[0], 0), 0);
	PV_CHECK(!PV_FAULTS("invlpg (%0)\nwbinvd", "r"(page[0])), 0);
	PV_CHECK(PV_FAULTS("mov (%0), %%rax", "r"(page[0])), 0);
	PV_CHECK(!pv_remap(page[0], RW), 0);
	PV_CHECK(PV_FAULTS("hlt", "r"(0)), 0);
	PV_CHECK(PV_FAULTS("lgdt (%0)", "r"(page[0])), 0);
	PV_CHECK(PV_FAULTS("cli", "r"(0)) && PV_FAULTS("sti", "r"(0)), 0);	/* not without I/O privilege */
	/* MSRs of segment bases; hypercalls for the same; others only as far as they may be known. */
	PV_CHECK(!PV_FAULTS("xor %%edx, %%edx\nmov %0, %%rax\nmov $0xc0000100, %%ecx\nwrmsr", "r"(base)), 0);
	__asm__ volatile("mov %%fs:8, %0" : "=r"(value));
	PV_CHECK(value == page[0][1], value);
	__asm__ volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(0xc0000100));
	PV_CHECK((a | (uint64_t)d << 32) == base, a);
	PV_CHECK(PV_FAULTS("mov $0xc0000082, %%ecx\nxor %%edx, %%edx\nxor %%eax, %%eax\nwrmsr", "r"(0)), 0);
	PV_CHECK(PV_FAULTS("mov $0x12345, %%ecx\nrdmsr", "r"(0)), 0);
	page[1][1] = 0x77;
	PV_CHECK(!pv_call(__HYPERVISOR_set_segment_base, SEGBASE_FS, base + 4096, 0, 0), 0);
	__asm__ volatile("mov %%fs:8, %0" : "=r"(value));
	PV_CHECK(value == 0x77, value);
	PV_CHECK(!pv_call(__HYPERVISOR_set_segment_base, SEGBASE_GS_KERNEL, base + 4096, 0, 0), 0);
	__asm__ volatile("mov %%gs:8, %0" : "=r"(value));
	PV_CHECK(value == 0x77, value);
	PV_CHECK(!pv_call(__HYPERVISOR_set_segment_base, SEGBASE_GS_USER, base, 0, 0), 0);
	PV_CHECK(!pv_call(__HYPERVISOR_set_segment_base, SEGBASE_GS_USER_SEL, 0, 0, 0), 0);
	e = pv_call(__HYPERVISOR_set_segment_base, SEGBASE_FS, 1ull << 50, 0, 0);
	PV_CHECK(e == -XEN_EINVAL, e);
	e = pv_call(__HYPERVISOR_set_segment_base, 9, 0, 0, 0);
	PV_CHECK(e == -XEN_EINVAL, e);
}

static void ports(void)
{
	struct physdev_set_iopl iopl = { 1 };
	struct physdev_set_iobitmap bits = { .nr_ports = 0x100 };

	PV_CHECK(PV_FAULTS("inb $0x80, %%al", "r"(0)), 0);
	PV_CHECK(!pv_call(__HYPERVISOR_physdev_op, PHYSDEVOP_set_iopl, (uint64_t)(uintptr_t)&iopl, 0, 0), 0);
	PV_CHECK(!PV_FAULTS("inb $0x80, %%al\noutb %%al, $0x80\ncli\nsti", "r"(0)), 0);
	iopl.iopl = 4;
	PV_CHECK(pv_call(__HYPERVISOR_physdev_op, PHYSDEVOP_set_iopl, (uint64_t)(uintptr_t)&iopl, 0, 0) == -XEN_EINVAL, 0);
	iopl.iopl = 0;
	PV_CHECK(!pv_call(__HYPERVISOR_physdev_op, PHYSDEVOP_set_iopl, (uint64_t)(uintptr_t)&iopl, 0, 0), 0);
	for (unsigned i = 0; i < 4; i++)
		page[0][i] = ~0ull;
	page[0][2] = ~1ull;	/* port 80h only */
	set_xen_guest_handle(bits.bitmap, (uint8_t *)page[0]);
	PV_CHECK(!pv_call(__HYPERVISOR_physdev_op, PHYSDEVOP_set_iobitmap, (uint64_t)(uintptr_t)&bits, 0, 0), 0);
	PV_CHECK(!PV_FAULTS("inb $0x80, %%al", "r"(0)), 0);
	PV_CHECK(PV_FAULTS("inw $0x80, %%ax", "r"(0)), 0);
	PV_CHECK(PV_FAULTS("inb $0x81, %%al", "r"(0)), 0);
	bits.nr_ports = 65537;
	PV_CHECK(pv_call(__HYPERVISOR_physdev_op, PHYSDEVOP_set_iobitmap, (uint64_t)(uintptr_t)&bits, 0, 0) == -XEN_EINVAL, 0);
	bits.nr_ports = 0;
	pv_call(__HYPERVISOR_physdev_op, PHYSDEVOP_set_iobitmap, (uint64_t)(uintptr_t)&bits, 0, 0);
	PV_CHECK(pv_call(__HYPERVISOR_physdev_op, PHYSDEVOP_apic_read, (uint64_t)(uintptr_t)page[0], 0, 0) == -XEN_ENOSYS, 0);
}

static int64_t memory(unsigned command, void *p) { return pv_call(__HYPERVISOR_memory_op, command, (uint64_t)(uintptr_t)p, 0, 0); }

static void what_is_known_of_memory(void)
{
	static xen_pfn_t list[4];
	static uint8_t entries[4 * 20] __attribute__((aligned(8)));
	domid_t self = DOMID_SELF, other = 5;
	struct xen_machphys_mapping map;
	struct xen_machphys_mfn_list m2p = { .max_extents = 4 };
	struct xen_memory_map e820 = { .nr_entries = 4 };

	PV_CHECK(memory(XENMEM_current_reservation, &self) == (int64_t)pv_info->nr_pages, memory(XENMEM_current_reservation, &self));
	PV_CHECK(memory(XENMEM_maximum_reservation, &self) == (int64_t)pv_info->nr_pages, memory(XENMEM_maximum_reservation, &self));
	PV_CHECK(memory(XENMEM_current_reservation, &other) == -XEN_ESRCH, 0);
	PV_CHECK(memory(XENMEM_maximum_ram_page, 0) >= (int64_t)pv_info->nr_pages, 0);
	PV_CHECK(memory(XENMEM_maximum_gpfn, &self) >= 0, 0);
	PV_CHECK(!memory(XENMEM_machphys_mapping, &map), 0);
	PV_CHECK(map.v_start == 0xffff800000000000 && map.v_end > map.v_start && map.max_mfn + 1 == (uint64_t)memory(XENMEM_maximum_ram_page, 0), map.max_mfn);
	set_xen_guest_handle(m2p.extent_start, list);
	PV_CHECK(!memory(XENMEM_machphys_mfn_list, &m2p), 0);
	PV_CHECK(m2p.nr_extents >= 1 && m2p.nr_extents <= 4, m2p.nr_extents);
	set_xen_guest_handle(e820.buffer, (void *)entries);
	PV_CHECK(!memory(XENMEM_memory_map, &e820), 0);
	PV_CHECK(e820.nr_entries == 1 && *(uint64_t *)(void *)&entries[8] == pv_info->nr_pages * PV_PAGE, e820.nr_entries);
	PV_CHECK(memory(XENMEM_machine_memory_map, &e820) == -XEN_EPERM, 0);
	PV_CHECK(memory(XENMEM_add_to_physmap, &e820) == -XEN_EACCES, 0);
	PV_CHECK(memory(XENMEM_get_pod_target, &e820) == -XEN_ENOSYS, 0);
	/* The two tables say the same, and pages of the image are not where they would be without a hypervisor. */
	for (unsigned i = 0; i < 8; i++)
		PV_CHECK(PV_M2P[pv_mfn(page[i])] == (uint64_t)(uintptr_t)page[i] / PV_PAGE, i);
}

static void pages_come_and_go(void)
{
	static xen_pfn_t in, out;
	struct xen_memory_reservation r = { .nr_extents = 1, .domid = DOMID_SELF };
	struct xen_memory_exchange x = { .in = { .nr_extents = 1, .domid = DOMID_SELF }, .out = { .nr_extents = 1, .domid = DOMID_SELF } };
	const uint64_t pfn = (uint64_t)(uintptr_t)page[2] / PV_PAGE, old = pv_mfn(page[2]);
	domid_t self = DOMID_SELF;

	/* Given back and got again, under another number. */
	PV_CHECK(!pv_remap(page[2], 0), 0);
	pv_ext(MMUEXT_INVLPG_LOCAL, (uint64_t)(uintptr_t)page[2], 0);
	in = old;
	set_xen_guest_handle(r.extent_start, &in);
	PV_CHECK(memory(XENMEM_decrease_reservation, &r) == 1, 0);
	PV_CHECK(memory(XENMEM_current_reservation, &self) == (int64_t)pv_info->nr_pages - 1, 0);
	PV_CHECK(PV_M2P[old] != pfn, PV_M2P[old]);
	PV_CHECK(pv_update(pv_leaf_at(page[2]), old * PV_PAGE | RW) < 0, 0);
	in = pfn;
	PV_CHECK(memory(XENMEM_populate_physmap, &r) == 1, 0);
	PV_CHECK(PV_M2P[in] == pfn, PV_M2P[in]);
	PV_CHECK(!pv_update(pv_leaf_at(page[2]), in * PV_PAGE | RW), 0);
	PV_CHECK(page[2][0] == 0, page[2][0]);
	in = pfn;
	PV_CHECK(memory(XENMEM_populate_physmap, &r) == 0, 0);	/* there is no more */
	/* Exchanged. */
	const uint64_t now = (pv_table(page[2], 1)[(uint64_t)(uintptr_t)page[2] / PV_PAGE & 511] & PV_FRAME) / PV_PAGE;
	PV_CHECK(!pv_remap(page[2], 0), 0);
	pv_ext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
	in = now, out = pfn;
	set_xen_guest_handle(x.in.extent_start, &in);
	set_xen_guest_handle(x.out.extent_start, &out);
	PV_CHECK(!memory(XENMEM_exchange, &x) && x.nr_exchanged == 1, x.nr_exchanged);
	PV_CHECK(out != now && PV_M2P[out] == pfn, out);
	PV_CHECK(!pv_update(pv_leaf_at(page[2]), out * PV_PAGE | RW), 0);
	page[2][0] = 9;
	/* The guest may say what its frames are to itself. */
	struct mmu_update u = { out * PV_PAGE | MMU_MACHPHYS_UPDATE, 12345 };
	PV_CHECK(!pv_call(__HYPERVISOR_mmu_update, (uint64_t)(uintptr_t)&u, 1, 0, DOMID_SELF), 0);
	PV_CHECK(PV_M2P[out] == 12345, PV_M2P[out]);
	u.val = pfn;
	PV_CHECK(!pv_call(__HYPERVISOR_mmu_update, (uint64_t)(uintptr_t)&u, 1, 0, DOMID_SELF), 0);
}

static void tables(void)
{
	const uint64_t va = (uint64_t)(uintptr_t)page[3], leaf = pv_leaf_at(page[3]);
	const volatile uint64_t *entry = &pv_table(page[3], 1)[va / PV_PAGE & 511];
	uint32_t done = 7;
	struct mmu_update u[3] = { { leaf, pv_mfn(page[3]) * PV_PAGE | RW }, { leaf, 0 }, { leaf | 4, 0 } };
	int64_t e;

	/* A and D stay when that is asked for; and go when it is not. */
	PV_CHECK(!pv_remap(page[3], RW), 0);
	page[3][0] = 1;
	PV_CHECK((*entry & 0x60) == 0x60, *entry);
	struct mmu_update keep = { leaf | MMU_PT_UPDATE_PRESERVE_AD, pv_mfn(page[3]) * PV_PAGE | RO };
	PV_CHECK(!pv_call(__HYPERVISOR_mmu_update, (uint64_t)(uintptr_t)&keep, 1, 0, DOMID_SELF), 0);
	PV_CHECK((*entry & 0x62) == 0x60, *entry);
	PV_CHECK(!pv_remap(page[3], RW) && !(*entry & 0x60), *entry);
	keep = (struct mmu_update){ leaf | MMU_PT_UPDATE_NO_TRANSLATE, pv_mfn(page[3]) * PV_PAGE | RO };
	PV_CHECK(!pv_call(__HYPERVISOR_mmu_update, (uint64_t)(uintptr_t)&keep, 1, 0, DOMID_SELF), 0);
	PV_CHECK((*entry & 7) == RO, *entry);
	PV_CHECK(!pv_remap(page[3], RW), 0);
	/* Whose tables and whose pages: nobody else's. */
	PV_CHECK(pv_call(__HYPERVISOR_mmu_update, (uint64_t)(uintptr_t)&keep, 1, 0, DOMID_IO) == -XEN_EPERM, 0);
	PV_CHECK(pv_call(__HYPERVISOR_mmu_update, (uint64_t)(uintptr_t)&keep, 1, 0, 9u << 16 | DOMID_SELF) == -XEN_EINVAL, 0);
	PV_CHECK((*entry & 7) == RW, *entry);
	/* A list ends at its first error, and the guest learns where. */
	e = pv_call(__HYPERVISOR_mmu_update, (uint64_t)(uintptr_t)u, 3, (uint64_t)(uintptr_t)&done, DOMID_SELF);
	PV_CHECK(e < 0 && done == 2, done);
	PV_CHECK(!(*entry & PV_P), *entry);
	PV_CHECK(pv_call(__HYPERVISOR_mmu_update, (uint64_t)(uintptr_t)u, 1, 0, 5) == -XEN_ESRCH, 0);
	/* By address. */
	PV_CHECK(!pv_call(__HYPERVISOR_update_va_mapping, va, pv_mfn(page[3]) * PV_PAGE | RW, UVMF_INVLPG, 0), 0);
	page[3][0] = 2;
	PV_CHECK(!pv_call(__HYPERVISOR_update_va_mapping, va, 0, UVMF_TLB_FLUSH | UVMF_ALL, 0), 0);
	PV_CHECK(PV_FAULTS("mov (%0), %%rax", "r"(page[3])), 0);
	PV_CHECK(pv_call(__HYPERVISOR_update_va_mapping_otherdomain, va, pv_mfn(page[3]) * PV_PAGE | RW, UVMF_INVLPG, 5) == -XEN_ESRCH, 0);
	PV_CHECK(pv_call(__HYPERVISOR_update_va_mapping, 0x700000000000, 0, 0, 0) == -XEN_EINVAL, 0);
	PV_CHECK(!pv_remap(page[3], RW), 0);
	/* Whole pages. */
	page[4][5] = 0x55;
	PV_CHECK(!pv_ext(MMUEXT_COPY_PAGE, pv_mfn(page[3]), pv_mfn(page[4])), 0);
	PV_CHECK(page[3][5] == 0x55, page[3][5]);
	PV_CHECK(!pv_ext(MMUEXT_CLEAR_PAGE, pv_mfn(page[3]), 0), 0);
	PV_CHECK(page[3][5] == 0, page[3][5]);
	/* Flushes of all kinds are taken; super pages are not to be had; others do not exist. */
	uint64_t all = 1;
	PV_CHECK(!pv_ext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0) && !pv_ext(MMUEXT_INVLPG_LOCAL, va, 0), 0);
	PV_CHECK(!pv_ext(MMUEXT_TLB_FLUSH_MULTI, 0, (uint64_t)(uintptr_t)&all) && !pv_ext(MMUEXT_INVLPG_MULTI, va, (uint64_t)(uintptr_t)&all), 0);
	PV_CHECK(!pv_ext(MMUEXT_TLB_FLUSH_ALL, 0, 0) && !pv_ext(MMUEXT_INVLPG_ALL, va, 0), 0);
	PV_CHECK(pv_ext(MMUEXT_MARK_SUPER, 0, 0) == -XEN_EOPNOTSUPP && pv_ext(MMUEXT_UNMARK_SUPER, 0, 0) == -XEN_EOPNOTSUPP, 0);
	PV_CHECK(pv_ext(99, 0, 0) == -XEN_ENOSYS, 0);
	/* Pins of every level, of tables that hold nothing. */
	for (unsigned level = 0; level < 4; level++) {
		for (unsigned i = 0; i < 512; i++)
			page[5][i] = 0;
		PV_CHECK(!pv_remap(page[5], RO), 0);
		PV_CHECK(!pv_ext(MMUEXT_PIN_L1_TABLE + level, pv_mfn(page[5]), 0), level);
		PV_CHECK(pv_remap(page[5], RW) == -XEN_EBUSY, level);
		PV_CHECK(!pv_ext(MMUEXT_UNPIN_TABLE, pv_mfn(page[5]), 0), level);
		PV_CHECK(!pv_remap(page[5], RW), level);
	}
}

static __attribute__((used)) void abi(struct start_info *info)
{
	pv_start(info);
	who_it_is();
	hypercall_stubs();
	several_in_one();
	debug_registers();
	emulated_instructions();
	ports();
	what_is_known_of_memory();
	pages_come_and_go();
	tables();
	pv_end();
}
