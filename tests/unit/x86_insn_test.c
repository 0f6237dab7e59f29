/*
 * x86_insn_test.c - decoding and re-encoding: classes, operands, flags, and that a redirected memory operand changes nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "x86/insn_shape.h"

#define DECODE(in, ...) \
	do { \
		static const uint8_t code[15] = { __VA_ARGS__ }; \
		assert_int_equal(insn_decode(&(in), code, 15, INSN_MODE_64), 0); \
	} while (0)

static void test_memory_operand_has_base_index_scale_displacement_and_size(void **state)
{
	struct insn in;

	(void)state;
	DECODE(in, 0x48, 0x03, 0x44, 0xcb, 0x08); /* add rax, [rbx+rcx*8+8] */
	assert_int_equal(in.cls, INSN_PLAIN);
	assert_int_equal(in.len, 5);
	assert_int_equal(in.mem.base, RBX);
	assert_int_equal(in.mem.index, RCX);
	assert_int_equal(in.mem.scale, 8);
	assert_int_equal(in.mem.disp, 8);
	assert_int_equal(in.mem.size, 8);
	assert_true(in.mem.read && !in.mem.write);
	assert_int_equal(in.fl_kill, FL_ARITH);
}

static void test_instruction_that_needs_more_bytes_says_so(void **state)
{
	static const uint8_t code[4] = { 0x48, 0x8b, 0x05, 0x11 }; /* mov rax, [rip+...] cut short */
	struct insn in;

	(void)state;
	assert_int_equal(insn_decode(&in, code, sizeof(code), INSN_MODE_64), -1);
}

static void test_fifteen_prefixes_are_too_long(void **state)
{
	uint8_t code[15];
	struct insn in;

	(void)state;
	memset(code, 0x66, sizeof(code));
	assert_int_equal(insn_decode(&in, code, sizeof(code), INSN_MODE_64), 0);
	assert_int_equal(in.cls, INSN_TOO_LONG);
}

static void test_what_guests_are_never_offered_needs_never(void **state)
{
	struct insn in;

	(void)state;
	DECODE(in, 0x62, 0xf1, 0x7c, 0x48, 0x28, 0xc1); /* vmovaps zmm0, zmm1 */
	assert_true(in.need & NEED_NEVER);
	DECODE(in, 0x0f, 0x01, 0xee); /* rdpkru */
	assert_true(in.need & NEED_NEVER);
}

static void test_vector_instructions_name_their_conditions(void **state)
{
	struct insn in;

	(void)state;
	DECODE(in, 0x0f, 0x58, 0xc1); /* addps */
	assert_int_equal(in.need, NEED_SSE);
	DECODE(in, 0xc5, 0xf4, 0x58, 0xc1); /* vaddps ymm */
	assert_int_equal(in.need, NEED_AVX);
	assert_true(in.feature & FEATURE(AVX));
	DECODE(in, 0x0f, 0xae, 0xf0); /* mfence touches no vector state */
	assert_int_equal(in.need, 0);
	DECODE(in, 0xd9, 0xe8); /* fld1 */
	assert_int_equal(in.need, NEED_X87);
}

static void test_flags_that_may_stay_are_not_killed(void **state)
{
	struct insn in;

	(void)state;
	DECODE(in, 0xd3, 0xe0); /* shl eax, cl */
	assert_int_equal(in.fl_kill, 0);
	DECODE(in, 0x48, 0xff, 0xc0); /* inc rax leaves CF */
	assert_int_equal(in.fl_kill & FL_CF, 0);
	assert_int_equal(in.fl_kill, FL_ARITH & ~FL_CF);
	DECODE(in, 0x48, 0x0f, 0xaf, 0xc3); /* imul rax, rbx: processors leave ZF, SF, AF, PF */
	assert_int_equal(in.fl_kill, FL_CF | FL_OF);
	DECODE(in, 0x48, 0x0f, 0xa3, 0xd8); /* bt rax, rbx */
	assert_int_equal(in.fl_kill, FL_CF);
}

static void test_system_instructions_have_classes_of_their_own(void **state)
{
	struct insn in;

	(void)state;
	DECODE(in, 0x0f, 0x22, 0xd8); /* mov cr3, rax */
	assert_int_equal(in.cls, INSN_MOV_TO_CR);
	assert_int_equal(in.reg2, 3);
	DECODE(in, 0x8e, 0xd8); /* mov ds, eax */
	assert_int_equal(in.cls, INSN_MOV_TO_SEG);
	assert_int_equal(in.sreg, SEG_DS);
	DECODE(in, 0xf3, 0x48, 0xa5); /* rep movsq */
	assert_int_equal(in.cls, INSN_MOVS);
	assert_int_equal(in.opsize, 8);
	assert_true(in.rep);
	DECODE(in, 0xf2, 0x0f, 0x10, 0x00); /* movsd xmm0, [rax] is no string instruction */
	assert_int_equal(in.cls, INSN_PLAIN);
	DECODE(in, 0x48, 0x0f, 0xab, 0x07); /* bts [rdi], rax */
	assert_int_equal(in.cls, INSN_BT_MEM);
}

/* Every register as the new base: the instruction stays what it was, but for the address. */
static void check_redirect(const uint8_t *code, int32_t disp)
{
	struct insn in, out;

	assert_int_equal(insn_decode(&in, code, 15, INSN_MODE_64), 0);
	for (uint8_t base = 0; base < 16; base++) {
		uint8_t bytes[24] = { 0 };
		unsigned n = insn_emit_base(bytes, &in, base, disp, INSN_NO_REG, INSN_NO_REG);

		if (!n) {
			assert_true(in.gpr_high && base >= 8);
			continue;
		}
		assert_int_equal(insn_decode(&out, bytes, 15, INSN_MODE_64), 0);
		assert_int_equal(out.len, n);
		assert_int_equal(out.mnemonic, in.mnemonic);
		assert_int_equal(out.opsize, in.opsize);
		assert_int_equal(out.mem.size, in.mem.size);
		assert_int_equal(out.imm, in.imm);
		assert_int_equal(out.lock, in.lock);
		assert_int_equal(out.mem.base, base);
		assert_int_equal(out.mem.index, INSN_NO_REG);
		assert_int_equal(out.mem.disp, disp);
		assert_int_equal(out.gpr_write, in.gpr_write);
	}
}

static void test_redirected_operand_keeps_the_rest(void **state)
{
	static const uint8_t codes[][15] = {
		{ 0x48, 0x8b, 0x05, 1, 2, 3, 4 },			/* mov rax, [rip+...] */
		{ 0x65, 0x4c, 0x03, 0x2c, 0x25, 8, 0, 0, 0 },		/* add r13, gs:[8] */
		{ 0xf0, 0x48, 0x0f, 0xb1, 0x0e },			/* lock cmpxchg [rsi], rcx */
		{ 0x66, 0xc7, 0x44, 0x24, 0x10, 0x34, 0x12 },		/* mov word [rsp+16], 0x1234 */
		{ 0x67, 0x41, 0x80, 0x3c, 0x24, 7 },			/* cmp byte [r12d], 7 */
		{ 0x8a, 0x63, 0x04 },					/* mov ah, [rbx+4] */
		{ 0x40, 0x8a, 0x7b, 0x04 },				/* mov dil, [rbx+4] */
		{ 0xc5, 0xf9, 0x6f, 0x04, 0x24 },			/* vmovdqa xmm0, [rsp] */
		{ 0xc4, 0xe2, 0xfb, 0xf6, 0x08 },			/* mulx rcx, rax, [rax] */
		{ 0xf2, 0x4d, 0x0f, 0x38, 0xf1, 0x08 },			/* crc32 r9, [r8] */
		{ 0x48, 0xa1, 1, 2, 3, 4, 5, 6, 7, 8 },			/* mov rax, [moffs] */
		{ 0x66, 0x0f, 0x3a, 0x63, 0x08, 0x42 },			/* pcmpistri xmm1, [rax], 0x42 */
		{ 0xdd, 0x45, 0xf8 },					/* fld qword [rbp-8] */
	};
	static const int32_t disps[] = { 0, 1, -128, 127, 128, 255, -70000 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		for (size_t k = 0; k < ARRAY_LEN(disps); k++)
			check_redirect(codes[i], disps[k]);
}

static void test_redirected_operand_can_have_an_index(void **state)
{
	static const uint8_t codes[][15] = {
		{ 0x48, 0x8b, 0x05, 1, 2, 3, 4 },			/* mov rax, [rip+...] */
		{ 0xf0, 0x48, 0x0f, 0xb1, 0x0e },			/* lock cmpxchg [rsi], rcx */
		{ 0x40, 0x8a, 0x7b, 0x04 },				/* mov dil, [rbx+4] */
		{ 0xc5, 0xf9, 0x6f, 0x04, 0x24 },			/* vmovdqa xmm0, [rsp] */
		{ 0xc4, 0xe2, 0xfb, 0xf6, 0x08 },			/* mulx rcx, rax, [rax] */
		{ 0x66, 0x0f, 0x3a, 0x63, 0x08, 0x42 },			/* pcmpistri xmm1, [rax], 0x42 */
	};
	struct insn in, out;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		for (unsigned k = 0; k < 16 * 16 * 4; k++) {
			const uint8_t base = k & 15, index = k >> 4 & 15, scale = (uint8_t)(1u << (k >> 8));
			const int32_t disp = k % 3 ? (int32_t)k * 3 - 600 : 0;
			uint8_t bytes[24] = { 0 };
			unsigned n;

			if (index == RSP)
				continue;
			assert_int_equal(insn_decode(&in, codes[i], 15, INSN_MODE_64), 0);
			n = insn_emit_index(bytes, &in, base, index, scale, disp);
			assert_int_not_equal(n, 0);
			assert_int_equal(insn_decode(&out, bytes, 15, INSN_MODE_64), 0);
			assert_int_equal(out.len, n);
			assert_int_equal(out.mnemonic, in.mnemonic);
			assert_int_equal(out.mem.base, base);
			assert_int_equal(out.mem.index, index);
			assert_int_equal(out.mem.scale, scale);
			assert_int_equal(out.mem.disp, disp);
			assert_int_equal(out.imm, in.imm);
			assert_int_equal(out.gpr_write, in.gpr_write);
		}
	DECODE(in, 0x8a, 0x63, 0x04); /* mov ah, [rbx+4] */
	assert_int_equal(insn_emit_index((uint8_t[24]){ 0 }, &in, RBX, R11, 1, 4), 0);
}

static void test_register_operand_can_be_replaced(void **state)
{
	struct insn in, out;
	uint8_t bytes[24] = { 0 };
	unsigned n;

	(void)state;
	DECODE(in, 0x4c, 0x01, 0x17); /* add [rdi], r10 */
	n = insn_emit_base(bytes, &in, R10, 0, R10, R11);
	assert_int_not_equal(n, 0);
	assert_int_equal(insn_decode(&out, bytes, 15, INSN_MODE_64), 0);
	assert_int_equal(out.mem.base, R10);
	assert_int_equal(out.reg, R11);
}

/*
 * Every opcode of every map, with prefixes, REX, all of ModRM, and what follows it at random: what was remembered is what the decoder says, to the last byte. Each comes twice, the second
 * time with another displacement and immediate.
 */
static void remembered_shapes_are_what_the_decoder_says(void **state)
{
	static const uint8_t prefixes[][3] = { { 0 }, { 0x66 }, { 0xf2 }, { 0xf3 }, { 0x48 }, { 0x66, 0x45 }, { 0x64 }, { 0x67 }, { 0xf0, 0x4c }, { 0x66, 0x48, 0x66 }, { 0x2e, 0xf3, 0x41 },
		{ 0xc5, 0xf9 }, { 0xc5, 0x7e }, { 0xc4, 0xe1, 0xfb }, { 0xc4, 0x42, 0x79 }, { 0xc4, 0xe3, 0x79 }, { 0x62, 0xf1, 0x7d }, { 0x8f, 0xe8, 0x78 } };
	static const uint8_t escapes[][2] = { { 0 }, { 0x0f }, { 0x0f, 0x38 }, { 0x0f, 0x3a } };
	uint32_t seed = 1;
	uint8_t sib = 0;
	struct insn got, want;
	struct insn_shape shape;
	unsigned long compared = 0;

	(void)state;
	for (unsigned p = 0; p < ARRAY_LEN(prefixes); p++)
		for (unsigned m = 0; m < ARRAY_LEN(escapes); m++)
			for (unsigned op = 0; op < 256; op++)
				for (unsigned modrm = 0; modrm < 256; modrm++)
					for (unsigned turn = 0; turn < 2; turn++) {
						uint8_t code[15];
						unsigned n = 0;

						for (unsigned i = 0; i < 3 && prefixes[p][i]; i++)
							code[n++] = prefixes[p][i];
						for (unsigned i = 0; i < 2 && escapes[m][i]; i++)
							code[n++] = escapes[m][i];
						code[n++] = (uint8_t)op;
						code[n++] = (uint8_t)modrm;
						if (!turn)
							sib = (uint8_t)(seed >> 24);
						code[n++] = sib; /* or not: the same in both turns */
						while (n < sizeof(code)) {
							seed = seed * 1664525 + 1013904223;
							code[n++] = (uint8_t)(seed >> 24);
						}
						assert_int_equal(insn_decode(&got, code, sizeof(code), INSN_MODE_64), insn_decode_anew(&want, code, sizeof(code), INSN_MODE_64, &shape));
						assert_memory_equal(&got, &want, sizeof(got));
						compared++;
					}
	assert_true(compared > 9000000);
}


int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remembered_shapes_are_what_the_decoder_says),
		cmocka_unit_test(test_memory_operand_has_base_index_scale_displacement_and_size),
		cmocka_unit_test(test_instruction_that_needs_more_bytes_says_so),
		cmocka_unit_test(test_fifteen_prefixes_are_too_long),
		cmocka_unit_test(test_what_guests_are_never_offered_needs_never),
		cmocka_unit_test(test_vector_instructions_name_their_conditions),
		cmocka_unit_test(test_flags_that_may_stay_are_not_killed),
		cmocka_unit_test(test_system_instructions_have_classes_of_their_own),
		cmocka_unit_test(test_redirected_operand_keeps_the_rest),
		cmocka_unit_test(test_redirected_operand_can_have_an_index),
		cmocka_unit_test(test_register_operand_can_be_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
