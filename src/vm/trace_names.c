/* trace_names.c - names of system calls (Linux', from the headers this was built with) and of exceptions. */
#include "vm/trace_write.h"

static const char *const syscall_names[] = {
#include <syscall_names.inc>	/* made by the Makefile from asm/unistd_64.h: [number] = "name", */
};

const char *trace_syscall_name(uint32_t number) { return number < ARRAY_LEN(syscall_names) ? syscall_names[number] : 0; }

const char *trace_vector_name(unsigned vector)
{
	static const char *const names[] = {
		"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", 0, "#TS", "#NP", "#SS", "#GP", "#PF", 0, "#MF", "#AC", "#MC", "#XM",
		0, "#CP", 0, 0, 0, 0, 0, 0, 0, "#VC", "#SX",
	};

	return vector < ARRAY_LEN(names) ? names[vector] : 0;
}
