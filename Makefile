# Trifold's build. `make` builds build/trifold; `make help` lists the targets.
#
# Everything under src/ but ui/main.c goes into $(BUILD)/libtrifold.a, which tests and fuzzers link too.
# BUILD=dir builds elsewhere; CC=clang and SAN=address,undefined choose compiler and sanitizers. What does not depend
# on those (guests, downloads, set-up stamps) is always under build/.

# V=1 shows whole commands.

BUILD ?= build
V ?= 0
say = $(if $(filter 1,$(V)),,@echo "  $(1)	$(2)";)
CC = gcc
SAN ?=
OPT ?= -O2
CFLAGS = -std=gnu11 $(OPT) -g -Wall -Wextra -Werror -Isrc -MMD -MP -fno-strict-aliasing -fno-omit-frame-pointer -pthread \
	-D_GNU_SOURCE $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)
LDFLAGS = -pthread $(if $(SAN),-fsanitize=$(SAN))
LDLIBS = -lZydis -llz4 -lz -llzma -lzstd -ljansson -lm

# These run while the guest's vector registers are live (src/cpu/fpu.h): general registers only.
HOT = mem mmu cpu bt xen svm
SRC := $(wildcard src/*/*.c) $(wildcard src/*/*.S)
LIBSRC := $(filter-out src/ui/main.c,$(SRC))
LIBOBJ := $(patsubst %,$(BUILD)/obj/%.o,$(LIBSRC))
MAINOBJ := $(BUILD)/obj/src/ui/main.c.o

all: $(BUILD)/trifold

help:
	@sed -n 's/^#: //p' $(MAKEFILE_LIST)

#: make              build/trifold
#: make run          builds all that is needed and boots Debian's kernel to a shell on this terminal; RUN='--paging shadow'
#:                   adds options
#: make guests       build/guests/vmlinuz (linux-image-cloud-amd64) and build/guests/initrd.img (busybox)
#: make check        all tests; TESTS='unit guest' picks groups, ONLY=word picks tests by name
#: make check-nested hypervisors in guests, in all combinations of paging modes
#: make fuzz-insn    instructions against the host CPU, 10 million cases; CASES=n
#: make fuzz-mmu     paging against a model, 100 million steps for each mode and placement, sanitizers on; CASES=n
#: make fuzz-pv      hypercalls of a paravirtualized domain, all references recounted, 10 million, sanitizers on; CASES=n
#: make fuzz-svm     hostile guest hypervisors, 10 million VMRUNs for each mode, sanitizers on; CASES=n
#: make fuzz-svm-engines
#:                   the same by both engines, which must agree, 2 million cases for each mode; CASES=n
#: make bench        measures against QEMU TCG and native, writes docs/benchmarks.md; BENCH='--only boot'
#:                   adds options
#: make bench-paging measures what the paging modes differ in, in all of them
#: make clean        removes what was built; keeps downloads, so that everything can be built again offline
#: make distclean    removes build/

# ---- set-up: missing Debian packages are named and installed, once -------------------------------------------------
SETUP = build/.setup-
$(SETUP)%: tools/packages tools/setup
	@mkdir -p build
	@tools/setup $*
	@touch $@

# ---- the program ---------------------------------------------------------------------------------------------------
$(foreach d,$(HOT),$(eval $(BUILD)/obj/src/$(d)/%.c.o: CFLAGS += -mgeneral-regs-only))
$(BUILD)/obj/src/vm/wake.c.o $(BUILD)/obj/src/base/trace.c.o: CFLAGS += -mgeneral-regs-only

# Names of Linux' system calls, for traces.
$(BUILD)/gen/syscall_names.inc: | $(SETUP)build
	@mkdir -p $(@D)
	$(call say,GEN,$@)echo '#include <asm/unistd_64.h>' | $(CC) -E -dM - | sed -n 's/^#define __NR_\([a-z0-9_]*\) \([0-9]*\)$$/[\2] = "\1",/p' | sort >$@
$(BUILD)/obj/src/vm/trace_names.c.o: $(BUILD)/gen/syscall_names.inc
$(BUILD)/obj/src/vm/trace_names.c.o: CFLAGS += -I$(BUILD)/gen

# What docs/stats.md says of each counter, for reports.
$(BUILD)/gen/stat_meanings.inc: docs/stats.md
	@mkdir -p $(@D)
	$(call say,GEN,$@)sed -n -e 's/[\\"]/\\&/g' -e '/^## /{s/^## //;h}' -e '/^| `/{G;s/^| `\([a-z0-9_]*\)` | \(.*\) |\n\(.*\)$$/{ "\3", "\1", "\2" },/;s/`//g;p}' $< >$@
$(BUILD)/obj/src/report/html.c.o: $(BUILD)/gen/stat_meanings.inc
$(BUILD)/obj/src/report/html.c.o: CFLAGS += -I$(BUILD)/gen

$(BUILD)/obj/%.c.o: %.c | $(SETUP)build
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CFLAGS) -c -o $@ $<
$(BUILD)/obj/%.S.o: %.S | $(SETUP)build
	@mkdir -p $(@D)
	$(call say,AS,$<)$(CC) -Isrc -g -MMD -MP -c -o $@ $<

$(BUILD)/libtrifold.a: $(LIBOBJ)
	@rm -f $@
	$(call say,AR,$@)ar rcs $@ $^

$(BUILD)/trifold: $(MAINOBJ) $(BUILD)/libtrifold.a
	$(call say,LD,$@)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# tests/unit/NAME_test.c and fuzz/NAME.c become $(BUILD)/tests/NAME_test and $(BUILD)/fuzz/NAME.
$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.c.o $(BUILD)/libtrifold.a
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka
$(BUILD)/fuzz/%: $(BUILD)/obj/fuzz/%.c.o $(BUILD)/libtrifold.a
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(LDFLAGS) -o $@ $(filter-out %.a,$^) $(BUILD)/libtrifold.a $(LDLIBS)
# A fuzzer's parts are in fuzz/NAME/.
$(foreach f,$(patsubst fuzz/%.c,%,$(wildcard fuzz/*.c)),$(eval \
	$(BUILD)/fuzz/$(f): $(patsubst %,$(BUILD)/obj/%.o,$(wildcard fuzz/$(f)/*.c fuzz/$(f)/*.S))))

# ---- guests --------------------------------------------------------------------------------------------------------
GUESTS = build/guests
DEBS = build/debs

guests: $(GUESTS)/vmlinuz $(GUESTS)/initrd.img

$(GUESTS)/vmlinuz: tools/make-kernel tools/fetch-deb | $(SETUP)guests
	@tools/make-kernel $(DEBS) linux-image-cloud-amd64 $@
$(GUESTS)/vmlinuz-amd64: tools/make-kernel tools/fetch-deb | $(SETUP)guests
	@tools/make-kernel $(DEBS) linux-image-amd64 $@
$(GUESTS)/busybox/bin/busybox: tools/fetch-deb | $(SETUP)guests
	@tools/fetch-deb $(DEBS) busybox-static $(GUESTS)/busybox
	@touch $@
$(GUESTS)/debug-exit: tools/debug-exit.c | $(SETUP)build
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) -O2 -Wall -Wextra -Werror -static -nostdlib -fno-pic -no-pie -fno-stack-protector -Wl,--build-id=none -s -o $@ $<
INITRD = $(GUESTS)/busybox/bin/busybox $(GUESTS)/debug-exit
$(GUESTS)/initrd.img: $(INITRD) tools/make-initrd tools/guest-init
	@tools/make-initrd $@ $(INITRD)

run: $(BUILD)/trifold guests
	@$(BUILD)/trifold run --kernel $(GUESTS)/vmlinuz --initrd $(GUESTS)/initrd.img --append "quiet loglevel=3" $(RUN)

# ---- tests ---------------------------------------------------------------------------------------------------------
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/*_test.c))
FUZZERS := $(patsubst fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard fuzz/*.c))
JOBS ?= 2

unit: $(UNIT) $(BUILD)/tests/lockorder.so
# Preloaded by tests/e2e/lockorder.sh; runs with the guest's vector registers live.
$(BUILD)/tests/lockorder.so: tests/e2e/lib/lockorder.c | $(SETUP)build
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror -mgeneral-regs-only -ftls-model=initial-exec -fPIC -shared -o $@ $<
fuzzers: $(FUZZERS)

# Bare-metal guests: tests/guest/NAME.c and the runtime in tests/guest/lib become $(BUILD)/bare/NAME.elf.
BARE := $(patsubst tests/guest/%.c,$(BUILD)/bare/%.elf,$(wildcard tests/guest/*.c))
BARE_LIB := $(patsubst tests/guest/lib/%,$(BUILD)/bare/obj/%.o,$(wildcard tests/guest/lib/*.c tests/guest/lib/*.S))
BARE_CFLAGS = -std=gnu11 -O1 -g -Wall -Wextra -Werror -ffreestanding -fno-pic -fno-pie -mno-red-zone -mgeneral-regs-only \
	-fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -Itests/guest/lib -MMD -MP
# A 32-bit guest, which boots by its multiboot header.
BARE32 := $(BUILD)/bare/legacy.elf $(BUILD)/bare/random.elf
BARE32_FLAGS = $(filter-out -mno-red-zone -MMD -MP,$(BARE_CFLAGS)) -m32 -march=i686
bare: $(BARE) $(BARE32) $(BUILD)/bare/random.bin $(BUILD)/bare/random-boot.bin
$(BUILD)/bare/obj/%.o: tests/guest/lib/% | $(SETUP)build
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(BARE_CFLAGS) -c -o $@ $<
$(BUILD)/bare/obj/%.c.o: tests/guest/%.c | $(SETUP)build
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(BARE_CFLAGS) -c -o $@ $<
$(BUILD)/bare/%.elf: $(BUILD)/bare/obj/%.c.o $(BARE_LIB) tests/guest/lib/guest.ld
	$(call say,LD,$@)$(CC) -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments -Wl,-T,tests/guest/lib/guest.ld -o $@ $(filter %.o,$^)

BARE32_LINK = -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments
$(BUILD)/bare/legacy.elf: $(wildcard tests/guest/legacy/*) | $(SETUP)build $(SETUP)check
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(BARE32_FLAGS) $(BARE32_LINK) -Wl,-T,tests/guest/legacy/legacy.ld -o $@ $(filter %.c %.S,$^)
# The one that tools/against-bochs runs, also as a flat image and a boot sector for it.
RANDOM_GUEST := $(filter-out %/boot.S,$(wildcard tests/guest/random/*))
$(BUILD)/bare/random.elf: $(RANDOM_GUEST) | $(SETUP)build $(SETUP)check
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(BARE32_FLAGS) $(BARE32_LINK) -Wl,-T,tests/guest/random/random.ld -o $@ $(filter %.c %.S,$^)
$(BUILD)/bare/random.bin: $(BUILD)/bare/random.elf
	$(call say,BIN,$@)objcopy -O binary $< $@
$(BUILD)/bare/random-boot.bin: tests/guest/random/boot.S | $(SETUP)build $(SETUP)check
	@mkdir -p $(@D)
	$(call say,AS,$@)$(CC) -m32 -nostdlib -static -no-pie -Wl,--build-id=none,-Ttext=0x7c00,--oformat=binary -o $@ $<

# Paravirtualized ones have their entry, and all else, from lib/pv.h.
$(BUILD)/bare/pv_%.elf: $(BUILD)/bare/obj/pv_%.c.o tests/guest/lib/guest.ld
	$(call say,LD,$@)$(CC) -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments -Wl,-T,tests/guest/lib/guest.ld -Wl,-e,pv_entry -o $@ $(filter %.o,$^)

# Programs that run inside Linux guests (and, for comparison, on the host): static, in an initramfs beside busybox.
INGUEST := $(patsubst tests/e2e/guest-src/%.c,$(GUESTS)/test-root/bin/%,$(wildcard tests/e2e/guest-src/*.c))
INGUEST_FLAGS = -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -static -pthread
$(GUESTS)/test-root/bin/%: tests/e2e/guest-src/%.c | $(SETUP)build
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(INGUEST_FLAGS) -o $@ $< -lm
# The same source for i386, too.
INGUEST32 := $(GUESTS)/test-root/bin/compute32
$(INGUEST32): $(GUESTS)/test-root/bin/%32: tests/e2e/guest-src/%.c | $(SETUP)build $(SETUP)check
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(INGUEST_FLAGS) -m32 -o $@ $< -lm
$(GUESTS)/test-root/modules/virtio_balloon.ko: tools/make-modules tools/fetch-deb | $(SETUP)guests
	@tools/make-modules $(DEBS) linux-image-cloud-amd64 $(@D) virtio virtio_ring virtio_mmio virtio_balloon
	@touch $@
$(GUESTS)/test.img: $(INGUEST) $(INGUEST32) $(GUESTS)/test-root/modules/virtio_balloon.ko $(wildcard tests/e2e/guest/*) $(INITRD) tools/make-initrd tools/guest-init
	@mkdir -p $(GUESTS)/test-root/tests
	@rm -f $(GUESTS)/test-root/tests/*
	@cp tests/e2e/guest/* $(GUESTS)/test-root/tests/
	@tools/make-initrd $@ $(INITRD) $(GUESTS)/test-root

# The same with the modules of KVM.
$(GUESTS)/kvm.img: tools/make-kvm-root $(GUESTS)/test.img | $(SETUP)guests
	@tools/make-kvm-root $(DEBS) $(GUESTS)/kvm-root
	@tools/make-initrd $@ $(INITRD) $(GUESTS)/test-root $(GUESTS)/kvm-root

# QEMU, with a kernel and an initramfs for it to boot: in a guest, on KVM there.
$(GUESTS)/l2.img: tests/nested/guest/l2.sh $(INITRD) tools/make-initrd tools/guest-init
	@mkdir -p $(GUESTS)/l2-root/tests
	@cp $< $(GUESTS)/l2-root/tests/
	@tools/make-initrd $@ $(INITRD) $(GUESTS)/l2-root
$(GUESTS)/qemu.img: tools/make-qemu-root $(GUESTS)/kvm.img $(GUESTS)/l2.img $(GUESTS)/vmlinuz tests/nested/guest/qemu.sh | $(SETUP)check
	@tools/make-qemu-root $(GUESTS)/vmlinuz $(GUESTS)/l2.img $(GUESTS)/qemu-root
	@mkdir -p $(GUESTS)/qemu-root/tests
	@cp tests/nested/guest/qemu.sh $(GUESTS)/qemu-root/tests/
	@tools/make-initrd $@ $(INITRD) $(GUESTS)/kvm-root $(GUESTS)/qemu-root

$(GUESTS)/trifold.img: tools/make-trifold-root $(BUILD)/trifold $(GUESTS)/l2.img $(GUESTS)/vmlinuz tests/nested/guest/trifold.sh
	@tools/make-trifold-root $(BUILD)/trifold $(GUESTS)/vmlinuz $(GUESTS)/l2.img $(GUESTS)/trifold-root
	@mkdir -p $(GUESTS)/trifold-root/tests
	@cp tests/nested/guest/trifold.sh $(GUESTS)/trifold-root/tests/
	@tools/make-initrd $@ $(INITRD) $(GUESTS)/trifold-root

# Xen's tools, with a kernel and an initramfs for them to start, in domain 0; hvm: and QEMU.
$(GUESTS)/domu.img: DOMU = domu
$(GUESTS)/hvm.img: DOMU = hvm
$(GUESTS)/domu.img $(GUESTS)/hvm.img: tools/make-xen-root tools/debroot.py tools/make-modules $(GUESTS)/l2.img $(GUESTS)/vmlinuz-amd64 tests/nested/guest/domu.sh | $(SETUP)guests $(SETUP)check
	@tools/make-xen-root $(DEBS) $(GUESTS)/$(DOMU)-root $(filter hvm,$(DOMU))
	@tools/make-modules $(DEBS) linux-image-amd64 $(GUESTS)/$(DOMU)-root/modules xen-evtchn xen-privcmd xenfs xen-gntdev xen-gntalloc
	@mkdir -p $(GUESTS)/$(DOMU)-root/domu $(GUESTS)/$(DOMU)-root/tests
	@cp $(GUESTS)/vmlinuz-amd64 $(GUESTS)/$(DOMU)-root/domu/vmlinuz
	@cp $(GUESTS)/l2.img $(GUESTS)/$(DOMU)-root/domu/initrd.img
	@cp tests/nested/guest/domu.sh $(GUESTS)/$(DOMU)-root/tests/
	@tools/make-initrd $@ $(INITRD) $(GUESTS)/$(DOMU)-root
$(GUESTS)/memtest: tools/make-memtest tools/fetch-deb | $(SETUP)guests
	@tools/make-memtest $(DEBS) $@

# Programs of this machine, to compare what they compute on the host and in a guest.
$(GUESTS)/programs.img: tools/make-program-root tests/e2e/programs/work.sh $(INITRD) tools/make-initrd tools/guest-init | $(SETUP)guests $(SETUP)check
	@tools/make-program-root $(GUESTS)/program-root
	@mkdir -p $(GUESTS)/program-root/programs
	@cp tests/e2e/programs/work.sh $(GUESTS)/program-root/programs/
	@tools/make-initrd $@ $(INITRD) $(GUESTS)/program-root

# Debian's memory and stress testers in an initramfs of their own.
$(GUESTS)/stress.img: tools/make-stress-root tools/debroot.py tests/e2e/stress/stress.sh $(INITRD) tools/make-initrd tools/guest-init | $(SETUP)guests $(SETUP)check
	@tools/make-stress-root $(DEBS) $(GUESTS)/stress-root
	@mkdir -p $(GUESTS)/stress-root/stress
	@cp tests/e2e/stress/stress.sh $(GUESTS)/stress-root/stress/
	@tools/make-initrd $@ $(INITRD) $(GUESTS)/stress-root

# A disk's front end, which is a module.
$(GUESTS)/disk-root/modules/xen-blkfront.ko: tools/make-modules tools/fetch-deb | $(SETUP)guests
	@tools/make-modules $(DEBS) linux-image-cloud-amd64 $(@D) xen-blkfront
	@touch $@
$(GUESTS)/disk.img: $(GUESTS)/disk-root/modules/xen-blkfront.ko tests/e2e/disk/disk.sh $(INITRD) tools/make-initrd tools/guest-init
	@mkdir -p $(GUESTS)/disk-root/disk
	@cp tests/e2e/disk/disk.sh $(GUESTS)/disk-root/disk/
	@tools/make-initrd $@ $(INITRD) $(GUESTS)/disk-root

# The second compiler, and everything that tests run under sanitizers, have build directories of their own.
check: $(SETUP)build $(SETUP)check guests
	@tools/setup browser || echo "no browser, so that test is skipped" >&2
	@$(MAKE) --no-print-directory -j$(JOBS) all unit fuzzers bare $(GUESTS)/vmlinuz-amd64 $(GUESTS)/xen $(GUESTS)/test.img $(GUESTS)/kvm.img $(GUESTS)/qemu.img $(GUESTS)/stress.img $(GUESTS)/programs.img $(GUESTS)/disk.img
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=$(BUILD)/clang CC=clang all unit
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=$(BUILD)/san SAN=address,undefined OPT=-O1 unit fuzzers
	@tools/run-tests --build $(BUILD) --jobs $(JOBS) $(if $(ONLY),--only '$(ONLY)') $(TESTS)

# Hypervisors in guests, in all combinations of paging modes, ours and theirs; `make check` has a few of them.
check-nested: $(SETUP)build $(SETUP)check guests
	@$(MAKE) --no-print-directory -j$(JOBS) all bare $(GUESTS)/kvm.img $(GUESTS)/qemu.img $(GUESTS)/trifold.img $(GUESTS)/xen $(GUESTS)/domu.img $(GUESTS)/hvm.img $(GUESTS)/memtest $(GUESTS)/test.img
	@tools/run-tests --build $(BUILD) --jobs $(JOBS) --only svm guest
	@tools/run-tests --build $(BUILD) --jobs $(JOBS) --only xen e2e
	@tools/run-tests --build $(BUILD) --jobs $(JOBS) --only kvm e2e
	@tools/run-tests --build $(BUILD) --jobs $(JOBS) nested

# Long runs of the fuzzers; `make check` makes short ones (fuzz/runs). CASES=n changes their length.
CASES ?= 10000000
fuzz-insn: $(BUILD)/fuzz/insn
	$(BUILD)/fuzz/insn --cases $(CASES)
fuzz-mmu: CASES := $(if $(filter file,$(origin CASES)),100000000,$(CASES))
fuzz-mmu: | $(SETUP)build
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/san SAN=address,undefined OPT=-O1 $(BUILD)/san/fuzz/mmu
	$(BUILD)/san/fuzz/mmu --steps $(CASES)
fuzz-pv: | $(SETUP)build
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/san SAN=address,undefined OPT=-O1 $(BUILD)/san/fuzz/pv
	@# Each step's recount allocates: memory that comes back from quarantine at once halves its time.
	ASAN_OPTIONS=quarantine_size_mb=2 $(BUILD)/san/fuzz/pv --cases $(CASES)
fuzz-svm: | $(SETUP)build
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/san SAN=address,undefined OPT=-O1 $(BUILD)/san/fuzz/svm
	$(BUILD)/san/fuzz/svm --cases $(CASES)
	$(BUILD)/san/fuzz/svm --cases $(CASES) --paging shadow
fuzz-svm-engines: CASES := $(if $(filter file,$(origin CASES)),2000000,$(CASES))
fuzz-svm-engines: $(BUILD)/fuzz/svm_engines
	$(BUILD)/fuzz/svm_engines --cases $(CASES)
	$(BUILD)/fuzz/svm_engines --cases $(CASES) --paging shadow
	$(BUILD)/fuzz/svm_engines --cases $(CASES) --paging auto

# ---- measurements --------------------------------------------------------------------------------------------------
# Programs that are measured: the same binaries natively and in guests. `bench-exit` is dynamic, so its libraries come along.
BENCH_DIR = $(GUESTS)/bench-root/bench
BENCH_FLAGS = -std=gnu11 -O2 -Wall -Wextra -Werror -pthread
BENCH_PROGRAMS = $(addprefix $(BENCH_DIR)/,bench-cpu bench-kernel bench-paging bench-command bench-exit bench-exit-static)
$(BENCH_DIR)/bench-cpu $(BENCH_DIR)/bench-kernel: $(BENCH_DIR)/bench-%: bench/guest/driver.c bench/guest/report.c $(wildcard bench/guest/*.[ch]) | $(SETUP)build
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(BENCH_FLAGS) -static -o $@ bench/guest/driver.c bench/guest/report.c $(wildcard bench/guest/$*_*.c) -lm
# The set paging takes over items of the set kernel.
$(BENCH_DIR)/bench-paging: bench/guest/driver.c bench/guest/report.c $(wildcard bench/guest/*.[ch]) | $(SETUP)build
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(BENCH_FLAGS) -static -o $@ bench/guest/driver.c bench/guest/report.c $(wildcard bench/guest/paging_*.c) \
		$(filter-out bench/guest/kernel_items.c,$(wildcard bench/guest/kernel_*.c)) -lm
$(BENCH_DIR)/bench-command: bench/guest/command.c bench/guest/report.c bench/guest/report.h | $(SETUP)build
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(BENCH_FLAGS) -static -o $@ bench/guest/command.c bench/guest/report.c
$(BENCH_DIR)/bench-exit-static: BENCH_FLAGS += -static
$(BENCH_DIR)/bench-exit $(BENCH_DIR)/bench-exit-static: bench/guest/exit.c | $(SETUP)build
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(BENCH_FLAGS) -o $@ $<
$(GUESTS)/bench.img: $(BENCH_PROGRAMS) bench/guest/run.sh $(INITRD) tools/make-initrd tools/guest-init
	@cp bench/guest/run.sh $(BENCH_DIR)/
	@ldd $(BENCH_DIR)/bench-exit | grep -o '/[^ ]*' | while read -r lib; do install -D "$$lib" "$(GUESTS)/bench-root$$lib"; done
	@tools/make-initrd $@ $(INITRD) $(GUESTS)/bench-root
# Debian's programs, as they are installed here, and what they work on; gcc compiles files of ours, preprocessed.
BENCH_TOOLS = gcc as node sh cat sed tr expr basename dirname find xargs grep tar uniq head mkdir rm
BENCH_SOURCES = x86/insn cpu/lapic
PROGRAM_DIR = $(GUESTS)/bench-program-root
$(GUESTS)/bench-programs.img: $(BENCH_DIR)/bench-command bench/guest/run.sh bench/guest/programs.sh $(wildcard bench/guest/data/*) tools/make-program-root $(INITRD) \
		tools/make-initrd tools/guest-init | $(SETUP)bench $(SETUP)check $(SETUP)build
	$(call say,ROOT,$@)tools/make-program-root $(PROGRAM_DIR) $(BENCH_TOOLS) "$$(gcc -print-prog-name=cc1)"
	@mkdir -p $(PROGRAM_DIR)/bench
	@cp $(BENCH_DIR)/bench-command bench/guest/run.sh bench/guest/programs.sh bench/guest/data/* $(PROGRAM_DIR)/bench/
	@for f in $(BENCH_SOURCES); do gcc -E -P -std=gnu11 -D_GNU_SOURCE -Isrc -o $(PROGRAM_DIR)/bench/$$(basename $$f).i src/$$f.c || exit 1; done
	@tools/make-initrd $@ $(INITRD) $(PROGRAM_DIR)
$(GUESTS)/bench-boot.img: bench/guest/boot.sh $(INITRD) tools/make-initrd tools/guest-init
	@install -D bench/guest/boot.sh $(GUESTS)/bench-boot-root/bench/boot.sh
	@tools/make-initrd $@ $(INITRD) $(GUESTS)/bench-boot-root
bench: $(SETUP)bench $(BUILD)/trifold guests $(GUESTS)/vmlinuz-amd64 $(GUESTS)/xen $(GUESTS)/bench.img $(GUESTS)/bench-boot.img $(GUESTS)/bench-programs.img $(GUESTS)/kvm.img $(GUESTS)/qemu.img
	@BUILD=$(BUILD) bench/run $(BENCH)
# Debian's Xen, as a multiboot kernel.
$(GUESTS)/xen: tools/make-xen tools/fetch-deb | $(SETUP)guests
	@tools/make-xen $(DEBS) $@
bench-paging: $(SETUP)bench $(BUILD)/trifold guests $(GUESTS)/bench.img $(GUESTS)/xen
	BUILD=$(BUILD) bench/run --only paging --write $(BENCH)

# ---- cleaning ------------------------------------------------------------------------------------------------------
clean:
	rm -rf $(BUILD)/obj $(BUILD)/gen $(BUILD)/tests $(BUILD)/fuzz $(BUILD)/bare $(BUILD)/clang $(BUILD)/san $(BUILD)/logs $(BUILD)/libtrifold.a $(BUILD)/trifold $(GUESTS)
distclean:
	rm -rf build

.PHONY: all help guests run unit fuzzers bare check check-nested fuzz-insn fuzz-mmu fuzz-pv fuzz-svm fuzz-svm-engines bench bench-paging clean distclean
.SECONDARY:
-include $(LIBOBJ:.o=.d) $(MAINOBJ:.o=.d) $(wildcard $(BUILD)/obj/tests/unit/*.d $(BUILD)/obj/fuzz/*.d $(BUILD)/obj/fuzz/*/*.d $(BUILD)/bare/obj/*.d)
