/*
 * options.h - the options of `trifold run`, as rows: name, argument, help text, and what each sets.
 *
 * Parsing reports the first thing wrong as one line and changes nothing outside struct options.
 */
#ifndef UI_OPTIONS_H
#define UI_OPTIONS_H

#include <stdio.h>
#include "vm/vm.h"

#define OPTIONS_CMDLINE_MAX 2048

struct options {
	struct vm_config vm;
	const char *append;
	const char *stats;
	const char *profile;
	char cmdline[OPTIONS_CMDLINE_MAX];
	char disk_path[VM_DISKS][4096];
	bool placement_given;
	bool help;
	char error[240];
};

/* argv[0] is the first option. true; or false with error set. */
bool options_parse(struct options *o, int argc, char **argv);
void options_print_help(FILE *f);


#endif
