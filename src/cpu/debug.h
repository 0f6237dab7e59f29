/*
 * debug.h - breakpoints of DR0-DR3. AMD APM vol. 2, "Debug Breakpoints"; Intel SDM vol. 3, "Debug Registers".
 *
 * Hits of data and I/O breakpoints collect in v->debug_hits while an instruction runs; the executor raises #DB (a trap) after it.
 */
#ifndef CPU_DEBUG_H
#define CPU_DEBUG_H

#include "cpu/vcpu.h"

#define DR6_RESERVED_ONES 0xffff0ff0ull
#define DR6_BD (1ull << 13)
#define DR6_BS (1ull << 14)
#define DR7_RESERVED_ONE 0x400ull
#define DR7_GD (1ull << 13)
#define DR7_ENABLES 0xffull

void debug_data_access(struct vcpu *v, uint64_t la, unsigned len, bool write);
void debug_io_access(struct vcpu *v, uint16_t port, unsigned size);
/* DR6 bits of instruction breakpoints at la. */
uint64_t debug_fetch(const struct vcpu *v, uint64_t la);

#endif
