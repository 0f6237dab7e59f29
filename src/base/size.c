/*
 * size.c - one parser of sizes, for options and the control socket.
 */
#include "base/size.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

bool size_parse(const char *text, uint64_t *bytes)
{
	static const struct { char suffix; unsigned shift; } units[] = { { 'K', 10 }, { 'M', 20 }, { 'G', 30 }, { 0, 20 } };
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	const unsigned long long v = strtoull(text, &end, 10);
	if (errno)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (toupper((unsigned char)*end) != units[i].suffix || (*end && end[1]))
			continue;
		*bytes = (uint64_t)v << units[i].shift;
		return *bytes >> units[i].shift == v;
	}
	return false;
}
