/*
 * abi.h - the published interface of Xen for paravirtualized guests: constants and layouts from Debian's libxen-dev, at one interface version, and the
 * few places of the x86-64 layout that the headers describe in words only (xen/arch-x86/xen-x86_64.h).
 */
#ifndef XEN_ABI_H
#define XEN_ABI_H

#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <stdint.h>
#include <xen/xen.h>
#include <xen/callback.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/io/console.h>
#include <xen/memory.h>
#include <xen/physdev.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>


/* The hypervisor's part of every address space: slots 256 to 271 of a level-4 table. */
#define XEN_HOLE_START 0xffff800000000000ull
#define XEN_HOLE_END 0xffff880000000000ull
#define XEN_L4_FIRST 256u
#define XEN_L4_LAST 271u
/* Within it: the machine-to-physical table, read-only for the guest (8 bytes a frame), and the descriptor tables that the processor reads. */
#define XEN_M2P_START 0xffff800000000000ull
#define XEN_M2P_END 0xffff804000000000ull
#define XEN_GDT_START 0xffff820000000000ull
#define XEN_LDT_WINDOW 0x10000u		/* bytes, from the vcpu's LDTR base */

#define XEN_VERSION_MAJOR 4
#define XEN_VERSION_MINOR 17

#endif
