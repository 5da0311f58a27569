/* The input file and --set: text, then an override a part. What was read is printed, and read back
 * the same. */
#include "fuzz.h"

#include "config.h"

enum { MOST_OVERRIDES = 3 };

void fuzz_prepare(void) {
}

static void print_and_read_back(const struct config *config) {
    char *text = config_print(config);
    struct config again;
    struct problem problem = {0};
    FAULT_UNLESS(config_parse(&again, text, strlen(text), "again", NULL, 0, &problem), "%s: %s",
                 problem.text, text);
    char *differences = config_differences(config, &again);
    FAULT_UNLESS(differences == NULL, "%s", differences);
    char *second = config_print(&again);
    FAULT_UNLESS(strcmp(text, second) == 0, "%s\n%s", text, second);
    memory_free(second);
    memory_free(text);
    config_free(&again);
}

void fuzz_one(const char *bytes, size_t size) {
    struct part parts[1 + MOST_OVERRIDES];
    fuzz_cut(bytes, size, parts, 1 + MOST_OVERRIDES);
    char *overrides[MOST_OVERRIDES];
    size_t count = 0;
    for (; count < MOST_OVERRIDES && parts[1 + count].bytes != NULL; ++count)
        overrides[count] = fuzz_text(parts[1 + count]);
    struct config config;
    struct problem problem = {0};
    const bool is_good = config_parse(&config, parts[0].bytes, parts[0].size, "input.json",
                                      (const char *const *)overrides, count, &problem);
    fuzz_check(is_good, &problem);
    if (is_good) {
        print_and_read_back(&config);
        config_free(&config);
    }
    for (size_t i = 0; i < count; ++i)
        memory_free(overrides[i]);
}
