/* Checkpoints of a run, and when it stops. Every rank votes on what is to be done, with the one
 * reduction that decides on reports too. */
#include "train/checkpoints.h"

#include "base/interrupt.h"
#include "base/memory.h"
#include "io/checkpoint_files.h"
#include "io/file.h"
#include "train/deadline.h"
#include "train/retrain.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Why a run stops; a signal is its number on top of the last one. */
enum stop_reason { STOP_NOT, STOP_FILE, STOP_TIME, STOP_SIGNAL };
static const char STOP_FILE_NAME[] = "stop";

struct checkpoints {
    struct comms comms;
    struct checkpoints_options options;
    char *stop_path;
    char *output; /* NULL: ranks are not chosen yet */
    size_t earlier_iterations;
    struct checkpoint *opened;
    struct checkpoints_place place;
    struct deadline deadline;
    double last_save, last_look; /* MPI_Wtime */
    size_t num_unsaved;          /* iterations since the last checkpoint */
    int stop;                    /* agreed */
};

struct checkpoints *checkpoints_create(const struct comms *comms,
                                       const struct checkpoints_options *options) {
    struct checkpoints *c = memory_allocate(1, sizeof *c, "checkpoints");
    *c = (struct checkpoints){
        .comms = *comms,
        .options = *options,
        .deadline = {.end = options->end, .last_check = (double)NAN},
        .last_save = MPI_Wtime(),
    };
    c->options.directory = memory_copy_string(options->directory);
    c->stop_path = file_join(options->directory, STOP_FILE_NAME);
    c->options.input_text = memory_copy_string(options->input_text);
    c->options.data_text = memory_copy_string(options->data_text);
    c->options.provenance = memory_copy_string(options->provenance);
    return c;
}

void checkpoints_destroy(struct checkpoints **pointer) {
    struct checkpoints *c = *pointer;
    if (c == NULL)
        return;
    checkpoint_close(&c->opened);
    memory_free((char *)(size_t)c->options.directory);
    memory_free((char *)(size_t)c->options.input_text);
    memory_free((char *)(size_t)c->options.data_text);
    memory_free((char *)(size_t)c->options.provenance);
    memory_free(c->stop_path);
    memory_free(c->output);
    memory_free(c);
    *pointer = NULL;
}

static const char *phase_name(enum phase phase) {
    return phase == PHASE_SEARCH ? "search" : "retrain";
}

/* ---- opening ---- */

/* A text of the checkpoint as JSON; NULL and a problem. */
static struct json *read_json(const struct checkpoint *checkpoint, const char *name,
                              struct problem *problem) {
    char *text = checkpoint_text(checkpoint, name, problem);
    struct json *root =
        text == NULL ? NULL : json_parse(text, strlen(text), name, EXIT_DATA, problem);
    memory_free(text);
    return root;
}

static bool take_place(const struct json *root, struct checkpoints_place *place) {
    const struct json *phase = json_get(root, "phase"), *seconds = json_get(root, "seconds");
    if (phase == NULL || json_type(phase) != JSON_STRING || seconds == NULL ||
        json_type(seconds) != JSON_NUMBER)
        return false;
    place->seconds = json_number(seconds);
    place->phase = strcmp(json_string(phase), "search") == 0 ? PHASE_SEARCH : PHASE_RETRAIN;
    const struct json *rows = json_get(root, "trace_rows");
    for (size_t i = 0; i < TRACE_NUM_TABLES; ++i)
        if (!json_size(json_get(rows, trace_table_name(i)), &place->trace_rows[i]))
            return false;
    return strcmp(json_string(phase), phase_name(place->phase)) == 0;
}

static bool open_one(struct checkpoints *c, size_t number, struct problem *problem) {
    char *path = checkpoint_path(c->options.directory, number);
    c->opened = checkpoint_open(path, problem);
    struct json *state = c->opened == NULL ? NULL : read_json(c->opened, "state", problem);
    if (state != NULL && !take_place(state, &c->place))
        problem_set(problem, EXIT_DATA, "%s: is of no run that can be resumed", path);
    snprintf(c->place.path, sizeof c->place.path, "%s", path);
    if (state != NULL)
        json_destroy(&state);
    if (problem->exit_code != 0)
        checkpoint_close(&c->opened);
    memory_free(path);
    return c->opened != NULL;
}

/* Rank 0: opens the newest that can be. */
static size_t find_newest(struct checkpoints *c, struct problem *problem) {
    size_t count, found = 0;
    size_t *numbers = checkpoint_numbers(c->options.directory, &count);
    while (count > 0 && c->opened == NULL && problem->exit_code == 0) {
        struct problem damage = {0};
        found = numbers[--count];
        if (!checkpoint_is_readable(c->options.directory, found, problem))
            break;
        if (open_one(c, found, &damage))
            break;
        printf("warning: %s; it is kept as checkpoint-%06zu.h5.damaged and the one before it is "
               "taken\n",
               damage.text, found);
        checkpoint_set_aside(c->options.directory, found, problem);
    }
    memory_free(numbers);
    return found;
}

bool checkpoints_open_newest(struct checkpoints *c, struct problem *problem) {
    size_t number = c->comms.world.mpi_rank == 0 ? find_newest(c, problem) : 0;
    if (!comm_agree(&c->comms.world, problem))
        return false;
    int is_there = c->opened != NULL;
    comm_broadcast(&c->comms.world, 0, &is_there, sizeof is_there);
    comm_broadcast(&c->comms.world, 0, &number, sizeof number);
    if (is_there && c->comms.world.mpi_rank != 0)
        open_one(c, number, problem);
    return comm_agree(&c->comms.world, problem);
}

const struct checkpoint *checkpoints_opened(const struct checkpoints *checkpoints) {
    return checkpoints->opened;
}

const struct checkpoints_place *checkpoints_place(const struct checkpoints *checkpoints) {
    return &checkpoints->place;
}

void checkpoints_remove_all(const struct checkpoints *checkpoints) {
    checkpoint_remove_old(checkpoints->options.directory, 0);
}

void checkpoints_set_output(struct checkpoints *checkpoints, const char *text, size_t iterations) {
    checkpoints->output = memory_copy_string(text);
    checkpoints->earlier_iterations = iterations;
}

/* Until one is measured: by its size, on a slow disk. */
static void expect_duration(struct checkpoints *c, const struct stage *stage) {
    const double bytes_a_second = 5e7;
    const double bytes =
        3.0 * sizeof(float) * (double)stage->factors.size * (double)c->comms.stages.size;
    c->deadline.longest_checkpoint = fmax(c->deadline.longest_checkpoint, bytes / bytes_a_second);
}

bool checkpoints_restore(const struct trainer *trainer, const struct phase_state *phase,
                         struct problem *problem) {
    struct checkpoints *c = trainer->checkpoints;
    if (c != NULL)
        expect_duration(c, phase->stage);
    if (c == NULL || c->opened == NULL || c->place.phase != phase->phase)
        return true;
    struct json *root = read_json(c->opened, "state", problem);
    training_state_read(&c->comms.stages, phase->stage, c->opened, json_get(root, "training"),
                        phase->state, problem);
    if (phase->extension != NULL)
        phase->extension->read(phase->extension->context, c->opened, problem);
    if (root != NULL)
        json_destroy(&root);
    checkpoint_close(&c->opened);
    if (phase->state->step > phase->num_steps)
        problem_set(problem, EXIT_DATA, "%s: has %zu steps of the %s, which has only %zu now",
                    c->place.path, phase->state->step, phase_name(phase->phase), phase->num_steps);
    return comm_agree(&c->comms.world, problem);
}

/* ---- deciding ---- */

/* What rank 0's clock and files say. The file is looked for once a second. */
static int outer_reason(struct checkpoints *c) {
    const double now = MPI_Wtime();
    if (deadline_is_near(&c->deadline, now))
        return STOP_TIME;
    if (now - c->last_look < 1)
        return STOP_NOT;
    c->last_look = now;
    return file_exists(c->stop_path) ? STOP_FILE : STOP_NOT;
}

static int own_reason(struct checkpoints *c) {
    const int number = interrupt_signal();
    if (number != 0)
        return STOP_SIGNAL + number;
    return c->comms.world.mpi_rank == 0 ? outer_reason(c) : STOP_NOT;
}

static bool is_due(const struct checkpoints *c) {
    const struct checkpoints_options *options = &c->options;
    return (options->every > 0 && c->num_unsaved >= options->every) ||
           (options->every_seconds > 0 && MPI_Wtime() - c->last_save >= options->every_seconds);
}

struct decision checkpoints_decide(const struct trainer *trainer, bool wants_report) {
    struct checkpoints *c = trainer->checkpoints;
    int votes[3] = {wants_report, 0, 0}, agreed[3];
    if (trainer->progress != NULL && progress_is_due(trainer->progress))
        votes[0] = 1;
    if (c != NULL) {
        ++c->num_unsaved;
        votes[1] = c->comms.world.mpi_rank == 0 && is_due(c);
        votes[2] = c->stop != STOP_NOT ? c->stop : own_reason(c);
    }
    comm_reduce(&trainer->comms.world, votes, agreed, 3, MPI_INT, MPI_MAX);
    if (c != NULL)
        c->stop = agreed[2];
    const bool stops = agreed[2] != STOP_NOT;
    return (struct decision){agreed[0] != 0, agreed[1] != 0 || stops, stops};
}

bool checkpoints_interrupt(const struct trainer *trainer) {
    struct checkpoints *c = trainer->checkpoints;
    if (c == NULL)
        return false;
    const int vote = own_reason(c);
    comm_reduce(&c->comms.world, &vote, &c->stop, 1, MPI_INT, MPI_MAX);
    return c->stop != STOP_NOT;
}

bool checkpoints_is_stopping(const struct trainer *trainer) {
    return trainer->checkpoints != NULL && trainer->checkpoints->stop != STOP_NOT;
}

/* ---- writing ---- */

static struct json *describe(const struct trainer *trainer, const struct phase_state *phase,
                             struct json **training) {
    size_t rows[TRACE_NUM_TABLES] = {0};
    if (trainer->trace != NULL)
        trace_rows(trainer->trace, rows);
    struct json *root = json_create_object();
    json_add_string(root, "phase", phase_name(phase->phase));
    json_add_number(root, "seconds", progress_seconds(trainer->progress));
    struct json *table = json_add_object(root, "trace_rows");
    for (size_t i = 0; i < TRACE_NUM_TABLES; ++i)
        json_add_number(table, trace_table_name(i), (double)rows[i]);
    *training = json_add_object(root, "training");
    return root;
}

static void write_texts(const struct checkpoints *c, const struct json *state,
                        struct checkpoint_writer *writer, struct problem *problem) {
    char *text = json_print(state, false);
    checkpoint_write_text(writer, "input", c->options.input_text, problem);
    checkpoint_write_text(writer, "data", c->options.data_text, problem);
    checkpoint_write_text(writer, "provenance", c->options.provenance, problem);
    checkpoint_write_text(writer, "state", text, problem);
    if (c->output != NULL)
        checkpoint_write_text(writer, "output", c->output, problem);
    memory_free(text);
}

static bool write_one(const struct trainer *trainer, const struct phase_state *phase,
                      const char *path, struct problem *problem) {
    const struct checkpoints *c = trainer->checkpoints;
    struct checkpoint_writer *writer = NULL;
    struct json *state = NULL, *training = NULL;
    if (c->comms.world.mpi_rank == 0) {
        if (trainer->trace == NULL || trace_sync(trainer->trace, problem))
            writer = checkpoint_writer_create(path, problem);
        state = describe(trainer, phase, &training);
    }
    if (comms_is_original(&c->comms))
        training_state_write(&c->comms.stages, phase->stage, phase->state, writer, training,
                             problem);
    if (phase->extension != NULL && comms_is_original(&c->comms))
        phase->extension->write(phase->extension->context, writer, problem);
    if (writer != NULL)
        write_texts(c, state, writer, problem);
    if (state != NULL)
        json_destroy(&state);
    if (checkpoint_writer_finish(&writer, problem) && c->comms.world.mpi_rank == 0)
        checkpoint_remove_old(c->options.directory, c->options.keep);
    return comm_agree(&c->comms.world, problem);
}

static void report_stop(const struct checkpoints *c, const struct phase_state *phase,
                        const char *path, struct problem *problem) {
    const char *reason = c->stop == STOP_FILE   ? "the file \"stop\""
                         : c->stop == STOP_TIME ? "the end of the time (output.wall_time)"
                                                : interrupt_name(c->stop - STOP_SIGNAL);
    problem_set(problem, EXIT_RESUBMIT,
                "stopped by %s in phase %s after step %zu of %zu; go on from %s with --resume",
                reason, phase_name(phase->phase), phase->state->step, phase->num_steps, path);
    struct problem ignored = {0};
    if (c->comms.world.mpi_rank == 0 && c->stop == STOP_FILE)
        file_remove(c->options.directory, STOP_FILE_NAME, &ignored);
}

bool checkpoints_follow(const struct trainer *trainer, const struct phase_state *phase,
                        const struct decision *decision, struct problem *problem) {
    struct checkpoints *c = trainer->checkpoints;
    if (c == NULL || !decision->wants_checkpoint)
        return true;
    const double start = MPI_Wtime();
    char *path = checkpoint_path(c->options.directory, c->earlier_iterations + phase->state->step);
    bool is_good = write_one(trainer, phase, path, problem);
    c->last_save = MPI_Wtime();
    c->num_unsaved = 0;
    deadline_note_checkpoint(&c->deadline, start, c->last_save);
    if (is_good && decision->stops) {
        report_stop(c, phase, path, problem);
        is_good = false;
    }
    memory_free(path);
    return is_good;
}
