/*
 * pv.h - runtime of paravirtualized guests (--paging direct): PV_GUEST(f) makes the program a kernel with Xen notes whose f(start_info) runs in the guest's
 * kernel mode; hypercalls; the domain's own pages, tables and translations; and instructions that may fault.
 *
 * The image is linked where bare-metal guests are (guest.ld) and VIRT_BASE is 0, so pfn n lies at address n * 4096: a pointer to a page of the image says its pfn.
 * The rest of lib/ is for guests that own their processor and is not linked.
 */
#ifndef PV_H
#define PV_H

#include <stddef.h>
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <stdint.h>
#include <xen/xen.h>
#include <xen/errno.h>
#include <xen/memory.h>
#include <xen/physdev.h>
#include <xen/sched.h>

#define PV_PAGE 4096ull
#define PV_P 1ull
#define PV_W 2ull
#define PV_U 4ull
#define PV_FRAME 0x000ffffffffff000ull
#define PV_M2P ((const volatile uint64_t *)0xffff800000000000ull)

/* Entry, its notes, and where a fault goes that was expected (PV_FAULTS). */
#define PV_GUEST(f) \
	__asm__(".pushsection .note.xen, \"a\", @note\n.balign 4\n" \
		".long 4, 8, 1\n.asciz \"Xen\"\n.quad pv_entry\n"	/* ENTRY */ \
		".long 4, 8, 3\n.asciz \"Xen\"\n.quad 0\n"		/* VIRT_BASE */ \
		".long 4, 8, 5\n.asciz \"Xen\"\n.asciz \"xen-3.0\"\n"	/* XEN_VERSION */ \
		".long 4, 8, 8\n.asciz \"Xen\"\n.asciz \"generic\"\n"	/* LOADER */ \
		".popsection\n" \
		".globl pv_entry\npv_entry: mov %rsi, %rdi\ncall " #f "\nud2\n" \
		"pv_fault: movb $1, pv_faulted(%rip)\nmov pv_resume_rsp(%rip), %rsp\njmp *pv_resume(%rip)\n"); \
	uint64_t pv_resume, pv_resume_rsp; \
	volatile uint8_t pv_faulted; \
	struct start_info *pv_info; \
	unsigned pv_failures

extern uint64_t pv_resume, pv_resume_rsp;
extern volatile uint8_t pv_faulted;
extern struct start_info *pv_info;
extern unsigned pv_failures;
void pv_fault(void);

static inline int64_t pv_call(unsigned number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	register uint64_t r10 __asm__("r10") = d;
	int64_t result;

	__asm__ volatile("syscall" : "=a"(result) : "0"((uint64_t)number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return result;
}

/* Whether the instruction faults; it may use RAX as it likes. Input operands follow it. */
#define PV_FAULTS(instruction, ...) ({ \
	pv_faulted = 0; \
	__asm__ volatile("mov %%rsp, pv_resume_rsp\nmovq $1f, pv_resume\n" instruction "\n1:" : : __VA_ARGS__ : "rax", "rcx", "r11", "memory"); \
	pv_faulted; })

static inline void pv_say(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	pv_call(__HYPERVISOR_console_io, 0, n, (uint64_t)(uintptr_t)s, 0);
}

static inline void pv_number(int64_t n)
{
	char text[20], *p = text + sizeof(text) - 1;
	uint64_t u = (uint64_t)(n < 0 ? -n : n);

	*p = 0;
	do
		*--p = (char)('0' + u % 10);
	while (u /= 10);
	if (n < 0)
		*--p = '-';
	pv_say(p);
}

static inline void pv_check(int ok, const char *what, int64_t got)
{
	if (ok)
		return;
	pv_failures++;
	pv_say("FAIL: ");
	pv_say(what);
	pv_say(": ");
	pv_number(got);
	pv_say("\n");
}
#define PV_CHECK(condition, got) pv_check(condition, #condition, (int64_t)(got))

/* The machine frame of a page of the image or of the bootstrap region, by the list that the domain got. */
static inline uint64_t pv_mfn(const void *page) { return ((const uint64_t *)pv_info->mfn_list)[(uint64_t)(uintptr_t)page / PV_PAGE]; }
static inline void *pv_of_mfn(uint64_t m) { return (void *)(PV_M2P[m] * PV_PAGE); }

/* The table of that level (1 to 4) that the bootstrap tables have for an address. */
static inline uint64_t *pv_table(const void *at, unsigned level)
{
	uint64_t *table = (uint64_t *)pv_info->pt_base;

	for (unsigned l = 4; l > level; l--)
		table = pv_of_mfn((table[(uint64_t)(uintptr_t)at >> (12 + 9 * (l - 1)) & 511] & PV_FRAME) / PV_PAGE);
	return table;
}
/* The machine address of the entry. */
static inline uint64_t pv_entry_at(const uint64_t *table, unsigned i) { return pv_mfn(table) * PV_PAGE + i * 8; }
static inline uint64_t pv_leaf_at(const void *page) { return pv_entry_at(pv_table(page, 1), (uint64_t)(uintptr_t)page / PV_PAGE & 511); }

static inline int64_t pv_update(uint64_t at, uint64_t value)
{
	struct mmu_update u = { at, value };

	return pv_call(__HYPERVISOR_mmu_update, (uint64_t)(uintptr_t)&u, 1, 0, DOMID_SELF);
}

static inline int64_t pv_ext(unsigned command, uint64_t a, uint64_t b)
{
	struct mmuext_op op = { .cmd = command };

	op.arg1.linear_addr = a;
	op.arg2.src_mfn = b;
	return pv_call(__HYPERVISOR_mmuext_op, (uint64_t)(uintptr_t)&op, 1, 0, DOMID_SELF);
}

/* The page's mapping gets these flags; 0: none. Nothing is flushed. */
static inline int64_t pv_remap(const void *page, uint64_t flags) { return pv_update(pv_leaf_at(page), flags ? pv_mfn(page) * PV_PAGE | flags : 0); }

static inline void pv_start(struct start_info *info)
{
	static struct trap_info traps[4] = { { 6, 4, FLAT_KERNEL_CS, 0 }, { 13, 4, FLAT_KERNEL_CS, 0 }, { 14, 4, FLAT_KERNEL_CS, 0 } };

	pv_info = info;
	for (unsigned i = 0; i < 3; i++)
		traps[i].address = (uint64_t)(uintptr_t)pv_fault;
	PV_CHECK(!pv_call(__HYPERVISOR_set_trap_table, (uint64_t)(uintptr_t)traps, 0, 0, 0), 0);
}

/* Status 0x2a in the port of --debug-exit if nothing failed. */
static inline void pv_end(void)
{
	struct physdev_set_iopl iopl = { 1 };
	struct sched_shutdown end = { SHUTDOWN_crash };

	pv_call(__HYPERVISOR_physdev_op, PHYSDEVOP_set_iopl, (uint64_t)(uintptr_t)&iopl, 0, 0);
	if (!pv_failures)
		__asm__ volatile("outb %0, %1" : : "a"((uint8_t)0x2a), "Nd"((uint16_t)0xf4));
	pv_call(__HYPERVISOR_sched_op, SCHEDOP_shutdown, (uint64_t)(uintptr_t)&end, 0, 0);
}


/* Waits for what domain 0 does; if it never does, the guest fails and says what it waited for. About 20 s, by the time-stamp counter. */
#define PV_WAIT_TICKS 50000000000ull
#define PV_WAIT(condition) do { \
		const uint64_t begin_ = __builtin_ia32_rdtsc(); \
		while (!(condition)) \
			if (__builtin_ia32_rdtsc() - begin_ > PV_WAIT_TICKS) { \
				PV_CHECK(!"waited in vain for " #condition, 0); \
				pv_end(); \
			} \
	} while (0)

#endif
