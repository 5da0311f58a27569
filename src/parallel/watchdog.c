/* The watchdog. It counts its own wakings, not the clock: a job that the scheduler suspends as a
 * whole does not stall. The thread makes one MPI call, the one that ends everything. */
#include "parallel/watchdog.h"

#include "base/memory.h"
#include "base/report.h"
#include "parallel/layout.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { HOST_BYTES = 64, TEXT_BYTES = 512, PEERS_LISTED = 8 };

/* Between a report and the end: the other ranks report too, and the last one to move is known. */
static const double SECONDS_TO_REPORT = 2;
enum { SECONDS_TO_ABORT = 5 };

struct watchdog {
    struct comm world;
    int replica, stage;
    struct activity activity;
    double stall_seconds;
    char (*hosts)[HOST_BYTES]; /* [ranks] */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    bool ends;
};

/* ---- the rank's words ---- */

static void set(_Atomic size_t *word, size_t value) {
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static size_t get(const _Atomic size_t *word) {
    return atomic_load_explicit(word, memory_order_relaxed);
}

/* Only the rank itself writes, so that no read-modify-write is needed. */
static void count(struct activity *activity) {
    set(&activity->count, get(&activity->count) + 1);
}

void activity_step(struct activity *activity, const char *phase, size_t step) {
    if (activity == NULL)
        return;
    atomic_store_explicit(&activity->phase, phase, memory_order_relaxed);
    set(&activity->step, step);
    set(&activity->microbatch, 0);
    count(activity);
}

void activity_microbatch(struct activity *activity, size_t microbatch) {
    if (activity == NULL)
        return;
    set(&activity->microbatch, microbatch);
    count(activity);
}

void activity_wait(struct activity *activity, int first, int stride, int num_peers) {
    if (activity == NULL)
        return;
    atomic_store_explicit(&activity->first_peer, first, memory_order_relaxed);
    atomic_store_explicit(&activity->peer_stride, stride, memory_order_relaxed);
    atomic_store_explicit(&activity->num_peers, num_peers, memory_order_relaxed);
    count(activity);
}

void activity_go_on(struct activity *activity) {
    activity_wait(activity, 0, 0, 0);
}

/* ---- the thread ---- */

static void end_process(int signal) {
    (void)signal;
    _exit(EXIT_PEER);
}

/* MPI_Abort may hang where a peer does. */
static void end_all(const struct watchdog *watchdog) {
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    signal(SIGALRM, end_process);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    alarm(SECONDS_TO_ABORT);
    MPI_Abort(watchdog->world.handle, EXIT_PEER);
    _exit(EXIT_PEER);
}

/* Adds to `text`, as far as there is room. */
static void append(char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void append(char *text, const char *format, ...) {
    const size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, TEXT_BYTES - used, format, arguments);
    va_end(arguments);
}

/* The ranks that are waited for but this one: a few by their numbers, of many the first and the
 * last. */
static void list_peers(const struct watchdog *watchdog, int first, int stride, int count,
                       char *text) {
    const int own = watchdog->world.mpi_rank;
    int listed = 0;
    append(text, "waits for the ranks ");
    for (int i = 0; i < count; ++i) {
        const int rank = first + i * stride;
        const bool is_shown = listed < PEERS_LISTED || i + 1 == count;
        if (rank == own)
            continue;
        if (is_shown)
            append(text, "%s%d", listed == 0 ? "" : listed > PEERS_LISTED ? ", ..., " : ", ", rank);
        ++listed;
    }
}

static void describe_peers(const struct watchdog *watchdog, char *text) {
    const struct activity *activity = &watchdog->activity;
    const int first = atomic_load_explicit(&activity->first_peer, memory_order_relaxed);
    const int stride = atomic_load_explicit(&activity->peer_stride, memory_order_relaxed);
    const int count = atomic_load_explicit(&activity->num_peers, memory_order_relaxed);
    const int place = watchdog->world.mpi_rank - first;
    const bool is_member = count > 0 && place >= 0 && place % stride == 0 && place / stride < count;
    const int others = count - is_member, one = is_member && place == 0 ? first + stride : first;
    *text = '\0';
    if (others == 0) {
        append(text, "waits for no other rank");
    } else if (others == 1) {
        append(text, "waits for rank %d on %s", one, watchdog->hosts[one]);
    } else {
        if (count == watchdog->world.size)
            append(text, "waits for all ranks");
        else
            list_peers(watchdog, first, stride, count, text);
        append(text, " (one that reports nothing here stalls)");
    }
}

static void report(const struct watchdog *watchdog) {
    const struct activity *activity = &watchdog->activity;
    const int rank = watchdog->world.mpi_rank;
    const char *phase = atomic_load_explicit(&activity->phase, memory_order_relaxed);
    char peers[TEXT_BYTES];
    describe_peers(watchdog, peers);
    report_error("rank %d on %s, replica %d, stage %d, phase %s, step %zu, microbatch %zu: no "
                 "progress for %g s "
                 "(output.stall_seconds); %s",
                 rank, watchdog->hosts[rank], watchdog->replica, watchdog->stage, phase,
                 get(&activity->step), get(&activity->microbatch), watchdog->stall_seconds, peers);
}

/* False when the watchdog is to end. */
static bool sleep_for(struct watchdog *watchdog, double seconds) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    const long nanoseconds = until.tv_nsec + (long)((seconds - (double)(long)seconds) * 1e9);
    until.tv_sec += (time_t)seconds + nanoseconds / 1000000000;
    until.tv_nsec = nanoseconds % 1000000000;
    pthread_mutex_lock(&watchdog->mutex);
    int result = 0;
    while (!watchdog->ends && result == 0)
        result = pthread_cond_timedwait(&watchdog->condition, &watchdog->mutex, &until);
    const bool goes_on = !watchdog->ends;
    pthread_mutex_unlock(&watchdog->mutex);
    return goes_on;
}

static void *watch(void *context) {
    struct watchdog *watchdog = context;
    const double tick = watchdog->stall_seconds < 4 ? watchdog->stall_seconds / 4 : 1;
    size_t seen = get(&watchdog->activity.count);
    double idle = 0;
    while (sleep_for(watchdog, tick)) {
        const size_t now = get(&watchdog->activity.count);
        idle = now == seen ? idle + tick : 0;
        seen = now;
        if (idle < watchdog->stall_seconds)
            continue;
        report(watchdog);
        if (!sleep_for(watchdog, SECONDS_TO_REPORT))
            break;
        if (get(&watchdog->activity.count) == seen)
            end_all(watchdog);
        idle = 0;
    }
    return NULL;
}

/* Signals go to the rank's own thread. */
static void start_thread(struct watchdog *watchdog) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&watchdog->thread, NULL, watch, watchdog);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    FAULT_UNLESS(error == 0, "the watchdog's thread: %s", strerror(error));
}

struct watchdog *watchdog_start(struct comms *comms, double stall_seconds) {
    if (stall_seconds <= 0)
        return NULL;
    struct watchdog *watchdog = memory_allocate(1, sizeof *watchdog, "the watchdog");
    const struct comm *world = &comms->world;
    watchdog->world = *world;
    watchdog->replica = comms->replicas.mpi_rank;
    watchdog->stage = comms->stages.mpi_rank;
    watchdog->stall_seconds = stall_seconds;
    atomic_init(&watchdog->activity.phase, "setup");
    char host[HOST_BYTES] = "";
    gethostname(host, sizeof host - 1);
    watchdog->hosts = memory_allocate((size_t)world->size, sizeof *watchdog->hosts, "host names");
    comm_all_gather(world, host, 1, sizeof host, watchdog->hosts);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&watchdog->condition, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&watchdog->mutex, NULL);
    start_thread(watchdog);
    comms_set_activity(comms, &watchdog->activity);
    return watchdog;
}

void watchdog_stop(struct watchdog **pointer) {
    struct watchdog *watchdog = *pointer;
    if (watchdog == NULL)
        return;
    pthread_mutex_lock(&watchdog->mutex);
    watchdog->ends = true;
    pthread_cond_signal(&watchdog->condition);
    pthread_mutex_unlock(&watchdog->mutex);
    pthread_join(watchdog->thread, NULL);
    pthread_mutex_destroy(&watchdog->mutex);
    pthread_cond_destroy(&watchdog->condition);
    memory_free(watchdog->hosts);
    memory_free(watchdog);
    *pointer = NULL;
}
