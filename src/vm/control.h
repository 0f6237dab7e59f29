/*
 * control.h - the control socket of a running VM: one request line in, one answer out, and the connection ends.
 *
 * A request is words separated by blanks, ended by a newline or by the end of what the client sends, at most CONTROL_LINE bytes. An answer
 * is a line "ok LENGTH" or "error LENGTH" and LENGTH bytes of text. docs/control.md describes it for users.
 *
 * Lifecycle of a client: accepted -> reading -> (waiting for the vcpu ->) writing -> closed. There are CONTROL_CLIENTS at most; when
 * all are taken, the one that has kept us waiting longest goes, so that nobody can keep others out by doing nothing. No client is ever
 * waited for: sockets do not block, and what a client does not read is kept, for one answer each.
 *
 * Commands are rows (command.c). One that looks at a vcpu's MMU or changes memory under it runs as that vcpu's *work*: posted to its
 * thread, which does it outside generated code (docs/locking.md), and told to the I/O thread by an event. One command's work is under way
 * at a time; a client that leaves meanwhile keeps its place until its work is done.
 */
#ifndef VM_CONTROL_H
#define VM_CONTROL_H

#include <stdio.h>
#include <sys/types.h>
#include "base/loop.h"

struct vm;
struct control;
struct explain;

#define CONTROL_CLIENTS 8
#define CONTROL_LINE 256
#define CONTROL_WORDS 8

struct control_request {
	char line[CONTROL_LINE + 1];
	int argc;
	char *argv[CONTROL_WORDS];	/* into line; argv[0] is the command */
	FILE *out;			/* the answer's text */
	bool failed;			/* it is an error */
	struct vm *vm;
};

/* A command: a row of data. */
struct control_command {
	const char *name, *args, *help;
	int least, most;		/* words after the name */
	bool moves;			/* changes or watches which frames stand behind pages: not for a guest that knows them by number (direct) */
	bool work;			/* runs on the vcpu's thread, outside generated code; otherwise on the I/O thread */
	void (*run)(struct control_request *r);
};
const struct control_command *control_command_find(const char *name);
/* explain_text.c. Of the accesses, those of these kinds and by these; none named: all. */
struct explain_filter { bool read, write, fetch, kernel, user; };
bool explain_filter_add(struct explain_filter *f, const char *word);	/* false: no such word */
void control_print_explain(FILE *out, const struct explain *x, const struct explain_filter *filter);
void control_fail(struct control_request *r, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Listens at path. A socket that nobody listens to is taken over, anything else that exists is refused. 0, or -errno with one line in error. */
int control_open(struct vm *vm, const char *path, char *error, size_t size);
/* Ends all connections and removes the socket: the run is over. Harmless if not open. */
void control_close(struct control *c);
/* After the vcpu threads have ended. */
void control_destroy(struct control *c);

#endif
