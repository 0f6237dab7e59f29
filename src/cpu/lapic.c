/*
 * lapic.c - the local APIC (lapic.h): registers, priorities and messages. The timer is in lapic_timer.c.
 *
 * MMIO and MSR accesses share one read and one write; x2APIC mode differs in which registers exist and in what raises #GP.
 */
#include "cpu/lapic.h"

#include "cpu/exec.h"
#include "cpu/lapic_internal.h"

enum {
	R_ID = 0x020, R_VERSION = 0x030, R_TPR = 0x080, R_APR = 0x090, R_PPR = 0x0a0, R_EOI = 0x0b0, R_RRD = 0x0c0, R_LDR = 0x0d0,
	R_DFR = 0x0e0, R_SVR = 0x0f0, R_ISR = 0x100, R_TMR = 0x180, R_IRR = 0x200, R_ESR = 0x280, R_CMCI = 0x2f0, R_ICR = 0x300,
	R_ICR_HIGH = 0x310, R_LVT_TIMER = 0x320, R_LVT_ERROR = 0x370, R_INITIAL = 0x380, R_CURRENT = 0x390, R_DIVIDE = 0x3e0,
	R_SELF_IPI = 0x3f0,
};

#define VERSION 0x00050014u /* integrated APIC, LVT entries 0-5 */
#define ESR_SEND_ILLEGAL (1u << 5)
#define ESR_RECEIVE_ILLEGAL (1u << 6)
#define ESR_ILLEGAL_REGISTER (1u << 7)

static bool x2apic(const struct lapic *l) { return l->base_msr & LAPIC_BASE_X2APIC; }

static void reset_registers(struct lapic *l)
{
	l->ldr = 0;
	l->dfr = 0xffffffff;
	l->svr = 0xff;
	l->esr = l->esr_pending = l->tpr = l->icr_low = l->icr_high = 0;
	for (unsigned i = 0; i < ARRAY_LEN(l->lvt); i++)
		l->lvt[i] = LVT_MASKED;
	for (unsigned i = 0; i < 8; i++) {
		atomic_store(&l->irr[i], 0);
		l->isr[i] = 0;
		__atomic_store_n(&l->tmr[i], 0, __ATOMIC_RELAXED);
	}
	atomic_store(&l->nmi_pending, 0);
	l->timer_initial = l->timer_divide = 0;
	l->timer_start_ns = 0;
	l->tsc_deadline = 0;
	atomic_store(&l->deadline_ns, NEVER);
}

void lapic_reset(struct lapic *l, uint32_t id, bool bsp)
{
	l->id = id;
	l->base_msr = 0xfee00000 | LAPIC_BASE_ENABLE | (bsp ? LAPIC_BASE_BSP : 0);
	reset_registers(l);
}

/* Highest vector set in a 256-bit register, or -1. */
static int highest(const uint32_t *word)
{
	for (int i = 7; i >= 0; i--)
		if (word[i])
			return 32 * i + 31 - __builtin_clz(word[i]);
	return -1;
}

static int highest_irr(const struct lapic *l)
{
	for (int i = 7; i >= 0; i--) {
		uint32_t w = atomic_load_explicit(&l->irr[i], memory_order_acquire);

		if (w)
			return 32 * i + 31 - __builtin_clz(w);
	}
	return -1;
}

static unsigned ppr(const struct lapic *l)
{
	int isr = highest(l->isr);
	unsigned in_service = isr < 0 ? 0 : (unsigned)isr & 0xf0;

	return (l->tpr & 0xf0) >= in_service ? l->tpr & 0xff : in_service;
}

int lapic_pending(const struct vcpu *v)
{
	const struct lapic *l = &v->lapic;
	int vector = highest_irr(l);

	if (LIKELY(vector < 0) || !(l->svr & SVR_ENABLE) || !(l->base_msr & LAPIC_BASE_ENABLE))
		return -1;
	return ((unsigned)vector & 0xf0) > (ppr(l) & 0xf0) ? vector : -1;
}

int lapic_ack(struct vcpu *v)
{
	struct lapic *l = &v->lapic;
	int vector = lapic_pending(v);

	if (vector < 0)
		return -1;
	atomic_fetch_and(&l->irr[vector >> 5], ~(1u << (vector & 31)));
	l->isr[vector >> 5] |= 1u << (vector & 31);
	return vector;
}

void lapic_raise(struct vcpu *v, uint8_t vector)
{
	if (vector < 16) {
		v->lapic.esr_pending |= ESR_RECEIVE_ILLEGAL;
		return;
	}
	atomic_fetch_or(&v->lapic.irr[vector >> 5], 1u << (vector & 31));
	atomic_fetch_or(&v->pending, REQ_INTERRUPT);
}

void lapic_post(struct vcpu *v, const struct irq_message *msg)
{
	struct lapic *l = &v->lapic;
	unsigned word = msg->vector >> 5;
	uint32_t bit = 1u << (msg->vector & 31);

	switch (msg->delivery_mode) {
	case DELIVER_FIXED:
	case DELIVER_LOWEST:
		if (msg->vector < 16 || !(l->svr & SVR_ENABLE))
			return;
		if (msg->level)
			__atomic_fetch_or(&l->tmr[word], bit, __ATOMIC_RELAXED);
		else
			__atomic_fetch_and(&l->tmr[word], ~bit, __ATOMIC_RELAXED);
		atomic_fetch_or(&l->irr[word], bit);
		break;
	case DELIVER_NMI:
		atomic_store(&l->nmi_pending, 1);
		break;
	default: /* SMI, INIT, start-up, ExtINT: nothing here takes them */
		return;
	}
	vcpu_request(v, REQ_INTERRUPT);
}

struct broadcast { struct lapic *l; uint8_t vector; };

static void broadcast_cold(void *arg)
{
	struct broadcast *b = arg;

	b->l->level_eoi(b->l->eoi_opaque, b->vector);
}

static void end_of_interrupt(struct vcpu *v)
{
	struct lapic *l = &v->lapic;
	int vector = highest(l->isr);
	uint32_t bit;

	if (vector < 0)
		return;
	bit = 1u << (vector & 31);
	l->isr[vector >> 5] &= ~bit;
	if ((__atomic_load_n(&l->tmr[vector >> 5], __ATOMIC_RELAXED) & bit) && l->level_eoi) {
		struct broadcast b = { l, (uint8_t)vector };

		fpu_call_cold(v, broadcast_cold, &b);
	}
	exec_irq_recheck(v);
}

/* -- interrupt command register --------------------------------------------------------------------------------------- */

struct ipi { struct lapic *l; struct irq_message msg; unsigned shorthand; uint32_t dest; };

static void send_cold(void *arg)
{
	struct ipi *i = arg;

	i->l->send_ipi(i->l->ipi_opaque, &i->msg, i->shorthand, i->dest);
}

bool lapic_matches(const struct lapic *l, uint32_t dest, bool logical)
{
	if (x2apic(l)) {
		if (dest == 0xffffffff || dest == 0xff)
			return true;
		if (!logical)
			return dest == l->id;
		return (dest >> 16) == l->id >> 4 && ((dest & 0xffff) >> (l->id & 15) & 1);
	}
	if (dest == 0xff || dest == 0xffffffff)
		return true;
	if (!logical)
		return dest == l->id;
	if ((l->dfr >> 28) == 0xf) /* flat */
		return (l->ldr >> 24) & dest & 0xff;
	return (l->ldr >> 28) == (dest >> 4 & 15) && ((l->ldr >> 24) & dest & 15); /* cluster */
}

static void send_ipi(struct vcpu *v, uint32_t command, uint32_t dest)
{
	struct lapic *l = &v->lapic;
	bool logical = command & 1u << 11, self;
	struct ipi i = { .l = l, .shorthand = (command >> 18) & 3, .dest = dest };

	i.msg.vector = (uint8_t)command;
	i.msg.delivery_mode = (command >> 8) & 7;
	i.msg.dest_logical = logical;
	i.msg.dest = (uint8_t)dest;
	if (i.msg.delivery_mode <= DELIVER_LOWEST && i.msg.vector < 16) {
		l->esr_pending |= ESR_SEND_ILLEGAL;
		return;
	}
	self = i.shorthand == 1 || i.shorthand == 2 || (!i.shorthand && lapic_matches(l, dest, logical));
	if (self && i.msg.delivery_mode <= DELIVER_LOWEST) {
		if (l->svr & SVR_ENABLE)
			lapic_raise(v, i.msg.vector);
	} else if (self && i.msg.delivery_mode == DELIVER_NMI) {
		atomic_store(&l->nmi_pending, 1);
		atomic_fetch_or(&v->pending, REQ_INTERRUPT);
	}
	if (i.shorthand != 1 && l->send_ipi)
		fpu_call_cold(v, send_cold, &i);
}

/* -- registers -------------------------------------------------------------------------------------------------------- */

static bool is_lvt(uint32_t offset) { return offset >= R_LVT_TIMER && offset <= R_LVT_ERROR; }
static unsigned lvt_of(uint32_t offset) { return LVT_TIMER + (offset - R_LVT_TIMER) / 16; }

static int read_array(const struct lapic *l, uint32_t offset, uint64_t *value)
{
	unsigned i = (offset >> 4) & 7;

	if (offset < R_TMR)
		*value = l->isr[i];
	else if (offset < R_IRR)
		*value = __atomic_load_n(&l->tmr[i], __ATOMIC_RELAXED);
	else
		*value = atomic_load(&l->irr[i]);
	return 0;
}

/* A register that does not exist: #GP in x2APIC mode, an error bit otherwise. */
static int no_register(struct lapic *l)
{
	if (x2apic(l))
		return -1;
	l->esr_pending |= ESR_ILLEGAL_REGISTER;
	return 0;
}

int lapic_read(struct vcpu *v, uint32_t offset, uint64_t *value)
{
	struct lapic *l = &v->lapic;

	*value = 0;
	if (offset >= R_ISR && offset < R_ESR)
		return read_array(l, offset, value);
	if (is_lvt(offset)) {
		*value = l->lvt[lvt_of(offset)];
		return 0;
	}
	switch (offset) {
	case R_ID: *value = x2apic(l) ? l->id : l->id << 24; break;
	case R_VERSION: *value = VERSION; break;
	case R_TPR: *value = l->tpr; break;
	case R_PPR: *value = ppr(l); break;
	case R_LDR: *value = x2apic(l) ? (l->id >> 4) << 16 | 1u << (l->id & 15) : l->ldr; break;
	case R_SVR: *value = l->svr; break;
	case R_ESR: *value = l->esr; break;
	case R_ICR: *value = x2apic(l) ? l->icr_low | (uint64_t)l->icr_high << 32 : l->icr_low; break;
	case R_INITIAL: *value = l->timer_initial; break;
	case R_CURRENT:
		*value = lapic_timer_count(l);
		lapic_timer_settle(v); /* a count of 0 that is seen has fired */
		break;
	case R_DIVIDE: *value = l->timer_divide; break;
	case R_DFR:
		if (x2apic(l))
			return -1;
		*value = l->dfr;
		break;
	case R_ICR_HIGH:
		if (x2apic(l))
			return -1;
		*value = l->icr_high;
		break;
	case R_APR:
	case R_RRD:
	case R_EOI:
		return x2apic(l) ? -1 : 0;
	default:
		return no_register(l);
	}
	return 0;
}

static int write_lvt(struct vcpu *v, uint32_t offset, uint32_t value)
{
	struct lapic *l = &v->lapic;
	unsigned i = lvt_of(offset);
	uint32_t mask = i == LVT_TIMER ? 0x700ff : i == LVT_ERROR ? 0x100ff : i >= LVT_LINT0 ? 0x1a7ff : 0x107ff;
	uint32_t old = l->lvt[i];

	if (x2apic(l) && (value & ~(mask | 1u << 12 | 1u << 14)))
		return -1;
	if (i == LVT_TIMER)
		lapic_timer_settle(v);
	value &= mask;
	if (!(l->svr & SVR_ENABLE))
		value |= LVT_MASKED;
	if (i == LVT_TIMER && ((value ^ old) & LVT_DEADLINE))
		lapic_timer_disarm(l);
	l->lvt[i] = value;
	return 0;
}

static int write_svr(struct lapic *l, uint32_t value)
{
	if (x2apic(l) && (value & ~0x3ffu))
		return -1;
	l->svr = value & 0x3ff;
	if (!(l->svr & SVR_ENABLE))
		for (unsigned i = 0; i < ARRAY_LEN(l->lvt); i++)
			l->lvt[i] |= LVT_MASKED;
	return 0;
}

static int write_icr(struct vcpu *v, uint64_t value)
{
	struct lapic *l = &v->lapic;

	if (x2apic(l)) {
		if (value & 0xfff33000u)
			return -1;
		l->icr_high = (uint32_t)(value >> 32);
	}
	l->icr_low = (uint32_t)value & 0xcdfff & ~(1u << 12);
	send_ipi(v, l->icr_low, x2apic(l) ? l->icr_high : l->icr_high >> 24);
	return 0;
}

int lapic_write(struct vcpu *v, uint32_t offset, uint64_t value)
{
	struct lapic *l = &v->lapic;
	bool x2 = x2apic(l);

	if (x2 && offset != R_ICR && value >> 32)
		return -1;
	if (is_lvt(offset))
		return write_lvt(v, offset, (uint32_t)value);
	switch (offset) {
	case R_EOI:
		if (x2 && value)
			return -1;
		end_of_interrupt(v);
		return 0;
	case R_TPR:
		if (x2 && (value & ~0xffull))
			return -1;
		l->tpr = (uint32_t)value & 0xff;
		exec_irq_recheck(v);
		return 0;
	case R_SVR:
		lapic_timer_settle(v);
		return write_svr(l, (uint32_t)value);
	case R_ICR: return write_icr(v, value);
	case R_INITIAL:
		lapic_timer_settle(v);
		if ((l->lvt[LVT_TIMER] & LVT_TIMER_MODE) != LVT_DEADLINE)
			lapic_timer_start(v, (uint32_t)value);
		return 0;
	case R_DIVIDE:
		if (x2 && (value & ~0xbull))
			return -1;
		lapic_timer_settle(v);
		lapic_timer_divide(v, (uint32_t)value);
		return 0;
	case R_ESR:
		if (x2 && value)
			return -1;
		l->esr = l->esr_pending;
		l->esr_pending = 0;
		return 0;
	case R_SELF_IPI:
		if (!x2)
			return no_register(l);
		if (value & ~0xffull)
			return -1;
		lapic_raise(v, (uint8_t)value);
		return 0;
	case R_LDR:
		if (x2)
			return -1;
		l->ldr = (uint32_t)value & 0xff000000;
		return 0;
	case R_DFR:
		if (x2)
			return -1;
		l->dfr = (uint32_t)value | 0x0fffffff;
		return 0;
	case R_ICR_HIGH:
		if (x2)
			return -1;
		l->icr_high = (uint32_t)value & 0xff000000;
		return 0;
	case R_ID: /* read-only here, as on processors with x2APIC */
	case R_VERSION: case R_PPR: case R_APR: case R_RRD: case R_CURRENT:
		return x2 ? -1 : 0;
	default:
		return no_register(l);
	}
}

int lapic_write_base(struct vcpu *v, uint64_t value)
{
	struct lapic *l = &v->lapic;
	uint64_t mode = LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC, was = l->base_msr & mode, now = value & mode;

	if (value & ~(LAPIC_BASE_ADDRESS | LAPIC_BASE_BSP | mode))
		return -1;
	/* Disabled -> xAPIC -> x2APIC -> disabled are the only ways. */
	if (now == LAPIC_BASE_X2APIC || (now == mode && !was) || (was == mode && now == LAPIC_BASE_ENABLE))
		return -1;
	if (now != was && !now)
		reset_registers(l);
	if (now == mode && was != mode)
		l->icr_high = 0;
	l->base_msr = value;
	return 0;
}

uint64_t lapic_get_cr8(const struct vcpu *v) { return v->lapic.tpr >> 4; }

void lapic_set_cr8(struct vcpu *v, uint64_t value)
{
	v->lapic.tpr = (uint32_t)value << 4;
	exec_irq_recheck(v);
}
