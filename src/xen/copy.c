/*
 * copy.c - guest memory as hypercalls see it: through the guest kernel's own translations, with the guest kernel's rights. Addresses come from the
 * guest, so the hypervisor's part of the address space is refused here, once for all (XSA-212).
 */
#include "cpu/access.h"
#include "xen/xen_internal.h"

static bool range_ok(uint64_t va, uint64_t len)
{
	uint64_t last = va + len - 1;

	return last >= va && va_canonical(va, VA_BITS_4LEVEL) && va_canonical(last, VA_BITS_4LEVEL) && (va < XEN_HOLE_START || va >= XEN_HOLE_END) &&
	       (last < XEN_HOLE_START || last >= XEN_HOLE_END) && !((va ^ last) >> 63);
}

/* The guest's page at va; 0: it faults. */
static void *page_at(struct vcpu *v, uint64_t va, unsigned access, struct mmu_result *r, bool *tracked)
{
	switch (mmu_access(&v->mmu, gva(va), access, r)) {
	case MMU_MAPPED:
		*tracked = false;
		return r->hva;
	case MMU_TRACKED:
		*tracked = true;
		return r->hva;
	default:
		return NULL;
	}
}

/* A short run of words, as frames and arguments are: REP MOVSB takes longer to begin. No loop that the compiler would take for memcpy. */
static void copy_words(void *to, const void *from, uint64_t len)
{
	for (uint64_t i = 0; i < len; i += 8) {
		store_u64((uint8_t *)to + i, load_u64((const uint8_t *)from + i));
		__asm__ volatile("" : : : "memory");
	}
}

/* Within one page that level 1 knows; false: not so. */
static bool copy_quickly(struct vcpu *v, uint64_t va, void *to, const void *from, uint64_t len)
{
	uint8_t *at;

	if (len > PAGE_SIZE || len % 8)
		return false;
	at = vmem_probe(v, va, (unsigned)len, to ? ACC_READ : ACC_WRITE);
	if (UNLIKELY(!at))
		return false;
	if (to)
		copy_words(to, at, len);
	else
		copy_words(at, from, len);
	return true;
}

static int copy(struct vcpu *v, uint64_t va, void *to, const void *from, uint64_t len)
{
	struct mmu_result r;

	if (!len)
		return 0;
	if (!range_ok(va, len))
		return -XEN_EFAULT;
	if (LIKELY(copy_quickly(v, va, to, from, len)))
		return 0;
	while (len) {
		uint64_t left = PAGE_SIZE - (va & (PAGE_SIZE - 1)), n = len < left ? len : left;
		bool tracked;
		void *at = page_at(v, va, to ? ACC_READ : ACC_WRITE, &r, &tracked);

		if (!at)
			return -XEN_EFAULT;
		if (to) {
			copy_bytes(to, at, n);
			to = (uint8_t *)to + n;
		} else {
			copy_bytes(at, from, n);
			if (tracked)
				mmu_written(&v->mmu, r.mfn, (unsigned)(va & (PAGE_SIZE - 1)), (unsigned)n);
			from = (const uint8_t *)from + n;
		}
		va += n;
		len -= n;
	}
	return 0;
}

int xen_copy_from_guest(struct vcpu *v, void *to, uint64_t va, uint64_t len) { return copy(v, va, to, NULL, len); }
int xen_copy_to_guest(struct vcpu *v, uint64_t va, const void *from, uint64_t len) { return copy(v, va, NULL, from, len); }
