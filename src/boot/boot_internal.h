/*
 * boot_internal.h - what the loaders share: reading files, unpacking payloads as a stream, and where things go in
 * low guest memory.
 *
 * Kernel files are hostile input. Every offset and size is checked against the file or against RAM where it enters, and
 * nothing is held in host memory but bounded scratch buffers: payloads are unpacked piece by piece, and each piece
 * is copied to its place in the guest at once.
 */
#ifndef BOOT_BOOT_INTERNAL_H
#define BOOT_BOOT_INTERNAL_H

#include <stdio.h>
#include "boot/boot.h"

/* Guest-physical places below 1 MiB, none of which the kernel uses after it has taken over. */
#define BOOT_GDT 0x1000u
#define BOOT_ZERO_PAGE 0x2000u
#define BOOT_SETUP_DATA 0x3000u
#define BOOT_CMDLINE 0x4000u
#define BOOT_PAGE_TABLES 0x8000u	/* PML4, PDPT, 4 page directories, PML5 */
#define BOOT_PML5 (BOOT_PAGE_TABLES + 0x6000u)
#define BOOT_LOW_END 0x9f000u		/* conventional memory ends; from here to 1 MiB is reserved */
#define BOOT_ACPI 0xe0000u
#define BOOT_ACPI_SIZE 0x10000u
#define BOOT_MULTIBOOT_INFO BOOT_ZERO_PAGE	/* for multiboot kernels, with all that it points to */
#define BOOT_MULTIBOOT_SIZE (BOOT_PAGE_TABLES - BOOT_MULTIBOOT_INFO)
#define BOOT_LOW_FREE 0x10000u		/* from here on kernels may lie themselves */
#define BOOT_CMDLINE_MAX 2047u		/* COMMAND_LINE_SIZE - 1 of every x86 kernel */

struct boot_file { int fd; uint64_t size; const char *name; };

/* Opens a regular file for reading. false with ctx->error set. */
bool boot_file_open(struct boot_context *ctx, struct boot_file *file, const char *name);
void boot_file_close(struct boot_file *file);
/* Reads exactly [offset, offset+len). */
bool boot_file_read(struct boot_context *ctx, const struct boot_file *file, uint64_t offset, void *buf, size_t len);

/* Records the first reason for failure; returns false so that it can end a function. */
bool boot_fail(struct boot_context *ctx, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Writes a table of ours into the guest; false with ctx->error set. */
bool boot_put(struct boot_context *ctx, uint64_t p, const void *data, size_t len);
/* The ACPI tables at BOOT_ACPI; reduced: of a hardware-reduced machine, which kernels of Linux's 64-bit boot protocol get (boot/acpi.h). */
bool boot_firmware(struct boot_context *ctx, bool reduced);

/* Guest-physical memory as firmware would describe it; types as in the E820 map. Fills range[BOOT_RANGES], returns how many. */
enum { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3 };
#define BOOT_RANGES 16u
struct boot_range { uint64_t base, end; uint32_t type; };
unsigned boot_memory_map(const struct memory *mem, struct boot_range *range);

/* The --initrd files, as they lie in the guest. */
struct boot_module { char name[256]; const char *args; uint64_t base, len; };
struct boot_modules { struct boot_module module[BOOT_INITRDS]; unsigned count; };

/* Receives an image in order, from offset 0. SINK_DONE: wants no more. */
enum sink_result { SINK_MORE, SINK_DONE, SINK_FAILED };
struct boot_sink {
	enum sink_result (*take)(void *opaque, const uint8_t *data, size_t len);
	void *opaque;
};

/* Recognises the format of [offset, offset+len) of the file by its magic and streams it, unpacked, to the sink. */
bool payload_stream(struct boot_context *ctx, const struct boot_file *file, uint64_t offset, uint64_t len,
		    const struct boot_sink *sink);

/* Populated scratch memory (a page fault on a virtual host costs more than a copy of the page). */
void *boot_scratch_get(size_t size);
void boot_scratch_put(void *p, size_t size);

/* A multiboot header (multiboot.c). addresses: it says itself where the image goes, as byte `offset` of the file to `header`. */
struct multiboot { uint32_t flags; bool addresses; size_t offset; uint32_t header, load, load_end, bss_end, entry; };
bool multiboot_find(const uint8_t *head, size_t have, struct multiboot *out);
/* false with ctx->error set: the header requires what we do not have. */
bool multiboot_accept(struct boot_context *ctx, const struct multiboot *m);
/* Everything that such a kernel finds in memory; fills in all of entry but rip and where the kernel lies. */
bool multiboot_setup(struct boot_context *ctx, const struct boot_modules *modules, struct boot_entry *entry);

/*
 * ELF64 (of multiboot kernels: ELF32, or none) from a stream: PT_LOAD segments go to their physical addresses. start, feed in order, finish.
 * After finish: the lowest and highest physical address used, the entry (physical).
 */
#define ELF_HEAD 16384u
#define ELF_MAX_SEGMENTS 32u
struct elf_segment { uint64_t offset, filesz, paddr, vaddr, memsz; };
struct elf_loader {
	struct boot_context *ctx;
	uint8_t head[ELF_HEAD];
	uint64_t taken;		/* bytes fed so far */
	uint64_t needed;	/* end of the last segment in the file */
	bool parsed;
	bool any_kind;		/* set after elf_start: multiboot kernels are welcome */
	bool multiboot;		/* it is one */
	uint64_t file_size;	/* of a file that is not packed; else 0 */
	struct elf_segment segment[ELF_MAX_SEGMENTS];
	unsigned segments;
	uint64_t low, high, entry;
};
void elf_start(struct elf_loader *l, struct boot_context *ctx);
enum sink_result elf_take(void *loader, const uint8_t *data, size_t len);
bool elf_finish(struct elf_loader *l);

/*
 * What a kernel's Xen notes say (xen_notes.c). seen: a bit for each note that is there, 1 << XEN_ELFNOTE_*; the others are zero. ENTRY and VIRT_BASE are.
 */
struct xen_notes { uint32_t seen; uint64_t entry, hypercall_page, virt_base, paddr_offset, init_p2m, mod_start_pfn, hv_start_low; };
/* After elf_finish. false with ctx->error set: it has none, or they make no sense. */
bool xen_notes_read(struct boot_context *ctx, const struct elf_loader *elf, struct xen_notes *out);

/* xen_start.c: after elf_finish. */
bool xen_start_layout(struct boot_context *ctx, const struct elf_loader *elf, const struct boot_xen *xen, struct boot_xen_entry *out);

/* The setup header of a bzImage, as far as it matters. */
struct bzimage {
	uint8_t header[0x80];	/* file offset 1f1h on, for boot_params */
	size_t header_len;
	uint64_t payload, payload_len;
	bool entry32;		/* to be entered in 32-bit mode: the code from `payload` on goes to load_at, which takes room bytes */
	uint64_t load_at, room;
};
/* Tells a bzImage from other files: 1 yes, 0 no, -1 a bad one (ctx->error set). */
int bzimage_parse(struct boot_context *ctx, const struct boot_file *file, struct bzimage *out);

/* boot_params, command line, page tables and GDT; linux.c. */
bool linux_setup(struct boot_context *ctx, const struct bzimage *bz, uint64_t initrd, uint64_t initrd_len,
		 struct boot_entry *entry);

#endif
