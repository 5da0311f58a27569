/* Beam search. Sequences are copied when beams change places: they are short beside the vocabulary,
 * whose one pass per beam is what a step costs. */
#include "train/beam.h"

#include "base/memory.h"
#include "base/report.h"

#include <math.h>
#include <string.h>

struct candidate {
    float score;
    size_t beam;
    int32_t token;
    bool is_end;
};

struct hypothesis {
    float score;
    size_t count;
    int32_t *tokens; /* [max_new_tokens] */
};

struct beam_search {
    struct beam_options options;
    const int32_t *context;
    size_t num_context;
    size_t num_alive, length; /* beams that go on; their tokens */
    float *scores;            /* [num_beams] */
    int32_t *tokens, *next;   /* [num_beams, max_new_tokens] */
    int32_t *last;            /* [num_beams] */
    size_t *parents;          /* [num_beams] */
    struct hypothesis *ended; /* [num_beams], the best first */
    size_t num_ended;
    struct candidate *candidates; /* [max_candidates], the best first */
    size_t num_candidates, max_candidates;
    int32_t *banned; /* [num_context + max_new_tokens] */
    size_t num_banned;
};

struct beam_search *beam_search_create(const struct beam_options *options, const int32_t *context,
                                       size_t num_context) {
    const size_t beams = options->num_beams, longest = options->max_new_tokens;
    FAULT_UNLESS(beams > 0 && longest > 0 && options->num_end_tokens <= BEAM_MAX_END_TOKENS,
                 "%zu beams of %zu tokens, %zu end tokens", beams, longest,
                 options->num_end_tokens);
    const size_t ends = options->num_end_tokens > 1 ? options->num_end_tokens : 1;
    struct beam_search *search = memory_allocate(1, sizeof *search, "a beam search");
    *search = (struct beam_search){
        .options = *options,
        .context = context,
        .num_context = num_context,
        .num_alive = 1,
        .scores = memory_allocate(beams, sizeof(float), "a beam search"),
        .tokens = memory_allocate(beams * longest, sizeof(int32_t), "a beam search"),
        .next = memory_allocate(beams * longest, sizeof(int32_t), "a beam search"),
        .last = memory_allocate(beams, sizeof(int32_t), "a beam search"),
        .parents = memory_allocate(beams, sizeof(size_t), "a beam search"),
        .ended = memory_allocate(beams, sizeof(struct hypothesis), "a beam search"),
        .max_candidates = (1 + ends) * beams,
        .candidates =
            memory_allocate((1 + ends) * beams, sizeof(struct candidate), "a beam search"),
        .banned = memory_allocate(num_context + longest, sizeof(int32_t), "a beam search"),
    };
    for (size_t i = 0; i < beams; ++i)
        search->ended[i].tokens = memory_allocate(longest, sizeof(int32_t), "a beam search");
    return search;
}

void beam_search_destroy(struct beam_search **search) {
    struct beam_search *s = *search;
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->options.num_beams; ++i)
        memory_free(s->ended[i].tokens);
    memory_free(s->scores);
    memory_free(s->tokens);
    memory_free(s->next);
    memory_free(s->last);
    memory_free(s->parents);
    memory_free(s->ended);
    memory_free(s->candidates);
    memory_free(s->banned);
    memory_free(s);
    *search = NULL;
}

static int32_t *tokens_of(const struct beam_search *search, size_t beam) {
    return search->tokens + beam * search->options.max_new_tokens;
}

/* Token number `at` of the context and a beam's text. */
static int32_t token_at(const struct beam_search *search, size_t beam, size_t at) {
    return at < search->num_context ? search->context[at]
                                    : tokens_of(search, beam)[at - search->num_context];
}

/* Lists what followed the last n - 1 tokens where they occurred before. */
static void ban_repetitions(struct beam_search *search, size_t beam) {
    const size_t n = search->options.no_repeat_ngram, count = search->num_context + search->length;
    search->num_banned = 0;
    if (n == 0)
        return;
    for (size_t begin = 0; begin + n <= count; ++begin) {
        size_t same = 0;
        while (same < n - 1 &&
               token_at(search, beam, begin + same) == token_at(search, beam, count + 1 - n + same))
            ++same;
        if (same == n - 1)
            search->banned[search->num_banned++] = token_at(search, beam, begin + same);
    }
}

static bool is_among(int32_t token, const int32_t *tokens, size_t count) {
    for (size_t i = 0; i < count; ++i)
        if (tokens[i] == token)
            return true;
    return false;
}

/* Puts a candidate in its place; the last falls out of a full list. */
static void insert_candidate(struct beam_search *search, struct candidate candidate) {
    struct candidate *list = search->candidates;
    if (search->num_candidates < search->max_candidates)
        ++search->num_candidates;
    size_t at = search->num_candidates - 1;
    for (; at > 0 && list[at - 1].score < candidate.score; --at)
        list[at] = list[at - 1];
    list[at] = candidate;
}

static void add_candidates(struct beam_search *search, size_t beam,
                           const float *log_probabilities) {
    const struct beam_options *options = &search->options;
    const float score = search->scores[beam];
    ban_repetitions(search, beam);
    for (size_t t = 0; t < options->vocabulary_size; ++t) {
        const float sum = log_probabilities[t] + score;
        const bool is_list_full = search->num_candidates == search->max_candidates;
        const float least =
            is_list_full ? search->candidates[search->num_candidates - 1].score : -INFINITY;
        const int32_t token = (int32_t)t;
        if (!(sum > least) || is_among(token, search->banned, search->num_banned))
            continue;
        const bool is_end = is_among(token, options->end_tokens, options->num_end_tokens);
        insert_candidate(search, (struct candidate){sum, beam, token, is_end});
    }
}

/* What scores of texts of that length are divided by. */
static float length_divisor(const struct beam_search *search, size_t length) {
    return (float)pow((double)length, search->options.length_penalty);
}

static void copy_text(const struct beam_search *search, const struct candidate *candidate,
                      int32_t *tokens) {
    memcpy(tokens, tokens_of(search, candidate->beam), search->length * sizeof *tokens);
    tokens[search->length] = candidate->token;
}

static void keep_hypothesis(struct beam_search *search, const struct candidate *candidate) {
    const size_t length = search->length + 1, most = search->options.num_beams;
    struct hypothesis *ended = search->ended;
    const float score = candidate->score / length_divisor(search, length);
    if (search->num_ended == most && !(score > ended[most - 1].score))
        return;
    if (search->num_ended < most)
        ++search->num_ended;
    size_t at = search->num_ended - 1;
    int32_t *tokens = ended[at].tokens; /* of the one that falls out, or not used yet */
    for (; at > 0 && ended[at - 1].score < score; --at)
        ended[at] = ended[at - 1];
    ended[at] = (struct hypothesis){score, length, tokens};
    copy_text(search, candidate, tokens);
}

/* The candidates become hypotheses and the next beams. */
static void place_candidates(struct beam_search *search) {
    const size_t beams = search->options.num_beams, longest = search->options.max_new_tokens;
    const bool is_last = search->length + 1 == longest;
    search->num_alive = 0;
    for (size_t i = 0; i < search->num_candidates; ++i) {
        const struct candidate *candidate = &search->candidates[i];
        if (candidate->is_end || is_last) {
            if (i < beams)
                keep_hypothesis(search, candidate);
        } else if (search->num_alive < beams) {
            const size_t b = search->num_alive++;
            copy_text(search, candidate, search->next + b * longest);
            search->scores[b] = candidate->score;
            search->last[b] = candidate->token;
            search->parents[b] = candidate->beam;
        }
    }
    for (size_t b = search->num_alive; b < beams; ++b) {
        search->last[b] = search->last[0];
        search->parents[b] = search->parents[0];
    }
    int32_t *old = search->tokens;
    search->tokens = search->next;
    search->next = old;
    ++search->length;
}

bool beam_search_step(struct beam_search *search, const float *log_probabilities) {
    const struct beam_options *options = &search->options;
    FAULT_UNLESS(search->length < options->max_new_tokens, "a step after the last");
    search->num_candidates = 0;
    for (size_t b = 0; b < search->num_alive; ++b)
        add_candidates(search, b, log_probabilities + b * options->vocabulary_size);
    place_candidates(search);
    if (search->num_alive == 0)
        return false;
    if (search->num_ended < options->num_beams)
        return true;
    return search->scores[0] / length_divisor(search, search->length) >
           search->ended[options->num_beams - 1].score;
}

size_t beam_search_num_alive(const struct beam_search *search) {
    return search->num_alive;
}

const int32_t *beam_search_tokens(const struct beam_search *search) {
    return search->last;
}

const size_t *beam_search_parents(const struct beam_search *search) {
    return search->parents;
}

const int32_t *beam_search_best(const struct beam_search *search, size_t *count) {
    *count = search->num_ended > 0 ? search->ended[0].count : 0;
    return search->ended[0].tokens;
}
