/*
 * lockorder.c - a library to preload: notes which lock each thread takes while it holds which others, and says so when two orders meet. A deadlock then shows in a run in
 * which it only might have happened.
 *
 * Trifold's mutexes only, up to MUTEXES of them at a time. It may be called with the guest's vector registers live (src/cpu/fpu.h), so it is built for general registers,
 * calls no libc function but write once it has begun, and keeps its state under a spin lock of its own.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#define MUTEXES 64u
#define HELD_MAX 16u

static int (*real_lock)(pthread_mutex_t *), (*real_trylock)(pthread_mutex_t *), (*real_unlock)(pthread_mutex_t *), (*real_destroy)(pthread_mutex_t *);
static uintptr_t base; /* of the program: addresses are said as addr2line wants them */

static bool spin;
static pthread_mutex_t *known[MUTEXES];
static uint64_t after[MUTEXES];			/* taken while this one was held */
static uintptr_t site[MUTEXES][MUTEXES];	/* where that was first done */
static uint64_t said[MUTEXES];

static __thread uint8_t held[HELD_MAX];
static __thread unsigned depth;

static int find_base(struct dl_phdr_info *info, size_t size, void *unused)
{
	(void)size;
	(void)unused;
	base = info->dlpi_addr;
	return 1; /* the first is the program */
}

__attribute__((constructor)) static void begin(void)
{
	real_lock = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_lock");
	real_trylock = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_trylock");
	real_unlock = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_unlock");
	real_destroy = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_destroy");
	dl_iterate_phdr(find_base, 0);
}

static void enter(void)
{
	while (__atomic_test_and_set(&spin, __ATOMIC_ACQUIRE))
		__builtin_ia32_pause();
}
static void leave(void) { __atomic_clear(&spin, __ATOMIC_RELEASE); }

/* MUTEXES if there is no room. */
static unsigned index_of(pthread_mutex_t *m)
{
	unsigned free = MUTEXES;

	for (unsigned i = 0; i < MUTEXES; i++)
		if (known[i] == m)
			return i;
		else if (!known[i] && free == MUTEXES)
			free = i;
	if (free < MUTEXES)
		known[free] = m;
	return free;
}

static bool leads_to(unsigned from, unsigned to)
{
	uint64_t seen = 1ull << from, fresh = seen;

	while (fresh) {
		const unsigned i = (unsigned)__builtin_ctzll(fresh);

		fresh &= fresh - 1;
		if (after[i] >> to & 1)
			return true;
		fresh |= after[i] & ~seen;
		seen |= after[i];
	}
	return false;
}

static char *add_text(char *p, const char *s)
{
	while (*s)
		*p++ = *s++;
	return p;
}

static char *add_address(char *p, uintptr_t a)
{
	p = add_text(p, " 0x");
	for (int shift = 28; shift >= 0; shift -= 4)
		*p++ = "0123456789abcdef"[a >> shift & 15];
	return p;
}

static void say(unsigned first, unsigned second, uintptr_t where)
{
	char line[300], *p = line;

	p = add_text(p, "lockorder: against an order seen before, a lock is taken at");
	p = add_address(p, where - base);
	p = add_text(p, "; the held one is taken later at");
	for (unsigned i = 0; i < MUTEXES; i++)
		if (after[i] >> first & 1 && (i == second || leads_to(second, i)))
			p = p - line < 260 ? add_address(p, site[i][first] - base) : p;
	*p++ = '\n';
	(void)!write(2, line, (size_t)(p - line));
}

static void took(pthread_mutex_t *m, uintptr_t where, bool waited)
{
	unsigned i;

	enter();
	i = index_of(m);
	for (unsigned k = 0; k < depth && waited && i < MUTEXES; k++) {
		const unsigned h = held[k];

		if (h == i || after[h] >> i & 1)
			continue;
		if (leads_to(i, h) && !(said[h] >> i & 1)) {
			said[h] |= 1ull << i;
			say(h, i, where);
		}
		after[h] |= 1ull << i;
		site[h][i] = where;
	}
	if (i < MUTEXES && depth < HELD_MAX)
		held[depth++] = (uint8_t)i;
	leave();
}

/* Before it waits: a deadlock is to be said, too. */
int pthread_mutex_lock(pthread_mutex_t *m)
{
	if (!real_lock)
		begin();
	took(m, (uintptr_t)__builtin_return_address(0), true);
	return real_lock(m);
}

int pthread_mutex_trylock(pthread_mutex_t *m)
{
	int err;

	if (!real_trylock)
		begin();
	err = real_trylock(m);
	if (!err)
		took(m, (uintptr_t)__builtin_return_address(0), false);
	return err;
}

int pthread_mutex_unlock(pthread_mutex_t *m)
{
	if (!real_unlock)
		begin();
	enter();
	for (unsigned k = depth; k-- > 0;)
		if (known[held[k]] == m) {
			depth--;
			for (; k < depth; k++)
				held[k] = held[k + 1];
			break;
		}
	leave();
	return real_unlock(m);
}

/* The memory may become another one. */
int pthread_mutex_destroy(pthread_mutex_t *m)
{
	if (!real_destroy)
		begin();
	enter();
	for (unsigned i = 0; i < MUTEXES; i++)
		if (known[i] == m) {
			known[i] = 0;
			after[i] = said[i] = 0;
			for (unsigned k = 0; k < MUTEXES; k++)
				after[k] &= ~(1ull << i), said[k] &= ~(1ull << i);
		}
	leave();
	return real_destroy(m);
}
