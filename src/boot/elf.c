/*
 * elf.c - loads the PT_LOAD segments of an ELF64 kernel from a stream; of a multiboot kernel (multiboot.c) those of an ELF32 one, or what its header says.
 *
 * The headers must lie in the first ELF_HEAD bytes, as every linker puts them. Pages that no file byte covers (bss)
 * are left alone: untouched guest memory is zero and costs nothing.
 */
#include "boot/boot_internal.h"

#include <elf.h>
#include <string.h>

#define ELF_PREPARE_MAX MIB(128)

void elf_start(struct elf_loader *l, struct boot_context *ctx)
{
	memset(l, 0, sizeof(*l));
	l->ctx = ctx;
	l->low = ~0ull;
}

static bool elf_in_ram(const struct memory *mem, uint64_t base, uint64_t len)
{
	for (unsigned i = 0; i < mem->regions; i++) {
		const struct memory_region *r = &mem->region[i];
		if (base >= r->base && base - r->base < r->len && len <= r->len - (base - r->base))
			return true;
	}
	return false;
}

static bool elf_add_segment(struct elf_loader *l, const Elf64_Phdr *ph)
{
	const struct elf_segment s = { ph->p_offset, ph->p_filesz, ph->p_paddr, ph->p_vaddr, ph->p_memsz };

	if (!s.memsz)
		return true;
	if (s.filesz > s.memsz || s.offset > GIB(4) || s.filesz > GIB(4))
		return boot_fail(l->ctx, "kernel ELF: a segment's sizes make no sense");
	if (s.paddr < MIB(1) && !(l->multiboot && s.paddr >= BOOT_LOW_FREE && s.memsz <= BOOT_LOW_END - BOOT_LOW_FREE && s.paddr + s.memsz <= BOOT_LOW_END))
		return boot_fail(l->ctx, "kernel ELF: a segment lies below 1 MiB (at 0x%llx)", (unsigned long long)s.paddr);
	if (!elf_in_ram(l->ctx->memory, s.paddr, s.memsz))
		return boot_fail(l->ctx, "kernel does not fit into memory: it needs 0x%llx bytes at 0x%llx; give the guest more with -m",
				 (unsigned long long)s.memsz, (unsigned long long)s.paddr);
	for (unsigned i = 0; i < l->segments; i++) {
		const struct elf_segment *o = &l->segment[i];
		if (s.paddr < o->paddr + o->memsz && o->paddr < s.paddr + s.memsz)
			return boot_fail(l->ctx, "kernel ELF: segments overlap in memory");
	}
	if (l->segments == ELF_MAX_SEGMENTS)
		return boot_fail(l->ctx, "kernel ELF: more than %u segments", ELF_MAX_SEGMENTS);
	l->segment[l->segments++] = s;
	if (s.offset + s.filesz > l->needed)
		l->needed = s.offset + s.filesz;
	if (s.paddr < l->low)
		l->low = s.paddr;
	if (s.paddr + s.memsz > l->high)
		l->high = s.paddr + s.memsz;
	return true;
}

/* Linux states its entry as a physical address, other kernels as a virtual one: both name a byte of a segment. */
static bool elf_find_entry(struct elf_loader *l, uint64_t entry)
{
	for (int virtual = 0; virtual < 2; virtual++) {
		for (unsigned i = 0; i < l->segments; i++) {
			const struct elf_segment *s = &l->segment[i];
			const uint64_t base = virtual ? s->vaddr : s->paddr;
			if (entry >= base && entry - base < s->memsz) {
				l->entry = s->paddr + (entry - base);
				return true;
			}
		}
	}
	return boot_fail(l->ctx, "kernel ELF: the entry point lies outside its segments");
}

/* ELF32 headers as ELF64 ones. */
static void elf_widen(const Elf32_Ehdr *from, Elf64_Ehdr *to)
{
	memcpy(to->e_ident, from->e_ident, sizeof(to->e_ident));
	to->e_type = from->e_type;
	to->e_machine = from->e_machine;
	to->e_entry = from->e_entry;
	to->e_phoff = from->e_phoff;
	to->e_phentsize = from->e_phentsize;
	to->e_phnum = from->e_phnum;
}

static void elf_program_header(const uint8_t *at, bool wide, Elf64_Phdr *out)
{
	Elf32_Phdr ph;

	if (wide) {
		memcpy(out, at, sizeof(*out));
		return;
	}
	memcpy(&ph, at, sizeof(ph));
	*out = (Elf64_Phdr){ .p_type = ph.p_type, .p_offset = ph.p_offset, .p_vaddr = ph.p_vaddr, .p_paddr = ph.p_paddr, .p_filesz = ph.p_filesz, .p_memsz = ph.p_memsz };
}

/* A multiboot header with addresses: one segment. */
static bool elf_by_addresses(struct elf_loader *l, const struct multiboot *m)
{
	const uint64_t before = (uint64_t)m->header - m->load; /* of the image, before the header */
	uint64_t size = (uint64_t)m->load_end - m->load;

	if (m->header < m->load || before > m->offset || (m->load_end && m->load_end < m->header))
		return boot_fail(l->ctx, "multiboot kernel: the addresses in its header make no sense");
	if (!m->load_end) {
		if (!l->file_size)
			return boot_fail(l->ctx, "multiboot kernel: a packed one must say where it ends");
		size = l->file_size - (m->offset - before);
	}
	const Elf64_Phdr ph = { .p_offset = m->offset - before, .p_filesz = size, .p_paddr = m->load, .p_vaddr = m->load,
		.p_memsz = m->bss_end > m->load + size ? m->bss_end - m->load : size };

	return elf_add_segment(l, &ph) && elf_find_entry(l, m->entry);
}

static bool elf_header(struct elf_loader *l, size_t have, Elf64_Ehdr *eh)
{
	const bool narrow = have >= EI_NIDENT && l->head[EI_CLASS] == ELFCLASS32;

	if (have < (narrow ? sizeof(Elf32_Ehdr) : sizeof(*eh)))
		return boot_fail(l->ctx, "truncated kernel ELF");
	if (memcmp(l->head, ELFMAG, SELFMAG))
		return boot_fail(l->ctx, "kernel payload is not an ELF image");
	if (narrow) {
		Elf32_Ehdr eh32;

		memcpy(&eh32, l->head, sizeof(eh32));
		elf_widen(&eh32, eh);
	} else {
		memcpy(eh, l->head, sizeof(*eh));
	}
	if (eh->e_ident[EI_DATA] != ELFDATA2LSB || eh->e_machine != (narrow ? EM_386 : EM_X86_64))
		return boot_fail(l->ctx, "kernel ELF is not for x86-64");
	if (narrow && !l->multiboot)
		return boot_fail(l->ctx, "kernel ELF is not for x86-64, nor is it a multiboot kernel");
	if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
		return boot_fail(l->ctx, "kernel ELF is not an executable image");
	if (eh->e_phentsize != (narrow ? sizeof(Elf32_Phdr) : sizeof(Elf64_Phdr)) || !eh->e_phnum || eh->e_phoff > have ||
	    (uint64_t)eh->e_phnum * eh->e_phentsize > have - eh->e_phoff)
		return boot_fail(l->ctx, "kernel ELF: bad program headers");
	return true;
}

static bool elf_segments(struct elf_loader *l, size_t have)
{
	Elf64_Ehdr eh = { 0 };

	if (!elf_header(l, have, &eh))
		return false;
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		Elf64_Phdr ph;

		elf_program_header(l->head + eh.e_phoff + i * eh.e_phentsize, eh.e_phentsize == sizeof(ph), &ph);
		if (ph.p_type == PT_LOAD && !elf_add_segment(l, &ph))
			return false;
	}
	if (!l->segments)
		return boot_fail(l->ctx, "kernel ELF has nothing to load");
	return elf_find_entry(l, eh.e_entry);
}

static bool elf_parse(struct elf_loader *l, size_t have)
{
	struct multiboot m;

	l->multiboot = l->any_kind && multiboot_find(l->head, have, &m);
	if (l->multiboot && !multiboot_accept(l->ctx, &m))
		return false;
	if (!(l->multiboot && m.addresses ? elf_by_addresses(l, &m) : elf_segments(l, have)))
		return false;
	l->parsed = true;
	/* A file may promise more than it holds: a limit keeps that cheap. */
	for (unsigned i = 0; i < l->segments && l->needed <= ELF_PREPARE_MAX; i++)
		memory_prepare(l->ctx->memory, gpa(l->segment[i].paddr), l->segment[i].filesz);
	return true;
}

/* Copies what [offset, offset+len) of the image contributes to each segment. */
static bool elf_place(struct elf_loader *l, uint64_t offset, const uint8_t *data, size_t len)
{
	for (unsigned i = 0; i < l->segments; i++) {
		const struct elf_segment *s = &l->segment[i];
		const uint64_t from = s->offset > offset ? s->offset : offset;
		const uint64_t end = s->offset + s->filesz;
		const uint64_t to = end < offset + len ? end : offset + len;

		if (from >= to)
			continue;
		if (memory_write(l->ctx->memory, gpa(s->paddr + (from - s->offset)), data + (from - offset), to - from))
			return boot_fail(l->ctx, "no machine memory left for the kernel");
	}
	return true;
}

enum sink_result elf_take(void *loader, const uint8_t *data, size_t len)
{
	struct elf_loader *l = loader;

	if (l->taken < ELF_HEAD) {
		const size_t room = ELF_HEAD - (size_t)l->taken;
		const size_t n = len < room ? len : room;

		memcpy(l->head + l->taken, data, n);
		l->taken += n;
		data += n;
		len -= n;
		if (l->taken < ELF_HEAD)
			return SINK_MORE;
		if (!elf_parse(l, ELF_HEAD) || !elf_place(l, 0, l->head, ELF_HEAD))
			return SINK_FAILED;
	}
	if (len && !elf_place(l, l->taken, data, len))
		return SINK_FAILED;
	l->taken += len;
	return l->taken >= l->needed ? SINK_DONE : SINK_MORE;
}

bool elf_finish(struct elf_loader *l)
{
	if (!l->parsed) {
		const size_t have = (size_t)l->taken;
		if (!elf_parse(l, have) || !elf_place(l, 0, l->head, have))
			return false;
	}
	return l->taken >= l->needed || boot_fail(l->ctx, "truncated kernel ELF");
}
