/*
 * exception.h - a guest fault as a value, and the vectors.
 * Source: Intel SDM vol. 3, "Interrupt and Exception Handling"; AMD APM vol. 2, "Exceptions and Interrupts".
 */
#ifndef X86_EXCEPTION_H
#define X86_EXCEPTION_H

#include "base/base.h"

enum {
	VEC_DE = 0, VEC_DB = 1, VEC_NMI = 2, VEC_BP = 3, VEC_OF = 4, VEC_BR = 5, VEC_UD = 6, VEC_NM = 7,
	VEC_DF = 8, VEC_TS = 10, VEC_NP = 11, VEC_SS = 12, VEC_GP = 13, VEC_PF = 14, VEC_MF = 16,
	VEC_AC = 17, VEC_MC = 18, VEC_XM = 19, VEC_SX = 30,
	VEC_NPF = 0xff,	/* no vector: a nested page fault, which is an exit to the guest hypervisor (SVM) */
};

/* Page-fault error code bits ("Page-Fault Error Code"). */
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };

/*
 * vector; has_error/error: the error code pushed; cr2: for VEC_PF; for VEC_NPF what is physical to L2, with all of EXITINFO1 in nest_error; dr6: for VEC_DB the bits to set in DR6.
 */
struct exception {
	uint8_t vector;
	bool has_error;
	uint32_t error;
	uint64_t cr2, nest_error;
	uint64_t dr6;
};

static inline struct exception exc_plain(uint8_t vector) { return (struct exception){ .vector = vector }; }
static inline struct exception exc_error(uint8_t vector, uint32_t error)
{
	return (struct exception){ .vector = vector, .has_error = true, .error = error };
}
static inline struct exception exc_gp(uint32_t error) { return exc_error(VEC_GP, error); }
static inline struct exception exc_ud(void) { return exc_plain(VEC_UD); }
static inline struct exception exc_pf(uint64_t va, uint32_t error)
{
	return (struct exception){ .vector = VEC_PF, .has_error = true, .error = error, .cr2 = va };
}

static inline struct exception exc_npf(uint64_t p, uint64_t error)
{
	return (struct exception){ .vector = VEC_NPF, .cr2 = p, .nest_error = error };
}

#endif
