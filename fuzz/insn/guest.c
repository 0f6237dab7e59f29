/*
 * guest.c - the second and third opinions: cases run in a guest at CPL 3, by the translator and by the executor.
 *
 * Each engine has a guest of its own, over scattered memory. The guest's
 * tables map the sandbox and, supervisor-only above, a GDT, TSS and IDT. Every gate leads to an own HLT at CPL 0 with
 * interrupts off, which ends the run; the stack then holds error code, RIP, RFLAGS and RSP. The exit page holds HLT: reaching
 * it is #GP at VA_EXIT.
 *
 * Code is put in place through memory_write and only where it differs, so that translations are reused when they may and
 * must be dropped when they must.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include "base/clock.h"
#include "base/tune.h"
#include "cpu/cpuid.h"
#include "cpu/engine.h"
#include "cpu/exec.h"
#include "insn_fuzz.h"

#define RAM MIB(16)
/* Physical layout: system structures from 64 KiB, page tables from 128 KiB, the sandbox's pages from 1 MiB, exit page after them. */
#define PA_SYSTEM 0x10000
#define PA_TABLES 0x20000
#define PA_SANDBOX 0x100000
#define PA_EXIT (PA_SANDBOX + PAGE_COUNT * PAGE_SIZE)
/* Supervisor half: five pages. */
#define VA_SYSTEM 0xffff800000000000ull
enum { SYS_GDT, SYS_TSS, SYS_IDT, SYS_HANDLERS, SYS_STACK, SYS_PAGES };
#define VA_SYS(page) (VA_SYSTEM + (page) * PAGE_SIZE)
#define HANDLER_STRIDE 8
#define STACK_TOP (VA_SYS(SYS_STACK) + PAGE_SIZE - 16)
#define STEP_LIMIT 200000

struct guest {
	struct memory memory;
	struct tune tune;
	struct bus bus;
	struct vcpu vcpu;
	const struct engine *engine;
	void *engine_state;
	bool precise;
	uint64_t next_table;
	uint8_t *page[PAGE_COUNT];	/* the sandbox's backing pages in the pool */
	uint8_t *stack;			/* kernel stack page */
	uint8_t image[PAGE_COUNT][PAGE_SIZE];
};

static NORETURN void broken(const char *what)
{
	fprintf(stderr, "insn: the guest cannot be set up: %s\n", what);
	exit(1);
}

static void put(struct guest *g, uint64_t pa, const void *data, size_t len)
{
	if (memory_write(&g->memory, gpa(pa), data, len))
		broken("memory");
}

static uint64_t get64(struct guest *g, uint64_t pa)
{
	uint64_t v = 0;

	if (memory_read(&g->memory, gpa(pa), &v, 8))
		broken("memory");
	return v;
}

static void map_page(struct guest *g, uint64_t va, uint64_t pa, uint64_t rights)
{
	uint64_t table = PA_TABLES, entry;

	for (int level = 3; level > 0; level--) {
		uint64_t slot = table + (va >> (12 + 9 * level) & 511) * 8;

		entry = get64(g, slot);
		if (!(entry & PTE_P)) {
			entry = g->next_table | PTE_P | PTE_W | PTE_U;
			g->next_table += PAGE_SIZE;
			put(g, slot, &entry, 8);
		}
		table = entry & 0xffffffffff000ull;
	}
	entry = pa | PTE_P | rights;
	put(g, table + (va >> 12 & 511) * 8, &entry, 8);
}

static uint8_t *host_page(struct guest *g, uint64_t pa)
{
	struct p2m_entry e;
	bool fresh;

	if (p2m_back(&g->memory, gpa(pa), &e, &fresh) != P2M_MAPPED)
		broken("no frame");
	return pool_ptr(&g->memory.pool, e.m);
}

/* Linux' selectors: kernel code 10h, kernel data 18h, user 32-bit code 23h, user data 2bh, user code 33h, TSS 40h. */
static void make_tables(struct guest *g)
{
	uint64_t gdt[16] = { 0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff,
		0x00affb000000ffff, 0 };
	uint64_t tss = VA_SYS(SYS_TSS), idt[512], rsp0 = STACK_TOP;
	uint16_t no_io_bitmap = 0x68;
	uint8_t handlers[256 * HANDLER_STRIDE];

	gdt[8] = 0x67 | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56;
	gdt[9] = tss >> 32;
	put(g, PA_SYSTEM + SYS_GDT * PAGE_SIZE, gdt, sizeof(gdt));
	put(g, PA_SYSTEM + SYS_TSS * PAGE_SIZE + 4, &rsp0, 8);
	put(g, PA_SYSTEM + SYS_TSS * PAGE_SIZE + 102, &no_io_bitmap, 2);
	for (unsigned v = 0; v < 256; v++) {
		uint64_t h = VA_SYS(SYS_HANDLERS) + v * HANDLER_STRIDE;
		unsigned dpl = v == VEC_BP || v == VEC_OF ? 3 : 0;

		idt[v * 2] = (h & 0xffff) | 0x10ull << 16 | (uint64_t)(0x8e00 | dpl << 13) << 32 | (h >> 16 & 0xffff) << 48;
		idt[v * 2 + 1] = h >> 32;
	}
	put(g, PA_SYSTEM + SYS_IDT * PAGE_SIZE, idt, sizeof(idt));
	memset(handlers, 0xf4, sizeof(handlers));
	put(g, PA_SYSTEM + SYS_HANDLERS * PAGE_SIZE, handlers, sizeof(handlers));
}

static void map_all(struct guest *g)
{
	uint8_t halt[PAGE_SIZE];

	g->next_table = PA_TABLES + PAGE_SIZE;
	for (unsigned i = 0; i < sandbox_mapping_count; i++) {
		const struct sandbox_mapping *m = &sandbox_mappings[i];

		map_page(g, m->va, PA_SANDBOX + (uint64_t)m->page * PAGE_SIZE, PTE_U | (m->write ? PTE_W : 0) | (m->exec ? 0 : PTE_NX));
	}
	memset(halt, 0, sizeof(halt));
	halt[0] = 0xf4;
	put(g, PA_EXIT, halt, sizeof(halt));
	map_page(g, VA_EXIT, PA_EXIT, PTE_U);
	for (uint64_t i = 0; i < SYS_PAGES; i++)
		map_page(g, VA_SYS(i), PA_SYSTEM + i * PAGE_SIZE, PTE_W | (i == SYS_HANDLERS ? 0 : PTE_NX));
	for (uint64_t i = 0; i < PAGE_COUNT; i++)
		g->page[i] = host_page(g, PA_SANDBOX + i * PAGE_SIZE);
	g->stack = host_page(g, PA_SYSTEM + SYS_STACK * PAGE_SIZE);
}

static void set_system_registers(struct vcpu *v)
{
	v->gdtr = (struct table_reg){ VA_SYS(SYS_GDT), 127 };
	v->idtr = (struct table_reg){ VA_SYS(SYS_IDT), 4095 };
	v->tr = (struct segment){ VA_SYS(SYS_TSS), 0x67, 0x40, 0x08b };
	v->ldtr = (struct segment){ 0, 0, 0, 0 };
	v->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	v->cr4 = CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP;
	v->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	v->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
	v->cr3 = PA_TABLES;
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	mmu_set_cr3(&v->mmu, v->cr3);
}

/* Ends a run that the host CPU finished and the guest does not. */
#define TICK_US 50000
#define TICKS_ALLOWED 100 /* long loops that the host does in milliseconds may take a busy machine a while */
static struct guest *volatile running;
static volatile unsigned ticks;

static void on_tick(int sig)
{
	(void)sig;
	if (running && ++ticks >= TICKS_ALLOWED)
		vcpu_request(&running->vcpu, REQ_STOP);
}

static void watch(void)
{
	struct sigaction sa = { .sa_handler = on_tick, .sa_flags = SA_ONSTACK | SA_RESTART };
	struct itimerval period = { { 0, TICK_US }, { 0, TICK_US } };

	if (sigaction(SIGALRM, &sa, 0) || setitimer(ITIMER_REAL, &period, 0))
		broken("no timer");
}

struct guest *guest_start(unsigned engine, enum paging_mode mode, const struct tune *tune)
{
	struct guest *g = aligned_alloc(PAGE_SIZE, ALIGN_UP(sizeof(*g), PAGE_SIZE)); /* the vcpu has aligned members */

	if (g)
		memset(g, 0, sizeof(*g));
	if (!g || memory_init(&g->memory, RAM, PLACEMENT_SCATTER, 1))
		broken("memory");
	g->engine = engine == RUN_BT ? &engine_bt : &engine_exec;
	g->tune = *tune;
	g->memory.tune = &g->tune;
	g->precise = tune->on[TUNE_PRECISE_FLAGS];
	bus_init(&g->bus);
	clock_init();
	if (vcpu_init(&g->vcpu, &g->memory, &g->bus, mode, 0))
		broken("vcpu_init");
	make_tables(g);
	map_all(g);
	set_system_registers(&g->vcpu);
	if (g->engine->vm_init && g->engine->vm_init(&g->memory, &g->engine_state))
		broken("vm_init");
	if (g->engine->vcpu_init && g->engine->vcpu_init(&g->vcpu, g->engine_state))
		broken("vcpu_init of the engine");
	if (g->engine->thread_start && g->engine->thread_start(&g->vcpu))
		broken("thread_start");
	g->vcpu.kick = g->engine->kick;
	watch();
	return g;
}

uint64_t guest_features(const struct guest *g) { return g->vcpu.features & g->vcpu.cpuid->host_features; }

/* Code pages go through memory_write (the translator must hear of it); data pages are nobody's business. */
static void set_memory(struct guest *g, const struct icase *c)
{
	sandbox_fill(c, g->image);
	for (int p = 0; p < PAGE_CODE0; p++)
		memcpy(g->page[p], g->image[p], PAGE_SIZE);
	for (int p = PAGE_CODE0; p < PAGE_COUNT; p++) {
		const uint64_t *want = (const uint64_t *)g->image[p], *have = (const uint64_t *)g->page[p];
		size_t i = 0, from, words = PAGE_SIZE / 8;

		while (i < words) {
			if (want[i] == have[i]) {
				i++;
				continue;
			}
			for (from = i; i < words && want[i] != have[i]; i++)
				;
			put(g, PA_SANDBOX + (uint64_t)p * PAGE_SIZE + from * 8, &want[from], (i - from) * 8);
		}
	}
}

static void set_state(struct guest *g, const struct icase *c)
{
	static const struct segment null_data = { 0, 0, 0, 0 };
	struct vcpu *v = &g->vcpu;

	memcpy(v->gpr, c->in.gpr, sizeof(v->gpr));
	v->rip = c->in.rip;
	v->rflags = c->in.rflags;
	v->cpl = 3;
	v->inhibit = v->halted = 0;
	v->seg[SEG_CS] = (struct segment){ 0, ~0u, SEL_USER_CS, 0xafb };
	v->seg[SEG_SS] = (struct segment){ 0, ~0u, SEL_USER_SS, 0xcf3 };
	v->seg[SEG_DS] = v->seg[SEG_ES] = v->seg[SEG_FS] = v->seg[SEG_GS] = null_data;
	v->seg[SEG_FS].base = VA_FS;
	v->seg[SEG_GS].base = VA_GS;
	v->dr[6] = 0xffff0ff0;
	v->cr2 = 0;
	v->exit.kind = EXIT_NONE;
	v->fpu.live = false;
	memcpy(v->fpu.area, c->in.fpu, FPU_AREA_SIZE);
}

static void take_outcome(struct guest *g, struct outcome *o)
{
	struct vcpu *v = &g->vcpu;
	uint64_t at = v->rip - VA_SYS(SYS_HANDLERS), top = STACK_TOP & (PAGE_SIZE - 1);
	unsigned vector = (unsigned)(at / HANDLER_STRIDE);
	const uint64_t *frame = (const uint64_t *)(g->stack + top) - 5; /* rip cs rflags rsp ss */

	o->why[0] = 0;
	if ((v->exit.kind != EXIT_HLT_FOREVER && v->exit.kind != EXIT_HLT) || at >= 256 * HANDLER_STRIDE) {
		o->kind = v->exit.kind == EXIT_STOP ? OUTCOME_TIMEOUT : OUTCOME_BROKEN;
		snprintf(o->why, sizeof(o->why), "exit %d at %#lx: %.150s", v->exit.kind, (unsigned long)v->rip, v->exit.reason);
		return;
	}
	o->kind = OUTCOME_DONE;
	o->vector = (int)vector;
	o->error = pushes_error_code(vector) ? (uint32_t)frame[-1] : 0;
	o->cr2 = v->cr2;
	memcpy(o->end.gpr, v->gpr, sizeof(o->end.gpr));
	o->end.rip = frame[0];
	o->end.rflags = frame[2];
	o->end.gpr[RSP] = frame[3];
	o->end.ss = (uint16_t)frame[4];
	o->end.ds = v->seg[SEG_DS].selector;
	o->end.es = v->seg[SEG_ES].selector;
	memcpy(o->end.fpu, v->fpu.area, FPU_AREA_SIZE);
	for (int p = 0; p < PAGE_COUNT; p++)
		memcpy(o->mem[p], g->page[p], PAGE_SIZE);
	if (vector == VEC_GP && o->end.rip == VA_EXIT)
		o->vector = NO_VECTOR;
}

void guest_run(struct guest *g, const struct icase *c, struct outcome *out)
{
	/* Code that rewrites itself may read flags that the code it was translated from did not. */
	if (g->tune.on[TUNE_PRECISE_FLAGS] != (g->precise || c->rewrites)) {
		uint8_t other[PAGE_SIZE];

		/* What was translated the other way must go. */
		memset(other, 0x90, sizeof(other));
		put(g, PA_SANDBOX + PAGE_CODE0 * PAGE_SIZE, other, PAGE_SIZE);
		put(g, PA_SANDBOX + PAGE_CODE1 * PAGE_SIZE, other, PAGE_SIZE);
		g->tune.on[TUNE_PRECISE_FLAGS] = g->precise || c->rewrites;
	}
	set_memory(g, c);
	set_state(g, c);
	ticks = 0;
	running = g;
	g->engine->run(&g->vcpu);
	running = 0;
	atomic_fetch_and(&g->vcpu.pending, ~(uint32_t)REQ_STOP);
	take_outcome(g, out);
}

bool guest_stays_inside(struct guest *g, const struct icase *c, bool (*allowed)(const struct insn *in, bool first))
{
	struct vcpu *v = &g->vcpu;
	bool inside = true;

	set_memory(g, c);
	set_state(g, c);
	for (int step = 0; step < STEP_LIMIT && inside && v->cpl == 3; step++) {
		uint8_t bytes[15];
		struct insn in;
		unsigned n = 0;

		for (int at; n < 15 && (at = sandbox_offset(v->rip + n)) >= 0; n++)
			bytes[n] = g->page[at / (int)PAGE_SIZE][at % (int)PAGE_SIZE];
		memset(bytes + n, 0, 15 - n);
		if (v->rip >> 12 != VA_EXIT >> 12 && n && !insn_decode(&in, bytes, 15, INSN_MODE_64))
			inside = allowed(&in, step == 0);
		if (inside && exec_step(v) == EXEC_STOP)
			break;
	}
	return inside;
}

void guest_stop(struct guest *g)
{
	if (g->engine->vcpu_destroy)
		g->engine->vcpu_destroy(&g->vcpu);
	if (g->engine->vm_destroy)
		g->engine->vm_destroy(g->engine_state);
	vcpu_destroy(&g->vcpu);
	memory_destroy(&g->memory);
	bus_destroy(&g->bus);
	free(g);
}
