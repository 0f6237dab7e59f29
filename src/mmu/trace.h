/*
 * trace.h - what the MMU tells a trace (base/trace.h): accesses that level 1 of the TLB did not serve, and stores to shadowed tables, as
 * spans with the counters that they moved. So a cause that gets a counter of its own is in traces by itself.
 */
#ifndef MMU_TRACE_H
#define MMU_TRACE_H

#include "mmu/mmu.h"

struct mmu_mark { uint64_t tsc; struct mmu_counters counters; };

void mmu_trace_begin(const struct mmu *mmu, struct mmu_mark *mark);
void mmu_trace_fault(struct mmu *mmu, const struct mmu_mark *mark, gva_t va, unsigned access, enum mmu_kind kind, const struct mmu_result *out);
void mmu_trace_table(struct mmu *mmu, const struct mmu_mark *mark, gpa_t p, unsigned len);

#endif
