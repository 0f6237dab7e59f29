/*
 * apic.c - the local APIC, in both its forms.
 */
#include "guest.h"

static bool x2;

uint32_t apic_read(unsigned reg)
{
	return x2 ? (uint32_t)rdmsr(0x800 + reg / 16) : *(volatile uint32_t *)(0xfee00000ul + reg);
}
void apic_write(unsigned reg, uint32_t value)
{
	if (x2)
		wrmsr(0x800 + reg / 16, value);
	else
		*(volatile uint32_t *)(0xfee00000ul + reg) = value;
}
void apic_enable(void)
{
	apic_write(APIC_SVR, 0x1ff);
	apic_write(APIC_TPR, 0);
}
void apic_enable_x2(void)
{
	wrmsr(0x1b, rdmsr(0x1b) | 0xc00);
	x2 = true;
	apic_enable();
}
void apic_self(uint8_t vector) { apic_write(APIC_ICR, 0x44000u | vector); }
bool apic_bit(unsigned reg, unsigned vector) { return apic_read(reg + vector / 32 * 16) >> vector % 32 & 1; }
