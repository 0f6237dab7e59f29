/*
 * options_test.c - the command line of `trifold run`: what is accepted, and that everything else is one clear line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <string.h>

#include "base/size.h"
#include "ui/options.h"

static struct options o;

static bool parse_words(char **argv)
{
	int argc = 0;
	while (argv[argc])
		argc++;
	return options_parse(&o, argc, argv);
}
#define PARSE(...) parse_words((char *[]){ __VA_ARGS__, 0 })
#define ACCEPTS(...) do { if (!PARSE("--kernel", "k", __VA_ARGS__)) fail_msg("refused: %s", o.error); } while (0)
#define REFUSES(words, ...) do { \
		assert_false(PARSE("--kernel", "k", __VA_ARGS__)); \
		if (!strstr(o.error, words)) fail_msg("'%s' does not say '%s'", o.error, words); \
		assert_null(strchr(o.error, '\n')); \
	} while (0)

static void defaults_are_those_of_the_contract(void **state)
{
	(void)state;
	assert_true(PARSE("--kernel", "vmlinuz"));
	assert_string_equal(o.vm.kernel, "vmlinuz");
	assert_int_equal(o.vm.initrds, 0);
	assert_int_equal(o.vm.memory_bytes, MIB(512));
	assert_int_equal(o.vm.cpus, 1);
	assert_string_equal(vm_engine_name(o.vm.engine), "bt");
	assert_string_equal(o.vm.cmdline, "console=ttyS0 panic=-1 reboot=a");
	assert_int_equal(o.vm.timeout_ns, 0);
	assert_false(o.vm.debug_exit);
}

static void every_option_sets_what_it_says(void **state)
{
	(void)state;
	ACCEPTS("--initrd", "i", "--append", "quiet nokaslr", "-m", "2G", "-c", "1", "--paging", "shadow", "--engine", "auto",
		"--placement", "scatter", "--stats", "s.json", "--timeout", "1.5", "--debug-exit", "--tune", "console-buffer=off",
		"--control", "vm.sock", "--machine-memory", "129M", "--swap", "/dir", "--shadow-memory", "65K", "--share-pages", "4000");
	assert_int_equal(o.vm.share_per_second, 4000);
	assert_int_equal(o.vm.initrds, 1);
	assert_string_equal(o.vm.initrd[0], "i");
	assert_string_equal(o.vm.cmdline, "console=ttyS0 panic=-1 reboot=a quiet nokaslr");
	assert_int_equal(o.vm.memory_bytes, GIB(2));
	assert_int_equal(o.vm.paging, PAGING_SHADOW);
	assert_int_equal(o.vm.placement, PLACEMENT_SCATTER);
	assert_string_equal(o.stats, "s.json");
	assert_string_equal(o.vm.control, "vm.sock");
	assert_int_equal(o.vm.machine_bytes, MIB(130));
	assert_string_equal(o.vm.swap_dir, "/dir");
	assert_int_equal(o.vm.shadow_bytes, 68 * 1024);
	assert_int_equal(o.vm.timeout_ns, 1500000000);
	assert_true(o.vm.debug_exit);
	assert_false(o.vm.tune.on[TUNE_CONSOLE_BUFFER]);
	ACCEPTS("--profile", "p.json", "--perf-map", "--symbols", "System.map", "--symbols=program@400000");
	assert_string_equal(o.profile, "p.json");
	assert_true(o.vm.profile && o.vm.perf_map);
	assert_int_equal(o.vm.symbol_files, 2);
	assert_int_equal(o.vm.profile_ns, 1000000);
	ACCEPTS("--profile", "p", "--profile-every", "200");
	assert_int_equal(o.vm.profile_ns, 200000);
	ACCEPTS("--symbols", "System.map", "--symbols=program@400000");
	assert_string_equal(o.vm.symbol_file[1], "program@400000");
	ACCEPTS("--paging", "auto");
	assert_int_equal(o.vm.paging, PAGING_AUTO);
	ACCEPTS("--paging=nested", "-m64M", "--append=");
	assert_int_equal(o.vm.paging, PAGING_NESTED);
	assert_int_equal(o.vm.memory_bytes, MIB(64));
}

static void sizes_take_suffixes_and_refuse_nonsense(void **state)
{
	static const struct { const char *text; uint64_t bytes; } good[] = {
		{ "512", MIB(512) }, { "64m", MIB(64) }, { "65536K", MIB(64) }, { "4G", GIB(4) }, { "0", 0 }, { "007M", MIB(7) },
	};
	static const char *const bad[] = { "", "M", "-1M", "+1M", " 1M", "1MB", "1T", "1.5G", "0x10M", "18446744073709551616", "17179869184G" };
	uint64_t bytes;
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_true(size_parse(good[i].text, &bytes));
		assert_int_equal(bytes, good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (size_parse(bad[i], &bytes))
			fail_msg("accepted '%s'", bad[i]);
	REFUSES("memory must be from", "-m", "1M");
	REFUSES("memory must be from", "-m", "0");
	REFUSES("memory must be from", "-m", "1000000G");
	REFUSES("not a memory size", "-m", "lots");
	REFUSES("not a memory size", "-m", "99999999999999999999G");
}

static void options_of_later_versions_are_refused_by_name(void **state)
{
	(void)state;
	REFUSES("--disk is available with --paging direct only", "--kernel", "k", "--disk", "d.img");
	REFUSES("not FILE or FILE,ro", "--disk", "");
	REFUSES("--net is not available", "--net", "user");
	REFUSES("--share is not available", "--share", "a=b");
	REFUSES("--root is not available", "--root=/");
	REFUSES("--gdb is not available", "--gdb");
	REFUSES("COMMAND is not available", "--", "ls");
	REFUSES("--engine kvm is not available", "--engine", "kvm");
	ACCEPTS("--paging", "direct");
	assert_int_equal(o.vm.placement, PLACEMENT_SCATTER);
	assert_non_null(strstr(o.vm.cmdline, "console=hvc0"));
	ACCEPTS("--paging", "direct", "--placement", "linear");
	assert_int_equal(o.vm.placement, PLACEMENT_LINEAR);
	REFUSES("knows its machine frames", "--paging", "direct", "-m", "64M", "--machine-memory", "32M");
	REFUSES("so its pages cannot share them", "--paging", "direct", "--share-pages", "10");
	REFUSES("the Xen interface fixes", "--paging", "direct", "--cpu", "la57=on");
	ACCEPTS("--paging", "auto");
	assert_int_equal(o.vm.paging, PAGING_AUTO);
	REFUSES("more than one CPU is not available", "-c", "2");
}

static void bad_usage_is_refused(void **state)
{
	(void)state;
	assert_false(PARSE("-m", "64M"));
	assert_non_null(strstr(o.error, "--kernel FILE is missing"));
	REFUSES("unknown option --frobnicate", "--frobnicate");
	REFUSES("unknown option --kernelx", "--kernelx", "y");
	REFUSES("unknown option -z", "-z");
	REFUSES("unexpected argument 'vmlinuz'", "vmlinuz");
	REFUSES("unexpected argument ''", "");
	REFUSES("unexpected argument '-'", "-");
	REFUSES("--initrd needs an argument", "--initrd");
	REFUSES("-m needs an argument", "-m");
	REFUSES("--machine-memory", "--machine-memory", "1M");
	REFUSES("--machine-memory", "--machine-memory", "little");
	REFUSES("not a number of pages a second", "--share-pages", "on");
	REFUSES("not a number of pages a second", "--share-pages", "50001");
	REFUSES("must be from 64 KiB to 4 GiB", "--paging", "shadow", "--shadow-memory", "63K");
	REFUSES("must be from 64 KiB to 4 GiB", "--paging", "shadow", "--shadow-memory", "5G");
	REFUSES("not a memory size", "--paging", "shadow", "--shadow-memory", "some");
	REFUSES("has no shadow tables", "--kernel", "k", "--shadow-memory", "1M");
	REFUSES("--debug-exit takes no argument", "--debug-exit=1");
	REFUSES("no such mode", "--paging", "shadows");
	REFUSES("no such engine", "--engine", "");
	REFUSES("no such placement", "--placement", "random");
	REFUSES("not a number of CPUs", "-c", "many");
	REFUSES("not a number of CPUs", "-c", "0");
	REFUSES("not a number of seconds", "--timeout", "0");
	REFUSES("not a number of seconds", "--timeout", "-5");
	REFUSES("not a number of seconds", "--timeout", "nan");
	REFUSES("not a number of seconds", "--timeout", "1e99");
	REFUSES("not a number of seconds", "--timeout", "5s");
	REFUSES("--tune", "--tune", "console-buffer");
	REFUSES("--tune", "--tune", "no-such-thing=on");
}

static void a_command_line_that_is_too_long_is_refused(void **state)
{
	static char text[3000];
	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	REFUSES("command line would be", "--append", text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_those_of_the_contract),
		cmocka_unit_test(every_option_sets_what_it_says),
		cmocka_unit_test(sizes_take_suffixes_and_refuse_nonsense),
		cmocka_unit_test(options_of_later_versions_are_refused_by_name),
		cmocka_unit_test(bad_usage_is_refused),
		cmocka_unit_test(a_command_line_that_is_too_long_is_refused),
	};
	unsetenv("TRIFOLD_ENGINE");
	return cmocka_run_group_tests(tests, 0, 0);
}
