/* The search: bilevel learning of the selection variables (AutoLoRA, algorithm 1). */
#ifndef AUTOLORA_TRAIN_SEARCH_H
#define AUTOLORA_TRAIN_SEARCH_H

#include <stdbool.h>
#include <stddef.h>

enum hypergradient_kind {
    HYPERGRADIENT_EXACT,             /* second-order term by forward-over-reverse */
    HYPERGRADIENT_FINITE_DIFFERENCE, /* by a central difference along v (the paper) */
    HYPERGRADIENT_FIRST_ORDER        /* left out (the paper's ablation) */
};
enum search_recipe { RECIPE_PAPER, RECIPE_REFERENCE };

/* Keys search.*. */
struct search_options {
    size_t steps;   /* iterations; 0: from epochs */
    double epochs;  /* passes over D_train when steps is 0 */
    double validation_fraction;
    char *validation_file; /* "": split the training set */
    int hypergradient;     /* enum hypergradient_kind */
    int recipe;            /* enum search_recipe */
    int constraint;        /* enum selection_constraint, model/selection.h */
    int threshold_rule;    /* enum threshold_rule */
    bool is_meta;          /* key "meta": false learns both on the training set, single level */
    double learning_rate;  /* of the factors; 0: optimizer.learning_rate */
    double selection_learning_rate, selection_beta1, selection_beta2;
    double selection_weight_decay; /* L2 */
    double selection_initial;      /* initial value of every logit: 1 */
    size_t selection_every;        /* iterations between selection updates */
};

#endif
