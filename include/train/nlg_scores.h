/* Scores of generated texts against several references each, as the usual scorers define them:
 * those of the E2E challenge (e2e-metrics: BLEU and NIST of its `--python` scorer pymteval, which
 * follows mteval-v13a; ROUGE-L and CIDEr of coco-caption) and BLEU as WebNLG's GenerationEval.
 * METEOR is not computed here: it needs the usual jar (meteor-1.5.jar), which e2e-metrics and
 * GenerationEval run on the files of io/nlg_files.h.
 *
 * Pure functions. Texts are UTF-8 without '\0', line feeds count as spaces. The references of
 * hypothesis i are references[offsets[i]] .. references[offsets[i+1]-1], at least one.
 *
 * Unusual input, as those scorers have it: an empty text is one empty token for BLEU, NIST and
 * ROUGE-L and has no n-grams for CIDEr. BLEU and NIST count words - n + 1 n-grams also in texts
 * shorter than n, hence BLEU can pass 1 where such texts abound; NIST is 0 where a count is 0. A
 * single hypothesis has CIDEr 0, since every term then occurs in all documents. No hypotheses at
 * all: all scores 0.
 */
#ifndef AUTOLORA_TRAIN_NLG_SCORES_H
#define AUTOLORA_TRAIN_NLG_SCORES_H

#include <stddef.h>

struct nlg_scores {
    double bleu;    /* 1 is best: 4-grams, the reference closest in length, lower case */
    double nist;    /* 5-grams, information from all references */
    double rouge_l; /* [0, 1]: mean over hypotheses, beta 1.2, best precision and best recall */
    double cider;   /* [0, 10]: CIDEr-D, sigma 6 */
};

struct nlg_scores nlg_scores_compute(const char *const *hypotheses, const char *const *references,
                                     const size_t *offsets, size_t count);

/* WebNLG: BLEU in [0, 1] of lower-cased words with every punctuation mark split off (LoRA's
 * `--tokenize --lower`), without smoothing (multi-bleu-detok.perl: 0 where some order of n-grams
 * has no match); of more than NLG_WORDS_REFERENCES references the first ones (`--ref_num 6`). */
enum { NLG_WORDS_REFERENCES = 6 };
double nlg_bleu_words(const char *const *hypotheses, const char *const *references,
                      const size_t *offsets, size_t count);

#endif
