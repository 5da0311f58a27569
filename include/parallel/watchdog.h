/* What a rank is doing, and a thread that looks whether it goes on: a rank that makes no progress
 * for too long, because it or a peer stalls, is reported, and all ranks end with EXIT_PEER. */
#ifndef AUTOLORA_PARALLEL_WATCHDOG_H
#define AUTOLORA_PARALLEL_WATCHDOG_H

#include <stdatomic.h>
#include <stddef.h>

struct comms;

enum { PEER_NONE = -1, PEER_ALL = -2 };

/* Words that the rank writes and its watchdog reads. */
struct activity {
    _Atomic size_t count; /* changes with everything that is done */
    const char *_Atomic phase;
    _Atomic size_t step, microbatch;
    _Atomic int peer; /* the rank of the world that is waited for, or PEER_... */
};

/* Each costs a few stores; activity NULL: none. */
void activity_step(struct activity *activity, const char *phase, size_t step);
void activity_microbatch(struct activity *activity, size_t microbatch);
/* Before and after waiting for a peer, or PEER_ALL. */
void activity_wait(struct activity *activity, int peer);
void activity_go_on(struct activity *activity);

struct watchdog;

/* Starts the thread and sets the communicators' activity, for the copies that are made of them from
 * now on. Collective over the world. */
struct watchdog *watchdog_start(struct comms *comms, double stall_seconds);
/* Ends it; NULL is allowed. */
void watchdog_stop(struct watchdog **watchdog);

#endif
