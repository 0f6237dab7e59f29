/* start.S - entry by multiboot or by boot.S; traps; the way to ring 3 and back. */
	.section .multiboot, "a"
	.long 0x1badb002, 3, -(0x1badb002 + 3), 0
	.section .text.start, "ax"
	.globl start
	.code32
start:	/* at the header's end: boot.S jumps here */
	mov $stack_top, %esp
	lgdt gdt_pointer
	ljmp $0x08, $1f
1:	mov $0x10, %ecx
	mov %ecx, %ds
	mov %ecx, %es
	mov %ecx, %ss
	mov $bss_begin, %edi
	mov $bss_end, %ecx
	sub %edi, %ecx
	xor %eax, %eax
	cld
	rep stosb
	call guest_main
2:	hlt
	jmp 2b

	.text
	.globl trap_stubs, call_target
	.balign 16
trap_stubs: /* of 16 bytes; a vector without an error code gets 0 */
	.set vector, 0
	.rept 33
	.balign 16
	.if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17)
	.else
	push $0
	.endif
	push $vector
	jmp trap_common
	.set vector, vector + 1
	.endr
	.balign 16
trap_common: /* all registers and what was pushed go to `trap`; on where enter_user was called */
	pushal
	push %ds
	push %es
	push %fs
	push %gs
	cld
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %esp, %esi
	mov $trap, %edi
	mov $23, %ecx
	rep movsl
	mov recover_esp, %esp
	popal
	ret

	/* void enter_user(const struct frame *): loads all registers of it; returns at the trap that ends it */
	.globl enter_user
enter_user:
	pushal
	mov 36(%esp), %ebp
	mov %esp, recover_esp
	mov %ebp, %esp
	testl $0x20000, 40(%esp)
	jnz 1f
	mov 52(%esp), %es
	mov 60(%esp), %fs
	mov 64(%esp), %gs
	mov 56(%esp), %ds
1:	popal
	iret

	.balign 16
call_target: /* what a call gate leads to, in ring 0: single-stepping traps before it, without it does this */
	int3

	.data
	.balign 8
	.globl gdt
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
	.fill 29, 8, 0
gdt_pointer: .word 255
	.long gdt
	.bss
	.balign 16
	.globl trap
trap:	.skip 92
recover_esp: .skip 4
	.skip 16384
stack_top:
