/*
 * asid.c - address spaces: which ids tag what is cached for each PCID, and which ids fetches run under.
 *
 * Ids come from counters and are never used again (until a counter wraps, which empties what it tags). So a space is flushed by
 * giving it new ids (T4), all spaces by raising a floor, and a space that comes back unflushed finds its
 * entries, because its ids are the same.
 *
 * Fetch ids (mmu.h) are apart from the others: INVLPG of a page that was never fetched, by far the most common, leaves them.
 */
#include "mmu/mmu_internal.h"

/* What the global entries of worlds that do not run, or fetches through them, go by. */
static void others_void(struct asid *a, bool entries, bool fetches)
{
	for (unsigned i = 0; i <= GUEST_SPACES; i++) {
		struct global_ids *g = i < GUEST_SPACES ? &a->guest[i].global : &a->host_global;

		g->id = entries ? 0 : g->id;
		g->fetch = fetches ? 0 : g->fetch;
	}
}

static uint32_t new_fetch_id(struct mmu *mmu)
{
	struct asid *a = &mmu->priv->asid;

	if (a->next_fetch > FETCH_ID_MAX) {
		mmu->counters.flush_id_wrap++;
		asid_new_fetch_ids(mmu);
	}
	return a->next_fetch++;
}

static uint32_t new_id(struct mmu *mmu)
{
	struct asid *a = &mmu->priv->asid;

	if (a->next_id > SPACE_ID_MAX) {
		mmu->counters.flush_id_wrap++;
		tlb2_clear(mmu);
		tlb1_clear(mmu);
		for (unsigned i = 0; i < SPACES; i++)
			a->of[i].id = 0;
		a->next_id = a->floor_id = 1;
		a->global_id = a->next_id++;
		others_void(a, true, false);
	}
	return a->next_id++;
}

static uint32_t new_psc(struct mmu *mmu)
{
	struct asid *a = &mmu->priv->asid;

	if (a->next_psc == ~0u) {
		fill_bytes(&mmu->priv->psc, 0, sizeof(mmu->priv->psc));
		for (unsigned i = 0; i < SPACES; i++)
			a->of[i].psc = 0;
		a->next_psc = a->floor_psc = 1;
	}
	return a->next_psc++;
}

/* The ids that fetches run under now. In guest mode they are given when something is fetched (asid_fetched). */
static void publish(struct mmu *mmu)
{
	struct asid *a = &mmu->priv->asid;
	struct space_ids *s = asid_of(mmu, false), *u = asid_of(mmu, true);
	const bool now = !asid_in_guest(mmu);

	/* Asking for one may void the others: an epoch ends. */
	while (now && (!u->fetch_user || !a->global_fetch || (s->kernel_local && !s->fetch_kernel))) {
		if (!u->fetch_user)
			u->fetch_user = new_fetch_id(mmu);
		if (!a->global_fetch)
			a->global_fetch = new_fetch_id(mmu);
		if (s->kernel_local && !s->fetch_kernel)
			s->fetch_kernel = new_fetch_id(mmu);
	}
	mmu->fetch_id[1] = u->fetch_user;
	mmu->fetch_id[0] = s->kernel_local ? s->fetch_kernel : a->global_fetch;
}

static void void_fetch_ids(struct asid *a, bool user, bool kernel)
{
	for (unsigned i = 0; user && i < SPACES; i++)
		a->of[i].fetch_user = 0;
	for (unsigned i = 0; kernel && i < SPACES; i++)
		a->of[i].fetch_kernel = 0;
}

void asid_new_fetch_ids(struct mmu *mmu)
{
	struct asid *a = &mmu->priv->asid;

	void_fetch_ids(a, true, true);
	a->global_fetch = 0;
	others_void(a, false, true);
	a->next_fetch = 1;
	fetched_forget(mmu, true, true);
	a->user_global = false; /* kernel_local stays: this may come while it takes effect */
	filter_clear(&a->fetched_user);
	filter_clear(&a->fetched_kernel);
	for (unsigned i = 0; i < FETCH_CACHE; i++)
		mmu->priv->fetch[i].tag = 0;
	mmu->fetch_epoch++;
}

void asid_init(struct mmu *mmu)
{
	struct asid *a = &mmu->priv->asid;

	a->guest_in_l1 = GUEST_SPACES;
	a->next_id = a->floor_id = 1;
	a->next_psc = a->floor_psc = 1;
	a->next_fetch = 1;
	a->global_id = new_id(mmu);
	a->current_user = DIRECT_NO_ROOT;
	asid_switch(mmu, mmu->mode == PAGING_DIRECT ? DIRECT_NO_ROOT : 0);
}

/* Gives a space that was flushed new ids. */
static void revive(struct mmu *mmu, struct space_ids *s)
{
	struct asid *a = &mmu->priv->asid;

	if (s->id < a->floor_id) {
		s->id = 0;
		s->id = new_id(mmu);
		s->fetch_user = s->fetch_kernel = 0;
		s->kernel_local = false;
	}
	if (s->psc < a->floor_psc)
		s->psc = new_psc(mmu);
}

void asid_switch(struct mmu *mmu, unsigned pcid)
{
	struct asid *a = &mmu->priv->asid;

	a->current = pcid;
	if (mmu->mode != PAGING_DIRECT)
		a->current_user = pcid;
	revive(mmu, asid_of(mmu, false));
	revive(mmu, asid_of(mmu, true));
	/* Ids may have wrapped with the second. */
	revive(mmu, asid_of(mmu, false));
	publish(mmu);
}

static unsigned space_of_root(struct mmu *mmu, uint64_t root)
{
	struct asid *a = &mmu->priv->asid;
	const uint64_t frame = root >> PAGE_SHIFT;
	unsigned least = 0;

	if (!root || frame >= mmu->memory->pool.frames)
		return DIRECT_NO_ROOT;
	for (unsigned i = 0; i < DIRECT_NO_ROOT; i++)
		if (a->direct[i].root == root && a->direct[i].serial == pool_frame(&mmu->memory->pool, mfn(frame))->serial)
			return i;
	while (least == a->current || least == a->current_user)
		least++;
	for (unsigned i = least + 1; i < DIRECT_NO_ROOT; i++)
		if (a->direct[i].used < a->direct[least].used && i != a->current && i != a->current_user)
			least = i;
	a->direct[least] = (struct direct_root){ root, pool_frame(&mmu->memory->pool, mfn(frame))->serial, 0 };
	/* New ids: nobody finds the old ones' entries. */
	a->of[least] = (struct space_ids){ 0 };
	return least;
}

void asid_set_root(struct mmu *mmu, uint64_t root, bool user)
{
	struct asid *a = &mmu->priv->asid;
	const unsigned space = space_of_root(mmu, root);

	ASSERT(mmu->mode == PAGING_DIRECT);
	a->direct[space].used = ++a->direct_clock;
	if (user)
		a->current_user = space;
	asid_switch(mmu, user ? a->current : space);
}

static void global_begin(struct mmu *mmu, struct global_ids g)
{
	struct asid *a = &mmu->priv->asid;

	a->global_id = g.id ? g.id : new_id(mmu);
	a->global_fetch = g.fetch; /* 0: publish gives one */
}

void asid_enter_guest(struct mmu *mmu, unsigned guest)
{
	struct asid *a = &mmu->priv->asid;

	ASSERT(guest < GUEST_SPACES && !asid_in_guest(mmu) && mmu->mode != PAGING_DIRECT);
	a->host_global = (struct global_ids){ a->global_id, a->global_fetch };
	global_begin(mmu, a->guest[guest].global);
	asid_switch(mmu, PCIDS + guest);
}

void asid_leave_guest(struct mmu *mmu, unsigned pcid)
{
	struct asid *a = &mmu->priv->asid;

	ASSERT(asid_in_guest(mmu));
	a->guest[a->current - PCIDS].global = (struct global_ids){ a->global_id, a->global_fetch };
	global_begin(mmu, a->host_global);
	asid_switch(mmu, pcid);
}

void asid_flush(struct mmu *mmu, unsigned pcid)
{
	struct asid *a = &mmu->priv->asid;

	a->of[pcid].id = a->of[pcid].psc = 0;
	a->of[pcid].fetch_user = a->of[pcid].fetch_kernel = 0;
	a->of[pcid].kernel_local = false;
	if (pcid == a->current || pcid == a->current_user)
		asid_switch(mmu, a->current);
}

void asid_flush_all_local(struct mmu *mmu)
{
	struct asid *a = &mmu->priv->asid;

	a->floor_id = a->next_id;
	a->floor_psc = a->next_psc;
	asid_switch(mmu, a->current);
}

void asid_flush_global(struct mmu *mmu)
{
	struct asid *a = &mmu->priv->asid;

	/* The new id may be below the floor: only spaces are held against it. */
	a->global_id = new_id(mmu);
	a->global_fetch = 0;
	/* Code in global pages may have been fetched under spaces' own ids as well. */
	void_fetch_ids(a, a->user_global, a->kernel_local);
	a->user_global = false;
	asid_switch(mmu, a->current);
}

void asid_flush_other_globals(struct mmu *mmu) { others_void(&mmu->priv->asid, true, true); }

void asid_flush_guest(struct mmu *mmu, unsigned guest)
{
	struct asid *a = &mmu->priv->asid;

	if (a->current == PCIDS + guest) {
		a->global_id = new_id(mmu);
		a->global_fetch = 0;
	} else {
		a->guest[guest].global = (struct global_ids){ 0 };
	}
	asid_flush(mmu, PCIDS + guest);
}

void asid_new_psc(struct mmu *mmu) { asid_current(mmu)->psc = new_psc(mmu); }

static uint64_t fetched_number(uint64_t va, unsigned shift, uint32_t id) { return (va >> shift) << 8 ^ shift ^ (uint64_t)id << 48; }

/* The first fetch in a guest space since it was flushed. */
static void give_fetch_id(struct mmu *mmu, bool user, uint64_t data)
{
	struct asid *a = &mmu->priv->asid;
	struct space_ids *s = asid_of(mmu, user);
	const bool global = !user && !s->kernel_local;
	const bool alone = !global && !(data & PTE_G);
	uint32_t id = alone ? fetched_revive(mmu, user) : 0;

	if (!id) {
		id = new_fetch_id(mmu);
		if (alone)
			fetched_begin(mmu, id, user);
	}
	*(user ? &s->fetch_user : global ? &a->global_fetch : &s->fetch_kernel) = id;
	publish(mmu);
}

void asid_fetched(struct mmu *mmu, uint64_t va, bool user, uint64_t data, bool large)
{
	struct asid *a = &mmu->priv->asid;
	struct filter *f = user ? &a->fetched_user : &a->fetched_kernel;
	unsigned shift = data & TR_GUEST_HUGE ? 30 : data & TR_GUEST_2M ? 21 : 12;

	if (f->set > FILTER_FULL) {
		/* It answers "perhaps" too often. Without the ids that were fetched under, it may start empty. */
		filter_clear(f);
		void_fetch_ids(a, user, !user);
		fetched_forget(mmu, user, !user);
		if (user) {
			a->user_global = false;
		} else {
			a->global_fetch = 0;
			others_void(a, false, true);
		}
		publish(mmu);
	}
	if (!user && !(data & PTE_G) && !asid_current(mmu)->kernel_local) {
		a->kernel_local = asid_current(mmu)->kernel_local = true;
		asid_current(mmu)->fetch_kernel = 0;
		publish(mmu);
	}
	if (UNLIKELY(!mmu->fetch_id[user]))
		give_fetch_id(mmu, user, data);
	if (UNLIKELY(asid_in_guest(mmu)))
		fetched_note(mmu, va, user, data, large);
	if (user && (data & PTE_G)) {
		/* INVLPG in any space will remove it, so it is noted for all. */
		a->user_global = true;
		filter_add(f, fetched_number(va, shift, 0));
	} else {
		filter_add(f, fetched_number(va, shift, user ? mmu->fetch_id[1] : 0));
	}
}

static bool was_fetched(const struct filter *f, uint64_t va, uint32_t id)
{
	return filter_test(f, fetched_number(va, 12, id)) || filter_test(f, fetched_number(va, 21, id)) ||
	       filter_test(f, fetched_number(va, 30, id));
}

void asid_invalidate_fetched(struct mmu *mmu, uint64_t va)
{
	struct asid *a = &mmu->priv->asid;
	struct space_ids *s = asid_of(mmu, false);

	if (was_fetched(&a->fetched_user, va, mmu->fetch_id[1]))
		asid_of(mmu, true)->fetch_user = 0;
	if (a->user_global && was_fetched(&a->fetched_user, va, 0))
		void_fetch_ids(a, true, false);
	if (was_fetched(&a->fetched_kernel, va, 0)) {
		s->fetch_kernel = 0;
		a->global_fetch = 0;
		void_fetch_ids(a, false, a->kernel_local);
	}
	publish(mmu);
}
