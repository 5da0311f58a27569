/* The search: bilevel learning of the selection variables (AutoLoRA, algorithm 1). */
#ifndef AUTOLORA_TRAIN_SEARCH_H
#define AUTOLORA_TRAIN_SEARCH_H

#include "base/report.h"
#include "train/certainty.h"
#include "train/trainer.h"

#include <stdbool.h>
#include <stddef.h>

enum hypergradient_kind {
    HYPERGRADIENT_EXACT,             /* second-order term by forward-over-reverse */
    HYPERGRADIENT_FINITE_DIFFERENCE, /* by a central difference along v (the paper) */
    HYPERGRADIENT_FIRST_ORDER        /* left out (the paper's ablation) */
};
enum search_recipe { RECIPE_PAPER, RECIPE_REFERENCE };
enum search_preset { PRESET_PAPER, PRESET_ROBUST }; /* defaults of the other keys */

/* Keys search.*. */
struct search_options {
    int preset;    /* enum search_preset */
    size_t steps;  /* iterations; 0: from epochs */
    double epochs; /* passes over D_train when steps is 0 */
    double validation_fraction;
    char *validation_file;       /* "": split the training set */
    int hypergradient;           /* enum hypergradient_kind */
    int recipe;                  /* enum search_recipe */
    int constraint;              /* enum selection_constraint, model/selection.h */
    int threshold_rule;          /* enum threshold_rule */
    double importance_threshold; /* of the last two rules: see importance_ranks */
    bool is_meta;         /* key "meta": false learns both on the training set, single level */
    double learning_rate; /* of the factors; 0: optimizer.learning_rate */
    double selection_learning_rate, selection_beta1, selection_beta2;
    int selection_schedule;        /* enum schedule_kind */
    double selection_warmup;       /* part of the iterations: rate linear from 0 */
    double selection_weight_decay; /* L2 */
    double entropy_weight;         /* of the entropy of q in the loss of the selection */
    double selection_initial;      /* initial value of every logit: 1 */
    size_t selection_every;        /* iterations between selection updates */
    double target_mean_rank;       /* of all modules; 0: the threshold rule decides */
    size_t min_rank;               /* of every module */
    size_t max_parameters;         /* of all adapters; 0: no limit */
};

/* What the search found; arrays are over the modules of the whole model, the same on every rank. */
struct search_result {
    size_t num_modules, num_components;
    size_t *ranks;             /* [modules] under the threshold rule and the budget */
    float *logits, *selection; /* [modules, components] at the end */
    float *scores;             /* [modules, components] what the threshold rule compares */
    size_t num_steps, num_tokens;
    double seconds, loss_train, loss_validation; /* at the last step */
    double largest_movement;                     /* largest |q - q at the start| */
    double mean_entropy;                         /* of q, nats, mean over modules */
    size_t train_examples, validation_examples;
    struct certainty certainty; /* of the ranks */
};

/* Runs the search on this rank's `stage`; the budget has passed budget_check. False and a problem,
 * the same on every rank, on a non-finite loss or when the trace cannot be written. Collective over
 * trainer->comms.world. Free the result with search_result_free. */
bool search_run(const struct trainer *trainer, const struct search_options *options,
                const struct budget *budget, const struct stage *stage,
                struct search_result *result, struct problem *problem);
void search_result_free(struct search_result *result);

/* For a plan: takes the memory that search_run takes on this rank, calls `look` and frees it. False
 * and a problem where search_run would have it at its start. Not collective. */
bool search_rehearse(const struct trainer *trainer, const struct search_options *options,
                     const struct stage *stage, rehearsal_look look, void *context,
                     struct problem *problem);
/* What an iteration is made of, on average. */
struct search_passes {
    double train_gradients, validation_gradients, tangents; /* passes of the pipeline */
    double updates;                                         /* of the factors */
};
struct search_passes search_passes(const struct search_options *options);

/* Says aloud when the search has done nothing: the text of a warning, or NULL. Free with
 * memory_free. */
char *search_warning(const struct search_options *options, const struct search_result *result);

#endif
