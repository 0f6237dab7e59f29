/*
 * host_stub.h - runs one guest instruction on the host CPU with the guest's registers loaded.
 *
 * Each vcpu has a stub region of its own (no page is shared between threads):
 *
 *   page 0       data: guest GPRs, flags, jump target, saved host RSP, bounce buffer
 *   page 1       entry and exit code, copied from host_stub_template (host_stub_entry.S)
 *   pages 2..    slots: a re-encoded instruction and a jump to the exit, cached by instruction bytes
 *
 * A memory operand is addressed through one base register that the instruction does not use otherwise. The region is aligned
 * to its size, so the fault handler finds the data page from RIP alone.
 */
#ifndef CPU_HOST_STUB_H
#define CPU_HOST_STUB_H

#include "base/base.h"
#include "x86/insn.h"

struct vcpu;

/* Layout known to host_stub_entry.S. */
struct host_stub_data {
	uint64_t gpr[16];
	uint64_t flags;
	uint64_t target;
	uint64_t host_rsp;
	uint64_t fault;		/* 0, or vector + 1 of the fault that ended the instruction */
	uint64_t odd_rsp, odd_rip; /* where host_stub_resume goes on */
	uint64_t odd_tsc;	/* when it last did */
	uint64_t odd_count;	/* how often in a row, to the same place */
	uint8_t bounce[1024] __attribute__((aligned(64)));
};

#define HOST_STUB_SLOTS 512
#define HOST_STUB_SLOT_SIZE 64
#define HOST_STUB_SIZE (64u << 10)

struct host_stub_key { uint64_t lo, hi; };
struct host_stub {
	struct host_stub_data *data;	/* start of the region */
	uint8_t *code;			/* page 1 */
	uint8_t *slots;
	struct host_stub_key key[HOST_STUB_SLOTS];	/* hi 0: empty */
	bool uses_rsp[HOST_STUB_SLOTS];	/* the instruction names RSP: load the guest's */
	uint8_t base[HOST_STUB_SLOTS];	/* base register of the slot's code, INSN_NO_REG none */
};

int host_stub_create(struct host_stub **out); /* 0 or -errno */
void host_stub_destroy(struct host_stub *s);

enum { HOST_STUB_DONE = -1, HOST_STUB_UNSUPPORTED = -2 };
/*
 * Runs `in` with the memory operand at `operand` (ignored if it has none). Registers and arithmetic flags in v are updated. Returns
 * HOST_STUB_DONE, the vector of the host's fault (v unchanged but for x87/MXCSR status) or HOST_STUB_UNSUPPORTED (no such encoding
 * in 64-bit mode). check_align: run with EFLAGS.AC set. The caller has loaded the FPU state if the instruction needs it.
 */
int host_stub_run(struct vcpu *v, const struct insn *in, void *operand, bool check_align);

/* The same for machine code of the executor's own making (bytes of at most 15, no memory operand or one based on RBX = operand). */
int host_stub_run_code(struct vcpu *v, const uint8_t *code, unsigned len, void *operand);

#endif
