/* report.h - `trifold report`: the command. */
#ifndef UI_REPORT_H
#define UI_REPORT_H

int report_command(int argc, char **argv);

#endif
