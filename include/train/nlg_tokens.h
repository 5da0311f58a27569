/* The tokenizers of the usual scorers of generated text. Each returns the tokens of one text
 * separated by single spaces (free with memory_free) and takes any bytes: one that is not UTF-8
 * counts as U+FFFD. Lower case is that of Unicode, one token at a time. */
#ifndef AUTOLORA_TRAIN_NLG_TOKENS_H
#define AUTOLORA_TRAIN_NLG_TOKENS_H

/* mteval-v13a's for Western languages, in lower case: entities are replaced, ASCII punctuation is
 * split off, periods and commas stay between digits. */
char *nlg_tokenize_mteval(const char *text);

/* Lower case; each character that is no letter, digit or white space is a token of its own: what
 * `--tokenize --lower` of LoRA's examples and then mteval-v13a's rules leave (WebNLG). */
char *nlg_tokenize_words(const char *text);

/* coco-caption's: Penn Treebank tokens in lower case as Stanford CoreNLP 3.4.1 makes them
 * (`PTBTokenizer -preserveLines -lowerCase`), without the punctuation that coco-caption drops.
 * That scanner reads all texts as one file, a text a line, and some rules look beyond the line feed
 * ("25 L." before "The"): `next` is the text behind this one, NULL for the last.
 * Spaces inside a token ("1 1/2", telephone numbers) are U+00A0. For texts up to some thousand
 * characters: the time can grow with the square of a run without spaces.
 * Known to differ: words that begin with a soft hyphen, a capital Sigma before a digit, letters and
 * marks that Unicode has only got since, rare marks beyond ASCII, Windows-1252 code points taken
 * for characters beyond quotes, dashes and the ellipsis. */
struct nlg_treebank; /* the compiled rules */
struct nlg_treebank *nlg_treebank_create(void);
void nlg_treebank_destroy(struct nlg_treebank **treebank);
char *nlg_treebank_tokenize(const struct nlg_treebank *treebank, const char *text,
                            const char *next);

#endif
