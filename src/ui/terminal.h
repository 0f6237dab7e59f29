/*
 * terminal.h - the user's terminal: raw while the guest runs, and as it was found afterwards, however the run ends.
 *
 * There is one terminal, so this module keeps process-wide state; terminal_restore is async-signal-safe and idempotent.
 */
#ifndef UI_TERMINAL_H
#define UI_TERMINAL_H

#include "base/base.h"

/* Raw mode if fd is a terminal and we are in its foreground; otherwise nothing. Also installs the crash hook. */
void terminal_raw(int fd);
void terminal_restore(void);

#endif
