/*
 * multiboot.c - kernels that follow the Multiboot Specification 0.6.96 ("version 1"): the header in the image, and the information structure
 * that the kernel finds through EBX.
 *
 * What is given: memory sizes and map, command line, modules, the loader's name. Video modes, drives, APM and the section headers are not; a header
 * that insists on a feature we do not have is refused.
 */
#include "boot/boot_internal.h"

#include <string.h>

/* Specification, "The layout of Multiboot header". */
enum { MBH_MAGIC = 0x1badb002, MBH_SEARCH = 8192, MBH_BASIC = 12, MBH_ADDRESSES = 32 };
enum { MBH_ALIGN_MODULES = 1u << 0, MBH_MEMORY = 1u << 1, MBH_VIDEO = 1u << 2, MBH_REQUIRED = 0xffff, MBH_HAS_ADDRESSES = 1u << 16 };

bool multiboot_find(const uint8_t *head, size_t have, struct multiboot *out)
{
	memset(out, 0, sizeof(*out));
	for (size_t at = 0; at + MBH_BASIC <= have && at + MBH_BASIC <= MBH_SEARCH; at += 4) {
		const uint8_t *h = head + at;

		if (load_u32(h) != MBH_MAGIC || load_u32(h) + load_u32(h + 4) + load_u32(h + 8) != 0)
			continue;
		out->flags = load_u32(h + 4);
		if (!(out->flags & MBH_HAS_ADDRESSES))
			return true;
		if (at + MBH_ADDRESSES > have)
			return false;
		out->addresses = true;
		out->offset = at;
		out->header = load_u32(h + 12);
		out->load = load_u32(h + 16);
		out->load_end = load_u32(h + 20);
		out->bss_end = load_u32(h + 24);
		out->entry = load_u32(h + 28);
		return true;
	}
	return false;
}

bool multiboot_accept(struct boot_context *ctx, const struct multiboot *m)
{
	const uint32_t unknown = m->flags & MBH_REQUIRED & ~(uint32_t)(MBH_ALIGN_MODULES | MBH_MEMORY | MBH_VIDEO);

	return !unknown || boot_fail(ctx, "multiboot kernel: it requires features that are not there (flags 0x%x)", unknown);
}

/* Specification, "Boot information format". */
enum {
	MBI_FLAGS = 0, MBI_MEM_LOWER = 4, MBI_MEM_UPPER = 8, MBI_CMDLINE = 16, MBI_MODS_COUNT = 20, MBI_MODS_ADDR = 24, MBI_MMAP_LENGTH = 44,
	MBI_MMAP_ADDR = 48, MBI_LOADER_NAME = 64, MBI_SIZE = 116,
};
enum { MBI_HAS_MEMORY = 1 << 0, MBI_HAS_CMDLINE = 1 << 2, MBI_HAS_MODULES = 1 << 3, MBI_HAS_MMAP = 1 << 6, MBI_HAS_LOADER_NAME = 1 << 9 };

/* The structure and what it points to, in one piece. */
struct info { uint8_t bytes[BOOT_MULTIBOOT_SIZE]; size_t used; };

static uint32_t info_address(const struct info *i) { return (uint32_t)(BOOT_MULTIBOOT_INFO + i->used); }

/* Room for len bytes; its offset, or 0 if there is none. */
static size_t info_take(struct info *i, size_t len)
{
	const size_t at = ALIGN_UP(i->used, 4);

	if (len > sizeof(i->bytes) || at > sizeof(i->bytes) - len)
		return 0;
	i->used = at + len;
	return at;
}

/* The last part of a path, a space if there is more, and that. The guest's address of it, or 0. */
static uint32_t info_text(struct info *i, const char *path, size_t path_len, const char *rest)
{
	const char *base = path;
	size_t at, len;

	for (const char *p = path; p < path + path_len; p++)
		if (*p == '/')
			base = p + 1;
	len = (size_t)(path + path_len - base);
	at = info_take(i, len + (*rest ? 1 + strlen(rest) : 0) + 1);
	if (!at)
		return 0;
	memcpy(i->bytes + at, base, len);
	if (*rest) {
		i->bytes[at + len] = ' ';
		memcpy(i->bytes + at + len + 1, rest, strlen(rest));
	}
	return (uint32_t)(BOOT_MULTIBOOT_INFO + at);
}

static void info_memory_map(struct info *i, const struct memory *mem)
{
	struct boot_range range[BOOT_RANGES];
	const unsigned n = boot_memory_map(mem, range);
	const size_t at = info_take(i, n * 24);

	ASSERT(at);
	for (unsigned k = 0; k < n; k++) {
		uint8_t *e = i->bytes + at + 24 * k;

		store_u32(e, 20);
		store_u64(e + 4, range[k].base);
		store_u64(e + 12, range[k].end - range[k].base);
		store_u32(e + 20, range[k].type);
	}
	store_u32(i->bytes + MBI_MMAP_ADDR, (uint32_t)(BOOT_MULTIBOOT_INFO + at));
	store_u32(i->bytes + MBI_MMAP_LENGTH, n * 24);
}

/* What firmware leaves in the BIOS data area, and Xen looks at: where conventional memory ends, as a paragraph (of the EBDA) and in KiB. */
static bool bios_data(struct boot_context *ctx)
{
	uint8_t area[7] = { 0 };

	store_u16(area, BOOT_LOW_END >> 4);
	store_u16(area + 5, BOOT_LOW_END / 1024);
	return boot_put(ctx, 0x40e, area, sizeof(area));
}

bool multiboot_setup(struct boot_context *ctx, const struct boot_modules *modules, struct boot_entry *entry)
{
	static const uint64_t gdt[4] = { 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff };
	const struct memory_region *low = &ctx->memory->region[0];
	const char *kernel = ctx->config->kernel, *args = ctx->config->args ? ctx->config->args : "";
	struct info i = { .used = MBI_SIZE };
	const size_t list = info_take(&i, 16 * (modules->count ? modules->count : 1));
	uint32_t cmdline, name;
	bool full = !list;

	info_memory_map(&i, ctx->memory);
	for (unsigned k = 0; k < modules->count && !full; k++) {
		const struct boot_module *m = &modules->module[k];
		uint8_t *e = i.bytes + list + 16 * k;
		const uint32_t text = info_text(&i, m->name, strlen(m->name), m->args);

		store_u32(e, (uint32_t)m->base);
		store_u32(e + 4, (uint32_t)(m->base + m->len));
		store_u32(e + 8, text);
		full = !text;
	}
	cmdline = info_text(&i, kernel, strlen(kernel), args);
	name = info_text(&i, "Trifold", 7, "");
	if (full || !cmdline || !name)
		return boot_fail(ctx, "multiboot kernel: command lines too long: %u bytes are there for all of them", BOOT_MULTIBOOT_SIZE);
	ASSERT(info_address(&i) <= BOOT_MULTIBOOT_INFO + BOOT_MULTIBOOT_SIZE);
	store_u32(i.bytes + MBI_FLAGS, MBI_HAS_MEMORY | MBI_HAS_CMDLINE | MBI_HAS_MODULES | MBI_HAS_MMAP | MBI_HAS_LOADER_NAME);
	store_u32(i.bytes + MBI_MEM_LOWER, BOOT_LOW_END / 1024);
	store_u32(i.bytes + MBI_MEM_UPPER, (uint32_t)((low->base + low->len - MIB(1)) / 1024));
	store_u32(i.bytes + MBI_CMDLINE, cmdline);
	store_u32(i.bytes + MBI_MODS_COUNT, modules->count);
	store_u32(i.bytes + MBI_MODS_ADDR, (uint32_t)(BOOT_MULTIBOOT_INFO + list));
	store_u32(i.bytes + MBI_LOADER_NAME, name);
	entry->mode32 = true;
	entry->rax = 0x2badb002;
	entry->rbx = BOOT_MULTIBOOT_INFO;
	entry->gdt_base = BOOT_GDT;
	entry->gdt_limit = sizeof(gdt) - 1;
	return boot_put(ctx, BOOT_MULTIBOOT_INFO, i.bytes, i.used) && boot_put(ctx, BOOT_GDT, gdt, sizeof(gdt)) && bios_data(ctx) && boot_firmware(ctx, false);
}
