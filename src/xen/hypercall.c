/*
 * hypercall.c - the table of hypercalls, and multicall. A number that has no row is answered with -ENOSYS.
 */
#include "xen/xen_internal.h"

static xen_handler do_multicall;

/* Hot ones first: the search is linear. */
#define CALLS(CALL) \
	CALL(iret) CALL(multicall) CALL(mmu_update) CALL(mmuext_op) CALL(update_va_mapping) CALL(xen_version) CALL(stack_switch) \
	CALL(set_segment_base) CALL(vcpu_op) CALL(sched_op) CALL(event_channel_op) CALL(fpu_taskswitch) CALL(set_debugreg) CALL(get_debugreg) \
	CALL(set_timer_op) CALL(set_trap_table) CALL(set_callbacks) CALL(callback_op) CALL(memory_op) CALL(update_descriptor) CALL(set_gdt) \
	CALL(update_va_mapping_otherdomain) CALL(vm_assist) CALL(physdev_op) CALL(grant_table_op) CALL(console_io)

#define xen_do_multicall do_multicall
static const struct hypercall_row {
	uint8_t number;
	const char *name;
	xen_handler *handler;
} rows[] = {
#define ROW(n) { __HYPERVISOR_##n, #n, xen_do_##n },
	CALLS(ROW)
#undef ROW
};

/* How often each was made, named as it is. */
const struct stat_row xen_call_rows[] = {
#define ROW(n) { #n, offsetof(struct xen_counters, by_number[__HYPERVISOR_##n]), "of the hypercalls" },
	CALLS(ROW)
#undef ROW
	STAT_ROW(struct xen_counters, unknown, "hypercalls that there are not"),
};
const size_t xen_call_row_count = ARRAY_LEN(xen_call_rows);

static xen_handler *handler_of(uint64_t number)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].number == number)
			return rows[i].handler;
	return NULL;
}

int64_t xen_hypercall(struct xen_call *c, uint64_t number)
{
	xen_handler *handler = handler_of(number);
	const uint64_t begin = trace_begin(c->v->mmu.trace, TRACE_CAT_HYPERCALL), arg = c->arg[0];
	int64_t result;

	c->xen->counters.hypercalls++;
	if (handler)
		c->xen->counters.by_number[number]++;
	else
		c->xen->counters.unknown++;
	result = handler ? handler(c) : -XEN_ENOSYS;
	/* iret is in the trace as a return. */
	if (!c->event)
		trace_span(c->v->mmu.trace, TRACE_HYPERCALL, (uint32_t)number, begin, arg, (uint64_t)result);
	return result;
}

const char *xen_hypercall_name(uint64_t number)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].number == number)
			return rows[i].name;
	return NULL;
}

/* Entries done before the guest's events get a chance. */
#define MULTICALL_ROUND 64u

/* arg[0]: array of multicall_entry, arg[1]: how many. */
static int64_t do_multicall(struct xen_call *c)
{
	uint64_t at = c->arg[0], count = c->arg[1];

	if (c->in_multicall)
		return -XEN_EINVAL;
	c->xen->counters.multicalls++;
	for (unsigned done = 0; count; done++, count--, at += sizeof(struct multicall_entry)) {
		struct multicall_entry entry;
		struct xen_call inner = { .xen = c->xen, .xv = c->xv, .v = c->v, .in_multicall = true, .next_rip = c->next_rip };
		uint64_t result;

		if (done == MULTICALL_ROUND)
			goto again;
		if (xen_copy_from_guest(c->v, &entry, at, sizeof(entry)))
			return -XEN_EFAULT;
		for (unsigned i = 0; i < 6; i++)
			inner.arg[i] = entry.args[i];
		c->xen->counters.multicall_entries++;
		/* iret ends what the entries' pointers mean (XSA-213). */
		result = (uint64_t)(entry.op == __HYPERVISOR_iret ? -XEN_ENOSYS : xen_hypercall(&inner, entry.op));
		if (inner.again) {
			for (unsigned i = 0; i < 6; i++)
				entry.args[i] = inner.arg[i];
			if (xen_copy_to_guest(c->v, at, &entry, sizeof(entry)))
				return -XEN_EFAULT;
			goto again;
		}
		if (xen_copy_to_guest(c->v, at + offsetof(struct multicall_entry, result), &result, sizeof(result)))
			return -XEN_EFAULT;
		if (c->v->exit.kind != EXIT_NONE || c->v->halted)
			break;
	}
	return 0;
again:
	c->arg[0] = at;
	c->arg[1] = count;
	c->again = true;
	return 0;
}
