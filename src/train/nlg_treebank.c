/* Penn Treebank tokens by a table of regular expressions: at each place the longest match wins,
 * among equals the first rule, as in the scanner that coco-caption runs. A rule may look at what
 * follows its token; that counts for the length.
 *
 * The expressions are those of the C library (POSIX: leftmost, longest). They see one byte a
 * character: ASCII as it is, every other character as the class it belongs to. */
#include "base/memory.h"
#include "base/report.h"
#include "io/nlg_text.h"
#include "train/nlg_tokens.h"

#include <regex.h>
#include <string.h>
#include <utf8proc.h>

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

#define LETTER "([A-Za-z\001\002\026\034]|&[aeiouAEIOU](acute|grave|uml);)"
#define WORD_PART LETTER "(" LETTER "|[0-9\003])*"
#define WORD WORD_PART "([.!?]" WORD_PART ")*"
#define APOS "(['\006]|&apos;)"
#define APOS_LIKE "(['\006\007`]|&apos;)"
#define NUM "([0-9\003]*([.,:\026][0-9\003]+)+|[0-9\003]+)"
#define ALNUM "[A-Za-z0-9\001\002\003]"
#define ALPHA "[A-Za-z\001\002]"
#define BLANK "[ \t\004\013]"
#define BLANK_LINE "[ \t\n\004\013]"
#define ELISION "([dol]" APOS_LIKE ALNUM ")?"
#define THING ELISION ALNUM "+([-_\005]" ELISION ALNUM "+)*"
#define ACRONYM                                                                                    \
    "([a-z](\\.[a-z])*|(canada|sino|korean|eu|japan|non)-u\\.s|u\\.s\\.-(u\\.k|u\\.s\\.s\\.r))"
#define HYPHENATED "[a-z0-9][a-z0-9.,\026]*(-([a-z0-9\026]+|" ACRONYM "\\.))+"
#define NAME "[A-Za-z][A-Za-z0-9_:.-]*"
#define SGML                                                                                       \
    "<([!?][A-Za-z-][^>\n]*|" NAME "( +(" NAME "|" NAME " *= *('[^'\n]*'|\"[^\"\n]*\"|" NAME       \
    ")))* */?|/" NAME ") *>"
#define OPENERS                                                                                    \
    "(A|About|According|Additionally|After|An|As|At|But|Earlier|He|Her|Here|However|If|In|It|"     \
    "Last|Many|More|Mr\\.|Ms\\.|Now|Once|One|Other|Our|She|Since|So|Some|Such|That|The|Their|"     \
    "Then|There|These|They|This|We|When|While|What|Yet|You|" SGML ")"

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

struct rule {
    unsigned flags;
    const char *pattern;
};

static const struct rule RULES[] = {
    {AT_WORD, "c\\+\\+|[cf]#"},
    {AT_WORD | AT_OTHER | BACK_3, "cannot|'twas"},
    {AT_WORD | AT_OTHER | BACK_2, APOS "tis|gonna|gotta|lemme|gimme|wanna"},
    {AT_OTHER, SGML},
    {AT_OTHER, "&(md|mdash|ndash);|\017"},
    {AT_OTHER, "&amp;"},
    {AT_OTHER, "&(ht|tl|ur|lr|qc|ql|qr|odq|cdq|#[0-9]+);"},
    {AT_WORD | AT_OTHER | CONTEXT, "(" WORD ")" APOS "([msd]|re|ve|ll)"},
    {AT_WORD | AT_OTHER | CONTEXT, "([a-z\026]*[a-mo-z]\026*)n" APOS_LIKE "t"},
    {AT_WORD | AT_OTHER, WORD},
    {AT_WORD | AT_OTHER | RAW,
     APOS "n" APOS "?|[ldj]" APOS "|(dunkin|somethin|ol)" APOS "|" APOS
          "(em|[2-9]0s|till?|cause)|cont'd\\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l"},
    {AT_WORD | CASED | RAW, "[A-HJ-XZn]" APOS_LIKE ALPHA ALPHA "+|" ALPHA
                            "+[aeiouyAEIOUY]" APOS_LIKE "[aeiouA-Z]" ALPHA "*"},
    {AT_WORD | CONTEXT | RAW, "(y" APOS ")" ALPHA},
    {AT_WORD | VERBATIM, "(ftp|svn|svn\\+ssh|https?|mailto)://"
                         "[^ \t\n\"<>|(){}]+[^ \t\n\"<>|.!?(){},-]"},
    {AT_ALL | CASED | VERBATIM,
     "([wW]{3}\\.([^] \t\n\004\013\"<>|.!?(){},]+\\.)+[a-zA-Z]{2,4}|"
     "([^] \t\n\004\013\"`'<>|.!?(){},-_$]+\\.)+(com|net|org|edu|COM|NET|ORG|EDU))"
     "(/[^ \t\n\"<>|()]+[^ \t\n\"<>|.!?(){},-])?"},
    {AT_ALL | VERBATIM, "(&lt;|<)?[a-z0-9][^ \t\n\"<>|()\013{}]*@([^ \t\n\"<>|(){}.\013]+\\.)*"
                        "[^ \t\n\"<>|(){}.\013]+(&gt;|>)?"},
    {AT_OTHER | VERBATIM, "@[a-z_][a-z_0-9]*|#" LETTER "+"},
    {AT_OTHER | CONTEXT, "(" APOS "([msd]|re|ve|ll))[^A-Za-z]"},
    {AT_WORD | CONTEXT, "(n" APOS_LIKE "t)[^A-Za-z]"},
    {AT_DIGIT, "[0-9\003]{1,2}[-/][0-9\003]{1,2}[-/][0-9\003]{2,4}"},
    {AT_DIGIT | AT_OTHER, "[-+]?" NUM},
    {AT_OTHER, "\025?(\023+|\024+)"},
    {AT_DIGIT, "([0-9\003]{1,4}[- \013])?[0-9\003]{1,4}\\\\?/[0-9\003]{1,4}"},
    {AT_OTHER, "\022"},
    {AT_WORD | AT_OTHER, "-(rrb|lrb|rcb|lcb|rsb|lsb)-|c\\.d\\.s|pro-|anti-|s(&|&amp;)p-500|"
                         "s(&|&amp;)ls|cap" APOS "n|c" APOS "est"},
    {AT_WORD | AT_DIGIT, "[a-z0-9]+(-[a-z]+){0,2}(\\\\?/[a-z0-9]+(-[a-z]+){0,2}){1,2}"},
    {AT_WORD | AT_OTHER | CASED, "[A-Z]*\\$|#"},
    {AT_OTHER, "\021"},
    {AT_WORD | CONTEXT | CASED | BACK_1, "([A-Za-z]\\.)" BLANK_LINE "+" OPENERS BLANK_LINE},
    {AT_WORD | CONTEXT | CASED, "([A-Za-z](\\.[A-Za-z])+\\.)" BLANK_LINE "+" OPENERS BLANK_LINE},
    {AT_WORD | CONTEXT, "((ca|figs?|prop|nos?|arts?|bldg|pp|op)\\.)" BLANK_LINE "?[0-9\003]"},
    {AT_WORD | CONTEXT,
     "((jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|thurs|fri|ala|ariz|calif|"
     "colo|conn|ct|dak|fla|ga|ind|kans?|ky|md|mich|minn|mo|mont|neb|nev|okla|penn|tenn|va|vt|"
     "wisc?|wyo|inc|cos?|corp|pp?t[ye]s?|ltd|plc|rt|bancorp|dept|bhd|assn|univ|intl|sys|tel|est|"
     "ext|sq|jr|bros|(ed|ph)\\.d|esq|etc|al|seq|bldg)\\.)(..)?"},
    {AT_WORD | CONTEXT | CASED,
     "((Az|AZ|Ark|ARK|Del|DEL|Ill|ILL|La|LA|Mass|MASS|Miss|MISS|Ore|ORE|Pa|PA|Tex|TEX|Wash|WASH)"
     "\\.)(..)?"},
    {AT_WORD, "(mr|mrs|ms|drs?|profs?|sens?|reps?|attys?|lt|col|gen|messrs|govs?|adm|rev|maj|sgt|"
              "cpl|pvt|capt|ste?|ave|pres|lieut|hon|brig|co?mdr|pfc|spc|supts?|det|mt|ft|adj|adv|"
              "asst|assoc|ens|insp|mlle|mme|msgr|sfc|invt|elec|natl|m[ft]g|blvd|rd|vs|v|alex|wm|"
              "jos|cie|a\\.k\\.a|cf|treas|ph|" ACRONYM ")\\."},
    {AT_WORD | CONTEXT, "(" ACRONYM ")" BLANK_LINE},
    {AT_OTHER | CONTEXT | RAW, "(" APOS "[0-9][0-9])" BLANK_LINE},
    {AT_WORD | AT_DIGIT | CONTEXT,
     "([a-z0-9]+(\\.[a-z0-9]+)*\\.(bat|bmp|bz2|c|class|cgi|cpp|dll|docx?|exe|gif|gz|h|html?|jar|"
     "java|jpe?g|mov|mp3|pdf|php|pl|png|ppt|ps|py|sql|tar|txt|wav|x|xml|zip))([ "
     "\t\n\004\013.?!,])"},
    {AT_WORD | AT_OTHER | CONTEXT, "(" WORD "\\.)[,;:\031]"},
    {AT_DIGIT | AT_OTHER,
     "(\\([0-9]{2,3}\\)[ \013]?|(\\+\\+?)?([0-9]{2,4}[- \013])?[0-9]{2,4}[- \013])"
     "[0-9]{3,4}[- "
     "\013]?[0-9]{3,5}|((\\+\\+?)?[0-9]{2,4}\\.)?[0-9]{2,4}\\.[0-9]{3,4}\\.[0-9]{3,5}"},
    {AT_OTHER, "&nbsp;"},
    {AT_OTHER, "\"|&quot;"},
    {AT_OTHER, "<|&lt;|>|&gt;"},
    {AT_OTHER | CONTEXT | CASED, "([<>]?[:;=][-o*']?[]()DPdpO\\{@|[])[^A-Za-z0-9]"},
    {AT_OTHER, "[x^=~<>]\\.[x^=~<>]|[-x^=~<>']_[-x^=~<>']|\\([-x^=~<>'][_.]?[-x^=~<>']\\)|"
               "\\([x^=~<>']-[x^=~<>'`]\\)"},
    {AT_OTHER, "[]{}()[]"},
    {AT_OTHER, "-+"},
    {AT_OTHER, "\\.{3,5}|\020|(\\.[ \013]){2,4}\\."},
    {AT_OTHER, "@+|#+|_+"},
    {AT_OTHER, "\\*+|(\\\\\\*){1,3}"},
    {AT_OTHER, "[,;:\031]"},
    {AT_OTHER, "[?!]+"},
    {AT_OTHER, "[.\030/=]"},
    {AT_WORD | AT_DIGIT, HYPHENATED},
    {AT_WORD | AT_DIGIT | CONTEXT, "(" HYPHENATED "\\.)[,;:\031]"},
    {AT_ALL | CONTEXT, "(" THING "\\.)[,;:\031]"},
    {AT_ALL, THING},
    {AT_WORD | CONTEXT | CASED, "([A-Z]+(([+&]|&amp;)[A-Z]+)+\\.)[,;:\031]"},
    {AT_WORD | CASED, "[A-Z]+(([+&]|&amp;)[A-Z]+)+"},
    {AT_OTHER | CONTEXT, "(')[A-Za-z][^ \t\n\004\013]"},
    {AT_OTHER, APOS "([msd]|re|ve|ll)"},
    {AT_WORD, "n" APOS_LIKE "t"},
    {AT_OTHER, APOS "|''|[`\006\007\016]{1,2}"},
    {AT_OTHER, "<<|>>"},
    {AT_OTHER, "[+%&~^|\\\032\023\024\025]"},
};
enum { NUM_RULES = sizeof RULES / sizeof RULES[0] };

/* ---- classes of characters ---- */

struct range {
    int32_t first, last;
    enum class class;
};

static const struct range RANGES[] = {
    {0x80, 0x80, CURRENCY},
    {0x82, 0x82, QUOTE},
    {0x84, 0x84, QUOTE},
    {0x85, 0x85, DOTS},
    {0x91, 0x91, OPEN_SINGLE},
    {0x92, 0x92, APOSTROPHE},
    {0x93, 0x94, QUOTE},
    {0x96, 0x97, DASH},
    {0xA0, 0xA0, NBSP},
    {0xA1, 0xA1, FULL_STOP},
    {0xA2, 0xA5, CURRENCY},
    {0xA6, 0xA9, SYMBOL},
    {0xAB, 0xAB, QUOTE},
    {0xAC, 0xAC, SYMBOL},
    {0xAD, 0xAD, SOFT_HYPHEN},
    {0xAE, 0xB1, SYMBOL},
    {0xB2, 0xB3, SUPERSCRIPT},
    {0xB4, 0xB4, SYMBOL},
    {0xB6, 0xB8, SYMBOL},
    {0xB9, 0xB9, SUPERSCRIPT},
    {0xBB, 0xBB, QUOTE},
    {0xBC, 0xBE, FRACTION},
    {0xBF, 0xBF, FULL_STOP},
    {0xD7, 0xD7, SYMBOL},
    {0xF7, 0xF7, SYMBOL},
    {0x37E, 0x37E, FULL_STOP},
    {0x58A, 0x58A, HYPHEN},
    {0x589, 0x589, FULL_STOP},
    {0x60B, 0x60B, CURRENCY},
    {0x61F, 0x61F, FULL_STOP},
    {0x6D4, 0x6D4, FULL_STOP},
    {0x700, 0x702, FULL_STOP},
    {0xE3F, 0xE3F, CURRENCY},
    {0x2000, 0x200A, SPACE},
    {0x2010, 0x2011, HYPHEN},
    {0x2013, 0x2015, DASH},
    {0x2016, 0x2017, SYMBOL},
    {0x2018, 0x2018, OPEN_SINGLE},
    {0x2019, 0x2019, APOSTROPHE},
    {0x201A, 0x201A, QUOTE},
    {0x201B, 0x201B, OPEN_SINGLE},
    {0x201C, 0x201F, QUOTE},
    {0x2020, 0x2025, SYMBOL},
    {0x2026, 0x2026, DOTS},
    {0x2030, 0x2038, SYMBOL},
    {0x2039, 0x203A, QUOTE},
    {0x203B, 0x2044, SYMBOL},
    {0x2070, 0x2070, SUPERSCRIPT},
    {0x2074, 0x2079, SUPERSCRIPT},
    {0x207A, 0x207B, SCRIPT_SIGN},
    {0x207C, 0x207E, SYMBOL},
    {0x2080, 0x2089, SUBSCRIPT},
    {0x208A, 0x208B, SCRIPT_SIGN},
    {0x208C, 0x208E, SYMBOL},
    {0x20A0, 0x20A0, CURRENCY},
    {0x20A4, 0x20A4, CURRENCY},
    {0x20AC, 0x20AC, CURRENCY},
    {0x2153, 0x215E, FRACTION},
    {0x2190, 0x2BFF, SYMBOL},
    {0x3000, 0x3000, SPACE},
    {0x3001, 0x3001, COMMA},
    {0x3002, 0x3002, FULL_STOP},
    {0x3003, 0x3004, SYMBOL},
    {0x3008, 0x3020, SYMBOL},
    {0x30FB, 0x30FB, SYMBOL},
};

static char class_of(int32_t c) {
    for (size_t i = 0; i < sizeof RANGES / sizeof RANGES[0] && RANGES[i].first <= c; ++i)
        if (c <= RANGES[i].last)
            return (char)RANGES[i].class;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
        return UPPER;
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return LOWER;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
        return MARK;
    case UTF8PROC_CATEGORY_ND:
        return DIGIT;
    default:
        return c >= 0x2100 && c <= 0x214F ? SYMBOL : NOTHING;
    }
}

/* ---- the text as the rules see it ---- */

struct scan {
    size_t length;       /* characters of the text */
    int32_t *characters; /* [length] */
    char *cased, *lower; /* [length], what follows, '\0': their classes */
};

enum { LOOK_AHEAD = 20 }; /* characters of the next line: as many as the longest context */

static char ascii_class(char c) {
    if (c == '\t')
        return c;
    if (c >= '\n' && c <= '\r')
        return ' ';
    return c < ' ' || c == 0x7F ? NOTHING : c;
}

static size_t add_characters(struct scan *scan, size_t at, const char *text, size_t limit) {
    for (const char *byte = text; *byte != '\0' && at < limit; ++at) {
        const int32_t c = nlg_next_code_point(&byte);
        const char class = c < 0x80 ? ascii_class((char)c) : class_of(c);
        scan->characters[at] = c;
        scan->cased[at] = class;
        scan->lower[at] = class >= 'A' && class <= 'Z' ? (char)(class + 32) : class;
    }
    return at;
}

static struct scan scan_create(const char *text, const char *next) {
    const size_t room = strlen(text) + 1 + LOOK_AHEAD + 1;
    struct scan scan = {
        .characters = memory_allocate(room, sizeof(int32_t), "text to be scored"),
        .cased = memory_allocate(room, 1, "text to be scored"),
        .lower = memory_allocate(room, 1, "text to be scored"),
    };
    scan.length = add_characters(&scan, 0, text, SIZE_MAX);
    if (next != NULL) {
        scan.cased[scan.length] = scan.lower[scan.length] = '\n';
        add_characters(&scan, scan.length + 1, next, scan.length + 1 + LOOK_AHEAD);
    }
    return scan;
}

static void scan_destroy(struct scan *scan) {
    memory_free(scan->characters);
    memory_free(scan->cased);
    memory_free(scan->lower);
}

static bool is_ascii_letter(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_ascii_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool ends_token(char c) {
    return c == ' ' || c == '\n' || c == '\0';
}

static bool is_split_word(const char *text, size_t length) {
    static const char *const SPLIT[] = {"cannot", "gonna", "gotta", "lemme", "gimme", "wanna"};
    for (size_t i = 0; i < sizeof SPLIT / sizeof SPLIT[0]; ++i)
        if (length == strlen(SPLIT[i]) && memcmp(text, SPLIT[i], length) == 0)
            return true;
    return false;
}

/* Most tokens need no rules: ASCII letters, digits or one mark before a space. 0 if it is none of
 * these, or might be one of the tokens with a space inside. */
static size_t match_plain(const struct scan *scan, size_t at) {
    const char *text = scan->lower + at;
    size_t length = 0;
    while (is_ascii_letter(text[length]))
        ++length;
    if (length > 0)
        return ends_token(text[length]) && !is_split_word(text, length) ? length : 0;
    while (is_ascii_digit(text[length]))
        ++length;
    const bool is_number = length > 0;
    if (!is_number)
        length = text[0] == CURRENCY || strchr(".,:;!?\"'`()[]{}-&*/%", text[0]) != NULL;
    if (length == 0 || !ends_token(text[length]))
        return 0;
    const char behind = text[length] == ' ' ? text[length + 1] : 'a';
    const bool has_space = is_number ? is_ascii_digit(behind) : text[0] == '.' && behind == '.';
    return has_space ? 0 : length;
}

static unsigned first_kind(char c) {
    if (is_ascii_letter(c) || c == LOWER || c == UPPER || c == SOFT_HYPHEN)
        return AT_WORD;
    return (c >= '0' && c <= '9') || c == DIGIT ? AT_DIGIT : AT_OTHER;
}

/* Characters of the token at `at`, 0 if there is none; *flags are those of its rule. */
static size_t match(const regex_t *expressions, const struct scan *scan, size_t at,
                    unsigned *flags) {
    *flags = 0;
    const size_t plain = match_plain(scan, at);
    if (plain > 0)
        return plain;
    const unsigned kind = first_kind(scan->cased[at]);
    size_t longest = 0, token = 0;
    for (size_t i = 0; i < NUM_RULES; ++i) {
        regmatch_t found[2];
        if ((RULES[i].flags & kind) == 0 ||
            regexec(&expressions[i], (RULES[i].flags & CASED ? scan->cased : scan->lower) + at, 2,
                    found, 0) != 0 ||
            (size_t)found[0].rm_eo <= longest)
            continue;
        longest = (size_t)found[0].rm_eo;
        token = (size_t)found[1].rm_eo;
        *flags = RULES[i].flags;
    }
    return token - (*flags & BACK_3 ? 3 : *flags & BACK_2 ? 2 : *flags & BACK_1 ? 1 : 0);
}

/* ---- what a token is written as ---- */

static const char *written_quote(char class, int32_t c) {
    if (class == APOSTROPHE || class == '\'' || c == 0x203A)
        return "'";
    if (class == OPEN_SINGLE || class == '`' || c == 0x82 || c == 0x201A || c == 0x2039)
        return "`";
    return c == 0x84 || c == 0x93 || c == 0x201C || c == 0xAB ? "``" : "''";
}

static const char *written_currency(int32_t c) {
    switch (c) {
    case 0xA2:
        return "cents";
    case 0xA3:
        return "#";
    case 0x80:
    case 0xA4:
    case 0x20A0:
    case 0x20AC:
        return "$";
    default:
        return NULL;
    }
}

static const char *written_fraction(int32_t c) {
    switch (c) {
    case 0xBC:
        return "1/4";
    case 0xBD:
        return "1/2";
    case 0xBE:
        return "3/4";
    case 0x2153:
        return "1/3";
    case 0x2154:
        return "2/3";
    default:
        return NULL;
    }
}

/* A character of a token; NULL: itself. */
static const char *written(char class, int32_t c, bool is_raw, bool is_alone) {
    switch (class) {
    case '(':
        return "-LRB-";
    case ')':
        return "-RRB-";
    case ' ':
        return "\xC2\xA0";
    case '{':
        return is_alone ? "-LCB-" : NULL;
    case '}':
        return is_alone ? "-RCB-" : NULL;
    case '[':
        return is_alone ? "-LSB-" : NULL;
    case ']':
        return is_alone ? "-RSB-" : NULL;
    case '"':
        return is_alone ? "''" : NULL;
    case APOSTROPHE:
    case OPEN_SINGLE:
        return is_raw ? NULL : written_quote(class, c);
    case QUOTE: /* these two are not known to be quotes */
        return c == 0x201E || c == 0x201F ? NULL : written_quote(class, c);
    case SOFT_HYPHEN:
        return "";
    case DASH:
        return "--";
    case DOTS:
        return "...";
    case CURRENCY:
        return written_currency(c);
    case FRACTION:
        return written_fraction(c);
    default:
        return NULL;
    }
}

static void add_string(struct nlg_text *text, const char *string) {
    for (; *string != '\0'; ++string)
        nlg_text_add_byte(text, *string);
}

/* Tokens written as something else as a whole: NULL if this is none. */
static const char *written_whole(const char *lower, size_t length) {
    static const char *const WHOLE[][2] = {
        {"&lt;", "<"},     {"&gt;", ">"},     {"&quot;", "''"}, {"&apos;", "'"}, {"&md;", "--"},
        {"&mdash;", "--"}, {"&ndash;", "--"}, {"---", "--"},    {"----", "--"},  {"&nbsp;", ""},
    };
    for (size_t i = 0; i < sizeof WHOLE / sizeof WHOLE[0]; ++i)
        if (strlen(WHOLE[i][0]) == length && memcmp(WHOLE[i][0], lower, length) == 0)
            return WHOLE[i][1];
    if (length > 1 && strspn(lower, ". \013") >= length)
        return "...";
    return NULL;
}

static void write_token(struct nlg_text *token, const struct scan *scan, size_t at, size_t length,
                        unsigned flags) {
    const bool is_raw = (flags & (RAW | VERBATIM)) != 0;
    const char *lower = scan->lower + at;
    const char *whole = written_whole(lower, length);
    if (whole != NULL) {
        add_string(token, whole);
        return;
    }
    for (size_t i = 0; i < length; ++i) {
        const char *other =
            (flags & VERBATIM) != 0
                ? NULL
                : written(scan->cased[at + i], scan->characters[at + i], is_raw, length == 1);
        if (other != NULL)
            add_string(token, other);
        else
            nlg_text_add(token, scan->characters[at + i]);
        if ((flags & VERBATIM) == 0 && lower[i] == '&' && length - i >= 5 &&
            memcmp(lower + i, "&amp;", 5) == 0)
            i += 4;
    }
}

static bool is_dropped(const char *token) {
    static const char *const DROPPED[] = {"''", "'", "``", "`",  ".",   "?", "!",
                                          ",",  ":", "-",  "--", "...", ";", ""};
    for (size_t i = 0; i < sizeof DROPPED / sizeof DROPPED[0]; ++i)
        if (strcmp(token, DROPPED[i]) == 0)
            return true;
    return false;
}

struct nlg_treebank {
    regex_t rules[NUM_RULES];
};

struct nlg_treebank *nlg_treebank_create(void) {
    struct nlg_treebank *treebank = memory_allocate(1, sizeof *treebank, "Treebank rules");
    for (size_t i = 0; i < NUM_RULES; ++i) {
        /* Without a context the token is the whole match: it becomes the first parenthesis. */
        const char *format = (RULES[i].flags & CONTEXT) != 0 ? "^%s" : "^(%s)";
        char *pattern = memory_format(format, RULES[i].pattern);
        FAULT_UNLESS(regcomp(&treebank->rules[i], pattern, REG_EXTENDED) == 0, "bad pattern %s",
                     pattern);
        memory_free(pattern);
    }
    return treebank;
}

void nlg_treebank_destroy(struct nlg_treebank **treebank) {
    if (*treebank == NULL)
        return;
    for (size_t i = 0; i < NUM_RULES; ++i)
        regfree(&(*treebank)->rules[i]);
    memory_free(*treebank);
    *treebank = NULL;
}

char *nlg_treebank_tokenize(const struct nlg_treebank *treebank, const char *text,
                            const char *next) {
    struct scan scan = scan_create(text, next);
    struct nlg_text out = {0}, token = {0};
    nlg_text_cut(&out, 0);
    for (size_t at = 0, length; at<scan.length; at += length> 0 ? length : 1) {
        unsigned flags;
        length = match(treebank->rules, &scan, at, &flags);
        nlg_text_cut(&token, 0);
        write_token(&token, &scan, at, length, flags);
        if (is_dropped(token.bytes))
            continue;
        if (out.length > 0)
            nlg_text_add_byte(&out, ' ');
        nlg_text_add_lower(&out, token.bytes, token.length);
    }
    memory_free(token.bytes);
    scan_destroy(&scan);
    return out.bytes;
}
