/* A finished run, written and read back. */
#include "saved_run.h"

#include "base/memory.h"
#include "io/checkpoint.h"
#include "io/file.h"
#include "io/json.h"
#include "results.h"
#include "train/factors.h"

#include <math.h>
#include <string.h>

static const char FILE_NAME[] = "checkpoint-final.h5", GROUP[] = "factors";

/* ---- writing ---- */

static struct json *describe_adapters(const struct job *job, const size_t *ranks,
                                      const float *scales) {
    struct json *root = json_create_object();
    for (size_t m = 0; m < job->num_modules; ++m) {
        struct json *adapter = json_add_object(root, job->module_names[m]);
        json_add_number(adapter, "rank", (double)ranks[m]);
        json_add_number(adapter, "scale", (double)scales[m]);
    }
    return root;
}

static struct json *describe_labels(const struct job *job) {
    struct json *root = json_create_object();
    struct json *names = json_add_array(root, "names");
    for (size_t l = 0; l < job->labels.count; ++l)
        json_add_string(names, NULL, job->labels.names[l]);
    return root;
}

/* The pretrained weights by their checksum; free with memory_free. */
static char *describe_weights(const struct job *job) {
    return job->weights == NULL ? memory_copy_string("none")
                                : memory_format("%08x", weights_checksum(job->weights));
}

/* Frees `root`. */
static void write_json(struct checkpoint_writer *writer, const char *name, struct json *root,
                       struct problem *problem) {
    char *text = json_print(root, false);
    checkpoint_write_text(writer, name, text, problem);
    memory_free(text);
    json_destroy(&root);
}

static void write_texts(const struct job *job, const size_t *ranks, const float *scales,
                        struct checkpoint_writer *writer, struct problem *problem) {
    checkpoint_write_text(writer, "input", job->input_text, problem);
    checkpoint_write_text(writer, "family", model_family_name(job->architecture.family), problem);
    char *weights = describe_weights(job);
    checkpoint_write_text(writer, "weights", weights, problem);
    memory_free(weights);
    write_json(writer, "adapters", describe_adapters(job, ranks, scales), problem);
    write_json(writer, "labels", describe_labels(job), problem);
    write_json(writer, "provenance", results_provenance(job), problem);
}

/* The ranks and scales [num_modules] of all stages' modules arrive on rank 0. */
static void gather_adapters(const struct job *job, const struct stage *stage, size_t *ranks,
                            float *scales) {
    size_t count = 0;
    size_t *own_ranks = memory_allocate(stage->num_modules, sizeof *ranks, "ranks");
    float *own_scales = memory_allocate(stage->num_modules, sizeof *scales, "scales");
    for (size_t b = 0; b < stage->options.num_blocks; ++b)
        for (int p = 0; p < NUM_PROJECTIONS; ++p) {
            const struct adapter *adapter = &stage->blocks[b].projections[p].adapter;
            if (!stage->options.adapters.is_target[p])
                continue;
            own_ranks[count] = adapter->rank;
            own_scales[count++] = adapter->scale;
        }
    comm_gather(&job->comms.stages, own_ranks, count, sizeof *ranks, ranks);
    comm_gather(&job->comms.stages, own_scales, count, sizeof *scales, scales);
    memory_free(own_ranks);
    memory_free(own_scales);
}

bool saved_run_write(const struct job *job, const struct stage *stage, const float *factors,
                     struct problem *problem) {
    size_t *ranks = memory_allocate(job->num_modules, sizeof *ranks, "ranks");
    float *scales = memory_allocate(job->num_modules, sizeof *scales, "scales");
    gather_adapters(job, stage, ranks, scales);
    struct checkpoint_writer *writer = NULL;
    if (job->comms.world.mpi_rank == 0) {
        char *path = file_join(job->output_dir, FILE_NAME);
        writer = checkpoint_writer_create(path, problem);
        memory_free(path);
    }
    if (writer != NULL)
        write_texts(job, ranks, scales, writer, problem);
    if (comms_is_original(&job->comms))
        factors_write(&job->comms.stages, &stage->factors, factors, writer, GROUP, problem);
    checkpoint_writer_finish(&writer, problem);
    memory_free(ranks);
    memory_free(scales);
    return comm_agree(&job->comms.world, problem);
}

/* ---- reading ---- */

/* A text of the checkpoint as JSON, or NULL and a problem. */
static struct json *read_json(const struct checkpoint *checkpoint, const char *name,
                              struct problem *problem) {
    char *text = checkpoint_text(checkpoint, name, problem);
    struct json *root =
        text == NULL ? NULL : json_parse(text, strlen(text), name, EXIT_DATA, problem);
    memory_free(text);
    return root;
}

static bool read_labels(const struct checkpoint *checkpoint, struct label_set *labels,
                        struct problem *problem) {
    struct json *root = read_json(checkpoint, "labels", problem);
    if (root == NULL)
        return false;
    const struct json *names = json_get(root, "names");
    bool is_good =
        names != NULL && json_type(names) == JSON_ARRAY && json_count(names) <= LABEL_SET_MAX;
    for (const struct json *name = is_good ? json_first(names) : NULL; name != NULL;
         name = json_next(name)) {
        is_good = is_good && json_type(name) == JSON_STRING;
        if (is_good)
            label_set_add(labels, json_string(name));
    }
    json_destroy(&root);
    return is_good ||
           problem_set(problem, EXIT_DATA, "%s: its labels are no list of names", FILE_NAME);
}

static bool read_adapter(const struct json *adapter, size_t *rank, float *scale) {
    const struct json *s = json_get(adapter, "scale");
    if (!json_size(json_get(adapter, "rank"), rank) || *rank > 65536 || s == NULL ||
        json_type(s) != JSON_NUMBER || !isfinite((float)json_number(s)))
        return false;
    *scale = (float)json_number(s);
    return true;
}

static bool read_adapters(struct saved_run *run, const struct checkpoint *checkpoint,
                          struct problem *problem) {
    const struct job *job = &run->job;
    struct json *root = read_json(checkpoint, "adapters", problem);
    if (root == NULL)
        return false;
    run->ranks = memory_allocate(job->num_modules, sizeof *run->ranks, "ranks");
    run->scales = memory_allocate(job->num_modules, sizeof *run->scales, "scales");
    bool is_good = json_count(root) == job->num_modules;
    for (size_t m = 0; m < job->num_modules && is_good; ++m)
        is_good =
            read_adapter(json_get(root, job->module_names[m]), &run->ranks[m], &run->scales[m]);
    json_destroy(&root);
    return is_good || problem_set(problem, EXIT_DATA,
                                  "%s: its adapters are not those of input.json's adapter.targets "
                                  "and model.path",
                                  FILE_NAME);
}

static bool check_family(const struct job *job, const struct checkpoint *checkpoint,
                         struct problem *problem) {
    const char *expected = model_family_name(job->architecture.family);
    char *family = checkpoint_text(checkpoint, "family", problem);
    if (family == NULL)
        return false;
    const bool is_good =
        strcmp(family, expected) == 0 ||
        problem_set(problem, EXIT_DATA, "%s: is of a \"%.40s\" model, input.json's is \"%s\"",
                    FILE_NAME, family, expected);
    memory_free(family);
    return is_good;
}

static bool check_weights(const struct job *job, const struct checkpoint *checkpoint,
                          struct problem *problem) {
    if (job->weights == NULL) /* not needed */
        return true;
    char *then = checkpoint_text(checkpoint, "weights", problem), *now = describe_weights(job);
    const bool is_good =
        then != NULL &&
        (strcmp(then, now) == 0 ||
         problem_set(problem, EXIT_DATA,
                     "%s: was trained on other weights than those of %s (CRC-32 %s, now %s)",
                     FILE_NAME, job->config.model.path, then, now));
    memory_free(then);
    memory_free(now);
    return is_good;
}

/* The parts that need the checkpoint, which every rank has open. */
static bool open_model(struct saved_run *run, MPI_Comm world, const char *directory,
                       enum job_purpose purpose, const struct checkpoint *checkpoint,
                       struct problem *problem) {
    const struct comm comm = comm_of(world);
    struct label_set labels = {0};
    read_labels(checkpoint, &labels, problem);
    char *input = file_join(directory, "input.json");
    bool is_good = comm_agree(&comm, problem) &&
                   job_open_finished(&run->job, world, input, purpose, &labels, problem);
    memory_free(input);
    label_set_free(&labels);
    if (!is_good)
        return false;
    if (check_family(&run->job, checkpoint, problem) &&
        check_weights(&run->job, checkpoint, problem))
        read_adapters(run, checkpoint, problem);
    if (!comm_agree(&comm, problem))
        return false;
    const struct stage_request request = {.ranks = run->ranks, .scales = run->scales};
    run->stage = job_create_stage(&run->job, &request, problem);
    if (run->stage == NULL)
        return false;
    run->factors = memory_allocate(run->stage->factors.size, sizeof(float), "factors");
    factors_read(&run->stage->factors, checkpoint, GROUP, run->factors, problem);
    return comm_agree(&comm, problem);
}

bool saved_run_open(struct saved_run *run, MPI_Comm world, const char *directory,
                    enum job_purpose purpose, struct problem *problem) {
    *run = (struct saved_run){0};
    const struct comm comm = comm_of(world);
    char *path = file_join(directory, FILE_NAME);
    struct checkpoint *checkpoint = checkpoint_open(path, problem);
    memory_free(path);
    const bool is_good = comm_agree(&comm, problem) &&
                         open_model(run, world, directory, purpose, checkpoint, problem);
    checkpoint_close(&checkpoint);
    return is_good;
}

void saved_run_close(struct saved_run *run) {
    stage_destroy(&run->stage);
    memory_free(run->factors);
    memory_free(run->scales);
    memory_free(run->ranks);
    job_close(&run->job);
}
