/*
 * bzimage.c - the setup header of a Linux bzImage. Source: Linux, Documentation/x86/boot.rst, "The Real-Mode Kernel Header".
 */
#include "boot/boot_internal.h"

#include <string.h>

/* Offsets in the file and, the same, in boot_params. */
enum {
	HDR_START = 0x1f1, HDR_BOOT_FLAG = 0x1fe, HDR_JUMP = 0x200, HDR_MAGIC = 0x202, HDR_VERSION = 0x206,
	HDR_LOADFLAGS = 0x211, HDR_CODE32_START = 0x214, HDR_XLOADFLAGS = 0x236, HDR_PAYLOAD_OFFSET = 0x248, HDR_PAYLOAD_LENGTH = 0x24c, HDR_INIT_SIZE = 0x260, HDR_END = 0x270,
};

/* Not Linux for x86-64 as kbuild packs it: the code from `code` on is entered as it is (boot.rst, "32-bit Boot Protocol"). */
static bool bzimage_entry32(struct boot_context *ctx, const struct boot_file *file, const uint8_t *head, uint64_t code, struct bzimage *out)
{
	if (load_u16(head + HDR_VERSION) < 0x20a || !(head[HDR_LOADFLAGS] & 1)) /* 2.10: init_size; bit 0: loaded high */
		return boot_fail(ctx, "%s: bzImage with neither a 64-bit nor a 32-bit entry (boot protocol %u.%u)", file->name,
				 head[HDR_VERSION + 1], head[HDR_VERSION]);
	if (code >= file->size)
		return boot_fail(ctx, "%s: truncated bzImage (its code begins at %llu, the file ends at %llu)", file->name,
				 (unsigned long long)code, (unsigned long long)file->size);
	out->entry32 = true;
	out->payload = code;
	out->payload_len = file->size - code;
	out->load_at = load_u32(head + HDR_CODE32_START);
	out->room = load_u32(head + HDR_INIT_SIZE);
	if (out->room < out->payload_len)
		out->room = out->payload_len;
	return true;
}

int bzimage_parse(struct boot_context *ctx, const struct boot_file *file, struct bzimage *out)
{
	uint8_t head[HDR_END];

	memset(out, 0, sizeof(*out));
	if (file->size < sizeof(head))
		return 0;
	if (!boot_file_read(ctx, file, 0, head, sizeof(head)))
		return -1;
	if (load_u16(head + HDR_BOOT_FLAG) != 0xaa55 || memcmp(head + HDR_MAGIC, "HdrS", 4))
		return 0;
	const uint64_t sectors = head[HDR_START] ? head[HDR_START] : 4;
	const uint64_t code = (sectors + 1) * 512;
	out->payload = code + load_u32(head + HDR_PAYLOAD_OFFSET);
	out->payload_len = load_u32(head + HDR_PAYLOAD_LENGTH);
	if (load_u16(head + HDR_VERSION) < 0x20c || !(load_u16(head + HDR_XLOADFLAGS) & 1) || !out->payload_len) {
		if (!bzimage_entry32(ctx, file, head, code, out))
			return -1;
	}
	if (out->payload > file->size || out->payload_len > file->size - out->payload) {
		boot_fail(ctx, "%s: truncated bzImage (payload ends at %llu, file at %llu)", file->name,
			  (unsigned long long)(out->payload + out->payload_len), (unsigned long long)file->size);
		return -1;
	}
	/* The header's length follows from the jump that skips it. */
	out->header_len = HDR_MAGIC + head[HDR_JUMP + 1] - HDR_START;
	if (out->header_len > sizeof(out->header))
		out->header_len = sizeof(out->header);
	if (out->header_len > HDR_END - HDR_START)
		out->header_len = HDR_END - HDR_START;
	memcpy(out->header, head + HDR_START, out->header_len);
	return 1;
}
