/*
 * sched.c - sched_op and vcpu_op: waiting, ending, vcpus' registered areas and timers. Sources: xen/sched.h, xen/vcpu.h.
 */
#include "xen/xen_internal.h"

#define POLL_PORTS_MAX 128u	/* Xen's own bound */
#define NEVER (~0ull)

/* -- runstate --------------------------------------------------------------------------------------------------------- */

static void runstate_now(const struct xen_vcpu *xv, struct vcpu_runstate_info *r)
{
	uint64_t now = xen_time_now(xv);

	fill_bytes(r, 0, sizeof(*r));
	r->state = xv->runstate;
	r->state_entry_time = xv->runstate_since;
	for (unsigned i = 0; i < 4; i++)
		r->time[i] = xv->runstate_time[i];
	r->time[xv->runstate] += now - xv->runstate_since;
}

static void runstate_publish(struct xen_vcpu *xv)
{
	struct vcpu_runstate_info r;

	if (!xv->runstate_area)
		return;
	runstate_now(xv, &r);
	/* An area that cannot be written now is not updated now, as on Xen. */
	(void)xen_copy_to_guest(xv->v, xv->runstate_area, &r, sizeof(r));
}

static void runstate_set(struct xen_vcpu *xv, uint8_t state)
{
	uint64_t now = xen_time_now(xv);

	if (xv->runstate == state)
		return;
	xv->runstate_time[xv->runstate] += now - xv->runstate_since;
	xv->runstate_since = now;
	xv->runstate = state;
	if (state == RUNSTATE_running)
		runstate_publish(xv);
}

void xen_wake(struct xen_vcpu *xv)
{
	if (LIKELY(!xv->v->halted))
		return;
	xv->v->halted = 0;
	if (xv->polling) {
		xv->polling = false;
		xen_set_poll_timeout(xv, NEVER);
	}
	runstate_set(xv, RUNSTATE_running);
}

/* The vcpu sleeps until an event comes. */
static void block(struct xen_vcpu *xv)
{
	struct vcpu *v = xv->v;

	v->halted = 1;
	v->counters.halts++;
	runstate_set(xv, RUNSTATE_blocked);
	exec_exit(v, EXIT_HLT, "");
}

/* -- sched_op --------------------------------------------------------------------------------------------------------- */

static int64_t sched_yield(struct xen_call *c)
{
	(void)c;
	return 0;
}

static int64_t sched_block(struct xen_call *c)
{
	struct xen_vcpu *xv = c->xv;

	xv->info->evtchn_upcall_mask = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!xv->info->evtchn_upcall_pending)
		block(xv);
	return 0;
}

struct ended { struct xen *xen; enum xen_end end; };
static void ended_cold(void *arg)
{
	struct ended *e = arg;

	e->xen->config.ended(e->xen->config.opaque, e->end);
}

static const enum xen_end ends[] = {
	[SHUTDOWN_poweroff] = XEN_END_POWEROFF, [SHUTDOWN_reboot] = XEN_END_REBOOT, [SHUTDOWN_suspend] = XEN_END_SUSPEND,
	[SHUTDOWN_crash] = XEN_END_CRASH, [SHUTDOWN_watchdog] = XEN_END_CRASH, [SHUTDOWN_soft_reset] = XEN_END_REBOOT,
};

static int64_t sched_shutdown(struct xen_call *c)
{
	struct sched_shutdown s;
	struct ended e = { .xen = c->xen };

	if (xen_copy_from_guest(c->v, &s, c->arg[1], sizeof(s)))
		return -XEN_EFAULT;
	if (s.reason >= ARRAY_LEN(ends))
		return -XEN_EINVAL;
	e.end = ends[c->xen->shutdown_latched ? c->xen->shutdown_latched - 1 : s.reason];
	/* Nobody could resume it. */
	if (e.end == XEN_END_SUSPEND)
		return -XEN_ENOSYS;
	fpu_call_cold(c->v, ended_cold, &e);
	return 0;
}

/* The reason of a shutdown that is to come (a guest says so before it stops its devices). The first one counts. */
static int64_t sched_shutdown_code(struct xen_call *c)
{
	struct sched_shutdown s;

	if (xen_copy_from_guest(c->v, &s, c->arg[1], sizeof(s)))
		return -XEN_EFAULT;
	if (s.reason >= ARRAY_LEN(ends) || ends[s.reason] == XEN_END_SUSPEND)
		return -XEN_EINVAL;
	if (!c->xen->shutdown_latched)
		c->xen->shutdown_latched = s.reason + 1;
	return 0;
}

static int64_t sched_watchdog(struct xen_call *c)
{
	struct sched_watchdog w;
	uint64_t *watchdog = c->xen->watchdog, when;
	unsigned n;

	if (xen_copy_from_guest(c->v, &w, c->arg[1], sizeof(w)))
		return -XEN_EFAULT;
	when = xen_time_now(c->xv) + w.timeout * 1000000000ull;
	if (!w.id) {
		if (!w.timeout)
			return -XEN_EINVAL;
		for (n = 0; n < XEN_WATCHDOGS && __atomic_load_n(&watchdog[n], __ATOMIC_RELAXED); n++)
			;
		if (n == XEN_WATCHDOGS)
			return -XEN_ENOSPC;
		xen_set_watchdog(c->xen, n, when);
		return n + 1;
	}
	if (w.id > XEN_WATCHDOGS || !__atomic_load_n(&watchdog[w.id - 1], __ATOMIC_RELAXED))
		return -XEN_EINVAL;
	xen_set_watchdog(c->xen, w.id - 1, w.timeout ? when : 0);
	return 0;
}

/* Waits until a port is pending, masked or not, or the time has come. */
static int64_t sched_poll(struct xen_call *c)
{
	struct xen_vcpu *xv = c->xv;
	struct sched_poll p;
	evtchn_port_t port[POLL_PORTS_MAX];

	if (xen_copy_from_guest(c->v, &p, c->arg[1], sizeof(p)))
		return -XEN_EFAULT;
	if (p.nr_ports > POLL_PORTS_MAX)
		return -XEN_EINVAL;
	if (xen_copy_from_guest(c->v, port, (uint64_t)(uintptr_t)p.ports.p, p.nr_ports * sizeof(*port)))
		return -XEN_EFAULT;
	xv->polling = true;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < p.nr_ports; i++) {
		if (!port[i] || port[i] >= XEN_PORTS) {
			xv->polling = false;
			return -XEN_EINVAL;
		}
		if (xen_port_is_pending(c->xen, port[i])) {
			xv->polling = false;
			return 0;
		}
	}
	if (xv->info->evtchn_upcall_pending && !xv->info->evtchn_upcall_mask) {
		xv->polling = false;
		return 0;
	}
	if (p.timeout) {
		if (p.timeout <= xen_time_now(xv)) {
			xv->polling = false;
			return 0;
		}
		xen_set_poll_timeout(xv, p.timeout);
	}
	block(xv);
	return 0;
}

/* arg[0]: SCHEDOP_*, arg[1]: its structure. */
int64_t xen_do_sched_op(struct xen_call *c)
{
	switch (c->arg[0]) {
	case SCHEDOP_yield: return sched_yield(c);
	case SCHEDOP_block: return sched_block(c);
	case SCHEDOP_shutdown: return sched_shutdown(c);
	case SCHEDOP_shutdown_code: return sched_shutdown_code(c);
	case SCHEDOP_watchdog: return sched_watchdog(c);
	case SCHEDOP_poll: return sched_poll(c);
	default: return -XEN_ENOSYS;
	}
}

/* -- vcpu_op ---------------------------------------------------------------------------------------------------------- */

static int64_t register_vcpu_info(struct xen_call *c, struct xen_vcpu *xv)
{
	struct vcpu_register_vcpu_info r;
	struct vcpu_info *info;
	mfn_t m;

	if (xen_copy_from_guest(c->v, &r, c->arg[2], sizeof(r)))
		return -XEN_EFAULT;
	m = mfn(r.mfn);
	if (xv->info_m.v != c->xen->shared_m.v || r.offset > PAGE_SIZE - sizeof(*info) || r.offset % sizeof(uint64_t))
		return -XEN_EINVAL;
	/* Held writable for ever, so that it never becomes a table. */
	if (!xen_hold_writable(c->xen, m))
		return -XEN_EINVAL;
	pool_touch(&c->xen->memory->pool, m);
	info = (struct vcpu_info *)(void *)((uint8_t *)pool_ptr(&c->xen->memory->pool, m) + r.offset);
	xen_move_info(xv, info, m);
	return 0;
}

static int64_t register_runstate(struct xen_call *c, struct xen_vcpu *xv)
{
	struct vcpu_register_runstate_memory_area r;

	if (xen_copy_from_guest(c->v, &r, c->arg[2], sizeof(r)))
		return -XEN_EFAULT;
	xv->runstate_area = r.addr.p;
	runstate_publish(xv);
	return 0;
}

/* The same for ever, so it is written once. */
static int64_t register_time(struct xen_call *c, struct xen_vcpu *xv)
{
	struct vcpu_register_time_memory_area r;
	struct vcpu_time_info t;

	if (xen_copy_from_guest(c->v, &r, c->arg[2], sizeof(r)))
		return -XEN_EFAULT;
	xen_time_fill(xv, &t);
	return r.addr.p ? xen_copy_to_guest(c->v, r.addr.p, &t, sizeof(t)) : 0;
}

static int64_t set_singleshot(struct xen_call *c, struct xen_vcpu *xv)
{
	struct vcpu_set_singleshot_timer t;

	if (xen_copy_from_guest(c->v, &t, c->arg[2], sizeof(t)))
		return -XEN_EFAULT;
	if ((t.flags & VCPU_SSHOTTMR_future) && t.timeout_abs_ns <= xen_time_now(xv))
		return -XEN_ETIME;
	xen_set_singleshot(xv, t.timeout_abs_ns);
	return 0;
}

static int64_t set_periodic(struct xen_call *c, struct xen_vcpu *xv)
{
	struct vcpu_set_periodic_timer t;

	if (xen_copy_from_guest(c->v, &t, c->arg[2], sizeof(t)))
		return -XEN_EFAULT;
	if (!t.period_ns)
		return -XEN_EINVAL;
	xen_set_periodic(xv, t.period_ns);
	return 0;
}

static int64_t get_runstate(struct xen_call *c, struct xen_vcpu *xv)
{
	struct vcpu_runstate_info r;

	runstate_now(xv, &r);
	return xen_copy_to_guest(c->v, c->arg[2], &r, sizeof(r));
}

/* arg[0]: VCPUOP_*, arg[1]: vcpu, arg[2]: structure. */
int64_t xen_do_vcpu_op(struct xen_call *c)
{
	struct xen_vcpu *xv;

	if (c->arg[1] >= c->xen->vcpus)
		return -XEN_ENOENT;
	xv = &c->xen->vcpu[c->arg[1]];
	switch ((uint32_t)c->arg[0]) {
	case VCPUOP_is_up: return 1;
	case VCPUOP_register_vcpu_info: return register_vcpu_info(c, xv);
	case VCPUOP_register_runstate_memory_area: return register_runstate(c, xv);
	case VCPUOP_register_vcpu_time_memory_area: return register_time(c, xv);
	case VCPUOP_get_runstate_info: return get_runstate(c, xv);
	case VCPUOP_initialise: return -XEN_EEXIST;	/* the one there is runs already */
	case VCPUOP_up: return 0;
	case VCPUOP_down: return -XEN_EPERM;		/* the last one may not leave */
	case VCPUOP_send_nmi:
		xv->nmi_pending = true;
		vcpu_request(xv->v, REQ_INTERRUPT);
		return 0;
	}
	/* The timers are set by their own vcpu only. */
	if (xv != c->xv)
		return -XEN_EINVAL;
	switch ((uint32_t)c->arg[0]) {
	case VCPUOP_set_periodic_timer: return set_periodic(c, xv);
	case VCPUOP_stop_periodic_timer:
		xen_set_periodic(xv, 0);
		return 0;
	case VCPUOP_set_singleshot_timer: return set_singleshot(c, xv);
	case VCPUOP_stop_singleshot_timer:
		xen_set_singleshot(xv, NEVER);
		return 0;
	default: return -XEN_ENOSYS;
	}
}
