/* What a rank is doing, and a thread that looks whether it goes on: a rank that makes no progress
 * for too long, because it or a peer stalls, is reported, and all ranks end with EXIT_PEER. */
#ifndef AUTOLORA_PARALLEL_WATCHDOG_H
#define AUTOLORA_PARALLEL_WATCHDOG_H

#include <stdatomic.h>
#include <stddef.h>

struct comms;

/* Words that the rank writes and its watchdog reads. */
struct activity {
    _Atomic size_t count; /* changes with everything that is done */
    const char *_Atomic phase;
    _Atomic size_t step, microbatch;
    _Atomic int first_peer, peer_stride, num_peers; /* the ranks of the world that are waited for */
};

/* Each costs a few stores; activity NULL: none. */
void activity_step(struct activity *activity, const char *phase, size_t step);
void activity_microbatch(struct activity *activity, size_t microbatch);
/* Before and after waiting for the ranks first, first + stride, ... of the world. */
void activity_wait(struct activity *activity, int first, int stride, int count);
void activity_go_on(struct activity *activity);

struct watchdog;

/* Starts the thread and sets the communicators' activity, for the copies that are made of them from
 * now on. Collective over the world. */
struct watchdog *watchdog_start(struct comms *comms, double stall_seconds);
/* Ends it; NULL is allowed. */
void watchdog_stop(struct watchdog **watchdog);

#endif
