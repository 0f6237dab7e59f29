/*
 * audit.c - recounts the references and types of all frames from scratch (page.h, P1 to P4) and compares. For people and tests; no vcpu runs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "xen/page.h"

struct recount { uint32_t refs, types[PV_WRITABLE + 1]; };

#define FAIL(...) do { snprintf(msg, size, __VA_ARGS__); return -EINVAL; } while (0)
#define LU(x) ((unsigned long)(x))

static int recount_table(const struct pv_pages *pages, uint64_t f, struct recount *count, char *msg, size_t size)
{
	const struct pv_page *p = &pages->page[f];
	const unsigned done = p->flags & PV_VALIDATED ? PV_ENTRIES : p->done;

	count[f].refs++;
	for (unsigned i = 0; i < done; i++) {
		uint64_t entry = pv_table(pages, mfn(f))[i], m = pv_entry_mfn(entry).v;
		const uint64_t never = PTE_PS | PTE_PWT | PTE_PCD | 0xfull << 59;

		if (pv_vmm_slot(p->type, i)) {
			if ((entry ^ pages->l4_slot[i - 256]) & ~(PTE_A | PTE_D))
				FAIL("P4: slot %u of the level-4 table %#lx holds %#lx", i, LU(f), LU(entry));
			continue;
		}
		if (!(entry & PTE_P))
			continue;
		if (m >= pages->frames || !pages->page[m].refs || (entry & never) || (p->type > 1 && (entry & PTE_G)))
			FAIL("P4: entry %u of the level-%u table %#lx is %#lx", i, p->type, LU(f), LU(entry));
		count[m].refs++;
		if (p->type > 1)
			count[m].types[p->type - 1]++;
		else if (entry & PTE_W)
			count[m].types[PV_WRITABLE]++;
	}
	return 0;
}

static int compare(const struct pv_pages *pages, uint64_t f, const struct recount *c, char *msg, size_t size)
{
	const struct pv_page *p = &pages->page[f];
	const uint32_t flags = pages->memory->pool.frame[f].flags;
	const bool watched = pv_type_is_table(p->type) || p->type == PV_SEG_DESC;
	uint32_t types = 0;

	if (p->refs != c->refs)
		FAIL("P1: frame %#lx has %u references, %u were counted", LU(f), p->refs, c->refs);
	for (unsigned t = 0; t <= PV_WRITABLE; t++)
		if (c->types[t] && t != p->type)
			FAIL("P2: frame %#lx is of type %u and referred to as %u", LU(f), p->type, t);
		else
			types += c->types[t];
	if (p->type_count != types)
		FAIL("P2: frame %#lx of type %u has type count %u, %u were counted", LU(f), p->type, p->type_count, types);
	if (watched != !!(flags & FRAME_PV_TYPE))
		FAIL("P3: frame %#lx of type %u is %swatched", LU(f), p->type, watched ? "not " : "");
	if (p->refs && (!(flags & FRAME_ALLOCATED) || (flags & FRAME_VMM)))
		FAIL("P5: frame %#lx has references and is not the domain's to have", LU(f));
	if (p->flags & PV_BUSY)
		FAIL("P6: frame %#lx is said to be under validation", LU(f));
	return 0;
}

static int audit(const struct pv_pages *pages, const struct pv_held *held, size_t held_count, struct recount *count, char *msg, size_t size)
{
	uint64_t owned = 0;
	int err = 0;

	for (size_t i = 0; i < held_count; i++) {
		count[held[i].m.v].refs++;
		if (held[i].type != PV_NONE)
			count[held[i].m.v].types[held[i].type]++;
	}
	for (uint64_t f = 0; f < pages->frames && !err; f++) {
		const struct pv_page *p = &pages->page[f];

		owned += !!(p->flags & PV_OWNED);
		count[f].refs += !!(p->flags & PV_OWNED) + !!(p->flags & PV_FIXED) + !!(p->flags & PV_PINNED);
		count[f].types[PV_WRITABLE] += !!(p->flags & PV_FIXED);
		count[f].types[p->type] += !!(p->flags & PV_PINNED);
		if (p->flags & (PV_VALIDATED | PV_PARTIAL))
			err = recount_table(pages, f, count, msg, size);
	}
	for (uint64_t f = 0; f < pages->frames && !err; f++)
		err = compare(pages, f, &count[f], msg, size);
	if (!err && owned != pages->owned)
		FAIL("P5: %#lx frames are owned, %#lx were counted", LU(pages->owned), LU(owned));
	return err;
}

int pv_audit(const struct pv_pages *pages, const struct pv_held *held, size_t held_count, char *msg, size_t size)
{
	struct recount *count = calloc(pages->frames, sizeof(*count));
	int err;

	if (!count)
		FAIL("no memory to count in");
	err = audit(pages, held, held_count, count, msg, size);
	free(count);
	return err;
}
