/*
 * aml.h - a small writer of ACPI Machine Language: just the objects that a static DSDT needs.
 * Source: ACPI Specification 6.4, "ACPI Machine Language (AML) Specification" and "Resource Data Types for ACPI".
 *
 * Nested objects open and close: at = aml_device(a, "COM1"); ...; aml_close(a, at). Overflow sets a->full and
 * writes nothing more, so only the end needs a check.
 */
#ifndef BOOT_AML_H
#define BOOT_AML_H

#include "base/base.h"

struct aml { uint8_t *buf; size_t len, size; bool full; };

void aml_bytes(struct aml *a, const void *data, size_t len);
void aml_u8(struct aml *a, uint8_t v);
void aml_u16(struct aml *a, uint16_t v);
void aml_u32(struct aml *a, uint32_t v);
void aml_u64(struct aml *a, uint64_t v);

void aml_integer(struct aml *a, uint64_t v);			/* the shortest form */
void aml_name(struct aml *a, const char *seg);			/* Name(seg, <next object>) */
void aml_string(struct aml *a, const char *ascii);
void aml_eisa_id(struct aml *a, const char *id);		/* EISAID("PNP0501") */

size_t aml_scope(struct aml *a, const char *path);		/* "\\_SB_" */
size_t aml_device(struct aml *a, const char *seg);
size_t aml_package(struct aml *a, uint8_t elements);
void aml_close(struct aml *a, size_t at);

/* Name(_CRS, ResourceTemplate() {...}) */
struct aml_resources { size_t package, size_at, start; };
struct aml_resources aml_crs(struct aml *a);
void aml_crs_io(struct aml *a, uint16_t port, uint8_t len);
void aml_crs_memory(struct aml *a, uint32_t base, uint32_t len);	/* that can be written */
void aml_crs_interrupt(struct aml *a, uint32_t gsi, bool edge);	/* exclusive, active high */
void aml_crs_close(struct aml *a, struct aml_resources r);

#endif
