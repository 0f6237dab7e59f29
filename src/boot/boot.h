/*
 * boot.h - puts a kernel, its initial RAM disk, command line and firmware tables into guest memory and says in which
 * state the boot processor starts.
 *
 * Kernels: bzImage (payload LZ4, gzip, xz, zstd or plain ELF), of which the ELF inside is loaded directly, so that the
 * decompressor's 16- and 32-bit code never runs; and ELF64 vmlinux. Both enter by the 64-bit boot protocol
 * (Linux, Documentation/x86/boot.rst, "64-bit Boot Protocol"): long mode, identity map of the first 4 GiB, RSI = boot_params. A bzImage without that
 * entry, or without such a payload (memtest86+), enters by the 32-bit boot protocol. Multiboot kernels (multiboot.c) do so as their specification says.
 *
 * Lifecycle: boot_load once, before any vcpu runs; it keeps nothing. Runs with no lock (nobody else is there yet).
 */
#ifndef BOOT_BOOT_H
#define BOOT_BOOT_H

#include "boot/acpi.h"
#include "mem/memory.h"

#define BOOT_INITRDS 16u
struct boot_config {
	const char *kernel;
	/* Linux gets one behind the other; multiboot kernels get modules, each "FILE" or "FILE ARGUMENTS". */
	const char *initrd[BOOT_INITRDS];
	unsigned initrds;
	const char *cmdline;	/* the whole of it */
	const char *args;	/* what of it the user gave; 0: nothing. All that a kernel other than Linux gets */
	bool la57;		/* the processor has 5-level paging */
	struct acpi_config acpi;
};

/*
 * Boot processor's state; segments are flat, selectors 10h (code) and 18h (data), interrupts off. mode32: 32-bit protected mode, no paging; else 64-bit mode.
 */
struct boot_entry { bool mode32; uint64_t rip, rsi, rax, rbx, cr3, gdt_base; uint16_t gdt_limit; uint64_t kernel_low, kernel_high; /* where it lies */ bool la57; /* CR4.LA57, and cr3 is a table of level 5 */ };

struct boot_context {
	struct memory *memory;
	const struct boot_config *config;
	char error[240];	/* one clear reason, when boot_load fails */
};

/* true, or false with ctx->error set. ctx->memory and ctx->config are the caller's. */
bool boot_load(struct boot_context *ctx, struct boot_entry *entry);

/*
 * The same kernels as paravirtualized guests of Xen, by their ELF notes (xen_start.c); memory was made by memory_init_machine. Every guest page has a machine frame
 * afterwards. The first vcpu starts at CPL 3 with flat segments, RSI = start_info.
 */
struct boot_xen { mfn_t shared_info; uint32_t console_port, store_port; };
struct boot_xen_entry {
	uint64_t rip, rsi, rsp;
	mfn_t root;			/* of the bootstrap tables, which are filled but not typed yet */
	gpa_t console, store;		/* ring pages */
	uint64_t hypercall_page;	/* guest-virtual, in the kernel's image; 0: the kernel wants none */
	uint64_t kernel_low, kernel_high;
};
bool boot_load_xen(struct boot_context *ctx, const struct boot_xen *xen, struct boot_xen_entry *entry);

#endif
