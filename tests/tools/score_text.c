/* Scores of files in the layout of e2e-metrics, or the tokens of each line of a file.
 *
 *     score_text REFERENCES HYPOTHESES       prints BLEU, NIST, ROUGE-L, CIDEr, BLEU of WebNLG,
 * seconds score_text --tokens KIND FILE          prints the tokens; KIND: mteval, words, treebank
 *
 * REFERENCES: blocks of lines with an empty line behind each; HYPOTHESES: a line for each block. */
#include "base/memory.h"
#include "io/file.h"
#include "train/nlg_scores.h"
#include "train/nlg_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* The lines of a text, cut in place; *count of them. */
static const char **cut_lines(char *text, size_t *count) {
    const char **lines = memory_allocate(strlen(text) + 1, sizeof *lines, "lines");
    *count = 0;
    for (char *at = text, *end; *at != '\0'; at = end) {
        lines[(*count)++] = at;
        end = at + strcspn(at, "\n");
        if (*end != '\0')
            *end++ = '\0';
    }
    return lines;
}

static int print_tokens(const char *kind, char *text) {
    size_t count;
    const char **lines = cut_lines(text, &count);
    struct nlg_treebank *treebank = nlg_treebank_create();
    for (size_t i = 0; i < count; ++i) {
        char *tokens =
            strcmp(kind, "mteval") == 0 ? nlg_tokenize_mteval(lines[i])
            : strcmp(kind, "words") == 0
                ? nlg_tokenize_words(lines[i])
                : nlg_treebank_tokenize(treebank, lines[i], i + 1 < count ? lines[i + 1] : NULL);
        puts(tokens);
        memory_free(tokens);
    }
    nlg_treebank_destroy(&treebank);
    memory_free(lines);
    memory_free(text);
    return memory_blocks_now() == 0 ? EXIT_DONE : 1;
}

/* Takes the empty lines out of the references; offsets [number of blocks + 1]. */
static size_t cut_blocks(const char **lines, size_t num_lines, size_t *offsets) {
    size_t num_blocks = 0, kept = 0;
    for (size_t i = 0; i < num_lines; ++i) {
        if (*lines[i] != '\0')
            lines[kept++] = lines[i];
        if ((*lines[i] == '\0' || i + 1 == num_lines) && kept > offsets[num_blocks])
            offsets[++num_blocks] = kept;
    }
    return num_blocks;
}

int main(int argc, char **argv) {
    struct problem problem = {0};
    size_t size, num_lines, num_hypotheses;
    char *texts[2] = {NULL, NULL};
    const bool is_tokens = argc == 4 && strcmp(argv[1], "--tokens") == 0;
    for (int i = is_tokens; i < 2; ++i)
        if (argc != 3 + is_tokens ||
            (texts[i] = file_read(argv[i + 1 + is_tokens], &size, &problem)) == NULL) {
            report_error("%s", argc == 3 + is_tokens ? problem.text
                                                     : "usage: score_text REFERENCES HYPOTHESES");
            return EXIT_USAGE;
        }
    if (is_tokens)
        return print_tokens(argv[2], texts[1]);
    const char **references = cut_lines(texts[0], &num_lines);
    const char **hypotheses = cut_lines(texts[1], &num_hypotheses);
    size_t *offsets = memory_allocate(num_lines + 1, sizeof *offsets, "offsets");
    if (cut_blocks(references, num_lines, offsets) != num_hypotheses) {
        report_error("%zu hypotheses, but another number of blocks of references", num_hypotheses);
        return EXIT_DATA;
    }
    const double start = now();
    const struct nlg_scores scores =
        nlg_scores_compute(hypotheses, references, offsets, num_hypotheses);
    const double seconds = now() - start;
    printf("{\"bleu\": %.17g, \"nist\": %.17g, \"rouge_l\": %.17g, \"cider\": %.17g, "
           "\"bleu_words\": %.17g, \"seconds\": %.6f}\n",
           scores.bleu, scores.nist, scores.rouge_l, scores.cider,
           nlg_bleu_words(hypotheses, references, offsets, num_hypotheses), seconds);
    memory_free(offsets);
    memory_free(references);
    memory_free(hypotheses);
    memory_free(texts[0]);
    memory_free(texts[1]);
    return memory_blocks_now() == 0 ? EXIT_DONE : 1;
}
