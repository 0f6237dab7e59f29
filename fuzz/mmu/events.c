/*
 * events.c - what a guest and its monitor do to an MMU besides accesses: CR3 and control registers, invalidations, pages mapped elsewhere,
 * code that is tracked, frames that move, are shared, are given up, go to the swap file and are logged as dirty.
 */
#include "mmu_fuzz.h"

#include <inttypes.h>
#include <string.h>

#include "mmu/mmu_internal.h"
#include "x86/regs.h"

static const uint16_t pcids[MODEL_PCIDS] = { 0, 1, 2, 0xfff };

static void load_root(struct fuzz *f, uint64_t root, unsigned i, bool noflush)
{
	bool pcide = f->model.cr4 & CR4_PCIDE;

	mmu_set_cr3(&f->mmu, root | (pcide ? pcids[i] : 0) | (noflush ? CR3_NOFLUSH : 0));
	f->model.root = root;
	f->model.pcid = i;
	if (!noflush)
		model_flush_space(&f->model, i);
}

void event_load_cr3(struct fuzz *f)
{
	bool pcide = f->model.cr4 & CR4_PCIDE;

	load_root(f, tables_random_root(f), pcide ? pick(f, MODEL_PCIDS) : 0, pcide && chance(f, 600));
}

void event_set_controls(struct fuzz *f, uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	struct model *m = &f->model;

	mmu_set_controls(&f->mmu, cr0, cr4, efer);
	if (((m->cr4 ^ cr4) & (CR4_PGE | CR4_PCIDE | CR4_LA57)) || ((m->efer ^ efer) & EFER_NXE))
		model_flush_all(m);
	m->cr0 = cr0;
	m->cr4 = cr4;
	m->efer = efer;
}

/* From 4 levels to 5 or back, as software must do it: outside long mode. */
static void change_levels(struct fuzz *f)
{
	struct model *m = &f->model;
	uint64_t cr0 = m->cr0, cr4 = m->cr4, efer = m->efer;

	event_set_controls(f, cr0 & ~CR0_PG, cr4, efer & ~EFER_LMA);
	event_set_controls(f, cr0 & ~CR0_PG, cr4 ^ CR4_LA57, efer & ~EFER_LMA);
	event_set_controls(f, cr0, cr4 ^ CR4_LA57, efer);
	memset(f->hot, 0, sizeof(f->hot));
	event_load_cr3(f);
}

void event_change_controls(struct fuzz *f)
{
	static const uint64_t cr4[] = { CR4_SMEP, CR4_SMAP, CR4_SMEP, CR4_SMAP, CR4_PGE, CR4_PCIDE };
	struct model *m = &f->model;
	uint64_t flip = cr4[pick(f, 6)];

	if (chance(f, 60))
		change_levels(f);
	else if (chance(f, 200))
		event_set_controls(f, m->cr0 ^ CR0_WP, m->cr4, m->efer);
	else if (chance(f, 100))
		event_set_controls(f, m->cr0, m->cr4, m->efer ^ EFER_NXE);
	else
		event_set_controls(f, m->cr0, m->cr4 ^ flip, m->efer);
	if (flip == CR4_PCIDE)
		event_load_cr3(f);
}

void event_invalidate(struct fuzz *f)
{
	uint64_t va = tables_random_va(f) + pick(f, 4096);
	unsigned i = pick(f, MODEL_PCIDS);
	struct model *m = &f->model;

	switch (pick(f, 100)) {
	default:
		mmu_invlpg(&f->mmu, gva(va));
		model_invlpg(m, va);
		break;
	case 0 ... 9:
		mmu_invpcid(&f->mmu, INVPCID_ADDRESS, m->cr4 & CR4_PCIDE ? pcids[i] : 0, gva(va));
		model_invpcid_address(m, m->cr4 & CR4_PCIDE ? i : 0, va);
		break;
	case 10 ... 14:
		mmu_invpcid(&f->mmu, INVPCID_CONTEXT, m->cr4 & CR4_PCIDE ? pcids[i] : 0, gva(0));
		model_flush_space(m, m->cr4 & CR4_PCIDE ? i : 0);
		break;
	case 15:
		mmu_invpcid(&f->mmu, INVPCID_ALL, 0, gva(0));
		model_flush_locals(m);
		break;
	case 16:
		mmu_invpcid(&f->mmu, INVPCID_ALL_GLOBAL, 0, gva(0));
		model_flush_all(m);
		break;
	}
}

/*
 * What a kernel does all day: code at va runs, its page is mapped elsewhere, va is invalidated (perhaps from another space, if the
 * page is global), and code at va runs again.
 */
void event_remap(struct fuzz *f)
{
	static struct model_question q;
	struct model *m = &f->model;
	uint64_t va = tables_random_va(f), entry, root = m->root;
	unsigned end, pcid = m->pcid;
	bool user = chance(f, 500), away = (m->cr4 & CR4_PCIDE) && chance(f, 400);

	access_code_at(f, va, user);
	model_ask(m, va, ACC_READ, &q);
	end = q.walk[0].end;
	entry = q.walk[0].entry[end];
	if (!(entry & PTE_P) || (end > 1 && !(entry & PTE_PS)) || !memory_is_ram(m->memory, gpa(q.walk[0].entry_pa[end])))
		return;
	if (end == 1)
		entry = (entry & ~TR_MFN_MASK) | tables_random_page(f);
	else if (end == 2)
		entry = (entry & ~TR_MFN_MASK) | (uint64_t)pick(f, 6) << 21;
	if (chance(f, 60))
		entry ^= PTE_P;
	tables_store(f, q.walk[0].entry_pa[end], &entry, 8);
	if (away)
		load_root(f, root, pick(f, MODEL_PCIDS), true);
	if (chance(f, 850)) {
		mmu_invlpg(&f->mmu, gva(va));
		model_invlpg(m, va);
	}
	if (away)
		load_root(f, root, pcid, true);
	access_code_at(f, va + pick(f, 4096), user);
}

void event_track_code(struct fuzz *f)
{
	const uint64_t page = tables_random_page(f);
	struct p2m_entry e;
	unsigned offset;

	if (!p2m_lookup(&f->memory, gpa(page), &e))
		return;
	if (chance(f, 300)) {
		track_clear(&f->memory.track, e.m, FRAME_CODE);
		return;
	}
	/* Code is fetched first. */
	if (pool_frame(&f->memory.pool, e.m)->flags & FRAME_SHARED) {
		if (p2m_unshare(&f->memory, gpa(page), &e) != P2M_MAPPED)
			die(f, "no frame of its own for %#" PRIx64, page);
		mmu_frames_changed(&f->mmu);
	}
	offset = pick(f, 4096);
	if (track_code(&f->memory.track, e.m, offset, 1 + pick(f, 4096 - offset)))
		mmu_write_protect(&f->mmu, e.m);
}

/* After frames have moved or gone: the old ones are released, as vm/ does it. */
static void forget_frames(struct fuzz *f)
{
	mmu_frames_changed(&f->mmu);
	f->memory.track.code_writes = 0;
	memory_release(&f->memory);
}

void event_move_page(struct fuzz *f)
{
	uint64_t page = tables_random_page(f), before = 0, after = 0;
	bool ram = page < RAM;

	if (ram)
		memory_read(&f->memory, gpa(page + 8 * 7), &before, 8);
	if (memory_move(&f->memory, gpa(page)) == 0) {
		/* A few more, now and then: old frames pile up. */
		while (chance(f, 300))
			memory_move(&f->memory, gpa(tables_random_page(f)));
		forget_frames(f);
		memory_read(&f->memory, gpa(page + 8 * 7), &after, 8);
		if (before != after)
			die(f, "gpa %#" PRIx64 " lost its contents in a move", page);
	}
}

static bool gather_wanted(void *opaque) { (void)opaque; return true; }

/* Pages go to frames side by side: those that level 1 says should, and any to any, so that many are exchanged. */
void event_gather(struct fuzz *f)
{
	const uint64_t first = tables_random_page(f) & ~(8 * PAGE_SIZE - 1);
	uint64_t before[8], after[8];
	struct gather_page list[24];

	if (!f->memory.gather.area_pages || first + 8 * PAGE_SIZE > RAM)
		return;
	for (unsigned i = 0; i < 8; i++)
		memory_read(&f->memory, gpa(first + i * PAGE_SIZE + 8 * 7), &before[i], 8);
	f->memory.gather.wanted = gather_wanted;
	for (unsigned i = 0, set = chance(f, 500) ? TLB_USER : TLB_KERNEL; i < TLB_L1_SMALL; i++)
		if (mmu_gather_ask(&f->mmu, set, tlb1_entry(&f->mmu, set, (uint64_t)i << PAGE_SHIFT)->tag_read) != GATHER_USELESS)
			break;
	f->gathers += !!mmu_gather(&f->mmu);
	memory_lock(&f->memory);
	for (unsigned i = 0; i < 24; i++)
		list[i] = (struct gather_page){ .gfn = i < 8 ? first / PAGE_SIZE + i : tables_random_page(f) % RAM / PAGE_SIZE,
						.to = memory_gather_place(&f->memory, pick(f, 4), (uint64_t)pick(f, 4 * GATHER_PAGES) << PAGE_SHIFT) };
	memory_unlock(&f->memory);
	memory_gather(&f->memory, list, 24);
	forget_frames(f);
	for (unsigned i = 0; i < 8; i++) {
		memory_read(&f->memory, gpa(first + i * PAGE_SIZE + 8 * 7), &after[i], 8);
		if (before[i] != after[i])
			die(f, "gpa %#llx lost its contents when it was gathered", first + i * PAGE_SIZE);
	}
}

/*
 * The log names each page whose contents have changed, and no page that was neither stored to nor changed by a walk (A and D
 * bits change contents).
 */
static void judge_log(struct fuzz *f)
{
	uint64_t bitmap[RAM / PAGE_SIZE / 64];
	int64_t n = memory_log_fetch(&f->memory, bitmap), seen = 0;

	for (uint64_t gfn = 0; gfn < RAM / PAGE_SIZE; gfn++) {
		bool logged = bitmap[gfn / 64] >> (gfn % 64) & 1, changed;
		uint8_t now[PAGE_SIZE], *then = f->then + gfn * PAGE_SIZE;

		if (memory_read(&f->memory, gpa(gfn * PAGE_SIZE), now, PAGE_SIZE))
			die(f, "gfn %#" PRIx64 " cannot be read", gfn);
		changed = memcmp(now, then, PAGE_SIZE);
		if (changed && !logged)
			die(f, "gfn %#" PRIx64 " has changed and is not in the dirty log", gfn);
		if (logged && !changed && !f->stored[gfn])
			die(f, "gfn %#" PRIx64 " is in the dirty log and was not written", gfn);
		if (changed)
			memcpy(then, now, PAGE_SIZE);
		f->stored[gfn] = false;
		seen += logged;
	}
	if (n != seen)
		die(f, "the dirty log counts %" PRId64 " pages, has %" PRId64, n, seen);
	f->logged += (uint64_t)n;
}

/* What vm/ does when frames run short. Everything that lost its frame must read the same afterwards: the accesses that follow will tell. */
void event_make_room(struct fuzz *f)
{
	if (memory_make_room(&f->memory))
		die(f, "no room was made");
	forget_frames(f);
}

/* Pages that are equal, or made so, share a frame: by name, or as the scanner finds them. Contents must not change by it, nor the others' when one is written. */
void event_share(struct fuzz *f)
{
	/* Often two tables, of which one is made equal to the other: only these are walked and shared in turn. */
	const bool tables = chance(f, 400);
	const uint64_t p = tables ? tables_pa(pick(f, TABLES)) : tables_random_page(f), q = tables ? tables_pa(pick(f, TABLES)) : tables_random_page(f);
	uint8_t before[PAGE_SIZE], after[PAGE_SIZE];

	if (chance(f, 300)) {
		memory_share_scan(&f->memory, 1 + pick(f, 2000));
		forget_frames(f);
		return;
	}
	if (p >= RAM || q >= RAM)
		return;
	if (chance(f, tables ? 500 : 30) && p != q) {
		memory_read(&f->memory, gpa(q), before, sizeof(before));
		tables_store(f, p, before, sizeof(before));
	}
	memory_read(&f->memory, gpa(p), before, sizeof(before));
	memory_share(&f->memory, gpa(p), gpa(q));
	while (chance(f, 500))
		memory_share(&f->memory, gpa(tables_random_page(f)), gpa(chance(f, 500) ? p : q));
	forget_frames(f);
	memory_read(&f->memory, gpa(p), after, sizeof(after));
	if (memcmp(before, after, sizeof(before)))
		die(f, "gpa %#" PRIx64 " lost its contents when it shared a frame", p);
}

/* Some pages are given up, as by a balloon, and read as zeros. Tables seldom, or soon nothing would be mapped. */
void event_discard(struct fuzz *f)
{
	const uint64_t page = tables_random_page(f), pages = 1 + pick(f, 8);
	uint64_t word;

	if (page >= tables_pa(0) && page < tables_pa(0) + MIB(1) && chance(f, 950))
		return;
	if (memory_discard(&f->memory, gpa(page), pages) < 0)
		die(f, "gpa %#" PRIx64 " cannot be discarded", page);
	for (uint64_t i = 0; i < pages; i++) {
		if (page / PAGE_SIZE + i >= RAM / PAGE_SIZE)
			break;
		f->stored[page / PAGE_SIZE + i] = true;
		if (memory_read(&f->memory, gpa(page + i * PAGE_SIZE + 8 * pick(f, 512)), &word, 8) || word)
			die(f, "gpa %#" PRIx64 " was discarded and is not zero", (uint64_t)(page + i * PAGE_SIZE));
	}
	forget_frames(f);
}

void event_use_log(struct fuzz *f)
{
	if (f->memory.track.dirty) {
		judge_log(f);
		if (chance(f, 100))
			memory_log_stop(&f->memory);
	} else if (chance(f, 300)) {
		if (memory_log_start(&f->memory))
			die(f, "the dirty log does not start");
		memory_read(&f->memory, gpa(0), f->then, RAM);
		memset(f->stored, 0, sizeof(f->stored));
	}
	mmu_write_protect_all(&f->mmu);
}
