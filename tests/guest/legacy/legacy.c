/*
 * legacy.c - a 32-bit multiboot kernel that goes through the processor's older modes: flat and other segments, 32-bit paging with large pages, PAE, virtual-8086
 * mode, a task switch, real mode by way of 16-bit protected mode, and 64-bit mode and back. It proves that mode changes keep what they should,
 * and that the same code does the same in the translator and in the executor.
 */
#include <stdbool.h>
#include <stdint.h>

static inline void outb(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static void print(const char *s) { for (; *s; s++) outb(0x3f8, (uint8_t)*s); }
static void print_hex(uint32_t v)
{
	for (int i = 28; i >= 0; i -= 4)
		outb(0x3f8, (uint8_t)"0123456789abcdef"[v >> i & 15]);
}

static bool failed;
static void check(bool ok, const char *what, uint32_t is)
{
	if (ok)
		return;
	failed = true;
	print("       is not so: ");
	print(what);
	print(" (");
	print_hex(is);
	print(")\n");
}
#define EQ(a, b) check((uint32_t)(a) == (uint32_t)(b), #a " == " #b, (uint32_t)(a))

extern struct { uint32_t vector, error, eip, cs, eflags, esp, ss, es, ds, fs, gs; } trap;
extern uint64_t gdt[];
extern uint32_t tss[26], tss2[26];
extern uint8_t trap_stubs[], real_begin[], real_end[];
extern const uint32_t vm86_at;
bool protect(void (*code)(void));
void enter_vm86(const uint32_t frame[9]);
uint32_t run_long(uint32_t pml4);
uint32_t run_real(void);

static uint64_t idt[49];
static uint32_t directory[1024] __attribute__((aligned(4096))), table[1024] __attribute__((aligned(4096)));
static uint64_t pdpt[4] __attribute__((aligned(32))), pd[4][512] __attribute__((aligned(4096))), pml4[512] __attribute__((aligned(4096)));
static volatile uint32_t *const probe = (volatile uint32_t *)0x405000;

static uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t attr)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xff) << 40 | (uint64_t)(limit >> 16 & 15) << 48 |
	       (uint64_t)(attr >> 8) << 52 | (uint64_t)(base >> 24) << 56;
}

static void set_up(void)
{
	struct { uint16_t limit; uint32_t base; } __attribute__((packed)) pointer = { sizeof(idt) - 1, (uint32_t)idt };

	for (uint32_t i = 0; i < 49; i++) {
		const uint32_t at = (uint32_t)trap_stubs + 16 * i;

		idt[i] = (at & 0xffff) | 0x08 << 16 | (uint64_t)0xee00 << 32 | (uint64_t)(at & 0xffff0000) << 32;
	}
	__asm__ volatile("lidt %0" : : "m"(pointer));
	tss[2] = 0x10;
	gdt[7] = descriptor((uint32_t)tss, 103, 0x89);
	gdt[8] = descriptor((uint32_t)tss2, 103, 0x89);
	__asm__ volatile("ltr %w0" : : "r"(0x38));
}

/* ---- segments ---- */
static void beyond(void) { __asm__ volatile("mov %0, %%fs; mov %%fs:0xffd, %%eax" : : "r"(0x30) : "eax"); }
static void code_is_no_data(void) { __asm__ volatile("movl $1, %%cs:0x100000" : : : "memory"); }

static void segments(void)
{
	uint32_t a, b;

	gdt[6] = descriptor((uint32_t)table, 0xfff, 0x493);
	table[5] = 0x11223344;
	table[1023] = 0x55667788;
	__asm__ volatile("mov %2, %%fs; mov %%fs:20, %0; mov %%fs:0xffc, %1; mov %3, %%fs" : "=&r"(a), "=&r"(b) : "r"(0x30), "r"(0x10));
	EQ(a, 0x11223344);
	EQ(b, 0x55667788);
	EQ(protect(beyond), true);
	EQ(trap.vector, 13);
	EQ(protect(code_is_no_data), true);
	EQ(trap.vector, 13);
	__asm__ volatile("mov %0, %%fs" : : "r"(0x10));
	__asm__ volatile("mov %1, %%es; mov %2, %%ds; movl (%%esi), %%eax; stosl; mov %3, %%es; mov %3, %%ds"
			 : "=&a"(a) : "r"(0x30), "r"(0x30), "r"(0x10), "S"(20), "D"(40) : "memory");
	EQ(table[10], 0x11223344);
}

/* ---- paging ---- */
static inline void set_cr3(uint32_t v) { __asm__ volatile("mov %0, %%cr3" : : "r"(v) : "memory"); }
static inline void invlpg(const volatile void *p) { __asm__ volatile("invlpg (%0)" : : "r"(p) : "memory"); }
static inline uint32_t cr2(void) { uint32_t v; __asm__ volatile("mov %%cr2, %0" : "=r"(v)); return v; }
static void paging_on(uint32_t cr4)
{
	uint32_t v;

	__asm__ volatile("mov %1, %%cr4; mov %%cr0, %0; or $0x80010000, %0; mov %0, %%cr0; jmp 1f; 1:" : "=&r"(v) : "r"(cr4) : "memory");
}
static void paging_off(void)
{
	uint32_t v;

	__asm__ volatile("mov %%cr0, %0; and $0x7ffeffff, %0; mov %0, %%cr0; xor %0, %0; mov %0, %%cr4" : "=&r"(v) : : "memory");
}
static void probe_read(void) { (void)*probe; }
static void probe_write(void) { *probe = 0x77; }

static void paging_32(void)
{
	for (uint32_t i = 0; i < 1024; i++) {
		directory[i] = i << 22 | 0x83;
		table[i] = (0x400000 + (i << 12)) | 3;
	}
	directory[1] = (uint32_t)table | 3;
	table[5] = 0x406000 | 3; /* the probe's page is elsewhere */
	*(volatile uint32_t *)0x406000 = 0xabcd;
	set_cr3((uint32_t)directory);
	paging_on(0x10);
	EQ(*probe, 0xabcd);
	EQ(table[5] & 0x60, 0x20);
	*probe = 0x1234;
	EQ(table[5] & 0x60, 0x60);
	EQ(directory[2] & 0x60, 0);
	*(volatile uint32_t *)0x800000 = 1;
	EQ(directory[2] & 0x60, 0x60);
	table[5] &= ~2u;
	invlpg(probe);
	EQ(protect(probe_write), true);
	EQ(trap.vector, 14);
	EQ(trap.error, 3);
	EQ(cr2(), probe);
	table[5] = 0;
	invlpg(probe);
	EQ(protect(probe_read), true);
	EQ(trap.error, 0);
	paging_off();
	EQ(*(volatile uint32_t *)0x406000, 0x1234);
}

static void paging_pae(void)
{
	for (uint32_t i = 0; i < 4; i++) {
		pdpt[i] = (uint32_t)pd[i] | 1;
		for (uint32_t k = 0; k < 512; k++)
			pd[i][k] = (uint64_t)(i << 30 | k << 21) | 0x83;
	}
	pd[2][1] = 0x400000 | 0x83; /* 0x80200000 is 4 MiB */
	set_cr3((uint32_t)pdpt);
	paging_on(0x20);
	*(volatile uint32_t *)0x405000 = 0x600d;
	EQ(*(volatile uint32_t *)0x80205000, 0x600d);
	EQ(pd[2][1] & 0x60, 0x20);
	pd[0][2] = 0;
	invlpg(probe);
	EQ(protect(probe_read), true);
	EQ(trap.error, 0);
	EQ(cr2(), probe);
	paging_off();
}

static void long_mode(void)
{
	for (uint32_t k = 0; k < 512; k++)
		pd[0][k] = (uint64_t)(k << 21) | 0x83;
	*(uint64_t *)table = 0; /* a page-directory-pointer table of 64-bit paging */
	for (uint32_t i = 0; i < 1024; i++)
		table[i] = 0;
	table[0] = (uint32_t)pd[0] | 3;
	pml4[0] = (uint32_t)table | 3;
	for (int i = 0; i < 100; i++)
		EQ(run_long((uint32_t)pml4), 0x2468acf1); /* 0x246 8acf 12 >> 4 */
}

/* ---- older modes ---- */
static void copy_real(void)
{
	for (uint32_t i = 0; i < (uint32_t)(real_end - real_begin); i++)
		((volatile uint8_t *)0x8000)[i] = real_begin[i];
}

static void real_mode(void)
{
	copy_real();
	for (int i = 0; i < 20; i++)
		EQ(run_real(), 0x55aa7947); /* the word that wrapped; 7 * 3 + 100; 19 + 28 in decimal */
}

static void vm86(void)
{
	uint32_t frame[9] = { vm86_at, 0x800, 0x23002, 0x1000, 0x900, 0x900, 0x900, 0, 0 };

	copy_real();
	*(volatile uint16_t *)0x9040 = 41;
	*(volatile uint16_t *)0x9300 = 0;
	enter_vm86(frame); /* IOPL 3: runs to its INT 30h, which goes through the protected-mode IDT */
	EQ(trap.vector, 0x30);
	EQ(trap.cs, 0x800);
	EQ(trap.eflags & 0x23000, 0x23000);
	EQ(trap.ds & 0xffff, 0x900);
	EQ(trap.eip, real_end - real_begin);
	EQ(*(volatile uint16_t *)0x9040, 42);
	EQ(*(volatile uint16_t *)0x9300, 0x800);
	frame[2] = 0x20002; /* IOPL 0: PUSHF may not */
	enter_vm86(frame);
	EQ(trap.vector, 13);
	EQ(trap.error, 0);
	EQ(((volatile uint8_t *)0x8000)[trap.eip], 0x9c);
}

/* ---- tasks ---- */
static volatile uint32_t task_ran;
static void task_code(void)
{
	for (;;) {
		task_ran++;
		__asm__ volatile("iret");
	}
}

static void tasks(void)
{
	static uint32_t stack[256];

	for (int i = 0; i < 26; i++)
		tss2[i] = 0;
	tss2[8] = (uint32_t)task_code;
	tss2[9] = 2;
	tss2[14] = (uint32_t)&stack[250];
	tss2[18] = tss2[20] = tss2[21] = tss2[22] = tss2[23] = 0x10;
	tss2[19] = 0x08;
	task_ran = 0;
	for (int i = 0; i < 3; i++)
		__asm__ volatile("lcall $0x40, $0" : : : "memory");
	EQ(task_ran, 3);
	EQ(gdt[8] >> 40 & 0xff, 0x89);
	EQ(gdt[7] >> 40 & 0xff, 0x8b);
}

/* Enough of the usual, many times over: calls, stack, strings, flags. */
static uint32_t fib(uint32_t n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static void plain_code(void)
{
	uint32_t sum = 0, n = 1000, eax;

	EQ(fib(20), 6765);
	__asm__ volatile("1: add %1, %0; adc $0, %0; pusha; popa; pushl %0; popl %0; loop 1b" : "+r"(sum), "+c"(n));
	EQ(sum, 500500);
	__asm__ volatile("mov $0x0109, %%ax; aaa; mov $0x35, %%al; aam; aad; das" : "=a"(eax));
	EQ(eax & 0xff, 0x35);
}

static const struct { const char *sentence; void (*run)(void); } tests[] = {
	{ "flat 32-bit code runs", plain_code },
	{ "segments are checked against their limits and types, and add their bases", segments },
	{ "32-bit paging with pages of 4 KiB and 4 MiB translates, faults, and sets accessed and dirty bits", paging_32 },
	{ "PAE paging translates and faults", paging_pae },
	{ "64-bit mode is entered and left", long_mode },
	{ "real mode is entered by way of 16-bit protected mode and left", real_mode },
	{ "virtual-8086 mode runs, and its interrupts and faults come to protected mode", vm86 },
	{ "tasks are switched by CALL and IRET", tasks },
	{ "flat 32-bit code still runs", plain_code },
};

void guest_main(uint32_t magic, const uint32_t *info);
void guest_main(uint32_t magic, const uint32_t *info)
{
	bool any = false;

	EQ(magic, 0x2badb002);
	EQ(info[0] & 0x4d, 0x4d);
	any = failed;
	set_up();
	for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		failed = false;
		tests[i].run();
		print(failed ? "FAILED " : "ok     ");
		print(tests[i].sentence);
		print("\n");
		any |= failed;
	}
	outb(0xf4, any ? 0x2b : 0x2a);
}
