/*
 * lapic_timer.c - the local APIC's timer: one-shot and periodic on a bus clock of 1 GHz, and TSC-deadline (lapic.h).
 */
#include "base/clock.h"
#include "cpu/lapic_internal.h"
#include "cpu/personality.h"

static unsigned divisor(const struct lapic *l)
{
	unsigned code = (l->timer_divide & 3) | ((l->timer_divide >> 1) & 4);

	return code == 7 ? 1 : 2u << code;
}

static void changed_cold(void *arg)
{
	struct lapic *l = arg;

	l->timer_changed(l->timer_opaque);
}

void lapic_timer_arm(struct vcpu *v, uint64_t deadline)
{
	struct lapic *l = &v->lapic;

	atomic_store(&l->deadline_ns, deadline);
	if (deadline != NEVER && l->timer_changed)
		fpu_call_cold(v, changed_cold, l);
}

void lapic_timer_disarm(struct lapic *l)
{
	atomic_store(&l->deadline_ns, NEVER);
	l->tsc_deadline = 0;
	l->timer_initial = 0;
}

void lapic_timer_start(struct vcpu *v, uint32_t initial)
{
	struct lapic *l = &v->lapic;

	l->timer_initial = initial;
	l->timer_start_ns = clock_ns();
	if (!initial)
		atomic_store(&l->deadline_ns, NEVER);
	else
		lapic_timer_arm(v, l->timer_start_ns + (uint64_t)initial * divisor(l));
}

uint32_t lapic_timer_count(const struct lapic *l)
{
	uint64_t ticks;

	if (!l->timer_initial || (l->lvt[LVT_TIMER] & LVT_TIMER_MODE) == LVT_DEADLINE)
		return 0;
	ticks = (clock_ns() - l->timer_start_ns) / divisor(l);
	if ((l->lvt[LVT_TIMER] & LVT_TIMER_MODE) == LVT_PERIODIC)
		return (uint32_t)(l->timer_initial - ticks % l->timer_initial);
	return ticks >= l->timer_initial ? 0 : (uint32_t)(l->timer_initial - ticks);
}

uint64_t lapic_get_tsc_deadline(const struct vcpu *v)
{
	const struct lapic *l = &v->lapic;

	if ((l->lvt[LVT_TIMER] & LVT_TIMER_MODE) != LVT_DEADLINE || atomic_load(&l->deadline_ns) == NEVER)
		return 0;
	return l->tsc_deadline;
}

static void deadline_reached(struct vcpu *v)
{
	const uint32_t lvt = v->lapic.lvt[LVT_TIMER];

	if (!(lvt & LVT_MASKED))
		lapic_raise(v, (uint8_t)lvt);
}

void lapic_set_tsc_deadline(struct vcpu *v, uint64_t guest_tsc)
{
	struct lapic *l = &v->lapic;
	const uint64_t now = clock_tsc() + v->tsc_offset;
	int64_t left = (int64_t)(guest_tsc - now);

	if ((l->lvt[LVT_TIMER] & LVT_TIMER_MODE) != LVT_DEADLINE)
		return;
	/* A deadline that passed before this write has fired, though nobody may have looked yet. */
	if (atomic_exchange(&l->deadline_ns, NEVER) != NEVER && l->tsc_deadline <= now)
		deadline_reached(v);
	l->tsc_deadline = guest_tsc;
	if (!guest_tsc)
		return;
	if (guest_tsc <= now) {
		l->tsc_deadline = 0;
		deadline_reached(v);
		return;
	}
	if (left < 0 || left > INT64_MAX / 2) /* centuries ahead */
		left = INT64_MAX / 2;
	lapic_timer_arm(v, clock_ns() + clock_tsc_to_ns((uint64_t)left) + 1);
}

/* How long until the guest's TSC is at its deadline; 0 if it is. The two clocks run apart a little, and a timer must not be early. */
static uint64_t deadline_left_ns(const struct vcpu *v)
{
	int64_t left = (int64_t)(v->lapic.tsc_deadline - (clock_tsc() + v->tsc_offset));

	return left > 0 ? clock_tsc_to_ns((uint64_t)left) + 1 : 0;
}

/* The vector if the deadline has been reached and its interrupt is to come, which is the caller's to send; else -1. *next: the deadline from now on. */
static int reached(struct vcpu *v, uint64_t now_ns, uint64_t *next)
{
	struct lapic *l = &v->lapic;
	uint64_t deadline = atomic_load(&l->deadline_ns);

	while (deadline <= now_ns) {
		uint32_t lvt = l->lvt[LVT_TIMER];

		*next = NEVER;
		if ((lvt & LVT_TIMER_MODE) == LVT_PERIODIC && l->timer_initial) {
			uint64_t period = (uint64_t)l->timer_initial * divisor(l);

			*next = deadline + period;
			if (*next <= now_ns) /* missed periods collapse into one interrupt */
				*next = now_ns + period - (now_ns - deadline) % period;
		}
		if ((lvt & LVT_TIMER_MODE) == LVT_DEADLINE) {
			uint64_t left = deadline_left_ns(v);

			if (left)
				*next = now_ns + left;
		}
		if (atomic_compare_exchange_strong(&l->deadline_ns, &deadline, *next)) /* else the vcpu's thread has set another one */
			return ((lvt & LVT_TIMER_MODE) != LVT_DEADLINE || *next == NEVER) && !(lvt & LVT_MASKED) ? (uint8_t)lvt : -1;
	}
	*next = deadline;
	return -1;
}

uint64_t lapic_timer_poll(struct vcpu *v, uint64_t now_ns)
{
	uint64_t next;
	int vector;

	if (v->personality->timer)
		return v->personality->timer(v, now_ns);
	vector = reached(v, now_ns, &next);
	if (vector >= 0) {
		struct irq_message msg = { .vector = (uint8_t)vector, .delivery_mode = DELIVER_FIXED };

		lapic_post(v, &msg);
	}
	return next;
}

void lapic_timer_settle(struct vcpu *v)
{
	uint64_t next;
	int vector = atomic_load(&v->lapic.deadline_ns) == NEVER ? -1 : reached(v, clock_ns(), &next);

	if (vector >= 0)
		lapic_raise(v, (uint8_t)vector);
}

void lapic_timer_divide(struct vcpu *v, uint32_t value)
{
	struct lapic *l = &v->lapic;
	uint32_t left = lapic_timer_count(l), initial = l->timer_initial;

	l->timer_divide = value & 0xb;
	if (left && (l->lvt[LVT_TIMER] & LVT_TIMER_MODE) != LVT_DEADLINE) {
		/* The count goes on from where it is, at the new pace. */
		l->timer_start_ns = clock_ns() - (uint64_t)(initial - left) * divisor(l);
		lapic_timer_arm(v, l->timer_start_ns + (uint64_t)initial * divisor(l));
	}
}
