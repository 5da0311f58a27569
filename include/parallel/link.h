/* Transfers between neighbouring stages: non-blocking, two buffers for each direction of travel and
 * each of sending and receiving, so that one message travels while the next is computed. */
#ifndef AUTOLORA_PARALLEL_LINK_H
#define AUTOLORA_PARALLEL_LINK_H

#include "parallel/comm.h"
#include "parallel/schedule.h"

#include <stddef.h>

struct link;

/* Connects the stages of `comm` in rank order. `largest` is the number of floats of the largest
 * message. */
struct link *link_create(const struct comm *comm, size_t largest);
void link_destroy(struct link **link);

/* Is there a neighbour that messages of this direction come from / go to? */
bool link_has_source(const struct link *link, enum direction direction);
bool link_has_target(const struct link *link, enum direction direction);

/* Starts to receive the next message of `count` floats from that direction; at most two may be
 * open. */
void link_start_receive(struct link *link, enum direction direction, size_t count);
/* Waits for the oldest open message. The buffer is good until the second next start in this
 * direction. */
float *link_finish_receive(struct link *link, enum direction direction);

/* A buffer for the next message to send: waits until it is free. */
float *link_send_buffer(struct link *link, enum direction direction);
/* Starts to send `count` floats of the buffer that link_send_buffer returned last. */
void link_start_send(struct link *link, enum direction direction, size_t count);
/* Lets open messages travel: where a transfer needs both processes (TCP, shared memory without
 * single copies), it rests while one of them computes. */
void link_advance(struct link *link);
/* Waits for all sends. */
void link_finish_sends(struct link *link);

#endif
