/*
 * loop.c - the event loop, one event per epoll_wait so that a handler may remove any source.
 */
#include "base/loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

static void loop_on_wake(void *opaque, uint32_t events)
{
	(void)opaque;
	(void)events;
}

int loop_init(struct loop *loop)
{
	*loop = (struct loop){ .epoll = epoll_create1(EPOLL_CLOEXEC) };
	if (loop->epoll < 0)
		return -errno;
	const int err = loop_add_event(loop, &loop->wake, loop_on_wake, loop);
	if (err) {
		close(loop->epoll);
		loop->epoll = -1;
	}
	return err;
}

void loop_destroy(struct loop *loop)
{
	if (loop->epoll < 0)
		return;
	loop_remove(loop, &loop->wake);
	close(loop->epoll);
	loop->epoll = -1;
}

int loop_add(struct loop *loop, struct loop_source *s, int fd, uint32_t events,
	     void (*ready)(void *, uint32_t), void *opaque)
{
	struct epoll_event ev = { .events = events, .data.ptr = s };

	*s = (struct loop_source){ .fd = fd, .ready = ready, .opaque = opaque };
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	s->added = true;
	return 0;
}

void loop_change(struct loop *loop, struct loop_source *s, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = s };

	if (s->added)
		ASSERT(!epoll_ctl(loop->epoll, EPOLL_CTL_MOD, s->fd, &ev));
}

void loop_remove(struct loop *loop, struct loop_source *s)
{
	if (!s->added)
		return;
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, s->fd, 0);
	if (s->drain)
		close(s->fd);
	s->added = false;
	s->fd = -1;
}

static int loop_add_owned(struct loop *loop, struct loop_source *s, int fd,
			  void (*ready)(void *, uint32_t), void *opaque)
{
	if (fd < 0)
		return -errno;
	const int err = loop_add(loop, s, fd, EPOLLIN, ready, opaque);
	if (err)
		close(fd);
	s->drain = true;
	return err;
}

int loop_add_timer(struct loop *loop, struct loop_source *s, void (*ready)(void *, uint32_t), void *opaque)
{
	return loop_add_owned(loop, s, timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), ready, opaque);
}

void loop_timer_set(struct loop_source *s, uint64_t deadline_ns)
{
	struct itimerspec when = { 0 };

	if (deadline_ns != LOOP_NEVER) {
		/* Zero would disarm: a deadline at the epoch of the clock has passed long ago. */
		deadline_ns = deadline_ns ? deadline_ns : 1;
		when.it_value.tv_sec = (time_t)(deadline_ns / 1000000000u);
		when.it_value.tv_nsec = (long)(deadline_ns % 1000000000u);
	}
	timerfd_settime(s->fd, TFD_TIMER_ABSTIME, &when, 0);
}

int loop_add_event(struct loop *loop, struct loop_source *s, void (*ready)(void *, uint32_t), void *opaque)
{
	return loop_add_owned(loop, s, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), ready, opaque);
}

void loop_event_raise(struct loop_source *s)
{
	const uint64_t one = 1;

	if (write(s->fd, &one, sizeof(one)) < 0) { /* already raised as often as it can be */ }
}

void loop_run_once(struct loop *loop, uint64_t deadline_ns)
{
	struct epoll_event ev;
	int timeout = -1;

	if (deadline_ns != LOOP_NEVER) {
		const uint64_t now = clock_ns();
		const uint64_t ms = deadline_ns > now ? (deadline_ns - now + 999999) / 1000000 : 0;
		timeout = ms > 1000000 ? 1000000 : (int)ms;
	}
	if (epoll_wait(loop->epoll, &ev, 1, timeout) != 1)
		return;

	struct loop_source *s = ev.data.ptr;
	if (s->drain) {
		uint64_t count;
		if (read(s->fd, &count, sizeof(count)) < 0 && errno == EAGAIN)
			return; /* a timer that was set anew meanwhile */
	}
	s->ready(s->opaque, ev.events);
}

void loop_run(struct loop *loop)
{
	while (!__atomic_load_n(&loop->stop, __ATOMIC_ACQUIRE))
		loop_run_once(loop, LOOP_NEVER);
}

void loop_stop(struct loop *loop)
{
	__atomic_store_n(&loop->stop, true, __ATOMIC_RELEASE);
	loop_event_raise(&loop->wake);
}
