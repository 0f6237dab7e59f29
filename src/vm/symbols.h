/*
 * symbols.h - names for guest addresses: from the kernel's own tables (boot/kallsyms.h), from System.map files and from ELF files.
 *
 * Files and the guest's memory are hostile input: sizes are checked, and names are kept with nothing but printable ASCII.
 */
#ifndef VM_SYMBOLS_H
#define VM_SYMBOLS_H

#include "base/base.h"

struct symbol { uint64_t address, size; /* 0: up to the next one */ size_t name; };
struct symbols {
	struct symbol *symbol;
	size_t count, room;
	char *text;
	size_t text_used, text_room;
	bool sorted;
	bool program;	/* an ELF program for fixed addresses: other programs have other things there */
};
#define SYMBOLS_MAX (1u << 22)

void symbols_free(struct symbols *s);
/* Out of memory or over SYMBOLS_MAX: the symbol is dropped. */
void symbols_add(struct symbols *s, uint64_t address, uint64_t size, const char *name);
/* To be called once after the last addition. */
void symbols_sort(struct symbols *s);

/*
 * "PATH" or "PATH@BASE": an ELF file's functions (BASE, hexadecimal, is where a position-independent one was loaded), or lines
 * "ADDRESS TYPE NAME" as in System.map. false with one clear line in error.
 */
bool symbols_add_file(struct symbols *s, const char *file, char *error, size_t error_size);

/* Our own functions, for whoever looks at our own code; sorted. */
void symbols_add_own(struct symbols *s);

/* The symbol that address belongs to, and how far into it; 0: none. */
const char *symbols_find(const struct symbols *s, uint64_t address, uint64_t *offset);

#endif
