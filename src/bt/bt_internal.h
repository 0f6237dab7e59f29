/*
 * bt_internal.h - the translator's own structures: code cache, blocks, the contract of generated code.
 *
 * See docs/translator.md. In short: a block is the translation of guest instructions that lie in one page (the last
 * may cross into the next), found by machine frame, mode and virtual address, of which user code's page does not count (B5). Generated code leaves
 * to C by jumping to a leave stub with a reason; bt_run (engine.c) acts and enters again.
 *
 * Invariants
 *  B1  a block's bytes are watched (track_code) as long as the block is live
 *  B2  direct jumps between blocks stay within one guest page; everything else goes through the current context's jump table; a
 *      context is a (fetch id, mode) pair; table 0 stays empty and is what a kick makes current
 *  B3  a dead block's entry is patched to leave or to go on in its successor, so whoever still jumps to it is safe
 *  B5  while code of a user mode runs, S_PAGE is the page that the guest executes in; a shared block takes its guest addresses from there. Links
 *      stay in the page, so only entry from C and the look-up in a jump table write it
 *  B4  whenever C code runs, guest state is in struct vcpu (but FPU and vector state: cpu/fpu.h)
 */
#ifndef BT_INTERNAL_H
#define BT_INTERNAL_H

#include "base/tune.h"
#include "cpu/vcpu.h"
#include "x86/insn.h"

#define CODE_CACHE_SIZE MIB(51)
#define MAX_BLOCKS (1u << 18)
#define BLOCK_HEADS (1u << 21)
#define BLOCK_HASH (1u << 18)
#define WINDOW_CHUNKS (1u << 15)
#define CHUNK_SHIFT 8
#define WINDOW_SAMPLES 8
#define GATHERS_MOST 64		/* times that pages are moved for the windows of 256 bytes of code, before those are given up */
#define GATHER_MISSES 20000	/* which may miss so often again after each */
#define MAX_MARKS (1u << 20)
#define MAX_SITES (1u << 21)
#define MAX_BLOCK_INSNS 48
/* Room that one block may take at most in either region; checked before translation starts. */
#define BLOCK_ROOM KIB(64)
/*
 * The code cache has parts, each with hot code from its start on, cold code behind that, and its share of the tables; they are filled one by one, and when none is
 * left one is emptied (evict.c).
 */
#define CODE_PARTS 16u
#define PART_SIZE (CODE_CACHE_SIZE / CODE_PARTS)
#define PART_BLOCKS (MAX_BLOCKS / CODE_PARTS)
#define PART_MARKS (MAX_MARKS / CODE_PARTS)
#define PART_SITES (MAX_SITES / CODE_PARTS)
/* Cold room that no new block takes: for what is made later for the part's blocks. */
#define LATE_ROOM KIB(64)

/* Mode: what translation depends on besides the bytes and the address. */
enum bt_mode {
	MODE_SET = 3,		/* enum tlb_set, but for its world, which MODE_GUEST says */
	MODE_CPL0 = 4,
	MODE_X87 = 8,		/* the x87, MMX, SSE, AVX conditions of exec_need_fault hold */
	MODE_MMX = 16,
	MODE_SSE = 32,
	MODE_AVX = 64,
	MODE_XSAVE = 128,	/* NEED_XSAVE is met, and CR0.TS is clear */
	MODE_SMAP = 256,	/* CR4.SMAP: STAC and CLAC change the set */
	MODE_LA57 = 512,	/* linear addresses of 57 bits: which branch targets are canonical */
	MODE_CODE32 = 1024,	/* 32-bit code, code and stack segment flat (exec_flat32) */
	MODE_FLAT_ES = 2048,	/* 32-bit code: accesses through these segments need no check of type and limit; */
	MODE_FLAT_DS = 4096,	/* ES and DS have base 0, too */
	MODE_FLAT_FS = 8192,
	MODE_FLAT_GS = 16384,
	MODE_GUEST = 32768,	/* SVM's guest mode */
	MODE_SINGLY = 65536,	/* of a block, never of a context: the run of PUSHes or POPs that it begins with crosses a page (lower_stack.c) */
	MODE_ASK_PUSHF = 131072, /* guest mode, and the hypervisor intercepts it: it goes to the executor */
	MODE_ASK_TSC = 262144,	/* ... RDTSC or RDTSCP, or it scales the counter */
};

/* One line of the host's cache: most dispatches find a block that no cache has. */
struct block {
	uint64_t va;		/* shared: the one that it was made for; bt_block_va says where it runs */
	uint32_t mfn, mfn2;	/* mfn2: frame of the second page, NO_FRAME if within one */
	uint32_t entry;		/* offset in the code cache: entry with the arithmetic flags in the host's EFLAGS */
	uint32_t jump_entry;	/* entry with the flags in S_FLAGS; at least five bytes from entry */
	uint32_t host_end;	/* end of the hot code; hot code begins at min(entry, jump_entry) */
	uint32_t poll[2];	/* entries of backward jumps (flags in EFLAGS, in S_FLAGS): look at v->pending first; 0 until needed */
	uint32_t first_mark;	/* into bt->mark */
	uint16_t marks;
	uint16_t len;		/* guest bytes */
	uint32_t mode : 24;
	uint32_t dead : 1;
	uint32_t shared : 1;	/* runs at whatever page its frame is mapped (B5) */
	uint32_t flags_any : 1;	/* the code does not care about the flags that it is entered with */
	uint32_t seam : 1;	/* no jump is known to lead here: another block was full, or the executor did what is before, or IRET came back */
	uint32_t first_site;	/* into bt->site; up to the next block's */
	uint32_t hash_next, frame_next, frame2_next; /* index + 1 */
};
#define NO_FRAME 0xffffffffu
_Static_assert(sizeof(struct block) == 64, "a line of the cache");

/* Where an instruction that may fault was copied to: maps a host fault to a guest address. */
struct mark {
	uint32_t host;		/* offset in the code cache */
	uint16_t guest_off;
	uint16_t flags_saved;	/* the guest's flags are in S_FLAGS, not in EFLAGS */
};

/* A memory access that may miss the TLB, or an exit: what the cold path must know. */
enum site_kind { SITE_READ, SITE_WRITE, SITE_STACK_READ, SITE_STACK_WRITE, SITE_ALONE_READ, SITE_ALONE_WRITE, SITE_WINDOW_READ, SITE_WINDOW_WRITE, SITE_SPAN_READ, SITE_SPAN_WRITE, SITE_LINK, SITE_CROSS, SITE_BRANCH, SITE_FAR };
struct site { /* its block: bt_block_of_site */
	/* READ, WRITE: where to try again, T0 holding the address; STACK, ALONE, WINDOW, SPAN: where to go on with the host address; LINK, CROSS: the rel32 to patch, or 0 */
	uint32_t host;
	union {
		struct {
			uint32_t guest_off : 10; /* of the instruction */
			uint32_t kind : 4;
			uint32_t flags_saved : 1; /* as in struct mark */
			uint32_t singly : 1;	/* LINK: to a block of MODE_SINGLY; CROSS: AC, and so the mode, is not as the block was entered with */
			uint32_t careful : 1;	/* an access: another fault may come before #PF, so let the executor find it */
			/*
			 * LINK: where in the page the jump goes; BRANCH: what to add to RSP, plus SITE_RSP_MAX, if the target turns out not to be canonical
			 * (FAR: then the target faults, not the branch); a string instruction: string.c.
			 */
			uint32_t more : 15;
		};
		struct {
			uint32_t : 17;
			uint32_t window : 5;	/* of an access: its window */
			uint32_t size : 10;	/* of an access (bt_site_size); SPAN: of its span */
		};
		uint32_t bits;
	};
};
#define SITE_SIZE_SHIFT 22
/* STACK, ALONE: an access has 8 bytes at most, and leaves room for how far into its span it is: eight bits from here on. What their stubs find is that much before. */
#define SITE_INTO_SHIFT 17
static inline bool bt_site_has_into(enum site_kind kind) { return kind >= SITE_STACK_READ && kind <= SITE_ALONE_WRITE; }
static inline unsigned bt_site_size(const struct site *s) { return bt_site_has_into((enum site_kind)s->kind) ? s->size >> 3 : s->size; }
static inline void bt_site_set_into(struct site *s, unsigned into) { s->bits |= into << SITE_INTO_SHIFT; }
/* A span has its second way on in `host` of the next site: where its accesses look up one by one. */
/* A conditional jump to another page or in another mode (CROSS) has its target, as e_mov_va takes it, in place of the next site. Its look-up in the jump table is made when it is first taken. */
static inline void bt_set_cross_target(struct site *s, uint64_t va) { s[1].host = (uint32_t)va, s[1].bits = (uint32_t)(va >> 32); }
static inline uint64_t bt_cross_target(const struct site *s) { return (uint64_t)s[1].bits << 32 | s[1].host; }
#define SITE_RSP_MAX 16000
_Static_assert(sizeof(struct site) == 8 && MAX_BLOCK_INSNS * 15 < 1u << 10, "the sites of a full code cache are many");
#define NO_SITE 0xffffffffu
#define BLOCK_SITE 0x80000000u /* | block index: left through a dead block's entry, or a polling one */

/*
 * GS points at the kernel's set of level 1, in the middle of struct vcpu, and the stack entries lie before that: their look-ups are most of what a kernel's code is larger by, and take displacements
 * of a byte so, as jump tables do whose place S_JUMP_BASE has. (Without a base register a displacement is four bytes, and the address one more.) Members and spill slots, from there.
 */
#define GS_AT offsetof(struct vcpu, mmu.l1)
#define VOFF(member) ((int32_t)offsetof(struct vcpu, member) - (int32_t)GS_AT)
/* The entries of a set of level 1, and its stack entry. */
static inline int32_t bt_stack_of(unsigned set) { return VOFF(mmu.stack_entry) + (int32_t)((TLB_SETS - 1 - set) * sizeof(struct tlb_stack)); }
static inline int32_t bt_l1_of(unsigned set) { return VOFF(mmu.l1) + (int32_t)(set * sizeof(struct tlb_entry) * TLB_L1_WIDE); }
#define SLOT(n) (VOFF(bt_scratch) + 8 * (int32_t)(n))
enum { S_HOST_RSP, S_SELF, S_TARGET, S_JUMP_BASE /* where the current jump table begins, from GS on */, S_JUMP_WANT /* the same, never poisoned */,
       S_ODD_RSP, S_ODD_RIP /* see odd_stack */,
       S_RAX, S_RCX, S_TMP0, S_TMP1, S_SITE, S_EA, S_REASON, S_FAULT, S_FLAGS /* AH, AL of lahf; seto al */, S_BACK /* where a stack probe's cold path returns */, S_INTO /* with so much less than it found */,
       S_SITES, S_CACHE /* bt->site, bt->cache */, S_LIMIT /* the last offset in a page at which a window's access may begin; T1, of a second place */, S_FAIL /* where a span goes on without */,
       S_PAGE /* B5 */, S_JUMP_KERNEL, S_JUMP_AC, S_JUMP_USER /* what S_JUMP_WANT is after SYSCALL or CLAC, after STAC, and after SYSRET, or JUMP_NONE: see jump.c */,
       S_FRAME /* what IRETQ has read, FRAME_WORDS */, FRAME_WORDS = 5, S_COUNT = S_FRAME + FRAME_WORDS };
_Static_assert(S_COUNT <= sizeof(((struct vcpu *)0)->bt_scratch) / sizeof(uint64_t), "room");

/* Why generated code left. */
enum leave_reason {
	LEAVE_DISPATCH,		/* S_SITE is a LINK or CROSS site, whose target is meant; or BLOCK_SITE */
	LEAVE_JUMP,		/* indirect: rip set, S_SITE a BRANCH site */
	LEAVE_EXEC,		/* rip set: the executor is to do one instruction */
	LEAVE_SLOW,		/* a memory access that the TLB cannot serve: executor, after undoing (S_SITE) */
	LEAVE_FAULT,		/* host fault: S_FAULT is the trap number, rip set */
	LEAVE_POLL,		/* pending request seen; BLOCK_SITE */
	LEAVE_DONE,		/* bt_domain_syscall has done the instruction; rip is set, or v->exit */
};

/* Of jumps that the jump table is asked for. */
enum jump_kind { JUMP_DIRECT, JUMP_INDIRECT, JUMP_RETURN, JUMP_KINDS };

struct bt_counters {
	uint64_t blocks_translated, blocks_shared, insns_translated, bytes_guest, bytes_host, blocks_invalidated_write, blocks_invalidated_flush,
		cache_flushes, cache_evictions, dispatches, dispatch_misses, links, jump_cache_fills, executor_sites, slow_accesses, host_faults,
		chunks_windowed, windows_forsaken, code_writes, contexts, polls, string_runs;
};

struct code_part {
	uint8_t *hot, *cold;		/* where the next block's hot and cold code go */
	uint8_t *hot_end, *cold_end;	/* cold code begins at hot_end */
	uint32_t blocks, marks, sites;	/* the next free ones of its own */
	uint32_t born;			/* bt->generation when it was emptied last */
	size_t ready[3];		/* bytes of its blocks, marks and sites that the host has populated */
};

/* Shared by the vcpus of a VM; guarded by lock (docs/locking.md). */
struct bt {
	uint8_t *cache;		/* RWX */
	struct code_part part[CODE_PARTS];
	uint32_t filling;		/* which of them takes new blocks */
	uint64_t hot_made, cold_made;	/* bytes ever made: their proportion is that of the next part */
	uint32_t dice;			/* chooses parts to empty */
	uint8_t *hot_start;		/* after the stubs, in part 0 */
	uint8_t *leave[8];	/* stubs by leave_reason */
	uint8_t *slow[2];	/* TLB miss, read and write: T0 the address, T1 the site */
	uint8_t *slow_sited[2];	/* the same, S_SITE set */
	uint8_t *missed[TLB_SETS][2]; /* the same: T0 what a look-up in level 1 left, T1 its entry's offset, and in the bits below an entry's size what to add to S_SITE */
	/*
	 * Stack probe of 1 << n bytes, read and write, that missed its entry: T0 the address, S_SITE and S_BACK set; and with T1 the site, T0 the
	 * address ([0]) or what the probe's subtraction left of it ([1]).
	 */
	uint8_t *stack[TLB_SETS][2][TLB_STACK_SIZES], *stack_missed[TLB_SETS][2][TLB_STACK_SIZES][2];
	/* Window n of a set missed, at T0 for site T1: [0] an access, [1] a span; window: the same again, S_SITE, S_BACK and S_LIMIT set. */
	uint8_t *window_missed[2][TLB_SETS][2][TLB_WINDOWS], *window[2][TLB_SETS][2][TLB_WINDOWS];
	uint8_t *window_make;	/* makes the window of S_SITE the run around T0 */
	uint8_t *alone[TLB_SETS][2][TLB_STACK_SIZES], *alone_missed[TLB_SETS][2][TLB_STACK_SIZES]; /* the same in level 1, for accesses of a span that the span's look-up does not serve */
	uint8_t *link[2];	/* a direct jump that is not patched: T1 the site; flags in EFLAGS, in S_FLAGS */
	uint8_t *poll[2];	/* the same for LEAVE_POLL */
	uint8_t *string;	/* MOVS, STOS, LODS: S_SITE set */
	uint8_t *state_find[2], *state_store; /* XSAVE and its like: T0 the address of an image, that of a load or a save, S_SITE set; a copy back to where it belongs */
	uint8_t *domain_syscall; /* SYSCALL where a hypervisor's interface takes it: rip set, flags in S_FLAGS */
	uint8_t *iret[TLB_KERNEL_AC + 1]; /* IRETQ, by set: T1 the site, rip set, flags in S_FLAGS */
	uint8_t *odd_stack;	/* goes on with S_ODD_RSP at S_ODD_RIP: what a signal handler cannot return to */
	uint8_t *jump_miss;	/* T0 the target, T1 the site, flags in S_FLAGS */
	uint8_t *jump_other[2], *jump_other_sited[2]; /* the same (S_SITE set), after a look at the other entries of the set and into the wide table; by bt_jump_small */
	/*
	 * The whole look-up, for code that has none of its own; by kind, so that the host's processor tells them apart, and bt_jump_small. A call has T1 the address that it pushes and S_SITE set,
	 * a STACK_WRITE site; by set.
	 */
	uint8_t *jump[JUMP_KINDS][2], *call[TLB_SETS];
	void (*enter)(struct vcpu *v, uint8_t *host);
	struct block *block;
	uint32_t *hash;
	uint64_t *heads;	/* a bit for each hash of a frame and an offset: clear, no block begins there */
	/*
	 * By bt_windows_of: of the blocks that begin in 256 bytes of a frame. They try windows (mmu/tlb.h) once so many samples of where time is spent have hit them, but not
	 * those that missed more often than the time of the samples allows. A hash: who shares a place with others shares their lot.
	 */
	struct chunk_windows { uint16_t without; uint8_t samples, gathers; int32_t misses_left; } *windows;
	struct mark *mark;
	struct site *site;
	struct memory *memory;
	uint32_t generation;	/* counts the times that anything was emptied: indices and host code from before may be another's now */
	struct bt_counters counters;
	struct bt_profile *profile;	/* profile.h; 0: nobody counts */
	void *lock;
};

/* An image in two pages, of which v->stub->data->bounce has a copy. */
struct bt_state_copy { uint8_t *part[2]; unsigned bytes[2]; };

#define DECODE_CACHE 512
struct bt_vcpu {
	struct bt *bt;
	struct bt_vcpu_profile *profile; /* as in struct bt */
	/* Decode cache of executor sites: valid for (rip, fetch id) while the bytes at `code` are unchanged. */
	struct decoded { uint64_t rip; const uint8_t *code; uint32_t fetch_id, fetch_epoch; struct insn in; } decoded[DECODE_CACHE];
	struct insn syscall;		/* SYSCALL, decoded */
	struct bt_state_copy state_copy;
	struct exception slow_exc;	/* LEAVE_SLOW: what the access raised, if slow_inject */
	bool slow_inject;
	struct { uint32_t fetch_id, mode; uint64_t stamp; bool used; } context[JUMP_TABLES];
	uint64_t stamp;
	uint32_t last_number;		/* of a context: that of its entries in the wide table; none is used twice while any entry has it */
	uint32_t current, previous;	/* index in context; of the one before */
	struct { uint32_t fetch_id[2], mode; } ways; /* what S_JUMP_KERNEL and S_JUMP_USER were found for */
	uint32_t fetch_epoch, generation;	/* what of mmu and bt the jump tables hold for */
	uint64_t sampled;	/* CPU time of the thread at the last sample, in ns */
};

/* translate.c: makes a block for the code at va; bytes are in frame m (and m2). Cold: run through fpu_call_cold. */
struct translate_request {
	struct vcpu *v;
	struct bt *bt;
	uint64_t va;
	mfn_t m, m2;		/* m2: frame of the next page or MFN_NONE (a crossing instruction then goes to the executor) */
	uint32_t mode;
	bool shared;		/* bt_shares(v, va) */
	struct block *out;	/* 0: no room (bt_make_room, and ask again), or need_second */
	bool need_second;	/* the first instruction crosses into the next page: ask again with m2 */
};
void bt_translate(void *request);

/* Which part of the code cache a block and an offset in the cache belong to. */
static inline struct code_part *bt_part_of(struct bt *bt, const struct block *b) { return &bt->part[(uint32_t)(b - bt->block) / PART_BLOCKS]; }
static inline struct code_part *bt_part_at(struct bt *bt, uint32_t host) { return &bt->part[host / PART_SIZE]; }
/* Empties a part, whose blocks are forgotten already. */
void bt_part_begin(struct bt *bt, struct code_part *p);

/* block.c; memory->lock is held. bt_poll_entry returns 0 when there is no room. */
struct block *bt_find(struct bt *bt, mfn_t m, mfn_t m2, uint64_t va, uint32_t mode, bool shared);
/* From now on whoever enters the dead block goes on in b, the new translation of the same code. */
void bt_forward(struct bt *bt, struct block *dead, const struct block *b);
/* May a block begin at this offset of the frame? Quick, and sometimes wrong. Translation asks for one instruction after the other, so the bits of 512 bytes of code lie in a line of the cache. */
static inline uint32_t bt_head_bit(uint64_t m, unsigned offset)
{
	const uint64_t line = (m << 3 | offset / 512) * 0x9e3779b97f4a7c15ull >> 40;

	return (uint32_t)(line * 512 + offset % 512) & (BLOCK_HEADS - 1);
}
static inline bool bt_maybe_head(const struct bt *bt, uint64_t m, unsigned offset)
{
	const uint32_t bit = bt_head_bit(m, offset);

	return bt->heads[bit / 64] >> (bit % 64) & 1;
}
static inline struct chunk_windows *bt_windows_of(const struct bt *bt, uint64_t m, unsigned offset)
{
	const unsigned chunk = offset >> CHUNK_SHIFT;

	return &bt->windows[(uint32_t)(m * 0x9e3779b1u << 6 ^ chunk * 0x85ebca6bu >> 7 ^ chunk) % WINDOW_CHUNKS];
}
static inline bool bt_wants_windows(const struct chunk_windows *w) { return w->samples >= WINDOW_SAMPLES; }
/*
 * A sample hit this place of a frame; windows may miss so many times in the time that it stands for. Enough of them, and the blocks there are made anew, with windows, when somebody
 * comes to them next. And: a window missed so often, as far as the block's chunk is concerned: if that is too often, pages around va are moved (mmu_gather_ask), and
 * if that does not help, the block is made anew without. Code of theirs may be running. Both take memory->lock.
 */
void bt_window_sample(struct bt *bt, mfn_t m, unsigned offset, int32_t misses);
void bt_window_missed(struct bt *bt, struct block *b, unsigned window, uint32_t misses, struct mmu *mmu, enum tlb_set set, uint64_t va);
void bt_insert(struct bt *bt, struct block *b);
void bt_invalidate_range(struct bt *bt, mfn_t m, unsigned offset, unsigned len);
void bt_flush(struct bt *bt);
/* link.c: does the link ask for a block of MODE_SINGLY; patches the link that generated code left through, so that it goes to b from now on. */
bool bt_asks_singly(const struct bt *bt, uint32_t site);
void bt_link_site(struct vcpu *v, uint32_t site, struct block *b);
/* Has the vcpu come to RIP other than by a jump there (struct block, seam)? By how it left generated code last; a guess will do. */
bool bt_by_seam(const struct vcpu *v);
struct emit;
/* At the end of hot code, before a block that does not care about flags: its polling entry, from which it is fallen into. */
void bt_poll_before(struct bt *bt, struct block *b, struct emit *hot, struct emit *cold);
/* evict.c: room for new blocks, in an empty part of the cache or in one that is emptied; and empties that of a block which needs more room. */
void bt_make_room(struct bt *bt);
void bt_evict(struct bt *bt, const struct block *b);
void bt_drain_code_writes(struct bt *bt);
struct block *bt_block_of_host(struct bt *bt, uint32_t host);
/* By search: only those who leave ask. */
struct block *bt_block_of_site(struct bt *bt, uint32_t site);
const struct mark *bt_mark_of(struct bt *bt, const struct block *b, uint32_t host);
/* Room for the few bytes that invalidation, polling entries and the like take in the cold area. */
static inline bool bt_cold_room(const struct code_part *p) { return p->cold + 256 < p->cold_end; }
uint8_t *bt_poll_entry(struct bt *bt, struct block *b, bool flags_saved);
/* Whoever enters dead block b leaves from now on. There is room. */
void bt_close_entries(struct bt *bt, const struct block *b);
/* Forgets live block b: neither found nor in its frames' lists. */
void bt_unlist(struct bt *bt, struct block *b);
/* Code that b's conditional jump `site` to another page goes to from now on: a look-up in the jump table. 0: no room. */
uint8_t *bt_cross_entry(struct bt *bt, const struct block *b, uint32_t site);

/* jump.c: contexts and jump tables */
void bt_contexts_init(struct vcpu *v);
/* Makes the context of the present fetch id and mode current. */
void bt_context_refresh(struct vcpu *v);
/* In the current table: where va's translation is entered with the flags in S_FLAGS, or 0; and a new entry. */
uint8_t *bt_jump_find(const struct vcpu *v, uint64_t va);
void bt_jump_put(struct vcpu *v, uint64_t va, const struct block *b);
/*
 * Undoes a kick. The order matters: a kick sets v->pending first and the base second, so either the caller's look at
 * pending after this sees it, or the kick's base stands.
 */
static inline void bt_jump_unpoison(struct vcpu *v)
{
	_Atomic uint64_t *base = (_Atomic uint64_t *)&v->bt_scratch[S_JUMP_BASE];

	if (atomic_load_explicit(base, memory_order_relaxed) != v->bt_scratch[S_JUMP_WANT])
		atomic_store(base, v->bt_scratch[S_JUMP_WANT]);
}

/* stubs.c */
void bt_make_stubs(struct bt *bt);

/* engine.c: called from generated code */
uint64_t bt_tlb_miss_read(struct vcpu *v, uint64_t va, uint32_t site);
uint64_t bt_tlb_miss_write(struct vcpu *v, uint64_t va, uint32_t site);
uint64_t bt_domain_syscall(struct vcpu *v);
uint64_t bt_window_make(struct vcpu *v, uint64_t va, uint32_t site);
/* lower_state.c: the same, of an image that XRSTOR reads or XSAVE writes. */
uint64_t bt_state_find_read(struct vcpu *v, uint64_t va, uint32_t site);
uint64_t bt_state_find_write(struct vcpu *v, uint64_t va, uint32_t site);
uint64_t bt_state_store(struct vcpu *v, uint64_t unused, uint32_t site);

uint32_t bt_mode_of(const struct vcpu *v);

/*
 * May the code at va, to be run in this mode, be shared? Supervisor code rarely moves and would pay for it, the addresses of 32-bit code wrap. Close to the end of the lower half, which branch
 * targets are canonical depends on the address.
 */
static inline bool bt_moves(uint32_t mode) { return !(mode & MODE_CPL0); }
static inline bool bt_shares(const struct vcpu *v, uint64_t va, uint32_t mode)
{
	return bt_moves(mode) && !(mode & MODE_CODE32) && tune_on(v->memory->tune, TUNE_SHARE_BLOCKS) && va < (1ull << (v->mmu.va_bits - 1)) - GIB(2) - 2 * PAGE_SIZE;
}

/* What the code of a block takes for its address: shared, that in the page. Two blocks of one frame and mode are the same if these are. */
static inline uint64_t bt_block_key(const struct block *b) { return b->shared ? b->va & ~PAGE_MASK : b->va; }
/* Where the guest executes b, which v's code has just left. */
static inline uint64_t bt_block_va(const struct vcpu *v, const struct block *b) { return (b->shared ? v->bt_scratch[S_PAGE] : 0) + bt_block_key(b); }

/* Guest flags from and to the form of S_FLAGS. */
static inline uint32_t bt_flags_unpack(uint64_t slot)
{
	return ((uint32_t)(slot >> 8) & (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF)) | ((slot & 1) ? FL_OF : 0);
}

/* Jump tables (vcpu.h): entries that an address may be in, in a row, a line of the host's cache; which size a mode uses, the first entry of table i, and the hash that generated code computes too. */
#define JUMP_WAYS 4u
#define JUMP_BYTES (uint32_t)sizeof(struct jump_entry)
_Static_assert(VOFF(jump) % (JUMP_WAYS * sizeof(struct jump_entry)) == 0, "the others of a set are found by their bits");
/* The mode of kernel code after STAC or CLAC has changed AC, with CR4.SMAP set. */
static inline uint32_t bt_mode_ac(uint32_t mode, bool ac) { return (mode & ~(uint32_t)MODE_SET) | (ac ? TLB_KERNEL_AC : TLB_KERNEL); }
static inline bool bt_jump_small(uint32_t mode) { return (mode & MODE_SET) == TLB_USER; }
static inline uint32_t bt_jump_entries(uint32_t mode) { return bt_jump_small(mode) ? JUMP_SMALL_ENTRIES : JUMP_LARGE_ENTRIES; }
static inline uint32_t bt_jump_first(uint32_t table)
{
	const uint32_t large = JUMP_LARGE_ENTRIES + JUMP_HEAD_ENTRIES, small = JUMP_SMALL_ENTRIES + JUMP_HEAD_ENTRIES;

	return JUMP_HEAD_ENTRIES + (table < JUMP_LARGE_TABLES ? table * large : JUMP_LARGE_TABLES * large + (table - JUMP_LARGE_TABLES) * small);
}
static inline uint32_t bt_jump_slot(uint64_t va, uint32_t entries)
{
	uint64_t h = 0;

	__asm__("crc32q %1, %0" : "+r"(h) : "r"(va));
	return (uint32_t)(h / JUMP_BYTES & (entries - 1));
}
/* The wide table's: the context's number goes into the hash. */
static inline uint32_t bt_jump_wide_slot(uint64_t va, uint32_t context)
{
	uint64_t h = context;

	__asm__("crc32q %1, %0" : "+r"(h) : "r"(va));
	return (uint32_t)(h / JUMP_BYTES & (JUMP_WIDE_ENTRIES - 1));
}
/* Where a table begins, as in S_JUMP_BASE; table 0. */
static inline uint64_t bt_jump_base(uint32_t table) { return (uint64_t)VOFF(jump) + JUMP_BYTES * bt_jump_first(table); }
#define JUMP_NONE ((uint64_t)VOFF(jump[JUMP_HEAD_ENTRIES]))
#define NO_CONTEXT UINT32_MAX /* the number of table 0: of no entry */

#endif
