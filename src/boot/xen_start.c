/*
 * xen_start.c - start of day of a paravirtualized kernel (xen/xen.h, "Start-of-day memory layout"): where things lie from VIRT_BASE up, the bootstrap page
 * tables, the P2M list and start_info.
 *
 *   kernel | initrd, if it must be mapped | start_info | store page | console page | page tables | stack | padding to 4 MiB      mapped at VIRT_BASE
 *   P2M list, the tables that map it at INIT_P2M | initrd, if it need not be mapped                                              not mapped there
 *
 * Each guest page gets its machine frame here, most of them without memory behind (pool_reserve): the kernel must be told all their numbers.
 */
#include <stdlib.h>
#include <string.h>

#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <stdint.h>
#include <xen/xen.h>
#include <xen/elfnote.h>

#include "boot/boot_internal.h"
#include "x86/regs.h"

#define ENTRIES 512u
#define PADDING KIB(512)
#define REGION_ALIGN MIB(4)
#define TABLE_FLAGS (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)

/* Guest-virtual addresses [from, to) that tables map: those of level n lie in a row from table[n] on. */
struct range { uint64_t from, to, table[4]; };

struct layout {
	struct boot_context *ctx;
	uint64_t next;		/* guest-physical: the next free page */
	uint64_t pages;		/* of the guest */
	uint64_t *p2m;		/* machine frame of each */
};

static uint64_t take(struct layout *l, uint64_t bytes)
{
	uint64_t at = l->next;

	l->next += ALIGN_UP(bytes, PAGE_SIZE);
	return at;
}

static bool put(struct layout *l, uint64_t p, const void *data, size_t len)
{
	return !memory_write(l->ctx->memory, gpa(p), data, len) || boot_fail(l->ctx, "no machine memory left for the kernel's start-up pages");
}

/* Tables of a level that map a range: one for each piece of 512 units. */
static uint64_t tables_of(uint64_t from, uint64_t to, unsigned level)
{
	const unsigned shift = 12 + 9 * level;

	return ((to - 1) >> shift) - (from >> shift) + 1;
}

static void take_tables(struct layout *l, struct range *r)
{
	for (unsigned level = 3; level; level--)
		r->table[level] = take(l, tables_of(r->from, r->to, level) * PAGE_SIZE);
}

/* Frames for all pages. Those that hold something have theirs. */
static bool number_pages(struct layout *l)
{
	struct memory *mem = l->ctx->memory;

	for (uint64_t pfn = 0; pfn < l->pages; pfn++) {
		struct p2m_entry e;
		mfn_t m;

		memory_lock(mem);
		m = p2m_lookup(mem, gpa(pfn << PAGE_SHIFT), &e) ? e.m : pool_reserve(&mem->pool, pfn);
		memory_unlock(mem);
		if (!mfn_valid(m))
			return boot_fail(l->ctx, "no machine frame left for the guest's memory");
		l->p2m[pfn] = m.v;
	}
	return true;
}

static uint64_t machine(const struct layout *l, uint64_t p) { return l->p2m[p >> PAGE_SHIFT] << PAGE_SHIFT; }

/* Fills the tables: r->from is mapped to `phys` and so on; pages of [ro, ro_end) (guest-physical) read-only. */
static bool fill_tables(struct layout *l, const struct range *r, uint64_t root, uint64_t phys, uint64_t ro, uint64_t ro_end)
{
	for (unsigned level = 1; level <= 4; level++) {
		const unsigned shift = 12 + 9 * (level - 1);
		const uint64_t first = r->from >> shift, last = (r->to - 1) >> shift;

		for (uint64_t unit = first; unit <= last; unit++) {
			const uint64_t target = (level == 1 ? phys : r->table[level - 1]) + (unit - first) * PAGE_SIZE;
			const uint64_t table = level == 4 ? root : r->table[level] + ((unit >> 9) - (first >> 9)) * PAGE_SIZE;
			uint64_t e = machine(l, target) | TABLE_FLAGS;

			if (level == 1 && target >= ro && target < ro_end)
				e &= ~(PTE_W | PTE_D);
			if (!put(l, table + (unit & (ENTRIES - 1)) * 8, &e, 8))
				return false;
		}
	}
	return true;
}

/* Backs [from, to), so that what is written there later finds the frames that number_pages has seen. */
static bool back(struct layout *l, uint64_t from, uint64_t to)
{
	static const uint64_t zero;

	for (uint64_t p = from; p < to; p += PAGE_SIZE)
		if (!put(l, p, &zero, sizeof(zero)))
			return false;
	return true;
}

static bool copy_file(struct layout *l, const struct boot_file *file, uint64_t to)
{
	static const size_t piece_size = 1u << 20;
	uint8_t *piece = boot_scratch_get(piece_size);
	bool ok = piece || boot_fail(l->ctx, "out of memory");

	for (uint64_t at = 0; ok && at < file->size; at += piece_size) {
		const size_t n = file->size - at < piece_size ? (size_t)(file->size - at) : piece_size;

		ok = boot_file_read(l->ctx, file, at, piece, n) && put(l, to + at, piece, n);
	}
	if (piece)
		boot_scratch_put(piece, piece_size);
	return ok;
}

static bool fits(struct layout *l) { return l->next <= l->pages << PAGE_SHIFT || boot_fail(l->ctx, "kernel and initrd do not fit into memory; give the guest more with -m"); }

static bool start(struct layout *l, const struct elf_loader *elf, const struct xen_notes *n, const struct boot_file *initrd, const struct boot_xen *xen,
		  struct boot_xen_entry *out)
{
	const uint64_t offset = n->virt_base - n->paddr_offset;	/* guest-virtual minus guest-physical */
	const bool by_pfn = n->mod_start_pfn, own_p2m = n->init_p2m;
	const uint64_t list_bytes = l->pages * 8;
	struct range boot, list = { 0 };
	uint64_t mod = 0, info, stack, root, tables_end, p2m_at, p2m_first;
	struct start_info si = { 0 };

	l->next = ALIGN_UP(elf->high, PAGE_SIZE);
	if (initrd && !by_pfn)
		mod = take(l, initrd->size);
	p2m_first = p2m_at = own_p2m ? 0 : take(l, list_bytes);
	info = take(l, PAGE_SIZE);
	out->store = gpa(take(l, PAGE_SIZE));
	out->console = gpa(take(l, PAGE_SIZE));
	root = take(l, PAGE_SIZE);
	/* The region's tables are in the region: enough for all that may follow. */
	boot.from = n->virt_base;
	boot.to = offset + ALIGN_UP(l->next + PADDING + MIB(1), REGION_ALIGN);
	take_tables(l, &boot);
	tables_end = l->next;
	stack = take(l, PAGE_SIZE);
	if (boot.to <= boot.from || offset + l->next + PADDING > boot.to)
		return boot_fail(l->ctx, "%s: the kernel's Xen notes leave no room for its start-up pages", l->ctx->config->kernel);
	if (boot.to - offset > l->next)
		l->next = boot.to - offset;
	if (own_p2m) {
		p2m_first = p2m_at = take(l, list_bytes);
		list.from = n->init_p2m;
		list.to = n->init_p2m + ALIGN_UP(list_bytes, PAGE_SIZE);
		if (list.to < list.from || list.from >> 39 == boot.from >> 39)
			return boot_fail(l->ctx, "%s: the kernel's Xen notes name addresses that make no sense", l->ctx->config->kernel);
		take_tables(l, &list);
	}
	const uint64_t p2m_end = own_p2m ? l->next : p2m_at + ALIGN_UP(list_bytes, PAGE_SIZE);
	if (initrd && by_pfn)
		mod = take(l, initrd->size);
	if (!fits(l) || (initrd && !copy_file(l, initrd, mod)))
		return false;
	if (!back(l, info, stack + PAGE_SIZE) || !back(l, p2m_at, p2m_end) || !number_pages(l))
		return false;
	if (!fill_tables(l, &boot, root, n->virt_base - offset, root, tables_end) || (own_p2m && !fill_tables(l, &list, root, p2m_at, 0, 0)))
		return false;
	if (!put(l, p2m_at, l->p2m, list_bytes))
		return false;

	strcpy(si.magic, "xen-3.0-x86_64");
	si.nr_pages = l->pages;
	si.shared_info = xen->shared_info.v << PAGE_SHIFT;
	si.flags = SIF_VIRT_P2M_4TOOLS | (initrd && by_pfn ? SIF_MOD_START_PFN : 0);
	si.store_mfn = machine(l, out->store.v) >> PAGE_SHIFT;
	si.store_evtchn = xen->store_port;
	si.console.domU.mfn = machine(l, out->console.v) >> PAGE_SHIFT;
	si.console.domU.evtchn = xen->console_port;
	si.pt_base = root + offset;
	si.nr_pt_frames = (tables_end - root) >> PAGE_SHIFT;
	si.mfn_list = own_p2m ? n->init_p2m : p2m_at + offset;
	if (own_p2m) {
		si.first_p2m_pfn = p2m_first >> PAGE_SHIFT;
		si.nr_p2m_frames = (p2m_end - p2m_first) >> PAGE_SHIFT;
	}
	if (initrd) {
		si.mod_start = by_pfn ? mod >> PAGE_SHIFT : mod + offset;
		si.mod_len = initrd->size;
	}
	const size_t len = strlen(l->ctx->config->cmdline);
	if (len >= sizeof(si.cmd_line))
		return boot_fail(l->ctx, "--append: a paravirtualized kernel's command line has at most %zu bytes", sizeof(si.cmd_line) - 1);
	memcpy(si.cmd_line, l->ctx->config->cmdline, len);
	if (!put(l, info, &si, sizeof(si)))
		return false;
	out->rip = n->entry;
	out->rsi = info + offset;
	out->rsp = stack + PAGE_SIZE + offset;
	out->root = mfn(machine(l, root) >> PAGE_SHIFT);
	out->hypercall_page = n->hypercall_page;
	out->kernel_low = elf->low;
	out->kernel_high = elf->high;
	return true;
}

bool xen_start_layout(struct boot_context *ctx, const struct elf_loader *elf, const struct boot_xen *xen, struct boot_xen_entry *out)
{
	struct layout l = { .ctx = ctx, .pages = ctx->memory->region[0].len >> PAGE_SHIFT };
	struct boot_file initrd;
	struct xen_notes notes;
	bool ok;

	ASSERT(ctx->memory->regions == 1);
	if (!xen_notes_read(ctx, elf, &notes))
		return false;
	if (ctx->config->initrds > 1)
		return boot_fail(ctx, "--initrd: a paravirtualized kernel takes only one");
	if (ctx->config->initrds && !boot_file_open(ctx, &initrd, ctx->config->initrd[0]))
		return false;
	l.p2m = calloc(l.pages, sizeof(*l.p2m));
	ok = l.p2m ? start(&l, elf, &notes, ctx->config->initrds ? &initrd : NULL, xen, out) : boot_fail(ctx, "out of memory");
	free(l.p2m);
	if (ctx->config->initrds)
		boot_file_close(&initrd);
	return ok;
}
