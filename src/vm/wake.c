/*
 * wake.c - waking vcpu threads, and the LAPIC timers.
 *
 * These run on vcpu threads while guest vector registers may be live (the guest programs its timer from generated code), so
 * this file is compiled with general registers only and makes its system calls itself.
 *
 * Why no wake-up is lost: the sleeper sets `sleeping`, then looks at `pending`, then waits on `sleeping`; a waker sets
 * `pending`, then clears `sleeping` and wakes. All four are sequentially consistent. The timer pairs in the same way:
 * the vcpu stores its deadline, then reads `armed_ns`; the I/O thread stores `armed_ns` = never, then reads the deadline.
 */
#include <linux/futex.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "vm/vm_internal.h"

static long wake_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

void vm_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t deadline_ns)
{
	struct { int64_t sec, nsec; } when;

	when.sec = (int64_t)(deadline_ns / 1000000000u);
	when.nsec = (int64_t)(deadline_ns % 1000000000u);
	wake_syscall(SYS_futex, (long)word, FUTEX_WAIT_BITSET_PRIVATE, value, deadline_ns == LOOP_NEVER ? 0 : (long)&when, 0,
		     FUTEX_BITSET_MATCH_ANY);
}

void vm_vcpu_kick(struct vcpu *v)
{
	struct vm_vcpu *t = CONTAINER_OF(v, struct vm_vcpu, v);

	if (atomic_exchange(&t->sleeping, 0))
		wake_syscall(SYS_futex, (long)&t->sleeping, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
	t->vm->config.engine->kick(v);
}

void vm_vcpu_post(struct vm_vcpu *t, struct vm_work *work)
{
	work->next = atomic_load(&t->work);
	while (!atomic_compare_exchange_weak(&t->work, &work->next, work))
		;
	vcpu_request(&t->v, REQ_STOP);
}

/* Guest memory is short of machine frames. memory->lock is held. */
void vm_room_short(void *opaque)
{
	struct vm *vm = opaque;

	vm_vcpu_post(vm->vcpu[0], &vm->room_work);
}

/* Pages should be gathered, once; unless that has taken too much of the time already. */
bool vm_gather_wanted(void *opaque)
{
	struct vm *vm = opaque;

	if (clock_ns() < vm->gather_next_ns)
		return false;
	vm_vcpu_post(vm->vcpu[0], &vm->gather_work);
	return true;
}

/* Zero disarms. */
static void wake_settime(struct vm_vcpu *t, uint64_t ns)
{
	struct { int64_t interval_sec, interval_nsec, sec, nsec; } when;

	when.interval_sec = 0;
	when.interval_nsec = 0;
	when.sec = (int64_t)(ns / 1000000000u);
	when.nsec = (int64_t)(ns % 1000000000u);
	wake_syscall(SYS_timerfd_settime, t->timer.fd, 1 /* TFD_TIMER_ABSTIME */, (long)&when, 0, 0, 0);
}

static void wake_arm(struct vm_vcpu *t, uint64_t deadline_ns)
{
	wake_settime(t, deadline_ns ? deadline_ns : 1);
}

/* The vcpu's thread: its deadline moved. A timer that is armed too early costs one wake-up, a system call each time costs more. */
void vm_vcpu_timer_changed(void *vm_vcpu)
{
	struct vm_vcpu *t = vm_vcpu;
	const uint64_t deadline = atomic_load(&t->v.lapic.deadline_ns);

	if (deadline >= atomic_load(&t->armed_ns))
		return;
	pthread_mutex_lock(&t->timer_lock);
	atomic_store(&t->armed_ns, deadline);
	wake_arm(t, deadline);
	pthread_mutex_unlock(&t->timer_lock);
}

/*
 * The vcpu's thread goes to sleep: it will watch its deadline itself, so the timer is stopped (otherwise both threads
 * would wake for every tick of an idle guest); and is started again when the thread runs on.
 */
void vm_vcpu_timer_pause(struct vm_vcpu *t)
{
	if (atomic_load(&t->armed_ns) == LOOP_NEVER)
		return;
	pthread_mutex_lock(&t->timer_lock);
	atomic_store(&t->armed_ns, LOOP_NEVER);
	wake_settime(t, 0);
	pthread_mutex_unlock(&t->timer_lock);
}

/* The I/O thread: the timer expired. */
void vm_vcpu_timer_fired(void *vm_vcpu, uint32_t events)
{
	struct vm_vcpu *t = vm_vcpu;

	(void)events;
	pthread_mutex_lock(&t->timer_lock);
	atomic_store(&t->armed_ns, LOOP_NEVER);
	const uint64_t next = lapic_timer_poll(&t->v, clock_ns());
	if (next != LOOP_NEVER) {
		atomic_store(&t->armed_ns, next);
		wake_arm(t, next);
	}
	pthread_mutex_unlock(&t->timer_lock);
}
