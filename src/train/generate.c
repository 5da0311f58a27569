/* The last stage keeps the beams and tells the others, step by step, which texts go on with which
 * tokens. All stages go through the groups in the same order, so messages need no further order. */
#include "train/generate.h"

#include "base/memory.h"
#include "math/kernels.h"
#include "model/decoder.h"
#include "model/lm_head.h"

#include <string.h>

/* Prompts that are worked on together. */
struct group {
    struct decoder *decoder;
    size_t first, num_prompts; /* contexts */
    struct decoder_rows rows;  /* of the step to come; count 0: the group is done */
    bool is_going;
    size_t *texts, *parents;       /* [texts] */
    int32_t *tokens;               /* [texts] */
    int32_t *message;              /* [1 + 3 texts] */
    struct beam_search **searches; /* [num_prompts], last stage */
    MPI_Request *requests;         /* [ranks] */
};

struct generation {
    const struct comms *comms;
    const struct comm *comm; /* the stages */
    const struct stage *stage;
    const struct point *point;
    const struct generation_options *options;
    const struct lm_references *references;
    struct capacity capacity; /* of the prompts of a group */
    size_t num_texts;         /* of a group */
    struct slot *slot;
    struct workspace *workspace;
    struct microbatch prompts;
    size_t *offsets, *pair_offsets, *sequence_numbers;
    int32_t *token_ids, *type_ids, *labels;
    uint32_t *samples;
    float *x, *room, *logits; /* [texts, hidden], 2 of these, [texts, vocabulary] */
    struct group *groups;     /* [stages] */
    size_t num_groups;
    int32_t **texts; /* [contexts] last stage: number, tokens; NULL: of another replica */
};

static bool is_last(const struct generation *g) {
    return g->comm->mpi_rank == g->comm->size - 1;
}

static size_t hidden_size(const struct generation *g) {
    return g->stage->options.architecture.hidden_size;
}

static size_t vocabulary_size(const struct generation *g) {
    return g->stage->options.architecture.vocabulary_size;
}

static size_t context_length(const struct lm_references *references, size_t context) {
    return references->context_offsets[context + 1] - references->context_offsets[context];
}

static size_t longest_context(const struct lm_references *references) {
    size_t longest = 0;
    for (size_t i = 0; i < references->count; ++i)
        longest = context_length(references, i) > longest ? context_length(references, i) : longest;
    return longest;
}

/* No request is under way at first. */
static MPI_Request *no_requests(int count) {
    MPI_Request *requests = memory_allocate((size_t)count, sizeof *requests, "requests");
    for (int r = 0; r < count; ++r)
        requests[r] = MPI_REQUEST_NULL;
    return requests;
}

static struct group group_create(const struct generation *g) {
    const struct decoder_options options = {
        .num_prompts = g->options->prompts_at_once,
        .num_beams = g->options->beam.num_beams,
        .prompt_tokens = g->capacity.tokens,
        .max_new_tokens = g->options->beam.max_new_tokens,
    };
    const size_t texts = g->num_texts;
    return (struct group){
        .decoder = decoder_create(g->stage, &options),
        .texts = memory_allocate(texts, sizeof(size_t), "a group of prompts"),
        .parents = memory_allocate(texts, sizeof(size_t), "a group of prompts"),
        .tokens = memory_allocate(texts, sizeof(int32_t), "a group of prompts"),
        .message = memory_allocate(1 + 3 * texts, sizeof(int32_t), "a group of prompts"),
        .searches = memory_allocate(options.num_prompts, sizeof(struct beam_search *), "beams"),
        .requests = no_requests(g->comm->size),
    };
}

static void group_destroy(struct group *group) {
    decoder_destroy(&group->decoder);
    memory_free(group->texts);
    memory_free(group->parents);
    memory_free(group->tokens);
    memory_free(group->message);
    memory_free(group->searches);
    memory_free(group->requests);
}

static void open_prompts(struct generation *g) {
    const size_t prompts = g->options->prompts_at_once, tokens = g->capacity.tokens;
    g->offsets = memory_allocate(prompts + 1, sizeof(size_t), "prompts");
    g->pair_offsets = memory_allocate(prompts + 1, sizeof(size_t), "prompts");
    g->sequence_numbers = memory_allocate(prompts + 1, sizeof(size_t), "prompts");
    g->samples = memory_allocate(prompts, sizeof(uint32_t), "prompts");
    g->token_ids = memory_allocate(tokens, sizeof(int32_t), "prompts");
    g->type_ids = memory_allocate(tokens, sizeof(int32_t), "prompts");
    g->labels = memory_allocate(tokens, sizeof(int32_t), "prompts");
    for (size_t i = 0; i <= prompts; ++i)
        g->sequence_numbers[i] = i;
    for (size_t i = 0; i < tokens; ++i)
        g->labels[i] = -1; /* no loss */
}

static void generation_open(struct generation *g) {
    const size_t prompts = g->options->prompts_at_once, longest = longest_context(g->references);
    g->capacity =
        (struct capacity){prompts * longest, prompts, longest, prompts * longest * longest};
    g->num_texts = prompts * g->options->beam.num_beams;
    g->slot = slot_create(g->stage, &g->capacity, false);
    g->workspace = workspace_create(g->stage, &g->capacity, g->options->num_threads);
    open_prompts(g);
    g->x = memory_allocate(g->num_texts * hidden_size(g), sizeof(float), "hidden states");
    if (is_last(g)) {
        g->room = memory_allocate(2 * g->num_texts * hidden_size(g), sizeof(float), "room");
        g->logits = memory_allocate(g->num_texts * vocabulary_size(g), sizeof(float), "logits");
        g->texts = memory_allocate(g->references->count, sizeof *g->texts, "texts");
    }
    g->num_groups = (size_t)g->comm->size;
    g->groups = memory_allocate(g->num_groups, sizeof *g->groups, "groups of prompts");
    for (size_t i = 0; i < g->num_groups; ++i)
        g->groups[i] = group_create(g);
}

static void generation_close(struct generation *g) {
    for (size_t i = 0; i < g->num_groups; ++i)
        group_destroy(&g->groups[i]);
    memory_free(g->groups);
    slot_destroy(&g->slot);
    workspace_destroy(&g->workspace);
    memory_free(g->offsets);
    memory_free(g->pair_offsets);
    memory_free(g->sequence_numbers);
    memory_free(g->samples);
    memory_free(g->token_ids);
    memory_free(g->type_ids);
    memory_free(g->labels);
    memory_free(g->x);
    memory_free(g->room);
    memory_free(g->logits);
    for (size_t i = 0; g->texts != NULL && i < g->references->count; ++i)
        memory_free(g->texts[i]);
    memory_free(g->texts);
}

static void receive_floats(const struct generation *g, float *values, size_t count) {
    if (g->comm->mpi_rank > 0)
        MPI_Recv(values, comm_count(count), MPI_FLOAT, g->comm->mpi_rank - 1, TAG_DOWN,
                 g->comm->handle, MPI_STATUS_IGNORE);
}

static void send_floats(const struct generation *g, const float *values, size_t count) {
    if (!is_last(g))
        MPI_Send(values, comm_count(count), MPI_FLOAT, g->comm->mpi_rank + 1, TAG_DOWN,
                 g->comm->handle);
}

static void compute_log_probabilities(struct generation *g, size_t rows) {
    lm_head_logits(&g->stage->task_head, g->point, g->x, rows, g->room, g->logits);
    log_softmax(rows, vocabulary_size(g), g->logits);
}

/* The text without its end token. */
static void keep_text(struct generation *g, size_t context, const struct beam_search *search) {
    size_t count;
    const int32_t *tokens = beam_search_best(search, &count);
    const struct beam_options *beam = &g->options->beam;
    for (size_t i = 0; count > 0 && i < beam->num_end_tokens; ++i)
        if (tokens[count - 1] == beam->end_tokens[i]) {
            --count;
            break;
        }
    int32_t *text = memory_allocate(count + 1, sizeof *text, "a text");
    text[0] = (int32_t)count;
    if (count > 0)
        memcpy(text + 1, tokens, count * sizeof *tokens);
    FAULT_UNLESS(g->texts != NULL, "a text ends on the last stage");
    g->texts[context] = text;
}

/* Takes a step of each search that is under way; the rows of those that go on are what comes next.
 * logits: a row for each row so far; in the first step, one a prompt. */
static void choose_rows(struct generation *g, struct group *group, bool is_start) {
    const size_t beams = g->options->beam.num_beams;
    size_t row = 0, count = 0;
    for (size_t p = 0; p < group->num_prompts; ++p) {
        struct beam_search *search = group->searches[p];
        if (search == NULL)
            continue;
        const float *log_probabilities = g->logits + row * vocabulary_size(g);
        row += is_start ? 1 : beam_search_num_alive(search);
        if (!beam_search_step(search, log_probabilities)) {
            keep_text(g, group->first + p, search);
            beam_search_destroy(&group->searches[p]);
            continue;
        }
        for (size_t b = 0; b < beam_search_num_alive(search); ++b) {
            group->texts[count] = p * beams + b;
            group->parents[count] = p * beams + beam_search_parents(search)[b];
            group->tokens[count++] = beam_search_tokens(search)[b];
        }
    }
    group->rows = (struct decoder_rows){count, group->texts, group->parents, group->tokens};
}

/* The last stage tells the others what comes next. */
static void announce(const struct generation *g, struct group *group) {
    const int others = g->comm->size - 1;
    MPI_Waitall(others, group->requests, MPI_STATUSES_IGNORE);
    const size_t count = group->rows.count;
    group->message[0] = (int32_t)count;
    for (size_t r = 0; r < count; ++r) {
        group->message[1 + r] = (int32_t)group->texts[r];
        group->message[1 + count + r] = (int32_t)group->parents[r];
        group->message[1 + 2 * count + r] = group->tokens[r];
    }
    for (int rank = 0; rank < others; ++rank)
        MPI_Isend(group->message, comm_count(1 + 3 * count), MPI_INT32_T, rank, TAG_ROWS,
                  g->comm->handle, &group->requests[rank]);
}

static void listen(const struct generation *g, struct group *group) {
    MPI_Recv(group->message, comm_count(1 + 3 * g->num_texts), MPI_INT32_T, g->comm->size - 1,
             TAG_ROWS, g->comm->handle, MPI_STATUS_IGNORE);
    const size_t count = (size_t)group->message[0];
    for (size_t r = 0; r < count; ++r) {
        group->texts[r] = (size_t)group->message[1 + r];
        group->parents[r] = (size_t)group->message[1 + count + r];
        group->tokens[r] = group->message[1 + 2 * count + r];
    }
    group->rows = (struct decoder_rows){count, group->texts, group->parents, group->tokens};
}

static void fill_prompts(struct generation *g, const struct group *group) {
    g->prompts = (struct microbatch){
        .num_sequences = group->num_prompts,
        .offsets = g->offsets,
        .pair_offsets = g->pair_offsets,
        .sequence_numbers = g->sequence_numbers,
        .samples = g->samples,
        .token_ids = g->token_ids,
        .type_ids = g->type_ids,
        .labels = g->labels,
    };
    for (size_t p = 0; p < group->num_prompts; ++p) {
        const size_t context = group->first + p, length = context_length(g->references, context);
        memcpy(g->token_ids + g->offsets[p],
               g->references->context_ids + g->references->context_offsets[context],
               length * sizeof(int32_t));
        g->offsets[p + 1] = g->offsets[p] + length;
        g->pair_offsets[p + 1] = g->pair_offsets[p] + length * length;
        if (length > g->prompts.longest)
            g->prompts.longest = length;
    }
    g->prompts.num_tokens = g->offsets[group->num_prompts];
}

static void start_searches(struct generation *g, struct group *group) {
    struct beam_options beam = g->options->beam;
    beam.vocabulary_size = vocabulary_size(g);
    const size_t width = hidden_size(g);
    for (size_t p = 0; p < group->num_prompts; ++p) {
        group->searches[p] = beam_search_create(&beam, NULL, 0);
        memcpy(g->x + p * width, slot_output(g->slot) + (g->offsets[p + 1] - 1) * width,
               width * sizeof *g->x);
    }
    compute_log_probabilities(g, group->num_prompts);
    choose_rows(g, group, true);
    announce(g, group);
}

/* The prompts through the stages. */
static void start_group(struct generation *g, struct group *group) {
    fill_prompts(g, group);
    const size_t floats = g->prompts.num_tokens * hidden_size(g);
    receive_floats(g, slot_input(g->slot), floats);
    stage_forward(g->stage, g->point, &g->prompts, false, g->slot, g->workspace);
    send_floats(g, slot_output(g->slot), floats);
    decoder_start(group->decoder, &g->prompts, g->slot);
    if (is_last(g))
        start_searches(g, group);
}

/* One token of each text. Returns whether the group goes on. */
static bool step_group(struct generation *g, struct group *group) {
    if (!is_last(g))
        listen(g, group);
    const size_t count = group->rows.count;
    if (count == 0)
        return false;
    receive_floats(g, g->x, count * hidden_size(g));
    decoder_step(group->decoder, g->point, &group->rows, g->x);
    send_floats(g, g->x, count * hidden_size(g));
    if (is_last(g)) {
        compute_log_probabilities(g, count);
        choose_rows(g, group, false);
        announce(g, group);
    }
    return true;
}

/* The groups `next`, `next` + replicas, ... of the contexts are this replica's. */
static size_t start_wave(struct generation *g, size_t *next) {
    const size_t contexts = g->references->count, most = g->options->prompts_at_once;
    size_t count = 0;
    for (; count < g->num_groups && *next * most < contexts; ++count) {
        struct group *group = &g->groups[count];
        group->first = *next * most;
        const size_t left = contexts - group->first;
        group->num_prompts = left < most ? left : most;
        group->is_going = true;
        *next += (size_t)g->comms->replicas.size;
        start_group(g, group);
    }
    return count;
}

/* As many groups as stages at once. False where none is left. */
static bool run_wave(struct generation *g, size_t *next) {
    const size_t count = start_wave(g, next);
    bool goes_on = true;
    while (goes_on) {
        goes_on = false;
        for (size_t i = 0; i < count; ++i) {
            struct group *group = &g->groups[i];
            activity_microbatch(g->comm->activity, i);
            group->is_going = group->is_going && step_group(g, group);
            goes_on = goes_on || group->is_going;
        }
    }
    for (size_t i = 0; i < count; ++i)
        MPI_Waitall(g->comm->size, g->groups[i].requests, MPI_STATUSES_IGNORE);
    return count > 0;
}

/* The replica's texts as one block of numbers: context, number of tokens, tokens. */
static char *pack_texts(const struct generation *g, size_t *size) {
    const size_t contexts = g->references->count;
    *size = 0;
    for (size_t i = 0; i < contexts; ++i)
        if (g->texts[i] != NULL)
            *size += ((size_t)g->texts[i][0] + 2) * sizeof(int32_t);
    char *bytes = memory_allocate(*size, 1, "texts"), *at = bytes;
    for (size_t i = 0; i < contexts; ++i) {
        if (g->texts[i] == NULL)
            continue;
        const int32_t context = (int32_t)i;
        const size_t part = ((size_t)g->texts[i][0] + 1) * sizeof(int32_t);
        memcpy(at, &context, sizeof context);
        memcpy(at + sizeof context, g->texts[i], part);
        at += sizeof context + part;
    }
    return bytes;
}

/* Rank 0: texts [contexts] of a block, borrowed from it. */
static void unpack_texts(const char *bytes, size_t size, const char **texts) {
    for (size_t at = 0; at < size;) {
        int32_t context, length;
        memcpy(&context, bytes + at, sizeof context);
        at += sizeof context;
        memcpy(&length, bytes + at, sizeof length);
        texts[context] = bytes + at;
        at += ((size_t)length + 1) * sizeof(int32_t);
    }
}

static struct generated join_texts(const char *const *texts, size_t count, size_t num_tokens) {
    struct generated generated = {
        .count = count,
        .num_tokens = num_tokens,
        .offsets = memory_allocate(count + 1, sizeof(size_t), "texts"),
        .tokens = memory_allocate(num_tokens, sizeof(int32_t), "texts"),
    };
    for (size_t i = 0; i < count; ++i) {
        int32_t length;
        memcpy(&length, texts[i], sizeof length);
        memcpy(generated.tokens + generated.offsets[i], texts[i] + sizeof length,
               (size_t)length * sizeof(int32_t));
        generated.offsets[i + 1] = generated.offsets[i] + (size_t)length;
    }
    return generated;
}

/* From the last stages over the first ones to rank 0. */
static void collect_texts(const struct generation *g, struct generated *generated) {
    const struct comm *replicas = &g->comms->replicas;
    const size_t contexts = g->references->count, ranks = (size_t)replicas->size;
    char **blocks = memory_allocate(ranks, sizeof *blocks, "texts");
    const char **texts = memory_allocate(contexts, sizeof *texts, "texts");
    size_t size = 0, all = 0;
    char *own = is_last(g) ? pack_texts(g, &size) : NULL;
    comm_fetch_block(g->comm, g->comm->size - 1, &own, &size);
    for (int r = 0; g->comm->mpi_rank == 0 && r < replicas->size; ++r) {
        size_t bytes = size;
        blocks[r] = r == replicas->mpi_rank ? own : NULL;
        comm_fetch_block(replicas, r, &blocks[r], &bytes);
        if (replicas->mpi_rank == 0)
            unpack_texts(blocks[r], bytes, texts);
        all += bytes / sizeof(int32_t);
    }
    if (g->comm->mpi_rank == 0 && replicas->mpi_rank == 0)
        *generated = join_texts(texts, contexts, all - 2 * contexts);
    for (size_t r = 0; r < ranks; ++r)
        if (blocks[r] != own)
            memory_free(blocks[r]);
    memory_free(own);
    memory_free(blocks);
    memory_free(texts);
}

bool generate_check(const struct architecture *architecture, const struct beam_options *beam,
                    const struct lm_references *references, struct problem *problem) {
    const size_t positions = architecture_longest(architecture);
    const size_t longest = longest_context(references);
    if (longest + beam->max_new_tokens <= positions)
        return true;
    return problem_set(problem, EXIT_DATA,
                       "generation: the longest context has %zu tokens; with task.max_new_tokens "
                       "%zu more it exceeds the model's %zu positions",
                       longest, beam->max_new_tokens, positions);
}

void generated_free(struct generated *generated) {
    memory_free(generated->offsets);
    memory_free(generated->tokens);
    *generated = (struct generated){0};
}

void generate_rehearse(const struct comms *comms, const struct stage *stage,
                       const struct generation_options *options,
                       const struct lm_references *references, void (*look)(void *context),
                       void *context) {
    struct generation g = {.comms = comms,
                           .comm = &comms->stages,
                           .stage = stage,
                           .options = options,
                           .references = references};
    generation_open(&g);
    look(context);
    generation_close(&g);
}

bool generate_texts(const struct comms *comms, const struct stage *stage, const struct point *point,
                    const struct generation_options *options,
                    const struct lm_references *references, struct generated *generated,
                    struct problem *problem) {
    *generated = (struct generated){0};
    struct generation g = {
        .comms = comms,
        .comm = &comms->stages,
        .stage = stage,
        .point = point,
        .options = options,
        .references = references,
    };
    if (!generate_check(&stage->options.architecture, &options->beam, references, problem))
        return false;
    generation_open(&g);
    for (size_t next = (size_t)comms->replicas.mpi_rank; run_wave(&g, &next);)
        continue;
    collect_texts(&g, generated);
    generation_close(&g);
    return true;
}
