/*
 * exec_vector.c - vector instructions that touch memory element by element, and cache-line instructions.
 *
 * Vector registers are read and changed in the saved image (fpu_save), which the next user loads back.
 * Source: AMD APM vol. 4, "VPGATHERDD...", "VMASKMOVPS...", "MASKMOVDQU"; Intel SDM vol. 2 for MOVDIR64B.
 */
#include "cpu/exec_internal.h"
#include "cpu/host_stub.h"

#define IMAGE_XMM 160
#define IMAGE_XSTATE_BV 512
#define IMAGE_YMM_HIGH 576

struct ymm { uint8_t b[32]; };

static void ymm_get(const struct vcpu *v, unsigned r, struct ymm *out)
{
	copy_bytes(out->b, v->fpu.area + IMAGE_XMM + 16 * r, 16);
	copy_bytes(out->b + 16, v->fpu.area + IMAGE_YMM_HIGH + 16 * r, 16);
}

static void ymm_set(struct vcpu *v, unsigned r, const struct ymm *in)
{
	copy_bytes(v->fpu.area + IMAGE_XMM + 16 * r, in->b, 16);
	copy_bytes(v->fpu.area + IMAGE_YMM_HIGH + 16 * r, in->b + 16, 16);
	v->fpu.area[IMAGE_XSTATE_BV] |= XCR0_SSE | XCR0_AVX;
}

/* The state as it is, in the area: components that XSAVE left out because they are in their initial state are zero. */
static void save_whole(struct vcpu *v)
{
	uint8_t in_use;

	fpu_save(v);
	in_use = v->fpu.area[IMAGE_XSTATE_BV];
	if (!(in_use & XCR0_SSE))
		fill_bytes(v->fpu.area + IMAGE_XMM, 0, 256);
	if (!(in_use & XCR0_AVX))
		fill_bytes(v->fpu.area + IMAGE_YMM_HIGH, 0, 256);
}

static uint64_t element_get(const struct ymm *y, unsigned i, unsigned size)
{
	return size == 4 ? load_u32(y->b + 4 * i) : load_u64(y->b + 8 * i);
}

static void element_set(struct ymm *y, unsigned i, unsigned size, uint64_t value)
{
	if (size == 4)
		store_u32(y->b + 4 * i, (uint32_t)value);
	else
		store_u64(y->b + 8 * i, value);
}

static bool element_sign(const struct ymm *y, unsigned i, unsigned size) { return y->b[size * i + size - 1] & 0x80; }

/* Fields of a three-byte VEX prefix (the forms here all have one) and ModRM. */
struct vex { unsigned reg, vvvv, index; bool w, l; };

static void vex_fields(const struct insn *in, struct vex *f)
{
	const uint8_t *p = in->bytes + in->vex_off - 1;

	f->reg = ((in->modrm >> 3) & 7) | (p[1] & 0x80 ? 0 : 8);
	f->vvvv = (unsigned)(~p[2] >> 3) & (in->mode == INSN_MODE_64 ? 15 : 7);
	f->index = (in->bytes[in->modrm_off + 1] >> 3 & 7) | (p[1] & 0x40 ? 0 : 8);
	f->w = p[2] & 0x80;
	f->l = p[2] & 4;
}

/* Elements are exempt from alignment checking. */
static enum exec_op read_element(struct exec *x, unsigned seg, uint64_t ea, uint64_t *value, unsigned size)
{
	uint64_t la;

	if (!exec_linear(x, seg, ea, size, false, &la))
		return OP_FAULT;
	return exec_of(vmem_read_int(x->v, la, value, size, exec_acc(x, seg) | ACC_READ | VMEM_NO_ALIGN, &x->exc));
}

enum exec_op op_gather(struct exec *x)
{
	struct vcpu *v = x->v;
	const struct insn *in = x->in;
	const struct insn_mem *m = &in->mem;
	struct ymm dest, mask, index;
	struct vex f;
	unsigned data, idx, n;
	uint64_t base = (uint64_t)m->disp + (m->base != INSN_NO_REG ? v->gpr[m->base] : 0);
	enum exec_op op = OP_DONE;

	vex_fields(in, &f);
	if (f.reg == f.vvvv || f.reg == f.index || f.vvvv == f.index)
		return exec_undefined(x);
	save_whole(v);
	ymm_get(v, f.reg, &dest);
	ymm_get(v, f.vvvv, &mask);
	ymm_get(v, f.index, &index);
	data = f.w ? 8 : 4;
	idx = in->opcode & 1 ? 8 : 4; /* 90, 92: doubleword indices; 91, 93: quadword */
	n = (f.l ? 32u : 16u) / (data > idx ? data : idx);
	for (unsigned i = 0; i < n; i++) {
		uint64_t ea, value;

		if (!element_sign(&mask, i, data)) {
			element_set(&mask, i, data, 0);
			continue;
		}
		ea = (base + (uint64_t)sign_extend(element_get(&index, i, idx), idx) * m->scale) & size_mask(in->addrsize);
		op = read_element(x, m->seg, ea, &value, data);
		if (op != OP_DONE)
			break;
		element_set(&dest, i, data, value);
		element_set(&mask, i, data, 0);
	}
	if (op == OP_DONE) {
		fill_bytes(mask.b, 0, sizeof(mask.b));
		fill_bytes(dest.b + n * data, 0, sizeof(dest.b) - n * data);
	}
	/* After a fault the mask says what is still to do. */
	ymm_set(v, f.reg, &dest);
	ymm_set(v, f.vvvv, &mask);
	return op;
}

/* Elements are 8 bytes in the PD and Q forms. 2C, 2D, 8C load; 2E, 2F, 8E store. */
enum exec_op op_vmaskmov(struct exec *x)
{
	struct vcpu *v = x->v;
	const struct insn *in = x->in;
	bool store = in->opcode == 0x2e || in->opcode == 0x2f || in->opcode == 0x8e;
	struct ymm mask, value;
	struct vex f;
	unsigned size, n;
	uint64_t ea = exec_ea(x);
	enum exec_op op = OP_DONE;

	vex_fields(in, &f);
	size = in->opcode == 0x2d || in->opcode == 0x2f || (in->opcode >= 0x80 && f.w) ? 8 : 4;
	n = (f.l ? 32 : 16) / size;
	save_whole(v);
	ymm_get(v, f.vvvv, &mask);
	if (!store) {
		fill_bytes(value.b, 0, sizeof(value.b));
		for (unsigned i = 0; i < n && op == OP_DONE; i++) {
			uint64_t e;

			if (!element_sign(&mask, i, size))
				continue;
			op = read_element(x, in->mem.seg, ea + size * i, &e, size);
			element_set(&value, i, size, e);
		}
		if (op == OP_DONE)
			ymm_set(v, f.reg, &value);
		return op;
	}
	ymm_get(v, f.reg, &value);
	for (unsigned pass = 0; pass < 2; pass++) { /* check all, then store */
		for (unsigned i = 0; i < n; i++) {
			struct vmem_span span;
			uint64_t la, e = element_get(&value, i, size);
			enum vmem_status st;

			if (!element_sign(&mask, i, size))
				continue;
			if (!exec_linear(x, in->mem.seg, ea + size * i, size, true, &la))
				return OP_FAULT;
			st = vmem_map(v, la, size, exec_acc(x, in->mem.seg) | ACC_WRITE | VMEM_NO_ALIGN, &span, &x->exc);
			if (st != VMEM_OK)
				return exec_of(st);
			if (pass)
				vmem_store(v, &span, &e);
		}
	}
	return OP_DONE;
}

/* MASKMOVQ and MASKMOVDQU store bytes of ModRM.reg chosen by the top bits of those in ModRM.rm at seg:rDI. */
enum exec_op op_maskmov(struct exec *x)
{
	struct vcpu *v = x->v;
	const struct insn *in = x->in;
	bool mmx = in->need & NEED_MMX;
	unsigned n = mmx ? 8 : 16, reg = (in->modrm >> 3) & 7, rm = in->modrm & 7;
	uint64_t di = gpr_get(v, RDI, in->addrsize), la;
	uint8_t value[16], mask[16];
	struct vmem_span span;
	enum vmem_status st;

	if (in->vex_off) {
		const uint8_t *p = in->bytes + in->vex_off - 1;

		reg |= p[1] & 0x80 ? 0 : 8;
		rm |= p[0] == 0xc4 && !(p[1] & 0x20) ? 8 : 0;
	} else if (in->rex_off && !mmx) {
		reg |= in->bytes[in->rex_off - 1] & 4 ? 8 : 0;
		rm |= in->bytes[in->rex_off - 1] & 1 ? 8 : 0;
	}
	if (mmx) { /* MOVQ [rbx], mm: the host keeps the x87 side of it */
		uint8_t get_value[] = { 0x0f, 0x7f, (uint8_t)(reg << 3 | RBX) }, get_mask[] = { 0x0f, 0x7f, (uint8_t)(rm << 3 | RBX) };
		uint8_t *copy = v->stub->data->bounce;
		int result;

		fpu_load(v);
		result = host_stub_run_code(v, get_value, sizeof(get_value), copy);
		if (result == HOST_STUB_DONE)
			result = host_stub_run_code(v, get_mask, sizeof(get_mask), copy + 8);
		if (result != HOST_STUB_DONE)
			return exec_fault(x, exc_plain((uint8_t)result));
		copy_bytes(value, copy, 8);
		copy_bytes(mask, copy + 8, 8);
	} else {
		save_whole(v);
		copy_bytes(value, v->fpu.area + IMAGE_XMM + 16 * reg, 16);
		copy_bytes(mask, v->fpu.area + IMAGE_XMM + 16 * rm, 16);
	}
	/* The whole operand must be writable, even if no byte is chosen; that is what AMD's processors do. */
	if (!exec_linear(x, in->mem.seg, di, n, true, &la))
		return OP_FAULT;
	st = vmem_map(v, la, 8, exec_acc(x, in->mem.seg) | ACC_WRITE, &span, &x->exc);
	if (st == VMEM_OK)
		st = vmem_map(v, la, n, exec_acc(x, in->mem.seg) | ACC_WRITE | VMEM_NO_ALIGN, &span, &x->exc);
	for (unsigned i = 0; i < n && st == VMEM_OK; i++) {
		if (!(mask[i] & 0x80))
			continue;
		st = vmem_map(v, la + i, 1, exec_acc(x, in->mem.seg) | ACC_WRITE, &span, &x->exc);
		if (st == VMEM_OK)
			vmem_store(v, &span, value + i);
	}
	return exec_of(st);
}

/* CLFLUSH and others are checked like a read of a byte; host caches need no care. */
enum exec_op op_cache(struct exec *x)
{
	struct vmem_span span;
	uint64_t la;

	if (!exec_linear(x, x->in->mem.seg, exec_ea(x), 1, false, &la))
		return OP_FAULT;
	return exec_of(vmem_map(x->v, la, 1, exec_acc(x, x->in->mem.seg) | ACC_READ, &span, &x->exc));
}

enum exec_op op_movdir64b(struct exec *x)
{
	struct vcpu *v = x->v;
	const struct insn *in = x->in;
	uint8_t line[64];
	uint64_t la;
	enum exec_op op = exec_read_bytes(x, in->mem.seg, exec_ea(x), line, sizeof(line));

	if (op != OP_DONE)
		return op;
	if (!exec_linear(x, SEG_ES, gpr_get(v, in->reg, in->addrsize), sizeof(line), true, &la))
		return OP_FAULT;
	if (la & 63)
		return exec_gp(x, 0);
	return exec_of(vmem_write(v, la, line, sizeof(line), exec_acc(x, SEG_ES), &x->exc));
}
