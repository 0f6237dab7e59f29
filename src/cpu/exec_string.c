/*
 * exec_string.c - string instructions and port I/O.
 *
 * A REP string is done in bounded pieces: after each the registers say how far it got, and rip stays on the instruction until the count
 * is zero, so interrupts come in between as on a processor. MOVS and STOS going upwards are done in runs within pages by the
 * host's own REP instruction with the same element size, which keeps the exact result for overlapping operands.
 * Source: AMD APM vol. 3, "General-Purpose Instruction Reference" (MOVS...), vol. 2, "I/O-Permission Bitmap".
 */
#include "cpu/debug.h"
#include "cpu/exec_internal.h"

/* Elements done one by one, and bytes done in runs, before the executor returns to look for interrupts. */
#define MAX_ELEMENTS 1024
#define MAX_RUN_BYTES KIB(64)

/* What an iteration moves. */
struct string {
	unsigned size, addrsize, seg;
	uint64_t step;		/* +-size, as an address increment */
	bool repeated;
	uint64_t count;		/* iterations left (1 without REP) */
};

static void string_open(const struct exec *x, struct string *s)
{
	const struct insn *in = x->in;

	s->size = in->opsize;
	s->addrsize = in->addrsize;
	s->seg = in->mem.seg;
	s->step = x->v->rflags & FL_DF ? (uint64_t)-(int64_t)s->size : s->size;
	s->repeated = in->rep || in->repne;
	s->count = s->repeated ? gpr_get(x->v, RCX, s->addrsize) : 1;
}

/* Address registers: like any register write of the address size (a 32-bit one clears the upper half). */
static uint64_t index_of(const struct exec *x, const struct string *s, unsigned reg) { return gpr_get(x->v, reg, s->addrsize); }
static void advance(struct exec *x, const struct string *s, unsigned reg, uint64_t iterations)
{
	gpr_set(x->v, reg, x->v->gpr[reg] + s->step * iterations, s->addrsize);
}

static void consume(struct exec *x, struct string *s, uint64_t iterations)
{
	s->count -= iterations;
	if (s->repeated)
		gpr_set(x->v, RCX, s->count, s->addrsize);
}

/* After a piece: done, or again. */
static enum exec_op string_result(const struct string *s) { return s->repeated && s->count ? OP_REPEAT : OP_DONE; }

/* A run of elements that lies in one page of RAM, with the flags of the access. 0 elements: do one by one. */
static uint64_t run_length(struct exec *x, const struct string *s, uint64_t la, uint64_t max)
{
	uint64_t n = (PAGE_SIZE - (la & ~PAGE_MASK)) / s->size;

	(void)x;
	return n < max ? n : max;
}

static bool runs_allowed(const struct exec *x, const struct string *s)
{
	return s->repeated && s->count > 1 && !(x->v->rflags & FL_DF) && !x->tf && vcpu_long64(x->v) && s->addrsize == 8 &&
	       !vmem_checked(x->v);
}

static void host_movs(void *dst, const void *src, uint64_t n, unsigned size)
{
	switch (size) {
	case 1: __asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory"); break;
	case 2: __asm__ volatile("rep movsw" : "+D"(dst), "+S"(src), "+c"(n) : : "memory"); break;
	case 4: __asm__ volatile("rep movsl" : "+D"(dst), "+S"(src), "+c"(n) : : "memory"); break;
	default: __asm__ volatile("rep movsq" : "+D"(dst), "+S"(src), "+c"(n) : : "memory"); break;
	}
}

static void host_stos(void *dst, uint64_t value, uint64_t n, unsigned size)
{
	switch (size) {
	case 1: __asm__ volatile("rep stosb" : "+D"(dst), "+c"(n) : "a"(value) : "memory"); break;
	case 2: __asm__ volatile("rep stosw" : "+D"(dst), "+c"(n) : "a"(value) : "memory"); break;
	case 4: __asm__ volatile("rep stosl" : "+D"(dst), "+c"(n) : "a"(value) : "memory"); break;
	default: __asm__ volatile("rep stosq" : "+D"(dst), "+c"(n) : "a"(value) : "memory"); break;
	}
}

/* Maps a run at la for reading or writing; false: not RAM, or a fault: the element-wise way then raises it precisely. */
static bool map_run(struct exec *x, unsigned seg, uint64_t la, unsigned bytes, unsigned access, struct vmem_span *span)
{
	return vcpu_canonical(x->v, la) && vmem_map(x->v, la, bytes, exec_acc(x, seg) | access | VMEM_NO_ALIGN, span, &x->exc) == VMEM_OK &&
	       span->part[0].hva;
}

/* One run of MOVS; returns the elements done, 0 if none could be. */
static uint64_t movs_run(struct exec *x, struct string *s, uint64_t budget)
{
	uint64_t src = index_of(x, s, RSI), dst = index_of(x, s, RDI), n;
	struct vmem_span from, to;

	if (s->seg == SEG_FS || s->seg == SEG_GS)
		src += x->v->seg[s->seg].base;
	n = run_length(x, s, dst, run_length(x, s, src, s->count < budget ? s->count : budget));
	/* Where the stores go first: that page may leave a shared frame, which is also where the loads would look for it. */
	if (!n || !map_run(x, SEG_ES, dst, (unsigned)(n * s->size), ACC_WRITE, &to) ||
	    !map_run(x, s->seg, src, (unsigned)(n * s->size), ACC_READ, &from))
		return 0;
	host_movs(to.part[0].hva, from.part[0].hva, n, s->size);
	vmem_written(x->v, &to.part[0]);
	advance(x, s, RSI, n);
	advance(x, s, RDI, n);
	return n;
}

static uint64_t stos_run(struct exec *x, struct string *s, uint64_t budget)
{
	uint64_t dst = index_of(x, s, RDI), n = run_length(x, s, dst, s->count < budget ? s->count : budget);
	struct vmem_span to;

	if (!n || !map_run(x, SEG_ES, dst, (unsigned)(n * s->size), ACC_WRITE, &to))
		return 0;
	host_stos(to.part[0].hva, x->v->gpr[RAX], n, s->size);
	vmem_written(x->v, &to.part[0]);
	advance(x, s, RDI, n);
	return n;
}

static enum exec_op movs_one(struct exec *x, struct string *s)
{
	uint64_t value;
	enum exec_op op = exec_read_mem(x, s->seg, index_of(x, s, RSI), &value, s->size);

	if (op == OP_DONE)
		op = exec_write_mem(x, SEG_ES, index_of(x, s, RDI), value, s->size);
	if (op == OP_DONE) {
		advance(x, s, RSI, 1);
		advance(x, s, RDI, 1);
	}
	return op;
}

static enum exec_op stos_one(struct exec *x, struct string *s)
{
	enum exec_op op = exec_write_mem(x, SEG_ES, index_of(x, s, RDI), gpr_get(x->v, RAX, s->size), s->size);

	if (op == OP_DONE)
		advance(x, s, RDI, 1);
	return op;
}

static enum exec_op lods_one(struct exec *x, struct string *s)
{
	uint64_t value;
	enum exec_op op = exec_read_mem(x, s->seg, index_of(x, s, RSI), &value, s->size);

	if (op == OP_DONE) {
		gpr_set(x->v, RAX, value, s->size);
		advance(x, s, RSI, 1);
	}
	return op;
}

typedef enum exec_op string_one(struct exec *x, struct string *s);
typedef uint64_t string_run(struct exec *x, struct string *s, uint64_t budget);

/* The loop of MOVS, STOS, LODS, INS and OUTS. */
static enum exec_op repeat(struct exec *x, struct string *s, string_one *one, string_run *run)
{
	unsigned elements = 0;
	uint64_t bytes = 0;
	enum exec_op op;

	while (s->count) {
		uint64_t n = 0;

		if (run && runs_allowed(x, s)) {
			n = run(x, s, (MAX_RUN_BYTES - bytes) / s->size);
			if (n) {
				x->v->counters.string_bulk++;
				bytes += n * s->size;
			}
		}
		if (!n) {
			op = one(x, s);
			if (op != OP_DONE)
				return op;
			n = 1;
			elements++;
		}
		consume(x, s, n);
		if (x->tf || x->v->debug_hits || elements >= MAX_ELEMENTS || bytes + s->size > MAX_RUN_BYTES)
			break;
	}
	return string_result(s);
}

enum exec_op op_movs(struct exec *x)
{
	struct string s;

	string_open(x, &s);
	return repeat(x, &s, movs_one, movs_run);
}

enum exec_op op_stos(struct exec *x)
{
	struct string s;

	string_open(x, &s);
	return repeat(x, &s, stos_one, stos_run);
}

enum exec_op op_lods(struct exec *x)
{
	struct string s;

	string_open(x, &s);
	return repeat(x, &s, lods_one, NULL);
}

/* Arithmetic flags of a - b, by the host's own comparison. No PUSHF: the compiler may be using the red zone. */
#define COMPARE(suffix, mod) \
	__asm__("cmp" suffix " %" mod "2, %" mod "1\n\tlahf\n\tseto %%al" : "=&a"(ax) : "r"(a), "r"(b) : "cc")
static uint64_t compare_flags(uint64_t a, uint64_t b, unsigned size)
{
	uint16_t ax;

	switch (size) {
	case 1: COMPARE("b", "b"); break;
	case 2: COMPARE("w", "w"); break;
	case 4: COMPARE("l", "k"); break;
	default: COMPARE("q", "q"); break;
	}
	return ((ax >> 8) & (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF)) | (ax & 1 ? FL_OF : 0);
}
#undef COMPARE

/* CMPS and SCAS: stop on ZF as REPE/REPNE say. The flags of the last comparison stay. */
static enum exec_op compare(struct exec *x, bool scas)
{
	struct vcpu *v = x->v;
	struct string s;
	unsigned elements = 0;

	string_open(x, &s);
	while (s.count) {
		uint64_t a, b, flags;
		enum exec_op op = OP_DONE;

		if (scas)
			a = gpr_get(v, RAX, s.size);
		else
			op = exec_read_mem(x, s.seg, index_of(x, &s, RSI), &a, s.size);
		if (op == OP_DONE)
			op = exec_read_mem(x, SEG_ES, index_of(x, &s, RDI), &b, s.size);
		if (op != OP_DONE)
			return op;
		flags = compare_flags(a, b, s.size);
		v->rflags = (v->rflags & ~(uint64_t)FL_ARITH) | flags;
		if (!scas)
			advance(x, &s, RSI, 1);
		advance(x, &s, RDI, 1);
		consume(x, &s, 1);
		if (s.repeated && !(flags & FL_ZF) != x->in->repne)
			return OP_DONE;
		if (x->tf || v->debug_hits || ++elements >= MAX_ELEMENTS)
			break;
	}
	return string_result(&s);
}

enum exec_op op_cmps(struct exec *x) { return compare(x, false); }
enum exec_op op_scas(struct exec *x) { return compare(x, true); }

enum exec_op op_xlat(struct exec *x)
{
	struct vcpu *v = x->v;
	uint64_t value, ea = (v->gpr[RBX] + (v->gpr[RAX] & 0xff)) & size_mask(x->in->addrsize);
	enum exec_op op = exec_read_mem(x, x->in->mem.seg, ea, &value, 1);

	if (op == OP_DONE)
		gpr_set(v, RAX, value, 1);
	return op;
}

/* -- ports ------------------------------------------------------------------------------------------------------------- */

/* CPL <= IOPL (not in virtual-8086 mode), or a clear bit in the TSS for each port touched. A 16-bit TSS has no bitmap. */
static enum exec_op port_allowed(struct exec *x, uint16_t port, unsigned size)
{
	struct vcpu *v = x->v;
	uint64_t map, bits;
	enum vmem_status st;

	if (LIKELY(v->cpl <= ((v->rflags & FL_IOPL) >> 12)) && LIKELY(!vcpu_vm86(v)))
		return OP_DONE;
	if (!(v->tr.attr & SEG_P) || !(v->tr.attr & 8) || v->tr.limit < 103)
		return exec_gp(x, 0);
	st = vmem_read_int(v, v->tr.base + 102, &map, 2, VMEM_SYSTEM, &x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	map += port / 8;
	if (map + 1 > v->tr.limit)
		return exec_gp(x, 0);
	st = vmem_read_int(v, v->tr.base + map, &bits, 2, VMEM_SYSTEM, &x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	return (bits >> (port & 7)) & ((1u << size) - 1) ? exec_gp(x, 0) : OP_DONE;
}

static uint64_t read_port(struct exec *x, uint16_t port, unsigned size)
{
	if (UNLIKELY(x->v->dr[7] & DR7_ENABLES))
		debug_io_access(x->v, port, size);
	return port_read(x->v, port, size);
}

static void write_port(struct exec *x, uint16_t port, unsigned size, uint64_t value)
{
	if (UNLIKELY(x->v->dr[7] & DR7_ENABLES))
		debug_io_access(x->v, port, size);
	port_write(x->v, port, size, value);
}

static unsigned port_size(const struct insn *in) { return !(in->opcode & 1) ? 1 : in->opsize == 2 ? 2 : 4; }

/* EC-EF take the port from DX, E4-E7 from the immediate. */
static uint16_t port_of(const struct exec *x)
{
	return x->in->opcode & 8 ? (uint16_t)x->v->gpr[RDX] : (uint8_t)x->in->imm;
}

enum exec_op op_in(struct exec *x)
{
	unsigned size = port_size(x->in);
	enum exec_op op = port_allowed(x, port_of(x), size);

	if (UNLIKELY(x->v->svm.guest) && op == OP_DONE)
		op = x->v->svm.ops->port(x, port_of(x), size, true, false);
	if (op == OP_DONE)
		gpr_set(x->v, RAX, read_port(x, port_of(x), size), size);
	return op;
}

enum exec_op op_out(struct exec *x)
{
	unsigned size = port_size(x->in);
	enum exec_op op = port_allowed(x, port_of(x), size);

	if (UNLIKELY(x->v->svm.guest) && op == OP_DONE)
		op = x->v->svm.ops->port(x, port_of(x), size, false, false);
	if (op == OP_DONE)
		write_port(x, port_of(x), size, gpr_get(x->v, RAX, size));
	return op;
}

static enum exec_op ins_one(struct exec *x, struct string *s)
{
	struct vmem_span span;
	uint64_t la, value;
	enum vmem_status st;

	/* The destination is checked first: a port read cannot be taken back. */
	if (!exec_linear(x, SEG_ES, index_of(x, s, RDI), s->size, true, &la))
		return OP_FAULT;
	st = vmem_map(x->v, la, s->size, exec_acc(x, SEG_ES) | ACC_WRITE, &span, &x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	value = read_port(x, (uint16_t)x->v->gpr[RDX], s->size);
	vmem_store(x->v, &span, &value);
	advance(x, s, RDI, 1);
	return OP_DONE;
}

static enum exec_op outs_one(struct exec *x, struct string *s)
{
	uint64_t value;
	enum exec_op op = exec_read_mem(x, s->seg, index_of(x, s, RSI), &value, s->size);

	if (op == OP_DONE) {
		write_port(x, (uint16_t)x->v->gpr[RDX], s->size, value);
		advance(x, s, RSI, 1);
	}
	return op;
}

static enum exec_op port_string(struct exec *x, string_one *one)
{
	struct string s;
	enum exec_op op = port_allowed(x, (uint16_t)x->v->gpr[RDX], x->in->opsize);

	if (UNLIKELY(x->v->svm.guest) && op == OP_DONE)
		op = x->v->svm.ops->port(x, (uint16_t)x->v->gpr[RDX], x->in->opsize, x->in->cls == INSN_INS, true);
	if (op != OP_DONE)
		return op;
	string_open(x, &s);
	return repeat(x, &s, one, NULL);
}

enum exec_op op_ins(struct exec *x) { return port_string(x, ins_one); }
enum exec_op op_outs(struct exec *x) { return port_string(x, outs_one); }
