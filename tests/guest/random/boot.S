/*
 * boot.S - the boot sector that brings the guest up on a machine with a BIOS: reads the image behind it to 0x10000, enters 32-bit protected mode, moves it to
 * 1 MiB and jumps there, as a multiboot loader would. The word at the sector's offset 508 is the count of sectors, which the tool that makes the disk fills in.
 */
	.code16
	.globl _start
_start:
	cli
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %ss
	mov $0x7c00, %sp
	ljmp $0, $1f
1:	mov %dl, drive
next:	movb drive, %dl
	mov $packet, %si
	mov $0x42, %ah
	int $0x13
	jc stop
	incw packet_lba
	addw $0x20, packet_segment
	decw sectors
	jnz next
	lgdt pointer
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmp $8, $2f
stop:	hlt
	jmp stop
	.code32
2:	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $0x10000, %esi
	mov $0x100000, %edi
	mov $0x20000, %ecx
	cld
	rep movsl
	mov $0x100000, %edx /* behind the multiboot header: start */
	add $16, %edx
	jmp *%edx

	.balign 4
packet:	.byte 16, 0
	.word 1, 0
packet_segment: .word 0x1000
packet_lba: .long 1, 0
	.balign 8
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
pointer: .word 23
	.long gdt
drive:	.byte 0
	.org 508
sectors: .word 0
	.word 0xaa55
