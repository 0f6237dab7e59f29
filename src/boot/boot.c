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

static bool boot_kernel(struct boot_context *ctx, struct bzimage *bz, struct elf_loader *elf)
{
	struct boot_file file;
	uint8_t magic[4] = { 0 };
	bool ok = false;

	if (!boot_file_open(ctx, &file, ctx->config->kernel))
		return false;
	const struct boot_sink sink = { elf_take, elf };
	const int is_bzimage = bzimage_parse(ctx, &file, bz);
	elf_start(elf, ctx);
	if (is_bzimage > 0)
		ok = payload_stream(ctx, &file, bz->payload, bz->payload_len, &sink) && elf_finish(elf);
	else if (!is_bzimage && file.size >= 16 && boot_file_read(ctx, &file, 0, magic, 4) && !memcmp(magic, "\177ELF", 4))
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

static bool boot_initrd(struct boot_context *ctx, const struct elf_loader *elf, uint64_t *base, uint64_t *len)
{
	static const size_t piece_size = 1u << 20;
	struct boot_file file;

	*base = *len = 0;
	if (!ctx->config->initrd)
		return true;
	if (!boot_file_open(ctx, &file, ctx->config->initrd))
		return false;
	*len = file.size;
	*base = boot_place_initrd(ctx->memory, file.size, elf->low, elf->high);
	uint8_t *piece = boot_scratch_get(piece_size);
	bool ok = true;
	if (*base == ~0ull)
		ok = boot_fail(ctx, "%s: initrd of %llu bytes does not fit beside the kernel; give the guest more memory with -m",
			       file.name, (unsigned long long)file.size);
	else if (!piece)
		ok = boot_fail(ctx, "out of memory");
	for (uint64_t at = 0; ok && at < file.size; at += piece_size) {
		const size_t n = file.size - at < piece_size ? (size_t)(file.size - at) : piece_size;
		ok = boot_file_read(ctx, &file, at, piece, n) &&
		     (!memory_write(ctx->memory, gpa(*base + at), piece, n) || boot_fail(ctx, "no machine memory left for the initrd"));
	}
	boot_scratch_put(piece, piece_size);
	boot_file_close(&file);
	return ok;
}

bool boot_load_xen(struct boot_context *ctx, const struct boot_xen *xen, struct boot_xen_entry *entry)
{
	struct bzimage bz;
	struct elf_loader elf;

	ctx->error[0] = 0;
	return boot_kernel(ctx, &bz, &elf) && xen_start_layout(ctx, &elf, xen, entry);
}

bool boot_load(struct boot_context *ctx, struct boot_entry *entry)
{
	struct bzimage bz;
	struct elf_loader elf;
	uint64_t initrd, initrd_len;

	ctx->error[0] = 0;
	if (!boot_kernel(ctx, &bz, &elf) || !boot_initrd(ctx, &elf, &initrd, &initrd_len))
		return false;
	entry->rip = elf.entry;
	if (!linux_setup(ctx, &bz, initrd, initrd_len, entry))
		return false;
	entry->kernel_low = elf.low;
	entry->kernel_high = elf.high;
	return true;
}
