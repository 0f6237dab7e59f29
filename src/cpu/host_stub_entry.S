/*
 * host_stub_entry.S - the entry and exit code of a host stub region (host_stub.h), copied there: everything is
 * addressed relative to RIP, with the data page right before the code page.
 *
 * Guest RSP is loaded too, so signals must come in on an alternate stack. All moves leave the flags alone.
 */
#define DATA(off) host_stub_template - 4096 + (off)(%rip)
#define GPR(n) DATA(8 * (n))
#define FLAGS 128
#define TARGET 136
#define HOST_RSP 144
#define ODD_RSP 160
#define ODD_RIP 168
#define FLAG_AC 0x40000

	.section .rodata
	.p2align 6
	.globl host_stub_template, host_stub_exit, host_stub_resume, host_stub_template_end
	.hidden host_stub_template, host_stub_exit, host_stub_resume, host_stub_template_end
host_stub_template:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, DATA(HOST_RSP)
	pushq DATA(FLAGS)
	popfq
	movq GPR(0), %rax
	movq GPR(1), %rcx
	movq GPR(2), %rdx
	movq GPR(3), %rbx
	movq GPR(4), %rsp
	movq GPR(5), %rbp
	movq GPR(6), %rsi
	movq GPR(7), %rdi
	movq GPR(8), %r8
	movq GPR(9), %r9
	movq GPR(10), %r10
	movq GPR(11), %r11
	movq GPR(12), %r12
	movq GPR(13), %r13
	movq GPR(14), %r14
	movq GPR(15), %r15
	jmpq *DATA(TARGET)
host_stub_exit:
	movq %rax, GPR(0)
	movq %rcx, GPR(1)
	movq %rdx, GPR(2)
	movq %rbx, GPR(3)
	movq %rsp, GPR(4)
	movq %rbp, GPR(5)
	movq %rsi, GPR(6)
	movq %rdi, GPR(7)
	movq %r8, GPR(8)
	movq %r9, GPR(9)
	movq %r10, GPR(10)
	movq %r11, GPR(11)
	movq %r12, GPR(12)
	movq %r13, GPR(13)
	movq %r14, GPR(14)
	movq %r15, GPR(15)
	movq DATA(HOST_RSP), %rsp
	pushfq
	popq DATA(FLAGS)
	testl $FLAG_AC, DATA(FLAGS)
	jz 1f
	pushq $0x202
	popfq
1:	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	retq
host_stub_resume:
	movq DATA(ODD_RSP), %rsp
	jmpq *DATA(ODD_RIP)
host_stub_template_end:
	.section .note.GNU-stack,"",@progbits
