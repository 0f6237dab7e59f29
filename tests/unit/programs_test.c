/*
 * programs_test.c - which program runs is found at the end of its stack (vm/programs.c).
 */
#include "cpu_machine.h"
#include "vm/profile.h"

/* Linux' layout of a new program's stack; the kernel touches only the pages it writes, and RSP is random by 8 KiB. */
static void a_program_is_found_by_the_end_of_its_stack_over_holes(void **state)
{
	static const char strings[] = "TERM=linux\0/bin/init\0\0\0\0\0\0\0\0";
	const uint64_t end = DATA + 16 * PAGE_SIZE, rsp = end - 4 * PAGE_SIZE + 0x7f0;
	struct machine *m = machine_new(PAGING_NESTED);
	char name[48] = "";

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		set_page(m, end + i * PAGE_SIZE, 0);
	poke(m, end - sizeof(strings), strings, sizeof(strings));
	m->v->gpr[RSP] = rsp;
	for (unsigned holes = 0; holes < 3; holes++) {
		name[0] = 0;
		assert_true(program_path(m->v, name, sizeof(name)));
		assert_string_equal(name, "init");
		set_page(m, end - (2 + holes) * PAGE_SIZE, 0);
	}
	assert_false(program_path(m->v, name, sizeof(name)));
	machine_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_program_is_found_by_the_end_of_its_stack_over_holes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
