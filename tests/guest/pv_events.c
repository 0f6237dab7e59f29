/*
 * pv_events.c - how control comes to a paravirtualized kernel: event channels by every operation, the callbacks and their frames, timers of every kind, waiting, the vcpu's
 * registered areas, NMIs, user code's system calls, and what happens to an iret that asks for the impossible.
 */
#include "pv.h"
#include <xen/callback.h>
#include <xen/event_channel.h>
#include <xen/nmi.h>
#include <xen/vcpu.h>
#include <xen/version.h>

PV_GUEST(events);

#define RW (PV_P | PV_W | PV_U)
#define MS 1000000ull
#define NEW_INFO ((struct vcpu_info *)(void *)(info_page + 8))

static uint64_t shared[512] __attribute__((aligned(4096)));
static uint64_t info_page[512] __attribute__((aligned(4096)));
static uint8_t stack[4096] __attribute__((aligned(4096)));
static volatile struct vcpu_info *vcpu;

/*
 * Handlers of the ABI. Events: keeps the registers, calls pv_on_event, and returns by the iret hypercall. The others keep their frame and go on where the test wants to.
 */
static volatile unsigned upcalls, nmis;
uint64_t pv_frame[12];
__asm__(
"pv_upcall:\n"
"push %rax; push %rdx; push %rsi; push %rdi; push %r8; push %r9; push %r10\n"
"call pv_on_event\n"
"pop %r10; pop %r9; pop %r8; pop %rdi; pop %rsi; pop %rdx; pop %rax\n"
"pv_return:\n"
"mov (%rsp), %rcx; mov 8(%rsp), %r11; add $16, %rsp\n"
"pushq $0; push %rcx; push %r11; push %rax; mov $23, %eax; syscall\n"
"pv_nmi: incl nmis(%rip)\njmp pv_return\n"
"pv_keep:\n"			/* failsafe and system calls: the frame, then back to the test */
"cld; mov %rsp, %rsi; lea pv_frame(%rip), %rdi; mov $11, %ecx; rep movsq\n"
"mov pv_resume_rsp(%rip), %rsp; jmp *pv_resume(%rip)\n"
"pv_user: mov $0x77, %eax; syscall\nud2\n");
void pv_upcall(void);
void pv_nmi(void);
void pv_keep(void);
void pv_user(void);

static struct shared_info *info(void) { return (struct shared_info *)(void *)shared; }

static __attribute__((used)) void pv_on_event(void)
{
	upcalls++;
	vcpu->evtchn_upcall_pending = 0;
	__atomic_exchange_n(&vcpu->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < 64; i++)
		__atomic_fetch_and(&info()->evtchn_pending[i], info()->evtchn_mask[i], __ATOMIC_SEQ_CST);
}

static int64_t op(unsigned command, void *p) { return pv_call(__HYPERVISOR_event_channel_op, command, (uint64_t)(uintptr_t)p, 0, 0); }
static int64_t vcpu_op(unsigned command, void *p) { return pv_call(__HYPERVISOR_vcpu_op, command, 0, (uint64_t)(uintptr_t)p, 0); }
static int64_t sched(unsigned command, void *p) { return pv_call(__HYPERVISOR_sched_op, command, (uint64_t)(uintptr_t)p, 0, 0); }
static int64_t callback(unsigned type, void (*f)(void), unsigned flags)
{
	struct callback_register r = { .type = (uint16_t)type, .flags = (uint16_t)flags, .address = (uint64_t)(uintptr_t)f };

	return pv_call(__HYPERVISOR_callback_op, CALLBACKOP_register, (uint64_t)(uintptr_t)&r, 0, 0);
}
static int is_pending(unsigned port) { return info()->evtchn_pending[port / 64] >> port % 64 & 1; }
static void mask(unsigned port) { __atomic_fetch_or(&info()->evtchn_mask[port / 64], 1ul << port % 64, __ATOMIC_SEQ_CST); }
static int64_t unmask(unsigned port) { return op(EVTCHNOP_unmask, &(struct evtchn_unmask){ port }); }
static int64_t send(unsigned port) { return op(EVTCHNOP_send, &(struct evtchn_send){ port }); }
static unsigned status(unsigned port)
{
	struct evtchn_status s = { .dom = DOMID_SELF, .port = port };

	return op(EVTCHNOP_status, &s) ? 99 : s.status;
}
/* System time, as a kernel reads it. */
static uint64_t now(void)
{
	const volatile struct vcpu_time_info *t = &vcpu->time;
	uint64_t ticks = __builtin_ia32_rdtsc() - t->tsc_timestamp;

	ticks = t->tsc_shift < 0 ? ticks >> -t->tsc_shift : ticks << t->tsc_shift;
	return t->system_time + (uint64_t)((unsigned __int128)ticks * t->tsc_to_system_mul >> 32);
}

static void set_up(void)
{
	PV_CHECK(!pv_update(pv_leaf_at(shared), pv_info->shared_info | RW), 0);
	pv_ext(MMUEXT_INVLPG_LOCAL, (uint64_t)(uintptr_t)shared, 0);
	vcpu = &info()->vcpu_info[0];
	PV_CHECK(vcpu->evtchn_upcall_mask == 1, 0);
	PV_CHECK(!pv_call(__HYPERVISOR_set_callbacks, (uint64_t)(uintptr_t)pv_upcall, (uint64_t)(uintptr_t)pv_keep, (uint64_t)(uintptr_t)pv_keep, 0), 0);
	PV_CHECK(pv_call(__HYPERVISOR_set_callbacks, 1ull << 50, 0, 0, 0) == -XEN_EINVAL, 0);
	PV_CHECK(!pv_call(__HYPERVISOR_stack_switch, FLAT_KERNEL_SS, (uint64_t)(uintptr_t)(stack + sizeof(stack)), 0, 0), 0);
}

static void channels(void)
{
	struct evtchn_bind_ipi ipi = { 0 };
	struct evtchn_alloc_unbound open = { .dom = DOMID_SELF, .remote_dom = 0 };
	struct evtchn_bind_virq virq = { .virq = VIRQ_DEBUG };
	const unsigned before = upcalls;

	PV_CHECK(!op(EVTCHNOP_bind_ipi, &ipi) && ipi.port, ipi.port);
	PV_CHECK(status(ipi.port) == EVTCHNSTAT_ipi, status(ipi.port));
	/* Pending while its port is masked, then while the vcpu is; then it comes, once. */
	PV_CHECK(!send(ipi.port) && is_pending(ipi.port) && !vcpu->evtchn_upcall_pending, 0);
	PV_CHECK(!unmask(ipi.port) && vcpu->evtchn_upcall_pending && upcalls == before, upcalls);
	vcpu->evtchn_upcall_mask = 0;
	pv_call(__HYPERVISOR_xen_version, XENVER_version, 0, 0, 0);
	PV_CHECK(upcalls == before + 1 && !is_pending(ipi.port) && !vcpu->evtchn_upcall_mask, upcalls);
	PV_CHECK(!send(ipi.port) && upcalls == before + 2, upcalls);
	mask(ipi.port);
	PV_CHECK(!send(ipi.port) && upcalls == before + 2 && is_pending(ipi.port), upcalls);
	PV_CHECK(!unmask(ipi.port) && upcalls == before + 3, upcalls);

	PV_CHECK(!op(EVTCHNOP_alloc_unbound, &open) && open.port != ipi.port, open.port);
	PV_CHECK(status(open.port) == EVTCHNSTAT_unbound, status(open.port));
	PV_CHECK(!op(EVTCHNOP_bind_vcpu, &(struct evtchn_bind_vcpu){ .port = open.port }), 0);
	PV_CHECK(op(EVTCHNOP_bind_vcpu, &(struct evtchn_bind_vcpu){ .port = ipi.port }) == -XEN_EINVAL, 0);	/* it is a vcpu's own */
	PV_CHECK(op(EVTCHNOP_bind_vcpu, &(struct evtchn_bind_vcpu){ .port = 4096 }) == -XEN_EINVAL, 0);
	open.dom = 5;
	PV_CHECK(op(EVTCHNOP_alloc_unbound, &open) == -XEN_EPERM, 0);
	PV_CHECK(!op(EVTCHNOP_bind_virq, &virq) && status(virq.port) == EVTCHNSTAT_virq, virq.port);
	PV_CHECK(op(EVTCHNOP_bind_virq, &virq) == -XEN_EEXIST, 0);
	virq.virq = NR_VIRQS;
	PV_CHECK(op(EVTCHNOP_bind_virq, &virq) == -XEN_EINVAL, 0);
	PV_CHECK(send(virq.port) == -XEN_EINVAL && send(4096) == -XEN_EINVAL && send(0) == -XEN_EINVAL, 0);
	ipi.vcpu = 1;
	PV_CHECK(op(EVTCHNOP_bind_ipi, &ipi) == -XEN_ENOENT, 0);
	PV_CHECK(op(EVTCHNOP_bind_vcpu, &(struct evtchn_bind_vcpu){ .port = virq.port, .vcpu = 1 }) == -XEN_ENOENT, 0);
	PV_CHECK(!op(EVTCHNOP_close, &(struct evtchn_close){ virq.port }) && status(virq.port) == EVTCHNSTAT_closed, status(virq.port));
	PV_CHECK(op(EVTCHNOP_close, &(struct evtchn_close){ virq.port }) == -XEN_EINVAL, 0);
	/* The console's channel was there from the start; a reset closes that, too. */
	PV_CHECK(status(pv_info->console.domU.evtchn) == EVTCHNSTAT_interdomain, 0);
	PV_CHECK(!op(EVTCHNOP_reset, &(struct evtchn_reset){ DOMID_SELF }), 0);
	for (unsigned port = 0; port < 4096; port++)
		if (status(port) != EVTCHNSTAT_closed)
			PV_CHECK(0, port);
	PV_CHECK(op(EVTCHNOP_reset, &(struct evtchn_reset){ 5 }) == -XEN_ESRCH, 0);
	/* All of them can be had, and no more. */
	open.dom = DOMID_SELF;
	for (unsigned port = 1; port < 4096; port++)
		if (op(EVTCHNOP_alloc_unbound, &open))
			PV_CHECK(0, port);
	PV_CHECK(op(EVTCHNOP_alloc_unbound, &open) == -XEN_ENOSPC, 0);
	PV_CHECK(!op(EVTCHNOP_reset, &(struct evtchn_reset){ DOMID_SELF }), 0);
	PV_CHECK(op(EVTCHNOP_bind_pirq, &open) == -XEN_ENOSYS && op(EVTCHNOP_init_control, &open) == -XEN_ENOSYS && op(99, &open) == -XEN_ENOSYS, 0);
}

static void timers(void)
{
	struct evtchn_bind_virq virq = { .virq = VIRQ_TIMER };
	struct vcpu_set_periodic_timer period = { 5 * MS };
	struct vcpu_set_singleshot_timer once = { .timeout_abs_ns = now() + 10 * MS };
	struct sched_poll poll = { .nr_ports = 1 };
	evtchn_port_t port;
	uint64_t begin = now();
	unsigned before = upcalls;

	PV_CHECK(!op(EVTCHNOP_bind_virq, &virq) && !unmask(virq.port), virq.port);
	PV_CHECK(!(vcpu->time.version & 1) && vcpu->time.tsc_to_system_mul, vcpu->time.version);
	/* The wall clock is after 2020. */
	PV_CHECK(info()->wc_sec > 1577836800 && !(info()->wc_version & 1), info()->wc_sec);
	/* set_timer_op, and waiting for it. */
	PV_CHECK(!pv_call(__HYPERVISOR_set_timer_op, begin + 10 * MS, 0, 0, 0), 0);
	while (upcalls == before)
		sched(SCHEDOP_block, 0);
	PV_CHECK(now() >= begin + 10 * MS && upcalls == before + 1, now() - begin);
	/* A single shot; one that lies in the past is refused if so asked for, and else fires at once. */
	before = upcalls, begin = now();
	once.timeout_abs_ns = begin + 10 * MS;
	PV_CHECK(!vcpu_op(VCPUOP_set_singleshot_timer, &once), 0);
	while (upcalls == before)
		sched(SCHEDOP_block, 0);
	PV_CHECK(now() >= begin + 10 * MS, now() - begin);
	once.timeout_abs_ns = begin, once.flags = VCPU_SSHOTTMR_future;
	PV_CHECK(vcpu_op(VCPUOP_set_singleshot_timer, &once) == -XEN_ETIME, 0);
	before = upcalls, once.flags = 0;
	PV_CHECK(!vcpu_op(VCPUOP_set_singleshot_timer, &once) && upcalls == before + 1, upcalls);
	/* A stopped one never comes; a periodic one comes again and again, until it is stopped. */
	once.timeout_abs_ns = now() + 20 * MS;
	PV_CHECK(!vcpu_op(VCPUOP_set_singleshot_timer, &once) && !vcpu_op(VCPUOP_stop_singleshot_timer, 0), 0);
	before = upcalls, begin = now();
	PV_CHECK(!vcpu_op(VCPUOP_set_periodic_timer, &period), 0);
	while (upcalls < before + 6)
		sched(SCHEDOP_block, 0);
	PV_CHECK(now() - begin >= 25 * MS, now() - begin);
	PV_CHECK(!vcpu_op(VCPUOP_stop_periodic_timer, 0), 0);
	period.period_ns = 0;
	PV_CHECK(vcpu_op(VCPUOP_set_periodic_timer, &period) == -XEN_EINVAL, 0);
	/* Polling: until the time has come; until a port is pending, though it is masked. */
	mask(virq.port);
	__atomic_fetch_and(&info()->evtchn_pending[virq.port / 64], ~(1ul << virq.port % 64), __ATOMIC_SEQ_CST);
	port = virq.port, before = upcalls, begin = now();
	set_xen_guest_handle(poll.ports, &port);
	poll.timeout = begin + 10 * MS;
	PV_CHECK(!sched(SCHEDOP_poll, &poll) && now() >= begin + 10 * MS && !is_pending(port), now() - begin);
	poll.timeout = begin + 100000 * MS;
	pv_call(__HYPERVISOR_set_timer_op, now() + 10 * MS, 0, 0, 0);
	PV_CHECK(!sched(SCHEDOP_poll, &poll) && is_pending(port) && upcalls == before, upcalls);
	port = 4096;
	PV_CHECK(sched(SCHEDOP_poll, &poll) == -XEN_EINVAL, 0);
	poll.nr_ports = 129;
	PV_CHECK(sched(SCHEDOP_poll, &poll) == -XEN_EINVAL, 0);
	PV_CHECK(!sched(SCHEDOP_yield, 0) && sched(99, 0) == -XEN_ENOSYS, 0);
	op(EVTCHNOP_close, &(struct evtchn_close){ virq.port });
}

static void virtual_cpu(void)
{
	static struct vcpu_runstate_info run;
	static struct vcpu_time_info time;
	struct vcpu_register_runstate_memory_area area = { .addr = { .v = &run } };
	struct vcpu_register_time_memory_area time_area = { .addr = { .v = &time } };
	struct vcpu_register_vcpu_info place = { .mfn = pv_mfn(info_page), .offset = 64 };
	struct evtchn_bind_ipi ipi = { 0 };
	unsigned before;

	PV_CHECK(vcpu_op(VCPUOP_is_up, 0) == 1, 0);
	PV_CHECK(pv_call(__HYPERVISOR_vcpu_op, VCPUOP_is_up, 1, 0, 0) == -XEN_ENOENT, 0);
	PV_CHECK(vcpu_op(VCPUOP_initialise, info_page) == -XEN_EEXIST && !vcpu_op(VCPUOP_up, 0) && vcpu_op(VCPUOP_down, 0) == -XEN_EPERM, 0);
	PV_CHECK(vcpu_op(99, 0) == -XEN_ENOSYS, 0);
	PV_CHECK(!vcpu_op(VCPUOP_register_runstate_memory_area, &area) && run.state == RUNSTATE_running, run.state);
	PV_CHECK(!vcpu_op(VCPUOP_get_runstate_info, &run), 0);
	/* It has slept in timers(). */
	PV_CHECK(run.time[RUNSTATE_blocked] >= 50 * MS && run.time[RUNSTATE_running] > 0 && run.state_entry_time <= now(), run.time[RUNSTATE_blocked]);
	PV_CHECK(!vcpu_op(VCPUOP_register_vcpu_time_memory_area, &time_area) && time.tsc_to_system_mul == vcpu->time.tsc_to_system_mul, 0);
	/* vcpu_info at a place of the guest's own: events go by it from then on. It cannot move again, nor be anything but memory. */
	PV_CHECK(pv_call(__HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_info, 0, (uint64_t)(uintptr_t)&(struct vcpu_register_vcpu_info){ .mfn = place.mfn, .offset = 4090 }, 0) == -XEN_EINVAL, 0);
	vcpu->evtchn_upcall_mask = 1;	/* an event comes at once, so that none is lost */
	PV_CHECK(!vcpu_op(VCPUOP_register_vcpu_info, &place), 0);
	vcpu = NEW_INFO;
	PV_CHECK(vcpu->time.tsc_to_system_mul == time.tsc_to_system_mul && vcpu->evtchn_upcall_mask == 1 && vcpu->evtchn_upcall_pending, vcpu->evtchn_upcall_mask);
	vcpu->evtchn_upcall_mask = 0;
	PV_CHECK(vcpu_op(VCPUOP_register_vcpu_info, &place) == -XEN_EINVAL, 0);
	PV_CHECK(!pv_remap(info_page, PV_P | PV_U) && pv_ext(MMUEXT_PIN_L1_TABLE, pv_mfn(info_page), 0) == -XEN_EINVAL && !pv_remap(info_page, RW), 0);
	before = upcalls;
	PV_CHECK(!op(EVTCHNOP_bind_ipi, &ipi) && !unmask(ipi.port) && !send(ipi.port), ipi.port);
	PV_CHECK(upcalls > before && !is_pending(ipi.port), upcalls);
	/* NMIs, where a callback is registered; it can be taken away, others cannot. */
	PV_CHECK(!callback(CALLBACKTYPE_nmi, pv_nmi, 0), 0);
	PV_CHECK(!vcpu_op(VCPUOP_send_nmi, 0) && nmis == 1, nmis);
	struct callback_unregister away = { .type = CALLBACKTYPE_nmi };
	PV_CHECK(!pv_call(__HYPERVISOR_callback_op, CALLBACKOP_unregister, (uint64_t)(uintptr_t)&away, 0, 0), 0);
	away.type = CALLBACKTYPE_event;
	PV_CHECK(pv_call(__HYPERVISOR_callback_op, CALLBACKOP_unregister, (uint64_t)(uintptr_t)&away, 0, 0) == -XEN_EINVAL, 0);
	PV_CHECK(callback(17, pv_nmi, 0) == -XEN_ENOSYS && pv_call(__HYPERVISOR_callback_op, 9, 0, 0, 0) == -XEN_ENOSYS, 0);
	PV_CHECK(callback(CALLBACKTYPE_event, (void (*)(void))(1ull << 50), 0) == -XEN_EINVAL, 0);
	PV_CHECK(!callback(CALLBACKTYPE_sysenter, pv_keep, 0) && !callback(CALLBACKTYPE_syscall32, pv_keep, 0), 0);
}

/* A channel of the domain to itself: two ports, either of which tells the other. */
static void to_itself(void)
{
	struct evtchn_alloc_unbound open = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF }, other = { .dom = DOMID_SELF, .remote_dom = 0 };
	struct evtchn_bind_interdomain b = { .remote_dom = DOMID_SELF };
	struct evtchn_status s = { .dom = DOMID_SELF };
	struct evtchn_close c;

	PV_CHECK(!op(EVTCHNOP_alloc_unbound, &open) && !op(EVTCHNOP_alloc_unbound, &other), open.port);
	b.remote_port = other.port;	/* waits for domain 0 */
	PV_CHECK(op(EVTCHNOP_bind_interdomain, &b) == -XEN_EINVAL, 0);
	b.remote_port = 5000;
	PV_CHECK(op(EVTCHNOP_bind_interdomain, &b) == -XEN_EINVAL, 0);
	b.remote_port = open.port;
	b.remote_dom = 7;
	PV_CHECK(op(EVTCHNOP_bind_interdomain, &b) == -XEN_ESRCH, 0);
	b.remote_dom = DOMID_SELF;
	info()->evtchn_mask[0] = ~0ul;
	PV_CHECK(!op(EVTCHNOP_bind_interdomain, &b) && b.local_port && b.local_port != open.port, b.local_port);
	PV_CHECK(is_pending(b.local_port) && !is_pending(open.port), 0);
	PV_CHECK(!send(b.local_port) && is_pending(open.port), 0);
	PV_CHECK(op(EVTCHNOP_bind_interdomain, &b) == -XEN_EINVAL, 0);	/* it is bound */
	s.port = open.port;
	PV_CHECK(!op(EVTCHNOP_status, &s) && s.status == EVTCHNSTAT_interdomain && s.u.interdomain.port == b.local_port, s.u.interdomain.port);
	/* One end goes: the other waits again, and sending on it tells nobody. */
	c.port = b.local_port;
	PV_CHECK(!op(EVTCHNOP_close, &c), 0);
	PV_CHECK(!op(EVTCHNOP_status, &s) && s.status == EVTCHNSTAT_unbound, s.status);
	PV_CHECK(!send(open.port) && !is_pending(b.local_port), 0);
	c.port = open.port;
	PV_CHECK(!op(EVTCHNOP_close, &c), 0);
	c.port = other.port;
	PV_CHECK(!op(EVTCHNOP_close, &c), 0);
}

/* Watchdogs: two, set, poked and taken away. The last one stays, and so does the reason that is to be given for the end, which a watchdog or a crash would change. */
static void watchdogs(void)
{
	struct sched_watchdog w = { 0, 1000 };
	struct sched_shutdown reason = { 99 };

	PV_CHECK(sched(SCHEDOP_watchdog, &w) == 1 && sched(SCHEDOP_watchdog, &w) == 2, 0);
	PV_CHECK(sched(SCHEDOP_watchdog, &w) == -XEN_ENOSPC, 0);
	w.id = 3;
	PV_CHECK(sched(SCHEDOP_watchdog, &w) == -XEN_EINVAL, 0);
	w.id = 2;
	PV_CHECK(!sched(SCHEDOP_watchdog, &w), 0);
	w.timeout = 0;
	PV_CHECK(!sched(SCHEDOP_watchdog, &w) && sched(SCHEDOP_watchdog, &w) == -XEN_EINVAL, 0);
	w.id = 1;
	PV_CHECK(!sched(SCHEDOP_watchdog, &w), 0);
	w.id = 0;
	PV_CHECK(sched(SCHEDOP_watchdog, &w) == -XEN_EINVAL, 0);
	PV_CHECK(sched(SCHEDOP_shutdown_code, &reason) == -XEN_EINVAL, 0);
}

/* The iret hypercall with this frame; comes back by pv_keep. */
static void leave(uint64_t rip, uint64_t cs, uint64_t ss)
{
	static struct iret_context frame;
	static uint8_t user_stack[256] __attribute__((aligned(16)));

	frame = (struct iret_context){ .rax = 1, .rip = rip, .cs = cs, .rflags = 0x202, .rsp = (uint64_t)(uintptr_t)(user_stack + sizeof(user_stack)), .ss = ss };
	for (unsigned i = 0; i < 12; i++)
		pv_frame[i] = 0;
	__asm__ volatile("push %%rbx; push %%rbp; mov %%rsp, pv_resume_rsp; movq $1f, pv_resume\n"
			 "mov %0, %%rsp; mov $23, %%eax; syscall\n1: pop %%rbp; pop %%rbx" : : "r"(&frame)
			 : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
}

static void user_code(void)
{
	const uint64_t user = (uint64_t)(uintptr_t)pv_user;

	PV_CHECK(!pv_ext(MMUEXT_NEW_USER_BASEPTR, pv_mfn(pv_table(stack, 4)), 0), 0);
	/* SYSCALL of user code bounces: where it came from, and that it came from privilege 3. */
	leave(user, FLAT_USER_CS64, FLAT_USER_SS64);
	PV_CHECK(pv_frame[2] == user + 7 && pv_frame[3] == FLAT_USER_CS64 && pv_frame[6] == FLAT_USER_SS64, pv_frame[2]);
	PV_CHECK(pv_frame[4] & 0x200, pv_frame[4]);	/* events were open */
	/* What cannot be entered: the failsafe callback, with DS, ES, FS and GS between R11 and the frame that was asked for. */
	leave(user, 0x1003, FLAT_USER_SS64);
	PV_CHECK(pv_frame[6] == user && (pv_frame[7] & 0xffff) == 0x1003 && pv_frame[10] == FLAT_USER_SS64, pv_frame[6]);
	leave(1ull << 50, FLAT_USER_CS64, FLAT_USER_SS64);
	PV_CHECK(pv_frame[6] == 1ull << 50, pv_frame[6]);
	/* It masks events only if it was registered so. */
	PV_CHECK(!vcpu->evtchn_upcall_mask, 0);
	PV_CHECK(!callback(CALLBACKTYPE_failsafe, pv_keep, CALLBACKF_mask_events), 0);
	leave(user, FLAT_USER_CS64, 0x1003);
	PV_CHECK(pv_frame[6] == user && pv_frame[10] == 0x1003, pv_frame[10]);
	PV_CHECK(vcpu->evtchn_upcall_mask == 1, 0);
}

static __attribute__((used)) void events(struct start_info *start)
{
	pv_start(start);
	set_up();
	channels();
	to_itself();
	watchdogs();
	timers();
	virtual_cpu();
	user_code();
	pv_end();
}
