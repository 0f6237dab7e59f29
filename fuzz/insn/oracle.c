/*
 * oracle.c - the first opinion: cases run on the host CPU itself.
 *
 * Lifecycle: oracle_start forks. The child maps the sandbox at its addresses, moves to a stack of its own, unmaps everything else
 * (libc, heap, the old stack), so that a wild access of a case faults as it does in the guest, gives FS and GS the sandbox's
 * bases, and forbids itself every system call but its own four, which a random instruction cannot reach. It then runs batches
 * from shared memory. Only functions in this file, sandbox_fill and inline ones run there: no libc, no sanitizer.
 *
 * Faults arrive as signals; the handler notes trap number, error code, CR2 and the registers, and goes on at oracle_exit,
 * which stores the rest. A timer finds endless loops.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <asm/prctl.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include "insn_fuzz.h"

#define BARE __attribute__((no_sanitize("address", "undefined"), noinline))

struct shared {
	_Atomic uint32_t submitted[ORACLE_BATCHES], done[ORACLE_BATCHES]; /* counters of batches */
	_Atomic uint32_t wake, progress;	/* futex words: work for the child; the child finished something */
	uint32_t first[ORACLE_BATCHES], count[ORACLE_BATCHES]; /* cases of the batch that are to be run */
	uint32_t running, at;			/* the batch and case being run */
	struct oracle_slot slot[ORACLE_BATCHES][ORACLE_BATCH];
};

struct oracle {
	pid_t pid;
	struct shared *shared;
	uint32_t expect[ORACLE_BATCHES];
};

/* The child's own, in the program's .bss: reached RIP-relative, and by the assembler part. */
struct regs { uint64_t gpr[16], rip, rflags; uint16_t ds, es, ss; };
_Static_assert(offsetof(struct regs, rflags) == 136 && offsetof(struct regs, ds) == 144, "oracle_enter.S knows these");
#define ASM_DATA __attribute__((visibility("hidden"), aligned(64)))
ASM_DATA struct regs oracle_in, oracle_out;
ASM_DATA uint8_t oracle_fpu_in[FPU_AREA_SIZE], oracle_fpu_out[FPU_AREA_SIZE];
ASM_DATA uint64_t oracle_saved_rsp, oracle_odd_rsp, oracle_odd_rip;
extern char oracle_text_start[], oracle_text_end[], oracle_exit[], oracle_resume[], oracle_resume_end[], __executable_start[], _end[];
void oracle_enter(void);
void oracle_restorer(void);
long oracle_syscall(long nr, long a, long b, long c, long d, long e, long f);
_Noreturn void oracle_on_stack(void *top, void (*fn)(void));

static struct {
	struct shared *shared;
	uint8_t (*mem)[PAGE_SIZE];	/* the backing pages, writable */
	struct outcome *out;		/* of the case being run */
	bool faulted;
	unsigned ticks;			/* timer signals since the case began */
	uint64_t odd_tsc;
	unsigned odd_count;
	struct regs at_fault;
} child;

static struct { uint64_t start, end; } keep[6]; /* ascending: what stays mapped */
static unsigned keeps;

static BARE bool is_ours(uint64_t rip)
{
	return rip >= (uint64_t)__executable_start && rip < (uint64_t)_end;
}

/*
 * Linux cannot return to an RSP that is not canonical (IRET faults on AMD): any interrupt or signal then ends in SIGSEGV, with the number
 * of some earlier trap, wherever the case was. It goes on through oracle_resume. A fault of the case's own comes again at
 * once, and counts then.
 */
#define ODD_WINDOW 200000 /* TSC ticks: longer than a signal takes to come back, shorter than between two interrupts, mostly */
#define ODD_REPEATS 2 /* so often must it come back */

static BARE void resume_odd_stack(greg_t *g)
{
	uint64_t rip = (uint64_t)g[REG_RIP];

	if (rip < (uint64_t)oracle_resume || rip >= (uint64_t)oracle_resume_end) {
		oracle_odd_rsp = (uint64_t)g[REG_RSP];
		oracle_odd_rip = rip;
	}
	g[REG_RSP] = (greg_t)oracle_saved_rsp;
	g[REG_RIP] = (greg_t)oracle_resume;
}

static BARE bool return_failed(int sig, const greg_t *g)
{
	uint64_t now = __builtin_ia32_rdtsc();

	if (sig != SIGSEGV || host_canonical((uint64_t)g[REG_RSP]))
		return false;
	child.odd_count = (uint64_t)g[REG_RIP] == oracle_odd_rip && now - child.odd_tsc < ODD_WINDOW ? child.odd_count + 1 : 0;
	child.odd_tsc = now;
	return child.odd_count < ODD_REPEATS || is_ours((uint64_t)g[REG_RIP]);
}

static BARE void on_signal(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *g = uc->uc_mcontext.gregs;
	static const uint8_t order[16] = {
		REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
		REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
	};
	uint64_t rip = (uint64_t)g[REG_RIP];

	(void)info;
	__asm__ volatile("pushq $0x202; popfq" : : : "memory", "cc");
	if (return_failed(sig, g)) {
		resume_odd_stack(g);
		return;
	}
	if (sig == SIGALRM) {
		if (is_ours(rip) || ++child.ticks < 3) {
			if (!host_canonical((uint64_t)g[REG_RSP]))
				resume_odd_stack(g);
			return;
		}
		child.out->kind = OUTCOME_TIMEOUT;
	} else if (is_ours(rip)) {
		oracle_syscall(SYS_exit_group, 99, 0, 0, 0, 0, 0);
	} else if (sig == SIGSYS) {
		child.out->kind = OUTCOME_STRAYED;
	}
	for (int i = 0; i < 16; i++)
		child.at_fault.gpr[i] = (uint64_t)g[order[i]];
	child.at_fault.rip = rip;
	child.at_fault.rflags = (uint64_t)g[REG_EFL];
	child.out->vector = (int)g[REG_TRAPNO];
	child.out->error = (uint32_t)g[REG_ERR];
	child.out->cr2 = (uint64_t)g[REG_CR2];
	child.faulted = true;
	g[REG_RIP] = (greg_t)oracle_exit;
	g[REG_RSP] = (greg_t)oracle_saved_rsp; /* the kernel cannot return to any odd one: IRET on AMD */
	g[REG_EFL] = 0x202;
}

static BARE void run_slot(struct oracle_slot *s)
{
	const struct icase *c = &s->c;
	struct outcome *o = &s->out;

	sandbox_fill(c, child.mem);
	copy_bytes(oracle_in.gpr, c->in.gpr, sizeof(oracle_in.gpr));
	oracle_in.rip = c->in.rip;
	oracle_in.rflags = c->in.rflags;
	copy_bytes(oracle_fpu_in, c->in.fpu, FPU_AREA_SIZE);
	o->kind = OUTCOME_DONE;
	o->vector = NO_VECTOR;
	o->error = 0;
	o->cr2 = 0;
	o->why[0] = 0;
	child.out = o;
	child.faulted = false;
	child.ticks = 0;
	oracle_enter();
	const struct regs *r = child.faulted ? &child.at_fault : &oracle_out;
	copy_bytes(o->end.gpr, r->gpr, sizeof(o->end.gpr));
	o->end.rip = child.faulted ? r->rip : VA_EXIT;
	o->end.rflags = r->rflags;
	o->end.ds = oracle_out.ds;
	o->end.es = oracle_out.es;
	o->end.ss = oracle_out.ss;
	copy_bytes(o->end.fpu, oracle_fpu_out, FPU_AREA_SIZE);
	copy_bytes(o->mem, child.mem, sizeof(o->mem));
}

static BARE void child_loop(void)
{
	struct shared *sh = child.shared;
	uint32_t done[ORACLE_BATCHES] = { 0 };
	static const struct itimerval period = { { 0, 2000 }, { 0, 2000 } };

	/* Everything but our own is unmapped here. */
	uint64_t from = 0x10000;
	for (unsigned i = 0; i <= keeps; i++) {
		uint64_t to = i < keeps ? keep[i].start : 0x7ffffffff000;
		if (to > from)
			oracle_syscall(SYS_munmap, (long)from, (long)(to - from), 0, 0, 0, 0);
		if (i < keeps)
			from = keep[i].end;
	}
	oracle_syscall(SYS_arch_prctl, ARCH_SET_FS, VA_FS, 0, 0, 0, 0);
	oracle_syscall(SYS_arch_prctl, ARCH_SET_GS, VA_GS, 0, 0, 0, 0);
	oracle_syscall(SYS_setitimer, ITIMER_REAL, (long)&period, 0, 0, 0, 0);

	static struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3), /* the high half of our text's address */
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0, 0, 1), /* its start */
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 0, 0, 1), /* its end */
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	static struct sock_fprog prog = { ARRAY_LEN(filter), filter };
	filter[3].k = (uint32_t)((uint64_t)oracle_text_start >> 32);
	filter[5].k = (uint32_t)(uint64_t)oracle_text_start;
	filter[6].k = (uint32_t)(uint64_t)oracle_text_end;
	if (oracle_syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0) ||
	    oracle_syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (long)&prog, 0, 0, 0))
		oracle_syscall(SYS_exit_group, 98, 0, 0, 0, 0, 0);

	for (;;) {
		uint32_t wake = atomic_load(&sh->wake);
		bool worked = false;
		for (uint32_t w = 0; w < ORACLE_BATCHES; w++) {
			if (atomic_load(&sh->submitted[w]) == done[w])
				continue;
			sh->running = w;
			for (uint32_t i = sh->first[w]; i < sh->count[w]; i++) {
				sh->at = i;
				run_slot(&sh->slot[w][i]);
			}
			atomic_store(&sh->done[w], ++done[w]);
			atomic_fetch_add(&sh->progress, 1);
			oracle_syscall(SYS_futex, (long)&sh->progress, FUTEX_WAKE, 1, 0, 0, 0);
			worked = true;
		}
		if (!worked)
			oracle_syscall(SYS_futex, (long)&sh->wake, FUTEX_WAIT, wake, 0, 0, 0);
	}
}

static NORETURN void refuse(const char *what)
{
	fprintf(stderr, "insn: the host CPU cannot be asked: %s: %s\n", what, strerror(errno));
	_exit(97);
}

static void *map_at(uint64_t va, size_t len, int prot, int flags, int fd, off_t off)
{
	void *p = mmap((void *)va, len, prot, flags | (va ? MAP_FIXED_NOREPLACE : 0), fd, off);
	if (p == MAP_FAILED || (va && p != (void *)va))
		refuse("mmap of the sandbox");
	return p;
}

static void keep_range(const void *start, const void *end)
{
	unsigned at = keeps++;
	uint64_t s = ALIGN_DOWN((uint64_t)start, PAGE_SIZE), e = ALIGN_UP((uint64_t)end, PAGE_SIZE);
	for (; at > 0 && keep[at - 1].start > s; at--)
		keep[at] = keep[at - 1];
	keep[at].start = s;
	keep[at].end = e;
}

/* The kernel's own form of struct sigaction: libc's would use libc's restorer. */
struct kernel_sigaction { void (*handler)(int, siginfo_t *, void *); unsigned long flags; void (*restorer)(void); uint64_t mask; };
#define SA_RESTORER_FLAG 0x04000000ul

static void catch_signals(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGALRM };
	struct kernel_sigaction sa = { on_signal, SA_SIGINFO | SA_ONSTACK | SA_RESTORER_FLAG, oracle_restorer, ~0ull };

	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (syscall(SYS_rt_sigaction, signals[i], &sa, 0, 8))
			refuse("sigaction");
}

static NORETURN void child_start(struct shared *shared)
{
	/* jmp *2(%rip): the pointer is aligned, for cases that set AC. */
	static const uint8_t leave[8] = { 0xff, 0x25, 2 };
	size_t stack_size = 1 << 18;
	int fd = memfd_create("sandbox", 0);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fd < 0 || ftruncate(fd, PAGE_COUNT * PAGE_SIZE))
		refuse("memfd");
	if (__rseq_size)
		syscall(SYS_rseq, (uint8_t *)__builtin_thread_pointer() + __rseq_offset, 32, 1, 0x53053053);
	child.shared = shared;
	child.mem = map_at(0, PAGE_COUNT * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	for (unsigned i = 0; i < sandbox_mapping_count; i++) {
		const struct sandbox_mapping *m = &sandbox_mappings[i];
		map_at(m->va, PAGE_SIZE, PROT_READ | (m->write ? PROT_WRITE : 0) | (m->exec ? PROT_EXEC : 0), MAP_SHARED | MAP_POPULATE, fd,
		       (off_t)(m->page * PAGE_SIZE));
	}
	uint8_t *exit_page = map_at(VA_EXIT, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(exit_page, leave, sizeof(leave));
	store_u64(exit_page + sizeof(leave), (uint64_t)oracle_exit);
	mprotect(exit_page, PAGE_SIZE, PROT_READ | PROT_EXEC);
	uint8_t *stack = map_at(0, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	stack_t alt = { .ss_sp = stack, .ss_size = stack_size / 2 };
	if (sigaltstack(&alt, 0))
		refuse("sigaltstack");
	catch_signals();
	keep_range(__executable_start, _end);
	keep_range(shared, shared + 1);
	keep_range(child.mem, child.mem + PAGE_COUNT);
	keep_range(stack, stack + stack_size);
	keep_range((void *)VA_DATA, (void *)(VA_CODE + CODE_AREA)); /* holes inside are holes already */
	keep_range(exit_page, exit_page + PAGE_SIZE);
	oracle_on_stack(stack + stack_size - 64, child_loop);
}

static void spawn(struct oracle *o)
{
	fflush(0);
	o->pid = fork();
	if (o->pid < 0)
		refuse("fork");
	if (!o->pid)
		child_start(o->shared);
}

struct oracle *oracle_start(void)
{
	struct oracle *o = calloc(1, sizeof(*o));

	o->shared = mmap(0, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (o->shared == MAP_FAILED)
		refuse("mmap");
	sandbox_pattern();
	spawn(o);
	return o;
}

struct oracle_slot *oracle_batch(struct oracle *o, unsigned which) { return o->shared->slot[which]; }

void oracle_submit(struct oracle *o, unsigned which, unsigned count)
{
	struct shared *sh = o->shared;

	o->expect[which]++;
	sh->first[which] = 0;
	sh->count[which] = count;
	atomic_fetch_add(&sh->submitted[which], 1);
	atomic_fetch_add(&sh->wake, 1);
	syscall(SYS_futex, &sh->wake, FUTEX_WAKE, 1, 0, 0, 0);
}

/* The child is gone, or stuck: its case is marked, and another child, whose counters begin at zero, does the rest. */
static void respawn(struct oracle *o)
{
	struct shared *sh = o->shared;

	if (!waitpid(o->pid, 0, WNOHANG)) {
		kill(o->pid, SIGKILL);
		waitpid(o->pid, 0, 0);
	}
	for (uint32_t w = 0; w < ORACLE_BATCHES; w++) {
		bool pending = atomic_load(&sh->done[w]) != o->expect[w];

		if (pending && w == sh->running) {
			struct outcome *out = &sh->slot[w][sh->at].out;

			out->kind = OUTCOME_BROKEN;
			snprintf(out->why, sizeof(out->why), "the host process died of it");
			sh->first[w] = sh->at + 1;
		}
		o->expect[w] = pending;
		atomic_store(&sh->submitted[w], pending);
		atomic_store(&sh->done[w], 0);
	}
	spawn(o);
}

void oracle_wait(struct oracle *o, unsigned which)
{
	struct shared *sh = o->shared;
	struct timespec second = { 1, 0 };
	int status, deaths = 0;

	for (int idle = 0; deaths < 100;) {
		uint32_t progress = atomic_load(&sh->progress);
		bool dead;

		if (atomic_load(&sh->done[which]) == o->expect[which])
			return;
		dead = waitpid(o->pid, &status, WNOHANG) == o->pid;
		if (dead && WIFEXITED(status) && WEXITSTATUS(status) >= 97 && WEXITSTATUS(status) < 99)
			break;
		if (dead || idle == 20) {
			respawn(o);
			idle = 0;
			deaths++;
			continue;
		}
		idle = syscall(SYS_futex, &sh->progress, FUTEX_WAIT, progress, &second, 0, 0) && errno == ETIMEDOUT ? idle + 1 : 0;
	}
	fprintf(stderr, "insn: the host CPU cannot be asked (%s)\n", deaths ? "its process dies of everything" : "no start");
	exit(1);
}

void oracle_run(struct oracle *o, const struct icase *c, struct outcome *out)
{
	struct oracle_slot *s = oracle_batch(o, ORACLE_BATCHES - 1);

	s->c = *c;
	oracle_submit(o, ORACLE_BATCHES - 1, 1);
	oracle_wait(o, ORACLE_BATCHES - 1);
	*out = s->out;
}

void oracle_stop(struct oracle *o)
{
	kill(o->pid, SIGKILL);
	waitpid(o->pid, 0, 0);
	munmap(o->shared, sizeof(struct shared));
	free(o);
}
