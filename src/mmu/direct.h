/*
 * direct.h - what the direct mode is told of changes in the guest's tables (direct.c), by whoever makes them: nobody else can (xen/validate.c). So the TLB
 * knows exactly what a load of a base pointer must void, which is little: entries of either root, and of roots that ran before, stay.
 *
 * A change that takes something away (a page, a table, a right, an accessed or dirty bit) is noted in memory->direct:
 *  - of a level-1 entry: what names its page, in whatever address space, is void at once in level 2 (the frame's serial); level 1 at the next flush.
 *  - of an entry above: all address spaces at the next flush; those that the kernel's half depends upon, global entries too.
 * A *flush* is a load of either base pointer, or mmu_flush_local. docs/mmu.md, T8.
 *
 * Lock: memory->lock.
 */
#ifndef MMU_DIRECT_H
#define MMU_DIRECT_H

#include "mem/memory.h"

/*
 * Entry `index` of a table in use of that level was `old` and is `new`. True: a frame's serial came around, so mmu_flush_all must follow on every MMU of the
 * memory before the guest runs.
 */
bool direct_entry_changed(struct memory *mem, mfn_t table, unsigned level, unsigned index, uint64_t old, uint64_t new);
/* The frame is a table no more. Not a root in force. True: as above. */
bool direct_table_left(struct memory *mem, mfn_t m);

#endif
