/*
 * A deterministic scheduler: every thread of the program is a task of one real thread, and a seed decides which of
 * them goes on.
 *
 * The linker redirects (--wrap) what threads, time and chance are made of: pthread_create, join and detach, mutexes,
 * condition variables, nanosleep, clock_gettime, getrandom. So the code under test runs as it is. A primitive that is
 * not redirected here but in the list of CMakeLists.txt fails to link as soon as somebody uses it.
 *
 *                    sim_step, unlock, signal
 *         ┌──────────────────────────────────────────┐
 *         ▼                                          │
 *       READY ──chosen──► RUNNING ──► LOCKING (until the mutex is free)
 *         ▲                  │   └──► WAITING (for a signal, or until a time)
 *         │                  │   └──► SLEEPING (until a time)
 *         └──────────────────┘   └──► JOINING (until that task ended)
 *                                └──► ENDED
 *
 * The running task goes on until it does something at which it could be overtaken: locks a mutex, waits, sleeps, ends,
 * or calls sim_step. Then one of those that can run is chosen by the seed. Time is virtual: it stands still while a
 * task runs (but for a microsecond each time it is asked for), and jumps to the next sleeper when nobody can run, or
 * now and then when the seed says so. Nobody can run and nobody sleeps: that is a deadlock, and a failure.
 *
 * Everything that happens is folded into a hash (sim_trace): two runs of one seed must have the same.
 */
#ifndef ORLOP_TESTS_SIM_SCHED_H
#define ORLOP_TESTS_SIM_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_TASKS_MAX 128
#define SIM_STACK_BYTES (512 * 1024)
#define SIM_STEPS_MAX 4000000 /* of one run: more is a loop without end */

/*
 * Begin a run: the caller is the main task, time is where it always begins, chance follows the seed. Tasks of an
 * earlier run may still be there, all of them waiting without a limit (the helpers of parallel_each).
 */
void sim_begin(uint64_t seed);
/* Let everything that can run do so, until only waiting tasks are left besides the caller. */
void sim_settle(void);
uint64_t sim_seed(void);
/* Of everything that happened since sim_begin. */
uint64_t sim_trace_hash(void);
uint64_t sim_step_count(void);

/* ---- chance ---- */

uint64_t sim_random(void);
uint64_t sim_below(uint64_t limit); /* 0 … limit - 1 */
bool sim_chance(unsigned of_10000); /* true that often */

/* ---- time and order ---- */

uint64_t sim_now_ms(void);
void sim_sleep_ms(uint64_t ms);
/* Here another task may go on. */
void sim_step(void);
/* The number of the running task; 0 is main. */
unsigned sim_task(void);
/* Wake all tasks that wait on this address (sim_wait), and wait there until another does. */
void sim_wait(const void *address);
void sim_wake(const void *address);

/* ---- what happened ---- */

extern bool sim_is_traced; /* print every event to stderr */
/* Note an event in the hash, and print it when asked for. */
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * The run has failed: say why, the seed and how to replay it, and end the process with SIM_EXIT_FAILED. fmt is a
 * sentence without its end.
 */
_Noreturn void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define SIM_EXIT_FAILED 3
extern const char *sim_program; /* for the hint how to replay */

#define sim_check(condition, ...)  \
    do {                           \
        if (!(condition))          \
            sim_fail(__VA_ARGS__); \
    } while (0)

#endif
