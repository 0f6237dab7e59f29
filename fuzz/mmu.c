/*
 * mmu.c - fuzzes the MMU: random edits of guest tables, accesses, invalidations and moves of frames, against a model of
 * what the manual allows (mmu/model.h). Every access goes the way that generated code goes: the inline probe of level 1, then
 * mmu_access; fetches go through a model of the translator's jump cache, which relies on fetch ids.
 *
 *   fuzz/mmu [--steps N] [--seed S] [--mode nested|shadow|both] [--placement linear|scatter|both]
 *
 * Each (mode, placement) pair runs N steps. The first difference is printed with its step and ends the run with status 1.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmu/explain.h"
#include "mmu/model.h"
#include "mmu/shadow.h"
#include "x86/regs.h"

#define RAM MIB(12)
#define MACHINE MIB(2)		/* of runs that swap */
#define TABLES 28		/* guest frames used as tables, from TABLE_BASE */
#define TABLE_BASE 0x100000ull	/* inside the first 2 MiB, so that large pages map tables too */
#define JUMP_CACHE 1024
#define HOT 12

static const uint16_t pcids[MODEL_PCIDS] = { 0, 1, 2, 0xfff };
static const uint16_t used[5][4] = {
	{ 0 }, { 0, 1, 7, 511 }, { 0, 1, 2, 511 }, { 0, 3, 511, 0 }, { 0, 1, 256, 511 },
};

struct fuzz {
	struct memory memory;
	struct mmu mmu;
	struct model model;
	uint64_t random, seed, step, steps;
	enum paging_mode mode;
	enum placement placement;
	struct { uint64_t va, gpa; uint32_t epoch, id; bool valid; } jump[JUMP_CACHE];
	uint64_t hot[HOT];
	unsigned edit_rate, invalidate_rate, cr3_rate, fetch_rate;
	uint64_t mapped, tracked, faults, mmio, probes, fetches, jumps, edits, foretold, logged;
	/* The dirty log's model: RAM as it was when the log was last fetched, and the pages that we stored to since. */
	uint8_t *then;
	bool stored[RAM / PAGE_SIZE];
};

static uint64_t rnd(struct fuzz *f)
{
	uint64_t x = f->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	f->random = x;
	return x * 0x2545f4914f6cdd1dull >> 8;
}
static bool chance(struct fuzz *f, unsigned per_mille) { return rnd(f) % 1000 < per_mille; }
static unsigned pick(struct fuzz *f, unsigned n) { return (unsigned)(rnd(f) % n); }

static void die(struct fuzz *f, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "fuzz/mmu: seed %" PRIu64 ", %s, %s, step %" PRIu64 ": ", f->seed,
		f->mode == PAGING_SHADOW ? "shadow" : "nested", f->placement == PLACEMENT_SCATTER ? "scatter" : "linear", f->step);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(1);
}

static uint64_t table_pa(unsigned i) { return TABLE_BASE + i * PAGE_SIZE; }
/* Tables are meant for a level, and mostly used so: 3 roots, then 5, 8 and 12 of the levels below. */
static unsigned table_level(unsigned i) { return i < 3 ? 4 : i < 8 ? 3 : i < 16 ? 2 : 1; }
static unsigned table_of_level(struct fuzz *f, unsigned level)
{
	static const unsigned first[] = { 0, 16, 8, 3, 0 }, count[] = { 0, 12, 8, 5, 3 };

	return first[level] + pick(f, count[level]);
}

static uint64_t fresh_va(struct fuzz *f)
{
	uint64_t va = 0;

	for (unsigned level = 4; level; level--)
		va = va << 9 | used[level][pick(f, 4)];
	va = va << 12;
	return (uint64_t)((int64_t)(va << 16) >> 16);
}

/* A page among all that the tables may map, or mostly one of a few that are in use for a while. */
static uint64_t random_va(struct fuzz *f)
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

static uint64_t random_page(struct fuzz *f)
{
	if (chance(f, 20))
		return RAM + (pick(f, 16) << 12); /* beyond RAM */
	if (chance(f, 150))
		return table_pa(pick(f, TABLES));
	/* A few hundred pages; [6 MiB, 8 MiB) is backed from the start and is left to large pages. */
	return chance(f, 500) ? pick(f, 256) << 12 : MIB(4) + (pick(f, 640) << 12);
}

static uint64_t random_entry(struct fuzz *f, unsigned level)
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
	e |= level == 4 && chance(f, 5) ? PTE_PS : 0;
	if (level == 1)
		return e | random_page(f);
	if (chance(f, 40))
		return e | table_pa(pick(f, TABLES)); /* any level, itself too */
	return e | table_pa(table_of_level(f, level - 1));
}

/* A store by the guest through a mapping that we do not care about: what generated code or the executor does at its end. */
static void guest_store(struct fuzz *f, uint64_t pa, const void *data, unsigned len)
{
	struct memory *mem = &f->memory;
	struct p2m_entry e;
	bool fresh;

	if (p2m_back(mem, gpa(pa), &e, &fresh) != P2M_MAPPED)
		die(f, "no frame for %#" PRIx64, pa);
	memcpy((uint8_t *)pool_ptr(&mem->pool, e.m) + (pa & 0xfff), data, len);
	f->stored[pa / PAGE_SIZE] = true;
	if (pool_frame(&mem->pool, e.m)->flags & FRAME_TRACKED)
		mmu_written(&f->mmu, e.m, pa & 0xfff, len);
}

static void store(struct fuzz *f, uint64_t pa, const void *data, unsigned len)
{
	if (chance(f, 50)) {
		if (memory_write(&f->memory, gpa(pa), data, len))
			die(f, "device store to %#" PRIx64 " failed", pa);
		f->stored[pa / PAGE_SIZE] = true;
	} else {
		guest_store(f, pa, data, len);
	}
}

static void edit_table(struct fuzz *f)
{
	unsigned t = pick(f, TABLES), level = table_level(t);
	unsigned index = chance(f, 960) ? used[level][pick(f, 4)] : pick(f, 512);
	uint64_t pa = table_pa(t) + index * 8, e = random_entry(f, level), *now = model_entry(&f->model, pa);

	f->edits++;
	if (chance(f, 250)) { /* flags of the entry there */
		static const uint64_t flag[] = { PTE_P, PTE_W, PTE_U, PTE_A, PTE_A, PTE_D, PTE_D, PTE_G, PTE_NX };

		e = *now ^ flag[level == 1 || chance(f, 100) ? pick(f, 9) : 1 + pick(f, 6)];
	}
	if (chance(f, 15)) {
		/* Part of an entry, or bytes of two. */
		unsigned offset = pick(f, 12), len = 1 + pick(f, 8);

		if ((pa & 0xfff) + offset + len <= PAGE_SIZE)
			store(f, pa + offset, &e, len);
		return;
	}
	if (chance(f, 2)) {
		static const uint8_t zero[PAGE_SIZE];

		store(f, table_pa(t), zero, sizeof(zero));
		return;
	}
	store(f, pa, &e, 8);
}

/* The probe of tlb.h, as generated code makes it. */
static void *probe(struct fuzz *f, uint64_t va, unsigned access, unsigned size)
{
	enum tlb_set set = access & ACC_USER ? TLB_USER :
			   (f->mmu.cr4 & CR4_SMAP) && !(access & ACC_AC) ? TLB_KERNEL : TLB_KERNEL_AC;
	const struct tlb_entry *e = &f->mmu.l1[set][(va >> 12) & (TLB_L1_ENTRIES - 1)];
	uint64_t offset = va - (access & ACC_WRITE ? e->tag_write : e->tag_read);

	return offset <= 4096 - size ? (void *)(uintptr_t)(e->host + offset) : NULL;
}

/* The same through the stack entry, as PUSH and POP go; a miss makes a writable entry of level 1 the stack entry. */
static void *probe_stack(struct fuzz *f, uint64_t va, unsigned access)
{
	enum tlb_set set = access & ACC_USER ? TLB_USER :
			   (f->mmu.cr4 & CR4_SMAP) && !(access & ACC_AC) ? TLB_KERNEL : TLB_KERNEL_AC;
	const struct tlb_entry *e = &f->mmu.l1[set][(va >> 12) & (TLB_L1_ENTRIES - 1)];
	struct tlb_stack *s = &f->mmu.stack[set];

	if (va - s->tag < s->limit[3])
		return (void *)(uintptr_t)(s->host + (va - s->tag));
	if (va - e->tag_write <= 4096 - 8) {
		s->tag = e->tag_write;
		s->host = e->host;
		for (unsigned n = 0; n < TLB_STACK_SIZES; n++)
			s->limit[n] = 4096 - (1ull << n) + 1;
	}
	return probe(f, va, access, 8);
}

static void *host_of(struct fuzz *f, uint64_t pa)
{
	struct p2m_entry e;

	if (!p2m_lookup(&f->memory, gpa(pa), &e))
		return NULL;
	return (uint8_t *)pool_ptr(&f->memory.pool, e.m) + (pa & 0xfff);
}

static const char *const kinds[] = { "mapped", "inject", "nested exit", "mmio", "tracked", "host error" };

static void judge(struct fuzz *f, const struct model_question *q, const struct model_answer *a)
{
	const char *wrong = model_judge(&f->model, q, a);

	if (wrong)
		die(f, "va %#" PRIx64 " access %#x answered %s gpa %#" PRIx64 " error %#x: %s (tables now: %s, pa %#" PRIx64
		    ", error %#x; %u cached answers, %u walks)", q->va, q->access, kinds[a->kind], a->gpa, a->error, wrong,
		    q->walk[0].fault ? "fault" : "mapped", q->walk[0].pa, q->walk[0].error, q->answers, q->walks);
}

/* A watched frame must never be writable unseen, and code that is hit must be queued. */
static void write_back(struct fuzz *f, void *hva, bool tracked)
{
	struct memory *mem = &f->memory;
	mfn_t m = pool_mfn_of(&mem->pool, hva);
	struct frame *frame = pool_frame(&mem->pool, m);
	unsigned offset = (uintptr_t)hva & 0xfff;
	bool watched = frame->flags & FRAME_TRACKED;
	bool code = (frame->flags & FRAME_CODE) && (frame->code_granules >> (offset >> GRANULE_SHIFT) & 1);
	uint32_t queued = mem->track.code_writes;
	uint64_t value = random_entry(f, 1 + pick(f, 4));

	if (watched != tracked)
		die(f, "a store to frame %#" PRIx64 " with flags %#x was %s", m.v, frame->flags, tracked ? "tracked" : "not tracked");
	/* Usually as it was: random stores would soon leave no table that maps anything. */
	if (chance(f, 980))
		value = load_u64(hva);
	store_u64(hva, value);
	f->stored[frame->gfn] = true;
	if (!tracked)
		return;
	f->tracked++;
	mmu_written(&f->mmu, m, offset, 8);
	if (code && mem->track.code_writes == queued && queued <= CODE_WRITE_QUEUE)
		die(f, "a store to code at frame %#" PRIx64 " offset %#x was not queued", m.v, offset);
	mem->track.code_writes = 0;
}

static unsigned flags_of(struct fuzz *f, uint64_t gpa)
{
	const void *hva = host_of(f, gpa);

	return hva ? pool_frame(&f->memory.pool, pool_mfn_of(&f->memory.pool, hva))->flags : 0;
}

/* What explain said of an access must be what mmu_access then answers. flags: of the page's frame, before. */
static void foretold(struct fuzz *f, const struct explain *x, unsigned access, unsigned flags, const struct model_answer *a)
{
	for (unsigned i = 0; i < x->accesses; i++) {
		const struct explain_access *e = &x->access[i];
		enum mmu_kind kind = e->guest_fault ? MMU_INJECT : e->device ? MMU_MMIO :
				     e->hidden & (HIDDEN_WRITE_PROTECTED | HIDDEN_CODE | HIDDEN_LOG) ? MMU_TRACKED : MMU_MAPPED;

		if (e->access != access)
			continue;
		/* The walk may set A or D in the very page that is written, which then is in the log already. */
		if ((e->hidden & HIDDEN_LOG) && !(e->hidden & (HIDDEN_WRITE_PROTECTED | HIDDEN_CODE)) && a->kind == MMU_MAPPED)
			kind = MMU_MAPPED;
		/* The walk may give the very page its first shadow, which then is watched. */
		if (kind == MMU_MAPPED && a->kind == MMU_TRACKED && !(flags & FRAME_TABLE) && (flags_of(f, a->gpa) & FRAME_TABLE))
			kind = MMU_TRACKED;
		if (kind != a->kind || (kind == MMU_INJECT && e->error != a->error) ||
		    (kind != MMU_INJECT && e->p.v != a->gpa))
			die(f, "va %#" PRIx64 " access %#x: explain foretold %s gpa %#" PRIx64 " error %#x, it was %s gpa %#" PRIx64 " error %#x",
			    x->va, access, kinds[kind], e->p.v, e->error, kinds[a->kind], a->gpa, a->error);
		f->foretold++;
	}
}

static void access_once(struct fuzz *f)
{
	static struct model_question q;
	uint64_t va = random_va(f) + (pick(f, 512) * 8);
	unsigned access = chance(f, 400) ? ACC_WRITE : ACC_READ;
	struct mmu_result r = { 0 };
	struct model_answer a;
	bool watched = false, explained = chance(f, 30);
	unsigned flags = 0;
	struct explain x;
	void *hva;

	if (chance(f, 500))
		access |= ACC_USER;
	else if (chance(f, 500))
		access |= ACC_AC;
	if (chance(f, 50))
		access |= ACC_IMPLICIT;
	if (chance(f, 50) && (access & ACC_WRITE))
		access |= ACC_READ;
	if (chance(f, 30))
		access |= ACC_PROBE;
	model_ask(&f->model, va, access, &q);
	if (explained)
		mmu_explain(&f->mmu, gva(va), EXPLAIN_CURRENT, &x);
	for (unsigned i = 0; explained && i < x.accesses; i++)
		if (x.access[i].access == access && !x.access[i].guest_fault && !x.access[i].device)
			flags = flags_of(f, x.access[i].p.v);
	hva = NULL;
	if (!explained && !(access & (ACC_IMPLICIT | ACC_PROBE)) && chance(f, 900))
		hva = chance(f, 500) ? probe_stack(f, va, access) : probe(f, va, access, 8);
	if (hva) {
		f->probes++;
		a = (struct model_answer){ MMU_MAPPED, 0, 0 };
	} else {
		a.kind = mmu_access(&f->mmu, gva(va), access, &r);
		a.error = a.kind == MMU_INJECT ? r.exc.error : 0;
		hva = r.hva;
		if (a.kind == MMU_INJECT && (r.exc.vector != VEC_PF || r.exc.cr2 != va || !r.exc.has_error))
			die(f, "va %#" PRIx64 ": page fault with CR2 %#" PRIx64, va, r.exc.cr2);
	}
	if (a.kind == MMU_MAPPED || a.kind == MMU_TRACKED) {
		uint64_t gfn = pool_frame(&f->memory.pool, pool_mfn_of(&f->memory.pool, hva))->gfn;

		a.gpa = gfn << 12 | ((uintptr_t)hva & 0xfff);
		if (host_of(f, a.gpa) != hva)
			die(f, "va %#" PRIx64 ": host address is not that of gpa %#" PRIx64, va, a.gpa);
		if (r.hva && r.gpa.v != a.gpa)
			die(f, "va %#" PRIx64 ": gpa %#" PRIx64 " given for %#" PRIx64, va, r.gpa.v, a.gpa);
		f->mapped++;
		watched = a.kind == MMU_TRACKED;
	} else {
		a.gpa = r.gpa.v;
		f->faults += a.kind == MMU_INJECT;
		f->mmio += a.kind == MMU_MMIO;
	}
	if (explained)
		foretold(f, &x, access, flags, &a);
	judge(f, &q, &a);
	if ((access & ACC_WRITE) && (a.kind == MMU_MAPPED || a.kind == MMU_TRACKED))
		write_back(f, hva, watched);
}

static void fetch_at(struct fuzz *f, uint64_t va, bool user)
{
	static struct model_question q;
	struct mmu_result r = { 0 };
	struct model_answer a = { 0 };
	unsigned slot;

	model_ask(&f->model, va, ACC_EXEC | (user ? ACC_USER : 0), &q);
	f->fetches++;
	slot = (unsigned)((va >> 12) * 7 + user + f->mmu.fetch_id[user] * 31) % JUMP_CACHE;
	if (f->jump[slot].valid && f->jump[slot].va == (va & PAGE_MASK) && f->jump[slot].epoch == f->mmu.fetch_epoch &&
	    f->jump[slot].id == f->mmu.fetch_id[user] * 2 + user) {
		uint64_t pa = f->jump[slot].gpa | (va & 0xfff);

		f->jumps++;
		if (!model_allows(&f->model, &q, pa))
			die(f, "va %#" PRIx64 " user %d: fetch id %u still leads to gpa %#" PRIx64, va, user, f->mmu.fetch_id[user],
			    pa);
		return;
	}
	a.kind = mmu_fetch(&f->mmu, gva(va), user, &r);
	if (a.kind == MMU_INJECT)
		a.error = r.exc.error;
	a.gpa = r.gpa.v;
	if (a.kind == MMU_TRACKED)
		die(f, "va %#" PRIx64 ": a fetch cannot be tracked", va);
	if (a.kind == MMU_MAPPED && (host_of(f, a.gpa) != r.hva || pool_ptr(&f->memory.pool, r.mfn) != (void *)((uintptr_t)r.hva & ~0xfffull)))
		die(f, "va %#" PRIx64 ": fetched from another place than gpa %#" PRIx64, va, a.gpa);
	judge(f, &q, &a);
	if (a.kind == MMU_MAPPED) {
		slot = (unsigned)((va >> 12) * 7 + user + f->mmu.fetch_id[user] * 31) % JUMP_CACHE;
		f->jump[slot].va = va & PAGE_MASK;
		f->jump[slot].gpa = a.gpa & PAGE_MASK;
		f->jump[slot].epoch = f->mmu.fetch_epoch;
		f->jump[slot].id = f->mmu.fetch_id[user] * 2 + user;
		f->jump[slot].valid = true;
	}
}

static void fetch_once(struct fuzz *f) { fetch_at(f, random_va(f) + pick(f, 4096), chance(f, 500)); }

static void load_root(struct fuzz *f, uint64_t root, unsigned i, bool noflush)
{
	bool pcide = f->model.cr4 & CR4_PCIDE;

	mmu_set_cr3(&f->mmu, root | (pcide ? pcids[i] : 0) | (noflush ? CR3_NOFLUSH : 0));
	f->model.root = root;
	f->model.pcid = i;
	if (!noflush)
		model_flush_space(&f->model, i);
}

static void load_cr3(struct fuzz *f)
{
	bool pcide = f->model.cr4 & CR4_PCIDE;

	load_root(f, table_pa(pick(f, 3)), pcide ? pick(f, MODEL_PCIDS) : 0, pcide && chance(f, 600));
}

static void set_controls(struct fuzz *f, uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	struct model *m = &f->model;

	mmu_set_controls(&f->mmu, cr0, cr4, efer);
	if (((m->cr4 ^ cr4) & (CR4_PGE | CR4_PCIDE)) || ((m->efer ^ efer) & EFER_NXE))
		model_flush_all(m);
	m->cr0 = cr0;
	m->cr4 = cr4;
	m->efer = efer;
}

static void change_controls(struct fuzz *f)
{
	static const uint64_t cr4[] = { CR4_SMEP, CR4_SMAP, CR4_SMEP, CR4_SMAP, CR4_PGE, CR4_PCIDE };
	struct model *m = &f->model;
	uint64_t flip = cr4[pick(f, 6)];

	if (chance(f, 200))
		set_controls(f, m->cr0 ^ CR0_WP, m->cr4, m->efer);
	else if (chance(f, 100))
		set_controls(f, m->cr0, m->cr4, m->efer ^ EFER_NXE);
	else
		set_controls(f, m->cr0, m->cr4 ^ flip, m->efer);
	if (flip == CR4_PCIDE)
		load_cr3(f);
}

static void invalidate(struct fuzz *f)
{
	uint64_t va = random_va(f) + pick(f, 4096);
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
static void remap(struct fuzz *f)
{
	static struct model_question q;
	struct model *m = &f->model;
	uint64_t va = random_va(f), entry, root = m->root;
	unsigned end, pcid = m->pcid;
	bool user = chance(f, 500), away = (m->cr4 & CR4_PCIDE) && chance(f, 400);

	fetch_at(f, va, user);
	model_ask(m, va, ACC_READ, &q);
	end = q.walk[0].end;
	entry = q.walk[0].entry[end];
	if (!(entry & PTE_P) || (end > 1 && !(entry & PTE_PS)) || !memory_is_ram(m->memory, gpa(q.walk[0].entry_pa[end])))
		return;
	if (end == 1)
		entry = (entry & ~TR_MFN_MASK) | random_page(f);
	else if (end == 2)
		entry = (entry & ~TR_MFN_MASK) | (uint64_t)pick(f, 6) << 21;
	if (chance(f, 60))
		entry ^= PTE_P;
	store(f, q.walk[0].entry_pa[end], &entry, 8);
	if (away)
		load_root(f, root, pick(f, MODEL_PCIDS), true);
	if (chance(f, 850)) {
		mmu_invlpg(&f->mmu, gva(va));
		model_invlpg(m, va);
	}
	if (away)
		load_root(f, root, pcid, true);
	fetch_at(f, va + pick(f, 4096), user);
}

static void track_some_code(struct fuzz *f)
{
	struct p2m_entry e;
	unsigned offset;

	if (!p2m_lookup(&f->memory, gpa(random_page(f)), &e))
		return;
	if (chance(f, 300)) {
		track_clear(&f->memory.track, e.m, FRAME_CODE);
		return;
	}
	offset = pick(f, 4096);
	if (track_code(&f->memory.track, e.m, offset, 1 + pick(f, 4096 - offset)))
		mmu_write_protect(&f->mmu, e.m);
}

static void move_page(struct fuzz *f)
{
	uint64_t page = random_page(f), before = 0, after = 0;
	bool ram = page < RAM;

	if (ram)
		memory_read(&f->memory, gpa(page + 8 * 7), &before, 8);
	if (memory_move(&f->memory, gpa(page)) == 0) {
		/* A few more, now and then: old frames pile up. */
		while (chance(f, 300))
			memory_move(&f->memory, gpa(random_page(f)));
		mmu_frames_changed(&f->mmu);
		model_flush_all(&f->model);
		memset(f->jump, 0, sizeof(f->jump));
		f->memory.track.code_writes = 0;
		memory_release(&f->memory);
		memory_read(&f->memory, gpa(page + 8 * 7), &after, 8);
		if (before != after)
			die(f, "gpa %#" PRIx64 " lost its contents in a move", page);
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
static void make_room(struct fuzz *f)
{
	if (memory_make_room(&f->memory))
		die(f, "no room was made");
	mmu_frames_changed(&f->mmu);
	model_flush_all(&f->model);
	memset(f->jump, 0, sizeof(f->jump));
	f->memory.track.code_writes = 0;
	memory_release(&f->memory);
}
static void short_of_frames(void *opaque) { (void)opaque; }

static void use_log(struct fuzz *f)
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

static void audit(struct fuzz *f)
{
	char msg[256];

	if (mmu_audit(&f->mmu, msg, sizeof(msg)))
		die(f, "audit: %s", msg);
}

/* How often things happen, in 10000; drawn anew every few thousand steps, so that runs are calm and stormy in turn. */
static void draw_weather(struct fuzz *f)
{
	static const unsigned rate[] = { 20, 100, 400, 1500, 5000 };

	f->edit_rate = rate[pick(f, 4)];
	f->invalidate_rate = rate[pick(f, 4)];
	f->cr3_rate = rate[pick(f, 3)];
	f->fetch_rate = rate[1 + pick(f, 4)];
}

/* Most entries become such as a kernel would write, so that translations are found and kept. */
static void repair(struct fuzz *f)
{
	for (unsigned t = 0; t < TABLES; t++) {
		for (unsigned k = 0; k < 4; k++) {
			unsigned level = table_level(t);
			uint64_t e = PTE_P | PTE_W | PTE_U | PTE_A;

			if (chance(f, 200))
				continue;
			if (level == 1)
				e = (chance(f, 800) ? e : random_entry(f, 1) & ~TR_MFN_MASK) | random_page(f);
			else if (chance(f, 150))
				e = random_entry(f, level);
			else if (level < 4 && chance(f, 200))
				e |= PTE_PS | (chance(f, 300) ? PTE_G : 0) | (level == 2 ? (uint64_t)(chance(f, 500) ? 3 : pick(f, 6)) << 21 : 0);
			else
				e |= table_pa(table_of_level(f, level - 1));
			store(f, table_pa(t) + used[level][k] * 8, &e, 8);
		}
	}
}

static void one_step(struct fuzz *f)
{
	unsigned what = pick(f, 10000);

	if (f->step % 4096 == 0)
		draw_weather(f);
	if (f->step % 8192 == 0 && chance(f, 800))
		repair(f);
	if (what < 10)
		change_controls(f);
	else if (what < 100)
		track_some_code(f);
	else if (what < 102)
		move_page(f);
	else if (what < 109)
		audit(f);
	else if (what == 109)
		use_log(f);
	else if (what < 210)
		remap(f);
	else if ((what -= 210) < f->edit_rate)
		edit_table(f);
	else if ((what -= f->edit_rate) < f->invalidate_rate)
		invalidate(f);
	else if ((what -= f->invalidate_rate) < f->cr3_rate)
		load_cr3(f);
	else if ((what -= f->cr3_rate) < f->fetch_rate)
		fetch_once(f);
	else
		access_once(f);
	if (f->memory.swap.asked || (f->memory.swap.on && what == 109))
		make_room(f);
	if (model_is_full(&f->model)) {
		mmu_flush_all(&f->mmu);
		model_flush_all(&f->model);
	}
}

static void run(uint64_t seed, uint64_t steps, enum paging_mode mode, enum placement placement)
{
	struct fuzz *f = aligned_alloc(64, ALIGN_UP(sizeof(*f), 64));
	const struct mmu_counters *c;
	FILE *swap;

	if (!f)
		exit(2);
	memset(f, 0, sizeof(*f));
	f->seed = seed;
	f->random = seed * 0x9e3779b97f4a7c15ull + 12345;
	f->mode = mode;
	f->placement = placement;
	swap = seed % 2 ? NULL : tmpfile();
	if (memory_init_limited(&f->memory, RAM, swap ? MACHINE : ~0ull, placement, seed) || mmu_init(&f->mmu, &f->memory, mode) ||
	    (swap && memory_swap_on(&f->memory, fileno(swap)))) {
		fprintf(stderr, "fuzz/mmu: no memory\n");
		exit(2);
	}
	f->memory.swap.short_of_frames = short_of_frames;
	f->model.memory = &f->memory;
	f->then = malloc(RAM);
	if (!f->then)
		exit(2);
	if (mode == PAGING_SHADOW && seed % 3)
		shadow_set_limit(&f->mmu, 16 + pick(f, 32));
	for (unsigned t = 0; t < TABLES; t++) {
		for (unsigned k = 0; k < 4; k++) {
			uint64_t e = random_entry(f, table_level(t));

			guest_store(f, table_pa(t) + used[table_level(t)][k] * 8, &e, 8);
		}
	}
	for (uint64_t pa = MIB(6); pa < MIB(8); pa += PAGE_SIZE) {
		guest_store(f, pa, &pa, 8);
		if (f->memory.swap.asked)
			make_room(f);
	}
	set_controls(f, CR0_PG | CR0_PE | CR0_WP, CR4_PAE | CR4_PGE, EFER_LMA | EFER_NXE);
	load_cr3(f);
	for (f->step = 0; f->step < steps; f->step++)
		one_step(f);
	audit(f);
	c = &f->mmu.counters;
	printf("%s %s: %" PRIu64 " steps, %" PRIu64 " mapped (%" PRIu64 " by the inline probe), %" PRIu64 " faults, %" PRIu64
	       " mmio, %" PRIu64 " foretold by explain, %" PRIu64 " logged, %" PRIu64 " tracked, %" PRIu64 " fetches (%" PRIu64 " by fetch id), %" PRIu64 " edits; level 2: %" PRIu64
	       " hits, %" PRIu64 " misses; shadow pages %" PRIu64 " made, %" PRIu64 " reclaimed; hidden %" PRIu64 " missing, %" PRIu64
	       " dirty; table writes %" PRIu64 "; p2m flushes %" PRIu64 "; %" PRIu64 " pages swapped in\n",
	       mode == PAGING_SHADOW ? "shadow" : "nested", placement == PLACEMENT_SCATTER ? "scatter" : "linear", steps, f->mapped,
	       f->probes, f->faults, f->mmio, f->foretold, f->logged, f->tracked, f->fetches, f->jumps, f->edits, c->tlb_l2_hits, c->tlb_l2_misses,
	       c->shadow_made, c->shadow_reclaimed, c->hidden_not_present, c->hidden_dirty, c->table_writes, c->flush_p2m, f->memory.counters.swapped_in);
	mmu_destroy(&f->mmu);
	memory_destroy(&f->memory);
	free(f->then);
	if (swap)
		fclose(swap);
	free(f);
}

static int usage(void)
{
	fprintf(stderr, "usage: mmu [--steps N] [--seed S] [--mode nested|shadow|both] [--placement linear|scatter|both]\n");
	return 2;
}

int main(int argc, char **argv)
{
	uint64_t steps = 200000, seed = 1;
	const char *mode = "both", *placement = "both";

	for (int i = 1; i < argc; i += 2) {
		if (i + 1 == argc)
			return usage();
		if (!strcmp(argv[i], "--steps"))
			steps = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--mode"))
			mode = argv[i + 1];
		else if (!strcmp(argv[i], "--placement"))
			placement = argv[i + 1];
		else
			return usage();
	}
	for (unsigned m = 0; m < 2; m++)
		for (unsigned p = 0; p < 2; p++)
			if ((!strcmp(mode, "both") || !strcmp(mode, m ? "shadow" : "nested")) &&
			    (!strcmp(placement, "both") || !strcmp(placement, p ? "scatter" : "linear")))
				run(seed, steps, m ? PAGING_SHADOW : PAGING_NESTED, p ? PLACEMENT_SCATTER : PLACEMENT_LINEAR);
	return 0;
}
