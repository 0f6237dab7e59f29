/*
 * xen_notes.c - the ELF notes by which a kernel says that it can run as a paravirtualized guest of Xen, and how (xen/elfnote.h). They lie in a PT_NOTE segment
 * whose bytes belong to a loaded segment, so they are read from guest memory once the kernel is there. Hostile input: every size is checked.
 */
#include <elf.h>
#include <string.h>
#include <xen/elfnote.h>

#include "boot/boot_internal.h"

#define NOTES_MAX KIB(64)
#define NUMBER(type, member) { XEN_ELFNOTE_##type, offsetof(struct xen_notes, member) }

/* Notes that hold a number of 4 or 8 bytes. */
static const struct { uint32_t type; size_t offset; } numbers[] = {
	NUMBER(ENTRY, entry), NUMBER(HYPERCALL_PAGE, hypercall_page), NUMBER(VIRT_BASE, virt_base), NUMBER(PADDR_OFFSET, paddr_offset),
	NUMBER(INIT_P2M, init_p2m), NUMBER(MOD_START_PFN, mod_start_pfn), NUMBER(HV_START_LOW, hv_start_low),
};

static void take_note(struct xen_notes *out, uint32_t type, const uint8_t *desc, uint32_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		uint64_t value = 0;

		if (numbers[i].type != type || (len != 4 && len != 8))
			continue;
		memcpy(&value, desc, len);
		memcpy((char *)out + numbers[i].offset, &value, sizeof(value));
		out->seen |= 1u << type;
	}
}

static void take_notes(struct xen_notes *out, const uint8_t *data, size_t len)
{
	while (len >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr h;
		uint64_t name, desc;

		memcpy(&h, data, sizeof(h));
		name = ALIGN_UP((uint64_t)h.n_namesz, 4);
		desc = ALIGN_UP((uint64_t)h.n_descsz, 4);
		if (sizeof(h) + name + desc > len)
			return;
		if (h.n_namesz == 4 && !memcmp(data + sizeof(h), "Xen", 4) && h.n_type <= XEN_ELFNOTE_MAX)
			take_note(out, h.n_type, data + sizeof(h) + name, h.n_descsz);
		data += sizeof(h) + name + desc;
		len -= sizeof(h) + name + desc;
	}
}

bool xen_notes_read(struct boot_context *ctx, const struct elf_loader *elf, struct xen_notes *out)
{
	const uint32_t needed = 1u << XEN_ELFNOTE_ENTRY | 1u << XEN_ELFNOTE_VIRT_BASE;
	uint8_t *data;
	Elf64_Ehdr eh;

	memset(out, 0, sizeof(*out));
	memcpy(&eh, elf->head, sizeof(eh)); /* elf_parse has checked it */
	data = boot_scratch_get(NOTES_MAX);
	if (!data)
		return boot_fail(ctx, "out of memory");
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, elf->head + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type != PT_NOTE || !ph.p_filesz || ph.p_filesz > NOTES_MAX || ph.p_paddr < elf->low || ph.p_paddr >= elf->high)
			continue;
		if (!memory_read(ctx->memory, gpa(ph.p_paddr), data, ph.p_filesz))
			take_notes(out, data, ph.p_filesz);
	}
	boot_scratch_put(data, NOTES_MAX);
	if ((out->seen & needed) != needed)
		return boot_fail(ctx, "%s: the kernel has no Xen notes, so it cannot run with direct paging; use --paging nested or shadow", ctx->config->kernel);
	if (!va_canonical(out->virt_base, VA_BITS_4LEVEL) || !va_canonical(out->entry, VA_BITS_4LEVEL) || !va_canonical(out->init_p2m, VA_BITS_4LEVEL) ||
	    (out->virt_base & (PAGE_SIZE - 1)) || (out->init_p2m & (PAGE_SIZE - 1)))
		return boot_fail(ctx, "%s: the kernel's Xen notes name addresses that make no sense", ctx->config->kernel);
	return true;
}
