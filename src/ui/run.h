/*
 * run.h - the command `trifold run`.
 */
#ifndef UI_RUN_H
#define UI_RUN_H

/* argv[0] is the first option. Returns the process's exit status. */
int run_command(int argc, char **argv);

#define EXIT_ERROR 125

#endif
