/*
 * start.S - the assembly of the 32-bit guest: multiboot header, entry, traps, and the code that runs in other modes: real mode, virtual-8086 mode,
 * 64-bit mode.
 */
	.section .multiboot, "a"
	.long 0x1badb002, 3, -(0x1badb002 + 3)

	.text
	.code32
	.globl start
start:
	mov $stack_top, %esp
	push %ebx
	push %eax
	lgdt gdt_pointer
	ljmp $0x08, $1f
1:	mov $0x10, %ecx
	mov %ecx, %ds
	mov %ecx, %es
	mov %ecx, %ss
	mov %ecx, %fs
	mov %ecx, %gs
	call guest_main
	hlt

	/* traps: 32 stubs of 16 bytes; a vector without an error code gets 0 */
	.globl trap_stubs
	.balign 16
trap_stubs:
	.set vector, 0
	.rept 49
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
trap_common: /* to recover_eip, on recover_esp, in flat segments; what was pushed goes to `trap` */
	cld
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %esp, %esi
	mov $trap, %edi
	mov $11, %ecx /* vector, error, eip, cs, eflags, and of another privilege: esp, ss; of virtual-8086 mode es, ds, fs, gs */
	rep movsl
	mov recover_esp, %esp
	jmp *recover_eip

	/* bool protect(void (*code)(void)): runs it; true if a trap ended it. EBX, ESI, EDI, EBP are kept. */
	.globl protect
protect:
	push %ebx
	push %esi
	push %edi
	push %ebp
	mov %esp, recover_esp
	movl $1f, recover_eip
	call *20(%esp)
	xor %eax, %eax
	jmp 2f
1:	mov $1, %eax
2:	pop %ebp
	pop %edi
	pop %esi
	pop %ebx
	ret

	/* void enter_vm86(const uint32_t frame[9]): IRET to virtual-8086 mode with eip, cs, eflags, esp, ss, es, ds, fs, gs; returns at the trap that ends it */
	.globl enter_vm86
enter_vm86:
	push %ebx
	push %esi
	push %edi
	push %ebp
	mov 20(%esp), %esi
	mov %esp, recover_esp
	movl $1f, recover_eip
	mov %esp, tss + 4
	sub $36, %esp
	mov %esp, %edi
	mov $9, %ecx
	rep movsl
	iret
1:	mov $0x10, %ecx
	mov %ecx, %fs
	mov %ecx, %gs
	pop %ebp
	pop %edi
	pop %esi
	pop %ebx
	ret

	/* uint32_t run_long(uint32_t pml4): 64-bit mode and back; what 64-bit code computed */
	.globl run_long
run_long:
	push %ebx
	mov 8(%esp), %eax
	mov %eax, %cr3
	mov %cr4, %eax
	or $0x20, %eax
	mov %eax, %cr4
	mov $0xc0000080, %ecx
	rdmsr
	or $0x100, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	ljmp $0x28, $1f
	.code64
1:	mov $0x123456789, %rax
	add %rax, %rax
	shr $4, %rax
	mov %eax, %ebx
	lea 2f(%rip), %rcx
	pushq $0x08
	push %rcx
	lretq
	.code32
2:	mov %cr0, %eax
	and $0x7fffffff, %eax
	mov %eax, %cr0
	mov $0xc0000080, %ecx
	rdmsr
	and $~0x100, %eax
	wrmsr
	mov %cr4, %eax
	and $~0x20, %eax
	mov %eax, %cr4
	mov %ebx, %eax
	pop %ebx
	ret

	/* uint32_t run_real(void): through 16-bit protected mode to real mode and back; what the code at real_begin left in EAX */
	.globl run_real
run_real:
	push %ebx
	push %esi
	push %edi
	push %ebp
	mov %esp, saved_esp
	sidt saved_idt
	lidt real_idt
	ljmp $0x18, $0x8000 + to_real - real_begin
back_from_real:
	mov $0x10, %ecx
	mov %ecx, %ds
	mov %ecx, %es
	mov %ecx, %ss
	mov %ecx, %fs
	mov %ecx, %gs
	mov saved_esp, %esp
	lidt saved_idt
	pop %ebp
	pop %edi
	pop %esi
	pop %ebx
	ret

	/* Runs at 0x8000 (real mode: 0x800:0). */
	.globl real_begin
	.globl real_end
	.balign 16
real_begin:
	.code16
to_real: /* 16-bit protected mode: segments of 64 KiB */
	mov $0x20, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov %cr0, %eax
	and $0xfe, %al
	mov %eax, %cr0
	ljmp $0x800, $1f - real_begin
1:	mov $0x900, %ax
	mov %ax, %ss
	mov $0x1000, %sp
	mov %ax, %ds
	xor %ax, %ax
	mov %ax, %es
	movw $2f - real_begin, %es:0x21 * 4 /* a vector of ours */
	movw $0x800, %es:0x21 * 4 + 2
	mov $7, %cx
	xor %ebx, %ebx
3:	int $0x21
	loop 3b
	push $0x1234 /* a far call, a string copy that wraps at 64 KiB, decimal arithmetic */
	lcall $0x800, $4f - real_begin
	pop %dx
	movw $0xbeef, 0xfffe
	mov $0x900, %ax
	mov %ax, %es
	mov $0xfffe, %si
	mov $0x200, %di
	mov $2, %cx
	cld
	movw $0x55aa, 0
	rep movsw
	mov 0x202, %ax
	shl $16, %eax
	mov $0x19, %al
	add $0x28, %al
	daa
	mov %bl, %ah
	mov %cr0, %ecx
	or $1, %cl
	mov %ecx, %cr0
	ljmpl $0x08, $back_from_real
2:	add $3, %bl
	iret
4:	add $100, %bl
	lret
	/* virtual-8086 mode, 0x800:vm86_code: with DS 0x900 */
vm86_code:
	mov %cs, %ax
	mov %ax, 0x300
	mov $0x40, %bx
	incw (%bx)
	pushf
	pop %cx
	cli
	sti
	int $0x30
real_end:

	.section .rodata
	.globl vm86_at
vm86_at: .long vm86_code - real_begin

	.data
	.balign 8
	.globl gdt
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff	/* 08 code, 10 data */
	.quad 0x00009b000000ffff, 0x000093000000ffff		/* 18, 20: 16-bit code and data, base 0 */
	.quad 0x00af9b000000ffff				/* 28: 64-bit code */
	.quad 0x0040930000000fff				/* 30: 4 KiB of data, base set by tests */
	.quad 0							/* 38: TSS */
	.quad 0							/* 40: another TSS */
gdt_end:
gdt_pointer: .word gdt_end - gdt - 1
	.long gdt
real_idt: .word 0x3ff
	.long 0
saved_idt: .word 0
	.long 0
	.bss
	.balign 16
	.globl trap, recover_esp, recover_eip, tss, tss2
trap:	.skip 44
recover_esp: .skip 4
recover_eip: .skip 4
saved_esp: .skip 4
	.balign 128
tss:	.skip 104
	.balign 128
tss2:	.skip 104
	.balign 16
	.skip 16384
stack_top:
