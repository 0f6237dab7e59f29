/*
 * host_fault.c - process-wide signal handlers for faults of guest instructions (host_fault.h).
 *
 * Ranges are published with a release store of `handler` after lo and hi, and are withdrawn by clearing it: the signal
 * handler reads the table without a lock.
 */
#include "cpu/host_fault.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include "base/log.h"

struct range { uintptr_t lo, hi; _Atomic(host_fault_handler *) handler; };

static struct range ranges[HOST_FAULT_MAX_RANGES];
static pthread_mutex_t ranges_lock = PTHREAD_MUTEX_INITIALIZER;
static bool installed;
static _Thread_local void *alt_stack;

#define ALT_STACK_SIZE KIB(64)

static void on_fault(int signo, siginfo_t *info, void *opaque)
{
	ucontext_t *uc = opaque;
	uintptr_t rip = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];

	/* The kernel leaves EFLAGS.AC as it was, and our own code does not always align. */
	__builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~0x40000ull);

	/* si_code > 0: raised by the kernel for this instruction, not sent by kill(). */
	for (size_t i = 0; info->si_code > 0 && i < HOST_FAULT_MAX_RANGES; i++) {
		host_fault_handler *h = atomic_load_explicit(&ranges[i].handler, memory_order_acquire);

		if (h && rip >= ranges[i].lo && rip < ranges[i].hi &&
		    h(uc, signo, info, (int)uc->uc_mcontext.gregs[REG_TRAPNO]))
			return;
	}
	log_fatal_signal(signo);
}

int host_fault_take_signals(void)
{
	static const int signals[] = { SIGFPE, SIGSEGV, SIGILL, SIGBUS };
	struct sigaction sa = { .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };

	sa.sa_sigaction = on_fault;
	sigemptyset(&sa.sa_mask);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (sigaction(signals[i], &sa, NULL) < 0)
			return -errno;
	installed = true;
	return 0;
}

int host_fault_register(const void *lo, const void *hi, host_fault_handler *handler)
{
	int err = 0;
	size_t i;

	pthread_mutex_lock(&ranges_lock);
	if (!installed)
		err = host_fault_take_signals();
	for (i = 0; !err && i < HOST_FAULT_MAX_RANGES; i++) {
		if (atomic_load(&ranges[i].handler))
			continue;
		ranges[i].lo = (uintptr_t)lo;
		ranges[i].hi = (uintptr_t)hi;
		atomic_store_explicit(&ranges[i].handler, handler, memory_order_release);
		break;
	}
	if (!err && i == HOST_FAULT_MAX_RANGES)
		err = -ENOSPC;
	pthread_mutex_unlock(&ranges_lock);
	return err;
}

void host_fault_unregister(const void *lo)
{
	pthread_mutex_lock(&ranges_lock);
	for (size_t i = 0; i < HOST_FAULT_MAX_RANGES; i++)
		if (atomic_load(&ranges[i].handler) && ranges[i].lo == (uintptr_t)lo)
			atomic_store(&ranges[i].handler, NULL);
	pthread_mutex_unlock(&ranges_lock);
}

int host_fault_thread_start(void)
{
	stack_t ss = { .ss_size = ALT_STACK_SIZE };

	if (alt_stack)
		return 0;
	ss.ss_sp = mmap(NULL, ALT_STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ss.ss_sp == MAP_FAILED)
		return -errno;
	if (sigaltstack(&ss, NULL) < 0) {
		int err = -errno;

		munmap(ss.ss_sp, ALT_STACK_SIZE);
		return err;
	}
	alt_stack = ss.ss_sp;
	return 0;
}

void host_fault_thread_stop(void)
{
	stack_t ss = { .ss_flags = SS_DISABLE };

	if (!alt_stack)
		return;
	sigaltstack(&ss, NULL);
	munmap(alt_stack, ALT_STACK_SIZE);
	alt_stack = NULL;
}
