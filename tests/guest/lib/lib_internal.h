/*
 * lib_internal.h - what the runtime's files tell each other.
 */
#ifndef LIB_INTERNAL_H
#define LIB_INTERNAL_H

#include "guest.h"

void lib_start(void);
void cpu_start(void);		/* GDT, TSS, IDT, control registers */
void memory_start(void);	/* our own page tables */
void run_enter(struct trap *t);
_Noreturn void run_leave(void);
void trap_handler(struct trap *t);
extern uint8_t vector_stubs[], image_start[], image_end[];

#endif
