/*
 * aml.c - the AML writer. Package lengths are always written in the three-byte form, so that closing an object only
 * patches bytes that are already there.
 */
#include "boot/aml.h"

#include <string.h>

enum {
	AML_ONE = 0x01, AML_NAME = 0x08, AML_BYTE = 0x0a, AML_WORD = 0x0b, AML_DWORD = 0x0c, AML_STRING = 0x0d, AML_QWORD = 0x0e,
	AML_SCOPE = 0x10, AML_BUFFER = 0x11, AML_PACKAGE = 0x12, AML_EXT = 0x5b, AML_EXT_DEVICE = 0x82,
};

void aml_bytes(struct aml *a, const void *data, size_t len)
{
	if (a->full || len > a->size - a->len) {
		a->full = true;
		return;
	}
	memcpy(a->buf + a->len, data, len);
	a->len += len;
}

void aml_u8(struct aml *a, uint8_t v) { aml_bytes(a, &v, sizeof(v)); }
void aml_u16(struct aml *a, uint16_t v) { aml_bytes(a, &v, sizeof(v)); }
void aml_u32(struct aml *a, uint32_t v) { aml_bytes(a, &v, sizeof(v)); }
void aml_u64(struct aml *a, uint64_t v) { aml_bytes(a, &v, sizeof(v)); }

void aml_integer(struct aml *a, uint64_t v)
{
	if (v <= AML_ONE) {
		aml_u8(a, (uint8_t)v);
	} else if (v <= UINT8_MAX) {
		aml_u8(a, AML_BYTE);
		aml_u8(a, (uint8_t)v);
	} else if (v <= UINT16_MAX) {
		aml_u8(a, AML_WORD);
		aml_u16(a, (uint16_t)v);
	} else if (v <= UINT32_MAX) {
		aml_u8(a, AML_DWORD);
		aml_u32(a, (uint32_t)v);
	} else {
		aml_u8(a, AML_QWORD);
		aml_u64(a, v);
	}
}

void aml_name(struct aml *a, const char *seg)
{
	ASSERT(strlen(seg) == 4);
	aml_u8(a, AML_NAME);
	aml_bytes(a, seg, 4);
}

static uint32_t aml_hex(char c)
{
	return (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters in 5 bits each and four hexadecimal digits, most significant byte first. */
void aml_string(struct aml *a, const char *ascii)
{
	aml_u8(a, AML_STRING);
	aml_bytes(a, ascii, strlen(ascii) + 1);
}

void aml_eisa_id(struct aml *a, const char *id)
{
	uint32_t v = 0;

	ASSERT(strlen(id) == 7);
	for (int i = 0; i < 3; i++)
		v = v << 5 | (uint32_t)(id[i] - '@');
	for (int i = 3; i < 7; i++)
		v = v << 4 | aml_hex(id[i]);
	aml_u8(a, AML_DWORD);
	aml_u32(a, __builtin_bswap32(v));
}

static size_t aml_open(struct aml *a)
{
	static const uint8_t room[3];
	const size_t at = a->len;

	aml_bytes(a, room, sizeof(room));
	return at;
}

void aml_close(struct aml *a, size_t at)
{
	const size_t len = a->len - at;

	if (a->full)
		return;
	ASSERT(len < 1u << 20);
	a->buf[at] = (uint8_t)(2u << 6 | (len & 15));
	a->buf[at + 1] = (uint8_t)(len >> 4);
	a->buf[at + 2] = (uint8_t)(len >> 12);
}

size_t aml_scope(struct aml *a, const char *path)
{
	aml_u8(a, AML_SCOPE);
	const size_t at = aml_open(a);
	aml_bytes(a, path, strlen(path));
	return at;
}

size_t aml_device(struct aml *a, const char *seg)
{
	ASSERT(strlen(seg) == 4);
	aml_u8(a, AML_EXT);
	aml_u8(a, AML_EXT_DEVICE);
	const size_t at = aml_open(a);
	aml_bytes(a, seg, 4);
	return at;
}

size_t aml_package(struct aml *a, uint8_t elements)
{
	aml_u8(a, AML_PACKAGE);
	const size_t at = aml_open(a);
	aml_u8(a, elements);
	return at;
}

struct aml_resources aml_crs(struct aml *a)
{
	struct aml_resources r;

	aml_name(a, "_CRS");
	aml_u8(a, AML_BUFFER);
	r.package = aml_open(a);
	aml_u8(a, AML_WORD);
	r.size_at = a->len;
	aml_u16(a, 0);
	r.start = a->len;
	return r;
}

/* "I/O Port Descriptor": 16-bit decode, fixed base. */
void aml_crs_io(struct aml *a, uint16_t port, uint8_t len)
{
	aml_u8(a, 0x47);
	aml_u8(a, 1);
	aml_u16(a, port);
	aml_u16(a, port);
	aml_u8(a, 1);
	aml_u8(a, len);
}

/* "32-Bit Fixed Memory Range Descriptor" */
void aml_crs_memory(struct aml *a, uint32_t base, uint32_t len)
{
	aml_u8(a, 0x86);
	aml_u16(a, 9);
	aml_u8(a, 1);
	aml_u32(a, base);
	aml_u32(a, len);
}

/* "Extended Interrupt Descriptor". */
void aml_crs_interrupt(struct aml *a, uint32_t gsi, bool edge)
{
	aml_u8(a, 0x89);
	aml_u16(a, 6);
	aml_u8(a, (uint8_t)(1 | (edge ? 2 : 0)));
	aml_u8(a, 1);
	aml_u32(a, gsi);
}

void aml_crs_close(struct aml *a, struct aml_resources r)
{
	aml_u8(a, 0x79);	/* "End Tag", checksum 0: treated as good */
	aml_u8(a, 0);
	if (!a->full)
		store_u16(a->buf + r.size_at, (uint16_t)(a->len - r.start));
	aml_close(a, r.package);
}
