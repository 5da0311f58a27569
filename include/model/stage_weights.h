/* Which of a stage's pretrained tensors are trained. Each function makes those of one part of the
 * model entries of stage->factors, as the stage's options say; called while the stage is made. */
#ifndef AUTOLORA_MODEL_STAGE_WEIGHTS_H
#define AUTOLORA_MODEL_STAGE_WEIGHTS_H

#include "model/stage.h"

void stage_train_embedding(struct stage *stage);
void stage_train_block(struct stage *stage, struct block *block);
/* The pooler, or the final norm and the words. */
void stage_train_head(struct stage *stage);

#endif
