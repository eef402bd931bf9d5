#include "sim_run.h"

#include "base/log.h"
#include "base/parallel.h"
#include "sim_http.h"
#include "sim_sched.h"

#include <assert.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#define WORKERS_MAX 64
#define FAILURES_MAX 20 /* then no more seeds are tried */
#define TWICE_EVERY 64

/* Shared with the workers. */
struct shared {
    atomic_ullong next;
    uint64_t last;
    atomic_ullong done, steps;
    atomic_ullong counters[SIM_COUNTERS_MAX];
};

static struct shared *shared;

void sim_count(unsigned counter, uint64_t n)
{
    assert(counter < SIM_COUNTERS_MAX);
    if (shared)
        atomic_fetch_add(&shared->counters[counter], n);
}

/* ---- one run ---- */

static bool meet(void *arg, size_t index)
{
    (void) arg, (void) index;
    sim_sleep_ms(1);
    return true;
}

/* The helpers of parallel_each live as long as the process: have all of them before the first run. */
static void wake_helpers(void)
{
    sim_begin(0);
    parallel_each(PARALLEL_THREADS + 1, PARALLEL_THREADS + 1, meet, NULL);
    sim_settle();
}

static uint64_t run_seed(const struct sim_test *test, uint64_t seed)
{
    sim_begin(seed);
    test->run();
    sim_settle();
    return sim_trace_hash();
}

static _Noreturn void work(const struct sim_test *test)
{
    wake_helpers();
    for (;;) {
        uint64_t seed = atomic_fetch_add(&shared->next, 1);
        if (seed > shared->last)
            break;
        uint64_t hash = run_seed(test, seed);
        if (seed % TWICE_EVERY == 0 && run_seed(test, seed) != hash)
            sim_fail("a second run took another way: it depends on something that is not simulated");
        atomic_fetch_add(&shared->steps, sim_step_count());
        atomic_fetch_add(&shared->done, 1);
    }
    fflush(NULL);
#ifdef __SANITIZE_ADDRESS__
    if (__lsan_do_recoverable_leak_check())
        _exit(1);
#endif
    _exit(0);
}

/* ---- workers ---- */

static pid_t worker_start(const struct sim_test *test, bool quiet)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    if (quiet) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void) dup2(null, STDERR_FILENO);
    }
    work(test);
}

uint64_t sim_run_seeds(const struct sim_test *test, uint64_t first, uint64_t last, bool quiet)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned running = 0, most = cores < 1 ? 1 : cores > WORKERS_MAX ? WORKERS_MAX : (unsigned) cores;
    uint64_t failed = 0;
    if (!shared)
        shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(shared != MAP_FAILED);
    memset(shared, 0, sizeof(*shared));
    atomic_store(&shared->next, first);
    shared->last = last;
    while (running > 0 || (atomic_load(&shared->next) <= last && failed < FAILURES_MAX)) {
        if (running < most && atomic_load(&shared->next) <= last && failed < FAILURES_MAX) {
            if (worker_start(test, quiet) < 0)
                abort();
            running++;
            continue;
        }
        int status = 0;
        if (wait(&status) < 0)
            break;
        running--;
        bool is_well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        failed += !is_well;
        if (!is_well && !quiet && !(WIFEXITED(status) && WEXITSTATUS(status) == SIM_EXIT_FAILED))
            fprintf(stderr, "a worker ended with status 0x%x\n", (unsigned) status);
    }
    return failed;
}

/* ---- the command line ---- */

static void print_counters(const struct sim_test *test)
{
    for (unsigned i = 0; test->counter_names && test->counter_names[i]; i++) {
        unsigned long long value = atomic_load(&shared->counters[i]);
        printf("    %-28s %llu\n", test->counter_names[i], value);
    }
}

int sim_run_main(const struct sim_test *test, int argc, char **argv)
{
    unsigned long long first = 1, last = test->seeds, one = 0;
    sim_program = argv[0];
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0)
            sim_is_traced = true;
        else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0 && sscanf(argv[i + 1], "%llu", &one) == 1)
            i++;
        else if (i + 1 < argc && strcmp(argv[i], "--seeds") == 0 &&
                 sscanf(argv[i + 1], "%llu-%llu", &first, &last) == 2)
            i++;
        else {
            fprintf(stderr, "usage: %s [--seeds FIRST-LAST | --seed N [--trace]]\n", argv[0]);
            return 2;
        }
    }
    log_set_level(LOG_ERROR);
    if (one > 0) {
        wake_helpers();
        bool is_traced = sim_is_traced;
        uint64_t hash = run_seed(test, one);
        printf("seed %llu: trace %016llx\n", one, (unsigned long long) hash);
        sim_is_traced = false;
        if (run_seed(test, one) != hash)
            sim_fail("a second run took another way: it depends on something that is not simulated");
        sim_is_traced = is_traced;
        return 0;
    }
    uint64_t failed = sim_run_seeds(test, first, last, false);
    unsigned long long done = atomic_load(&shared->done);
    printf("%s: %llu of %llu seeds passed, %llu failed; %llu steps\n", test->name, done, last - first + 1,
           (unsigned long long) failed, (unsigned long long) atomic_load(&shared->steps));
    print_counters(test);
    printf(failed ? "[  FAILED  ] %s\n" : "[       OK ] %s\n", test->name);
    return failed ? 1 : 0;
}
