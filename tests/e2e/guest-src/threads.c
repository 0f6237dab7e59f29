/*
 * threads.c - threads, futexes, thread-local storage and atomics: counters that must come out exact, a ring of
 * threads handing a token on, and locked operations that cross cache lines and pages.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include "check.h"

enum { THREADS = 8, ROUNDS = 20000, HANDOVERS = 400 };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned long plain, token;
static atomic_ulong atomic_count;
static __thread unsigned long mine;
static uint64_t *split;		/* crosses a page */
static __int128 wide __attribute__((aligned(16)));

static void *worker(void *arg)
{
	unsigned long id = (unsigned long)(uintptr_t)arg;
	for (int i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&mutex);
		plain++;
		pthread_mutex_unlock(&mutex);
		atomic_fetch_add(&atomic_count, 3);
		mine += id;
		__asm__ volatile("lock addq $5, %0" : "+m"(*split) : : "cc");
		uint64_t lo = (uint64_t)wide, hi = (uint64_t)(wide >> 64);
		char done;
		do {
			uint64_t new_lo = lo + 1, new_hi = hi + (new_lo % 1000 == 0);
			__asm__ volatile("lock cmpxchg16b %1; sete %0" : "=q"(done), "+m"(wide), "+a"(lo), "+d"(hi) : "b"(new_lo), "c"(new_hi) : "cc", "memory");
		} while (!done);
	}
	CHECK(mine == id * ROUNDS);
	for (int i = 0; i < HANDOVERS; i++) {
		pthread_mutex_lock(&mutex);
		while (token % THREADS != id)
			pthread_cond_wait(&changed, &mutex);
		token++;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&mutex);
	}
	return NULL;
}

int main(void)
{
	unsigned char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	split = (uint64_t *)(void *)(p + 4093);
	pthread_t threads[THREADS];
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, worker, (void *)i) == 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	uint64_t sum;
	memcpy(&sum, split, 8);
	CHECK(plain == THREADS * ROUNDS && atomic_count == 3ul * THREADS * ROUNDS && sum == 5ul * THREADS * ROUNDS);
	CHECK((uint64_t)wide == THREADS * ROUNDS && (uint64_t)(wide >> 64) == THREADS * ROUNDS / 1000);
	CHECK(token == THREADS * HANDOVERS);
	puts("threads: mutexes, atomics, thread-local storage, hand-overs: ok");
	return 0;
}
