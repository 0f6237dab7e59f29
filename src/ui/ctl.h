/*
 * ctl.h - the command `trifold ctl`: asks a running VM through its control socket (docs/control.md).
 */
#ifndef UI_CTL_H
#define UI_CTL_H

#include "base/base.h"

/* argv[0] is the socket. Returns the exit status: 0, or 125 with one line on stderr. */
int ctl_command(int argc, char **argv);

/* One question: true with the answer's text in *text (the caller frees it); false with one line in error. */
bool ctl_ask(const char *socket, const char *request, char **text, char *error, size_t size);

/* top.c: `trifold ctl SOCKET top [exits]`. */
int ctl_top(const char *socket, bool exits);

#endif
