/*
 * profile.h - what the translator tells a profiler (vm/profile.c): events counted by guest address, and what a host address in
 * generated code belongs to.
 *
 * Nothing is counted unless a profiler attached its structures, and then only where C code runs anyway: generated code is
 * the same with and without. All memory is the profiler's, of fixed size: a table that is full makes room by adding its smaller rows
 * to the row `other`, so whatever is hot stays.
 */
#ifndef BT_PROFILE_H
#define BT_PROFILE_H

#include "base/base.h"

struct vcpu;
struct insn;

enum profile_event {
	PROFILE_REFILL,		/* TLB miss of generated code that the second level served */
	PROFILE_WALK,		/* TLB miss that took a walk */
	PROFILE_STRING,		/* string instruction done by bt/string.c */
	PROFILE_TRANSLATION,	/* a block was made that begins here */
	PROFILE_CODE_WRITE,	/* the store before this instruction hit translated code */
	PROFILE_LEAVE,		/* + enum leave_reason: generated code left to C */
	PROFILE_EVENTS = PROFILE_LEAVE + 7
};
/* For reports; 0 for a column not in use. */
const char *profile_event_name(unsigned event);

#define PROFILE_COLUMNS 12u
/* One cache line; free while all counts are 0. A count stays at its maximum, what is beyond goes to the table's `other`. */
struct profile_row { uint64_t va, space; uint32_t count[PROFILE_COLUMNS]; };
struct profile_table { struct profile_row *row; uint32_t rows; /* a power of two */ uint64_t other[PROFILE_COLUMNS]; };
int profile_table_init(struct profile_table *t, uint32_t rows); /* 0 or -ENOMEM */
void profile_table_free(struct profile_table *t);
/* Not thread-safe; safe in a signal handler if nobody else uses the table. */
void profile_add(struct profile_table *t, uint64_t va, uint64_t space, unsigned column);
uint64_t profile_row_total(const struct profile_row *r);

/*
 * Which address space the vcpu's addresses are of: 0 for the kernel's, else odd: the address of the top page table, and in the bits
 * below it which of the programs that used this table one after the other (`instance`).
 */
#define SPACE_TABLE 0x000fffffffffe000ull /* kernels with page-table isolation have two top tables side by side */
#define SPACE_INSTANCES 4096u
#define SPACE_SLOTS 1024u
static inline unsigned space_slot(uint64_t cr3) { return (unsigned)(cr3 >> 13 ^ cr3 >> 23) % SPACE_SLOTS; }
uint64_t profile_space(const struct vcpu *v);

/* An instruction as the key of a row: bytes 0 to 7 in va; bytes 8 to 14 in space, with the length << 56 and enum insn_mode << 60. Both 0: none. */
struct profile_insn { uint64_t va, space; };

/* Of one vcpu, written by its thread. */
struct bt_vcpu_profile {
	struct profile_table events;	/* columns: enum profile_event */
	struct profile_table insns;	/* what the executor did: rows are struct profile_insn, one column */
	uint64_t cause;			/* instruction that generated code called C for (and will go on at), else 0 */
	struct profile_insn insn;	/* what the executor has */
	bool miss;			/* a miss at `cause` is yet to be counted: refill or walk? */
	uint64_t walks;			/* walks before it */
	uint64_t last_cr3;		/* when user code left last */
	uint16_t instance[SPACE_SLOTS];	/* by space_slot; up to SPACE_INSTANCES - 1 */
	/* Another address space's user code left, with all its state in the vcpu: who is it? May be 0; called as cold code. */
	void (*user)(void *opaque, struct vcpu *v);
	void *opaque;
};

#define BT_COLD_PARTS 16u /* of the code cache */
/* Of a VM; written under memory->lock. */
struct bt_profile {
	struct profile_table killed;	/* blocks dropped because a store hit their code: va and space (0 or 1: user) of the block; one column */
	struct bt_cold { uint32_t start, block; } *cold; /* whose cold code begins where: ascending in each of BT_COLD_PARTS equal parts */
	struct { uint32_t colds, told; } part[BT_COLD_PARTS];
	uint32_t cold_room;
	/* Tells of generated code: `size` bytes at `host`, made for the guest code at va. May be 0; called as cold code (fpu_call_cold). */
	void (*made)(void *opaque, const void *host, uint32_t size, uint64_t va, bool kernel);
	void *opaque;
};
#define BT_COLDS (1u << 19)

/* Before the vcpu runs; 0 detaches. engine_state is that of engine_bt. */
void bt_profile_attach(void *engine_state, struct bt_profile *p);
void bt_profile_attach_vcpu(struct vcpu *v, struct bt_vcpu_profile *p);
/* The fixed pieces at the start of the code cache; 0 if the engine has no state. */
const void *bt_profile_stubs(void *engine_state, uint32_t *size);

/* Has `made` told of what it was not told yet. The vcpus have stopped. */
void bt_profile_tell(void *engine_state);

/* What the vcpu's thread was doing at host address rip. Async-signal-safe, on that thread. */
enum bt_place_kind { BT_PLACE_C, BT_PLACE_CODE, BT_PLACE_COLD, BT_PLACE_STUB };
struct bt_place { enum bt_place_kind kind; uint64_t va, space; };
void bt_profile_place(const struct vcpu *v, uint64_t rip, struct bt_place *out);

#endif
