/*
 * exec_fpu.c - images of FPU and vector state: XSAVE and its family, FXSAVE, FNSTENV and theirs, XCR0.
 *
 * The host's own instruction makes and takes the image, with the guest's XCR0 applied to the mask. Instruction and data
 * pointers of the x87 would be addresses of ours, so images carry zeros there (a deviation; docs/cpu.md).
 * Sources: Intel SDM vol. 1, "Managing State Using the XSAVE Feature Set"; AMD APM vol. 2, "Saving Media and x87 State".
 */
#include "cpu/exec_internal.h"
#include "cpu/host_stub.h"

#define IMAGE_HEADER 512
#define IMAGE_AVX 576
#define IMAGE_END 832
#define COMPACTED (1ull << 63)

static enum exec_op finish(struct exec *x, int result)
{
	if (LIKELY(result == HOST_STUB_DONE))
		return OP_DONE;
	if (result == HOST_STUB_UNSUPPORTED)
		return exec_unsupported(x, "a state image in 16-bit code");
	if (result == VEC_GP || result == VEC_AC)
		return exec_fault(x, exc_error((uint8_t)result, 0));
	return exec_fault(x, exc_plain((uint8_t)result));
}

/* Runs the instruction with EDX:EAX = mask. */
static enum exec_op run_masked(struct exec *x, void *image, uint64_t mask)
{
	struct vcpu *v = x->v;
	uint64_t rax = v->gpr[RAX], rdx = v->gpr[RDX];
	int result;

	/*
	 * XSAVEOPT may leave out what has not changed since an XRSTOR from the same address; the host knows ours, which is another guest page's by now, or a copy's.
	 * An XRSTOR of nothing, from elsewhere, makes it forget (Intel SDM vol. 1, "Processor Tracking of XSAVE-Managed State").
	 */
	if (x->in->cls == INSN_XSAVEOPT)
		__asm__ volatile("xrstor64 %0" : : "m"(v->fpu.area), "a"(0u), "d"(0u));
	v->gpr[RAX] = (uint32_t)mask;
	v->gpr[RDX] = mask >> 32;
	result = host_stub_run(v, x->in, image, false);
	v->gpr[RAX] = rax;
	v->gpr[RDX] = rdx;
	return finish(x, result);
}

/*
 * Registers 8 to 15 of SSE and AVX do not exist outside 64-bit mode: images neither take nor give them. What the host's instruction would do
 * to them, or to their place in an image, is undone.
 */
#define UPPER_XMM 288 /* in an image */
#define UPPER_YMM 704
#define UPPER_BYTES 128
struct upper { uint8_t reg[8][32]; };

#define YMM(n) "vmovdqu %%ymm" #n ", " #n "*32-256(%0)\n\t"
#define YMM_BACK(n) "vmovdqu " #n "*32-256(%0), %%ymm" #n "\n\t"
#define XMM(n) "movdqu %%xmm" #n ", " #n "*32-256(%0)\n\t"
#define XMM_BACK(n) "movdqu " #n "*32-256(%0), %%xmm" #n "\n\t"
#define EACH(m) m(8) m(9) m(10) m(11) m(12) m(13) m(14) m(15)

static bool hides_upper(const struct vcpu *v) { return UNLIKELY(!vcpu_long64(v)); }

static void upper_save(const struct vcpu *v, struct upper *u)
{
	if (v->cpuid->xcr0 & XCR0_AVX)
		__asm__ volatile(EACH(YMM) : : "r"(u) : "memory");
	else
		__asm__ volatile(EACH(XMM) : : "r"(u) : "memory");
}

static void upper_restore(const struct vcpu *v, const struct upper *u)
{
	if (v->cpuid->xcr0 & XCR0_AVX)
		__asm__ volatile(EACH(YMM_BACK) : : "r"(u) : "memory");
	else
		__asm__ volatile(EACH(XMM_BACK) : : "r"(u) : "memory");
}

/* FXRSTOR, XRSTOR: the state is live. */
static enum exec_op load_image(struct exec *x, void *image, uint64_t mask)
{
	struct upper u;
	enum exec_op op;

	if (!hides_upper(x->v))
		return run_masked(x, image, mask);
	upper_save(x->v, &u);
	op = run_masked(x, image, mask);
	upper_restore(x->v, &u);
	return op;
}

static bool image_address(struct exec *x, unsigned len, unsigned align, bool write, uint64_t *la)
{
	if (!exec_linear(x, x->in->mem.seg, exec_ea(x), len, write, la))
		return false;
	if (*la & (align - 1)) {
		/* FXSAVE and FXRSTOR look at the address first, the XSAVE family at its alignment. */
		x->exc = align == 16 && vcpu_long64(x->v) && x->in->mem.seg == SEG_SS && !vcpu_canonical(x->v, *la) ? exc_error(VEC_SS, 0) : exc_gp(0);
		return false;
	}
	return true;
}

/* Bytes [from, to) of an image hold x87 pointers; clear them. */
struct pointers { unsigned from, to; };

/*
 * Lets the host store an image of len bytes at la: into the guest's page itself, or through a copy that starts out with what is there.
 * with_header: an XSAVE image, whose x87 part counts only if XSTATE_BV says so.
 */
static enum exec_op store_image(struct exec *x, uint64_t la, unsigned len, uint64_t mask, struct pointers ptr, bool with_header)
{
	struct vcpu *v = x->v;
	struct vmem_span span;
	uint8_t *image;
	uint8_t xmm[UPPER_BYTES], ymm[UPPER_BYTES];
	bool direct, keep = hides_upper(v), keep_ymm = keep && len == IMAGE_END;
	enum vmem_status st;
	enum exec_op op;

	st = vmem_map(v, la, len, exec_acc(x, x->in->mem.seg) | ACC_READ | ACC_WRITE | VMEM_NO_ALIGN, &span, &x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	direct = span.parts == 1 && span.part[0].hva;
	image = direct ? span.part[0].hva : v->stub->data->bounce;
	if (!direct)
		vmem_load(v, &span, image);
	if (keep)
		copy_bytes(xmm, image + UPPER_XMM, sizeof(xmm));
	if (keep_ymm)
		copy_bytes(ymm, image + UPPER_YMM, sizeof(ymm));
	fpu_load(v);
	op = run_masked(x, image, mask);
	if (keep)
		copy_bytes(image + UPPER_XMM, xmm, sizeof(xmm));
	if (keep_ymm)
		copy_bytes(image + UPPER_YMM, ymm, sizeof(ymm));
	if (op != OP_DONE)
		return op;
	if (!with_header || ((mask & XCR0_X87) && (image[IMAGE_HEADER] & XCR0_X87)))
		fill_bytes(image + ptr.from, 0, ptr.to - ptr.from);
	if (direct)
		vmem_written(v, &span.part[0]);
	else
		vmem_store(v, &span, image);
	return op;
}

static uint64_t requested(const struct vcpu *v)
{
	return ((uint32_t)v->gpr[RAX] | v->gpr[RDX] << 32) & v->xcr0;
}

static const struct pointers fx_pointers = { 6, 24 };

enum exec_op op_xsave(struct exec *x)
{
	uint64_t mask = requested(x->v), la;
	unsigned len = mask & XCR0_AVX ? IMAGE_END : IMAGE_AVX;

	if (x->v->cr0 & CR0_TS)
		return exec_fault(x, exc_plain(VEC_NM));
	if (!image_address(x, len, 64, true, &la))
		return OP_FAULT;
	return store_image(x, la, len, mask, fx_pointers, true);
}

/* The header's rules (Intel SDM vol. 1, "XRSTOR"), with the guest's XCR0 where the host would take its own. */
static bool header_valid(const struct vcpu *v, const uint8_t *header)
{
	uint64_t bv = load_u64(header), comp = load_u64(header + 8);
	unsigned zero_from = 8;

	if (comp & COMPACTED) {
		if (!(v->features & FEATURE(XSAVEC)) || (comp & ~(COMPACTED | v->xcr0)) || (bv & ~comp))
			return false;
		zero_from = 16;
	} else if (bv & ~v->xcr0) {
		return false;
	}
	for (unsigned i = zero_from; i < (comp & COMPACTED ? 64u : 24u); i++)
		if (header[i])
			return false;
	return true;
}

enum exec_op op_xrstor(struct exec *x)
{
	struct vcpu *v = x->v;
	uint64_t mask = requested(v), la;
	uint8_t *image = v->stub->data->bounce;
	unsigned acc = exec_acc(x, x->in->mem.seg) | VMEM_NO_ALIGN;
	enum vmem_status st;

	if (v->cr0 & CR0_TS)
		return exec_fault(x, exc_plain(VEC_NM));
	if (!image_address(x, IMAGE_AVX, 64, false, &la))
		return OP_FAULT;
	/* A copy: the checked header must be the one that is used. */
	st = vmem_read(v, la, image, IMAGE_AVX, acc, &x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	if (!header_valid(v, image + IMAGE_HEADER))
		return exec_gp(x, 0);
	/* The standard format is read as far as the mask asks, whatever XSTATE_BV says. */
	if (mask & XCR0_AVX && (load_u64(image + IMAGE_HEADER) & XCR0_AVX || !(load_u64(image + IMAGE_HEADER + 8) & COMPACTED))) {
		st = vmem_read(v, la + IMAGE_AVX, image + IMAGE_AVX, IMAGE_END - IMAGE_AVX, acc, &x->exc);
		if (st != VMEM_OK)
			return exec_of(st);
	}
	fpu_load(v);
	return load_image(x, image, mask);
}

enum exec_op op_fxsave(struct exec *x)
{
	uint64_t la;

	if (x->v->cr0 & (CR0_EM | CR0_TS))
		return exec_fault(x, exc_plain(VEC_NM));
	if (!image_address(x, 512, 16, true, &la))
		return OP_FAULT;
	return store_image(x, la, 512, x->v->gpr[RAX], fx_pointers, false);
}

enum exec_op op_fxrstor(struct exec *x)
{
	struct vcpu *v = x->v;
	uint8_t *image = v->stub->data->bounce;
	uint64_t la;
	enum vmem_status st;

	if (v->cr0 & (CR0_EM | CR0_TS))
		return exec_fault(x, exc_plain(VEC_NM));
	if (!image_address(x, 512, 16, false, &la))
		return OP_FAULT;
	st = vmem_read(v, la, image, 512, exec_acc(x, x->in->mem.seg) | VMEM_NO_ALIGN, &x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	fpu_load(v);
	return load_image(x, image, 0);
}

/* D9 /4 FLDENV, D9 /6 FNSTENV, DD /4 FRSTOR, DD /6 FNSAVE; the 16-bit formats are half as wide. */
enum exec_op op_fpu_env(struct exec *x)
{
	struct vcpu *v = x->v;
	const struct insn *in = x->in;
	bool wide = in->rex_off && in->bytes[in->rex_off - 1] & 8; /* REX.W beats 66 */
	bool narrow = in->mode == INSN_MODE_16 ? !in->osz : in->osz && !wide, whole = in->opcode == 0xdd, store = (in->modrm >> 3 & 7) == 6;
	unsigned env = narrow ? 14 : 28, len = env + (whole ? 80 : 0);
	struct pointers ptr = { narrow ? 6 : 12, env };
	uint8_t *image = v->stub->data->bounce;
	uint64_t la;
	struct vmem_span span;
	enum vmem_status st;
	enum exec_op op;

	if (!store) { /* loads wait: a pending exception comes before the access */
		uint16_t fsw;

		fpu_load(v);
		__asm__ volatile("fnstsw %0" : "=m"(fsw));
		if (fsw & 0x80)
			return exec_fault(x, exc_plain(VEC_MF));
	}
	if (!image_address(x, len, 1, store, &la))
		return OP_FAULT;
	/* Alignment checking asks for that of the parts: 2 or 4. */
	st = vmem_map(v, la, narrow ? 2 : 4, exec_acc(x, in->mem.seg) | (store ? ACC_WRITE : ACC_READ), &span, &x->exc);
	if (st == VMEM_OK)
		st = vmem_map(v, la, len, exec_acc(x, in->mem.seg) | (store ? ACC_WRITE : ACC_READ) | VMEM_NO_ALIGN, &span, &x->exc);
	if (st != VMEM_OK)
		return exec_of(st);
	if (!store)
		vmem_load(v, &span, image);
	fpu_load(v);
	op = finish(x, host_stub_run(v, in, image, false));
	if (op != OP_DONE || !store)
		return op;
	fill_bytes(image + ptr.from, 0, ptr.to - ptr.from);
	vmem_store(v, &span, image);
	return OP_DONE;
}

enum exec_op op_xgetbv(struct exec *x)
{
	struct vcpu *v = x->v;
	uint32_t low, high;

	if (!(v->cr4 & CR4_OSXSAVE))
		return exec_undefined(x);
	switch ((uint32_t)v->gpr[RCX]) {
	case 0:
		v->gpr[RAX] = (uint32_t)v->xcr0;
		v->gpr[RDX] = 0;
		return OP_DONE;
	case 1: /* XCR0 & XINUSE */
		fpu_load(v);
		__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
		v->gpr[RAX] = low & v->xcr0;
		v->gpr[RDX] = 0;
		return OP_DONE;
	default:
		return exec_gp(x, 0);
	}
}

enum exec_op op_xsetbv(struct exec *x)
{
	struct vcpu *v = x->v;
	uint64_t value = (uint32_t)v->gpr[RAX] | v->gpr[RDX] << 32;

	if (!(v->cr4 & CR4_OSXSAVE))
		return exec_undefined(x);
	if (v->cpl || (uint32_t)v->gpr[RCX] || !(value & XCR0_X87) || (value & ~v->cpuid->xcr0) ||
	    ((value & XCR0_AVX) && !(value & XCR0_SSE)))
		return exec_gp(x, 0);
	v->xcr0 = value;
	return OP_DONE;
}
