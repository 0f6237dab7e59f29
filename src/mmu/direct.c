/*
 * direct.c - the direct mode: the guest's own tables hold machine addresses and are the only tables there are. A translation is one
 * walk in one dimension, four references.
 *
 * Whether an entry may be there at all was decided when it was written (xen/validate.c): the guest cannot write its tables, only ask for it. The
 * walk trusts that for rights and relies on nothing for safety: every frame that it meets, table or page, must be one that
 * is handed out (space_frame), no frame with a table's or descriptor's type is ever written through a mapping, and our own
 * frames, which the guest sees at fixed places, are read-only whatever the entry says.
 *
 * Global translations are those of the kernel's root for upper-half addresses that are no user's: what Linux' kernel lives by, and the same in every root as a rule. A
 * load of a base pointer keeps them if the upper halves of both roots are the same (direct_same_kernel).
 *
 * Rights: the guest's kernel is a supervisor to the walk (cpu/vcpu.h, ring3_kernel), which gives what Xen gives by setting U in every entry of it.
 */
#include "mmu/direct.h"
#include "mmu/mmu_internal.h"

#define ADDRESS 0x000ffffffffff000ull
#define KERNEL_SLOTS 256u	/* of a level-4 table: the upper half */

static bool is_user(unsigned access) { return (access & (ACC_USER | ACC_IMPLICIT)) == ACC_USER; }

uint64_t direct_root(const struct mmu *mmu, unsigned access) { return is_user(access) ? mmu->user_cr3 : mmu->cr3; }

enum walk_status direct_walk(const struct mmu *mmu, struct walk_space *space, uint64_t root, uint64_t va, unsigned access, struct walk *w, mfn_t *m)
{
	const struct walk_controls *c = &mmu->priv->controls;
	const uint32_t denied = (is_user(access) ? PF_U : 0) | (access & ACC_WRITE ? PF_W : 0);
	struct p2m_entry frame;
	enum walk_status status;

	*m = MFN_NONE;
	walk_start(c, root, w);
	if (is_user(access) && !root) {
		w->error = denied | (access & ACC_EXEC ? PF_I : 0);
		return WALK_FAULT;
	}
	status = walk_tables(c, space, va, access, w);
	if (status != WALK_OK)
		return status;
	if (space_frame(space, w->page, &frame) != P2M_MAPPED) {
		w->error = PF_P | PF_RSVD | denied;
		return WALK_FAULT;
	}
	*m = frame.m;
	if (pool_frame(&mmu->memory->pool, frame.m)->flags & FRAME_READ_ONLY) {
		w->rights &= ~PTE_W;
		if (access & ACC_WRITE) {
			w->error = PF_P | denied;
			return WALK_FAULT;
		}
	}
	return WALK_OK;
}

enum translate_status direct_translate(struct mmu *mmu, uint64_t va, unsigned access, struct translation *out)
{
	struct walk w;
	mfn_t m;
	const enum walk_status status = direct_walk(mmu, &mmu->priv->space, direct_root(mmu, access), va, access, &w, &m);

	mmu->counters.walk_refs_hardware += w.refs;
	if (status == WALK_NO_FRAME)
		return TRANSLATE_NO_FRAME;
	if (status == WALK_FAULT) {
		out->error = w.error;
		return TRANSLATE_FAULT;
	}
	out->page = gpa(pool_frame(&mmu->memory->pool, m)->gfn << PAGE_SHIFT);
	out->data = tr_name(mmu->memory, m) | (w.rights & RIGHTS_MASK & ~PTE_G);
	if (va >> 63 && !is_user(access) && !(w.rights & PTE_U)) {
		out->data |= PTE_G;
		for (unsigned level = 2; level <= 3; level++)
			pool_frame(&mmu->memory->pool, w.step[level].table_m)->flags |= FRAME_GLOBAL_TABLE;
	}
	out->large = false;
	return TRANSLATED;
}

bool mmu_direct_entry(struct mmu *mmu, gva_t va, uint64_t *at)
{
	const struct walk_controls *c = &mmu->priv->controls;
	struct walk w;

	walk_start(c, mmu->cr3, &w);
	walk_tables(c, &mmu->priv->space, va.v, ACC_READ | ACC_IMPLICIT, &w);
	if (w.level != 1 || !mfn_valid(w.step[1].table_m))
		return false;
	*at = (w.step[1].table_m.v << PAGE_SHIFT) + w.step[1].index * 8;
	return true;
}

bool direct_entry_changed(struct memory *mem, mfn_t table, unsigned level, unsigned index, uint64_t old, uint64_t new)
{
	const uint64_t grants = PTE_W | PTE_U | PTE_A | PTE_D;
	struct frame *f;

	if (!(old & PTE_P))
		return false;
	/* The same page, and no less: what is cached may lack rights, never have too many. */
	if ((new & PTE_P) && !((old ^ new) & ADDRESS) && !(old & ~new & grants) && !(new & ~old & PTE_NX))
		return false;
	if (level > 1) {
		mem->direct.tables++;
		if (level == 4 ? index >= KERNEL_SLOTS : pool_frame(&mem->pool, table)->flags & FRAME_GLOBAL_TABLE)
			mem->direct.global++;
		return false;
	}
	f = pool_frame(&mem->pool, mfn((old & ADDRESS) >> PAGE_SHIFT));
	mem->direct.pages++;
	/* Fetch ids go with it, all of them; until code is fetched from there again it does not matter to them any more. */
	if (f->flags & FRAME_FETCHED) {
		f->flags &= (uint16_t)~FRAME_FETCHED;
		mem->direct.fetched++;
	}
	memory_void_names(mem, mfn((old & ADDRESS) >> PAGE_SHIFT));
	return !f->serial;
}

bool direct_table_left(struct memory *mem, mfn_t m)
{
	struct frame *f = pool_frame(&mem->pool, m);

	/* Address spaces go by the serials of their roots (asid_set_root). Whoever reads the table as a page reads it anew: that costs a walk. */
	f->flags &= (uint16_t)~FRAME_GLOBAL_TABLE;
	mem->direct.pages++;
	memory_void_names(mem, m);
	return !f->serial;
}

bool direct_same_kernel(const struct mmu *mmu, uint64_t a, uint64_t b)
{
	const struct pool *pool = &mmu->memory->pool;
	const mfn_t root[2] = { mfn((a & ADDRESS) >> PAGE_SHIFT), mfn((b & ADDRESS) >> PAGE_SHIFT) };
	const uint64_t matters = ADDRESS | PTE_P | PTE_W | PTE_U | PTE_NX, *e[2];
	uint64_t differ = 0;

	if (root[0].v == root[1].v)
		return true;
	if (!root[0].v || !root[1].v || root[0].v >= pool->frames || root[1].v >= pool->frames)
		return false;
	for (unsigned i = 0; i < 2; i++)
		e[i] = pool_ptr(pool, root[i]);
	for (unsigned i = KERNEL_SLOTS; i < 2 * KERNEL_SLOTS; i++)
		differ |= e[0][i] ^ e[1][i];
	return !(differ & matters);
}
