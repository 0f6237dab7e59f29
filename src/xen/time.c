/*
 * time.c - a domain's time: system time (ns since the domain was made) as a function of the guest's TSC, published once in vcpu_info and never
 * changed, since the guest's TSC is the host's plus an offset; the wall clock; and the timers, all of which end in VIRQ_TIMER.
 *
 * The vcpu's deadline is kept where vm/ looks for it, in the local APIC's deadline_ns (cpu/lapic.h); this personality has no other use
 * for the local APIC. Timer members are guarded by xen->lock: the I/O thread polls them while the vcpu runs.
 */
#include <pthread.h>

#include "base/clock.h"
#include "cpu/kvmclock.h"
#include "xen/xen_internal.h"

#define NEVER (~0ull)
#define NS_PER_S 1000000000ull
#define TSC_STABLE 1u	/* XEN_PVCLOCK_TSC_STABLE_BIT */
#define PERIOD_MIN_NS 1000000ull

uint64_t xen_time_now(const struct xen_vcpu *xv)
{
	const struct xen *xen = xv->xen;
	uint64_t ticks = clock_tsc() + xv->v->tsc_offset;

	ticks = xen->tsc_shift < 0 ? ticks >> -xen->tsc_shift : ticks << xen->tsc_shift;
	return (uint64_t)(((unsigned __int128)ticks * xen->tsc_mul) >> 32);
}

void xen_time_fill(const struct xen_vcpu *xv, struct vcpu_time_info *t)
{
	fill_bytes(t, 0, sizeof(*t));
	t->version = 2;
	t->tsc_to_system_mul = xv->xen->tsc_mul;
	t->tsc_shift = xv->xen->tsc_shift;
	t->flags = TSC_STABLE;
}

void xen_time_start(struct xen *xen)
{
	struct xen_vcpu *xv = &xen->vcpu[0];
	uint64_t boot;

	kvmclock_scale(clock_tsc_khz(), &xen->tsc_mul, &xen->tsc_shift);
	boot = xen->config.realtime_ns() - xen_time_now(xv);
	xen->shared->wc_sec = (uint32_t)(boot / NS_PER_S);
	xen->shared->wc_sec_hi = (uint32_t)(boot / NS_PER_S >> 32);
	xen->shared->wc_nsec = (uint32_t)(boot % NS_PER_S);
	xen->shared->wc_version = 2;
	for (unsigned i = 0; i < xen->vcpus; i++) {
		xen_time_fill(&xen->vcpu[i], &xen->vcpu[i].info->time);
		xen->vcpu[i].runstate_since = xen_time_now(&xen->vcpu[i]);
	}
}

static uint64_t earliest(const struct xen_vcpu *xv)
{
	uint64_t when = xv->singleshot;

	if (xv->periodic < when)
		when = xv->periodic;
	for (unsigned i = 0; !xv->id && i < XEN_WATCHDOGS; i++)
		if (xv->xen->watchdog[i] && xv->xen->watchdog[i] < when)
			when = xv->xen->watchdog[i];
	return xv->poll_timeout < when ? xv->poll_timeout : when;
}

/* Host time for a system time that is not reached yet. */
static uint64_t host_deadline(const struct xen_vcpu *xv, uint64_t when, uint64_t now_ns)
{
	uint64_t now = xen_time_now(xv), left = when > now ? when - now : 0;

	return when == NEVER || left > NEVER - 1 - now_ns ? NEVER : now_ns + left;
}

/*
 * The vcpu's thread, xen->lock held: it is not when this returns, since arming takes timer_lock, which comes first (docs/locking.md). Only this thread makes the
 * earliest of the timers earlier, so what the other does in between leaves a deadline that is too early at worst.
 */
static void rearm_and_unlock(struct xen_vcpu *xv)
{
	const uint64_t deadline = host_deadline(xv, earliest(xv), clock_ns());

	pthread_mutex_unlock(xv->xen->lock);
	lapic_timer_arm(xv->v, deadline);
}

static void virq_timer(struct xen_vcpu *xv)
{
	if (xv->virq_port[VIRQ_TIMER])
		xen_port_raise(xv->xen, xv->virq_port[VIRQ_TIMER]);
}

/* Any thread; the I/O thread holds timer_lock. */
uint64_t xen_timer(struct vcpu *v, uint64_t now_ns)
{
	struct xen_vcpu *xv = xen_vcpu_of(v);
	uint64_t next = atomic_load(&v->lapic.deadline_ns), now;

	if (next > now_ns)
		return next;
	pthread_mutex_lock(xv->xen->lock);
	now = xen_time_now(xv);
	if (xv->singleshot <= now) {
		xv->singleshot = NEVER;
		virq_timer(xv);
	}
	if (xv->periodic <= now) {
		xv->periodic += (now - xv->periodic + xv->period) / xv->period * xv->period;
		virq_timer(xv);
	}
	if (xv->poll_timeout <= now) {
		xv->poll_timeout = NEVER;
		vcpu_request(v, REQ_INTERRUPT);
	}
	for (unsigned i = 0; !xv->id && i < XEN_WATCHDOGS; i++)
		if (xv->xen->watchdog[i] && xv->xen->watchdog[i] <= now) {
			xv->xen->watchdog[i] = 0;
			__atomic_store_n(&xv->xen->watchdog_expired, true, __ATOMIC_SEQ_CST);
			vcpu_request(v, REQ_INTERRUPT);
		}
	next = host_deadline(xv, earliest(xv), now_ns);
	atomic_store(&v->lapic.deadline_ns, next);
	pthread_mutex_unlock(xv->xen->lock);
	return next;
}

/* A deadline in system time, NEVER to stop. One that has passed fires at once. */
static void set_timer(struct xen_vcpu *xv, uint64_t *timer, uint64_t when)
{
	pthread_mutex_lock(xv->xen->lock);
	*timer = when;
	if (when <= xen_time_now(xv)) {
		*timer = NEVER;
		virq_timer(xv);
	}
	rearm_and_unlock(xv);
}

void xen_timers_init(struct xen_vcpu *xv) { xv->singleshot = xv->periodic = xv->poll_timeout = NEVER; }

void xen_set_singleshot(struct xen_vcpu *xv, uint64_t when) { set_timer(xv, &xv->singleshot, when); }

void xen_set_periodic(struct xen_vcpu *xv, uint64_t period)
{
	pthread_mutex_lock(xv->xen->lock);
	xv->period = period && period < PERIOD_MIN_NS ? PERIOD_MIN_NS : period;
	xv->periodic = period ? xen_time_now(xv) + xv->period : NEVER;
	rearm_and_unlock(xv);
}

void xen_set_poll_timeout(struct xen_vcpu *xv, uint64_t when)
{
	pthread_mutex_lock(xv->xen->lock);
	xv->poll_timeout = when;
	rearm_and_unlock(xv);
}

void xen_set_watchdog(struct xen *xen, unsigned n, uint64_t when)
{
	pthread_mutex_lock(xen->lock);
	xen->watchdog[n] = when;
	rearm_and_unlock(&xen->vcpu[0]);
}

/* arg[0]: system time in ns, 0 to stop. */
int64_t xen_do_set_timer_op(struct xen_call *c)
{
	xen_set_singleshot(c->xv, c->arg[0] ? c->arg[0] : NEVER);
	return 0;
}
