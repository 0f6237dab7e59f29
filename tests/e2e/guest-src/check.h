/*
 * check.h - for programs that run inside a Linux guest: a check that names what failed and ends the program.
 */
#ifndef GUEST_CHECK_H
#define GUEST_CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(e)                                                                                              \
	do {                                                                                                  \
		if (!(e)) {                                                                                   \
			fprintf(stderr, "%s:%d: failed: %s (errno %d)\n", __FILE__, __LINE__, #e, errno);     \
			exit(1);                                                                              \
		}                                                                                             \
	} while (0)

#endif
