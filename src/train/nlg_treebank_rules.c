/* The rules of the Treebank tokens and the classes of characters that they speak of. */
#include "train/nlg_treebank.h"

#include <utf8proc.h>

#define LETTER "([A-Za-z\001\002\026\034]|&[aeiouAEIOU](acute|grave|uml);)"
#define WORD_PART LETTER "(" LETTER "|[0-9\003])*"
#define WORD WORD_PART "([.!?]" WORD_PART ")*"
#define APOS "(['\006]|&apos;)"
#define APOS_LIKE "(['\006\007`]|&apos;)"
#define NUM "([0-9\003]*([.,:\026][0-9\003]+)+|[0-9\003]+)"
#define ALNUM "[A-Za-z0-9\001\002\003]"
#define ALPHA "[A-Za-z\001\002]"
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

const struct treebank_rule TREEBANK_RULES[] = {
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
     "([wW]{3}\\.([^] \t\n\"<>|.!?(){},]+\\.)+[a-zA-Z]{2,4}|"
     "([^] \t\n\"`'<>|.!?(){},-_$]+\\.)+(com|net|org|edu|COM|NET|ORG|EDU))"
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
     "java|jpe?g|mov|mp3|pdf|php|pl|png|ppt|ps|py|sql|tar|txt|wav|x|xml|zip))"
     "([ \t\n\004\013.?!,])"},
    {AT_WORD | AT_OTHER | CONTEXT, "(" WORD "\\.)[,;:\031]"},
    {AT_DIGIT | AT_OTHER,
     "(\\([0-9]{2,3}\\)[ \013]?|(\\+\\+?)?([0-9]{2,4}[- \013])?[0-9]{2,4}[- \013])"
     "[0-9]{3,4}[- \013]?[0-9]{3,5}|"
     "((\\+\\+?)?[0-9]{2,4}\\.)?[0-9]{2,4}\\.[0-9]{3,4}\\.[0-9]{3,5}"},
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
    {0x589, 0x589, FULL_STOP},
    {0x58A, 0x58A, HYPHEN},
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

char treebank_class(int32_t c) {
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
