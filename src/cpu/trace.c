/* trace.c - the processor's events (cpu/trace.h). */
#include "cpu/trace.h"

#include "x86/insn.h"

/* A paravirtualized kernel runs with CPL 3 too. */
static unsigned privilege(const struct vcpu *v) { return v->ring3_kernel ? 0 : v->cpl; }

struct program_call { struct vcpu *v; char name[48]; };

static void program_cold(void *arg)
{
	struct program_call *c = arg;

	c->v->mmu.trace->program(c->v->mmu.trace->opaque, c->v, c->name);
}

/* User code is left: the first time since another space was in force, who it is. */
static void left(struct vcpu *v)
{
	struct trace *t = v->mmu.trace;
	uint64_t space = v->cr3 & TRACE_SPACE;
	struct program_call c;
	struct trace_event *e;

	if (t->last_space == space || !t->program)
		return;
	t->last_space = space;
	c.v = v;
	c.name[0] = 0;
	fpu_call_cold(v, program_cold, &c);
	e = c.name[0] ? trace_reserve(t, TRACE_PROGRAM, 0) : NULL;
	if (!e)
		return;
	e->arg[0] = space;
	copy_bytes(&e->arg[1], c.name, sizeof(c.name));
	trace_commit(t);
}

static void who(const struct vcpu *v, struct trace_event *e)
{
	e->arg[0] = v->cr3 & TRACE_SPACE;
	e->arg[1] = v->seg[SEG_FS].base;
}

void vcpu_trace_syscall(struct vcpu *v, uint64_t return_to)
{
	struct trace_event *e;

	if (!trace_wants(v->mmu.trace, TRACE_CAT_SYSCALL))
		return;
	left(v);
	e = trace_reserve(v->mmu.trace, TRACE_SYSCALL, (uint32_t)v->gpr[RAX]);
	if (!e)
		return;
	who(v, e);
	e->arg[2] = return_to;
	e->arg[3] = v->counters.insns_executor;
	e->arg[4] = v->mmu.counters.tlb_l2_misses;
	trace_commit(v->mmu.trace);
}

void vcpu_trace_event(struct vcpu *v, unsigned vector, unsigned source, uint64_t rip, uint64_t frame, uint32_t error)
{
	struct trace_event *e;

	if (!trace_wants(v->mmu.trace, source == 1 ? TRACE_CAT_INTERRUPT : TRACE_CAT_EXCEPTION))
		return;
	if (privilege(v) == 3)
		left(v);
	e = trace_reserve(v->mmu.trace, TRACE_EVENT, trace_event_word(vector, source, privilege(v)));
	if (!e)
		return;
	who(v, e);
	e->arg[2] = rip;
	e->arg[3] = frame;
	e->arg[4] = error;
	e->arg[5] = vector == VEC_PF ? v->cr2 : 0;
	e->arg[6] = v->counters.insns_executor;
	e->arg[7] = v->mmu.counters.tlb_l2_misses;
	trace_commit(v->mmu.trace);
}

void vcpu_trace_return(struct vcpu *v, uint64_t rip, uint64_t frame)
{
	struct trace *t = v->mmu.trace;
	struct trace_event *e;

	if (!(t->wanted & (1u << TRACE_CAT_SYSCALL | 1u << TRACE_CAT_EXCEPTION | 1u << TRACE_CAT_INTERRUPT)))
		return;
	e = trace_reserve(t, TRACE_RETURN, privilege(v));
	if (!e)
		return;
	who(v, e);
	e->arg[2] = rip;
	e->arg[3] = frame;
	e->arg[4] = v->gpr[RAX];
	e->arg[5] = v->counters.insns_executor;
	e->arg[6] = v->mmu.counters.tlb_l2_misses;
	trace_commit(t);
}

void vcpu_trace_insn(struct vcpu *v, const struct insn *in)
{
	struct trace_event *e;

	if (!trace_wants(v->mmu.trace, TRACE_CAT_EXEC))
		return;
	e = trace_reserve(v->mmu.trace, TRACE_INSN, in->len | privilege(v) << 8);
	if (!e)
		return;
	e->arg[0] = v->rip;
	e->arg[1] = load_u64(in->bytes);
	e->arg[2] = 0;
	copy_bytes(&e->arg[2], in->bytes + 8, 7);
	trace_commit(v->mmu.trace);
}
