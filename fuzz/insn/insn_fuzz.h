/*
 * insn_fuzz.h - the instruction fuzzer: what its parts share.
 *
 * A case is a short piece of code, the processor state it starts in and patches to memory. It runs
 *   natively  on the host CPU, in a bare process of its own (oracle.c),
 *   in a guest through the translator and through the executor (guest.c),
 * and every register, flag, byte of memory and fault must agree (compare.c). The generator (forms.c, generate.c, state.c) is
 * deterministic: case number n of a seed is always the same, whatever ran before.
 *
 * The sandbox: the same pages at the same virtual addresses natively and in the guest (CPL 3). Everything else
 * is unmapped in both, so that wild addresses fault alike.
 */
#ifndef INSN_FUZZ_H
#define INSN_FUZZ_H

#include <stdatomic.h>
#include "base/tune.h"
#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/vcpu.h"
#include "x86/insn.h"

/*
 * The window. Backing pages, in the order of struct outcome.mem: two writable ones side by side, a read-only
 * one after them, a lone writable one, two of code. Data pages are not executable; code pages are also writable, and have a writable,
 * not executable alias.
 */
enum { PAGE_DATA0, PAGE_DATA1, PAGE_READONLY, PAGE_LONE, PAGE_CODE0, PAGE_CODE1, PAGE_COUNT };
#define VA_DATA 0x10000000ull		/* PAGE_DATA0, PAGE_DATA1, PAGE_READONLY, then nothing */
#define VA_LONE 0x10004000ull
#define VA_ALIAS_DATA 0x10008000ull	/* PAGE_DATA1 once more */
#define VA_ALIAS_CODE 0x1000a000ull	/* both code pages, writable */
#define VA_CODE 0x10010000ull
#define VA_EXIT 0x2b6d5000ull		/* a case ends by jumping here; far from all else, since its contents differ */
#define VA_FS 0x10000200ull		/* FS and GS bases */
#define VA_GS 0x10000600ull
#define CODE_AREA (2 * PAGE_SIZE)

/* Flags that user code can set at all. */
#define FL_LEGAL_USER (FL_ARITH | FL_DF | FL_AC | FL_NT | FL_ID | FL_IF | FL_RF)

struct sandbox_mapping { uint64_t va; int page; bool write, exec; };
extern const struct sandbox_mapping sandbox_mappings[];
extern const unsigned sandbox_mapping_count;

/* Selectors in 64-bit user mode: Linux' own, which the guest copies. */
#define SEL_USER_CS 0x33
#define SEL_USER_SS 0x2b

struct state {
	uint64_t gpr[16], rip, rflags;
	uint16_t ds, es, ss;
	uint8_t fpu[FPU_AREA_SIZE] __attribute__((aligned(64)));
};

#define CODE_MAX 224
#define INSNS_MAX 16	/* the generator's */
#define LOCATED_MAX 96
#define PATCHES_MAX 12
#define PATCH_BYTES 64
struct patch { uint32_t va; uint8_t len; uint8_t bytes[PATCH_BYTES]; };
struct mask { uint32_t va; uint16_t len; };

struct icase {
	struct state in;		/* in.rip is where the code starts */
	uint64_t number;
	uint16_t code_at, code_len;	/* offset in the code area */
	uint8_t insns, patches, masks;
	bool rewrites;			/* meant to modify itself */
	uint8_t insn_at[LOCATED_MAX];	/* offsets in code */
	uint8_t code[CODE_MAX];
	struct patch patch[PATCHES_MAX];
	struct mask mask[2];		/* memory that need not agree (FPU instruction pointers) */
};

#define NO_VECTOR (-1)
enum outcome_kind {
	OUTCOME_DONE,		/* reached the exit, or faulted */
	OUTCOME_TIMEOUT,	/* an endless loop: not compared */
	OUTCOME_STRAYED,	/* natively: made a system call; in a guest: left the sandbox's rules */
	OUTCOME_BROKEN,		/* in a guest: the engine gave up; `why` */
};
struct outcome {
	struct state end;
	int kind;
	int vector;		/* exception, or NO_VECTOR if the exit was reached */
	uint32_t error;
	uint64_t cr2;
	char why[200];
	uint8_t mem[PAGE_COUNT][PAGE_SIZE];
};

/* sandbox.c: the contents of memory when a case starts. */
const uint8_t (*sandbox_pattern(void))[PAGE_SIZE];
void sandbox_fill(const struct icase *c, uint8_t mem[PAGE_COUNT][PAGE_SIZE]);
/* The backing byte of a virtual address, as an offset in struct outcome.mem, or -1. Safe in the oracle. */
int sandbox_offset(uint64_t va);

/* oracle.c: the host CPU. */
#define ORACLE_BATCH 64
#define ORACLE_BATCHES 3 /* two take turns, the last one is oracle_run's */
struct oracle_slot { struct icase c; struct outcome out; };
struct oracle;
/* Forks the bare process. The batches are shared with it. Ends the program with a message if the host does not play. */
struct oracle *oracle_start(void);
struct oracle_slot *oracle_batch(struct oracle *o, unsigned which);
void oracle_submit(struct oracle *o, unsigned which, unsigned count);
/* Waits until the batch has been run. A case that kills the process has OUTCOME_BROKEN; the others are still run. */
void oracle_wait(struct oracle *o, unsigned which);
/* One case, now, after whatever is under way. */
void oracle_run(struct oracle *o, const struct icase *c, struct outcome *out);
void oracle_stop(struct oracle *o);

/* guest.c: the same in a guest. */
enum { RUN_EXEC = 1, RUN_BT = 2 };
struct guest;
struct guest *guest_start(unsigned engine, enum paging_mode mode, const struct tune *tune);
void guest_run(struct guest *g, const struct icase *c, struct outcome *out);
/* For an executor's guest. Runs by single steps; false if an instruction outside the generator's classes was met (allowed). */
bool guest_stays_inside(struct guest *g, const struct icase *c, bool (*allowed)(const struct insn *in, bool first));
uint64_t guest_features(const struct guest *g);	/* those that guest and host both have */
void guest_stop(struct guest *g);

/* forms.c: every supported instruction form. */
enum form_group { GROUP_INT, GROUP_X87, GROUP_SSE, GROUP_AVX, GROUP_COUNT };
struct form {
	uint16_t mnemonic;
	uint8_t prefix;		/* mandatory 66, F3, F2, or 0 */
	uint8_t map, opcode, reg;
	int8_t rm;		/* fixed, or -1 */
	bool has_modrm, mod3, vex, vex_l, w;
	uint8_t group;
};
struct mnemonic { char name[24]; uint16_t id; uint8_t group; bool hot; uint32_t first, count; /* in the form table */ };
void forms_init(uint64_t features);
extern const struct form *forms;
extern const struct mnemonic *mnemonics;
extern unsigned form_count, mnemonic_count;
/* May this instruction be part of a sequence, of a case of its own, or of none (*reason)? */
enum form_use { USE_ANYWHERE, USE_FIRST, USE_NEVER };
enum form_use form_use_of(const struct insn *in, const char **reason);
bool form_allowed(const struct insn *in, bool first);
bool insn_has_prefix(const struct insn *in, uint8_t prefix);
/* Real processors leave its undefined flags alone, the translator need not (compare.c): MUL and IMUL; on Intel's rotates. */
bool insn_keeps_undefined(const struct insn *in);
/* True for classes that no case can complete: privileged, undefined... */
bool form_always_faults(const struct insn *in);

/* xorshift64*: good enough, and fast. */
struct rng { uint64_t s; };
static inline uint64_t rng_next(struct rng *r)
{
	r->s ^= r->s >> 12;
	r->s ^= r->s << 25;
	r->s ^= r->s >> 27;
	return r->s * 0x2545f4914f6cdd1dull;
}
static inline uint32_t rng_below(struct rng *r, uint32_t n) { return (uint32_t)(((rng_next(r) >> 32) * n) >> 32); }
static inline bool rng_chance(struct rng *r, uint32_t percent) { return rng_below(r, 100) < percent; }
void rng_seed(struct rng *r, uint64_t seed, uint64_t number);

/* generate.c: a piece of code; state.c: states to run it in. */
struct plan {
	struct icase c;			/* code, without states */
	uint16_t pointers;		/* GPRs that should hold addresses in the window */
	uint16_t smalls;		/* GPRs that should hold small numbers */
	uint16_t code_pointers;		/* GPRs that should hold addresses of instructions */
	uint32_t undefined;		/* flags that a multiplication has left undefined */
	bool loop;			/* RCX counts */
	bool division;			/* RDX small */
	struct insn first;		/* the first instruction */
	struct insn all[INSNS_MAX];
};
void generate_code(struct plan *p, struct rng *r, const struct mnemonic *force);
void generate_state(struct icase *c, const struct plan *p, struct rng *r);
uint64_t state_pick_address(struct rng *r, unsigned size);

/* compare.c */
static inline bool pushes_error_code(unsigned vector)
{
	return vector == VEC_DF || (vector >= VEC_TS && vector <= VEC_PF) || vector == VEC_AC;
}
struct compare_options { bool precise_flags; };
/* Returns false if alike; else writes what differs first. guest_engine: RUN_EXEC or RUN_BT. */
bool compare_differs(const struct icase *c, const struct outcome *host, const struct outcome *guest, unsigned engine,
		     const struct compare_options *opt, char *what, size_t size);
bool compare_rewrote(const struct icase *c, const struct outcome *host);
void compare_report(const struct icase *c, const struct outcome *host, const struct outcome *guest, const char *name);
void fpu_canonicalise(uint8_t *area);

/* The instruction that faulted natively, as its bytes were in the end; false if there is none. */
bool compare_insn_at_fault(const struct outcome *host, struct insn *in);
bool compare_has_insn(const struct icase *c, const struct outcome *host, bool (*is)(const struct insn *in));

/* vendor.c: where the host's vendor is not the guests' and its processors are known to do otherwise. All is strict on AMD's. */
struct leeway {
	uint64_t flags;		/* RFLAGS that need not agree */
	uint64_t hole;		/* memory: `hole_size` bytes at this address need not agree */
	unsigned hole_size;
	bool fsw, mxcsr;	/* nor need the x87's registers, status flags of MXCSR */
	bool vectors;		/* nor the vector registers */
};
bool vendor_rotates_keep_flags(const struct insn *in);
bool vendor_never_compares(const struct insn *in);
bool vendor_lacks_state(const struct icase *c);	/* the case's start cannot be loaded here */
bool vendor_orders_faults_so(const struct outcome *host, const struct outcome *guest);
bool vendor_is_beyond_compare(const struct icase *c, const struct outcome *host, const struct outcome *guest);
struct leeway vendor_leeway(const struct outcome *host);

/* casefile.c: cases as text. */
int casefile_read(const char *path, struct icase *c, char *error, size_t size);
int casefile_write(const char *path, const struct icase *c, const char *note);
void casefile_print_code(const struct icase *c);

/* shrink.c: makes a differing case smaller, as long as `differs` says so. */
void shrink_case(struct icase *c, bool (*differs)(const struct icase *c, void *arg), void *arg);
void case_locate(struct icase *c);	/* recounts insns from the code bytes */

/* run.c: the fuzzing loop. */
#define STATES_PER_CODE 4
struct options {
	uint64_t cases, seed, only;	/* only: one case number, or ~0 */
	unsigned seconds, engines, failures;
	enum paging_mode paging;
	bool coverage, quiet;
	struct tune tune;	/* the switches of `trifold run --tune` */
	struct compare_options compare;
	const char *keep;		/* where differing cases go */
};
/* What the supervisor must know if the worker dies. */
struct progress { struct icase c; const char *engine; bool running; };
int run_fuzz(const struct options *opt, struct progress *progress);
int run_case_file(const struct options *opt, struct progress *progress, const char *const *path, int paths);

#endif
