/*
 * validate.c - what may stand in a page table or descriptor table of a direct-mode guest (page.h, P4), and the one way to change an entry.
 *
 * An entry that is not present may hold anything: only our own walker reads it, which stops at P, so nothing is read speculatively through it (XSA-273).
 * Global is accepted at level 1 and means nothing (mmu/direct.c).
 */
#include "mmu/direct.h"
#include "xen/abi.h"
#include "xen/page.h"

#define AVAILABLE (7ull << 9 | 0x7full << 52)
#define ADDRESS 0x000ffffffffff000ull
#define ALLOWED (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D | AVAILABLE | PTE_NX | ADDRESS)
/* By level. Large pages (XSA-148) and cache attributes are nobody's. */
static const uint64_t allowed[5] = { 0, ALLOWED | PTE_G, ALLOWED, ALLOWED, ALLOWED };
/* What may change without looking at the rest: everything else must be the same, W above all (XSA-182). */
#define HARMLESS (PTE_A | PTE_D | AVAILABLE)

static int get_page(struct pv_pages *pages, uint64_t entry)
{
	mfn_t m = pv_entry_mfn(entry);

	if (m.v >= pages->frames)
		return -XEN_EPERM;
	if (entry & PTE_W) {
		int err = pv_get_type(pages, m, PV_WRITABLE);

		return err && err != -PV_AGAIN ? -XEN_EBUSY : err;
	}
	return pv_get(pages, m) ? -XEN_EBUSY : 0;
}

/* References of a present entry. */
static int get_entry(struct pv_pages *pages, unsigned level, uint64_t entry)
{
	if (entry & ~allowed[level])
		return -XEN_EINVAL;
	return level == 1 ? get_page(pages, entry) : pv_get_type(pages, pv_entry_mfn(entry), (enum pv_type)(level - 1));
}

void pv_put_entry(struct pv_pages *pages, unsigned level, uint64_t entry)
{
	mfn_t m = pv_entry_mfn(entry);

	if (level > 1) {
		pv_put_type(pages, m);
		return;
	}
	pages->page[m.v].stamp = pages->clock;
	if (entry & PTE_W)
		pv_put_type(pages, m);
	else
		pv_put(pages, m);
}

int pv_validate(struct pv_pages *pages, mfn_t m)
{
	struct pv_page *p = &pages->page[m.v];
	const unsigned level = p->type;
	uint64_t *entry = pv_table(pages, m);

	for (; p->done < PV_ENTRIES; p->done++) {
		const unsigned i = p->done;
		int err;

		if (!pages->budget) {
			pages->counters.preemptions++;
			return -PV_AGAIN;
		}
		pages->budget--;
		pages->counters.validated_entries++;
		if (pv_vmm_slot(level, i)) {
			entry[i] = pages->l4_slot[i - 256];
			track_written(&pages->memory->track, m, i * 8, 8);
			continue;
		}
		if (!(entry[i] & PTE_P))
			continue;
		err = get_entry(pages, level, entry[i]);
		if (err)
			return err;
	}
	return 0;
}

/* The old entry; *put: the new one. */
static uint64_t exchange(struct pv_pages *pages, mfn_t m, unsigned i, uint64_t value, bool preserve, uint64_t *put)
{
	uint64_t *at = &pv_table(pages, m)[i], old = __atomic_load_n(at, __ATOMIC_RELAXED), new;

	/* A vcpu's walk may set A and D meanwhile. */
	do
		new = preserve ? value | (old & (PTE_A | PTE_D)) : value;
	while (!__atomic_compare_exchange_n(at, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
	track_written(&pages->memory->track, m, i * 8, 8);
	*put = new;
	return old;
}

/* An entry of a validated table. References for the new one first, then the exchange, then those of the old one go. */
static int update_entry(struct pv_pages *pages, mfn_t m, unsigned i, uint64_t value, bool preserve)
{
	const unsigned level = pages->page[m.v].type;
	uint64_t old = __atomic_load_n(&pv_table(pages, m)[i], __ATOMIC_RELAXED), put;
	int err;

	if (pv_vmm_slot(level, i))
		return -XEN_EINVAL;
	if (value & PTE_P) {
		if (value & ~allowed[level])
			return -XEN_EINVAL;
		if ((old & PTE_P) && !((old ^ value) & ~HARMLESS)) {
			pages->counters.fast_updates++;
			old = exchange(pages, m, i, value, preserve, &put);
			pv_voided(pages, direct_entry_changed(pages->memory, m, level, i, old, put));
			return 0;
		}
		err = get_entry(pages, level, value);
		if (err)
			return err;
	}
	pages->counters.slow_updates++;
	old = exchange(pages, m, i, value, preserve, &put);
	pv_voided(pages, direct_entry_changed(pages->memory, m, level, i, old, put));
	if (old & PTE_P)
		pv_put_entry(pages, level, old);
	return 0;
}

static int update(struct pv_pages *pages, mfn_t m, unsigned i, uint64_t value, bool preserve)
{
	struct pv_page *p;
	uint64_t put;
	int err;

	if (!pv_page_owned(pages, m))
		return -XEN_EINVAL;
	p = &pages->page[m.v];
	if (p->flags & PV_VALIDATED)
		return update_entry(pages, m, i, value, preserve);
	/* Plain memory, or about to be: a table that was never finished is given up; descriptors are refused. */
	err = pv_get_type(pages, m, PV_WRITABLE);
	if (err)
		return err;
	exchange(pages, m, i, value, preserve, &put);
	pv_put_type(pages, m);
	return 0;
}

int pv_update(struct pv_pages *pages, uint64_t at, uint64_t value, bool preserve)
{
	int err = update(pages, mfn(at >> PAGE_SHIFT), (unsigned)(at & (PAGE_SIZE - 1)) / 8, value, preserve);

	if (err && err != -PV_AGAIN)
		pages->counters.refused_updates++;
	return err;
}

/* Source: AMD APM vol. 2, "Legacy Segment Descriptors", for the fields. */
bool pv_check_descriptor(uint64_t *descriptor)
{
	const uint64_t present = 1ull << 47, not_system = 1ull << 44, privilege = 3ull << 45, accessed = 1ull << 40;
	unsigned type = (unsigned)(*descriptor >> 40) & 15;
	uint16_t selector = (uint16_t)(*descriptor >> 16);

	if (!(*descriptor & present))
		return true;
	/* The processor reads descriptors through a read-only window, so it finds them accessed. */
	if (*descriptor & not_system) {
		*descriptor |= privilege | accessed;
		return true;
	}
	if (type == 0) { /* the upper half of a call gate */
		*descriptor |= privilege;
		return true;
	}
	/* A call gate is left with privilege 0, so that using it faults. Its target must be code of the guest's own or one of the flat segments. */
	if (type != 12 || !((selector & 3) == 3 && (selector & 4 || selector < 0xe000 || selector == FLAT_RING3_CS64 || selector == FLAT_RING3_CS32)))
		return false;
	*descriptor &= ~privilege;
	return true;
}
