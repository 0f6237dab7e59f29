/*
 * elf.c - loads the PT_LOAD segments of an ELF64 kernel from a stream.
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
	if (s.paddr < MIB(1))
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

static bool elf_parse(struct elf_loader *l, size_t have)
{
	Elf64_Ehdr eh;
	uint64_t entry;

	if (have < sizeof(eh))
		return boot_fail(l->ctx, "truncated kernel ELF");
	memcpy(&eh, l->head, sizeof(eh));
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG))
		return boot_fail(l->ctx, "kernel payload is not an ELF image");
	if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_ident[EI_DATA] != ELFDATA2LSB || eh.e_machine != EM_X86_64)
		return boot_fail(l->ctx, "kernel ELF is not for x86-64");
	if (eh.e_type != ET_EXEC && eh.e_type != ET_DYN)
		return boot_fail(l->ctx, "kernel ELF is not an executable image");
	if (eh.e_phentsize != sizeof(Elf64_Phdr) || !eh.e_phnum || eh.e_phoff > have ||
	    (uint64_t)eh.e_phnum * sizeof(Elf64_Phdr) > have - eh.e_phoff)
		return boot_fail(l->ctx, "kernel ELF: bad program headers");
	entry = eh.e_entry;
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		Elf64_Phdr ph;
		memcpy(&ph, l->head + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type == PT_LOAD && !elf_add_segment(l, &ph))
			return false;
	}
	if (!l->segments)
		return boot_fail(l->ctx, "kernel ELF has nothing to load");
	l->parsed = true;
	/* A file may promise more than it holds: a limit keeps that cheap. */
	for (unsigned i = 0; i < l->segments && l->needed <= ELF_PREPARE_MAX; i++)
		memory_prepare(l->ctx->memory, gpa(l->segment[i].paddr), l->segment[i].filesz);
	return elf_find_entry(l, entry);
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
