/*
 * kvm.c - a tiny user of /dev/kvm: runs 64-bit code at CPL 0 in a guest of this guest and checks what it did. The code prints through a port, touches
 * memory that its tables map, takes a page fault through its own IDT, executes CPUID and RDTSC, and halts.
 *
 * kvm [COUNT [PAGES]]: besides, COUNT exits for a port and PAGES first touches of a page (2048 at most), and what one of each takes.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define MEMORY (16u << 20)
enum { PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, IDT = 0x4000, GDT = 0x5000, STACK = 0x8000, CODE = 0x10000, HANDLER = 0x11000, DATA = 0x200000, TOUCHED = 0x800000 };

#define CHECK(e) do { if (!(e)) { printf("kvm: line %d: %s\n", __LINE__, #e); exit(1); } } while (0)

extern const char code[], code_end[], handler[], handler_end[];
__asm__(".pushsection .rodata\n"
	"code: lea message(%rip), %rsi\n mov $0x3f8, %edx\n"
	"1: lodsb\n test %al, %al\n jz 2f\n outb %al, %dx\n jmp 1b\n"
	/* memory: a sum over 4 MiB, written first */
	"2: mov $0x200000, %edi\n mov $0x80000, %ecx\n mov %edi, %eax\n"
	"3: mov %rax, (%rdi)\n add $8, %rdi\n add $3, %rax\n dec %ecx\n jnz 3b\n"
	"mov $0x200000, %edi\n mov $0x80000, %ecx\n xor %ebx, %ebx\n"
	"4: add (%rdi), %rbx\n add $8, %rdi\n dec %ecx\n jnz 4b\n"
	/* a page that is not mapped: the handler leaves CR2 in R8 and the error code in R9, and skips the instruction (3 bytes) */
	"movabs $0x7f0000000123, %rdi\n mov %rax, (%rdi)\n"
	"mov %rbx, %rbp\n xor %eax, %eax\n cpuid\n mov %ecx, %r10d\n rdtsc\n"
	/* on request: R15 exits, R14 first touches; ports say where each begins and ends */
	"mov $0x11, %edx\n outb %al, %dx\n mov $0x10, %edx\n"
	"5: test %r15, %r15\n jz 6f\n outb %al, %dx\n dec %r15\n jmp 5b\n"
	"6: mov $0x12, %edx\n outb %al, %dx\n mov $0x800000, %edi\n"
	"7: test %r14, %r14\n jz 8f\n movb $1, (%rdi)\n add $0x1000, %rdi\n dec %r14\n jmp 7b\n"
	"8: mov $0x13, %edx\n outb %al, %dx\n"
	"mov $0x200000, %eax\n mov %rbp, (%rax)\n mov %r8, 8(%rax)\n mov %r9, 16(%rax)\n mov %r10, 24(%rax)\n"
	"hlt\n"
	"message: .asciz \"hello from L2\\n\"\n code_end:\n"
	"handler: pop %r9\n mov %cr2, %r8\n addq $3, (%rsp)\n iretq\n handler_end:\n"
	".popsection");

static uint8_t *memory;
static void put(uint64_t at, uint64_t value) { memcpy(memory + at, &value, 8); }
static uint64_t get(uint64_t at) { uint64_t v; memcpy(&v, memory + at, 8); return v; }

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(int argc, char **argv)
{
	const unsigned long count = argc > 1 ? strtoul(argv[1], 0, 0) : 0, pages = argc > 2 ? strtoul(argv[2], 0, 0) : 0;
	int kvm = open("/dev/kvm", O_RDWR), vm, cpu;

	CHECK(kvm >= 0);
	CHECK(ioctl(kvm, KVM_GET_API_VERSION, 0) == 12);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	CHECK(vm >= 0);
	memory = mmap(0, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	CHECK(pages <= (MEMORY - TOUCHED) >> 12);
	memset(memory + TOUCHED, 0, MEMORY - TOUCHED); /* there are pages here, so that L2 waits for its own faults only */
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY, .userspace_addr = (uintptr_t)memory };
	CHECK(!ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region));
	cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	CHECK(cpu >= 0);
	const int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run = mmap(0, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	CHECK(run != MAP_FAILED);

	static struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entry[100]; } cpuid = { .head.nent = 100 };
	CHECK(!ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid.head));
	CHECK(!ioctl(cpu, KVM_SET_CPUID2, &cpuid.head));

	put(PML4, PDPT | 3);
	put(PDPT, PD | 3);
	for (uint64_t i = 0; i < MEMORY >> 21; i++)
		put(PD + 8 * i, i << 21 | 0x83);
	put(GDT + 8, 0x00af9b000000ffff);
	put(GDT + 16, 0x00cf93000000ffff);
	put(IDT + 16 * 14, (uint64_t)(HANDLER & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (uint64_t)(HANDLER >> 16) << 48);
	memcpy(memory + CODE, code, (size_t)(code_end - code));
	memcpy(memory + HANDLER, handler, (size_t)(handler_end - handler));

	struct kvm_sregs s;
	CHECK(!ioctl(cpu, KVM_GET_SREGS, &s));
	s.cr0 = 0x80010031;
	s.cr3 = PML4;
	s.cr4 = 0x620;
	s.efer = 0x500;
	s.cs = (struct kvm_segment){ .limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1 };
	s.ds = s.es = s.fs = s.gs = s.ss = (struct kvm_segment){ .limit = ~0u, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1 };
	s.gdt = (struct kvm_dtable){ .base = GDT, .limit = 23 };
	s.idt = (struct kvm_dtable){ .base = IDT, .limit = 0xfff };
	CHECK(!ioctl(cpu, KVM_SET_SREGS, &s));
	struct kvm_regs r = { .rip = CODE, .rsp = STACK, .rflags = 2, .r15 = count, .r14 = pages };
	CHECK(!ioctl(cpu, KVM_SET_REGS, &r));

	char text[64];
	unsigned len = 0;
	unsigned long exits = 0;
	double at[3] = { 0 };
	for (;;) {
		CHECK(!ioctl(cpu, KVM_RUN, 0));
		if (run->exit_reason == KVM_EXIT_HLT)
			break;
		if (run->exit_reason != KVM_EXIT_IO) {
			printf("kvm: exit reason %u, %#llx\n", run->exit_reason, (unsigned long long)run->hw.hardware_exit_reason);
			return 1;
		}
		if (run->io.port == 0x3f8 && len < sizeof(text) - 1)
			text[len++] = ((char *)run)[run->io.data_offset];
		exits += run->io.port == 0x10;
		if (run->io.port > 0x10 && run->io.port < 0x14)
			at[run->io.port - 0x11] = now();
	}
	text[len] = 0;
	CHECK(!strcmp(text, "hello from L2\n"));
	CHECK(exits == count);
	uint64_t sum = 0;
	for (uint64_t i = 0; i < 0x80000; i++)
		sum += 0x200000 + 3 * i;
	CHECK(get(DATA) == sum);
	CHECK(get(DATA + 8) == 0x7f0000000123);
	CHECK(get(DATA + 16) == 2);
	CHECK(get(DATA + 24) == 0x444d4163); /* cAMD */
	if (count)
		printf("kvm: %lu exits, %.2f us each\n", count, (at[1] - at[0]) / (double)count);
	if (pages) {
		for (unsigned long i = 0; i < pages; i++)
			CHECK(memory[TOUCHED + (i << 12)] == 1);
		printf("kvm: %lu touches, %.2f us each\n", pages, (at[2] - at[1]) / (double)pages);
	}
	puts("kvm: L2 did what it was to do");
	return 0;
}
