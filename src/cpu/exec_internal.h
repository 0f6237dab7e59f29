/*
 * exec_internal.h - shared by the parts of the executor (cpu/exec_*.c, control.c, deliver.c, segment.c); nobody else's.
 *
 * A handler gets struct exec, changes the vcpu only when nothing can fault any more, and answers with an exec_op. On OP_DONE
 * the executor moves rip to x->next, which a branch has replaced by its target.
 */
#ifndef CPU_EXEC_INTERNAL_H
#define CPU_EXEC_INTERNAL_H

#include "cpu/access.h"
#include "cpu/cpuid.h"
#include "cpu/exec.h"
#include "cpu/personality.h"
#include "cpu/svm_ops.h"

typedef enum exec_op exec_handler(struct exec *x);

/* EXIT_UNSUPPORTED naming the instruction and rip. Always OP_STOP. */
enum exec_op exec_unsupported(struct exec *x, const char *what);

/* exec_step's memory of decoded instructions; one a vcpu. 0 or -errno. */
int exec_cache_create(struct exec_cache **out);
void exec_cache_destroy(struct exec_cache *c);

static inline enum exec_op exec_of(enum vmem_status st)
{
	return st == VMEM_OK ? OP_DONE : st == VMEM_FAULT ? OP_FAULT : OP_STOP;
}

/* General registers by operand size; 4-byte writes clear the upper half, 1-byte ones mean AL..R15B (no AH..BH). */
static inline uint64_t size_mask(unsigned size) { return size == 8 ? ~0ull : (1ull << (8 * size)) - 1; }
static inline uint64_t gpr_get(const struct vcpu *v, unsigned r, unsigned size) { return v->gpr[r] & size_mask(size); }
static inline void gpr_set(struct vcpu *v, unsigned r, uint64_t value, unsigned size)
{
	if (size >= 4)
		v->gpr[r] = value & size_mask(size);
	else
		v->gpr[r] = (v->gpr[r] & ~size_mask(size)) | (value & size_mask(size));
}
static inline int64_t sign_extend(uint64_t value, unsigned size)
{
	return (int64_t)(value << (64 - 8 * size)) >> (64 - 8 * size);
}

/* What the time-stamp counter reads as. AMD APM vol. 2, "TSC Ratio MSR": in guest mode it is scaled, then offset. */
uint64_t exec_read_tsc(const struct vcpu *v);

/* Offset of the memory operand, cut to the address size. */
static inline uint64_t exec_ea(const struct exec *x)
{
	const struct insn_mem *m = &x->in->mem;
	uint64_t ea = (uint64_t)m->disp;

	if (m->base == INSN_BASE_RIP)
		ea += x->next;
	else if (m->base != INSN_NO_REG)
		ea += x->v->gpr[m->base];
	if (m->index != INSN_NO_REG)
		ea += x->v->gpr[m->index] * m->scale;
	return ea & size_mask(x->in->addrsize);
}

/*
 * Limit and type checks of a segment (AMD APM vol. 2, "Segment Limit Checks", "Data-Access and Stack-Access checks"); paragraphs: as in real
 * and virtual-8086 mode, where only the limit counts. Not for 64-bit mode. False: the access is denied.
 */
bool segment_linear(const struct segment *s, bool paragraphs, uint64_t ea, unsigned len, bool write, uint64_t *la);
/* Linear address of seg:ea for an access of len bytes. False: x->exc says which limit or type check failed (not in 64-bit mode). */
bool exec_linear_legacy(struct exec *x, unsigned seg, uint64_t ea, unsigned len, bool write, uint64_t *la);
static inline bool exec_linear(struct exec *x, unsigned seg, uint64_t ea, unsigned len, bool write, uint64_t *la)
{
	if (LIKELY(vcpu_long64(x->v))) {
		*la = seg == SEG_FS || seg == SEG_GS ? ea + x->v->seg[seg].base : ea;
		return true;
	}
	return exec_linear_legacy(x, seg, ea, len, write, la);
}

/* Flags of a data access through seg at the present CPL. */
static inline unsigned exec_acc(const struct exec *x, unsigned seg)
{
	return vmem_data(x->v) | (seg == SEG_SS ? VMEM_STACK : 0);
}

/* Reads and writes of the memory operand (or of seg:ea), as integers. */
enum exec_op exec_read_mem(struct exec *x, unsigned seg, uint64_t ea, uint64_t *value, unsigned size);
enum exec_op exec_write_mem(struct exec *x, unsigned seg, uint64_t ea, uint64_t value, unsigned size);
enum exec_op exec_read_bytes(struct exec *x, unsigned seg, uint64_t ea, void *buf, unsigned len);
/* The memory operand as offset (width bytes) and selector. */
enum exec_op exec_read_far_pointer(struct exec *x, unsigned width, uint64_t *offset, uint16_t *selector);
enum exec_op exec_write_bytes(struct exec *x, unsigned seg, uint64_t ea, const void *buf, unsigned len);

/*
 * The stack as the mode has it. A cursor starts at RSP; pushes and pops move the cursor only; stack_commit sets RSP.
 */
struct stack { uint64_t sp; unsigned size; /* bytes of the stack pointer: 2, 4, 8 */ };
void stack_open(const struct exec *x, struct stack *s);
enum exec_op stack_push(struct exec *x, struct stack *s, uint64_t value, unsigned size);
enum exec_op stack_pop(struct exec *x, struct stack *s, uint64_t *value, unsigned size);
void stack_commit(struct exec *x, const struct stack *s);

/* A near branch target in the current mode: false if it must #GP(0) (exc set). */
bool exec_branch_target(struct exec *x, uint64_t target);

exec_handler bare_syscall; /* exec_syscall.c */

/* segment.c (personality.h has the rest) */
static inline bool segment_is_code(const struct segment *s) { return (s->attr & (SEG_S | 8)) == (SEG_S | 8); }
static inline bool segment_is_conforming(const struct segment *s) { return s->attr & 4; }
static inline bool segment_is_long64(const struct vcpu *v, const struct segment *s)
{
	return vcpu_long(v) && (s->attr & (SEG_L | SEG_DB)) == SEG_L;
}
/* As segment_load, through a descriptor; faults other than that the segment is not present have this vector, and ext in their error code. */
enum exec_op segment_load_descriptor(struct exec *x, unsigned seg, uint16_t selector, uint8_t vector, uint32_t ext);
/* A paragraph: real mode changes the base only (limit and size stay: "unreal mode"), virtual-8086 mode sets all. CS too. */
void segment_load_paragraph(struct vcpu *v, unsigned seg, uint16_t selector);

/*
 * A stack that is not current yet: where a gate to more privilege, or a new task, pushes. Faults carry ext in their error code.
 */
struct inner_stack { struct segment ss; struct stack s; unsigned cpl; uint32_t ext; };
/* From the TSS (16- or 32-bit), for privilege cpl. */
enum exec_op inner_stack_open(struct exec *x, unsigned cpl, uint32_t ext, struct inner_stack *out);
enum exec_op inner_stack_push(struct exec *x, struct inner_stack *in, uint64_t value, unsigned size);
/* SS and RSP become this; CPL is the caller's. */
void inner_stack_commit(struct exec *x, const struct inner_stack *in);

/* exec_far_legacy.c: far transfers outside long mode. */
enum exec_op far_paragraph(struct exec *x, uint16_t selector, uint64_t rip, unsigned size, bool call);
/* JMP and CALL to a gate or TSS; low is its descriptor. */
enum exec_op far_system(struct exec *x, uint16_t selector, uint64_t low, bool call);
enum exec_op far_return_paragraph(struct exec *x, bool iret);
enum exec_op iret_to_vm86(struct exec *x, struct stack *s, uint64_t rip, uint16_t cs, uint64_t flags);
/* CS:rip at privilege cpl; rip was checked. */
void far_set_cs(struct exec *x, const struct segment *cs, uint16_t selector, unsigned cpl);
enum exec_op far_push_link(struct exec *x, unsigned size);

/* task.c */
/*
 * A hardware task switch (AMD APM vol. 2, "Hardware Task-Management"; Intel SDM vol. 3, "Task Management"); not in long mode. selector: of the
 * TSS; rip: what the old task goes on with. OP_EVENT: the new task is current. OP_FAULT: at the old rip before, at the new one after the
 * point of no return, with v->rip as it should be.
 */
enum exec_op task_switch(struct exec *x, enum task_reason why, uint16_t selector, uint32_t ext, uint64_t rip, bool has_error, uint32_t error);
/* The TSS behind a task gate. */
enum exec_op task_gate(struct exec *x, enum task_reason why, uint64_t gate, uint32_t ext, uint64_t rip, bool has_error, uint32_t error);

/* deliver.c: by the vcpu's personality. */
enum { ERR_EXT = 1, ERR_IDT = 2 }; /* error codes ("Selector-Error Code") */
enum exec_op deliver_event(struct exec *x, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error, uint64_t rip, uint64_t rflags);
/* deliver_legacy.c: the same outside long mode: the vectors of real mode, 16- and 32-bit gates, task gates. */
enum exec_op deliver_legacy(struct exec *x, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error, uint64_t rip, uint64_t rflags);

/* control.c: writes with all checks. OP_DONE or OP_FAULT. */
enum exec_op control_write_cr(struct exec *x, unsigned cr, uint64_t value);
bool control_write_efer(struct vcpu *v, uint64_t value); /* false: #GP */
void control_task_switched(struct vcpu *v, bool with_cr3, uint64_t cr3); /* sets CR0.TS; with_cr3: a new CR3 */

/* Handlers, by file. */
exec_handler op_plain, op_bt_mem, op_nop, op_invalid, op_too_long;			/* exec_plain.c */
exec_handler op_jcc, op_jmp, op_jmp_ind, op_call, op_call_ind, op_ret, op_loop;		/* exec_branch.c */
exec_handler op_jmp_far, op_call_far, op_ret_far, op_iret;				/* exec_far.c */
exec_handler op_int, op_int1, op_int3, op_into, op_bound;				/* exec_branch.c */
exec_handler op_syscall, op_sysret, op_sysenter, op_sysexit, op_swapgs;			/* exec_syscall.c */
exec_handler op_push, op_pop, op_pushf, op_popf, op_enter, op_leave, op_pusha, op_popa;	/* exec_stack.c */
exec_handler op_movs, op_stos, op_lods, op_cmps, op_scas, op_ins, op_outs, op_xlat;	/* exec_string.c */
exec_handler op_gather, op_maskmov, op_vmaskmov, op_cache, op_movdir64b;		/* exec_vector.c */
exec_handler op_cli, op_sti, op_cld, op_std, op_clac, op_stac;				/* exec_system.c */
exec_handler op_cpuid, op_rdtsc, op_rdtscp, op_rdpmc, op_rdpid, op_rdmsr, op_wrmsr, op_fsgsbase; /* exec_system.c */
exec_handler op_hlt, op_invd, op_invlpg, op_invpcid, op_vmcall, op_svm, op_monitor;		/* exec_system.c */
exec_handler op_mov_from_cr, op_mov_to_cr, op_mov_from_dr, op_mov_to_dr, op_clts, op_lmsw, op_smsw; /* control.c */
exec_handler op_store_table, op_load_table, op_sldt_str, op_lldt, op_ltr, op_lar_lsl, op_verr_verw, op_arpl; /* exec_segment.c */
exec_handler op_mov_from_seg, op_mov_to_seg, op_load_far;				/* exec_segment.c */
exec_handler op_in, op_out;								/* exec_string.c */
exec_handler op_bcd;									/* exec_bcd.c */
exec_handler op_xgetbv, op_xsetbv, op_xsave, op_xrstor, op_fxsave, op_fxrstor, op_fpu_env; /* exec_fpu.c */

#endif
