/* The order of work in one pipeline pass. */
#include "parallel/schedule.h"

size_t schedule_in_flight(size_t num_stages, size_t stage, size_t num_microbatches) {
    const size_t depth = num_stages - stage;
    return num_microbatches < depth ? num_microbatches : depth;
}

size_t schedule_fill(size_t num_stages, size_t stage, size_t num_microbatches, bool has_up,
                     struct slot_work *work) {
    size_t count = 0, down = 0, up = 0;
    const size_t ahead = num_stages - 1 - stage;
    const size_t num_up = has_up ? num_microbatches : 0;
    while (down < num_microbatches || up < num_up) {
        if (down < num_microbatches && (!has_up || down - up <= ahead))
            work[count++] = (struct slot_work){DIRECTION_DOWN, down++};
        else
            work[count++] = (struct slot_work){DIRECTION_UP, up++};
    }
    return count;
}
