/*
 * start.S - entry of bare-metal guests, interrupt stubs, and the way into a snippet and back.
 *
 * Entered as a 64-bit kernel (long mode, low 4 GiB mapped one to one, RSI = boot_params). The PVH entry beside it, 32-bit,
 * makes the same state, so that other monitors can run the same guests for comparison.
 */
	.section .text.entry, "ax"
	.code64
	.globl guest_entry
guest_entry:
	cli
	mov $boot_stack_top, %esp
	mov %rsi, %rdi
	call lib_start
1:	hlt
	jmp 1b

	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 4, 18		/* name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long pvh_entry

	.text
	.code32
pvh_entry:
	cli
	mov $boot_stack_top, %esp
	/* Four 1 GiB pages one to one. */
	mov $pvh_pdpt + 3, %eax
	mov %eax, pvh_pml4
	mov $pvh_pdpt, %edi
	mov $0x83, %eax
	mov $4, %ecx
1:	mov %eax, (%edi)
	add $0x40000000, %eax
	add $8, %edi
	loop 1b
	mov $0x20, %eax			/* PAE */
	mov %eax, %cr4
	mov $pvh_pml4, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	xor %edx, %edx
	mov $0x100, %eax		/* LME */
	wrmsr
	mov $0x80000001, %eax
	mov %eax, %cr0
	lgdt pvh_gdtr
	xor %esi, %esi
	ljmp $0x10, $1f
	.code64
1:	mov $0x18, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	jmp guest_entry

	.section .rodata
	.balign 8
pvh_gdt:
	.quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff
pvh_gdtr:
	.word 31
	.quad pvh_gdt

	.bss
	.balign 4096
pvh_pml4: .skip 4096
pvh_pdpt: .skip 4096
	.skip 65536
boot_stack_top:

/* ---- vectors: each pushes an error code if the processor did not, and its number ---- */
	.text
	.balign 16
	.globl vector_stubs
vector_stubs:
	vector = 0
	.rept 256
	.balign 16
	.if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
	push $0
	.endif
	.if vector < 128
	.byte 0x6a, vector
	.else
	push $vector
	.endif
	jmp trap_common
	vector = vector + 1
	.endr

	.balign 16
trap_common:
	push %r15
	push %r14
	push %r13
	push %r12
	push %r11
	push %r10
	push %r9
	push %r8
	push %rdi
	push %rsi
	push %rbp
	push %rsp
	push %rbx
	push %rdx
	push %rcx
	push %rax
	cld
	mov %rsp, %rdi
	/* The C code expects an aligned stack. */
	mov %rsp, %rbx
	and $-16, %rsp
	call trap_handler
	mov %rbx, %rsp
	.globl trap_return
trap_return:
	pop %rax
	pop %rcx
	pop %rdx
	pop %rbx
	add $8, %rsp
	pop %rbp
	pop %rsi
	pop %rdi
	pop %r8
	pop %r9
	pop %r10
	pop %r11
	pop %r12
	pop %r13
	pop %r14
	pop %r15
	add $16, %rsp
	iretq

/* void run_enter(struct trap *t): keeps what C code relies on, then goes where t says. run_leave comes back from it. */
	.globl run_enter
run_enter:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	pushfq
	mov %rsp, run_rsp
	mov %rdi, %rsp
	jmp trap_return

	.globl run_leave
run_leave:
	mov run_rsp, %rsp
	/* Snippets may leave any selectors behind. */
	mov $0x18, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	popfq
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

	.bss
	.balign 8
run_rsp: .skip 8

	.section .note.GNU-stack, "", @progbits
