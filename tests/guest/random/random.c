/* random.c - sets up tables and ring 3, runs the cases, prints what they leave (random.h). */
#include "random.h"

static inline void outb(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline uint8_t inb(uint16_t port) { uint8_t v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }

static void print(const char *s)
{
	for (; *s; s++) {
		while (!(inb(0x3fd) & 0x20))
			;
		outb(0x3f8, (uint8_t)*s);
	}
}

static void print_hex(const char *name, uint32_t v)
{
	char s[10] = { 0 };

	for (int i = 0; i < 8; i++)
		s[i] = "0123456789abcdef"[v >> (28 - 4 * i) & 15];
	print(name);
	print(s);
}

struct request request = { { 0x46495254, 0x3f444c4f }, 1, 0, 4, 0 };

static uint64_t idt[33], ldt[4];
static uint32_t tss[26] __attribute__((aligned(128)));
static uint32_t directory[1024] __attribute__((aligned(4096))), table[1024] __attribute__((aligned(4096)));
static uint32_t *const sandbox = (uint32_t *)0x300000; /* its frames, as the kernel sees them */

static uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t attr)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xff) << 40 | (uint64_t)(limit >> 16 & 15) << 48 |
	       (uint64_t)(attr >> 8) << 52 | (uint64_t)(base >> 24) << 56;
}

static void fill_tables(void)
{
	gdt[3] = descriptor((uint32_t)tss, 103, 0x89);
	gdt[4] = descriptor((uint32_t)ldt, sizeof(ldt) - 1, 0x82);
	gdt[5] = descriptor(SANDBOX, 0xffff, 0x0fb);		   /* code, 16 bits */
	gdt[6] = descriptor(SANDBOX, 0x3fff, 0x4fb);		   /* code, 32 bits */
	gdt[7] = descriptor(SANDBOX, 0xffff, 0x0f3);		   /* data, 16 bits */
	gdt[8] = descriptor(0, 0xfffff, 0xcf3);			   /* flat */
	gdt[9] = descriptor(SANDBOX, 0x3, 0xcf3);		   /* data, 32 bits, pages */
	gdt[10] = descriptor(SANDBOX + 0x1000, 0x0fff, 0x4f3);	   /* small */
	gdt[11] = descriptor(SANDBOX, 0x0fff, 0x4f7);		   /* expands down, 32 bits */
	gdt[12] = descriptor(SANDBOX, 0x1fff, 0x0f7);		   /* expands down, 16 bits */
	gdt[13] = descriptor(SANDBOX, 0xffff, 0x0f1);		   /* data, not writable */
	gdt[14] = descriptor(0, 0xfffff, 0xcfb);		   /* flat code */
	gdt[15] = descriptor(SANDBOX, 0xffff, 0x4f9);		   /* code, not readable */
	gdt[16] = descriptor(SANDBOX, 0xffff, 0x4ff);		   /* code, conforming */
	gdt[17] = descriptor(SANDBOX, 0xffff, 0x473);		   /* absent */
	gdt[18] = descriptor(SANDBOX, 0xffff, 0x4b3);		   /* data of ring 1 */
	gdt[19] = descriptor(SANDBOX, 0xffff, 0x49f);		   /* code, conforming, ring 0 */
	gdt[20] = ((uint32_t)call_target & 0xffff) | 0x08 << 16 | (uint64_t)0xec02 << 32 | (uint64_t)((uint32_t)call_target >> 16) << 48; /* a call gate */
	gdt[21] = descriptor(SANDBOX, 0x3fff, 0x4f2);		   /* data, not accessed yet */
	gdt[22] = descriptor(SANDBOX, 0xffff, 0x4fe);		   /* code, conforming, not accessed yet */
	ldt[0] = descriptor(SANDBOX, 0xffff, 0x0fb);
	ldt[1] = descriptor(SANDBOX + 0x800, 0x1fff, 0x4f3);
	ldt[2] = descriptor(SANDBOX, 0x2000, 0x4fb);
}

static void set_up(void)
{
	struct { uint16_t limit; uint32_t base; } __attribute__((packed)) pointer = { sizeof(idt) - 1, (uint32_t)idt };
	uint32_t v;

	outb(0x3fb, 3); /* bytes of 8 bits */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	for (uint32_t i = 0; i < 33; i++) {
		const uint32_t at = (uint32_t)trap_stubs + 16 * i;

		idt[i] = (at & 0xffff) | 0x08 << 16 | (uint64_t)(i == 3 || i == 4 ? 0xee00 : 0x8e00) << 32 | (uint64_t)(at & 0xffff0000) << 32;
	}
	__asm__ volatile("lidt %0" : : "m"(pointer));
	fill_tables();
	static uint32_t stack[256];
	tss[1] = (uint32_t)&stack[250];
	tss[2] = 0x10;
	tss[25] = 104 << 16;
	__asm__ volatile("ltr %w0" : : "r"(0x18));
	__asm__ volatile("lldt %w0" : : "r"(0x20));
	for (uint32_t i = 0; i < 1024; i++)
		table[i] = i << 12 | 3;
	for (uint32_t i = 0; i < SANDBOX_SIZE >> 12; i++)
		table[(SANDBOX >> 12) + i] = ((uint32_t)sandbox + (i << 12)) | 7;
	directory[0] = (uint32_t)table | 7;
	__asm__ volatile("mov %0, %%cr3" : : "r"(directory) : "memory");
	__asm__ volatile("mov %0, %%cr4" : : "r"(4)); /* TSD: clocks differ */
	__asm__ volatile("mov %%cr0, %0; or $0x80050024, %0; and $0x9ffffff7, %0; mov %0, %%cr0; jmp 1f; 1:" : "=&r"(v) : : "memory"); /* PG, AM, WP, NE, EM */
}

static uint32_t hash;
static void mix(uint32_t v)
{
	hash = (hash ^ v) * 0x01000193;
	hash ^= hash >> 15;
}

static void fill_memory(void)
{
	for (uint32_t i = 0; i < SANDBOX_SIZE / 4; i++)
		sandbox[i] = i < 1024 ? 0xcccccccc : i * 0x9e3779b9 + request.seed;
}

static uint32_t memory_sum(void)
{
	uint32_t a = 0;

	for (uint32_t i = 0; i < SANDBOX_SIZE / 4; i++)
		a = (a << 5) - a + sandbox[i];
	return a;
}

/* general: as POPA has them; control: eip, cs, eflags, esp, ss; data: es, ds, fs, gs. */
static void print_registers(const uint32_t *general, const uint32_t *control, uint32_t flags, const uint32_t *data)
{
	static const char *const general_names[] = { " edi=", " esi=", " ebp=", 0, " ebx=", " edx=", " ecx=", " eax=" };
	static const char *const control_names[] = { " eip=", " cs=", " eflags=", " esp=", " ss=" };
	static const char *const data_names[] = { " es=", " ds=", " fs=", " gs=" };

	for (int i = 7; i >= 0; i--)
		if (general_names[i])
			print_hex(general_names[i], general[i]);
	for (int i = 0; i < 5; i++)
		print_hex(control_names[i], i == 2 ? flags : control[i]);
	for (int i = 0; i < 4; i++)
		print_hex(data_names[i], data[i]);
}

static void print_case(uint32_t block, uint32_t number, const struct test *t, uint32_t fault_address, uint32_t memory, uint32_t flags)
{
	static const char *const modes[] = { "v86", "16", "32", "flat" };

	print_hex("case ", block);
	print_hex(".", number);
	print(" ");
	print(modes[t->mode]);
	print(" code");
	for (int i = 0; i < 16; i += 4)
		print_hex(" ", __builtin_bswap32(*(const uint32_t *)&t->code[i]));
	print("\n  in ");
	print_registers(&t->in.edi, &t->in.eip, t->in.eflags, &t->in.es);
	print("\n  out");
	print_registers(&trap.edi, &trap.eip, flags, (const uint32_t[]){ trap.es, trap.ds, trap.fs, trap.gs });
	print_hex(" vector=", trap.vector);
	print_hex(" error=", trap.error);
	print_hex(" address=", fault_address);
	print_hex(" memory=", memory);
	print_hex(" undefined=", t->undefined);
	print("\n");
}

static void run_case(uint32_t block, uint32_t number, struct test *t)
{
	uint32_t address = 0, memory, flags;
	uint8_t *code = (uint8_t *)sandbox;

	for (uint32_t i = 0; i < 1024; i++)
		sandbox[i] = 0xcccccccc;
	generate(t);
	for (uint32_t i = 0, at = t->in.eip & (SANDBOX_SIZE - 1); i < sizeof(t->code); i++)
		code[at + i] = t->code[i];
	enter_user(&t->in);
	if (trap.vector == 14) { /* the page: of an operand's two parts, which one is read first is not said */
		__asm__ volatile("mov %%cr2, %0" : "=r"(address));
		address &= ~0xfffu;
	}
	if (t->in.eflags & F_VM && trap.eflags & F_VM) {
		trap.es = trap.v86_es;
		trap.ds = trap.v86_ds;
		trap.fs = trap.v86_fs;
		trap.gs = trap.v86_gs;
	}
	if (t->mode == MODE_FLAT && trap.vector == 14 && address == 0xfffff000) { /* beyond 4 GiB: whether the limit or the page table stops it is not said */
		trap.vector = 13;
		trap.error = address = 0;
	}
	if (t->fault_unsaid && trap.vector != 1 && trap.vector != 3)
		trap.vector = trap.error = address = 0;
	if (!(trap.cs & 3) && !(trap.eflags & F_VM))
		trap.esp = trap.ss = 0; /* by a gate: its frame has none */
	trap.ss &= 0xffff;
	trap.cs &= 0xffff;
	trap.es &= 0xffff;
	trap.ds &= 0xffff;
	trap.fs &= 0xffff;
	trap.gs &= 0xffff;
	flags = trap.eflags & ~(F_RF | (trap.vector == 1 || trap.vector == 3 ? t->undefined : 0));
	if (t->memory == MEMORY_UNSAID || (t->memory == MEMORY_UNLESS_FAULT && trap.vector != 1 && trap.vector != 3))
		fill_memory();
	memory = memory_sum();
	for (const uint32_t *p = &trap.gs; p <= &trap.eip; p++)
		if (p != &trap.kernel_esp)
			mix(*p);
	mix(trap.cs);
	mix(flags);
	mix(trap.esp);
	mix(trap.ss);
	mix(address);
	mix(memory);
	if (request.verbose)
		print_case(block, number, t, address, memory, flags);
	__asm__ volatile("lldt %w0" : : "r"(0x20));
}

void guest_main(void);
void guest_main(void)
{
	struct test t;

	set_up();
	for (uint32_t block = request.first; block < request.first + request.blocks; block++) {
		fill_tables();
		gdt[3] = descriptor((uint32_t)tss, 103, 0x8b);
		random_seed(request.seed * 1000003 + block);
		fill_memory();
		hash = 0;
		for (uint32_t i = 0; i < BLOCK; i++)
			run_case(block, i, &t);
		print_hex("block ", block);
		print_hex(" ", hash);
		print("\n");
	}
	print("done\n");
	while (!(inb(0x3fd) & 0x40)) /* all of it is out */
		;
	outb(0xf4, 0x2a);
	for (const char *s = "Shutdown"; *s; s++) /* Bochs ends by that */
		outb(0x8900, (uint8_t)*s);
}
