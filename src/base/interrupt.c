/* Signals that ask a run to stop. The handler calls only what is safe in one. */
#include "base/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

static const struct {
    int number;
    const char *name;
} SIGNALS[] = {{SIGTERM, "SIGTERM"}, {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"}};
enum { NUM_SIGNALS = sizeof SIGNALS / sizeof *SIGNALS };

/* A handler has no arguments of its own. */
static volatile sig_atomic_t first_signal;
static volatile time_t first_second;

static time_t seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void note(int number) {
    static const char text[] = "autolora: a second signal: ends at once\n";
    const int error = errno;
    if (first_signal == 0) {
        first_second = seconds_now();
        first_signal = number;
    } else if (seconds_now() - first_second > INTERRUPT_GRACE_SECONDS) {
        if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
            errno = error;
        signal(number, SIG_DFL);
        raise(number); /* delivered when the handler returns */
    }
    errno = error;
}

void interrupt_catch(void) {
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < NUM_SIGNALS; ++i)
        sigaction(SIGNALS[i].number, &action, NULL);
}

int interrupt_signal(void) {
    return first_signal;
}

const char *interrupt_name(int number) {
    for (size_t i = 0; i < NUM_SIGNALS; ++i)
        if (SIGNALS[i].number == number)
            return SIGNALS[i].name;
    return "a signal";
}
