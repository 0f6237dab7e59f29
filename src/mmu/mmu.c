/*
 * mmu.c - set-up and tear-down of a vcpu's MMU, what follows tracked writes, and the names of its counters.
 */
#include "mmu/mmu.h"

#include <errno.h>
#include <stdlib.h>

#include "mmu/shadow.h"
#include "mmu/trace.h"

int mmu_init(struct mmu *mmu, struct memory *memory, enum paging_mode mode)
{
	struct mmu_private *priv;

	priv = aligned_alloc(64, ALIGN_UP(sizeof(*priv), 64));
	if (!priv)
		return -ENOMEM;
	if (paging_has_shadows(mode)) {
		int err = shadow_attach(memory);

		if (err) {
			free(priv);
			return err;
		}
	}
	fill_bytes(priv, 0, sizeof(*priv));
	fill_bytes(mmu, 0, offsetof(struct mmu, l1));
	fill_bytes(mmu->span, 0, sizeof(*mmu) - offsetof(struct mmu, span));
	mmu->memory = memory;
	mmu->mode = mode;
	mmu->priv = priv;
	priv->space.memory = memory;
	priv->space.machine = mode == PAGING_DIRECT;
	priv->space.counters = &mmu->counters;
	space_forget(&priv->space);
	priv->guest_space.memory = memory;
	priv->guest_space.counters = &mmu->counters;
	priv->guest_space.nest = &priv->nest;
	priv->guest_space.below = &priv->space;
	priv->looking.memory = memory;
	priv->looking.counters = &mmu->counters;
	priv->looking.look_only = true;
	priv->tables = &priv->space;
	priv->p2m_generation = memory->p2m_generation;
	priv->serial_epoch = memory->serial_epoch;
	priv->fetched_left = memory->fetched_left;
	priv->swap_passes = memory->swap.passes;
	tlb_init(mmu);
	asid_init(mmu);
	auto_init(mmu);
	mmu_set_controls(mmu, 0, 0, 0);
	return 0;
}

void mmu_destroy(struct mmu *mmu)
{
	if (mmu->priv && paging_has_shadows(mmu->mode))
		shadow_detach(mmu->memory);
	free(mmu->priv);
	mmu->priv = NULL;
}

void mmu_written(struct mmu *mmu, mfn_t m, unsigned offset, unsigned len)
{
	const bool traced = trace_wants(mmu->trace, TRACE_CAT_TABLE);
	struct mmu_mark mark;
	uint32_t flags;

	if (traced)
		mmu_trace_begin(mmu, &mark);
	memory_lock(mmu->memory);
	flags = track_written(&mmu->memory->track, m, offset, len);
	if (flags & FRAME_TABLE)
		shadow_written(mmu, m, offset, len);
	memory_unlock(mmu->memory);
	if (traced && (flags & FRAME_TABLE))
		mmu_trace_table(mmu, &mark, gpa((pool_frame(&mmu->memory->pool, m)->gfn << PAGE_SHIFT) + offset), len);
}

void mmu_write_protect(struct mmu *mmu, mfn_t m)
{
	mmu->counters.flush_write_protect++;
	trace_event(mmu->trace, TRACE_CAT_FLUSH, TRACE_FLUSH, offsetof(struct mmu_counters, flush_write_protect), 0, 0);
	tlb1_write_protect(mmu, m);
}

void mmu_write_protect_all(struct mmu *mmu)
{
	mmu->counters.flush_write_protect++;
	trace_event(mmu->trace, TRACE_CAT_FLUSH, TRACE_FLUSH, offsetof(struct mmu_counters, flush_write_protect), 0, 0);
	tlb1_write_protect_all(mmu);
}

#define ROW(member, help) STAT_ROW(struct mmu_counters, member, help)
const struct stat_row mmu_stat_rows[] = {
	ROW(tlb_l1_misses, "data accesses that level 1 of the TLB did not serve"),
	ROW(tlb_l1_second, "accesses that a second place in a large set of level 1 served"),
	ROW(tlb_window_misses, "accesses of user code that no window served, so that level 1 was asked"),
	ROW(tlb_windows_made, "times that a window became the run of pages around an address"),
	ROW(tlb_l1_grown, "times that a set of level 1 was made larger, because its pages were used over and over"),
	ROW(tlb_l1_shrunk, "times that it was made small again"),
	ROW(host_large, "2 MiB of guest memory that became a large page of the host's, because a large set of level 1 came to hold much of it"),
	ROW(tlb_l2_hits, "accesses and fetches that level 2 served"),
	ROW(tlb_l2_misses, "accesses and fetches that needed the paging mode"),
	ROW(tlb_fills, "entries put into level 2"),
	ROW(tlb_fills_large, "of them, 2 MiB entries"),
	ROW(flush_cr3, "loads of CR3 that flushed a space"),
	ROW(flush_cr4, "flushes due to CR0, CR4 or EFER, and full flushes"),
	ROW(flush_invlpg, "INVLPG"),
	ROW(flush_invpcid, "INVPCID"),
	ROW(flush_frames, "times that what names frames which pages have left was dropped"),
	ROW(flush_p2m, "full flushes because a frame's serial came around"),
	ROW(flush_write_protect, "frames whose writable entries were dropped"),
	ROW(flush_id_wrap, "full flushes because ids ran out"),
	ROW(cr3_noflush, "loads of CR3 that kept the space's entries"),
	ROW(world_switches, "SVM: entries into a guest of the guest and exits from it"),
	ROW(flush_asid, "SVM: flushes of an ASID's entries"),
	ROW(fetch_ids_revived, "SVM: times that what was fetched in an address space before it was flushed was found to be as it was"),
	ROW(walks, "walks through guest tables"),
	ROW(walk_refs_guest, "guest table entries read"),
	ROW(walk_refs_nested, "p2m table entries read"),
	ROW(walk_refs_shadow, "shadow table entries read"),
	ROW(walk_refs_hardware, "table entries that a hardware walker without caches would have read for these misses"),
	ROW(walk_cache_hits, "references saved by paging-structure and nested caches"),
	ROW(nest_faults, "SVM: nested page faults, which the guest hypervisor handles"),
	ROW(guest_faults, "page faults injected into the guest"),
	ROW(hidden_not_present, "hidden faults: shadow entry missing"),
	ROW(hidden_not_backed, "hidden faults: page had no frame"),
	ROW(hidden_write_protected, "hidden faults: write to a shadowed page table"),
	ROW(hidden_dirty, "hidden faults: first write through a clean shadow entry"),
	ROW(hidden_moved, "hidden faults: first miss of a page since it moved to another frame"),
	ROW(hidden_logged, "hidden faults: first write to a page since the dirty log was fetched"),
	ROW(hidden_swapped, "hidden faults: page was in the swap file"),
	ROW(hidden_shared, "hidden faults: page to be written, run or walked as a table shared its frame with others"),
	ROW(table_writes, "writes to shadowed page tables followed"),
	ROW(shadow_live, "shadow pages in use"),
	ROW(shadow_made, "shadow pages made"),
	ROW(shadow_reclaimed, "shadow pages taken back"),
	ROW(shadow_roots, "loads of CR3 that found no shadow root"),
	ROW(mmio_faults, "accesses to device memory"),
	ROW(tracked_writes, "writes to watched frames"),
	ROW(frames_backed, "frames handed out on first access"),
	ROW(mode_switches_shadow, "address spaces that went over to shadow tables (--paging auto)"),
	ROW(mode_switches_nested, "address spaces that went back to nested walks (--paging auto)"),
};
const size_t mmu_stat_row_count = ARRAY_LEN(mmu_stat_rows);
