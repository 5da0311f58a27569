/* The rules of nlg_treebank_tokenize: a table of regular expressions. They see one byte a
 * character: ASCII as it is, every other character as the class it belongs to. */
#ifndef AUTOLORA_TRAIN_NLG_TREEBANK_H
#define AUTOLORA_TRAIN_NLG_TREEBANK_H

#include <stdint.h>

/* The classes. They stand in the patterns as octal escapes of three digits. */
enum class {
    LOWER = 001,       /* a letter or mark beyond ASCII */
    UPPER = 002,       /* a capital beyond ASCII */
    DIGIT = 003,       /* a decimal digit beyond ASCII */
    SPACE = 004,       /* a space beyond ASCII other than U+00A0 */
    HYPHEN = 005,      /* may join words */
    APOSTROPHE = 006,  /* right single quotes */
    OPEN_SINGLE = 007, /* left single quotes that may stand inside a word */
    NBSP = 013,
    QUOTE = 016,
    DASH = 017,
    DOTS = 020,
    CURRENCY = 021,
    FRACTION = 022,
    SUPERSCRIPT = 023,
    SUBSCRIPT = 024,
    SCRIPT_SIGN = 025,
    SOFT_HYPHEN = 026,
    FULL_STOP = 030, /* marks that end or open a sentence */
    COMMA = 031,
    SYMBOL = 032,
    NOTHING = 033, /* dropped */
    MARK = 034,    /* continues a word, but is no letter */
};

enum flag {
    AT_WORD = 1,  /* may begin with a letter */
    AT_DIGIT = 2, /* with a digit */
    AT_OTHER = 4, /* with anything else */
    AT_ALL = 7,
    CASED = 8,    /* sees capitals; the others see lower case */
    CONTEXT = 16, /* the token is the first parenthesis */
    RAW = 32,     /* quotes stay as they are */
    BACK_1 = 64,  /* the last characters are read again */
    BACK_2 = 128,
    BACK_3 = 256,
    VERBATIM = 512, /* nothing is written otherwise */
};

struct treebank_rule {
    unsigned flags;
    const char *pattern;
};

enum { TREEBANK_NUM_RULES = 64 };
extern const struct treebank_rule TREEBANK_RULES[TREEBANK_NUM_RULES];

/* The class of a character beyond ASCII. */
char treebank_class(int32_t character);

#endif
