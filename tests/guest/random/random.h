/*
 * random.h - random single instructions of the older modes, run in ring 3 where they can do no harm: what they leave is printed, to be compared with what
 * another processor leaves of the same (tools/against-bochs).
 *
 * The sandbox is 16 KiB at linear 0x40000: the only pages that ring 3 may touch. The first holds code. Cases come in blocks; each block starts from memory
 * that depends on the seed and its number only, so that one block can be run by itself.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum {
	SANDBOX = 0x40000, SANDBOX_SIZE = 0x4000, BLOCK = 64,
	F_CF = 1, F_PF = 4, F_AF = 0x10, F_ZF = 0x40, F_SF = 0x80, F_TF = 0x100, F_IF = 0x200, F_DF = 0x400, F_OF = 0x800, F_NT = 0x4000, F_RF = 0x10000,
	F_VM = 0x20000, F_AC = 0x40000, F_ID = 0x200000,
};

/* What enter_user loads, in the order of POPA and IRET. */
struct frame {
	uint32_t edi, esi, ebp, unused, ebx, edx, ecx, eax;
	uint32_t eip, cs, eflags, esp, ss, es, ds, fs, gs;
};

/* What a trap left. esp..gs of the CPU's own frame mean something only if it came from another ring. */
struct trap {
	uint32_t gs, fs, es, ds;
	uint32_t edi, esi, ebp, kernel_esp, ebx, edx, ecx, eax;
	uint32_t vector, error, eip, cs, eflags, esp, ss, v86_es, v86_ds, v86_fs, v86_gs;
};

enum mode { MODE_V86, MODE_16, MODE_32, MODE_FLAT, MODES };

/* One case. */
struct test {
	enum mode mode;
	struct frame in;
	uint8_t code[16];
	uint32_t undefined; /* flags that the manual leaves undefined after it */
	enum { MEMORY_SAID, MEMORY_UNLESS_FAULT, MEMORY_UNSAID } memory; /* when the manual says what is in memory after it */
	bool pops;	   /* several words, checked one by one or all at once: they are there */
	bool fault_unsaid; /* it may fault for several reasons, in an order that the manual leaves open */
};

/* What the tool writes into the image before it is run. */
struct request { uint32_t magic[2], seed, first, blocks, verbose; };

extern struct trap trap;
extern uint64_t gdt[];
extern uint8_t trap_stubs[], call_target[];
void enter_user(const struct frame *);

/* generate.c */
void random_seed(uint32_t seed);
uint32_t random_u32(void);
void generate(struct test *);
