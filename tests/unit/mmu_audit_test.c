/*
 * mmu_audit_test.c - the audit finds each kind of damage, and names the invariant that it breaks.
 */
#include "mmu_util.h"

#define V 0x7f0000123000ull
#define W 0x7f0000124000ull

static char msg[300];

static void expect(struct guest *g, const char *invariant)
{
	msg[0] = 0;
	if (!mmu_audit(&g->mmu, msg, sizeof(msg)))
		fail_msg("no complaint; %s was broken", invariant);
	if (strncmp(msg, invariant, strlen(invariant)))
		fail_msg("%s was broken, the audit says: %s", invariant, msg);
}

static void expect_clean(struct guest *g)
{
	if (mmu_audit(&g->mmu, msg, sizeof(msg)))
		fail_msg("audit: %s", msg);
}

/* Changes a thing, expects the complaint, and changes it back. */
#define BREAKS(g, invariant, lvalue, value) do { \
		__typeof__(lvalue) was = (lvalue); \
		expect_clean(g); \
		(lvalue) = (value); \
		expect(g, invariant); \
		(lvalue) = was; \
		expect_clean(g); \
	} while (0)

static struct guest *guest_in_use(enum paging_mode mode)
{
	struct guest *g = guest_new(mode, PLACEMENT_SCATTER);

	guest_map(g, V, 0x5000 | PWU);
	guest_map(g, W, 0x6000 | PTE_P | PTE_U | PTE_G);
	EXPECT_MAPPED(g, V, ACC_WRITE | ACC_USER, 0x5000);
	EXPECT_MAPPED(g, W, ACC_READ | ACC_USER, 0x6000);
	return g;
}

static struct frame *frame_of(struct guest *g, uint64_t pa)
{
	struct p2m_entry e;

	assert_true(p2m_lookup(&g->memory, gpa(pa), &e));
	return pool_frame(&g->memory.pool, e.m);
}

IN_BOTH_MODES(damage_to_level_1_is_found)
{
	struct guest *g = guest_in_use(mode);
	struct tlb_entry *v = &g->mmu.l1[TLB_USER][tlb1_index(&g->mmu, TLB_USER, V)], *w = &g->mmu.l1[TLB_USER][tlb1_index(&g->mmu, TLB_USER, W)];

	BREAKS(g, "T1", v->tag_read, V + PAGE_SIZE);
	BREAKS(g, "T1", v->tag_read, V | 1ull << 50);
	BREAKS(g, "T1", v->tag_write, V + 1);
	BREAKS(g, "T1", g->mmu.l1[TLB_KERNEL][3].tag_write, 3 << PAGE_SHIFT);
	BREAKS(g, "T2", w->tag_write, w->tag_read); /* the guest grants no write */
	BREAKS(g, "T2", v->aux, v->aux & ~PTE_D);
	BREAKS(g, "T2", v->aux, v->aux & ~PTE_U);
	BREAKS(g, "T2", frame_of(g, 0x5000)->flags, frame_of(g, 0x5000)->flags | FRAME_PV_TYPE);
	BREAKS(g, "D1", frame_of(g, 0x5000)->flags, frame_of(g, 0x5000)->flags | FRAME_DIRTY_LOG);
	BREAKS(g, "T3", w->aux, w->aux & ~PTE_G);
	BREAKS(g, "T5", v->host, v->host + PAGE_SIZE);
	BREAKS(g, "T5", v->aux, v->aux | 1ull << 50);
	guest_free(g);
}

IN_BOTH_MODES(damage_to_level_2_and_to_stack_entries_is_found)
{
	struct guest *g = guest_in_use(mode);
	struct tlb2 *t = &g->mmu.priv->tlb2;
	struct tlb_stack *s = tlb1_stack(&g->mmu, TLB_USER);
	unsigned seen = 0;

	for (unsigned i = 0; i < ARRAY_LEN(t->small); i++) {
		for (unsigned w = 0; w < L2_WAYS; w++) {
			if (!t->small[i].tag[w])
				continue;
			seen++;
			BREAKS(g, "T3", t->small[i].data[w], t->small[i].data[w] ^ PTE_G);
			BREAKS(g, "T5", t->small[i].data[w], t->small[i].data[w] ^ 1ull << 43);
		}
	}
	assert_int_equal(seen, 2);
	s->tag = V;
	s->host = g->mmu.l1[TLB_USER][tlb1_index(&g->mmu, TLB_USER, V)].host;
	s->limit[0] = 4096;
	BREAKS(g, "T6", s->host, s->host + (g->memory.pool.frames << PAGE_SHIFT));
	guest_free(g);
}

IN_BOTH_MODES(damage_to_windows_is_found)
{
	struct guest *g = guest_in_use(mode);
	struct tlb_window *w = &g->mmu.window[TLB_USER][7], *read_only = &g->mmu.window[TLB_USER][8];

	mmu_window_make(&g->mmu, TLB_USER, 7, V);
	mmu_window_make(&g->mmu, TLB_USER, 8, W);
	BREAKS(g, "T9", w->delta, w->delta + (g->memory.pool.frames << PAGE_SHIFT));
	BREAKS(g, "T9", w->limit[2][1], w->limit[2][1] + 1);
	BREAKS(g, "T9", w->limit[1][0], w->limit[0][0]);
	BREAKS(g, "T9", w->base, w->base + 8);
	BREAKS(g, "T9", g->mmu.window_live[TLB_USER][7], 0);
	frame_of(g, 0x6000)->flags |= FRAME_CODE;
	BREAKS(g, "T9", read_only->limit[0][1], read_only->limit[0][0]); /* watched since */
	frame_of(g, 0x6000)->flags &= ~(uint32_t)FRAME_CODE;
	guest_free(g);
}

IN_BOTH_MODES(damage_to_the_p2m_is_found)
{
	struct guest *g = guest_in_use(mode);

	BREAKS(g, "M1", frame_of(g, 0x5000)->gfn, 9);
	BREAKS(g, "M1", frame_of(g, 0x5000)->flags, 0);
	BREAKS(g, "M2", g->memory.backed, g->memory.backed + 1);
	BREAKS(g, "M1", g->memory.region[0].len, 0x5000);
	guest_free(g);
}

static void damage_to_shadow_tables_is_found(void **state)
{
	struct guest *g = guest_in_use(PAGING_SHADOW);
	struct shadow *s = g->memory.shadow;
	struct p2m_entry frame;
	uint64_t slot = guest_slot(g, g->root, V, 1), pde = guest_slot(g, g->root, V, 2), *guest;
	struct shadow_page *leaf, *dir;
	uint64_t *e, *link;

	(void)state;
	assert_true(p2m_lookup(&g->memory, gpa(slot), &frame));
	guest = (uint64_t *)((uint8_t *)pool_ptr(&g->memory.pool, frame.m) + (slot & 0xff8));
	leaf = shadow_page_find(s, frame.m, slot >> PAGE_SHIFT, 1 | ROLE_NXE);
	assert_non_null(leaf);
	e = &leaf->entry[slot >> 3 & 511];
	assert_true(p2m_lookup(&g->memory, gpa(pde), &frame));
	dir = shadow_page_find(s, frame.m, pde >> PAGE_SHIFT, 2 | ROLE_NXE);
	assert_non_null(dir);
	link = &dir->entry[pde >> 3 & 511];
	BREAKS(g, "S1", *guest, 0x6000 | PWU | PTE_A | PTE_D); /* a write that nobody followed */
	BREAKS(g, "S1", *guest, *guest & ~PTE_W);
	BREAKS(g, "S1", *guest, *guest | 1ull << 40);
	BREAKS(g, "S1", *e, *e | PTE_NX);
	BREAKS(g, "S2", *e, *e ^ 1ull << 43);
	BREAKS(g, "S3", frame_of(g, slot)->flags, FRAME_ALLOCATED);
	BREAKS(g, "S3", frame_of(g, 0x6000)->flags, FRAME_ALLOCATED | FRAME_TABLE);
	BREAKS(g, "S4", *link, (*link & ~(0xfffffull << 12)) | (uint64_t)shadow_index(s, dir) << 12);
	BREAKS(g, "S5", leaf->present, 77);
	BREAKS(g, "S5", s->live, s->live + 1);
	BREAKS(g, "S5", s->limit, 2);
	guest_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(damage_to_level_1_is_found),
		cmocka_unit_test(damage_to_level_2_and_to_stack_entries_is_found),
		cmocka_unit_test(damage_to_windows_is_found),
		cmocka_unit_test(damage_to_the_p2m_is_found),
		cmocka_unit_test(damage_to_shadow_tables_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
