/*
 * xen_start_test.c - the Xen notes of a kernel: found, absent, and damaged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <elf.h>
#undef PF_W
#undef PF_R
#undef PF_X
#include <string.h>
#include <stdlib.h>
#include <unistd.h>
#include <xen/elfnote.h>

#include "boot/boot_internal.h"
#include "mmu/mmu.h"
#include "x86/regs.h"
#include "xen/abi.h"

#define LOAD 0x200000ull
#define NOTES 0x1000u	/* offset in the image */
#define IMAGE 0x2000u

static uint8_t image[IMAGE];
static size_t notes;
static struct memory memory;
static struct elf_loader loader;

static void start(void)
{
	Elf64_Ehdr eh = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT }, .e_type = ET_EXEC, .e_machine = EM_X86_64,
			  .e_entry = LOAD, .e_phoff = sizeof(eh), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2 };

	memset(image, 0, sizeof(image));
	notes = NOTES;
	memcpy(image, &eh, sizeof(eh));
}

static void note(const char *owner, uint32_t type, const void *desc, uint32_t len)
{
	Elf64_Nhdr h = { .n_namesz = (uint32_t)strlen(owner) + 1, .n_descsz = len, .n_type = type };

	memcpy(image + notes, &h, sizeof(h));
	memcpy(image + notes + sizeof(h), owner, h.n_namesz);
	memcpy(image + notes + sizeof(h) + ALIGN_UP(h.n_namesz, 4u), desc, len);
	notes += sizeof(h) + ALIGN_UP(h.n_namesz, 4u) + ALIGN_UP(len, 4u);
}

static void number(uint32_t type, uint64_t value) { note("Xen", type, &value, 8); }

static bool read_notes(struct xen_notes *out, char *error, size_t size)
{
	const struct boot_config config = { .kernel = "kernel" };
	struct boot_context ctx = { .memory = &memory, .config = &config };
	Elf64_Phdr ph[2] = {
		{ .p_type = PT_LOAD, .p_offset = 0, .p_paddr = LOAD, .p_vaddr = LOAD, .p_filesz = IMAGE, .p_memsz = IMAGE },
		{ .p_type = PT_NOTE, .p_offset = NOTES, .p_paddr = LOAD + NOTES, .p_filesz = notes - NOTES, .p_memsz = notes - NOTES },
	};
	bool ok;

	memcpy(image + sizeof(Elf64_Ehdr), ph, sizeof(ph));
	assert_int_equal(memory_init(&memory, MIB(16), PLACEMENT_SCATTER, 1), 0);
	elf_start(&loader, &ctx);
	assert_int_not_equal(elf_take(&loader, image, sizeof(image)), SINK_FAILED);
	assert_true(elf_finish(&loader));
	ok = xen_notes_read(&ctx, &loader, out);
	memcpy(error, ctx.error, size < sizeof(ctx.error) ? size : sizeof(ctx.error));
	memory_destroy(&memory);
	return ok;
}

static void notes_are_found_among_others(void **state)
{
	struct xen_notes n;
	char error[240];
	uint32_t narrow = 1;

	(void)state;
	start();
	note("GNU", 3, "abcdefgh", 8);
	note("Xen", XEN_ELFNOTE_GUEST_OS, "linux", 6);
	number(XEN_ELFNOTE_ENTRY, 0xffffffff8304e1c0);
	number(XEN_ELFNOTE_VIRT_BASE, 0xffffffff80000000);
	number(XEN_ELFNOTE_INIT_P2M, 0x8000000000);
	note("Xen", XEN_ELFNOTE_MOD_START_PFN, &narrow, 4);
	assert_true(read_notes(&n, error, sizeof(error)));
	assert_int_equal(n.entry, 0xffffffff8304e1c0);
	assert_int_equal(n.virt_base, 0xffffffff80000000);
	assert_int_equal(n.init_p2m, 0x8000000000);
	assert_int_equal(n.mod_start_pfn, 1);
	assert_false(n.seen & 1u << XEN_ELFNOTE_HYPERCALL_PAGE);
}

static void a_kernel_without_them_gets_one_clear_error(void **state)
{
	struct xen_notes n;
	char error[240];

	(void)state;
	start();
	note("GNU", 1, "abcdefgh", 8);
	assert_false(read_notes(&n, error, sizeof(error)));
	assert_non_null(strstr(error, "no Xen notes"));
}

static void damaged_notes_are_refused_or_passed_over(void **state)
{
	struct xen_notes n;
	char error[240];
	const Elf64_Nhdr huge = { .n_namesz = 4, .n_descsz = 0xfffffff0, .n_type = XEN_ELFNOTE_ENTRY };

	(void)state;
	start();
	number(XEN_ELFNOTE_ENTRY, 0x1234000000000000); /* not canonical */
	number(XEN_ELFNOTE_VIRT_BASE, 0xffffffff80000000);
	assert_false(read_notes(&n, error, sizeof(error)));
	assert_non_null(strstr(error, "make no sense"));
	start();
	memcpy(image + notes, &huge, sizeof(huge));
	memcpy(image + notes + sizeof(huge), "Xen", 4);
	notes += sizeof(huge) + 4;
	assert_false(read_notes(&n, error, sizeof(error)));
	assert_non_null(strstr(error, "no Xen notes"));
}

/* The start-of-day of a kernel file, as its own tables show it. */
static void a_kernel_finds_its_start_of_day_through_its_own_tables(void **state)
{
	const char *path = "/tmp/trifold-xen-notes-test.elf";
	const struct boot_config config = { .kernel = path, .cmdline = "console=hvc0" };
	struct boot_context ctx = { .memory = &memory, .config = &config };
	struct mmu *mmu = aligned_alloc(64, ALIGN_UP(sizeof(*mmu), 64));
	const struct boot_xen xen = { .shared_info = mfn(5), .console_port = 2 };
	const uint64_t base = 0xffffffff80000000, pages = MIB(16) / PAGE_SIZE;
	struct boot_xen_entry e;
	struct start_info si;
	struct mmu_result r;
	Elf64_Phdr ph[2] = { 0 };

	(void)state;
	start();
	number(XEN_ELFNOTE_ENTRY, base + LOAD);
	number(XEN_ELFNOTE_VIRT_BASE, base);
	number(XEN_ELFNOTE_INIT_P2M, 0x8000000000);
	number(XEN_ELFNOTE_MOD_START_PFN, 1);
	ph[0] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_paddr = LOAD, .p_vaddr = base + LOAD, .p_filesz = IMAGE, .p_memsz = IMAGE };
	ph[1] = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = NOTES, .p_paddr = LOAD + NOTES, .p_filesz = notes - NOTES, .p_memsz = notes - NOTES };
	memcpy(image + sizeof(Elf64_Ehdr), ph, sizeof(ph));
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(image, 1, sizeof(image), f), sizeof(image));
	fclose(f);
	assert_int_equal(memory_init_machine(&memory, MIB(16), 64, PLACEMENT_SCATTER, 1), 0);
	if (!boot_load_xen(&ctx, &xen, &e))
		fail_msg("%s", ctx.error);
	unlink(path);
	assert_int_equal(mmu_init(mmu, &memory, PAGING_DIRECT), 0);
	mmu_set_controls(mmu, CR0_PG | CR0_PE | CR0_WP, CR4_PAE, EFER_LMA | EFER_LME | EFER_NXE);
	mmu_set_cr3(mmu, e.root.v << PAGE_SHIFT);
	assert_int_equal(e.rip, base + LOAD);
	assert_int_equal(mmu_access(mmu, gva(e.rip), ACC_READ | ACC_EXEC, &r), MMU_MAPPED);
	assert_memory_equal(r.hva, image, 64);
	assert_int_equal(mmu_access(mmu, gva(e.rsp - 8), ACC_WRITE, &r), MMU_MAPPED);
	assert_int_equal(mmu_access(mmu, gva(e.rsi), ACC_READ, &r), MMU_MAPPED);
	memcpy(&si, r.hva, sizeof(si));
	assert_string_equal(si.magic, "xen-3.0-x86_64");
	assert_int_equal(si.nr_pages, pages);
	assert_int_equal(si.shared_info, 5 * PAGE_SIZE);
	assert_string_equal((char *)si.cmd_line, "console=hvc0");
	assert_int_equal(si.console.domU.evtchn, 2);
	/* The tables are mapped, and read-only; padding follows the stack. */
	for (uint64_t i = 0; i < si.nr_pt_frames; i++) {
		assert_int_equal(mmu_access(mmu, gva(si.pt_base + i * PAGE_SIZE), ACC_READ, &r), MMU_MAPPED);
		assert_int_equal(mmu_access(mmu, gva(si.pt_base + i * PAGE_SIZE), ACC_WRITE, &r), MMU_INJECT);
	}
	assert_int_equal(mmu_access(mmu, gva(e.rsp + KIB(512) - 1), ACC_WRITE, &r), MMU_MAPPED);
	/* The list names every page's frame, each once. */
	uint8_t *seen = calloc(1, memory.pool.frames);
	for (uint64_t pfn = 0; pfn < pages; pfn++) {
		assert_int_equal(mmu_access(mmu, gva(si.mfn_list + pfn * 8), ACC_READ, &r), MMU_MAPPED);
		uint64_t m = load_u64(r.hva);
		assert_true(m < memory.pool.frames && !seen[m]);
		seen[m] = 1;
		assert_int_equal(memory.pool.frame[m].gfn, pfn);
	}
	free(seen);
	assert_int_equal(mmu_access(mmu, gva(base + LOAD), ACC_READ, &r), MMU_MAPPED);
	assert_int_equal(memory.pool.frame[r.mfn.v].gfn, LOAD >> PAGE_SHIFT);
	mmu_destroy(mmu);
	free(mmu);
	memory_destroy(&memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(notes_are_found_among_others),
		cmocka_unit_test(a_kernel_without_them_gets_one_clear_error),
		cmocka_unit_test(a_kernel_finds_its_start_of_day_through_its_own_tables),
		cmocka_unit_test(damaged_notes_are_refused_or_passed_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
