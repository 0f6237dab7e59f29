/*
 * payload.c - unpackers of kernel payloads, each a loop that reads the file in pieces and hands unpacked pieces to the
 * sink. kbuild appends the unpacked size in 4 bytes to all formats but gzip; it is not part of the format.
 */
#include "boot/boot_internal.h"

#include <lz4.h>
#include <lzma.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>

#define PIECE_IN (256u << 10)
#define PIECE_OUT (1u << 20)
/* No real kernel comes near; a payload that unpacks to more is a bomb. */
#define UNPACKED_MAX GIB(1)
#define EXPANSION_MAX 256u	/* an LZ4 block cannot expand more; the other formats do not care how large their pieces are */
#define XZ_MEMORY_MAX MIB(160)

/* Large buffers in large pages: on virtual hosts the first touch of a page costs more than filling it. */
#define LARGE_PAGE MIB(2)

void *boot_scratch_get(size_t size)
{
	const bool large = size >= LARGE_PAGE;
	const size_t want = large ? ALIGN_UP(size, LARGE_PAGE) : size, slack = large ? LARGE_PAGE : 0;
	uint8_t *p = mmap(0, want + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (large ? 0 : MAP_POPULATE), -1, 0);

	if (p == MAP_FAILED || !large)
		return p == MAP_FAILED ? 0 : p;
	uint8_t *start = (uint8_t *)ALIGN_UP((uintptr_t)p, LARGE_PAGE);
	if (start > p)
		munmap(p, (size_t)(start - p));
	if (start < p + slack)
		munmap(start + want, (size_t)(p + slack - start));
	madvise(start, want, MADV_HUGEPAGE);
	return start;
}

void boot_scratch_put(void *p, size_t size)
{
	if (p)
		munmap(p, size >= LARGE_PAGE ? ALIGN_UP(size, LARGE_PAGE) : size);
}

/* A payload being read: what is left of it in the file, and the two buffers. */
struct payload {
	struct boot_context *ctx;
	const struct boot_file *file;
	uint64_t offset, left;
	const struct boot_sink *sink;
	uint8_t *in, *out;
	size_t in_size, out_size;
	uint64_t unpacked;
	const char *format;
};

/* Reads the next piece into p->in; 0 bytes at the end. */
static bool payload_fill(struct payload *p, size_t *len)
{
	*len = p->left < p->in_size ? (size_t)p->left : p->in_size;
	if (!boot_file_read(p->ctx, p->file, p->offset, p->in, *len))
		return false;
	p->offset += *len;
	p->left -= *len;
	return true;
}

static enum sink_result payload_emit(struct payload *p, const uint8_t *data, size_t len)
{
	p->unpacked += len;
	if (p->unpacked > UNPACKED_MAX) {
		boot_fail(p->ctx, "%s: %s payload unpacks to more than 1 GiB", p->file->name, p->format);
		return SINK_FAILED;
	}
	return len ? p->sink->take(p->sink->opaque, data, len) : SINK_MORE;
}

static bool payload_corrupt(struct payload *p)
{
	return boot_fail(p->ctx, "%s: corrupt or truncated %s payload", p->file->name, p->format);
}

static bool payload_plain(struct payload *p)
{
	enum sink_result r = SINK_MORE;

	while (r == SINK_MORE && p->left) {
		size_t len;
		if (!payload_fill(p, &len))
			return false;
		r = p->sink->take(p->sink->opaque, p->in, len);
	}
	return r != SINK_FAILED;
}

/* The legacy frame: magic, then {u32 size, block} to the end, each block at most 8 MiB unpacked and independent. */
#define LZ4_LEGACY_MAGIC 0x184c2102u
#define LZ4_LEGACY_BLOCK (8u << 20)

static bool payload_lz4(struct payload *p)
{
	enum sink_result r = SINK_MORE;

	p->offset += 4;
	p->left -= 4;
	while (r == SINK_MORE && p->left > 4) {
		uint8_t word[4];
		if (!boot_file_read(p->ctx, p->file, p->offset, word, 4))
			return false;
		const uint32_t size = load_u32(word);
		p->offset += 4;
		p->left -= 4;
		if (size == LZ4_LEGACY_MAGIC)
			continue; /* frames may follow each other */
		if (!size || size > p->left || size > p->in_size)
			return payload_corrupt(p);
		if (!boot_file_read(p->ctx, p->file, p->offset, p->in, size))
			return false;
		const int n = LZ4_decompress_safe((const char *)p->in, (char *)p->out, (int)size, (int)p->out_size);
		if (n <= 0)
			return payload_corrupt(p);
		p->offset += size;
		p->left -= size;
		r = payload_emit(p, p->out, (size_t)n);
	}
	return r != SINK_FAILED;
}

static bool payload_gzip(struct payload *p)
{
	z_stream z = { 0 };
	enum sink_result r = SINK_MORE;
	int err = Z_OK;
	bool ok = true;

	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return boot_fail(p->ctx, "out of memory");
	while (ok && r == SINK_MORE && err != Z_STREAM_END) {
		size_t len;
		if (!z.avail_in) {
			ok = payload_fill(p, &len) && (len || payload_corrupt(p));
			if (!ok)
				break;
			z.next_in = p->in;
			z.avail_in = (unsigned)len;
		}
		z.next_out = p->out;
		z.avail_out = (unsigned)p->out_size;
		err = inflate(&z, Z_NO_FLUSH);
		if (err != Z_OK && err != Z_STREAM_END && err != Z_BUF_ERROR)
			ok = payload_corrupt(p);
		else
			r = payload_emit(p, p->out, p->out_size - z.avail_out);
	}
	inflateEnd(&z);
	return ok && r != SINK_FAILED;
}

static bool payload_xz(struct payload *p)
{
	lzma_stream x = LZMA_STREAM_INIT;
	enum sink_result r = SINK_MORE;
	lzma_ret err = LZMA_OK;
	bool ok = true;

	if (lzma_stream_decoder(&x, XZ_MEMORY_MAX, 0) != LZMA_OK)
		return boot_fail(p->ctx, "out of memory");
	while (ok && r == SINK_MORE && err != LZMA_STREAM_END) {
		size_t len;
		if (!x.avail_in) {
			ok = payload_fill(p, &len) && (len || payload_corrupt(p));
			if (!ok)
				break;
			x.next_in = p->in;
			x.avail_in = len;
		}
		x.next_out = p->out;
		x.avail_out = p->out_size;
		err = lzma_code(&x, LZMA_RUN);
		if (err == LZMA_MEMLIMIT_ERROR || err == LZMA_MEM_ERROR)
			ok = boot_fail(p->ctx, "%s: xz payload needs more than %llu MiB to unpack", p->file->name,
				       (unsigned long long)(XZ_MEMORY_MAX >> 20));
		else if (err != LZMA_OK && err != LZMA_STREAM_END && err != LZMA_BUF_ERROR)
			ok = payload_corrupt(p);
		else
			r = payload_emit(p, p->out, p->out_size - x.avail_out);
	}
	lzma_end(&x);
	return ok && r != SINK_FAILED;
}

static bool payload_zstd(struct payload *p)
{
	ZSTD_DCtx *z = ZSTD_createDCtx();
	enum sink_result r = SINK_MORE;
	ZSTD_inBuffer in = { p->in, 0, 0 };
	size_t more = 1;
	bool ok = true;

	if (!z)
		return boot_fail(p->ctx, "out of memory");
	while (ok && r == SINK_MORE && more) {
		if (in.pos == in.size) {
			ok = payload_fill(p, &in.size) && (in.size || payload_corrupt(p));
			if (!ok)
				break;
			in.pos = 0;
		}
		ZSTD_outBuffer out = { p->out, p->out_size, 0 };
		more = ZSTD_decompressStream(z, &out, &in);
		if (ZSTD_isError(more))
			ok = payload_corrupt(p);
		else
			r = payload_emit(p, p->out, out.pos);
	}
	ZSTD_freeDCtx(z);
	return ok && r != SINK_FAILED;
}

static const struct payload_format {
	const char *name;
	uint8_t magic[6];
	uint8_t magic_len;
	bool (*stream)(struct payload *p);	/* 0: recognised, to be refused by name */
	size_t in_size, out_size;
} payload_formats[] = {
	{ "LZ4", { 0x02, 0x21, 0x4c, 0x18 }, 4, payload_lz4, LZ4_COMPRESSBOUND(LZ4_LEGACY_BLOCK), LZ4_LEGACY_BLOCK },
	{ "gzip", { 0x1f, 0x8b }, 2, payload_gzip, PIECE_IN, PIECE_OUT },
	{ "xz", { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6, payload_xz, PIECE_IN, PIECE_OUT },
	{ "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4, payload_zstd, PIECE_IN, PIECE_OUT },
	{ "ELF", { 0x7f, 'E', 'L', 'F' }, 4, payload_plain, PIECE_OUT, 0 },
	{ "bzip2", { 'B', 'Z', 'h' }, 3, 0, 0, 0 },
	{ "LZMA", { 0x5d, 0, 0 }, 3, 0, 0, 0 },
	{ "LZO", { 0x89, 'L', 'Z', 'O' }, 4, 0, 0, 0 },
};

bool payload_stream(struct boot_context *ctx, const struct boot_file *file, uint64_t offset, uint64_t len,
		    const struct boot_sink *sink)
{
	uint8_t magic[6] = { 0 };
	const struct payload_format *format = 0;

	if (len < 16)
		return boot_fail(ctx, "%s: truncated kernel image", file->name);
	if (!boot_file_read(ctx, file, offset, magic, sizeof(magic)))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(payload_formats) && !format; i++) {
		if (!memcmp(magic, payload_formats[i].magic, payload_formats[i].magic_len))
			format = &payload_formats[i];
	}
	if (!format)
		return boot_fail(ctx, "%s: kernel payload of unknown format", file->name);
	if (!format->stream)
		return boot_fail(ctx, "%s: kernel payload compressed with %s, which is not supported (LZ4, gzip, xz, zstd are)",
				 file->name, format->name);

	struct payload p = {
		.ctx = ctx, .file = file, .offset = offset, .left = len, .sink = sink, .format = format->name,
		.in_size = format->in_size, .out_size = format->out_size,
	};
	/* Small files need no large buffers. */
	if (p.in_size > len)
		p.in_size = (size_t)len;
	if (p.out_size > len * EXPANSION_MAX)
		p.out_size = (size_t)len * EXPANSION_MAX;
	p.in = boot_scratch_get(p.in_size);
	p.out = p.out_size ? boot_scratch_get(p.out_size) : 0;
	const bool ok = (p.in && (p.out || !p.out_size)) ? format->stream(&p) : boot_fail(ctx, "out of memory");
	boot_scratch_put(p.in, p.in_size);
	boot_scratch_put(p.out, p.out_size);
	return ok;
}
