/*
 * bzimage.c - the setup header of a Linux bzImage. Source: Linux, Documentation/x86/boot.rst, "The Real-Mode Kernel Header".
 */
#include "boot/boot_internal.h"

#include <string.h>

/* Offsets in the file and, the same, in boot_params. */
enum {
	HDR_START = 0x1f1, HDR_BOOT_FLAG = 0x1fe, HDR_JUMP = 0x200, HDR_MAGIC = 0x202, HDR_VERSION = 0x206,
	HDR_XLOADFLAGS = 0x236, HDR_PAYLOAD_OFFSET = 0x248, HDR_PAYLOAD_LENGTH = 0x24c, HDR_END = 0x270,
};

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
	if (load_u16(head + HDR_VERSION) < 0x20c || !(load_u16(head + HDR_XLOADFLAGS) & 1)) {
		boot_fail(ctx, "%s: bzImage without a 64-bit entry (boot protocol %u.%u)", file->name,
			  head[HDR_VERSION + 1], head[HDR_VERSION]);
		return -1;
	}

	const uint64_t sectors = head[HDR_START] ? head[HDR_START] : 4;
	const uint64_t code = (sectors + 1) * 512;
	out->payload = code + load_u32(head + HDR_PAYLOAD_OFFSET);
	out->payload_len = load_u32(head + HDR_PAYLOAD_LENGTH);
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
