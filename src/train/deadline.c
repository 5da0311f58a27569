/* When a run has to stop. */
#include "train/deadline.h"

#include <math.h>

static const double SECONDS_TO_END = 10;

bool deadline_is_near(struct deadline *deadline, double now) {
    if (!isnan(deadline->last_check))
        deadline->longest_interval = fmax(deadline->longest_interval, now - deadline->last_check);
    deadline->last_check = now;
    return now + 2 * (deadline->longest_interval + deadline->longest_checkpoint) + SECONDS_TO_END >=
           deadline->end;
}

void deadline_note_checkpoint(struct deadline *deadline, double start, double now) {
    deadline->longest_checkpoint = fmax(deadline->longest_checkpoint, now - start);
    deadline->last_check = now;
}
