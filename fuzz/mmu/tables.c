/*
 * tables.c - the guest's page tables: random addresses and entries, stores to tables, and repairs after which they map something.
 */
#include "mmu_fuzz.h"

#include <inttypes.h>
#include <string.h>

#include "mmu/mmu_internal.h"
#include "x86/regs.h"

#define TABLE_BASE 0x100000ull	/* inside the first 2 MiB, so that large pages map tables too */

/* By level, the indexes that tables are used at. */
static const uint16_t used[6][4] = {
	{ 0 }, { 0, 1, 7, 511 }, { 0, 1, 2, 511 }, { 0, 3, 511, 0 }, { 0, 1, 256, 511 }, { 0, 1, 255, 511 },
};

uint64_t tables_pa(unsigned i) { return TABLE_BASE + i * PAGE_SIZE; }
/* Tables are meant for a level, and mostly used so: 3 of level 4, then 5, 8 and 12 of the levels below, and 2 of level 5. */
static unsigned table_level(unsigned i) { return i >= 28 ? 5 : i < 3 ? 4 : i < 8 ? 3 : i < 16 ? 2 : 1; }
static unsigned table_of_level(struct fuzz *f, unsigned level)
{
	static const unsigned first[] = { 0, 16, 8, 3, 0, 28 }, count[] = { 0, 12, 8, 5, 3, 2 };

	return first[level] + pick(f, count[level]);
}

static uint64_t fresh_va(struct fuzz *f)
{
	uint64_t va = 0;

	for (unsigned level = model_levels(&f->model); level; level--)
		va = va << 9 | used[level][pick(f, 4)];
	va = va << 12;
	return (uint64_t)((int64_t)(va << (64 - f->mmu.va_bits)) >> (64 - f->mmu.va_bits));
}

uint64_t tables_random_root(struct fuzz *f) { return tables_pa(table_of_level(f, model_levels(&f->model))); }

/* A page among all that the tables may map, or mostly one of a few that are in use for a while. */
uint64_t tables_random_va(struct fuzz *f)
{
	if (chance(f, 850)) {
		unsigned i = pick(f, HOT);

		/* Often the neighbour of another, so that pages of one large page are in use together. */
		if (chance(f, 10) || !f->hot[i])
			f->hot[i] = chance(f, 600) ? (f->hot[pick(f, HOT)] & ~(MIB(2) - 1)) | used[1][pick(f, 4)] << 12 : fresh_va(f);
		return f->hot[i];
	}
	return fresh_va(f);
}

uint64_t tables_random_page(struct fuzz *f)
{
	if (chance(f, 20))
		return RAM + (pick(f, 16) << 12); /* beyond RAM */
	if (chance(f, 150))
		return tables_pa(pick(f, TABLES));
	/* A few hundred pages; [6 MiB, 8 MiB) is backed from the start and is left to large pages. */
	return chance(f, 500) ? pick(f, 256) << 12 : MIB(4) + (pick(f, 640) << 12);
}

uint64_t tables_random_entry(struct fuzz *f, unsigned level)
{
	uint64_t e = 0;

	if (chance(f, 40))
		return rnd(f) & ~PTE_P;
	e = PTE_P;
	e |= chance(f, 940) ? PTE_W : 0;
	e |= chance(f, level == 1 ? 700 : 970) ? PTE_U : 0;
	e |= chance(f, 500) ? PTE_A : 0;
	e |= chance(f, 400) ? PTE_D : 0;
	e |= chance(f, level == 1 || chance(f, 50) ? 250 : 0) ? PTE_G : 0;
	e |= chance(f, 40) ? PTE_NX : 0;
	e |= chance(f, 100) ? (rnd(f) & 7) << 9 : 0;
	e |= chance(f, 5) ? 1ull << (40 + pick(f, 12)) : 0;
	if (level > 1 && level < 4 && chance(f, 180)) {
		uint64_t base = level == 2 ? (uint64_t)pick(f, 7) << 21 : (uint64_t)(chance(f, 900) ? 0 : 1) << 30;

		e |= PTE_PS | base;
		e |= chance(f, 100) ? 1ull << 12 : 0;		/* PAT */
		e |= chance(f, 20) ? 1ull << 13 : 0;		/* reserved */
		e |= chance(f, 250) ? PTE_G : 0;
		return e;
	}
	e |= level >= 4 && chance(f, 5) ? PTE_PS : 0;
	if (level == 1)
		return e | tables_random_page(f);
	if (chance(f, 40))
		return e | tables_pa(pick(f, TABLES)); /* any level, itself too */
	return e | tables_pa(table_of_level(f, level - 1));
}

/* A store by the guest through a mapping that we do not care about: what generated code or the executor does at its end. */
static void guest_store(struct fuzz *f, uint64_t pa, const void *data, unsigned len)
{
	struct memory *mem = &f->memory;
	struct p2m_entry e;
	bool fresh;

	if (p2m_back(mem, gpa(pa), &e, &fresh) != P2M_MAPPED)
		die(f, "no frame for %#" PRIx64, pa);
	if (pool_frame(&mem->pool, e.m)->flags & FRAME_SHARED) {
		if (p2m_unshare(mem, gpa(pa), &e) != P2M_MAPPED)
			die(f, "no frame of its own for %#" PRIx64, pa);
		mmu_frames_changed(&f->mmu);
	}
	memcpy((uint8_t *)pool_ptr(&mem->pool, e.m) + (pa & 0xfff), data, len);
	f->stored[pa / PAGE_SIZE] = true;
	if (pool_frame(&mem->pool, e.m)->flags & FRAME_TRACKED)
		mmu_written(&f->mmu, e.m, pa & 0xfff, len);
}

void tables_store(struct fuzz *f, uint64_t pa, const void *data, unsigned len)
{
	if (chance(f, 50)) {
		if (memory_write(&f->memory, gpa(pa), data, len))
			die(f, "device store to %#" PRIx64 " failed", pa);
		mmu_frames_changed(&f->mmu);
		f->stored[pa / PAGE_SIZE] = true;
	} else {
		guest_store(f, pa, data, len);
	}
}

void tables_edit(struct fuzz *f)
{
	unsigned t = pick(f, TABLES), level = table_level(t);
	unsigned index = chance(f, 960) ? used[level][pick(f, 4)] : pick(f, 512);
	uint64_t pa = tables_pa(t) + index * 8, e = tables_random_entry(f, level), *now = model_entry(&f->model, pa);

	f->edits++;
	if (chance(f, 250)) { /* flags of the entry there */
		static const uint64_t flag[] = { PTE_P, PTE_W, PTE_U, PTE_A, PTE_A, PTE_D, PTE_D, PTE_G, PTE_NX };

		e = *now ^ flag[level == 1 || chance(f, 100) ? pick(f, 9) : 1 + pick(f, 6)];
	}
	if (chance(f, 15)) {
		/* Part of an entry, or bytes of two. */
		unsigned offset = pick(f, 12), len = 1 + pick(f, 8);

		if ((pa & 0xfff) + offset + len <= PAGE_SIZE)
			tables_store(f, pa + offset, &e, len);
		return;
	}
	if (chance(f, 2)) {
		static const uint8_t zero[PAGE_SIZE];

		tables_store(f, tables_pa(t), zero, sizeof(zero));
		return;
	}
	tables_store(f, pa, &e, 8);
}

/* Entries at random, and in [6 MiB, 8 MiB) the first word of each page its own address. */
void tables_fill(struct fuzz *f)
{
	for (unsigned t = 0; t < TABLES; t++) {
		for (unsigned k = 0; k < 4; k++) {
			uint64_t e = tables_random_entry(f, table_level(t));

			guest_store(f, tables_pa(t) + used[table_level(t)][k] * 8, &e, 8);
		}
	}
	for (uint64_t pa = MIB(6); pa < MIB(8); pa += PAGE_SIZE) {
		guest_store(f, pa, &pa, 8);
		if (f->memory.swap.asked)
			event_make_room(f);
	}
}

/* Most entries become such as a kernel would write, so that translations are found and kept. */
void tables_repair(struct fuzz *f)
{
	for (unsigned t = 0; t < TABLES; t++) {
		for (unsigned k = 0; k < 4; k++) {
			unsigned level = table_level(t);
			uint64_t e = PTE_P | PTE_W | PTE_U | PTE_A;

			if (chance(f, 200))
				continue;
			if (level == 1)
				e = (chance(f, 800) ? e : tables_random_entry(f, 1) & ~TR_MFN_MASK) | tables_random_page(f);
			else if (chance(f, 150))
				e = tables_random_entry(f, level);
			else if (level < 4 && chance(f, 200))
				e |= PTE_PS | (chance(f, 300) ? PTE_G : 0) | (level == 2 ? (uint64_t)(chance(f, 500) ? 3 : pick(f, 6)) << 21 : 0);
			else
				e |= tables_pa(table_of_level(f, level - 1));
			tables_store(f, tables_pa(t) + used[level][k] * 8, &e, 8);
		}
	}
}
