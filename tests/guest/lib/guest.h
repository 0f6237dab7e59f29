/*
 * guest.h - the runtime of bare-metal guests (tests/guest/): output, traps, snippets, page tables, local APIC.
 *
 * A guest defines guest_tests[]; lib_start runs each, prints `ok` or `FAILED` and its sentence, and ends the VM with 0x2a in the
 * debug-exit port when all held, 0x2b when not.
 *
 * Snippets are how a guest runs an instruction and sees all that comes of it: run() goes to the code with the registers of a
 * struct regs, at either privilege, and whatever trap ends it is reported there. Every exception and vector DONE uses an
 * interrupt stack (IST 1), so that a snippet may do anything to RSP.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- tests ---- */
struct guest_test { const char *sentence; void (*run)(void); };
extern const struct guest_test guest_tests[];	/* ends with {0, 0} */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));	/* %s %c %d %u %x %lx %lu %ld */
bool check_that(bool ok, const char *what, const char *file, int line);
bool showing_details(void);	/* false when so much of this test has failed that no more is printed */
/* False, printed and counted when e does not hold. */
#define CHECK(e) check_that((e), #e, __FILE__, __LINE__)
#define CHECK_EQ(a, b)                                                                                        \
	do {                                                                                                  \
		uint64_t a_ = (uint64_t)(a), b_ = (uint64_t)(b);                                              \
		if (!check_that(a_ == b_, #a " == " #b, __FILE__, __LINE__) && showing_details())                                \
			print("          0x%lx, not 0x%lx\n", a_, b_);                                        \
	} while (0)
void skip_test(const char *reason);	/* the processor does not offer what the test needs */
_Noreturn void guest_end(unsigned char value);

/* ---- traps and snippets ---- */
struct trap {	/* as trap_common pushes it */
	uint64_t rax, rcx, rdx, rbx, unused, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};
struct regs {
	struct trap t;	/* in: registers, rflags, rsp (0: a usual stack); out: all at the trap */
	uint64_t cr2;
	uint64_t offset;	/* of the trap's RIP in the snippet */
};
enum { DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS = 10, NP, SS, GP, PF, MF = 16, AC, MC, XM, DONE = 0x80 };

/* Code for run(): must not fall out at its end; DONE_ says that it got there. Position independent. */
#define CODE(text)                                                                                            \
	({                                                                                                    \
		const void *code_;                                                                            \
		__asm__ volatile("lea 771f(%%rip), %0\n jmp 772f\n 771: " text "\n int $0x80\n 772:" : "=r"(code_)); \
		code_;                                                                                        \
	})
/* Runs at CPL 0 or 3; returns the vector that ended it, DONE if it ran to its end. */
unsigned run_kernel(const void *code, struct regs *r);
unsigned run_user(const void *code, struct regs *r);
/* Without registers of interest. error: expected error code. */
#define EXPECT(code, vector_)                                                                                 \
	do {                                                                                                  \
		struct regs r_ = { 0 };                                                                       \
		CHECK_EQ(run_kernel(code, &r_), vector_);                                                     \
	} while (0)

/* A handler for a vector: returns to where the trap came from, with *t as it left it. 0 removes it. */
typedef void trap_function(struct trap *t);
void set_handler(unsigned vector, trap_function *fn);
/* The gate of a vector: present, DPL, IST. */
void set_gate(unsigned vector, bool present, unsigned dpl, unsigned ist);
extern uint64_t idt[512];
extern uint64_t gdt[16];

/* Selectors. */
enum { KERNEL_CS = 0x10, KERNEL_DS = 0x18, USER_CS32 = 0x23, USER_DS = 0x2b, USER_CS = 0x33, ABSENT_DS = 0x38, TSS_SELECTOR = 0x40, SPARE_SELECTOR = 0x50 };

/* ---- processor ---- */
#define RFLAGS_FIXED 2ul
#define RFLAGS_TF 0x100ul
#define RFLAGS_IF 0x200ul
#define RFLAGS_DF 0x400ul
#define RFLAGS_RF 0x10000ul
#define RFLAGS_AC 0x40000ul
static inline void outb(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline uint8_t inb(uint16_t port) { uint8_t v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline uint64_t rdmsr(uint32_t msr) { uint32_t lo, hi; __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr)); return lo | (uint64_t)hi << 32; }
static inline void wrmsr(uint32_t msr, uint64_t v) { __asm__ volatile("wrmsr" : : "a"((uint32_t)v), "d"((uint32_t)(v >> 32)), "c"(msr) : "memory"); }
static inline uint64_t rdtsc(void) { uint32_t lo, hi; __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi)); return lo | (uint64_t)hi << 32; }
struct cpuid { uint32_t a, b, c, d; };
static inline struct cpuid cpuid(uint32_t leaf, uint32_t sub)
{
	struct cpuid r;
	__asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(sub));
	return r;
}
#define READ_CR(n) ({ uint64_t v_; __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v_)); v_; })
#define WRITE_CR(n, v) __asm__ volatile("mov %0, %%cr" #n : : "r"((uint64_t)(v)) : "memory")
static inline void invlpg(uint64_t va) { __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory"); }
#define MSR_EFER 0xc0000080u
#define CR0_WP (1ul << 16)
#define CR4_PGE (1ul << 7)
#define CR4_PCIDE (1ul << 17)
#define CR4_SMEP (1ul << 20)
#define CR4_SMAP (1ul << 21)

/* ---- memory ---- */
#define PTE_P 1ul
#define PTE_W 2ul
#define PTE_U 4ul
#define PTE_A 0x20ul
#define PTE_D 0x40ul
#define PTE_PS 0x80ul
#define PTE_G 0x100ul
#define PTE_NX (1ul << 63)
#define PTE_ADDRESS 0x000ffffffffff000ul
#define PAGE 4096ul
#define USER_BASE 0x1000000000ul	/* the guest's image again, for CPL 3 */
uint64_t alloc_page(void);		/* physical, zeroed */
uint64_t alloc_pages(unsigned n, uint64_t align);
/* The entry that maps va at a level (1: 4 KiB, 2: 2 MiB, 3: 1 GiB, 4), in the tables of root; upper levels are made with P, W and U. */
uint64_t *entry_at(uint64_t root, uint64_t va, unsigned level);
uint64_t *entry_of(uint64_t va, unsigned level);	/* in the current tables */
void map_page(uint64_t va, uint64_t pa, uint64_t flags);	/* 4 KiB; flushes */
void unmap_page(uint64_t va);
uint64_t new_root(void);	/* another top table; all share what lies below 512 GiB: the low 4 GiB one to one, and USER_BASE */
static inline volatile uint8_t *bytes_at(uint64_t va) { return (volatile uint8_t *)va; }
static inline volatile uint64_t *word_at(uint64_t va) { return (volatile uint64_t *)va; }

/* ---- local APIC: x2APIC if apic_enable_x2 was called, else the page at fee00000 ---- */
enum { APIC_ID = 0x20, APIC_TPR = 0x80, APIC_PPR = 0xa0, APIC_EOI = 0xb0, APIC_SVR = 0xf0, APIC_ISR = 0x100, APIC_IRR = 0x200, APIC_ICR = 0x300,
       APIC_ICR2 = 0x310, APIC_TIMER = 0x320, APIC_INITIAL = 0x380, APIC_CURRENT = 0x390, APIC_DIVIDE = 0x3e0 };
uint32_t apic_read(unsigned reg);
void apic_write(unsigned reg, uint32_t value);
void apic_enable(void);
void apic_enable_x2(void);
void apic_self(uint8_t vector);	/* an interrupt to ourselves */
bool apic_bit(unsigned reg, unsigned vector);	/* in ISR, IRR */

void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int byte, size_t n);
int memcmp(const void *a, const void *b, size_t n);

#endif
