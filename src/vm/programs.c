/*
 * programs.c - which program a guest's user address space belongs to, for the profile and the trace.
 *
 * Linux puts the path of the program that execve was given at the very end of the first thread's stack: a string, then eight
 * zero bytes up to the end of the last page (fs/exec.c, bprm_stack_limits and copy_string_kernel). So it is found by walking up from RSP as far as
 * pages are mapped, and over the hole that randomization can leave: up to 8 KiB between the strings and what the kernel puts
 * below them (arch_align_stack), of which nobody has touched a page yet. What is found is checked to look like a path; where
 * nothing is, the space goes by its number.
 */
#include "vm/profile.h"

#include <string.h>

#include "mmu/explain.h"
#include "vm/vm_internal.h"

#define STACK_PAGES_MAX 64u
#define HOLE_PAGES_MAX 2u
#define PATH_BYTES 256u

/* Does a path end eight bytes before the end of these, which are the end of a page? Its last part goes to name. */
static bool path_at_end(const char data[PATH_BYTES], char *name, size_t size)
{
	const size_t end = PATH_BYTES - 9;
	size_t start = end;

	if (load_u64(data + end + 1) || data[end])
		return false;
	while (start && data[start - 1] > ' ' && data[start - 1] < 127)
		start--;
	if (!start || data[start - 1] || start == end)
		return false;
	const char *base = memrchr(data + start, '/', end - start);
	snprintf(name, size, "%s", base ? base + 1 : data + start);
	return name[0] != 0;
}

/* The vDSO may follow right behind the stack, so the last page of the run need not be the stack's. */
bool program_path(struct vcpu *v, char *name, size_t size)
{
	uint64_t va = v->gpr[RSP] & PAGE_MASK;
	char data[PATH_BYTES];
	bool found = false;
	unsigned hole = 0;

	for (unsigned i = 0; i < STACK_PAGES_MAX && hole <= HOLE_PAGES_MAX; i++, va += PAGE_SIZE)
		if (!mmu_peek(&v->mmu, gva(va + PAGE_SIZE - PATH_BYTES), ACC_READ | ACC_USER, data, PATH_BYTES)) {
			hole++;
		} else {
			hole = 0;
			found |= path_at_end(data, name, size);
		}
	return found;
}

static struct profile_program *program_find(struct vm_profile *p, uint64_t space)
{
	for (unsigned i = p->programs; i-- > 0;)	/* the latest are asked for most */
		if (p->program[i].space == space)
			return &p->program[i];
	return 0;
}

void profile_user(void *opaque, struct vcpu *v)
{
	struct vm *vm = opaque;
	struct vm_profile *p = vm->profile;
	uint16_t *instance = &p->vcpu.bt.instance[space_slot(v->cr3)];
	struct profile_program found, *known = program_find(p, profile_space(v));

	if (!program_path(v, found.name, sizeof(found.name)) || (known && !strcmp(known->name, found.name)))
		return;
	/* Another program has taken over the table (its frame was freed and used again). */
	if (known)
		*instance = (uint16_t)((*instance + 1) % SPACE_INSTANCES);
	found.space = profile_space(v);
	known = program_find(p, found.space);
	if (known)
		*known = found;
	else if (p->programs < PROFILE_PROGRAMS)
		p->program[p->programs++] = found;
}

const char *profile_program_name(const struct vm_profile *p, uint64_t space)
{
	const struct profile_program *found = program_find((struct vm_profile *)p, space);

	return found ? found->name : 0;
}
