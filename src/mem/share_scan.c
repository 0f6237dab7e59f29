/*
 * share_scan.c - the search for equal pages: goes round guest memory, as many pages at a time as it is told.
 *
 * A page is worth sharing if it does not change all the time: its sum must be what it was when the search last came by. It is then looked up, by its sum, among
 * the pages met before; one is found or it is put there for others to find. Sums only say where to look: pages are compared byte by byte before they share a frame.
 *
 * What is kept is bounded: a sum and a slot a guest page. A slot may be out of date, since nobody tells the scanner what becomes of the page in it; then the
 * comparison fails and the page at hand takes the slot. A page that is shared already goes the same way, so that of two frames with equal contents one empties in time.
 */
#include "mem/p2m_internal.h"
#include "mem/share_internal.h"

/* In one call: what follows, a frame given back to the host for each, takes up to 90 us on a busy virtual host. */
#define MERGES_MAX 64u

/* Four lanes, so that multiplications overlap. */
uint64_t share_sum(const void *page)
{
	const uint64_t *w = page;
	const uint64_t k = 0x9e3779b97f4a7c15ull;
	uint64_t a = 1, b = 2, c = 3, d = 4;

	for (unsigned i = 0; i < PAGE_SIZE / 8; i += 4) {
		a = (a ^ w[i]) * k;
		b = (b ^ w[i + 1]) * k;
		c = (c ^ w[i + 2]) * k;
		d = (d ^ w[i + 3]) * k;
		a ^= a >> 29;
		b ^= b >> 31;
		c ^= c >> 30;
		d ^= d >> 28;
	}
	a = (a ^ b >> 7) * k ^ (c ^ d >> 11) * 0xbf58476d1ce4e5b9ull;
	return a ^ a >> 32;
}

/* The slot to look in for a page with this sum, which is the one to put it in otherwise. */
static struct share_slot *slot_for(struct memory_share *s, uint64_t sum)
{
	struct share_slot *bucket = &s->slot[sum % (s->slots / SHARE_WAYS) * SHARE_WAYS], *empty = NULL;

	for (unsigned w = 0; w < SHARE_WAYS; w++) {
		if (bucket[w].gfn_plus_1 && bucket[w].tag == (uint32_t)(sum >> 32))
			return &bucket[w];
		if (!bucket[w].gfn_plus_1)
			empty = &bucket[w];
	}
	return empty ? empty : &bucket[s->hand % SHARE_WAYS];
}

/* True: the page has given up its frame. */
static bool look_at(struct memory *mem, uint64_t gfn)
{
	struct memory_share *s = &mem->share;
	const gpa_t p = gpa(gfn << PAGE_SHIFT);
	struct share_slot *slot;
	struct p2m_entry e, other;
	const struct frame *f;
	uint64_t sum;
	gpa_t q;

	if (!p2m_lookup(mem, p, &e))
		return false;
	f = pool_frame(&mem->pool, e.m);
	if (!share_is_plain(f))
		return false;
	sum = share_sum(pool_ptr(&mem->pool, e.m));
	if (!(f->flags & FRAME_SHARED) && s->sum[gfn] != (uint32_t)sum) {
		s->sum[gfn] = (uint32_t)sum;
		return false;
	}
	slot = slot_for(s, sum);
	q = gpa((uint64_t)(slot->gfn_plus_1 - 1u) << PAGE_SHIFT);
	if (slot->gfn_plus_1 && slot->tag == (uint32_t)(sum >> 32)) {
		if (p2m_lookup(mem, q, &other) && other.m.v == e.m.v)
			return false;
		if (!share_page(mem, p, q))
			return true;
	}
	*slot = (struct share_slot){ (uint32_t)gfn + 1, (uint32_t)(sum >> 32) };
	return false;
}

/* The guest frame after gfn; ~0 at the end of memory. */
static uint64_t next_of(const struct memory *mem, uint64_t gfn)
{
	for (unsigned i = 0; i < mem->regions; i++) {
		const uint64_t first = mem->region[i].base >> PAGE_SHIFT, end = first + (mem->region[i].len >> PAGE_SHIFT);

		if (gfn + 1 < end)
			return gfn + 1 < first ? first : gfn + 1;
	}
	return ~0ull;
}

uint64_t memory_share_scan(struct memory *mem, uint64_t pages)
{
	struct memory_share *s = &mem->share;
	uint64_t merged = 0;

	if (!s->thread)
		return 0;
	memory_lock(mem);
	while (pages-- && merged < MERGES_MAX) {
		merged += look_at(mem, s->hand);
		mem->counters.pages_scanned++;
		/* Where nothing of a chunk was ever touched there is nothing to see in all of it. */
		if (p2m_chunk_is_empty(mem, gpa(s->hand << PAGE_SHIFT)))
			s->hand |= (MIB(2) >> PAGE_SHIFT) - 1;
		s->hand = next_of(mem, s->hand);
		if (s->hand == ~0ull) {
			s->hand = 0;
			mem->counters.share_passes++;
		}
	}
	memory_unlock(mem);
	return merged;
}
