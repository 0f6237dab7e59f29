/*
 * engine.c - the binary translator as an engine: enters generated code, acts on why it left, finds or makes the next block.
 *
 * The loop is next_code (what should run at rip: an interrupt, a step of the executor, a block) and handle (what the
 * code left for). Between the two all guest state is in struct vcpu, and the FPU state usually stays live.
 */
#include "bt/bt_internal.h"

#include <asm/prctl.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "bt/emit.h"
#include "bt/profile_internal.h"
#include "cpu/engine.h"
#include "cpu/exec.h"
#include "cpu/host_fault.h"

#define BV(v) ((v)->bt)

/* Outside 64-bit mode only flat 32-bit code comes here (exec_must_step). */
static uint32_t mode_of_segments(const struct vcpu *v)
{
	uint32_t mode = MODE_CODE32;

	mode |= segment_whole(&v->seg[SEG_ES]) && !v->seg[SEG_ES].base ? MODE_FLAT_ES : 0;
	mode |= segment_whole(&v->seg[SEG_DS]) && !v->seg[SEG_DS].base ? MODE_FLAT_DS : 0;
	mode |= segment_whole(&v->seg[SEG_FS]) ? MODE_FLAT_FS : 0;
	mode |= segment_whole(&v->seg[SEG_GS]) ? MODE_FLAT_GS : 0;
	return mode;
}

uint32_t bt_mode_of(const struct vcpu *v)
{
	uint32_t mode = vcpu_tlb_way(v) | (vcpu_long64(v) ? 0 : mode_of_segments(v)) | (v->cpl == 0 ? MODE_CPL0 : 0) | (v->cpl == 0 && (v->cr4 & CR4_SMAP) ? MODE_SMAP : 0);

	mode |= v->mmu.va_bits == VA_BITS_5LEVEL ? MODE_LA57 : 0;
	if (UNLIKELY(v->svm.guest))
		mode |= MODE_GUEST | (v->svm.asks_pushf ? MODE_ASK_PUSHF : 0) | (v->svm.asks_tsc || v->svm.tsc_ratio != TSC_RATIO_ONE ? MODE_ASK_TSC : 0);
	if (!(v->cr0 & (CR0_EM | CR0_TS))) {
		mode |= MODE_X87 | MODE_MMX;
		if (v->cr4 & CR4_OSFXSR)
			mode |= MODE_SSE;
		if ((v->cr4 & CR4_OSXSAVE) && (v->xcr0 & (XCR0_SSE | XCR0_AVX)) == (XCR0_SSE | XCR0_AVX))
			mode |= MODE_AVX;
	}
	if ((v->cr4 & CR4_OSXSAVE) && !(v->cr0 & CR0_TS))
		mode |= MODE_XSAVE;
	return mode;
}

/* TLB misses of generated code (stubs.c). The size and the instruction are in the site. */

/* Where the site's access is tried again. */
static inline uint64_t site_again(struct vcpu *v, const struct site *s, bool write)
{
	struct bt *bt = BV(v)->bt;

	if (LIKELY(s->kind < SITE_STACK_READ))
		return (uint64_t)(uintptr_t)(bt->cache + s->host);
	if (LIKELY(s->kind >= SITE_WINDOW_READ))
		return (uint64_t)(uintptr_t)bt->window[s->kind >= SITE_SPAN_READ][vcpu_tlb_set(v)][write][s->window];
	return (uint64_t)(uintptr_t)(s->kind >= SITE_ALONE_READ ? bt->alone : bt->stack)[vcpu_tlb_set(v)][write][__builtin_ctz(bt_site_size(s))];
}

static inline void window_grow(struct vcpu *v, uint64_t va, const struct site *s)
{
	if (s->kind >= SITE_WINDOW_READ)
		mmu_window_grow(&v->mmu, vcpu_tlb_set(v), s->window, va);
}

static __attribute__((noinline)) uint64_t tlb_miss_long(struct vcpu *v, uint64_t va, const struct site *s, bool write)
{
	struct bt_vcpu *bv = BV(v);
	struct mmu_result out;
	enum mmu_kind kind;
	unsigned access = (write ? ACC_WRITE : ACC_READ) | ACC_AGAIN | (vcpu_user(v) ? ACC_USER : 0) | (v->rflags & FL_AC ? ACC_AC : 0);

	bv->slow_inject = false;
	if (UNLIKELY((va & ~PAGE_MASK) + bt_site_size(s) > PAGE_SIZE || !vcpu_canonical(v, va)))
		return 0;
	v->activity = ACT_PAGING;
	bt_profile_slow(v, (uint32_t)(s - bv->bt->site), PROFILE_REFILL);
	kind = mmu_access(&v->mmu, gva(va), access, &out);
	v->activity = ACT_CODE;
	if (LIKELY(kind == MMU_MAPPED)) {
		const struct tlb_entry *e = tlb1_entry(&v->mmu, vcpu_tlb_set(v), va);

		if (LIKELY((write ? e->tag_write : e->tag_read) == (va & PAGE_MASK))) {
			window_grow(v, va, s);
			return site_again(v, s, write);
		}
	} else if ((kind == MMU_INJECT || kind == MMU_NESTED_EXIT) && !s->careful) {
		bv->slow_exc = out.exc;
		bv->slow_inject = true;
	}
	return 0;
}

static inline __attribute__((always_inline)) uint64_t tlb_miss(struct vcpu *v, uint64_t va, uint32_t site, bool write)
{
	const struct site *s = &BV(v)->bt->site[site];

	if (LIKELY((va & ~PAGE_MASK) + bt_site_size(s) <= PAGE_SIZE && !BV(v)->bt->profile && mmu_refill(&v->mmu, va, vcpu_tlb_set(v), write))) {
		window_grow(v, va, s);
		return site_again(v, s, write);
	}
	return tlb_miss_long(v, va, s, write);
}

uint64_t bt_tlb_miss_read(struct vcpu *v, uint64_t va, uint32_t site) { return tlb_miss(v, va, site, false); }
uint64_t bt_tlb_miss_write(struct vcpu *v, uint64_t va, uint32_t site) { return tlb_miss(v, va, site, true); }

uint64_t bt_window_make(struct vcpu *v, uint64_t va, uint32_t site)
{
	const struct site *s = &BV(v)->bt->site[site];

	const enum tlb_set set = vcpu_tlb_set(v);

	bt_window_missed(BV(v)->bt, bt_block_of_site(BV(v)->bt, site), s->window, mmu_window_make(&v->mmu, set, s->window, va), &v->mmu, set, va);
	return site_again(v, s, s->kind == SITE_WINDOW_WRITE || s->kind == SITE_SPAN_WRITE);
}

/* One instruction by the executor, from the decode cache if its bytes are still those. False: stop. */
struct decode_request { struct decoded *d; enum insn_mode mode; };
static void decode_cold(void *arg)
{
	struct decode_request *r = arg;

	/* Within the page for sure: the caller checked. */
	insn_decode(&r->d->in, r->d->code, 15, r->mode);
}

static bool same_bytes(const uint8_t *a, const uint8_t *b, unsigned n)
{
	while (n && *a == *b)
		a++, b++, n--;
	return !n;
}

static bool exec_one(struct vcpu *v)
{
	struct bt_vcpu *bv = BV(v);
	uint32_t fetch_id = v->mmu.fetch_id[vcpu_user(v)];
	uint64_t rip = v->rip;
	struct decoded *d = &bv->decoded[(rip ^ rip >> 9) % DECODE_CACHE];
	const enum insn_mode mode = exec_code_mode(v);
	struct mmu_result out;

	v->activity = ACT_EXECUTOR;
	if (UNLIKELY(exec_must_step(v) || (rip & ~PAGE_MASK) > PAGE_SIZE - 15 || !vcpu_canonical(v, rip)))
		return exec_step(v) == EXEC_NEXT;
	if (UNLIKELY(d->rip != rip || !d->code || d->fetch_id != fetch_id || d->fetch_epoch != v->mmu.fetch_epoch || d->in.mode != mode ||
		     !same_bytes(d->code, d->in.bytes, d->in.len))) {
		struct decode_request r = { d, mode };

		if (mmu_fetch(&v->mmu, gva(rip), vcpu_user(v), &out) != MMU_MAPPED)
			return exec_step(v) == EXEC_NEXT;
		d->rip = rip;
		d->code = out.hva;
		d->fetch_id = v->mmu.fetch_id[vcpu_user(v)];
		d->fetch_epoch = v->mmu.fetch_epoch;
		fpu_call_cold(v, decode_cold, &r);
	}
	bt_profile_exec(v, &d->in);
	return exec_insn(v, &d->in) == EXEC_NEXT;
}

/* The block at rip in the current context, made if need be; 0: something else happened (a fault was delivered, or stop). */
static struct block *find_block(struct vcpu *v, bool singly, bool *stop)
{
	struct bt_vcpu *bv = BV(v);
	struct bt *bt = bv->bt;
	struct mmu_result out, out2;
	struct translate_request r = { .v = v, .bt = bt, .va = v->rip, .mode = bv->context[bv->current].mode | (singly ? MODE_SINGLY : 0), .m2 = MFN_NONE };
	const bool shared = r.shared = bt_shares(v, v->rip, r.mode);
	struct block *b;
	enum mmu_kind kind = mmu_fetch(&v->mmu, gva(v->rip), vcpu_user(v), &out);
	bool watched = false, watched2 = false;

	*stop = false;
	if (kind != MMU_MAPPED) {
		*stop = exec_step(v) != EXEC_NEXT; /* raises the fault, or says why the VM stops */
		return 0;
	}
	r.m = out.mfn;
	b = bt_find(bt, r.m, MFN_NONE, v->rip, r.mode, shared);
	if (b)
		return b;
	v->activity = ACT_TRANSLATION;
	if ((v->rip & ~PAGE_MASK) > PAGE_SIZE - 15) { /* may cross: the second page matters then */
		uint64_t next = (v->rip & PAGE_MASK) + PAGE_SIZE;

		r.need_second = false; /* beyond 4 GiB of 32-bit code: the executor */
		if ((vcpu_long64(v) || next <= UINT32_MAX) && vcpu_canonical(v, next) && mmu_fetch(&v->mmu, gva(next), vcpu_user(v), &out2) == MMU_MAPPED) {
			r.m2 = out2.mfn;
			b = bt_find(bt, r.m, r.m2, v->rip, r.mode, shared);
			if (b)
				return b;
		}
	}
	bt->counters.dispatch_misses++;
	fpu_call_cold(v, bt_translate, &r);
	if (!r.out && r.need_second) { /* the second page is not there */
		*stop = exec_step(v) != EXEC_NEXT;
		return 0;
	}
	memory_lock(v->memory);
	if (!r.out) {
		bt_make_room(bt);
		memory_unlock(v->memory);
		return 0;
	}
	b = r.out;
	b->seam = bt_by_seam(v);
	bt_insert(bt, b);
	{
		unsigned off = (unsigned)(b->va & ~PAGE_MASK), end = off + b->len;

		watched = track_code(&v->memory->track, r.m, off, (end < PAGE_SIZE ? end : (unsigned)PAGE_SIZE) - off);
		if (b->mfn2 != NO_FRAME)
			watched2 = track_code(&v->memory->track, mfn(b->mfn2), 0, end - (unsigned)PAGE_SIZE);
	}
	memory_unlock(v->memory);
	if (watched)
		mmu_write_protect(&v->mmu, r.m);
	if (watched2)
		mmu_write_protect(&v->mmu, mfn(b->mfn2));
	bt_profile_made(v, b);
	return b;
}

/* Flags from C to where a block's jump_entry has them. */
static void flags_to_slot(struct vcpu *v) { v->bt_scratch[S_FLAGS] = ((v->rflags & 0xff) << 8) | !!(v->rflags & FL_OF); }

/*
 * An interrupt found the vcpu at rip: a sample of where time is spent. The thread's own time counts, however busy the host is. A miss of a window costs some 20 cycles more than a look-up
 * in level 1 in its place, a hit saves one or two: one miss in 500 ns is little, either way.
 */
#define NS_PER_MISS 500
#define SAMPLE_MAX 10000000u /* ns; longer ago, the thread did other things */
static void note_time(struct vcpu *v)
{
	struct timespec t;
	struct mmu_result out;
	uint64_t now, ns;

	if (!vcpu_user(v) || !vcpu_canonical(v, v->rip) || (!tune_on(v->memory->tune, TUNE_WINDOWS) && !tune_on(v->memory->tune, TUNE_COMPACT_JUMPS)) || syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &t))
		return;
	now = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
	ns = now - BV(v)->sampled;
	BV(v)->sampled = now;
	if (mmu_fetch(&v->mmu, gva(v->rip), true, &out) == MMU_MAPPED)
		bt_window_sample(BV(v)->bt, out.mfn, (unsigned)(v->rip & ~PAGE_MASK), (int32_t)((ns < SAMPLE_MAX ? ns : SAMPLE_MAX) / NS_PER_MISS));
}

/* Where generated code should be entered next, or 0 with v->exit set. `site`: the link to patch, or NO_SITE. */
static uint8_t *next_code(struct vcpu *v, uint32_t site)
{
	struct bt_vcpu *bv = BV(v);
	struct bt *bt = bv->bt;
	uint32_t generation = bt->generation;

	for (;;) {
		uint32_t pending = atomic_load_explicit(&v->pending, memory_order_relaxed);
		struct block *b;
		bool stop, singly;

		if (UNLIKELY(pending)) {
			if (pending & REQ_STOP) {
				v->exit.kind = EXIT_STOP;
				return 0;
			}
			if (pending & REQ_SAMPLE)
				atomic_fetch_and(&v->pending, ~(uint32_t)REQ_SAMPLE);
			if (pending & REQ_INTERRUPT) {
				const uint64_t rip = v->rip;

				note_time(v);
				if (exec_interrupts(v) != EXEC_NEXT)
					return 0;
				if (v->rip != rip)
					site = NO_SITE; /* the link was to go elsewhere */
				continue; /* what its handler does not mask comes before anything of the handler, a fault of its fetch too */
			}
		}
		if (exec_still_halted(v))
			return 0;
		if (UNLIKELY(atomic_load_explicit(&v->memory->track.code_writes, memory_order_relaxed))) {
			bt_profile_code_write(v);
			bt_drain_code_writes(bt);
		}
		if (UNLIKELY(v->inhibit || exec_must_step(v))) {
			if (!exec_one(v))
				return 0;
			site = NO_SITE;
			continue;
		}
		/* The first fetch in a space that was flushed decides which context it is. */
		if (UNLIKELY(!v->mmu.fetch_id[vcpu_user(v)]) && vcpu_canonical(v, v->rip)) {
			struct mmu_result out;

			if (mmu_fetch(&v->mmu, gva(v->rip), vcpu_user(v), &out) != MMU_MAPPED) {
				if (exec_step(v) != EXEC_NEXT)
					return 0;
				site = NO_SITE;
				continue;
			}
		}
		bt_context_refresh(v);
		if (site == NO_SITE) {
			uint8_t *host = bt_jump_find(v, v->rip);

			if (host) {
				bt_jump_unpoison(v);
				if (LIKELY(!atomic_load(&v->pending))) {
					flags_to_slot(v);
					return host;
				}
				continue;
			}
		}
		if (UNLIKELY(!vcpu_canonical(v, v->rip))) {
			struct exception gp = exc_gp(0);

			if (exec_deliver(v, &gp) != EXEC_NEXT)
				return 0;
			site = NO_SITE;
			continue;
		}
		singly = bt->generation == generation && bt_asks_singly(bt, site);
		b = find_block(v, singly, &stop);
		if (stop)
			return 0;
		if (!b) {
			site = NO_SITE;
			continue;
		}
		if (UNLIKELY(b->seam))
			b->seam = bt_by_seam(v);
		if (site != NO_SITE && bt->generation == generation)
			bt_link_site(v, site, b);
		site = NO_SITE;
		/* find_block may have fetched under a new id, or evicted, as may the link: look again before trusting the context. */
		bt_context_refresh(v);
		if (bt->generation != generation && b->dead)
			continue;
		if (LIKELY(!singly))
			bt_jump_put(v, v->rip, b);
		bt_jump_unpoison(v);
		if (UNLIKELY(atomic_load(&v->pending)))
			continue;
		bt->counters.dispatches++;
		return bt->cache + b->entry;
	}
}

/* RF holds for one instruction: generated code, which leaves it alone, has executed some when it leaves elsewhere than where it was entered. */
static inline void one_insn_done(struct vcpu *v, uint64_t entered)
{
	if (UNLIKELY(v->rflags & FL_RF) && v->rip != entered)
		v->rflags &= ~(uint64_t)FL_RF;
}

/* What next_code would do before it looks for code, or may have to. */
static bool needs_care(const struct vcpu *v)
{
	return atomic_load_explicit(&v->pending, memory_order_relaxed) || v->exit.kind != EXIT_NONE || v->halted ||
	       atomic_load_explicit(&v->memory->track.code_writes, memory_order_relaxed) || v->inhibit || (v->rflags & FL_RF) || exec_must_step(v);
}

uint64_t bt_domain_syscall(struct vcpu *v)
{
	struct bt_vcpu *bv = BV(v);
	uint8_t *host;

	v->rflags = (v->rflags & ~(uint64_t)FL_ARITH) | bt_flags_unpack(v->bt_scratch[S_FLAGS]);
	v->bt_scratch[S_REASON] = LEAVE_EXEC;
	bt_profile_left(v);
	bt_profile_exec(v, &bv->syscall);
	v->activity = ACT_EXECUTOR;
	exec_insn(v, &bv->syscall);
	if (UNLIKELY(needs_care(v)))
		return 0;
	bt_context_refresh(v);
	host = bt_jump_find(v, v->rip);
	bt_jump_unpoison(v);
	if (UNLIKELY(!host || atomic_load(&v->pending)))
		return 0;
	fpu_load(v);
	flags_to_slot(v);
	v->bt_scratch[S_PAGE] = v->rip & PAGE_MASK;
	v->activity = ACT_CODE;
	v->counters.blocks_executed += !tune_on(v->memory->tune, TUNE_COUNT_BLOCKS);
	return (uint64_t)(uintptr_t)host;
}

/* Turns a host fault inside generated code into the guest's exception. False: stop. */
static bool host_fault(struct vcpu *v, uint64_t entered)
{
	struct bt *bt = BV(v)->bt;
	uint32_t host = (uint32_t)v->bt_scratch[S_EA];
	struct block *b = bt_block_of_host(bt, host);
	const struct mark *m = b ? bt_mark_of(bt, b, host) : 0;
	struct exception exc;

	ASSERT(m);
	bt->counters.host_faults++;
	v->rip = bt_block_va(v, b) + m->guest_off;
	if (m->flags_saved)
		v->rflags = (v->rflags & ~(uint64_t)FL_ARITH) | bt_flags_unpack(v->bt_scratch[S_FLAGS]);
	one_insn_done(v, entered);
	/* The trap number may be that of an earlier trap: let the executor see. Also in an interrupt shadow, which it knows about. */
	if (UNLIKELY(!host_canonical(v->gpr[RSP]) || v->inhibit))
		return exec_one(v);
	switch (v->bt_scratch[S_FAULT]) {
	case VEC_DE: case VEC_MF: case VEC_XM: case VEC_UD:
		exc = exc_plain((uint8_t)v->bt_scratch[S_FAULT]);
		break;
	default:
		exc = exc_error((uint8_t)v->bt_scratch[S_FAULT], 0);
		break;
	}
	if (exc.vector == VEC_XM && !(v->cr4 & CR4_OSXMMEXCPT))
		exc = exc_ud();
	return exec_deliver(v, &exc) == EXEC_NEXT;
}

/*
 * Whether a fault of an access stands as it is. A paravirtualized kernel's write to a page that it may only read does not: the executor
 * asks the personality, which knows page tables when it sees them.
 */
static bool fault_stands(const struct vcpu *v, const struct exception *exc)
{
	return !v->ring3_kernel || exc->vector != VEC_PF || (exc->error & (PF_P | PF_W)) != (PF_P | PF_W);
}

/* Acts on why the code, which was entered at this rip, left; *site gets the link to patch. False: v->exit says why to stop. */
static bool handle(struct vcpu *v, uint64_t entered, uint32_t *site)
{
	struct bt_vcpu *bv = BV(v);
	struct bt *bt = bv->bt;
	uint32_t n = (uint32_t)v->bt_scratch[S_SITE];

	*site = NO_SITE;
	if (LIKELY((uint32_t)v->bt_scratch[S_REASON] != LEAVE_DONE)) /* counted where it was done */
		bt_profile_left(v);
	switch ((enum leave_reason)(uint32_t)v->bt_scratch[S_REASON]) {
	case LEAVE_DISPATCH:
		if (n & BLOCK_SITE) {
			v->rip = bt_block_va(v, &bt->block[n & ~BLOCK_SITE]);
		} else {
			struct site *s = &bt->site[n];
			const struct block *b = bt_block_of_site(bt, n);

			if (s->kind == SITE_CROSS)
				v->rip = (b->shared ? v->bt_scratch[S_PAGE] : 0) + bt_cross_target(s);
			else
				v->rip = (bt_block_va(v, b) & PAGE_MASK) + s->more;
			n = s->host ? n : NO_SITE;
		}
		*site = n;
		one_insn_done(v, entered);
		return true;
	case LEAVE_POLL:
		v->rip = bt_block_va(v, &bt->block[n & ~BLOCK_SITE]);
		bt->counters.polls++;
		one_insn_done(v, entered);
		return true;
	case LEAVE_JUMP:
		if (UNLIKELY(!vcpu_canonical(v, v->rip)) && bt->site[n].kind != SITE_FAR) { /* the branch itself faults */
			struct exception gp = exc_gp(0);

			v->rip = bt_block_va(v, bt_block_of_site(bt, n)) + bt->site[n].guest_off;
			v->gpr[RSP] += (uint64_t)bt->site[n].more - SITE_RSP_MAX;
			one_insn_done(v, entered);
			return exec_deliver(v, &gp) == EXEC_NEXT;
		}
		one_insn_done(v, entered);
		return true;
	case LEAVE_EXEC:
		one_insn_done(v, entered);
		return exec_one(v);
	case LEAVE_SLOW:
		v->rip = bt_block_va(v, bt_block_of_site(bt, n)) + bt->site[n].guest_off;
		if (bt->site[n].flags_saved)
			v->rflags = (v->rflags & ~(uint64_t)FL_ARITH) | bt_flags_unpack(v->bt_scratch[S_FLAGS]);
		bt->counters.slow_accesses++;
		one_insn_done(v, entered);
		if (bv->slow_inject && !v->inhibit && fault_stands(v, &bv->slow_exc))
			return exec_deliver(v, &bv->slow_exc) == EXEC_NEXT;
		return exec_one(v);
	case LEAVE_FAULT:
		return host_fault(v, entered);
	case LEAVE_DONE:
		return v->exit.kind == EXIT_NONE;
	}
	ASSERT(!"leave reason");
	return false;
}

static void bt_run(struct vcpu *v)
{
	struct bt *bt = BV(v)->bt;
	uint32_t site = NO_SITE;
	uint64_t entered;
	uint8_t *host;
	bool count_all = tune_on(v->memory->tune, TUNE_COUNT_BLOCKS); /* then the code counts */

	v->exit.kind = EXIT_NONE;
	while ((host = next_code(v, site))) {
		fpu_load(v);
		v->activity = ACT_CODE;
		v->counters.blocks_executed += !count_all;
		entered = v->rip;
		v->bt_scratch[S_PAGE] = entered & PAGE_MASK;
		bt->enter(v, host);
		v->activity = ACT_EXECUTOR;
		if (!handle(v, entered, &site))
			break;
	}
	fpu_save(v);
}

/*
 * The guest's RSP is in the host's, and may be non-canonical. The host kernel cannot return to such a context: IRET faults on AMD, after a
 * signal as well as after a mere timer tick, and Linux reports that as SIGSEGV where the context was, with the number of some
 * earlier trap (under a hypervisor SIGILL was seen too). So returns are made with the host's RSP, through a stub that brings the guest's back and goes on. See docs/translator.md, "Stack pointers that are not canonical".
 */
static void odd_stack_return(struct vcpu *v, greg_t *g)
{
	uint8_t *stub = BV(v)->bt->odd_stack;
	uint64_t rip = (uint64_t)g[REG_RIP], in_stub = rip - (uint64_t)(uintptr_t)stub;

	if (host_canonical((uint64_t)g[REG_RSP]))
		return;
	if (in_stub >= (uint64_t)(BV(v)->bt->jump_miss - stub)) { /* else the slots say already where to go */
		v->bt_scratch[S_ODD_RSP] = (uint64_t)g[REG_RSP];
		v->bt_scratch[S_ODD_RIP] = rip;
	}
	g[REG_RSP] = (greg_t)v->bt_scratch[S_HOST_RSP];
	g[REG_RIP] = (greg_t)(uintptr_t)stub;
}

/*
 * Was this signal raised by the kernel's return, not by the guest's instruction? For sure if no instruction that can fault stands there. If
 * one does, all guest state is as before it, and the executor does it in either case (host_fault).
 */
static bool odd_stack_fault(struct vcpu *v, const greg_t *g)
{
	struct bt *bt = BV(v)->bt;
	uint32_t host = (uint32_t)((uint64_t)g[REG_RIP] - (uint64_t)(uintptr_t)bt->cache);
	const struct block *b;

	if (host_canonical((uint64_t)g[REG_RSP]))
		return false;
	b = bt_block_of_host(bt, host);
	return !b || !bt_mark_of(bt, b, host);
}

/* A signal raised by copied guest instructions: leave with the trap number, at the host address of the fault. */
static bool on_host_fault(ucontext_t *context, int signo, siginfo_t *info, int trapno)
{
	struct vcpu *v;
	greg_t *g = context->uc_mcontext.gregs;

	(void)signo, (void)info;
	__asm__("mov %%gs:%c1, %0" : "=r"(v) : "i"(SLOT(S_SELF)));
	if (odd_stack_fault(v, g)) {
		odd_stack_return(v, g);
		return true;
	}
	if (trapno == VEC_PF && host_canonical((uint64_t)g[REG_RSP]))
		return false; /* a bug of ours: host memory that should be there is not */
	v->bt_scratch[S_EA] = (uint64_t)g[REG_RIP] - (uint64_t)(uintptr_t)BV(v)->bt->cache;
	v->bt_scratch[S_FAULT] = (uint64_t)trapno;
	v->gpr[RSP] = (uint64_t)g[REG_RSP];
	g[REG_RSP] = (greg_t)v->bt_scratch[S_HOST_RSP];
	g[REG_EFL] &= ~(greg_t)(FL_AC | FL_DF | FL_TF);
	g[REG_RIP] = (greg_t)(uintptr_t)BV(v)->bt->leave[LEAVE_FAULT];
	odd_stack_return(v, g);
	return true;
}

static void *reserve(size_t bytes, int prot)
{
	void *p = mmap(NULL, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/*
 * The code cache lies on huge pages where the host gives them: fewer host page faults (10 us each on a virtual host) and fewer
 * misses of the host's instruction TLB. Aligned by hand.
 */
static uint8_t *reserve_cache(void)
{
	uint8_t *p = reserve(CODE_CACHE_SIZE + MIB(2), PROT_READ | PROT_WRITE | PROT_EXEC), *start;

	if (!p)
		return NULL;
	start = (uint8_t *)ALIGN_UP((uintptr_t)p, MIB(2));
	if (start > p)
		munmap(p, (size_t)(start - p));
	if (start < p + MIB(2))
		munmap(start + CODE_CACHE_SIZE, (size_t)(p + MIB(2) - start));
	madvise(start, CODE_CACHE_SIZE, MADV_HUGEPAGE);
	return start;
}

static void bt_vm_destroy(void *state)
{
	struct bt *bt = state;

	if (bt->cache) {
		host_fault_unregister(bt->cache);
		munmap(bt->cache, CODE_CACHE_SIZE);
	}
	if (bt->block)
		munmap(bt->block, MAX_BLOCKS * sizeof(*bt->block));
	if (bt->mark)
		munmap(bt->mark, MAX_MARKS * sizeof(*bt->mark));
	if (bt->site)
		munmap(bt->site, MAX_SITES * sizeof(*bt->site));
	free(bt->hash);
	free(bt->heads);
	free(bt->windows);
	free(bt);
}

static int bt_vm_init(struct memory *memory, void **state)
{
	struct bt *bt = calloc(1, sizeof(*bt));

	if (!bt)
		return -ENOMEM;
	bt->memory = memory;
	bt->hash = calloc(BLOCK_HASH, sizeof(*bt->hash));
	bt->heads = calloc(BLOCK_HEADS / 64, sizeof(*bt->heads));
	bt->windows = calloc(WINDOW_CHUNKS, sizeof(*bt->windows));
	bt->block = reserve(MAX_BLOCKS * sizeof(*bt->block), PROT_READ | PROT_WRITE);
	bt->mark = reserve(MAX_MARKS * sizeof(*bt->mark), PROT_READ | PROT_WRITE);
	bt->site = reserve(MAX_SITES * sizeof(*bt->site), PROT_READ | PROT_WRITE);
	bt->cache = reserve_cache();
	if (!bt->hash || !bt->heads || !bt->windows || !bt->block || !bt->mark || !bt->site || !bt->cache ||
	    host_fault_register(bt->cache, bt->cache + CODE_CACHE_SIZE, on_host_fault)) {
		bt_vm_destroy(bt);
		return -ENOMEM;
	}
	bt_make_stubs(bt);
	for (uint32_t n = 0; n < CODE_PARTS; n++)
		bt_part_begin(bt, &bt->part[n]);
	*state = bt;
	return 0;
}

static int bt_vcpu_init(struct vcpu *v, void *state)
{
	static const uint8_t syscall[2] = { 0x0f, 0x05 };
	struct bt_vcpu *bv = calloc(1, sizeof(*bv));

	if (!bv)
		return -ENOMEM;
	bv->bt = state;
	v->bt = bv;
	v->bt_scratch[S_SELF] = (uint64_t)(uintptr_t)v;
	v->bt_scratch[S_SITES] = (uint64_t)(uintptr_t)bv->bt->site;
	v->bt_scratch[S_CACHE] = (uint64_t)(uintptr_t)bv->bt->cache;
	insn_decode(&bv->syscall, syscall, sizeof(syscall), INSN_MODE_64);
	bt_contexts_init(v);
	return 0;
}

static void bt_vcpu_destroy(struct vcpu *v)
{
	free(v->bt);
	v->bt = NULL;
}

static int bt_thread_start(struct vcpu *v)
{
	int r = host_fault_thread_start();

	if (r)
		return r;
	return syscall(SYS_arch_prctl, ARCH_SET_GS, (char *)v + GS_AT) ? -errno : 0;
}

/* Makes jump-table 0, which is always empty, current: the next look-up misses and next_code sees v->pending. */
static void bt_kick(struct vcpu *v) { atomic_store((_Atomic uint64_t *)&v->bt_scratch[S_JUMP_BASE], JUMP_NONE); }

static const struct stat_row bt_stat_rows[] = {
#define ROW(member, help) STAT_ROW(struct bt_counters, member, help)
	ROW(blocks_translated, "blocks made"),
	ROW(blocks_shared, "... that serve every address their page is mapped at"),
	ROW(insns_translated, "guest instructions in them"),
	ROW(bytes_guest, "guest bytes in them"),
	ROW(bytes_host, "host bytes generated for them, cold paths included"),
	ROW(blocks_invalidated_write, "blocks dropped because a store hit their code"),
	ROW(blocks_invalidated_flush, "blocks dropped with the code cache or a part of it"),
	ROW(cache_flushes, "times that the whole code cache was dropped"),
	ROW(cache_evictions, "parts of the code cache dropped to make room"),
	ROW(dispatches, "times that a block was looked up in C"),
	ROW(dispatch_misses, "... and did not exist yet"),
	ROW(links, "direct jumps patched between blocks"),
	ROW(jump_cache_fills, "jump-table entries filled"),
	ROW(executor_sites, "translated places that hand an instruction to the executor"),
	ROW(slow_accesses, "memory accesses of translated code that the executor or a guest fault served"),
	ROW(host_faults, "guest exceptions raised by translated instructions on the host's units"),
	ROW(chunks_windowed, "pieces of user code of 256 bytes whose blocks were made anew with windows, because time is spent there"),
	ROW(windows_forsaken, "times that the blocks of one did without a window from then on, because it missed too often"),
	ROW(code_writes, "stores that hit translated code"),
	ROW(contexts, "jump tables given to a new (address space, mode)"),
	ROW(polls, "times that a loop noticed a request"),
	ROW(string_runs, "string instructions that C did for translated code, without the executor"),
#undef ROW
};

static void bt_stats(void *state, struct stats *stats)
{
	stats_add(stats, "bt", bt_stat_rows, ARRAY_LEN(bt_stat_rows), &((struct bt *)state)->counters);
}

const struct engine engine_bt = {
	.name = "bt",
	.vm_init = bt_vm_init,
	.vm_destroy = bt_vm_destroy,
	.vcpu_init = bt_vcpu_init,
	.vcpu_destroy = bt_vcpu_destroy,
	.thread_start = bt_thread_start,
	.run = bt_run,
	.kick = bt_kick,
	.stats = bt_stats,
};
