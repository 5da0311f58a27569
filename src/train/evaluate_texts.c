/* Rank 0 turns tokens into texts and scores them; the others receive the scores. */
#include "train/evaluate_texts.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/nlg_files.h"
#include "train/nlg_scores.h"

static char **decode_all(const struct tokenizer *tokenizer, const struct generated *generated) {
    char **texts = memory_allocate(generated->count, sizeof *texts, "generated texts");
    for (size_t i = 0; i < generated->count; ++i) {
        const size_t first = generated->offsets[i];
        size_t length;
        texts[i] = tokenizer_decode(tokenizer, generated->tokens + first,
                                    generated->offsets[i + 1] - first, false, &length);
        lm_text_cut(texts[i]);
    }
    return texts;
}

static bool write_files(const char *directory, const char *split, const char *const *texts,
                        const struct lm_references *references, struct problem *problem) {
    char *texts_name = memory_format("generated-%s.txt", split);
    char *references_name = memory_format("references-%s.txt", split);
    char *texts_path = file_join(directory, texts_name);
    char *references_path = file_join(directory, references_name);
    const bool is_good =
        nlg_write_hypotheses(texts_path, texts, references->count, problem) &&
        nlg_write_references(references_path, (const char *const *)references->texts,
                             references->text_offsets, references->count, problem);
    memory_free(texts_name);
    memory_free(references_name);
    memory_free(texts_path);
    memory_free(references_path);
    return is_good;
}

static void free_texts(char **texts, size_t count) {
    for (size_t i = 0; i < count; ++i)
        memory_free(texts[i]);
    memory_free(texts);
}

static void score(const struct text_evaluation *texts, const struct generated *generated,
                  const char *split, const struct lm_references *references,
                  struct nlg_scores *scores, struct problem *problem) {
    char **decoded = decode_all(texts->tokenizer, generated);
    const char *const *hypotheses = (const char *const *)decoded;
    if (write_files(texts->output_dir, split, hypotheses, references, problem))
        *scores = nlg_scores_compute(hypotheses, (const char *const *)references->texts,
                                     references->text_offsets, references->count);
    free_texts(decoded, generated->count);
}

bool evaluate_texts(const struct text_evaluation *texts, const struct comms *comms,
                    const struct stage *stage, const struct point *point, const char *split,
                    const struct lm_references *references, struct evaluation *evaluation,
                    struct problem *problem) {
    if (references->count == 0)
        return true;
    struct generated generated;
    if (!generate_texts(comms, stage, point, &texts->options, references, &generated, problem))
        return false;
    struct nlg_scores scores = {0};
    if (comms->world.mpi_rank == 0)
        score(texts, &generated, split, references, &scores, problem);
    generated_free(&generated);
    if (!comm_agree(&comms->world, problem))
        return false;
    comm_broadcast(&comms->world, 0, &scores, sizeof scores);
    evaluation->score = evaluation->num_metrics;
    evaluation_add(evaluation, "bleu", scores.bleu);
    evaluation_add(evaluation, "nist", scores.nist);
    evaluation_add(evaluation, "rouge_l", scores.rouge_l);
    evaluation_add(evaluation, "cider", scores.cider);
    return true;
}

bool texts_generate(const struct text_evaluation *texts, const struct comms *comms,
                    const struct stage *stage, const struct point *point,
                    const struct lm_references *contexts, const char *path,
                    struct problem *problem) {
    struct generated generated;
    if (!generate_texts(comms, stage, point, &texts->options, contexts, &generated, problem))
        return false;
    if (comms->world.mpi_rank == 0) {
        char **decoded = decode_all(texts->tokenizer, &generated);
        nlg_write_hypotheses(path, (const char *const *)decoded, generated.count, problem);
        free_texts(decoded, generated.count);
    }
    generated_free(&generated);
    return comm_agree(&comms->world, problem);
}
