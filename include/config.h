/* The input file: every key declared once (src/config.c), read strictly, defaults filled in. */
#ifndef AUTOLORA_CONFIG_H
#define AUTOLORA_CONFIG_H

#include "base/report.h"
#include "model/architecture.h"
#include "train/method.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct run_options {
    char *name;
    size_t seed;
    char *output_dir; /* default: outputs/<run.name> */
};

enum model_init { INIT_PRETRAINED, INIT_RANDOM };

struct model_options {
    char *path;
    int init;                                 /* enum model_init */
    double hidden_dropout, attention_dropout; /* -1: as config.json says */
};

struct task_options {
    int kind;   /* enum task_kind, io/dataset.h */
    char *name; /* one of io/glue.h, "ner", "e2e", "webnlg" */
    char *data_dir;
    char *train_file, *dev_file, *test_file; /* within data_dir; "": the task's usual names */
    size_t max_length;
    size_t limit_train, limit_dev; /* 0: all */
    double label_smoothing;
    size_t num_beams, no_repeat_ngram, max_new_tokens; /* train/beam.h */
    double length_penalty;
};

struct parallel_options {
    size_t replicas;
    size_t stages; /* 0: all ranks that are left */
    size_t *grid;  /* rows, columns */
    size_t num_grid;
    size_t microbatch_tokens;
    size_t *layout; /* blocks of each stage; NULL: balanced */
    size_t num_layout;
    size_t threads; /* OpenMP threads a rank; 0: from the environment and the cores this rank may
                       use */
};

struct output_options {
    size_t trace_every;        /* iterations a row */
    size_t timeline_step;      /* iteration of each phase that is recorded; 0: none */
    double report_seconds;     /* least time between two progress lines on the terminal */
    double flush_seconds;      /* the trace is flushed at least this often */
    size_t checkpoint_every;   /* iterations; 0: not by their number */
    double checkpoint_seconds; /* 0: not by time */
    bool prints_timers;        /* key "timers" */
    size_t keep;               /* checkpoints */
    double wall_time;          /* seconds; 0: no limit */
    double stall_seconds;      /* 0: no watchdog */
};

struct config {
    struct run_options run;
    struct model_options model;
    struct task_options task;
    struct method_options adapter;
    struct search_options search;
    struct retrain_options retrain;
    struct optimizer_options optimizer;
    struct parallel_options parallel;
    struct output_options output;
};

/* Reads input text (`what` names it in messages) with `overrides` ("key.path=value": the value is
 * JSON, or else a string) applied. All mistakes are listed together, one a line, with their paths:
 * EXIT_USAGE. The result depends on the arguments alone, so that all ranks that parse the same text
 * agree. */
bool config_parse(struct config *config, const char *text, size_t length, const char *what,
                  const char *const *overrides, size_t num_overrides, struct problem *problem);
void config_free(struct config *config);

/* The effective input as JSON text, defaults included; can be fed back. Free with memory_free. */
char *config_print(const struct config *config);

/* The keys in which an input differs from that of an earlier run, as far as they decide its
 * results, one a line with both values; NULL if there are none. Free with memory_free. */
char *config_differences(const struct config *config, const struct config *earlier);

/* The word for a value of adapter.method. */
const char *config_method_name(int method);

/* Every key as a Markdown table, section by section: type, default, range, meaning. */
void config_print_keys(FILE *stream);

/* Reads config.json of a pretrained model (BERT, RoBERTa, GPT-2). EXIT_DATA on what is missing,
 * mistyped or not supported (model_type, hidden_act, position_embedding_type), naming the key. */
bool config_read_architecture(const char *model_directory, struct architecture *architecture,
                              struct problem *problem);

#endif
