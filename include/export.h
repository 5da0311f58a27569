/* A finished run's model in the forms that other programs load. The run is open on one process,
 * whose one stage is the whole model. */
#ifndef AUTOLORA_EXPORT_H
#define AUTOLORA_EXPORT_H

#include "io/safetensors_write.h"
#include "saved_run.h"

/* A PEFT adapter directory: adapter_config.json and adapter_model.safetensors. Modules of rank 0
 * are left out; the parts of a fused projection become one block adapter. EXIT_DATA if no module is
 * left, EXIT_IO if a file cannot be written. */
bool export_peft(const struct saved_run *run, const char *directory, struct problem *problem);

/* A plain checkpoint directory: config.json, model.safetensors with W + s B A, the tokenizer's
 * files. Loads as the class that config.json names. */
bool export_merged(const struct saved_run *run, const char *directory, struct problem *problem);

/* ---- what both need ---- */

/* A trained tensor is a part of an adapter, not one of the model's own. */
bool export_is_adapter(const struct parameter *parameter);
/* The shape that other programs expect: biases are vectors. */
struct safetensors_entry export_entry(const char *name, size_t rows, size_t columns);
/* Rank 0's directory for the output: made, and not one that the run reads from (EXIT_USAGE). */
bool export_prepare_directory(const struct saved_run *run, const char *directory,
                              struct problem *problem);

#endif
