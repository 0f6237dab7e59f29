/*
 * misc.c - the small hypercalls: where the guest's handlers are, its stacks, segment bases and debug registers, who we are, ports, and the emergency console.
 * Sources: xen/xen.h, xen/callback.h, xen/version.h, xen/physdev.h.
 */
#include "cpu/debug.h"
#include "xen/xen_internal.h"

static bool in_hole(uint64_t va) { return va >= XEN_HOLE_START && va < XEN_HOLE_END; }

/* arg[0]: array of trap_info that ends with an address of zero; 0: no handlers at all. */
int64_t xen_do_set_trap_table(struct xen_call *c)
{
	enum { ROUND = 256 };
	struct xen_vcpu *xv = c->xv;

	if (!c->arg[0]) {
		fill_bytes(xv->trap, 0, sizeof(xv->trap));
		return 0;
	}
	for (unsigned i = 0; i < ROUND; i++) {
		struct trap_info t;

		if (xen_copy_from_guest(c->v, &t, c->arg[0], sizeof(t)))
			return -XEN_EFAULT;
		if (!t.address)
			return 0;
		if (!va_canonical(t.address, VA_BITS_4LEVEL))
			return -XEN_EINVAL;
		xv->trap[t.vector] = t;
		c->arg[0] += sizeof(t);
	}
	c->again = true;
	return 0;
}

static int64_t register_callback(struct xen_vcpu *xv, unsigned type, uint64_t address, bool masks)
{
	if (!va_canonical(address, VA_BITS_4LEVEL))
		return -XEN_EINVAL;
	switch (type) {
	case CALLBACKTYPE_event:
		masks = true;
		break;
	case CALLBACKTYPE_failsafe: case CALLBACKTYPE_syscall: case CALLBACKTYPE_syscall32: case CALLBACKTYPE_sysenter:
		break;
	case CALLBACKTYPE_nmi:
		xv->trap[VEC_NMI] = (struct trap_info){ .vector = VEC_NMI, .flags = 4, .cs = FLAT_KERNEL_CS64, .address = address };
		return 0;
	default:
		return -XEN_ENOSYS;
	}
	xv->callback[type] = (struct xen_callback){ address, masks };
	return 0;
}

/* arg: addresses for events, failsafe, system calls. */
int64_t xen_do_set_callbacks(struct xen_call *c)
{
	static const uint8_t type[] = { CALLBACKTYPE_event, CALLBACKTYPE_failsafe, CALLBACKTYPE_syscall };

	for (unsigned i = 0; i < ARRAY_LEN(type); i++)
		if (!va_canonical(c->arg[i], VA_BITS_4LEVEL))
			return -XEN_EINVAL;
	for (unsigned i = 0; i < ARRAY_LEN(type); i++)
		register_callback(c->xv, type[i], c->arg[i], false);
	return 0;
}

/* arg[0]: CALLBACKOP_*, arg[1]: its structure. */
int64_t xen_do_callback_op(struct xen_call *c)
{
	struct callback_register r;
	struct callback_unregister u;

	switch (c->arg[0]) {
	case CALLBACKOP_register:
		if (xen_copy_from_guest(c->v, &r, c->arg[1], sizeof(r)))
			return -XEN_EFAULT;
		return register_callback(c->xv, r.type, r.address, r.flags & CALLBACKF_mask_events);
	case CALLBACKOP_unregister:
		if (xen_copy_from_guest(c->v, &u, c->arg[1], sizeof(u)))
			return -XEN_EFAULT;
		if (u.type == CALLBACKTYPE_nmi) {
			c->xv->trap[VEC_NMI].address = 0;
			return 0;
		}
		/* The others can be replaced, not taken away. */
		return u.type == CALLBACKTYPE_event || u.type == CALLBACKTYPE_failsafe || u.type == CALLBACKTYPE_syscall ||
		       u.type == CALLBACKTYPE_sysenter || u.type == CALLBACKTYPE_syscall32 ? -XEN_EINVAL : -XEN_ENOSYS;
	default:
		return -XEN_ENOSYS;
	}
}

/* arg: SS, RSP of the kernel's stack. */
int64_t xen_do_stack_switch(struct xen_call *c)
{
	c->xv->kernel_ss = (uint16_t)(c->arg[0] | 3);
	c->xv->kernel_sp = c->arg[1];
	return 0;
}

/* arg: SEGBASE_*, base or selector. The guest's kernel runs, so its own GS base is in the register and the user's is the other one. */
int64_t xen_do_set_segment_base(struct xen_call *c)
{
	struct vcpu *v = c->v;
	uint64_t base = c->arg[1];

	if (c->arg[0] <= SEGBASE_GS_KERNEL && !va_canonical(base, VA_BITS_4LEVEL))
		return -XEN_EINVAL;
	switch (c->arg[0]) {
	case SEGBASE_FS: v->seg[SEG_FS].base = base; return 0;
	case SEGBASE_GS_USER: v->kernel_gs_base = base; return 0;
	case SEGBASE_GS_KERNEL: v->seg[SEG_GS].base = base; return 0;
	case SEGBASE_GS_USER_SEL: {
		struct exec x = { .v = v };
		uint64_t kernel_base = v->seg[SEG_GS].base;

		if (segment_load(&x, SEG_GS, (uint16_t)base) != OP_DONE)
			segment_load(&x, SEG_GS, 0);
		v->kernel_gs_base = v->seg[SEG_GS].base;
		v->seg[SEG_GS].base = kernel_base;
		return 0;
	}
	default: return -XEN_EINVAL;
	}
}

/* arg: number, value. */
int64_t xen_do_set_debugreg(struct xen_call *c)
{
	struct vcpu *v = c->v;
	uint64_t value = c->arg[1];

	switch (c->arg[0]) {
	case 0: case 1: case 2: case 3:
		if (!va_canonical(value, VA_BITS_4LEVEL) || in_hole(value))
			return -XEN_EPERM;
		v->dr[c->arg[0]] = value;
		return 0;
	case 4: case 6:
		v->dr[6] = (value & (0xf | DR6_BD | DR6_BS)) | DR6_RESERVED_ONES;
		return 0;
	case 5: case 7:
		if (value & DR7_GD)
			return -XEN_EPERM;
		v->dr[7] = (value & 0xffff03ff) | DR7_RESERVED_ONE;
		return 0;
	default:
		return -XEN_EINVAL;
	}
}

int64_t xen_do_get_debugreg(struct xen_call *c)
{
	if (c->arg[0] > 7)
		return -XEN_EINVAL;
	return (int64_t)c->v->dr[c->arg[0] == 4 || c->arg[0] == 5 ? c->arg[0] + 2 : c->arg[0]];
}

/* -- who we are ------------------------------------------------------------------------------------------------------- */

#define FEATURES (1u << XENFEAT_mmu_pt_update_preserve_ad | 1u << XENFEAT_highmem_assist | 1u << XENFEAT_gnttab_map_avail_bits | \
		  1u << XENFEAT_pae_pgdir_above_4gb | 1u << XENFEAT_memory_op_vnode_supported)

/* A string of a fixed size, padded with zeros. */
static int64_t put_bytes(struct xen_call *c, const char *text, size_t len, size_t size)
{
	static const char zeros[64];
	if (xen_copy_to_guest(c->v, c->arg[1], text, len))
		return -XEN_EFAULT;
	for (size_t at = len; at < size; at += sizeof(zeros))
		if (xen_copy_to_guest(c->v, c->arg[1] + at, zeros, size - at < sizeof(zeros) ? size - at : sizeof(zeros)))
			return -XEN_EFAULT;
	return 0;
}

#define put_text(c, text, size) put_bytes(c, text, sizeof(text) - 1, size)

/* arg[0]: XENVER_*, arg[1]: where the answer goes. XENVER_version is also what guests call to have pending events looked at. */
int64_t xen_do_xen_version(struct xen_call *c)
{
	switch (c->arg[0]) {
	case XENVER_version: return XEN_VERSION_MAJOR << 16 | XEN_VERSION_MINOR;
	case XENVER_pagesize: return c->arg[1] ? -XEN_EINVAL : (int64_t)PAGE_SIZE;
	case XENVER_extraversion: return put_text(c, ".0-trifold", sizeof(xen_extraversion_t));
	case XENVER_capabilities: return put_text(c, "xen-3.0-x86_64 ", sizeof(xen_capabilities_info_t));
	case XENVER_changeset: return put_text(c, "trifold", sizeof(xen_changeset_info_t));
	case XENVER_commandline: return put_text(c, "", sizeof(xen_commandline_t));
	case XENVER_compile_info: {
		static const xen_compile_info_t info = { .compiler = "C", .compile_by = "trifold", .compile_domain = "", .compile_date = "" };

		return xen_copy_to_guest(c->v, c->arg[1], &info, sizeof(info));
	}
	case XENVER_platform_parameters: {
		const xen_platform_parameters_t p = { .virt_start = XEN_HOLE_START };

		return xen_copy_to_guest(c->v, c->arg[1], &p, sizeof(p));
	}
	case XENVER_get_features: {
		xen_feature_info_t f;

		if (xen_copy_from_guest(c->v, &f, c->arg[1], sizeof(f)))
			return -XEN_EFAULT;
		if (f.submap_idx >= XENFEAT_NR_SUBMAPS)
			return -XEN_EINVAL;
		f.submap = FEATURES;
		return xen_copy_to_guest(c->v, c->arg[1], &f, sizeof(f));
	}
	case XENVER_guest_handle: {
		static const xen_domain_handle_t handle;

		return xen_copy_to_guest(c->v, c->arg[1], &handle, sizeof(handle));
	}
	default: return -XEN_ENOSYS;
	}
}

/* arg: VMASST_CMD_*, VMASST_TYPE_*. Kept; architectural_iopl is the one that changes what we do. */
int64_t xen_do_vm_assist(struct xen_call *c)
{
	const uint64_t valid = 1ull << VMASST_TYPE_4gb_segments | 1ull << VMASST_TYPE_4gb_segments_notify | 1ull << VMASST_TYPE_writable_pagetables |
			       1ull << VMASST_TYPE_pae_extended_cr3 | 1ull << VMASST_TYPE_architectural_iopl | 1ull << VMASST_TYPE_runstate_update_flag;

	if (c->arg[1] > 63 || !(valid >> c->arg[1] & 1))
		return -XEN_EINVAL;
	switch (c->arg[0]) {
	case VMASST_CMD_enable: c->xv->assist |= 1ull << c->arg[1]; return 0;
	case VMASST_CMD_disable: c->xv->assist &= ~(1ull << c->arg[1]); return 0;
	default: return -XEN_ENOSYS;
	}
}

/* -- ports ------------------------------------------------------------------------------------------------------------ */

int64_t xen_do_physdev_op(struct xen_call *c)
{
	switch (c->arg[0]) {
	case PHYSDEVOP_set_iopl: {
		struct physdev_set_iopl p;

		if (xen_copy_from_guest(c->v, &p, c->arg[1], sizeof(p)))
			return -XEN_EFAULT;
		if (p.iopl > 3)
			return -XEN_EINVAL;
		c->xv->iopl = p.iopl;
		return 0;
	}
	case PHYSDEVOP_set_iobitmap: {
		struct physdev_set_iobitmap p;

		if (xen_copy_from_guest(c->v, &p, c->arg[1], sizeof(p)))
			return -XEN_EFAULT;
		if (p.nr_ports > 65536)
			return -XEN_EINVAL;
		c->xv->iobitmap = (uint64_t)(uintptr_t)p.bitmap.p;
		c->xv->iobitmap_ports = p.nr_ports;
		return 0;
	}
	default: return -XEN_ENOSYS;
	}
}

/* -- emergency console ------------------------------------------------------------------------------------------------ */

struct console_text { struct xen *xen; const char *text; size_t len; };

static void console_cold(void *arg)
{
	struct console_text *t = arg;

	t->xen->config.console_write(t->xen->config.opaque, t->text, t->len);
}

/* arg: CONSOLEIO_*, how many bytes, where. */
int64_t xen_do_console_io(struct xen_call *c)
{
	char text[256];
	struct console_text t = { .xen = c->xen, .text = text };

	if (c->arg[0] == CONSOLEIO_read)
		return 0;
	if (c->arg[0] != CONSOLEIO_write)
		return -XEN_ENOSYS;
	c->arg[1] = (uint32_t)c->arg[1];
	t.len = c->arg[1] < sizeof(text) ? c->arg[1] : sizeof(text);
	if (xen_copy_from_guest(c->v, text, c->arg[2], t.len))
		return -XEN_EFAULT;
	fpu_call_cold(c->v, console_cold, &t);
	c->arg[1] -= t.len;
	c->arg[2] += t.len;
	c->again = c->arg[1];
	return 0;
}
