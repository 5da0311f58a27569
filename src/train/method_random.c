/* Random ranks at a given total: the control of what a search finds.
 *
 * Drawn by rejection: the ranks are drawn one by one with weights w^rank, and the vector is taken
 * if its total is the wanted one. All vectors of one total have the same weight, w^total, so that
 * those taken are uniform for any w; with the w whose mean rank is the wanted one, few are
 * rejected.
 */
#include "train/method.h"

#include "base/memory.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>

/* Running sums of w^r, r = 0 .. rank_max, over their total; returns the mean rank. */
static double fill_shares(double w, size_t rank_max, double *shares) {
    double sum = 0, moment = 0, weight = 1;
    for (size_t r = 0; r <= rank_max; ++r) {
        sum += weight;
        moment += (double)r * weight;
        shares[r] = sum;
        weight *= w;
    }
    for (size_t r = 0; r <= rank_max; ++r)
        shares[r] /= sum;
    return moment / sum;
}

/* w in [0, 1] by bisection; mean <= rank_max / 2. */
static void find_shares(double mean, size_t rank_max, double *shares) {
    double low = 0, high = 1;
    for (int i = 0; i < 50; ++i) {
        const double middle = (low + high) / 2;
        if (fill_shares(middle, rank_max, shares) < mean)
            low = middle;
        else
            high = middle;
    }
    fill_shares(high, rank_max, shares);
}

static size_t draw(const struct random_stream *stream, uint64_t index, const double *shares,
                   size_t rank_max) {
    const uint64_t steps = (uint64_t)1 << 53;
    const double u = (double)random_below(stream, index, steps) / (double)steps;
    size_t low = 0, high = rank_max; /* the first r with u < shares[r] */
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (u < shares[middle])
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* At most half of what fits, so that the weights fall. */
static void draw_vector(uint64_t seed, size_t num_modules, size_t total, size_t rank_max,
                        size_t *ranks) {
    double *shares = memory_allocate(rank_max + 1, sizeof *shares, "shares");
    find_shares((double)total / (double)num_modules, rank_max, shares);
    size_t sum = total + 1;
    for (uint64_t attempt = 0; sum != total; ++attempt) {
        const struct random_stream stream = random_stream_make(seed, RANDOM_RANKS, 0, attempt, 0);
        sum = 0;
        for (size_t m = 0; m < num_modules; ++m) {
            ranks[m] = draw(&stream, m, shares, rank_max);
            sum += ranks[m];
        }
    }
    memory_free(shares);
}

void random_ranks(uint64_t seed, size_t num_modules, size_t total, size_t rank_max, size_t *ranks) {
    const size_t most = rank_max * num_modules;
    const bool is_mirrored = total > most - total; /* what is missing to rank_max is drawn */
    draw_vector(seed, num_modules, is_mirrored ? most - total : total, rank_max, ranks);
    for (size_t m = 0; is_mirrored && m < num_modules; ++m)
        ranks[m] = rank_max - ranks[m];
}

bool method_random_ranks(const struct method_input *input, struct method_output *output,
                         struct problem *problem) {
    const size_t total = method_total_rank(input), modules = input->num_modules;
    size_t rank_max = input->options->rank_max;
    if (rank_max == 0)
        rank_max = (2 * total + modules - 1) / modules;
    if (total > rank_max * modules)
        return problem_set(problem, EXIT_USAGE,
                           "random ranks up to adapter.rank_max, %zu, of %zu modules cannot have "
                           "the total of %zu that adapter.mean_rank, or adapter.rank, asks for",
                           rank_max, modules, total);
    random_ranks(input->trainer->seed, modules, total, rank_max, output->ranks);
    return true;
}
