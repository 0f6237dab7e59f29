/* access.c - guest-virtual memory for the executor (access.h). */
#include "cpu/access.h"

#include <stdatomic.h>
#include "cpu/debug.h"
#include "cpu/exec_internal.h"
#include "cpu/lapic.h"

static atomic_flag split_lock = ATOMIC_FLAG_INIT;

void vmem_split_lock(void)
{
	while (atomic_flag_test_and_set_explicit(&split_lock, memory_order_acquire))
		__builtin_ia32_pause();
}

void vmem_split_unlock(void)
{
	atomic_flag_clear_explicit(&split_lock, memory_order_release);
}

struct bus_call { struct vcpu *v; enum bus_space space; uint64_t addr, value; unsigned size; bool write; };

static void bus_cold(void *arg)
{
	struct bus_call *c = arg;

	if (c->write)
		bus_write(c->v->bus, c->space, c->addr, c->size, c->value);
	else
		c->value = bus_read(c->v->bus, c->space, c->addr, c->size);
}

static uint64_t bus_access(struct vcpu *v, enum bus_space space, uint64_t addr, unsigned size, bool write, uint64_t value)
{
	struct bus_call c = { .v = v, .space = space, .addr = addr, .value = value, .size = size, .write = write };
	const uint64_t begin = trace_begin(v->mmu.trace, TRACE_CAT_DEVICE);
	uint8_t was = v->activity;

	v->activity = ACT_DEVICES;
	fpu_call_cold(v, bus_cold, &c);
	v->activity = was;
	trace_span(v->mmu.trace, TRACE_DEVICE, size | space << 8 | (uint32_t)write << 16, begin, addr, c.value);
	return c.value;
}

uint64_t port_read(struct vcpu *v, uint16_t port, unsigned size)
{
	v->counters.port_accesses++;
	return bus_access(v, BUS_PORT, port, size, false, 0);
}

void port_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t value)
{
	v->counters.port_accesses++;
	bus_access(v, BUS_PORT, port, size, true, value);
}

/* The APIC page answers only naturally aligned 32-bit accesses; of others the low doubleword's worth is good enough (as on hardware: undefined). */
static bool apic_page(const struct vcpu *v, uint64_t gpa)
{
	uint64_t base = v->lapic.base_msr;

	return (base & LAPIC_BASE_ENABLE) && !(base & LAPIC_BASE_X2APIC) && (gpa & PAGE_MASK) == (base & LAPIC_BASE_ADDRESS);
}

static uint64_t mmio_read(struct vcpu *v, uint64_t gpa, unsigned size)
{
	uint64_t value = 0;

	v->counters.mmio_accesses++;
	if (apic_page(v, gpa)) {
		lapic_read(v, (uint32_t)(gpa & 0xff0), &value);
		return value >> (8 * (gpa & 3));
	}
	return bus_access(v, BUS_MMIO, gpa, size, false, 0);
}

static void mmio_write(struct vcpu *v, uint64_t gpa, unsigned size, uint64_t value)
{
	v->counters.mmio_accesses++;
	if (apic_page(v, gpa)) {
		if (!(gpa & 15))
			lapic_write(v, (uint32_t)(gpa & 0xff0), (uint32_t)value);
		return;
	}
	bus_access(v, BUS_MMIO, gpa, size, true, value);
}

/* The largest power of two, up to 8, that fits the rest and keeps its natural alignment. */
static unsigned mmio_chunk(uint64_t gpa, unsigned left)
{
	unsigned n = 8;

	while (n > left || (gpa & (n - 1)))
		n >>= 1;
	return n;
}

static uint64_t get_int(const void *p, unsigned size)
{
	switch (size) {
	case 1: return *(const volatile uint8_t *)p;
	case 2: return load_u16(p);
	case 4: return load_u32(p);
	default: return load_u64(p);
	}
}

static void put_int(void *p, uint64_t value, unsigned size)
{
	switch (size) {
	case 1: *(volatile uint8_t *)p = (uint8_t)value; break;
	case 2: store_u16(p, (uint16_t)value); break;
	case 4: store_u32(p, (uint32_t)value); break;
	default: store_u64(p, value); break;
	}
}

/* One move for the sizes that processors access at once, so that other vcpus never see half a store. */
static void copy_sized(void *dst, const void *src, unsigned len)
{
	if (len == 1 || len == 2 || len == 4 || len == 8)
		put_int(dst, get_int(src, len), len);
	else
		copy_bytes(dst, src, len);
}

bool vmem_misaligned(uint64_t la, unsigned len)
{
	const unsigned align = !(len & (len - 1)) ? (len > 16 ? 16 : len) : len == 10 ? 8 : 4;

	return la & (align - 1);
}

static enum vmem_status map_part(struct vcpu *v, uint64_t la, unsigned len, unsigned acc, struct vmem_part *part, struct exception *exc)
{
	struct mmu_result r;

	part->len = len;
	part->hva = vmem_probe(v, la, len, acc);
	if (part->hva)
		return VMEM_OK;
	if (UNLIKELY(v->redirect.copy != NULL) && (acc & ACC_WRITE) && len <= 8 && la - v->redirect.la <= 8 - len) {
		part->hva = v->redirect.copy + (la - v->redirect.la);
		return VMEM_OK;
	}
	switch (mmu_access(&v->mmu, gva(la), acc & (ACC_READ | ACC_WRITE | ACC_USER | ACC_IMPLICIT | ACC_AC | ACC_PROBE), &r)) {
	case MMU_MAPPED:
	case MMU_TRACKED:
		part->hva = r.hva;
		return VMEM_OK;
	case MMU_MMIO:
		part->gpa = r.gpa;
		return VMEM_OK;
	case MMU_NESTED_EXIT:
		*exc = r.exc;
		return VMEM_FAULT;
	case MMU_INJECT:
		*exc = r.exc;
		return VMEM_FAULT;
	case MMU_HOST_ERROR:
		exec_exit(v, EXIT_HOST_ERROR, "no machine frame left for the guest's memory");
		return VMEM_STOP;
	}
	ASSERT(!"no such kind");
	return VMEM_STOP;
}

enum vmem_status vmem_map(struct vcpu *v, uint64_t la, unsigned len, unsigned acc, struct vmem_span *span, struct exception *exc)
{
	unsigned first = (unsigned)(PAGE_SIZE - (la & ~PAGE_MASK));
	enum vmem_status st;

	ASSERT(len && len <= PAGE_SIZE);
	if (UNLIKELY(!vcpu_canonical(v, la) || !vcpu_canonical(v, la + len - 1))) {
		*exc = exc_error(acc & VMEM_STACK ? VEC_SS : VEC_GP, 0);
		return VMEM_FAULT;
	}
	if (vmem_checked(v)) {
		if (!(acc & (VMEM_NO_ALIGN | ACC_IMPLICIT)) && v->cpl == 3 && (v->rflags & FL_AC) && (v->cr0 & CR0_AM) &&
		    vmem_misaligned(la, acc >> 16 ? acc >> 16 : len)) {
			*exc = exc_error(VEC_AC, 0);
			return VMEM_FAULT;
		}
		if (!(acc & ACC_IMPLICIT))
			debug_data_access(v, la, len, acc & ACC_WRITE);
	}
	span->parts = 1;
	if (LIKELY(len <= first))
		return map_part(v, la, len, acc, &span->part[0], exc);
	span->parts = 2;
	st = map_part(v, la, first, acc, &span->part[0], exc);
	if (st == VMEM_OK)
		st = map_part(v, vcpu_long(v) ? la + first : (uint32_t)(la + first), len - first, acc, &span->part[1], exc);
	return st;
}

void vmem_load(struct vcpu *v, const struct vmem_span *span, void *buf)
{
	uint8_t *out = buf;

	for (unsigned i = 0; i < span->parts; i++) {
		const struct vmem_part *p = &span->part[i];

		if (LIKELY(p->hva != NULL)) {
			copy_sized(out, p->hva, p->len);
		} else {
			for (unsigned done = 0, n; done < p->len; done += n) {
				n = mmio_chunk(p->gpa.v + done, p->len - done);
				put_int(out + done, mmio_read(v, p->gpa.v + done, n), n);
			}
		}
		out += p->len;
	}
}

void vmem_written(struct vcpu *v, const struct vmem_part *part)
{
	/* Asked for at the time of the store: mapping the second page may have made the first a watched one. */
	mfn_t m = pool_mfn_of(&v->memory->pool, part->hva);

	if (UNLIKELY(m.v >= v->memory->pool.frames)) /* redirected */
		return;
	if (UNLIKELY(pool_frame(&v->memory->pool, m)->flags & FRAME_TRACKED))
		mmu_written(&v->mmu, m, (unsigned)((uintptr_t)part->hva & ~PAGE_MASK), part->len);
}

void vmem_store(struct vcpu *v, const struct vmem_span *span, const void *buf)
{
	const uint8_t *in = buf;

	for (unsigned i = 0; i < span->parts; i++) {
		const struct vmem_part *p = &span->part[i];

		if (LIKELY(p->hva != NULL)) {
			copy_sized(p->hva, in, p->len);
			vmem_written(v, p);
		} else {
			for (unsigned done = 0, n; done < p->len; done += n) {
				n = mmio_chunk(p->gpa.v + done, p->len - done);
				mmio_write(v, p->gpa.v + done, n, get_int(in + done, n));
			}
		}
		in += p->len;
	}
}

enum vmem_status vmem_read(struct vcpu *v, uint64_t la, void *buf, unsigned len, unsigned acc, struct exception *exc)
{
	struct vmem_span span;
	enum vmem_status st = vmem_map(v, la, len, acc | ACC_READ, &span, exc);

	if (st == VMEM_OK)
		vmem_load(v, &span, buf);
	return st;
}

enum vmem_status vmem_write(struct vcpu *v, uint64_t la, const void *buf, unsigned len, unsigned acc, struct exception *exc)
{
	struct vmem_span span;
	enum vmem_status st = vmem_map(v, la, len, acc | ACC_WRITE, &span, exc);

	if (st == VMEM_OK)
		vmem_store(v, &span, buf);
	return st;
}

enum vmem_status vmem_read_int(struct vcpu *v, uint64_t la, uint64_t *value, unsigned size, unsigned acc, struct exception *exc)
{
	const uint8_t *p = vmem_checked(v) ? NULL : vmem_probe(v, la, size, acc | ACC_READ);
	enum vmem_status st;

	if (LIKELY(p != NULL)) {
		*value = get_int(p, size);
		return VMEM_OK;
	}
	*value = 0;
	st = vmem_read(v, la, value, size, acc, exc);
	return st;
}

enum vmem_status vmem_write_int(struct vcpu *v, uint64_t la, uint64_t value, unsigned size, unsigned acc, struct exception *exc)
{
	uint8_t *p = vmem_checked(v) ? NULL : vmem_probe(v, la, size, acc | ACC_WRITE);

	if (LIKELY(p != NULL)) {
		put_int(p, value, size);
		return VMEM_OK;
	}
	return vmem_write(v, la, &value, size, acc, exc);
}
