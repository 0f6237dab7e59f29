/* trace.c - the MMU's events (mmu/trace.h). */
#include "mmu/trace.h"

void mmu_trace_begin(const struct mmu *mmu, struct mmu_mark *mark)
{
	mark->tsc = clock_tsc();
	copy_bytes(&mark->counters, &mmu->counters, sizeof(mark->counters));
}

/* Which counters moved since the mark, by their row in mmu_stat_rows. */
static void moved(const struct mmu *mmu, const struct mmu_mark *mark, uint64_t *bits)
{
	for (unsigned i = 0; i < TRACE_COUNTER_WORDS; i++)
		bits[i] = 0;
	for (size_t i = 0; i < mmu_stat_row_count && i < 64 * TRACE_COUNTER_WORDS; i++) {
		size_t at = mmu_stat_rows[i].offset;

		if (load_u64((const char *)&mmu->counters + at) != load_u64((const char *)&mark->counters + at))
			bits[i / 64] |= 1ull << (i % 64);
	}
}

void mmu_trace_fault(struct mmu *mmu, const struct mmu_mark *mark, gva_t va, unsigned access, enum mmu_kind kind, const struct mmu_result *out)
{
	const struct mmu_counters *now = &mmu->counters, *then = &mark->counters;
	struct trace *t = mmu->trace;
	uint64_t bits[TRACE_COUNTER_WORDS];
	struct trace_event *e;
	bool fault = kind == MMU_INJECT;

	moved(mmu, mark, bits);
	for (unsigned i = 0; i < TRACE_COUNTER_WORDS; i++)
		fault |= bits[i] & t->hidden[i];
	if (!(fault && trace_wants(t, TRACE_CAT_FAULT)) && !(now->tlb_l2_misses != then->tlb_l2_misses && trace_wants(t, TRACE_CAT_MISS)))
		return;
	e = trace_reserve(t, TRACE_FAULT, (access & 0xffff) | (uint32_t)kind << 16);
	if (!e)
		return;
	e->arg[0] = mark->tsc;
	e->arg[1] = va.v;
	e->arg[2] = kind == MMU_INJECT ? out->exc.error : out->gpa.v;
	e->arg[3] = bits[0];
	e->arg[4] = bits[1];
	e->arg[5] = now->walk_refs_guest - then->walk_refs_guest + now->walk_refs_nested - then->walk_refs_nested +
		    now->walk_refs_shadow - then->walk_refs_shadow;
	trace_commit(t);
}

void mmu_trace_table(struct mmu *mmu, const struct mmu_mark *mark, gpa_t p, unsigned len)
{
	uint64_t bits[TRACE_COUNTER_WORDS];
	struct trace_event *e;

	moved(mmu, mark, bits);
	e = trace_reserve(mmu->trace, TRACE_TABLE, len < 0xffff ? len : 0xffff);
	if (!e)
		return;
	e->arg[0] = mark->tsc;
	e->arg[1] = p.v;
	e->arg[2] = bits[0];
	e->arg[3] = bits[1];
	trace_commit(mmu->trace);
}
