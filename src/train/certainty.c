/* How sure ranks are: resampling of the last part of a trace. One rank's work; what it finds
 * follows from the trace and the seed alone, so that it is the same for every decomposition and
 * after every resume. */
#include "train/certainty.h"

#include "base/memory.h"
#include "base/random.h"
#include "io/json.h"
#include "io/trace.h"
#include "train/importance.h"

#include <math.h>
#include <string.h>

enum { LEAST_ROWS = 3, USUAL_ROWS = 16, MOST_ROWS = 1024, MOST_VALUES = 1 << 23 };
static const double TAIL = 0.05; /* on either side of an interval */

/* ---- intervals ---- */

/* counts [modules, components + 1]: how often each rank came. */
static size_t *create_counts(const struct budget *budget) {
    return memory_allocate(budget->num_modules * (budget->num_components + 1), sizeof(size_t),
                           "counts of ranks");
}

static void count_rank(const struct budget *budget, size_t module, size_t rank, size_t *counts) {
    const size_t most = budget->num_components;
    ++counts[module * (most + 1) + (rank < most ? rank : most)];
}

/* The rank at place round(share * (number - 1)) of all in order. */
static size_t quantile(const size_t *counts, size_t number, double share) {
    const size_t place = (size_t)lround(share * (double)(number - 1));
    size_t rank = 0;
    for (size_t seen = counts[0]; seen <= place; seen += counts[rank])
        ++rank;
    return rank;
}

static void find_intervals(const struct budget *budget, const size_t *counts, size_t number,
                           const size_t *chosen, struct rank_interval *intervals) {
    for (size_t m = 0; m < budget->num_modules; ++m) {
        const size_t *own = counts + m * (budget->num_components + 1);
        const size_t low = quantile(own, number, TAIL), high = quantile(own, number, 1 - TAIL);
        intervals[m] = (struct rank_interval){
            .low = low < chosen[m] ? low : chosen[m],
            .high = high > chosen[m] ? high : chosen[m],
            .changed = (double)(number - own[chosen[m]]) / (double)number,
        };
    }
}

void certainty_count(const struct certainty_rule *rule, const int32_t *ranks, size_t num_rows,
                     const size_t *chosen, struct rank_interval *intervals) {
    const struct budget *budget = rule->budget;
    size_t *counts = create_counts(budget);
    for (size_t i = 0; i < num_rows * budget->num_modules; ++i)
        count_rank(budget, i % budget->num_modules, ranks[i] > 0 ? (size_t)ranks[i] : 0, counts);
    find_intervals(budget, counts, num_rows, chosen, intervals);
    memory_free(counts);
}

static size_t block_length_of(size_t num_increments) {
    return (size_t)fmax(1, round(cbrt((double)num_increments)));
}

/* Where the logits end, [size], if the increments come in other blocks. */
static void draw_end(const struct random_stream *stream, const float *logits, size_t num_rows,
                     size_t size, double *end) {
    const size_t increments = num_rows - 1, length = block_length_of(increments);
    for (size_t i = 0; i < size; ++i)
        end[i] = logits[i];
    for (size_t done = 0, block = 0; done < increments; done += length, ++block) {
        const size_t first =
            (size_t)random_below(stream, block, (uint64_t)(increments - length + 1));
        const size_t taken = increments - done < length ? increments - done : length;
        const float *from = logits + first * size, *to = from + taken * size;
        for (size_t i = 0; i < size; ++i)
            end[i] += (double)to[i] - from[i];
    }
}

/* What a resample needs: one allocation of each. */
struct draw {
    double *end;
    float *logits, *selection, *shares; /* [modules, components] */
    size_t *ranks;                      /* [modules] */
};

static struct draw draw_create(size_t num_modules, size_t size) {
    return (struct draw){
        .end = memory_allocate(size, sizeof(double), "a resample"),
        .logits = memory_allocate(size, sizeof(float), "a resample"),
        .selection = memory_allocate(size, sizeof(float), "a resample"),
        .shares = memory_allocate(size, sizeof(float), "a resample"),
        .ranks = memory_allocate(num_modules, sizeof(size_t), "a resample"),
    };
}

static void draw_free(struct draw *draw) {
    memory_free(draw->end);
    memory_free(draw->logits);
    memory_free(draw->selection);
    memory_free(draw->shares);
    memory_free(draw->ranks);
}

/* The ranks at draw->end. */
static void choose(const struct certainty_rule *rule, struct draw *draw) {
    const size_t modules = rule->budget->num_modules, k = rule->budget->num_components;
    for (size_t i = 0; i < modules * k; ++i)
        draw->logits[i] = (float)draw->end[i];
    selection_forward(rule->constraint, draw->logits, modules, k, draw->selection);
    selection_shares(rule->threshold, draw->logits, draw->selection, modules, k, draw->shares);
    selection_ranks(rule->threshold, draw->logits, draw->selection, modules, k, draw->ranks);
    budget_apply(rule->budget, draw->shares, draw->ranks);
}

void certainty_resample(const struct certainty_rule *rule, const float *logits, size_t num_rows,
                        const size_t *chosen, struct rank_interval *intervals) {
    const struct budget *budget = rule->budget;
    const size_t modules = budget->num_modules, size = modules * budget->num_components;
    size_t *counts = create_counts(budget);
    struct draw draw = draw_create(modules, size);
    for (size_t i = 0; i < CERTAINTY_RESAMPLES; ++i) {
        const struct random_stream stream =
            random_stream_make(rule->seed, RANDOM_RESAMPLE, 0, i, 0);
        draw_end(&stream, logits, num_rows, size, draw.end);
        choose(rule, &draw);
        for (size_t m = 0; m < modules; ++m)
            count_rank(budget, m, draw.ranks[m], counts);
    }
    find_intervals(budget, counts, CERTAINTY_RESAMPLES, chosen, intervals);
    draw_free(&draw);
    memory_free(counts);
}

/* ---- the trace ---- */

static size_t quarter_of(size_t num_rows) {
    return (num_rows + 3) / 4;
}

/* Which rows are read: every stride-th, the last among them. */
static size_t last_part(const struct budget *budget, size_t num_rows, struct certainty *certainty) {
    const size_t size = budget->num_modules * budget->num_components;
    const size_t usual = num_rows < USUAL_ROWS ? num_rows : USUAL_ROWS;
    const size_t rows = quarter_of(num_rows) > usual ? quarter_of(num_rows) : usual;
    const size_t fitting = size > 0 ? MOST_VALUES / size : MOST_ROWS;
    const size_t most = fitting > MOST_ROWS    ? MOST_ROWS
                        : fitting < LEAST_ROWS ? LEAST_ROWS
                                               : fitting;
    certainty->stride = (rows + most - 1) / most;
    certainty->num_rows = (rows - 1) / certainty->stride + 1;
    return num_rows - 1 - (certainty->num_rows - 1) * certainty->stride;
}

static bool are_finite(const float *values, size_t count, struct problem *problem) {
    for (size_t i = 0; i < count; ++i)
        if (!isfinite(values[i]))
            return problem_set(problem, EXIT_DATA,
                               "trace.h5: a value read back from /search is not finite: the file "
                               "was damaged since it was written");
    return true;
}

static bool read_floats(struct trace *trace, enum trace_search_column column, size_t first,
                        size_t stride, size_t num_rows, size_t row_size, float *values,
                        struct problem *problem) {
    return trace_read_search(trace, column, first, stride, num_rows, values, problem) &&
           are_finite(values, num_rows * row_size, problem);
}

static bool read_logits(const struct certainty_rule *rule, struct trace *trace, size_t first,
                        const size_t *chosen, struct certainty *certainty,
                        struct problem *problem) {
    const size_t size = rule->budget->num_modules * rule->budget->num_components;
    float *logits = memory_allocate(certainty->num_rows * size, sizeof *logits, "logits");
    const bool is_good = read_floats(trace, TRACE_LOGITS, first, certainty->stride,
                                     certainty->num_rows, size, logits, problem);
    if (is_good)
        certainty_resample(rule, logits, certainty->num_rows, chosen, certainty->intervals);
    certainty->block_length = block_length_of(certainty->num_rows - 1);
    memory_free(logits);
    return is_good;
}

static bool read_ranks(const struct certainty_rule *rule, struct trace *trace, size_t first,
                       const size_t *chosen, struct certainty *certainty, struct problem *problem) {
    int32_t *ranks = memory_allocate(certainty->num_rows * rule->budget->num_modules, sizeof *ranks,
                                     "ranks of the trace");
    const bool is_good = trace_read_search(trace, TRACE_RANKS, first, certainty->stride,
                                           certainty->num_rows, ranks, problem);
    if (is_good)
        certainty_count(rule, ranks, certainty->num_rows, chosen, certainty->intervals);
    memory_free(ranks);
    return is_good;
}

static double mean_distance(const float *left, const float *right, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i)
        sum += fabs((double)left[i] - right[i]);
    return count > 0 ? sum / (double)count : 0;
}

/* q before the search. */
static void first_selection(const struct certainty_rule *rule, float *logits, float *selection) {
    const size_t modules = rule->budget->num_modules, k = rule->budget->num_components;
    for (size_t i = 0; i < modules * k; ++i)
        logits[i] = (float)rule->first_logit;
    selection_forward(rule->constraint, logits, modules, k, selection);
}

static bool read_movement(const struct certainty_rule *rule, struct trace *trace, size_t num_rows,
                          struct certainty *certainty, struct problem *problem) {
    const size_t size = rule->budget->num_modules * rule->budget->num_components;
    const size_t before = num_rows - quarter_of(num_rows);
    float *start = memory_allocate(size, sizeof *start, "selection variables");
    float *end = memory_allocate(size, sizeof *end, "selection variables");
    float *late = memory_allocate(size, sizeof *late, "selection variables");
    first_selection(rule, end, start);
    memcpy(late, start, size * sizeof *late);
    const bool is_good =
        read_floats(trace, TRACE_SELECTION, num_rows - 1, 1, 1, size, end, problem) &&
        (before == 0 || read_floats(trace, TRACE_SELECTION, before - 1, 1, 1, size, late, problem));
    certainty->movement = mean_distance(end, start, size);
    certainty->late_movement = mean_distance(end, late, size);
    memory_free(start);
    memory_free(end);
    memory_free(late);
    return is_good;
}

bool certainty_read(const struct certainty_rule *rule, struct trace *trace, const size_t *chosen,
                    struct certainty *certainty, struct problem *problem) {
    const size_t num_rows = trace_num_search_rows(trace);
    *certainty = (struct certainty){.num_modules = rule->budget->num_modules};
    if (num_rows < LEAST_ROWS)
        return true;
    const size_t first = last_part(rule->budget, num_rows, certainty);
    certainty->intervals =
        memory_allocate(certainty->num_modules, sizeof *certainty->intervals, "intervals of ranks");
    return read_movement(rule, trace, num_rows, certainty, problem) &&
           (!importance_is_wanted(rule->threshold)
                ? read_logits(rule, trace, first, chosen, certainty, problem)
                : read_ranks(rule, trace, first, chosen, certainty, problem));
}

void certainty_free(struct certainty *certainty) {
    memory_free(certainty->intervals);
    *certainty = (struct certainty){0};
}

void certainty_share(const struct comm *comm, size_t num_modules, struct certainty *certainty) {
    struct rank_interval *own = certainty->intervals;
    bool is_known = own != NULL;
    comm_broadcast(comm, 0, &is_known, sizeof is_known);
    comm_broadcast(comm, 0, certainty, sizeof *certainty);
    certainty->num_modules = num_modules;
    certainty->intervals = own;
    if (is_known && own == NULL)
        certainty->intervals = memory_allocate(num_modules, sizeof *own, "intervals of ranks");
    if (is_known)
        comm_broadcast(comm, 0, certainty->intervals, num_modules * sizeof *own);
}

/* ---- what is told of it ---- */

size_t certainty_num_certain(const struct certainty *certainty) {
    size_t count = 0;
    for (size_t m = 0; certainty->intervals != NULL && m < certainty->num_modules; ++m)
        count += certainty->intervals[m].low == certainty->intervals[m].high;
    return count;
}

size_t certainty_num_undecided(const struct certainty *certainty) {
    size_t count = 0;
    for (size_t m = 0; certainty->intervals != NULL && m < certainty->num_modules; ++m)
        count += certainty->intervals[m].changed > 0.5;
    return count;
}

double certainty_late_share(const struct certainty *certainty) {
    return certainty->movement > 0 ? certainty->late_movement / certainty->movement : (double)NAN;
}

void certainty_write(const struct certainty *certainty, struct json *parent) {
    json_add_number(parent, "rows", (double)certainty->num_rows);
    json_add_number(parent, "stride", (double)certainty->stride);
    json_add_number(parent, "block_length", (double)certainty->block_length);
    json_add_number(parent, "movement", certainty->movement);
    json_add_number(parent, "movement_last_quarter", certainty->late_movement);
    struct json *intervals = json_add_array(parent, "intervals");
    for (size_t m = 0; m < certainty->num_modules; ++m) {
        const struct rank_interval *interval = &certainty->intervals[m];
        struct json *part = json_add_array(intervals, NULL);
        json_add_number(part, NULL, (double)interval->low);
        json_add_number(part, NULL, (double)interval->high);
        json_add_number(part, NULL, interval->changed);
    }
}

/* [low, high, changed] */
static bool parse_interval(const struct json *node, struct rank_interval *interval) {
    if (json_count(node) != 3)
        return false;
    const struct json *low = json_first(node), *high = json_next(low), *changed = json_next(high);
    if (!json_size(low, &interval->low) || !json_size(high, &interval->high) ||
        json_type(changed) != JSON_NUMBER)
        return false;
    interval->changed = json_number(changed);
    return interval->low <= interval->high && interval->high <= 65536 && interval->changed >= 0 &&
           interval->changed <= 1;
}

static bool parse_number(const struct json *parent, const char *name, double *value) {
    const struct json *node = json_get(parent, name);
    *value = node != NULL && json_type(node) == JSON_NUMBER ? json_number(node) : (double)NAN;
    return isfinite(*value);
}

static bool parse_all(const struct json *parent, struct certainty *certainty) {
    const struct json *intervals = json_get(parent, "intervals");
    bool is_good = json_size(json_get(parent, "rows"), &certainty->num_rows) &&
                   json_size(json_get(parent, "stride"), &certainty->stride) &&
                   json_size(json_get(parent, "block_length"), &certainty->block_length) &&
                   parse_number(parent, "movement", &certainty->movement) &&
                   parse_number(parent, "movement_last_quarter", &certainty->late_movement) &&
                   intervals != NULL && json_count(intervals) == certainty->num_modules;
    size_t m = 0;
    for (const struct json *node = is_good ? json_first(intervals) : NULL; is_good && node != NULL;
         node = json_next(node))
        is_good = parse_interval(node, &certainty->intervals[m++]);
    return is_good;
}

bool certainty_parse(const struct json *parent, size_t num_modules, struct certainty *certainty) {
    *certainty = (struct certainty){
        .num_modules = num_modules,
        .intervals =
            memory_allocate(num_modules, sizeof *certainty->intervals, "intervals of ranks"),
    };
    const bool is_good = parse_all(parent, certainty);
    if (!is_good)
        certainty_free(certainty);
    return is_good;
}
