/*
 * options.c - the table of options and its parser.
 */
#include "ui/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

/* The paging mode that `make bench` shows faster. */
#define DEFAULT_PAGING PAGING_NESTED
#define DEFAULT_MEMORY MIB(512)
#define MEMORY_MIN MIB(2)
#define MEMORY_MAX GIB(256)
#define MACHINE_MIN MIB(8)
#define SHADOW_MIN KIB(64)	/* SHADOW_MIN_PAGES and SHADOW_MAX_PAGES of mmu/shadow.h */
#define SHADOW_MAX GIB(4)
#define SHARE_MAX 50000u		/* VM_SHARE_MAX of vm/vm_internal.h */
#define DEFAULT_SWAP_DIR "/var/tmp"	/* /tmp is memory on many machines */
#define TIMEOUT_MAX 1e9
#define PROFILE_EVERY 1000u	/* microseconds */
#define PROFILE_EVERY_MIN 50u
#define PROFILE_EVERY_MAX 100000u
/*
 * console=ttyS0: the one console there is. panic=-1: a kernel that panics resets at once, which ends the run as a crash;
 * by default it would spin. reboot=a: reset by the ACPI register; on hardware-reduced machines Linux otherwise tries EFI,
 * which is not there, and then real-mode code. The user's --append comes after and wins.
 */
#define DEFAULT_CMDLINE "console=ttyS0 panic=-1 reboot=a"
#define DEFAULT_CMDLINE_DIRECT "console=hvc0 panic=-1"

static bool option_error(struct options *o, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool option_error(struct options *o, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(o->error, sizeof(o->error), fmt, ap);
	va_end(ap);
	return false;
}

static bool set_kernel(struct options *o, const char *arg) { o->vm.kernel = arg; return true; }
static bool set_append(struct options *o, const char *arg) { o->append = arg; return true; }
static bool set_stats(struct options *o, const char *arg) { o->stats = arg; return true; }
static bool set_control(struct options *o, const char *arg) { o->vm.control = arg; return true; }
static bool set_profile(struct options *o, const char *arg) { o->profile = arg; o->vm.profile = true; return true; }
static bool set_perf_map(struct options *o, const char *arg) { (void)arg; o->vm.perf_map = true; return true; }
static bool set_trace(struct options *o, const char *arg) { o->vm.trace = arg; return true; }
static bool set_swap(struct options *o, const char *arg) { o->vm.swap_dir = arg; return true; }
static bool set_help(struct options *o, const char *arg) { (void)arg; o->help = true; return true; }
static bool set_debug_exit(struct options *o, const char *arg) { (void)arg; o->vm.debug_exit = true; return true; }

static bool set_initrd(struct options *o, const char *arg)
{
	if (o->vm.initrds == BOOT_INITRDS)
		return option_error(o, "--initrd %s: at most %u files", arg, BOOT_INITRDS);
	o->vm.initrd[o->vm.initrds++] = arg;
	return true;
}

static bool set_trace_events(struct options *o, const char *arg)
{
	return vm_trace_categories(arg, &o->vm.trace_categories) ||
	       option_error(o, "--trace-events %s: not a list of events that `trifold run --help` names", arg);
}

static bool memory_size(struct options *o, const char *option, const char *arg, uint64_t least, uint64_t *bytes)
{
	if (!size_parse(arg, bytes))
		return option_error(o, "%s %s: not a memory size (a number with K, M or G, such as 512M)", option, arg);
	if (*bytes < least || *bytes > MEMORY_MAX)
		return option_error(o, "%s %s: memory must be from %llu MiB to %llu GiB", option, arg, (unsigned long long)(least >> 20),
				    (unsigned long long)(MEMORY_MAX >> 30));
	return true;
}

static bool set_memory(struct options *o, const char *arg)
{
	uint64_t bytes;

	if (!memory_size(o, "-m", arg, MEMORY_MIN, &bytes))
		return false;
	o->vm.memory_bytes = ALIGN_UP(bytes, 4096);
	return true;
}

static bool set_machine_memory(struct options *o, const char *arg)
{
	uint64_t bytes;

	if (!memory_size(o, "--machine-memory", arg, MACHINE_MIN, &bytes))
		return false;
	o->vm.machine_bytes = ALIGN_UP(bytes, MIB(2));
	return true;
}

static bool set_share_pages(struct options *o, const char *arg)
{
	char *end;
	const unsigned long n = strtoul(arg, &end, 10);

	if (!isdigit((unsigned char)arg[0]) || *end || n > SHARE_MAX)
		return option_error(o, "--share-pages %s: not a number of pages a second, from 0 to %u", arg, SHARE_MAX);
	o->vm.share_per_second = n;
	return true;
}

static bool set_shadow_memory(struct options *o, const char *arg)
{
	if (!size_parse(arg, &o->vm.shadow_bytes))
		return option_error(o, "--shadow-memory %s: not a memory size (a number with K, M or G, such as 4M)", arg);
	if (o->vm.shadow_bytes < SHADOW_MIN || o->vm.shadow_bytes > SHADOW_MAX)
		return option_error(o, "--shadow-memory %s: must be from 64 KiB to 4 GiB", arg);
	o->vm.shadow_bytes = ALIGN_UP(o->vm.shadow_bytes, 4096);
	return true;
}

static bool set_cpus(struct options *o, const char *arg)
{
	char *end;
	const long n = strtol(arg, &end, 10);

	if (!isdigit((unsigned char)arg[0]) || *end || n < 1)
		return option_error(o, "-c %s: not a number of CPUs", arg);
	if (n != 1)
		return option_error(o, "-c %s: more than one CPU is not available in this version", arg);
	o->vm.cpus = 1;
	return true;
}

static bool set_cpu(struct options *o, const char *arg)
{
	const char *name, *help;

	for (unsigned i = 0; (name = vm_cpu_offer(i, &help)); i++) {
		const size_t len = strlen(name);

		if (strncmp(arg, name, len) || (strcmp(arg + len, "=on") && strcmp(arg + len, "=off")))
			continue;
		o->vm.cpu_offers = arg[len + 2] == 'n' ? o->vm.cpu_offers | 1u << i : o->vm.cpu_offers & ~(1u << i);
		return true;
	}
	return option_error(o, "--cpu %s: not NAME=on or NAME=off with a NAME that `trifold run --help` lists", arg);
}

static bool set_svm(struct options *o, const char *arg) { (void)arg; return set_cpu(o, "svm=on"); }
static bool set_no_svm(struct options *o, const char *arg) { (void)arg; return set_cpu(o, "svm=off"); }

static bool set_paging(struct options *o, const char *arg)
{
	if (!strcmp(arg, "nested"))
		o->vm.paging = PAGING_NESTED;
	else if (!strcmp(arg, "shadow"))
		o->vm.paging = PAGING_SHADOW;
	else if (!strcmp(arg, "direct"))
		o->vm.paging = PAGING_DIRECT;
	else if (!strcmp(arg, "auto"))
		o->vm.paging = PAGING_AUTO; /* any kernel: never direct */
	else
		return option_error(o, "--paging %s: no such mode (nested, shadow, direct, auto)", arg);
	return true;
}

static bool set_engine(struct options *o, const char *arg)
{
	if (!strcmp(arg, "bt") || !strcmp(arg, "auto"))
		o->vm.engine = vm_engine_find("bt");
	else if (!strcmp(arg, "kvm"))
		return option_error(o, "--engine kvm is not available in this version (bt is)");
	else
		return option_error(o, "--engine %s: no such engine (bt, auto)", arg);
	return true;
}

static bool set_placement(struct options *o, const char *arg)
{
	if (!strcmp(arg, "linear"))
		o->vm.placement = PLACEMENT_LINEAR;
	else if (!strcmp(arg, "scatter"))
		o->vm.placement = PLACEMENT_SCATTER;
	else
		return option_error(o, "--placement %s: no such placement (linear, scatter)", arg);
	o->placement_given = true;
	return true;
}

static bool set_timeout(struct options *o, const char *arg)
{
	char *end;
	const double seconds = strtod(arg, &end);

	if (!isdigit((unsigned char)arg[0]) || *end || !(seconds > 0) || seconds > TIMEOUT_MAX)
		return option_error(o, "--timeout %s: not a number of seconds", arg);
	o->vm.timeout_ns = (uint64_t)(seconds * 1e9);
	return true;
}

static bool set_tune(struct options *o, const char *arg)
{
	if (tune_parse(&o->vm.tune, arg))
		return option_error(o, "--tune %s: not NAME=on or NAME=off with a NAME that `trifold run --help` lists", arg);
	return true;
}

static bool set_profile_every(struct options *o, const char *arg)
{
	char *end;
	const unsigned long us = strtoul(arg, &end, 10);

	if (!isdigit((unsigned char)arg[0]) || *end || us < PROFILE_EVERY_MIN || us > PROFILE_EVERY_MAX)
		return option_error(o, "--profile-every %s: not a number of microseconds from %u to %u", arg, PROFILE_EVERY_MIN, PROFILE_EVERY_MAX);
	o->vm.profile_ns = us * 1000;
	return true;
}

static bool set_symbols(struct options *o, const char *arg)
{
	if (o->vm.symbol_files == VM_SYMBOL_FILES)
		return option_error(o, "--symbols %s: at most %u files", arg, VM_SYMBOL_FILES);
	o->vm.symbol_file[o->vm.symbol_files++] = arg;
	return true;
}

static bool set_disk(struct options *o, const char *arg)
{
	const size_t len = strlen(arg);
	const bool read_only = len > 3 && !strcmp(arg + len - 3, ",ro");

	if (o->vm.disks == VM_DISKS)
		return option_error(o, "--disk %s: at most %u disks", arg, VM_DISKS);
	if (!len || (!read_only && strchr(arg, ',')))
		return option_error(o, "--disk %s: not FILE or FILE,ro", arg);
	if (len >= sizeof(o->disk_path[0]))
		return option_error(o, "--disk %s: the name is too long", arg);
	memcpy(o->disk_path[o->vm.disks], arg, read_only ? len - 3 : len);
	o->vm.disk[o->vm.disks] = (struct vm_disk){ o->disk_path[o->vm.disks], read_only };
	o->vm.disks++;
	return true;
}

static const struct option_row {
	const char *name;
	const char *arg;	/* 0: takes none */
	const char *help;	/* 0: an option of the contract that is not there yet */
	bool (*set)(struct options *o, const char *arg);
} option_rows[] = {
	{ "--kernel", "FILE", "bzImage (LZ4, gzip, xz, zstd), ELF vmlinux or multiboot kernel to boot; required", set_kernel },
	{ "--initrd", "FILE", "initial RAM disk, or \"FILE ARGUMENTS\", a module of a multiboot kernel; may be repeated", set_initrd },
	{ "--append", "STR", "added to the kernel command line \"" DEFAULT_CMDLINE "\" (direct: \"" DEFAULT_CMDLINE_DIRECT "\")", set_append },
	{ "-m", "SIZE", "guest memory, with K, M or G; a bare number means MiB (default 512M)", set_memory },
	{ "--machine-memory", "SIZE", "machine memory behind it; what does not fit is swapped to a file (default: all of it)", set_machine_memory },
	{ "--swap", "DIR", "directory of that file, which has no name (default " DEFAULT_SWAP_DIR ")", set_swap },
	{ "--share-pages", "N", "look at N pages a second for equal ones, which then share machine memory (default 0: off)", set_share_pages },
	{ "--shadow-memory", "SIZE", "most memory for shadow tables (default: 4 MiB and 1/128 of guest memory, 64 MiB at most)", set_shadow_memory },
	{ "-c", "CPUS", "number of CPUs (1)", set_cpus },
	{ "--cpu", "NAME=on|off", "offer a feature of the processor (see below) to the guest; may be repeated", set_cpu },
	{ "--svm", 0, "the guest may be a hypervisor: as --cpu svm=on", set_svm },
	{ "--no-svm", 0, "it may not (default): as --cpu svm=off", set_no_svm },
	{ "--paging", "MODE", "how guest memory is virtualized: nested (default), shadow,\n"
	  "                         auto (each address space by what costs less), or direct (Xen paravirtualized kernels)", set_paging },
	{ "--engine", "ENGINE", "what runs guest code: bt (binary translation) or auto (default)", set_engine },
	{ "--placement", "ORDER", "machine frames for guest pages: linear (default) or scatter (random, default of direct)", set_placement },
	{ "--disk", "FILE[,ro]", "a disk in a raw file (xvda, xvdb...), with --paging direct; may be repeated", set_disk },
	{ "--stats", "FILE", "write all counters to FILE as JSON at the end of the run", set_stats },
	{ "--trace", "FILE", "write what happens, as it happens, to FILE for Perfetto (JSON)", set_trace },
	{ "--trace-events", "LIST", "what of it, with commas between, or all (default: all but miss and exec):\n"
	  "                         syscall exception interrupt fault miss table flush cr3 device vmm exec", set_trace_events },
	{ "--control", "SOCKET", "answer trifold ctl at this path while the VM runs", set_control },
	{ "--timeout", "SECONDS", "end the run with status 124 after this long", set_timeout },
	{ "--debug-exit", 0, "a byte V written to port 0xf4 ends the run with status (V<<1)|1", set_debug_exit },
	{ "--tune", "NAME=on|off", "switch an optimization (see below); may be repeated", set_tune },
	{ "--profile", "FILE", "write where the time went, by guest symbol, to FILE at the end (JSON if it ends in .json)", set_profile },
	{ "--profile-every", "US", "microseconds between two samples of it (default 1000)", set_profile_every },
	{ "--perf-map", 0, "write /tmp/perf-PID.map, so that perf can name translated guest code", set_perf_map },
	{ "--symbols", "FILE[@BASE]", "System.map or ELF file with names for both of these; may be repeated", set_symbols },
	{ "--help", 0, "print this", set_help },
	{ "--net", "user", 0, 0 },
	{ "--share", "TAG=DIR", 0, 0 },
	{ "--root", "DIR", 0, 0 },
	{ "--gdb", 0, 0, 0 },
};

void options_print_help(FILE *f)
{
	const char *name, *help;

	fputs("usage: trifold run --kernel FILE [OPTION...]\n\n", f);
	for (size_t i = 0; i < ARRAY_LEN(option_rows); i++) {
		const struct option_row *row = &option_rows[i];
		char left[40];
		if (!row->help)
			continue;
		snprintf(left, sizeof(left), "%s%s%s", row->name, row->arg ? " " : "", row->arg ? row->arg : "");
		fprintf(f, "  %-22s %s\n", left, row->help);
	}
	fputs("\nfeatures for --cpu, off by default:\n", f);
	for (unsigned i = 0; (name = vm_cpu_offer(i, &help)); i++)
		fprintf(f, "  %-22s %s\n", name, help);
	fputs("\nswitches for --tune:\n", f);
	for (size_t i = 0; i < TUNE_COUNT; i++)
		fprintf(f, "  %-22s %s (default %s)\n", tune_rows[i].name, tune_rows[i].help, tune_rows[i].by_default ? "on" : "off");
	fputs("\nconsole keys: Ctrl-a x quits, Ctrl-a h helps, Ctrl-a Ctrl-a sends Ctrl-a\n"
	      "exit status: 0 power-off, reboot or quit; (V<<1)|1 debug exit; 70 guest crashed; 124 timeout;\n"
	      "             125 error of Trifold or bad usage; 128+N ended by signal N\n", f);
}

/* The row for argv[*i]; *arg: what follows "=" (long) or the letter (short), 0 if nothing does. */
static const struct option_row *option_find(const char *word, const char **arg)
{
	const bool is_long = word[0] == '-' && word[1] == '-';
	const char *eq = is_long ? strchr(word, '=') : 0;
	const size_t len = eq ? (size_t)(eq - word) : is_long ? strlen(word) : strlen(word) < 2 ? strlen(word) : 2;

	*arg = eq ? eq + 1 : !is_long && strlen(word) > 2 ? word + 2 : 0;
	for (size_t i = 0; i < ARRAY_LEN(option_rows); i++)
		if (strlen(option_rows[i].name) == len && !strncmp(option_rows[i].name, word, len))
			return &option_rows[i];
	return 0;
}

/* What a paravirtualized guest cannot have: it knows its machine frames by number, so they stay where they are. */
static bool options_finish_direct(struct options *o)
{
	if (o->vm.machine_bytes && o->vm.machine_bytes < o->vm.memory_bytes)
		return option_error(o, "--machine-memory: with --paging direct the guest knows its machine frames, so its memory cannot be swapped");
	if (o->vm.share_per_second)
		return option_error(o, "--share-pages: with --paging direct the guest knows its machine frames, so its pages cannot share them");
	if (o->vm.cpu_offers)
		return option_error(o, "--cpu: with --paging direct the processor's features are what the Xen interface fixes");
	if (!o->placement_given)
		o->vm.placement = PLACEMENT_SCATTER;
	return true;
}

static bool options_finish(struct options *o)
{
	const bool direct = o->vm.paging == PAGING_DIRECT;

	const char *override = getenv("TRIFOLD_ENGINE"); /* for developers: the executor alone */

	if (override && override[0]) {
		o->vm.engine = vm_engine_find(override);
		if (!o->vm.engine)
			return option_error(o, "TRIFOLD_ENGINE=%s: no such engine", override);
	}
	if (o->vm.disks && !direct)
		return option_error(o, "--disk is available with --paging direct only in this version");
	if (o->vm.shadow_bytes && o->vm.paging == PAGING_NESTED)
		return option_error(o, "--shadow-memory: the paging mode nested has no shadow tables");
	if (!o->vm.kernel)
		return option_error(o, "run: --kernel FILE is missing (see trifold run --help)");
	const int n = snprintf(o->cmdline, sizeof(o->cmdline), "%s%s%s", direct ? DEFAULT_CMDLINE_DIRECT : DEFAULT_CMDLINE, o->append ? " " : "", o->append ? o->append : "");
	if (n >= (int)sizeof(o->cmdline))
		return option_error(o, "--append: the kernel command line would be %d bytes long, at most %zu fit", n, sizeof(o->cmdline) - 1);
	o->vm.cmdline = o->cmdline;
	o->vm.args = o->append;
	return !direct || options_finish_direct(o);
}

bool options_parse(struct options *o, int argc, char **argv)
{
	memset(o, 0, sizeof(*o));
	o->vm = (struct vm_config){
		.engine = vm_engine_find("bt"), .paging = DEFAULT_PAGING, .placement = PLACEMENT_LINEAR, .placement_seed = 1,
		.memory_bytes = DEFAULT_MEMORY, .swap_dir = DEFAULT_SWAP_DIR, .cpus = 1, .console_in = -1, .console_out = -1, .profile_ns = PROFILE_EVERY * 1000,
		.trace_categories = vm_trace_categories_default(),
	};
	tune_defaults(&o->vm.tune);

	for (int i = 0; i < argc; i++) {
		const char *arg;
		const struct option_row *row = option_find(argv[i], &arg);

		if (!strcmp(argv[i], "--"))
			return option_error(o, "-- COMMAND is not available in this version");
		if (!row)
			return option_error(o, argv[i][0] == '-' && argv[i][1] ? "unknown option %s (see trifold run --help)"
									       : "unexpected argument '%s' (see trifold run --help)", argv[i]);
		if (!row->set)
			return option_error(o, "%s is not available in this version", row->name);
		if (!row->arg && arg)
			return option_error(o, "%s takes no argument", row->name);
		if (row->arg && !arg) {
			if (i + 1 == argc)
				return option_error(o, "%s needs an argument: %s", row->name, row->arg);
			arg = argv[++i];
		}
		if (!row->set(o, arg))
			return false;
		if (o->help)
			return true;
	}
	return options_finish(o);
}
