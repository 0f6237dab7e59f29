/* host_stub.c - single guest instructions on the host CPU (host_stub.h). */
#include "cpu/host_stub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "cpu/host_fault.h"
#include "cpu/vcpu.h"

extern const uint8_t host_stub_template[], host_stub_exit[], host_stub_resume[], host_stub_template_end[];

#define CODE_OFFSET 4096u
#define SLOTS_OFFSET 8192u
_Static_assert(INSN_EMIT_MAX + 5 <= HOST_STUB_SLOT_SIZE, "an instruction and the jump fit");
_Static_assert(SLOTS_OFFSET + HOST_STUB_SLOTS * HOST_STUB_SLOT_SIZE <= HOST_STUB_SIZE, "slots fit");
_Static_assert(offsetof(struct host_stub_data, host_rsp) == 144 && offsetof(struct host_stub_data, odd_rsp) == 160,
	       "known to host_stub_entry.S");

#define KEY_LEN_SHIFT 56
#define KEY_OWN_CODE (1ull << 63)

static uint8_t *exit_point(const uint8_t *code)
{
	return (uint8_t *)code + (host_stub_exit - host_stub_template);
}

/*
 * Linux cannot return to an RSP that is not canonical (IRET faults on AMD): then any interrupt of the host ends in SIGSEGV, with the number
 * of some earlier trap, wherever the code was. It goes on through host_stub_resume. A fault of the instruction itself comes
 * again at once, and counts then.
 */
#define ODD_WINDOW 200000 /* TSC ticks: longer than a signal takes to come back, shorter than between two interrupts, mostly */
#define ODD_REPEATS 2 /* so often must it come back */

static bool resume_odd_stack(struct host_stub_data *data, uint8_t *code, greg_t *g)
{
	uint64_t rip = (uint64_t)g[REG_RIP], now = __builtin_ia32_rdtsc();
	uint64_t resume = (uint64_t)(uintptr_t)code + (uint64_t)(host_stub_resume - host_stub_template);

	if (host_canonical((uint64_t)g[REG_RSP]))
		return false;
	data->odd_count = rip == data->odd_rip && now - data->odd_tsc < ODD_WINDOW ? data->odd_count + 1 : 0;
	data->odd_tsc = now;
	if (data->odd_count >= ODD_REPEATS)
		return false;
	if (rip < resume || rip >= (uint64_t)(uintptr_t)code + (uint64_t)(host_stub_template_end - host_stub_template)) {
		data->odd_rsp = (uint64_t)g[REG_RSP];
		data->odd_rip = rip;
	}
	g[REG_RSP] = (greg_t)data->host_rsp;
	g[REG_RIP] = (greg_t)resume;
	return true;
}

/* A fault inside a slot: note the vector and leave through the exit code; registers are stored but not taken over. */
static bool on_host_fault(ucontext_t *uc, int signo, siginfo_t *info, int trapno)
{
	uintptr_t rip = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
	uint8_t *region = (uint8_t *)ALIGN_DOWN(rip, HOST_STUB_SIZE);
	struct host_stub_data *data = (struct host_stub_data *)region;

	(void)info;
	if (signo == SIGSEGV && resume_odd_stack(data, region + CODE_OFFSET, uc->uc_mcontext.gregs))
		return true;
	/* The number of an earlier trap: some hosts cannot run vector code with such an RSP at all. */
	if (trapno == VEC_PF && !host_canonical((uint64_t)uc->uc_mcontext.gregs[REG_RSP]))
		trapno = VEC_GP;
	/* #PF: the operand is always a populated page of ours, so this would be our own bug. */
	if (rip < (uintptr_t)region + SLOTS_OFFSET || trapno == VEC_PF || trapno < 0 || trapno > VEC_XM)
		return false;
	data->fault = (uint64_t)trapno + 1;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)exit_point(region + CODE_OFFSET);
	uc->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)(FL_AC | FL_TF | FL_RF);
	/* Linux cannot return to a stack pointer that is not canonical (IRET faults on AMD), and the guest's may be. */
	uc->uc_mcontext.gregs[REG_RSP] = (greg_t)data->host_rsp;
	return true;
}

int host_stub_create(struct host_stub **out)
{
	struct host_stub *s = calloc(1, sizeof(*s));
	size_t span = 2 * HOST_STUB_SIZE;
	uint8_t *map, *region;
	int err;

	if (!s)
		return -ENOMEM;
	map = mmap(NULL, span, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED) {
		err = -errno;
		free(s);
		return err;
	}
	region = (uint8_t *)ALIGN_UP((uintptr_t)map, HOST_STUB_SIZE);
	if (region > map)
		munmap(map, (size_t)(region - map));
	if (map + span > region + HOST_STUB_SIZE)
		munmap(region + HOST_STUB_SIZE, (size_t)(map + span - region - HOST_STUB_SIZE));
	s->data = (struct host_stub_data *)region;
	s->code = region + CODE_OFFSET;
	s->slots = region + SLOTS_OFFSET;
	memcpy(s->code, host_stub_template, (size_t)(host_stub_template_end - host_stub_template));
	err = host_fault_register(region, region + HOST_STUB_SIZE, on_host_fault);
	if (err) {
		munmap(region, HOST_STUB_SIZE);
		free(s);
		return err;
	}
	*out = s;
	return 0;
}

void host_stub_destroy(struct host_stub *s)
{
	if (!s)
		return;
	host_fault_unregister(s->data);
	munmap(s->data, HOST_STUB_SIZE);
	free(s);
}

static void key_of(const uint8_t *bytes, unsigned len, uint64_t mark, struct host_stub_key *key)
{
	uint64_t lo = 0, hi = 0;

	for (unsigned i = 0; i < len && i < 8; i++)
		lo |= (uint64_t)bytes[i] << (8 * i);
	for (unsigned i = 8; i < len; i++)
		hi |= (uint64_t)bytes[i] << (8 * (i - 8));
	key->lo = lo;
	key->hi = hi | (uint64_t)len << KEY_LEN_SHIFT | mark;
}

static unsigned slot_of(const struct host_stub_key *key)
{
	uint64_t h = (key->lo ^ (key->hi << 21 | key->hi >> 43)) * 0x9e3779b97f4a7c15ull;

	return (unsigned)(h >> 40) & (HOST_STUB_SLOTS - 1);
}

static void slot_finish(struct host_stub *s, uint8_t *slot, unsigned n)
{
	slot[n] = 0xe9; /* jmp rel32 */
	store_u32(slot + n + 1, (uint32_t)(exit_point(s->code) - (slot + n + 5)));
}

/* A register to address the operand with: one that the instruction does not use; low ones when AH..DH forbid REX. */
static uint8_t choose_base(const struct insn *in)
{
	static const uint8_t any[] = { R11, R10, R9, R8, R15, R14, R13, R12, RDI, RSI, RBX, RBP, RCX, RDX, RAX };
	static const uint8_t low[] = { RDI, RSI, RBP, RBX, RCX, RDX, RAX };
	uint16_t used = in->gpr_read | in->gpr_write | in->gpr_high;
	const uint8_t *list = in->gpr_high || in->mode != INSN_MODE_64 ? low : any;
	size_t n = in->gpr_high || in->mode != INSN_MODE_64 ? ARRAY_LEN(low) : ARRAY_LEN(any);

	for (size_t i = 0; i < n; i++)
		if (!(used & (1u << list[i])))
			return list[i];
	return INSN_NO_REG;
}

static bool slot_fill(struct host_stub *s, unsigned i, const struct insn *in)
{
	uint8_t *slot = s->slots + i * HOST_STUB_SLOT_SIZE;
	unsigned n;

	if (in->mem.present) {
		s->base[i] = choose_base(in);
		if (s->base[i] == INSN_NO_REG)
			return false;
		n = insn_emit_base(slot, in, s->base[i], 0, INSN_NO_REG, INSN_NO_REG);
	} else {
		s->base[i] = INSN_NO_REG;
		n = insn_emit_reg(slot, in);
	}
	if (!n)
		return false;
	s->uses_rsp[i] = (in->gpr_read | in->gpr_write) >> RSP & 1;
	slot_finish(s, slot, n);
	return true;
}

static int run_once(struct vcpu *v, unsigned i, void *operand, bool check_align)
{
	struct host_stub *s = v->stub;
	struct host_stub_data *d = s->data;
	uint8_t base = s->base[i];

	for (unsigned r = 0; r < 16; r++)
		d->gpr[r] = v->gpr[r];
	if (!s->uses_rsp[i])
		d->gpr[RSP] = (uint64_t)(uintptr_t)d;
	if (base != INSN_NO_REG)
		d->gpr[base] = (uint64_t)(uintptr_t)operand;
	d->flags = (v->rflags & FL_ARITH) | FL_R1 | FL_IF | (check_align ? FL_AC : 0);
	d->target = (uint64_t)(uintptr_t)(s->slots + i * HOST_STUB_SLOT_SIZE);
	d->fault = 0;
	((void (*)(void))s->code)();
	if (UNLIKELY(d->fault))
		return (int)d->fault - 1;
	if (base != INSN_NO_REG)
		d->gpr[base] = v->gpr[base];
	if (!s->uses_rsp[i])
		d->gpr[RSP] = v->gpr[RSP];
	for (unsigned r = 0; r < 16; r++)
		v->gpr[r] = d->gpr[r];
	v->rflags = (v->rflags & ~(uint64_t)FL_ARITH) | (d->flags & FL_ARITH);
	return HOST_STUB_DONE;
}

/*
 * While a stack pointer that is not canonical is loaded, any host interrupt ends in a fault (the host kernel cannot
 * return to it). So RSP is loaded only for instructions that name it, and such a fault is tried again.
 */
static int run_slot(struct vcpu *v, unsigned i, void *operand, bool check_align)
{
	int result = run_once(v, i, operand, check_align);

	for (int tries = 0; UNLIKELY(result == VEC_GP || result == VEC_SS) && tries < 3 && v->stub->uses_rsp[i]; tries++) {
		if (host_canonical(v->gpr[RSP]))
			break;
		result = run_once(v, i, operand, check_align);
	}
	return result;
}

int host_stub_run(struct vcpu *v, const struct insn *in, void *operand, bool check_align)
{
	struct host_stub *s = v->stub;
	struct host_stub_key key;
	unsigned i;

	key_of(in->bytes, in->len, (uint64_t)in->mode << 60, &key);
	i = slot_of(&key);
	if (UNLIKELY(s->key[i].lo != key.lo || s->key[i].hi != key.hi)) {
		s->key[i].hi = 0;
		if (!slot_fill(s, i, in))
			return HOST_STUB_UNSUPPORTED;
		s->key[i] = key;
	}
	return run_slot(v, i, operand, check_align);
}

int host_stub_run_code(struct vcpu *v, const uint8_t *code, unsigned len, void *operand)
{
	struct host_stub *s = v->stub;
	struct host_stub_key key;
	unsigned i;

	ASSERT(len <= 15);
	key_of(code, len, KEY_OWN_CODE, &key);
	i = slot_of(&key);
	if (s->key[i].lo != key.lo || s->key[i].hi != key.hi) {
		uint8_t *slot = s->slots + i * HOST_STUB_SLOT_SIZE;

		for (unsigned n = 0; n < len; n++)
			slot[n] = code[n];
		slot_finish(s, slot, len);
		s->key[i] = key;
		s->uses_rsp[i] = false;
		s->base[i] = operand ? RBX : INSN_NO_REG;
	}
	return run_slot(v, i, operand, false);
}
