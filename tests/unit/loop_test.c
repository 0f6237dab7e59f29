/*
 * loop_test.c - the event loop and the clock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/loop.h"

static struct loop loop;
static struct loop_source a, b;
static unsigned calls;
static uint64_t at;

static int setup(void **state) { (void)state; calls = 0; a.added = b.added = false; return loop_init(&loop); }
static int teardown(void **state)
{
	(void)state;
	loop_remove(&loop, &a);
	loop_remove(&loop, &b);
	loop_destroy(&loop);
	return 0;
}

static void count(void *opaque, uint32_t events) { (void)opaque; (void)events; calls++; at = clock_ns(); }
static void count_and_stop(void *opaque, uint32_t events) { count(opaque, events); loop_stop(&loop); }

static void a_timer_fires_once_and_not_early(void **state)
{
	const uint64_t when = clock_ns() + 3000000;
	(void)state;
	assert_int_equal(loop_add_timer(&loop, &a, count_and_stop, 0), 0);
	loop_timer_set(&a, when);
	loop_run(&loop);
	assert_true(at >= when);
	loop_run_once(&loop, clock_ns() + 5000000);
	loop_run_once(&loop, clock_ns() + 5000000);
	assert_int_equal(calls, 1);
}

static void a_deadline_in_the_past_fires_at_once_and_never_disarms(void **state)
{
	(void)state;
	assert_int_equal(loop_add_timer(&loop, &a, count, 0), 0);
	loop_timer_set(&a, 0);
	loop_run_once(&loop, clock_ns() + 1000000000);
	assert_int_equal(calls, 1);
	loop_timer_set(&a, clock_ns() + 2000000);
	loop_timer_set(&a, LOOP_NEVER);
	loop_run_once(&loop, clock_ns() + 6000000);
	assert_int_equal(calls, 1);
}

static void *raise_soon(void *source)
{
	nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, 0);
	loop_event_raise(source);
	return 0;
}

static void an_event_wakes_the_loop_from_another_thread(void **state)
{
	pthread_t thread;
	(void)state;
	assert_int_equal(loop_add_event(&loop, &a, count_and_stop, 0), 0);
	assert_int_equal(pthread_create(&thread, 0, raise_soon, &a), 0);
	loop_run(&loop);
	pthread_join(thread, 0);
	assert_int_equal(calls, 1);
}

static void *stop_soon(void *unused)
{
	nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, 0);
	loop_stop(&loop);
	return unused;
}

static void stopping_from_another_thread_ends_the_run(void **state)
{
	pthread_t thread;
	(void)state;
	assert_int_equal(pthread_create(&thread, 0, stop_soon, 0), 0);
	loop_run(&loop);
	pthread_join(thread, 0);
}

static void remove_both(void *opaque, uint32_t events)
{
	(void)opaque;
	(void)events;
	calls++;
	loop_remove(&loop, &a);
	loop_remove(&loop, &b);
}

static void a_handler_may_remove_any_source(void **state)
{
	(void)state;
	assert_int_equal(loop_add_event(&loop, &a, remove_both, 0), 0);
	assert_int_equal(loop_add_event(&loop, &b, remove_both, 0), 0);
	loop_event_raise(&a);
	loop_event_raise(&b);
	loop_run_once(&loop, clock_ns() + 1000000000);
	loop_run_once(&loop, clock_ns() + 2000000);
	assert_int_equal(calls, 1);
}

static void a_regular_file_is_refused_as_always_ready(void **state)
{
	const int fd = open("/proc/self/exe", O_RDONLY);
	(void)state;
	assert_int_equal(loop_add(&loop, &a, fd, EPOLLIN, count, 0), -EPERM);
	assert_false(a.added);
	close(fd);
}

static void the_measured_tsc_frequency_agrees_with_the_clock(void **state)
{
	(void)state;
	clock_init();
	assert_true(clock_tsc_khz() > 100000);
	const uint64_t tsc0 = clock_tsc(), ns0 = clock_ns();
	nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, 0);
	const uint64_t tsc = clock_tsc() - tsc0, ns = clock_ns() - ns0;
	/* 0.1%: the guest's clock is to agree with the host's as well as that. */
	assert_in_range(clock_tsc_to_ns(tsc), ns - ns / 1000, ns + ns / 1000);
	assert_in_range(clock_ns_to_tsc(ns), tsc - tsc / 1000, tsc + tsc / 1000);
	assert_in_range(clock_tsc_to_ns(~0ull >> 8) >> 40, 1, ~0ull >> 41);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_timer_fires_once_and_not_early),
		T(a_deadline_in_the_past_fires_at_once_and_never_disarms),
		T(an_event_wakes_the_loop_from_another_thread),
		T(stopping_from_another_thread_ends_the_run),
		T(a_handler_may_remove_any_source),
		T(a_regular_file_is_refused_as_always_ready),
		T(the_measured_tsc_frequency_agrees_with_the_clock),
	};
	return cmocka_run_group_tests(tests, 0, 0);
}
