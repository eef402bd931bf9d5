/* Tasks on stacks of their own, switched by ucontext; the redirected functions are below. */
#include "sim_sched.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define US_PER_MS 1000ULL
#define US_PER_S 1000000ULL
#define NS_PER_US 1000
#define WALL_BEGIN_S 1800000000ULL /* the wall clock when a run begins */
#define GUARD_BYTES 4096
#define SWITCH_AT_LOCK_OF_10000 2500
#define JUMP_OF_10000 300

enum state { STATE_FREE, STATE_READY, STATE_LOCKING, STATE_WAITING, STATE_SLEEPING, STATE_JOINING, STATE_ENDED };

static const char *const state_names[] = {"free", "ready", "locking", "waiting", "sleeping", "joining", "ended"};

struct task {
    enum state state;
    bool is_detached;
    bool is_timed;      /* until_us counts */
    bool timed_out;     /* the last wait ended by time */
    const void *object; /* mutex, condition variable, address or task */
    uint64_t until_us;
    ucontext_t context;
    char *stack;
    void *(*run)(void *arg);
    void *arg;
    void *result;
#ifdef WITH_ASAN
    void *fake_stack;
    const void *asan_bottom;
    size_t asan_size;
#endif
};

/* What a pthread_mutex_t holds here: all zero is free, as PTHREAD_MUTEX_INITIALIZER makes it. */
struct sim_mutex {
    unsigned owner; /* the task's number and 1 */
};

static struct {
    struct task tasks[SIM_TASKS_MAX];
    unsigned count; /* slots ever used */
    unsigned current;
    uint64_t now_us;
    uint64_t seed;
    uint64_t random[4];
    uint64_t hash;
    uint64_t steps;
} sim = {.count = 1, .tasks[0] = {.state = STATE_READY}};

bool sim_is_traced;
const char *sim_program = "PROGRAM";

/* ---- chance: xoshiro256**, seeded by splitmix64 ---- */

static uint64_t rotate(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

uint64_t sim_random(void)
{
    uint64_t *s = sim.random;
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

static void random_seed(uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15ULL;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
        sim.random[i] = z ^ z >> 31;
    }
}

uint64_t sim_below(uint64_t limit)
{
    assert(limit > 0);
    return sim_random() % limit;
}

bool sim_chance(unsigned of_10000)
{
    return of_10000 > 0 && sim_below(10000) < of_10000;
}

/* ---- what happened ---- */

static void hash_add(uint64_t value)
{
    sim.hash = rotate(sim.hash ^ value, 29) * 0x9fb21c651e98df25ULL;
}

void sim_trace(const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (int i = 0; i < len && (size_t) i < sizeof(text) - 1; i++)
        sim.hash = (sim.hash ^ (unsigned char) text[i]) * 0x100000001b3ULL;
    if (sim_is_traced)
        fprintf(stderr, "%9.3f  task %-3u %s\n", (double) sim.now_us / (double) US_PER_S, sim.current, text);
}

uint64_t sim_trace_hash(void)
{
    return sim.hash;
}

uint64_t sim_step_count(void)
{
    return sim.steps;
}

uint64_t sim_seed(void)
{
    return sim.seed;
}

static void dump_tasks(void)
{
    for (unsigned i = 0; i < sim.count; i++) {
        const struct task *task = &sim.tasks[i];
        if (task->state == STATE_FREE || task->state == STATE_ENDED)
            continue;
        fprintf(stderr, "    task %u: %s", i, i == sim.current ? "running" : state_names[task->state]);
        if (task->state == STATE_LOCKING)
            fprintf(stderr, " a mutex of task %u", ((const struct sim_mutex *) task->object)->owner - 1);
        if (task->is_timed)
            fprintf(stderr, " until %.3f s", (double) task->until_us / (double) US_PER_S);
        fputc('\n', stderr);
    }
}

static _Noreturn void end_failed(void)
{
    fprintf(stderr, "; replay with: %s --seed %llu --trace\n", sim_program, (unsigned long long) sim.seed);
    fflush(NULL);
    _exit(SIM_EXIT_FAILED);
}

void sim_fail(const char *format, ...)
{
    va_list args;
    fprintf(stderr, "seed %llu: at %.3f s, task %u: ", (unsigned long long) sim.seed,
            (double) sim.now_us / (double) US_PER_S, sim.current);
    va_start(args, format);
    (void) vfprintf(stderr, format, args);
    va_end(args);
    end_failed();
}

/* An assertion of the code under test. */
static void on_abort(int number)
{
    (void) number;
    fprintf(stderr, "seed %llu: an assertion failed", (unsigned long long) sim.seed);
    end_failed();
}

/* ---- switching ---- */

static void switch_to(unsigned next)
{
    struct task *from = &sim.tasks[sim.current], *to = &sim.tasks[next];
    int saved_errno = errno;
    if (from == to)
        return;
    sim.current = next;
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(from->state == STATE_ENDED ? NULL : &from->fake_stack, to->asan_bottom,
                                   to->asan_size);
#endif
    (void) swapcontext(&from->context, &to->context);
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
    errno = saved_errno;
}

static bool mutex_is_free(const void *mutex)
{
    return ((const struct sim_mutex *) mutex)->owner == 0;
}

static bool can_run(struct task *task)
{
    switch (task->state) {
    case STATE_READY:
        return true;
    case STATE_LOCKING:
        return mutex_is_free(task->object);
    case STATE_JOINING:
        return ((const struct task *) task->object)->state == STATE_ENDED;
    case STATE_WAITING:
    case STATE_SLEEPING:
        return task->is_timed && task->until_us <= sim.now_us;
    case STATE_FREE:
    case STATE_ENDED:
        break;
    }
    return false;
}

/* The earliest time anybody waits for; 0: nobody does. */
static uint64_t next_time(void)
{
    uint64_t next = 0;
    for (unsigned i = 0; i < sim.count; i++) {
        const struct task *task = &sim.tasks[i];
        bool is_waiting = task->state == STATE_WAITING || task->state == STATE_SLEEPING;
        if (is_waiting && task->is_timed && (next == 0 || task->until_us < next))
            next = task->until_us;
    }
    return next;
}

static void clock_jump(uint64_t to_us)
{
    if (to_us > sim.now_us)
        sim.now_us = to_us;
}

/* Choose who goes on, and go there; returns when the caller is chosen again. */
static void choose(void)
{
    unsigned ready[SIM_TASKS_MAX], count = 0;
    if (++sim.steps > SIM_STEPS_MAX)
        sim_fail("no end after %d steps", SIM_STEPS_MAX);
    if (sim_chance(JUMP_OF_10000))
        clock_jump(next_time());
    for (int tries = 0; count == 0; tries++) {
        for (unsigned i = 0; i < sim.count; i++) {
            if (can_run(&sim.tasks[i]))
                ready[count++] = i;
        }
        uint64_t next = count == 0 ? next_time() : 0;
        if (count == 0 && next == 0) {
            fprintf(stderr, "deadlock:\n");
            dump_tasks();
            sim_fail("deadlock: no task can go on");
        }
        if (count == 0)
            clock_jump(next);
    }
    unsigned next = count == 1 ? ready[0] : ready[sim_below(count)];
    struct task *task = &sim.tasks[next];
    task->timed_out = task->state == STATE_WAITING;
    task->state = STATE_READY;
    task->is_timed = false;
    hash_add(next);
    switch_to(next);
}

static void block(enum state state, const void *object)
{
    struct task *task = &sim.tasks[sim.current];
    task->state = state;
    task->object = object;
    choose();
}

static void block_until(enum state state, const void *object, uint64_t until_us)
{
    struct task *task = &sim.tasks[sim.current];
    task->is_timed = true;
    task->until_us = until_us;
    block(state, object);
}

void sim_step(void)
{
    choose();
}

unsigned sim_task(void)
{
    return sim.current;
}

uint64_t sim_now_ms(void)
{
    return sim.now_us / US_PER_MS;
}

void sim_sleep_ms(uint64_t ms)
{
    block_until(STATE_SLEEPING, NULL, sim.now_us + ms * US_PER_MS);
}

void sim_wait(const void *address)
{
    block(STATE_WAITING, address);
}

void sim_wake(const void *address)
{
    for (unsigned i = 0; i < sim.count; i++) {
        struct task *task = &sim.tasks[i];
        if (task->state == STATE_WAITING && task->object == address) {
            task->state = STATE_READY;
            task->is_timed = false;
        }
    }
}

/* ---- runs ---- */

void sim_begin(uint64_t seed)
{
    static bool is_ready;
    if (!is_ready) {
        struct sigaction action = {.sa_handler = on_abort};
        (void) sigaction(SIGABRT, &action, NULL);
#ifdef WITH_ASAN
        pthread_attr_t attr;
        void *bottom;
        size_t size;
        (void) pthread_getattr_np(pthread_self(), &attr);
        (void) pthread_attr_getstack(&attr, &bottom, &size);
        pthread_attr_destroy(&attr);
        sim.tasks[0].asan_bottom = bottom;
        sim.tasks[0].asan_size = size;
#endif
        is_ready = true;
    }
    assert(sim.current == 0);
    for (unsigned i = 1; i < sim.count; i++) {
        const struct task *task = &sim.tasks[i];
        bool is_idle = task->state == STATE_WAITING && !task->is_timed;
        assert(is_idle || task->state == STATE_FREE || (task->state == STATE_ENDED && !task->run));
    }
    sim.now_us = US_PER_S; /* not 0: some take a time of 0 for none */
    sim.seed = seed;
    sim.hash = seed;
    sim.steps = 0;
    random_seed(seed);
}

void sim_settle(void)
{
    for (;;) {
        bool is_busy = false;
        for (unsigned i = 0; i < sim.count; i++) {
            const struct task *task = &sim.tasks[i];
            bool is_idle = task->state == STATE_WAITING && !task->is_timed;
            is_busy |= i != sim.current && !is_idle && task->state != STATE_FREE && task->state != STATE_ENDED;
        }
        if (!is_busy)
            return;
        sim_sleep_ms(1);
    }
}

/* ---- tasks, as pthreads ---- */

static void task_main(void)
{
    struct task *self = &sim.tasks[sim.current];
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
    self->result = self->run(self->arg);
    self->state = STATE_ENDED;
    if (self->is_detached)
        self->run = NULL;
    choose();
    abort();
}

/* Free, or ended with nobody to join it. */
static bool slot_is_free(const struct task *task)
{
    return task->state == STATE_FREE || (task->state == STATE_ENDED && !task->run);
}

static struct task *slot_find(void)
{
    for (unsigned i = 1; i < sim.count; i++) {
        if (slot_is_free(&sim.tasks[i]))
            return &sim.tasks[i];
    }
    return sim.count < SIM_TASKS_MAX ? &sim.tasks[sim.count++] : NULL;
}

int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    (void) attr;
    struct task *task = slot_find();
    sim_check(task, "more than %d tasks", SIM_TASKS_MAX);
    char *stack = task->stack;
    if (!stack) {
        stack = mmap(NULL, SIM_STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        sim_check(stack != MAP_FAILED && mprotect(stack, GUARD_BYTES, PROT_NONE) == 0, "no memory for a stack");
        stack += GUARD_BYTES;
    }
    *task = (struct task){.state = STATE_READY, .stack = stack, .run = run, .arg = arg};
#ifdef WITH_ASAN
    __asan_unpoison_memory_region(stack, SIM_STACK_BYTES);
    task->asan_bottom = stack;
    task->asan_size = SIM_STACK_BYTES;
#endif
    (void) getcontext(&task->context);
    task->context.uc_stack.ss_sp = stack;
    task->context.uc_stack.ss_size = SIM_STACK_BYTES;
    task->context.uc_link = NULL;
    makecontext(&task->context, task_main, 0);
    *out = (pthread_t) (task - sim.tasks);
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **out_result);
int __wrap_pthread_join(pthread_t thread, void **out_result)
{
    struct task *task = &sim.tasks[thread];
    assert(thread > 0 && thread < sim.count && !task->is_detached);
    if (task->state != STATE_ENDED)
        block(STATE_JOINING, task);
    if (out_result)
        *out_result = task->result;
    task->state = STATE_FREE;
    return 0;
}

int __wrap_pthread_detach(pthread_t thread);
int __wrap_pthread_detach(pthread_t thread)
{
    struct task *task = &sim.tasks[thread];
    task->is_detached = true;
    if (task->state == STATE_ENDED)
        task->state = STATE_FREE;
    return 0;
}

/* ---- mutexes and condition variables ---- */

int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr);
int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
    assert(!attr);
    memset(mutex, 0, sizeof(*mutex));
    return 0;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    sim_check(mutex_is_free(mutex), "a locked mutex is destroyed");
    for (unsigned i = 0; i < sim.count; i++)
        sim_check(sim.tasks[i].state != STATE_LOCKING || sim.tasks[i].object != mutex,
                  "a mutex is destroyed that task %u waits for", i);
    return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    struct sim_mutex *sim_mutex = (struct sim_mutex *) mutex;
    sim_check(sim_mutex->owner != sim.current + 1, "a task locks a mutex twice");
    if (sim_chance(SWITCH_AT_LOCK_OF_10000))
        choose();
    if (sim_mutex->owner != 0)
        block(STATE_LOCKING, mutex);
    assert(sim_mutex->owner == 0);
    sim_mutex->owner = sim.current + 1;
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    struct sim_mutex *sim_mutex = (struct sim_mutex *) mutex;
    sim_check(sim_mutex->owner == sim.current + 1, "a task unlocks a mutex that it does not hold");
    sim_mutex->owner = 0;
    return 0;
}

int __wrap_pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr);
int __wrap_pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr)
{
    (void) attr;
    memset(cond, 0, sizeof(*cond));
    return 0;
}

int __wrap_pthread_cond_destroy(pthread_cond_t *cond);
int __wrap_pthread_cond_destroy(pthread_cond_t *cond)
{
    for (unsigned i = 0; i < sim.count; i++)
        sim_check(sim.tasks[i].state != STATE_WAITING || sim.tasks[i].object != cond,
                  "a condition is destroyed that task %u waits for", i);
    return 0;
}

int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    (void) __wrap_pthread_mutex_unlock(mutex);
    block(STATE_WAITING, cond);
    return __wrap_pthread_mutex_lock(mutex);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
    uint64_t seconds = (uint64_t) until->tv_sec;
    if (seconds >= WALL_BEGIN_S) /* a condition of the wall clock */
        seconds -= WALL_BEGIN_S;
    (void) __wrap_pthread_mutex_unlock(mutex);
    block_until(STATE_WAITING, cond, seconds * US_PER_S + (uint64_t) until->tv_nsec / NS_PER_US);
    bool timed_out = sim.tasks[sim.current].timed_out;
    (void) __wrap_pthread_mutex_lock(mutex);
    return timed_out ? ETIMEDOUT : 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *cond);
int __wrap_pthread_cond_broadcast(pthread_cond_t *cond)
{
    sim_wake(cond);
    return 0;
}

int __wrap_pthread_cond_signal(pthread_cond_t *cond);
int __wrap_pthread_cond_signal(pthread_cond_t *cond)
{
    unsigned waiting[SIM_TASKS_MAX], count = 0;
    for (unsigned i = 0; i < sim.count; i++) {
        if (sim.tasks[i].state == STATE_WAITING && sim.tasks[i].object == cond)
            waiting[count++] = i;
    }
    if (count > 0) {
        struct task *task = &sim.tasks[waiting[count == 1 ? 0 : sim_below(count)]];
        task->state = STATE_READY;
        task->is_timed = false;
    }
    return 0;
}

/* ---- time and chance ---- */

int __wrap_clock_gettime(clockid_t id, struct timespec *out);
int __wrap_clock_gettime(clockid_t id, struct timespec *out)
{
    uint64_t now_us = ++sim.now_us;
    out->tv_sec = (time_t) (now_us / US_PER_S + (id == CLOCK_REALTIME ? WALL_BEGIN_S : 0));
    out->tv_nsec = (long) (now_us % US_PER_S) * NS_PER_US;
    return 0;
}

static uint64_t timespec_us(const struct timespec *length)
{
    return (uint64_t) length->tv_sec * US_PER_S + (uint64_t) length->tv_nsec / NS_PER_US;
}

int __wrap_nanosleep(const struct timespec *length, struct timespec *left);
int __wrap_nanosleep(const struct timespec *length, struct timespec *left)
{
    (void) left;
    block_until(STATE_SLEEPING, NULL, sim.now_us + timespec_us(length));
    return 0;
}

int __wrap_clock_nanosleep(clockid_t id, int flags, const struct timespec *length, struct timespec *left);
int __wrap_clock_nanosleep(clockid_t id, int flags, const struct timespec *length, struct timespec *left)
{
    assert(id == CLOCK_MONOTONIC && flags == 0);
    return __wrap_nanosleep(length, left);
}

ssize_t __wrap_getrandom(void *out, size_t len, unsigned flags);
ssize_t __wrap_getrandom(void *out, size_t len, unsigned flags)
{
    char *to = out;
    (void) flags;
    for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
        uint64_t bits = sim_random();
        memcpy(to + i, &bits, len - i < sizeof(bits) ? len - i : sizeof(bits));
    }
    return (ssize_t) len;
}
