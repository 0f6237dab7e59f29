/*
 * hypercall.c - the table of hypercalls, and multicall. A number that has no row is answered with -ENOSYS.
 */
#include "xen/xen_internal.h"

static xen_handler do_multicall;

static const struct hypercall_row {
	uint8_t number;
	const char *name;
	xen_handler *handler;
} rows[] = {
	/* Hot ones first: the search is linear. */
	{ __HYPERVISOR_iret, "iret", xen_do_iret },
	{ __HYPERVISOR_multicall, "multicall", do_multicall },
	{ __HYPERVISOR_mmu_update, "mmu_update", xen_do_mmu_update },
	{ __HYPERVISOR_mmuext_op, "mmuext_op", xen_do_mmuext_op },
	{ __HYPERVISOR_update_va_mapping, "update_va_mapping", xen_do_update_va_mapping },
	{ __HYPERVISOR_xen_version, "xen_version", xen_do_xen_version },
	{ __HYPERVISOR_stack_switch, "stack_switch", xen_do_stack_switch },
	{ __HYPERVISOR_set_segment_base, "set_segment_base", xen_do_set_segment_base },
	{ __HYPERVISOR_vcpu_op, "vcpu_op", xen_do_vcpu_op },
	{ __HYPERVISOR_sched_op, "sched_op", xen_do_sched_op },
	{ __HYPERVISOR_event_channel_op, "event_channel_op", xen_do_event_channel_op },
	{ __HYPERVISOR_fpu_taskswitch, "fpu_taskswitch", xen_do_fpu_taskswitch },
	{ __HYPERVISOR_set_debugreg, "set_debugreg", xen_do_set_debugreg },
	{ __HYPERVISOR_get_debugreg, "get_debugreg", xen_do_get_debugreg },
	{ __HYPERVISOR_set_timer_op, "set_timer_op", xen_do_set_timer_op },
	{ __HYPERVISOR_set_trap_table, "set_trap_table", xen_do_set_trap_table },
	{ __HYPERVISOR_set_callbacks, "set_callbacks", xen_do_set_callbacks },
	{ __HYPERVISOR_callback_op, "callback_op", xen_do_callback_op },
	{ __HYPERVISOR_memory_op, "memory_op", xen_do_memory_op },
	{ __HYPERVISOR_update_descriptor, "update_descriptor", xen_do_update_descriptor },
	{ __HYPERVISOR_set_gdt, "set_gdt", xen_do_set_gdt },
	{ __HYPERVISOR_update_va_mapping_otherdomain, "update_va_mapping_otherdomain", xen_do_update_va_mapping_otherdomain },
	{ __HYPERVISOR_vm_assist, "vm_assist", xen_do_vm_assist },
	{ __HYPERVISOR_physdev_op, "physdev_op", xen_do_physdev_op },
	{ __HYPERVISOR_grant_table_op, "grant_table_op", xen_do_grant_table_op },
	{ __HYPERVISOR_console_io, "console_io", xen_do_console_io },
};

#define NUMBERS 64u

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
	if (number < NUMBERS)
		c->xen->counters.by_number[number]++;
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
