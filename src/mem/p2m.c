/*
 * p2m.c - the nested table: from guest-physical frames to machine frames.
 *
 * A leaf's life: absent -> present (p2m_back, first touch) -> part of a 2 MiB leaf, when all 512 pages of its chunk are
 * present, contiguous and aligned -> split again and changed (p2m_change), or made absent or swapped out (p2m_clear). Table pages come from p2m->page blocks and are
 * reused through a free list; those of a chunk that became large are among them.
 */
#include "mem/p2m_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "x86/regs.h"

#define ENTRIES 512
#define ADDR_MASK 0x000ffffffffff000ull
#define COUNT_SHIFT 52
#define COUNT_ONE (1ull << COUNT_SHIFT)
#define COUNT(e) ((unsigned)((e) >> COUNT_SHIFT) & 1023)
#define LEAF_BITS (PTE_P | PTE_W | PTE_U)
#define P2M_SWAPPED (1ull << 9)	/* a leaf that is not present: the page is in the swap file */

#define BLOCK_PAGES 64
struct p2m_private {
	struct p2m_block { struct p2m_block *next; uint8_t *pages; } *block;
	unsigned left;		/* pages of the newest block never used */
	uint64_t *free;		/* list through the first word */
};

static uint64_t *table_new(struct memory *mem)
{
	struct p2m_private *p = mem->p2m;
	uint64_t *t = p->free;

	if (t) {
		p->free = (uint64_t *)(uintptr_t)t[0];
		fill_bytes(t, 0, PAGE_SIZE);
		return t;
	}
	if (p->left == 0) {
		struct p2m_block *b = malloc(sizeof(*b));
		void *pages = b ? mmap(NULL, BLOCK_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;

		if (pages == MAP_FAILED) {
			free(b);
			return NULL;
		}
		*b = (struct p2m_block){ p->block, pages };
		p->block = b;
		p->left = BLOCK_PAGES;
	}
	return (uint64_t *)(p->block->pages + --p->left * PAGE_SIZE);
}

static void table_free(struct memory *mem, uint64_t *t)
{
	t[0] = (uint64_t)(uintptr_t)mem->p2m->free;
	mem->p2m->free = t;
}

int p2m_init(struct memory *mem)
{
	mem->p2m = calloc(1, sizeof(*mem->p2m));
	if (!mem->p2m)
		return -ENOMEM;
	mem->p2m_root = table_new(mem);
	return mem->p2m_root ? 0 : -ENOMEM;
}

void p2m_destroy(struct memory *mem)
{
	if (!mem->p2m)
		return;
	while (mem->p2m->block) {
		struct p2m_block *b = mem->p2m->block;

		mem->p2m->block = b->next;
		munmap(b->pages, BLOCK_PAGES * PAGE_SIZE);
		free(b);
	}
	free(mem->p2m);
	mem->p2m = NULL;
}

static unsigned index_at(gpa_t p, unsigned level) { return (unsigned)(p.v >> (PAGE_SHIFT + 9 * (level - 1))) & (ENTRIES - 1); }
static uint64_t *table_of(uint64_t entry) { return (uint64_t *)(uintptr_t)(entry & ADDR_MASK); }

bool p2m_lookup(const struct memory *mem, gpa_t p, struct p2m_entry *out)
{
	const uint64_t *table = mem->p2m_root;

	out->refs = 0;
	out->swapped_in = false;
	if (p.v >> 48)
		return false;
	for (unsigned level = P2M_LEVELS;; level--) {
		uint64_t e = table[index_at(p, level)];

		out->refs++;
		if (!(e & PTE_P))
			return false;
		if (level == 1 || (e & PTE_PS)) {
			out->shift = level == 1 ? 12 : 21;
			out->m = mfn((e & ADDR_MASK) >> PAGE_SHIFT);
			if (level == 2)
				out->m.v += p.v >> PAGE_SHIFT & (ENTRIES - 1);
			return true;
		}
		table = table_of(e);
	}
}

bool p2m_is_swapped(const struct memory *mem, gpa_t p)
{
	uint64_t entry[P2M_LEVELS + 1];

	return mem->swap.on && p2m_path(mem, p, entry) == 1 && entry[1] == P2M_SWAPPED;
}

uint8_t p2m_path(const struct memory *mem, gpa_t p, uint64_t entry[P2M_LEVELS + 1])
{
	const uint64_t *table = mem->p2m_root;

	for (uint8_t level = P2M_LEVELS;; level--) {
		entry[level] = p.v >> 48 ? 0 : table[index_at(p, level)];
		if (level == 1 || !(entry[level] & PTE_P) || (entry[level] & PTE_PS))
			return level;
		table = table_of(entry[level]);
	}
}

/* The level-2 entry for p, with tables down to it made; NULL when memory is short. */
static uint64_t *chunk_entry(struct memory *mem, gpa_t p)
{
	uint64_t *table = mem->p2m_root;

	for (unsigned level = P2M_LEVELS; level > 2; level--) {
		uint64_t *e = &table[index_at(p, level)];

		if (!*e) {
			uint64_t *t = table_new(mem);

			if (!t)
				return NULL;
			*e = (uint64_t)(uintptr_t)t | LEAF_BITS;
		}
		table = table_of(*e);
	}
	return &table[index_at(p, 2)];
}

/* Makes one large leaf of a full table, if its frames allow. Translations stay the same, so nothing need be flushed. */
static void try_collapse(struct memory *mem, uint64_t *e)
{
	uint64_t *t = table_of(*e), first = t[0];

	if ((first >> PAGE_SHIFT) & (ENTRIES - 1))
		return;
	for (unsigned i = 1; i < ENTRIES; i++)
		if (t[i] != first + i * PAGE_SIZE)
			return;
	*e = first | PTE_PS;
	table_free(mem, t);
}

/* p gets frame m: its contents, if they are in the swap file; and a word to whoever makes room, if frames run short. */
static bool swap_in(struct memory *mem, gpa_t p, mfn_t m, uint64_t leaf, struct p2m_entry *out)
{
	if (leaf & P2M_SWAPPED) {
		if (!swap_read(mem, gpa(p.v & PAGE_MASK), pool_ptr(&mem->pool, m), PAGE_SIZE)) {
			pool_free(&mem->pool, m);
			return false;
		}
		out->swapped_in = true;
		mem->counters.swapped_in++;
	}
	swap_used_frame(mem, m);
	return true;
}

enum p2m_result p2m_back(struct memory *mem, gpa_t p, struct p2m_entry *out, bool *fresh)
{
	uint64_t *e, *leaf;
	mfn_t m;

	*fresh = false;
	if (p2m_lookup(mem, p, out))
		return P2M_MAPPED;
	if (!memory_is_ram(mem, p))
		return P2M_NOT_RAM;
	e = chunk_entry(mem, p);
	if (e && !*e) {
		uint64_t *t = table_new(mem);

		if (t)
			*e = (uint64_t)(uintptr_t)t | LEAF_BITS;
	}
	if (!e || !*e)
		return P2M_NO_FRAME;
	m = pool_alloc(&mem->pool, p.v >> PAGE_SHIFT);
	if (!mfn_valid(m))
		return P2M_NO_FRAME;
	leaf = &table_of(*e)[index_at(p, 1)];
	if (UNLIKELY(mem->swap.on) && !swap_in(mem, p, m, *leaf, out))
		return P2M_NO_FRAME;
	*leaf = m.v << PAGE_SHIFT | LEAF_BITS;
	*e += COUNT_ONE;
	mem->backed++;
	log_watch(mem, p.v >> PAGE_SHIFT, m);
	*fresh = !out->swapped_in;
	out->m = m;
	out->shift = 12;
	if (COUNT(*e) == ENTRIES) {
		try_collapse(mem, e);
		if (*e & PTE_PS)
			out->shift = 21;
	}
	return P2M_MAPPED;
}

/* The present leaf of p in a table of leaves: a large one is split. *chunk: the entry that counts them. NULL: no memory for the table. */
static uint64_t *small_leaf(struct memory *mem, gpa_t p, uint64_t **chunk)
{
	uint64_t *e = chunk_entry(mem, p);

	ASSERT(e && (*e & PTE_P));
	if (*e & PTE_PS) {
		uint64_t *t = table_new(mem), first = *e & ADDR_MASK;

		if (!t)
			return NULL;
		for (unsigned i = 0; i < ENTRIES; i++)
			t[i] = (first + i * PAGE_SIZE) | LEAF_BITS;
		*e = (uint64_t)(uintptr_t)t | LEAF_BITS | ENTRIES * COUNT_ONE;
		memory_void_names(mem, mfn(first >> PAGE_SHIFT));
	}
	*chunk = e;
	return &table_of(*e)[index_at(p, 1)];
}

int p2m_change(struct memory *mem, gpa_t p, mfn_t m)
{
	uint64_t *chunk, *leaf = small_leaf(mem, p, &chunk);

	if (!leaf)
		return -ENOMEM;
	*leaf = m.v << PAGE_SHIFT | LEAF_BITS;
	mem->p2m_generation++;
	return 0;
}

int p2m_clear(struct memory *mem, gpa_t p, bool swapped)
{
	uint64_t *chunk, *leaf = small_leaf(mem, p, &chunk);

	if (!leaf)
		return -ENOMEM;
	*leaf = swapped ? P2M_SWAPPED : 0;
	*chunk -= COUNT_ONE;
	mem->backed--;
	mem->p2m_generation++;
	return 0;
}

bool p2m_chunk_is_empty(const struct memory *mem, gpa_t p)
{
	uint64_t entry[P2M_LEVELS + 1];

	const uint8_t level = p2m_path(mem, p, entry);

	return level > 2 || (level == 2 && !(entry[2] & PTE_P));
}

bool p2m_forget_swapped(struct memory *mem, gpa_t p)
{
	if (!p2m_is_swapped(mem, p))
		return false;
	table_of(*chunk_entry(mem, p))[index_at(p, 1)] = 0;
	return true;
}

bool p2m_maps(const struct memory *mem, uint64_t gfn, mfn_t m)
{
	const struct frame *f = pool_frame(&mem->pool, m);
	struct p2m_entry e;

	return f->gfn == gfn || ((f->flags & FRAME_SHARED) && p2m_lookup(mem, gpa(gfn << PAGE_SHIFT), &e) && e.m.v == m.v);
}

/* What p2m_audit counts. */
struct counted { uint64_t leaves, shared /* of these, on shared frames */, members /* of rings */, rings; };

static int audit_leaf(const struct memory *mem, uint64_t gfn, uint64_t m, struct counted *n, char *msg, size_t size)
{
	const struct frame *f;
	bool logged, watched;

	if (!memory_is_ram(mem, gpa(gfn << PAGE_SHIFT)))
		return snprintf(msg, size, "M1: gfn %#lx is mapped and not RAM", gfn);
	if (m >= mem->pool.frames)
		return snprintf(msg, size, "M1: gfn %#lx maps frame %#lx beyond the pool", gfn, m);
	f = &mem->pool.frame[m];
	if ((f->flags & FRAME_SHARED) && (f->flags & FRAME_ALLOCATED)) {
		uint64_t members = 0;

		if (share_audit(mem, gfn, mfn(m), &members, msg, size))
			return 1;
		n->shared++;
		n->members += members;
		n->rings += members != 0;
		return 0;
	}
	if (!(f->flags & FRAME_ALLOCATED) || f->gfn != gfn)
		return snprintf(msg, size, "M1/M2: gfn %#lx maps frame %#lx, whose record says gfn %#lx flags %#x", gfn, m,
				f->gfn, f->flags);
	logged = mem->track.dirty && (mem->track.dirty[gfn / 64] >> (gfn % 64) & 1);
	watched = f->flags & FRAME_DIRTY_LOG;
	if (watched != (mem->track.dirty && !logged))
		return snprintf(msg, size, "D1: gfn %#lx frame %#lx: the dirty log is on %d, has noted it %d, watches it %d", gfn, m,
				!!mem->track.dirty, logged, watched);
	return 0;
}

static int audit_table(const struct memory *mem, const uint64_t *table, unsigned level, uint64_t gfn, struct counted *n,
		       char *msg, size_t size)
{
	for (unsigned i = 0; i < ENTRIES; i++) {
		uint64_t e = table[i], at = gfn + ((uint64_t)i << 9 * (level - 1)), before = n->leaves;
		unsigned pages = level == 1 ? 1 : ENTRIES;
		int bad = 0;

		if (!(e & PTE_P))
			continue;
		if (level > 1 && !(e & PTE_PS)) {
			bad = audit_table(mem, table_of(e), level - 1, at, n, msg, size);
			if (!bad && level == 2 && COUNT(e) != n->leaves - before)
				bad = snprintf(msg, size, "M1: chunk at gfn %#lx counts %u leaves, has %lu", at, COUNT(e),
					       n->leaves - before);
		} else {
			for (unsigned k = 0; k < pages && !bad; k++)
				bad = audit_leaf(mem, at + k, ((e & ADDR_MASK) >> PAGE_SHIFT) + k, n, msg, size);
			n->leaves += pages;
		}
		if (bad)
			return bad;
	}
	return 0;
}

int p2m_audit(const struct memory *mem, char *msg, size_t size)
{
	struct counted n = { 0 };
	int bad = audit_table(mem, mem->p2m_root, P2M_LEVELS, 0, &n, msg, size);
	const struct memory_counters *c = &mem->counters;

	/* Every frame record names one gfn, or one of a ring, so equal counts mean that none is mapped twice otherwise. */
	if (!bad && (n.leaves != mem->backed || n.leaves - c->pages_sharing + mem->moved != mem->pool.used))
		bad = snprintf(msg, size, "M2: %lu leaves, %lu backed, %lu frames handed out, %lu saved by sharing", n.leaves, mem->backed,
			       mem->pool.used, c->pages_sharing);
	if (!bad && (n.members != n.shared || n.rings != c->pages_shared || n.shared - n.rings != c->pages_sharing))
		bad = snprintf(msg, size, "M2: %lu pages on shared frames, %lu in %lu rings; counted: %lu frames, %lu pages saved", n.shared, n.members, n.rings,
			       c->pages_shared, c->pages_sharing);
	return bad;
}
