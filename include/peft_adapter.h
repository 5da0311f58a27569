/* A PEFT adapter directory as the start of a training (adapter.from): what another program, or
 * export.h, left. Read with distrust: every tensor has to have a place in this job's model. */
#ifndef AUTOLORA_PEFT_ADAPTER_H
#define AUTOLORA_PEFT_ADAPTER_H

#include "job.h"

struct peft_adapter;

/* Opens adapter_config.json and adapter_model.safetensors for the modules of this job, which it
 * borrows. NULL and a problem (EXIT_DATA): not LoRA, or of a kind that this program does not
 * compute; tensors of a wrong shape or for modules that adapter.targets does not name. Not
 * collective: every rank opens it for itself. */
struct peft_adapter *peft_adapter_open(const struct job *job, const char *directory,
                                       struct problem *problem);
void peft_adapter_close(struct peft_adapter **adapter);

/* ranks [num_modules]: 0 for a module without an adapter there. Components of a part of a fused
 * projection that add nothing to it do not count. */
void peft_adapter_ranks(const struct peft_adapter *adapter, size_t *ranks);
/* scales [num_modules]: the adapter's; adapter.alpha / rank where it has none for a module. */
void peft_adapter_scales(const struct peft_adapter *adapter, const size_t *ranks, float *scales);

/* Puts the adapter's values over freshly initialized factors of this rank's stage, whose ranks may
 * be others: of each module the first components that both have; the rest stays fresh. So does a
 * task head that the adapter does not have. EXIT_DATA if its task head is of another shape. */
bool peft_adapter_start(const struct peft_adapter *adapter, const struct stage *stage,
                        float *factors, struct problem *problem);

#endif
