/*
 * boot.c - opens the files, decides where things go and calls the loaders.
 */
#include "boot/boot_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool boot_fail(struct boot_context *ctx, const char *fmt, ...)
{
	va_list ap;

	if (!ctx->error[0]) {
		va_start(ap, fmt);
		vsnprintf(ctx->error, sizeof(ctx->error), fmt, ap);
		va_end(ap);
	}
	return false;
}

bool boot_file_open(struct boot_context *ctx, struct boot_file *file, const char *name)
{
	struct stat st;

	/* Not blocking: opening a FIFO without a writer must not hang. */
	*file = (struct boot_file){ .fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), .name = name };
	if (file->fd < 0)
		return boot_fail(ctx, "cannot open %s: %s", name, strerror(errno));
	if (fstat(file->fd, &st) < 0)
		boot_fail(ctx, "cannot read %s: %s", name, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		boot_fail(ctx, "%s: not a regular file", name);
	else if (!st.st_size)
		boot_fail(ctx, "%s: the file is empty", name);
	if (ctx->error[0]) {
		boot_file_close(file);
		return false;
	}
	file->size = (uint64_t)st.st_size;
	return true;
}

void boot_file_close(struct boot_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

bool boot_file_read(struct boot_context *ctx, const struct boot_file *file, uint64_t offset, void *buf, size_t len)
{
	uint8_t *to = buf;

	if (offset > file->size || len > file->size - offset)
		return boot_fail(ctx, "%s: truncated", file->name);
	while (len) {
		const ssize_t n = pread(file->fd, to, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return boot_fail(ctx, "cannot read %s: %s", file->name, strerror(errno));
		if (!n)
			return boot_fail(ctx, "%s: truncated while being read", file->name);
		to += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return true;
}

bool boot_put(struct boot_context *ctx, uint64_t p, const void *data, size_t len)
{
	return !memory_write(ctx->memory, gpa(p), data, len) || boot_fail(ctx, "no machine memory left for the boot tables");
}

bool boot_firmware(struct boot_context *ctx, bool reduced)
{
	static const size_t size = BOOT_ACPI_SIZE;
	uint8_t *tables = boot_scratch_get(size);

	if (!tables)
		return boot_fail(ctx, "out of memory");
	const size_t used = acpi_build(&ctx->config->acpi, reduced, BOOT_ACPI, tables, size);
	ASSERT(used);
	const bool ok = boot_put(ctx, BOOT_ACPI, tables, used);
	boot_scratch_put(tables, size);
	return ok;
}

unsigned boot_memory_map(const struct memory *mem, struct boot_range *range)
{
	unsigned n = 0;

	for (unsigned i = 0; i < mem->regions; i++) {
		const struct memory_region *r = &mem->region[i];
		const uint64_t end = r->base + r->len;

		if (!r->base) {
			range[n++] = (struct boot_range){ 0, BOOT_LOW_END, E820_RAM };
			range[n++] = (struct boot_range){ BOOT_LOW_END, BOOT_ACPI, E820_RESERVED };
			range[n++] = (struct boot_range){ BOOT_ACPI, BOOT_ACPI + BOOT_ACPI_SIZE, E820_ACPI };
			range[n++] = (struct boot_range){ BOOT_ACPI + BOOT_ACPI_SIZE, MIB(1), E820_RESERVED };
		}
		range[n] = (struct boot_range){ r->base ? r->base : MIB(1), end, E820_RAM };
		n += range[n].base < end;
		ASSERT(n < BOOT_RANGES);
	}
	return n;
}

/* Copies [offset, offset+len) of a file to guest-physical p. */
static bool boot_copy(struct boot_context *ctx, const struct boot_file *file, uint64_t offset, uint64_t len, uint64_t p)
{
	static const size_t piece_size = 1u << 20;
	uint8_t *piece = boot_scratch_get(piece_size);
	bool ok = piece || boot_fail(ctx, "out of memory");

	for (uint64_t at = 0; ok && at < len; at += piece_size) {
		const size_t n = len - at < piece_size ? (size_t)(len - at) : piece_size;

		ok = boot_file_read(ctx, file, offset + at, piece, n) &&
		     (!memory_write(ctx->memory, gpa(p + at), piece, n) || boot_fail(ctx, "no machine memory left for %s", file->name));
	}
	boot_scratch_put(piece, piece_size);
	return ok;
}

/* A bzImage that is entered in 32-bit mode: its code as it stands. */
static bool boot_code32(struct boot_context *ctx, const struct boot_file *file, const struct bzimage *bz, struct elf_loader *l)
{
	const struct memory_region *r = &ctx->memory->region[0];

	if (bz->load_at < MIB(1) || bz->load_at > r->len || bz->room > r->len - bz->load_at)
		return boot_fail(ctx, "kernel does not fit into memory: it needs 0x%llx bytes at 0x%llx; give the guest more with -m",
				 (unsigned long long)bz->room, (unsigned long long)bz->load_at);
	l->low = l->entry = bz->load_at;
	l->high = bz->load_at + bz->room;
	return boot_copy(ctx, file, bz->payload, bz->payload_len, bz->load_at);
}

/* An ELF image, or a packed one if that may be. */
static bool boot_is_image(struct boot_context *ctx, const struct boot_file *file, bool packed)
{
	static const struct { uint8_t magic[6]; uint8_t len; } packings[] = {
		{ { 0x1f, 0x8b }, 2 }, { { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6 }, { { 0x28, 0xb5, 0x2f, 0xfd }, 4 },
	};
	uint8_t magic[6];

	if (file->size < 16 || !boot_file_read(ctx, file, 0, magic, sizeof(magic)))
		return false;
	for (size_t i = 0; packed && i < ARRAY_LEN(packings); i++)
		if (!memcmp(magic, packings[i].magic, packings[i].len))
			return true;
	return !memcmp(magic, "\177ELF", 4);
}

static bool boot_kernel(struct boot_context *ctx, bool any_kind, struct bzimage *bz, struct elf_loader *elf)
{
	struct boot_file file;
	bool ok = false;

	if (!boot_file_open(ctx, &file, ctx->config->kernel))
		return false;
	const struct boot_sink sink = { elf_take, elf };
	const int is_bzimage = bzimage_parse(ctx, &file, bz);
	elf_start(elf, ctx);
	elf->any_kind = any_kind;
	elf->file_size = file.size;
	if (is_bzimage > 0 && bz->entry32)
		ok = any_kind ? boot_code32(ctx, &file, bz, elf) : boot_fail(ctx, "%s: not a kernel that can be paravirtualized", file.name);
	else if (is_bzimage > 0)
		ok = payload_stream(ctx, &file, bz->payload, bz->payload_len, &sink) && elf_finish(elf);
	else if (!is_bzimage && boot_is_image(ctx, &file, any_kind))
		ok = payload_stream(ctx, &file, 0, file.size, &sink) && elf_finish(elf);
	else
		boot_fail(ctx, "%s: not a kernel: neither a bzImage nor an ELF image", file.name);
	boot_file_close(&file);
	return ok;
}

/* The highest place below 4 GiB that leaves the kernel alone, else the gap between 1 MiB and the kernel. ~0 if there is none. */
static uint64_t boot_place_initrd(const struct memory *mem, uint64_t len, uint64_t kernel_low, uint64_t kernel_high)
{
	const uint64_t top = mem->region[0].base + mem->region[0].len;
	const uint64_t size = ALIGN_UP(len, PAGE_SIZE);

	if (size <= top && ALIGN_DOWN(top - size, PAGE_SIZE) >= ALIGN_UP(kernel_high, PAGE_SIZE))
		return ALIGN_DOWN(top - size, PAGE_SIZE);
	kernel_low = ALIGN_DOWN(kernel_low, PAGE_SIZE);
	if (kernel_low > MIB(1) && size <= kernel_low - MIB(1))
		return kernel_low - size;
	return ~0ull;
}

/* The name of an --initrd file: all of the text if there is such a file, else what stands before its first space. What follows it are arguments. */
static bool boot_module_name(struct boot_context *ctx, const char *text, struct boot_module *m)
{
	const char *space = access(text, F_OK) ? strchr(text, ' ') : 0;
	const size_t len = space ? (size_t)(space - text) : strlen(text);

	if (len >= sizeof(m->name))
		return boot_fail(ctx, "%.60s...: the name is too long", text);
	memcpy(m->name, text, len);
	m->name[len] = 0;
	m->args = space ? space + 1 : "";
	return true;
}

/* All --initrd files into one stretch of memory, each at a multiple of `align`. */
static bool boot_initrds(struct boot_context *ctx, const struct elf_loader *elf, uint64_t align, struct boot_modules *modules)
{
	struct boot_file file[BOOT_INITRDS];
	uint64_t total = 0, base;
	unsigned opened = 0;
	bool ok = true;

	ASSERT(ctx->config->initrds <= BOOT_INITRDS);
	modules->count = ctx->config->initrds;
	for (; ok && opened < modules->count; opened += ok) {
		struct boot_module *m = &modules->module[opened];

		ok = boot_module_name(ctx, ctx->config->initrd[opened], m) && boot_file_open(ctx, &file[opened], m->name);
		if (!ok)
			break;
		m->base = total = ALIGN_UP(total, align);
		m->len = file[opened].size;
		total += m->len;
	}
	base = ok && total ? boot_place_initrd(ctx->memory, total, elf->low, elf->high) : 0;
	if (ok && base == ~0ull)
		ok = boot_fail(ctx, "%s: initrd of %llu bytes does not fit beside the kernel; give the guest more memory with -m",
			       file[0].name, (unsigned long long)total);
	for (unsigned i = 0; i < opened; i++) {
		modules->module[i].base += base;
		ok = ok && boot_copy(ctx, &file[i], 0, file[i].size, modules->module[i].base);
		boot_file_close(&file[i]);
	}
	return ok;
}

bool boot_load_xen(struct boot_context *ctx, const struct boot_xen *xen, struct boot_xen_entry *entry)
{
	struct bzimage bz;
	struct elf_loader elf;

	ctx->error[0] = 0;
	return boot_kernel(ctx, false, &bz, &elf) && xen_start_layout(ctx, &elf, xen, entry);
}

bool boot_load(struct boot_context *ctx, struct boot_entry *entry)
{
	struct bzimage bz;
	struct elf_loader elf;
	struct boot_modules modules;
	bool ok;

	ctx->error[0] = 0;
	*entry = (struct boot_entry){ 0 };
	if (!boot_kernel(ctx, true, &bz, &elf) || !boot_initrds(ctx, &elf, elf.multiboot ? PAGE_SIZE : 4, &modules))
		return false;
	entry->rip = elf.entry;
	if (elf.multiboot) {
		ok = multiboot_setup(ctx, &modules, entry);
	} else {
		const struct boot_module *last = &modules.module[modules.count ? modules.count - 1 : 0];
		const uint64_t initrd = modules.count ? modules.module[0].base : 0;

		ok = linux_setup(ctx, &bz, initrd, modules.count ? last->base + last->len - initrd : 0, entry);
	}
	entry->kernel_low = elf.low;
	entry->kernel_high = elf.high;
	return ok;
}
