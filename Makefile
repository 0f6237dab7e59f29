# Trifold's build. `make` builds build/trifold; `make help` lists the targets.
# Everything under src/ but ui/main.c goes into build/libtrifold.a, which tests and fuzzers link too.
# BUILD=dir builds elsewhere; CC=clang and SAN=address,undefined choose compiler and sanitizers.

BUILD ?= build
CC = gcc
SAN ?=
OPT ?= -O2
CFLAGS = -std=gnu11 $(OPT) -g -Wall -Wextra -Werror -Isrc -MMD -MP -fno-strict-aliasing -fno-omit-frame-pointer -pthread \
	-D_GNU_SOURCE $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)
LDFLAGS = -pthread $(if $(SAN),-fsanitize=$(SAN))
LDLIBS = -lZydis -llz4 -lz -llzma -lzstd

# These run while the guest's vector registers are live (src/cpu/fpu.h): general registers only.
HOT = mem mmu cpu bt
SRC := $(wildcard src/*/*.c) $(wildcard src/*/*.S)
LIBSRC := $(filter-out src/ui/main.c,$(SRC))
LIBOBJ := $(patsubst %,$(BUILD)/obj/%.o,$(LIBSRC))
MAINOBJ := $(BUILD)/obj/src/ui/main.c.o

all: $(BUILD)/trifold

$(foreach d,$(HOT),$(eval $(BUILD)/obj/src/$(d)/%.c.o: CFLAGS += -mgeneral-regs-only))

$(BUILD)/obj/%.c.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -c -o $@ $<
$(BUILD)/obj/%.S.o: %.S
	@mkdir -p $(@D)
	$(CC) -Isrc -g -MMD -MP -c -o $@ $<

$(BUILD)/libtrifold.a: $(LIBOBJ)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/trifold: $(MAINOBJ) $(BUILD)/libtrifold.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# tests/unit/NAME_test.c and fuzz/NAME.c become build/tests/NAME_test and build/fuzz/NAME.
$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.c.o $(BUILD)/libtrifold.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka
$(BUILD)/fuzz/%: $(BUILD)/obj/fuzz/%.c.o $(BUILD)/libtrifold.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

clean:
	rm -rf $(BUILD)

.PHONY: all clean
.SECONDARY:
-include $(LIBOBJ:.o=.d) $(MAINOBJ:.o=.d)
