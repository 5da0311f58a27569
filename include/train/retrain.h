/* Retraining: fresh adapters at the chosen ranks, on training and validation data together. */
#ifndef AUTOLORA_TRAIN_RETRAIN_H
#define AUTOLORA_TRAIN_RETRAIN_H

#include <stdbool.h>
#include <stddef.h>

enum retrain_scaling {
    SCALING_ALPHA_OVER_RANK, /* s = lora_alpha / rank of the module (the paper) */
    SCALING_ALPHA_OVER_K     /* s = lora_alpha / adapter.rank, the same for all modules, as in the search */
};

/* Keys retrain.*. */
struct retrain_options {
    double epochs;
    size_t steps;         /* 0: from epochs */
    double learning_rate; /* 0: optimizer.learning_rate */
    int scaling;          /* enum retrain_scaling */
    bool evaluates_each_epoch; /* key "evaluate_every_epoch" */
};

#endif
