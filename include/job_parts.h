/* How the parts of a job are made, in the order in which job_open calls them. Internal to
 * src/job*.c. Problems are the same on every rank only where it says so. */
#ifndef AUTOLORA_JOB_PARTS_H
#define AUTOLORA_JOB_PARTS_H

#include "job.h"

/* Is it opened to train, or for a plan of that? */
bool job_trains(const struct job *job);
/* The model's shape, the labels and the data. The same problem on every rank. Collective. */
bool job_share_data(struct job *job, struct problem *problem);
/* stage_offsets: the user's layout, or one that balances the stages' costs. */
bool job_place_stages(struct job *job, struct problem *problem);
/* Maps the checkpoint, where the model starts from one. */
void job_open_weights(struct job *job, struct problem *problem);
/* The adapted modules' names and sizes. */
void job_name_modules(struct job *job);
/* Language modelling: how texts are generated. The same problem on every rank. Collective. */
bool job_prepare_texts(struct job *job, struct problem *problem);

#endif
