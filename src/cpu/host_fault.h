/*
 * host_fault.h - who handles a fault signal raised by guest instructions that run on the host.
 *
 * Guest instructions execute in host stubs (cpu/host_stub) and in generated code (bt/). When one of them faults on silicon (#DE, #UD, #GP for a
 * misaligned operand, #MF, #AC, #XM), Linux sends a signal; the owner of the code range turns it into a guest exception.
 * A fault anywhere else is our own crash: log_fatal_signal.
 *
 * The handler edits the signal context, usually setting RIP to a recovery point; sigreturn then restores the vector and x87
 * state as they were at the fault. It runs on the thread's alternate stack and must be async-signal-safe.
 */
#ifndef CPU_HOST_FAULT_H
#define CPU_HOST_FAULT_H

#include <signal.h>
#include <ucontext.h>
#include "base/base.h"

#define HOST_FAULT_MAX_RANGES 64

/* Returns true if handled. trapno is the x86 vector (REG_TRAPNO). */
typedef bool host_fault_handler(ucontext_t *context, int signo, siginfo_t *info, int trapno);

/* Installs the signal handlers, again if somebody else has taken the signals since (test frameworks do). 0 or -errno. */
int host_fault_take_signals(void);
/* Claims RIPs in [lo, hi); installs the signal handlers on first use. Any thread. 0, -ENOSPC or -errno. */
int host_fault_register(const void *lo, const void *hi, host_fault_handler *handler);
void host_fault_unregister(const void *lo);

/* Gives the calling thread its alternate signal stack (once a thread; idempotent) and returns it at thread_stop. 0 or -errno. */
int host_fault_thread_start(void);
void host_fault_thread_stop(void);

#endif
