/*
 * model.h - what the manual allows a TLB to answer, kept as sets of translations that may be cached.
 *
 * The model is independent of src/mmu: it has its own walk and its own permission rule. For each PCID (and for global
 * pages) it remembers every translation that an access has used since the last operation that invalidates it, as a range with
 * rights and dirty flag, and every paging-structure entry that such a walk went through. An access may be answered
 * by any of them or by the tables as they are now (Intel SDM vol. 3, "Caching Translation Information"); a page
 * fault only by the tables as they are now, which is stricter than the manual and true of this MMU.
 */
#ifndef FUZZ_MMU_MODEL_H
#define FUZZ_MMU_MODEL_H

#include "mmu/mmu.h"
#include "x86/regs.h"

#define MODEL_PCIDS 4
#define MODEL_CACHED 4096

struct cached { uint64_t va, pa, rights; uint8_t shift; };	/* rights: PTE_W, U, NX, and D of the leaf */
struct partial { uint64_t va, table, rights; uint8_t shift; };	/* the table that serves va's region of this size */

struct cache {
	struct cached whole[MODEL_CACHED];
	struct partial part[MODEL_CACHED];
	unsigned wholes, parts;
};

struct model {
	struct memory *memory;
	uint64_t cr0, cr4, efer, root;
	unsigned pcid;			/* index of the current one */
	struct cache cache[MODEL_PCIDS];
	struct cache global;		/* wholes only */
};

struct model_walk {
	bool fault;
	uint32_t error;
	uint64_t pa;			/* of va */
	uint64_t rights;
	uint8_t shift, start, end;	/* levels first and last read */
	uint64_t entry_pa[6], entry[6];	/* by level */
	uint64_t rights_above[6];	/* accumulated above the table of that level */
};

struct model_answer { enum mmu_kind kind; uint64_t gpa; uint32_t error; };

/* Before the access: everything that may answer it. */
#define MODEL_WALKS 256
struct model_question {
	uint64_t va;
	unsigned access;
	struct model_walk walk[MODEL_WALKS];	/* [0] is from the root */
	unsigned walks;
	bool by_cache;				/* allowed answers, in `answer`, from whole cached translations */
	uint64_t answer[64];
	unsigned answers;
};

static inline unsigned model_levels(const struct model *m) { return m->cr4 & CR4_LA57 ? 5 : 4; }
uint64_t *model_entry(struct model *m, uint64_t pa);	/* NULL: not RAM; absent pages read as zero through a static page */
void model_ask(struct model *m, uint64_t va, unsigned access, struct model_question *q);
/* After it: NULL if the answer is allowed (and the caches are brought up to date), or what is wrong. */
const char *model_judge(struct model *m, const struct model_question *q, const struct model_answer *a);
/* Whether a fetch may use a translation found earlier: no walk is made, no bits are set. */
bool model_allows(struct model *m, const struct model_question *q, uint64_t gpa);

void model_flush_space(struct model *m, unsigned pcid);
void model_flush_locals(struct model *m);
void model_flush_all(struct model *m);
void model_invlpg(struct model *m, uint64_t va);
void model_invpcid_address(struct model *m, unsigned pcid, uint64_t va);
bool model_is_full(const struct model *m);

#endif
