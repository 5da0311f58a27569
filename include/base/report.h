/* Reporting: the exit codes, problems that come from outside, and faults of the program itself.
 *
 * Two routes. A *problem* is the user's: a function that meets one fills a struct problem and
 * returns false; `comm_agree` (parallel/comm.h) then ends all ranks with one message. A *fault* is
 * the program's own: `FAULT` prints file and line and aborts every rank at once. */
#ifndef AUTOLORA_BASE_REPORT_H
#define AUTOLORA_BASE_REPORT_H

#include <stdbool.h>
#include <stddef.h>

/* Exit codes of the program (README, "Exit codes"). */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_USAGE = 2,     /* wrong usage or input file */
    EXIT_DATA = 3,      /* data or model file unreadable or inconsistent */
    EXIT_NUMERICS = 4,  /* a loss, gradient or update that is not finite */
    EXIT_MEMORY = 5,    /* out of memory */
    EXIT_IO = 6,        /* disk full, HDF5 */
    EXIT_PEER = 7,      /* a peer was lost or stalls */
    EXIT_RESUBMIT = 75, /* stopped with a good checkpoint: submit again */
};

enum { PROBLEM_TEXT_BYTES = 4096 };

/* What is wrong with something that came from outside. exit_code == 0 means: nothing. */
struct problem {
    int exit_code;
    char text[PROBLEM_TEXT_BYTES];
};

/* Messages shorten words of more than 200 characters, and what does not fit, in the middle: the end
 * of a long path and the text behind it stay. */

/* Records a problem (the first one stays) and returns false, so that a reader can write
 * `return problem_set(problem, EXIT_DATA, ...)`. */
bool problem_set(struct problem *problem, int exit_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Appends one more line to a problem: used where all mistakes are listed together. */
void problem_append(struct problem *problem, int exit_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Prints "autolora: <text>" on stderr, flushed, as one write. */
void report_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends every rank with `exit_code`, whatever they are doing (MPI_Abort where MPI runs). For faults
 * on one rank only, which the others cannot know of. Not collective. Does not return. */
void report_abort(int exit_code, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5), noreturn));

/* A fault of the program: aborts all ranks with file and line. */
#define FAULT(...) report_abort(1, __FILE__, __LINE__, __VA_ARGS__)
#define FAULT_UNLESS(condition, ...)                                                               \
    do {                                                                                           \
        if (!(condition))                                                                          \
            FAULT(__VA_ARGS__);                                                                    \
    } while (0)

#endif
