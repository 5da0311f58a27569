/* The ways to fine-tune (adapter.method) behind one interface: how the ranks are chosen before
 * training, and how the adapters are trained. One source a method, method_*.c. Whatever the method,
 * the order of the data depends on the seed and the step alone, and the same is reported of its
 * budget. */
#ifndef AUTOLORA_TRAIN_METHOD_H
#define AUTOLORA_TRAIN_METHOD_H

#include "model/architecture.h"
#include "train/retrain.h"
#include "train/search.h"
#include "train/trainer.h"

enum adapter_method {
    METHOD_AUTOLORA,
    METHOD_LORA,
    METHOD_RANDOM,
    METHOD_ADALORA,
    METHOD_FULL,
    METHOD_ADAPTER
};

/* Keys adapter.*. */
struct method_options {
    int method;       /* enum adapter_method */
    size_t rank;      /* k in the search; the uniform lora_rank of method lora */
    double mean_rank; /* lora, random, adalora: round(mean_rank * modules) components in all; 0:
                         rank of each */
    size_t rank_max;  /* random: largest rank of a module; 0: twice the mean */
    double alpha;
    bool is_target[NUM_PROJECTIONS]; /* key "targets": a list of projection names */
    double dropout;
    size_t bottleneck;                /* adapter: size of the bottlenecks */
    size_t initial_rank;              /* adalora: of every module; 0: 1.5 times the mean */
    double warmup_share, final_share; /* adalora: parts of the updates before and after the cut */
    size_t allocate_every;            /* adalora: updates from one mask to the next */
    double importance_beta1, importance_beta2;
    double orthogonality; /* adalora: weight of the penalty */
    char *from;           /* a PEFT adapter directory to start from, without a search; "": none */
    char *ranks_from;     /* a ranks.json: retrain at those ranks, no search; "": none */
};

/* The adapters of a stage to be created. lora_scale of a module is alpha / divisor, where divisor
 * is its rank, or fixed_divisor unless that is 0; or what `scales` says. */
struct stage_request {
    const size_t *ranks; /* [num_modules] */
    const float *scales; /* [num_modules]; NULL: from alpha */
    size_t fixed_divisor;
    size_t num_components; /* selection variables a module; 0: none */
    bool has_singular_values;
};

struct method_input {
    const struct trainer *trainer;
    const struct method_options *options;
    const struct search_options *search;
    const struct retrain_options *retrain;
    size_t num_modules;
    const size_t *component_sizes; /* [num_modules] parameters of one component: d_in + d_out */
    /* This rank's stage. NULL and a problem, the same on every rank. Collective. */
    struct stage *(*create_stage)(const void *context, const struct stage_request *request,
                                  struct problem *problem);
    const float *scales; /* [num_modules] of the trained adapters; NULL: from alpha */
    /* Changes the fresh factors that the training starts from: to pretrained tensors that are
     * trained, to the factors of a given adapter. The same on every rank. Collective. */
    bool (*start)(const void *context, const struct stage *stage, float *factors,
                  struct problem *problem);
    /* Keeps the trained factors of this rank's stage. The same on every rank. Collective. */
    bool (*save)(const void *context, const struct stage *stage, const float *factors,
                 struct problem *problem);
    const void *context;
};

/* What a method leaves; the same on every rank. */
struct method_output {
    size_t *ranks;               /* [num_modules]; the caller's */
    struct search_result search; /* num_steps 0: no search */
    struct retrain_result retrain;
    size_t adapter_parameters, head_parameters; /* of the trained model */
    size_t most_parameters; /* trained at once at any time, the search included */
    char *warning;          /* NULL: none */
};
void method_output_free(struct method_output *output);
/* What is known when the ranks are chosen, as text for a checkpoint (free with memory_free); and
 * read back: false and EXIT_DATA if it is not of `num_modules` modules. */
char *method_output_text(const struct method_output *output, size_t num_modules);
bool method_output_read(struct method_output *output, size_t num_modules, const char *text,
                        struct problem *problem);

/* Both are collective, and false with a problem, the same on every rank, on failure. */
struct method {
    /* Chooses output->ranks. NULL: they come with the training. */
    bool (*choose_ranks)(const struct method_input *input, struct method_output *output,
                         struct problem *problem);
    /* Trains and evaluates adapters, at output->ranks if these were chosen. */
    bool (*train)(const struct method_input *input, struct method_output *output,
                  struct problem *problem);
    /* The adapters that train starts with. ranks [num_modules]: those chosen; may be changed, and
     * are borrowed. */
    struct stage_request (*training_request)(const struct method_input *input, size_t *ranks);
};
const struct method *method_of(enum adapter_method method);
/* Whether there are low-rank adapters; all ranks are 0 otherwise. */
bool method_has_ranks(enum adapter_method method);

/* For a plan: takes the memory of `train` on this rank, calls `look` and frees it. Not collective.
 */
void method_rehearse_training(const struct method_input *input, const struct stage *stage,
                              rehearsal_look look, void *context);

/* round(mean_rank * modules), or rank * modules where no mean is given. */
size_t method_total_rank(const struct method_input *input);

/* Sets adapter_parameters and head_parameters to what the stages train, and raises most_parameters
 * to that. Collective. */
void method_count_parameters(const struct method_input *input, const struct stage *stage,
                             struct method_output *output);

/* lora: all ranks alike, or as nearly as whole numbers allow. */
bool method_lora_ranks(const struct method_input *input, struct method_output *output,
                       struct problem *problem);
/* autolora: ranks by the search. */
bool method_autolora_ranks(const struct method_input *input, struct method_output *output,
                           struct problem *problem);
/* Whether the ranks that its search may choose are possible: EXIT_USAGE. Not collective. */
bool method_autolora_check(const struct method_input *input, struct problem *problem);
/* The adapters of its search: k components in every module, which `ranks` receives. */
struct stage_request method_autolora_request(const struct method_input *input, size_t *ranks);
/* random: the control. Each vector of ranks from 0 to rank_max with the given total is as likely as
 * any other. */
bool method_random_ranks(const struct method_input *input, struct method_output *output,
                         struct problem *problem);
/* Draws such a vector: ranks [num_modules], total <= rank_max * num_modules. */
void random_ranks(uint64_t seed, size_t num_modules, size_t total, size_t rank_max, size_t *ranks);

/* adalora: the components are cut down to the total while they are trained (train/allocator.h);
 * what is left is used as it is, as plain LoRA. */
bool method_adalora_train(const struct method_input *input, struct method_output *output,
                          struct problem *problem);
struct stage_request method_adalora_request(const struct method_input *input, size_t *ranks);
/* Components of every module at its start. */
size_t method_adalora_rank(const struct method_input *input);

#endif
