/*
 * profile_rank.c - groups the rows of a profile's tables by symbol, page, program or row, and ranks the groups.
 */
#include "vm/profile_report.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vm/vm_internal.h"
#include "x86/insn.h"

static const char *sample_name(unsigned column) { return profile_sample_names[column]; }

#define TABLE(member) offsetof(struct vm_profile, member)
const struct profile_view profile_views[] = {
	{ "spaces", "Time by who ran", GRAIN_SPACE, TABLE(vcpu.samples), 0, SAMPLE_COLUMNS, sample_name, 20 },
	{ "functions", "Time by guest function (without a symbol: by page)", GRAIN_SYMBOL, TABLE(vcpu.samples), 0, SAMPLE_COLUMNS, sample_name, 40 },
	{ "blocks", "Time by block, or by instruction where C worked for it", GRAIN_ROW, TABLE(vcpu.samples), 0, SAMPLE_COLUMNS, sample_name, 30 },
	{ "exits", "Exits of translated code to C, by guest function", GRAIN_SYMBOL, TABLE(vcpu.bt.events), PROFILE_LEAVE, 6, profile_event_name, 30 },
	{ "exit_sites", "Exits of translated code to C, by instruction", GRAIN_ROW, TABLE(vcpu.bt.events), PROFILE_LEAVE, 6, profile_event_name, 30 },
	{ "executor", "Instructions that the executor did", GRAIN_MNEMONIC, TABLE(vcpu.bt.insns), 0, 1, 0, 30 },
	{ "executor_insns", "Instructions that the executor did, with their operands", GRAIN_INSN, TABLE(vcpu.bt.insns), 0, 1, 0, 30 },
	{ "executor_time", "Time in the executor, by instruction", GRAIN_MNEMONIC, TABLE(vcpu.insns), 0, 1, 0, 20 },
	{ "tlb_misses", "TLB misses of translated code, by guest function", GRAIN_SYMBOL, TABLE(vcpu.bt.events), PROFILE_REFILL, 2, profile_event_name, 30 },
	{ "strings", "String instructions done in C, by guest function", GRAIN_SYMBOL, TABLE(vcpu.bt.events), PROFILE_STRING, 1, 0, 15 },
	{ "translations", "Blocks made, and stores that hit translated code, by guest function", GRAIN_SYMBOL, TABLE(vcpu.bt.events), PROFILE_TRANSLATION, 2,
	  profile_event_name, 30 },
	{ "invalidations", "Blocks dropped because their code was written, by guest function", GRAIN_SYMBOL, TABLE(bt.killed), 0, 1, 0, 20 },
	{ "own", "Time in Trifold's own code", GRAIN_OWN, TABLE(vcpu.own), 0, 1, 0, 40 },
};
#undef TABLE
const size_t profile_view_count = ARRAY_LEN(profile_views);

static const struct profile_table *view_table(const struct vm_profile *p, const struct profile_view *view)
{
	return (const struct profile_table *)((const char *)p + view->table);
}

/* What of a row's space keeps groups apart: one program under many page tables is one. */
static uint64_t rank_group(const struct vm_profile *p, const struct profile_view *view, uint64_t space)
{
	if (view->grain == GRAIN_MNEMONIC)
		return 0;
	if (view->grain == GRAIN_INSN)
		return space;
	const char *name = space & 1 ? profile_program_name(p, space) : 0;

	for (unsigned i = 0; name && i < p->programs; i++)
		if (!strcmp(p->program[i].name, name))
			return p->program[i].space;
	return space;
}

static void name_space(const struct vm_profile *p, uint64_t space, char *out, size_t size)
{
	const char *name = space & 1 ? profile_program_name(p, space) : 0;

	if (!space)
		snprintf(out, size, "kernel");
	else if (name)
		snprintf(out, size, "%s", name);
	else if (space == 1)
		snprintf(out, size, "user");
	else
		snprintf(out, size, "cr3 0x%llx", (unsigned long long)(space & SPACE_TABLE));
}

/* A struct profile_insn decoded again. What stands for its kind: mnemonic, class << 16, control, debug or segment register << 24. */
static uint64_t decode_insn(uint64_t va, uint64_t space, struct insn *in)
{
	uint8_t bytes[16];

	store_u64(bytes, va);
	store_u64(bytes + 8, space);
	insn_decode(in, bytes, 15, (enum insn_mode)(space >> 60 & 3));
	const bool system = in->cls == INSN_MOV_FROM_CR || in->cls == INSN_MOV_TO_CR || in->cls == INSN_MOV_FROM_DR || in->cls == INSN_MOV_TO_DR;
	const bool segment = in->cls == INSN_MOV_FROM_SEG || in->cls == INSN_MOV_TO_SEG;
	return in->mnemonic | (uint64_t)in->cls << 16 | (uint64_t)(system ? in->reg2 : segment ? in->sreg : 0) << 24;
}

static void name_kind(const struct insn *in, char *out, size_t size)
{
	static const char *const segments[] = { [SEG_ES] = "es", [SEG_CS] = "cs", [SEG_SS] = "ss", [SEG_DS] = "ds", [SEG_FS] = "fs", [SEG_GS] = "gs" };
	const char *segment = in->sreg < ARRAY_LEN(segments) ? segments[in->sreg] : "?";

	switch (in->cls) {
	case INSN_MOV_TO_CR: snprintf(out, size, "mov cr%u, ...", in->reg2); break;
	case INSN_MOV_FROM_CR: snprintf(out, size, "mov ..., cr%u", in->reg2); break;
	case INSN_MOV_TO_DR: snprintf(out, size, "mov dr%u, ...", in->reg2); break;
	case INSN_MOV_FROM_DR: snprintf(out, size, "mov ..., dr%u", in->reg2); break;
	case INSN_MOV_TO_SEG: snprintf(out, size, "mov %s, ...", segment); break;
	case INSN_MOV_FROM_SEG: snprintf(out, size, "mov ..., %s", segment); break;
	default: snprintf(out, size, "%s", insn_mnemonic(in->mnemonic));
	}
}

/* What a row belongs to: the group's address and its name. */
static void rank_name(const struct vm_profile *p, const struct symbols *own, const struct profile_view *view, uint64_t va, uint64_t space,
		      uint64_t *address, char *name, size_t size)
{
	uint64_t offset = 0;
	const char *symbol;
	struct insn in;
	Dl_info info;

	*address = va;
	switch (view->grain) {
	case GRAIN_SPACE:
		*address = 0;
		name_space(p, space, name, size);
		break;
	case GRAIN_MNEMONIC:
		*address = decode_insn(va, space, &in);
		name_kind(&in, name, size);
		break;
	case GRAIN_INSN:
		decode_insn(va, space, &in);
		insn_format(&in, 0, name, size);
		break;
	case GRAIN_OWN:
		symbol = symbols_find(own, va, &offset);
		if (symbol) {
			*address = va - offset;
			snprintf(name, size, "%s", symbol);
		} else if (dladdr((void *)(uintptr_t)va, &info) && info.dli_fname) {
			const char *slash = strrchr(info.dli_fname, '/');
			*address = (uint64_t)(uintptr_t)(info.dli_saddr ? info.dli_saddr : info.dli_fbase);
			snprintf(name, size, "%s in %s", info.dli_sname ? info.dli_sname : "?", slash ? slash + 1 : info.dli_fname);
		} else {
			*address = va & PAGE_MASK;
			snprintf(name, size, "?");
		}
		break;
	case GRAIN_ROW:
		symbol = profile_symbol(p, va, space, &offset);
		if (symbol)
			snprintf(name, size, "%s+0x%llx", symbol, (unsigned long long)offset);
		else
			snprintf(name, size, "0x%llx", (unsigned long long)va);
		break;
	case GRAIN_SYMBOL:
		symbol = profile_symbol(p, va, space, &offset);
		*address = symbol ? va - offset : va & PAGE_MASK;
		if (symbol)
			snprintf(name, size, "%s", symbol);
		else
			snprintf(name, size, "page 0x%llx", (unsigned long long)*address);
		break;
	}
}

/* Rows on their way to groups. */
struct rank_row { uint64_t address, space; const struct profile_row *row; };

static int rank_by_key(const void *a, const void *b)
{
	const struct rank_row *x = a, *y = b;

	if (x->space != y->space)
		return x->space < y->space ? -1 : 1;
	return x->address < y->address ? -1 : x->address > y->address;
}

static int rank_by_total(const void *a, const void *b)
{
	const struct profile_group *x = a, *y = b;

	if (x->total != y->total)
		return x->total > y->total ? -1 : 1;
	return x->address < y->address ? -1 : x->address > y->address;
}

static uint64_t rank_add(struct profile_group *g, const struct profile_view *view, const struct profile_row *r)
{
	uint64_t total = 0;

	for (unsigned c = 0; c < view->columns; c++) {
		g->count[c] += r->count[view->first + c];
		total += r->count[view->first + c];
	}
	g->total += total;
	return total;
}

int profile_rank(struct vm *vm, const struct profile_view *view, struct profile_ranking *out)
{
	const struct vm_profile *p = vm->profile;
	const struct profile_table *t = view_table(p, view);
	struct rank_row *rows = calloc(t->rows, sizeof(*rows));
	struct symbols own = { 0 };
	size_t n = 0;
	char name[128];

	*out = (struct profile_ranking){ .view = view, .group = calloc(t->rows, sizeof(*out->group)) };
	if (!rows || !out->group) {
		free(rows);
		return -ENOMEM;
	}
	if (view->grain == GRAIN_OWN)
		symbols_add_own(&own);
	for (unsigned c = 0; c < view->columns; c++) {
		out->all.count[c] = t->other[view->first + c];
		out->all.total += out->all.count[c];
	}
	for (uint32_t i = 0; i < t->rows; i++) {
		const struct profile_row *r = &t->row[i];
		if (!rank_add(&out->all, view, r))
			continue;
		rows[n] = (struct rank_row){ .space = rank_group(p, view, r->space), .row = r };
		rank_name(p, &own, view, r->va, r->space, &rows[n].address, name, sizeof(name));
		n++;
	}
	qsort(rows, n, sizeof(*rows), rank_by_key);
	for (size_t i = 0; i < n; i++) {
		struct profile_group *g = &out->group[out->groups];
		if (!i || rank_by_key(&rows[i - 1], &rows[i])) {
			uint64_t address;
			out->groups++;
			g->address = rows[i].address;
			rank_name(p, &own, view, rows[i].row->va, rows[i].row->space, &address, g->name, sizeof(g->name));
			if (view->grain == GRAIN_ROW || view->grain == GRAIN_SYMBOL)
				name_space(p, rows[i].space, g->where, sizeof(g->where));
		}
		rank_add(&out->group[out->groups - 1], view, rows[i].row);
	}
	qsort(out->group, out->groups, sizeof(*out->group), rank_by_total);
	symbols_free(&own);
	free(rows);
	return 0;
}

void profile_rank_free(struct profile_ranking *r)
{
	free(r->group);
	r->group = 0;
}
