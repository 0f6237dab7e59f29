/*
 * access.c - accesses, the way that generated code goes: the inline probe of level 1, then mmu_access; fetches go through a model of the
 * translator's jump cache. Each answer is judged by the model, and by what explain said before.
 */
#include "mmu_fuzz.h"

#include <inttypes.h>

#include "mmu/explain.h"
#include "x86/regs.h"

static enum tlb_set set_of(const struct fuzz *f, unsigned access)
{
	return access & ACC_USER ? TLB_USER : (f->mmu.cr4 & CR4_SMAP) && !(access & ACC_AC) ? TLB_KERNEL : TLB_KERNEL_AC;
}

/* The probe of tlb.h, as generated code makes it, and its stub of the second place of a large set. */
static void *probe(struct fuzz *f, uint64_t va, unsigned access, unsigned size)
{
	enum tlb_set set = set_of(f, access);
	const struct tlb_entry *e = tlb1_entry(&f->mmu, set, va);
	uint64_t offset = va - (access & ACC_WRITE ? e->tag_write : e->tag_read);

	if (offset > 4096 - size && f->mmu.l1_seconds[set]) {
		e = &f->mmu.l1[set][tlb1_second(&f->mmu, set, va)];
		offset = va - (access & ACC_WRITE ? e->tag_write : e->tag_read);
		f->seconds += offset <= 4096 - size;
	}
	return offset <= 4096 - size ? (void *)(uintptr_t)(e->host + offset) : NULL;
}

/* The same through the stack entry, as PUSH and POP go; a miss makes a writable entry of level 1 the stack entry. */
static void *probe_stack(struct fuzz *f, uint64_t va, unsigned access)
{
	enum tlb_set set = set_of(f, access);
	const struct tlb_entry *e = tlb1_entry(&f->mmu, set, va);
	struct tlb_stack *s = tlb1_stack(&f->mmu, set);

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

/* The same through a window, as user code goes; a miss may make the window anew, or let it take in the page. */
static void *probe_window(struct fuzz *f, uint64_t va, unsigned access)
{
	enum tlb_set set = set_of(f, access);
	const unsigned n = pick(f, TLB_WINDOWS);

	for (unsigned i = 0; i < TLB_WINDOWS; i++) {
		const struct tlb_window *w = &f->mmu.window[set][i];

		if (va - w->base < w->limit[0][!!(access & ACC_WRITE)]) {
			f->windows++;
			return (void *)(uintptr_t)(va + w->delta);
		}
	}
	if (chance(f, 500))
		mmu_window_make(&f->mmu, set, n, va);
	else
		mmu_window_grow(&f->mmu, set, n, va);
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
	uint64_t value = tables_random_entry(f, 1 + pick(f, 4));

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
		/* Or take the very page's last one for shadows that it makes, so that it is watched no more. */
		if (kind == MMU_TRACKED && a->kind == MMU_MAPPED && (flags & FRAME_TABLE) && !(flags_of(f, a->gpa) & FRAME_TRACKED))
			kind = MMU_MAPPED;
		if (kind != a->kind || (kind == MMU_INJECT && e->error != a->error) ||
		    (kind != MMU_INJECT && e->p.v != a->gpa && (!host_of(f, a->gpa) || host_of(f, e->p.v) != host_of(f, a->gpa))))
			die(f, "va %#" PRIx64 " access %#x: explain foretold %s (hidden %#x, flags %#x, now %#x) gpa %#" PRIx64 " error %#x, it was %s gpa %#" PRIx64 " error %#x",
			    x->va, access, kinds[kind], e->hidden, flags, flags_of(f, a->gpa), e->p.v, e->error, kinds[a->kind], a->gpa, a->error);
		f->foretold++;
	}
}

void access_data(struct fuzz *f)
{
	static struct model_question q;
	uint64_t va = tables_random_va(f) + (pick(f, 512) * 8);
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
		hva = chance(f, 300) ? probe_stack(f, va, access) : chance(f, 500) ? probe_window(f, va, access) : probe(f, va, access, 8);
	if (!hva && !explained && !(access & (ACC_IMPLICIT | ACC_PROBE)) && chance(f, 500) && mmu_refill(&f->mmu, va, set_of(f, access), access & ACC_WRITE)) {
		hva = probe(f, va, access, 8);
		if (!hva)
			die(f, "va %#" PRIx64 ": level 1 does not have what it was refilled with", va);
		f->refills++;
	}
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

static unsigned jump_slot(const struct fuzz *f, uint64_t va, bool user)
{
	return (unsigned)((va >> 12) * 7 + user + f->mmu.fetch_id[user] * 31) % JUMP_CACHE;
}

void access_code_at(struct fuzz *f, uint64_t va, bool user)
{
	static struct model_question q;
	struct mmu_result r = { 0 };
	struct model_answer a = { 0 };
	unsigned slot;

	model_ask(&f->model, va, ACC_EXEC | (user ? ACC_USER : 0), &q);
	f->fetches++;
	slot = jump_slot(f, va, user);
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
		slot = jump_slot(f, va, user);
		f->jump[slot].va = va & PAGE_MASK;
		f->jump[slot].gpa = a.gpa & PAGE_MASK;
		f->jump[slot].epoch = f->mmu.fetch_epoch;
		f->jump[slot].id = f->mmu.fetch_id[user] * 2 + user;
		f->jump[slot].valid = true;
	}
}

void access_code(struct fuzz *f) { access_code_at(f, tables_random_va(f) + pick(f, 4096), chance(f, 500)); }
