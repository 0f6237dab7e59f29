/*
 * clock.c - host time.
 */
#include "base/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static struct {
	uint64_t tsc0, raw0;
	_Atomic uint64_t khz;
} clock_state;
static pthread_mutex_t clock_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t clock_read(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t clock_ns(void) { return clock_read(CLOCK_MONOTONIC); }
uint64_t clock_realtime_ns(void) { return clock_read(CLOCK_REALTIME); }

/*
 * A TSC reading and the clock reading taken with it. The thread may be preempted between the two, so
 * several pairs are taken and the one whose clock call was enclosed most tightly wins.
 */
static void clock_pair(uint64_t *tsc, uint64_t *ns)
{
	uint64_t best = ~0ull;

	for (int i = 0; i < 16; i++) {
		const uint64_t before = clock_tsc();
		const uint64_t now = clock_read(CLOCK_MONOTONIC_RAW);
		const uint64_t width = clock_tsc() - before;

		if (width < best) {
			best = width;
			*tsc = before + width / 2;
			*ns = now;
		}
	}
}

void clock_init(void)
{
	pthread_mutex_lock(&clock_lock);
	if (!clock_state.raw0)
		clock_pair(&clock_state.tsc0, &clock_state.raw0);
	pthread_mutex_unlock(&clock_lock);
}

uint64_t clock_tsc_khz(void)
{
	uint64_t khz = atomic_load_explicit(&clock_state.khz, memory_order_acquire);

	if (khz)
		return khz;
	clock_init();
	pthread_mutex_lock(&clock_lock);
	khz = atomic_load(&clock_state.khz);
	if (!khz) {
		uint64_t tsc, raw;
		const uint64_t spent = clock_read(CLOCK_MONOTONIC_RAW) - clock_state.raw0;

		if (spent < CLOCK_MIN_WINDOW_NS) {
			const struct timespec rest = { .tv_nsec = (long)(CLOCK_MIN_WINDOW_NS - spent) };
			nanosleep(&rest, 0);
		}
		clock_pair(&tsc, &raw);
		khz = (uint64_t)((unsigned __int128)(tsc - clock_state.tsc0) * 1000000u / (raw - clock_state.raw0));
		atomic_store_explicit(&clock_state.khz, khz, memory_order_release);
	}
	pthread_mutex_unlock(&clock_lock);
	return khz;
}

uint64_t clock_tsc_to_ns(uint64_t ticks)
{
	return (uint64_t)((unsigned __int128)ticks * 1000000u / clock_tsc_khz());
}

uint64_t clock_ns_to_tsc(uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * clock_tsc_khz() / 1000000u);
}
