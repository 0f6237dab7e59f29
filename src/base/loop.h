/*
 * loop.h - the event loop of the I/O thread: file descriptors and timers, over epoll.
 *
 * A source belongs to its user and stays valid until loop_remove. Only the loop's thread adds, changes and removes
 * sources; loop_timer_set, loop_event_raise and loop_stop may be called from any thread (the first two are one system
 * call each). Handlers run one at a time, in the loop's thread, with no lock held.
 * Time is CLOCK_MONOTONIC nanoseconds; LOOP_NEVER disarms.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include "base/base.h"

#define LOOP_NEVER (~0ull)

struct loop_source {
	int fd;
	void (*ready)(void *opaque, uint32_t events);	/* EPOLLIN, EPOLLOUT... */
	void *opaque;
	bool drain;		/* timers and events: the loop reads the count itself */
	bool added;
};

struct loop {
	int epoll;
	struct loop_source wake;
	bool stop;
};

int loop_init(struct loop *loop);		/* 0 or -errno */
void loop_destroy(struct loop *loop);

/* Watches fd for events (EPOLLIN...). The fd stays the caller's. 0 or -errno (-EPERM: a regular file, always ready). */
int loop_add(struct loop *loop, struct loop_source *s, int fd, uint32_t events,
	     void (*ready)(void *, uint32_t), void *opaque);
void loop_change(struct loop *loop, struct loop_source *s, uint32_t events);
/* Forgets the source; closes the fd of timers and events. Harmless if never added. */
void loop_remove(struct loop *loop, struct loop_source *s);

int loop_add_timer(struct loop *loop, struct loop_source *s, void (*ready)(void *, uint32_t), void *opaque);
void loop_timer_set(struct loop_source *s, uint64_t deadline_ns);
int loop_add_event(struct loop *loop, struct loop_source *s, void (*ready)(void *, uint32_t), void *opaque);
void loop_event_raise(struct loop_source *s);

void loop_run(struct loop *loop);		/* until loop_stop */
/* Handles what is ready, waiting at most until deadline_ns for the first. */
void loop_run_once(struct loop *loop, uint64_t deadline_ns);
void loop_stop(struct loop *loop);

#endif
