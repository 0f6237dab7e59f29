/*
 * explain_text.c - `explain` in words: one struct explain (mmu/explain.h) as lines for people.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "mmu/explain.h"
#include "vm/control.h"
#include "x86/regs.h"

static const struct flag { uint64_t bit; const char *name; } flags[] = {
	{ PTE_P, "P" }, { PTE_W, "W" }, { PTE_U, "U" }, { PTE_PWT, "PWT" }, { PTE_PCD, "PCD" }, { PTE_A, "A" }, { PTE_D, "D" },
	{ PTE_PS, "PS" }, { PTE_G, "G" }, { PTE_NX, "NX" },
};

static void print_flags(FILE *out, uint64_t entry)
{
	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		if (entry & flags[i].bit)
			fprintf(out, " %s", flags[i].name);
	if (!(entry & PTE_P))
		fputs(" (not present)", out);
}

static const char *size_name(unsigned shift)
{
	return shift == 12 ? "4 KiB" : shift == 21 ? "2 MiB" : shift == 22 ? "4 MiB" : "1 GiB";
}

static void print_watched(FILE *out, uint32_t watched)
{
	static const struct { uint32_t flag; const char *name; } why[] = {
		{ FRAME_CODE, "translated code" }, { FRAME_TABLE, "a shadowed page table" }, { FRAME_DIRTY_LOG, "the dirty log" },
		{ FRAME_SHARED, "equal pages share the frame" },
	};
	const char *sep = "; stores are watched: ";

	for (size_t i = 0; i < ARRAY_LEN(why); i++) {
		if (!(watched & why[i].flag))
			continue;
		fprintf(out, "%s%s", sep, why[i].name);
		sep = ", ";
	}
}

/* The second dimension of one address, indented below what it is of. */
static void print_nested(FILE *out, const struct explain_nested *n, bool direct)
{
	if (direct) {
		fprintf(out, "      m 0x%" PRIx64, n->m.v);
		if (!n->ram)
			fputs(" is not the domain's", out);
		else if (n->p.v == ~0ull)
			fputs(" is no page of the guest's", out);
		else
			fprintf(out, " is p 0x%" PRIx64, n->p.v);
		if (n->read_only)
			fputs("; no mapping may write it", out);
		print_watched(out, n->watched);
		fputc('\n', out);
		return;
	}
	if (n->nest_top) {
		fprintf(out, "      L2 p 0x%" PRIx64 "\n", n->l2.v);
		for (unsigned level = n->nest_top; level >= n->nest_bottom && level; level--) {
			const struct explain_nest *e = &n->nest[level];

			fprintf(out, "        nested level %u  [p 0x%" PRIx64, level, e->at.v);
			if (mfn_valid(e->m))
				fprintf(out, ", m 0x%" PRIx64, e->m.v);
			fprintf(out, "] = 0x%016" PRIx64 " ", e->entry);
			print_flags(out, e->entry);
			fputc('\n', out);
		}
		if (n->p.v == ~0ull) {
			fputs("      the nested table does not lead to it\n", out);
			return;
		}
	}
	if (!n->ram) {
		fprintf(out, "      p 0x%" PRIx64 " is not RAM\n", n->p.v);
		return;
	}
	fprintf(out, "      p 0x%" PRIx64 " ->", n->p.v);
	if (n->backed)
		fprintf(out, " m 0x%" PRIx64, n->m.v);
	else
		fputs(n->swapped ? " swapped out" : " no frame yet (reads as zeros)", out);
	print_watched(out, n->watched);
	fputs("\n        p2m", out);
	/* Of tables too: the rights of an address are those that all its entries give. */
	for (unsigned level = n->top; level >= n->bottom && level; level--) {
		const uint64_t e = n->entry[level];

		if (!(e & PTE_P))
			fprintf(out, " %u:%s", level, e ? "swapped out" : "empty");
		else if (level == 1 || (e & PTE_PS))
			fprintf(out, " %u:leaf of %s", level, size_name(level == 1 ? 12 : 21)), print_flags(out, e);
		else
			fprintf(out, " %u:table", level), print_flags(out, e);
		if (level > n->bottom)
			fputc(',', out);
	}
	fputc('\n', out);
}

static void print_tables(FILE *out, const struct explain *x)
{
	fputs(x->direct ? "v to m, the guest's tables\n" : "v to p, the guest's tables\n", out);
	for (unsigned i = 0; i < x->steps; i++) {
		const struct explain_step *s = &x->step[i];

		fprintf(out, "  level %u  [%c 0x%" PRIx64 "] = 0x%016" PRIx64 " ", s->level, x->direct ? 'm' : 'p', s->at.v, s->entry);
		print_flags(out, s->entry);
		fprintf(out, "%s\n", s->leaf ? "  leaf" : "");
		print_nested(out, &s->table, x->direct);
	}
	if (!x->mapped)
		return;
	fprintf(out, "  v 0x%" PRIx64 " is in a page of %s:", x->va, size_name(x->shift));
	fprintf(out, " %s, %s, %s%s%s\n", x->rights & PTE_U ? "user" : "kernel only", x->rights & PTE_W ? "writable" : "read-only",
		x->rights & PTE_NX ? "not executable" : "executable", x->rights & PTE_D ? ", dirty" : "", x->rights & PTE_G ? ", global" : "");
	fputs(x->direct ? "m to p\n" : "p to m\n", out);
	print_nested(out, &x->page, x->direct);
	if (x->direct) {
		/* One dimension; what p it is matters to the guest only. */
		fprintf(out, "  v 0x%" PRIx64 " -> m 0x%" PRIx64 " + 0x%" PRIx64 "\n", x->va, x->page.m.v, (uint64_t)(x->va & (PAGE_SIZE - 1)));
		fprintf(out, "  a walk with empty caches reads %u entries, all of the guest's tables\n", x->refs_guest);
		return;
	}
	if (x->page.backed)
		fprintf(out, "  v 0x%" PRIx64 " -> p 0x%" PRIx64 " -> m 0x%" PRIx64 " + 0x%" PRIx64 "\n", x->va, x->p.v, x->page.m.v,
			(uint64_t)(x->va & (PAGE_SIZE - 1)));
	fprintf(out, "  a walk with empty caches reads %u entries: %u of the guest's tables, ", x->refs_guest + x->refs_nest + x->refs_nested, x->refs_guest);
	if (x->refs_nest)
		fprintf(out, "at least %u of the nested table, ", x->refs_nest);
	fprintf(out, "%u of the p2m\n", x->refs_nested);
}

static void print_shadow(FILE *out, const struct explain *x)
{
	if (!x->shadowed)
		return;
	fputs("v to m, the shadow tables\n", out);
	if (x->shadow_void)
		fputs("  out of date (the p2m or, by a device, a table changed): put right before the next use\n", out);
	else if (!x->shadows)
		fputs("  no shadow root for this CR3\n", out);
	for (unsigned i = 0; i < x->shadows; i++) {
		const struct explain_shadow *s = &x->shadow[i];
		const bool leaf = s->level == 1 || (s->entry & PTE_PS);

		fprintf(out, "  level %u  page %u, %s p 0x%" PRIx64 "%s: ", s->level, s->page, s->direct ? "splits a large page at" : "shadows the table at",
			s->gfn << PAGE_SHIFT, s->direct ? "" : s->loose ? ", not watched" : ", watched");
		if (!s->entry)
			fputs("empty\n", out);
		else if (leaf)
			fprintf(out, "-> m 0x%" PRIx64, (uint64_t)((s->entry & 0x000ffffffffff000ull) >> PAGE_SHIFT)), print_flags(out, s->entry),
				fprintf(out, "%s\n", s->stale ? "  stale: the guest's entry says something else now" : "");
		else
			fprintf(out, "-> page %u%s", (uint32_t)(s->entry >> PAGE_SHIFT) & 0xfffff, i + 1 < x->shadows ? "" : " (gone)"),
				print_flags(out, s->entry & (PTE_P | PTE_W | PTE_U | PTE_A | PTE_NX)), fputc('\n', out);
	}
}

/* Whose an entry of the TLB is. */
static void print_space(FILE *out, const struct explain *x, bool global, uint32_t id)
{
	if (global)
		fputs("global", out);
	else
		fprintf(out, "local to space %u (PCID %u)", id, x->pcid);
}

static void print_tlb(FILE *out, const struct explain *x)
{
	static const char *const sets[TLB_WORLD] = { "kernel", "kernel that may touch user pages", "user" };
	bool any = x->psc_level;

	fputs("TLB\n", out);
	if (x->psc_level)
		fprintf(out, "  paging-structure cache: a walk begins at the level-%u table at p 0x%" PRIx64 "\n", x->psc_level, x->psc_table.v);
	for (unsigned s = 0; s < TLB_WORLD; s++) {
		if (!x->tlb1[s].read)
			continue;
		any = true;
		fprintf(out, "  level 1, %s: %s, ", sets[s], x->tlb1[s].write ? "reads and writes" : "reads");
		print_space(out, x, x->tlb1[s].global, x->space_id);
		fprintf(out, " -> m 0x%" PRIx64 "%s\n", x->tlb1[s].m.v, x->stack[s] ? "; and the entry for the stack" : "");
	}
	for (unsigned i = 0; i < x->tlb2s; i++) {
		const struct explain_tlb2 *e = &x->tlb2[i];

		any = true;
		fprintf(out, "  level 2, %s: ", e->large ? "2 MiB" : "4 KiB");
		print_space(out, x, e->global, e->id);
		fprintf(out, " -> m 0x%" PRIx64 "%s%s%s%s\n", e->m.v, e->write ? " W" : "", e->user ? " U" : "", e->dirty ? " D" : "", e->nx ? " NX" : "");
	}
	for (unsigned user = 0; user < 2; user++)
		if (x->fetched[user])
			any = true, fprintf(out, "  fetched from, %s\n", user ? "user" : "kernel");
	if (!any)
		fputs("  nothing\n", out);
}

static void print_guest_fault(FILE *out, const struct explain_access *a)
{
	static const char *const causes[] = {
		[CAUSE_NONE] = "", [CAUSE_NOT_PRESENT] = "is not present", [CAUSE_RESERVED] = "has reserved bits set",
		[CAUSE_TABLE_NOT_RAM] = "lies outside RAM", [CAUSE_NOT_WRITABLE] = "does not allow writes",
		[CAUSE_NOT_USER] = "does not allow user accesses", [CAUSE_NO_EXEC] = "does not allow fetches",
		[CAUSE_SMEP] = "SMEP: the kernel may not fetch from user pages", [CAUSE_SMAP] = "SMAP: the kernel may not touch user pages unless AC is set",
		[CAUSE_NOT_OWNED] = "leads to a frame that is not the domain's", [CAUSE_TYPED] = "leads to a frame that no mapping may write: a table's, or the monitor's",
	};

	fprintf(out, "guest fault #PF, error 0x%x: ", a->error);
	if (a->cause == CAUSE_NO_ROOT) {
		fputs("there is no table for it\n", out);
		return;
	}
	if (a->cause == CAUSE_SMEP || a->cause == CAUSE_SMAP)
		fprintf(out, "%s\n", causes[a->cause]);
	else
		fprintf(out, "the level-%u entry %s\n", a->level, causes[a->cause]);
}

static void print_access(FILE *out, const struct explain_access *a)
{
	static const char *const by[] = { [BY_TLB1] = "TLB level 1", [BY_TLB2] = "TLB level 2", [BY_SHADOW] = "the shadow tables", [BY_WALK] = "a walk" };
	static const struct { uint32_t flag; const char *text; } hidden[] = {
		{ HIDDEN_NOT_BACKED, "the page gets a frame" }, { HIDDEN_SWAPPED, "the page comes back from the swap file" }, { HIDDEN_NOT_PRESENT, "the shadow entry is made" },
		{ HIDDEN_DIRTY, "the shadow entry does not say yet what the guest's does" },
		{ HIDDEN_WRITE_PROTECTED, "a shadowed page table: the store is followed" }, { HIDDEN_CODE, "translated code lies there: the store is looked at" },
		{ HIDDEN_SHARED, "the page shares its frame with equal ones and gets its own" }, { HIDDEN_LOG, "the dirty log notes the page" },
	};
	const char *sep = "; hidden fault: ";
	char who[40];

	snprintf(who, sizeof(who), "%s %s%s", a->access & ACC_USER ? "user" : "kernel",
		 a->access & ACC_EXEC ? "fetch" : a->access & ACC_WRITE ? "write" : "read", a->access & ACC_AC ? " (AC)" : "");
	fprintf(out, "  %-18s ", who);
	if (a->nest_fault) {
		fprintf(out, "nested page fault #NPF at L2 p 0x%" PRIx64 ", EXITINFO1 0x%" PRIx64 ": the hypervisor's\n", a->p.v, a->nest_error);
		return;
	}
	if (a->guest_fault) {
		print_guest_fault(out, a);
		return;
	}
	fprintf(out, "%s %s", a->device ? "device, found by" : "allowed by", by[a->by]);
	for (size_t i = 0; i < ARRAY_LEN(hidden); i++) {
		if (!(a->hidden & hidden[i].flag))
			continue;
		fprintf(out, "%s%s", sep, hidden[i].text);
		sep = "; ";
	}
	if (a->unflushed)
		fprintf(out, "; it goes to p 0x%" PRIx64 ": the tables have changed, but the guest has not flushed", a->p.v);
	fputc('\n', out);
}

bool explain_filter_add(struct explain_filter *f, const char *word)
{
	const struct { const char *name; bool *wanted; } words[] = {
		{ "read", &f->read }, { "write", &f->write }, { "fetch", &f->fetch }, { "kernel", &f->kernel }, { "user", &f->user },
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (!strcmp(word, words[i].name))
			return *words[i].wanted = true;
	return false;
}

static bool explain_wanted(const struct explain_filter *f, unsigned access)
{
	const bool kind = access & ACC_EXEC ? f->fetch : access & ACC_WRITE ? f->write : f->read, who = access & ACC_USER ? f->user : f->kernel;

	return (kind || !(f->read || f->write || f->fetch)) && (who || !(f->kernel || f->user));
}

void control_print_explain(FILE *out, const struct explain *x, const struct explain_filter *filter)
{
	if (!x->paging || !x->canonical) {
		fprintf(out, "v 0x%" PRIx64 ": %s\n", x->va, x->canonical ? "paging is off: v is p" :
			"not canonical: any access is #GP (#SS through the stack), the guest's");
		return;
	}
	fprintf(out, "v 0x%" PRIx64 ", CR3 0x%" PRIx64 "%s, PCID %u, %s paging, mode %s\n", x->va, x->cr3, x->current ? "" : " (not the current one)",
		x->pcid, x->format->name, x->direct ? "direct" : x->mode == PAGING_AUTO ? x->shadowed ? "auto (this space: shadow)" : "auto (this space: nested)" :
		x->mode != PAGING_SHADOW ? "nested" : x->shadowed ? "shadow" :
		"shadow (nested walk for this format)");
	if (x->nested_guest)
		fprintf(out, "a guest of the guest, ASID %u, nCR3 0x%" PRIx64 ": what its tables call p is L2 p, translated by the nested table\n", x->guest_asid, x->ncr3);
	else if (x->guest_asid)
		fprintf(out, "a guest of the guest, ASID %u, without nested paging\n", x->guest_asid);
	if (x->for_kernel && x->user_cr3)
		fprintf(out, "the kernel's table; that of the user is another: --cr3 0x%" PRIx64 "\n", x->user_cr3);
	else if (x->for_kernel)
		fputs("the kernel's table; the user has none\n", out);
	else if (x->for_user)
		fputs("the user's table; that of the kernel is another\n", out);
	print_tables(out, x);
	print_shadow(out, x);
	print_tlb(out, x);
	fputs("an access now\n", out);
	for (unsigned i = 0; i < x->accesses; i++)
		if (explain_wanted(filter, x->access[i].access))
			print_access(out, &x->access[i]);
}
