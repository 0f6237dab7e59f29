/*
 * compare.c - what must agree, and the few things that need not.
 *
 * Not compared:
 *   x87 instruction and operand pointers and opcode (FIP, FDP, FOP): not carried through (docs/translator.md); where a case stores them
 *     to memory, the generator masks those bytes
 *   RFLAGS.RF: set in the image pushed by a fault, clear in one read by PUSHF
 *   page-fault error code bit P for addresses above the user's: Linux sets it before it tells user space
 *   arithmetic flags at a fault in translated code, unless precise flags are asked for: the translator keeps a flag only
 *     as long as an instruction may read it (code that rewrites itself always has precise flags: see run.c)
 *   CR2 unless the fault is #PF
 *   in translated code, flags that MUL and IMUL leave undefined (AMD's processors leave them as they were, and the translator
 *     may have had no use for what they were); the generator makes no sequence that reads them
 *   in translated code, the eight bytes below RSP after a CALL to a non-canonical address: the link is there already
 *   which of several faults comes first, where the order is the processor's: see may_fault_so
 *   what vendor.c knows, if the host's vendor is another than the guests'
 *   where the host says that INT1 is, if its hypervisor takes the trap for a fault
 */
#include <stdio.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "insn_fuzz.h"

#define LINUX_TASK_SIZE 0x7ffffffff000ull

static const char *const reg_names[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };

/* Components in their initial state may be left out of an XSAVE image: put their values in. */
void fpu_canonicalise(uint8_t *a)
{
	uint64_t bv = load_u64(a + 512);

	if (!(bv & XCR0_X87)) {
		memset(a, 0, 24);
		store_u16(a, 0x37f);
		memset(a + 32, 0, 128);
	}
	if (!(bv & XCR0_SSE))
		memset(a + 160, 0, 256);
	if (!(bv & XCR0_AVX))
		memset(a + 576, 0, 256);
	memset(a + 6, 0, 18);	/* FOP, FIP, FDP */
	a[5] = 0;
	memset(a + 28, 0, 4);	/* MXCSR_MASK */
	for (int i = 0; i < 8; i++)
		memset(a + 32 + i * 16 + 10, 0, 6);
	memset(a + 416, 0, 96);
	memset(a + 512, 0, 64);
}

/* Did the case change its own code? */
bool compare_rewrote(const struct icase *c, const struct outcome *host)
{
	return memcmp(c->code, host->mem[PAGE_CODE0] + c->code_at, c->code_len) != 0;
}

static bool loses_flags(const struct icase *c, const struct outcome *host, unsigned engine, const struct compare_options *opt)
{
	if (engine != RUN_BT || opt->precise_flags || c->rewrites)
		return false;
	switch (host->vector) {
	case VEC_PF: case VEC_GP: case VEC_SS: case VEC_AC: case VEC_DE: case VEC_MF: case VEC_XM: return true;
	case VEC_UD: return true; /* CLAC and STAC do not end a block */
	default: return false;
	}
}

bool compare_insn_at_fault(const struct outcome *host, struct insn *in)
{
	uint64_t at = host->end.rip - VA_CODE;
	uint8_t b[15] = { 0 };

	if (at >= CODE_AREA)
		return false;
	memcpy(b, host->mem[PAGE_CODE0] + at, CODE_AREA - at < 15 ? CODE_AREA - at : 15);
	return !insn_decode(in, b, 15, INSN_MODE_64);
}

static uint64_t effective_address(const struct insn *in, const struct state *s)
{
	const struct insn_mem *m = &in->mem;
	uint64_t a = (uint64_t)m->disp;

	if (m->base < 16)
		a += s->gpr[m->base];
	if (m->index < 16)
		a += s->gpr[m->index] * m->scale;
	if (in->cls == INSN_BT_MEM && in->reg < 16) { /* the bit offset is a part of it */
		const unsigned unused = 64 - 8 * in->opsize;

		a += (uint64_t)((int64_t)(s->gpr[in->reg] << unused) >> unused >> 3) & ~(uint64_t)(in->opsize - 1);
	}
	return in->addrsize == 4 ? (uint32_t)a : a;
}

static bool touches_hole(const struct outcome *o)
{
	return o->vector == VEC_PF && (o->cr2 - ((1ull << 47) - 1024) < 1024 || o->cr2 - (~0ull << 47) < 1024);
}

/* Is there such an instruction in the case, as it was or as it became? */
bool compare_has_insn(const struct icase *c, const struct outcome *h, bool (*is)(const struct insn *in))
{
	uint8_t b[2][15 + CODE_MAX] = { { 0 } };
	struct insn in;

	memcpy(b[0], c->code, c->code_len);
	memcpy(b[1], h->mem[PAGE_CODE0] + c->code_at, c->code_len);
	for (unsigned i = 0; i < 2u * c->insns; i++)
		if (!insn_decode(&in, b[i & 1] + c->insn_at[i / 2], 15, INSN_MODE_64) && is(&in))
			return true;
	return false;
}

/*
 * A REP string instruction that overwrites itself goes on as what it was only until something interrupts it, on every processor:
 * both outcomes are right.
 */
static bool rep_rewrote_itself(const struct icase *c, const struct outcome *h)
{
	const uint8_t *now = h->mem[PAGE_CODE0] + c->code_at;
	uint8_t b[15 + CODE_MAX] = { 0 };
	struct insn in;

	if (!compare_rewrote(c, h))
		return false;
	memcpy(b, c->code, c->code_len);
	for (unsigned i = 0; i < c->insns; i++)
		if (!insn_decode(&in, b + c->insn_at[i], 15, INSN_MODE_64) && in.cls >= INSN_MOVS && in.cls <= INSN_STOS &&
		    (in.rep || in.repne) && memcmp(b + c->insn_at[i], now + c->insn_at[i], in.len))
			return true;
	return false;
}

/* Is this the fault that an access of up to eight bytes at `ea` may raise? */
static bool explains(const struct outcome *o, uint64_t ea)
{
	return o->vector == VEC_PF ? o->cr2 - ea < 8 : o->vector == VEC_GP || o->vector == VEC_SS ? !host_canonical(ea) || !host_canonical(ea + 7) : false;
}

/* CMPS reads two operands, the first of them first or second: processors of one maker differ. */
static bool other_operand(const struct insn *in, const struct outcome *h, const struct outcome *g)
{
	uint64_t mask = in->addrsize == 4 ? 0xffffffff : ~0ull, from = h->end.gpr[RSI] & mask, to = h->end.gpr[RDI] & mask;

	if (in->mem.seg == SEG_FS || in->mem.seg == SEG_GS)
		return explains(h, to) != explains(g, to);
	return (explains(h, to) && explains(g, from)) || (explains(h, from) && explains(g, to));
}

/* INT1 is a trap (AMD APM vol. 2, "#DB-Debug Exception"), but not to every hypervisor that the host may run under. */
static bool int1_as_fault(const struct outcome *h, const struct outcome *g)
{
	struct insn in;

	return h->vector == VEC_DB && g->vector == VEC_DB && compare_insn_at_fault(h, &in) && in.cls == INSN_INT1 && g->end.rip == h->end.rip + in.len;
}

/*
 * The same instruction faults in both, but not with the same fault: may it? Accesses of several parts are checked in an
 * order that is the processor's own.
 */
static bool may_fault_so(const struct outcome *h, const struct outcome *g)
{
	struct insn in;
	uint64_t ea;

	if (h->vector == NO_VECTOR || g->vector == NO_VECTOR || h->end.rip != g->end.rip || !compare_insn_at_fault(h, &in))
		return false;
	if (h->end.rflags & FL_AC && h->vector == VEC_AC && (in.cls == INSN_FXSAVE || in.cls == INSN_FXRSTOR || in.cls == INSN_RET_FAR || in.cls == INSN_IRET))
		return true;
	/* An undefined instruction at the end of a page: how many of its bytes are fetched? */
	if (g->vector == VEC_UD && h->vector == VEC_PF && h->error & PF_I && h->cr2 - h->end.rip < 15)
		return true;
	/* The operand begins on one side of the edge of the non-canonical hole and ends on the other. */
	if (touches_hole(h) && (g->vector == VEC_GP || g->vector == VEC_SS))
		return true;
	if (touches_hole(g) && (h->vector == VEC_GP || h->vector == VEC_SS))
		return true;
	ea = in.cls >= INSN_MOVS && in.cls <= INSN_OUTS ? h->end.gpr[RSI] : effective_address(&in, &h->end);
	/* Single-stepped, the trap for the elements done comes before the next one's fault. */
	if (in.cls == INSN_GATHER && h->vector == VEC_DB)
		return true;
	/* AMD: FS and GS do not make a non-canonical effective address good. */
	if ((in.mem.seg == SEG_FS || in.mem.seg == SEG_GS) && h->vector == VEC_GP && g->vector == VEC_PF && !host_canonical(ea))
		return true;
	switch (in.cls) {
	case INSN_INVALID: /* too long, or undefined before it is too long */
		return h->vector == VEC_GP && g->vector == VEC_UD && in.len > 12;
	case INSN_TOO_LONG:
		return h->vector == VEC_UD && g->vector == VEC_GP;
	case INSN_CALL_IND: /* target, operand and stack may all be non-canonical */
		return h->vector == VEC_SS && g->vector == VEC_GP;
	case INSN_FPU_ENV: case INSN_FXSAVE: case INSN_FXRSTOR: case INSN_XSAVE: case INSN_XSAVEC: case INSN_XSAVEOPT: case INSN_XRSTOR:
	case INSN_VMASKMOV:
		return h->vector == VEC_PF && g->vector == VEC_PF && (uint32_t)(h->cr2 - g->cr2 + 1024) <= 2048; /* 32-bit addresses wrap */
	case INSN_IRET: case INSN_CALL_FAR:
		return h->vector == VEC_PF && g->vector == VEC_PF && h->cr2 - g->cr2 + 64 <= 128;
	case INSN_CMPS:
		return other_operand(&in, h, g);
	case INSN_RET_FAR: /* the outer stack's words may be read before the selector is judged */
		return h->vector == VEC_PF && (g->vector == VEC_PF || g->vector == VEC_GP);
	default:
		return false;
	}
}

static uint64_t undefined_flags(const struct icase *c, const uint8_t *code)
{
	uint8_t b[15 + CODE_MAX] = { 0 };
	struct insn in;
	uint64_t flags = 0;

	memcpy(b, code, c->code_len);
	for (unsigned i = 0; i < c->insns; i++)
		if (!insn_decode(&in, b + c->insn_at[i], 15, INSN_MODE_64) && insn_keeps_undefined(&in))
			flags |= in.fl_undef;
	return flags;
}

static bool masked(const struct icase *c, int offset)
{
	for (unsigned i = 0; i < c->masks; i++)
		for (unsigned b = 0; b < c->mask[i].len; b++)
			if (sandbox_offset((uint64_t)c->mask[i].va + b) == offset)
				return true;
	return false;
}

static bool say(char *what, size_t size, const char *fmt, ...) PRINTF_LIKE(3, 4);
static bool say(char *what, size_t size, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, size, fmt, ap);
	va_end(ap);
	return true;
}

static bool in_hole(const struct leeway *l, int offset)
{
	for (unsigned i = 0; i < l->hole_size; i++)
		if (sandbox_offset(l->hole + i) == offset)
			return true;
	return false;
}

/* Of an address that a string instruction has run to, maybe just beyond a page. */
static int offset_near(uint64_t va)
{
	int at = sandbox_offset(va);

	at = at < 0 ? sandbox_offset(va - 8) : at;
	return at < 0 ? sandbox_offset(va + 8) : at;
}

/*
 * REP MOVS onto itself through two addresses of one page: processors that copy in large pieces look for overlap in linear addresses
 * only, so there the result is theirs.
 */
static bool copied_onto_itself(const struct icase *c, const struct outcome *h)
{
	int from = offset_near(h->end.gpr[RSI]), to = offset_near(h->end.gpr[RDI]);
	uint8_t b[15 + CODE_MAX] = { 0 };
	struct insn in;

	if (from < 0 || to < 0 || abs(from - to) >= (int)PAGE_SIZE || h->end.gpr[RSI] - h->end.gpr[RDI] + PAGE_SIZE < 2 * PAGE_SIZE)
		return false;
	memcpy(b, c->code, c->code_len);
	for (unsigned i = 0; i < c->insns; i++)
		if (!insn_decode(&in, b + c->insn_at[i], 15, INSN_MODE_64) && in.cls == INSN_MOVS && (in.rep || in.repne))
			return true;
	return false;
}

static bool memory_differs(const struct icase *c, const struct outcome *h, const struct outcome *g, const struct leeway *l, char *what, size_t size)
{
	const uint8_t *a = h->mem[0], *b = g->mem[0];

	if (!memcmp(a, b, sizeof(h->mem)))
		return false;
	for (int i = 0; i < (int)sizeof(h->mem); i++)
		if (a[i] != b[i] && !masked(c, i) && !in_hole(l, i))
			return say(what, size, "memory page %d+%#x: host %02x guest %02x", i / (int)PAGE_SIZE, i % (int)PAGE_SIZE, a[i], b[i]);
	return false;
}

static bool fpu_differs(const struct outcome *h, const struct outcome *g, const struct leeway *l, char *what, size_t size)
{
	uint8_t a[FPU_AREA_SIZE], b[FPU_AREA_SIZE];

	memcpy(a, h->end.fpu, sizeof(a));
	memcpy(b, g->end.fpu, sizeof(b));
	fpu_canonicalise(a);
	fpu_canonicalise(b);
	for (int i = 0; i < FPU_AREA_SIZE; i++) {
		const char *name = i < 2 ? "fcw" : i < 4 ? "fsw" : i < 5 ? "ftw" : i < 28 ? "mxcsr" : i < 160 ? "st" : i < 512 ? "xmm" : "ymm high";
		int at = i < 2 ? 0 : i < 4 ? 2 : i < 24 ? 4 : i < 28 ? 24 : i & ~15, n = i < 2 || i < 4 ? 2 : i < 24 ? 1 : i < 28 ? 4 : 16;
		int index = i < 32 ? 0 : i < 160 ? (i - 32) / 16 : i < 512 ? (i - 160) / 16 : (i - 576) / 16;
		char x[40] = "", y[40] = "";

		if (a[i] == b[i] || (l->fsw && ((i >= 2 && i < 5) || (i >= 32 && i < 160))) || (l->mxcsr && i == 24) || (l->vectors && i >= 160))
			continue;
		for (int k = n - 1; k >= 0; k--) {
			snprintf(x + strlen(x), 4, "%02x", a[at + k]);
			snprintf(y + strlen(y), 4, "%02x", b[at + k]);
		}
		return say(what, size, "%s %d: host %s guest %s", name, index, x, y);
	}
	return false;
}

static bool faults_differ(const struct outcome *h, const struct outcome *g, char *what, size_t size)
{
	uint32_t error_mask = h->cr2 >= LINUX_TASK_SIZE && h->vector == VEC_PF ? ~(uint32_t)PF_P : ~0u;

	if (h->vector != g->vector)
		return say(what, size, "vector: host %d (error %#x, cr2 %#lx) guest %d (error %#x, cr2 %#lx)", h->vector, h->error,
			   (unsigned long)h->cr2, g->vector, g->error, (unsigned long)g->cr2);
	if (h->end.rip != g->end.rip)
		return say(what, size, "rip: host %#lx guest %#lx", (unsigned long)h->end.rip, (unsigned long)g->end.rip);
	if (h->vector == VEC_PF && h->cr2 != g->cr2)
		return say(what, size, "cr2: host %#lx guest %#lx", (unsigned long)h->cr2, (unsigned long)g->cr2);
	if (h->vector != NO_VECTOR && pushes_error_code((unsigned)h->vector) && (h->error ^ g->error) & error_mask)
		return say(what, size, "error code of vector %d: host %#x guest %#x", h->vector, h->error, g->error);
	return false;
}

static bool states_differ(const struct icase *c, const struct outcome *h, const struct outcome *g, unsigned engine,
		     const struct compare_options *opt, char *what, size_t size)
{
	struct leeway l = vendor_leeway(h);
	uint64_t flag_mask = ~(uint64_t)FL_RF & ~l.flags;
	struct insn in;

	/*
	 * Under a hypervisor that enters the kernel for the first FPU instruction after a switch, none can be run with an RSP that
	 * is not canonical: the kernel's return fails every time, with the number of an earlier trap.
	 */
	if (h->vector != NO_VECTOR && !host_canonical(h->end.gpr[RSP]) && compare_insn_at_fault(h, &in) && in.need & NEED_FPU_STATE)
		return false;
	if (g->kind != OUTCOME_DONE)
		return say(what, size, "%s: %s", g->kind == OUTCOME_TIMEOUT ? "endless in the guest" : "engine gave up", g->why);
	if (faults_differ(h, g, what, size) && !may_fault_so(h, g) && !int1_as_fault(h, g) && !vendor_orders_faults_so(h, g))
		return true;
	for (int i = 0; i < 16; i++)
		if (h->end.gpr[i] != g->end.gpr[i])
			return say(what, size, "%s: host %#lx guest %#lx", reg_names[i], (unsigned long)h->end.gpr[i], (unsigned long)g->end.gpr[i]);
	if (!host_canonical(h->end.gpr[RSP]))
		flag_mask &= ~(uint64_t)(FL_NT | FL_ID); /* lost when the oracle goes on after a failed return: sigreturn does not restore them */
	if (loses_flags(c, h, engine, opt))
		flag_mask &= ~(uint64_t)FL_ARITH;
	if ((h->end.rflags ^ g->end.rflags) & flag_mask && engine == RUN_BT)
		flag_mask &= ~(undefined_flags(c, c->code) | undefined_flags(c, h->mem[PAGE_CODE0] + c->code_at));
	if ((h->end.rflags ^ g->end.rflags) & flag_mask)
		return say(what, size, "rflags: host %#lx guest %#lx (differ in %#lx)", (unsigned long)h->end.rflags, (unsigned long)g->end.rflags,
			   (unsigned long)((h->end.rflags ^ g->end.rflags) & flag_mask));
	/* After a signal Linux has put null into DS and ES. */
	if (h->vector == NO_VECTOR && (h->end.ds != g->end.ds || h->end.es != g->end.es || h->end.ss != g->end.ss))
		return say(what, size, "ds es ss: host %x %x %x guest %x %x %x", h->end.ds, h->end.es, h->end.ss, g->end.ds, g->end.es, g->end.ss);
	if (engine == RUN_BT && h->vector == VEC_GP && compare_insn_at_fault(h, &in) && (in.cls == INSN_CALL || in.cls == INSN_CALL_IND))
		l.hole = h->end.gpr[RSP] - 8, l.hole_size = 8;
	return memory_differs(c, h, g, &l, what, size) || fpu_differs(h, g, &l, what, size);
}

/* Has the case done something whose outcome is not the same on all processors, or not the sandbox's to compare? */
static bool is_beyond_compare(const struct icase *c, const struct outcome *h, const struct outcome *g)
{
	struct insn in;

	/* INT n goes on behind itself: natively it looks like a return that failed because of RSP (oracle.c), and is gone on from. */
	if (!host_canonical(g->end.gpr[RSP]) && (g->vector == VEC_BP || g->vector == VEC_OF || g->vector == VEC_DB))
		return true;

	/* Code that writes its own next instruction may come upon one that only the executor has. */
	if (h->vector == VEC_UD && compare_insn_at_fault(h, &in) && in.feature & ~cpuid_policy_get(0)->host_features)
		return true;
	for (unsigned i = 0; i < c->masks; i++) /* bytes that need not agree may have been executed */
		if (sandbox_offset(c->mask[i].va) >= PAGE_CODE0 * (int)PAGE_SIZE)
			return true;
	/* A damaged final jump: the exit page holds other code natively. */
	return h->end.rip - VA_EXIT - 1 < PAGE_SIZE - 1 || rep_rewrote_itself(c, h) || copied_onto_itself(c, h) ||
	       vendor_is_beyond_compare(c, h, g);
}

bool compare_differs(const struct icase *c, const struct outcome *h, const struct outcome *g, unsigned engine,
		     const struct compare_options *opt, char *what, size_t size)
{
	return states_differ(c, h, g, engine, opt, what, size) && !is_beyond_compare(c, h, g);
}

static void print_state(const char *name, const struct state *s, const struct outcome *o)
{
	printf("  %s: rip %#lx rflags %#lx fcw %04x fsw %04x ftw %02x mxcsr %04x", name, (unsigned long)s->rip, (unsigned long)s->rflags,
	       load_u16(s->fpu), load_u16(s->fpu + 2), s->fpu[4], load_u32(s->fpu + 24));
	if (o && o->vector != NO_VECTOR)
		printf(" vector %d error %#x cr2 %#lx", o->vector, o->error, (unsigned long)o->cr2);
	for (int i = 0; i < 16; i++)
		printf("%s%3s %016lx", i % 4 ? " " : "\n    ", reg_names[i], (unsigned long)s->gpr[i]);
	putchar('\n');
}

void compare_report(const struct icase *c, const struct outcome *host, const struct outcome *guest, const char *name)
{
	casefile_print_code(c);
	for (unsigned i = 0; i < c->patches; i++) {
		printf("  memory %#x:", c->patch[i].va);
		for (unsigned b = 0; b < c->patch[i].len; b++)
			printf(" %02x", c->patch[i].bytes[b]);
		putchar('\n');
	}
	print_state("start", &c->in, 0);
	print_state("host", &host->end, host);
	if (guest->kind == OUTCOME_DONE)
		print_state(name, &guest->end, guest);
	fflush(stdout);
}
