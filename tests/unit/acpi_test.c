/*
 * acpi_test.c - the firmware tables: sums, links, and (where it is installed) what ACPICA's disassembler makes of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "boot/acpi.h"
#include "boot/aml.h"

#define BASE 0xe0000u
static uint8_t tables[16384];
static const struct acpi_config config = {
	.cpus = 2, .lapic_base = 0xfee00000, .ioapic_base = 0xfec00000, .ioapic_id = 0, .sleep_control = 0x600, .sleep_status = 0x601,
	.reset_port = 0x602, .reset_value = 1, .s5_type = 5, .uart_port = 0x3f8, .uart_gsi = 4, .rtc_port = 0x70,
	.pm1_event = 0x610, .pm1_control = 0x614, .pm_timer = 0x608, .pit_gsi = 2, .sci_gsi = 9,
	.virtio = 1, .virtio_at = { { 0xfeb00000, 0x200, 16 } },
};

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;
	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

static const uint8_t *at(uint64_t gpa)
{
	assert_in_range(gpa, BASE, BASE + sizeof(tables) - 1);
	return tables + (gpa - BASE);
}

static int setup(void **state)
{
	(void)state;
	memset(tables, 0, sizeof(tables));
	return acpi_build(&config, true, BASE, tables, sizeof(tables)) ? 0 : -1;
}

/* The table with this signature that the XSDT names. */
static const uint8_t *find(const char *signature)
{
	const uint8_t *xsdt = at(load_u64(tables + 24));
	const uint32_t len = load_u32(xsdt + 4);

	for (uint32_t i = 36; i < len; i += 8) {
		const uint8_t *t = at(load_u64(xsdt + i));
		if (!memcmp(t, signature, 4))
			return t;
	}
	if (!memcmp(signature, "DSDT", 4))
		return at(load_u64(find("FACP") + 140));
	fail();
	return 0;
}

static void every_table_is_reachable_and_sums_to_zero(void **state)
{
	static const char *const names[] = { "FACP", "APIC", "DSDT" };
	(void)state;
	assert_memory_equal(tables, "RSD PTR ", 8);
	assert_int_equal(sum(tables, 20), 0);
	assert_int_equal(sum(tables, 36), 0);
	assert_int_equal(sum(at(load_u64(tables + 24)), load_u32(at(load_u64(tables + 24)) + 4)), 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const uint8_t *t = find(names[i]);
		assert_memory_equal(t, names[i], 4);
		assert_int_equal(sum(t, load_u32(t + 4)), 0);
	}
}

static void the_fadt_says_hardware_reduced_with_reset_and_sleep_ports(void **state)
{
	const uint8_t *fadt = find("FACP");
	(void)state;
	assert_int_equal(load_u32(fadt + 4), 276);
	assert_true(load_u32(fadt + 112) & 1u << 20);
	assert_true(load_u32(fadt + 112) & 1u << 10);
	/* Nothing of the fixed hardware. */
	for (unsigned i = 46; i < 109; i++)
		assert_int_equal(fadt[i], 0);
	assert_int_equal(load_u64(fadt + 116 + 4), 0x602);
	assert_int_equal(fadt[128], 1);
	assert_int_equal(load_u64(fadt + 244 + 4), 0x600);
	assert_int_equal(load_u64(fadt + 256 + 4), 0x601);
	/* Boot flags: no legacy devices, no 8042, no VGA; the clock is there. */
	assert_int_equal(load_u16(fadt + 109), 1u << 2);
}

static void the_madt_lists_each_processor_and_the_ioapic(void **state)
{
	const uint8_t *madt = find("APIC");
	const uint32_t len = load_u32(madt + 4);
	unsigned cpus = 0, ioapics = 0;

	(void)state;
	assert_int_equal(load_u32(madt + 36), 0xfee00000);
	for (uint32_t i = 44; i < len; i += madt[i + 1]) {
		assert_in_range(madt[i + 1], 2, len - i);
		if (madt[i] == 0)
			assert_int_equal(madt[i + 3], cpus++);
		if (madt[i] == 1) {
			ioapics++;
			assert_int_equal(load_u32(madt + i + 4), 0xfec00000);
		}
	}
	assert_int_equal(cpus, 2);
	assert_int_equal(ioapics, 1);
}

static void the_other_description_has_fixed_hardware_and_the_legacy_interrupts(void **state)
{
	static const uint8_t overrides[2][10] = { { 2, 10, 0, 0, 2, 0, 0, 0, 0, 0 }, { 2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0 } };
	unsigned found = 0;
	(void)state;
	assert_true(acpi_build(&config, false, BASE, tables, sizeof(tables)) > 0);
	every_table_is_reachable_and_sums_to_zero(state);
	const uint8_t *fadt = find("FACP"), *madt = find("APIC");
	assert_int_equal(load_u32(fadt + 112) & (1u << 20 | 1u << 8), 1u << 8);
	assert_int_equal(load_u16(fadt + 46), 9);
	assert_memory_equal(at(load_u32(fadt + 36)), "FACS", 4);
	assert_int_equal(load_u32(fadt + 36) % 64, 0);
	assert_int_equal(load_u32(at(load_u32(fadt + 36)) + 4), 64);
	/* PM1a event and control block, PM timer: the old field, its length, the extended field. */
	static const struct { uint16_t port; uint8_t old, len_at, len, extended; } block[] = {
		{ 0x610, 56, 88, 4, 148 }, { 0x614, 64, 89, 2, 172 }, { 0x608, 76, 91, 4, 208 },
	};
	for (size_t i = 0; i < ARRAY_LEN(block); i++) {
		assert_int_equal(load_u32(fadt + block[i].old), block[i].port);
		assert_int_equal(fadt[block[i].len_at], block[i].len);
		assert_int_equal(fadt[block[i].extended], 1);
		assert_int_equal(fadt[block[i].extended + 1], block[i].len * 8);
		assert_int_equal(load_u64(fadt + block[i].extended + 4), block[i].port);
	}
	for (uint32_t i = 44; i < load_u32(madt + 4); i += madt[i + 1])
		if (madt[i] == 2) {
			assert_in_range(found, 0, 1);
			assert_memory_equal(madt + i, overrides[found], 10);
			found++;
		}
	assert_int_equal(found, 2);
}

static void processors_beyond_254_are_x2apic_entries(void **state)
{
	struct acpi_config many = config;
	(void)state;
	many.cpus = 300;
	assert_true(acpi_build(&many, true, BASE, tables, sizeof(tables)) > 0);
	const uint8_t *madt = find("APIC");
	unsigned x2apic = 0;
	for (uint32_t i = 44; i < load_u32(madt + 4); i += madt[i + 1])
		x2apic += madt[i] == 9;
	assert_int_equal(x2apic, 45);
}

static void tables_that_do_not_fit_are_refused(void **state)
{
	(void)state;
	for (size_t size = 0; size < 600; size += 7)
		assert_int_equal(acpi_build(&config, size & 1, BASE, tables, size), 0);
}

static void an_eisa_id_packs_letters_and_digits(void **state)
{
	uint8_t buf[8];
	struct aml a = { .buf = buf, .size = sizeof(buf) };
	static const uint8_t pnp0501[] = { 0x0c, 0x41, 0xd0, 0x05, 0x01 };
	(void)state;
	aml_eisa_id(&a, "PNP0501");
	assert_int_equal(a.len, 5);
	assert_memory_equal(buf, pnp0501, 5);
}

/* iasl -d exits with an error for AML that it cannot parse; what it prints shows whether it understood what was meant. */
static void the_disassembler_reads_the_dsdt_as_it_was_meant(void **state)
{
	static const char *const wanted[] = {
		"Name (_S5,", "Device (COM1)", "EisaId (\"PNP0501\")", "IO (Decode16,", "0x03F8,", "\"LNRO0005\"", "Memory32Fixed (ReadWrite,", "0xFEB00000,", "0x00000200,", "0x00000010,", "Level, ActiveHigh, Exclusive", "0x00000004,", "Edge, ActiveHigh, Exclusive",
		"Device (RTC)", "EisaId (\"PNP0B00\")", "0x0070,",
	};
	char dir[] = "/tmp/acpi_test.XXXXXX", cmd[256];
	static char text[65536];
	const uint8_t *dsdt = find("DSDT");
	(void)state;

	if (system("command -v iasl >/dev/null 2>&1"))
		skip();
	assert_non_null(mkdtemp(dir));
	snprintf(cmd, sizeof(cmd), "%s/dsdt.aml", dir);
	FILE *f = fopen(cmd, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(dsdt, 1, load_u32(dsdt + 4), f), load_u32(dsdt + 4));
	fclose(f);
	snprintf(cmd, sizeof(cmd), "cd %s && iasl -d dsdt.aml >log 2>&1 && ! grep -i -e error -e unknown log dsdt.dsl", dir);
	const int status = system(cmd);
	snprintf(cmd, sizeof(cmd), "%s/dsdt.dsl", dir);
	f = fopen(cmd, "r");
	text[f ? fread(text, 1, sizeof(text) - 1, f) : 0] = 0;
	if (f)
		fclose(f);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(status, 0);
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
		if (!strstr(text, wanted[i]))
			fail_msg("the disassembly lacks: %s", wanted[i]);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	const struct CMUnitTest tests[] = {
		T(every_table_is_reachable_and_sums_to_zero),
		T(the_fadt_says_hardware_reduced_with_reset_and_sleep_ports),
		T(the_madt_lists_each_processor_and_the_ioapic),
		T(the_other_description_has_fixed_hardware_and_the_legacy_interrupts),
		T(processors_beyond_254_are_x2apic_entries),
		T(tables_that_do_not_fit_are_refused),
		T(an_eisa_id_packs_letters_and_digits),
		T(the_disassembler_reads_the_dsdt_as_it_was_meant),
	};
	return cmocka_run_group_tests(tests, 0, 0);
}
