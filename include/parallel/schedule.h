/* The order of work in one pipeline pass: 1F1B (Narayanan et al., SOSP 2019; the flushed form of
 * Megatron-LM, SC 2021). Pure. */
#ifndef AUTOLORA_PARALLEL_SCHEDULE_H
#define AUTOLORA_PARALLEL_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>

enum direction { DIRECTION_DOWN, DIRECTION_UP }; /* towards the head; back */

struct slot_work {
    enum direction direction;
    size_t microbatch;
};

/* work [num_microbatches * (has_up ? 2 : 1)]: min(m, stages - 1 - stage) microbatches down, then
 * one down and one up in turn, then the rest up. Every microbatch goes down once and up once, both
 * in rising order, on every stage: sums over microbatches have the same order on any number of
 * stages. Returns the number of entries. */
size_t schedule_fill(size_t num_stages, size_t stage, size_t num_microbatches, bool has_up,
                     struct slot_work *work);

/* Microbatches between their way down and their way up at the same time: min(m, stages - stage). */
size_t schedule_in_flight(size_t num_stages, size_t stage, size_t num_microbatches);

#endif
