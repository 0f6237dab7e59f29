/*
 * shadow.h - shadow tables: the VM's second table, from guest-virtual straight to machine frames.
 *
 * A shadow page stands for one guest table page at one level (the same frame used at two levels, as with a table that maps
 * itself, has two), or is *direct*: it splits a large guest page, and then stands for the guest-physical range itself.
 * Its role says which; pages of equal frame and role are one.
 *
 * Entries are in the 4-level format with these differences. A leaf holds a machine frame, the frame's serial (mmu_internal.h; with another one the
 * entry is void) and the guest's own P, W, U, A, D, G and NX; since a shadow walk combines levels as the guest's walk does, and the one permission check (walk_allowed) reads the
 * result, rights need no place in the role. A link holds the child's index and serial number: freeing a page steps its serial, so
 * every link to it is void at once and nobody needs a list of parents. A link to a direct page also
 * holds D and G of the guest's leaf.
 *
 * The frame of a guest table is watched (FRAME_TABLE) while one of its shadow pages is *tight*. A level-1 page that the guest
 * keeps writing becomes *loose*: its frame is no longer watched, and each of its entries is compared with the guest's before it is
 * used (a TLB may be stale until the guest flushes it, and after a flush every use comes by here).
 *
 * Lifecycle: free -> tight (shadow_page_get) -> loose (level 1, written SHADOW_LOOSEN times) -> free: reclaimed for
 * another (second chance), found to be no table any more (flood of writes, odd writes), or all dropped (a p2m change).
 *
 * Invariants
 *  S1  a present entry of a tight page that is not void agrees with the guest's entry as it is now: it is what a walk would make of it, but for D,
 *      which it may lack
 *  S2  a present entry of any page that is not void names an allocated frame that is the p2m's for the gfn it stands for
 *  S3  FRAME_TABLE is set on a frame if and only if it has a tight shadow page
 *  S4  a link whose serial matches leads to a page one level down that stands for the table (or range) that the guest's entry names
 *  S5  present counts the entries that are not zero; pages are at most limit; all others are on the free list
 * Lock: memory->lock throughout.
 */
#ifndef MMU_SHADOW_H
#define MMU_SHADOW_H

#include "mmu/mmu_internal.h"

#define SHADOW_ENTRIES 512
#define SHADOW_LOOSEN 3		/* writes to a level-1 table before it is no longer watched */
#define SHADOW_FLOOD 16		/* writes in a row to another table, none of it used, before its shadow is dropped */

/* Roles: level, and flags. */
#define ROLE_LEVEL 7u
#define ROLE_DIRECT 8u
#define ROLE_NXE 16u		/* NX is a right; without EFER.NXE it is a reserved bit */

#define SHADOW_LINK_DIRECT (1ull << 9)
#define SHADOW_LINK_INDEX(e) ((uint32_t)((e) >> 12) & 0xfffff)
#define SHADOW_LINK_SERIAL(e) ((uint32_t)((e) >> 32) & 0xfffff)
#define SHADOW_SERIAL_MASK 0xfffffu
#define SHADOW_MAX_PAGES (1u << 20)

struct shadow_page {
	uint64_t *entry;
	uint64_t gfn;		/* of the guest's table, or first of the range */
	mfn_t m;		/* of the guest's table; MFN_NONE if direct */
	uint32_t role;
	uint32_t serial;
	uint32_t next;		/* in the frame's list, the hash of direct pages, or the free list; index + 1 */
	uint32_t stamp;		/* operation that used it last: not reclaimed during that */
	uint16_t present;
	uint16_t writes;	/* to the table; above level 1, since an entry was last installed */
	bool live, loose, referenced;
};

#define SHADOW_HASH 1024
struct shadow {
	struct memory *memory;
	struct shadow_page *page;
	uint8_t *tables;	/* one page of entries each */
	uint32_t limit, live, made_ever;
	uint32_t free_head;	/* index + 1 */
	uint32_t parked_head;	/* pages whose serial came around: void links may name them, so all must go first */
	uint32_t hand;		/* of the clock that reclaims */
	uint32_t stamp;
	uint32_t users;		/* vcpus */
	uint64_t generation, serial_epoch;	/* of memory, when they were last brought up to date */
	uint32_t direct[SHADOW_HASH];
	size_t page_bytes, table_bytes;
};

/* shadow_page.c. */
int shadow_attach(struct memory *memory);	/* 0 or -errno; the first vcpu makes the tables */
void shadow_detach(struct memory *memory);
/*
 * Bounds the number of pages, dropping all there are; at most as many as memory->shadow_pages, or the default, made room for. At least SHADOW_MIN_PAGES: more than
 * one operation holds (a root, the tables below it, and direct pages), so that reclaim always finds another. For tests.
 */
#define SHADOW_MIN_PAGES 16
void shadow_set_limit(struct mmu *mmu, uint32_t limit);
/* The page for a table in frame m, or for the range at gfn if role is direct (then m is MFN_NONE); made if need be. */
struct shadow_page *shadow_page_get(struct mmu *mmu, mfn_t m, uint64_t gfn, uint32_t role);
struct shadow_page *shadow_page_find(const struct shadow *s, mfn_t m, uint64_t gfn, uint32_t role);
void shadow_page_free(struct mmu *mmu, struct shadow_page *page);
void shadow_page_loosen(struct mmu *mmu, struct shadow_page *page);
void shadow_drop_all(struct mmu *mmu);
/* Frees the root for a CR3 under the paging in force and all pages below it; what other roots shared with it is made again when they need it. */
void shadow_drop_tree(struct mmu *mmu, uint64_t cr3);
/* Frees those of tables that have left their frames since this was last called. */
void shadow_renew(struct mmu *mmu);
/* At the start of an operation: takes parked pages back, at the price of all others. */
void shadow_unpark(struct mmu *mmu);
static inline uint32_t shadow_index(const struct shadow *s, const struct shadow_page *p) { return (uint32_t)(p - s->page); }
static inline void shadow_set(struct shadow_page *p, unsigned i, uint64_t entry)
{
	p->present = (uint16_t)(p->present + !!entry - !!p->entry[i]);
	p->entry[i] = entry;
}
/* The page that a link leads to, NULL if it is gone. */
static inline struct shadow_page *shadow_follow(const struct shadow *s, uint64_t link)
{
	struct shadow_page *p = &s->page[SHADOW_LINK_INDEX(link)];

	return p->serial == SHADOW_LINK_SERIAL(link) ? p : NULL;
}

/* shadow.c. */
enum translate_status shadow_translate(struct mmu *mmu, uint64_t va, unsigned access, struct translation *out);
/* After a store to a frame with FRAME_TABLE. */
void shadow_written(struct mmu *mmu, mfn_t m, unsigned offset, unsigned len);
/* Whether the walker takes `guest`, an entry of a table shadowed as `role`, for a leaf, and whether it is present and legal. */
bool shadow_is_leaf(uint32_t role, uint64_t guest);
bool shadow_is_usable(uint32_t role, uint64_t guest);
/* Whether a loose page's leaf still says what the guest's entry says. */
bool shadow_still_true(const struct shadow *s, const struct shadow_page *p, unsigned i);

#endif
