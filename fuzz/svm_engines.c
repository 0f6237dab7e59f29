/*
 * svm_engines.c - guest hypervisors under both engines: the same VMCB, tables and code run under the translator and under the executor, each on a machine of its own, and leave the
 * same registers, memory and VMCB. What the translator gets wrong of guest mode shows up as a difference: an access through the hypervisor's translations, a check that
 * generated code lacks, an intercept that is passed over.
 *
 * Every case is made from (seed, case); the memory that svm_case.image does not cover is as earlier cases left it, on both machines. A case that does not end within STEPS instructions is
 * not run by the translator, which cannot be stopped at a given instruction.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/tune.h"
#include "cpu/cpuid.h"
#include "cpu/engine.h"
#include "cpu/exec.h"
#include "cpu/lapic.h"
#include "svm/svm_internal.h"
#include "options.h"
#include "svm_engines/case.h"

#define STEPS 4000
#define AUDIT_EVERY 500
#define HANG_SECONDS 20

struct machine {
	const char *name;
	const struct engine *engine;
	void *state;
	struct memory memory;
	struct bus bus;
	struct vcpu *v;
	uint8_t *page[RAM >> PAGE_SHIFT]; /* host addresses: nothing moves here */
};

static struct machine machines[2];	/* the executor's, the translator's */
static struct svm_case made;
static uint64_t number;
static bool tracing;

static __attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...)
{
	va_list args;

	printf("case %llu: ", (unsigned long long)number);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	exit(1);
}

static void machine_start(struct machine *m, const char *name, const struct engine *engine, enum paging_mode mode, struct tune *tune)
{
	m->name = name;
	m->engine = engine;
	m->v = aligned_alloc(64, ALIGN_UP(sizeof(*m->v), 64));
	bus_init(&m->bus);
	if (!m->v || memory_init(&m->memory, RAM, PLACEMENT_SCATTER, 1))
		fail("no memory");
	m->memory.tune = tune;
	if (vcpu_init(m->v, &m->memory, &m->bus, mode, 0) || engine->vm_init(&m->memory, &m->state) || engine->vcpu_init(m->v, m->state) || engine->thread_start(m->v))
		fail("the engine does not start");
	m->v->kick = engine->kick;
	vcpu_offer(m->v, 1u << CPU_OFFER_SVM);
	m->v->xcr0 = m->v->cpuid->xcr0;
	if (svm_attach(m->v))
		fail("no memory");
	memory_lock(&m->memory);
	for (uint64_t i = 0; i < ARRAY_LEN(m->page); i++) {
		struct p2m_entry e;
		bool fresh;

		if (p2m_back(&m->memory, gpa(i << PAGE_SHIFT), &e, &fresh) != P2M_MAPPED)
			fail("no memory");
		m->page[i] = pool_ptr(&m->memory.pool, e.m);
	}
	memory_unlock(&m->memory);
}

static void machine_end(struct machine *m)
{
	svm_detach(m->v);
	m->engine->vcpu_destroy(m->v);
	m->engine->vm_destroy(m->state);
	vcpu_destroy(m->v);
	memory_destroy(&m->memory);
	free(m->bus.lock);
	free(m->v);
}

/* L1 in 64-bit mode, at its first instruction, with GIF clear as hypervisors have it. */
static void reset(struct machine *m)
{
	struct vcpu *v = m->v;

	if (memory_write(&m->memory, gpa(0), made.image, sizeof(made.image)))
		fail("memory");
	v->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_WP;
	v->cr2 = 0;
	v->cr3 = PML4;
	v->cr4 = CR4_PAE | CR4_OSFXSR;
	v->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE | EFER_SVME;
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	mmu_set_cr3(&v->mmu, v->cr3);
	mmu_flush_all(&v->mmu);
	memcpy(v->gpr, made.gpr, sizeof(v->gpr));
	v->rip = L1_CODE;
	v->rflags = FL_R1 | FL_IF;
	v->cpl = v->inhibit = v->halted = v->irq_waiting = v->nmi_masked = 0;
	v->debug_hits = 0;
	memset(v->dr, 0, sizeof(v->dr));
	control_load_debug(v, 0, 0);
	v->pat = 0x0007040600070406;
	v->seg[SEG_CS] = (struct segment){ .limit = ~0u, .selector = 8, .attr = 0xa9b };
	v->seg[SEG_SS] = v->seg[SEG_DS] = v->seg[SEG_ES] = v->seg[SEG_FS] = v->seg[SEG_GS] = (struct segment){ .limit = ~0u, .selector = 16, .attr = 0xc93 };
	v->gdtr = (struct table_reg){ GDT, 55 };
	v->idtr = (struct table_reg){ IDT, 0xfff };
	v->tr = (struct segment){ .base = TSS, .limit = 0x67, .selector = 24, .attr = SEG_P | 0xb };
	v->ldtr = (struct segment){ 0 };
	v->star = 8ull << 32 | 40ull << 48;
	v->lstar = HANDLERS;
	v->cstar = v->sfmask = v->kernel_gs_base = v->sysenter_cs = v->sysenter_esp = v->sysenter_eip = v->tsc_aux = 0;
	fpu_reset(v);
	v->svm.gif_clear = true;
	v->svm.vm_cr = v->svm.hsave = v->svm.v_tpr = 0;
	v->svm.tsc_ratio = 0; /* time stands still in the guest */
	v->counters.vmruns = v->counters.vmexits = 0;
	lapic_reset(&v->lapic, 0, true);
	v->lapic.svr = 0x1ff;
	if (made.interrupt)
		lapic_post(v, &(struct irq_message){ .vector = (uint8_t)made.interrupt });
	atomic_store(&v->lapic.nmi_pending, made.nmi);
	atomic_store(&v->pending, 0);
	v->exit.kind = EXIT_NONE;
}

/* As engine_exec does, but so many instructions at most. False: it went on and on. */
static bool run_executor(struct vcpu *v)
{
	unsigned steps = STEPS;

	while (v->exit.kind == EXIT_NONE && steps--) {
		if (tracing)
			printf("%s %llx\n", v->svm.guest ? "L2" : "L1", (unsigned long long)v->rip);
		while ((atomic_load(&v->pending) & REQ_INTERRUPT) && v->exit.kind == EXIT_NONE) /* one after the other, before an instruction of any handler */
			exec_interrupts(v);
		if (v->exit.kind != EXIT_NONE || exec_still_halted(v))
			break;
		atomic_store_explicit(&v->memory->track.code_writes, 0, memory_order_relaxed);
		if (exec_step(v) == EXEC_STOP)
			break;
	}
	fpu_save(v);
	return v->exit.kind != EXIT_NONE;
}

static void on_alarm(int signo)
{
	(void)signo;
	vcpu_request(machines[1].v, REQ_STOP);
}

/* Back to L1, whatever runs. */
static void end_guest(struct vcpu *v)
{
	if (v->svm.guest && svm_exit(v, VMEXIT_INTR, 0, 0, 0) != EXEC_NEXT)
		fail("no memory");
}

static void same(const char *what, uint64_t executor, uint64_t translator)
{
	if (executor != translator)
		fail("%s: %llx by the executor, %llx by the translator", what, (unsigned long long)executor, (unsigned long long)translator);
}

static void same_segment(const char *what, const struct segment *a, const struct segment *b)
{
	same(what, a->base, b->base);
	same(what, a->limit, b->limit);
	same(what, a->selector, b->selector);
	same(what, a->attr, b->attr);
}

static void compare_registers(const struct vcpu *a, const struct vcpu *b)
{
	static const char *const names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };

	same("how it ended", a->exit.kind, b->exit.kind);
	same("guest mode", a->svm.guest, b->svm.guest);
	same("#VMEXITs", a->counters.vmexits, b->counters.vmexits);
	same("VMRUNs", a->counters.vmruns, b->counters.vmruns);
	same("rip", a->rip, b->rip);
	same("rflags", a->rflags, b->rflags);
	for (unsigned i = 0; i < 16; i++)
		same(names[i], a->gpr[i], b->gpr[i]);
#define SAME(member) same(#member, a->member, b->member)
	SAME(cpl), SAME(cr0), SAME(cr2), SAME(cr3), SAME(cr4), SAME(efer), SAME(star), SAME(lstar), SAME(sfmask), SAME(kernel_gs_base), SAME(sysenter_cs), SAME(pat), SAME(tsc_aux);
	SAME(dr[6]), SAME(dr[7]), SAME(gdtr.base), SAME(idtr.base), SAME(inhibit), SAME(nmi_masked), SAME(svm.gif_clear), SAME(svm.masking), SAME(svm.v_tpr), SAME(svm.vm_cr);
#undef SAME
	for (unsigned s = 0; s < SEG_COUNT; s++)
		same_segment("a segment", &a->seg[s], &b->seg[s]);
	same_segment("tr", &a->tr, &b->tr);
	same_segment("ldtr", &a->ldtr, &b->ldtr);
}

static void compare_memory(void)
{
	for (uint64_t i = 0; i < RAM >> PAGE_SHIFT; i++)
		if (memcmp(machines[0].page[i], machines[1].page[i], PAGE_SIZE))
			for (uint64_t k = 0; k < PAGE_SIZE; k++)
				if (machines[0].page[i][k] != machines[1].page[i][k])
					fail("memory at %llx: %x by the executor, %x by the translator", (unsigned long long)(i << PAGE_SHIFT | k), machines[0].page[i][k], machines[1].page[i][k]);
}

static void adopt_memory(void)
{
	for (uint64_t i = 0; i < RAM >> PAGE_SHIFT; i++)
		if (memcmp(machines[0].page[i], machines[1].page[i], PAGE_SIZE) && memory_write(&machines[1].memory, gpa(i << PAGE_SHIFT), machines[0].page[i], PAGE_SIZE))
			fail("memory");
}

static struct { uint64_t cases, too_long, runs, exits, nested_faults, refused, in_guest; } tally;

static void one(uint64_t seed)
{
	struct vcpu *a = machines[0].v, *b = machines[1].v;

	svm_case_make(&made, seed * 0x9e3779b97f4a7c15ull ^ number << 20);
	reset(&machines[0]);
	tally.cases++;
	if (!run_executor(a)) {
		tally.too_long++;
		end_guest(a);
		adopt_memory();
		return;
	}
	if (tracing)
		printf("%s\n", a->exit.reason);
	reset(&machines[1]);
	alarm(HANG_SECONDS);
	while (b->exit.kind == EXIT_NONE)
		machines[1].engine->run(b);
	alarm(0);
	if (b->exit.kind == EXIT_STOP)
		fail("the translator did not end, the executor did");
	tally.in_guest += a->svm.guest;
	if (a->svm.guest == b->svm.guest) {
		end_guest(a);
		end_guest(b);
	}
	tally.runs += a->counters.vmruns;
	tally.exits += a->counters.vmexits;
	tally.nested_faults += a->svm.state->vmcb.exitcode == VMEXIT_NPF;
	tally.refused += a->svm.state->vmcb.exitcode == VMCB_EXIT_INVALID;
	compare_registers(a, b);
	compare_memory();
}

int main(int argc, char **argv)
{
	struct fuzz_options o = { .cases = 10000, .seed = 1, .mode = PAGING_NESTED };
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_ONSTACK | SA_RESTART };
	char text[300];

	tune_defaults(&o.tune);
	if (!fuzz_options(&o, &tracing, argc, argv))
		return 2;
	if (tune_parse(&o.tune, "precise-flags=on"))
		return 2;
	machine_start(&machines[0], "exec", &engine_exec, o.mode, &o.tune);
	machine_start(&machines[1], "bt", &engine_bt, o.mode, &o.tune);
	sigaction(SIGALRM, &action, NULL);
	for (number = o.first; number < o.first + o.cases; number++) {
		one(o.seed);
		if (number % AUDIT_EVERY == 0 && mmu_audit(&machines[1].v->mmu, text, sizeof(text)))
			fail("%s", text);
	}
	printf("%llu cases, %llu of them too long: %llu VMRUNs, %llu #VMEXITs; %llu ended in L2, %llu with a nested fault, %llu refused\n", (unsigned long long)tally.cases,
	       (unsigned long long)tally.too_long, (unsigned long long)tally.runs, (unsigned long long)tally.exits, (unsigned long long)tally.in_guest,
	       (unsigned long long)tally.nested_faults, (unsigned long long)tally.refused);
	machine_end(&machines[0]);
	machine_end(&machines[1]);
	return 0;
}
