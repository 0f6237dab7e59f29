/*
 * xen_entry_test.c - how control passes between a paravirtualized guest's kernel and user code: SYSCALL, bounces, iret, events, and the instructions that are
 * emulated. A vcpu in the direct mode, stepped by the executor.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/trace.h"
#include "cpu/exec.h"
#include "cpu/host_fault.h"
#include "xen/page.h"
#include "xen/xen_internal.h"

#define CODE 0x400000ull	/* a page for user and kernel */
#define DATA 0x401000ull
#define STACK 0x402000ull	/* the kernel's: one page */
#define STACK_TOP (STACK + PAGE_SIZE)
#define HANDLER 0x400800ull
#define CALLBACK 0x400900ull
#define USER_RSP 0x401f08ull

struct rig {
	struct memory memory;
	struct bus bus;
	struct xen *xen;
	struct vcpu *v;
	struct xen_vcpu *xv;
	mfn_t page[3], root, l1;
};

static struct rig *rig;

static uint64_t *table(mfn_t m) { return pool_ptr(&rig->memory.pool, m); }
static mfn_t frame(void)
{
	mfn_t m = pool_reserve(&rig->memory.pool, 1);

	assert_true(mfn_valid(m));
	pv_page_join(rig->xen->pages, m, false);
	return m;
}

static void *at(uint64_t va) { return (uint8_t *)pool_ptr(&rig->memory.pool, rig->page[(va - CODE) >> PAGE_SHIFT]) + (va & ~PAGE_MASK); }

static uint64_t realtime(void) { return 1000000000ull * 1000000000ull; }

static int set_up(void **state)
{
	const uint64_t pages = MIB(16) / PAGE_SIZE, flags = PTE_P | PTE_W | PTE_U;
	mfn_t root, l3, l2, l1;

	(void)state;
	clock_init();
	rig = calloc(1, sizeof(*rig));
	rig->v = aligned_alloc(64, ALIGN_UP(sizeof(*rig->v), 64));
	assert_int_equal(host_fault_thread_start(), 0);
	assert_int_equal(memory_init_machine(&rig->memory, MIB(16), xen_spare_frames(pages), PLACEMENT_SCATTER, 3), 0);
	bus_init(&rig->bus);
	const struct xen_config config = { .memory = &rig->memory, .pages = pages, .realtime_ns = realtime };
	assert_int_equal(xen_create(&config, &rig->xen), 0);
	assert_int_equal(vcpu_init(rig->v, &rig->memory, &rig->bus, PAGING_DIRECT, 0), 0);
	assert_int_equal(xen_add_vcpu(rig->xen, rig->v), 0);
	rig->xv = rig->v->domain;
	root = rig->root = frame(), l3 = frame(), l2 = frame(), l1 = rig->l1 = frame();
	table(root)[0] = l3.v << PAGE_SHIFT | flags;
	table(l3)[0] = l2.v << PAGE_SHIFT | flags;
	table(l2)[CODE >> 21] = l1.v << PAGE_SHIFT | flags;
	for (unsigned i = 0; i < 3; i++)
		table(l1)[(CODE >> 12 & 511) + i] = (rig->page[i] = frame()).v << PAGE_SHIFT | flags;
	for (unsigned i = 0; i < ARRAY_LEN(rig->xen->l4_slot); i++)
		table(root)[XEN_L4_FIRST + i] = rig->xen->l4_slot[i];
	struct vcpu *v = rig->v;
	v->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_WP | CR0_MP;
	v->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	v->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	v->cpl = 3;
	v->ring3_kernel = 1;
	v->tr = (struct segment){ 0 };
	segment_set_flat_code(v, FLAT_KERNEL_CS64, 3, true);
	segment_set_flat_stack(v, FLAT_KERNEL_SS64, 3);
	v->rflags = FL_R1 | FL_IF;
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	mmu_set_cr3(&v->mmu, root.v << PAGE_SHIFT);
	mmu_set_user_cr3(&v->mmu, root.v << PAGE_SHIFT);
	xen_time_start(rig->xen);
	rig->xv->kernel_sp = STACK_TOP;
	v->gpr[RSP] = STACK_TOP - 64;
	v->rip = CODE;
	return 0;
}

static int tear_down(void **state)
{
	char msg[200] = "";

	(void)state;
	fpu_save(rig->v);
	if (mmu_audit(&rig->v->mmu, msg, sizeof(msg)))
		fail_msg("audit: %s", msg);
	vcpu_destroy(rig->v);
	xen_destroy(rig->xen);
	memory_destroy(&rig->memory);
	bus_destroy(&rig->bus);
	free(rig->v);
	free(rig);
	return 0;
}

#define STEP(...) step((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
static void step(const uint8_t *bytes, size_t len)
{
	rig->v->exit.kind = EXIT_NONE;
	memcpy(at(rig->v->rip), bytes, len);
	exec_step(rig->v);
}

static int64_t hypercall(unsigned number, uint64_t a, uint64_t b, uint64_t c)
{
	struct vcpu *v = rig->v;

	do { /* continuations execute the SYSCALL again */
		v->rip = CODE;
		v->gpr[RAX] = number;
		v->gpr[RDI] = a, v->gpr[RSI] = b, v->gpr[RDX] = c;
		STEP(0x0f, 0x05);
		a = v->gpr[RDI], b = v->gpr[RSI], c = v->gpr[RDX];
	} while (v->rip == CODE);
	return (int64_t)v->gpr[RAX];
}

static void to_user(void)
{
	rig->v->ring3_kernel = 0;
	rig->v->gpr[RSP] = USER_RSP;
	rig->v->rip = CODE;
}

static void syscall_in_the_kernel_is_a_hypercall(void **state)
{
	struct vcpu *v = rig->v;

	(void)state;
	v->gpr[RBX] = 77;
	assert_int_equal(hypercall(__HYPERVISOR_xen_version, XENVER_version, 0, 0), 4 << 16 | 17);
	assert_int_equal(v->rip, CODE + 2);
	assert_int_equal(v->gpr[RCX], CODE + 2);
	assert_int_equal(v->gpr[RBX], 77);
	assert_int_equal(hypercall(__HYPERVISOR_xenpmu_op, 0, 0, 0), -XEN_ENOSYS);
	assert_int_equal(hypercall(63, 0, 0, 0), -XEN_ENOSYS);
	assert_int_equal(hypercall(__HYPERVISOR_vcpu_op, VCPUOP_is_up, 0, 0), 1);
	assert_int_equal(hypercall(__HYPERVISOR_vcpu_op, VCPUOP_is_up, 1, 0), -XEN_ENOENT);
	assert_int_equal(v->ring3_kernel, 1);
}

static void syscall_in_user_code_bounces_to_the_kernel_and_iret_goes_back(void **state)
{
	struct vcpu *v = rig->v;
	const uint64_t *f;

	(void)state;
	rig->xv->callback[CALLBACKTYPE_syscall] = (struct xen_callback){ CALLBACK, true };
	rig->xv->info->evtchn_upcall_mask = 0;
	v->seg[SEG_GS].base = 0x1111;	/* the user's; the kernel's waits */
	v->kernel_gs_base = 0x2222;
	to_user();
	STEP(0x0f, 0x05);
	assert_int_equal(v->rip, CALLBACK);
	assert_int_equal(v->ring3_kernel, 1);
	assert_int_equal(v->seg[SEG_GS].base, 0x2222);
	assert_int_equal(v->gpr[RSP], STACK_TOP - 56);
	f = at(v->gpr[RSP]);
	assert_int_equal(f[0], CODE + 2);		/* RCX */
	assert_int_equal(f[1] & FL_IF, FL_IF);		/* R11 */
	assert_int_equal(f[2], CODE + 2);		/* RIP */
	assert_int_equal(f[3] >> 32, 0);		/* events were open */
	assert_int_equal(f[4] & FL_IF, FL_IF);
	assert_int_equal(f[5], USER_RSP);
	assert_int_equal(rig->xv->info->evtchn_upcall_mask, 1);

	struct iret_context c = { .rax = 5, .r11 = 6, .rcx = 7, .rip = CODE + 0x10, .cs = FLAT_USER_CS64, .rflags = FL_IF | FL_IOPL, .rsp = USER_RSP,
				  .ss = FLAT_USER_SS64 };
	v->gpr[RSP] = STACK;
	memcpy(at(STACK), &c, sizeof(c));
	v->rip = CODE;
	v->gpr[RAX] = __HYPERVISOR_iret;
	STEP(0x0f, 0x05);
	assert_int_equal(v->rip, CODE + 0x10);
	assert_int_equal(v->ring3_kernel, 0);
	assert_int_equal(v->gpr[RAX], 5);
	assert_int_equal(v->gpr[R11], 6);
	assert_int_equal(v->gpr[RCX], 7);
	assert_int_equal(v->gpr[RSP], USER_RSP);
	assert_int_equal(v->seg[SEG_GS].base, 0x1111);
	assert_int_equal(v->rflags & FL_IOPL, 0);
	assert_int_equal(rig->xv->info->evtchn_upcall_mask, 0);
}

/* iret to user code with these selectors. */
static void iret(uint16_t cs, uint16_t ss)
{
	const struct iret_context c = { .rip = CODE + 0x10, .cs = cs, .rflags = FL_IF, .rsp = USER_RSP, .ss = ss };
	struct vcpu *v = rig->v;

	v->ring3_kernel = 1;
	segment_set_flat_code(v, FLAT_KERNEL_CS64, 3, true);
	v->gpr[RSP] = STACK;
	memcpy(at(STACK), &c, sizeof(c));
	v->rip = CODE;
	v->gpr[RAX] = __HYPERVISOR_iret;
	STEP(0x0f, 0x05);
}

static void iret_goes_by_the_descriptors_as_they_are_now(void **state)
{
	const uint64_t code64 = 0x00affb000000ffffull, code32 = 0x00cffb000000ffffull, data = 0x00cff3000000ffffull;
	const mfn_t gdt = frame();
	struct vcpu *v = rig->v;

	(void)state;
	rig->xv->callback[CALLBACKTYPE_failsafe] = (struct xen_callback){ CALLBACK, true };
	table(gdt)[5] = data, table(gdt)[6] = code64, table(gdt)[7] = data & ~(1ull << 47);
	store_u64(at(DATA), gdt.v);
	assert_int_equal(hypercall(__HYPERVISOR_set_gdt, DATA, 16, 0), 0);
	for (unsigned i = 0; i < 2; i++) {
		iret(0x33, 0x2b);
		assert_int_equal(v->rip, CODE + 0x10);
		assert_int_equal(v->seg[SEG_CS].attr & (SEG_L | SEG_DB), SEG_L);
		assert_int_equal(v->seg[SEG_SS].selector, 0x2b);
	}
	/* Another selector than the last. */
	iret(0x33, 0x3b);
	assert_int_equal(v->rip, CALLBACK);
	iret(0x33, 0x2b);
	assert_int_equal(v->rip, CODE + 0x10);
	v->ring3_kernel = 1;
	segment_set_flat_code(v, FLAT_KERNEL_CS64, 3, true);
	assert_int_equal(hypercall(__HYPERVISOR_update_descriptor, (gdt.v << PAGE_SHIFT) + 6 * 8, code32, 0), 0);
	iret(0x33, 0x2b);
	assert_int_equal(v->seg[SEG_CS].attr & (SEG_L | SEG_DB), SEG_DB);
	/* Without the table there is no such selector. */
	v->ring3_kernel = 1;
	segment_set_flat_code(v, FLAT_KERNEL_CS64, 3, true);
	assert_int_equal(hypercall(__HYPERVISOR_set_gdt, DATA, 0, 0), 0);
	iret(0x33, 0x2b);
	assert_int_equal(v->rip, CALLBACK);
}

static void iret_to_what_cannot_be_entered_goes_to_the_failsafe_callback_or_ends_the_domain(void **state)
{
	const uint64_t data = 0x00cff3000000ffffull, code64 = 0x00affb000000ffffull, present = 1ull << 47;
	const mfn_t gdt = frame();
	struct vcpu *v = rig->v;

	(void)state;
	rig->xv->callback[CALLBACKTYPE_failsafe] = (struct xen_callback){ CALLBACK, true };
	table(gdt)[5] = data, table(gdt)[6] = code64 & ~present, table(gdt)[7] = code64 | 1ull << 54 /* L and D */;
	store_u64(at(DATA), gdt.v);
	assert_int_equal(hypercall(__HYPERVISOR_set_gdt, DATA, 16, 0), 0);
	static const uint16_t bad[][2] = { { 3, 0x2b }, { 0x2b, 0x2b }, { 0x33, 0x2b }, { 0x3b, 0x2b }, { 0x0f, 0x2b }, { 0x43, 0x2b }, { FLAT_USER_CS64, 3 } };
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		iret(bad[i][0], bad[i][1]);
		assert_int_equal(v->rip, CALLBACK);
		assert_int_equal(v->ring3_kernel, 1);
		assert_int_equal(rig->xv->xen->counters.failsafes, i + 1);
	}
	/* No frame to read; no tables to go to. */
	v->gpr[RSP] = 0x7000000;
	v->rip = CODE;
	v->gpr[RAX] = __HYPERVISOR_iret;
	STEP(0x0f, 0x05);
	assert_int_equal(v->exit.kind, EXIT_TRIPLE_FAULT);
	mmu_set_user_cr3(&v->mmu, 0);
	iret(FLAT_USER_CS64, FLAT_USER_SS64);
	assert_int_equal(v->exit.kind, EXIT_TRIPLE_FAULT);
	assert_non_null(strstr(v->exit.reason, "without user page tables"));
}

static void a_trap_table_is_taken_and_cleared_and_the_fpu_trap_clears_task_switched(void **state)
{
	const struct trap_info traps[] = { { .vector = VEC_NM, .address = HANDLER }, { 0 } };
	struct vcpu *v = rig->v;

	(void)state;
	memcpy(at(DATA), traps, sizeof(traps));
	assert_int_equal(hypercall(__HYPERVISOR_set_trap_table, DATA, 0, 0), 0);
	assert_int_equal(hypercall(__HYPERVISOR_fpu_taskswitch, 1, 0, 0), 0);
	v->rip = CODE;
	STEP(0xd9, 0xd0); /* fnop */
	assert_int_equal(v->rip, HANDLER);
	assert_int_equal(v->cr0 & CR0_TS, 0);
	assert_int_equal(rig->xv->ctrlreg0 & CR0_TS, 0);
	v->rip = CODE;
	STEP(0xd9, 0xd0);
	assert_int_equal(v->rip, CODE + 2);
	assert_int_equal(hypercall(__HYPERVISOR_set_trap_table, 0, 0, 0), 0);
	assert_int_equal(rig->xv->trap[VEC_NM].address, 0);
}

static void exceptions_bounce_with_their_error_code_and_the_event_mask(void **state)
{
	struct vcpu *v = rig->v;
	const uint64_t *f;

	(void)state;
	rig->xv->trap[VEC_PF] = (struct trap_info){ .vector = VEC_PF, .flags = 4, .address = HANDLER };
	rig->xv->info->evtchn_upcall_mask = 0;
	v->gpr[RBX] = 0x7000000;
	STEP(0x48, 0x8b, 0x03); /* mov (%rbx), %rax, in the kernel */
	assert_int_equal(v->rip, HANDLER);
	assert_int_equal(rig->xv->info->arch.cr2, 0x7000000);
	f = at(v->gpr[RSP]);
	assert_int_equal(f[2], 0);				/* a supervisor's read of what is not present */
	assert_int_equal(f[3], CODE);
	assert_int_equal(f[4], (FLAT_KERNEL_CS64 & ~3u));	/* it looks like privilege 0 to the kernel */
	assert_int_equal(rig->xv->info->evtchn_upcall_mask, 1);
	to_user();
	v->gpr[RBX] = 0x7000000;
	STEP(0x48, 0x89, 0x03);
	f = at(v->gpr[RSP]);
	assert_int_equal(v->gpr[RSP], STACK_TOP - 64);
	assert_int_equal(f[2], PF_U | PF_W);
	assert_int_equal(f[4], FLAT_KERNEL_CS64 | 1ull << 32);
	assert_int_equal(f[5] & FL_IF, 0);
}

static void software_interrupts_go_by_the_tables_privilege(void **state)
{
	struct vcpu *v = rig->v;

	(void)state;
	rig->xv->trap[0x80] = (struct trap_info){ .vector = 0x80, .flags = 3, .address = HANDLER };
	rig->xv->trap[0x81] = (struct trap_info){ .vector = 0x81, .flags = 0, .address = HANDLER };
	rig->xv->trap[VEC_BP] = (struct trap_info){ .vector = VEC_BP, .flags = 0, .address = HANDLER };
	rig->xv->trap[VEC_GP] = (struct trap_info){ .vector = VEC_GP, .flags = 4, .address = CALLBACK };
	to_user();
	STEP(0xcd, 0x80);
	assert_int_equal(v->rip, HANDLER);
	assert_int_equal(((uint64_t *)at(v->gpr[RSP]))[2], CODE + 2);
	to_user();
	STEP(0xcd, 0x81);
	assert_int_equal(v->rip, CALLBACK);
	assert_int_equal(((uint64_t *)at(v->gpr[RSP]))[2], 0x81 * 8 + 2);
	to_user();
	STEP(0xcc);
	assert_int_equal(v->rip, HANDLER);
}

static void a_guest_without_a_handler_or_a_stack_is_lost(void **state)
{
	struct vcpu *v = rig->v;

	(void)state;
	STEP(0x0f, 0x0b, 0x90);
	assert_int_equal(v->exit.kind, EXIT_TRIPLE_FAULT);
	rig->xv->trap[VEC_UD] = (struct trap_info){ .vector = VEC_UD, .address = HANDLER };
	rig->xv->kernel_sp = XEN_GDT_START + PAGE_SIZE; /* XSA-215 */
	to_user();
	STEP(0x0f, 0x0b, 0x90);
	assert_int_equal(v->exit.kind, EXIT_TRIPLE_FAULT);
}

static void events_come_when_they_are_open(void **state)
{
	struct vcpu *v = rig->v;
	struct evtchn_bind_virq bind = { .virq = VIRQ_DEBUG };

	(void)state;
	rig->xv->callback[CALLBACKTYPE_event] = (struct xen_callback){ CALLBACK, true };
	memcpy(at(DATA), &bind, sizeof(bind));
	assert_int_equal(hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_bind_virq, DATA, 0), 0);
	memcpy(&bind, at(DATA), sizeof(bind));
	assert_int_equal(bind.port, 1);
	assert_int_equal(hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_bind_virq, DATA, 0), -XEN_EEXIST);
	xen_virq_raise(rig->xv, VIRQ_DEBUG);
	assert_int_equal(rig->xv->info->evtchn_upcall_pending, 0); /* the port is masked */
	struct evtchn_unmask unmask = { .port = bind.port };
	memcpy(at(DATA), &unmask, sizeof(unmask));
	assert_int_equal(hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_unmask, DATA, 0), 0);
	assert_int_equal(rig->xv->info->evtchn_upcall_pending, 1);
	assert_int_equal(rig->xv->info->evtchn_pending_sel, 1);
	assert_int_equal(exec_interrupts(v), EXEC_NEXT);
	assert_int_equal(v->rip, CODE + 2); /* the vcpu is masked */
	rig->xv->info->evtchn_upcall_mask = 0;
	assert_int_equal(hypercall(__HYPERVISOR_xen_version, 0, 0, 0) > 0, 1); /* the guest's way to have them looked at */
	assert_true(atomic_load(&v->pending) & REQ_INTERRUPT);
	assert_int_equal(exec_interrupts(v), EXEC_NEXT);
	assert_int_equal(v->rip, CALLBACK);
	assert_int_equal(rig->xv->info->evtchn_upcall_mask, 1);
	assert_int_equal(hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_init_control, DATA, 0), -XEN_ENOSYS);
}

static void timers_end_in_the_timer_virq(void **state)
{
	struct evtchn_bind_virq bind = { .virq = VIRQ_TIMER };

	(void)state;
	memcpy(at(DATA), &bind, sizeof(bind));
	assert_int_equal(hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_bind_virq, DATA, 0), 0);
	memcpy(&bind, at(DATA), sizeof(bind));
	struct vcpu_set_singleshot_timer t = { .timeout_abs_ns = xen_time_now(rig->xv) + 1000000000ull };
	memcpy(at(DATA), &t, sizeof(t));
	assert_int_equal(hypercall(__HYPERVISOR_vcpu_op, VCPUOP_set_singleshot_timer, 0, DATA), 0);
	uint64_t next = lapic_timer_poll(rig->v, clock_ns());
	assert_in_range(next, clock_ns(), clock_ns() + 1000000000ull);
	assert_false(xen_port_is_pending(rig->xen, bind.port));
	/* One that has passed fires at once, and only once. */
	t.timeout_abs_ns = 1;
	memcpy(at(DATA), &t, sizeof(t));
	assert_int_equal(hypercall(__HYPERVISOR_vcpu_op, VCPUOP_set_singleshot_timer, 0, DATA), 0);
	assert_true(xen_port_is_pending(rig->xen, bind.port));
	assert_true(lapic_timer_poll(rig->v, clock_ns()) == ~0ull);
	t.flags = VCPU_SSHOTTMR_future;
	memcpy(at(DATA), &t, sizeof(t));
	assert_int_equal(hypercall(__HYPERVISOR_vcpu_op, VCPUOP_set_singleshot_timer, 0, DATA), -XEN_ETIME);
	assert_int_equal(rig->xen->shared->wc_version & 1, 0);
	assert_in_range(rig->xen->shared->wc_sec, 1000000000 - 10, 1000000000);
}

static void a_watchdog_that_is_not_poked_ends_the_domain(void **state)
{
	const uint64_t second = 1000000000ull;
	struct sched_watchdog w = { .timeout = 10 };

	(void)state;
	memcpy(at(DATA), &w, sizeof(w));
	assert_int_equal(hypercall(__HYPERVISOR_sched_op, SCHEDOP_watchdog, DATA, 0), 1);
	assert_in_range(lapic_timer_poll(rig->v, clock_ns()), clock_ns(), clock_ns() + 10 * second);
	w = (struct sched_watchdog){ .id = 1, .timeout = 100 };
	memcpy(at(DATA), &w, sizeof(w));
	assert_int_equal(hypercall(__HYPERVISOR_sched_op, SCHEDOP_watchdog, DATA, 0), 0);
	assert_in_range(lapic_timer_poll(rig->v, clock_ns()), clock_ns() + 30 * second, clock_ns() + 100 * second);
	w.timeout = 0;
	memcpy(at(DATA), &w, sizeof(w));
	assert_int_equal(hypercall(__HYPERVISOR_sched_op, SCHEDOP_watchdog, DATA, 0), 0);
	assert_true(lapic_timer_poll(rig->v, clock_ns()) == ~0ull);
	/* Its time has come. */
	assert_int_equal(xen_interrupts(rig->v), EXEC_NEXT);
	xen_set_watchdog(rig->xen, 0, 1);
	assert_true(lapic_timer_poll(rig->v, clock_ns()) == ~0ull);
	assert_true(atomic_load(&rig->v->pending) & REQ_INTERRUPT);
	assert_int_equal(xen_interrupts(rig->v), EXEC_STOP);
	assert_int_equal(rig->v->exit.kind, EXIT_TRIPLE_FAULT);
	assert_non_null(strstr(rig->v->exit.reason, "watchdog"));
}

static enum xen_end ended_as = XEN_END_CRASH;
static void note_end(void *opaque, enum xen_end end)
{
	(void)opaque;
	ended_as = end;
}

static void a_reason_that_was_latched_is_the_one_that_counts(void **state)
{
	struct sched_shutdown reason = { SHUTDOWN_poweroff };

	(void)state;
	rig->xen->config.ended = note_end;
	memcpy(at(DATA), &reason, sizeof(reason));
	assert_int_equal(hypercall(__HYPERVISOR_sched_op, SCHEDOP_shutdown_code, DATA, 0), 0);
	reason.reason = SHUTDOWN_crash;
	memcpy(at(DATA), &reason, sizeof(reason));
	assert_int_equal(hypercall(__HYPERVISOR_sched_op, SCHEDOP_shutdown_code, DATA, 0), 0);
	assert_int_equal(hypercall(__HYPERVISOR_sched_op, SCHEDOP_shutdown, DATA, 0), 0);
	assert_int_equal(ended_as, XEN_END_POWEROFF);
}

static void a_multicall_makes_each_call_and_keeps_its_result(void **state)
{
	struct multicall_entry e[3] = {
		{ .op = __HYPERVISOR_xen_version, .args = { XENVER_version } },
		{ .op = 60 },
		{ .op = __HYPERVISOR_iret },
	};

	(void)state;
	memcpy(at(DATA), e, sizeof(e));
	assert_int_equal(hypercall(__HYPERVISOR_multicall, DATA, 3, 0), 0);
	memcpy(e, at(DATA), sizeof(e));
	assert_int_equal(e[0].result, 4 << 16 | 17);
	assert_int_equal((int64_t)e[1].result, -XEN_ENOSYS);
	assert_int_equal((int64_t)e[2].result, -XEN_ENOSYS);
	assert_int_equal(hypercall(__HYPERVISOR_multicall, XEN_M2P_START, 1, 0), -XEN_EFAULT);
}

static void privileged_instructions_of_the_kernel_are_emulated_and_only_the_listed_ones(void **state)
{
	struct vcpu *v = rig->v;

	(void)state;
	rig->xv->trap[VEC_GP] = (struct trap_info){ .vector = VEC_GP, .flags = 4, .address = HANDLER };
	rig->xv->trap[VEC_UD] = (struct trap_info){ .vector = VEC_UD, .flags = 4, .address = HANDLER };
	v->gpr[RAX] = 0x40000000;
	STEP(0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2);
	assert_int_equal(v->rip, CODE + 7);
	assert_int_equal(v->gpr[RBX], 0x566e6558);
	v->rip = CODE;
	STEP(0x0f, 0x20, 0xd8); /* mov %cr3, %rax */
	assert_int_equal(v->gpr[RAX], v->mmu.cr3);
	v->rip = CODE;
	v->gpr[RCX] = 0xc0000101, v->gpr[RAX] = 0x5000, v->gpr[RDX] = 0;
	STEP(0x0f, 0x30); /* wrmsr */
	assert_int_equal(v->seg[SEG_GS].base, 0x5000);
	assert_int_equal(v->rip, CODE + 2);
	v->rip = CODE;
	STEP(0xe4, 0x60); /* in: not yet */
	assert_int_equal(v->rip, HANDLER);
	struct physdev_set_iopl iopl = { .iopl = 1 };
	memcpy(at(DATA), &iopl, sizeof(iopl));
	assert_int_equal(hypercall(__HYPERVISOR_physdev_op, PHYSDEVOP_set_iopl, DATA, 0), 0);
	v->rip = CODE;
	STEP(0xe4, 0x60);
	assert_int_equal(v->rip, CODE + 2);
	assert_int_equal(v->gpr[RAX] & 0xff, 0xff);
	v->rip = CODE;
	STEP(0xf4); /* hlt */
	assert_int_equal(v->rip, HANDLER);
	v->rip = CODE;
	STEP(0x0f, 0x08); /* invd */
	assert_int_equal(v->rip, HANDLER);
	to_user(); /* nothing of this for user code */
	v->gpr[RCX] = 0xc0000101;
	STEP(0x0f, 0x30);
	assert_int_equal(v->rip, HANDLER);
	to_user();
	STEP(0xe4, 0x60);
	assert_int_equal(v->rip, HANDLER);
	assert_int_equal(v->rflags & FL_IOPL, 0);
}

/* The next event of a trace, which is of this kind. */
static struct trace_event traced(struct trace *t, enum trace_kind kind, uint32_t a)
{
	const struct trace_event *e = trace_oldest(t);
	struct trace_event copy;

	assert_non_null(e);
	copy = *e;
	assert_int_equal(copy.kind, kind);
	assert_int_equal(copy.a, a);
	trace_done(t);
	return copy;
}

static void a_trace_tells_bounces_hypercalls_and_returns(void **state)
{
	struct vcpu *v = rig->v;
	struct trace_event e;
	struct trace *t;

	(void)state;
	assert_int_equal(trace_create(&t), 0);
	t->wanted = 1u << TRACE_CAT_SYSCALL | 1u << TRACE_CAT_HYPERCALL | 1u << TRACE_CAT_EXCEPTION;
	v->mmu.trace = t;
	rig->xv->callback[CALLBACKTYPE_syscall] = (struct xen_callback){ CALLBACK, true };
	rig->xv->trap[VEC_UD] = (struct trap_info){ .vector = VEC_UD, .address = HANDLER };
	to_user();
	v->gpr[RAX] = 39;
	STEP(0x0f, 0x05);
	e = traced(t, TRACE_SYSCALL, 39);
	assert_int_equal(e.arg[2], CODE + 2);
	/* The kernel's side of it: a hypercall, and iret from where the bounce left the frame. */
	const uint64_t frame = v->gpr[RSP] + 16;
	hypercall(__HYPERVISOR_xen_version, XENVER_version, 0, 0);
	e = traced(t, TRACE_HYPERCALL, __HYPERVISOR_xen_version);
	assert_int_equal(e.arg[1], XENVER_version);
	assert_int_equal(e.arg[2], 4 << 16 | 17);
	assert_true(e.arg[0] && e.arg[0] <= e.tsc);
	assert_string_equal(xen_hypercall_name(e.a), "xen_version");
	v->gpr[RSP] = frame - offsetof(struct iret_context, rip);
	memset(at(v->gpr[RSP]), 0, offsetof(struct iret_context, rip));
	v->rip = CODE;
	v->gpr[RAX] = __HYPERVISOR_iret;
	STEP(0x0f, 0x05);
	assert_int_equal(v->rip, CODE + 2);
	e = traced(t, TRACE_RETURN, 3);
	assert_int_equal(e.arg[2], CODE + 2);
	assert_int_equal(e.arg[3], frame);
	/* An exception of the kernel's own is one of privilege 0. */
	v->ring3_kernel = 1;
	v->gpr[RSP] = STACK_TOP - 64;
	STEP(0x0f, 0x0b);
	e = traced(t, TRACE_EVENT, trace_event_word(VEC_UD, 0, 0));
	assert_int_equal(e.arg[3], v->gpr[RSP] + 16);
	assert_int_equal(load_u64(at(e.arg[3])), CODE + 2);
	assert_null(trace_oldest(t));
	v->mmu.trace = 0;
	trace_destroy(t);
}

static void guest_pointers_into_the_hypervisors_hole_are_refused(void **state)
{
	uint64_t x = 0;

	(void)state;
	assert_int_equal(xen_copy_from_guest(rig->v, &x, XEN_M2P_START, 8), -XEN_EFAULT);
	assert_int_equal(xen_copy_to_guest(rig->v, XEN_HOLE_END - 4, &x, 8), -XEN_EFAULT);
	assert_int_equal(xen_copy_to_guest(rig->v, ~0ull - 3, &x, 8), -XEN_EFAULT);
	assert_int_equal(xen_copy_to_guest(rig->v, 0x7ffffffffffcull, &x, 8), -XEN_EFAULT);
	assert_int_equal(xen_copy_to_guest(rig->v, DATA, &x, 8), 0);
	assert_int_equal(hypercall(__HYPERVISOR_xen_version, XENVER_capabilities, XEN_M2P_START, 0), -XEN_EFAULT);
}

/* The kernel sees its level-1 table read-only at TABLE; its entry for DATA is the second. */
#define TABLE 0x403000ull

static void stores_to_level_1_tables_change_their_entries_if_they_may(void **state)
{
	struct vcpu *v = rig->v;
	uint64_t *l1 = &table(rig->l1)[CODE >> 12 & 511], old = l1[1];
	const uint64_t entry = TABLE + ((CODE >> 12 & 511) + 1) * 8;
	const struct trap_info pf = { VEC_PF, 4, FLAT_KERNEL_CS64, HANDLER };

	(void)state;
	l1[3] = rig->l1.v << PAGE_SHIFT | PTE_P | PTE_U;
	rig->xen->pages->budget = PV_BUDGET;
	assert_int_equal(pv_pin(rig->xen->pages, rig->root, PV_L4), 0);
	rig->xv->trap[VEC_PF] = pf;

	/* Nobody has asked for it: a page fault. */
	v->gpr[RAX] = entry;
	v->gpr[RDX] = 0;
	STEP(0x48, 0x87, 0x10);			/* xchg [rax], rdx */
	assert_int_equal(v->rip, HANDLER);
	assert_int_equal(l1[1], old);

	rig->xv->assist |= 1u << VMASST_TYPE_writable_pagetables;
	v->rip = CODE;
	STEP(0x48, 0x87, 0x10);
	assert_int_equal(v->rip, CODE + 3);
	assert_int_equal(v->gpr[RDX] & ~(uint64_t)(PTE_A | PTE_D), old & ~(uint64_t)(PTE_A | PTE_D));
	assert_int_equal(l1[1], 0);
	assert_int_equal(rig->xen->pages->page[rig->page[1].v].refs, 1);
	STEP(0x48, 0x87, 0x10);			/* and back */
	assert_int_equal(l1[1] & ~(uint64_t)(PTE_A | PTE_D), old & ~(uint64_t)(PTE_A | PTE_D));
	assert_int_equal(rig->xen->pages->page[rig->page[1].v].type, PV_WRITABLE);
	STEP(0xf0, 0x80, 0x20, 0xfd);		/* lock and byte [rax], ~2: read-only from now on */
	assert_false(l1[1] & PTE_W);
	assert_int_equal(rig->xen->pages->page[rig->page[1].v].type_count, 0);

	/* A frame that is not the domain's, and a table as writable memory: the fault stands, and nothing has changed. */
	old = l1[1];
	for (unsigned i = 0; i < 2; i++) {
		v->gpr[RDX] = (i ? rig->l1.v : 0) << PAGE_SHIFT | PTE_P | PTE_W | PTE_U;
		v->rip = CODE;
		STEP(0x48, 0x89, 0x10);		/* mov [rax], rdx */
		assert_int_equal(v->rip, HANDLER);
		assert_int_equal(l1[1], old);
	}
	assert_int_equal(rig->xv->info->arch.cr2, entry);
	assert_int_equal(pv_unpin(rig->xen->pages, rig->root), 0);
	while (!pv_ready(rig->xen->pages))
		rig->xen->pages->budget = PV_BUDGET;
}

/*
 * The I/O thread holds timer_lock when it looks at a domain's timers (vm/wake.c), and the vcpu's thread takes that to arm what it has set. A mutex stands for
 * timer_lock here; whoever waits for it for seconds waits forever.
 */
static struct { pthread_mutex_t lock; bool stuck; _Atomic bool end; } timer_thread = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool take_timer_lock(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 10;
	if (pthread_mutex_timedlock(&timer_thread.lock, &until))
		return timer_thread.stuck = true, false;
	return true;
}

static void timer_changed(void *unused)
{
	(void)unused;
	if (take_timer_lock())
		pthread_mutex_unlock(&timer_thread.lock);
}

static void *io_thread(void *unused)
{
	(void)unused;
	while (!timer_thread.end && take_timer_lock()) {
		xen_timer(rig->v, ~0ull - 1); /* always a deadline that has passed */
		pthread_mutex_unlock(&timer_thread.lock);
	}
	return NULL;
}

static void timers_are_set_while_the_other_thread_looks_at_them(void **state)
{
	pthread_t thread;

	(void)state;
	rig->v->lapic.timer_changed = timer_changed;
	timer_thread.end = timer_thread.stuck = false;
	assert_int_equal(pthread_create(&thread, NULL, io_thread, NULL), 0);
	for (unsigned i = 0; i < 20000 && !timer_thread.stuck; i++) {
		xen_set_singleshot(rig->xv, xen_time_now(rig->xv) + 1000000);
		xen_set_periodic(rig->xv, i % 3 ? 2000000 : 0);
		xen_set_poll_timeout(rig->xv, xen_time_now(rig->xv) + 3000000);
		xen_set_watchdog(rig->xen, 1, xen_time_now(rig->xv) + 1000000000);
	}
	timer_thread.end = true;
	pthread_join(thread, NULL);
	assert_false(timer_thread.stuck);
	xen_set_watchdog(rig->xen, 1, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(syscall_in_the_kernel_is_a_hypercall), T(syscall_in_user_code_bounces_to_the_kernel_and_iret_goes_back),
		T(iret_goes_by_the_descriptors_as_they_are_now), T(iret_to_what_cannot_be_entered_goes_to_the_failsafe_callback_or_ends_the_domain),
		T(a_trap_table_is_taken_and_cleared_and_the_fpu_trap_clears_task_switched),
		T(exceptions_bounce_with_their_error_code_and_the_event_mask), T(software_interrupts_go_by_the_tables_privilege),
		T(a_guest_without_a_handler_or_a_stack_is_lost), T(events_come_when_they_are_open), T(timers_end_in_the_timer_virq),
		T(a_watchdog_that_is_not_poked_ends_the_domain), T(a_reason_that_was_latched_is_the_one_that_counts),
		T(a_multicall_makes_each_call_and_keeps_its_result), T(privileged_instructions_of_the_kernel_are_emulated_and_only_the_listed_ones),
		T(a_trace_tells_bounces_hypercalls_and_returns), T(guest_pointers_into_the_hypervisors_hole_are_refused),
		T(timers_are_set_while_the_other_thread_looks_at_them),
		T(stores_to_level_1_tables_change_their_entries_if_they_may),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
