/* Every word and every n-gram gets a number: an n-gram that of the pair (its first n-1 words, its
 * last word). Counts are then arrays, and all sums one walk over the texts. */
#include "train/nlg_scores.h"

#include "base/memory.h"
#include "base/report.h"
#include "train/nlg_grams.h"
#include "train/nlg_tokens.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { BLEU_ORDER = 4, NIST_ORDER = 5, CIDER_ORDER = 4 };

static double larger(double a, double b) {
    return a > b ? a : b;
}

/* Lengths and clipped matches of all hypotheses: what BLEU and NIST are made of. */
struct matches {
    double hits[NIST_ORDER];        /* n-grams of hypotheses found in their references */
    double information[NIST_ORDER]; /* the sum of their information */
    double num_grams[NIST_ORDER]; /* sum of words - n + 1: below 0 for a short text, as pymteval */
    double words;                 /* words of hypotheses */
    double closest_words;         /* words of the references closest in length */
    double mean_words;            /* mean over its references, summed over hypotheses */
};

/* log2 of how much rarer an n-gram is than its first n-1 words, in all references. */
static double gram_information(const struct nlg_grams *grams, const uint32_t *occurrences,
                               double num_words, uint32_t gram) {
    const uint32_t start = nlg_grams_start(grams, gram);
    const double before = start == NLG_NO_GRAM ? num_words : occurrences[start];
    return log2(before / occurrences[gram]);
}

static void add_lengths(struct matches *matches, const struct nlg_grams *grams, size_t hypothesis,
                        size_t first, size_t last) {
    const double words = (double)nlg_grams_words(grams, hypothesis);
    double closest = HUGE_VAL, sum = 0;
    for (size_t text = first; text < last; ++text) {
        const double length = (double)nlg_grams_words(grams, text);
        const double difference = fabs(length - words) - fabs(closest - words);
        if (difference < 0 || (difference == 0 && length < closest))
            closest = length;
        sum += length;
    }
    matches->words += words;
    matches->closest_words += closest;
    matches->mean_words += sum / (double)(last - first);
    for (size_t n = 0; n < NIST_ORDER; ++n)
        matches->num_grams[n] += words - (double)n;
}

/* Adds, order by order, the matches of a hypothesis. `count` and `most` [grams] are zero between
 * calls: occurrences in one text, and the most that one reference has. */
static void add_matches(struct matches *matches, const struct nlg_grams *grams, size_t hypothesis,
                        size_t first, size_t last, const uint32_t *occurrences, double num_words,
                        uint32_t *count, uint32_t *most) {
    for (size_t n = 0; n < NIST_ORDER; ++n) {
        for (size_t text = first; text < last; ++text) {
            const struct nlg_span span = nlg_grams_span(grams, text, n);
            for (size_t i = 0; i < span.count; ++i)
                ++count[span.grams[i]];
            for (size_t i = 0; i < span.count; ++i) {
                const uint32_t gram = span.grams[i];
                most[gram] = count[gram] > most[gram] ? count[gram] : most[gram];
                count[gram] = 0;
            }
        }
        /* Each match uses up one occurrence in the references. */
        const struct nlg_span span = nlg_grams_span(grams, hypothesis, n);
        for (size_t i = 0; i < span.count; ++i) {
            const uint32_t gram = span.grams[i];
            if (most[gram] == 0)
                continue;
            --most[gram];
            matches->hits[n] += 1;
            if (occurrences != NULL)
                matches->information[n] += gram_information(grams, occurrences, num_words, gram);
        }
        for (size_t text = first; text < last; ++text) {
            const struct nlg_span clear = nlg_grams_span(grams, text, n);
            for (size_t i = 0; i < clear.count; ++i)
                most[clear.grams[i]] = 0;
        }
    }
}

/* Texts 0 .. count-1 are hypotheses, count + offsets[i] .. the references. References of one
 * hypothesis beyond `limit` are left out. */
static struct matches find_matches(const struct nlg_grams *grams, const size_t *offsets,
                                   size_t count, size_t limit) {
    const size_t num_grams = nlg_grams_count(grams);
    uint32_t *occurrences = memory_allocate(num_grams, sizeof *occurrences, "n-gram counts");
    uint32_t *scratch = memory_allocate(2 * num_grams, sizeof *scratch, "n-gram counts");
    double num_words = 0;
    for (size_t text = count; text < count + offsets[count]; ++text) {
        num_words += (double)nlg_grams_words(grams, text);
        for (size_t n = 0; n < NIST_ORDER; ++n) {
            const struct nlg_span span = nlg_grams_span(grams, text, n);
            for (size_t i = 0; i < span.count; ++i)
                ++occurrences[span.grams[i]];
        }
    }
    struct matches matches = {0};
    for (size_t i = 0; i < count; ++i) {
        const size_t first = count + offsets[i], end = count + offsets[i + 1];
        const size_t last = end - first > limit ? first + limit : end;
        add_lengths(&matches, grams, i, first, last);
        add_matches(&matches, grams, i, first, last, occurrences, num_words, scratch,
                    scratch + num_grams);
    }
    memory_free(occurrences);
    memory_free(scratch);
    return matches;
}

/* pymteval's BLEU: nothing is undefined, since zeros are replaced by tiny values. */
static double smoothed_bleu(const struct matches *matches) {
    double sum = 0;
    for (size_t n = 0; n < BLEU_ORDER; ++n)
        sum += log(larger(matches->hits[n], 1e-15) / larger(matches->num_grams[n], 1e-9));
    const double penalty =
        matches->words > matches->closest_words
            ? 1
            : exp(1 - matches->closest_words / (matches->words > 0 ? matches->words : 1e-5));
    return penalty * exp(sum / BLEU_ORDER);
}

static double nist(const struct matches *matches) {
    double sum = 0;
    for (size_t n = 0; n < NIST_ORDER; ++n) {
        if (matches->num_grams[n] == 0)
            return 0;
        sum += matches->information[n] / matches->num_grams[n];
    }
    const double ratio = matches->words / matches->mean_words;
    if (ratio >= 1)
        return sum;
    const double beta = -log(0.5) / (log(1.5) * log(1.5));
    return sum * exp(-beta * log(ratio) * log(ratio));
}

/* ---- ROUGE-L ---- */

/* Longest common subsequence; `row` has room for words of b + 1. */
static size_t common_length(struct nlg_span a, struct nlg_span b, size_t *row) {
    memset(row, 0, (b.count + 1) * sizeof *row);
    for (size_t i = 0; i < a.count; ++i)
        for (size_t j = 0, diagonal = 0; j < b.count; ++j) {
            const size_t above = row[j + 1];
            row[j + 1] = a.grams[i] == b.grams[j] ? diagonal + 1 : above > row[j] ? above : row[j];
            diagonal = above;
        }
    return row[b.count];
}

static double rouge_l(const struct nlg_grams *grams, const size_t *offsets, size_t count) {
    enum { BETA_TIMES_10 = 12 };
    const double beta_square = BETA_TIMES_10 * BETA_TIMES_10 / 100.0;
    size_t longest = 0;
    for (size_t text = 0; text < count + offsets[count]; ++text)
        if (nlg_grams_words(grams, text) > longest)
            longest = nlg_grams_words(grams, text);
    size_t *row = memory_allocate(longest + 1, sizeof *row, "common subsequence");
    double sum = 0;
    for (size_t i = 0; i < count; ++i) {
        const struct nlg_span hypothesis = nlg_grams_span(grams, i, 0);
        double precision = 0, recall = 0;
        for (size_t text = count + offsets[i]; text < count + offsets[i + 1]; ++text) {
            const struct nlg_span reference = nlg_grams_span(grams, text, 0);
            const double common = (double)common_length(hypothesis, reference, row);
            precision = larger(precision, common / (double)hypothesis.count);
            recall = larger(recall, common / (double)reference.count);
        }
        if (precision > 0 && recall > 0)
            sum += (1 + beta_square) * precision * recall / (recall + beta_square * precision);
    }
    memory_free(row);
    return sum / (double)count;
}

/* ---- CIDEr ---- */

/* Term frequencies of one text weighted by rarity, order by order. */
struct cider {
    const struct nlg_grams *grams;
    double *rarity;                 /* [grams] log(documents / documents with the n-gram) */
    double *hypothesis, *reference; /* [grams] weights; zero between texts */
};

/* Adds the weights of a text; returns its norm. `weights` is zero before. */
static double add_weights(const struct cider *cider, struct nlg_span span, double *weights) {
    double square = 0;
    for (size_t i = 0; i < span.count; ++i) {
        const uint32_t gram = span.grams[i];
        const double before = weights[gram], after = before + cider->rarity[gram];
        weights[gram] = after;
        square += after * after - before * before;
    }
    return sqrt(larger(square, 0));
}

static void clear_weights(struct nlg_span span, double *weights) {
    for (size_t i = 0; i < span.count; ++i)
        weights[span.grams[i]] = 0;
}

/* Cosine similarity of one order, with weights of the hypothesis clipped at the reference's. */
static double similarity(const struct cider *cider, struct nlg_span span, double hypothesis_norm) {
    const double norm = add_weights(cider, span, cider->reference);
    double sum = 0;
    for (size_t i = 0; i < span.count; ++i) {
        const uint32_t gram = span.grams[i];
        const double weight = cider->reference[gram], other = cider->hypothesis[gram];
        sum += (other < weight ? other : weight) * weight;
        cider->reference[gram] = 0; /* each n-gram once */
    }
    return norm > 0 && hypothesis_norm > 0 ? sum / (norm * hypothesis_norm) : 0;
}

static double cider_of_one(const struct cider *cider, size_t hypothesis, size_t first,
                           size_t last) {
    const double sigma = 6;
    const double length = (double)nlg_grams_span(cider->grams, hypothesis, 1).count;
    double sum = 0;
    for (size_t n = 0; n < CIDER_ORDER; ++n) {
        const struct nlg_span span = nlg_grams_span(cider->grams, hypothesis, n);
        const double norm = add_weights(cider, span, cider->hypothesis);
        for (size_t text = first; text < last; ++text) {
            /* coco-caption takes the number of pairs of words for the length. */
            const double other = (double)nlg_grams_span(cider->grams, text, 1).count;
            sum += similarity(cider, nlg_grams_span(cider->grams, text, n), norm) *
                   exp(-(length - other) * (length - other) / (2 * sigma * sigma));
        }
        clear_weights(span, cider->hypothesis);
    }
    return 10 * sum / CIDER_ORDER / (double)(last - first);
}

/* rarity [grams]: a document is the references of one hypothesis. */
static void find_rarity(const struct nlg_grams *grams, const size_t *offsets, size_t count,
                        double *rarity) {
    const size_t num_grams = nlg_grams_count(grams);
    uint32_t *documents = memory_allocate(2 * num_grams, sizeof *documents, "n-gram counts");
    uint32_t *seen_in = documents + num_grams;
    for (size_t i = 0; i < count; ++i)
        for (size_t text = count + offsets[i]; text < count + offsets[i + 1]; ++text)
            for (size_t n = 0; n < CIDER_ORDER; ++n) {
                const struct nlg_span span = nlg_grams_span(grams, text, n);
                for (size_t k = 0; k < span.count; ++k) {
                    const uint32_t gram = span.grams[k];
                    documents[gram] += seen_in[gram] != i + 1;
                    seen_in[gram] = (uint32_t)(i + 1);
                }
            }
    for (size_t gram = 0; gram < num_grams; ++gram)
        rarity[gram] = log((double)count) - log(larger(documents[gram], 1));
    memory_free(documents);
}

static double cider(const struct nlg_grams *grams, const size_t *offsets, size_t count) {
    const size_t num_grams = nlg_grams_count(grams);
    double *weights = memory_allocate(3 * num_grams, sizeof *weights, "n-gram weights");
    const struct cider state = {grams, weights, weights + num_grams, weights + 2 * num_grams};
    find_rarity(grams, offsets, count, weights);
    double sum = 0;
    for (size_t i = 0; i < count; ++i)
        sum += cider_of_one(&state, i, count + offsets[i], count + offsets[i + 1]);
    memory_free(weights);
    return sum / (double)count;
}

/* ---- the scores ---- */

static void check(const size_t *offsets, size_t count) {
    for (size_t i = 0; i < count; ++i)
        FAULT_UNLESS(offsets[i] < offsets[i + 1], "hypothesis %zu has no references", i);
}

enum tokenizer { MTEVAL, WORDS };

static struct nlg_grams *grams_of(const char *const *hypotheses, const char *const *references,
                                  size_t num_references, size_t count, enum tokenizer tokenizer) {
    struct nlg_grams *grams = nlg_grams_create(NIST_ORDER);
    for (size_t i = 0; i < count + num_references; ++i) {
        const char *text = i < count ? hypotheses[i] : references[i - count];
        char *tokens = tokenizer == MTEVAL ? nlg_tokenize_mteval(text) : nlg_tokenize_words(text);
        nlg_grams_add(grams, tokens, tokenizer == MTEVAL ? NLG_SPLIT_EMPTY : NLG_SPLIT_SPACE);
        memory_free(tokens);
    }
    return grams;
}

/* ROUGE-L splits the tokens at spaces alone, CIDEr at all white space. */
static void score_captions(struct nlg_scores *scores, const char *const *hypotheses,
                           const char *const *references, const size_t *offsets, size_t count) {
    struct nlg_treebank *treebank = nlg_treebank_create();
    struct nlg_grams *words = nlg_grams_create(1), *terms = nlg_grams_create(CIDER_ORDER);
    for (size_t i = 0; i < count + offsets[count]; ++i) {
        const bool is_hypothesis = i < count;
        const char *const *text = is_hypothesis ? &hypotheses[i] : &references[i - count];
        const bool is_last = i + 1 == count || i + 1 == count + offsets[count];
        char *tokens = nlg_treebank_tokenize(treebank, *text, is_last ? NULL : text[1]);
        nlg_grams_add(words, tokens, NLG_SPLIT_EMPTY);
        nlg_grams_add(terms, tokens, NLG_SPLIT_SPACE);
        memory_free(tokens);
    }
    scores->rouge_l = rouge_l(words, offsets, count);
    scores->cider = cider(terms, offsets, count);
    nlg_grams_destroy(&words);
    nlg_grams_destroy(&terms);
    nlg_treebank_destroy(&treebank);
}

struct nlg_scores nlg_scores_compute(const char *const *hypotheses, const char *const *references,
                                     const size_t *offsets, size_t count) {
    struct nlg_scores scores = {0};
    if (count == 0)
        return scores;
    check(offsets, count);
    struct nlg_grams *grams = grams_of(hypotheses, references, offsets[count], count, MTEVAL);
    const struct matches matches = find_matches(grams, offsets, count, SIZE_MAX);
    nlg_grams_destroy(&grams);
    scores.bleu = smoothed_bleu(&matches);
    scores.nist = nist(&matches);
    score_captions(&scores, hypotheses, references, offsets, count);
    return scores;
}

double nlg_bleu_words(const char *const *hypotheses, const char *const *references,
                      const size_t *offsets, size_t count) {
    if (count == 0)
        return 0;
    check(offsets, count);
    struct nlg_grams *grams = grams_of(hypotheses, references, offsets[count], count, WORDS);
    const struct matches matches = find_matches(grams, offsets, count, NLG_WORDS_REFERENCES);
    double sum = 0, num_grams[BLEU_ORDER] = {0};
    for (size_t i = 0; i < count; ++i)
        for (size_t n = 0; n < BLEU_ORDER; ++n)
            num_grams[n] += (double)nlg_grams_span(grams, i, n).count;
    nlg_grams_destroy(&grams);
    for (size_t n = 0; n < BLEU_ORDER; ++n) {
        if (matches.hits[n] == 0)
            return 0;
        sum += log(matches.hits[n] / num_grams[n]);
    }
    const double penalty =
        matches.words < matches.closest_words ? exp(1 - matches.closest_words / matches.words) : 1;
    return penalty * exp(sum / BLEU_ORDER);
}
