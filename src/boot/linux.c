/*
 * linux.c - what the 64-bit boot protocol wants in memory: boot_params, command line, identity map, GDT, and the
 * firmware tables that boot_params points to.
 */
#include "boot/boot_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "x86/regs.h"

/* boot_params ("The Linux/x86 Boot Protocol", "The Zero Page"). */
enum {
	BP_ACPI_RSDP = 0x070, BP_EXT_RAMDISK_IMAGE = 0x0c0, BP_EXT_RAMDISK_SIZE = 0x0c4, BP_E820_ENTRIES = 0x1e8,
	BP_HEADER = 0x1f1, BP_BOOT_FLAG = 0x1fe, BP_MAGIC = 0x202, BP_VERSION = 0x206, BP_LOADER_TYPE = 0x210,
	BP_LOADFLAGS = 0x211, BP_RAMDISK_IMAGE = 0x218, BP_RAMDISK_SIZE = 0x21c, BP_CMD_LINE_PTR = 0x228,
	BP_XLOADFLAGS = 0x236, BP_SETUP_DATA = 0x250, BP_E820_TABLE = 0x2d0,
};
#define XLF_5LEVEL_ENABLED 0x40u
#define SETUP_RNG_SEED 9u
#define RNG_SEED_BYTES 32u

static void linux_e820(uint8_t *bp, uint64_t base, uint64_t end, uint32_t type)
{
	uint8_t *e = bp + BP_E820_TABLE + 20u * bp[BP_E820_ENTRIES];

	store_u64(e, base);
	store_u64(e + 8, end - base);
	store_u32(e + 16, type);
	bp[BP_E820_ENTRIES]++;
}

static void linux_memory_map(const struct memory *mem, uint8_t *bp)
{
	struct boot_range range[BOOT_RANGES];
	const unsigned n = boot_memory_map(mem, range);

	for (unsigned i = 0; i < n; i++)
		linux_e820(bp, range[i].base, range[i].end, range[i].type);
}

/* PML5 (used or not), PML4, one PDPT, four page directories of 2 MiB pages: the first 4 GiB, identity. */
static bool linux_page_tables(struct boot_context *ctx)
{
	static const uint64_t flags = PTE_P | PTE_W;
	uint64_t table[512] = { BOOT_PAGE_TABLES + 0x1000 + flags };

	if (!boot_put(ctx, BOOT_PAGE_TABLES, table, sizeof(table)))
		return false;
	memset(table, 0, sizeof(table));
	for (uint64_t i = 0; i < 4; i++)
		table[i] = (BOOT_PAGE_TABLES + 0x2000 + i * 0x1000) | flags;
	if (!boot_put(ctx, BOOT_PAGE_TABLES + 0x1000, table, sizeof(table)))
		return false;
	for (uint64_t pd = 0; pd < 4; pd++) {
		for (uint64_t i = 0; i < 512; i++)
			table[i] = (pd * 512 + i) << 21 | flags | PTE_PS;
		if (!boot_put(ctx, BOOT_PAGE_TABLES + 0x2000 + pd * 0x1000, table, sizeof(table)))
			return false;
	}
	memset(table, 0, sizeof(table));
	table[0] = BOOT_PAGE_TABLES | flags;
	return boot_put(ctx, BOOT_PML5, table, sizeof(table));
}

/*
 * Whether to enter with 5 levels: what the decompressor, which is passed by, would decide (Linux, "5-level paging"): if the processor has them, the kernel
 * was built for them, and its command line does not say no5lvl. A kernel without a setup header gets 4.
 */
static bool linux_wants_5_levels(const struct boot_context *ctx, const struct bzimage *bz)
{
	const char *word = ctx->config->cmdline;
	static const char no[] = "no5lvl";
	const size_t len = sizeof(no) - 1;

	if (!ctx->config->la57 || !bz->header_len || !(load_u16(bz->header + BP_XLOADFLAGS - BP_HEADER) & XLF_5LEVEL_ENABLED))
		return false;
	for (; (word = strstr(word, no)); word += len)
		if ((word == ctx->config->cmdline || word[-1] == ' ') && (!word[len] || word[len] == ' '))
			return false;
	return true;
}

/* setup_data {next, type, len, data}: entropy from the host, so that the guest's generator starts seeded. */
static bool linux_rng_seed(struct boot_context *ctx)
{
	uint8_t data[16 + RNG_SEED_BYTES] = { 0 };
	size_t have = 0;

	while (have < RNG_SEED_BYTES) {
		const ssize_t n = getrandom(data + 16 + have, RNG_SEED_BYTES - have, 0);
		if (n < 0 && errno != EINTR)
			return boot_fail(ctx, "getrandom: %s", strerror(errno));
		have += n > 0 ? (size_t)n : 0;
	}
	store_u32(data + 8, SETUP_RNG_SEED);
	store_u32(data + 12, RNG_SEED_BYTES);
	return boot_put(ctx, BOOT_SETUP_DATA, data, sizeof(data));
}

bool linux_setup(struct boot_context *ctx, const struct bzimage *bz, uint64_t initrd, uint64_t initrd_len,
		 struct boot_entry *entry)
{
	const uint64_t gdt[4] = { 0, 0, bz->entry32 ? 0x00cf9b000000ffff : 0x00af9b000000ffff, 0x00cf93000000ffff };
	uint8_t bp[4096] = { 0 };
	const size_t cmdline_len = strlen(ctx->config->cmdline);
	const bool la57 = linux_wants_5_levels(ctx, bz);

	if (cmdline_len > BOOT_CMDLINE_MAX)
		return boot_fail(ctx, "kernel command line too long: %zu bytes, at most %u", cmdline_len, BOOT_CMDLINE_MAX);

	memcpy(bp + BP_HEADER, bz->header, bz->header_len);
	store_u16(bp + BP_BOOT_FLAG, 0xaa55);
	memcpy(bp + BP_MAGIC, "HdrS", 4);
	if (!bz->header_len)
		store_u16(bp + BP_VERSION, 0x20f);
	bp[BP_LOADER_TYPE] = 0xff;	/* no assigned id */
	bp[BP_LOADFLAGS] |= 1;		/* loaded high */
	store_u64(bp + BP_ACPI_RSDP, BOOT_ACPI);
	store_u32(bp + BP_RAMDISK_IMAGE, (uint32_t)initrd);
	store_u32(bp + BP_RAMDISK_SIZE, (uint32_t)initrd_len);
	store_u32(bp + BP_EXT_RAMDISK_IMAGE, (uint32_t)(initrd >> 32));
	store_u32(bp + BP_EXT_RAMDISK_SIZE, (uint32_t)(initrd_len >> 32));
	store_u32(bp + BP_CMD_LINE_PTR, BOOT_CMDLINE);
	store_u64(bp + BP_SETUP_DATA, BOOT_SETUP_DATA);
	linux_memory_map(ctx->memory, bp);

	*entry = (struct boot_entry){
		.rip = entry->rip, .mode32 = bz->entry32, .rsi = BOOT_ZERO_PAGE, .cr3 = la57 ? BOOT_PML5 : BOOT_PAGE_TABLES, .la57 = la57, .gdt_base = BOOT_GDT, .gdt_limit = sizeof(gdt) - 1,
	};
	return boot_put(ctx, BOOT_ZERO_PAGE, bp, sizeof(bp)) &&
	       boot_put(ctx, BOOT_CMDLINE, ctx->config->cmdline, cmdline_len + 1) &&
	       boot_put(ctx, BOOT_GDT, gdt, sizeof(gdt)) && linux_page_tables(ctx) && linux_rng_seed(ctx) && boot_firmware(ctx, !bz->entry32);
}
