/*
 * host.c - what the host processor must offer: x86-64-v3, since the guest is offered it and generated code uses BMI2.
 * Source: x86-64 psABI, "Micro-Architecture Levels"; Intel SDM vol. 2, "CPUID".
 */
#include "vm/vm.h"

#include <cpuid.h>

#include "cpu/cpuid.h"

enum host_register { HOST_EBX, HOST_ECX, HOST_EDX };
static const struct host_feature { uint32_t leaf; enum host_register reg; uint8_t bit; const char *name; } host_features[] = {
	{ 1, HOST_ECX, 0, "SSE3" }, { 1, HOST_ECX, 9, "SSSE3" }, { 1, HOST_ECX, 12, "FMA" },
	{ 1, HOST_ECX, 13, "CMPXCHG16B" }, { 1, HOST_ECX, 19, "SSE4.1" }, { 1, HOST_ECX, 20, "SSE4.2" },
	{ 1, HOST_ECX, 22, "MOVBE" }, { 1, HOST_ECX, 23, "POPCNT" }, { 1, HOST_ECX, 26, "XSAVE" },
	{ 1, HOST_ECX, 27, "OSXSAVE" }, { 1, HOST_ECX, 28, "AVX" }, { 1, HOST_ECX, 29, "F16C" },
	{ 7, HOST_EBX, 3, "BMI1" }, { 7, HOST_EBX, 5, "AVX2" }, { 7, HOST_EBX, 8, "BMI2" },
	{ 0x80000001, HOST_ECX, 0, "LAHF/SAHF" }, { 0x80000001, HOST_ECX, 5, "LZCNT" },
};

const char *vm_host_lacks(void)
{
	for (size_t i = 0; i < ARRAY_LEN(host_features); i++) {
		const struct host_feature *f = &host_features[i];
		uint32_t reg[3], eax;

		if (!__get_cpuid_count(f->leaf, 0, &eax, &reg[HOST_EBX], &reg[HOST_ECX], &reg[HOST_EDX]) ||
		    !(reg[f->reg] >> f->bit & 1))
			return f->name;
	}
	return 0;
}

const char *vm_cpu_offer(unsigned n, const char **help)
{
	if (n >= CPU_OFFERS)
		return 0;
	*help = cpu_offers[n].help;
	return cpu_offers[n].name;
}
