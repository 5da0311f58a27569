/* The table of input keys and what can be said about a key from its line alone. */
#include "config_keys.h"

#include "io/dataset.h"
#include "io/json.h"
#include "model/selection.h"

#include <math.h>
#include <string.h>

static const char *const TASK_KINDS[] = {
    [TASK_SEQUENCE_CLASSIFICATION] = "sequence_classification",
    [TASK_TOKEN_CLASSIFICATION] = "token_classification",
    [TASK_LANGUAGE_MODELING] = "language_modeling",
};
static const char *const TASK_NAMES[] = {"cola", "sst2", "mrpc", "rte", "stsb", "qnli",
                                         "qqp",  "mnli", "wnli", "ner", "e2e",  "webnlg"};
static const char *const METHODS[] = {
    [METHOD_AUTOLORA] = "autolora", [METHOD_LORA] = "lora", [METHOD_RANDOM] = "random",
    [METHOD_ADALORA] = "adalora",   [METHOD_FULL] = "full", [METHOD_ADAPTER] = "adapter",
};
static const char *const INITS[] = {
    [INIT_PRETRAINED] = "pretrained",
    [INIT_RANDOM] = "random",
};
static const char *const HYPERGRADIENTS[] = {
    [HYPERGRADIENT_EXACT] = "exact",
    [HYPERGRADIENT_FINITE_DIFFERENCE] = "finite_difference",
    [HYPERGRADIENT_FIRST_ORDER] = "first_order",
};
static const char *const RECIPES[] = {
    [RECIPE_PAPER] = "paper",
    [RECIPE_REFERENCE] = "reference",
};
static const char *const CONSTRAINTS[] = {
    [CONSTRAINT_SOFTMAX] = "softmax",
    [CONSTRAINT_SIGMOID] = "sigmoid",
    [CONSTRAINT_NONE] = "none",
};
static const char *const THRESHOLD_RULES[] = {
    [THRESHOLD_SOFTMAX] = "softmax",     [THRESHOLD_RAW_SUM] = "raw_sum",
    [THRESHOLD_EFFECTIVE] = "effective", [THRESHOLD_IMPORTANCE] = "importance",
    [THRESHOLD_SPECTRUM] = "spectrum",
};
static const char *const PRESETS[] = {
    [PRESET_PAPER] = "paper",
    [PRESET_ROBUST] = "robust",
};
static const char *const SCALINGS[] = {
    [SCALING_ALPHA_OVER_RANK] = "alpha_over_rank",
    [SCALING_ALPHA_OVER_K] = "alpha_over_k",
};
static const char *const SCHEDULES[] = {
    [SCHEDULE_CONSTANT] = "constant",
    [SCHEDULE_LINEAR] = "linear",
    [SCHEDULE_COSINE] = "cosine",
};

/* Where a field is. Comparing the pointers makes a field of another type than its key's a mistake
 * that does not compile. */
#define FIELD(kind, member)                                                                        \
    (offsetof(struct config, member) + 0 * sizeof((kind *)0 == &((struct config *)0)->member))

/* One line of the table: its path, its field, then what the type needs. */
#define STRING(key, member, ...)                                                                   \
    { .path = key, .type = KEY_STRING, .offset = FIELD(char *, member), __VA_ARGS__ }
#define INTEGER(key, member, ...)                                                                  \
    { .path = key, .type = KEY_INTEGER, .offset = FIELD(size_t, member), __VA_ARGS__ }
#define NUMBER(key, member, ...)                                                                   \
    { .path = key, .type = KEY_NUMBER, .offset = FIELD(double, member), __VA_ARGS__ }
#define BOOLEAN(key, member, ...)                                                                  \
    { .path = key, .type = KEY_BOOLEAN, .offset = FIELD(bool, member), __VA_ARGS__ }
#define CHOICE(key, member, ...)                                                                   \
    { .path = key, .type = KEY_CHOICE, .offset = FIELD(int, member), __VA_ARGS__ }
#define PROJECTIONS(key, member, ...)                                                              \
    { .path = key, .type = KEY_PROJECTIONS, .offset = FIELD(bool, member[0]), __VA_ARGS__ }
#define INTEGERS(key, member, count, ...)                                                          \
    {                                                                                              \
        .path = key, .type = KEY_INTEGERS, .offset = FIELD(size_t *, member),                      \
        .count_offset = FIELD(size_t, count), __VA_ARGS__                                          \
    }

#define DEFAULT(text) .default_text = (text)
#define HELP(text) .help = (text)
#define ONE_OF(names) .choices = (names), .num_choices = sizeof(names) / sizeof *(names)
#define NOT_EMPTY .minimum = 1
#define FREE .is_free = true
#define FROM_TO(least, most) .minimum = (least), .maximum = (most)
#define AT_LEAST(least) .minimum = (least), .maximum = INFINITY
#define ABOVE_ZERO .maximum = INFINITY, .is_above_minimum = true
#define BELOW_ONE .maximum = 1, .is_below_maximum = true
#define ANY_NUMBER .minimum = -INFINITY, .maximum = INFINITY

/* clang-format off */
static const struct config_key KEYS[] = {
    STRING("run.name", run.name, DEFAULT("\"run\""), NOT_EMPTY, FREE,
           HELP("name of the run, in reports and in the default of run.output_dir")),
    INTEGER("run.seed", run.seed, DEFAULT("1"), AT_LEAST(0),
            HELP("seed of every random number: initial factors, order of examples, validation split, dropout")),
    STRING("run.output_dir", run.output_dir, DEFAULT("\"\""), FREE,
           HELP("directory of the results; \"\": outputs/ and run.name")),

    STRING("model.path", model.path, NOT_EMPTY,
           HELP("directory of the pretrained model: config.json, model.safetensors, tokenizer")),
    CHOICE("model.init", model.init, DEFAULT("\"pretrained\""), ONE_OF(INITS),
           HELP("random: fresh weights as transformers draws them (config.json and the tokenizer's files are "
                "enough), trained by adapter.method full")),
    NUMBER("model.hidden_dropout", model.hidden_dropout, DEFAULT("-1"), BELOW_ONE, .allows_minus_one = true,
           HELP("dropout rate of hidden states in training; -1: as the model's config.json says")),
    NUMBER("model.attention_dropout", model.attention_dropout, DEFAULT("-1"), BELOW_ONE, .allows_minus_one = true,
           HELP("dropout rate of attention probabilities in training; -1: as the model's config.json says")),

    CHOICE("task.kind", task.kind, .derived_text = "from task.name", ONE_OF(TASK_KINDS),
           HELP("what is predicted: GLUE's tasks are sequence classifications (stsb a regression), ner a token "
                "classification, e2e and webnlg are language modelling")),
    STRING("task.name", task.name, ONE_OF(TASK_NAMES),
           HELP("GLUE's tasks in their original files; score: cola Matthews correlation; sst2, rte, qnli, mnli, "
                "wnli accuracy; mrpc, qqp the mean of accuracy and F1; stsb the mean of Pearson's and Spearman's "
                "correlation; ner: CoNLL files, F1 score of entities; "
                "e2e: a context, two vertical bars and its completion a line; webnlg: WebNLG 2017's JSON")),
    STRING("task.data_dir", task.data_dir, NOT_EMPTY, HELP("directory of the data files")),
    STRING("task.train_file", task.train_file, DEFAULT("\"\""),
           HELP("training file in task.data_dir; \"\": the task's usual name")),
    STRING("task.dev_file", task.dev_file, DEFAULT("\"\""),
           HELP("development file in task.data_dir, used to evaluate only; \"\": the task's usual name "
                "(mnli: dev_matched.tsv and dev_mismatched.tsv)")),
    STRING("task.test_file", task.test_file, DEFAULT("\"\""),
           HELP("test file in task.data_dir; \"\": the task's usual name")),
    INTEGER("task.max_length", task.max_length, DEFAULT("128"), FROM_TO(3, 65536),
            HELP("tokens of a sequence with its special tokens; longer ones are cut")),
    INTEGER("task.limit_train", task.limit_train, DEFAULT("0"), AT_LEAST(0),
            HELP("take the first N training examples, for trials; 0: all")),
    INTEGER("task.limit_dev", task.limit_dev, DEFAULT("0"), AT_LEAST(0),
            HELP("take the first N development examples, for trials; 0: all")),
    NUMBER("task.label_smoothing", task.label_smoothing, DEFAULT("0"), BELOW_ONE,
           HELP("part of a label's probability that the loss spreads evenly over all labels")),
    INTEGER("task.num_beams", task.num_beams, DEFAULT("10"), FROM_TO(1, 1024),
            HELP("language modelling: beams of the search that writes texts; 1: the likeliest token each time")),
    NUMBER("task.length_penalty", task.length_penalty, DEFAULT("0.8"), ANY_NUMBER,
           HELP("language modelling: texts compare by log-probability / tokens^length_penalty")),
    INTEGER("task.no_repeat_ngram", task.no_repeat_ngram, DEFAULT("4"), FROM_TO(0, 65536),
            HELP("language modelling: no sequence of N tokens comes twice in a text; 0: may")),
    INTEGER("task.max_new_tokens", task.max_new_tokens, DEFAULT("64"), FROM_TO(1, 65536),
            HELP("language modelling: tokens of a text at most")),

    CHOICE("adapter.method", adapter.method, DEFAULT("\"autolora\""), ONE_OF(METHODS),
           HELP("autolora: search the ranks, then retrain at them; lora: train at uniform ranks; "
                "random: train at random ranks (the control of a search); "
                "adalora: cut components down to a total rank while they are trained; "
                "full: no adapters, all weights of the model are trained; "
                "adapter: bottleneck adapters behind both output projections of every block, trained with the "
                "blocks' layer norms (Houlsby et al. 2019), whatever adapter.targets are")),
    INTEGER("adapter.rank", adapter.rank, DEFAULT("8"), FROM_TO(1, 4096),
            HELP("autolora: k, the largest rank that the search can choose; lora: the rank of every module; "
                 "random, adalora: the mean rank, if adapter.mean_rank is 0")),
    NUMBER("adapter.mean_rank", adapter.mean_rank, DEFAULT("0"), FROM_TO(0, 4096),
           HELP("lora, random, adalora: the total rank is this times the modules, rounded (a baseline with the "
                "budget of a search); lora spreads it evenly; 0: use adapter.rank")),
    INTEGER("adapter.rank_max", adapter.rank_max, DEFAULT("0"), FROM_TO(0, 4096),
            HELP("random: all ranks from 0 to this one are drawn alike; 0: twice the mean, rounded up")),
    INTEGER("adapter.initial_rank", adapter.initial_rank, DEFAULT("0"), FROM_TO(0, 4096),
            HELP("adalora: rank of every module at the start; 0: 1.5 times the mean, rounded up")),
    NUMBER("adapter.warmup_share", adapter.warmup_share, DEFAULT("0.1"), FROM_TO(0, 1),
           HELP("adalora: part of the updates before the total rank begins to fall (with the third power of time)")),
    NUMBER("adapter.final_share", adapter.final_share, DEFAULT("0.3"), FROM_TO(0, 1),
           HELP("adalora: part of the updates at the end, in which the ranks stay")),
    INTEGER("adapter.allocate_every", adapter.allocate_every, DEFAULT("10"), AT_LEAST(1),
            HELP("adalora: updates from one choice of components to the next while the total rank falls")),
    NUMBER("adapter.importance_beta1", adapter.importance_beta1, DEFAULT("0.85"), BELOW_ONE,
           HELP("adalora: decay of the average of a parameter's sensitivity")),
    NUMBER("adapter.importance_beta2", adapter.importance_beta2, DEFAULT("0.85"), BELOW_ONE,
           HELP("adalora: decay of the average of the sensitivity's uncertainty")),
    NUMBER("adapter.orthogonality", adapter.orthogonality, DEFAULT("0.1"), AT_LEAST(0),
           HELP("adalora: weight of the penalty, the mean over all A and B of the Frobenius norm of X X^T - I (not "
                "squared: as the authors' code has it)")),
    NUMBER("adapter.alpha", adapter.alpha, DEFAULT("16"), ABOVE_ZERO,
           HELP("lora_alpha: an update is scaled by alpha / rank")),
    PROJECTIONS("adapter.targets", adapter.is_target, DEFAULT("[\"query\", \"value\"]"),
                HELP("projections of every block that get an adapter")),
    NUMBER("adapter.dropout", adapter.dropout, DEFAULT("0"), BELOW_ONE,
           HELP("dropout rate of an adapter's input in training")),
    STRING("adapter.from", adapter.from, DEFAULT("\"\""),
           HELP("a PEFT adapter directory: no search, the training starts from its factors, at its ranks "
                "(adapter.ranks_from: at those) and scales")),
    INTEGER("adapter.bottleneck", adapter.bottleneck, DEFAULT("64"), FROM_TO(1, 65536),
            HELP("adapter: size of the bottleneck")),
    STRING("adapter.ranks_from", adapter.ranks_from, DEFAULT("\"\""),
           HELP("a ranks.json: train at its ranks, without a search; \"\": none")),

    CHOICE("search.preset", search.preset, DEFAULT("\"paper\""), ONE_OF(PRESETS),
           HELP("defaults of the keys of this section: paper: as listed; robust, which finds planted ranks best: "
                "search.threshold_rule spectrum, search.selection_lr 0.01")),
    INTEGER("search.steps", search.steps, DEFAULT("0"), AT_LEAST(0),
            HELP("iterations of the search; 0: from search.epochs")),
    NUMBER("search.epochs", search.epochs, DEFAULT("10"), FROM_TO(0, 1e6), .is_above_minimum = true,
           HELP("passes over the training part of the data, if search.steps is 0")),
    NUMBER("search.validation_fraction", search.validation_fraction, DEFAULT("0.3"), FROM_TO(0.01, 0.9),
           HELP("part of the training file that the selection variables are learned on")),
    STRING("search.validation_file", search.validation_file, DEFAULT("\"\""),
           HELP("file in task.data_dir to learn the selection variables on; \"\": split the training file")),
    CHOICE("search.hypergradient", search.hypergradient, DEFAULT("\"exact\""), ONE_OF(HYPERGRADIENTS),
           HELP("second-order term of the selection's gradient: by forward-over-reverse differentiation, "
                "by a central difference (as published), or left out")),
    CHOICE("search.recipe", search.recipe, DEFAULT("\"paper\""), ONE_OF(RECIPES),
           HELP("order of the updates: paper keeps the look-ahead step (algorithm 1), reference undoes it and "
                "steps again at the new selection, as the authors' code does")),
    CHOICE("search.constraint", search.constraint, DEFAULT("\"softmax\""), ONE_OF(CONSTRAINTS),
           HELP("how selection variables follow from their logits; softmax is AutoLoRA, the others are ablations")),
    CHOICE("search.threshold_rule", search.threshold_rule, DEFAULT("\"softmax\""), ONE_OF(THRESHOLD_RULES),
           HELP("how a module's rank follows. softmax: selection variables of at least 1/k count (as published); "
                "raw_sum: logits whose share of their sum is at least 1/k (as in the authors' code); "
                "effective: exp(entropy of the selection variables), rounded; "
                "importance: components whose mean absolute gradient times value reaches search.importance_threshold; "
                "spectrum: singular values of the update, weighed by what its input and output mean to the loss, "
                "that reach it")),
    NUMBER("search.importance_threshold", search.importance_threshold, DEFAULT("0.3"), ABOVE_ZERO,
           HELP("of threshold rules importance and spectrum, as a part of the median over the modules of each one's "
                "largest value; a module may get rank 0")),
    BOOLEAN("search.meta", search.is_meta, DEFAULT("true"),
            HELP("false: learn selection and factors together on the training set (ablation)")),
    NUMBER("search.learning_rate", search.learning_rate, DEFAULT("0"), AT_LEAST(0),
           HELP("peak learning rate of the factors in the search; 0: optimizer.lr")),
    NUMBER("search.selection_lr", search.selection_learning_rate, DEFAULT("3e-4"), ABOVE_ZERO,
           HELP("learning rate of the selection logits (Adam)")),
    NUMBER("search.selection_beta1", search.selection_beta1, DEFAULT("0.5"), BELOW_ONE,
           HELP("Adam's beta1 for the selection logits")),
    NUMBER("search.selection_beta2", search.selection_beta2, DEFAULT("0.999"), BELOW_ONE,
           HELP("Adam's beta2 for the selection logits")),
    CHOICE("search.selection_schedule", search.selection_schedule, DEFAULT("\"constant\""), ONE_OF(SCHEDULES),
           HELP("search.selection_lr after search.selection_warmup: constant, or down to 0 along a line or a cosine")),
    NUMBER("search.selection_warmup", search.selection_warmup, DEFAULT("0"), BELOW_ONE,
           HELP("part of the search in which search.selection_lr rises from 0, while the factors begin to learn")),
    NUMBER("search.entropy_weight", search.entropy_weight, DEFAULT("0"), ANY_NUMBER,
           HELP("weight of the entropy of each module's selection variables, added to the loss that they are "
                "learned on; above 0 it draws them to few components")),
    NUMBER("search.selection_weight_decay", search.selection_weight_decay, DEFAULT("0"), AT_LEAST(0),
           HELP("weight decay of the selection logits, added to their gradient")),
    NUMBER("search.selection_initial", search.selection_initial, DEFAULT("1"), ANY_NUMBER,
           HELP("initial value of every selection logit")),
    INTEGER("search.selection_every", search.selection_every, DEFAULT("1"), AT_LEAST(1),
            HELP("iterations from one update of the selection to the next")),
    NUMBER("search.target_mean_rank", search.target_mean_rank, DEFAULT("0"), FROM_TO(0, 4096),
           HELP("the components that count are those of the largest selection variables in the whole model, "
                "this times the modules in all, in place of the threshold 1/k; 0: by the threshold")),
    INTEGER("search.min_rank", search.min_rank, DEFAULT("0"), FROM_TO(0, 4096),
            HELP("least rank of a module; within search.target_mean_rank, else added to what the threshold gives")),
    INTEGER("search.max_parameters", search.max_parameters, DEFAULT("0"), AT_LEAST(0),
            HELP("most parameters of all adapters: the components of the smallest selection variables are left "
                 "out until they fit, down to search.min_rank; 0: no limit")),

    NUMBER("retrain.epochs", retrain.epochs, DEFAULT("10"), FROM_TO(0, 1e6), .is_above_minimum = true,
           HELP("passes over the training data, if retrain.steps is 0")),
    INTEGER("retrain.steps", retrain.steps, DEFAULT("0"), AT_LEAST(0),
            HELP("updates; 0: from retrain.epochs")),
    NUMBER("retrain.learning_rate", retrain.learning_rate, DEFAULT("0"), AT_LEAST(0),
           HELP("peak learning rate; 0: optimizer.lr")),
    CHOICE("retrain.scaling", retrain.scaling, DEFAULT("\"alpha_over_rank\""), ONE_OF(SCALINGS),
           HELP("scale of an update: adapter.alpha over the module's rank, or over adapter.rank as in the search")),
    BOOLEAN("retrain.evaluate_every_epoch", retrain.evaluates_each_epoch, DEFAULT("true"),
            HELP("evaluate on the development set after every epoch, not only at the end")),

    NUMBER("optimizer.lr", optimizer.learning_rate, DEFAULT("1e-3"), ABOVE_ZERO,
           HELP("peak learning rate of AdamW for factors and task head")),
    NUMBER("optimizer.beta1", optimizer.beta1, DEFAULT("0.9"), BELOW_ONE, HELP("decay of the first moment")),
    NUMBER("optimizer.beta2", optimizer.beta2, DEFAULT("0.999"), BELOW_ONE, HELP("decay of the second moment")),
    NUMBER("optimizer.epsilon", optimizer.epsilon, DEFAULT("1e-8"), ABOVE_ZERO,
           HELP("added to the root of the second moment")),
    NUMBER("optimizer.weight_decay", optimizer.weight_decay, DEFAULT("0.01"), AT_LEAST(0),
           HELP("decoupled weight decay; biases and layer norms have none")),
    NUMBER("optimizer.max_grad_norm", optimizer.max_grad_norm, DEFAULT("1"), AT_LEAST(0),
           HELP("longer gradients are scaled down to this norm; 0: never")),
    CHOICE("optimizer.schedule", optimizer.schedule, DEFAULT("\"linear\""), ONE_OF(SCHEDULES),
           HELP("learning rate after the warm-up: constant, or down to 0 along a line or a cosine")),
    NUMBER("optimizer.warmup_fraction", optimizer.warmup_fraction, DEFAULT("0.06"), BELOW_ONE,
           HELP("part of a phase's steps in which the learning rate rises from 0")),
    INTEGER("optimizer.batch_size", optimizer.batch_size, DEFAULT("32"), FROM_TO(1, 1048576),
            HELP("sequences of one update")),

    INTEGER("parallel.replicas", parallel.replicas, DEFAULT("1"), FROM_TO(1, 65536), FREE,
            HELP("copies of the pipeline, which share the microbatches of a batch; MPI ranks are replicas times "
                 "stages times the grid's size")),
    INTEGER("parallel.stages", parallel.stages, DEFAULT("0"), FROM_TO(0, 65536), FREE,
            HELP("pipeline stages; 0: as many as there are MPI ranks for a replica")),
    INTEGERS("parallel.grid", parallel.grid, parallel.num_grid, DEFAULT("[1, 1]"), FROM_TO(1, 4096), FREE,
             HELP("rows and columns of a stage's process grid: rows share the sequences of a microbatch, columns "
                  "the attention heads, all the frozen weights. Not for adapter.method full and adapter; texts "
                  "are generated afterwards, by autolora evaluate")),
    INTEGER("parallel.microbatch_tokens", parallel.microbatch_tokens, DEFAULT("128"), FROM_TO(16, 1048576),
            HELP("tokens of a microbatch on average: a batch is packed into the fewest that keep to this")),
    INTEGERS("parallel.layout", parallel.layout, parallel.num_layout, DEFAULT("[]"), FROM_TO(0, 65536), FREE,
             HELP("blocks of each stage, from the first to the last; []: balanced by cost")),
    INTEGER("parallel.threads", parallel.threads, DEFAULT("0"), FROM_TO(0, 4096), FREE,
            HELP("OpenMP threads of a rank, at most the cores it may use; "
                 "0: OMP_NUM_THREADS, or else its share of these cores")),

    INTEGER("output.trace_every", output.trace_every, DEFAULT("1"), AT_LEAST(1), FREE,
            HELP("iterations from one row of trace.h5 to the next")),
    INTEGER("output.timeline_step", output.timeline_step, DEFAULT("3"), AT_LEAST(0), FREE,
            HELP("iteration of the search and of the training whose timeline, what each rank did when, goes to "
                 "/timeline of trace.h5; 0: none")),
    NUMBER("output.report_seconds", output.report_seconds, DEFAULT("5"), AT_LEAST(0), FREE,
           HELP("least time between two progress lines on the terminal, in seconds")),
    NUMBER("output.flush_seconds", output.flush_seconds, DEFAULT("5"), AT_LEAST(0), FREE,
           HELP("longest time that a row of the trace stays in memory, in seconds")),
    BOOLEAN("output.timers", output.prints_timers, DEFAULT("false"), FREE,
            HELP("print the seconds of every phase at the end; result.json has them in any case")),
    INTEGER("output.checkpoint_every", output.checkpoint_every, DEFAULT("0"), AT_LEAST(0), FREE,
            HELP("iterations from one checkpoint to the next; 0: not by their number. "
                 "One is always written when a signal, a file `stop` or the end of the time stops the run")),
    NUMBER("output.checkpoint_seconds", output.checkpoint_seconds, DEFAULT("600"), AT_LEAST(0), FREE,
           HELP("time from one checkpoint to the next, in seconds; 0: not by time")),
    INTEGER("output.keep", output.keep, DEFAULT("2"), FROM_TO(1, 1000000), FREE,
            HELP("newest checkpoints that are kept")),
    NUMBER("output.wall_time", output.wall_time, DEFAULT("0"), AT_LEAST(0), FREE,
           HELP("time of the whole program, in seconds: it stops with a checkpoint shortly before; "
                "0: the end of the batch job, where it is known (SLURM_JOB_END_TIME, PBS_WALLTIME), else none")),
    NUMBER("output.stall_seconds", output.stall_seconds, DEFAULT("300"), AT_LEAST(0), FREE,
           HELP("without progress for so long, in seconds, a rank reports where it is and whom it waits for, "
                "and all ranks end; 0: never")),
};
/* clang-format on */

/* What search.preset robust sets. */
static const struct {
    const char *path, *text;
} ROBUST[] = {
    {"search.threshold_rule", "\"spectrum\""},
    {"search.selection_lr", "0.01"},
};

const char *config_preset_default(const char *preset, const char *path) {
    for (size_t i = 0; strcmp(preset, "robust") == 0 && i < sizeof ROBUST / sizeof *ROBUST; ++i)
        if (strcmp(ROBUST[i].path, path) == 0)
            return ROBUST[i].text;
    return NULL;
}

const struct config_key *config_keys(size_t *count) {
    *count = sizeof KEYS / sizeof *KEYS;
    return KEYS;
}

size_t config_key_section_length(const struct config_key *key) {
    return (size_t)(strchr(key->path, '.') - key->path);
}

bool config_key_is_required(const struct config_key *key) {
    return key->default_text == NULL && key->derived_text == NULL;
}

bool config_key_in_range(const struct config_key *key, double value) {
    if (key->allows_minus_one && value == -1)
        return true;
    return isfinite(value) &&
           (key->is_above_minimum ? value > key->minimum : value >= key->minimum) &&
           (key->is_below_maximum ? value < key->maximum : value <= key->maximum);
}

size_t config_key_num_choices(const struct config_key *key) {
    return key->type == KEY_PROJECTIONS ? NUM_PROJECTIONS : key->num_choices;
}

const char *config_key_choice(const struct config_key *key, size_t index) {
    return key->type == KEY_PROJECTIONS ? projection_name((enum projection)index)
                                        : key->choices[index];
}

const char *config_key_type_name(const struct config_key *key) {
    static const char *const names[] = {
        [KEY_STRING] = "string",
        [KEY_INTEGER] = "integer",
        [KEY_NUMBER] = "number",
        [KEY_BOOLEAN] = "boolean",
        [KEY_CHOICE] = "choice",
        [KEY_PROJECTIONS] = "list of choices",
        [KEY_INTEGERS] = "list of integers",
    };
    return key->choices != NULL ? names[KEY_CHOICE] : names[key->type];
}

void config_key_print_range(const struct config_key *key, FILE *stream) {
    const size_t num_choices = config_key_num_choices(key);
    for (size_t i = 0; i < num_choices; ++i)
        fprintf(stream, "%s%s", i > 0 ? ", " : "", config_key_choice(key, i));
    if (key->type == KEY_STRING && key->minimum > 0)
        fputs("not empty", stream);
    const bool is_integer = key->type == KEY_INTEGER || key->type == KEY_INTEGERS;
    if ((!is_integer && key->type != KEY_NUMBER) || isinf(key->minimum))
        return;
    char least[JSON_NUMBER_BYTES], most[JSON_NUMBER_BYTES];
    json_number_text(key->minimum, least);
    json_number_text(key->maximum, most);
    if (isinf(key->maximum))
        fprintf(stream, "%s %s", key->is_above_minimum ? ">" : ">=", least);
    else if (is_integer)
        fprintf(stream, "%s .. %s", least, most);
    else
        fprintf(stream, "%c%s, %s%c", key->is_above_minimum ? '(' : '[', least, most,
                key->is_below_maximum ? ')' : ']');
    if (key->allows_minus_one)
        fputs(" or -1", stream);
}

enum task_kind config_task_kind(const char *task_name) {
    if (glue_find(task_name) != NULL)
        return TASK_SEQUENCE_CLASSIFICATION;
    return strcmp(task_name, "ner") == 0 ? TASK_TOKEN_CLASSIFICATION : TASK_LANGUAGE_MODELING;
}

const char *config_method_name(int method) {
    return METHODS[method];
}
