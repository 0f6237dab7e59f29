/*
 * chaos.c - hostile guests: kernels made of random instructions, privileged ones above all, on random page tables, descriptor tables and
 * registers. Whatever they do, the VMM neither crashes nor hangs: each stops on request, and the invariants of the MMU hold.
 *
 * Each round is a machine of its own, made from (seed, round). Rounds run in child processes, so that a crash is
 * reported with its round: `chaos --seed S --first R --rounds 1` repeats it.
 */
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cpu/cpuid.h"
#include "cpu/engine.h"
#include "cpu/exec.h"
#include "random.h"

#define RAM MIB(16)
#define CODE 0x10000ull
#define CODE_BYTES 0x4000u
#define ROUND_US 3000
#define HANG_SECONDS 20
#define BATCH 50

enum { PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x4000, GDT = 0x5000, IDT = 0x6000, TSS = 0x7000 };

/* Instructions that go wrong best; `r` bytes at the end are random. */
static const struct { uint8_t len, random; uint8_t bytes[8]; } seeds[] = {
	{ 2, 1, { 0x0f, 0x22 } }, { 2, 1, { 0x0f, 0x20 } }, { 2, 1, { 0x0f, 0x23 } }, { 2, 1, { 0x0f, 0x21 } }, /* mov cr, dr */
	{ 2, 0, { 0x0f, 0x30 } }, { 2, 0, { 0x0f, 0x32 } }, { 2, 0, { 0x0f, 0x01 } }, { 2, 1, { 0x0f, 0x01 } }, /* msr, lgdt... */
	{ 2, 1, { 0x0f, 0x00 } }, { 2, 0, { 0x48, 0xcf } }, { 1, 0, { 0xcf } }, { 2, 0, { 0x0f, 0x05 } }, { 3, 0, { 0x48, 0x0f, 0x07 } },
	{ 1, 1, { 0xcd } }, { 1, 0, { 0xcc } }, { 1, 0, { 0xf1 } }, { 1, 0, { 0xcb } }, { 2, 0, { 0x48, 0xcb } }, { 1, 1, { 0xff } },
	{ 1, 1, { 0xe4 } }, { 1, 1, { 0xe6 } }, { 1, 0, { 0xee } }, { 1, 0, { 0xed } }, { 2, 0, { 0xf3, 0x6c } }, { 2, 0, { 0xf3, 0x6f } },
	{ 1, 0, { 0xfa } }, { 1, 0, { 0xfb } }, { 1, 0, { 0xf4 } }, { 1, 0, { 0x9c } }, { 1, 0, { 0x9d } },
	{ 2, 0, { 0xf3, 0xaa } }, { 3, 0, { 0xf3, 0x48, 0xab } }, { 2, 0, { 0xf3, 0xa4 } }, { 3, 0, { 0xf3, 0x48, 0xa5 } }, { 2, 0, { 0xf2, 0xae } },
	{ 2, 1, { 0x0f, 0xae } }, { 3, 1, { 0x48, 0x0f, 0xae } }, { 2, 1, { 0x0f, 0xc7 } }, { 3, 0, { 0x0f, 0x01, 0xf8 } },
	{ 3, 0, { 0x0f, 0x01, 0xcb } }, { 3, 0, { 0x0f, 0x01, 0xca } }, { 2, 0, { 0x0f, 0xa2 } }, { 1, 1, { 0x8e } }, { 1, 1, { 0x8c } },
	{ 3, 1, { 0xf3, 0x0f, 0xae } }, { 3, 1, { 0x0f, 0x38, 0x82 } }, { 4, 1, { 0x66, 0x0f, 0x38, 0x82 } }, { 2, 0, { 0x0f, 0x06 } },
	{ 3, 0, { 0x0f, 0x01, 0xd1 } }, { 3, 0, { 0x0f, 0x01, 0xd0 } }, { 1, 0, { 0xc3 } }, { 1, 4, { 0xe8 } }, { 2, 0, { 0xeb, 0xfe } },
	{ 1, 1, { 0xeb } }, { 1, 1, { 0x75 } }, { 3, 0, { 0x48, 0x89, 0x07 } }, { 3, 0, { 0x48, 0x89, 0x1e } }, { 3, 0, { 0x48, 0x8b, 0x06 } },
	{ 1, 1, { 0x50 } }, { 3, 0, { 0xf0, 0x0f, 0xb1 } }, { 2, 0, { 0x48, 0xf7 } }, { 1, 0, { 0xc9 } }, { 1, 3, { 0xc8 } },
	{ 4, 1, { 0xc4, 0xe2, 0x7d, 0x92 } }, { 2, 1, { 0xd9, 0x30 } }, { 2, 1, { 0x0f, 0x02 } }, { 2, 1, { 0x0f, 0x03 } },
};

static void poke(struct memory *mem, uint64_t at, const void *buf, size_t len) { memory_write(mem, gpa(at), buf, len); }
static void poke64(struct memory *mem, uint64_t at, uint64_t value) { poke(mem, at, &value, 8); }

static void random_code(struct memory *mem, uint64_t at, size_t bytes)
{
	uint8_t *code = malloc(bytes + 16);

	for (size_t i = 0; i < bytes;) {
		unsigned k = (unsigned)below(sizeof(seeds) / sizeof(seeds[0]));

		if (chance(30)) {
			code[i++] = (uint8_t)rnd();
			continue;
		}
		memcpy(code + i, seeds[k].bytes, seeds[k].len);
		i += seeds[k].len;
		for (unsigned r = 0; r < seeds[k].random; r++)
			code[i++] = (uint8_t)rnd();
	}
	poke(mem, at, code, bytes);
	free(code);
}

static uint64_t random_address(void)
{
	static const uint64_t places[] = { PML4, PDPT, PD, PT, GDT, IDT, TSS, CODE, 0xfee00000, 0xfec00000, RAM - 8, 0xfff };

	switch (below(6)) {
	case 0: return rnd();
	case 1: return below(RAM);
	case 2: return 0xffff800000000000ull + below(RAM);
	case 3: return CODE + below(CODE_BYTES);
	default: return places[below(sizeof(places) / sizeof(places[0]))] + below(64) * 8;
	}
}

static void random_tables(struct memory *mem)
{
	poke64(mem, PML4, PDPT | 7);
	poke64(mem, PML4 + 8 * 256, PDPT | 7);
	poke64(mem, PML4 + 8 * 511, PML4 | 7);
	for (unsigned i = 0; i < 4; i++)
		poke64(mem, PDPT + 8 * i, i == 0 ? PD | 7 : (uint64_t)i << 30 | 0x87);
	for (uint64_t i = 0; i < 512; i++)
		poke64(mem, PD + 8 * i, i == 1 ? PT | 7 : i << 21 | 0x87);
	for (uint64_t i = 0; i < 512; i++)
		poke64(mem, PT + 8 * i, below(RAM) << 12 >> 12 << 12 | (rnd() & 0x1ff) | 1);
	for (unsigned i = below(24); i > 0; i--) /* garbage among it: reserved bits, MMIO, frames that do not exist */
		poke64(mem, PML4 + below(3 * 512) * 8 + 16, rnd() & (chance(50) ? 0x80000000ffffffffull : ~0ull));
	poke64(mem, GDT + 8, 0x00af9b000000ffff);
	poke64(mem, GDT + 16, 0x00cf93000000ffff);
	poke64(mem, GDT + 24, 0x00cff3000000ffff);
	poke64(mem, GDT + 32, 0x00affb000000ffff);
	poke64(mem, GDT + 40, 0x0000890070000067);
	for (unsigned i = 7; i < 32; i++)
		poke64(mem, GDT + 8 * i, rnd());
	poke64(mem, TSS + 4, chance(80) ? 0x9000 : rnd());
	for (unsigned i = 1; i < 8; i++)
		poke64(mem, TSS + 28 + 8 * i, chance(70) ? 0xa000 + 0x100 * i : rnd());
	for (unsigned i = 0; i < 256; i++) {
		uint64_t at = CODE + below(CODE_BYTES);

		poke64(mem, IDT + 16 * i, (at & 0xffff) | 8u << 16 | below(chance(80) ? 1 : 8) << 32 | (chance(90) ? 0xeull : below(16)) << 40 |
		       below(4) << 45 | (uint64_t)chance(95) << 47 | (at & 0xffff0000) << 32);
		poke64(mem, IDT + 16 * i + 8, chance(98) ? at >> 32 : rnd());
	}
}

struct timer { struct vcpu *v; _Atomic bool done; };
static void *stopper(void *arg)
{
	struct timer *t = arg;

	usleep(ROUND_US);
	while (!t->done) {
		vcpu_request(t->v, REQ_STOP);
		usleep(1000);
	}
	return NULL;
}

static int round_run(uint64_t seed, uint64_t number, enum paging_mode mode)
{
	static const uint32_t msrs[] = { MSR_EFER, MSR_STAR, MSR_LSTAR, MSR_FS_BASE, MSR_GS_BASE, MSR_APIC_BASE, MSR_TSC_DEADLINE, 0x808, 0x830,
		0x80b, MSR_PAT, MSR_KVM_SYSTEM_TIME, MSR_TSC };
	struct memory mem;
	struct bus bus;
	struct vcpu *v = aligned_alloc(4096, ALIGN_UP(sizeof(*v), 4096));
	struct timer timer = { .v = v };
	pthread_t thread;
	void *state;
	char msg[200];
	uint64_t rest = HANG_SECONDS * 1000;

	rng = seed * 1000003 + number;
	memset(v, 0, sizeof(*v));
	if (memory_init(&mem, RAM, chance(50) ? PLACEMENT_SCATTER : PLACEMENT_LINEAR, number))
		return 1;
	bus_init(&bus);
	if (vcpu_init(v, &mem, &bus, mode, 0) || engine_bt.vm_init(&mem, &state) || engine_bt.vcpu_init(v, state) || engine_bt.thread_start(v))
		return 1;
	v->kick = engine_bt.kick;
	random_tables(&mem);
	random_code(&mem, CODE, CODE_BYTES);
	v->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | (rnd() & (CR0_WP | CR0_MP | CR0_AM)) | (chance(10) ? CR0_TS : 0);
	v->cr4 = CR4_PAE | (rnd() & (CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP | CR4_PGE | CR4_FSGSBASE | CR4_UMIP));
	v->efer = EFER_LME | EFER_LMA | (rnd() & (EFER_NXE | EFER_SCE));
	v->cr3 = PML4;
	v->xcr0 = v->cpuid->xcr0;
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	mmu_set_cr3(&v->mmu, v->cr3);
	v->seg[SEG_CS] = (struct segment){ .limit = ~0u, .selector = 8, .attr = SEG_P | SEG_S | 0xb | SEG_L | SEG_GRAN };
	v->seg[SEG_SS] = (struct segment){ .limit = ~0u, .selector = 16, .attr = SEG_P | SEG_S | 3 | SEG_DB | SEG_GRAN };
	v->gdtr = (struct table_reg){ GDT, 0xff };
	v->idtr = (struct table_reg){ IDT, 0xfff };
	v->tr = (struct segment){ .base = TSS, .limit = 0x67, .selector = 40, .attr = SEG_P | 0xb };
	v->star = 0x0010000800000000ull;
	v->lstar = CODE + below(CODE_BYTES);
	for (unsigned i = 0; i < 16; i++)
		v->gpr[i] = random_address();
	v->gpr[RCX] = chance(50) ? msrs[below(sizeof(msrs) / sizeof(msrs[0]))] : v->gpr[RCX];
	v->gpr[RSP] = 0x20000 + below(0x1000) * 8;
	v->rip = CODE;
	if (pthread_create(&thread, NULL, stopper, &timer))
		return 1;
	do {
		engine_bt.run(v);
		if (v->exit.kind == EXIT_HLT)
			vcpu_request(v, REQ_STOP); /* nobody would wake it */
	} while (v->exit.kind == EXIT_HLT && rest--);
	timer.done = true;
	pthread_join(thread, NULL);
	if (mmu_audit(&v->mmu, msg, sizeof(msg))) {
		printf("chaos: round %lu of seed %lu: audit: %s\n", (unsigned long)number, (unsigned long)seed, msg);
		return 1;
	}
	engine_bt.vcpu_destroy(v);
	engine_bt.vm_destroy(state);
	vcpu_destroy(v);
	memory_destroy(&mem);
	free(v);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "seed", 1, 0, 's' }, { "rounds", 1, 0, 'r' }, { "first", 1, 0, 'f' }, { 0 } };
	uint64_t seed = 1, rounds = 1000, first = 0, start;
	int c, bad = 0;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		uint64_t n = optarg ? strtoull(optarg, NULL, 0) : 0;

		if (c == 's')
			seed = n;
		else if (c == 'r')
			rounds = n;
		else if (c == 'f')
			first = n;
		else
			return 125;
	}
	clock_init();
	start = clock_ns();
	for (uint64_t at = first; at < first + rounds && !bad; at += BATCH) {
		uint64_t end = at + BATCH < first + rounds ? at + BATCH : first + rounds;
		int progress[2], status;
		uint64_t last = at;
		pid_t pid;

		if (pipe(progress))
			return 125;
		fflush(stdout);
		pid = fork();
		if (!pid) {
			for (uint64_t i = at; i < end; i++) {
				if (write(progress[1], &i, sizeof(i)) != sizeof(i))
					_exit(125);
				alarm(HANG_SECONDS);
				if (round_run(seed, i, i & 1 ? PAGING_SHADOW : PAGING_NESTED))
					_exit(1);
			}
			exit(0);
		}
		close(progress[1]);
		while (read(progress[0], &last, sizeof(last)) == sizeof(last))
			;
		close(progress[0]);
		waitpid(pid, &status, 0);
		if (!WIFEXITED(status) || WEXITSTATUS(status)) {
			printf("chaos: --seed %lu --first %lu --rounds 1 ended with %s %d\n", (unsigned long)seed, (unsigned long)last,
			       WIFEXITED(status) ? "status" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
			bad = 1;
		}
		if (isatty(2))
			fprintf(stderr, "\rchaos: %lu rounds ", (unsigned long)(end - first));
	}
	if (!bad)
		printf("chaos: %lu hostile guests, none crashed or hung the VMM; %.0f a second\n", (unsigned long)rounds,
		       (double)rounds * 1e9 / (double)(clock_ns() - start));
	return bad;
}
