/*
 * string.h - how a string instruction is described in its site (struct site.size).
 */
#ifndef BT_STRING_H
#define BT_STRING_H

#include "bt/bt_internal.h"

enum { STRING_MOVS = 0, STRING_STOS = 1, STRING_LODS = 2, STRING_KIND = 3, STRING_REP = 4, STRING_SHIFT = 3 /* two bits */, STRING_32 = 32 /* addresses and count of 32 bits */ };

/* Called by the string stub. The host address to go on at, or 0: the executor does (the rest of) the instruction. */
uint64_t bt_string(struct vcpu *v, uint64_t unused, uint32_t site);

#endif
