/* When a run has to stop so that it can still write its checkpoint. Pure: the caller gives the
 * time, in seconds of any clock. */
#ifndef AUTOLORA_TRAIN_DEADLINE_H
#define AUTOLORA_TRAIN_DEADLINE_H

#include <stdbool.h>

struct deadline {
    double end;        /* when everything has to be over; INFINITY: never */
    double last_check; /* NAN: none yet */
    double longest_interval, longest_checkpoint;
};

/* Called at every place where the run can stop. True if, by the next such place, too little time
 * may be left: twice the longest interval and checkpoint so far, and some seconds to end. */
bool deadline_is_near(struct deadline *deadline, double now);
/* A checkpoint was written from `start` to `now`, which counts as a check too. */
void deadline_note_checkpoint(struct deadline *deadline, double start, double now);

#endif
