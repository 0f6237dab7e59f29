/*
 * exec.c - the executor's frame: what happens around every instruction (conditions, breakpoints, traps, faults), and
 * the table of handlers.
 */
#include "cpu/exec.h"

#include <errno.h>
#include <stdlib.h>
#include "base/tune.h"
#include "cpu/debug.h"
#include "cpu/exec_internal.h"
#include "cpu/trace.h"

static exec_handler *const handlers[INSN_CLASS_COUNT] = {
	[INSN_INVALID] = op_invalid, [INSN_TOO_LONG] = op_too_long, [INSN_PLAIN] = op_plain, [INSN_NOP] = op_nop,
	[INSN_JCC] = op_jcc, [INSN_JMP] = op_jmp, [INSN_JMP_IND] = op_jmp_ind, [INSN_CALL] = op_call,
	[INSN_CALL_IND] = op_call_ind, [INSN_RET] = op_ret, [INSN_LOOP] = op_loop,
	[INSN_JMP_FAR] = op_jmp_far, [INSN_CALL_FAR] = op_call_far, [INSN_RET_FAR] = op_ret_far, [INSN_IRET] = op_iret,
	[INSN_INT] = op_int, [INSN_INT1] = op_int1, [INSN_INT3] = op_int3, [INSN_INTO] = op_into, [INSN_UD] = op_invalid,
	[INSN_BOUND] = op_bound, [INSN_SYSCALL] = op_syscall, [INSN_SYSRET] = op_sysret, [INSN_SYSENTER] = op_sysenter,
	[INSN_SYSEXIT] = op_sysexit, [INSN_BCD] = op_bcd,
	[INSN_PUSH] = op_push, [INSN_POP] = op_pop, [INSN_PUSHF] = op_pushf, [INSN_POPF] = op_popf, [INSN_ENTER] = op_enter,
	[INSN_LEAVE] = op_leave, [INSN_PUSHA] = op_pusha, [INSN_POPA] = op_popa,
	[INSN_MOVS] = op_movs, [INSN_STOS] = op_stos, [INSN_LODS] = op_lods, [INSN_CMPS] = op_cmps, [INSN_SCAS] = op_scas,
	[INSN_INS] = op_ins, [INSN_OUTS] = op_outs, [INSN_XLAT] = op_xlat,
	[INSN_GATHER] = op_gather, [INSN_MASKMOV] = op_maskmov, [INSN_VMASKMOV] = op_vmaskmov, [INSN_CACHE] = op_cache,
	[INSN_MOVDIR64B] = op_movdir64b, [INSN_BT_MEM] = op_bt_mem,
	[INSN_CLI] = op_cli, [INSN_STI] = op_sti, [INSN_CLD] = op_cld, [INSN_STD] = op_std, [INSN_CLAC] = op_clac,
	[INSN_STAC] = op_stac,
	[INSN_CPUID] = op_cpuid, [INSN_RDTSC] = op_rdtsc, [INSN_RDTSCP] = op_rdtscp, [INSN_RDPMC] = op_rdpmc,
	[INSN_RDPID] = op_rdpid, [INSN_RDMSR] = op_rdmsr, [INSN_WRMSR] = op_wrmsr, [INSN_RDFSBASE] = op_fsgsbase,
	[INSN_RDGSBASE] = op_fsgsbase, [INSN_WRFSBASE] = op_fsgsbase, [INSN_WRGSBASE] = op_fsgsbase, [INSN_SWAPGS] = op_swapgs,
	[INSN_MOV_FROM_CR] = op_mov_from_cr, [INSN_MOV_TO_CR] = op_mov_to_cr, [INSN_MOV_FROM_DR] = op_mov_from_dr,
	[INSN_MOV_TO_DR] = op_mov_to_dr, [INSN_CLTS] = op_clts, [INSN_LMSW] = op_lmsw, [INSN_SMSW] = op_smsw,
	[INSN_SGDT] = op_store_table, [INSN_SIDT] = op_store_table, [INSN_SLDT] = op_sldt_str, [INSN_STR] = op_sldt_str,
	[INSN_LGDT] = op_load_table, [INSN_LIDT] = op_load_table, [INSN_LLDT] = op_lldt, [INSN_LTR] = op_ltr,
	[INSN_LAR] = op_lar_lsl, [INSN_LSL] = op_lar_lsl, [INSN_VERR] = op_verr_verw, [INSN_VERW] = op_verr_verw,
	[INSN_ARPL] = op_arpl, [INSN_MOV_FROM_SEG] = op_mov_from_seg, [INSN_MOV_TO_SEG] = op_mov_to_seg,
	[INSN_LOAD_FAR] = op_load_far,
	[INSN_INVLPG] = op_invlpg, [INSN_INVPCID] = op_invpcid, [INSN_INVD] = op_invd, [INSN_WBINVD] = op_invd,
	[INSN_HLT] = op_hlt, [INSN_MONITOR] = op_monitor, [INSN_MWAIT] = op_monitor, [INSN_IN] = op_in, [INSN_OUT] = op_out,
	[INSN_XGETBV] = op_xgetbv, [INSN_XSETBV] = op_xsetbv, [INSN_XSAVE] = op_xsave, [INSN_XSAVEOPT] = op_xsave,
	[INSN_XSAVEC] = op_xsave, [INSN_XSAVES] = op_invalid, [INSN_XRSTOR] = op_xrstor, [INSN_XRSTORS] = op_invalid,
	[INSN_FXSAVE] = op_fxsave, [INSN_FXRSTOR] = op_fxrstor, [INSN_FPU_ENV] = op_fpu_env,
	[INSN_VMCALL] = op_vmcall, [INSN_SVM] = op_svm, [INSN_VMX] = op_invalid,
};

enum exec_op exec_privileged(struct exec *x, uint64_t iopl)
{
	struct vcpu *v = x->v;
	uint8_t cpl = v->cpl;
	enum exec_op op;

	ASSERT(iopl || !vcpu_user(v));
	v->rflags |= iopl;
	if (!iopl)
		v->cpl = 0;
	op = handlers[x->in->cls](x);
	v->cpl = cpl;
	v->rflags &= ~iopl;
	return op;
}

void exec_exit(struct vcpu *v, enum exit_kind kind, const char *reason)
{
	size_t i = 0;

	v->exit.kind = kind;
	for (; reason[i] && i < sizeof(v->exit.reason) - 1; i++)
		v->exit.reason[i] = reason[i];
	v->exit.reason[i] = 0;
}

static char *put_text(char *p, char *end, const char *text)
{
	while (*text && p < end)
		*p++ = *text++;
	return p;
}

static char *put_hex(char *p, char *end, uint64_t value, unsigned digits)
{
	while (digits-- && p < end)
		*p++ = "0123456789abcdef"[(value >> (4 * digits)) & 15];
	return p;
}

enum exec_op exec_unsupported(struct exec *x, const char *what)
{
	char text[sizeof(x->v->exit.reason)], *p = text, *end = text + sizeof(text) - 1;

	p = put_text(p, end, what);
	p = put_text(p, end, " at ");
	p = put_hex(p, end, x->v->rip, 16);
	p = put_text(p, end, " (bytes");
	for (unsigned i = 0; x->in && i < x->in->len; i++) {
		p = put_text(p, end, " ");
		p = put_hex(p, end, x->in->bytes[i], 2);
	}
	p = put_text(p, end, ")");
	*p = 0;
	exec_exit(x->v, EXIT_UNSUPPORTED, text);
	return OP_STOP;
}

/* AMD APM vol. 2, "Saving and Restoring Context"; Intel SDM vol. 3, "Interactions Between CR0/CR4 and x87, MMX, SSE, AVX". */
bool exec_need_fault(const struct vcpu *v, const struct insn *in, struct exception *exc)
{
	unsigned need = in->need;

	if (LIKELY(!need && !in->feature))
		return false;
	if ((need & NEED_NEVER) || (in->feature & ~v->features) || ((need & NEED_LONG) && !vcpu_long64(v)) ||
	    (in->vex_off && vcpu_paragraphs(v)))
		goto undefined;
	if (need & NEED_X87) {
		if (v->cr0 & (CR0_EM | CR0_TS))
			goto device;
	} else if (need & NEED_MMX) {
		if (v->cr0 & CR0_EM)
			goto undefined;
		if (v->cr0 & CR0_TS)
			goto device;
	}
	if (need & NEED_SSE) {
		if ((v->cr0 & CR0_EM) || !(v->cr4 & CR4_OSFXSR))
			goto undefined;
		if (v->cr0 & CR0_TS)
			goto device;
	}
	if (need & NEED_AVX) {
		if (!(v->cr4 & CR4_OSXSAVE) || (v->xcr0 & (XCR0_SSE | XCR0_AVX)) != (XCR0_SSE | XCR0_AVX))
			goto undefined;
		if (v->cr0 & CR0_TS)
			goto device;
	}
	if ((need & NEED_FWAIT) && (v->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
		goto device;
	if ((need & NEED_XSAVE) && !(v->cr4 & CR4_OSXSAVE))
		goto undefined;
	return false;
undefined:
	*exc = exc_ud();
	return true;
device:
	*exc = exc_plain(VEC_NM);
	return true;
}

bool exec_flat32(const struct vcpu *v)
{
	const struct segment *cs = &v->seg[SEG_CS], *ss = &v->seg[SEG_SS];

	return !vcpu_long64(v) && !vcpu_paragraphs(v) && !cs->base && cs->limit == UINT32_MAX && (cs->attr & SEG_DB) && !ss->base &&
	       segment_whole(ss) && (ss->attr & SEG_DB);
}

bool exec_must_step(const struct vcpu *v)
{
	return (v->rflags & FL_TF) || (v->dr[7] & DR7_ENABLES) ||
	       (UNLIKELY(!vcpu_long64(v)) && (!exec_flat32(v) || !tune_on(v->memory->tune, TUNE_CODE32))) || (v->inhibit & INHIBIT_MOV_SS) ||
	       (v->cpl == 3 && (v->rflags & FL_AC) && (v->cr0 & CR0_AM));
}

enum exec_op exec_on_copy(struct exec *x, uint64_t la, uint64_t *copy)
{
	struct vcpu *v = x->v;
	enum exec_op op;

	v->redirect.la = la;
	v->redirect.copy = (uint8_t *)copy;
	op = handlers[x->in->cls](x);
	v->redirect.copy = NULL;
	return op;
}

/* Traps of the instruction just finished: single step and data breakpoints (AMD APM vol. 2, "Debug Exception"). */
static enum exec_result after(struct vcpu *v, const struct exec *x)
{
	struct exception db;

	if (LIKELY(!x->tf && !v->debug_hits))
		return EXEC_NEXT;
	if (v->inhibit & INHIBIT_MOV_SS)
		return EXEC_NEXT; /* held until after the next instruction */
	db = exc_plain(VEC_DB);
	db.dr6 = v->debug_hits | (x->tf ? DR6_BS : 0);
	v->debug_hits = 0;
	return exec_deliver(v, &db);
}

enum exec_result exec_insn(struct vcpu *v, const struct insn *in)
{
	struct exec x;
	enum exec_op op;
	uint8_t shadow = v->inhibit;

	x.v = v;
	x.in = in;
	x.next = v->rip + in->len;
	x.tf = v->rflags & FL_TF;
	x.keep_rf = false;
	x.shadow = shadow;
	v->counters.insns_executor++;
	if (vcpu_traced(v))
		vcpu_trace_insn(v, in);
	if (UNLIKELY(!vcpu_long64(v)))
		x.next = (uint32_t)x.next;
	if (UNLIKELY(v->dr[7] & DR7_ENABLES) && !(v->rflags & FL_RF)) {
		uint64_t hits = debug_fetch(v, vcpu_long64(v) ? v->rip : (uint32_t)(v->seg[SEG_CS].base + v->rip));

		if (hits && !(shadow & INHIBIT_MOV_SS)) {
			struct exception db = exc_plain(VEC_DB);

			db.dr6 = hits;
			return exec_deliver(v, &db);
		}
	}
	v->inhibit = 0;
	if (!(shadow & INHIBIT_MOV_SS))
		v->debug_hits = 0;
	if (UNLIKELY(exec_need_fault(v, in, &x.exc)))
		op = OP_FAULT;
	else if (LIKELY(!v->svm.guest) || (op = v->svm.ops->intercept(&x)) == OP_DONE)
		op = handlers[in->cls](&x);
	if (UNLIKELY(op == OP_FAULT) && v->personality->refused)
		op = v->personality->refused(&x);
	switch (op) {
	case OP_DONE:
		v->rip = x.next;
		if (!x.keep_rf)
			v->rflags &= ~(uint64_t)FL_RF;
		break;
	case OP_REPEAT:
		break;
	case OP_EVENT:
		v->debug_hits = 0;
		return EXEC_NEXT;
	case OP_FAULT:
		v->debug_hits = 0;
		v->inhibit = shadow; /* it has not been executed: what a #VMEXIT saves. A handler that is entered ends the shadow. */
		return exec_deliver(v, &x.exc);
	case OP_STOP:
		return EXEC_STOP;
	}
	if (UNLIKELY(shadow) && v->irq_waiting)
		exec_irq_recheck(v);
	return after(v, &x);
}

/*
 * What was decoded lately, by the host address of its first byte. Hits compare the bytes, so nothing is ever invalidated.
 * Instructions that cross into the next page are not kept.
 */
#define EXEC_CACHE 1024
struct exec_cache { struct { const uint8_t *at; struct insn in; } slot[EXEC_CACHE]; };

int exec_cache_create(struct exec_cache **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void exec_cache_destroy(struct exec_cache *c) { free(c); }

static bool still_there(const struct insn *in, const uint8_t *bytes)
{
	for (unsigned i = 0; i < in->len; i++)
		if (in->bytes[i] != bytes[i])
			return false;
	return true;
}

struct decode { struct insn *in; const uint8_t *bytes; unsigned avail; enum insn_mode mode; int result; };

static void decode_cold(void *arg)
{
	struct decode *d = arg;

	d->result = insn_decode(d->in, d->bytes, d->avail, d->mode);
}

static enum exec_result fetch_failed(struct vcpu *v, enum mmu_kind kind, const struct mmu_result *r)
{
	if (kind == MMU_INJECT || kind == MMU_NESTED_EXIT)
		return exec_deliver(v, &r->exc);
	if (kind == MMU_MMIO)
		exec_exit(v, EXIT_UNSUPPORTED, "the guest runs code where there is no memory");
	else
		exec_exit(v, EXIT_HOST_ERROR, "no machine frame left for the guest's memory");
	return EXEC_STOP;
}

static const struct exception limit_fault = { .vector = VEC_GP, .has_error = true };

/* Outside 64-bit mode every byte of an instruction must lie within the code segment's limit. */
static bool within_limit(const struct vcpu *v, const struct insn *in)
{
	return LIKELY(in->mode == INSN_MODE_64) || v->rip + in->len - 1 <= v->seg[SEG_CS].limit || in->cls == INSN_INVALID ||
	       in->cls == INSN_TOO_LONG;
}

enum exec_result exec_step(struct vcpu *v)
{
	enum insn_mode mode = exec_code_mode(v);
	uint64_t la = mode == INSN_MODE_64 ? v->rip : (uint32_t)(v->seg[SEG_CS].base + v->rip);
	uint8_t bytes[16];
	struct insn *in;
	struct decode d;
	struct mmu_result r;
	enum mmu_kind kind;
	unsigned page_left = (unsigned)(PAGE_SIZE - (la & ~PAGE_MASK)), slot;

	if (UNLIKELY(mode != INSN_MODE_64 && v->rip > v->seg[SEG_CS].limit) || UNLIKELY(!vcpu_canonical(v, la)))
		return exec_deliver(v, &limit_fault);
	kind = mmu_fetch(&v->mmu, gva(la), vcpu_user(v), &r);
	if (UNLIKELY(kind != MMU_MAPPED))
		return fetch_failed(v, kind, &r);
	slot = (unsigned)((uintptr_t)r.hva ^ (uintptr_t)r.hva >> 12) % EXEC_CACHE;
	in = &v->decoded->slot[slot].in;
	if (LIKELY(v->decoded->slot[slot].at == r.hva && in->mode == mode && still_there(in, r.hva)))
		return within_limit(v, in) ? exec_insn(v, in) : exec_deliver(v, &limit_fault);

	v->decoded->slot[slot].at = r.hva;
	d.in = in;
	d.mode = mode;
	d.bytes = bytes;
	d.avail = page_left < 15 ? page_left : 15;
	copy_bytes(bytes, r.hva, d.avail);
	fpu_call_cold(v, decode_cold, &d);
	if (d.result < 0) { /* the rest is in the next page */
		uint64_t next = mode == INSN_MODE_64 ? la + page_left : (uint32_t)(la + page_left);

		v->decoded->slot[slot].at = NULL;
		if (!vcpu_canonical(v, next))
			return exec_deliver(v, &limit_fault);
		kind = mmu_fetch(&v->mmu, gva(next), vcpu_user(v), &r);
		if (UNLIKELY(kind != MMU_MAPPED))
			return fetch_failed(v, kind, &r);
		copy_bytes(bytes + page_left, r.hva, 15 - page_left);
		d.avail = 15;
		fpu_call_cold(v, decode_cold, &d);
	}
	return within_limit(v, in) ? exec_insn(v, in) : exec_deliver(v, &limit_fault);
}
