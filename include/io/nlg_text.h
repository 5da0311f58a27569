/* A growing UTF-8 text, its code points and its lower case: what the tokenizers of generated text
 * are written with. */
#ifndef AUTOLORA_IO_NLG_TEXT_H
#define AUTOLORA_IO_NLG_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nlg_text { /* zeroed: empty; free `bytes` with memory_free */
    char *bytes;  /* [length], then one '\0' */
    size_t length, capacity;
};

void nlg_text_reserve(struct nlg_text *text, size_t more);
void nlg_text_cut(struct nlg_text *text, size_t length); /* to what is not longer */
void nlg_text_add_byte(struct nlg_text *text, char byte);
void nlg_text_add(struct nlg_text *text, int32_t code_point);
/* The lower case of bytes [length], Sigma at the end of a word and dotted I included. */
void nlg_text_add_lower(struct nlg_text *text, const char *bytes, size_t length);

/* The code point at *at (not '\0'), which moves behind it; U+FFFD for a byte that is not UTF-8. */
int32_t nlg_next_code_point(const char **at);
bool nlg_is_space(int32_t code_point); /* white space of Unicode and the four separators of ASCII */

#endif
