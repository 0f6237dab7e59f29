/*
 * signals.c - signals made by the processor and by timers; registers, flags and vector state across handlers; single-step,
 * INT3 and hardware breakpoints through ptrace. Proves that exceptions are precise and that no state leaks.
 */
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include "check.h"

static volatile int last_signal, last_code;
static volatile uintptr_t last_rip, last_address;
static volatile long last_trap, last_error;
static volatile int skip;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	last_signal = sig;
	last_code = info->si_code;
	last_rip = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
	last_address = (uintptr_t)info->si_addr;
	last_trap = uc->uc_mcontext.gregs[REG_TRAPNO];
	last_error = uc->uc_mcontext.gregs[REG_ERR];
	uc->uc_mcontext.gregs[REG_RIP] += skip;
}

/* Runs one faulting instruction of `length` bytes, with these values in RAX, RDX and RCX. A breakpoint's RIP is the next one. */
#define FAULT(sig_, trap_, length, text, ax, dx, cx)                                                         \
	do {                                                                                                 \
		uint64_t a = (ax), d = (dx), c = (cx);                                                       \
		uintptr_t at;                                                                                \
		skip = (trap_) == 3 ? 0 : (length);                                                          \
		last_signal = 0;                                                                             \
		__asm__ volatile("lea 1f(%%rip), %0\n1: " text "\n"                                          \
				 : "=&r"(at), "+a"(a), "+d"(d), "+c"(c) : : "memory", "cc");                 \
		CHECK(last_signal == (sig_) && last_trap == (trap_));                                        \
		CHECK(last_rip == at + ((trap_) == 3 ? (length) : 0));                                       \
		CHECK(a == (uint64_t)(ax) && d == (uint64_t)(dx) && c == (uint64_t)(cx));                    \
	} while (0)

static void processor_exceptions(void)
{
	uint64_t noncanonical = 0x8000000000000000u;
	FAULT(SIGFPE, 0, 2, "div %%ecx", 1, 0, 0);
	CHECK(last_code == FPE_INTDIV);
	FAULT(SIGILL, 6, 2, "ud2", 1, 2, 3);
	FAULT(SIGSEGV, 13, 1, "hlt", 1, 2, 3);
	FAULT(SIGSEGV, 13, 3, "mov %%cr0, %%rax", 1, 2, 3);
	FAULT(SIGSEGV, 13, 1, "cli", 1, 2, 3);
	FAULT(SIGSEGV, 13, 1, "inb %%dx", 1, 0x3f8, 3);
	FAULT(SIGSEGV, 13, 2, "movb (%%rcx), %%al", 1, 2, noncanonical);
	CHECK(last_error == 0);
	FAULT(SIGTRAP, 3, 1, "int3", 1, 2, 3);
	/* INT n through a gate whose DPL is 0 */
	FAULT(SIGSEGV, 13, 2, "int $0x21", 1, 2, 3);
	CHECK(last_error == (0x21 << 3 | 2));
	FAULT(SIGSEGV, 14, 8, "xchg %%rax, 0x10", 5, 2, 3);
	CHECK(last_address == 0x10);
}

static void single_step_in_process(void)
{
	int count = 0;
	skip = 0;
	last_signal = 0;
	__asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq\n nop\n pushfq; andl $~0x100, (%%rsp); popfq\n" : "+r"(count) : : "memory", "cc");
	CHECK(last_signal == SIGTRAP && last_trap == 1);
}

/* A timer interrupts a loop that keeps known values in all registers and checks them: 16 ymm, rflags, x87. */
static volatile int ticks;
static void on_alarm(int sig)
{
	double x = sig;
	__asm__ volatile("vpcmpeqd %%ymm0, %%ymm0, %%ymm0; vmovdqa %%ymm0, %%ymm7; vmovdqa %%ymm0, %%ymm15; fldl %0; fsqrt; fstpl %0; std; cld"
			 : "+m"(x) : : "xmm0", "xmm7", "xmm15");
	ticks++;
}

__attribute__((target("avx2"))) static void registers_across_signals(void)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	CHECK(sigaction(SIGALRM, &sa, NULL) == 0);
	struct itimerval timer = { { 0, 2000 }, { 0, 2000 } };
	CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
	while (ticks < 60) {
		uint64_t bad;
		__asm__ volatile(
			"mov $0x123456789abcdef, %%rax; vmovq %%rax, %%xmm7; vpbroadcastq %%xmm7, %%ymm7; vpaddq %%ymm7, %%ymm7, %%ymm15\n"
			"vmovdqa %%ymm7, %%ymm0; fldpi\n"
			"mov $20000, %%ecx; xor %%edx, %%edx; mov $77, %%r8; mov $78, %%r9; mov $79, %%r10; mov $80, %%r11; mov $81, %%r12; mov $82, %%r13\n"
			"1: stc; setc %%dl; lea -1(%%rcx), %%rcx; jnc 2f; cmp $77, %%r8; jne 2f; cmp $80, %%r11; jne 2f; test %%rcx, %%rcx; jnz 1b\n"
			"vpcmpeqq %%ymm0, %%ymm7, %%ymm1; vpaddq %%ymm0, %%ymm0, %%ymm2; vpcmpeqq %%ymm2, %%ymm15, %%ymm2; vpand %%ymm1, %%ymm2, %%ymm1\n"
			"vpmovmskb %%ymm1, %%edx; not %%edx; mov %%rdx, %0; fldpi; fcomip; fstp %%st(0); jne 2f\n"
			"mov %%r9, %%r10; sub $78, %%r10; or %%r10, %0; sub $81, %%r12; or %%r12, %0; sub $82, %%r13; or %%r13, %0\n"
			"jmp 3f\n2: mov $1, %0\n3: movl %k0, %k0; vzeroupper"
			: "=&r"(bad) : : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm7", "xmm15");
		CHECK(!bad);
	}
	timer = (struct itimerval){ 0 };
	setitimer(ITIMER_REAL, &timer, NULL);
}

/* The handler on its own stack, the fault being a stack overflow. */
static sigjmp_buf overflow_jump;
static void on_overflow(int sig) { siglongjmp(overflow_jump, sig); }
static int recurse(volatile char *above, int depth)
{
	volatile char local[16384];
	local[0] = above[0];
	return depth == 1 << 20 ? 0 : recurse(local, depth + 1) + local[0];
}
static void alternate_stack(void)
{
	static char stack[65536];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof stack };
	struct sigaction sa = { .sa_handler = on_overflow, .sa_flags = SA_ONSTACK };
	CHECK(sigaltstack(&ss, NULL) == 0 && sigaction(SIGSEGV, &sa, NULL) == 0);
	char c = 1;
	int sig = sigsetjmp(overflow_jump, 1);
	if (!sig)
		CHECK(recurse(&c, 0) == -1);
	CHECK(sig == SIGSEGV);
}

/* The traced child: three known instructions and a watched variable. */
static volatile uint64_t watched;
__attribute__((noinline)) static void traced_body(void)
{
	for (int i = 0; i < 5; i++) {
		__asm__ volatile("" ::: "memory");
		watched += 3;
	}
}

static void debug_registers(void)
{
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		traced_body();
		_exit((int)watched);
	}
	int status;
	CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
#define DR(n) (offsetof(struct user, u_debugreg) + (n) * sizeof(long))
	CHECK(ptrace(PTRACE_POKEUSER, pid, DR(0), &watched) == 0);
	CHECK(ptrace(PTRACE_POKEUSER, pid, DR(1), traced_body) == 0);
	CHECK(ptrace(PTRACE_POKEUSER, pid, DR(7), (void *)(uintptr_t)0x90005) == 0); /* 0: write, 8 bytes; 1: execute */
	int writes = 0, executions = 0;
	for (;;) {
		CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
		CHECK(waitpid(pid, &status, 0) == pid);
		if (WIFEXITED(status))
			break;
		CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
		long dr6 = ptrace(PTRACE_PEEKUSER, pid, DR(6), 0);
		CHECK(ptrace(PTRACE_POKEUSER, pid, DR(6), 0) == 0);
		if (dr6 & 1) {
			writes++;
			long value = ptrace(PTRACE_PEEKDATA, pid, &watched, 0);
			CHECK(value == 3 * writes);
		}
		if (dr6 & 2)
			executions++;
	}
	CHECK(WEXITSTATUS(status) == 15 && writes == 5 && executions == 1);
}

static void single_step_by_ptrace(void)
{
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		__asm__ volatile("int3; mov $1000, %%ecx; 1: dec %%ecx; jnz 1b; int3" ::: "rcx", "cc", "memory");
		_exit(9);
	}
	int status, steps = 0;
	CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
	struct user_regs_struct regs;
	do {
		CHECK(ptrace(PTRACE_SINGLESTEP, pid, 0, 0) == 0);
		CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
		CHECK(ptrace(PTRACE_GETREGS, pid, 0, &regs) == 0);
		steps++;
	} while (steps < 5000 && (uint32_t)regs.rcx != 0);
	CHECK(steps == 2000);
	CHECK(ptrace(PTRACE_SINGLESTEP, pid, 0, 0) == 0 && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0 && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 9);
}

/* `signals breakpoints` tests the debug registers too; some hosts' hypervisors keep them from their guests. */
int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	int signals[] = { SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS };
	for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
		CHECK(sigaction(signals[i], &sa, NULL) == 0);
	processor_exceptions();
	single_step_in_process();
	registers_across_signals();
	alternate_stack();
	if (argc == 2 && !strcmp(argv[1], "breakpoints"))
		debug_registers();
	single_step_by_ptrace();
	puts("signals: exceptions, stepping, registers, stacks, breakpoints: ok");
	return 0;
}
