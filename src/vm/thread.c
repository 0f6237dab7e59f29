/*
 * thread.c - the thread of a vcpu: engine, exits, sleeping in HLT, and the accounting of its time.
 *
 * Time by kind is sampled: a timer on the thread's own CPU clock sends the thread a signal every 4 ms of processor time, and the
 * handler counts what v->activity says. An idle guest uses no processor time, so sampling costs it nothing.
 */
#include "vm/vm_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "cpu/host_fault.h"
#include "svm/svm.h"
#include "vm/profile.h"

#define SAMPLE_NS 4000000
#define SAMPLE_SIGNAL SIGRTMIN
#define STOP_SECONDS 5	/* a vcpu answers a request within microseconds; longer than this is our bug */

static _Thread_local struct vm_vcpu *thread_self;

static bool thread_profiled(const struct vm_vcpu *t) { return t->vm->profile && t->vm->profile->sampling; }

static void thread_on_sample(int signo, siginfo_t *info, void *context)
{
	struct vm_vcpu *t = thread_self;

	(void)signo, (void)info;
	if (!t || t->v.activity == ACT_IDLE)
		return;
	t->samples[t->v.activity < ACT_COUNT ? t->v.activity : ACT_CODE]++;
	if (thread_profiled(t))
		vm_profile_sample(t, context);
}

/*
 * A profile takes finer samples than clocks of processor time offer (these go by the host's tick): by a clock that also runs while the
 * thread sleeps, so it is stopped meanwhile. What was left of an interval counts on, or short bursts of work would never be seen.
 */
static void thread_pause_sampling(struct vm_vcpu *t, struct itimerspec *left)
{
	static const struct itimerspec never;

	if (thread_profiled(t) && t->sampling)
		timer_settime(t->sample_timer, 0, &never, left);
}

static void thread_resume_sampling(struct vm_vcpu *t, const struct itimerspec *left)
{
	if (thread_profiled(t) && t->sampling)
		timer_settime(t->sample_timer, 0, left, 0);
}

static void thread_start_sampling(struct vm_vcpu *t)
{
	struct sigaction act = { .sa_sigaction = thread_on_sample, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SAMPLE_SIGNAL };
	const long ns = thread_profiled(t) ? (long)t->vm->config.profile_ns : SAMPLE_NS;
	const struct itimerspec every = { { 0, ns }, { 0, ns } };
	sigset_t set;

	sigfillset(&act.sa_mask);
	sigaction(SAMPLE_SIGNAL, &act, 0);
	ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	/* Without the timer the statistics lack the split, nothing else. */
	if (timer_create(thread_profiled(t) ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &ev, &t->sample_timer))
		return;
	t->sampling = !timer_settime(t->sample_timer, 0, &every, 0);
	sigemptyset(&set);
	sigaddset(&set, SAMPLE_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, 0);
}

static void thread_stop_sampling(struct vm_vcpu *t)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SAMPLE_SIGNAL);
	pthread_sigmask(SIG_BLOCK, &set, 0);
	if (t->sampling)
		timer_delete(t->sample_timer);
	t->sampling = false;
}

/* HLT: until something is pending. The thread watches its own LAPIC deadline meanwhile. */
static void thread_sleep(struct vm_vcpu *t)
{
	struct vcpu *v = &t->v;
	const uint64_t from = clock_ns(), begin = trace_begin(v->mmu.trace, TRACE_CAT_VMM);
	struct itimerspec left;

	v->activity = ACT_IDLE;
	thread_pause_sampling(t, &left);
	vm_vcpu_timer_pause(t);
	for (;;) {
		const uint64_t deadline = lapic_timer_poll(v, clock_ns());
		atomic_store(&t->sleeping, 1);
		if (atomic_load(&v->pending))
			break;
		atomic_store(&t->idle_from, from);
		vm_futex_wait(&t->sleeping, 1, deadline);
		atomic_store(&t->sleeping, 0); /* or our own poll would wake us */
	}
	atomic_store(&t->sleeping, 0);
	vm_vcpu_timer_changed(t);
	thread_resume_sampling(t, &left);
	v->activity = ACT_CODE;
	atomic_store(&t->idle_from, 0);
	t->idle_ns += clock_ns() - from;
	trace_span(v->mmu.trace, TRACE_IDLE, 0, begin, 0, 0);
}

/* All work posted so far, oldest first. REQ_STOP was cleared before, so none is overlooked. */
static void thread_work(struct vm_vcpu *t)
{
	struct vm_work *newest = atomic_exchange(&t->work, 0), *oldest = 0;

	while (newest) {
		struct vm_work *next = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	const uint64_t begin = trace_begin(t->v.mmu.trace, TRACE_CAT_VMM);
	t->v.activity = ACT_PAGING;
	while (oldest) {
		struct vm_work *next = oldest->next;

		oldest->run(oldest->opaque);
		oldest = next;
	}
	trace_span(t->v.mmu.trace, TRACE_WORK, 0, begin, 0, 0);
}

/* Acts on an exit; false ends the thread. */
static bool thread_exit(struct vm_vcpu *t)
{
	struct vm *vm = t->vm;
	const struct exit_info *e = &t->v.exit;
	char text[200];

	vm->exits.kind[e->kind]++;
	if (e->kind != EXIT_HLT)	/* which the slice of its sleep shows */
		trace_event(t->v.mmu.trace, TRACE_CAT_VMM, TRACE_EXIT, e->kind, 0, 0);
	switch (e->kind) {
	case EXIT_NONE:
		break;
	case EXIT_HLT:
		thread_sleep(t);
		break;
	case EXIT_STOP:
		atomic_fetch_and(&t->v.pending, ~(uint32_t)REQ_STOP);
		if (!atomic_load(&vm->ended))
			thread_work(t);
		break;
	case EXIT_HLT_FOREVER:
		vm_stop(vm, vm_was_shut_down(vm, false) ? VM_HALTED : VM_CRASH_HALT, 0, 0);
		return false;
	case EXIT_TRIPLE_FAULT:
		/* reboot=t, and what Linux tries last: a triple fault on purpose. */
		if (vm_was_shut_down(vm, true))
			vm_stop(vm, VM_REBOOT, 0, 0);
		else
			vm_stop(vm, VM_TRIPLE_FAULT, 0, e->reason[0] ? e->reason : "triple fault");
		return false;
	case EXIT_UNSUPPORTED:
		vm_stop(vm, VM_UNSUPPORTED, 0, e->reason);
		return false;
	case EXIT_HOST_ERROR:
		vm_stop(vm, VM_HOST_ERROR, 0, vm_room_failure(vm, text, sizeof(text)) ? text : e->reason);
		return false;
	}
	return !atomic_load(&vm->ended);
}

static void *thread_main(void *arg)
{
	struct vm_vcpu *t = arg;
	struct vcpu *v = &t->v;
	const struct engine *engine = t->vm->config.engine;
	struct timespec cpu;
	int err;

	thread_self = t;
	prctl(PR_SET_NAME, "vcpu");
	prctl(PR_SET_TIMERSLACK, 1);
	err = host_fault_thread_start();
	if (!err)
		err = engine->thread_start(v);
	if (err) {
		char reason[100];
		snprintf(reason, sizeof(reason), "cannot start a vcpu thread: %s", strerror(-err));
		vm_stop(t->vm, VM_HOST_ERROR, 0, reason);
	} else {
		thread_start_sampling(t);
		do {
			v->exit.kind = EXIT_NONE;
			v->exit.reason[0] = 0;
			engine->run(v);
		} while (thread_exit(t));
		thread_stop_sampling(t);
	}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
	t->cpu_ns = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
	host_fault_thread_stop();
	return 0;
}

/* All zero; and to what of level 1 of the TLB is not used, as most of it, the host gives no memory. */
static struct vm_vcpu *vcpu_memory(void)
{
	struct vm_vcpu *t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return t == MAP_FAILED ? NULL : t;
}

int vm_vcpu_create(struct vm *vm, unsigned id)
{
	struct vm_vcpu *t = vcpu_memory();
	int err;

	if (!t)
		return -ENOMEM;
	t->vm = vm;
	atomic_store(&t->armed_ns, LOOP_NEVER);
	pthread_mutex_init(&t->timer_lock, 0);
	err = loop_add_timer(&vm->loop, &t->timer, vm_vcpu_timer_fired, t);
	if (!err)
		err = vcpu_init(&t->v, &vm->memory, &vm->bus, vm->config.paging, id);
	if (err) {
		loop_remove(&vm->loop, &t->timer);
		munmap(t, sizeof(*t));
		return err;
	}
	vcpu_offer(&t->v, vm->config.cpu_offers);
	err = svm_attach(&t->v);
	if (err) {
		vcpu_destroy(&t->v);
		loop_remove(&vm->loop, &t->timer);
		munmap(t, sizeof(*t));
		return err;
	}
	t->v.kick = vm_vcpu_kick;
	t->v.thread = t;
	t->v.lapic.timer_changed = vm_vcpu_timer_changed;
	t->v.lapic.timer_opaque = t;
	err = vm->config.engine->vcpu_init(&t->v, vm->engine_state);
	if (err) {
		svm_detach(&t->v);
		vcpu_destroy(&t->v);
		loop_remove(&vm->loop, &t->timer);
		munmap(t, sizeof(*t));
		return err;
	}
	vm->vcpu[vm->vcpus++] = t;
	return 0;
}

void vm_vcpu_destroy(struct vm_vcpu *t)
{
	t->vm->config.engine->vcpu_destroy(&t->v);
	svm_detach(&t->v);
	vcpu_destroy(&t->v);
	loop_remove(&t->vm->loop, &t->timer);
	pthread_mutex_destroy(&t->timer_lock);
	munmap(t, sizeof(*t));
}

int vm_vcpu_start(struct vm_vcpu *t)
{
	sigset_t all, old;

	/* Signals from outside are for the I/O thread; faults and the sampling signal are unblocked where they belong. */
	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGTRAP);
	sigdelset(&all, SIGABRT);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	const int err = pthread_create(&t->thread, 0, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, 0);
	t->started = !err;
	return -err;
}

bool vm_vcpu_join(struct vm_vcpu *t)
{
	struct timespec until;

	if (!t->started)
		return true;
	vcpu_request(&t->v, REQ_STOP);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_SECONDS;
	if (pthread_timedjoin_np(t->thread, 0, &until))
		return false;
	t->started = false;
	return true;
}
