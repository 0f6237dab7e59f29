/*
 * oracle_enter.S - loads a case's state into the processor, jumps to it, and stores what it left.
 *
 * Everything is RIP-relative: once the case runs, no register is ours. A case ends by a jump to VA_EXIT, whose page jumps to
 * oracle_exit; a signal handler resumes there too, having noted the fault.
 */
	.text
	.globl oracle_text_start, oracle_text_end, oracle_enter, oracle_exit, oracle_resume, oracle_resume_end, oracle_restorer, oracle_syscall, oracle_on_stack
oracle_text_start:

/* void oracle_enter(void): oracle_in to oracle_out. */
oracle_enter:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, oracle_saved_rsp(%rip)
	mov	$7, %eax
	xor	%edx, %edx
	xrstor64 oracle_fpu_in(%rip)
	pushq	oracle_in+136(%rip)
	popfq
	mov	oracle_in+0(%rip), %rax
	mov	oracle_in+8(%rip), %rcx
	mov	oracle_in+16(%rip), %rdx
	mov	oracle_in+24(%rip), %rbx
	mov	oracle_in+32(%rip), %rsp
	mov	oracle_in+40(%rip), %rbp
	mov	oracle_in+48(%rip), %rsi
	mov	oracle_in+56(%rip), %rdi
	mov	oracle_in+64(%rip), %r8
	mov	oracle_in+72(%rip), %r9
	mov	oracle_in+80(%rip), %r10
	mov	oracle_in+88(%rip), %r11
	mov	oracle_in+96(%rip), %r12
	mov	oracle_in+104(%rip), %r13
	mov	oracle_in+112(%rip), %r14
	mov	oracle_in+120(%rip), %r15
	jmp	*oracle_in+128(%rip)

oracle_exit:
	mov	%rax, oracle_out+0(%rip)
	mov	%rcx, oracle_out+8(%rip)
	mov	%rdx, oracle_out+16(%rip)
	mov	%rbx, oracle_out+24(%rip)
	mov	%rsp, oracle_out+32(%rip)
	mov	%rbp, oracle_out+40(%rip)
	mov	%rsi, oracle_out+48(%rip)
	mov	%rdi, oracle_out+56(%rip)
	mov	%r8, oracle_out+64(%rip)
	mov	%r9, oracle_out+72(%rip)
	mov	%r10, oracle_out+80(%rip)
	mov	%r11, oracle_out+88(%rip)
	mov	%r12, oracle_out+96(%rip)
	mov	%r13, oracle_out+104(%rip)
	mov	%r14, oracle_out+112(%rip)
	mov	%r15, oracle_out+120(%rip)
	mov	oracle_saved_rsp(%rip), %rsp
	pushfq
	popq	oracle_out+136(%rip)
	pushq	$0x202
	popfq
	mov	%ds, oracle_out+144(%rip)
	mov	%es, oracle_out+146(%rip)
	mov	%ss, oracle_out+148(%rip)
	mov	$0x2b, %eax
	mov	%eax, %ss
	xor	%eax, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	$7, %eax
	xor	%edx, %edx
	xsave64	oracle_fpu_out(%rip)
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/* Goes on with a case whose RSP the kernel cannot return to. */
oracle_resume:
	mov	oracle_odd_rsp(%rip), %rsp
	jmp	*oracle_odd_rip(%rip)
oracle_resume_end:

/* What the kernel returns to from a signal handler. */
oracle_restorer:
	mov	$15, %eax
	syscall

/* long oracle_syscall(long nr, a, b, c, d, e, f) */
oracle_syscall:
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	mov	%r8, %r10
	mov	%r9, %r8
	mov	8(%rsp), %r9
	syscall
	ret

/* void oracle_on_stack(void *top, void (*fn)(void)): never returns */
oracle_on_stack:
	mov	%rdi, %rsp
	xor	%ebp, %ebp
	call	*%rsi
	ud2
oracle_text_end:
	.section .note.GNU-stack,"",@progbits
