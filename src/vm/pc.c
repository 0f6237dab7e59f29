/*
 * pc.c - the machine of unmodified kernels: what nested and shadow boot. A hardware-reduced PC: serial port, IO-APIC, clock, ACPI power.
 */
#include "vm/vm_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cpu/kvmclock.h"

#define UART_PORT 0x3f8u
#define UART_GSI 4u
#define PIT_GSI 2u
#define SCI_GSI 9u	/* nothing raises it: no fixed event is ever due */
#define LAPIC_BASE 0xfee00000u
#define DELIVERY_LOWEST_PRIORITY 1u

static void vm_send_irq(void *opaque, const struct irq_message *msg)
{
	struct vm *vm = opaque;

	for (unsigned id = 0; id < vm->vcpus; id++) {
		struct vcpu *v = &vm->vcpu[id]->v;
		if (!lapic_matches(&v->lapic, msg->dest, msg->dest_logical))
			continue;
		lapic_post(v, msg);
		if (msg->delivery_mode == DELIVERY_LOWEST_PRIORITY)
			break;
	}
}

static void vm_level_eoi(void *opaque, uint8_t vector)
{
	struct vm *vm = opaque;

	bus_lock(&vm->bus);
	ioapic_eoi(&vm->ioapic, vector);
	bus_unlock(&vm->bus);
}

static int pc_memory(struct vm *vm)
{
	const struct vm_config *c = &vm->config;

	return memory_init_limited(&vm->memory, c->memory_bytes, c->machine_bytes ? c->machine_bytes : ~0ull, GATHER_AREA_PAGES, c->placement, c->placement_seed);
}

static bool pc_load(struct vm *vm, char *error, size_t size)
{
	const struct vm_config *c = &vm->config;
	struct boot_config boot_config = {
		.kernel = c->kernel, .initrds = c->initrds, .cmdline = c->cmdline, .args = c->args, .la57 = c->cpu_offers >> CPU_OFFER_LA57 & 1,
		.acpi = {
			.cpus = c->cpus, .lapic_base = LAPIC_BASE, .ioapic_base = IOAPIC_BASE, .ioapic_id = 0,
			.sleep_control = POWER_SLEEP_CONTROL, .sleep_status = POWER_SLEEP_STATUS,
			.reset_port = POWER_ACPI_RESET, .reset_value = POWER_ACPI_RESET_VALUE, .s5_type = POWER_S5_TYPE,
			.uart_port = UART_PORT, .uart_gsi = UART_GSI, .rtc_port = RTC_PORT, 
			.pm1_event = POWER_PM1_EVENT, .pm1_control = POWER_PM1_CONTROL, .pm_timer = PMTIMER_PORT, .pit_gsi = PIT_GSI, .sci_gsi = SCI_GSI,
			.virtio = 1, .virtio_at = { { VM_VIRTIO_BASE, VIRTIO_MMIO_SIZE, VM_VIRTIO_GSI } },
		},
	};
	struct boot_context boot = { .memory = &vm->memory, .config = &boot_config };

	memcpy(boot_config.initrd, c->initrd, sizeof(boot_config.initrd));
	if (!boot_load(&boot, &vm->start.pc)) {
		snprintf(error, size, "%s", boot.error);
		return false;
	}
	vm->kernel_low = vm->start.pc.kernel_low;
	vm->kernel_high = vm->start.pc.kernel_high;
	return true;
}

static size_t pc_receive(void *uart, const uint8_t *bytes, size_t n) { return uart_receive(uart, bytes, n); }
static void pc_tx_room(void *uart) { uart_tx_room(uart); }

/* The I/O thread. */
static void pc_pit_fired(void *opaque, uint32_t events)
{
	struct vm *vm = opaque;

	(void)events;
	bus_lock(&vm->bus);
	pit_fire(&vm->pit);
	bus_unlock(&vm->bus);
}

static void pc_pit_arm(void *opaque, uint64_t deadline_ns)
{
	struct vm *vm = opaque;

	loop_timer_set(&vm->pit_timer, deadline_ns);
}

static int pc_timers(struct vm *vm)
{
	const struct irq_line pit_irq = { ioapic_set_pin, &vm->ioapic, PIT_GSI };
	const struct pit_host pit_host = { clock_ns, pc_pit_arm, vm };
	int err = loop_add_timer(&vm->loop, &vm->pit_timer, pc_pit_fired, vm);

	if (!err)
		err = pit_init(&vm->pit, &vm->bus, &pit_irq, &pit_host);
	return err ? err : pmtimer_init(&vm->pmtimer, &vm->bus, clock_ns);
}

static int pc_devices(struct vm *vm)
{
	static const struct console_port_ops port = { pc_receive, pc_tx_room };
	const struct irq_sink sink = { vm_send_irq, vm };
	const struct irq_line uart_irq = { ioapic_set_pin, &vm->ioapic, UART_GSI };
	const struct uart_host uart_host = { console_tx, console_tx_ready, console_rx_room, &vm->console };
	int err = vm_console_open(vm, &port, &vm->uart);

	if (!err)
		err = ioapic_init(&vm->ioapic, &vm->bus, 0, &sink);
	if (!err)
		err = uart_init(&vm->uart, &vm->bus, UART_PORT, &uart_irq, &uart_host);
	if (!err)
		err = rtc_init(&vm->rtc, &vm->bus, clock_realtime_ns);
	if (!err)
		err = pc_timers(vm);
	if (!err)
		err = power_init(&vm->power, &vm->bus, vm->config.debug_exit, vm_on_power, vm);
	if (!err)
		err = vm_balloon_init(vm);
	if (!err)
		err = vm_frames_init(vm);
	return err;
}

/* The state that boot/boot.h names, in a vcpu that was just reset. */
static int pc_enter(struct vm *vm)
{
	const struct boot_entry *entry = &vm->start.pc;
	struct vcpu *v = &vm->vcpu[0]->v;
	static const struct segment code = { .limit = UINT32_MAX, .selector = 0x10, .attr = SEG_P | SEG_S | SEG_L | SEG_GRAN | 0xb };
	static const struct segment code32 = { .limit = UINT32_MAX, .selector = 0x10, .attr = SEG_P | SEG_S | SEG_DB | SEG_GRAN | 0xb };
	static const struct segment data = { .limit = UINT32_MAX, .selector = 0x18, .attr = SEG_P | SEG_S | SEG_DB | SEG_GRAN | 0x3 };

	memset(v->gpr, 0, sizeof(v->gpr));
	for (int i = 0; i < SEG_COUNT; i++)
		v->seg[i] = i == SEG_CS ? entry->mode32 ? code32 : code : data;
	v->gdtr = (struct table_reg){ entry->gdt_base, entry->gdt_limit };
	v->idtr = (struct table_reg){ 0, 0 };
	v->rflags = FL_R1;
	v->cpl = 0;
	v->rip = entry->rip;
	v->gpr[RSI] = entry->rsi;
	v->gpr[RAX] = entry->rax;
	v->gpr[RBX] = entry->rbx;
	/* V2: the MMU follows the control registers. */
	v->cr0 = CR0_PE | (entry->mode32 ? CR0_ET : CR0_PG);
	v->cr4 = entry->mode32 ? 0 : CR4_PAE | (entry->la57 ? CR4_LA57 : 0);
	v->efer = entry->mode32 ? 0 : EFER_LME | EFER_LMA;
	v->cr3 = entry->cr3;
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	mmu_set_cr3(&v->mmu, v->cr3);
	for (unsigned id = 0; id < vm->vcpus; id++) {
		vm->vcpu[id]->v.lapic.level_eoi = vm_level_eoi;
		vm->vcpu[id]->v.lapic.eoi_opaque = vm;
	}
	return 0;
}

static void pc_stats(struct vm *vm)
{
	stats_add(&vm->stats, "uart", uart_stat_rows, uart_stat_row_count, &vm->uart.counters);
	stats_add(&vm->stats, "ioapic", ioapic_stat_rows, ioapic_stat_row_count, &vm->ioapic.counters);
	stats_add(&vm->stats, "balloon", virtio_balloon_stat_rows, virtio_balloon_stat_row_count, &vm->balloon.counters);
}

#define LVT_TIMER 1
#define KVMCLOCK_ENABLED 1u
#define LVT_MASKED (1u << 16)

/*
 * A Linux kernel resets the machine in the same way after `reboot` and after a panic (panic=N). The difference is what it did
 * before. An orderly restart, halt or power-off takes the machine down first: every IO-APIC pin and the LAPIC timer are
 * masked (native_machine_shutdown), and the KVM clock page is given back (kvm_pv_reboot_notify), before a restart only; but then, a panicked
 * kernel never executes a final HLT. An emergency restart skips all of that; a panic masks the LAPIC (smp_send_stop) and nothing else. A reset or
 * a final HLT of a guest that never took an interrupt is a crash too: it died before it lived.
 */
static bool pc_was_shut_down(const struct vm *vm, bool restart)
{
	const struct vcpu *v = &vm->vcpu[0]->v;

	return v->counters.interrupts_injected && (v->lapic.lvt[LVT_TIMER] & LVT_MASKED) && ioapic_all_masked(&vm->ioapic) &&
	       !(restart && (v->kvmclock->system_time & KVMCLOCK_ENABLED));
}

const struct vm_machine vm_machine_pc = {
	.memory = pc_memory, .load = pc_load, .devices = pc_devices, .enter = pc_enter, .stats = pc_stats, .was_shut_down = pc_was_shut_down,
};
