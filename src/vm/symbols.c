/*
 * symbols.c - the table of symbols and the files that fill it.
 */
#include "vm/symbols.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define REACH_MAX MIB(1)	/* code that is further behind a symbol without a size is not its */
#define NAME_MAX_LEN 200u

void symbols_free(struct symbols *s)
{
	free(s->symbol);
	free(s->text);
	memset(s, 0, sizeof(*s));
}

/* Room for one more of `size` bytes each; the table doubles. */
static bool symbols_reserve(void *table, size_t *room, size_t want, size_t size)
{
	void **p = table;

	if (want <= *room)
		return true;
	const size_t next = *room * 2 > want ? *room * 2 : want + 1024;
	void *grown = realloc(*p, next * size);
	if (!grown)
		return false;
	*p = grown;
	*room = next;
	return true;
}

void symbols_add(struct symbols *s, uint64_t address, uint64_t size, const char *name)
{
	const size_t len = strnlen(name, NAME_MAX_LEN);

	if (!len || s->count >= SYMBOLS_MAX || !symbols_reserve(&s->symbol, &s->room, s->count + 1, sizeof(*s->symbol)) ||
	    !symbols_reserve(&s->text, &s->text_room, s->text_used + len + 1, 1))
		return;
	for (size_t i = 0; i < len; i++)
		s->text[s->text_used + i] = name[i] > ' ' && name[i] < 127 ? name[i] : '?';
	s->text[s->text_used + len] = 0;
	s->symbol[s->count++] = (struct symbol){ address, size, s->text_used };
	s->text_used += len + 1;
	s->sorted = false;
}

static int symbols_compare(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return x->name < y->name ? -1 : x->name > y->name; /* as they came */
}

void symbols_sort(struct symbols *s)
{
	if (s->count)
		qsort(s->symbol, s->count, sizeof(*s->symbol), symbols_compare);
	s->sorted = true;
}

const char *symbols_find(const struct symbols *s, uint64_t address, uint64_t *offset)
{
	size_t lo = 0, hi = s->count;

	ASSERT(s->sorted || !s->count);
	while (lo < hi) {
		const size_t mid = lo + (hi - lo) / 2;
		if (s->symbol[mid].address <= address)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return 0;
	/* Of several at one address the first that came. */
	const struct symbol *found = &s->symbol[lo - 1];
	while (found > s->symbol && found[-1].address == found->address)
		found--;
	*offset = address - found->address;
	if (*offset >= (found->size ? found->size : REACH_MAX))
		return 0;
	return s->text + found->name;
}

/* An ELF file in memory; everything in it is checked against its size. */
struct symbols_elf { const uint8_t *data; size_t size; };

static const void *elf_part(const struct symbols_elf *e, uint64_t offset, uint64_t size)
{
	return offset <= e->size && size <= e->size - offset ? e->data + offset : 0;
}

static bool elf_section(const struct symbols_elf *e, const Elf64_Ehdr *eh, unsigned n, Elf64_Shdr *out)
{
	const void *p = n < eh->e_shnum ? elf_part(e, eh->e_shoff + (uint64_t)n * sizeof(*out), sizeof(*out)) : 0;

	if (!p)
		return false;
	memcpy(out, p, sizeof(*out));
	return true;
}

static void elf_table(struct symbols *s, const struct symbols_elf *e, const Elf64_Ehdr *eh, const Elf64_Shdr *table, const Elf64_Shdr *strings, uint64_t base)
{
	const uint8_t *symbol = elf_part(e, table->sh_offset, table->sh_size);
	const char *text = elf_part(e, strings->sh_offset, strings->sh_size);

	if (!symbol || !text || !strings->sh_size || text[strings->sh_size - 1])
		return;
	for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= table->sh_size; at += sizeof(Elf64_Sym)) {
		Elf64_Sym sym;
		Elf64_Shdr code;

		memcpy(&sym, symbol + at, sizeof(sym));
		const unsigned type = ELF64_ST_TYPE(sym.st_info);
		if ((type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE) && sym.st_name < strings->sh_size &&
		    sym.st_shndx && elf_section(e, eh, sym.st_shndx, &code) && (code.sh_flags & SHF_EXECINSTR))
			symbols_add(s, base + sym.st_value, sym.st_size, text + sym.st_name);
	}
}

static void symbols_add_elf(struct symbols *s, const struct symbols_elf *e, uint64_t base)
{
	Elf64_Ehdr eh;
	Elf64_Shdr table, strings;

	if (e->size < sizeof(eh))
		return;
	memcpy(&eh, e->data, sizeof(eh));
	if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_ident[EI_DATA] != ELFDATA2LSB || eh.e_shentsize != sizeof(table))
		return;
	s->program = eh.e_type == ET_EXEC;
	for (unsigned i = 0; i < eh.e_shnum; i++)
		if (elf_section(e, &eh, i, &table) && (table.sh_type == SHT_SYMTAB || table.sh_type == SHT_DYNSYM) &&
		    elf_section(e, &eh, table.sh_link, &strings))
			elf_table(s, e, &eh, &table, &strings, base);
}

static void symbols_add_map(struct symbols *s, const char *data, size_t size, uint64_t base)
{
	for (size_t at = 0; at < size;) {
		const char *newline = memchr(data + at, '\n', size - at);
		const size_t len = newline ? (size_t)(newline - (data + at)) : size - at;
		unsigned long long address;
		char line[300], name[256], type;

		snprintf(line, sizeof(line), "%.*s", (int)(len < sizeof(line) ? len : sizeof(line) - 1), data + at);
		if (sscanf(line, "%llx %c %255s", &address, &type, name) == 3)
			symbols_add(s, base + address, 0, name);
		at += len + 1;
	}
}

bool symbols_add_file(struct symbols *s, const char *file, char *error, size_t error_size)
{
	const char *at = strrchr(file, '@');
	char path[4096], *end;
	uint64_t base = 0;
	struct stat st;
	const size_t before = s->count;

	if (at && at[1]) {
		base = strtoull(at + 1, &end, 16);
		if (*end) { /* part of the name */
			at = 0;
			base = 0;
		}
	} else {
		at = 0;
	}
	snprintf(path, sizeof(path), "%.*s", (int)(at ? (size_t)(at - file) : strlen(file)), file);
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !st.st_size) {
		snprintf(error, error_size, "cannot read symbols from %s: %s", path, fd < 0 ? strerror(errno) : "not a file with something in it");
		if (fd >= 0)
			close(fd);
		return false;
	}
	/* A copy: a file that shrinks while it is mapped would end us. */
	const size_t size = (size_t)st.st_size;
	uint8_t *data = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ssize_t n = 0;
	size_t got = 0;
	while (data != MAP_FAILED && got < size && (n = read(fd, data + got, size - got)) > 0)
		got += (size_t)n;
	close(fd);
	if (data == MAP_FAILED) {
		snprintf(error, error_size, "cannot read symbols from %s: out of memory", path);
		return false;
	}
	const struct symbols_elf elf = { data, got };
	if (got >= SELFMAG && !memcmp(data, ELFMAG, SELFMAG))
		symbols_add_elf(s, &elf, base);
	else
		symbols_add_map(s, (const char *)data, got, base);
	munmap(data, size);
	if (s->count == before)
		snprintf(error, error_size, "no symbols in %s (an ELF file that is not stripped, or lines ADDRESS TYPE NAME as in System.map)", path);
	return s->count > before;
}

static int symbols_find_base(struct dl_phdr_info *info, size_t size, void *opaque)
{
	(void)size;
	*(uint64_t *)opaque = info->dlpi_addr;
	return 1; /* the program itself comes first */
}

void symbols_add_own(struct symbols *s)
{
	char file[64], ignored[300];
	uint64_t base = 0;

	dl_iterate_phdr(symbols_find_base, &base);
	snprintf(file, sizeof(file), "/proc/self/exe@%llx", (unsigned long long)base);
	symbols_add_file(s, file, ignored, sizeof(ignored));
	symbols_sort(s);
}
